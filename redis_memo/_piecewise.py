"""Invalidation while a slot of a cluster moves: command by command of one key each, instead of by a script.

A script of several keys is not carried out while its keys lie on two nodes. One key is always in one place: the node
that the slot leaves has it, or says that it has gone. In this order nothing escapes (P3): an invalidated call's lease
goes before its entry, so that nothing computed earlier can be stored in between. What the index lists of it is left to
the writes that sweep; those who wait are not woken, but ask again within a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from . import _ops as ops
from ._commands import packed

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._bulk import Piece

__all__ = ["divisible", "piecewise"]

Dialogue: TypeAlias = "Generator[list[Piece], Any, Any]"

TOKEN = 8  # bytes; as in index.lua


def divisible(op: object) -> bool:
    """Whether an operation can be carried out in pieces."""
    # One call's entry that is dropped only if it is the known one could be another by the next command.
    return type(op) in (ops.DropMatching, ops.Revoke) or (isinstance(op, ops.Drop) and op.known is None)


def piecewise(op: object) -> Dialogue:
    """What is sent for an invalidation; its answer is that of the script."""
    match op:
        case ops.Drop(place):
            return (yield from _drop(place.entry))
        case ops.DropMatching(prefix, tokens, _):
            gone = 0
            for digest in (yield from _matching(prefix, tokens)):
                gone += yield from _drop(prefix + digest)
            return gone, False
        case ops.Revoke(prefix, token, _):
            gone = 0
            for digest in (yield from _with(prefix, token)):
                gone += yield packed((b"DEL", f"{prefix}{digest}:lease"))
            return gone, False
    raise TypeError(f"not an invalidation: {type(op).__name__}")


def _drop(entry: str) -> Dialogue:
    yield packed((b"DEL", f"{entry}:lease"))
    return (yield packed((b"UNLINK", entry)))


def _matching(prefix: str, tokens: bytes) -> Dialogue:
    if not tokens:
        listed = yield packed((b"ZRANGE", f"{prefix}index", 0, -1))
        return sorted(digest.decode() for digest in listed)
    found: set[str] | None = None
    for at in range(0, len(tokens), TOKEN):
        these = yield from _with(prefix, tokens[at : at + TOKEN])
        found = these if found is None else found & these
    return sorted(found or ())


def _with(prefix: str, token: bytes) -> Dialogue:
    row = b"t" + token
    listed = yield packed((b"ZRANGEBYLEX", f"{prefix}args", b"[" + row, b"(" + row + b"\xff"))
    return {member[-ops.DIGEST :].decode() for member in listed}
