"""Polars frames and series, by way of Arrow, which holds all of their types but the 128-bit integers."""

from __future__ import annotations

from typing import Any

import polars as pl

from redis_memo._codecs_stream import Decoder, Encoder, NotTyped, Rule, register
from redis_memo.errors import UnreadableEntry

__all__: list[str] = []


def _put_frame(enc: Encoder, frame: Any) -> None:
    table = frame.to_arrow(compat_level=pl.CompatLevel.newest())
    back: Any = pl.from_arrow(table.slice(0, 0))
    if not frame.width or back.schema != frame.schema:
        raise NotTyped
    enc.put(table)


def _get_frame(dec: Decoder) -> Any:
    frame = pl.from_arrow(dec.get())
    if not isinstance(frame, pl.DataFrame):
        raise UnreadableEntry("a frame is damaged")
    return frame


register(Rule("pl.DataFrame", _put_frame, _get_frame), pl.DataFrame)
register(
    Rule("pl.Series", lambda enc, series: _put_frame(enc, series.to_frame()), lambda dec: _get_frame(dec).to_series()),
    pl.Series,
)
