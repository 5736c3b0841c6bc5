"""Connections that keep to a time limit.

redis-py connects, encrypts and authenticates; what follows is exchanged here, over the same socket and with the same
parser (hiredis). redis-py's own limits are for one receive or one send, so that a server that trickles holds a caller
up for as long as it likes, and on an event loop they take a loop that was busy for a server that was slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import time
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeAlias

import hiredis
import redis
from redis.exceptions import ResponseError

from ._bulk import Batch, Bulk, Piece, Pipeline
from ._eager import Eager
from ._replies import reply_error

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["LEAST", "LOST", "AsyncWire", "Connection", "Limit", "Wire", "timed", "timed_async"]

Connection: TypeAlias = Any  # sync or async redis-py connections; their stubs disagree between releases
CHUNK = 1 << 16
SLOWEST = 1e6  # bytes a second: what is slower than this does not count as an answer that is under way
WORKING = 20e6  # bytes a second that the server is granted to digest a large command
GRACE = 0.05  # seconds in which a loop that was blocked can read what has come meanwhile
ROUNDS = 20  # how often, should it be blocked again
LEAST = 0.001  # a socket without any time left would not block at all

LOST = (OSError, redis.ConnectionError, redis.TimeoutError, redis.InvalidResponse)
_MORE = object()
_READ = frozenset({bytes, type(None)})


def _new_reader() -> Any:  # its stubs do not know that it takes any buffer
    return hiredis.Reader(protocolError=redis.InvalidResponse, replyError=reply_error, notEnoughData=_MORE)


def _hung_up() -> NoReturn:
    raise redis.ConnectionError("closed by the server")


def _checked(reader: Any, reply: object) -> object:
    if reader.has_data():
        # The replies and the commands are out of step: this one may be another command's.
        raise redis.InvalidResponse("more was answered than was asked")
    if isinstance(reply, redis.RedisError):
        raise reply
    return reply


def _all(pieces: Batch, replies: list[Any]) -> list[Any]:
    """The replies of a batch, or the first error among them; of a pipeline only one that concerns all commands."""
    apart = isinstance(pieces, Pipeline)
    if set(map(type, replies)) <= _READ:
        return replies
    for reply in replies:
        if isinstance(reply, redis.RedisError) and not (apart and isinstance(reply, ResponseError)):
            raise reply
    return replies


class _Quiet:
    """A redis-py connection that introduces itself to nobody: two round trips less, each of which could time out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lib_name = self.lib_version = self.driver_info = None


class _Timed(_Quiet):
    """A redis-py connection whose steps (connect, TLS, AUTH, SELECT) share one deadline."""

    deadline = math.inf
    sock: socket.socket

    @property
    def socket_timeout(self) -> float:
        return max(self.deadline - time.monotonic(), LEAST)

    @socket_timeout.setter
    def socket_timeout(self, _: object) -> None:
        pass  # redis-py's constructor would set it

    socket_connect_timeout = socket_timeout

    def _connect(self) -> socket.socket:
        self.sock = super()._connect()  # type: ignore[misc]
        return self.sock

    def read_response(self, *args: Any, **options: Any) -> Any:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise redis.TimeoutError
        self.sock.settimeout(left)
        return super().read_response(*args, **options)  # type: ignore[misc]


class _Streamed(_Quiet):
    """An asyncio redis-py connection, limited from outside."""

    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[misc]
        self.streams = self._reader, self._writer  # type: ignore[attr-defined]


def timed(kind: type) -> type:
    """A class of redis-py's connections, with a deadline."""
    return type(kind.__name__, (_Timed, kind), {})


def timed_async(kind: type) -> type:
    """A class of redis-py's asyncio connections, without limits of their own."""
    return type(kind.__name__, (_Streamed, kind), {})


class Wire:
    """One connection, used by one thread at a time.

    Args:
        connection: Of a class that `timed` made; not connected yet.
        limit: Seconds that connecting may take.

    Attributes:
        used: The moment of its last use.

    Raises:
        OSError: Or an error of redis-py's: there is no connection.
    """

    __slots__ = ("__weakref__", "_buffer", "_due", "_eager", "_end", "_limit", "_reader", "_sock", "used")

    def __init__(self, connection: Connection, limit: float) -> None:
        began = time.monotonic()
        connection.deadline = began + limit
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        # Kept out of the collector's reach, which might come upon the open socket before its owner.
        self._end = weakref.finalize(self, _disconnect, connection)
        self._end.atexit = False
        self._sock: socket.socket = connection.sock
        self._reader = _new_reader()
        self._buffer = bytearray(CHUNK)
        self._eager = Eager.of(self._sock, self._buffer)
        self._limited(limit)
        self.used = began

    def ask(self, pieces: Sequence[Piece], limit: float) -> Any:
        """Send a command and return its reply; a large one is granted more time than the limit, while it moves.

        Raises:
            ResponseError: A reply is an error; the connection stays usable.
            BaseException: Anything else; the connection is closed.
        """
        sock = self._sock
        try:
            if limit != self._limit:
                self._limited(limit)
            try:
                for piece in pieces:
                    sock.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                self._last_words()
                raise
            if len(pieces) > 1:
                self._limited(limit + sum(map(len, pieces)) / WORKING)
            self._due = time.monotonic() + self._limit
            count = (0 if self._eager is None else self._eager.receive(pieces)) or sock.recv_into(self._buffer)
            if not count:
                _hung_up()
            self._reader.feed(self._buffer, 0, count)
            reply = self._reader.gets()
            if reply is _MORE:
                reply = self._rest(count, limit)
            if isinstance(pieces, Batch):
                reply = _all(pieces, self._others(reply, pieces.replies, limit))
            return _checked(self._reader, reply)
        except ResponseError:
            raise
        except BaseException:
            # A reply that was not read would be taken for the next command's.
            self.close()
            raise

    def _limited(self, seconds: float) -> None:
        self._limit = seconds
        self._sock.settimeout(seconds)

    def _others(self, reply: object, count: int, limit: float) -> list[object]:
        """A reply and those that follow it, so many in all."""
        replies, get = [reply], self._reader.gets
        while len(replies) < count:
            reply = get()
            if reply is _MORE:
                reply = self._rest(0, limit)
                get = self._reader.gets  # of another reader, after a large one
            replies.append(reply)
        return replies

    def _rest(self, count: int, limit: float) -> object:
        """What a reply of which ``count`` bytes have come turns out to be."""
        self._due += count / SLOWEST
        bulk = Bulk.begun(self._buffer, count)
        if bulk is not None:
            self._reader = _new_reader()
        while True:
            left = self._due - time.monotonic()
            if left <= 0:
                raise redis.TimeoutError
            self._limited(min(left, limit))
            if not (more := self._sock.recv_into(self._buffer if bulk is None else bulk.rest)):
                _hung_up()
            self._due += more / SLOWEST
            if bulk is not None:
                if bulk.took(more):
                    return bulk.reply()
                continue
            self._reader.feed(self._buffer, 0, more)
            reply = self._reader.gets()
            if reply is not _MORE:
                return reply

    def _last_words(self) -> None:
        """Raise what the server said before it hung up, as it does to one client too many."""
        with contextlib.suppress(OSError):
            self._limited(LEAST)
            count = self._sock.recv_into(self._buffer)
            self._reader.feed(self._buffer, 0, count)
            reply = self._reader.gets()
            if isinstance(reply, redis.RedisError):
                raise reply

    # For the listener, which sends from any thread and reads in its own. A lock of its keeps them apart: TLS does not
    # bear both at once.

    def send(self, command: Piece) -> None:
        """Send without waiting for an answer."""
        self._sock.sendall(command)

    def wait(self, seconds: float) -> bool:
        """Wait until there is something to receive; False when there was nothing."""
        if getattr(self._sock, "pending", int)():  # with TLS: decrypted already
            return True
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def receive(self) -> list[Any]:
        """What has arrived; errors of the server among it."""
        count = self._sock.recv_into(self._buffer)
        if not count:
            _hung_up()
        self._reader.feed(self._buffer, 0, count)
        replies = []
        while (reply := self._reader.gets()) is not _MORE:
            replies.append(reply)
        return replies

    def close(self) -> None:
        """Close it; whoever waits in it is woken."""
        self._end()


def _disconnect(connection: Connection) -> None:
    with contextlib.suppress(redis.RedisError, OSError):
        connection.disconnect()


class Limit:
    """A time limit on what one task does with the server.

    A loop that was blocked for longer than the limit reads what has come meanwhile before the limit counts: the server
    was not slow, the loop was.

    Args:
        seconds: That the server may take.

    Raises:
        TimeoutError: On leaving.
    """

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._rounds = 0
        self._moved = self._seen = 0
        self.start(seconds)

    def start(self, seconds: float) -> None:
        """Begin anew."""
        self._seconds = seconds
        self._began = self._loop.time()
        self._moved = self._seen = 0
        self._arm(self._began + seconds)

    def stop(self) -> float:
        """Let what follows take its time; returns what is left."""
        self._handle.cancel()
        return max(self._due - self._loop.time(), LEAST)

    def moved(self, count: int) -> None:
        """Grant time for so many bytes that were sent or received."""
        self._moved += count

    def _arm(self, due: float) -> None:
        self._due = due
        self._handle = self._loop.call_at(due, self._late)

    def _late(self) -> None:
        now = self._loop.time()
        if self._moved > self._seen:
            self._seen = self._moved
            due = min(now + self._seconds, self._began + self._seconds + self._moved / SLOWEST)
            if due > now:
                self._arm(due)
                return
        # The loop takes in what has arrived before it comes here, but runs who waits for it after.
        if self._rounds == 0 or (now - self._due > GRACE and self._rounds < ROUNDS):
            self._rounds += 1
            self._arm(now + GRACE)
        else:
            self._timeout.reschedule(now)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        await self._timeout.__aexit__(kind, error, trace)


class AsyncWire:
    """One connection of an event loop, used by one task at a time.

    Args:
        connection: Of a class that `timed_async` made, and connected.

    Attributes:
        open: Whether it can be used.
        used: The moment of its last use.
    """

    __slots__ = ("_connection", "_parser", "_streams", "open", "used")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] = connection.streams
        self._parser = _new_reader()
        self.open = True
        self.used = time.monotonic()

    @classmethod
    async def connect(cls, connection: Connection) -> AsyncWire:
        """Connect; the caller limits the time."""
        try:
            await connection.connect()
            return cls(connection)
        except BaseException:
            await _adisconnect(connection)
            raise

    async def ask(self, pieces: Sequence[Piece], limit: float, timer: Limit) -> Any:
        """As `Wire.ask`; the timer runs already."""
        incoming, outgoing = self._streams
        try:
            if len(pieces) == 1:
                outgoing.write(pieces[0])
            else:
                for piece in pieces:
                    outgoing.write(piece)
                    await outgoing.drain()
                    timer.moved(len(piece))
                timer.stop()
                timer.start(limit + sum(map(len, pieces)) / WORKING)
            reply = await self._reply(incoming, timer)
            if isinstance(pieces, Batch):
                replies, get = [reply], self._parser.gets
                while len(replies) < pieces.replies:
                    reply = get()
                    replies.append(await self._reply(incoming, timer) if reply is _MORE else reply)
                reply = _all(pieces, replies)
            return _checked(self._parser, reply)
        except ResponseError:
            raise
        except BaseException:
            # A cancelled reader leaves an answer in the pipe that the next one would take for its own.
            await self.close()
            raise

    async def _reply(self, incoming: asyncio.StreamReader, timer: Limit) -> object:
        parser = self._parser
        first = True
        while (reply := parser.gets()) is _MORE:
            data = await incoming.read(CHUNK)
            if not data:
                _hung_up()
            timer.moved(len(data))
            bulk = Bulk.begun(data, len(data)) if first and not parser.has_data() else None
            if bulk is not None:
                return await self._fill(bulk, incoming, timer)
            parser.feed(data)
            first = False
        return reply

    async def _fill(self, bulk: Bulk, incoming: asyncio.StreamReader, timer: Limit) -> memoryview:
        while True:
            data = await incoming.read(len(bulk.rest))
            if not data:
                _hung_up()
            timer.moved(len(data))
            bulk.rest[: len(data)] = data
            if bulk.took(len(data)):
                return bulk.reply()

    async def close(self) -> None:
        """Close it, without waiting for the other side."""
        self.open = False
        # Not closed politely: TLS would wait for the other side's farewell, perhaps beyond the end of the loop.
        self._streams[1].transport.abort()
        await _adisconnect(self._connection)

    def drop(self) -> None:
        """Close the socket of a loop that ended without finalising anything, as loop.close() alone does."""
        with contextlib.suppress(AttributeError, OSError):
            # No public way leads to the socket of a transport whose loop is closed.
            self._streams[1].get_extra_info("socket")._sock.close()  # noqa: SLF001


async def _adisconnect(connection: Connection) -> None:
    with contextlib.suppress(redis.RedisError, OSError, RuntimeError):
        await connection.disconnect(nowait=True)
