"""Key rules for numpy, and the hashing of large numeric data for the other libraries' rules.

Elements count in C order, whatever the memory layout. Large data is cut into chunks that stay in the processor's
cache while they are brought into order, searched for NaN and hashed: memory is read once. Where the cuts are depends
on dtype and shape alone. Threads share the chunks (`_threads`).
"""

from __future__ import annotations

import itertools
import operator
import sys
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from blake3 import blake3

from redis_memo._keys import LIBRARIES
from redis_memo._keys_code import global_name, identity
from redis_memo._keys_walk import Walk, blob, digest, joined, length, named, number, refuse, text
from redis_memo._threads import share, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["PLAIN_KINDS", "content", "dtype_key", "hash_table"]

_CHUNK = 1 << 19
_FEWEST_ROWS = 256
_THREADS_FROM = 2 << 20

#: Kinds of dtype whose elements are plain bytes after ``_canonical``.
PLAIN_KINDS = frozenset("biufcmMSU")
_LONG = np.dtype(np.longdouble)
_LONG_BYTES = {63: 10, 112: 16, 105: 16, 52: 8}.get(int(np.finfo(np.longdouble).nmant), _LONG.itemsize)


# -------------------------------------------------------------------------------------------------------------- dtypes


def dtype_key(dtype: np.dtype[Any], walk: Walk) -> bytes:
    """Encode a dtype: kind, size, byte order; fields with their offsets and titles."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return named("subarray", dtype_key(base, walk), walk.encode(shape))
    if dtype.names is not None:
        fields = []
        for name in dtype.names:
            inner, offset, *title = cast("Any", dtype.fields)[name]
            named_as = walk.encode(title[0] if title else None)
            fields.append(text(name) + dtype_key(inner, walk) + number(offset) + named_as)
        return named("struct", number(dtype.itemsize), joined(b"t", len(fields), fields))
    if dtype.kind == "T":
        missing = getattr(dtype, "na_object", None)
        which = walk.encode(missing) if hasattr(dtype, "na_object") else b"."
        return named("StringDType", which, walk.encode(bool(getattr(dtype, "coerce", True))))
    if dtype.isbuiltin == 2:  # bfloat16 and its like call themselves void
        return named("user dtype", identity(dtype.type, walk), text(dtype.str))
    if dtype.kind in PLAIN_KINDS or dtype.kind in "OV":
        return text(dtype.str)  # "<f8" says "<" on every host, and data in that order is what it says
    return refuse(type(dtype), "is a dtype without a rule")


def _dtype(value: np.dtype[Any], walk: Walk) -> bytes:
    return named("numpy.dtype", dtype_key(value, walk))


# ------------------------------------------------------------------------------------------------------- plain bytes


def _canonical(chunk: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Make equal elements equal bytes: one NaN, one True, no padding. The chunk, in C order, is not written to."""
    kind = chunk.dtype.kind
    if kind in "fc":
        size = chunk.dtype.itemsize // (2 if kind == "c" else 1)
        parts = chunk.reshape(-1)
        if kind == "c":
            parts = parts.view(f"{chunk.dtype.byteorder}f{size}")
        if parts.size and _has_nan(parts):
            parts = parts.copy()
            parts[np.isnan(parts)] = np.nan
        if size == _LONG.itemsize and size > _LONG_BYTES:  # the last six bytes of a long double are never set
            return np.ascontiguousarray(parts.view(np.uint8).reshape(-1, size)[:, :_LONG_BYTES])
        return parts
    if kind == "b":
        flags = chunk.reshape(-1).view(np.uint8)
        return (flags != 0).view(np.uint8) if flags.size and flags.max() > 1 else flags
    return chunk


def _has_nan(values: np.ndarray[Any, Any]) -> bool:
    # No square and no sum of squares is NaN but for a NaN. Only where BLAS starts no threads: they do not survive fork.
    if values.size <= 4096 and values.dtype.char in "df" and values.dtype.isnative:
        product = values.dot(values)
        return bool(product != product)  # noqa: PLR0124 - only NaN differs from itself
    smallest = values.min()  # NaN if any is
    return bool(smallest != smallest)  # noqa: PLR0124 - only NaN differs from itself


def _bytes(chunk: np.ndarray[Any, Any]) -> memoryview:
    """The memory of a C-contiguous array. Through a view of bytes: dates and the like have no buffer of their own."""
    return memoryview(cast("Any", chunk.reshape(-1).view(np.uint8)))


def _shared(total: int, count: int, work: Callable[[int], bytes]) -> list[bytes]:
    """``work(0)`` to ``work(count - 1)``, by several threads where there is much to read."""
    results: list[bytes] = [b""] * count

    def part(index: int) -> None:
        with np.errstate(all="ignore"):  # which each thread has for itself
            results[index] = work(index)

    share(part, count, threads(count) if total >= _THREADS_FROM else 1)
    return results


def _combined(parts: Sequence[bytes]) -> bytes:
    return b"#" + (parts[0] if len(parts) == 1 else digest(b"".join(parts)))


def hash_table(runs: Sequence[np.ndarray[Any, Any]], rows: int) -> bytes:
    """Digest columns of equal length: for each chunk of rows, its part of each column in turn.

    Args:
        runs: Two-dimensional arrays, one row for each column, in the order of the columns. How the columns are
            divided among them and how their memory is laid out makes no difference.
        rows: The length of the columns.
    """
    width = sum(run.shape[0] * run.dtype.itemsize for run in runs)
    if not width or not rows:
        return _combined([blake3(b"").digest()])
    step = max(_FEWEST_ROWS, 1 << (max(1, _CHUNK // width).bit_length() - 1))

    groups = [list(group) for _, group in itertools.groupby(runs, key=operator.attrgetter("dtype"))]

    def part(index: int) -> bytes:
        hasher = blake3()
        start, stop = index * step, min((index + 1) * step, rows)
        for group in groups:
            # Brought together in the cache first: few calls on much data let the threads wait less for each other.
            pieces = [run[:, start:stop] for run in group]
            # By itself numpy would join what is big-endian into something that is not.
            one = len(pieces) == 1
            piece = np.ascontiguousarray(pieces[0]) if one else np.concatenate(pieces, dtype=pieces[0].dtype)
            hasher.update(_bytes(_canonical(piece)))
        return hasher.digest()

    return _combined(_shared(width * rows, -(-rows // step), part))


def _plain(array: np.ndarray[Any, Any]) -> bytes:
    """Digest an array of plain elements."""
    if array.ndim == 0 or array.nbytes <= _CHUNK:
        if array.dtype.kind not in "bfc":
            return b"#" + digest(array.tobytes())
        with np.errstate(all="ignore"):
            return b"#" + digest(_bytes(_canonical(np.ascontiguousarray(array))))
    row = array.nbytes // array.shape[0]
    if row > _CHUNK and array.ndim == 2:  # in blocks: one row after the other may mean all the memory for each row
        return hash_table([array], array.shape[1])
    if row > _CHUNK and array.ndim > 2:
        return _combined([_plain(part)[1:] for part in array])
    step = max(1, _CHUNK // row)

    def part(index: int) -> bytes:
        chunk = np.ascontiguousarray(array[index * step : (index + 1) * step])
        return blake3(_bytes(_canonical(chunk))).digest()

    return _combined(_shared(array.nbytes, -(-array.shape[0] // step), part))


def content(array: np.ndarray[Any, Any], walk: Walk) -> bytes:
    """Encode the elements of an array, without dtype and shape."""
    array = array.view(np.ndarray) if type(array) is not np.ndarray else array
    dtype = array.dtype
    if dtype.names is not None:
        parts = [content(array[name], walk) for name in dtype.names]
        return joined(b"t", len(parts), parts)
    if dtype.kind in "OT":
        return walk.encode(array.reshape(-1).tolist())
    if dtype.kind not in PLAIN_KINDS and dtype.kind != "V":
        refuse(type(dtype), "is a dtype without a rule")
    if dtype.itemsize == 0:
        return b"N"
    if dtype.kind == "V" and dtype.isbuiltin == 2:  # bfloat16 and its like: a NaN of theirs is not known here
        array = array.view(f"V{dtype.itemsize}")
    return _plain(array)


# --------------------------------------------------------------------------------------------------- arrays, scalars


def _array(value: np.ndarray[Any, Any], walk: Walk) -> bytes:
    walk.work += value.size
    parts = [dtype_key(value.dtype, walk), _shape(value), content(value, walk)]
    if type(value) is not np.ndarray:
        parts.append(identity(type(value), walk))
        if not isinstance(value, np.memmap):  # whose own state is which file it stands in
            parts.append(walk.encode(dict(getattr(value, "__dict__", ()))))
    return named("numpy.ndarray", *parts)


def _shape(value: np.ndarray[Any, Any]) -> bytes:
    return blob(b"".join(map(length, value.shape)))


_MASK_STATE = frozenset({
    "_mask", "_fill_value", "_hardmask", "_sharedmask", "_isfield", "_baseclass", "_optinfo", "_basedict",
})  # fmt: skip


def _masked(value: np.ma.MaskedArray[Any, Any], walk: Walk) -> bytes:
    walk.work += value.size
    mask = np.ma.getmaskarray(value)
    data = np.array(value.data, copy=True, subok=False)
    _blank(data, mask)
    filling = value._fill_value  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public name for it
    default = None
    if value.dtype.names is None:
        default = np.asarray(np.ma.default_fill_value(value.dtype), dtype=value.dtype)
    if filling is None or default is None:
        fill = b"N" if filling is None else walk.encode(np.asarray(filling))
    else:
        chosen = walk.encode(np.asarray(filling, dtype=value.dtype))
        fill = b"N" if chosen == walk.encode(default) else chosen
    state = {name: item for name, item in value.__dict__.items() if name not in _MASK_STATE}
    return named(
        "numpy.ma",
        identity(type(value), walk),
        dtype_key(value.dtype, walk),
        _shape(value),
        content(data, walk),
        content(mask, walk),
        fill,
        walk.encode({**state, **(getattr(value, "_optinfo", None) or {})}),
    )


def _blank(data: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> None:
    """Overwrite in place what lies under the mask: it is no part of the value."""
    if mask.dtype.names is not None:
        for name in mask.dtype.names:
            _blank(data[name], mask[name])
    elif mask.any():
        data[mask] = np.zeros((), dtype=data.dtype)[()]


def _scalar(value: np.generic, walk: Walk) -> bytes:
    dtype = value.dtype
    if not type(value).__module__.startswith("numpy"):
        own = walk.encode(dict(getattr(value, "__dict__", ())))
        return named("numpy.generic", identity(type(value), walk), walk.encode(np.asarray(value)), own)
    if dtype.char in "df?bBhHiIlLqQmM":
        data = value.tobytes()
        if value != value and dtype.kind == "f":  # noqa: PLR0124 - only NaN differs from itself
            data = np.array(np.nan, dtype).tobytes()
        return named("numpy.generic", text(dtype.str), b"#" + digest(data))
    array = np.asarray(value)
    return named("numpy.generic", dtype_key(array.dtype, walk), content(array, walk))


def _ufunc(value: np.ufunc, _walk: Walk) -> bytes:
    name = value.__name__
    if getattr(np, name, None) is value:
        return named("ufunc", text(f"numpy.{name}"))
    module = getattr(value, "__module__", None) or ""
    special = next((where for where in _special_functions() if getattr(where, name, None) is value), None)
    if special is None:
        refuse(type(value), "has no name that leads to it" + (f" in {module}" if module else ""))
    return named("ufunc", text(f"{special.__name__}.{name}"))


def _special_functions() -> Iterator[Any]:
    for name in ("scipy.special", "numpy.char", "numpy.strings"):
        if name in sys.modules:
            yield sys.modules[name]


def _dispatcher(value: Any, _walk: Walk) -> bytes:
    return named("builtin", text(global_name(value)))


def _busdays(value: np.busdaycalendar, walk: Walk) -> bytes:
    return named("numpy.busdaycalendar", walk.encode(value.weekmask), walk.encode(value.holidays))


LIBRARIES.register(np.ndarray, _array, subclasses=True)
LIBRARIES.register(np.ma.MaskedArray, _masked, subclasses=True)
LIBRARIES.register(np.generic, _scalar, subclasses=True)
LIBRARIES.register(np.dtype, _dtype, subclasses=True)
LIBRARIES.register(np.ufunc, _ufunc)
LIBRARIES.register(np.busdaycalendar, _busdays)
LIBRARIES.register(type(np.mean), _dispatcher)
