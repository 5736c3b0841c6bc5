"""`redis-memo migrate --infer`: what it proposes for CSV files is what the function returns (P2), without an edit."""

from __future__ import annotations

import json
import pickle
import sys
from datetime import date

import pandas as pd
import pytest

from redis_memo._migrate_fields import format_of
from redis_memo._migrate_plan import same
from redis_memo.migrate import migrate_mapping

from .test_migrate import Service, command, service  # noqa: F401 - a fixture

CLIENT = """
import pandas as pd
from dateutil.tz import tzoffset
class Client:
    def candles(self, symbol, day):
        runs.append(symbol)
        if symbol == "NONE":
            return []
        begin = datetime(day.year, day.month, day.day, 9, 15, tzinfo=tzoffset(None, 19800))
        return [{"date": begin + pd.Timedelta(i, "min").to_pytimedelta(), "close": i / 3, "code": "007"} for i in range(3)]
    @cached(ignore=("self",))
    def indexed(self, symbol: str, from_date: date | None = None) -> pd.DataFrame:
        frame = pd.DataFrame(self.candles(symbol, from_date))
        if not frame.empty:
            frame = frame.set_index("date")
        return frame
    @cached(ignore=("self",))
    def flat(self, symbol: str, from_date: date | None = None) -> pd.DataFrame:
        return pd.DataFrame(self.candles(symbol, from_date))
client = Client()
"""
SYMBOLS = ("M&M", "BAJAJ-AUTO", "NIFTY 50", "NONE")


def old_cache(service: Service, name: str, form: str = "%Y-%m-%d") -> None:  # noqa: F811
    """A folder as a service left it: frames under MD5, a metadata file beside them."""
    fetch, metadata = getattr(service.module.client, name), {}
    for number, symbol in enumerate(SYMBOLS):
        frame = fetch.__wrapped__(symbol, date(2026, 1, 20 + number))
        service.file(f"{number:032x}.csv", frame.to_csv(index=name == "indexed").encode())
        metadata[f"{number:032x}"] = {
            "symbol": symbol, "from_date": date(2026, 1, 20 + number).strftime(form), "rows": len(frame),
        }  # fmt: skip
    service.file("cache_metadata.json", metadata)
    service.module.runs.clear()


def hits(service: Service, name: str) -> None:  # noqa: F811
    fetch = getattr(service.module.client, name)
    got = [fetch(symbol, date(2026, 1, 20 + number)) for number, symbol in enumerate(SYMBOLS)]
    assert service.module.runs == []
    for number, (symbol, frame) in enumerate(zip(SYMBOLS, got, strict=True)):
        assert same(frame, fetch.__wrapped__(symbol, date(2026, 1, 20 + number))), symbol


@pytest.mark.parametrize("name", ["indexed", "flat"])
def test_a_checked_proposal_needs_no_edit(service: Service, capsys: pytest.CaptureFixture[str], name: str) -> None:  # noqa: F811
    """P2: index or column, the zone's library, texts of digits, and frames without rows, as the function returns them."""
    service.write(CLIENT)
    old_cache(service, name)
    answer = command(capsys, "cache", service.f(f"client.{name}"), "--infer", "--check", 2, "-o", "map.toml")
    assert {g["what"]: g["level"] for g in answer["guesses"]}["csv"] == "sure"
    assert command(capsys, "cache", "--map", "map.toml", "--apply")["counts"] == {"migrated": 4}
    service.module.runs.clear()
    hits(service, name)


def test_the_source_says_what_the_index_and_the_zone_are(service: Service, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """Without a request: what the function itself does with its frame is likely, what its module does a guess."""
    service.write("""
    import pandas as pd
    @cached()
    def indexed(symbol: str) -> pd.DataFrame:
        frame = pd.DataFrame({"date": [], "close": []}).set_index("date")
        return frame.tz_convert('Asia/Kolkata')
    @cached()
    def flat(symbol: str) -> pd.DataFrame:
        return pd.DataFrame({"date": []})
    """)
    service.file("INFY.csv", b"date,close\n2026-01-01 00:00:00+05:30,1.5\n")
    found = {}
    for name, code in (("indexed", 0), ("flat", 1)):
        answer = command(capsys, "cache", service.f(name), "--infer", "--pattern", "{symbol}.csv", code=code)
        found[name] = {g["what"]: (g["how"], g["level"]) for g in answer["guesses"] if g["what"].startswith("csv")}
    assert found == {
        "indexed": {"csv.index": ("date", "likely"), "csv.tz": ("Asia/Kolkata", "likely")},
        "flat": {"csv.index": ("date", "guess"), "csv.tz": ("Asia/Kolkata", "likely")},
    }


def test_a_module_that_sets_no_index_returns_a_column(
    service: Service,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "kiteconnect", raising=False)  # whose zone would be the likely one
    service.write("import pandas as pd\n@cached()\ndef fetch(symbol: str) -> Any:\n    return pd.DataFrame([])\n")
    service.file("INFY.csv", b"date,close\n2026-01-01 00:00:00+05:30,1.5\n")
    answer = command(capsys, "cache", service.f(), "--infer", "--pattern", "{symbol}.csv", code=1)
    assert "index = false" in answer["mapping"]
    assert {g["what"]: g["level"] for g in answer["guesses"]}["csv.tz"] == "guess"


def test_a_method_without_its_object_says_what_to_name(service: Service, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    service.write(CLIENT)
    old_cache(service, "indexed")
    name = service.f("Client.indexed")
    answer = command(capsys, "cache", name, "--infer", "--check", 1, code=1)
    assert any("module:object.method has the same keys" in g["why"] for g in answer["guesses"])
    answer = command(capsys, "cache", name, "--csv-index", "date", "--check", 1, code=1)
    assert any("module:object.method has the same keys" in each["why"] for each in answer["items"])


@pytest.mark.parametrize("form", ["%d-%m-%Y", "%d/%m/%Y", "%d-%b-%Y", "%Y%m%d", "%Y-%m-%d 00:00:00"])
def test_dates_as_people_write_them(service: Service, capsys: pytest.CaptureFixture[str], form: str) -> None:  # noqa: F811
    """P2: the day is before the month where a day says so; the calls pass dates, and hit."""
    service.write(CLIENT)
    old_cache(service, "indexed", form)
    command(capsys, "cache", service.f("client.indexed"), "--infer", "--check", 1, "-o", "map.toml")
    assert command(capsys, "cache", "--map", "map.toml", "--apply")["counts"] == {"migrated": 4}
    service.module.runs.clear()
    hits(service, "indexed")


def test_a_format_is_proposed_only_where_a_day_tells_it_from_a_month() -> None:
    assert format_of(["01-02-2026"]) is None
    assert format_of(["01-02-2026"], ["28-02-2026", 5]) == "%d-%m-%Y"
    assert format_of(["01-28-2026"], ["28-02-2026"]) is None
    assert format_of(["01-Feb-2026", "02-Feb-2026"]) == "%d-%b-%Y"
    assert format_of(["28-02-2026 09:15"]) == "%d-%m-%Y %H:%M"
    assert format_of(["2026-02-28"]) is None
    assert format_of([]) is None


def test_a_format_in_a_mapping(service: Service, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    module = service.write("@cached()\ndef fetch(day, at: datetime) -> Any:\n    runs.append(day)\n")
    service.file("a.json", [1])
    service.file("cache_metadata.json", {"a": {"day": "03/02/2026", "at": "03/02/2026 09:15"}})
    mapping = service.folder / "map.toml"
    mapping.write_text('[arguments]\nday = "{day:%d/%m/%Y}"\nat = "{at:%d/%m/%Y %H:%M}"\n')
    command(capsys, "cache", service.f(), "--map", mapping, "--apply")
    assert module.fetch(date(2026, 2, 3), pd.Timestamp("2026-02-03 09:15").to_pydatetime()) == [1]
    mapping.write_text('[arguments]\nday = "{day:%d-%m-%Y}"\nat = "{at:%d/%m/%Y %H:%M}"\n')
    answer = command(capsys, "cache", service.f(), "--map", mapping, code=1)
    assert "is not a date as in %d-%m-%Y" in json.dumps(answer["items"])


def test_frames_that_were_empty_and_texts_of_digits(service: Service, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """P2: a day without candles is a result too; a file of no bytes is still a damaged one."""
    module = service.write("@cached()\ndef fetch(symbol: str) -> Any:\n    runs.append(symbol)\n")
    frames = {
        "E": pd.DataFrame(),
        "C": pd.DataFrame(columns=["a", "b"]),
        "Z": pd.DataFrame({"code": ["007"], "x": [1.0]}),
    }
    for name, frame in frames.items():
        service.file(f"{name}.csv", frame.to_csv().encode())
    service.file("B.csv", pd.DataFrame().to_csv(index=False).encode())
    service.file("cut.csv", b"")
    mapping = service.folder / "map.toml"
    mapping.write_text('pattern = "{symbol}.csv"\nfiles = "[ECBc]*.csv"\n')
    answer = command(capsys, "cache", service.f(), "--map", mapping, "--apply", code=1)
    assert [each["item"] for each in answer["items"] if each["state"] == "failed"] == ["cut.csv"]
    mapping.write_text('pattern = "{symbol}.csv"\nfiles = "Z.csv"\n[csv]\ndtypes = { code = "str" }\n')
    command(capsys, "cache", service.f(), "--map", mapping, "--apply")
    for name, frame in {**frames, "B": pd.DataFrame()}.items():
        assert same(module.fetch(name), frame), name
    assert module.runs == []


# ------------------------------------------------------------------------------------------------- what is returned


@pytest.mark.parametrize(
    ("annotation", "document", "state"),
    [
        ("pd.DataFrame", [{"a": 1}], "migrated"),
        ("Optional[pd.DataFrame]", [{"a": 1}], "migrated"),
        ("pd.DataFrame", {"at": 5, "data": [{"a": 1}]}, "failed"),
        ("list[dict[str, Any]]", [{"a": 1}], "migrated"),
        ("list[dict[str, Any]]", {"at": 5, "data": []}, "failed"),
        ("tuple[int, ...]", [1, 2], "failed"),
        ("float", 5, "migrated"),
        ("float", "5", "failed"),
        ("float | None", None, "migrated"),
        ("Literal[5]", 5, "migrated"),
        ("Row", {"a": 1}, "migrated"),
        ("T", {"a": 1}, "migrated"),
        ("Any", {"a": 1}, "migrated"),
    ],
)
def test_a_document_is_not_taken_for_what_the_function_returns(
    service: Service,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    annotation: str,
    document: object,
    state: str,
) -> None:
    """P2: all of a document of which the function returned a part, or a list for a frame, is no result of it."""
    module = service.write(f"""
    import pandas as pd
    from typing import TypedDict, TypeVar
    T = TypeVar("T")
    class Row(TypedDict):
        a: int
    @cached()
    def fetch(symbol: str) -> {annotation}:
        runs.append(symbol)
    """)
    service.file("INFY.json", document)
    args = ("cache", service.f(), "--pattern", "{symbol}.json")
    answer = command(capsys, *args, "--apply", code=0 if state == "migrated" else 1)
    assert answer["counts"] == {state: 1}
    if state == "failed":
        assert "the function says that it returns a" in answer["items"][0]["why"]
    else:
        assert same(module.fetch("INFY"), pd.DataFrame(document) if "Frame" in annotation else document)
        assert module.runs == []


def test_what_a_dict_held_beside_the_value_is_not_stored(service: Service) -> None:  # noqa: F811
    module = service.write("@cached()\ndef fetch(symbol: str) -> dict:\n    runs.append(symbol)\n")
    held = {"INFY": ({"a": 1}, {"from": 5})}
    assert [each.why[:13] for each in migrate_mapping(held, into=module.fetch, key=lambda key: key).failed] == [
        "holds a tuple"
    ]
    assert migrate_mapping(held, into=module.fetch, key=lambda key: key, value=lambda held: held[0]).failed == []
    assert module.fetch("INFY") == {"a": 1}


def test_models_with_several_endings_are_one_pattern(service: Service, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    module = service.write("@cached()\ndef fetch(symbol: str, model_type: str) -> dict:\n    runs.append(symbol)\n")
    for name in ("M&M_rf.pkl", "BAJAJ-AUTO_lr.joblib", "NIFTY 50_rf.pkl"):
        service.file(name, pickle.dumps({"name": name}))
    command(capsys, "cache", service.f(), "--infer", "-o", "map.toml")
    assert command(capsys, "cache", "--map", "map.toml", "--trust", "--apply")["counts"] == {"migrated": 3}
    assert module.fetch("BAJAJ-AUTO", "lr") == {"name": "BAJAJ-AUTO_lr.joblib"}
    assert module.fetch("NIFTY 50", "rf") == {"name": "NIFTY 50_rf.pkl"}
    assert module.runs == []


def test_a_second_rollback_says_that_it_is_done(service: Service, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    service.write("@cached()\ndef fetch(symbol: str) -> list:\n    runs.append(symbol)\n")
    service.file("INFY.json", [1])
    command(capsys, "cache", service.f(), "--pattern", "{symbol}.json", "--apply")
    command(capsys, "rollback", "cache", service.f())
    assert "or it was rolled back already" in command(capsys, "rollback", "cache", service.f(), code=3)


def test_metadata_is_known_by_what_it_says(service: Service, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """However it is called; and a document that describes nothing is a result like others."""
    module = service.write("@cached()\ndef fetch(symbol: str) -> Any:\n    runs.append(symbol)\n")
    service.file("ab.csv", b",close\n0,1.5\n")
    service.file("cd.json", {"x": {"symbol": "none"}})
    service.file("what_is_where.json", {"ab": {"symbol": "INFY"}, "cd": {"symbol": "TCS"}})
    answer = command(capsys, "cache", service.f(), "--infer", "-o", "map.toml")
    assert (answer["items"], answer["with_a_call"]) == (2, 2)
    command(capsys, "cache", "--map", "map.toml", "--apply")
    assert module.fetch("TCS") == {"x": {"symbol": "none"}}
    assert module.fetch("INFY")["close"].tolist() == [1.5]
    assert module.runs == []
