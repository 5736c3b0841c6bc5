"""One server as a process uses it: the connections of its threads and event loops, and whether it is asked at all."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn

import redis
from redis.exceptions import ResponseError

from ._breaker import Breaker
from ._failures import crowded, excused, translated
from ._loop_wires import LoopWires
from ._replies import Elsewhere, RefusedClient
from ._wire import LEAST, LOST, AsyncWire, Limit, Wire
from .errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._bulk import Piece
    from ._door import Door
    from ._hook import Hook

__all__ = ["Node"]

IDLE_MOST = 64
CONNECTING_MOST = 4
IDLE_TRUSTED = 120.0  # seconds; after that a router on the way may have forgotten a connection, and tell nobody

_PROBE: list[Piece] = [b"*2\r\n$3\r\nGET\r\n$10\r\nmemo:probe\r\n"]


class Node:
    """One server.

    Args:
        door: The way to it.
        timeout: Seconds that an exchange may take, connecting included.
        hook: Is told when it goes and comes back.
        connected: Is called after each connection, after which the server may be another one.
        look: Is called before a probe, with the seconds it may take; True says that the node need not come back.

    Attributes:
        breaker: Whether it is asked at all.
    """

    def __init__(
        self,
        door: Door,
        timeout: float,
        hook: Hook,
        connected: Callable[[str], None],
        look: Callable[[Node, float], bool] | None = None,
    ) -> None:
        self.door = door
        self._timeout = timeout
        self._connected = connected
        self._look = look
        self._forgotten: weakref.finalize[..., Node] | None = None
        self.fresh_start(hook)

    def __repr__(self) -> str:
        return f"<node {self.door.where}>"

    def fresh_start(self, hook: Hook) -> None:
        """Forget everything that belongs to a process: connections, threads, locks."""
        self.door.fresh_start()
        self._idle: list[Wire] = []
        self._turns: SimpleQueue[None] = SimpleQueue()
        self._turned = object()  # another one after each turn
        for _ in range(CONNECTING_MOST):
            self._turns.put(None)
        self._retired = False
        self._lost: tuple[float, StoreError] | None = None
        self._trusted = 0.0  # connections last used before this moment are no better than one that was lost
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWires] = weakref.WeakKeyDictionary()
        self._loops_lock = threading.Lock()
        if self._forgotten is not None:  # in a child, to which the connections do not belong
            self._forgotten.detach()
        # Weakly: by their connections these hold their loops, which may hold whoever has this node.
        self._wires: weakref.WeakSet[LoopWires] = weakref.WeakSet()
        self._forgotten = weakref.finalize(self, _close, self._idle, self._wires)
        self._forgotten.atexit = False
        self.breaker = Breaker(self._probe, self._timeout, hook)

    def locate(self) -> None:
        """Find or start the server where that is ours to do.

        Raises:
            StoreError: It cannot be found, or cannot be started.
        """
        if not self.door.ready:
            if self.breaker.reason is not None:
                self.breaker.refuse()
            epoch = self.breaker.epoch
            try:
                self.door.locate()
            except StoreError as error:
                self._open(error, epoch)
                raise

    # Whether it is there.

    def _open(self, reason: StoreError, epoch: int) -> None:
        self.door.forget()
        self._lost = time.monotonic(), type(reason)(str(reason))  # without its traceback, which holds arguments
        if self.breaker.failed(reason, self.door.where, epoch):
            self._trusted = time.monotonic()
            self._drop_idle()

    def _unconnected(self, error: Exception, epoch: int) -> NoReturn:
        """A connection that cannot be made concerns every call, unless there are only too many of them."""
        ours = translated(error, self.door.where)
        if ours is None:
            raise error
        if not excused(error, ours):
            self._open(ours, epoch)
        if ours is error:  # of the door, which could not find or start it
            raise error
        raise ours from error

    def failed(self, error: Exception, epoch: int, *, urgent: bool) -> NoReturn:
        """Let only our own errors through, and remember that the server does not answer."""
        ours = translated(error, self.door.where)
        if ours is None or ours is error:
            raise error
        if isinstance(ours, StoreUnavailable) or isinstance(error, redis.AuthenticationError):
            if not excused(error, ours):
                self._open(ours, epoch)
        elif self.breaker.reason is not None and urgent:
            self.breaker.answered()
        raise ours from error

    def demoted(self, error: Exception) -> bool:
        """Whether an error says that the master is elsewhere by now, and can be found there; nothing was done then."""
        if isinstance(error, Elsewhere) and error.why == "replica" and self.door.forget():
            self._trusted = time.monotonic()
            self._drop_idle()
            return True
        return False

    def _probe(self, seconds: float) -> None:
        """Ask the server, on behalf of all, what it would be asked by a hit. A refusal is an answer, too."""
        if self._look is not None and self._look(self, seconds):
            return
        self.door.locate()
        try:
            try:
                wire = self._dial(seconds)
            except LOST:
                if not self.door.again():
                    raise
                wire = self._dial(seconds)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            ours = translated(error, self.door.where)
            if ours is not None and crowded(ours):
                return
            raise ours or error from None
        try:
            wire.ask(_PROBE, seconds)
        except (ResponseError, RefusedClient):
            wire.close()
            return
        except LOST as error:
            raise translated(error, self.door.where) or error from None
        self._connected(self.door.where)
        self._keep(wire, time.monotonic())

    # Threads.

    def _dial(self, limit: float) -> Wire:
        wire = Wire(self.door.make(0), limit)
        if self.door.greeting is not None:
            reply: Any
            try:
                reply = wire.ask(self.door.greeting, limit)
            except ResponseError as error:
                reply = error
            try:
                self.door.greeted(reply)
            except BaseException:
                wire.close()
                raise
        return wire

    def connect(self, limit: float) -> Wire:
        """A new connection, which is the caller's own.

        Args:
            limit: Seconds that it may take.

        Raises:
            StoreError: There is none.
        """
        epoch = self.breaker.epoch
        self.locate()
        try:
            try:
                wire = self._dial(limit)
            except LOST as error:
                if isinstance(error, (TimeoutError, redis.TimeoutError)) or not self.door.again():
                    raise
                wire = self._dial(limit)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            self._unconnected(error, epoch)
        self._connected(self.door.where)
        return wire

    def listen(self) -> Wire:
        """As `connect`, to wait for messages: that it fails says nothing of calls."""
        self.locate()
        return self._dial(self._timeout)

    def _keep(self, wire: Wire, now: float) -> None:
        if len(self._idle) < IDLE_MOST and not self._retired:
            wire.used = now
            self._idle.append(wire)
        else:
            wire.close()

    def _drop_idle(self) -> None:
        _close_idle(self._idle)

    def _ask(self, wire: Wire, pieces: list[Piece], limit: float, now: float) -> Any:
        try:
            reply = wire.ask(pieces, limit)
        except ResponseError:
            self._keep(wire, now)
            raise
        self._keep(wire, now)
        return reply

    def exchange(self, pieces: list[Piece]) -> Any:
        """Send commands and return the reply, from a thread; what redis-py raises is not translated yet."""
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
                    # operation is carried out twice. Counters that were told are told again, an invalidation finds
                    # nothing to count, and of a `pop` nobody gets the value.
                    self.door.forget()
            wire.close()
            self._drop_idle()  # the others are no better
        left = deadline - time.monotonic()
        # A few at a time: fifty TLS handshakes at once take longer than any of them may. The turn does not count.
        self._await_turn(max(left, LEAST))
        try:
            if self._lost is not None and self._lost[0] >= now:
                # Met while this one waited; it need not wait as long.
                raise type(self._lost[1])(*self._lost[1].args)
            deadline = time.monotonic() + left
            wire = self._spare() or self.connect(max(left, LEAST))
        finally:
            self._end_turn()
        return self._ask(wire, pieces, max(deadline - time.monotonic(), LEAST), now)

    # No semaphore: `threading` has it in Python, and what a signal's handler raises inside of it (the limit of a job)
    # leaves its lock held. An interrupt can lose a turn here, too; then one caller waits in vain, and makes it good.

    def _await_turn(self, seconds: float) -> None:
        """Wait for a turn to connect; where nobody ends one for so long, go on without."""
        while True:
            seen = self._turned
            with contextlib.suppress(Empty):
                self._turns.get(timeout=seconds)
                return
            if self._turned is seen:
                return

    def _end_turn(self) -> None:
        """Let another one have it. Who waited in vain leaves a turn as well, for one that was lost."""
        self._turned = object()
        if self._turns.qsize() < CONNECTING_MOST:
            self._turns.put(None)

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

    # Event loops.

    async def _aloop(self) -> LoopWires:
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            found = LoopWires()
            with self._loops_lock:  # each thread may have a loop
                ended = [each for each in self._loops if each.is_closed()]
                gone = [self._loops.pop(each) for each in ended]
                self._loops[loop] = found
                self._wires.add(found)
            for wires in gone:
                wires.drop()
            await found.open()
        return found

    async def _adial(self, timer: Limit) -> AsyncWire:
        wire = await AsyncWire.connect(self.door.make(1))
        if self.door.greeting is not None:
            reply: Any
            try:
                reply = await wire.ask(self.door.greeting, self._timeout, timer)
            except ResponseError as error:
                reply = error
            try:
                self.door.greeted(reply)
            except BaseException:
                await wire.close()
                raise
        return wire

    async def _aconnect(self, timer: Limit) -> AsyncWire:
        epoch = self.breaker.epoch
        try:
            try:
                wire = await self._adial(timer)
            except LOST as error:
                if isinstance(error, (TimeoutError, redis.TimeoutError)):
                    raise
                timer.stop()
                if not await asyncio.to_thread(self.door.again):
                    raise
                timer.start(self._timeout)
                wire = await self._adial(timer)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            self._unconnected(error, epoch)
        self._connected(self.door.where)
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
            if wire.open and self._retired:
                await wire.close()
            elif wire.open:
                wire.used = now
                loop.idle.append(wire)

    async def aexchange(self, pieces: list[Piece], *, urgent: bool) -> Any:
        """As `exchange`, from a task."""
        loop = await self._aloop()
        if not self.door.ready:
            await asyncio.to_thread(self.locate)
        since = time.monotonic()
        async with loop.turn:
            loop.same(since)
            if self.breaker.reason is not None and not urgent:
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
                            self.door.forget()
                            await loop.close()  # see `exchange`
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

    def close(self) -> None:
        """Close this process's connections of threads; those of event loops close with their loops."""
        self.breaker.close()
        self._drop_idle()

    def retire(self) -> None:
        """Close all connections, while their event loops go on: who still asks it something is the last one."""
        self._retired = True
        self.breaker.close()
        _close(self._idle, self._wires)


def _close(idle: list[Wire], wires: weakref.WeakSet[LoopWires]) -> None:
    """Close connections, those of event loops by their loops. It waits for nothing: the collector calls it, too."""
    _close_idle(idle)
    for each in list(wires):
        each.end()


def _close_idle(idle: list[Wire]) -> None:
    with contextlib.suppress(IndexError):  # others take from it too
        while True:
            idle.pop().close()
