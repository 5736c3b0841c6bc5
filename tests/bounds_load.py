"""Many processes on one function with ``maxsize``: what the bound comes to, and what it costs in hits."""

from __future__ import annotations

import multiprocessing
import random
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from redis_memo import Cache, connect, redis_cached

SECRET = "a secret that only the tests know"


@dataclass(frozen=True)
class Load:
    """What came of it.

    Attributes:
        most: Entries that there ever were at once, as far as somebody who asked again and again could see.
        entries: Entries at the end.
        hits: Of all calls of the second half.
        perfect: What a perfect LRU has on the same calls, taken in turns; 0 where each key was called once.
    """

    most: int
    entries: int
    hits: int
    perfect: int


def zipf(number: int, most: int, skew: float, seed: int) -> list[int]:
    """Calls of which some are much more frequent than others."""
    chance = random.Random(seed)
    return chance.choices(range(most), [1 / (each + 1) ** skew for each in range(most)], k=number)


def perfect_lru(trace: list[int], size: int, start: int) -> int:
    """Hits of a perfect LRU from ``start`` on."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for at, number in enumerate(trace):
        if number in held:
            held.move_to_end(number)
            hits += at >= start
        else:
            held[number] = None
            if len(held) > size:
                held.popitem(last=False)
    return hits


def _function(cache: Cache, namespace: str, maxsize: int) -> Any:
    @redis_cached(namespace=namespace, name="load", ttl=None, maxsize=maxsize, cache=cache)
    def f(number: int) -> int:
        return number

    return f


def _caller(url: str, namespace: str, maxsize: int, numbers: list[int], halfway: Any, hits: Any) -> None:
    cache = connect(url, secret=SECRET, timeout=30)
    f = _function(cache, namespace, maxsize)
    half = len(numbers) // 2
    for number in numbers[:half]:
        f(number)
    halfway.wait()
    before = f.cache_info().hits
    for number in numbers[half:]:
        f(number)
    hits.put(f.cache_info().hits - before)
    cache.close()


def run(url: str, processes: int, trace: list[int], maxsize: int) -> Load:
    """Call what the trace says, in processes that take turns at it."""
    context = multiprocessing.get_context("spawn")
    namespace = f"load-{uuid.uuid4().hex[:8]}"
    halfway, hits = context.Barrier(processes), context.SimpleQueue()
    crew = [
        context.Process(target=_caller, args=(url, namespace, maxsize, trace[at::processes], halfway, hits))
        for at in range(processes)
    ]
    for each in crew:
        each.start()
    cache = connect(url, secret=SECRET, timeout=30)
    f = _function(cache, namespace, maxsize)
    most = 0
    while any(each.is_alive() for each in crew):
        most = max(most, f.cache_info().currsize or 0)
    for each in crew:
        each.join()
        assert each.exitcode == 0
    total = sum(hits.get() for _ in crew)
    load = Load(most, f.cache_info().currsize or 0, total, perfect_lru(trace, maxsize, len(trace) // 2))
    cache.clear(namespace)
    cache.close()
    return load
