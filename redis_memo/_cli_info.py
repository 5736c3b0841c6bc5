"""``redis-memo info``: a server and what it holds; or a function, its entries and how it was decorated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _entries as entries
from ._cli_target import add_server, engine_of, find_function, read_environment
from ._console import Exit, duration_text, say, say_json, shown, size_text
from ._listing import Total, asking, entry_rows, namespaces, software, total

if TYPE_CHECKING:
    import argparse

    from ._cli_target import Target
    from ._engine import Engine

__all__ = ["NAME", "SUMMARY", "add_arguments", "run"]

NAME = "info"
SUMMARY = "the server and what it holds, or one function: its entries, bytes and settings"
_NAMESPACES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what it takes."""
    parser.add_argument("function", nargs="?", metavar="MODULE:FUNCTION", help="left out: the server")
    parser.add_argument("--json", action="store_true", help="for machines")
    add_server(parser)


def run(args: argparse.Namespace) -> Exit:
    """Show it."""
    if args.function is None:
        origins = read_environment(args)
        named = origins.get("REDIS_MEMO_URL") or origins.get("REDIS_URL") or "the default"
        said = _server(engine_of(args), "the command line" if args.url else named)
    else:
        said = _function(find_function(args, args.function))
    if args.json:
        say_json(said)
        return Exit.OK
    width = max(map(len, said))
    for name, value in said.items():
        say(f"{name.replace('_', ' '):{width}}  {_said(name, value)}")
    return Exit.OK


def _said(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.startswith("bytes") or name.endswith("memory"):
        return size_text(value) if value else "no limit" if name == "maxmemory" else "0 B"
    if name == "seconds_saved":
        return duration_text(value) if value else "0s"
    if name.endswith("_in"):
        return duration_text(value)
    return f"{value:,}" if isinstance(value, int) else shown(str(value))


def _server(engine: Engine, named_by: str) -> dict[str, Any]:
    with asking(engine) as look:
        clients = look.each().values()
        infos = [client.info() for client in clients]
        found, cursor = namespaces(look, limit=_NAMESPACES)
    # INFO says it, too, which a user of the least rights may ask; DBSIZE such a user may not.
    keys = sum(_keys(client, info) for client, info in zip(clients, infos, strict=True))

    def all_of(name: str) -> int:
        return sum(int(info.get(name, 0)) for info in infos)

    limits = [int(info.get("maxmemory", 0)) for info in infos]
    return {
        "server": engine.backend.where,
        "named_by": named_by,
        "software": ", ".join(dict.fromkeys(" ".join(software(info)) for info in infos)),
        **({"masters": len(infos)} if engine.backend.spread else {}),
        "used_memory": all_of("used_memory"),
        "maxmemory": sum(limits) if all(limits) else 0,
        "policy": ", ".join(dict.fromkeys(str(info.get("maxmemory_policy", "?")) for info in infos)),
        "keys": keys,
        "namespaces": len(found),
        "namespaces_complete": not cursor,
        "functions": sum(found.values()),
        "server_hits": all_of("keyspace_hits"),
        "server_misses": all_of("keyspace_misses"),
        "evicted": all_of("evicted_keys"),
        "secret": bool(engine.settings.secrets or engine.backend.embedded_secret),
    }


def _keys(client: Any, info: dict[str, Any]) -> int:
    """How many keys the database has that a client uses; INFO leaves out those that have none."""
    database = client.connection_pool.connection_kwargs.get("db") or 0
    return int(info.get(f"db{database}", {}).get("keys", 0))


def _function(target: Target) -> dict[str, Any]:
    memo, engine = target.memo, target.engine
    totals: list[Total] = []
    firsts: list[float] = []
    lasts: list[float] = []
    with asking(engine) as look:
        for prefix in memo.prefixes:
            client = look.at(prefix)
            totals.append(total(look, prefix))
            firsts += [row.ttl for row in entry_rows(look, prefix, limit=1)[0]]
            last = client.zrange(f"{prefix}index", -1, -1)
            lasts += [client.pttl(prefix + each.decode()) / 1000 for each in last]
    info = memo.info(*engine.run(entries.usage(memo.prefixes, engine.touches.telling)))
    parameters = target.handle.cache_parameters()
    return {
        "function": memo.shown,
        "server": engine.backend.where,
        "prefix": memo.prefix,
        "namespace": memo.namespace,
        "version": memo.version or "",
        "shards": memo.shards,
        "ttl": str(parameters["ttl"]) if parameters["ttl"] is not None else None,
        "ignore": ", ".join(memo.ignore),
        "entries": sum(each.entries for each in totals),
        "bytes": sum(each.size for each in totals),
        "bytes_are_exact": all(each.exact for each in totals),
        "being_computed": sum(each.computing for each in totals),
        "first_expires_in": min(firsts, default=None),
        "last_expires_in": max((each for each in lasts if each > 0), default=None),
        # Of all processes in the last 30 days, as far as they told Redis.
        "hits": info.hits,
        "misses": info.misses,
        "stale_hits": info.stale_hits,
        "near_hits": info.near_hits,
        "refreshes": info.refreshes,
        "errors": info.errors,
        "refused": info.refused,
        "unreadable": info.unreadable,
        "seconds_saved": info.seconds_saved,
        "bytes_stored": info.bytes_stored,
        "bytes_saved": info.bytes_saved,
    }
