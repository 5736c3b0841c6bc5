"""``redis-memo migrate``: what an old cache holds becomes entries that a decorated function hits, and can go back."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ._console import Exit, counted, note, save, say, say_json, table, usage
from ._durations import format_duration
from ._migrate_calls import Target
from ._migrate_infer import infer
from ._migrate_journal import Journal
from ._migrate_rules import Rules, named_object, read_rules, with_options
from ._migrate_run import migrate
from ._migrate_sources import KINDS_OF_SOURCES, find
from ._migrate_undo import clean_up, roll_back
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._migrate_infer import Proposal
    from ._migrate_plan import Outcome
    from ._migrate_run import Report

__all__ = ["NAME", "SUMMARY", "add_arguments", "run"]

NAME = "migrate"
SUMMARY = "bring an old cache's results along, so that a decorated function hits them"
_SHOWN: Final = 20
_EVERY: Final = 2.0

_EXAMPLES = """examples:
  redis-memo migrate cache/ service:get_history --infer -o map.toml    propose a mapping, to be looked at
  redis-memo migrate cache/ --map map.toml                             say what would be done
  redis-memo migrate cache/ --map map.toml --apply                     do it; once more goes on where it was cut off
  redis-memo migrate cache/ --map map.toml --cleanup                   move what was verified to cache.migrated/
  redis-memo migrate rollback cache/ service:get_history               files and Redis as they were
  redis-memo migrate redis://localhost/0 service:get_history --files 'cache:historical:*' --trust

The function is named as package.module:function; its module says which Redis it uses.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what it takes: `run`, which may be left out, and `rollback`."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    start = actions.add_parser("run", help="migrate (what is done where no action is named)", description=SUMMARY)
    back = actions.add_parser(
        "rollback",
        usage="redis-memo migrate rollback [-h] [--json] (SOURCE FUNCTION | SOURCE --map FILE | --manifest FILE)",
        help="put files and Redis back, by the manifest",
        description="Undo it. The manifest is the one beside the source, of that function, unless it is named.",
    )
    for each in (start, back):
        few: dict[str, Any] = {} if each is start else {"nargs": "?"}
        each.add_argument("source", metavar="SOURCE", help="a folder, a file, or the URL of a Redis", **few)
        each.add_argument(
            "function", metavar="FUNCTION", nargs="?", help="package.module:function, if the mapping names none"
        )
        each.add_argument("--map", metavar="FILE", help="the mapping, as TOML")
        each.add_argument(
            "--manifest", metavar="FILE", help="default: SOURCE.FUNCTION.migration.jsonl beside the source"
        )
        each.add_argument("--json", action="store_true", help="for machines")
    what = start.add_mutually_exclusive_group()
    what.add_argument("--apply", action="store_true", help="do it; otherwise it is only said what would be done")
    what.add_argument("--infer", action="store_true", help="propose a mapping and say how sure it is")
    what.add_argument("--cleanup", action="store_true", help="move the files of verified items to the archive")
    start.add_argument(
        "--trust", action="store_true", help="open pickles, which run code: only if you know their origin"
    )
    start.add_argument("--workers", metavar="N", type=_workers, default=4, help="threads (default: 4)")
    start.add_argument(
        "--check",
        metavar="N",
        type=_some,
        default=0,
        help="run the function itself for N items, and compare (with --infer: learn from them); asks its source",
    )
    start.add_argument("--archive", metavar="DIR", help="for --cleanup; default: SOURCE.migrated beside the source")
    start.add_argument("-o", "--output", metavar="FILE", help="for --infer: where to write the mapping")
    start.add_argument("--force", action="store_true", help="replace an OUTPUT that is there")
    start.add_argument("--kind", choices=KINDS_OF_SOURCES, help="how the source is read (default: by its looks)")
    start.add_argument("--files", metavar="GLOB", help="only these: '*.csv', 'cache:historical:*'")
    start.add_argument("--pattern", metavar="TEXT", help="fields in names: '{symbol}_{interval}.csv'")
    start.add_argument(
        "--metadata", metavar="FILE", help="fields beside the files, within the folder; or '{stem}.meta.json'"
    )
    start.add_argument("--call", metavar="M:F", help="a function from an item's fields to the arguments")
    start.add_argument("--calls", metavar="M:F", help="a function that gives all calls that there may be")
    start.add_argument("--name", metavar="M:F", help="the old cache's function from a call's fields to an item's name")
    start.add_argument("--reader", metavar="M:F", help="a function from a file's path (or bytes) to the value")
    start.add_argument("--value", metavar="PATH", help="where in a document the value stands: 'data', '0'")
    start.add_argument("--created", metavar="FIELD", help="the field with the moment of creation")
    start.add_argument("--created-zone", metavar="ZONE", help="zone of such moments that state none")
    start.add_argument("--csv-index", metavar="COLUMN", help="the column that was the frame's index, or none")
    start.add_argument("--csv-dates", metavar="COLUMNS", help="columns of dates, with commas between")
    start.add_argument("--csv-tz", metavar="ZONE", help="zone of the dates: Asia/Kolkata, pytz:..., dateutil:+05:30")
    start.add_argument("--table", metavar="NAME", help="of a SQLite file")
    start.add_argument("--column", metavar="NAME", help="the table's column with the value")


_OPTIONS: Final = (
    "files", "pattern", "metadata", "call", "calls", "name", "reader", "value", "created", "created_zone", "table",
    "column",
)  # fmt: skip


def _workers(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError("a number of threads from 1 to 64")
    return int(text)


def _some(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError("a number of items")
    return int(text)


def run(args: argparse.Namespace) -> Exit:
    """Plan, migrate, infer, clean up, or roll back."""
    with contextlib.redirect_stdout(sys.stderr):  # what a user's module prints is no part of the answer
        rules = _rules(args)
        if args.action == "rollback" and args.manifest is not None:
            with Journal(Path(args.manifest), create=False) as journal:
                target = _target(args, rules.function or journal.past.began.get("function"))
        else:
            target = _target(args, rules.function)
    if args.source is None and args.manifest is None:
        usage("name the source, or the manifest with --manifest")
    manifest = _beside(args.source, f".{target.name}.migration.jsonl") if args.manifest is None else Path(args.manifest)
    if args.action == "rollback":
        return _roll_back(args, manifest, target)
    if args.infer:
        return _infer(args, target, rules)
    if args.cleanup:
        return _clean_up(args, manifest, target)
    with contextlib.redirect_stdout(sys.stderr):
        source = find(args.source, rules, kind=args.kind, trust=args.trust, parameters=target.parameters)
        with Journal(manifest, create=True) if args.apply else contextlib.nullcontext() as journal:
            report = migrate(
                source,
                target,
                rules,
                journal,
                trust=args.trust,
                workers=args.workers,
                check=args.check,
                progress=_Progress().tell,
            )
    return _say_report(args, report, target, manifest)


def _target(args: argparse.Namespace, otherwise: str | None) -> Target:
    """The function of the command line, else the one of the mapping or the manifest."""
    shown = args.function or otherwise
    if shown is None:
        last = ", or the manifest with --manifest" if args.action == "rollback" else ""
        usage(
            f"name the function: package.module:function after the source, or function= in the mapping of --map{last}"
        )
    try:
        return Target(named_object(shown, "the function"), shown)
    except ConfigurationError as error:
        cause = error.__cause__
        absent = isinstance(cause, ModuleNotFoundError) and f"{shown.partition(':')[0]}.".startswith(f"{cause.name}.")
        if args.function and (cause is None or absent):  # else the module's own code failed
            usage(str(error))
        raise


def _rules(args: argparse.Namespace) -> Rules:
    rules = Rules() if args.map is None else read_rules(Path(args.map).expanduser())
    if args.action == "rollback":
        return rules
    rules = with_options(rules, {name: getattr(args, name) for name in _OPTIONS}, "the command line")
    frame = rules.frame
    if args.csv_index is not None:
        frame = replace(frame, index=False if args.csv_index == "none" else args.csv_index)
    if args.csv_dates is not None:
        frame = replace(frame, dates=args.csv_dates.split(","))
    if args.csv_tz is not None:
        frame = replace(frame, tz=args.csv_tz)
    return replace(rules, frame=frame)


def _beside(source: str, ending: str) -> Path:
    """A path beside the source, never within it."""
    if "://" in source:
        return Path(f"redis{ending}").absolute()
    path = Path(source).expanduser().absolute()
    return path.with_name(path.name + ending)


class _Progress:
    """Says how far it is, now and then."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _EVERY

    def tell(self, done: int, total: int) -> None:
        """Heed that some are done."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            note(f"{done} of {total}")


# ------------------------------------------------------------------------------------------------------------ answers


def _say_report(args: argparse.Namespace, report: Report, target: Target, manifest: Path) -> Exit:
    counts = _counts(report.outcomes)
    code = Exit.ATTENTION if report.failed else Exit.OK
    if args.json:
        say_json({
            "function": target.shown, "applied": args.apply, "manifest": str(manifest) if args.apply else None,
            "counts": counts, "compared": report.compared, "equal": report.equal,
            "items": [_as_json(outcome) for outcome in report.outcomes],
        })  # fmt: skip
        return code
    fit = [each for each in report.outcomes if each.key and not each.why]
    table(
        ("item", "", "bytes", "left", "key"),
        [(each.item, each.state, f"{each.size:,}", _left(each), each.key) for each in fit[:_SHOWN]],
    )
    if len(fit) > _SHOWN:
        say(f"  ... and {len(fit) - _SHOWN} more (all of them with --json)")
    _say_left(report.outcomes)
    size = sum(each.size for each in fit)
    say(f"\n{', '.join(f'{count} {state}' for state, count in counts.items()) or 'nothing there'}; {size:,} bytes")
    if args.check:
        of_them = "all" if report.equal == report.compared else report.equal
        equal = f", {of_them} equal" if report.compared else ""
        say(f"compared with what {target.shown} returns: {counted(report.compared, 'item', 'items')}{equal}")
    if not args.apply:
        say("nothing was changed; --apply does it")
    else:
        say(f"manifest: {manifest}")
    return code


def _say_left(outcomes: Sequence[Outcome]) -> None:
    left = [each for each in outcomes if each.why]
    if left:
        say("\nleft where they are:")
        for each in left:
            say(f"  {each.item}: {each.why}")


def _left(outcome: Outcome) -> str:
    """What an entry has left, in its two largest units or so."""
    unit = next(unit for at, unit in ((86400, 3600), (3600, 60), (0, 1)) if outcome.remaining >= at)
    return format_duration(outcome.remaining // unit * unit) if outcome.remaining >= 1 else ""


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.state] = counts.get(outcome.state, 0) + 1
    return counts


def _as_json(outcome: Outcome) -> dict[str, Any]:
    created = datetime.fromtimestamp(outcome.created, UTC) if outcome.created else None
    return {**asdict(outcome), "created": created}


def _clean_up(args: argparse.Namespace, manifest: Path, target: Target) -> Exit:
    archive = _beside(args.source, ".migrated") if args.archive is None else Path(args.archive).expanduser().absolute()
    with Journal(manifest, create=False) as journal:
        if not journal.past.began:
            raise ConfigurationError(f"the manifest {manifest} tells of no migration to clean up after")
        report = clean_up(journal, archive)
    return _say_undone(args, report, target, manifest, f"files moved to {archive}")


def _roll_back(args: argparse.Namespace, manifest: Path, target: Target) -> Exit:
    with Journal(manifest, create=False) as journal:
        report = roll_back(journal, target)
    return _say_undone(args, report, target, manifest, "rolled back")


def _say_undone(args: argparse.Namespace, report: Report, target: Target, manifest: Path, done: str) -> Exit:
    counts = _counts(report.outcomes)
    code = Exit.ATTENTION if report.count("failed") else Exit.OK
    if args.json:
        items = [{"item": each.item, "state": each.state, "why": each.why} for each in report.outcomes]
        say_json({"function": target.shown, "manifest": str(manifest), "counts": counts, "items": items})
        return code
    for each in report.outcomes:
        if each.why:
            say(f"  {each.item}: {each.state}, {each.why}")
    said = ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing to be done"
    say(f"{done if code is Exit.OK else 'not all could be done'}: {said}")
    return code


def _infer(args: argparse.Namespace, target: Target, rules: Rules) -> Exit:
    proposal, source = infer(args.source, target, rules, kind=args.kind, trust=args.trust, check=args.check)
    code = Exit.OK if proposal.level in ("sure", "likely") else Exit.ATTENTION
    if args.output is not None:
        save(Path(args.output).expanduser(), proposal.text, force=args.force)
    if args.json:
        say_json({
            "function": target.shown, "source": source.kind, "level": proposal.level, "items": proposal.total,
            "with_a_call": proposal.fitting, "distinct_calls": proposal.distinct, "obstacle": proposal.obstacle,
            "guesses": [asdict(guess) for guess in proposal.guesses], "mapping": proposal.text, "output": args.output,
        })  # fmt: skip
        return code
    _say_proposal(args, proposal)
    return code


def _say_proposal(args: argparse.Namespace, proposal: Proposal) -> None:
    if args.output is None:
        say(proposal.text.rstrip())
    said = f"{proposal.level}: {proposal.fitting} of {proposal.total} items get a call by it"
    note(said + (f", {proposal.distinct} different ones" if proposal.distinct < proposal.fitting else ""))
    for guess in proposal.guesses:
        note(f"  {guess.level:7} {guess.what} from {guess.how}: {guess.why}")
    if proposal.obstacle:
        note(f"the first that gets none: {proposal.obstacle}")
    if args.output is not None:
        note(f"look through {args.output}, then: redis-memo migrate {args.source} --map {args.output}")
