"""The embedded server's private folder: which one it is, that it is ours alone, its secret, and where its socket goes.

Whoever can write into the folder decides what all its users read, so it is checked on every join: the owner, the mode,
no links in the place of files. Which files it holds, and what locks on them mean, is explained in `_keeper`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import stat
import sys
from pathlib import Path

from redis_memo import _keeper
from redis_memo.errors import ConfigurationError

__all__ = ["ELSEWHERE", "default_folder", "open_lock", "prepare", "resolve", "secret", "socket_path"]

log = logging.getLogger("redis_memo")

ELSEWHERE = "Name another folder, as in configure(url='embedded:///a/folder'), or a server, as in REDIS_MEMO_URL."

_SOCKET = "server.sock"
_SECRET = "secret"  # noqa: S105  # the name of a file
_SECRET_BYTES = 32
# sun_path holds 108 bytes on Linux and 104 on macOS, a final zero included. One limit for all.
_SOCKET_BYTES = 103


def default_folder() -> Path:
    """Return the user's own: ``$XDG_CACHE_HOME/redis_memo``, or where this system keeps caches.

    Raises:
        ConfigurationError: Neither the environment nor the user database names a home.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if cache.is_absolute():  # the standard: a relative one is to be ignored
        return cache / "redis_memo"
    home = Path(os.environ.get("HOME", ""))
    if not home.is_absolute():
        # As expanduser does without HOME; it takes an empty HOME for the root folder, and keeps "~" for a user id
        # that has no entry.
        with contextlib.suppress(ImportError, KeyError):
            import pwd  # noqa: PLC0415  # absent on some systems, and needed only where HOME is missing

            home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    if not home.is_absolute():
        raise ConfigurationError(
            f"no folder for the embedded server: neither HOME nor XDG_CACHE_HOME is set. {ELSEWHERE}"
        )
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "redis_memo"


def resolve(folder: Path | None) -> Path:
    """Return the folder under its real name; None is the default."""
    path = default_folder() if folder is None else folder
    try:
        return Path(os.path.realpath(path.expanduser()))
    except (ValueError, RuntimeError) as error:
        raise ConfigurationError("the embedded server's folder has an impossible name") from error


def prepare(path: Path) -> None:
    """Make the folder, or check that it is a folder of ours, and private.

    Raises:
        ConfigurationError: It is not.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(f"{path} cannot be the embedded server's folder: a file is in its place") from error
    found = path.stat()
    _check_owner(path, found)
    if stat.S_IMODE(found.st_mode) != 0o700:
        names = {entry.name for entry in path.iterdir()}
        # users.lock is the first thing ever made in the folder, so that it tells our folders from others.
        if names and _keeper.USERS_LOCK not in names:
            raise ConfigurationError(
                f"{path} cannot be the embedded server's folder: others may enter it, and it holds other files. "
                f"Choose a folder of its own."
            )
        path.chmod(0o700)
        if names:
            log.warning("the embedded server's folder %s was open to others; now it is private", path)
    os.close(open_lock(path / _keeper.USERS_LOCK))


def open_lock(path: Path) -> int:
    """Open one of the folder's lock files, made if it is missing."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path} belongs to user {found.st_uid}, and this process is user {os.geteuid()}: the embedded server "
            f"is for one user. {ELSEWHERE}"
        )


def socket_path(path: Path) -> str:
    """Return where the folder's server listens: inside, or for a long folder name in a short one.

    It depends on folder and user alone: processes with different environments must find the same server.
    """
    inside = str(path / _SOCKET)
    if len(os.fsencode(inside)) <= _SOCKET_BYTES:
        return inside
    short = Path(f"/tmp/redis_memo-{os.geteuid()}")  # noqa: S108  # checked below
    with contextlib.suppress(FileExistsError):
        short.mkdir(mode=0o700)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"the name of {path} is too long for a socket, and {short}, where it would go, is not a folder of yours. "
            f"Choose a shorter folder."
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        short.chmod(0o700)
    return str(short / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.sock")


def secret(path: Path) -> bytes:
    """Return the folder's secret; with start.lock held, so that two starters agree."""
    file = path / _SECRET
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return _new_secret(file)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ConfigurationError(f"{file} is a link; remove it") from error
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{file} is not a file; remove it")
        _check_owner(file, found)
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
            log.warning("the embedded server's secret %s was open to others; if they may have read it, remove it", file)
        content = os.read(descriptor, _SECRET_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) == _SECRET_BYTES:
        return content
    # Nothing can be verified with the rest of it: all it costs is the entries that were signed.
    log.warning("the embedded server's secret %s was damaged and has been replaced; signed entries are lost", file)
    return _new_secret(file)


def _new_secret(file: Path) -> bytes:
    content = os.urandom(_SECRET_BYTES)
    draft = file.with_name(f"{_SECRET}.new")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        if os.write(descriptor, content) != _SECRET_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.rename(file)
    return content
