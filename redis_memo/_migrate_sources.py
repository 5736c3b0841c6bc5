"""The items of an old cache: a folder of files, ``joblib.Memory``, keys in Redis. Nothing is opened here, only found.

What cannot be looked at is reported by name and stops nothing.
"""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import re
import time
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis
from blake3 import blake3

from ._config import redacted
from ._migrate_databases import cachier_items, cachier_name, diskcache_items, is_cachier, is_sqlite, sqlite_items
from ._migrate_fields import Pattern, Unfit, moment_of
from ._migrate_items import Content, Item, Mark, file_item, kind_of, read_file, stem_of
from .errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from ._migrate_rules import Rules

__all__ = ["KINDS_OF_SOURCES", "Source", "created_in", "find", "table_of"]

KINDS_OF_SOURCES: Final = ("folder", "joblib", "diskcache", "cachier", "sqlite", "redis")
_METADATA: Final = re.compile(r"(.*[_.-])?(metadata|meta|index|manifest)\.json", re.IGNORECASE)
_FILE_FIELDS: Final = ("file", "filename", "file_name", "path", "filepath", "file_path", "cache_file")
_KEY_FIELDS: Final = ("key", "hash", "md5", "cache_key", "digest")
_CREATED: Final = (
    "timestamp", "created", "created_at", "cached_at", "fetched_at", "saved_at", "stored_at", "cache_time",
    "last_updated", "updated_at",
)  # fmt: skip
_FEW: Final = 3  # documents that are looked into, whether they describe the other files, whatever they are called
_LITTER: Final = frozenset({".gitignore", ".DS_Store", "Thumbs.db", ".gitkeep"})


@dataclass(slots=True)
class Source:
    """An old cache.

    Attributes:
        kind: One of `KINDS_OF_SOURCES`.
        shown: Its name in reports.
        items: What it holds.
        problems: What could not even be looked at: name, and why.
        folder: Where its files are; None if it is no folder.
    """

    kind: str
    shown: str
    items: list[Item] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    folder: Path | None = None


def find(
    source: str, rules: Rules, *, kind: str | None = None, trust: bool = False, parameters: Collection[str] = ()
) -> Source:
    """Find what an old cache holds.

    Args:
        source: A folder, a file, or the URL of a Redis.
        rules: The mapping.
        kind: How it is read; None: by what it looks like.
        trust: Whether pickles may be opened; some caches have their keys in one.
        parameters: Names of the function's parameters.

    Raises:
        ConfigurationError: There is no such thing.
        StoreUnavailable: The Redis with the old keys does not answer.
    """
    if "://" in source:
        return _redis(source, rules)
    path = Path(source).expanduser().absolute()
    if not path.exists():
        raise ConfigurationError(f"there is no {source}")
    kind = kind or _kind(path)
    found = Source(kind, source, folder=path if path.is_dir() else path.parent)
    if kind == "folder":
        _folder(path, rules, found)
    elif kind == "joblib":
        _joblib(path, found)
    elif kind == "diskcache":
        found.items += diskcache_items(path, trust=trust, parameters=parameters)
    elif kind == "cachier":
        found.items += cachier_items(path, trust=trust)
    elif kind == "sqlite":
        found.items += sqlite_items(path, rules.table, rules.column)
    else:
        raise ConfigurationError(f"--kind is one of {', '.join(KINDS_OF_SOURCES)}")
    if kind != "folder":
        if rules.files is not None:
            found.items = [item for item in found.items if fnmatch.fnmatchcase(item.name, rules.files)]
        table = _calls(rules, cachier_name if kind == "cachier" else None)
        found.items = [_described(item, table) for item in found.items]
    return found


def _described(item: Item, table: Mapping[str, Mapping[str, object]]) -> Item:
    """An item with what `Rules.calls` say of it."""
    for key in (item.name, str(item.fields.get("key"))):
        if key in table:
            return replace(item, fields={**item.fields, **table[key]})
    return item


def _kind(path: Path) -> str:
    if path.is_file():
        return "sqlite" if is_sqlite(path) else "folder"
    if is_sqlite(path / "cache.db"):
        return "diskcache"
    if next(path.rglob("func_code.py"), None) is not None:  # with a pathlib.Path there is no folder "joblib" in between
        return "joblib"
    return "cachier" if is_cachier(path) else "folder"


def created_in(fields: Mapping[str, object], rules: Rules) -> float | None:
    """The moment of creation that metadata states: in the field that the mapping names, else in the usual ones."""
    names = (rules.created,) if rules.created is not None else _CREATED
    for name in names:
        if name in fields:
            found = moment_of(fields[name], rules.created_zone)
            if found is not None:
                return found
    return None


# ----------------------------------------------------------------------------------------------------------- folders


def _walk(folder: Path, found: Source) -> Iterator[Path]:
    """All files below a folder, in order; what cannot be listed is a problem. Links to folders are not followed."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        found.problems.append((str(folder), f"cannot be listed: {error.strerror}"))
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), found)
        else:
            yield Path(entry.path)


def _folder(path: Path, rules: Rules, found: Source) -> None:
    paths = list(_walk(path, found)) if path.is_dir() else [path]
    root = path if path.is_dir() else path.parent
    metadata, described = _metadata(root, paths, rules, found)
    table = _calls(rules) | described
    for each in paths:
        name = each.relative_to(root).as_posix()
        if each in metadata or each.name in _LITTER:
            continue
        if rules.files is not None and not _meant(name, rules.files):
            continue
        kind = kind_of(each)
        if kind is None and rules.reader is None:
            found.problems.append((name, f"is not a kind of file that is read ({each.suffix or 'no suffix'})"))
            continue
        try:
            fields = _fields(name, rules.pattern, table, _sidecar(each, rules))
            found.items.append(file_item(each, name, kind or "bytes", fields, created_in(fields, rules)))
        except Unfit as error:
            found.problems.append((name, str(error)))
        except OSError as error:
            found.problems.append((name, f"cannot be read: {error.strerror}"))


def _meant(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name if "/" in pattern else name.rpartition("/")[2], pattern)


def _fields(
    name: str, pattern: Pattern | None, table: Mapping[str, Mapping[str, object]], beside: Mapping[str, object]
) -> dict[str, object]:
    """What name and metadata tell; what metadata says goes before what the name says."""
    fields: dict[str, object] = {}
    if pattern is not None:
        matched = pattern.match(name)
        if matched is None:
            raise Unfit(f"its name does not fit {pattern.text}")
        fields.update(matched)
    for key in (name, name.rpartition("/")[2], stem_of(name)):
        if key in table:
            fields.update(table[key])
            break
    fields.update(beside)
    return fields


def _calls(rules: Rules, usual: Callable[..., str] | None = None) -> dict[str, Mapping[str, object]]:
    """Fields by item's name, from all calls that there may be and the old cache's own function of names."""
    if rules.calls is None:
        return {}
    naming = rules.name or usual
    if naming is None:
        raise ConfigurationError("calls belongs together with name: from the fields of a call to an item's name")
    table: dict[str, Mapping[str, object]] = {}
    try:
        for call in rules.calls():
            table[str(naming(**call))] = dict(call)
    except Exception as error:
        raise ConfigurationError(
            f"calls and name of the mapping failed with {type(error).__name__}: calls() gives dicts of fields, "
            "name(**fields) the item's name"
        ) from error
    return table


def _sidecar(path: Path, rules: Rules) -> Mapping[str, object]:
    """Metadata in a file of each item's own, where the mapping says how that is called."""
    if rules.metadata is None or "{" not in rules.metadata:
        return {}
    beside = path.parent / rules.metadata.replace("{stem}", stem_of(path.name)).replace("{name}", path.name)
    try:
        document = json.loads(read_file(beside).data)
    except (OSError, ValueError, Unfit) as error:
        raise Unfit(f"its metadata {beside.name} cannot be read: {type(error).__name__}") from error
    return document if isinstance(document, dict) else {}


def _metadata(
    root: Path, paths: list[Path], rules: Rules, found: Source
) -> tuple[set[Path], dict[str, Mapping[str, object]]]:
    """The files that describe others, and what they say by the others' names."""
    if rules.metadata is not None and "{" in rules.metadata:
        ending = re.sub(r"\{(stem|name)\}", "", rules.metadata)
        return {path for path in paths if path.name.endswith(ending)}, {}
    if rules.metadata is not None:
        path = root / rules.metadata
        try:
            return {path}, table_of(json.loads(read_file(path).data))
        except OSError as error:
            raise ConfigurationError(f"the metadata {path} cannot be read: {error.strerror}") from error
        except (ValueError, Unfit) as error:
            raise ConfigurationError(f"the metadata {path} is not JSON, or is being written to") from error
    described: dict[str, Mapping[str, object]] = {}
    read: set[Path] = set()
    names = {key for path in paths for key in (path.name, stem_of(path.name), path.relative_to(root).as_posix())}
    documents = [path for path in paths if path.suffix.lower() == ".json" and path.is_file()]  # no pipe, which blocks
    for path in paths:
        named = _METADATA.fullmatch(path.name) is not None
        if not named and (path not in documents or len(documents) > _FEW):
            continue
        try:
            table = table_of(json.loads(read_file(path).data))
        except (OSError, ValueError, Unfit):
            if not named:
                continue  # it is said where it is opened
            found.problems.append((path.relative_to(root).as_posix(), "looks like metadata and cannot be read as JSON"))
            read.add(path)
            continue
        if (names - {path.name, stem_of(path.name)}) & set(table):
            described.update(table)
            read.add(path)
    return read, described


def table_of(document: Any) -> dict[str, Mapping[str, object]]:
    """Fields by item, from what metadata looks like: ``{hash: {...}}``, ``{"entries": ...}``, ``[{"file": ...}]``."""
    table: dict[str, Mapping[str, object]] = {}
    if isinstance(document, list):
        for record in document:
            if isinstance(record, dict):
                _enter(table, record, [record[name] for name in _KEY_FIELDS if isinstance(record.get(name), str)])
        return table
    if not isinstance(document, dict):
        return table
    for key, record in document.items():
        if isinstance(record, dict) and record and all(isinstance(each, dict) for each in record.values()):
            table.update(table_of(record))  # {"entries": {hash: {...}}}
        elif isinstance(record, list):
            table.update(table_of(record))
        if isinstance(record, dict):
            _enter(table, record, [key])
    return table


def _enter(table: dict[str, Mapping[str, object]], record: Mapping[str, object], keys: list[Any]) -> None:
    flat = dict(record)
    for name in ("params", "parameters", "args", "kwargs", "request", "metadata", "meta"):
        inner = record.get(name)
        if isinstance(inner, dict):
            flat.update(inner)
    for key in keys:
        table[key] = flat
    for name in _FILE_FIELDS:
        if isinstance(record.get(name), str):
            table[str(record[name]).replace("\\", "/").rpartition("/")[2]] = flat


# ------------------------------------------------------------------------------------------------------------ joblib


def _joblib(path: Path, found: Source) -> None:
    for each in _walk(path, found):
        if each.name != "output.pkl":
            continue
        name = each.parent.relative_to(path).as_posix()
        try:
            document = json.loads(read_file(each.with_name("metadata.json")).data)
            fields: dict[str, object] = {
                argument: _literal(text) for argument, text in document.get("input_args", {}).items()
            }
            created = moment_of(document.get("time"), None)
            # joblib's keys are hashes: only this file says of which call it is.
            item = file_item(each, name, "joblib", fields, created)
        except OSError as error:
            found.problems.append((name, f"its metadata.json cannot be read: {error.strerror}"))
        except (ValueError, AttributeError):
            found.problems.append((name, "its metadata.json is damaged"))
        except Unfit as error:
            found.problems.append((name, str(error)))
        else:
            function = each.parent.parent.name
            files = (each, each.with_name("metadata.json"))
            found.items.append(
                Item(
                    name=name, kind="joblib", read=item.read, fields=fields, of=function,
                    created=item.created, files=files, glance=item.glance, where=each,
                )
            )  # fmt: skip


def _literal(text: object) -> object:
    """The value that a ``repr`` shows: literals, dates, times, timestamps. Nothing is run."""
    if not isinstance(text, str):
        return text
    try:
        return _evaluated(ast.parse(text, mode="eval").body)
    except (ValueError, SyntaxError, TypeError) as error:
        raise Unfit("an argument of its call is kept as a text that does not tell it: use call=") from error


_CONSTRUCTORS: Final[Mapping[str, Any]] = {
    "datetime.date": date, "datetime.datetime": datetime, "datetime.timedelta": timedelta, "date": date,
    "datetime.timezone": timezone,
}  # fmt: skip


def _evaluated(node: ast.expr) -> Any:
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind: Any = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind(map(_evaluated, node.elts))
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise ValueError
        return {_evaluated(key): _evaluated(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        args = [_evaluated(each) for each in node.args]
        kwargs = {each.arg: _evaluated(each.value) for each in node.keywords if each.arg}
        if name in _CONSTRUCTORS:
            return _CONSTRUCTORS[name](*args, **kwargs)
        if name == "Timestamp":
            import pandas as pd  # noqa: PLC0415

            return pd.Timestamp(*args, **kwargs)
    return ast.literal_eval(node)


# ------------------------------------------------------------------------------------------------------------- Redis


def _redis(url: str, rules: Rules) -> Source:
    """Strings in a Redis: read, and never written, renamed or deleted. Those of redis_memo itself are none of these."""
    found = Source("redis", redacted(url))
    table = _calls(rules)
    try:
        client: Any = redis.Redis.from_url(url)
        for key in sorted(client.scan_iter(match=rules.files or "*", count=1000)):
            if key.startswith(b"memo:"):
                continue
            name = key.decode("utf-8", "backslashreplace")
            kind = client.type(key).decode()
            if kind != "string":
                found.problems.append((name, f"is a {kind}; only strings are read"))
                continue
            left = client.pttl(key)
            try:
                fields = _key_fields(name, rules.pattern, table)
            except Unfit as error:
                found.problems.append((name, str(error)))
                continue
            expires = time.time() + left / 1000 if left >= 0 else None
            found.items.append(
                Item(
                    name=name, kind="stored", read=_Get(client, key), fields=fields,
                    created=created_in(fields, rules), expires=expires,
                )
            )  # fmt: skip
    except (redis.RedisError, OSError, ValueError) as error:
        raise StoreUnavailable(f"the old keys in {redacted(url)} cannot be read: {type(error).__name__}") from error
    return found


def _key_fields(name: str, pattern: Pattern | None, table: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    if pattern is not None:
        matched = pattern.match(name)
        if matched is None:
            raise Unfit(f"its name does not fit {pattern.text}")
        fields.update(matched)
    for key in (name, name.rpartition(":")[2]):
        if key in table:
            fields.update(table[key])
            break
    return fields


@dataclass(frozen=True, slots=True)
class _Get:
    client: Any
    key: bytes

    def __call__(self) -> Content:
        try:
            data = self.client.get(self.key)
        except redis.RedisError as error:
            raise Unfit(f"cannot be read: {type(error).__name__}") from error
        if data is None:
            raise Unfit("is gone: it expired or was deleted meanwhile")
        return Content(data, Mark(blake3(data).hexdigest(), len(data)))
