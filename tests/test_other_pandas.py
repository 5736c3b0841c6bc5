"""P2 across major versions of pandas: what was stored under one is read under the other, and never as something else.

The other version lies in a folder (``tests/other_pandas.sh``) that a child process has before all others on its path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from redis_memo._codecs import dumps
from tests import pandas_values
from tests.strategies import STRATEGIES, same

ROOT = Path(__file__).parent.parent
OTHER = Path(sys.prefix) / "other-pandas"


@pytest.fixture
def other() -> Any:
    """Runs ``tests.pandas_values`` under the other version and returns what it reports."""
    if not (OTHER / ".ready").exists():
        pytest.skip("NO OTHER pandas HERE: values were not read under two major versions (sh tests/other_pandas.sh)")

    def run(todo: str, url: str, namespace: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.pandas_values", todo, url, namespace],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{OTHER}{os.pathsep}{ROOT}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["pandas"].partition(".")[0] != pd.__version__.partition(".")[0], "the same major version twice"
        found: dict[str, Any] = report["done"]
        return found

    return run


def test_what_the_other_version_wrote_is_read_here(other, valkey_server, namespace: str) -> None:
    """P2: frames, series, indexes and scalars of every kind."""
    assert other("write", valkey_server.url, namespace) == {"refused": 0}
    assert {
        name: found for name, found in pandas_values.read(valkey_server.url, namespace).items() if found is not True
    } == {}


def test_what_was_written_here_is_read_by_the_other_version(other, valkey_server, namespace: str) -> None:
    """P2, the other way round."""
    assert pandas_values.write(valkey_server.url, namespace) == {"refused": 0}
    assert {
        name: found for name, found in other("read", valkey_server.url, namespace).items() if found is not True
    } == {}


def test_what_went_through_the_other_version_comes_back(other, valkey_server, namespace: str) -> None:
    """P2: any value of pandas, read and stored again by the other version, is what it was; or is missing there."""
    kinds = [strategy for name, strategy in sorted(STRATEGIES.items()) if name.startswith("pd.")]
    sent: list[Any] = []

    @seed(20260201)
    @settings(
        max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
    )
    @given(st.one_of(kinds))
    def collect(value: Any) -> None:
        sent.append(value)

    collect()
    stored = pandas_values.memo(valkey_server.url, namespace)
    for number, value in enumerate(sent):
        stored.store(value, str(number))
    stored.store(len(sent), "count")
    report = other("echo", valkey_server.url, namespace)
    wrong = {}
    for number, value in enumerate(sent):
        if report[str(number)] != "read":
            if (
                b"dateutil.tzfile" not in dumps(value, allow_pickle=False).meta
            ):  # which pandas 2 may not know how to use
                wrong[number] = f"unreadable there: {type(value).__name__}"
        elif same(value, back := stored.peek(str(number), 1)) is not True:
            wrong[number] = f"{same(value, back)}: {type(value).__name__}"
    assert wrong == {}


def test_p1_an_argument_has_one_key_under_both(other, namespace: str) -> None:
    """P1: the same content, spelled out, is the same argument."""
    here = pandas_values.keys("", namespace)
    there = other("keys", "redis://unused", namespace)
    assert [name for name in here if here[name] != there[name]] == []
