"""Soft and hard expiry: stale-while-revalidate, stale-if-error, early refresh, time limits of the function.

What takes time here takes it by the store's clock or an event, never by a guess: an entry is made stale by storing it with
a lifetime of some milliseconds and waiting until it is.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from redis_memo import MISSING, Cache, connect, redis_cached
from redis_memo.errors import ComputeTimeout, ConfigurationError

from .conftest import SECRET, Server, until


@pytest.fixture
def cache(valkey_server: Server, namespace: str) -> Iterator[Cache]:
    made = connect(valkey_server.url, secret=SECRET)
    yield made
    made.clear(namespace)
    made.close()


class Source:
    """An upstream whose answers are numbered, that can be held up and can fail."""

    def __init__(self) -> None:
        self.runs = 0
        self.threads: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self, x: object) -> int:
        self.runs += 1
        run = self.runs
        self.threads.append(threading.current_thread().name)
        assert self.open.wait(30)
        if self.error is not None:
            raise self.error
        return run

    async def fetch(self, x: object) -> int:
        self.runs += 1
        run = self.runs
        while not self.open.is_set():
            await asyncio.sleep(0.001)
        if self.error is not None:
            raise self.error
        return run


def stale_now(function, *args) -> None:
    """Wait until the entry is past its soft expiry."""
    until(lambda: function.explain(*args).fresh_for <= 0)


def test_a_stale_result_is_served_at_once_and_computed_anew_once(cache: Cache, namespace: str) -> None:
    """100 callers on a stale entry: one refresh, and none waits for it."""
    source = Source()
    fetch = redis_cached(namespace=namespace, ttl="30ms", stale="1h", cache=cache, name="f")(source.__call__)
    assert fetch(1) == 1
    stale_now(fetch, 1)
    source.open.clear()
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(fetch(1))) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [1] * 100, "none waited: the function has not returned yet"
    source.open.set()
    until(lambda: source.runs >= 2 and fetch.peek(1) == 2)
    info = fetch.cache_info()
    assert (info.misses, info.refreshes, info.hits) == (1, info.refreshes, 100)
    assert info.stale_hits == 100
    assert source.threads[1] == "redis_memo background"


async def test_a_stale_result_is_served_at_once_to_tasks(cache: Cache, namespace: str) -> None:
    source = Source()
    fetch = redis_cached(namespace=namespace, ttl="30ms", stale="1h", cache=cache, name="f")(source.fetch)
    assert await fetch(1) == 1
    while (await fetch.explain(1)).fresh_for > 0:
        await asyncio.sleep(0.002)
    source.open.clear()
    assert await asyncio.gather(*[fetch(1) for _ in range(100)]) == [1] * 100
    assert source.runs <= 2
    source.open.set()
    while await fetch.peek(1) == 1:
        await asyncio.sleep(0.002)
    assert source.runs == 2
    assert fetch.cache_info().refreshes == 1


def test_one_refresh_over_all_processes(valkey_server: Server, namespace: str) -> None:
    """Two caches are two processes, as far as Redis can tell."""
    sources, functions = [Source(), Source()], []
    for source in sources:
        cache = connect(valkey_server.url, secret=SECRET)
        functions.append(
            redis_cached(namespace=namespace, ttl="30ms", stale=60, cache=cache, name="f")(source.__call__)
        )
    functions[0](1)
    stale_now(functions[0], 1)
    for source in sources:
        source.open.clear()
    assert [function(1) for function in functions * 5] == [1] * 10
    until(lambda: sum(source.runs for source in sources) == 2)
    for source in sources:
        source.open.set()
    until(lambda: all(function.explain(1).fresh_for > -1 for function in functions))


def test_past_the_stale_window_it_is_a_miss(cache: Cache, namespace: str) -> None:
    source = Source()
    fetch = redis_cached(namespace=namespace, ttl="20ms", stale="20ms", cache=cache, name="f")(source.__call__)
    assert fetch(1) == 1
    until(lambda: fetch.peek(1) is MISSING)
    assert fetch(1) == 2
    assert fetch.cache_info().stale_hits == 0


def test_an_invalidation_beats_the_refresh_in_flight(cache: Cache, namespace: str) -> None:
    """P3: what a refresh computed from before is not stored."""
    source = Source()
    fetch = redis_cached(namespace=namespace, ttl="20ms", stale="1h", cache=cache, name="f")(source.__call__)
    fetch(1)
    stale_now(fetch, 1)
    source.open.clear()
    assert fetch(1) == 1
    until(lambda: source.runs == 2)
    assert fetch.invalidate(x=1) == 1
    source.open.set()
    until(lambda: fetch.cache_info().refused == 1)
    assert fetch.peek(1) is MISSING
    assert fetch(1) == 3


def test_a_refresh_that_fails_is_not_repeated_at_every_call(cache: Cache, namespace: str) -> None:
    source = Source()
    fetch = redis_cached(namespace=namespace, ttl="1s", stale="1h", cache=cache, name="f")(source.__call__)
    fetch(1)
    stale_now(fetch, 1)
    source.error = ValueError("hunter2")
    fetch(1)
    until(lambda: source.runs == 2)
    until(lambda: fetch.explain(1).lease_seconds is None)
    assert [fetch(1) for _ in range(50)] == [1] * 50
    assert source.runs == 2, "left alone for as long as a result is fresh"
    source.error = None
    until(lambda: fetch(1) == 3)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_last_result_where_computing_fails(cache: Cache, namespace: str, asynchronous: bool) -> None:
    source = Source()
    body = source.fetch if asynchronous else source.__call__
    fetch = redis_cached(namespace=namespace, ttl="1s", stale_if_error="1h", cache=cache, name="f")(body)

    async def scenario():
        async def of(result):
            return (await result) if asynchronous else result

        assert await of(fetch(1)) == 1
        while (await of(fetch.explain(1))).fresh_for > 0:
            await asyncio.sleep(0.005)
        assert await of(fetch.peek(1)) is MISSING, "it is only to fall back on"
        source.error = ConnectionError("upstream")
        for _ in range(20):
            assert await of(fetch(1)) == 1
        assert source.runs == 2, "throttled"
        assert fetch.cache_info().stale_hits == 20
        source.error = None
        while await of(fetch(1)) == 1:
            await asyncio.sleep(0.005)
        assert source.runs == 3
        source.error = ConnectionError("upstream")
        with pytest.raises(ConnectionError):
            await of(fetch(2))

    asyncio.run(scenario())


def test_what_waits_for_a_failing_computation_falls_back_too(valkey_server: Server, namespace: str) -> None:
    """In the same process and elsewhere; and the function runs once."""
    sources, functions = [Source(), Source()], []
    for source in sources:
        cache = connect(valkey_server.url, secret=SECRET)
        functions.append(
            redis_cached(namespace=namespace, ttl="1s", stale_if_error="1h", cache=cache, name="f")(source.__call__)
        )
    assert functions[0](1) == 1
    stale_now(functions[0], 1)
    for source in sources:
        source.error = LookupError("no")
        source.open.clear()
    results: list[int] = []
    threads = [threading.Thread(target=lambda f=f: results.append(f(1))) for f in functions * 5]
    for thread in threads:
        thread.start()
    until(lambda: sum(source.runs for source in sources) == 2)
    for source in sources:
        source.open.set()
    for thread in threads:
        thread.join(30)
    assert results == [1] * 10
    assert sum(source.runs for source in sources) == 2


def test_a_hot_result_is_computed_anew_before_it_expires(cache: Cache, namespace: str, monkeypatch) -> None:
    """XFetch: one compute time before the expiry at the latest, behind the call, which is served what is there."""
    runs = []

    def work(x):
        runs.append(x)
        threading.Event().wait(0.05)  # the work
        return len(runs)

    fetch = redis_cached(namespace=namespace, ttl=60, early=True, cache=cache, name="f")(work)
    assert [fetch(1), fetch(1)] == [1, 1]
    now = cache.engine._now
    monkeypatch.setattr(cache.engine, "_now", lambda: now() + 59.96)
    assert fetch(1) == 1
    until(lambda: fetch.peek(1) == 2)
    info = fetch.cache_info()
    assert (info.hits, info.misses, info.stale_hits, info.refreshes) == (2, 1, 0, 1)


def test_soft_time_limit_serves_the_last_result_and_the_computation_goes_on(cache: Cache, namespace: str) -> None:
    source = Source()
    fetch = redis_cached(
        namespace=namespace, ttl="20ms", stale_if_error="1h", soft_timeout="30ms", cache=cache, name="f"
    )(source.__call__)
    assert fetch(1) == 1
    stale_now(fetch, 1)
    source.open.clear()
    assert fetch(1) == 1
    assert fetch(1) == 1, "a waiter is not kept longer either"
    assert source.runs == 2
    source.open.set()
    until(lambda: fetch(1) >= 2)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_hard_time_limit_raises_and_the_computation_goes_on(cache: Cache, namespace: str, asynchronous: bool) -> None:
    source = Source()
    body = source.fetch if asynchronous else source.__call__
    fetch = redis_cached(namespace=namespace, ttl=60, hard_timeout="30ms", cache=cache, name="f")(body)

    async def scenario():
        async def of(result):
            return (await result) if asynchronous else result

        source.open.clear()
        for _ in range(3):
            with pytest.raises(ComputeTimeout, match=r"0\.03"):
                await of(fetch(1))
        assert source.runs == 1, "the others waited for the one that runs"
        source.open.set()
        while await of(fetch.peek(1)) is MISSING:
            await asyncio.sleep(0.002)
        assert await of(fetch(1)) == 1
        source.error = ValueError("no")
        with pytest.raises(ValueError, match="no"):
            await of(fetch(2))

    asyncio.run(scenario())


@pytest.fixture
def narrow(valkey_server: Server, namespace: str) -> Iterator[Cache]:
    """A cache with two workers."""
    made = connect(valkey_server.url, secret=SECRET, workers=2)
    yield made
    made.clear(namespace)
    made.close()


def test_functions_with_time_limits_call_each_other_to_any_depth(narrow: Cache, namespace: str) -> None:
    @redis_cached(namespace=namespace, ttl=60, hard_timeout="5s", cache=narrow)
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(40) == 102_334_155


def test_many_threads_call_functions_with_time_limits_that_call_others(narrow: Cache, namespace: str) -> None:
    together = threading.Barrier(16)

    @redis_cached(namespace=namespace, ttl=60, hard_timeout="5s", cache=narrow)
    def leaf(x):
        return x

    @redis_cached(namespace=namespace, ttl=60, hard_timeout="5s", cache=narrow)
    def outer(x):
        together.wait(30)
        return leaf(x)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(outer, range(16))) == list(range(16))


def test_a_function_that_hangs_costs_no_other_one(narrow: Cache, namespace: str) -> None:
    source = Source()
    hung = redis_cached(namespace=namespace, ttl=60, hard_timeout="30ms", cache=narrow, name="f")(source.__call__)
    healthy = redis_cached(namespace=namespace, ttl=60, hard_timeout="5s", cache=narrow, name="g")(lambda x: x)
    source.open.clear()
    for x in range(4):
        with pytest.raises(ComputeTimeout):
            hung(x)
    assert [healthy(x) for x in range(4)] == [0, 1, 2, 3]
    source.open.set()


def test_refreshes_that_hang_cost_no_call_with_a_time_limit(narrow: Cache, namespace: str) -> None:
    source = Source()
    hung = redis_cached(namespace=namespace, ttl="20ms", stale="1h", cache=narrow, name="f")(source.__call__)
    healthy = redis_cached(namespace=namespace, ttl=60, hard_timeout="5s", cache=narrow, name="g")(lambda x: x)
    before = [hung(x) for x in range(3)]
    for x in range(3):
        stale_now(hung, x)
    source.open.clear()
    assert [hung(x) for x in range(3)] == before
    until(lambda: source.runs == 5)  # as many as there are workers
    assert healthy(1) == 1
    source.open.set()


async def test_what_tasks_wait_for_leaves_room_for_refreshes(narrow: Cache, namespace: str) -> None:
    source, awaited = Source(), Source()
    fetch = redis_cached(namespace=namespace, ttl="20ms", stale="1h", cache=narrow, name="f")(source.fetch)
    slow = redis_cached(namespace=namespace, ttl=60, hard_timeout=30, cache=narrow, name="g")(awaited.fetch)
    assert await fetch(1) == 1
    while (await fetch.explain(1)).fresh_for > 0:
        await asyncio.sleep(0.002)
    awaited.open.clear()
    callers = [asyncio.ensure_future(slow(x)) for x in range(4)]
    while awaited.runs < 4:
        await asyncio.sleep(0.001)
    assert await fetch(1) == 1
    async with asyncio.timeout(10):
        while await fetch.peek(1) == 1:
            await asyncio.sleep(0.002)
    awaited.open.set()
    assert sorted(await asyncio.gather(*callers)) == [1, 2, 3, 4]


def test_runs_that_were_given_up_do_not_pile_up(narrow: Cache, namespace: str, caplog) -> None:
    """Of one function: those that are not begun give their leases back, and the function is run again once one ends."""
    source = Source()
    fetch = redis_cached(namespace=namespace, ttl=60, hard_timeout="30ms", cache=narrow, name="f")(source.__call__)
    source.open.clear()
    for x in (1, 2):
        with pytest.raises(ComputeTimeout, match="took longer"):
            fetch(x)
    for x in (3, 4, 5):
        with pytest.raises(ComputeTimeout, match="not run, as 2 or more"):
            fetch(x)
    assert source.runs == 2
    assert fetch.explain(3).state == "absent"
    assert fetch.explain(3).lease_seconds is None
    (said,) = [record.getMessage() for record in caplog.records if "not run" in record.getMessage()]
    assert "callers gave up" in said
    source.open.set()

    def runs_again() -> bool:
        try:
            return fetch(3) == 3
        except ComputeTimeout:
            return False

    until(runs_again)
    assert {fetch.peek(1), fetch.peek(2)} == {1, 2}


def test_beyond_the_runs_that_were_given_up_the_last_result_is_served(narrow: Cache, namespace: str) -> None:
    source = Source()
    fetch = redis_cached(
        namespace=namespace, ttl="20ms", stale_if_error="1h", soft_timeout="30ms", cache=narrow, name="f"
    )(source.__call__)
    before = [fetch(x) for x in range(5)]
    for x in range(5):
        stale_now(fetch, x)
    source.open.clear()
    assert [fetch(x) for x in range(5)] == before
    assert source.runs == 7
    source.open.set()
    until(lambda: fetch(4) > 5)


async def test_runs_whose_tasks_were_cancelled_do_not_pile_up(narrow: Cache, namespace: str) -> None:
    """Nobody waits for them any more, either."""
    source = Source()
    fetch = redis_cached(namespace=namespace, ttl=60, hard_timeout="5s", cache=narrow, name="f")(source.fetch)
    source.open.clear()
    for x in (1, 2):
        caller = asyncio.ensure_future(fetch(x))
        while source.runs < x:
            await asyncio.sleep(0.001)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    with pytest.raises(ComputeTimeout, match="not run"):
        await fetch(3)
    source.open.set()
    while await fetch.peek(2) is MISSING:
        await asyncio.sleep(0.002)
    assert await fetch(3) == 3


def test_runs_that_went_with_their_event_loops_are_not_counted(valkey_server: Server, namespace: str) -> None:
    """Loops that are closed without their tasks' being cancelled, which Python warns of."""
    code = f"""
import asyncio
from redis_memo import connect, redis_cached
from redis_memo.errors import ComputeTimeout
cache = connect({valkey_server.url!r}, secret={SECRET!r}, workers=1)
@redis_cached(namespace={namespace!r}, ttl=60, hard_timeout=0.1, cache=cache, name="f")
async def f(x):
    await asyncio.Event().wait()
for x in range(3):
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(f(x))
    except ComputeTimeout as error:
        print("not run" in str(error))
    loop.close()
"""
    done = run_script(code, "ignore")
    assert done.stdout.split() == ["False"] * 3, done.stderr
    cache = connect(valkey_server.url, secret=SECRET)
    cache.clear(namespace)
    cache.close()


def test_a_forked_process_does_not_count_the_runs_of_its_parent(valkey_server: Server, namespace: str) -> None:
    code = f"""
import os, threading
from redis_memo import connect, redis_cached
from redis_memo.errors import ComputeTimeout
cache = connect({valkey_server.url!r}, secret={SECRET!r}, workers=1)
gate = threading.Event()
@redis_cached(namespace={namespace!r}, ttl=60, hard_timeout=0.5, cache=cache, name="f")
def f(x):
    if x < 2:
        gate.wait(60)
    return x
for x in (0, 1):
    try:
        f(x)
    except ComputeTimeout as error:
        print("not run" in str(error), flush=True)
child = os.fork()
if not child:
    print(f(2), flush=True)
    os._exit(0)
os.waitpid(child, 0)
gate.set()
"""
    done = run_script(code, "ignore")  # Python warns of a fork beside threads
    assert done.stdout.split() == ["False", "True", "2"], done.stderr
    cache = connect(valkey_server.url, secret=SECRET)
    cache.clear(namespace)
    cache.close()


def test_time_limits_hold_while_redis_is_down(namespace: str) -> None:
    source = Source()
    cache = connect("redis://127.0.0.1:1", secret=SECRET)
    fetch = redis_cached(namespace=namespace, ttl=60, hard_timeout="30ms", cache=cache, name="f")(source.__call__)
    assert fetch(1) == 1
    source.open.clear()
    with pytest.raises(ComputeTimeout):
        fetch(1)
    source.open.set()


def test_the_callers_context_is_there_in_the_background(cache: Cache, namespace: str) -> None:
    account: contextvars.ContextVar[str] = contextvars.ContextVar("account", default="nobody")
    seen = []

    @redis_cached(namespace=namespace, ttl="20ms", stale=60, cache=cache, name="f")
    def fetch(x):
        seen.append(account.get())
        return x

    account.set("first")
    fetch(1)
    stale_now(fetch, 1)
    account.set("second")
    fetch(1)
    until(lambda: len(seen) == 2)
    assert seen == ["first", "second"]


def test_a_refresh_may_call_what_its_caller_is_computing(cache: Cache, namespace: str) -> None:
    """It runs behind the caller, and so may wait for it: no circle, and no second run."""
    runs = []
    inside = threading.Event()

    def inner_body(x):
        runs.append("inner")
        return outer(x) if len(runs) > 1 else 0

    def outer_body(x):
        runs.append("outer")
        value = inner(x)
        inside.set()
        return value + 1

    inner = redis_cached(namespace=namespace, ttl="20ms", stale=60, cache=cache, name="inner")(inner_body)
    outer = redis_cached(namespace=namespace, ttl=60, cache=cache, name="outer")(outer_body)
    assert inner(1) == 0
    stale_now(inner, 1)
    assert outer(1) == 1
    until(lambda: inner.cache_info().refreshes == 1 and inner.explain(1).lease_seconds is None)
    assert runs == ["inner", "outer", "inner"]


def test_settings_are_checked_at_decoration(cache: Cache) -> None:
    for wrong in ({"stale": 0}, {"stale": "soon"}, {"stale": -1}, {"stale": True}, {"stale_if_error": "5 parsecs"},
                  {"early": -1}, {"early": "yes"}, {"soft_timeout": 1}, {"hard_timeout": 0}, {"tags": 3},
                  {"tags": ["a", ""]}, {"tags": [b"a"]}):  # fmt: skip
        with pytest.raises(ConfigurationError, match=next(iter(wrong)).split("_")[0].rstrip("s")):
            redis_cached(namespace="docs", ttl=60, cache=cache, **wrong)(lambda x: x)
    with pytest.raises(ConfigurationError, match="workers"):
        connect("redis://h", workers=0)

    async def awaited(_):
        return ["a"]

    class Awaited:
        async def __call__(self, _):
            return ["a"]

    for option in ("tags", "cache_if"):
        for wrong_one in (awaited, Awaited()):
            with pytest.raises(ConfigurationError, match=option):
                redis_cached(namespace="docs", ttl=60, cache=cache, **{option: wrong_one})(lambda x: x)
    with pytest.raises(ConfigurationError, match="shorter"):
        redis_cached(namespace="docs", stale_if_error=9, soft_timeout=2, hard_timeout=1, cache=cache)(lambda x: x)
    for setting, value in {"on_event": Awaited(), "allow_unsigned_pickle": "no"}.items():
        with pytest.raises(ConfigurationError, match=setting):
            connect("redis://h", **{setting: value})
    with pytest.raises(ConfigurationError, match="url"):
        connect(5)


def run_script(code: str, warnings: str = "error") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", warnings, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_interpreter_waits_for_a_refresh_that_is_nearly_done(valkey_server: Server, namespace: str) -> None:
    """A script that gets a stale result and ends still sees to the next one's being fresh."""
    begin = f"""
import threading, time, sys
from redis_memo import connect, redis_cached
cache = connect({valkey_server.url!r}, secret={SECRET!r})
def body(x):
    if threading.current_thread() is not threading.main_thread():
        time.sleep({{seconds}})
    return len(sys.argv)
f = redis_cached(namespace={namespace!r}, ttl="10ms", stale=3600, cache=cache, name="f")(body)
"""
    code = (
        begin.format(seconds=0.3)
        + """
f(1)
while f.explain(1).fresh_for > 0:
    pass
print(f(1))
"""
    )
    done = run_script(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    cache = connect(valkey_server.url, secret=SECRET)
    f = redis_cached(namespace=namespace, ttl="10ms", stale=3600, cache=cache, name="f")(lambda x: 0)
    assert f.explain(1).compute_seconds >= 0.3, "the refresh was stored"
    cache.clear(namespace)
    cache.close()


def test_the_interpreter_does_not_wait_for_what_hangs(valkey_server: Server, namespace: str) -> None:
    """And the lease is given back, so that nobody else waits for it."""
    code = f"""
import threading
from redis_memo import _background, connect, redis_cached
_background.FAREWELL = 0.2
cache = connect({valkey_server.url!r}, secret={SECRET!r}, lease=600)
def body(x):
    if threading.current_thread() is not threading.main_thread():
        begun.set()
        threading.Event().wait(3600)
    return x
begun = threading.Event()
f = redis_cached(namespace={namespace!r}, ttl="10ms", stale=3600, cache=cache, name="f")(body)
f(1)
while f.explain(1).fresh_for > 0:
    pass
print(f(1))
begun.wait(30)
"""
    done = run_script(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    cache = connect(valkey_server.url, secret=SECRET)
    f = redis_cached(namespace=namespace, ttl="10ms", stale=3600, cache=cache, name="f")(lambda x: 2)
    assert f.explain(1).lease_seconds is None
    cache.clear(namespace)
    cache.close()


def test_an_event_loop_that_ends_takes_its_refresh_along(cache: Cache, namespace: str) -> None:
    """Cancelled with the loop's other tasks: no warning, no lease left, and the next loop does it."""
    source = Source()
    fetch = redis_cached(namespace=namespace, ttl="20ms", stale="1h", cache=cache, name="f")(source.fetch)

    async def stale_hit():
        value = await fetch(1)
        while (await fetch.explain(1)).fresh_for > 0:
            await asyncio.sleep(0.002)
        source.open.clear()
        assert await fetch(1) == value
        while source.runs < 2:
            await asyncio.sleep(0.001)

    asyncio.run(stale_hit())
    gc.collect()

    async def again():
        assert (await fetch.explain(1)).lease_seconds is None
        source.open.set()
        await fetch(1)
        while await fetch.peek(1) == 1:
            await asyncio.sleep(0.002)

    asyncio.run(again())
    assert source.runs == 3
