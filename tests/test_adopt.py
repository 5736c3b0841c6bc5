"""`adopt`: every private cache is found, nothing is rewritten that is not sure, and bytes outside of edits stay.

A rewritten function has to keep the promises it had: the same answers, its own `cache_info` and `cache_clear` (P8), and
P1 and P2 from then on.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_memo._adopt import survey, write
from redis_memo._adopt_finding import Lifetime
from redis_memo._adopt_source import Edit, edited, read
from redis_memo._cli import main

HERE = Path(__file__).parent / "adopt"
GUESS = Lifetime('"1d"', chosen=False)


def adopt(folder: Path, text: str | bytes, name: str = "quotes.py"):
    """The report on a folder with one file of this text."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return survey(folder, GUESS)


def rewritten(folder: Path, text: str | bytes) -> bytes:
    report = adopt(folder, text)
    for change in report.changes:
        write(change)
    return (folder / "quotes.py").read_bytes()


def service(body: str, head: str = "from functools import lru_cache\nimport requests\n") -> str:
    return f"{head}\n{body}"


SURE = service("""
@lru_cache(maxsize=None)
def sector(symbol: str) -> str:
    return requests.get(symbol).text
""")


# ------------------------------------------------------------------------------------------------------------ finding


def test_every_spelling_of_a_cache_by_hand_is_found_and_nothing_else(tmp_path: Path) -> None:
    text = (HERE / "patterns.py").read_text()
    report = adopt(tmp_path, text)
    expected = {
        (number, line.rpartition("  # ")[2])
        for number, line in enumerate(text.splitlines(), 1)
        if "  # " in line and not line.startswith("# ")
    }
    assert {(each.line, each.kind) for each in report.findings} == expected
    assert report.changes == (), "none of these is for a machine to rewrite"


def test_expiries_that_the_code_states_are_proposed(tmp_path: Path) -> None:
    report = adopt(tmp_path, (HERE / "patterns.py").read_text())
    becomes = {each.name: each.becomes for each in report.findings}
    assert "ttl=MAX_AGE)" in becomes["timed"]
    assert "ttl=30)" in becomes["Client.price"]
    assert "ttl to be chosen" in becomes["quote"]
    assert "market_aware()" in becomes["quote"]
    assert "ignore=['verbose']" in becomes["features"]


@pytest.mark.parametrize(
    ("head", "decorator"),
    [
        ("import functools", "@functools.lru_cache"),
        ("import functools as ft", "@ft.lru_cache()"),
        ("from functools import cache", "@cache"),
        ("from functools import lru_cache as memo", "@memo(128)"),
        ("from functools import lru_cache", "@lru_cache(maxsize=None, typed=True)"),
        ("from cachetools import TTLCache, cached", "@cached(cache=TTLCache(10, 60))"),
        ("import cachetools", "@cachetools.cached(cachetools.TTLCache(maxsize=10, ttl=60))"),
        ("from cachetools import LRUCache, cached\nfrom threading import RLock", "@cached(LRUCache(10), lock=RLock())"),
    ],
)
def test_spellings_that_are_replaced(tmp_path: Path, head: str, decorator: str) -> None:
    body = f"{decorator}\ndef sector(symbol: str) -> str:\n    return requests.get(symbol).text\n"
    new = rewritten(tmp_path, service(body, f"{head}\nimport requests\n")).decode()
    assert "@redis_cached(" in new
    assert new.count("from redis_memo import redis_cached") == 1
    assert not {"functools", "cachetools"} & {*re.findall(r"\w+", new)}, "the old import has no use any more"


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("method-identity", "class A:\n    @lru_cache\n    def f(self, symbol: str) -> str:\n        return requests.get(symbol).text"),
        ("closure", "def g():\n    @lru_cache\n    def f(symbol: str) -> str:\n        return requests.get(symbol).text\n    return f"),
        ("singleton", "@lru_cache\ndef f() -> str:\n    return requests.get('x').text"),
        ("unkeyable-argument", "@lru_cache\ndef f(feed) -> str:\n    return feed.fetch()"),
        ("unkeyable-argument", "@lru_cache\ndef f(feed: Feed) -> str:\n    return requests.get(str(feed)).text"),
        ("unkeyable-argument", "@lru_cache\ndef f(*symbols) -> str:\n    return requests.get(str(symbols)).text"),
        ("time-dependent", "@lru_cache\ndef f(symbol: str, to_date: str | None = None) -> str:\n    return requests.get(symbol).text"),
        ("time", "import time\n@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(symbol, time.time()).text"),
        ("time", "import datetime as dt\ndef today():\n    return dt.date.today()\n@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(symbol, today()).text"),
        ("process", "import os\n@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(os.environ['BASE'] + symbol).text"),
        ("process", "import os\n@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(os.getenv('BASE')).text"),
        ("chance", "import random\n@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(random.choice('ab')).text"),
        ("file", "@lru_cache\ndef f(path: str) -> str:\n    return open(path).read()"),
        ("state", "SEEN = []\n@lru_cache\ndef f(symbol: str) -> str:\n    SEEN.append(symbol)\n    return requests.get(symbol).text"),
        ("state", "n = 0\n@lru_cache\ndef f(symbol: str) -> str:\n    global n\n    n += 1\n    return requests.get(symbol).text"),
        ("global", "client = make()\n@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(client.url + symbol).text"),
        ("global", "URLS = {}\ndef add(u):\n    URLS[u] = u\n@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(URLS[symbol]).text"),
        ("account", "@lru_cache\ndef holdings(segment: str) -> str:\n    return requests.get(segment).text"),
        ("cheap", "@lru_cache\ndef f(symbol: str) -> str:\n    return symbol.upper().strip()"),
        ("recursion", "@lru_cache\ndef f(n: int) -> int:\n    return f(n - 1) + 1 if n else 0"),
        ("result-type", "@lru_cache\ndef f(symbol: str) -> Model:\n    return requests.get(symbol).model"),
        ("result-type", "@lru_cache\ndef f(symbol: str):\n    return requests.get(symbol)"),
        ("result-type", "@lru_cache\ndef f(symbol: str) -> dict:\n    return {'m': Model(requests.get(symbol))}"),
        ("async", "@lru_cache\nasync def f(symbol: str) -> str:\n    return requests.get(symbol).text"),
        ("generator", "@lru_cache\ndef f(symbol: str):\n    yield requests.get(symbol).text"),
        ("decorators", "@app.get('/x')\n@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(symbol).text"),
        ("decorators", "@lru_cache\n@contextmanager\ndef f(symbol: str) -> str:\n    return requests.get(symbol).text"),
        ("redefined", "@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(symbol).text\nf = print"),
        ("shared-reference", "@lru_cache\ndef f(symbol: str) -> dict:\n    return requests.get(symbol).json()\ndef g():\n    f('x')['y'] = 1"),
        ("shared-reference", "@lru_cache\ndef f(symbol: str) -> dict:\n    return requests.get(symbol).json()\ndef g():\n    d = f('x')\n    d.update(y=1)"),
        ("shared-reference", "@lru_cache\ndef f(symbol: str) -> dict:\n    return requests.get(symbol).json()\ndef g():\n    return f('x') is f('x')"),
        ("cache-api", "@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(symbol).text\nf.cache_parameters()"),
        ("maxsize", "@lru_cache(maxsize=0)\ndef f(symbol: str) -> str:\n    return requests.get(symbol).text"),
        ("alias", "memo = lru_cache(maxsize=9)\n@memo\ndef f(symbol: str) -> str:\n    return requests.get(symbol).text"),
        ("import", "def lru_cache(f):\n    return f\n@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(symbol).text"),
        ("rewrite", "redis_cached = None\n@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(symbol).text"),
    ],
)  # fmt: skip
def test_what_is_in_doubt_is_reported_with_the_doubt_and_not_rewritten(tmp_path: Path, code: str, body: str) -> None:
    report = adopt(tmp_path, service(body))
    found = [each for each in report.findings if "cache" in each.kind and each.line]
    assert found, "it is reported"
    assert code in {risk.code for each in found for risk in each.risks}
    assert report.sure() == []
    assert report.changes == ()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("store", "shared-reference"),
        ("TTLCache(10, 60, timer=clock)", "options"),
        ("TTLCache(10, 60), key=lambda s: s[0]", "key"),
        ("TTLCache(10, 60), lock=guard", "lock"),
    ],
)
def test_a_cachetools_cache_that_others_share_or_that_is_special_stays(tmp_path: Path, options: str, code: str) -> None:
    head = "from cachetools import TTLCache, cached\nimport requests\nstore = TTLCache(10, 60)\n"
    body = f"@cached({options})\ndef f(symbol: str) -> str:\n    return requests.get(symbol).text\n"
    report = adopt(tmp_path, service(body, head))
    assert code in {risk.code for each in report.findings for risk in each.risks}
    assert report.sure() == []


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("cheap", "@functools.cache\ndef add(a, b):\n    return a + b"),
        ("generator", "@functools.cache\ndef f(symbol: str):\n    yield requests.get(symbol).text"),
        ("maxsize", "@functools.lru_cache(maxsize=0)\ndef f(symbol: str) -> str:\n    return requests.get(symbol).text"),
        ("left-alone", "class A:\n    @functools.cached_property\n    def f(self) -> str:\n        return requests.get('x').text"),
    ],
)  # fmt: skip
def test_what_better_stays_is_offered_no_replacement(tmp_path: Path, capsys, code: str, body: str) -> None:
    """It would say both: write this, and leave it as it is."""
    adopt(tmp_path, service(body, "import functools\nimport requests\n"))
    assert main(["adopt", str(tmp_path), "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["confidence"], finding["becomes"]) == ("alone", "nothing: it is left alone")
    codes = {each["code"] for each in finding["risks"]}
    assert (code in codes, "no-expiry" in codes) == (True, False)
    assert main(["adopt", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert ("redis_cached" in out, "choose one" in out) == (False, False)


def test_a_doubt_in_another_file_counts(tmp_path: Path) -> None:
    """What a function calls in the same code base is looked into, and so is who changes its results."""
    (tmp_path / "helpers.py").write_text("import os\ndef base():\n    return os.environ['BASE']\n")
    body = "from helpers import base\n@lru_cache\ndef f(symbol: str) -> str:\n    return requests.get(base() + symbol).text\n"
    report = adopt(tmp_path, service(body))
    assert report.sure() == []
    assert "process" in {risk.code for each in report.findings for risk in each.risks}


FETCHED = """
import json
import pandas as pd
import requests
import yfinance as yf
from functools import lru_cache
from kiteconnect import KiteConnect

URL = "https://prices.example"
kite = KiteConnect(api_key="demo")


def _get(path, **params):
    answer = requests.get(f"{URL}/{path}", params=params, timeout=5)
    answer.raise_for_status()
    return answer.json()


def _model(name) -> object:
    return Model(name)


@lru_cache(maxsize=128)
def %s
"""


@pytest.mark.parametrize(
    "function",
    [
        "get_quote(symbol):\n    return _get('quote', i=symbol)",
        "get_price(symbol):\n    data = _get('quote', i=symbol)\n    return data[symbol]['last_price']",
        "page(symbol):\n    answer = requests.get(URL + symbol)\n    return answer.text",
        "parsed(symbol):\n    return json.loads(requests.get(URL + symbol).text)",
        "table(url):\n    return pd.read_csv(url)",
        "listing(exchange):\n    return pd.read_csv(f'{URL}/{exchange}.csv')",
        "prices(ticker, period='1y'):\n    df = yf.download(ticker, period=period)\n    df['ret'] = df['Close'].pct_change()\n    return df.dropna()",
        "info(ticker: str) -> dict:\n    return yf.Ticker(ticker).info",
        "last(symbol):\n    return kite.quote([symbol])[symbol]",
        "candles(token: int, start: str, end: str):\n    return pd.DataFrame(kite.historical_data(token, start, end, 'day'))",
        "names(exchange):\n    found = []\n    for row in _get(exchange):\n        found.append(row['name'])\n    return found",
    ],
)
def test_ordinary_functions_that_fetch_are_replaced(tmp_path: Path, function: str) -> None:
    report = adopt(tmp_path, FETCHED % function)
    assert [each.kind for each in report.sure()] == ["lru_cache"], report.findings


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("model(symbol):\n    requests.get(URL)\n    return _model(symbol)", "result-type"),
        (
            "models(symbol):\n    found = []\n    for row in _get(symbol):\n        found.append(Model(row))\n    return found",
            "result-type",
        ),
        ("by_name(symbol):\n    found = {}\n    found[symbol] = Model(_get(symbol))\n    return found", "result-type"),
        ("ticker(symbol: str) -> dict:\n    return {'t': yf.Ticker(symbol)}", "result-type"),
        ("answer(symbol):\n    return requests.get(URL + symbol)", "result-type"),
        ("local(path):\n    return pd.read_csv(path)", "file"),
        ("orders(symbol):\n    return kite.orders()", "global"),
        ("client(symbol):\n    return use(kite)", "global"),
    ],
)
def test_what_a_fetching_function_may_not_do(tmp_path: Path, function: str, code: str) -> None:
    report = adopt(tmp_path, FETCHED % function)
    assert report.sure() == []
    assert code in {risk.code for each in report.findings for risk in each.risks}


def test_tests_that_count_need_an_empty_cache(tmp_path: Path) -> None:
    """Entries outlive the process: a second run of the tests would count none of the calls of the first."""
    test = "from quotes import sector\n\ndef test_once(get):\n    sector('INFY')\n    assert get.call_count == 1\n"
    (tmp_path / "test_quotes.py").write_text(test)
    report = adopt(tmp_path, SURE)
    assert report.sure() == []
    assert "tests" in {risk.code for each in report.findings for risk in each.risks}
    (tmp_path / "conftest.py").write_text("import quotes\n\ndef fresh():\n    quotes.sector.cache_clear()\n")
    assert [each.name for each in adopt(tmp_path, SURE).sure()] == ["sector"]


def test_a_class_of_ones_own_around_a_cache_is_known(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from cachetools import TTLCache\nclass Own(TTLCache):\n    pass\n")
    report = adopt(tmp_path, "from mine import Own\nprices = Own(10, ttl=5)\n")
    assert [(each.kind, each.name) for each in report.findings] == [("Own (TTLCache)", "prices")]


# ---------------------------------------------------------------------------------------------------------- rewriting


@pytest.mark.parametrize(
    ("decorator", "size"),
    [
        ("lru_cache(maxsize=128)", "maxsize=128"),
        ("lru_cache(64)", "maxsize=64"),
        ("lru_cache(maxsize=SIZE)", "maxsize=SIZE"),
        ("lru_cache(maxsize=2 ** 10)", "maxsize=2 ** 10"),
        ("lru_cache(maxsize=None)", None),
        ("lru_cache", None),
        ("cached(TTLCache(maxsize=1e3, ttl=60))", "maxsize=1000"),
        ("cached(TTLCache(4 * SIZE, 60))", "maxsize=4 * SIZE"),
        ("cached(cache=LRUCache(maxsize=SIZE))", "maxsize=SIZE"),
        ("cached(TTLCache(math.inf, 60))", None),
    ],
)
def test_a_bound_that_is_written_out_comes_along(tmp_path: Path, decorator: str, size: str | None) -> None:
    head = "import math\nfrom functools import lru_cache\nimport requests\nfrom cachetools import LRUCache, TTLCache, cached\n"
    body = f"SIZE = 32\n\n@{decorator}\ndef sector(symbol: str) -> str:\n    return requests.get(symbol).text\n"
    new = rewritten(tmp_path, service(body, head)).decode()
    call = next(line for line in new.splitlines() if line.startswith("@redis_cached("))
    assert re.findall(r"maxsize=[^,)]*", call) == ([size] if size else [])


@pytest.mark.parametrize("size", ["0", "-1", "1", "settings.SIZE", "OTHER"])
def test_a_bound_that_may_be_none_here_is_left_to_a_person(tmp_path: Path, size: str) -> None:
    body = f"OTHER = read()\n@lru_cache(maxsize={size})\ndef f(symbol: str) -> str:\n    return requests.get(symbol).text\n"
    report = adopt(tmp_path, service(body))
    assert "maxsize" in {risk.code for each in report.findings for risk in each.risks}
    assert report.changes == ()


def test_names_of_other_scopes_are_no_doubt(tmp_path: Path) -> None:
    body = """
BASE = "https://prices.example"

@lru_cache
def sector(symbol: str) -> str:
    return requests.get(BASE + symbol, params={"id": str(max(1, 2))}).text

class Page:
    @staticmethod
    @lru_cache
    def title(symbol: str) -> str:
        return requests.get(symbol).text

def show(sector, lru_cache, str=None, max=0):
    BASE, title = sector("INFY"), lru_cache
    return BASE, title
"""
    assert [each.name for each in adopt(tmp_path, service(body)).sure()] == ["sector"]
    body = body.replace("lru_cache, str=None", "str=None").replace('= sector("INFY"), lru_cache', "= 1, 2")
    assert [each.name for each in adopt(tmp_path, service(body)).sure()] == ["sector", "Page.title"]
    for rebound in ("BASE = 1", "global BASE", "global sector\n    sector = 1"):
        other = f"{body}\ndef change():\n    {rebound}\n" if "global" in rebound else f"{body}\n{rebound}\n"
        assert "sector" not in {each.name for each in adopt(tmp_path, service(other)).sure()}


def test_a_file_before_and_after(tmp_path: Path) -> None:
    """The golden pair: what is sure is replaced, with its comments and tabs; a second run changes nothing."""
    after = (HERE / "after.py").read_bytes()
    assert rewritten(tmp_path, (HERE / "before.py").read_bytes()) == after
    assert survey(tmp_path, GUESS).changes == ()
    assert survey(tmp_path, GUESS).sure() == []


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("encoding", "mark", "cookie"),
    [("utf-8", b"", ""), ("utf-8", b"\xef\xbb\xbf", ""), ("latin-1", b"", "# -*- coding: latin-1 -*-\n"), ("cp1252", b"", "#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n")],
)  # fmt: skip
def test_line_ends_marks_and_encodings_stay(
    tmp_path: Path, newline: str, encoding: str, mark: bytes, cookie: str
) -> None:
    text = cookie + SURE.replace("(symbol: str) -> str:", "(symbol: str, näme: str = 'é') -> str:  # ü").replace(
        "    return", "\treturn"
    )
    raw = mark + text.replace("\n", newline).encode(encoding)
    new = rewritten(tmp_path, raw)
    assert new != raw
    old_lines, new_lines = raw.split(newline.encode()), new.split(newline.encode())
    assert len(old_lines) == len(new_lines)
    assert sum(a != b for a, b in zip(old_lines, new_lines)) <= 3  # the decorator, and the imports
    assert re.sub(rb"\r\n|\r|\n", b"", new).count(b"redis_memo") == 1
    ast.parse(new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from functools import lru_cache, wraps\n", "from functools import wraps\n"),
        ("from functools import wraps, lru_cache\n", "from functools import wraps\n"),
        ("from functools import partial, lru_cache, wraps  # tools\n", "from functools import partial, wraps  # tools\n"),
        ("from functools import (\n    lru_cache,\n    wraps,\n)\n", "from functools import (\n    wraps,\n)\n"),
        ("from functools import (\n    wraps,\n    lru_cache,\n)\n", "from functools import (\n    wraps,\n)\n"),
        ("from functools import (\n    wraps,\n    lru_cache  # one\n)\n", None),
        ("from functools import lru_cache  # noqa: F401\n", "from functools import lru_cache  # noqa: F401\n"),
        ("import functools; from functools import lru_cache\n", None),
    ],
)  # fmt: skip
def test_imports_lose_only_what_nothing_uses(tmp_path: Path, old: str, new: str | None) -> None:
    body = SURE.partition("import requests\n")[2]
    code = rewritten(tmp_path, f"import os\n{old}import requests\n{body}").decode()
    ast.parse(code)
    assert "import requests\nfrom redis_memo import redis_cached\n" in code or "requests" in code
    if new is not None:
        assert f"import os\n{new}import requests\n" in code


def test_a_name_that_others_take_from_the_file_stays(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("from quotes import lru_cache\n")
    assert b"from functools import lru_cache\n" in rewritten(tmp_path, SURE)
    assert b"import lru_cache\n" in rewritten(tmp_path, SURE + "\n__all__ = ['lru_cache']\n")


def test_an_import_of_ours_that_is_there_is_used(tmp_path: Path) -> None:
    code = rewritten(tmp_path, f"from redis_memo import redis_cached as kept\n{SURE}").decode()
    assert "@kept(namespace=" in code
    assert code.count("redis_memo") == 1
    code = rewritten(tmp_path, f"import redis_memo\n{SURE}").decode()
    assert "@redis_memo.redis_cached(namespace=" in code
    assert "from redis_memo" not in code


LINES = st.sampled_from(
    ["# é ünïcode", "x = 'ß'  # y", "", "   ", "\tz = (1,\n\t     2)".lstrip(), "class A:\n\tdef g(self):\n\t\treturn '\\\\'", '"""text\nof two"""', "\x0c", "y = f'{1!r}'"]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(before=st.lists(LINES, max_size=5), after=st.lists(LINES, max_size=5), crlf=st.booleans(), end=st.booleans())
def test_what_is_outside_of_edits_stays_byte_for_byte(
    before: list[str], after: list[str], crlf: bool, end: bool
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        text = "import functools\nimport requests\n" + "\n".join(before) + (
            "\n@functools.cache  # why\ndef sector(symbol: str) -> str:\n    return requests.get(symbol).text\n"
        ) + "\n".join(after) + ("\n" if end else "")  # fmt: skip
        raw = (text.replace("\n", "\r\n") if crlf else text).encode()
        nl = "\r\n" if crlf else "\n"
        expected = raw.decode()
        expected = expected.replace("@functools.cache  # why", '@redis_cached(namespace="quotes", ttl="1d")  # why')
        expected = expected.replace(f"import functools{nl}", "", 1)
        expected = expected.replace(
            f"import requests{nl}", f"import requests{nl}from redis_memo import redis_cached{nl}", 1
        )
        assert rewritten(Path(folder), raw).decode() == expected


@given(st.text(max_size=40), st.data())
def test_edits_touch_nothing_else(text: str, data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.py"
        file.write_bytes(("\n".join(f"# {line}" for line in text.splitlines())).encode("utf-8", "surrogatepass"))
        source = read(file, "a.py", "a")
        if isinstance(source, str):
            return
        at = data.draw(st.integers(0, len(source.text)))
        assert edited(source, []) == source.raw
        assert edited(source, [Edit(at, at, "~")]).decode() == source.text[:at] + "~" + source.text[at:]


def test_rewritten_functions_answer_as_before_from_a_real_server(
    tmp_path: Path, valkey_server, namespace: str, monkeypatch
) -> None:
    """P1, P2, P8: same answers, fewer requests over processes, `cache_info` and `cache_clear` where callers used them."""
    package = f"shop_{namespace.replace('-', '_')}"
    code = """
from functools import lru_cache
import functools

@lru_cache(maxsize=None)
def sector(symbol: str, exchange: str = "NSE") -> dict[str, str]:
    return {"sector": fetch(symbol), "exchange": exchange}

def raw(symbol: str) -> float:
    return float(len(fetch(symbol)))

length = functools.lru_cache(raw)

class Lists:
    @staticmethod
    @functools.cache
    def members(index: str) -> tuple[str, ...]:
        return (fetch(index), "TCS")

def fetch(symbol: str) -> str:
    return symbol.lower()

def forget() -> None:
    sector.cache_clear()
"""
    report = adopt(tmp_path, code, f"{package}.py")
    assert len(report.sure()) == 3, [(e.name, e.confidence, e.risks) for e in report.findings]
    for change in report.changes:
        write(change)
    monkeypatch.setenv("REDIS_MEMO_URL", valkey_server.url)
    spec = importlib.util.spec_from_file_location(package, tmp_path / f"{package}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, package, module)
    spec.loader.exec_module(module)
    assert (
        module.sector("INFY") == module.sector(symbol="INFY", exchange="NSE") == {"sector": "infy", "exchange": "NSE"}
    )
    assert (module.sector.cache_info().misses, module.sector.cache_info().hits) == (1, 1)
    assert module.length("INFY") == module.length("INFY") == 4.0
    assert module.length.cache_info().hits == 1
    assert module.Lists.members("IT") == module.Lists().members("IT") == ("it", "TCS")
    assert module.Lists.members.cache_info().hits == 1
    check = f"import {package} as m; m.sector('INFY'); m.Lists.members('IT'); print(m.sector.cache_info().hits, m.Lists.members.cache_info().hits)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"], "another process hits what this one stored"
    module.forget()
    assert module.sector.cache_info().currsize == 0
    for function in (module.length, module.Lists.members):
        function.cache_clear()


# ------------------------------------------------------------------------------------------------------------ command


def test_by_default_a_diff_is_shown_and_nothing_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adopt(tmp_path, SURE)
    assert main(["adopt", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "quotes.py:5: sure: lru_cache: sector" in said
    assert '+@redis_cached(namespace="quotes", ttl="1d")  # ttl to be chosen' in said
    assert (tmp_path / "quotes.py").read_text() == SURE


def test_the_diff_is_one_that_patch_takes(tmp_path: Path) -> None:
    raw = SURE.replace("\n", "\r\n").removesuffix("\r\n").encode()
    change = adopt(tmp_path, raw).changes[0]
    subprocess.run(["git", "apply", "-p1", "-"], cwd=tmp_path, input=change.diff().encode(), check=True, env=os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})  # fmt: skip
    assert (tmp_path / "quotes.py").read_bytes() == change.new


def test_check_is_for_ci(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adopt(tmp_path, SURE)
    assert main(["adopt", str(tmp_path), "--check"]) == 1
    assert main(["adopt", str(tmp_path), "--apply", "--ttl", "6h"]) == 0
    assert 'ttl="6h")\n' in (tmp_path / "quotes.py").read_text()
    assert main(["adopt", str(tmp_path), "--check"]) == 0
    before = (tmp_path / "quotes.py").stat().st_mtime_ns
    assert main(["adopt", str(tmp_path), "--apply"]) == 0
    assert (tmp_path / "quotes.py").stat().st_mtime_ns == before
    capsys.readouterr()


def test_the_answer_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adopt(tmp_path, SURE)
    adopt(tmp_path, "def broken(:\n", "b.py")
    assert main(["adopt", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (finding,) = answer["findings"]
    assert (finding["file"], finding["line"], finding["kind"], finding["confidence"]) == (
        "quotes.py",
        5,
        "lru_cache",
        "sure",
    )
    assert finding["becomes"].startswith('@redis_cached(namespace="quotes", ttl="1d")')
    assert answer["unreadable"][0]["file"] == "b.py"
    assert answer["diff"].startswith("--- a/quotes.py")
    assert answer["written"] == []


@pytest.mark.parametrize(
    "where", ["@lru_cache(maxsize=None)  # redis-memo: keep", "# redis-memo: keep\n@lru_cache(maxsize=None)"]
)
def test_a_comment_silences(tmp_path: Path, where: str) -> None:
    report = adopt(tmp_path, SURE.replace("@lru_cache(maxsize=None)", where))
    assert (report.findings, report.kept, report.changes) == ((), 1, ())
    report = adopt(
        tmp_path, SURE.replace("@lru_cache(maxsize=None)", f"text = '{where[-18:]}'\n@lru_cache(maxsize=None)")
    )
    assert len(report.findings) == 1, "in a string it is no comment"


def test_folders_that_are_not_the_code_base_are_left_out(tmp_path: Path) -> None:
    for folder in (".venv", "venv", "lib/site-packages/x", "build", ".git", "node_modules/x", "env"):
        adopt(tmp_path, SURE, f"{folder}/a.py")
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    assert survey(tmp_path, GUESS).files == 0
    report = adopt(tmp_path, SURE, "src/app/data.py")
    assert [each.source.shown for each in report.findings] == ["src/app/data.py"]


def test_a_file_that_changes_meanwhile_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    from redis_memo import _cli_adopt

    adopt(tmp_path, SURE)

    def and_somebody_edits(path: Path, lifetime: Lifetime):
        report = survey(path, lifetime)
        (tmp_path / "quotes.py").write_text("# edited\n")
        return report

    monkeypatch.setattr(_cli_adopt, "survey", and_somebody_edits)
    assert main(["adopt", str(tmp_path), "--apply"]) == 3
    assert "quotes.py was changed meanwhile" in capsys.readouterr().err
    assert (tmp_path / "quotes.py").read_text() == "# edited\n"
    assert [each.name for each in tmp_path.iterdir()] == ["quotes.py"]


def test_mode_and_link_of_a_rewritten_file_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "code.txt"
    real.write_text(SURE)
    real.chmod(0o750)
    (tmp_path / "quotes.py").symlink_to(real)
    for change in survey(tmp_path, GUESS).changes:
        write(change)
    assert (tmp_path / "quotes.py").is_symlink()
    assert "redis_cached" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o750


def test_a_path_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adopt", str(tmp_path / "no")]) == 3
    assert "there is no" in capsys.readouterr().err
