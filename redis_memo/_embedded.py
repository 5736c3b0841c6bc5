"""The embedded server: a real Valkey on a private Unix socket, shared by all processes of one user.

`start` joins the server of a folder, or starts it. Joining means to hold ``users.lock`` shared, for as long as the
process lives; the keeper (see `_keeper`, which also explains the locks) ends the server when nobody holds it any more.
A forked child shares its parent's lock and counts; a program that is executed does not inherit it.

Nothing here is a background thread or a signal handler, and no child process remains: the keeper leaves the family
before `start` returns.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from redis_memo import _folder, _keeper, _launch
from redis_memo._folder import ELSEWHERE, default_folder, open_lock, resolve
from redis_memo.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EmbeddedServer", "EmbeddedStatus", "default_folder", "start", "status", "stop"]

_JOIN_SECONDS = 20.0
_PING_SECONDS = 1.0
_FROZEN_SECONDS = 2.0
_VANISHED_SECONDS = 1.0
_STOP_SECONDS = 4.0
_MIN_MEMORY = 1 << 20


@dataclass(frozen=True, kw_only=True)
class EmbeddedServer:
    """A running embedded server that this process has joined.

    Attributes:
        folder: Its private folder.
        socket: Path of the Unix socket to connect to.
        secret: 32 random bytes that all users of the folder share, to sign entries with.
        version: Such as ``"Valkey 9.1.2"``; empty if unknown.
    """

    folder: Path
    socket: str
    secret: bytes = field(repr=False)
    version: str


@dataclass(frozen=True, kw_only=True)
class EmbeddedStatus:
    """What is known about a folder's server from outside.

    Attributes:
        folder: The folder.
        running: Whether it answers, or at least its keeper lives.
        keeper: Process id of the keeper, or 0.
        server: Process id of the server, or 0.
        version: Such as ``"Valkey 9.1.2"``; empty if unknown.
        users: Process ids that joined; Linux only. Forked children go by their parent's.
    """

    folder: Path
    running: bool
    keeper: int
    server: int
    version: str
    users: tuple[int, ...]


@dataclass
class _Member:
    """This process's membership in one folder."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = -1
    users_id: tuple[int, int] = (0, 0)
    server: EmbeddedServer | None = None


_members: dict[Path, _Member] = {}
_members_lock = threading.Lock()
_held: set[int] = set()


def start(folder: Path | None = None, *, maxmemory: int | None = None) -> EmbeddedServer:
    """Join the embedded server of ``folder``, and start it if it is not running.

    Call it again, from any thread or forked child, when a connection failed: it looks whether the server still
    answers and restarts it if not. While all is well that costs a few system calls and one PING. It blocks; under
    asyncio call it in a thread.

    Args:
        folder: A folder for this alone; made if it does not exist. Default: `default_folder`.
        maxmemory: Bytes for entries. Whoever starts the server decides. Default: a quarter of the memory that this
            process may use, and at most 1 GiB: room for thousands of frames, and no burden on a laptop.

    Returns:
        Where and what the server is. After the folder was removed and made again, the secret is another one.

    Raises:
        StoreUnavailable: The server cannot be started or does not answer; the message says what to do.
        ConfigurationError: The folder cannot be used: not a folder, another user's, or open to others.
    """
    path = resolve(folder)
    if maxmemory is not None and (isinstance(maxmemory, bool) or maxmemory < _MIN_MEMORY):
        raise ConfigurationError(f"maxmemory of the embedded server must be at least {_MIN_MEMORY} bytes")
    with _members_lock:
        member = _members.setdefault(path, _Member())
    with member.lock:
        if member.server is not None and _still_joined(member, path) and _alive(path):
            # Alone, the PING could come from a server whose keeper has just died, and which will follow it.
            answer = _ping(member.server.socket, _PING_SECONDS)
            if answer == "pong":
                return member.server
        member.server = _join(path, member, maxmemory)
        return member.server


def status(folder: Path | None = None) -> EmbeddedStatus:
    """Look at a folder's server without joining or starting it."""
    path = resolve(folder)
    running = _alive(path)
    state = _keeper.read_state(str(path / _keeper.KEEPER_LOCK)) if running else {}
    return EmbeddedStatus(
        folder=path,
        running=running,
        keeper=_number(state, "keeper"),
        server=_number(state, "server"),
        version=str(state.get("version", "")),
        users=_users(path),
    )


def stop(folder: Path | None = None) -> bool:
    """End a folder's server, whoever uses it; entries are kept. Their next `start` starts it again.

    Returns:
        Whether it was running.

    Raises:
        StoreUnavailable: It runs on another machine or in another container, or does not end.
    """
    path = resolve(folder)
    if not _alive(path):
        return _end_orphan(path)
    deadline = time.monotonic() + _JOIN_SECONDS
    with _exclusive(path / _keeper.START_LOCK, deadline):
        if _alive(path):
            _end_keeper(path)
        return True


# -- joining -----------------------------------------------------------------------------------------------------


def _join(path: Path, member: _Member, maxmemory: int | None) -> EmbeddedServer:
    deadline = time.monotonic() + _JOIN_SECONDS
    try:
        _folder.prepare(path)
        listen = _folder.socket_path(path)
        with _exclusive(path / _keeper.START_LOCK, deadline):
            _become_user(path, member, deadline)
            secret = _folder.secret(path)
            version = _ensure_server(path, listen, maxmemory, deadline)
    except OSError as error:
        raise StoreUnavailable(
            f"the embedded server cannot use its folder {path}: {error.strerror or error}. "
            f"Make it writable and free some space, or choose otherwise. {ELSEWHERE}"
        ) from error
    return EmbeddedServer(folder=path, socket=listen, secret=secret, version=version)


def _ensure_server(path: Path, listen: str, maxmemory: int | None, deadline: float) -> str:
    """With start.lock held: make sure that a server answers; return its version."""
    silent_since: float | None = None
    for _attempt in range(4):
        while _alive(path):
            answer = _ping(listen, min(_PING_SECONDS, max(deadline - time.monotonic(), 0.05)))
            state = _keeper.read_state(str(path / _keeper.KEEPER_LOCK))
            now = time.monotonic()
            if answer == "pong" and _alive(path):
                return str(state.get("version", ""))
            if answer == "gone" and state.get("ready"):
                # Its keeper is about to notice, or somebody removed the socket.
                silent_since = silent_since or now
                patience = _VANISHED_SECONDS
            elif answer == "silent":
                silent_since = silent_since or now - _PING_SECONDS
                patience = _FROZEN_SECONDS
            else:  # loading its entries, or not yet listening
                silent_since = None
                patience = _JOIN_SECONDS
            if silent_since is not None and now - silent_since >= patience:
                _end_keeper(path)
                silent_since = None
                break
            if now >= deadline:
                raise StoreUnavailable(
                    f"the embedded server in {path} is still loading its entries; the next call tries again"
                )
            time.sleep(0.005)
        else:
            _end_orphan(path)
            _launch.spawn(path, listen, maxmemory, deadline)
    raise StoreUnavailable(f"the embedded server in {path} was started and did not stay; see {path / _keeper.LOG}")


def _end_keeper(path: Path) -> None:
    """End a keeper and its server, gently if they can; with start.lock held, and keeper.lock held by that keeper."""
    state = _keeper.read_state(str(path / _keeper.KEEPER_LOCK))
    keeper = _number(state, "keeper")
    if keeper <= 1:
        raise StoreUnavailable(f"the embedded server in {path} does not answer, and its keeper is not known")
    if state.get("where") != _keeper.here():
        raise StoreUnavailable(
            f"the embedded server in {path} does not answer here: it runs on another machine or in another container "
            f"({state.get('host', 'unknown')}). {ELSEWHERE}"
        )
    frozen = _ping(_folder.socket_path(path), 0.2) == "silent"
    if frozen:  # it would not hear a gentle word, nor would its keeper's waiting help
        _end_server(path, state)
    gently = _STOP_SECONDS if _is_server(_number(state, "server"), path) else 0.5
    for number, seconds in ((signal.SIGTERM, gently), (signal.SIGKILL, 1.0)):
        end = time.monotonic() + seconds
        # The lock is held, so the pid in it is that of its holder.
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, number)
        while time.monotonic() < end:
            if not _alive(path):
                _end_orphan(path)
                return
            time.sleep(0.003)
    raise StoreUnavailable(f"the embedded server in {path} does not answer, and its keeper {keeper} cannot be ended")


def _end_orphan(path: Path) -> bool:
    """End a server whose keeper has died; return whether there was one.

    Where the system can, such a server ends by itself, and this waits for it: two servers must not write one file.
    """
    state = _keeper.read_state(str(path / _keeper.KEEPER_LOCK))
    server = _number(state, "server")
    if state.get("where") != _keeper.here() or not _is_server(server, path):
        return False
    with contextlib.suppress(OSError):
        os.kill(server, signal.SIGTERM)
    end = time.monotonic() + _FROZEN_SECONDS
    while _is_server(server, path):
        if time.monotonic() > end:
            _end_server(path, state)
            end = time.monotonic() + _FROZEN_SECONDS
        time.sleep(0.003)
    return True


def _end_server(path: Path, state: _keeper.State) -> None:
    server = _number(state, "server")
    if _is_server(server, path):
        with contextlib.suppress(OSError):
            os.killpg(server, signal.SIGKILL)


def _is_server(pid: int, path: Path) -> bool:
    """Tell whether a pid from an old file still is our server, and not somebody who got the number later."""
    if pid <= 1:
        return False
    if Path("/proc/self/exe").exists():
        try:
            name = Path(f"/proc/{pid}/exe").readlink().name
            return name.startswith("valkey-server") and Path(f"/proc/{pid}/cwd").samefile(path)
        except OSError:  # gone, or not ours
            return False
    command = ["ps", "-o", "comm=", "-p", str(pid)]
    found = subprocess.run(command, capture_output=True, check=False, text=True)  # noqa: S603
    return "valkey-server" in found.stdout


# -- locks ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _exclusive(path: Path, deadline: float) -> Iterator[None]:
    """Hold start.lock."""
    file = open_lock(path)
    _held.add(file)
    try:
        _lock(file, fcntl.LOCK_EX, path, deadline)
        yield
    finally:
        _held.discard(file)
        # Closing would not do: a child that another thread forked meanwhile may share the lock.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)


def _lock(file: int, kind: int, path: Path, deadline: float) -> None:
    pause = 0.001
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StoreUnavailable(
                    f"another process has been starting or stopping the embedded server for too long: "
                    f"it holds {path}. End that process."
                ) from None
            time.sleep(pause)  # flock has no timeout
            pause = min(pause * 1.5, 0.02)
        else:
            return


def _become_user(path: Path, member: _Member, deadline: float) -> None:
    """Hold users.lock shared, until this process ends."""
    if _still_joined(member, path):
        return
    with contextlib.suppress(OSError):
        found = os.fstat(member.users) if member.users >= 0 else None
        if found is not None and (found.st_dev, found.st_ino) == member.users_id:
            os.close(member.users)  # of a folder that was removed; not unlocked, as forked children may share it
    member.users = -1
    file = open_lock(path / _keeper.USERS_LOCK)
    try:
        _lock(file, fcntl.LOCK_SH, path / _keeper.USERS_LOCK, deadline)
        made = os.fstat(file)
    except BaseException:
        os.close(file)
        raise
    member.users, member.users_id = file, (made.st_dev, made.st_ino)


def _still_joined(member: _Member, path: Path) -> bool:
    """Tell whether the lock is still ours: daemons close all their files, and folders get removed."""
    if member.users < 0:
        return False
    try:
        mine, there = os.fstat(member.users), (path / _keeper.USERS_LOCK).stat()
    except OSError:
        return False
    return (mine.st_dev, mine.st_ino) == member.users_id == (there.st_dev, there.st_ino)


def _alive(path: Path) -> bool:
    """Tell whether a keeper holds its lock. Shared, so that two who ask at once do not take each other for it."""
    try:
        file = os.open(path / _keeper.KEEPER_LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        fcntl.flock(file, fcntl.LOCK_UN)
        return False
    finally:
        os.close(file)


def _after_fork() -> None:
    # Another thread may have been in start() when the process forked: its lock would stay closed for ever, and its
    # start.lock would stay held through the child's copy.
    global _members_lock  # noqa: PLW0603
    _members_lock = threading.Lock()
    for member in _members.values():
        member.lock = threading.Lock()
    for file in _held:
        with contextlib.suppress(OSError):
            os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)


# -- the machine -------------------------------------------------------------------------------------------------------


def _ping(listen: str, seconds: float) -> str:
    """Ask the server: ``pong``, ``loading``, ``gone`` (nobody listens) or ``silent`` (no answer in time)."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                connection.connect(listen)
                connection.sendall(b"PING\r\n")
                answer = connection.recv(64)
        except TimeoutError:
            return "silent"
        except BlockingIOError:  # its queue of connections is full
            if time.monotonic() >= deadline:
                return "silent"
            time.sleep(0.005)
        except (FileNotFoundError, ConnectionError):
            return "gone"
        else:
            if answer.startswith(b"-LOADING"):
                return "loading"
            # Any other error is an answer as well, such as that of a server whose disk is full.
            return "pong" if answer else "gone"


def _number(state: _keeper.State, name: str) -> int:
    value = state.get(name, 0)
    return value if isinstance(value, int) else 0


def _users(path: Path) -> tuple[int, ...]:
    """Return who holds users.lock, as far as the system tells."""
    try:
        found = (path / _keeper.USERS_LOCK).stat()
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return ()
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    held = [line.split() for line in lines if " READ " in line and f" {device} " in line and "->" not in line]
    return tuple(sorted({int(words[4]) for words in held}))
