"""The servers that a store consists of: one, a master that sentinels name and its replicas, or a cluster's nodes."""

from __future__ import annotations

import functools
import logging
import os
import weakref
from typing import TYPE_CHECKING

from ._address import Maker, named, placed
from ._cluster import Cluster, slot_of
from ._commands import routed_by
from ._config import redacted
from ._door import Embedded, Fixed, Sentinels
from ._hook import Hook
from ._node import Node
from ._push import Listener
from ._tracking import Tracker, Trackers
from .errors import StoreUnavailable

if TYPE_CHECKING:
    from typing import Literal

    from ._breaker import Breaker
    from ._config import Settings
    from ._door import Door
    from ._wire import Wire

__all__ = ["Servers"]

log = logging.getLogger("redis_memo")


class Servers:
    """The servers of one store as this process uses them: its connections, and what it hears from them.

    Args:
        settings: Where the store is and how long it may take.

    Attributes:
        where: The store, without user and password.
        hook: Tells the user of events.
        listener: Wakes who waits.
        tracker: Hears of what others change.
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
        self.tracker = self._make_tracker(self._home) if self.cluster is None else self._make_trackers(self.cluster)
        # The short way: one server, and nothing to be asked of it but the operation.
        self._only = None if self._replica is not None or self._settings.wait else self._home

    def _make_tracker(self, node: Node | None) -> Tracker:
        assert node is not None
        return Tracker(node.listen, lambda: node.door.where, self.hook, lambda: node.door.place)

    def _make_trackers(self, cluster: Cluster) -> Trackers:
        return Trackers(cluster.known, self._make_tracker)

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

    def addresses(self) -> list[str]:
        """The URL of each server that is written to, credentials and all; the embedded one is started.

        Raises:
            StoreError: They cannot be found, or the embedded one cannot be started.
        """
        self.locate()
        if self._embedded is not None:
            return [self._embedded.url]
        it = named(self._settings.url)
        if it.kind == "single":
            return [it.url]
        return [placed(it.url, node.door.place) for node in self.masters() if node.door.place is not None]

    def address(self, key: str) -> str:
        """The URL of the server that has a key.

        Raises:
            StoreError: As `addresses`.
        """
        if self.cluster is None:
            found = self.addresses()
            if found:
                return found[0]
        place = None if self.cluster is None else self.cluster.node(slot_of(key.encode())).door.place
        if place is None:
            raise StoreUnavailable(f"{self.where}: the master is changing")
        return placed(named(self._settings.url).url, place)

    def masters(self) -> list[Node]:
        """All servers that are written to.

        Raises:
            StoreError: No node of the cluster could be asked.
        """
        return [self._home] if self._home is not None else self.cluster.masters()  # type: ignore[union-attr]

    def a_key_of_each(self) -> list[str]:
        """A key for each server that is written to, which it has; asks nobody, so any key while they are not known."""
        return (self.cluster.a_key_of_each() if self.cluster is not None else []) or [""]

    def node_for(self, op: object) -> Node:
        """The server that performs an operation, as far as is known at the moment.

        Raises:
            StoreError: There is none.
        """
        if self._home is not None:
            return self._home
        assert self.cluster is not None
        return self.cluster.node(slot_of(routed_by(op)))

    def _connect_listener(self) -> Wire:
        if self.cluster is not None:
            return self.cluster.listen()
        return self.home.listen()

    def _connected(self, where: str) -> None:
        self.generation += 1
        if not self._announced:
            self._announced = True
            log.info("redis_memo: caching in %s", where)

    def close(self) -> None:
        """Close this process's connections of threads; those of event loops close with their loops."""
        self.listener.close()
        self.tracker.close()
        for part in (self._home, self._replica, self.cluster):
            if part is not None:
                part.close()


_all: weakref.WeakSet[Servers] = weakref.WeakSet()


def _after_fork() -> None:
    # The parent's sockets must not be read here, nor its threads be waited for. Dropping redis-py's
    # connections only closes this process's copy of the descriptors.
    for servers in list(_all):
        servers._fresh_start()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
