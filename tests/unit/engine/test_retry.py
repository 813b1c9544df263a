"""When a failed attempt is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_cascade.definition.cascade import Backoff, RetryPolicy
from celery_cascade.engine.retry import after_failure, crash_delay, error_names


class CardError(TimeoutError):
    class Declined(Exception):
        """An error class within a class, as Django's `Order.DoesNotExist`."""


def delays(policy: RetryPolicy, count: int) -> list[float | None]:
    return [after_failure(policy, failures, ()) for failures in range(1, count + 1)]


class TestAfterFailure:
    def test_without_a_policy_the_first_failure_is_the_last(self) -> None:
        assert after_failure(RetryPolicy(), 1, error_names(ValueError())) is None

    def test_max_attempts_counts_every_failure_the_first_included(self) -> None:
        policy = RetryPolicy(max_attempts=3, backoff="none", delay=2)

        assert delays(policy, 4) == [2, 2, None, None]

    @pytest.mark.parametrize(
        ("backoff", "expected"),
        [
            ("none", [3, 3, 3, 3, 3]),
            ("linear", [3, 6, 9, 12, 15]),
            ("exponential", [3, 6, 12, 20, 20]),
        ],
    )
    def test_the_backoff_says_how_waits_grow_up_to_max_delay(self, backoff: Backoff, expected: list[float]) -> None:
        policy = RetryPolicy(max_attempts=9, backoff=backoff, delay=3, max_delay=20)

        assert delays(policy, 5) == expected

    def test_a_delay_over_max_delay_is_cut(self) -> None:
        assert after_failure(RetryPolicy(max_attempts=2, backoff="none", delay=90, max_delay=60), 1, ()) == 60

    def test_only_errors_that_are_named_are_tried_again(self) -> None:
        policy = RetryPolicy(max_attempts=5, errors=("TimeoutError", "builtins.ValueError"))

        assert after_failure(policy, 1, error_names(TimeoutError())) == 1
        assert after_failure(policy, 1, error_names(ValueError())) == 1
        assert after_failure(policy, 1, error_names(KeyError())) is None

    def test_a_named_base_class_counts(self) -> None:
        policy = RetryPolicy(max_attempts=5, errors=("OSError",))

        assert after_failure(policy, 1, error_names(CardError())) == 1

    def test_a_named_error_has_no_more_attempts_than_any_other(self) -> None:
        assert after_failure(RetryPolicy(max_attempts=2, errors=("OSError",)), 2, error_names(OSError())) is None

    @given(
        backoff=st.sampled_from(["none", "linear", "exponential"]),
        delay=st.floats(0, 1e6),
        max_delay=st.floats(0, 1e6),
        failures=st.integers(1, 10**9),
    )
    def test_no_number_of_failures_gives_anything_but_a_wait_within_max_delay(
        self, backoff: Backoff, delay: float, max_delay: float, failures: int
    ) -> None:
        policy = RetryPolicy(max_attempts=10**10, backoff=backoff, delay=delay, max_delay=max_delay)

        now, later = after_failure(policy, failures, ()), after_failure(policy, failures + 1, ())

        assert now is not None
        assert later is not None
        assert 0 <= now <= later <= max_delay


class TestErrorNames:
    def test_an_error_goes_by_its_class_and_its_bases_short_and_qualified(self) -> None:
        assert error_names(CardError()) == {
            "CardError",
            f"{__name__}.CardError",
            "TimeoutError",
            "builtins.TimeoutError",
            "OSError",
            "builtins.OSError",
            "Exception",
            "builtins.Exception",
            "BaseException",
            "builtins.BaseException",
        }

    def test_a_class_within_a_class_goes_by_each_of_its_names(self) -> None:
        names = error_names(CardError.Declined())

        assert {"Declined", "CardError.Declined", f"{__name__}.CardError.Declined"} <= names

    def test_a_plain_object_is_nobody_s_name_for_an_error(self) -> None:
        assert "object" not in error_names(ValueError())


def test_the_first_crash_is_tried_again_at_once_and_later_ones_back_off_to_a_minute() -> None:
    assert [crash_delay(crashes) for crashes in range(1, 10)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert crash_delay(10**9) == 60
