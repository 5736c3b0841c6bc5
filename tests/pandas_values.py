"""One process of the test with two major versions of pandas: it writes values to a server, or reads what the other wrote.

Values are spelled out, with the dtypes, units and zones that the versions would choose differently, so that both make
the same ones. usage: ``python -m tests.pandas_values write|read|echo|keys URL NAMESPACE``
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import zoneinfo
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytz
from dateutil import tz as dateutil_tz

from redis_memo import MISSING, connect, redis_cached
from redis_memo._keys import digest, encode
from tests.strategies import same

__all__ = ["echo", "keys", "memo", "read", "values", "write"]

NAN_STR = pd.StringDtype("pyarrow", na_value=np.nan)
OBJECT_STR = pd.StringDtype("python", na_value=np.nan)
KOLKATA = dateutil_tz.tzoffset(None, 19800)
ZONES = {
    "utc": dt.UTC,
    "zoneinfo": zoneinfo.ZoneInfo("Asia/Kolkata"),
    "pytz": pytz.timezone("Asia/Kolkata"),
    "fixed": dt.timezone(dt.timedelta(hours=5, minutes=30)),
    "tzoffset": KOLKATA,
}
UNITS = ("s", "ms", "us", "ns")
OFFSETS = [
    pd.offsets.Day(1), pd.offsets.Day(3), pd.offsets.Hour(2), pd.offsets.Minute(5), pd.offsets.Second(1),
    pd.offsets.Milli(1), pd.offsets.Micro(1), pd.offsets.Nano(1), pd.offsets.BusinessDay(), pd.offsets.Week(weekday=2),
    pd.offsets.MonthEnd(), pd.offsets.MonthBegin(2), pd.offsets.BusinessMonthEnd(), pd.offsets.QuarterEnd(startingMonth=2),
    pd.offsets.YearEnd(month=3), pd.offsets.YearBegin(), pd.offsets.BusinessHour(start="09:15", end="15:30"),
    pd.offsets.CustomBusinessDay(holidays=["2026-01-26"]), pd.offsets.SemiMonthEnd(), pd.offsets.WeekOfMonth(week=1, weekday=3),
    pd.offsets.DateOffset(months=2, days=1), pd.offsets.FY5253Quarter(weekday=4), pd.offsets.Easter(),
]  # fmt: skip
PERIODS = [
    pd.offsets.MonthEnd(), pd.offsets.QuarterEnd(startingMonth=12), pd.offsets.YearEnd(month=3), pd.offsets.Day(),
    pd.offsets.Week(weekday=6), pd.offsets.Hour(), pd.offsets.Minute(5), pd.offsets.Second(), pd.offsets.Nano(),
]  # fmt: skip


def stamps(unit: str, zone: Any = None, name: Any = None) -> Any:
    made = pd.DatetimeIndex(
        np.array([1_770_000_000, 1_770_086_400, 1_770_172_800], "M8[s]").astype(f"M8[{unit}]"), name=name
    )
    return made if zone is None else made.tz_localize("UTC").tz_convert(zone)


def text(*items: Any, dtype: Any = object) -> Any:
    return pd.Series(list(items), dtype=dtype)


def labelled(frame: Any, names: Any) -> Any:
    """Columns as plain objects: text is another dtype by itself in each version."""
    return frame.set_axis(pd.Index(list(names), dtype=object), axis=1)


def columns() -> dict[str, Any]:
    """One column of each dtype, three rows."""
    found: dict[str, Any] = {
        dtype: np.array([0, 1, 2]).astype(dtype)
        for dtype in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "c16", ">i4")
    }
    found |= {f"datetime {unit}": stamps(unit).array for unit in UNITS}
    found |= {f"datetime {unit} {name}": stamps(unit, zone).array for unit in UNITS for name, zone in ZONES.items()}
    found |= {f"timedelta {unit}": pd.array(np.array([1, 2, "NaT"], f"m8[{unit}]")) for unit in UNITS}
    found |= {
        f"masked {name}": pd.array([0, 1, None], dtype=name)
        for name in (
            "Int8",
            "Int16",
            "Int32",
            "Int64",
            "UInt8",
            "UInt16",
            "UInt32",
            "UInt64",
            "Float32",
            "Float64",
            "boolean",
        )
    }
    found |= {
        f"period {number}": pd.PeriodIndex.from_ordinals([600, 601, 602], freq=freq).array
        for number, freq in enumerate(PERIODS)
    }
    found |= {
        f"interval {closed}": pd.arrays.IntervalArray.from_breaks(np.arange(4.0), closed=closed)
        for closed in ("left", "right", "both", "neither")
    }
    found |= {
        "interval of stamps": pd.arrays.IntervalArray.from_arrays(stamps("s")[:2], stamps("s")[1:]).take([0, 1, -1]),
        "object": np.array([None, "a", 1.5], dtype=object),
        "object text": np.array(["a", "b", None], dtype=object),
        "object dates": np.array([dt.date(2026, 1, 1)] * 3, dtype=object),
        "missing kinds": np.array([pd.NA, pd.NaT, float("nan")], dtype=object),
        "str": pd.array(["a", None, "ü" * 30], dtype=NAN_STR),
        "str python": pd.array(["a", None, "ü"], dtype=OBJECT_STR),
        "string python": pd.array(["a", None, "ü"], dtype=pd.StringDtype("python")),
        "string pyarrow": pd.array(["a", None, "ü"], dtype=pd.StringDtype("pyarrow")),
        "category": pd.Categorical.from_codes([1, 0, -1], pd.Index(["b", "a", "unused"], dtype=object), ordered=True),
        "category str": pd.Categorical.from_codes([1, 0, -1], pd.Index(["b", "a"], dtype=NAN_STR)),
        "category ints": pd.Categorical.from_codes([1, 0, -1], pd.Index([7, 3], dtype="i8")),
        "category stamps": pd.Categorical.from_codes([1, 0, -1], stamps("s", dt.UTC)),
        "category intervals": pd.Categorical.from_codes([1, 0, -1], pd.IntervalIndex.from_breaks(np.arange(3.0))),
        "sparse": pd.arrays.SparseArray(np.array([0.0, 1.0, float("nan")])),
        "sparse filled": pd.arrays.SparseArray(np.array([3, 1, 3]), fill_value=3, kind="block"),
        "arrow ints": pd.array([1, None, 2], dtype=pd.ArrowDtype(pa.int64())),
        "arrow text": pd.array(["a", None, "b"], dtype=pd.ArrowDtype(pa.string())),
        "arrow lists": pd.array([[1], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int32()))),
        "arrow decimals": pd.array([Decimal("1.50"), None, Decimal(2)], dtype=pd.ArrowDtype(pa.decimal128(10, 2))),
        "arrow stamps": pd.arrays.ArrowExtensionArray(
            pa.array([1_770_000_000_000, None, 0], pa.timestamp("ms", "Asia/Kolkata"))
        ),
        "arrow dictionary": pd.array(["a", "b", "a"], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))),
    }
    return found


def indexes() -> dict[str, Any]:
    """Indexes of each kind."""
    found: dict[str, Any] = {
        f"freq {type(offset).__name__} {offset.n}": pd.DatetimeIndex(
            pd.date_range(dt.datetime(2026, 2, 3), periods=3, freq=offset, unit="ns"), name="date"
        )
        for offset in OFFSETS
    }
    found |= {
        f"stamps {unit} {name}": stamps(unit, zone, name="date") for unit in UNITS for name, zone in ZONES.items()
    }
    found |= {
        "range": pd.RangeIndex(7, 1, -2, name=("a", 1)),
        "ints": pd.Index([3, 1, 3], dtype="i4"),
        "floats": pd.Index([0.5, float("nan")], dtype="f8"),
        "objects": pd.Index(["a", None, 3], dtype=object),
        "str": pd.Index(["a", "b"], dtype=NAN_STR),
        "days and a zone": pd.date_range(
            dt.datetime(2026, 2, 3), periods=3, freq=pd.offsets.Day(), tz=ZONES["zoneinfo"], unit="ns"
        ),
        "timedeltas": pd.timedelta_range(pd.Timedelta(1, "s").as_unit("ns"), periods=3, freq=pd.offsets.Minute(5)),
        "days": pd.timedelta_range(pd.Timedelta(1, "s").as_unit("ns"), periods=3, freq=pd.offsets.Day()),
        "periods": pd.PeriodIndex.from_ordinals([1, 2], freq=pd.offsets.MonthEnd(), name="m"),
        "intervals": pd.IntervalIndex.from_breaks(np.arange(3), closed="left"),
        "categories": pd.CategoricalIndex(pd.Categorical.from_codes([0, 0], pd.Index(["x", "y"], dtype=object))),
        "levels": pd.MultiIndex(
            [pd.Index(["INFY", "TCS", "unused"], dtype=object), stamps("us", ZONES["pytz"])],
            [[0, 1, -1], [2, 1, 0]],
            names=["symbol", None],
        ),
    }
    return found


def scalars() -> list[Any]:
    """Scalars of pandas."""
    found: list[Any] = [stamps(unit, zone)[0] for unit in UNITS for zone in (None, *ZONES.values())]
    found += [pd.Timedelta(np.timedelta64(90, unit)) for unit in UNITS]
    found += [pd.Period(ordinal=600, freq=freq) for freq in PERIODS]
    found += [pd.Interval(1, 2), pd.Interval(0.5, 1.0, "both"), pd.Interval(*stamps("s")[:2], "neither"), pd.NaT, pd.NA]
    return [*found, *OFFSETS]


def values() -> dict[str, Any]:
    """Values by name, the same under each version."""
    frame = labelled(
        pd.DataFrame({"close": [1.5, 2.5, 3.5], "volume": [1, 2, 3]}, index=stamps("us", KOLKATA)), ["close", "volume"]
    )
    noted = frame.copy()
    noted.attrs = {"source": "kite", "at": stamps("s")[0], "nested": {"frame": frame, "rows": [(1, None)]}}
    flagged = labelled(pd.DataFrame({"a": [1]}), ["a"])
    flagged.flags.allows_duplicate_labels = False
    cells = columns()
    found: dict[str, Any] = {
        f"column {name}": pd.Series(array, dtype=array.dtype, name="x") for name, array in cells.items()
    }
    found |= {f"index {name}": index for name, index in indexes().items()}
    found |= {
        f"frame by {name}": labelled(pd.DataFrame({"a": np.arange(len(index))}, index=index), ["a"])
        for name, index in indexes().items()
    }
    found |= {
        "frame of all": labelled(
            pd.DataFrame({place: pd.Series(array, dtype=array.dtype) for place, array in enumerate(cells.values())}),
            cells,
        ),
        "candles": frame,
        "attrs": noted,
        "flags": flagged,
        "duplicate names": labelled(pd.DataFrame([[1, 2.5, True]]), ["x", "x", None]),
        "names of kinds": labelled(pd.DataFrame([[1, 2, 3]]), [("a", 1), 3, stamps("s")[0]]),
        "str labels": pd.DataFrame({0: [1], 1: [2]}).set_axis(pd.Index(["a", "b"], dtype=NAN_STR), axis=1),
        "empty": labelled(pd.DataFrame({0: np.empty(0), 1: np.empty(0, object)}), ["a", "b"]),
        "nothing": pd.DataFrame(index=pd.RangeIndex(0), columns=pd.RangeIndex(0)),
        "large": labelled(pd.DataFrame(np.arange(40_000.0).reshape(10_000, 4)), "abcd"),
        "scalars": scalars(),
        "strings, one missing": np.array(["a", pd.NA], np.dtypes.StringDType(na_object=pd.NA)),
        "dtypes": [array.dtype for array in cells.values()],
        "dict": {"frame": frame, "again": frame, "rows": [{"a": stamps("s")[0]}] * 3},
    }
    return found


def memo(url: str, namespace: str) -> Any:
    """The function whose results are the values; one identity in each process."""

    @redis_cached(namespace=namespace, name="values", ttl=600, cache=connect(url))
    def stored(name: str, turn: int = 0) -> Any:
        raise AssertionError(name)

    return stored


def write(url: str, namespace: str) -> dict[str, Any]:
    """Store each value."""
    stored = memo(url, namespace)
    for name, value in values().items():
        stored.store(value, name)
    return {"refused": stored.cache_info().refused}


def read(url: str, namespace: str) -> dict[str, Any]:
    """Compare each value with what is stored; True, or what differs."""
    stored = memo(url, namespace)
    found = {}
    for name, value in values().items():
        back = stored.peek(name)
        found[name] = "missing" if back is MISSING else same(value, back)
    return found


def echo(url: str, namespace: str) -> dict[str, Any]:
    """Read what is stored under a number, and store it again."""
    stored = memo(url, namespace)
    found = {}
    for number in range(stored.peek("count")):
        back = stored.peek(str(number))
        found[str(number)] = "missing" if back is MISSING else "read"
        if back is not MISSING:
            stored.store(back, str(number), 1)
    return found


def keys(_url: str, _namespace: str) -> dict[str, Any]:
    """The digest that each value has as an argument."""
    return {name: digest(encode(value)).hex() for name, value in values().items()}


if __name__ == "__main__":
    todo, *where = sys.argv[1:]
    done = {"write": write, "read": read, "echo": echo, "keys": keys}[todo](*where)
    json.dump({"pandas": pd.__version__, "done": done}, sys.stdout)
