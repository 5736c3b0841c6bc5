"""What happened, counted: the numbers behind ``cache_info()``."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

__all__ = ["CacheInfo", "CacheInfoNow", "Stats", "info_of"]


class CacheInfo(NamedTuple):
    """What one decorated function's cache did in this process; begins like ``functools``' ``CacheInfo``.

    Attributes:
        hits: Calls answered without running the function: from the cache, or by waiting for the caller that ran it.
        misses: Calls that ran the function, or were told of its failure by the caller that ran it for them.
        maxsize: Bound on the number of entries, or None.
        currsize: Entries in Redis now, written by any process; None when Redis did not tell.
        near_hits: Hits answered from this process's memory.
        stale_hits: Results served past their soft expiry; among the hits, but for calls that ran the function in vain.
        errors: Operations that Redis did not carry out.
        evictions: Entries that this process removed to keep within a bound; what Redis itself evicts is not counted.
        refused: Results that were returned but not stored (``cache_if``, a type that needs pickle without a
            secret, an expiry of zero, an invalidation that came first, an argument that was changed meanwhile).
        unreadable: Entries that were damaged, foreign, newer or wrongly signed, and so counted as misses.
        bytes_stored: Bytes written to Redis.
        bytes_saved: Bytes that compression kept from being written.
        seconds_saved: Compute time that hits did not spend, by each entry's own recorded time.
        refreshes: Runs of the function behind its callers (``stale=``, ``early=``); they count as no miss.
        breaker: ``"open"`` while Redis does not answer and is not asked, else ``"closed"``.
        maxbytes: Bound on the bytes stored, or None.
        currbytes: Bytes of the entries in Redis now, written by any process; None where there is no bound, or Redis
            did not tell.
    """

    hits: int = 0
    misses: int = 0
    maxsize: int | None = None
    currsize: int | None = None
    near_hits: int = 0
    stale_hits: int = 0
    errors: int = 0
    evictions: int = 0
    refused: int = 0
    unreadable: int = 0
    bytes_stored: int = 0
    bytes_saved: int = 0
    seconds_saved: float = 0.0
    refreshes: int = 0
    breaker: str = "closed"
    maxbytes: int | None = None
    currbytes: int | None = None


COUNTERS = tuple(name for name, value in CacheInfo._field_defaults.items() if isinstance(value, (int, float)))


class CacheInfoNow(CacheInfo):
    """The counters of an ``async def`` at once; awaited, with ``currsize`` read from Redis too."""

    _complete: object

    def __await__(self) -> Generator[object, object, CacheInfo]:
        """Read ``currsize`` from Redis and return the full numbers."""
        return self._complete(self).__await__()  # type: ignore[operator, no-any-return]


class Beside(Protocol):
    """Counts hits, too."""

    def totals(self) -> tuple[int, float]:
        """How many hits there were, and how many seconds they saved."""

    def start_counting(self) -> None:
        """Start from zero."""


class Stats:
    """Counters of one function in one process.

    Attributes:
        beside: Counts the hits that are too fast to be counted here.
    """

    __slots__ = ("__weakref__", "_lock", "_told", "beside", *COUNTERS)

    beside: Beside | None

    hits: int
    misses: int
    near_hits: int
    stale_hits: int
    errors: int
    evictions: int
    refused: int
    unreadable: int
    bytes_stored: int
    bytes_saved: int
    seconds_saved: float
    refreshes: int

    def __init__(self) -> None:
        self._lock = threading.RLock()  # what the collector calls within a call may call itself
        self._told: dict[str, float] = {}
        self.beside = None
        self.clear()

    def add(self, field: str, amount: float = 1) -> None:
        """Add ``amount`` to the counter ``field``."""
        with self._lock:
            setattr(self, field, getattr(self, field) + amount)

    def hit(self, seconds: float, *, stale: bool = False, number: int = 1) -> None:
        """Count a hit, or several, that saved ``seconds`` of computing."""
        with self._lock:
            self.hits += number
            self.stale_hits += stale
            self.seconds_saved += seconds

    def clear(self) -> None:
        """Start from zero."""
        with self._lock:
            for field in COUNTERS:
                setattr(self, field, CacheInfo._field_defaults[field])
            self._told = {}
            if self.beside is not None:
                self.beside.start_counting()

    def counted(self) -> dict[str, float]:
        """The counters by name."""
        with self._lock:
            return self._counted()

    def _counted(self) -> dict[str, float]:
        values = {field: getattr(self, field) for field in COUNTERS}
        if self.beside is not None:
            hits, seconds = self.beside.totals()
            values["hits"] += hits
            values["near_hits"] += hits
            values["seconds_saved"] += seconds
        return values

    # What other processes are told of it.

    def untold(self) -> None:
        """What was counted until now is not to be told."""
        with self._lock:
            self._told = self._counted()

    def take(self) -> dict[str, float]:
        """What was counted since the last time."""
        with self._lock:
            values = self._counted()
            found = {field: value - self._told.get(field, 0) for field, value in values.items()}
            self._told = values
        return {field: amount for field, amount in found.items() if amount}

    def give_back(self, taken: dict[str, float]) -> None:
        """What was taken could not be told."""
        with self._lock:
            for field, amount in taken.items():
                self._told[field] = self._told.get(field, 0) - amount


def info_of(counted: Mapping[str, float], **current: object) -> CacheInfo:
    """Counters as a tuple, with what is no counter."""
    whole = {name: counted.get(name, 0) for name in COUNTERS}
    numbers = {name: float(value) if name == "seconds_saved" else int(value) for name, value in whole.items()}
    return CacheInfo(**{**numbers, **current})  # type: ignore[arg-type]
