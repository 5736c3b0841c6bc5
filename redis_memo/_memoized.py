"""What a decorated function can do: `Memoized`, and its async twin `AsyncMemoized`.

Where a function stands in a class body, one of these takes its place: a descriptor, so that
``client.fetch.peek("INFY")`` knows its ``client``. Elsewhere it stays behind a true function that carries its methods.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from . import _entries as entries
from ._events import CacheInfo, CacheInfoNow
from ._explain import Explanation, explain
from ._handle import MISSING, Handle, Missing
from .errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence
    from typing import Self

    from ._invocation import Memo

__all__ = ["AsyncMemoized", "Memoized"]

# Checkers see a decorated function by the type of the function itself: unlike a pair of ParamSpec and result, it lets
# both mypy and pyright find the first parameter, which methods and class methods bind.
F = TypeVar("F", bound="Callable[..., Any]")
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class Memoized(Handle, Generic[F]):
    """A decorated function as type checkers see it, and as it is inside a class body."""

    def __call__(self: Memoized[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        call = self._call(args, kwargs)
        return self._memo.cache.run(call.flow(), call.compute, self._memo.namespace)  # type: ignore[no-any-return]

    if TYPE_CHECKING:
        __wrapped__: F
        __name__: str
        __qualname__: str

        # Of the object, the class and nothing, the first parameter's type tells what is bound: checkers show the
        # function that stands below @classmethod or @staticmethod as it is.
        @overload
        def __get__(
            self: Memoized[Callable[Concatenate[S, P], R]], instance: object, owner: S
        ) -> Memoized[Callable[P, R]]: ...
        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(
            self: Memoized[Callable[Concatenate[S, P], R]], instance: S, owner: type | None = None
        ) -> Memoized[Callable[P, R]]: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None) -> Self: ...
        def __get__(self, instance: object, owner: Any = None) -> Any: ...

    def cache_info(self) -> CacheInfo:
        """Counters of this process, and the number of entries in Redis."""
        memo = self._memo
        count = None
        with contextlib.suppress(StoreError):
            count = memo.cache.run(entries.count(memo.prefixes))
        return memo.info(count)

    def cache_clear(self) -> int:
        """Delete all entries of the function, revoke what is being computed, and start the counters anew.

        Returns:
            How many entries went.

        Raises:
            StoreError: Redis could not be asked.
        """
        gone = int(self._memo.cache.run(self._clearing()))
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

    def invalidate_tags(self, /, *tags: str) -> int:
        """Delete the entries that have any of these tags, and revoke what is being computed and may turn out to.

        Args:
            *tags: As given to ``tags=``, or returned by it.

        Returns:
            How many entries went.

        Raises:
            ConfigurationError: A tag is no string, or empty.
            TypeError: There is no tag.
            StoreError: Redis could not be asked, and so the entries still stand.
        """
        return int(self._memo.cache.run(self._untagging(tags)))

    def peek(self: Memoized[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> R | Missing:
        """What a call would be served from Redis, or `MISSING`; never computes, and counts nothing."""
        call = self._invocation(args, kwargs)
        return self._memo.cache.run(entries.peek(call, call.entry, MISSING))  # type: ignore[no-any-return]

    def peek_columns(
        self: Memoized[Callable[P, R]], columns: Sequence[Hashable], /, *args: P.args, **kwargs: P.kwargs
    ) -> R | Missing:
        """As `peek`, with some columns of the frame; of a large one only their bytes are read from Redis.

        Args:
            columns: Their names, in the order in which they are wanted.
            *args: As of a call.
            **kwargs: As of a call.

        Returns:
            What ``peek(...)[list(columns)]`` would be, or `MISSING`.

        Raises:
            NoSuchColumn: The frame has no column of such a name, or what is stored is no pandas frame.
        """
        call = self._invocation(args, kwargs)
        return self._memo.cache.run(entries.peek_columns(call, call.entry, columns, MISSING))  # type: ignore[no-any-return]

    def store(self: Memoized[Callable[P, R]], value: R, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Store ``value`` as the result of a call; what is being computed for it is superseded.

        Returns:
            Whether it was stored: not if ``cache_if`` or the expiry refuse it, or Redis did not take it.
        """
        call = self._invocation(args, kwargs)
        return bool(self._memo.cache.run(call.storing(value), namespace=self._memo.namespace))

    def refresh(self: Memoized[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function now and store what it returns in the place of what is stored."""
        call = self._invocation(args, kwargs)
        return self._memo.cache.run(call.refreshing(), call.compute, self._memo.namespace)  # type: ignore[no-any-return]

    def explain(self: Memoized[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """What the key of a call is made of, and where its entry stands; shows types, never values."""
        return self._memo.cache.run(explain(self._invocation(args, kwargs)))  # type: ignore[no-any-return]


class AsyncMemoized(Handle, Generic[F]):
    """As `Memoized`, for ``async def``: what asks Redis is awaited."""

    def __init__(self, of: Memo | Handle, /, *bound: object) -> None:
        Handle.__init__(self, of, *bound)
        if sys.version_info >= (3, 12) and not bound:
            inspect.markcoroutinefunction(self)  # its code may not tell: a plain function that was marked itself

    async def __call__(self: AsyncMemoized[Callable[P, Awaitable[R]]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        call = self._call(args, kwargs)
        return await self._memo.cache.arun(call.flow(), call.compute, self._memo.namespace)  # type: ignore[no-any-return]

    if TYPE_CHECKING:
        __wrapped__: F
        __name__: str
        __qualname__: str

        @overload
        def __get__(
            self: AsyncMemoized[Callable[Concatenate[S, P], Awaitable[R]]], instance: object, owner: S
        ) -> AsyncMemoized[Callable[P, Awaitable[R]]]: ...
        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(
            self: AsyncMemoized[Callable[Concatenate[S, P], Awaitable[R]]], instance: S, owner: type | None = None
        ) -> AsyncMemoized[Callable[P, Awaitable[R]]]: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None) -> Self: ...
        def __get__(self, instance: object, owner: Any = None) -> Any: ...

    def cache_info(self) -> CacheInfoNow:
        """Counters of this process at once; awaited, with the number of entries in Redis."""
        info = CacheInfoNow(*self._memo.info())
        info._complete = self._cache_info  # noqa: SLF001
        return info

    async def _cache_info(self, _: object) -> CacheInfo:
        memo = self._memo
        count = None
        with contextlib.suppress(StoreError):
            count = await memo.cache.arun(entries.count(memo.prefixes))
        return memo.info(count)

    async def cache_clear(self) -> int:
        """As `Memoized.cache_clear`."""
        gone = int(await self._memo.cache.arun(self._clearing()))
        self._memo.stats.clear()
        return gone

    async def invalidate(self, /, **args: object) -> int:
        """As `Memoized.invalidate`."""
        return int(await self._memo.cache.arun(self._invalidation(args)))

    async def invalidate_tags(self, /, *tags: str) -> int:
        """As `Memoized.invalidate_tags`."""
        return int(await self._memo.cache.arun(self._untagging(tags)))

    async def peek(self: AsyncMemoized[Callable[P, Awaitable[R]]], /, *args: P.args, **kwargs: P.kwargs) -> R | Missing:
        """As `Memoized.peek`."""
        call = self._invocation(args, kwargs)
        return await self._memo.cache.arun(entries.peek(call, call.entry, MISSING))  # type: ignore[no-any-return]

    async def peek_columns(
        self: AsyncMemoized[Callable[P, Awaitable[R]]],
        columns: Sequence[Hashable],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R | Missing:
        """As `Memoized.peek_columns`."""
        call = self._invocation(args, kwargs)
        return await self._memo.cache.arun(entries.peek_columns(call, call.entry, columns, MISSING))  # type: ignore[no-any-return]

    async def store(
        self: AsyncMemoized[Callable[P, Awaitable[R]]], value: R, /, *args: P.args, **kwargs: P.kwargs
    ) -> bool:
        """As `Memoized.store`."""
        call = self._invocation(args, kwargs)
        return bool(await self._memo.cache.arun(call.storing(value), namespace=self._memo.namespace))

    async def refresh(self: AsyncMemoized[Callable[P, Awaitable[R]]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `Memoized.refresh`."""
        call = self._invocation(args, kwargs)
        return await self._memo.cache.arun(call.refreshing(), call.compute, self._memo.namespace)  # type: ignore[no-any-return]

    async def explain(
        self: AsyncMemoized[Callable[P, Awaitable[R]]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Explanation:
        """As `Memoized.explain`."""
        return await self._memo.cache.arun(explain(self._invocation(args, kwargs)))  # type: ignore[no-any-return]
