"""What a decorated function can do: `Memoized`, and its async twin `AsyncMemoized`.

Where a function stands in a class body, one of these takes its place: a descriptor, so that
``client.fetch.peek("INFY")`` knows its ``client``. Elsewhere it stays behind a true function that carries its methods.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from enum import Enum
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, TypeVar, overload

from . import _core as core
from . import _ops as ops
from ._as_of import call_token, moment_digest, moment_token
from ._clock import moment
from ._events import CacheInfo, CacheInfoNow
from ._explain import Explanation, explain
from ._invocation import Invocation, Memo
from ._tags import some_tags
from .errors import ConfigurationError, KeyingError, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence
    from typing import Self

__all__ = ["METHODS", "MISSING", "AsyncMemoized", "Handle", "Memoized", "Missing"]

# Checkers see a decorated function by the type of the function itself: unlike a pair of ParamSpec and result, it lets
# both mypy and pyright find the first parameter, which methods and class methods bind.
F = TypeVar("F", bound="Callable[..., Any]")
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

METHODS = (
    "cache_info", "cache_clear", "cache_key", "cache_parameters", "explain", "invalidate", "invalidate_tags", "peek",
    "peek_columns", "refresh", "store",
)  # fmt: skip

# Until 3.12, classmethod asked what it wraps to bind itself; since then it makes a bound method of it.
_CLASSMETHOD_BINDS_BY_DESCRIPTOR = sys.version_info < (3, 13)


class Missing(Enum):
    """The type of `MISSING`: an enum, because type checkers then understand ``is MISSING``."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing.MISSING
"""What ``peek`` returns where nothing is stored; false in a condition, and unlike None never a result."""


class Handle:
    """What `Memoized` and `AsyncMemoized` have in common: all that needs no server.

    Args:
        of: A decorated function; or the handle of one, to be bound.
        *bound: What it is bound to, the object or class. As for ``types.MethodType``, whose order of arguments
            ``weakref.WeakMethod`` relies on.
    """

    _memo: Memo
    _bound: tuple[Any, ...]
    _binds: str
    _placed: bool
    _behind: bool

    def __init__(self, of: Memo | Handle, /, *bound: object) -> None:
        if isinstance(of, Handle):
            self._bind(of, *bound)
            return
        functools.update_wrapper(self, of.function)  # type: ignore[arg-type]
        for name in METHODS:
            # What other decorators have hung on the function (lru_cache's cache_clear, dogpile's invalidate) is theirs.
            self.__dict__.pop(name, None)
        self._memo = of
        self._binds = "instance"
        self._placed = False  # whether a class has taken it, or a function stands before it
        self._behind = False
        self._bound = ()

    def _bind(self, of: Handle, instance: object) -> None:
        own = self.__dict__
        own.update(of.__dict__)
        own["__wrapped__"] = MethodType(of._memo.function, instance)
        own["__func__"] = of
        own["__self__"] = instance
        own["_bound"] = (instance,)

    if not TYPE_CHECKING:  # a checker would let every misspelt name pass

        def __getattr__(self, name: str) -> Any:
            # __code__, __defaults__ and the like: with them inspect takes this for a function, iscoroutinefunction
            # of Python 3.11 included.
            if name.startswith("_") and "__wrapped__" in self.__dict__:
                return getattr(self.__dict__["__wrapped__"], name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _apparent_class(self) -> type:
        # While a class is being made, what looks at its body must see a function. pydantic takes other objects for
        # fields that lack an annotation.
        return type(self) if self._placed or self._bound else FunctionType

    __class__ = property(_apparent_class)

    def __set_name__(self, owner: type, name: str) -> None:
        self._placed = True

    def stand_behind(self) -> None:
        """Be what a true function calls, and no descriptor."""
        self._placed = self._behind = True
        self._binds = "nothing"

    def __repr__(self) -> str:
        return f"<memoized {self._memo.shown}>"

    def __eq__(self, other: object) -> bool:
        # As methods: each access makes a new one, equal to the last.
        if self is other or not self._bound or not isinstance(other, Handle):
            return self is other
        return self._memo is other._memo and bool(other._bound) and self._bound[0] is other._bound[0]

    def __hash__(self) -> int:
        return hash((id(self._memo), *map(id, self._bound)))

    def __reduce__(self) -> Any:
        # Found again by name where it is unpickled, as functions are; a bound one through its object.
        if self._bound:
            return getattr, (self._bound[0], self._memo.function.__name__)
        if self._behind and self._memo.function.__module__ == "__main__":
            return _behind, (type(self), self._memo)
        return self._memo.function.__qualname__

    def __memo_key__(self) -> object:
        # As an argument of another decorated function: what was decorated, and its object, tell it from others.
        return self.__dict__["__wrapped__"]

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        binds = self._binds
        if binds == "owner":
            instance = owner if owner is not None else type(instance)
        if instance is None or binds == "nothing" or self._bound:
            return self
        bound = object.__new__(type(self))  # each access of a method comes through here
        bound._bind(self, instance)
        return bound

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation:
        return Invocation(self._memo, (*self._bound, *args) if self._bound else args, kwargs)

    def _invocation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation:
        """As `_call`, for the methods: a call gets its class from whoever bound it, these would miss it."""
        if not self._bound and not self._placed and self._is_under_classmethod():
            raise TypeError(
                f"{self._memo.shown}: Python 3.13 and later do not tell what stands below @classmethod to which class "
                "it belongs; put @redis_cached above @classmethod"
            )
        return self._call(args, kwargs)

    def _is_under_classmethod(self) -> bool:
        if _CLASSMETHOD_BINDS_BY_DESCRIPTOR or self._binds != "instance":
            return False
        found: Any = sys.modules.get(self._memo.function.__module__)
        *scopes, name = self._memo.function.__qualname__.split(".")
        for scope in scopes:
            found = getattr(found, scope, None)
        return isinstance(inspect.getattr_static(found, name, None), classmethod)

    def _invalidation(self, args: dict[str, Any]) -> ops.Flow:
        memo = self._memo
        first = memo.callkey.binder.names[0] if self._bound else None
        # An object that is ignored, or that arrives in *args, tells no entries apart: all that match are meant.
        if first is None or first in memo.ignore or first == memo.callkey.binder.var_positional:
            match = memo.callkey.match(args)
        elif first in args:
            raise TypeError(f"{self._memo.shown} got multiple values for argument {first!r}")
        else:
            try:
                match = memo.callkey.match({first: self._bound[0], **args})
            except KeyingError as error:
                # Where key= takes its place it needs no key of its own, and then its entries do not tell of it.
                if memo.key is None or error.parameter != first:
                    raise
                match = memo.callkey.match(args)
        if match.digest is not None:
            return _drop_call(memo.prefix, match.digest)
        return core.drop_matching(memo.prefix, b"".join(match.tokens) + _moment_only())

    def _untagging(self, tags: tuple[str, ...]) -> ops.Flow:
        return core.drop_tagged(self._memo.prefix, [tag + _moment_only() for tag in some_tags(tags)])

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
        try:
            ttl = memo.lifetime()
        except ConfigurationError:  # none is stated, here or anywhere: the first call will say so
            ttl = None
        return {
            "namespace": memo.namespace,
            "ttl": ttl,
            "name": memo.name,
            "version": memo.version,
            "key": memo.key,
            "ignore": memo.ignore,
            "cache_if": memo.cache_if,
            "tags": memo.given_tags,
            "stale": memo.stale or None,
            "stale_if_error": memo.stale_if_error or None,
            "early": memo.early,
            "soft_timeout": memo.patience,
            "hard_timeout": memo.limit,
            "compress": memo.compress,
            "on_error": memo.on_error,
            "cache": memo.cache,
            "maxsize": None,
        }


def _behind(kind: type[Handle], memo: Memo) -> Handle:
    handle = kind(memo)
    handle.stand_behind()
    return handle


def _drop_call(prefix: str, digest: str) -> ops.Flow:
    """Delete one call's entry: the moment's within `as_of`, outside of it all that there are."""
    t = moment()
    if t is not None:
        return (yield ops.Drop(ops.Place(prefix, moment_digest(digest, t), b"")))
    gone: int = yield ops.Drop(ops.Place(prefix, digest, b""))
    return gone + (yield from core.drop_matching(prefix, call_token(digest)))


def _moment_only() -> bytes:
    """Within `as_of`, the token that keeps an invalidation from going further than the moment's own entries."""
    t = moment()
    return b"" if t is None else moment_token(t)


def _answer(op: ops.Op) -> ops.Flow:
    return (yield op)


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
            count = memo.cache.run(_answer(ops.Count(memo.prefix)))
        return memo.info(count)

    def cache_clear(self) -> int:
        """Delete all entries of the function, revoke what is being computed, and start the counters anew.

        Returns:
            How many entries went.

        Raises:
            StoreError: Redis could not be asked.
        """
        gone = int(self._memo.cache.run(core.drop_matching(self._memo.prefix, _moment_only())))
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
        return self._memo.cache.run(core.peek(call, call.entry, MISSING))  # type: ignore[no-any-return]

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
        return self._memo.cache.run(core.peek_columns(call, call.entry, columns, MISSING))  # type: ignore[no-any-return]

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
            count = await memo.cache.arun(_answer(ops.Count(memo.prefix)))
        return memo.info(count)

    async def cache_clear(self) -> int:
        """As `Memoized.cache_clear`."""
        gone = int(await self._memo.cache.arun(core.drop_matching(self._memo.prefix, _moment_only())))
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
        return await self._memo.cache.arun(core.peek(call, call.entry, MISSING))  # type: ignore[no-any-return]

    async def peek_columns(
        self: AsyncMemoized[Callable[P, Awaitable[R]]],
        columns: Sequence[Hashable],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R | Missing:
        """As `Memoized.peek_columns`."""
        call = self._invocation(args, kwargs)
        return await self._memo.cache.arun(core.peek_columns(call, call.entry, columns, MISSING))  # type: ignore[no-any-return]

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
