"""Key rules for scipy's sparse matrices: by class, shape, and what stands where.

Neither the order in which entries are kept counts, nor the type of the indices, nor duplicates that scipy adds up, nor
padding. A zero that is stored does: it is an edge of a graph, and ``nnz`` counts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from redis_memo._keys import LIBRARIES
from redis_memo._keys_code import identity
from redis_memo._keys_numpy import content as numpy_content
from redis_memo._keys_numpy import dtype_key
from redis_memo._keys_walk import Walk, joined, named, pairs, text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__: list[str] = []

# Attributes that make up the matrix, or that scipy works out again.
_PARTS = frozenset({
    "_shape", "maxprint", "data", "indices", "indptr", "coords", "row", "col", "offsets", "rows", "dtype", "_dict",
    "has_canonical_format", "_has_canonical_format", "_has_sorted_indices",
})  # fmt: skip


def _places(array: Any, walk: Walk) -> bytes:
    return numpy_content(np.asarray(array).astype("<i8", copy=False), walk)


def _compressed(value: Any, walk: Walk) -> list[bytes]:
    if not value.has_canonical_format:
        value = value.copy()
        value.sum_duplicates()
    used = int(value.indptr[-1])
    places = [_places(value.indptr, walk), _places(value.indices[:used], walk)]
    blocks = walk.encode(tuple(map(int, value.data.shape[1:])))
    return [*places, blocks, numpy_content(value.data[:used], walk)]


def _coordinates(coords: Sequence[Any], data: Any, walk: Walk) -> list[bytes]:
    """Encode entries row by row, those at one place added up."""
    order = np.lexsort(coords[::-1])
    sorted_coords, data = [np.asarray(axis)[order] for axis in coords], data[order]
    if len(data) > 1:
        moves = np.logical_or.reduce([axis[1:] != axis[:-1] for axis in sorted_coords])
        if not moves.all():
            first = np.flatnonzero(np.concatenate([[True], moves]))
            sorted_coords = [axis[first] for axis in sorted_coords]
            data = np.add.reduceat(data, first, dtype=data.dtype)
    return [*(_places(axis, walk) for axis in sorted_coords), numpy_content(data, walk)]


def _diagonals(value: Any, walk: Walk) -> list[bytes]:
    """Encode each diagonal from where it enters the matrix to where it leaves it."""
    rows, columns = map(int, value.shape)
    parts = []
    for place in np.argsort(value.offsets):
        offset = int(value.offsets[place])
        start, stop = max(0, offset), min(columns, rows + offset)
        inside = np.zeros(max(0, stop - start), value.data.dtype)
        kept = value.data[place, start:stop]
        inside[: len(kept)] = kept
        parts.append(walk.encode(offset) + numpy_content(inside, walk))
    return [joined(b"t", len(parts), parts)]


def _entries(value: Any, walk: Walk) -> list[bytes]:
    if value.format in ("csr", "csc", "bsr"):
        return _compressed(value, walk)
    if value.format == "dia":
        return _diagonals(value, walk)
    entries = value.tocoo(copy=False)
    return _coordinates(entries.coords, entries.data, walk)


def _class(value: Any, walk: Walk) -> bytes:
    cls = type(value)
    return text(cls.__name__) if cls.__module__.partition(".")[0] == "scipy" else identity(cls, walk)


def _sparse(value: Any, walk: Walk) -> bytes:
    walk.work += value.nnz
    own = pairs([(name, item) for name, item in vars(value).items() if name not in _PARTS], walk)
    return named(
        "scipy.sparse",
        _class(value, walk),
        dtype_key(value.dtype, walk),
        walk.encode(tuple(map(int, value.shape))),
        joined(b"d", len(own), own),
        *_entries(value, walk),
    )


LIBRARIES.register(sp.sparray, _sparse, subclasses=True)
LIBRARIES.register(sp.spmatrix, _sparse, subclasses=True)
