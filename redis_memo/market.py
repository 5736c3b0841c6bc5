"""Market time: when an exchange trades, and how long a price may be kept.

:func:`phase`, :func:`next_open` and :func:`next_close` answer from the sessions that are known of an exchange;
:func:`market_aware` turns them into an expiry. A wrong expiry that is too short costs a call, one that is too long
serves a wrong price, so wherever something is not known the answer leans to the short side.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from importlib import resources
from random import random as _uniform
from typing import TYPE_CHECKING, Literal

from redis_memo._sessions import Calendar, Phase, Table, building
from redis_memo.errors import ConfigurationError
from redis_memo.ttl import Call, Fixed, Policy, TTLPolicy, as_policy, check_spread, format_duration, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Phase", "known_until", "market_aware", "next_close", "next_open", "phase"]

_LONGEST_GRACE = 7 * 86400.0
_TABLES = {"NSE": "nse_sessions.toml", "BSE": "nse_sessions.toml"}
_LIBRARY_NAMES = {"NSE": "XBOM", "BSE": "XBOM"}
_ALIASES = {"XNSE": "NSE", "XBOM": "BSE"}
# The names of exchange_calendars 4.13, so that a typing slip is found at decoration without importing it. A name that
# is not here is looked up in the library itself.
_NAMES = frozenset(
    # Not a list of literals, which would be 100 lines.
    """24/5 24/7 AIXK ARCX ASEX ASX BATS BMF BVB BVMF CBOT CFE CME CMES COMEX FWB HKEX ICE ICEUS IEPA JKT JPX LSE LUXSE
    NASDAQ NYFE NYMEX NYSE OOTC OSE SIX SSE TASE TSX XAMS XASE XASX XBDA XBEL XBKK XBOG XBRA XBRU XBSE XBUD XBUE XCBF
    XCSE XCYS XDUB XDUS XEEE XETR XEUR XFRA XHAM XHEL XHKG XICE XIDX XIST XJSE XKAR XKLS XKRX XLIM XLIS XLIT XLJU XLON
    XLUX XMAD XMEX XMIL XMOS XNAS XNYS XNZE XOSL XPAR XPHS XPRA XRIS XSAU XSES XSGO XSHG XSTO XSTU XSWX XTAE XTAI XTAL
    XTKS XTSE XTSX XWAR XWBO XZAG us_futures""".split()  # noqa: SIM905
)
# A calendar under every name by which it was asked for.
_calendars: dict[str, Calendar] = {}


def phase(exchange: str, at: datetime) -> Phase:
    """Return what an exchange is doing at an instant.

    ========== =====================================================================================
    pre_open   orders are collected before the open (NSE 09:00-09:15); prices already move
    open       trading
    break      between two sessions of one day: a lunch hour, the two halves of a test session
    closing    trading is over and the closing price is made (NSE 15:30-15:40)
    post_close trading at the closing price (NSE 15:40-16:00)
    closed     none of it
    uncertain  there may be a session, and no source says so or says when
    ========== =====================================================================================

    A phase holds from its first instant up to, not including, the first of the next. Beyond the last list of holidays
    every weekday is answered like a regular session, and the hours in which a special session may be are
    ``uncertain``.

    Args:
        exchange: ``"NSE"``, ``"BSE"`` or a name that ``exchange_calendars`` knows, such as ``"XNYS"``.
        at: An aware datetime.

    Raises:
        ConfigurationError: The exchange is unknown, or ``at`` is naive.
    """
    calendar = _calendar_of(exchange)
    return calendar.slot(_instant(at)).phase


def next_open(exchange: str, at: datetime) -> datetime:
    """Return when trading begins next: strictly later than ``at``, in the exchange's zone.

    At the very instant of an open the exchange is open, and the answer is the open after it. Trading after a lunch
    break counts as an open. On a day whose hour no source states it is the earliest possible one.

    Raises:
        ConfigurationError: The exchange is unknown, or ``at`` is naive.
    """
    calendar = _calendar_of(exchange)
    return _local(calendar, calendar.next_open(_instant(at)))


def next_close(exchange: str, at: datetime) -> datetime:
    """Return when trading ends next: strictly later than ``at``, in the exchange's zone; lunch breaks count.

    Raises:
        ConfigurationError: The exchange is unknown, or ``at`` is naive.
    """
    calendar = _calendar_of(exchange)
    return _local(calendar, calendar.next_close(_instant(at)))


def known_until(exchange: str) -> date:
    """Return the last day whose sessions some source states; after it every weekday is taken for a session.

    Raises:
        ConfigurationError: The exchange is unknown.
    """
    calendar = _calendar_of(exchange)
    return _local(calendar, calendar.known_until()).date() - timedelta(days=1)


def _instant(at: object) -> float:
    if not isinstance(at, datetime) or at != at:  # noqa: PLR0124  (pandas' NaT is a datetime, and unequal to itself)
        msg = f"an instant is an aware datetime, not a {type(at).__name__}"
        raise ConfigurationError(msg)
    if at.utcoffset() is None:
        msg = "a naive datetime names no instant: give it a zone, as in datetime.now(timezone.utc)"
        raise ConfigurationError(msg)
    return at.timestamp()


def _local(calendar: Calendar, t: float) -> datetime:
    return datetime.fromtimestamp(t, calendar.zone)


@dataclass(frozen=True, slots=True, repr=False)
class _MarketAware(Policy):
    exchange: str
    open: TTLPolicy
    closed: TTLPolicy | None  # None: until the next open
    grace: float
    jitter: float
    random: Callable[[], float] = field(compare=False)

    def __call__(self, call: Call, /) -> float:
        calendar = _calendar_of(self.exchange)
        now = call.now.timestamp()
        start, end, phase_now, closed_at = calendar.slot(now)
        moving = phase_now != "closed" or now < calendar.known_from()
        if not moving and self.grace:
            settled = closed_at + self.grace
            if now < settled:
                moving, end = True, min(end, settled)
            else:
                start = max(start, settled)
        if not moving and call.started is not None and call.started.timestamp() < start:
            # It began while prices still moved: what it saw is not what a call would see now.
            moving = True
        if moving:
            chosen = self.open
            seconds = chosen.seconds if type(chosen) is Fixed else resolve(chosen, call)
        else:
            seconds = end - now if self.closed is None else resolve(self.closed, call)
        seconds = min(seconds, end - now)
        return seconds * (1.0 - self.jitter * self.random()) if self.jitter else seconds

    def __repr__(self) -> str:
        parts = [repr(self.exchange), f"open={self.open!r}"]
        parts.append("closed='next_open'" if self.closed is None else f"closed={self.closed!r}")
        if self.grace:
            parts.append(f"grace={format_duration(self.grace)}")
        if self.jitter:
            parts.append(f"jitter={self.jitter:g}")
        return f"market_aware({', '.join(parts)})"


def market_aware(
    exchange: str = "NSE",
    *,
    open: object = 60,  # noqa: A002  (what the reader of a decorator expects)
    closed: object | Literal["next_open"] = "next_open",
    grace: float | timedelta | str = 0,
    jitter: float = 0.0,
    random: Callable[[], float] = _uniform,
) -> TTLPolicy:
    """Expire soon while prices move, and with the next session while they do not.

    ``open`` holds in every phase but ``closed``: from the pre-open to the end of the post-close trading, in breaks, and
    where a session is possible but not certain. An entry never outlives the phase it was made in. One of 15:29 is gone
    at 15:30, one of 15:59 at 16:00, when the closing price is final; one of 16:00 stays until 09:00 of the next
    session's day, when its pre-open begins. A call that began before such a moment and ended after it is treated as
    made while prices moved, if its start is known.

    Args:
        exchange: ``"NSE"``, ``"BSE"`` or a name that ``exchange_calendars`` knows.
        open: Lifetime while prices move: whatever ``ttl=`` takes.
        closed: Lifetime while they do not: whatever ``ttl=`` takes, cut at the next session; or ``"next_open"``, which
            is all of that time.
        grace: How long after the close of trading ``open`` goes on to hold, if that is longer than the exchange's own
            closing and post-close phases: for data that are published later, as ``"3h"`` for an evening file.
        jitter: The largest part by which a lifetime is shortened at random, so that not all entries end at once.
        random: Source of numbers in [0, 1), for tests.

    Raises:
        ConfigurationError: The exchange or a lifetime is wrong.
    """
    after = 0.0
    if not (isinstance(grace, int | float) and not isinstance(grace, bool) and grace == 0):
        policy = as_policy(grace)
        if not isinstance(policy, Fixed) or policy.seconds > _LONGEST_GRACE:
            msg = "grace is a time of up to a week: seconds, a timedelta or a duration such as '3h'"
            raise ConfigurationError(msg)
        after = policy.seconds
    return _MarketAware(
        exchange=_canonical(exchange),
        open=as_policy(open),
        closed=None if isinstance(closed, str) and closed == "next_open" else as_policy(closed),
        grace=after,
        jitter=check_spread("jitter", jitter),
        random=random,
    )


def _canonical(exchange: object) -> str:
    """Return the one name under which ``exchange`` is known.

    Raises:
        ConfigurationError: No source knows it; close names are listed.
    """
    if not isinstance(exchange, str):
        msg = f"an exchange is named by a string such as 'NSE' or 'XNYS', not a {type(exchange).__name__}"
        raise ConfigurationError(msg)
    name = exchange.strip()
    upper = _ALIASES.get(name.upper(), name.upper())
    if upper in _TABLES or upper in _NAMES:
        return upper
    if name in _NAMES:
        return name
    try:
        import exchange_calendars  # noqa: PLC0415

        names = {*exchange_calendars.get_calendar_names(include_aliases=True)}
    except ImportError:
        names = set()
    if upper in names or name in names:
        return upper if upper in names else name
    near = difflib.get_close_matches(upper, sorted({*_NAMES, *_TABLES, *_ALIASES, *names}), n=4, cutoff=0.4)
    hint = f"; near it: {', '.join(near)}" if near else ""
    msg = f"unknown exchange {name[:20]!r}{hint}. Known are NSE, BSE and the names of exchange_calendars (XNYS, ...)"
    raise ConfigurationError(msg)


def _calendar_of(exchange: object) -> Calendar:
    """Return the calendar of an exchange; the first time, this reads its table or the library."""
    found = _calendars.get(exchange) if isinstance(exchange, str) else None
    if found is not None:
        return found
    name = _canonical(exchange)
    with building():
        calendar = _calendars.get(name)
        if calendar is None:
            table = None
            if name in _TABLES:
                text = (resources.files("redis_memo") / "data" / _TABLES[name]).read_text(encoding="utf-8")
                table = Table.parse(text)
            calendar = _calendars[name] = Calendar(name, _LIBRARY_NAMES.get(name, name), table)
        return _calendars.setdefault(str(exchange), calendar)
