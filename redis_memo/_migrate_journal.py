"""The manifest of a migration: what was written and moved, a JSON line for each step, to go on by and to go back by.

A step is noted and on the disk before it is done, and noted again when it is done. Whatever moment the process dies at,
what follows knows everything that may have happened. A last line that was cut off never happened: its step had not
begun. (Write-ahead logging; ARIES, Mohan et al., TODS 1992, without its pages.)
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from ._large import Large
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ._large import Envelope

__all__ = ["Journal", "Past", "Written", "packed", "sync_folder", "unpacked"]

VERSION = 1


@dataclass(slots=True)
class Written:
    """What is known of one key that the migration wrote to.

    Attributes:
        tags: Of the entries that it may have written there.
        tokens: By which they are found.
        before: The entry that was there first, as `packed` made it; None for none.
        expires: When that one would have ended, in seconds since 1970.
    """

    tags: set[str] = field(default_factory=set)
    tokens: str = ""
    before: list[str] | None = None
    expires: float = 0.0


@dataclass(slots=True)
class Past:
    """What a manifest tells, since its migration began or was last rolled back.

    Attributes:
        began: The record of its beginning; empty if there is none.
        written: By key.
        verified: The records of items that were read back and found equal, by name.
        moves: Files of the clean-up: where they were, and where they were to go.
        roots: The archives.
    """

    began: Mapping[str, Any] = field(default_factory=dict)
    written: dict[str, Written] = field(default_factory=dict)
    verified: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    moves: dict[str, str] = field(default_factory=dict)
    roots: set[str] = field(default_factory=set)

    def take(self, record: Mapping[str, Any]) -> None:
        """Heed one line."""
        what = record["what"]
        if what == "begin" and not self.began:
            self.began = record
        elif what == "writing":
            self.verified.pop(record["item"], None)
            written = self.written.get(record["key"])
            if written is None:
                written = self.written[record["key"]] = Written(before=record["before"], expires=record["expires"])
            written.tags.add(record["tag"])
            written.tokens = record["tokens"]
        elif what == "verified":
            self.verified[record["item"]] = record
        elif what == "moving":
            self.moves[record["path"]] = record["to"]
            self.roots.add(record["root"])
        elif what == "restored":
            self.moves.pop(record["path"], None)
        elif what == "rolled back":
            self.began, self.written, self.verified, self.moves, self.roots = {}, {}, {}, {}, set()


class Journal:
    """A manifest that is open for a migration; nobody else can open it meanwhile.

    Args:
        path: The file.
        create: Make it where there is none.

    Raises:
        ConfigurationError: It cannot be opened, belongs to a running migration, or is not a manifest.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self.past = Past()
        self._lock = threading.Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        except FileNotFoundError:
            raise ConfigurationError(
                f"there is no manifest {path}: nothing was migrated by it, or it was rolled back already"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"the manifest {path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise ConfigurationError(f"the manifest {path} is in use by another migration") from error
        self._replay()
        sync_folder(path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def _replay(self) -> None:
        with open(os.dup(self._file), "rb") as file:  # noqa: PTH123 - of a descriptor
            data = file.read()
        whole = data.rfind(b"\n") + 1
        try:
            for line in data[:whole].splitlines():
                self.past.take(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            os.close(self._file)
            raise ConfigurationError(f"{self.path} is not the manifest of a migration, or is damaged") from error
        # What was cut off is taken away, lest the next line be joined to it.
        os.ftruncate(self._file, whole)
        os.lseek(self._file, whole, os.SEEK_SET)

    def note(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write down steps, and return when they are on the disk."""
        given = list(records)
        if not given:
            return
        data = b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in given)
        with self._lock:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
            for record in given:
                self.past.take(record)

    def remove(self) -> None:
        """Take the manifest away, when everything is as it was."""
        self.path.unlink()
        sync_folder(self.path.parent)

    def begin(self, record: Mapping[str, Any]) -> None:
        """Note what is migrated, unless that was noted by a run that this one goes on with.

        Raises:
            ConfigurationError: The manifest is of another migration.
        """
        began = self.past.began
        if not began:
            self.note([{"what": "begin", "version": VERSION, **record}])
            return
        for name in ("function", "source"):
            if began.get(name) != record[name]:
                raise ConfigurationError(
                    f"the manifest {self.path} is of the migration of {began.get('source')} into "
                    f"{began.get('function')}: name another one with --manifest"
                )


def sync_folder(folder: Path) -> None:
    """Return when what was made, renamed or removed in a folder is on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def packed(envelope: Envelope | None) -> list[str] | None:
    """An entry's strings as text: the one at its key first, then its chunks."""
    if envelope is None:
        return None
    whole = envelope.settle() if isinstance(envelope, Large) else Large((envelope,), settled=True)
    return [base64.b64encode(each).decode() for each in (whole.string, *whole.take_chunks())]


def unpacked(strings: list[str]) -> Envelope:
    """The reverse of `packed`."""
    first, *chunks = [base64.b64decode(each) for each in strings]
    if chunks or len(first) > 1 << 16:
        return Large((first,), [(chunk,) for chunk in chunks], settled=True)
    return first
