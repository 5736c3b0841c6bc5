"""What a function raised, sealed for those who wait for it in other processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ._codecs import dumps, loads
from ._envelope import Stamp
from ._ops import FAILED
from .errors import UnreadableEntry, UnsupportedType

if TYPE_CHECKING:
    from ._envelope import Sealer

__all__ = ["seal_failure", "unseal_failure"]

LARGEST = 64 * 1024  # bytes


def seal_failure(sealer: Sealer, entry: str, error: Exception) -> bytes:
    """What the function raised, sealed like a value under the entry's key; empty where it cannot be carried."""
    try:
        # A copy without its traceback, which would keep every frame's variables.
        payload = dumps(error, allow_pickle=sealer.may_pickle)
        stamp = Stamp(time.time(), 0.0, 0.0, 0.0)
        note, _ = sealer.seal(
            entry + FAILED.decode(), payload.meta, payload.buffers, pickled=payload.pickled, stamp=stamp
        )
    except (UnsupportedType, MemoryError, RecursionError):
        return b""
    return note if isinstance(note, bytes) and len(note) <= LARGEST else b""


def unseal_failure(sealer: Sealer, entry: str, note: bytes) -> Exception | None:
    """What the function raised elsewhere, or None where that cannot be told."""
    try:
        opened = sealer.open(entry + FAILED.decode(), note)
        error = loads(opened.meta, opened.buffers, trusted=opened.trusted)
    except UnreadableEntry:
        return None
    return error if isinstance(error, Exception) else None
