"""Dated facts about an exchange's days, as they are written down: our own tables (`data/*.toml`) and the user's.

A fact is about one day of one exchange: a session with its hours, no session, or "there may be one". Hours are minutes
after midnight in the exchange's zone, so that a session may end after midnight (MCX's evening does, by its last
quarter of an hour).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, TypeAlias

from ._clock import zone
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import tzinfo

__all__ = ["CLOSED", "Day", "Fact", "Hours", "Overlay", "Table", "clock_time", "minutes", "one_line", "session_day"]

_TIME = re.compile(r"(\d{1,2}):(\d\d)", re.ASCII)
_AFTER, _SETTLED = 10, 30  # minutes after a special session's close that its end of day is given, where none is stated


@dataclass(frozen=True, slots=True)
class Day:
    """One session day, in minutes after the exchange's midnight.

    Attributes:
        windows: Of trading: (pre-open, open, close). None: the regular ones of that day.
        post_close: When the closing price is made.
        settled: When trading at that price is over.
        may_open: A span in which there may be trading that no source states.
    """

    windows: tuple[tuple[int, int, int], ...]
    post_close: int
    settled: int
    may_open: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one day.

    Attributes:
        kind: ``"session"`` with hours of its own, ``"regular"``, ``"closed"``, or ``"uncertain"``: there may be one.
        day: Its hours, where they are its own; for an uncertain day, where it may be.
        name: Of the day: "Muhurat", "Holi".
        source: Where it is said.
    """

    kind: str
    day: Day | None = None
    name: str = ""
    source: str = ""


CLOSED = "closed"


def one_line(text: str) -> str:
    """A text that may have been written over several lines, for where it is said in one."""
    return " ".join(text.split())


def minutes(text: object) -> int:
    """Minutes after midnight of ``"09:15"``; up to ``"47:59"``, which is in the next day.

    Raises:
        ConfigurationError: It is no time.
    """
    if isinstance(text, time):
        return text.hour * 60 + text.minute
    found = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or int(found[1]) > 47 or int(found[2]) > 59:
        shown = repr(text[:20]) if isinstance(text, str) else f"a {type(text).__name__}"
        msg = f"{shown} is not a time of day: write it as in '09:15' (after midnight: '24:10')"
        raise ConfigurationError(msg)
    return int(found[1]) * 60 + int(found[2])


def clock_time(value: int) -> str:
    """The text that `minutes` reads."""
    return f"{value // 60:02d}:{value % 60:02d}"


@dataclass(frozen=True, slots=True)
class Hours:
    """The regular day from a date on.

    Attributes:
        since: The first day.
        day: Its hours.
        source: Where they are said.
        winter: Minutes by which the close is later while it is winter in another zone: MCX follows New York.
        winter_of: That zone.
    """

    since: date
    day: Day
    source: str
    winter: int = 0
    winter_of: tzinfo | None = None

    def on(self, day: date) -> Day:
        """The hours of one day."""
        if not self.winter:
            return self.day
        if self.winter_of is not None and datetime.combine(day, time(12), self.winter_of).dst():
            return self.day
        *before, (pre, opens, closes) = self.day.windows
        late = self.winter
        return replace(
            self.day,
            windows=(*before, (pre, opens, closes + late)),
            post_close=self.day.post_close + late,
            settled=self.day.settled + late,
        )


@dataclass(frozen=True, slots=True)
class Table:
    """Our own facts about one exchange; the format is described in ``data/nse_sessions.toml``."""

    zone: tzinfo
    first: date
    last: date
    may_open: tuple[int, int]
    hours: tuple[Hours, ...]
    facts: Mapping[date, Fact]
    source: str

    @classmethod
    def parse(cls, text: str, exchange: str) -> Table:
        """Read from TOML text what it says of one exchange; an entry without ``exchanges`` is about all of them."""
        import tomllib  # noqa: PLC0415

        data = tomllib.loads(text)

        def about(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [entry for entry in entries if exchange in entry.get("exchanges", data["exchanges"])]

        hours = tuple(_hours(entry) for entry in about(data["hours"]))
        source = one_line(data["source"])

        def fact(kind: str, day: Day | None, entry: dict[str, Any]) -> Fact:
            return Fact(kind, day, one_line(entry["name"]), one_line(entry.get("source", source)))

        facts = {}
        for entry in about(data["session"]):
            regular = _regular(hours, entry["date"]).on(entry["date"])
            facts[entry["date"]] = fact("session", _day(entry, regular), entry)
        for kind in ("uncertain", CLOSED):
            for entry in about(data.get(kind, [])):
                day = Day((), 0, 0, _span(entry.get("may_open", data["may_open"]))) if kind == "uncertain" else None
                facts[entry["date"]] = fact(kind, day, entry)
        return cls(
            zone(data["timezone"]), data["first"], data["last"], _span(data["may_open"]), hours, facts, source
        )  # fmt: skip

    def regular(self, day: date) -> Day:
        """The regular hours in force on ``day``; before the first of them, the first."""
        return _regular(self.hours, day).on(day)

    def stated(self, day: date) -> Fact:
        """What is known of a ``day`` in this table's range."""
        fact = self.facts.get(day)
        if fact is not None:
            return fact
        if day.weekday() >= 5:
            return _WEEKEND
        return Fact("regular", source=_regular(self.hours, day).source)


_WEEKEND = Fact(CLOSED, name="weekend", source="no list of special sessions names it")


def _regular(hours: tuple[Hours, ...], day: date) -> Hours:
    return next((each for each in reversed(hours) if each.since <= day), hours[0])


def _hours(entry: dict[str, Any]) -> Hours:
    day = _day({**entry, "windows": [entry["window"]]}, None)
    late = minutes(entry["winter_close"]) - day.windows[-1][2] if "winter_close" in entry else 0
    return Hours(entry["from"], day, one_line(entry["source"]), late, _winter_of(entry))


def _winter_of(entry: dict[str, Any]) -> tzinfo | None:
    try:
        return zone(entry["winter_of"]) if "winter_of" in entry else None
    except ConfigurationError:  # no zone database: always the later close
        return None


def _span(texts: list[str]) -> tuple[int, int]:
    start, end = map(minutes, texts)
    return start, end


def _day(entry: dict[str, Any], regular: Day | None) -> Day:
    """A day's hours; ``"close"`` in a window is the regular close."""
    closes = regular.windows[-1][2] if regular is not None else 0
    windows = tuple(
        (minutes(pre), minutes(begin), closes if end == "close" else minutes(end))
        for pre, begin, end in entry["windows"]
    )
    day = session_day(windows, _span(entry["may_open"]) if "may_open" in entry else None)
    if "post_close" in entry:
        return replace(day, post_close=minutes(entry["post_close"]), settled=minutes(entry["settled"]))
    if regular is not None and windows[-1][2] == closes:
        return replace(day, post_close=regular.post_close, settled=regular.settled)
    return day


def session_day(windows: tuple[tuple[int, int, int], ...], may_open: tuple[int, int] | None = None) -> Day:
    """A session day of these windows, with as much time after its close as any special session has had."""
    close = windows[-1][2]
    return Day(windows, close + _AFTER, close + _SETTLED, may_open)


Teller: TypeAlias = "Callable[[date], Fact | None]"


@dataclass(frozen=True, slots=True)
class Overlay:
    """What the user says of one exchange.

    Attributes:
        facts: By day; the last source that names a day counts.
        covers: Spans of which everything is said: a weekday that no fact names is regular, a weekend day closed.
        tell: A function of the user's, asked first.
        source: For a covered day that is not named.
    """

    facts: Mapping[date, Fact]
    covers: tuple[tuple[date, date], ...] = ()
    tell: Teller | None = None
    source: str = ""

    def fact(self, day: date) -> Fact | None:
        """What is said of a day, or None."""
        told = self.tell(day) if self.tell is not None else None
        return told or self.facts.get(day)

    def covered(self, day: date) -> bool:
        """Whether silence about a day means that it is an ordinary one."""
        return any(first <= day <= last for first, last in self.covers)

    def __or__(self, other: Overlay) -> Overlay:
        tells = [tell for tell in (other.tell, self.tell) if tell is not None]
        return Overlay(
            {**self.facts, **other.facts},
            (*self.covers, *other.covers),
            functools.partial(_first, tells) if tells else None,
            other.source or self.source,
        )


def _first(tells: list[Teller], day: date) -> Fact | None:
    return next((fact for fact in (tell(day) for tell in tells) if fact is not None), None)
