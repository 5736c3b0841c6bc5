"""Key rules for pandas: by what a frame says, not by how it keeps it.

Neither the layout of blocks nor the history of a frame counts, nor whether an index is kept as a range, what levels
of a MultiIndex are unused, or which object a string is. Cells, dtypes, names, their order, the index and ``attrs`` do.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from pandas.api import extensions
from pandas.api import typing as pandas_typing

from redis_memo._keys import LIBRARIES
from redis_memo._keys_code import identity
from redis_memo._keys_numpy import PLAIN_KINDS, hash_table
from redis_memo._keys_numpy import content as numpy_content
from redis_memo._keys_numpy import dtype_key as numpy_dtype_key
from redis_memo._keys_stdlib import zone
from redis_memo._keys_walk import Walk, blob, digest, joined, named, number, refuse, text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__: list[str] = []

_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


# -------------------------------------------------------------------------------------------------------------- dtypes


def _dtype_key(dtype: Any, walk: Walk) -> bytes:
    if isinstance(dtype, np.dtype):
        return numpy_dtype_key(dtype, walk)
    if isinstance(dtype, pd.CategoricalDtype):
        categories = b"N" if cast("Any", dtype).categories is None else _index_key(dtype.categories, walk)
        return named("category", categories, walk.encode(bool(dtype.ordered)))
    if isinstance(dtype, pd.DatetimeTZDtype):
        # pandas takes every kind of UTC for the same dtype, and Parquet gives back another kind than it was given.
        utc = dtype == pd.DatetimeTZDtype(dtype.unit, dt.UTC)
        where = named("UTC") if utc else zone(dtype.tz, walk, everywhere=True)
        return named("datetimetz", text(dtype.unit), where)
    if isinstance(dtype, pd.PeriodDtype):
        return named("period", text(dtype.freq.freqstr))
    if isinstance(dtype, pd.IntervalDtype):
        subtype = b"N" if dtype.subtype is None else _dtype_key(dtype.subtype, walk)
        return named("interval", subtype, walk.encode(dtype.closed))
    if isinstance(dtype, pd.StringDtype):
        if isinstance(dtype.na_value, float):  # "str": whether pyarrow is there to keep it is the host's affair
            return named("str")
        return named("string", text(str(dtype.storage)))
    if isinstance(dtype, pd.SparseDtype):
        return named("sparse", _dtype_key(dtype.subtype, walk), walk.encode(dtype.fill_value))
    if isinstance(dtype, pd.ArrowDtype):
        from redis_memo._keys_arrow import type_key  # noqa: PLC0415 - pyarrow is there once its arrays are

        return named("arrow", type_key(dtype.pyarrow_dtype, walk))
    if type(dtype).__module__.partition(".")[0] == "pandas":
        return named("pandas", text(str(dtype)))  # Int64, boolean: without parameters
    return named("extension", identity(type(dtype), walk), text(str(dtype)))


# -------------------------------------------------------------------------------------------------------------- values


def _plain(values: Any) -> np.ndarray[Any, Any] | None:
    """Return the memory of values that are plain bytes each, None for all others."""
    if isinstance(values, np.ndarray):
        array = values
    elif isinstance(values, pd.arrays.DatetimeArray | pd.arrays.TimedeltaArray):
        array = values._ndarray  # noqa: SLF001 - there is no public name for it
    elif type(values) is pd.arrays.NumpyExtensionArray:  # not the arrays of text below it
        array = values.to_numpy()
    else:
        return None
    return array if array.dtype.kind in PLAIN_KINDS and array.dtype.itemsize and array.dtype.char not in "gG" else None


def _content(values: Any, walk: Walk) -> bytes:
    """Encode the elements of a one-dimensional array."""
    array = _plain(values)
    dtype: object = values.dtype
    if array is None and isinstance(values, np.ndarray):
        array = values
    elif array is None and type(values) is pd.arrays.NumpyExtensionArray:
        array = values.to_numpy()
    if array is not None:
        return numpy_content(array, walk)
    if isinstance(dtype, pd.CategoricalDtype):
        # As wide as pandas makes them for so many categories, which is not always as wide as they are.
        width = np.result_type(np.int8, np.min_scalar_type(-max(1, len(values.categories))))
        return numpy_content(values.codes.astype(width, copy=False), walk)
    if isinstance(dtype, pd.PeriodDtype):
        return numpy_content(values.asi8, walk)
    if isinstance(dtype, pd.IntervalDtype):
        return _index_values(values.left, walk) + _index_values(values.right, walk)
    if isinstance(dtype, pd.SparseDtype):
        return _sparse(values, walk)
    if isinstance(dtype, pd.StringDtype):
        return _strings(values)
    data, mask = getattr(values, "_data", None), getattr(values, "_mask", None)
    if isinstance(data, np.ndarray) and isinstance(mask, np.ndarray):
        if mask.any():  # what lies under the mask is left over from some computation
            data = data.copy()
            data[mask] = np.zeros((), data.dtype)[()]
        return numpy_content(data, walk) + numpy_content(mask, walk)
    if isinstance(dtype, pd.ArrowDtype):
        from redis_memo._keys_arrow import content  # noqa: PLC0415 - pyarrow is there once its arrays are

        return content(values.__arrow_array__(), walk)
    return walk.encode(list(values))


def _strings(values: Any) -> bytes:
    """Encode text as ``_keys_arrow.strings`` does, whatever keeps it."""
    if hasattr(values, "_pa_array"):
        from redis_memo._keys_arrow import strings  # noqa: PLC0415 - pyarrow is there once its arrays are

        return strings(values._pa_array)  # noqa: SLF001 - there is no public name for it
    items = np.asarray(values, dtype=object).tolist()
    lengths = np.array([len(item) if isinstance(item, str) else -1 for item in items], dtype="<i8")
    characters = "".join([item for item in items if isinstance(item, str)]).encode("utf-8", "surrogatepass")
    return named("strings", number(len(items)), b"#" + digest(lengths.tobytes()), blob(characters))


def _sparse(values: Any, walk: Walk) -> bytes:
    """Encode what differs from the fill value, and where: a fill value may have been stored all the same."""
    stored, fill = np.asarray(values.sp_values), values.fill_value
    places = np.asarray(values.sp_index.to_int_index().indices, dtype="<i8")
    if stored.dtype.kind == "O":  # False equals 0, too
        filling = walk.encode(fill)
        differs = np.array([walk.encode(item) != filling for item in stored.tolist()], dtype=bool)
    elif pd.isna(fill):
        differs = ~pd.isna(stored)
    else:
        differs = stored != fill
        if stored.dtype.kind in "fc" and not differs.all():
            as_stored = np.asarray(fill, stored.dtype)
            for part, filling_part in ((stored.real, as_stored.real), (stored.imag, as_stored.imag)):
                differs |= np.signbit(part) != np.signbit(filling_part)  # -0.0 equals 0.0
    kept = numpy_content(places[differs], walk) + numpy_content(stored[differs], walk)
    return named("sparse", number(len(values)), number(int(differs.sum())), kept)


# ------------------------------------------------------------------------------------------------------------- indexes


def _values_key(values: Any, walk: Walk) -> bytes:
    return named("values", _dtype_key(values.dtype, walk), number(len(values)), _content(values, walk))


def _index_key(index: Any, walk: Walk) -> bytes:
    """Encode an index without its names."""
    return _levels(index, walk) if isinstance(index, pd.MultiIndex) else _index_values(index, walk)


def _index_values(index: Any, walk: Walk) -> bytes:
    count = len(index)
    if isinstance(index, pd.RangeIndex):
        return _progression(index.start, index.step, count)
    values = index._values  # noqa: SLF001 - there is no public name for it
    if isinstance(values, np.ndarray) and values.dtype == np.int64:
        first, second = (int(values[0]), int(values[1])) if count > 1 else (int(values[0]) if count else 0, 0)
        step = second - first
        # Whole numbers in equal steps are one index, kept as a range or not.
        if count < 3 or (
            first + step * (count - 1) == int(values[-1])
            and bool((np.diff(values[:64]) == step).all())
            and bool((np.diff(values) == step).all())
        ):
            return _progression(first, step, count)
    return _values_key(values, walk)


def _progression(start: int, step: int, count: int) -> bytes:
    return named("progression", number(start if count else 0), number(step if count > 1 else 0), number(count))


def _levels(index: Any, walk: Walk) -> bytes:
    """Encode each level by its values in the order of their first appearance, and which of them stands where."""
    parts = []
    for level, codes in zip(index.levels, index.codes, strict=True):
        places, used = pd.factorize(np.asarray(codes, dtype=np.intp))
        places = places.astype("<i8")
        if (missing := np.flatnonzero(used == -1)).size:
            gone = int(missing[0])
            places = np.where(places == gone, -1, np.where(places > gone, places - 1, places)).astype("<i8")
            used = used[used != -1]
        parts.append(_index_values(level.take(used), walk) + numpy_content(places, walk))
    return named("MultiIndex", number(len(index)), *parts)


def _index(value: Any, walk: Walk) -> bytes:
    walk.work += len(value)
    return named("pandas.Index", _index_key(value, walk), walk.encode(list(value.names)), *_class(value, walk))


def _class(value: Any, walk: Walk) -> list[bytes]:
    """What tells a user's subclass from the class of pandas."""
    cls = type(value)
    if cls.__module__.partition(".")[0] == "pandas":
        return []
    own = {name: getattr(value, name, None) for name in getattr(cls, "_metadata", ()) if name != "name"}
    return [identity(cls, walk), walk.encode(own)]


# -------------------------------------------------------------------------------------------------- series and frames


def _series(value: Any, walk: Walk) -> bytes:
    walk.work += len(value)
    return named(
        "pandas.Series",
        walk.encode(value.name),
        _index(value.index, walk),
        _values_key(value._values, walk),  # noqa: SLF001 - there is no public name for it
        walk.encode(value.attrs or None),
        *_class(value, walk),
    )


def _blocks(frame: Any) -> list[tuple[Any, Sequence[int]]]:
    """The arrays a frame consists of, each with the positions of its columns."""
    try:
        return [(block.values, block.mgr_locs.as_array.tolist()) for block in frame._mgr.blocks]  # noqa: PD011, SLF001 - there is no public name for it
    except AttributeError:  # another way to keep them: slower, not wrong
        return [(frame.iloc[:, place].array, [place]) for place in range(frame.shape[1])]


def _frame(value: Any, walk: Walk) -> bytes:
    rows, width = value.shape
    walk.work += rows * width
    dtypes = [b""] * width
    contents: list[tuple[int, bytes]] = []
    tables: dict[int, tuple[np.ndarray[Any, Any], int]] = {}
    for values, places in _blocks(value):
        dtype = _dtype_key(values.dtype, walk)
        table = _plain(values)
        if table is not None and table.ndim == 1:
            table = table.reshape(1, -1)
        for row, place in enumerate(places):
            dtypes[place] = dtype
            if table is not None:
                tables[place] = (table, row)
            else:
                column = values[row] if values.ndim == 2 else values
                contents.append((place, _content(column, walk)))
    contents.sort()
    return named(
        "pandas.DataFrame",
        _index(value.index, walk),
        _index(value.columns, walk),
        joined(b"t", width, dtypes),
        hash_table(_runs(tables), rows),
        joined(b"t", len(contents), [data for _, data in contents]),
        walk.encode(value.attrs or None),
        *_class(value, walk),
    )


def _runs(tables: dict[int, tuple[np.ndarray[Any, Any], int]]) -> list[np.ndarray[Any, Any]]:
    """Put columns that are neighbours in the frame and in memory together."""
    runs: list[tuple[np.ndarray[Any, Any], int, int]] = []
    for place in sorted(tables):
        table, row = tables[place]
        if runs and runs[-1][0] is table and runs[-1][2] == row:
            runs[-1] = (table, runs[-1][1], row + 1)
        else:
            runs.append((table, row, row + 1))
    return [table[first:last] for table, first, last in runs]


# ------------------------------------------------------------------------------------------------------------- scalars


def _timestamp(value: Any, walk: Walk) -> bytes:
    """Encode an instant by its nanoseconds: the unit it is counted in makes no other instant of it."""
    return named("pandas.Timestamp", _nanoseconds(value), zone(value.tzinfo, walk, everywhere=True))


def _nanoseconds(value: Any) -> bytes:
    return number(int(value._value) * _NANOSECONDS[value.unit])  # noqa: SLF001 - there is no public name for it


def _period(value: Any, _walk: Walk) -> bytes:
    return named("pandas.Period", number(int(value.ordinal)), text(value.freqstr))


def _interval(value: Any, walk: Walk) -> bytes:
    return named("pandas.Interval", walk.encode(value.left), walk.encode(value.right), text(value.closed))


def _offset(value: Any, walk: Walk) -> bytes:
    options = dict(value.kwds)
    if isinstance(value, pd.offsets.Easter) and options.get("method") == 3:  # an argument that only pandas 3 has
        del options["method"]
    return named(
        "pandas.offset",
        identity(type(value), walk),
        walk.encode(value.n),
        walk.encode(bool(value.normalize)),
        walk.encode(options),
    )


def _array(value: Any, walk: Walk) -> bytes:
    walk.work += len(value)
    return named("pandas.array", _values_key(value, walk))


def _refused(value: Any, _walk: Walk) -> bytes:
    refuse(type(value), "is a computation that has not been made yet: pass the frame it is made from")


LIBRARIES.register(pd.DataFrame, _frame, subclasses=True)
LIBRARIES.register(pd.Series, _series, subclasses=True)
LIBRARIES.register(pd.Index, _index, subclasses=True)
LIBRARIES.register(extensions.ExtensionArray, _array, subclasses=True)
LIBRARIES.register(
    extensions.ExtensionDtype, lambda value, walk: named("pandas.dtype", _dtype_key(value, walk)), subclasses=True
)
LIBRARIES.register(pd.Timestamp, _timestamp, subclasses=True)
LIBRARIES.register(pd.Timedelta, lambda value, _walk: named("pandas.Timedelta", _nanoseconds(value)), subclasses=True)
LIBRARIES.register(pd.Period, _period, subclasses=True)
LIBRARIES.register(pd.Interval, _interval)
LIBRARIES.register(type(pd.NaT), lambda _value, _walk: named("pandas.NaT"))
LIBRARIES.register(type(pd.NA), lambda _value, _walk: named("pandas.NA"))
LIBRARIES.register(pd.offsets.BaseOffset, _offset, subclasses=True)
for _name in cast("Any", pandas_typing).__all__:
    if re.search("(?i)groupby|rolling|expanding|window|resampler|grouper", _name):
        LIBRARIES.register(getattr(pandas_typing, _name), _refused, subclasses=True)
