"""What does not pile up: connections, descriptors, index keys, waits (P4, P5, P7)."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import subprocess
import sys
import threading
import warnings

import pytest

from redis_memo import MISSING, _commands, _neighbours, connect, redis_cached
from redis_memo import _ops as ops
from redis_memo._drive import drive
from redis_memo._neighbours import NAMESPACES

from .conftest import SECRET, Server, until


def test_connections_that_come_and_go_do_not_use_anything_up(valkey_server: Server, namespace: str) -> None:
    """P5: a large value has a connection of its own; hundreds of them, and hundreds of lost connections, are fine."""
    cache = connect(valkey_server.url, secret=SECRET)

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="large", compress=None)
    def large(x):
        return bytes([x % 256]) * 1_200_000

    for x in range(130):
        large(x % 3)
        large.refresh(x % 3)
    with valkey_server.client() as client:
        own = client.client_id()
        for x in range(130):
            for other in client.client_list():
                if int(other["id"]) != own:
                    client.client_kill_filter(_id=other["id"])
            large.peek(x % 3)
    assert large.cache_info().errors == 0
    cache.clear(namespace)
    cache.close()


def test_loops_that_end_without_finalising_leave_no_descriptors(valkey_server: Server, namespace: str) -> None:
    """P7: ``loop.close()`` alone tells a library nothing."""
    cache = connect(valkey_server.url, secret=SECRET)

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    async def f(x):
        return x

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    counts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's own, about the loop's careless owner
        for _ in range(30):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(asyncio.wait_for(gather(f, loop), 30))
            loop.close()
            counts.append(descriptors())
        asyncio.run(gather(f, None))  # after which the last one's are let go of, too, and not in another test
        gc.collect()
    assert counts[-1] <= counts[5] + 8, counts
    cache.clear(namespace)
    cache.close()


async def gather(f, loop):
    await asyncio.gather(*[f(x) for x in range(5)])


def test_a_loop_closed_over_a_pending_call_is_quiet(valkey_server: Server, namespace: str) -> None:
    """P8: asyncio's own complaint about the pending task, and none of ours; the next call gets its value."""
    code = f"""
import asyncio, gc
from redis_memo import connect, redis_cached
cache = connect({valkey_server.url!r}, secret={SECRET!r}, lease=0.5)

@redis_cached(namespace={namespace!r}, ttl=60, cache=cache, name="f")
async def f(x):
    await asyncio.sleep(60 if x else 0)
    return x

loop = asyncio.new_event_loop()
task = loop.create_task(f(1))
loop.run_until_complete(asyncio.sleep(0.2))
loop.close()
del task, loop
gc.collect()
g = redis_cached(namespace={namespace!r}, ttl=60, cache=cache, name="f")(lambda x: x)
print(g(1))
cache.clear({namespace!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1\n"
    assert "never awaited" not in done.stderr
    assert "Traceback" not in done.stderr


def test_functions_that_need_each_other_do_not_wait_for_ever(valkey_server: Server, namespace: str) -> None:
    """P4: a circle through two callers, each a process of its own as far as Redis can tell, is found and cut."""
    caches = [connect(valkey_server.url, secret=SECRET, max_wait=3600) for _ in range(2)]
    both_inside = threading.Barrier(2, timeout=30)
    results = []

    def make(cache):
        depth = threading.local()

        def first(x):
            if not getattr(depth, "inside", False):
                depth.inside = True
                both_inside.wait()
                return ["first", second_(x)]
            return ["first"]

        def second(x):
            if not getattr(depth, "inside", False):
                depth.inside = True
                both_inside.wait()
                return ["second", first_(x)]
            return ["second"]

        first_ = redis_cached(namespace=namespace, ttl=60, cache=cache, name="first")(first)
        second_ = redis_cached(namespace=namespace, ttl=60, cache=cache, name="second")(second)
        return first_, second_

    (first, _), (_, second) = make(caches[0]), make(caches[1])
    threads = [threading.Thread(target=lambda f=f: results.append(f(1)), daemon=True) for f in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(result[0] for result in results) == ["first", "second"]
    for cache in caches:
        cache.clear(namespace)
        cache.close()


def test_what_nobody_calls_any_more_is_tidied_away(
    valkey_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: index keys never expire, so the functions of a namespace look after each other's."""
    monkeypatch.setattr(_commands, "FORGOTTEN", 0)
    monkeypatch.setattr(_commands, "TIDIED_AT_ONCE", 100)
    old = connect(valkey_server.url, secret=SECRET)
    closures = [
        redis_cached(namespace=namespace, ttl="30ms", cache=old, name=f"closure{n}")(lambda x: x) for n in range(20)
    ]
    lasting = redis_cached(namespace=namespace, ttl=60, cache=old, name="lasting")(lambda x: x)
    lasting(1)
    for closure in closures:
        closure(1)
    with valkey_server.client() as client:
        registry = f"memo:{{{namespace}}}:functions"
        until(lambda: not any(closure.peek(1) for closure in closures))
        new = connect(valkey_server.url, secret=SECRET)
        redis_cached(namespace=namespace, ttl=60, cache=new, name="another")(lambda x: x)(1)
        until(lambda: client.zcard(registry) == 2)
        assert list(client.scan_iter(f"memo:{{{namespace}:closure*", count=10_000)) == []
        assert lasting.peek(1) == 1
        assert new.clear(namespace) == 2
    old.close()
    new.close()


@pytest.fixture(params=["valkey_server", "redis_6_server", "cluster_site"])
def store(request: pytest.FixtureRequest):
    return request.getfixturevalue(request.param)


@pytest.fixture
def forgets_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_commands, "FORGOTTEN", 0)
    monkeypatch.setattr(_commands, "TIDIED_AT_ONCE", 10_000)


def names(store, namespace: str) -> set[str]:
    """What a namespace has that does not end by itself."""
    with store.client() as client:
        return {
            name.decode() for name in client.scan_iter(f"memo:{{{namespace}*", count=10_000) if client.ttl(name) == -1
        }


def look_after(cache) -> None:
    """What a process does at its end, and every ten minutes."""
    cache.engine.touches._noted.clear()
    cache.engine.touches.tell(20)


def user(store, namespace: str, name: str, ttl: object = 60, **options):
    """A function of a process, and that process's cache."""
    cache = connect(store.url, secret=SECRET)
    return redis_cached(namespace=namespace, ttl=ttl, cache=cache, name=name, **options)(lambda x: x), cache


@pytest.mark.usefixtures("forgets_at_once")
def test_p7_a_namespace_that_nobody_uses_any_more_leaves_nothing(store, namespace: str) -> None:
    """Its entries have expired, and its processes are gone: others that use the same store remove lists and indexes."""
    dead, half = f"{namespace}dead", f"{namespace}half"
    code = f"""
from redis_memo import connect, redis_cached
cache = connect({store.url!r}, secret={SECRET!r})
function = lambda x: x
for number in range(5):
    options = dict(tags=["t"], maxsize=10, shards=1 + number)
    redis_cached(namespace={dead!r}, ttl="50ms", cache=cache, name=f"f{{number}}", **options)(function).map(range(5))
for name, ttl in (("expired", "50ms"), ("lasting", 60)):
    redis_cached(namespace={half!r}, ttl=ttl, cache=cache, name=name)(function)(1)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert names(store, dead)
    expired, first = user(store, half, "expired")
    lasting, second = user(store, half, "lasting")
    until(lambda: expired.peek(1) is MISSING)
    other, neighbour = user(store, f"{namespace}other", "f")
    other(1)

    def gone() -> bool:
        look_after(neighbour)
        return names(store, dead) == set()

    until(gone, 60)
    prefix = lasting.cache_key(0).rpartition(":")[0]
    assert names(store, half) == {f"memo:{{{half}}}:functions", f"{prefix}:index", f"{prefix}:args"}
    assert neighbour.engine.backend.perform(ops.Enrolled(f"memo:{{{half}}}:functions")) == [f"{prefix}:"]
    assert neighbour.clear(half) == 1
    listed = neighbour.engine.backend.perform(ops.Enrolled(NAMESPACES))
    assert f"memo:{{{dead}}}:functions" not in listed
    assert f"memo:{{{namespace}other}}:functions" in listed
    assert neighbour.clear(f"{namespace}other") == 1
    for cache in (first, second, neighbour):
        cache.close()


@pytest.mark.usefixtures("forgets_at_once")
@pytest.mark.parametrize("before", [ops.Tidy, ops.Strike, ops.Enrolled, "the last"])
def test_p3_a_namespace_that_is_used_again_while_it_is_tidied_up_is_invalidated_as_ever(
    store, namespace: str, before: object
) -> None:
    """Whenever a call comes between: what it stores is found by the namespace, and noted for the next to tidy up."""
    old, cache = user(store, namespace, "f", "50ms")
    old(1)
    look_after(cache)
    until(lambda: old.peek(1) is MISSING)
    again, cache = user(store, namespace, "f")
    own = f"memo:{{{namespace}}}:functions"
    came: list[object] = []

    def perform(op: object) -> object:
        striking = type(op) is ops.Strike
        here = (striking and op.registry == NAMESPACES) if before == "the last" else type(op) is before
        if here and not came and namespace in str(op):
            came.append(again(1))
            look_after(cache)
        return cache.engine.backend.perform(op)

    # Of all that others left there, only this one.
    flow = _neighbours._tidied(
        own, cache.engine.backend.perform(ops.Enroll(NAMESPACES, f"{own}{namespace}"))[0], math.inf
    )
    drive(flow, perform)
    assert came == [1]
    assert own in cache.engine.backend.perform(ops.Enrolled(NAMESPACES))
    _, third = user(store, namespace, "g")
    assert third.clear(namespace) == 1
    assert again.peek(1) is MISSING
    cache.engine.backend.perform(ops.Strike(NAMESPACES, f"{own}{namespace}", 0))
    cache.close()
    third.close()


@pytest.mark.usefixtures("forgets_at_once")
def test_p6_tidying_up_touches_no_key_of_another_application(valkey_server: Server, namespace: str) -> None:
    """Whatever somebody has put on the lists."""
    function, cache = user(valkey_server, namespace, "f")
    theirs = f"{namespace}:theirs"
    with valkey_server.client() as client:
        planted = [theirs, f"memo:{{{theirs}", f"{theirs}}}:functions", "memo:{*}:functions", "memo:{a:b}:functions"]
        client.zadd(NAMESPACES, dict.fromkeys([*planted, f"memo:{{{namespace}x}}:functions"], 1))
        client.zadd(f"memo:{{{namespace}x}}:functions", {f"{theirs}:": 1})
        kept = {f"{theirs}:index": {"0" * 40: 1.0}, f"{theirs}:args": {"a": 0.0}} | dict.fromkeys(planted, {"b": 1.0})
        for key, members in kept.items():
            client.zadd(key, members)
        function(1)
        look_after(cache)
        assert client.zscore(NAMESPACES, theirs) > 1, "it was given out"
        assert {key: dict(client.zrange(key, 0, -1, withscores=True)) for key in kept} == {
            key: {member.encode(): score for member, score in members.items()} for key, members in kept.items()
        }
        client.delete(*kept, f"memo:{{{namespace}x}}:functions")
        client.zrem(NAMESPACES, *planted, f"memo:{{{namespace}x}}:functions")
    cache.clear(namespace)
    cache.close()


@pytest.mark.usefixtures("forgets_at_once")
def test_p7_what_cannot_be_tidied_up_keeps_nothing_else_from_it(valkey_server: Server, namespace: str) -> None:
    """Such as the list of a namespace on a node that is away: others are given out together with it."""
    first, second = f"memo:{{{namespace}-1}}:functions", f"memo:{{{namespace}-2}}:functions"
    broken, empty = f"memo:{{{namespace}-2:a:#0}}:", f"memo:{{{namespace}-2:b:#0}}:"
    function, cache = user(valkey_server, namespace, "f")
    with valkey_server.client() as client:
        client.set(first, "no list", ex=60)
        client.zadd(NAMESPACES, {first: 1, second: 1})
        client.zadd(second, {broken: 1, empty: 1})
        client.set(f"{broken}index", "no index", ex=60)
        function(1)
        look_after(cache)
        assert client.zrange(second, 0, -1) == [broken.encode()]
        client.delete(f"{broken}index")
        look_after(cache)
        assert client.zscore(NAMESPACES, second) is None
        client.delete(first)
        look_after(cache)
        assert client.zscore(NAMESPACES, first) is None
    cache.clear(namespace)
    cache.close()


def test_a_result_too_large_to_encode_is_still_the_callers(valkey_server: Server, namespace: str) -> None:
    """P5: the memory that encoding needs is not there."""
    code = f"""
import resource, numpy as np
from redis_memo import connect, redis_cached
cache = connect({valkey_server.url!r}, secret={SECRET!r})

@redis_cached(namespace={namespace!r}, ttl=60, cache=cache, name="f")
def f(n):
    array = np.ones((n, 2))[:, 0]  # written as a copy in one piece
    if n > 1:
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 60_000_000, used + 60_000_000))
    return array

f(1)
print(len(f(20_000_000)), f.cache_info().refused)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "20000000 1\n", done.stderr


def test_the_wait_for_graph_is_forgotten(cache) -> None:
    """P7."""
    cache.engine.backend.perform(ops.NoteWait(b"test-token", b"other"))
    assert cache.engine.backend.perform(ops.FollowWait(b"test-token")) == b"other"
    until(lambda: cache.engine.backend.perform(ops.FollowWait(b"test-token")) is None)


def test_clearing_finds_what_was_stored_after_the_server_lost_everything(valkey_server: Server, namespace: str) -> None:
    """P3: the registry of the namespace went too, and whoever clears never called the function."""
    cache, other = connect(valkey_server.url, secret=SECRET), connect(valkey_server.url, secret=SECRET)
    f = redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")(lambda x: x)
    for fill in (lambda: f(1), lambda: f.refresh(1), lambda: f.store(1, 1)):
        f(0)
        with valkey_server.client() as client:
            client.delete(*client.scan_iter(f"memo:*{namespace}*", count=10_000))
        fill()
        assert other.clear(namespace) == 1
    cache.close()
    other.close()
