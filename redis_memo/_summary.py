"""What a `CacheManager` tells of itself: counters, the server's facts, the market's status; all of it fits JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from . import market

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._events import CacheInfo

__all__ = ["ManagerStats", "MarketStatus", "ServerFacts", "TypeStats", "summary"]


class TypeStats(TypedDict):
    """What happened to one kind of data in this process, and how many entries Redis has of it now."""

    hits: int
    misses: int
    entries: int | None
    seconds_saved: float
    bytes_stored: int
    bytes_saved: int
    evictions: int
    errors: int
    refused: int


class ServerFacts(TypedDict, total=False):
    """What the server says of itself; only ``available`` and ``where`` while it does not answer.

    Of a cluster's masters, of which ``masters`` is the number, together; ``uptime_seconds`` is the shortest of theirs.
    """

    available: bool
    where: str
    masters: int
    name: str
    version: str
    uptime_seconds: int
    used_memory: int
    maxmemory: int
    maxmemory_policy: str
    evicted_keys: int
    expired_keys: int


class MarketStatus(TypedDict):
    """An exchange now; moments are ISO 8601 with the exchange's offset."""

    exchange: str
    phase: str
    next_open: str
    next_close: str


class ManagerStats(TypedDict):
    """What `CacheManager.get_stats` returns: plain values, that JSON can hold.

    The counters are those of this process, over all kinds; ``entries`` is None while Redis does not answer.
    """

    hits: int
    misses: int
    hit_rate: float
    entries: int | None
    seconds_saved: float
    bytes_stored: int
    bytes_saved: int
    evictions: int
    errors: int
    refused: int
    types: dict[str, TypeStats]
    server: ServerFacts
    market: MarketStatus


def summary(
    infos: Mapping[str, CacheInfo], where: str, told: Sequence[Mapping[str, str]] | None, exchange: str
) -> ManagerStats:
    """Put it together.

    Args:
        infos: Counters by kind of data.
        where: The server, as it may be shown.
        told: What each of its masters says of itself, or None where one does not answer.
        exchange: Whose status is told.
    """
    types: dict[str, TypeStats] = {
        kind: {
            "hits": info.hits,
            "misses": info.misses,
            "entries": info.currsize,
            "seconds_saved": info.seconds_saved,
            "bytes_stored": info.bytes_stored,
            "bytes_saved": info.bytes_saved,
            "evictions": info.evictions,
            "errors": info.errors,
            "refused": info.refused,
        }
        for kind, info in infos.items()
    }
    every = list(infos.values())
    hits, misses = sum(info.hits for info in every), sum(info.misses for info in every)
    counts = [info.currsize for info in every if info.currsize is not None]
    return {
        "hits": hits,
        "misses": misses,
        "hit_rate": hits / (hits + misses) if hits + misses else 0.0,
        "entries": sum(counts) if len(counts) == len(every) else None,
        "seconds_saved": sum(info.seconds_saved for info in every),
        "bytes_stored": sum(info.bytes_stored for info in every),
        "bytes_saved": sum(info.bytes_saved for info in every),
        "evictions": sum(info.evictions for info in every),
        "errors": sum(info.errors for info in every),
        "refused": sum(info.refused for info in every),
        "types": types,
        "server": _facts(where, told),
        "market": _market(exchange),
    }


def _facts(where: str, told: Sequence[Mapping[str, str]] | None) -> ServerFacts:
    if told is None:
        return {"available": False, "where": where}

    def numbers(name: str) -> list[int]:
        texts = [each.get(name, "") for each in told]
        return [int(text) if text.isdigit() else 0 for text in texts]

    def texts(*names: str) -> str:
        """What each of them says under the first of these names that it has."""
        return ", ".join(dict.fromkeys(next((each[name] for name in names if name in each), "") for each in told))

    limits = numbers("maxmemory")
    facts: ServerFacts = {
        "available": True,
        "where": where,
        "name": "valkey" if "valkey_version" in told[0] else "redis",
        "version": texts("valkey_version", "redis_version"),
        "uptime_seconds": min(numbers("uptime_in_seconds")),
        "used_memory": sum(numbers("used_memory")),
        "maxmemory": sum(limits) if all(limits) else 0,
        "maxmemory_policy": texts("maxmemory_policy"),
        "evicted_keys": sum(numbers("evicted_keys")),
        "expired_keys": sum(numbers("expired_keys")),
    }
    if len(told) > 1:
        facts["masters"] = len(told)
    return facts


def _market(exchange: str) -> MarketStatus:
    return {
        "exchange": exchange,
        "phase": market.phase(exchange),
        "next_open": market.next_open(exchange).isoformat(),
        "next_close": market.next_close(exchange).isoformat(),
    }
