"""pandas: frames, series and scalars.

A frame is its two indexes and its columns. Columns of one plain dtype form a group; each column is a buffer of its
own, or the group is one if columns are short. Reading puts a group into one block, so that a numeric frame costs
one copy of its data and comes back as it will be used. How the blocks lay in the original is not kept, but where many
bytes of noise lie row by row: they are stored as they lie, which spares a copy of them all.
"""

# ruff: noqa: SLF001 - columns as they lie have no public name

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from redis_memo._codecs_buffers import Strided
from redis_memo._codecs_items import NAMED_ITEMS, PACKERS, SINGLETONS
from redis_memo._codecs_numpy import fixed, get_array, get_dtype, numbers, put_array, put_dtype, raw, writable
from redis_memo._codecs_pandas_arrays import as_numpy, get_name, get_zone, put_labels
from redis_memo._codecs_pandas_forms import (
    AT_ONCE,
    CAN_BUILD,
    SHORT,
    alike,
    as_block,
    form_of,
    keep_mould,
    put_together,
    where,
)
from redis_memo._codecs_pandas_offsets import OFFSETS, get_offset, put_offset
from redis_memo._codecs_rules import FLAWS, Rule, attributes_lost, put_nothing, refuse, register
from redis_memo._codecs_stream import COLUMN, OUT_OF_BAND, Decoder, Encoder
from redis_memo._segments import SEGMENT, is_worth
from redis_memo.errors import NoSuchColumn, UnreadableEntry

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Collection, Sequence

__all__ = ["some_columns"]

ACROSS: Final = 4 << 20  # bytes of a block from which it may stay row by row
LOOKS: Final = 8  # columns of it, of which a sample is taken
_ROWS_AT_ONCE: Final = 4096


# Columns


def _gather(matrix: Any) -> Any:
    """A C-contiguous copy of columns that lie across rows, a cache-sized piece at a time (three times as fast)."""
    copy = np.empty(matrix.shape, matrix.dtype)
    for start in range(0, matrix.shape[1], _ROWS_AT_ONCE):
        stop = start + _ROWS_AT_ONCE
        copy[:, start:stop] = matrix[:, start:stop]
    return copy


def _put_short(enc: Encoder, dtype: Any, places: Any, matrix: Any) -> None:
    """Write short columns of one dtype as one buffer: what there is to say of each would cost more than it saves."""
    enc.out += b"m"
    put_dtype(enc, dtype)
    listed = places.tolist()
    if max(listed, default=0) < 1 << 8:
        enc.out.append(1)
        enc.blob(bytes(listed))
    else:
        at = _places([places])
        enc.out.append(at.itemsize)
        enc.blob(raw(at))
    enc.size(matrix.shape[1])
    kind = numbers(dtype)
    if kind and dtype.kind in "fiu":
        kind = f"{len(matrix)}{kind}"
    enc.column(raw(np.ascontiguousarray(matrix)), kind)


def _get_short(dec: Decoder) -> tuple[Any, Any]:
    dtype, width = get_dtype(dec), dec.byte()
    if width not in (1, 2, 4):
        raise UnreadableEntry("a frame is damaged")
    places: Any = np.frombuffer(dec.blob(), f"<u{width}")
    rows = dec.size()
    if not fixed(dtype) or not dtype.itemsize or dec.measure() != len(places) * rows * dtype.itemsize:
        raise UnreadableEntry("a frame is damaged")
    matrix = np.empty((len(places), rows), dtype)
    dec.fill(writable(matrix))
    return matrix, places


def _put_group(enc: Encoder, dtype: Any, places: list[Any], blocks: list[Any]) -> None:
    """Write columns of one plain dtype, given as matrices with a row per column."""
    enc.out += b"g"
    put_dtype(enc, dtype)
    put_array(enc, _places(places))
    rows = blocks[0].shape[1]
    enc.size(rows)
    if rows * dtype.itemsize < OUT_OF_BAND:
        # By itself numpy would join what is big-endian into something that is not.
        enc.blob(raw(np.ascontiguousarray(blocks[0] if len(blocks) == 1 else np.concatenate(blocks, dtype=dtype))))
        return
    for block in blocks:
        if _lies_across(block):
            for column in block:
                enc.scattered(Strided(column), numbers(dtype))
            continue
        matrix = block if block.strides[1] == dtype.itemsize else _gather(block)
        for column in matrix:
            enc.blob(raw(column), numbers(dtype))


def _lies_across(matrix: Any) -> bool:
    """Whether columns lie apart, as those of a frame row by row, and are so many bytes that no copy is to be made."""
    if matrix.nbytes < ACROSS:
        return False
    rows, size = matrix.shape[1], matrix.itemsize
    return bool(rows * size >= SHORT and matrix.strides[1] != size and SEGMENT % size == 0)


def _stays_across(matrix: Any) -> bool:
    """Whether they had better stay as they lie: most of a few of them, gathered, would be stored as they are."""
    if not matrix.T.flags.c_contiguous:
        return False
    few = matrix[:: -(-len(matrix) // LOOKS)]
    worth = sum(is_worth(Strided(column), numbers(matrix.dtype)) for column in few)
    return 2 * worth <= len(few)


def _put_across(enc: Encoder, dtype: Any, places: Any, matrix: Any) -> None:
    """Write columns that lie row by row as one buffer."""
    enc.out += b"r"
    put_dtype(enc, dtype)
    put_array(enc, _places([places]))
    enc.size(matrix.shape[1])
    enc.blob(raw(matrix.T))


def _get_across(dec: Decoder, chosen: Collection[int] | None) -> tuple[Any, Any]:
    dtype, places, rows = get_dtype(dec), get_array(dec, "u"), dec.size()
    size = len(places) * rows * dtype.itemsize if places.ndim == 1 else 0
    if not fixed(dtype) or not size or dec.measure() != size:
        raise UnreadableEntry("a frame is damaged")
    if chosen is not None and not _are_in(places, chosen).any() and dec.measure_buffers(1) == [size]:
        dec.pass_buffer()
        return np.empty((0, rows), dtype), places[:0]
    matrix = np.empty((rows, len(places)), dtype)
    dec.fill(writable(matrix))
    return matrix.T, places


def _places(places: list[Any]) -> Any:
    joined = np.concatenate(places)
    highest = int(joined.max(initial=0))
    return joined.astype("<u1" if highest < 1 << 8 else "<u2" if highest < 1 << 16 else "<u4")


def _get_group(dec: Decoder, chosen: Collection[int] | None) -> tuple[Any, Any]:
    dtype, places, rows = get_dtype(dec), get_array(dec, "u"), dec.size()
    length = rows * dtype.itemsize
    if not fixed(dtype) or not dtype.itemsize or places.ndim != 1:
        raise UnreadableEntry("a frame is damaged")
    together = length < OUT_OF_BAND
    measured = [dec.measure()] if together else dec.measure_buffers(len(places))
    if measured != ([length * len(places)] if together else [length] * len(places)):
        raise UnreadableEntry("a column is not as long as it should be")
    wanted = np.ones(len(places), bool) if together or chosen is None else _are_in(places, chosen)
    if not wanted.all():
        dec.require(0, np.flatnonzero(wanted).tolist())
    matrix = np.empty((int(wanted.sum()), rows), dtype)
    parts = iter((matrix,) if together else matrix)
    for row in range(1 if together else len(places)):
        if together or wanted[row]:
            dec.fill(writable(next(parts)))
        else:
            dec.pass_buffer()
    return matrix, places[wanted]


def _put_columns(enc: Encoder, frame: Any) -> None:
    groups: dict[Any, tuple[list[Any], list[Any]]] = {}
    plain: list[tuple[Callable[..., None], Any, Any, Any]] = []
    others: list[tuple[int, Any]] = []
    for block in frame._mgr.blocks:
        values, places = as_numpy(block.values), block.mgr_locs.as_array
        if isinstance(values, np.ndarray) and fixed(values.dtype):
            if enc.as_it_lies and _lies_across(values) and _stays_across(values):
                plain.append((_put_across, values.dtype, places, values))
                continue
            # By its text: equal dtypes can differ in what they are called, and in their metadata.
            dtype = values.dtype
            into = groups.setdefault((dtype.str, dtype.char, None if dtype.metadata is None else id(dtype)), ([], []))
            into[0].append(places)
            into[1].append(values)
        elif values.ndim > 1:
            others += zip(places.tolist(), values, strict=True)
        else:
            others.append((int(places[0]), values))
    for all_places, blocks in groups.values():
        dtype, rows = blocks[0].dtype, blocks[0].shape[1]
        length = rows * dtype.itemsize
        if length >= SHORT or sum(map(len, blocks)) * length < COLUMN:
            plain.append((_put_group, dtype, all_places, blocks))
            continue
        places, matrix = all_places[0], blocks[0]
        if len(blocks) > 1:
            places, matrix = np.concatenate(all_places), np.concatenate(blocks, dtype=dtype)
        plain += [(_put_short, dtype, places[which], matrix[which]) for which in alike(matrix)]
    enc.size(len(plain) + len(others))
    for put, *parts in plain:
        put(enc, *parts)
    for place, values in sorted(others, key=lambda other: other[0]):
        enc.out += b"C"
        enc.size(place)
        enc.put_apart(values)


def _are_in(places: Any, chosen: Collection[int]) -> Any:
    """Which of the places are chosen: there may be as many groups of them as there are columns."""
    return np.array([place in chosen for place in places.tolist()], bool)


def _get_columns(dec: Decoder, rows: int, width: int, chosen: Collection[int] | None) -> list[tuple[Any, Any]]:
    blocks: list[tuple[Any, Any]] = []
    for _ in range(dec.count()):
        how = dec.byte()
        if how == ord("g"):
            blocks.append(_get_group(dec, chosen))
        elif how == ord("m"):
            blocks.append(_get_short(dec))
        elif how == ord("r"):
            blocks.append(_get_across(dec, chosen))
        else:
            place = dec.size()
            if how == ord("C"):
                wanted = chosen is None or place in chosen
                values = dec.get_apart(wanted=wanted)
                if not wanted:
                    continue
            else:
                values = dec.get()
            blocks.append((values.reshape(1, -1) if isinstance(values, np.ndarray) else values, np.array([place])))
    # Nothing below this looks again: a length or a place that is wrong would be memory that is not ours.
    for values, places in blocks:
        is_array = isinstance(values, np.ndarray | pd.api.extensions.ExtensionArray)
        if not is_array or values.shape != ((len(places), rows) if isinstance(values, np.ndarray) else (rows,)):
            raise UnreadableEntry("a frame does not add up")
    if chosen is not None:
        blocks = [(values[keep] if values.ndim > 1 or len(keep) != 1 else values, places[keep])
                  for values, places in blocks if (keep := _are_in(places, chosen)).any()]  # fmt: skip
    found = sorted(place for _, places in blocks for place in places.tolist())
    # A range of labels is any length for a few bytes: it is not to be spelled out before it is as long as what is here.
    if len(found) != (width if chosen is None else len(chosen)) or found != (
        list(range(width)) if chosen is None else sorted(chosen)
    ):
        raise UnreadableEntry("a frame does not add up")
    return blocks


def _put_frame(enc: Encoder, frame: Any) -> None:
    if (flaw := _flaw(frame)) is not None:
        refuse(frame, flaw)
    form = form_of(frame) if len(enc.out) == AT_ONCE else None
    if form is None:
        _put_parts(enc, frame)
    elif not form.put(enc):
        _put_parts(enc, frame)
        form.keep(enc)


def _put_parts(enc: Encoder, frame: Any) -> None:
    put_labels(enc, frame.columns)
    enc.put(frame.index)
    _put_columns(enc, frame)
    _put_extras(enc, frame)


def _get_frame(dec: Decoder) -> Any:
    wanted, dec.columns, begin = dec.columns, None, dec.pos
    if begin == AT_ONCE:
        dec.filled = []
    columns, index = dec.some(pd.Index), dec.some(pd.Index)
    if len(columns) > dec.room():  # labels that are a range would be spelled out to find one
        raise UnreadableEntry("a frame does not add up")
    if wanted is None:
        blocks = _get_columns(dec, len(index), len(columns), None)
        frame = _get_extras(dec, _build(blocks, index, columns))
        if begin == AT_ONCE and dec.pos == dec.end:
            keep_mould(dec, frame, blocks)
        return frame
    asked = _chosen(columns, wanted)
    chosen = np.array(list(dict.fromkeys(asked.tolist())), np.intp)  # a column asked for twice is read once
    blocks = _get_columns(dec, len(index), len(columns), set(chosen.tolist()))
    order = np.argsort(chosen)
    placed = [(values, order[np.searchsorted(chosen[order], places)]) for values, places in blocks]
    frame = _build(placed, index, columns.take(chosen))
    if len(asked) > len(chosen):
        frame = frame.take(order[np.searchsorted(chosen[order], asked)], axis=1)
    return _get_extras(dec, frame)


def _chosen(columns: Any, wanted: Sequence[object]) -> Any:
    """Where the columns of these names are, as ``frame[list(wanted)]`` would have them."""
    found = []
    for name in wanted:
        at = columns.get_indexer_for([name]).tolist()
        if -1 in at:
            raise NoSuchColumn(f"the frame has no column {name!r}; it has {len(columns)}")
        found += at
    return np.array(found, np.intp)


def some_columns(frame: Any, wanted: Sequence[object]) -> Any:
    """Some columns of a frame, in the order in which they are wanted."""
    return frame.take(_chosen(frame.columns, wanted), axis=1)


def _build(blocks: list[tuple[Any, Any]], index: Any, columns: Any) -> Any:
    if not CAN_BUILD:
        return _build_by_column(blocks, index, columns)
    objects: list[tuple[Any, Any]] = []
    others: list[tuple[Any, Any]] = []
    for block in blocks:
        (objects if _can_be_joined(block[0]) else others).append(block)
    if len(objects) > 1:
        joined = (np.concatenate([values for values, _ in objects]), np.concatenate([at for _, at in objects]))
        blocks = [*others, joined]
    return put_together([(as_block(values), where(at)) for values, at in blocks if len(at)], index, columns)


def _can_be_joined(values: Any) -> bool:
    """Whether they are Python objects and no more: metadata of a dtype does not outlive that it is joined to others."""
    return isinstance(values, np.ndarray) and values.dtype.char == "O" and values.dtype.metadata is None


def _build_by_column(blocks: list[tuple[Any, Any]], index: Any, columns: Any) -> Any:
    """The same by the public way alone."""
    series: dict[int, Any] = {}
    for values, places in blocks:
        for row, place in enumerate(places.tolist()):
            column = values[row] if isinstance(values, np.ndarray) else values
            series[place] = pd.Series(column, index=index, dtype=column.dtype, copy=False)
    frame = pd.DataFrame({place: series[place] for place in range(len(columns))}, index=index, copy=False)
    frame.columns = columns
    return frame


def _put_series(enc: Encoder, series: Any) -> None:
    if (flaw := _flaw(series)) is not None:
        refuse(series, flaw)
    enc.put(series.name)
    enc.put(series.index)
    enc.put(as_numpy(series._values))
    _put_extras(enc, series)


def _get_series(dec: Decoder) -> Any:
    name, index, values = get_name(dec), dec.some(pd.Index), dec.some(np.ndarray, pd.api.extensions.ExtensionArray)
    return _get_extras(dec, pd.Series(values, index=index, dtype=values.dtype, name=name, copy=False))


_OWN: Final = frozenset({"_mgr", "_attrs", "_flags", "_name", "_item_cache", "_is_copy", "_cacher"})


def _flaw(value: Any) -> str | None:
    """Attributes are not pandas' either: each copy of a frame is without them. Those with an underscore are its own."""
    own = vars(value)
    if own.keys() <= _OWN:
        return None
    cls: Any = type(value)
    if cls.__reduce__ is not object.__reduce__ or cls.__getstate__ not in _STATES:
        return None
    flaw = attributes_lost(cls, own, kept={*cls._metadata, *[name for name in own if str(name).startswith("_")]})
    return None if flaw is None else f"{flaw}, or put it into .attrs"


_STATES: Final = (pd.DataFrame.__getstate__, pd.Series.__getstate__)


def _put_extras(enc: Encoder, value: Any) -> None:
    enc.put(value.flags.allows_duplicate_labels)
    enc.put(value.attrs or None)


def _get_extras(dec: Decoder, value: Any) -> Any:
    if not dec.exact(bool):
        value.flags.allows_duplicate_labels = False
    attrs = dec.exact(dict, type(None))
    if attrs is not None:
        value.attrs = attrs
    return value


# Scalars


def _put_timestamp(enc: Encoder, value: Any) -> None:
    enc.text(value.unit)
    enc.put(int(value.asm8.view("i8")))
    enc.put(value.tzinfo)
    enc.put(value.fold)


def _get_timestamp(dec: Decoder) -> Any:
    unit, number, zone, fold = dec.text(), dec.exact(int), get_zone(dec, type(None)), dec.exact(int)
    return _timestamp(unit, number, zone, fold)


def _timestamp(unit: str, number: int, zone: dt.tzinfo | None, fold: int) -> Any:
    value = pd.Timestamp(np.datetime64(number, unit))  # type: ignore[call-overload]
    if zone is not None:
        value = value.tz_localize("UTC").tz_convert(zone)
    return value if value.fold == fold else value.replace(fold=fold)  # type: ignore[arg-type]


def _put_timestamps(enc: Encoder, items: Sequence[Any]) -> bool:
    """Timestamps that would all be elements of one index."""
    unit, zone = items[0].unit, items[0].tzinfo
    if zone is not None or any(item.unit != unit or item.tzinfo is not None or item.fold for item in items):
        return False
    enc.out += b"x\x0dpd.timestamps"
    put_array(enc, np.array([item.asm8 for item in items], f"M8[{unit}]"))
    return True


def _get_timestamps(dec: Decoder) -> list[Any]:
    array = get_array(dec)
    if array.dtype.kind != "M" or array.ndim != 1:
        raise UnreadableEntry("a column of timestamps is damaged")
    return list(pd.DatetimeIndex(array, copy=False))


def _put_timedelta(enc: Encoder, value: Any) -> None:
    enc.text(value.unit)
    enc.put(int(value.asm8.view("i8")))


def _get_timedelta(dec: Decoder) -> Any:
    unit, number = dec.text(), dec.exact(int)
    return pd.Timedelta(np.timedelta64(number, unit))  # type: ignore[call-overload]


def _put_period(enc: Encoder, value: Any) -> None:
    enc.put(value.freq)
    enc.put(value.ordinal)


def _get_period(dec: Decoder) -> Any:
    freq, ordinal = dec.some(pd.offsets.BaseOffset), dec.exact(int)
    return pd.Period(ordinal=ordinal, freq=freq)


def _get_interval(dec: Decoder) -> Any:
    ends = (int, float, np.number, pd.Timestamp, pd.Timedelta)
    closed: Any
    left, right, closed = dec.some(*ends), dec.some(*ends), dec.text()
    return pd.Interval(left, right, closed)


def _put_interval(enc: Encoder, value: Any) -> None:
    enc.put(value.left)
    enc.put(value.right)
    enc.text(value.closed)


register(Rule("pd.DataFrame", _put_frame, _get_frame), pd.DataFrame)
register(Rule("pd.Series", _put_series, _get_series), pd.Series)
for _cls in (pd.DataFrame, pd.Series):
    FLAWS.register(_cls, _flaw, subclasses=True)
register(Rule("pd.Timestamp", _put_timestamp, _get_timestamp), pd.Timestamp)
register(Rule("pd.Timedelta", _put_timedelta, _get_timedelta), pd.Timedelta)
register(Rule("pd.Period", _put_period, _get_period), pd.Period)
register(Rule("pd.Interval", _put_interval, _get_interval), pd.Interval)
register(Rule("pd.DateOffset", put_offset, get_offset), *OFFSETS.values())
register(Rule("pd.NaT", put_nothing, lambda _dec: pd.NaT), type(pd.NaT))
register(Rule("pd.NA", put_nothing, lambda _dec: pd.NA), type(pd.NA))
SINGLETONS.update((type(pd.NaT), type(pd.NA)))
PACKERS[pd.Timestamp] = _put_timestamps
NAMED_ITEMS[b"pd.timestamps"] = _get_timestamps
