"""scipy's sparse matrices and sparse arrays: class, shape, and the arrays that the format consists of.

scipy's compiled routines trust indices: one that points beyond the shape reads and writes memory that is not the
matrix's. So what a matrix has to fulfil is checked when it is written and again when it is read, by one and the same
function for each format; a matrix that does not fulfil it is left to pickle.
"""

# ruff: noqa: SLF001 - a dictionary of keys has no other name for its items

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.sparse as sp

from redis_memo._codecs_items import get_items, put_items
from redis_memo._codecs_numpy import get_array, get_dtype, put_array, put_dtype
from redis_memo._codecs_rules import NotTyped, Rule, register
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis_memo._codecs_stream import Decoder, Encoder

__all__: list[str] = []

_LONGEST: Final = (1 << 63) - 1
_ELEMENTS: Final = frozenset("?bBhHiIlLqQfdgFDG")  # what scipy calculates with
_NUMBERS: Final = frozenset((bool, int, float, complex))
# Attributes that the rules below take care of, or that scipy works out again when it is asked for them.
_KNOWN: Final = frozenset({
    "_shape", "maxprint", "data", "indices", "indptr", "coords", "offsets", "rows", "dtype", "_dict",
    "has_canonical_format", "_has_canonical_format", "_has_sorted_indices",
})  # fmt: skip


# What holds for every format


def _classes(name: str) -> dict[str, Any]:
    return {cls.__name__: cls for cls in (getattr(sp, f"{name}_matrix"), getattr(sp, f"{name}_array"))}


def _is_number(dtype: Any) -> bool:
    return dtype.char in _ELEMENTS and dtype.isnative and not dtype.metadata


def _are_places(array: Any, *lengths: int) -> bool:
    """Whether an array is of a type that scipy indexes with, for axes of these lengths."""
    return (
        array.ndim == 1
        and array.dtype.char in "ilq"
        and array.dtype.isnative
        and max(*lengths, len(array)) <= np.iinfo(array.dtype).max
    )


def _are_within(array: Any, length: int) -> bool:
    return not len(array) or (int(array.min()) >= 0 and int(array.max()) < length)


def _put_head(enc: Encoder, value: Any) -> None:
    if not vars(value).keys() <= _KNOWN:
        raise NotTyped
    enc.text(type(value).__name__)
    enc.put(tuple(map(int, value.shape)))
    enc.put(value.maxprint)


def _get_head(dec: Decoder) -> tuple[str, tuple[int, ...], int]:
    name, shape, maxprint = dec.text(), dec.exact(tuple), dec.exact(int)
    if not shape or set(map(type, shape)) != {int} or min(shape) < 0 or max(shape) > _LONGEST:
        raise UnreadableEntry("a sparse matrix is damaged")
    return name, shape, maxprint


def _checked(sound: bool) -> None:
    if not sound:
        raise UnreadableEntry("a sparse matrix does not add up")


def _typed(sound: bool) -> None:
    if not sound:
        raise NotTyped


# Compressed rows, columns, blocks: the indices of row n lie from indptr[n] to indptr[n + 1]


def _is_compressed(indptr: Any, indices: Any, data: Any, major: int, minor: int) -> bool:
    return (
        _is_number(data.dtype)
        and indptr.dtype == indices.dtype
        and _are_places(indptr, major, minor)
        and _are_places(indices, major, minor)
        and len(indptr) == major + 1
        and int(indptr[0]) == 0
        and int(indptr[-1]) == len(indices) == len(data)
        and not bool((indptr[1:] < indptr[:-1]).any())
        and _are_within(indices, minor)
    )


def _axes(name: str, shape: Sequence[int], data: Any) -> tuple[int, int]:
    """How many rows of how many places a compressed matrix has."""
    if name.startswith("bsr"):
        if data.ndim != 3 or len(shape) != 2 or 0 in data.shape[1:]:
            return -1, -1
        (rows, beyond), (columns, aside) = map(divmod, shape, data.shape[1:])
        return (-1, -1) if beyond or aside else (rows, columns)
    if data.ndim != 1 or len(shape) > 2:
        return -1, -1
    major, minor = (1, shape[0]) if len(shape) == 1 else shape
    return (minor, major) if name.startswith("csc") else (major, minor)


def _put_compressed(enc: Encoder, value: Any) -> None:
    indptr = np.asarray(value.indptr)
    used = int(indptr[-1])
    indices, data = np.asarray(value.indices)[:used], np.ascontiguousarray(value.data[:used])
    axes = _axes(type(value).__name__, value.shape, data)
    _typed(min(axes) >= 0 and _is_compressed(indptr, indices, data, *axes))
    _put_head(enc, value)
    for part in (data, indices, indptr):
        put_array(enc, part)


def _get_compressed(dec: Decoder) -> Any:
    name, shape, maxprint = _get_head(dec)
    data, indices, indptr = get_array(dec), get_array(dec), get_array(dec)
    axes = _axes(name, shape, data)
    _checked(data.flags.c_contiguous and min(axes) >= 0 and _is_compressed(indptr, indices, data, *axes))
    value = _COMPRESSED[name]((data, indices, indptr), shape=shape, copy=False)
    value.indices, value.indptr = indices, indptr  # the constructor takes the narrowest type that suffices
    value.maxprint = maxprint
    return value


# Coordinates


def _are_coordinates(coords: Sequence[Any], data: Any, shape: Sequence[int]) -> bool:
    return (
        _is_number(data.dtype)
        and data.ndim == 1
        and len({axis.dtype for axis in coords}) == 1
        and all(
            _are_places(axis, *shape) and len(axis) == len(data) and _are_within(axis, length)
            for axis, length in zip(coords, shape, strict=True)
        )
    )


def _put_coordinates(enc: Encoder, value: Any) -> None:
    coords, data = [np.asarray(axis) for axis in value.coords], np.asarray(value.data)
    _typed(_are_coordinates(coords, data, value.shape))
    _put_head(enc, value)
    enc.put(bool(value.has_canonical_format))
    for part in (data, *coords):
        put_array(enc, part)


def _get_coordinates(dec: Decoder) -> Any:
    name, shape, maxprint = _get_head(dec)
    canonical, data, coords = dec.exact(bool), get_array(dec), tuple(get_array(dec) for _ in shape)
    _checked(_are_coordinates(coords, data, shape))
    value = _COORDINATES[name]((data, coords), shape=shape, copy=False)
    value.coords = coords
    value.has_canonical_format = canonical
    value.maxprint = maxprint
    return value


# Diagonals


def _are_diagonals(offsets: Any, data: Any, shape: Sequence[int]) -> bool:
    return (
        _is_number(data.dtype)
        and data.ndim == 2
        and _are_places(offsets, *shape, data.shape[1])
        and len(offsets) == len(data) == len(np.unique(offsets))
        and _are_within(offsets + shape[0], shape[0] + shape[1] + 1)
    )


def _put_diagonals(enc: Encoder, value: Any) -> None:
    offsets, data = np.asarray(value.offsets), np.ascontiguousarray(value.data)
    _typed(_are_diagonals(offsets, data, value.shape))
    _put_head(enc, value)
    put_array(enc, data)
    put_array(enc, offsets)


def _get_diagonals(dec: Decoder) -> Any:
    name, shape, maxprint = _get_head(dec)
    data, offsets = get_array(dec), get_array(dec)
    _checked(data.flags.c_contiguous and len(shape) == 2 and _are_diagonals(offsets, data, shape))
    value = _DIAGONALS[name]((data, offsets), shape=shape, copy=False)
    value.offsets = offsets
    value.maxprint = maxprint
    return value


# Lists, and dictionaries of keys: Python objects, which keep the types that they have


# Not of any class that is a number to isinstance(): a class of the program would be asked to compare and to convert.


def _are_numbers(items: Sequence[Any]) -> bool:
    return all(type(item) in _NUMBERS or isinstance(item, (np.number, np.bool_)) for item in items)


def _put_lists(enc: Encoder, value: Any) -> None:
    places = list(itertools.chain.from_iterable(value.rows))
    items = list(itertools.chain.from_iterable(value.data))
    lengths = list(map(len, value.rows))
    _typed(
        _is_number(value.dtype)
        and set(map(type, places)) <= {int}
        and set(map(type, value.rows)) | set(map(type, value.data)) <= {list}
        and lengths == list(map(len, value.data))
        and _are_numbers(items)
        and _are_within(np.array(places, np.int64), value.shape[1])
    )
    _put_head(enc, value)
    put_dtype(enc, value.dtype)
    put_array(enc, np.array(lengths, np.min_scalar_type(max(lengths, default=0))))
    put_array(enc, np.array(places, np.min_scalar_type(max(places, default=0))))
    put_items(enc, items)


def _get_lists(dec: Decoder) -> Any:
    name, shape, maxprint = _get_head(dec)
    dtype, lengths, places, items = get_dtype(dec), get_array(dec), get_array(dec), get_items(dec)
    _checked(
        len(shape) == 2
        and _is_number(dtype)
        and lengths.dtype.kind == places.dtype.kind == "u"
        and lengths.ndim == places.ndim == 1
        and len(lengths) == shape[0]
        and int(lengths.max(initial=0)) <= len(items) == len(places)
        and int(lengths.sum(dtype=np.uint64)) == len(items)
        and _are_within(places, shape[1])
        and _are_numbers(items)
    )
    value = _LISTS[name](shape, dtype=dtype)
    where, start = places.tolist(), 0
    for row, length in enumerate(lengths.tolist()):
        value.rows[row], value.data[row] = where[start : start + length], items[start : start + length]
        start += length
    value.maxprint = maxprint
    return value


def _put_keys(enc: Encoder, value: Any) -> None:
    items = value._dict
    axes: list[Any] = [list(items)] if len(value.shape) == 1 else [list(axis) for axis in zip(*items, strict=True)]
    numbers = list(items.values())
    _typed(_is_number(value.dtype) and _are_numbers(numbers) and _are_keys(axes, value.shape))
    _put_head(enc, value)
    put_dtype(enc, value.dtype)
    enc.size(len(axes))
    for part in (*axes, numbers):
        put_items(enc, part)


def _are_keys(axes: Sequence[Sequence[Any]], shape: Sequence[int]) -> bool:
    return not axes or all(
        all((type(place) is int or isinstance(place, np.integer)) and 0 <= place < length for place in axis)
        for axis, length in zip(axes, shape, strict=True)
    )


def _get_keys(dec: Decoder) -> Any:
    name, shape, maxprint = _get_head(dec)
    dtype = get_dtype(dec)
    axes = [get_items(dec) for _ in range(dec.count())]
    numbers = get_items(dec)
    _checked(_is_number(dtype) and _are_keys(axes, shape) and _are_numbers(numbers))
    value = _KEYS[name](shape, dtype=dtype)
    keys = axes[0] if len(axes) == 1 else list(zip(*axes, strict=True))
    value._dict.update(zip(keys, numbers, strict=True))
    _checked(len(value._dict) == len(numbers))
    value.maxprint = maxprint
    return value


_COMPRESSED: Final = _classes("csr") | _classes("csc") | _classes("bsr")
_COORDINATES: Final = _classes("coo")
_DIAGONALS: Final = _classes("dia")
_LISTS: Final = _classes("lil")
_KEYS: Final = _classes("dok")


register(Rule("scipy.compressed", _put_compressed, _get_compressed), *_COMPRESSED.values())
register(Rule("scipy.coo", _put_coordinates, _get_coordinates), *_COORDINATES.values())
register(Rule("scipy.dia", _put_diagonals, _get_diagonals), *_DIAGONALS.values())
register(Rule("scipy.lil", _put_lists, _get_lists), *_LISTS.values())
register(Rule("scipy.dok", _put_keys, _get_keys), *_KEYS.values())
