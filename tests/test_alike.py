"""Frames that are alike in all but their numbers: written and read by a shorter way, and each is its caller's own (P2)."""

from __future__ import annotations

import datetime as dt
import time
import zoneinfo
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytz
from dateutil import tz as dateutil_tz

from redis_memo import _codecs_pandas, _codecs_pandas_forms
from redis_memo._codecs import Payload, dumps, loads, register_type
from redis_memo._codecs_rules import USER_TYPES
from redis_memo._codecs_stream import MOULDS, PUT_PICKLE, Encoder
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
def nothing_kept() -> None:
    MOULDS.clear()
    _codecs_pandas_forms._forms.clear()


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


def test_p7_neither_moulds_nor_forms_pile_up() -> None:
    for number in range(600):
        payload = dumps(prices(7).rename_axis(index=f"day {number}"), allow_pickle=False)
        loads(payload.meta, payload.buffers, trusted=False)
    assert len(MOULDS) <= 256
    assert 0 < len(_codecs_pandas_forms._forms) <= 256


class Text(str):
    __slots__ = ()


class Zone(dt.tzinfo):
    """One that only pickle can bring back."""

    def __init__(self, hours: int = 5) -> None:
        self.hours = hours

    def __reduce__(self) -> Any:
        return type(self), (self.hours,)

    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=self.hours)

    def dst(self, _: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)


class Registered(Zone):
    """One that ``register_type`` is told how to store."""


@pytest.fixture
def registered() -> Iterator[None]:
    register_type(Registered, name="test.zone", encode=lambda zone: zone.hours, decode=Registered)
    yield
    del USER_TYPES[Registered]


def variants(seed: int) -> list[pd.DataFrame]:
    """Frames that a stream tells apart; some of them are equal to another one."""
    plain = prices(seed)
    rng = np.random.default_rng(seed)
    spread = plain.copy()
    spread["rsi"] = rng.normal(size=ROWS)  # a block of its own, of the dtype of another one
    indicator = spread.copy()  # one block, of prices and others
    first_off = indicator.assign(open=rng.normal(size=ROWS)).copy()
    flagged = plain.copy()
    flagged.flags.allows_duplicate_labels = False
    noted = plain.copy()
    noted.attrs["source"] = "mine"
    found = [
        plain, spread, indicator, first_off, flagged, noted,
        plain[["close", "open", "high", "low", "volume", "trades"]].copy(),
        plain.rename_axis(index=None), plain.rename_axis(index=Text("date")), plain.rename_axis(index=("date",)),
        plain.rename_axis(columns=None), plain.rename_axis(columns=Text("field")),
        plain.set_axis([Text(name) for name in plain], axis=1), plain.set_axis(pd.Index([*plain], dtype=object), axis=1),
        plain.set_axis([*"aabbcc"], axis=1), plain.set_axis([b"open", *plain.columns[1:]], axis=1),
        plain.set_axis(pd.RangeIndex(6), axis=1), plain.set_axis(pd.CategoricalIndex([*plain]), axis=1),
        plain.astype({"volume": "int32"}), plain.astype({"trades": "uint32"}), plain.astype({"close": "float32"}),
        plain.astype("complex128"), plain.astype({"volume": ">i8"}), plain.astype({"volume": "longlong"}),
        plain.astype({"volume": object}), plain.clip(0, 99).astype("float16"), plain.clip(0, 99).astype("int8"), plain.astype({"volume": "Int64"}), plain > 500, plain.assign(said="yes"),
        plain.assign(when=plain.index, then=plain.index), plain.iloc[1:], plain.iloc[1:].copy(), plain.iloc[:9], plain.iloc[:0], plain[[]], plain.iloc[::2],
        pd.concat([plain] * 9), plain.iloc[::-1], plain.reset_index(drop=True), plain.set_index("volume"),
        plain.set_axis(plain.index.as_unit("s")), plain.set_axis(plain.index.as_unit("us")),
        plain.set_axis(plain.index.to_period("D")), prices(seed, None, "h"), prices(seed, None, "D"),
        pd.DataFrame(np.asfortranarray(plain.to_numpy()), plain.index, plain.columns),
    ]  # fmt: skip
    zones = [*ZONES.values(), zoneinfo.ZoneInfo.no_cache("Asia/Kolkata"), dt.timezone(dt.timedelta(0), "X"), dt.UTC]
    zones += [dateutil_tz.tzoffset("IST", 19800), dt.timezone(dt.timedelta(seconds=19800), "IST")]
    return found + [prices(seed, zone) for zone in zones]


def shown(frame: pd.DataFrame) -> tuple[bytes, list[bytes], tuple[str, ...], bool]:
    payload = dumps(frame, allow_pickle=True)
    return payload.meta, list(map(bytes, payload.buffers)), payload.kinds, payload.pickled


def test_each_is_written_as_if_it_were_the_first() -> None:
    """P1, P2: whatever was written before, the stream is that of this frame."""
    names = [variants(1), variants(2), variants(1)[::-1]]
    alone = []
    for frames in names:
        alone.append([])
        for frame in frames:
            _codecs_pandas_forms._forms.clear()
            alone[-1].append(shown(frame))
    _codecs_pandas_forms._forms.clear()
    for _ in range(2):
        for frames, expected in zip(names, alone, strict=True):
            for frame, once in zip(frames, expected, strict=True):
                assert shown(frame) == once
                assert same(loads(once[0], once[1], trusted=True), frame) is True
                if not once[-1]:
                    assert same(read(stored(frame)), frame) is True
    kept = [form for form in _codecs_pandas_forms._forms.values() if form is not None]
    assert len(kept) > 20, "few were written by the shorter way"


def test_nothing_is_learnt_of_a_frame_that_stays_the_only_one_of_its_form() -> None:
    """P7: results of as many lengths as there are calls are not all looked at once more, nor kept."""
    whole = pd.concat([prices(9)] * 2)
    for twice in (False, True):
        for rows in range(ROWS, ROWS + 20):
            shown(whole.iloc[:rows].copy())
        assert [form is not None for form in _codecs_pandas_forms._forms.values()] == [twice] * 20
    _codecs_pandas_forms._forms.clear()
    wide = pd.DataFrame(np.ones((ROWS, 80)), prices(9).index, [f"{number}, {'of what ' * 8}" for number in range(80)])
    shown(wide)
    assert not _codecs_pandas_forms._forms, "its labels are longer than what is kept"


def test_a_frame_within_something_is_written_in_full() -> None:
    """P2: what came before may be referred to; a form knows nothing of that."""
    frame = prices(9)
    shown(frame), shown(frame)
    for value in ([frame, frame], {"date": frame, "open": [frame]}, ("date", frame), [frame.columns, frame]):
        payload = dumps(value, allow_pickle=False)
        assert same(loads(payload.meta, payload.buffers, trusted=False), value) is True


def test_what_takes_a_pickle_takes_it_each_time() -> None:
    """P6: whoever reads it is told that a part is a pickle."""
    frame = prices(9, Zone())
    assert [shown(frame)[-1] for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("kind", [Zone, Registered])
@pytest.mark.usefixtures("registered")
def test_a_zone_of_ones_own_is_made_anew_each_time(kind: type[Zone]) -> None:
    """P2: whoever changes his own changes no later hit."""
    payload = dumps(prices(9, kind()), allow_pickle=True)
    for _ in range(3):
        found = loads(payload.meta, payload.buffers, trusted=True)
        assert found.index.tz.hours == 5
        found.index.tz.hours = 9


@pytest.mark.parametrize("kind", [Zone, Registered])
@pytest.mark.usefixtures("registered")
def test_a_zone_of_ones_own_is_written_as_it_is(kind: type[Zone]) -> None:
    """P2: the same object can be another zone when it is written again."""
    zone = kind()
    for hours in (5, 5, 5, 9):
        zone.hours = hours
        payload = dumps(prices(9, zone), allow_pickle=True)
        assert loads(payload.meta, payload.buffers, trusted=True).index.tz.hours == hours
    assert not _codecs_pandas_forms._forms


def test_p6_what_a_pickle_made_is_not_there_for_who_does_not_trust_it() -> None:
    """Nor where nothing of it can be told from what is typed."""
    frame = prices(9)
    enc = Encoder(allow_pickle=True)
    enc.out += b"x\x0cpd.DataFrame"
    PUT_PICKLE[0](enc, frame.columns)
    enc.put(frame.index)
    _codecs_pandas._put_columns(enc, frame)
    _codecs_pandas._put_extras(enc, frame)
    payload = dumps(prices(9, Zone()), allow_pickle=True)
    for meta, buffers in ((bytes(enc.out), enc.buffers), (payload.meta, payload.buffers)):
        assert isinstance(loads(meta, buffers, trusted=True), pd.DataFrame)
        with pytest.raises(UnreadableEntry, match="pickled"):
            loads(meta, buffers, trusted=False)


def test_metadata_of_a_dtype_are_the_callers_own() -> None:
    """P2: they can be changed, and numpy hands out what they hold."""
    frame = pd.DataFrame({"open": np.ones(ROWS, np.dtype("f8", metadata={"units": ["INR"]}))}, prices(9).index)
    envelope = stored(frame)
    for _ in range(3):
        metadata = read(envelope)["open"].to_numpy().dtype.metadata
        assert metadata == {"units": ["INR"]}
        metadata["units"].append("USD")


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of the system cannot be set here")
def test_the_systems_own_zone_is_what_it_is_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: an entry says no more of it than that it is the system's."""
    payload = dumps(prices(9, dateutil_tz.tzlocal()), allow_pickle=False)
    for hours in (1, 2):
        with monkeypatch.context() as patch:
            patch.setenv("TZ", f"XYZ-{hours}")
            time.tzset()
            found = loads(payload.meta, payload.buffers, trusted=False)
            assert found.index.tz.utcoffset(dt.datetime(2026, 2, 2)) == dt.timedelta(hours=hours)
    time.tzset()


def test_what_a_zone_is_kept_for_is_that_zone() -> None:
    """P2: a zone that is gone leaves its place in memory to another one."""
    for hours in range(300):
        frame = prices(9, dt.timezone(dt.timedelta(minutes=hours)))
        stored(frame)  # the second one of a form is kept
        assert same(read(stored(frame)), frame) is True
        del frame


def test_a_pandas_without_the_shorter_way_gives_the_same_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_codecs_pandas, _codecs_pandas_forms):
        monkeypatch.setattr(module, "CAN_BUILD", False)
    mixed = prices(8).assign(
        said="yes", when=pd.Timestamp("2026-02-01", tz="Asia/Kolkata"), some=pd.array([1, None] * 600)
    )
    for frame in (prices(8), mixed, mixed.iloc[:0], mixed[[]], mixed.set_axis([*"aabbccddd"], axis=1)):
        for _ in range(2):
            assert same(read(stored(frame)), frame) is True
    assert not MOULDS


def test_what_is_as_long_as_a_column_is_not_taken_for_it() -> None:
    """P2: the holidays of a frequency are numbers beside the stream, too, where booleans are in it."""
    holidays = [day.date() for day in pd.bdate_range("2024-01-01", periods=64, freq="7B")]
    for last in (dt.date(2030, 1, 1), dt.date(2031, 1, 1)):
        freq = pd.offsets.CustomBusinessDay(holidays=[*holidays[:-1], last])
        days = pd.date_range("2024-01-01", periods=64, freq=freq, name="date")
        frame = pd.DataFrame(np.arange(512).reshape(64, 8) % 3 == 0, days, list("abcdefgh"))
        envelope = stored(frame)
        for _ in range(2):
            assert same(read(envelope), frame) is True
