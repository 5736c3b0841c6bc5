"""Where a server is found, each time that a connection to it is made: at an address, ours to start, by sentinels."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit

import redis
from redis.exceptions import ResponseError

from . import _embedded
from ._address import Address, Maker
from ._bounds import size_of
from ._bulk import command_of
from ._failures import translated
from ._wire import LEAST, LOST, Wire
from .errors import ConfigurationError, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from ._bulk import Piece
    from ._wire import Connection

__all__ = ["Door", "Embedded", "Fixed", "Sentinels"]

READONLY: list[Piece] = [b"*1\r\n$8\r\nREADONLY\r\n"]
ROLE: list[Piece] = [b"*1\r\n$4\r\nROLE\r\n"]


class Door(Protocol):
    """The way to one server.

    Attributes:
        where: The server, for messages; without user and password.
        ready: Whether `make` knows where it is.
        greeting: What each new connection is asked first, if anything.
        place: Its address, as far as it has one and that is known.
    """

    @property
    def where(self) -> str: ...
    @property
    def ready(self) -> bool: ...
    @property
    def greeting(self) -> list[Piece] | None: ...
    @property
    def place(self) -> Address | None: ...

    def locate(self) -> None:
        """Find out where it is, or start it; raises StoreError."""

    def make(self, kind: int) -> Connection:
        """A connection for threads (0) or for event loops (1), not connected yet."""

    def again(self) -> bool:
        """After a connection was refused: look anew; False where that leads nowhere else."""

    def forget(self) -> bool:
        """What is known of its place is not to be trusted; False where that is not a thing that changes."""

    def fresh_start(self) -> None:
        """Forget what belongs to a process."""

    def greeted(self, reply: Any) -> None:
        """What it said to the greeting, an exception perhaps; raises where it is not the one that was looked for."""


class Fixed:
    """A server at an address that the URL, or its cluster, told.

    Args:
        maker: Makes the connections.
        address: If not the maker's own.
        replica: Read from it, although it is a replica of a cluster's.
        where: What it is called in messages.

    Attributes:
        address: Where it is.
    """

    ready = True

    def __init__(self, maker: Maker, where: str, address: Address | None = None, *, replica: bool = False) -> None:
        self._maker = maker
        self._address = address
        self.address = self.place = maker.address if address is None else address
        self.where = where
        self.greeting: list[Piece] | None = READONLY if replica else None

    def locate(self) -> None:
        """There is nothing to find out."""

    def make(self, kind: int) -> Connection:
        """See `Door`; so for those that follow."""
        return self._maker.make(kind, self._address)

    def again(self) -> bool:
        """It is nowhere else."""
        return False

    def forget(self) -> bool:
        """It does not move."""
        return False

    def fresh_start(self) -> None:
        """It has nothing that belongs to a process."""

    def greeted(self, reply: Any) -> None:
        """A node that is no replica refuses nothing."""
        if isinstance(reply, Exception):
            raise reply


class Embedded:
    """The server of our own, started when it is first needed and whenever it is gone.

    Args:
        url: ``embedded://``, a folder and options perhaps.

    Attributes:
        secret: Its folder's own; None before it was started.
    """

    greeting = None
    place = None

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._maker: Maker | None = None
        self.where = "the embedded server"
        self.secret: bytes | None = None

    @property
    def ready(self) -> bool:
        """Whether it was started once."""
        return self._maker is not None

    @property
    def url(self) -> str:
        """Where it is, once it was started."""
        assert self._maker is not None
        return f"unix://{quote(self._maker.options['path'])}"

    def _start(self) -> None:
        parts = urlsplit(self._url)
        if parts.netloc:
            raise ConfigurationError("an embedded URL is embedded:// or embedded:///a/folder (three slashes)")
        options = parse_qs(parts.query)
        unknown = set(options) - {"maxmemory"}
        if unknown:
            names = ", ".join(sorted(unknown))
            raise ConfigurationError(f"unknown option of an embedded URL: {names}; known: maxmemory")
        folder = unquote(parts.path)
        maxmemory = _memory(options["maxmemory"][0]) if options else None
        try:
            server = _embedded.start(Path(folder) if folder else None, maxmemory=maxmemory)
        except ConfigurationError as error:
            if folder:
                raise
            # Nobody chose the default folder, so that it cannot be used is an outage to the caller, not a mistake.
            raise StoreUnavailable(str(error)) from error
        self.secret = server.secret
        self.where = f"the embedded server in {server.folder}"
        if self._maker is None or self._maker.options.get("path") != server.socket:
            self._maker = Maker(f"unix://{quote(server.socket)}")

    def locate(self) -> None:
        """Start it, unless it was started."""
        with self._lock:
            if self._maker is None:
                self._start()

    def make(self, kind: int) -> Connection:
        """See `Door`; so for those that follow."""
        assert self._maker is not None
        return self._maker.make(kind)

    def again(self) -> bool:
        """It went away, or was killed: it is ours to start again."""
        with self._lock:
            self._start()
        return True

    def forget(self) -> bool:
        """It does not move."""
        return False

    def fresh_start(self) -> None:
        """A thread that is gone may have held the lock."""
        self._lock = threading.Lock()

    def greeted(self, reply: Any) -> None:
        """It is not greeted."""


def _memory(text: str) -> int:
    size = size_of(text)
    if size is None:
        raise ConfigurationError("maxmemory of an embedded URL is a number with kb, mb or gb, such as 512mb")
    return size


class Sentinels:
    """A master that sentinels know, or one of its replicas.

    They are asked when nothing is known, and whenever the master turned out to be gone or none any more; not for each
    connection, so that a service outlives its sentinels. Whoever they name says itself that it is a master (ROLE):
    they may not have heard yet ("Guidelines for Redis clients with support for Redis Sentinel").

    Args:
        maker: Makes connections to the servers.
        sentinel_maker: Makes connections to the sentinels.
        seeds: The sentinels.
        service: What they call the master.
        where: What the set-up is called in messages.
        timeout: Seconds that finding out may take.
        replica: A replica is wanted.
    """

    def __init__(
        self,
        maker: Maker,
        sentinel_maker: Maker,
        seeds: tuple[Address, ...],
        service: str,
        where: str,
        *,
        timeout: float,
        replica: bool = False,
    ) -> None:
        self._maker = maker
        self._sentinel_maker = sentinel_maker
        self._seeds = seeds
        self._service = service.encode()
        self._timeout = timeout
        self._replica = replica
        self._lock = threading.Lock()
        self._address: Address | None = None
        self._turn = 0
        self.where = where
        self.greeting: list[Piece] | None = None if replica else ROLE

    @property
    def ready(self) -> bool:
        """Whether they have been asked."""
        return self._address is not None

    @property
    def place(self) -> Address | None:
        """What they said."""
        return self._address

    def locate(self) -> None:
        """Ask them, unless they were asked."""
        with self._lock:
            if self._address is None:
                self._address = self._ask()

    def make(self, kind: int) -> Connection:
        """See `Door`; so for those that follow."""
        address = self._address
        if address is None:  # forgotten by another thread meanwhile; `again` follows
            raise redis.ConnectionError("its place is not known")
        return self._maker.make(kind, address)

    def again(self) -> bool:
        """Ask them anew."""
        known = self._address
        with self._lock:
            if self._address is known:
                self._address = self._ask()
        return self._address != known

    def forget(self) -> bool:
        """They are to be asked before the next connection."""
        self._address = None
        return True

    def fresh_start(self) -> None:
        """A thread that is gone may have held the lock."""
        self._lock = threading.Lock()

    def greeted(self, reply: Any) -> None:
        """A server that was demoted takes no part any more."""
        if isinstance(reply, ResponseError):
            return  # it may not be asked (ACL); a write will tell
        if isinstance(reply, Exception):
            raise reply
        if not isinstance(reply, list) or reply[:1] != [b"master"]:
            raise redis.ConnectionError("it is not a master")

    def _ask(self) -> Address:
        """What the first sentinel that knows it says; the others are told of nothing by a sentinel that is cut off."""
        deadline = time.monotonic() + self._timeout
        reasons: list[StoreError] = []
        for number, seed in enumerate(self._seeds):
            # What is left is shared among those that were not asked yet, so that one that is silent leaves time.
            share = (deadline - time.monotonic()) / (len(self._seeds) - number)
            try:
                found = self._said_by(seed, max(share, LEAST))
            except (*LOST, ResponseError, redis.AuthenticationError) as error:
                ours = translated(error, f"the sentinel {seed}")
                assert ours is not None
                reasons.append(ours)
                continue
            if found is not None:
                if number:  # next time it is asked first
                    self._seeds = (seed, *(each for each in self._seeds if each != seed))
                return found
            wanted = "replica of it" if self._replica else "such master"
            reasons.append(StoreUnavailable(f"the sentinel {seed} knows no {wanted}"))
        raise StoreUnavailable(f"{self.where}: {'; '.join(dict.fromkeys(map(str, reasons)))}")

    def _said_by(self, seed: Address, limit: float) -> Address | None:
        wire = Wire(self._sentinel_maker.make(0, seed), limit)
        try:
            words = (b"REPLICAS",) if self._replica else (b"GET-MASTER-ADDR-BY-NAME",)
            reply: Any = wire.ask([command_of(b"SENTINEL", *words, self._service)], limit)
        finally:
            wire.close()
        if not self._replica:
            return None if reply is None else Address(reply[0].decode(), int(reply[1]))
        found = []
        for fields in reply:
            told = dict(zip(fields[::2], fields[1::2], strict=False))
            if not {b"s_down", b"o_down", b"disconnected"} & {*told.get(b"flags", b"").split(b",")} and (
                told.get(b"master-link-status") == b"ok"
            ):
                found.append(Address(told[b"ip"].decode(), int(told[b"port"])))
        self._turn += 1
        return found[self._turn % len(found)] if found else None
