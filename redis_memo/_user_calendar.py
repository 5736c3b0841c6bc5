"""The user's own calendar, from whatever ``configure(calendar=...)`` is given: files, mappings, a function.

What it says of a day comes before our own tables and the libraries. What it says of NSE and BSE counts for their
derivatives, NFO and BFO, as well, where these are not named themselves.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ._calendar_file import read_file, span_of, windows_of
from ._clock import now, zone
from ._exchanges import TABLES, canonical, set_overlays
from ._facts import CLOSED, Fact, Overlay, session_day
from ._libraries import read_library
from .errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import tzinfo

__all__ = ["ENVIRONMENT", "Source", "from_environment", "overlays", "use_calendar"]

Source: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Callable[[str, date], object] | Iterable[Any]"

ENVIRONMENT = "REDIS_MEMO_CALENDAR"
_log = logging.getLogger("redis_memo.market")
_FOLLOWS = {"NFO": "NSE", "BFO": "BSE"}
_UNNAMED = ("NSE", "BSE")  # of a file that names no exchange
_WORDS = {CLOSED: CLOSED, "open": "regular", "regular": "regular", "uncertain": "uncertain"}
_given = False  # whether configure() named one


class _Overlays:
    """What the user says, by canonical exchange; ``everywhere`` of any."""

    def __init__(self) -> None:
        self._by_exchange: dict[str, Overlay] = {}
        self._everywhere: list[Callable[[str, date], object]] = []

    def add(self, exchange: str, overlay: Overlay) -> None:
        name = canonical(exchange)
        known = self._by_exchange.get(name)
        self._by_exchange[name] = overlay if known is None else known | overlay

    def add_everywhere(self, tell: Callable[[str, date], object]) -> None:
        self._everywhere.append(tell)

    def __call__(self, exchange: str) -> Overlay | None:
        found: Overlay | None = None
        parts = [self._by_exchange.get(name) for name in (_FOLLOWS.get(exchange, ""), exchange)]
        parts += [Overlay({}, tell=_teller(tell, exchange)) for tell in self._everywhere]
        for part in parts:
            if part is not None:
                found = part if found is None else found | part
        return found


def use_calendar(source: object) -> None:
    """Let a user's calendar be in force in this process.

    Args:
        source: As for `configure`; None is what the environment names, if it names one.

    Raises:
        ConfigurationError: It cannot be read.
    """
    global _given  # noqa: PLW0603 - one process has one calendar
    if source is not None:
        read = overlays(source)  # what is wrong with it is said here
        set_overlays(lambda: read)
    elif _given:
        set_overlays(from_environment)
    _given = source is not None


def from_environment() -> _Overlays:
    """The calendar that ``REDIS_MEMO_CALENDAR`` names: one path, or several as in PATH.

    It is read when an exchange is first asked for: whoever does not use market time is not bothered by its errors.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        return overlays([path for path in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if path])
    except ConfigurationError as error:
        raise ConfigurationError(f"{ENVIRONMENT}: {error}") from error


def overlays(source: object) -> _Overlays:
    """Read a user's calendar.

    Raises:
        ConfigurationError: It cannot be read.
    """
    found = _Overlays()
    _add(found, source)
    return found


def _add(found: _Overlays, source: object) -> None:
    if isinstance(source, (str, os.PathLike)):
        _add_file(found, source, ())
    elif isinstance(source, Mapping):
        for exchange, said in source.items():
            _add_exchange(found, exchange, said)
    elif callable(source):
        found.add_everywhere(source)
    elif isinstance(source, Iterable):
        for each in source:
            _add(found, each)
    else:
        raise ConfigurationError(
            "calendar= takes a path (.toml, .csv, .ics or a circular's table), a mapping of exchanges, a function of "
            f"exchange and date, or several of them, not a {type(source).__name__}"
        )


def _add_exchange(found: _Overlays, exchange: object, said: object) -> None:
    name = canonical(exchange)
    if isinstance(said, (str, os.PathLike)):
        _add_file(found, said, (name,))
    elif isinstance(said, Mapping):
        facts, covers = {}, []
        for key, what in said.items():
            if key == "covers":
                covers.append(span_of(what, f"calendar= of {name}"))
                continue
            day = _date(key, name)
            fact = _fact(what, f"calendar of {name}, {day}", "configure(calendar=...)")
            if fact is not None:
                facts[day] = fact
        found.add(name, Overlay(facts, tuple(covers), source="configure(calendar=...)"))
    elif callable(said):
        tell: Callable[[date], object] = said
        found.add(name, Overlay({}, tell=_teller(lambda _, day: tell(day), name)))
    else:
        raise ConfigurationError(
            f"calendar= of {name}: give a path, a mapping of dates, or a function of the date, "
            f"not a {type(said).__name__}"
        )


def _add_file(found: _Overlays, path: str | os.PathLike[str], exchanges: tuple[str, ...]) -> None:
    given = Path(path).expanduser()
    read = read_file(given, _zone_of(given, exchanges))
    by_exchange: dict[str, dict[date, Fact]] = {}
    own: dict[tuple[str, date], bool] = {}
    whole = exchanges or read.exchanges or _UNNAMED
    for entry in read.entries:
        for exchange in exchanges or entry.exchanges or whole:
            name, its_own = _named(exchange, given), bool(entry.exchanges)
            facts = by_exchange.setdefault(name, {})
            before = facts.get(entry.day)
            if before is not None and own.get((name, entry.day)) == its_own:
                facts[entry.day] = _both(before, entry.fact, f"{given.name}, {name} {entry.day}")
            elif before is None or its_own:  # what is said of some exchanges comes before what is said of all
                facts[entry.day], own[name, entry.day] = entry.fact, its_own
    covers = () if read.covers is None else (read.covers,)
    named = {_named(exchange, given) for exchange in whole}
    for exchange in {*by_exchange, *(named if covers else ())}:
        of_it = covers if exchange in named else ()
        found.add(exchange, Overlay(by_exchange.get(exchange, {}), of_it, source=read.source))


def _named(exchange: str, path: Path) -> str:
    try:
        return canonical(exchange)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path.name}: {error}") from None


def _both(one: Fact, other: Fact, which: str) -> Fact:
    """Two facts of one file about one day: a holiday with its Muhurat hour, or a day's two sessions."""
    if CLOSED in (one.kind, other.kind):
        return one if other.kind == CLOSED else other
    if one.kind == other.kind == "session" and one.day is not None and other.day is not None and one.day != other.day:
        windows = tuple(sorted({*one.day.windows, *other.day.windows}))
        flat = [moment for window in windows for moment in window[1:]]
        if flat == sorted(flat):
            # A pre-open that nobody stated may reach into the session before it.
            begins = [0, *(window[2] for window in windows)]
            windows = tuple((max(pre, low), a, b) for (pre, a, b), low in zip(windows, begins, strict=False))
            return replace(one, day=session_day(windows, one.day.may_open or other.day.may_open))
    elif (one.kind, one.day) == (other.kind, other.day):
        return other
    raise ConfigurationError(f"{which}: two entries are about this day, and they contradict each other")


def _zone_of(path: Path, exchanges: tuple[str, ...]) -> tzinfo:
    """The zone of iCalendar's times: all other files write hours as the exchange's clocks show them."""
    if path.suffix.lower() == ".ics" and exchanges and exchanges[0] not in TABLES:
        today = datetime.fromtimestamp(now(), UTC).date()
        return read_library(exchanges[0], today, today).zone
    return zone("Asia/Kolkata")


def _teller(tell: Callable[[str, date], object], exchange: str) -> Callable[[date], Fact | None]:
    """The user's function, whose mistakes make a day uncertain and break no call."""
    source = f"{getattr(tell, '__module__', '?')}.{getattr(tell, '__qualname__', type(tell).__name__)}"

    def told(day: date) -> Fact | None:
        try:
            return _fact(tell(exchange, day), f"the calendar function, {exchange} {day}", source)
        except Exception:  # noqa: BLE001 - whatever it raises
            _log.exception("the calendar function failed for %s on %s, which is treated as uncertain", exchange, day)
            return Fact("uncertain", None, "the calendar function failed", source)

    return told


def _fact(what: object, which: str, source: str) -> Fact | None:
    """What the code says of a day: ``"closed"``, ``"open"``, ``"uncertain"``, hours, or None for nothing."""
    if what is None:
        return None
    if isinstance(what, str) and what.strip().lower() in _WORDS:
        return Fact(_WORDS[what.strip().lower()], None, "", source)
    if isinstance(what, (list, tuple)) or (isinstance(what, str) and ":" in what):
        return Fact("session", session_day(windows_of(what, which)), "", source)
    raise ConfigurationError(
        f'{which}: a day is "closed", "open", "uncertain", hours such as [("18:15", "19:15")], or None'
    )


def _date(given: object, which: str) -> date:
    if isinstance(given, str):
        try:
            return date.fromisoformat(given)
        except ValueError:
            pass
    elif type(given) is date:
        return given
    raise ConfigurationError(f"calendar= of {which}: days are dates, or texts such as '2027-10-29'")
