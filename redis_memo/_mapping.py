"""`CacheDict`: a dict in Redis, for the ``self.data_cache = {}`` of a service.

An item is the entry of a function of its key, so that all which holds for results (keys, codecs, signatures, leases,
expiry, counters) holds for items. What a function does not need is the list of its keys: each entry of a mapping has
its key, sealed like a value, in the function's index, in the order of insertion.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from . import _entries as entries
from . import _ops as ops
from ._codecs import dumps, loads
from ._config import LEFT_OUT
from ._envelope import Stamp
from ._equal_keys import one_of_equals
from ._handle import MISSING, drop_call, moment_only
from ._map import side_by_side
from ._memo import check_options, handle_of, redis_cached
from ._near_invocation import call_of
from ._policy import as_policy
from .errors import ConfigurationError, KeyingError, StoreError, UnreadableEntry, UnsupportedType

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from ._config import LeftOut, OnError
    from ._events import CacheInfo
    from ._handle import Handle
    from ._invocation import Invocation
    from ._policy import TTL, TTLPolicy

__all__ = ["CacheDict"]

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")
P = ParamSpec("P")

FOR_FUNCTIONS = ("key", "ignore", "tags", "stale", "stale_if_error", "early", "soft_timeout", "hard_timeout")
AT_ONCE, VALUES_AT_ONCE = 500, 50  # keys, and values, read by one round trip
LONGEST_KEY = 64 * 1024
READ_BACK = 1.0  # seconds for which a thread can read what it assigned, and what could not be stored
_NO_DEFAULT: Any = object()
_NOTHING: Any = (None, None, 0.0)
_ALWAYS = Stamp(0.0, 0.0, 0.0, 0.0)


class CacheDict(MutableMapping[K, V]):
    """A dict in Redis: one for all processes that name it, with an expiry for each item.

    Items are looked up, as in a dict, by equality: ``1`` and ``1.0`` are one key. Values come back as what they were,
    and as the caller's own: a change to one changes nothing that is stored until it is assigned again.
    While Redis cannot be reached the mapping is empty: what is read is missing, what is assigned is lost, but that its
    thread can read it back for a second; both are counted and logged. What is to be deleted raises `StoreError`.

    Args:
        namespace: Groups caches, in the keys and for `clear`. Dicts of one namespace and name are the same dict.
        ttl: Expiry of each item, from when it was assigned: as for `redis_cached`. May be left out where
            ``configure(ttl=...)`` says one, or ``maxsize=`` or ``maxbytes=`` bounds the dict.
        name: Tells several dicts of a namespace apart.
        on_error: ``"compute"``: a store that fails is a miss. ``"raise"``: the caller gets the `StoreError`.
        cache: A cache made by `connect`; default: the one of `configure`, at each use.
        **options: Further options of `redis_cached`: ``maxsize``, ``maxbytes``, ``evict``, ``near``, ``version`` ...

    Raises:
        ConfigurationError: An argument is wrong.
    """

    _handle: Handle
    _made: tuple[str, dict[str, Any]] | Callable[..., Any]  # how to make it anew, or of which function it is

    def __init__(
        self,
        namespace: str,
        *,
        ttl: TTL | LeftOut = LEFT_OUT,
        name: str = "CacheDict",
        on_error: OnError = "compute",
        **options: Any,
    ) -> None:
        if ttl is LEFT_OUT and (options.get("maxsize") or options.get("maxbytes")):
            ttl = None
        options = {"ttl": ttl, "name": name, "on_error": on_error, **options}
        if wrong := [option for option in FOR_FUNCTIONS if option in options]:
            raise ConfigurationError(f"CacheDict has no {wrong[0]}=: it is for functions")
        check_options(CacheDict, options, without=FOR_FUNCTIONS)

        def item(key: object) -> object:
            raise KeyError(key)

        item.__module__, item.__qualname__ = "redis_memo", f"CacheDict({namespace!r})"
        decorate: Any = redis_cached(namespace=namespace, key=one_of_equals, ignore=("key",), **options)
        self._made = (namespace, options)
        self._show(handle_of(decorate(item)))
        self._memo.check_lifetime()

    @classmethod
    def of(cls, function: Callable[..., Any]) -> CacheDict[Any, Any]:
        """The results of a decorated function as a mapping: both name the same entries.

        Args:
            function: Decorated with `redis_cached`, with positional parameters only. With one parameter, its argument
                is the key; with several, a tuple of arguments is. Keys are told apart as the function tells calls
                apart: ``1`` and ``1.0`` are two.

        Returns:
            The mapping. It iterates over what processes have stored that have made it too.

        Raises:
            ConfigurationError: The function has other parameters, or is a method.
            TypeError: It is not decorated.
        """
        handle = handle_of(function)
        memo = handle._memo  # noqa: SLF001
        kinds = {each.kind for each in signature(memo.function).parameters.values()}
        if handle._bound or not kinds or not kinds <= {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}:  # noqa: SLF001
            said = "it takes a function (no method) that has parameters, all of which can be given by position"
            raise ConfigurationError(f"CacheDict.of({memo.shown}): {said}")
        if memo.shards != 1:
            raise ConfigurationError(f"CacheDict.of({memo.shown}): each of its shards has an order of its own")
        mapping: CacheDict[Any, Any] = cls.__new__(cls)
        mapping._made = function
        mapping._show(handle)
        return mapping

    def _show(self, handle: Handle) -> None:
        self._handle = handle
        self._unstored = threading.local()
        memo = self._memo = handle._memo  # noqa: SLF001
        memo.key_in_mapping = _sealed_key
        if isinstance(self._made, tuple):
            memo.without_store = "until it answers, the dict is empty, and what is assigned is lost"

    # One item.

    def _call(self, key: object, policy: TTLPolicy | None = None) -> Invocation:
        if isinstance(self._made, tuple):
            hash(key)  # an unhashable key is refused as a dict refuses it
            args: tuple[Any, ...] = (key,)
        else:
            several = len(self._memo.callkey.binder.names) > 1
            if several and not isinstance(key, tuple):
                raise TypeError(f"{self!r}: the function has several parameters, so a key is a tuple of arguments")
            args = cast("tuple[Any, ...]", key) if several else (key,)
        try:
            return call_of(self._memo, args, {}, policy)
        except KeyingError as error:
            raise KeyingError(
                f"{self._memo.shown}: the key cannot be told by value: {error.reason}", type_name=error.type_name
            ) from None

    def _run(self, flow: ops.Flow, compute: Callable[[], Any] | None = None) -> Any:
        return self._memo.engine.run(flow, compute, self._memo.namespace)

    def _read(self, key: object, default: Any) -> Any:
        call = self._call(key)
        value = self._run(call.looking_up(MISSING))
        if value is not MISSING:
            return value
        # Much code looks for a key, assigns it, and reads it back: that goes well where Redis did not take it.
        entry, assigned, until = getattr(self._unstored, "item", _NOTHING)
        return assigned if entry == call.entry and time.monotonic() < until else default

    def __getitem__(self, key: K) -> V:
        value = self._read(key, MISSING)
        return self.__missing__(key) if value is MISSING else value

    def __missing__(self, key: K) -> V:
        """What ``d[key]`` returns where there is no such item; for subclasses, as of dict."""
        raise KeyError(key)

    @overload
    def get(self, key: K, default: None = None, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V | D, /) -> V | D: ...
    def get(self, key: Any, default: Any = None, /) -> Any:
        """The value, or ``default`` where there is none."""
        return self._read(key, default)

    def __contains__(self, key: object) -> bool:
        call = self._call(key)
        return bool(self._run(entries.contains(call, call.locate())))

    def __setitem__(self, key: K, value: V) -> None:
        self.set(key, value)

    def set(self, key: K, value: V, *, ttl: TTL = None) -> bool:
        """Assign an item, and say whether it was stored.

        Args:
            key: As of a dict.
            value: What the item is from now on.
            ttl: The item's own expiry, in the place of the dict's.

        Returns:
            False if Redis did not take it, its type cannot be stored, or the expiry is zero.
        """
        call = self._call(key, None if ttl is None else as_policy(ttl))
        stored = bool(self._run(call.storing(value)))
        self._unstored.item = _NOTHING if stored else (call.entry, value, time.monotonic() + READ_BACK)
        return stored

    def __delitem__(self, key: K) -> None:
        call = self._call(key)
        self._unstored.item = _NOTHING
        if not self._run(drop_call(self._memo.prefix, call.plain)):
            raise KeyError(key)

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, default: V | D, /) -> V | D: ...
    def pop(self, key: Any, default: Any = _NO_DEFAULT, /) -> Any:
        """Delete an item and return its value; of several that pop it together, in whatever process, one gets it.

        Raises:
            KeyError: There is none, and no default.
            StoreError: Redis could not be asked.
        """
        call = self._call(key)
        self._unstored.item = _NOTHING
        value = self._run(entries.take(call, call.locate(), MISSING))
        if value is MISSING and default is _NO_DEFAULT:
            raise KeyError(key)
        return default if value is MISSING else value

    def popitem(self, last: bool = True) -> tuple[K, V]:
        """Delete the item that was inserted last, or first, and return it; each goes to one caller.

        Raises:
            KeyError: There is none.
            StoreError: Redis could not be asked.
        """
        if not isinstance(last, bool):
            raise TypeError("popitem() takes last=True or last=False")
        for key in self._keys(back=last, at_once=1):
            call = self._call(key)
            value = self._run(entries.take(call, call.locate(), MISSING))
            if value is not MISSING:
                return key, value
        raise KeyError("popitem(): the dict is empty")

    def move_to_end(self, key: K, last: bool = True) -> None:
        """Make an item the last, or the first; its expiry stays.

        Raises:
            KeyError: There is none.
        """
        call = self._call(key)
        try:
            moved = self._run(_answer(ops.MoveKey(call.locate(), last)))
        except StoreError as error:
            self._memo.failed(error)
            return
        if not moved:
            raise KeyError(key)

    @overload
    def setdefault(self: CacheDict[K, D | None], key: K, default: None = None, /) -> D | None: ...
    @overload
    def setdefault(self, key: K, default: V, /) -> V: ...
    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        """The value, after ``default`` was assigned where there was none: the same for all processes that do so."""
        return self.get_or_compute(key, lambda: default)

    def get_or_compute(self, key: K, function: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs) -> V:
        """The value, or what ``function(*args, **kwargs)`` returns, which is assigned: it runs once for all processes.

        Args:
            key: As of a dict.
            function: What computes it; the others that miss the key meanwhile wait for it.
            *args: For the function.
            **kwargs: For the function.

        Raises:
            Exception: What the function raises.
        """
        return self._run(self._call(key).flow(), lambda: function(*args, **kwargs))  # type: ignore[no-any-return]

    # All items.

    def _keys(self, *, back: bool = False, quiet: bool = False, at_once: int | None = None) -> Iterator[K]:
        memo = self._memo
        at_once = at_once or AT_ONCE
        after = last = ""
        while True:
            try:
                after, last, rows = self._run(_answer(ops.Keys(memo.prefix, at_once, after, last, back)))
                sealer = memo.engine.sealer
            except StoreError as error:
                if not quiet:
                    raise
                memo.failed(error)
                return
            for digest, sealed in rows:
                try:
                    opened = sealer.open(f"{memo.prefix}{digest}:key", sealed)
                    key = loads(opened.meta, opened.buffers, trusted=opened.trusted)
                    # Of other moments (`as_of`) there are other entries with the same key.
                    if self._call(key).digest == digest:
                        yield key
                except UnreadableEntry:
                    memo.complain("key", "a key could not be read, and is left out")
            if not after:
                return
            at_once = min(at_once * 10, AT_ONCE)

    def _items(self) -> Iterator[tuple[K, V]]:
        keys = self._keys(quiet=True)
        while some := list(itertools.islice(keys, VALUES_AT_ONCE)):
            flows = [entries.peek(call, call.entry, MISSING) for call in map(self._call, some)]
            found = side_by_side(self._memo.engine, self._memo.namespace, flows)
            # What is missing was deleted, or expired, since the keys were read.
            yield from (item for item in zip(some, found, strict=True) if item[1] is not MISSING)

    def __iter__(self) -> Iterator[K]:
        return self._keys(quiet=True)

    def __reversed__(self) -> Iterator[K]:
        return self._keys(back=True, quiet=True)

    def __len__(self) -> int:
        try:
            return int(self._run(_answer(ops.Count(self._memo.prefix))))
        except StoreError as error:
            self._memo.failed(error)
            return 0

    def items(self) -> ItemsView[K, V]:
        """A view of the items; iterating over it reads each value."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """A view of the values; iterating over it reads each of them."""
        return _Values(self)

    def clear(self) -> None:
        """Delete all items, and revoke what is being computed for one.

        Raises:
            StoreError: Redis could not be asked.
        """
        self._unstored.item = _NOTHING
        self._run(entries.drop_matching(self._memo.prefixes, moment_only()))

    def copy(self) -> dict[K, V]:
        """All items as they are now, in a dict of this process."""
        return dict(self._items())

    __copy__ = copy

    def __deepcopy__(self, _: object) -> dict[K, V]:
        return self.copy()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CacheDict):
            memo, others = self._memo, other._memo
            if memo.prefix == others.prefix and memo.engine is others.engine:
                return True
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.copy() == dict(other.items())

    __hash__ = None  # type: ignore[assignment] # as of dict

    def __or__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return self.copy() | dict(other) if isinstance(other, Mapping) else NotImplemented  # type: ignore[redundant-expr]

    def __ror__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(other) | self.copy() if isinstance(other, Mapping) else NotImplemented  # type: ignore[redundant-expr]

    def __ior__(  # type: ignore[misc] # `|` makes a dict of this process, `|=` changes this one
        self, other: Mapping[K, V] | Iterable[tuple[K, V]]
    ) -> Self:
        self.update(other)
        return self

    def __repr__(self) -> str:
        name = "" if self._memo.name in (None, "CacheDict") else f" name={self._memo.name!r}"
        return f"<{type(self).__name__} {self._memo.namespace!r}{name} in Redis>"

    def __reduce__(self) -> Any:
        # A reference: whoever unpickles it has the same dict, by the default cache there.
        if isinstance(self._made, tuple):
            return _again, (type(self), *self._made)
        return _again_of, (type(self), self._made)

    # What is known of it.

    def cache_info(self) -> CacheInfo:
        """Hits, misses and the rest in this process; ``currsize`` is the number of items."""
        used = None
        with contextlib.suppress(StoreError):
            used = self._run(_answer(ops.Usage(self._memo.prefix)))
        return self._memo.info(used)

    def cache_key(self, key: K) -> str:
        """The Redis key of an item."""
        return self._call(key).entry

    @property
    def ttl(self) -> TTLPolicy:
        """The expiry of an item, as a policy."""
        return self._memo.lifetime()

    @property
    def maxsize(self) -> int | None:
        """Bound on the number of items, or None."""
        return self._memo.info().maxsize

    @property
    def currsize(self) -> int:
        """Number of items, as `len`."""
        return len(self)

    # From a task.

    async def _arun(self, flow: ops.Flow, compute: Callable[[], Awaitable[Any]] | None = None) -> Any:
        return await self._memo.engine.arun(flow, compute, self._memo.namespace)

    async def aget(self, key: K, default: Any = None, /) -> Any:
        """As `get`, from a task."""
        call = self._call(key)
        return await self._arun(call.looking_up(default))

    async def aset(self, key: K, value: V, *, ttl: TTL = None) -> bool:
        """As `set`, from a task."""
        call = self._call(key, None if ttl is None else as_policy(ttl))
        return bool(await self._arun(call.storing(value)))

    async def apop(self, key: K, default: Any = _NO_DEFAULT, /) -> Any:
        """As `pop`, from a task."""
        call = self._call(key)
        value = await self._arun(entries.take(call, call.locate(), MISSING))
        if value is MISSING and default is _NO_DEFAULT:
            raise KeyError(key)
        return default if value is MISSING else value

    async def aget_or_compute(
        self, key: K, function: Callable[P, Awaitable[V]], /, *args: P.args, **kwargs: P.kwargs
    ) -> V:
        """As `get_or_compute`, with an ``async def``."""

        async def compute() -> V:
            return await function(*args, **kwargs)

        return cast("V", await self._arun(self._call(key).flow(), compute))


class _Items(ItemsView[K, V]):
    """Those of a mapping may expire while they are read: what is gone is left out."""

    _mapping: CacheDict[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._items()  # noqa: SLF001


class _Values(ValuesView[V]):
    _mapping: CacheDict[Any, V]

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping._items())  # noqa: SLF001

    def __contains__(self, value: object) -> bool:
        return any(each is value or each == value for each in self)


def _answer(op: ops.Op) -> ops.Flow:
    return (yield op)


def _sealed_key(call: Invocation, entry: str) -> bytes:
    """The key of a call in its mapping, sealed under the entry's name, so that it can be moved to no other."""
    values = tuple(call.memo.callkey.binder.arguments(call.values).values())
    sealer = call.memo.engine.sealer
    payload = dumps(values[0] if len(values) == 1 else values, allow_pickle=sealer.may_pickle)
    sealed, _ = sealer.seal(f"{entry}:key", payload.meta, payload.buffers, pickled=payload.pickled, stamp=_ALWAYS)
    if not isinstance(sealed, bytes) or len(sealed) > LONGEST_KEY:
        raise UnsupportedType("a key of a mapping that is larger than 64 KB")
    return sealed


def _again(cls: type[CacheDict[Any, Any]], namespace: str, options: dict[str, Any]) -> CacheDict[Any, Any]:
    mapping = cls.__new__(cls)
    CacheDict.__init__(mapping, namespace, **options)
    return mapping


def _again_of(cls: type[CacheDict[Any, Any]], function: Callable[..., Any]) -> CacheDict[Any, Any]:
    return cls.of(function)
