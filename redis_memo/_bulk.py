"""What is sent together, and large strings on their way in."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import redis

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Batch", "Bulk", "Piece", "Pipeline", "command_of"]

Piece: TypeAlias = bytes | memoryview

LARGE = 1 << 16  # bytes from which a string is received in its place
JOINED = 1 << 20  # bytes of small pieces that are sent as one, within one time limit
LARGEST = 1 << 30  # what claims to be longer is no string of Redis' (512 MB), and is left to the parser's own limits


def command_of(*parts: bytes) -> bytes:
    """A short command in Redis' protocol."""
    return b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)])


class Batch(list[Piece]):
    """Several commands in pieces, sent together; answered with as many replies, or the first error among them.

    Attributes:
        commands: Each in pieces, as they were given.
        replies: How many there will be.
    """

    commands: tuple[Sequence[Piece], ...]
    replies: int

    def __init__(self, *commands: Sequence[Piece]) -> None:
        super().__init__(piece for command in commands for piece in command)
        self.commands = commands
        self.replies = len(commands)


class Pipeline(Batch):
    """As `Batch`, of commands that have nothing to do with each other: an error is the reply of one, not of all."""

    def __init__(self, *commands: Sequence[Piece]) -> None:
        # One system call for many commands; what is large is not copied for that.
        list.__init__(self)
        small: list[Piece] = []
        size = 0
        for piece in (piece for command in commands for piece in command):
            if len(piece) < LARGE and size < JOINED:
                small.append(piece)
                size += len(piece)
                continue
            self += [b"".join(small), piece]
            small, size = [], 0
        self.append(b"".join(small))
        self.replies = sum(command.replies if isinstance(command, Batch) else 1 for command in commands)

    @classmethod
    def of(cls, commands: Sequence[Piece]) -> Pipeline:
        """Short commands of one piece and one reply each."""
        made = cls([b"".join(commands)])
        made.replies = len(commands)
        return made


def _memory(size: int) -> memoryview:
    numpy: Any = sys.modules.get("numpy")
    # A bytearray is filled with zeros, which for megabytes takes as long as receiving them.
    return memoryview(bytearray(size) if numpy is None else numpy.empty(size, "u1"))


class Bulk:
    """A large string on its way, received where it will stay: the parser would copy it twice.

    Attributes:
        rest: The memory that is still to be filled.
    """

    __slots__ = ("_string", "rest")

    def __init__(self, size: int, begun: memoryview) -> None:
        self._string = _memory(size + 2)
        self._string[: len(begun)] = begun
        self.rest = self._string[len(begun) :]

    @classmethod
    def begun(cls, data: bytes | bytearray, count: int) -> Bulk | None:
        """The string that a reply's first bytes begin, if they begin a large one that is not complete."""
        end = data.find(b"\r\n", 0, min(count, 16))
        if end < 0 or data[:1] != b"$" or not data[1:end].isdigit():
            return None
        size = int(data[1:end])
        if not LARGE <= size <= LARGEST or size + 2 <= count - end - 2:
            return None
        return cls(size, memoryview(data)[end + 2 : count])

    def took(self, count: int) -> bool:
        """Note that so much of the rest was received; True when nothing is left."""
        self.rest = self.rest[count:]
        return not self.rest

    def reply(self) -> memoryview:
        """The string."""
        if bytes(self._string[-2:]) != b"\r\n":
            raise redis.InvalidResponse("a string does not end where it should")
        return self._string[:-2]
