"""Values of Arrow and polars: types of any nesting, made at random, and by hand what broke before.

``strategies`` takes them in where they are installed.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
from hypothesis import strategies as st

try:
    import pyarrow as pa
except ImportError:
    pa = None
try:
    import polars as pl
    from polars.testing import parametric
except ImportError:
    pl = None

from .strategies_parts import lengths, numbers, seeds

__all__ = ["STRATEGIES", "arrays", "chunked", "made", "types"]

STRATEGIES: dict[str, st.SearchStrategy[Any]] = {}
_WORDS = ["", "a", "INFY", "ü" * 9, "x" * 40, "नि", "a\0b", "-7", "NSE:NIFTY 50"]


# Arrow: an array is put together from its buffers, so that there is something under the nulls


def _plain_types() -> list[Any]:
    units = ("s", "ms", "us", "ns")
    found = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
    found += [pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.null(), pa.date32(), pa.date64()]
    found += [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]
    found += [pa.binary(0), pa.binary(3), pa.binary(16), pa.month_day_nano_interval()]
    found += [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
    found += [pa.duration(unit) for unit in units]
    found += [pa.timestamp(unit, zone) for unit in units for zone in (None, "UTC", "Asia/Kolkata", "+05:30")]
    found += [pa.decimal128(5, 2), pa.decimal128(38, 0), pa.decimal256(76, 30), pa.decimal128(9, -2)]
    return found + [
        getattr(pa, f"decimal{bits}")(bits // 4 - 1, 2) for bits in (32, 64) if hasattr(pa, f"decimal{bits}")
    ]


def _fields(inner: Any, name: str = "") -> Any:
    names = st.just(name) if name else st.sampled_from(["a", "b", "", "ü"])
    return st.builds(
        lambda name, kind, nullable, metadata: pa.field(name, kind, nullable or pa.types.is_null(kind), metadata),
        names, inner, st.booleans(), st.sampled_from([None, None, {"k": "v"}]),
    )  # fmt: skip


def _nested(inner: Any) -> Any:
    fields = st.lists(_fields(inner), min_size=1, max_size=3)
    hashed = st.sampled_from(
        [pa.string(), pa.large_string(), pa.int64(), pa.float64(), pa.binary(3), pa.timestamp("us", "UTC")]
    )
    return st.one_of(
        st.builds(lambda make, field: make(field), st.sampled_from([pa.list_, pa.large_list, pa.list_view, pa.large_list_view]), _fields(inner, "item")),
        st.builds(lambda field, size: pa.list_(field, size), _fields(inner, "item"), st.integers(0, 3)),
        fields.map(pa.struct),
        st.builds(lambda key, item: pa.map_(key, item), hashed, _fields(inner, "value")),
        st.builds(
            pa.dictionary,
            st.sampled_from([pa.int8(), pa.uint8(), pa.int16(), pa.int32(), pa.int64()]),
            hashed | inner.filter(lambda kind: not pa.types.is_dictionary(kind)),
            ordered=st.booleans(),
        ),
        st.builds(pa.run_end_encoded, st.sampled_from([pa.int32(), pa.int64()]), hashed),
        st.builds(
            lambda parts, mode, apart: pa.union(parts, mode, [place * apart for place in range(len(parts))]),
            fields, st.sampled_from(["sparse", "dense"]), st.sampled_from([1, 5]),
        ),
    )  # fmt: skip


@st.composite
def types(draw: Any) -> Any:
    """A type of any nesting."""
    return draw(_types)


def _valid(rng: np.random.Generator, count: int, *, nullable: bool) -> Any:
    """A validity buffer, or none."""
    share = rng.choice([0, 0.1, 0.5, 1]) if nullable else 0
    holes = rng.random(count) < share
    return pa.py_buffer(np.packbits(~holes, bitorder="little").tobytes()) if holes.any() or rng.random() < 0.1 else None


_MILLISECONDS = 86_400_000
_ENDS = {
    "date64": _MILLISECONDS,
    "time32[s]": 86_400,
    "time32[ms]": _MILLISECONDS,
    "time64[us]": 1000 * _MILLISECONDS,
    "time64[ns]": 10**6 * _MILLISECONDS,
}


def _fixed(rng: np.random.Generator, kind: Any, count: int) -> Any:
    width = kind.bit_width // 8
    if pa.types.is_decimal(kind):
        limit = 10**kind.precision
        raw = [int.from_bytes(rng.bytes(width), "little") % limit * int(rng.choice([-1, 1])) for _ in range(count)]
        return b"".join(number.to_bytes(width, "little", signed=True) for number in raw)
    if width not in (1, 2, 4, 8) or pa.types.is_fixed_size_binary(kind):
        return rng.bytes(width * count)
    name = str(kind).removesuffix("[day]")
    name = "date64" if pa.types.is_date64(kind) else name
    if name in _ENDS:
        days = rng.integers(-40_000, 40_000, count) if name == "date64" else rng.integers(0, _ENDS[name], count)
        return (days * (_MILLISECONDS if name == "date64" else 1)).astype(f"i{width}").tobytes()
    letter = "f" if pa.types.is_floating(kind) else "u" if pa.types.is_unsigned_integer(kind) else "i"
    return numbers(rng, f"{letter}{width}", count).tobytes()


def _list_buffers(rng: np.random.Generator, kind: Any, count: int) -> tuple[list[Any], int]:
    text = str(kind).partition("<")[0]
    width = "i8" if "large" in text else "i4"
    sizes = rng.integers(0, 4, count)
    ends = np.cumsum([0, *sizes])
    room = int(ends[-1]) + int(rng.integers(0, 2))
    if "view" in text:  # in any order, one upon the other
        starts = np.array([int(rng.integers(0, room - size + 1)) for size in sizes], width)
        return [pa.py_buffer(starts.tobytes()), pa.py_buffer(sizes.astype(width).tobytes())], room
    return [pa.py_buffer(ends.astype(width).tobytes())], room


def made(rng: np.random.Generator, kind: Any, count: int, *, nullable: bool = True) -> Any:  # noqa: C901
    """An array of a type."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, made(rng, kind.storage_type, count, nullable=nullable))
    if pa.types.is_null(kind):
        return pa.nulls(count)
    if pa.types.is_dictionary(kind):
        words = made(rng, kind.value_type, int(rng.integers(1, 9)), nullable=rng.random() < 0.1)
        index = rng.integers(0, len(words), count).astype(str(kind.index_type))
        index = pa.Array.from_buffers(
            kind.index_type, count, [_valid(rng, count, nullable=nullable), pa.py_buffer(index.tobytes())]
        )
        return pa.DictionaryArray.from_arrays(index, words, ordered=kind.ordered)
    if pa.types.is_run_end_encoded(kind):
        ends = np.unique(np.append(rng.integers(1, count + 1, count // 3), count)) if count else np.empty(0, int)
        values = made(rng, kind.value_type, len(ends), nullable=nullable)
        return pa.RunEndEncodedArray.from_arrays(pa.array(ends, kind.run_end_type), values)
    if pa.types.is_union(kind):
        codes = rng.choice(np.array(kind.type_codes, "i1"), count)
        dense = kind.mode == "dense"
        sizes = [int((codes == code).sum()) if dense else count for code in kind.type_codes]
        buffers = [None, pa.py_buffer(codes.tobytes())]
        if dense:
            offsets = np.zeros(count, "i4")
            for code, size in zip(kind.type_codes, sizes, strict=True):
                offsets[codes == code] = np.arange(size)
            buffers.append(pa.py_buffer(offsets.tobytes()))
        parts = [_child(rng, kind.field(place), size) for place, size in enumerate(sizes)]
        return pa.Array.from_buffers(kind, count, buffers, children=parts)
    valid = _valid(rng, count, nullable=nullable)
    if pa.types.is_struct(kind):
        parts = [_child(rng, kind.field(place), count) for place in range(kind.num_fields)]
        return pa.Array.from_buffers(kind, count, [valid], children=parts)
    if pa.types.is_map(kind):
        buffers, room = _list_buffers(rng, kind, count)
        pair = pa.struct([kind.key_field, kind.item_field])
        parts = [made(rng, kind.key_type, room, nullable=False), _child(rng, kind.item_field, room)]
        return pa.Array.from_buffers(
            kind, count, [valid, *buffers], children=[pa.Array.from_buffers(pair, room, [None], children=parts)]
        )
    if pa.types.is_fixed_size_list(kind):
        return pa.Array.from_buffers(
            kind, count, [valid], children=[_child(rng, kind.value_field, count * kind.list_size)]
        )
    if kind.num_fields:
        buffers, room = _list_buffers(rng, kind, count)
        return pa.Array.from_buffers(kind, count, [valid, *buffers], children=[_child(rng, kind.value_field, room)])
    if pa.types.is_boolean(kind):
        return pa.Array.from_buffers(kind, count, [valid, pa.py_buffer(rng.bytes((count + 7) // 8))])
    if any(word in str(kind) for word in ("string", "binary")) and not pa.types.is_fixed_size_binary(kind):
        few = rng.random() < 0.7
        words = [
            _WORDS[which] if few else str(which) * 3 for which in rng.integers(0, len(_WORDS) if few else 10**6, count)
        ]
        full = pa.array([word if "string" in str(kind) else word.encode() for word in words], kind)
        return pa.Array.from_buffers(kind, count, [valid, *full.buffers()[1:]])
    return pa.Array.from_buffers(kind, count, [valid, pa.py_buffer(_fixed(rng, kind, count))])


def _child(rng: np.random.Generator, field: Any, count: int) -> Any:
    return made(rng, field.type, count, nullable=field.nullable)


@st.composite
def arrays(draw: Any, kinds: Any = None, length: int | None = None) -> Any:
    """An array; often a slice of a longer one."""
    kind = draw(types() if kinds is None else kinds)
    count = draw(lengths) if length is None else length
    before, behind = draw(st.sampled_from([(0, 0), (0, 0), (1, 0), (0, 3), (9, 2)]))
    return made(np.random.default_rng(draw(seeds)), kind, before + count + behind).slice(before, count)


@st.composite
def chunked(draw: Any, kinds: Any = None, length: int | None = None) -> Any:
    """An array in pieces: of one array, or made for themselves."""
    one = draw(arrays(kinds, length))
    way = draw(st.sampled_from(["one", "cut", "apart", "none"]))
    if way == "none" and not len(one) and "list_view" not in str(one.type):  # of which Arrow cannot even make a list
        return pa.chunked_array([], type=one.type)
    if way == "apart":
        cut = draw(st.integers(0, len(one)))
        return pa.chunked_array(
            [draw(arrays(st.just(one.type), cut)), draw(arrays(st.just(one.type), len(one) - cut))], type=one.type
        )
    ends = sorted(draw(st.lists(st.integers(0, len(one)), max_size=3))) if way == "cut" else []
    return pa.chunked_array(
        [one.slice(start, stop - start) for start, stop in zip([0, *ends], [*ends, len(one)], strict=True)],
        type=one.type,
    )


_METADATA = [None, {}, {"k": "v"}, {b"\xff": b"\0", "pandas": "{}"}]


@st.composite
def _tables(draw: Any) -> Any:
    count = draw(lengths)
    fields = draw(st.lists(_fields(types()), max_size=4))
    schema = pa.schema(fields, metadata=draw(st.sampled_from(_METADATA)))
    return pa.Table.from_arrays([draw(chunked(st.just(field.type), count)) for field in fields], schema=schema)


@st.composite
def _batches(draw: Any) -> Any:
    count = draw(lengths)
    fields = draw(st.lists(_fields(types()), min_size=1, max_size=4))
    schema = pa.schema(fields, metadata=draw(st.sampled_from(_METADATA)))
    return pa.RecordBatch.from_arrays([draw(arrays(st.just(field.type), count)) for field in fields], schema=schema)


if pa is not None:
    _PLAIN = _plain_types()
    _types = st.recursive(st.integers(0, len(_PLAIN) - 1).map(_PLAIN.__getitem__), _nested, max_leaves=4)
    _SAMPLES = [
        pa.array([1, None, 3]),
        pa.array(["a", None, "b"])[1:],
        pa.array([[1], None, [2, 3]], pa.list_(pa.int8())),
        pa.array([{"a": 1, "b": "x"}, None]),
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.array([dt.datetime(2024, 1, 1)], pa.timestamp("us", "Asia/Kolkata")),
        pa.array([], pa.null()),
        pa.array([1, 2], pa.decimal128(19, 2)),
        pa.array(["a", None, "x" * 40], pa.string_view()),
        pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())),
        pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        pa.array([["a"], ["a", "b"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), pa.array(["a", "b"]), ordered=True),
        pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
        pa.RunEndEncodedArray.from_arrays([2, 5], ["a", "b"]),
        pa.RunEndEncodedArray.from_arrays(pa.array([2, 5, 9], pa.int16()), pa.array([1.5, None, -0.0])).slice(1),
        pa.array([pa.MonthDayNano([1, 2, 3]), None]),
        pa.array([{"a": [1]}, None, {"a": None}])[1:],
        pa.ListArray.from_arrays(pa.array([1, 1, 3], pa.int32()), pa.array([1, 2, 3])),
        pa.ListArray.from_arrays(pa.array([1], pa.int32()), pa.array([1, 2, 3])),
    ]
    _samples = st.integers(0, len(_SAMPLES) - 1).map(_SAMPLES.__getitem__)
    _sampled = st.builds(
        lambda one, size: pa.table({"x": one, "y": pa.array([size] * len(one))}, metadata={"k": "v"}),
        _samples,
        st.integers(0, 5),
    )
    _scalars = (_samples | arrays()).filter(lambda one: len(one) > 0 and "run_end" not in str(one.type))
    STRATEGIES |= {
        "pa.Table": _tables() | _tables() | _sampled | st.just(pa.table({})),
        "pa.RecordBatch": _batches()
        | _batches()
        | _sampled.map(
            lambda table: table.to_batches()[0] if table.num_rows else pa.record_batch({"a": pa.array([], "i1")})
        ),
        "pa.ChunkedArray": chunked()
        | chunked()
        | st.builds(lambda one, times: pa.chunked_array([one] * times, type=one.type), _samples, st.integers(0, 3)),
        "pa.Array": arrays() | arrays() | _samples,
        "pa.Scalar": _scalars.map(lambda one: one[-1])
        | st.sampled_from([pa.scalar(None, pa.string()), pa.scalar(3, pa.int8())]),
        "pa.Schema": _sampled.map(lambda table: table.schema)
        | st.builds(pa.schema, st.lists(_fields(types()), max_size=4), metadata=st.sampled_from(_METADATA)),
        "pa.Field": _fields(types()) | st.just(pa.field("a", pa.int8(), nullable=False, metadata={"k": "v"})),
        "pa.DataType": types() | _samples.map(lambda one: one.type),
    }


# polars


def _whether_sorted(series: Any, way: int) -> Any:
    """In order and known to be, where that can be had."""
    try:
        return series if not way else series.sort(descending=way < 0)
    except pl.exceptions.PolarsError:
        return series


if pl is not None:
    _pl_frames = st.sampled_from(
        [
            pl.DataFrame({"a": [1, None], "s": ["x", None]}),
            pl.DataFrame(
                {
                    "c": pl.Series(["a", "b"], dtype=pl.Categorical),
                    "e": pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"])),
                }
            ),
            pl.DataFrame({"t": [dt.datetime(2024, 1, 1)], "d": [dt.timedelta(1)], "l": [[1, 2]], "st": [{"a": 1}]}),
            pl.DataFrame({"a": pl.Series([], dtype=pl.Float32)}),
            pl.DataFrame({"n": [None, None], "x": pl.Series([b"a", None]), "o": pl.Series([dt.time(1), None])}),
            pl.DataFrame(
                {
                    "d": pl.Series([1, None], dtype=pl.Decimal(38, 10)),
                    "r": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int8, 2)),
                    "le": pl.Series([["a"], None], dtype=pl.List(pl.Enum(["a", "b"]))),
                    "sc": pl.Series([{"a": "x"}, None], dtype=pl.Struct({"a": pl.Categorical})),
                    "z": pl.Series([dt.datetime(2024, 1, 1), None], dtype=pl.Datetime("ms", "Asia/Kolkata")),
                }
            ),
            pl.DataFrame(schema={"a": pl.List(pl.Int8), "b": pl.Struct({"c": pl.Date}), "e": pl.Enum([])}),
            pl.concat([pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})], rechunk=False),
            pl.DataFrame({"": [1, None], "b": ["x", ""]}),
            pl.DataFrame({"": [2, 1], "b": ["x", "y"]}).sort("").with_columns(pl.col("b").sort(descending=True)),
        ]
    )
    # 128 bits and extensions go by pickle; objects are refused.
    _unlike = [getattr(pl, name) for name in ("Object", "Int128", "UInt128", "Extension") if hasattr(pl, name)]
    _series = st.builds(
        _whether_sorted,
        st.integers(0, 3).flatmap(
            lambda size: parametric.series(excluded_dtypes=_unlike, max_size=[5, 5, 40, 300][size])
        ),
        st.sampled_from([0, 0, 1, -1]),
    )
    STRATEGIES |= {
        "pl.DataFrame": parametric.dataframes(excluded_dtypes=_unlike, min_cols=0)
        | parametric.dataframes(excluded_dtypes=_unlike, max_size=60)
        | _pl_frames
        | st.just(pl.DataFrame()),
        "pl.Series": _series
        | _pl_frames.map(lambda frame: frame.to_series(0).alias("näme"))
        | st.just(pl.Series([1, None])),
    }
