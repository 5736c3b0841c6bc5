"""Frames that are alike in all but their numbers: read by a shorter way, and each is still its caller's own (P2)."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytz
from dateutil import tz as dateutil_tz

from redis_memo import _codecs_pandas
from redis_memo._codecs import Payload, dumps, loads
from redis_memo._codecs_stream import MOULDS
from redis_memo._envelope import Sealer, Stamp
from redis_memo.errors import UnreadableEntry

from .strategies import same

STAMP = Stamp(0.0, 0.0, 1e12, 1e12)
ZONES = {
    "none": None,
    "zoneinfo": zoneinfo.ZoneInfo("Asia/Kolkata"),
    "pytz": pytz.timezone("Asia/Kolkata"),
    "offset": dt.timezone(dt.timedelta(seconds=19800)),
    "dateutil": dateutil_tz.tzoffset(None, 19800),
}
ROWS = 1200  # so many that a column of any of these dtypes lies beside the stream


def prices(seed: int, zone: Any = None, freq: str | None = None, name: str | None = "date") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    if freq is not None:
        days = pd.date_range("2024-01-01", periods=ROWS, freq=freq, tz=zone, name=name)
    else:
        days = pd.DatetimeIndex(np.cumsum(rng.integers(1, 9, ROWS)) * 60_000_000_000, name=name).tz_localize(zone)
    columns = {key: np.round(rng.normal(500, 9, ROWS), 2) for key in ("open", "high", "low", "close")}
    frame = pd.DataFrame(
        {**columns, "volume": rng.integers(0, 10**7, ROWS), "trades": rng.integers(0, 99, ROWS, "i4")}, days
    )
    frame.columns.name = "field"
    return frame


def stored(frame: pd.DataFrame) -> bytes:
    payload = dumps(frame, allow_pickle=False)
    envelope, _ = Sealer(()).seal("key", payload.meta, payload.buffers, pickled=False, stamp=STAMP, kinds=payload.kinds)
    assert isinstance(envelope, bytes)
    return envelope


def read(envelope: bytes) -> Any:
    entry = Sealer(()).open("key", envelope)
    return loads(entry.meta, entry.buffers, trusted=False)


@pytest.fixture(autouse=True)
def no_moulds() -> None:
    MOULDS.clear()


@pytest.mark.parametrize("freq", [None, "B", "h"])
@pytest.mark.parametrize("zone", ZONES.values(), ids=list(ZONES))
def test_each_comes_back_as_it_was(zone: Any, freq: str | None) -> None:
    one, other = prices(1, zone, freq), prices(2, zone, freq)
    first, second = stored(one), stored(other)
    for _ in range(3):
        assert same(read(first), one) is True
        assert same(read(second), other) is True
    assert len(MOULDS) == 1, "none was read by the shorter way"


def spoil_numbers(frame: pd.DataFrame) -> None:
    for column in ("open", "volume", "trades"):
        frame.loc[:, column] = 0
    frame.iloc[0, 1] = np.nan


def spoil_names(frame: pd.DataFrame) -> None:
    frame.index.name = frame.columns.name = "mine"
    frame.attrs["mine"] = True


def spoil_columns(frame: pd.DataFrame) -> None:
    frame.insert(0, "mine", 1)
    del frame["close"]
    frame["volume"] = frame["volume"].astype("float32")


def spoil_labels(frame: pd.DataFrame) -> None:
    frame.columns = [column.upper() for column in frame.columns]
    frame.index = frame.index + pd.Timedelta("1h")


def spoil_memory(frame: pd.DataFrame) -> None:
    for block in frame._mgr.blocks:
        assert block.values.flags.writeable
        block.values[:] = 0
    frame.index._data._ndarray[:] = 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("spoil", [spoil_numbers, spoil_names, spoil_columns, spoil_labels, spoil_memory])
def test_what_one_caller_does_to_it_no_other_sees(spoil: Any) -> None:
    frame = prices(3, ZONES["dateutil"])
    envelope = stored(frame)
    for _ in range(3):
        mine = read(envelope)
        assert same(mine, frame) is True
        spoil(mine)
    assert same(read(envelope), frame) is True


def test_names_dtypes_and_rows_keep_frames_apart() -> None:
    plain = prices(4)
    frames = [
        plain,
        plain.rename_axis(index="time"),
        plain.rename_axis(index=None),
        plain.rename(columns={"open": "first"}),
        plain[["close", "open", "high", "low", "volume", "trades"]],
        plain.astype({"volume": "int32"}),
        plain.iloc[1:],
        plain.set_axis(plain.index.as_unit("s")),
        prices(4, ZONES["zoneinfo"]),
        prices(4, ZONES["pytz"]),
    ]
    envelopes = [stored(frame) for frame in frames]
    for _ in range(2):
        for frame, envelope in zip(frames, envelopes, strict=True):
            assert same(read(envelope), frame) is True


def test_what_is_in_the_stream_itself_is_read_from_there() -> None:
    for frame in (
        prices(5).head(9),
        prices(5).assign(said="yes"),
        prices(5).assign(traded=prices(6)["open"] > 500),
        prices(5).reset_index(drop=True),
    ):
        changed = frame.copy()
        changed.iloc[0, 0] += 1.0
        with_attrs = frame.copy()
        with_attrs.attrs["source"] = ["mine"]
        for _ in range(2):
            assert same(read(stored(frame)), frame) is True
            assert same(read(stored(changed)), changed) is True
            assert same(read(stored(with_attrs)), with_attrs) is True


@pytest.mark.parametrize(
    "damage",
    [
        lambda buffers: buffers[:-1],
        lambda buffers: (*buffers, b"more"),
        lambda buffers: (*buffers[:-1], bytes(buffers[-1])[:-1]),
        lambda buffers: (buffers[1], buffers[0], *buffers[2:]),
        lambda _: (),
    ],
)
def test_buffers_that_do_not_fit_are_unreadable(damage: Any) -> None:
    payload: Payload = dumps(prices(6), allow_pickle=False)
    for _ in range(2):
        loads(payload.meta, payload.buffers, trusted=False)
    with pytest.raises(UnreadableEntry):
        loads(payload.meta, damage(payload.buffers), trusted=False)


def test_moulds_do_not_pile_up() -> None:
    for number in range(600):
        payload = dumps(prices(7).rename_axis(index=f"day {number}"), allow_pickle=False)
        loads(payload.meta, payload.buffers, trusted=False)
    assert len(MOULDS) <= 256


def test_a_pandas_without_the_shorter_way_gives_the_same_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_codecs_pandas, "_of_manager", None)
    mixed = prices(8).assign(
        said="yes", when=pd.Timestamp("2026-02-01", tz="Asia/Kolkata"), some=pd.array([1, None] * 600)
    )
    for frame in (prices(8), mixed, mixed.iloc[:0], mixed[[]], mixed.set_axis([*"aabbccddd"], axis=1)):
        for _ in range(2):
            assert same(read(stored(frame)), frame) is True
    assert not MOULDS
