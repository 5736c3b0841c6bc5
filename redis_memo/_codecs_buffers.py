"""The buffers of a value: here, lying apart, still compressed, or not fetched yet."""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Awaited", "Buffer", "Joined", "Needs", "Scattered", "Source", "Strided", "fill"]

ENDS, SAMPLED, RUNS = 4, 1 << 15, 4  # numbers of a column that are looked at, in so many runs
ITEM = 8  # bytes of what may be a number

Buffer: TypeAlias = bytes | bytearray | memoryview


class Needs(Exception):  # noqa: N818 - a signal between reader and `_survey`, never seen outside
    """Buffers have to be fetched before the reader can go on."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__()
        self.numbers = numbers


class Awaited:
    """Stands for a buffer that has not been fetched.

    Attributes:
        number: Which of the entry's.
    """

    __slots__ = ("_size", "number")

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self._size = size

    def __len__(self) -> int:
        return self._size

    def read(self) -> Buffer:
        """Ask for it; so does the next."""
        raise Needs((self.number,))

    read_stream = read

    def read_into(self, target: memoryview) -> None:  # noqa: ARG002
        """As `read`."""
        raise Needs((self.number,))


class Scattered:  # no abstract base class: each buffer is asked whether it is one, and those answer slowly
    """Bytes that do not lie together: they are brought together piece by piece, as each is compressed.

    A copy of a large frame would be most of the memory that storing it takes.
    """

    __slots__ = ()

    def __len__(self) -> int:
        raise NotImplementedError

    def some(self) -> Buffer:
        """Bytes from its middle that tell how all of it compresses, and some of its ends."""
        raise NotImplementedError

    def part(self, start: int, stop: int) -> Scattered:
        """From one byte to another, both of them between two numbers."""
        raise NotImplementedError

    def read(self) -> Buffer:
        """The bytes, together."""
        raise NotImplementedError

    def read_stream(self) -> Buffer:
        """As `read`."""
        return self.read()

    def read_into(self, target: memoryview) -> None:
        """Fill ``target``, which is as long."""
        target[:] = self.read()

    def __bytes__(self) -> bytes:
        return bytes(self.read())


def _places(count: int) -> list[tuple[int, int]]:
    """Which of so many numbers are looked at: the first, the last, and runs of them between."""
    if count <= SAMPLED:
        return [(0, count)]
    length = SAMPLED // RUNS
    runs = [(at, at + length) for at in range(count // (2 * RUNS), count - length, count // RUNS)]
    return [(0, ENDS), *runs, (count - ENDS, count)]


class Strided(Scattered):
    """A column of a frame that lies row by row.

    Args:
        column: An array of one dimension.
    """

    __slots__ = ("_column",)

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        size: int = self._column.nbytes
        return size

    def some(self) -> Buffer:
        """See `Scattered`."""
        some = [self._column[start:stop] for start, stop in _places(len(self._column))]
        return memoryview(b"".join([part.tobytes() for part in some]))

    def part(self, start: int, stop: int) -> Strided:
        """See `Scattered`."""
        size = self._column.itemsize
        return Strided(self._column[start // size : stop // size])

    def read(self) -> Buffer:
        """See `Scattered`."""
        view: memoryview = self._column.copy().view("u1").data
        return view


class Joined(Scattered):
    """Pieces, one after another.

    Args:
        pieces: Each contiguous, of format B.
    """

    __slots__ = ("_ends", "_pieces")

    def __init__(self, pieces: Sequence[memoryview]) -> None:
        self._pieces = [piece for piece in pieces if len(piece)]
        self._ends = list(itertools.accumulate(map(len, self._pieces)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def some(self) -> Buffer:
        """See `Scattered`."""
        return b"".join([bytes(self.part(ITEM * start, ITEM * stop)) for start, stop in _places(-(-len(self) // ITEM))])

    def part(self, start: int, stop: int) -> Joined:
        """See `Scattered`."""
        first = bisect.bisect_right(self._ends, start)
        last = bisect.bisect_left(self._ends, stop)
        found = []
        for piece, end in zip(self._pieces[first : last + 1], self._ends[first : last + 1], strict=True):
            begin = end - len(piece)
            found.append(piece[max(start - begin, 0) : stop - begin])
        return Joined(found)

    def read(self) -> Buffer:
        """See `Scattered`."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


class Source(Protocol):
    """A buffer that is still compressed."""

    def __len__(self) -> int:
        """Bytes when it is read."""

    def read(self) -> Buffer:
        """Its bytes, which are not to be written to; once."""

    def read_stream(self) -> Buffer:
        """As `read`, of what is no column."""

    def read_into(self, target: memoryview) -> None:
        """Fill ``target``, which is as long as it; once."""


def fill(target: memoryview, buffer: Buffer | Source) -> None:
    """Copy or decompress a buffer to where it is wanted, which is as long as it."""
    if len(buffer) != len(target):
        raise UnreadableEntry("a buffer is not as long as it should be")
    if isinstance(buffer, (bytes, bytearray, memoryview)):
        target[:] = memoryview(buffer).cast("B")
    else:
        buffer.read_into(target)
