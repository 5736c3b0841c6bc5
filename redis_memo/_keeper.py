"""The small process that owns the embedded server and ends it when nobody uses it any more.

It is run by path (``python -I -S _keeper.py FOLDER SOCKET SERVER OPTION...``), knows the standard library only, and
is the parent of exactly one server. `_launch` starts it and reads one JSON line from its standard output.

Who is alive is never concluded from a pid, only from locks, which the kernel drops however their holder died:

``users.lock``
    Every user process holds it shared. Whoever gets it exclusively knows that there are no users.
``start.lock``
    Held while somebody joins, starts or stops. Taken before ``users.lock``, always: the keeper asks for
    ``users.lock`` alone only to be woken, lets go at once, and decides after it has ``start.lock`` as well. So a
    user that arrives during the last moments either is seen by that second look, or waits and then starts anew.
``keeper.lock``
    Held by the keeper as long as it lives; its text (`State`) names the pids, and is true while the lock is held.

None of the three is ever removed: a lock on a removed file excludes nobody.

Entries persist through the append-only file, not through snapshots. A snapshot that is restored after a crash brings
back what was invalidated or overwritten since it was taken, which is a wrong answer; the append-only file is written
before the reply is sent, so a killed server forgets nothing and revives nothing. It is not synced: only a machine
that goes down loses what the kernel had not written, and then the file is not believed (see `_forget_other_boot`).
"""

# Loading pathlib would take longer than all else here, and it knows no folder descriptors.
# ruff: noqa: PTH115, PTH119, PTH120, PTH123, PTH208
from __future__ import annotations

import _thread
import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable

__all__ = ["DATA", "KEEPER_LOCK", "LOG", "START_LOCK", "USERS_LOCK", "here", "main", "read_state"]

USERS_LOCK = "users.lock"
START_LOCK = "start.lock"
KEEPER_LOCK = "keeper.lock"
LOG = "server.log"
DATA = "appendonlydir"
BOOT = "boot"

State = dict[str, "str | int | bool"]
Prctl = Callable[[int, int, int, int, int], int]

_STATE_BYTES = 1024
_LOG_BYTES = 1_000_000
_STOP_SECONDS = 3.0
_LOCK_SECONDS = 5.0
_READY = b"Ready to accept connections"
_PR_SET_PDEATHSIG = 1


def boot_id() -> str:
    """Identify this run of the machine, or nothing where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def here() -> str:
    """Identify the realm in which a pid means something: this boot of this machine, this pid namespace.

    A folder can be shared by two containers, or by two machines over NFS. A pid from elsewhere must not be killed here.
    """
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{boot_id() or os.uname().nodename}/{namespace}"


def read_state(path: str) -> State:
    """Return what the keeper wrote into its lock file; empty if it wrote nothing, or something else did."""
    try:
        with open(path, "rb") as file:
            state = json.loads(file.read(_STATE_BYTES).strip(b" \0\n") or b"{}")
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


class _StartError(Exception):
    """The server does not start; the text says why."""


class _Keeper:
    """One folder, one server.

    Args:
        folder: The private folder; everything in it is reached through a descriptor, so that a folder that was
            removed and made again belongs to the next keeper alone.
        socket_path: Where the server listens, in the folder or (if that is too long) elsewhere.
        command: Path of the server's executable, and its options but for the socket.
    """

    def __init__(self, folder: str, socket_path: str, command: list[str]) -> None:
        self._socket = socket_path
        self._dir = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        # Relative inside the folder: the server removes its socket by name when it ends.
        inside = os.path.dirname(socket_path) == folder
        self._listen = os.path.basename(socket_path) if inside else socket_path
        self._command = [*command, "--unixsocket", self._listen]
        self._pid = 0
        self._output = -1
        self._tail: list[bytes] = []
        self._partial = b""
        self._log = self._open(LOG, os.O_APPEND)
        self._log_size = os.fstat(self._log).st_size
        self._users, self._start = self._open(USERS_LOCK), self._open(START_LOCK)
        self._state: State = {}
        self._wake, self._wake_writer = os.pipe()
        for end in (self._wake, self._wake_writer):
            os.set_blocking(end, False)
        self._terminate = False
        self._persists = True
        self._prctl = _find_prctl()

    # -- the life of the keeper ------------------------------------------------------------------------------

    def run(self) -> None:
        """Start the server, keep it until its last user has gone, end it."""
        self._take_keeper_lock()
        self._state.update({"keeper": os.getpid(), "where": here(), "host": os.uname().nodename, "ready": False})
        self._write_state()
        self._catch_signals()
        try:
            damaged = self._start_server()
            self._state.update({"version": self._version(), "ready": True})
            self._write_state()
            _report({**self._state, "damaged": damaged})
            self._serve()
        finally:
            self._stop_server()
            self._state.clear()
            self._write_state()

    def _serve(self) -> None:
        go_on = _thread.allocate_lock()
        go_on.acquire()
        _thread.start_new_thread(_wait_for_no_users, (self._users, self._wake_writer, go_on))
        asked = False
        while self._pid and not self._terminate:
            asked |= b"\0" in self._turn(0.02 if asked else None)
            if not asked:
                continue
            answer = self._unused()
            if answer:
                break
            if answer is False:
                asked = False
                go_on.release()

    def _unused(self) -> bool | None:
        """Tell whether there are no users, and keep both locks if so; None while somebody joins or starts.

        It never waits for start.lock: its holder may be waiting for this process to notice that the server died.
        """
        if not _try_lock(self._start):
            return None
        if _try_lock(self._users):
            return True
        fcntl.flock(self._start, fcntl.LOCK_UN)
        return False

    def _take_keeper_lock(self) -> None:
        self._lock = self._open(KEEPER_LOCK)
        end = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(self._lock):  # those who ask whether a keeper lives hold it, shared, for an instant
            if time.monotonic() > end:
                raise _StartError("another keeper holds this folder")
            time.sleep(0.001)

    def _write_state(self) -> None:
        # Always the same length, in place: once the file exists this needs no space on a full disk.
        os.pwrite(self._lock, json.dumps(self._state).encode().ljust(_STATE_BYTES), 0)

    def _catch_signals(self) -> None:
        # The starter's dispositions and mask are inherited: a thread that blocks SIGTERM must not make an unstoppable
        # server. The handlers do nothing; what counts is the byte that arrives in the pipe.
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def _turn(self, timeout: float | None) -> bytes:
        """Wait for something to happen and note it; return the wake-up bytes (a zero: no users)."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._output >= 0:
            poll.register(self._output, select.POLLIN)
        events = dict(poll.poll(None if timeout is None else timeout * 1000))
        woken = b""
        if self._wake in events:
            with contextlib.suppress(BlockingIOError):
                woken = os.read(self._wake, 4096)
        self._terminate |= bytes([signal.SIGTERM]) in woken
        if self._output in events:
            self._drain()
        self._reap()
        return woken

    # -- the server --------------------------------------------------------------------------------------------

    def _start_server(self) -> bool:
        """Start it and wait until it has loaded its entries; return whether damaged ones were put aside.

        What is wrong with the entries is not guessed from messages: if the server starts without them, it was them.
        """
        self._forget_other_boot()
        self._remove_leftovers()
        if self._launch():
            return False
        reason = self._reason()
        if self._terminate or not self._put_aside(DATA, f"{DATA}.bad"):
            raise _StartError(reason)
        if not self._launch():
            self._remove_folder(DATA)
            self._put_aside(f"{DATA}.bad", DATA)
            raise _StartError(reason)
        self._write_log(b"keeper: the entries of the last run could not be loaded; they are in appendonlydir.bad\n")
        return True

    def _launch(self) -> bool:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        # The server logs through this pipe; a stopped keeper must cost it log lines, not its life.
        os.set_blocking(writer, False)
        keeper = os.getpid()
        # A plain fork: this process has one thread yet, and the death signal is bound to the thread that forks.
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._become_server(keeper, writer)
            except BaseException as error:  # noqa: BLE001  # in a forked child: nothing may unwind into the parent's code
                with contextlib.suppress(OSError):
                    os.write(writer, f"cannot execute {self._command[0]}: {error}\n".encode(errors="replace"))
            finally:
                os._exit(127)
        os.close(writer)
        self._output = reader
        self._tail, self._partial = [], b""
        # Known from here on, so that whoever finds this keeper dead can end a server that survived it.
        self._state["server"] = self._pid
        self._write_state()
        while self._pid and not self._terminate:
            # Loading can take long, and the starter may die meanwhile.
            self._terminate |= not self._turn(0.5) and self._unused() is True
            if any(_READY in line for line in self._tail):
                return True
        self._stop_server()
        return False

    def _become_server(self, keeper: int, writer: int) -> None:
        os.setpgid(0, 0)
        if self._prctl is not None:
            # SIGTERM, not SIGKILL: the server then closes its file properly. If the keeper died before this call, the
            # signal would never come, hence the look at the parent afterwards.
            self._prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
            if os.getppid() != keeper:
                os._exit(0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.fchdir(self._dir)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.execve(self._command[0], self._command, {})  # noqa: S606  # no shell wanted

    def _stop_server(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
        end = time.monotonic() + _STOP_SECONDS
        while self._pid:
            left = end - time.monotonic()
            if left <= 0:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            self._turn(max(left, 0.05))
        # The server removes its socket when it is asked to end, not when it is killed. No other server can have made
        # a new one meanwhile: that takes keeper.lock, which is still held.
        with contextlib.suppress(OSError):
            os.unlink(self._listen, dir_fd=self._dir)

    def _reap(self) -> None:
        if not self._pid:
            return
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            return
        # A child of the server that rewrites the file outlives a killed server; they share a process group.
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        self._pid = 0
        if self._output >= 0:
            self._drain()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1
        if status == 0:
            self._note_boot("")
        else:
            code = os.waitstatus_to_exitcode(status)
            self._write_log(f"keeper: the server ended with {code}\n".encode())

    # -- its log -------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Copy what the server said to the log, and act on the one thing that needs it: a file it cannot write."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._output, 65536):
                data += chunk
            os.close(self._output)
            self._output = -1
        self._write_log(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._tail = (self._tail + lines)[-40:]
        if self._persists and any(b" # " in line and b"AOF" in line for line in lines):
            self._keep_serving_without_disk()

    def _keep_serving_without_disk(self) -> None:
        """Give up persistence when the disk is full: a server that cannot write its file refuses every write.

        The file goes too. It lacks what follows, so nothing may be restored from it; and it is space on a full disk.
        """
        if b"aof_last_write_status:err" not in self._ask(b"INFO persistence\r\n"):
            return
        if not self._ask(b"CONFIG SET appendonly no\r\n").startswith(b"+OK"):
            return
        self._persists = False
        self._remove_folder(DATA)
        self._write_log(b"keeper: the disk is full or failing; entries are kept in memory only until the next start\n")

    def _ask(self, command: bytes) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(self._socket)
                connection.sendall(command + b"QUIT\r\n")
                return b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError:
            return b""

    def _write_log(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk: the log is the least loss
            if self._log_size + len(data) > _LOG_BYTES:
                os.ftruncate(self._log, 0)
                self._log_size = 0
            self._log_size += os.write(self._log, data)

    def _reason(self) -> str:
        lines = [*self._tail, self._partial]
        warnings = [line for line in lines if b" # " in line or b"***" in line or b"FATAL" in line or b"cannot" in line]
        picked = [line for line in (warnings or lines) if line.strip() and b"overcommit" not in line][-3:]
        return " | ".join(line.decode(errors="replace").strip() for line in picked) or "it said nothing"

    def _version(self) -> str:
        for line in self._tail:
            name, found, rest = line.partition(b" version=")
            if found:
                return f"{name.rsplit(b' ', 1)[-1].decode()} {rest.split(b',', 1)[0].decode()}"
        return ""

    # -- its files ------------------------------------------------------------------------------------------------

    def _open(self, name: str, flags: int = 0) -> int:
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600, dir_fd=self._dir)

    def _forget_other_boot(self) -> None:
        """Drop the entries of a server that went down together with the machine.

        What the kernel had not written is missing at the end of its file: invalidations too, perhaps.
        """
        now = boot_id()
        then = self._note_boot(now)
        if then and now and then != now:
            self._remove_folder(DATA)
            self._write_log(b"keeper: the machine went down under the last server; its entries are forgotten\n")

    def _note_boot(self, boot: str) -> str:
        """Write down in which boot a server runs, or that none does, and return what was there (no space, as above)."""
        file = self._open(BOOT)
        try:
            before = os.read(file, 64).decode(errors="replace").strip()
            os.pwrite(file, boot.encode().ljust(64), 0)
        finally:
            os.close(file)
        return before

    def _remove_leftovers(self) -> None:
        """Remove what a rewrite left behind that was killed on the way."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._dir):
                if name.startswith("temp-") and name.endswith((".aof", ".rdb")):
                    os.unlink(name, dir_fd=self._dir)

    def _put_aside(self, source: str, target: str) -> bool:
        self._remove_folder(target)
        try:
            os.rename(source, target, src_dir_fd=self._dir, dst_dir_fd=self._dir)
        except OSError:
            return False
        return True

    def _remove_folder(self, name: str) -> None:
        """Remove a flat folder, or a file of that name."""
        try:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._dir)
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                os.unlink(name, dir_fd=self._dir)
            return
        try:
            for entry in os.listdir(inner):
                with contextlib.suppress(OSError):
                    os.unlink(entry, dir_fd=inner)
        finally:
            os.close(inner)
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=self._dir)


def _find_prctl() -> Prctl | None:
    """Return how to die with one's parent, where the system can do it; before the fork, as a child should not import.

    Elsewhere a server whose keeper was killed goes on alone; the next start ends it before it makes a new one.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes  # noqa: PLC0415  # 10 ms that only Linux needs

        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None


def _wait_for_no_users(users: int, wake: int, go_on: _thread.LockType) -> None:
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)
        with contextlib.suppress(BlockingIOError):
            os.write(wake, b"\0")
        go_on.acquire()


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _report(message: State) -> None:
    """Tell the starter, then let go of its pipe; it may be dead by now."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(message).encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def main(arguments: list[str]) -> None:
    """Leave the starter's session and family, then keep a server."""
    folder, socket_path, *command = arguments
    if os.fork():
        os._exit(0)  # the starter waits for this one, so that it has no zombie of ours, ever
    os.umask(0o077)
    try:
        _Keeper(folder, socket_path, command).run()
    except _StartError as error:
        _report({"error": str(error)})
    except OSError as error:
        _report({"error": f"{error.strerror or error} ({error.filename or 'server folder'})"})
    # Not sys.exit: the other thread is in flock for good.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
