"""``redis-memo doctor`` finds each planted misconfiguration, says what to do, and never says a secret. P5, P6, P7."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from redis_memo import _cli, _doctor, _embedded, connect, redis_cached, testing
from redis_memo._findings import Severity, judged

from .conftest import SECRET, UNCLOSED, Server, free_port, start_server, until, valkey

GOOD = {
    "maxmemory": "256mb", "maxmemory-policy": "volatile-lru", "appendonly": "no", "save": "", "timeout": "0",
    "tcp-keepalive": "300", "proto-max-bulk-len": "512mb", "client-query-buffer-limit": "1gb", "maxclients": "10000",
    "client-output-buffer-limit": "pubsub 33554432 8388608 60", "min-replicas-to-write": "0",
}  # fmt: skip
PASSWORD = "hunter2-password"


@pytest.fixture(scope="module")
def patient() -> Iterator[Server]:
    """A server that these tests misconfigure."""
    server = start_server(valkey())
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _healthy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_MEMO_SECRET", SECRET)
    monkeypatch.setattr(_doctor, "SLOW", 10.0)  # the machine of the tests may be
    monkeypatch.setattr(_doctor, "TOO_SLOW", 10.0)
    yield
    if "patient" in request.fixturenames:
        with request.getfixturevalue("patient").client() as client:
            configured(client, GOOD)
            client.flushall()  # the tests' own server


def configured(client: redis.Redis, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        client.config_set(name, value)


@pytest.fixture
def client(patient: Server) -> Iterator[redis.Redis]:
    with patient.client() as client:
        configured(client, GOOD)
        yield client


def diagnosis(
    capsys: pytest.CaptureFixture[str], *arguments: str, secrets: tuple[str, ...] = ()
) -> dict[str, dict[str, Any]]:
    """The worst finding by check; and that neither form of the report says a secret."""
    capsys.readouterr()
    code = _cli.main(["doctor", *arguments, "--json"])
    out, err = capsys.readouterr()
    report = json.loads(out)
    worst = max((f["severity"] for f in report["findings"]), key=["ok", "info", "warning", "error"].index)
    assert report["worst"] == worst
    assert code == {"ok": 0, "info": 0, "warning": 1, "error": 3}[worst]
    for each in report["findings"]:
        assert each["remedy"] or each["severity"] in ("ok", "info")
    for secret in (SECRET, PASSWORD, *secrets):
        assert secret not in out + err
    found: dict[str, dict[str, Any]] = {}
    for each in report["findings"]:
        order = ["ok", "info", "warning", "error"].index
        if each["check"] not in found or order(each["severity"]) > order(found[each["check"]]["severity"]):
            found[each["check"]] = each
    return found


def bad(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {check: f["severity"] for check, f in found.items() if f["severity"] in ("warning", "error")}


def test_a_healthy_server_is_found_healthy(patient: Server, client: redis.Redis, capsys, namespace: str) -> None:
    cache = connect(patient.url, secret=SECRET)

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    def f() -> int:
        return 1

    f()
    found = diagnosis(capsys, "--url", patient.url)
    assert bad(found) == {}
    assert {*found} >= {
        "settings", "secret", "latency", "clock", "scripts", "tracking", "version", "role", "maxmemory", "policy", "clients", "entries",
    }  # fmt: skip
    assert list(client.scan_iter("memo:{redis-memo doctor}*")) == []
    assert _cli.main(["doctor", "--url", patient.url, "--quiet"]) == 0
    assert capsys.readouterr().out == "0 errors, 0 warnings\n"
    assert _cli.main(["doctor", "--url", patient.url, "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []
    cache.close()


def test_config_check_is_the_doctor(patient: Server, client, capsys) -> None:
    configured(client, {"maxmemory": "0"})
    for words in (["doctor"], ["config", "check"]):
        assert _cli.main([*words, "--url", patient.url, "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["worst"] == "warning"
        assert _cli.main([*words, "--url", patient.url, "--json", "--quiet"]) == 1
        quiet = json.loads(capsys.readouterr().out)
        assert (quiet["worst"], [each["check"] for each in quiet["findings"]]) == ("warning", ["maxmemory"])


@pytest.mark.parametrize("kind", ["redis_6_server", "redis_server", "redis_8_server"])
def test_other_servers_are_healthy_and_refuse_in_their_own_words(kind: str, request, capsys) -> None:
    server = request.getfixturevalue(kind)
    with server.client() as client:
        configured(client, {"maxmemory": "256mb", "maxmemory-policy": "volatile-lru"})
        try:
            found = diagnosis(capsys, "--url", server.url)
            # Other tests sign with other secrets, and cut functions up in other ways.
            assert {**bad(found), "entries": "", "shards": ""} == {"entries": "", "shards": ""}
            client.execute_command(
                "ACL", "SETUSER", "narrow", "reset", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-zadd", "-subscribe"
            )
            url = server.url.replace("redis://", f"redis://narrow:{PASSWORD}@")
            assert "SUBSCRIBE, ZADD" in diagnosis(capsys, "--url", url)["scripts"]["said"]
        finally:
            client.execute_command("ACL", "DELUSER", "narrow")
            configured(client, {"maxmemory": "0", "maxmemory-policy": "noeviction"})


@pytest.mark.parametrize(
    ("planted", "check", "severity", "word"),
    [
        ({"maxmemory": "0"}, "maxmemory", "warning", "no maxmemory"),
        ({"maxmemory": "8mb"}, "maxmemory", "warning", "few frames"),
        ({"maxmemory-policy": "allkeys-lru"}, "policy", "warning", "index can be evicted"),
        ({"maxmemory-policy": "allkeys-random"}, "policy", "warning", "index can be evicted"),
        ({"maxmemory-policy": "noeviction"}, "policy", "warning", "noeviction"),
        ({"maxmemory-policy": "noeviction", "maxmemory": "1mb"}, "policy", "error", "nearly full"),
        ({"maxmemory-policy": "noeviction", "maxmemory": "1mb"}, "scripts", "error", "memory is full"),
        ({"save": "900 1"}, "persistence", "warning", "snapshots alone"),
        ({"proto-max-bulk-len": "100mb"}, "bulk", "warning", "proto-max-bulk-len"),
        ({"proto-max-bulk-len": "1mb"}, "bulk", "error", "larger results"),
        ({"client-query-buffer-limit": "1mb"}, "buffers", "warning", "client-query-buffer-limit"),
        ({"client-output-buffer-limit": "pubsub 1000 1000 1"}, "buffers", "warning", "woken late"),
        ({"maxclients": "50"}, "clients", "warning", "maxclients is 50"),
        ({"maxclients": "1"}, "connection", "error", "as many clients as it takes"),
        ({"timeout": "5"}, "timeout", "warning", "idle connections"),
        ({"tcp-keepalive": "0"}, "timeout", "info", "tcp-keepalive"),
        ({"min-replicas-to-write": "1"}, "scripts", "error", "too few replicas"),
    ],
)
def test_a_planted_setting_is_found(patient: Server, client, capsys, planted, check, severity, word) -> None:
    configured(client, planted)
    found = diagnosis(capsys, "--url", patient.url)
    assert (found[check]["severity"], word in found[check]["said"]) == (severity, True), found[check]


def test_a_crowd_is_found(patient: Server, client, capsys) -> None:
    crowd = [patient.client() for _ in range(9)]
    for each in crowd:
        each.ping()
    client.config_set("maxclients", "13")
    found = diagnosis(capsys, "--url", patient.url)
    for each in crowd:
        each.close()
    assert found["clients"]["severity"] == "error"
    assert "of 13 clients" in found["clients"]["said"]


def test_evictions_that_happened_are_worse_than_those_that_may(patient: Server, client, capsys) -> None:
    configured(client, {"maxmemory-policy": "allkeys-lru", "maxmemory": "3mb"})
    for number in range(60):
        client.set(f"filler:{number}", b"x" * 100_000)
    assert client.info("stats")["evicted_keys"] > 0
    policy = diagnosis(capsys, "--url", patient.url)["policy"]
    assert policy["severity"] == "error"
    assert "were evicted already" in policy["said"]
    assert "--scan" in policy["remedy"]


@pytest.mark.parametrize(
    ("rules", "check", "names"),
    [
        (["+@all", "-eval"], "scripts", "EVAL"),
        (["+@all", "-evalsha"], "scripts", "EVALSHA"),
        (["+@all", "-zadd"], "scripts", "ZADD"),
        (["+@all", "-set"], "scripts", "SET"),
        (["+@all", "-subscribe"], "scripts", "SUBSCRIBE"),
        (["+@all", "-publish"], "scripts", "PUBLISH"),
        (["+@all", "resetkeys", "~other:*"], "scripts", "GET"),
        (["+@all", "resetchannels"], "scripts", "SUBSCRIBE"),
        (["+@all", "-client|tracking"], "tracking", "CLIENT TRACKING"),
        (["+@all", "-config"], "config", "CONFIG"),
    ],
)
def test_what_an_acl_forbids_is_found(patient: Server, client, capsys, rules, check, names) -> None:
    client.execute_command("ACL", "SETUSER", "narrow", "reset", "on", f">{PASSWORD}", "~*", "&*", *rules)
    url = patient.url.replace("redis://", f"redis://narrow:{PASSWORD}@")
    found = diagnosis(capsys, "--url", url)
    assert found[check]["severity"] == (
        "info"
        if check == "config"
        else "warning"
        if check == "tracking" or names in ("SUBSCRIBE", "PUBLISH")
        else "error"
    )
    assert names in found[check]["said"]


def test_every_command_of_the_scripts_is_tried() -> None:
    scripts = {path.stem: path.read_text() for path in (Path(_doctor.__file__).parent / "lua").glob("*.lua")}
    tried = set(re.findall(r"\{'([A-Z]+)'", scripts.pop("probe")))
    used = set(re.findall(r"redis\.p?call\('([A-Z]+)'", "".join(scripts.values())))
    assert used - tried == {"OBJECT"}  # a hint only: its refusal is taken for an answer


def test_rights_that_the_remedy_names_are_enough(patient: Server, client, capsys) -> None:
    """The remedy is tried: a user with these rights and no others is healthy, and calls are cached."""
    client.execute_command("ACL", "SETUSER", "narrow", "reset", "on", f">{PASSWORD}", "~other:*", "+@all")
    url = patient.url.replace("redis://", f"redis://narrow:{PASSWORD}@")
    remedy = diagnosis(capsys, "--url", url)["scripts"]["remedy"]
    rules = remedy.removeprefix("ACL SETUSER name ").split()
    client.execute_command("ACL", "SETUSER", "narrow", "reset", "on", f">{PASSWORD}", *rules)
    found = diagnosis(capsys, "--url", url)
    assert bad(found) == {}
    cache = connect(url, secret=SECRET)

    @redis_cached(namespace="rights", ttl=60, cache=cache, name="f")
    def f(x: int) -> int:
        return x

    f(1)
    assert f.peek(1) == 1
    assert f.invalidate() == 1
    cache.close()


def test_a_replica_is_found(patient: Server, client, capsys) -> None:
    client.config_set("repl-diskless-sync-delay", "0")
    port = free_port()
    replica = start_server(
        valkey(), "--replicaof", "127.0.0.1", patient.url.rpartition(":")[2].partition("/")[0], port=port
    )
    with replica.client() as theirs:
        until(lambda: theirs.info("replication")["master_link_status"] == "up")
        found = diagnosis(capsys, "--url", replica.url)
        assert bad(found).items() >= {("role", "error"), ("scripts", "error")}
        assert "read-only" in found["role"]["said"]
    replica.stop()


def test_a_node_of_a_cluster_and_a_password_are_found(capsys, tmp_path: Path) -> None:
    server = start_server(
        valkey(), "--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--requirepass", PASSWORD
    )
    port = server.url.rpartition(":")[2]
    url = f"redis://:{PASSWORD}@127.0.0.1:{port}"
    assert bad(diagnosis(capsys, "--url", url))["cluster"] in ("warning", "error")
    for wrong in (server.url, f"redis://:wrong-{PASSWORD}@127.0.0.1:{port}"):
        found = diagnosis(capsys, "--url", wrong)
        assert "credentials" in found["connection"]["said"]
    found = diagnosis(capsys, "--url", f"redis://:{PASSWORD}@127.0.0.1:{port.replace('/0', '/7')}")
    assert bad(found)["connection"] == "error"
    server.stop()


def test_a_server_that_is_not_there_says_why(capsys, tmp_path: Path) -> None:
    found = diagnosis(capsys, "--url", f"redis://user:{PASSWORD}@127.0.0.1:1/0")
    assert "nobody listens" in found["connection"]["said"]
    found = diagnosis(capsys, "--url", f"redis://user:{PASSWORD}@no-such-host.invalid/0")
    assert "cannot be resolved" in found["connection"]["said"]
    assert bad(found)["tls"] == "warning"
    assert bad(diagnosis(capsys, "--url", "redis://no-such-host.invalid/0"))["auth"] == "warning"
    found = diagnosis(capsys, "--url", f"unix://{tmp_path}/none.sock")
    assert "no such socket" in found["connection"]["said"]
    found = diagnosis(capsys, "--url", "rediss://no-such-host.invalid/0?ssl_cert_reqs=none")
    assert "pose as the server" in found["tls"]["said"]


@UNCLOSED
@pytest.mark.usefixtures("broken_handshakes")
def test_another_protocol_is_told_from_an_outage(patient: Server, capsys, monkeypatch) -> None:
    monkeypatch.setattr(_doctor, "TIMEOUT", 1.0)  # a server waits for the end of a line that TLS never sends
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.recv(10)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.close()

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        found = diagnosis(capsys, "--url", f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        assert "does not answer as a Redis does" in found["connection"]["said"]
    found = diagnosis(capsys, "--url", patient.url.replace("redis://", "rediss://"))
    assert "does not speak TLS" in found["connection"]["said"]


@pytest.mark.parametrize("kind", ["redis+cluster", "redis+sentinel", "redis"])
def test_clear_text_over_a_network_is_told_of_every_kind_of_server(kind: str) -> None:
    """By the URL alone, before anything is contacted."""
    path = "mymaster/0" if kind == "redis+sentinel" else "" if kind == "redis+cluster" else "0"
    hosts = "10.0.0.1:6379" if kind == "redis" else "10.0.0.1:6379,10.0.0.2:6379"
    cache = connect(f"{kind}://{hosts}/{path}", secret=SECRET)
    assert [finding.check for finding in itertools.islice(_doctor.examined(cache.engine, {}), 2)] == ["tls", "auth"]
    near = connect(f"{kind}://127.0.0.1:1/{path}", secret=SECRET, timeout=0.1)
    assert {"tls", "auth"} & {finding.check for finding in _doctor.examined(near.engine, {})} == set()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A server that speaks TLS on one port, with a certificate that nobody signed."""
    openssl, binary = shutil.which("openssl"), shutil.which("redis-server")
    if openssl is None or binary is None:
        pytest.skip("NO openssl OR redis-server ON THIS MACHINE: TLS was not looked at")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    server = start_server(
        binary, "--tls-port", str(port), "--tls-cert-file", str(folder / "cert.pem"), "--tls-key-file", str(folder / "key.pem"),
        "--tls-ca-cert-file", str(folder / "cert.pem"), "--tls-auth-clients", "no", "--maxmemory", "256mb", "--maxmemory-policy", "volatile-lru",
    )  # fmt: skip
    yield port, folder
    server.stop()


@UNCLOSED
@pytest.mark.usefixtures("broken_handshakes")
def test_tls_is_spoken_by_both_or_by_none(tls: tuple[int, Path], capsys) -> None:
    port, folder = tls
    assert "speaks TLS" in diagnosis(capsys, "--url", f"redis://127.0.0.1:{port}/0")["connection"]["said"]
    assert "not trusted" in diagnosis(capsys, "--url", f"rediss://127.0.0.1:{port}/0")["connection"]["said"]
    assert bad(diagnosis(capsys, "--url", f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={folder}/cert.pem")) == {}


def test_a_slow_server_is_found(patient: Server, client, capsys, monkeypatch) -> None:
    for slow, too_slow, severity in ((0.0, 10.0, "warning"), (0.0, 0.0, "error")):
        monkeypatch.setattr(_doctor, "SLOW", slow)
        monkeypatch.setattr(_doctor, "TOO_SLOW", too_slow)
        assert bad(diagnosis(capsys, "--url", patient.url)) == {"latency": severity}


def test_a_clock_that_goes_wrong_is_found(patient: Server, client, capsys) -> None:
    seconds, _ = client.time()
    from datetime import UTC, datetime, timedelta

    true = datetime.fromtimestamp(seconds, UTC)
    for apart, severity in ((10, "warning"), (3600, "error")):
        with testing.at(true + timedelta(seconds=apart)):
            assert bad(diagnosis(capsys, "--url", patient.url))["clock"] == severity


# ------------------------------------------------------------------------------------------------- settings, secrets


@pytest.mark.parametrize(
    ("secret", "word"),
    [
        ("", "there is no secret"),
        ("hunter2", "fewer than 16 bytes"),
        ("changeme-changeme-changeme", "example"),
        ("from-the-example-file-000", "example"),
        ("at least sixteen bytes of it", "example"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "guessed"),
        (PASSWORD, "password"),
        (f"{SECRET},short", "fewer than 16 bytes"),
    ],
)
def test_a_bad_secret_is_found_and_not_said(
    patient: Server, client, capsys, monkeypatch, tmp_path, secret, word
) -> None:
    """P6: what anybody can guess signs nothing."""
    (tmp_path / ".env.example").write_text("REDIS_MEMO_SECRET=from-the-example-file-000\n")
    monkeypatch.setenv("REDIS_MEMO_SECRET", secret)
    client.execute_command("ACL", "SETUSER", "full", "reset", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    url = patient.url.replace("redis://", f"redis://full:{PASSWORD}@")
    found = diagnosis(capsys, "--url", url, secrets=(secret,) if len(secret) > 6 else ())
    assert found["secret"]["severity"] == ("warning" if not secret else "error")
    assert word in found["secret"]["said"]
    assert found["version"]["severity"] == "ok"  # and the rest was looked at, too


def test_a_secret_file_that_others_may_read_is_found(
    patient: Server, client, capsys, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REDIS_MEMO_SECRET")
    env = tmp_path / ".env"
    env.write_text(f"REDIS_MEMO_URL={patient.url}\nREDIS_MEMO_SECRET='{SECRET}'\n")
    env.chmod(0o644)
    found = diagnosis(capsys)
    assert "others on this machine may read it" in found["secret"]["said"]
    assert "by .env" in found["settings"]["said"]
    env.chmod(0o600)
    monkeypatch.delenv("REDIS_MEMO_SECRET")
    monkeypatch.delenv("REDIS_MEMO_URL")
    assert bad(diagnosis(capsys, "--env-file", ".env")) == {}


def test_settings_that_only_a_file_has_are_told(patient: Server, client, capsys, monkeypatch, tmp_path: Path) -> None:
    """The command reads .env, and the service does not: it would use another server than the one that was looked at."""
    (tmp_path / ".env").write_text(f"REDIS_MEMO_URL={patient.url}\nREDIS_MEMO_SECRET='{SECRET}'\n")
    (tmp_path / ".env").chmod(0o600)

    def found(*words: str) -> dict[str, dict[str, Any]]:
        for name in ("REDIS_MEMO_URL", "REDIS_MEMO_SECRET"):
            monkeypatch.setenv(name, "")
        return diagnosis(capsys, *words)

    both = found()["environment"]
    assert both["severity"] == "warning"
    assert "only .env has REDIS_MEMO_URL and REDIS_MEMO_SECRET" in both["said"]
    assert "load it (python-dotenv, " in both["remedy"]
    assert "only .env has REDIS_MEMO_SECRET:" in found("--url", patient.url)["environment"]["said"]
    assert bad(found("--env-file", ".env")) == {}, "whoever names it knows of it"
    monkeypatch.setenv("REDIS_MEMO_URL", patient.url)
    monkeypatch.setenv("REDIS_MEMO_SECRET", SECRET)
    assert bad(diagnosis(capsys)) == {}


def test_entries_that_are_signed_by_another_secret_are_found(patient: Server, client, capsys, namespace: str) -> None:
    other = connect(patient.url, secret="another secret than the one here")

    @redis_cached(namespace=namespace, ttl=60, cache=other, name="f")
    def f() -> int:
        return 1

    f()
    entries = diagnosis(capsys, "--url", patient.url)["entries"]
    assert (entries["severity"], "1 of 1" in entries["said"]) == ("warning", True)
    other.close()


def test_settings_that_cannot_be_are_found(capsys, monkeypatch, patient: Server, client) -> None:
    assert "did you mean redis" in diagnosis(capsys, "--url", "redsi://host/0")["settings"]["said"]
    monkeypatch.setenv("REDIS_MEMO_EMBEDDED", "never")
    found = diagnosis(capsys)
    assert "refused by REDIS_MEMO_EMBEDDED=never" in found["settings"]["said"]
    monkeypatch.setenv("REDIS_MEMO_CALENDAR", "/no/such/calendar.toml")
    monkeypatch.setenv("REDIS_MEMO_URL", patient.url)
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379/0")
    found = diagnosis(capsys)
    assert bad(found) == {"calendar": "error"}
    assert "differ" in found["url"]["said"]


def test_the_embedded_server_is_healthy_and_a_folder_that_cannot_be_is_said(capsys, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    assert bad(diagnosis(capsys, "--url", f"embedded://{folder}")) == {}
    _embedded.stop(folder)
    (tmp_path / "file").write_text("")
    code = _cli.main(["doctor", "--url", f"embedded://{tmp_path}/file/x"])
    assert code == 3


def test_a_functions_own_settings_are_looked_at(
    patient: Server, client, capsys, tmp_path: Path, monkeypatch, namespace
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"doctored_{namespace.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from redis_memo import connect, redis_cached\n"
        f"@redis_cached(namespace='x', ttl=60, cache=connect({patient.url!r}))\ndef f(x): return x\n"
    )
    monkeypatch.delenv("REDIS_MEMO_SECRET")
    found = diagnosis(capsys, f"{name}:f")
    assert bad(found) == {"secret": "warning"}
    sys.modules.pop(name)


# ---------------------------------------------------------------------------------------- facts that are hard to plant


@pytest.mark.parametrize(
    ("info", "config", "check", "severity"),
    [
        ({"redis_version": "5.0.7"}, {}, "version", Severity.WARNING),
        ({"redis_mode": "sentinel"}, {}, "role", Severity.ERROR),
        ({"role": "slave", "master_link_status": "down"}, {}, "role", Severity.ERROR),
        ({"rdb_last_bgsave_status": "err"}, {"save": "900 1"}, "persistence", Severity.ERROR),
        ({"aof_last_write_status": "err"}, {"appendonly": "yes"}, "persistence", Severity.ERROR),
        ({}, None, "config", Severity.INFO),
    ],
)
def test_facts_are_judged(info, config, check, severity) -> None:
    findings = list(judged({"redis_version": "7.2.4", "role": "master", **info}, config))
    assert max(f.severity for f in findings if f.check == check) == severity


def test_no_environment_of_a_test_stays_behind() -> None:
    assert os.environ.get("REDIS_MEMO_URL") is None
