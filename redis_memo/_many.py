"""Many calls of one function, side by side.

Nothing of a call's logic is repeated here but how a hit ends. Each call has its own flow (`_core.read_through`),
which reads, asks for the lease, computes, stores and waits. A `Crowd` runs hundreds of them in one thread, as a
scheduler of coroutines does: what flows ask of the store is gathered for one exchange, the runs of the function are
handed to workers, and who waits does not hold up the others. So every schedule of a crowd is one of as many single
calls in as many threads of this process, and what is proven of these holds.

What a crowd adds is only the choice of what is asked when:

- Calls are begun some hundreds at a time, so that a million of them need no room for a million flows.
- Leases are asked for when there will soon be time for their computations: whoever needs one of these results elsewhere
  must not wait until a long queue is through. So two processes that map the same calls share the work.
- Of equal calls one goes ahead; the others are handed its result, each decoded anew.
- Results wait a moment for others, to be stored with them. Whoever needs one meanwhile is handed it: only the store
  waits for that moment.
"""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

from . import _ops as ops
from ._large import Large
from ._many_ops import NO_HIT, Begin, Fetch, Launch, Report, Rest, Withdraw, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._many_ops import Hits, OneCall

__all__ = ["Crowd"]

ALIVE = 4 * ops.AT_ONCE  # calls that have begun and not ended
BYTES = 8 << 20  # of results that wait to be stored; of entries read in one exchange, as far as the last ones tell
COMPANY = 0.05  # seconds for which a result waits for others
FIRST = 16  # leases taken for each worker before anything is known of how long the function takes
AHEAD = 1.0  # seconds of work for which leases are taken, once it is known


Step: TypeAlias = "tuple[int, Any, bool]"  # a call, what its flow is told, and whether that is an exception


class Crowd:
    """Runs the flows of many calls.

    Args:
        start: Returns the call with such a number, and the key of its entry where that is known; what it raises is
            that call's result.
        total: How many calls there are.
        hits: Answers calls without a flow; None where a hit is more than an entry that can be read.
        workers: How many runs of the function (or of the batch function) go on at once.
        batch: How many calls one run of a batch function takes; 0 where there is none.
        lease: Seconds that a lease lasts unless it is renewed.
        clock: Seconds, for how long results wait.
    """

    def __init__(
        self,
        start: Callable[[int, str | None], OneCall],
        total: int,
        *,
        hits: Hits | None = None,
        workers: int = 1,
        batch: int = 0,
        lease: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._total = total
        self._hits = hits
        self._workers = workers
        self._batch = batch
        self._company = min(COMPANY, lease / 4)
        self._clock = clock
        self._results: list[Any] = [None] * total
        self._begun = self._done = self._told = 0
        self._calls: dict[int, OneCall] = {}
        self._flows: dict[int, Generator[Any, Any, Any]] = {}
        self._steps: deque[Step] = deque()
        self._asks: list[tuple[int, Any]] = []
        self._sent: list[tuple[int, Any]] = []
        self._unsent: list[tuple[int, Any]] = []
        self._reads_at_once = ops.AT_ONCE
        # Of calls that are equal, which one asks for the lease, and who is handed its result.
        self._entries: dict[int, str] = {}
        self._ahead: dict[str, int] = {}
        self._behind: dict[str, deque[tuple[int, ops.Acquire]]] = {}
        self._landed: dict[bytes, tuple[Any, int]] = {}
        self._wanted: deque[tuple[int, ops.Acquire]] = deque()
        self._in_hand: set[int] = set()  # lease taken, not computed yet
        self._most = (batch or FIRST) * workers
        self._pace = 0.0
        self._gathered: deque[tuple[int, ops.Compute]] = deque()
        self._working: set[int] = set()
        self._limited: deque[tuple[int, ops.Spawn]] = deque()
        self._launched: set[int] = set()
        self._fills: list[tuple[int, ops.Fill]] = []
        self._fill_bytes = 0
        self._fill_since = 0.0
        self._stopped: BaseException | None = None

    def run(self) -> Generator[Any, Any, list[Any]]:
        """The flow of all of them: returns the results in order, `Raised` where a call failed.

        An exception that is thrown in (an interrupt, a cancellation) ends it, after what was computed is stored and the
        leases are given back. So does what the function raised if that is no ``Exception``.
        """
        try:
            while True:
                if not self._steps and self._may_begin():
                    yield from self._begin_more()
                yield from self._advance()
                if self._stopped is not None:
                    raise self._stopped  # noqa: TRY301 - to the end that an interrupt has
                if self._done > self._told:
                    self._told = self._done
                    yield Report(self._done)
                if self._done == self._total:
                    return self._results
                due = self._due()
                if due:
                    yield from self._ask(due)
                    continue
                yield from self._hand_out()
                if not self._steps and not self._may_begin():
                    for number, result in (yield Rest(self._patience())):
                        self._came(number, result)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and self._stopped is None:  # closed, not raised by the function
                for flow in self._flows.values():
                    flow.close()
                raise
            yield from self._stop(error)
            raise

    # Calls begin, and end.

    def _may_begin(self) -> bool:
        return self._begun < self._total and len(self._flows) < ALIVE

    def _begin_more(self) -> Generator[Any, Any, None]:
        numbers = range(self._begun, min(self._begun + self._reads_at_once, self._total))
        self._begun = numbers.stop
        if self._hits is not None:
            yield from self._read(numbers, self._hits)
            return
        for number in numbers:
            self._begin(number)

    def _begin(self, number: int, entry: str | None = None, answer: Any = None) -> None:
        """Begin the flow of a call; where its entry was read, it is told the answer, which it asks for first."""
        try:
            call = self._start(number, entry)
            flow = call.flow()
            if entry is not None:
                flow.send(None)
        except Exception as error:  # noqa: BLE001 - as a single call would raise it
            self._end(number, ops.Raised(error))
            return
        self._flows[number], self._calls[number] = flow, call
        self._steps.append((number, answer, isinstance(answer, Exception)))

    def _read(self, numbers: range, hits: Hits) -> Generator[Any, Any, None]:
        """Answer the calls that hit, and begin the flows of the others."""
        entries: dict[int, str] = {}
        for number in numbers:
            try:
                entries[number] = hits.entry(number)
            except Exception as error:  # noqa: BLE001 - as a single call would raise it
                self._end(number, ops.Raised(error))
        places = list(dict.fromkeys(entries.values()))
        if not places:
            return
        answers = yield Fetch(places)
        if len(places) < len(entries):
            answers = [_settled(answer) for answer in answers]
        self._adapt(answers)
        found = dict(zip(places, answers, strict=True))
        results = self._results
        for (number, entry), value in zip(entries.items(), hits.values(entries.values(), found), strict=True):
            if value is NO_HIT:
                self._begin(number, entry, found[entry])
            else:
                results[number] = value
                self._done += 1

    def _adapt(self, answers: list[Any]) -> None:
        """Read as many entries at once as are not too many bytes, if they are like these."""
        self._reads_at_once = max(1, min(ops.AT_ONCE, BYTES * len(answers) // max(sum(map(_size, answers)), 1)))

    def _end(self, number: int, result: Any) -> None:
        self._flows.pop(number, None)
        self._calls.pop(number, None)
        self._results[number] = result
        self._done += 1
        if type(result) is ops.Raised and not isinstance(result.error, Exception):
            self._stopped = self._stopped or result.error
        if number in self._entries or number in self._launched or number in self._in_hand:  # it was no hit
            self._gone(number)

    def _gone(self, number: int) -> None:
        """A call that asked for a lease has ended."""
        self._in_hand.discard(number)
        self._launched.discard(number)
        entry = self._entries.pop(number, None)
        if entry is not None and self._ahead.get(entry) == number:
            del self._ahead[entry]
            behind = self._behind.pop(entry, None)
            if behind:  # it had nothing to hand on: the next one asks for itself
                following, op = behind.popleft()
                self._ahead[entry] = following
                self._wanted.append((following, op))
                if behind:
                    self._behind[entry] = behind

    # Flows go on until each of them has asked for something that takes time.

    def _advance(self) -> Generator[Any, Any, None]:
        steps, flows = self._steps, self._flows
        while steps:
            number, told, failed = steps.popleft()
            flow = flows[number]
            while True:
                try:
                    op = flow.throw(told) if failed else flow.send(told)
                except StopIteration as stop:
                    self._end(number, stop.value)
                    break
                except BaseException as error:
                    if inspect.getgeneratorstate(flow) != inspect.GEN_CLOSED:
                        raise  # an interrupt between two steps of the flow, which has yet to give back what it took
                    self._end(number, ops.Raised(error))
                    break
                kind = type(op)
                if kind in _READS and self._stopped is None:
                    self._asks.append((number, op))
                    break
                if kind in _AT_ONCE:
                    if kind is ops.Land:
                        self._hand_on(number, op)
                    told, failed = (yield op), False
                    continue
                if kind is ops.Join and op.token in self._landed:
                    told, failed = self._told_by(op.token), False
                    continue
                if self._stopped is not None and kind not in _LAST:
                    told, failed = _interrupt(self._stopped), True
                    continue
                if kind is ops.Spawn and (self._batch or not op.awaited):
                    # One run for many calls has no time limit of a single call's.
                    told, failed = (None if op.awaited else (yield Launch(self._calls[number], op))), False
                    continue
                if kind is ops.Fill and type(op.envelope) is not Large:
                    yield ops.Land(op.token, ops.Sealed(op.envelope, op.ttl), over=False)
                self._sort_in(number, op, kind)
                break

    def _sort_in(self, number: int, op: Any, kind: type) -> None:
        if kind is ops.Acquire:
            entry = op.place.entry
            self._entries[number] = entry
            if self._ahead.setdefault(entry, number) == number:
                self._wanted.append((number, op))
            else:
                self._behind.setdefault(entry, deque()).append((number, op))
        elif kind is ops.Compute:
            self._gathered.append((number, op))
        elif kind is ops.Spawn:
            self._limited.append((number, op))
        elif kind is ops.Fill:
            if not self._fills:
                self._fill_since = self._clock()
            self._fills.append((number, op))
            self._fill_bytes += len(op.envelope)
        elif kind in _WAITS:
            self._asks.append((number, Begin(number, op)))
        else:
            self._asks.append((number, op))

    def _hand_on(self, number: int, op: ops.Land) -> None:
        """Equal calls are told how the one ahead of them ended, as if they had joined it just before."""
        entry = self._entries.get(number)
        if op.result is None or entry is None or self._ahead.get(entry) != number:
            return
        behind = self._behind.pop(entry, ())
        if behind:
            result = op.result
            if isinstance(result, ops.Sealed) and isinstance(result.envelope, Large):
                result = result._replace(envelope=result.envelope.settle())
            self._landed[op.token] = result, len(behind)
            self._steps += [(each, ops.Busy(op.token, 1.0), False) for each, _ in behind]

    def _told_by(self, token: bytes) -> Any:
        result, count = self._landed.pop(token)
        if count > 1:
            self._landed[token] = result, count - 1
        return result

    # What takes time: exchanges with the store, runs of the function, waiting.

    def _due(self) -> list[tuple[int, Any]]:
        """What is to be asked of the store now."""
        # An interrupt may come anywhere: what is asked for is in one of the lists at any moment, see `_stop`.
        due = self._unsent = self._asks
        self._asks = []
        room = self._most - len(self._in_hand)
        if self._wanted and (due or 2 * room >= self._most or not self._working):
            due += [self._wanted.popleft() for _ in range(min(room, len(self._wanted)))]
        if self._fills and (due or not self._worth_waiting()):
            due += self._fills
            self._fills, self._fill_bytes = [], 0
        return due

    def _worth_waiting(self) -> bool:
        if not self._working or len(self._fills) >= ops.AT_ONCE or self._fill_bytes >= BYTES:
            return False
        return self._clock() - self._fill_since < self._company

    def _patience(self) -> float | None:
        return max(0.0, self._fill_since + self._company - self._clock()) if self._fills else None

    def _ask(self, due: list[tuple[int, Any]]) -> Generator[Any, Any, None]:
        self._unsent = due
        waits = [op for _, op in due if type(op) is Begin]
        yield from waits
        if waits:
            self._unsent = [(number, op) for number, op in due if type(op) is not Begin]
        while self._unsent:
            self._sent, self._unsent = _next(self._unsent)
            yield from self._exchange()
            self._sent = []

    def _exchange(self) -> Generator[Any, Any, None]:
        # Equal calls share one answer: whoever reads a large entry must not empty it for the others.
        reads: dict[Any, int] = {}
        several: list[Any] = []
        places = []
        for _, op in self._sent:
            at = len(several)
            if type(op) is ops.Read:
                at = reads.setdefault(op.entry, at)
            elif type(op) is ops.ReadLeft:
                at = reads.setdefault(op, at)
            if at == len(several):
                several.append(op)
            places.append(at)
        answers = yield ops.Together(several)
        if len(reads) < len(places):
            answers = [_settled(answer) for answer in answers]
        if reads:
            self._adapt([answers[at] for at in reads.values()])
        steps = []
        for (number, op), at in zip(self._sent, places, strict=True):
            answer = answers[at]
            if type(answer) is ops.Leased and type(op) is ops.Acquire:
                self._in_hand.add(number)
            steps.append((number, answer, isinstance(answer, Exception)))
        self._steps += steps

    def _hand_out(self) -> Generator[Any, Any, None]:
        """Give the workers what there is to compute."""
        size = self._batch or 1
        while self._gathered and (len(self._gathered) >= size or not self._may_begin()):
            some = [self._gathered.popleft() for _ in range(min(size, len(self._gathered)))]
            numbers = tuple(number for number, _ in some)
            self._working.update(numbers)
            yield Work(numbers, tuple(self._calls[number] for number in numbers), tuple(op for _, op in some))
        while self._limited and len(self._launched) < self._workers:
            number, op = self._limited.popleft()
            self._launched.add(number)
            self._steps.append((number, (yield Launch(self._calls[number], op)), False))

    def _came(self, number: int, result: Any) -> None:
        """Something has ended: a wait, or a run of the function, which tells how long such a run takes."""
        self._steps.append((number, result, False))
        if number not in self._working:
            return
        self._working.discard(number)
        self._in_hand.discard(number)
        if type(result) is ops.Computed and not self._batch:
            self._pace = result.seconds if not self._pace else 0.8 * self._pace + 0.2 * result.seconds
            self._most = self._workers * max(1, min(ops.AT_ONCE, int(AHEAD / max(self._pace, 1e-6))))

    # The end before the end.

    def _stop(self, error: BaseException) -> Generator[Any, Any, None]:
        """Store what is computed, give back the leases, and let every flow clean up."""
        self._stopped = error
        ended: list[tuple[int, Any]] = yield Withdraw()
        answered = {number for number, _, _ in self._steps}
        # It may have come while these moved from one list to the next, or after their answers were noted.
        asked = dict([*self._sent, *self._unsent, *self._asks, *self._fills])
        last = [(number, op) for number, op in asked.items() if type(op) in _LAST and number not in answered]
        told = {number for number, _ in [*ended, *last]} | answered
        self._sent, self._unsent, self._asks, self._fills = [], [], last, []
        self._steps += [(number, result, False) for number, result in ended if number in self._flows]
        self._steps += [(number, _interrupt(error), True) for number in self._flows if number not in told]
        self._wanted.clear()
        self._behind.clear()
        self._gathered.clear()
        self._limited.clear()
        self._working.clear()
        while self._flows:
            yield from self._advance()
            due, self._asks = [*self._asks, *self._fills], []
            self._fills, self._fill_bytes = [], 0
            if not due:
                break
            yield from self._ask(due)


def _next(asked: list[tuple[int, Any]]) -> tuple[list[tuple[int, Any]], list[tuple[int, Any]]]:
    """What goes out with the next exchange, and what after it: results only until they are many bytes."""
    size = 0
    for at, (_, op) in enumerate(asked):
        size += len(op.envelope) if type(op) is ops.Fill else 0
        if at == ops.AT_ONCE or (size > BYTES and at):
            return asked[:at], asked[at:]
    return asked, []


def _interrupt(error: BaseException) -> BaseException:
    """What flows are told of it: GeneratorExit they would take for their own end, after which nothing is given back."""
    return KeyboardInterrupt() if isinstance(error, GeneratorExit) else error


def _settled(answer: Any) -> Any:
    """An answer that several callers can read, none of whom empties it."""
    if type(answer) is Large:
        return dataclasses.replace(answer, settled=True)
    return (_settled(answer[0]), answer[1]) if type(answer) is tuple else answer


def _size(answer: Any) -> int:
    """Bytes of what was read."""
    found = answer[0] if type(answer) is tuple else answer
    return len(found) if isinstance(found, (bytes, memoryview, Large)) else 0


_AT_ONCE = frozenset({ops.Clock, ops.Chance, ops.Rally, ops.TakeToken, ops.Held, ops.Early, ops.Land})
_WAITS = frozenset({ops.Join, ops.Listen, ops.Wait, ops.Await})
_LAST = frozenset({ops.Fill, ops.Release})  # what is still asked of the store where a crowd is stopped
_READS = frozenset({ops.Read, ops.ReadLeft})
