"""A hot key for a day, in simulated time: who has to wait for it where ``early=`` recomputes it in time.

The flow is the core's, the formula that of `Invocation.look`; arrivals are a Poisson process, all in one process.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from redis_memo import _core as core
from redis_memo import _ops as ops
from redis_memo._codecs import dumps
from redis_memo._envelope import Stamp
from redis_memo._invocation import Invocation

from .model import FakeClock, ModelStore
from .schedule_spec import PLACES

COMPUTE = 1.0  # seconds
DAY = 86400.0
RATES, TTLS = (1, 5, 20), (60, 300)
LOCAL_WAITS = (ops.Compute, ops.Join, ops.Listen, ops.Wait, ops.Await)


@dataclass(frozen=True)
class Outcome:
    """What a day was like."""

    rate: float
    ttl: float
    seconds: float
    calls: int
    waited: int
    computed: int

    @property
    def share(self) -> float:
        """Of the calls, how many waited."""
        return self.waited / self.calls

    @property
    def ratio(self) -> float:
        """Computations, against the fewest that keep the entry there all the time."""
        return self.computed / max(1.0, self.seconds / self.ttl)


class _Spec:
    """As `Invocation`, its envelopes being their stamps."""

    lease, max_wait, ages, patience, limit = 10.0, 60.0, True, None, None

    def __init__(self, ttl: float) -> None:
        self.ttl = ttl
        meta = dumps(1, allow_pickle=False).meta
        opened = SimpleNamespace(meta=meta, buffers=[], trusted=True, stamp=None)

        def open_(_: str, envelope: Stamp) -> Any:
            opened.stamp = envelope
            return opened

        sealer = SimpleNamespace(open=open_)
        self.memo = SimpleNamespace(early=1.0, stale=0.0, stale_if_error=0.0, engine=SimpleNamespace(sealer=sealer))

    look, standing = Invocation.look, Invocation.standing

    def serve(self, look: Any) -> Any:
        return look.value

    def filling(self) -> None:
        return None

    def hit(self, entry: str, envelope: Stamp) -> int:
        return 1

    def seal(self, place: ops.Place, computed: ops.Computed, now: float) -> ops.Sealed:
        return ops.Sealed(Stamp(now, computed.seconds, now + self.ttl, now + self.ttl), self.ttl, place.tokens)

    def changed(self) -> bool:
        return False

    def leave(self) -> None: ...
    def miss(self) -> None: ...
    def stored(self, sealed: Any) -> None: ...
    def refused(self) -> None: ...
    def refreshed(self) -> None: ...


class _Caller:
    def __init__(self, flow: ops.Flow, *, behind: bool = False) -> None:
        self.flow, self.behind, self.waited, self.turn = flow, behind, False, 0


class _Day:
    def __init__(self, rate: float, ttl: float, seconds: float, seed: int) -> None:
        self.rate, self.ttl, self.seconds = rate, ttl, seconds
        self.chance = random.Random(seed)
        self.clock = FakeClock()
        self.store = ModelStore(self.clock)
        self.spec = _Spec(ttl)
        self.events: list[tuple[float, int, _Caller, int, Any]] = []
        self.number = itertools.count()
        self.flights: dict[bytes, list[_Caller]] = {}
        self.calls = self.waited = self.computed = 0

    def run(self) -> Outcome:
        place, clock, events = PLACES[0], self.clock, self.events
        arrival, end = clock.now, clock.now + self.seconds
        while arrival < end:
            while events and events[0][0] <= arrival:
                clock.now, _, caller, turn, answer = heapq.heappop(events)
                if caller.turn == turn:
                    self.go(caller, answer)
            clock.now = arrival
            self.calls += 1
            self.go(_Caller(core.read_through(self.spec, place.entry, lambda: place)), None)
            arrival += self.chance.expovariate(self.rate)
        return Outcome(self.rate, self.ttl, self.seconds, self.calls, self.waited, self.computed)

    def go(self, caller: _Caller, answer: Any) -> None:
        """Let a flow go on until it waits or ends."""
        send, caller.turn = caller.flow.send, caller.turn + 1
        try:
            while True:
                op = send(answer)
                kind = type(op)
                if kind is ops.Clock:
                    answer = self.clock.now
                elif kind is ops.Chance:
                    answer = 1.0 - self.chance.random()
                elif kind is ops.TakeToken:
                    answer = str(next(self.number)).encode()
                    self.flights[answer] = []
                elif kind is ops.Held:
                    answer = frozenset()
                elif kind is ops.Land:
                    for other in self.flights.pop(op.token, ()):
                        self.later(other, 0.0, op.result)
                    answer = None
                elif kind is ops.Spawn:
                    answer = _Caller(op.flow, behind=True)
                    self.later(answer, 0.0, None)
                elif kind in LOCAL_WAITS:
                    if not caller.waited and not caller.behind:
                        self.waited += 1
                    caller.waited = True
                    if kind is ops.Compute:
                        self.computed += 1
                        self.later(caller, COMPUTE, ops.Computed(1, COMPUTE))
                        return
                    assert kind is ops.Join, op
                    flight = self.flights.get(op.token)
                    if flight is not None:
                        flight.append(caller)
                        self.later(caller, op.seconds, ops.Late())
                        return
                    answer = None
                else:
                    answer = self.store.perform(op)
        except StopIteration:
            return

    def later(self, caller: _Caller, seconds: float, answer: Any) -> None:
        heapq.heappush(self.events, (self.clock.now + seconds, next(self.number), caller, caller.turn, answer))


def simulate(rate: float, ttl: float, seconds: float = DAY, seed: int = 1) -> Outcome:
    """Serve a hot key for so long."""
    return _Day(rate, ttl, seconds, seed).run()
