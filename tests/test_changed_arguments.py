"""P1: what is stored under a key was computed with the arguments that the key was made of, whoever changes them when."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from redis_memo import MISSING, Cache, CacheDict, as_of, redis_cached
from redis_memo.errors import ComputeTimeout

from .conftest import Server, until


class Sums:
    """A function that adds up a list, and can be held up."""

    def __init__(self) -> None:
        self.runs = 0
        self.open = threading.Event()
        self.open.set()

    def __call__(self, prices: list[float]) -> float:
        self.runs += 1
        assert self.open.wait(30)
        return sum(prices)

    async def fetch(self, prices: list[float]) -> float:
        self.runs += 1
        return sum(prices)


def given_up(function: Any) -> bool:
    return function.cache_info().refused == 1


@pytest.mark.parametrize(
    ("options", "later"), [({"stale": "1h"}, 61.0), ({"early": 100}, 60 - 1e-6)], ids=["stale", "early"]
)
def test_p1_changed_while_it_is_computed_anew_behind_the_caller(
    cache: Cache,
    namespace: str,
    options: dict[str, Any],
    later: float,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sums = Sums()
    total = redis_cached(namespace=namespace, ttl=60, cache=cache, name="f", **options)(sums.__call__)
    prices = [1, 2, 3]
    began = cache.engine._now()
    monkeypatch.setattr(cache.engine, "_now", lambda: began)
    assert total(prices) == 6
    monkeypatch.setattr(cache.engine, "_now", lambda: began + later)
    sums.open.clear()
    until(lambda: total(prices) == 6 and sums.runs == 2)
    prices.append(1000)
    with caplog.at_level(logging.WARNING, "redis_memo"):
        sums.open.set()
        until(lambda: given_up(total))
    assert total.peek([1, 2, 3]) == 6
    assert total.peek([1, 2, 3, 1000]) is MISSING
    assert "an argument was changed" in caplog.text
    assert "1000" not in caplog.text, "P6"
    until(lambda: total.explain([1, 2, 3]).lease_seconds is None)


async def test_p1_changed_before_it_is_computed_anew_behind_the_caller(cache: Cache, namespace: str) -> None:
    """The function is not even run."""
    sums = Sums()
    total = redis_cached(namespace=namespace, ttl="20ms", stale="1h", cache=cache, name="f")(sums.fetch)
    prices = [1, 2, 3]
    assert await total(prices) == 6
    while (await total.explain([1, 2, 3])).fresh_for > 0:
        await asyncio.sleep(0)
    assert await total(prices) == 6
    prices.append(1000)
    async with asyncio.timeout(10):
        while not given_up(total) or (await total.explain([1, 2, 3])).lease_seconds is not None:
            await asyncio.sleep(0)
    assert sums.runs == 1
    assert await total.peek([1, 2, 3]) == 6
    assert total.cache_info().refreshes == 0


class Account:
    """Keyed by value."""

    def __init__(self, name: str) -> None:
        self.name = name


def test_p1_an_object_that_is_used_for_the_next_account(
    cache: Cache, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go_on = threading.Event(), threading.Event()

    @redis_cached(namespace=namespace, ttl="20ms", stale="1h", cache=cache)
    def holdings(self: Account) -> str:
        running.set()
        assert go_on.wait(30)
        return f"holdings of {self.name}"

    monkeypatch.setattr(Account, "holdings", holdings, raising=False)
    account: Any = Account("AB1234")
    go_on.set()
    assert account.holdings() == "holdings of AB1234"
    running.clear()
    go_on.clear()
    until(lambda: account.holdings() == "holdings of AB1234" and running.is_set())
    account.name = "CD5678"
    go_on.set()
    until(lambda: given_up(holdings))
    assert holdings.peek(Account("AB1234")) == "holdings of AB1234"


def test_p1_changed_by_a_caller_whose_time_limit_is_over(cache: Cache, namespace: str) -> None:
    go_on = threading.Event()

    @redis_cached(namespace=namespace, ttl="1h", hard_timeout="10ms", cache=cache)
    def mean(frame: pd.DataFrame) -> float:
        assert go_on.wait(30)
        return float(frame["close"].mean())

    frame = pd.DataFrame({"close": [1.0, 2.0, 3.0]})
    before = frame.copy()
    with pytest.raises(ComputeTimeout):
        mean(frame)
    frame["close"] *= 100
    go_on.set()
    until(lambda: given_up(mean))
    until(lambda: mean.explain(before).lease_seconds is None)
    assert mean.peek(before) is MISSING


def test_p1_a_result_that_is_an_argument(cache: Cache, namespace: str) -> None:
    """It is looked at when it was encoded, which the caller may change until then."""
    go_on = threading.Event()

    @redis_cached(
        namespace=namespace, ttl="1h", hard_timeout="10ms", cache=cache, cache_if=lambda _: prices.append(9) or True
    )
    def same(prices: list[int]) -> list[int]:
        assert go_on.wait(30)
        return prices

    prices = [1, 2, 3]
    with pytest.raises(ComputeTimeout):
        same(prices)
    go_on.set()
    until(lambda: given_up(same))
    assert same.peek([1, 2, 3]) is MISSING


def test_p1_changed_by_a_caller_who_was_served_the_last_result(
    cache: Cache, namespace: str, valkey_server: Server
) -> None:
    sums = Sums()
    options = {"ttl": "20ms", "stale_if_error": "1h", "soft_timeout": "10ms"}
    total = redis_cached(namespace=namespace, cache=cache, name="f", **options)(sums.__call__)
    prices = [1, 2, 3]
    assert total(prices) == 6
    until(lambda: total.explain([1, 2, 3]).fresh_for <= 0)
    key = total.cache_key([1, 2, 3])
    with valkey_server.client() as client:
        before = client.get(key)
    sums.open.clear()
    assert total(prices) == 6
    assert sums.runs == 2
    prices.append(1000)
    sums.open.set()
    until(lambda: given_up(total))
    until(lambda: total.explain([1, 2, 3]).lease_seconds is None)
    with valkey_server.client() as client:
        assert client.get(key) == before


async def test_p1_changed_while_an_async_call_asks_the_store(cache: Cache, namespace: str) -> None:
    """Whoever has the arguments of the key gets their result, and who leads does not matter."""
    sums = Sums()
    total = redis_cached(namespace=namespace, ttl="1h", cache=cache, name="f")(sums.fetch)
    prices = [1, 2, 3]
    tasks = [asyncio.create_task(total(each)) for each in (prices, [1, 2, 3], prices, [1, 2, 3])]
    await asyncio.sleep(0)
    prices.append(1000)
    results = await asyncio.gather(*tasks)
    assert results[1::2] == [6, 6]
    assert {*results[::2]} <= {6, 1006}
    assert await total.peek([1, 2, 3]) == 6
    assert await total.peek([1, 2, 3, 1000]) is MISSING


async def test_p1_changed_while_a_single_async_call_asks_the_store(cache: Cache, namespace: str) -> None:
    sums = Sums()
    total = redis_cached(namespace=namespace, ttl="1h", cache=cache, name="f")(sums.fetch)
    prices = [1, 2, 3]
    task = asyncio.create_task(total(prices))
    await asyncio.sleep(0)
    prices.append(1000)
    assert await task == 1006
    assert await total.peek([1, 2, 3]) is MISSING
    assert given_up(total)
    assert (await total.explain([1, 2, 3])).lease_seconds is None
    assert await total([1, 2, 3]) == 6


async def test_p1_what_it_raises_for_changed_arguments_is_nobody_elses(cache: Cache, namespace: str) -> None:
    running = asyncio.Event()
    go_on = asyncio.Event()

    @redis_cached(namespace=namespace, ttl="1h", cache=cache)
    async def total(prices: list[int]) -> int:
        running.set()
        await go_on.wait()
        if 1000 in prices:
            raise ValueError("that is no price")
        return sum(prices)

    prices = [1, 2, 3]
    leader = asyncio.create_task(total(prices))
    await asyncio.sleep(0)
    prices.append(1000)
    await running.wait()
    waiter = asyncio.create_task(total([1, 2, 3]))
    while not any(flight._awaited for flight in cache.engine._flights.values()):
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(ValueError, match="no price"):
        await leader
    assert await waiter == 6


async def test_p1_changed_while_a_refresh_asks_the_store(cache: Cache, namespace: str) -> None:
    sums = Sums()
    total = redis_cached(namespace=namespace, ttl="1h", cache=cache, name="f")(sums.fetch)
    prices = [1, 2, 3]
    assert await total(prices) == 6
    task = asyncio.create_task(total.refresh(prices))
    await asyncio.sleep(0)
    prices.append(1000)
    assert await task == 1006
    assert await total.peek([1, 2, 3]) == 6


async def test_p1_as_of_a_moment(cache: Cache, namespace: str) -> None:
    sums = Sums()
    total = redis_cached(namespace=namespace, ttl="1h", cache=cache, name="f")(sums.fetch)
    with as_of("2024-03-01 11:00 IST"):
        assert await total([4]) == 4
        assert await total.peek([4]) == 4, "the moment is no change"
        prices = [1, 2, 3]
        task = asyncio.create_task(total(prices))
        await asyncio.sleep(0)
        prices.append(1000)
        assert await task == 1006
        assert await total.peek([1, 2, 3]) is MISSING


@pytest.mark.parametrize("limit", [None, "1m"])
async def test_a_function_that_changes_its_own_arguments_is_stored(
    cache: Cache, namespace: str, limit: str | None
) -> None:
    def take(prices: list[int]) -> int:
        return prices.pop()

    async def atake(prices: list[int]) -> int:
        await asyncio.sleep(0)
        return prices.pop()

    options: dict[str, Any] = {"namespace": namespace, "ttl": "1h", "cache": cache, "hard_timeout": limit}
    plain, waiting = redis_cached(**options)(take), redis_cached(**options)(atake)
    assert await asyncio.to_thread(plain, [1, 2]) == 2
    assert await asyncio.to_thread(plain.peek, [1, 2]) == 2
    assert await waiting([1, 2]) == 2
    assert await waiting.peek([1, 2]) == 2


class Fickle:
    """A ``key=`` that raises when it is asked once more."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, prices: list[int]) -> int:
        self.asked += 1
        if self.asked == 2:
            raise ValueError("asked twice")
        return len(prices)


@pytest.mark.parametrize(
    ("options", "stored"),
    [
        ({"ignore": ("prices",)}, True),
        ({"key": lambda prices: "all"}, True),
        ({"key": lambda prices: prices[0]}, True),
        ({"key": lambda prices: len(prices)}, False),
        ({"key": Fickle()}, False),
    ],
    ids=["ignored", "key of nothing", "key of what stays", "key of what changes", "key that raises"],
)
async def test_only_what_the_key_is_made_of_counts(
    cache: Cache, namespace: str, options: dict[str, Any], stored: bool
) -> None:
    sums = Sums()
    total = redis_cached(namespace=namespace, ttl="1h", cache=cache, name="f", **options)(sums.fetch)
    prices = [1, 2, 3]
    task = asyncio.create_task(total(prices))
    await asyncio.sleep(0)
    prices.append(1000)
    assert await task == 1006
    assert (await total.peek([1, 2, 3]) is not MISSING) == stored


async def test_arguments_that_nobody_can_change_are_not_looked_at_again(cache: Cache, namespace: str) -> None:
    asked = []

    def key(*args: object, **kwargs: object) -> object:
        asked.append(1)
        return args, tuple(kwargs.items())

    @redis_cached(namespace=namespace, ttl="1h", cache=cache, key=key)
    async def echo(*args: object, **kwargs: object) -> int:
        return len(args) + len(kwargs)

    assert await echo(1, "a", None, (2.5, b"b"), x=pd.Timestamp("2024-01-01").to_pydatetime()) == 5
    assert len(asked) == 1
    assert await echo([1]) == 1
    assert len(asked) == 3


def shared(prices: list[int], factor: int) -> int:
    prices.append(100)
    return sum(prices) * factor


@pytest.mark.parametrize("workers", [None, 1])
def test_p1_a_map_whose_calls_change_what_the_next_ones_were_given(
    cache: Cache, namespace: str, workers: int | None
) -> None:
    """The results are those of a loop; what is no result of the key is not stored."""
    function = redis_cached(namespace=namespace, ttl="1h", cache=cache)(shared)
    prices = [1]
    assert function.map([(prices, 1), (prices, 2), ([5], 3)], workers=workers) == [101, 402, 315]
    assert [function.peek([1], factor) for factor in (1, 2)] == [101, MISSING]
    assert function.peek([5], 3) == 315
    assert function.cache_info().refused == 1


def test_p1_a_map_of_calls_with_a_time_limit(cache: Cache, namespace: str) -> None:
    function = redis_cached(namespace=namespace, ttl="1h", cache=cache, hard_timeout="1m")(shared)
    prices = [1]
    assert function.map([(prices, 1), (prices, 2)]) == [101, 402]
    assert [function.peek([1], factor) for factor in (1, 2)] == [101, MISSING]


def test_p1_a_map_in_batches(cache: Cache, namespace: str) -> None:
    function = redis_cached(namespace=namespace, ttl="1h", cache=cache)(shared)
    prices = [1]

    def batch(calls: list[tuple[list[int], int]]) -> list[int]:
        return [shared(*call) for call in calls]

    assert function.map([(prices, 1), (prices, 2)], batch=batch, batch_size=1) == [101, 402]
    assert [function.peek([1], factor) for factor in (1, 2)] == [101, MISSING]


async def test_p1_a_map_of_an_async_function(cache: Cache, namespace: str) -> None:
    async def ashared(prices: list[int], factor: int) -> int:
        return shared(prices, factor)

    function = redis_cached(namespace=namespace, ttl="1h", cache=cache)(ashared)
    prices = [1]
    assert await function.map([(prices, 1), (prices, 2)]) == [101, 402]
    assert [await function.peek([1], factor) for factor in (1, 2)] == [101, MISSING]


async def test_get_or_compute_has_no_arguments_that_could_change(cache: Cache, namespace: str) -> None:
    prices = CacheDict[tuple[str, int], int](namespace, ttl="1h", cache=cache)
    found: list[Callable[[], int]] = [lambda: 6]
    assert await asyncio.to_thread(prices.get_or_compute, ("INFY", 1), found.pop()) == 6

    async def compute() -> int:
        return 7

    assert await prices.aget_or_compute(("TCS", 1), compute) == 7
    assert await prices.aget(("TCS", 1)) == 7
