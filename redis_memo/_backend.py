"""Where the server is and how it is spoken to: URLs, connections of threads and of event loops, what failed.

This is the one module that knows the topology. Errors of redis-py end here: what leaves is of our own tree.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias
from urllib.parse import parse_qs, quote, unquote, urlsplit

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from . import _embedded
from . import _ops as ops
from ._breaker import Breaker
from ._commands import dialogue
from ._config import redacted
from ._drive import adrive, drive
from ._failures import crowded, excused, translated
from ._hook import Hook
from ._push import Listener
from ._tracking import Tracker
from ._wire import LEAST, LOST, AsyncWire, Limit, LoopWires, RefusedClient, Wire, timed, timed_async
from .errors import ConfigurationError, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from ._bulk import Piece
    from ._config import Settings

__all__ = ["Backend"]

log = logging.getLogger("redis_memo")

Connection: TypeAlias = Any  # sync or async redis-py connections; their stubs disagree between releases

# An invalidation is tried even where everything else has given up.
_URGENT = frozenset({ops.Drop, ops.DropMatching, ops.Revoke, ops.Enrolled})

IDLE_MOST = 64
CONNECTING_MOST = 4
IDLE_TRUSTED = 120.0  # seconds; after that a router on the way may have forgotten a connection, and tell nobody


class Backend:
    """Performs the core's store operations on one server, for threads and for event loops.

    Args:
        settings: Where the server is and how long it may take.

    Attributes:
        where: The server, without user and password.
        breaker: Whether it is asked at all.
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
        self._embedded = settings.url.startswith("embedded://")
        self.where = "the embedded server" if self._embedded else redacted(settings.url)
        self._announced = False
        self._pools: tuple[Any, Any] | None = None
        if not self._embedded:
            self._pools = self._make_pools(settings.url)
        self._fresh_start()
        _all.add(self)

    def _fresh_start(self) -> None:
        """Forget everything that belongs to a process: connections, threads, locks."""
        self._lock = threading.Lock()
        self._idle: list[Wire] = []
        self._connecting = threading.Semaphore(CONNECTING_MOST)
        self._lost: tuple[float, StoreError] | None = None
        self._trusted = 0.0  # connections last used before this moment are no better than one that was lost
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWires] = weakref.WeakKeyDictionary()
        self.listener = Listener(self._connect_listener)
        self.hook = Hook(self._settings.on_event)
        self.breaker = Breaker(self._probe, self._timeout, self.hook)
        self.tracker = Tracker(self._connect_listener, lambda: self.where, self.hook)
        self.generation = 0

    # Where the server is.

    def _make_pools(self, url: str) -> tuple[Any, Any]:
        common: dict[str, Any] = {
            "socket_timeout": None,  # limited by ourselves
            "socket_connect_timeout": None,
            "protocol": 2,
            "health_check_interval": 0,
        }
        try:
            _check_path(url)
            pools: tuple[Any, Any] = (
                redis.ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0), **common),
                redis.asyncio.ConnectionPool.from_url(url, retry=redis.asyncio.retry.Retry(NoBackoff(), 0), **common),
            )
            for pool, limited in zip(pools, (timed, timed_async), strict=True):
                pool.connection_class = limited(pool.connection_class)
                pool.connection_kwargs["decode_responses"] = False  # entries are bytes, whatever the URL says
                if "path" not in pool.connection_kwargs:
                    pool.connection_kwargs.setdefault("socket_keepalive", True)
                pool.connection_class(**pool.connection_kwargs)  # tells of an option that redis-py does not know
        except (ValueError, TypeError, redis.RedisError) as error:
            raise ConfigurationError(
                f"the URL {redacted(url)} cannot be understood; "
                "forms: redis://user:password@host:6379/0, rediss://..., unix:///path/to/socket?db=0, embedded://"
            ) from error
        return pools

    def _start_embedded(self) -> None:
        parts = urlsplit(self._settings.url)
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
        self.embedded_secret = server.secret
        self.where = f"the embedded server in {server.folder}"
        pools = self._pools
        if pools is None or pools[0].connection_kwargs.get("path") != server.socket:
            self._pools = self._make_pools(f"unix://{quote(server.socket)}")

    embedded_secret: bytes | None = None

    def locate(self) -> None:
        """Find or start the server where that is ours to do.

        Raises:
            StoreUnavailable: The embedded server cannot be started.
        """
        if self._pools is None:
            if self.breaker.reason is not None:
                self.breaker.refuse()
            epoch = self.breaker.epoch
            try:
                with self._lock:
                    if self._pools is None:
                        self._start_embedded()
            except StoreError as error:
                self._open(error, epoch)
                raise

    def address(self) -> str:
        """The URL at which the server is reached, the embedded one included, which is started; credentials and all.

        Raises:
            StoreUnavailable: The embedded server cannot be started.
        """
        self.locate()
        if not self._embedded or self._pools is None:
            return self._settings.url
        return f"unix://{quote(self._pools[0].connection_kwargs['path'])}"

    def _restart_embedded(self) -> None:
        with self._lock:
            self._start_embedded()

    def _make(self, kind: int) -> Connection:
        assert self._pools is not None
        pool = self._pools[kind]
        # Not pool.make_connection(): it counts what was ever made, and refuses after a hundred. These are kept here.
        return pool.connection_class(**pool.connection_kwargs)

    def _connected(self) -> None:
        self.generation += 1
        if not self._announced:
            self._announced = True
            log.info("redis_memo: caching in %s", self.where)

    # Whether it is there.

    def _open(self, reason: StoreError, epoch: int) -> None:
        self._lost = time.monotonic(), type(reason)(str(reason))  # without its traceback, which holds arguments
        if self.breaker.failed(reason, self.where, epoch):
            self._trusted = time.monotonic()
            self._drop_idle()

    def _unconnected(self, error: Exception, epoch: int) -> NoReturn:
        """A connection that cannot be made concerns every call, unless there are only too many of them."""
        ours = translated(error, self.where)
        if ours is None or ours is error:
            raise error
        if not excused(error, ours):
            self._open(ours, epoch)
        raise ours from error

    def _failed(self, error: Exception, op: object, epoch: int) -> NoReturn:
        """Let only our own errors through, and remember that the server does not answer."""
        ours = translated(error, self.where)
        if ours is None or ours is error:
            raise error
        if isinstance(ours, StoreUnavailable) or isinstance(error, redis.AuthenticationError):
            if not excused(error, ours):
                self._open(ours, epoch)
        elif self.breaker.reason is not None and type(op) in _URGENT:
            self.breaker.answered()
        raise ours from error

    def _probe(self, seconds: float) -> None:
        """Ask the server, on behalf of all, what it would be asked by a hit. A refusal is an answer, too."""
        if self._embedded and self._pools is None:
            self._restart_embedded()
        try:
            try:
                wire = Wire(self._make(0), seconds)
            except LOST:
                if not self._embedded:
                    raise
                self._restart_embedded()
                wire = Wire(self._make(0), seconds)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            ours = translated(error, self.where)
            if ours is not None and crowded(ours):
                return
            raise ours or error from None
        try:
            wire.ask([b"*2\r\n$3\r\nGET\r\n$10\r\nmemo:probe\r\n"], seconds)
        except (ResponseError, RefusedClient):
            wire.close()
            return
        except LOST as error:
            raise translated(error, self.where) or error from None
        self._connected()
        self._keep(wire, time.monotonic())

    # Threads.

    def _connect(self, limit: float) -> Wire:
        epoch = self.breaker.epoch
        self.locate()
        try:
            try:
                wire = Wire(self._make(0), limit)
            except LOST as error:
                if not self._embedded or isinstance(error, (TimeoutError, redis.TimeoutError)):
                    raise
                # It went away, or was killed: it is ours to start again.
                self._restart_embedded()
                wire = Wire(self._make(0), limit)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            self._unconnected(error, epoch)
        self._connected()
        return wire

    def _connect_listener(self) -> Wire:
        self.locate()
        return Wire(self._make(0), self._timeout)

    def _keep(self, wire: Wire, now: float) -> None:
        if len(self._idle) < IDLE_MOST:
            wire.used = now
            self._idle.append(wire)
        else:
            wire.close()

    def _drop_idle(self) -> None:
        with contextlib.suppress(IndexError):  # others take from it too
            while True:
                self._idle.pop().close()

    def _ask(self, wire: Wire, pieces: list[Piece], limit: float, now: float) -> Any:
        try:
            reply = wire.ask(pieces, limit)
        except ResponseError:
            self._keep(wire, now)
            raise
        self._keep(wire, now)
        return reply

    def _exchange(self, pieces: list[Piece]) -> Any:
        now = time.monotonic()
        deadline = now + self._timeout
        try:
            wire = self._idle.pop()
        except IndexError:
            pass
        else:
            if wire.used >= self._trusted and now - wire.used < IDLE_TRUSTED:
                try:
                    return self._ask(wire, pieces, self._timeout, now)
                except (TimeoutError, redis.TimeoutError):
                    raise
                except LOST:
                    # The server closed it while it was idle, as after a restart. Or it went with the answer: then the
                    # operation is carried out twice, which does no harm but to the count of an invalidation.
                    pass
            wire.close()
            self._drop_idle()  # the others are no better
        left = deadline - time.monotonic()
        # A few at a time: fifty TLS handshakes at once take longer than any of them may. The turn does not count.
        with self._connecting:
            if self._lost is not None and self._lost[0] >= now:
                # Met while this one waited; it need not wait as long.
                raise type(self._lost[1])(*self._lost[1].args)
            deadline = time.monotonic() + left
            wire = self._spare() or self._connect(max(left, LEAST))
        return self._ask(wire, pieces, max(deadline - time.monotonic(), LEAST), now)

    def _spare(self) -> Wire | None:
        """A connection that another thread has given back meanwhile."""
        try:
            wire = self._idle.pop()
        except IndexError:
            return None
        if wire.used >= self._trusted:
            return wire
        wire.close()
        return None

    def perform(self, op: object) -> Any:
        """Perform one operation from a thread.

        Raises:
            StoreError: The server did not do it.
        """
        breaker = self.breaker
        if breaker.reason is not None and type(op) not in _URGENT:
            breaker.refuse()
        epoch = breaker.epoch
        try:
            result = drive(dialogue(op), self._exchange)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            self._failed(error, op, epoch)
        if breaker.reason is not None and type(op) in _URGENT:
            breaker.answered()
        return result

    # Event loops.

    async def _aloop(self) -> LoopWires:
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            for ended in [each for each in self._loops if each.is_closed()]:
                self._loops.pop(ended).drop()
            found = self._loops[loop] = LoopWires()
            await found.open()
        return found

    async def _aconnect(self, timer: Limit) -> AsyncWire:
        epoch = self.breaker.epoch
        try:
            try:
                wire = await AsyncWire.connect(self._make(1))
            except LOST as error:
                if not self._embedded or isinstance(error, (TimeoutError, redis.TimeoutError)):
                    raise
                timer.stop()
                await asyncio.to_thread(self._restart_embedded)
                timer.start(self._timeout)
                wire = await AsyncWire.connect(self._make(1))
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            self._unconnected(error, epoch)
        self._connected()
        return wire

    async def _aidle(self, loop: LoopWires) -> AsyncWire | None:
        """A connection that can be trusted."""
        if not loop.idle:
            return None
        wire = loop.idle.pop()
        if wire.used >= self._trusted and time.monotonic() - wire.used < IDLE_TRUSTED:
            return wire
        await wire.close()
        await loop.close()
        return None

    async def _aask(self, loop: LoopWires, wire: AsyncWire, pieces: list[Piece], timer: Limit) -> Any:
        now = time.monotonic()
        try:
            return await wire.ask(pieces, self._timeout, timer)
        finally:
            if wire.open:
                wire.used = now
                loop.idle.append(wire)

    async def _aexchange(self, pieces: list[Piece], op: object) -> Any:
        loop = await self._aloop()
        if self._pools is None:
            await asyncio.to_thread(self.locate)
        since = time.monotonic()
        async with loop.turn:
            loop.same(since)
            if self.breaker.reason is not None and type(op) not in _URGENT:
                self.breaker.refuse()
            try:
                async with Limit(self._timeout) as timer:
                    wire = await self._aidle(loop)
                    if wire is not None:
                        try:
                            return await self._aask(loop, wire, pieces, timer)
                        except (TimeoutError, redis.TimeoutError):
                            raise
                        except LOST:
                            await loop.close()  # see `_exchange`
                    # One at a time: thirty TLS handshakes at once on one loop take longer than any of them may.
                    left = timer.stop()
                    async with loop.connecting:
                        loop.same(since)
                        timer.start(left)
                        wire = await self._aidle(loop) or await self._aconnect(timer)
                    return await self._aask(loop, wire, pieces, timer)
            except (*LOST, StoreError) as error:
                loop.lost = time.monotonic(), type(error)(*error.args)
                await loop.close()
                raise

    async def aperform(self, op: object) -> Any:
        """As `perform`, from a task. The time it waits for its turn, among hundreds, does not count."""
        breaker = self.breaker
        if breaker.reason is not None and type(op) not in _URGENT:
            breaker.refuse()
        epoch = breaker.epoch
        try:
            result = await adrive(dialogue(op), functools.partial(self._aexchange, op=op))
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            self._failed(error, op, epoch)
        if breaker.reason is not None and type(op) in _URGENT:
            breaker.answered()
        return result

    # Several operations in one exchange: of each its answer, or its own StoreError.

    def perform_many(self, ops: list[Any]) -> list[Any]:
        """Perform several operations from a thread, in this order; in one round trip where none needs more."""
        try:
            return _apart(self.perform(ops), self.where)
        except StoreError as error:
            return [type(error)(*error.args) for _ in ops]  # to be raised apart

    async def aperform_many(self, ops: list[Any]) -> list[Any]:
        """As `perform_many`, from a task."""
        try:
            return _apart(await self.aperform(ops), self.where)
        except StoreError as error:
            return [type(error)(*error.args) for _ in ops]

    def close(self) -> None:
        """Close this process's connections of threads; those of event loops close with their loops."""
        self.breaker.close()
        self.listener.close()
        self.tracker.close()
        self._drop_idle()


def _apart(answers: list[Any], where: str) -> list[Any]:
    return [translated(each, where) if isinstance(each, Exception) else each for each in answers]


def _check_path(url: str) -> None:
    """Refuse what redis-py lets pass: a socket without a name, a database that is no number."""
    parts = urlsplit(url)
    path = parts.path.strip("/")
    if not path if parts.scheme == "unix" else path and not path.isdigit():
        raise ValueError(url)


def _memory(text: str) -> int:
    """Bytes of "512mb", "2gb" or a plain number."""
    units: dict[str, int] = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "": 1}
    digits = text.lower().rstrip("bkmg")
    unit = text.lower()[len(digits) :]
    if not digits.isdigit() or unit not in units:
        raise ConfigurationError("maxmemory of an embedded URL is a number with kb, mb or gb, such as 512mb")
    return int(digits) * units[unit]


_all: weakref.WeakSet[Backend] = weakref.WeakSet()


def _after_fork() -> None:
    # The parent's sockets must not be read here, nor its threads be waited for. Dropping redis-py's
    # connections only closes this process's copy of the descriptors.
    for backend in list(_all):
        backend._fresh_start()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
