"""``redis-memo clear``: delete every entry of a function or of a namespace, and nothing else that the server holds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import _entries as entries
from . import _ops as ops
from ._cli_target import add_server, cache_of, find_function
from ._console import Exit, confirmed, say, say_json, shown
from ._listing import asking, count_matching, prefixes, unlisted

if TYPE_CHECKING:
    from ._cache import Cache

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
    if ":" in args.what:
        target = find_function(args, args.what)
        cache, found = target.cache, list(target.memo.prefixes)
    else:
        cache = cache_of(args)
        with asking(cache) as client:
            found = sorted(prefixes(client, args.what, scan=args.scan))
    counts, lost = {}, {}
    for prefix in found:
        with asking(cache, prefix) as client:
            counts[prefix] = count_matching(client, prefix, ())
            lost[prefix] = list(unlisted(client, prefix)) if args.scan else []
    count = sum(counts.values()) + sum(map(len, lost.values()))
    said = "1 entry" if count == 1 else f"{count:,} entries"
    facts = {"what": args.what, "server": cache.backend.where, "functions": len(found)}
    if args.dry_run:
        if args.json:
            listed = [{"prefix": prefix, "entries": counts[prefix], "unlisted": len(lost[prefix])} for prefix in found]
            say_json({**facts, "would_remove": count, "by_function": listed})
        else:
            for prefix in found:
                say(f"  {counts[prefix] + len(lost[prefix]):>10,}  {shown(prefix)}")
            say(f"would remove {said} in {cache.backend.where}")
        return Exit.OK
    if count and not confirmed(f"Remove {said} of {args.what} in {cache.backend.where}?", yes=args.yes):
        return Exit.FAILED
    gone = sum(_cleared(cache, prefix, lost[prefix]) for prefix in found)
    if args.json:
        say_json({**facts, "removed": gone})
    else:
        say(f"removed {'1 entry' if gone == 1 else f'{gone:,} entries'}")
    return Exit.OK


def _cleared(cache: Cache, prefix: str, lost: list[str]) -> int:
    def flow() -> ops.Flow:
        total = yield from entries.drop_matching(prefix, b"")
        for digest in lost:
            total += yield ops.Drop(ops.Place(prefix, digest, b""))
        return total

    return int(cache.run(flow()))
