"""One contract over every server: fakeredis, the embedded Valkey, Valkey by TCP, Debian's Redis, 6.2 and 8,
clusters of Valkey, Redis 6.2 and 8, and a sentinel set-up; sync and async."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from redis_memo import MISSING, Cache, cache_info, clear, connect, invalidate, redis_cached

from .conftest import SECRET, Server, leaked, until


@pytest.fixture(
    params=[
        "fake_server",
        "embedded_server",
        "valkey_server",
        "redis_server",
        "redis_6_server",
        "redis_8_server",
        "cluster_site",
        "cluster_6_site",
        "cluster_8_site",
        "sentinel_site",
    ]
)
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


class Runner:
    """Calls sync and async functions alike, so that the contract is written once."""

    def __init__(self, cache: Cache, namespace: str, asynchronous: bool, shards: int = 1) -> None:
        self.cache, self.namespace, self.asynchronous, self.shards = cache, namespace, asynchronous, shards
        self._loop = asyncio.Runner() if asynchronous else None

    def decorate(self, function, **options):
        options = {
            "namespace": self.namespace,
            "ttl": 60,
            "cache": self.cache,
            "name": function.__name__,
            "shards": self.shards,
        } | options
        if not self.asynchronous:
            return redis_cached(**options)(function)

        names = list(inspect.signature(function).parameters)
        if names == ["symbol", "period"]:

            async def twin(symbol, period=365):
                return function(symbol, period)
        else:

            async def twin(x):
                return function(x)

        return redis_cached(**options)(twin)

    def __call__(self, result):
        if not inspect.isawaitable(result):
            return result

        async def wait():
            return await result

        return self._loop.run(wait())

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()


@pytest.fixture(params=["sync", "async"])
def run(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Runner]:
    cache = connect(server.url, secret=SECRET)
    # A function in shards is like any other.
    shards = 5 if "cluster_6_site" in request.fixturenames or "cluster_8_site" in request.fixturenames else 1
    runner = Runner(cache, namespace, request.param == "async", shards)
    yield runner
    runner.close()
    if not server.own_kind:
        assert leaked(server.client(), namespace) == [], "P7: a key without expiry was left behind"
    cache.clear(namespace)
    cache.close()


def counted(runner: Runner, **options):
    """A decorated function of two arguments and the list of calls that reached it."""
    calls = []

    def fetch(symbol, period=365):
        calls.append((symbol, period))
        return {"symbol": symbol, "period": period, "run": len(calls)}

    return runner.decorate(fetch, **options), calls


def test_second_call_is_a_hit(run: Runner) -> None:
    fetch, calls = counted(run)
    first = run(fetch("INFY"))
    assert run(fetch("INFY")) == first
    assert run(fetch(symbol="INFY", period=365)) == first
    assert calls == [("INFY", 365)]


def test_another_client_hits_what_this_one_stored(run: Runner, server: Server) -> None:
    fetch, calls = counted(run)
    first = run(fetch("INFY"))
    other = connect(server.url, secret=SECRET)
    again, again_calls = counted(Runner(other, run.namespace, False))
    again = redis_cached(namespace=run.namespace, ttl=60, name="fetch", cache=other, shards=run.shards)(
        lambda symbol, period=365: 1 / 0
    )
    assert again("INFY") == first
    assert (len(calls), again_calls) == (1, [])
    other.close()


def test_counters_begin_like_functools(run: Runner) -> None:
    fetch, _ = counted(run)
    for symbol in ("A", "A", "B", "A"):
        run(fetch(symbol))
    info = fetch.cache_info()
    info = run(info) if run.asynchronous else info
    assert info[:4] == (2, 2, None, 2)
    assert info._fields[:4] == ("hits", "misses", "maxsize", "currsize")
    assert info.bytes_stored > 0
    assert cache_info(fetch).hits == 2


def test_peek_never_computes_and_store_and_refresh_supersede(run: Runner) -> None:
    fetch, calls = counted(run)
    assert run(fetch.peek("INFY")) is MISSING
    assert run(fetch.store({"given": 1}, "INFY")) is True
    assert run(fetch("INFY")) == {"given": 1}
    assert calls == []
    assert run(fetch.refresh("INFY"))["run"] == 1
    assert run(fetch.peek("INFY"))["run"] == 1
    assert run(fetch("INFY"))["run"] == 1


def test_invalidate_by_any_subset_counts_what_went(run: Runner) -> None:
    fetch, calls = counted(run)
    for symbol in ("A", "B"):
        for period in (1, 2, 3):
            run(fetch(symbol, period))
    assert run(invalidate(fetch, symbol="A", period=2)) == 1
    assert run(invalidate(fetch, symbol="A")) == 2
    assert run(fetch.invalidate(period=1)) == 1
    assert run(fetch.peek("B", 2)) is not MISSING
    assert run(fetch.peek("B", 1)) is MISSING
    assert run(invalidate(fetch)) == 2
    assert run(invalidate(fetch)) == 0
    assert len(calls) == 6
    with pytest.raises(TypeError, match="symbol"):
        run(invalidate(fetch, symbl="A"))


def test_an_argument_without_its_name_is_told_how_to_write_it(run: Runner) -> None:
    fetch, _ = counted(run)
    run(fetch("A"))
    for by_position in (fetch.invalidate, functools.partial(invalidate, fetch)):
        with pytest.raises(TypeError, match=r"takes arguments by name, as in invalidate\(symbol=\.\.\.\)"):
            run(by_position("A"))
    with pytest.raises(TypeError, match="as a whole"):
        invalidate("namespace", "A")
    assert run(fetch.peek("A")) is not MISSING


def test_who_gave_no_name_is_told_one_that_can_be_given(namespace: str) -> None:
    def of(function: Any, **options: Any) -> Any:
        return redis_cached(namespace=namespace, ttl="1h", **options)(function)

    class Client:
        plain = of(lambda self, symbol: symbol)
        several = of(lambda *args: args)
        nothing = of(lambda self: self)

    named = {
        "symbol": (of(lambda session, symbol: symbol, ignore=["session"]), Client().plain),
        "self": (Client.plain,),
        "args": (of(lambda *args: args), Client().several),
        "name": (of(lambda **extra: extra),),  # the name of the rest is that of no argument
    }
    for name, functions in named.items():
        for function in functions:
            with pytest.raises(TypeError, match=rf"as in invalidate\({name}=\.\.\.\)"):
                function.invalidate("A")
    for function in (of(lambda: None), Client().nothing, of(lambda session: None, ignore=["session"])):
        with pytest.raises(TypeError, match="takes no argument here"):
            function.invalidate("A")


def test_all_arguments_given_positionally_or_by_default_is_one_key(run: Runner) -> None:
    fetch, _ = counted(run)
    run(fetch("A"))
    assert run(invalidate(fetch, symbol="A")) == 1, "dogpile deletes nothing here"


def test_clear_a_function_and_a_namespace(run: Runner) -> None:
    fetch, _ = counted(run)
    other, _ = counted(run, name="other")
    for symbol in ("A", "B", "C"):
        run(fetch(symbol))
        run(other(symbol))
    assert run(clear(fetch)) == 3
    assert run(other.peek("A")) is not MISSING
    assert run.cache.clear(run.namespace) == 3
    assert run(other.peek("A")) is MISSING


def test_clearing_one_namespace_leaves_its_neighbours(run: Runner) -> None:
    """python-redis-cache's ``p*`` wiped ``px``."""
    names = [run.namespace + suffix for suffix in ("", "*", "x", "?", ":a", "[x]")]
    functions = [counted(run, namespace=name)[0] for name in names]
    for function in functions:
        run(function("A"))
    assert [run.cache.clear(name) for name in names[1:2]] == [1]
    assert [run(function.peek("A")) is MISSING for function in functions] == [False, True, False, False, False, False]
    for name in names:
        run.cache.clear(name)


def test_exceptions_are_raised_and_not_cached(run: Runner) -> None:
    attempts = []

    def fail(x):
        attempts.append(x)
        raise (StopIteration("end") if len(attempts) == 1 else LookupError(x))

    failing = run.decorate(fail)
    with pytest.raises((StopIteration, RuntimeError)):
        run(failing(1))
    with pytest.raises(LookupError):
        run(failing(1))
    assert len(attempts) == 2
    assert run(failing.peek(1)) is MISSING


def test_none_and_falsy_results_are_results(run: Runner) -> None:
    calls = []

    def nothing(x):
        calls.append(x)
        return (None, 0, "", [], -1)[x]

    function = run.decorate(nothing)
    for _ in range(2):
        assert [run(function(x)) for x in range(5)] == [None, 0, "", [], -1]
    assert len(calls) == 5
    assert run(function.peek(0)) is None


def test_cache_if_returns_but_does_not_store(run: Runner) -> None:
    fetch, calls = counted(run, cache_if=lambda value: value["symbol"] == "GOOD")
    for symbol in ("BAD", "BAD", "GOOD", "GOOD"):
        assert run(fetch(symbol))["symbol"] == symbol
    assert [symbol for symbol, _ in calls] == ["BAD", "BAD", "GOOD"]
    assert fetch.cache_info().refused == 2


def test_an_entry_expires(run: Runner) -> None:
    fetch, calls = counted(run, ttl="40ms")
    run(fetch("A"))
    # `peek` goes by the moment in the entry; a hit is over when the server removes it, a little later.
    until(lambda: run(fetch("A")) and len(calls) == 2)


def test_expired_entries_do_not_count(run: Runner) -> None:
    """P7: currsize is true although expiry tells nobody."""
    fetch, _ = counted(run, ttl="40ms")
    lasting, _ = counted(run, name="fetch", ttl=60)
    for symbol in "ABCDE":
        run(fetch(symbol))
    run(lasting("Z"))

    def size() -> int:
        info = fetch.cache_info()
        return (run(info) if run.asynchronous else info).currsize

    until(lambda: size() == 1)


def test_ttl_by_value_and_by_argument(run: Runner) -> None:
    fetch, calls = counted(run, ttl=lambda call: 0 if call.arguments["symbol"] == "LIVE" else call.value["run"] + 60)
    for symbol in ("LIVE", "LIVE", "OLD", "OLD"):
        run(fetch(symbol))
    assert len(calls) == 3


def test_mutating_a_hit_changes_no_later_hit(run: Runner) -> None:
    """P2."""
    fetch, _ = counted(run)
    first = run(fetch("A"))
    first["symbol"] = "poisoned"
    second = run(fetch("A"))
    second["symbol"] = "poisoned"
    assert run(fetch("A"))["symbol"] == "A"


def test_recursion_on_ones_own_key_does_not_deadlock(run: Runner) -> None:
    depth = []

    if run.asynchronous:

        async def dive(x):
            depth.append(x)
            return await function(x) if len(depth) < 3 else "bottom"

        function = redis_cached(namespace=run.namespace, ttl=60, cache=run.cache)(dive)
    else:

        def dive(x):
            depth.append(x)
            return function(x) if len(depth) < 3 else "bottom"

        function = redis_cached(namespace=run.namespace, ttl=60, cache=run.cache)(dive)
    assert run(function(1)) == "bottom"
    assert len(depth) == 3


def test_a_crowd_on_one_cold_key_computes_once(run: Runner, server: Server) -> None:
    """P4."""
    if server.own_kind and server.url.startswith("redis:"):
        return  # fakeredis answers one thread at a time: a crowd is no test of it
    gate = threading.Event()
    calls = []
    if run.asynchronous:

        async def slow(x):
            calls.append(x)
            await asyncio.sleep(0.05)
            return x

        function = redis_cached(namespace=run.namespace, ttl=60, cache=run.cache)(slow)

        async def crowd():
            return await asyncio.gather(*[function(7) for _ in range(100)])

        assert run(crowd()) == [7] * 100
    else:

        def slow(x):
            calls.append(x)
            gate.wait(10)
            return x

        function = redis_cached(namespace=run.namespace, ttl=60, cache=run.cache)(slow)
        results = []
        threads = [threading.Thread(target=lambda: results.append(function(7))) for _ in range(20)]
        for thread in threads:
            thread.start()
        until(lambda: calls)
        gate.set()
        for thread in threads:
            thread.join()
        assert results == [7] * 20
    assert calls == [7]


def test_an_invalidation_beats_the_computation_in_flight(run: Runner) -> None:
    """P3: the value computed before it is returned to whoever asked before it, and stored for nobody."""
    for given in ({"x": 1}, {"y": 2}, {}):
        begun, go_on = threading.Event(), threading.Event()
        source = ["old"]

        if run.asynchronous:

            async def slow(x, y):
                value = source[0]
                begun.set()
                while not go_on.is_set():
                    await asyncio.sleep(0.001)
                return value
        else:

            def slow(x, y):
                value = source[0]
                begun.set()
                assert go_on.wait(10)
                return value

        function = redis_cached(
            namespace=run.namespace, ttl=60, cache=run.cache, name=f"slow{len(given)}{min(given, default='')}"
        )(slow)
        early = []

        def call():
            early.append(asyncio.run(function(1, 2)) if run.asynchronous else function(1, 2))

        thread = threading.Thread(target=call)
        thread.start()
        assert begun.wait(10)
        source[0] = "new"
        assert run(invalidate(function, **given)) == 0
        go_on.set()
        thread.join()
        assert early == ["old"]
        assert run(function(1, 2)) == "new", given


def test_explain_tells_where_an_entry_stands_and_no_values(run: Runner) -> None:
    fetch, _ = counted(run)
    before = run(fetch.explain("hunter2"))
    run(fetch("hunter2"))
    after = run(fetch.explain("hunter2"))
    assert (before.state, after.state) == ("absent", "stored")
    assert after.key == before.key == fetch.cache_key("hunter2")
    assert [part.name for part in after.parts] == ["symbol", "period"]
    assert "hunter2" not in str(after)
    assert 0 < after.expires_in <= 60
    assert after.size > 0


def test_losing_the_scripts_is_no_loss(run: Runner, server: Server) -> None:
    if server.own_kind:
        return  # a server of its own kind, whose scripts nobody flushes
    fetch, calls = counted(run)
    run(fetch("A"))
    with server.client() as client:
        client.script_flush()
    run(fetch("B"))
    assert run(invalidate(fetch, symbol="A")) == 1
    assert len(calls) == 2
