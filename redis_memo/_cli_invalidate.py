"""``redis-memo invalidate``: delete the entries of all calls with certain arguments, and revoke their computations."""

from __future__ import annotations

import argparse

from ._cli_target import add_server, find_function
from ._console import Exit, confirmed, counted, note, say, say_json, usage
from ._listing import asking, count_matching

__all__ = ["NAME", "SUMMARY", "add_arguments", "run"]

NAME = "invalidate"
SUMMARY = "delete the entries of the calls that have certain arguments"

_EXAMPLES = """examples:
  redis-memo invalidate pkg.mod:history symbol=RELIANCE              every call for RELIANCE; asks first
  redis-memo invalidate pkg.mod:history symbol=RELIANCE interval=day --yes
  redis-memo invalidate pkg.mod:history symbol=RELIANCE --dry-run    how many there are

All arguments given mean one call, some of them every call that has them. After it has ended, no call that starts later
gets a value that was computed before. Every entry of a function: redis-memo clear pkg.mod:history
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what it takes."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("function", metavar="MODULE:FUNCTION")
    parser.add_argument("arguments", nargs="+", metavar="NAME=TEXT", help="or NAME:=LITERAL")
    parser.add_argument("--dry-run", action="store_true", help="say how many entries would go, and delete none")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="for machines")
    add_server(parser)


def run(args: argparse.Namespace) -> Exit:
    """Count, ask, delete."""
    target = find_function(args, args.function)
    given = target.named_arguments(args.arguments)
    try:
        flow = target.invalidation(given)
        match = target.memo.callkey.match(target.bound_arguments(given))
    except TypeError as error:
        usage(str(error))
    with asking(target.engine) as look:
        if match.digest is not None:
            key = target.memo.prefix_of(match.digest) + match.digest
            count = int(look.at(key).exists(key))
        else:
            count = sum(count_matching(look, prefix, match.tokens) for prefix in target.memo.prefixes)
    facts = {"function": target.memo.shown, "server": target.engine.backend.where, "arguments": sorted(given)}
    entries = counted(count, "entry", "entries")
    if args.dry_run:
        if args.json:
            say_json({**facts, "would_remove": count})
        else:
            say(f"would remove {entries} of {args.function} in {target.engine.backend.where}")
        return Exit.OK
    # With no entry there may be a computation to revoke, which destroys nothing.
    question = f"Remove {entries} of {args.function} in {target.engine.backend.where}?"
    if count and not confirmed(question, yes=args.yes):
        return Exit.FAILED
    gone = int(target.engine.run(flow))
    if args.json:
        say_json({**facts, "removed": gone})
    else:
        say(f"removed {counted(gone, 'entry', 'entries')}")
        note("what was being computed for them will not be stored")
    return Exit.OK
