"""Polars frames and series, by way of Arrow, which holds all of their types but the 128-bit integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from redis_memo._codecs_rules import FLAWS, NotTyped, Rule, register
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from redis_memo._codecs_stream import Decoder, Encoder

__all__: list[str] = []


# The names of the columns go beside the table: polars reads a column without one from Arrow as "column_0". So does what
# polars knows about their order, which Arrow has no place for.


def _sorted(column: Any) -> int:
    return int(column.flags["SORTED_ASC"]) - int(column.flags["SORTED_DESC"])


def _put_frame(enc: Encoder, frame: Any) -> None:
    names = tuple(frame.columns)
    enc.put(names)
    if not names:
        if frame.height:
            raise NotTyped
        return
    table = frame.to_arrow(compat_level=pl.CompatLevel.newest()).rename_columns([str(at) for at in range(len(names))])
    back: Any = pl.from_arrow(table.slice(0, 0))
    if back.dtypes != frame.dtypes:
        raise NotTyped
    enc.put(table)
    order = tuple(map(_sorted, frame.get_columns()))
    enc.put(order if any(order) else None)


def _get_frame(dec: Decoder) -> Any:
    names = dec.exact(tuple)
    if not names:
        return pl.DataFrame()
    frame = pl.from_arrow(dec.some(pa.Table))
    if not isinstance(frame, pl.DataFrame) or not set(map(type, names)) <= {str}:
        raise UnreadableEntry("a frame is damaged")
    order = dec.exact(tuple, type(None))
    if order is not None:
        if not set(map(type, order)) <= {int}:
            raise UnreadableEntry("a frame is damaged")
        columns = zip(frame.get_columns(), order, strict=True)
        frame = pl.DataFrame([column.set_sorted(descending=way < 0) if way else column for column, way in columns])
    frame.columns = list(names)  # as many as there are, or polars raises
    return frame


def _flaw(value: Any) -> str | None:
    dtypes = value.dtypes if isinstance(value, pl.DataFrame) else [value.dtype]
    if any(isinstance(dtype, pl.Object) for dtype in dtypes):
        return "has Python objects in a column (dtype Object), which polars hands to no other process"
    return None


register(Rule("pl.DataFrame", _put_frame, _get_frame), pl.DataFrame)
register(
    Rule("pl.Series", lambda enc, series: _put_frame(enc, series.to_frame()), lambda dec: _get_frame(dec).to_series()),
    pl.Series,
)
for _cls in (pl.DataFrame, pl.Series):
    FLAWS.register(_cls, _flaw, subclasses=True)
