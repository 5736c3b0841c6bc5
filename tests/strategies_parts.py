"""What values of all libraries are made of: scalars of Python, zones, and columns of numbers as results have them."""

from __future__ import annotations

import datetime as dt
import pathlib
import struct
import zoneinfo
from typing import Any

import numpy as np
import pytz
from dateutil import tz as dateutil_tz
from hypothesis import strategies as st

__all__ = [
    "ZONE_NAMES", "column", "datetimes", "floats", "hashables", "ints", "lengths", "localized", "numbers", "paths", "pytz_zones",
    "scalars", "seeds", "text", "times", "timezones", "tzfiles", "tzoffsets", "zoneinfos", "zones",
]  # fmt: skip


# Scalars

text = st.text(st.characters(codec=None, exclude_categories=()), max_size=12) | st.just("x" * 5000)
floats = st.floats() | st.sampled_from(
    [struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8000000000001, 0xFFF8DEADBEEF0000, 1 << 63)]
)
ints = st.integers() | st.integers(-(2**63), 2**63 - 1) | st.just(10**400)
ZONE_NAMES = ["UTC", "Asia/Kolkata", "America/New_York", "Europe/London", "Etc/GMT+5"]
pytz_zones = st.sampled_from([pytz.timezone(key) for key in ZONE_NAMES])
localized = st.builds(
    lambda zone, at: zone.localize(at).tzinfo,
    pytz_zones,
    st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2030, 1, 1)),
)
timezones = st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))) | st.sampled_from(
    [
        dt.UTC,
        dt.timezone(dt.timedelta(0), "Zulu"),
        dt.timezone(dt.timedelta(hours=5, minutes=30), "IST"),
    ]
)
zoneinfos = st.sampled_from(ZONE_NAMES).map(zoneinfo.ZoneInfo)
tzoffsets = st.builds(dateutil_tz.tzoffset, st.none() | st.just("IST"), st.sampled_from([19800, -18000, 0]))
tzfiles = st.sampled_from(ZONE_NAMES[:3]).map(dateutil_tz.gettz)
zones = st.one_of(
    timezones, zoneinfos, localized, st.just(pytz.utc), st.just(pytz.FixedOffset(330)), tzoffsets, tzfiles
)
datetimes = st.builds(
    lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold), st.datetimes(), st.none() | zones, st.integers(0, 1)
)
times = st.builds(
    lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold), st.times(), st.none() | timezones, st.integers(0, 1)
)
paths = st.builds(
    lambda kind, parts: kind(*parts),
    st.sampled_from([pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path())]),
    st.lists(st.text("abc/. ", max_size=4), max_size=3),
).filter(lambda path: type(path)(str(path)) == path)  # else, as of ("//", "a//") on Windows, it goes by pickle
hashables = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    datetimes,
    st.decimals(allow_nan=False),
)
scalars = st.one_of(
    st.none(), st.booleans(), ints, floats, text, st.binary(max_size=9), datetimes, st.dates(), st.decimals()
)


# Columns. Many elements drawn one by one would take long: hypothesis chooses a shape and a seed.

seeds = st.integers(0, 1 << 32)
#: Short as a rule; sometimes so long that columns are compressed (4 KiB are 512 floats) or packed.
lengths = st.one_of(
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 70),
    st.integers(0, 300),
    st.sampled_from([511, 512, 513, 1100]),
)


def noise(rng: np.random.Generator, dtype: np.dtype[Any], length: int) -> Any:
    """Any bits at all; where a dtype has bits that mean nothing, those that mean something."""
    if dtype.kind == "b":
        return rng.integers(0, 2, length).astype(bool)
    if dtype.char in "gG":
        made = np.ldexp(rng.normal(size=length).astype("g"), rng.integers(-16000, 16000, length))
        made += np.ldexp(rng.normal(size=length).astype("g"), -60)
        return made.astype(dtype) * (1 + 2j if dtype.char == "G" else 1)
    return np.frombuffer(rng.bytes(length * dtype.itemsize), dtype).copy()


def _sums(rng: np.random.Generator, length: int) -> Any:
    return np.cumsum(rng.integers(-1000, 1 << int(rng.integers(5, 40)), length))


def _grid(rng: np.random.Generator, length: int) -> Any:
    return np.cumsum(rng.integers(-40, 41, length)) + int(rng.integers(-50_000, 50_000))


_WHOLE: dict[str, Any] = {
    "constant": lambda rng, n: np.full(n, int(rng.integers(-(1 << 40), 1 << 40))),
    "few": lambda rng, n: rng.choice(rng.integers(-300, 300, 3), n),
    "lots": lambda rng, n: rng.integers(0, 9_000, n) * 25,
    "sums": _sums,
    "grid": _grid,
    "ramp": lambda rng, n: int(rng.integers(-99, 99)) + int(rng.integers(-9, 99)) * np.arange(n),
    "ticks": lambda rng, n: 1_770_000_000_000_000_000 + 60_000_000_000 * np.cumsum(rng.integers(-1, 3, n)),
    "outlier": lambda rng, n: np.where(rng.random(n) < 0.02, 1 << 62, rng.integers(0, 50, n)),
}
_NANS = (0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000000001, 0xFFF8DEADBEEF0000)
_REAL: dict[str, Any] = {
    "paise": lambda rng, n: _grid(rng, n) / 20,
    "decimals": lambda rng, n: _grid(rng, n) / 10.0 ** int(rng.integers(0, 10)),
    "rounded": lambda rng, n: np.round(rng.normal(1500, 300, n), int(rng.integers(0, 5))),
    "normal": lambda rng, n: rng.normal(0, 10.0 ** int(rng.integers(-9, 9)), n),
    "walk": lambda rng, n: 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n))),
    "tiny": lambda rng, n: rng.integers(-9, 9, n) * 5e-324,
    "edges": lambda rng, n: rng.choice([0.0, -0.0, np.inf, -np.inf, 1.0, 2.0**53, 2.0**53 + 2, 1.7e308, 0.1 + 0.2], n),
}


def _limits(rng: np.random.Generator, dtype: np.dtype[Any], length: int) -> Any:
    info = np.iinfo(dtype)
    near = [info.min, info.min + 1, info.min + 2, info.max - 1, info.max, info.max // 2, 0]
    return np.array([near[which] for which in rng.integers(0, len(near), length)], dtype)


def _integers(rng: np.random.Generator, dtype: np.dtype[Any], length: int, shape: str) -> Any:
    if shape == "limits":
        return _limits(rng, dtype, length)
    return np.asarray(_WHOLE[shape](rng, length), "i8").astype(dtype)  # modulo its size


def _reals(rng: np.random.Generator, dtype: np.dtype[Any], length: int, shape: str) -> Any:
    made = np.asarray(_WHOLE[shape](rng, length) if shape in _WHOLE else _REAL[shape](rng, length), "f8")
    with np.errstate(all="ignore"):
        made = made.astype(dtype)
        holes = rng.random(length) < rng.choice([0, 0, 0.1, 1])
        made[holes] = np.nan
        if dtype == np.float64 and rng.random() < 0.3:  # NaNs apart
            made.view("u8")[holes] = rng.choice(np.array(_NANS, "u8"), int(holes.sum()))
    return made


def shapes(dtype: np.dtype[Any]) -> list[str]:
    """In which ways numbers of a dtype can be made."""
    return ["noise", *_WHOLE, *(_REAL if dtype.kind in "fc" else [] if dtype.kind == "b" else ["limits"])]


def numbers(rng: np.random.Generator, dtype: Any, length: int, shape: str = "") -> Any:
    """A new one-dimensional array of numbers, booleans, dates or times."""
    wanted = np.dtype(dtype)
    dtype = wanted.newbyteorder("=")
    shape = shape or str(rng.choice(shapes(dtype)))
    if dtype.kind == "b":
        made = rng.random(length) < rng.choice([0.5, 0, 1, 0.01])
    elif shape == "noise":
        made = noise(rng, dtype, length)
    elif dtype.kind == "c":
        real = np.dtype(f"f{dtype.itemsize // 2}")
        made = np.empty(length, dtype)
        made.real, made.imag = _reals(rng, real, length, shape), _reals(rng, real, length, "edges")
    elif dtype.kind == "f":
        made = _reals(rng, dtype, length, shape)
    elif dtype.kind in "mM":
        made = _integers(rng, np.dtype("i8"), length, shape)
        made[rng.random(length) < rng.choice([0, 0, 0.1])] = np.iinfo("i8").min
        made = made.view(dtype)
    else:
        made = _integers(rng, dtype, length, shape)
    return made.astype(wanted)


@st.composite
def column(draw: Any, dtype: Any, length: int) -> Any:
    """As :func:`numbers`, of any shape."""
    return numbers(np.random.default_rng(draw(seeds)), dtype, length, draw(st.sampled_from(shapes(np.dtype(dtype)))))
