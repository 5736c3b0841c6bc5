"""Values of pandas: columns of every dtype made at random, in the layouts that frames come in; and by hand what broke before."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
from typing import Any

import numpy as np
import pandas as pd
import pytz
from hypothesis import strategies as st

try:
    import pyarrow as pa
except ImportError:
    pa = None

from . import strategies_arrow as arrow
from .strategies_parts import column, lengths, pytz_zones, seeds, timezones, tzfiles, tzoffsets, zoneinfos

__all__ = ["STRATEGIES"]

_PANDAS_2 = pd.__version__.startswith("2.")
# pandas 2 makes wrong times with zones of dateutil 4.
_pd_tzfiles = st.nothing() if _PANDAS_2 else tzfiles
_pd_zones = st.one_of(timezones, zoneinfos, pytz_zones, st.just(pytz.utc), tzoffsets, _pd_tzfiles)
_units = st.sampled_from(["s", "ms", "us", "ns"])
_offsets = st.sampled_from(
    [
        pd.offsets.MonthEnd(3),
        pd.offsets.Week(weekday=2),
        pd.offsets.BusinessDay(),
        pd.offsets.BusinessDay(2, offset=dt.timedelta(hours=1)),
        pd.offsets.DateOffset(months=2, days=1),
        pd.offsets.QuarterEnd(startingMonth=2),
        pd.offsets.Hour(3),
        pd.offsets.Day(-1),
        pd.offsets.MonthBegin(1, normalize=True),
        pd.offsets.CustomBusinessDay(holidays=["2024-01-26"], weekmask="Mon Tue Wed Thu Fri"),
        pd.offsets.BusinessHour(start="09:15", end="15:30"),
        pd.offsets.FY5253Quarter(),
    ]
)
_names = st.none() | st.sampled_from(
    [
        *("close", 3, ("a", 1), pd.Timestamp("2024-01-01"), float("inf")),
        *(
            "",
            True,
            2.5,
            -0.0,
            float("nan"),
            b"x",
            ("a", ("b", None)),
            frozenset({1, 2}),
            dt.date(2024, 1, 1),
            decimal.Decimal("1.50"),
        ),
        *(
            np.int64(3),
            np.str_("x"),
            pd.NaT,
            pd.NA,
            pd.Interval(0, 1),
            pd.Period("2024-01", "M"),
            pd.Timedelta("1h"),
            10**30,
        ),
    ]
)


def _stamps(length: int, zone: Any, unit: str) -> Any:
    made = pd.DatetimeIndex((np.arange(length) * 90_061 + 1_700_000_000).astype(f"M8[{unit}]"))
    return made if zone is None else made.tz_localize("UTC").tz_convert(zone)


def _intervals(length: int) -> Any:
    return pd.arrays.IntervalArray.from_breaks(np.arange(length + 1) * 1.5, closed="left")


_STR = None if pa is None else pd.StringDtype("pyarrow", na_value=np.nan)  # what pandas 3 makes of text

_ARROW_KINDS = (
    []
    if pa is None
    else [
        lambda n: pd.array(["x", None] * n, dtype=pd.StringDtype("pyarrow"))[:n],
        lambda n: pd.array(["ä" * 30, None, ""] * n, dtype=_STR)[:n],
        lambda n: pd.array([1, None] * n, dtype="int64[pyarrow]")[:n],
        lambda n: pd.array([[1], None] * n, dtype=pd.ArrowDtype(pa.list_(pa.int32())))[:n],
        lambda n: pd.array(["a", "b"] * n, dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string())))[:n],
    ]
)
_KINDS: list[Any] = [
    lambda n: np.arange(n) * 1.5,
    lambda n: np.arange(n, dtype="i4"),
    lambda n: np.arange(n, dtype=">f4"),
    lambda n: np.arange(n) % 2 == 0,
    lambda n: np.arange(n) * 1j,
    lambda n: np.array(([None, float("nan"), pd.NA, pd.NaT, "x", 1, dt.date(2024, 1, 1)] * n)[:n], dtype=object),
    lambda n: np.array(["a"] * n, dtype=object),
    lambda n: np.arange(n).astype("m8[s]"),
    lambda n: _stamps(n, None, "s").array,
    lambda n: pd.Categorical((["b", "a", None] * n)[:n], categories=["b", "a", "unused"], ordered=True),
    lambda n: pd.Categorical([pd.Timestamp("2024-01-01")] * n),
    lambda n: pd.array(([1, None] * n)[:n], dtype="UInt8"),
    lambda n: pd.array(([1.5, None] * n)[:n], dtype="Float32"),
    lambda n: pd.array(([True, None] * n)[:n], dtype="boolean"),
    lambda n: pd.array((["x", None] * n)[:n], dtype=pd.StringDtype("python")),
    lambda n: pd.arrays.SparseArray(([0.0, 1.0, float("nan")] * n)[:n], kind="block"),
    lambda n: pd.arrays.SparseArray(([0, 1] * n)[:n], fill_value=1),
    _intervals,
    lambda n: pd.period_range("2024-01", periods=n, freq="M").array,
    *_ARROW_KINDS,
]


# Columns made at random

_DTYPES = [
    "?",
    "i1",
    "i2",
    "i4",
    "i8",
    "u1",
    "u2",
    "u4",
    "u8",
    "f2",
    "f4",
    "f8",
    ">i4",
    ">f8",
    ">u2",
    "c8",
    "c16",
    "g",
    "G",
]
_TIMES = [f"{kind}8[{unit}]" for kind in "mM" for unit in ("s", "ms", "us", "ns")]
_MASKED = [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)] + ["Float32", "Float64", "boolean"]
_FREQS = [
    pd.offsets.MonthEnd(), pd.offsets.QuarterEnd(startingMonth=3), pd.offsets.YearEnd(month=3), pd.offsets.Week(weekday=4),
    pd.offsets.Day(), pd.offsets.Hour(), pd.offsets.Minute(5), pd.offsets.Second(), pd.offsets.Milli(),
    pd.offsets.Micro(), pd.offsets.Nano(), pd.offsets.Day(2), pd.offsets.MonthEnd(3),
]  # fmt: skip
_WORDS = ["", "INFY", "TCS", "NIFTY24JAN21500CE", "ü", "नि", "a\0b", "x" * 70, "2024-01-01", "nan"]
_OBJECTS: list[Any] = [
    lambda n: None,
    lambda n: float("nan"),
    lambda n: pd.NA,
    lambda n: pd.NaT,
    lambda n: n,
    lambda n: n * 0.05,
    lambda n: n % 2 == 0,
    lambda n: _WORDS[n % len(_WORDS)],
    lambda n: str(n),
    lambda n: decimal.Decimal(n) / 100,
    lambda n: pd.Timestamp(n * 60, unit="s"),
    lambda n: pd.Timestamp(n * 60, unit="s", tz="Asia/Kolkata"),
    lambda n: pd.Timedelta(n, unit="s"),
    lambda n: dt.datetime(2024, 1, 1) + dt.timedelta(minutes=n % 99_999),
    lambda n: dt.date(2024, 1, 1) + dt.timedelta(n % 9_999),
    lambda n: np.float64(n) / 3,
    lambda n: np.int32(n % 99),
    lambda n: np.datetime64(n, "D"),
    lambda n: 10**25 + n,
    lambda n: str(n).encode(),
    lambda n: (n, "a"),
    lambda n: [n],
    lambda n: {"n": n},
    lambda n: -0.0,
    lambda n: complex(n, 1),
    lambda n: pd.Period(ordinal=n % 999, freq=pd.offsets.MonthEnd()),
    lambda n: pd.Interval(n, n + 1),
    lambda n: np.arange(n % 4),
]


@st.composite
def _objects(draw: Any, length: int) -> Any:
    """Few kinds of objects in one column: few values or many, in any order."""
    kinds = draw(st.lists(st.integers(0, len(_OBJECTS) - 1), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(seeds))
    values = rng.integers(0, draw(st.sampled_from([2, 9, 50_000])), length).tolist()
    made = np.empty(length, object)
    for place, which in enumerate(rng.integers(0, len(kinds), length)):
        made[place] = _OBJECTS[kinds[which]](values[place])
    return made


@st.composite
def _texts(draw: Any, length: int) -> Any:
    dtypes = [pd.StringDtype("python"), pd.StringDtype("python", na_value=np.nan)]
    dtype = draw(st.sampled_from(dtypes + ([] if pa is None else [pd.StringDtype("pyarrow"), _STR])))
    rng = np.random.default_rng(draw(seeds))
    holes = rng.random(length) < draw(st.sampled_from([0, 0.1, 1]))
    few = draw(st.booleans())
    words = [_WORDS[n % len(_WORDS)] if few else f"S{n}" for n in rng.integers(0, 9_000, length)]
    made = pd.array([None if hole else word for word, hole in zip(words, holes, strict=True)], dtype=dtype)
    if dtype.storage == "pyarrow" and length and draw(st.booleans()):  # in several pieces
        cut = draw(st.integers(0, length))
        made = type(made)._concat_same_type([made[:cut], made[cut:]])
    return made


@st.composite
def _masked(draw: Any, length: int) -> Any:
    """With anything at all under the mask."""
    dtype = pd.api.types.pandas_dtype(draw(st.sampled_from(_MASKED)))
    mask = np.random.default_rng(draw(seeds)).random(length) < draw(st.sampled_from([0, 0.1, 1]))
    return dtype.construct_array_type()(draw(column(dtype.numpy_dtype, length)), mask)


def _within(dtype: Any, numbers: Any) -> Any:
    """Times that every zone and unit can say."""
    unit = np.datetime_data(np.dtype(dtype))[0]
    return (numbers.view("i8") % (10**9 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit])).view(dtype)


@st.composite
def _moments(draw: Any, length: int) -> Any:
    unit = draw(_units)
    stamps = _within(f"M8[{unit}]", draw(column(f"M8[{unit}]", length)))
    stamps[np.random.default_rng(draw(seeds)).random(length) < draw(st.sampled_from([0, 0.1]))] = np.datetime64("NaT")
    return pd.DatetimeIndex(stamps).tz_localize("UTC").tz_convert(draw(_pd_zones)).array


@st.composite
def _categories(draw: Any, length: int) -> Any:
    count = draw(st.integers(1, 6) | st.sampled_from([130, 300]))
    values = draw(
        st.one_of(
            column("i8", count),
            column("f8", count),
            column("M8[ns]", count),
            _texts(count),
            _moments(count),
            _objects(count),
        )
    )
    with contextlib.suppress(TypeError, ValueError):
        unique = pd.Index(values, dtype=values.dtype, tupleize_cols=False).dropna().unique().rename(draw(_names))
        codes = (
            np.random.default_rng(draw(seeds)).integers(-1, max(1, len(unique)), length)
            if len(unique)
            else np.full(length, -1)
        )
        return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(unique, draw(st.booleans())))
    return pd.Categorical.from_codes(np.zeros(length, "i1"), pd.Index(["a", "b"], dtype=object))


@st.composite
def _spans(draw: Any, length: int) -> Any:
    breaks = draw(
        st.one_of(
            column("i8", length + 1).map(lambda made: np.sort(made % (1 << 40))),
            column("f8", length + 1).map(lambda made: np.sort(np.nan_to_num(made))),
            column("m8[s]", length + 1).map(lambda made: np.sort(made.view("i8") % (1 << 30)).view("m8[s]")),
            _moments(length + 1).map(
                lambda made: pd.DatetimeIndex(made.fillna(pd.Timestamp(0, tz="UTC"))).sort_values()
            ),
        )
    )
    closed = draw(st.sampled_from(["left", "right", "both", "neither"]))
    made = pd.arrays.IntervalArray.from_breaks(breaks, closed=closed)
    if length and draw(st.booleans()):
        made = made.take(np.random.default_rng(draw(seeds)).integers(-1, length, length), allow_fill=True)
    return made


@st.composite
def _periods(draw: Any, length: int) -> Any:
    ordinals = draw(column("i8", length)) % 20_000
    ordinals[np.random.default_rng(draw(seeds)).random(length) < draw(st.sampled_from([0, 0.1]))] = np.iinfo("i8").min
    return pd.arrays.PeriodArray(ordinals, dtype=pd.PeriodDtype(draw(st.sampled_from(_FREQS))))


@st.composite
def _sparse(draw: Any, length: int) -> Any:
    dtype = draw(st.sampled_from(["f8", "f4", "i8", "i2", "u1", "?", "c16", "M8[ns]"]))
    values = draw(column(dtype, length))
    values[np.random.default_rng(draw(seeds)).random(length) < 0.7] = np.zeros((), dtype)[()]
    fills = [
        None,
        *([values[0]] if length else []),
        *([np.nan] if dtype in ("f8", "f4", "c16") else []),
        np.zeros((), dtype)[()],
    ]
    return pd.arrays.SparseArray(
        values, fill_value=draw(st.sampled_from(fills)), kind=draw(st.sampled_from(["integer", "block"]))
    )


def _is_known(kind: Any) -> bool:
    """Whether pandas has a class of scalars for a type of Arrow: it cannot even print a frame with another one.

    Of an empty column of list views it makes objects, and the process ends; of nested runs Arrow takes elements, and they
    are invalid.
    """
    if "list_view" in str(kind) or "run_end" in str(kind):
        return False
    with contextlib.suppress(NotImplementedError):
        return pd.ArrowDtype(kind).type is not None
    return False


@st.composite
def _arrow_backed(draw: Any, length: int) -> Any:
    return pd.arrays.ArrowExtensionArray(draw(arrow.chunked(arrow.types().filter(_is_known), length)))


def _values(length: int) -> Any:
    """An array of any dtype."""
    plain = st.sampled_from(_DTYPES + _TIMES).flatmap(lambda dtype: column(dtype, length))
    made = [
        plain,
        plain,
        _objects(length),
        _texts(length),
        _masked(length),
        _moments(length),
        _categories(length),
        _spans(length),
    ]
    made += [_periods(length), _sparse(length), st.sampled_from(_KINDS).map(lambda kind: kind(length))]
    return st.one_of(made + ([] if pa is None else [_arrow_backed(length)]))


@st.composite
def _views(draw: Any, length: int) -> Any:
    """Of a longer array, or backwards: the elements do not lie side by side."""
    more, cut = draw(
        st.sampled_from([(0, np.s_[:])] * 3 + [(3, np.s_[2 : 2 + length]), (length, np.s_[::2]), (0, np.s_[::-1])])
    )
    made = draw(_values(length + more))
    with contextlib.suppress(NotImplementedError, ValueError):  # of some types of Arrow, and of dictionaries with nulls
        return made[cut]
    return made[:length]


@st.composite
def _indexes(draw: Any, length: int | None = None) -> Any:
    size: int = draw(lengths) if length is None else length
    name = draw(_names)
    kind = draw(st.integers(0, 7))
    if kind == 0:
        step = draw(st.sampled_from([1, 3, -2]))
        start = draw(st.integers(-9, 9))
        return pd.RangeIndex(start, start + step * size, step, name=name)
    if kind == 1:
        zone = draw(st.none() | _pd_zones)
        freq = draw(
            st.sampled_from(
                ["D", pd.offsets.BusinessDay(), pd.offsets.MonthEnd(2), pd.offsets.Minute(5), pd.offsets.Hour(-3)]
            )
        )
        return pd.date_range("2024-02-01", periods=size, freq=freq, tz=zone, name=name)
    if kind == 2:
        return pd.timedelta_range("1s", periods=size, freq=draw(st.sampled_from(["5min", "D"])), name=name)
    if kind == 3:
        return draw(_multi(size))
    if kind == 4:
        return pd.period_range("2024-01-01", periods=size, freq=draw(st.sampled_from(_FREQS)), name=name)
    values = draw(_views(size))
    try:
        return pd.Index(values, dtype=values.dtype, name=name, tupleize_cols=False)
    except (TypeError, ValueError, NotImplementedError):  # big-endian, halves, what Arrow has no hash for
        return pd.Index(np.arange(size) % 7 / 4, name=name)


@st.composite
def _multi(draw: Any, size: int) -> Any:
    """With levels in any order, unused ones, missing codes, names that come twice."""
    rng = np.random.default_rng(draw(seeds))
    levels, codes = [], []
    for _ in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 6))
        values = draw(
            st.one_of(
                column("i8", count),
                column("f4", count),
                _texts(count),
                _moments(count),
                _categories(count),
                _periods(count),
            )
        )
        level = pd.Index(values, dtype=values.dtype).dropna().unique()
        levels.append(level)
        codes.append(rng.integers(-1, len(level), size) if len(level) else np.full(size, -1))
    made = pd.MultiIndex(levels, codes, names=[draw(_names) for _ in levels])
    way = draw(st.sampled_from(["", "sorted", "clean"]))
    with contextlib.suppress(TypeError):
        made = made.sort_values() if way == "sorted" else made.remove_unused_levels() if way == "clean" else made
    return made


_attrs = st.sampled_from(
    [{}, {}, {"source": "kite", "at": dt.datetime(2024, 1, 1), "nested": {"a": [1, (2,)], "f": np.arange(3)}}]
)


def _read_only(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        values = values.copy()
        values.flags.writeable = False
    return values


@st.composite
def _series(draw: Any) -> Any:
    size = draw(lengths)
    values = draw(_views(size))
    values = _read_only(values) if draw(st.integers(0, 5)) == 0 else values
    made = pd.Series(values, index=draw(_indexes(size)), dtype=values.dtype, name=draw(_names), copy=False)
    made.attrs = draw(_attrs)
    return made


@st.composite
def _frames(draw: Any) -> Any:
    size, width = draw(lengths), draw(st.integers(0, 5))
    way = draw(st.sampled_from(["matrix", "columns", "columns", "blocks"]))
    if way == "matrix":
        flat = draw(column(draw(st.sampled_from(_DTYPES + _TIMES)), size * width))
        matrix = flat.reshape(size, width) if draw(st.booleans()) else flat.reshape(width, size).T
        matrix = _read_only(matrix) if draw(st.integers(0, 5)) == 0 else matrix
        made = pd.DataFrame(matrix, copy=False)
    elif way == "columns":
        columns = [draw(_views(size)) for _ in range(width)]
        made = pd.DataFrame(
            {place: pd.Series(values, dtype=values.dtype) for place, values in enumerate(columns)}, index=range(size)
        )
    else:  # one block for each, in an order of its own
        made = pd.DataFrame(index=range(size))
        dtypes = draw(st.lists(st.sampled_from(["f8", "i8", ">f4", "?", "M8[s]", "O"]), min_size=width, max_size=width))
        for place, dtype in enumerate(dtypes):
            values = draw(_objects(size)) if dtype == "O" else draw(column(dtype, size))
            made.insert(draw(st.integers(0, place)), place, pd.Series(values, dtype=dtype))
    if size and width and draw(st.integers(0, 3)) == 0:
        cut = draw(st.sampled_from([np.s_[::-1], np.s_[:, ::-1], np.s_[::2], np.s_[:, ::2]]))
        with contextlib.suppress(
            ValueError, NotImplementedError
        ):  # the other byte order under pandas 2, some types of Arrow
            made = made.iloc[cut]
    size, width = made.shape
    labels = [["a", "b", "a", 1, None], ["open", "high", "low", "close", "volume"]]
    made.columns = (
        draw(_indexes(width)) if draw(st.booleans()) else pd.Index(draw(st.sampled_from(labels))[:width], dtype=object)
    )
    made.index = draw(_indexes(size))
    made.attrs = draw(_attrs)
    with contextlib.suppress(TypeError, ValueError, NotImplementedError):  # labels that cannot be hashed
        if isinstance(made.index, pd.RangeIndex) and made.columns.is_unique:
            made.flags.allows_duplicate_labels = False
    return made


@st.composite
def _candles(draw: Any) -> Any:
    """Columns of numbers by time, as most results are."""
    size = draw(lengths)
    zone, unit, name = draw(st.none() | _pd_zones), draw(_units), draw(st.sampled_from([None, "date", ""]))
    freq = draw(st.sampled_from([None, "D", pd.offsets.BusinessDay(), pd.offsets.Minute(5)]))
    if freq is None:
        index = pd.DatetimeIndex(_within(f"M8[{unit}]", draw(column(f"M8[{unit}]", size))), name=name)
        index = index if zone is None else index.tz_localize("UTC").tz_convert(zone)
    else:
        index = pd.date_range("2024-02-01", periods=size, freq=freq, tz=zone, name=name).as_unit(unit)
    dtypes = draw(
        st.lists(st.sampled_from(["f8", "f8", "i8", "f4", "u1", "?", "M8[ns]", ">f8"]), min_size=1, max_size=5)
    )
    made = pd.DataFrame({place: draw(column(dtype, size)) for place, dtype in enumerate(dtypes)}, index=index)
    dtype = draw(st.sampled_from(["object", "string[python]", pd.Index(["a"]).dtype]))
    labels = [f"c{place % draw(st.integers(1, 5))}" for place in range(len(dtypes))]
    return made.set_axis(pd.Index(labels, dtype=dtype, name=draw(st.sampled_from([None, "field"]))), axis=1)


_sizes = st.integers(0, 5)


def _kinds(*places: int) -> Any:
    return st.builds(lambda kind, size: kind(size), st.sampled_from([_KINDS[place] for place in places]), _sizes)


_timestamps = st.builds(
    lambda number, unit, zone: (
        pd.Timestamp(np.datetime64(number, unit))
        if zone is None
        else pd.Timestamp(np.datetime64(number, unit)).tz_localize("UTC").tz_convert(zone)
    ),
    st.integers(-(10**9), 2 * 10**9),
    _units,
    st.none() | _pd_zones,
) | st.sampled_from(
    [
        pd.Timestamp.max,
        pd.Timestamp("2024-01-01 00:00:00.123456789"),
        pd.Timestamp("2024-11-03 06:30", tz="UTC").tz_convert("America/New_York"),
    ]
)

STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "pd.DataFrame": _frames() | _frames() | _candles(),
    "pd.Series": _series(),
    "pd.Index": _indexes().filter(lambda made: not isinstance(made, (pd.RangeIndex, pd.MultiIndex))),
    "pd.Labels": st.builds(
        lambda names, dtype, name: pd.DataFrame([range(len(names))], columns=pd.Index(names, dtype=dtype, name=name)),
        st.lists(st.text(max_size=5), min_size=1, max_size=6),
        st.sampled_from(["object", "string[python]", "string[pyarrow]", pd.Index(["a"]).dtype]),
        st.sampled_from([None, "field", ""]),
    ),
    "pd.RangeIndex": st.builds(
        pd.RangeIndex, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([1, -2, 3]), name=_names
    ),
    "pd.MultiIndex": lengths.flatmap(_multi) | st.just(pd.MultiIndex.from_product([["a", "b"], [1, 2]])[2:]),
    "pd.Timestamp": _timestamps,
    "pd.Timedelta": st.builds(
        lambda number, unit: pd.Timedelta(np.timedelta64(number, unit)), st.integers(-(10**9), 10**9), _units
    ),
    "pd.Period": st.builds(
        lambda ordinal, freq: pd.Period(ordinal=ordinal, freq=freq),
        st.integers(-9_999, 19_999),
        st.sampled_from(_FREQS),
    )
    | st.sampled_from([pd.Period("2024-01", "M"), pd.Period("2024-01-05", "D"), pd.Period("2024Q1", "Q-FEB")]),
    "pd.Interval": st.sampled_from(
        [pd.Interval(1, 2), pd.Interval(0.5, 1, "both"), pd.Interval(pd.Timestamp(0), pd.Timestamp(1), "neither")]
    ),
    "pd.NaT": st.just(pd.NaT),
    "pd.NA": st.just(pd.NA),
    "pd.DateOffset": _offsets,
    "pd.MaskedDtype": st.sampled_from([pd.Int8Dtype(), pd.UInt64Dtype(), pd.Float32Dtype(), pd.BooleanDtype()]),
    "pd.StringDtype": st.sampled_from(
        [pd.StringDtype("python"), pd.StringDtype("pyarrow"), _STR] if pa else [pd.StringDtype("python")]
    ),
    "pd.CategoricalDtype": st.sampled_from([pd.CategoricalDtype(), pd.CategoricalDtype(["b", "a"], ordered=True)]),
    "pd.DatetimeTZDtype": st.builds(pd.DatetimeTZDtype, _units, _pd_zones),
    "pd.PeriodDtype": st.sampled_from([pd.PeriodDtype("D"), pd.PeriodDtype(pd.offsets.MonthEnd())]),
    "pd.IntervalDtype": st.sampled_from([pd.IntervalDtype("i8", "left"), pd.IntervalDtype("M8[ns]", "right")]),
    "pd.SparseDtype": st.sampled_from([pd.SparseDtype("f8"), pd.SparseDtype("i4", 3)]),
    "pd.Categorical": lengths.flatmap(_categories) | _kinds(9, 10),
    "pd.MaskedArray": lengths.flatmap(_masked) | _kinds(11, 12, 13),
    "pd.StringArray": lengths.flatmap(_texts) | _kinds(14, *([19, 20] if pa else [])),
    "pd.SparseArray": lengths.flatmap(_sparse) | _kinds(15, 16),
    "pd.IntervalArray": lengths.flatmap(_spans) | _kinds(17),
    "pd.PeriodArray": lengths.flatmap(_periods) | _kinds(18),
    "pd.DatetimeArray": lengths.flatmap(_moments)
    | st.sampled_from(_TIMES).flatmap(lambda dtype: lengths.flatmap(lambda length: column(dtype, length))).map(pd.array)
    | st.just(pd.timedelta_range("1s", periods=3).array),
    "pd.NumpyExtensionArray": st.sampled_from(_DTYPES)
    .flatmap(lambda dtype: lengths.flatmap(lambda length: column(dtype, length)))
    .map(pd.arrays.NumpyExtensionArray),
}
if pa is not None:
    STRATEGIES |= {
        "pd.ArrowDtype": arrow.types().map(pd.ArrowDtype),
        "pd.ArrowExtensionArray": lengths.flatmap(_arrow_backed) | _kinds(21, 22, 23),
    }
