"""Columns of numbers: every bit comes back, and what compresses does (P2; P5 for what is damaged)."""

from __future__ import annotations

import gzip
import json
import pathlib
import pickle
import tracemalloc
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from redis_memo import _codecs_pandas, _migrate_plan, _planes, _segments
from redis_memo._codecs import dumps, loads
from redis_memo._codecs_buffers import Awaited, Joined, Needs, Strided
from redis_memo._envelope import Sealer, Stamp
from redis_memo._segments import EXPANSION, GRID, PCO, RAW, ZSTD, Packed, Part, pack
from redis_memo._zstd import compress, compress_apart, decompress
from redis_memo.errors import UnreadableEntry

GOLDEN = pathlib.Path(__file__).parent / "golden" / "segments.json"
KINDS = [dtype.str[1:] for dtype in _planes.DTYPES]
HOW = {"RAW": RAW, "ZSTD": ZSTD, "GRID": GRID, "PCO": PCO}


def shown(array: Any) -> memoryview:
    return shown_bytes(array).data


def shown_bytes(array: Any) -> Any:
    return array.reshape(-1).view(np.uint8)


def there_and_back(array: Any, compress: Any) -> set[int]:
    """Compare the bits; returns in which ways they were stored. Rows of a matrix are columns, one after another."""
    array = np.ascontiguousarray(array)
    rows = str(len(array)) if array.ndim > 1 else ""
    segments = pack([(shown(array), rows + array.dtype.str[1:])], compress)
    parts = [Part(segment.how, segment.raw, memoryview(segment.data), b"") for segment in segments]
    back = np.empty_like(array)
    Packed(parts, lambda _: b"").read_into(shown(back))
    if back.tobytes() != array.tobytes():  # not compared by assert: to show where they differ takes it minutes
        differs = np.flatnonzero(shown_bytes(back) != shown_bytes(array))
        pytest.fail(f"{array.dtype} of {array.shape}: {len(differs)} bytes differ, the first at {differs[0]}")
    return {segment.how for segment in segments}


def columns(kind: str) -> st.SearchStrategy[Any]:
    """Any numbers; and what looks like a grid, with everything that can be odd on one."""
    dtype = np.dtype(f"<{kind}")
    anything = hnp.arrays(dtype, st.integers(1, 50), elements=hnp.from_dtype(dtype))
    if dtype.kind == "f":
        odd = st.lists(st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf, 1e300, 5e-324]), max_size=3)
        grid = st.builds(
            lambda whole, exponent, odd: np.array([number / 10.0**exponent for number in whole] + odd).astype(dtype),
            st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=50),
            st.integers(0, 9),
            odd if dtype.itemsize == 8 else st.just([]),
        )
    else:
        modulus = 1 << 8 * dtype.itemsize
        grid = st.builds(
            lambda whole, step, base: (
                np.array([(n * step + base) % modulus for n in whole], "<u8").astype(f"<u{dtype.itemsize}").view(dtype)
            ),
            st.lists(st.integers(-100, 100), min_size=1, max_size=50),
            st.integers(1, 1000),
            st.integers(0, modulus),
        )
    # Steps of every size and sign, which add up to more than any of them: volumes of a day, times of ticks.
    size = 8 * dtype.itemsize - 2
    walk = st.builds(
        lambda steps, start, scale: (
            (np.cumsum(np.array([start, *steps])) / scale).astype(dtype)
            if dtype.kind == "f"
            else np.cumsum(np.array([start, *steps])).astype(dtype)
        ),
        st.integers(1, size).flatmap(
            lambda bits: st.lists(st.integers(-(1 << bits) // 8, 1 << bits), min_size=1, max_size=50)
        ),
        st.integers(0, 1 << size),
        st.sampled_from([1, 100]),
    )
    # Where the sum of two numbers leaves a word of 32 bits, and floats cease to be whole.
    edge = st.builds(
        lambda start, steps, scale: (
            (start + np.array([0, *steps])) / scale if dtype.kind == "f" else start + np.array([0, *steps])
        ).astype(dtype),
        st.sampled_from([sign << bits for bits in (29, 30, 31, 32, 52) for sign in (1, -1)]),
        st.lists(st.integers(-3, 3) | st.integers(-(1 << 31), 1 << 31), min_size=1, max_size=50),
        st.sampled_from([1, 100]),
    )
    found = st.one_of(anything, grid, walk, edge)
    return st.builds(_as_sent, found, st.sampled_from(["", "", "single", "rounded", "off"])) if kind == "f8" else found


def _as_sent(column: Any, how: str) -> Any:
    """As feeds send prices: floats of 32 bits, those in six decimals, or some with half a cent."""
    with np.errstate(all="ignore"):
        if how in ("single", "rounded"):
            column = column.astype("<f4").astype("<f8")
        if how == "rounded":
            column = np.round(column, 6)
        if how == "off":
            column = np.round(column, 2)
            column[::13] = np.round(column[::13] + 0.005, 3)
    return column


@given(st.sampled_from(KINDS).flatmap(columns), st.sampled_from(["auto", "fast", "small"]), st.booleans())
@settings(deadline=None, max_examples=600)
def test_every_bit_comes_back(column: Any, compress: Any, repeated: bool) -> None:
    there_and_back(np.tile(column, 40) if repeated else np.resize(column, 600), compress)


@given(
    st.sampled_from(KINDS).flatmap(lambda kind: st.lists(columns(kind), min_size=2, max_size=4)),
    st.integers(0, 40),
    st.booleans(),
    st.sampled_from(["auto", "fast", "small"]),
)
@settings(deadline=None, max_examples=600)
def test_every_bit_of_several_columns_comes_back(found: list[Any], apart: int, alike: bool, compress: Any) -> None:
    """P2: columns of one length, which may be much like the first one: open, high, low and close."""
    rows = [np.resize(column, 300) for column in found]
    if alike:
        with np.errstate(all="ignore"):
            rows = [(rows[0] + (apart * np.arange(300) % 7 * (row != rows[0])).astype(row.dtype)) for row in rows]
    there_and_back(np.stack(rows), compress)


@given(st.sampled_from(KINDS).flatmap(columns), st.integers(1, 300))
@settings(deadline=None, max_examples=300)
def test_every_bit_comes_back_over_many_segments(column: Any, times: int) -> None:
    kept, _segments.SEGMENT = _segments.SEGMENT, 512
    try:
        there_and_back(np.tile(column, times), "auto")
    finally:
        _segments.SEGMENT = kept


@pytest.mark.parametrize("unlike", [1, 0.01, -0.0, np.nan, -np.inf, 1e300])
def test_what_few_numbers_have_in_common_is_not_taken_for_granted(unlike: float) -> None:
    """P2: how to store a column is told by a few of its numbers; one that is unlike them may stand anywhere."""
    column = np.arange(600) * 7919 % 1000 * 25
    for at in range(len(column)):
        if unlike == 1:
            there_and_back(column + (np.arange(600) == at), "auto")
        there_and_back(np.where(np.arange(600) == at, unlike, column / 100), "auto")


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_prices_are_not_spoilt_by_what_is_on_no_grid(dtype: str) -> None:
    """Short columns of a frame share a buffer; an indicator among them costs what it is, and no more."""
    prices = {name: np.round(PRICES[place : place + 2_000], 2) for place, name in enumerate(("open", "high", "close"))}
    prices["high"][:14] = np.nan
    frame = pd.DataFrame(prices | {"rsi": np.sqrt(PRICES[:2_000])}).astype(dtype)

    def stored(frame: Any) -> int:
        payload = dumps(frame, allow_pickle=False)
        assert loads(payload.meta, payload.buffers, trusted=False).equals(frame)
        packed = zip(payload.buffers, payload.kinds, strict=True)
        return sum(len(segment.data) for data, kind in packed for segment in pack([(data, kind)], "auto"))

    assert stored(frame) <= stored(frame[["open", "high", "close"]]) + frame["rsi"].nbytes + 100


RNG = np.random.default_rng(11)
MOVES = RNG.normal(0, 30, 20_000)
PRICES = np.round(1500 + np.cumsum(RNG.normal(0, 1, 200_000)), 1)
WEEKS = np.round(9000 + MOVES[:400].cumsum() + [[0], [13], [-11], [4]] * np.abs(MOVES[400:2000].reshape(4, 400)), 1)
LATER = np.random.default_rng(12)
LOTS = LATER.integers(0, 1 << 20, 10_000)
WALK = 1500 * np.exp(LATER.normal(0, 0.01, 1330).cumsum())
AVERAGES = np.stack([np.convolve(WALK, np.ones(days) / days, "full")[50:1330] for days in (1, 5, 20, 10)])


@pytest.mark.parametrize(
    ("column", "how", "ratio"),
    [
        (PRICES, GRID, 0.25),
        (np.where(RNG.random(200_000) < 0.01, np.nan, PRICES), GRID, 0.3),
        (PRICES.astype("f4"), GRID, 0.4),
        (np.arange(200_000) * 60_000_000_000 + 1_700_000_000_000_000_000, GRID, 0.01),
        (RNG.integers(0, 3_000, 200_000) * 25, GRID, 0.3),
        (np.cumsum(RNG.integers(0, 100_000, 200_000)), GRID, 0.3),
        (np.cumsum(RNG.integers(0, 100_000, 200_000)) / 100, GRID, 0.3),
        (RNG.integers(0, 2**32, 200_000), GRID, 0.51),
        (np.zeros(200_000), GRID, 0.01),
        (RNG.integers(0, 1000, 200_000) / 3, PCO, 0.5),
        (RNG.random(200_000), RAW, 1.0),
        (RNG.integers(-(2**63), 2**63 - 1, 200_000), RAW, 1.0),
        (np.tile(RNG.random(500), 400), ZSTD, 0.1),
        (np.tile(RNG.integers(0, 1 << 24, 700), 200), GRID, 0.1),
        (RNG.integers(0, 1 << 24, 100_000), GRID, 0.376),
        (np.round(9000 + MOVES.cumsum() + [[0], [3], [-3], [1]] * RNG.random((4, 20_000)), 1), GRID, 0.15),
        (
            np.stack([PRICES[:20_000], RNG.integers(0, 2, 20_000), np.arange(20_000.0), np.full(20_000, 9.5)]),
            GRID,
            0.035,
        ),
        (np.repeat(WEEKS, 5, axis=1), GRID, 0.09),
        (np.where(np.arange(3200) % 25, 0, LOTS[:3200]), GRID, 0.03),
        (AVERAGES.round(2), GRID, 0.2),
    ],
    ids=[
        "prices",
        "some missing",
        "float32",
        "minutes",
        "lots",
        "running volumes",
        "running turnover",
        "32 bits of 64",
        "zeros",
        "thirds",
        "noise",
        "hashes",
        "tiles",
        "tiles of whole numbers",
        "24 bits of 64",
        "columns that are alike",
        "columns that are not",
        "weeks by the day",
        "lots now and then",
        "averages",
    ],
)
def test_a_column_is_stored_as_it_is_smallest_or_as_it_is(column: Any, how: int, ratio: float) -> None:
    """Sizes of today; a change that makes them larger has to say why."""
    assert there_and_back(column, "auto") == {how}
    kind = (str(len(column)) if column.ndim > 1 else "") + column.dtype.str[1:]
    assert sum(len(segment.data) for segment in pack([(shown(column), kind)], "auto")) <= ratio * column.nbytes


def test_the_lowest_planes_are_stored_as_they_are_if_they_are_noise() -> None:
    """What zstd cannot make smaller it is not given; a plane that repeats, or has few bytes, it is."""
    for column, planes in (
        (RNG.integers(0, 1 << 24, 9_000), 3),
        (np.cumsum(RNG.normal(0, 1e4, 9_000).astype("i8")), 1),
        (RNG.integers(0, 1 << 16, 9_000) & 0x3F3F, 0),
        (np.resize(RNG.integers(0, 1 << 24, 500), 9_000), 0),
    ):
        body = _planes.encode_grid(column, 0, 1)
        assert body is not None
        assert body[2] // _planes.NOISE == planes
        lowest = (column - column.min()).astype("<u1").tobytes()
        assert (lowest in body) is (planes == 3)


def test_noise_is_not_copied() -> None:
    """What gains nothing does not pay: its segments are views of the value's own memory."""
    noise = RNG.random(1_000_000)
    for segment in pack([(shown(noise), "f8")], "auto"):
        assert np.shares_memory(np.frombuffer(segment.data, np.uint8), noise)


@given(st.sampled_from([GRID, PCO, ZSTD, 7]), st.binary(max_size=300), st.sampled_from([1, 8, 600, 8192]), st.data())
@settings(deadline=None, max_examples=500)
def test_damaged_segments_are_unreadable_and_nothing_else(
    how: int, body: bytes, size: int, data: st.DataObject
) -> None:
    """P5, P6: whoever has no secret can plant any bytes behind a right checksum."""
    if how in (GRID, PCO) and data.draw(st.booleans()):
        rows = data.draw(st.sampled_from([1, 2]))
        made = _planes.encode_grid(PRICES[:600], 4, 1, rows) if how == GRID else _planes.encode_pco(PRICES[:600], 4)
        assert made is not None
        damaged = bytearray(made)
        for at in data.draw(st.lists(st.integers(0, min(len(made) - 1, 60)), max_size=4)):
            damaged[at] = data.draw(st.integers(0, 255))
        body = bytes(damaged)
    target = bytearray(size)
    try:
        Packed([Part(how, size, memoryview(body), b"")], lambda _: b"").read_into(memoryview(target))
    except BaseException as error:
        # As `loads` does, which is where segments are read.
        assert isinstance(error, Exception) or type(error).__name__ == "PanicException"  # noqa: PT017


def test_a_segment_is_checked_before_it_is_looked_at() -> None:
    body = bytearray(_planes.encode_grid(PRICES[:600], 4, 1) or b"")
    body[0] ^= 1
    with pytest.raises(UnreadableEntry, match="damaged"):
        Packed([Part(GRID, 4800, memoryview(body), b"digest")], lambda _: b"other").read()


@pytest.mark.parametrize("how", [ZSTD, GRID, PCO])
def test_no_segment_makes_the_reader_fetch_many_times_its_size(how: int) -> None:
    """P6: 4 MB that claim to be 4 GB of two-byte numbers, made from planes of eight, would take 36 GB."""
    size = 2 * _segments.SEGMENT
    with pytest.raises(UnreadableEntry, match="larger"):
        Packed([Part(how, size, memoryview(bytes(size // EXPANSION)), b"")], lambda _: b"").read()


def test_a_claimed_number_of_buffers_is_not_believed() -> None:
    """P6: a column that claims 2**40 buffers is refused before they are counted."""
    payload = dumps(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), allow_pickle=False)
    at = payload.meta.index(b"C") + 3  # after its place and how long it is
    planted = payload.meta[:at] + b"\xff" + (1 << 40).to_bytes(8, "little") + payload.meta[at + 1 :]
    with pytest.raises(UnreadableEntry, match="shorter than it claims"):
        loads(planted, payload.buffers, trusted=False)


@pytest.mark.parametrize("columns", [None, ["close"]])
def test_a_claimed_number_of_columns_is_not_believed(columns: list[str] | None) -> None:
    """P5, P6: labels that are a range are as long as one likes; counting to their end would fill the memory."""
    payload = dumps(pd.DataFrame([[1.0, 2.0]], columns=pd.RangeIndex(2)), allow_pickle=False)
    small, large = (
        dumps(pd.RangeIndex(2), allow_pickle=False).meta,
        dumps(pd.RangeIndex(2**28), allow_pickle=False).meta,
    )
    planted = payload.meta.replace(small, large, 1)
    assert planted != payload.meta
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableEntry, match="does not add up"):
            loads(planted, payload.buffers, trusted=False, columns=columns)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 699), st.integers(-3, 3)), min_size=2, max_size=6))
def test_dates_that_others_had_too_are_still_each_results_own(made: list[tuple[int, int, int]]) -> None:
    """P2: what is remembered of dates is told apart by all of them, and changed by nobody who got them."""
    for gap, place, days in made:
        dates = np.arange("2020-01-01", gap + 700, dtype="M8[D]").astype("M8[ns]")[gap : gap + 700].copy()
        dates[place] += np.timedelta64(days, "D")
        frame = pd.DataFrame({"close": np.arange(700) / 20}, index=pd.DatetimeIndex(dates.copy()))
        for _ in range(2):
            payload = dumps(frame, allow_pickle=False)
            parts = [
                pack([(buffer, kind)], "auto") for buffer, kind in zip(payload.buffers, payload.kinds, strict=True)
            ]
            packed = [
                Packed([Part(s.how, s.raw, memoryview(s.data), b"") for s in segments], lambda _: b"")
                for segments in parts
            ]
            back = loads(payload.meta, packed, trusted=False)
            assert (back.index.to_numpy() == dates).all()
            spoilt = back.index.to_numpy(copy=False)
            spoilt.flags.writeable = True
            spoilt[:] = 0


def test_p7_few_dates_are_remembered() -> None:
    for number in range(3 * _segments.MOST_REMEMBERED):
        dates = np.arange(number, number + 700, dtype="M8[D]").astype("M8[ns]").view("i8")
        (segment,) = pack([(memoryview(dates).cast("B"), "M8")], "auto")
        Packed([Part(segment.how, segment.raw, memoryview(segment.data), b"")], lambda _: b"").read()
    assert len(_segments._recent) <= _segments.MOST_REMEMBERED
    assert _segments._regular.cache_info().currsize <= _segments.MOST_REMEMBERED


GOLDEN_COLUMNS = {
    "prices": (np.arange(700) % 37 / 20 + 100, "GRID"),
    "missing": (np.where(np.arange(700) % 5, np.arange(700) / 100, np.nan), "GRID"),
    "float32": ((np.arange(700) % 37 / 20).astype("<f4"), "GRID"),
    "days": (np.arange(700) * 86_400_000_000, "GRID"),
    "lots": ((np.arange(700) * 7919 % 1000 * 25).astype("<i4"), "GRID"),
    "unsigned": (np.arange(700).astype("<u8") + np.uint64(2**63), "GRID"),
    "thirds": (np.arange(700) % 50 / 3, "PCO"),
    "text": (np.frombuffer(b"INFY " * 1120, "<u8"), "ZSTD"),
    "rows": ((np.arange(700) % 37 * 5 + np.array([[10_000], [10_010], [9_995]])) / 100, "GRID"),
    "noise": (np.arange(700) * 48271 % 65521, "GRID"),
    "half cents": ((np.arange(700) % 37 * 50 + 100_000 + (np.arange(700) % 50 == 7) * 5) / 1000, "GRID"),
    "single": ((np.arange(700) % 37 / 20 + 100).astype("<f4").astype("<f8"), "GRID"),
    "single roots": (np.sqrt(np.arange(700) + 1000.0).astype("<f4").astype("<f8"), "PCO"),
    "six decimals": (np.round((np.arange(700) % 37 / 20 + 100).astype("<f4").astype("<f8"), 6), "GRID"),
}


@pytest.mark.parametrize("name", GOLDEN_COLUMNS)
def test_golden_segments_are_still_read(name: str) -> None:
    """P2 over time. What is written may change with the libraries; what was written is read."""
    column, how = GOLDEN_COLUMNS[name]
    body = bytes.fromhex(json.loads(GOLDEN.read_text())[name])
    back = np.empty_like(column)
    Packed([Part(HOW[how], column.nbytes, memoryview(body), b"")], lambda _: b"").read_into(shown(back))
    assert back.tobytes() == column.tobytes()


def _write_golden_segments() -> None:
    kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    for name, (column, how) in GOLDEN_COLUMNS.items():
        rows = str(len(column)) if column.ndim > 1 else ""
        (segment,) = pack([(shown(column), "" if how == "ZSTD" else rows + column.dtype.str[1:])], "auto")
        assert segment.how == HOW[how], name
        kept.setdefault(name, bytes(segment.data).hex())
    GOLDEN.write_text(json.dumps(kept, indent=1) + "\n")


def _walk(rows: int, seed: int = 5) -> Any:
    """Open, high, low and close in cents."""
    rng = np.random.default_rng(seed)
    close = 15_000 + np.cumsum(rng.integers(-90, 91, rows))
    spread = np.abs(rng.normal(0, 60, (2, rows))).astype(int)
    opened = close - rng.integers(-40, 41, rows)
    return np.stack([opened, np.maximum(opened, close) + spread[0], np.minimum(opened, close) - spread[1], close])


def _stored(frame: Any) -> int:
    payload = dumps(frame, allow_pickle=False)
    envelope, _ = Sealer(()).seal(
        "k", payload.meta, payload.buffers, pickled=False, stamp=Stamp(0, 0, 0, 0), kinds=payload.kinds
    )
    assert isinstance(envelope, bytes)
    return len(envelope)


@pytest.mark.parametrize("rows", [250, 2_500, 6_000])
@pytest.mark.parametrize(
    "sent", ["half cents", "single", "six decimals", "adjusted beside", "volume as floats", "dates as floats"]
)
def test_prices_as_feeds_send_them_take_little_more_than_in_cents(sent: str, rows: int) -> None:
    """P2 is held by the others; here that what feeds do to prices does not make them many times as large."""
    rng = np.random.default_rng(7)
    plain = pd.DataFrame(_walk(rows).T / 100, columns=list("ohlc")).assign(v=rng.lognormal(14, 0.5, rows).astype(int))
    frame, more = plain.copy(), 1.03
    if sent == "half cents":
        prices = plain[list("ohlc")].to_numpy()
        frame[list("ohlc")] = np.where(rng.random(prices.shape) < 0.03, np.round(prices + 0.005, 3), prices)
        more = 1.12
    elif sent in ("single", "six decimals"):
        frame[list("ohlc")] = plain[list("ohlc")].astype("f4").astype("f8")
        if sent == "six decimals":
            frame = frame.round(6)
    elif sent == "adjusted beside":
        frame.insert(4, "a", np.round((plain["c"] * 0.8712345).astype("f4").astype("f8"), 6))
        plain = frame.assign(a=0)
        more = 1 + 2.3 * rows / _stored(plain)
    elif sent == "volume as floats":
        frame["v"] = frame["v"].astype(float)
    else:
        frame["d"] = plain["d"] = np.arange(rows) * 86_400 + 1_700_000_000
        frame["d"] = frame["d"].astype(float)
    assert _stored(frame) <= more * _stored(plain) + 120


if __name__ == "__main__":
    _write_golden_segments()


@pytest.mark.parametrize("level", [1, 6])
def test_noise_in_one_plane_does_not_spoil_the_next(level: int) -> None:
    """Prices move by more than a byte can say, at random: their lowest bytes are noise, the next ones are not."""
    moves = np.random.default_rng(5).normal(0, 300, 9_000).astype("<i4") + 128 + 4096
    planes = [(moves >> 8 * plane).astype(np.uint8) for plane in range(2)]
    joined = b"".join(plane.tobytes() for plane in planes)
    packed = b"".join(compress_apart(planes, level))
    assert decompress(packed, len(joined)) == joined
    assert len(packed) < 0.95 * len(compress(joined, level))


def daily(rows: int) -> pd.DataFrame:
    """Daily prices of one stock, and its volume."""
    rng = np.random.default_rng(rows)
    close = (np.rint(20_000 + rng.normal(0, 300, rows).cumsum()) * 5).clip(100)
    opened = np.concatenate([close[:1], close[:-1]]) + np.rint(rng.normal(0, 60, rows)) * 5
    high, low = (
        np.maximum(opened, close) + rng.integers(0, 80, rows) * 5,
        np.minimum(opened, close) - rng.integers(0, 80, rows) * 5,
    )
    prices = {
        name: column / 100
        for name, column in zip(("open", "high", "low", "close"), (opened, high, low, close), strict=True)
    }
    index = pd.bdate_range("2025-01-01", periods=rows, tz="Asia/Kolkata", name="date")
    index = pd.DatetimeIndex(index.to_numpy(), tz="UTC", name="date").tz_convert("Asia/Kolkata")
    return pd.DataFrame(prices | {"volume": rng.lognormal(13, 0.5, rows).astype(np.int64)}, index=index)


def sealed_size(value: object) -> int:
    payload = dumps(value, allow_pickle=False)
    envelope, _ = Sealer(()).seal(
        "key", payload.meta, payload.buffers, kinds=payload.kinds, pickled=False, stamp=Stamp(0.0, 0.0, 0.0, 0.0)
    )
    return len(envelope)


@pytest.mark.parametrize("rows", [90, 120, 250, 400, 511, 512, 2_000, 5_000])
def test_frames_of_some_months_are_columns_as_those_of_years_are(rows: int) -> None:
    """A year of daily prices is 250 rows: less than half of what gzip -6 makes of its pickle."""
    frame = daily(rows)
    assert sealed_size(frame) <= 0.5 * len(gzip.compress(pickle.dumps(frame, 5), 6))


@pytest.mark.parametrize("shape", [(2_000, 250), (20, 500), (300, 100), (3, 300), (1, 300)])
def test_many_short_columns_side_by_side_are_numbers_too(shape: tuple[int, int]) -> None:
    columns, rows = shape
    frame = pd.DataFrame({number: daily(rows)["close"].to_numpy() + 50 * number for number in range(columns)})
    assert sealed_size(frame) <= 0.55 * len(gzip.compress(pickle.dumps(frame, 5), 6))
    pd.testing.assert_frame_equal(loads(*_parts(frame), trusted=False), frame, check_exact=True)


@pytest.mark.parametrize("shape", [(1, 70_000), (2, 40_000), (7, 9_000), (64, 70)])
@pytest.mark.parametrize("step", [1, 3, 0])
def test_frames_of_few_rows_and_many_columns(shape: tuple[int, int], step: int) -> None:
    for dtype in ("f8", "i8", "u2"):
        frame = pd.DataFrame((np.arange(shape[0] * shape[1]).reshape(shape) * step % 50_000).astype(dtype))
        sealed_size(frame)
        back = loads(*_parts(frame), trusted=False)  # compared at once: pandas looks at each column, for seconds
        assert back.columns.equals(frame.columns)
        assert back.index.equals(frame.index)
        assert set(back.dtypes) == {np.dtype(dtype)}
        assert back.to_numpy().tobytes() == frame.to_numpy().tobytes()


def _parts(value: object) -> tuple[bytes, list[Packed]]:
    payload = dumps(value, allow_pickle=False)
    stored = [pack([(buffer, kind)], "auto") for buffer, kind in zip(payload.buffers, payload.kinds, strict=True)]
    parts = [[Part(one.how, one.raw, memoryview(one.data), b"") for one in segments] for segments in stored]
    return payload.meta, [Packed(each, lambda _: b"") for each in parts]


def test_what_holds_many_short_arrays_is_not_written_one_by_one() -> None:
    """P7: a column takes some 50 us, and a dict may have one for each symbol."""
    arrays = {number: np.arange(100) / 20 + number for number in range(300)}
    payload = dumps(arrays, allow_pickle=False)
    assert len(payload.buffers) <= 8
    back = loads(*_parts(arrays), trusted=False)
    assert all(np.array_equal(back[number], array) for number, array in arrays.items())


def test_few_numbers_that_come_again_are_not_made_larger_by_pcodec() -> None:
    """Of a sample pcodec takes 0.14, of all of it 0.85, and zstd 0.15."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({number: rng.choice(rng.random(6), 120) for number in range(40)})
    assert sealed_size(frame) <= 0.25 * 120 * 40 * 8


def test_prices_in_half_the_width_are_told_from_the_others_among_many_columns() -> None:
    """As among few: there Python's own floats look at them."""

    def stored(columns: int) -> int:
        rng = np.random.default_rng(4)
        prices = {number: np.round(1500 + rng.normal(0, 1, 2_000).cumsum(), 2) for number in range(0, columns, 2)}
        others = {number: rng.random(2_000) for number in range(1, columns, 2)}
        return sealed_size(pd.DataFrame({number: (prices | others)[number] for number in range(columns)}).astype("f4"))

    assert stored(40) <= 4 * stored(10) * 1.02


@pytest.mark.filterwarnings("error")
def test_p8_a_nan_of_any_kind_is_stored_without_a_word() -> None:
    column = (np.arange(600) / 20).astype("f4")
    column.view("u4")[300] = 0x7F800001  # a signalling one
    there_and_back(column, "auto")
    for columns in (3, 30):
        sealed_size(pd.DataFrame(np.tile(column, columns).reshape(columns, 600).T, copy=False))


@pytest.mark.parametrize("shape", [(20, 250), (20, 120), (11, 250), (8, 500)])
def test_columns_that_are_each_others_past_are_not_noise(shape: tuple[int, int]) -> None:
    """What is random by itself, such as volumes, is stored once and not for each day that it is looked back from."""
    columns, rows = shape
    volumes = np.random.default_rng(5).integers(0, 10**6, rows + columns)
    frame = pd.DataFrame({f"lag {back}": volumes[columns - back : columns - back + rows] for back in range(columns)})
    assert sealed_size(frame) <= 0.2 * columns * rows * 3


def test_a_price_given_twice_is_stored_once() -> None:
    """Where nothing was paid out or split, feeds send the close and the adjusted close, which is the same."""
    close = np.round(200 + np.cumsum(np.random.default_rng(6).normal(0, 4, 2_000)), 2)
    frame = pd.DataFrame({name: np.round(close + by, 2) for name, by in zip("ohlc", RNG.normal(0, 3, (4, 2_000)))})
    assert sealed_size(frame.assign(adjusted=frame["c"])) <= 1.02 * sealed_size(frame)


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        ("aabcd", 250),  # as yfinance sorts them: the adjusted close, the close, and what is neither
        ("aabcd", 2_500),
        ("abbcd", 250),
        ("abbcd", 2_500),
        ("abacd", 250),
        ("abcad", 250),
        ("aabbccdde", 250),
        ("aabbccdde", 2_500),
        ("aabcdefghijklmnopqrst", 250),
        ("abccdefghijklmnopqrstt", 250),
    ],
)
def test_a_column_given_twice_is_stored_once_wherever_it_is(order: str, rows: int) -> None:
    rng = np.random.default_rng(8)
    made = {name: np.round(200 + np.cumsum(rng.normal(0, 4, rows)), 2) for name in sorted(set(order))}

    def stored(names: Iterable[str]) -> int:
        return sealed_size(pd.DataFrame({number: made[name] for number, name in enumerate(names)}))

    assert stored(order) <= 1.03 * stored(made)


def test_a_lag_is_stored_once_where_something_else_comes_last() -> None:
    """A model's features, and behind them what it is to learn."""
    rng = np.random.default_rng(5)
    volumes, target = rng.integers(0, 10**6, 503), rng.integers(0, 10**6, 500)
    lags = {f"lag {back}": volumes[3 - back : 503 - back] for back in range(3)}
    once = sealed_size(pd.DataFrame({"lag 0": lags["lag 0"], "target": target}))
    assert sealed_size(pd.DataFrame(lags | {"target": target})) <= 1.05 * once


def test_columns_that_have_only_their_higher_bytes_in_common_share_those() -> None:
    """An ask is a little more than a bid: their lowest bytes are noise, and the next ones are the same."""
    bid = np.random.default_rng([0, 2_500]).integers(0, 10**6, 2_500)
    assert sealed_size(pd.DataFrame({"bid": bid, "ask": bid + 5})) <= 1.5 * sealed_size(pd.DataFrame({"bid": bid}))


def test_a_series_that_goes_on_as_it_began_is_stored_once() -> None:
    rng = np.random.default_rng(9)
    first, rest = rng.integers(0, 10**6, (2, 1_000))
    once = sealed_size(pd.Series(np.concatenate((first, rest))))
    assert sealed_size(pd.Series(np.concatenate((first, first, rest)))) <= 1.02 * once


@pytest.mark.parametrize("compress", ["auto", "fast", "small", None])
@pytest.mark.parametrize("kind", ["f8", "f4", "i8", "i4", "u2"])
def test_p5_numbers_from_the_middle_of_a_message_are_stored(kind: str, compress: Any) -> None:
    """`np.frombuffer` of a tick's packet gives an array at an odd address, which pcodec refuses."""
    walk = np.cumsum(np.random.default_rng(7).integers(0, 3, 5_000))
    for numbers in (walk, np.sqrt(walk)):
        array = np.frombuffer(b"\1" + numbers.astype(kind).tobytes(), kind, offset=1)
        assert not array.flags.aligned
        there_and_back(array, compress)


@pytest.mark.parametrize("begin", [0, 20_000, 20_003])
def test_every_bit_of_a_price_off_a_grid_of_ticks_comes_back(begin: int) -> None:
    """What the ticks have in common is divided by; by how much a few are off them, in ten-thousandths, is not."""
    ticks = begin + 5 * np.cumsum(np.random.default_rng(3).integers(-3, 4, 3_000))
    prices = ticks / 100.0
    prices[::30] = np.round(prices[::30] + 0.0025, 4)
    there_and_back(prices, "auto")
    body = _planes.encode_grid(prices, 4, 1)
    assert body is not None
    code, exponent, order, width, base, step, *_ = _planes.HEAD.unpack_from(body)
    assert (order & _planes.OFF, step) == (_planes.OFF, 5)


@given(st.lists(st.binary(max_size=40)), st.data())
def test_a_part_of_pieces_is_that_of_all_of_them(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    joined = Joined(list(map(memoryview, pieces)))
    assert (len(joined), bytes(joined)) == (len(whole), whole)
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole) + 9))
    assert bytes(joined.part(start, stop)) == whole[start:stop]
    assert bytes(joined.some()) == whole  # which is little


@given(hnp.arrays("<i4", st.integers(1, 90)), st.integers(1, 9), st.data())
def test_a_part_of_a_column_that_lies_apart_is_that_of_the_column(values: Any, step: int, data: st.DataObject) -> None:
    column = Strided(values[::step])
    whole = values[::step].tobytes()
    assert (len(column), bytes(column), bytes(column.some())) == (len(whole), whole, whole)
    start = data.draw(st.integers(0, len(whole) // 4))
    stop = data.draw(st.integers(start, len(whole) // 4 + 3))
    assert bytes(column.part(4 * start, 4 * stop)) == whole[4 * start : 4 * stop]


@pytest.mark.parametrize("compress", ["auto", "fast", "small", None])
@pytest.mark.parametrize("chunks", [1, 3, 700])
def test_arrow_tables_are_not_copied_to_be_stored(chunks: int, compress: Any) -> None:
    rng = np.random.default_rng(1)
    table = pa.concat_tables(
        pa.table({"a": rng.random(300_000 // chunks), "b": np.arange(300_000 // chunks)}) for _ in range(chunks)
    )
    payload = dumps(table, allow_pickle=False)
    (joined,) = payload.buffers
    assert isinstance(joined, Joined)
    held = [memoryview(buffer) for column in table.columns for chunk in column.chunks for buffer in chunk.buffers()[1:]]
    shared = sum(any(np.may_share_memory(piece, view) for view in held) for piece in joined._pieces if len(piece) > 900)
    assert shared == 2 * chunks
    segments = pack([(joined, "")], compress)
    parts = [Part(segment.how, segment.raw, memoryview(segment.data), b"") for segment in segments]
    assert loads(payload.meta, [Packed(parts, lambda _: b"")], trusted=False).equals(table)


def test_p5_a_million_strings_are_not_looked_up_to_be_stored() -> None:
    """A table of them would take twice the memory of what is stored, and more time than all the rest."""
    unlike = [f"S{number}" for number in range(1 << 20)]
    tracemalloc.start()
    try:
        payload = dumps(unlike, allow_pickle=False)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert loads(payload.meta, payload.buffers, trusted=False) == unlike


def test_where_some_of_millions_come_again_each_is_stored_once() -> None:
    alike = [f"S{number % 300_000}" for number in range(1 << 20)]
    payload = dumps(alike, allow_pickle=False)
    assert sum(map(len, payload.buffers)) < 7 << 20  # of 8.3 MB of text
    assert loads(payload.meta, payload.buffers, trusted=False) == alike


@pytest.mark.parametrize("repeated", [1_000, 4])
@pytest.mark.parametrize("side_by_side", [True, False])
def test_strings_that_come_again_are_found_wherever_they_stand(repeated: int, side_by_side: bool) -> None:
    several = 1_200_000 // repeated
    unlike = [f"S{number}" for number in range(several)]
    items = [each for each in unlike for _ in range(repeated)] if side_by_side else unlike * repeated
    payload = dumps(items, allow_pickle=False)
    back = loads(payload.meta, payload.buffers, trusted=False)
    assert back == items
    assert len(set(map(id, back))) == several


def stored(value: Any, compress: Any = "auto", **options: Any) -> int:
    payload = dumps(value, allow_pickle=False, **options)
    return sum(len(segment.data) for segment in pack(list(zip(payload.buffers, payload.kinds, strict=True)), compress))


@pytest.fixture
def all_values_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_segments, "LARGE", 1)


@pytest.mark.usefixtures("all_values_are_large")
@pytest.mark.parametrize("width", range(2, 9))
def test_large_values_of_many_frames_are_stored(width: int) -> None:
    """What is tried before it is stored may be several columns of one length, one after another."""
    prices = np.round(1500 + np.random.default_rng(1).normal(0, 1, (1_500, width)).cumsum(0), 2)
    frames = {number: pd.DataFrame(prices + number) for number in range(9)}
    assert stored(frames) < 9 * prices.nbytes / 4
    payload = dumps(frames, allow_pickle=False)
    for number, back in loads(payload.meta, payload.buffers, trusted=False).items():
        pd.testing.assert_frame_equal(back, frames[number])


@pytest.mark.usefixtures("all_values_are_large")
def test_noise_amid_what_compresses_does_not_decide_for_all_of_a_column() -> None:
    rng = np.random.default_rng(1)
    column = np.round(1500 + rng.normal(0, 1, 1_000_000).cumsum(), 2)
    column[485_000:515_000] = rng.random(30_000)
    assert stored(column) < column.nbytes / 4
    rows = pd.DataFrame(np.ascontiguousarray(np.stack([column] * 3, axis=1)), copy=False)
    assert stored(rows) < 3 * column.nbytes / 4


@pytest.mark.usefixtures("all_values_are_large")
@pytest.mark.parametrize("rows", [1_000, 300_000])
def test_what_is_not_halved_is_stored_as_it_is_unless_it_is_to_be_small(rows: int) -> None:
    walk = 1500 + np.random.default_rng(1).normal(0, 1, (rows, 4)).cumsum(0)
    assert stored(pd.DataFrame(walk)) == walk.nbytes
    assert stored(pd.DataFrame(walk), "small") < 0.9 * walk.nbytes


@pytest.fixture
def few_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_codecs_pandas, "ACROSS", 1)


def returns(frame: Any) -> Any:
    """As `DataFrame.cumsum` leaves them: row by row."""
    values = np.asarray(frame)
    return pd.DataFrame(np.ascontiguousarray(values), index=frame.index, columns=frame.columns, copy=False)


def blocks(frame: Any) -> list[Any]:
    return [getattr(block.values, "_ndarray", block.values) for block in frame._mgr.blocks]


@pytest.mark.usefixtures("few_bytes_are_many")
@pytest.mark.parametrize("kind", ["f8", "f4", "i8", "u2", "M8[ns]", "m8[s]"])
@pytest.mark.parametrize("compress", ["auto", "fast", "small", None])
def test_p2_noise_that_lies_row_by_row_is_stored_as_it_lies(kind: str, compress: Any) -> None:
    rng = np.random.default_rng(3)
    shape, dtype = (40_000, 3), np.dtype(kind)
    values = np.frombuffer(rng.bytes(8 * shape[0] * shape[1]), "u8" if dtype.itemsize == 8 else dtype)[
        : shape[0] * shape[1]
    ]
    values = (values >> 4 if dtype.kind in "imM" else values).view(dtype).reshape(shape)
    frame = returns(pd.DataFrame(values, columns=["a", "b", "a"], index=pd.RangeIndex(7, 40_007)))
    payload = dumps(frame, allow_pickle=False)
    assert [len(buffer) for buffer in payload.buffers] == [values.nbytes]
    assert np.may_share_memory(np.frombuffer(payload.buffers[0], "u1"), blocks(frame)[0])
    assert {segment.how for segment in pack(list(zip(payload.buffers, payload.kinds, strict=True)), compress)} == {RAW}
    back = loads(payload.meta, payload.buffers, trusted=False)
    pd.testing.assert_frame_equal(back, frame)
    (block,) = blocks(back)
    assert block.tobytes() == blocks(frame)[0].tobytes()
    assert block.strides == blocks(frame)[0].strides
    assert block.flags.writeable
    assert not np.may_share_memory(block, blocks(frame)[0])


@pytest.mark.usefixtures("few_bytes_are_many")
def test_what_gains_by_it_is_gathered() -> None:
    """Prices row by row take as many bytes as those column by column."""
    prices = returns(pd.DataFrame(np.round(1500 + np.random.default_rng(1).normal(0, 1, (40_000, 4)).cumsum(0), 2)))
    lying, gathered = (
        sum(len(segment.data) for segment in pack(list(zip(payload.buffers, payload.kinds, strict=True)), "auto"))
        for payload in (dumps(frame, allow_pickle=False) for frame in (prices, prices.copy()))
    )
    assert lying == gathered < prices.size * 8 / 4


@pytest.mark.usefixtures("few_bytes_are_many")
def test_columns_that_lie_row_by_row_beside_others() -> None:
    rng = np.random.default_rng(2)
    several = pd.concat(
        [
            returns(pd.DataFrame(rng.random((9_000, 2)), columns=["x", "y"])),
            pd.DataFrame({"price": np.round(rng.random(9_000), 2), "name": ["EQ", "CE", "PE"] * 3_000}),
            returns(pd.DataFrame(rng.random((9_000, 3)), columns=["u", "v", "w"])),
        ],
        axis=1,
    )[["v", "price", "x", "name", "u", "y", "w"]]
    payload = dumps(several, allow_pickle=False)
    pd.testing.assert_frame_equal(loads(payload.meta, payload.buffers, trusted=False), several)
    some = loads(payload.meta, payload.buffers, trusted=False, columns=["w", "name", "x"])
    pd.testing.assert_frame_equal(some, several[["w", "name", "x"]])


@pytest.mark.usefixtures("few_bytes_are_many")
def test_columns_of_their_own_stay_columns_that_can_be_read_alone() -> None:
    """A block of one column lies one way and the other."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({name: rng.random(20_000) for name in "abcd"})
    assert [len(buffer) for buffer in dumps(frame, allow_pickle=False).buffers] == [160_000] * 4


@pytest.mark.usefixtures("few_bytes_are_many")
def test_what_lies_row_by_row_is_not_fetched_for_other_columns() -> None:
    frame = returns(pd.DataFrame(np.random.default_rng(2).random((20_000, 3)), columns=["x", "y", "z"]))
    frame.insert(1, "n", np.arange(20_000))
    payload = dumps(frame, allow_pickle=False)
    long = max(range(len(payload.buffers)), key=lambda number: len(payload.buffers[number]))
    buffers = [Awaited(at, len(each)) if at == long else each for at, each in enumerate(payload.buffers)]
    some = loads(payload.meta, buffers, trusted=False, columns=["n"])
    pd.testing.assert_frame_equal(some, frame[["n"]])
    with pytest.raises(Needs):
        loads(payload.meta, buffers, trusted=False, columns=["n", "y"])


@pytest.mark.usefixtures("few_bytes_are_many")
def test_equal_frames_are_the_same_however_they_lie() -> None:
    rows = returns(pd.DataFrame(np.random.default_rng(2).random((20_000, 3))))
    columns = pd.DataFrame(np.asfortranarray(rows.to_numpy()), copy=False)
    assert rows.equals(columns)
    assert _migrate_plan.same(rows, columns)
    assert _migrate_plan.same(columns, rows)
    assert not _migrate_plan.same(rows, columns + 1)


@pytest.mark.usefixtures("few_bytes_are_many")
@pytest.mark.parametrize("dtype", ["?", "i1", "c16", ">f8", "f2", "g"])
@pytest.mark.parametrize("step", [1, -1, 3])
def test_p2_columns_that_lie_apart_come_back_whatever_they_are(dtype: str, step: int) -> None:
    values = np.random.default_rng(2).integers(0, 99, (40_000, 5)).astype(dtype)
    for frame in (pd.DataFrame(values, copy=False)[::step], pd.DataFrame(values, copy=False).iloc[:, ::2]):
        payload = dumps(frame, allow_pickle=False)
        pd.testing.assert_frame_equal(loads(payload.meta, payload.buffers, trusted=False), frame)


@pytest.mark.usefixtures("few_bytes_are_many")
def test_p2_python_objects_that_lie_row_by_row_are_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their memory is addresses, which may look like noise."""
    monkeypatch.setattr(_codecs_pandas, "is_worth", lambda *_: False)
    shuffled = np.random.default_rng(2).permutation(np.random.default_rng(3).random(60_000).astype(object))
    frame = pd.DataFrame(shuffled.reshape(20_000, 3), copy=False)
    payload = dumps(frame, allow_pickle=False)
    pd.testing.assert_frame_equal(loads(payload.meta, payload.buffers, trusted=False), frame)
