"""Frames out of files: CSV by rules that are said or certain, Parquet and Feather as they are.

A CSV file does not say which of its columns was the index, nor what its dates were. What ``DataFrame.to_csv`` writes is
certain: a first column without a name was the index. A first column that is named like a date may be either, and then
the mapping has to say which.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from ._clock import zone
from ._migrate_fields import Unfit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import tzinfo

__all__ = ["FrameRules", "date_like", "read_csv", "read_feather", "read_parquet", "to_frame"]

_DATE_LIKE: Final = re.compile(r"(.*[_ ])?(date|datetime|timestamp|time|expiry|dt)([_ ]?(at|on))?|.*_at", re.IGNORECASE)
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII)
_ZONED: Final = re.compile(r"(?:(pytz|dateutil|offset):)?(.+)")
_TEXTS: Final = frozenset({"str", "object", "string"})
_OFFSET: Final = re.compile(r"([+-])(\d\d):?(\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRules:
    """How a CSV file becomes the frame that the function returned.

    Attributes:
        index: Column (name or number) that was the index, a list of them, False for none; None: found out.
        dates: Columns of dates; None: those that are named like dates and read so throughout.
        tz: Zone of the dates: ``"Asia/Kolkata"`` (zoneinfo), ``"pytz:Asia/Kolkata"``, ``"dateutil:+05:30"``,
            ``"offset:+05:30"``. Naive ones are taken to be in it, aware ones converted to it.
        dtypes: Types by column, and by the index's name.
        final_newline: A file that does not end with a line's end was cut off.
    """

    index: str | int | bool | Sequence[str | int] | None = None
    dates: Sequence[str] | None = None
    tz: str | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    final_newline: bool = True


def date_like(name: str) -> bool:
    """Whether a column of this name holds dates or times."""
    return _DATE_LIKE.fullmatch(name.strip()) is not None


def read_csv(data: bytes, rules: FrameRules) -> Any:
    """The frame in a CSV file.

    Raises:
        Unfit: It is damaged, or can be read in two ways and the rules do not say which.
    """
    import pandas as pd  # noqa: PLC0415

    if data.strip(b"\r\n") in (b"", b'""') and data.endswith((b"\n", b"\r")):
        return pd.DataFrame()  # what to_csv writes of a frame without columns and rows
    header = _checked_lines(data, rules)
    index = rules.index
    unnamed = header[0].strip() == ""
    if index is None:
        if unnamed:
            index = 0
        elif date_like(header[0]):
            raise Unfit(
                f"its first column {header[0]!r} may have been the frame's index or a column: say csv.index = "
                f'"{header[0]}" or csv.index = false in the mapping (--csv-index NAME or --csv-index none)'
            )
        else:
            index = False
    elif index is not False:
        known = [index] if isinstance(index, (str, int)) else list(index)
        lacking = [each for each in known if isinstance(each, str) and each not in header]
        if lacking:
            raise Unfit(f"has no column {lacking[0]!r} that could be the index")
    # "007" has to be read as a text to become one.
    texts = {name for name, dtype in rules.dtypes.items() if dtype in _TEXTS} | set(rules.dates or ())
    text = {name: "str" for name in header if name in texts and index != name}
    # The default of pandas before 3.1 is off by one unit in the last place now and then; since then this setting warns.
    exact = {} if _version(pd) >= (3, 1) else {"float_precision": "round_trip"}
    column = [index] if isinstance(index, str) else index
    frame: Any = pd.read_csv(io.BytesIO(data), index_col=column, dtype=text or None, **exact)  # type: ignore[call-overload]
    where = _zone(rules.tz)
    for name in list(frame.columns):
        said = rules.dates is not None and name in rules.dates
        if said or (rules.dates is None and date_like(str(name))):
            frame[name] = _as_dates(frame[name], where, said=said)
    if index is not False and frame.index.nlevels == 1:
        frame.index = _as_index(frame.index, where, rules)
    return _typed(frame, rules.dtypes)


def _version(pd: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in pd.__version__.split(".")[:2])


def _checked_lines(data: bytes, rules: FrameRules) -> list[str]:
    """The header; every line has as many fields as it has. pandas would fill up what is missing."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unfit(f"is damaged: not UTF-8 text at byte {error.start}") from error
    if "\0" in text:
        raise Unfit("is damaged: there are NUL characters in it")
    if rules.final_newline and not text.endswith(("\n", "\r")):
        raise Unfit("ends within a line: it was cut off, unless csv.final_newline = false says that it was not")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if not header:
            raise Unfit("is empty")
        for row in reader:
            if row and len(row) != len(header):  # pandas skips empty lines
                raise Unfit(f"is damaged: line {reader.line_num} has {len(row)} fields, the first one {len(header)}")
    except csv.Error as error:
        raise Unfit(f"is damaged: line {reader.line_num} is not CSV") from error
    return header


def _as_dates(column: Any, where: tzinfo | None, *, said: bool) -> Any:
    """A column as dates; unchanged where it is none and nobody said so."""
    import pandas as pd  # noqa: PLC0415

    texts = column.dropna()
    if len(texts) == 0 or pd.api.types.is_numeric_dtype(column):
        if said and len(texts):
            raise Unfit(f"column {column.name!r} holds numbers, not dates")
        return column
    if not all(isinstance(text, str) and _ISO.fullmatch(text) for text in texts):
        if said:
            raise Unfit(
                f"column {column.name!r} holds something that is not a date as in 2026-11-08 or 2026-11-08T09:15:00"
            )
        return column
    try:
        dates = pd.to_datetime(column, format="ISO8601")
    except (ValueError, TypeError) as error:
        raise Unfit(f"column {column.name!r} holds dates of several zones, or dates that there are not") from error
    return dates if where is None else _in_zone(dates, where)


def _in_zone(dates: Any, where: tzinfo) -> Any:
    return dates.dt.tz_localize(where) if dates.dt.tz is None else dates.dt.tz_convert(where)


def _as_index(index: Any, where: tzinfo | None, rules: FrameRules) -> Any:
    import pandas as pd  # noqa: PLC0415

    counted = pd.api.types.is_integer_dtype(index) and index.equals(pd.RangeIndex(len(index)))
    if counted or (len(index) == 0 and index.name is None):
        return pd.RangeIndex(len(index), name=index.name)  # what to_csv wrote of a frame that had no index of its own
    said = rules.dates is not None and index.name in rules.dates
    column = index.to_series(index=range(len(index)))
    dates = _as_dates(column, where, said=said)
    return index if dates is column else pd.DatetimeIndex(dates, name=index.name)


def _typed(frame: Any, dtypes: Mapping[str, str]) -> Any:
    columns = {name: dtype for name, dtype in dtypes.items() if name in frame.columns}
    try:
        frame = frame.astype(columns) if columns else frame
        for name, dtype in dtypes.items():
            if name not in columns and name in (frame.index.name, "index"):
                frame.index = frame.index.astype(dtype)
            elif name not in columns:
                raise Unfit(f"has no column {name!r} that could be of type {dtype}")
    except (ValueError, TypeError) as error:
        raise Unfit(f"its columns do not take the types that the mapping says: {type(error).__name__}") from error
    return frame


def _zone(text: str | None) -> tzinfo | None:
    if text is None:
        return None
    found = _ZONED.fullmatch(text)
    assert found is not None
    kind, name = found.groups()
    if kind == "pytz":
        import pytz  # noqa: PLC0415

        return pytz.timezone(name)
    offset = _OFFSET.fullmatch(name)
    if offset is not None:
        seconds = (int(offset[2]) * 3600 + int(offset[3]) * 60) * (-1 if offset[1] == "-" else 1)
        if kind == "dateutil":
            from dateutil.tz import tzoffset  # noqa: PLC0415

            return tzoffset(None, seconds)
        return timezone(timedelta(seconds=seconds))
    return zone(name)


def read_parquet(data: bytes) -> Any:
    """The frame in a Parquet file, with the index and types that pandas noted in it."""
    import pandas as pd  # noqa: PLC0415

    return pd.read_parquet(io.BytesIO(data))


def read_feather(data: bytes) -> Any:
    """The frame in a Feather file."""
    import pandas as pd  # noqa: PLC0415

    return pd.read_feather(io.BytesIO(data))


def to_frame(value: Any) -> Any:
    """A frame from what old caches write of one: itself, rows, columns, or the parts of ``to_dict("split")``."""
    import pandas as pd  # noqa: PLC0415

    if isinstance(value, (pd.DataFrame, pd.Series)):
        return value
    if isinstance(value, dict) and {"columns", "data"} <= set(value) <= {"columns", "data", "index"}:
        return pd.DataFrame(value["data"], columns=value["columns"], index=value.get("index"))
    if isinstance(value, (list, dict)):
        return pd.DataFrame(value)
    raise Unfit(f"says that it holds a frame, and holds a {type(value).__name__}")
