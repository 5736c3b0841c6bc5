"""`CacheDict`: a dict for all processes. CPython's own mapping tests, a dict beside it, races, outages, references."""

from __future__ import annotations

import asyncio
import collections
import copy
import json
import logging
import math
import pickle
import subprocess
import sys
import threading
import unittest
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redis_memo import MISSING, Cache, CacheDict, _mapping, as_of, clear, configure, connect, redis_cached
from redis_memo import _entries as entries
from redis_memo import _ops as ops
from redis_memo._drive import drive
from redis_memo._equal_keys import one_of_equals
from redis_memo._keys import encode
from redis_memo.errors import ConfigurationError, KeyingError, StoreError

from .conftest import SECRET, Server, free_port, start_server, until, valkey

try:
    from test import mapping_tests
except ImportError:  # pragma: no cover - a Python without its own tests
    mapping_tests = None  # type: ignore[assignment]


@pytest.fixture
def d(cache: Cache, namespace: str) -> CacheDict:
    return CacheDict(namespace, ttl=60, cache=cache)


def left_behind(server: Server, namespace: str) -> list[bytes]:
    with server.client() as client:
        return [
            key
            for key in client.scan_iter(f"memo:{{{namespace}*", count=1000)
            if not key.endswith((b":functions", b":stats"))
        ]


# ------------------------------------------------------------------------------------------------- CPython's own tests


@pytest.mark.skipif(mapping_tests is None, reason="THIS PYTHON HAS NO test.mapping_tests: CPython's tests were not run")
class TestAsCPythonTestsADict(mapping_tests.TestHashMappingProtocol if mapping_tests else unittest.TestCase):
    """With some exceptions, shown by the test below, and `popitem` on mappings of up to 128 items instead of 2048."""

    test_setdefault = None  # of which one part changes a stored list in its place
    test_eq = None  # whose key is of a class that no other process can find
    test_fromkeys = None  # a CacheDict needs to know its namespace
    test_copy = None  # a copy is a dict of this process
    test_repr = test_repr_deep = None  # repr shows no item

    @pytest.fixture(autouse=True)
    def _on_a_server(self, cache: Cache, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fresh(*args: object, **items: object) -> CacheDict:
            mapping = CacheDict(namespace, name=uuid.uuid4().hex, ttl=60, cache=cache)
            mapping.update(*args, **items)
            return mapping

        self.type2test = fresh
        monkeypatch.setattr(mapping_tests, "range", lambda stop: range(8 if stop == 12 else stop), raising=False)


class Quarrelsome:
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        return 1


def test_the_exceptions_to_them(d: CacheDict, namespace: str) -> None:
    with pytest.raises(TypeError):
        d.setdefault()
    d.setdefault("list", []).append(3)
    assert d.pop("list") == []
    d[Quarrelsome()] = 1
    with pytest.raises(ZeroDivisionError):
        assert d == {1: 1}
    d.clear()
    d["INFY"] = 1500.5
    assert not hasattr(d, "fromkeys")
    assert type(d.copy()) is dict
    assert d.copy() == copy.copy(d) == copy.deepcopy(d) == {"INFY": 1500.5}
    assert repr(d) == f"<CacheDict {namespace!r} in Redis>"
    assert repr(CacheDict(namespace, ttl=60, name="b")) == f"<CacheDict {namespace!r} name='b' in Redis>"


# --------------------------------------------------------------------------------------------------- a dict beside it

VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.floats(allow_nan=False), max_size=3))
KEYS = st.sampled_from(
    ["a", "b", "", "1", b"a", 1, 1.0, True, 0, -0.0, 2.5, None, (1, "a"), (1.0, "a"), (), ("a", ("b",))]
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, VALUES),
        st.tuples(st.sampled_from(["del", "get", "in", "pop", "pop_default", "move", "move_first"]), KEYS),
        st.tuples(st.just("setdefault"), KEYS, VALUES),
        st.tuples(st.just("update"), st.dictionaries(KEYS, VALUES, max_size=3)),
        st.tuples(st.just("or"), st.dictionaries(KEYS, VALUES, max_size=3)),
        st.tuples(st.sampled_from(["clear", "popitem", "popitem_first", "len"])),
    ),
    max_size=25,
)


def outcome(mapping, step: tuple) -> object:
    what, *given = step
    try:
        match what:
            case "set":
                mapping[given[0]] = given[1]
            case "del":
                del mapping[given[0]]
            case "get":
                return mapping[given[0]], mapping.get(given[0])
            case "in":
                return given[0] in mapping
            case "pop":
                return mapping.pop(given[0])
            case "pop_default":
                return mapping.pop(given[0], "default")
            case "move":
                mapping.move_to_end(given[0])
            case "move_first":
                mapping.move_to_end(given[0], last=False)
            case "setdefault":
                return mapping.setdefault(*given)
            case "update":
                mapping.update(given[0])
            case "or":
                before = dict(mapping.items())
                assert mapping | given[0] == before | given[0]
                assert given[0] | mapping == given[0] | before
                mapping |= given[0]
            case "clear":
                mapping.clear()
            case "popitem":
                return mapping.popitem()
            case "popitem_first":
                return mapping.popitem(last=False)
            case "len":
                return len(mapping), bool(mapping)
    except KeyError:
        return KeyError
    return None


def exactly(items: object) -> str:
    return repr(items)  # 1, 1.0 and True are equal, and are told apart here


@pytest.mark.parametrize("which", ["valkey_server", "redis_server", "redis_6_server", "fake_server"])
def test_it_does_what_an_ordered_dict_does(which: str, request: pytest.FixtureRequest, monkeypatch) -> None:
    """Values, keys as they were first given, and their order, over programs of 25 steps."""
    monkeypatch.setattr(_mapping, "AT_ONCE", 3)
    server: Server = request.getfixturevalue(which)
    cache = connect(server.url, secret=SECRET)
    namespace = f"test-{uuid.uuid4().hex}"

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(steps=STEPS)
    def check(steps: list[tuple]) -> None:
        ours, theirs = CacheDict(namespace, name=uuid.uuid4().hex, ttl=60, cache=cache), collections.OrderedDict()
        for step in steps:
            assert exactly(outcome(ours, step)) == exactly(outcome(theirs, step)), step
        assert exactly(list(ours.items())) == exactly(list(theirs.items()))
        assert exactly(list(ours)) == exactly(list(ours.keys())) == exactly(list(theirs))
        assert exactly(list(reversed(ours))) == exactly(list(reversed(theirs)))
        assert exactly(list(ours.values())) == exactly(list(theirs.values()))
        assert ours == theirs
        ours.clear()

    check()
    assert left_behind(server, namespace) == [], "P7: something was left behind"
    cache.close()


# ---------------------------------------------------------------------------------------------------------------- keys


class Segment(str, Enum):  # noqa: UP042 - as much code has it
    NSE = "NSE"


class Number(IntEnum):
    ONE = 1


class Plain(Enum):
    ONE = 1


Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024
IST = timezone(timedelta(hours=5, minutes=30))
NUMBERS = [
    0,
    1,
    2**70,
    0.0,
    -0.0,
    1.0,
    0.1,
    2.0**70,
    math.inf,
    True,
    False,
    1 + 0j,
    1j,
    complex(-0.0, 1),
    complex(0.1, -0.0),
]
EXACT = [
    Decimal(1),
    Decimal("1.0"),
    Decimal("0.1"),
    Decimal("Infinity"),
    Decimal("0.5"),
    Fraction(1),
    Fraction(1, 10),
    Fraction(1, 2),
    0.5,
]
TEXTS = ["NSE", Segment.NSE, np.str_("NSE"), b"NSE", np.bytes_(b"NSE"), Number.ONE, Plain.ONE, None]
NUMPY = [np.int64(1), np.float32(0.1), np.float64(0.1), np.float32(0.5), np.bool_(True), np.complex128(1j), np.int8(0)]
TIMES = [
    datetime(2026, 1, 5, 9, 15, tzinfo=IST), datetime(2026, 1, 5, 3, 45, tzinfo=UTC), datetime(2026, 1, 5, 9, 15),
    datetime(2026, 1, 5, 9, 15, fold=1), datetime(2026, 1, 5, 9, 15, tzinfo=ZoneInfo("Asia/Kolkata")),
    pd.Timestamp("2026-01-05 09:15", tz="Asia/Kolkata"), pd.Timestamp("2026-01-05 09:15"),
    pd.Timestamp("2026-01-05 09:15") + pd.Timedelta(1, "ns"), datetime(1, 1, 1, tzinfo=IST),
]  # fmt: skip
FLAT = [*NUMBERS, *EXACT, *TEXTS, *NUMPY, *TIMES]
NESTED = [
    (),
    (1, "NSE"),
    (1.0, Segment.NSE),
    Pair(1, "NSE"),
    (True, ("NSE",)),
    frozenset({1}),
    frozenset({1.0}),
    (0.5, Decimal("0.5")),
]


def same(one: object, other: object) -> bool:
    try:
        return len({one, other}) == 1
    except TypeError:  # Decimal(1) == np.int64(1) raises
        return int(one) == int(other)


def test_keys_are_one_where_a_dict_takes_them_for_one() -> None:
    """All pairs of sixty awkward keys."""
    keys = [*FLAT, *NESTED]
    forms = [encode(one_of_equals(key)) for key in keys]
    wrong = [
        (one, other)
        for i, one in enumerate(keys)
        for j, other in enumerate(keys)
        if same(one, other) != (forms[i] == forms[j])
    ]
    assert wrong == []


@given(
    st.one_of(st.integers(), st.floats(allow_nan=False), st.decimals(allow_nan=False), st.fractions()),
    st.sampled_from([int, float, Decimal, Fraction, np.float64]),
)
def test_a_number_is_one_key_in_every_type_that_holds_it(number, kind) -> None:
    try:
        other = kind(number)
    except (OverflowError, ValueError, TypeError):
        return
    assert (number == other) == (encode(one_of_equals(number)) == encode(one_of_equals(other)))


def test_a_key_of_a_million_digits_is_not_spelt_out() -> None:
    key = Decimal("1e100000000")
    assert one_of_equals(key) is key


def test_keys_come_back_as_they_were(d: CacheDict) -> None:
    keys = [
        "INFY",
        ("INFY", 5),
        7,
        2.5,
        None,
        Segment.NSE,
        np.int64(99),
        TIMES[0],
        b"\x00\xff",
        frozenset({1, 2}),
        Number,
    ]
    for at, key in enumerate(keys):
        d[key] = at
    assert [(type(key), key) for key in d] == [(type(key), key) for key in keys]
    assert list(d.items()) == list(zip(keys, range(len(keys)), strict=True))


@pytest.mark.parametrize(
    "use",
    [
        lambda d, k: d[k],
        lambda d, k: d.get(k),
        lambda d, k: k in d,
        lambda d, k: d.pop(k, None),
        lambda d, k: d.__setitem__(k, 1),
        lambda d, k: d.setdefault(k, 1),
    ],
)
def test_what_cannot_be_a_key_is_refused(d: CacheDict, use, namespace: str) -> None:
    for unhashable in ([], {}, ([],), bytearray()):
        with pytest.raises(TypeError, match="unhashable"):
            use(d, unhashable)
    with pytest.raises(KeyingError, match=rf"CacheDict\('{namespace}'\): the key cannot be told by value"):
        use(d, threading.Lock())


def test_a_missing_key_is_named_by_the_error(d: CacheDict) -> None:
    for use in (d.__getitem__, d.__delitem__, d.pop, d.move_to_end):
        with pytest.raises(KeyError) as caught:
            use("INFY")
        assert caught.value.args == ("INFY",)


def test_a_subclass_can_say_what_is_missing(cache: Cache, namespace: str) -> None:
    class Loading(CacheDict):
        def __missing__(self, key):
            self[key] = value = key * 2
            return value

    d = Loading(namespace, ttl=60, cache=cache)
    assert d.get("a") is None
    assert d["a"] == "aa"
    assert d.get("a") == "aa"


# ----------------------------------------------------------------------------------------------------------- iterating


def test_it_iterates_in_batches_over_what_stood_when_it_began(d: CacheDict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mapping, "AT_ONCE", 4)
    d.update((number, number) for number in range(30))
    seen = []
    for key in d:
        assert len(seen) < 40, "it does not end"
        seen.append(key)
        d[key + 1000] = 0  # not reached: it would never end
        d[key] = -1  # keeps its place
        d.move_to_end(key, last=False)
        d.pop(29, None)  # gone before it is reached
    assert seen == list(range(29))
    assert len(d) == 58


def test_the_order_is_kept_where_a_clock_is_put_back(d: CacheDict, valkey_server: Server) -> None:
    d.update(a=1, b=2)
    args = d.cache_key("a")[:-40] + "args"
    with valkey_server.client() as client:
        (row,) = (row for row in client.zrangebylex(args, "[o", "(p") if d.cache_key("b").endswith(row[17:57].decode()))
        client.zrem(args, row, b"k" + row[17:57] + row[1:17])
        later = b"%016d" % (int(row[1:17]) + 3600 * 10**6)
        client.zadd(args, {b"o" + later + row[17:]: 0, b"k" + row[17:57] + later: 0})
    d["c"] = 3
    d.move_to_end("a")
    assert list(d) == ["b", "c", "a"]
    d.move_to_end("a", last=False)
    assert list(d) == ["a", "b", "c"]


def test_what_is_gone_when_its_turn_comes_is_left_out(d: CacheDict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mapping, "VALUES_AT_ONCE", 1)
    d.update(a=1, b=2, c=3)
    items = iter(d.items())
    assert next(items) == ("a", 1)
    del d["b"]
    assert list(items) == [("c", 3)]
    assert 3 in d.values()
    assert 2 not in d.values()
    assert ("c", 3) in d.items()
    assert ("b", 2) not in d.items()
    assert d.keys() & {"b", "c"} == {"c"}


def test_an_iteration_takes_a_round_trip_for_many_keys(d: CacheDict, valkey_server: Server) -> None:
    d.update((number, "x") for number in range(1200))
    with valkey_server.client() as client:
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert sum(1 for _ in d) == 1200
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 3


def test_values_take_a_round_trip_for_many(d: CacheDict, valkey_server: Server) -> None:
    d.update((number, str(number)) for number in range(120))
    with valkey_server.client() as client:
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        exchanged = d._memo.engine.exchange
        exchanges: list[int] = []
        d._memo.engine.exchange = lambda several, name: (exchanges.append(len(several)), exchanged(several, name))[1]
        assert dict(d.items()) == {number: str(number) for number in range(120)}
        del d._memo.engine.exchange
        assert exchanges == [50, 50, 20]
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 1, "one for the keys"


@pytest.mark.parametrize("options", [{"maxsize": 3}, {"maxsize": 3, "near": True}, {"maxsize": 3, "ttl": 300}])
def test_p7_a_dict_with_a_bound_drops_what_was_used_longest_ago(cache: Cache, namespace: str, options: Any) -> None:
    """An `OrderedDict` with ``move_to_end`` and ``popitem(last=False)``, and a `TTLCache`, in one line."""
    d: CacheDict[str, int] = CacheDict(namespace, cache=cache, **options)
    d.update(a=1, b=2, c=3)
    assert d["a"] == 1
    cache.engine.touches.tell()
    d["d"] = 4
    assert list(d) == ["a", "c", "d"]
    assert (len(d), d.maxsize, d.currsize, d.cache_info().evictions) == (3, 3, 3, 1)
    assert "b" not in d
    d["a"] = 10
    assert (d["a"], d["a"]) == (10, 10)
    assert list(d.items()) == [("a", 10), ("c", 3), ("d", 4)]


def test_a_near_dict_answers_from_this_process(cache: Cache, namespace: str) -> None:
    d: CacheDict[str, list[int]] = CacheDict(namespace, ttl=300, near=True, cache=cache)
    d["a"] = [1]
    until(lambda: d["a"] and d.cache_info().near_hits > 0)
    mine = d["a"]
    mine.append(2)
    assert d["a"] == [1], "P2"
    d["a"] = [3]
    assert d["a"] == [3], "P3"
    del d["a"]
    assert "a" not in d


# --------------------------------------------------------------------------------------------------------------- values


def test_a_value_is_the_callers_own(d: CacheDict) -> None:
    """P2, as the results of functions."""
    frame = pd.DataFrame({"close": [1.0, 2.0]}, index=pd.DatetimeIndex(["2026-01-05", "2026-01-06"], tz="Asia/Kolkata"))
    d["INFY"], d["list"] = frame, [1]
    d["list"].append(2)
    mine = d["INFY"]
    mine.loc[:, "close"] = 0.0
    assert d["list"] == [1]
    pd.testing.assert_frame_equal(d["INFY"], frame)
    d["none"] = None
    assert d["none"] is None
    assert "none" in d
    assert d.get("none", "default") is None
    assert d.pop("none", "default") is None


def test_a_large_value_is_popped_whole(d: CacheDict) -> None:
    value = np.random.default_rng(1).bytes(300_000)
    d["chart"] = value
    assert (d.pop("chart") == value) is True
    assert "chart" not in d


def test_what_is_assigned_while_it_is_popped_is_not_lost(d: CacheDict, cache: Cache) -> None:
    """Between the reading and the deleting: the value that goes is the one that is returned."""
    d["a"] = "old"
    call = d._call("a")
    values = ["new"]

    def perform(op: object) -> object:
        answer = 0.0 if isinstance(op, ops.Clock) else cache.engine.backend.perform(op)
        if values and isinstance(op, ops.Read):
            d["a"] = values.pop()
        return answer

    assert drive(entries.take(call, call.locate(), MISSING), perform) == "new"
    assert "a" not in d


def test_what_cannot_be_stored_is_missing_and_said_once(
    valkey_server, namespace, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a secret: a value, and a key, that only pickle could hold."""
    d = CacheDict(namespace, ttl=60, cache=connect(valkey_server.url))
    assert d.set("a", threading.Lock()) is False
    assert d.set(1, 2)
    assert d.set(Custom(1), 2) is False
    assert list(d) == [1]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert d.setdefault("b", [1]) == [1]
    d["a"] = threading.Lock()
    assert "a" not in d
    assert d["a"].locked() is False, "who assigned it can read it back"
    del d[1]
    assert d.get("a") is None


class Custom:
    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom) and self.number == other.number

    def __hash__(self) -> int:
        return self.number


def test_objects_are_keys_by_their_state(d: CacheDict) -> None:
    d[Custom(1)] = "one"
    assert d[Custom(1)] == "one"
    assert Custom(2) not in d
    assert list(d) == [Custom(1)]


# --------------------------------------------------------------------------------------------------------------- expiry


def test_items_expire_and_are_new_when_assigned_again(cache: Cache, namespace: str, valkey_server: Server) -> None:
    d = CacheDict(namespace, ttl="1h", cache=cache)
    d["short"] = 1
    d["long"] = 2
    d.set("short", 3, ttl=0.02)
    until(lambda: "short" not in d)
    assert (len(d), list(d), d.get("short"), dict(d)) == (1, ["long"], None, {"long": 2})
    d["short"] = 4
    assert list(d) == ["long", "short"]
    d.set("short", 5, ttl=lambda call: 0)
    assert d["short"] == 4, "an expiry of zero stores nothing"
    with valkey_server.client() as client:
        assert 3_590_000 < client.pttl(d.cache_key("long")) <= 3_600_000
    assert repr(d.ttl) == repr(redis_cached(namespace="x", ttl="1h")(len).cache_parameters()["ttl"])


def test_what_every_dict_needs_is_said_at_once(cache: Cache, namespace: str) -> None:
    for options in ({"stale": 5}, {"key": len}, {"tags": "x"}):
        with pytest.raises(ConfigurationError, match="it is for functions"):
            CacheDict(namespace, ttl=1, cache=cache, **options)
    with pytest.raises(ConfigurationError, match="every entry needs an expiry"):
        CacheDict(namespace, cache=cache)
    with pytest.raises(ConfigurationError, match="ttl=None needs maxsize="):
        CacheDict(namespace, ttl=None, cache=cache)
    with pytest.raises(ConfigurationError, match=r"CacheDict has no option 'tll'; did you mean 'ttl'\?"):
        CacheDict(namespace, tll=60, cache=cache)
    with pytest.raises(ConfigurationError):
        CacheDict("", ttl=1)


def test_a_dict_takes_the_expiry_that_is_configured_later(valkey_server: Server, namespace: str) -> None:
    """One at the top of a module is made before `configure` is called; one that is made after it knows."""
    early: CacheDict[str, int] = CacheDict(namespace)
    configure(valkey_server.url, secret=SECRET)
    with pytest.raises(ConfigurationError, match="every entry needs an expiry"):
        CacheDict(namespace)
    with pytest.raises(ConfigurationError, match="every entry needs an expiry"):
        early["a"] = 1
    configure(valkey_server.url, secret=SECRET, ttl=60)
    early["a"] = 1
    assert CacheDict(namespace)["a"] == 1
    early.clear()


def test_dicts_are_told_apart_by_namespace_and_name(cache: Cache, namespace: str) -> None:
    one, same = (CacheDict(namespace, ttl=60, cache=cache) for _ in range(2))
    named, elsewhere = (
        CacheDict(namespace, ttl=60, name="b", cache=cache),
        CacheDict(f"{namespace}x", ttl=60, cache=cache),
    )
    one["a"] = 1
    assert same["a"] == 1
    assert one == same
    assert (len(named), len(elsewhere)) == (0, 0)
    named["b"] = elsewhere["b"] = 2
    assert cache.clear(namespace) == 2
    assert (len(one), len(named), len(elsewhere)) == (0, 0, 1)
    elsewhere.clear()


# ------------------------------------------------------------------------------------------------------ many processes


def test_processes_agree_on_every_item(valkey_server: Server, cache: Cache, namespace: str) -> None:
    """P4, and what dict promises within one process: setdefault has one winner, pop and popitem give each item once."""
    for name in ("pop", "end"):
        CacheDict(namespace, ttl=60, name=name, cache=cache).update((number, 1) for number in range(60))
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.mappers", valkey_server.url, namespace],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
        )
        for _ in range(4)
    ]  # fmt: skip
    with valkey_server.client() as client:
        until(lambda: client.get(f"{namespace}-ready") == b"4", 60)
        client.rpush(f"{namespace}-go", *"go!!")
        told = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
        client.delete(f"{namespace}-ready", f"{namespace}-go")
    for what in ("default", "computed"):
        for number, values in enumerate(zip(*(each[what] for each in told), strict=True)):
            assert len(set(values)) == 1, (what, number)
    for what in ("runs", "popped", "ended"):
        assert sorted(number for each in told for number in each[what]) == list(range(60)), what


def test_pickled_it_is_the_same_dict_elsewhere(valkey_server: Server, namespace: str) -> None:
    configure(valkey_server.url, secret=SECRET)
    d = CacheDict(namespace, ttl="5m", name="prices")
    d["INFY"] = 1500.5
    code = f"""
import pickle, sys
from redis_memo import configure
configure({valkey_server.url!r}, secret={SECRET!r})
d = pickle.loads({pickle.dumps(d)!r})
d["TCS"] = d["INFY"] + 1
print(d.ttl)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "5m" in done.stdout
    assert dict(d) == {"INFY": 1500.5, "TCS": 1501.5}
    d["itself"] = d
    assert d["itself"]["itself"] == d
    clear(namespace)


def test_with_a_cache_of_its_own_it_is_not_pickled(d: CacheDict) -> None:
    with pytest.raises(TypeError, match=r"connect\(\) there"):
        pickle.dumps(d)


# -------------------------------------------------------------------------------------------------------------- outages


@pytest.fixture
def doomed() -> Iterator[Server]:
    server = start_server(valkey())
    yield server
    server.stop()


def test_without_its_server_it_is_empty(doomed: Server, caplog: pytest.LogCaptureFixture, monkeypatch) -> None:
    """P5: what reads is told that nothing is there, what assigns loses it; what deletes raises, as the items stand."""
    d = CacheDict("outage", ttl=60, cache=connect(doomed.url, secret=SECRET))
    d["a"] = 1
    doomed.stop()
    with caplog.at_level(logging.WARNING, "redis_memo"):
        assert (d.get("a", 2), "a" in d, len(d), list(d), dict(d), list(d.values())) == (2, False, 0, [], {}, [])
        with pytest.raises(KeyError):
            d["a"]
        if "b" not in d:  # as much code has it
            d["b"] = [1]
        assert d["b"] == d.get("b") == [1], "who assigned it can read it back"
        in_thread = []
        thread = threading.Thread(target=lambda: in_thread.append(d.get("b")))
        thread.start()
        thread.join()
        assert in_thread == [None], "and nobody else"
        monkeypatch.setattr(_mapping, "READ_BACK", 0.0)
        assert d.set("b", 1) is False
        assert d.get("b") is None
        assert d.setdefault("b", 3) == 3
        assert d.get_or_compute("b", lambda: 4) == 4
        d.move_to_end("a")
    for delete in (lambda: d.pop("a"), lambda: d.pop("a", None), d.popitem, d.clear, lambda: d.__delitem__("a")):
        with pytest.raises(StoreError):
            delete()
    assert d.cache_info().errors >= 10
    assert d.cache_info().currsize is None
    assert any("the dict is empty, and what is assigned is lost" in record.message for record in caplog.records)


def test_who_wants_to_know_is_told() -> None:
    d = CacheDict("outage", ttl=60, cache=connect(f"redis://127.0.0.1:{free_port()}"), on_error="raise")
    for use in (
        lambda: d["a"], lambda: d.get("a"), lambda: "a" in d, lambda: len(d), lambda: list(d), lambda: list(d.items()),
        lambda: d.update(a=1), lambda: d.setdefault("a", 1), lambda: d.move_to_end("a"),
    ):  # fmt: skip
        with pytest.raises(StoreError):
            use()


def test_damage_is_as_good_as_missing(d: CacheDict, valkey_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """P6: an entry, and a key in the order of keys, are opened only where they were written."""
    d.update(a=1, b=2)
    with valkey_server.client() as client:
        client.set(d.cache_key("a"), client.get(d.cache_key("b")), keepttl=True)
        args = d.cache_key("a")[:-40] + "args"
        first, second = client.zrangebylex(args, "[o", "(p")
        client.zrem(args, first)
        client.zadd(args, {first[:57] + second[57:]: 0})
    assert list(d) == ["b"]
    assert d.get("a") is None
    assert d.cache_info().unreadable == 1
    assert "could not be read" in caplog.text
    assert d.pop("a", None) is None
    assert len(d) == 1


# ---------------------------------------------------------------------------------------------------- of a function


def test_a_function_and_a_mapping_name_the_same_entries(cache: Cache, namespace: str, valkey_server: Server) -> None:
    runs = []

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def price(symbol):
        runs.append(symbol)
        return 1.5

    prices = CacheDict.of(price)
    prices["INFY"] = 2.5
    assert price("INFY") == 2.5
    assert price(symbol="TCS") == prices["TCS"] == 1.5
    assert prices.get_or_compute("TCS", price.__wrapped__, "TCS") == 1.5
    assert runs == ["TCS"]
    assert list(prices.items()) == [("INFY", 2.5), ("TCS", 1.5)]
    assert price.cache_info().currsize == len(prices) == 2
    assert price.invalidate(symbol="TCS") == 1
    del prices["INFY"]
    assert price.peek("INFY") is MISSING
    assert not prices
    assert left_behind(valkey_server, namespace) == []


def test_a_function_of_several_parameters_has_tuples_for_keys(cache: Cache, namespace: str) -> None:
    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def candles(symbol, interval="day"):
        return f"{symbol} {interval}"

    mapping = CacheDict.of(candles)
    assert candles("INFY", interval="minute") == mapping["INFY", "minute"]
    assert candles("TCS") == mapping["TCS",]
    assert list(mapping) == [("INFY", "minute"), ("TCS", "day")]
    with pytest.raises(TypeError, match="a key is a tuple"):
        mapping["INFY"]
    mapping.clear()


@redis_cached(namespace="test-mapping", ttl=60)
def at_top(x):
    return x


def test_a_mapping_of_a_function_is_pickled_with_it() -> None:
    again = pickle.loads(pickle.dumps(CacheDict.of(at_top)))
    assert again.cache_key(1) == at_top.cache_key(1)


def test_functions_that_have_no_key_are_refused(cache: Cache, namespace: str) -> None:
    class Client:
        @redis_cached(namespace=namespace, ttl=60, cache=cache, ignore=("self",))
        def fetch(self, x):
            return x

    decorate = redis_cached(namespace=namespace, ttl=60, cache=cache)
    for function in (decorate(lambda: 1), decorate(lambda *args: 1), decorate(lambda x, *, y=1: 1), Client().fetch):
        with pytest.raises(ConfigurationError, match=r"CacheDict\.of"):
            CacheDict.of(function)
    with pytest.raises(TypeError, match="not decorated"):
        CacheDict.of(len)


def test_a_moment_has_items_of_its_own(d: CacheDict) -> None:
    """`as_of`: what a backtest assigns is not seen outside, and the other way round."""
    d["live"] = 1
    with as_of("2026-01-05 10:00+05:30"):
        assert d.get("live") is None
        d["then"] = 2
        d["live"] = 3
        assert dict(d) == {"then": 2, "live": 3}
    assert dict(d) == {"live": 1}
    del d["live"]
    with as_of("2026-01-05 10:00+05:30"):
        assert dict(d) == {"then": 2}, "deleted outside, it is deleted for all moments"
        d.clear()
    assert d.get("then") is None


# ------------------------------------------------------------------------------------------------------------- from tasks


def test_tasks_use_it_too(cache: Cache, namespace: str) -> None:
    d = CacheDict(namespace, ttl=60, cache=cache)
    runs = []

    async def fetch(symbol: str) -> str:
        runs.append(symbol)
        await asyncio.sleep(0)
        return symbol.lower()

    async def main() -> None:
        assert await d.aget("INFY") is None
        assert await d.aset("INFY", 1, ttl="5s")
        assert await d.aget("INFY") == 1
        assert await d.apop("INFY") == 1
        assert await d.apop("INFY", "none") == "none"
        with pytest.raises(KeyError):
            await d.apop("INFY")
        assert await asyncio.gather(*(d.aget_or_compute("TCS", fetch, "TCS") for _ in range(5))) == ["tcs"] * 5

    asyncio.run(main())
    assert runs == ["TCS"]
    assert dict(d) == {"TCS": "tcs"}
    info = d.cache_info()
    assert (info.currsize, d.currsize, d.maxsize) == (1, 1, None)


def test_the_counters_tell_hits_from_misses(d: CacheDict) -> None:
    d["a"] = 1
    d.get("a"), d.get("b"), d["a"], "a" in d, d.copy(), d == {}, d.setdefault("a", 2)
    assert (d.cache_info().hits, d.cache_info().misses) == (3, 1)
