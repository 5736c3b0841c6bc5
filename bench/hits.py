"""A hit of a small value: how long it takes, in the middle and at the slow end; and the policy that every miss asks."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import redis.asyncio

from redis_memo import Call, market_aware

from .functions import PAIRS
from .measure import Bench, batched, turns
from .peers import PEERS
from .results import OURS, Kind, Record
from .subjects import AsyncSubject, ByHand, Ours, OursAsync, OursEmbedded, OursSigned, Pickle, Subject

PART = "hits"
CASE = "small dict"
POLICY = "after the close"
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
    _policy(bench)


def _spread(subject: Subject, calls: int) -> Callable[[], tuple[float, float]]:
    memoized = subject.memoize("quote")
    subject.call(memoized, "INFY")

    def spread() -> tuple[float, float]:
        middle, slow = np.quantile(subject.latencies(memoized, "INFY", number=calls), [0.5, 0.99])
        return float(middle), float(slow)

    return spread


def _policy(bench: Bench) -> None:
    """``market_aware()`` after the close, against calling a function that does nothing."""
    policy, closed = market_aware(), dt.datetime(2026, 7, 10, 18, tzinfo=dt.UTC)
    call = Call(function="f", arguments={}, value=None, now=closed)
    contest: dict[str, Callable[[], object]] = {OURS: lambda: policy(call), "empty function": lambda: None}
    kinds: dict[str, Kind] = {OURS: "ours", "empty function": "limit"}
    for name, samples in turns({name: batched(one, bench.scale) for name, one in contest.items()}, bench.scale).items():
        bench.add(Record(PART, POLICY, "policy", name, kinds[name], samples))
