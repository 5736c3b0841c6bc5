"""After a migration: verified sources moved to an archive, and all of it taken back. By the manifest alone.

Nothing is deleted, and nothing is overwritten: a file is moved only to where none is, and only if it is byte for byte
what was verified.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from . import _clock as clock
from . import _entries as entries
from . import _ops as ops
from ._envelope import HEAD
from ._identity import registry as registry_of
from ._migrate_journal import sync_folder, unpacked
from ._migrate_plan import Outcome, tag_of
from ._migrate_run import Report, patiently, read_entry
from .errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._engine import Engine
    from ._migrate_calls import Target
    from ._migrate_journal import Journal, Written

__all__ = ["clean_up", "roll_back"]

_PART: Final = ".redis-memo-part"


def clean_up(journal: Journal, archive: Path) -> Report:
    """Move the files of verified items to an archive, below it as they lay in their folder.

    Args:
        journal: The manifest.
        archive: A folder; made where there is none.

    Returns:
        For each item ``"moved"``, or ``"failed"`` and why it was left.
    """
    report = Report()
    root = Path(journal.past.began["source"])
    for name, record in list(journal.past.verified.items()):
        paths = [Path(each) for each in record["files"]]
        if not paths:
            report.outcomes.append(Outcome(name, "skipped", "is not a file of its own, and stays where it is"))
            continue
        states = []
        for number, path in enumerate(paths):
            to = archive / _below(path, root)
            states.append(_archive(journal, path, to, archive, record["digest"] if number == 0 else None))
        bad = next((why for state, why in states if state == "failed"), None)
        report.outcomes.append(Outcome(name, "moved" if bad is None else "failed", bad or ""))
    return report


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)


def _archive(journal: Journal, path: Path, to: Path, archive: Path, digest: str | None) -> tuple[str, str]:
    noted = journal.past.moves.get(str(path))
    if noted is not None:
        to = Path(noted)
        if not path.exists() and to.exists():
            return "moved", ""
    try:
        if digest is not None and blake3(path.read_bytes()).hexdigest() != digest:
            return "failed", "has changed since it was verified, and stays: migrate it again"
        if os.path.lexists(to) and not _half_moved(path, to):
            return "failed", f"stays: there is something at {to} already"
        if noted is None:
            journal.note([{"what": "moving", "path": str(path), "to": str(to), "root": str(archive)}])
        to.parent.mkdir(parents=True, exist_ok=True)
        _move(path, to)
        if digest is not None and blake3(to.read_bytes()).hexdigest() != digest and not os.path.lexists(path):
            _move(to, path)  # written to between the look and the move
            return "failed", "has changed since it was verified, and stays: migrate it again"
    except OSError as error:
        return "failed", f"stays: {error.strerror}"
    return "moved", ""


def _half_moved(path: Path, to: Path) -> bool:
    """Whether a move to another file system was cut off after the copy was whole."""
    try:
        return path.stat().st_dev != to.stat().st_dev and path.read_bytes() == to.read_bytes()
    except OSError:
        return False


def _move(path: Path, to: Path) -> None:
    """Move a file with its times; over file systems by a copy that gets its name when it is on the disk."""
    try:
        path.rename(to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = to.with_name(to.name + _PART)
        shutil.copy2(path, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(to)
        sync_folder(to.parent)
        path.unlink()
    sync_folder(to.parent)
    sync_folder(path.parent)


def roll_back(journal: Journal, target: Target) -> Report:
    """Put files and Redis back to where they were before the migration began.

    An entry that the function has computed anew since is its own, and stays.

    Args:
        journal: The manifest.
        target: The function.

    Returns:
        For each file and key ``"restored"``, ``"deleted"``, ``"left"`` or ``"failed"``.
    """
    report = Report()
    past = journal.past
    roots = set(past.roots)
    for path, to in list(past.moves.items()):
        report.outcomes.append(_bring_back(journal, Path(path), Path(to)))
    engine, namespace = target.memo.engine, target.memo.namespace
    for key, written in past.written.items():
        try:
            state, why = _revert(engine, namespace, key, written)
        except StoreError as error:
            state, why = "failed", f"Redis: {error}"
        report.outcomes.append(Outcome(key, state, why, key))
    if report.count("failed"):
        return report
    for prefix in _unregistered(past.began):
        _strike(engine, namespace, prefix)
    _remove_empty(roots)
    journal.note([{"what": "rolled back", "at": clock.now()}])
    journal.remove()
    return report


def _bring_back(journal: Journal, path: Path, to: Path) -> Outcome:
    try:
        if os.path.lexists(path):
            if os.path.lexists(to) and not _half_moved(path, to):
                return Outcome(str(path), "failed", f"there is another file by now; the old one is at {to}")
            if os.path.lexists(to):
                to.unlink()  # the copy of a move that never ended
        elif not os.path.lexists(to):
            return Outcome(str(path), "failed", f"is neither where it was nor at {to}")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            _move(to, path)
    except OSError as error:
        return Outcome(str(path), "failed", f"cannot be moved back: {error.strerror}")
    journal.note([{"what": "restored", "path": str(path)}])
    return Outcome(str(path), "restored")


def _remove_empty(roots: set[str]) -> None:
    """Take away what is left of the archives: folders without anything in them."""
    for root in roots:
        for folder, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def _revert(engine: Engine, namespace: str, key: str, written: Written) -> tuple[str, str]:
    place = ops.Place(key[: -ops.DIGEST], key[-ops.DIGEST :], bytes.fromhex(written.tokens))
    there, _ = read_entry(engine, place)
    if there is None:
        return "left", "nothing stands there any more: it expired, was invalidated, or was never stored"
    if tag_of(there) not in written.tags:
        before = written.before is not None and tag_of(unpacked(written.before)) == tag_of(there)
        return ("restored", "") if before else ("left", "was computed anew since, and is the function's own")
    if written.before is None or written.expires <= clock.now():
        return _said(
            patiently(engine, namespace, lambda: entries.withdraw(place, engine.settings.lease, there)), "deleted"
        )
    old = unpacked(written.before)
    sealed = ops.Sealed(old, 0.0, _tokens(old))
    flow = partial(entries.adopt, place, engine.settings.lease, sealed, written.expires, there)
    return _said(patiently(engine, namespace, flow), "restored")


def _said(answer: object, state: str) -> tuple[str, str]:
    if answer is True:
        return state, ""
    if isinstance(answer, ops.Busy):
        return "failed", "is being computed right now: roll back once more"
    return "left", "was computed anew meanwhile, and is the function's own"


def _tokens(envelope: Any) -> bytes:
    """The tokens that an entry itself names."""
    string = bytes(envelope.string if hasattr(envelope, "string") else envelope)
    length = int.from_bytes(string[6:8], "little")
    return string[HEAD.size : HEAD.size + length]


def _unregistered(began: Mapping[str, Any]) -> list[str]:
    """Prefixes that the namespace's list did not have before; a manifest of before there were shards tells of one."""
    if "unregistered" in began:
        return list(began["unregistered"])
    return [began["prefix"]] if began and not began["registered"] else []


def _strike(engine: Engine, namespace: str, prefix: str) -> None:
    """Take a function's shard out of its namespace's list, if it has nothing left."""

    def flow() -> ops.Flow:
        if (yield ops.Count(prefix)) == 0:
            registry = registry_of(namespace)
            moment, _ = yield ops.Enroll(registry, prefix)
            yield ops.Strike(registry, prefix, moment + 1)

    engine.run(flow())
