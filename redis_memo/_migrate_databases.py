"""Old caches in files of a database: diskcache, SQLite tables, cachier's pickles.

A SQLite file is read from a copy: opening a database in place can change it, or leave files beside it.
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from ._migrate_fields import Unfit, moment_of
from ._migrate_items import Content, Item, Mark, file_item, read_file
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

__all__ = ["cachier_items", "cachier_name", "diskcache_items", "is_cachier", "is_sqlite", "sqlite_items"]

_SQLITE: Final = b"SQLite format 3\x00"
_RAW, _BINARY, _TEXT, _PICKLE = 1, 2, 3, 4  # diskcache's modes


def is_sqlite(path: Path) -> bool:
    """Whether a file is a SQLite database."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


@contextmanager
def _copy(path: Path) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory(prefix="redis-memo-") as folder:
        try:
            for suffix in ("", "-wal"):
                beside = path.with_name(path.name + suffix)
                if beside.exists():
                    shutil.copy2(beside, Path(folder) / ("copy" + suffix))
            with closing(sqlite3.connect(Path(folder) / "copy")) as connection:
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"the database {path} cannot be read: {error}") from error


def _mark(*parts: object) -> Mark:
    size, hasher = 0, blake3()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass")
        size += len(data)
        hasher.update(len(data).to_bytes(8, "little") + data)
    return Mark(hasher.hexdigest(), size)


# --------------------------------------------------------------------------------------------------------- diskcache


def diskcache_items(folder: Path, *, trust: bool, parameters: Collection[str]) -> list[Item]:
    """What a `diskcache.Cache` holds; of ``memoize`` with the call that its keys are made of."""
    items: list[Item] = []
    with _copy(folder / "cache.db") as database:
        rows = database.execute(
            "SELECT rowid, key, raw, store_time, expire_time, mode, filename, value FROM Cache ORDER BY rowid"
        ).fetchall()
    for rowid, key, raw, stored, expires, mode, filename, value in rows:
        name, fields, why, of = _disk_key(rowid, key, raw, trust=trust, parameters=parameters)
        kind = {_RAW: "object", _TEXT: "object", _BINARY: "bytes", _PICKLE: "pickle"}.get(mode, "bytes")
        if why is not None:
            read: Callable[[], Content] = partial(_refuse, why)
        elif filename is not None:
            path = folder / filename
            read = partial(_text_file, path) if mode == _TEXT else partial(read_file, path)
        else:
            held = bytes(value) if mode == _BINARY else value
            read = partial(Content, held, _mark(key, value))
        items.append(Item(name=name, kind=kind, read=read, fields=fields, created=stored, expires=expires, of=of))
    return items


def _refuse(why: str) -> Content:
    raise Unfit(why)


def _text_file(path: Path) -> Content:
    content = read_file(path)
    try:
        return Content(content.data.decode(), content.mark)
    except UnicodeDecodeError as error:
        raise Unfit("is damaged: not UTF-8 text") from error


def _disk_key(
    rowid: int, key: Any, raw: int, *, trust: bool, parameters: Collection[str]
) -> tuple[str, Mapping[str, object], str | None, str | None]:
    """An item's name and fields, why it cannot be read, and of which function it is."""
    if raw:
        return str(key), {"key": key}, None, None
    if not trust:
        return f"row {rowid}", {}, "its key is a pickle, which runs code when it is opened: --trust opens those", None
    try:
        found = pickle.loads(key)  # behind --trust
    except Exception as error:  # noqa: BLE001
        return f"row {rowid}", {}, f"its key cannot be unpickled: {type(error).__name__}", None
    name = f"row {rowid}"
    if not isinstance(found, tuple):
        return name, {"key": found}, None, None
    if found and isinstance(found[0], str) and "." in found[0]:
        call, of = _memoized(found[1:], parameters), found[0].rpartition(".")[2]
        if isinstance(call, str):
            return f"{name} of {found[0]}", {}, call, of
        return f"{name} of {found[0]}", call, None, of
    return name, {str(number): each for number, each in enumerate(found)}, None, None


def _memoized(rest: tuple[Any, ...], parameters: Collection[str]) -> dict[str, object] | str:
    """Arguments by name from diskcache's key: positional ones, None, and names and values in turn."""
    names = list(parameters)
    ways: list[dict[str, object]] = []
    for at in (number for number, each in enumerate(rest) if each is None):
        tail = rest[at + 1 :]
        if len(tail) % 2 == 0 and all(name in names for name in tail[::2]) and at <= len(names):
            ways.append(dict(zip(names, rest[:at], strict=False)) | dict(zip(tail[::2], tail[1::2], strict=True)))
    if len(ways) == 1:
        return ways[0]
    return "its key fits several calls, as diskcache's do where an argument is None" if ways else "its key fits no call"


# ------------------------------------------------------------------------------------------------------------ SQLite


def sqlite_items(path: Path, table: str | None, column: str | None) -> list[Item]:
    """The rows of a table: one column holds the value, the others are fields."""
    with _copy(path) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        names = sorted(name for name in names if not name.startswith("sqlite_"))
        if table is None and len(names) == 1:
            table = names[0]
        if table not in names:
            raise ConfigurationError(
                f"table= (--table) says which table of {path}: {', '.join(names) or 'it has none'}"
            )
        quoted = '"' + str(table).replace('"', '""') + '"'
        answer = database.execute(f"SELECT * FROM {quoted}")  # noqa: S608 - the name is one of the file's own
        columns = [each[0] for each in answer.description]
        rows = answer.fetchall()
    if column is None:
        likely = [name for name in columns if name.lower() in ("value", "data", "payload", "result", "blob", "pickle")]
        column = likely[0] if len(likely) == 1 else None
    if column not in columns:
        raise ConfigurationError(f"column= (--column) says which column of {table} is the value: {', '.join(columns)}")
    items = []
    for number, row in enumerate(rows):
        fields = dict(zip(columns, row, strict=True))
        held = fields.pop(column)
        key = fields.get("key", fields.get("id", number))
        held = held.encode() if isinstance(held, str) else held
        kind = "stored" if isinstance(held, bytes) else "object"
        read = partial(Content, held, _mark(*row))
        expires = next(
            (moment_of(fields[name], None) for name in ("expires", "expires_at", "expiry") if name in fields), None
        )
        items.append(Item(name=f"{table} {key}", kind=kind, read=read, fields=fields, expires=expires))
    return items


# ----------------------------------------------------------------------------------------------------------- cachier


def is_cachier(folder: Path) -> bool:
    """Whether a folder is one of cachier's: hidden files that are pickles of its entries."""
    try:
        for path in folder.iterdir():
            if path.name.startswith(".") and path.is_file():
                with path.open("rb") as file:
                    if b"CacheEntry" in file.read(400):
                        return True
    except OSError:
        pass
    return False


def cachier_items(folder: Path, *, trust: bool) -> list[Item]:
    """What cachier's pickle core holds. Its keys are hashes, so the mapping has to say which calls there may be."""
    items: list[Item] = []
    for path in sorted(folder.iterdir()):
        if not path.is_file() or not path.name.startswith("."):
            continue
        if not trust:
            why = "is a pickle, which runs code when it is opened: --trust opens those whose origin you trust"
            items.append(Item(name=path.name, kind="object", read=partial(_refuse, why)))
            continue
        try:
            content = read_file(path)
            found = pickle.loads(content.data)  # behind --trust
        except (Unfit, OSError) as error:
            items.append(Item(name=path.name, kind="object", read=partial(_refuse, f"cannot be read: {error}")))
            continue
        except Exception as error:  # noqa: BLE001
            why = f"cannot be unpickled: {type(error).__name__}; cachier has to be installed for it"
            items.append(Item(name=path.name, kind="object", read=partial(_refuse, why)))
            continue
        apart = not isinstance(found, dict)
        entries = {path.name.rpartition("_")[2]: found} if apart else found
        for key, entry in entries.items():
            value = getattr(entry, "value", entry.get("value") if isinstance(entry, dict) else None)
            moment = getattr(entry, "time", entry.get("time") if isinstance(entry, dict) else None)
            beside = file_item(path, path.name, "object", {}, None)
            items.append(
                Item(
                    name=f"{path.name} {key}",
                    kind="object",
                    read=partial(Content, value, content.mark),
                    fields={"key": key},
                    created=moment_of(moment, None) or beside.created,
                    files=(path,) if apart else (),
                    of=(path.name.rpartition("_")[0] if apart else path.name).rpartition(".")[2],
                )
            )
    return items


def cachier_name(**call: object) -> str:
    """The key that cachier gives to a call: all arguments by name, defaults included."""
    return hashlib.sha256(pickle.dumps(((), sorted(call.items())))).hexdigest()
