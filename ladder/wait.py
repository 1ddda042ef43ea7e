"""The one way to wait: for a condition, within a deadline, saying what for."""

import time
from collections.abc import Callable
from typing import TypeVar

from ladder.errors import UserError

T = TypeVar("T")


def wait_until(
    check: Callable[[], T],
    *,
    within: float,
    what: str,
    every: float = 0.3,
    hint: Callable[[], str] | None = None,
) -> T:
    """Ask `check` until it gives something true, and return that.

    Args:
        check: the condition; asked at least once.
        within: deadline in seconds.
        what: the condition in words, for the error.
        every: pause between two questions, in seconds.
        hint: called at the deadline for the state of things and what to do.

    Raises:
        UserError: the deadline passed.
    """
    deadline = time.monotonic() + within
    while not (result := check()):
        if time.monotonic() >= deadline:
            raise UserError(f"not within {within:g} s: {what}." + (f"\n{hint()}" if hint else ""))
        time.sleep(every)
    return result
