"""Waiting to be woken: one pub/sub connection per process, and futures that threads and tasks both wait on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import ResponseError

from ._bulk import command_of
from ._wakeup import Promise
from .errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from ._wire import Wire

__all__ = ["Listener", "Subscription", "until", "until_async"]

log = logging.getLogger("redis_memo")

LEAST_PAUSE, MOST_PAUSE = 0.05, 1.0  # seconds between attempts to connect
NEVER = 1 << 62
FILLED = b"filled:"  # and the entry; as in `_ops`
SILENCE = 5.0  # seconds without a message after which the server is asked whether it is still there


def until(future: Future[Any] | Promise, seconds: float) -> bool:
    """Block this thread until the future is done; False when it took too long."""
    woken: SimpleQueue[object] = SimpleQueue()
    future.add_done_callback(woken.put)
    try:
        woken.get(timeout=max(0.0, seconds))
    except Empty:
        return future.done()
    return True


async def until_async(future: Future[Any] | Promise, seconds: float) -> bool:
    """Suspend this task until the future is done; False when it took too long.

    Unlike ``asyncio.wrap_future`` a cancelled waiter does not cancel the future that others wait on, and a
    loop that was closed meanwhile is nobody's error.
    """
    loop = asyncio.get_running_loop()
    woken = loop.create_future()

    def wake_here() -> None:
        if not woken.done():
            woken.set_result(None)

    def wake(_: object) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(wake_here)

    future.add_done_callback(wake)
    try:
        async with asyncio.timeout(seconds):
            await woken
    except TimeoutError:
        return future.done()
    return True


class Subscription:
    """One waiter's ear on one channel.

    Attributes:
        ready: Done once nothing can be missed any more.
        news: Done once something was heard.
        ordered: What is heard was sent after it was ready.
    """

    def __init__(self, listener: Listener, channel: bytes, *, ordered: bool) -> None:
        self._listener = listener
        self.ordered = ordered
        self.channel = channel
        self.ready = Promise()
        self.news = Promise()
        self._heard: deque[bytes] = deque()
        self.confirmed_by = NEVER  # which of the connection's confirmations is its own

    def again(self) -> list[bytes]:
        """Be ready for the next news, and return what was heard so far.

        To be called before the store is asked, lest what happens meanwhile be missed.
        """
        self._listener.see_to_it()
        if not self.news.done():
            return []
        self.news = Promise()
        return [self._heard.popleft() for _ in range(len(self._heard))]

    def tell(self, message: bytes | None = None) -> None:
        """Something happened (or may have: the connection was lost)."""
        if message is not None:
            self._heard.append(message)
        self.news.keep()

    def close(self) -> None:
        """Stop listening."""
        self._listener.leave(self)


class Listener:
    """Subscriptions of one process over one connection, read by one daemon thread.

    The thread starts with a subscription, and ends with its connection when there has been none for a while: nobody may
    have the cache any more. The connection is written to, and read from, under the lock only. One that is lost wakes
    every waiter (they ask the store again), and is made anew.

    Args:
        connect: Returns a connection; raises when it cannot.
        ordered: What is heard after a subscription was confirmed was also sent after it. Not so in a cluster, which
            hands messages on from node to node: one may bring a value from before an invalidation that its hearer
            began after (P3). It is told then that there is a value, and asks the store for it. Whether an exception
            is as old as that, the hearer can tell by whose it is.
    """

    def __init__(self, connect: Callable[[], Wire], *, ordered: bool = True) -> None:
        self._connect = connect
        self._ordered = ordered
        self._lock = threading.RLock()  # a flow that the collector closes amid a subscription ends its own
        self._channels: dict[bytes, list[Subscription]] = {}
        self._wire: Wire | None = None
        self._thread: threading.Thread | None = None  # any other one is to end
        self._changed = threading.Condition(self._lock)
        # Of this connection: how many channels were subscribed to, and how many of these the server has confirmed.
        self._asked = self._confirmed = 0

    def subscribe(self, channel: str) -> Subscription:
        """Begin to listen; the subscription's ``ready`` is done when nothing can be missed any more."""
        subscription = Subscription(self, channel.encode(), ordered=self._ordered)
        with self._lock:
            self.see_to_it()
            known = self._channels.setdefault(subscription.channel, [])
            known.append(subscription)
            if self._wire is not None:
                # Sent again for a known channel: the server confirms each time, after what it sent before.
                self._asked += 1
                subscription.confirmed_by = self._asked
                self._send(b"SUBSCRIBE", subscription.channel)
            self._changed.notify()
        return subscription

    def see_to_it(self) -> None:
        """Start the thread, where it has ended; waiters ask each second where none can be started."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="redis_memo push", daemon=True)
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def leave(self, subscription: Subscription) -> None:
        """End one subscription, and the channel's with the last of it."""
        with self._lock:
            known = self._channels.get(subscription.channel, [])
            if subscription in known:
                known.remove(subscription)
            if not known and self._channels.pop(subscription.channel, None) is not None:
                self._send(b"UNSUBSCRIBE", subscription.channel)

    def close(self) -> None:
        """Close the connection; the thread ends, and who goes on waiting starts another."""
        with self._lock:
            self._thread = None
            wire, self._wire = self._wire, None
            self._tell_all()
            self._changed.notify_all()
        if wire is not None:
            wire.close()

    # Whoever runs through the channels takes a copy: the collector may close a flow meanwhile, which leaves its own.

    def _tell_all(self) -> None:
        for known in list(self._channels.values()):
            for subscription in list(known):
                subscription.tell()

    def _send(self, *command: bytes) -> None:
        if self._wire is not None:
            # A broken connection is found by the reading thread, which subscribes anew.
            with contextlib.suppress(OSError):
                self._wire.send(command_of(*command))

    # The rest runs in the thread.

    def _goes_on(self) -> bool:
        return self._thread is threading.current_thread()

    def _wanted(self) -> bool:
        """Whether there is somebody to listen for; else, after a while, the thread is one that is to end."""
        with self._lock:
            self._changed.wait_for(lambda: self._channels or not self._goes_on(), SILENCE)
            if self._channels or not self._goes_on():
                return self._goes_on()
            self._thread = None
            return False

    def _run(self) -> None:
        pause = LEAST_PAUSE
        while self._wanted():
            wire = None
            try:
                wire = self._connect()
                self._begin(wire)
                while self._goes_on():
                    if self._listen(wire):
                        pause = LEAST_PAUSE
            except (redis.RedisError, OSError, ValueError, StoreError) as error:
                if isinstance(error, ResponseError):
                    pause = MOST_PAUSE  # refused: it may not subscribe
            except Exception:
                log.exception("redis_memo: listening for results failed, and is begun anew")
            if wire is not None:
                wire.close()
            with self._lock:
                if self._goes_on():
                    self._wire = None
                    self._tell_all()
                    self._changed.wait_for(lambda: not self._goes_on(), pause)
            pause = min(2 * pause, MOST_PAUSE)

    def _begin(self, wire: Wire) -> None:
        with self._lock:
            if not self._goes_on():
                return
            self._wire = wire
            channels = list(self._channels.items())
            self._asked, self._confirmed = len(channels), 0
            for number, (_, known) in enumerate(channels, 1):
                for subscription in list(known):
                    subscription.confirmed_by = number
            if channels:
                self._send(b"SUBSCRIBE", *(channel for channel, _ in channels))

    def _listen(self, wire: Wire) -> bool:
        """Pass on what comes; a silence is questioned where somebody waits: the other end may be gone."""
        if not wire.wait(SILENCE):
            with self._lock:
                if not self._goes_on():
                    return False
                if not self._channels:
                    self._thread = self._wire = None
                    return False
                self._send(b"PING")
            if not wire.wait(SILENCE):
                raise TimeoutError
        with self._lock:
            messages = wire.receive()
        for message in messages:
            self._heard(message)
        return bool(messages)

    def _heard(self, message: object) -> None:
        if isinstance(message, redis.RedisError):
            raise message
        if not isinstance(message, list) or len(message) < 3:
            return
        kind, channel = message[0], message[1]
        with self._lock:
            if not self._goes_on():  # what is counted is another connection's by now
                return
            if kind == b"subscribe":
                self._confirmed += 1
            # What was sent before a subscription was confirmed may be older than its caller, and than an invalidation
            # that its caller began after (P3): it is for those who listened already.
            known = [each for each in self._channels.get(channel, ()) if each.confirmed_by <= self._confirmed]
        for subscription in known:
            if kind == b"subscribe":
                subscription.ready.keep()
            elif kind == b"message":
                filled = not self._ordered and message[2].startswith(FILLED)
                subscription.tell(FILLED[:-1] if filled else message[2])
