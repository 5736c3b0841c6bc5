"""URLs of clusters and sentinels, ``shards=``, ``wait=`` and ``read_from=``: what they say and refuse."""

from __future__ import annotations

import re
import threading

import pytest

from redis_memo import MISSING, as_of, connect, redis_cached
from redis_memo._address import Address, named
from redis_memo._cluster import slot_of
from redis_memo.errors import ConfigurationError, StoreUnavailable

from .conftest import SECRET, start_server, until, valkey


@pytest.mark.parametrize(
    ("url", "kind", "seeds", "own"),
    [
        ("redis+cluster://h1:7000,h2:7001/", "cluster", [("h1", 7000), ("h2", 7001)], "redis://h1:7000/?"),
        ("redis+cluster://u:p%40@h1", "cluster", [("h1", 6379)], "redis://u:p%40@h1:6379/?"),
        (
            "rediss+cluster://[::1]:7000/0?ssl_ca_certs=x",
            "cluster",
            [("::1", 7000)],
            "rediss://[::1]:7000/?ssl_ca_certs=x",
        ),
        (
            "redis+sentinel://u:p@s1,s2:99/mymaster/2",
            "sentinel",
            [("s1", 26379), ("s2", 99)],
            "redis://u:p@s1:26379/2?",
        ),
        ("redis+sentinel://s1/name", "sentinel", [("s1", 26379)], "redis://s1:26379/0?"),
    ],
)
def test_urls_of_clusters_and_sentinels(url, kind, seeds, own):
    it = named(url)
    assert (it.kind, [tuple(each) for each in it.seeds], it.url) == (kind, seeds, own)


def test_sentinels_have_credentials_of_their_own():
    it = named("rediss+sentinel://u:p@s1/m?sentinel_username=a&sentinel_password=b%2Fc&ssl_ca_certs=x")
    assert it.url == "rediss://u:p@s1:26379/0?ssl_ca_certs=x"
    assert it.sentinel_url == "rediss://a:b%2Fc@s1:26379/?ssl_ca_certs=x"
    assert it.service == "m"
    assert str(Address("::1", 7)) == "[::1]:7"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+clutser://h1:7000/", "redis+cluster://"),
        ("redis+sentinal://h1/m", "redis+sentinel://"),
        ("redis://u:hunter2@h1:7000,h2:7001/0", "redis+cluster"),
        ("redis+cluster://u:hunter2@h1:7000,,h2/", "host is missing"),
        ("redis+cluster://h1:hunter2/", "port"),
        ("redis+cluster://h1:99999/", "port"),
        ("redis+cluster://u:hun/hunter2@h1:7000/", "port"),
        ("redis+cluster://h1/1", "databases"),
        ("redis+cluster://h1/?db=1", "databases"),
        ("redis+cluster://h1/?sentinel_password=hunter2", "sentinel"),
        ("redis+sentinel://h1:26379", "/mymaster/0"),
        ("redis+sentinel://h1:26379/0/mymaster", "number"),
        ("redis+sentinel://h1/m/0?socket_timeuot=1", "understood"),
        ("redis+cluster://", "no host"),
    ],
)
def test_p6_a_url_with_a_mistake_is_told_and_no_password_is_shown(url, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)) as caught:
        connect(url)
    assert "hunter2" not in str(caught.value)


def test_a_caches_name_shows_its_hosts_and_no_password():
    assert repr(connect("redis+cluster://u:hunter2@h1:1,h2:2/")) == "<redis_memo.Cache in redis+cluster://h1:1,h2:2/>"


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("redis://h", {"read_from": "replica"}),
        ("redis+cluster://h", {"read_from": "slave"}),
        ("redis+cluster://h", {"wait": -1}),
        ("redis+cluster://h", {"wait": True}),
        ("embedded://", {"wait": 1}),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(url, settings):
    with pytest.raises(ConfigurationError):
        connect(url, **settings)


def test_slots_are_those_of_the_specification():
    """The specification's own example of CRC16, and its rules for hash tags."""
    assert slot_of(b"123456789") == 0x31C3 % 16384
    assert slot_of(b"{user1000}.following") == slot_of(b"{user1000}.followers") == slot_of(b"user1000")
    assert slot_of(b"foo{}{bar}") != slot_of(b"bar")
    assert slot_of(b"foo{{bar}}zap") == slot_of(b"{bar")
    assert slot_of(b"foo{bar}{zap}") == slot_of(b"bar")


def sharded(cache, namespace, shards=8, **options):
    calls = []

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="sharded", shards=shards, **options)
    def function(x, y=0):
        calls.append((x, y))
        return [x, y]

    return function, calls


@pytest.mark.parametrize("site", ["valkey_server", "cluster_site"])
def test_a_function_in_shards_is_one_function(site, request, namespace):
    """Every call has one place, and what concerns many calls reaches all shards (P1, P3)."""
    server = request.getfixturevalue(site)
    cache = connect(server.url, secret=SECRET)
    function, calls = sharded(cache, namespace, tags=lambda call: f"odd{call.arguments['x'] % 2}")
    for _ in range(2):
        for x in range(40):
            assert function(x, x % 4) == [x, x % 4]
    assert len(calls) == 40
    keys = {function.cache_key(x).partition("}")[0].rpartition("#")[2] for x in range(40)}
    assert keys <= {f"{shard}.8" for shard in range(8)}
    assert len(keys) > 4, "they are spread"
    with server.client() as client:
        stored = {
            key.decode() for key in client.scan_iter(f"memo:{{{namespace}*}}:????????????????????????????????????????")
        }
    assert stored == {function.cache_key(x, x % 4) for x in range(40)}
    assert function.cache_info().currsize == 40
    assert function.invalidate(x=3, y=3) == 1
    assert function.invalidate(y=3) == 9
    assert function.invalidate_tags("odd1") == 10
    assert function.cache_info().currsize == 20
    assert function.peek(1, 1) is MISSING
    assert function.peek(4, 0) == [4, 0]
    assert cache.clear(namespace) == 20, "P3: the namespace knows all shards"
    assert function.cache_info().currsize == 0
    cache.close()


def test_as_of_a_moment_a_call_stays_in_its_shard(cache, namespace):
    """An invalidation outside reaches all moments, which lie where the call itself lies."""
    function, calls = sharded(cache, namespace)
    with as_of("2024-03-01 11:00 IST"):
        for x in range(6):
            function(x)
        inside = [function.cache_key(x).partition("}")[0] for x in range(6)]
    assert inside == [function.cache_key(x).partition("}")[0] for x in range(6)]
    assert [function.invalidate(x=x, y=0) for x in range(6)] == [1] * 6


def test_other_shards_are_other_entries(cache, namespace):
    one, _ = sharded(cache, namespace, 1)
    eight, _ = sharded(cache, namespace, 8)
    nine, _ = sharded(cache, namespace, 9)
    assert len({each.cache_key(1) for each in (one, eight, nine)}) == 3
    assert "#0}" in one.cache_key(1)
    assert eight.cache_parameters()["shards"] == 8


@pytest.mark.parametrize("shards", [0, 1025, True, 2.0, "4"])
def test_a_wrong_number_of_shards_is_told_at_decoration(shards, cache, namespace):
    with pytest.raises(ConfigurationError, match="shards="):
        sharded(cache, namespace, shards)


def test_p3_an_invalidation_reaches_what_is_computed_in_any_shard(cache, namespace):
    begun, go_on = threading.Barrier(5), threading.Event()
    source = ["old"]

    @redis_cached(namespace=namespace, ttl=60, cache=cache, shards=16)
    def slow(x):
        value = source[0]
        begun.wait(10)
        assert go_on.wait(10)
        return value

    threads = [threading.Thread(target=slow, args=(x,)) for x in range(4)]
    for thread in threads:
        thread.start()
    begun.wait(10)
    source[0] = "new"
    assert slow.invalidate() == 0
    go_on.set()
    for thread in threads:
        thread.join()
    begun = threading.Barrier(1)
    assert [slow(x) for x in range(4)] == ["new"] * 4


def test_a_replicated_server_confirms_an_invalidation_and_says_when_it_cannot(namespace):
    """``wait=``: an invalidation returns when the replicas have it; one that they have not raises (P3)."""
    master = start_server(valkey())
    port = int(master.url.rpartition(":")[2].partition("/")[0])
    replica = start_server(valkey(), "--replicaof", f"127.0.0.1 {port}", "--repl-diskless-sync-delay", "0")
    try:
        with replica.client() as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")
        cache = connect(master.url, secret=SECRET, wait=1)
        function, calls = sharded(cache, namespace, 1)
        function(1)
        assert function.store([1, 0], 1) is True
        with replica.client() as client:
            until(lambda: client.exists(function.cache_key(1)))
            assert function.invalidate(x=1) == 1
            assert not client.exists(function.cache_key(1)), "it has it when invalidate() returns"
        function(1)
        replica.stop()
        impatient = connect(master.url, secret=SECRET, wait=1, timeout=1)
        again, _ = sharded(impatient, namespace, 1)
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            again.invalidate(x=1)
        assert again.cache_info().breaker == "closed", "the server did answer"
        assert again.peek(1) is MISSING, "it was carried out"
        assert again.store([1, 0], 1) is False, "nobody vouches for it"
        assert calls == [(1, 0), (1, 0)]
        cache.close()
        impatient.close()
    finally:
        replica.stop()
        master.stop()
