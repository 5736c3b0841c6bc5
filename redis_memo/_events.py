"""What happened, counted: the numbers behind ``cache_info()``."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["CacheInfo", "CacheInfoNow", "Stats"]


class CacheInfo(NamedTuple):
    """What one decorated function's cache did in this process; begins like ``functools``' ``CacheInfo``.

    Attributes:
        hits: Calls answered without running the function: from the cache, or by waiting for who ran it.
        misses: Calls that ran the function, or were told of its failure by the caller that ran it for them.
        maxsize: Bound on the number of entries, or None.
        currsize: Entries in Redis now, written by any process; None when Redis did not tell.
        near_hits: Hits answered from this process's memory.
        stale_hits: Results served past their soft expiry; among the hits, but for calls that ran the function in vain.
        errors: Operations that Redis did not carry out.
        evictions: Entries removed to keep within a bound.
        refused: Results that were returned but not stored (``cache_if``, a type that needs pickle without a
            secret, an expiry of zero, an invalidation that came first).
        unreadable: Entries that were damaged, foreign, newer or wrongly signed, and so counted as misses.
        bytes_stored: Bytes written to Redis.
        bytes_saved: Bytes that compression kept from being written.
        seconds_saved: Compute time that hits did not spend, by each entry's own recorded time.
        refreshes: Runs of the function behind its callers (``stale=``, ``early=``); they count as no miss.
        breaker: ``"open"`` while Redis does not answer and is not asked, else ``"closed"``.
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


class CacheInfoNow(CacheInfo):
    """The counters of an ``async def`` at once; awaited, with ``currsize`` read from Redis too."""

    _complete: object

    def __await__(self) -> Generator[object, object, CacheInfo]:
        """Read ``currsize`` from Redis and return the full numbers."""
        return self._complete(self).__await__()  # type: ignore[operator, no-any-return]


class Stats:
    """Counters of one function in one process."""

    __slots__ = ("_lock", *CacheInfo._fields)

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
        self._lock = threading.Lock()
        self.clear()

    def add(self, field: str, amount: float = 1) -> None:
        """Add ``amount`` to the counter ``field``."""
        with self._lock:
            setattr(self, field, getattr(self, field) + amount)

    def hit(self, seconds: float, *, stale: bool = False) -> None:
        """Count a hit that saved ``seconds`` of computing."""
        with self._lock:
            self.hits += 1
            self.stale_hits += stale
            self.seconds_saved += seconds

    def clear(self) -> None:
        """Start from zero."""
        for field, value in CacheInfo._field_defaults.items():
            setattr(self, field, value)

    def info(self, breaker: str, currsize: int | None = None, near: tuple[int, float] | None = None) -> CacheInfo:
        """The counters as a tuple, with the hits in this process's memory and the seconds that these saved."""
        with self._lock:
            values = {field: getattr(self, field) for field in CacheInfo._fields}
        if near is not None:
            values["hits"] += near[0]
            values["near_hits"] = near[0]
            values["seconds_saved"] += near[1]
        return CacheInfo(**{**values, "breaker": breaker, "currsize": currsize})
