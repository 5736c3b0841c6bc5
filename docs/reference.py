"""Writes ``docs/reference.md`` from the signatures and docstrings of the package: ``python docs/reference.py``."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import redis_memo
from redis_memo import (
    _config,
    _explain,
    _memoized,
    errors,
    events,
    market,
    migrate,
    testing,
    ttl,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PAGE = Path(__file__).with_name("reference.md")

HEAD = """\
# Reference

Everything public, with what each name is for. The page is written by `python docs/reference.py` from the signatures and
docstrings of the package. They say more, such as what is raised: `help(redis_cached)` in a Python shell shows them. The
pages that are linked explain, with examples.

A `*` in a signature begins what is given by name only. `...` is a default that is no plain value."""

OPTION_PAGES = {
    "namespace": "keys.md",
    "ttl": "expiry.md",
    "name": "keys.md#which-function-is-it",
    "version": "keys.md#which-function-is-it",
    "key": "keys.md",
    "ignore": "keys.md",
    "tags": "stale-write.md#tags",
    "stale": "freshness.md",
    "stale_if_error": "freshness.md",
    "early": "freshness.md",
    "soft_timeout": "freshness.md",
    "hard_timeout": "freshness.md",
    "maxsize": "bounds.md",
    "maxbytes": "bounds.md",
    "evict": "bounds.md#by-worth",
    "near": "near.md",
    "compress": "types.md#how-small-and-how-fast",
    "on_error": "outage.md",
    "shards": "servers.md#cluster",
    "cache": "servers.md",
}
METHOD_PAGES = {
    "invalidate": "stale-write.md",
    "invalidate_tags": "stale-write.md#tags",
    "map": "bulk.md",
    "peek_columns": "types.md#large-values",
    "store": "stale-write.md",
    "cache_key": "keys.md",
}
SETTING_PAGES = {
    "url": "servers.md#which-server",
    "secret": "servers.md",
    "allow_unsigned_pickle": "servers.md",
    "ttl": "expiry.md",
    "timeout": "outage.md",
    "lease": "stampede.md",
    "max_wait": "stampede.md",
    "workers": "freshness.md",
    "limits": "bounds.md#namespaces",
    "read_from": "servers.md#replicas-for-reads",
    "wait": "servers.md#failover",
    "on_event": "outage.md",
    "calendar": "calendar.md",
}
ENVIRONMENT = {
    "REDIS_MEMO_URL": "The server, where `url` is left out.",
    "REDIS_URL": "The server, where `REDIS_MEMO_URL` is not set either.",
    "REDIS_MEMO_SECRET": "The secret, where `secret` is left out. Several are separated by commas.",
    "REDIS_MEMO_EMBEDDED": "`never` refuses the embedded server.",
    "REDIS_MEMO_CALENDAR": "Paths of calendar files, where `calendar` is left out. Several are separated as in `PATH`.",
}


CONSTANTS = {"MISSING": "redis_memo._handle", "LONGEST": "redis_memo._durations", "Phase": "redis_memo._sessions"}
"""Where the constants are assigned that a module has from another one."""


class Row(NamedTuple):
    """A line of a table: a name, what is left to be seen of it, and what it is."""

    name: str
    shown: str
    text: str


def text() -> str:
    """The whole page."""
    return "\n\n".join(_sections()) + "\n"


def _sections() -> Iterator[str]:
    decorated = _memoized.Memoized
    yield HEAD
    yield "## Options of `redis_cached`"
    yield f"`@redis_cached(namespace=..., ttl=...)`. {_summary(redis_memo.redis_cached)}"
    yield _options(redis_memo.redis_cached, OPTION_PAGES)
    yield "## Methods of a decorated function"
    yield (
        "Of an `async def` those that ask Redis are awaited. Its `cache_info()` tells this process's counters at once, "
        "and when it is awaited `currsize` too. `fn.__wrapped__` is the function itself, without the cache."
    )
    yield _table(("method", ""), _methods(decorated, METHOD_PAGES))
    yield "### Options of `map`"
    yield _options(decorated.map, dict.fromkeys(("calls",), "bulk.md"))
    yield "### `CacheInfo`"
    yield f"What `cache_info()` returns: {_lower(_summary(redis_memo.CacheInfo))} [Bounds](bounds.md#who-counts-what)"
    yield _fields(redis_memo.CacheInfo)
    yield "### `Explanation`"
    yield _summary(_explain.Explanation)
    yield _fields(_explain.Explanation)
    yield "Each of its `parts`:"
    yield _fields(_explain.Part)
    yield "## Settings"
    yield f"`configure`: {_lower(_summary(redis_memo.configure))} `connect`: {_lower(_summary(redis_memo.connect))}"
    yield _settings()
    yield "From the environment of the process; a `.env` file is read by [the command](cli.md) only:"
    yield _table(("variable", ""), (Row(f"`{name}`", "", said) for name, said in ENVIRONMENT.items()))
    yield "## `redis_memo`"
    yield _names(redis_memo)
    yield _class_section(redis_memo.Cache, "Made by `configure` and `connect`. [Servers](servers.md)", options=False)
    yield _class_section(redis_memo.CacheDict, "[CacheDict](mapping.md)")
    yield _class_section(redis_memo.CacheManager, "[CacheManager](manager.md)")
    yield f"### `Limits`\n\n{_summary(redis_memo.Limits)} [Bounds](bounds.md#namespaces)"
    yield _options(redis_memo.Limits)
    yield f"### `Call`\n\n{_summary(redis_memo.Call)} [Expiry](expiry.md)"
    yield _fields(redis_memo.Call)
    yield f"## `redis_memo.ttl`\n\n{_summary(ttl)} [Expiry](expiry.md)"
    yield _names(ttl)
    yield f"### Options of `market_aware`\n\n{_summary(ttl.market_aware)}"
    yield _options(ttl.market_aware)
    yield f"## `redis_memo.market`\n\n{_summary(market)} [Calendars](calendar.md)"
    yield _names(market)
    yield f"### `Session`\n\n{_summary(market.Session)}"
    yield _fields(market.Session)
    yield f"## `redis_memo.testing`\n\n{_summary(testing)} [Testing](testing.md)"
    yield _names(testing)
    yield f"## `redis_memo.events`\n\n{_summary(events)} [Outage](outage.md)"
    yield _names(events)
    yield f"## `redis_memo.migrate`\n\n{_summary(migrate)} [Moving in](migration.md)"
    yield _names(migrate)
    yield f"## Errors\n\n{_markdown(inspect.getdoc(errors) or '')}"


# What a docstring says.


def _summary(documented: object) -> str:
    """The first line of a docstring, which is a sentence."""
    return _markdown((inspect.getdoc(documented) or "").partition("\n")[0])


def _entries(documented: object, section: str) -> dict[str, str]:
    """The entries of a section such as ``Args:``, each with what is said of it."""
    lines = (inspect.getdoc(documented) or "").splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines[lines.index(f"{section}:") + 1 :] if f"{section}:" in lines else ():
        entry = re.match(r"    (\*{0,2}\w+): (.*)", line)
        if line and not line.startswith(" "):
            break
        if entry is not None:
            name = entry[1]
            found[name] = entry[2]
        elif line and name:
            found[name] += " " + line.strip()
    return {name: _markdown(said) for name, said in found.items()}


def _constant(module: str, name: str) -> str:
    """The first line of the string below an assignment."""
    body = ast.parse(Path(inspect.getfile(sys.modules[module])).read_text()).body
    for statement, following in itertools.pairwise(body):
        targets = [getattr(statement, "target", None), *getattr(statement, "targets", ())]
        if name in {getattr(target, "id", "") for target in targets} and isinstance(following, ast.Expr):
            assert isinstance(following.value, ast.Constant)
            return _markdown(inspect.cleandoc(str(following.value.value)).partition("\n")[0])
    raise LookupError(f"{module}.{name} has no docstring")


def _markdown(said: str) -> str:
    """Two backticks as one, what is indented as a block, and pages as links."""
    parts = []
    for number, part in enumerate(re.split(r"^::\n\n((?:(?:    .*)?\n)+)", said, flags=re.MULTILINE)):
        if number % 2:
            parts.append(f"```text\n{inspect.cleandoc(part)}\n```\n\n")
            continue
        plain = re.sub(r":func:`(\w+)`", r"`\1`", part.replace("``", "`"))
        parts.append(re.sub(r"docs/(\w+)\.md", lambda page: _link(f"{page[1]}.md").strip(), plain))
    return "".join(parts)


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


# What a signature says.


def _shown(parameter: inspect.Parameter) -> str:
    """A default as one would write it."""
    default = parameter.default
    if default is inspect.Parameter.empty:
        return ""
    plain = isinstance(default, (str, bytes, int, float, tuple, type(None), ttl.Arg))
    return repr(default) if plain else "..."


def _signature(name: str, called: Any, *, bound: bool = False) -> str:
    """A call with the names of what it takes; without annotations, which ``help`` shows."""
    parts = []
    by_name = False
    for parameter in list(inspect.signature(called).parameters.values())[bound:]:
        if parameter.name == "by_position":  # is there to be refused
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not by_name:
            parts.append("*")
        by_name = by_name or parameter.kind in {parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL}
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        shown = _shown(parameter)
        parts.append(f"{stars}{parameter.name}{'=' if shown else ''}{shown}")
    return f"`{name}({', '.join(parts)})`"


# Tables.


def _table(heads: tuple[str, ...], rows: Iterable[Row]) -> str:
    found = [[cell for cell in row if cell or len(heads) == len(Row._fields)] for row in rows]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in found:
        assert len(row) == len(heads), row
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
    return "\n".join(lines)


def _link(page: str) -> str:
    return f" [{page.partition('.')[0].replace('-', ' ').capitalize()}]({page})"


def _linked(name: str, said: str, pages: Mapping[str, str]) -> str:
    return said + (_link(pages[name]) if name in pages and "](" not in said else "")


def _options(called: Any, pages: Mapping[str, str] | None = None) -> str:
    """The arguments of a call, with defaults."""
    parameters = inspect.signature(called).parameters
    said = _entries(called, "Args")
    assert not {*(pages or {})} - {*said}, {*(pages or {})} - {*said}
    rows = []
    for name, meaning in said.items():
        parameter = parameters.get(name.lstrip("*"))
        shown = _shown(parameter) if parameter is not None else ""
        rows.append(Row(f"`{name}`", f"`{shown}`" if shown else "", _linked(name, meaning, pages or {})))
    return _table(("argument", "default", ""), rows)


def _settings() -> str:
    """What `configure` and `connect` take; what a call leaves out is as `Settings` has it."""
    defaults = {field.name: field.default for field in dataclasses.fields(_config.Settings)}
    said = _entries(redis_memo.configure, "Args")
    said["url"] = _entries(redis_memo.connect, "Args")["url"]
    del said["**settings"]
    assert {*said} == {*SETTING_PAGES} == {"url", "calendar", *_config.Keywords.__annotations__}
    rows = []
    for name, meaning in said.items():
        default = defaults.get(name)
        plain = isinstance(default, (bool, int, float, str)) and name != "url"
        shown = f"`{default!r}`" if plain else ""
        rows.append(Row(f"`{name}`", shown, _linked(name, meaning, SETTING_PAGES)))
    return _table(("setting", "default", ""), rows)


def _fields(documented: Any) -> str:
    said = _entries(documented, "Attributes")
    assert {*said} == {*getattr(documented, "_fields", getattr(documented, "__annotations__", ()))}, documented
    return _table(("field", ""), (Row(f"`{name}`", "", meaning) for name, meaning in said.items()))


def _methods(cls: type, pages: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Methods by what they are for; those of a task are named with what they are the twins of."""
    found = {
        name: member
        for base in reversed(cls.__mro__)
        if base.__module__.startswith("redis_memo")
        for name, member in vars(base).items()
        if not name.startswith("_") and inspect.getdoc(member) and name not in {"quick", "stand_behind"}
    }
    assert not {*(pages or {})} - {*found}, {*(pages or {})} - {*found}
    for name, member in sorted(found.items()) if pages else found.items():
        called = getattr(member, "__func__", member)
        shown = f"`{name}`" if isinstance(member, property) else _signature(name, called, bound=True)
        yield Row(shown, "", _linked(name, _summary(member), pages or {}))


def _class_section(cls: type, explained: str, *, options: bool = True) -> str:
    said = [f"### `{cls.__name__}`\n\n{_summary(cls)} {explained}"]
    if options:
        said.append(_options(cls))
    said.append(_table(("method", ""), _methods(cls)))
    return "\n\n".join(said)


def _names(module: Any) -> str:
    """What a module exports."""
    return _table(("name", ""), (_name(module, name) for name in module.__all__))


def _name(module: Any, name: str) -> Row:
    value = getattr(module, name)
    if name in {"redis_cached", "market_aware"}:  # whose options have a table of their own
        return Row(f"`{name}`", "", _summary(value))
    if inspect.isfunction(value) or dataclasses.is_dataclass(value):
        return Row(_signature(name, value), "", _summary(value))
    if inspect.isclass(value) or inspect.ismodule(value):
        return Row(f"`{name}`", "", _summary(value))
    return Row(f"`{name}`", "", _constant(CONSTANTS.get(name, module.__name__), name))


if __name__ == "__main__":
    PAGE.write_text(text())
