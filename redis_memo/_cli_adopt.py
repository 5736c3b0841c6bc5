"""``redis-memo adopt``: the private caches of a code base, what each would become, and the sure ones replaced."""

from __future__ import annotations

import argparse
import gc
import io
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ._adopt import Report, survey, write
from ._adopt_finding import Lifetime
from ._console import Exit, counted, note, say, say_json
from ._durations import EXAMPLES, parse_duration
from .errors import ConfigurationError

if TYPE_CHECKING:
    from ._adopt_finding import Finding

__all__ = ["NAME", "SUMMARY", "add_arguments", "run"]

NAME = "adopt"
SUMMARY = "find the private caches of a code base, and replace the sure ones"

_EXAMPLES = """examples:
  redis-memo adopt src                    what was found, and a diff of what is sure; writes nothing
  redis-memo adopt src --ttl 6h --apply   replace the sure ones
  redis-memo adopt src --check            exit code 1 while sure ones are left, for CI
  redis-memo adopt src --json

confidence:
  sure     everything that matters is known; --apply replaces it
  likely   a cache that can move; the risks say what a person has to look at
  look     something that looks like one
  alone    a cache that better stays where it is

A comment "# redis-memo: keep" on a cache's lines, or on the line before, silences it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what it takes."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("path", metavar="PATH", nargs="?", default=".", help="a folder or a file (default: here)")
    parser.add_argument(
        "--ttl", metavar="DURATION", type=_lifetime, default=Lifetime('"1d"', chosen=False),
        help="expiry of caches that have none (default: 1d, marked as to be chosen)",
    )  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--apply", action="store_true", help="replace what is sure, in the files")
    how.add_argument("--check", action="store_true", help="exit with 1 if anything sure is left")
    parser.add_argument("--json", action="store_true", help="for machines")


def _lifetime(text: str) -> Lifetime:
    try:
        seconds = parse_duration(text)
    except ConfigurationError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; write {EXAMPLES}") from None
    plain = re.fullmatch(r"[0-9]+", text)
    return Lifetime(f"{seconds:.0f}" if plain else f'"{" ".join(text.split())}"', chosen=True)


def run(args: argparse.Namespace) -> Exit:
    """Search, and say or write."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # other people's code, on whatever terminal
    gc.disable()  # syntax trees are many objects without cycles: looking for some took a quarter of the time
    try:
        report = survey(Path(args.path).expanduser(), args.ttl)
    finally:
        gc.enable()
    failed: list[str] = []
    written: list[str] = []
    if args.apply:
        for change in report.changes:
            try:
                write(change)
                written.append(change.source.shown)
            except ConfigurationError as error:
                failed.append(str(error))
    if args.json:
        _say_json(report, written, failed)
    else:
        _say(report, diff=not args.check)
        for shown in written:
            say(f"rewrote {shown}")
    for failure in failed:
        note(f"redis-memo adopt: {failure}")
    if failed:
        return Exit.FAILED
    return Exit.ATTENTION if args.check and report.sure() else Exit.OK


def _say_json(report: Report, written: list[str], failed: list[str]) -> None:
    say_json(
        {
            "files": report.files,
            "findings": [each.as_json() for each in report.findings],
            "kept": report.kept,
            "unreadable": [{"file": shown, "reason": reason} for shown, reason in report.unreadable],
            "diff": "".join(change.diff() for change in report.changes),
            "written": written,
            "failed": failed,
        }
    )


def _say(report: Report, *, diff: bool) -> None:
    for finding in report.findings:
        _say_finding(finding)
    for shown, reason in report.unreadable:
        say(f"{shown}: not read: {reason}\n")
    if diff and report.changes:
        for change in report.changes:
            say(change.diff().removesuffix("\n"))
        say()
    counts = Counter(each.confidence for each in report.findings)
    said = ", ".join(f"{counts[each]} {each}" for each in ("sure", "likely", "look", "alone") if counts[each]) or "none"
    kept = f"; {report.kept} silenced by a comment" if report.kept else ""
    unread = f"; {counted(len(report.unreadable), 'file', 'files')} could not be read" if report.unreadable else ""
    say(f"{counted(report.files, 'file', 'files')}, private caches: {said}{kept}{unread}")


def _say_finding(finding: Finding) -> None:
    say(f"{finding.source.shown}:{finding.line}: {finding.confidence}: {finding.kind}: {finding.name}")
    if finding.holder:
        say(f"    holds    {finding.holder}")
    say(f"    becomes  {finding.becomes}")
    for risk in finding.risks:
        say(f"    {risk.code}: {risk.text}")
    say()
