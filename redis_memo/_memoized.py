"""What a decorated function can do: `Memoized`, and its async twin `AsyncMemoized`.

Where a function stands in a class body, one of these takes its place: a descriptor, so that
``client.fetch.peek("INFY")`` knows its ``client``. Elsewhere it stays behind a true function that carries its methods.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, Never, ParamSpec, TypeVar, overload

from . import _entries as entries
from ._events import CacheInfo, CacheInfoNow
from ._explain import Explanation, explain
from ._handle import MISSING, Handle, Missing
from ._map import Options, Progress, amapped, mapped
from .errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
    from typing import Self

    from ._function import Memo

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
        quick = self._quick
        if quick is not None:
            return quick(*self._bound, *args, **kwargs)  # type: ignore[no-any-return]
        call = self._call(args, kwargs)
        return self._memo.engine.run(call.flow(), call.compute, self._memo.namespace)  # type: ignore[no-any-return]

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

    def cache_info(self, *, everywhere: bool = False) -> CacheInfo:
        """Counters, and the number of entries in Redis.

        Args:
            everywhere: Count what all processes did in the last 30 days, as far as they have told Redis: each tells
                every ten seconds, and at its end. Without Redis, what this process did.

        Returns:
            The counters; their ``currsize`` and ``currbytes`` are None where Redis cannot be asked.
        """
        memo = self._memo
        found: tuple[Any, ...] = ()
        with contextlib.suppress(StoreError):
            found = memo.engine.run(self._usage(everywhere))
        return memo.info(*found)

    def cache_clear(self) -> int:
        """Delete all entries of the function, revoke what is being computed, and start the counters anew.

        The counters of other processes go on; what they told Redis is forgotten.

        Returns:
            How many entries went.

        Raises:
            StoreError: Redis could not be asked.
        """
        gone = int(self._memo.engine.run(self._clearing()))
        self._memo.stats.clear()
        return gone

    def invalidate(self, /, *by_position: Never, **args: object) -> int:
        """Delete the entries of all calls with these arguments, and revoke what is being computed for them.

        After it returns, no call that starts later gets a value computed before it.

        Args:
            *by_position: Refused, as arguments are told by their names.
            **args: Arguments by name: all of them mean one call, some of them every call that has them, none every
                call. On a bound method the object is one of them.

        Returns:
            How many entries went.

        Raises:
            TypeError: The function has no parameter of such a name, or one was given without its name.
            StoreError: Redis could not be asked, and so the entries still stand.
        """
        return int(self._memo.engine.run(self._invalidation(args, by_position)))

    def invalidate_tags(self, /, *tags: str) -> int:
        """Delete the entries that have any of these tags, and revoke what is being computed and may turn out to.

        Args:
            *tags: As given to ``tags=``, or returned by it.

        Returns:
            How many entries went.

        Raises:
            ConfigurationError: A tag is not a string, or empty.
            TypeError: There is no tag.
            StoreError: Redis could not be asked, and so the entries still stand.
        """
        return int(self._memo.engine.run(self._untagging(tags)))

    def peek(self: Memoized[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> R | Missing:
        """What a call would be served from Redis, or `MISSING`; never computes, and counts nothing.

        Redis is asked always, also for what ``near=`` keeps in this process.

        Args:
            *args: As of a call.
            **kwargs: As of a call.

        Returns:
            The value, the caller's own; or `MISSING` where nothing is stored that a call may be served.

        Raises:
            KeyingError: An argument cannot become part of a key.
            StoreError: Redis could not be asked; only with ``on_error="raise"``, otherwise it is `MISSING`.
        """
        call = self._invocation(args, kwargs)
        return self._memo.engine.run(entries.peek(call, call.entry, MISSING))  # type: ignore[no-any-return]

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
            NoSuchColumn: The frame has no column of such a name, or what is stored is not a pandas frame.
            TypeError: What comes first is one name, or none.
            KeyingError: As for `peek`; and ``StoreError``.
        """
        call = self._invocation(args, kwargs)
        return self._memo.engine.run(entries.peek_columns(call, call.entry, columns, MISSING))  # type: ignore[no-any-return]

    def store(self: Memoized[Callable[P, R]], value: R, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Store ``value`` as the result of a call; what is being computed for it is superseded.

        Args:
            value: What calls are to return from now on.
            *args: As of a call.
            **kwargs: As of a call.

        Returns:
            Whether it was stored: not if ``cache_if`` or the expiry refuse it, it cannot be encoded, or Redis did not
            take it.

        Raises:
            KeyingError: An argument cannot become part of a key.
            SerializationError: The value cannot be encoded; only with ``on_error="raise"``, as the next.
            StoreError: Redis did not take it.
        """
        call = self._invocation(args, kwargs)
        return bool(self._memo.engine.run(call.storing(value), namespace=self._memo.namespace))

    def refresh(self: Memoized[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function now and store what it returns in the place of what is stored.

        Args:
            *args: As of a call.
            **kwargs: As of a call.

        Returns:
            What the function returned, stored or not.

        Raises:
            KeyingError: An argument cannot become part of a key; the function did not run.
            StoreError: Redis could not be asked; only with ``on_error="raise"``.
            Exception: What the function raises.
        """
        call = self._invocation(args, kwargs)
        return self._memo.engine.run(call.refreshing(), call.compute, self._memo.namespace)  # type: ignore[no-any-return]

    @overload
    def map(
        self: Memoized[Callable[..., R]],
        calls: Iterable[object],
        /,
        *,
        workers: int | None = None,
        batch: Callable[[list[Any]], Sequence[R | Exception] | Mapping[Any, R | Exception]] | None = None,
        batch_size: int = 500,
        return_exceptions: Literal[False] = False,
        progress: Progress = False,
    ) -> list[R]: ...
    @overload
    def map(
        self: Memoized[Callable[..., R]],
        calls: Iterable[object],
        /,
        *,
        workers: int | None = None,
        batch: Callable[[list[Any]], Sequence[R | Exception] | Mapping[Any, R | Exception]] | None = None,
        batch_size: int = 500,
        return_exceptions: bool,
        progress: Progress = False,
    ) -> list[R | Exception]: ...
    def map(
        self,
        calls: Iterable[object],
        /,
        *,
        workers: int | None = None,
        batch: Callable[[list[Any]], Any] | None = None,
        batch_size: int = 500,
        return_exceptions: bool = False,
        progress: Progress = False,
    ) -> list[Any]:
        """The results of many calls: one round trip reads what is stored, only the misses are computed.

        Each call has the guarantees of a single one. What is being computed elsewhere is waited for, not computed
        twice; of equal calls one is computed. What is done is stored as it goes, some hundreds of results in one
        round trip: a run that was interrupted continues where it was when it is started again.

        Args:
            calls: Each is a tuple of arguments, a dict of arguments by name, an ``inspect.BoundArguments`` for both,
                or any other value but a list: the call's one argument.
            workers: Run the function in so many threads (``async def``: tasks). Left out, it runs for one call after
                the other, a plain function in the caller's thread.
            batch: Computes many calls at once: is given a list of those that are missing, as they were written in
                ``calls``, and returns a list with one result for each in that order, or a mapping from calls to
                results. An exception in the place of a result is that call's failure. With it, ``soft_timeout=``
                and ``hard_timeout=`` do not apply; ``workers=`` is how many batches are computed at once.
            batch_size: How many calls ``batch`` is given at most.
            return_exceptions: Return what calls raised in the place of results, as in ``asyncio.gather``.
            progress: A function of (calls done, calls in all), called now and then; True writes to stderr what takes
                longer than a second.

        Returns:
            The results in the order of the calls.

        Raises:
            TypeError: A call could be meant in two ways.
            ConfigurationError: An option is wrong.
            BatchError: ``batch`` gave no result for a call.
            Exception: What the first call that failed raised, after all others were computed and stored.
        """
        return mapped(self, calls, Options(workers, batch, batch_size, return_exceptions, progress))

    def explain(self: Memoized[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """What the key of a call is made of, and where its entry stands; shows types, never values.

        Where Redis cannot be asked, it says so in the place of the entry.

        Args:
            *args: As of a call.
            **kwargs: As of a call.

        Returns:
            The facts as attributes; printed, they are sentences.

        Raises:
            KeyingError: An argument cannot become part of a key.
        """
        return self._memo.engine.run(explain(self._invocation(args, kwargs)))  # type: ignore[no-any-return]


class AsyncMemoized(Handle, Generic[F]):
    """As `Memoized`, for ``async def``: what asks Redis is awaited."""

    _waits = True

    def __init__(self, of: Memo | Handle, /, *bound: object) -> None:
        Handle.__init__(self, of, *bound)
        if sys.version_info >= (3, 12) and not bound:
            inspect.markcoroutinefunction(self)  # its code may not tell: a plain function that was marked itself

    async def __call__(self: AsyncMemoized[Callable[P, Awaitable[R]]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._quick is not None:
            return await self._quick(*self._bound, *args, **kwargs)  # type: ignore[no-any-return]
        call = self._call(args, kwargs)
        return await self._memo.engine.arun(call.flow(), call.compute, self._memo.namespace)  # type: ignore[no-any-return]

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

    @overload
    def cache_info(self, *, everywhere: Literal[False] = False) -> CacheInfoNow: ...
    @overload
    def cache_info(self, *, everywhere: Literal[True]) -> Coroutine[Any, Any, CacheInfo]: ...
    @overload
    def cache_info(self, *, everywhere: bool) -> Awaitable[CacheInfo]: ...
    def cache_info(self, *, everywhere: bool = False) -> Awaitable[CacheInfo]:
        """As `Memoized.cache_info`; what this process counted is there at once, without ``currsize``."""
        if everywhere:
            return self._cache_info(everywhere=True)
        info = CacheInfoNow(*self._memo.info())
        info._complete = self._cache_info  # noqa: SLF001
        return info

    async def _cache_info(self, _: object = None, *, everywhere: bool = False) -> CacheInfo:
        memo = self._memo
        found: tuple[Any, ...] = ()
        with contextlib.suppress(StoreError):
            found = await memo.engine.arun(self._usage(everywhere))
        return memo.info(*found)

    async def cache_clear(self) -> int:
        """As `Memoized.cache_clear`."""
        gone = int(await self._memo.engine.arun(self._clearing()))
        self._memo.stats.clear()
        return gone

    async def invalidate(self, /, *by_position: Never, **args: object) -> int:
        """As `Memoized.invalidate`."""
        return int(await self._memo.engine.arun(self._invalidation(args, by_position)))

    async def invalidate_tags(self, /, *tags: str) -> int:
        """As `Memoized.invalidate_tags`."""
        return int(await self._memo.engine.arun(self._untagging(tags)))

    async def peek(self: AsyncMemoized[Callable[P, Awaitable[R]]], /, *args: P.args, **kwargs: P.kwargs) -> R | Missing:
        """As `Memoized.peek`."""
        call = self._invocation(args, kwargs)
        return await self._memo.engine.arun(entries.peek(call, call.entry, MISSING))  # type: ignore[no-any-return]

    async def peek_columns(
        self: AsyncMemoized[Callable[P, Awaitable[R]]],
        columns: Sequence[Hashable],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R | Missing:
        """As `Memoized.peek_columns`."""
        call = self._invocation(args, kwargs)
        return await self._memo.engine.arun(entries.peek_columns(call, call.entry, columns, MISSING))  # type: ignore[no-any-return]

    async def store(
        self: AsyncMemoized[Callable[P, Awaitable[R]]], value: R, /, *args: P.args, **kwargs: P.kwargs
    ) -> bool:
        """As `Memoized.store`."""
        call = self._invocation(args, kwargs)
        return bool(await self._memo.engine.arun(call.storing(value), namespace=self._memo.namespace))

    async def refresh(self: AsyncMemoized[Callable[P, Awaitable[R]]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `Memoized.refresh`."""
        call = self._invocation(args, kwargs)
        return await self._memo.engine.arun(call.refreshing(), call.compute, self._memo.namespace)  # type: ignore[no-any-return]

    @overload
    async def map(
        self: AsyncMemoized[Callable[..., Awaitable[R]]],
        calls: Iterable[object],
        /,
        *,
        workers: int | None = None,
        batch: Callable[[list[Any]], Awaitable[Sequence[R | Exception] | Mapping[Any, R | Exception]]] | None = None,
        batch_size: int = 500,
        return_exceptions: Literal[False] = False,
        progress: Progress = False,
    ) -> list[R]: ...
    @overload
    async def map(
        self: AsyncMemoized[Callable[..., Awaitable[R]]],
        calls: Iterable[object],
        /,
        *,
        workers: int | None = None,
        batch: Callable[[list[Any]], Awaitable[Sequence[R | Exception] | Mapping[Any, R | Exception]]] | None = None,
        batch_size: int = 500,
        return_exceptions: bool,
        progress: Progress = False,
    ) -> list[R | Exception]: ...
    async def map(
        self,
        calls: Iterable[object],
        /,
        *,
        workers: int | None = None,
        batch: Callable[[list[Any]], Awaitable[Any]] | None = None,
        batch_size: int = 500,
        return_exceptions: bool = False,
        progress: Progress = False,
    ) -> list[Any]:
        """As `Memoized.map`; ``workers`` are tasks, and ``batch`` is an ``async def``."""
        return await amapped(self, calls, Options(workers, batch, batch_size, return_exceptions, progress))

    async def explain(
        self: AsyncMemoized[Callable[P, Awaitable[R]]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Explanation:
        """As `Memoized.explain`."""
        return await self._memo.engine.arun(explain(self._invocation(args, kwargs)))  # type: ignore[no-any-return]
