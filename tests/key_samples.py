"""Values of every kind that a key may hold, for golden digests: run as a script, it prints the digest of each."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import json
import operator
import pathlib
import re
import sys
import types
import typing
import uuid
import zoneinfo

import dateutil.tz
import numpy as np
import pandas as pd
import pytz
import scipy.sparse as sp
from PIL import Image

from redis_memo._keys import digest, encode


class Side(enum.Enum):
    BUY = 1
    SELL = 2


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Order:
    symbol: str
    quantity: int
    note: str = dataclasses.field(default="", compare=False)


class Account:
    def __init__(self, user):
        self.user = user
        self.limits = {"a": 1, "b": {2, 3}}

    def fetch(self, symbol):
        return symbol


Bar = collections.namedtuple("Bar", "open close")


class Names(list):
    pass


def scaled(factor):
    def scale(x):
        return x * factor

    return scale


INDIA = zoneinfo.ZoneInfo("Asia/Kolkata")
WHEN = dt.datetime(2026, 2, 1, 9, 15)


def samples():
    frame = pd.DataFrame(
        {
            "close": [1.5, float("nan"), 3.0],
            "volume": np.array([1, 2, 3], dtype="int64"),
            "name": pd.Series(["a", None, "ü"], dtype=object),
            "kind": pd.Categorical(["x", "y", "x"], categories=pd.Index(["y", "x"], dtype=object), ordered=True),
            "whole": pd.array([1, None, 3], dtype="Int64"),
        },
        # A zone by its name would be one of pytz under pandas 2.
        index=pd.DatetimeIndex(["2026-02-01", "2026-02-02", "2026-02-03"], tz=INDIA, name="date").as_unit("ns"),
    )
    frame.columns = frame.columns.astype(object)  # pandas 3 has another dtype for text than pandas 2
    return {
        "scalars": [
            None,
            True,
            1,
            1.0,
            "1",
            b"1",
            0.0,
            -0.0,
            1j,
            2**100,
            -(2**300),
            ...,
            float("nan"),
            bytearray(b"x"),
        ],
        "text": ["ü", "\ud800", "x" * 1000, "😀"],
        "numbers": (
            decimal.Decimal("1.00"),
            fractions.Fraction(1, 3),
            uuid.UUID(int=7),
            range(0, 9, 2),
            slice(1, None),
        ),
        "packed": [[1] * 9, [1.0] * 9, ["a"] * 9, [True] * 9, [2**90] * 9, (1,) * 9],
        "set": {"NSE", "BSE", "MCX", "NFO", 1, 2.5, None, ("a", 1), frozenset({"p", "q"})},
        "dict": {"b": {"x", "y"}, "a": [1, {"k": (1, 2)}], 3: None},
        "collections": [
            collections.OrderedDict(b=1, a=2),
            collections.Counter("abca"),
            collections.defaultdict(list, {"a": [1]}),
            collections.deque([1, 2], 3),
            types.MappingProxyType({"a": 1}),
            types.SimpleNamespace(b=1, a=2),
            array.array("d", [1.0, 2.0]),
            memoryview(b"abc"),
        ],
        "dates": [WHEN, WHEN.date(), WHEN.time(), dt.timedelta(days=1, microseconds=5), WHEN.replace(fold=1)],
        "zones": [
            WHEN.replace(tzinfo=zone)
            for zone in (
                INDIA,
                dt.UTC,
                dt.timezone(dt.timedelta(hours=5.5)),
                dateutil.tz.tzoffset(None, 19800),
                pytz.UTC,
            )
        ]
        + [pytz.timezone("Asia/Kolkata").localize(WHEN), dateutil.tz.tzutc()],
        "paths": [pathlib.PurePosixPath("/a/b"), pathlib.PureWindowsPath("C:/a"), re.compile("a+", re.I)],
        "classes": [Side.BUY, Flags.A | Flags.B, Order("X", 1, "n"), Bar(1, 2), Names([1]), Account("u"), Order, int],
        "callables": [
            scaled(2),
            scaled,
            len,
            "".join,
            Account("u").fetch,
            functools.partial(int, base=2),
            functools.reduce,
        ],
        "operators": [operator.itemgetter(1, 2), operator.attrgetter("a")],
        "annotations": [list[int], dict[str, float], int | None, typing.Literal["a"], typing.Any],
        "errors": [ValueError("a", 1)],
        "arrays": [
            np.arange(6).reshape(2, 3),
            np.array([1.0, np.nan]),
            np.array([1 + 2j]),
            np.array(["a", "bc"]),
            np.array(["2026-02-01", "NaT"], dtype="M8[D]"),
            np.array([None, "a", 1.5], dtype=object),
            np.zeros(2, dtype=[("a", "i1"), ("b", "f8")]),
            np.float32(1.5),
            np.int64(3),
            np.dtype(">i4"),
            np.ma.array([1, 2], mask=[True, False]),
        ],
        "large array": np.arange(300_000, dtype="f8").reshape(300, 1000),
        "frame": frame,
        "wide frame": pd.DataFrame(np.arange(400_000, dtype="f8").reshape(40_000, 10)),
        "indexes": [
            pd.RangeIndex(3, name="i"),
            pd.MultiIndex.from_tuples([(1, 1.5), (2, 2.5)], names=["x", None]),
            pd.period_range("2026-01", periods=2, freq="D"),
            pd.interval_range(0, 2),
        ],
        "matrices": [
            getattr(sp, f"{name}_{flavour}")(np.array([[0, 1.5], [2.0, 0], [0, 0]]))
            for name in ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")
            for flavour in ("array", "matrix")
        ],
        "images": [Image.frombytes("RGB", (2, 1), b"abcdef"), Image.new("P", (2, 2))],
        "pandas scalars": [pd.Timestamp("2026-02-01", tz=INDIA), pd.Timedelta("1h"), pd.NaT, pd.NA, pd.offsets.BDay(2)],
    }


if __name__ == "__main__":
    json.dump({name: digest(encode(value)).hex() for name, value in samples().items()}, sys.stdout, indent=1)
