"""Promise P2: what comes back equals what was stored, and is the caller's own. Promise P6: reading it runs no code."""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import datetime as dt
import enum
import functools
import io
import itertools
import json
import math
import pathlib
import pickle
import re
import struct
import subprocess
import sys
import threading
import tracemalloc
import types
import weakref
import zoneinfo
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import pytz
import scipy.sparse as sp
from dateutil import tz as dateutil_tz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from redis_memo import (
    _codecs,
    _codecs_arrow,
    _codecs_classes,
    _codecs_forms,
    _codecs_items,
    _codecs_pandas,
    _codecs_pandas_forms,
    _codecs_records,
    _envelope,
    _segments,
)
from redis_memo import _codecs_rules as rules
from redis_memo import _codecs_stream as stream
from redis_memo._codecs import Payload, dumps, loads, register_type, registered_types
from redis_memo._envelope import Sealer, Stamp
from redis_memo._large import Large
from redis_memo.errors import ConfigurationError, UnreadableEntry, UnsupportedType

from . import strategies as made
from .strategies import STRATEGIES, Fill, Mode, Order, Pair, Quote, Side, Tick, _with_attributes, anything, same

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE / "golden" / "values.json"


def quick(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def there_and_back(value: Any) -> Any:
    """Through bytes that cannot be written to, as they come from a socket; nothing pickled."""
    payload = dumps(value, allow_pickle=False)
    assert not payload.pickled
    return loads(payload.meta, [bytes(buffer) for buffer in payload.buffers], trusted=False)


def by_pickle(value: Any) -> Any:
    payload = dumps(value, allow_pickle=True)
    assert payload.pickled
    with pytest.raises(UnreadableEntry):
        loads(payload.meta, payload.buffers, trusted=False)
    return loads(payload.meta, [bytes(buffer) for buffer in payload.buffers], trusted=True)


SEALER = Sealer((b"a secret of the tests",))
STAMP = Stamp(0.0, 0.0, 0.0, 0.0)


def sealed_and_back(value: Any, compress: Any) -> Any:
    """As `there_and_back`, through an envelope as it is stored."""
    payload = dumps(value, allow_pickle=False)
    envelope, _ = SEALER.seal(
        "key", payload.meta, payload.buffers, kinds=payload.kinds, pickled=False, stamp=STAMP, compress=compress
    )
    entry = SEALER.open("key", b"".join(envelope.pieces) if isinstance(envelope, Large) else envelope)
    return loads(entry.meta, entry.buffers, trusted=False)


# Every registered type


def test_every_registered_type_has_a_strategy_and_a_row_in_the_docs() -> None:
    """P2 is tested for all that is registered, and all that is registered is documented."""
    names = registered_types()
    assert names == set(STRATEGIES)
    table = (HERE.parent / "docs" / "types.md").read_text()
    assert [name for name in sorted(names) if f"`{name}`" not in table] == []


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_comes_back_equal(name: str) -> None:
    """P2 for one type, alone and inside containers, without a single pickled byte."""

    @quick(25)
    @given(STRATEGIES[name])
    def check(value: Any) -> None:
        for _ in range(2):  # a frame whose like was read before is made another way
            assert same(value, there_and_back(value)) is True
        assert same([{"a": (value,)}, 1], there_and_back([{"a": (value,)}, 1])) is True

    check()


def lower_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small values have in common with large ones what they have only beyond some limits."""
    monkeypatch.setattr(stream, "OUT_OF_BAND", 8)
    monkeypatch.setattr(_codecs_pandas, "OUT_OF_BAND", 8)
    monkeypatch.setattr(_codecs_pandas, "ACROSS", 8)
    monkeypatch.setattr(_codecs_arrow, "MUCH", 8)
    for module in (stream, _codecs_pandas, _codecs_pandas_forms):
        monkeypatch.setattr(module, "COLUMN", 8)
    for module in (_codecs_pandas, _codecs_pandas_forms):
        monkeypatch.setattr(module, "SHORT", 64)
    monkeypatch.setattr(_codecs, "_LONGEST", 64)
    monkeypatch.setattr(_codecs_items, "MANY", 1)
    monkeypatch.setattr(_codecs_records, "MANY", _codecs_items.PACK_FROM)
    monkeypatch.setattr(_codecs_records, "_FEW_ROWS", 12)
    monkeypatch.setattr(_codecs_forms, "_OFTEN", 1)
    monkeypatch.setattr(_segments, "MIN_COMPRESSED", 8)
    monkeypatch.setattr(_segments, "SEGMENT", 64)
    monkeypatch.setattr(_segments, "_recent", {})  # what was packed in larger ones
    monkeypatch.setattr(_envelope, "JOINED", 100)


@pytest.fixture
def everything_in_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    lower_limits(monkeypatch)


@pytest.mark.usefixtures("everything_in_buffers")
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_comes_back_equal_through_segments(name: str) -> None:
    """P2 for one type however it is compressed, cut and checked."""

    @quick(25)
    @given(STRATEGIES[name], st.sampled_from(["auto", "fast", "small", None]))
    def check(value: Any, compress: Any) -> None:
        assert same(value, sealed_and_back(value, compress)) is True
        assert same([value] * 20, sealed_and_back([value] * 20, compress)) is True

    check()


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_names_of_columns_that_are_strings_of_arrow_stay_that(kind: str) -> None:
    """P2."""
    arrow = pa.dictionary(pa.int32(), pa.string()) if kind == "dictionary" else getattr(pa, kind)()
    frame = pd.DataFrame([[1, 2]], columns=pd.Index(pd.array(["a", "b"], dtype=pd.ArrowDtype(arrow))))
    assert same(frame, there_and_back(frame)) is True


TOKENS = st.integers(-(2**66), 2**66) | st.integers(0, 2**31) | st.booleans()


@pytest.mark.usefixtures("everything_in_buffers")
@quick(150)
@given(
    st.lists(TOKENS, min_size=16, max_size=40),
    st.sampled_from([0, 8]),
    st.lists(st.tuples(st.integers(0, 39), st.sampled_from(["", "007", "x", 5, None])), max_size=2),
)
def test_tokens_that_follow_from_others_or_nearly_do(tokens: list[int], shift: int, odd: list[tuple[int, Any]]) -> None:
    """P2: instruments, whose exchange_token is the instrument_token >> 8, and rows in which it is not."""
    rows = [{"instrument_token": token, "exchange_token": str(token >> shift), "lot": 1} for token in tokens]
    for number, other in odd:
        rows[number % len(rows)]["exchange_token"] = other
    assert same(rows, sealed_and_back(rows, "auto")) is True


@pytest.mark.usefixtures("everything_in_buffers")
def test_a_token_that_follows_from_another_one_takes_no_room() -> None:
    rows = [{"instrument_token": token * 2560 + 1, "exchange_token": str(token * 10)} for token in range(100)]
    alone = [{"instrument_token": row["instrument_token"]} for row in rows]
    written = dumps(rows, allow_pickle=False)
    assert len(written.buffers) == len(dumps(alone, allow_pickle=False).buffers)
    follower = written.meta.rindex(b"=")
    for damaged in (b"=\x01\x08", b"=\x07\x08", b"=\x00\x03"):  # itself, none, a shift that is never written
        meta = written.meta[:follower] + damaged + written.meta[follower + 3 :]
        with pytest.raises(UnreadableEntry):
            loads(meta, written.buffers, trusted=False)


@quick(100)
@given(anything)
def test_writing_is_deterministic(value: Any) -> None:
    """The same value gives the same bytes."""
    one, other = dumps(value, allow_pickle=False), dumps(value, allow_pickle=False)
    assert one.meta == other.meta
    assert [bytes(b) for b in one.buffers] == [bytes(b) for b in other.buffers]


# Nasty values, by hand

KOLKATA = dateutil_tz.tzoffset(None, 19800)
NAN_PAYLOAD = struct.unpack("<d", struct.pack("<Q", 0x7FF800000000BEEF))[0]


def _filled(**attributes: Any) -> Order:
    made = object.__new__(Order)
    made.__dict__.update(attributes)
    return made


NASTY = {
    "nan payload": NAN_PAYLOAD,
    "nan payloads packed": [NAN_PAYLOAD, -0.0, 0.0, float("inf")] * 5,
    "true is not one": [True, 1, 1.0, "1"] * 5,
    "numpy bool in a list of bools": [True, np.True_] * 9,
    "dict keyed by kinds": {1: "int", "1": "str", (1,): "tuple", None: "none", 1.5: "float"},
    "long dict keeps its order": {str(k): k for k in range(50, 0, -1)},
    "lone surrogates": ["\ud800", "\udc00", "a\0b"] * 9,
    "huge int": [10**50, 1] * 9,
    "empty things": [(), [], {}, set(), frozenset(), "", b"", bytearray()],
    "kite candle": {"date": dt.datetime(2024, 1, 1, 9, 15, tzinfo=KOLKATA), "open": 1.5, "volume": 3},
    "kite candles": [
        {"date": dt.datetime(2024, 1, 1, 9, m, tzinfo=KOLKATA), "open": m / 3, "volume": m} for m in range(40)
    ],
    "records with holes": [{"a": None if n % 3 else n, "b": float("nan"), "c": ""} for n in range(30)],
    "records, other order": [{"a": 1, "b": 2}] + [{"b": 2, "a": 1} for _ in range(20)],
    "records, equal keys of another type": [{"a": 1} for _ in range(9)] + [{np.str_("a"): 1}],
    "records of nothing": [{} for _ in range(20)],
    "one second of a fold": dt.datetime(2024, 11, 3, 1, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("America/New_York")),
    "localized": pytz.timezone("Asia/Kolkata").localize(dt.datetime(2024, 1, 1)),
    "pytz before localizing": dt.datetime(2024, 1, 1, tzinfo=pytz.timezone("Asia/Kolkata")),
    "named fixed zone": dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "UTC")),
    "unset field": object.__new__(Order),
    "duplicate columns": pd.DataFrame([[1, "a", 2.5]], columns=["x", "x", None]),
    "frame in attrs": pd.DataFrame({"a": [1]}),
    "row-wise frame": pd.DataFrame(np.arange(12000.0).reshape(3000, 4)),
    "strided frame": pd.DataFrame(np.arange(24000.0).reshape(3000, 8))[[6, 0, 2]],
    "long text column": pd.DataFrame({"s": ["ä" * 50, None] * 3000}),
    "wide frame": pd.DataFrame(np.arange(4000).reshape(2, 2000)),
    "columns of one dtype, some with metadata": pd.DataFrame(
        {
            f"{dtype} {place}": pd.Series(np.zeros(9, dtype))
            for kind in ("f8", "O", "M8[ns]")
            for place, dtype in enumerate(
                [np.dtype(kind), *(np.dtype(kind, metadata=each) for each in ({}, {"unit": "INR"}, {"unit": "USD"}))]
            )
        },
        copy=False,
    ),
    "unused levels": pd.MultiIndex.from_product([["a", "b"], [1, 2]])[:1],
    "sliced strings": pd.Series(["a", "bb", None, "cccc"])[1:3],
    "series of dtypes": pd.DataFrame({"a": [1], "b": ["x"], "c": [dt.datetime(2024, 1, 1)]}).dtypes,
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "zero-size items": np.zeros(3, [("a", "S0")])["a"],
    "read-only": np.frombuffer(b"\1\2\3", np.uint8),
    "arrays in an array": np.array([np.arange(3), None, [1, 2]], dtype=object),
    "timestamps": [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02")] * 9,
    "timestamps with a zone": [pd.Timestamp("2024-01-01", tz="Asia/Kolkata")] * 18,
    "timestamps of two units": [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-01").as_unit("ns")] * 9,
    "numpy scalars": [np.float32(n) for n in range(20)],
    "longlong scalars": [np.longlong(n) for n in range(20)],
    "dataclass filled out of order": _filled(legs=[1], more=2, symbol="A", note=None),
    "dataclass filled in part": _filled(more=2, note=None, legs=3),
    "large fraction": Fraction(3**3000, 2**5000),
    "fraction of numpy integers": Fraction(np.int64(1), np.int64(3)),
    "case-blind patterns": [re.compile(p, re.I) for p in ("[a-z]", "[à-ü]" * 9, "\\u0901-\\u0939")],
    "other parts of small types": [range(True), dt.timezone(pd.Timedelta("1h")), dateutil_tz.tzoffset(b"x", 60)],
    "keys of many kinds": {
        (1, ("a", None)): 1,
        frozenset([(1, 2)]): 2,
        Fill(1, (2,)): 3,
        Decimal(1): 4,
        Side.BUY: 5,
        Tick(1, "x"): 6,
    },
}
NASTY["frame in attrs"].attrs = {"of": pd.DataFrame({"b": [2.5]}), "at": KOLKATA}


@pytest.mark.parametrize("name", NASTY)
def test_nasty_value(name: str) -> None:
    """P2 where it is easily broken."""
    assert same(NASTY[name], there_and_back(NASTY[name])) is True


def test_columns_of_the_other_byte_order() -> None:
    """P2: columns that lie apart are joined as what they are; numpy by itself would make them native."""
    frame = pd.DataFrame(index=range(4))
    for name in "ab":
        frame[name] = np.arange(4, dtype=">f4")
    assert frame._mgr.nblocks == 2
    assert same(frame, there_and_back(frame)) is True


def test_nat_and_nan_and_na_and_none_stay_apart() -> None:
    """P2: the four ways of being missing in an object column."""
    column = pd.Series([None, float("nan"), pd.NA, pd.NaT] * 10, dtype=object)
    back = there_and_back(column).tolist()
    assert back[0] is None
    assert back[1] != back[1]
    assert back[2] is pd.NA
    assert back[3] is pd.NaT


# Sharing


def test_sharing_is_kept() -> None:
    """P2: one object in two places is one object in two places."""
    row, frame, text = [1], pd.DataFrame({"a": [1]}), "x" * 10_000
    back = there_and_back({"rows": [row, row], "again": row, "frames": (frame, frame), "texts": [text, text]})
    assert back["rows"][0] is back["rows"][1] is back["again"]
    assert back["frames"][0] is back["frames"][1]
    assert len(dumps([text, text], allow_pickle=False).buffers) == 1
    records = [{"a": n} for n in range(20)]
    back = there_and_back({"records": records, "last": records[-1]})
    assert back["last"] is back["records"][-1]
    back = there_and_back([records[0]] * 20)
    assert all(item is back[0] for item in back)


def test_mutable_containers_can_contain_themselves() -> None:
    """P2: cycles, without pickle."""
    ring: list[Any] = [1]
    ring.append(ring)
    assert (back := there_and_back(ring))[1] is back
    book: dict[str, Any] = {}
    book["self"] = book
    assert (back := there_and_back(book))["self"] is back
    order = Order("A")
    order.legs = [order]
    assert (back := there_and_back(order)).legs[0] is back
    rows: list[dict[str, Any]] = [{"n": n, "all": None} for n in range(20)]
    for row in rows:
        row["all"] = rows
    back = there_and_back(rows)
    assert back[3]["all"] is back
    for row in rows:
        row["all"] = rows[0]  # rows that refer to rows have no place in columns
    back = there_and_back(rows)
    assert back[3]["all"] is back[0]


def test_cycles_through_immutables_go_by_pickle() -> None:
    """P2: a tuple in a list in that tuple."""
    inner: list[Any] = []
    knot = (inner,)
    inner.append(knot)
    with pytest.raises(UnsupportedType):
        dumps(knot, allow_pickle=False)
    back = by_pickle(knot)
    assert back[0][0] is back


def test_deep_nesting_neither_crashes_nor_blows_up() -> None:
    """P5: stored, or refused with our own error."""
    deep: Any = None
    for _ in range(250):
        deep = [deep]
    back = by_pickle(deep)
    for _ in range(250):
        (back,) = back
    assert back is None
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnsupportedType):
        dumps(deep, allow_pickle=True)
    dag: Any = ()
    for _ in range(150):
        dag = (dag, dag)
    assert len(dumps(dag, allow_pickle=False).meta) < 2000
    assert (back := there_and_back(dag))[0] is back[1]


# The caller's own


def _spoil(value: Any) -> None:
    """Change all that can be changed."""
    if isinstance(value, np.ndarray):
        value.view(np.uint8)[...] = 255 if value.dtype.kind != "O" else 0
    elif isinstance(value, pd.DataFrame):
        value.iloc[0, 0] = 99
        value.attrs["new"] = 1
        value["another"] = 1
    elif isinstance(value, bytearray):
        value[:] = b"spoilt"
    elif isinstance(value, dict):
        for item in value.values():
            _spoil(item)
        value["new"] = 1
    elif isinstance(value, list):
        for item in value:
            _spoil(item)
        value.append("new")


@pytest.mark.parametrize("size", [3, 3000], ids=["inline", "in buffers"])
def test_what_a_hit_returns_is_the_callers_own(size: int) -> None:
    """P2: changing it changes neither the stored bytes nor what another caller got, and stored bytes do not change it."""
    value = {
        "array": np.arange(float(size)),
        "frame": pd.DataFrame({"a": np.arange(float(size)), "b": np.arange(size)}),
        "list": [[1.5] * 20, bytearray(b"abc" * size)],
    }
    payload = dumps(value, allow_pickle=False)
    buffers = [bytearray(buffer) for buffer in payload.buffers]
    kept = [bytes(buffer) for buffer in buffers]
    first, second = (loads(payload.meta, buffers, trusted=False) for _ in range(2))
    _spoil(first)
    assert [bytes(buffer) for buffer in buffers] == kept
    assert same(value, second) is True
    for buffer in buffers:
        buffer[:] = bytes(len(buffer))
    assert same(value, second) is True


def test_large_data_is_not_copied_when_written() -> None:
    """What is contiguous is handed over as it lies."""
    array = np.arange(100_000.0)
    (buffer,) = dumps(array, allow_pickle=False).buffers
    assert np.shares_memory(np.frombuffer(buffer, "f8"), array)
    frame = pd.DataFrame({"a": array, "b": array + 1})
    assert len(dumps(frame, allow_pickle=False).buffers) == 2
    assert there_and_back(frame)._mgr.nblocks == 1


# Classes


class Late(enum.Enum):
    A = 1


class Reduced(dict):  # type: ignore[type-arg]
    """A subclass of a builtin: only pickle knows what it needs."""


@dataclasses.dataclass
class Guarded:
    value: int
    ran: bool = False

    def __post_init__(self) -> None:
        type(self).ran = True

    def __setattr__(self, name: str, value: object) -> None:
        raise AssertionError("ran")


@dataclasses.dataclass
class Custom:
    value: int

    def __reduce__(self) -> Any:
        return Custom, (self.value,)


class Wide(Tick):
    """A named tuple that carries more than its fields."""


def test_user_classes() -> None:
    """P2: frozen, slotted, extended, combined."""
    order = Order("A", [1])
    order.extra = {"not": "a field"}  # type: ignore[attr-defined]
    wide = Wide(1, 2.5)
    wide.note = "x"  # type: ignore[attr-defined]
    back = there_and_back(
        [order, Quote(1, [2]), Fill(1.5, 2), Tick(1, None), Pair(1, 2), Side.LONG, Mode.LTP | Mode.FULL, wide]
    )
    assert (
        same(
            [order, Quote(1, [2]), Fill(1.5, 2), Tick(1, None), Pair(1, 2), Side.BUY, Mode.LTP | Mode.FULL, wide], back
        )
        is True
    )
    assert back[0].extra == {"not": "a field"}
    assert back[-1].note == "x"
    assert len(dumps([Order(str(n)) for n in range(50)], allow_pickle=False).meta) < 50 * 80


def test_reading_a_class_runs_none_of_its_code() -> None:
    """P6: neither __init__ nor __post_init__ nor __setattr__."""
    guarded = object.__new__(Guarded)
    guarded.__dict__.update(value=3, ran=False)
    back = there_and_back(guarded)
    assert (back.value, Guarded.ran) == (3, False)


@pytest.mark.parametrize("change", ["gone", "other kind", "other fields", "lazy module"])
def test_a_class_that_changed_makes_the_entry_unreadable(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: a renamed class is a miss, not an error; P6: looking for it runs nothing."""
    payload = dumps(Order("A"), allow_pickle=False)
    if change == "gone":
        monkeypatch.delattr(made, "Order")
    elif change == "other kind":
        monkeypatch.setattr(made, "Order", subprocess.Popen)
    elif change == "other fields":
        other = dataclasses.make_dataclass("Order", ["symbol", "legs"])
        monkeypatch.setattr(made, "Order", other)
    else:
        lazy = types.ModuleType(made.__name__)
        lazy.__getattr__ = lambda name: pytest.fail(f"looked up {name}")  # type: ignore[method-assign]
        monkeypatch.setitem(sys.modules, made.__name__, lazy)
    with pytest.raises(UnreadableEntry):
        loads(payload.meta, payload.buffers, trusted=True)


def test_an_untrusted_entry_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: a module that a stored class names is imported for a trusted entry only."""
    payload = dumps(Order("A"), allow_pickle=False)
    named = payload.meta.replace(b"Order", b"ascii").replace(
        bytes((len(made.__name__),)) + made.__name__.encode(), b"\x04this"
    )
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with pytest.raises(UnreadableEntry):
        loads(named, (), trusted=False)
    assert "this" not in sys.modules


def test_missing_strings_of_pandas_are_read_whichever_version_wrote_them() -> None:
    """P2: the module that the class of NA says it is from is another one in pandas 3.1."""
    written_by_pandas_2 = b"x\x0anp.ndarray\0TTx\5pd.NA\1\2\0g\2s\1a@\0"
    array = np.array(["a", pd.NA], np.dtypes.StringDType(na_object=pd.NA))
    assert dumps(array, allow_pickle=False).meta == written_by_pandas_2
    assert same(loads(written_by_pandas_2, (), trusted=False), array) is True


class Asked(bytes):
    """Counts how often a buffer is asked for its length."""

    times = 0

    def __len__(self) -> int:
        Asked.times += 1
        return super().__len__()


def calls(do: Any) -> int:
    """How many calls of functions and steps of generators it takes."""
    counted = itertools.count()
    sys.setprofile(lambda *_: next(counted) and None)
    try:
        do()
    finally:
        sys.setprofile(None)
    return next(counted)


def test_p5_what_a_column_costs_does_not_depend_on_how_many_there_are() -> None:
    def steps(columns: int, asked: list[int] | None) -> int:
        payload = dumps(pd.DataFrame([[None] * columns], dtype=object), allow_pickle=False)
        return calls(lambda: loads(payload.meta, payload.buffers, trusted=False, columns=asked))

    for asked in (None, [0, 1]):
        steps(9, asked)
        assert steps(800, asked) < 3 * steps(400, asked)


def test_p5_what_a_frame_costs_does_not_depend_on_how_many_there_are() -> None:
    def asked(frames: int) -> int:
        payload = dumps([pd.DataFrame({"a": np.arange(900.0)}) for _ in range(frames)], allow_pickle=False)
        Asked.times = 0
        loads(payload.meta, [Asked(buffer) for buffer in payload.buffers], trusted=False)
        return Asked.times

    assert asked(80) < 3 * asked(40)


def test_register_type() -> None:
    """A type of one's own, stored by what encode returns; names are taken once."""

    class Money:
        def __init__(self, paise: int) -> None:
            self.paise = paise

    with pytest.raises(UnsupportedType):
        dumps(Money(3), allow_pickle=False)
    register_type(
        Money, name="test.money", encode=lambda money: {"paise": money.paise}, decode=lambda data: Money(data["paise"])
    )
    try:
        one = Money(350)
        back = there_and_back([one, one])
        assert back[0].paise == 350
        assert back[0] is back[1]
        with pytest.raises(ConfigurationError):
            register_type(Order, name="test.money", encode=vars, decode=dict)
        with pytest.raises(ConfigurationError):
            register_type(dict, name="test.dict", encode=list, decode=dict)
        payload = dumps(one, allow_pickle=False)
        with pytest.raises(UnreadableEntry):
            loads(payload.meta.replace(b"money", b"monny"), (), trusted=True)
    finally:
        del rules.USER_TYPES[Money]


# Pickled parts


def test_only_the_part_without_a_codec_is_pickled() -> None:
    """P2: the frame beside a model is stored as a frame."""
    value = {"frame": pd.DataFrame({"a": np.arange(3000.0)}), "model": Reduced(a=1)}
    payload = dumps(value, allow_pickle=True)
    assert payload.pickled
    assert b"pd.DataFrame" in payload.meta
    back = by_pickle(value)
    assert same(value["frame"], back["frame"]) is True
    assert type(back["model"]) is Reduced
    with pytest.raises(UnsupportedType, match="Reduced"):
        dumps(value, allow_pickle=False)


class Holder:
    def __init__(self, array: Any) -> None:
        self.array = array


def test_a_pickled_part_has_memory_of_its_own() -> None:
    """P2: out-of-band buffers do not show through."""
    back = by_pickle([Holder(np.arange(10_000.0)), Custom(3)])
    back[0].array[0] = 7
    assert back[0].array.flags.writeable
    assert back[1] == Custom(3)


def test_cloudpickle_where_pickle_cannot() -> None:
    """P2: a local class, a lambda."""
    scale = 3
    assert by_pickle({"f": lambda x: x * scale})["f"](2) == 6


class Hostile:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        (n for n in ()),
        Hostile(ValueError("hunter2")),
        Hostile(RecursionError()),
        memoryview(b""),
        sys,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_stored_is_refused_with_our_error(value: Any) -> None:
    """P5: a result that cannot be stored costs the caching, not the result; and no message quotes a value."""
    for allowed in (False, True):
        if value is sys and allowed:
            continue
        with pytest.raises(UnsupportedType) as caught:
            dumps([1, {"a": value}], allow_pickle=allowed)
        assert "hunter2" not in str(caught.value)
        assert caught.value.type_name


class Dated(dt.datetime):
    """A datetime with an attribute."""

    @functools.cached_property
    def week(self) -> int:
        return self.isocalendar().week


class Kept(dt.datetime):
    """One that is pickled with it."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.year, self.month, self.day), vars(self)


class Tagged(np.ndarray):
    """As numpy's documentation has it."""

    unit: Any
    notes: Any

    def __array_finalize__(self, obj: Any) -> None:
        self.unit = getattr(obj, "unit", None)
        self.notes = getattr(obj, "notes", {})


class TaggedMask(np.ma.MaskedArray):  # type: ignore[type-arg]
    """Notes what it has where numpy looks for it."""

    def __array_finalize__(self, obj: Any) -> None:
        super().__array_finalize__(obj)
        self._optinfo.setdefault("unit", "")  # type: ignore[attr-defined]


class Single(np.float64):
    """A number that numpy pickles as its own."""


class Marked(Fraction):
    """A fraction with attributes."""


class Counted(collections.Counter[Any]):
    """A counter with attributes."""


class Defaults(collections.defaultdict[Any, Any]):
    """A dict with attributes."""


class Place(type(pathlib.PurePath())):  # type: ignore[misc]
    """A path with attributes."""


class Table(pd.DataFrame):
    """A frame with an attribute that pandas hands on, and others."""

    _metadata = ["exchange"]


def _noting(value: Any) -> Any:
    value._optinfo["unit"] = "INR"
    return value


TO_BE_TAGGED = {
    "DataFrame": lambda: pd.DataFrame({"a": [1]}),
    "Series": lambda: pd.Series([1]),
    "DataFrame's subclass": lambda: Table({"a": [1]}),
    "matrix": lambda: np.arange(2).view(np.matrix),
    "recarray": lambda: np.zeros(1, [("a", "i4")]).view(np.recarray),
    "chararray": lambda: np.array(["a"]).view(np.char.chararray),
    "MaskedArray": lambda: np.ma.array([1]),
    "MaskedArray's subclass": lambda: np.ma.array([1], mask=[1]).view(TaggedMask),
    "ndarray's subclass": lambda: np.arange(3).view(Tagged),
    "Counter": lambda: collections.Counter("a"),
    "Counter's subclass": lambda: Counted("a"),
    "defaultdict's subclass": lambda: Defaults(int),
    "Fraction's subclass": lambda: Marked(1, 3),
    "datetime's subclass": lambda: Dated(2024, 1, 1),
    "path's subclass": lambda: Place("a"),
}


@pytest.mark.parametrize("place", ["alone", "in a list", "in an object"])
@pytest.mark.parametrize("kind", TO_BE_TAGGED)
def test_what_would_come_back_without_an_attribute_is_not_stored(kind: str, place: str) -> None:
    """P2: pickle drops it, of these, without a word."""
    part = TO_BE_TAGGED[kind]()
    value = {"alone": part, "in a list": [part], "in an object": Holder(part)}[place]
    payload = dumps(value, allow_pickle=True)
    assert type(loads(payload.meta, payload.buffers, trusted=True)) is type(value)
    part.unit = "hunter2"
    for allowed in (True, False):
        with pytest.raises(UnsupportedType, match="without its attribute 'unit'") as caught:
            dumps(value, allow_pickle=allowed)
        assert "hunter2" not in str(caught.value)
        assert not caught.value.secret_helps


def test_attributes_that_come_back_keep_nothing_from_being_stored() -> None:
    assert by_pickle(np.arange(3).view(Tagged)).unit is None
    assert by_pickle(np.ma.array([1]).view(TaggedMask))._optinfo == {"unit": ""}
    dated = Dated(2024, 1, 1)
    assert dated.week == by_pickle(dated).week == 1
    kept = Kept(2024, 1, 1)
    kept.unit = "INR"  # type: ignore[attr-defined]
    assert by_pickle(kept).unit == "INR"
    table = Table({"a": [1]})
    table.exchange = "NSE"  # type: ignore[attr-defined]
    assert by_pickle(table).exchange == "NSE"
    series = pd.Series(["x"])
    assert list(series.str.upper()) == ["X"]  # an accessor, which pandas 2 keeps there
    series.attrs["unit"] = "INR"
    payload = dumps(series, allow_pickle=False)
    assert loads(payload.meta, payload.buffers, trusted=False).attrs == {"unit": "INR"}


def test_what_numpy_brings_back_as_another_is_not_stored() -> None:
    with pytest.raises(UnsupportedType, match=r"come back as numpy\.float64"):
        dumps([Single(1.5)], allow_pickle=True)
    with pytest.raises(UnsupportedType, match="without its attribute 'unit'"):
        dumps(_noting(np.ma.array([1])), allow_pickle=True)


def test_a_planted_pickle_does_not_run(tmp_path: pathlib.Path) -> None:
    """P6: nothing in an untrusted entry is executed."""
    target = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> Any:
            return pathlib.Path.touch, (target,)

    data = pickle.dumps(Bomb())
    for meta in (b"p" + bytes((len(data),)) + data + b"\0", b"l\1p" + bytes((len(data),)) + data + b"\0", data):
        with pytest.raises(UnreadableEntry):
            loads(meta, (), trusted=False)
    assert not target.exists()


# What pickle takes and changes, or takes and never gives back


class Numbers:
    """An iterator that pickle would take."""

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> int:
        return 1


ALIVE = {
    "file": lambda: open(__file__, encoding="utf-8"),
    "binary file": lambda: open(__file__, "rb"),
    "stdout": lambda: sys.stdout,
    "memoryview": lambda: memoryview(b"abc"),
    "list iterator": lambda: iter([1]),
    "dict iterator": lambda: iter({"a": 1}),
    "reversed": lambda: reversed([1]),
    "generator": lambda: (n for n in ()),
    "zip": lambda: zip([1], [2]),
    "map": lambda: map(str, [1]),
    "filter": lambda: filter(None, [1]),
    "enumerate": lambda: enumerate("ab"),
    "count": lambda: itertools.count(3),
    "csv reader": lambda: __import__("csv").reader(["a,b"]),
    "nditer": lambda: np.arange(3).flat,
    "iterator of one's own": Numbers,
    "weak set": lambda: weakref.WeakSet([Side]),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("place", ["alone", "in a list", "in an object", "in a closure", "beside a lambda"])
@pytest.mark.parametrize("name", ALIVE)
def test_what_would_come_back_as_something_else_is_refused(name: str, place: str) -> None:
    """P2: files, views, iterators are not stored at any depth; cloudpickle would make other things of some."""
    alive = ALIVE[name]()
    value = {
        "alone": alive,
        "in a list": [1, alive],
        "in an object": Holder([{"a": alive}]),
        "in a closure": lambda: alive,
        "beside a lambda": Holder([lambda: 1, alive]),
    }[place]
    try:
        for allowed in (False, True):
            with pytest.raises(UnsupportedType) as caught:
                dumps(value, allow_pickle=allowed)
        assert type(alive).__name__ in str(caught.value)
        assert caught.value.type_name == rules.type_name(type(alive))
    finally:
        if "file" in name:
            alive.close()


def test_files_in_memory_are_values() -> None:
    """P2: they come back with their content and their position."""
    held = io.BytesIO(b"abc")
    held.seek(1)
    assert by_pickle(Holder(held)).array.read() == b"bc"


def test_classes_are_looked_up_once_for_all_of_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of a thousand instances, a class is what it was a moment ago; for the next value it is looked up again."""
    values = [[Tick(n, 1.5), Quote(n, 2.5), Fill(n, 1), Side.BUY] for n in range(200)]
    payload = dumps(values, allow_pickle=False)
    asked: list[str] = []

    def by_name(module: str, qualname: str) -> object:
        asked.append(qualname)
        return found(module, qualname)

    found = _codecs_classes.by_name
    monkeypatch.setattr(_codecs_classes, "by_name", by_name)
    for _ in range(2):
        asked.clear()
        assert same(values, loads(payload.meta, payload.buffers, trusted=False)) is True
        assert {"Tick", "Quote", "Fill", "Side"} == set(asked)
        assert len(asked) < 10


def test_what_is_read_for_each_frame_does_not_grow_with_the_others() -> None:
    """P5: a reader that asks each buffer of a list of frames for its length at each frame is slow at some thousand."""
    asked = 0

    class Buffer(bytes):
        def __len__(self) -> int:
            nonlocal asked
            asked += 1
            return super().__len__()

    def lengths_asked(count: int) -> int:
        nonlocal asked
        payload = dumps([pd.DataFrame({"close": np.arange(520) / (n + 3)}) for n in range(count)], allow_pickle=False)
        buffers = list(map(Buffer, payload.buffers))
        assert super(Buffer, buffers[-1]).__len__() == 520 * 8
        asked = 0
        loads(payload.meta, buffers, trusted=False)
        return asked

    assert lengths_asked(80) <= 2 * lengths_asked(40)


SCRIPT = """
import dataclasses, enum, pathlib, sys
from redis_memo._codecs import dumps, loads

class Plain:
    def __init__(self, x):
        self.x = x
    class Inner:
        pass

class Oops(Exception):
    pass

def helper():
    return 1

def make():
    kept = pathlib.Path(sys.argv[1])
    value = [Plain(1), Plain.Inner(), Oops("a"), helper, Plain, {"f": lambda: (Plain, helper)}]
    if not kept.exists():
        kept.write_bytes(dumps(value, allow_pickle=True).meta)
    return loads(kept.read_bytes(), (), trusted=True)

if __name__ == "__main__":
    plain, inner, oops, function, cls, rest = make()
    print(type(plain) is Plain, plain.x, type(inner) is Plain.Inner, type(oops) is Oops, function is helper, cls is Plain,
          rest["f"]() == (Plain, helper))
"""


def test_a_class_of_a_script_is_that_very_class_in_the_next_process(tmp_path: pathlib.Path) -> None:
    """P2: by name, not by value, which would be another class; a program without it misses."""
    script, kept = tmp_path / "script.py", tmp_path / "kept"
    script.write_text(SCRIPT)
    run = [sys.executable, str(script), str(kept)]
    for _ in range(2):
        shown = subprocess.run(
            run, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(HERE.parent), "PATH": ""}
        )
        assert shown.stdout.split() == ["True", "1", *["True"] * 5]
    with pytest.raises(UnreadableEntry, match="__main__.Plain raised AttributeError"):
        loads(kept.read_bytes(), (), trusted=True)


def test_what_has_no_name_is_not_stored_unless_it_is_a_function() -> None:
    """P2: a local class would be another one in the next process."""

    class Local:
        pass

    @dataclasses.dataclass
    class Data:
        a: int

    Made = enum.Enum("Made", "A")
    for value in (Local(), [Local], Data(1), Made.A, dataclasses.make_dataclass("Loose", "a")(1), lambda: Local):
        with pytest.raises(UnsupportedType, match="top level of a module"):
            dumps({"a": value}, allow_pickle=True)
    assert by_pickle(lambda: [type(None), type(...), types.FunctionType, Side])()[3] is Side


class Picky(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason} hunter2")


class Many:
    def __init__(self) -> None:
        self.a = "tests.test_values"
        self.b = [Picky(1, "x")]


def test_what_cannot_be_unpickled_is_named() -> None:
    """P5: it misses at every call, and the log tells what it is, but nothing of its content."""
    for value, name in ((Picky(1, "x"), "Picky"), (Many(), "Many")):
        payload = dumps([value], allow_pickle=True)
        with pytest.raises(UnreadableEntry, match=rf"{__name__}.{name} raised TypeError") as caught:
            loads(payload.meta, payload.buffers, trusted=True)
        assert "hunter2" not in str(caught.value)


class Reduces:
    def __reduce__(self) -> Any:
        raise MemoryError


class Half:
    """Its rule fails when half of it is written."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    @staticmethod
    def put(enc: stream.Encoder, value: Half) -> None:
        enc.put(value.parts)
        raise rules.NotTyped


@pytest.fixture
def half_written() -> Iterator[None]:
    rules.USER_TYPES[Half] = rules.Rule("test.half", Half.put, lambda _: None)
    yield
    del rules.USER_TYPES[Half]


@pytest.mark.usefixtures("half_written")
def test_what_a_rule_wrote_before_it_failed_is_forgotten() -> None:
    """P2: in the middle of tables, and where the same is written again."""
    shared, own = [1, {}], [[{"a": number, "b": {"c": [number]}} for number in range(9)] for _ in range(9)]
    rows = [{"n": number, "part": Half(own, own[number], {number: Fill("a", number)})} for number in range(9)]
    payload = dumps([shared, rows, own, shared, Half(rows), rows[3]], allow_pickle=True)
    back = loads(payload.meta, [bytes(buffer) for buffer in payload.buffers], trusted=True)
    assert same([own, shared], [back[2], back[3]]) is True
    assert back[0] is back[3]
    assert back[5] is back[1][3]
    assert [row["n"] for row in back[1]] == [row["n"] for row in back[4].parts[0]] == list(range(9))
    assert [row["part"].parts[1] for row in back[1]] == own


class Unseen(dict[int, int]):
    """What is known of objects, where nobody may look through all of it."""

    def items(self) -> Any:
        raise AssertionError("all that was written is looked at")

    __iter__ = values = items


@pytest.mark.usefixtures("half_written")
def test_forgetting_what_a_rule_wrote_looks_at_that_alone() -> None:
    """P5: not at all that was written before it; ten thousand such objects took minutes."""
    enc = stream.Encoder(allow_pickle=True)
    enc.memo = Unseen()
    enc.put([{"n": number, "part": Half([number])} for number in range(20)])
    assert enc.pickled
    assert len(enc.memo) == 1 + 20 + 20  # the list, its rows, and the objects that were pickled


def test_too_little_memory_costs_the_caching() -> None:
    """P5: the caller gets the result, and a miss."""
    with pytest.raises(UnsupportedType, match="not enough memory") as caught:
        dumps([Reduces()], allow_pickle=True)
    assert caught.value.__context__ is None  # it would keep what was written so far

    class Money:
        pass

    def fail(_: object) -> Any:
        raise MemoryError

    register_type(Money, name="test.large", encode=lambda _: None, decode=fail)
    try:
        payload = dumps([Money()], allow_pickle=False)
        with pytest.raises(UnreadableEntry):
            loads(payload.meta, payload.buffers, trusted=False)
        register_type(Money, name="test.large", encode=fail, decode=fail)
        with pytest.raises(UnsupportedType, match="not enough memory"):
            dumps([Money()], allow_pickle=False)
    finally:
        del rules.USER_TYPES[Money]


# Planted entries: what no encoder writes


def _planted(*parts: Any) -> tuple[bytes, list[Any]]:
    """A stream of raw bytes and nodes; a string names a rule, None takes an index for what is begun."""
    enc = stream.Encoder(allow_pickle=False)
    for part in parts:
        if part is None:
            enc.keep.append(object())
        elif isinstance(part, bytes):
            enc.out += part
        elif isinstance(part, str):
            enc.out += b"x" + bytes((len(part),)) + part.encode()
        else:
            enc.put(*part)
    return bytes(enc.out), enc.buffers


def _doubled(depth: int) -> Any:
    found: Any = (1,)
    for _ in range(depth):
        found = (found, found)
    return found


def _dtype(dtype: Any) -> bytes:
    return dumps(np.dtype(dtype), allow_pickle=False).meta.removeprefix(b"x\x08np.dtype")


@dataclasses.dataclass
class Spy:
    """Does what a class of the program may do when it is asked."""

    ran: Any = None
    asked: ClassVar[int] = 0

    def _run(self, *_: Any) -> Any:
        Spy.asked += 1
        raise AssertionError("ran")

    __hash__ = __str__ = __bool__ = __eq__ = __len__ = __iter__ = __index__ = __int__ = __float__ = _run
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __sub__ = __rsub__ = __neg__ = __getitem__ = _run


DAG = _doubled(25)  # half a second to hash; each level doubles that
BIG = Decimal("1E+9999999")
AXIS = pd.RangeIndex(1)
ONE = np.zeros(1)
SPIES = _dtype("O"), b"\1\1\0g\1", (Spy(),)  # an array of one
BYTE = b"\1\1\0\1\0"  # after the dtype: an array of one zero
PLANTED = {
    "set": (None, b"eg\1", (DAG,)),
    "frozenset": (b"zg\1", (DAG,)),
    "set of two kinds": (None, b"eg\2", (DAG,), (1,)),
    "dict": (None, b"m\1", (DAG,), b"N"),
    "long dict": (None, b"Mg\1", (DAG,), b"g\1N"),
    "counter": ("counter", None, b"g\1", (DAG,), b"g\1N"),
    "in a slice of a tuple": (b"zg\1", ((1, (DAG,), "x"),)),
    "dataclass": (b"zg\1", (Fill(DAG, 1),)),
    "named tuple": (b"zg\1", (Tick(1, DAG),)),
    "one of medium size, often": (b"zg\xff" + struct.pack("<Q", 2000), (_doubled(14),), b"@\x0e" * 1999),
    "a long int, often": (b"zg\xff" + struct.pack("<Q", 20000), ((1 << 800_000,),), b"@\0" * 19999),
    "a long int in a mixed column": (None, b"em", b"\x10" + bytes(16), b"\1\1", (1 << 99,)),
    "name of a series": ("pd.Series", (DAG,), (AXIS,), (ONE,), b"TN"),
    "name of an index": ("pd.Index", (DAG,), b"T", _dtype("f8"), b"\1\1\0\x08", bytes(8), b"N"),
    "name of a range": ("pd.RangeIndex", (0,), (1,), (1,), (DAG,)),
    "element of an index": ("pd.Index", b"NT", _dtype("O"), b"\1\1\0g\1", (DAG,), b"N"),
    "names of levels": ("pd.MultiIndex", ((DAG,),), b"N\1", (AXIS,), _dtype("i1"), b"\1\1\0\1\0"),
    "fraction of a text": ("fraction", ("1E9999999",), b"N"),
    "fraction of a decimal": ("fraction", (BIG,), (1,)),
    "fraction over nothing": ("fraction", (1,), (0,)),
    "ordinal": ("pd.Period", (pd.offsets.Day(),), (BIG,)),
    "frequency by name": ("pd.Period", ("D",), (1,)),
    "number of an offset": ("pd.DateOffset", b"\x03Day", (BIG,), b"F", ({},)),
    "argument of an offset": ("pd.DateOffset", b"\x0aDateOffset", (1,), b"F", ({"months": BIG},)),
    "zone of a dtype by name": ("pd.DatetimeTZDtype", ("ns",), ("dateutil//dev/null",)),
    "zone of a timestamp by name": ("pd.Timestamp", b"\2ns", (1,), ("dateutil//dev/null",), (0,)),
    "timedelta": ("pd.Timedelta", b"\2ns", ("1",)),
    "categories": ("pd.CategoricalDtype", (range(9),), b"F"),
    "level of any length": (
        "pd.MultiIndex", ((None,),), b"N\1", (pd.RangeIndex(1 << 30),), _dtype("i1"), b"\1\1\0\1\0",
    ),
    "masked range": ("np.ma.MaskedArray", (range(9),), b"NNF"),
    "range of texts": ("range", ("1",), ("2",), ("3",)),
    "range of long ints": ("range", (0,), (1 << 9000,), (1 << 4500,)),
    "path of a path": ("path", b"\x0dPurePosixPath", (pathlib.PurePosixPath("a"),)),
    "maxlen": ("deque", ("3",), None, b"g\0"),
    "pattern of many folds": ("pattern", ("[\0-\uffff]" * 99,), (int(re.I),)),
    "pattern of many folds within": ("pattern", ("(?i:" + "[\0-\uffff]" * 99 + ")",), (int(re.U),)),
    "long pattern": ("pattern", ("a" * 70_000,), (int(re.U),)),
    "pattern of a path": ("pattern", (pathlib.PurePosixPath("a"),), (0,)),
    "decimals of other things": (None, b"Lcg\1", (1.5,)),
    "strings of other things": (None, b"LvBg\1", (1.5,), b"\1\0"),
    "dtype of several": ("np.dtype", b"=\5i4,i4"),
    "shape of a text": ("np.dtype", b"(", _dtype("i4"), (("3",),)),
    "scalars of nothing": (None, b"Lx\x0anp.scalars", _dtype("V0"), b"\1\xff", struct.pack("<Q", 1 << 20), b"\0\0"),
    "an array of nothing": ("np.ndarray", b"\0", _dtype("S0"), b"\1\xff", struct.pack("<Q", 1 << 40), b"\0\0"),
    "strings that are none": ("np.ndarray", b"\0", _dtype(np.dtypes.StringDType()), b"\1\1\0g\1", (Spy(),)),
    "missing string": ("np.dtype", b"tT", (Spy(),)),
    "text scalar": ("np.generic", b"s", (Spy(),)),
    "bytes scalar": ("np.generic", b"b", (Spy(),)),
    "mask of numpy": ("np.ma.MaskedArray", (ONE,), "np.ndarray", b"\0", *SPIES, b"NF"),
    "places of columns": (
        "pd.DataFrame", (pd.Index(["a"]),), (pd.RangeIndex(3),), b"\1g", _dtype("f8"), *SPIES, b"\3\x18", bytes(24), b"TN",
    ),
    "codes of categories": ("pd.Categorical", (pd.CategoricalDtype(pd.Index(["a"])),), *SPIES),
    "truths that may be missing": ("pd.MaskedArray", b"\x0cBooleanArray", *SPIES, _dtype("?"), BYTE),
    "which numbers are missing": ("pd.MaskedArray", b"\x0cIntegerArray", _dtype("i1"), BYTE, *SPIES),
    "strings that Python keeps": ("pd.StringArray", (pd.StringDtype("python"),), *SPIES),
    "lengths of strings": (
        "pd.StringArray", (pd.StringDtype("pyarrow"),), *SPIES, _dtype("u1"), b"\1\0\0\0", b"\2ab",
    ),
    "which strings are missing": (
        "pd.StringArray", (pd.StringDtype("pyarrow"),), _dtype("u1"), BYTE, *SPIES, b"\0",
    ),
    "places in a sparse array": (
        "pd.SparseArray", (pd.SparseDtype("f8"),), _dtype("f8"), b"\1\1\0\x08", bytes(8), b"\5F", *SPIES,
    ),
    "blocks of a sparse array": (
        "pd.SparseArray", (pd.SparseDtype("f8"),), _dtype("f8"), b"\1\1\0\x08", bytes(8), b"\5T", _dtype("i4"),
        b"\1\1\0\4", bytes(4), *SPIES,
    ),
    "ends of intervals": (
        "pd.IntervalArray", *("pd.Index", b"NT", *SPIES, b"N") * 2, (pd.IntervalDtype("f8", "right"),),
    ),
    "numbers of periods": ("pd.PeriodArray", (pd.PeriodDtype("D"),), *SPIES),
    "codes of a level": ("pd.MultiIndex", ((None,),), b"N\1", (pd.Index(["a"]),), *SPIES),
    "truth": ("pd.Series", b"N", (AXIS,), (ONE,), (Spy(),), b"N"),
    "truth of a zone": ("zoneinfo.ZoneInfo", ("UTC",), (Spy(),)),
    "fields of a class": (
        "namedtuple", b"\0", bytes((len(made.__name__),)) + made.__name__.encode(), b"\4Tick", ((Spy(), 1),), b"g\0N",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_entry_takes_no_time_and_runs_nothing(name: str) -> None:
    """P5, P6: constructors get what they were given when it was stored, and hashing is bounded."""
    meta, buffers = _planted(*PLANTED[name])
    Spy.asked = 0
    with pytest.raises(UnreadableEntry) as caught:
        loads(meta, buffers, trusted=False)
    assert "AssertionError" not in str(caught.value)
    assert Spy.asked == 0


@pytest.mark.parametrize("missing", [pd.NA, np.nan])
def test_strings_that_python_keeps_are_read_with_all_that_may_stand_among_them(missing: Any) -> None:
    """P2: planted objects are refused there, and what pandas itself puts there is not."""
    dtype = pd.StringDtype("python", na_value=missing)
    array = pd.array(["a", np.str_("b"), None, pd.NA, float("nan")], dtype=dtype)
    assert same(there_and_back(array), array) is True
    items = [("a",), (np.str_("b"),), (None,), (pd.NA,), (float("nan"),)]
    written = _planted("pd.StringArray", (dtype,), _dtype("O"), b"\1\5\0g\5", *items)
    assert same(loads(*written, trusted=False), array) is True


def test_the_planted_entries_would_be_read_if_they_were_small() -> None:
    """The entries of these tests are refused for what they hold, not for how they are put together."""
    small = (None, b"eg\1", (_doubled(3),))
    assert loads(*_planted(*small), trusted=False) == {_doubled(3)}
    for name, parts in PLANTED.items():
        if any(isinstance(part, tuple) and part[0] is DAG for part in parts):
            changed = [((2,),) if isinstance(part, tuple) and part[0] is DAG else part for part in parts]
            loads(*_planted(*changed), trusted=False)


def test_a_key_nested_deeper_than_the_stack_does_not_end_the_process() -> None:
    """P5: tuples are hashed by recursion in C, without a limit."""
    code = (
        "from redis_memo._codecs import loads; from redis_memo.errors import UnreadableEntry\n"
        "import struct, sys\n"
        "count = int(sys.argv[1]); sys.setrecursionlimit(2 * count)\n"
        "nodes = [b't\\0'] + [b't\\1@\\xff' + struct.pack('<Q', n) for n in range(1, count)]\n"
        "last = b'zg\\1@\\xff' + struct.pack('<Q', count)\n"
        "meta = b'Lg\\xff' + struct.pack('<Q', count + 1) + b''.join(nodes) + last\n"
        "try: loads(meta, (), trusted=False)\n"
        "except UnreadableEntry as error: print(error)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, "300000"], cwd=HERE.parent, capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stdout) == (0, "a key is nested too deep\n"), shown.stderr


def test_keys_that_are_long_and_the_same_are_refused_before_they_are_looked_at() -> None:
    """P5, P6: sixty kilobytes named four hundred million elements, and all of them were put into one list."""
    count = struct.pack("<Q", 20_000)
    meta = b"l\2ug\xff" + count + b"N" * 20_000 + b"eg\xff" + count + b"@\1" * 20_000
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableEntry, match="too much to hash"):
            loads(meta, (), trusted=False)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


# Damage

SAMPLES = [
    {"symbol": "INFY", "price": 1.5, "n": 3},
    [{"a": n, "b": f"s{n}", "c": dt.date(2024, 1, 1)} for n in range(20)],
    pd.DataFrame(
        {
            "a": [1.5, 2],
            "b": ["x", None],
            "c": pd.Categorical(["u", "v"]),
            "d": pd.date_range("2024", periods=2, tz="Asia/Kolkata"),
            "e": pd.array([1, None], dtype="Int64"),
            "f": pd.arrays.SparseArray([0, 1]),
            "g": pd.period_range("2024", periods=2, freq="M"),
        },
        index=pd.MultiIndex.from_product([["k"], pd.timedelta_range("1s", periods=2)]),
    ),
    np.array([(1, "a", [1, 2])], dtype=[("a", "i4"), ("b", "O"), ("c", "f8", (2,))]),
    np.ma.array(np.arange(2000), mask=False),
    [
        Order("A"),
        Tick(1, 2),
        Side.BUY,
        Mode.LTP,
        re.compile("a"),
        zoneinfo.ZoneInfo("UTC"),
        KOLKATA,
        pytz.timezone("Asia/Kolkata"),
    ],
    pd.interval_range(0, 3),
    collections.deque([1], 3),
    pd.Series(["x" * 30, None] * 200),
    pa.table({"a": ["x", None], "d": pa.array(["a", "b"]).dictionary_encode()}),
    pd.Series([1, None], dtype="int64[pyarrow]"),
]
PAYLOADS: list[Payload] = [dumps(sample, allow_pickle=False) for sample in SAMPLES]


@quick(600)
@given(st.data())
def test_damaged_bytes_are_unreadable_or_a_value(data: st.DataObject) -> None:
    """P5, P6: a mutated entry gives UnreadableEntry or some value, never another exception, never a crash."""
    payload = PAYLOADS[data.draw(st.integers(0, len(PAYLOADS) - 1))]
    meta, buffers = bytearray(payload.meta), [bytearray(buffer) for buffer in payload.buffers]
    for _ in range(data.draw(st.integers(1, 4))):
        target = data.draw(st.sampled_from([meta, meta, meta, *buffers]))
        if target:
            place = data.draw(st.integers(0, len(target) - 1))
            kind = data.draw(st.integers(0, 3))
            if kind == 0:
                target[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0xFD, 0xFE, 0xFF]))
            elif kind == 1:
                target[place] ^= 1 << data.draw(st.integers(0, 7))
            elif kind == 2:
                del target[place:]
            else:
                target[place:place] = target[data.draw(st.integers(0, place)) : place + 9]
    try:
        value = loads(bytes(meta), buffers, trusted=False)
    except UnreadableEntry:
        return
    repr(value)


@quick(300)
@given(st.binary(max_size=60), st.lists(st.binary(max_size=8), max_size=2))
def test_any_bytes_at_all(meta: bytes, buffers: list[bytes]) -> None:
    """P5: foreign bytes are unreadable, or by chance a value."""
    try:
        loads(meta, buffers, trusted=False)
    except UnreadableEntry:
        pass


def _claims() -> dict[str, bytes]:
    huge = b"\xff" + struct.pack("<Q", 1 << 40)
    array = dumps(np.zeros(3), allow_pickle=False).meta
    frame = dumps(pd.DataFrame([[1.5]]), allow_pickle=False).meta
    return {
        "str": b"S" + huge,
        "out of band": b"B\xfe" + struct.pack("<Q", 1 << 40),
        "list": b"Lg" + huge,
        "records": b"R" + huge + b"g\x01s\x01ag\x00",
        "strings": b"Ls" + huge + b"\0",
        "array": array.replace(b"\x01\x03\x00", b"\x01" + huge + b"\x00"),
        "zero-sized": array.replace(b"<f8\x01\x03\x00", b"|S0\x01" + huge + b"\x00").replace(bytes(24), b"")[:-1]
        + b"\0",
        "frame": frame.replace(b"|u1\x01\x01\x00\x01\x00\x01", b"|u1\x01\x01\x00\x01\x00" + huge),
        "columns": frame.replace(
            b"pd.RangeIndexi" + bytes(8) + b"i\x01", b"pd.RangeIndexi" + bytes(8) + b"i\xff"
        ).replace(b"i\xff" + bytes(7), b"i" + struct.pack("<q", 1 << 40)),
    }


@pytest.mark.parametrize("name", _claims())
def test_a_claimed_length_allocates_nothing(name: str) -> None:
    """P5: an allocation bomb fails before it allocates."""
    import resource

    assert struct.pack("<Q", 1 << 40) in _claims()[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        loads(_claims()[name], (), trusted=False)
    except UnreadableEntry:
        pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_leftovers_and_missing_buffers_are_unreadable() -> None:
    """P5: an entry is exactly as long as its content."""
    payload = dumps(np.arange(5000.0), allow_pickle=False)
    (buffer,) = payload.buffers
    for meta, buffers in [
        (payload.meta + b"N", [buffer]),
        (payload.meta[:-1], [buffer]),
        (payload.meta, []),
        (payload.meta, [buffer, b""]),
        (payload.meta, [bytes(buffer)[:-8]]),
        (b"", []),
    ]:
        with pytest.raises(UnreadableEntry):
            loads(meta, buffers, trusted=True)


class Extension(pa.ExtensionType):  # type: ignore[misc]
    """A type that a user has registered with Arrow; reading one runs its code."""

    def __init__(self) -> None:
        super().__init__(pa.int64(), "tests.extension")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> Extension:
        Extension.ran = True
        return cls()


def test_an_arrow_schema_that_names_an_extension_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: Arrow would call the method of the class that is registered under the name."""
    # Twisted, which kiteconnect imports, has methods pickled in a way that loses those of classes.
    monkeypatch.delitem(copyreg.dispatch_table, types.MethodType, raising=False)
    pa.register_extension_type(Extension())
    try:
        array = pa.ExtensionArray.from_storage(Extension(), pa.array([1]))
        table = pa.table({"a": array})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write(table)
        schema = pa.schema([pa.field("", pa.list_(Extension()))]).serialize()
        for name, data in (("pa.Table", sink.getvalue()), ("pa.Schema", schema), ("pa.DataType", schema)):
            enc = stream.Encoder(allow_pickle=False)
            enc.out += b"x" + bytes((len(name),)) + name.encode()
            enc.blob(memoryview(data).cast("B"))
            Extension.ran = False
            with pytest.raises(UnreadableEntry, match="extension"):
                loads(bytes(enc.out), enc.buffers, trusted=False)
            assert not Extension.ran
        assert same(table, by_pickle(table)) is True
    finally:
        pa.unregister_extension_type("tests.extension")


NOT_AS_A_STREAM = {
    "extension": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"x" * 16], pa.binary(16))),
    "an extension within": pa.schema([pa.field("a", pa.list_(pa.json_()))]),
    "an extension that is not known here": pa.schema(
        [pa.field("a", pa.int8(), metadata={"ARROW:extension:name": "x"})]
    ),
    "names in a map": pa.array(
        [[("a", 1)]], pa.map_(pa.field("k", pa.string(), nullable=False), pa.field("v", pa.int8()))
    ),
    "half a day": pa.array([1, None]).view(pa.date64()),
    "not UTF-8": pa.array([b"\xff"]).view(pa.string()),
}


@pytest.mark.parametrize("name", NOT_AS_A_STREAM)
def test_what_arrows_stream_would_not_bring_back_is_pickled(name: str) -> None:
    """P2: what Arrow itself would refuse to read, or read as something else."""
    value = NOT_AS_A_STREAM[name]
    assert by_pickle(value).equals(value)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.map_(pa.int8(), pa.int8())], ids=str
)
def test_empty_lists_that_begin_late_do_not_end_the_process(kind: Any) -> None:
    """P5: Arrow writes where an empty list began, without its elements; reads it as valid; and aborts over it."""
    field = kind.field(0)
    elements = pa.array([{"key": 1, "value": 1}] * 2 if field.name == "entries" else [1, 2], field.type)
    first = struct.pack("<q" if pa.types.is_large_list(kind) else "<i", 1)
    late = pa.Array.from_buffers(kind, 0, [None, pa.py_buffer(first)], children=[elements])
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([late], names=[""])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write(batch)
    enc = stream.Encoder(allow_pickle=False)
    enc.out += b"x\x08pa.Array"
    enc.blob(memoryview(sink.getvalue()).cast("B"))
    with pytest.raises(UnreadableEntry, match="list"):
        loads(bytes(enc.out), enc.buffers, trusted=False)
    assert pa.types.is_map(kind) or there_and_back(late).flatten().to_pylist() == []
    assert there_and_back(pd.Series(pd.arrays.ArrowExtensionArray(late))).tolist() == []


def test_labels_that_python_cannot_say_are_read() -> None:
    """P2: a time of Arrow's beyond the year 9999."""
    late = pd.arrays.ArrowExtensionArray(pa.array([1 << 58], pa.timestamp("us")))
    frame = pd.DataFrame([[1.5]], index=pd.date_range("2026-01-01", periods=1)).set_axis(pd.Index(late), axis=1)
    assert there_and_back(frame).columns.array._pa_array.equals(late._pa_array)


@pytest.mark.parametrize("around", ["", "list", "struct"])
def test_pieces_keep_dictionaries_that_arrow_holds_to_be_equal(around: str) -> None:
    """P2: its stream leaves out a dictionary that equals the one before, and 0.0 equals -0.0."""

    def piece(number: float) -> Any:
        array = pa.DictionaryArray.from_arrays([0, 0], pa.array([number]))
        if around == "list":
            return pa.ListArray.from_arrays([0, 1, 2], array)
        return pa.StructArray.from_arrays([array], ["a"]) if around else array

    array = pa.chunked_array([piece(number) for number in (0.0, -0.0, 1.0, math.nan, -math.nan)])
    for value in (array, pa.table({"a": array, "b": range(10)})):
        assert same(value, sealed_and_back(value, "auto")) is True
    if not around:
        back = sealed_and_back(pd.Series(pd.arrays.ArrowExtensionArray(array)), "auto")
        assert [math.copysign(1, number) for number in back[:4]] == [1, 1, -1, -1]


def test_dictionaries_of_dictionaries_are_not_left_to_arrows_stream() -> None:
    """P2: it gives such an index the values of the inner one."""
    inner = pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array([1, 2]))
    table = pa.table({"c": pa.DictionaryArray.from_arrays(pa.array([0, 1, 1]), inner)})
    for value in (table, table.schema, table.schema.field(0).type):
        payload = dumps(value, allow_pickle=True)
        assert payload.pickled
        assert loads(payload.meta, payload.buffers, trusted=True).equals(value)


def test_an_empty_array_of_arrow_keeps_its_dictionary() -> None:
    """P2: of a table without rows Arrow writes no batch, and so nothing of what is in one."""
    array = pa.array(["a", "b"]).dictionary_encode().slice(0, 0)
    assert there_and_back(array).dictionary.to_pylist() == ["a", "b"]
    batch = pa.record_batch({"a": array, "u": pa.nulls(0, pa.dense_union([pa.field("x", pa.int8())]))})
    assert same(batch, there_and_back(batch)) is True


def test_a_compressed_arrow_body_is_refused() -> None:
    """P5: we never write one, and it could claim any size."""
    table = pa.table({"a": pa.array(["x" * 100] * 1000).dictionary_encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write(table)
    body = sink.getvalue().to_pybytes()
    head = rules.BY_NAME[b"pa.Table"].head
    enc = stream.Encoder(allow_pickle=False)
    enc.out += head
    enc.blob(body)
    with pytest.raises(UnreadableEntry, match="compressed"):
        loads(bytes(enc.out), enc.buffers, trusted=False)


# Other processes


def test_importing_loads_no_library() -> None:
    """`import redis_memo` stays light; a library's rules come with its first object."""
    code = (
        "import sys; from redis_memo import _codecs\n"
        "_codecs.loads(_codecs.dumps({'a': [1, 2.5]}, allow_pickle=False).meta, (), trusted=False)\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'polars', 'pydantic', 'cloudpickle', 'pytz', 'dateutil', 'scipy', 'torch', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE.parent)


def test_a_second_process_reads_it_without_having_seen_the_library(tmp_path: pathlib.Path) -> None:
    """P2: the reader loads what the entry needs."""
    frame = pd.DataFrame(
        {"a": [1.5], "b": pd.Categorical(["x"])}, index=pd.date_range("2024", periods=1, tz=KOLKATA, freq="D")
    )
    payload = dumps(frame, allow_pickle=False)
    (tmp_path / "meta").write_bytes(payload.meta)
    code = (
        "import sys, pathlib; from redis_memo import _codecs\n"
        "assert 'pandas' not in sys.modules\n"
        "frame = _codecs.loads(pathlib.Path(sys.argv[1]).read_bytes(), (), trusted=False)\n"
        "print(frame.index.tz, frame.index.freq, frame['b'].dtype, frame['a'].iloc[0])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "meta")],
        check=True,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.split("\n")[0] == "tzoffset(None, 19800) <Day> category 1.5"


# Golden values: what was written stays readable, and is written again byte for byte


_SPARSE = np.array([[0, 1.5], [2.0, 0], [0, 0]])


def _palette_image() -> Any:
    image = Image.frombytes("P", (2, 1), b"\0\1")
    image.putpalette(bytes(range(8)), "RGBA")
    image.info["dpi"] = (72, 72)
    return image


def _golden_values() -> dict[str, Any]:
    stamps = pd.DatetimeIndex(np.array([1_700_000_000, 1_700_086_400], "M8[s]").astype("M8[ns]"))
    return {
        "none": None,
        "bools": [True, False],
        "ints": [0, -1, 2**63 - 1, 2**63, -(10**30)],
        "floats": [0.0, -0.0, float("inf"), NAN_PAYLOAD],
        "complex": 1 - 2j,
        "strings": ["", "ä", "\ud800", "x" * 300],
        "bytes": [b"", b"\0" * 300, bytearray(b"abc")],
        "packed": [[1.5] * 16, [1] * 16, [True] * 16, list("abcdefghijklmnop"), ["a\0"] * 5 + list("bcdefghijkl")],
        "mixed": [None, 1, "a", 1.5] * 4,
        "tuple": (1, ("a",)),
        "dict": {"symbol": "INFY", "price": 1.5, "n": 3},
        "long dict": {str(n): n for n in range(20)},
        "set": frozenset([3]),
        "records": [{"date": dt.datetime(2024, 1, 1, 9, n, tzinfo=KOLKATA), "close": n / 4} for n in range(16)],
        "records twice": [[{"n": n} for n in range(20)] * 2, [(n, 1.5) for n in (0, 1)] * 20, [[()] * 300]],
        "dates": [
            dt.date(2024, 1, 1),
            dt.time(9, 15),
            dt.timedelta(1, 2, 3),
            dt.datetime(2024, 1, 1, fold=1, tzinfo=dt.UTC),
        ],
        "zones": [
            dt.timezone(dt.timedelta(hours=5), "X"),
            zoneinfo.ZoneInfo("Asia/Kolkata"),
            KOLKATA,
            pytz.utc,
            pytz.FixedOffset(330),
            pytz.timezone("Asia/Kolkata").localize(dt.datetime(2024, 1, 1)).tzinfo,
        ],
        "stdlib": [
            range(3),
            slice(1, None),
            ...,
            collections.OrderedDict(a=1),
            collections.deque([1], 2),
            collections.Counter("a"),
            __import__("decimal").Decimal("1.50"),
            pathlib.PurePosixPath("a/b"),
            re.compile("a", re.I),
        ],
        "classes": [Order("A", [1]), Quote(1, 2), Tick(1, 2.5), Side.BUY, Mode.LTP | Mode.FULL],
        "array": np.arange(6, dtype="<i4").reshape(2, 3).T,
        "large array": np.zeros(600),
        "object array": np.array([None, "a", 1], dtype=object),
        "structured": np.array([(1, b"ab")], dtype=[("a", "<i2"), ("b", "S3")]),
        "scalars": [
            np.float64(1.5),
            np.datetime64("2024-01-01", "D"),
            pd.Timestamp("2024-01-01").as_unit("ns"),
            pd.NaT,
            pd.NA,
            pd.offsets.MonthEnd(3),
        ],
        "series": pd.Series([1.5, 2.5], index=stamps, name="close"),
        "frame": pd.DataFrame(
            {
                "a": [1.5, 2.5],
                "b": [1, 2],
                "c": pd.Categorical.from_codes([0, 1], pd.Index(["x", "y"], dtype=object)),
                "d": pd.array([1, None], dtype="Int64"),
                "e": pd.array(["x", None], dtype=pd.StringDtype("python")),
            },
            index=stamps.tz_localize("UTC").tz_convert(KOLKATA),
        )
        .rename_axis(columns=None)
        .set_axis(pd.Index(list("abcde"), dtype=object), axis=1),
        "instruments": [
            {
                "tradingsymbol": f"N{number % 80}26JUL{number // 80 * 50 + 100}CE" if number % 9 else f"{number}-BE",
                "name": f"N{number % 80}",
                "strike": number // 80 * 50 + 100.0,
                "exchange": "NFO" if number % 9 else "NSE",
                "segment": "NFO-OPT" if number % 9 else "NSE",
            }
            for number in range(4_096)
        ],
        "candles": [
            {
                "date": dt.datetime(2024, 1, 1, 9 + n // 60, n % 60, 30, n, tzinfo=KOLKATA),
                "close": n / 4 if n % 4 else n // 4,
            }
            for n in range(70)
        ],
        "quotes": {
            f"NSE:{'ABC'[n % 3]}{n}": {
                "last_price": n / 4 if n % 4 else n // 4,
                "traded": dt.datetime(2024, 1, 1, 9, n) if n % 5 else None,
                "ohlc": {"open": n / 2, "close": n / 8},
                "depth": {side: [{"price": n + m / 4, "orders": m} for m in range(5)] for side in ("buy", "sell")},
                "tags": ["x"] * (n % 3),
            }
            for n in range(10)
        },
        "rows": [[(n, f"N{n}", n / 2) for n in range(9)], [[f"2024-01-{n:02}", n / 2, n] for n in range(10, 20)]],
        "companies": [
            {
                "tradingsymbol": f"C{n % 61}{'AB'[n % 2]}{n % 59}{'-BE' * (n % 3 == 0)}",
                "name": f"C{n % 61} {'AB'[n % 2]}{n % 59} LTD",
            }
            for n in range(4_096)
        ],
        "prices": pd.DataFrame(
            {"open": np.arange(600) / 20, "high": np.arange(600) / 10, "rsi": np.sqrt(np.arange(600)), "n": range(600)},
            columns=pd.Index(["open", "high", "rsi", "n"], dtype=object),
        ),
        "ordered with attributes": _with_attributes(collections.OrderedDict(a=1), {"_metadata": {"version": 1}}),
        "matrices": [
            sp.csr_array(_SPARSE),
            sp.bsr_matrix(_SPARSE, blocksize=(1, 2)),
            sp.coo_array(_SPARSE),
            sp.dia_array(_SPARSE),
            sp.lil_matrix(_SPARSE),
            sp.dok_array(_SPARSE),
        ],
        "images": [Image.frombytes("RGB", (2, 1), b"abcdef"), _palette_image()],
        "multi": pd.MultiIndex.from_arrays([pd.Index([1, 2]), pd.Index([0.5, 1.5])], names=["a", None]),
    }


def _as_json(payload: Payload) -> dict[str, Any]:
    return {"meta": payload.meta.hex(), "buffers": [bytes(buffer).hex() for buffer in payload.buffers]}


WHOLE = [0, 1, -7, 2**53, -(2**53)]
PRICES = [0.0, -0.0, 1.0, 2.5, float("inf"), -float("inf"), float("nan"), NAN_PAYLOAD, 1e300, 2.0**60]


@quick(100)
@given(
    st.lists(st.sampled_from([*WHOLE, *PRICES, 2**53 + 1, 10**400, True, None]), min_size=16, max_size=60)
    | st.lists(st.sampled_from([*WHOLE, *PRICES]), min_size=16, max_size=60)
)
def test_integers_among_floats_stay_integers(prices: list[Any]) -> None:
    """P2: `100` and `100.0` are two prices, as a broker's JSON has both."""
    assert same(prices, there_and_back(prices)) is True


def moments(*columns: bytes) -> Any:
    """What a column of moments holds that was planted: years, microseconds, months, days, hours, minutes, seconds."""
    enc = stream.Encoder(allow_pickle=False)
    enc.out += b"LD"
    enc.put(dt.UTC)
    for column in columns:
        enc.blob(column)
    return loads(bytes(enc.out), (), trusted=False)


EDGES = [
    *itertools.product((0, 1, 255, 256, 1900, 2023, 2024, 9_983, 9_984, 9_999, 10_000, 65_535), (1, 2), (28, 29)),
    *itertools.product((2023, 2024), (0, 1, 2, 4, 12, 13, 129, 255), (0, 1, 28, 29, 30, 31, 32, 255)),
]
TIMES = [
    *((hour, 0, 0, 0) for hour in (0, 23, 24, 255)),
    *((0, minute, 0, 0) for minute in (59, 60, 255)),
    *((0, 0, second, 0) for second in (59, 60, 255)),
    *((0, 0, 0, micro) for micro in (1, 999_999, 1_000_000, 2**24, 2**32 - 1)),
]


@pytest.mark.parametrize("beside", [dt.datetime(2024, 1, 28, tzinfo=dt.UTC), dt.datetime(2024, 2, 29, tzinfo=dt.UTC)])
def test_a_planted_moment_is_one_that_there_is(beside: dt.datetime) -> None:
    """P5, P6: what makes them does not look at what it is given."""
    times = [((2024, 1, 1), clock) for clock in TIMES]
    for (year, month, day), (hour, minute, second, micro) in [*((each, TIMES[0]) for each in EDGES), *times]:
        columns = (
            struct.pack("<HH", beside.year, year),
            struct.pack("<II", 0, micro),
            *(bytes(pair) for pair in ((beside.month, month), (beside.day, day), (0, hour), (0, minute), (0, second))),
        )
        try:
            right = dt.datetime(year, month, day, hour, minute, second, micro, tzinfo=dt.UTC)
        except (ValueError, OverflowError):
            with pytest.raises(UnreadableEntry):
                moments(*columns)
        else:
            assert moments(*columns) == [beside, right]


def test_moments_of_columns_that_are_not_alike_are_no_value() -> None:
    whole = [struct.pack("<H", 2024), struct.pack("<I", 0), b"\1", b"\1", b"\0", b"\0", b"\0"]
    assert moments(*whole) == [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)]
    for number, column in enumerate(whole):
        for wrong in (column[:-1], column + b"\1", column * 2):
            with pytest.raises(UnreadableEntry):
                moments(*whole[:number], wrong, *whole[number + 1 :])


def test_golden_values_cover_what_is_written_today() -> None:
    """The golden file and the list here name the same values. To add some: `python -m tests.test_values`."""
    assert set(json.loads(GOLDEN.read_text())) == set(_golden_values())


@pytest.mark.parametrize("name", _golden_values())
def test_golden_value(name: str) -> None:
    """P2 over time: entries written by an older version are read, and this version writes them the same."""
    value, kept = _golden_values()[name], json.loads(GOLDEN.read_text())[name]
    back = loads(bytes.fromhex(kept["meta"]), [bytes.fromhex(buffer) for buffer in kept["buffers"]], trusted=False)
    assert same(value, back) is True
    assert _as_json(dumps(value, allow_pickle=False)) == kept


def test_what_an_older_version_wrote_in_another_way_is_still_read() -> None:
    """P2 over time: a tag's meaning never changes."""
    for name, kept in json.loads(GOLDEN.with_name("values_older.json").read_text()).items():
        back = loads(bytes.fromhex(kept["meta"]), [bytes.fromhex(buffer) for buffer in kept["buffers"]], trusted=False)
        assert same(_golden_values()[name.partition("/")[0]], back) is True, name


def _write_missing_golden_values() -> None:
    kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    for name, value in _golden_values().items():
        kept.setdefault(name, _as_json(dumps(value, allow_pickle=False)))
    GOLDEN.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    _write_missing_golden_values()
