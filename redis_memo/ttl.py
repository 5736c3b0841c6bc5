"""Expiry policies: how long a stored result may be served.

A policy is a callable of one :class:`Call`. Everything a user may write as ``ttl=`` becomes one through
:func:`as_policy`, and :func:`resolve` turns its answer into seconds. What is wrong with a policy is said at decoration
where it can be, else when it answers: an entry without an end, or with a nonsensical one, is never stored.
"""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from numbers import Real
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeAlias

from redis_memo.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "LONGEST",
    "Call",
    "Fixed",
    "Policy",
    "TTLPolicy",
    "as_policy",
    "check_spread",
    "duration",
    "format_duration",
    "jittered",
    "parse_duration",
    "resolve",
]

_uniform = Random().random  # noqa: S311 - spreads expiries; the module's own is the user's, who may have seeded it
LONGEST = 10 * 365 * 86400.0
"""Ten years, in seconds: nothing is stored for longer."""

Lifetime: TypeAlias = float | timedelta | str | None
"""What a policy may answer: seconds, a ``timedelta`` or a duration such as ``"5m"``. ``None`` is refused."""

_UNITS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
# ASCII digits only: \d would take other scripts' digits, which float() then reads without a word.
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|[wdhms])\s*")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_EXAMPLES = "seconds (90 or '90'), '250ms', '90s', '5m', '1h30m', '2d' or '1w'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A finished call, as a policy sees it.

    Attributes:
        function: Identity of the function.
        arguments: Bound arguments by parameter name, defaults applied.
        value: What the function returned.
        now: When it returned; aware, in UTC.
        started: When it began, if that is known. A value may be as old as that: a fetch that began before the close
            and ended after it is no closing price.
    """

    function: str
    arguments: Mapping[str, object]
    value: object
    now: datetime
    started: datetime | None = None


class TTLPolicy(Protocol):
    """Anything that answers how long the result of a call may be served."""

    def __call__(self, call: Call, /) -> Lifetime:
        """Return seconds, a ``timedelta`` or a duration; zero or less means "do not store"."""
        ...


class Policy:
    """Base of this package's own policies: they say in their ``repr`` what the user wrote."""

    __slots__ = ()

    def __call__(self, call: Call, /) -> Lifetime:
        """Answer how long the call's result may be served."""
        raise NotImplementedError


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


def jittered(ttl: object, *, spread: float = 0.1, random: Callable[[], float] = _uniform) -> TTLPolicy:
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


def parse_duration(text: str) -> float:
    """Return the seconds that a duration such as ``"1h30m"`` names.

    A number alone is seconds. Units are w, d, h, m (minutes), s and ms, the larger first, each at most once.

    Raises:
        ConfigurationError: It is no duration, or not one above zero and up to ten years.
    """
    given: object = text
    seconds = _read_duration(given) if isinstance(given, str) else None
    if seconds is None:
        shown = repr(given[:40]) if isinstance(given, str) else f"a {type(given).__name__}"
        msg = f"{shown} is not a duration: write {_EXAMPLES}"
        raise ConfigurationError(msg)
    return _check_static(seconds)


def duration(name: str, value: object) -> float:
    """Return the seconds of a setting that takes a duration.

    Args:
        name: Of the setting, for the message.
        value: Seconds, a ``timedelta`` or a duration such as ``"5m"``.

    Raises:
        ConfigurationError: It is none of these, or not above zero and up to ten years.
    """
    seconds = _read_duration(value) if isinstance(value, str) else _seconds(value)
    if seconds is None or not 0.0 < seconds <= LONGEST:
        msg = f"{name}= takes {_EXAMPLES} or a timedelta: above zero and at most ten years"
        raise ConfigurationError(msg)
    return seconds


def format_duration(seconds: float) -> str:
    """Return the shortest duration that :func:`parse_duration` reads as these whole milliseconds."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in _UNITS.items():
        count, left = divmod(left, round(size * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or f"{seconds:g}s"


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
    seconds = _seconds(ttl)
    if seconds is not None:
        return Fixed(_check_static(seconds))
    if not callable(ttl) or isinstance(ttl, type):
        what = f"the class {ttl.__name__}" if isinstance(ttl, type) else f"a {type(ttl).__name__}"
        msg = f"ttl cannot be {what}: give {_EXAMPLES}, a timedelta, or a callable of one argument, the call"
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
        seconds = _read_duration(answer) if isinstance(answer, str) else _seconds(answer)
    if seconds is None or not math.isfinite(seconds):
        if answer is None:
            problem = "answered None, but every entry has an expiry: answer 0 to store nothing"
        elif seconds is not None:
            problem = "answered NaN or infinity"
        elif isinstance(answer, str):
            problem = f"answered a text that is no duration; these are: {_EXAMPLES}"
        else:
            problem = f"answered a {type(answer).__name__}, not seconds, a timedelta or a duration"
        msg = f"the ttl policy of {call.function} {problem}"
        raise ConfigurationError(msg)
    return min(max(seconds, 0.0), LONGEST)


def _read_duration(text: str) -> float | None:
    """Return the seconds ``text`` names, zero and infinity included, or None if it is no duration."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    total, position, order = 0.0, 0, list(_UNITS)
    while position < len(text):
        part = _PART.match(text, position)
        if part is None or part[2] not in order:
            return None
        total += float(part[1]) * _UNITS[part[2]]
        order = order[order.index(part[2]) + 1 :]
        position = part.end()
    return total if position else None


def _seconds(value: object) -> float | None:
    """Return a number's or a timedelta's seconds (which may be NaN or infinite), or None for anything else."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    # bool is an int and means something else here. Real covers numpy's numbers without importing numpy.
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    try:
        return float(value)
    except OverflowError:  # an int or Fraction too large for a float is finite all the same
        return LONGEST + 1.0 if value == abs(value) else -1.0
    except ValueError:  # Decimal("sNaN")
        return math.nan


def _check_static(seconds: float) -> float:
    if 0.0 < seconds <= LONGEST:
        return seconds
    msg = f"a ttl is above zero and at most ten years: write {_EXAMPLES}; a policy may answer 0 to store nothing"
    raise ConfigurationError(msg)
