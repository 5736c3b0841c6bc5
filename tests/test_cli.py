"""``redis-memo`` on stored entries: info, ls, get, invalidate, clear, server.

P1: a call named in words has the key that the call in code has. P3: what the command line invalidates is gone for the
calls that come later. P5, P7: nothing is destroyed that was not meant, and nobody else's keys are touched.
"""

from __future__ import annotations

import asyncio
import enum
import io
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

import redis_memo
from redis_memo import _cli, _doctor, _words, connect
from redis_memo._listing import asking, entry_rows, namespaces
from redis_memo.errors import ConfigurationError

from .conftest import SECRET, Server, leaked, start_server, valkey

SERVICE = """
from __future__ import annotations
import datetime
import enum
import pandas as pd
from typing import Literal
from redis_memo import redis_cached

NS = {namespace!r}
runs = []

class Kind(enum.Enum):
    DAY = "day"
    MINUTE = "minute"

@redis_cached(namespace=NS, ttl=600)
def history(symbol: str, exchange="NSE", interval: Literal["day", "minute"] = "day", period=365) -> pd.DataFrame:
    runs.append(symbol)
    return pd.DataFrame({{"close": [1.5, 2.5]}}, index=pd.Index([symbol, exchange], name="what"))

@redis_cached(namespace=NS, ttl=600)
async def quote(symbol: str, depth: int | None = None, on: datetime.date | None = None):
    runs.append(symbol)
    return {{"symbol": symbol, "depth": depth, "on": str(on)}}

@redis_cached(namespace=NS, ttl=600)
def anything(x, *rest, kind: Kind = Kind.DAY, **more):
    return [x, rest, more]

class Client:
    @redis_cached(namespace=NS, ttl=600, ignore=("self",))
    def fetch(self, symbol: str):
        return symbol * 2

    @redis_cached(namespace=NS, ttl=600)
    def mine(self, symbol: str):
        return symbol * 3

    def __memo_key__(self):
        return "client"

    @redis_cached(namespace=NS, ttl=600)
    @classmethod
    def of_class(cls, symbol: str):
        return cls.__name__ + symbol

client = Client()

def plain(x):
    return x
"""


@pytest.fixture
def service(valkey_server: Server, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A service's module in the current folder, and its server in the environment."""
    name = f"service_{namespace.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SERVICE.format(namespace=namespace))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("REDIS_MEMO_URL", valkey_server.url)
    monkeypatch.setenv("REDIS_MEMO_SECRET", SECRET)
    module = __import__(name)
    yield module
    sys.modules.pop(name, None)
    with valkey_server.client() as client:
        for key in client.scan_iter(f"memo:{{{namespace}*", count=1000):
            client.delete(key)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = _cli.main(list(arguments))
    out, err = capsys.readouterr()
    return int(code), out, err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of a command line that is wrong; nothing else is."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        _cli.main(list(arguments))
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    return err


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code, out, _ = command(capsys, *arguments, "--json")
    return code, json.loads(out)


# ------------------------------------------------------------------------------------------------------------ words


Side = enum.Enum("Side", {"BUY": "b", "SELL": "s"})


def converted(function: Any, *words: str) -> tuple[list[Any], dict[str, Any]]:
    return _words.arguments("f", _words.signature_of(function, bound=False), words)


def test_a_word_is_what_its_parameter_takes() -> None:
    """P1: 1, 1.0, True and "1" are different calls, so the rule has to be exact."""

    def f(
        a: int, b: float, c: bool, d: str, e: date, g: datetime, h: Decimal, i: typing.Literal["x", 5], j: Side,
        k: typing.Optional[int], m: typing.Union[str, int], n: typing.Annotated[int, "many"], o: "no.such.name",  # noqa: F821
        p=365, q=True, r=None, s="365", *rest: int, **more: float,
    ): ...  # fmt: skip

    words = [
        "5",
        "5",
        "yes",
        "5",
        "2026-11-08",
        "2026-11-08T09:15:00+05:30",
        "1.10",
        "5",
        "SELL",
        "None",
        "5",
        "7",
        "[1]",
    ]
    args, kwargs = converted(f, *words, "30", "no", "2.5", "30", "1", "2", "extra=3")
    expected = [
        5, 5.0, True, "5", date(2026, 11, 8), datetime.fromisoformat("2026-11-08T09:15:00+05:30"), Decimal("1.10"), 5,
        Side.SELL, None, 5, 7, [1], 30, False, 2.5, "30", 1, 2,
    ]  # fmt: skip
    assert args == expected
    assert [type(each) for each in args] == [type(each) for each in expected]
    assert kwargs == {"extra": 3.0}
    assert converted(f, "d:=7", "k=7", "j=s", "m=text") == ([], {"d": 7, "k": 7, "j": Side.SELL, "m": "text"})
    assert converted(lambda x: x, "x=a=b") == ([], {"x": "a=b"})
    assert converted(lambda x: x, "2026-11-08") == (["2026-11-08"], {})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["1", "2", "3"], "more are given"),
        (["symbl=1"], "did you mean symbol"),
        (["symbol=1", "symbol=2"], "given twice"),
        (["days=hunter2"], "days"),
        (["days:=hunter2"], "Python literal"),
    ],
)
def test_a_word_that_fits_nothing_is_said_by_parameter(words: list[str], said: str) -> None:
    def f(symbol: str, days: int = 5): ...

    with pytest.raises(ConfigurationError, match=said) as error:
        converted(f, *words)
    assert "hunter2" not in str(error.value)  # arguments are never in an error


# -------------------------------------------------------------------------------------------------------------- get


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.history("RELIANCE"), ["history", "RELIANCE"]),
        (lambda m: m.history("5", period=30), ["history", "5", "period=30"]),
        (lambda m: m.history("TCS", "BSE", "minute"), ["history", "TCS", "BSE", "interval=minute"]),
        (lambda m: asyncio.run(m.quote("INFY", 5)), ["quote", "INFY", "depth=5"]),
        (lambda m: asyncio.run(m.quote("INFY", on=date(2026, 11, 8))), ["quote", "symbol=INFY", "on=2026-11-08"]),
        (
            lambda m: m.anything(1.5, "a", (1, 2), kind=m.Kind.MINUTE, z=True),
            ["anything", "1.5", "a", "(1, 2)", "kind=MINUTE", "z=True"],
        ),
        (lambda m: m.anything("1.5"), ["anything", "x:='1.5'"]),
        (lambda m: m.Client().fetch("X"), ["Client.fetch", "X"]),
        (lambda m: m.client.mine("X"), ["client.mine", "X"]),
        (lambda m: m.Client.of_class("X"), ["Client.of_class", "X"]),
    ],
)
def test_a_call_in_words_is_the_call_in_code(service: ModuleType, capsys, call, words: list[str]) -> None:
    """P1, P2: the same entry; and what was stored."""
    name, *rest = words
    target = f"{service.__name__}:{name}"
    code, before = answer(capsys, "get", target, *rest)
    assert (code, before["state"]) == (1, "absent")
    expected = call(service)
    code, found = answer(capsys, "get", target, *rest)
    assert (code, found["state"]) == (0, "stored")
    if isinstance(expected, pd.DataFrame):
        assert found["type"] == "pandas.DataFrame"
        assert "close" in found["text"]
    elif "value" in found:
        assert found["value"] == json.loads(json.dumps(expected))
    else:
        assert repr(expected) in found["text"].replace("\n", "")
    code, out, _ = command(capsys, "get", target, *rest)
    assert code == 0
    code, by_key = answer(capsys, "get", found["key"])
    assert (code, by_key.get("value"), by_key.get("text")) == (0, found.get("value"), found.get("text"))


def test_what_is_stored_is_saved(service: ModuleType, capsys, tmp_path: Path) -> None:
    frame = service.history("RELIANCE")
    target = f"{service.__name__}:history"
    for suffix, read in (
        ("parquet", pd.read_parquet), ("csv", lambda p: pd.read_csv(p, index_col=0)), ("pkl", lambda p: pickle.loads(p.read_bytes())),
    ):  # fmt: skip
        path = tmp_path / f"saved.{suffix}"
        assert command(capsys, "get", target, "RELIANCE", "-o", str(path))[0] == 0
        assert read(path).equals(frame)
    code, _, err = command(capsys, "get", target, "RELIANCE", "-o", str(path))
    assert code == 3
    assert "--force replaces it" in err
    assert command(capsys, "get", target, "RELIANCE", "-o", str(path), "--force")[0] == 0
    asyncio.run(service.quote("INFY"))
    quotes = f"{service.__name__}:quote"
    assert command(capsys, "get", quotes, "INFY", "-o", "quote.json")[0] == 0
    assert json.loads((tmp_path / "quote.json").read_text())["symbol"] == "INFY"
    code, _, err = command(capsys, "get", quotes, "INFY", "-o", "quote.parquet")
    assert code == 3
    assert "not saved as .parquet" in err
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []  # no draft stays


def test_a_planted_entry_is_not_opened(service: ModuleType, capsys, valkey_server: Server) -> None:
    """P6: bytes from Redis are data."""
    key = service.history.cache_key("EVIL")
    with valkey_server.client() as client:
        client.set(key, pickle.dumps(print), ex=60)
    code, found = answer(capsys, "get", f"{service.__name__}:history", "EVIL")
    assert (code, found["state"]) == (1, "unreadable")
    code, _, err = command(capsys, "get", key)
    assert code == 3
    assert err.startswith("redis-memo get:")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{m}:histroy", "did you mean history"),
        ("{m}:Client.fetchh", "did you mean"),
        ("{m}:plain", "not decorated with redis_cached"),
        ("{m}x:history", "did you mean {m}"),
        ("nowhere.at.all:f", "there is no module 'nowhere'"),
        ("history", "package.module:function"),
    ],
)
def test_a_name_that_is_not_there_is_said_with_the_nearest(service: ModuleType, capsys, name: str, said: str) -> None:
    """For scripts that is another thing than what could not be done: the command line is wrong."""
    name, said = name.format(m=service.__name__), said.format(m=service.__name__)
    for verb, *rest in (["get"], ["info"], ["doctor"], ["invalidate", "x=1"]):
        assert said in refused(capsys, verb, name, *rest)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken_module:f", "ZeroDivisionError in broken_module.py, line 2"),
        ("needy_module:f", "it needs no_such_library"),
    ],
)
def test_a_module_that_fails_is_no_mistake_of_the_command_line(
    service: ModuleType, capsys, tmp_path, name: str, said: str
) -> None:
    (tmp_path / "broken_module.py").write_text("secret = 'hunter2'\n1 / 0\n")
    (tmp_path / "needy_module.py").write_text("import no_such_library\n")
    code, out, err = command(capsys, "get", name)
    assert (code, out) == (3, "")
    assert said in err
    assert "hunter2" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RELIANCE", "foo=3"], "no parameter 'foo'"),
        ([], "missing a required argument: 'symbol'"),
        (["RELIANCE", "period=hunter2"], "the text for period is no int"),
        (["RELIANCE", "period:=hunter2"], "takes a Python literal"),
        (["RELIANCE", "symbol=INFY"], "multiple values"),
        (["RELIANCE", "NSE", "day", "1", "2"], "more are given"),
    ],
)
def test_arguments_that_do_not_fit_are_a_wrong_command_line(service, capsys, words: list[str], said: str) -> None:
    err = refused(capsys, "get", f"{service.__name__}:history", *words)
    assert said in err
    assert "hunter2" not in err


# --------------------------------------------------------------------------------------------------------------- ls


def test_listings_go_on_where_they_ended(service: ModuleType, capsys, namespace: str) -> None:
    """In small steps, with entries that come and go between them: each that stays is listed once."""
    for number in range(12):
        service.history(f"S{number}")
    target = f"{service.__name__}:history"
    seen: list[str] = []
    cursor = ""
    for step in range(20):
        code, page = answer(capsys, "ls", target, "--limit", "5", *(["--cursor", cursor] if cursor else []))
        assert code == 0
        seen += [row["key"] for row in page["entries"]]
        if step == 0:
            service.history.invalidate(symbol="S0")
            service.history("S12")
        cursor = page["cursor"]
        if not cursor:
            break
    assert len(seen) == len({*seen})
    assert {service.history.cache_key(f"S{n}") for n in range(1, 13)} <= {*seen}
    code, row = answer(capsys, "ls", target, "--limit", "1")
    assert row["entries"][0]["size"] > 0
    assert 0 < row["entries"][0]["ttl"] <= 600
    assert row["entries"][0]["age"] >= 0
    code, out, _ = command(capsys, "ls", namespace, f"{service.__name__}.history", "--limit", "3")
    assert code == 0
    assert "There are more: redis-memo ls" in out
    code, functions = answer(capsys, "ls", namespace)
    assert {row["function"].rpartition(".")[2]: row["entries"] for row in functions["functions"]} == {"history": 12}
    assert command(capsys, "ls", target, "--cursor", "nonsense")[0] == 3


def test_namespaces_are_found_among_other_applications_keys(
    service: ModuleType, capsys, namespace: str, valkey_server
) -> None:
    service.history("A")
    with valkey_server.client() as client:
        client.set("memo:{planted\x1b[2J}:functions", "a string", ex=60)
        client.zadd("memo:{evil\x1b[31m}:functions", {"x": 1})
        try:
            code, out, _ = command(capsys, "ls")
            assert code == 0
            assert namespace in out
            assert "\x1b" not in out  # others' names reach no terminal as they are
            with asking(connect(valkey_server.url).engine) as ours:
                step, cursor = namespaces(ours, limit=1)
                found = dict(step)
                while cursor:
                    step, cursor = namespaces(ours, cursor, 1)
                    found |= step
            assert found[namespace] == 1
        finally:
            client.delete("memo:{evil\x1b[31m}:functions", "memo:{planted\x1b[2J}:functions")


def test_a_namespace_whose_registry_was_evicted_is_found_by_its_keys(
    service, capsys, namespace: str, valkey_server
) -> None:
    service.history("A")
    with valkey_server.client() as client:
        client.delete(f"memo:{{{namespace}}}:functions")
    code, functions = answer(capsys, "ls", namespace)
    assert code == 0
    assert [row["written"] for row in functions["functions"]] == [None]


def test_chunks_count_in_an_entrys_size(valkey_server: Server, namespace: str) -> None:
    """A value past the chunk size lies in several strings."""
    cache = connect(valkey_server.url)

    from redis_memo import redis_cached

    @redis_cached(namespace=namespace, ttl=60, cache=cache, compress=None, name="large")
    def large() -> bytes:
        return os.urandom(40 << 20)

    large()
    with asking(cache.engine) as client:
        rows, more = entry_rows(client, large.__redis_memo__._memo.prefix)
    assert more == ""
    assert rows[0].size >= 40 << 20
    cache.clear(namespace)
    cache.close()


# ---------------------------------------------------------------------------------------------- invalidate and clear


def test_invalidate_removes_what_was_meant(service: ModuleType, capsys) -> None:
    """P3; and a dry run tells the number beforehand, and removes nothing."""
    for symbol in ("RELIANCE", "INFY"):
        service.history(symbol)
        service.history(symbol, interval="minute")
    target = f"{service.__name__}:history"
    for words, count in (
        (["symbol=RELIANCE"], 2),
        (["interval=minute"], 2),
        (["symbol=RELIANCE", "interval=minute"], 1),
    ):
        assert answer(capsys, "invalidate", target, *words, "--dry-run")[1]["would_remove"] == count
    whole = ["symbol=INFY", "exchange=NSE", "interval=day", "period=365"]
    assert answer(capsys, "invalidate", target, *whole, "--dry-run")[1]["would_remove"] == 1
    assert service.history.cache_info().currsize == 4
    assert answer(capsys, "invalidate", target, "symbol=RELIANCE", "--yes")[1]["removed"] == 2
    before = len(service.runs)
    service.history("RELIANCE")
    service.history("INFY")
    assert len(service.runs) == before + 1
    assert "by name" in refused(capsys, "invalidate", target, "RELIANCE", "--yes")


def test_invalidate_knows_methods_and_async_functions(service: ModuleType, capsys) -> None:
    asyncio.run(service.quote("INFY", 5))
    assert answer(capsys, "invalidate", f"{service.__name__}:quote", "depth=5", "--yes")[1]["removed"] == 1
    for name in ("Client.fetch", "client.mine", "Client.of_class"):
        scope, _, method = name.partition(".")
        owner = service.client if scope == "client" or method == "fetch" else service.Client
        getattr(owner, method)("X")
        getattr(owner, method)("Y")
        target = f"{service.__name__}:{name}"
        assert answer(capsys, "invalidate", target, "symbol=X", "--dry-run")[1]["would_remove"] == 1
        assert answer(capsys, "invalidate", target, "symbol=X", "--yes")[1]["removed"] == 1
        assert getattr(owner, method).peek("Y")


def test_a_namespace_that_is_misspelt_is_answered_with_the_nearest(service, capsys, namespace: str) -> None:
    """ "removed 0 entries" would be taken for success."""
    service.history("A")
    wrong = namespace[:-1]
    for words in (["clear", wrong, "--yes"], ["clear", wrong, "--dry-run"], ["clear", wrong, "--scan"], ["ls", wrong]):
        for form in ([], ["--json"]):
            code, out, err = command(capsys, *words, *form)
            assert code == 1
            assert f"the namespace {wrong} has no functions; did you mean" in err
            assert namespace in err
            assert not form or json.loads(out)
    assert f"did you mean {namespace}" in refused(capsys, "ls", wrong, "f")
    assert answer(capsys, "clear", namespace, "--yes")[1]["removed"] == 1
    code, _, err = command(capsys, "clear", namespace, "--yes")
    assert (code, err) == (0, ""), "its functions are known, and nothing is left of them: as often as you like"


def test_what_a_script_stored_is_pointed_at(service, capsys, namespace: str, tmp_path: Path) -> None:
    """Run directly, its functions are those of __main__: by the module's name nothing is found, and one wonders."""
    script = tmp_path / f"{service.__name__}.py"
    script.write_text(script.read_text() + "\nif __name__ == '__main__':\n    history('INFY')\n")
    subprocess.run(
        [sys.executable, str(script)], check=True, timeout=120, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    target = f"{service.__name__}:history"
    for words, expected in ((["get", target, "INFY"], 1), (["clear", target, "--dry-run"], 0)):
        code, _, err = command(capsys, *words)
        assert code == expected
        (line,) = re.findall(r"there is 1 entry of __main__\.history~.*give the function name=.*", err)
    code, out, _ = command(capsys, *shlex.split(line.partition("look with: redis-memo ")[2]))
    assert (code, len(out.splitlines())) == (0, 2)
    for words in (["get", f"{service.__name__}:anything", "1"], ["clear", f"{service.__name__}:anything", "--yes"]):
        assert "__main__" not in command(capsys, *words)[2], "of another function there is nothing to be said"


def test_nothing_is_destroyed_unasked(service: ModuleType, capsys, namespace: str, monkeypatch) -> None:
    """P7: where nobody can be asked it is not done; a person may say no."""
    service.history("A")
    target = f"{service.__name__}:history"
    attempts = (["clear", namespace], ["clear", target], ["invalidate", target, "symbol=A"])
    for words in attempts:
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        code, _, err = command(capsys, *words)
        assert code == 3
        assert "--yes" in err

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for said in ("\n", "n\n", "no\n", ""):
        monkeypatch.setattr(sys, "stdin", Terminal(said))
        assert command(capsys, "clear", namespace)[0] == 3
    assert service.history.cache_info().currsize == 1
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    code, out, err = command(capsys, "clear", namespace)
    assert (code, out) == (0, "removed 1 entry\n")
    assert "Remove 1 entry of" in err


def test_clear_leaves_everybody_elses_keys(service: ModuleType, capsys, namespace: str, valkey_server: Server) -> None:
    """Another namespace that begins alike, another application's keys, and what no index lists."""
    service.history("A")
    service.history("B")
    asyncio.run(service.quote("Q"))
    other = connect(valkey_server.url, secret=SECRET)

    from redis_memo import redis_cached

    @redis_cached(namespace=f"{namespace}x", ttl=60, cache=other, name="neighbour")
    def neighbour() -> int:
        return 1

    neighbour()
    with valkey_server.client() as client:
        foreign = f"{namespace}:cache:candles"
        client.set(foreign, "theirs", ex=60)
        client.delete(service.history.__redis_memo__._memo.prefix + "index")  # as an allkeys- policy does
        assert answer(capsys, "clear", namespace, "--dry-run")[1]["would_remove"] == 1
        assert answer(capsys, "clear", namespace, "--dry-run", "--scan")[1]["would_remove"] == 3
        assert answer(capsys, "clear", namespace, "--scan", "--yes")[1]["removed"] == 3
        assert [key for key in client.scan_iter(f"memo:{{{namespace}:*") if not key.endswith(b":args")] == []
        assert client.get(foreign) == b"theirs"
        client.delete(foreign)
    assert neighbour.peek() == 1
    assert leaked(valkey_server.client(), namespace) == []
    other.clear(f"{namespace}x")
    other.close()


def test_the_command_line_names_the_server_that_counts(
    service, capsys, tmp_path, redis_server: Server, namespace: str
) -> None:
    """Whatever the code configures: else --url staging could clear production."""
    name = f"configured_{namespace.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from redis_memo import configure, redis_cached\n"
        f"configure({os.environ['REDIS_MEMO_URL']!r}, secret={SECRET!r})\n"
        f"@redis_cached(namespace={namespace!r}, ttl=60)\ndef f(x): return x\n"
    )
    module = __import__(name)
    module.f(1)
    assert answer(capsys, "get", f"{name}:f", "1")[0] == 0
    code, found = answer(capsys, "get", f"{name}:f", "1", "--url", redis_server.url)
    assert (code, found["state"]) == (1, "absent")
    assert found["server"] == redis_server.url
    assert answer(capsys, "clear", f"{name}:f", "--url", redis_server.url, "--yes")[1]["removed"] == 0
    sys.modules.pop(name)


# ------------------------------------------------------------------------------------------------- info, server, frame


def test_info_counts_entries_and_bytes(service: ModuleType, capsys, valkey_server: Server) -> None:
    for number in range(3):
        service.history(str(number))
    code, found = answer(capsys, "info", f"{service.__name__}:history")
    with valkey_server.client() as client:
        size = sum(client.strlen(service.history.cache_key(str(n))) for n in range(3))
    assert (code, found["entries"], found["bytes"], found["bytes_are_exact"]) == (0, 3, size, True)
    assert found["ttl"] == "10m"
    assert (found["hits"], found["misses"], found["errors"]) == (0, 3, 0)
    text = command(capsys, "info", f"{service.__name__}:history")[1]
    assert ["misses", "3"] in [line.split() for line in text.splitlines()]
    code, server = answer(capsys, "info")
    assert (code, server["server"], server["secret"]) == (0, valkey_server.url, True)
    assert server["software"].startswith("Valkey ")
    assert SECRET not in json.dumps(server)
    assert command(capsys, "info")[0] == 0


def test_info_says_who_names_the_server(service, capsys, valkey_server: Server, tmp_path: Path, monkeypatch) -> None:
    assert answer(capsys, "info")[1]["named_by"] == "environment"
    assert answer(capsys, "info", "--url", valkey_server.url)[1]["named_by"] == "the command line"
    for words, name in (([], ".env"), (["--env-file", "production.env"], "production.env")):
        monkeypatch.setenv("REDIS_MEMO_URL", "")
        (tmp_path / name).write_text(f"REDIS_MEMO_URL={valkey_server.url}\n")
        assert answer(capsys, "info", *words)[1]["named_by"] == name


def test_info_counts_what_other_processes_did(service: ModuleType, capsys, tmp_path: Path) -> None:
    code = f"import {service.__name__} as s; s.history('a'); s.history('a'); s.history('a')"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=tmp_path, env=environ)
    found = answer(capsys, "info", f"{service.__name__}:history")[1]
    assert (found["hits"], found["misses"]) == (2, 1)
    assert found["bytes_stored"] > 0


def test_the_command_says_its_version(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        _cli.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"redis_memo {redis_memo.__version__}\n")


def test_a_server_that_is_not_there_is_one_line(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["ls"], ["info"], ["clear", "x", "--yes"], ["get", "memo:{a:b:#0}:" + "0" * 40]):
        code, out, err = command(capsys, *words, "--url", "redis://user:hunter2@127.0.0.1:1/0")
        assert (code, out) == (3, "")
        assert len(err.splitlines()) == 1
        assert "hunter2" not in err


def test_a_service_as_it_is_started_from_a_shell(service: ModuleType, tmp_path: Path, valkey_server: Server) -> None:
    """The real command: the module of the current folder, and settings that only .env has."""
    service.history("RELIANCE")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REDIS")}
    (tmp_path / ".env").write_text(f"export REDIS_MEMO_URL='{valkey_server.url}'\nREDIS_MEMO_SECRET=\"{SECRET}\"\n")
    script = Path(sys.executable).parent / "redis-memo"
    done = subprocess.run(
        [str(script), "get", f"{service.__name__}:history", "RELIANCE"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1.5" in done.stdout
    assert "pandas.DataFrame" in done.stderr


def test_the_embedded_servers_state_is_told_and_ended(capsys, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    assert answer(capsys, "server", "status", str(folder))[0] == 1
    cache = connect(f"embedded://{folder}")
    cache.engine.backend.locate()
    code, found = answer(capsys, "server", "status", f"embedded://{folder}")
    assert (code, found["running"]) == (0, True)
    assert answer(capsys, "server", "stop", str(folder))[1]["stopped"] is True
    code, out, _ = command(capsys, "server", "stop", str(folder))
    assert (code, "was not running" in out) == (0, True)
    cache.close()


@pytest.mark.parametrize("named_by", ["REDIS_URL", ".env", "--url"])
def test_the_embedded_server_of_the_settings_is_meant(capsys, tmp_path: Path, monkeypatch, named_by: str) -> None:
    """As with every other command: else `stop` says of the wrong folder that nothing runs there."""
    folder = tmp_path / "a folder"
    url = f"embedded://{str(folder).replace(' ', '%20')}?maxmemory=64mb"
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_MEMO_URL", "REDIS_URL"):
        monkeypatch.setenv(name, "")
    words = ["--url", url] if named_by == "--url" else []
    if named_by == ".env":
        (tmp_path / named_by).write_text(f"REDIS_MEMO_URL={url}\n")
    elif not words:
        monkeypatch.setenv(named_by, url)
    cache = connect(url)
    cache.engine.backend.locate()
    code, found = answer(capsys, "server", "status", *words)
    assert (code, found["running"], found["folder"]) == (0, True, str(folder))
    assert answer(capsys, "server", "stop", *words)[1]["stopped"] is True
    assert answer(capsys, "server", "status", str(tmp_path))[1]["folder"] == str(tmp_path), "a folder that is named"
    cache.close()


def test_the_embedded_server_is_not_looked_for_at_another_url(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("REDIS_MEMO_URL", "redis://127.0.0.1:1/0")
    assert answer(capsys, "server", "status")[1]["folder"].startswith(str(tmp_path))
    assert "three slashes" in refused(capsys, "server", "status", "--url", "redis://127.0.0.1:1/0")
    assert "not by both" in refused(capsys, "server", "stop", "e", "--url", "embedded://")
    monkeypatch.setenv("REDIS_MEMO_URL", "embedded://folder")
    code, _, err = command(capsys, "server", "status")
    assert (code, "three slashes" in err) == (3, True)


# ------------------------------------------------------------------------------------------------------------- docs


def plain(text: str) -> str:
    """An output without what differs from run to run."""
    text = re.sub(r"redis://(?!cache)[^ \n]+", "URL", text)
    text = re.sub(r"\d+(\.\d+)? ?(ms|s|m|B|kB)?( \d+s)?\b", "#", text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


@pytest.fixture
def fresh_server() -> Iterator[Server]:
    """One that no other test has left anything on."""
    server = start_server(valkey())
    yield server
    server.stop()


def test_the_page_of_the_command_line_shows_what_it_prints(
    tmp_path: Path, fresh_server: Server, capsys, monkeypatch
) -> None:
    """docs/cli.md: each command runs, ends as it says there, and prints what is shown there."""
    monkeypatch.setattr(_doctor, "SLOW", 10.0)  # the machine of the tests may be
    monkeypatch.setattr(_doctor, "TOO_SLOW", 10.0)
    page = (Path(__file__).parent.parent / "docs" / "cli.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    (tmp_path / "stock.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("REDIS_MEMO_URL", fresh_server.url)
    monkeypatch.setenv("REDIS_MEMO_SECRET", SECRET)
    import stock

    stock.history("RELIANCE")
    stock.history("RELIANCE", interval="minute")
    stock.history("INFY")
    asyncio.run(stock.quote("INFY", depth=5))
    ran = 0
    try:
        for block in re.findall(r"^```console\n(.*?)^```", page, re.M | re.S):
            for part in re.split(r"^\$ redis-memo ", block, flags=re.M)[1:]:
                line, _, shown = part.partition("\n")
                words, _, remark = line.partition("#")
                code_, out, err = command(capsys, *shlex.split(words))
                expected = int(remark.removeprefix(" exit ")) if remark else 0
                assert code_ == expected, f"{line}: {err}"
                if shown:
                    assert plain(out) == plain(shown), line
                ran += 1
    finally:
        sys.modules.pop("stock", None)
    assert ran > 20
