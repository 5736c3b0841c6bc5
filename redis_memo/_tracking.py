"""Hearing of changes: ``CLIENT TRACKING ... BCAST`` over one connection of a process to each server that is written to.

The connection speaks RESP3, in which invalidations arrive as pushes between the replies; so it needs no second one to
redirect them to, and works from Redis 6.0 on and with Valkey. It is told a prefix for each function, which is that of
all its shards, so that a process hears of what it may keep and of nothing else. Data connections have no state of
their own, and threads and event loops share what is heard.

The server answers in order. So an answer to a PING tells that every change up to the moment at which it was sent has
been heard of, and for SAFE seconds from that moment on what is kept may be served. While a server is silent the gate
closes by itself: nobody has to notice. After a lost connection, a silence of SAFE seconds, a set clock or a flushed
database everything is dropped.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.exceptions import ResponseError

from . import _ops as ops
from ._bulk import command_of
from ._near import near_of
from .errors import StoreError
from .events import NearUntracked

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ._hook import Hook
    from ._near import Near
    from ._wire import Wire

__all__ = ["Tracker", "Trackers"]

log = logging.getLogger("redis_memo")

BEAT: Final = 1.0  # seconds between questions whether the server is still there
SAFE: Final = 3.0  # seconds from an answered question in which what is kept is served
LONGEST: Final = 60.0  # seconds that an entry is kept at most while changes are heard of
LONGEST_UNTRACKED: Final = 10.0  # and where they cannot be
LEAST_PAUSE, MOST_PAUSE = 0.05, 1.0  # seconds between attempts to connect
ASK_AGAIN: Final = 60.0  # seconds after which a server that refused is asked once more: the reason may be gone
NOT_NOW: Final = ("BUSY ", "TRYAGAIN ")  # what the server answers for a while, whatever it is asked
STEP: Final = 0.5  # seconds by which the machine's clock may differ from the time that passed


class Tracker:
    """The one connection of this process over which it hears of changes on one server: the `Gate` of its stores.

    Args:
        connect: Returns a connection; raises when it cannot.
        where: The server, for messages.
        hook: Tells the user of events.
        place: Where the server is, as far as is known; when that changes, another one is to be listened to.

    Attributes:
        until: See `_near.Gate`.
        longest: Likewise.
        refused: Whether the server does not let changes be heard of; then entries end by age alone.
    """

    def __init__(
        self,
        connect: Callable[[], Wire],
        where: Callable[[], str],
        hook: Hook,
        place: Callable[[], object] = lambda: None,
    ) -> None:
        self.until = 0.0
        self.longest = LONGEST
        self.refused = False
        self._told = False  # of a refusal
        self._connect = connect
        self._where = where
        self._hook = hook
        self._place = place
        self._lock = threading.RLock()
        self._stores: weakref.WeakSet[Near] = weakref.WeakSet()
        self._wanted: dict[str, None] = {}  # of each function the first of its shards' prefixes
        self._followed: set[str] = set()  # what this connection has asked to hear of
        self._covered: frozenset[str] = frozenset()  # and what the server has confirmed
        self._wire: Wire | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        # What the replies that are still to come answer: the moment of a PING, a prefix, or None.
        self._asked: deque[float | str | None] = deque()

    def covers(self, prefix: str) -> bool:
        """See `_near.Gate`."""
        return self.refused or _stem(prefix) in self._covered

    @property
    def listens(self) -> bool:
        """Whether it is at work."""
        return self._thread is not None

    def track(self, near: Near, prefixes: tuple[str, ...]) -> None:
        """Be the gate of a store, and listen for it from now on; returns at once."""
        if near.attach(prefixes, self) or self._thread is None:
            self.listen_for(near, prefixes)

    def listen_for(self, near: Near, prefixes: tuple[str, ...]) -> None:
        """Tell a store, whose gate may be another, of what changes below these prefixes; returns at once."""
        with self._lock:
            self._stores.add(near)
            self._wanted[prefixes[0]] = None
            if self._wire is not None:
                self._follow(self._wire, prefixes[0])
            if self._thread is None:
                self._closing = threading.Event()
                thread = threading.Thread(
                    target=self._run, args=(self._closing,), name="redis_memo tracking", daemon=True
                )
                with contextlib.suppress(RuntimeError):  # no more threads, or the interpreter is about to end
                    thread.start()
                    self._thread = thread

    def close(self) -> None:
        """Close the connection, and drop what is kept; a later call begins anew."""
        with self._lock:
            self._closing.set()
            self._thread = None
            wire, self._wire = self._wire, None
            self.refused, self.longest = False, LONGEST
            self._lost()
        if wire is not None:
            wire.close()

    def _lost(self) -> None:
        """Nothing that was heard before counts any more."""
        self._covered = frozenset()
        self._drop_all()

    def _drop_all(self) -> None:
        self.until = 0.0
        for near in list(self._stores):
            near.clear()

    # The rest runs in the thread.

    def _run(self, closing: threading.Event) -> None:
        pause = LEAST_PAUSE
        while not closing.is_set():
            began = time.monotonic()
            try:
                self._session(closing)
            except ResponseError as error:
                if not closing.is_set() and not str(error).startswith(NOT_NOW):
                    self._refuse(error)
                    closing.wait(ASK_AGAIN)
                    continue
            except (redis.RedisError, OSError, ValueError, StoreError):
                pass  # the server is away, which those who call find out and report
            except Exception:
                log.exception("redis_memo: near=: listening for changes failed, and is begun anew")
            with self._lock:
                if not self._stores and not closing.is_set():  # the functions are gone
                    self._thread = None
                    return
            if time.monotonic() - began > MOST_PAUSE:
                pause = LEAST_PAUSE
            closing.wait(pause)
            pause = min(2 * pause, MOST_PAUSE)

    def _session(self, closing: threading.Event) -> None:
        """Listen over one connection; raises what ended it."""
        wire = self._connect()
        place = self._place()
        try:
            with self._lock:
                if closing.is_set():
                    return
                self._wire = wire
                self._asked.clear()
                self._followed.clear()
                self._send(wire, None, b"HELLO", b"3")
                self._wanted = {prefix: None for prefix in self._wanted if near_of(prefix)}
                for prefix in self._wanted:
                    self._follow(wire, prefix)
            self._listen(wire, closing, place)
        finally:
            with self._lock:
                if self._wire is wire:  # else it was closed, and another may have been opened
                    self._wire = None
                    self._lost()
            wire.close()

    def _listen(self, wire: Wire, closing: threading.Event, place: object) -> None:
        answered = due = time.monotonic()
        drift = time.time() - answered
        while True:
            now = time.monotonic()
            if now - answered > SAFE:
                raise TimeoutError
            if self._place() != place:
                raise redis.ConnectionError("the master is another one by now")
            with self._lock:
                if self._wire is not wire:
                    return
                if abs(time.time() - now - drift) > STEP:  # the clock was set: moments noted by it mean nothing now
                    drift = time.time() - now
                    self._drop_all()
                if now >= due:
                    if not self._stores:  # the functions are gone
                        self._thread = None
                        closing.set()
                        return
                    self._send(wire, now, b"PING")
                    due = now + BEAT
            if not wire.wait(max(due - time.monotonic(), 0.0)):
                continue
            with self._lock:
                if self._wire is not wire:
                    return
                for message in wire.receive():
                    if self._heard(message):
                        answered = time.monotonic()

    def _heard(self, message: Any) -> bool:
        """Take in one message, in the order in which they came; True if it answers a PING."""
        if isinstance(message, list):  # a push: what is asked here is not answered with lists
            if len(message) == 2 and message[0] == b"invalidate":
                self._invalidated(message[1])
            return False
        asked = self._asked.popleft() if self._asked else None
        if isinstance(message, Exception):
            raise message
        if isinstance(asked, str):
            self._covered |= {asked}
        elif asked is not None:
            if self.refused:  # no longer; what was kept until now heard of no changes
                self.refused, self.longest = False, LONGEST
                self._drop_all()
            self.until = time.time() - (time.monotonic() - asked) + SAFE
            return True
        return False

    def _invalidated(self, keys: list[bytes] | None) -> None:
        if keys is None:  # the database was emptied
            self._drop_all()
            return
        for key in keys:
            prefix, found, rest = key.partition(b"}:")
            if found and len(rest) == ops.DIGEST:
                for near in near_of((prefix + found).decode()):
                    near.forget(rest.decode())

    def _follow(self, wire: Wire, prefix: str) -> None:
        stem = _stem(prefix)
        if stem not in self._followed:
            self._followed.add(stem)
            self._send(wire, stem, b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", stem.encode())

    def _send(self, wire: Wire, asked: float | str | None, *command: bytes) -> None:
        self._asked.append(asked)
        # A broken connection is found by the thread, which reads.
        with contextlib.suppress(OSError):
            wire.send(command_of(*command))

    def _refuse(self, error: ResponseError) -> None:
        self.longest, self.refused, self.until = LONGEST_UNTRACKED, True, math.inf
        if self._told:
            return
        self._told = True
        reason = str(error).partition("\n")[0][:200]
        log.warning(
            "redis_memo: near=: %s does not let a client hear of changes (%s); what this process keeps may be up to "
            "%g s older than what Redis has",
            self._where(), reason, LONGEST_UNTRACKED,
        )  # fmt: skip
        self._hook.tell(NearUntracked(self._where(), reason, LONGEST_UNTRACKED))


def _stem(prefix: str) -> str:
    """What the prefixes of all shards of a function begin with, whatever their number, and no other function's."""
    stem, mark, _ = prefix.partition("#")
    return stem + mark


class Trackers:
    """As `Tracker`, of a cluster: one for each master, and the gate is open only while all of them are sure.

    A slot that moves is heard of by the master that it leaves, whose keys are deleted. A master that is new is not
    listened to yet: from the moment at which it is known nothing is served nor let in until it is.

    Args:
        masters: The masters that are known; asks nobody.
        make: Returns a `Tracker` of one of them.
    """

    def __init__(self, masters: Callable[[], tuple[Hashable, ...]], make: Callable[[Any], Tracker]) -> None:
        self._masters = masters
        self._make = make
        self._lock = threading.RLock()
        self._each: dict[Hashable, Tracker] = {}
        self._stores: weakref.WeakKeyDictionary[Near, tuple[str, ...]] = weakref.WeakKeyDictionary()

    def _complete(self) -> bool:
        each = self._each
        return bool(each) and each.keys() == set(self._masters())

    @property
    def until(self) -> float:
        """See `_near.Gate`; so for the next two."""
        return min(each.until for each in list(self._each.values())) if self._complete() else 0.0

    @property
    def longest(self) -> float:
        """See `until`."""
        return min((each.longest for each in list(self._each.values())), default=LONGEST)

    def covers(self, prefix: str) -> bool:
        """See `until`."""
        return self._complete() and all(each.covers(prefix) for each in list(self._each.values()))

    @property
    def listens(self) -> bool:
        """Whether all masters are listened to."""
        return self._complete() and all(each.listens for each in list(self._each.values()))

    def track(self, near: Near, prefixes: tuple[str, ...]) -> None:
        """See `Tracker`."""
        if not near.attach(prefixes, self) and self.listens:
            return
        with self._lock:
            self._stores[near] = prefixes
            stores = list(self._stores.items())
            masters = self._masters()
            before = self._each
            self._each = {master: before.get(master) or self._make(master) for master in masters}
            if self._each.keys() != before.keys():
                for master in before.keys() - self._each.keys():
                    before[master].close()
                for store, _ in stores:  # what was read from a master while nobody listened to it
                    store.clear()
            for each in self._each.values():
                for store, its in stores:
                    each.listen_for(store, its)

    def close(self) -> None:
        """See `Tracker`."""
        with self._lock:
            before, self._each = self._each, {}
        for each in before.values():
            each.close()
