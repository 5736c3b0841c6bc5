"""What drives the flows of a cache: one server, its settings, and the computations in flight in this process.

This is where the core's flows are driven: its operations on the store go to the backend, the others (clock,
tokens, running the function, waiting) are performed here, once for threads and once for event loops.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import os
import random
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core as core
from . import _entries as entries
from . import _ops as ops
from ._backend import Backend
from ._background import Job, Workers
from ._clock import now
from ._drive import adrive, drive
from ._envelope import Sealer
from ._flight import Flight
from ._identity import registry
from ._inside import atimed, early, held, outside, timed
from ._leases import Leases
from ._namespaces import WRITES, Namespaces, nothing_was_listed
from ._near import CHANGES, changed
from ._push import until, until_async
from ._touches import AT_EXIT, Touches
from .errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from concurrent.futures import Future

    from ._config import Settings
    from ._wakeup import Promise

__all__ = ["LOCAL", "WAITS", "Engine", "Waited"]

_random = random.Random()  # noqa: S311 - spreads the refreshes; the module's own is the user's, who may have seeded it


class Waited(NamedTuple):
    """What an operation waits for."""

    future: Future[Any] | Promise
    seconds: float
    outcome: Callable[[bool], Any]
    """Its answer, given whether that came in time."""


class Engine:
    """Runs flows against one server.

    Args:
        settings: Where it is, and how it behaves.
        backend: What performs operations on the store, if not a server.
        clock: Seconds since 1970.
    """

    def __init__(self, settings: Settings, *, backend: Any = None, clock: Callable[[], float] | None = None) -> None:
        self.settings = settings
        self.backend: Backend = backend or Backend(settings)
        self._now = clock or now
        self._sealer: Sealer | None = None
        self._sealed_by: bytes | None = None
        self._fresh_start()
        _all.add(self)

    def _fresh_start(self) -> None:
        self._flights: dict[bytes, Flight] = {}
        self._taken = itertools.count()
        self._rallied: dict[str, tuple[int, bytes]] = {}
        self._rally_lock = threading.RLock()
        self._workers = Workers(self.settings.workers)
        self.leases = Leases(self.backend)
        self.touches = Touches(self.backend)
        self._namespaces = Namespaces(self.backend, self.leases)

    @property
    def sealer(self) -> Sealer:
        """Seals and opens envelopes with this cache's secrets, the embedded server's own among them.

        Raises:
            StoreUnavailable: The embedded server, which keeps the secret, cannot be started.
        """
        if self._sealer is None or self._sealed_by is not self.backend.embedded_secret:
            secrets = self.settings.secrets
            if self._signed_by_the_server:
                self.backend.locate()
                assert self.backend.embedded_secret is not None
                secrets = (self.backend.embedded_secret,)
            # The embedded server has another secret when its folder was removed and made again.
            self._sealed_by = self.backend.embedded_secret
            self._sealer = Sealer(secrets, allow_unsigned_pickle=self.settings.allow_unsigned_pickle)
        return self._sealer

    @property
    def _signed_by_the_server(self) -> bool:
        """Whether the secret is the embedded server's own, which is known once it runs."""
        return not self.settings.secrets and self.settings.url.startswith("embedded://")

    # Driving flows.

    def run(self, flow: ops.Flow, compute: Callable[[], Any] | None = None, namespace: str = "") -> Any:
        """Drive a flow from this thread; ``compute`` is what `ops.Compute` runs."""
        backend = self._ask

        def perform(op: Any) -> Any:
            kind = type(op)
            if kind is ops.Read:
                return self.backend.perform(op)
            if kind is ops.Compute:
                assert compute is not None
                return self._compute(compute, op)
            if kind in LOCAL:
                return self.local(op)
            if kind is ops.Together:
                return self.exchange(op.ops, namespace)
            if kind in WAITS:
                waited = self.waited(op)
                return None if waited is None else waited.outcome(until(waited.future, waited.seconds))
            if kind is ops.Spawn:
                return self.spawn(op, compute, namespace)
            if kind is ops.Release:
                try:
                    return backend(op)
                except StoreError:
                    self.leases.owe(op, self.settings.lease)
                    raise
            if kind is ops.Fill:
                with self.leases.sending(op, self.settings.lease):
                    return self.touches.kept(op, backend(op))
            return drive(self._written(op, namespace), backend) if kind in WRITES else backend(op)

        return drive(flow, perform)

    async def arun(
        self, flow: ops.Flow, compute: Callable[[], Awaitable[Any]] | None = None, namespace: str = ""
    ) -> Any:
        """As `run`, from this task."""
        backend = self._aask

        async def perform(op: Any) -> Any:
            kind = type(op)
            if kind is ops.Read:
                return await self.backend.aperform(op)
            if kind is ops.Compute:
                assert compute is not None
                return await self._acompute(compute, op)
            if kind in LOCAL:
                return self.local(op)
            if kind is ops.Together:
                return await self.aexchange(op.ops, namespace)
            if kind in WAITS:
                waited = self.waited(op)
                return None if waited is None else waited.outcome(await until_async(waited.future, waited.seconds))
            if kind is ops.Spawn:
                return self.aspawn(op, compute, namespace)
            if kind is ops.Release:
                # A caller that is cancelled once more must not take the release with it.
                return await asyncio.shield(asyncio.ensure_future(self._arelease(op)))
            if kind is ops.Fill:
                with self.leases.sending(op, self.settings.lease):
                    return self.touches.kept(op, await backend(op))
            return await (adrive(self._written(op, namespace), backend) if kind in WRITES else backend(op))

        if self._sealer is None:
            await self.begin()
        return await adrive(flow, perform)

    def _written(self, op: Any, namespace: str) -> ops.Flow:
        """A write, after the note of its function where that is due, or before it where the server has lost that."""
        due = self._namespaces.due(op.place.prefix, namespace)
        if due is not None:
            with self._namespaces.excused(due):
                self._namespaces.noted(due, (yield due))
        answer = yield op
        if type(op) is ops.Put:
            answer = self.touches.kept(op, answer)
        if due is None and nothing_was_listed(answer):
            again = ops.Enroll(registry(namespace), op.place.prefix)
            self._namespaces.noted(again, (yield again))
        return answer

    async def begin(self) -> None:
        """Find the sealer, once: in a thread, as a server may have to be started for it."""
        if self._signed_by_the_server and self._sealer is None:
            with contextlib.suppress(StoreError):  # met again, and reported, by the flow's first operation
                await asyncio.to_thread(lambda: self.sealer)

    def local(self, op: Any) -> Any:
        """Perform an operation of this process that takes no time."""
        return _LOCAL[type(op)](self, op)

    def waited(self, op: Any) -> Waited | None:
        """What such an operation waits for; None where there is nothing to wait for, which is its answer then."""
        kind = type(op)
        if kind is ops.Join:
            flight = self._flights.get(op.token)
            if flight is None:
                return None
            return Waited(flight.joined(), op.seconds, lambda came: flight.outcome() if came else ops.Late())
        if kind is ops.Listen:
            subscription = self.backend.listener.subscribe(op.place.entry)
            return Waited(subscription.ready, core.RECHECK, lambda _: subscription)
        if kind is ops.Wait:
            return Waited(op.subscription.news, op.seconds, lambda _: op.subscription.again())
        job = op.handle
        return Waited(job.future, op.seconds, lambda came: _ended(job) if came else _late(job))

    def spawn(self, op: ops.Spawn, compute: Callable[[], Any] | None, namespace: str) -> Job | ops.Late | None:
        """Drive a flow in a thread of its own; see `ops.Spawn`."""
        if op.awaited and self._workers.full(op.function):
            return ops.Late(begun=False)
        job = self._job(op)

        def work() -> Any:
            if not op.awaited:
                outside()
            return self.run(op.flow, compute, namespace)

        return job if self._workers.start(job, work) else None

    def aspawn(
        self, op: ops.Spawn, compute: Callable[[], Awaitable[Any]] | None, namespace: str
    ) -> Job | ops.Late | None:
        """As `spawn`, in a task."""
        if op.awaited and self._workers.full(op.function):
            return ops.Late(begun=False)
        job = self._job(op)

        async def work() -> Any:
            if not op.awaited:
                outside()
            return await self.arun(op.flow, compute, namespace)

        return job if self._workers.start_task(job, work) else None

    def _ask(self, op: Any) -> Any:
        """Perform an operation on the store; before its caller goes on, this process keeps nothing that it changed."""
        try:
            return self.backend.perform(op)
        finally:
            if type(op) in CHANGES:
                changed(op)

    async def _aask(self, op: Any) -> Any:
        try:
            return await self.backend.aperform(op)
        finally:
            if type(op) in CHANGES:
                changed(op)

    async def _arelease(self, op: ops.Release) -> Any:
        try:
            return await self.backend.aperform(op)
        except StoreError:
            self.leases.owe(op, self.settings.lease)
            raise

    def _clock(self, _: ops.Clock) -> float:
        return self._now()

    def _chance(self, _: ops.Chance) -> float:
        return 1.0 - _random.random()

    def _take_token(self, _: ops.TakeToken) -> bytes:
        token = os.urandom(16).hex().encode()
        self._flights[token] = Flight(next(self._taken))
        return token

    def _land(self, op: ops.Land) -> None:
        flight = self._flights.pop(op.token, None) if op.over else self._flights.get(op.token)
        if flight is not None:
            flight.land(op.result)

    def _rally(self, op: ops.Rally) -> bytes:
        flight = self._flights.get(op.token)
        if flight is None:  # it landed with what could not be read, and goes on as another one
            flight = self._flights[op.token] = Flight(next(self._taken))
        taken = flight.taken
        with self._rally_lock:
            began, leader = self._rallied.get(op.what, (-1, b""))
            if leader in self._flights and began > taken:
                return leader
            for what in [each for each, (_, token) in self._rallied.items() if token not in self._flights]:
                del self._rallied[what]
            self._rallied[op.what] = next(self._taken), op.token
        return op.token

    def _job(self, op: ops.Spawn) -> Job:
        def give_up() -> None:
            if op.place is not None:
                self.backend.perform(ops.Release(op.place, op.token))

        return Job(self._workers, give_up, function=op.function, awaited=op.awaited)

    def _early(self, op: ops.Early) -> ops.Ahead | None:
        return early(op)

    def _holding(self, _: ops.Held) -> frozenset[bytes]:
        return held()

    def _renewing(self, op: ops.Compute) -> contextlib.AbstractContextManager[None]:
        if op.place is None:
            return contextlib.nullcontext()
        return self.leases.holding(ops.Renew(op.place, op.token, self.settings.lease))

    def _compute(self, compute: Callable[[], Any], op: ops.Compute) -> ops.Computed | ops.Raised:
        with self._renewing(op):
            return timed(compute, _lease_of(op))

    async def _acompute(self, compute: Callable[[], Awaitable[Any]], op: ops.Compute) -> ops.Computed | ops.Raised:
        with self._renewing(op):
            return await atimed(compute, _lease_of(op), self.closed)

    def closed(self, token: bytes) -> None:
        """A computation will never end; whoever joined it need not wait."""
        self._land(ops.Land(token, None))

    # Many reads, in one exchange: of each entry what `ops.Read` is answered, or its StoreError.

    def entries(self, keys: list[str]) -> list[Any]:
        """Read them from this thread."""
        return self.backend.read_many(keys)

    async def aentries(self, keys: list[str]) -> list[Any]:
        """Read them from a task."""
        return await self.backend.aread_many(keys)

    # Several operations on the store of one function, in one exchange: of each its answer, or its StoreError.

    def exchange(self, several: list[Any], namespace: str) -> list[Any]:
        """Perform them from this thread; as in `run`, a function's first write comes after its namespace's note."""
        return drive(self._exchanging(several, namespace), self.backend.perform_many)  # type: ignore[no-any-return]

    async def aexchange(self, several: list[Any], namespace: str) -> list[Any]:
        """As `exchange`, from a task."""
        return await adrive(self._exchanging(several, namespace), self.backend.aperform_many)  # type: ignore[no-any-return]

    def _exchanging(self, several: list[Any], namespace: str) -> Generator[list[Any], list[Any], list[Any]]:
        due = self._namespaces.before(several, namespace)
        try:
            answers = yield [*due, *several] if due else several
        finally:
            _all_changed(several)
        again = self._exchanged(several, answers, due, namespace)
        if again:
            self._namespaces.noted_late(again, (yield [*again]), several, answers)
        return answers

    def _exchanged(
        self, several: list[Any], answers: list[Any], due: list[ops.Enroll], namespace: str
    ) -> list[ops.Enroll]:
        """What is to be noted once more, as the server has lost what it had of the function."""
        if due:
            noted = answers[: len(due)]
            del answers[: len(due)]
            self._namespaces.noted_late(due, noted, several, answers)
        before = {enroll.prefix for enroll in due}
        lost: dict[str, ops.Enroll] = {}
        for number, op in enumerate(several):
            answer = answers[number]
            if isinstance(answer, StoreError):
                if type(op) is ops.Release:
                    self.leases.owe(op, self.settings.lease)
                continue
            if type(op) in _KEPT:
                answer = answers[number] = self.touches.kept(op, answer)
            if nothing_was_listed(answer) and type(op) in WRITES and op.place.prefix not in before:
                lost[op.place.prefix] = ops.Enroll(registry(namespace), op.place.prefix)
        return list(lost.values())

    # Namespaces: flows whose answer is how many entries went.

    def clearing(self, namespace: str) -> ops.Flow:
        """Delete every entry of every function in a namespace."""
        listed = yield ops.Enrolled(registry(namespace))
        return (yield from entries.drop_matching(self._namespaces.functions(namespace, listed), b""))

    def untagging(self, namespace: str, tokens: tuple[bytes, ...]) -> ops.Flow:
        """Delete every entry in a namespace that has any of these tags."""
        listed = yield ops.Enrolled(registry(namespace))
        return (yield from entries.drop_tagged(self._namespaces.functions(namespace, listed), tokens))

    def close(self) -> None:
        """See `_cache.Cache.close`."""
        self.touches.tell(AT_EXIT)
        self.backend.close()


def _all_changed(several: list[Any]) -> None:
    for op in several:
        if type(op) in CHANGES:
            changed(op)


def _ended(job: Job) -> Any:
    return ops.Finished(ops.Raised(asyncio.CancelledError())) if job.future.cancelled() else job.future.result()


def _late(job: Job) -> ops.Late:
    if job.withdraw():
        return ops.Late(begun=False)
    job.abandon()
    return ops.Late()


_LOCAL: dict[type, Callable[[Engine, Any], Any]] = {
    ops.Clock: Engine._clock,  # noqa: SLF001
    ops.Chance: Engine._chance,  # noqa: SLF001
    ops.Rally: Engine._rally,  # noqa: SLF001
    ops.TakeToken: Engine._take_token,  # noqa: SLF001
    ops.Held: Engine._holding,  # noqa: SLF001
    ops.Early: Engine._early,  # noqa: SLF001
    ops.Land: Engine._land,  # noqa: SLF001
}
LOCAL = frozenset(_LOCAL)
WAITS = frozenset({ops.Join, ops.Listen, ops.Wait, ops.Await})
_KEPT = frozenset({ops.Fill, ops.Put})

_all: weakref.WeakSet[Engine] = weakref.WeakSet()


def _lease_of(op: ops.Compute) -> set[bytes]:
    """The token of its own lease, if it has one."""
    return set() if op.place is None else {op.token}


def _after_fork() -> None:
    for engine in list(_all):
        engine._fresh_start()  # noqa: SLF001


@atexit.register
def _at_exit() -> None:
    for engine in list(_all):
        engine.touches.tell(AT_EXIT, last=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
