"""A real master with two replicas and three sentinels: who is found, failovers under load, replicas that are read."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from redis_memo import MISSING, Cache, _envelope, _segments, connect, redis_cached
from redis_memo.errors import StoreUnavailable

from .conftest import SECRET, free_port, start_server, until, valkey
from .sites import SERVICE, SentinelSite, raw, start_sentinels
from .test_near import Source, keep
from .traffic import Traffic

_opened: list[Cache] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


@pytest.fixture
def frail_site() -> Iterator[SentinelSite]:
    """A set-up for what kills its servers. Sentinels need tens of seconds to see that all is well again: one per test."""
    site = start_sentinels(valkey())
    yield site
    site.stop()


def opened(url: str, **settings) -> Cache:
    """A cache that is closed after the test."""
    _opened.append(connect(url, secret=SECRET, **settings))
    return _opened[-1]


def memo(url: str, namespace: str, **settings):
    cache = opened(url, **settings)
    calls = []

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="function")
    def function(x):
        calls.append(x)
        return [x, len(calls)]

    return function, calls


def test_the_master_is_found_and_sentinels_may_be_missing(sentinel_site, namespace):
    """One that is not there, one that knows no such master: the next one is asked."""
    stranger = start_server(valkey())
    ports = [*sentinel_site.sentinels]
    hosts = f"127.0.0.1:{free_port()},{stranger.url.removeprefix('redis://').removesuffix('/0')},127.0.0.1:{ports[0]}"
    try:
        function, calls = memo(f"redis+sentinel://{hosts}/{SERVICE}", namespace)
        function(1)
        assert (function(1), calls) == ([1, 1], [1])
        with sentinel_site.node(sentinel_site.master()) as node:
            assert raw(node, "EXISTS", function.cache_key(1)) == 1
        function.invalidate()
    finally:
        stranger.stop()


def test_a_name_that_no_sentinel_knows_is_told(sentinel_site, namespace):
    url = sentinel_site.url.replace(SERVICE, "mistress")
    function, calls = memo(url, namespace)
    assert [function(1), function(1)] == [[1, 1], [1, 2]], "P5"
    assert function.cache_info().breaker == "open"
    with pytest.raises(StoreUnavailable, match="knows no such master"):
        function.invalidate(x=1)


def test_replicas_are_read_where_that_is_asked_for(sentinel_site, namespace):
    function, calls = memo(sentinel_site.url, namespace, read_from="replica", wait=2)
    master = sentinel_site.master()

    def gets() -> dict[int, int]:
        found = {}
        for port in sentinel_site.servers:
            with sentinel_site.node(port) as node:
                found[port] = node.info("commandstats").get("cmdstat_get", {}).get("calls", 0)
        return found

    function(1)
    with sentinel_site.node(master) as node:
        assert node.wait(2, 5000) == 2
    before = gets()
    for _ in range(5):
        assert function(1) == [1, 1]
    assert gets()[master] == before[master]
    assert sum(gets().values()) - sum(before.values()) == 5
    assert function.invalidate(x=1) == 1
    assert function.peek(1) is MISSING, "P3: with wait= the number of replicas, they have it, too"
    assert calls == [1]


def test_a_chunk_that_a_replica_has_not_yet_is_the_masters(sentinel_site, namespace, monkeypatch):
    """P4: chunks may be asked for of several replicas, of which one is behind."""
    monkeypatch.setattr(_segments, "SEGMENT", 100_000)
    monkeypatch.setattr(_envelope, "CHUNK", 200_000)
    value = np.random.default_rng(1).random(100_000)
    cache = opened(sentinel_site.url, read_from="replica", wait=2)
    runs = []

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="function")
    def function():
        runs.append(1)
        return value

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="function")
    async def task():
        runs.append(1)
        return value

    function()
    master = sentinel_site.master()
    with sentinel_site.node(master) as node:
        assert node.wait(2, 5000) == 2
        chunk = f"{function.cache_key()}:{node.getrange(function.cache_key(), 48, 63).hex()}:1"
        assert node.exists(chunk)
    for port in sentinel_site.servers.keys() - {master}:
        with sentinel_site.node(port) as node:
            node.config_set("replica-read-only", "no")
            assert node.delete(chunk) == 1
            node.config_set("replica-read-only", "yes")
    assert np.array_equal(function(), value)
    assert np.array_equal(asyncio.run(task()), value)
    assert (len(runs), function.cache_info().unreadable, task.cache_info().unreadable) == (1, 0, 0)


def _listened_to(node) -> bool:
    """Whether some client hears of changes there."""
    return any("B" in each["flags"] for each in node.client_list())


def test_a_demoted_master_is_left_at_its_first_refusal(frail_site, namespace):
    """READONLY: connections that were open lead to the new master, and the operation is done there (P3, P5)."""
    function, calls = memo(frail_site.url, namespace)
    cache = function.cache_parameters()["cache"]
    twin_calls = []

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="twin")
    async def twin(x):
        twin_calls.append(x)
        return x

    with asyncio.Runner() as runner:

        async def call(x):
            return await twin(x)

        function(1)
        runner.run(call(1))
        near = Source(cache, namespace).fetch
        keep(near, 1)
        old = frail_site.master()
        new = next(port for port in frail_site.servers if port != old)
        # By hand, before any sentinel: the connections stay open, unlike after a failover of theirs.
        with frail_site.node(old) as before, frail_site.node(new) as after:
            assert before.wait(2, 5000) == 2
            for port in frail_site.sentinels:
                with frail_site.node(port) as sentinel:
                    raw(sentinel, "SENTINEL", "REMOVE", SERVICE)
            raw(after, "REPLICAOF", "NO", "ONE")
            raw(before, "REPLICAOF", "127.0.0.1", new)
            for port in frail_site.sentinels:
                with frail_site.node(port) as sentinel:
                    raw(sentinel, "SENTINEL", "MONITOR", SERVICE, "127.0.0.1", new, 2)
                    raw(sentinel, "SENTINEL", "SET", SERVICE, "down-after-milliseconds", 1000, "failover-timeout", 5000)
            for port in frail_site.servers:
                if port not in (old, new):
                    with frail_site.node(port) as third:
                        raw(third, "REPLICAOF", "127.0.0.1", new)
        assert function.invalidate(x=1) == 1
        assert function(1) == [1, 2]
        runner.run(call(2))
        assert twin_calls == [1, 2]
        with frail_site.node(new) as node:
            assert raw(node, "EXISTS", function.cache_key(1), twin.cache_key(2)) == 2
            until(lambda: (near(1), near.explain(1).near)[1] and _listened_to(node), 30)
            raw(node, "UNLINK", near.cache_key(1))
            until(lambda: not near.explain(1).near)
    assert cache.engine.backend.state == "closed"


def failing_over(site: SentinelSite, namespace: str, fail, **settings) -> Traffic:
    """Traffic while the master is replaced: `fail` does it."""
    caches = [opened(site.url, **settings) for _ in range(2)]
    with Traffic(caches, namespace) as traffic:
        until(lambda: traffic.counts["invalidated"] > 10 and traffic.hits() > 20, 30)
        master = site.master()
        fail(master)
        until(lambda: site.master() != master and site.masters() == [site.master()], 30)
        hits, invalidated = traffic.hits(), traffic.counts["invalidated"]
        # With wait= the number of replicas, invalidations are refused until the third server follows the new master.
        until(
            lambda: (
                traffic.hits() > hits + 20 and traffic.counts["invalidated"] + traffic.counts["refused"] > invalidated
            ),
            30,
        )
    traffic.check()
    return traffic


def test_p3_p5_a_killed_master_under_load(frail_site, namespace):
    """With ``wait=`` the number of replicas, no invalidation that returned is undone; callers get answers throughout."""

    def fail(master: int) -> None:
        os.kill(frail_site.servers[master].process.pid, signal.SIGKILL)
        frail_site.servers[master].process.wait()

    failing_over(frail_site, namespace, fail, wait=2)


def test_p5_a_service_outlives_its_sentinels(namespace):
    """They are needed to find the master, not to use it."""
    site = start_sentinels(valkey(), replicas=1, sentinels=1)
    try:
        function, calls = memo(site.url, namespace)
        function(1)
        for sentinel in site.sentinels.values():
            sentinel.stop()
        assert function(1) == [1, 1]
        assert asyncio.run(_peeked(function.cache_parameters()["cache"], namespace)) == [1, 1]
        assert function.invalidate(x=1) == 1
    finally:
        site.stop()


async def _peeked(cache: Cache, namespace: str):
    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="function")
    async def function(x):
        raise AssertionError

    return await function(1)
