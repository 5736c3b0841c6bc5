"""Processes that read what another one changes, each with a near cache; a light module, as each imports it anew."""

from __future__ import annotations

import multiprocessing.queues
from typing import Any

from redis_memo import connect, redis_cached

from .conftest import SECRET, until

__all__ = ["follow", "versioned"]


def versioned(url: str, namespace: str, truth: Any) -> Any:
    """A function with a near cache, whose result is the number in shared memory."""
    cache = connect(url, secret=SECRET, timeout=30)

    @redis_cached(namespace=namespace, name="versioned", ttl=600, cache=cache, near=True)
    def version(symbol: str, exchange: str = "NSE") -> int:
        return int(truth.value)

    return version


def follow(url: str, namespace: str, truth: Any, last: int, found: multiprocessing.queues.Queue[Any]) -> None:
    """Read until the last version is kept here; tell how often an older one came after a newer one."""
    version = versioned(url, namespace, truth)
    until(lambda: (version("INFY"), version.explain("INFY").near)[1], 60)
    found.put("ready")
    seen, back = -1, 0
    while seen < last:
        got = version("INFY")
        back += got < seen
        seen = max(seen, got)
    until(lambda: (version("INFY"), version.explain("INFY").near)[1], 60)
    found.put(back + (version("INFY") != last))
