"""Callers and invalidations on one function while its servers change, with what P3 and P5 promise checked throughout.

The source of truth is a version per key. Whoever changes it invalidates afterwards, and notes the version as a floor once
that has returned; whoever calls notes the floor first, and must not get an older version, nor any exception.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from redis_memo import Cache, redis_cached
from redis_memo.errors import StoreError


class Traffic:
    """Threads and event loops of several caches, as of several processes, that share one function's entries.

    Args:
        caches: Each gets a thread and an event loop of callers, and the first one a thread that invalidates.
        namespace: Of the function.
        groups: How many groups of keys; what is invalidated is a key, a group or all of them.
        seed: Of all that is random.

    Attributes:
        stale: Stories of answers older than an invalidation that had returned before the call began (P3).
        raised: What callers got besides answers (P5).
        counts: calls, computed, invalidated, refused (invalidations that raised).
    """

    def __init__(self, caches: list[Cache], namespace: str, groups: int = 3, seed: int = 1, **options: object) -> None:
        self.keys = [(group, number) for group in range(groups) for number in range(3)]
        self.source = dict.fromkeys(self.keys, 0)
        self.floor = dict.fromkeys(self.keys, 0)
        self.stale: list[str] = []
        self.raised: list[str] = []
        self.refusals: list[str] = []
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._seed = seed
        self.functions, self.coroutines = [], []
        options = {"namespace": namespace, "ttl": 30, "name": "traffic", **options}

        def make(cache: Cache) -> None:
            def function(group: int, number: int) -> list[int]:
                value = self.source[group, number]
                self._count("computed")
                time.sleep(0.002)
                return [group, number, value]

            async def coroutine(group: int, number: int) -> list[int]:
                value = self.source[group, number]
                self._count("computed")
                await asyncio.sleep(0.002)
                return [group, number, value]

            self.functions.append(redis_cached(cache=cache, **options)(function))
            self.coroutines.append(redis_cached(cache=cache, **options)(coroutine))

        for cache in caches:
            make(cache)
        loops = [lambda each=each: asyncio.run(self._tasks(each)) for each in self.coroutines]
        callers = [
            lambda number=number, each=each: self._calls(number, each) for number, each in enumerate(self.functions)
        ]
        self._threads = [threading.Thread(target=work) for work in (*callers, *loops, self._invalidates)]

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _judge(self, key: tuple[int, int], floor: int, value: list[int], began: float) -> None:
        with self._lock:
            self.counts["calls"] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            if value[:2] != [*key]:
                self.stale.append(f"P1: {key} was answered with {value}")
            elif value[2] < floor:
                self.stale.append(f"P3: {key} was answered with version {value[2]} after {floor} was invalidated for")

    def _calls(self, number: int, function: Callable[..., list[int]]) -> None:
        chance = random.Random(self._seed * 100 + number)
        while not self._stop.is_set():
            key = chance.choice(self.keys)
            floor, began = self.floor[key], time.monotonic()
            try:
                self._judge(key, floor, function(*key), began)
            except Exception as error:  # noqa: BLE001 - that is what is asked
                self.raised.append(repr(error))
            time.sleep(0.001)

    async def _tasks(self, function: Callable[..., object]) -> None:
        async def task(number: int) -> None:
            chance = random.Random(self._seed * 1000 + number)
            while not self._stop.is_set():
                key = chance.choice(self.keys)
                floor, began = self.floor[key], time.monotonic()
                try:
                    self._judge(key, floor, await function(*key), began)
                except Exception as error:  # noqa: BLE001
                    self.raised.append(repr(error))
                await asyncio.sleep(0.002)

        await asyncio.gather(task(1), task(2))

    def _invalidates(self) -> None:
        chance = random.Random(self._seed)
        while not self._stop.wait(chance.uniform(0.005, 0.03)):
            group, number = chance.choice(self.keys)
            given = chance.choice([{"group": group, "number": number}, {"group": group}, {}])
            covered = [
                key
                for key in self.keys
                if given.get("group", key[0]) == key[0] and given.get("number", key[1]) == key[1]
            ]
            for key in covered:
                self.source[key] += 1
            told = {key: self.source[key] for key in covered}
            try:
                chance.choice(self.functions).invalidate(**given)
            except StoreError as error:
                self._count("refused")
                self.refusals.append(str(error))
            else:
                self._count("invalidated")
                for key, version in told.items():
                    self.floor[key] = version

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "P5: a caller hangs"

    def hits(self) -> int:
        """Hits of all callers so far."""
        return sum(each.cache_info().hits for each in self.functions)

    def check(self) -> None:
        """Fail with the first of what was broken."""
        assert self.stale[:3] == []
        assert self.raised[:3] == []
        assert self.counts["calls"] > 0
