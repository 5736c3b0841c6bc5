"""Files of a project replaced, so that it can be undone: a backup and its manifest first, then file after file.

A file is replaced by a rename within its folder, so whoever reads it finds the old text or the new one. The manifest is
on the disk before the first file changes; whatever interrupts the rest, `rolled_back` knows for each file whether it is
the old one, the new one or somebody else's. The backup holds copies with secrets: it is private, and git ignores it.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from .errors import ConfigurationError

__all__ = ["FOLDER", "Change", "applied", "backups", "rolled_back"]

FOLDER = ".redis_memo"
_MANIFEST = "manifest.json"
_FORMAT = 1


class Change(NamedTuple):
    """A file that is to be replaced, or made.

    Attributes:
        path: Its path; a link is followed.
        before: Its bytes, None where it is not there.
        after: Its new bytes.
    """

    path: Path
    before: bytes | None
    after: bytes


def _digest(data: bytes | None) -> str:
    return "" if data is None else hashlib.sha256(data).hexdigest()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    with contextlib.suppress(OSError):  # not every system lets a folder be opened
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace(path: Path, data: bytes, mode: int, times: tuple[int, int] | None = None) -> None:
    """Give a file new bytes and keep its mode, owner and extended attributes."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if path.exists():
                shutil.copystat(path, draft)
                found = path.stat()
                with contextlib.suppress(OSError):  # only root gives files away
                    os.chown(draft, found.st_uid, found.st_gid)
            draft.chmod(mode)
            if times is None:
                os.utime(draft)
            else:
                os.utime(draft, ns=times)
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _kept(root: Path) -> Path:
    """The folder of backups, private and ignored by git."""
    folder = root / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    kept = folder / "config"
    kept.mkdir(mode=0o700, exist_ok=True)
    return kept


def applied(root: Path, changes: list[Change]) -> Path:
    """Replace files, after a backup of them.

    Args:
        root: The project's folder, which gets the backup.
        changes: What is to be replaced.

    Returns:
        The backup's folder.

    Raises:
        ConfigurationError: A file cannot be written, or changed since it was read.
    """
    try:
        return _applied(root, changes)
    except OSError as error:
        raise ConfigurationError(f"{error.filename or root} cannot be written: {error.strerror}") from error


def _applied(root: Path, changes: list[Change]) -> Path:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    backup = _kept(root) / moment
    backup.mkdir(mode=0o700)
    listed: list[dict[str, Any]] = []
    places = [Path(os.path.realpath(change.path)) for change in changes]
    for number, (change, place) in enumerate(zip(changes, places, strict=True)):
        entry: dict[str, Any] = {
            "path": str(change.path),
            "place": _kept_place(root, place),
            "before": None,
            "mode": 0o600,
        }
        if change.before is not None:
            found = place.stat()
            entry |= {
                "mode": stat.S_IMODE(found.st_mode), "times": [found.st_atime_ns, found.st_mtime_ns],
                "before": _digest(change.before), "copy": str(number),
            }  # fmt: skip
            _private(backup / str(number), change.before)
        listed.append({**entry, "after": _digest(change.after)})
    manifest = {"format": _FORMAT, "made": moment, "files": listed}
    _private(backup / _MANIFEST, json.dumps(manifest, indent=2).encode())
    _sync(backup)
    for change, place, entry in zip(changes, places, listed, strict=True):
        if _read(place) != change.before:
            raise ConfigurationError(
                f"{change.path} has changed meanwhile, and is left as it is; "
                "undo the rest with: redis-memo config rollback"
            )
        _replace(place, change.after, entry["mode"])
    return backup


def _kept_place(root: Path, place: Path) -> str:
    """A place within the project by its way from there, so that the project may be moved meanwhile."""
    top = Path(os.path.realpath(root))
    return str(place.relative_to(top) if place.is_relative_to(top) else place)


def _private(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def backups(root: Path) -> list[Path]:
    """The backups of a project, the newest last."""
    folder = root / FOLDER / "config"
    return sorted(path.parent for path in folder.glob(f"*/{_MANIFEST}")) if folder.is_dir() else []


def rolled_back(root: Path, backup: Path, *, force: bool = False, dry_run: bool = False) -> list[tuple[str, str]]:
    """Put files back as they were, byte for byte, with their modes and times; then remove the backup.

    Args:
        root: The project's folder.
        backup: One of `backups`.
        force: Also where somebody changed a file since.
        dry_run: Say what would be done.

    Returns:
        The files, and what was done with each: ``"restored"``, ``"removed"``, ``"as it was"``.

    Raises:
        ConfigurationError: A file has changed since, or the backup is damaged; then nothing was done.
    """
    try:
        manifest = json.loads((backup / _MANIFEST).read_bytes())
        files: list[dict[str, Any]] = manifest["files"]
        copies = [None if each["before"] is None else (backup / each["copy"]).read_bytes() for each in files]
        top = Path(os.path.realpath(root))
        places = [top / each["place"] for each in files]
        found = [_read(place) for place in places]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"the backup {backup.name} cannot be read: {type(error).__name__}") from error
    if manifest.get("format") != _FORMAT:
        raise ConfigurationError(f"the backup {backup.name} is of another version of redis-memo")
    for each, copy in zip(files, copies, strict=True):
        if copy is not None and _digest(copy) != each["before"]:
            raise ConfigurationError(f"the backup of {each['path']} is damaged; nothing was done")
    foreign = [
        each["path"]
        for each, data in zip(files, found, strict=True)
        if _digest(data) not in (each["after"], each["before"] or "")
    ]
    if foreign and not force:
        raise ConfigurationError(
            f"{', '.join(foreign)} has changed since the update; nothing was done. "
            "--force puts back what was there before, and loses those changes"
        )
    done = []
    try:
        for each, place, copy, data in zip(files, places, copies, found, strict=True):
            done.append((each["path"], _put_back(each, place, copy, data, dry_run=dry_run)))
        if not dry_run:
            shutil.rmtree(backup)
            _prune(root)
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be written: {error.strerror}; roll back again") from error
    return done


def _put_back(each: dict[str, Any], place: Path, copy: bytes | None, data: bytes | None, *, dry_run: bool) -> str:
    if not dry_run:
        for draft in place.parent.glob(f".{glob.escape(place.name)}.*.new"):
            if draft.name.split(".")[-2].isdigit():  # of an update that was killed
                draft.unlink()
    if data == copy:
        return "as it was"
    if copy is None:
        if not dry_run:
            place.unlink()
        return "removed"
    if not dry_run:
        _replace(place, copy, each["mode"], (each["times"][0], each["times"][1]))
    return "restored"


def _prune(root: Path) -> None:
    """Leave no folder behind that only ever held backups."""
    folder = root / FOLDER
    with contextlib.suppress(OSError):
        (folder / "config").rmdir()
        if {path.name for path in folder.iterdir()} <= {".gitignore"}:
            shutil.rmtree(folder)
