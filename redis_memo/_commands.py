"""Operations as Redis commands: which script, which keys, what the answer means.

Every key of an operation carries the same hash tag, ``{namespace:function:version#shard}``, so that each is
one round trip and, on a cluster, one slot. Scripts lie in ``lua/``; their heads state keys, arguments and results.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeAlias

from redis.exceptions import NoScriptError

from . import _ops as ops
from .errors import StoreRefused

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

__all__ = ["LARGE", "Piece", "dialogue"]

Piece: TypeAlias = bytes | memoryview

WAIT_NOTED = 3000  # ms; a waiter repeats its note at each recheck
FORGOTTEN = 3_600_000  # ms without a write after which a function's index is looked after by others
TIDIED_AT_ONCE = 3
HEAD = 60  # bytes of an envelope that tell it from others
LARGE = 1 << 20  # bytes from which an argument is sent in parts, each with its own time limit


class Script:
    """One Lua script: its text with the prelude where it needs it, and the name the server knows it by."""

    def __init__(self, name: str, *, prelude: bool = True) -> None:
        folder = resources.files(__package__) / "lua"
        text = (folder / f"{name}.lua").read_text()
        if prelude:
            text = (folder / "index.lua").read_text() + text
        self.text = text.encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


ACQUIRE, SEIZE, FILL, PUT, RELEASE = (Script(name) for name in ("acquire", "seize", "fill", "put", "release"))
DROP, DROP_MATCHING, REVOKE = (Script(name) for name in ("drop", "dropmatching", "revoke"))
COUNT, TIDY, INSPECT = (Script(name) for name in ("count", "tidy", "inspect"))
RENEW, ENROLL, STRIKE = (Script(name, prelude=False) for name in ("renew", "enroll", "strike"))

Command: TypeAlias = "tuple[Script | None, tuple[Any, ...], tuple[Any, ...]]"


def _four(place: ops.Place) -> tuple[str, str, str, str]:
    return place.entry, place.lease, f"{place.prefix}index", f"{place.prefix}args"


def _ms(seconds: float) -> int:
    # Rounded down, as an expiry must not be late; Redis refuses 0.
    return max(1, int(seconds * 1000))


def _command(op: object) -> Command:
    """The script (or None for a plain command), keys and arguments of an operation."""
    match op:
        case ops.Acquire(place, token, lease, known):
            told = b"" if known is None else b"%d:%b" % (len(known), known[:HEAD])
            return ACQUIRE, _four(place), (token, _ms(lease), place.tokens, told)
        case ops.Fill(place, token, envelope, ttl, tokens):
            return FILL, _four(place), (token, envelope, _ms(ttl), tokens)
        case ops.Put(place, envelope, ttl, tokens):
            return PUT, _four(place), (envelope, _ms(ttl), tokens)
        case ops.Seize(place, token, lease):
            return SEIZE, _four(place), (token, _ms(lease), place.tokens)
        case ops.Release(place, token, note, rest):
            return RELEASE, _four(place), (token, _ms(rest) if rest > 0 else 0, note)
        case ops.Renew(place, token, lease):
            return RENEW, (place.lease,), (token, _ms(lease))
        case ops.Drop(place):
            return DROP, _four(place), ()
        case ops.DropMatching(prefix, tokens, limit):
            return DROP_MATCHING, (f"{prefix}index", f"{prefix}args"), (prefix, limit, tokens)
        case ops.Revoke(prefix, token, limit):
            return REVOKE, (f"{prefix}index", f"{prefix}args"), (prefix, limit, token)
        case ops.Count(prefix):
            return COUNT, (f"{prefix}index",), ()
        case ops.Inspect(place):
            return INSPECT, (place.entry, place.lease), ()
        case ops.NoteWait(token, awaited):
            return None, (b"SET", _wait_key(token), awaited, b"PX", WAIT_NOTED), ()
        case ops.FollowWait(token):
            return None, (b"GET", _wait_key(token)), ()
        case ops.Enroll(registry, prefix):
            return ENROLL, (registry,), (prefix, FORGOTTEN, TIDIED_AT_ONCE)
        case ops.Enrolled(registry):
            return None, (b"ZRANGE", registry, 0, -1), ()
        case ops.Strike(registry, prefix, moment):
            return STRIKE, (registry,), (prefix, moment)
        case ops.Tidy(prefix):
            return TIDY, (f"{prefix}index", f"{prefix}args"), (prefix, 1000)
    raise TypeError(f"not an operation on the store: {type(op).__name__}")


def _wait_key(token: bytes) -> bytes:
    return b"memo:wait:" + token


def _left(milliseconds: int) -> float | None:
    return None if milliseconds < 0 else milliseconds / 1000


def _result(op: object, reply: Any) -> Any:
    """What an operation's answer means; any other kind of answer is a refusal."""
    match op, reply:
        case ops.Acquire(), [b"found", bytes(envelope)]:
            return ops.Found(envelope)
        case (ops.Acquire() | ops.Seize()), [b"leased", int(first)]:
            return ops.Leased(first == 1)
        case ops.Acquire(), [b"busy", bytes(holder), int(left)]:
            return ops.Busy(holder, left / 1000)
        case (ops.Fill() | ops.Put() | ops.Release() | ops.Renew() | ops.Strike()), int():
            return reply == 1
        case (ops.Drop() | ops.Count() | ops.Tidy()), int():
            return reply
        case ops.Acquire(), [b"resting"]:
            return ops.Resting()
        case (ops.DropMatching() | ops.Revoke()), [int(gone), int(more)]:
            return gone, more == 1
        case ops.Inspect(), [int(entry), int(lease)]:
            return ops.Inspected(_left(entry), _left(lease))
        case ops.Enroll(), [int(moment), list(prefixes)]:
            return moment, [each.decode() for each in prefixes]
        case ops.Enrolled(), list():
            return sorted(each.decode() for each in reply)
        case ops.NoteWait(), _:
            return None
        case ops.FollowWait(), bytes() | None:
            return reply
    raise StoreRefused(f"{type(op).__name__}: the server's answer is not of the expected kind; is it a Redis?")


def dialogue(op: object) -> Generator[list[Piece], Any, Any]:
    """What is sent for an operation, and what is sent again where the server does not know the script."""
    if type(op) is ops.Read:  # every hit comes through here
        key = op.entry.encode()
        reply = yield [b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)]
        if reply is None or type(reply) is bytes:
            return reply
        return _result(op, reply)
    script, keys, args = _command(op)
    if script is None:
        return _result(op, (yield _packed(keys)))
    tail = (len(keys), *keys, *args)
    try:
        reply = yield _packed((b"EVALSHA", script.sha, *tail))
    except NoScriptError:
        reply = yield _packed((b"EVAL", script.text, *tail))
    return _result(op, reply)


def _bytes(part: object) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()


def _packed(args: Sequence[object]) -> list[Piece]:
    """The command in Redis' protocol; a large argument is not copied but sent in parts."""
    pieces: list[Piece] = []
    small = [b"*%d\r\n" % len(args)]
    for arg in map(_bytes, args):
        small.append(b"$%d\r\n" % len(arg))
        if len(arg) < LARGE:
            small += (arg, b"\r\n")
        else:
            pieces.append(b"".join(small))
            view = memoryview(arg)
            pieces += [view[at : at + LARGE] for at in range(0, len(arg), LARGE)]
            small = [b"\r\n"]
    return [*pieces, b"".join(small)]
