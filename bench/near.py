"""A near hit: no round trip, against memoizers that keep everything in the process and share it with nobody."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
import timeit
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import redis_memo

from .measure import Bench, fitted, turns
from .results import OURS, Kind, Record
from .subjects import TTL

PART = "near"
QUANTITY = "near hit"
LRU, CACHEBOX = "functools.lru_cache", "cachebox"
KINDS: dict[str, Kind] = {OURS: "ours", LRU: "limit", CACHEBOX: "limit"}
ONE, POSITIONAL, FOUR = "one argument", "two arguments", "four arguments"
KEYWORD, MIXED, LEFT_OUT = "two keywords", "one argument and a keyword", "one argument, a default left out"
METHOD, WAITS, DICT = "a method", "`async def`", "a small dict"
PLAIN = (ONE, POSITIONAL, FOUR, KEYWORD, MIXED, LEFT_OUT)
"""Cases of functions that return what cannot be changed."""

Decorate = Callable[[Any], Any]


def price(symbol: str) -> float:
    return len(symbol) * 100.5


def price_at(symbol: str, exchange: str = "NSE") -> float:
    return len(symbol + exchange) * 100.5


def high(symbol: str, exchange: str, interval: str, days: int) -> float:
    return len(symbol + exchange + interval) * 100.5 + days


def quote(symbol: str) -> dict[str, object]:
    return {"symbol": symbol, "last_price": 1530.25, "volume": 1_204_533, "change": -0.4}


async def price_soon(symbol: str) -> float:
    return price(symbol)


def client(decorate: Decorate) -> object:
    class Client:
        @decorate
        def price(self, symbol: str) -> float:
            return len(symbol) * 100.5

    return Client()


class Case(NamedTuple):
    """A call of ``f``, and what that is once something in it is decorated."""

    make: Callable[[Decorate], Any]
    call: str


CASES = {
    ONE: Case(lambda decorate: decorate(price), "f('INFY')"),
    POSITIONAL: Case(lambda decorate: decorate(price_at), "f('INFY', 'BSE')"),
    FOUR: Case(lambda decorate: decorate(high), "f('INFY', 'BSE', 'day', 365)"),
    KEYWORD: Case(lambda decorate: decorate(price_at), "f(symbol='INFY', exchange='BSE')"),
    MIXED: Case(lambda decorate: decorate(price_at), "f('INFY', exchange='BSE')"),
    LEFT_OUT: Case(lambda decorate: decorate(price_at), "f('INFY')"),
    METHOD: Case(client, "f.price('INFY')"),
    WAITS: Case(lambda decorate: decorate(price_soon), "await f('INFY')"),
    DICT: Case(lambda decorate: decorate(quote), "f('INFY')"),
}


def measure(bench: Bench) -> None:
    """Measure the same calls of each, in loops of their own text: a lambda around a call would be most of what is measured."""
    cache = redis_memo.connect(bench.place(0).url)
    for name, case in CASES.items():
        contest = {OURS: _ours(cache, case), LRU: case.make(_lru)}
        if find_spec(CACHEBOX) is not None:  # of those who keep things in the process, the one with the fastest core
            cachebox: Any = import_module(CACHEBOX)
            contest[CACHEBOX] = case.make(cachebox.cached(cachebox.LRUCache(1024)))
        batches = {each: fitted(_loop(made, case.call), bench.scale) for each, made in contest.items()}
        for each, samples in turns(batches, bench.scale).items():
            bench.add(Record(PART, name, QUANTITY, each, KINDS[each], samples))
    cache.close()


def _loop(made: Any, call: str) -> Callable[[int], float]:
    if not call.startswith("await "):
        timer = timeit.Timer(call, globals={"f": made})
        return lambda number: timer.timeit(number) / number
    names: dict[str, Any] = {"f": made, "clock": time.perf_counter}
    text = f"async def took(number):\n began = clock()\n for _ in range(number):\n  {call}\n return clock() - began"
    exec(text, names)  # noqa: S102 - one of the calls above
    return lambda number: asyncio.run(names["took"](number)) / number


def _lru(function: Any) -> Any:
    kept = functools.lru_cache(maxsize=1024)(price if function is price_soon else function)
    if function is not price_soon:
        return kept

    async def by_hand(symbol: str) -> float:  # by itself it would keep the coroutine, which can be awaited once
        return kept(symbol)

    return by_hand


def _ours(cache: Any, case: Case) -> Any:
    memoized: Any = None

    def decorate(function: Any) -> Any:
        nonlocal memoized
        ignore = ("self",) if "self" in inspect.signature(function).parameters else ()
        memoized = redis_memo.redis_cached(namespace="bench", ttl=TTL, cache=cache, near=True, ignore=ignore)(function)
        return memoized

    made = case.make(decorate)
    call = _loop(made, case.call)
    end = time.monotonic() + 10
    while not memoized.cache_info().near_hits:
        call(1)
        if time.monotonic() > end:
            raise RuntimeError("nothing is kept: is the server one that tracks?")
        time.sleep(0.001)
    return made
