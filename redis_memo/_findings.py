"""What a server's own facts mean for a cache: its INFO and CONFIG, judged. No I/O; see `_doctor`, which asks.

A fact that cannot be read (a managed server that hides CONFIG, an ACL) is no finding but one: that it cannot be read.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Finding", "Severity", "about_shards", "judged"]

OLDEST = (6, 2)
FULL = 0.9  # of maxmemory
SMALL = 64 << 20
CROWD = 0.8  # of maxclients
FEW_CLIENTS = 100
BULK = 512 << 20  # proto-max-bulk-len by default, and what the largest strings need
CHUNK = 33 << 20  # a chunk of a large entry, and the protocol's own bytes
QUERY = 64 << 20
PUBSUB = 1 << 20  # a waiter is sent entries of up to 64 KB
IDLE = 60


class Severity(IntEnum):
    """How bad a finding is."""

    OK = 0
    INFO = 1
    """Worth knowing."""
    WARNING = 2
    """It works, and will not always."""
    ERROR = 3
    """It does not work, or answers could be wrong."""


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        check: What, in one word.
        severity: How bad it is.
        said: What was found; never a secret.
        remedy: What to do, in one sentence; empty where nothing is to be done.
    """

    check: str
    severity: Severity
    said: str
    remedy: str = ""


def judged(info: Mapping[str, Any], config: Mapping[str, str] | None) -> Iterator[Finding]:
    """All findings about a server.

    Args:
        info: Its INFO, as redis-py reads it.
        config: Its CONFIG, or None where that is refused.
    """
    if config is None:
        yield Finding(
            "config", Severity.INFO, "the server does not show its CONFIG, so limits that INFO lacks are not judged",
            "allow CONFIG GET to this user, or look them up with whoever runs the server",
        )  # fmt: skip
    settings = config or {}
    yield _version(info)
    yield from _role(info, settings)
    yield from _memory(info, settings)
    yield from _persistence(info, settings)
    yield from _limits(info, settings)


def _number(text: object, otherwise: int) -> int:
    try:
        return int(str(text))
    except ValueError:
        return otherwise


def _size(size: float) -> str:
    return f"{size / (1 << 20):,.0f} MB"


def _version(info: Mapping[str, Any]) -> Finding:
    valkey = info.get("valkey_version")
    name, version = ("Valkey", str(valkey)) if valkey else ("Redis", str(info.get("redis_version", "0")))
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts < OLDEST:
        return Finding(
            "version", Severity.WARNING, f"{name} {version} is older than what this package is tested on",
            "upgrade the server to Redis 6.2, Valkey 7.2 or later",
        )  # fmt: skip
    return Finding("version", Severity.OK, f"{name} {version}")


def _role(info: Mapping[str, Any], config: Mapping[str, str]) -> Iterator[Finding]:
    if info.get("redis_mode") == "sentinel":
        yield Finding(
            "role", Severity.ERROR, "this is a Sentinel, which stores nothing",
            "name the master that it watches: SENTINEL get-master-addr-by-name tells its address",
        )  # fmt: skip
    elif info.get("role") in ("slave", "replica"):
        can = "read-only " if config.get("replica-read-only", "yes") == "yes" else ""
        yield Finding(
            "role", Severity.ERROR, f"this is a {can}replica: what is written here is refused, or lost",
            "name its master in the URL",
        )  # fmt: skip
        if info.get("master_link_status") == "down":
            yield Finding(
                "role", Severity.WARNING, "the replica has lost its master", "look why, on the master; see its log"
            )
    else:
        yield Finding("role", Severity.OK, "a master")
    if _number(info.get("cluster_enabled"), 0) == 1:
        yield Finding(
            "cluster", Severity.WARNING, "it is a node of a cluster: functions whose keys lie on others are refused",
            "write redis+cluster:// in the URL instead of redis://",
        )  # fmt: skip


def _memory(info: Mapping[str, Any], config: Mapping[str, str]) -> Iterator[Finding]:
    limit = _number(info.get("maxmemory", config.get("maxmemory")), 0)
    policy = str(info.get("maxmemory_policy", config.get("maxmemory-policy", "?")))
    used = _number(info.get("used_memory"), 0)
    evicted = _number(info.get("evicted_keys"), 0)
    if limit == 0:
        yield Finding(
            "maxmemory", Severity.WARNING, "there is no maxmemory: the server grows until the machine has no more",
            "CONFIG SET maxmemory to what it may use, and maxmemory-policy to volatile-lru",
        )  # fmt: skip
    elif limit < SMALL:
        yield Finding(
            "maxmemory", Severity.WARNING, f"maxmemory is {_size(limit)}, which a few frames fill",
            "raise maxmemory to at least some hundred megabytes",
        )  # fmt: skip
    else:
        yield Finding("maxmemory", Severity.OK, f"{_size(used)} of {_size(limit)} are used")
    if policy.startswith("allkeys-"):
        # Without a limit nothing is evicted yet, and the policy waits for the day that there is one.
        lost = f", and {evicted:,} keys were evicted already" if evicted else ""
        yield Finding(
            "policy", Severity.ERROR if evicted else Severity.WARNING,
            f"maxmemory-policy is {policy}: an index can be evicted{lost}, and invalidations then miss entries",
            "CONFIG SET maxmemory-policy volatile-lru; after evictions clear with: redis-memo clear NAMESPACE --scan",
        )  # fmt: skip
    elif policy == "noeviction" and limit:
        full = used >= limit * FULL
        yield Finding(
            "policy", Severity.ERROR if full else Severity.WARNING,
            f"maxmemory-policy is noeviction: {'the memory is nearly full, and then' if full else 'when it is full,'} "
            "nothing more is stored",
            "CONFIG SET maxmemory-policy volatile-lru, so that the least used entries make room",
        )  # fmt: skip
    else:
        yield Finding("policy", Severity.OK, f"maxmemory-policy is {policy}")


def _persistence(info: Mapping[str, Any], config: Mapping[str, str]) -> Iterator[Finding]:
    appends = _number(info.get("aof_enabled"), 0) == 1 or config.get("appendonly") == "yes"
    saves = bool(config.get("save", "").strip())
    stops = config.get("stop-writes-on-bgsave-error", "yes") == "yes"
    if info.get("rdb_last_bgsave_status") == "err" and saves and stops:
        yield Finding(
            "persistence", Severity.ERROR, "the last snapshot failed, and the server refuses writes until one succeeds",
            "free its disk, or turn snapshots off with CONFIG SET save ''",
        )  # fmt: skip
    elif info.get("aof_last_write_status") == "err":
        yield Finding(
            "persistence", Severity.ERROR, "the append-only file cannot be written, and the server refuses writes",
            "free its disk",
        )  # fmt: skip
    elif saves and not appends:
        yield Finding(
            "persistence", Severity.WARNING,
            "it keeps snapshots alone: after a crash one brings back entries that were invalidated since",
            "turn on the append-only file (CONFIG SET appendonly yes), or turn snapshots off (CONFIG SET save '')",
        )  # fmt: skip
    elif appends:
        yield Finding("persistence", Severity.OK, "it keeps an append-only file: entries outlive a restart")
    elif config:
        yield Finding("persistence", Severity.INFO, "it keeps nothing: after a restart every call is a miss once")


def _limits(info: Mapping[str, Any], config: Mapping[str, str]) -> Iterator[Finding]:
    bulk = _number(config.get("proto-max-bulk-len"), BULK)
    if bulk < BULK:
        worst = Severity.ERROR if bulk < CHUNK else Severity.WARNING
        yield Finding(
            "bulk", worst, f"proto-max-bulk-len is {_size(bulk)}: larger results are refused, not stored",
            "CONFIG SET proto-max-bulk-len 512mb",
        )  # fmt: skip
    query = _number(config.get("client-query-buffer-limit"), 1 << 30)
    if query < QUERY:
        yield Finding(
            "buffers", Severity.WARNING, f"client-query-buffer-limit is {_size(query)}: who sends more is cut off",
            "CONFIG SET client-query-buffer-limit 1gb",
        )  # fmt: skip
    words = config.get("client-output-buffer-limit", "").split()
    if "pubsub" in words:
        hard = _number(words[words.index("pubsub") + 1], 0)
        if 0 < hard < PUBSUB:
            yield Finding(
                "buffers", Severity.WARNING,
                f"pub/sub clients are cut off at {hard:,} bytes: whoever waits for another's result is woken late",
                "CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'",
            )  # fmt: skip
    most = _number(info.get("maxclients", config.get("maxclients")), 10_000)
    clients = _number(info.get("connected_clients"), 0)
    if clients >= most * CROWD:
        yield Finding(
            "clients", Severity.ERROR, f"{clients:,} of {most:,} clients are connected: soon new ones are refused",
            "raise maxclients, or look who keeps connections open with CLIENT LIST",
        )  # fmt: skip
    elif most < FEW_CLIENTS:
        yield Finding(
            "clients", Severity.WARNING, f"maxclients is {most}, and each busy thread takes a connection",
            "raise maxclients",
        )  # fmt: skip
    else:
        yield Finding("clients", Severity.OK, f"{clients:,} of {most:,} clients are connected")
    idle = _number(config.get("timeout"), 0)
    if 0 < idle < IDLE:
        yield Finding(
            "timeout", Severity.WARNING, f"idle connections are closed after {idle} s, and made anew again and again",
            "CONFIG SET timeout 0, and let tcp-keepalive find dead clients",
        )  # fmt: skip
    if "tcp-keepalive" in config and _number(config["tcp-keepalive"], 300) == 0:
        yield Finding(
            "timeout", Severity.INFO, "tcp-keepalive is 0: connections of clients that vanished stay open",
            "CONFIG SET tcp-keepalive 300",
        )  # fmt: skip


class _Sharded(Protocol):
    """What is known of a function under one number of shards; as `_listing.FunctionRow`."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def shards(self) -> int: ...
    @property
    def entries(self) -> int: ...


def about_shards(rows: Iterable[_Sharded]) -> Iterator[Finding]:
    """Functions that have entries under several numbers of shards."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        if row.entries:
            numbers.setdefault((row.name, row.version), []).append(row.shards)
    for (name, _), found in numbers.items():
        if len(found) > 1:
            *some, last = map(str, sorted(found))
            yield Finding(
                "shards", Severity.WARNING,
                f"{name} has entries under shards= {', '.join(some)} and {last}: processes that state one of these "
                "neither find nor invalidate what those of another have stored",
                "let all processes state one; then redis-memo clear MODULE:FUNCTION, or wait until the others expire",
            )  # fmt: skip
