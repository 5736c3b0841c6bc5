"""Arrays and frames have one key for what they say, however they keep it: promise P1."""

from __future__ import annotations

import datetime as dt
import io
import pickle
import zoneinfo

import numpy as np
import pandas as pd
import pytest
import pytz
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from redis_memo._keys import encode
from redis_memo.errors import KeyingError
from tests.test_keys import different, same

DTYPES = [
    *(
        "bool",
        "i1",
        "<i4",
        ">i4",
        "u8",
        "f2",
        "f4",
        "<f8",
        ">f8",
        "g",
        "c8",
        "<c16",
        "G",
        "S3",
        "U2",
        "V5",
        "M8[D]",
        "m8[ns]",
    ),
    *("O", [("a", "i1"), ("b", "<f8")], [("a", "i1", (2,)), ("s", [("x", "U1"), ("o", "O")])]),
    np.dtype({"names": ["a", "b"], "formats": ["f4", "i2"], "offsets": [8, 1], "itemsize": 24}),
]


def filled(dtype, shape, seed=0):
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if dtype.names is not None or dtype.subdtype is not None:
        array = np.zeros(shape, dtype)
        for name in dtype.names:
            array[name] = filled(dtype[name].base, array[name].shape, seed)
        return array
    numbers = np.asarray((rng.integers(0, 50, shape) * 2 + seed) % 200)  # odd seeds give other numbers than even ones
    if dtype.kind == "b":
        return np.full(shape, bool(seed))
    between = {"M": "M8[D]", "V": "S3"}.get(dtype.kind, "i8")
    return numbers.astype(between).astype(dtype)


# ------------------------------------------------------------------------------------------------------------- numpy


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (4, 6), (2, 3, 4), (3, 0)], ids=str)
def test_p1_memory_layout_does_not_count_and_elements_do(dtype, shape):
    array = filled(dtype, shape)
    copies = [array.copy(), array.T.copy().T]
    if array.dtype.isnative:  # numpy's pickles come back in the machine's byte order
        copies.append(pickle.loads(pickle.dumps(array)))
    if shape:
        wide = np.zeros((*shape[:-1], shape[-1] * 3), array.dtype)
        wide[..., ::3] = array
        copies += [np.asfortranarray(array), wide[..., ::3], array[::-1].copy()[::-1]]
    copies[0].flags.writeable = False
    same(array, *copies)
    if array.size:
        other = array.copy()
        other[(-1,) * array.ndim] = filled(dtype, (), seed=5)
        different(array, other)
    if array.ndim == 2:
        different(array, array.reshape(array.shape[::-1]))
        different(array, array.reshape(-1))


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)), st.randoms())
def test_p1_any_array_by_dtype_shape_and_elements(array, rng):
    axes = list(range(array.ndim))
    rng.shuffle(axes)
    same(array, array.transpose(axes).copy().transpose(np.argsort(axes)) if array.ndim else array.copy())
    different(array, array[np.newaxis])
    other = (
        array.astype(">i2" if array.dtype != np.dtype(">i2") else "<i2", casting="unsafe")
        if array.dtype.kind in "iub"
        else None
    )
    if other is not None:
        different(array, other)


def test_p1_dasks_confusion_of_orders():
    different(np.array([[1, 2], [3, 4]]), np.array([[1, 3], [2, 4]], order="F"))
    different(np.array(["a-b", "c"], object), np.array(["a", "b-c"], object))


@pytest.mark.parametrize("shape", [(300_001,), (1000, 301), (2, 200_001), (3, 2, 70_001), (70_001, 3)], ids=str)
def test_p1_large_arrays_in_any_layout(shape):
    array = np.random.default_rng(1).random(shape)
    padded = np.zeros((*shape[:-1], shape[-1] * 2))[..., ::2]
    padded[...] = array
    same(array, np.asfortranarray(array), padded, array[::-1].copy()[::-1])
    for place in (0, array.size // 2, array.size - 1):
        other = array.copy()
        other.reshape(-1)[place] += 1
        different(array, other)
    array.reshape(-1)[-2] = np.nan
    strange = array.copy()
    strange.reshape(-1)[-2] = -np.nan
    same(array, strange)
    assert np.signbit(strange.reshape(-1)[-2]), "the argument itself must stay as it was"


def test_p1_padding_is_not_content():
    for dtype in (np.dtype([("a", "i1"), ("b", "f8")], align=True), DTYPES[-1]):
        one = filled(dtype, (3,))
        raw = np.full(3 * dtype.itemsize, 0xAB, "u1").view(dtype)
        for name in dtype.names:
            raw[name] = one[name]
        same(one, raw)
    one = np.array([1, 2], np.longdouble)
    two = one.copy()
    if np.finfo(np.longdouble).nmant == 63:
        two.view("u1").reshape(2, -1)[:, 10:] = 7
    same(one, two)


def test_p1_structured_dtypes_by_offsets_titles_and_names():
    different(
        np.zeros(1, [("a", "i4"), ("b", "i4")]),
        np.zeros(1, [("b", "i4"), ("a", "i4")]),
        np.zeros(1, np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "itemsize": 12})),
        np.zeros(1, np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]})),
        np.zeros(1, [(("title", "a"), "i4"), ("b", "i4")]),
        np.zeros(1, "i8"),
    )


def test_p1_masked_arrays_without_what_lies_under_the_mask():
    same(np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 9], mask=[0, 1]))
    same(np.ma.array([1, 2]), np.ma.array([1, 2], mask=[0, 0]))
    different(np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0]), np.ma.array([1, 2]), np.array([1, 2]))
    array = np.ma.array([1.5, 2])
    before = encode(array)
    assert array.fill_value == 1e20  # reading it sets it
    assert encode(array) == before


def test_p1_other_things_of_numpy():
    same(np.random.default_rng(1), np.random.default_rng(1))
    different(np.random.default_rng(1), np.random.default_rng(2), np.random.RandomState(1), np.random.RandomState(2))
    same(np.random.RandomState(1), np.random.RandomState(1))
    strings = pytest.importorskip("numpy.dtypes").StringDType
    same(np.array(["a", "b"], strings()), np.array(["a", "x", "b"], strings())[::2])
    different(
        np.array(["a"], strings()), np.array(["a"], strings(na_object=None)), np.array(["a"]), np.array(["a"], object)
    )
    record = np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    different(record, np.asarray(record))
    with pytest.raises(KeyingError):
        encode(np.frompyfunc(abs, 1, 1))


def test_p1_equal_booleans_with_unequal_bytes():
    same(np.array([2, 0, 1], "u1").view(bool), np.array([True, False, True]))


# ------------------------------------------------------------------------------------------------------------ pandas


def frame_of_everything():
    return pd.DataFrame(
        {
            "a": [1.0, np.nan, 3],
            "b": ["x", None, "z"],
            "c": pd.Categorical(["u", "v", "u"]),
            "d": pd.date_range("2026-02-01", periods=3, tz="Asia/Kolkata"),
            "e": [1, 2, 3],
            "f": pd.array([1, None, 3], dtype="Int64"),
            "g": pd.array([True, None, False], dtype="boolean"),
            "h": [dt.date(2026, 2, 1)] * 3,
            "i": pd.period_range("2026-02", periods=3, freq="M"),
            "j": pd.interval_range(0, 3),
            "k": pd.array([1.0, 0, 0], dtype="Sparse[float]"),
            "m": pd.timedelta_range("1s", periods=3),
            "n": [True, False, True],
            "q": pd.date_range("2026-02-01", periods=3, tz="UTC"),
            "r": pd.Series([{"x": 1}, [1], None], dtype=object),
        }
    )


def test_p1_frames_differ_by_all_they_say():
    frame = frame_of_everything()
    other = [frame]
    for name in frame:
        changed = frame.copy()
        values = changed[name].tolist()
        changed[name] = pd.Series([values[0], values[0], values[0] if name != "h" else None], dtype=frame[name].dtype)
        other.append(changed)
    with_attrs = frame.copy()
    with_attrs.attrs["source"] = "kite"
    different(
        *other,
        with_attrs,
        frame.rename(columns={"a": "A"}),
        frame[list(frame)[::-1]],
        frame.rename_axis("x"),
        frame.rename_axis("x", axis=1),
        frame.set_axis([1, 2, 3]),
        frame.set_axis([0.0, 1.0, 2.0]),
        frame.iloc[:2],
        frame.iloc[::-1],
        frame.astype({"e": "int32"}),
        frame.astype({"e": "float64"}),
        frame.assign(n=frame["n"].astype(int)),
        frame.assign(d=frame["d"].dt.tz_convert("Asia/Colombo")),
        frame.assign(d=frame["d"].dt.as_unit("s")),
        frame["a"],
        frame[["a"]],
    )


def test_p1_frames_do_not_differ_by_how_they_came_about():
    frame = frame_of_everything()
    piecewise = pd.DataFrame(index=frame.index)
    for name in reversed(list(frame)):
        piecewise.insert(0, name, frame[name])
    same(
        frame,
        frame.copy(),
        piecewise,
        pickle.loads(pickle.dumps(frame)),
        pd.concat([frame.iloc[:1], frame.iloc[1:]]),
        frame.set_axis(pd.Index(np.array([0, 1, 2]))),
        frame.iloc[::-1].iloc[::-1],
        frame.astype(object).astype(frame.dtypes.to_dict()),
    )


def test_p1_a_parquet_round_trip_changes_no_key():
    pytest.importorskip("pyarrow")
    frame = frame_of_everything().drop(columns=["k", "r"])
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    back = pd.read_parquet(io.BytesIO(buffer.getvalue()))
    assert list(back.dtypes) == list(frame.dtypes)
    same(frame, back)


@pytest.mark.parametrize("rows", [0, 1, 7, 30_000])
def test_p1_block_layout_does_not_count(rows):
    numbers = np.random.default_rng(2).random((rows, 10))
    numbers[rows // 2 :, 3] = np.nan
    columns = {n: numbers[:, n].copy() for n in range(10)}
    scattered = pd.DataFrame(index=range(rows))
    for n in range(10):
        scattered[n] = columns[n]
    same(
        pd.DataFrame(numbers),
        pd.DataFrame(np.asfortranarray(numbers)),
        pd.DataFrame(columns),
        scattered,
        scattered.copy(),
    )
    mixed = pd.DataFrame({"a": columns[0], "b": np.arange(rows), "c": columns[2]})
    late = pd.DataFrame({"a": columns[0], "c": columns[2]})
    late.insert(1, "b", np.arange(rows))
    same(mixed, late)
    if rows:
        changed = pd.DataFrame(numbers.copy())
        changed.iloc[-1, -1] = 7.0
        different(pd.DataFrame(numbers), changed)


def test_p1_block_layout_does_not_count_for_the_other_byte_order_either():
    """numpy joins big-endian arrays into a native one."""
    together = pd.DataFrame(np.arange(8.0, dtype=">f4").reshape(4, 2))
    apart = pd.DataFrame(index=range(4))
    for name in together:
        apart[name] = together[name].to_numpy().copy()
    assert apart._mgr.nblocks == 2
    same(together, apart)


def test_p1_two_frames_with_one_repr():
    frame = pd.DataFrame({"a": np.arange(200_000.0)})
    other = frame.copy()
    other.iloc[100_000, 0] = -1
    assert repr(frame) == repr(other)
    different(frame, other)


def test_p1_indexes():
    different(
        pd.RangeIndex(3),
        pd.RangeIndex(3, name="x"),
        pd.Index([0, 1, 3]),
        pd.Index([0, 1, 2], dtype="int32"),
        pd.Index([0.0, 1, 2]),
        pd.Index([0, 1, 2], dtype=object),
        pd.Index(["0", "1", "2"]),
        pd.Index([], dtype="int64"),
        pd.Index([], dtype=object),
        pd.Index([(1, 2), (3, 4)], tupleize_cols=False),
        pd.MultiIndex.from_tuples([(1, 2), (3, 4)]),
    )
    same(pd.RangeIndex(3), pd.Index([0, 1, 2]), pd.RangeIndex(0, 3, 1))
    same(pd.RangeIndex(0), pd.RangeIndex(5, 5), pd.Index([], dtype="int64"))
    same(pd.RangeIndex(5, 6), pd.RangeIndex(5, 7, 2), pd.Index([5]))
    dates = pd.date_range("2026-02-01", periods=5)
    assert dates.freq is not None
    same(dates, pd.DatetimeIndex(dates, freq=None), dates._with_freq(None))
    product = pd.MultiIndex.from_product([["a", "b", "c"], [1, 2]], names=["x", "y"])
    same(
        product[2:], product[2:].remove_unused_levels(), pd.MultiIndex.from_tuples(list(product[2:]), names=["x", "y"])
    )
    same(product[[3, 0]], pd.MultiIndex.from_tuples([("b", 2), ("a", 1)], names=["x", "y"]))
    different(product, product.set_names(["x", "z"]), product[::-1], product[:4], product.swaplevel())
    gaps = pd.MultiIndex.from_tuples([("a", np.nan), ("b", 1), ("c", 2)])
    same(gaps[:2], pd.MultiIndex.from_tuples([("a", np.nan), ("b", 1)]))
    different(gaps[:2], pd.MultiIndex.from_tuples([("a", 1), ("b", np.nan)]))


def test_p1_what_lies_under_a_mask_and_how_text_is_kept_do_not_count():
    one, two = pd.array([1, 2], dtype="Int64"), pd.array([1, 5], dtype="Int64")
    one[1] = two[1] = pd.NA
    same(one, two)
    pytest.importorskip("pyarrow")
    kinds = [pd.StringDtype(storage, na_value=np.nan) for storage in ("python", "pyarrow")]
    same(*(pd.Series(["a", None, "ü", ""], dtype=kind) for kind in kinds))
    same(*(pd.DataFrame([[1]], columns=pd.Index(["a"], dtype=kind)) for kind in kinds))
    different(
        pd.Series(["a", None], dtype=object),
        pd.Series(["a", np.nan], dtype=object),
        pd.Series(["a", pd.NA], dtype=object),
        pd.Series(["a", pd.NaT], dtype=object),
        pd.Series(["a", None], dtype=kinds[0]),
        pd.Series(["a", None], dtype="string[python]"),
        pd.Series(["a", None], dtype="string[pyarrow]"),
        pd.Series(["a", ""], dtype=kinds[0]),
        pd.Series(["a", None], dtype="category"),
    )


def test_p1_categoricals():
    different(
        pd.Categorical(["a", "b"], categories=["a", "b"]),
        pd.Categorical(["a", "b"], categories=["b", "a"]),
        pd.Categorical(["a", "b"], categories=["a", "b", "c"]),
        pd.Categorical(["a", "b"], categories=["a", "b"], ordered=True),
        pd.Categorical(["a", None], categories=["a", "b"]),
        pd.Categorical([1, 2]),
    )
    same(pd.Categorical(["a"]), pd.Categorical.from_codes([0], categories=["a"]))


def test_p1_sparse_values_stored_or_not():
    stored = pd.arrays.SparseArray([0.0, 1.0], fill_value=0.0)
    full = pd.arrays.SparseArray([0.0, 1.0], fill_value=np.nan)
    full.fill_value = 0.0  # both elements stay stored
    assert len(full.sp_values) == 2
    same(stored, full)
    different(
        stored, pd.arrays.SparseArray([0.0, 1.0], fill_value=np.nan), pd.arrays.SparseArray([1.0, 0.0], fill_value=0.0)
    )


@pytest.mark.parametrize(
    ("fill", "equal"), [(0.0, -0.0), (-0.0, 0.0), (0j, complex(0.0, -0.0)), (0j, complex(-0.0, 0.0))]
)
def test_p1_a_sparse_zero_that_is_stored_has_its_sign(fill, equal):
    def column(zero):
        made = pd.arrays.SparseArray(np.array([zero, 1.0]), fill_value=np.nan)
        made.fill_value = fill
        return pd.Series(made)

    different(column(fill), column(equal))
    same(column(fill), pd.Series(pd.arrays.SparseArray(np.array([fill, 1.0]), fill_value=fill)))


def test_p1_sparse_objects_that_equal_the_fill_value_are_told_apart():
    def column(first):
        made = pd.arrays.SparseArray(np.array([first, "a"], object), fill_value="")
        made.fill_value = 0
        return made

    different(*map(column, (0, 0.0, -0.0, False, None)))


def test_p1_scalars_of_pandas():
    same(*(pd.Timestamp("2026-02-01").as_unit(unit) for unit in ("s", "ms", "us", "ns")))
    same(*(pd.Timedelta("1s").as_unit(unit) for unit in ("s", "ms", "us", "ns")))
    kolkata = [
        pd.Timestamp("2026-02-01", tz=tz) for tz in (zoneinfo.ZoneInfo("Asia/Kolkata"), pytz.timezone("Asia/Kolkata"))
    ]
    different(*kolkata, pd.Timestamp("2026-02-01"), kolkata[0].tz_convert("UTC"), dt.datetime(2026, 2, 1), pd.NaT)
    different(
        pd.offsets.BDay(1), pd.offsets.BDay(2), pd.offsets.CustomBusinessDay(holidays=["2026-01-26"]), pd.offsets.Day(1)
    )
    same(pd.offsets.DateOffset(months=1), pd.offsets.DateOffset(months=1))


class Prices(pd.DataFrame):
    _metadata = ["exchange"]

    @property
    def _constructor(self):
        return Prices


def test_p1_subclasses_of_frames():
    one, two = Prices({"a": [1]}), Prices({"a": [1]})
    different(one, pd.DataFrame({"a": [1]}))
    same(one, two)
    one.exchange, two.exchange = "NSE", "BSE"
    different(one, two)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats() | st.none(), min_size=3, max_size=3), min_size=1, max_size=5),
    st.permutations(["x", "y", "z"]),
)
def test_p1_any_frame_survives_a_change_of_layout(rows, order):
    frame = pd.DataFrame(rows, columns=["x", "y", "z"], dtype=float)
    shuffled = frame[order][["x", "y", "z"]]
    same(frame, shuffled, pd.DataFrame({name: frame[name].to_numpy().copy() for name in frame}))
    if order != ["x", "y", "z"]:
        different(frame, frame[order])


# ---------------------------------------------------------------------------------------------------- arrow, polars


def test_p1_arrow_by_schema_and_content():
    pa = pytest.importorskip("pyarrow")
    table = pa.table(
        {
            "a": [1, 2, None],
            "f": [1.0, float("nan"), None],
            "s": ["x", None, "zü"],
            "l": [[1], None, [2, 3]],
            "st": [{"a": 1}, None, {"a": None}],
            "b": [True, None, False],
            "d": pa.array([b"a", b"bc", None]),
            "e": pa.array(["a", "b", "a"]).dictionary_encode(),
            "t": pa.array([1, 2, 3], pa.timestamp("us", tz="UTC")),
            "m": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
            "n": pa.nulls(3),
            "x": pa.array([1, 2, None], pa.decimal128(10, 2)),
        }
    )
    same(table, pa.concat_tables([table.slice(0, 1), table.slice(1)]), table.combine_chunks(), table.take([0, 1, 2]))
    same(table.slice(1), table.take([1, 2]))
    changed = [
        table.set_column(n, field, table[field.name].take([0, 0, 1]))
        for n, field in enumerate(table.schema)
        if field.name != "n"
    ]
    different(table, table.slice(1), table.select(["s", "a"]), table.rename_columns([*"abcdefghijkl"]), *changed)
    different(
        pa.scalar(None, pa.int64()), pa.scalar(0), pa.scalar(0, pa.int32()), pa.array([0]), pa.int64(), table.schema
    )
    lying = pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([1, 77]).tobytes())])
    same(lying, pa.array([1, None]))
    frame = pd.DataFrame({"a": pd.array([1, None, 3], dtype="int64[pyarrow]")})
    same(frame, pd.concat([frame.iloc[:1], frame.iloc[1:]]))


def test_p1_types_of_arrow_over_which_arrow_itself_stumbles():
    """Some of these end the process in functions of Arrow, others it has no function for."""
    pa = pytest.importorskip("pyarrow")
    codes = pa.array([0, 1, 0], pa.int8())
    union = pa.UnionArray.from_sparse(codes, [pa.array([1, None, 3]), pa.array(["a", "b", "c"])])
    within = pa.StructArray.from_arrays([union], ["u"], mask=pa.array([True, False, False]))
    other = pa.StructArray.from_arrays([union.take(pa.array([2, 1, 2]))], ["u"], mask=pa.array([True, False, False]))
    same(within, other, pa.concat_arrays([within.slice(0, 1), within.slice(1)]))
    different(within, within.slice(1), within.take(pa.array([0, 2, 1])), union, union.slice(1))
    nothing = pa.Array.from_buffers(pa.list_(pa.int8(), 0), 3, [None], children=[pa.array([], pa.int8())])
    different(nothing, nothing.slice(1))
    rows = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array([{"a": 1}, None]))
    same(rows, pa.DictionaryArray.from_arrays(pa.array([1, 0, 2]), pa.array([None, {"a": 1}, None])))
    different(rows, rows.slice(1))
    far = pa.array([[("a", 1 << 62)], None], pa.map_(pa.string(), pa.timestamp("s", "UTC")))  # no datetime is that late
    same(far, pa.concat_arrays([far.slice(0, 1), far.slice(1)]))
    pairs = pa.list_(pa.list_(pa.int8(), 1), 2)
    inner = pa.array([[[0], [0]], [[1], [2]], [[3], [4]], [[5], [6]]], pairs).slice(1)
    gone = np.array([True, False, False])
    seen = [
        pa.StructArray.from_arrays([part], ["p"], mask=pa.array(gone))
        for part in (inner, pa.array(inner.to_pylist(), pairs))
    ]
    same(*seen)
    begins_late = pa.Array.from_buffers(
        pa.list_(pa.int8()), 0, [None, pa.py_buffer(b"\1\0\0\0")], children=[pa.array([], pa.int8())]
    )
    same(begins_late, pa.array([], pa.list_(pa.int8())))


def test_p1_polars_by_schema_and_content():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(
        {
            "a": [1, 2, None],
            "s": ["x", None, "z"],
            "l": [[1], None, [2, 3]],
            "f": [1.0, float("nan"), None],
            "b": [True, None, False],
            "t": [dt.datetime(2026, 2, 1)] * 3,
            "c": pl.Series(["a", "b", "a"], dtype=pl.Categorical),
            "st": [{"a": 1}, {"a": 2}, {"a": None}],
        }
    )
    same(frame, pl.concat([frame[:1], frame[1:]], rechunk=False), frame.clone())
    same(frame[1:], frame.clone()[1:])
    different(
        frame,
        frame[1:],
        frame.reverse(),
        frame.select(list(reversed(frame.columns))),
        frame.rename({"a": "A"}),
        frame["a"],
    )
    different(frame["a"], frame["a"].cast(pl.Int32), frame["a"].fill_null(0), frame["a"].rename("A"), frame["t"])
    with pytest.raises(KeyingError):
        encode(frame.lazy())
