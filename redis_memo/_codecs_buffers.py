"""The buffers of a value: here, still compressed, or not fetched yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Awaited", "Buffer", "Needs", "Source", "fill"]

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
