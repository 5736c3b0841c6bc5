"""Values of every type that has a typed codec: those of Python and numpy here, those of the libraries beside it.

``STRATEGIES`` maps the name of each registered type to a hypothesis strategy.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import re
import types
import zoneinfo
from typing import Any, Generic, NamedTuple, TypeVar

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytz
from dateutil import tz as dateutil_tz
from hypothesis import strategies as st

try:
    import pydantic
except ImportError:
    pydantic = None  # type: ignore[assignment]

from . import strategies_arrow as arrow
from . import strategies_libraries as libraries
from . import strategies_pandas as pandas
from .comparison import same
from .strategies_parts import (
    datetimes,
    floats,
    hashables,
    ints,
    lengths,
    localized,
    numbers,
    paths,
    pytz_zones,
    scalars,
    seeds,
    text,
    times,
    timezones,
    tzfiles,
    tzoffsets,
    zoneinfos,
)

__all__ = ["STRATEGIES", "anything", "same"]


# Classes of a user's


class Side(enum.Enum):
    BUY = "B"
    SELL = "S"
    LONG = "B"  # noqa: PIE796 - an alias


class Segment(enum.IntEnum):
    NSE = 1
    BSE = 2


class Exchange(enum.StrEnum):
    NSE = enum.auto()
    MCX = enum.auto()


class Mode(enum.Flag):
    LTP = enum.auto()
    QUOTE = enum.auto()
    FULL = enum.auto()


class Tick(NamedTuple):
    token: int
    price: Any


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024


@dataclasses.dataclass
class Order:
    symbol: str
    legs: Any = None
    note: Any = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Quote:
    bid: Any
    ask: Any


@dataclasses.dataclass(frozen=True)
class Fill:
    price: Any
    quantity: Any


if pydantic is not None:

    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        name: str
        at: dt.datetime | None = None
        parts: list[Any] = []
        _hidden: int = pydantic.PrivateAttr(default=1)

    class Lots(pydantic.RootModel[list[int]]):
        """A model that is one value."""

    T = TypeVar("T")

    class Series_(pydantic.BaseModel, Generic[T]):
        items: list[T]


@st.composite
def _columns_of_alike(draw: Any) -> list[Any]:
    """Long lists of one kind or of few kinds: the packed forms."""
    kinds = draw(
        st.lists(
            st.sampled_from(
                [
                    st.none(),
                    st.booleans(),
                    st.integers(-(2**63), 2**63 - 1),
                    floats,
                    st.text(max_size=4),
                    st.dates(),
                    st.datetimes(),
                    st.datetimes().map(lambda at: at.replace(tzinfo=dt.UTC)),
                    st.decimals(),
                    st.sampled_from(["NSE", "BSE", "a\0b", "\ud800"]),
                    st.floats().map(np.float64),
                ]
            ),
            min_size=1,
            max_size=3,
        )
    )
    items = draw(st.lists(st.one_of(kinds), max_size=6))
    return items * draw(st.integers(3, 9)) if items else []


@st.composite
def _records(draw: Any) -> list[dict[str, Any]]:
    keys = draw(st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True))
    return [{key: draw(scalars) for key in keys} for _ in range(draw(st.integers(7, 18)))]


_WORDS = ["NSE", "", "INFY24JAN1500CE", "a\0b", "ü", "007", "-7", "12", "1e5", "x" * 90]
_CELLS: dict[str, Any] = {
    "words": lambda rng, n: [_WORDS[which] for which in rng.integers(0, len(_WORDS), n)],
    "names": lambda rng, n: [f"S{which}" for which in rng.integers(0, 10**5, n)],
    "numerals": lambda rng, n: [str(which) for which in rng.integers(0, 10**5, n)],
    "whole": lambda rng, n: numbers(rng, "i8", n).tolist(),
    "prices": lambda rng, n: numbers(rng, "f8", n).tolist(),
    "flags": lambda rng, n: (rng.random(n) < 0.5).tolist(),
    "flags and numbers": lambda rng, n: [[True, 1, 1.0, False, 0, 0.0, -0.0][which] for which in rng.integers(0, 7, n)],
    "huge": lambda rng, n: [1 << int(which) for which in rng.integers(0, 90, n)],
    "dates": lambda rng, n: [dt.date(2024, 1, 1) + dt.timedelta(int(which)) for which in rng.integers(0, 400, n)],
    "times": lambda rng, n: [_START + dt.timedelta(minutes=int(which)) for which in np.cumsum(rng.integers(0, 3, n))],
    "lists": lambda rng, n: [[int(which)] * int(which % 3) for which in rng.integers(0, 9, n)],
    "dicts": lambda rng, n: [{"buy": [{"price": which / 20}]} for which in rng.integers(0, 9, n).tolist()],
    "decimals": lambda rng, n: [decimal.Decimal(which).scaleb(-2) for which in rng.integers(-99, 10**6, n).tolist()],
    "numpy's": lambda rng, n: [np.str_("a"), np.float64(1.5), np.int64(2)][int(rng.integers(3)) :][:1] * n,
    "nothing": lambda rng, n: [None] * n,
}
_START = dt.datetime(2026, 2, 1, 9, 15, tzinfo=dateutil_tz.tzoffset(None, 19800))


@st.composite
def _tables(draw: Any) -> list[dict[Any, Any]]:
    """Dicts as Kite returns them: the same keys in the same order, or nearly so."""
    few, many = st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17]), st.sampled_from([4095, 4096, 4500])
    count = draw(st.one_of(few, few, few, lengths.filter(bool), lengths.filter(bool), lengths.filter(bool), many))
    kinds = draw(st.lists(st.sampled_from(sorted(_CELLS)), min_size=1, max_size=6 if count < 1000 else 2))
    rng = np.random.default_rng(draw(seeds))
    columns = [_CELLS[kind](rng, count) for kind in kinds]
    if draw(st.booleans()):  # an instrument's token, and the exchange's that follows from it; nearly
        tokens = rng.integers(0, 1 << 31, count).tolist()
        columns += [tokens, [str(token >> 8) for token in tokens]]
        if draw(st.booleans()):
            columns[-1][int(rng.integers(count))] = draw(st.sampled_from(["", "007", "x", 5, None, "-1"]))
    for column in columns:
        if draw(st.integers(0, 4)) == 0:
            for place in np.flatnonzero(rng.random(count) < 0.1):
                column[place] = draw(st.sampled_from([None, float("nan"), "", 0]))
    keys = [f"k{place}" for place in range(len(columns))]
    if draw(st.integers(0, 5)) == 0:
        keys[0] = draw(st.sampled_from(["", "a\0", 1, None, ("a", 1), np.str_("k"), True, dt.date(2024, 1, 1)]))
    rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
    way = draw(st.sampled_from(["", "", "", "turned", "more", "shared", "equal key"]))
    place = int(rng.integers(count))
    if way == "turned":
        rows[place] = dict(reversed(rows[place].items()))
    elif way == "more":
        rows[place]["more"] = 1
    elif way == "shared":
        rows[place] = rows[0]
    elif way == "equal key":
        rows[place] = {np.str_(key) if type(key) is str else key: cell for key, cell in rows[place].items()}
    return rows


def _with_attributes(value: Any, attributes: dict[str, Any]) -> Any:
    value.__dict__.update(attributes)  # torch's state_dict() has some
    return value


anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(hashables, inner, max_size=5),
        st.builds(Order, st.text(max_size=4), inner),
        st.builds(lambda item: [item, item], inner),
    ),
    max_leaves=12,
)

STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "NoneType": st.none(),
    "bool": st.booleans(),
    "int": ints,
    "float": floats,
    "complex": st.builds(complex, floats, floats),
    "str": text,
    "bytes": st.binary(max_size=300) | st.just(b"\0" * 5000),
    "bytearray": st.binary(max_size=300).map(bytearray) | st.just(bytearray(5000)),
    "list": st.lists(anything, max_size=6) | _columns_of_alike() | _records() | _tables() | _tables(),
    "tuple": st.lists(anything, max_size=6).map(tuple) | _columns_of_alike().map(tuple),
    "dict": st.dictionaries(hashables, anything, max_size=24),
    "set": st.sets(hashables, max_size=24),
    "frozenset": st.frozensets(hashables, max_size=24),
    "date": st.dates(),
    "time": times,
    "datetime": datetimes,
    "timedelta": st.timedeltas(),
    "ellipsis": st.just(...),
    "notimplemented": st.just(NotImplemented),
    "class": st.sampled_from([int, float, str, object, dt.datetime, list]),
    "ordered": st.builds(
        _with_attributes,
        st.lists(st.tuples(hashables, anything), max_size=20).map(collections.OrderedDict),
        st.dictionaries(st.text(max_size=3), anything, max_size=2),
    ),
    "counter": st.dictionaries(hashables, st.integers(), max_size=20).map(collections.Counter),
    "defaultdict": st.builds(
        collections.defaultdict,
        st.sampled_from([None, list, int, dict]),
        st.dictionaries(hashables, anything, max_size=5),
    ),
    "deque": st.builds(collections.deque, st.lists(anything, max_size=20), st.none() | st.integers(0, 20)),
    "namespace": st.dictionaries(st.text("abc", min_size=1), anything, max_size=4).map(
        lambda kw: types.SimpleNamespace(**kw)
    ),
    "range": st.builds(range, st.integers(), st.integers(), st.integers().filter(bool)),
    "slice": st.builds(slice, *[st.none() | st.integers()] * 3),
    "decimal": st.decimals() | st.sampled_from(["-0", "1E+400", "sNaN123"]).map(decimal.Decimal),
    "fraction": st.fractions(),
    "uuid": st.uuids(),
    "path": paths,
    "timezone": timezones,
    "pattern": st.builds(re.compile, st.sampled_from(["a+", "(?P<x>b)|c"]), st.sampled_from([0, re.I, re.M | re.S]))
    | st.just(re.compile(b"a")),
    "array": st.builds(array.array, st.sampled_from("bBhHiIlLqQfd"), st.lists(st.integers(0, 127), max_size=9)),
    "dataclass": st.builds(Order, st.text(max_size=4), anything, anything)
    | st.builds(Quote, anything, anything)
    | st.builds(Fill, anything, anything),
    "namedtuple": st.builds(Tick, st.integers(), anything) | st.builds(Pair, anything, anything),
    "enum": st.sampled_from([*Side, *Segment, *Exchange, *Mode, Mode.LTP | Mode.FULL, Mode(0), re.I | re.M, Side.LONG]),
    "zoneinfo.ZoneInfo": zoneinfos | st.just(zoneinfo.ZoneInfo.no_cache("Asia/Kolkata")),
    "pytz.utc": st.just(pytz.utc),
    "pytz.FixedOffset": st.sampled_from([330, -300]).map(pytz.FixedOffset),
    "pytz.timezone": pytz_zones | localized,
    "dateutil.tzutc": st.just(dateutil_tz.tzutc()),
    "dateutil.tzlocal": st.just(dateutil_tz.tzlocal()),
    "dateutil.tzoffset": tzoffsets,
    "dateutil.tzfile": tzfiles,
    "dateutil.tzstr": st.just(dateutil_tz.tzstr("EST5EDT")),
}


# numpy

_plain_dtypes = st.one_of(
    hnp.scalar_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
    hnp.byte_string_dtypes(max_len=5),
    hnp.unicode_string_dtypes(max_len=5),
    st.sampled_from(
        ["longlong", "ulonglong", ">q", "longdouble", "clongdouble", "V3", "M8[25s]", "m8[generic]", "M8"]
    ).map(np.dtype),
)
_dtypes = st.one_of(
    _plain_dtypes,
    hnp.array_dtypes(_plain_dtypes, max_size=3),
    hnp.nested_dtypes(_plain_dtypes, max_itemsize=200),
    st.sampled_from(
        [
            np.dtype(
                {"names": ["a", "b"], "formats": ["i4", "f8"], "offsets": [2, 9], "titles": ["x", None], "itemsize": 20}
            ),
            np.dtype([("a", "i1"), ("b", "f8"), ("c", "O")], align=True),
            np.dtype((np.record, [("a", "i1"), ("b", "U2")])),
            np.dtype("f8", metadata={"unit": "INR"}),
            np.dtype("O"),
        ]
    ),
)


@st.composite
def _structures(draw: Any) -> np.dtype[Any]:
    """With titles, gaps, fields that lie in any order, arrays and structures as fields."""
    inner = hnp.array_dtypes(_plain_dtypes, max_size=2, allow_subarrays=True)
    formats = draw(
        st.lists(
            _plain_dtypes | inner | st.sampled_from(["O", "(2,)f4", "(2, 1)O"]).map(np.dtype), min_size=1, max_size=4
        )
    )
    formats = [part if part.itemsize else np.dtype("i1") for part in formats]
    names = ["a", "b", "ü", "d"][: len(formats)]
    parts: dict[str, Any] = {"names": names, "formats": formats}
    whole = np.dtype(parts)
    if draw(st.booleans()):
        parts["titles"] = [draw(st.sampled_from([None, f"title {name}"])) for name in names]
    if not whole.hasobject and draw(st.booleans()):
        offsets, at = {}, 0
        for place in draw(st.permutations(range(len(formats)))):
            at += draw(st.integers(0, 3))
            offsets[place] = at
            at += formats[place].itemsize
        parts |= {
            "offsets": [offsets[place] for place in range(len(formats))],
            "itemsize": at + draw(st.integers(0, 3)),
        }
    made = np.dtype(parts, align=draw(st.booleans()) and "offsets" not in parts)
    return np.dtype((np.record, made)) if draw(st.integers(0, 4)) == 0 else made


def _noise(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int) -> Any:
    """An array of a dtype, filled with bytes that are all valid for it."""
    random = np.random.default_rng(seed)
    if dtype.names is not None:
        made = np.zeros(shape, dtype)
        for name in dtype.names:
            part = dtype.fields[name][0]  # type: ignore[index]
            made[name] = _noise(part.base, shape + part.shape, seed + 1)
        return made
    if dtype.hasobject:
        made = np.empty(shape, object)
        for place in np.ndindex(shape):
            made[place] = [None, "x", 1, float("nan"), [1, 2], ("a",)][int(random.integers(6))]
        return made
    if dtype.kind in "iufcmMV" and dtype.char not in "gG":
        raw = random.integers(0, 256, int(np.prod(shape)) * dtype.itemsize, dtype=np.uint8)
        return np.ndarray(shape, dtype, raw.tobytes()).copy() if raw.size else np.ndarray(shape, dtype)
    if dtype.char in "gG?":
        return numbers(random, dtype, int(np.prod(shape))).reshape(shape)
    return random.integers(0, 100, shape).astype(dtype)


@st.composite
def _arrays(draw: Any, dtypes: Any = _dtypes) -> Any:
    dtype = draw(dtypes)
    dtype = dtype if dtype.subdtype is None else dtype.base
    shape = draw(
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
        | lengths.map(lambda length: (length,))
        | st.just((40, 30))
    )
    if dtype.kind in "iufcmM" and draw(st.booleans()):
        made = numbers(np.random.default_rng(draw(seeds)), dtype, int(np.prod(shape))).reshape(shape)
    else:
        made = _noise(dtype, shape, draw(st.integers(0, 99)))
    layout = draw(st.sampled_from("CFTRS"))
    if layout == "F":
        return np.asfortranarray(made)
    if layout == "T":
        return made.T
    if layout == "R" and made.ndim:
        return made[::-1]
    if layout == "S" and made.ndim:
        return np.concatenate([made, made])[::2]
    return made


@st.composite
def _masked(draw: Any) -> Any:
    data = draw(_arrays(st.sampled_from([np.dtype("f8"), np.dtype("i4"), np.dtype([("a", "i4"), ("b", "f8")])])))
    mask = draw(st.sampled_from([np.ma.nomask, True, False]))
    made = np.ma.MaskedArray(np.ascontiguousarray(data), mask=mask, hard_mask=draw(st.booleans()))
    if draw(st.booleans()):
        made.fill_value = 7
    return made


def _views(made: Any) -> Any:
    flat = np.ascontiguousarray(made)
    views = [flat.view(np.recarray), flat.view(np.memmap)] + ([flat.view(np.matrix)] if flat.ndim == 2 else [])  # noqa: PLR2004
    if made.dtype.itemsize and not made.dtype.hasobject:
        views.append(
            np.frombuffer(b"\1" + made.tobytes(), np.uint8, offset=1).view(made.dtype).reshape(made.shape)
        )  # at an odd address
    return views


_string_arrays = st.builds(
    lambda items, na: np.array([*items, na], dtype=np.dtypes.StringDType(na_object=na)),
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9), max_size=20),
    st.sampled_from([np.nan, None, pd.NA]),
)
_np_scalars = (
    _arrays(_dtypes.filter(lambda dtype: dtype.char != "O"))
    .filter(lambda made: made.size > 0)
    .map(lambda made: made.ravel()[0])
    | st.text(max_size=3).map(np.str_)
    | st.binary(max_size=3).map(np.bytes_)
).filter(lambda item: isinstance(item, np.generic) and "O" not in item.dtype.char)
_np_scalars |= st.sampled_from(
    [np.float64(1.5), np.longlong(3), np.datetime64("NaT"), np.str_("a\0"), np.bytes_(b"a\0"), np.float32("nan")]
)

STRATEGIES |= {
    "np.dtype": _dtypes
    | _structures()
    | st.sampled_from([None, np.nan, pd.NA, "none"]).map(lambda na: np.dtypes.StringDType(na_object=na, coerce=False)),
    "np.ndarray": _arrays()
    | _arrays(_structures())
    | _string_arrays
    | _arrays().flatmap(lambda made: st.sampled_from(_views(made))),
    "np.ma.MaskedArray": _masked(),
    "np.ma.masked": st.just(np.ma.masked),
    "np.generic": _np_scalars,
}

if pydantic is not None:
    from pydantic_core import TzInfo

    STRATEGIES |= {
        "pydantic.BaseModel": st.builds(Model, name=st.text(max_size=3), parts=st.lists(anything, max_size=2))
        | st.just(Model(name="a", at="2024-01-01T09:15:00+05:30", other=3))  # type: ignore[arg-type]
        | st.lists(st.integers(), max_size=3).map(Lots)
        | st.just(Series_[int](items=[1])),
        "pydantic.TzInfo": st.sampled_from([TzInfo(19800), TzInfo(0)]),
    }

STRATEGIES |= pandas.STRATEGIES | arrow.STRATEGIES | libraries.STRATEGIES
