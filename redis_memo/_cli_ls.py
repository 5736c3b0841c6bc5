"""``redis-memo ls``: the namespaces of a server, the functions of a namespace, the entries of a function."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from ._cli_hints import without_functions
from ._cli_target import add_server, engine_of, find_function
from ._clock import now
from ._console import Exit, duration_text, note, say, say_json, shown, size_text, table, usage
from ._listing import FunctionRow, Row, asking, entry_rows, functions, namespaces, place_of

if TYPE_CHECKING:
    from ._engine import Engine

__all__ = ["NAME", "SUMMARY", "add_arguments", "run"]

NAME = "ls"
SUMMARY = "namespaces, the functions of a namespace, or the entries of a function"

_EXAMPLES = """examples:
  redis-memo ls                                   namespaces
  redis-memo ls stock_data                        functions of a namespace
  redis-memo ls stock_data pkg.mod.history        entries of a function, by the name that the line above shows
  redis-memo ls pkg.mod:history --limit 20        the same, of a function that can be imported
  redis-memo ls pkg.mod:history --cursor 1790...  from where the last listing ended
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what it takes."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", nargs="?", metavar="NAMESPACE|MODULE:FUNCTION", help="left out: all namespaces")
    parser.add_argument("function", nargs="?", metavar="FUNCTION", help="a function of that namespace, as ls names it")
    parser.add_argument("--version", metavar="TEXT", help="of the function, where it has several")
    parser.add_argument("--limit", metavar="N", type=int, default=100, help="how many lines (default: 100)")
    parser.add_argument("--cursor", metavar="TEXT", default="", help="go on where the last listing ended")
    parser.add_argument("--json", action="store_true", help="for machines")
    add_server(parser)


def run(args: argparse.Namespace) -> Exit:
    """List."""
    if args.limit < 1:
        usage("--limit takes a number from 1 on")
    if args.what is None:
        return _namespaces(engine_of(args), args)
    if ":" in args.what:
        target = find_function(args, args.what)
        return _entries(target.engine, target.memo.prefixes, args)
    engine = engine_of(args)
    if args.function is None:
        return _functions(engine, args)
    return _entries(engine, _prefixes(engine, args), args)


def _prefixes(engine: Engine, args: argparse.Namespace) -> tuple[str, ...]:
    with asking(engine) as look:
        rows = functions(look, args.what)
        if not rows:
            usage(without_functions(look, args.what))
    found = [r for r in rows if r.name == args.function and args.version in (None, r.version)]
    versions = sorted({row.version for row in found})
    if len(versions) == 1:  # stored under whatever numbers of shards
        return tuple(sorted((prefix for row in found for prefix in row.prefixes), key=place_of))
    if found:
        known = " or ".join(shown(version) or "''" for version in versions)
        usage(f"{args.function} has several versions: --version {known}")
    known = ", ".join(dict.fromkeys(shown(row.name) for row in rows[:20]))
    return usage(f"the namespace has no function of that name; it has {known}")


def _namespaces(engine: Engine, args: argparse.Namespace) -> Exit:
    with asking(engine) as look:
        found, more = namespaces(look, args.cursor, args.limit)
    rows = sorted(found.items())
    if args.json:
        listed = [{"namespace": name, "functions": count} for name, count in rows]
        say_json({"server": engine.backend.where, "namespaces": listed, "cursor": more})
        return Exit.OK
    note(f"in {engine.backend.where}")
    table(("namespace", "functions"), [(shown(name), f"{count:,}") for name, count in rows])
    _more(args, more)
    return Exit.OK


def _functions(engine: Engine, args: argparse.Namespace) -> Exit:
    with asking(engine) as look:
        rows = sorted(functions(look, args.what), key=_name_of)
        if not rows:
            note(f"in {engine.backend.where}: {without_functions(look, args.what)}")
            if not args.json:
                return Exit.ATTENTION
    after = [row for row in rows if _name_of(row) > args.cursor] if args.cursor else rows
    page = after[: args.limit]
    more = _name_of(page[-1]) if len(after) > len(page) else ""
    if args.json:
        listed = [
            {
                "function": row.name, "version": row.version, "entries": row.entries, "written": row.written,
                "prefix": row.prefixes[0], "shards": row.shards,
            }
            for row in page
        ]  # fmt: skip
        say_json({"server": engine.backend.where, "namespace": args.what, "functions": listed, "cursor": more})
        return Exit.OK if rows else Exit.ATTENTION
    note(f"in {engine.backend.where}, namespace {shown(args.what)}")
    spread = any(row.shards > 1 for row in rows)
    table(
        ("function", "version", *(["shards"] if spread else []), "entries", "last noted"),
        [
            (shown(r.name), shown(r.version), *([f"{r.shards:,}"] if spread else []), f"{r.entries:,}", _ago(r.written))
            for r in page
        ],
    )
    _more(args, more)
    return Exit.OK


def _name_of(row: FunctionRow) -> str:
    return f"{row.name}:{row.version}" + (f":{row.shards:04}" if row.shards > 1 else "")


def _ago(written: float | None) -> str:
    return "not in the registry" if written is None else f"{duration_text(max(0.0, now() - written))} ago"


def _entries(engine: Engine, prefixes: tuple[str, ...], args: argparse.Namespace) -> Exit:
    # Shard by shard, each by expiry; the cursor names the one that it is in.
    places = {place_of(prefix): prefix for prefix in prefixes}
    label, _, within = args.cursor.rpartition("/")
    named = re.fullmatch(r"([0-9]+)\.([0-9]+)", label or "0.1")
    place = (int(named[2]), int(named[1])) if named is not None else (0, 0)
    if args.cursor and place not in places:
        usage("the cursor is not one that this listing gave out")
    rows: list[Row] = []
    more = ""
    with asking(engine) as look:
        for each in sorted(each for each in places if not args.cursor or each >= place):
            more = "" if each == (1, 0) else f"{each[1]}.{each[0]}/"
            if len(rows) == args.limit:
                break
            some, after = entry_rows(look, places[each], within, args.limit - len(rows))
            rows += some
            more, within = more + after if after else "", ""
            if after:
                break
    prefix = prefixes[0]
    if args.json:
        listed: list[dict[str, Any]] = [row._asdict() for row in rows]
        say_json({"server": engine.backend.where, "prefix": prefix, "entries": listed, "cursor": more})
        return Exit.OK
    note(f"in {engine.backend.where}, {shown(prefix)}")
    table(
        ("entry", "age", "expires in", "size", "took"),
        [
            (
                row.key[-40:], duration_text(row.age), duration_text(row.ttl), size_text(row.size),
                duration_text(row.compute),
            )
            for row in rows
        ],
    )  # fmt: skip
    _more(args, more)
    return Exit.OK


def _more(args: argparse.Namespace, cursor: str) -> None:
    if cursor:
        words = " ".join(word for word in (args.what, args.function) if word)
        say(f"\nThere are more: redis-memo ls {words}{' ' if words else ''}--cursor {shown(cursor)}")
