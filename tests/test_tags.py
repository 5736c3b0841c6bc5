"""Tags and namespaces: invalidation of what belongs together, whatever its arguments, and in flight or not (P3)."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator

import pytest

from redis_memo import MISSING, Cache, configure, connect, invalidate, invalidate_tags, redis_cached
from redis_memo.errors import ConfigurationError, StoreError

from .conftest import SECRET, Server, free_port, until


@pytest.fixture(params=["valkey_server", "redis_6_server"])
def cache(request: pytest.FixtureRequest, namespace: str) -> Iterator[Cache]:
    server: Server = request.getfixturevalue(request.param)
    made = connect(server.url, secret=SECRET)
    yield made
    made.clear(namespace)
    made.close()


def keys_left(cache: Cache, namespace: str) -> set[bytes]:
    import redis

    with redis.Redis.from_url(cache.engine.settings.url) as client:
        return {
            key
            for key in client.scan_iter(f"memo:*{namespace}*", count=1000)
            if not key.endswith((b":functions", b":stats"))
        }


def test_static_tags(cache: Cache, namespace: str) -> None:
    first = redis_cached(namespace=namespace, ttl=60, tags="prices", cache=cache, name="first")(lambda x: x)
    second = redis_cached(namespace=namespace, ttl=60, tags=["prices", "daily"], cache=cache, name="second")(
        lambda x: x
    )
    for x in range(3):
        first(x)
        second(x)
    assert second.invalidate_tags("prices") == 3
    assert [first.peek(0), second.peek(0)] == [0, MISSING]
    second(1)
    assert cache.invalidate_tags(namespace, "daily", "no such tag") == 1
    assert cache.invalidate_tags(namespace, "prices") == 3
    assert keys_left(cache, namespace) == set(), "P7: the index forgets with the entries"


def test_the_last_of_a_thousand_tags_finds_its_result(cache: Cache, namespace: str) -> None:
    """P3: so many rows of an index are noted in parts."""
    tags = [f"tag {number}" for number in range(1_000)]
    fetch = redis_cached(namespace=namespace, ttl=60, tags=lambda call: tags, cache=cache)(lambda x, y=0: x)
    for name in (tags[0], tags[498], tags[499], tags[500], tags[998], tags[999]):
        fetch(1)
        fetch(2)
        assert fetch.peek(2) == 2
        assert fetch.invalidate_tags(name) == 2
        assert fetch.peek(2) is MISSING
    fetch(1)
    assert fetch.invalidate(x=1, y=0) == 1
    assert keys_left(cache, namespace) == set(), "P7: the index forgets with the entries"


def test_tags_from_the_call_and_the_result(cache: Cache, namespace: str) -> None:
    members = {"NIFTY": ["INFY", "TCS"], "BANK": ["HDFC"], "EMPTY": []}

    @redis_cached(
        namespace=namespace, ttl=60, cache=cache, name="members",
        tags=lambda call: [call.arguments["index"], *call.value] if call.value else None,
    )  # fmt: skip
    def fetch(index, day=1):
        return members[index]

    for index in members:
        fetch(index)
        fetch(index, day=2)
    assert invalidate_tags(fetch, "TCS") == 2
    assert fetch.peek("NIFTY") is MISSING
    assert fetch.peek("BANK") == ["HDFC"]
    assert invalidate_tags(fetch, "BANK", "HDFC") == 2, "counted once"
    assert invalidate_tags(fetch, "EMPTY") == 0
    assert fetch.invalidate(index="EMPTY") == 2


def test_an_entry_loses_the_tags_that_its_next_value_has_not(cache: Cache, namespace: str) -> None:
    members = ["INFY"]
    fetch = redis_cached(namespace=namespace, ttl=60, cache=cache, name="f", tags=lambda call: call.value)(
        lambda: list(members)
    )
    fetch()
    members[:] = ["TCS"]
    fetch.refresh()
    assert fetch.invalidate_tags("INFY") == 0
    fetch.store(["WIPRO"])
    assert fetch.invalidate_tags("TCS") == 0
    assert fetch.invalidate_tags("WIPRO") == 1
    assert keys_left(cache, namespace) == set()


@pytest.mark.parametrize("again", ["refresh", "other tags"])
@pytest.mark.parametrize("ways", [{"x": 1}, {"x": 1, "y": 0}, "a", "b"])
def test_an_entry_that_is_computed_again_is_found_by_all_that_it_was(
    cache: Cache, namespace: str, again: str, ways: dict[str, int] | str
) -> None:
    """P3: what its last value was found by, and what its computation is, have most in common."""

    def decorated(tags):
        return redis_cached(namespace=namespace, ttl=60, cache=cache, name="f", tags=tags)(lambda x, y=0: x)

    fetch = decorated(lambda call: ["a", "b"])
    fetch(1)
    if again == "refresh":
        fetch.refresh(1)
    else:
        fetch = decorated(["a", "b"])  # a new release, say
        fetch.refresh(1)
        fetch.refresh(1)
    assert (fetch.invalidate_tags(ways) if isinstance(ways, str) else fetch.invalidate(**ways)) == 1
    assert fetch.peek(1) is MISSING
    assert keys_left(cache, namespace) == set()


@pytest.mark.parametrize("whole_namespace", [False, True])
@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_tag_beats_the_computation_in_flight(
    cache: Cache, namespace: str, whole_namespace: bool, computed: bool, asynchronous: bool
) -> None:
    """Also where nobody can know yet that it will have the tag; the next caller does not join it either."""
    begun, go_on = threading.Event(), threading.Event()
    source = ["old"]
    tags = (lambda call: ["of-" + call.arguments["x"]]) if computed else "of-a"

    if asynchronous:

        async def body(x):
            value = source[0]
            begun.set()
            while value == "old" and not go_on.is_set():
                await asyncio.sleep(0.001)
            return value
    else:

        def body(x):
            value = source[0]
            begun.set()
            assert value == "new" or go_on.wait(30)
            return value

    fetch = redis_cached(namespace=namespace, ttl=60, cache=cache, name="f", tags=tags)(body)
    call = (lambda: asyncio.run(fetch("a"))) if asynchronous else (lambda: fetch("a"))
    early: list[str] = []
    leader = threading.Thread(target=lambda: early.append(call()))
    leader.start()
    assert begun.wait(30)
    source[0] = "new"

    async def drop():
        return await (cache.ainvalidate_tags(namespace, "of-a") if whole_namespace else fetch.invalidate_tags("of-a"))

    if asynchronous:
        assert asyncio.run(drop()) == 0
    else:
        assert (cache.invalidate_tags(namespace, "of-a") if whole_namespace else fetch.invalidate_tags("of-a")) == 0
    assert call() == "new", "in the very process that computes the old one"
    go_on.set()
    leader.join()
    assert early == ["old"]
    assert call() == "new"
    assert fetch.cache_info().refused == 1


def test_tags_that_fail_cost_the_caching_and_not_the_result(cache: Cache, namespace: str, caplog) -> None:
    for number, tags in enumerate(
        (lambda call: 1 / 0, lambda call: [3], lambda call: [""], lambda call: map(str, range(5000)))
    ):
        fetch = redis_cached(namespace=namespace, ttl=60, cache=cache, name=f"f{number}", tags=tags)(lambda x: x)
        assert fetch("hunter2") == "hunter2"
        assert fetch.peek("hunter2") is MISSING
        assert fetch.cache_info().refused == 1
    assert "hunter2" not in caplog.text


def test_wrong_tags_are_refused_before_anything_goes(cache: Cache, namespace: str) -> None:
    fetch = redis_cached(namespace=namespace, ttl=60, cache=cache, name="f", tags="a")(lambda x: x)
    fetch(1)
    for wrong in (3, None, b"a", "", ["a"]):
        with pytest.raises(ConfigurationError, match="tag"):
            fetch.invalidate_tags(wrong)
    with pytest.raises(TypeError, match="at least one"):
        fetch.invalidate_tags()
    assert fetch.peek(1) == 1
    with pytest.raises(TypeError, match="not decorated"):
        invalidate_tags(len, "a")


def test_a_tag_invalidation_that_did_not_happen_raises() -> None:
    cache = connect(f"redis://127.0.0.1:{free_port()}", secret=SECRET)
    fetch = redis_cached(namespace="tags", ttl=60, cache=cache, tags="a")(lambda x: x)
    with pytest.raises(StoreError):
        fetch.invalidate_tags("a")
    with pytest.raises(StoreError):
        cache.invalidate_tags("tags", "a")


def test_a_whole_namespace_by_name(valkey_server: Server, namespace: str) -> None:
    """From code that knows no function of it, sync and async."""
    cache = configure(valkey_server.url, secret=SECRET)
    functions = [redis_cached(namespace=namespace, ttl=60, name=f"f{n}", tags="t")(lambda x: x) for n in range(3)]
    for function in functions:
        function(1)
    configure(valkey_server.url, secret=SECRET)
    assert invalidate_tags(namespace, "t") == 3
    for function in functions:
        function(1)
    assert invalidate(namespace) == 3
    assert asyncio.run(cache.aclear(namespace)) == 0
    with pytest.raises(TypeError, match="namespace"):
        invalidate(namespace, x=1)
    cache.close()


def test_awkward_tags_are_only_names(cache: Cache, namespace: str) -> None:
    """P6: hashed, so that nothing in a tag is ever interpreted; "p*" is not "px"."""
    awkward = ["p*", "px", "{a}", "a b", "é", "\ud800", "t" * 10_000, "\0", "%s", "[a-z]"]
    functions = {
        tag: redis_cached(namespace=namespace, ttl=60, cache=cache, name=uuid.uuid4().hex, tags=tag)(lambda x: x)
        for tag in awkward
    }
    for function in functions.values():
        function(1)
    for tag in awkward:
        assert cache.invalidate_tags(namespace, tag) == 1


def test_the_work_is_that_of_what_matches(cache: Cache, namespace: str) -> None:
    """O(matching): a tag on 3 of 3,000 entries is found without a look at the others."""
    import redis

    fetch = redis_cached(
        namespace=namespace,
        ttl=600,
        cache=cache,
        name="f",
        tags=lambda call: "rare" if call.value % 1000 == 0 else "common",
    )(lambda x: x)
    for x in range(3000):
        fetch(x)
    with redis.Redis.from_url(cache.engine.settings.url) as client:
        client.config_resetstat()
        assert fetch.invalidate_tags("rare") == 3
        calls = sum(row["calls"] for row in client.info("commandstats").values())
        assert "cmdstat_scan" not in client.info("commandstats")
    assert calls < 100


def test_more_in_flight_than_one_step_takes(
    valkey_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Revocation goes on until nothing is left that may turn out to have the tag."""
    from redis_memo import _ops as ops

    monkeypatch.setattr(ops, "AT_ONCE", 2)
    cache = connect(valkey_server.url, secret=SECRET)
    go_on = threading.Event()
    begun = []

    def body(x):
        begun.append(x)
        go_on.wait(30)
        return x

    fetch = redis_cached(namespace=namespace, ttl=60, cache=cache, name="f", tags=lambda call: "t")(body)
    threads = [threading.Thread(target=fetch, args=(x,)) for x in range(7)]
    for thread in threads:
        thread.start()
    until(lambda: len(begun) == 7)
    assert fetch.invalidate_tags("t") == 0
    go_on.set()
    for thread in threads:
        thread.join()
    assert fetch.cache_info().currsize == 0
    assert fetch.cache_info().refused == 7
    cache.close()
