"""How a value is kept so that each caller's is its own (P2), and for how long.

What cannot be changed is shared. What is flat, and holds only such, is copied; so are numpy's arrays and pandas'
frames. All else is decoded again from the bytes of its entry. Frames are copied outright and not by copy-on-write:
``Series.array``, and ``values`` of categories and nullable numbers, are doors through which a caller's change would
reach what the other callers share (tried with pandas 3.1).
"""

from __future__ import annotations

import datetime as dt
import decimal
import logging
import math
import operator
import sys
import time
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any, Final

from ._envelope import label
from ._large import Large
from ._near import NearEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._large import Bytes, Envelope
    from ._near import Near
    from ._near_call import Paths

__all__ = ["NearFilling", "kept_as"]

log = logging.getLogger("redis_memo")

# By exact type: a subclass may have attributes of its own.
_ATOMS: Final = frozenset({
    type(None), bool, int, float, complex, str, bytes, dt.date, dt.timedelta, decimal.Decimal, uuid.UUID, range,
    type(Ellipsis),
})  # fmt: skip
_ZONES: Final = frozenset({type(None), dt.timezone, zoneinfo.ZoneInfo})
_FLAT: Final = frozenset({dict, list, set, bytearray})
_UNLIKELY: Final = math.log(1000.0)  # XFetch draws more than this once in a thousand calls


def kept_as(value: Any) -> tuple[Any, Callable[[Any], Any] | None, int] | None:
    """How to keep a value that nobody else has, so that each caller's is its own.

    Returns:
        What is kept, what copies it, or None where it can be shared, and the bytes that it takes. None where only
        decoding the value again will do.
    """
    size = _shared_size(value)
    if size is not None:
        return value, None, size
    cls = type(value)
    if cls in _FLAT:
        return _flat(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and cls is numpy.ndarray:
        # Copies share a dtype, whose names of fields can be set.
        if value.dtype.hasobject or value.dtype.names is not None or not value.flags.writeable:
            return None
        own = value.copy("K")
        return own, operator.methodcaller("copy", "K"), own.nbytes
    pandas = sys.modules.get("pandas")
    if pandas is not None and cls in (pandas.DataFrame, pandas.Series):
        return _frame(value, pandas)
    return None


def _shared_size(value: Any) -> int | None:
    """Bytes of a value that nobody can change, or None."""
    cls = type(value)
    if cls in _ATOMS or (cls in (dt.datetime, dt.time) and type(value.tzinfo) in _ZONES):
        return sys.getsizeof(value)
    if cls in (tuple, frozenset):
        total = sys.getsizeof(value)
        for each in value:
            size = _shared_size(each)
            if size is None:
                return None
            total += size
        return total
    return None


def _flat(value: Any) -> tuple[Any, Callable[[Any], Any], int] | None:
    size = sys.getsizeof(value)
    if type(value) is not bytearray:
        for each in value:
            own = _shared_size(each)
            if own is None:
                return None
            size += own
    if type(value) is dict:
        for each in value.values():
            own = _shared_size(each)
            if own is None:
                return None
            size += own
    return value.copy(), type(value).copy, size


def _frame(value: Any, pandas: Any) -> tuple[Any, Callable[[Any], Any], int] | None:
    # Before pandas 3 an index, which copies share, can be written to through its values.
    if int(pandas.__version__.partition(".")[0]) < 3 or value.attrs:
        return None
    columns = [value] if type(value) is pandas.Series else [value.iloc[:, at] for at in range(value.shape[1])]
    if not all(_plain(each.dtype, pandas) for each in columns):
        return None
    for axis in value.axes:
        if type(axis) not in (pandas.RangeIndex, pandas.DatetimeIndex, pandas.Index) or not _plain(axis.dtype, pandas):
            return None
        if _shared_size(axis.name) is None:
            return None
    if type(value) is pandas.Series and _shared_size(value.name) is None:
        return None
    own = value.copy(deep=True)
    for number, axis in enumerate(own.axes):
        own = own.set_axis(_unwritable(axis, pandas), axis=number)
    size = own.memory_usage(index=True, deep=True)
    size = int(size if type(value) is pandas.Series else size.sum())
    index, *columns = [_renewal(axis, pandas) for axis in own.axes]

    def copy(kept: Any) -> Any:
        made = kept.copy(deep=True)
        made.index = index()
        if columns:
            made.columns = columns[0]()
        return made

    return own, copy, size


def _renewal(axis: Any, pandas: Any) -> Callable[[], Any]:
    """What makes a caller's own index.

    Those of a frame's deep copies share all that pandas notes of them, arrays among it: the numbers of a range, what
    ``isna`` answered.
    """
    if type(axis) is pandas.RangeIndex:  # a slice of it can have another stop
        return lambda: pandas.RangeIndex(axis.start, axis.stop, axis.step, name=axis.name)
    if isinstance(axis.dtype, pandas.StringDtype) and axis.dtype.storage == "python":
        return lambda: axis.copy(deep=True)
    return lambda: axis[:]


def _unwritable(axis: Any, pandas: Any) -> Any:
    """An index whose memory nobody can be given leave to write to, so that callers' own can share it."""
    import numpy as np  # noqa: PLC0415 - pandas is here, so it is, too

    if (
        type(axis) is pandas.RangeIndex
        or not isinstance(axis.to_numpy().dtype, np.dtype)
        or axis.dtype.kind not in "biufcmM"
    ):
        return axis
    if type(axis) is not pandas.DatetimeIndex:
        return pandas.Index(np.frombuffer(axis.to_numpy().tobytes(), axis.dtype), name=axis.name, copy=False)
    moments = np.frombuffer(axis.asi8.tobytes(), "i8")  # since 1970, in UTC where there is a zone
    made = pandas.DatetimeIndex(moments, dtype=axis.dtype, name=axis.name, copy=False)
    made.freq = axis.freq
    return made


def _plain(dtype: Any, pandas: Any) -> bool:
    """Whether a copy of a column, or an index, of this kind shares nothing that can be changed."""
    if isinstance(dtype, (pandas.DatetimeTZDtype, pandas.StringDtype)):
        return True
    return type(dtype).__module__.startswith("numpy") and dtype.kind in "biufcmM"


class NearFilling:
    """What may be kept of an entry that is about to be read.

    Args:
        near: Where it is kept.
        entry: The key of the call's entry.
        ticket: Taken by now, see `Near.ticket`.
        paths: See `Near.fill`.
        decode: Makes the value of an envelope once more.
        ages: Whether the entry has a soft expiry, or is computed anew before it.
        early: XFetch's beta.
    """

    __slots__ = ("_ages", "_decode", "_early", "_entry", "_near", "_paths", "_sent", "_ticket")

    def __init__(
        self,
        near: Near,
        entry: str,
        ticket: tuple[int, int],
        paths: Paths | None,
        decode: Callable[[Bytes], Any],
        *,
        ages: bool,
        early: float,
    ) -> None:
        self._near, self._entry, self._ticket, self._paths, self._decode = near, entry, ticket, paths, decode
        self._ages, self._early = ages, early
        self._sent = time.time()

    def take(self, value: Any, envelope: Envelope, left: float) -> Any:
        """See `_spec.Filling`."""
        try:
            self._take(value, envelope, left)
        except Exception as error:  # noqa: BLE001 - a type's own copy method, no memory: what is kept is nobody's need
            log.debug("redis_memo: a value could not be kept: %s", type(error).__name__)
        return value

    def _take(self, value: Any, envelope: Envelope, left: float) -> None:
        string = envelope.string if isinstance(envelope, Large) else envelope
        stamp, tokens = label(string)
        # The server's word, counted from before it was asked, or the writer's, whose clock may differ: the shorter.
        end = min(self._sent + min(left, self._near.longest()), stamp.expires)
        if self._ages:
            margin = stamp.compute * (1.0 + self._early * _UNLIKELY) if self._early else 0.0
            end = min(end, stamp.fresh_until - margin)
        if end <= time.time():
            return
        how = kept_as(value)
        if how is None:
            if isinstance(envelope, Large):
                return  # emptied by whoever read it
            how = bytes(envelope), self._decode, len(envelope)
        own, copy, size = how
        kept = NearEntry(own, copy, size, deadline=end, seconds=stamp.compute, tokens=tokens)
        self._near.fill(self._entry, self._ticket, kept, self._paths)
