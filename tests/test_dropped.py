"""P7: a cache that nobody has any more leaves no thread and no connection behind, whatever it was used for."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from redis_memo import Cache, _leases, _push, _touches, connect, redis_cached

from .conftest import SECRET, Server, start_server, until, valkey


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


class App:
    """What a service is: functions, and methods that its event loop is given."""

    def __init__(self, url: str, namespace: str) -> None:
        self.cache = connect(url, secret=SECRET)

        @redis_cached(namespace=namespace, ttl="1h", cache=self.cache)
        async def square(x: int) -> int:
            return x * x

        self.square = square

    def failed(self, *_: object) -> None:
        """Told of what its loop does with an exception."""

    async def run(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self.failed)
        assert await asyncio.gather(*map(self.square, range(3))) == [0, 1, 4]


@pytest.mark.usefixtures("impatient")
def test_p7_nor_does_a_cache_that_its_event_loop_refers_to(
    valkey_server: Server, namespace: str, client: redis.Redis
) -> None:
    nodes = []
    for _ in range(3):
        app = App(f"{valkey_server.url[:-1]}9", namespace)
        nodes.append(weakref.ref(app.cache.engine.backend.home))
        asyncio.run(app.run())
        del app
    until(lambda: connections(client, 9) == 0 and not any(node() for node in nodes))


@pytest.mark.usefixtures("impatient")
def test_p7_nor_does_one_with_near_whose_server_is_away(namespace: str) -> None:
    before = ours()
    server = start_server(valkey())

    def use() -> None:
        cache = connect(server.url, secret=SECRET, timeout=0.5)

        @redis_cached(namespace=namespace, ttl="1h", cache=cache, near=True)
        def square(x: int) -> int:
            return x * x

        assert [square(2), square(2)] == [4, 4]
        until(lambda: cache.engine.backend.tracker.until)
        server.stop()

    use()
    until(lambda: not ours() - before)


def test_p4_who_waits_while_the_cache_is_closed_is_still_woken(valkey_server: Server, namespace: str) -> None:
    ours, theirs = (connect(valkey_server.url, secret=SECRET) for _ in range(2))
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        assert go_on.wait(10)
        return 5

    mine, others = (
        redis_cached(namespace=namespace, name="slow", ttl="1h", cache=each)(slow) for each in (ours, theirs)
    )
    listener = ours.engine.backend.listener
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(others)
        assert begun.wait(10)
        second = pool.submit(mine)
        until(lambda: listener._wire)
        ours.close()
        until(lambda: listener._wire)  # as it asks to be told
        go_on.set()
        assert first.result(10) == second.result(10) == 5
    ours.close()
    theirs.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_p5_a_fork_amid_an_event_loop_leaves_its_connections_alone(valkey_server: Server, namespace: str) -> None:
    """A child that collects the copies of the parent's transports would end what they share: the parent hears no more."""
    cache = connect(valkey_server.url, secret=SECRET)

    @redis_cached(namespace=namespace, ttl="1h", cache=cache)
    async def square(x: int) -> int:
        return x * x

    async def fork_and_call() -> None:
        assert await square(3) == 9
        for hits in range(1, 4):
            child = multiprocessing.get_context("fork").Process(target=gc.collect)
            child.start()
            child.join()
            assert await square(3) == 9
            assert square.cache_info()[:2] == (hits, 1)

    asyncio.run(fork_and_call())
    assert square.cache_info().errors == 0
    cache.close()


def test_p4_the_collector_may_end_a_wait_while_others_are_told() -> None:
    """A flow that is closed leaves its channel, in the middle of whatever runs through all of them."""
    listener = _push.Listener(lambda: pytest.fail("connects"))
    listener.see_to_it = lambda: None  # type: ignore[method-assign]
    several = [listener.subscribe(name) for name in "abc"]

    class Collecting(list[_push.Subscription]):
        def __iter__(self) -> Iterator[_push.Subscription]:
            several[1].close()
            return super().__iter__()

    listener._channels[b"a"] = Collecting(listener._channels[b"a"])
    listener.close()
    assert several[0].news.done()
    assert several[2].news.done()
