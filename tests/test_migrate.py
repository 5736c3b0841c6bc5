"""`redis-memo migrate`: after it the function hits (P2), whatever failed stays where it was, and all of it can go back."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import pickle
import re
import shutil
import sys
import tempfile
import textwrap
import time
import uuid
from collections import OrderedDict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis

from redis_memo import MISSING, Cache, _cli, _codecs, as_of, connect, redis_cached, register_type
from redis_memo import _entries as entries
from redis_memo import _ops as ops
from redis_memo._drive import drive
from redis_memo._migrate_calls import Target
from redis_memo._migrate_journal import Journal
from redis_memo._migrate_plan import same
from redis_memo.errors import ConfigurationError
from redis_memo.migrate import migrate_mapping, rollback

from .conftest import SECRET, leaked
from .migrations import story

ROOT = Path(__file__).parent.parent
DAY = 86400.0


class Service:
    """A module of a service, written for one test; its functions count how often they run."""

    def __init__(self, folder: Path, url: str, namespace: str) -> None:
        self.folder, self.url, self.namespace = folder, url, namespace
        self.name = f"service_{uuid.uuid4().hex}"
        self.cache = folder / "cache"
        self.cache.mkdir()

    def write(self, body: str) -> Any:
        head = f"""
        from __future__ import annotations
        from datetime import date, datetime
        from typing import Any, Literal, Optional
        from redis_memo import connect, redis_cached
        cache = connect({self.url!r}, secret={SECRET!r})
        runs = []
        def cached(**options):
            return redis_cached(**{{"namespace": {self.namespace!r}, "ttl": "30d", "cache": cache, **options}})
        """
        text = textwrap.dedent(head) + textwrap.dedent(body)
        (self.folder / f"{self.name}.py").write_text(text)
        importlib.invalidate_caches()
        self.module = importlib.import_module(self.name)
        return self.module

    def f(self, name: str = "fetch") -> str:
        return f"{self.name}:{name}"

    def file(self, name: str, value: Any, age: float = 0.0) -> Path:
        path = self.cache / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        os.utime(path, (time.time() - age, time.time() - age))
        return path


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valkey_server, namespace: str):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Service(tmp_path, valkey_server.url, namespace)
    yield made
    with valkey_server.client() as client:
        assert leaked(client, namespace) == []
    if hasattr(made, "module"):
        made.module.cache.close()
        sys.modules.pop(made.name)


def command(capsys: pytest.CaptureFixture[str], *args: object, code: int = 0) -> Any:
    """What the command answers, as JSON; where it could do nothing, what it says."""
    try:
        found = _cli.main(["migrate", *map(str, args), "--json"])
    except SystemExit as ended:
        found = ended.code
    said = capsys.readouterr()
    assert found == code, said.err + said.out
    return json.loads(said.out) if code < 2 else said.err


def states(answer: Any) -> dict[str, str]:
    return {each["item"]: each["state"] for each in answer["items"]}


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def everything(url: str, namespace: str = "") -> dict[bytes, bytes]:
    """All keys of a server (or of a namespace and of other programs), byte for byte.

    But for what functions counted: a process that called one tells it at moments of its own.
    """
    with redis.Redis.from_url(url) as client:
        keys = client.scan_iter(f"*{namespace}*", count=1000)
        return {key: client.dump(key) for key in keys if not key.endswith(b":stats")}


HISTORY = """
@cached()
def fetch(symbol: str, interval: str = "day", days: int = 365) -> Any:
    runs.append(symbol)
    return None
"""


# ------------------------------------------------------------------------------------------------- the whole service


def test_a_whole_service_moves_in_and_can_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valkey_server, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example: 0 requests after the migration, equal values (P2); after the rollback byte for byte as before."""
    url = valkey_server.url.replace("/0", "/7")
    monkeypatch.setenv("REDIS_MEMO_URL", url)
    monkeypatch.setenv("REDIS_MEMO_SECRET", SECRET)
    example = ROOT / "examples" / "migration"
    monkeypatch.syspath_prepend(str(example))
    monkeypatch.chdir(tmp_path)
    broker, old_service, new_service = map(importlib.import_module, ("broker", "old_service", "new_service"))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        client.set("other:program", "its own", ex=10_000)
    old = old_service.MarketData(tmp_path)
    calls = [
        (symbol, "NSE", interval, date(2026, 1, 1), date(2026, 2, 28))
        for symbol in ("INFY", "M&M")
        for interval in ("day", "minute")
    ]
    for call in calls:
        old.historical(*call)
        old.historical(*call)
    old.sma("INFY", 5)
    old.model("INFY")
    new_service.model.store({"symbol": "INFY", "older": True}, "INFY")  # stands there before; a minute older
    os.utime(tmp_path / "models" / "INFY_trend.pkl", (time.time() + 60, time.time() + 60))
    files, stored = tree(tmp_path), everything(url)
    wanted = [new_service.historical.__wrapped__(*call) for call in calls]
    broker.requests = 0

    history, models = example / "history.toml", example / "models.toml"
    dry = command(capsys, "cache", "--map", history)
    assert set(states(dry).values()) == {"ready"}
    assert tree(tmp_path) == files
    assert everything(url) == stored
    assert command(capsys, "cache", "--map", history, "--apply")["counts"] == {"migrated": 4}
    assert command(capsys, "models", "--map", models, "--apply", "--trust")["counts"] == {"migrated": 1}
    manifest = tmp_path / "indicators.jsonl"
    report = migrate_mapping(old.indicators, into=new_service.sma, key=lambda key: key, manifest=manifest)
    assert report.failed == []
    assert report.count("migrated") == 1
    for call, value in zip(calls, wanted, strict=True):
        got = new_service.historical(*call)
        assert same(got, value)
        pd.testing.assert_frame_equal(got, value)
    assert new_service.sma("INFY", 5) == old.sma("INFY", 5)
    assert new_service.model("INFY") == old.model("INFY")
    assert broker.requests == 0

    assert command(capsys, "cache", "--map", history, "--cleanup")["counts"] == {"moved": 4}
    assert command(capsys, "models", "--map", models, "--cleanup")["counts"] == {"moved": 1}
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["cache_metadata.json"]
    assert command(capsys, "rollback", "cache", "new_service:historical")["counts"] == {"restored": 4, "deleted": 4}
    assert command(capsys, "rollback", "models", "new_service:model")["counts"] == {"restored": 2}
    assert rollback(manifest, into=new_service.sma).count("deleted") == 1
    after = everything(url)
    clocks = {key for key in stored if key.endswith((b":index", b":functions"))}  # their scores are moments
    assert {k: v for k, v in after.items() if k not in clocks} == {k: v for k, v in stored.items() if k not in clocks}
    assert set(after) == set(stored)
    assert tree(tmp_path) == files
    assert not (tmp_path / "cache.migrated").exists()
    for name in ("broker", "old_service", "new_service"):
        sys.modules.pop(name)


# --------------------------------------------------------------------------------------------------------- lifetimes


def test_a_dry_run_touches_nothing_and_says_what_would_be(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Where to, how big, how long it lives from now; a file's age counts, and what is stale is left."""
    module = service.write(HISTORY)
    service.file("INFY_day.json", [1, 2], age=10 * DAY)
    service.file("TCS_day.json", [3], age=31 * DAY)
    before = tree(service.folder), everything(service.url, service.namespace)
    answer = command(capsys, "cache", service.f(), "--pattern", "{symbol}_{interval}.json")
    assert (tree(service.folder), everything(service.url, service.namespace)) == before
    assert states(answer) == {"INFY_day.json": "ready", "TCS_day.json": "stale"}
    stale, ready = sorted(answer["items"], key=lambda each: each["state"], reverse=True)
    assert ready["key"] == module.fetch.cache_key("INFY", "day")
    assert ready["size"] > 64
    assert 19.9 * DAY < ready["remaining"] <= 20 * DAY
    assert "stale for 1d" in stale["why"]
    assert not answer["applied"]


def test_an_entry_lives_as_long_as_if_it_had_been_stored_when_it_was_computed(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy sees the call at the file's time, and Redis enforces what is left. A result past it is never served."""
    module = service.write("""
    seen = []
    def policy(call):
        seen.append((call.now, call.arguments["symbol"]))
        return "30d"
    @cached(ttl=policy, stale="5d")
    def fetch(symbol: str) -> Any:
        runs.append(symbol)
    """)
    path = service.file("INFY.json", {"x": 1}, age=10 * DAY)
    service.file("OLD.json", {"x": 1}, age=32 * DAY)  # within stale=, but its function would have it computed anew
    answer = command(capsys, "cache", service.f(), "--pattern", "{symbol}.json", "--apply")
    assert states(answer) == {"INFY.json": "migrated", "OLD.json": "stale"}
    moments = {symbol: now.timestamp() for now, symbol in module.seen}
    assert moments["INFY"] == pytest.approx(path.stat().st_mtime, abs=1e-3)
    with redis.Redis.from_url(service.url) as client:
        assert 24.9 * DAY < client.ttl(module.fetch.cache_key("INFY")) <= 25 * DAY
    assert module.fetch("INFY") == {"x": 1}
    assert module.runs == []
    assert module.fetch.peek("OLD") is MISSING
    assert module.fetch.explain("INFY").age == pytest.approx(10 * DAY, abs=60)


def test_the_moment_in_metadata_goes_before_the_file_time(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Files are copied and lose their times; what the old cache wrote down is better."""
    module = service.write(HISTORY)
    service.file("ab12.json", [1])
    service.file("cd34.json", [2])
    week = (datetime.now() - timedelta(days=7)).isoformat()
    meta = {
        "ab12": {"symbol": "INFY", "timestamp": week},
        "cd34": {"symbol": "TCS", "timestamp": time.time() - 40 * DAY},
    }
    service.file("cache_metadata.json", meta)
    answer = command(capsys, "cache", service.f(), "--apply")
    assert states(answer) == {"ab12.json": "migrated", "cd34.json": "stale"}
    with redis.Redis.from_url(service.url) as client:
        assert 22.9 * DAY < client.ttl(module.fetch.cache_key("INFY")) <= 23 * DAY


# ------------------------------------------------------------------------------------------------- what stays behind


def test_what_cannot_be_migrated_is_named_and_kept_and_the_rest_goes_on(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    module = service.write(HISTORY)
    good = pd.DataFrame({"close": [1.5, 2.5]}).to_csv(index=False).encode()
    service.file("GOOD.csv", good)
    service.file("SHORT.csv", b"open,close\n1.0,2.0\n3.0\n")
    service.file("CUT.csv", b"open,close\n1.0,2.0\n3.0,4")
    service.file("EMPTY.csv", b"")
    service.file("BYTES.csv", b"open,close\n1.0,\xff\xfe\n")
    service.file("MODEL.pkl", pickle.dumps({"weights": list(range(100))})[:-20])
    service.file("GZ.json.gz", gzip.compress(b"[1, 2, 3]" * 50)[:-9])
    service.file("NOTES.txt", b"what is this")
    service.file("BAD.json", b'{"a": 1')
    (service.cache / "LOOP.json").symlink_to("LOOP.json")
    os.mkfifo(service.cache / "PIPE.json")
    kept = {name: held for name, held in tree(service.cache).items() if name != "GOOD.csv"}
    answer = command(
        capsys,
        "cache",
        service.f(),
        "--pattern",
        "{symbol}.{ending:csv|pkl|json|json.gz}",
        "--apply",
        "--trust",
        code=1,
    )
    found = {each["item"]: each for each in answer["items"]}
    assert found.pop("GOOD.csv")["state"] == "migrated"
    assert {each["state"] for each in found.values()} == {"failed"}
    assert len(found) == 10
    assert "line 3 has 1 fields" in found["SHORT.csv"]["why"]
    assert "cut off" in found["CUT.csv"]["why"]
    assert "cut off" in found["GZ.json.gz"]["why"]
    assert "byte 15" in found["BYTES.csv"]["why"]
    assert found["EMPTY.csv"]["why"] == "is empty"
    assert "damaged" in found["MODEL.pkl"]["why"]
    assert "damaged" in found["BAD.json"]["why"]
    assert "not a kind" in found["NOTES.txt"]["why"]
    assert "cannot be read" in found["LOOP.json"]["why"]
    assert same(module.fetch("GOOD"), pd.DataFrame({"close": [1.5, 2.5]}))
    assert module.runs == []
    command(capsys, "cache", service.f(), "--cleanup")
    assert tree(service.cache) == kept


def test_a_pickle_is_not_opened_unless_it_is_trusted(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """P6: opening one runs what it says."""
    module = service.write(HISTORY)
    ran = service.folder / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(ran),)

    service.file("INFY.pkl", pickle.dumps(Evil()))
    service.file("TCS.pkl", pickle.dumps({"x": 1}))
    args = ("cache", service.f(), "--pattern", "{symbol}.pkl", "--apply")
    answer = command(capsys, *args, code=1)
    assert all("--trust" in each["why"] for each in answer["items"])
    assert not ran.exists()
    assert module.fetch.peek("TCS") is MISSING
    (service.cache / "INFY.pkl").unlink()
    assert states(command(capsys, *args, "--trust")) == {"TCS.pkl": "migrated"}
    assert module.fetch("TCS") == {"x": 1}


def test_a_file_that_changes_while_it_is_migrated_is_left_and_not_served(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    module = service.write(
        HISTORY
        + """
def load(path):
    import json
    value = json.loads(path.read_bytes())
    if path.name == "INFY.json" and value == [1]:
        path.write_text("[1, 2]")   # the old service is still running
    return value
"""
    )
    path = service.file("INFY.json", [1])
    service.file("TCS.json", [2])
    args = ("cache", service.f(), "--pattern", "{symbol}.json", "--reader", service.f("load"), "--apply")
    answer = command(capsys, *args, code=1)
    assert states(answer) == {"INFY.json": "failed", "TCS.json": "migrated"}
    assert "has changed" in next(each["why"] for each in answer["items"] if each["item"] == "INFY.json")
    assert path.read_text() == "[1, 2]"
    assert module.fetch.peek("INFY") is MISSING
    assert states(command(capsys, *args)) == {"INFY.json": "migrated", "TCS.json": "done"}
    assert module.fetch("INFY") == [1, 2]


def test_rows_that_metadata_counts_are_missed(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.write(HISTORY)
    service.file("a1.csv", b"close\n1.5\n")
    service.file("cache_metadata.json", {"a1": {"symbol": "INFY", "rows": 2}})
    answer = command(capsys, "cache", service.f(), code=1)
    assert "has 1 rows, and its metadata says 2" in answer["items"][0]["why"]


def test_what_redis_has_newer_stays_and_two_files_of_one_call_do_not_fight(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    module = service.write(HISTORY)
    module.fetch.store(["live"], "INFY")
    service.file("a/INFY.json", ["file"], age=60)
    service.file("a/TCS.json", ["new"], age=10)
    service.file("b/TCS.json", ["old"], age=500)
    answer = command(capsys, "cache", service.f(), "--pattern", "{symbol}.json", "--apply", code=1)
    assert states(answer) == {"a/INFY.json": "newer", "a/TCS.json": "migrated", "b/TCS.json": "superseded"}
    assert module.fetch("INFY") == ["live"]
    assert module.fetch("TCS") == ["new"]
    again = command(capsys, "cache", service.f(), "--pattern", "{symbol}.json", "--apply", code=1)
    assert states(again) == {"a/INFY.json": "newer", "a/TCS.json": "done", "b/TCS.json": "superseded"}


# ------------------------------------------------------------------------------------------------------------ again


def test_once_more_does_nothing_twice(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    module = service.write(HISTORY)
    service.file("INFY.json", [1], age=DAY)
    args = ("cache", service.f(), "--pattern", "{symbol}.json", "--apply")
    command(capsys, *args)
    stored, manifest = (
        everything(service.url, service.namespace),
        (service.folder / "cache.fetch.migration.jsonl").read_bytes(),
    )
    assert states(command(capsys, *args)) == {"INFY.json": "done"}
    assert everything(service.url, service.namespace) == stored
    assert (service.folder / "cache.fetch.migration.jsonl").read_bytes() == manifest
    service.file("INFY.json", [1, 2])
    assert states(command(capsys, *args)) == {"INFY.json": "migrated"}
    assert module.fetch("INFY") == [1, 2]
    command(capsys, "rollback", "cache", service.f())
    assert everything(service.url, service.namespace) == {}


def test_clean_up_moves_only_what_is_still_what_was_verified(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.write(HISTORY)
    for name in ("INFY", "TCS", "SBIN"):
        service.file(f"x/{name}.json", [name])
    command(capsys, "cache", service.f(), "--pattern", "{symbol}.json", "--apply")
    service.file("x/TCS.json", ["changed"])
    archive = service.folder / "archive"
    (archive / "x").mkdir(parents=True)
    (archive / "x" / "SBIN.json").write_text("somebody's")
    answer = command(capsys, "cache", service.f(), "--cleanup", "--archive", archive, code=1)
    assert states(answer) == {"x/INFY.json": "moved", "x/TCS.json": "failed", "x/SBIN.json": "failed"}
    assert (archive / "x" / "SBIN.json").read_text() == "somebody's"
    assert sorted(tree(service.cache)) == ["x/SBIN.json", "x/TCS.json"]
    service.file("x/INFY.json", ["a new one"])
    back = command(capsys, "rollback", "cache", service.f(), code=1)
    assert "another file by now" in next(each["why"] for each in back["items"] if each["state"] == "failed")
    assert (service.cache / "x" / "INFY.json").read_text() == '["a new one"]'
    (service.cache / "x" / "INFY.json").unlink()
    command(capsys, "rollback", "cache", service.f())
    assert "rolled back already" in command(capsys, "rollback", "cache", service.f(), code=3)  # it is done
    assert (service.cache / "x" / "INFY.json").read_text() == '["INFY"]'


def test_rollback_leaves_what_the_function_computed_since(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """And does not bring back what was invalidated (P3)."""
    module = service.write(HISTORY)
    for name in ("INFY", "TCS", "SBIN"):
        module.fetch.store(["before"], name)
    for name in ("INFY", "TCS", "SBIN", "NEW"):
        path = service.file(f"{name}.json", [name])
        os.utime(path, (time.time() + 60, time.time() + 60))
    answer = command(capsys, "cache", service.f(), "--pattern", "{symbol}.json", "--apply")
    assert answer["counts"] == {"migrated": 4}
    module.fetch.refresh("INFY")
    module.fetch.invalidate(symbol="TCS")
    back = command(capsys, "rollback", "cache", service.f())
    assert back["counts"] == {"left": 2, "restored": 1, "deleted": 1}
    assert module.fetch.peek("INFY") is None
    assert module.fetch.peek("TCS") is MISSING
    assert module.fetch.peek("NEW") is MISSING
    assert module.fetch.peek("SBIN") == ["before"]
    assert module.fetch.invalidate(symbol="SBIN") == 1  # still found by its argument
    assert module.fetch.invalidate() == 1


@pytest.mark.parametrize("size", [300_000, 34_000_000], ids=["large", "in chunks"])
def test_a_large_entry_that_was_replaced_comes_back(
    service: Service, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    module = service.write(HISTORY)
    before = os.urandom(size)
    module.fetch.store(before, "INFY")
    path = service.file("INFY.bin", os.urandom(size))
    os.utime(path, (time.time() + 60,) * 2)
    stored = everything(service.url, service.namespace)
    args = ("cache", service.f(), "--pattern", "{symbol}.bin", "--apply")
    assert states(command(capsys, *args)) == {"INFY.bin": "migrated"}
    assert module.fetch("INFY") == path.read_bytes()
    assert command(capsys, "rollback", "cache", service.f())["counts"] == {"restored": 1}
    assert (module.fetch.peek("INFY") == before) is True
    after = everything(service.url, service.namespace)
    assert {
        key for key in after if not key.endswith((b":index", b":functions")) and after[key] != stored.get(key)
    } == set()
    assert set(after) == set(stored)


def test_a_manifest_is_of_one_migration_and_a_torn_line_never_happened(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.write(HISTORY + "\n@cached()\ndef other(symbol: str) -> Any: ...\n")
    service.file("INFY.json", [1])
    args = ("cache", service.f(), "--pattern", "{symbol}.json", "--apply")
    command(capsys, *args)
    manifest = service.folder / "cache.fetch.migration.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b'{"what":"verified","item":"TC')
    assert states(command(capsys, *args)) == {"INFY.json": "done"}
    assert manifest.read_bytes() == whole
    said = command(
        capsys, "cache", service.f("other"), "--pattern", "{symbol}.json", "--apply", "--manifest", manifest, code=3
    )
    assert "--manifest" in said
    manifest.write_bytes(b"no manifest\n")
    assert "is damaged" in command(capsys, *args, code=3)


# ---------------------------------------------------------------------------------------------- the call of an item


def test_arguments_become_what_the_annotations_say(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """P1: ``"5"`` and ``5`` are different calls, and so are a date and a datetime."""
    module = service.write("""
    import enum
    class Side(enum.Enum):
        BUY = "buy"
    @cached()
    def fetch(symbol: str, day: date, at: datetime, days: int, ratio: float, interval: Literal["day", "minute"],
              side: Side, adjusted: bool = False, limit: Optional[int] = None, tags: tuple[str, ...] = (), plain=7,
              flexible: str | int = 3, nothing: str = None) -> Any:
        runs.append(symbol)
    """)
    service.file("k.json", [1])
    service.file("cache_metadata.json", {"k": {
        "symbol": 500325, "day": "2026-01-02", "at": "2026-01-02T09:15:00", "days": "5", "ratio": 2, "interval": "day",
        "side": "buy", "adjusted": "true", "limit": "None", "tags": ["a", "b"], "plain": "8", "flexible": "9",
        "nothing": None,
    }})  # fmt: skip
    command(capsys, "cache", service.f(), "--apply")
    assert module.fetch(
        "500325",
        date(2026, 1, 2),
        datetime(2026, 1, 2, 9, 15),
        5,
        2.0,
        "day",
        module.Side.BUY,
        True,
        None,
        ("a", "b"),
        8,
        "9",
        None,
    ) == [1]
    assert module.runs == []


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("day", "2026-01-02T09:15:00", "time of day"),
        ("days", "1.5", "is not a valid int"),
        ("interval", "weekly", "none of the values"),
    ],
)
def test_what_cannot_be_an_argument_is_said(
    service: Service, capsys: pytest.CaptureFixture[str], field, value, said
) -> None:
    service.write("""
    @cached()
    def fetch(day: date, days: int, interval: Literal["day", "minute"]) -> Any: ...
    """)
    service.file("k.json", [1])
    service.file("cache_metadata.json", {"k": {"day": "2026-01-02", "days": 5, "interval": "day"} | {field: value}})
    answer = command(capsys, "cache", service.f(), code=1)
    assert said in answer["items"][0]["why"]
    assert repr(field) in answer["items"][0]["why"]


def test_a_name_that_fits_in_two_ways_tells_nothing(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Rather than an entry under a call that nobody makes."""
    module = service.write(HISTORY)
    service.file("BAJAJ_AUTO_day.json", [1])
    answer = command(capsys, "cache", service.f(), "--pattern", "{symbol}_{interval}.json", code=1)
    assert "two ways" in answer["items"][0]["why"]
    command(capsys, "cache", service.f(), "--pattern", "{symbol}_{interval:minute|day}.json", "--apply")
    assert module.fetch("BAJAJ_AUTO", "day") == [1]


def test_a_mapping_file_with_templates_constants_and_functions(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    module = service.write(
        HISTORY
        + """
def call_of(fields):
    return None if fields["sym"] == "TEST" else (fields["sym"].upper(), {"x": 1}["x"])[:1]
"""
    )
    service.file("nse-infy.json", {"data": {"frame": [1]}, "when": 5})
    mapping = service.folder / "map.toml"
    mapping.write_text(f"""
        function = "{service.f()}"
        pattern = "{{exchange}}-{{sym}}.json"
        value = "data.frame"
        [arguments]
        symbol = "{{exchange:upper}}:{{sym:upper}}"
        days = 5
    """)
    command(capsys, "cache", "--map", mapping, "--apply")
    assert module.fetch("NSE:INFY", days=5) == [1]
    service.file("nse-TEST.json", {"data": {"frame": [1]}})
    mapping.write_text(f'pattern = "{{exchange}}-{{sym}}.json"\ncall = "{service.f("call_of")}"')
    answer = command(capsys, "cache", service.f(), "--map", mapping, "--apply", "--manifest", "second.jsonl")
    assert states(answer) == {"nse-infy.json": "migrated", "nse-TEST.json": "skipped"}
    assert module.fetch("INFY") == {"data": {"frame": [1]}, "when": 5}
    for wrong in ("patern = 'x'", "[csv]\nindx = 1", "[arguments]\nsymbl = 'x'", "pattern = 5", "x = ["):
        mapping.write_text(wrong)
        assert command(capsys, "cache", service.f(), "--map", mapping, code=3).startswith("redis-memo migrate: ")


def test_hashes_are_found_by_the_calls_that_there_may_be(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """No metadata: the old cache's own function of names, and all calls of the service, tell which file is which."""
    module = service.write(
        HISTORY
        + """
import hashlib
def known_calls():
    for symbol in ("INFY", "TCS", "SBIN"):
        for interval in ("day", "minute"):
            yield {"symbol": symbol, "interval": interval}
def cache_name(symbol, interval):
    return hashlib.md5(f"{symbol}_{interval}".encode()).hexdigest()
"""
    )
    service.file(module.cache_name("TCS", "minute") + ".json", [5])
    service.file("0" * 32 + ".json", [6])
    args = ("cache", service.f(), "--calls", service.f("known_calls"), "--name", service.f("cache_name"), "--apply")
    answer = command(capsys, *args, code=1)
    assert answer["counts"] == {"migrated": 1, "failed": 1}
    assert module.fetch("TCS", "minute") == [5]


def test_methods_async_functions_and_hooks(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    module = service.write("""
    class Client:
        def __init__(self, account): self.account = account
        def __memo_key__(self): return self.account
        @cached(ignore=("self",))
        def quote(self, symbol: str) -> Any: runs.append(symbol)
        @cached()
        def portfolio(self, symbol: str) -> Any: runs.append(symbol)
    alice = Client("alice")
    @cached()
    async def later(symbol: str) -> Any: runs.append(symbol)
    @cached(key=lambda symbol: symbol.upper())
    def hooked(symbol: str) -> Any: runs.append(symbol)
    def bare(symbol): ...
    """)
    service.file("INFY.json", [1])
    for name in ("Client.quote", "alice.portfolio", "later", "hooked"):
        command(capsys, "cache", service.f(name), "--pattern", "{symbol}.json", "--apply")
    assert module.Client("bob").quote("INFY") == module.alice.portfolio("INFY") == module.hooked("infy") == [1]
    assert module.Client("bob").portfolio("INFY") is None
    assert module.runs == ["INFY"]
    import asyncio

    assert asyncio.run(module.later("INFY")) == [1]
    assert "name a method of an object" in command(capsys, "cache", service.f("Client.portfolio"), code=2)
    assert "not decorated" in command(capsys, "cache", service.f("bare"), code=2)
    assert "has no nothing" in command(capsys, "cache", service.f("nothing"), code=2)
    assert "package.module:function" in command(capsys, "cache", "nothing", code=2)
    assert "No module named 'nothing'" in command(capsys, "cache", "nothing:f", code=2)
    (service.folder / "needy.py").write_text("import nothing_that_there_is\n")
    assert "nothing_that_there_is" in command(capsys, "cache", "needy:f", code=3)
    assert "there is no" in command(capsys, "nowhere", service.f("later"), code=3)


# ------------------------------------------------------------------------------------------------- kinds of files


def _frames() -> dict[str, pd.DataFrame]:
    ist = "Asia/Kolkata"
    days = pd.date_range("2026-01-01", periods=3, freq="D", tz=ist)._with_freq(None)
    return {
        "NUMBERED": pd.DataFrame({"close": [0.1 + 0.2, 1e-7, 1234567.891], "volume": [1, 2, 3]}),
        "DATED": pd.DataFrame({"close": [1.0, 2.0, 3.0]}, index=days),
        "NAMED": pd.DataFrame({"close": [1.0, 2.0, 3.0]}, index=days.rename("date")),
        "COLUMN": pd.DataFrame({"date": days, "close": [1.0, float("nan"), 3.0]}),
        "TEXT": pd.DataFrame({"name": ["a,b", 'c"d', "é"], "n": [1, 2, 3]}, index=["x", "y", "z"]),
    }


@pytest.mark.parametrize("name", sorted(_frames()))
def test_frames_of_csv_files_are_what_they_were(
    service: Service, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """P2: index, its name and zone, types, floats to the last bit."""
    module = service.write(HISTORY)
    frame = _frames()[name]
    service.file(f"{name}.csv", frame.to_csv(index=name != "COLUMN").encode())
    options = {"NAMED": ["--csv-index", "date"], "COLUMN": ["--csv-index", "none"]}.get(name, [])
    if options:
        answer = command(capsys, "cache", service.f(), "--pattern", "{symbol}.csv", code=1)
        assert 'csv.index = "date" or csv.index = false' in answer["items"][0]["why"]
    command(capsys, "cache", service.f(), "--pattern", "{symbol}.csv", "--csv-tz", "Asia/Kolkata", "--apply", *options)
    assert same(module.fetch(name), frame)


def test_other_kinds_of_files(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    import joblib
    from sklearn.linear_model import LinearRegression

    module = service.write(HISTORY)
    frame = _frames()["DATED"]
    model = LinearRegression().fit(np.arange(6.0).reshape(3, 2), [1.0, 2.0, 3.0])
    frame.to_parquet(service.cache / "PARQUET.parquet")
    frame.reset_index().to_feather(service.cache / "FEATHER.feather")
    frame.to_pickle(service.cache / "PICKLED.pkl.gz")
    np.save(service.cache / "ARRAY.npy", np.arange(5))
    np.savez(service.cache / "ARRAYS.npz", a=np.arange(3), b=np.eye(2))
    joblib.dump(model, service.cache / "MODEL.joblib")
    service.file("CHART.png", b"\x89PNG\r\n and so on")
    answer = command(
        capsys,
        "cache",
        service.f(),
        "--pattern",
        "{symbol:PARQUET|FEATHER|PICKLED|ARRAY|ARRAYS|MODEL|CHART}.{ending}",
        "--apply",
        "--trust",
    )
    assert answer["counts"] == {"migrated": 7}
    assert same(module.fetch("PARQUET"), frame)
    assert same(module.fetch("PICKLED"), frame)
    assert same(module.fetch("FEATHER"), frame.reset_index())
    assert same(module.fetch("ARRAY"), np.arange(5))
    assert same(module.fetch("ARRAYS")["b"], np.eye(2))
    assert np.array_equal(module.fetch("MODEL").coef_, model.coef_)
    assert module.fetch("CHART") == b"\x89PNG\r\n and so on"
    assert module.runs == []


# ------------------------------------------------------------------------------------------------------- live dicts


def test_a_live_dict_and_an_lru_become_entries(cache: Cache, namespace: str) -> None:
    runs: list[str] = []

    @redis_cached(namespace=namespace, ttl="1h", cache=cache, name="history")
    def history(symbol: str, interval: str = "day") -> Any:
        runs.append(symbol)

    frame = pd.DataFrame({"close": [1.5, 2.5]})
    data_cache: OrderedDict[Any, Any] = OrderedDict(
        {
            "NSE:INFY:day": (frame, {"timestamp": time.time() - 600}),
            "NSE:TCS:day": (frame * 2, {"timestamp": time.time() - 7200}),
            "broken": (frame, {"timestamp": time.time()}),
            ("other",): (frame, {"timestamp": time.time()}),
        }
    )

    def key(held: Any) -> Any:
        if isinstance(held, tuple):
            return None
        _, symbol, interval = held.split(":")
        return {"symbol": symbol, "interval": interval}

    def move(**options: Any) -> Any:
        return migrate_mapping(
            data_cache,
            into=history,
            key=key,
            value=lambda held: held[0],
            created=lambda held: held[1]["timestamp"],
            **options,
        )

    assert sorted(each.state for each in move(dry_run=True).outcomes) == ["failed", "ready", "skipped", "stale"]
    assert history.peek("INFY") is MISSING
    report = move()
    assert sorted(each.state for each in report.outcomes) == ["failed", "migrated", "skipped", "stale"]
    assert [each.why for each in report.failed] == ["key=, value= or created= raised ValueError"]
    assert same(history("INFY"), frame)
    assert history("TCS") is None
    assert runs == ["TCS"]
    with redis.Redis.from_url(cache.engine.settings.url) as client:
        assert 2900 < client.ttl(history.cache_key("INFY")) <= 3000
    assert sorted(each.state for each in move().outcomes) == ["failed", "present", "skipped", "stale"]
    with as_of("2026-01-01 00:00 UTC"), pytest.raises(ConfigurationError, match="outside"):
        move()
    with pytest.raises(ConfigurationError, match="not decorated"):
        migrate_mapping({}, into=len, key=str)


def test_a_live_dict_can_go_back(cache: Cache, namespace: str, tmp_path: Path, valkey_server) -> None:
    """Redis is byte for byte as before; with the manifest, which then goes."""

    @redis_cached(namespace=namespace, ttl="1h", cache=cache, name="quote")
    def quote(symbol: str) -> Any: ...

    stored = everything(valkey_server.url, namespace)
    manifest = tmp_path / "dicts.jsonl"
    for _ in range(2):
        report = migrate_mapping({"INFY": 1, "TCS": [2]}, into=quote, key=lambda symbol: symbol, manifest=manifest)
        assert report.failed == []
        assert report.count("migrated") == 2
    assert quote.peek("TCS") == [2]
    assert rollback(manifest, into=quote).count("deleted") == 2
    assert everything(valkey_server.url, namespace) == stored
    assert not manifest.exists()
    with pytest.raises(ConfigurationError, match="rolled back already"):
        rollback(manifest, into=quote)


@pytest.mark.parametrize("site", ["valkey_server", "cluster_site"])
def test_a_function_in_shards_moves_in_and_can_go_back(
    site: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespace: str, capsys
) -> None:
    """On one server and over a cluster's masters: each entry is hit; the rollback restores what stood there, and leaves no key."""
    server = request.getfixturevalue(site)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    service = Service(tmp_path, server.url, namespace)
    module = service.write("""
        @cached(shards=8, name="fetch")
        def fetch(number: int, unit: str = "INR"):
            runs.append(number)
    """)
    fetch = module.fetch
    fetch.store("older", 3)
    for number in range(24):
        service.file(f"{number}.json", {"number": number}, age=-60.0)

    def stored() -> set[bytes]:
        with server.client() as client:
            return {*client.scan_iter(f"memo:{{{namespace}:*", count=1000)}

    before = stored()
    answer = command(capsys, "cache", service.f(), "--pattern", "{number}.json", "--apply")
    assert answer["counts"] == {"migrated": 24}
    assert [fetch(number) for number in range(24)] == [{"number": number} for number in range(24)]
    assert module.runs == []
    assert fetch.cache_info().currsize == 24
    assert fetch.invalidate(number=5) == 1, "P3: it is found by its arguments"
    other = connect(server.url, secret=SECRET)
    assert len(other.engine.run(_only(ops.Enrolled(f"memo:{{{namespace}}}:functions")))) == 8, (
        "P3: by its namespace, too"
    )
    assert command(capsys, "rollback", "cache", service.f())["counts"] == {"restored": 1, "deleted": 22, "left": 1}
    assert fetch.peek(3) == "older"
    assert [number for number in range(24) if fetch.peek(number) is not MISSING] == [3]
    assert stored() == before
    assert other.engine.run(_only(ops.Enrolled(f"memo:{{{namespace}}}:functions"))) == [
        fetch.cache_key(3).rpartition(":")[0] + ":"
    ]
    assert other.clear(namespace) == 1
    other.close()
    module.cache.close()
    sys.modules.pop(service.name)


def _only(op: ops.Op) -> ops.Flow:
    return (yield op)


def _help(capsys: pytest.CaptureFixture[str], action: str) -> str:
    with pytest.raises(SystemExit):
        _cli.main(["migrate", action, "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_a_rollback_needs_the_manifest_alone(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.write(HISTORY)
    service.file("INFY.json", [1])
    command(capsys, "cache", service.f(), "--pattern", "{symbol}.json", "--apply", "--manifest", "m.jsonl")
    for words in ([], ["cache"]):
        said = command(capsys, "rollback", *words, code=2)
        assert ("name the function" in said, "or the manifest with --manifest" in said) == (True, True)
    assert "SOURCE FUNCTION | SOURCE --map FILE | --manifest FILE" in _help(capsys, "rollback")
    assert command(capsys, "rollback", "--manifest", "m.jsonl")["counts"] == {"deleted": 1}
    assert everything(service.url, service.namespace) == {}


def test_entries_of_a_ttl_cache_keep_their_age(cache: Cache, namespace: str) -> None:
    class Link:
        def __init__(self, expires: float) -> None:
            self.expires = expires

    class TTLCache(dict):
        """As cachetools', as far as it tells the age of an entry."""

        ttl = 3600

        def __init__(self, **ends: float) -> None:
            self.__links = {name: Link(end) for name, end in ends.items()}

        def timer(self) -> float:
            return 1600.0

    old = TTLCache(INFY=1000.0 + 3600, TCS=1600.0 + 3600)
    old.update(INFY=1, TCS=None)

    @redis_cached(namespace=namespace, ttl="2h", cache=cache, name="quote")
    def quote(symbol: str) -> Any: ...

    assert migrate_mapping(old, into=quote, key=lambda symbol: symbol).count("migrated") == 2
    assert quote.peek("INFY") == 1
    assert quote.peek("TCS") is None
    with redis.Redis.from_url(cache.engine.settings.url) as client:
        assert 2900 < client.ttl(quote.cache_key("INFY")) <= 3000
        assert 3500 < client.ttl(quote.cache_key("TCS")) <= 3600


# ----------------------------------------------------------------------------------------------- kill -9, and leases


def test_nothing_is_lost_or_done_twice_by_kill_9(tmp_path: Path, valkey_server) -> None:
    """At random points of migration, clean-up and rollback; the long form is ``python -m tests.migrations``."""
    seed = int(time.time())
    wrong, kills = story(tmp_path, valkey_server.url, kills=1, files=64, seed=seed)
    assert wrong == [], f"seed {seed}"
    assert kills > 0


def test_a_lease_that_a_killed_process_left_is_waited_for(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """And whoever computes the call right now is left alone: what it stores is newer."""
    module = service.write(HISTORY)
    path = service.file("INFY.json", [1])
    key = module.fetch.cache_key("INFY")
    with redis.Redis.from_url(service.url) as client:
        client.set(f"{key}:lease", "a" * 32, px=700)
        args = ("cache", service.f(), "--pattern", "{symbol}.json", "--apply")
        assert states(command(capsys, *args)) == {"INFY.json": "migrated"}
        client.set(f"{key}:lease", "a" * 32, px=700)
        assert command(capsys, "rollback", "cache", service.f())["counts"] == {"deleted": 1}
        assert client.keys(f"*{service.namespace}*") == []
    assert path.read_text() == "[1]"


# ---------------------------------------------------------------------------------------------- against the function


def test_a_check_runs_the_function_and_says_in_what_it_differs(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is read otherwise than the function would return it is no result of it (P2)."""
    module = service.write("""
    import pandas as pd
    @cached()
    def fetch(symbol: str) -> Any:
        runs.append(symbol)
        dates = pd.DatetimeIndex(["2026-01-01", "2026-01-02"], tz="Asia/Kolkata", name="date")
        return pd.DataFrame({"close": [1.5, 2.5]}, index=dates)
    @cached()
    async def later(symbol: str) -> Any:
        runs.append(symbol)
        return {"x": 1}
    """)
    frame = module.fetch.__wrapped__("INFY")
    service.file("INFY.csv", frame.to_csv().encode())
    args = ("cache", service.f(), "--pattern", "{symbol}.csv", "--csv-index", "date", "--check", 5)
    answer = command(capsys, *args, code=1)
    assert "the function's index is a DatetimeIndex 'date'" in answer["items"][0]["why"]
    assert states(command(capsys, *args, "--csv-tz", "Asia/Kolkata", "--apply")) == {"INFY.csv": "migrated"}
    answer = command(
        capsys, "cache", service.f(), "--pattern", "{symbol}.csv", "--csv-index", "none", "--check", 1, code=1
    )
    assert "the function's columns are close float64; these date" in answer["items"][0]["why"]
    service.file("TCS.json", {"x": 1})
    later = ("cache", service.f("later"), "--files", "*.json", "--pattern", "{symbol}.json", "--check", 1)
    answer = command(capsys, *later)
    assert (states(answer), answer["compared"], answer["equal"]) == ({"TCS.json": "ready"}, 1, 1)
    service.file("TCS.json", {"x": 1.0})
    assert "both are of type dict" in command(capsys, *later, code=1)["items"][0]["why"]


def test_a_check_says_how_much_it_compared(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Silence would mean that all is equal, or that nothing was looked at."""
    service.write("@cached()\ndef fetch(symbol: str) -> list: return [len(symbol)]\n")
    args = ["migrate", "cache", service.f(), "--pattern", "{symbol}.json", "--check"]

    def said(number: int, code: int = 0) -> str:
        capsys.readouterr()
        assert _cli.main([*args, str(number)]) == code
        (line,) = re.findall(rf"^compared with what {service.f()} returns: (.*)$", capsys.readouterr().out, re.M)
        return line

    service.file("INFY.json", [4])
    service.file("TCS.json", [3])
    assert (said(1), said(2), said(9)) == ("1 item, all equal", "2 items, all equal", "2 items, all equal")
    service.file("WIPRO.json", [6])
    assert said(3, code=1) == "3 items, 2 equal"
    capsys.readouterr()
    assert _cli.main(args[:-1]) == 0
    assert "compared" not in capsys.readouterr().out, "where nothing was to be"


def test_what_people_read(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json: a table, what was left and why, and what to do next."""
    service.write(HISTORY + "\nprint('a module that prints')\n")
    service.file("INFY_day.json", [1])
    service.file("notes.txt", b"x")
    capsys.readouterr()
    args = ["migrate", "cache", service.f(), "--pattern", "{symbol}_{interval}.json"]
    assert _cli.main(args) == 1
    said = capsys.readouterr().out
    assert "INFY_day.json  ready" in said
    assert "notes.txt: is not a kind of file" in said
    assert "nothing was changed; --apply does it" in said
    assert "module that prints" not in said
    assert _cli.main([*args, "--apply"]) == 1
    assert "1 failed, 1 migrated" in capsys.readouterr().out
    assert _cli.main([*args, "--cleanup"]) == 0
    assert "cache.migrated: 1 moved" in capsys.readouterr().out
    assert _cli.main(["migrate", "rollback", "cache", service.f()]) == 0
    assert "rolled back: 1 restored, 1 deleted" in capsys.readouterr().out
    assert _cli.main([*args, "--infer"]) == 0
    assert 'symbol = "{symbol}"' in capsys.readouterr().out


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_goes_on(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service.write(HISTORY)
    service.file("open/INFY.json", [1])
    service.file("closed/TCS.json", [2])
    scandir = os.scandir

    def refuse(path: Any) -> Any:  # as the kernel does for others than root
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    answer = command(capsys, "cache", service.f(), "--pattern", "{symbol}.json", "--apply", code=1)
    assert {Path(name).name: state for name, state in states(answer).items()} == {
        "closed": "failed",
        "INFY.json": "migrated",
    }
    assert "Permission denied" in answer["items"][0]["why"]


def test_types_that_no_annotation_says_are_said_by_the_mapping(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    module = service.write("""
    @cached()
    def fetch(symbol, day, days):
        runs.append(symbol)
    """)
    service.file("INFY_20260102_5.json", [1])
    answer = command(capsys, "cache", service.f(), "--pattern", "{symbol}_{day:date}_{days:int}.json", code=1)
    assert "'day' may be a text or a date" in answer["items"][0]["why"]
    guessed = command(
        capsys, "cache", service.f(), "--infer", "--pattern", "{symbol}_{day:date}_{days:int}.json", code=1
    )
    assert {each["how"]: each["level"] for each in guessed["guesses"]} == {
        "{symbol}": "sure", "{day:date}": "guess", "{days:int}": "guess", "the file's last change": "likely",
    }  # fmt: skip
    assert guessed["with_a_call"] == 1
    mapping = service.folder / "map.toml"
    head = 'pattern = "{symbol}_{day:date}_{days:int}.json"\n[arguments]\n'
    mapping.write_text(head + 'day = "{day:date}"\ndays = "{days:int}"\n')
    command(capsys, "cache", service.f(), "--map", mapping, "--apply")
    assert module.fetch("INFY", date(2026, 1, 2), 5) == [1]
    mapping.write_text(head + 'day = "{day:dat}"\n')
    assert "{day:dat} is unknown" in command(capsys, "cache", service.f(), "--map", mapping, code=3)


# ------------------------------------------------------------------------------------------------ when all goes wrong


class Price:
    """A value of the user's own, with a codec that loses something."""

    def __init__(self, paise: int) -> None:
        self.paise = paise


def test_what_does_not_come_back_equal_does_not_count_and_is_not_served(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each entry is read back and compared (P2); the file stays, and the entry goes."""
    if "tests.Price" not in _codecs.registered_types():
        register_type(
            Price, name="tests.Price", encode=lambda price: price.paise, decode=lambda paise: Price(paise // 100)
        )
    module = service.write(
        HISTORY + "\ndef load(path):\n    from tests.test_migrate import Price\n    return Price(12345)\n"
    )
    path = service.file("INFY.json", [1])
    answer = command(
        capsys, "cache", service.f(), "--pattern", "{symbol}.json", "--reader", service.f("load"), "--apply", code=1
    )
    assert answer["items"][0]["why"] == "what was read back from Redis is not equal to it"
    assert module.fetch.peek("INFY") is MISSING
    assert command(capsys, "cache", service.f(), "--cleanup")["counts"] == {}
    assert path.exists()


def test_an_invalidation_in_between_is_heeded(cache: Cache, namespace: str) -> None:
    """P3: what is invalidated while it is brought along is not stored; nor is what a rollback brings back."""

    @redis_cached(namespace=namespace, ttl="1h", cache=cache, name="fetch")
    def fetch(symbol: str) -> Any: ...

    target = Target(fetch, "fetch")
    call = target.bare(("INFY",), {})
    sealed = call.seal(call.locate(), ops.Computed([1], 0.0), time.time())
    assert sealed is not None
    flow = entries.adopt(call.locate(), 10.0, sealed, time.time() + 60, None)
    met = []

    def invalidated(op: Any) -> Any:
        met.append(type(op))
        if isinstance(op, ops.Fill):
            fetch.invalidate(symbol="INFY")
        if isinstance(op, (ops.TakeToken, ops.Land, ops.Clock)):
            return {ops.TakeToken: b"a" * 32, ops.Land: None, ops.Clock: time.time()}[type(op)]
        return cache.engine.backend.perform(op)

    assert drive(flow, invalidated) is False
    assert ops.Fill in met
    assert fetch.peek("INFY") is MISSING


def test_an_archive_on_another_file_system(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Moved by a copy that is on the disk before the file goes; a copy without its move is none."""
    other = Path(tempfile.mkdtemp(prefix="rm", dir="/dev/shm")) if Path("/dev/shm").is_dir() else service.folder
    if other.stat().st_dev == service.folder.stat().st_dev:
        pytest.skip("THERE IS NO OTHER FILE SYSTEM: moving over one was not run")
    service.write(HISTORY)
    path = service.file("x/INFY.json", [1], age=DAY)
    twin = service.file("x/TCS.json", [2], age=DAY)
    before = tree(service.cache)
    command(capsys, "cache", service.f(), "--pattern", "{symbol}.json", "--apply")
    archive = other / "archive"
    (archive / "x").mkdir(parents=True)
    shutil.copy2(twin, archive / "x" / "TCS.json")  # killed after the copy, before the file went
    assert command(capsys, "cache", service.f(), "--cleanup", "--archive", archive)["counts"] == {"moved": 2}
    assert sorted(tree(archive)) == ["x/INFY.json", "x/TCS.json"]
    assert not path.exists()
    shutil.copy2(archive / "x" / "TCS.json", twin)  # killed after the copy back
    command(capsys, "rollback", "cache", service.f())
    assert tree(service.cache) == before
    assert not archive.exists()
    other.rmdir()


def test_two_migrations_do_not_share_a_manifest(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.write(HISTORY)
    service.file("INFY.json", [1])
    with Journal(service.folder / "cache.fetch.migration.jsonl", create=True):
        said = command(capsys, "cache", service.f(), "--pattern", "{symbol}.json", "--apply", code=3)
    assert "in use by another migration" in said
