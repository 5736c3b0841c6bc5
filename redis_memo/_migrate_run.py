"""A migration: a plan that touches nothing, and its execution, which can be killed at any moment and goes on.

Per item: opened and sealed; what stood at its key and what will stand there are noted in the manifest; stored; read
back as the function would read it, and compared with what the source holds; the source looked at once more; noted as
verified. Items go in batches, so that a batch shares the two waits for the disk.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from . import _clock as clock
from . import _entries as entries
from . import _ops as ops
from ._config import redacted
from ._handle import MISSING
from ._identity import registry
from ._migrate_fields import Unfit
from ._migrate_journal import packed
from ._migrate_plan import Outcome, Ready, difference, prepare, same, tag_of
from .errors import ConfigurationError, StoreError, UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ._engine import Engine
    from ._large import Envelope
    from ._migrate_calls import Target
    from ._migrate_items import Item
    from ._migrate_journal import Journal
    from ._migrate_rules import Rules
    from ._migrate_sources import Source

__all__ = ["GOOD", "Report", "migrate", "patiently", "read_entry"]

GOOD: Final = frozenset({"ready", "migrated", "present", "done"})
_LEFT: Final = frozenset({"stale", "superseded", "skipped"})
BATCH: Final = 32
BATCH_BYTES: Final = 64 << 20


@dataclass(slots=True)
class Report:
    """What a migration did, or a dry run would do.

    Attributes:
        outcomes: One for each item, and for each thing in the source that is none.
        compared: How many items were compared with what the function returns.
        equal: How many of them are equal to it.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    compared: int = 0
    equal: int = 0

    def count(self, *states: str) -> int:
        """How many items are in one of these states."""
        return sum(outcome.state in states for outcome in self.outcomes)

    @property
    def failed(self) -> list[Outcome]:
        """What could not be migrated, and was to be."""
        return [each for each in self.outcomes if each.state not in GOOD and each.state not in _LEFT]


@dataclass(frozen=True, slots=True)
class _Step:
    """An item on its way: what stands at its key now."""

    ready: Ready
    there: Envelope | None
    left: float = 0.0
    ours: bool = False
    equal: bool = False


def migrate(
    source: Source,
    target: Target,
    rules: Rules,
    journal: Journal | None,
    *,
    trust: bool = False,
    workers: int = 4,
    check: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    dry: bool | None = None,
) -> Report:
    """Migrate the items of a source; with no journal, only say what would be done.

    Args:
        source: What `find` found.
        target: The function that is to hit.
        rules: The mapping.
        journal: The manifest.
        trust: Open pickles.
        workers: Threads that open, store and verify.
        check: For so many items the function itself is run, and its result compared.
        progress: Told how many items of how many are done.
        dry: Store nothing; left out: where there is no manifest.

    Returns:
        What became of each item.

    Raises:
        ConfigurationError: The mapping does not fit the function, or the manifest is another migration's.
        StoreError: Redis cannot be asked.
    """
    if clock.moment() is not None:
        raise ConfigurationError("a migration within as_of() would store for that moment only: call it outside")
    target.checked(rules)
    target.memo.lifetime()
    engine, memo = target.memo.engine, target.memo
    listed = engine.run(_only(ops.Enrolled(registry(memo.namespace))))
    if journal is not None:
        journal.begin({
            "function": target.shown, "source": str(source.folder or source.shown), "kind": source.kind,
            "prefix": memo.prefix, "server": redacted(engine.settings.url), "registered": memo.prefix in listed,
            "unregistered": [prefix for prefix in memo.prefixes if prefix not in listed], "at": clock.now(),
        })  # fmt: skip
    report = Report([Outcome(name, "failed", why) for name, why in source.problems])
    checks = _Checks(check)
    report.outcomes += _adopt(
        source.items,
        target,
        rules,
        journal,
        trust=trust,
        workers=workers,
        checks=checks,
        progress=progress,
        dry=journal is None if dry is None else dry,
    )
    report.compared, report.equal = check - checks.left, checks.equal
    return report


def _adopt(
    items: Iterable[Item],
    target: Target,
    rules: Rules,
    journal: Journal | None,
    *,
    trust: bool,
    workers: int,
    checks: _Checks,
    progress: Callable[[int, int], None],
    dry: bool,
) -> Iterator[Outcome]:
    # The newest first: where two items answer one call, the other one finds that there is a newer result.
    waiting = sorted(items, key=lambda item: (-(item.created or clock.now()), item.name))
    total, done = len(waiting), 0
    keys: dict[str, str] = {}
    if journal is not None:
        here = {item.name for item in waiting}
        keys = {record["key"]: name for name, record in journal.past.verified.items() if name in here}
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="redis-memo-migrate") as pool:
        run = _Run(target, rules, journal, trust, dry, keys, pool, checks)
        for batch in _batches(waiting):
            yield from _batch(batch, run)
            done += len(batch)
            progress(done, total)


@dataclass(slots=True)
class _Checks:
    """How many items are still to be compared with what the function returns, and how many were equal to it."""

    left: int
    equal: int = 0


@dataclass(frozen=True, slots=True)
class _Run:
    target: Target
    rules: Rules
    journal: Journal | None
    trust: bool
    dry: bool
    keys: dict[str, str]
    pool: ThreadPoolExecutor
    checks: _Checks


def _batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Items together, up to some number and some bytes: all values of a batch are in memory at once."""
    batch: list[Item] = []
    size = 0
    for item in items:
        held = 0
        if item.glance is not None:
            with contextlib.suppress(OSError):
                held, _ = item.glance()
        if batch and (len(batch) == BATCH or size + held > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += held
    if batch:
        yield batch


def _batch(items: Sequence[Item], run: _Run) -> Iterator[Outcome]:
    opened = list(run.pool.map(lambda item: _open(item, run), items))
    chosen: list[Ready] = []
    for found in opened:
        if isinstance(found, Outcome):
            yield found
            continue
        holder = run.keys.setdefault(found.call.entry, found.item.name)
        if holder != found.item.name:
            yield found.outcome("superseded", f"answers the same call as {holder}, which is newer")
            continue
        if run.checks.left > 0:
            run.checks.left -= 1
            differs = difference(found, run.target)
            if differs:
                yield found.outcome("failed", f"is not what the function returns: {differs}")
                continue
            run.checks.equal += 1
        chosen.append(found)
    if run.dry:
        for ready in chosen:
            found_there = _look(ready, run)
            if isinstance(found_there, Outcome):
                yield found_there
            else:
                yield ready.outcome("present" if found_there.equal else "ready")
        return
    steps: list[_Step] = []
    for looked in run.pool.map(lambda ready: _look(ready, run), chosen):
        if isinstance(looked, Outcome):
            yield looked
        else:
            steps.append(looked)
    if run.journal is not None:
        run.journal.note(_writing(step, run.journal) for step in steps if not step.equal)
    finished = list(run.pool.map(lambda step: _store(step, run), steps))
    if run.journal is not None:
        run.journal.note(
            _verified(step, outcome)
            for step, outcome in zip(steps, finished, strict=True)
            if outcome.state in ("migrated", "present")
        )
    yield from finished


def _open(item: Item, run: _Run) -> Ready | Outcome:
    record = None if run.journal is None else run.journal.past.verified.get(item.name)
    if record is not None and _unchanged(item, record):
        return Outcome(item.name, "done", "", record["key"], record["size"], record["created"])
    return prepare(item, run.target, run.rules, clock.now(), trust=run.trust)


def _unchanged(item: Item, record: Mapping[str, Any]) -> bool:
    """Whether an item is what an earlier run verified; by a glance where that is enough, as make and rsync do."""
    try:
        if item.glance is not None:
            return list(item.glance()) == [record["bytes"], record["changed"]]
        return item.read().mark.digest == str(record["digest"])
    except (Unfit, OSError):
        return False


def _look(ready: Ready, run: _Run) -> _Step | Outcome:
    """What stands at an item's key: nothing, this very value, or something older that it may replace."""
    engine = run.target.memo.engine
    try:
        there, left = read_entry(engine, ready.place)
        if there is None:
            return _Step(ready, None)
        written = None if run.journal is None else run.journal.past.written.get(ready.call.entry)
        ours = written is not None and tag_of(there) in written.tags
        if _equal(ready, run):
            return _Step(ready, there, left, ours=ours, equal=True)
        try:
            made = engine.sealer.open(ready.call.entry, there).stamp.created
        except UnreadableEntry:
            made = None  # a miss to whoever reads it
    except StoreError as error:
        return ready.outcome("failed", f"Redis: {error}")
    if made is not None and made > ready.created and not ours:
        return ready.outcome("newer", "Redis has a newer result of this call, which stays")
    return _Step(ready, there, left, ours=ours)


def read_entry(engine: Engine, place: ops.Place) -> tuple[Envelope | None, float]:
    """What stands at a key, and how many seconds it has left."""
    there = engine.run(_only(ops.Read(place.entry)))
    if there is None:
        return None, 0.0
    there = there.settle() if hasattr(there, "settle") else bytes(there)
    inspected = engine.run(_only(ops.Inspect(place)))
    return there, inspected.entry_ttl or 0.0


def _only(op: ops.Op) -> ops.Flow:
    return (yield op)


def _equal(ready: Ready, run: _Run) -> bool:
    """Whether the function is served the item's value."""
    value: object = run.target.memo.engine.run(entries.peek(ready.call, ready.call.entry, MISSING))
    return value is not MISSING and same(ready.value, value)


def _writing(step: _Step, journal: Journal) -> dict[str, Any]:
    ready = step.ready
    known = journal.past.written.get(ready.call.entry)
    first = known is None  # what stood there before this migration, not what it put there itself
    return {
        "what": "writing", "item": ready.item.name, "key": ready.call.entry, "tag": tag_of(ready.sealed.envelope),
        "tokens": ready.sealed.tokens.hex(), "before": packed(step.there) if first else None,
        "expires": clock.now() + step.left if first else 0.0,
    }  # fmt: skip


def _verified(step: _Step, outcome: Outcome) -> dict[str, Any]:
    mark = step.ready.mark
    return {
        "what": "verified", "item": outcome.item, "key": outcome.key, "size": outcome.size, "created": outcome.created,
        "digest": mark.digest, "bytes": mark.size, "changed": mark.changed,
        "files": [str(path) for path in step.ready.item.files],
    }  # fmt: skip


def _store(step: _Step, run: _Run) -> Outcome:
    """Store, read back, compare; and see that the source is still what was read."""
    ready, memo = step.ready, run.target.memo
    if step.equal:
        changed = _changed(ready)
        return ready.outcome("failed", changed) if changed else ready.outcome("migrated" if step.ours else "present")
    try:
        stored = patiently(
            memo.engine,
            memo.namespace,
            lambda: entries.adopt(ready.place, ready.call.lease, ready.sealed, ready.until, step.there),
        )
        if stored is not True:
            why = "its call is being computed, or was stored or invalidated meanwhile: run it once more"
            return ready.outcome("failed", why)
        ready.call.stored(ready.sealed)
        if not _equal(ready, run):
            _take_back(ready, run)
            return ready.outcome("failed", "what was read back from Redis is not equal to it")
        changed = _changed(ready)
        if changed:
            _take_back(ready, run)
            return ready.outcome("failed", changed)
    except StoreError as error:
        return ready.outcome("failed", f"Redis: {error}")
    return ready.outcome("migrated")


def _changed(ready: Ready) -> str:
    try:
        return "" if ready.item.read().mark == ready.mark else "has changed while it was migrated: run it once more"
    except Unfit as error:
        return f"{error} while it was migrated"
    except OSError as error:
        return f"cannot be read any more: {error.strerror}"


def _take_back(ready: Ready, run: _Run) -> None:
    """Delete what was stored for an item that is not what it was."""
    engine = run.target.memo.engine
    there, _ = read_entry(engine, ready.place)
    if there is not None and tag_of(there) == tag_of(ready.sealed.envelope):
        flow = partial(entries.withdraw, ready.place, ready.call.lease, there)
        patiently(engine, run.target.memo.namespace, flow)


def patiently(engine: Engine, namespace: str, flow: Callable[[], ops.Flow]) -> Any:
    """What a flow returns; again and again while a lease stands, which a process that was killed may have left."""
    end = time.monotonic() + engine.settings.lease + 1.0
    while True:
        answer = engine.run(flow(), None, namespace)
        if not isinstance(answer, ops.Busy) or time.monotonic() >= end:
            return answer
        time.sleep(min(max(answer.seconds, 0.01), 0.25))
