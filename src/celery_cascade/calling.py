"""How people call us from a shell, so that a hint printed in Python can be pasted: `celery -A proj cascade …`."""

from __future__ import annotations

import os
import re
import sys
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

#: What stands for a module that we do not know.
UNKNOWN = "celery -A <app> cascade"
#: Where a text names a command of ours: at the start of a line, or after "with: ", "Run: " and their like.
_COMMAND = re.compile(r"(^|: )(?:celery -A <app> )?cascade (?=--help\b|[a-z]+\b)", re.MULTILINE)
#: Names under which `celery -A module` finds an app by itself.
_FOUND_BY_CELERY = ("app", "celery")

#: The apps of this process that have sessions; the module that was found for each, and among how many modules.
_APPS: WeakKeyDictionary[Any, tuple[str | None, int]] = WeakKeyDictionary()


def real_app(app: Any) -> Any:
    """The app behind `current_app` or another proxy; such a proxy can neither be compared nor weakly referred to."""
    return app._get_current_object() if hasattr(app, "_get_current_object") else app


def register(app: Any) -> None:
    """Say that `app` has sessions: commands are about it, if it is the only one."""
    _APPS.setdefault(real_app(app), (None, 0))


def words() -> str:
    """What leads to our verbs, for the one app of this process; with a placeholder if there are several or none."""
    names = {_name_of(app) for app in list(_APPS)}
    name = names.pop() if len(names) == 1 else None
    return UNKNOWN if name is None else f"celery -A {name} cascade"


def command(verb: str) -> str:
    """A command line of ours as it can be pasted.

    Args:
        verb: the verb and what belongs to it: `resume 3f2a91`.
    """
    return f"{words()} {verb}"


def spelled(text: str, program: str | None = None) -> str:
    """A text whose commands of ours (`cascade ls`) are written as they can be pasted.

    Args:
        text: commands stand at the start of a line, or after a colon and a space.
        program: what leads to our verbs; None = `words()`.
    """
    known = words()
    written = text if known == UNKNOWN else text.replace(f"{known} ", "cascade ")  # spelled already
    return _COMMAND.sub(lambda match: f"{match[1]}{known if program is None else program} ", written)


def _name_of(app: Any) -> str | None:
    """What `celery -A` would call the app: the module that has it, else what the environment or its maker says."""
    module, looked_at = _APPS.get(app, (None, 0))
    if module is None and looked_at != len(sys.modules):  # a look takes long: again only if there is more to see
        module = _module_of(app)
        _APPS[app] = module, len(sys.modules)
    main = app.main if isinstance(app.main, str) and app.main not in ("__main__", "default") else None
    return module or os.environ.get("CELERY_APP") or main


def _module_of(app: Any) -> str | None:
    found = []
    for name, module in list(sys.modules.items()):
        attribute = _attribute_of(module, app)
        if attribute is not None:
            found.append((name == "__main__", name != app.main, name.count("."), name, attribute))
    if not found:
        return None
    _, _, _, name, attribute = min(found)
    if name == "__main__":
        name = _script()
    if attribute in _FOUND_BY_CELERY or f"{name}.celery" in sys.modules:
        return name
    return f"{name}:{attribute}"


def _attribute_of(module: ModuleType | None, app: Any) -> str | None:
    names = [name for name, value in list(getattr(module, "__dict__", {}).items()) if value is app]
    return next((name for name in _FOUND_BY_CELERY if name in names), names[0] if names else None)


def _script() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    return os.path.splitext(os.path.basename(getattr(main, "__file__", None) or "app"))[0]
