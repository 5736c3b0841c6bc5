"""Promise P2 for dicts, lists and tuples that are alike, within each other: they are stored as columns."""

from __future__ import annotations

import datetime as dt
import pickle
import subprocess
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_memo import _codecs_records, _codecs_shared
from redis_memo._codecs import dumps, loads
from redis_memo._codecs_stream import Encoder
from redis_memo.errors import UnreadableEntry

from .strategies import same
from .test_values import quick, there_and_back

LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "float": st.floats(),
    "price": st.integers(-(2**60), 2**60) | st.floats() | st.integers(0, 9),
    "int": st.integers(),
    "bool": st.booleans(),
    "text": st.sampled_from(["NSE", "BSE", "", "a\0b", "\ud800", "x" * 300]),
    "text or None": st.none() | st.text(max_size=3),
    "moment": st.datetimes(),
    "moment with zone": st.datetimes(timezones=st.just(dt.UTC)),
    "anything": st.none() | st.booleans() | st.integers() | st.text(max_size=2) | st.just(()) | st.builds(list),
}

Shape = Any  # a name of LEAVES, a dict of shapes, (shapes, kind) for a row, or [shape, lengths]
keys = st.lists(st.text(max_size=3), min_size=1, max_size=3, unique=True)
shapes: st.SearchStrategy[Shape] = st.recursive(
    st.sampled_from(sorted(LEAVES)),
    lambda inner: st.one_of(
        keys.flatmap(lambda names: st.fixed_dictionaries(dict.fromkeys(names, inner))),
        st.tuples(st.lists(inner, min_size=1, max_size=3), st.sampled_from([list, tuple])),
        st.tuples(inner, st.sampled_from([(0, 3), (2, 2), (1, 1), (0, 0)])).map(list),
    ),
    max_leaves=8,
)


def of_shape(draw: st.DrawFn, shape: Shape) -> Any:
    if isinstance(shape, str):
        return draw(LEAVES[shape])
    if isinstance(shape, dict):
        return {name: of_shape(draw, inner) for name, inner in shape.items()}
    if isinstance(shape, tuple):
        return shape[1](of_shape(draw, inner) for inner in shape[0])
    inner, (least, most) = shape
    return [of_shape(draw, inner) for _ in range(draw(st.integers(least, most)))]


def inner_containers(value: Any) -> list[Any]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [value, *(each for part in parts for each in inner_containers(part))] if parts else []


@st.composite
def alike(draw: st.DrawFn) -> Any:
    """Many values of one shape, or nearly so; some of them twice, some within each other."""
    shape = draw(shapes)
    items = [of_shape(draw, shape) for _ in range(draw(st.integers(6, 20)))]
    way = draw(st.sampled_from(["", "", "", "one unlike", "one twice", "a part twice", "around itself", "all twice"]))
    place = draw(st.integers(0, len(items) - 1))
    parts = [part for part in inner_containers(items) if isinstance(part, (list, dict))]
    if way == "one unlike":
        items[place] = of_shape(draw, draw(shapes))
    elif way == "one twice":
        items[place] = items[0]
    elif way == "all twice":
        items += items[place:] + items
    elif way == "a part twice":
        items[place] = draw(st.sampled_from(parts))
    elif way == "around itself":
        into = draw(st.sampled_from(parts))
        if isinstance(into, list):
            into.append(draw(st.sampled_from(parts)))
        else:
            into["more"] = draw(st.sampled_from(parts))
    kind = draw(st.sampled_from(["list", "list", "tuple", "dict", "beside"]))
    if kind == "beside":
        return [items, draw(st.sampled_from(parts))]
    if kind == "dict":
        return {f"NSE:{number}": item for number, item in enumerate(items)}
    return tuple(items) if kind == "tuple" else items


@pytest.mark.parametrize("few", [256, 4])
@quick(250)
@given(value=alike())
def test_what_is_alike_comes_back_as_it_is(few: int, value: Any) -> None:
    """P2: order of keys, types, who is whose part and which are one object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_codecs_records, "_FEW_ROWS", few)
        patch.setattr(_codecs_shared, "PACK_FROM", min(few, 16))
        try:
            payload = dumps(value, allow_pickle=True)
        except RecursionError:
            return
        back = loads(payload.meta, [bytes(buffer) for buffer in payload.buffers], trusted=payload.pickled)
        assert same(value, back) is True


def quote(number: int) -> dict[str, Any]:
    """As Kite's client returns one."""
    sides = {
        side: [{"quantity": number * 7 % 50 + n, "price": number / 4 + n / 20, "orders": n} for n in range(5)]
        for side in ("buy", "sell")
    }
    return {
        "instrument_token": 256_265 + number,
        "timestamp": dt.datetime(2026, 2, 2, 9, 15, number % 60),
        "last_price": number / 20,
        "net_change": 0 if number % 3 else 0.5,
        "ohlc": {name: number / 20 + n for n, name in enumerate(("open", "high", "low", "close"))},
        "depth": sides,
    }


def test_quotes_take_a_part_of_what_their_pickle_does() -> None:
    """A quote of many symbols is one table with tables in it, not a thousand dicts."""
    quotes = {f"NSE:N{number}": quote(number) for number in range(200)}
    payload = dumps(quotes, allow_pickle=False)
    assert same(quotes, there_and_back(quotes)) is True
    size = len(payload.meta) + sum(map(len, payload.buffers))
    named = {f"NSE:N{number}": list(quote(number)) for number in range(200)}
    assert size < 1.3 * len(pickle.dumps(quotes, 5)) and payload.meta.count(b"orders") == 1  # noqa: PT018
    assert b"instrument_token" in payload.meta
    assert there_and_back(named) == named


def stored_size(value: Any) -> int:
    payload = dumps(value, allow_pickle=False)
    return len(payload.meta) + sum(map(len, payload.buffers))


WAYS_TO_SHARE = {
    "first again": lambda rows: [*rows, rows[0]],
    "thrice": lambda rows: rows * 3,
    "two indexes": lambda rows: {
        "token": dict(enumerate(rows)),
        "symbol": {f"N{n}": row for n, row in enumerate(rows)},
    },
    "backwards": lambda rows: [rows, rows[::-1]],
    "some beside": lambda rows: [rows[100:], rows[:200], rows[5]],
    "one for all": lambda rows: [rows, [{"n": number, "row": rows[7]} for number in range(300)]],
    "for some": lambda rows: [{"n": number, "row": rows[number] if number % 3 else rows[7]} for number in range(300)],
    "with others": lambda rows: [[*rows, rows[0], None, 1.5, None]],
}


@pytest.mark.parametrize("way", WAYS_TO_SHARE)
@pytest.mark.parametrize("kind", [dict, tuple, list])
def test_a_row_that_is_there_twice_leaves_the_rows_in_columns(way: str, kind: type) -> None:
    """P2: it comes back as one object, and takes a few bytes for each place that it has."""
    made = [dict(quote(number), depth=None) for number in range(300)]
    rows = made if kind is dict else [kind(row.values()) for row in made]
    value = WAYS_TO_SHARE[way](rows)
    back = there_and_back(value)
    assert same(value, back) is True
    assert stored_size(value) < stored_size(rows) + 13 * 600


def test_rows_that_are_there_twice_are_their_callers_own() -> None:
    """P2: who changes one changes it in both of its places, and for nobody else."""
    rows = [{"n": number} for number in range(40)]
    payload = dumps([*rows, *rows], allow_pickle=False)
    mine, yours = (loads(payload.meta, payload.buffers, trusted=False) for _ in range(2))
    mine[3]["n"] = "changed"
    assert mine[43]["n"] == "changed"
    assert yours == rows * 2


def test_rows_that_a_value_has_elsewhere_are_not_written_again() -> None:
    tags = ["a", "b"]
    rows = [{"n": number, "tags": tags} for number in range(400)]
    assert stored_size([rows, rows[:200], dict(enumerate(rows))]) < 3.5 * stored_size(rows)
    assert same([tags, rows], there_and_back([tags, rows])) is True


def test_what_contains_itself_many_times_comes_back() -> None:
    around: list[Any] = []
    around += [around] * 20
    back = there_and_back(around)
    assert len(back) == 20
    assert all(each is back for each in back)


def test_rows_of_a_database_are_columns() -> None:
    rows = [(number, f"N{number}", number / 7, None if number % 5 else "x") for number in range(500)]
    assert same(rows, there_and_back(rows)) is True
    assert same([list(row) for row in rows], there_and_back([list(row) for row in rows])) is True


def test_texts_that_repeat_are_written_once_beside_others_that_do_not() -> None:
    """Columns of one kind are written as one, but not at the price of an exchange's name in each row."""
    rows = [{"symbol": f"S{n}", "name": f"N{n}", "isin": f"I{n}", "exchange": "NSE", "type": "EQ"} for n in range(20)]
    meta = dumps(rows, allow_pickle=False).meta
    assert (meta.count(b"NSE"), meta.count(b"EQ")) == (1, 1)
    assert there_and_back(rows) == rows


def test_how_long_short_lists_are_takes_a_byte_each() -> None:
    """As the tags of orders: eight bytes each would be more than what is in them."""
    for count, most in ((8, 60), (100, 400)):
        tags = [["a", "b", "c"][: number % 4] for number in range(count)]
        assert len(dumps(tags, allow_pickle=False).meta) < most
        assert there_and_back(tags) == tags


def test_a_wide_table_of_hundreds_of_rows_is_read_cell_by_cell() -> None:
    """Columns that are made before the rows are take twice as long as those that are made with them."""
    rows = [{f"k{key}": key * row / 3 for key in range(300)} for row in range(256)]
    payload = dumps(rows, allow_pickle=False)
    assert payload.meta[:2] == b"LR"
    assert there_and_back(rows) == rows


@pytest.mark.parametrize(
    "cell",
    [[1.5], [], (1, True), {"a": True}, [[["x"]]], {"a": {"b": [(None, 1), (None, 2)]}}, [{"a": {}}] * 2],
    ids=str,
)
@pytest.mark.parametrize("rows", [20, 700, 5000])
def test_a_column_of_tables_can_be_passed_over(cell: Any, rows: int) -> None:
    """Whoever wants one column of a frame gets it without the others, whatever is in these."""
    cells = np.empty(rows, object)
    cells[:] = [pickle.loads(pickle.dumps(cell)) for _ in range(rows)]
    frame = pd.DataFrame({"close": np.arange(rows) / 4, "legs": cells, "volume": np.arange(rows)})
    payload = dumps(frame, allow_pickle=False)
    found = loads(payload.meta, payload.buffers, trusted=False, columns=["volume", "close"])
    assert same(found, frame[["volume", "close"]]) is True
    assert same(loads(payload.meta, payload.buffers, trusted=False, columns=["legs"]), frame[["legs"]]) is True


def test_objects_that_are_claimed_to_be_passed_over_are_not_believed() -> None:
    """P5, P6: a place for each of them would fill the memory."""
    payload = dumps(pd.DataFrame({"legs": [[1.5] for _ in range(20)], "close": 2.5}), allow_pickle=False)
    node = payload.meta.index(b"C") + 2
    length, buffers, objects, _ = payload.meta[node : node + 4]
    assert not buffers and 20 <= objects <= length  # noqa: PT018
    planted = payload.meta[: node + 2] + b"\xff" + (10 * length).to_bytes(8, "little") + payload.meta[node + 3 :]
    with pytest.raises(UnreadableEntry, match="in parts"):
        loads(planted, payload.buffers, trusted=False, columns=["close"])


def test_a_column_that_shares_its_cells_with_one_that_was_passed_over_is_not_read_alone() -> None:
    """P2: then the frame is read as a whole."""
    cells = np.empty(600, object)
    cells[:] = [{"n": number} for number in range(600)]
    frame = pd.DataFrame({"legs": cells, "again": cells, "close": 2.5})
    payload = dumps(frame, allow_pickle=False)
    with pytest.raises(UnreadableEntry, match="before it exists"):
        loads(payload.meta, payload.buffers, trusted=False, columns=["again"])
    found = loads(payload.meta, payload.buffers, trusted=False, columns=["close"])
    assert same(found, frame[["close"]]) is True
    assert same(frame, loads(payload.meta, payload.buffers, trusted=False)) is True


def test_p7_what_is_remembered_of_tables_is_little() -> None:
    """A row may have as many fields as a planted entry says; only what is narrow is remembered."""
    _codecs_records._known_places.cache_clear()
    for width in (3, 64, 65, 300, 20_000):
        rows = [tuple([1.5, "x"] * width)[:width] for _ in range(9)]
        assert same(rows, there_and_back(rows)) is True
    assert _codecs_records._known_places.cache_info().currsize == 2


def test_tables_within_tables_end_somewhere() -> None:
    """P5: deeper ones are written one by one, and read all the same."""
    for depth in (*range(1, 12), 60):
        rows: list[Any] = [number for number in range(9)]
        for _ in range(depth):
            rows = [{"a": row} for row in rows]
        assert same(rows, there_and_back(rows)) is True


def test_tables_beside_tables_do_not_end() -> None:
    """Each of twenty is a table, whatever was written before it."""
    value = {
        str(number): {f"only {number}": [{"price": number + n / 4, "rows": [n] * 3} for n in range(9)]}
        for number in range(20)
    }
    payload = dumps(value, allow_pickle=False)
    assert payload.meta.count(b"price") == 20
    assert same(value, there_and_back(value)) is True


def planted(levels: int, count: int = 1000) -> bytes:
    """A table of one key, in a table of one key, and so on; each level a few bytes, and as many dicts as rows."""
    enc = Encoder(allow_pickle=False)
    enc.out += b"L"
    for _ in range(levels):
        enc.out += b"r"
        enc.size(count)
        enc.out += b"g\x01s\x01a"
        enc.blob(b"\0")
    enc.out += b"?"
    enc.blob(bytes(count))
    return bytes(enc.out)


def test_few_bytes_do_not_become_many_objects() -> None:
    """P6: a level of a planted table costs twelve bytes."""
    assert len(loads(planted(_codecs_records.DEEPEST), (), trusted=False)) == 1000
    with pytest.raises(UnreadableEntry):
        loads(planted(_codecs_records.DEEPEST + 1), (), trusted=False)


@pytest.mark.parametrize(
    "meta",
    [
        b"Lr\xff" + (1 << 40).to_bytes(8, "little") + b"g\x01s\x01a\x01\0g\0",
        b"Lr\x02g\x00\x01\0g\x02NN",
        b"Lr\x02g\x01s\x01a\x00",
        b"Lr\x02g\x01s\x01a\x01\x01g\x02NN",
        b"Lr\x02g\x01s\x01a\x02\0\0g\x04NNNN",
        b"Lr\x02g\x01s\x01a\x01\0g\x03NNN",
        b"Lr\x02g\x01N\x01\0g\x02NN",
        b"Lt\x02\x00\x00",
        b"Lt\xff" + (1 << 40).to_bytes(8, "little") + b"\x01\x01\0g\0",
        b"Ll\xff" + (1 << 40).to_bytes(8, "little") + b"\x01g\x00",
        b"Ll\x02\x02g\x03NNN",
        b"Ll\x02\x00g\x02i" + (-1).to_bytes(8, "little", signed=True) + b"i" + (2).to_bytes(8, "little") + b"g\x01N",
        b"Ll\x02\x00g\x02TTg\x02NN",
        b"Ll\x01\x00g\x02i" + bytes(8) + b"i" + bytes(8) + b"g\x00",
        b"Ll\x00\x00g\x00g\x00",
        b"L@g\x01m\x00\x01\x01\x00B\x02\x00\x01",  # there is none of that index
        b"L@g\x01m\x00\x01\x00\x01B\x02\x00\x00",
        b"L@g\x01m\x00\x01\x01\x00b\x02\x00\x00",
        b"L@g\x01m\x00\xff" + b"\xff" * 8 + b"\x01\x00B\x02\x01\x01",
        b"L" + b"@" * 3000,
        b"L@@g\x01m\x00\x01\x01\x00B\x02\x00\x00\x01\x01\x00B\x02\x00\x00",
    ],
)
def test_a_table_that_does_not_add_up_is_unreadable(meta: bytes) -> None:
    """P5, P6: whatever it claims, nothing is made of what is not there."""
    with pytest.raises(UnreadableEntry):
        loads(meta, (), trusted=False)


def test_lengths_that_would_take_for_ever_to_add_up_are_not_added_up() -> None:
    """P5, P6: a number of 80 KB, 80,000 times, is 240 KB, and kept the reader busy for ten seconds."""
    enc = Encoder(allow_pickle=False)
    enc.out += b"Ll\x80\x00vBg\x02"
    for low in (0, 1):
        enc.put((1 << 1000) + low)
    enc.blob(bytes((0, 1)) * 64)
    enc.out += b"g\x00"
    with pytest.raises(UnreadableEntry, match="damaged"):
        loads(bytes(enc.out), (), trusted=False)


SAMPLES = [
    dumps(value, allow_pickle=False)
    for value in (
        {f"NSE:N{number}": quote(number) for number in range(10)},
        [(number, f"N{number}", number / 7) for number in range(9)],
        [["x"] * (number % 3) for number in range(9)],
        [[f"{number}", number] for number in range(9)],
        [{"n": number} for number in range(20)] * 2,
    )
]


@pytest.mark.parametrize("sample", SAMPLES, ids=["quotes", "tuples", "lists", "rows", "shared"])
@quick(200)
@given(st.data())
def test_a_damaged_table_is_unreadable_or_a_value_and_nothing_else(sample: Any, data: st.DataObject) -> None:
    """P5, P6: whoever has no secret can plant any bytes behind a right checksum."""
    meta = bytearray(sample.meta)
    for at in data.draw(st.lists(st.integers(0, len(meta) - 1), min_size=1, max_size=4)):
        meta[at] = data.draw(st.integers(0, 255))
    with suppress(UnreadableEntry):
        repr(loads(bytes(meta), sample.buffers, trusted=False))


def minutes(count: int) -> list[dict[str, Any]]:
    """Candles as JSON has them: prices that are whole are integers."""
    rng = np.random.default_rng(count)
    ticks = np.rint(28_000 + rng.normal(0, 6, (4, count)).cumsum(axis=1)[0] + rng.normal(0, 8, (4, count)))
    prices = [
        [int(price) if price == int(price) else price for price in row] for row in np.round(ticks * 0.05, 2).tolist()
    ]
    volume = rng.lognormal(8, 1, count).astype(int).tolist()
    begin = dt.datetime(2025, 6, 2, 9, 15, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))
    dates = [begin + dt.timedelta(minutes=number % 375, days=number // 375) for number in range(count)]
    names = ("date", "open", "high", "low", "close", "volume")
    return [dict(zip(names, row, strict=True)) for row in zip(dates, *prices, volume, strict=True)]


STORED = """
import pickle, sys
rows = pickle.loads(sys.stdin.buffer.read())
if sys.argv[1] == "loaded":
    import numpy
from redis_memo._codecs import dumps, loads
from redis_memo._envelope import Sealer, Stamp
payload = dumps(rows, allow_pickle=False)
envelope, _ = Sealer(()).seal(
    "key", payload.meta, payload.buffers, kinds=payload.kinds, pickled=False, stamp=Stamp(0.0, 0.0, 0.0, 0.0)
)
entry = Sealer(()).open("key", envelope)
assert loads(entry.meta, entry.buffers, trusted=False) == rows
print(len(envelope), "numpy" in sys.modules)
"""


def test_some_hundred_candles_are_columns_of_numbers_where_numpy_is_loaded() -> None:
    """It is not loaded for them, which would take longer than all the rest."""
    rows = pickle.dumps(minutes(1_500))
    found = {
        how: subprocess.run(
            [sys.executable, "-c", STORED, how], input=rows, capture_output=True, check=True
        ).stdout.split()
        for how in ("loaded", "not loaded")
    }
    assert [loaded for _, loaded in found.values()] == [b"True", b"False"]
    assert int(found["loaded"][0]) < 0.7 * int(found["not loaded"][0])


@pytest.mark.parametrize("kind", [list, tuple])
def test_what_is_shared_at_every_depth_is_read_as_deep_as_it_was_written(kind: type) -> None:
    """P2: to read places takes more of the stack than to read one by one."""
    value: Any = [1]
    for _ in range(150):
        value = kind([value] * 40)
    payload = dumps(value, allow_pickle=False)
    back = loads(payload.meta, payload.buffers, trusted=False)
    for _ in range(150):
        assert len({id(item) for item in back}) == 1
        back = back[0]
    assert back == [1]
