"""What is known of an exchange's sessions, as a time line of phases that is cheap to ask.

Three tiers of knowledge, by date:

* **stated**: our own dated table (`data/*.toml`). Every day of its range is known, special sessions included.
* **listed**: ``exchange_calendars`` covers the day. For an exchange with a table the library is known to miss the
  weekend and evening sessions, so there a day it calls closed may still be open for a while.
* **unknown**: neither does. Every weekday is taken for a session, and no day is certain to be without one.

Where a session is possible and not certain the phase is ``uncertain``. Whoever asks how long a price stays true treats
it like ``open``: too much of it costs calls, too little serves yesterday's price.

The library is imported when a date first needs it: never by an import, and for an exchange with a table not before
the last month that the table covers. ``pandas_market_calendars`` was the other candidate; it imports
``exchange_calendars`` anyway, and it answers beyond its last holiday list as if nobody ever had a holiday, where
``exchange_calendars`` says where its knowledge ends.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time as clock
import tomllib
import warnings
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from redis_memo.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Calendar", "Phase", "Slot", "Table", "building"]

Phase: TypeAlias = Literal["closed", "pre_open", "open", "break", "closing", "post_close", "uncertain"]

_log = logging.getLogger("redis_memo.market")
_DAY = timedelta(days=1)
# A month's time line reaches this far into its neighbours, so that no closed stretch is cut at its end: the longest of
# the living exchanges is Shanghai's ten days or so. A longer one would only be split, which shortens an expiry.
_PAD = timedelta(days=20)
_MONTHS_KEPT = 600
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
_LIBRARY_FROM, _LIBRARY_UNTIL = date(2011, 1, 1), date(2100, 12, 31)
_RECENT = date(2025, 1, 1)
# Auctions before and after the hours that the library states; it states none itself. Tokyo and London open their call
# auctions later, Hong Kong's takes exactly this long.
_AUCTION = timedelta(minutes=30)


class Span(NamedTuple):
    """A part of one session, in epoch seconds; ``trades`` if it begins with an open and ends with a close."""

    start: float
    end: float
    phase: Phase
    trades: bool = False


class Slot(NamedTuple):
    """A stretch of time in one phase, in epoch seconds: ``start <= t < end``.

    ``closed_at`` is the last end of trading at or before its start; minus infinity if that is weeks ago.
    """

    start: float
    end: float
    phase: Phase
    closed_at: float


@dataclass(frozen=True, slots=True)
class Day:
    """One day of an exchange, in its local time, as windows of (pre-open, open, close)."""

    windows: tuple[tuple[time, time, time], ...]
    post_close: time
    settled: time
    may_open: tuple[time, time] | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Our own dated facts about one or several exchanges; the format is described in ``data/nse_sessions.toml``."""

    zone: tzinfo
    first: date
    last: date
    may_open: tuple[time, time]
    hours: tuple[tuple[date, Day], ...]
    sessions: dict[date, Day]
    closed: frozenset[date]

    @classmethod
    def parse(cls, text: str) -> Table:
        """Read a table from TOML text."""
        data = tomllib.loads(text)
        return cls(
            zone=_zone(data["timezone"]),
            first=data["first"],
            last=data["last"],
            may_open=_span(data["may_open"]),
            hours=tuple((entry["from"], _day({**entry, "windows": [entry["window"]]})) for entry in data["hours"]),
            sessions={entry["date"]: _day(entry) for entry in data["session"]},
            closed=frozenset(entry["date"] for entry in data["closed"]),
        )

    def regular(self, day: date) -> Day:
        """Return the regular hours in force on ``day``; before the first of them, the first."""
        return next((hours for since, hours in reversed(self.hours) if since <= day), self.hours[0][1])

    def stated(self, day: date) -> Day | None:
        """Return the session of a ``day`` in this table's range, or None if there is none."""
        if day in self.sessions:
            return self.sessions[day]
        return None if day.weekday() >= 5 or day in self.closed else self.regular(day)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        # A bare container may have no zone database at all. India has kept one offset since 1945.
        if name == "Asia/Kolkata":
            return timezone(timedelta(hours=5, minutes=30), "IST")
        raise


def _span(texts: list[str]) -> tuple[time, time]:
    start, end = map(time.fromisoformat, texts)
    return start, end


def _day(entry: dict[str, Any]) -> Day:
    read = time.fromisoformat
    windows = tuple((read(pre), read(opens), read(closes)) for pre, opens, closes in entry["windows"])
    close = datetime.combine(date.min, windows[-1][2])
    return Day(
        windows=windows,
        post_close=read(entry.get("post_close") or (close + timedelta(minutes=10)).time().isoformat()),
        settled=read(entry.get("settled") or (close + timedelta(minutes=30)).time().isoformat()),
        may_open=_span(entry["may_open"]) if "may_open" in entry else None,
    )


class Listed(NamedTuple):
    """A session as the library states it, in epoch seconds; without a break the two break fields are NaN."""

    open: float
    break_start: float
    break_end: float
    close: float


class _Library:
    """``exchange_calendars`` for one exchange: sessions by date, and where its knowledge begins and ends."""

    def __init__(self, name: str, day: date) -> None:
        import exchange_calendars  # noqa: PLC0415  (brings pandas: only when a date needs it)

        self._get: Callable[..., Any] = exchange_calendars.get_calendar
        self.name = name
        first, last = _LIBRARY_FROM, date(min(max(day, _RECENT).year + 2, _LIBRARY_UNTIL.year), 12, 31)
        try:
            built = self._get(name, start=first.isoformat(), end=last.isoformat())
        except ValueError:
            # The range leaves what is recorded, and only an instance tells its bounds: all of them cover these days.
            probe = self._get(name, start="2024-06-03", end="2024-06-14")
            low, high = probe.bound_min(), probe.bound_max()
            first = first if low is None else max(first, low.date())
            last = last if high is None else min(last, high.date())
            built = self._get(name, start=first.isoformat(), end=last.isoformat())
        self.first, self.last = first, last
        high = built.bound_max()
        self.bound = _LIBRARY_UNTIL if high is None else min(high.date(), _LIBRARY_UNTIL)
        self.zone: tzinfo = built.tz
        schedule = built.schedule
        # NaT, where there is no break, is unequal to itself and has no timestamp.
        columns = (
            [stamp.timestamp() if stamp == stamp else math.nan for stamp in schedule[column]]  # noqa: PLR0124
            for column in ("open", "break_start", "break_end", "close")
        )
        rows = map(Listed._make, zip(*columns, strict=True))
        self.sessions = {label.date(): row for label, row in zip(schedule.index, rows, strict=True)}


class _Month:
    """The time line of one month and its surroundings."""

    __slots__ = ("closes", "opens", "phases", "starts")

    def __init__(self, low: float, high: float, spans: Iterable[Span]) -> None:
        kept = sorted(span for span in spans if span.start < span.end and low < span.end and span.start < high)
        self.opens = sorted({span.start for span in kept if span.trades and low <= span.start})
        self.closes = sorted({span.end for span in kept if span.trades and span.end < high})
        # Spans overlap (a pre-open with the session before it, an uncertain day with the hour that is likely): at each
        # edge the phase with the lowest rank of those under way counts.
        edges = {low, high, *(edge for span in kept for edge in span[:2] if low < edge < high)}
        self.starts: list[float] = []
        self.phases: list[Phase] = []
        under_way: list[Span] = []
        cursor = 0
        for edge in sorted(edges)[:-1]:
            while cursor < len(kept) and kept[cursor].start <= edge:
                under_way.append(kept[cursor])
                cursor += 1
            under_way = [span for span in under_way if span.end > edge]
            phase: Phase = min((span.phase for span in under_way), key=_RANK.__getitem__, default="closed")
            if not self.phases or self.phases[-1] != phase:
                self.starts.append(edge)
                self.phases.append(phase)
        self.starts.append(high)


_RANK: dict[Phase, int] = {
    "open": 0, "break": 1, "pre_open": 2, "closing": 3, "post_close": 4, "uncertain": 5, "closed": 6,
}  # fmt: skip


class Calendar:
    """Phases, opens and closes of one exchange.

    Args:
        name: The exchange, canonical.
        library: Its name in ``exchange_calendars``.
        table: Our own facts, if there are any.
    """

    def __init__(self, name: str, library: str, table: Table | None) -> None:
        self.name = name
        self._library_name = library
        self._table = table
        self._library: _Library | None = None
        self._months: dict[tuple[int, int], _Month] = {}
        self._last = Slot(math.inf, -math.inf, "closed", -math.inf)
        self._warned = False
        # Epoch seconds between which nothing is guessed; narrow until the library is read.
        self._known = (math.inf, -math.inf)
        if table is None:
            self._read_library(max(datetime.now(UTC).date(), _RECENT))
        else:
            self._known = (self._at(table.first, time()), self._at(table.last + _DAY, time()))

    @property
    def zone(self) -> tzinfo:
        """The exchange's time zone."""
        source = self._table or self._library
        assert source is not None  # without a table, __init__ read the library
        return source.zone

    def known_from(self) -> float:
        """Return the epoch second from which on sessions are known."""
        return self._known[0]

    def known_until(self) -> float:
        """Return the epoch second up to which sessions are known, by whatever source; this reads the library."""
        if self._library is None and self._table is not None:
            self._read_library(self._table.last + _DAY)
        return self._known[1]

    def slot(self, t: float) -> Slot:
        """Return the stretch of one phase that holds ``t``."""
        last = self._last
        if last.start <= t < last.end:
            return last
        month = self._month(t)
        index = bisect_right(month.starts, t) - 1
        start = month.starts[index]
        closes = bisect_right(month.closes, start)
        closed_at = month.closes[closes - 1] if closes else -math.inf
        found = Slot(start, month.starts[index + 1], month.phases[index], closed_at)
        if not self._warned and not self._known[0] <= t < self._known[1]:
            self._warn(early=t < self._known[0])
        # One tuple, replaced as a whole: another thread sees the old slot or the new one, never half of each.
        self._last = found
        return found

    def next_open(self, t: float) -> float:
        """Return when trading next begins, later than ``t``."""
        return self._after(t, "opens")

    def next_close(self, t: float) -> float:
        """Return when trading next ends, later than ``t``."""
        return self._after(t, "closes")

    def _after(self, t: float, which: Literal["opens", "closes"]) -> float:
        at = t
        for _ in range(14):
            times: list[float] = getattr(self._month(at), which)
            index = bisect_right(times, t)
            if index < len(times):
                return times[index]
            at += 28 * 86400.0
        msg = f"no session of {self.name} within a year of that instant"
        raise ConfigurationError(msg)

    def _month(self, t: float) -> _Month:
        try:
            year, number = clock.gmtime(t)[:2]
        except (OverflowError, OSError, ValueError):
            year, number = 0, 0
        if not _FIRST_YEAR <= year <= _LAST_YEAR:
            msg = f"market sessions are answered for the years {_FIRST_YEAR} to {_LAST_YEAR}"
            raise ConfigurationError(msg)
        month = self._months.get((year, number))
        if month is None:
            with _lock:
                month = self._months.get((year, number))
                if month is None:
                    if len(self._months) >= _MONTHS_KEPT:
                        self._months.clear()
                    month = self._months[year, number] = self._build(year, number)
        return month

    def _build(self, year: int, number: int) -> _Month:
        first = date(year, number, 1) - _PAD
        last = date(year + number // 12, number % 12 + 1, 1) + _PAD
        days = [first + _DAY * offset for offset in range((last - first).days)]
        if any(not self._in_table(day) for day in days):
            self._read_library(last)
        return _Month(self._at(first, time()), self._at(last, time()), self._spans(days))

    def _spans(self, days: list[date]) -> Iterator[Span]:
        # One day more on both sides: a session may begin on the evening before its date (CME), or end after midnight.
        for day in [days[0] - _DAY, *days, days[-1] + _DAY]:
            if self._in_table(day):
                yield from self._stated(day)
            elif self._library is not None and self._library.first <= day <= self._library.last:
                yield from self._listed(day, self._library)
            else:
                yield from self._guessed(day)

    def _in_table(self, day: date) -> bool:
        return self._table is not None and self._table.first <= day <= self._table.last

    def _stated(self, day: date) -> Iterator[Span]:
        assert self._table is not None
        session = self._table.stated(day)
        if session is not None:
            yield from self._local(day, session)

    def _listed(self, day: date, library: _Library) -> Iterator[Span]:
        session = library.sessions.get(day)
        if session is None:
            # The library has no weekend or Muhurat sessions: any of its closed days may hold one.
            if self._table is not None:
                yield self._uncertain(day, self._table.may_open)
            return
        if self._table is not None:
            regular = self._table.regular(day)
            _, opens, closes = regular.windows[0]
            if session.open == self._at(day, opens) and session.close == self._at(day, closes):
                yield from self._local(day, regular)
                return
        margin = _AUCTION.total_seconds()
        yield Span(session.open - margin, session.open, "pre_open")
        if session.break_start < session.break_end:
            yield Span(session.open, session.break_start, "open", trades=True)
            yield Span(session.break_start, session.break_end, "break")
            yield Span(session.break_end, session.close, "open", trades=True)
        else:
            yield Span(session.open, session.close, "open", trades=True)
        yield Span(session.close, session.close + margin, "closing")

    def _guessed(self, day: date) -> Iterator[Span]:
        weekday = day.weekday() < 5
        if self._table is not None:
            # A weekday may be Diwali, whose session is in the evening.
            yield self._uncertain(day, self._table.may_open)
            if weekday:
                yield from self._local(day, self._table.regular(day))
            return
        assert self._library is not None
        # The hours of the nearest session known: the pattern of a summer or winter week, if not its holidays.
        known = self._library.sessions
        label = max(known) if day > self._library.last else min(known)
        starts, ends = (self._shift(instant, label, day) for instant in (known[label].open, known[label].close))
        margin = _AUCTION.total_seconds()
        yield Span(starts - margin, ends + margin, "uncertain")
        if weekday:
            yield Span(starts, ends, "open", trades=True)

    def _shift(self, instant: float, label: date, day: date) -> float:
        local = datetime.fromtimestamp(instant, self.zone)
        return self._at(day + (local.date() - label), local.time())

    def _local(self, day: date, session: Day) -> Iterator[Span]:
        closed = None
        for window in session.windows:
            pre, opens, closes = (self._at(day, moment) for moment in window)
            if closed is not None:
                yield Span(closed, pre, "break")
            yield Span(pre, opens, "pre_open")
            yield Span(opens, closes, "open", trades=True)
            closed = closes
        assert closed is not None  # a session has a window
        post, settled = self._at(day, session.post_close), self._at(day, session.settled)
        yield Span(closed, post, "closing")
        yield Span(post, settled, "post_close")
        if session.may_open is not None:
            # Its likely hour is no promise: the next open is the earliest possible one.
            yield self._uncertain(day, session.may_open, trades=True)

    def _uncertain(self, day: date, span: tuple[time, time], *, trades: bool = False) -> Span:
        return Span(self._at(day, span[0]), self._at(day, span[1]), "uncertain", trades)

    def _at(self, day: date, moment: time) -> float:
        return datetime.combine(day, moment, self.zone).timestamp()

    def _read_library(self, day: date) -> None:
        """Read the library as far as ``day``, if it reaches that far."""
        with _lock:
            self._read_library_locked(day)

    def _read_library_locked(self, day: date) -> None:
        library = self._library
        if library is not None and (day <= library.last or library.last >= library.bound):
            return
        try:
            # Its use of pandas warns of deprecations (4.13 with pandas 3.1), which are not the caller's: where warnings
            # are errors they would take the calendar away.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                library = self._library = _Library(self._library_name, day)
        except Exception as error:
            # Nothing that a calendar library does may cost a caller his result, where we have an answer without it.
            if self._table is None:
                msg = f"the calendar of {self.name} cannot be read; is exchange-calendars installed?"
                raise ConfigurationError(msg) from error
            _log.debug("the calendar library does not answer for %s", self.name, exc_info=True)
            return
        first, last = (library.first, library.bound)
        if self._table is not None:
            first, last = self._table.first, max(last, self._table.last)
        self._known = (self._at(first, time()), self._at(last + _DAY, time()))

    def _warn(self, *, early: bool) -> None:
        with _lock:
            if self._warned:
                return
            self._warned = True
        since, until = (datetime.fromtimestamp(t, self.zone).date() for t in self._known)
        if early:
            _log.warning(
                "%s sessions are known from %s on, and an earlier time was asked for: what is stored then lives short. "
                "Is the clock right?", self.name, since,
            )  # fmt: skip
        else:
            _log.warning(
                "%s sessions are known until %s, and a later time was asked for: every weekday may be open, what is "
                "stored lives short. Upgrade redis-memo or exchange-calendars for the new list of holidays.",
                self.name, until - _DAY,
            )  # fmt: skip


_lock = threading.RLock()


def building() -> threading.RLock:
    """Return the lock under which calendars and months are built; the library cannot be read by two threads at once."""
    return _lock


def _fresh_lock() -> None:
    # A fork while another thread builds a calendar would leave the child a lock that nobody releases.
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_lock)
