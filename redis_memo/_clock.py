"""What time it is: by the machine, by a clock that a test has set, or frozen at one moment for a block of code.

Whatever of this package asks for the time of day asks here, and nothing is patched: `set_clock` puts another clock in
the place of the machine's, for the whole process and its threads. `moment` is something else: the instant for which
the calls of one block are to answer (`redis_memo.as_of`), kept in a context variable, while the clock runs on.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import time
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

__all__ = [
    "Block", "at_moment", "block", "instant", "is_set", "market_now", "moment", "moments_used", "now", "on_change",
    "parse_instant", "set_clock", "zone",
]  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")

_clock: Callable[[], float] | None = None
_listeners: list[Callable[[], None]] = []
_moments_used = False
_moment: ContextVar[float | None] = ContextVar("redis_memo_moment", default=None)

_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)?)\s*(.*)", re.ASCII)
_ABBREVIATIONS = {"IST": "Asia/Kolkata", "UTC": "UTC", "GMT": "UTC", "Z": "UTC"}


def now() -> float:
    """Seconds since 1970, by the clock in force."""
    # time.time is looked up at each call, so that tests that replace it are heeded.
    return time.time() if _clock is None else _clock()


def is_set() -> bool:
    """Whether a test has set the clock: then time passes only as it says."""
    return _clock is not None


@contextlib.contextmanager
def set_clock(clock: Callable[[], float]) -> Iterator[None]:
    """Let another clock be in force, in all threads, until the block ends."""
    global _clock  # noqa: PLW0603 - one process has one time
    before, _clock = _clock, clock
    _tell()
    try:
        yield
    finally:
        _clock = before
        _tell()


def on_change(listener: Callable[[], None]) -> None:
    """Call a function whenever another clock comes into force, and when the first block is frozen at a moment."""
    _listeners.append(listener)


def _tell() -> None:
    for listener in _listeners:
        listener()


def moments_used() -> bool:
    """Whether a block of this process was ever frozen at a moment: its context may live on in a task or a thread."""
    return _moments_used


def moment() -> float | None:
    """The moment that the running block is frozen at, if it is."""
    return _moment.get()


def market_now() -> float:
    """The instant for which a question about "now" is meant: the frozen moment, else the time."""
    frozen = _moment.get()
    return now() if frozen is None else frozen


@contextlib.contextmanager
def at_moment(t: float) -> Iterator[None]:
    """Freeze a block at a moment, in its thread or task and in what is started from it with its context."""
    global _moments_used  # noqa: PLW0603 - never unset again
    if not _moments_used:
        _moments_used = True
        _tell()
    token = _moment.set(t)
    try:
        yield
    finally:
        _moment.reset(token)


class Block(Generic[T]):
    """A ``with`` block at some time; as a decorator it holds for each call, of an ``async def`` until it has ended.

    contextlib's own would be over when the call has returned its coroutine, before any of that ran.
    """

    def __init__(self, name: str, begin: Callable[[], contextlib.AbstractContextManager[T]]) -> None:
        self._name = name
        self._begin = begin
        self._begun: list[contextlib.AbstractContextManager[T]] = []

    def __enter__(self) -> T:
        block = self._begin()
        value = block.__enter__()
        self._begun.append(block)
        return value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._begun.pop().__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            name = getattr(function, "__qualname__", type(function).__qualname__)
            raise ConfigurationError(
                f"{name}: {self._name}(...) decorates no generator function, which runs between what others do: "
                f"write with {self._name}(...) in it"
            )
        call: Any
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call(*args: Any, **kwargs: Any) -> Any:
                with self._begin():
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def call(*args: Any, **kwargs: Any) -> Any:
                with self._begin():
                    return function(*args, **kwargs)

        return call  # type: ignore[no-any-return]


def block(function: Callable[P, Iterator[T]]) -> Callable[P, Block[T]]:
    """As ``contextlib.contextmanager``, for a `Block`."""
    manager = contextlib.contextmanager(function)

    @functools.wraps(function)
    def begun(*args: P.args, **kwargs: P.kwargs) -> Block[T]:
        return Block(function.__name__, functools.partial(manager, *args, **kwargs))

    return begun


def zone(name: str) -> tzinfo:
    """The time zone of an IANA name.

    Raises:
        ConfigurationError: There is none of this name, or no zone database.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # A bare container may have no zone database at all. India has kept one offset since 1945.
        if name == "Asia/Kolkata":
            return timezone(timedelta(hours=5, minutes=30), "IST")
        if name == "UTC":
            return UTC
        msg = f"no time zone of the name {name[:40]!r} is known here: write one as in 'Asia/Kolkata', or install tzdata"
        raise ConfigurationError(msg) from None


def instant(at: object) -> float:
    """Seconds since 1970 of an aware datetime.

    Raises:
        ConfigurationError: It is none, or naive.
    """
    if not isinstance(at, datetime) or at != at:  # noqa: PLR0124  (pandas' NaT is a datetime, and unequal to itself)
        msg = f"an instant is an aware datetime, not a {type(at).__name__}"
        raise ConfigurationError(msg)
    if at.utcoffset() is None:
        msg = "a naive datetime names no instant: give it a zone, as in datetime.now(timezone.utc)"
        raise ConfigurationError(msg)
    return at.timestamp()


def parse_instant(given: object) -> datetime:
    """An aware datetime from one, or from a text such as ``"2026-11-08 18:20 IST"``.

    The zone is ``IST`` (India), ``UTC``, an offset such as ``+05:30``, or an IANA name such as ``America/New_York``.

    Raises:
        ConfigurationError: It names no instant.
    """
    if not isinstance(given, str):
        instant(given)
        assert isinstance(given, datetime)
        return given
    text = given.strip()
    found = _INSTANT.fullmatch(text)
    if found is not None:
        try:
            if re.fullmatch(r"[+-]\d\d:?\d\d", found[2]):
                return datetime.fromisoformat(found[1] + found[2])
            if found[2]:
                where = zone(_ABBREVIATIONS.get(found[2].upper(), found[2]))
                return datetime.fromisoformat(found[1]).replace(tzinfo=where)
        except ValueError:
            pass
    msg = f"{text[:40]!r} names no instant: write it with its zone, as in '2026-11-08 18:20 IST' or '... 12:50 UTC'"
    raise ConfigurationError(msg)
