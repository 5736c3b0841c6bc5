"""Key rules for polars: by schema and content. Chunks do not count, nor whether pyarrow is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from redis_memo._keys import LIBRARIES
from redis_memo._keys_numpy import content as numpy_content
from redis_memo._keys_walk import Walk, joined, named, number, refuse, text

__all__: list[str] = []


def _dtype_key(dtype: Any, walk: Walk) -> bytes:
    dtype = dtype if isinstance(dtype, pl.DataType) else dtype()
    if isinstance(dtype, pl.Struct):
        fields = [text(field.name) + _dtype_key(field.dtype, walk) for field in dtype.fields]
        return named("Struct", joined(b"t", len(fields), fields))
    parts = [text(type(dtype).__name__)]
    if isinstance(dtype, pl.List | pl.Array):
        parts.append(_dtype_key(dtype.inner, walk))
    if isinstance(dtype, pl.Array):
        parts.append(walk.encode(tuple(dtype.shape)))
    if isinstance(dtype, pl.Datetime | pl.Duration):
        parts.append(walk.encode((dtype.time_unit, getattr(dtype, "time_zone", None))))
    if isinstance(dtype, pl.Decimal):
        parts.append(walk.encode((dtype.precision, dtype.scale)))
    if isinstance(dtype, pl.Enum):
        parts.append(walk.encode(dtype.categories.to_list()))
    return named("polars", *parts)


def _content(series: Any, walk: Walk) -> bytes:
    dtype = series.dtype
    if dtype.is_temporal():
        series = series.to_physical()
        dtype = series.dtype
    elif isinstance(dtype, pl.Categorical | pl.Enum):
        series = series.cast(pl.String)
    if isinstance(dtype, pl.Boolean):
        series, dtype = series.cast(pl.UInt8), pl.UInt8()
    if (dtype.is_integer() and dtype not in (pl.Int128, getattr(pl, "UInt128", None))) or dtype.is_float():
        missing = series.is_null().cast(pl.UInt8).to_numpy() if series.null_count() else np.zeros(0, np.uint8)
        return numpy_content(series.fill_null(0).rechunk().to_numpy(), walk) + numpy_content(missing, walk)
    return walk.encode(series.to_list())


def _column(series: Any, walk: Walk) -> bytes:
    walk.work += len(series)
    return text(series.name) + _dtype_key(series.dtype, walk) + number(len(series)) + _content(series, walk)


def _series(value: Any, walk: Walk) -> bytes:
    return named("polars.Series", joined(b"t", 1, [_column(value, walk)]))


def _frame(value: Any, walk: Walk) -> bytes:
    columns = [_column(series, walk) for series in value.get_columns()]
    return named("polars.DataFrame", number(value.height), joined(b"t", len(columns), columns))


def _dtype(value: Any, walk: Walk) -> bytes:
    return named("polars.dtype", _dtype_key(value, walk))


def _lazy(value: Any, _walk: Walk) -> bytes:
    refuse(type(value), "is a computation that has not been made yet: pass the frame it is made from")


LIBRARIES.register(pl.Series, _series, subclasses=True)
LIBRARIES.register(pl.DataFrame, _frame, subclasses=True)
LIBRARIES.register(pl.DataType, _dtype, subclasses=True)
LIBRARIES.register(pl.LazyFrame, _lazy, subclasses=True)
LIBRARIES.register(pl.Expr, _lazy, subclasses=True)
