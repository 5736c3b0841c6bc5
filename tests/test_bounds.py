"""P7: entries are kept within maxsize and maxbytes, by use or by worth, whatever happens to the indexes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from redis_memo import MISSING, Cache, Limits, cache_info, clear, connect, redis_cached, testing
from redis_memo import _ops as ops
from redis_memo.errors import ConfigurationError

from .bounds_load import perfect_lru, zipf
from .conftest import SECRET, Server, start_server, until, valkey

SERVERS = ["valkey_server", "redis_server", "redis_6_server", "redis_8_server"]


def counting(cache: Cache, namespace: str, size: int = 10, **options: Any) -> Any:
    """A function of a number, whose results have about ``size`` bytes."""

    @redis_cached(namespace=namespace, name="counting", cache=cache, compress=None, **{"ttl": 600, **options})
    def f(number: int) -> bytes:
        return random.Random(number).randbytes(size)

    return f


def prefix_of(function: Any) -> str:
    return str(function.__redis_memo__._memo.prefix)


def kept(function: Any, numbers: range) -> list[int]:
    """Of which numbers there is an entry; looking is no use."""
    return [number for number in numbers if function.peek(number) is not MISSING]


def told(function: Any) -> None:
    """Tell the server of what was used."""
    memo = function.__redis_memo__._memo
    memo.engine.touches.tell()


def keys_of(client: redis.Redis, function: Any) -> list[str]:
    return sorted(key.decode() for key in client.scan_iter(prefix_of(function) + "*", count=1000))


def entries_of(client: redis.Redis, function: Any) -> set[str]:
    prefix = prefix_of(function)
    return {key[len(prefix) :] for key in keys_of(client, function) if len(key) == len(prefix) + 40}


def in_step(client: redis.Redis, function: Any) -> None:
    """What is kept of the entries is what there is."""
    prefix, entries = prefix_of(function), entries_of(client, function)
    assert {digest.decode() for digest in client.zrange(f"{prefix}uses", 0, -1)} == entries
    assert {digest.decode() for digest in client.zrangebyscore(f"{prefix}index", 0, "inf")} == entries
    sizes = client.hgetall(f"{prefix}sizes")
    assert {digest.decode() for digest in sizes if digest[:1] != b"#"} == entries
    assert int(sizes.get(b"#bytes", 0)) == sum(client.strlen(prefix + digest) for digest in entries)


@pytest.fixture(params=SERVERS)
def each_cache(request: pytest.FixtureRequest) -> Iterator[Cache]:
    """A cache on each kind of server."""
    server: Server = request.getfixturevalue(request.param)
    cache = connect(server.url, secret=SECRET, timeout=10)
    yield cache
    cache.close()


def client_of(cache: Cache) -> redis.Redis:
    return redis.Redis.from_url(cache.engine.settings.url)


# What goes.


def test_an_entry_more_evicts_the_one_that_was_not_used_for_longest(each_cache: Cache, namespace: str) -> None:
    """P7: the bound is exact, and what was evicted is gone from the server with all that told of it."""
    f = counting(each_cache, namespace, maxsize=5)
    for number in range(5):
        f(number)
    f(0), f(1)
    told(f)
    f(5), f(6)
    assert kept(f, range(7)) == [0, 1, 4, 5, 6]
    info = f.cache_info()
    assert (info.maxsize, info.currsize, info.evictions) == (5, 5, 2)
    with client_of(each_cache) as client:
        in_step(client, f)
        rows = client.zrange(f"{prefix_of(f)}args", 0, -1)
        assert sum(row[:1] == b"d" for row in rows) == 5
        assert f.invalidate() == 5
        assert [key for key in keys_of(client, f) if not key.endswith((":sizes", ":stats"))] == []


def test_values_in_chunks_count_and_go_whole(cache: Cache, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: what lies beside an entry is counted with it and deleted with it."""
    monkeypatch.setattr("redis_memo._envelope.CHUNK", 100_000)
    f = counting(cache, namespace, 300_000, maxsize=2)
    f(1)
    size = f.cache_info().currbytes
    assert size > 300_000
    f(2), f(3)
    assert f.cache_info()[2:4] == (2, 2)
    assert f.cache_info().currbytes == 2 * size
    with client_of(cache) as client:
        names = [key.removeprefix(prefix_of(f)) for key in keys_of(client, f)]
        entries = entries_of(client, f)
        assert {name[:40] for name in names if len(name) > 40} == entries, "the chunks"
        assert len(entries) == 2


def test_maxbytes_holds_and_one_large_result_takes_the_place_of_many(each_cache: Cache, namespace: str) -> None:
    f = counting(each_cache, namespace, maxbytes="8kb")
    large = counting(each_cache, namespace, 6000, maxbytes=8192)
    for number in range(200):
        f(number)
    info = f.cache_info()
    assert 7000 < info.currbytes <= 8192 == info.maxbytes
    assert info.currsize + info.evictions == 200
    large(1000)
    info = f.cache_info()
    assert 6000 < info.currbytes <= 8192
    assert info.currsize > 1
    with client_of(each_cache) as client:
        in_step(client, f)


def test_a_result_larger_than_all_is_returned_and_not_stored(cache: Cache, namespace: str) -> None:
    small, large = (counting(cache, namespace, size, maxbytes=2000) for size in (10, 3000))
    small(1)
    assert len(large(2)) == 3000
    assert (large.cache_info().refused, large.peek(2)) == (1, MISSING)
    assert small.peek(1) is not MISSING, "nothing had to go for it"


@pytest.mark.parametrize("which", ["one", "many"])
def test_replacing_an_entry_is_no_second_entry(cache: Cache, namespace: str, which: str) -> None:
    f = counting(cache, namespace, maxsize=3)
    for number in range(3):
        f(number)
    for size in (10, 5000) if which == "one" else range(0, 500, 50):
        f.store(bytes(size), 1)
    assert f.cache_info()[2:4] == (3, 3)
    assert f.cache_info().evictions == 0
    with client_of(cache) as client:
        in_step(client, f)


def test_what_expired_or_was_invalidated_counts_no_more(each_cache: Cache, namespace: str) -> None:
    """P7: entries that expired leave the index with the writes that follow."""
    f = counting(each_cache, namespace, maxsize=50)
    brief = counting(each_cache, namespace, maxsize=50, ttl=0.2)
    for number in range(8):
        brief(number)
    for number in range(10, 20):
        f(number)
    f.invalidate(number=10)
    assert f.cache_clear() >= 9
    f(11)
    with client_of(each_cache) as client:
        until(lambda: len(entries_of(client, f)) == 1)
        f(12)
        until(lambda: f.cache_info().currsize == 2)
        in_step(client, f)
        assert f.cache_info().evictions == 0


def test_an_eviction_by_worth_takes_what_saves_least(each_cache: Cache, namespace: str) -> None:
    """GreedyDual-Size: seconds of computing, times uses, per byte."""

    @redis_cached(namespace=namespace, ttl=600, cache=each_cache, maxsize=4, evict="worth", compress=None)
    def f(name: str, seconds: float, size: int) -> bytes:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return os.urandom(size)

    dear, dear_and_large = ("dear", 0.15, 100), ("dear and large", 0.15, 100_000)
    f(*dear), f(*dear_and_large)
    used = ("cheap, and used", 0.0, 2000)
    f(*used)
    for _ in range(400):
        f(*used)
    told(f)
    for number in range(20):
        f(f"cheap {number}", 0.0, 2000)
    assert f.peek(*dear) is not MISSING
    assert f.peek(*used) is not MISSING
    assert f.cache_info().evictions == 19
    with client_of(each_cache) as client:
        floor = float(client.hget(f"{prefix_of(f)}sizes", "#floor"))
        assert floor > 0, "what is not used any more is overtaken in the end"
        in_step(client, f)


def test_the_entry_just_stored_is_not_the_one_that_goes(cache: Cache, namespace: str) -> None:
    """Whoever computed it is about to read it, and so are those who waited for it."""

    @redis_cached(namespace=namespace, ttl=600, cache=cache, maxsize=1, evict="worth")
    def f(seconds: float, size: int) -> bytes:
        time.sleep(seconds)
        return os.urandom(size)

    f(0.05, 10)
    f(0.0, 50_000)
    assert f.peek(0.0, 50_000) is not MISSING
    assert f.cache_info().currsize == 1


# Uses.


def test_hits_are_told_by_a_thread_and_at_the_end(valkey_server: Server, namespace: str) -> None:
    """Nobody waits for it; and a process that ends tells what it knows."""
    code = f"""
import sys
from redis_memo import connect, redis_cached
@redis_cached(namespace={namespace!r}, name="counting", ttl=600, maxsize=3, cache=connect({valkey_server.url!r}, secret={SECRET!r}), compress=None)
def f(number): raise AssertionError("it is stored")
f(0)
"""
    cache = connect(valkey_server.url, secret=SECRET, timeout=10)
    f = counting(cache, namespace, maxsize=3)
    for number in range(3):
        f(number)
    subprocess.run([sys.executable, "-c", code], check=True)
    f(3)
    assert kept(f, range(4)) == [0, 2, 3], "at its end"
    f(2)
    with client_of(cache) as client:
        place = f"{prefix_of(f)}uses"
        until(lambda: client.zrange(place, -1, -1)[0].decode() == f.cache_key(2)[-40:])
    cache.close()


def test_at_the_end_nobody_is_told_of_an_outage(namespace: str) -> None:
    """Calls that "compute their results until it answers" are no more."""
    server = start_server(valkey())
    code = f"""
import os, signal
from redis_memo import connect, redis_cached
@redis_cached(namespace={namespace!r}, name="counting", ttl=600, cache=connect({server.url!r}, secret={SECRET!r}))
def f(number): return number
f(0), f(0)
os.kill({server.process.pid if server.process else 0}, signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    server.stop()
    assert done.stderr == ""


def _use(url: str, namespace: str) -> None:
    global _used
    cache = connect(url, secret=SECRET, timeout=10)
    _used = counting(cache, namespace)  # lives to the end, as a function of a module does
    _used(1), _used(1), _used(2)


_used: Any = None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_worker_that_was_forked_tells_the_rest(valkey_server: Server, cache: Cache, namespace: str) -> None:
    """One of multiprocessing's ends without the functions of atexit."""
    process = multiprocessing.get_context("forkserver").Process(target=_use, args=(valkey_server.url, namespace))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert counting(cache, namespace).cache_info(everywhere=True)[:2] == (1, 2)


def test_a_full_list_is_told_at_once(cache: Cache, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis_memo._touches.TOUCH_EVERY", 3600.0)
    f = counting(cache, namespace, maxsize=3)
    for number in range(3):
        f(number)
    for _ in range(60):
        f(0)
    with client_of(cache) as client:
        until(lambda: client.zrange(f"{prefix_of(f)}uses", -1, -1)[0].decode() == f.cache_key(0)[-40:])


@pytest.mark.parametrize("near", [None, True])
def test_who_stores_tells_of_uses_sooner(
    cache: Cache, namespace: str, near: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As what is used here could be what goes for the next one; near hits are told of, too."""
    monkeypatch.setattr("redis_memo._touches.TOUCH_EVERY", 3600.0)
    f = counting(cache, namespace, maxsize=100, near=near)
    f(0), f(1)
    if near:
        until(lambda: (f(0), f.explain(0).near)[1])
    with client_of(cache) as client:
        place = f"{prefix_of(f)}uses"

        def first() -> str:
            return client.zrange(place, 0, 0)[0].decode()

        told(f)
        client.zadd(place, {f.cache_key(0)[-40:]: 1.0, f.cache_key(1)[-40:]: 2.0})
        cache.engine.touches._functions[prefix_of(f)].young.clear()
        assert first() == f.cache_key(0)[-40:]
        f(0)
        for number in range(2, 13):
            f(number)
        until(lambda: first() == f.cache_key(1)[-40:])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_tells_nothing_twice_and_loses_nothing(cache: Cache, namespace: str) -> None:
    """The parent goes on with what it noted, and the child begins with nothing."""
    f = counting(cache, namespace, maxsize=10)
    f(1), f(1), f(1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            f(1)
            cache.engine.touches.tell()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    f(1)
    assert f.cache_info(everywhere=True)[:2] == (4, 1)
    assert f.cache_info()[:2] == (3, 1)


@pytest.mark.parametrize("evict", ["lru", "worth"])
def test_the_server_is_asked_once_for_many_uses(
    cache: Cache, namespace: str, evict: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redis_memo._touches.TOUCH_EVERY", 3600.0)
    f = counting(cache, namespace, maxsize=1000, evict=evict)
    for number in range(20):
        f(number)
    told(f)
    asked: list[object] = []
    perform = cache.engine.backend.perform
    monkeypatch.setattr(cache.engine.backend, "perform", lambda op: (asked.append(op), perform(op))[1])
    for number in [*range(20)] * 2:
        f(number)
    told(f)
    assert [type(op) for op in asked if type(op) is not ops.Read] == [ops.Touch]


def test_hits_are_as_many_as_those_of_a_perfect_lru(cache: Cache, namespace: str) -> None:
    """Though uses are told late: within 2 % on Zipf traffic."""
    f = counting(cache, namespace, maxsize=200)
    trace = zipf(6000, 2000, 0.9, seed=3)
    before = 0
    for at, number in enumerate(trace):
        if at == 2000:
            before = f.cache_info().hits
        f(number)
        if at % 50 == 0:  # as late as the thread is on a machine that lets it run
            told(f)
    assert f.cache_info().hits - before >= 0.98 * perfect_lru(trace, 200, 2000)
    assert f.cache_info().currsize == 200


# Many writers.


def write(url: str, namespace: str, start: int, number: int) -> None:
    cache = connect(url, secret=SECRET, timeout=30)
    f = counting(cache, namespace, maxsize=100)
    for each in range(start, start + number):
        f(each)
    cache.close()


def test_eight_processes_never_have_more_than_maxsize(valkey_server: Server, namespace: str) -> None:
    """P7: the bound is kept in the script that stores, so nobody ever sees one entry more."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=write, args=(valkey_server.url, namespace, start, 60)) for start in range(0, 480, 60)
    ]
    for process in processes:
        process.start()
    cache = connect(valkey_server.url, secret=SECRET, timeout=10)
    f = counting(cache, namespace, maxsize=100)
    most = 0
    while any(process.is_alive() for process in processes):
        most = max(most, f.cache_info().currsize)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert 0 < most <= 100
    info = f.cache_info(everywhere=True)
    assert (info.currsize, info.evictions, info.misses) == (100, 380, 480)
    with client_of(cache) as client:
        in_step(client, f)
    cache.close()


def test_a_lower_bound_is_reached_in_steps_that_do_not_hold_up_the_server(cache: Cache, namespace: str) -> None:
    f = counting(cache, namespace, maxsize=1000)
    for number in range(350):
        f.store(b"", number)
    fewer = counting(cache, namespace, maxsize=10)
    fewer(1000)
    assert fewer.cache_info().currsize == 251
    fewer(1001), fewer(1002)
    assert fewer.cache_info().currsize == 53
    fewer(1002)
    told(fewer)
    assert kept(fewer, range(1003)) == [*range(343, 350), 1000, 1001, 1002], "uses do it too"


# What can get lost.


@pytest.mark.parametrize("lost", ["uses", "sizes", "index", "uses sizes", "index uses sizes args"])
def test_a_lost_index_is_made_again(each_cache: Cache, namespace: str, lost: str) -> None:
    """P7: whichever key is evicted, entries that nothing tells of are found, and kept within the bounds."""
    f = counting(each_cache, namespace, maxsize=30, tags="all")
    for number in range(30):
        f(number)
    with client_of(each_cache) as client:
        prefix = prefix_of(f)
        until(lambda: client.hget(f"{prefix}sizes", "#mend") == b"0")
        client.delete(*(f"{prefix}{name}" for name in lost.split()))
        f(100)
        until(lambda: client.hget(f"{prefix}sizes", "#mend") == b"0")
        assert f.cache_info().currsize == 30
        assert f.peek(100) is not MISSING
        in_step(client, f)
        assert f.invalidate(number=100) == 1
        assert f.invalidate_tags("all") == 29, "they are found by arguments and tags again"
        assert entries_of(client, f) == set()


def test_a_hit_brings_its_entry_back_into_a_lost_index(each_cache: Cache, namespace: str) -> None:
    """P7: without waiting for the search."""
    f = counting(each_cache, namespace, maxsize=30)
    for number in range(5):
        f(number)
    with client_of(each_cache) as client:
        prefix = prefix_of(f)
        until(lambda: client.hget(f"{prefix}sizes", "#mend") == b"0")
        client.delete(f"{prefix}uses", f"{prefix}sizes", f"{prefix}index", f"{prefix}args")
        f(3)
        flow = each_cache.engine.touches.telling(prefix)
        each_cache.engine.backend.perform(next(flow))
        assert f.cache_key(3)[-40:].encode() in client.zrange(f"{prefix}uses", 0, -1)
        assert f.invalidate(number=3) == 1


def test_the_order_of_use_survives_the_loss_of_the_index(cache: Cache, namespace: str) -> None:
    """As far as the server itself knows when an entry was read, which is to a second."""
    f = counting(cache, namespace, maxsize=4)
    for number in range(4):
        f(number)
    with client_of(cache) as client:
        prefix = prefix_of(f)
        until(lambda: client.hget(f"{prefix}sizes", "#mend") == b"0")
        idle = f.cache_key(1)
        until(lambda: client.object("idletime", idle) >= 2)
        f(0), f(2), f(3)
        client.delete(f"{prefix}uses")
        f(9)
        until(lambda: client.hget(f"{prefix}sizes", "#mend") == b"0")
        assert kept(f, range(10)) == [0, 2, 3, 9]


def test_a_function_that_was_not_bounded_before_comes_within_its_bounds(each_cache: Cache, namespace: str) -> None:
    free = counting(each_cache, namespace)
    for number in range(150):
        free.store(b"", number)
    f = counting(each_cache, namespace, maxsize=20)
    f(1000)
    with client_of(each_cache) as client:
        until(lambda: client.hget(f"{prefix_of(f)}sizes", "#mend") == b"0")
        assert f.cache_info().currsize <= 51, "a run of the search evicts a hundred at most"
        f(1001), f(1002)
        assert f.cache_info().currsize == 20
        in_step(client, f)
        free(2000)
        in_step(client, f)
        assert free.cache_info().currsize == 21, "who knows of no bounds evicts nothing, but counts"


POLICIES = [
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
]


@pytest.fixture(scope="module")
def small_server() -> Iterator[Server]:
    server = start_server(valkey())
    yield server
    server.stop()


@pytest.mark.parametrize("policy", POLICIES)
def test_bounds_hold_while_the_server_evicts_by_itself(small_server: Server, namespace: str, policy: str) -> None:
    """P5, P7: no call fails, and what the server took away does not count for ever."""
    cache = connect(small_server.url, secret=SECRET, timeout=10)
    f = counting(cache, namespace, 20_000, maxsize=100)
    with small_server.client() as client:
        client.config_set("maxmemory", 0)
        client.execute_command("FLUSHALL", "SYNC")  # memory that is freed later would count as used
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_500_000)
        for number in range(150):
            assert len(f(number)) == 20_000
        assert len(entries_of(client, f)) <= 100
        client.config_set("maxmemory", 0)
        assert client.info("stats")["evicted_keys"] > 0 or policy == "noeviction"
        prefix = prefix_of(f)
        for number in range(1000, 1150):  # with room again: what is gone is found out, and the bound reached
            f(number)
        until(lambda: client.hget(f"{prefix}sizes", "#mend") == b"0", 40)
        assert f.cache_info().currsize == len(entries_of(client, f)) == 100
        in_step(client, f)
        client.flushall()
    cache.close()


# Namespaces.


def test_a_namespace_is_kept_within_its_limits(valkey_server: Server, namespace: str) -> None:
    """P7: behind the callers; what was used longest ago goes, of whichever function it is."""
    cache = connect(valkey_server.url, secret=SECRET, limits={namespace: Limits(maxsize=20)})

    @redis_cached(namespace=namespace, ttl=None, cache=cache)
    def first(number: int) -> int:
        return number

    @redis_cached(namespace=namespace, ttl=None, cache=cache)
    def second(number: int) -> int:
        return -number

    for number in range(15):
        first(number)
    for number in range(15):
        second(number)
    until(lambda: first.cache_info().currsize + second.cache_info().currsize == 20)
    assert (first.cache_info().currsize, second.cache_info().currsize) == (5, 15)
    assert kept(first, range(15)) == [*range(10, 15)]
    assert first.cache_info().evictions == 10
    assert first.cache_parameters()["maxsize"] is None
    for number in range(100, 300):
        second(number)
    until(lambda: second.cache_info().currsize == 20)
    assert first.cache_info().currsize == 0
    with client_of(cache) as client:
        in_step(client, second)
    cache.clear(namespace)
    cache.close()


def test_a_namespace_is_kept_within_its_bytes(valkey_server: Server, namespace: str) -> None:
    cache = connect(valkey_server.url, secret=SECRET, limits={namespace: Limits(maxbytes="10kb")})
    f = counting(cache, namespace, 1000)
    assert len(counting(cache, namespace, 20_000)(1)) == 20_000
    for number in range(30):
        f(number)
    until(lambda: (f.cache_info().currbytes or 0) <= 10_240)
    assert f.cache_info().currsize >= 8
    cache.close()


# What is left.


@pytest.mark.parametrize("way", ["cache_clear", "one by one", "namespace", "noted after that"])
def test_what_is_kept_of_a_function_without_entries_ends(cache: Cache, namespace: str, way: str) -> None:
    """P7: of a function that is never called again nothing stays; of one that is, the bounds hold as before."""
    f = counting(cache, namespace, maxsize=3)

    def without_end() -> set[str]:
        with client_of(cache) as client:
            keys = [key.decode() for key in client.keys(f"memo:{{{namespace}:*") if client.ttl(key) == -1]
        return {key.rpartition(":")[2] for key in keys}

    for number in range(5):
        f(number)
    assert without_end() == {"index", "args", "uses", "sizes"}
    for _ in range(2):
        f(1)
        if way == "one by one":
            for number in range(5):
                f.invalidate(number=number)
        elif way == "namespace":
            cache.clear(namespace)
        else:
            if way == "noted after that":
                f(1)
            f.cache_clear()
        cache.engine.touches.tell()
        assert without_end() == set()
    for number in range(5):
        f(number)
    assert f.cache_info().currsize == 3
    assert without_end() == {"index", "args", "uses", "sizes"}


# What is said.


def test_without_an_expiry_something_else_bounds_the_entries(cache: Cache, namespace: str) -> None:
    """P7: ttl=None is thirty days, and for functions with bounds only."""
    f = counting(cache, namespace, ttl=None, maxsize=3)
    f(1)
    with client_of(cache) as client:
        assert 29 * 86400 < client.ttl(f.cache_key(1)) <= 30 * 86400
    unbounded = counting(cache, f"{namespace}-2", ttl=None)
    with pytest.raises(ConfigurationError, match="ttl=None needs maxsize= or maxbytes="):
        unbounded(1)

    @redis_cached(namespace=namespace, cache=cache, maxsize=3)
    def left_out(number: int) -> int:
        return number

    with pytest.raises(ConfigurationError, match="ttl= is left out"):
        left_out(1)


def test_an_order_of_eviction_without_bounds_is_said_to_do_nothing(
    cache: Cache, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P7: what was asked for and cannot happen is said, once, and costs no result."""
    f = counting(cache, namespace, evict="worth")
    bounded = counting(cache, f"{namespace}-2", evict="worth", maxsize=3)
    assert f(1) == f(1) == bounded(1)
    assert [record.getMessage().partition(": ")[2].partition(": ")[2] for record in caplog.records] == [
        "evict='worth' does nothing without maxsize=, maxbytes= or limits of its namespace"
    ]


@pytest.mark.parametrize(
    "wrong",
    [{"maxsize": 0}, {"maxsize": -1}, {"maxsize": True}, {"maxsize": 1.5}, {"maxsize": "10"}, {"maxbytes": 0},
     {"maxbytes": "ten"}, {"maxbytes": "5 pb"}, {"maxsize": 3, "evict": "lfu"}, {"maxbytes": 1 << 60}],
)  # fmt: skip
def test_a_bound_is_a_number_above_zero(namespace: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        redis_cached(namespace=namespace, ttl=60, **wrong)(len)
    if "evict" not in wrong:
        with pytest.raises(ConfigurationError):
            Limits(**wrong)


@pytest.mark.parametrize("wrong", [5, {"n": 5}, {5: Limits(maxsize=3)}])
def test_limits_are_by_namespace(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="limits="):
        connect("redis://localhost", limits=wrong)


def test_parameters_and_information_tell_of_bounds(cache: Cache, namespace: str) -> None:
    f = counting(cache, namespace, maxsize=3, maxbytes="1mb", evict="lru")
    given = f.cache_parameters()
    assert (given["maxsize"], given["maxbytes"], given["evict"]) == (3, 1 << 20, "lru")
    assert (f.cache_info().maxsize, f.cache_info().maxbytes) == (3, 1 << 20)
    for number in range(3):
        f(number)
    for number in (1, 0, 2):
        f(number)
    told(f)
    f(2)
    assert f.explain(0).evicted_after == 1
    assert "1 of 3 entries evicted sooner" in str(f.explain(0))
    assert counting(cache, f"{namespace}-2").explain(1).evicted_after is None


def test_counters_of_all_processes(valkey_server: Server, cache: Cache, namespace: str) -> None:
    """And of none where this one forgets them."""
    f = counting(cache, namespace)
    f(1), f(1)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=write, args=(valkey_server.url, namespace, 0, 3))
    process.start()
    process.join()
    f(1)
    here, all_of_them = f.cache_info(), cache_info(f, everywhere=True)
    assert (here.hits, here.misses) == (2, 1)
    assert (all_of_them.hits, all_of_them.misses) == (3, 3)
    assert all_of_them.seconds_saved > 0
    assert all_of_them.bytes_stored > here.bytes_stored
    assert cache_info(f, everywhere=True)[:2] == (3, 3), "nothing is told twice"
    with client_of(cache) as client:
        assert client.ttl(f"{prefix_of(f)}stats") > 86400, "P7"
    clear(f)
    assert cache_info(f, everywhere=True)[:2] == (3, 3)
    f.cache_clear()
    assert cache_info(f, everywhere=True)[:2] == (0, 0)


def test_counters_of_all_processes_async(cache: Cache, namespace: str) -> None:
    @redis_cached(namespace=namespace, ttl=60, cache=cache, maxsize=2)
    async def f(number: int) -> int:
        return number

    async def main() -> None:
        for number in (1, 1, 2, 3):
            await f(number)
        info = await f.cache_info(everywhere=True)
        assert (info.hits, info.misses, info.maxsize, info.currsize, info.evictions) == (1, 3, 2, 2, 1)
        assert f.cache_info().evictions == 1
        asked = cache_info(f, everywhere=True)
        assert not hasattr(asked, "hits"), "nothing is known before Redis was asked"
        assert (await asked).hits == 1

    asyncio.run(main())


def test_counters_where_redis_is_away(namespace: str) -> None:
    server = start_server(valkey())
    cache = connect(server.url, secret=SECRET)
    f = counting(cache, namespace, maxsize=3)
    f(1)
    server.stop()
    f(1)
    info = f.cache_info(everywhere=True)
    assert (info.misses, info.currsize, info.currbytes, info.maxsize) == (2, None, None, 3)
    cache.close()


def test_bounds_of_a_moment(cache: Cache, namespace: str) -> None:
    """An entry as of a moment is one more entry of the function."""
    f = counting(cache, namespace, maxsize=2)
    with testing.at("2026-07-10 12:00 IST"):
        f(1)
    assert f.cache_info().currsize == 1
