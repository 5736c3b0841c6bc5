"""P5: the cache never breaks the caller. Real servers that die, freeze, refuse, forget or talk nonsense."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from redis_memo import MISSING, connect, invalidate, redis_cached
from redis_memo.errors import ConfigurationError, StoreError, StoreRefused, StoreUnavailable

from .conftest import SECRET, Server, free_port, start_server, until, valkey


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test's own, to be maltreated."""
    own = start_server(valkey())
    yield own
    if own.process is not None and own.process.poll() is None:
        own.process.send_signal(signal.SIGCONT)
    own.stop()


def decorated(cache, on_error="compute"):
    calls = []

    @redis_cached(namespace="outage", ttl=60, cache=cache, on_error=on_error, name="fetch")
    def fetch(x):
        calls.append(x)
        return {"x": x, "run": len(calls)}

    return fetch, calls


def decorated_async(cache):
    calls = []

    @redis_cached(namespace="outage", ttl=60, cache=cache, name="fetch")
    async def fetch(x):
        calls.append(x)
        return {"x": x, "run": len(calls)}

    return fetch, calls


def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    cache = connect(f"redis://127.0.0.1:{free_port()}", secret=SECRET)
    fetch, calls = decorated(cache)
    with caplog.at_level(logging.WARNING, "redis_memo"):
        assert [fetch(x)["x"] for x in (1, 1, 2)] == [1, 1, 2]
    assert calls == [1, 1, 2]
    assert fetch.peek(1) is MISSING
    assert fetch.store(5, 1) is False
    assert fetch.refresh(1)["x"] == 1
    info = fetch.cache_info()
    assert info.errors > 0
    assert info.currsize is None
    assert any("cannot be reached" in record.message for record in caplog.records)
    afetch, acalls = decorated_async(cache)
    assert asyncio.run(afetch(3))["x"] == 3
    assert acalls == [3]


def test_a_configured_server_is_never_swapped_for_another(tmp_path) -> None:
    """No silent fallback: what cannot be reached stores nothing anywhere."""
    cache = connect(f"unix://{tmp_path}/nowhere.sock", secret=SECRET)
    fetch, calls = decorated(cache)
    fetch(1)
    fetch(1)
    assert calls == [1, 1]


def test_who_wants_failure_gets_it() -> None:
    fetch, calls = decorated(connect(f"redis://127.0.0.1:{free_port()}"), on_error="raise")
    with pytest.raises(StoreUnavailable):
        fetch(1)
    assert calls == []


def test_an_invalidation_that_did_not_happen_raises(server: Server) -> None:
    cache = connect(server.url, secret=SECRET)
    fetch, _ = decorated(cache)
    fetch(1)
    server.stop()
    for attempt in (lambda: invalidate(fetch, x=1), lambda: invalidate(fetch), lambda: cache.clear("outage"), fetch.cache_clear):
        with pytest.raises(StoreError):
            attempt()


def test_the_server_dies_during_the_computation(server: Server) -> None:
    cache = connect(server.url, secret=SECRET)

    @redis_cached(namespace="outage", ttl=60, cache=cache)
    def fetch(x):
        server.stop()
        return x

    assert fetch(1) == 1
    assert fetch(1) == 1


def test_hits_again_once_it_is_back_and_nothing_was_restarted_here(server: Server) -> None:
    cache = connect(server.url, secret=SECRET)
    fetch, calls = decorated(cache)
    fetch(1)
    server.stop()
    for _ in range(20):
        assert fetch(1)["x"] == 1
    computed = len(calls)
    assert computed == 21
    back = start_server(valkey(), port=int(server.url.rsplit(":", 1)[1].split("/")[0]))
    try:
        until(lambda: fetch(1) == fetch(1), 5)
        before = len(calls)
        assert fetch(1) == fetch(1)
        assert len(calls) == before
    finally:
        back.stop()


def test_a_restarted_empty_server_costs_no_error(server: Server) -> None:
    """Idle connections are dead then, and the scripts are gone."""
    cache = connect(server.url, secret=SECRET)
    fetch, calls = decorated(cache)
    fetch(1)
    server.stop()
    back = start_server(valkey(), port=int(server.url.rsplit(":", 1)[1].split("/")[0]))
    try:
        assert fetch(1)["run"] == 2
        assert fetch(1)["run"] == 2
        assert fetch.cache_info().errors == 0
    finally:
        back.stop()


def test_a_frozen_server_costs_its_time_limit_once(server: Server) -> None:
    cache = connect(server.url, secret=SECRET, timeout=0.2)
    fetch, calls = decorated(cache)
    fetch(1)
    server.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert fetch(1)["run"] == 2
    first = time.monotonic() - began
    began = time.monotonic()
    for _ in range(100):
        fetch(1)
    assert len(calls) == 102
    assert first < 5, "one exchange, not a chain of retries"
    server.process.send_signal(signal.SIGCONT)
    until(lambda: fetch(1) == fetch(1), 5)


def test_a_full_server(server: Server) -> None:
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
    fetch, calls = decorated(connect(server.url, secret=SECRET))
    assert [fetch(1)["x"], fetch(1)["x"]] == [1, 1]
    assert len(calls) == 2
    raising, _ = decorated(connect(server.url, secret=SECRET), on_error="raise")
    with pytest.raises(StoreRefused, match="maxmemory"):
        raising(1)


def test_a_read_only_replica(server: Server) -> None:
    with server.client() as client:
        client.replicaof("127.0.0.1", str(free_port()))
    fetch, calls = decorated(connect(server.url, secret=SECRET))
    assert [fetch(1)["x"], fetch(1)["x"]] == [1, 1]
    assert len(calls) == 2
    with pytest.raises(StoreRefused):
        invalidate(fetch, x=1)


def test_a_password_that_is_missing_or_wrong(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with server.client() as client:
        client.config_set("requirepass", "hunter2hunter2")
    wrong = server.url.replace("redis://", "redis://:not-the-password@")
    for url in (server.url, wrong):
        fetch, calls = decorated(connect(url, secret=SECRET))
        assert [fetch(1)["x"], fetch(1)["x"]] == [1, 1]
    right = server.url.replace("redis://", "redis://:hunter2hunter2@")
    cache = connect(right, secret=SECRET)
    fetch, calls = decorated(cache)
    assert fetch(1) == fetch(1)
    assert len(calls) == 1
    said = " ".join(record.getMessage() for record in caplog.records) + repr(cache) + str(fetch.explain(1))
    assert "hunter2" not in said
    assert "not-the-password" not in said


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\xff" * 100, b"$-5\r\n", b"*1\r\n:1\r\n", b":1\r\n", b"$999999999999\r\nx", b"+OK\r\n", b""],
    ids=["http", "binary", "negative", "list", "integer", "huge", "status", "closed"],
)
def test_something_else_listens_there(answer: bytes) -> None:
    """Garbage for an answer: never an exception, never another call's answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(0.5)
                    try:
                        while connection.recv(65536):
                            connection.sendall(answer * 3)
                            if not answer:
                                break
                    except OSError:
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            cache = connect(f"redis://127.0.0.1:{listener.getsockname()[1]}", secret=SECRET, timeout=0.3)
            fetch, calls = decorated(cache)
            assert [fetch(x)["x"] for x in (1, 2, 1)] == [1, 2, 1]
            afetch, _ = decorated_async(cache)
            assert asyncio.run(afetch(3))["x"] == 3
            if answer != b":1\r\n":  # which is how a Redis says that it went
                with pytest.raises(StoreError):
                    invalidate(fetch, x=1)
        finally:
            stop.set()
            thread.join()


def test_values_of_other_kinds_at_our_keys(server: Server) -> None:
    """WRONGTYPE, plain strings, other programs' data."""
    cache = connect(server.url, secret=SECRET)
    fetch, calls = decorated(cache)
    key = fetch.cache_key(1)
    with server.client() as client:
        for spoil in (
            lambda: client.set(key, b""),
            lambda: client.set(key, b"\x80\x04K\x01."),
            lambda: client.set(key, "gzip" * 100),
        ):
            client.delete(key)
            spoil()
            before = len(calls)
            assert fetch(1)["x"] == 1
            assert fetch(1)["x"] == 1
            assert len(calls) == before + 1, "unreadable is a miss, and is replaced"
        client.delete(key)
        client.rpush(key, 1)
        assert fetch(1)["x"] == 1
    assert fetch.cache_info().unreadable == 3


def test_configuration_errors_are_raised_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://localhost", "redis//localhost", "rediss", "redis://localhost:port", "redis://h/0?nonsense=1", "emdedded://"):
        with pytest.raises(ConfigurationError) as caught:
            connect(url.replace("localhost", "user:hunter2@localhost"))
        assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("REDIS_MEMO_EMBEDDED", "never")
    with pytest.raises(ConfigurationError, match="REDIS_MEMO_URL"):
        connect()
    monkeypatch.setenv("REDIS_URL", "redis://localhost:1")
    assert "localhost:1" in repr(connect())
    monkeypatch.setenv("REDIS_MEMO_URL", "redis://localhost:2")
    assert "localhost:2" in repr(connect())
    with pytest.raises(ConfigurationError, match="timeout"):
        connect("redis://h", timeout=0)
    with pytest.raises(ConfigurationError, match="timeot"):
        connect("redis://h", timeot=1)


def test_a_leader_that_is_killed_is_replaced_within_its_lease(server: Server) -> None:
    """P4: kill -9 in the middle of a computation; the next caller does not wait for ever."""
    pid = os.fork()
    if pid == 0:
        try:
            cache = connect(server.url, secret=SECRET, lease=1.0)
            redis_cached(namespace="outage", ttl=60, cache=cache, name="slow")(lambda x: time.sleep(60))(1)
        finally:
            os._exit(1)
    with server.client() as client:
        until(lambda: list(client.scan_iter("memo:*:lease")))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        cache = connect(server.url, secret=SECRET, lease=1.0)
        slow = redis_cached(namespace="outage", ttl=60, cache=cache, name="slow")(lambda x: x)
        assert slow(1) == 1
        assert slow.peek(1) == 1
        assert list(client.scan_iter("memo:*:lease")) == []


def test_a_long_computation_keeps_its_lease(server: Server) -> None:
    """P4: renewed while it runs, although the lease is shorter."""
    begun = threading.Event()
    go_on = threading.Event()
    runs = []

    def slow(x):
        runs.append(x)
        begun.set()
        assert go_on.wait(30)
        return x

    first = redis_cached(namespace="outage", ttl=60, cache=connect(server.url, secret=SECRET, lease=0.5), name="slow")(slow)
    second = redis_cached(namespace="outage", ttl=60, cache=connect(server.url, secret=SECRET, lease=0.5), name="slow")(slow)
    results = []
    leader = threading.Thread(target=lambda: results.append(first(1)))
    leader.start()
    assert begun.wait(10)
    with server.client() as client:
        (lease,) = client.scan_iter("memo:*:lease")
        renewed = [0, client.pttl(lease)]

        def was_renewed() -> bool:
            left = client.pttl(lease)
            renewed[0] += left > renewed[1]
            renewed[1] = left
            return renewed[0] >= 4

        waiter = threading.Thread(target=lambda: results.append(second(1)))
        waiter.start()
        until(was_renewed)
    go_on.set()
    leader.join()
    waiter.join()
    assert results == [1, 1]
    assert runs == [1]
