"""Frames that are alike in all but their numbers: written, read and put together without looking at everything again.

Results of one function mostly have the same columns, dtypes and number of rows. The stream of such a frame is the same
as that of the last one, and so is the way in which it is made of its buffers.
"""

# ruff: noqa: SLF001 - frames as they lie have no public name

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd

from redis_memo._codecs_buffers import fill
from redis_memo._codecs_numpy import raw
from redis_memo._codecs_pandas_arrays import label_parts, set_freq
from redis_memo._codecs_rules import USER_TYPES, find_rule
from redis_memo._codecs_stream import COLUMN, Decoder, Encoder, mould

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from redis_memo._codecs_buffers import Buffer

try:
    # What the constructors come to when they have looked at everything; the same in pandas 2.2 and 3.
    _Placement: Any = importlib.import_module("pandas._libs.internals").BlockPlacement
    _blocks: Any = importlib.import_module("pandas.core.internals.blocks")
    _Manager: Any = importlib.import_module("pandas.core.internals.managers").BlockManager
    _of_manager: Any = pd.DataFrame._from_mgr  # type: ignore[attr-defined]
except (ImportError, AttributeError):
    _of_manager = None

__all__ = ["AT_ONCE", "CAN_BUILD", "SHORT", "alike", "as_block", "form_of", "keep_mould", "put_together", "where"]

AT_ONCE: Final = 14  # where the parts of a frame begin that is not a part of anything
CAN_BUILD: Final = _of_manager is not None
SHORT: Final = 32 * 1024  # bytes of a column below which it has no buffer of its own
_WHOLE: Final = 1.5 * 2**52  # what is added to this loses its decimals
_LOOKS: Final = 4
_SINGLE: Final = 1e-7  # how far a float of 32 bits may be off; what a feed sends as one may be here as a double
_BY_NUMPY: Final = 16  # rows
_MOST_BYTES: Final = 1 << 20  # of more, writing the stream is the least
_MOST_FORMS: Final = 256
_LONGEST: Final = 4096  # bytes of a stream
# Zones that stay as they are, by their rules. What the system's own zone is can be set.
_ZONES: Final = (
    "timezone", "zoneinfo.ZoneInfo", "pytz.utc", "pytz.FixedOffset", "pytz.timezone",
    "dateutil.tzutc", "dateutil.tzoffset", "dateutil.tzfile", "dateutil.tzstr",
)  # fmt: skip
_FREQUENCIES: Final = ("pd.DateOffset",)


def _lasts(part: object, rules: Collection[str]) -> bool:
    """Whether a part of an index is none, or of a library that never changes it: it may be remembered, and shared."""
    if part is None:
        return True
    rule = find_rule(type(part))
    return rule is not None and rule.name in rules and type(part) not in USER_TYPES


# Written


def alike(matrix: Any) -> list[Any]:
    """The rows of a matrix in groups that are smaller by themselves: floats that look like prices, and the others."""
    if matrix.dtype.char not in "df" or len(matrix) == 1:
        return [slice(None)]
    few = matrix[:, :: max(1, matrix.shape[1] // _LOOKS)]
    if len(few) > _BY_NUMPY:
        with np.errstate(all="ignore"):
            few = few.astype("f8")  # in which a sum with so much keeps the whole number
            near = np.abs((few * 100.0 + _WHOLE - _WHOLE) / 100.0 - few) <= _SINGLE * np.abs(few)
            prices = (2 * (near | (few - few != 0.0)).sum(axis=1) > few.shape[1]).tolist()
    else:
        # In Python, which has looked at a few before numpy begins; most rows are prices to the last bit.
        rows = few.tolist()
        grid = [[(n * 100.0 + _WHOLE - _WHOLE) / 100.0 for n in row] for row in rows]
        if grid == rows:
            return [slice(None)]
        prices = [
            2 * sum(abs(at - n) <= _SINGLE * abs(n) or n - n != 0.0 for at, n in zip(near, row, strict=True)) > len(row)
            for near, row in zip(grid, rows, strict=True)
        ]
    if all(prices) or not any(prices):
        return [slice(None)]
    found = np.array(prices)
    return [found, ~found]


# Streams from where a frame's parts begin, and the kinds of its buffers, by all that they depend on; None where one was
# seen. Of a zone that is the object that it is, which is kept: equal ones need not be written alike.
_forms: Final[dict[tuple[Any, ...], tuple[bytes, list[str], object] | None]] = {}


class Form(NamedTuple):
    """What the stream of a frame depends on, and its buffers.

    Attributes:
        key: All but the numbers.
        moments: Those of the index.
        groups: The other numbers, in the order in which the stream refers to them: matrices, and which rows of each.
        zone: Of the index.
    """

    key: tuple[Any, ...]
    moments: Any
    groups: list[tuple[Any, Any]]
    zone: object

    def buffers(self) -> list[Buffer]:
        """The numbers as they are written."""
        return [raw(self.moments), *(raw(matrix[which]) for matrix, which in self.groups)]

    def put(self, enc: Encoder) -> bool:
        """Write the frame as one of the same form was written; False if none was."""
        known = _forms.get(self.key)
        if known is None:
            return False
        enc.out += known[0]
        enc.buffers += self.buffers()
        enc.kinds += known[1]
        return True

    def keep(self, enc: Encoder) -> None:
        """Remember how the frame was written, if it is what was expected, and not the only one of its form."""
        if self.key not in _forms:  # to look at all of each would be half of what it takes to write them
            if len(_forms) >= _MOST_FORMS:
                _forms.clear()
            _forms[self.key] = None
            return
        stream = bytes(enc.out[AT_ONCE:])
        if enc.classes or not USER_TYPES.keys().isdisjoint(map(type, enc.keep)):
            return  # the user's own can be written otherwise the next time
        if len(stream) > _LONGEST or enc.pickled or list(map(bytes, enc.buffers)) != list(map(bytes, self.buffers())):
            return
        _forms[self.key] = stream, enc.kinds[:], self.zone


def form_of(frame: Any) -> Form | None:
    """The form of a frame of plain columns that are short, by moments; None of any other."""
    index, columns = frame.index, label_parts(frame.columns)
    if type(index) is not pd.DatetimeIndex or columns is None or type(index.name) not in (str, type(None)):
        return None
    moments = index._data._ndarray  # type: ignore[attr-defined]
    zone = index.tz
    if index.freq is not None or frame.attrs or not frame.flags.allows_duplicate_labels or not _lasts(zone, _ZONES):
        return None
    if not moments.flags.c_contiguous or moments.nbytes < COLUMN:
        return None
    name, how, labels = columns
    if sum(map(len, labels)) > _LONGEST:
        return None
    groups, blocks, size = [], [], 0
    for block in frame._mgr.blocks:
        matrix = block.values  # noqa: PD011 - of a block
        if type(matrix) is not np.ndarray or matrix.dtype.isbuiltin != 1 or matrix.dtype.kind not in "fiubc":
            return None
        if not matrix.flags.c_contiguous or not matrix.size:
            return None
        size += matrix.nbytes
        length = matrix.shape[1] * matrix.itemsize
        if length >= SHORT or size > _MOST_BYTES:
            return None
        parts = alike(matrix)
        split = parts[0].tobytes() if len(parts) > 1 else None
        fewest = len(matrix) if split is None else min(split.count(0), split.count(1))
        if length * fewest < COLUMN:
            return None  # what is in the stream itself is not to be remembered
        blocks.append((matrix.dtype.num, split, *block.mgr_locs.as_array.tolist()))
        groups += [(matrix, which) for which in parts]
    if len({block[0] for block in blocks}) < len(blocks):
        return None  # those of one dtype are joined
    key = (name, how, tuple(labels), index.name, index.unit, id(zone), len(index), *blocks)
    return Form(key, moments, groups, zone)


# Read. Indexes like one that was read, without its stream. An index is its owner's: it can be given another name.


def _moments_like(index: Any) -> Callable[[Any], Any] | None:
    """A function of their numbers that makes such indexes of moments; None of what is no such index."""
    if type(index) is not pd.DatetimeIndex or type(index.name) not in (str, type(None)):
        return None
    dtype, name, freq = index.dtype, index.name, index.freq
    if not _lasts(index.tz, _ZONES) or not _lasts(freq, _FREQUENCIES):
        return None

    def make(values: Any) -> Any:
        array = pd.arrays.DatetimeArray._simple_new(values, dtype=dtype)  # type: ignore[attr-defined]
        made = pd.DatetimeIndex._simple_new(array, name=name)  # type: ignore[attr-defined]
        if freq is not None:
            set_freq(made, freq)
        return made

    return make


def _labels_like(index: Any) -> Callable[[], Any] | None:
    """A function that makes such labels; None of what are no strings."""
    if type(index) is not pd.Index or type(index.name) not in (str, type(None)):
        return None
    if not isinstance(index.dtype, pd.StringDtype) and (index.dtype != object or set(map(type, index)) != {str}):
        return None  # a label of Arrow's may be none that Python can say
    kept, name = index._data.copy(), index.name  # type: ignore[attr-defined]
    return lambda: pd.Index._simple_new(kept.copy(), name=name)  # type: ignore[attr-defined]


def keep_mould(dec: Decoder, frame: Any, blocks: list[tuple[Any, Any]]) -> None:
    """Remember how a frame is made of its buffers, if they are the numbers of its index and of its blocks.

    Nothing else may be in its stream that would be shared by all who read it, or that not all of them may read.
    """
    if dec.filled is None or dec.classes:
        return
    make_index, make_labels = _moments_like(frame.index), _labels_like(frame.columns)
    if not CAN_BUILD or make_index is None or make_labels is None or frame.attrs:
        return
    arrays = [frame.index.asi8.view(f"M8[{frame.index.unit}]"), *(values for values, _ in blocks)]
    plain = all(
        isinstance(values, np.ndarray)
        and values.dtype.kind in "fiubM"
        and values.dtype.metadata is None
        and values.flags.c_contiguous
        for values in arrays
    )
    if not (plain and frame.flags.allows_duplicate_labels and dec.lengths() == [values.nbytes for values in arrays]):
        return
    # A buffer that is as long as one of them can be something else (the holidays of a frequency), and the array lie in
    # the stream.
    if len(dec.filled) != len(arrays) or not all(map(np.may_share_memory, arrays, dec.filled)):
        return
    forms = [(values.nbytes, values.shape, values.dtype) for values in arrays]
    places = [where(each) for _, each in blocks]

    def make(buffers: Sequence[Any]) -> Any:
        made = []
        for (size, shape, dtype), buffer in zip(forms, buffers, strict=True):
            memory = np.empty(size, np.uint8)
            fill(memory.data, buffer)
            made.append(np.ndarray(shape, dtype, memory))
        index, *values = made
        placed = zip(map(as_block, values), places, strict=True)
        return put_together(list(placed), make_index(index), make_labels())

    mould(dec.data, make)


# Put together


def put_together(blocks: list[tuple[Any, Any]], index: Any, columns: Any) -> Any:
    """A frame of blocks and where their columns are."""
    made = tuple([_blocks.new_block(values, _Placement(where), ndim=2) for values, where in blocks])
    axes = [columns, index]
    return _of_manager(_Manager(made, axes, verify_integrity=False), axes)


def as_block(values: Any) -> Any:
    """Values as a block has them: a matrix with a row per column, or an extension array."""
    if not isinstance(values, np.ndarray):
        return _blocks.ensure_block_shape(values, ndim=2)
    return values if values.dtype.kind in "fiubO" else _blocks.maybe_coerce_values(values)


def where(places: Any) -> Any:
    """Where columns are, as a slice if they are side by side."""
    first, stop = int(places[0]), int(places[0]) + len(places)
    return slice(first, stop) if places.tolist() == list(range(first, stop)) else places.astype(np.intp)
