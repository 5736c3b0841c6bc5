"""What the commands of ``redis-memo`` have in common: exit codes, and saying an answer as text or as JSON."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from .errors import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = [
    "Command", "Exit", "confirmed", "counted", "duration_text", "note", "save", "say", "say_json", "shown", "size_text",
    "table", "usage",
]  # fmt: skip


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


def counted(number: int, one: str, more: str) -> str:
    """A number of things: ``"1 entry"``, ``"2,000 entries"``."""
    return f"{number:,} {one if number == 1 else more}"


def note(text: str) -> None:
    """Print a remark that is not part of the answer, so that the answer can go into a file or a pipe."""
    print(text, file=sys.stderr)  # noqa: T201


def save(path: Path, text: str, *, force: bool) -> None:
    """Write an answer into a file; one that is there already is replaced only where that was asked for.

    Raises:
        ConfigurationError: It is there, or cannot be written.
    """
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already; --force replaces it") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def usage(text: str) -> NoReturn:
    """Say what is wrong with the command line, and end as argparse does."""
    note(f"redis-memo: {text}")
    raise SystemExit(Exit.USAGE)


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask before something is destroyed.

    Args:
        question: What is to be done, without a question mark's options.
        yes: It was confirmed on the command line.

    Returns:
        Whether to do it. Where nobody can be asked, as in a pipe or under cron, it is not done.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        note(f"{question} Nobody can be asked here: --yes says so beforehand. Nothing was done.")
        return False
    note(f"{question} [y/N]")
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    note("Nothing was done.")
    return False


def shown(text: str) -> str:
    """A name that others may have written, fit for a terminal: control characters are spelt out."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def size_text(size: float) -> str:
    """Bytes for people: ``"1.4 MB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration_text(seconds: float | None) -> str:
    """Seconds for people: ``"2d 3h"``, at most two units."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    left, parts = round(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


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
