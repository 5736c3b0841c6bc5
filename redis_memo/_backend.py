"""Performs the core's operations on the store, for threads and for event loops, wherever the store is.

One server (`_node`), a master that sentinels name (a `_door` that moves), or a cluster (`_cluster`). Errors of redis-py
end here: what leaves is of our own tree.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from redis.exceptions import NoScriptError

from . import _ops as ops
from ._address import Maker, named
from ._cluster import Ask, Cluster, slot_of
from ._commands import confirmed, dialogue, routed_by
from ._config import redacted
from ._door import Embedded, Fixed, Sentinels
from ._drive import adrive, drive
from ._hook import Hook
from ._node import Node
from ._piecewise import PIECEWISE, piecewise
from ._push import Listener
from ._replies import Elsewhere
from .errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Literal

    from ._breaker import Breaker
    from ._bulk import Piece
    from ._cluster import Pause
    from ._config import Settings
    from ._door import Door
    from ._wire import Wire

__all__ = ["Backend"]

log = logging.getLogger("redis_memo")

Dialogue: TypeAlias = "Generator[list[Piece], Any, Any]"
Steps: TypeAlias = "Generator[Ask | Pause, Any, Any]"

# An invalidation is tried even where everything else has given up.
_URGENT = frozenset({ops.Drop, ops.DropMatching, ops.Revoke, ops.Enrolled})
# Each of their commands has one key, and touches no other.
_LONE = frozenset(
    {ops.Read, ops.ReadParts, ops.NoteWait, ops.FollowWait, ops.Renew, ops.Enroll, ops.Enrolled, ops.Strike}
)
_READS = frozenset({ops.Read, ops.ReadParts})
# What nobody would see if it were lost, unlike what these do: a value from before them would be served again (P3).
_CONFIRMED = frozenset({ops.Drop, ops.DropMatching, ops.Revoke, ops.Put})


class Backend:
    """Performs the core's store operations, for threads and for event loops.

    Args:
        settings: Where the store is and how long it may take.

    Attributes:
        where: The store, without user and password.
        hook: Tells the user of events.
        listener: Wakes who waits.
        generation: Counts the connections, after each of which the server may be another one.

    Raises:
        ConfigurationError: The URL cannot be understood.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._timeout = settings.timeout
        self._announced = False
        self._shown = "the embedded server" if settings.url.startswith("embedded://") else redacted(settings.url)
        self.hook = Hook(settings.on_event)
        self.cluster: Cluster | None = None
        self._replica: Node | None = None
        self._home: Node | None = None  # the one server there is
        self._embedded: Embedded | None = None
        self._arrange()
        self._fresh_start(at_first=True)
        _all.add(self)

    def _arrange(self) -> None:
        url, timeout = self._settings.url, self._timeout
        if url.startswith("embedded://"):
            self._embedded = Embedded(url)
            self._home = self._make_node(self._embedded)
            return
        it = named(url)
        maker = Maker(it.url, url)
        if it.kind == "cluster":
            self.cluster = Cluster(
                maker, it.seeds, self._shown, timeout=timeout, hook=self.hook, connected=self._connected
            )
        elif it.kind == "single":
            self._home = self._make_node(Fixed(maker, self._shown))
        else:
            sentinels = functools.partial(
                Sentinels, maker, Maker(it.sentinel_url, url), it.seeds, it.service, timeout=timeout
            )
            self._home = self._make_node(sentinels(self._shown))
            if self._settings.read_from == "replica":
                self._replica = self._make_node(sentinels(f"{self._shown} (replicas)", replica=True))

    def _make_node(self, door: Door) -> Node:
        return Node(door, self._timeout, self.hook, self._connected)

    def _fresh_start(self, *, at_first: bool = False) -> None:
        """Forget everything that belongs to a process: connections, threads, locks."""
        if not at_first:
            self.hook = Hook(self._settings.on_event)
            for part in (self._home, self._replica, self.cluster):
                if part is not None:
                    part.fresh_start(self.hook)
        self.generation = 0
        # A cluster passes on what is published from node to node, with no order between that and anything else.
        self.listener = Listener(self._connect_listener, ordered=self.cluster is None)
        # The short way: one server, and nothing to be asked of it but the operation.
        self._only = None if self._replica is not None or self._settings.wait else self._home

    # What it is.

    @property
    def where(self) -> str:
        """The store, without user and password."""
        return self._shown if self._embedded is None else self._embedded.where

    @property
    def embedded_secret(self) -> bytes | None:
        """The embedded server's own secret, once it was started."""
        return None if self._embedded is None else self._embedded.secret

    @property
    def home(self) -> Node:
        """The one server there is; of a cluster, which has none, any master.

        Raises:
            StoreError: No node of the cluster could be asked.
        """
        if self._home is not None:
            return self._home
        assert self.cluster is not None
        return self.cluster.masters()[0]

    @property
    def breaker(self) -> Breaker:
        """Whether the server is asked at all; of a cluster, whether any node is."""
        if self._home is not None:
            return self._home.breaker
        assert self.cluster is not None
        return self.cluster.breaker

    @property
    def state(self) -> Literal["closed", "open"]:
        """``open`` while the server is not asked, or some master of a cluster is not."""
        if self.cluster is None:
            return self.breaker.state
        return "open" if self.cluster.open else "closed"

    @property
    def spread(self) -> bool:
        """Whether different keys may lie on different servers."""
        return self.cluster is not None

    def locate(self) -> None:
        """Find or start the server where that is ours to do.

        Raises:
            StoreUnavailable: It cannot be found, or cannot be started.
        """
        if self._home is not None:
            self._home.locate()
        elif self.cluster is not None:
            self.cluster.locate()

    def masters(self) -> list[Node]:
        """All servers that are written to, for who needs a connection to each.

        Raises:
            StoreError: No node of the cluster could be asked.
        """
        return [self._home] if self._home is not None else self.cluster.masters()  # type: ignore[union-attr]

    def node_for(self, op: object) -> Node:
        """The server that performs an operation, as far as is known at the moment.

        Raises:
            StoreError: There is none.
        """
        if self._home is not None:
            return self._home
        assert self.cluster is not None
        return self.cluster.node(slot_of(routed_by(op)))

    def connect_to(self, node: Node) -> Wire:
        """A new connection to one of `masters`, which is the caller's own.

        Raises:
            StoreError: There is none.
        """
        return node.connect(self._timeout)

    def _connect_listener(self) -> Wire:
        if self.cluster is not None:
            return self.cluster.listen()
        return self.home.listen()

    def _connected(self, where: str) -> None:
        self.generation += 1
        if not self._announced:
            self._announced = True
            log.info("redis_memo: caching in %s", where)

    # Threads.

    def perform(self, op: object) -> Any:
        """Perform one operation from a thread.

        Raises:
            StoreError: The server did not do it.
        """
        node = self._only
        if node is None:
            return drive(self._steps(op), functools.partial(self._step, type(op) in _URGENT))
        breaker = node.breaker
        if breaker.reason is not None and type(op) not in _URGENT:
            breaker.refuse()
        epoch = breaker.epoch
        try:
            result = drive(dialogue(op), node.exchange)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            if not node.demoted(error):
                node.failed(error, epoch, urgent=type(op) in _URGENT)
            return drive(self._steps(op), functools.partial(self._step, type(op) in _URGENT))
        if breaker.reason is not None and type(op) in _URGENT:
            breaker.answered()
        return result

    def _step(self, urgent: bool, step: Ask | Pause) -> Any:
        if not isinstance(step, Ask):
            time.sleep(step.seconds)
            return None
        node = step.node
        breaker = node.breaker
        if breaker.reason is not None and not urgent:
            breaker.refuse()
        epoch = breaker.epoch
        try:
            reply = node.exchange(step.pieces)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            _met(node, error, epoch, urgent=urgent)
        if breaker.reason is not None and urgent:
            breaker.answered()
        return reply

    # Event loops.

    async def aperform(self, op: object) -> Any:
        """As `perform`, from a task. The time it waits for its turn, among hundreds, does not count."""
        node = self._only
        urgent = type(op) in _URGENT
        if node is None:
            return await self._awide(op, urgent)
        breaker = node.breaker
        if breaker.reason is not None and not urgent:
            breaker.refuse()
        epoch = breaker.epoch
        try:
            result = await adrive(dialogue(op), functools.partial(node.aexchange, urgent=urgent))
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            if not node.demoted(error):
                node.failed(error, epoch, urgent=urgent)
            return await self._awide(op, urgent)
        if breaker.reason is not None and urgent:
            breaker.answered()
        return result

    async def _awide(self, op: object, urgent: bool) -> Any:
        if self.cluster is not None and not self.cluster.located:
            if self.cluster.breaker.reason is not None and not urgent:
                self.cluster.breaker.refuse()
            await asyncio.to_thread(self.cluster.locate)
        return await adrive(self._steps(op), functools.partial(self._astep, urgent))

    async def _astep(self, urgent: bool, step: Ask | Pause) -> Any:
        if not isinstance(step, Ask):
            await asyncio.sleep(step.seconds)
            return None
        node = step.node
        breaker = node.breaker
        if breaker.reason is not None and not urgent:
            breaker.refuse()
        epoch = breaker.epoch
        try:
            reply = await node.aexchange(step.pieces, urgent=urgent)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            _met(node, error, epoch, urgent=urgent)
        if breaker.reason is not None and urgent:
            breaker.answered()
        return reply

    # The long way: a cluster, replicas, or confirmed writes.

    def _steps(self, op: Any) -> Steps:
        wait = self._settings.wait if type(op) in _CONFIRMED else 0
        talk = confirmed(op, wait, self._timeout / 2) if wait else dialogue(op)
        try:
            return (yield from self._talk(talk, op, lone=type(op) in _LONE))
        except Elsewhere as error:
            if error.why in ("later", "ask"):
                if type(op) not in PIECEWISE:
                    raise StoreUnavailable(f"{self.where}: some keys are just moving to another node") from error
            else:
                raise StoreUnavailable(f"{self.where}: the master is changing ({error.why})") from error
        if wait:
            return (yield from self._talk(confirmed(op, wait, self._timeout / 2, piecewise(op)), op, lone=True))
        return (yield from self._talk(piecewise(op), op, lone=True))

    def _talk(self, talk: Dialogue, op: Any, *, lone: bool) -> Steps:
        cluster = self.cluster
        slot = -1 if cluster is None else slot_of(routed_by(op))
        patient = lone or type(op) not in PIECEWISE
        replica = self._settings.read_from == "replica" and type(op) in _READS
        pieces = talk.send(None)
        try:
            while True:
                try:
                    if cluster is not None:
                        reply = yield from cluster.route(slot, pieces, lone=lone, patient=patient, replica=replica)
                    else:
                        reply = yield from self._at_home(pieces, replica)
                except Exception as error:  # noqa: BLE001 - the dialogue decides
                    pieces = talk.throw(error)
                else:
                    pieces = talk.send(reply)
        except StopIteration as stop:
            return stop.value

    def _at_home(self, pieces: list[Piece], replica: bool) -> Steps:
        assert self._home is not None
        if replica and self._replica is not None:
            try:
                return (yield Ask(self._replica, pieces))
            except (StoreError, Elsewhere):
                pass  # the master has it, too
        try:
            return (yield Ask(self._home, pieces))
        except Elsewhere as error:
            if not self._home.demoted(error):
                raise
        return (yield Ask(self._home, pieces))

    def close(self) -> None:
        """Close this process's connections of threads; those of event loops close with their loops."""
        self.listener.close()
        for part in (self._home, self._replica, self.cluster):
            if part is not None:
                part.close()


def _met(node: Node, error: Exception, epoch: int, *, urgent: bool) -> NoReturn:
    """What an exchange of several that make up an operation ended with."""
    if isinstance(error, (Elsewhere, NoScriptError)):
        raise error  # whoever asks knows what to do
    node.failed(error, epoch, urgent=urgent)


_all: weakref.WeakSet[Backend] = weakref.WeakSet()


def _after_fork() -> None:
    # The parent's sockets must not be read here, nor its threads be waited for. Dropping redis-py's
    # connections only closes this process's copy of the descriptors.
    for backend in list(_all):
        backend._fresh_start()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
