"""Values of every type that has a typed codec, and what it means that one came back.

``STRATEGIES`` maps the name of each registered type to a hypothesis strategy; ``same`` compares two values in every
respect that promise P2 names.
"""

from __future__ import annotations

import array
import collections
import contextlib
import dataclasses
import datetime as dt
import enum
import pathlib
import re
import struct
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
    import pyarrow as pa
except ImportError:
    pa = None
try:
    import polars as pl
except ImportError:
    pl = None
try:
    import pydantic
except ImportError:
    pydantic = None  # type: ignore[assignment]

from . import strategies_libraries as libraries

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


# Comparing


_SINGLES = (pd.NaT, pd.NA, np.ma.masked, Ellipsis, NotImplemented)


class _Difference(Exception):
    pass


class _Comparison:
    """One walk over two values; remembers which object answered to which, so that sharing is compared too."""

    def __init__(self) -> None:
        self.partner: dict[int, int] = {}
        self.keep: list[object] = []

    def check(self, one: Any, other: Any, where: str) -> None:  # noqa: C901, PLR0912
        if type(one) is not type(other):
            raise _Difference(f"{where}: {type(one)} became {type(other)}")
        if isinstance(
            one, (list, dict, set, np.ndarray, pd.DataFrame, pd.Series, collections.deque, types.SimpleNamespace)
        ):
            if id(one) in self.partner:
                self.true(self.partner[id(one)] == id(other), f"{where}: shared object")
                return
            self.partner[id(one)] = id(other)
            self.keep += (one, other)
        module = type(one).__module__.partition(".")[0]
        if module in libraries.CHECKS:
            libraries.CHECKS[module](self, one, other, where)
        elif isinstance(one, float) and not isinstance(one, np.generic):
            self.true(struct.pack("<d", one) == struct.pack("<d", other), where)
        elif isinstance(one, complex) and not isinstance(one, np.generic):
            self.check((one.real, one.imag), (other.real, other.imag), where)
        elif one is None or isinstance(one, (type, enum.Enum)) or any(one is single for single in _SINGLES):
            self.true(one is other, where)
        elif isinstance(one, dt.tzinfo):
            self.zone(one, other, where)
        elif isinstance(one, np.ma.MaskedArray):
            self.masked(one, other, where)
        elif isinstance(one, np.ndarray):
            self.ndarray(one, other, where)
        elif isinstance(one, np.generic):
            self.true(same_dtype(one.dtype, other.dtype), f"{where}: dtype")
            self.ndarray(np.array(one), np.array(other), where)
        elif isinstance(one, np.dtype):
            self.true(same_dtype(one, other), f"{where}: dtype {one!r} became {other!r}")
        elif isinstance(one, dt.datetime) and one is not pd.NaT:
            self.moment(one, other, where)
        elif isinstance(one, dt.time):
            self.check(one.tzinfo, other.tzinfo, f"{where}.tzinfo")
            self.true(one.replace(tzinfo=None) == other.replace(tzinfo=None) and one.fold == other.fold, where)
        elif module == "pandas":
            self.pandas(one, other, where)
        elif module == "polars":
            self.true(one.equals(other, null_equal=True), where)
            columns = [made.get_columns() if hasattr(made, "get_columns") else [made] for made in (one, other)]
            for flags in zip(*([column.flags for column in made] for made in columns), strict=True):
                self.true(all(flags[0][way] == flags[1][way] for way in ("SORTED_ASC", "SORTED_DESC")), where)
            self.true(
                getattr(one, "schema", one.name if hasattr(one, "name") else 0)
                == getattr(other, "schema", other.name if hasattr(other, "name") else 0),
                where,
            )
        elif module == "pyarrow":
            self.arrow(one, other, where)
        elif pydantic is not None and isinstance(one, pydantic.BaseModel):
            self.true(vars(one).keys() == vars(other).keys(), f"{where}: attributes")
            for part in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
                self.check(getattr(one, part), getattr(other, part), f"{where}.{part}")
        elif dataclasses.is_dataclass(one):
            for field in dataclasses.fields(one):
                self.check(getattr(one, field.name, ...), getattr(other, field.name, ...), f"{where}.{field.name}")
            self.check(getattr(one, "__dict__", {}), getattr(other, "__dict__", {}), f"{where}.__dict__")
        elif isinstance(one, types.SimpleNamespace):
            self.check(one.__dict__, other.__dict__, where)
        elif isinstance(one, dict):
            if isinstance(one, collections.defaultdict):
                self.true(one.default_factory is other.default_factory, where)
            self.check(getattr(one, "__dict__", None), getattr(other, "__dict__", None), f"{where}.__dict__")
            self.items(list(one.items()), list(other.items()), where)
        elif isinstance(one, (set, frozenset)):
            self.members(one, other, where)
        elif isinstance(one, (list, tuple, collections.deque)):
            self.true(getattr(one, "maxlen", None) == getattr(other, "maxlen", None), where)
            self.items(list(one), list(other), where)
        elif isinstance(one, slice):
            self.items([one.start, one.stop, one.step], [other.start, other.stop, other.step], where)
        elif isinstance(one, re.Pattern):
            self.true((one.pattern, one.flags) == (other.pattern, other.flags), where)
        elif isinstance(one, array.array):
            self.true(one.typecode == other.typecode and one.tobytes() == other.tobytes(), where)
        elif type(one).__name__ in ("Decimal", "Fraction"):
            self.true(repr(one) == repr(other), where)
        else:
            self.true(bool(one == other), f"{where}: {type(one).__name__}")

    def true(self, held: bool, where: str) -> None:  # noqa: FBT001
        if not held:
            raise _Difference(where)

    def items(self, one: list[Any], other: list[Any], where: str) -> None:
        self.true(len(one) == len(other), f"{where}: length")
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            self.check(left, right, f"{where}[{place}]")

    def members(self, one: Any, other: Any, where: str) -> None:
        left = list(other)
        self.true(len(one) == len(other), f"{where}: length")
        for member in one:
            for candidate in left:
                if same(member, candidate) is True:
                    left.remove(candidate)
                    break
            else:
                raise _Difference(f"{where}: member")

    def zone(self, one: Any, other: Any, where: str) -> None:
        if isinstance(one, (pytz.tzinfo.BaseTzInfo, zoneinfo.ZoneInfo)):
            # no_cache() zones are one of a kind; all others must be the very instance.
            identical = one is other or (isinstance(one, zoneinfo.ZoneInfo) and zoneinfo.ZoneInfo(one.key) is not one)
            self.true(identical, f"{where}: zone")
        self.true(repr(one) == repr(other), f"{where}: zone")

    def moment(self, one: Any, other: Any, where: str) -> None:
        self.check(one.tzinfo, other.tzinfo, f"{where}.tzinfo")
        self.true(one.fold == other.fold, f"{where}: fold")
        if isinstance(one, pd.Timestamp):
            self.true(one.unit == other.unit and one.asm8.view("i8") == other.asm8.view("i8"), where)
        else:
            self.true(one.replace(tzinfo=None) == other.replace(tzinfo=None), where)

    def masked(self, one: Any, other: Any, where: str) -> None:
        self.ndarray(one.data, other.data, f"{where}.data")
        self.true((one.mask is np.ma.nomask) == (other.mask is np.ma.nomask), f"{where}.mask")
        self.ndarray(np.asarray(one.mask), np.asarray(other.mask), f"{where}.mask")
        self.ndarray(np.asarray(one.fill_value), np.asarray(other.fill_value), f"{where}.fill_value")
        self.true(one.hardmask == other.hardmask, f"{where}.hardmask")

    def ndarray(self, one: Any, other: Any, where: str) -> None:
        self.true(same_dtype(one.dtype, other.dtype), f"{where}: dtype {one.dtype!r} became {other.dtype!r}")
        self.true(one.shape == other.shape, f"{where}: shape")
        fortran = one.flags.f_contiguous and not one.flags.c_contiguous
        self.true(fortran == (other.flags.f_contiguous and not other.flags.c_contiguous), f"{where}: order")
        self.true(other.flags.writeable, f"{where}: not writable")
        if one.dtype.names is not None:
            for name in one.dtype.names:
                self.ndarray(np.array(one[name]), np.array(other[name]), f"{where}[{name!r}]")
        elif one.dtype.hasobject or one.dtype.kind == "T":
            self.items(one.ravel().tolist(), other.ravel().tolist(), where)
        elif one.dtype.kind in "gG" or one.dtype.char in "gG":
            self.true(bool(np.array_equal(one, other, equal_nan=True)), where)
        else:
            self.true(one.tobytes() == other.tobytes(), where)

    def pandas(self, one: Any, other: Any, where: str) -> None:  # noqa: C901, PLR0912
        if isinstance(one, (pd.DataFrame, pd.Series)):
            self.check(one.index, other.index, f"{where}.index")
            self.check(one.attrs, other.attrs, f"{where}.attrs")
            self.true(one.flags == other.flags, f"{where}.flags")
            if isinstance(one, pd.Series):
                self.check(one.name, other.name, f"{where}.name")
                self.check(one.array, other.array, f"{where}.array")
                return
            self.check(one.columns, other.columns, f"{where}.columns")
            for place in range(one.shape[1]):
                self.check(one.iloc[:, place].array, other.iloc[:, place].array, f"{where}.iloc[:, {place}]")
        elif isinstance(one, pd.MultiIndex):
            self.items(list(one.names), list(other.names), f"{where}.names")
            self.items(list(one.levels), list(other.levels), f"{where}.levels")
            self.true([list(c) for c in one.codes] == [list(c) for c in other.codes], f"{where}.codes")
            self.true(one.sortorder == other.sortorder, f"{where}.sortorder")
        elif isinstance(one, pd.Index):
            self.check(one.name, other.name, f"{where}.name")
            if isinstance(one, pd.RangeIndex):
                self.true((one.start, one.stop, one.step) == (other.start, other.stop, other.step), where)
                return
            if hasattr(one, "freq"):
                self.check(one.freq, other.freq, f"{where}.freq")
            self.check(one.array, other.array, f"{where}.array")
        elif isinstance(one, pd.api.extensions.ExtensionArray):
            self.extension(one, other, where)
        elif isinstance(one, pd.offsets.BaseOffset):
            self.true(one == other and one.n == other.n and one.normalize == other.normalize, where)
        elif isinstance(one, pd.Timedelta):
            self.true(one.unit == other.unit and one == other, where)
        elif isinstance(one, pd.Interval):
            self.items([one.left, one.right, one.closed], [other.left, other.right, other.closed], where)
        elif isinstance(one, pd.CategoricalDtype):
            self.check(one.categories, other.categories, f"{where}.categories")
            self.true(one.ordered is other.ordered, f"{where}.ordered")
        elif isinstance(one, pd.DatetimeTZDtype):
            self.true(one.unit == other.unit, where)
            self.check(one.tz, other.tz, f"{where}.tz")
        elif isinstance(one, pd.StringDtype):
            self.true(
                one.storage == other.storage
                and one.na_value is other.na_value
                or (one.na_value != one.na_value and other.na_value != other.na_value),
                where,
            )  # noqa: PLR0124
        elif isinstance(one, pd.SparseDtype):
            self.items([one.subtype, one.fill_value], [other.subtype, other.fill_value], where)
        else:
            self.true(one == other and repr(one) == repr(other), where)

    def extension(self, one: Any, other: Any, where: str) -> None:
        self.check(one.dtype, other.dtype, f"{where}.dtype")
        self.true(len(one) == len(other), f"{where}: length")
        if isinstance(one, pd.Categorical):
            self.true(one.codes.tolist() == other.codes.tolist() and one.codes.dtype == other.codes.dtype, where)
        elif hasattr(one, "asi8"):
            self.true(one.asi8.tolist() == other.asi8.tolist(), where)
        elif isinstance(one, pd.arrays.SparseArray):
            self.true(one.kind == other.kind, f"{where}.kind")
            self.ndarray(np.array(one.sp_values), np.array(other.sp_values), where)
            self.true(one.sp_index.equals(other.sp_index), where)
        elif isinstance(one, pd.arrays.IntervalArray):
            self.check(one.left, other.left, f"{where}.left")
            self.check(one.right, other.right, f"{where}.right")
        elif isinstance(one, pd.arrays.NumpyExtensionArray):
            self.ndarray(np.array(one.to_numpy()), np.array(other.to_numpy()), where)
        elif hasattr(one, "_mask"):
            self.true(one._mask.tolist() == other._mask.tolist(), f"{where}.mask")
            self.ndarray(one._data[~one._mask], other._data[~other._mask], where)
        elif isinstance(one, pd.arrays.ArrowExtensionArray) and not isinstance(one.dtype, pd.StringDtype):
            self.true(one._pa_array.equals(other._pa_array), where)
        else:
            self.items(list(one), list(other), where)

    def arrow(self, one: Any, other: Any, where: str) -> None:
        if isinstance(one, (pa.Table, pa.RecordBatch, pa.Schema, pa.Field)):
            self.true(one.equals(other, check_metadata=True), where)
        else:
            self.true(one.equals(other), where)
        if isinstance(one, (pa.Array, pa.ChunkedArray)):
            self.true(one.type.equals(other.type), where)


def same_dtype(one: Any, other: Any) -> bool:
    """Equal, and equal in what equality of dtypes overlooks."""
    return (
        one == other
        and one.char == other.char
        and one.type is other.type
        and repr(one) == repr(other)
        and one.metadata == other.metadata
        and (one.names is None or (one.fields == other.fields and one.isalignedstruct == other.isalignedstruct))
    )


def same(one: Any, other: Any) -> bool | str:
    """Whether ``other`` is what ``one`` was, in every respect; where not, a text that says where."""
    try:
        _Comparison().check(one, other, "value")
    except _Difference as difference:
        return str(difference)
    return True


# Strategies: the standard library

_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=12) | st.just("x" * 5000)
_floats = st.floats() | st.sampled_from(
    [struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8000000000001, 0xFFF8DEADBEEF0000, 1 << 63)]
)
_ints = st.integers() | st.integers(-(2**63), 2**63 - 1) | st.just(10**400)
_keys = ["UTC", "Asia/Kolkata", "America/New_York", "Europe/London", "Etc/GMT+5"]
_pytz = st.sampled_from([pytz.timezone(key) for key in _keys])
_localized = st.builds(
    lambda zone, at: zone.localize(at).tzinfo, _pytz, st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2030, 1, 1))
)
_timezones = st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))) | st.sampled_from(
    [
        dt.UTC,
        dt.timezone(dt.timedelta(0), "Zulu"),
        dt.timezone(dt.timedelta(hours=5, minutes=30), "IST"),
    ]
)
_zoneinfos = st.sampled_from(_keys).map(zoneinfo.ZoneInfo)
_tzoffsets = st.builds(dateutil_tz.tzoffset, st.none() | st.just("IST"), st.sampled_from([19800, -18000, 0]))
_tzfiles = st.sampled_from(_keys[:3]).map(dateutil_tz.gettz)
_zones = st.one_of(
    _timezones, _zoneinfos, _localized, st.just(pytz.utc), st.just(pytz.FixedOffset(330)), _tzoffsets, _tzfiles
)
_datetimes = st.builds(
    lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold), st.datetimes(), st.none() | _zones, st.integers(0, 1)
)
_times = st.builds(
    lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold), st.times(), st.none() | _timezones, st.integers(0, 1)
)
_paths = st.builds(
    lambda kind, parts: kind(*parts),
    st.sampled_from([pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path())]),
    st.lists(st.text("abc/. ", max_size=4), max_size=3),
).filter(lambda path: type(path)(str(path)) == path)  # else, as of ("//", "a//") on Windows, it goes by pickle
_hashables = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    _datetimes,
    st.decimals(allow_nan=False),
)
_scalars = st.one_of(
    st.none(), st.booleans(), _ints, _floats, _text, st.binary(max_size=9), _datetimes, st.dates(), st.decimals()
)


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
                    _floats,
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
    return [{key: draw(_scalars) for key in keys} for _ in range(draw(st.integers(7, 18)))]


def _with_attributes(value: Any, attributes: dict[str, Any]) -> Any:
    value.__dict__.update(attributes)  # torch's state_dict() has some
    return value


anything = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(_hashables, inner, max_size=5),
        st.builds(Order, st.text(max_size=4), inner),
        st.builds(lambda item: [item, item], inner),
    ),
    max_leaves=12,
)

STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "NoneType": st.none(),
    "bool": st.booleans(),
    "int": _ints,
    "float": _floats,
    "complex": st.builds(complex, _floats, _floats),
    "str": _text,
    "bytes": st.binary(max_size=300) | st.just(b"\0" * 5000),
    "bytearray": st.binary(max_size=300).map(bytearray) | st.just(bytearray(5000)),
    "list": st.lists(anything, max_size=6) | _columns_of_alike() | _records(),
    "tuple": st.lists(anything, max_size=6).map(tuple) | _columns_of_alike().map(tuple),
    "dict": st.dictionaries(_hashables, anything, max_size=24),
    "set": st.sets(_hashables, max_size=24),
    "frozenset": st.frozensets(_hashables, max_size=24),
    "date": st.dates(),
    "time": _times,
    "datetime": _datetimes,
    "timedelta": st.timedeltas(),
    "ellipsis": st.just(...),
    "notimplemented": st.just(NotImplemented),
    "class": st.sampled_from([int, float, str, object, dt.datetime, list]),
    "ordered": st.builds(
        _with_attributes,
        st.lists(st.tuples(_hashables, anything), max_size=20).map(collections.OrderedDict),
        st.dictionaries(st.text(max_size=3), anything, max_size=2),
    ),
    "counter": st.dictionaries(_hashables, st.integers(), max_size=20).map(collections.Counter),
    "defaultdict": st.builds(
        collections.defaultdict,
        st.sampled_from([None, list, int, dict]),
        st.dictionaries(_hashables, anything, max_size=5),
    ),
    "deque": st.builds(collections.deque, st.lists(anything, max_size=20), st.none() | st.integers(0, 20)),
    "namespace": st.dictionaries(st.text("abc", min_size=1), anything, max_size=4).map(
        lambda kw: types.SimpleNamespace(**kw)
    ),
    "range": st.builds(range, st.integers(), st.integers(), st.integers().filter(bool)),
    "slice": st.builds(slice, *[st.none() | st.integers()] * 3),
    "decimal": st.decimals() | st.sampled_from(["-0", "1E+400", "sNaN123"]).map(__import__("decimal").Decimal),
    "fraction": st.fractions(),
    "uuid": st.uuids(),
    "path": _paths,
    "timezone": _timezones,
    "pattern": st.builds(re.compile, st.sampled_from(["a+", "(?P<x>b)|c"]), st.sampled_from([0, re.I, re.M | re.S]))
    | st.just(re.compile(b"a")),
    "array": st.builds(array.array, st.sampled_from("bBhHiIlLqQfd"), st.lists(st.integers(0, 127), max_size=9)),
    "dataclass": st.builds(Order, st.text(max_size=4), anything, anything)
    | st.builds(Quote, anything, anything)
    | st.builds(Fill, anything, anything),
    "namedtuple": st.builds(Tick, st.integers(), anything) | st.builds(Pair, anything, anything),
    "enum": st.sampled_from([*Side, *Segment, *Exchange, *Mode, Mode.LTP | Mode.FULL, Mode(0), re.I | re.M, Side.LONG]),
    "zoneinfo.ZoneInfo": _zoneinfos | st.just(zoneinfo.ZoneInfo.no_cache("Asia/Kolkata")),
    "pytz.utc": st.just(pytz.utc),
    "pytz.FixedOffset": st.sampled_from([330, -300]).map(pytz.FixedOffset),
    "pytz.timezone": _pytz | _localized,
    "dateutil.tzutc": st.just(dateutil_tz.tzutc()),
    "dateutil.tzlocal": st.just(dateutil_tz.tzlocal()),
    "dateutil.tzoffset": _tzoffsets,
    "dateutil.tzfile": _tzfiles,
    "dateutil.tzstr": st.just(dateutil_tz.tzstr("EST5EDT")),
}


# numpy

_plain_dtypes = st.one_of(
    hnp.scalar_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
    hnp.byte_string_dtypes(max_len=5),
    hnp.unicode_string_dtypes(max_len=5),
    st.sampled_from(["longlong", "ulonglong", ">q", "longdouble", "clongdouble", "V3", "M8[25s]", "m8[generic]"]).map(
        np.dtype
    ),
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
    return random.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)


@st.composite
def _arrays(draw: Any, dtypes: Any = _dtypes) -> Any:
    dtype = draw(dtypes)
    dtype = dtype if dtype.subdtype is None else dtype.base
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
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
    return [flat.view(np.recarray), flat.view(np.memmap)] + ([flat.view(np.matrix)] if flat.ndim == 2 else [])  # noqa: PLR2004


_string_arrays = st.builds(
    lambda items, na: np.array([*items, na], dtype=np.dtypes.StringDType(na_object=na)),
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9), max_size=20),
    st.sampled_from([np.nan, None]),
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
    "np.dtype": _dtypes | st.just(np.dtypes.StringDType(na_object=None, coerce=False)),
    "np.ndarray": _arrays() | _string_arrays | _arrays().flatmap(lambda made: st.sampled_from(_views(made))),
    "np.ma.MaskedArray": _masked(),
    "np.ma.masked": st.just(np.ma.masked),
    "np.generic": _np_scalars,
}


# pandas

_PANDAS_2 = pd.__version__.startswith("2.")
# pandas 2 makes wrong times with zones of dateutil 4.
_pd_tzfiles = st.nothing() if _PANDAS_2 else _tzfiles
_pd_zones = st.one_of(_timezones, _zoneinfos, _pytz, st.just(pytz.utc), _tzoffsets, _pd_tzfiles)
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
_names = st.none() | st.sampled_from(["close", 3, ("a", 1), pd.Timestamp("2024-01-01"), float("inf")])


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


@st.composite
def _extension_values(draw: Any, length: int) -> Any:
    if draw(st.integers(0, 3)) == 0:
        return _stamps(length, draw(_pd_zones), draw(_units)).array
    return draw(st.sampled_from(_KINDS))(length)


@st.composite
def _indexes(draw: Any, length: int | None = None) -> Any:
    size: int = draw(st.integers(0, 5)) if length is None else length
    name = draw(_names)
    kind = draw(st.integers(0, 8))
    if kind == 0:
        return (
            pd.RangeIndex(draw(st.integers(-5, 5)), None, 1, name=name)[:0]
            if not size
            else pd.RangeIndex(7, 7 + 3 * size, 3, name=name)
        )
    if kind == 1:
        zone = draw(st.none() | _pd_zones)
        freq = draw(
            st.sampled_from([None, "D", pd.offsets.BusinessDay(), pd.offsets.MonthEnd(2), pd.offsets.Minute(5)])
        )
        if freq is None:
            return _stamps(size, zone, draw(_units)).rename(name)
        return pd.date_range("2024-02-01", periods=size, freq=freq, tz=zone, name=name)
    if kind == 2:  # noqa: PLR2004
        return pd.timedelta_range("1s", periods=size, freq=draw(st.sampled_from(["5min", "D"])), name=name)
    if kind == 3 and size:  # noqa: PLR2004
        full = pd.MultiIndex.from_product([["a", "b", "c"], _stamps(size, dt.UTC, "ns")], names=[name, "at"])
        return full[size : 2 * size]
    if kind == 4:  # noqa: PLR2004
        return pd.Index(
            np.array([("a", 1), None, 3, "x", 1.5][:size] + [0] * (size - 5), dtype=object),
            tupleize_cols=False,
            dtype=object,
            name=name,
        )
    values = draw(_extension_values(size).filter(lambda made: made.dtype != ">f4"))
    return pd.Index(values, dtype=values.dtype, name=name)


_attrs = st.sampled_from([{}, {"source": "kite", "at": dt.datetime(2024, 1, 1), "nested": {"a": [1, (2,)]}}])


@st.composite
def _series(draw: Any) -> Any:
    size = draw(st.integers(0, 5))
    values = draw(_extension_values(size))
    made = pd.Series(values, index=draw(_indexes(size)), dtype=values.dtype, name=draw(_names))
    made.attrs = draw(_attrs)
    return made


@st.composite
def _frames(draw: Any) -> Any:
    size, width = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    if draw(st.booleans()):
        made = pd.DataFrame(np.arange(size * width, dtype="f8").reshape(size, width))
    else:
        made = pd.DataFrame(
            {
                place: pd.Series(values, dtype=values.dtype)
                for place, values in enumerate(draw(_extension_values(size)) for _ in range(width))
            },
            index=range(size),
        )
    made.columns = (
        draw(_indexes(width)) if draw(st.booleans()) else pd.Index(["a", "b", "a", 1, None][:width], dtype=object)
    )
    made.index = draw(_indexes(size))
    made.attrs = draw(_attrs)
    with contextlib.suppress(TypeError):  # labels that are not hashable
        if isinstance(made.index, pd.RangeIndex) and made.columns.is_unique:
            made.flags.allows_duplicate_labels = False
    return made


_sizes = st.integers(0, 5)


def _of_type(*kinds: Any) -> Any:
    return _sizes.flatmap(_extension_values).filter(lambda made: type(made) in kinds)


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

STRATEGIES |= {
    "pd.DataFrame": _frames(),
    "pd.Series": _series(),
    "pd.Index": _indexes().filter(lambda made: not isinstance(made, (pd.RangeIndex, pd.MultiIndex))),
    "pd.Labels": st.builds(
        lambda names, dtype, name: pd.DataFrame(
            [range(len(names))], columns=pd.Index(names, dtype=dtype, name=name)
        ),
        st.lists(st.text(max_size=5), min_size=1, max_size=6),
        st.sampled_from(["object", "string[python]", "string[pyarrow]", pd.Index(["a"]).dtype]),
        st.sampled_from([None, "field", ""]),
    ),
    "pd.RangeIndex": st.builds(
        pd.RangeIndex, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([1, -2, 3]), name=_names
    ),
    "pd.MultiIndex": st.integers(1, 5)
    .flatmap(_indexes)
    .filter(lambda index: not str(index.dtype).endswith("[pyarrow]"))
    .map(
        lambda index: (
            pd.MultiIndex.from_arrays([index, range(len(index))]) if not isinstance(index, pd.MultiIndex) else index
        )
    ),
    "pd.Timestamp": _timestamps,
    "pd.Timedelta": st.builds(
        lambda number, unit: pd.Timedelta(np.timedelta64(number, unit)), st.integers(-(10**9), 10**9), _units
    ),
    "pd.Period": st.sampled_from(
        [pd.Period("2024-01", "M"), pd.Period("2024-01-05", "D"), pd.Period("2024Q1", "Q-FEB")]
    ),
    "pd.Interval": st.sampled_from(
        [pd.Interval(1, 2), pd.Interval(0.5, 1, "both"), pd.Interval(pd.Timestamp(0), pd.Timestamp(1), "neither")]
    ),
    "pd.NaT": st.just(pd.NaT),
    "pd.NA": st.just(pd.NA),
    "pd.DateOffset": _offsets,
    "pd.MaskedDtype": st.sampled_from([pd.Int8Dtype(), pd.UInt64Dtype(), pd.Float32Dtype(), pd.BooleanDtype()]),
    "pd.StringDtype": st.sampled_from(
        [pd.StringDtype("python"), pd.StringDtype("pyarrow"), _STR]
        if pa
        else [pd.StringDtype("python")]
    ),
    "pd.CategoricalDtype": st.sampled_from([pd.CategoricalDtype(), pd.CategoricalDtype(["b", "a"], ordered=True)]),
    "pd.DatetimeTZDtype": st.builds(pd.DatetimeTZDtype, _units, _pd_zones),
    "pd.PeriodDtype": st.sampled_from([pd.PeriodDtype("D"), pd.PeriodDtype(pd.offsets.MonthEnd())]),
    "pd.IntervalDtype": st.sampled_from([pd.IntervalDtype("i8", "left"), pd.IntervalDtype("M8[ns]", "right")]),
    "pd.SparseDtype": st.sampled_from([pd.SparseDtype("f8"), pd.SparseDtype("i4", 3)]),
    "pd.Categorical": _kinds(9, 10),
    "pd.MaskedArray": _kinds(11, 12, 13),
    "pd.StringArray": _kinds(14, *([19, 20] if pa else [])),
    "pd.SparseArray": _kinds(15, 16),
    "pd.IntervalArray": _kinds(17),
    "pd.PeriodArray": _kinds(18),
    "pd.DatetimeArray": st.builds(
        lambda size, zone, unit: _stamps(size, zone, unit).array, _sizes, st.none() | _pd_zones, _units
    )
    | st.just(pd.timedelta_range("1s", periods=3).array),
    "pd.NumpyExtensionArray": st.builds(lambda size: pd.arrays.NumpyExtensionArray(np.arange(size)), _sizes),
}

if pa is not None:
    _pa_arrays = st.sampled_from(
        [
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
            pa.array([pa.MonthDayNano([1, 2, 3]), None]),
            pa.array([{"a": [1]}, None, {"a": None}])[1:],
        ]
    )
    _pa_tables = st.builds(
        lambda one, size: pa.table({"x": one, "y": pa.array([size] * len(one))}, metadata={"k": "v"}),
        _pa_arrays,
        _sizes,
    )
    STRATEGIES |= {
        "pd.ArrowDtype": st.sampled_from([pd.ArrowDtype(pa.int8()), pd.ArrowDtype(pa.timestamp("us", "UTC"))]),
        "pd.ArrowExtensionArray": _kinds(21, 22, 23),
        "pa.Table": _pa_tables | st.just(pa.table({})),
        "pa.RecordBatch": _pa_tables.map(
            lambda table: table.to_batches()[0] if table.num_rows else pa.record_batch({"a": pa.array([], "i1")})
        ),
        "pa.ChunkedArray": st.builds(
            lambda one, times: pa.chunked_array([one] * times, type=one.type), _pa_arrays, st.integers(0, 3)
        ),
        "pa.Array": _pa_arrays,
        "pa.Scalar": _pa_arrays.filter(lambda one: len(one) > 0 and not pa.types.is_run_end_encoded(one.type)).map(lambda one: one[-1])
        | st.sampled_from([pa.scalar(None, pa.string()), pa.scalar(3, pa.int8())]),
        "pa.Schema": _pa_tables.map(lambda table: table.schema),
        "pa.Field": st.just(pa.field("a", pa.int8(), nullable=False, metadata={"k": "v"})),
        "pa.DataType": _pa_arrays.map(lambda one: one.type),
    }

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
    STRATEGIES |= {
        "pl.DataFrame": _pl_frames | st.just(pl.DataFrame()),
        "pl.Series": _pl_frames.map(lambda frame: frame.to_series(0).alias("näme")) | st.just(pl.Series([1, None])),
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

STRATEGIES |= libraries.STRATEGIES
