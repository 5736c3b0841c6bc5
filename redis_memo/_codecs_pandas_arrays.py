"""pandas below the frame: dtypes, extension arrays, indexes.

Each is stored by what it means (categories and codes, values and mask, offset and number), never by its internals,
so that what one major version of pandas wrote the other one reads.
"""

# ruff: noqa: SLF001 - arrays as they lie have no public name

from __future__ import annotations

import datetime as dt
import functools
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from pandas.core.arrays import string_, string_arrow

from redis_memo._codecs_items import hashable
from redis_memo._codecs_numpy import get_array, put_array
from redis_memo._codecs_rules import NotTyped, Rule, register
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = ["as_numpy", "get_name", "get_zone", "label_parts", "put_labels", "set_freq"]

_MASKED: Final = {
    name: getattr(pd, name)
    for name in (
        *(f"{sign}Int{bits}Dtype" for sign in ("", "U") for bits in (8, 16, 32, 64)),
        "Float32Dtype",
        "Float64Dtype",
        "BooleanDtype",
    )
}


def _of(cls: type, value: object) -> Any:
    if not isinstance(value, cls):
        raise UnreadableEntry("an array is damaged")
    return value


# Zones

_LOOKS_INTO_ZONES: Final = pd.__version__.startswith("2.")


def get_zone(dec: Decoder, *others: type) -> Any:
    """Read a zone, never a zone's name: pandas opens what "dateutil/..." leads to.

    pandas 2 takes zones of dateutil apart by attributes that those of dateutil 4 do not have, and makes of them, with a
    line on standard error, times that are off by the offset.
    """
    zone = dec.some(dt.tzinfo, *others)
    if _LOOKS_INTO_ZONES and type(zone).__name__ == "tzfile" and not hasattr(zone, "_trans_list_utc"):
        raise UnreadableEntry("this version of pandas cannot use this version of dateutil's zones")
    return zone


# dtypes


def _put_string_dtype(enc: Encoder, dtype: Any) -> None:
    enc.put(dtype.storage.removesuffix("_numpy"))
    enc.put(dtype.na_value is not pd.NA)


def _get_string_dtype(dec: Decoder) -> Any:
    return _string_dtype(dec.exact(str), dec.exact(bool))


def _string_dtype(storage: str, nan: bool) -> Any:
    if storage not in ("python", "pyarrow"):
        raise UnreadableEntry("a string dtype is damaged")
    if not nan:
        return pd.StringDtype(storage)
    try:
        return pd.StringDtype(storage, na_value=np.nan)
    except TypeError:  # pandas 2.2 and before have one dtype with NaN, under a name of its own
        if storage != "pyarrow":
            raise
        return pd.StringDtype("pyarrow_numpy")


def _put_parts(*names: str) -> Callable[[Encoder, Any], None]:
    def put(enc: Encoder, dtype: Any) -> None:
        for name in names:
            enc.put(getattr(dtype, name))

    return put


_DTYPES: Final = (np.dtype, pd.api.extensions.ExtensionDtype, type(None))


def _get_sparse_dtype(dec: Decoder) -> Any:
    return pd.SparseDtype(dec.some(np.dtype), dec.get())


register(
    Rule("pd.MaskedDtype", lambda enc, dtype: enc.text(type(dtype).__name__), lambda dec: _MASKED[dec.text()]()),
    *_MASKED.values(),
)
register(Rule("pd.StringDtype", _put_string_dtype, _get_string_dtype), pd.StringDtype)
register(
    Rule(
        "pd.CategoricalDtype",
        _put_parts("categories", "ordered"),
        lambda dec: pd.CategoricalDtype(dec.some(pd.Index, type(None)), dec.exact(bool, type(None))),
    ),
    pd.CategoricalDtype,
)
register(
    Rule(
        "pd.DatetimeTZDtype",
        _put_parts("unit", "tz"),
        lambda dec: pd.DatetimeTZDtype(dec.exact(str), get_zone(dec)),
    ),
    pd.DatetimeTZDtype,
)
register(
    Rule("pd.PeriodDtype", _put_parts("freq"), lambda dec: pd.PeriodDtype(dec.some(pd.offsets.BaseOffset))),
    pd.PeriodDtype,
)
register(
    Rule(
        "pd.IntervalDtype",
        _put_parts("subtype", "closed"),
        lambda dec: pd.IntervalDtype(dec.some(*_DTYPES), dec.exact(str, type(None))),
    ),
    pd.IntervalDtype,
)
register(
    Rule("pd.SparseDtype", _put_parts("subtype", "fill_value"), _get_sparse_dtype),
    pd.SparseDtype,
)
register(Rule("pd.ArrowDtype", _put_parts("pyarrow_dtype"), lambda dec: pd.ArrowDtype(dec.get())), pd.ArrowDtype)


# Extension arrays


def as_numpy(array: Any) -> Any:
    """The ndarray behind datetimes without a zone and timedeltas; any other array as it is."""
    if isinstance(array, (pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray)) and isinstance(array.dtype, np.dtype):
        return array._ndarray
    return array


def _put_categorical(enc: Encoder, array: Any) -> None:
    enc.put(array.dtype)
    put_array(enc, array.codes)


def _get_categorical(dec: Decoder) -> Any:
    dtype = _of(pd.CategoricalDtype, dec.get())
    return pd.Categorical.from_codes(get_array(dec, "iu"), dtype=dtype)


def _put_masked(enc: Encoder, array: Any) -> None:
    enc.text(type(array).__name__)
    put_array(enc, array._data)
    put_array(enc, array._mask)


_MASKED_ARRAYS: Final[dict[str, Any]] = {
    cls.__name__: cls for cls in (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)
}


def _get_masked(dec: Decoder) -> Any:
    return _MASKED_ARRAYS[dec.text()](get_array(dec, "iufb"), get_array(dec, "b"), copy=False)


# Strings in Arrow's memory: lengths, not offsets (they compress), a mask only where something is missing, and the
# text. Strings in Python objects: those.

_STRINGS: Final = frozenset({str, np.str_, float, type(None), type(pd.NA)})


def _put_strings(enc: Encoder, array: Any) -> None:
    enc.put(array.dtype)
    if array.dtype.storage == "python":
        items = np.asarray(array, dtype=object)
        if not _STRINGS.issuperset(map(type, items.flat)):
            raise NotTyped
        put_array(enc, items)
        return
    import pyarrow as pa  # noqa: PLC0415 - loaded already by the array

    column = array._pa_array.combine_chunks() if array._pa_array.num_chunks != 1 else array._pa_array.chunk(0)
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], pa.large_string())
    column = column.cast(pa.large_string())
    _, offsets, data = column.buffers()
    count = len(column)
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + count + 1] if count else np.zeros(1, int)
    lengths = np.diff(ends)
    put_array(enc, lengths.astype(np.min_scalar_type(int(lengths.max(initial=0)))))
    put_array(enc, np.packbits(column.is_valid(), bitorder="little") if column.null_count else np.empty(0, np.uint8))
    start, stop = int(ends[0]), int(ends[-1])
    enc.blob(memoryview(data)[start:stop].cast("B") if data is not None and stop > start else b"")


def _get_strings(dec: Decoder) -> Any:
    dtype = _of(pd.StringDtype, dec.get())
    if dtype.storage == "python":
        array = get_array(dec, "O")
        if not _STRINGS.issuperset(map(type, array.flat)):
            raise UnreadableEntry("an array of strings holds something else")  # which would be asked for its __str__
        return dtype.construct_array_type()._from_sequence(array, dtype=dtype)
    import pyarrow as pa  # noqa: PLC0415 - only where strings live in it

    lengths, mask, data = get_array(dec, "u"), get_array(dec, "u"), dec.blob()
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    masked = mask.size in (0, (len(lengths) + 7) // 8)
    if int(offsets[-1]) != len(data) or not masked:
        raise UnreadableEntry("a column of strings does not add up")
    validity = pa.py_buffer(mask.tobytes()) if mask.size else None
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(bytes(data))]
    column = pa.Array.from_buffers(pa.large_string(), len(lengths), buffers)
    column.validate(full=True)
    return dtype.__from_arrow__(column)


def _put_sparse(enc: Encoder, array: Any) -> None:
    index = array.sp_index
    enc.put(array.dtype)
    put_array(enc, array.sp_values)
    enc.size(index.length)
    block = array.kind == "block"
    enc.put(block)
    for part in (index.blocs, index.blengths) if block else (index.indices,):
        put_array(enc, part)


def _get_sparse(dec: Decoder) -> Any:
    from pandas._libs.sparse import BlockIndex, IntIndex  # noqa: PLC0415 - few frames are sparse

    dtype, values, length = _of(pd.SparseDtype, dec.get()), get_array(dec), dec.size()
    kind: Any = BlockIndex if dec.exact(bool) else IntIndex
    index = kind(length, *(get_array(dec, "i") for _ in range(2 if kind is BlockIndex else 1)))
    if values.ndim != 1 or index.npoints != len(values) or values.dtype != dtype.subtype:
        raise UnreadableEntry("a sparse array does not add up")
    return pd.arrays.SparseArray._simple_new(values, index, dtype)  # type: ignore[attr-defined]


def _put_interval_array(enc: Encoder, array: Any) -> None:
    enc.put(array.left)
    enc.put(array.right)
    enc.put(array.dtype)


def _get_interval_array(dec: Decoder) -> Any:
    left, right, dtype = dec.some(pd.Index), dec.some(pd.Index), dec.some(pd.IntervalDtype)
    # A range is of any length, in few bytes; and objects would be asked for their numbers.
    if any(isinstance(ends, pd.RangeIndex) or ends.dtype == object for ends in (left, right)):
        raise UnreadableEntry("an array of intervals is damaged")
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=dtype.closed, dtype=dtype)


def _put_period_array(enc: Encoder, array: Any) -> None:
    enc.put(array.dtype)
    put_array(enc, array.asi8)


def _get_period_array(dec: Decoder) -> Any:
    dtype = _of(pd.PeriodDtype, dec.get())
    return pd.arrays.PeriodArray(get_array(dec, "i"), dtype=dtype)


def _put_datetime_array(enc: Encoder, array: Any) -> None:
    enc.put(array.dtype)
    put_array(enc, array._ndarray)
    enc.put(getattr(array, "_freq", None))  # pandas 3.1 keeps it with the index alone


def _get_datetime_array(dec: Decoder) -> Any:
    dtype, values, freq = dec.get(), get_array(dec, "mM"), dec.get()
    if isinstance(dtype, pd.DatetimeTZDtype):
        if values.dtype != f"M8[{dtype.unit}]":
            raise UnreadableEntry("a datetime array is damaged")
        # The constructors would localize; these values are UTC already.
        array = pd.arrays.DatetimeArray._simple_new(values, dtype=dtype)  # type: ignore[attr-defined]
    else:
        array = pd.array(values, dtype=values.dtype, copy=False)
    if hasattr(array, "_freq"):
        array._freq = freq
    return array


def _put_arrow(enc: Encoder, array: Any) -> None:
    enc.put(array._pa_array)


register(Rule("pd.Categorical", _put_categorical, _get_categorical), pd.Categorical)
register(Rule("pd.MaskedArray", _put_masked, _get_masked), *_MASKED_ARRAYS.values())
register(
    Rule("pd.StringArray", _put_strings, _get_strings),
    *{
        found
        for module in (string_, string_arrow)
        for name in ("", "Arrow")
        for suffix in ("", "NumpySemantics")
        if (found := getattr(module, f"{name}StringArray{suffix}", None))
    },
)
register(Rule("pd.SparseArray", _put_sparse, _get_sparse), pd.arrays.SparseArray)
register(Rule("pd.IntervalArray", _put_interval_array, _get_interval_array), pd.arrays.IntervalArray)
register(Rule("pd.PeriodArray", _put_period_array, _get_period_array), pd.arrays.PeriodArray)
register(
    Rule("pd.DatetimeArray", _put_datetime_array, _get_datetime_array),
    pd.arrays.DatetimeArray,
    pd.arrays.TimedeltaArray,
)
register(
    Rule("pd.ArrowExtensionArray", _put_arrow, lambda dec: pd.arrays.ArrowExtensionArray(dec.get())),
    pd.arrays.ArrowExtensionArray,
)
register(
    Rule(
        "pd.NumpyExtensionArray",
        lambda enc, array: put_array(enc, array._ndarray),
        lambda dec: pd.arrays.NumpyExtensionArray(get_array(dec)),
    ),
    pd.arrays.NumpyExtensionArray,
)


# Indexes

_LONGEST_LEVEL: Final = 1 << 24  # for a level that is a range: the check of a MultiIndex takes a byte for each element


def get_name(dec: Decoder) -> Any:
    """Read what a series or an index is called: anything that can be hashed, and will be."""
    name = dec.get()
    hashable(dec, (name,))
    return name


def _put_index(enc: Encoder, index: Any) -> None:
    enc.put(index.name)
    plain = isinstance(index.dtype, np.dtype)
    enc.put(plain)
    if plain:
        put_array(enc, as_numpy(index._data))
    else:
        enc.put(index.array)
    enc.put(getattr(index, "freq", None) if index.dtype.kind in "mM" else None)


def _get_index(dec: Decoder) -> Any:
    name = get_name(dec)
    values = get_array(dec) if dec.exact(bool) else dec.some(pd.api.extensions.ExtensionArray)
    if values.dtype == object:
        hashable(dec, values.ravel().tolist())
    if values.dtype.kind == "M" and isinstance(values, np.ndarray) and values.ndim == 1:
        # What nearly every frame of ours has; the constructor would take twenty times as long to come to the same.
        values = pd.arrays.DatetimeArray._simple_new(values, dtype=values.dtype)  # type: ignore[attr-defined]
    if type(values) is pd.arrays.DatetimeArray:
        index: Any = pd.DatetimeIndex._simple_new(values, name=name)  # type: ignore[attr-defined]
    else:
        index = pd.Index(values, dtype=values.dtype, name=name, tupleize_cols=False, copy=False)
    freq = dec.get()
    if freq is not None:
        set_freq(index, _of(pd.offsets.BaseOffset, freq))
    return index


def set_freq(index: Any, freq: Any) -> None:
    """Say what a new index' frequency is."""
    # The setter would generate the whole range to compare, at Python speed for business days.
    data = index._data
    owner = data if hasattr(data, "_freq") else index
    owner._freq = freq


# The names of columns: few strings, which many results have in common.

_MOST_LABELS: Final = 1024
_LABELS: Final = (None, ("pyarrow", True), ("python", True), ("pyarrow", False), ("python", False))


def label_parts(index: Any) -> tuple[str | None, int, list[str]] | None:
    """Name, kind and labels of an index of strings; None of any other."""
    dtype = index.dtype
    if isinstance(dtype, pd.StringDtype):
        how: Any = (dtype.storage.removesuffix("_numpy"), dtype.na_value is not pd.NA)
    else:
        how = None if dtype == np.dtype(object) else ()  # not its kind: Arrow's dictionaries of strings have it, too
    if type(index) is pd.Index and how in _LABELS and 0 < len(index) <= _MOST_LABELS:
        arrow: Any = getattr(index.array, "_pa_array", None)  # asked itself, it takes a fifth of the time
        labels = index.tolist() if arrow is None else arrow.to_pylist()
        name: Any = index.name
        if type(name) in (str, type(None)) and set(map(type, labels)) == {str} and "\0" not in "".join(labels):
            return name, _LABELS.index(how), labels
    return None


def put_labels(enc: Encoder, index: Any) -> None:
    """Write what is probably an index of strings."""
    parts = label_parts(index)
    if parts is None:
        enc.put(index)
    else:
        enc.put_by(_LABELS_RULE, parts)


def _put_labels(enc: Encoder, parts: tuple[str | None, int, list[str]]) -> None:
    name, how, labels = parts
    enc.put(name)
    enc.out.append(how)
    enc.text("\0".join(labels))


def _get_labels(dec: Decoder) -> Any:
    name, how, text = dec.exact(str, type(None)), dec.byte(), dec.text()
    if _LABELS[how] is None:
        return pd.Index(text.split("\0"), dtype=object, name=name)
    # A copy shares the strings, which nobody can change, and not the place that holds them.
    return pd.Index._simple_new(_labels(how, text).copy(), name=name)  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=256)
def _labels(how: int, text: str) -> Any:
    storage, nan = _LABELS[how] or ("", False)
    return pd.array(text.split("\0"), dtype=_string_dtype(storage, nan))


_LABELS_RULE: Final = Rule("pd.Labels", _put_labels, _get_labels)
register(_LABELS_RULE)


def _put_range_index(enc: Encoder, index: Any) -> None:
    for part in (index.start, index.stop, index.step, index.name):
        enc.put(part)


def _get_range_index(dec: Decoder) -> Any:
    return pd.RangeIndex(dec.exact(int), dec.exact(int), dec.exact(int), name=get_name(dec))


def _put_multi_index(enc: Encoder, index: Any) -> None:
    if any(isinstance(level, pd.RangeIndex) and len(level) > _LONGEST_LEVEL for level in index.levels):
        raise NotTyped
    enc.put(tuple(index.names))
    enc.put(index.sortorder)
    enc.size(index.nlevels)
    for level, codes in zip(index.levels, index.codes, strict=True):
        enc.put(level)
        put_array(enc, np.asarray(codes))


def _get_multi_index(dec: Decoder) -> Any:
    names, sortorder = dec.exact(tuple), dec.exact(int, type(None))
    hashable(dec, names)
    parts = [(dec.some(pd.Index), get_array(dec, "iu")) for _ in range(dec.count())]
    if any(isinstance(level, pd.RangeIndex) and len(level) > _LONGEST_LEVEL for level, _ in parts):
        raise UnreadableEntry("a level is too long")
    levels, codes = zip(*parts, strict=True)
    # With the check: a code that points nowhere would make pandas read beyond its arrays.
    return pd.MultiIndex(levels, codes, sortorder=sortorder, names=names, verify_integrity=True)


register(
    Rule("pd.Index", _put_index, _get_index),
    pd.Index,
    pd.DatetimeIndex,
    pd.TimedeltaIndex,
    pd.PeriodIndex,
    pd.IntervalIndex,
    pd.CategoricalIndex,
)
register(Rule("pd.RangeIndex", _put_range_index, _get_range_index), pd.RangeIndex)
register(Rule("pd.MultiIndex", _put_multi_index, _get_multi_index), pd.MultiIndex)
