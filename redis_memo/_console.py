"""What the commands of ``redis-memo`` have in common: exit codes, and saying an answer as text or as JSON."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

__all__ = ["Command", "Exit", "note", "say", "say_json", "table"]


class Exit(IntEnum):
    """How a command ends, for scripts and cron."""

    OK = 0
    ATTENTION = 1
    """It worked, and what it found needs somebody: a calendar that ends soon, an entry that is not there."""
    USAGE = 2
    """The command line is wrong."""
    FAILED = 3
    """It could not be done: a file, a server, a setting."""


class Command(Protocol):
    """A subcommand: a module of its own with these three."""

    NAME: str
    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Say what it takes."""

    def run(self, args: argparse.Namespace) -> Exit:
        """Do it; a `RedisMemoError` is said by the frame."""


def say(text: str = "") -> None:
    """Print a line of the answer."""
    print(text)  # noqa: T201 - a console command


def note(text: str) -> None:
    """Print a remark that is not part of the answer, so that the answer can go into a file or a pipe."""
    print(text, file=sys.stderr)  # noqa: T201


def say_json(answer: Any) -> None:
    """Print the answer for machines: one JSON document, dates as ISO 8601."""
    say(json.dumps(answer, indent=2, default=_plain, ensure_ascii=False))


def _plain(value: object) -> str:
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return str(value)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below their heads, as wide as needed."""
    lines = [list(heads), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        say("  " + "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
