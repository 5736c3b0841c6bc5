"""Who may come in: users with the least rights (ACL), TLS with certificates of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import redis

from redis_memo import MISSING, CacheDict, _cli, connect, invalidate_tags, redis_cached
from redis_memo.errors import StoreRefused, StoreUnavailable

from .conftest import SECRET, UNCLOSED, Server, debian_redis, free_port, leaked, start_server, until
from .sites import SERVICE, raw

DOCS = Path(__file__).parents[1] / "docs" / "servers.md"
PASSWORD = "a+b/c @%"


def rules(kind: str) -> list[list[str]]:
    """The commands that the documentation gives, each in one line, with the password of these tests."""
    kinds = ("server",) if kind == "server" else ("server", kind)
    found = [re.search(rf"```acl {each}\n(ACL SETUSER memo [^\n]*)\n```", DOCS.read_text()) for each in kinds]
    return [[f">{PASSWORD}" if word == ">password" else word for word in each[1].split()] for each in found]


@pytest.mark.parametrize(
    "kind", ["valkey_server", "redis_server", "redis_6_server", "redis_8_server", "cluster_site", "sentinel_site"]
)
def test_a_user_with_the_documented_rights_can_do_everything(kind, request, namespace, caplog):
    """Each operation there is, as that user; the server refuses none of them (P5) and lets it do nothing else (P6)."""
    server = request.getfixturevalue(kind)
    nodes = [server.node(port) for port in server.servers] if hasattr(server, "servers") else [server.client()]
    for node in nodes:
        for words in rules(kind.removesuffix("_site") if kind.endswith("_site") else "server"):
            node.execute_command(*words)
    try:
        _do_everything(server.url.replace("://", f"://memo:{quote(PASSWORD, safe='')}@"), namespace, kind)
        for node in nodes:
            port = node.connection_pool.connection_kwargs["port"]
            with redis.Redis(port=port, username="memo", password=PASSWORD) as intruder:
                for command in (
                    ("KEYS", "*"),
                    ("FLUSHALL",),
                    ("GET", "other"),
                    ("CONFIG", "GET", "*"),
                    ("PUBLISH", "x", "y"),
                ):
                    with pytest.raises(redis.exceptions.NoPermissionError):
                        intruder.execute_command(*command)
    finally:
        for node in nodes:
            node.execute_command("ACL", "DELUSER", "memo")
            node.close()
    assert [record.message for record in caplog.records if "refused" in record.message] == []


def _do_everything(url: str, namespace: str, kind: str) -> None:
    wide = {"wait": 1, "read_from": "replica"} if kind in ("cluster_site", "sentinel_site") else {}
    cache = connect(url, secret=SECRET, **wide)
    gate, begun = threading.Event(), threading.Event()

    @redis_cached(namespace=namespace, ttl=60, stale=60, cache=cache, tags="t", on_error="raise", shards=2, name="f")
    def function(x, y=0):
        if x == "slow":
            begun.set()
            gate.wait(10)
        return np.zeros(60_000) if x == "large" else [x, y]

    @redis_cached(namespace=namespace, ttl=60, cache=cache, on_error="raise", name="outer")
    def outer(x):
        return function(x)

    @redis_cached(
        namespace=namespace, ttl=60, cache=cache, on_error="raise", name="few", maxsize=2, shards=2, near=True
    )
    def few(x):
        return x

    assert [few(each) for each in (*range(8), *range(8))] == [*range(8), *range(8)]
    cache.engine.touches.tell()
    assert few.cache_info(everywhere=True).currsize <= 2
    until(lambda: few.__redis_memo__._memo.near.ticket("0" * 40))
    with contextlib.suppress(KeyError):
        CacheDict(f"{namespace}-dict", ttl=60, cache=cache)["absent"]
    assert list(CacheDict(f"{namespace}-dict", ttl=60, cache=cache)) == []
    assert function(1) == function(1) == [1, 0]
    assert function.peek(1) == [1, 0]
    assert function.store([2, 0], 2)
    assert function.refresh(2) == [2, 0]
    assert function("large").nbytes == function("large").nbytes == 480_000
    threads = [threading.Thread(target=call, args=("slow",)) for call in (function, outer, function)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    gate.set()
    for thread in threads:
        thread.join()
    subscription = cache.engine.backend.listener.subscribe("memo:{a}:b")
    until(subscription.ready.done)
    subscription.close()

    async def alike():
        @redis_cached(namespace=namespace, ttl=60, cache=cache, on_error="raise", name="alike")
        async def coroutine(x):
            return x

        return await coroutine(1) + await coroutine(1)

    assert asyncio.run(alike()) == 2
    assert function.explain(1).state == "stored"
    assert function.cache_info().currsize == 4
    assert function.invalidate(x=1, y=0) == 1
    assert function.invalidate(x=2) == 1
    assert invalidate_tags(function, "t") == 2
    assert function.peek("large") is MISSING
    assert cache.clear(namespace) == 4
    cache.close()


@pytest.mark.parametrize("kind", ["valkey_server", "redis_6_server", "cluster_site"])
def test_a_user_with_the_documented_rights_may_use_the_command_line(
    kind, request, namespace, capsys, tmp_path, monkeypatch
):
    server = request.getfixturevalue(kind)
    nodes = [server.node(port) for port in server.servers] if hasattr(server, "servers") else [server.client()]
    for node in nodes:
        for words in rules("cluster" if kind == "cluster_site" else "server"):
            node.execute_command(*words)
    name = f"rights_{namespace.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        f"from redis_memo import redis_cached\n@redis_cached(namespace={namespace!r}, ttl=60)\ndef f(x): return x\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("REDIS_MEMO_URL", server.url.replace("://", f"://memo:{quote(PASSWORD, safe='')}@"))
    monkeypatch.setenv("REDIS_MEMO_SECRET", SECRET)

    def answer(*words):
        capsys.readouterr()
        code = _cli.main([*words, "--json"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out)

    try:
        module = importlib.import_module(name)
        module.f(1)
        module.f(2)
        masters = [node for node in nodes if node.info("replication")["role"] == "master"]
        assert answer("info")["keys"] == sum(node.dbsize() for node in masters)
        found = answer("info", f"{name}:f")
        assert (found["entries"], 0 < found["last_expires_in"] <= 60) == (2, True)
        assert namespace in {each["namespace"] for each in answer("ls")["namespaces"]}
        assert [each["entries"] for each in answer("ls", namespace)["functions"]] == [2]
        assert answer("get", f"{name}:f", "1")["value"] == 1
        assert answer("invalidate", f"{name}:f", "x=1", "--yes")["removed"] == 1
        assert answer("clear", namespace, "--scan", "--yes")["removed"] == 1
    finally:
        sys.modules.pop(name, None)
        for node in nodes:
            node.execute_command("ACL", "DELUSER", "memo")
            node.close()


def test_wrong_credentials_are_told_and_not_shown(valkey_server, namespace):
    """P5, P6."""
    cache = connect(valkey_server.url.replace("://", "://nobody:hunter2@"), secret=SECRET)
    function = redis_cached(namespace=namespace, ttl=60, cache=cache)(lambda x: x)
    assert function(1) == 1
    with pytest.raises(StoreRefused, match="credentials") as caught:
        function.invalidate(x=1)
    assert "hunter2" not in str(caught.value)
    cache.close()


def test_a_password_that_the_url_lacks_is_told_from_a_wrong_one(namespace):
    """P5: "refused the credentials in the URL" sends people looking for a mistake in what is not there."""
    server = start_server(debian_redis(), "--requirepass", "hunter2hunter2")
    try:
        cache = connect(server.url, secret=SECRET)
        function = redis_cached(namespace=namespace, ttl=60, cache=cache)(lambda x: x)
        assert function(1) == 1
        with pytest.raises(StoreRefused, match="asks for a password, and the URL has no credentials"):
            function.invalidate(x=1)
        cache.close()
    finally:
        server.stop()


# ------------------------------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """A certificate authority, a server and a client that it vouches for, and another authority."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("NO openssl ON THIS MACHINE: TLS was not tested")
    folder = tmp_path_factory.mktemp("tls")

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], check=True, capture_output=True, cwd=folder)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "stranger"):
        run(
            "req",
            "-x509",
            *curve,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.crt",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
        )
    for name in ("server", "client"):
        run("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-out", f"{name}.crt", "-extfile", "names")  # fmt: skip
    return folder


def start_tls(folder: Path, *options: str) -> Server:
    """A server that speaks TLS on a port of its own, beside a plain one by which the tests see whether it is up."""
    port = free_port()
    server = start_server(
        debian_redis(), "--tls-port", str(port), "--tls-cert-file", str(folder / "server.crt"), "--tls-key-file",
        str(folder / "server.key"), "--tls-ca-cert-file", str(folder / "ca.crt"), *options,
    )  # fmt: skip
    server.plain, server.port = server.url, port
    server.url = f"rediss://localhost:{port}/0"
    return server


@pytest.fixture(scope="module")
def tls_server(certificates: Path) -> Iterator[Server]:
    server = start_tls(certificates)
    yield server
    server.stop()


def client_options(folder: Path, authority: str = "ca") -> str:
    return f"ssl_ca_certs={folder}/{authority}.crt&ssl_certfile={folder}/client.crt&ssl_keyfile={folder}/client.key"


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_tls_with_certificates_on_both_sides(tls_server, certificates, namespace, size):
    """Small and large values, threads and event loops, waiters that are woken."""
    cache = connect(f"{tls_server.url}?{client_options(certificates)}", secret=SECRET)
    calls = []

    @redis_cached(namespace=namespace, ttl=60, cache=cache, on_error="raise", name="f")
    def function(x):
        calls.append(x)
        return np.arange(size) * 7919 % 1_000_003

    for _ in range(2):
        assert function(1).sum() == (np.arange(size) * 7919 % 1_000_003).sum()

    @redis_cached(namespace=namespace, ttl=60, cache=cache, on_error="raise", name="f")
    async def twin(x):
        raise AssertionError

    async def each():
        return [(await twin(1)).size for _ in range(3)]

    assert asyncio.run(each()) == [size] * 3
    assert calls == [1]
    with redis.Redis.from_url(tls_server.plain) as client:
        assert leaked(client, namespace) == []
    assert function.invalidate(x=1) == 1
    cache.close()


@UNCLOSED
@pytest.mark.usefixtures("broken_handshakes")
@pytest.mark.parametrize("what", ["another authority", "no certificate of the client", "no TLS"])
def test_p5_p6_a_server_that_cannot_be_trusted_is_an_outage(tls_server, certificates, namespace, what):
    url = {
        "another authority": f"{tls_server.url}?{client_options(certificates, 'stranger')}",
        "no certificate of the client": f"{tls_server.url}?ssl_ca_certs={certificates}/ca.crt",
        "no TLS": tls_server.url.replace("rediss", "redis"),
    }[what]
    cache = connect(url, secret=SECRET)
    function = redis_cached(namespace=namespace, ttl=60, cache=cache)(lambda x: [x])
    assert function(1) == [1]
    assert function.cache_info().breaker == "open"
    with pytest.raises(StoreUnavailable, match="not trusted" if what == "another authority" else "cannot be reached"):
        function.invalidate(x=1)
    cache.close()


def test_a_cluster_by_tls(certificates, namespace):
    """Its nodes tell of their TLS ports, and are spoken to as the URL says."""
    folder = str(certificates)
    server = start_tls(
        certificates, "--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", str(free_port()),
        "--cluster-config-file", f"nodes-{free_port()}.conf",
    )  # fmt: skip
    try:
        with redis.Redis.from_url(server.plain, protocol=2) as node:
            raw(node, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: b"cluster_state:ok" in raw(node, "CLUSTER", "INFO"))
        cache = connect(f"rediss+cluster://localhost:{server.port}/?{client_options(Path(folder))}", secret=SECRET)
        calls = []
        function = redis_cached(namespace=namespace, ttl=60, cache=cache, on_error="raise")(
            lambda x: calls.append(x) or [x]
        )
        assert function(1) == function(1) == [1]
        assert calls == [1]
        assert cache.clear(namespace) == 1
        cache.close()
    finally:
        server.stop()


def start_tls_sentinel(folder: Path, master: int) -> Server:
    """One that speaks TLS with who asks it and with what it watches, beside a plain port for the tests."""
    port, plain = free_port(), free_port()
    config = folder / f"sentinel-{port}.conf"
    config.write_text(
        f"port {plain}\ntls-port {port}\nbind 127.0.0.1\ndir {folder}\ntls-replication yes\n"
        f"tls-cert-file {folder}/server.crt\ntls-key-file {folder}/server.key\ntls-ca-cert-file {folder}/ca.crt\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {master} 1\nsentinel down-after-milliseconds {SERVICE} 1000\n"
    )
    process = subprocess.Popen(
        [debian_redis(), str(config), "--sentinel"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    server = Server(f"redis://127.0.0.1:{plain}", process)
    server.port = port

    def knows_a_replica() -> bool:
        assert process.poll() is None, "the sentinel did not start"
        with contextlib.suppress(redis.ConnectionError), server.client() as client:
            return bool(raw(client, "SENTINEL", "REPLICAS", SERVICE))
        return False

    until(knows_a_replica, 30)
    return server


@UNCLOSED
@pytest.mark.usefixtures("broken_handshakes")
def test_sentinels_by_tls(certificates, namespace):
    """``rediss+sentinel://``: the sentinels and whom they name, also after a failover; a stranger's certificate is an outage."""
    replicated = ("--tls-replication", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
    servers = [start_tls(certificates, *replicated)]
    master = servers[0].port
    try:
        servers.append(start_tls(certificates, *replicated, "--replicaof", f"127.0.0.1 {master}"))
        for server in servers[:0:-1]:
            with redis.Redis.from_url(server.plain) as client:
                until(lambda client=client: client.info("replication")["master_link_status"] == "up", 20)
        sentinel = start_tls_sentinel(certificates, master)
        servers.append(sentinel)
        url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}/0?"
        cache = connect(f"{url}{client_options(certificates)}", secret=SECRET)
        calls = []
        function = redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")(lambda x: calls.append(x) or [x])
        assert function(1) == function(1) == [1]
        reader = connect(f"{url}{client_options(certificates)}", secret=SECRET, read_from="replica", wait=1)
        twin = redis_cached(namespace=namespace, ttl=60, cache=reader, name="f")(lambda x: calls.append(x) or [x])
        assert twin(1) == [1]
        assert twin.invalidate(x=1) == 1, "P3: confirmed by the replica"
        assert function(1) == [1]
        assert calls == [1, 1]
        with redis.Redis.from_url(sentinel.url, protocol=2) as client:
            until(lambda: b"ok" in raw(client, "SENTINEL", "REPLICAS", SERVICE)[0], 20)  # the replica's link
            raw(client, "SENTINEL", "FAILOVER", SERVICE)
            until(lambda: int(raw(client, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1]) != master, 30)
        servers[0].stop()  # it would be told only in ten seconds that it is none any more
        until(lambda: function.store([2], 2), 20)
        with redis.Redis.from_url(servers[1].plain) as client:
            assert client.exists(function.cache_key(2))
        for authority in ("stranger", "no"):
            options = (
                client_options(certificates, authority) if authority != "no" else f"ssl_ca_certs={certificates}/ca.crt"
            )
            outside = connect(url + options, secret=SECRET)
            refused = redis_cached(namespace=namespace, ttl=60, cache=outside, name="f")(lambda x: [x, "own"])
            assert refused(2) == [2, "own"], "P5, P6"
            with pytest.raises(StoreUnavailable):
                refused.invalidate(x=2)
            outside.close()
        assert function.invalidate(x=2) == 1
        cache.close()
        reader.close()
    finally:
        for server in servers[::-1]:
            server.stop()
