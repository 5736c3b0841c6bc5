"""The decorator, and what a decorated function can do.

A decorated function stays a function (``async def`` stays a coroutine function) that carries the cache's methods as
attributes. Inside a class body it becomes a descriptor instead, so that ``client.fetch.peek("INFY")`` knows its
``client``; that is `Memoized`, and its async twin `AsyncMemoized`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Collection, Coroutine
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from . import _core as core
from ._cache import Cache, default_cache
from ._call import kind
from ._config import Compression, OnError, checked_choice
from ._events import CacheInfo, CacheInfoNow
from ._explain import Explanation, explain
from ._invocation import Invocation, Memo
from .errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "MISSING",
    "AsyncMemoized",
    "Memoized",
    "Missing",
    "cache_info",
    "clear",
    "invalidate",
    "redis_cached",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

class Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = Missing()
"""What ``peek`` returns where nothing is stored; false in a condition, and unlike None never a result."""


class _Handle:
    """What `Memoized` and `AsyncMemoized` have in common: all that needs no server."""

    _memo: Memo
    _bound: tuple[Any, ...]

    def __init__(self, memo: Memo, bound: tuple[Any, ...] = (), wrapped: Callable[..., Any] | None = None) -> None:
        functools.update_wrapper(self, wrapped or memo.function)  # type: ignore[arg-type]
        self._memo = memo
        self._bound = bound

    def __repr__(self) -> str:
        return f"<memoized {self._memo.shown}>"

    def __reduce__(self) -> Any:
        # Found again by name where it is unpickled, as functions are; a bound one through its object.
        if self._bound:
            return getattr, (self._bound[0], self._memo.function.__name__)
        return self._memo.function.__qualname__

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        binds = self.__dict__.get("_binds", "instance")
        if binds == "owner":
            instance = owner if owner is not None else type(instance)
        if instance is None or binds == "nothing" or self._bound:
            return self
        return type(self)(self._memo, (instance,), MethodType(self._memo.function, instance))

    def _invocation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation:
        return Invocation(self._memo, (*self._bound, *args) if self._bound else args, kwargs)

    def _invalidation(self, args: dict[str, Any]) -> core.Flow:
        memo = self._memo
        if self._bound:
            first = memo.callkey.binder.names[0]
            if first not in memo.ignore:
                args = {first: self._bound[0], **args}
        match = memo.callkey.match(args)
        if match.digest is not None:
            return _drop(core.Place(memo.prefix, match.digest, b""))
        return core.drop_matching(memo.prefix, b"".join(match.tokens))

    def cache_key(self, /, *args: Any, **kwargs: Any) -> str:
        """The Redis key of a call's entry.

        Args:
            *args: As for the function.
            **kwargs: As for the function.

        Raises:
            KeyingError: An argument cannot become part of a key.
        """
        return self._invocation(args, kwargs).entry

    def cache_parameters(self) -> dict[str, Any]:
        """How the function was decorated, with what was left out filled in."""
        memo = self._memo
        return {
            "namespace": memo.namespace,
            "ttl": memo.lifetime(),
            "name": memo.name,
            "version": memo.version,
            "key": memo.key,
            "ignore": memo.ignore,
            "cache_if": memo.cache_if,
            "compress": memo.compress,
            "on_error": memo.on_error,
            "cache": memo.cache,
            "maxsize": None,
        }


def _drop(place: core.Place) -> core.Flow:
    return (yield core.Drop(place))


def _answer(op: core.Op) -> core.Flow:
    return (yield op)


class Memoized(_Handle, Generic[P, R]):
    """A decorated function as type checkers see it, and as it is inside a class body."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        call = self._invocation(args, kwargs)
        return self._memo.cache.run(call.flow(), call.compute, self._memo.namespace)  # type: ignore[no-any-return]

    if TYPE_CHECKING:
        __wrapped__: Callable[P, R]
        __name__: str
        __qualname__: str

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(
            self: Memoized[Concatenate[S, Q], R], instance: S, owner: type | None = None
        ) -> Memoized[Q, R]: ...
        def __get__(self, instance: object, owner: type | None = None) -> Any: ...

    def cache_info(self) -> CacheInfo:
        """Counters of this process, and the number of entries in Redis."""
        memo = self._memo
        try:
            return memo.stats.info(memo.cache.run(_answer(core.Count(memo.prefix))))
        except StoreError:
            return memo.stats.info()

    def cache_clear(self) -> int:
        """Delete all entries of the function, revoke what is being computed, and start the counters anew.

        Returns:
            How many entries went.

        Raises:
            StoreError: Redis could not be asked.
        """
        gone = int(self._memo.cache.run(core.drop_matching(self._memo.prefix, b"")))
        self._memo.stats.clear()
        return gone

    def invalidate(self, /, **args: object) -> int:
        """Delete the entries of all calls with these arguments, and revoke what is being computed for them.

        After it returns, no call that starts later gets a value computed before it.

        Args:
            **args: Arguments by name: all of them mean one call, some of them every call that has them, none every
                call. On a bound method the object is one of them.

        Returns:
            How many entries went.

        Raises:
            TypeError: The function has no parameter of such a name.
            StoreError: Redis could not be asked, and so the entries still stand.
        """
        return int(self._memo.cache.run(self._invalidation(args)))

    def peek(self, /, *args: P.args, **kwargs: P.kwargs) -> R | Missing:
        """The stored result of a call, or `MISSING`; never computes, and counts nothing."""
        call = self._invocation(args, kwargs)
        return self._memo.cache.run(core.peek(call, call.entry, MISSING))  # type: ignore[no-any-return]

    def store(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Store ``value`` as the result of a call; what is being computed for it is superseded.

        Returns:
            Whether it was stored: not if ``cache_if`` or the expiry refuse it, or Redis did not take it.
        """
        call = self._invocation(args, kwargs)
        return bool(self._memo.cache.run(core.store(call, call.locate(), value), namespace=self._memo.namespace))

    def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function now and store what it returns in the place of what is stored."""
        call = self._invocation(args, kwargs)
        flow = core.refresh(call, call.locate())
        return self._memo.cache.run(flow, call.compute, self._memo.namespace)  # type: ignore[no-any-return]

    def explain(self, /, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """What the key of a call is made of, and where its entry stands; shows types, never values."""
        return self._memo.cache.run(explain(self._invocation(args, kwargs)))  # type: ignore[no-any-return]


class AsyncMemoized(_Handle, Generic[P, R]):
    """As `Memoized`, for ``async def``: what asks Redis is awaited."""

    # What asyncio.iscoroutinefunction looks for; inspect's own mark exists from Python 3.12 on.
    _is_coroutine = asyncio.coroutines._is_coroutine if sys.version_info < (3, 12) else None  # type: ignore[attr-defined] # noqa: SLF001

    def __init__(self, memo: Memo, bound: tuple[Any, ...] = (), wrapped: Callable[..., Any] | None = None) -> None:
        super().__init__(memo, bound, wrapped)
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        call = self._invocation(args, kwargs)
        return await self._memo.cache.arun(call.flow(), call.compute, self._memo.namespace)  # type: ignore[no-any-return]

    if TYPE_CHECKING:
        __wrapped__: Callable[P, Coroutine[Any, Any, R]]
        __name__: str
        __qualname__: str

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(
            self: AsyncMemoized[Concatenate[S, Q], R], instance: S, owner: type | None = None
        ) -> AsyncMemoized[Q, R]: ...
        def __get__(self, instance: object, owner: type | None = None) -> Any: ...

    def cache_info(self) -> CacheInfoNow:
        """Counters of this process at once; awaited, with the number of entries in Redis."""
        info = CacheInfoNow(*self._memo.stats.info())
        info._complete = self._cache_info  # noqa: SLF001
        return info

    async def _cache_info(self, _: object) -> CacheInfo:
        memo = self._memo
        try:
            return memo.stats.info(await memo.cache.arun(_answer(core.Count(memo.prefix))))
        except StoreError:
            return memo.stats.info()

    async def cache_clear(self) -> int:
        """As `Memoized.cache_clear`."""
        gone = int(await self._memo.cache.arun(core.drop_matching(self._memo.prefix, b"")))
        self._memo.stats.clear()
        return gone

    async def invalidate(self, /, **args: object) -> int:
        """As `Memoized.invalidate`."""
        return int(await self._memo.cache.arun(self._invalidation(args)))

    async def peek(self, /, *args: P.args, **kwargs: P.kwargs) -> R | Missing:
        """As `Memoized.peek`."""
        call = self._invocation(args, kwargs)
        return await self._memo.cache.arun(core.peek(call, call.entry, MISSING))  # type: ignore[no-any-return]

    async def store(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """As `Memoized.store`."""
        call = self._invocation(args, kwargs)
        return bool(await self._memo.cache.arun(core.store(call, call.locate(), value), namespace=self._memo.namespace))

    async def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `Memoized.refresh`."""
        call = self._invocation(args, kwargs)
        flow = core.refresh(call, call.locate())
        return await self._memo.cache.arun(flow, call.compute, self._memo.namespace)  # type: ignore[no-any-return]

    async def explain(self, /, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """As `Memoized.explain`."""
        return await self._memo.cache.arun(explain(self._invocation(args, kwargs)))  # type: ignore[no-any-return]


class _Decorator(Protocol):
    """What ``redis_cached(...)`` returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncMemoized[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: Callable[P, R], /) -> Memoized[P, R]: ...
    @overload
    def __call__(self, function: classmethod[Any, P, R], /) -> Memoized[P, R]: ...


def redis_cached(
    *,
    namespace: str,
    ttl: object = None,
    name: str | None = None,
    version: str | None = None,
    key: Callable[..., object] | None = None,
    ignore: Collection[str] = (),
    cache_if: Callable[[Any], object] | None = None,
    compress: Compression = "auto",
    on_error: OnError = "compute",
    cache: Cache | None = None,
) -> _Decorator:
    """Memoize a function in Redis: one result for equal arguments, over all processes, until it expires.

    Works on functions, methods, class methods, static methods and ``async def``. Exceptions are never cached.

    Args:
        namespace: Groups functions, in the keys and for `clear`.
        ttl: Expiry: seconds, a ``timedelta``, ``"5m"``, or a policy such as ``market_aware()``: any callable of a
            `Call`. May be left out where ``configure(ttl=...)`` says one.
        name: Identity of the function; default: module and qualified name, and the code where that does not
            identify it (``__main__``, closures, lambdas). Functions of one name share entries, in any process.
        version: Part of the key: a string of yours, or ``"source"`` for the function's own code, so that an edit
            makes new entries.
        key: Function of (some of) the parameters, by name, that returns what identifies a call.
        ignore: Names of parameters that do not change the result.
        cache_if: Function of the result; a false answer means that it is returned and not stored.
        compress: ``"auto"``, ``"fast"``, ``"small"`` or None.
        on_error: ``"compute"``: a store that fails costs the caching, not the call. ``"raise"``: the caller gets
            the `StoreError`.
        cache: A cache made by `connect`; default: the one of `configure`, at each call.

    Returns:
        The decorator.

    Raises:
        ConfigurationError: An argument is wrong, or the function is a generator function.
    """
    checked_choice("compress", compress, ("auto", "fast", "small", None))
    checked_choice("on_error", on_error, ("compute", "raise"))
    if cache_if is not None and not callable(cache_if):
        raise ConfigurationError("cache_if= takes a function of the result")
    if cache is not None and not isinstance(cache, Cache):
        raise ConfigurationError("cache= takes what connect() returned")

    def decorate(function: Any) -> Any:
        plain = function.__func__ if isinstance(function, (classmethod, staticmethod)) else function
        handle = _handle(
            Memo(
                _checked(plain),
                namespace=namespace,
                ttl=ttl,
                name=name,
                version=version,
                key=key,
                ignore=ignore,
                cache_if=cache_if,
                compress=compress,
                on_error=on_error,
                cache=cache,
            )
        )
        if isinstance(function, classmethod):
            handle.__dict__["_binds"] = "owner"
        elif isinstance(function, staticmethod):
            handle.__dict__["_binds"] = "nothing"
        elif not _in_class_body(plain):
            return _as_function(handle)
        return handle

    return decorate


def _checked(function: Any) -> Callable[..., Any]:
    if isinstance(function, property):
        raise ConfigurationError("redis_cached goes below @property: it decorates the function, not the property")
    if isinstance(function, type) or not callable(function):
        raise ConfigurationError("redis_cached decorates functions and methods")
    if "generator" in kind(function):
        raise ConfigurationError(
            "redis_cached cannot keep what a generator function returns: reading it uses it up. "
            "Return a list, or decorate the function that makes one item"
        )
    return function  # type: ignore[no-any-return]


def _handle(memo: Memo) -> Memoized[Any, Any] | AsyncMemoized[Any, Any]:
    return AsyncMemoized(memo) if kind(memo.function) == "async" else Memoized(memo)


def _in_class_body(function: Callable[..., Any]) -> bool:
    scope, _, _ = getattr(function, "__qualname__", "").rpartition(".")
    return bool(scope) and not scope.endswith("<locals>")


_METHODS = ("cache_info", "cache_clear", "cache_key", "cache_parameters", "explain", "invalidate", "peek", "refresh", "store")


def _as_function(handle: Memoized[Any, Any] | AsyncMemoized[Any, Any]) -> Any:
    """A true function: inspect, pickle, pydantic, FastAPI and mock all tell it from other callables."""
    if isinstance(handle, AsyncMemoized):

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await handle(*args, **kwargs)
    else:

        def call(*args: Any, **kwargs: Any) -> Any:
            return handle(*args, **kwargs)

    functools.update_wrapper(call, handle._memo.function)  # noqa: SLF001
    for name in _METHODS:
        setattr(call, name, getattr(handle, name))
    call.__redis_memo__ = handle  # type: ignore[attr-defined]
    return call


def _of(function: Any) -> Any:
    if isinstance(function, _Handle):
        return function
    handle = getattr(function, "__redis_memo__", None)
    if not isinstance(handle, _Handle):
        raise TypeError(f"{getattr(function, '__qualname__', type(function).__name__)} is not decorated with redis_cached")
    return handle


@overload
def cache_info(function: AsyncMemoized[..., Any], /) -> CacheInfoNow: ...
@overload
def cache_info(function: Callable[..., Any], /) -> CacheInfo: ...
def cache_info(function: Any, /) -> Any:
    """As the function's own ``cache_info()``."""
    return _of(function).cache_info()


@overload
def invalidate(function: AsyncMemoized[..., Any], /, **args: object) -> Coroutine[Any, Any, int]: ...
@overload
def invalidate(function: Callable[..., Any], /, **args: object) -> int: ...
def invalidate(function: Any, /, **args: object) -> Any:
    """As the function's own ``invalidate(**args)``; awaitable for an ``async def``."""
    return _of(function).invalidate(**args)


@overload
def clear(target: AsyncMemoized[..., Any], /) -> Coroutine[Any, Any, int]: ...
@overload
def clear(target: Callable[..., Any] | str, /) -> int: ...
def clear(target: Any, /) -> Any:
    """Delete every entry of a function, or of a whole namespace of the default cache.

    Args:
        target: A decorated function, or the name of a namespace.

    Returns:
        How many entries went; awaitable for an ``async def``.

    Raises:
        TypeError: It is neither.
        StoreError: Redis could not be asked, and so the entries still stand.
    """
    if isinstance(target, str):
        return default_cache().clear(target)
    return _of(target).invalidate()
