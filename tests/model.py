"""The store as a Python dict with a fake clock: what the Lua scripts mean, said once more and simply."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from redis_memo import _ops as ops
from redis_memo._bounds import Bounds

RESTING = b"resting"
EVICTED = 100


def _tokens(joined: bytes) -> set[bytes]:
    return {joined[at : at + 8] for at in range(0, len(joined), 8)}


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class ModelStore:
    """Performs the core's store operations on dicts."""

    clock: FakeClock
    entries: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    leases: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    tokens: dict[str, bytes] = field(default_factory=dict)  # of the entry
    computing: dict[str, bytes] = field(default_factory=dict)  # of what is being computed
    registries: dict[str, set[str]] = field(default_factory=dict)
    waits: dict[bytes, tuple[bytes, float]] = field(default_factory=dict)
    uses: dict[str, list[str]] = field(default_factory=dict)  # by prefix of a function with bounds: in order of use
    counted: dict[str, dict[str, float]] = field(default_factory=dict)
    keys: dict[str, bytes] = field(default_factory=dict)  # of mappings, in their order
    where: str = "the model"
    generation: int = 0
    embedded_secret: bytes | None = None
    state: str = "closed"

    def _live(self, table: dict[str, tuple[bytes, float]], key: str) -> bytes | None:
        value, until = table.get(key, (None, 0.0))
        return value if until > self.clock() else None

    def perform(self, op: Any) -> Any:
        now = self.clock()
        match op:
            case ops.Read(entry):
                return self._live(self.entries, entry)
            case ops.ReadLeft(entry):
                found = self._live(self.entries, entry)
                return found, 0.0 if found is None else self.entries[entry][1] - now
            case ops.Acquire(place, token, lease, known):
                found = self._live(self.entries, place.entry)
                if found is not None and found != known:
                    return ops.Found(found)
                holder = self._live(self.leases, place.entry)
                if holder == RESTING:
                    if found is not None:
                        return ops.Resting()
                elif holder is not None and holder != token:
                    return ops.Busy(holder, self.leases[place.entry][1] - now)
                return self._take(place, token, lease)
            case ops.Seize(place, token, lease):
                return self._take(place, token, lease)
            case ops.Renew(place, token, lease):
                if self._live(self.leases, place.entry) != token:
                    return False
                self.leases[place.entry] = token, now + lease
                return True
            case ops.Fill(place, token, envelope, ttl, tokens, key):
                if self._live(self.leases, place.entry) != token:
                    return False
                self._put(place, envelope, ttl, tokens, key)
                return self._kept(place, True)
            case ops.Put(place, envelope, ttl, tokens, key):
                first = self._nothing_listed(place.prefix)
                self._put(place, envelope, ttl, tokens, key)
                return self._kept(place, first)
            case ops.Release(place, token, _, rest):
                if self._live(self.leases, place.entry) != token:
                    return False
                if rest > 0 and self._live(self.entries, place.entry) is not None:
                    self.leases[place.entry] = RESTING, now + rest
                else:
                    del self.leases[place.entry]
                if self._live(self.entries, place.entry) is None:
                    self._unlist(place.entry)
                return True
            case ops.Drop(place, known):
                if known is not None and self._live(self.entries, place.entry) != known:
                    return 0
                self._unlist(place.entry)
                self.leases.pop(place.entry, None)
                stood = self._live(self.entries, place.entry) is not None
                self.entries.pop(place.entry, None)
                return int(stood)
            case ops.DropMatching(prefix, tokens, limit):
                wanted = _tokens(tokens)
                matching = []
                for key in sorted({*self.entries, *self.leases}):
                    own = _tokens(self.tokens.get(key, b"")) | _tokens(self.computing.get(key, b""))
                    if key.startswith(prefix) and wanted <= own:
                        matching.append(key)
                gone = 0
                for key in matching[:limit]:
                    gone += self._live(self.entries, key) is not None
                    self.entries.pop(key, None)
                    self.leases.pop(key, None)
                    self._unlist(key)
                return gone, len(matching) > limit
            case ops.Revoke(prefix, token, limit):
                revoked = [
                    key
                    for key in sorted(self.leases)
                    if key.startswith(prefix) and token in _tokens(self.computing.get(key, b""))
                ]
                for key in revoked[:limit]:
                    del self.leases[key]
                    self.computing[key] = b"".join(sorted(_tokens(self.computing[key]) - {token}))
                    if self._live(self.entries, key) is None:
                        self._unlist(key)
                return min(limit, len(revoked)), len(revoked) > limit
            case ops.Count(prefix):
                return sum(key.startswith(prefix) and until > now for key, (_, until) in self.entries.items())
            case ops.Keys(prefix, back=back):
                found = [(entry, key) for entry, key in self.keys.items() if entry.startswith(prefix)]
                rows = [
                    (entry[len(prefix) :], key) for entry, key in found if self._live(self.entries, entry) is not None
                ]
                return "", "", rows[::-1] if back else rows
            case ops.MoveKey(place, last):
                if self._live(self.entries, place.entry) is None:
                    return False
                if place.entry in self.keys:
                    moved = {place.entry: self.keys.pop(place.entry)}
                    self.keys = {**self.keys, **moved} if last else {**moved, **self.keys}
                return True
            case ops.Inspect(place):
                left = [
                    table[place.entry][1] - now if self._live(table, place.entry) not in (None, RESTING) else None
                    for table in (self.entries, self.leases)
                ]
                uses = self._used(place.prefix)
                return ops.Inspected(*left, uses.index(place.entry) if place.entry in uses else None, len(uses))
            case ops.Touch(prefix, bounds, uses, counted):
                sums = self.counted.setdefault(prefix, {})
                for name, amount in counted.items():
                    sums[name] = sums.get(name, 0) + amount
                for digest in uses if bounds else ():
                    if self._live(self.entries, prefix + digest) is not None:
                        self._use(prefix + digest)
                return ops.Kept(True, self._keep_within(prefix, bounds, None), mend=False)
            case ops.Mend(prefix, bounds):
                known = self._used(prefix)
                for key in sorted(self.entries):
                    if key.startswith(prefix) and key not in known and self._live(self.entries, key) is not None:
                        self.uses[prefix] = [key, *self._used(prefix)]
                return ops.Mended(None, self._keep_within(prefix, bounds, None))
            case ops.Usage(prefix):
                uses = self._used(prefix)
                current = self.perform(ops.Count(prefix))
                return ops.Used(current, len(uses), self._size(prefix), None)
            case ops.Trim(prefix, number, size, _):
                gone = freed = 0
                while self._used(prefix) and (gone < number or freed < size):
                    freed += len(self.entries[self._used(prefix)[0]][0])
                    gone += self._evict(prefix, None)
                return ops.Trimmed(gone, gone, freed, None)
            case ops.TakeTurn():
                return True
            case ops.Counted(prefix, forget):
                if forget:
                    self.counted.pop(prefix, None)
                return dict(self.counted.get(prefix, {}))
            case ops.NoteWait(token, awaited):
                self.waits[token] = awaited, now + 3
                return None
            case ops.FollowWait(token):
                awaited, until = self.waits.get(token, (None, 0.0))
                return awaited if until > now else None
            case ops.Enroll(registry, prefix):
                if prefix:
                    self.registries.setdefault(registry, set()).add(prefix)
                return 0, []
            case ops.Strike():
                return False
            case ops.Tidy(prefix):
                return sum(key.startswith(prefix) for key in {*self.entries, *self.leases})
            case ops.Enrolled(registry):
                return sorted(self.registries.get(registry, ()))
        raise TypeError(op)

    async def aperform(self, op: Any) -> Any:
        return self.perform(op)

    def perform_many(self, ops: list[Any]) -> list[Any]:
        return [self.perform(op) for op in ops]

    async def aperform_many(self, ops: list[Any]) -> list[Any]:
        return self.perform_many(ops)

    def read_many(self, entries: list[str]) -> list[Any]:
        return [self.perform(ops.Read(entry)) for entry in entries]

    async def aread_many(self, entries: list[str]) -> list[Any]:
        return self.read_many(entries)

    # Bounds. Entries that were there before the first one with bounds are not known before `Mend`.

    def _used(self, prefix: str) -> list[str]:
        known = self.uses.get(prefix, [])
        return [key for key in known if self._live(self.entries, key) is not None]

    def _use(self, key: str) -> None:
        prefix = key[: key.rindex(":") + 1]
        self.uses[prefix] = [*(each for each in self._used(prefix) if each != key), key]

    def _size(self, prefix: str) -> int:
        return sum(len(self.entries[key][0]) for key in self._used(prefix))

    def _kept(self, place: ops.Place, answer: bool) -> bool | ops.Kept:
        if place.bounds or place.prefix in self.uses:
            self._use(place.entry)
        if not place.bounds:
            return answer
        return ops.Kept(answer, self._keep_within(place.prefix, place.bounds, place.entry), mend=False)

    def _keep_within(self, prefix: str, bounds: Bounds, keep: str | None) -> int:
        gone = 0
        for _ in range(EVICTED):
            number, size = len(self._used(prefix)), self._size(prefix)
            if not (0 < bounds.maxsize < number or 0 < bounds.maxbytes < size):
                break
            went = self._evict(prefix, keep)
            if not went:
                break
            gone += went
        return gone

    def _evict(self, prefix: str, keep: str | None) -> int:
        found = [key for key in self._used(prefix) if key != keep]
        if not found:
            return 0
        del self.entries[found[0]]
        if self._live(self.leases, found[0]) is None:
            self._unlist(found[0])
        return 1

    def _unlist(self, key: str) -> None:
        self.tokens.pop(key, None)
        self.computing.pop(key, None)
        self.keys.pop(key, None)

    def _nothing_listed(self, prefix: str) -> bool:
        return not any(key.startswith(prefix) for key in {*self.entries, *self.leases})

    def _take(self, place: ops.Place, token: bytes, lease: float) -> ops.Leased:
        first = self._nothing_listed(place.prefix)
        self.leases[place.entry] = token, self.clock() + lease
        # What an earlier computation was listed under stays until something is stored: more is revoked, never less.
        self.computing[place.entry] = self.computing.get(place.entry, b"") + place.tokens
        return ops.Leased(first)

    def _put(self, place: ops.Place, envelope: bytes, ttl: float, tokens: bytes, key: bytes) -> None:
        if key:
            if self._live(self.entries, place.entry) is None:
                self.keys.pop(place.entry, None)
            self.keys.setdefault(place.entry, key)
        self.entries[place.entry] = envelope, self.clock() + ttl
        self.tokens[place.entry] = tokens
        self.computing.pop(place.entry, None)
        self.leases.pop(place.entry, None)

    # What a cache asks of a backend besides.

    def locate(self) -> None:
        pass

    def close(self) -> None:
        pass

    @property
    def listener(self) -> ModelStore:
        return self

    @property
    def breaker(self) -> ModelStore:
        return self

    def subscribe(self, _: str) -> ModelSubscription:
        return ModelSubscription()


class ModelSubscription:
    """Tells of something at once, so that a waiter asks again."""

    def __init__(self) -> None:
        self.ready: Future[None] = Future()
        self.ready.set_result(None)
        self.news = self.ready

    def again(self) -> list[bytes]:
        return []

    def close(self) -> None:
        pass
