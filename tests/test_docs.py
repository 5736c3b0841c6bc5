"""Every python block of README and docs runs, links lead somewhere, and the example tells its story."""

from __future__ import annotations

import inspect
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import redis_memo
from redis_memo import _default

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w/]+\.py)\n")  # what a block begins with that is a file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, embedded_server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a page run in order in one namespace, at the lines where they stand; but for those that are files."""
    monkeypatch.setenv("REDIS_MEMO_URL", embedded_server.url)
    text = page.read_text()
    namespace = {"__name__": f"docs_{page.stem.lower()}"}
    for block in BLOCK.finditer(text):
        if FILE.match(block.group(1)):
            continue
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block.group(1), str(page), "exec"), namespace)
    if _default._default is not None:
        for name in ("docs", "stock_data", "portfolio", "quotes"):
            _default._default.clear(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        text = ((page.parent / target) if target else page).read_text()
        headings = [
            re.sub(r"[^a-z0-9 _-]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.M)
        ]
        assert anchor in headings, f"{target}#{anchor}"


def test_every_public_name_and_option_is_documented() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for name in redis_memo.__all__:
        assert name in text or getattr(redis_memo, name).__doc__, name
    for option in inspect.signature(redis_memo.redis_cached).parameters:
        assert f"{option}:" in redis_memo.redis_cached.__doc__, option
    for setting in {*redis_memo._config.Settings.__dataclass_fields__, "secret"} - {"url", "secrets"}:
        assert f"{setting}:" in redis_memo.configure.__doc__, setting


def test_the_tests_on_the_page_about_testing_pass(tmp_path: Path) -> None:
    """With either of its fixtures, and not because nothing was collected; an outage is for a server of one's own."""
    blocks = BLOCK.findall((ROOT / "docs" / "testing.md").read_text())
    files = {FILE.match(block)[1]: block for block in blocks}
    one_server = files.pop("one_server/conftest.py")
    shared = {name: block for name, block in files.items() if name != "test_outage.py"} | {"conftest.py": one_server}
    for folder, project in (("each", files), ("one", shared)):
        (tmp_path / folder).mkdir()
        for name, block in project.items():
            (tmp_path / folder / name).write_text(block)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"],
            cwd=tmp_path / folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / folder}"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{sum(block.count('def test_') for block in project.values())} passed" in done.stdout


def test_the_steps_of_moving_in_can_be_followed(tmp_path: Path) -> None:
    """Each command of the page, in its order, on what the old service left; at the end all is as it was."""
    steps, _, _ = (ROOT / "docs" / "migration.md").read_text().partition("## What can be migrated")
    commands = [shlex.split(line, comments=True)[1:] for line in re.findall(r"^redis-memo migrate .*", steps, re.M)]
    folder = tmp_path / "moving"
    shutil.copytree(ROOT / "examples" / "migration", folder, ignore=shutil.ignore_patterns("__pycache__"))
    url = f"embedded://{tmp_path / 'server'}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "REDIS_MEMO_URL": url}
    server = redis_memo.connect(url)
    server.clear("stock_data")  # from here on the server is used, and does not end with each command

    def run(*command: str) -> str:
        command = (sys.executable, *command)
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=120, env=environment, check=False
        )
        assert done.returncode == 0 or "--infer" in command, done.stderr  # what it guesses, it does not call done
        return done.stdout

    assert "6 histories" in run("old_service.py")
    before = {path.name: path.read_bytes() for path in (folder / "cache").iterdir()}
    said = [run("-m", "redis_memo", *command) for command in commands]
    server.close()
    proposed, _, *done = said
    assert 'index = "date"' in proposed
    assert 'tz = "dateutil:+05:30"' in (folder / "proposed.toml").read_text()
    expected = ["6 ready", "6 ready", "6 migrated", "3 migrated", "6 moved", "6 restored"]
    assert [told in each for told, each in zip(expected, done, strict=True)] == [True] * 6
    assert {path.name: path.read_bytes() for path in (folder / "cache").iterdir()} == before


REFERENCE = ROOT / "docs" / "reference.py"


def test_the_reference_is_that_of_the_code() -> None:
    """Nothing on it is written by hand, and nothing on it is older than a docstring."""
    written = runpy.run_path(str(REFERENCE))["text"]()
    assert REFERENCE.with_suffix(".md").read_text() == written, "write it anew: python docs/reference.py"


def test_the_reference_names_what_is_read_from_the_environment() -> None:
    library = [path for path in (ROOT / "redis_memo").glob("*.py") if not path.name.startswith(("_cli", "_adopt"))]
    read = {name for path in library for name in re.findall(r'"(REDIS_[A-Z_]+)"', path.read_text())}
    assert read == set(runpy.run_path(str(REFERENCE))["ENVIRONMENT"])


def example(name: str) -> str:
    """What an example prints; it must end well and complain of nothing."""
    home = tempfile.mkdtemp(prefix="rm")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REDIS")} | {"HOME": home}
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(ROOT / "examples" / name)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_example_of_stale_results_tells_its_story() -> None:
    """Served past the expiry at once, computed anew behind; served while the broker is down; found by tag."""
    said = example("stale.py")
    assert re.search(r"past its expiry, served at once +83\.12", said), said
    assert re.search(r"the new one +83\.15", said)
    assert re.search(r"down, and past the expiry +1412\.95", said)
    assert "removed 1 entry" in said


def test_the_example_of_a_market_day_tells_its_story() -> None:
    """Closed hours cost one request, special sessions are met, and a backtest does not see the live price."""
    said = example("market_day.py")
    assert re.search(r"that night, to Saturday noon +1200 +1 +46\d", said), said  # MCX trades on to 23:45
    assert re.search(r"election day .* 1440 +1 +4\d\d", said)
    assert re.search(r"a budget +1440 +4\d\d +5\d\d", said)
    assert "lives 2d13h, until Mon 2026-07-13 09:00:00 IST" in said
    assert said.count("the live price was seen: False") == 2


def test_the_example_tells_its_story() -> None:
    """Misses, then hits, then another process that sends Kite nothing."""
    said = example("quickstart.py")
    assert re.search(r"history +10 +5 +5 +5", said), said
    assert "requests it sent to Kite: 0" in said
    assert "removed 1 entry" in said
    assert "15 calls of history() cost 6 requests" in said


def test_the_example_of_a_shared_dict_tells_its_story() -> None:
    """One line changed: three processes fetch once, and a fourth finds it all."""
    said = example("data_cache.py")
    assert re.findall(r"process \d +(\d) +(\d)", said) == [("5", "5"), ("5", "0"), ("5", "0")], said
    assert "5 prices, the first is that of INFY" in said
    assert "by the manager: {'last_price': 104.0}" in said


def test_the_example_of_quotes_tells_its_story() -> None:
    """One request for what is missing, and an error only where the broker has no answer."""
    said = example("quotes.py")
    assert re.search(r"nothing is stored +499 quotes .* requests so far: \[500\]", said), said
    assert re.search(r"490 of 500 are stored +499 quotes .* requests so far: \[500, 11\]", said)
    assert "['BatchError']" in said


def test_the_example_of_columns_tells_its_story() -> None:
    """Smaller than gzip, and the columns that were asked for."""
    said = example("columns.py")
    pickled, gzipped, stored = (
        int(number.replace(",", "")) for number in re.findall(r"([\d,]+\d)(?= bytes as| with gzip| here)", said)
    )
    assert stored < gzipped * 0.42 < pickled * 0.42
    assert "two columns: (50000, 2)" in said
