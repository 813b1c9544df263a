import math

import pytest

from celery_cascade.definition.durations import seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [("30s", 30), ("5m", 300), ("1h", 3600), ("2d", 172800), ("500ms", 0.5), ("1w", 604800), ("1h30m", 5400),
     ("1.5h", 5400), (7, 7.0), (0.25, 0.25), ("0.1s", 0.1)],
)  # fmt: skip
def test_durations_are_seconds(value: object, expected: float) -> None:
    assert seconds(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value",
    ["", "5", "s", "5 m", "5M", "-5s", "1e3s", "5min", "5m!", "٣s", True, None, [], -1, 0, "0s", math.nan, math.inf,
     "1" * 400 + "d", "99999d", 10**400],
)  # fmt: skip
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"must|is not|is longer"):
        seconds(value)


def test_no_time_at_all_is_a_delay_but_no_timeout() -> None:
    assert seconds(0, zero=True) == 0
    assert seconds("0s", zero=True) == 0
