"""P5: the cache never breaks the caller. Real servers that die, freeze, refuse, forget or talk nonsense."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import redis

from redis_memo import MISSING, Cache, CacheDict, connect, invalidate, redis_cached
from redis_memo._envelope import CHUNKS, HEAD, MAGIC
from redis_memo.errors import ConfigurationError, StoreError, StoreRefused, StoreUnavailable

from .conftest import SECRET, UNCLOSED, Server, debian_redis, free_port, start_server, until, valkey
from .faults import answering, calls_through


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


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:{port}", "nobody listens there"),
        ("redis://localhost:{port}", "nobody listens there"),
        ("rediss://127.0.0.1:{port}", "nobody listens there"),
        ("redis+cluster://127.0.0.1:{port}", "nobody listens there"),
        ("redis+sentinel://127.0.0.1:{port}/mymaster", "nobody listens there"),
        ("unix:///nowhere/redis.sock", "there is no such socket"),
        ("redis://no-such-host.invalid", "the host's name cannot be resolved"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "async"])
def test_why_a_server_cannot_be_reached_is_said(url: str, said: str, is_async: bool) -> None:
    cache = connect(url.format(port=free_port()))
    try:
        raise FileNotFoundError  # what the caller is handling has no say in it
    except FileNotFoundError:
        with pytest.raises(StoreUnavailable, match=f"cannot be reached: {said}"):
            asyncio.run(cache.aclear("outage")) if is_async else cache.clear("outage")
    cache.close()


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
    assert "cannot be reached: nobody listens there; calls compute" in caplog.records[0].message
    assert "`redis-memo doctor` says more" in caplog.records[0].message
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
    for attempt in (
        lambda: invalidate(fetch, x=1),
        lambda: invalidate(fetch),
        lambda: cache.clear("outage"),
        fetch.cache_clear,
    ):
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
    assert fetch.store({"x": 1}, 1) is False
    assert (fetch.cache_info().bytes_stored, fetch.cache_info().bytes_saved) == (0, 0)
    with server.client() as client:
        client.config_set("maxmemory", "0")
    until(lambda: fetch.store({"x": "1" * 1000}, 2))
    info = fetch.cache_info()
    assert 0 < info.bytes_stored < info.bytes_saved
    with server.client() as client:
        client.config_set("maxmemory", "1")
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
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\xff" * 100,
        b"$-5\r\n",
        b"*1\r\n:1\r\n",
        b":1\r\n",
        b"$999999999999\r\nx",
        b"+OK\r\n",
        b"",
        b"-MOVED\r\n",
        b"-ASK\r\n",
        b"-MOVED 1 somewhere:else\r\n",
    ],
    ids=[
        "http", "binary", "negative", "list", "integer", "huge", "status", "closed", "moved", "ask", "moved to nowhere",
    ],
)  # fmt: skip
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


HEAD_OF_CHUNKS = MAGIC + bytes(CHUNKS.start - 4) + b"\1\0\0\0" + bytes(HEAD.size - CHUNKS.stop)


@pytest.mark.parametrize(
    "replies",
    [
        {b"EVALSHA": [b"*2\r\n:1\r\n*1\r\n:1\r\n"]},
        {b"EVALSHA": [b"*2\r\n:1\r\n*1\r\n$1\r\n\xff\r\n"]},
        {b"GET": [b"$%d\r\n%b\r\n" % (len(HEAD_OF_CHUNKS), HEAD_OF_CHUNKS), b"$-1\r\n", b":1\r\n"]},
        {b"ZRANGE": [b"*1\r\n:1\r\n"]},
        {b"ZRANGE": [b"*1\r\n$1\r\n\xff\r\n"]},
    ],
    ids=["numbers", "no text", "a number for an entry", "numbers for functions", "no text for functions"],
)
def test_a_reply_that_has_other_things_in_it(replies: dict[bytes, list[bytes]]) -> None:
    """P5: of the expected kind as a whole; what is within it costs no call its result, and no invalidation pretends."""
    asked: Counter[bytes] = Counter()

    def answer(received: bytes) -> Iterator[bytes]:
        for command in re.findall(rb"\*\d+\r\n\$\d+\r\n([A-Z]+)\r\n", received):
            script = replies.get(command, [b"$-1\r\n"])
            yield script[asked[command] % len(script)]
            asked[command] += 1

    with answering(answer) as url:
        cache = connect(url, secret=SECRET, timeout=1.0)
        fetch, calls = decorated(cache)
        assert fetch(1)["x"] == 1
        afetch, _ = decorated_async(cache)
        assert asyncio.run(afetch(2))["x"] == 2
        assert [each["x"] for each in fetch.map([3, 4])] == [3, 4]
        assert calls == [1, 3, 4]
        with pytest.raises(StoreError, match="not of the expected kind"):
            cache.clear("outage")
        raising, _ = decorated(cache, on_error="raise")
        with pytest.raises(StoreError):
            raising(1)
        assert replies.keys() <= asked.keys()
        cache.close()


def test_columns_of_a_reply_that_is_a_number() -> None:
    """P5: a part of an entry is bytes, or it is not there."""
    with answering(lambda _: [b":1\r\n"]) as url:
        fetch, _ = decorated(connect(url, secret=SECRET, timeout=1.0))
        assert fetch.peek_columns(["a"], 1) is MISSING
        raising, _ = decorated(connect(url, secret=SECRET, timeout=1.0), on_error="raise")
        with pytest.raises(StoreError, match="not of the expected kind"):
            raising.peek_columns(["a"], 1)


def test_planted_counters_are_nobody_s(cache: Cache, namespace: str) -> None:
    """P5: who asks for all processes is told of this one, as where Redis is away."""
    fetch = redis_cached(namespace=namespace, ttl=60, cache=cache, name="fetch")(lambda x: x)
    fetch(1), fetch(1)
    with redis.Redis.from_url(cache.engine.settings.url) as client:
        stats = f"{fetch.cache_key(1)[:-40]}stats"
        for planted in ({"hits": "account-4711"}, {b"\xff": "1"}):
            client.hset(stats, mapping=planted)
            assert fetch.cache_info(everywhere=True)[:2] == (1, 1)
            client.delete(stats)


@pytest.mark.parametrize("age", ["new", "old"])
def test_planted_functions_of_a_namespace(server: Server, age: str) -> None:
    """P5: what no function is called costs no call its result, and an invalidation of the namespace says that it failed."""
    cache = connect(server.url, secret=SECRET)
    with server.client() as client:
        client.zadd("memo:{outage}:functions", {b"memo:{outage:\xff:1#0}:": 5e12 if age == "new" else 1.0})
    fetch, _ = decorated(cache)
    assert fetch(1)["x"] == 1
    assert fetch.map([2, 3])[1]["x"] == 3
    with pytest.raises(StoreError, match="not of the expected kind"):
        cache.clear("outage")
    cache.close()


def test_planted_keys_of_a_mapping(server: Server) -> None:
    """P5: a mapping whose list of keys is not ours raises the store's error, and what was stored in it is still there."""
    cache = connect(server.url, secret=SECRET)
    d = CacheDict("outage", ttl=60, cache=cache, on_error="raise")
    d["a"] = 1
    with server.client() as client:
        (rows,) = client.scan_iter("memo:*:args")
        prefix, digest = rows.removesuffix(b"args"), b"\xff" * 40
        client.set(prefix + digest, b"x", ex=60)
        client.zadd(prefix + b"index", {digest: 5e12})
        client.zadd(rows, {b"o" + b"0" * 16 + digest + b"key": 0})
    with pytest.raises(StoreError, match="not of the expected kind"):
        list(d)
    assert d["a"] == 1
    cache.close()


def test_configuration_errors_are_raised_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (
        "http://localhost",
        "redis//localhost",
        "rediss",
        "redis://localhost:port",
        "redis://h/0?nonsense=1",
        "emdedded://",
    ):
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


@pytest.mark.parametrize("value", ["no", "0", "false", "off", "nver", "always"])
def test_the_guard_against_the_embedded_server_has_no_other_word(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A guard of production that was misspelt would let through what it is there to stop."""
    monkeypatch.setenv("REDIS_MEMO_EMBEDDED", value)
    for url in (None, "redis://localhost:1"):
        with pytest.raises(ConfigurationError, match="write REDIS_MEMO_EMBEDDED=never"):
            connect(url)
    for allowed in ("", " "):
        monkeypatch.setenv("REDIS_MEMO_EMBEDDED", allowed)
        assert "embedded" in repr(connect())


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("REDIS_MEMO_SECRET", "hunter2", "REDIS_MEMO_SECRET: a secret has fewer than 16 bytes"),
        ("REDIS_MEMO_URL", "http://user:hunter2@h", "REDIS_MEMO_URL has the unknown scheme 'http'"),
        ("REDIS_URL", "localhost:6379", "REDIS_URL has no scheme"),
        ("REDIS_MEMO_URL", "redis://user:hunter2@h:port", "REDIS_MEMO_URL: the URL redis://... cannot be understood"),
        ("REDIS_URL", "redis://:hunter2@h/?nonsense=1", r"REDIS_URL: the URL .* \(its option nonsense is unknown"),
        ("REDIS_URL", "redis+cluster://:hunter2@h/5", r"REDIS_URL: the URL .* \(a cluster has no databases"),
    ],
)
def test_a_setting_from_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=said) as caught:
        connect()
    assert "hunter2" not in str(caught.value)
    if variable != "REDIS_MEMO_SECRET":
        assert "localhost:1" in repr(connect("redis://localhost:1"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h/0?ssl_cert_reqs=none", r"\(the option ssl_cert_reqs is for TLS, which has the scheme rediss\)"),
        (
            "redis://h?client_name=x&socket_timeout=soon",
            r"\(its option socket_timeout is unknown, or has a wrong value",
        ),
        ("rediss+sentinel://h/mymaster?ssl_nonsense=1", r"\(its option ssl_nonsense is unknown, or has a wrong value"),
    ],
)
def test_an_option_of_a_url_that_is_not_understood_is_named(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        connect(url)


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

    first = redis_cached(namespace="outage", ttl=60, cache=connect(server.url, secret=SECRET, lease=0.5), name="slow")(
        slow
    )
    second = redis_cached(namespace="outage", ttl=60, cache=connect(server.url, secret=SECRET, lease=0.5), name="slow")(
        slow
    )
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


# Under many threads, and under many tasks of one loop.

BOTH = pytest.mark.parametrize("style", ["threads", "tasks"])


def port_of(server: Server) -> int:
    return int(server.url.rsplit(":", 1)[1].split("/")[0])


@BOTH
def test_down_at_start(namespace: str, style: str) -> None:
    """P5: and used as soon as it is there."""
    port = free_port()
    with calls_through(f"redis://127.0.0.1:{port}/0", namespace) as calls:
        getattr(calls, style)()
        assert calls.fetch.cache_info().breaker == "open"
        late = start_server(valkey(), port=port)
        try:
            until(calls.hits, 5)
            assert calls.fetch.cache_info().breaker == "closed"
        finally:
            late.stop()


@BOTH
def test_dying_under_load_and_coming_back_empty(server: Server, namespace: str, style: str) -> None:
    with calls_through(server.url, namespace) as calls:
        run = getattr(calls, style)
        run()
        killer = threading.Timer(0.02, server.stop)
        killer.start()
        for _ in range(5):
            run()
        killer.join()
        back = start_server(valkey(), port=port_of(server))
        try:
            until(calls.hits, 5)
            run()
        finally:
            back.stop()


@BOTH
def test_dying_between_get_and_set(server: Server, namespace: str, style: str) -> None:
    with calls_through(server.url, namespace) as calls:
        calls.before = server.stop
        getattr(calls, style)()
        assert calls.runs > 0


@BOTH
def test_frozen_and_resumed(server: Server, namespace: str, style: str) -> None:
    """P5: after SIGCONT the server answers at once to what was asked long ago; nobody takes that for his own."""
    with calls_through(server.url, namespace) as calls:
        run = getattr(calls, style)
        run()
        for _ in range(2):
            server.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            run()
            run()
            assert time.monotonic() - began < 3, "one limit, not one for each call"
            server.process.send_signal(signal.SIGCONT)
            until(calls.hits, 5)
            run()


def refusing(client, how: str) -> None:
    if how == "full":
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
    elif how == "replica":
        client.replicaof("127.0.0.1", str(free_port()))
    elif how == "stale replica":
        client.config_set("replica-serve-stale-data", "no")
        client.replicaof("127.0.0.1", str(free_port()))
    elif how == "password":
        client.acl_setuser("memo", enabled=True, reset_passwords=True, passwords=["+another-password"])
        client.execute_command("CLIENT", "KILL", "USER", "memo")
    else:
        client.execute_command("ACL", "SETUSER", "memo", *how.split())


def mended(client, how: str) -> None:
    client.config_set("maxmemory", "0")
    client.config_set("replica-serve-stale-data", "yes")
    client.replicaof("NO", "ONE")
    client.execute_command("ACL", "SETUSER", "memo", "reset", "on", ">memo-password", "~*", "&*", "+@all")


@BOTH
@pytest.mark.parametrize(
    "how",
    [
        "full",
        "replica",
        "stale replica",
        "password",
        "-evalsha -eval",
        "-publish",
        "-subscribe",
        "-get",
        "resetkeys ~other:*",
        "resetchannels",
        "off",
    ],
)
def test_a_server_that_refuses(server: Server, namespace: str, how: str, style: str) -> None:
    """P5: the function's results while it does, and hits when it does no more."""
    with server.client() as client:
        mended(client, how)
        url = server.url.replace("redis://", "redis://memo:memo-password@")
        with calls_through(url, namespace, timeout=1.0) as calls:
            run = getattr(calls, style)
            run()
            refusing(client, how)
            run()
            mended(client, how)
            until(calls.hits, 5)
            run()
            assert calls.fetch.cache_info().breaker == "closed"
        refusing(client, how)
        with calls_through(url, namespace, timeout=1.0) as calls:
            run = getattr(calls, style)
            run()
            mended(client, how)
            until(calls.hits, 5)


@pytest.mark.parametrize("how", ["replica", "password", "-evalsha -eval", "off"])
def test_a_refusal_is_told_to_who_wants_it(server: Server, namespace: str, how: str) -> None:
    """P5: as what it is, also while it is not asked again; and an invalidation does not pretend."""
    with server.client() as client:
        mended(client, how)
        url = server.url.replace("redis://", "redis://memo:memo-password@")
        refusing(client, how)
        with calls_through(url, namespace, timeout=1.0, on_error="raise") as calls:
            for _ in range(3):
                with pytest.raises(StoreRefused) as caught:
                    calls.fetch(1)
                assert "memo-password" not in str(caught.value)
                with pytest.raises(StoreRefused):
                    invalidate(calls.fetch, x=1)
            assert calls.runs == 0


@pytest.mark.parametrize("credentials", ["nobody:wrong@", ""], ids=["wrong", "none"])
def test_credentials_that_are_refused_are_not_tried_with_every_call(
    server: Server, namespace: str, credentials: str
) -> None:
    """P5: some servers lock an account after so many failures."""
    url = server.url.replace("redis://", f"redis://{credentials}")
    with server.client() as client, calls_through(url, namespace, timeout=1.0) as calls:
        client.config_set("requirepass", "hunter2hunter2")
        client.config_resetstat()
        began = time.monotonic()
        calls.threads(20)
        calls.tasks(20)
        info = client.info("commandstats")
        tried = info["cmdstat_auth"]["failed_calls"] if credentials else info["cmdstat_get"]["rejected_calls"]
        assert tried <= 50 + (time.monotonic() - began) / 0.2 + 1, "each thread once, then the probe"
        assert calls.fetch.cache_info().breaker == "open"


@BOTH
def test_a_server_that_is_loading(namespace: str, style: str, tmp_path) -> None:
    options = ("--dir", str(tmp_path), "--dbfilename", "dump.rdb")
    first = start_server(valkey(), *options)
    port = port_of(first)
    with first.client() as client:
        with client.pipeline(transaction=False) as pipe:
            for number in range(3000):
                pipe.set(f"other:{number}", "x" * 100)
            pipe.execute()
        client.save()
    first.stop()
    slow = ("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
    process = subprocess.Popen(
        [valkey(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options, *slow],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    loading = Server(f"redis://127.0.0.1:{port}/0", process)
    try:

        def says_so() -> bool:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"GET x\r\n")
                return connection.recv(100).startswith(b"-LOADING")

        until(lambda: answers(says_so))
        with calls_through(loading.url, namespace, timeout=1.0) as calls:
            getattr(calls, style)()
            assert calls.fetch.cache_info().breaker == "open"
            until(calls.hits, 20)
    finally:
        loading.stop()


def answers(question) -> bool:
    try:
        return question()
    except OSError:
        return False


@BOTH
@pytest.mark.parametrize("database", ["0", "3"], ids=["told at the first question", "told while connecting"])
def test_a_server_that_has_clients_enough(server: Server, namespace: str, style: str, database: str) -> None:
    """P5: whoever is connected is served, whoever is not computes, and nobody is told that the server is down."""
    url = server.url[:-1] + database
    with server.client() as client, calls_through(url, namespace, timeout=2.0) as calls:
        assert calls.fetch(1) == calls.fetch(1)
        client.config_set("maxclients", str(len(client.client_list())))
        getattr(calls, style)()
        assert calls.fetch.cache_info().breaker == "closed"
        before = calls.runs
        assert calls.fetch(1)["x"] == 1
        assert calls.runs == before, "over the connection that there is"
        client.config_set("maxclients", "1000")
        until(calls.hits, 5)
        getattr(calls, style)()
        assert calls.fetch.cache_info().breaker == "closed"


@BOTH
def test_scripts_that_are_forgotten_again_and_again(server: Server, namespace: str, style: str) -> None:
    with server.client() as client, calls_through(server.url, namespace, timeout=5.0) as calls:
        stop = threading.Event()

        def forget() -> None:
            while not stop.wait(0.001):
                client.script_flush()

        forgetful = threading.Thread(target=forget)
        forgetful.start()
        try:
            for _ in range(3):
                getattr(calls, style)()
                invalidate(calls.fetch)
        finally:
            stop.set()
            forgetful.join()
        assert calls.fetch.cache_info().errors == calls.afetch.cache_info().errors == 0


def test_who_may_not_subscribe_waits_a_little_longer(server: Server, namespace: str) -> None:
    """P4: another process's computation is found done at the next look, without a push."""
    with server.client() as client:
        mended(client, "")
        client.execute_command("ACL", "SETUSER", "memo", "-subscribe", "resetchannels")
        url = server.url.replace("redis://", "redis://memo:memo-password@")
        with calls_through(url, namespace, timeout=2.0) as first, calls_through(url, namespace, timeout=2.0) as second:
            begun, go_on = threading.Event(), threading.Event()

            def hold() -> None:
                begun.set()
                assert go_on.wait(30)

            first.before = hold
            leader = threading.Thread(target=first.fetch, args=(1,))
            leader.start()
            assert begun.wait(10)
            results = []
            waiter = threading.Thread(target=lambda: results.append(second.fetch(1)))
            waiter.start()
            until(lambda: second.cache.engine.backend.listener._channels)
            go_on.set()
            leader.join()
            waiter.join(10)
            assert results[0]["x"] == 1
            assert (first.runs, second.runs) == (1, 0)


def test_the_probe_starts_the_embedded_server_again(tmp_path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: which could not be started when it was needed."""
    folder = tempfile.mkdtemp(prefix="rm")
    with calls_through(f"embedded://{folder}", namespace, timeout=2.0) as calls:
        tried = []

        def cannot(*args: object, **options: object) -> None:
            tried.append(threading.current_thread().name)
            raise StoreUnavailable("not today")

        with monkeypatch.context() as patched:
            patched.setattr("redis_memo._embedded.start", cannot)
            for x in range(20):
                assert calls.fetch(x)["x"] == x
            assert calls.fetch.cache_info().breaker == "open"
            until(lambda: tried.count("redis_memo probe") >= 2)
            assert len([name for name in tried if name != "redis_memo probe"]) <= 2, "callers do not try"
        until(calls.hits, 10)


def test_a_lease_that_could_not_be_given_back_is_given_back_later(server: Server) -> None:
    """P4: frozen while the function ran; once it is back nobody waits for the end of the lease."""
    caches = [connect(server.url, secret=SECRET, timeout=0.2, lease=3600) for _ in range(2)]

    def freeze(x):
        server.process.send_signal(signal.SIGSTOP)
        return x

    first = redis_cached(namespace="outage", ttl=60, cache=caches[0], name="f")(freeze)
    second = redis_cached(namespace="outage", ttl=60, cache=caches[1], name="f")(lambda x: x + 1)
    assert first(1) == 1
    server.process.send_signal(signal.SIGCONT)
    until(lambda: second.explain(1).state == "absent")
    assert second(1) == 2
    assert second.peek(1) == 2
    for cache in caches:
        cache.close()


@UNCLOSED
@pytest.mark.usefixtures("broken_handshakes")
@BOTH
def test_many_connect_at_once_over_tls(namespace: str, style: str, tmp_path) -> None:
    """P5: fifty handshakes at once would each outlast the limit; one that is refused opens the breaker."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = (
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                key,
                "-out",
                certificate,
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ],
            capture_output=True,
            check=False,
        )
        if shutil.which("openssl")
        else None
    )
    if made is None or made.returncode:
        pytest.skip("NO openssl ON THIS MACHINE: TLS was not tried")
    port = free_port()
    process = subprocess.Popen(
        [
            debian_redis(),
            "--port",
            "0",
            "--tls-port",
            str(port),
            "--tls-cert-file",
            certificate,
            "--tls-key-file",
            key,
            "--tls-auth-clients",
            "no",
            "--save",
            "",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(f"rediss://127.0.0.1:{port}/1", process)

    def listens() -> bool:
        assert process.poll() is None, "a Redis without TLS"
        socket.create_connection(("127.0.0.1", port)).close()
        return True

    try:
        until(lambda: answers(listens))
        with calls_through(
            f"{server.url}?ssl_ca_certs={certificate}", namespace, timeout=1.0, on_error="raise"
        ) as calls:
            getattr(calls, style)()
            assert calls.fetch.cache_info().breaker == "closed"
            until(calls.hits)
        with calls_through(server.url, namespace, timeout=1.0) as calls:
            getattr(calls, style)()
            assert calls.fetch.cache_info().breaker == "open"
    finally:
        server.stop()
