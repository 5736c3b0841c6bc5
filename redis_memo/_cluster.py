"""A cluster: which node serves which slot, and how an exchange finds the right one while slots and masters move.

Redis Cluster specification, "Redirection and resharding". The map is refreshed when a node says that it is wrong, and
while a node does not answer; a redirection alone corrects one slot at once.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from binascii import crc_hqx
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import redis
from redis.exceptions import ResponseError

from ._address import Address, Maker
from ._breaker import Breaker
from ._bulk import Batch, Piece
from ._door import Fixed
from ._failures import translated
from ._node import Node
from ._replies import Elsewhere
from ._wire import LEAST, LOST, Wire
from .errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._hook import Hook

__all__ = ["Ask", "Cluster", "Pause", "slot_of"]

SLOTS = 16384
ATTEMPTS = 16  # of one operation; then two nodes send it from one to the other
FRESH = 1.0  # seconds for which a map is not asked for again because of a redirection
UNSETTLED = 0.16  # seconds for which an operation waits for a slot to have moved
LEAST_PAUSE = 0.005
REMEMBERED = 1.0  # seconds for which other operations on such a slot do not wait

_random = random.Random()  # noqa: S311 - spreads the questions over the nodes

_CLUSTER_SLOTS: list[Piece] = [b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n"]
_ASKING = b"*1\r\n$6\r\nASKING\r\n"


def slot_of(key: bytes) -> int:
    """The slot of a key, by its hash tag if it has one (CRC16 of the XMODEM kind, as the specification says)."""
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return crc_hqx(key, 0) % SLOTS


@dataclass(frozen=True, slots=True)
class Ask:
    """Of whoever drives a route: send this to that node and return the reply."""

    node: Node
    pieces: list[Piece]


@dataclass(frozen=True, slots=True)
class Pause:
    """Of whoever drives a route: wait so many seconds."""

    seconds: float


Route: TypeAlias = "Generator[Ask | Pause, Any, Any]"


class Cluster:
    """The map of a cluster, and its nodes.

    Args:
        maker: Makes connections to any node.
        seeds: Nodes that are asked first.
        where: What the cluster is called in messages.
        timeout: Seconds that an exchange may take.
        hook: See `Node`.
        connected: See `Node`.

    Attributes:
        breaker: Whether the cluster is asked at all; of use while no node of it could be asked for the map.
    """

    def __init__(
        self,
        maker: Maker,
        seeds: tuple[Address, ...],
        where: str,
        *,
        timeout: float,
        hook: Hook,
        connected: Callable[[str], None],
    ) -> None:
        self._maker = maker
        self._seeds = seeds
        self._timeout = timeout
        self._on_connected = connected
        self.where = where
        self._owners: list[Node | None] = []
        self._masters: dict[Address, Node] = {}
        self._replicas: dict[Address, Node] = {}
        self._replicas_of: dict[Address, list[Node]] = {}
        self.fresh_start(hook)

    def fresh_start(self, hook: Hook) -> None:
        """Forget what belongs to a process; the map stays."""
        self._hook = hook
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._read = 0.0  # when the map was read
        self._looking: threading.Thread | None = None
        self._unsettled: dict[int, float] = {}
        self.breaker = Breaker(self.refresh, self._timeout, hook)
        for node in (*self._masters.values(), *self._replicas.values()):
            node.fresh_start(hook)

    # The map.

    def masters(self) -> list[Node]:
        """All nodes that serve slots.

        Raises:
            StoreError: No node could be asked.
        """
        self.locate()
        return list(self._masters.values())

    def known(self) -> tuple[Node, ...]:
        """All nodes that serve slots, as far as is known; asks nobody."""
        return tuple(self._masters.values())

    def a_key_of_each(self) -> list[str]:
        """A key for each node that serves slots, as far as is known; asks nobody."""
        found: dict[Node, str] = {}
        if self._owners:
            for key in (f"memo:{{each {number}}}:" for number in range(SLOTS)):
                owner = self._owners[slot_of(key.encode())]
                if owner is not None:
                    found.setdefault(owner, key)
                if len(found) == len(self._masters):
                    break
        return list(found.values())

    @property
    def located(self) -> bool:
        """Whether there is a map."""
        return bool(self._owners)

    @property
    def open(self) -> bool:
        """Whether a part of it is not asked at present."""
        return self.breaker.reason is not None or any(node.breaker.reason for node in self._masters.values())

    def locate(self) -> None:
        """Get the map, if there is none yet.

        Raises:
            StoreError: No node could be asked.
        """
        if self._owners:
            return
        if self.breaker.reason is not None:
            self.breaker.refuse()
        epoch = self.breaker.epoch
        try:
            self.refresh(self._timeout)
        except StoreError as error:
            self.breaker.failed(error, self.where, epoch)
            raise

    def node(self, slot: int, *, replica: bool = False) -> Node:
        """Who serves a slot; with ``replica`` one of its replicas that answer, if it has any.

        Raises:
            StoreError: Nobody does.
        """
        self.locate()
        owner = self._owners[slot]
        if owner is None:
            self.look_soon()
            raise StoreUnavailable(f"{self.where}: no node serves a part of the keys")
        if replica:
            found = [each for each in self._replicas_of.get(_address_of(owner), ()) if each.breaker.reason is None]
            if found:
                return _random.choice(found)
        return owner

    def listen(self) -> Wire:
        """A connection to any node: what is published reaches all of them."""
        self.locate()
        nodes = list(self._masters.values())
        _random.shuffle(nodes)
        nodes.sort(key=lambda node: node.breaker.reason is not None)
        for node in nodes[:-1]:
            try:
                return node.listen()
            except (*LOST, StoreError):
                continue
        return nodes[-1].listen()

    def refresh(self, seconds: float) -> None:
        """Read the map from a node that has one.

        Args:
            seconds: That it may take.

        Raises:
            StoreError: No node could be asked.
        """
        began = time.monotonic()
        with self._asking:
            if self._read > began:
                return  # somebody else has read it meanwhile
            known = [*self._masters.values(), *self._replicas.values()]
            _random.shuffle(known)
            known.sort(key=lambda node: node.breaker.reason is not None)
            addresses = list(dict.fromkeys((*map(_address_of, known), *self._seeds)))
            deadline = time.monotonic() + seconds
            reasons: dict[str, None] = {}
            for number, address in enumerate(addresses):
                share = (deadline - time.monotonic()) / (len(addresses) - number)
                try:
                    self._take(address, self._said_by(address, max(share, LEAST)))
                except (*LOST, ResponseError, ValueError) as error:
                    reasons[str(translated(error, str(address)))] = None
                else:
                    self._read = time.monotonic()
                    return
        raise StoreUnavailable(f"{self.where}: {'; '.join(reasons)}")

    def _said_by(self, address: Address, limit: float) -> Any:
        wire = Wire(self._maker.make(0, address), limit)
        try:
            return wire.ask(_CLUSTER_SLOTS, limit)
        finally:
            wire.close()

    def _take(self, asked: Address, said: list[Any]) -> None:
        """Go by what a node said: ranges of slots, each with its master and its replicas."""
        if not said:
            raise redis.ConnectionError("a node that serves no slots and knows of none")

        def address(told: list[Any]) -> Address:
            # Without a name of its own, a node is where it was asked.
            host = (told[0] or b"").decode()
            return Address(host if host not in ("", "?") else asked.host, int(told[1]))

        with self._lock:
            owners: list[Node | None] = [None] * SLOTS
            masters: dict[Address, Node] = {}
            replicas: dict[Address, Node] = {}
            replicas_of: dict[Address, list[Node]] = {}
            for first, last, master, *others in said:
                where = address(master)
                # One may serve several ranges.
                owner = masters[where] = masters.get(where) or self._masters.get(where) or self._make(where)
                owners[first : last + 1] = [owner] * (last + 1 - first)
                its = replicas_of.setdefault(where, [])
                for each in dict.fromkeys(map(address, others)):
                    found = replicas.get(each) or self._replicas.get(each) or self._make(each, replica=True)
                    replicas[each] = found
                    if found not in its:
                        its.append(found)
            gone = [node for known, node in self._masters.items() if known not in masters]
            gone += [node for known, node in self._replicas.items() if known not in replicas]
            self._masters, self._replicas, self._replicas_of, self._owners = masters, replicas, replicas_of, owners
        for node in gone:
            node.retire()

    def _make(self, address: Address, *, replica: bool = False) -> Node:
        door = Fixed(self._maker, f"{self.where} (node {address})", address, replica=replica)
        return Node(door, self._timeout, self._hook, self._connected, self._no_longer_needed)

    def _connected(self, _: str) -> None:
        self._on_connected(self.where)

    def _no_longer_needed(self, node: Node, seconds: float) -> bool:
        """While a node does not answer, another may have taken its place."""
        self.refresh(seconds)
        return node not in self._masters.values() and node not in self._replicas.values()

    def look_soon(self) -> None:
        """Read the map behind the callers, unless it was read a moment ago."""
        if time.monotonic() - self._read < FRESH:
            return
        with self._lock:
            if self._looking is not None and self._looking.is_alive():
                return
            self._looking = threading.Thread(target=self._refresh_quietly, name="redis_memo cluster", daemon=True)
            try:
                self._looking.start()
            except RuntimeError:  # no more threads: redirections show the way
                self._looking = None

    def _refresh_quietly(self) -> None:
        with contextlib.suppress(StoreError):  # it comes up again
            self.refresh(self._timeout)

    def moved(self, slot: int, address: tuple[str, int], by: Node) -> None:
        """Go by what a node said: another one serves a slot by now."""
        self._owners[slot] = self._node_at(_named(address, by))
        self.look_soon()

    def _node_at(self, address: Address) -> Node:
        with self._lock:
            node = self._masters.get(address)
            if node is None:
                node = self._masters[address] = self._make(address)
            return node

    # The way of one exchange.

    def route(
        self, slot: int, pieces: list[Piece], *, lone: bool, patient: bool = True, replica: bool = False
    ) -> Route:
        """Have commands carried out by the node that serves a slot, wherever that is by now.

        While a slot moves, its keys lie on two nodes. A command of one key is sent on to where the key is. A script of
        several is not: it would take what has not come yet for what is not there, and unlist entries that live. It
        waits until the slot has moved.

        Args:
            slot: Of all keys of the commands.
            pieces: The commands.
            lone: Each command has one key, and touches no other.
            patient: Wait a moment while the slot moves, as this cannot be done in pieces.
            replica: A replica may answer.

        Returns:
            The reply.

        Raises:
            Elsewhere: The slot has not moved within a moment, or no node serves it.
        """
        began = time.monotonic()
        pause = LEAST_PAUSE
        there: Node | None = None  # where the slot moves to, and its key is already
        for _ in range(ATTEMPTS):
            node = there or self.node(slot, replica=replica)
            try:
                reply = yield from (_plain if there is None else _asking)(node, pieces)
            except Elsewhere as error:
                there = None
                if error.why == "moved" and error.address is not None:
                    self.moved(slot, error.address, node)
                    replica = False
                    continue
                if error.why == "ask" and lone and error.address is not None:
                    there = self._node_at(_named(error.address, node))
                    continue
                if error.why == "nobody":
                    if not replica:
                        self.look_soon()
                        raise
                    replica = False
                    continue
                if error.why == "replica":
                    self.look_soon()
                now = time.monotonic()
                if not patient or now - began > UNSETTLED or now - self._unsettled.get(slot, -REMEMBERED) < REMEMBERED:
                    self._unsettled[slot] = now
                    raise
                yield Pause(pause)
                pause *= 2
            except StoreError:
                if not replica:
                    raise
                replica = False
            else:
                if self._unsettled:
                    self._unsettled.pop(slot, None)
                return reply
        raise StoreUnavailable(f"{self.where}: its nodes do not agree on who serves a part of the keys")

    def close(self) -> None:
        """Close this process's connections of threads."""
        self.breaker.close()
        for node in (*self._masters.values(), *self._replicas.values()):
            node.close()


def _plain(node: Node, pieces: list[Piece]) -> Route:
    return (yield Ask(node, pieces))


def _asking(node: Node, pieces: list[Piece]) -> Route:
    commands = pieces.commands if isinstance(pieces, Batch) else (pieces,)
    # ASKING holds for one command.
    replies = yield Ask(node, Batch(*(part for command in commands for part in ([_ASKING], command))))
    return replies[1::2] if isinstance(pieces, Batch) else replies[1]


def _address_of(node: Node) -> Address:
    assert isinstance(node.door, Fixed)
    return node.door.address


def _named(address: tuple[str, int], by: Node) -> Address:
    """An address in a redirection; without a host it is another port of who said it."""
    host, port = address
    return Address(host or _address_of(by).host, port)
