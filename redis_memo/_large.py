"""An envelope, as it goes to the store and comes from it: one string, or what is too large for one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Bytes", "Envelope", "Large"]

Bytes: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Large:
    """An envelope that is not one string in one piece.

    It is in one of three states. Sealed here, its pieces share the value's own memory, and are good only until the
    caller has its value. Settled, it shares memory with nobody and may be opened by many. Read from the store, it is
    one reader's, and emptied while that reads, so that the value grows as the bytes it comes from shrink.

    Attributes:
        pieces: What makes up the string at the entry's key.
        chunks: The strings beside it, in pieces too.
        settled: See above.
    """

    pieces: tuple[Bytes, ...]
    chunks: list[tuple[Bytes, ...]] = field(default_factory=list)
    settled: bool = False

    def settle(self) -> Large:
        """A copy that shares no memory with the value."""
        if self.settled:
            return self
        return Large((b"".join(self.pieces),), [(b"".join(chunk),) for chunk in self.chunks], settled=True)

    def take_chunks(self) -> list[Bytes]:
        """The chunks, in one piece each; nobody else's any more where only one reader has them."""
        found = [chunk[0] if len(chunk) == 1 else b"".join(chunk) for chunk in self.chunks]
        if not self.settled:
            self.chunks.clear()
        return found

    @property
    def string(self) -> Bytes:
        """What is stored at the entry's key."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)

    @property
    def size(self) -> int:
        """Bytes of the string at the entry's key."""
        return sum(map(len, self.pieces))

    def __len__(self) -> int:
        return self.size + sum(len(piece) for chunk in self.chunks for piece in chunk)


Envelope: TypeAlias = bytes | memoryview | Large
