"""For the tests of code that uses this package: a clock that you set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ._clock import block, instant, parse_instant, set_clock
from ._durations import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Clock", "at"]


class Clock:
    """A clock that stands still until it is told to move. `at` makes one."""

    def __init__(self, t: float) -> None:
        self._t = t

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self._t

    @property
    def now(self) -> datetime:
        """What it shows, in UTC."""
        return datetime.fromtimestamp(self._t, UTC)

    def move(self, by: float | timedelta | str) -> datetime:
        """Let time pass.

        Args:
            by: Seconds, a ``timedelta`` or ``"5m"``; above zero.

        Returns:
            What it shows then.

        Raises:
            ConfigurationError: It is none of these.
        """
        self._t += duration("by", by)
        return self.now

    def set(self, moment: datetime | str) -> datetime:
        """Show another moment, earlier or later.

        Args:
            moment: As for `at`.

        Returns:
            What it shows then.

        Raises:
            ConfigurationError: It names no instant.
        """
        self._t = instant(parse_instant(moment))
        return self.now

    def __repr__(self) -> str:
        return f"<redis_memo.testing.Clock at {self.now.isoformat(sep=' ')}>"


@block
def at(moment: datetime | str) -> Iterator[Clock]:
    """Set the time for this package, in this process and all its threads, until the block ends.

    It stands still; the clock that the block gets moves it. `redis_memo.market` answers for that time where it is not
    told another; policies see calls at it; entries are stored with the lifetime that the policy answers, and whether
    one is still fresh is judged by it: past its expiry by this clock it is not served, though the server may still
    hold it, and set back before an entry was made it is not served either. The server's own clock is not moved: it
    drops an entry when that lifetime has passed in real time, and holds it until then when the block has ended.
    ``time.time`` and ``datetime.now`` of your own code go on as they do, and so do other processes.

    ::

        with testing.at("2026-11-08 18:20 IST") as clock:
            first = fetch("INFY")
            clock.move("1h")
            assert fetch("INFY") is not first

    Args:
        moment: An aware datetime, or a text with its zone: ``"2026-11-08 18:20 IST"``, ``"... 12:50 UTC"``,
            ``"... 09:30 America/New_York"``, ``"... 18:20 +05:30"``.

    Yields:
        The clock.

    Raises:
        ConfigurationError: It names no instant.
    """
    clock = Clock(instant(parse_instant(moment)))
    with set_clock(clock):
        yield clock
