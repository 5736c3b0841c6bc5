"""P8: type checkers see a decorated function as it was. ``typing/api.py`` says what they must see and refuse."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
API = ROOT / "tests" / "typing" / "api.py"


def run(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr


def need(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} IS NOT INSTALLED: what it makes of the types was not checked")


def test_mypy_strict_sees_the_decorated_signatures() -> None:
    need("mypy")
    run("mypy", "--strict", "--follow-imports=silent", "--no-error-summary", str(API))


def test_pyright_strict_sees_the_decorated_signatures() -> None:
    need("pyright")
    # The Python package fetches the checker itself when it first runs; without a network there is none.
    ready = subprocess.run(
        [sys.executable, "-m", "pyright", "--version"], capture_output=True, check=False, timeout=170
    )
    if ready.returncode:
        pytest.skip("PYRIGHT CANNOT BE FETCHED HERE: what it makes of the types was not checked")
    run("pyright")


def test_every_call_that_must_be_refused_is_asserted() -> None:
    """The file holds wrong calls; an ``ignore`` that is not needed is an error of both checkers."""
    wrong = [line for line in API.read_text().splitlines() if "# type: ignore[" in line]
    assert len(wrong) >= 25
    assert all("# pyright: ignore[" in line for line in wrong)
