"""P7: a cache that nobody has any more leaves no thread and no connection behind, whatever it was used for."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from redis_memo import Cache, _leases, _push, _touches, connect, redis_cached

from .conftest import SECRET, Server, until


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that have nothing to do are soon sure of it."""
    monkeypatch.setattr(_leases, "IDLE", 0.05)
    monkeypatch.setattr(_push, "SILENCE", 0.05)
    monkeypatch.setattr(_touches, "TELL_EVERY", 0.1)


@pytest.fixture
def client(valkey_server: Server) -> Iterator[redis.Redis]:
    with valkey_server.client() as client:
        yield client


def ours() -> set[threading.Thread]:
    gc.collect()  # caches are cycles
    return {thread for thread in threading.enumerate() if thread.name.startswith("redis_memo")}


def connections(client: redis.Redis, database: int) -> int:
    gc.collect()
    return sum(each["db"] == str(database) for each in client.client_list())


def use(cache: Cache, namespace: str, others: Cache) -> None:
    """A miss, a hit, and a wait for what another cache computes: a lease, its renewal, and a listener."""
    begun, go_on = threading.Event(), threading.Event()

    def square(x: int) -> int:
        if x == 9:
            begun.set()
            assert go_on.wait(10)
        return x * x

    mine, theirs = (
        redis_cached(namespace=namespace, name="square", ttl="1h", cache=each)(square) for each in (cache, others)
    )
    assert [mine(x) for x in (1, 2, 1)] == [1, 4, 1]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(theirs, 9)
        assert begun.wait(10)
        second = pool.submit(mine, 9)
        listener = cache.engine.backend.listener
        until(lambda: listener._channels and listener._wire)
        go_on.set()
        assert first.result(10) == second.result(10) == 81
    cache.clear(namespace)


@pytest.mark.usefixtures("impatient")
def test_p7_dropped_caches_leave_no_thread_and_no_connection(
    valkey_server: Server, namespace: str, client: redis.Redis
) -> None:
    url, before = f"{valkey_server.url[:-1]}7", ours()
    for _ in range(3):
        use(connect(url, secret=SECRET), namespace, connect(url, secret=SECRET))
    until(lambda: not ours() - before)
    until(lambda: connections(client, 7) == 0)


@pytest.mark.usefixtures("impatient")
def test_p7_nor_do_those_of_an_event_loop_that_goes_on(
    valkey_server: Server, namespace: str, client: redis.Redis
) -> None:
    url, before = f"{valkey_server.url[:-1]}8", ours()

    async def use_several() -> None:
        for _ in range(3):
            cache = connect(url, secret=SECRET)

            @redis_cached(namespace=namespace, ttl="1h", cache=cache)
            async def square(x: int) -> int:
                return x * x

            assert await asyncio.gather(*(square(x) for x in (1, 2, 1, 3))) == [1, 4, 1, 9]
            assert connections(client, 8) > 0
            del square, cache
        for _ in range(1000):
            if not ours() - before and connections(client, 8) == 0:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(ours() - before, connections(client, 8))

    asyncio.run(use_several())


@pytest.mark.usefixtures("impatient")
def test_p4_p5_threads_that_had_nothing_to_do_begin_again(valkey_server: Server, namespace: str) -> None:
    caches = [connect(valkey_server.url, secret=SECRET, lease=0.5) for _ in range(2)]
    engine = caches[0].engine
    for _ in range(3):
        use(caches[0], namespace, caches[1])
        until(lambda: engine.leases._thread is None and engine.backend.listener._thread is None)
    for cache in caches:
        cache.close()
    use(caches[0], namespace, caches[1])
    for cache in caches:
        cache.close()
