"""Where the server is and how it is spoken to: URLs, connections of threads and of event loops, what failed.

This is the one module that knows the topology. Errors of redis-py end here: what leaves is of our own tree.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
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
from ._commands import Piece, dialogue
from ._config import redacted
from ._drive import adrive, drive
from ._push import Listener
from .errors import ConfigurationError, RedisMemoError, StoreError, StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from ._config import Settings

__all__ = ["Backend"]

log = logging.getLogger("redis_memo")

Connection: TypeAlias = Any  # sync or async redis-py connections; their stubs disagree between releases
_CLOSED = (redis.ConnectionError, ConnectionResetError, BrokenPipeError)  # redis-py's TimeoutError is neither
_URGENT = (ops.Drop, ops.DropMatching, ops.Revoke)  # an invalidation is tried even where everything else has given up

SLOWEST = 20e6  # bytes a second that a large value is granted
IDLE_MOST = 64
ASYNC_MOST = 32  # connections of one event loop: hundreds of tasks take turns
PROBE = (0.5, 1.0)  # seconds between attempts on a server that does not answer


def _translated(error: Exception, where: str) -> RedisMemoError | None:
    """Our own error for whatever redis-py raised; None for what is none of its kind."""
    if isinstance(error, RedisMemoError):
        return error
    if isinstance(error, redis.TimeoutError):
        return StoreUnavailable(f"{where} did not answer in time")
    if isinstance(error, redis.AuthenticationError):
        return StoreRefused(f"{where} refused the credentials in the URL")
    if isinstance(error, (redis.ConnectionError, redis.InvalidResponse, OSError)):
        return StoreUnavailable(f"{where} cannot be reached ({type(error).__name__})")
    if isinstance(error, (redis.RedisError, ValueError)):
        # The server's own words ("OOM command not allowed ..."), which quote no argument of a known command.
        return StoreRefused(f"{where} refused: {str(error)[:120]}")
    return None


@contextlib.contextmanager
def _raised_as_redis() -> Iterator[None]:
    # The listener treats every failure to connect alike, and tries again.
    try:
        yield
    except StoreError as error:
        raise redis.ConnectionError(str(error)) from error


async def _adisconnect(connection: Connection) -> None:
    with contextlib.suppress(redis.RedisError, OSError, RuntimeError):
        await connection.disconnect(nowait=True)


class _Breaker:
    """Fails fast while the server does not answer, and lets one caller at a time try again."""

    def __init__(self) -> None:
        self._closed_from = 0.0
        self._lock = threading.Lock()
        self.reason: StoreUnavailable | None = None

    @property
    def state(self) -> str:
        return "closed" if self.reason is None else "open"

    def check(self, op: object) -> None:
        if self.reason is None or isinstance(op, _URGENT):
            return
        with self._lock:
            now = time.monotonic()
            # It may have answered to another thread meanwhile.
            if self.reason is not None and now < self._closed_from:  # type: ignore[redundant-expr]
                raise StoreUnavailable(f"{self.reason} (not asked again so soon)")
            # This caller probes; until it is back, the others keep failing fast.
            self._closed_from = now + PROBE[1] * 2

    def failed(self, reason: StoreUnavailable) -> None:
        with self._lock:
            if self.reason is None:
                log.warning("redis_memo: %s; calls compute their results until it answers", str(reason).rstrip("."))
            self.reason = reason
            self._closed_from = time.monotonic() + random.uniform(*PROBE)  # noqa: S311 - spreads the probes

    def answered(self) -> None:
        if self.reason is not None:
            with self._lock:
                self.reason = None
            log.warning("redis_memo: the server answers again")


class _Loop:
    """Connections of one event loop, closed with it."""

    def __init__(self) -> None:
        self.idle: list[Connection] = []
        self.turn = asyncio.Semaphore(ASYNC_MOST)
        self.connecting = asyncio.Lock()
        self._end: AsyncGenerator[None] | None = None

    async def open(self) -> None:
        # asyncio.run and its kin finalise the loop's async generators before they close it. That is the one
        # hook by which a library hears of the end of a loop it does not own.
        async def until_the_loop_ends() -> AsyncGenerator[None]:
            try:
                yield
            finally:
                await self.close()

        self._end = until_the_loop_ends()
        await anext(self._end)

    def drop(self) -> None:
        """Close the sockets of a loop that ended without finalising anything, as loop.close() alone does."""
        idle, self.idle = self.idle, []
        for connection in idle:
            with contextlib.suppress(AttributeError, OSError):
                # No public way leads to the socket of a transport whose loop is closed.
                connection._writer.get_extra_info("socket")._sock.close()  # noqa: SLF001

    async def close(self) -> None:
        idle, self.idle = self.idle, []
        for connection in idle:
            await _adisconnect(connection)


class Backend:
    """Performs the core's store operations on one server, for threads and for event loops.

    Args:
        settings: Where the server is and how long it may take.

    Raises:
        ConfigurationError: The URL cannot be understood.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
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
        self._idle: list[Connection] = []
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = weakref.WeakKeyDictionary()
        self.listener = Listener(self._connect_listener)
        self.breaker = _Breaker()
        self.generation = 0

    # Where the server is.

    def _make_pools(self, url: str) -> tuple[Any, Any]:
        common: dict[str, Any] = {
            "socket_timeout": self._settings.timeout,
            "socket_connect_timeout": self._settings.timeout,
            "protocol": 2,
            "health_check_interval": 0,
        }
        try:
            _check_path(url)
            pools = (
                redis.ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0), **common),
                redis.asyncio.ConnectionPool.from_url(
                    url, retry=redis.asyncio.retry.Retry(NoBackoff(), 0), **common
                ),
            )
            for pool in pools:
                pool.connection_kwargs["decode_responses"] = False  # entries are bytes, whatever the URL says
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
            with self._lock:
                if self._pools is None:
                    self._start_embedded()

    def _restart_embedded(self) -> None:
        with self._lock:
            self._start_embedded()

    def _make(self, kind: int, patience: float | None) -> Connection:
        self.locate()
        assert self._pools is not None
        pool = self._pools[kind]
        # Not pool.make_connection(): it counts what was ever made, and refuses after a hundred. These are kept here.
        connection = pool.connection_class(**pool.connection_kwargs)
        if patience is not None:
            connection.socket_timeout = patience
        return connection

    def _connected(self) -> None:
        self.generation += 1
        if not self._announced:
            self._announced = True
            log.info("redis_memo: caching in %s", self.where)

    def _patience(self, pieces: list[Piece]) -> float | None:
        """A time limit of its own for a large command: the server works longer before it answers."""
        if len(pieces) == 1:
            return None
        return self._settings.timeout + sum(map(len, pieces)) / SLOWEST

    # Threads.

    def _connect(self, patience: float | None) -> Connection:
        connection = self._make(0, patience)
        try:
            connection.connect()
        except (redis.ConnectionError, OSError):
            if not self._embedded:
                raise
            # It went away, or was killed: it is ours to start again.
            self._restart_embedded()
            connection = self._make(0, patience)
            connection.connect()
        self._connected()
        return connection

    def _connect_listener(self) -> Connection:
        with _raised_as_redis():
            connection = self._make(0, None)
        connection.socket_timeout = None
        connection.connect()
        return connection

    def _ask(self, connection: Connection, pieces: list[Piece], *, keep: bool) -> Any:
        try:
            connection.send_packed_command(pieces, check_health=False)
            reply = connection.read_response()
        except ResponseError:
            self._keep(connection, keep=keep)
            raise
        except BaseException:
            # An answer that was not read would be taken for the next command's.
            connection.disconnect()
            raise
        self._keep(connection, keep=keep)
        return reply

    def _keep(self, connection: Connection, *, keep: bool) -> None:
        if keep and len(self._idle) < IDLE_MOST:
            self._idle.append(connection)
        else:
            connection.disconnect()

    def _exchange(self, pieces: list[Piece]) -> Any:
        patience = self._patience(pieces)
        if patience is None:
            try:
                connection = self._idle.pop()
            except IndexError:
                pass
            else:
                try:
                    return self._ask(connection, pieces, keep=True)
                except _CLOSED:
                    # The server closed it while it was idle, as after a restart: the others are no better.
                    self._idle.clear()
        return self._ask(self._connect(patience), pieces, keep=patience is None)

    def perform(self, op: object) -> Any:
        """Perform one operation from a thread.

        Raises:
            StoreError: The server did not do it.
        """
        self.breaker.check(op)
        try:
            result = drive(dialogue(op), self._exchange)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            self._failed(error)
        self.breaker.answered()
        return result

    # Event loops.

    async def _aloop(self) -> _Loop:
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            for ended in [each for each in self._loops if each.is_closed()]:
                self._loops.pop(ended).drop()
            found = self._loops[loop] = _Loop()
            await found.open()
        return found

    async def _aconnect(self, patience: float | None) -> Connection:
        if self._pools is None:
            await asyncio.to_thread(self.locate)
        connection = self._make(1, patience)
        try:
            await connection.connect()
        except (redis.ConnectionError, OSError):
            if not self._embedded:
                raise
            await asyncio.to_thread(self._restart_embedded)
            connection = self._make(1, patience)
            await connection.connect()
        self._connected()
        return connection

    async def _aask(self, loop: _Loop, connection: Connection, pieces: list[Piece], *, keep: bool) -> Any:
        try:
            await connection.send_packed_command(pieces, check_health=False)
            reply = await connection.read_response()
        except ResponseError:
            loop.idle.append(connection)
            raise
        except BaseException:
            # A cancelled reader leaves an answer in the pipe that the next one would take for its own.
            await _adisconnect(connection)
            raise
        if keep:
            loop.idle.append(connection)
        else:
            await _adisconnect(connection)
        return reply

    async def _aexchange(self, pieces: list[Piece]) -> Any:
        loop = await self._aloop()
        patience = self._patience(pieces)
        async with loop.turn:
            connection = None
            if patience is None and not loop.idle:
                # One at a time: thirty TLS handshakes at once on one loop take longer than any of them may.
                async with loop.connecting:
                    if not loop.idle:
                        connection = await self._aconnect(None)
            if patience is None and connection is None:
                try:
                    return await self._aask(loop, loop.idle.pop(), pieces, keep=True)
                except _CLOSED:
                    await loop.close()
            return await self._aask(loop, connection or await self._aconnect(patience), pieces, keep=patience is None)

    async def aperform(self, op: object) -> Any:
        """As `perform`, from a task."""
        self.breaker.check(op)
        try:
            result = await adrive(dialogue(op), self._aexchange)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            self._failed(error)
        self.breaker.answered()
        return result

    def _failed(self, error: Exception) -> NoReturn:
        """Let only our own errors through, and remember that the server does not answer."""
        ours = _translated(error, self.where)
        if isinstance(ours, StoreUnavailable):
            self.breaker.failed(ours)
        elif isinstance(ours, StoreRefused):
            self.breaker.answered()
        if ours is None or ours is error:
            raise error
        raise ours from error

    def close(self) -> None:
        """Close this process's connections of threads; those of event loops close with their loops."""
        self.listener.close()
        while self._idle:
            self._idle.pop().disconnect()


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
