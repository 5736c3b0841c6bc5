"""P5: what a connection can do to a call. A proxy spoils the replies of a real server, under threads and under tasks."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from redis_memo import Cache, _breaker, _hook, _node, _wire, connect, invalidate, redis_cached
from redis_memo import _ops as ops
from redis_memo._backend import Backend
from redis_memo.errors import ConfigurationError, StoreError, StoreRefused, StoreUnavailable
from redis_memo.events import BreakerClosed, BreakerOpened

from .conftest import SECRET, Server, free_port, until
from .faults import Proxy, answering, calls_through

SPOILING = ["cut", "garbage", "swallow", "refuse"]  # nothing comes through
SLOWING = ["delay", "bytewise"]


@pytest.fixture
def proxy(valkey_server: Server) -> Iterator[Proxy]:
    with Proxy(int(valkey_server.url.rsplit(":", 1)[1].split("/")[0])) as spoiler:
        yield spoiler


@pytest.mark.parametrize("style", ["threads", "tasks"])
@pytest.mark.parametrize("mode", [*SPOILING, *SLOWING])
def test_every_caller_gets_the_function_s_result(proxy: Proxy, namespace: str, mode: str, style: str) -> None:
    """P5: the right one, whatever comes over the wire; and hits as soon as that is over."""
    with calls_through(proxy.url, namespace) as calls:
        run = getattr(calls, style)
        run()
        proxy.seconds = 0.15
        proxy.mode = mode
        run()
        proxy.mode = "pass"
        until(calls.hits, 5)
        run()


@pytest.mark.parametrize("style", ["threads", "tasks"])
@pytest.mark.parametrize("mode", SPOILING)
def test_it_was_like_that_when_the_first_call_came(proxy: Proxy, namespace: str, mode: str, style: str) -> None:
    proxy.mode = mode
    with calls_through(proxy.url, namespace) as calls:
        getattr(calls, style)()
        assert calls.cache.engine.backend.breaker.state == "open"
        proxy.mode = "pass"
        until(calls.hits, 5)
        assert calls.cache.engine.backend.breaker.state == "closed"


@pytest.mark.parametrize("mode", SPOILING)
def test_an_invalidation_never_pretends(proxy: Proxy, namespace: str, mode: str) -> None:
    """P5: it raises, breaker or not; where the server is merely slow, it is carried out."""
    with calls_through(proxy.url, namespace) as calls:
        calls.threads()
        proxy.mode = mode
        for _ in range(3):
            for attempt in (
                lambda: invalidate(calls.fetch, x=1),
                lambda: invalidate(calls.fetch),
                lambda: calls.cache.clear(namespace),
                lambda: asyncio.run(calls.afetch.invalidate(x=1)),
            ):
                with pytest.raises(StoreError):
                    attempt()
            calls.fetch(1)
        proxy.mode = "bytewise"
        invalidate(calls.fetch, x=2)  # tried, although the breaker may be open
        assert calls.cache.engine.backend.breaker.state == "closed", "it was answered"
        calls.fetch(2)
        assert invalidate(calls.fetch, x=2) == 1


@pytest.mark.parametrize("mode", SPOILING)
def test_who_wants_the_error_gets_it(proxy: Proxy, namespace: str, mode: str) -> None:
    with calls_through(proxy.url, namespace, on_error="raise") as calls:
        assert calls.fetch(1)["x"] == 1
        proxy.mode = mode
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                calls.fetch(1)
            with pytest.raises(StoreUnavailable):
                asyncio.run(calls.afetch(1))
        assert calls.runs == 1


def test_the_error_says_what_happened_and_that_it_was_not_tried_again(proxy: Proxy, namespace: str) -> None:
    proxy.mode = "swallow"
    with calls_through(proxy.url, namespace, on_error="raise") as calls:
        with pytest.raises(StoreUnavailable, match="did not answer in time$"):
            calls.fetch(1)
        with pytest.raises(StoreUnavailable, match=r"did not answer in time \(not asked again so soon\)"):
            calls.fetch(1)


# ------------------------------------------------------------------------------------------------------- time limits


@pytest.mark.parametrize("style", ["thread", "task"])
def test_a_silent_server_costs_one_timeout_not_one_for_each_step(proxy: Proxy, namespace: str, style: str) -> None:
    """P5: connecting, authenticating, choosing a database and asking share one limit."""
    proxy.mode = "swallow"
    url = proxy.url.replace("redis://", "redis://:a-password@").replace("/0", "/3")
    with calls_through(url, namespace, timeout=1.0) as calls:
        began = time.monotonic()
        if style == "thread":
            calls.fetch(1)
        else:
            asyncio.run(calls.afetch(1))
        took = time.monotonic() - began
        assert 0.9 < took < 1.9
        began = time.monotonic()
        for x in range(100):
            calls.fetch(x)
        assert time.monotonic() - began < 0.9, "one of them waited for the server"


@pytest.mark.parametrize("style", ["thread", "task"])
def test_a_slow_handshake_counts_too(proxy: Proxy, valkey_server: Server, namespace: str, style: str) -> None:
    """P5: each step of it alone would be within the limit."""
    proxy.mode, proxy.seconds = "delay", 0.9
    url = proxy.url.replace("redis://", "redis://default:whatever@").replace("/0", "/3")
    with calls_through(url, namespace, timeout=1.0) as calls:
        began = time.monotonic()
        if style == "thread":
            calls.fetch(1)
        else:
            asyncio.run(calls.afetch(1))
        assert time.monotonic() - began < 1.6
        assert calls.cache.engine.backend.breaker.state == "open"


@pytest.mark.parametrize("style", ["thread", "task"])
def test_a_reply_that_trickles_is_no_reply(proxy: Proxy, namespace: str, style: str) -> None:
    """P5: the limit is for the exchange, not for each byte of it, which would be 20 seconds here."""
    with calls_through(proxy.url, namespace) as calls:
        calls.fetch(1)
        proxy.mode, proxy.seconds = "trickle", 0.1
        began = time.monotonic()
        if style == "thread":
            calls.fetch(1)
        else:
            asyncio.run(calls.afetch(1))
        assert time.monotonic() - began < 3
        assert calls.runs == 2


@pytest.mark.parametrize("style", ["thread", "task"])
def test_replies_of_a_pipeline_share_the_limit(namespace: str, style: str) -> None:
    """P5: a map whose every reply comes within the limit, and all of them late, does not wait for each."""
    sent, stop = [], threading.Event()

    def slowly(received: bytes) -> Iterator[bytes]:
        for _ in range(received.count(b"\r\nGET\r\n")):
            stop.wait(0.3)
            yield b"$-1\r\n"
            sent.append(received)

    with answering(slowly) as url, calls_through(url, namespace, timeout=0.5) as calls:
        if style == "thread":
            found = calls.fetch.map(range(6))
        else:
            found = asyncio.run(calls.afetch.map(range(6)))
        given_up_after = len(sent)
        stop.set()
        assert [each["x"] for each in found] == list(range(6))
        assert given_up_after < 6


@pytest.mark.parametrize("style", ["thread", "task"])
def test_a_large_value_may_take_longer_than_the_limit_while_it_moves(proxy: Proxy, namespace: str, style: str) -> None:
    """P5: 6 MB through a proxy that holds each 64 kB up: far longer than the limit, and never silent for as long."""
    cache = connect(proxy.url, secret=SECRET, timeout=0.3)
    runs = []

    def large(x):
        runs.append(x)
        return os.urandom(6_000_000)

    async def alarge(x):
        return large(x)

    f = redis_cached(namespace=namespace, ttl=60, cache=cache, name="large")(large)
    af = redis_cached(namespace=namespace, ttl=60, cache=cache, name="large")(alarge)
    first = f(1)
    proxy.mode, proxy.seconds = "delay", 0.01
    assert (f(1) if style == "thread" else asyncio.run(af(1))) == first
    assert runs == [1]
    cache.close()


# ------------------------------------------------------------------------------------------------------ event loops


def test_a_blocked_loop_is_not_a_slow_server(valkey_server: Server, namespace: str) -> None:
    """P5: user code holds the loop up for longer than the limit, while the replies lie in their sockets."""
    with calls_through(valkey_server.url, namespace, timeout=0.4, on_error="raise") as calls:

        async def blocked() -> None:
            await asyncio.gather(*[calls.afetch(x) for x in range(60)])
            runs = calls.runs
            for _ in range(3):
                asking = [asyncio.ensure_future(calls.afetch(x)) for x in range(60)]
                for _ in range(3):
                    await asyncio.sleep(0)
                threading.Event().wait(0.8)
                await asyncio.gather(*asking)
            assert calls.runs == runs

        asyncio.run(blocked())
        assert calls.cache.engine.backend.breaker.state == "closed"


def test_a_loop_blocked_while_it_connects(valkey_server: Server, namespace: str) -> None:
    with calls_through(valkey_server.url.replace("/0", "/2"), namespace, timeout=0.06, on_error="raise") as calls:

        async def blocked() -> None:
            asking = [asyncio.ensure_future(calls.afetch(x)) for x in range(5)]
            while not all(each.done() for each in asking):
                threading.Event().wait(0.08)
                await asyncio.sleep(0)
            await asyncio.gather(*asking)

        asyncio.run(asyncio.wait_for(blocked(), 60))
        assert calls.cache.engine.backend.breaker.state == "closed"


def test_a_cancelled_call_leaves_no_answer_for_the_next(proxy: Proxy, namespace: str) -> None:
    """P5: cancelled from outside, it is cancelled, at once and without the breaker's notice."""
    with calls_through(proxy.url, namespace, timeout=5) as calls:

        async def some() -> None:
            await asyncio.gather(*[calls.afetch(x) for x in range(10)])
            proxy.mode, proxy.seconds = "delay", 0.3
            asking = [asyncio.ensure_future(calls.afetch(x)) for x in range(10)]
            await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            for each in asking:
                each.cancel()
            assert all(
                isinstance(each, asyncio.CancelledError)
                for each in await asyncio.gather(*asking, return_exceptions=True)
            )
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await calls.afetch(3)
            proxy.mode = "pass"
            for x in range(10):
                assert (await calls.afetch(x))["x"] == x

        asyncio.run(some())
        assert calls.cache.engine.backend.breaker.state == "closed"
        assert calls.runs == 10


# ------------------------------------------------------------------------------------------------------ connections


def test_a_connection_introduces_itself_to_nobody(valkey_server: Server, namespace: str) -> None:
    """P5: two round trips less, each of which would have had a time limit of its own. (redis-py's CLIENT SETINFO.)"""
    with valkey_server.client() as client, calls_through(valkey_server.url, namespace) as calls:
        client.ping()
        client.config_resetstat()
        calls.threads()
        calls.tasks()
        subscription = calls.cache.engine.backend.listener.subscribe(f"memo:{{{namespace}}}:none")
        until(subscription.ready.done)
        subscription.close()
        assert not [name for name in client.info("commandstats") if "setinfo" in name]


def test_one_lost_connection_condemns_the_idle_ones(proxy: Proxy, namespace: str) -> None:
    """P5: after a blackhole, each of fifty half-open connections would cost a limit of its own."""
    with calls_through(proxy.url, namespace, timeout=1.0) as calls:
        calls.threads()
        backend = calls.cache.engine.backend
        assert len(backend.home._idle) > 5
        proxy.mode = "swallow"
        calls.fetch(1)
        assert backend.home._idle == []
        proxy.mode = "pass"
        until(calls.hits, 5)


def test_what_was_idle_for_long_is_not_trusted(proxy: Proxy, namespace: str) -> None:
    """P5: a router on the way forgets connections, and tells nobody."""
    with calls_through(proxy.url, namespace, timeout=30) as calls:
        calls.threads()
        backend = calls.cache.engine.backend
        old = list(backend.home._idle)
        for wire in old:
            wire.used -= _node.IDLE_TRUSTED
        proxy.mode = "swallow"
        threading.Event().wait(0)
        accepted = proxy.accepted
        proxy.mode = "pass"
        assert calls.hits()
        assert proxy.accepted > accepted
        assert not set(old) & set(backend.home._idle)


def test_answers_to_nobody_are_not_taken_for_the_next_one_s(proxy: Proxy, namespace: str) -> None:
    """P1: more bytes than one reply has, and the connection is dropped."""
    with calls_through(proxy.url, namespace, timeout=5) as calls:
        backend = calls.cache.engine.backend
        calls.threads()
        proxy.mode = "twice"
        with pytest.raises(StoreUnavailable):
            backend.perform(ops.Count(f"memo:{{{namespace}}}:"))
        assert backend.home._idle == []
        proxy.mode = "pass"
        until(calls.hits, 5)

        async def asked() -> None:
            await calls.afetch(1)
            proxy.mode = "twice"
            with pytest.raises(StoreUnavailable):
                await backend.aperform(ops.Count(f"memo:{{{namespace}}}:"))

        asyncio.run(asked())


def test_an_idle_connection_that_the_server_closed_costs_no_error(proxy: Proxy, namespace: str) -> None:
    with calls_through(proxy.url, namespace, timeout=5, on_error="raise") as calls:
        calls.threads()
        backend = calls.cache.engine.backend
        proxy.cut()
        assert invalidate(calls.fetch, x=1) == 1
        calls.threads()
        assert backend.breaker.state == "closed"


def test_a_silent_listener_is_replaced(proxy: Proxy, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: a half-open connection wakes nobody."""
    monkeypatch.setattr("redis_memo._push.SILENCE", 0.1)
    with calls_through(proxy.url, namespace) as calls:
        listener = calls.cache.engine.backend.listener
        first = listener.subscribe(f"memo:{{{namespace}}}:a")
        until(first.ready.done)
        wire = listener._wire
        proxy.mode = "swallow"
        until(lambda: listener._wire is not wire)
        proxy.mode = "pass"
        second = listener.subscribe(f"memo:{{{namespace}}}:b")
        until(second.ready.done)
        first.close()
        second.close()


# ------------------------------------------------------------------------------------------------ breaker and events


def test_while_it_is_open_nobody_asks_but_the_probe(proxy: Proxy, namespace: str) -> None:
    """P5: fifty threads, no connection of theirs."""
    with calls_through(proxy.url, namespace, timeout=0.5) as calls:
        proxy.mode = "swallow"
        calls.fetch(1)
        accepted, began = proxy.accepted, time.monotonic()
        calls.threads(200)
        calls.tasks(20)
        assert proxy.accepted - accepted <= (time.monotonic() - began) / _breaker.PAUSE[0] + 2
        probe = calls.cache.engine.backend.breaker._thread
        assert probe.is_alive()
        proxy.mode = "pass"
        until(calls.hits, 5)
        until(lambda: not probe.is_alive())


@pytest.mark.parametrize("style", ["threads", "tasks"])
def test_each_change_is_told_once(proxy: Proxy, namespace: str, style: str, caplog: pytest.LogCaptureFixture) -> None:
    told = []
    with (
        calls_through(proxy.url, namespace, timeout=1.0, on_event=told.append) as calls,
        caplog.at_level(logging.WARNING, "redis_memo"),
    ):
        run = getattr(calls, style)
        run()
        assert told == []
        for turn in range(1, 3):
            proxy.mode = "swallow"
            run()
            until(lambda: len(told) == 2 * turn - 1)
            proxy.mode = "pass"
            until(calls.hits, 5)
            run()
            until(lambda: len(told) == 2 * turn)
    assert [type(each) for each in told] == [BreakerOpened, BreakerClosed] * 2
    assert told[0].server == proxy.url
    assert told[0].reason == f"{proxy.url} did not answer in time"
    assert all(0 < each.seconds < 60 for each in told[1::2])
    lines = [record.getMessage() for record in caplog.records if record.name == "redis_memo"]
    assert sum(proxy.url in line and "compute their results until" in line for line in lines) == 2
    assert sum("the server answers again" in line for line in lines) == 2


def test_what_a_hook_raises_is_nobody_s_loss(proxy: Proxy, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    told = []

    def broken(event: object) -> None:
        told.append(event)
        raise RuntimeError("from the hook")

    with calls_through(proxy.url, namespace, on_event=broken) as calls:
        for _ in range(2):
            proxy.mode = "refuse"
            calls.threads()
            proxy.mode = "pass"
            until(calls.hits, 5)
    until(lambda: len(told) == 4)
    assert sum("on_event=" in record.getMessage() for record in caplog.records) == 1


def test_a_hook_may_use_the_cache(proxy: Proxy, namespace: str) -> None:
    """It is called under no lock, and what happens meanwhile is told after."""
    told = []
    box = []

    def hook(event: object) -> None:
        told.append(type(event))
        box[0].fetch(1)
        if type(event) is BreakerOpened:
            proxy.mode = "pass"
            until(lambda: box[0].cache.engine.backend.breaker.state == "closed", 5)

    with calls_through(proxy.url, namespace, on_event=hook) as calls:
        box.append(calls)
        proxy.mode = "refuse"
        calls.fetch(1)
        until(lambda: told == [BreakerOpened, BreakerClosed])


def test_a_hook_that_cannot_be_one_is_refused() -> None:
    async def hook(event: object) -> None:
        pass

    for wrong in ("print", 1, hook):
        with pytest.raises(ConfigurationError, match="on_event"):
            connect("redis://h", on_event=wrong)


def test_a_failure_from_before_says_nothing_of_now() -> None:
    """P5: a time-out that began before the server came back does not open the breaker again."""
    asked = threading.Event()
    breaker = _breaker.Breaker(lambda seconds: asked.set(), 1.0, _hook.Hook(None))
    before = breaker.epoch
    assert breaker.failed(StoreUnavailable("away"), "s", before)
    assert not breaker.failed(StoreUnavailable("away"), "s", before), "it is open"
    until(lambda: breaker.state == "closed")
    assert asked.is_set()
    assert not breaker.failed(StoreUnavailable("away"), "s", before)
    assert breaker.state == "closed"


def test_where_no_thread_can_be_started_a_caller_asks(
    proxy: Proxy, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: as while the interpreter ends."""
    start = threading.Thread.start

    def cannot(thread: threading.Thread) -> None:
        if thread.name == "redis_memo probe":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", cannot)
    with calls_through(proxy.url, namespace) as calls:
        proxy.mode = "refuse"
        calls.threads()
        assert calls.cache.engine.backend.breaker.state == "open"
        proxy.mode = "pass"
        until(calls.hits, 5)


def without(monkeypatch: pytest.MonkeyPatch, name: str) -> pytest.MonkeyPatch:
    """No thread of this name can be started, until it is undone."""
    start = threading.Thread.start

    def cannot(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", cannot)
    return monkeypatch


def renewed(client: redis.Redis, namespace: str) -> Callable[[], bool]:
    """Whether the one lease in a namespace was renewed since it was looked at first."""
    lease: list[tuple[bytes, int]] = []

    def look() -> bool:
        if not lease:
            lease.extend((key, client.pttl(key)) for key in client.scan_iter(f"memo:{{{namespace}:*:lease", count=1000))
            return False
        (key, before), left = lease[0], client.pttl(lease[0][0])
        lease[0] = key, left
        return left > before

    return look


def test_leases_are_renewed_once_threads_can_be_started_again(
    valkey_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4, P5: where a limit on threads is reached, a call goes on without; the next one tries again."""
    with (
        valkey_server.client() as client,
        calls_through(valkey_server.url, namespace, timeout=5, lease=1.0) as calls,
        monkeypatch.context() as patched,
    ):
        without(patched, "redis_memo leases")
        assert calls.fetch(1)["x"] == 1
        assert asyncio.run(calls.afetch(2))["x"] == 2
        assert [each["x"] for each in calls.fetch.map([3, 4])] == [3, 4]
        patched.undo()
        was_renewed = renewed(client, namespace)
        calls.before = lambda: until(was_renewed)
        assert calls.fetch(5)["x"] == 5
        assert calls.fetch.cache_info().errors == 0


def test_uses_are_told_once_threads_can_be_started_again(
    valkey_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5, P7: the first call goes on without; what is stored next tries again."""
    with (
        valkey_server.client() as client,
        calls_through(valkey_server.url, namespace, timeout=5, maxsize=3) as calls,
        monkeypatch.context() as patched,
    ):
        without(patched, "redis_memo touches")
        for x in (1, 2):
            assert calls.fetch(x)["x"] == x
        patched.undo()
        calls.fetch(3)
        key = calls.fetch.cache_key(1)
        until(lambda: (calls.fetch(1), client.zrange(f"{key[:-40]}uses", -1, -1) == [key[-40:].encode()])[1])
        assert calls.runs == 3


def test_waiters_go_on_without_a_listener_until_threads_can_be_started_again(
    valkey_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4, P5: they ask the store now and then."""
    with (
        calls_through(valkey_server.url, namespace, timeout=5) as first,
        calls_through(valkey_server.url, namespace, timeout=5) as second,
        ThreadPoolExecutor(2) as pool,
        monkeypatch.context() as patched,
    ):
        without(patched, "redis_memo push")
        listener = second.cache.engine.backend.listener
        begun = threading.Event()

        def hold() -> None:
            begun.set()
            until(lambda: listener._channels)

        first.before = hold
        leader = pool.submit(first.fetch, 1)
        assert begun.wait(10)
        assert second.fetch(1) == leader.result()
        assert (first.runs, second.runs) == (1, 0)
        patched.undo()
        subscription = listener.subscribe(f"memo:{{{namespace}}}:none")
        until(subscription.ready.done)
        subscription.close()


# What nobody expects: such as a fault of a library below.


def failing_once(monkeypatch: pytest.MonkeyPatch, backend: Backend, name: str, kind: type) -> list[object]:
    """The store's first answer to such an operation is an exception that is none of ours; what it was asked then."""
    perform, failed = getattr(backend, name), []

    def fails(asked: Any) -> Any:
        several = asked if isinstance(asked, list) else [asked]
        if not failed and any(type(op) is kind for op in several):
            failed.append(asked)
            raise ZeroDivisionError("from below")
        return perform(asked)

    monkeypatch.setattr(backend, name, fails)
    return failed


@pytest.mark.parametrize("what", ["a renewal", "a chore"])
def test_leases_are_renewed_though_something_fails_behind_the_callers(
    valkey_server: Server,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    """P4: of a computation that outlasts its lease, another process still waits for the result."""
    with (
        valkey_server.client() as client,
        calls_through(valkey_server.url, namespace, timeout=5, lease=1.5) as first,
        calls_through(valkey_server.url, namespace, timeout=5) as second,
        ThreadPoolExecutor(2) as pool,
    ):
        engine = first.cache.engine
        if what == "a renewal":
            failed = failing_once(monkeypatch, engine.backend, "perform_many", ops.Renew)
        else:
            failed = failing_once(monkeypatch, engine.backend, "perform", ops.Tidy)
            client.zadd(f"memo:{{{namespace}}}:functions", {f"memo:{{{namespace}:gone:1#0}}:": 1.0})
        was_renewed, begun = renewed(client, namespace), threading.Event()

        def hold() -> None:
            until(lambda: failed)
            begun.set()
            until(was_renewed)

        first.before = hold
        leader = pool.submit(first.fetch, 1)
        assert begun.wait(10)
        assert second.fetch(1) == leader.result()
        assert (first.runs, second.runs) == (1, 0)
        assert "behind the callers failed" in caplog.text
        assert engine.leases._thread.is_alive()


def test_uses_are_told_though_telling_failed_once(
    valkey_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P7: the entries that are used are those that stay."""
    monkeypatch.setattr("redis_memo._touches.TOUCH_EVERY", 0.05)
    with (
        valkey_server.client() as client,
        calls_through(valkey_server.url, namespace, timeout=5, maxsize=3) as calls,
    ):
        failed = failing_once(monkeypatch, calls.cache.engine.backend, "perform", ops.Touch)
        for x in (1, 2, 3):
            calls.fetch(x)
        until(lambda: failed)
        key = calls.fetch.cache_key(1)
        until(lambda: (calls.fetch(1), client.zrange(f"{key[:-40]}uses", -1, -1) == [key[-40:].encode()])[1])
        assert "telling of uses and counters failed" in caplog.text


def test_closures_of_one_name_come_while_they_are_told_of(cache: Cache, namespace: str) -> None:
    """P5: all that go by one prefix are counted together, and each call of a factory adds one."""

    def positions(account: int) -> Any:
        return redis_cached(namespace=namespace, ttl=60, cache=cache, name="positions", version="1")(lambda n: account)

    kept, done = [positions(0)], threading.Event()
    kept[0](1)

    def come() -> None:
        while not done.is_set() and len(kept) < 2000:
            kept.append(positions(len(kept)))
            kept[-1](1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    coming = threading.Thread(target=come)
    coming.start()
    try:
        for _ in range(200):
            assert kept[0].cache_info(everywhere=True).misses == 1
    finally:
        done.set()
        coming.join()
        sys.setswitchinterval(interval)


def test_a_cache_that_nobody_has_any_more_is_not_probed_for(namespace: str) -> None:
    with calls_through(f"redis://127.0.0.1:{free_port()}", namespace) as calls:
        calls.fetch(1)
    backend = connect(f"redis://127.0.0.1:{free_port()}").engine.backend
    with pytest.raises(StoreUnavailable):
        backend.perform(ops.Read("memo:{x}"))
    thread, gone = backend.breaker._thread, weakref.ref(backend)
    assert thread.is_alive()
    del backend
    gc.collect()

    def ended() -> bool:
        gc.collect()
        return not thread.is_alive()

    until(ended)
    assert gone() is None


def test_a_closed_cache_is_not_probed_for_and_can_be_used_again(proxy: Proxy, namespace: str) -> None:
    with calls_through(proxy.url, namespace) as calls:
        proxy.mode = "refuse"
        calls.fetch(1)
        thread = calls.cache.engine.backend.breaker._thread
        calls.cache.close()
        until(lambda: not thread.is_alive())
        proxy.mode = "pass"
        until(calls.hits, 5)


def test_a_child_has_a_breaker_of_its_own(proxy: Proxy, namespace: str) -> None:
    """P5: the parent's thread is not in it."""
    with calls_through(proxy.url, namespace) as calls:
        proxy.mode = "refuse"
        calls.fetch(1)
        proxy.mode = "pass"
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child = calls.cache.engine.backend.breaker
                assert child.state == "closed"
                assert child._thread is None
                calls.fetch(1)
                assert calls.hits()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0


def test_an_interpreter_that_ends_while_it_probes_is_quiet(namespace: str) -> None:
    code = f"""
from redis_memo import connect, redis_cached
f = redis_cached(namespace={namespace!r}, ttl=60, cache=connect("redis://127.0.0.1:{free_port()}"))(lambda x: x)
print(f(1))
"""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "1\n"
        assert "Traceback" not in done.stderr


def test_no_descriptor_left_is_not_the_server_s_fault(valkey_server: Server, namespace: str) -> None:
    """P5: connections that exist are still used."""
    code = f"""
import asyncio, os, resource, sys
from redis_memo import connect, redis_cached
from redis_memo.errors import StoreUnavailable
from redis_memo import _ops as ops
cache = connect({valkey_server.url!r}, secret={SECRET!r})
read = ops.Read("memo:{{x}}:none")
async def main():
    await cache.engine.backend.aperform(read)
    cache.engine.backend.perform(read)
    used = max(int(each) for each in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, used + 1000))
    holes = []
    try:
        while True: holes.append(os.dup(0))
    except OSError: pass
    idle, cache.engine.backend.home._idle = cache.engine.backend.home._idle, []
    try: cache.engine.backend.perform(read)
    except StoreUnavailable: print("thread", cache.engine.backend.breaker.state)
    cache.engine.backend.home._idle = idle
    cache.engine.backend.perform(read)
    both = await asyncio.gather(cache.engine.backend.aperform(read), cache.engine.backend.aperform(read), return_exceptions=True)
    print("task", cache.engine.backend.breaker.state, sorted(type(each).__name__ for each in both))
    await cache.engine.backend.aperform(read)
    for each in holes: os.close(each)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "thread closed"
    assert (
        done.stdout.splitlines()[1].startswith("task closed ['NoneType', 'StoreUnavailable']")
        or "['NoneType', 'NoneType']" in done.stdout
    )


def test_the_limits_are_what_the_page_says() -> None:
    assert _breaker.PAUSE[1] + _breaker.QUICK < 2, "hits are back within two seconds"
    assert _wire.LEAST > 0
    assert issubclass(StoreRefused, StoreError)
