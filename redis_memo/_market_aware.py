"""Expiry that knows the exchange: short while prices move, until the next session while they do not.

What may differ between two fetches decides. A quote may until the exchange has closed and its closing price is made. A
candle may until its interval is over and it is published. A range of dates that ended before today's session may not,
except that a corporate action rewrites it. The rules are applied in this order, and `explain` names the one that
decided.
"""

from __future__ import annotations

import functools
import logging
import math
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ._arguments import Arg, arg, candle_seconds, checked_interval, range_end
from ._clock import instant
from ._durations import duration, format_duration
from ._exchanges import calendar_if_known, calendar_of, canonical, lookup
from ._policy import (
    SOON,
    Call,
    Fixed,
    Policy,
    TTLPolicy,
    as_policy,
    check_spread,
    checked_function,
    resolve,
    said_until,
    written,
)
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from ._sessions import Calendar, Slot

__all__ = ["market_aware", "next_open", "session_end"]

_log = logging.getLogger("redis_memo.market")
_uniform = Random().random  # noqa: S311 - spreads expiries; the module's own is the user's, who may have seeded it
_LONGEST_GRACE = 7 * 86400.0
_DAY = 86400.0
_ABSENT: Any = object()
_REMEMBERED = 256  # readings of arguments


# Seconds, the rule that decided, and what it decided by. A plain tuple, as it is made at each call.
_Verdict: TypeAlias = "tuple[float, str, Calendar | None, Slot | None]"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class _MarketAware(Policy):
    exchange: str | Arg
    open: TTLPolicy
    closed: TTLPolicy | None  # None: until the next open
    interval: object
    to: Arg | None
    delay: float
    immutable: TTLPolicy
    corporate_actions: Callable[[Call], object] | None
    grace: float
    skew: float
    jitter: float
    random: Callable[[], float] = field(compare=False)
    # What was found for calls before this one: by their arguments; by the stretch, candle and time of the last one.
    read: dict[Any, tuple[float | None, float | None]] = field(default_factory=dict, compare=False)
    finals: list[tuple[Slot | None, float | None, float, float, float]] = field(
        default_factory=lambda: [(None, None, 0.0, 0.0, 0.0)], compare=False
    )

    def __call__(self, call: Call, /) -> float:
        seconds = self._judge(call)[0]
        return seconds * (1.0 - self.jitter * self.random()) if self.jitter else seconds

    def _judge(self, call: Call) -> _Verdict:
        exchange, arguments = self.exchange, call.arguments
        named: object = exchange
        if type(exchange) is Arg:
            given = arguments.get(exchange.name)
            named = exchange.default if given is None else given
        calendar = lookup(named) if type(named) is str else None
        if calendar is None:
            calendar = _calendar_for(exchange, call)
            if calendar is None:
                return min(resolve(self.open, call), SOON), "unknown exchange", None, None
        now = call.now.timestamp()
        start, end, phase, closed_at = slot = calendar.last  # where slot() looks first, without a call
        if not start <= now < end:
            start, end, phase, closed_at = slot = calendar.slot(now)
        end -= self.skew
        size: float | None = None
        to: float | None = None
        if arguments:
            interval, given = self.interval, _ABSENT
            if type(interval) is Arg:
                interval = arguments.get(interval.name, interval.default)
            if self.to is not None:
                given = arguments.get(self.to.name, _ABSENT)
            if interval is not None or given is not _ABSENT:
                try:
                    size, to = self.read[interval, given, calendar.zone]
                except (KeyError, TypeError):
                    size, to = self._read(interval, given, calendar.zone)
        began = now
        if call.started is not None and (size is not None or to is not None or phase == "closed"):
            began -= (call.now - call.started).total_seconds()
        if to is not None and to < began:
            # Candles of one kind come again and again, and what is final changes with the day.
            known, of, since, until, final = self.finals[0]
            if not (known is slot and of == size and since <= began < until):
                final = self._final(calendar, slot, began, size)
            if to < final:
                if self.corporate_actions is not None:
                    return self._until_rewritten(call, calendar, began, now), "immutable", calendar, slot
                lasting = self.immutable
                life = lasting.seconds if type(lasting) is Fixed else resolve(lasting, call)
                return life, "immutable", calendar, slot
        if size is not None and size < _DAY and phase == "open":
            opened, rule = start, "candle"
            late, early = self.delay + self.skew, self.delay - self.skew  # a candle is published between these
            running = opened + (began - late - opened) // size * size
            complete = running + size + early  # when the one that the call saw running is published
            if complete <= now:
                rule = "candle ended meanwhile"
                complete = opened + ((now - early - opened) // size + 1) * size + early
            elif to is not None:
                rule = "running candle" if to >= running else "complete candles"
            life = (end if rule == "complete candles" or complete > end else complete) - now
            if rule in _SHORT:
                chosen = self.open
                soon = chosen.seconds if type(chosen) is Fixed else resolve(chosen, call)
                life = soon if soon < life else life  # noqa: FURB136 - half the time of a call
            return (life if life > 0.0 else 0.0), rule, calendar, slot  # noqa: FURB136
        moving, rule = phase != "closed", phase
        if not moving:
            if now < calendar.known_from:
                moving, rule = True, "before the table"
            elif (self.grace or self.skew) and now < (settled := max(closed_at + self.grace, start + self.skew)):
                moving, rule, end = True, "grace", min(end, settled)
            elif began < start or began < closed_at + self.grace:
                # It began while prices still moved: what it saw is not what a call would see now.
                moving, rule = True, "began before"
        left = end - now if end > now else 0.0
        if moving:
            chosen = self.open
            return min(chosen.seconds if type(chosen) is Fixed else resolve(chosen, call), left), rule, calendar, slot
        return (left if self.closed is None else min(resolve(self.closed, call), left)), rule, calendar, slot

    def _read(self, interval: object, given: object, zone: tzinfo) -> tuple[float | None, float | None]:
        """A candle's length and the range's end, as the call's arguments say them."""
        size: float | None = None
        to: float | None = None
        try:
            if interval is not None:
                size = candle_seconds(interval) or math.inf  # what cannot be told may be a year
            if given is not _ABSENT:
                to = math.inf  # should it not be hashable
                to = range_end(given, zone)
            if len(self.read) >= _REMEMBERED:
                self.read.clear()
            self.read[interval, given, zone] = size, to
        except TypeError:
            pass
        return size, to

    def _final(self, calendar: Calendar, slot: Slot, began: float, size: float | None) -> float:
        """The first instant whose data may still change; remembered for as long as that is so."""
        final, until = calendar.day_of(began)
        since = final
        if slot.phase != "closed":  # MCX is still open after midnight, CME began yesterday
            until = began if slot.start < began - _DAY else min(until, slot.start + _DAY)
            final = min(final, calendar.day_of(max(slot.start, began - _DAY))[0])
        corrected = slot.closed_at + self.grace + self.skew
        if corrected > began:
            final, until = min(final, calendar.day_of(slot.closed_at)[0]), min(until, corrected)
        else:
            since = max(since, corrected)
        if size is not None and size > _DAY:
            day = calendar.local_day(final)
            if size == 7 * _DAY:
                day -= timedelta(days=day.weekday())
            elif size == 30 * _DAY:
                day = day.replace(day=1)
            else:  # which day such a candle begins on is the source's choice; months are longer than 30 days
                day -= timedelta(days=366 if size == math.inf else math.ceil(min(1.05 * size / _DAY, 3660)))
            final = calendar.midnight(day)
        self.finals[0] = slot, size, since, until, final
        return final

    def _until_rewritten(self, call: Call, calendar: Calendar, began: float, now: float) -> float:
        """The life of history, which ends with the next corporate action."""
        assert self.corporate_actions is not None
        seconds = resolve(self.immutable, call)
        due = self.corporate_actions(call)
        if due is None:
            return seconds
        whole_day = isinstance(due, date) and not isinstance(due, datetime)
        rewritten = calendar.midnight(due) if whole_day else instant(due)  # type: ignore[arg-type]
        # At or before its beginning: what the call saw is history rewritten since.
        return seconds if rewritten <= began else max(min(seconds, rewritten - now), 0.0)

    def __repr__(self) -> str:
        parts = [repr(self.exchange), f"open={self.open!r}"]
        parts.append("closed='next_open'" if self.closed is None else f"closed={self.closed!r}")
        if self.interval != _INTERVAL:
            parts.append(f"interval={self.interval!r}")
        if self.to != _TO:
            parts.append(f"to={self.to!r}")
        if self.immutable != _IMMUTABLE:
            parts.append(f"immutable={self.immutable!r}")
        for name, value, usual in (("delay", self.delay, _DELAY), ("grace", self.grace, 0.0), ("skew", self.skew, 0.0)):
            if value != usual:
                parts.append(f"{name}={format_duration(value)}")
        if self.jitter:
            parts.append(f"jitter={self.jitter:g}")
        return f"market_aware({', '.join(parts)})"

    def _lines(self, call: Call) -> list[str]:
        seconds, rule, calendar, slot = self._judge(call)
        reason = _REASONS[rule]
        if calendar is None or slot is None:
            return [said_until(seconds, call.now), f"  because {reason}", f"  ttl={self!r}"]
        local = call.now.astimezone(calendar.zone)
        agenda = calendar.agenda(calendar.local_day(min(call.now.timestamp(), slot.end - 1)))
        since, until = (datetime.fromtimestamp(t, calendar.zone) for t in slot[:2])
        known = f"{agenda.name}; {agenda.source}" if agenda.name else agenda.source
        lines = [
            said_until(seconds, local),
            f"  because {reason}",
            f"  {calendar.name} at {local:%H:%M:%S} is {slot.phase}, from {since:%a %H:%M} to {until:%a %F %H:%M}",
            f"  known by: {agenda.tier} ({known})",
            f"  ttl={self!r}",
        ]
        if self.jitter:
            lines[0] += f", less a random part of up to {self.jitter:.0%}"
        return lines


_REASONS = {
    "unknown exchange": "the argument names no exchange that is known, so prices may move",
    "immutable": "the range ends before today's session: only a corporate action rewrites it",
    "candle": "that is when the running candle is complete and published",
    "running candle": "the range includes the candle that is still running",
    "candle ended meanwhile": "a candle ended while the call ran: it may have missed its last trades",
    "complete candles": "the range ends before the running candle; what it holds is looked at again after the session",
    "pre_open": "orders are collected and prices move",
    "open": "prices move",
    "break": "the session goes on after the break",
    "closing": "the closing price is being made",
    "post_close": "there is trading at the closing price, which adds volume",
    "uncertain": "there may be a session, and no source says when",
    "before the table": "nothing is known of so early a time; is the clock right?",
    "grace": "data of the last session may still be corrected (grace=, skew=)",
    "began before": "the call began before the market settled, and may have seen prices that moved",
    "closed": "nothing changes until the next session's pre-open",
}
_SHORT = ("running candle", "candle ended meanwhile")
_INTERVAL, _TO, _EXCHANGE = arg("interval"), arg("to_date"), arg("exchange", "NSE")
_IMMUTABLE = as_policy("1w")
_DELAY = 2.0


def _calendar_for(exchange: str | Arg, call: Call) -> Calendar | None:
    """The exchange's calendar; None where the argument names none, which is no reason to fail a call."""
    if isinstance(exchange, str):
        return lookup(exchange) or calendar_of(exchange)
    given = call.arguments.get(exchange.name)
    named = exchange.default if given is None else given
    if isinstance(named, str):
        named = str.__str__(named)  # of an enum's member, or numpy's
        calendar = lookup(named) or calendar_if_known(named)
    else:
        calendar = None  # it names one in a way that we cannot read: the default may be the wrong one
    if calendar is None:
        _complain_once(call.function)
    return calendar


@functools.lru_cache(maxsize=1000)  # once for each function
def _complain_once(function: str) -> None:
    _log.warning(
        "%san argument that names the exchange (market_aware(arg(...))) named none that is known; such results live "
        "for a minute at most", f"{function}: " if function else "",
    )  # fmt: skip


@written("market_aware()")
def market_aware(
    exchange: str | Arg = _EXCHANGE,
    *,
    open: object = 60,  # noqa: A002  (what the reader of a decorator expects)
    closed: object | Literal["next_open"] = "next_open",
    interval: object = _INTERVAL,
    to: Arg | None = _TO,
    delay: float | timedelta | str = _DELAY,
    immutable: object = _IMMUTABLE,
    corporate_actions: Callable[[Call], object] | None = None,
    grace: float | timedelta | str = 0,
    skew: float | timedelta | str = 0,
    jitter: float = 0.0,
    random: Callable[[], float] = _uniform,
) -> Policy:
    """Expire soon while prices move, and with the next session while they do not.

    ``open`` holds in every phase but ``closed``: from the pre-open to the end of the post-close trading, in breaks, and
    where a session is possible but not certain. An entry never outlives the phase it was made in. One of 15:29 is gone
    at 15:30, one of 15:59 at 16:00, when the closing price is final; one of 16:00 stays until 09:00 of the next
    session's day, when its pre-open begins. A call that began before such a moment and ended after it is treated as
    made while prices moved, if its start is known.

    A function that takes an ``interval`` of less than a day ("5minute", "1h") gets candles: while the exchange is open,
    its results live until the running candle is complete and published. If it takes a ``to_date`` as well, a range that
    includes the running candle lives for ``open``, and one that ended before today's session is ``immutable``. A day's
    candle of a running session lives for ``open`` and is asked for again when the session has settled.

    Args:
        exchange: ``"NSE"``, ``"MCX"``, or any other that `redis_memo.market.phase` knows; or ``arg("exchange")``, the
            call's own. Default: the call's argument ``exchange``, or ``"NSE"`` where there is none.
        open: Lifetime while prices move: whatever ``ttl=`` takes.
        closed: Lifetime while they do not: whatever ``ttl=`` takes, cut at the next session; or ``"next_open"``, which
            is all of that time.
        interval: A candle's length, or the argument that says it; None: the function does not return candles.
        to: The argument that says where the range of dates ends (a date lasts to its midnight, None is "now"); None:
            there is no such argument.
        delay: Seconds (or a duration) from the end of a candle until the source has published it.
        immutable: Lifetime of a range that ended before today's session: whatever ``ttl=`` takes.
        corporate_actions: A function of the call that says when its history will next be rewritten (by a split, a
            bonus): an aware datetime, a date for that midnight, or None. Immutable ranges live no longer.
        grace: How long after the close of trading ``open`` goes on to hold, if that is longer than the exchange's own
            closing and post-close phases: for data that are published later, as ``"3h"`` for an evening file.
        skew: By how much this machine's clock may be wrong: entries end that much before a session begins or a candle
            is published, and are taken for final that much after it.
        jitter: The largest part by which a lifetime is shortened at random, so that not all entries end at once.
        random: Source of numbers in [0, 1), for tests.

    Raises:
        ConfigurationError: The exchange or a lifetime is wrong.
    """
    if corporate_actions is not None:
        checked_function("corporate_actions=", corporate_actions)
    found: object = to
    if found is not None and not isinstance(found, Arg):
        msg = "to= names an argument: to=arg('to_date'), or None"
        raise ConfigurationError(msg)
    if isinstance(exchange, Arg) and exchange.default is not None:
        canonical(exchange.default)
    return _MarketAware(
        exchange=exchange if isinstance(exchange, Arg) else canonical(exchange),
        open=as_policy(open),
        closed=None if isinstance(closed, str) and closed == "next_open" else as_policy(closed),
        interval=checked_interval(interval),
        to=to,
        delay=_short_time("delay", delay),
        immutable=as_policy(immutable),
        corporate_actions=corporate_actions,
        grace=_short_time("grace", grace),
        skew=_short_time("skew", skew),
        jitter=check_spread("jitter", jitter),
        random=random,
    )


def _short_time(name: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 0:
        return 0.0
    seconds = duration(name, value)
    if seconds > _LONGEST_GRACE:
        msg = f"{name}= is a time of up to a week: seconds, a timedelta or a duration such as '3h'"
        raise ConfigurationError(msg)
    return seconds


@dataclass(frozen=True, slots=True, repr=False)
class _Boundary(Policy):
    """Until trading next begins, or ends; remembers the boundary that it last looked up."""

    what: str
    exchange: str | Arg
    last: list[tuple[Calendar | None, float, float, float]] = field(compare=False)

    def __call__(self, call: Call, /) -> float:
        calendar = _calendar_for(self.exchange, call)
        if calendar is None:
            return SOON
        now = call.now.timestamp()
        known, since, until, _ = self.last[0]
        if known is not calendar or not since <= now < until:
            known, since, until, _ = self.last[0] = (calendar, *self._around(calendar, now))
        if call.started is not None and call.started.timestamp() < since:
            return min(SOON, until - now)  # it began before the last such moment
        return until - now

    def _around(self, calendar: Calendar, now: float) -> tuple[float, float, float]:
        """Since when, and until when, and the slot's end: never beyond the start of a stretch that is uncertain."""
        slot = calendar.slot(now)
        since, changed = slot.start, False
        if slot.phase == "uncertain" or now < calendar.known_from:
            return now, min(now + SOON, slot.end), slot.end
        ends = self.what == "session_end"
        was_open, end = slot.phase == "open", slot.end
        was_closed = slot.phase == "closed"
        while not changed and end < now + 40 * _DAY:  # what never closes has no next open
            following = calendar.slot(end)
            if following.phase == "uncertain":
                break
            changed = was_open if ends else was_closed
            if not changed:
                was_open, was_closed, end = following.phase == "open", following.phase == "closed", following.end
        return since, end, slot.end

    def __repr__(self) -> str:
        return f"{self.what}({self.exchange!r})"

    def _lines(self, call: Call) -> list[str]:
        calendar = _calendar_for(self.exchange, call)
        local = call.now if calendar is None else call.now.astimezone(calendar.zone)
        why = "trading ends" if self.what == "session_end" else "prices begin to move, with the pre-open"
        return [said_until(self(call), local), f"  because then {why}, or may", f"  ttl={self!r}"]


@written("session_end()")
def session_end(exchange: str | Arg = _EXCHANGE) -> Policy:
    """Until trading ends: of the session that is under way, else of the next one.

    For what is computed once a session, such as the day's pivots. Where a session is possible but not certain, a result
    lives for a minute.

    Args:
        exchange: As for `market_aware`.

    Raises:
        ConfigurationError: The exchange is unknown.
    """
    return _boundary("session_end", exchange)


@written("next_open()")
def next_open(exchange: str | Arg = _EXCHANGE) -> Policy:
    """Until prices begin to move again: the next session's pre-open, also if a session is under way.

    Where a session is possible but not certain, a result lives for a minute.

    Args:
        exchange: As for `market_aware`.

    Raises:
        ConfigurationError: The exchange is unknown.
    """
    return _boundary("next_open", exchange)


def _boundary(what: str, exchange: str | Arg) -> Policy:
    named = exchange if isinstance(exchange, Arg) else canonical(exchange)
    return _Boundary(what, named, [(None, math.inf, -math.inf, 0.0)])
