"""What `redis-memo migrate` reads besides folders of files, and what it proposes: each shown by the function's hits."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import json
import pickle
import sqlite3
import time
from typing import Any

import pandas as pd
import pytest
import redis

from redis_memo import MISSING
from redis_memo._codecs import dumps, loads
from redis_memo._migrate_fields import Pattern, Unfit, convert, moment_of
from redis_memo._migrate_plan import same

from .test_migrate import HISTORY, Service, command, everything, service, states, tree

__all__ = ["service"]

FETCH = """
@cached()
def fetch(symbol: str, day: Any = None, interval: str = "day") -> Any:
    runs.append(symbol)
"""


def test_joblib_memory(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Its arguments are kept as texts: literals, dates and timestamps are read, nothing is run."""
    import joblib

    module = service.write(FETCH)
    frame = pd.DataFrame({"close": [1.5, 2.5]})

    def fetch(symbol, day=None, interval="day"):
        return frame

    old = joblib.Memory(service.cache, verbose=0).cache(fetch)
    old("INFY", dt.date(2026, 1, 2))
    old("TCS", pd.Timestamp("2026-01-02", tz="Asia/Kolkata"), interval="minute")
    before = tree(service.cache)
    untrusted = command(capsys, "cache", service.f(), code=1)["items"]
    assert [each["why"][:40] for each in untrusted] == ["is a pickle, which runs code when it is "] * 2
    assert command(capsys, "cache", service.f(), "--trust", "--apply")["counts"] == {"migrated": 2}
    assert same(module.fetch("INFY", dt.date(2026, 1, 2)), frame)
    assert same(module.fetch("TCS", pd.Timestamp("2026-01-02", tz="Asia/Kolkata"), "minute"), frame)
    assert module.runs == []
    command(capsys, "cache", service.f(), "--cleanup")
    assert not list(service.cache.rglob("output.pkl"))
    command(capsys, "rollback", "cache", service.f())
    assert tree(service.cache) == before


def test_results_of_another_function_are_not_taken_for_this_ones(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two functions of one cache may have equal parameters; and metadata may say of what kind a file is."""
    import joblib

    module = service.write(FETCH)
    memory = joblib.Memory(service.cache, verbose=0)

    def fetch(symbol):
        return "candles"

    def model(symbol):
        return "model"

    memory.cache(fetch)("INFY")
    memory.cache(model)("TCS")
    answer = command(capsys, "cache", service.f(), "--trust", "--apply")
    assert answer["counts"] == {"migrated": 1, "skipped": 1}
    assert module.fetch("INFY") == "candles"
    assert module.fetch.peek("TCS") is MISSING
    (service.folder / "other").mkdir()
    for name in ("a", "b"):
        (service.folder / "other" / f"{name}.json").write_text(f'["{name}"]')
    kinds = {"a": {"symbol": "SBIN", "type": "historical"}, "b": {"symbol": "ITC", "type": "quote"}}
    (service.folder / "other" / "cache_metadata.json").write_text(json.dumps(kinds))
    (service.folder / "map.toml").write_text('[where]\ntype = "historical"\n')
    answer = command(capsys, "other", service.f(), "--map", "map.toml", "--apply")
    assert states(answer) == {"a.json": "migrated", "b.json": "skipped"}
    assert module.fetch("SBIN") == ["a"]
    assert module.fetch.peek("ITC") is MISSING


def test_diskcache(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Of ``memoize`` with its calls, of plain keys by pattern; what has expired there is stale; the folder stays as it is."""
    diskcache = pytest.importorskip("diskcache", reason="NOT INSTALLED: this source was not read")

    module = service.write(FETCH)
    old = diskcache.Cache(service.cache)

    @old.memoize(name="legacy.fetch")
    def fetch(symbol, day=None, interval="day"):
        return {"symbol": symbol, "rows": list(range(20_000))}

    fetch("INFY", interval="minute")
    fetch("SBIN")
    old.set("TCS_day", b"x" * 100_000)
    old.set("GONE_day", "text", expire=100)
    old.close()
    with contextlib.closing(sqlite3.connect(service.cache / "cache.db")) as database, database:
        database.execute("UPDATE Cache SET expire_time = ? WHERE key = 'GONE_day'", [time.time() - 5])
    before = tree(service.cache)
    answer = command(capsys, "cache", service.f(), "--trust", "--files", "*legacy*", "--apply")
    assert answer["counts"] == {"migrated": 2}
    assert module.fetch("INFY", None, "minute")["symbol"] == "INFY"
    assert module.fetch("SBIN")["symbol"] == "SBIN"
    mapping = service.folder / "map.toml"
    mapping.write_text(f'files = "*_day"\ncall = "{service.name}:call"')
    module.call = lambda fields: {"symbol": fields["key"].partition("_")[0]}
    answer = command(capsys, "cache", service.f(), "--map", mapping, "--apply", "--manifest", "two.jsonl")
    assert states(answer) == {"TCS_day": "migrated", "GONE_day": "stale"}
    assert module.fetch("TCS") == b"x" * 100_000
    assert module.runs == []
    assert tree(service.cache) == before


def test_cachier(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Its keys are hashes of calls: found by the calls that there may be."""
    cachier = pytest.importorskip("cachier", reason="NOT INSTALLED: this source was not read")

    module = service.write(
        FETCH
        + """
def known_calls():
    for symbol in ("INFY", "TCS"):
        yield {"symbol": symbol, "interval": "day"}
"""
    )

    @cachier.cachier(cache_dir=service.cache)
    def fetch(symbol, interval="day"):
        return [symbol, interval]

    fetch("INFY")
    fetch("OTHER")
    args = ("cache", service.f(), "--calls", service.f("known_calls"), "--apply")
    assert command(capsys, *args, code=1)["counts"] == {"failed": 1}
    answer = command(capsys, *args, "--trust", code=1)
    assert answer["counts"] == {"migrated": 1, "failed": 1}
    assert module.fetch("INFY") == ["INFY", "day"]
    assert module.runs == []


def test_a_table_of_sqlite(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    module = service.write(FETCH)
    path = service.folder / "old.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE cache (symbol TEXT, interval TEXT, data BLOB, created_at TEXT)")
        database.execute("CREATE TABLE other (x)")
        moment = (dt.datetime.now() - dt.timedelta(days=40)).isoformat()
        rows = [
            ("INFY", "day", b'{"x": 1}', None),
            ("TCS", "minute", gzip.compress(b"[1, 2]"), None),
            ("OLD", "day", b"1", moment),
        ]
        database.executemany("INSERT INTO cache VALUES (?, ?, ?, ?)", rows)
    database.close()
    before = path.read_bytes()
    assert "--table" in command(capsys, "old.db", service.f(), code=3)
    answer = command(capsys, "old.db", service.f(), "--table", "cache", "--apply")
    assert answer["counts"] == {"migrated": 2, "stale": 1}
    assert module.fetch("INFY") == {"x": 1}
    assert module.fetch("TCS", interval="minute") == [1, 2]
    assert module.runs == []
    assert path.read_bytes() == before


def test_keys_of_another_layout_in_redis(service: Service, capsys: pytest.CaptureFixture[str], valkey_server) -> None:
    """``cache:{type}:{md5}`` with gzip and pickle; their own expiry counts; they are read only, as all others are."""
    module = service.write(
        FETCH
        + """
import hashlib
def known_calls():
    return [{"symbol": s} for s in ("INFY", "TCS", "SBIN")]
def cache_name(symbol):
    return "cache:historical:" + hashlib.md5(symbol.encode()).hexdigest()
"""
    )
    url = valkey_server.url.replace("/0", "/8")
    frame = pd.DataFrame({"close": [1.5, 2.5]}, index=pd.date_range("2026-01-01", periods=2, tz="Asia/Kolkata"))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        document = {"type": "dataframe", "data": frame, "timestamp": time.time() - 60}
        client.set(module.cache_name("INFY"), gzip.compress(pickle.dumps(document)), ex=1000)
        client.set(module.cache_name("TCS"), json.dumps({"type": "json", "data": [1]}))
        client.set(module.cache_name("SBIN"), gzip.compress(pickle.dumps(document))[:-30])
        client.hset("cache:historical:hash", "a", 1)
        client.set("somebody:else", "x")
        before = everything(url)
        args = (
            url,
            service.f(),
            "--files",
            "cache:historical:*",
            "--calls",
            service.f("known_calls"),
            "--name",
            service.f("cache_name"),
        )
        answer = command(capsys, *args, "--trust", "--apply", code=1)
        assert everything(url) == before
        assert {each["item"].rpartition(":")[2]: each["state"] for each in answer["items"]} == {
            module.cache_name("INFY").rpartition(":")[2]: "migrated", module.cache_name("TCS").rpartition(":")[2]: "migrated",
            module.cache_name("SBIN").rpartition(":")[2]: "failed", "hash": "failed",
        }  # fmt: skip
        assert same(module.fetch("INFY"), frame)
        assert module.fetch("TCS") == [1]
        assert module.runs == []
        with redis.Redis.from_url(service.url) as ours:
            assert ours.ttl(module.fetch.cache_key("INFY")) <= 1000
        command(capsys, "rollback", url, service.f())
        assert module.fetch.peek("INFY") is MISSING
        assert everything(url) == before
        client.flushdb()


# --------------------------------------------------------------------------------------------------------- proposals


def test_a_proposal_from_metadata_is_sure_and_works_as_it_is(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    module = service.write("""
    @cached()
    def fetch(symbol: str, interval: str, from_date: date, to_date: date, exchange: str = "NSE") -> Any:
        runs.append(symbol)
    """)
    entries = {
        "ab12": {
            "tradingsymbol": "INFY",
            "exchange": "BSE",
            "interval": "day",
            "start": "2026-01-01",
            "end": "2026-02-01",
        },
        "cd34": {
            "tradingsymbol": "TCS",
            "exchange": "NSE",
            "interval": "day",
            "start": "2026-01-01",
            "end": "2026-02-01",
        },
    }
    service.file("cache_metadata.json", {"version": 1, "entries": entries})
    for name in entries:
        service.file(f"{name}.csv", b"date,close\n2026-01-01,1.5\n")
    answer = command(capsys, "cache", service.f(), "--infer", "-o", "map.toml", code=1)
    levels = {guess["what"]: guess["level"] for guess in answer["guesses"]}
    assert levels == {
        "symbol": "likely", "interval": "sure", "from_date": "likely", "to_date": "likely", "exchange": "sure",
        "created": "likely", "csv.index": "guess",
    }  # fmt: skip
    assert answer["level"] == "guess"
    assert answer["items"] == answer["with_a_call"] == answer["distinct_calls"] == 2
    assert command(capsys, "cache", "--map", "map.toml", "--apply")["counts"] == {"migrated": 2}
    got = module.fetch("INFY", "day", dt.date(2026, 1, 1), dt.date(2026, 2, 1), "BSE")
    assert got.index.name == "date"
    assert module.runs == []
    assert "--force" in command(capsys, "cache", service.f(), "--infer", "-o", "map.toml", code=3)


def test_a_proposal_from_file_names(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    module = service.write("""
    @cached()
    def fetch(symbol: str, timeframe: str, start_date: date, end_date: date) -> Any:
        runs.append(symbol)
    """)
    for name in ("M&M_day_2026-01-01_2026-02-01", "BAJAJ-AUTO_5minute_2026-01-01_2026-01-05"):
        service.file(f"hist_{name}.json", [name])
    answer = command(capsys, "cache", service.f(), "--infer", "-o", "map.toml")
    assert "hist_{symbol}_{timeframe:5minute|day}_{start_date:date}_{end_date:date}.json" in answer["mapping"]
    assert answer["level"] == "likely"
    assert answer["with_a_call"] == 2
    command(capsys, "cache", "--map", "map.toml", "--apply")
    assert module.fetch("BAJAJ-AUTO", "5minute", dt.date(2026, 1, 1), dt.date(2026, 1, 5)) == [
        "BAJAJ-AUTO_5minute_2026-01-01_2026-01-05"
    ]


def test_a_proposal_says_what_it_does_not_know(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.write(HISTORY)
    service.file("0" * 32 + ".json", [1])
    answer = command(capsys, "cache", service.f(), "--infer", code=1)
    assert answer["level"] == "unknown"
    assert answer["with_a_call"] == 0
    assert "nothing tells its parameter 'symbol'" in answer["obstacle"]


# -------------------------------------------------------------------------------------------------------- small parts


@pytest.mark.parametrize(
    ("pattern", "name", "fields"),
    [
        ("{symbol}_{interval:day|minute}.csv", "M&M_LTD_day.csv", {"symbol": "M&M_LTD", "interval": "day"}),
        ("{exchange}/{symbol}.csv", "NSE/INFY.csv", {"exchange": "NSE", "symbol": "INFY"}),
        ("{symbol}.csv", "deep/INFY.csv", {"symbol": "INFY"}),
        ("{s}_{d:date}_{n:int}.csv", "A_B_20260101_5.csv", {"s": "A_B", "d": "20260101", "n": "5"}),
        ("{s}.csv", "INFY.json", None),
    ],
)
def test_patterns(pattern: str, name: str, fields: dict[str, str] | None) -> None:
    assert Pattern(pattern).match(name) == fields


@pytest.mark.parametrize("moment", ["2026-01-02T03:04:05+05:30", 1767303245, 1767303245000.0, "1767303245"])
def test_moments_of_metadata(moment: Any) -> None:
    assert moment_of(moment, None) == 1767303245
    assert moment_of("2026-01-02T03:04:05", "Asia/Kolkata") == 1767303245
    assert moment_of("yesterday", None) is None
    assert moment_of(True, None) is None


def test_conversion_never_guesses() -> None:
    for value, kind in [("x", int), (1.5, int), ("maybe", bool), ("2026-13-01", dt.date), ([1], str), ("a", list[int])]:
        with pytest.raises(Unfit):
            convert(value, kind)
    assert type(convert("20260102", dt.date)) is dt.date
    assert convert("5") == "5"
    assert convert("5", default=3) == 5


def test_values_are_the_same_only_if_nothing_differs() -> None:
    """The comparison that decides whether an item counts as migrated."""
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2026-01-01", periods=2))
    others = [
        frame.astype("int32"),
        frame.rename(columns={"a": "b"}),
        frame.set_index(frame.index.tz_localize("UTC")),
        frame.iloc[::-1],
        frame.to_dict(),
    ]
    assert same(frame, frame.copy())
    assert not any(same(frame, other) for other in others)
    texts = {f"{n}" for n in range(99)}
    stored = dumps(texts, allow_pickle=False)
    assert same(texts, loads(stored.meta, stored.buffers, trusted=False))  # though it is in another order
    assert not same({"1", "2"}, {"1", "3"})
    assert not same(1, True)
    assert not same(0.0, -0.0)
    assert not same([1], (1,))
    assert same({"x": [1.5]}, {"x": [1.5]})
