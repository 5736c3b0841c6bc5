"""What it means that a value came back: ``same`` compares two in every respect that promise P2 names."""

from __future__ import annotations

import array
import collections
import contextlib
import dataclasses
import datetime as dt
import enum
import itertools
import re
import struct
import types
import zoneinfo
from typing import Any

import numpy as np
import pandas as pd
import pytz

try:
    import pyarrow as pa
except ImportError:
    pa = None
try:
    import pydantic
except ImportError:
    pydantic = None  # type: ignore[assignment]

from . import strategies_libraries as libraries

__all__ = ["same"]


_SINGLES = (pd.NaT, pd.NA, np.ma.masked, Ellipsis, NotImplemented)


class Difference(Exception):
    pass


class _Comparison:
    """One walk over two values; remembers which object answered to which, so that sharing is compared too."""

    def __init__(self) -> None:
        self.partner: dict[int, int] = {}
        self.keep: list[object] = []

    def check(self, one: Any, other: Any, where: str) -> None:  # noqa: C901, PLR0912
        if type(one) is not type(other):
            raise Difference(f"{where}: {type(one)} became {type(other)}")
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
            self.polars(one, other, where)
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
            raise Difference(where)

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
                raise Difference(f"{where}: member")

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
        elif one.dtype.char in "gG":
            self.true(_without_padding(one) == _without_padding(other), where)
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
                self.writable(other, where)
                return
            self.check(one.columns, other.columns, f"{where}.columns")
            for place in range(one.shape[1]):
                # Not by iloc, which makes an object of the column's label: of some of Arrow's there is none.
                self.check(one._mgr.iget_values(place), other._mgr.iget_values(place), f"{where}.iloc[:, {place}]")
            self.writable(other, where)
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

    def writable(self, made: Any, where: str) -> None:
        for block in made._mgr.blocks:
            for part in (
                block.values,
                *(getattr(block.values, name, None) for name in ("_ndarray", "_data", "_mask", "_codes")),
            ):
                self.true(not isinstance(part, np.ndarray) or part.flags.writeable, f"{where}: not writable")

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
            self.chunked(one._pa_array, other._pa_array, where)
        else:
            self.items(list(one), list(other), where)

    def polars(self, one: Any, other: Any, where: str) -> None:
        self.true(one.equals(other, null_equal=True), where)
        self.true(one.shape == other.shape, f"{where}: shape")
        columns = [made.get_columns() if hasattr(made, "get_columns") else [made] for made in (one, other)]
        for left, right in zip(*columns, strict=True):
            self.true(left.name == right.name and left.dtype == right.dtype, f"{where}: {left.dtype} {right.dtype}")
            for way in ("SORTED_ASC", "SORTED_DESC"):
                self.true(left.flags[way] == right.flags[way], f"{where}[{left.name!r}]: {way}")
            if pa is not None:
                self.chunked(
                    *(pa.chunked_array([each.to_arrow()]) for each in (left, right)), f"{where}[{left.name!r}]"
                )

    def arrow(self, one: Any, other: Any, where: str) -> None:
        if isinstance(one, pa.Scalar):
            self.true(
                one.is_valid == other.is_valid and one.type.equals(other.type, check_metadata=True), f"{where}: type"
            )
            if one.is_valid:
                self.arrow(pa.repeat(one, 1), pa.repeat(other, 1), where)
        elif isinstance(one, (pa.Array, pa.ChunkedArray)):
            self.chunked(
                *(each if isinstance(each, pa.ChunkedArray) else pa.chunked_array([each]) for each in (one, other)),
                where,
            )
        else:
            self.true(_schema(one).equals(_schema(other), check_metadata=True), f"{where}: schema")
            if isinstance(one, (pa.Table, pa.RecordBatch)):
                self.true(one.num_rows == other.num_rows, f"{where}: length")
                for place, (left, right) in enumerate(zip(one.columns, other.columns, strict=True)):
                    self.arrow(left, right, f"{where}[{place}]")

    def chunked(self, one: Any, other: Any, where: str) -> None:
        self.true(one.type.equals(other.type, check_metadata=True), f"{where}: {one.type} became {other.type}")
        self.true(len(one) == len(other), f"{where}: length")
        ends = sorted({end for each in (one, other) for end in np.cumsum([0, *map(len, each.chunks)]).tolist()})
        for start, stop in itertools.pairwise(ends):
            left, right = (each.slice(start, stop - start).chunks for each in (one, other))
            self.elements(
                *(next(chunk for chunk in chunks if len(chunk)) for chunks in (left, right)), f"{where}[{start}:]"
            )

    def elements(self, one: Any, other: Any, where: str) -> None:  # noqa: C901, PLR0912
        """Bit by bit, and nothing of what lies under nulls: ``equals`` of Arrow knows neither NaN nor -0.0."""
        kind, count = one.type, len(one)
        if isinstance(kind, pa.BaseExtensionType):
            self.elements(one.storage, other.storage, where)
            return
        if pa.types.is_dictionary(kind):
            self.chunked(
                pa.chunked_array([one.dictionary]), pa.chunked_array([other.dictionary]), f"{where}.dictionary"
            )
            self.elements(one.indices, other.indices, where)
            return
        if pa.types.is_run_end_encoded(kind):
            self.elements(*map(_without_runs, (one, other)), where)
            return
        if pa.types.is_union(kind):
            codes = [np.frombuffer(each.buffers()[1], "i1")[each.offset :][:count] for each in (one, other)]
            self.true(codes[0].tolist() == codes[1].tolist(), f"{where}: codes")
            for place, code in enumerate(kind.type_codes):
                left, right = (_member(each, place, np.flatnonzero(codes[0] == code)) for each in (one, other))
                self.elements(left, right, f"{where}.{place}")
            return
        valid = one.is_valid().to_numpy(zero_copy_only=False)
        self.true(valid.tolist() == other.is_valid().to_numpy(zero_copy_only=False).tolist(), f"{where}: nulls")
        if not valid.any():
            return
        if pa.types.is_struct(kind):
            # Not flatten(): under a struct that is null, it ends the process where a part is a union.
            for place in range(kind.num_fields):
                left, right = (_taken(each.field(place), np.flatnonzero(valid)) for each in (one, other))
                self.elements(left, right, f"{where}.{place}")
        elif pa.types.is_boolean(kind):
            left, right = (each.fill_null(False).to_pylist() for each in (one, other))
            self.true(left == right, where)
        elif kind.num_fields:
            parts = [_parts(each, valid) for each in (one, other)]
            self.true(parts[0][0] == parts[1][0], f"{where}: lengths")
            for number, (left, right) in enumerate(zip(parts[0][1], parts[1][1], strict=True)):
                self.elements(left, right, f"{where}.{number}")
        elif _has_width(kind):
            left, right = (
                np.frombuffer(each.buffers()[1], f"V{kind.bit_width // 8}", each.offset + count)[each.offset :]
                if kind.bit_width
                else valid
                for each in (one, other)
            )
            self.true(left[valid].tobytes() == right[valid].tobytes(), where)
        else:
            left, right = (each.cast(pa.large_binary()).to_pylist() for each in (one, other))
            self.true(left == right, where)


def _without_padding(array: Any) -> bytes:
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(-1, np.dtype("g").itemsize)
    return raw[:, : {63: 10}.get(int(np.finfo("g").nmant))].tobytes()


def _schema(made: Any) -> Any:
    return made.schema if hasattr(made, "schema") else pa.schema([made]) if isinstance(made, pa.Field) else made


def _has_width(kind: Any) -> bool:
    try:
        return kind.bit_width >= 0
    except ValueError:
        return False


def _taken(array: Any, places: Any) -> Any:
    kind = str(array.type)
    if pa.types.is_struct(array.type):
        parts = [_taken(array.field(place), places) for place in range(array.type.num_fields)]
        gone = ~array.is_valid().to_numpy(zero_copy_only=False)[places]
        return pa.StructArray.from_arrays(parts, [str(place) for place in range(len(parts))], mask=pa.array(gone))
    if pa.types.is_union(array.type) and len(
        places
    ):  # Arrow takes nothing from it, nor joins dictionaries with nulls in it
        codes = pa.array(np.frombuffer(array.buffers()[1], "i1")[array.offset :][places], "i1")
        names, numbers = [str(place) for place in range(array.type.num_fields)], array.type.type_codes
        if array.type.mode == "sparse":
            parts = [_taken(array.field(place), places) for place in range(array.type.num_fields)]
            return pa.UnionArray.from_sparse(codes, parts, names, numbers)
        offsets = pa.array(np.frombuffer(array.buffers()[2], "i4")[array.offset :][places], "i4")
        parts = [array.field(place) for place in range(array.type.num_fields)]
        return pa.UnionArray.from_dense(codes, offsets, parts, names, numbers)
    if kind in ("string_view", "binary_view"):
        array = array.cast(pa.large_binary())
    if kind.count("fixed_size_list") < 2:  # of a slice of those Arrow takes others
        with contextlib.suppress(pa.ArrowNotImplementedError):
            return array.take(pa.array(places, "i8"))
    return pa.concat_arrays([array.slice(place, 1) for place in places] or [array.slice(0, 0)])


def _without_runs(array: Any) -> Any:
    ends = array.run_ends.to_numpy()
    return _taken(array.values, np.searchsorted(ends, array.offset + np.arange(len(array)), "right"))


def _member(array: Any, place: int, rows: Any) -> Any:
    if array.type.mode == "sparse":
        return _taken(array.field(place), rows)
    offsets = np.frombuffer(array.buffers()[2], "i4")[array.offset :]
    return _taken(array.field(place), offsets[rows])


def _parts(array: Any, valid: Any) -> tuple[list[int], list[Any]]:
    """The lengths of lists that are there, and their elements."""
    kind, count = array.type, len(array)
    if pa.types.is_fixed_size_list(kind):
        starts, lengths = (array.offset + np.arange(count)) * kind.list_size, np.full(count, kind.list_size)
    else:
        large = "large" in str(kind).partition("<")[0]
        offsets = np.frombuffer(array.buffers()[1], "i8" if large else "i4")[array.offset :]
        if "view" in str(kind).partition("<")[0]:
            starts, lengths = offsets[:count], np.frombuffer(array.buffers()[2], offsets.dtype)[array.offset :][:count]
        else:
            starts, lengths = offsets[:count], np.diff(offsets[: count + 1])
    rows = [np.arange(start, start + length) for start, length in zip(starts[valid], lengths[valid], strict=True)]
    values = [array.keys, array.items] if pa.types.is_map(kind) else [array.values]
    return lengths[valid].tolist(), [_taken(each, np.concatenate(rows)) for each in values]


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
    except Difference as difference:
        return str(difference)
    return True
