"""Market time: when an exchange trades, and what is known of that.

:func:`phase`, :func:`next_open`, :func:`next_close` and :func:`sessions` answer from the sessions that are known of an
exchange; :func:`market_aware` turns them into an expiry. A wrong expiry that is too short costs a call, one that is
too long serves a wrong price, so wherever something is not known the answer leans to the short side.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ._clock import instant, market_now
from ._clock import moment as _frozen
from ._exchanges import calendar_of, set_overlays
from ._market_aware import market_aware
from ._policy import written
from ._sessions import Calendar, Phase, Tier
from ._user_calendar import from_environment
from .errors import ConfigurationError

__all__ = [
    "Phase",
    "Session",
    "known_until",
    "market_aware",
    "moment",
    "next_close",
    "next_open",
    "phase",
    "sessions",
]

_DAY = timedelta(days=1)
_MOST_DAYS = 20000
_NOW: Any = type("Now", (), {"__repr__": lambda _: "NOW"})()  # None may be a timestamp that is missing, and is refused


@dataclass(frozen=True, slots=True)
class Session:
    """One day of an exchange that has trading, or may have.

    Attributes:
        exchange: Its name.
        date: In the exchange's zone; of a session that begins on the evening before, the day that it counts for.
        windows: Of trading, as (open, close); empty where there may be a session and no source says when.
        name: Of a special day, such as "Muhurat"; else empty.
        known: ``"yours"``, ``"table"``, ``"library"``, or ``"unknown"``: no source covers the day.
        certain: Whether these are all windows for sure.
        source: Where it is said.
    """

    exchange: str
    date: date
    windows: tuple[tuple[datetime, datetime], ...]
    name: str
    known: Tier
    certain: bool
    source: str


def phase(exchange: str, at: datetime = _NOW) -> Phase:
    """Return what an exchange is doing at an instant.

    ========== =====================================================================================
    pre_open   orders are collected before the open (NSE 09:00-09:15); prices already move
    open       trading
    break      between two sessions of one day: a lunch hour, the two halves of a test session
    closing    trading is over and the closing price is made (NSE 15:30-15:40)
    post_close trading at the closing price (NSE 15:40-16:00); of currency, the cross pairs (17:00-19:30)
    closed     none of it
    uncertain  there may be a session, and no source says so or says when
    ========== =====================================================================================

    A phase holds from its first instant up to, not including, the first of the next. Beyond the last list of holidays
    every weekday is answered like a regular session, and the hours in which a special session may be are
    ``uncertain``.

    Args:
        exchange: ``"NSE"``, ``"BSE"``, their derivatives ``"NFO"`` and ``"BFO"``, currency ``"CDS"`` and ``"BCD"``,
            ``"MCX"``, or a name that a calendar library knows, such as ``"XNYS"`` or ``"24/7"``.
        at: An aware datetime. Left out: now, which within `redis_memo.as_of` is its moment.

    Raises:
        ConfigurationError: The exchange is unknown, or ``at`` is naive.
    """
    return calendar_of(exchange).slot(_instant(at)).phase


@written("ttl.next_open()")
def next_open(exchange: str, at: datetime = _NOW) -> datetime:
    """Return when trading begins next: strictly later than ``at``, in the exchange's zone.

    At the very instant of an open the exchange is open, and the answer is the open after it. Trading after a lunch
    break counts as an open. On a day whose hour no source states it is the earliest possible one.

    Args:
        exchange: As for `phase`.
        at: As for `phase`.

    Raises:
        ConfigurationError: The exchange is unknown, or ``at`` is naive.
    """
    calendar = calendar_of(exchange)
    return _local(calendar, calendar.next_open(_instant(at)))


@written("ttl.session_end()")
def next_close(exchange: str, at: datetime = _NOW) -> datetime:
    """Return when trading ends next: strictly later than ``at``, in the exchange's zone; lunch breaks count.

    Args:
        exchange: As for `phase`.
        at: As for `phase`.

    Raises:
        ConfigurationError: The exchange is unknown, or ``at`` is naive.
    """
    calendar = calendar_of(exchange)
    return _local(calendar, calendar.next_close(_instant(at)))


def sessions(exchange: str, start: date | datetime, end: date | datetime) -> list[Session]:
    """Return the days with trading, or with a chance of it, from ``start`` to ``end``, both included.

    Args:
        exchange: As for `phase`.
        start: A date of the exchange's, or an aware datetime within it.
        end: Likewise; not before ``start``, and at most 20,000 days after it.

    Raises:
        ConfigurationError: The exchange is unknown, or the span is none.
    """
    calendar = calendar_of(exchange)
    first, last = _date(calendar, start), _date(calendar, end)
    if not 0 <= (last - first).days <= _MOST_DAYS or not 1970 <= first.year <= last.year <= 2199:
        msg = f"sessions go from a day to a later one, up to {_MOST_DAYS:,} days, between 1970 and 2199"
        raise ConfigurationError(msg)
    found = []
    for offset in range((last - first).days + 1):
        agenda = calendar.agenda(first + _DAY * offset)
        if agenda.spans:
            windows = tuple(
                (_local(calendar, span.start), _local(calendar, span.end))
                for span in agenda.spans
                if span.phase == "open"
            )
            certain = agenda.tier != "unknown" and all(span.phase != "uncertain" for span in agenda.spans)
            found.append(
                Session(calendar.name, agenda.day, windows, agenda.name, agenda.tier, certain, agenda.source)
            )  # fmt: skip
    return found


def known_until(exchange: str) -> date:
    """Return the last day whose sessions some source states; after it every weekday is taken for a session.

    Raises:
        ConfigurationError: The exchange is unknown.
    """
    calendar = calendar_of(exchange)
    return calendar.local_day(calendar.known_until()) - _DAY


def moment() -> datetime | None:
    """Return the moment at which the running block is frozen (`redis_memo.as_of`), in UTC, or None.

    A function that fetches data can ask for nothing later with it.
    """
    frozen = _frozen()
    return None if frozen is None else datetime.fromtimestamp(frozen, UTC)


def _instant(at: object) -> float:
    return market_now() if at is _NOW else instant(at)


def _date(calendar: Calendar, given: object) -> date:
    if isinstance(given, datetime):
        return calendar.local_day(instant(given))
    if not isinstance(given, date):
        msg = f"a span of sessions goes from a date to a date, not a {type(given).__name__}"
        raise ConfigurationError(msg)
    return given


def _local(calendar: Calendar, t: float) -> datetime:
    return datetime.fromtimestamp(t, calendar.zone)


set_overlays(from_environment)
