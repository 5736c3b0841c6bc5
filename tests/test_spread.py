"""Near hits, maps, bounds and counters of functions that are spread over the nodes of a cluster."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections import Counter
from collections.abc import Iterator

import pytest
import redis

from redis_memo import MISSING, Cache, CacheDict, CacheManager, _cli, configure, connect, redis_cached
from redis_memo import _ops as ops
from redis_memo._cluster import slot_of
from redis_memo._default import default_cache
from redis_memo._doctor import examined
from redis_memo._listing import asking, functions
from redis_memo._near import near_of
from redis_memo._tracking import _stem
from redis_memo.errors import ConfigurationError, StoreUnavailable

from .conftest import SECRET, until
from .sites import ClusterSite, raw
from .test_near import Source, held, keep


@pytest.fixture
def cache(cluster_site: ClusterSite) -> Iterator[Cache]:
    cache = connect(cluster_site.url, secret=SECRET)
    yield cache
    cache.close()


def owner(site: ClusterSite, key: str) -> int:
    return site.owner(slot_of(key.encode()))


# ---------------------------------------------------------------------------------------------------------------- near


def test_p3_a_change_is_heard_of_whichever_master_has_it(cache, cluster_site, namespace):
    """By this process's trackers, from another client that goes to the key's own node."""
    source = Source(cache, namespace, shards=64)
    fetch = source.fetch
    for x in range(48):
        keep(fetch, x)
    ports = {x: owner(cluster_site, fetch.cache_key(x)) for x in range(48)}
    assert set(ports.values()) == {*cluster_site.masters()}
    for port in set(ports.values()):
        gone = [x for x in ports if ports[x] == port][:2]
        with cluster_site.node(port) as node:
            for x in gone:
                assert raw(node, "UNLINK", fetch.cache_key(x)) == 1
        until(lambda gone=gone: not any(held(fetch, x) for x in gone))
        assert held(fetch, next(x for x in ports if ports[x] == port and x not in gone)), "no more than these"
        source.runs = 100
        assert fetch(gone[0]) == f"{gone[0]}:101"
    assert cache.engine.backend.tracker.covers(fetch.__redis_memo__._memo.prefixes[3])


def test_an_invalidation_drops_what_is_held_of_every_shard(cache, namespace):
    source = Source(cache, namespace, shards=8)
    for x in range(10):
        keep(source.fetch, x)
    assert source.fetch.invalidate() == 10
    assert not any(held(source.fetch, x) for x in range(10))
    keep(source.fetch, 1)
    assert cache.clear(namespace) == 1
    assert not held(source.fetch, 1)


def test_p3_near_hits_are_served_only_while_each_master_is_listened_to(cache, namespace):
    source = Source(cache, namespace)
    keep(source.fetch, 1)
    trackers = cache.engine.backend.tracker
    assert len(trackers._each) == 3
    lost = next(iter(trackers._each.values()))
    with lost._lock:
        wire = lost._wire
    wire.close()
    until(lambda: lost._wire is not wire and lost._wire is not None)
    keep(source.fetch, 1)
    assert trackers.until > 0
    known = cache.engine.backend.cluster._masters
    stranger = next(iter(known))._replace(port=1)
    cache.engine.backend.cluster._node_at(stranger)
    try:
        assert trackers.until == 0, "a master that nobody listens to"
        assert not trackers.covers(source.fetch.__redis_memo__._memo.prefix)
        assert not held(source.fetch, 1)
    finally:
        cache.engine.backend.cluster._read = 0.0
        cache.engine.backend.cluster.refresh(5)
    keep(source.fetch, 1)


def test_p3_what_a_slot_takes_along_is_not_served_from_before(cluster_site, cache, namespace):
    source = Source(cache, namespace)
    keep(source.fetch, 1)
    slot = slot_of(source.fetch.cache_key(1).encode())
    target = next(each for each in cluster_site.masters() if each != cluster_site.owner(slot))
    before = cluster_site.begin_move(slot, target)
    cluster_site.end_move(slot, before, target)
    keep(source.fetch, 1)
    with cluster_site.node(target) as node:
        assert raw(node, "UNLINK", source.fetch.cache_key(1)) == 1
    until(lambda: not held(source.fetch, 1))


def test_shards_of_any_number_are_listened_for_by_one_prefix():
    assert _stem("memo:{n:f:v#0}:") == _stem("memo:{n:f:v#3.16}:") == "memo:{n:f:v#"


# ----------------------------------------------------------------------------------------------------------------- map


def test_a_master_of_several_ranges_is_one_node(cluster_site, namespace):
    """One pool of connections, one breaker, one tracker."""
    slot = slot_of(namespace.encode())
    target = next(each for each in cluster_site.masters() if each != cluster_site.owner(slot))
    cluster_site.end_move(slot, cluster_site.begin_move(slot, target), target)
    cache = connect(cluster_site.url, secret=SECRET)
    cluster = cache.engine.backend.cluster
    assert len({*cluster.masters()}) == 3
    assert {*cluster._owners} == {*cluster.masters()}
    cache.close()


def mapping(cache, namespace, shards, asynchronous):
    """A function, what maps it, and how often it ran for each argument."""
    runs: Counter[int] = Counter()

    def plain(x):
        runs[x] += 1
        return [x]

    async def coroutine(x):
        return plain(x)

    function = redis_cached(namespace=namespace, ttl=60, cache=cache, shards=shards, name="mapped")(
        coroutine if asynchronous else plain
    )

    def mapped(calls):
        found = function.map(calls)
        return asyncio.run(found) if asynchronous else found

    return function, mapped, runs


def counted(cache) -> Counter[object]:
    """The exchanges with each master from now on."""
    exchanges: Counter[object] = Counter()
    for node in cache.engine.backend.masters():
        inner, ainner = node.exchange, node.aexchange

        def exchange(pieces, node=node, inner=inner):
            exchanges[node] += 1
            return inner(pieces)

        async def aexchange(pieces, *, urgent, node=node, ainner=ainner):
            exchanges[node] += 1
            return await ainner(pieces, urgent=urgent)

        node.exchange, node.aexchange = exchange, aexchange
    return exchanges


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_map_asks_each_master_once(cache, cluster_site, namespace, asynchronous):
    function, mapped, runs = mapping(cache, namespace, 16, asynchronous)
    assert mapped(range(60)) == [[x] for x in range(60)]
    assert set(runs.values()) == {1}
    assert {owner(cluster_site, function.cache_key(x)) for x in range(60)} == {*cluster_site.masters()}
    exchanges = counted(cache)
    assert mapped(range(60)) == [[x] for x in range(60)]
    assert sorted(exchanges.values()) == [1, 1, 1]
    assert set(runs.values()) == {1}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_map_follows_slots_that_moved_and_that_move(cache, cluster_site, namespace, asynchronous):
    """MOVED and ASK for some of many: those alone are asked for once more, where they are."""
    function, mapped, runs = mapping(cache, namespace, 4, asynchronous)
    assert mapped(range(40)) == [[x] for x in range(40)]
    moved, moving = (slot_of(prefix.encode()) for prefix in function.__redis_memo__._memo.prefixes[:2])
    one, two = (
        next(each for each in cluster_site.masters() if each != cluster_site.owner(slot)) for slot in (moved, moving)
    )
    cluster_site.end_move(moved, cluster_site.begin_move(moved, one), one)
    source = cluster_site.begin_move(moving, two)
    try:
        cluster_site.move_keys(moving, source, two, lambda key: key[-1:] in b"01234567")
        assert mapped(range(40)) == [[x] for x in range(40)]
        assert function.cache_info().errors == 0 if not asynchronous else True
    finally:
        cluster_site.end_move(moving, source, two)
    assert mapped(range(40)) == [[x] for x in range(40)]
    assert set(runs.values()) == {1}


def test_the_namespace_knows_each_shard_that_a_map_wrote_to(cache, cluster_site, namespace):
    """P3: else `clear` of the namespace, by another process, would miss entries."""
    function = redis_cached(namespace=namespace, ttl=60, cache=cache, shards=8, name="f")(lambda x: x)
    assert function.map(range(64)) == [*range(64)]
    other = connect(cluster_site.url, secret=SECRET)
    assert other.clear(namespace) == 64
    other.close()
    assert function.cache_info().currsize == 0


# ------------------------------------------------------------------------------------------------------------- bounds


def test_p7_shards_together_keep_to_the_bounds(cache, namespace):
    function = redis_cached(namespace=namespace, ttl=60, cache=cache, shards=4, maxsize=22, name="f")(lambda x: x)
    for x in range(120):
        function(x)
    info = function.cache_info()
    assert info.maxsize == 22
    assert 4 <= info.currsize <= 20, "five for each, rounded down"
    assert info.evictions == 120 - info.currsize
    assert function.cache_parameters()["maxsize"] == 22
    sizes = [cache.engine.run(_ask(prefix)).entries for prefix in function.__redis_memo__._memo.prefixes]
    assert sizes == [5, 5, 5, 5]


def _ask(prefix):
    return (yield ops.Usage(prefix))


def test_hits_are_told_to_the_shard_that_has_the_entry(cache, namespace):
    """P7: the last used stay, by each shard's own order."""
    function = redis_cached(namespace=namespace, ttl=60, cache=cache, shards=2, maxsize=20, name="f")(lambda x: x)
    for x in range(8):
        function(x)
    for x in range(8, 60):
        for each in range(8):
            function(each)
        cache.engine.touches.tell()
        function(x)
    before = function.cache_info().misses
    for each in range(8):
        function(each)
    assert function.cache_info().misses == before


def test_fewer_entries_than_shards_are_refused():
    with pytest.raises(ConfigurationError, match="8 shards"):
        redis_cached(namespace="n", ttl=60, shards=8, maxsize=7)(lambda x: x)


def test_counters_are_summed_over_shards_and_processes(cache, cluster_site, namespace):
    def plain(x):
        return x

    other = connect(cluster_site.url, secret=SECRET)
    options = {"namespace": namespace, "ttl": 60, "shards": 4, "name": "f"}
    here = redis_cached(cache=cache, **options)(plain)
    there = redis_cached(cache=other, **options)(plain)
    for function in (here, there):
        for x in range(20):
            function(x)
    other.close()
    whole = here.cache_info(everywhere=True)
    assert (whole.hits, whole.misses, whole.currsize) == (20, 20, 20)
    assert here.cache_clear() == 20
    whole = here.cache_info(everywhere=True)
    assert (whole.hits, whole.misses, whole.currsize) == (0, 0, 0)


# ------------------------------------------------------------------------------------------- all shards in one pass


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_what_concerns_all_shards_asks_each_master_once(cache, namespace, asynchronous):
    """Not shard by shard: 48 shards on three masters are three exchanges, once the scripts are known."""
    options = {"namespace": namespace, "ttl": 60, "cache": cache, "shards": 48, "name": "f"}

    async def coroutine(x, y=0):
        return [x, y]

    function = redis_cached(**options, tags="t")(lambda x, y=0: [x, y])
    twin = redis_cached(**options, tags="t")(coroutine) if asynchronous else function

    def done(result):
        async def wait():
            return await result

        return asyncio.run(wait()) if asynchronous else result

    calls = [(x, x % 5) for x in range(100)]
    function.map(calls)
    for ask in (lambda: twin.invalidate(y=7), twin.cache_info, lambda: twin.invalidate_tags("u")):
        done(ask())  # now each master knows the scripts
    exchanges = counted(cache)
    for ask, wanted, each in (
        (twin.cache_info, 100, 1),
        (lambda: twin.invalidate(y=3), 20, 1),
        (lambda: twin.invalidate_tags("t"), 80, 2),  # what is being computed first
        (twin.cache_clear, 0, 2),  # the counters last
    ):
        exchanges.clear()
        found = done(ask())
        assert (found if isinstance(found, int) else found.currsize) == wanted
        assert sorted(exchanges.values()) == [each] * 3


@pytest.mark.parametrize("site", ["valkey_server", "cluster_site"])
def test_an_invalidation_finds_all_that_there_is_in_every_shard(site, request, namespace):
    """P3: also what is more than one step takes from a shard."""
    cache = connect(request.getfixturevalue(site).url, secret=SECRET)
    function = redis_cached(namespace=namespace, ttl=60, cache=cache, shards=4, name="f")(lambda x, y=0: x)
    function.map([(x, x % 2) for x in range(1400)])
    assert function.invalidate(y=1) == 700
    assert function.cache_info().currsize == 700
    assert function.invalidate() == 700
    assert function.cache_info().currsize == 0
    cache.close()


def test_p3_a_shard_whose_master_is_gone_keeps_no_other_from_being_invalidated(cache, cluster_site, namespace):
    """It raises, as entries still stand there; what lies on the masters that answer is gone."""
    function = redis_cached(namespace=namespace, ttl=60, cache=cache, shards=16, name="f", tags="t")(lambda x: x)
    function.map(range(64))
    lost = cache.engine.backend.node_for(ops.Read(function.cache_key(0)))
    there = [x for x in range(64) if cache.engine.backend.node_for(ops.Read(function.cache_key(x))) is lost]

    def exchange(pieces):
        raise redis.ConnectionError("gone")

    lost.exchange, whole = exchange, lost.exchange
    with pytest.raises(StoreUnavailable):
        function.invalidate()
    assert cache.engine.backend.state == "open"
    lost.exchange = whole
    until(lambda: cache.engine.backend.state == "closed")
    assert [x for x in range(64) if function.peek(x) is not MISSING] == there
    # So by several tags, of which one shard's master has to be told twice.
    lost.exchange = exchange
    function.map([x for x in range(64) if x not in there])
    with pytest.raises(StoreUnavailable):
        function.invalidate_tags("none has it", "t")
    lost.exchange = whole
    until(lambda: cache.engine.backend.state == "closed")
    assert [x for x in range(64) if function.peek(x) is not MISSING] == there
    assert function.invalidate() == len(there)


def test_an_invalidation_is_tried_where_nothing_else_is(cache, cluster_site, namespace):
    """The breaker of a master that did not answer a moment ago is no reason not to try, with many shards as with one."""
    function = redis_cached(namespace=namespace, ttl=60, cache=cache, shards=16, name="f")(lambda x: x)
    function.map(range(64))
    for node in cache.engine.backend.masters():
        node.breaker._probe = lambda _: _never()
        assert node.breaker.failed(StoreUnavailable("gone"), "a master", node.breaker.epoch)
    assert cache.engine.backend.state == "open"
    assert function.invalidate() == 64
    assert cache.engine.backend.state == "closed", "it answered"


def _never():
    raise StoreUnavailable("not yet")


def test_p3_each_shards_invalidation_is_confirmed_by_the_replicas(cluster_site, namespace):
    """``wait=``: of all that a master has in one exchange; what too few have confirmed raises."""
    sure = connect(cluster_site.url, secret=SECRET, wait=1)
    function = redis_cached(namespace=namespace, ttl=60, cache=sure, shards=16, name="f")(lambda x: x)
    function.map(range(48))
    exchanges = counted(sure)
    assert function.invalidate() == 48
    assert max(exchanges.values()) <= 2, "the script is not known everywhere, perhaps"
    for port in cluster_site.masters():
        (replica,) = cluster_site.replicas(port)
        with cluster_site.node(replica) as node:
            assert [*node.scan_iter(f"memo:{{{namespace}:*}}:" + "?" * 40, count=1000)] == []
    sure.close()
    too_many = connect(cluster_site.url, secret=SECRET, wait=2, timeout=0.3)
    function = redis_cached(namespace=namespace, ttl=60, cache=too_many, shards=16, name="f")(lambda x: x)
    with pytest.raises(StoreUnavailable, match="1 of 2 replicas"):
        function.invalidate()
    too_many.close()


# ------------------------------------------------------------------------------------------------------ what is not so


def test_a_mapping_of_shards_is_refused(cache, namespace):
    function = redis_cached(namespace=namespace, ttl=60, cache=cache, shards=2)(lambda x: x)
    with pytest.raises(ConfigurationError, match="shards"):
        CacheDict.of(function)


def test_mappings_and_managers_work_on_a_cluster(cache, namespace):
    mapping: CacheDict[str, int] = CacheDict(namespace, ttl=60, cache=cache)
    mapping["a"], mapping["b"] = 1, 2
    assert (list(mapping), mapping.pop("a"), len(mapping)) == (["a", "b"], 1, 1)
    manager = CacheManager(cache, namespace=f"{namespace}-manager")
    assert manager.set("stock_data", 5, symbol="INFY")
    assert manager.get("stock_data", symbol="INFY") == 5
    assert manager.get_stats()["types"]["stock_data"]["hits"] == 1
    assert near_of(mapping._memo.prefix) == []


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_manager_tells_of_all_shards_and_of_all_masters(cache, cluster_site, namespace, asynchronous):
    manager = CacheManager(cache, namespace=namespace, shards=4)
    for number in range(20):
        manager.set("quotes", number, symbol=f"S{number}")
    stats = asyncio.run(manager.aget_stats()) if asynchronous else manager.get_stats()
    assert (stats["entries"], stats["types"]["quotes"]["entries"]) == (20, 20)
    facts = stats["server"]
    used = []
    for port in cluster_site.masters():
        with cluster_site.node(port) as node:
            used.append(node.info("memory")["used_memory"])
    assert (facts["masters"], facts["name"]) == (3, "valkey")
    assert facts["used_memory"] > max(used) * 1.5, "of all of them together"
    assert manager.clear() == 20
    assert manager.get_stats()["entries"] == 0


# ---------------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def service(cluster_site, namespace, tmp_path, monkeypatch):
    """A module with a function of four shards and twelve entries; the environment names the cluster."""
    name = f"spread_{namespace.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from redis_memo import redis_cached\n"
        f"@redis_cached(namespace={namespace!r}, ttl=600, shards=4)\n"
        "def fetch(x: int, y: int = 0):\n    return [x, y]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("REDIS_MEMO_URL", cluster_site.url)
    monkeypatch.setenv("REDIS_MEMO_SECRET", SECRET)
    module = importlib.import_module(name)
    configure()
    module.fetch.map(range(12))
    yield name, module.fetch
    default_cache().close()


def told(capsys, *words) -> dict:
    _cli.main([*words, "--json"])
    return json.loads(capsys.readouterr().out)


def test_a_function_of_a_cluster_is_shown_whole(service, capsys):
    name, fetch = service
    info = told(capsys, "info", f"{name}:fetch")
    assert (info["entries"], info["being_computed"]) == (12, 0)
    listed, cursor = [], ""
    while True:
        page = told(capsys, "ls", f"{name}:fetch", "--limit", "5", *(["--cursor", cursor] if cursor else []))
        assert len(page["entries"]) <= 5
        listed += [row["key"] for row in page["entries"]]
        cursor = page["cursor"]
        if not cursor:
            break
    assert sorted(listed) == sorted(fetch.cache_key(x) for x in range(12))
    assert told(capsys, "get", f"{name}:fetch", "3")["value"] == [3, 0]
    assert told(capsys, "invalidate", f"{name}:fetch", "x=3", "-y")["removed"] == 1
    assert told(capsys, "invalidate", f"{name}:fetch", "x=4", "y=0", "-y")["removed"] == 1
    assert told(capsys, "clear", f"{name}:fetch", "-y")["removed"] == 10
    assert fetch.cache_info().currsize == 0


def test_a_namespace_of_a_cluster_is_listed_and_cleared(service, cluster_site, namespace, capsys):
    """Its list of functions lies on one master, its shards on all of them: each is asked for what it has."""
    name, fetch = service
    (row,) = told(capsys, "ls", namespace)["functions"]
    assert (row["function"], row["shards"], row["entries"]) == (f"{name}.fetch", 4, 12)
    listed, cursor = [], ""
    while True:
        more = ["--cursor", cursor] if cursor else []
        page = told(capsys, "ls", namespace, f"{name}.fetch", "--limit", "5", *more)
        listed += [entry["key"] for entry in page["entries"]]
        cursor = page["cursor"]
        if not cursor:
            break
    assert sorted(listed) == sorted(fetch.cache_key(x) for x in range(12))
    with pytest.raises(SystemExit, match="2"):
        _cli.main(["ls", namespace, f"{name}.fetch", "--cursor", "9.4/17"])
    capsys.readouterr()
    dry = told(capsys, "clear", namespace, "--dry-run")
    assert (dry["functions"], dry["would_remove"]) == (1, 12)
    assert [(each["shards"], each["entries"]) for each in dry["by_function"]] == [(4, 12)]
    assert told(capsys, "clear", namespace, "-y")["removed"] == 12
    assert fetch.cache_info().currsize == 0


def test_all_namespaces_of_a_cluster_are_listed_page_by_page(cache, cluster_site, namespace, capsys, monkeypatch):
    monkeypatch.setenv("REDIS_MEMO_URL", cluster_site.url)
    names = {f"{namespace}-{number}" for number in range(6)}
    for name in names:
        redis_cached(namespace=name, ttl=60, cache=cache, name="f")(lambda x: x)(1)
    assert {owner(cluster_site, f"memo:{{{name}}}:functions") for name in names} <= {*cluster_site.masters()}
    found, cursor, pages = set(), "", 0
    while True:
        page = told(capsys, "ls", "--limit", "1", *(["--cursor", cursor] if cursor else []))
        found |= {each["namespace"] for each in page["namespaces"]}
        cursor, pages = page["cursor"], pages + 1
        if not cursor:
            break
        assert "/" in cursor, "it names the master"
    assert names <= found
    assert pages > 1
    assert _cli.main(["ls", "--cursor", "127.0.0.1:1/0"]) == 3
    assert "cursor" in capsys.readouterr().err
    info = told(capsys, "info")
    assert (info["masters"], info["namespaces_complete"]) == (3, True)
    assert info["keys"] >= 6 * 4


def test_a_namespace_whose_list_and_indexes_are_lost_is_found_on_every_master(service, cluster_site, namespace, capsys):
    """As after ``allkeys-*`` evictions: by SCAN of each master, and cleared with ``--scan``."""
    name, fetch = service
    for port in cluster_site.masters():
        with cluster_site.node(port) as node:
            for key in [*node.scan_iter(f"memo:{{{namespace}*", count=1000)]:
                if key.endswith((b"}:functions", b"}:index")):
                    node.delete(key)
    (row,) = told(capsys, "ls", namespace)["functions"]
    assert (row["function"], row["entries"], row["written"]) == (f"{name}.fetch", 0, None)
    assert told(capsys, "clear", namespace, "-y")["removed"] == 0
    assert told(capsys, "clear", namespace, "--scan", "-y")["removed"] == 12
    assert all(fetch.peek(x) is MISSING for x in range(12))


@pytest.mark.parametrize("site", ["valkey_server", "cluster_site"])
def test_what_another_number_of_shards_left_is_found_and_cleared(
    site, request, namespace, capsys, tmp_path, monkeypatch
):
    """After a deploy with another ``shards=`` nothing looks for the old entries any more, but for the command line."""
    url = request.getfixturevalue(site).url
    monkeypatch.setenv("REDIS_MEMO_URL", url)
    monkeypatch.setenv("REDIS_MEMO_SECRET", SECRET)
    cache = connect(url, secret=SECRET)
    name = f"resharded_{namespace.replace('-', '_')}"
    for shards in (1, 4, 16):
        function = redis_cached(namespace=namespace, ttl=600, cache=cache, shards=shards, name=f"{name}.f")(lambda x: x)
        function.map(range(3 * shards))
    neighbour = redis_cached(namespace=namespace, ttl=600, cache=cache, name=f"{name}.f2")(lambda x: x)
    neighbour(1)
    rows = told(capsys, "ls", namespace)["functions"]
    assert [(row["function"], row["shards"], row["entries"]) for row in rows if row["function"] == f"{name}.f"] == [
        (f"{name}.f", 1, 3), (f"{name}.f", 4, 12), (f"{name}.f", 16, 48),
    ]  # fmt: skip
    found, cursor = [], ""
    while not found or cursor:
        more = ["--cursor", cursor] if cursor else []
        page = told(capsys, "ls", namespace, f"{name}.f", "--limit", "7", *more)
        found += [entry["key"] for entry in page["entries"]]
        cursor = page["cursor"]
    assert len(found) == len(set(found)) == 63
    memo = function.__redis_memo__._memo
    (finding,) = (
        each for each in examined(cache.engine, {}, memo) if each.check == "shards" and f"{name}.f " in each.said
    )
    assert finding.severity.name == "WARNING"
    assert "1, 4 and 16" in finding.said
    assert "clear" in finding.remedy
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(
        "from redis_memo import redis_cached\n"
        f"@redis_cached(namespace={namespace!r}, ttl=600, shards=16)\ndef f(x):\n    return x\n"
    )
    assert told(capsys, "doctor", f"{name}:f")["findings"]
    assert told(capsys, "clear", f"{name}:f", "-y")["removed"] == 63
    assert neighbour.peek(1) == 1
    assert not any(f"{name}.f " in finding.said for finding in examined(cache.engine, {}, memo))
    cache.clear(namespace)
    default_cache().close()
    cache.close()


def test_shards_are_listed_as_one_function(valkey_server, namespace):
    cache = connect(valkey_server.url, secret=SECRET)
    function = redis_cached(namespace=namespace, ttl=60, cache=cache, shards=12, name="f")(lambda x: x)
    function.map(range(50))
    with asking(cache.engine) as look:
        (row,) = functions(look, namespace)
    assert (row.name, row.entries, row.prefixes) == ("f", 50, function.__redis_memo__._memo.prefixes)
    cache.close()


def test_functions_are_listed_page_by_page_whatever_their_names(valkey_server, namespace, capsys, monkeypatch):
    """None is left out where one name begins with another's, and is followed by what sorts before a colon."""
    monkeypatch.setenv("REDIS_MEMO_URL", valkey_server.url)
    cache = connect(valkey_server.url, secret=SECRET)
    names = ["f", "f.g", "f-h", "f0", "fa"]
    for name in names:
        redis_cached(namespace=namespace, ttl=60, cache=cache, name=name)(lambda x: x)(1)
    found, cursor = [], ""
    while not found or cursor:
        page = told(capsys, "ls", namespace, "--limit", "1", *(["--cursor", cursor] if cursor else []))
        found += [row["function"] for row in page["functions"]]
        cursor = page["cursor"]
    assert sorted(found) == sorted(names)
    assert cache.clear(namespace) == len(names)
    cache.close()


def test_the_doctor_looks_at_each_master(cache):
    found = list(examined(cache.engine, {}))
    assert sum(finding.check == "scripts" for finding in found) == 3
    assert {finding.severity.name for finding in found if finding.check in ("scripts", "tracking", "clock")} == {"OK"}


# ---------------------------------------------------------------------------------------------------- slots that move


@pytest.mark.parametrize("which", ["cluster_site", "cluster_6_site", "cluster_8_site"])
def test_p3_p7_lists_that_went_ahead_of_their_entries(which, request, namespace):
    """While a function's bounds are on the other side of a move, an invalidation holds, and no list is begun anew there.

    Versions differ in what they answer to a script whose keys are on two nodes; none of it is a refusal.
    """
    cluster_site = request.getfixturevalue(which)
    cache = connect(cluster_site.url, secret=SECRET)
    function = redis_cached(namespace=namespace, ttl=60, cache=cache, maxsize=5, name="f")(lambda x, y=0: [x, y])
    for x in range(5):
        function(x)
    slot = slot_of(function.cache_key(0).encode())
    target = next(each for each in cluster_site.masters() if each != cluster_site.owner(slot))
    source = cluster_site.begin_move(slot, target)
    try:
        assert cluster_site.move_keys(slot, source, target, lambda key: key.endswith((b":uses", b":sizes"))) == 2
        assert function.invalidate(x=1) == 1
        assert function.peek(1) is MISSING
        assert function(2) == [2, 0]
        assert function(7) == [7, 0], "P5"
    finally:
        cluster_site.end_move(slot, source, target)
    for x in range(10, 30):
        until(lambda x=x: (function(x), function.peek(x))[1] == [x, 0])
    assert function.cache_info().currsize <= 5
    cache.close()
