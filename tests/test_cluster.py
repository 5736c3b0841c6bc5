"""A real cluster of three masters and three replicas: slots that move, masters that die, replicas that are read."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import time
from collections.abc import Iterator

import pytest

from redis_memo import MISSING, Cache, _envelope, connect, redis_cached
from redis_memo import _ops as ops
from redis_memo._cluster import slot_of
from redis_memo._node import Node
from redis_memo._replies import Elsewhere, reply_error
from redis_memo.errors import StoreError, StoreRefused, StoreUnavailable

from .conftest import SECRET, free_port, until, valkey
from .sites import ClusterSite, raw, start_cluster
from .test_near import Source, keep
from .traffic import Traffic


@pytest.fixture(scope="module")
def own_site() -> Iterator[ClusterSite]:
    site = start_cluster(valkey())
    yield site
    site.stop()


@pytest.fixture
def frail_site(own_site: ClusterSite) -> Iterator[ClusterSite]:
    """A cluster for what kills its servers; whole again for the next test."""
    yield own_site
    own_site.heal()


@pytest.fixture(params=["cluster_site", "cluster_6_site", "cluster_8_site"])
def moving_site(request: pytest.FixtureRequest) -> ClusterSite:
    """Versions differ in what they say to a script whose keys are on two nodes."""
    return request.getfixturevalue(request.param)


_opened: list[Cache] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def opened(site, **settings) -> Cache:
    """A cache that is closed after the test."""
    _opened.append(connect(site.url, secret=SECRET, **settings))
    return _opened[-1]


def memo(site, namespace, name="function", **settings):
    """A function, its slot, and the list of calls that reached it."""
    cache = opened(site, **settings)
    calls = []

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name=name)
    def function(x, y=0):
        calls.append((x, y))
        return [x, y, len(calls)]

    return function, slot_of(function.cache_key(0).encode()), calls


def place_of(function, x) -> tuple[str, str]:
    key = function.cache_key(x)
    return key.rpartition(":")[0] + ":", key


def other(site: ClusterSite, port: int) -> int:
    """A master that is not this one."""
    return next(each for each in site.masters() if each != port)


def on_each_master(site: ClusterSite, namespace: str) -> dict[int, tuple]:
    """A function for each master, by the master's port."""
    found: dict[int, tuple] = {}
    for number in itertools.count():
        function, slot, calls = memo(site, namespace, f"f{number}")
        if site.owner(slot) not in found:
            found[site.owner(slot)] = function, slot, calls
        if len(found) == 3:
            return found
    raise AssertionError


def test_functions_lie_where_their_slots_are(cluster_site, namespace):
    for port, (function, _, _) in on_each_master(cluster_site, namespace).items():
        function(1)
        with cluster_site.node(port) as node:
            assert raw(node, "EXISTS", function.cache_key(1)) == 1
        backend = function.cache_parameters()["cache"].engine.backend
        assert backend.node_for(ops.Read(function.cache_key(1))).door.address.port == port
        assert {node.door.address.port for node in backend.masters()} == {*cluster_site.masters()}
        wire = backend.masters()[0].connect(5)
        assert wire.ask([b"*1\r\n$4\r\nPING\r\n"], 5) == b"PONG"
        wire.close()


def test_one_node_of_a_cluster_named_as_a_single_server_says_what_to_write(cluster_site, namespace, caplog):
    cluster = on_each_master(cluster_site, namespace)
    port, (function, _, _) = next(iter(cluster.items()))
    single = connect(f"redis://127.0.0.1:{other(cluster_site, port)}", secret=SECRET)
    lost = redis_cached(namespace=namespace, ttl=60, cache=single, name="f0", on_error="raise")(lambda x, y=0: x)
    with pytest.raises(StoreError, match=r"redis\+cluster://"):
        [
            redis_cached(namespace=f"{namespace}{n}", ttl=60, cache=single, on_error="raise", name="g")(lambda x: x)(1)
            for n in range(40)
        ]
    assert lost is not None
    single.close()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_hits_follow_a_slot_that_moves(moving_site, namespace, asynchronous):
    """MOVED once it has moved, ASK for keys that went ahead; no caller computes what is stored (P5)."""
    function, slot, calls = memo(moving_site, namespace)
    own, _, _ = memo(moving_site, namespace)
    for x in range(4):
        own(x)

    def ask() -> None:
        if not asynchronous:
            assert [function(x)[:2] for x in range(4)] == [[x, 0] for x in range(4)]
            return
        cache = function.cache_parameters()["cache"]

        @redis_cached(namespace=namespace, ttl=60, cache=cache, name="function")
        async def twin(x, y=0):
            calls.append((x, y))
            return [x, y, -1]

        async def each():
            return [(await twin(x))[:2] for x in range(4)]

        assert asyncio.run(each()) == [[x, 0] for x in range(4)]

    ask()
    source = moving_site.owner(slot)
    target = other(moving_site, source)
    moving_site.begin_move(slot, target)
    ask()
    ahead = {own.cache_key(x).encode() for x in (1, 3)}
    assert moving_site.move_keys(slot, source, target, lambda key: key in ahead) == 2
    ask()
    moving_site.end_move(slot, source, target)
    ask()
    assert calls == []
    own.invalidate()
    assert function.peek(1) is MISSING


def test_a_miss_while_its_slot_moves_costs_no_more_than_the_caching(moving_site, namespace):
    """TRYAGAIN: an answer, no error, nothing half stored, and the server is not taken for dead (P5)."""
    function, slot, calls = memo(moving_site, namespace)
    function(0)
    source = moving_site.owner(slot)
    target = other(moving_site, source)
    moving_site.begin_move(slot, target)
    moving_site.move_keys(slot, source, target, lambda key: key.endswith(b"}:args"))
    assert function(7)[:2] == function(7)[:2] == [7, 0]
    info = function.cache_info()
    assert (info.errors > 0, info.breaker) == (True, "closed")
    moving_site.end_move(slot, source, target)
    function(7)
    assert calls.count((7, 0)) == 3
    function(7)
    assert calls.count((7, 0)) == 3, "it is stored again"
    assert function.invalidate() == 2


@pytest.mark.parametrize("given", [{"x": 1, "y": 0}, {"x": 1}, {}])
def test_p3_an_invalidation_finds_its_entries_on_both_sides_of_a_move(moving_site, namespace, given):
    """Whichever of its keys went ahead: what was stored is gone, and what is computed is not stored."""
    for number, ahead in enumerate(itertools.product([False, True], repeat=4)):
        function, slot, calls = memo(moving_site, namespace, f"f{number}")
        kept = function(1), function(2)
        prefix, entry = place_of(function, 1)
        source = moving_site.owner(slot)
        target = other(moving_site, source)
        # Somebody computes it at this moment, because its entry is past its soft expiry.
        holder = opened(moving_site)
        envelope = holder.engine.backend.perform(ops.Read(entry))
        place = ops.Place(prefix, entry.removeprefix(prefix), b"")
        assert isinstance(holder.engine.backend.perform(ops.Acquire(place, b"holder", 30.0, envelope)), ops.Leased)
        moving_site.begin_move(slot, target)
        names = (entry, f"{entry}:lease", f"{prefix}index", f"{prefix}args")
        gone = {name.encode() for name, goes in zip(names, ahead, strict=True) if goes}
        assert moving_site.move_keys(slot, source, target, lambda key: key in gone) == len(gone)
        function.invalidate(**given)  # its count is not exact: what a script deleted before it gave up is not in it
        moving_site.end_move(slot, source, target)
        assert function.peek(1) is MISSING, ahead
        assert holder.engine.backend.perform(ops.Fill(place, b"holder", envelope, 60.0, b"")) is False, ahead
        assert function.peek(1) is MISSING, ahead
        assert (function.peek(2) is MISSING) == (not given)
        assert kept
        function.invalidate()


def test_p3_a_sweep_on_one_side_of_a_move_unlists_nothing_that_lives_on_the_other(moving_site, namespace):
    """A script that wrote to what went ahead would take a computation's lease, which has not come yet, for gone."""
    function, slot, _ = memo(moving_site, namespace)
    for x in range(2):
        function(x)
    prefix, entry = place_of(function, 0)
    places = [ops.Place(prefix, function.cache_key(x).removeprefix(prefix), b"") for x in range(2)]
    backend = function.cache_parameters()["cache"].engine.backend
    envelope = backend.perform(ops.Read(entry))
    source = moving_site.owner(slot)
    target = other(moving_site, source)
    with moving_site.node(source) as node:
        # The second call is computed for longer than its first lease; the index does not hear of its renewals.
        raw(node, "DEL", places[1].entry)
        raw(node, "ZREM", f"{prefix}index", places[1].digest)
        assert isinstance(backend.perform(ops.Acquire(places[1], b"second", 0.05, None)), ops.Leased)
        assert backend.perform(ops.Renew(places[1], b"second", 30.0))
        until(lambda: time.time() * 1000 + node.zscore(f"{prefix}index", places[1].digest) > 50)
    assert isinstance(backend.perform(ops.Acquire(places[0], b"first", 30.0, envelope)), ops.Leased)
    moving_site.begin_move(slot, target)
    ahead = {f"{prefix}index", f"{prefix}args", entry, f"{entry}:lease"}
    assert moving_site.move_keys(slot, source, target, lambda key: key.decode() in ahead) == 4
    with pytest.raises(StoreUnavailable, match="moving"):
        backend.perform(ops.Fill(places[0], b"first", envelope, 60.0, b""))
    moving_site.end_move(slot, source, target)
    function.invalidate()
    assert backend.perform(ops.Fill(places[1], b"second", envelope, 60.0, b"")) is False


@pytest.mark.parametrize(
    ("which", "moves", "options"),
    [
        ("cluster_site", 6, {}),
        ("cluster_6_site", 3, {"shards": 4, "maxsize": 40, "tags": "t"}),
        ("cluster_8_site", 3, {"shards": 4, "maxsize": 40, "tags": "t"}),
    ],
)
def test_resharding_under_load(which, moves, options, request, namespace):
    """P3 and P5 while a function's slots go from master to master: no wrong answer, no error, no lost invalidation."""
    site = request.getfixturevalue(which)
    caches = [opened(site) for _ in range(2)]
    with Traffic(caches, namespace, **options) as traffic:
        slots = [slot_of(prefix.encode()) for prefix in traffic.functions[0].__redis_memo__._memo.prefixes]
        for number in range(moves):
            slot = slots[number % len(slots)]
            source = site.owner(slot)
            target = other(site, source)
            site.begin_move(slot, target)
            for suffix in (b"0", b"index", b"args", b"lease", b"5"):
                reached = traffic.counts["invalidated"] + 4
                until(lambda reached=reached: traffic.counts["invalidated"] >= reached, 30)
                site.move_keys(slot, source, target, lambda key, suffix=suffix: key.endswith(suffix))
            site.end_move(slot, source, target)
            hits = traffic.hits()
            until(lambda hits=hits: traffic.hits() > hits, 30)
    traffic.check()
    assert traffic.refusals == []
    assert {cache.engine.backend.state for cache in caches} == {"closed"}
    caches[0].clear(namespace)


def test_replicas_are_read_where_that_is_asked_for(cluster_site, namespace):
    """A hit comes from a replica, all else goes to the master."""
    function, slot, calls = memo(cluster_site, namespace, read_from="replica")
    function(1)
    port = cluster_site.owner(slot)
    (replica,) = cluster_site.replicas(port)

    def gets(port: int) -> int:
        with cluster_site.node(port) as node:
            return node.info("commandstats").get("cmdstat_get", {}).get("calls", 0)

    with cluster_site.node(port) as master:
        assert master.wait(1, 5000) == 1
    before = gets(port), gets(replica)
    for _ in range(5):
        function(1)
    assert gets(replica) - before[1] == 5
    assert gets(port) == before[0]
    assert calls == [(1, 0)]
    assert function.invalidate(x=1) == 1


def test_a_dead_master_is_no_concern_of_the_others_and_its_replica_takes_over(frail_site, namespace):
    """P5: what lies elsewhere is served on, with its own breaker; what lies there is computed, and then served again."""
    functions = on_each_master(frail_site, namespace)
    for function, _, _ in functions.values():
        function(1)
    victim = frail_site.owner(slot_of(f"memo:{{{namespace}}}:functions".encode()))
    function, _, calls = functions[victim]
    (replica,) = frail_site.replicas(victim)
    with frail_site.node(victim) as node:
        assert node.wait(1, 5000) == 1
    frail_site.servers[replica].process.send_signal(signal.SIGSTOP)  # nobody takes over yet
    frail_site.servers[victim].stop()
    for port, (each, _, its_calls) in functions.items():
        assert each(1)[:2] == [1, 0]
        assert len(its_calls) == (2 if port == victim else 1)
    for port, (each, _, _) in functions.items():
        assert each.cache_info().breaker == ("open" if port == victim else "closed")
    # One cache that uses all three: the two that live go on while the third is not asked.
    cache = function.cache_parameters()["cache"]
    names = [each.cache_parameters()["name"] for each, _, _ in functions.values()]
    together = [
        redis_cached(namespace=namespace, ttl=60, cache=cache, name=name)(lambda x, y=0: "computed") for name in names
    ]
    assert [each(1) == "computed" for each in together] == [port == victim for port in functions]
    assert cache.engine.backend.state == "open"
    with pytest.raises(StoreUnavailable):
        function.invalidate(x=1)
    # Nor do misses elsewhere wait for the list of the namespace's functions, wherever that lies.
    for port, (each, _, its_calls) in functions.items():
        each.cache_parameters()["cache"].engine.backend.generation += 1  # the list is to be written anew
        each(2)
        count = len(its_calls)
        each(2)
        assert (len(its_calls) == count) == (port != victim)
    frail_site.servers[replica].process.send_signal(signal.SIGCONT)
    until(lambda: "computed" not in [each(1) for each in together], 30)
    until(lambda: cache.engine.backend.state == "closed", 30)
    assert function.invalidate(x=1) == 1


def beside(site, namespace, **settings):
    """Two functions of one node and one cache, in slots apart from each other and from the list of functions."""
    cache = opened(site, **settings)
    apart = {slot_of(f"memo:{{{namespace}}}:functions".encode())}
    owners: dict[int, list] = {}
    for number in itertools.count():
        calls: list[int] = []

        def function(x, calls=calls):
            calls.append(x)
            return [x, len(calls)]

        async def twin(x, calls=calls):
            calls.append(x)
            return [x, len(calls)]

        options = {"namespace": namespace, "ttl": 60, "cache": cache, "name": f"f{number}", "ignore": ("calls",)}
        plain, coroutine = redis_cached(**options)(function), redis_cached(**options)(twin)
        slot = slot_of(plain.cache_key(0).encode())
        if slot not in apart:
            apart.add(slot)
            found = owners.setdefault(site.owner(slot), [])
            found.append((plain, coroutine, slot, calls))
            if len(found) == 2:
                return cache, *found
    raise AssertionError


def asker(asynchronous, plain, coroutine):
    return (lambda x: asyncio.run(coroutine(x))) if asynchronous else plain


@pytest.mark.parametrize(
    ("asynchronous", "settings"),
    [(False, {}), (True, {}), (False, {"read_from": "replica"})],
    ids=["sync", "async", "replica"],
)
def test_p5_a_slot_that_no_node_serves_is_no_concern_of_the_others_of_its_node(
    moving_site, namespace, asynchronous, settings
):
    """ "CLUSTERDOWN Hash slot not served" is said of one slot: no breaker opens, and what is beside it is served."""
    cache, (lost, lost_async, slot, _), (kept, kept_async, _, _) = beside(moving_site, namespace, **settings)
    ask_lost, ask_kept = asker(asynchronous, lost, lost_async), asker(asynchronous, kept, kept_async)
    assert (ask_lost(1), ask_kept(1)) == ([1, 1], [1, 1])
    reads = [ops.Read(lost.cache_key(1)), ops.Read(kept.cache_key(1))] * 2
    with moving_site.node(moving_site.owner(slot)) as node:
        envelope = raw(node, "GET", kept.cache_key(1))
    until(lambda: lost.peek(1) == kept.peek(1) == [1, 1])  # replicas have them, too
    owner = moving_site.abandon(slot)
    try:
        # Together, before anything was asked alone: one that is refused takes none of the others with it.
        answers = (
            asyncio.run(cache.engine.backend.aperform_many(reads))
            if asynchronous
            else cache.engine.backend.perform_many(reads)
        )
        assert [type(each) for each in answers[::2]] == [StoreUnavailable] * 2
        assert [bytes(each) for each in answers[1::2]] == [envelope] * 2
        for number in range(3):
            assert ask_lost(1) == [1, number + 2]
            assert ask_kept(1) == [1, 1]
        assert (cache.engine.backend.state, kept.cache_info().breaker) == ("closed", "closed")
        with pytest.raises(StoreUnavailable, match="no node serves a part of the keys"):
            lost.invalidate(x=1)
        assert kept.map([1, 2]) == [[1, 1], [2, 2]]
        assert kept.invalidate() == 2
    finally:
        moving_site.adopt(slot, owner)
    until(lambda: ask_lost(1) == ask_lost(1), 30)
    assert lost.invalidate() == 1


def test_p5_what_a_replica_knows_nobody_to_serve_is_asked_of_its_master(cluster_site, namespace):
    """A replica hears of a slot after its master does."""
    cache = opened(cluster_site)
    cache.engine.backend.locate()
    cluster, slot = cache.engine.backend.cluster, slot_of(namespace.encode())
    route = cluster.route(slot, [], lone=True, replica=True)
    assert next(route).node is not cluster.node(slot)
    unserved = reply_error("CLUSTERDOWN Hash slot not served")
    assert route.throw(unserved).node is cluster.node(slot)
    with pytest.raises(Elsewhere):
        route.throw(unserved)


def test_an_invalidation_in_pieces_of_a_slot_that_no_node_serves_raises_an_error_of_ours(cluster_site, namespace):
    """The slot was moving when it began, and is served by nobody then."""
    backend = opened(cluster_site).engine.backend
    steps = backend._steps(ops.Drop(ops.Place(f"memo:{{{namespace}:f:}}:", "digest", b"")))
    next(steps)
    steps.throw(reply_error("TRYAGAIN Multiple keys request during rehashing of slot"))
    with pytest.raises(StoreUnavailable, match="no node serves"):
        steps.throw(reply_error("CLUSTERDOWN Hash slot not served"))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_p5_a_cluster_that_is_down_is_not_asked_until_it_is_not(moving_site, namespace, asynchronous):
    """ "CLUSTERDOWN The cluster is down" is said of every slot: the node's breaker opens, and closes by itself."""
    cache, (_, _, slot, _), (kept, kept_async, _, calls) = beside(moving_site, namespace)
    ask = asker(asynchronous, kept, kept_async)
    assert ask(1) == [1, 1]
    moving_site.configure(cluster_require_full_coverage="yes")
    owner = moving_site.abandon(slot)
    try:
        until(lambda: ask(1) and cache.engine.backend.state == "open", 10)
        assert ask(1) == [1, len(calls)]
    finally:
        moving_site.configure(cluster_require_full_coverage="no")
        moving_site.adopt(slot, owner)
    until(lambda: cache.engine.backend.state == "closed", 30)
    until(lambda: ask(1) == ask(1), 30)


def test_p5_a_cluster_that_only_answers_reads_is_read(moving_site, namespace, monkeypatch):
    """ "CLUSTERDOWN The cluster is down and only accepts read commands": hits go on, as where a server is read-only."""
    cache, (_, _, slot, _), (kept, _, _, _) = beside(moving_site, namespace)
    monkeypatch.setattr(_envelope, "CHUNK", 100_000)
    assert kept(1) == [1, 1]
    moving_site.configure(cluster_require_full_coverage="yes", cluster_allow_reads_when_down="yes")
    owner = moving_site.abandon(slot)
    try:
        assert kept(2) == [2, 2]
        assert kept(2) == [2, 3], "what is computed is not stored"
        assert kept.store([os.urandom(300_000)], 3) is False
        assert kept(1) == [1, 1]
        with pytest.raises(StoreRefused):
            kept.invalidate(x=1)
        assert cache.engine.backend.state == "closed"
        assert kept(1) == [1, 1]
    finally:
        moving_site.configure(cluster_require_full_coverage="no", cluster_allow_reads_when_down="no")
        moving_site.adopt(slot, owner)


def test_p5_a_breaker_closes_though_the_slot_of_the_key_that_probes_is_not_served(cluster_site, namespace):
    cache, (function, _, _, _), _ = beside(cluster_site, namespace)
    function(1)
    slot = slot_of(b"memo:probe")
    owner = cluster_site.abandon(slot)
    try:
        for node in cache.engine.backend.masters():
            assert node.breaker.failed(StoreUnavailable("it did not answer"), "there", node.breaker.epoch)
        assert cache.engine.backend.state == "open"
        until(lambda: cache.engine.backend.state == "closed", 10)
    finally:
        cluster_site.adopt(slot, owner)


def failing_over(site: ClusterSite, namespace: str, fail, **settings) -> Traffic:
    """Traffic while a master is replaced: `fail` does it to the master and its replica."""
    caches = [opened(site, **settings) for _ in range(2)]
    with Traffic(caches, namespace) as traffic:
        slot = slot_of(traffic.functions[0].cache_key(0, 0).encode())
        until(lambda: traffic.counts["invalidated"] > 10 and traffic.hits() > 20, 30)
        master = site.owner(slot)
        fail(master, *site.replicas(master))
        until(lambda: site.owner(slot) != master, 30)
        hits, invalidated = traffic.hits(), traffic.counts["calls"]
        until(lambda: traffic.hits() > hits + 20 and traffic.counts["calls"] > invalidated, 30)
    traffic.check()
    return traffic


def test_p3_p5_a_planned_failover_under_load(frail_site, namespace):
    """CLUSTER FAILOVER hands over what the master had: nothing is lost, and nobody notices."""

    def fail(master: int, replica: int) -> None:
        with frail_site.node(replica) as node:
            raw(node, "CLUSTER", "FAILOVER")

    failing_over(frail_site, namespace, fail)


def test_p3_p5_a_killed_master_under_load(frail_site, namespace):
    """With ``wait=`` the number of replicas, no invalidation that returned is undone; callers get answers throughout."""

    def fail(master: int, replica: int) -> None:
        os.kill(frail_site.servers[master].process.pid, signal.SIGKILL)
        frail_site.servers[master].process.wait()

    failing_over(frail_site, namespace, fail, wait=1)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kept", ["hits", "misses"])
def test_a_map_after_a_slot_has_moved_asks_its_new_master_for_all_of_it_together(
    cluster_site, namespace, asynchronous, kept, monkeypatch
):
    """The old one refuses each of hundreds of calls: they go on together, and not one by one."""
    function, slot, calls = memo(cluster_site, namespace)
    cache = function.cache_parameters()["cache"]
    twin = redis_cached(namespace=namespace, ttl=60, cache=cache, name="function")(_twin)
    wanted = range(300) if kept == "hits" else range(300, 600)
    function.map(range(300))
    source = cluster_site.owner(slot)
    target = other(cluster_site, source)
    cluster_site.begin_move(slot, target)
    cluster_site.end_move(slot, source, target)
    exchanges = []
    exchange, aexchange = Node.exchange, Node.aexchange

    def counted(node, pieces):
        exchanges.append(node)
        return exchange(node, pieces)

    async def acounted(node, pieces, *, urgent):
        exchanges.append(node)
        return await aexchange(node, pieces, urgent=urgent)

    async def mapped():
        return await twin.map(wanted, batch=_twins)

    monkeypatch.setattr(Node, "exchange", counted)
    monkeypatch.setattr(Node, "aexchange", acounted)
    found = (
        asyncio.run(mapped()) if asynchronous else function.map(wanted, batch=lambda some: [[x, 0, 0] for x in some])
    )
    assert [each[0] for each in found] == [*wanted]
    assert len(exchanges) <= 6
    assert len(calls) == 300


async def _twins(some):
    return [[x, 0, 0] for x in some]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_connections_to_a_node_that_is_no_master_any_more_are_closed(frail_site, namespace, asynchronous):
    """P7: while the event loop goes on, and whether or not the interpreter collects garbage."""
    function, slot, _ = memo(frail_site, namespace)
    cache = function.cache_parameters()["cache"]
    twin = redis_cached(namespace=namespace, ttl=60, cache=cache, name="function")(_twin)
    master = frail_site.owner(slot)

    def clients() -> set[str]:
        with frail_site.node(master) as node:
            return {each["id"] for each in node.client_list(_type="normal")}

    async def scenario() -> None:
        before = clients()
        await (twin(1) if asynchronous else asyncio.to_thread(function, 1))
        ours = clients() - before
        assert ours
        with frail_site.node(frail_site.replicas(master)[0]) as node:
            raw(node, "CLUSTER", "FAILOVER")
        until(lambda: frail_site.owner(slot) != master, 30)
        cache.engine.backend.cluster.refresh(1)
        end = time.monotonic() + 10
        while ours & clients():
            assert time.monotonic() < end, "they are left open"
            await asyncio.sleep(0.01)

    gc.disable()
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()


async def _twin(x, y=0):
    return [x, y, 0]


def test_p3_near_hits_after_a_failover(frail_site, namespace):
    """What the new master changes is heard of, once it is known; until then nothing is served from memory."""
    cache = opened(frail_site)
    source = Source(cache, namespace)
    keep(source.fetch, 1)
    slot = slot_of(source.fetch.cache_key(1).encode())
    victim = frail_site.owner(slot)
    os.kill(frail_site.servers[victim].process.pid, signal.SIGKILL)
    frail_site.servers[victim].process.wait()
    until(lambda: not source.fetch.explain(1).near)
    assert cache.engine.backend.tracker.until == 0
    until(lambda: frail_site.owner(slot) != victim, 30)
    until(lambda: (source.fetch(1), source.fetch.explain(1).near)[1], 30)
    with frail_site.node(frail_site.owner(slot)) as node:
        assert raw(node, "UNLINK", source.fetch.cache_key(1)) == 1
    until(lambda: not source.fetch.explain(1).near)


def test_waiters_are_woken_when_the_node_dies_that_they_listen_to(frail_site, namespace):
    """P4: what is published reaches every node, so one listener does, and another node takes its place."""
    function, slot, calls = memo(frail_site, namespace)
    cache = function.cache_parameters()["cache"]
    subscription = cache.engine.backend.listener.subscribe("memo:{a}:b")
    until(subscription.ready.done)

    def listening() -> list[int]:
        found = []
        for port in frail_site.masters():
            with frail_site.node(port) as node:
                if raw(node, "PUBSUB", "NUMSUB", "memo:{a}:b")[1]:
                    found.append(port)
        return found

    (port,) = listening()
    frail_site.servers[port].stop()
    until(lambda: [each for each in listening() if each != port], 30)
    with frail_site.node(frail_site.masters()[0]) as node:

        def told() -> bool:
            raw(node, "PUBLISH", "memo:{a}:b", "filled:an entry")
            return b"filled" in subscription.again()

        until(told)
    subscription.close()


def test_no_node_at_all_is_an_outage_and_is_told_fast(namespace):
    """P5."""
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/"
    cache = connect(url, secret=SECRET)
    function = redis_cached(namespace=namespace, ttl=60, cache=cache)(lambda x: x + 1)
    assert [function(1) for _ in range(3)] == [2, 2, 2]
    assert function.cache_info().breaker == "open"
    with pytest.raises(StoreUnavailable, match="127.0.0.1"):
        cache.clear(namespace)

    async def alike():
        twin = redis_cached(namespace=namespace, ttl=60, cache=cache)(asyncio.sleep)
        return await twin(0, result="slept")

    assert asyncio.run(alike()) == "slept"
    cache.close()
