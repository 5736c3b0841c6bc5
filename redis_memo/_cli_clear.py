"""``redis-memo clear``: delete every entry of a function or of a namespace, and nothing else that the server holds."""

from __future__ import annotations

import argparse
import itertools

from . import _entries as entries
from . import _ops as ops
from ._cli_hints import of_scripts, without_functions
from ._cli_target import add_server, engine_of, find_function
from ._console import Exit, confirmed, counted, note, say, say_json, shown
from ._listing import asking, count_matching, of_one_function, place_of, prefixes, unlisted

__all__ = ["NAME", "SUMMARY", "add_arguments", "run"]

NAME = "clear"
SUMMARY = "delete every entry of a function or of a namespace"

_EXAMPLES = """examples:
  redis-memo clear pkg.mod:history            every entry of a function; asks first
  redis-memo clear stock_data --dry-run       how many entries a namespace has
  redis-memo clear stock_data --scan --yes    also those that no index lists, as after allkeys-* evictions

Keys of other applications are never touched.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what it takes."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", metavar="NAMESPACE|MODULE:FUNCTION")
    parser.add_argument("--scan", action="store_true", help="look through all keys for entries that no index lists")
    parser.add_argument("--dry-run", action="store_true", help="say how many entries would go, and delete none")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="for machines")
    add_server(parser)


def run(args: argparse.Namespace) -> Exit:
    """Count, ask, delete."""
    memo = None
    if ":" in args.what:
        target = find_function(args, args.what)
        engine, memo = target.engine, target.memo
        with asking(engine) as look:
            # Also what was stored while it stated another number of shards: nothing else would ever look for that.
            others = of_one_function(memo.prefix, prefixes(look, memo.namespace, scan=args.scan))
        listed = {*memo.prefixes, *others}
    else:
        engine = engine_of(args)
        with asking(engine) as look:
            listed = {*prefixes(look, args.what, scan=args.scan)}
    found = sorted(listed, key=lambda prefix: (prefix.rpartition("#")[0], place_of(prefix)))
    with asking(engine) as look:
        counts = {prefix: count_matching(look, prefix, ()) for prefix in found}
        lost = unlisted(look, found) if args.scan else {prefix: set() for prefix in found}
        count = sum(counts.values()) + sum(map(len, lost.values()))
        if not found:
            note(f"in {engine.backend.where}: {without_functions(look, args.what)}")
        elif memo is not None and not count:
            for hint in of_scripts(look, memo):
                note(hint)
    said = counted(count, "entry", "entries")
    functions = [list(own) for _, own in itertools.groupby(found, lambda prefix: prefix.rpartition("#")[0])]
    done = Exit.OK if found else Exit.ATTENTION  # a namespace without functions is likely not the one that was meant
    facts = {"what": args.what, "server": engine.backend.where, "functions": len(functions)}
    if args.dry_run:
        rows = [(own, sum(counts[each] for each in own), sum(len(lost[each]) for each in own)) for own in functions]
        if args.json:
            by_function = [
                {"prefix": own[0], "shards": len(own), "entries": known, "unlisted": strays}
                for own, known, strays in rows
            ]
            say_json({**facts, "would_remove": count, "by_function": by_function})
        else:
            for own, known, strays in rows:
                say(f"  {known + strays:>10,}  {shown(own[0])}" + (f" and {len(own) - 1:,} more" if own[1:] else ""))
            say(f"would remove {said} in {engine.backend.where}")
        return done
    if count and not confirmed(f"Remove {said} of {args.what} in {engine.backend.where}?", yes=args.yes):
        return Exit.FAILED
    gone = int(engine.run(_clearing(found, lost)))
    if args.json:
        say_json({**facts, "removed": gone})
    else:
        say(f"removed {counted(gone, 'entry', 'entries')}")
    return done


def _clearing(found: list[str], lost: dict[str, set[str]]) -> ops.Flow:
    drops = [ops.Drop(ops.Place(prefix, digest, b"")) for prefix in found for digest in sorted(lost[prefix])]
    total = yield from entries.drop_matching(found, b"")
    return total + sum((yield from entries.together(drops)))
