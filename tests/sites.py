"""Clusters and sentinel set-ups for the tests: real processes on loopback, ended by their process ids."""

from __future__ import annotations

import math
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis

from .conftest import Server, free_port, start_server, until

SERVICE = "mymaster"
NODE_TIMEOUT = 1000  # ms without an answer from which a cluster's nodes take one for failed


@dataclass
class Site(ABC):
    """Several servers that are one store.

    Attributes:
        url: For redis_memo.
        servers: By port: those with data.
        sentinels: By port.
    """

    url: str
    servers: dict[int, Server]
    sentinels: dict[int, Server] = field(default_factory=dict)
    binary: str = ""

    own_kind = False

    def node(self, port: int) -> redis.Redis:
        """A client of one server."""
        return redis.Redis(port=port, socket_timeout=5, protocol=2)

    def client(self) -> redis.Redis:
        """What scans, and flushes scripts, on all masters."""
        return _Everywhere(self)  # type: ignore[return-value]

    def masters(self) -> list[int]:
        """Ports of the servers that are masters now."""
        found = []
        for port, server in self.servers.items():
            if server.process is not None and server.process.poll() is None:
                with suppress(redis.RedisError), self.node(port) as node:
                    if node.role()[0] == b"master":
                        found.append(port)
        return found

    def heal(self) -> None:
        """Wake who was stopped, start who was killed, and wait until all follow again."""
        for port, server in self.servers.items():
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGCONT)
            else:
                self.revive(port)
        until(self.healthy, 60)

    @abstractmethod
    def revive(self, port: int) -> None:
        """Start a server that was killed."""

    @abstractmethod
    def healthy(self) -> bool:
        """Whether all follow whom they should."""

    def stop(self) -> None:
        for server in (*self.sentinels.values(), *self.servers.values()):
            server.stop()


class _Everywhere:
    """The few commands that tests ask of all masters."""

    def __init__(self, site: Site) -> None:
        self.nodes = [site.node(port) for port in site.masters()]

    def __enter__(self) -> _Everywhere:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.close()

    def scan_iter(self, *args, **options):
        for node in self.nodes:
            for key in node.scan_iter(*args, **options):
                self.holder = node
                yield key

    def ttl(self, key: bytes) -> int:
        return self.holder.ttl(key)

    def ping(self) -> None:
        for node in self.nodes:
            node.ping()

    def script_flush(self) -> None:
        for node in self.nodes:
            node.script_flush()


class ClusterSite(Site):
    """A cluster of masters with a replica each."""

    folders: dict[int, str]
    buses: dict[int, int]

    def owner(self, slot: int) -> int:
        """Port of the master that serves a slot."""
        return next(int(master[1]) for first, last, master, *_ in raw_slots(self) if first <= slot <= last)

    def replicas(self, port: int) -> list[int]:
        """Ports of a master's replicas."""
        shown = [others for _, _, master, *others in raw_slots(self) if int(master[1]) == port]
        return sorted({int(each[1]) for others in shown for each in others})

    def identity(self, port: int) -> str:
        with self.node(port) as node:
            return node.execute_command("CLUSTER", "MYID").decode()

    def healthy(self) -> bool:
        """Every server lives, and each slot has a master with a replica that follows."""
        covered = 0
        for first, last, master, *others in raw_slots(self):
            covered += last - first + 1
            if not others:
                return False
        if covered != 16384:
            return False
        for port, server in self.servers.items():
            with self.node(port) as node:
                if b"cluster_state:ok" not in raw(node, "CLUSTER", "INFO"):
                    return False
                if node.role()[0] == b"slave" and node.info("replication")["master_link_status"] != "up":
                    return False
        return True

    def begin_move(self, slot: int, target: int) -> int:
        """Say that a slot is to move; returns the port that it leaves."""
        source = self.owner(slot)
        with self.node(source) as old, self.node(target) as new:
            raw(new, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.identity(source))
            raw(old, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.identity(target))
        return source

    def move_keys(self, slot: int, source: int, target: int, pick: Callable[[bytes], bool] = lambda key: True) -> int:
        """Move the keys of a slot that `pick` picks; returns how many."""
        with self.node(source) as old:
            keys = [key for key in raw(old, "CLUSTER", "GETKEYSINSLOT", slot, 100000) if pick(key)]
            for key in keys:
                raw(old, "MIGRATE", "127.0.0.1", target, "", 0, 5000, "KEYS", key)
        return len(keys)

    def end_move(self, slot: int, source: int, target: int) -> None:
        """The slot has moved: what came into it meanwhile goes along."""
        identity = self.identity(target)
        while self.move_keys(slot, source, target):
            pass
        # The others need not wait until they hear of it.
        for port in (target, source, *(port for port in self.masters() if port not in (source, target))):
            with self.node(port) as node:
                raw(node, "CLUSTER", "SETSLOT", slot, "NODE", identity)
        until(lambda: self.owner(slot) == target, 30)

    def abandon(self, slot: int) -> int:
        """No node serves a slot any more; returns the port that did."""
        owner = self.owner(slot)
        for port in self.servers:
            with self.node(port) as node:
                raw(node, "CLUSTER", "DELSLOTS", slot)
        return owner

    def configure(self, **options: str) -> None:
        """Set an option of every server."""
        for port in self.servers:
            with self.node(port) as node:
                for name, value in options.items():
                    raw(node, "CONFIG", "SET", name.replace("_", "-"), value)

    def adopt(self, slot: int, port: int) -> None:
        """A node serves a slot that none did, and all know it."""
        with self.node(port) as node:
            raw(node, "CLUSTER", "ADDSLOTS", slot)
        until(self.healthy, 30)

    def revive(self, port: int) -> None:
        """Start a server that was killed."""
        folder = self.folders[port]
        self.servers[port] = start_server(
            self.binary, *_cluster_options(folder, self.buses[port]), port=port, folder=folder
        )


def raw(node: redis.Redis, *command: object):
    """A command's reply as it comes."""
    connection = node.connection_pool.get_connection()
    try:
        connection.send_command(*command)
        return connection.read_response()
    finally:
        node.connection_pool.release(connection)


def raw_slots(site: Site) -> list[list]:
    for port, server in site.servers.items():
        if server.process is not None and server.process.poll() is None:
            with suppress(redis.RedisError), site.node(port) as node:
                return raw(node, "CLUSTER", "SLOTS")
    raise AssertionError("no node answers")


def _cluster_options(folder: str, bus: int) -> tuple[str, ...]:
    return (
        "--cluster-enabled", "yes", "--cluster-config-file", str(Path(folder) / "nodes.conf"),
        *(("--cluster-port", str(bus)) if bus else ()),  # none before Redis 7
        "--cluster-node-timeout", str(NODE_TIMEOUT), "--cluster-require-full-coverage", "no",
        "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1",
        "--cluster-allow-replica-migration", "no",
    )  # fmt: skip


def _ports(own_bus: bool) -> tuple[int, int]:
    """A port, and one for a cluster's nodes among themselves; 0 where that is 10,000 above it, as before Redis 7."""
    if own_bus:
        return free_port(), free_port()
    while True:
        port = free_port()
        with suppress(OSError), socket.socket() as above:
            above.bind(("127.0.0.1", port + 10_000 if port < 55_000 else port))
            if port < 55_000:
                return port, 0


def start_cluster(binary: str, masters: int = 3, *, own_bus: bool = True) -> ClusterSite:
    """Masters with a replica each, all slots covered, all replicas following; ``own_bus`` from Redis 7 on."""
    servers: dict[int, Server] = {}
    folders, buses = {}, {}

    def start() -> None:
        for attempt in range(3):
            (port, bus), folder = _ports(own_bus), tempfile.mkdtemp(prefix="rm")
            try:
                server = start_server(binary, *_cluster_options(folder, bus), port=port, folder=folder)
            except AssertionError:  # somebody else has taken a port meanwhile
                if attempt == 2:
                    raise
            else:
                folders[port], buses[port], servers[port] = folder, bus, server
                return

    with ThreadPoolExecutor(2 * masters) as pool:
        started = [pool.submit(start) for _ in range(2 * masters)]
    ports = list(servers)
    site = ClusterSite("", servers, binary=binary)
    site.folders, site.buses = folders, buses
    try:
        for each in started:
            each.result()
        for number, port in enumerate(ports[:masters]):
            with site.node(port) as node:
                slots = range(16384 * number // masters, 16384 * (number + 1) // masters)
                raw(node, "CLUSTER", "ADDSLOTS", *slots)
                raw(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        asked = -math.inf

        def met() -> bool:
            nonlocal asked
            # A handshake that takes longer than the nodes' time limit is given up, and nobody begins another.
            if time.monotonic() - asked > 3 * NODE_TIMEOUT / 1000:
                asked = time.monotonic()
                with site.node(ports[0]) as first:
                    for port in ports[1:]:
                        raw(first, "CLUSTER", "MEET", "127.0.0.1", port, buses[port] or port + 10_000)
            return all(_knows(site, port, ports) for port in ports)

        until(met, 60)
        for master, port in zip(ports[:masters], ports[masters:], strict=True):
            with site.node(port) as node:
                raw(node, "CLUSTER", "REPLICATE", site.identity(master))
        until(site.healthy, 30)
    except BaseException:
        site.stop()
        raise
    site.url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports[:2]) + "/"
    return site


def _knows(site: Site, port: int, ports: list[int]) -> bool:
    with site.node(port) as node:
        lines = raw(node, "CLUSTER", "NODES").decode().splitlines()
    return len(lines) == len(ports) and not any("handshake" in line or "fail" in line for line in lines)


class SentinelSite(Site):
    """A master with replicas, watched by sentinels."""

    def master(self) -> int:
        """Port of what the sentinels take for the master."""
        with self.node(next(iter(self.sentinels))) as sentinel:
            return int(raw(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def healthy(self) -> bool:
        """One master whom all sentinels name, all others its replicas that follow."""
        names = set()
        for port in self.sentinels:
            with self.node(port) as sentinel:
                told = raw(sentinel, "SENTINEL", "MASTER", SERVICE)
                told = dict(zip(told[::2], told[1::2], strict=True))
                names.add(int(told[b"port"]))
                if told[b"flags"] != b"master" or int(told[b"num-other-sentinels"]) != len(self.sentinels) - 1:
                    return False
                if int(told[b"num-slaves"]) != len(self.servers) - 1:
                    return False
                for replica in raw(sentinel, "SENTINEL", "REPLICAS", SERVICE):
                    about = dict(zip(replica[::2], replica[1::2], strict=True))
                    if about[b"flags"] != b"slave" or about[b"master-link-status"] != b"ok":
                        return False
        if len(names) != 1 or self.masters() != [*names]:
            return False
        for port in self.servers:
            with self.node(port) as node:
                if port not in names and node.info("replication")["master_link_status"] != "up":
                    return False
        return True

    def revive(self, port: int) -> None:
        """Start a server that was killed; the sentinels make it a replica."""
        self.servers[port] = start_server(self.binary, *_REPLICATED, port=port)


_REPLICATED = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


def start_sentinels(binary: str, replicas: int = 2, sentinels: int = 3) -> SentinelSite:
    """A master, its replicas, and sentinels that agree by a quorum of two."""
    master = free_port()
    servers = {master: start_server(binary, *_REPLICATED, port=master)}
    site = SentinelSite("", servers, binary=binary)
    try:
        for _ in range(replicas):
            port = free_port()
            servers[port] = start_server(binary, *_REPLICATED, "--replicaof", f"127.0.0.1 {master}", port=port)
        for _ in range(sentinels):
            port, folder = free_port(), tempfile.mkdtemp(prefix="rm")
            config = Path(folder) / "sentinel.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {master} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {NODE_TIMEOUT}\n"
                f"sentinel failover-timeout {SERVICE} 5000\n"
                f"sentinel parallel-syncs {SERVICE} 2\n"
            )
            process = subprocess.Popen(
                [binary, str(config), "--sentinel"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            site.sentinels[port] = Server(f"redis://127.0.0.1:{port}", process)
        until(lambda: _answer(site, site.sentinels) and site.healthy(), 40)
    except BaseException:
        site.stop()
        raise
    site.url = "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in site.sentinels) + f"/{SERVICE}/0"
    return site


def _answer(site: Site, ports) -> bool:
    try:
        for port in ports:
            with site.node(port) as node:
                node.ping()
    except redis.ConnectionError:
        return False
    return True
