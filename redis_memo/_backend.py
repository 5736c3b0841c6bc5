"""Performs the core's operations on the store, for threads and for event loops, wherever the store is (`_servers`).

Errors of redis-py end here: what leaves is of our own tree.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from redis.exceptions import NoScriptError

from . import _ops as ops
from ._cluster import Ask, slot_of
from ._commands import CONFIRMED, Entries, all_confirmed, confirmed, dialogue, routed_by
from ._drive import adrive, drive
from ._failures import translated
from ._large import Large
from ._piecewise import divisible, piecewise
from ._replies import Elsewhere
from ._servers import Servers
from .errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from ._bulk import Piece
    from ._cluster import Pause
    from ._node import Node

__all__ = ["Backend"]

Dialogue: TypeAlias = "Generator[list[Piece], Any, Any]"
Steps: TypeAlias = "Generator[Ask | Pause, Any, Any]"

# An invalidation is tried even where everything else has given up.
_URGENT = frozenset({ops.Drop, ops.DropMatching, ops.Revoke, ops.Enrolled})
# Each of their commands has one key, and touches no other.
_LONE = frozenset(
    {
        ops.Read, ops.ReadLeft, ops.ReadParts, ops.NoteWait, ops.FollowWait, ops.Renew, ops.Enroll, ops.Enrolled,
        ops.Strike, ops.TakeTurn, ops.Counted,
    }
)  # fmt: skip
# What a replica may answer. Not `ReadLeft`: what a process keeps of it would be old for longer than the replica lags.
_READS = frozenset({ops.Read, ops.ReadParts})
_ALONE: Final = object()  # stands for an answer that is still to come, to an operation that goes alone
_READ = frozenset({bytes, type(None)})


class Backend(Servers):
    """Performs the core's store operations, for threads and for event loops; see `Servers`."""

    # Threads. `perform` and `aperform` say what `_asked` does once more, as every hit passes through them.

    def perform(self, op: object) -> Any:
        """Perform one operation from a thread.

        Raises:
            StoreError: The server did not do it.
        """
        node = self._only
        if node is None:
            return drive(self._steps(op), functools.partial(self._step, type(op) in _URGENT))
        breaker = node.breaker
        if breaker.reason is not None and type(op) not in _URGENT:
            breaker.refuse()
        epoch = breaker.epoch
        try:
            result = drive(dialogue(op), node.exchange)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            if not node.demoted(error):
                node.failed(error, epoch, urgent=type(op) in _URGENT)
            return drive(self._steps(op), functools.partial(self._step, type(op) in _URGENT))
        if breaker.reason is not None and type(op) in _URGENT:
            breaker.answered()
        return result

    def _step(self, urgent: bool, step: Ask | Pause) -> Any:
        if not isinstance(step, Ask):
            time.sleep(step.seconds)
            return None
        with _asked(step.node, urgent=urgent):
            return step.node.exchange(step.pieces)

    # Event loops.

    async def aperform(self, op: object) -> Any:
        """As `perform`, from a task. The time it waits for its turn, among hundreds, does not count."""
        node = self._only
        urgent = type(op) in _URGENT
        if node is None:
            return await self._awide(op, urgent)
        breaker = node.breaker
        if breaker.reason is not None and not urgent:
            breaker.refuse()
        epoch = breaker.epoch
        try:
            result = await adrive(dialogue(op), functools.partial(node.aexchange, urgent=urgent))
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            if not node.demoted(error):
                node.failed(error, epoch, urgent=urgent)
            return await self._awide(op, urgent)
        if breaker.reason is not None and urgent:
            breaker.answered()
        return result

    async def _awide(self, op: object, urgent: bool) -> Any:
        if self.cluster is not None and not self.cluster.located:
            if self.cluster.breaker.reason is not None and not urgent:
                self.cluster.breaker.refuse()
            await asyncio.to_thread(self.cluster.locate)
        return await adrive(self._steps(op), functools.partial(self._astep, urgent))

    async def _astep(self, urgent: bool, step: Ask | Pause) -> Any:
        if not isinstance(step, Ask):
            await asyncio.sleep(step.seconds)
            return None
        with _asked(step.node, urgent=urgent):
            return await step.node.aexchange(step.pieces, urgent=urgent)

    # Several operations, in one exchange with each server: of each its answer, or its own StoreError.

    def perform_many(self, several: list[Any]) -> list[Any]:
        """Perform several operations from a thread: those of one server in order, in one round trip if they can."""
        answers: list[Any] = [_ALONE] * len(several)
        moved: list[int] = []
        for node, numbers in self._grouped(several, answers):
            got = self._together(node, [several[number] for number in numbers])
            moved += self._placed(node, numbers, several, answers, got)
        for node, numbers in self._grouped(several, answers, moved):
            got = self._together(node, [several[number] for number in numbers])
            self._placed(node, numbers, several, answers, got)
        return self._completed(answers, several.__getitem__)

    async def aperform_many(self, several: list[Any]) -> list[Any]:
        """As `perform_many`, from a task; of several servers at once, but for the one that notes functions."""
        answers: list[Any] = [_ALONE] * len(several)
        if self.cluster is not None and not self.cluster.located:
            with contextlib.suppress(StoreError):  # met again at once
                await asyncio.to_thread(self.cluster.locate)
        groups = self._grouped(several, answers)
        moved: list[int] = []
        if len(groups) > 1 and type(several[0]) is ops.Enroll:  # what comes after it must be found by it
            moved += await self._agroup(groups.pop(0), several, answers)
        moved += await self._agroups(groups, several, answers)
        await self._agroups(self._grouped(several, answers, moved), several, answers)
        return await self._acompleted(answers, several.__getitem__)

    def read_many(self, entries: list[str]) -> list[Any]:
        """As `perform_many` of as many `Read`."""
        if self._only is None:
            return self.perform_many([ops.Read(entry) for entry in entries])
        answers = self._together(self._only, Entries(entries))
        return self._completed(answers, lambda number: ops.Read(entries[number]))

    async def aread_many(self, entries: list[str]) -> list[Any]:
        """As `read_many`, from a task."""
        if self._only is None:
            return await self.aperform_many([ops.Read(entry) for entry in entries])
        answers = await self._atogether(self._only, Entries(entries))
        return await self._acompleted(answers, lambda number: ops.Read(entries[number]))

    def _grouped(
        self, several: list[Any], answers: list[Any], some: list[int] | None = None
    ) -> list[tuple[Node, Sequence[int]]]:
        """Which of them (or of some) go to which server together; the others are performed one by one, or fail here."""
        if self._only is not None:
            return [(self._only, range(len(several)))] if some is None else []
        groups: dict[Node, list[int]] = {}
        for number in range(len(several)) if some is None else some:
            try:
                groups.setdefault(self._reader(several[number]), []).append(number)
            except StoreError as error:
                answers[number] = type(error)(*error.args)  # to be raised apart
        return list(groups.items())

    def _reader(self, op: object) -> Node:
        """As `node_for`; or a replica, where that may answer."""
        if self._settings.read_from == "replica" and type(op) in _READS:
            if self.cluster is not None:
                return self.cluster.node(slot_of(routed_by(op)), replica=True)
            if self._replica is not None and self._replica.breaker.reason is None:
                return self._replica
        return self.node_for(op)

    def _together(self, node: Node, some: list[Any]) -> list[Any]:
        urgent, talk = self._talk_of(some)
        try:
            return drive(talk, lambda pieces: self._step(urgent, Ask(node, pieces)))  # type: ignore[no-any-return]
        except (StoreError, Elsewhere) as error:
            return self._in_vain(node, some, error)

    def _placed(
        self, node: Node, numbers: Sequence[int], several: list[Any], answers: list[Any], got: list[Any]
    ) -> list[int]:
        """Note what a server answered; returns whose slots another one serves by now, which it named."""
        moved = []
        for number, answer in zip(numbers, got, strict=True):
            answers[number] = answer
            if isinstance(answer, Elsewhere) and self.cluster is not None:
                if answer.why == "moved" and answer.address:
                    self.cluster.moved(slot_of(routed_by(several[number])), answer.address, node)
                    moved.append(number)
                elif answer.why == "nobody":
                    self.cluster.look_soon()
        return moved

    async def _agroups(
        self, groups: list[tuple[Node, Sequence[int]]], several: list[Any], answers: list[Any]
    ) -> list[int]:
        if len(groups) == 1:
            return await self._agroup(groups[0], several, answers)
        moved = await asyncio.gather(*(self._agroup(group, several, answers) for group in groups))
        return [number for some in moved for number in some]

    async def _agroup(self, group: tuple[Node, Sequence[int]], several: list[Any], answers: list[Any]) -> list[int]:
        node, numbers = group
        got = await self._atogether(node, [several[number] for number in numbers])
        return self._placed(node, numbers, several, answers, got)

    async def _atogether(self, node: Node, some: list[Any]) -> list[Any]:
        urgent, talk = self._talk_of(some)
        try:
            return await adrive(talk, lambda pieces: self._astep(urgent, Ask(node, pieces)))  # type: ignore[no-any-return]
        except (StoreError, Elsewhere) as error:
            return self._in_vain(node, some, error)

    def _completed(self, answers: list[Any], op: Callable[[int], object]) -> list[Any]:
        """The answers, when those were asked for once more by themselves that have to be."""
        for number in self._left(answers):
            try:
                answers[number] = self.perform(op(number))
            except StoreError as error:
                answers[number] = error
        return answers

    async def _acompleted(self, answers: list[Any], op: Callable[[int], object]) -> list[Any]:
        for number in self._left(answers):
            try:
                answers[number] = await self.aperform(op(number))
            except StoreError as error:
                answers[number] = error
        return answers

    def _talk_of(self, some: list[Any]) -> tuple[bool, Dialogue]:
        """Whether an open breaker is no reason not to try, and what is said."""
        kinds = set(map(type, some))
        wait = self._settings.wait if kinds & CONFIRMED else 0
        return bool(kinds & _URGENT), all_confirmed(some, wait, self._timeout / 2) if wait else dialogue(some)

    def _in_vain(self, node: Node, some: list[Any], error: StoreError | Elsewhere) -> list[Any]:
        reads = bool(some) and type(some[0]) in _READS
        if isinstance(error, Elsewhere) or (reads and self._reader_is_another(node, some[0])):
            return [_ALONE] * len(some)  # a replica: the master has it, too
        return [type(error)(*error.args) for _ in some]

    def _reader_is_another(self, node: Node, op: object) -> bool:
        try:
            return self.node_for(op) is not node
        except StoreError:
            return False

    def _left(self, answers: list[Any]) -> list[int]:
        """Which are to be performed alone: keys that were elsewhere. The other errors are translated."""
        left: list[int] = []
        if set(map(type, answers)) <= _READ:  # of hundreds of hits
            return left
        forgotten = self.cluster is not None
        for number, answer in enumerate(answers):
            if answer is _ALONE:
                left.append(number)
            elif isinstance(answer, Exception) and not isinstance(answer, StoreError):
                if isinstance(answer, Elsewhere) and answer.why != "nobody":
                    forgotten = forgotten or (self._home is not None and self._home.demoted(answer))
                    if forgotten:
                        left.append(number)
                        continue
                answers[number] = translated(answer, self.where)
        return left

    # The long way: a cluster, replicas, or confirmed writes.

    def _steps(self, op: Any) -> Steps:
        wait = self._settings.wait if type(op) in CONFIRMED else 0
        talk = confirmed(op, wait, self._timeout / 2) if wait else dialogue(op)
        try:
            try:
                found = yield from self._talk(talk, op, lone=type(op) in _LONE)
                if isinstance(found, Large) and not found.chunks and self._settings.read_from == "replica":
                    # Each chunk may have been asked for of another replica, which was behind.
                    found = yield from self._talk(dialogue(op), op, lone=True, replicas=False)
                return found
            except Elsewhere as error:
                if error.why not in ("later", "ask") or not divisible(op):
                    raise
            if wait:
                return (yield from self._talk(confirmed(op, wait, self._timeout / 2, piecewise(op)), op, lone=True))
            return (yield from self._talk(piecewise(op), op, lone=True))
        except Elsewhere as error:
            if error.why == "nobody":
                raise translated(error, self.where) or error from error
            if error.why in ("later", "ask"):
                raise StoreUnavailable(f"{self.where}: some keys are just moving to another node") from error
            raise StoreUnavailable(f"{self.where}: the master is changing ({error.why})") from error

    def _talk(self, talk: Dialogue, op: Any, *, lone: bool, replicas: bool = True) -> Steps:
        cluster = self.cluster
        slot = -1 if cluster is None else slot_of(routed_by(op))
        patient = lone or not divisible(op)
        replica = replicas and self._settings.read_from == "replica" and type(op) in _READS
        pieces = talk.send(None)
        try:
            while True:
                try:
                    if cluster is not None:
                        reply = yield from cluster.route(slot, pieces, lone=lone, patient=patient, replica=replica)
                    else:
                        reply = yield from self._at_home(pieces, replica)
                except Exception as error:  # noqa: BLE001 - the dialogue decides
                    pieces = talk.throw(error)
                else:
                    pieces = talk.send(reply)
        except StopIteration as stop:
            return stop.value

    def _at_home(self, pieces: list[Piece], replica: bool) -> Steps:
        assert self._home is not None
        if replica and self._replica is not None:
            try:
                return (yield Ask(self._replica, pieces))
            except (StoreError, Elsewhere):
                pass  # the master has it, too
        try:
            return (yield Ask(self._home, pieces))
        except Elsewhere as error:
            if not self._home.demoted(error):
                raise
        return (yield Ask(self._home, pieces))


@contextlib.contextmanager
def _asked(node: Node, *, urgent: bool) -> Iterator[None]:
    """One exchange of several that make up an operation: the breaker is asked whether, and told how it went."""
    breaker = node.breaker
    if breaker.reason is not None and not urgent:
        breaker.refuse()
    epoch = breaker.epoch
    try:
        yield
    except (Elsewhere, NoScriptError):
        raise  # whoever asks knows what to do
    except Exception as error:  # noqa: BLE001 - translated
        node.failed(error, epoch, urgent=urgent)
    if breaker.reason is not None and urgent:
        breaker.answered()
