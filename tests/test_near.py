"""Near hits: without a round trip, the caller's own (P2), by the same keys (P1), and coherent within a bound (P3)."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import enum
import functools
import inspect
import itertools
import logging
import multiprocessing
import operator
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_memo import _near, as_of, connect, redis_cached, testing
from redis_memo import _tracking as tracking
from redis_memo._call import CallKey
from redis_memo._near import ELSEWHERE, Near, NearEntry, Room
from redis_memo._near_call import near_call, path, paths
from redis_memo.errors import ConfigurationError, StoreError
from redis_memo.events import NearUntracked

from . import near_readers, near_search
from .conftest import SECRET, start_server, until, valkey
from .faults import Proxy


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """A machine under load may not get to its heartbeat for seconds; only some tests are about that."""
    monkeypatch.setattr(tracking, "SAFE", 30.0)


@pytest.fixture(scope="module")
def valkey_server():
    """A server of this module's own: what other tests still do behind their callers would be among the reads it counts."""
    server = start_server(valkey())
    yield server
    server.stop()


@pytest.fixture
def memo(cache, namespace):
    return functools.partial(redis_cached, namespace=namespace, ttl=60, cache=cache, near=True)


@pytest.fixture
def proxy(valkey_server):
    with Proxy(int(valkey_server.url.rsplit(":", 1)[1].split("/")[0])) as spoiler:
        yield spoiler


class Source:
    """A function whose result tells how often it ran, and its near twin."""

    def __init__(self, cache, namespace, **options):
        self.runs = 0
        self.fetch = redis_cached(
            namespace=namespace, **{"ttl": 60, "cache": cache, "near": True, "name": "fetch", **options}
        )(self._fetch)

    def _fetch(self, x):
        self.runs += 1
        return f"{x}:{self.runs}"


def keep(function, *args, **kwargs):
    """Call until this process holds the result."""
    until(lambda: (function(*args, **kwargs), function.explain(*args, **kwargs).near)[1])
    return function(*args, **kwargs)


def held(function, *args) -> bool:
    return function.explain(*args).near


def reads(server) -> int:
    with server.client() as client:
        return client.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"]


# ------------------------------------------------------------------------------------------------------ round trips


def test_a_near_hit_asks_redis_nothing(memo, valkey_server):
    @memo()
    def quote(symbol, exchange="NSE", *, days=1):
        return symbol, exchange, days

    keep(quote, "INFY")
    before, hits = reads(valkey_server), quote.cache_info().hits
    for _ in range(50):
        assert (
            quote("INFY") == quote("INFY", "NSE") == quote(exchange="NSE", symbol="INFY", days=1) == ("INFY", "NSE", 1)
        )
    assert reads(valkey_server) == before
    info = quote.cache_info()
    assert info.hits == hits + 150
    assert info.near_hits <= info.hits
    assert info.misses == 1


def test_every_kind_of_function_has_near_hits(memo, valkey_server):
    class Client:
        @memo(ignore=("self",))
        def method(self, x):
            return x, 1

        @memo()
        @classmethod
        def of_class(cls, x):
            return x, 2

        @memo()
        @staticmethod
        def of_nobody(x):
            return x, 3

    @memo()
    def constant():
        return 5

    @memo()
    def variadic(*args, **kwargs):
        return args, tuple(kwargs)

    client = Client()
    for function, args, value in [
        (client.method, ("a",), ("a", 1)), (client.of_class, ("a",), ("a", 2)), (client.of_nobody, ("a",), ("a", 3)),
        (constant, (), 5), (variadic, (1, "a"), ((1, "a"), ())),
    ]:  # fmt: skip
        keep(function, *args)
        before, near = reads(valkey_server), function.cache_info().near_hits
        assert [function(*args) for _ in range(5)] == [value] * 5
        assert function.cache_info().near_hits == near + 5
        assert reads(valkey_server) == before

    with pytest.raises(TypeError, match=r"method\(\) missing 1 required"):
        client.method()
    assert inspect.signature(Client.method) == inspect.signature(Client.method.__wrapped__)


async def test_an_async_near_hit_does_not_touch_the_loop(memo, valkey_server):
    """P8; and the loop has no turn while it is answered."""

    @memo()
    async def quote(symbol):
        return symbol, 1

    assert inspect.iscoroutinefunction(quote)
    for _ in range(1000):
        await quote("INFY")
        if (await quote.explain("INFY")).near:
            break
        await asyncio.sleep(0.005)
    before, near = reads(valkey_server), quote.cache_info().near_hits
    for _ in range(5):
        coroutine = quote("INFY")
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)
        assert done.value.value == ("INFY", 1)
    assert quote.cache_info().near_hits == near + 5
    assert reads(valkey_server) == before
    await quote.invalidate(symbol="INFY")
    assert not (await quote.explain("INFY")).near


def test_hits_are_counted_right_by_many_threads(memo):
    @memo()
    def quote(symbol):
        return symbol

    keep(quote, "INFY")
    near, hits = quote.cache_info().near_hits, quote.cache_info().hits
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: [quote("INFY") for _ in range(2000)], range(8)))
    finally:
        sys.setswitchinterval(interval)
    info = quote.cache_info()
    assert info.hits == hits + 16000
    assert near < info.near_hits <= near + 16000
    quote.invalidate()
    assert quote.cache_info().near_hits == info.near_hits, "what is dropped has been counted"
    quote.cache_clear()
    assert quote.cache_info()[:2] == (0, 0)
    assert quote.cache_info().near_hits == 0


# --------------------------------------------------------------------------------------------------------------- P1


class Text(str):
    __slots__ = ()


class Level(enum.StrEnum):
    ONE = "1"


LOOKALIKES = [
    1, 1.0, True, "1", b"1", Text("1"), Level.ONE, np.int64(1), np.float64(1.0), np.str_("1"), Decimal(1), 0, 0.0, -0.0,
    False, None, "", (), [], (1,), [1], (1.0,), frozenset({1}), {1}, {}, float("nan"), np.float64("nan"), np.array([1]),
    dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, fold=1), dt.timedelta(0), complex(1), 1 << 70,
]  # fmt: skip


@pytest.mark.parametrize("earliest", ["1", 1, 0.5, True, None, b"1", dt.date(2024, 1, 1)])
def test_lookalikes_do_not_share_a_near_hit(memo, earliest):
    """P1: each gets its own, whichever is kept, and first."""
    ran = []

    @memo()
    def number(x):
        ran.append(x)
        return len(ran)

    first = [number(x) for x in LOOKALIKES]
    assert len(set(first)) == len(LOOKALIKES)
    keep(number, earliest)
    keep(number, "1")
    keep(number, 1)
    keep(number, 0.5)
    for _ in range(3):
        assert [number(x) for x in LOOKALIKES] == first


def test_arguments_of_any_kind_find_their_own(memo, valkey_server):
    """P1, near: also where others were kept first."""
    ran = []

    @memo()
    def number(x, y, z="a"):
        ran.append((x, y, z))
        return len(ran)

    some = ["1", 1, True, 0.5, None, b"1"]
    calls = [(x, y, *z) for x in some for y in some for z in ((), ("b",), (1,))]
    first = [keep(number, *call) for call in calls]
    before, near = reads(valkey_server), number.cache_info().near_hits
    assert [number(*call) for call in calls] == first
    assert number.cache_info().near_hits == near + len(calls)
    assert reads(valkey_server) == before
    assert len(set(first)) == len(calls)


@pytest.mark.parametrize(
    "default", [[1], {}, "NSE", None, 1, True, 0.0, float("nan"), Level.ONE, Decimal(1), Text("1")]
)
def test_a_default_may_be_anything(memo, default):
    """P8: it is filled in as it stands, and the function is as hashable as any."""

    @memo(ignore=("self",))
    def shown(x, exchange=default, *, self=default):
        return repr(exchange), type(exchange).__name__

    for _ in range(3):
        assert shown("a") == shown("a", default) == shown("a", self=1) == (repr(default), type(default).__name__)
    assert shown.__defaults__[0] is default
    assert hash(shown.__code__) == hash(shown.__code__)


values = st.one_of(
    st.sampled_from(LOOKALIKES), st.integers(-2, 2), st.floats(-2, 2), st.text(max_size=2), st.binary(max_size=2),
    st.booleans(), st.none(), st.dates(), st.timedeltas(),
)  # fmt: skip


def typed(arguments):
    return [(type(x), x) for x in arguments]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(values, values), min_size=2, max_size=2))
def test_two_calls_have_one_path_only_if_they_have_one_digest(calls):
    """P1, as a property: what the generated function tells no apart, the digest does not either."""

    def function(a, b):
        """Nothing."""

    key = CallKey(function)
    one, other = (path(key, call) for call in calls)
    if one is not None and other is not None:
        same = typed(one) == typed(other)
        assert same == (key.digest(calls[0]) == key.digest(calls[1]))


def test_of_all_lookalikes_two_have_one_path_only_if_they_have_one_digest():
    def function(a):
        """Nothing."""

    key = CallKey(function)
    found = [(x, path(key, [x])) for x in LOOKALIKES]
    let_in = [(x, steps) for x, steps in found if steps is not None]
    assert len(let_in) >= 10
    for x, one in let_in:
        for y, other in let_in:
            assert (typed(one) == typed(other)) == (key.digest([x]) == key.digest([y])), (x, y)


@pytest.mark.parametrize("default", ["NSE", 1, True, None, 1.0, 0.0, dt.date(2024, 1, 1), Level.ONE, np.int64(1)])
def test_a_default_that_is_left_out_is_the_default_alone(default):
    """P1: of all arguments, those are found as if it was left out whose digest is that of the default."""

    def function(a, b=default):
        """Nothing."""

    key = CallKey(function)
    for other in [*LOOKALIKES, "NSE"]:
        both = paths(key, ["INFY", other])
        if both is not None and both[1] is not None:
            assert key.digest(["INFY", other]) == key.digest(["INFY", default])
            assert both[1] == (0,), "by the symbol alone"


def test_calls_meet_whether_defaults_are_left_out_or_not(memo, valkey_server):
    """P1, P3: in one entry, which goes for all of them."""
    ran = []

    @memo()
    def quote(symbol, exchange="NSE", *, days=365):
        ran.append((symbol, exchange, days))
        return len(ran)

    calls = [
        lambda: quote("INFY"), lambda: quote("INFY", str(b"NSE", "ascii")), lambda: quote("INFY", days=int("365")),
        lambda: quote(symbol="INFY", exchange="NSE"),
    ]  # fmt: skip
    for _ in range(2):
        first = keep(quote, "INFY")
        before = reads(valkey_server)
        assert {call() for call in calls} == {first}
        assert reads(valkey_server) == before, "near, all of them"
        assert keep(quote, "INFY", "BSE") != first
        quote.invalidate(symbol="INFY", exchange="NSE")
        assert not held(quote, "INFY")
        assert {call() for call in calls} == {len(ran)}
    assert len(ran) == 4


def test_all_may_have_defaults(memo):
    @memo()
    def quote(symbol="INFY", flag=True):
        return f"{symbol} {flag!r}"

    assert keep(quote) == quote() == quote("INFY") == quote(flag=True) == "INFY True"
    assert [quote("INFY", 1), quote("INFY", 1.0), quote("TCS"), quote(flag=False)] == [
        "INFY 1", "INFY 1.0", "TCS True", "INFY False"
    ]  # fmt: skip


class Rude:
    """Says that it equals whatever it is compared with."""

    __slots__ = ()

    def __eq__(self, other):
        raise AssertionError("asked")

    def __hash__(self):
        raise AssertionError("asked")

    def __memo_key__(self):
        return "rude"


def test_nothing_of_an_argument_s_class_is_called(memo):
    @memo()
    def quote(x, y=1):
        return "a value"

    keep(quote, "a")
    assert quote(Rude()) == quote(Rude(), 1) == quote("a", Rude()) == "a value"


def test_a_key_function_is_asked_at_every_call(memo):
    """A near hit must not keep the answer of ``key=``, which may look at the clock."""
    day = ["monday"]

    @memo(key=lambda symbol: (symbol, day[0]))
    def quote(symbol):
        return symbol, day[0]

    assert keep(quote, "INFY") == ("INFY", "monday")
    day[0] = "tuesday"
    assert quote("INFY") == ("INFY", "tuesday")


def test_parameters_may_have_any_name(memo):
    @memo()
    def odd(_clock, _table, _kept, table, type, str, slow, *, Exception="e", _slow=1):  # noqa: A002
        return _clock, type, str, Exception, _slow

    args = ("a", "b", "c", "d", "e", "f", "g")
    assert keep(odd, *args) == odd(*args) == ("a", "e", "f", "e", 1)


# --------------------------------------------------------------------------------------------------------------- P2


def _frame():
    return pd.DataFrame(
        {
            "close": [1.5, 2.5],
            "name": ["a", "b"],
            "kind": pd.Categorical(["x", "y"]),
            "n": pd.array([1, None], dtype="Int64"),
        },
        index=pd.date_range("2024-01-01", periods=2, tz="Asia/Kolkata", name="at"),
    )


def _plain_frame():
    return _frame()[["close", "name"]]


def _attrs():
    frame = _plain_frame()
    frame.attrs["source"] = {"codes": [1]}
    return frame


def _spoil_frame(frame):
    frame["close"].array[1] = -2.0
    frame.loc[frame.index[0], "close"] = -1.0
    frame.index.name = frame.columns.name = "spoilt"
    if "kind" in frame:
        frame["kind"].values[0] = "y"
        frame["n"].array[0] = 7
    for codes in frame.attrs.values():
        codes["codes"].append(2)
    frame.attrs["more"] = 1
    frame["new"] = 1


def _spoil_array(array):
    array.flat[0] = 9


def _spoil_names(array):
    array.dtype.names = ("p", "q")


def _spoil_index(series):
    values = (
        series.index.asi8 if isinstance(series.index, pd.DatetimeIndex) else series.index.values
    )  # read-only, but whose memory it is may say otherwise
    values.flags.writeable = True
    values[0] = values[1]


AXES = {
    "range": pd.RangeIndex(5, 11, 4, name="at"),
    "whole numbers": pd.Index([3, 7], name="at"),
    "small numbers": pd.Index([3, 7], dtype="i1"),
    "floats": pd.Index([1.5, np.nan]),
    "complex numbers": pd.Index([1j, 2j]),
    "booleans": pd.Index([True, False]),
    "objects": pd.Index(["a", 1], dtype=object),
    "text": pd.Index(["a", "b"]),
    "str by Python": pd.Index(["a", None], dtype=pd.StringDtype("python", na_value=np.nan)),
    "str by Arrow": pd.Index(["a", None], dtype=pd.StringDtype("pyarrow", na_value=np.nan)),
    "string by Python": pd.Index(["a", "b"], dtype="string[python]"),
    "string by Arrow": pd.Index(["a", "b"], dtype="string[pyarrow]"),
    "Arrow": pd.Index([1, 2], dtype="int64[pyarrow]"),
    "nullable": pd.Index([1, 2], dtype="Int64"),
    "categories": pd.CategoricalIndex(["a", "b"]),
    "times": pd.date_range("2024-01-01", periods=2, freq="h", name="at"),
    "times of a zone": pd.date_range("2024-01-01", periods=2, tz="Asia/Kolkata"),
    "durations": pd.timedelta_range("1s", periods=2),
    "periods": pd.period_range("2024", periods=2, freq="M"),
    "intervals": pd.interval_range(0, 2),
}


def _told(index):
    """Whatever an index says of itself."""
    facts = (index.dtype, index.names, getattr(index, "freq", None), getattr(index, "stop", None))
    return repr((*facts, *map(list, (index, index.to_numpy(), np.asarray(index), index.array, index.isna()))))


def _write(array):
    if isinstance(array, np.ndarray):
        with contextlib.suppress(ValueError):  # whose memory it is says otherwise
            array.flags.writeable = True
    with contextlib.suppress(TypeError, ValueError):  # it is read-only, or takes no item
        array[0] = not array[0] if array.dtype == bool else array[1]


@pytest.mark.parametrize("kind", AXES)
@pytest.mark.parametrize("of", ["series", "rows", "columns"])
def test_what_is_done_to_the_index_of_a_near_hit_reaches_no_other(memo, kind, of):
    """P2: through whichever of its arrays."""

    @memo()
    def fetch(symbol):
        if of == "series":
            return pd.Series([1.0, 2.0], index=AXES[kind])
        return pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], **{"index" if of == "rows" else "columns": AXES[kind]})

    def index():
        return fetch("INFY").axes[1 if of == "columns" else 0]

    keep(fetch, "INFY")
    expected = _told(AXES[kind])
    for door in (
        np.asarray, pd.Index.to_numpy, operator.methodcaller("isna"), operator.methodcaller("notna"),
        operator.attrgetter("array"), lambda axis: np.asarray(axis.array), lambda axis: getattr(axis, "asi8", axis),
        lambda axis: axis.to_frame().iloc[:, 0].array,
    ):  # fmt: skip
        _write(door(index()))
        assert _told(index()) == expected
    axis = index()
    axis.name = "spoilt"
    assert _told(index()) == expected
    assert held(fetch, "INFY")


def _numbered():
    return pd.Series([1.0, 2.0], index=pd.Index([5, 6], name="at"))


def _dated():
    return pd.Series([1.0, 2.0], index=pd.date_range("2024-01-01", periods=2, freq="h", tz="Asia/Kolkata", name="at"))


def _spoil_objects(array):
    array[0].append(9)


MUTABLE = {
    "list": (lambda: [1, 2], lambda v: v.append(3)),
    "dict": (lambda: {"a": 1}, lambda v: v.update(b=2)),
    "set": (lambda: {1, 2}, lambda v: v.add(3)),
    "bytearray": (lambda: bytearray(b"ab"), lambda v: v.append(3)),
    "list of dicts": (lambda: [{"a": [1]}], lambda v: v[0]["a"].append(2)),
    "tuple of lists": (lambda: ([1], 2), lambda v: v[0].append(2)),
    "array": (lambda: np.arange(6.0).reshape(2, 3), _spoil_array),
    "array by column": (lambda: np.asfortranarray(np.arange(6).reshape(2, 3)), _spoil_array),
    "array of records": (lambda: np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), _spoil_names),
    "index of numbers": (_numbered, _spoil_index),
    "index of times": (_dated, _spoil_index),
    "array of objects": (lambda: np.array([[1], None], dtype=object), _spoil_objects),
    "plain frame": (_plain_frame, _spoil_frame),
    "frame": (_frame, _spoil_frame),
    "frame with attrs": (_attrs, _spoil_frame),
    "series": (lambda: _frame()["close"], lambda v: (v.array.__setitem__(0, 9.0), v.__setitem__(v.index[1], 8.0))),
    "index by many": (
        lambda: pd.DataFrame({"v": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"])),
        lambda v: setattr(v.index, "names", ["q", "r"]),
    ),
}


def _same(one, other):
    if isinstance(one, (pd.DataFrame, pd.Series)):
        (pd.testing.assert_frame_equal if isinstance(one, pd.DataFrame) else pd.testing.assert_series_equal)(one, other)
        assert one.attrs == other.attrs
        assert one.index.names == other.index.names
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.flags.f_contiguous == other.flags.f_contiguous
        assert one.tolist() == other.tolist()
    else:
        assert type(one) is type(other)
        assert one == other


@pytest.mark.parametrize("kind", MUTABLE)
def test_a_near_hit_is_the_caller_s_own(memo, kind):
    """P2: whatever is done to it, the next hit is as the function returned it."""
    make, spoil = MUTABLE[kind]

    @memo()
    def fetch(symbol):
        return make()

    keep(fetch, "INFY")
    for _ in range(3):
        value = fetch("INFY")
        _same(value, make())
        with contextlib.suppress(ValueError):  # read-only: pandas' own arrays
            spoil(value)
    _same(fetch("INFY"), make())
    assert held(fetch, "INFY")


@pytest.mark.parametrize(
    "value", [None, True, 7, 2.5, "a", b"a", (1, ("a", None)), frozenset({1}), dt.date(2024, 1, 1), Decimal("1.10"),
              dt.datetime(2024, 1, 1, tzinfo=dt.UTC)],
)  # fmt: skip
def test_what_cannot_be_changed_is_shared(memo, value):
    @memo()
    def fetch(symbol):
        return value

    keep(fetch, "INFY")
    assert fetch("INFY") is fetch("INFY")
    assert fetch("INFY") == value
    assert type(fetch("INFY")) is type(value)


# --------------------------------------------------------------------------------------------------------------- P3


@pytest.mark.parametrize(
    "change",
    [
        lambda s, cache, ns: s.fetch.invalidate(x="a"),
        lambda s, cache, ns: s.fetch.invalidate(),
        lambda s, cache, ns: s.fetch.invalidate_tags("t"),
        lambda s, cache, ns: s.fetch.cache_clear(),
        lambda s, cache, ns: cache.clear(ns),
        lambda s, cache, ns: cache.invalidate_tags(ns, "t"),
        lambda s, cache, ns: asyncio.run(cache.aclear(ns)),
        lambda s, cache, ns: s.fetch.refresh("a"),
        lambda s, cache, ns: s.fetch.store("a:2", "a"),
    ],
    ids=["call", "all", "tag", "cache_clear", "namespace", "namespace's tag", "async", "refresh", "store"],
)
def test_what_this_process_changes_it_sees_at_once(cache, namespace, change):
    """P3: with the return of the change, not with its push."""
    source = Source(cache, namespace, tags="t")
    for _ in range(20):
        source.runs = 0
        keep(source.fetch, "a")
        source.runs = 1
        change(source, cache, namespace)
        assert source.fetch("a") == "a:2"
        source.fetch.cache_clear()


def test_another_cache_of_this_process_counts_as_this_process(cache, namespace, valkey_server):
    source = Source(cache, namespace)
    other = connect(valkey_server.url, secret=SECRET)
    keep(source.fetch, "a")
    runs = source.runs
    other.clear(namespace)
    assert source.fetch("a") == f"a:{runs + 1}"
    other.close()


def test_a_subset_s_invalidation_spares_the_others(memo):
    @memo()
    def quote(symbol, exchange):
        return symbol

    for symbol in ("INFY", "TCS"):
        keep(quote, symbol, "NSE")
    quote.invalidate(symbol="INFY")
    assert not held(quote, "INFY", "NSE")
    assert held(quote, "TCS", "NSE")


def test_an_invalidation_that_fails_drops_what_is_kept(proxy, namespace):
    """P3: nobody knows whether it was carried out."""
    cache = connect(proxy.url, secret=SECRET, timeout=0.3)
    source = Source(cache, namespace)
    for attempt in (lambda: source.fetch.invalidate(x="a"), lambda: cache.clear(namespace)):
        keep(source.fetch, "a")
        proxy.mode = "refuse"
        with pytest.raises(StoreError):
            attempt()
        runs = source.runs
        assert source.fetch("a") == f"a:{runs + 1}"
        proxy.mode = "pass"
        until(lambda: cache.engine.backend.breaker.state == "closed")
    cache.close()


WRITER = """
import sys
from redis_memo import connect, redis_cached
cache = connect(sys.argv[1], secret=sys.argv[3])
@redis_cached(namespace=sys.argv[2], ttl=60, cache=cache, near=True, name="fetch")
def fetch(x): return None
for line in sys.stdin:
    fetch.store(line.strip(), "a")
    print(fetch("a"), flush=True)
"""


@pytest.mark.parametrize("kind", ["valkey_server", "redis_server", "redis_6_server", "redis_8_server"])
def test_another_process_s_change_is_heard_of(request, namespace, kind):
    """P3 between processes, on every server: bounded, and it takes no time out."""
    server = request.getfixturevalue(kind)
    cache = connect(server.url, secret=SECRET)
    source = Source(cache, namespace)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, server.url, namespace, SECRET],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdin is not None
    assert writer.stdout is not None
    try:
        keep(source.fetch, "a")
        for number in range(50):
            writer.stdin.write(f"v{number}\n")
            writer.stdin.flush()
            assert writer.stdout.readline().strip() == f"v{number}"
            until(lambda number=number: source.fetch("a") == f"v{number}")
            keep(source.fetch, "a")
        assert source.runs == 1
    finally:
        writer.stdin.close()
        writer.wait()
        writer.stdout.close()
        cache.close()


def test_readers_in_other_processes_never_go_back(namespace, valkey_server):
    """P3: through hundreds of changes; and the process that makes them sees each at once."""
    context, last = multiprocessing.get_context("spawn"), 300
    truth, found = context.Value("q", 0, lock=False), context.Queue()
    readers = [
        context.Process(
            target=near_readers.follow, args=(valkey_server.url, namespace, truth, last, found), daemon=True
        )
        for _ in range(2)
    ]
    for reader in readers:
        reader.start()
    version = near_readers.versioned(valkey_server.url, namespace, truth)
    keep(version, "INFY")
    assert [found.get(timeout=60) for _ in readers] == ["ready", "ready"]
    for number in range(1, last + 1):
        truth.value = number
        version.invalidate(symbol="INFY")
        assert version("INFY") == version("INFY", "NSE") == number
    back = [found.get(timeout=60) for _ in readers]
    for reader in readers:
        reader.join()
    assert back == [0, 0]


def test_a_lost_connection_drops_everything(cache, namespace, valkey_server):
    """CLIENT KILL: what changed meanwhile would not have been heard of."""
    source = Source(cache, namespace)
    keep(source.fetch, "a")
    with valkey_server.client() as client:
        for each in client.client_list():
            if each.get("resp") == "3":
                client.client_kill(each["addr"])
    until(lambda: not held(source.fetch, "a"))
    keep(source.fetch, "a")
    with valkey_server.client() as client:
        client.delete(source.fetch.cache_key("a"))
    until(lambda: not held(source.fetch, "a"))


def test_a_silent_connection_is_trusted_for_seconds_only(proxy, namespace, monkeypatch):
    """A black hole: nobody closes anything, and no call may be served from memory after the bound."""
    monkeypatch.setattr(tracking, "SAFE", 1.0)
    monkeypatch.setattr(tracking, "BEAT", 0.2)
    cache = connect(proxy.url, secret=SECRET, timeout=0.3)
    source = Source(cache, namespace)
    keep(source.fetch, "a")
    proxy.mode = "swallow"
    # The last answered question may be as young as this moment.
    bound = time.time() + tracking.SAFE
    until(lambda: time.time() > bound)
    assert not held(source.fetch, "a")
    near = source.fetch.cache_info().near_hits
    source.fetch("a")
    assert source.fetch.cache_info().near_hits == near
    proxy.mode = "pass"
    proxy.cut()
    keep(source.fetch, "a")
    cache.close()


def test_a_process_that_stood_still_wakes_up_with_nothing(cache, memo, monkeypatch):
    """Its threads need not have run yet: every hit looks at the clock."""
    offset, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])

    @memo()
    def quote(symbol):
        return symbol

    keep(quote, "INFY")
    with cache.engine.backend.tracker._lock:  # the thread that listens comes to nothing
        near = quote.cache_info().near_hits
        offset[0] = 3600.0
        quote("INFY")
        assert quote.cache_info().near_hits == near


def test_a_server_that_is_restarted_has_nothing_left(namespace):
    server = start_server(valkey())
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    cache = connect(server.url, secret=SECRET)
    source = Source(cache, namespace)
    keep(source.fetch, "a")
    server.process.kill()
    server.process.wait()
    until(lambda: not held(source.fetch, "a"))
    again = start_server(valkey(), port=port)
    runs = source.runs
    until(lambda: cache.engine.backend.breaker.state == "closed")
    keep(source.fetch, "a")
    assert source.runs > runs
    cache.close()
    again.stop()


def test_a_flushed_database_drops_everything(namespace):
    server = start_server(valkey())
    cache = connect(server.url, secret=SECRET)
    source = Source(cache, namespace)
    keep(source.fetch, "a")
    with server.client() as client:
        client.flushall()
    until(lambda: source.fetch("a") == "a:2")
    cache.close()
    server.stop()


def test_in_every_order_no_promise_is_broken():
    """P3: the real flows, store and ears against a model of Redis, one step at a time."""
    assert near_search.search(150) is None


@pytest.mark.parametrize("mistake", ["ticket", "early", "own", "pushes", "lost"])
def test_the_search_finds_mistakes(mistake):
    assert near_search.search(1500, near_search.Plant(**{mistake: False})) is not None


# ----------------------------------------------------------------------------------------------------------- expiry


def test_an_entry_is_not_served_past_its_expiry(cache, namespace, valkey_server):
    """P3, P7: the server's expiry, not a copy's."""
    source = Source(cache, namespace, ttl=3)
    keep(source.fetch, "a")
    with valkey_server.client() as client:
        left = client.pttl(source.fetch.cache_key("a"))
        kept = next(iter(source.fetch.__redis_memo__._memo.near._entries.values()))
        assert kept.deadline <= time.time() + max(left, 0) / 1000 + 0.001
        runs = source.runs
        until(lambda: not client.exists(source.fetch.cache_key("a")))
    assert source.fetch("a") == f"a:{runs + 1}"


class Shop:
    """A store on a clock of its own, and the function that looks into it; what is elsewhere it finds by digest."""

    def __init__(self, monkeypatch):
        self.now, self.asked, self.near = 1000.0, 0, store_of(10)
        self.near._gate.until = 2000.0
        monkeypatch.setattr(time, "time", lambda: self.now)
        self.call = near_call(CallKey(lambda x: None), self.near.tables, self.elsewhere, waits=False)

    def elsewhere(self, x):
        self.asked += 1
        return self.near.find(f"{int(x):040x}")


def test_each_entry_is_served_until_its_own_end(monkeypatch):
    """P3, P7: one that ends takes no other along, and the others go on without a detour."""
    shop = Shop(monkeypatch)
    for number, deadline in ((1, 1001.0), (2, 1010.0), (3, 1002.0)):
        assert filled(shop.near, number, deadline=deadline)
    assert [shop.call("1"), shop.call("2"), shop.call("3"), shop.asked] == [1, 2, 3, 0]
    shop.now = 1001.0
    assert [shop.call(each) for each in "123123"] == [ELSEWHERE, 2, 3, ELSEWHERE, 2, 3]
    shop.asked = 0
    assert [shop.call(each) for each in "2323"] == [2, 3, 2, 3]
    assert shop.asked == 0
    shop.now = 1009.9
    assert [shop.call(each) for each in "123"] == [ELSEWHERE, 2, ELSEWHERE]
    assert len(shop.near._entries) == 1
    shop.now = 1010.0
    assert [shop.call(each) for each in "123"] == [ELSEWHERE] * 3
    assert not filled(shop.near, 4, deadline=1010.1), "it ends before it could be looked at"


def test_what_comes_later_may_end_earlier(monkeypatch):
    """P3: it is not served for as long as what was there before it."""
    shop = Shop(monkeypatch)
    filled(shop.near, 1, deadline=1010.0)
    assert shop.call("1") == 1
    filled(shop.near, 2, deadline=1001.0)
    shop.now = 1001.0
    assert [shop.call("2"), shop.call("1")] == [ELSEWHERE, 1]


def test_nothing_is_served_while_the_gate_is_shut(monkeypatch):
    """P3: by the function itself, and by digest."""
    shop = Shop(monkeypatch)
    gate = shop.near._gate
    gate.until = 1003.0
    filled(shop.near, 1, deadline=1010.0)
    shop.now = 1002.9
    assert [shop.call("1"), shop.asked] == [1, 0]
    shop.now = 1003.0
    assert shop.call("1") is ELSEWHERE
    gate.until = 1006.0
    assert [shop.call("1"), shop.call("1"), shop.asked] == [1, 1, 2], "the first one sees that it is open again"
    shop.now = 1006.0
    assert shop.call("1") is ELSEWHERE
    gate.until = 1020.0
    shop.near.clear()
    assert shop.call("1") is ELSEWHERE


def test_what_is_stale_or_due_goes_to_redis(cache, namespace):
    for options in ({"stale": 60}, {"stale_if_error": 60}, {"early": True}):
        source = Source(cache, f"{namespace}-{next(iter(options))}", ttl=5, **options)
        keep(source.fetch, "a")
        (kept,) = source.fetch.__redis_memo__._memo.near._entries.values()
        assert kept.deadline <= time.time() + 5


def test_a_test_s_clock_is_heeded(memo):
    ran = []

    @memo()
    def quote(symbol):
        ran.append(symbol)
        return len(ran)

    keep(quote, "INFY")
    with testing.at("2024-03-01 11:00 IST") as clock:
        first = quote("INFY")
        assert quote("INFY") == first
        clock.move("2m")
        assert quote("INFY") == first + 1


def test_as_of_a_moment_has_entries_of_its_own(memo):
    ran = []

    @memo()
    def quote(symbol):
        ran.append(symbol)
        return len(ran)

    outside = keep(quote, "INFY")
    with as_of("2024-03-01 11:00 IST"):
        inside = quote("INFY")
        assert inside != outside
        assert keep(quote, "INFY") == inside
    assert keep(quote, "INFY") == outside
    with as_of("2024-03-01 11:00 IST"):
        assert quote("INFY") == inside
        quote.invalidate(symbol="INFY")
        assert quote("INFY") > inside
    assert quote("INFY") == outside


# ----------------------------------------------------------------------------------------------------------- bounds


class Open:
    """A gate that is."""

    until = 9e9
    longest = 60.0

    def covers(self, prefix):
        return True


PREFIX = "memo:{test:near:#0}:"


def filled(near, number, size=0, deadline=9e9):
    digest = f"{number:040x}"
    kept = NearEntry(number, None, size, deadline=deadline, seconds=1.0, tokens=b"")
    return near.fill(PREFIX + digest, near.ticket(digest), kept, ((str(number),), None))


def store_of(entries, size=1 << 30):
    near = Near(Room(entries, size))
    near.attach((PREFIX,), Open())
    return near


def test_a_store_keeps_to_its_bounds():
    """P7: entries and bytes; and the table that generated functions walk holds no more."""
    near = store_of(10)
    for number in range(100):
        assert filled(near, number)
    assert len(near._entries) == len(near.tables.table) == 10
    near = store_of(None, 100_000)
    for number in range(100):
        assert filled(near, number, 10_000)
    assert near._size == sum(kept.size for kept in near._entries.values()) <= 100_000
    assert len(near._entries) == 9
    assert not filled(near, 1000, 30_000), "one that would cost too many others their place"
    for number in range(100):
        near.forget(f"{number:040x}")
    assert (near._size, near.tables.table, near._ends, near._oldest, near._newest) == (0, {}, {}, None, None)


def test_a_scan_does_not_push_out_what_is_used():
    """SIEVE: what is never asked for again goes first."""
    near = store_of(100)
    for number in range(50):
        filled(near, number)
    for scanned in range(1000, 3000):
        filled(near, scanned)
        if scanned % 20 == 0:
            for number in range(50):
                assert near.find(f"{number:040x}") == number
    assert near.totals() == (5000, 5000.0)


def test_no_hit_is_lost_while_entries_come_and_go():
    """P7: each is counted, whenever what it found is dropped."""
    near, served = store_of(10), []
    call = near_call(CallKey(lambda x: None), near.tables, lambda x: None, waits=False)

    def calls():
        found = 0
        while found < 1_000:
            found += sum(call("1") == 1 for _ in range(1_000))
        served.append(found)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=calls) for _ in range(4)]
        for thread in threads:
            thread.start()
        drop = itertools.cycle([near.clear, lambda: near.forget(f"{1:040x}"), lambda: None])
        while any(thread.is_alive() for thread in threads):
            filled(near, 1)
            next(drop)()
    finally:
        sys.setswitchinterval(interval)
    assert len(served) == 4
    assert near.totals() == (sum(served), sum(served))


def test_what_was_visited_is_told_once():
    near = store_of(10)
    for number in range(3):
        filled(near, number)
    near.find(f"{1:040x}")
    assert near.visited(PREFIX) == [f"{1:040x}"]
    assert near.visited(PREFIX) == []


def test_a_void_ticket_fills_nothing():
    near = store_of(10)
    digest = "a" * 40
    for come_between in (lambda: near.forget(digest), lambda: near.forget_matching(b"12345678"), near.clear):
        ticket = near.ticket(digest)
        come_between()
        assert not near.fill(
            PREFIX + digest, ticket, NearEntry(1, None, 0, deadline=9e9, seconds=0.0, tokens=b""), None
        )


@pytest.mark.parametrize(
    ("near", "limit"),
    [
        (True, (1024, 64 << 20)),
        (500, (500, 64 << 20)),
        ("64mb", (None, 64 << 20)),
        ("2 GB", (None, 2 << 30)),
        (None, None),
        (False, None),
    ],
)
def test_near_says_how_much(memo, near, limit):
    function = memo(near=near)(lambda x: x)
    assert function.cache_parameters()["near"] == limit


@pytest.mark.parametrize("near", [0, -1, 1.5, "64", "mb", "lots", (), b"1mb"])
def test_near_is_checked(memo, near):
    with pytest.raises(ConfigurationError, match="near="):
        memo(near=near)(lambda x: x)


# -------------------------------------------------------------------------------------------------- process, server


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_keeps_what_it_read_itself(cache, namespace):
    source = Source(cache, namespace)
    keep(source.fetch, "a")
    pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            empty = not held(source.fetch, "a")
            keep(source.fetch, "a")
            source.fetch.store("a:9", "a")
            status = 0 if empty and source.fetch("a") == "a:9" else 2
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    until(lambda: source.fetch("a") == "a:9")


def test_where_changes_cannot_be_heard_of_age_alone_counts(namespace, caplog):
    """A proxy, or a user without the right: said once, and nothing is kept for longer than is said."""
    server = start_server(valkey())
    with server.client() as client:
        client.acl_setuser("app", enabled=True, passwords=["+secret"], keys=["*"], channels=["*"],
                           commands=["+@all", "-client|tracking"])  # fmt: skip
    events = []
    caplog.set_level(logging.WARNING, logger="redis_memo")
    cache = connect(server.url.replace("://", "://app:secret@"), secret=SECRET, on_event=events.append)
    source = Source(cache, namespace)
    keep(source.fetch, "a")
    (kept,) = source.fetch.__redis_memo__._memo.near._entries.values()
    assert kept.deadline <= time.time() + tracking.LONGEST_UNTRACKED
    (event,) = events
    assert isinstance(event, NearUntracked)
    assert event.seconds == tracking.LONGEST_UNTRACKED
    assert sum("near=" in record.message for record in caplog.records) == 1
    source.runs = 1
    source.fetch.invalidate(x="a")
    assert source.fetch("a") == "a:2", "one's own changes count at once all the same"
    cache.close()
    server.stop()


def test_a_server_that_refuses_no_more_is_listened_to(namespace, monkeypatch):
    """P3: what was kept while nothing was heard goes, and a change is heard of."""
    monkeypatch.setattr(tracking, "ASK_AGAIN", 0.02)
    server = start_server(valkey())
    user = {"enabled": True, "passwords": ["+secret"], "keys": ["*"], "channels": ["*"]}
    with server.client() as client:
        client.acl_setuser("app", **user, commands=["+@all", "-client|tracking"])
        events = []
        cache = connect(server.url.replace("://", "://app:secret@"), secret=SECRET, on_event=events.append)
        source = Source(cache, namespace)
        keep(source.fetch, "a")
        until(lambda: events)
        client.acl_setuser("app", **user, commands=["+@all"])
        until(lambda: not cache.engine.backend.tracker.refused)
        keep(source.fetch, "a")
        client.delete(source.fetch.cache_key("a"))
        until(lambda: not held(source.fetch, "a"))
    assert [type(event) for event in events] == [NearUntracked]
    cache.close()
    server.stop()


def test_a_server_that_is_busy_does_not_refuse(namespace, monkeypatch):
    """P3: a script that runs for seconds is no reason to hear of nothing from then on."""
    monkeypatch.setattr(tracking, "BEAT", 0.02)
    server = start_server(valkey(), "--busy-reply-threshold", "1")
    events = []
    cache = connect(server.url, secret=SECRET, timeout=30, on_event=events.append)
    source = Source(cache, namespace)
    keep(source.fetch, "a")
    tracker = cache.engine.backend.tracker
    with server.client() as client, server.client() as other, ThreadPoolExecutor() as pool:
        running = pool.submit(client.eval, "while true do end", 0)
        until(lambda: tracker.until == 0.0 or tracker.refused)
        with contextlib.suppress(redis.ResponseError):
            other.script_kill()
        assert running.exception() is not None
        assert not tracker.refused
    keep(source.fetch, "a")
    assert not [event for event in events if isinstance(event, NearUntracked)]
    cache.close()
    server.stop()


def test_one_connection_for_threads_and_loops(cache, namespace, valkey_server):
    source = Source(cache, namespace)

    async def afetch(x):
        return x

    twin = redis_cached(namespace=namespace, ttl=60, cache=cache, near=True)(afetch)
    keep(source.fetch, "a")
    asyncio.run(twin("a"))
    assert sum(thread.name == "redis_memo tracking" for thread in threading.enumerate()) >= 1
    tracked = cache.engine.backend.tracker
    until(lambda: len(tracked._covered) == 2)


def test_without_near_nobody_listens(cache, namespace):
    plain = redis_cached(namespace=namespace, ttl=60, cache=cache)(lambda x: x)
    plain(1)
    assert cache.engine.backend.tracker._thread is None
    assert _near.near_of(plain.__redis_memo__._memo.prefix) == []


# ------------------------------------------------------------------------------------------------------------- large


def _records():
    return [{"n": number, "text": f"row {number}", "x": number * 0.37} for number in range(20_000)]


LARGE = {
    "300 KB": lambda: np.random.default_rng(1).random(40_000),
    "2 MB": lambda: np.random.default_rng(1).random(250_000),
    "in chunks": lambda: np.random.default_rng(1).random(4_500_000),
    "records": _records,
}


@pytest.mark.parametrize("style", ["threads", "tasks"])
@pytest.mark.parametrize("size", LARGE)
def test_large_results_are_near_too(cache, namespace, size, style):
    """P2, whether its bytes come in one piece, in several or in chunks beside the entry."""
    value = LARGE[size]()

    def same(found):
        assert type(found) is type(value)
        assert (found == value) if isinstance(value, list) else np.array_equal(found, value)
        if isinstance(found, list):
            found[0]["n"] = -1
        else:
            found[0] = -1.0

    decorate = redis_cached(namespace=namespace, ttl=60, cache=cache, near="512mb")
    if style == "threads":
        fetch = decorate(lambda x: value.copy())
        keep(fetch, "a")
        for _ in range(3):
            same(fetch("a"))
        assert held(fetch, "a")
        return

    @decorate
    async def afetch(x):
        return value.copy()

    async def calls():
        while not (await afetch.explain("a")).near:
            await afetch("a")
        for _ in range(3):
            same(await afetch("a"))
        assert (await afetch.explain("a")).near

    asyncio.run(asyncio.wait_for(calls(), 60))


def test_a_function_of_a_script_is_sent_elsewhere_without_what_is_kept(cache, namespace, valkey_server, monkeypatch):
    """joblib and ray take such functions by value."""
    cloudpickle = pytest.importorskip("cloudpickle")
    monkeypatch.setenv("REDIS_MEMO_URL", valkey_server.url)
    monkeypatch.setenv("REDIS_MEMO_SECRET", SECRET)

    def quote(symbol):
        return f"{symbol} at 1412.95"

    quote.__module__ = "__main__"
    memoized = redis_cached(namespace=namespace, ttl=60, near=True, name="quote")(quote)
    keep(memoized, "INFY")
    sent = cloudpickle.dumps(memoized)
    code = (
        "import pickle, sys; f = pickle.loads(sys.stdin.buffer.read()); assert not f.explain('INFY').near;"
        "assert f('INFY') == 'INFY at 1412.95'; print(f.cache_info().misses)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.strip() == b"0"
