"""The calendar libraries, read for one exchange: its sessions by date, and where that knowledge begins and ends.

``exchange_calendars`` comes first: it raises where its lists of holidays end, and so says what it does not know.
``pandas_market_calendars`` knows further markets (SIFMA, CME by product, Eurex), and answers beyond its last list as if
nobody ever had a holiday; where it is installed it is believed up to the end of this year. Both bring pandas, so they
are imported when a date first needs them and never before.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from ._clock import zone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

__all__ = ["Listed", "Listing", "library_names", "read_library"]

_FROM, _UNTIL = date(2011, 1, 1), date(2100, 12, 31)
_RECENT = date(2025, 1, 1)


class Listed(NamedTuple):
    """A session as a library states it, in epoch seconds; without a break the two break fields are NaN."""

    open: float
    break_start: float
    break_end: float
    close: float


@dataclass(frozen=True, slots=True)
class Listing:
    """What a library says of one exchange.

    Attributes:
        first: The first day that was read.
        last: The last day that was read.
        bound: The last day that the library knows.
        zone: The exchange's.
        sessions: By the library's date for them.
        source: Its name and version.
        yearly: It is believed to the end of the year in which it was read, and to be read again in the next.
    """

    first: date
    last: date
    bound: date
    zone: tzinfo
    sessions: Mapping[date, Listed]
    source: str
    yearly: bool = False


def read_library(name: str, day: date, today: date) -> Listing:
    """Read an exchange, as far as ``day`` and beyond if the library reaches that far.

    Raises:
        Exception: Whatever the libraries raise; ImportError where there is none.
    """
    # Their use of pandas warns of deprecations (4.13 with pandas 3.1), which are not the caller's: where warnings are
    # errors they would take the calendar away.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exchange_calendars  # noqa: PLC0415

        if name not in exchange_calendars.get_calendar_names(include_aliases=True):
            return _market_calendars(name, today)
        try:
            return _exchange_calendars(exchange_calendars, name, day)
        except Exception:
            # Some calendars fail within the library (4.13 with pandas 3: Tel Aviv, Orthodox Easter).
            with contextlib.suppress(Exception):  # the first one tells more
                return _market_calendars(name, today)
            raise


_names: frozenset[str] | None = None


def library_names() -> frozenset[str]:
    """Every name that the installed libraries know; imports them."""
    global _names  # noqa: PLW0603 - found once
    if _names is not None:
        return _names
    names: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import exchange_calendars  # noqa: PLC0415

            names.update(exchange_calendars.get_calendar_names(include_aliases=True))
            import pandas_market_calendars  # noqa: PLC0415

            names.update(pandas_market_calendars.get_calendar_names())
        except ImportError:
            return frozenset(names)
    _names = frozenset(names)
    return _names


def _exchange_calendars(library: Any, name: str, day: date) -> Listing:
    get = library.get_calendar
    first, last = _FROM, date(min(max(day, _RECENT).year + 2, _UNTIL.year), 12, 31)
    try:
        built = get(name, start=first.isoformat(), end=last.isoformat())
    except ValueError:
        # The range leaves what is recorded, and only an instance tells its bounds: all of them cover these days.
        probe = get(name, start="2024-06-03", end="2024-06-14")
        low, high = probe.bound_min(), probe.bound_max()
        first = first if low is None else max(first, low.date())
        last = last if high is None else min(last, high.date())
        built = get(name, start=first.isoformat(), end=last.isoformat())
    high = built.bound_max()
    schedule = built.schedule
    return Listing(
        first=first,
        last=last,
        bound=_UNTIL if high is None else min(high.date(), _UNTIL),
        zone=built.tz,
        sessions=_sessions(schedule, ("open", "break_start", "break_end", "close")),
        source=f"exchange_calendars {library.__version__} ({name})",
    )


def _market_calendars(name: str, today: date) -> Listing:
    import pandas_market_calendars as library  # noqa: PLC0415

    calendar = library.get_calendar(name)
    last = date(today.year, 12, 31)
    schedule = calendar.schedule(_FROM.isoformat(), last.isoformat())
    return Listing(
        first=_FROM,
        last=last,
        bound=last,
        zone=zone(str(calendar.tz)),
        sessions=_sessions(schedule, ("market_open", "break_start", "break_end", "market_close")),
        source=f"pandas_market_calendars {library.__version__} ({name})",
        yearly=True,
    )


def _sessions(schedule: Any, columns: tuple[str, ...]) -> dict[date, Listed]:
    # NaT, where there is no break, is unequal to itself and has no timestamp.
    nothing = [math.nan] * len(schedule)
    rows = [
        [stamp.timestamp() if stamp == stamp else math.nan for stamp in schedule[column]]  # noqa: PLR0124
        if column in schedule
        else nothing
        for column in columns
    ]
    return {label.date(): Listed(*row) for label, row in zip(schedule.index, zip(*rows, strict=True), strict=True)}
