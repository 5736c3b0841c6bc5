"""``map``: many calls together are answered as single calls are, in a few round trips."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redis_memo import MISSING, Cache, _envelope, _many, _map, _segments, as_of, connect, invalidate, redis_cached
from redis_memo.errors import BatchError, ComputeTimeout, ConfigurationError, StoreError, StoreUnavailable

from .conftest import SECRET, Server, free_port, start_server, until, valkey
from .faults import Proxy


@dataclass
class Quotes:
    """A decorated function, and what reached it."""

    cache: Cache
    namespace: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    runs: list[Any] = field(default_factory=list)
    before: Callable[[Any], object] = lambda _: None

    def __post_init__(self) -> None:
        options = {"namespace": self.namespace, "ttl": 60, "name": "quote", "cache": self.cache, **self.options}

        def quote(symbol, exchange="NSE"):
            self.before(symbol)
            self.runs.append(symbol)
            return {"symbol": symbol, "exchange": exchange, "depth": [1, 2]}

        async def aquote(symbol, exchange="NSE"):
            found = self.before(symbol)
            if inspect.isawaitable(found):
                await found
            self.runs.append(symbol)
            return {"symbol": symbol, "exchange": exchange, "depth": [1, 2]}

        self.function = redis_cached(**options)(quote if self.kind == "sync" else aquote)

    def call(self, result: Any) -> Any:
        if not inspect.isawaitable(result):
            return result

        async def wait() -> Any:
            return await result

        return asyncio.run(wait())

    def map(self, calls: Any, **options: Any) -> Any:
        batch = options.get("batch")
        if batch is not None and self.kind == "async":

            async def abatch(some: list[Any]) -> Any:
                return batch(some)

            options["batch"] = abatch
        return self.call(self.function.map(calls, **options))

    def one(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(self.function(*args, **kwargs))

    def info(self) -> Any:
        return self.function.cache_info()

    def leases(self) -> list[bytes]:
        import redis

        with redis.Redis.from_url(self.cache.engine.settings.url) as client:
            return list(client.scan_iter(f"memo:{{{self.namespace}*:lease"))


@pytest.fixture(params=["sync", "async"])
def quotes(cache: Cache, namespace: str, request: pytest.FixtureRequest) -> Quotes:
    return Quotes(cache, namespace, request.param)


def made(symbol: Any, exchange: str = "NSE") -> dict[str, Any]:
    return {"symbol": symbol, "exchange": exchange, "depth": [1, 2]}


# What a call is.


def test_a_call_is_a_value_a_tuple_a_dict_or_bound_arguments(quotes: Quotes) -> None:
    both = inspect.signature(lambda symbol, exchange: None).bind("D", exchange="BSE")
    results = quotes.map(["A", ("B", "BSE"), {"exchange": "MCX", "symbol": "C"}, both, 5, None, ((1, 2),)])
    expected = [made("A"), made("B", "BSE"), made("C", "MCX"), made("D", "BSE"), made(5), made(None), made((1, 2))]
    assert results == expected
    assert quotes.one("B", exchange="BSE") == made("B", "BSE")
    assert len(quotes.runs) == 7, "P1: a call in map() and the same call alone share an entry"


def test_what_could_be_meant_in_two_ways_is_refused(quotes: Quotes) -> None:
    from collections import UserDict, namedtuple

    pair = namedtuple("pair", "a b")
    for calls in ([["A", "NSE"]], [pair(1, 2)], [{1: 2}], [UserDict()], "ABC", {"symbol": "A"}, 5):
        with pytest.raises(TypeError, match=r"map\(\)") as caught:
            quotes.map(calls)
        assert "'A'" not in str(caught.value)
    for options in ({"workers": 0}, {"workers": True}, {"batch_size": 0}, {"batch": 5}):
        with pytest.raises(ConfigurationError):
            quotes.call(quotes.function.map(["A"], **options))
    assert quotes.map([]) == quotes.map(iter(())) == []
    assert quotes.runs == []


def test_methods_map_over_their_own_arguments(cache: Cache, namespace: str) -> None:
    @dataclass(frozen=True)
    class Account:
        name: str

        @redis_cached(namespace=namespace, ttl=60, cache=cache)
        def holding(self, symbol: str, day: int = 1) -> str:
            return f"{self.name}/{symbol}/{day}"

        @redis_cached(namespace=namespace, ttl=60, cache=cache)
        @classmethod
        def of(cls, name: str) -> str:
            return f"{cls.__name__}/{name}"

        @redis_cached(namespace=namespace, ttl=60, cache=cache)
        @staticmethod
        def plain(name: str) -> str:
            return name

    assert Account("a").holding.map(["X", ("Y", 2), {"symbol": "Z"}]) == ["a/X/1", "a/Y/2", "a/Z/1"]
    assert Account("b").holding.map(["X"]) == ["b/X/1"], "two accounts never share an entry"
    assert Account.of.map(["x"]) == ["Account/x"]
    assert Account.plain.map(["x", "y"]) == ["x", "y"]


# Order, duplicates, equality.


@pytest.mark.parametrize("how", ["in order", "workers", "batch"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_results_are_those_of_single_calls_in_their_order(cache: Cache, namespace: str, kind: str, how: str) -> None:
    quotes = Quotes(cache, namespace, kind)
    symbols = st.integers(0, 30)
    calls = st.lists(symbols | st.tuples(symbols, st.sampled_from(["NSE", "BSE"])), max_size=60)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(calls=calls, stored=st.sets(symbols), size=st.integers(1, 7))
    def check(calls: list[Any], stored: set[int], size: int) -> None:
        quotes.call(quotes.function.cache_clear())
        for symbol in stored:
            quotes.one(symbol)
        quotes.runs.clear()
        wanted = [call if isinstance(call, tuple) else (call,) for call in calls]

        def batch(some: list[Any]) -> list[Any]:
            assert len(some) <= size
            quotes.runs.extend(each[0] if isinstance(each, tuple) else each for each in some)
            return [made(*each) if isinstance(each, tuple) else made(each) for each in some]

        options: dict[str, Any] = {"in order": {}, "workers": {"workers": size}}.get(
            how, {"batch": batch, "batch_size": size}
        )
        results = quotes.map(calls, **options)
        assert results == [made(*each) for each in wanted]
        missing = {(*each, "NSE")[:2] for each in wanted} - {(symbol, "NSE") for symbol in stored}
        assert len(quotes.runs) == len(missing), "P4: equal calls are computed once, stored ones never"
        if how == "in order":
            first = [each for each in dict.fromkeys((*each, "NSE")[:2] for each in wanted) if each in missing]
            assert quotes.runs == [symbol for symbol, _ in first]
        assert [quotes.one(*each) for each in wanted] == results
        for result in results:
            result["depth"].append(3)
        assert quotes.map(calls) == [made(*each) for each in wanted], "P2: every caller's value is its own"
        assert len({id(result["depth"]) for result in results}) == len(results), "P2: equal calls share no value"

    check()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_more_calls_than_fit_into_one_exchange(cache: Cache, namespace: str, kind: str) -> None:
    quotes = Quotes(cache, namespace, kind)
    calls = [number % 2600 for number in range(5200)]
    assert [each["symbol"] for each in quotes.map(iter(calls), workers=3)] == calls
    assert sorted(quotes.runs) == list(range(2600))
    info = quotes.info()
    assert (info.hits, info.misses) == (2600, 2600)
    assert [each["symbol"] for each in quotes.map(calls)] == calls
    assert len(quotes.runs) == 2600


@pytest.mark.parametrize("chunk", [None, 200_000])
def test_large_results_and_their_duplicates(
    cache: Cache, namespace: str, monkeypatch: pytest.MonkeyPatch, chunk: int | None
) -> None:
    if chunk is not None:  # stored beside the entry, in pieces
        monkeypatch.setattr(_segments, "SEGMENT", 100_000)
        monkeypatch.setattr(_envelope, "CHUNK", chunk)

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def ramp(n: int) -> np.ndarray:
        return np.random.default_rng(n).random(200_000)

    for _ in range(2):  # computed, then read
        results = ramp.map([1, 2, 1, 2, 1])
        for n, result in zip([1, 2, 1, 2, 1], results, strict=True):
            assert np.array_equal(result, np.random.default_rng(n).random(200_000))
        results[0][:] = 0.0
        assert results[2].any(), "P2: equal calls share no memory"
    assert ramp.cache_info().misses == 2


# Round trips.


class Turns(Proxy):
    """Counts how often a client had to wait for the server. Replies come late, so that requests are complete by then."""

    def __init__(self, port: int) -> None:
        self.turns = 0
        self._answered: set[object] = set()
        super().__init__(port)
        self.mode, self.seconds = "delay", 0.05

    def _spoil(self, data: bytes, target: Any) -> bool:
        kept = super()._spoil(data, target)
        self.turns += 1
        return kept


def test_490_of_500_are_read_and_10_stored_in_three_round_trips(namespace: str, valkey_server: Server) -> None:
    symbols = [f"S{number}" for number in range(500)]
    port = int(valkey_server.url.rpartition(":")[2].partition("/")[0])
    with Turns(port) as proxy:
        cache = connect(proxy.url, secret=SECRET)
        quotes = Quotes(cache, namespace, "sync")
        direct = Quotes(connect(valkey_server.url, secret=SECRET), namespace, "sync")
        direct.map(symbols)
        for symbol in symbols[::50]:
            invalidate(direct.function, symbol=symbol)
        quotes.one("another")  # connects, and notes the function in the namespace
        exchanges: list[int] = []
        exchange = cache.engine.backend.home.exchange
        cache.engine.backend.home.exchange = lambda pieces: (exchanges.append(1), exchange(pieces))[1]  # type: ignore[method-assign]
        with valkey_server.client() as client:
            before = client.info("commandstats")
            assert [each["symbol"] for each in quotes.map(symbols)] == symbols
            after = client.info("commandstats")
        assert sorted(quotes.runs) == sorted(["another", *symbols[::50]])
        assert len(exchanges) == 3
        scripts = after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"]
        assert scripts == 20, "ten leases and ten results"
        with valkey_server.client() as client:
            before = client.info("commandstats")["cmdstat_get"]["calls"]
            quotes.map([each for symbol in symbols for each in (symbol, symbol)])
            assert client.info("commandstats")["cmdstat_get"]["calls"] - before == 500, (
                "equal calls are read once in an exchange"
            )
        cache.close()
        direct.cache.close()


def test_scripts_that_the_server_forgot_are_brought_along(quotes: Quotes, valkey_server: Server) -> None:
    quotes.one("first")
    with valkey_server.client() as client:
        client.script_flush()
        assert quotes.map(range(40), workers=40) == [made(x) for x in range(40)]
        evals = client.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"]
        quotes.call(quotes.function.cache_clear())
        client.script_flush()
        quotes.map(range(40), workers=40)
        more = client.info("commandstats")["cmdstat_eval"]["calls"] - evals
    assert more <= 4, "of forty commands with one script one brings it along"
    assert quotes.map(range(40)) == [made(x) for x in range(40)]
    assert len(quotes.runs) == 81


def test_an_error_is_one_calls_own(quotes: Quotes, valkey_server: Server) -> None:
    """P5: what the server refuses for one of the calls costs that one its caching."""
    quotes.map(range(5))
    key = quotes.function.cache_key(3)
    with valkey_server.client() as client:
        client.delete(key)
        client.rpush(key, "no string")
        client.expire(key, 60)
        quotes.runs.clear()
        assert quotes.map(range(5)) == [made(x) for x in range(5)]
    assert quotes.runs == [3]
    assert quotes.info().errors > 0


# Batches.


def test_a_batch_function_is_given_what_is_missing_as_it_was_written(quotes: Quotes) -> None:
    quotes.one("A")
    asked: list[list[Any]] = []

    def batch(calls: list[Any]) -> dict[Any, Any]:
        asked.append(calls)
        return {call: made(*call) if isinstance(call, tuple) else made(call) for call in reversed(calls)}

    calls = ["A", "B", ("C", "BSE"), "B", "D"]
    expected = [made("A"), made("B"), made("C", "BSE"), made("B"), made("D")]
    assert quotes.map(calls, batch=batch) == expected
    assert asked == [["B", ("C", "BSE"), "D"]]
    assert quotes.map(calls, batch=batch) == expected
    assert len(asked) == 1
    assert quotes.one("D") == made("D")
    info = quotes.info()
    assert (info.misses, info.hits) == (4, 2 + 5 + 1)


def test_what_a_batch_does_not_answer_fails_alone(quotes: Quotes) -> None:
    def some(calls: list[Any]) -> dict[Any, Any]:
        return {call: made(call) for call in calls if call != "unknown"}

    found = quotes.map(["A", "unknown", "B"], batch=some, return_exceptions=True)
    assert [found[0], found[2]] == [made("A"), made("B")]
    assert isinstance(found[1], BatchError)
    with pytest.raises(BatchError):
        quotes.map([{"symbol": "X"}], batch=lambda calls: {})
    placed = quotes.map(["C", "D"], batch=lambda calls: [made("C"), KeyError("D")], return_exceptions=True)
    assert placed[0] == made("C")
    assert isinstance(placed[1], KeyError)
    for wrong in (None, [], [1, 2], "E", {1, 2}):
        with pytest.raises(BatchError, match="batch function"):
            quotes.map(["E"], batch=lambda calls: wrong)  # noqa: B023
    with pytest.raises(ZeroDivisionError):
        quotes.map(["E", "F"], batch=lambda calls: 1 / 0)
    assert quotes.leases() == []
    assert quotes.map(["A", "B", "C"]) == [made("A"), made("B"), made("C")]


def test_the_batch_function_of_an_async_def_is_one_and_of_others_is_none(quotes: Quotes) -> None:
    def plain(calls: list[str]) -> list[Any]:
        return [made(call) for call in calls]

    async def awaited(calls: list[str]) -> list[Any]:
        return plain(calls)

    if quotes.kind == "sync":
        assert quotes.function.map(["A", "B"], batch=plain) == plain(["A", "B"])
        with pytest.raises(BatchError, match="must be no async def"):
            quotes.function.map(["C", "D"], batch=awaited)
        return

    async def not_awaited(calls: list[str]) -> Any:
        return awaited(calls)

    with pytest.raises(BatchError, match="has to be an async def"):
        quotes.call(quotes.function.map(["A", "B"], batch=plain))
    with pytest.raises(BatchError, match="awaits what it returns"):
        quotes.call(quotes.function.map(["A", "B"], batch=not_awaited))
    assert quotes.leases() == []
    assert quotes.runs == []


def test_calls_that_a_mapping_takes_for_one_are_not_given_each_others_results(quotes: Quotes) -> None:
    """P1: ``1``, ``1.0`` and ``True`` are three calls, and one key of what a batch function returns."""

    def batch(calls: list[Any]) -> dict[Any, Any]:
        return {call: made(call) for call in calls}

    found = quotes.map([1, "A", True, ("B", 1), ("B", 1.0)], batch=batch, return_exceptions=True)
    assert [type(each) for each in found] == [BatchError, dict, BatchError, BatchError, BatchError]
    assert quotes.one(1) == made(1)
    assert quotes.map([1, True, 1.0], batch=lambda calls: [made(call) for call in calls]) == [
        made(1),
        made(True),
        made(1.0),
    ]
    away = Quotes(connect(f"redis://127.0.0.1:{free_port()}/0", secret=SECRET), quotes.namespace, quotes.kind)
    assert (
        away.map([("B", 1), ("B", 1)], batch=lambda calls: {call: made(*call) for call in calls}) == [made("B", 1)] * 2
    )
    away.cache.close()


def test_batches_of_a_size_on_several_workers(quotes: Quotes) -> None:
    sizes: list[int] = []

    def batch(calls: list[Any]) -> list[Any]:
        sizes.append(len(calls))
        return [made(call) for call in calls]

    assert quotes.map(range(1100), batch=batch, batch_size=250, workers=2) == [made(x) for x in range(1100)]
    assert sorted(sizes) == [100, 250, 250, 250, 250]


# Failures.


class Upstream(Exception):
    """What the function raises."""


def test_the_first_error_is_raised_when_the_others_are_stored(quotes: Quotes) -> None:
    def fail(symbol: int) -> None:
        if symbol in (3, 5):
            raise Upstream(symbol)

    quotes.before = fail
    with pytest.raises(Upstream, match="3") as caught:
        quotes.map(range(8))
    assert "call 3 of 8" in caught.value.__notes__[0]
    assert "1 more" in caught.value.__notes__[0]
    assert sorted(quotes.runs) == [0, 1, 2, 4, 6, 7]
    assert quotes.leases() == []
    found = quotes.map([*range(8), 3], return_exceptions=True)
    assert [type(each) for each in found] == [dict, dict, dict, Upstream, dict, Upstream, dict, dict, Upstream]
    assert sorted(quotes.runs) == [0, 1, 2, 4, 6, 7], "what is stored is a hit in the next run"


def test_an_exception_has_one_note_however_often_it_is_raised(quotes: Quotes) -> None:
    """P7: a module's own exception, raised each time, would grow without end."""
    error = Upstream("no such symbol")

    def fail(_: object) -> None:
        raise error

    quotes.before = fail
    for number in range(3):
        with pytest.raises(Upstream) as caught:
            quotes.map(["A", f"B{number}"])
        assert caught.value is error
    assert len(error.__notes__) == 1
    assert "call 0 of 2" in error.__notes__[0]


def test_maps_that_share_a_run_note_on_its_exception_once(quotes: Quotes) -> None:
    """What one of them says of itself is not told to the others' callers as well."""

    def fail(symbol: str) -> None:
        until(lambda: [flight for flight in quotes.cache.engine._flights.values() if flight._awaited])
        raise Upstream(symbol)

    def caught() -> Upstream:
        with pytest.raises(Upstream) as found:
            quotes.map(["A"])
        return found.value

    quotes.before = fail
    with ThreadPoolExecutor(2) as pool:
        one, other = [each.result() for each in [pool.submit(caught) for _ in range(2)]]
    assert one is other
    assert len(one.__notes__) == 1


def test_arguments_that_do_not_fit_are_their_calls_error(quotes: Quotes) -> None:
    found = quotes.map(["A", {"wrong": 1}, (object(),), "B"], return_exceptions=True)
    assert [type(each).__name__ for each in found] == ["dict", "TypeError", "KeyingError", "dict"]


class Interrupt(BaseException):
    """What no program catches by chance."""


@pytest.mark.parametrize("kind", [Interrupt, GeneratorExit])
def test_an_interrupt_in_the_function_keeps_what_is_done(quotes: Quotes, kind: type[BaseException]) -> None:
    def stop(symbol: int) -> None:
        if symbol == 7 and quotes.before is stop:
            raise kind

    def stop_all(symbols: list[int]) -> Any:
        raise kind

    with pytest.raises(kind):
        quotes.map(range(12), batch=stop_all, batch_size=4)
    assert quotes.leases() == []
    quotes.before = stop
    with pytest.raises(kind):
        quotes.map(range(12))
    assert quotes.runs == list(range(7)), "after it nothing is begun"
    assert quotes.leases() == [], "P4: whoever comes next need not wait"
    quotes.before = lambda _: None
    assert quotes.map(range(12)) == [made(x) for x in range(12)]
    assert quotes.runs == list(range(12)), "the run continues where it was"


@pytest.mark.parametrize("workers", [None, 2])
def test_ctrl_c(cache: Cache, namespace: str, workers: int | None) -> None:
    quotes = Quotes(cache, namespace, "sync")
    forever = threading.Event()

    def press(symbol: int) -> None:
        if symbol == 5:
            until(lambda: quotes.function.peek(3) is not MISSING)
            os.kill(os.getpid(), signal.SIGINT)
            forever.wait(5)

    quotes.before = press
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            quotes.map(range(10), workers=workers)
    finally:
        signal.signal(signal.SIGINT, before)
    assert quotes.leases() == []
    forever.set()
    assert quotes.function.peek(0) == made(0)
    assert quotes.function.peek(5) is MISSING


def test_a_cancelled_map_keeps_what_is_done(cache: Cache, namespace: str) -> None:
    quotes = Quotes(cache, namespace, "async")

    async def main() -> None:
        reached = asyncio.Event()

        async def stop(symbol: int) -> None:
            if symbol == 7:
                reached.set()
                await asyncio.Event().wait()

        quotes.before = stop
        task = asyncio.ensure_future(quotes.function.map(range(12)))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert quotes.leases() == []
        assert [await quotes.function.peek(x) for x in range(7)] == [made(x) for x in range(7)]

    asyncio.run(main())


@pytest.mark.parametrize("options", [{}, {"workers": 3}, {"batch_size": 3}])
def test_a_map_that_is_cancelled_twice_gives_its_leases_back(
    cache: Cache, namespace: str, options: dict[str, Any]
) -> None:
    """P4: also where the second time comes before the tasks of the first have ended."""
    quotes = Quotes(cache, namespace, "async")

    async def main() -> None:
        reached = asyncio.Event()

        async def stop(_: object) -> None:
            reached.set()
            await asyncio.Event().wait()

        quotes.before = stop
        how = options | ({"batch": stop} if "batch_size" in options else {})
        task = asyncio.ensure_future(quotes.function.map(range(12), **how))
        await reached.wait()
        assert quotes.leases() != []
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert quotes.leases() == []

    asyncio.run(main())


def test_an_interrupt_while_a_lease_is_taken_hold_of(
    cache: Cache, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: no process renews for ever the lease of what it does not compute any more."""
    quotes = Quotes(cache, namespace, "sync")
    taken = cache.engine.leases.hold

    def interrupted(*args: Any) -> None:
        taken(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.engine.leases, "hold", interrupted)
    for call in (lambda: quotes.map(range(3)), lambda: quotes.one(5)):
        with pytest.raises(KeyboardInterrupt):
            call()
        assert cache.engine.leases._standing == set()


def test_a_result_does_not_wait_for_the_next_computation(cache: Cache, namespace: str) -> None:
    quotes = Quotes(cache, namespace, "sync")

    def wait(symbol: int) -> None:
        if symbol == 1:
            until(lambda: quotes.function.peek(0) == made(0))

    quotes.before = wait
    assert quotes.map(range(2)) == [made(0), made(1)]


# P3 and P4.


@pytest.mark.parametrize("how", [{}, {"workers": 3}])
def test_an_invalidation_in_the_middle(quotes: Quotes, how: dict[str, Any]) -> None:
    """P3: of what was computing, and of what was only queued, nothing is stored that began before the invalidation."""
    other = Quotes(connect(quotes.cache.engine.settings.url, secret=SECRET), quotes.namespace, "sync")
    done = threading.Event()

    def before(symbol: int) -> None:
        if symbol == 0:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(other.function.invalidate).result()
            done.set()

    quotes.before = before
    assert quotes.map(range(6), **how) == [made(x) for x in range(6)]
    assert done.is_set()
    assert other.function.peek(0) is MISSING
    assert quotes.info().refused >= 1
    assert quotes.leases() == []
    other.cache.close()


def test_what_another_computes_is_waited_for(quotes: Quotes) -> None:
    """P4, over processes: another cache has connections, tokens and flights of its own."""
    other = Quotes(connect(quotes.cache.engine.settings.url, secret=SECRET), quotes.namespace, "sync")
    begun, go = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        begun.set()
        assert go.wait(30)

    other.before = hold
    with ThreadPoolExecutor(1) as pool:
        single = pool.submit(other.one, 3)
        assert begun.wait(30)
        quotes.before = lambda symbol: go.set() if symbol == 5 else None
        assert quotes.map(range(6)) == [made(x) for x in range(6)]
        assert single.result() == made(3)
    assert sorted(quotes.runs) == [0, 1, 2, 4, 5], "one computes the others meanwhile"
    other.cache.close()


def test_single_calls_join_a_map(quotes: Quotes) -> None:
    """P4, in one process: a call that comes while it is computed by a map gets that result."""
    got: list[Any] = []

    def before(symbol: int) -> None:
        if symbol == 1:
            # From a thread that is not inside of the computation.
            pool = ThreadPoolExecutor(1)
            got.append(pool.submit(Quotes(quotes.cache, quotes.namespace, "sync").one, 2))
            pool.shutdown(wait=False)

    quotes.before = before
    assert quotes.map(range(4)) == [made(x) for x in range(4)]
    assert got[0].result() == made(2)
    assert quotes.runs == [0, 1, 2, 3]


def test_leases_of_what_is_queued_are_renewed(namespace: str, valkey_server: Server) -> None:
    lease = 0.6
    quotes = Quotes(connect(valkey_server.url, secret=SECRET, lease=lease), namespace, "sync")

    def first(symbol: int) -> None:
        if symbol == 0:
            assert len(quotes.leases()) == 10
            threading.Event().wait(3 * lease)
            assert len(quotes.leases()) == 10

    quotes.before = first
    assert quotes.map(range(10)) == [made(x) for x in range(10)]
    assert quotes.info().refused == 0
    quotes.cache.close()


def test_a_function_that_needs_itself(cache: Cache, namespace: str) -> None:
    """P4: what is queued behind a computation is not waited for by it."""

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def total(n: int) -> int:
        return n + (total(n - 1) if n else 0)

    assert total.map([6, 3, 5, 0, 4]) == [21, 6, 15, 0, 10]
    total.cache_clear()
    assert total.map(range(12, 0, -1), workers=3) == [n * (n + 1) // 2 for n in range(12, 0, -1)]
    total.cache_clear()

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def nested(n: int) -> int:
        return n + (sum(nested.map(range(n))) if n else 0)

    assert nested.map([3, 2, 1]) == [7, 3, 1]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_is_needed_before_its_turn_is_computed_once(cache: Cache, namespace: str, kind: str) -> None:
    """P4: a recursion in the wrong order takes a run for each call, not one for each way that leads to it."""
    runs: list[int] = []

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="fibonacci")
    def fibonacci(n: int) -> dict[str, int]:
        runs.append(n)
        parts = [fibonacci(n - 1), fibonacci(n - 2)] if n > 1 else []
        found = {"n": n, "of": sum(part["of"] for part in parts) if parts else n}
        for part in parts:
            part["of"] = -1  # each has a value of its own
        return found

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="afibonacci")
    async def afibonacci(n: int) -> dict[str, int]:
        runs.append(n)
        parts = [await afibonacci(n - 1), await afibonacci(n - 2)] if n > 1 else []
        return {"n": n, "of": sum(part["of"] for part in parts) if parts else n}

    numbers = list(range(14, -1, -1))
    found = fibonacci.map(numbers) if kind == "sync" else asyncio.run(afibonacci.map(numbers))
    assert [each["of"] for each in found][:2] == [377, 233]
    assert sorted(runs) == list(range(15))
    again = fibonacci.map(numbers) if kind == "sync" else asyncio.run(afibonacci.map(numbers))
    assert again == found
    assert len(runs) == 15, "and it is stored in its turn"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_several_maps_within_each_other_need_is_computed_once(cache: Cache, namespace: str, kind: str) -> None:
    """P4: of two calls of an inner map, which are queued in the outer one, the first needs the second."""
    runs: list[int] = []
    needs = {4: [3, 2], 3: [2, 1], 2: [1], 1: [], 0: [4, 3]}

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="nested")
    def nested(n: int) -> list[Any]:
        runs.append(n)
        found = nested.map(needs[n])
        return [n, *found]

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="nested")
    async def anested(n: int) -> list[Any]:
        runs.append(n)
        return [n, *(await anested.map(needs[n]))]

    numbers = [0, 4, 3, 2, 1]
    found = nested.map(numbers) if kind == "sync" else asyncio.run(anested.map(numbers))
    assert found[1:] == [[4, [3, [2, [1]], [1]], [2, [1]]], [3, [2, [1]], [1]], [2, [1]], [1]]
    assert sorted(runs) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("kind", "workers"), [("sync", None), ("sync", 1), ("async", None)])
def test_what_waits_to_be_stored_is_handed_to_who_needs_it(
    valkey_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch, kind: str, workers: int | None
) -> None:
    """P4: a recursion in the right order neither waits for the store nor computes anything again."""
    monkeypatch.setattr(_many, "COMPANY", 60.0)
    cache = connect(valkey_server.url, secret=SECRET, lease=300, max_wait=1)
    runs: list[int] = []

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="sum")
    def total(n: int) -> list[int]:
        runs.append(n)
        return [n, *total(n - 1)] if n else [n]

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="sum")
    async def atotal(n: int) -> list[int]:
        runs.append(n)
        return [n, *(await atotal(n - 1))] if n else [n]

    numbers = range(9)
    found = asyncio.run(atotal.map(numbers)) if kind == "async" else total.map(numbers, workers=workers)
    assert found == [list(range(n, -1, -1)) for n in numbers]
    assert runs == list(numbers)
    assert [total.peek(n) for n in numbers] == found
    cache.close()


def test_an_invalidation_after_what_was_computed_before_its_turn(cache: Cache, namespace: str) -> None:
    """P3: what was computed before it is not stored after it."""
    version = [1]

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="early")
    def early(n: int) -> int:
        if n == 1:
            early(0)
            version[0] = 2
            assert invalidate(early, n=0) >= 0
        return version[0]

    early.map([1, 0])
    assert early(0) == 2


CROWD = """
import json, os, sys, time
import redis
from redis_memo import connect, redis_cached
url, namespace, victim = sys.argv[1:4]
client = redis.Redis.from_url(url, socket_timeout=90)
cache = connect(url, secret="a secret that only the tests know", lease=1.0)
@redis_cached(namespace=namespace, ttl=60, cache=cache, name="crowd")
def work(x):
    client.rpush(f"{namespace}-runs", f"{x}:{os.getpid()}")
    time.sleep(0.005)
    if victim == "yes" and x == 120:
        client.set(f"{namespace}-stuck", os.getpid())
        time.sleep(60)
    return {"x": x}
client.incr(f"{namespace}-ready")
assert client.blpop([f"{namespace}-go-{victim}"], timeout=60)
keys = list(range(200)) if victim == "no" else list(range(119, 200))
print(json.dumps([each["x"] for each in work.map(keys)] == keys))
"""


@contextlib.contextmanager
def crowd(server: Server, namespace: str, victims: list[str]) -> Iterator[list[subprocess.Popen[str]]]:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, server.url, namespace, victim],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        for victim in victims
    ]  # fmt: skip
    try:
        with server.client() as client:
            until(lambda: int(client.get(f"{namespace}-ready") or 0) == len(victims), 60)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_processes_that_map_the_same_calls_share_the_work(valkey_server: Server, namespace: str) -> None:
    """P4: each of 200 calls is computed once, and by more than one process."""
    with crowd(valkey_server, namespace, ["no"] * 3) as processes, valkey_server.client() as client:
        client.rpush(f"{namespace}-go-no", *range(3))
        told = [process.communicate(timeout=60) for process in processes]
        assert [(json.loads(out), errors) for out, errors in told] == [(True, "")] * 3
        runs = [each.decode().split(":") for each in client.lrange(f"{namespace}-runs", 0, -1)]
        client.delete(f"{namespace}-runs", f"{namespace}-ready")
    assert sorted(int(x) for x, _ in runs) == list(range(200))
    assert len({pid for _, pid in runs}) > 1


def test_one_that_is_killed_is_replaced(valkey_server: Server, namespace: str) -> None:
    """P4: what a process held when it was killed is computed by the others, each once; nothing else twice."""
    with crowd(valkey_server, namespace, ["yes", "no", "no"]) as processes, valkey_server.client() as client:
        victim = processes[0]
        client.rpush(f"{namespace}-go-yes", 1)
        until(lambda: client.get(f"{namespace}-stuck"), 30)
        client.rpush(f"{namespace}-go-no", 2, 3)
        until(lambda: client.llen(f"{namespace}-runs") > 60, 30)
        victim.kill()
        told = [process.communicate(timeout=60) for process in processes[1:]]
        assert [(json.loads(out), errors) for out, errors in told] == [(True, "")] * 2
        runs = Counter(int(each.decode().split(":")[0]) for each in client.lrange(f"{namespace}-runs", 0, -1))
        client.delete(*(f"{namespace}-{what}" for what in ("runs", "ready", "stuck")))
    assert set(runs) == set(range(200))
    assert {x for x, count in runs.items() if count > 1} == {120}
    assert runs[120] == 2


# What else single calls do.


def test_a_server_that_is_not_there_costs_only_the_caching(namespace: str) -> None:
    """P5: everything is computed, by the workers."""
    for kind in ("sync", "async"):
        cache = connect(f"redis://127.0.0.1:{free_port()}/0", secret=SECRET)
        quotes = Quotes(cache, namespace, kind)
        assert quotes.map(range(30), workers=3) == [made(x) for x in range(30)]
        assert sorted(quotes.runs) == list(range(30))
        assert quotes.map([1, 2], batch=lambda calls: [made(call) for call in calls]) == [made(1), made(2)]
        info = quotes.info()
        assert (info.misses, info.breaker) == (32, "open")
        strict = Quotes(cache, namespace, kind, {"on_error": "raise"})
        with pytest.raises(StoreUnavailable):
            strict.map(range(3))
        assert all(isinstance(each, StoreError) for each in strict.map(range(3), return_exceptions=True))
        cache.close()


def test_a_server_that_dies_in_the_middle(namespace: str) -> None:
    server = start_server(valkey())
    cache = connect(server.url, secret=SECRET, timeout=0.5)
    quotes = Quotes(cache, namespace, "sync")
    quotes.before = lambda symbol: server.stop() if symbol == 5 else None
    assert quotes.map(range(40)) == [made(x) for x in range(40)]
    assert quotes.runs == list(range(40))
    cache.close()


def test_cache_if_and_tags(cache: Cache, namespace: str) -> None:
    options = {"cache_if": lambda value: value["symbol"] % 2, "tags": lambda call: [f"tag{call.value['symbol'] % 3}"]}
    quotes = Quotes(cache, namespace, "sync", options)
    assert quotes.map([*range(6), *range(6)]) == [made(x) for x in [*range(6), *range(6)]]
    assert len(quotes.runs) == 6, "a result that is not stored is shared by equal calls, as by concurrent ones"
    quotes.runs.clear()
    quotes.map(range(6))
    assert quotes.runs == [0, 2, 4]
    assert quotes.function.invalidate_tags("tag1") == 1
    quotes.runs.clear()
    quotes.map([1, 3, 5])
    assert quotes.runs == [1]


def test_as_of_a_moment(quotes: Quotes) -> None:
    quotes.map(range(3))
    with as_of(datetime(2024, 3, 1, tzinfo=UTC)):
        quotes.map(range(4))
        quotes.map(range(4))
    assert quotes.runs == [0, 1, 2, 0, 1, 2, 3]
    quotes.map(range(4))
    assert quotes.runs == [0, 1, 2, 0, 1, 2, 3, 3]


def test_stale_entries_are_served_and_computed_behind(cache: Cache, namespace: str) -> None:
    from redis_memo import testing

    quotes = Quotes(cache, namespace, "sync", {"stale": 600})
    with testing.at(datetime(2026, 1, 5, 10, tzinfo=UTC)) as clock:
        quotes.map(range(3))
        clock.move(90)
        assert quotes.map([0, 1, 2, 0]) == [made(x) for x in (0, 1, 2, 0)]
        until(lambda: quotes.info().refreshes == 3 and len(quotes.runs) == 6)
    assert quotes.info().stale_hits >= 3


def test_a_time_limit_is_each_calls_own(cache: Cache, namespace: str) -> None:
    quotes = Quotes(cache, namespace, "sync", {"hard_timeout": 0.3})
    go = threading.Event()
    quotes.before = lambda symbol: go.wait(30) if symbol == 1 else None
    found = quotes.map(range(4), return_exceptions=True)
    go.set()
    assert [type(each) for each in found] == [dict, ComputeTimeout, dict, dict]
    until(lambda: quotes.function.peek(1) == made(1))


def test_damaged_entries_are_misses(quotes: Quotes, valkey_server: Server) -> None:
    quotes.map(range(4))
    with valkey_server.client() as client:
        for x in (1, 2):
            key = quotes.function.cache_key(x)
            client.set(key, client.get(key)[:-1] + b"?", keepttl=True)
    assert quotes.map(range(4)) == [made(x) for x in range(4)]
    assert quotes.runs == [0, 1, 2, 3, 1, 2]
    assert quotes.info().unreadable >= 2


def test_workers_run_together(cache: Cache, namespace: str) -> None:
    for kind in ("sync", "async"):
        quotes = Quotes(cache, namespace, kind)
        together = threading.Barrier(3, timeout=30)
        if kind == "sync":
            quotes.before = lambda symbol: together.wait()  # noqa: B023
        else:
            arrived: list[int] = []

            async def meet(symbol: int) -> None:
                arrived.append(symbol)  # noqa: B023
                while len(arrived) % 3:  # noqa: B023
                    await asyncio.sleep(0)

            quotes.before = meet
        quotes.map([f"{kind}{x}" for x in range(3)], workers=3)
        assert len(quotes.runs) == 3


def test_in_order_means_the_callers_own_thread(cache: Cache, namespace: str) -> None:
    quotes = Quotes(cache, namespace, "sync")
    seen = set()
    quotes.before = lambda _: seen.add(threading.get_ident())
    quotes.map(range(5))
    assert seen == {threading.get_ident()}


# Progress.


def test_what_comes_back_at_once_is_handed_to_no_other_thread(cache: Cache, namespace: str) -> None:
    quotes = Quotes(cache, namespace, "sync")
    helpers: list[str] = []
    quotes.before = lambda _: helpers.extend(
        each.name for each in threading.enumerate() if each.name == "redis_memo map" and each.is_alive()
    )
    quotes.map(range(40))
    assert len(quotes.runs) == 40
    assert helpers == []


def test_an_interrupt_while_a_helper_runs_the_flows(cache: Cache, namespace: str) -> None:
    """The function's own, and one that comes between two runs of it: progress is told in the caller's thread."""
    quotes = Quotes(cache, namespace, "sync")

    def helped() -> bool:
        return any(each.name == "redis_memo map" and each.is_alive() for each in threading.enumerate())

    def slow(symbol: int) -> None:
        until(helped)
        if symbol == 3:
            raise KeyboardInterrupt

    quotes.before = slow
    with pytest.raises(KeyboardInterrupt):
        quotes.map(range(10))
    assert (quotes.runs, quotes.leases()) == ([0, 1, 2], [])
    until(lambda: not helped())

    def stop(done: int, total: int) -> None:
        if 5 in quotes.runs:
            raise KeyboardInterrupt

    quotes.before = lambda symbol: until(helped) if symbol == 4 else None
    with pytest.raises(KeyboardInterrupt):
        quotes.map(range(10), progress=stop)
    assert quotes.leases() == []
    until(lambda: not helped())
    quotes.before = lambda _: None
    assert quotes.map(range(10)) == [made(x) for x in range(10)]
    assert sorted(quotes.runs) == list(range(10)), "what was computed before the interrupts was stored"


# Hits.


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_hits_of_a_map_count_as_those_of_single_calls_do(cache: Cache, namespace: str, kind: str) -> None:
    quotes = Quotes(cache, namespace, kind, {"maxsize": 100})
    quotes.map(range(20))
    before = quotes.info()
    for number in range(20):
        quotes.one(number)
    between = quotes.info()
    quotes.map(range(20))
    after = quotes.info()
    assert after.hits - between.hits == between.hits - before.hits == 20
    assert after.seconds_saved - between.seconds_saved == pytest.approx(between.seconds_saved - before.seconds_saved)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_a_map_reads_is_used_and_so_is_kept(cache: Cache, namespace: str, kind: str) -> None:
    quotes = Quotes(cache, namespace, kind, {"maxsize": 4})
    for number in range(4):
        quotes.one(number)
    quotes.map([0, 1])
    cache.engine.touches.tell(5)
    quotes.map([4, 5])
    assert quotes.map([0, 1]) == [made(0), made(1)]
    assert quotes.runs == [0, 1, 2, 3, 4, 5]


def test_results_of_many_forms_are_those_of_single_calls(cache: Cache, namespace: str) -> None:
    values = [
        {"a": 1, "b": "x"},
        {"a": 2, "b": "y"},
        {"a": None, "b": "z"},
        {"a": 1.0, "b": "x"},
        {"b": "x", "a": 1},
        {},
    ]
    values += [[1, 2], "text", None, {"a": 1, "c": "x"}, {"a": {"b": 1}}, {"a": True, "b": "xy"}, {1: 2}, {"\ud800": 1}]

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="forms")
    def form(number: int) -> Any:
        return values[number]

    numbers = [*range(len(values))] * 2
    for _ in range(2):
        found = form.map(numbers)
        assert [(repr(each), type(each)) for each in found] == [(repr(values[n]), type(values[n])) for n in numbers]
    found[0]["a"] = "changed"
    assert form.map([0, 0]) == [values[0]] * 2


def test_progress_is_told(quotes: Quotes) -> None:
    told: list[tuple[int, int]] = []
    quotes.map(range(30), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (30, 30)
    assert told == sorted(told)
    told.clear()
    quotes.map(range(30), progress=lambda done, total: told.append((done, total)))
    assert told == [(30, 30)]


def test_a_progress_function_that_fails_ends_the_run(quotes: Quotes) -> None:
    def fail(done: int, total: int) -> None:
        raise Upstream

    with pytest.raises(Upstream):
        quotes.map(range(30), progress=fail)
    assert quotes.leases() == []


def test_progress_on_stderr(
    quotes: Quotes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quotes.map(range(3), progress=True)
    quotes.map(range(3))
    assert capsys.readouterr().err == "", "short runs say nothing"
    monkeypatch.setattr(_map, "SHORT", 0.0)
    quotes.map(range(10), progress=True)
    said = capsys.readouterr().err
    assert "10 of 10" in said
    assert "quote" in said


def test_an_async_map_asks_no_thread_for_the_secret_that_it_has(
    quotes: Quotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one may have to start a server for it; each later one would wait for a thread."""
    quotes.map(["A", "B"])
    asked: list[object] = []
    monkeypatch.setattr(asyncio, "to_thread", lambda *given: asked.append(given))
    assert quotes.map(["A", "B"]) == [made("A"), made("B")]
    assert asked == []
