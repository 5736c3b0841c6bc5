"""A hit of a small value: how long it takes, in the middle and at the slow end; and the policy that every miss asks."""

from __future__ import annotations

import datetime as dt
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import redis.asyncio

from redis_memo import Call, market_aware, redis_cached, ttl

from .functions import PAIRS
from .measure import Bench, batched, turns
from .peers import PEERS
from .results import OURS, Record
from .subjects import AsyncSubject, ByHand, Ours, OursAsync, OursEmbedded, OursSigned, Pickle, Subject

PART = "hits"
CASE = "small dict"
POLICY, RANGE, UNTIL, IMPORT = "after the close", "a range of candles", "until 08:30", "import"
LIMITS = {POLICY: "empty function", RANGE: "empty function", UNTIL: "empty function", IMPORT: "import redis"}
BOUNDED, UNBOUNDED, TRACKED = "LRU overhead", "without bounds", "a hit"
TRACKED_AT_ONCE = 1000  # hits of a batch, in which a thread tells of them
MEDIAN, SLOW = "hit, median", "hit, 99 %"


class BareGet(ByHand):
    """A GET of our own entry, and nothing done with it."""

    name = "bare GET"
    kind = "limit"

    def decorate(self, function: Callable[..., Any], name: str) -> Any:
        keys = _Stored(self, function, name)
        return lambda *args: self.client.get(keys[args])


class BareGetAsync(AsyncSubject):
    """The same on an event loop."""

    name = "bare GET, async"
    kind = "limit"

    def open(self) -> None:
        self.client = redis.asyncio.Redis(port=self.place.port, db=self.place.db)

    def decorate(self, function: Callable[..., Any], name: str) -> Any:  # noqa: ARG002
        keys = _Stored(self, PAIRS[name][0], name)

        async def get(*args: Any) -> Any:
            return await self.client.get(keys[args])

        return get

    async def aclose(self) -> None:
        await self.client.aclose()


class _Stored(dict[tuple[Any, ...], str]):
    """Keys of our entries, by arguments; an entry is stored when its key is first asked for."""

    def __init__(self, subject: Subject, function: Callable[..., Any], name: str) -> None:
        self._memoized: Any = Ours(subject.place).decorate(function, name)

    def __missing__(self, args: tuple[Any, ...]) -> str:
        self._memoized(*args)
        self[args] = self._memoized.cache_key(*args)
        return self[args]


class LruCache(Subject):
    """In this process, one object for everybody."""

    name = "functools.lru_cache"
    kind = "limit"

    def open(self) -> None:
        """There is nothing to connect to."""

    def decorate(self, function: Callable[..., Any], name: str) -> Any:  # noqa: ARG002
        return functools.lru_cache(maxsize=1024)(function)


SUBJECTS: list[type[Subject]] = [
    BareGet, Ours, OursSigned, OursEmbedded, *PEERS, Pickle, BareGetAsync, OursAsync, LruCache,
]  # fmt: skip


def measure(bench: Bench) -> None:
    """Measure hits of ``quote("INFY")``, each by itself, and the policy that decides how long a result lives."""
    subjects = [kind(bench.place(db)) for db, kind in enumerate(SUBJECTS)]
    said = turns({subject.name: _spread(subject, bench.scale.calls) for subject in subjects}, bench.scale.longer(4))
    for subject in subjects:
        for nth, quantity in enumerate((MEDIAN, SLOW)):
            samples = [both[nth] for both in said[subject.name]]
            bench.add(Record(PART, CASE, quantity, subject.name, subject.kind, samples))
        subject.close()
    _tracking(bench)
    _policies(bench)


def _spread(subject: Subject, calls: int) -> Callable[[], tuple[float, float]]:
    memoized = subject.memoize("quote")
    subject.call(memoized, "INFY")

    def spread() -> tuple[float, float]:
        middle, slow = np.quantile(subject.latencies(memoized, "INFY", number=calls), [0.5, 0.99])
        return float(middle), float(slow)

    return spread


def _tracking(bench: Bench) -> None:
    """A hit of a function with bounds, against one without: uses are noted, and told by a thread meanwhile."""
    subject = Ours(bench.place(0))
    number = TRACKED_AT_ONCE if bench.scale.least > 1 else 20

    def hits(**bounds: Any) -> Callable[[], float]:
        @redis_cached(namespace="bench", name=f"tracked {bounds}", ttl=600, cache=subject.cache, **bounds)
        def quote(symbol: str) -> dict[str, object]:
            return PAIRS["quote"][0](symbol)

        symbols = [f"SYMBOL{each}" for each in range(number)]
        for symbol in symbols:
            quote(symbol)

        def batch() -> float:
            began = time.perf_counter()
            for symbol in symbols:
                quote(symbol)
            return (time.perf_counter() - began) / number

        return batch

    measured = turns({OURS: hits(maxsize=2 * number), UNBOUNDED: hits()}, bench.scale.longer(6))
    for name, samples in measured.items():
        bench.add(Record(PART, BOUNDED, TRACKED, name, "ours" if name == OURS else "limit", samples))
    subject.close()


def _policies(bench: Bench) -> None:
    """What a miss asks of its policy, against calling a function that does nothing; and what an import costs."""
    noon, night = (dt.datetime(2026, 7, 10, hour, tzinfo=dt.UTC) for hour in (6, 18))
    plain = Call(function="f", now=night)
    candles = Call(
        function="f", now=noon, started=noon - dt.timedelta(milliseconds=300),
        arguments={"symbol": "INFY", "exchange": "NSE", "interval": "5minute", "to_date": "2026-07-09"},
    )  # fmt: skip
    aware, nse, morning = market_aware(), market_aware("NSE"), ttl.until("08:30")
    contests: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        POLICY: (lambda: nse(plain), lambda: None),
        RANGE: (lambda: aware(candles), lambda: None),
        UNTIL: (lambda: morning(plain), lambda: None),
        IMPORT: (lambda: _run("import redis_memo"), lambda: _run("import redis")),
    }
    for case, (ours, limit) in contests.items():
        measured = turns({OURS: batched(ours, bench.scale), LIMITS[case]: batched(limit, bench.scale)}, bench.scale)
        for name, samples in measured.items():
            bench.add(Record(PART, case, "policy", name, "ours" if name == OURS else "limit", samples))


def _run(code: str) -> None:
    """In an interpreter of its own, which keeps bytecode, as an installation does."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)  # noqa: S603 - our own lines
