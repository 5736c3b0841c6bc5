"""What a `CacheManager` tells of itself: counters, the server's facts, the market's status; all of it fits JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from . import market

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """What the server says of itself; only ``available`` and ``where`` while it does not answer."""

    available: bool
    where: str
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


def summary(infos: Mapping[str, CacheInfo], where: str, told: Mapping[str, str] | None, exchange: str) -> ManagerStats:
    """Put it together.

    Args:
        infos: Counters by kind of data.
        where: The server, as it may be shown.
        told: What it says of itself, or None where it does not answer.
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


def _facts(where: str, told: Mapping[str, str] | None) -> ServerFacts:
    if told is None:
        return {"available": False, "where": where}

    def number(name: str) -> int:
        text = told.get(name, "")
        return int(text) if text.isdigit() else 0

    valkey = told.get("valkey_version")
    return {
        "available": True,
        "where": where,
        "name": "valkey" if valkey else "redis",
        "version": valkey or told.get("redis_version", ""),
        "uptime_seconds": number("uptime_in_seconds"),
        "used_memory": number("used_memory"),
        "maxmemory": number("maxmemory"),
        "maxmemory_policy": told.get("maxmemory_policy", ""),
        "evicted_keys": number("evicted_keys"),
        "expired_keys": number("expired_keys"),
    }


def _market(exchange: str) -> MarketStatus:
    return {
        "exchange": exchange,
        "phase": market.phase(exchange),
        "next_open": market.next_open(exchange).isoformat(),
        "next_close": market.next_close(exchange).isoformat(),
    }
