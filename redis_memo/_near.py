"""What a process keeps of one function's entries, so that a hit needs no round trip: bounded, and coherent.

Readers take no lock: the function that `_near_call` generates looks for itself, in tables that lead from a call's
arguments to an iterator, whose next value is a hit's, and counts it. Everything that changes a store holds its lock.

Which entry makes room is SIEVE's choice (Zhang et al., "SIEVE is Simpler than LRU", NSDI '24): a hand moves from the
oldest entry to the newest, spares what was hit since it last came by, and takes the first that was not. A hit moves
nothing, so it needs no lock; and a scan, whose entries are never hit, pushes out only itself.

What may be read is decided by one moment, `Tables.until`, at which the first of the entries ends or the store's `Gate`
shuts: that is the tracker's word that no invalidation has been missed (`_tracking`). Every hit compares it with the
clock of the machine: a process that was stopped for an hour wakes up with nothing to serve. The first call after it
drops what has ended, and finds the next one. So that there are few of them, entries end at multiples of GRAIN.

What may be kept is decided once: a ticket, taken before the entry is read, is void when anything came between that
may have changed it (Facebook's leases, "Scaling Memcache at Facebook", NSDI '13, within one process).
"""

from __future__ import annotations

import itertools
import operator
import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from . import _clock as clock
from . import _ops as ops
from ._bounds import size_of
from ._near_call import Tables
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._near_call import Paths

__all__ = ["CHANGES", "ELSEWHERE", "Gate", "Near", "NearEntry", "Room", "changed", "near_of", "room"]

ENTRIES: Final = 1024
SIZE: Final = 64 << 20
LARGEST_SHARE: Final = 4  # an entry larger than this part of the bound would cost too many others their place
OVERHEAD: Final = 520  # bytes of an entry beside its value
BUCKETS: Final = 64
GRAIN: Final = 0.125  # seconds; a power of two, so that its multiples are exact

ELSEWHERE: Final = object()
"""What `Near.find` returns where there is no value to serve."""

CHANGES: Final = frozenset({ops.Drop, ops.DropMatching, ops.Put, ops.Fill, ops.Enrolled})
"""Operations after which `changed` is to be called, whether they succeeded or not."""


class Room(NamedTuple):
    """How much a store may hold: entries, or None for any number, and bytes."""

    entries: int | None
    size: int


def room(near: object) -> Room | None:
    """What ``near=`` means: True, a number of entries, or a size such as "64mb"; None where it is off.

    Raises:
        ConfigurationError: It is none of these.
    """
    if near is None or near is False:
        return None
    if near is True:
        return Room(ENTRIES, SIZE)
    if isinstance(near, int) and near > 0:
        return Room(near, SIZE)
    if isinstance(near, str) and not near.strip().isdigit():  # "64": entries, or bytes?
        size = size_of(near)
        if size:
            return Room(None, size)
    raise ConfigurationError('near= takes True, a number of entries such as 10_000, or a size such as "64mb"')


class Gate(Protocol):
    """The tracker's word on whether what is kept may be served.

    Attributes:
        until: Seconds since 1970 until when it may.
        longest: Seconds that an entry may be kept at most.
    """

    @property
    def until(self) -> float: ...
    @property
    def longest(self) -> float: ...

    def covers(self, prefix: str) -> bool:
        """Whether it would hear of a change below this prefix, or another shard's, from now on."""


class _Again(itertools.repeat):  # type: ignore[type-arg]
    """One value again and again, counting down."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        # cloudpickle takes functions by value, and with a generated one what its table holds: nothing for elsewhere.
        return iter, ((),)


class _Copies(map):  # type: ignore[type-arg]
    """A copy of one value again and again."""

    __slots__ = ()
    __reduce__ = _Again.__reduce__


class NearEntry:
    """One entry of a store.

    Args:
        value: The value, or what ``copy`` makes it of.
        copy: Makes a value of its own for each caller; None where it cannot be changed and so is everybody's.
        size: Bytes of the value.
        deadline: Seconds since 1970 until when it may be served.
        seconds: What computing it took.
        tokens: As the entry has them.

    Attributes:
        values: An iterator that never ends; what it yields is a hit's, which it counts.
    """

    __slots__ = (
        "_count",
        "_start",
        "deadline",
        "digest",
        "newer",
        "older",
        "paths",
        "prefix",
        "seconds",
        "seen",
        "size",
        "tokens",
        "told",
        "values",
    )  # fmt: skip

    def __init__(
        self,
        value: Any,
        copy: Callable[[Any], Any] | None,
        size: int,
        *,
        deadline: float,
        seconds: float,
        tokens: bytes,
    ) -> None:
        # Of all that counts and fetches a value, the `next` of a C iterator is what CPython does fastest; and nothing
        # can come between the two.
        self._count = _Again(value, sys.maxsize)
        self.values: Any = self._count if copy is None else _Copies(copy, self._count)
        self.size = size + OVERHEAD
        self.deadline = deadline
        self.seconds = seconds
        self.tokens = tokens
        self._start = self.seen = self.told = self.left
        self.digest = self.prefix = ""
        self.paths: Paths | None = None
        self.newer: NearEntry | None = None
        self.older: NearEntry | None = None

    @property
    def left(self) -> int:
        """How often it can still be served: less with every hit."""
        return operator.length_hint(self._count)

    @property
    def hits(self) -> int:
        """How often it was served since `start_counting`."""
        return self._start - self.left

    def start_counting(self) -> None:
        """Count from zero."""
        self._start = self.seen = self.told = self.left


class Near:
    """The entries of one decorated function that this process keeps.

    Args:
        limit: How much it may hold.

    Attributes:
        limit: The same.
        tables: Where the generated function looks.
    """

    def __init__(self, limit: Room) -> None:
        self.limit = limit
        self.tables = Tables()
        self._prefixes: tuple[str, ...] = ("",)
        self._gate: Gate | None = None
        self._fresh_start()
        _all.add(self)

    def _fresh_start(self) -> None:
        self._lock = threading.RLock()  # what the collector calls within a call may call itself
        self._entries: dict[str, NearEntry] = {}
        self._ends: dict[float, set[NearEntry]] = {}
        self._newest: NearEntry | None = None
        self._oldest: NearEntry | None = None
        self._hand: NearEntry | None = None
        self._generation = 0
        self._epochs = [0] * BUCKETS
        self._gone_hits, self._gone_seconds = 0, 0.0
        self._gate = None
        self._empty()

    def _empty(self) -> None:
        self._entries.clear()
        self._ends.clear()
        self.tables.clear()
        self._newest = self._oldest = self._hand = None
        self._size = 0

    def attach(self, prefixes: tuple[str, ...], gate: Gate) -> bool:
        """Serve what lies below these prefixes, one for each shard, while this gate is open; False if that was so.

        What another one let in goes.
        """
        if gate is self._gate and (prefixes is self._prefixes or prefixes == self._prefixes):
            return False
        self.clear()
        with self._lock:
            self._prefixes, self._gate = prefixes, gate
            with _registry_lock:
                for gone in [each for each, found in _by_prefix.items() if not found]:  # functions that are no more
                    del _by_prefix[gone]
                for prefix in prefixes:
                    _by_prefix.setdefault(prefix, weakref.WeakSet()).add(self)
        return True

    # Reading.

    def find(self, digest: str) -> Any:
        """The caller's own value, counted; `ELSEWHERE` where none may be served now."""
        now, gate, kept = time.time(), self._gate, self._entries.get(digest)
        if kept is None or gate is None or now >= gate.until:
            return ELSEWHERE
        if now >= self.tables.until:
            with self._lock:
                for end in [each for each in self._ends if each <= now]:
                    for ended in list(self._ends[end]):
                        self._unlink(ended)
                self._let(gate)
        if now >= kept.deadline:
            return ELSEWHERE
        try:
            return next(kept.values)
        except Exception:  # noqa: BLE001 - bytes that cannot be read any more, no memory: Redis has it too
            self.forget(digest)
            return ELSEWHERE

    def _let(self, gate: Gate) -> None:
        """Let what is in the tables be served for as long as the gate says by now, and all of it may be."""
        self.tables.until = min(gate.until, min(self._ends, default=0.0))

    def holds(self, digest: str) -> bool:
        """Whether a call would be served from here; counts nothing."""
        kept, gate = self._entries.get(digest), self._gate
        return kept is not None and gate is not None and time.time() < min(kept.deadline, gate.until)

    def totals(self) -> tuple[int, float]:
        """How many hits there were, and what computing their values took."""
        with self._lock:
            live = [(kept.hits, kept.seconds) for kept in self._entries.values()]
            hits, seconds = self._gone_hits, self._gone_seconds
        return hits + sum(n for n, _ in live), seconds + sum(n * each for n, each in live)

    def _sum_up(self, kept: NearEntry) -> None:
        """Add what one was hit that nobody finds any more, nor is about to count: see `_near_call`."""
        hits = kept.hits
        self._gone_hits += hits
        self._gone_seconds += hits * kept.seconds

    def visited(self, prefix: str) -> list[str]:
        """The digests of the entries of one shard that were hit since this was last asked and are still kept."""
        found = []
        with self._lock:
            for kept in self._entries.values():
                if kept.left != kept.told and kept.prefix == prefix:
                    kept.told = kept.left
                    found.append(kept.digest)
        return found

    # Filling.

    def ticket(self, digest: str) -> tuple[int, int] | None:
        """To be taken before the entry is read, and given to `fill`; None while nothing may be kept."""
        gate = self._gate
        if gate is None or clock.is_set() or not gate.covers(self._prefixes[0]):
            return None
        return self._generation, self._epochs[_bucket(digest)]

    def longest(self) -> float:
        """Seconds that an entry may be kept."""
        gate = self._gate
        return 0.0 if gate is None else gate.longest

    def fill(self, entry: str, ticket: tuple[int, int], kept: NearEntry, paths: Paths | None) -> bool:
        """Keep an entry unless something came between; False if it did, it is too large, or is about to end.

        Args:
            entry: The key of the call's entry, which ends with the digest.
            ticket: Taken before it was read.
            kept: The entry.
            paths: Where the generated function looks for it, if it can.
        """
        now = time.time()
        kept.deadline = kept.deadline // GRAIN * GRAIN
        if kept.size > self.limit.size // LARGEST_SHARE or kept.deadline <= now:
            return False
        prefix, digest = entry[: -ops.DIGEST], entry[-ops.DIGEST :]
        with self._lock:
            gate = self._gate
            if gate is None or ticket != (self._generation, self._epochs[_bucket(digest)]):
                return False
            before = self._entries.get(digest)
            if before is not None:
                self._unlink(before)
            most = self.limit.entries
            while self._entries and (
                self._size + kept.size > self.limit.size or (most is not None and len(self._entries) >= most)
            ):
                self._evict()
            kept.prefix = self._prefixes[0] if prefix == self._prefixes[0] else prefix
            kept.digest, kept.paths = digest, paths
            kept.older = self._newest
            if self._newest is not None:
                self._newest.newer = kept
            self._newest = kept
            if self._oldest is None:
                self._oldest = kept
            self._size += kept.size
            self._entries[digest] = kept
            ends = self._ends.get(kept.deadline)
            if ends is None:
                ends = self._ends[kept.deadline] = set()
            ends.add(kept)
            if self.tables.until > now:
                self.tables.until = min(self.tables.until, kept.deadline)
            else:
                self._let(gate)
            if paths is not None:
                self.tables.put(paths, kept.values)
        return True

    def _evict(self) -> None:
        kept = self._hand or self._oldest
        while kept is not None and kept.left != kept.seen:
            kept.seen = kept.left
            kept = kept.newer or self._oldest
        if kept is not None:
            self._hand = kept
            self._unlink(kept)  # which moves the hand on

    def _unlink(self, kept: NearEntry) -> None:
        if self._hand is kept:
            self._hand = kept.newer
        if kept.newer is not None:
            kept.newer.older = kept.older
        else:
            self._newest = kept.older
        if kept.older is not None:
            kept.older.newer = kept.newer
        else:
            self._oldest = kept.newer
        kept.newer = kept.older = None
        del self._entries[kept.digest]
        self._size -= kept.size
        ends = self._ends[kept.deadline]
        ends.remove(kept)
        if not ends:
            del self._ends[kept.deadline]
        if kept.paths is not None:
            self.tables.take(kept.paths)
        self._sum_up(kept)

    # Dropping. From the return of each of these on, nothing that was read before is found, nor kept.

    def forget(self, digest: str) -> None:
        """Drop one entry."""
        with self._lock:
            self._epochs[_bucket(digest)] += 1
            kept = self._entries.get(digest)
            if kept is not None:
                self._unlink(kept)

    def forget_matching(self, tokens: bytes) -> None:
        """Drop the entries that have all of these tokens; with none, all."""
        wanted = _split(tokens)
        if not wanted:
            self.clear()
            return
        with self._lock:
            self._generation += 1
            for kept in [each for each in self._entries.values() if wanted <= _split(each.tokens)]:
                self._unlink(kept)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._generation += 1
            gone = list(self._entries.values())
            self._empty()
            for kept in gone:
                kept.newer = kept.older = None
                self._sum_up(kept)

    def start_counting(self) -> None:
        """Count from zero."""
        with self._lock:
            self._gone_hits, self._gone_seconds = 0, 0.0
            for kept in self._entries.values():
                kept.start_counting()


def _bucket(digest: str) -> int:
    return int(digest[:2], 16) % BUCKETS


def _split(tokens: bytes) -> set[bytes]:
    return {tokens[at : at + 8] for at in range(0, len(tokens), 8)}


# Whatever this process does to entries is heard by all of its stores at once, whichever connection it went over.

_all: weakref.WeakSet[Near] = weakref.WeakSet()
_by_prefix: dict[str, weakref.WeakSet[Near]] = {}
_registry_lock = threading.RLock()


def near_of(prefix: str) -> list[Near]:
    """The stores of a function: one for each time that it was decorated."""
    with _registry_lock:
        return list(_by_prefix.get(prefix, ()))


def changed(op: Any) -> None:
    """Apply an operation of this process to what it keeps; also where it failed, and may have been carried out."""
    match op:
        case ops.Drop(place) | ops.Put(place) | ops.Fill(place):
            for near in near_of(place.prefix):
                near.forget(place.digest)
        case ops.DropMatching(prefix, tokens):
            for near in near_of(prefix):
                near.forget_matching(tokens)
        case ops.Enrolled(registry):
            # A namespace is cleared, or its tags are, which may fail at this step: then no other follows.
            namespace = registry.removesuffix("}:functions") + ":"
            with _registry_lock:
                meant = [near for prefix, found in _by_prefix.items() if prefix.startswith(namespace) for near in found]
            for near in meant:
                near.clear()


def _clear_all() -> None:
    for near in list(_all):
        near.clear()


clock.on_change(_clear_all)


def _after_fork() -> None:
    global _registry_lock  # noqa: PLW0603 - a thread of the parent's may have held it
    _registry_lock = threading.RLock()
    for near in list(_all):
        near._fresh_start()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
