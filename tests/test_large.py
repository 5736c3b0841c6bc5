"""Values beyond one string: stored at once or not at all, read whole or not at all (P2, P3, P5, P7)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis

from redis_memo import MISSING, _envelope, _segments, connect, redis_cached, testing
from redis_memo import _ops as ops
from redis_memo._cache import Cache
from redis_memo._codecs import dumps
from redis_memo._commands import STAGED, dialogue
from redis_memo._envelope import Sealer, Stamp
from redis_memo._invocation import Invocation
from redis_memo._large import Large
from redis_memo._survey import FIRST, Columns
from redis_memo.errors import NoSuchColumn

from .conftest import SECRET, Server, leaked, until
from .faults import Proxy

pytestmark = pytest.mark.server


@dataclass(frozen=True)
class Row:
    """What an object column can hold."""

    number: int


SERVERS = ("valkey_server", "redis_server", "redis_6_server", "redis_8_server", "fake_server")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def cache(server: Server, namespace: str) -> Iterator[Cache]:
    cache = connect(server.url, secret=SECRET, timeout=5)
    yield cache
    assert leaked(server.client(), namespace) == []
    cache.clear(namespace)
    assert keys(server, namespace) == [], "P7: chunks were left behind"
    cache.close()


@pytest.fixture(params=[200_000, 32 << 20], ids=["chunks", "one string"])
def _chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_segments, "SEGMENT", 100_000)
    monkeypatch.setattr(_envelope, "CHUNK", request.param)


def keys(server: Server, namespace: str) -> list[str]:
    """All keys of a namespace but its indexes."""
    with server.client() as client:
        names = [key.decode() for key in client.scan_iter(f"memo:{{{namespace}*", count=1000)]
    return sorted(name for name in names if not name.endswith(("}:index", "}:args", "}:stats", "}:functions")))


def noise(seed: int) -> pd.DataFrame:
    """800 kB that nothing compresses."""
    return pd.DataFrame({"x": np.random.default_rng(seed).random(100_000)})


@pytest.mark.usefixtures("_chunk")
def test_comes_back_from_threads_and_from_tasks(cache: Cache, namespace: str) -> None:
    frame = noise(1)

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    def f() -> pd.DataFrame:
        return frame

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    async def g() -> pd.DataFrame:
        raise AssertionError

    pd.testing.assert_frame_equal(f(), frame)
    hit = f()
    pd.testing.assert_frame_equal(hit, frame)
    hit.loc[0, "x"] = -1.0  # writable, and nobody else's
    pd.testing.assert_frame_equal(asyncio.run(g()), frame)
    assert f.cache_info()[:2] == (1, 1)


@pytest.mark.usefixtures("_chunk")
def test_stored_from_tasks(cache: Cache, namespace: str) -> None:
    frame = noise(2)

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    async def f() -> pd.DataFrame:
        return frame

    async def main() -> None:
        pd.testing.assert_frame_equal(await f(), frame)
        pd.testing.assert_frame_equal(await f(), frame)
        assert f.cache_info()[:2] == (1, 1)

    asyncio.run(main())


@pytest.mark.usefixtures("_chunk")
def test_nothing_is_left_of_what_is_replaced_or_invalidated(
    cache: Cache, server: Server, client: redis.Redis, namespace: str
) -> None:
    """P7: an entry's chunks go with it, and expire with it."""

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def f(seed: int) -> pd.DataFrame:
        return noise(seed)

    f(1)
    first = keys(server, namespace)
    assert {client.pttl(key) <= 60_000 for key in first} == {True}
    assert f.store(noise(3), 1)
    second = keys(server, namespace)
    assert len(second) == len(first)
    assert second == first or set(first) & set(second) == {f.cache_key(1)}
    f.store(pd.DataFrame(), 1)
    assert keys(server, namespace) == [f.cache_key(1)]
    f.refresh(1)
    assert f.invalidate(seed=1) == 1
    assert keys(server, namespace) == []
    f(1)
    f(2)
    assert f.invalidate() == 2
    assert keys(server, namespace) == []


@pytest.mark.usefixtures("_chunk")
def test_a_large_result_that_was_invalidated_meanwhile_is_not_stored(
    cache: Cache, server: Server, namespace: str
) -> None:
    """P3, P7: the fence holds for what waits beside the entry, too."""

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def f() -> pd.DataFrame:
        f.invalidate()
        return noise(1)

    f()
    assert f.peek() is MISSING
    assert f.cache_info().refused == 1
    assert keys(server, namespace) == []


def test_a_result_that_took_too_long_to_encode_is_not_stored_in_silence(
    cache: Cache, server: Server, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P4: its lease ends meanwhile, with each call again."""

    def slow(_: object) -> tuple[str, ...]:
        clock.move(cache.engine.settings.lease)
        with server.client() as client:
            assert client.delete(f"{f.cache_key()}:lease") == 1
        return ()

    @redis_cached(namespace=namespace, ttl=60, cache=cache, tags=slow)
    def f() -> int:
        return 1

    with testing.at("2026-11-10 12:00 IST") as clock:
        assert f() == 1
        assert f.peek() is MISSING
    assert f.cache_info().refused == 1
    assert "encoding the result took 10.0 s, and its lease of 10 s ended meanwhile" in caplog.text


def replaced_while_read(store: Any, read: Any, values: list[Any], expected: list[Any]) -> None:
    """Replace values while others read: each of whom sees one of what is expected, and some of whom see anything."""
    store(values[0])
    done = threading.Event()
    seen: list[bool] = []

    def watch() -> None:
        while not done.is_set() or not seen:
            found = read()
            if found is not MISSING:
                seen.append(any(found.equals(value) for value in expected))

    readers = [threading.Thread(target=watch) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(20):
        store(values[turn % len(values)])
    done.set()
    for reader in readers:
        reader.join()
    assert seen
    assert all(seen)


@pytest.mark.usefixtures("_chunk")
def test_readers_of_what_is_replaced_see_one_value_or_the_other(cache: Cache, namespace: str) -> None:
    """P2: never halves of two."""

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    def f() -> pd.DataFrame:
        raise AssertionError

    values = [noise(seed) for seed in range(3)]
    replaced_while_read(f.store, f.peek, values, values)


def test_a_missing_chunk_is_a_miss(
    cache: Cache, server: Server, client: redis.Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: as an eviction may take any of them."""
    monkeypatch.setattr(_segments, "SEGMENT", 100_000)
    monkeypatch.setattr(_envelope, "CHUNK", 200_000)
    runs = []

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def f() -> pd.DataFrame:
        runs.append(1)
        return noise(1)

    f()
    for number in range(4):
        chunks = [key for key in keys(server, namespace) if key != f.cache_key()]
        assert len(chunks) == 4
        client.delete(chunks[number])
        pd.testing.assert_frame_equal(f(), noise(1))
        pd.testing.assert_frame_equal(f(), noise(1))
    assert len(runs) == 1 + 4
    assert f.cache_info().unreadable >= 4


def test_what_a_dead_writer_left_expires(cache: Cache, client: redis.Redis, namespace: str) -> None:
    """P7: chunks are sent before there is an entry that they belong to."""

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def f() -> pd.DataFrame:
        return noise(1)

    place = f.__redis_memo__._invocation((), {}).locate()
    large = Large((b"RMEM" + bytes(60),), [(b"a chunk",)])
    flow = dialogue(ops.Put(place, large, 60.0, place.tokens))
    cache.engine.backend.home.exchange(next(flow))
    (left,) = client.scan_iter(f"memo:{{{namespace}*")
    assert 0 < client.pttl(left) <= STAGED
    client.delete(left)


@pytest.mark.usefixtures("_chunk")
def test_those_who_wait_get_a_value_that_the_first_caller_cannot_change(cache: Cache, namespace: str) -> None:
    """P2: what is sent from the value's own memory must not be shared with it."""
    waiting = threading.Barrier(9)

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def f() -> np.ndarray:
        until(lambda: len(joined) == 8)
        return np.random.default_rng(5).random(500_000)

    joined: list[int] = []
    values: list[Any] = []

    def call(number: int) -> None:
        waiting.wait()
        if number:
            until(lambda: cache.engine._flights)
            joined.append(number)
        value = f()
        values.append(value.copy())
        value[:] = 0

    threads = [threading.Thread(target=call, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = np.random.default_rng(5).random(500_000)
    assert [np.array_equal(value, expected) for value in values] == [True] * 9
    assert f.cache_info().misses == 1


@pytest.mark.usefixtures("_chunk")
def test_who_finds_it_stored_between_a_read_and_a_lease_gets_all_of_it(
    cache: Cache, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4, P5: what the script for a lease answers is only the string at the entry's key."""

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    def f(seed: int) -> pd.DataFrame:
        raise AssertionError("another caller had computed it")

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    async def g(seed: int) -> pd.DataFrame:
        raise AssertionError("another caller had computed it")

    locate = Invocation.locate

    def stored_meanwhile(call: Invocation) -> ops.Place:  # a flow asks for it when it has read nothing
        monkeypatch.setattr(Invocation, "locate", locate)
        f.store(noise(call.values[0]), call.values[0])
        return locate(call)

    monkeypatch.setattr(Invocation, "locate", stored_meanwhile)
    pd.testing.assert_frame_equal(f(1), noise(1))
    monkeypatch.setattr(Invocation, "locate", stored_meanwhile)
    pd.testing.assert_frame_equal(asyncio.run(g(2)), noise(2))
    monkeypatch.setattr(Invocation, "locate", stored_meanwhile)
    (several,) = f.map([3])
    pd.testing.assert_frame_equal(several, noise(3))
    assert (f.cache_info().hits + g.cache_info().hits, f.cache_info().unreadable, g.cache_info().unreadable) == (
        3,
        0,
        0,
    )


NOISE, PRICES, WALK = "noise", "np.round(1500 + 0.1 * noise.cumsum(axis=-1), 2)", "1500 + noise.cumsum(axis=-1)"


FRAMES = {
    "columns": "pd.DataFrame(matrix.T, copy=False)",
    "rows": "pd.DataFrame(matrix, copy=False)",  # as frame.cumsum() leaves them
    "arrow": "pa.table(dict(zip('abcdefgh', matrix)))",
    "polars": "pl.from_arrow(pa.table(dict(zip('abcdefgh', matrix))))",
}


def peaks(server: Server, namespace: str, values: str, frame: str) -> tuple[float, float]:
    """Peak memory of storing and of hitting a frame, over what the process had before it, in sizes of the frame."""
    across = frame == "rows"
    code = f"""
import resource, sys
import numpy as np, pandas as pd, polars as pl, pyarrow as pa
from redis_memo import connect, redis_cached
cache = connect({server.url!r}, secret={SECRET!r}, timeout=10)

@redis_cached(namespace={namespace!r}, ttl=60, cache=cache, name="f")
def f(rows):
    matrix = np.empty((rows, 8) if {across} else (8, rows))
    for at in range(0, rows, 10_000):
        noise = np.random.default_rng(at).standard_normal((8, 10_000))
        values = {values}
        if {across}:
            matrix[at : at + 10_000] = values.T
        else:
            matrix[:, at : at + 10_000] = values
    return {FRAMES[frame]}

def peak():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) * 1024

rows = 2_500_000
f(10_000)
f(10_000)
before = peak()
f(rows)
assert f.cache_info()[:2] == ((1, 2) if sys.argv[1] == "store" else (3, 0))
print((peak() - before) / (64 * rows))
"""
    return tuple(
        float(subprocess.run([sys.executable, "-c", code, what], capture_output=True, text=True, check=True).stdout)
        for what in ("store", "hit")
    )  # type: ignore[return-value]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("frame", "values", "most", "most_of_a_hit"),
    [
        ("columns", NOISE, 1.2, 1.6),
        ("columns", PRICES, 1.4, 1.6),
        ("columns", WALK, 1.2, 1.6),
        ("rows", NOISE, 1.2, 1.6),
        ("rows", PRICES, 1.4, 1.6),
        ("rows", WALK, 1.2, 1.6),
        ("arrow", NOISE, 1.2, 2.2),
        ("polars", NOISE, 1.2, 2.2),
    ],
)
def test_memory_for_a_large_frame(
    valkey_server: Server, namespace: str, frame: str, values: str, most: float, most_of_a_hit: float
) -> None:
    """What a copy costs: storing makes none, and a hit frees what it has read as it reads on."""
    stored, hit = peaks(valkey_server, namespace, values, frame)
    with valkey_server.client() as client:
        client.delete(*client.scan_iter(f"memo:*{namespace}*", count=10_000))
    assert (stored <= most, hit <= most_of_a_hit) == (True, True), (stored, hit)


def test_a_lease_stands_while_a_large_value_is_sent(
    valkey_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: over a slow link, sending takes longer than a lease lasts."""
    monkeypatch.setattr(_segments, "SEGMENT", 50_000)
    monkeypatch.setattr(_envelope, "CHUNK", 60_000)
    proxy = Proxy(int(valkey_server.url.rpartition(":")[2].partition("/")[0]))
    cache = connect(proxy.url, secret=SECRET, timeout=5, lease=2)

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    def f() -> pd.DataFrame:
        proxy.seconds, proxy.mode = 0.3, "delay"
        return noise(1)

    f()  # sixteen chunks and what ties them together, 0.3 s each
    proxy.mode = "pass"
    assert f.cache_info().refused == 0
    pd.testing.assert_frame_equal(f.peek(), noise(1))
    cache.clear(namespace)
    cache.close()
    proxy.close()


# Some columns of a large frame.


def wide(rows: int = 8_000) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({f"f{number}": rng.random(rows) for number in range(20)}, index=pd.RangeIndex(5, rows + 5))
    frame.index = pd.date_range("2026-01-01", periods=rows, freq="min", tz="Asia/Kolkata")
    frame["n"] = rng.integers(0, 1 << 62, rows)
    frame["name"] = [f"S{number}" for number in rng.integers(0, 1 << 60, rows)]
    frame["kind"] = pd.Categorical(rng.choice(["EQ", "CE", "PE"], rows))
    frame["object"] = pd.Series([f"{number}" for number in range(rows)], dtype=object, index=frame.index)
    frame.attrs["source"] = {"name": "kite"}
    return frame


SELECTIONS = (["f3"], ["n", "f3", "n"], ["n", "f19", "f0"], ["kind", "name", "object", "f5"], list(wide(10)), [])


@pytest.mark.usefixtures("_chunk")
def test_some_columns_are_what_they_would_be_of_the_whole(cache: Cache, namespace: str) -> None:
    frame = wide()

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    def f() -> pd.DataFrame:
        return frame

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    async def g() -> pd.DataFrame:
        return frame

    assert f.peek_columns(["f3"]) is MISSING
    for wrong in ("f3", b"f3", 3):
        with pytest.raises(TypeError, match="as a list"):
            f.peek_columns(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="as a list"):
            asyncio.run(g.peek_columns(wrong))  # type: ignore[arg-type]
    for value in (frame, frame.head(3), frame.head(600)):
        f.store(value)
        for names in SELECTIONS:
            found = f.peek_columns(names)
            pd.testing.assert_frame_equal(found, value[names], check_freq=True)
            assert found.attrs == value.attrs
            pd.testing.assert_frame_equal(asyncio.run(g.peek_columns(names)), value[names])
        with pytest.raises(NoSuchColumn, match="'close'"):
            f.peek_columns(["f1", "close"])
    assert f.cache_info().unreadable == 0


def test_only_the_bytes_of_those_columns_are_read(valkey_server: Server, namespace: str) -> None:
    cache = connect(valkey_server.url, secret=SECRET, timeout=5)

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def f() -> pd.DataFrame:
        return pd.DataFrame(np.random.default_rng(1).random((100_000, 40)))

    f()

    def sent(act: Any) -> int:
        with valkey_server.client() as client:
            before = client.info("stats")["total_net_output_bytes"]
            act()
            return client.info("stats")["total_net_output_bytes"] - before

    assert sent(f.peek) > 32_000_000
    assert sent(lambda: f.peek_columns([3, 17])) < 2_100_000
    cache.clear(namespace)
    cache.close()


@pytest.mark.usefixtures("_chunk")
def test_columns_of_what_is_replaced_are_of_one_value(cache: Cache, namespace: str) -> None:
    """P2: its parts are read one after another, and each is held against what was read first."""

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    def f() -> pd.DataFrame:
        raise AssertionError

    values = [pd.DataFrame(np.random.default_rng(seed).random((30_000, 3)), columns=list("abc")) for seed in range(2)]
    some = [value[["a", "c"]] for value in values]
    replaced_while_read(f.store, lambda: f.peek_columns(["a", "c"]), values, some)


def test_what_is_no_frame_has_no_columns(cache: Cache, namespace: str) -> None:
    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    def f(size: int) -> np.ndarray:
        return np.random.default_rng(1).random(size)

    for size in (3, 100_000):
        f(size)
        with pytest.raises(NoSuchColumn):
            f.peek_columns(["x"], size)


def test_columns_that_share_objects_with_others_can_be_read_alone(cache: Cache, namespace: str) -> None:
    """P2: a dtype, a zone or a list that two columns have in common is written once, with the first of them."""
    rows = 20_000
    frame = pd.DataFrame({"x": np.random.default_rng(1).random(rows)})
    frame["opened"] = pd.date_range("2025-01-01", periods=rows, freq="min", tz="Asia/Kolkata")
    frame["closed"] = frame["opened"] + pd.Timedelta(minutes=1)
    frame["kind"] = pd.Categorical(np.arange(rows) % 3, categories=[0, 1, 2])
    frame["other"] = frame["kind"].iloc[::-1].to_numpy()
    frame["other"] = frame["other"].astype(frame["kind"].dtype)
    frame["notes"] = pd.Series([["a"]] * rows)
    frame["again"] = frame["notes"]
    frame["rows"] = pd.Series([Row(number % 7) for number in range(rows)])

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    def f() -> pd.DataFrame:
        return frame

    for value in (frame, frame.head(20)):
        f.store(value)
        for names in (["x"], ["closed"], ["other", "x"], ["again"], ["rows"], ["closed", "opened"]):
            pd.testing.assert_frame_equal(f.peek_columns(names), value[names])
    assert f.cache_info().unreadable == 0


@pytest.mark.parametrize("value", [{"a": pd.DataFrame({"x": [1]})}, [pd.DataFrame({"x": [1]})]])
def test_frames_within_other_values_have_no_columns_to_be_read_alone(
    cache: Cache, namespace: str, value: object
) -> None:
    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    def f() -> object:
        return value

    f()
    with pytest.raises(NoSuchColumn):
        f.peek_columns(["x"])


def test_some_columns_of_a_frame_whose_stream_is_a_buffer() -> None:
    """The stream is long where an object column holds many small values; what is asked for is asked for once."""
    notes = [(number, "some text") if number % 2 else b"%06d" % number * 5 for number in range(60_000)]
    numbers = np.random.default_rng(0).random((2, 60_000))
    frame = pd.DataFrame({"note": pd.Series(notes, dtype=object), "open": numbers[0], "close": numbers[1]})
    payload = dumps(frame, allow_pickle=False)
    stamp = Stamp(0.0, 0.0, 0.0, 0.0)
    sealed, _ = Sealer(()).seal("k", payload.meta, payload.buffers, kinds=payload.kinds, pickled=False, stamp=stamp)
    assert isinstance(sealed, Large)
    data = b"".join(sealed.pieces)
    reading = Columns(Sealer(()), "k", data[:FIRST], ["close"])
    asked: list[Any] = []
    while reading.needs:
        assert not set(reading.needs) & set(asked)
        asked += reading.needs
        reading.take([data[span.start : span.stop] for span in reading.needs])
    pd.testing.assert_frame_equal(reading.value, frame[["close"]])
