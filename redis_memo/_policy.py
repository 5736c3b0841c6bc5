"""Expiry policies: how long a stored result may be served.

A policy is a callable of one :class:`Call`. Everything a user may write as ``ttl=`` becomes one through
:func:`as_policy`, and :func:`resolve` turns its answer into seconds. What is wrong with a policy is said at decoration
where it can be, else when it answers: an entry without an end, or with a nonsensical one, is never stored.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from numbers import Real
from random import Random
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from ._clock import market_now, zone
from ._durations import EXAMPLES, LONGEST, checked, format_duration, parse_duration, read_duration, seconds_of
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import tzinfo

__all__ = [
    "SOON",
    "TTL",
    "Call",
    "Fixed",
    "Policy",
    "TTLPolicy",
    "as_policy",
    "by_value",
    "check_spread",
    "checked_function",
    "jittered",
    "resolve",
    "said_until",
    "shortest",
    "until",
    "written",
]

F = TypeVar("F")

_uniform = Random().random  # noqa: S311 - spreads expiries; the module's own is the user's, who may have seeded it
SOON = 60.0
"""Seconds for which a policy lets live what may be out of date already: a call that spanned the moment of a change."""

Lifetime: TypeAlias = float | timedelta | str | None
"""What a policy may answer: seconds, a ``timedelta``, a duration such as ``"5m"``; or None, for the next one of ``|``.

Where none follows, None is refused: every entry has an expiry.
"""

_WRITTEN: dict[Any, str] = {}


def written(example: str) -> Callable[[F], F]:
    """Let `as_policy` refuse a function that is no policy itself, and say what to write in its place.

    ``ttl=market_aware`` would pass for a callable of a call, and fail where the first result is stored.
    """

    def note(function: F) -> F:
        _WRITTEN[function] = example
        return function

    return note


def _this_moment() -> datetime:
    return datetime.fromtimestamp(market_now(), UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A finished call, as a policy sees it.

    Attributes:
        function: Qualified name of the function.
        arguments: Bound arguments by parameter name, defaults applied.
        value: What the function returned.
        now: When it returned; aware, in UTC. Within `redis_memo.as_of`, its moment.
        started: When it began, if that is known. A value may be as old as that: a fetch that began before the close
            and ended after it is no closing price.

    Raises:
        ConfigurationError: One of the two is naive.
    """

    function: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    value: Any = None
    now: datetime = field(default_factory=_this_moment)
    started: datetime | None = None

    def __post_init__(self) -> None:
        if self.now.tzinfo is None or (self.started is not None and self.started.tzinfo is None):
            msg = "a Call's now and started are aware datetimes: a naive one names no instant"
            raise ConfigurationError(msg)


class TTLPolicy(Protocol):
    """Anything that answers how long the result of a call may be served."""

    def __call__(self, call: Call, /) -> Lifetime:
        """Return seconds, a ``timedelta`` or a duration; zero or less means "do not store"."""
        ...


TTL: TypeAlias = float | timedelta | str | TTLPolicy | None
"""What ``ttl=`` takes; where None means anything, the function says what."""


class Policy:
    """Base of this package's own policies: they say in their ``repr`` what the user wrote, and `explain` a lifetime.

    Policies are equal where they mean the same. ``a | b`` answers ``a``, and ``b`` where ``a`` has no opinion, which it
    says by answering None; `redis_memo.ttl.min` is the shorter of several.
    """

    __slots__ = ()

    def __call__(self, call: Call, /) -> Lifetime:
        """Answer how long the call's result may be served."""
        raise NotImplementedError

    def explain(self, call: Call | None = None) -> str:
        """Say how long the result of a call lives, until when, and why.

        Args:
            call: As a policy sees it. Left out: a call without arguments, now.

        Returns:
            Text of one or several lines. It shows no argument and no value.
        """
        given = Call() if call is None else call
        return "\n".join(self._lines(given))

    def _lines(self, call: Call) -> list[str]:
        return [_lives(self, call), f"  because ttl={self!r}"]

    def __or__(self, other: object) -> Policy:
        if not (callable(other) or isinstance(other, str | float | int | timedelta)):
            return NotImplemented
        return _Either(self, as_policy(other))

    def __ror__(self, other: object) -> Policy:
        if not (callable(other) or isinstance(other, str | float | int | timedelta)):
            return NotImplemented
        return _Either(as_policy(other), self)


def _lives(policy: TTLPolicy, call: Call) -> str:
    if policy(call) is None:
        return "has no opinion"
    return said_until(resolve(policy, call), call.now)


def said_until(seconds: float, now: datetime) -> str:
    """Say a lifetime and its end, in the zone of ``now``."""
    if seconds <= 0:
        return "is not stored"
    # By the instant: a sum of local times is off by an hour where clocks are changed in between.
    end = (now.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(now.tzinfo)
    shown = format_duration(seconds if seconds < 1 else round(seconds))
    return f"lives {shown}, until {end:%a %Y-%m-%d %H:%M:%S} {end.tzname() or ''}".rstrip()


def _part(policy: TTLPolicy, call: Call) -> list[str]:
    lines = policy._lines(call) if isinstance(policy, Policy) else [_lives(policy, call)]  # noqa: SLF001
    return [f"  {'- ' if number == 0 else '  '}{line}" for number, line in enumerate(lines)]


@dataclass(frozen=True, slots=True, repr=False)
class Fixed(Policy):
    """The same lifetime for every call."""

    seconds: float

    def __call__(self, _call: Call, /) -> float:
        """The same for every call."""
        return self.seconds

    def __repr__(self) -> str:
        return format_duration(self.seconds)


@dataclass(frozen=True, slots=True, repr=False)
class _Either(Policy):
    first: TTLPolicy
    second: TTLPolicy

    def __call__(self, call: Call, /) -> Lifetime:
        answer = self.first(call)
        return self.second(call) if answer is None else answer

    def __repr__(self) -> str:
        return f"{self.first!r} | {self.second!r}"

    def _lines(self, call: Call) -> list[str]:
        chosen = self.second if self.first(call) is None else self.first
        return [_lives(chosen, call), "  the first of these that has an opinion:", *_part(self.first, call),
                *_part(self.second, call)]  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class _Shortest(Policy):
    policies: tuple[TTLPolicy, ...]

    def __call__(self, call: Call, /) -> float:
        return min(resolve(policy, call) for policy in self.policies)

    def __repr__(self) -> str:
        return f"min({', '.join(map(repr, self.policies))})"

    def _lines(self, call: Call) -> list[str]:
        parts = [line for policy in self.policies for line in _part(policy, call)]
        return [_lives(self, call), "  the shortest of these:", *parts]


@written("ttl.min('5m', session_end())")
def shortest(*ttls: object) -> Policy:
    """The shortest of several lifetimes, at each call anew; ``redis_memo.ttl.min``.

    Args:
        *ttls: Whatever ``ttl=`` takes; at least one.

    Raises:
        ConfigurationError: One of them is none, or there is none.
    """
    if not ttls:
        msg = "min takes at least one lifetime"
        raise ConfigurationError(msg)
    return _Shortest(tuple(map(as_policy, ttls)))


@dataclass(frozen=True, slots=True, repr=False)
class _ByValue(Policy):
    choose: Callable[[object], object]

    def __call__(self, call: Call, /) -> Lifetime:
        chosen = self.choose(call.value)
        if isinstance(chosen, Policy):
            return chosen(call)
        return chosen  # type: ignore[return-value]  # checked by resolve, as any policy's answer

    def __repr__(self) -> str:
        return f"by_value({_Custom(self.choose)!r})"  # type: ignore[arg-type]

    def _lines(self, call: Call) -> list[str]:
        chosen = self.choose(call.value)
        if isinstance(chosen, Policy):
            return [_lives(self, call), f"  which {self!r} chose:", *_part(chosen, call)]
        return [_lives(self, call), f"  because ttl={self!r}"]


@written("by_value(lambda result: '5m' if result else 0)")
def by_value(choose: Callable[[object], object]) -> Policy:
    """Let the result decide: ``by_value(lambda rows: None if rows else "30s") | market_aware()``.

    Args:
        choose: A function of the result, which returns a lifetime, a policy, 0 for "do not store", or None for "no
            opinion": then what stands right of ``|`` counts.

    Raises:
        ConfigurationError: It is no plain function of one argument.
    """
    checked_function("by_value", choose)
    return _ByValue(choose)


def checked_function(what: str, given: object) -> None:
    """Raise :class:`ConfigurationError` unless it is a plain function of one argument."""
    if not callable(given) or isinstance(given, Policy):
        said = "policy" if isinstance(given, Policy) else type(given).__name__
        msg = f"{what} takes a function of one argument, not a {said}"
        raise ConfigurationError(msg)
    as_policy(given)


@dataclass(frozen=True, slots=True, repr=False)
class _Until(Policy):
    """Until a time of day; remembers between which two such moments it was last asked."""

    at: time
    zone: tzinfo
    zone_name: str
    last: list[tuple[float, float]] = field(compare=False)

    def __call__(self, call: Call, /) -> float:
        now = call.now.timestamp()
        since, until = self.last[0]
        if not since <= now < until:
            since, until = self.last[0] = self._around(now)
        if call.started is not None and call.started.timestamp() < since:
            return min(SOON, until - now)  # it began before the last such moment: it may have seen what was before
        return until - now

    def _around(self, now: float) -> tuple[float, float]:
        """The last such moment, and the next. Where the clock is put back or forward over it, whatever it may be."""
        day = datetime.fromtimestamp(now, self.zone).date()
        moments = sorted(
            datetime.combine(day + timedelta(days=offset), self.at.replace(fold=fold), self.zone).timestamp()
            for offset in (-1, 0, 1, 2)
            for fold in (0, 1)
        )
        return max(t for t in moments if t <= now), min(t for t in moments if t > now)

    def __repr__(self) -> str:
        return f"until({self.at.isoformat('minutes' if not self.at.second else 'seconds')!r}, tz={self.zone_name!r})"

    def _lines(self, call: Call) -> list[str]:
        local = call.now.astimezone(self.zone)
        return [said_until(resolve(self, call), local), f"  because ttl={self!r}"]


@written("until('08:30')")
def until(at: str | time, *, tz: str = "Asia/Kolkata") -> Policy:
    """Until the next time that a clock shows this: ``until("08:30")`` for what is published each morning.

    A result whose call began before that moment and ended after it lives for a minute: it may be the old one.

    Args:
        at: ``"08:30"`` or ``"08:30:15"``, or a ``datetime.time`` without a zone.
        tz: IANA name of the zone; default: India's.

    Raises:
        ConfigurationError: It is no time, or there is no such zone.
    """
    given: object = at
    if isinstance(given, str):
        try:
            given = time.fromisoformat(given.strip())
        except ValueError:
            given = None
    if not isinstance(given, time) or given.tzinfo is not None:
        msg = "until takes a time of day, as in until('08:30', tz='Asia/Kolkata')"
        raise ConfigurationError(msg)
    named: object = tz
    if not isinstance(named, str):
        msg = f"tz= takes the name of a zone, as in 'Asia/Kolkata', not a {type(tz).__name__}"
        raise ConfigurationError(msg)
    return _Until(given, zone(tz), tz, [(math.inf, -math.inf)])


@dataclass(frozen=True, slots=True, repr=False)
class _Custom(Policy):
    """A callable of the user's, with a name that is equal in every process (its own repr may hold an address)."""

    function: Callable[[Call], Lifetime]

    def __call__(self, call: Call, /) -> Lifetime:
        return self.function(call)

    def __repr__(self) -> str:
        function = self.function
        if hasattr(function, "__qualname__"):
            return f"{function.__module__}.{function.__qualname__}"
        kind: type = type(function)
        own_repr = any("__repr__" in base.__dict__ for base in kind.__mro__[:-1])
        return repr(function) if own_repr else f"{kind.__module__}.{kind.__qualname__}"


@dataclass(frozen=True, slots=True, repr=False)
class _Jittered(Policy):
    policy: TTLPolicy
    spread: float
    random: Callable[[], float] = field(compare=False)

    def __call__(self, call: Call, /) -> float:
        return resolve(self.policy, call) * (1.0 - self.spread * self.random())

    def __repr__(self) -> str:
        return f"jittered({self.policy!r}, spread={self.spread:g})"

    def _lines(self, call: Call) -> list[str]:
        return [*_part(self.policy, call), f"  of which a random part of up to {self.spread:.0%} is taken off"]


@written("jittered('5m')")
def jittered(ttl: TTL, *, spread: float = 0.1, random: Callable[[], float] = _uniform) -> Policy:
    """Shorten each entry's life by a random part, so that entries stored together do not expire together.

    An entry never lives longer than asked, so an expiry that ends with a session still does.

    Args:
        ttl: Whatever ``ttl=`` takes.
        spread: The largest part to take off: 0.1 gives 90 to 100 % of the lifetime.
        random: Source of numbers in [0, 1), for tests.

    Raises:
        ConfigurationError: ``spread`` is not in [0, 1), or ``ttl`` is none.
    """
    return _Jittered(as_policy(ttl), check_spread("spread", spread), random)


def check_spread(name: str, value: object) -> float:
    """Return ``value`` as a part in [0, 1), or raise :class:`ConfigurationError` naming the setting."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 <= float(value) < 1.0:
        msg = f"{name} is the part of a lifetime to vary: a number from 0 up to, not including, 1"
        raise ConfigurationError(msg)
    return float(value)


def as_policy(ttl: object) -> TTLPolicy:
    """Return the policy that a ``ttl=`` setting stands for.

    Args:
        ttl: Seconds, a ``timedelta``, a duration such as ``"5m"``, or a callable of one :class:`Call`.

    Raises:
        ConfigurationError: It is none of these, or its lifetime is not above zero and up to ten years.
    """
    if isinstance(ttl, Policy):
        return ttl
    if isinstance(ttl, str):
        return Fixed(parse_duration(ttl))
    if isinstance(ttl, FunctionType) and ttl in _WRITTEN:
        msg = f"a ttl cannot be a function that has yet to be called: write {_WRITTEN[ttl]}"
        raise ConfigurationError(msg)
    seconds = seconds_of(ttl)
    if seconds is not None:
        return Fixed(checked(seconds))
    if not callable(ttl) or isinstance(ttl, type):
        what = f"the class {ttl.__name__}" if isinstance(ttl, type) else f"a {type(ttl).__name__}"
        msg = f"ttl cannot be {what}: give {EXAMPLES}, a timedelta, or a callable of one argument, the call"
        raise ConfigurationError(msg)
    if inspect.iscoroutinefunction(ttl) or inspect.iscoroutinefunction(getattr(ttl, "__call__", None)):  # noqa: B004
        msg = "a ttl callable is not awaited: write it with def, not async def"
        raise ConfigurationError(msg)
    try:
        inspect.signature(ttl).bind(None)
    except TypeError:
        msg = "a ttl callable takes one argument, the call (call.arguments, call.value, call.now)"
        raise ConfigurationError(msg) from None
    except ValueError:  # a builtin without a signature: it will say so itself when called
        pass
    return _Custom(ttl)


def resolve(policy: TTLPolicy, call: Call) -> float:
    """Return how many seconds the result of ``call`` may be served, from 0.0 ("do not store") to ten years.

    Raises:
        ConfigurationError: The policy answered ``None``, NaN, infinity, or something that is no lifetime. The answer
            itself is not in the message: it may have been made from an argument or the value.
    """
    answer = policy(call)
    if type(answer) is float:  # the common case, without the abstract base classes' detour
        seconds: float | None = answer
    else:
        seconds = read_duration(answer) if isinstance(answer, str) else seconds_of(answer)
    if seconds is None or not math.isfinite(seconds):
        if answer is None:
            problem = "answered None, but every entry has an expiry: answer 0 to store nothing"
        elif seconds is not None:
            problem = "answered NaN or infinity"
        elif isinstance(answer, str):
            problem = f"answered a text that is not a duration; these are: {EXAMPLES}"
        elif isinstance(answer, Policy):
            problem = "answered a policy and no lifetime: write policy(call) in it, or give the policy itself as ttl="
        else:
            problem = f"answered a {type(answer).__name__}, not seconds, a timedelta or a duration"
        msg = f"the ttl policy of {call.function} {problem}"
        raise ConfigurationError(msg)
    return min(max(seconds, 0.0), LONGEST)
