"""The decorator, and the functions that take a decorated one.

A decorated function stays a function (``async def`` stays a coroutine function) that carries the cache's methods as
attributes; inside a class body it becomes a descriptor (see `_memoized`).
"""

from __future__ import annotations

import difflib
import functools
import inspect
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from ._bounds import EVICTIONS
from ._cache import Cache
from ._call import kind
from ._config import LEFT_OUT, checked_choice, is_plain_function
from ._default import default_cache
from ._function import Memo
from ._handle import METHODS, Handle
from ._memoized import AsyncMemoized, Memoized
from ._source import qualified_name
from .errors import ConfigurationError, MisusedDecorator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
    from datetime import timedelta

    from ._bounds import Eviction
    from ._config import Compression, LeftOut, OnError
    from ._events import CacheInfo, CacheInfoNow
    from ._policy import TTL
    from ._tags import Tags

    Duration: TypeAlias = float | timedelta | str

__all__ = ["cache_info", "check_options", "clear", "handle_of", "invalidate", "invalidate_tags", "redis_cached"]

P = ParamSpec("P")
F = TypeVar("F")
R = TypeVar("R")
T = TypeVar("T")


class _Decorator(Protocol):
    """What ``redis_cached(...)`` returns."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncMemoized[Callable[P, Awaitable[R]]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Memoized[Callable[P, R]]: ...
    @overload
    def __call__(self, function: classmethod[T, P, R], /) -> Memoized[Callable[Concatenate[type[T], P], R]]: ...


def _explained(decorator: F) -> F:
    """Say what to write where Python would only count arguments; type checkers see the signature as it is."""
    known = inspect.signature(decorator).parameters  # type: ignore[arg-type]

    @functools.wraps(decorator)  # type: ignore[arg-type]
    def call(*given: object, **options: object) -> object:
        if not given and "namespace" in options and options.keys() <= known.keys():
            return decorator(**options)  # type: ignore[operator]
        if given and _is_decorated(given[0]):
            problem = f"{_named(given[0])}: redis_cached has to be called before it decorates"
        elif given:
            problem = "redis_cached takes its options by name, and the function after them"
        else:
            _check_options("redis_cached", options, known)
            problem = "redis_cached needs a namespace, which groups functions"
        raise MisusedDecorator(f'{problem}: write @redis_cached(namespace="stock_data", ttl="5m")')

    return call  # type: ignore[return-value]


def _check_options(owner: str, options: Iterable[str], known: Collection[str]) -> None:
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"its options are {', '.join(known)}"
            raise MisusedDecorator(f"{owner} has no option {name!r}; {hint}")


def check_options(owner: type, options: Iterable[str], *own: str, without: Collection[str] = ()) -> None:
    """Refuse what a class that takes options of `redis_cached` does not take, in its own name.

    Args:
        owner: The class.
        options: Names of what it was given.
        *own: Names of what it takes beside them.
        without: What of `redis_cached` it does not take.

    Raises:
        MisusedDecorator: There is no such option.
    """
    shared = (name for name in inspect.signature(redis_cached).parameters if name not in without)
    _check_options(owner.__name__, options, tuple(dict.fromkeys((*own, *shared))))


def _is_decorated(given: object) -> bool:
    return callable(given) or isinstance(given, (classmethod, staticmethod, property, functools.cached_property))


def _named(function: Any) -> str:
    """What a function is called that was given in the place of the options."""
    for inner in ("__func__", "fget", "func"):  # of a class or static method, a property, a partial or cached property
        function = getattr(function, inner, function)
    return qualified_name(function)


@_explained
def redis_cached(
    *,
    namespace: str,
    ttl: TTL | LeftOut = LEFT_OUT,
    name: str | None = None,
    version: str | None = None,
    key: Callable[..., object] | None = None,
    ignore: Collection[str] = (),
    cache_if: Callable[[Any], object] | None = None,
    tags: Tags = (),
    stale: Duration | None = None,
    stale_if_error: Duration | None = None,
    early: float = False,
    soft_timeout: Duration | None = None,
    hard_timeout: Duration | None = None,
    maxsize: int | None = None,
    maxbytes: int | str | None = None,
    evict: Eviction = "lru",
    near: bool | int | str | None = None,
    compress: Compression = "auto",
    on_error: OnError = "compute",
    shards: int = 1,
    cache: Cache | None = None,
) -> _Decorator:
    """Memoize a function in Redis: one result for equal arguments, over all processes, until it expires.

    Works on functions, methods, class methods, static methods and ``async def``. Exceptions are never cached.

    Args:
        namespace: Groups functions, in the keys and for `clear`.
        ttl: Expiry: seconds, a ``timedelta``, ``"5m"``, or a policy such as ``market_aware()``: any callable of a
            `Call`. May be left out where ``configure(ttl=...)`` says one. None keeps a result until it is evicted,
            30 days at most, and needs ``maxsize``, ``maxbytes`` or limits of the namespace.
        name: Identity of the function; default: module and qualified name, and the code where that does not
            identify it (``__main__``, closures, lambdas). Functions of one name share entries, in any process.
        version: Part of the key: a string of yours, or ``"source"`` for the function's own code, so that an edit
            makes new entries.
        key: Function of (some of) the parameters, by name, that returns what identifies a call.
        ignore: Names of parameters that do not change the result.
        cache_if: Function of the result; a false answer means that it is returned and not stored.
        tags: One or several strings by which `invalidate_tags` finds the results; or a function of the finished
            `Call` (its arguments and value) that returns them.
        stale: For so long after its expiry a result is still served, at once, while one caller's process computes it
            anew behind its callers (stale-while-revalidate, RFC 5861). Seconds, a ``timedelta`` or ``"5m"``, as for
            the next three.
        stale_if_error: For so long after its expiry a result is served where computing it anew fails; the function
            is then left alone for as long as a result is fresh, at most 30 s.
        early: Compute hot results anew shortly before they expire, behind their callers: XFetch, with the time that
            computing took. True, or XFetch's beta: above 1 is earlier.
        soft_timeout: Seconds after which a caller gets the result past its expiry instead, where ``stale_if_error``
            kept one; the computation goes on behind it.
        hard_timeout: Seconds after which a caller gets `ComputeTimeout`, or the result past its expiry where there is
            one to fall back on; the computation goes on, and is stored.
            With either of the two a plain function runs in a thread of its own.
        maxsize: How many entries the function has in Redis at most, over all processes; one more evicts another.
        maxbytes: How many bytes they have stored at most: a number, or a string such as ``"512mb"``. A result that is
            larger by itself is returned and not stored.
        evict: Which entry goes: ``"lru"``, the one that was not used for longest; or ``"worth"``, the one that saves
            the least compute time per byte (GreedyDual-Size with frequency).
        near: Keep hits in this process's memory too, and serve them without a round trip while no other process has
            changed them (docs/near.md): True for up to 1,024 entries, or their number (each at most 64 MB together), or
            a size such as ``"256mb"``.
        compress: How entries are compressed: ``"auto"``, by what each part of the value is; ``"fast"``, in less time;
            ``"small"``, into fewer bytes at some ten times the time of storing; None, not at all.
        on_error: ``"compute"``: a store that fails costs the caching, not the call. ``"raise"``: the caller gets
            the `StoreError`.
        shards: Over how many parts of a cluster the function's entries are spread, 1 to 1024, each with an index of
            its own. What takes all arguments goes to one of them; an invalidation by some, or by a tag, to all. With
            another number the function finds other entries, as with another ``version``. Each part is kept within its
            share of ``maxsize`` and ``maxbytes``, rounded down, so that all together are within them.
        cache: A cache made by `connect`; default: the one of `configure`, at each call.

    Returns:
        The decorator.

    Raises:
        ConfigurationError: An argument is wrong, or the function is a generator function.
        MisusedDecorator: It was written without parentheses, or its options without their names; one of those.
    """
    checked_choice("compress", compress, ("auto", "fast", "small", None))
    checked_choice("on_error", on_error, ("compute", "raise"))
    checked_choice("evict", evict, EVICTIONS)
    if cache_if is not None and not is_plain_function(cache_if):
        raise ConfigurationError("cache_if= takes a plain function of the result")
    if cache is not None and not isinstance(cache, Cache):
        raise ConfigurationError("cache= takes what connect() returned")

    def decorate(function: Any) -> Any:
        plain = function.__func__ if isinstance(function, (classmethod, staticmethod)) else function
        memo = Memo(
            _checked(plain),
            namespace=namespace,
            ttl=ttl,
            name=name,
            version=version,
            key=key,
            ignore=ignore,
            cache_if=cache_if,
            tags=tags,
            stale=stale,
            stale_if_error=stale_if_error,
            early=early,
            soft_timeout=soft_timeout,
            hard_timeout=hard_timeout,
            maxsize=maxsize,
            maxbytes=maxbytes,
            evict=evict,
            near=near,
            compress=compress,
            on_error=on_error,
            shards=shards,
            cache=cache,
        )
        handle = AsyncMemoized[Any](memo) if kind(plain) == "async" else Memoized[Any](memo)
        if isinstance(function, classmethod):
            handle._binds = "owner"  # noqa: SLF001
        elif isinstance(function, staticmethod):
            handle._binds = "nothing"  # noqa: SLF001
        elif not _in_class_body(plain):
            return _as_function(handle, plain)
        return handle

    return decorate


def _checked(function: Any) -> Callable[..., Any]:
    if isinstance(function, (property, functools.cached_property)):
        raise ConfigurationError("redis_cached goes below @property: it decorates the function, not the property")
    if isinstance(function, type) or not callable(function):
        raise ConfigurationError("redis_cached decorates functions and methods, not classes or other objects")
    if "generator" in kind(function):
        raise ConfigurationError(
            "redis_cached cannot keep what a generator function returns: reading it uses it up. "
            "Return a list, or decorate the function that makes one item"
        )
    return function  # type: ignore[no-any-return]


def _in_class_body(function: Callable[..., Any]) -> bool:
    if not isinstance(function, FunctionType):
        return False
    scope, _, _ = function.__qualname__.rpartition(".")
    return bool(scope) and not scope.endswith("<locals>")


def _as_function(handle: Memoized[Any] | AsyncMemoized[Any], function: Any) -> Any:
    """A true function: inspect, pickle, pydantic, FastAPI and mock all tell it from other callables."""
    call: Any = handle.quick
    if call is None:
        call = _async_caller(handle) if isinstance(handle, AsyncMemoized) else _caller(handle)
    named: Any = function
    while isinstance(named, functools.partial):
        named = named.func
    if hasattr(function, "__globals__"):
        # Where annotations are strings, frameworks look their names up here.
        bare, call = call, FunctionType(call.__code__, function.__globals__, closure=call.__closure__)
        call.__defaults__, call.__kwdefaults__ = bare.__defaults__, bare.__kwdefaults__
    if not hasattr(named, "__qualname__"):  # an object that can be called
        named = type(named)
    call.__name__, call.__qualname__, call.__module__ = named.__name__, named.__qualname__, named.__module__
    functools.update_wrapper(call, function)
    for name in METHODS:
        setattr(call, name, getattr(handle, name))
    handle.stand_behind()
    call.__redis_memo__ = handle
    return call


def _caller(handle: Memoized[Any]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return handle(*args, **kwargs)

    return call


def _async_caller(handle: AsyncMemoized[Any]) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await handle(*args, **kwargs)

    return call


def handle_of(function: Any) -> Any:
    """The handle of a decorated function, also where other decorators stand above.

    Raises:
        TypeError: It is not decorated.
    """
    found: Any = function
    for _ in range(64):
        if isinstance(found, Handle):
            return found
        handle = getattr(found, "__redis_memo__", None)
        if isinstance(handle, Handle):
            return handle
        if isinstance(found, MethodType):
            inner = handle_of(found.__func__)
            return inner.__get__(found.__self__)
        if isinstance(found, functools.partial) or not hasattr(found, "__wrapped__"):
            break
        found = found.__wrapped__
    raise TypeError(f"{getattr(function, '__qualname__', type(function).__name__)} is not decorated with redis_cached")


@overload
def cache_info(function: AsyncMemoized[Any], /, *, everywhere: Literal[False] = ...) -> CacheInfoNow: ...
@overload
def cache_info(function: AsyncMemoized[Any], /, *, everywhere: Literal[True]) -> Coroutine[Any, Any, CacheInfo]: ...
@overload
def cache_info(function: AsyncMemoized[Any], /, *, everywhere: bool) -> Awaitable[CacheInfo]: ...
@overload
def cache_info(function: Callable[..., Any], /, *, everywhere: bool = ...) -> CacheInfo: ...
def cache_info(function: Any, /, *, everywhere: bool = False) -> Any:
    """As the function's own ``cache_info()``."""
    return handle_of(function).cache_info(everywhere=everywhere)


@overload
def invalidate(target: AsyncMemoized[Any], /, **args: object) -> Coroutine[Any, Any, int]: ...
@overload
def invalidate(target: Callable[..., Any] | str, /, **args: object) -> int: ...
def invalidate(target: Any, /, *by_position: object, **args: object) -> Any:
    """Delete the entries of calls with these arguments, or all of a namespace; revoke what is being computed.

    After it returns, no call that starts later gets a value computed before it.

    Args:
        target: A decorated function; or the name of a namespace of the default cache, which takes no arguments.
        *by_position: Refused, as arguments are told by their names.
        **args: Arguments by name: all of them mean one call, some of them every call that has them, none every call.

    Returns:
        How many entries went; awaitable for an ``async def``.

    Raises:
        TypeError: It is neither, or the function has no parameter of such a name, or one was given without its name.
        StoreError: Redis could not be asked, and so the entries still stand.
    """
    if isinstance(target, str):
        if args or by_position:
            raise TypeError("a namespace is invalidated as a whole: the functions in it have arguments, it has none")
        return default_cache().clear(target)
    return handle_of(target).invalidate(*by_position, **args)


@overload
def invalidate_tags(target: AsyncMemoized[Any], /, *tags: str) -> Coroutine[Any, Any, int]: ...
@overload
def invalidate_tags(target: Callable[..., Any] | str, /, *tags: str) -> int: ...
def invalidate_tags(target: Any, /, *tags: str) -> Any:
    """Delete the entries that have any of these tags, of a function or of a whole namespace of the default cache.

    What is being computed and may turn out to have such a tag is revoked, as with `invalidate`.

    Args:
        target: A decorated function, or the name of a namespace.
        *tags: As given to ``tags=``, or returned by it.

    Returns:
        How many entries went; awaitable for an ``async def``.

    Raises:
        TypeError: The target is neither, or there is no tag.
        ConfigurationError: A tag is no string, or empty.
        StoreError: Redis could not be asked, and so entries still stand.
    """
    if isinstance(target, str):
        return default_cache().invalidate_tags(target, *tags)
    return handle_of(target).invalidate_tags(*tags)


@overload
def clear(target: AsyncMemoized[Any], /) -> Coroutine[Any, Any, int]: ...
@overload
def clear(target: Callable[..., Any] | str, /) -> int: ...
def clear(target: Any, /) -> Any:
    """As `invalidate` without arguments: every entry of a function, or of a whole namespace of the default cache.

    Args:
        target: A decorated function, or the name of a namespace.

    Returns:
        How many entries went; awaitable for an ``async def``.

    Raises:
        TypeError: It is neither.
        StoreError: Redis could not be asked, and so the entries still stand.
    """
    return invalidate(target)
