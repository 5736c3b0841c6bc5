"""One thing that an old cache holds, and how its bytes become the value that the function would have returned.

Nothing here guesses silently: where a file can be read in two ways, `Unfit` says which setting decides. Pickles, and
what contains them, run code when they are opened; so they are opened only where the user trusts their origin.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import importlib
import io
import json
import lzma
import os
import pickle
import stat
import zlib
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from ._migrate_fields import Unfit, within
from ._migrate_frames import read_csv, read_feather, read_parquet, to_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ._migrate_rules import Rules

__all__ = [
    "KINDS",
    "NEEDS_TRUST",
    "Content",
    "Item",
    "Mark",
    "Value",
    "file_item",
    "kind_of",
    "open_item",
    "read_file",
    "stem_of",
]

KINDS: Final[Mapping[str, str]] = {
    ".csv": "csv", ".json": "json", ".pkl": "pickle", ".pickle": "pickle", ".p": "pickle", ".joblib": "joblib",
    ".parquet": "parquet", ".pq": "parquet", ".feather": "feather", ".arrow": "feather", ".npy": "numpy",
    ".npz": "numpy", ".png": "bytes", ".jpg": "bytes", ".jpeg": "bytes", ".gif": "bytes", ".webp": "bytes",
    ".svg": "bytes", ".pdf": "bytes", ".bin": "bytes",
}  # fmt: skip
NEEDS_TRUST: Final = frozenset({"pickle", "joblib"})
_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".z")
_UNTRUSTED: Final = "is a pickle, which runs code when it is opened: --trust opens those whose origin you trust"


@dataclass(frozen=True, slots=True)
class Mark:
    """By what a source is known again: a change of it shows here.

    Attributes:
        digest: blake3 of its bytes, in hex.
        size: Bytes.
        changed: When it was last written, in ns since 1970; 0 where there is no such time.
    """

    digest: str
    size: int
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Content:
    """What was read: bytes, or for a live object the object."""

    data: Any
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One cached result, where it is now.

    Attributes:
        name: What reports call it: a path within the folder, a Redis key, a row.
        kind: How its content is read; ``"object"``: it is the value already.
        read: Reads it; raises `Unfit` or an OSError.
        fields: What is known of it before it is opened: from its name, from metadata.
        created: When it was computed, in seconds since 1970, if that is known.
        expires: When its old cache would have dropped it, if that is known.
        files: What the clean-up moves away once it is verified.
        glance: Size and time of the last change, without reading it; None where that takes reading it.
        where: The file, for readers of the user's own that take a path.
        of: Name of the function that it is a result of, where the old cache knows it.
        call: Its arguments, by position and by name, where they are known without a mapping.
    """

    name: str
    kind: str
    read: Callable[[], Content]
    fields: Mapping[str, object] = field(default_factory=dict)
    created: float | None = None
    expires: float | None = None
    files: tuple[Path, ...] = ()
    glance: Callable[[], tuple[int, int]] | None = None
    where: Path | None = None
    of: str | None = None
    call: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """What an item holds.

    Attributes:
        value: What the function would have returned.
        fields: What else it says of itself.
        mark: Of the content it was read from.
    """

    value: Any
    fields: Mapping[str, object]
    mark: Mark


def kind_of(path: PurePath) -> str | None:
    """How a file is read, by its name; None if that says nothing."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def stem_of(name: str) -> str:
    """A file's name without folder and endings; of ``a.b.csv.gz`` that is ``a.b``."""
    stem = name.rpartition("/")[2]
    while "." in stem[1:] and (kind_of(PurePath(stem)) is not None or stem.endswith(_COMPRESSED)):
        stem = stem.rpartition(".")[0]
    return stem


def read_file(path: Path) -> Content:
    """The whole of a file, and by what it is known again.

    Raises:
        Unfit: It is written to right now.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        data = file.read()
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
        raise Unfit("is being written to")
    return Content(data, Mark(blake3(data).hexdigest(), len(data), after.st_mtime_ns))


def file_item(path: Path, name: str, kind: str, fields: Mapping[str, object], created: float | None) -> Item:
    """The item that a file is; its last change counts as its creation where nothing better is known.

    Raises:
        Unfit: It is a pipe or the like.
        OSError: It cannot be looked at.
    """
    seen = path.stat()
    if not stat.S_ISREG(seen.st_mode):
        raise Unfit("is not a regular file")

    def glance() -> tuple[int, int]:
        now = path.stat()
        return now.st_size, now.st_mtime_ns

    return Item(
        name=name,
        kind=kind,
        read=lambda: read_file(path),
        fields=fields,
        created=seen.st_mtime if created is None else created,
        files=(path,),
        glance=glance,
        where=path,
    )


def open_item(item: Item, rules: Rules, *, trust: bool) -> Value:
    """Read an item and decode it.

    Raises:
        Unfit: It cannot be what the function returned; the text says why, and quotes nothing of it.
    """
    try:
        content = item.read()
    except OSError as error:
        raise Unfit(f"cannot be read: {error.strerror or type(error).__name__}") from error
    if rules.reader is not None:
        return Value(_by_reader(rules, item, content), {}, content.mark)
    raw = decode(content.data, item.kind, rules, trust=trust)
    value, fields = within(raw, rules.value) if rules.value is not None else _unwrapped(raw, rules, trust=trust)
    return Value(value, fields, content.mark)


def _by_reader(rules: Rules, item: Item, content: Content) -> Any:
    assert rules.reader is not None
    try:
        return rules.reader(item.where if item.where is not None else content.data)
    except Exception as error:
        raise Unfit(f"the reader of the mapping failed: {type(error).__name__}") from error


def decode(data: Any, kind: str, rules: Rules, *, trust: bool) -> Any:
    """What bytes of some kind stand for.

    Raises:
        Unfit: They are damaged, or may not be opened.
    """
    if kind == "object":
        return data
    if kind == "stored":
        return _stored(data, rules, trust=trust)
    data = _decompressed(data)
    if not data and kind != "bytes":
        raise Unfit("is empty")
    if kind in NEEDS_TRUST and not trust:
        raise Unfit(_UNTRUSTED)
    try:
        return _READERS[kind](data, rules, trust)
    except (Unfit, MemoryError):
        raise
    except ModuleNotFoundError as error:
        raise Unfit(f"needs the module {error.name!r}, which cannot be imported here") from error
    except ImportError as error:
        raise Unfit(
            f"needs a library that is not installed: {'pyarrow' if kind != 'joblib' else error.name}"
        ) from error
    except Exception as error:  # damaged bytes make a library raise anything
        if kind in NEEDS_TRUST and isinstance(error, AttributeError):
            raise Unfit("needs a class or function that its module does not have any more") from error
        raise Unfit(f"is damaged, or not {kind}: {type(error).__name__}") from error


def _json(data: bytes, _rules: Rules, _trust: bool) -> Any:
    return json.loads(data)


def _pickle(data: bytes, _rules: Rules, _trust: bool) -> Any:
    return pickle.loads(data)  # behind --trust


def _joblib(data: bytes, _rules: Rules, _trust: bool) -> Any:
    joblib: Any = importlib.import_module("joblib")  # no import statement: it has no types, and need not be there
    return joblib.load(io.BytesIO(data))


def _numpy(data: bytes, _rules: Rules, trust: bool) -> Any:
    import numpy as np  # noqa: PLC0415

    found = np.load(io.BytesIO(data), allow_pickle=trust)
    return found if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}


_READERS: Final[Mapping[str, Callable[[bytes, Rules, bool], Any]]] = {
    "csv": lambda data, rules, _: read_csv(data, rules.frame),
    "json": _json,
    "pickle": _pickle,
    "joblib": _joblib,
    "parquet": lambda data, _rules, _trust: read_parquet(data),
    "feather": lambda data, _rules, _trust: read_feather(data),
    "numpy": _numpy,
    "bytes": lambda data, _rules, _trust: data,
}


def _decompressed(data: bytes) -> bytes:
    """The bytes below gzip, bz2, xz and zlib, as their first bytes tell."""
    try:
        if data[:2] == b"\x1f\x8b":
            return gzip.decompress(data)
        if data[:3] == b"BZh":
            return bz2.decompress(data)
        if data[:6] == b"\xfd7zXZ\x00":
            return lzma.decompress(data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise Unfit(f"its compressed bytes are damaged or cut off: {type(error).__name__}") from error
    return data


def _stored(data: bytes, rules: Rules, *, trust: bool) -> Any:
    """What an unknown program stored in Redis or a database: told by its first bytes."""
    if data[:1] == b"x" and data[1:2] in (b"\x01", b"\x5e", b"\x9c", b"\xda"):
        with contextlib.suppress(zlib.error):  # text that begins so
            data = zlib.decompress(data)
    data = _decompressed(data)
    if data[:1] == b"\x80" and data[-1:] == b".":
        return decode(data, "pickle", rules, trust=trust)
    for magic, kind in (
        (b"PAR1", "parquet"),
        (b"ARROW1", "feather"),
        (b"\x93NUMPY", "numpy"),
        (b"PK\x03\x04", "numpy"),
    ):
        if data.startswith(magic):
            return decode(data, kind, rules, trust=trust)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    try:
        return json.loads(text)
    except ValueError:
        return text


def _unwrapped(raw: Any, rules: Rules, *, trust: bool) -> tuple[Any, Mapping[str, object]]:
    """The value within a document such as ``{"type": "dataframe", "data": ..., "metadata": {...}}``."""
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str) or "data" not in raw:
        return raw, {}
    value, fields = within(raw, "data")
    if isinstance(value, bytes):
        value = _stored(value, rules, trust=trust)
    elif isinstance(value, str) and raw["type"].lower() in ("dataframe", "frame", "json", "dict", "list"):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise Unfit("its data is not JSON") from error
    if raw["type"].lower() in ("dataframe", "frame"):
        value = to_frame(value)
    return value, fields
