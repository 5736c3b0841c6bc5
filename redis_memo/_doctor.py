"""Looks for what is wrong between a process and its server, before a market day does.

Settings first, then whether the server is reached and why not, then what it allows, then its own facts (`_findings`).
It writes three scratch keys, which expire, and reads a few entries; no text that it makes holds a secret or a value.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import socket
import ssl
import stat
import statistics
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from . import _ops as ops
from ._address import named
from ._clock import now
from ._config import redacted
from ._dotenv import assignments
from ._findings import Finding, Severity, about_shards, judged
from ._listing import asking, entry_rows, functions, namespaces, server_time
from .errors import ConfigurationError, RedisMemoError, StoreError, UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ._engine import Engine
    from ._function import Memo
    from ._listing import FunctionRow

__all__ = ["about_secret", "examined"]

TIMEOUT = 5.0
PINGS = 15
SLOW, TOO_SLOW = 0.005, 0.1  # seconds of a round trip; a hit is one
SKEWED, FAR_OFF = 1.0, 30.0  # seconds between two clocks
SAMPLED = 5  # namespaces of which an entry is read
EXAMPLE_FILES = (".env.example", ".env.sample", ".env.template", ".env.dist")
OUR_EXAMPLES = ("at least sixteen bytes of it", "the new one, which signs", "the old one, still read")
PLACEHOLDERS = ("changeme", "change-me", "change_me", "placeholder", "your-secret", "your_secret", "secret-here")
MAKE_ONE = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
_SCRATCH = "memo:{redis-memo doctor}:"


def about_secret(secret: str, url: str, folder: Path, origin: str) -> Iterator[Finding]:
    """Judge the secret that is configured; its text is in no finding.

    Args:
        secret: As configured, several separated by commas; empty where there is none.
        url: The server's, whose password must not be the secret.
        folder: Where ``.env.example`` and the like are looked for.
        origin: Where it stands: ``"environment"`` or a file.
    """
    if not secret:
        if not url.startswith("embedded://"):
            yield Finding(
                "secret", Severity.WARNING, "there is no secret: results that need pickle are returned, not stored",
                f"set REDIS_MEMO_SECRET; {MAKE_ONE}",
            )  # fmt: skip
        return
    known = {example.strip() for text in OUR_EXAMPLES for example in text.split(",")} | _examples(folder)
    password = urlsplit(url).password or ""
    worst = Severity.OK
    for part in (each.strip() for each in secret.split(",")):
        said = ""
        if len(part.encode()) < 16:
            said = "a secret has fewer than 16 bytes, and is refused"
        elif part in known or any(word in part.lower() for word in PLACEHOLDERS):
            said = "a secret is the one of an example: everybody knows it, and can sign entries that run code here"
        elif len(set(part)) < 8:
            said = "a secret has hardly any different characters, and can be guessed"
        elif password and part == unquote(password):
            said = "a secret is the server's password: whoever can write to the server could sign as well"
        if said:
            worst = Severity.ERROR
            yield Finding("secret", Severity.ERROR, said, f"replace it; {MAKE_ONE}")
    path = Path(origin)
    with contextlib.suppress(OSError):
        if origin not in ("", "environment") and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            worst = Severity.WARNING
            yield Finding(
                "secret", Severity.WARNING, f"{path} holds the secret, and others on this machine may read it",
                f"chmod 600 {path}",
            )  # fmt: skip
    if worst is Severity.OK:
        yield Finding("secret", Severity.OK, f"from {origin or 'the configuration'}")


def _examples(folder: Path) -> set[str]:
    found = set()
    for name in EXAMPLE_FILES:
        with contextlib.suppress(OSError):
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
            for each in assignments(text):
                if each.name == "REDIS_MEMO_SECRET":
                    found |= {part.strip() for part in each.value.split(",")}
    return found


def examined(engine: Engine, environ: Mapping[str, str], memo: Memo | None = None) -> Iterator[Finding]:
    """Judge a cache's server, from this process's point of view.

    Args:
        engine: Whose server.
        environ: The environment; only REDIS_MEMO_URL and REDIS_URL are read.
        memo: A function, whose namespace is looked at first.
    """
    url = engine.settings.url
    yield from _about_url(url, environ)
    try:
        addresses = engine.backend.addresses()
    except StoreError as error:
        yield Finding("server", Severity.ERROR, str(error), "name a server in REDIS_MEMO_URL, or mend the folder")
        return
    for address in addresses:
        for finding in _one_server(engine, address):
            if finding.check == "cluster" and engine.backend.spread:
                continue  # that is what the URL says
            yield finding if len(addresses) == 1 else finding._replace(said=f"{redacted(address)}: {finding.said}")
    yield from _about_entries(engine, memo)


def _one_server(engine: Engine, address: str) -> Iterator[Finding]:
    try:
        client = redis.Redis.from_url(
            address, protocol=2, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
        )
        with client:
            client.ping()
            took = _latency(client)
            yield from _about_latency(took, engine.settings.timeout)
            yield from _about_clock(client)
            yield from _about_rights(client, address, _scratch(engine, address))
            info, config = _facts(client)
            if info:
                yield from judged(info, config)
            else:
                yield Finding(
                    "info", Severity.INFO, "the server does not show its INFO: policy, role and limits are not judged",
                    "allow INFO to this user, as with ACL SETUSER name +info",
                )  # fmt: skip
    except (redis.RedisError, OSError, ValueError) as error:
        yield unreachable(error, address, engine.backend.where)


def _scratch(engine: Engine, address: str) -> str:
    """What keys to try things with begin with, so that this server has them."""
    if not engine.backend.spread:
        return _SCRATCH
    names = (f"memo:{{redis-memo doctor {number}}}:" for number in itertools.count())
    return next(name for name in names if engine.backend.address(name) == address)


def _about_url(url: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    parts = urlsplit(named(url).url if "+" in url.partition("://")[0] else url)  # a cluster's, by its first host
    ours, theirs = environ.get("REDIS_MEMO_URL"), environ.get("REDIS_URL")
    if ours and theirs and redacted(ours) != redacted(theirs):
        yield Finding("url", Severity.INFO, f"REDIS_MEMO_URL and REDIS_URL differ; the first counts: {redacted(ours)}")
    if parts.scheme not in ("redis", "rediss") or _is_loopback(parts.hostname or ""):
        return
    if parts.scheme == "redis":
        yield Finding(
            "tls", Severity.WARNING, f"{redacted(url)} goes over the network in clear text, credentials and values too",
            "use TLS (rediss:// in the place of redis://), or a private network or tunnel that encrypts",
        )  # fmt: skip
    if parts.scheme == "rediss" and parse_qs(parts.query).get("ssl_cert_reqs", [""])[0] in ("none", "CERT_NONE"):
        yield Finding(
            "tls", Severity.WARNING, "ssl_cert_reqs=none: anybody on the way can pose as the server",
            "leave it out, and name the certificate authority with ssl_ca_certs=/path",
        )  # fmt: skip
    if not parts.password:
        yield Finding(
            "auth", Severity.WARNING, "the server is on the network, and the URL has no password",
            "set one (requirepass, or a user of its own with ACL SETUSER), and write it into the URL",
        )  # fmt: skip


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")


def unreachable(error: Exception, address: str, where: str) -> Finding:
    """Why a server cannot be used, and what to do about it."""
    text = str(error)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (ssl.SSLError, socket.gaierror, ConnectionRefusedError)):
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, redis.exceptions.NoPermissionError):
        said, remedy = "the user may not even PING", "give the user its rights, as with ACL SETUSER name +@all ~memo:*"
    elif "NOAUTH" in text or "Authentication required" in text:
        said, remedy = (
            "the server asks for credentials, and the URL has none",
            "write them into the URL: redis://user:password@host:6379/0",
        )
    elif isinstance(error, redis.AuthenticationError) or "WRONGPASS" in text:
        said, remedy = (
            "the credentials are refused",
            "write the right ones into the URL: redis://user:password@host:6379/0",
        )
    elif isinstance(cause, ssl.SSLCertVerificationError):
        said = "the server's certificate is not trusted"
        remedy = "name its certificate authority: rediss://host:6379/0?ssl_ca_certs=/path/to/ca.pem"
    elif isinstance(cause, ssl.SSLError):
        said, remedy = (
            "the server does not speak TLS, or not ours",
            "use redis:// if it has no TLS, else name its TLS port",
        )
    elif isinstance(cause, socket.gaierror):
        said, remedy = "the host's name cannot be resolved", "correct the host in the URL, or this machine's DNS"
    elif isinstance(cause, ConnectionRefusedError):
        said, remedy = "nobody listens there", "start the server, or correct host and port in the URL"
    elif "max number of clients" in text:
        said, remedy = "it has as many clients as it takes", "raise maxclients, or look who keeps connections open"
    elif isinstance(error, redis.BusyLoadingError):
        said, remedy = "it is loading its data", "wait until it is done"
    elif address.startswith("rediss://") and _speaks_plainly(address):
        said, remedy = "the server does not speak TLS", "use redis:// if it has no TLS, else name its TLS port"
    elif isinstance(error, (redis.TimeoutError, TimeoutError)):
        said, remedy = (
            f"no answer within {TIMEOUT:.0f} s",
            "look for a firewall on the way, and whether the server hangs",
        )
    elif "DB index" in text or "invalid DB" in text:
        said, remedy = "it has no database of that number", "use /0 in the URL, or raise its `databases`"
    elif address.startswith("redis://") and _speaks_tls(address):
        said, remedy = "the server speaks TLS", "use rediss:// in the URL"
    elif isinstance(error, FileNotFoundError) or "No such file" in text:
        said, remedy = "there is no such socket", "correct the path in the URL, or start the server"
    else:
        said, remedy = (
            f"it does not answer as a Redis does ({type(error).__name__})",
            "look whether host and port are right",
        )
    return Finding("connection", Severity.ERROR, f"{where}: {said}", remedy)


def _speaks_tls(address: str) -> bool:
    parts = urlsplit(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is only asked whether it speaks, and told nothing
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 6379), TIMEOUT) as plain:
            plain.settimeout(TIMEOUT)
            try:
                context.wrap_socket(plain).close()
            except ssl.SSLError as error:
                # It may want a certificate of ours: an alert is TLS as well.
                return "ALERT" in str(error).upper()
    except OSError:
        return False
    return True


def _speaks_plainly(address: str) -> bool:
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 6379), TIMEOUT) as plain:
            plain.settimeout(TIMEOUT)
            plain.sendall(b"PING\r\n")
            return plain.recv(1) in (b"+", b"-")
    except OSError:
        return False


def _latency(client: Any) -> float:
    took = []
    for _ in range(PINGS):
        began = time.perf_counter()
        client.ping()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _about_latency(took: float, timeout: float) -> Iterator[Finding]:
    said = f"a round trip takes {took * 1000:.2f} ms"
    if took > min(TOO_SLOW, timeout / 4):
        yield Finding(
            "latency", Severity.ERROR, f"{said}; every hit takes as long, and the time limit is {timeout:g} s",
            "use a server in the same data centre",
        )  # fmt: skip
    elif took > SLOW:
        yield Finding(
            "latency", Severity.WARNING, f"{said}; every hit takes as long", "use a server that is nearer, or less busy"
        )
    else:
        yield Finding("latency", Severity.OK, said)


def _about_clock(client: Any) -> Iterator[Finding]:
    before = now()
    theirs = server_time(client)
    after = now()
    apart = (before + after) / 2 - theirs
    said = f"this machine's clock and the server's are {abs(apart):.2f} s apart"
    if abs(apart) > SKEWED + (after - before):
        yield Finding(
            "clock", Severity.ERROR if abs(apart) > FAR_OFF else Severity.WARNING,
            f"{said}: entries seem older or younger than they are, and expiries at a moment come early or late",
            "synchronize both machines' clocks by NTP",
        )  # fmt: skip
    else:
        yield Finding("clock", Severity.OK, said)


def _refused(client: Any, *command: object) -> str:
    """What a server says against a command; empty where it carries it out."""
    try:
        client.execute_command(*command)
    except ResponseError as error:
        return str(error) or "refused"
    return ""


def _about_rights(client: Any, address: str, scratch: str) -> Iterator[Finding]:
    script = (resources.files(__package__) / "lua" / "probe.lua").read_text()
    keys = [scratch + name for name in ("one", "two", "three")]
    refused: dict[str, str] = {}
    try:
        answer = client.eval(script, 3, *keys, scratch + "channel")
        pairs = zip(answer[::2], answer[1::2], strict=True)
        refused = {name.decode(): text.decode("utf-8", "replace") for name, text in pairs}
    except ResponseError as error:
        refused = {"EVAL": str(error)}
    commands = (
        ("GET", keys[0]), ("GETRANGE", keys[0], 0, 1), ("SET", keys[0], "", "PX", 1000), ("ZRANGE", keys[2], 0, 0),
        ("EVALSHA", "0" * 40, 0), ("SCAN", 0, "MATCH", keys[0], "COUNT", 1), ("DEL", *keys),
    )  # fmt: skip
    for command in commands:
        said = _refused(client, *command)
        if said and "NOSCRIPT" not in said and "No matching script" not in said:
            refused.setdefault(str(command[0]), said)
    said = _no_channel(client)
    if said:
        refused["SUBSCRIBE"] = said
    yield from _about_refusals(refused)
    said = _no_tracking(address)
    if said:
        yield Finding(
            "tracking", Severity.WARNING, f"CLIENT TRACKING is refused: {said[:80]}; nearer copies are not told",
            "allow +client|tracking (or +client) and +hello to this user",
        )  # fmt: skip
    else:
        yield Finding("tracking", Severity.OK, "CLIENT TRACKING is allowed")


def _about_refusals(refused: dict[str, str]) -> Iterator[Finding]:
    texts = " ".join(refused.values())
    names = ", ".join(sorted(refused))
    if not refused:
        yield Finding("scripts", Severity.OK, "scripts and all commands that they use are allowed")
    elif "READONLY" in texts or "read only replica" in texts:
        yield Finding(
            "scripts", Severity.ERROR, "writes are refused: the server is read-only", "name its master in the URL"
        )
    elif "OOM" in texts or "maxmemory" in texts:
        yield Finding(
            "scripts", Severity.ERROR, "writes are refused: the memory is full, and nothing may be evicted",
            "CONFIG SET maxmemory-policy volatile-lru, or raise maxmemory",
        )  # fmt: skip
    elif "MISCONF" in texts or "NOREPLICAS" in texts:
        word = "its disk fails it" if "MISCONF" in texts else "too few replicas follow it"
        yield Finding(
            "scripts", Severity.ERROR, f"writes are refused: {word}", "mend what INFO persistence, replication show"
        )
    elif "MOVED" in texts or "CLUSTERDOWN" in texts:
        yield Finding(
            "scripts", Severity.ERROR, "the cluster keeps our keys elsewhere", "name a server outside of a cluster"
        )
    else:
        severity = Severity.WARNING if set(refused) <= {"SCAN", "SUBSCRIBE", "PUBLISH"} else Severity.ERROR
        yield Finding(
            "scripts", severity, f"the user may not use {names}, or not on keys and channels that begin with memo:",
            "ACL SETUSER name ~memo:* &memo:* +@read +@write +@scripting +@pubsub +@connection +time +info",
        )  # fmt: skip


def _no_channel(client: Any) -> str:
    listener = client.pubsub()
    try:
        listener.subscribe(_SCRATCH + "channel")
        listener.get_message(timeout=TIMEOUT)
    except ResponseError as error:
        return str(error) or "refused"
    finally:
        listener.close()
    return ""


def _no_tracking(address: str) -> str:
    with redis.Redis.from_url(
        address, protocol=3, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
    ) as client:
        try:
            return _refused(client, "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", _SCRATCH)
        except ResponseError as error:  # of HELLO, too
            return str(error) or "refused"


def _facts(client: Any) -> tuple[dict[str, Any], dict[str, str] | None]:
    info: dict[str, Any] = {}
    with contextlib.suppress(ResponseError):
        info = client.info("all")
    config: dict[str, str] | None = None
    with contextlib.suppress(ResponseError):
        config = client.config_get("*") or None
    return info, config


def _about_entries(engine: Engine, memo: Memo | None) -> Iterator[Finding]:
    """Whether this process can read what lies on the server, and whether functions are cut up in one way; a sample."""
    read = failed = 0
    why = ""
    found: list[FunctionRow] = []
    try:
        with asking(engine) as look:
            keys = []
            first = [] if memo is None else [memo.namespace]
            for namespace in dict.fromkeys([*first, *list(namespaces(look, limit=SAMPLED)[0])[:SAMPLED]]):
                rows = functions(look, namespace)
                found += rows
                for prefix in [each.prefixes[0] for each in rows][:SAMPLED]:
                    keys += [row.key for row in entry_rows(look, prefix, limit=1)[0]]
        for key in keys:
            try:
                envelope = engine.backend.perform(ops.Read(key))
                if envelope is not None:
                    read += 1
                    engine.sealer.open(key, envelope)
            except UnreadableEntry as error:
                failed, why = failed + 1, str(error)
    except (RedisMemoError, ConfigurationError) as error:
        yield Finding("entries", Severity.INFO, f"no entries were looked at: {error}")
        return
    if failed:
        yield Finding(
            "entries", Severity.WARNING, f"{failed} of {read} entries that were tried cannot be read here: {why}",
            "give all processes one REDIS_MEMO_SECRET; to change it, list the new one first, and then the old one",
        )  # fmt: skip
    elif read:
        yield Finding("entries", Severity.OK, f"{read} entries were tried, and can be read")
    yield from about_shards(found)
