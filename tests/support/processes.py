"""Processes of a test's that end with it."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def dying_with_us(how: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """For Popen's `preexec_fn`: should this process be killed, the new one gets that signal. Only Linux can do it."""

    def ask_the_kernel() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, how)

    return ask_the_kernel
