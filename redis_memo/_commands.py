"""Operations as Redis commands: which script, which keys, what the answer means.

Every key of an operation carries the same hash tag, ``{namespace:function:version#shard}``, so that each is one round
trip and, on a cluster, one slot (see `routed_by`). Scripts lie in ``lua/``; their heads state keys, arguments and
results.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

from redis.exceptions import NoScriptError, ResponseError

from . import _ops as ops
from . import _scripts as lua
from ._bulk import Batch, Piece, Pipeline
from ._envelope import CHUNKS, HEAD, MAGIC, TAG
from ._large import Bytes, Envelope, Large
from .errors import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ._bounds import Bounds

__all__ = ["CONFIRMED", "Entries", "all_confirmed", "confirmed", "dialogue", "packed", "routed_by"]

WAIT_NOTED = 3000  # ms; a waiter repeats its note at each recheck
FORGOTTEN = 3_600_000  # ms without a write after which a function's index is looked after by others
TIDIED_AT_ONCE = 3
STAGED = 300_000  # ms for which a large string waits for what makes it an entry; then its writer is dead
MOST_CHUNKS = 4096
STAMP, PLACE = 16, 56  # where a mapping's row has its digest; as in index.lua
TRIES = 3
LARGE = 1 << 20  # bytes of an argument that are sent as one part, each with its own time limit
COPIED = 1 << 16  # bytes from which they are a part of their own
COUNTED = 30 * 86_400_000  # ms for which the counters of all processes are kept after the last of them told
LOOKED_AT = 1000  # keys, by one run of `mend`

# What nobody would see if it were lost, unlike what these do: a value from before them would be served again (P3).
CONFIRMED = frozenset({ops.Drop, ops.DropMatching, ops.Revoke, ops.Put})

Command: TypeAlias = "tuple[lua.Script | None, tuple[Any, ...], tuple[Any, ...]]"


def _small(envelope: Envelope) -> Bytes:
    """What a script is given: a large envelope waits beside the entry, see `_staged`."""
    return b"" if isinstance(envelope, Large) else envelope


def _identity(known: Envelope | None) -> bytes:
    """What tells an entry from another at its key; as in index.lua."""
    if known is None:
        return b""
    string = known.string if isinstance(known, Large) else known
    return b"%d:%b" % (len(string), bytes(string[: HEAD.size]))


def _index(prefix: str) -> tuple[str, str]:
    return f"{prefix}index", f"{prefix}args"


def _four(place: ops.Place) -> tuple[str, str, str, str]:
    return place.entry, place.lease, *_index(place.prefix)


def _bounds(bounds: Bounds) -> tuple[int, int, str]:
    return bounds.maxsize, bounds.maxbytes, bounds.kind


def _pattern(prefix: str) -> str:
    """What finds the entries by SCAN: a digest behind the prefix, which is taken as it is written."""
    return re.sub(r"([\\\[\]*?^-])", r"\\\1", prefix) + "?" * ops.DIGEST


def _ms(seconds: float) -> int:
    # Rounded down, as an expiry must not be late; Redis refuses 0.
    return max(1, int(seconds * 1000))


def _command(op: object) -> Command:
    """The script (or None for a plain command), keys and arguments of an operation."""
    match op:
        case ops.Acquire(place, token, lease, known):
            return lua.ACQUIRE, _four(place), (token, _ms(lease), place.tokens, _identity(known))
        case ops.Fill(place, token, envelope, ttl, tokens, key):
            return lua.FILL, _four(place), (token, _small(envelope), _ms(ttl), tokens, key, *_bounds(place.bounds))
        case ops.Put(place, envelope, ttl, tokens, key):
            return lua.PUT, _four(place), (_small(envelope), _ms(ttl), tokens, key, *_bounds(place.bounds))
        case ops.Seize(place, token, lease):
            return lua.SEIZE, _four(place), (token, _ms(lease), place.tokens)
        case ops.Release(place, token, note, rest):
            return lua.RELEASE, _four(place), (token, _ms(rest) if rest > 0 else 0, note)
        case ops.Renew(place, token, lease):
            return lua.RENEW, (place.lease,), (token, _ms(lease))
        case ops.Drop(place, known):
            return lua.DROP, _four(place), (_identity(known),)
        case ops.DropMatching(prefix, tokens, limit):
            return lua.DROP_MATCHING, _index(prefix), (prefix, limit, tokens)
        case ops.Revoke(prefix, token, limit):
            return lua.REVOKE, _index(prefix), (prefix, limit, token)
        case ops.Count(prefix):
            return lua.COUNT, (f"{prefix}index",), ()
        case ops.Keys(prefix, limit, after, last, back):
            return lua.KEYS, _index(prefix), (prefix, limit, after, last, int(back))
        case ops.MoveKey(place, at_end):
            return lua.MOVE_KEY, (place.entry, f"{place.prefix}args"), (int(at_end),)
        case ops.Inspect(place):
            return lua.INSPECT, (place.entry, place.lease, f"{place.prefix}index"), ()
        case ops.Touch(prefix, bounds, uses, counted):
            noted = "".join(uses), " ".join(map(str, uses.values())) if bounds.evict == "worth" else ""
            amounts = (part for each in counted.items() for part in each)
            return lua.TOUCH, (*_index(prefix), f"{prefix}stats"), (prefix, *_bounds(bounds), *noted, COUNTED, *amounts)
        case ops.Mend(prefix, bounds, cursor, since):
            return lua.MEND, _index(prefix), (prefix, _pattern(prefix), *_bounds(bounds), cursor, since, LOOKED_AT)
        case ops.Usage(prefix):
            return lua.USAGE, (f"{prefix}index",), ()
        case ops.Trim(prefix, number, size, until):
            return lua.TRIM, _index(prefix), (prefix, number, size, until)
        case ops.TakeTurn(registry, seconds):
            if not seconds:
                return None, (b"UNLINK", f"{registry}:turn"), ()
            return None, (b"SET", f"{registry}:turn", b"1", b"NX", b"PX", _ms(seconds)), ()
        case ops.Counted(prefix, forget):
            return None, (b"UNLINK" if forget else b"HGETALL", f"{prefix}stats"), ()
        case ops.Info():
            return None, (b"INFO",), ()
        case ops.NoteWait(token, awaited):
            return None, (b"SET", _wait_key(token), awaited, b"PX", WAIT_NOTED), ()
        case ops.FollowWait(token):
            return None, (b"GET", _wait_key(token)), ()
        case ops.Enroll(registry, prefix):
            return lua.ENROLL, (registry,), (prefix, FORGOTTEN, TIDIED_AT_ONCE)
        case ops.Enrolled(registry):
            return None, (b"ZRANGE", registry, 0, -1), ()
        case ops.Strike(registry, prefix, moment):
            return lua.STRIKE, (registry,), (prefix, moment)
        case ops.Tidy(prefix):
            return lua.TIDY, _index(prefix), (prefix, 1000)
    raise TypeError(f"not an operation on the store: {type(op).__name__}")


def routed_by(op: Any) -> bytes:
    """A key of the operation; all others of it are in its slot."""
    kind = type(op)
    if kind is ops.Read or kind is ops.ReadLeft or kind is ops.ReadParts:
        key: str = op.entry
    elif kind is ops.NoteWait or kind is ops.FollowWait:
        return _wait_key(op.token)
    elif kind is ops.Enroll or kind is ops.Enrolled or kind is ops.Strike or kind is ops.TakeTurn:
        key = op.registry
    elif kind is ops.Info:
        key = op.key
    else:
        place = getattr(op, "place", None)
        key = op.prefix if place is None else place.prefix
    return key.encode()


def confirmed(
    op: object, replicas: int, seconds: float, flow: Generator[list[Piece], Any, Any] | None = None
) -> Generator[list[Piece], Any, Any]:
    """As `dialogue` (or the ``flow`` given), answered when so many replicas have received what was written (WAIT).

    Raises:
        StoreUnavailable: They had not in that time. What was written stands on the server.
    """
    wait = packed((b"WAIT", replicas, _ms(seconds)))
    flow = flow or dialogue(op)
    have = replicas
    pieces = flow.send(None)
    try:
        while True:
            commands = pieces.commands if isinstance(pieces, Batch) else (pieces,)
            try:
                *replies, acknowledged = yield Batch(*commands, wait)
                have = min(have, acknowledged)
            except Exception as error:  # noqa: BLE001 - the dialogue decides
                pieces = flow.throw(error)
            else:
                pieces = flow.send(replies if isinstance(pieces, Batch) else replies[0])
    except StopIteration as stop:
        if have < replicas:
            raise _unconfirmed(op, have, replicas, seconds) from None
        return stop.value


def all_confirmed(several: list[Any], replicas: int, seconds: float) -> Generator[list[Piece], Any, list[Any]]:
    """As `confirmed`, of several operations in one exchange; of what is not confirmed that error is the answer."""
    wait = packed((b"WAIT", replicas, _ms(seconds)))
    flow = dialogue(several)
    have: Any = replicas
    pieces = flow.send(None)
    try:
        while True:
            *replies, acknowledged = yield Pipeline(pieces, wait)
            if isinstance(have, int):
                have = acknowledged if isinstance(acknowledged, Exception) else min(have, acknowledged)
            pieces = flow.send(replies)
    except StopIteration as stop:
        answers: list[Any] = stop.value
    if have != replicas:
        for number, op in enumerate(several):
            if type(op) in CONFIRMED and not isinstance(answers[number], Exception):
                answers[number] = _unconfirmed(op, have, replicas, seconds) if isinstance(have, int) else have
    return answers


def _unconfirmed(op: object, have: int, replicas: int, seconds: float) -> StoreUnavailable:
    return StoreUnavailable(
        f"{type(op).__name__} was carried out, but {have} of {replicas} replicas (wait=) have it within {seconds:g} s: "
        "after a failover it may be undone. Repeat it"
    )


def _wait_key(token: bytes) -> bytes:
    return b"memo:wait:" + token


def _left(milliseconds: int) -> float | None:
    return None if milliseconds < 0 else milliseconds / 1000


def _result(op: object, reply: Any) -> Any:
    """What an operation's answer means; any other kind of answer is a refusal, and so is one with anything else in it.

    Whoever can write to Redis can put there what no script of ours answers with.
    """
    try:
        return _meaning(op, reply)
    except (AttributeError, TypeError, ValueError) as error:
        raise _refused(type(op)) from error


def _refused(kind: type) -> StoreRefused:
    return StoreRefused(f"{kind.__name__}: the server's answer is not of the expected kind; is it a Redis?")


def _meaning(op: object, reply: Any) -> Any:
    match op, reply:
        case ops.Acquire(), [b"found", bytes(envelope)]:
            return ops.Found(envelope)
        case ((ops.Acquire() | ops.Seize()), [b"leased", int(first)]):
            return ops.Leased(first == 1)
        case ops.Acquire(), [b"busy", bytes(holder), int(left)]:
            return ops.Busy(holder, left / 1000)
        case ((ops.Fill() | ops.Put()), [int(answer), int(evicted), int(mend), int(ever)]):
            return ops.Kept(answer == 1, evicted, mend == 1, ever)
        case ops.Touch(), [int(evicted), int(mend), int(ever)]:
            return ops.Kept(True, evicted, mend == 1, ever)
        case ((ops.Fill() | ops.Put() | ops.Release() | ops.Renew() | ops.Strike() | ops.MoveKey()), int()):
            return reply == 1
        case ((ops.Drop() | ops.Count() | ops.Tidy()), int()):
            return reply
        case ops.Acquire(), [b"resting"]:
            return ops.Resting()
        case ((ops.DropMatching() | ops.Revoke()), [int(gone), int(more)]):
            return gone, more == 1
        case ops.Inspect(), [int(entry), int(lease), int(before), int(entries)]:
            return ops.Inspected(_left(entry), _left(lease), None if before < 0 else before, entries)
        case ops.Mend(), [bytes(cursor), bytes(since), int(evicted)]:
            return ops.Mended(None if cursor == b"0" else op._replace(cursor=cursor, since=since), evicted)
        case ops.Usage(), [int(current), int(entries), int(size), int(oldest)]:
            return ops.Used(current, None if entries < 0 else entries, max(size, 0), None if oldest < 0 else oldest)
        case ops.Trim(), [int(evicted), int(entries), int(size), int(oldest)]:
            return ops.Trimmed(evicted, entries, size, None if oldest < 0 else oldest)
        case ops.TakeTurn(), bytes() | int() | None:
            return reply is not None
        case ops.Counted(forget=True), int():
            return {}
        case ops.Counted(), list():
            return {name.decode(): float(amount) for name, amount in zip(reply[::2], reply[1::2], strict=True)}
        case ops.Keys(), [bytes(after), bytes(last), list(rows)]:
            return after.decode(), last.decode(), [(row[STAMP:PLACE].decode(), row[PLACE:]) for row in rows]
        case ops.Enroll(), [int(moment), list(prefixes)]:
            return moment, [each.decode() for each in prefixes]
        case ops.Enrolled(), list():
            return sorted(each.decode() for each in reply)
        case ops.Info(), bytes():
            lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
            return {name: value for name, colon, value in lines if colon}
        case ops.NoteWait(), _:
            return None
        case ops.FollowWait(), bytes() | None:
            return reply
        case ops.ReadParts(), list() if all(isinstance(part, (bytes, memoryview)) for part in reply):
            return reply
    raise TypeError


def dialogue(op: object) -> Generator[list[Piece], Any, Any]:
    """What is sent for an operation (or a list of them), and again where the server does not know the script."""
    if type(op) is ops.Read:  # every hit comes through here
        key = op.entry.encode()
        reply = yield _get(key)
        if reply is None or type(reply) is bytes or type(reply) is memoryview:
            return reply if reply is None or reply[CHUNKS] == NO_CHUNKS else (yield from _whole(key, reply))
        return _result(op, reply)
    if type(op) is Entries:  # and hundreds together through here
        return (yield from _fetched(op))
    if isinstance(op, list):
        return (yield from _side_by_side(op))
    if isinstance(op, ops.ReadLeft):
        key = op.entry.encode()
        reply, left = yield Batch(_get(key), packed((b"PTTL", key)))
        if (reply is None or isinstance(reply, (bytes, memoryview))) and isinstance(left, int):
            if reply is not None and reply[CHUNKS] != NO_CHUNKS:
                reply = yield from _whole(key, reply)
            # -1 is an entry without an expiry, which is none of ours; -2 is one that went between the two commands.
            return reply, max(left, 0) / 1000
        return _result(op, reply)
    if isinstance(op, ops.ReadParts):
        return _result(op, (yield Batch(*(_part(op, *span) for span in op.spans))))
    script, keys, args = _command(op)
    if script is None:
        return _result(op, (yield packed(keys)))
    if isinstance(op, (ops.Fill, ops.Put)) and isinstance(op.envelope, Large):
        return _result(op, (yield from _staged(op.place.entry, op.envelope, script, keys, args)))
    reply = yield from _scripted(script, keys, args)
    if type(op) is not ops.Acquire:
        return _result(op, reply)
    found: Envelope | None
    match reply:
        case [b"stored"]:
            # A large entry is not sent through a script, which would copy it.
            found = yield from dialogue(ops.Read(op.place.entry))
        case [b"found", bytes(string)] if not _entire(string):
            # Of a value in chunks that is the least part, however small.
            found = yield from _whole(op.place.entry.encode(), string)
        case _:
            return _result(op, reply)
    return (yield from dialogue(op)) if found is None else ops.Found(found)


class Entries(list[str]):
    """Keys of entries, to be read as by as many `_ops.Read`."""


def _fetched(entries: Entries) -> Generator[list[Piece], Any, list[Any]]:
    results: list[Any] = yield Pipeline.of([_get(entry.encode())[0] for entry in entries])
    # What is no entry, or not all of it, takes the longer way from its beginning.
    odd = [number for number, reply in enumerate(results) if reply is not None and not _entire(reply)]
    if odd:
        read = yield from _side_by_side([ops.Read(entries[number]) for number in odd])
        for number, answer in zip(odd, read, strict=True):
            results[number] = answer
    return results


def _side_by_side(several: list[Any]) -> Generator[list[Piece], Any, list[Any]]:
    """The dialogues of several operations side by side: one exchange for the first command of each, one for the second.

    Returns what each operation is answered, an exception where it was refused. They are sent in the order given.
    """
    results: list[Any] = [None] * len(several)
    talks: dict[int, Generator[list[Piece], Any, Any]] = {}
    said: dict[int, list[Piece]] = {}
    for number, op in enumerate(several):
        if type(op) is ops.Read:
            said[number] = _get(op.entry.encode())
        else:
            talks[number] = dialogue(op)
            said[number] = talks[number].send(None)
    while said:
        replies = iter((yield Pipeline(*said.values())))
        asked, said = said, {}
        loading: set[type] = set()
        for number, pieces in asked.items():
            talk = talks.get(number)
            if type(pieces) is Batch:
                reply: Any = [next(replies) for _ in range(pieces.replies)]
                error = next((each for each in reply if isinstance(each, ResponseError)), None)
            else:
                reply = next(replies)
                if talk is None and (reply is None or _entire(reply)):
                    results[number] = reply
                    continue
                error = reply if isinstance(reply, ResponseError) else None
                if type(error) is NoScriptError:
                    if type(several[number]) in loading:
                        said[number] = pieces  # sent again behind the one that brings the script along
                        continue
                    loading.add(type(several[number]))
            if talk is None:
                talk = talks[number] = dialogue(several[number])
                talk.send(None)
            try:
                said[number] = talk.send(reply) if error is None else talk.throw(error)
            except StopIteration as stop:
                results[number] = stop.value
            except (ResponseError, StoreRefused) as refused:
                results[number] = refused
    return results


NO_CHUNKS = bytes(4)


def _entire(reply: object) -> bool:
    """Whether it is an entry without chunks beside it."""
    return (type(reply) is bytes or type(reply) is memoryview) and reply[CHUNKS] == NO_CHUNKS


def _get(key: bytes) -> list[Piece]:
    return [b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)]


def _part(op: ops.ReadParts, chunk: int | None, start: int, stop: int) -> list[Piece]:
    key = op.entry.encode() if chunk is None else _chunk(op.entry.encode(), op.start, chunk)
    return packed((b"GETRANGE", key, start, stop - 1))


def _scripted(script: lua.Script, keys: tuple[Any, ...], args: tuple[Any, ...]) -> Generator[list[Piece], Any, Any]:
    tail = (len(keys), *keys, *args)
    try:
        return (yield packed((b"EVALSHA", script.sha, *tail)))
    except NoScriptError:
        return (yield packed((b"EVAL", script.text, *tail)))


def _chunk(entry: bytes, string: Bytes, number: int) -> bytes:
    """Where a chunk of an entry lies; as in index.lua."""
    return b"%b:%b:%d" % (entry, string[TAG].hex().encode(), number)


def _whole(entry: bytes, string: bytes | memoryview | None) -> Generator[list[Piece], Any, Envelope | None]:
    """An entry with the chunks beside it. One that is replaced meanwhile is read anew."""
    for _ in range(TRIES):
        if string is None or string[:4] != MAGIC:
            return string
        count = int.from_bytes(string[CHUNKS], "little")
        chunks: list[tuple[Bytes, ...]] = []
        while len(chunks) < count <= MOST_CHUNKS:
            chunk = yield _get(_chunk(entry, string, len(chunks)))
            if not isinstance(chunk, (bytes, memoryview)):
                break
            chunks.append((chunk,))
        else:
            return Large((string,), chunks) if count else string
        again = yield _get(entry)
        if again is not None and not isinstance(again, (bytes, memoryview)):
            raise _refused(ops.Read)
        if again == string:
            break
        string = again
    return None if string is None else Large((string,))  # unreadable without its chunks


def _staged(
    entry: str, envelope: Large, script: lua.Script, keys: tuple[Any, ...], args: tuple[Any, ...]
) -> Generator[list[Piece], Any, Any]:
    """Store what is large: it waits beside the entry until a script gives it the entry's name, if the fence lets it.

    A script would copy it, and hold up the server for that; a new name costs nothing.
    """
    head = envelope.pieces[0]
    for number, chunk in enumerate(envelope.chunks):
        yield packed((b"SET", _chunk(entry.encode(), head, number), chunk, b"PX", STAGED))
    waiting = _chunk(entry.encode(), head, -1)
    tail = (len(keys) + 1, *keys, waiting, *args)
    place = packed((b"SET", waiting, envelope.pieces, b"PX", STAGED))
    try:
        return (yield Batch(place, packed((b"EVALSHA", script.sha, *tail))))[1]
    except NoScriptError:
        return (yield packed((b"EVAL", script.text, *tail)))


def _bytes(part: object) -> Bytes:
    if type(part) is str:
        return part.encode()
    return part if isinstance(part, (bytes, bytearray, memoryview)) else str(part).encode()


def packed(args: Sequence[object]) -> list[Piece]:
    """The command in Redis' protocol; what is large in it is not copied but sent in parts.

    An argument that is a tuple is what its parts are together.
    """
    pieces: list[Piece] = []
    small: list[Bytes] = [b"*%d\r\n" % len(args)]
    for arg in args:
        word = arg if type(arg) is bytes or type(arg) is tuple else _bytes(arg)
        if type(word) is bytes and len(word) < COPIED:  # what nearly all are
            small.append(b"$%d\r\n%b\r\n" % (len(word), word))
            continue
        parts = word if isinstance(word, tuple) else (word,)
        small.append(b"$%d\r\n" % sum(map(len, parts)))
        for part in parts:
            if len(part) < COPIED:
                small.append(part)
            else:
                pieces.append(b"".join(small))
                view = memoryview(part)
                pieces += [view[at : at + LARGE] for at in range(0, len(part), LARGE)]
                small = []
        small.append(b"\r\n")
    return [*pieces, b"".join(small)]
