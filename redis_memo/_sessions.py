"""What is known of an exchange's sessions, as a time line of phases that is cheap to ask.

Tiers of knowledge, by day; the first that speaks counts:

* **yours**: what the user's calendar says (`configure(calendar=...)`).
* **table**: our own dated table (`data/*.toml`). Every day of its range is known, special sessions included.
* **library**: a calendar library covers the day. For an exchange with a table the library is known to miss the
  weekend and evening sessions, so there a day it calls closed may still be open for a while.
* **unknown**: none does. Every weekday is taken for a session, and no day is certain to be without one.

Where a session is possible and not certain the phase is ``uncertain``. Whoever asks how long a price stays true treats
it like ``open``: too much of it costs calls, too little serves yesterday's price.

The library is imported when a date first needs it: never by an import, and for an exchange with a table not before
the last month that the table covers.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time as clock
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from ._clock import now
from ._facts import CLOSED, Day, Fact, Overlay, Table
from ._libraries import Listed, Listing, read_library
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Agenda", "Calendar", "Phase", "Slot", "Span", "Tier", "building"]

Phase: TypeAlias = Literal["closed", "pre_open", "open", "break", "closing", "post_close", "uncertain"]
"""What an exchange is doing, as `redis_memo.market.phase` tells it."""

Tier: TypeAlias = Literal["yours", "table", "library", "unknown"]

_log = logging.getLogger("redis_memo.market")
_DAY = timedelta(days=1)
# A month's time line reaches this far into its neighbours, so that no closed stretch is cut at its end: the longest of
# the living exchanges is Shanghai's ten days or so. A longer one would only be split, which shortens an expiry.
_PAD = timedelta(days=20)
_MONTHS_KEPT = 600
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
_RECENT = date(2025, 1, 1)
# Auctions before and after the hours that a library states; it states none itself. Tokyo and London open their call
# auctions later, Hong Kong's takes exactly this long.
_AUCTION = 1800.0


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
class Agenda:
    """What one day holds, and how that is known.

    Attributes:
        day: In the exchange's zone.
        spans: Its phases; none on a closed day.
        tier: How it is known.
        name: Of the day: "Muhurat", "Holi", "weekend".
        source: Where it is said.
    """

    day: date
    spans: tuple[Span, ...]
    tier: Tier
    name: str
    source: str


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
        library: Its name in the calendar libraries, if they have it.
        table: Our own facts, if there are any.
        overlay: The user's facts, if there are any.

    Attributes:
        known_from: Epoch second from which on sessions are known.
        last: The stretch that was asked for last; what follows is mostly in it.
    """

    def __init__(self, name: str, library: str | None, table: Table | None, overlay: Overlay | None = None) -> None:
        self.name = name
        self._library_name = library
        self._table = table
        self._overlay = overlay
        self._library: Listing | None = None
        self._months: dict[tuple[int, int], _Month] = {}
        self.last = Slot(math.inf, -math.inf, "closed", -math.inf)
        self._today = (math.inf, -math.inf)
        self._warned: set[bool] = set()  # of times too early, and of times too late
        # Epoch seconds between which nothing is guessed; narrow until the library is read.
        self._known = (math.inf, -math.inf)
        self.known_from = math.inf
        if table is None:
            self._read_library(max(_today(), _RECENT))
        else:
            self._set_known(table.first, table.last)

    @property
    def zone(self) -> tzinfo:
        """The exchange's time zone."""
        source = self._table or self._library
        assert source is not None  # without a table, __init__ read the library
        return source.zone

    def known_until(self) -> float:
        """Return the epoch second up to which sessions are known, by whatever source; this reads the library."""
        if self._library is None and self._table is not None:
            self._read_library(self._table.last + _DAY)
        if self._known[1] <= now():
            self._read_again()
        return self._known[1]

    def slot(self, t: float) -> Slot:
        """Return the stretch of one phase that holds ``t``."""
        last = self.last
        if last.start <= t < last.end:
            return last
        month = self._month(t)
        index = bisect_right(month.starts, t) - 1
        start = month.starts[index]
        closes = bisect_right(month.closes, start)
        closed_at = month.closes[closes - 1] if closes else -math.inf
        found = Slot(start, month.starts[index + 1], month.phases[index], closed_at)
        if not self._known[0] <= t < self._known[1]:
            if t >= self._known[1] and self._read_again():
                return self.slot(t)
            if len(self._warned) < 2:
                self._warn(early=t < self._known[0])
        # One tuple, replaced as a whole: another thread sees the old slot or the new one, never half of each.
        self.last = found
        return found

    def next_open(self, t: float) -> float:
        """Return when trading next begins, later than ``t``."""
        return self._after(t, "opens")

    def next_close(self, t: float) -> float:
        """Return when trading next ends, later than ``t``."""
        return self._after(t, "closes")

    def local_day(self, t: float) -> date:
        """Return the exchange's date at ``t``."""
        return datetime.fromtimestamp(t, self.zone).date()

    def day_of(self, t: float) -> tuple[float, float]:
        """Return when the exchange's day of ``t`` began, and when it ends."""
        found = self._today
        if not found[0] <= t < found[1]:
            day = self.local_day(t)
            found = self._today = (self.midnight(day), self.midnight(day + _DAY))
        return found

    def midnight(self, day: date) -> float:
        """Return when ``day`` begins, in epoch seconds."""
        return datetime.combine(day, time(), self.zone).timestamp()

    def agenda(self, day: date) -> Agenda:
        """Return what one day holds, and how that is known."""
        with _lock:
            self._read_for(day)
            return self._agenda(day)

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
        # One day more on both sides: a session may begin on the evening before its date (CME), or end after midnight.
        days = [first + _DAY * offset for offset in range(-1, (last - first).days + 1)]
        self._read_for(*days)
        spans = (span for day in days for span in self._agenda(day).spans)
        return _Month(self.midnight(first), self.midnight(last), spans)

    def _read_for(self, *days: date) -> None:
        needing = [day for day in days if not self._in_table(day)]
        if needing:
            self._read_library(needing[-1])

    def _in_table(self, day: date) -> bool:
        return self._table is not None and self._table.first <= day <= self._table.last

    def _agenda(self, day: date) -> Agenda:
        overlay = self._overlay
        fact = overlay.fact(day) if overlay is not None else None
        if fact is not None:
            return Agenda(day, tuple(self._from_fact(day, fact)), "yours", fact.name, fact.source)
        if self._table is not None and self._in_table(day):
            fact = self._table.stated(day)
            if fact.kind == CLOSED and day.weekday() < 5 and overlay is not None and overlay.covered(day):
                # A holiday that was moved since; where the user's list only lacks it, that costs calls.
                return Agenda(day, tuple(self._regular(day)), "yours", "", overlay.source)
            return Agenda(day, tuple(self._from_fact(day, fact)), "table", fact.name, fact.source)
        if overlay is not None and overlay.covered(day):
            spans = tuple(self._regular(day)) if day.weekday() < 5 else ()
            return Agenda(day, spans, "yours", "" if spans else "weekend", overlay.source)
        library = self._library
        if library is not None and library.first <= day <= library.last:
            spans = tuple(self._listed(day, library))
            closed = day not in library.sessions
            name = ("weekend" if day.weekday() >= 5 else "holiday") if closed else ""
            return Agenda(day, spans, "library", name, library.source)
        return Agenda(day, tuple(self._guessed(day)), "unknown", "", "no source covers this day")

    def _from_fact(self, day: date, fact: Fact) -> Iterator[Span]:
        if fact.kind == CLOSED:
            return
        if fact.kind == "regular":
            yield from self._regular(day)
        elif fact.kind == "uncertain":
            yield self._uncertain(day, (fact.day and fact.day.may_open) or self._may_open())
        else:
            assert fact.day is not None  # a session says its hours
            yield from self._local(day, fact.day)

    def _may_open(self) -> tuple[int, int]:
        return self._table.may_open if self._table is not None else (0, 1440)

    def _regular(self, day: date) -> Iterator[Span]:
        """The regular session of a day, whatever the library or the weekday say."""
        if self._table is not None:
            yield from self._local(day, self._table.regular(day))
        elif self._library is not None and day in self._library.sessions:
            yield from self._listed(day, self._library)
        else:
            starts, ends = self._likely(day)
            yield Span(starts - _AUCTION, starts, "pre_open")
            yield Span(starts, ends, "open", trades=True)
            yield Span(ends, ends + _AUCTION, "closing")

    def _listed(self, day: date, library: Listing) -> Iterator[Span]:
        session = library.sessions.get(day)
        if session is None:
            # The library has no weekend or Muhurat sessions: any of its closed days may hold one.
            if self._table is not None:
                yield self._uncertain(day, self._table.may_open, trades=True)
            return
        if self._table is not None:
            regular = self._table.regular(day)
            _, opens, closes = regular.windows[0]
            if session.open == self._at(day, opens) and session.close == self._at(day, closes):
                yield from self._local(day, regular)
                return
        yield from _bracketed(session)

    def _guessed(self, day: date) -> Iterator[Span]:
        weekday = day.weekday() < 5
        if self._table is not None:
            begins, ends = self._table.may_open
            if weekday:
                regular = self._table.regular(day)
                yield from self._local(day, regular)
                # It may be Diwali, whose session is in the evening.
                yield self._uncertain(day, (begins, regular.settled))
                begins = regular.settled
            yield self._uncertain(day, (begins, max(begins, ends)), trades=True)
            return
        starts, closes = self._likely(day)
        yield Span(starts - _AUCTION, closes + _AUCTION, "uncertain", trades=not weekday)
        if weekday:
            yield Span(starts, closes, "open", trades=True)

    def _likely(self, day: date) -> tuple[float, float]:
        """The hours of the nearest session known: the pattern of a summer or winter week, if not its holidays."""
        assert self._library is not None
        known = self._library.sessions
        label = max(known) if day > self._library.last else min(known) if day < self._library.first else day
        while label not in known:
            label -= _DAY
        return self._shift(known[label].open, label, day), self._shift(known[label].close, label, day)

    def _shift(self, instant: float, label: date, day: date) -> float:
        local = datetime.fromtimestamp(instant, self.zone)
        shifted = day + (local.date() - label)
        return datetime.combine(shifted, local.time(), self.zone).timestamp()

    def _local(self, day: date, session: Day) -> Iterator[Span]:
        closed = None
        for window in session.windows:
            pre, opens, closes = (self._at(day, moment) for moment in window)
            if closed is not None:
                yield Span(closed, pre, "break")
            yield Span(pre, opens, "pre_open")
            yield Span(opens, closes, "open", trades=True)
            closed = closes
        if closed is not None:
            post, settled = self._at(day, session.post_close), self._at(day, session.settled)
            yield Span(closed, post, "closing")
            yield Span(post, settled, "post_close")
        if session.may_open is not None:
            # Its likely hour is no promise: the next open is the earliest possible one.
            yield self._uncertain(day, session.may_open, trades=True)

    def _uncertain(self, day: date, span: tuple[int, int], *, trades: bool = False) -> Span:
        return Span(self._at(day, span[0]), self._at(day, span[1]), "uncertain", trades)

    def _at(self, day: date, moment: int) -> float:
        days, left = divmod(moment, 1440)
        return datetime.combine(day + _DAY * days, time(left // 60, left % 60), self.zone).timestamp()

    def _read_library(self, day: date) -> None:
        """Read the library as far as ``day``, if it reaches that far."""
        with _lock:
            library = self._library
            if self._library_name is None or (
                library is not None
                and (day <= library.last or (library.last >= library.bound and not _outlived(library)))
            ):
                return
            try:
                library = self._library = read_library(self._library_name, day, _today())
            except Exception as error:
                # Nothing that a calendar library does may cost a caller his result, where we have an answer without it.
                if self._table is None:
                    why = "is exchange-calendars installed?"
                    if not isinstance(error, ImportError):
                        why = f"the library raised {type(error).__name__}; another release of it or of pandas may not"
                    msg = f"the calendar of {self.name} cannot be read: {why}"
                    raise ConfigurationError(msg) from error
                _log.debug("the calendar library does not answer for %s", self.name, exc_info=True)
                return
            if self._table is None:
                self._set_known(library.first, library.bound)
            else:
                self._set_known(self._table.first, max(library.bound, self._table.last))

    def _read_again(self) -> bool:
        """Read a library that was believed to the end of a year which is over: this process has lived beyond it."""
        with _lock:
            library = self._library
            if library is None or not _outlived(library):
                return False
            with contextlib.suppress(ConfigurationError):  # then it is known no further than before
                self._read_library(_today())
            if self._library is library:
                return False
            self._months.clear()
            return True

    def _set_known(self, first: date, last: date) -> None:
        for since, until in sorted(self._overlay.covers if self._overlay is not None else ()):
            if since <= last + _DAY:
                last = max(last, until)
        self._known = (self.midnight(first), self.midnight(last + _DAY))
        self.known_from = self._known[0]

    def _warn(self, *, early: bool) -> None:
        with _lock:
            if early in self._warned:
                return
            self._warned.add(early)
        since, until = (self.local_day(t) for t in self._known)
        if early:
            _log.warning(
                "%s sessions are known from %s on, and an earlier time was asked for: what is stored then lives short. "
                "Is the clock right?", self.name, since,
            )  # fmt: skip
        else:
            _log.warning(
                "%s sessions are known until %s, and a later time was asked for: every weekday may be open, what is "
                "stored lives short. Upgrade redis-memo or exchange-calendars for the new list of holidays, or import "
                "the exchange's own: redis-memo calendar import FILE, then configure(calendar=...).",
                self.name, until - _DAY,
            )  # fmt: skip


def _outlived(library: Listing) -> bool:
    return library.yearly and library.last.year < _today().year


def _bracketed(session: Listed) -> Iterator[Span]:
    """A library's session, with the auctions around it."""
    yield Span(session.open - _AUCTION, session.open, "pre_open")
    if session.break_start < session.break_end:
        yield Span(session.open, session.break_start, "open", trades=True)
        yield Span(session.break_start, session.break_end, "break")
        yield Span(session.break_end, session.close, "open", trades=True)
    else:
        yield Span(session.open, session.close, "open", trades=True)
    yield Span(session.close, session.close + _AUCTION, "closing")


def _today() -> date:
    return datetime.fromtimestamp(now(), UTC).date()


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
