"""A near hit: no round trip, against memoizers that keep everything in the process and share it with nobody."""

from __future__ import annotations

import functools
import time
import timeit
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import redis_memo

from .measure import Bench, fitted, turns
from .results import OURS, Kind, Record
from .subjects import TTL

PART = "near"
QUANTITY = "near hit"
LRU, CACHEBOX = "functools.lru_cache", "cachebox"
KINDS: dict[str, Kind] = {OURS: "ours", LRU: "limit", CACHEBOX: "limit"}
ONE, POSITIONAL, KEYWORD, MIXED = "one argument", "two arguments", "two keywords", "one argument and a keyword"


def price(symbol: str) -> float:
    return len(symbol) * 100.5


def price_at(symbol: str, exchange: str = "NSE") -> float:
    return len(symbol + exchange) * 100.5


CASES: dict[str, tuple[Callable[..., float], str]] = {
    ONE: (price, "f('INFY')"),
    POSITIONAL: (price_at, "f('INFY', 'BSE')"),
    KEYWORD: (price_at, "f(symbol='INFY', exchange='BSE')"),
    MIXED: (price_at, "f('INFY', exchange='BSE')"),
}


def measure(bench: Bench) -> None:
    """Measure the same calls of each, in loops of their own text: a lambda around a call would be most of what is measured."""
    cache = redis_memo.connect(bench.place(0).url)
    for case, (function, call) in CASES.items():
        contest = {OURS: _ours(cache, function, call), LRU: functools.lru_cache(maxsize=1024)(function)}
        if find_spec(CACHEBOX) is not None:  # of those who keep things in the process, the one with the fastest core
            cachebox: Any = import_module(CACHEBOX)
            contest[CACHEBOX] = cachebox.cached(cachebox.LRUCache(1024))(function)
        batches = {name: fitted(_loop(memoized, call), bench.scale) for name, memoized in contest.items()}
        for name, samples in turns(batches, bench.scale).items():
            bench.add(Record(PART, case, QUANTITY, name, KINDS[name], samples))
    cache.close()


def _loop(memoized: Any, call: str) -> Callable[[int], float]:
    timer = timeit.Timer(call, globals={"f": memoized})
    return lambda number: timer.timeit(number) / number


def _ours(cache: Any, function: Callable[..., float], call: str) -> Any:
    memoized: Any = redis_memo.redis_cached(namespace="bench", ttl=TTL, cache=cache, near=True)(function)
    end = time.monotonic() + 10
    while not memoized.cache_info().near_hits:
        eval(call, {"f": memoized})  # noqa: S307 - one of the calls above
        if time.monotonic() > end:
            raise RuntimeError("nothing is kept: is the server one that tracks?")
        time.sleep(0.001)
    return memoized
