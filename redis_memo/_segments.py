"""A buffer as segments: pieces of at most a megabyte, each stored as it is smallest or as it is.

A segment is what is compressed, checked, sent and fetched as one: small enough that no call holds a lock or a core for
long, and that a part of a large value can be read alone. How one is stored is chosen by a sample of its buffer, because
what gains nothing must not pay: random floats go through at the speed of memory.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ._zstd import Bytes, compress, decompress
from .errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._config import Compression

__all__ = ["EXPANSION", "Packed", "Part", "Segment", "pack"]

RAW, ZSTD, GRID, PCO = range(4)
SEGMENT: Final = 1 << 20
EXPANSION: Final = 1024  # the most that a segment may grow: zeros beyond it are padded when written
MIN_COMPRESSED: Final = 512  # below this, the bytes saved are not worth the call
ZSTD_LEVELS: Final[dict[Compression, int]] = {"fast": 1, "auto": 3, "small": 12}
PLANE_LEVELS: Final[dict[Compression, int]] = {"fast": 1, "auto": 1, "small": 6}
PCO_LEVELS: Final[dict[Compression, int]] = {"auto": 4, "small": 8}
SAMPLE: Final = 8 * 1024
MOMENTS: Final = "M8"
REMEMBERED: Final = 1 << 16  # bytes of a buffer
REGULAR: Final = 512  # stored bytes
MOST_REMEMBERED: Final = 64
GAIN: Final = 0.92


@functools.cache
def _planes() -> Any:
    # It needs numpy, which a process may never have met but for its numbers.
    return importlib.import_module("redis_memo._planes")


class Segment(NamedTuple):
    """A piece of a buffer as it is stored.

    Attributes:
        how: One of the ways above.
        more: The buffer goes on in the next segment.
        raw: Bytes that it stands for.
        data: What is stored.
    """

    how: int
    more: bool
    raw: int
    data: Bytes


def pack(data: Bytes, kind: str, compression: Compression) -> list[Segment]:
    """Cut a buffer into segments, compressed where that pays.

    Args:
        data: Contiguous bytes; what stays as it is shares their memory.
        kind: What the elements are, such as ``"f8"`` (see `_planes`), or ``"4f8"`` where these are four columns, one
            after another; empty where they are no numbers.
        compression: See `redis_cached`.
    """
    size = len(data)
    if kind == MOMENTS:
        if compression is not None and MIN_COMPRESSED <= size <= REMEMBERED:
            return _moments(data, compression)
        kind = "i8"
    if compression is None or size < MIN_COMPRESSED:
        store: Callable[[Bytes], tuple[int, Bytes]] = _raw
    elif kind:
        store = _for_numbers(data, kind, compression)
    else:
        store = _for_bytes(data, compression)
    if size <= SEGMENT:
        return [Segment(*_padded(*store(data), size))]
    view = memoryview(data)
    pieces = [view[at : at + SEGMENT] for at in range(0, size, SEGMENT)]
    found = [Segment(*_padded(*store(piece), len(piece), more=True)) for piece in pieces]
    found[-1] = found[-1]._replace(more=False)
    return found


# The dates of many results are the same ones: a stock's days are those of all stocks.

_recent: dict[tuple[object, ...], tuple[bytes, list[Segment]]] = {}


def _moments(data: Bytes, compression: Compression) -> list[Segment]:
    whole = bytes(data)
    mark = compression, len(whole), whole[:16], whole[-16:]
    known = _recent.get(mark)
    if known is not None and known[0] == whole:
        return known[1]
    packed = pack(whole, "i8", compression)
    if len(_recent) >= MOST_REMEMBERED:
        _recent.clear()
    _recent[mark] = whole, packed
    return packed


@functools.lru_cache(MOST_REMEMBERED)
def _regular(data: bytes, raw: int) -> bytes:
    """What so little stands for, such as dates: it will have been read before."""
    memory = bytearray(raw)
    _planes().decode_grid(memoryview(data), memoryview(memory))
    return bytes(memory)


def _padded(how: int, data: Bytes, raw: int, *, more: bool = False) -> tuple[int, bool, int, Bytes]:
    least = -(-raw // EXPANSION)
    return how, more, raw, data if len(data) >= least else bytes(data).ljust(least, b"\0")


def _raw(data: Bytes) -> tuple[int, Bytes]:
    return RAW, data


def _for_bytes(data: Bytes, compression: Compression) -> Callable[[Bytes], tuple[int, Bytes]]:
    if len(data) > 4 * SAMPLE:
        middle = len(data) // 2
        sample = compress(memoryview(data)[middle : middle + SAMPLE], 1)
        if len(sample) > GAIN * SAMPLE:
            return _raw
    level = ZSTD_LEVELS[compression]

    def store(piece: Bytes) -> tuple[int, Bytes]:
        packed = compress(piece, level)
        return (ZSTD, packed) if len(packed) < GAIN * len(piece) else (RAW, piece)

    return store


def _for_numbers(data: Bytes, kind: str, compression: Compression) -> Callable[[Bytes], tuple[int, Bytes]]:
    planes = _planes()
    level = PLANE_LEVELS[compression]
    rows, kind = int(kind[:-2] or 1) if len(data) <= SEGMENT else 1, kind[-2:]
    exponent = planes.plan(planes.as_array(data, kind), level)
    if exponent is None or (exponent == planes.OFF_GRID and compression == "fast"):
        return _for_bytes(data, compression)

    def store(piece: Bytes) -> tuple[int, Bytes]:
        column = planes.as_array(piece, kind)
        tried: list[tuple[int, Bytes]] = []
        if exponent != planes.OFF_GRID:
            on_grid = planes.encode_grid(column, exponent, level, rows)
            if on_grid is not None:
                tried.append((GRID, on_grid))
        if exponent == planes.OFF_GRID or compression == "small":
            tried.append((PCO, planes.encode_pco(column, PCO_LEVELS[compression])))
        best = min(tried, key=lambda one: len(one[1]), default=None)
        return best if best is not None and len(best[1]) < GAIN * len(piece) else _for_bytes(piece, compression)(piece)

    return store


class Part(NamedTuple):
    """A stored segment, to be read.

    Attributes:
        how: See `Segment`; so ``raw``.
        digest: What the check of ``data`` has to yield; empty where it was checked with the whole.
    """

    how: int
    raw: int
    data: memoryview
    digest: bytes


class Packed:
    """A stored buffer, decompressed when it is read; once.

    Args:
        parts: Its segments.
        check: The digest of a segment's bytes.
    """

    __slots__ = ("_check", "_parts", "size")

    def __init__(self, parts: list[Part], check: Callable[[memoryview], bytes]) -> None:
        self._parts = parts
        self._check = check
        self.size = sum([part.raw for part in parts])

    def __len__(self) -> int:
        return self.size

    def _taken(self, parts: list[Part]) -> Part:
        """The last of these; it is let go of when it was read, and with the last one the memory of its chunk."""
        part = parts.pop()
        if part.how != RAW and part.raw > SEGMENT:
            # Decompressing takes several times a segment's size beside it, which is to be next to nothing.
            raise UnreadableEntry("a segment is larger than one can be")
        if part.digest and self._check(part.data) != part.digest:
            raise UnreadableEntry("damaged")
        return part

    def read(self) -> Bytes:
        """The buffer's bytes; not to be written to.

        Raises:
            UnreadableEntry: They are damaged; so :meth:`read_into`.
        """
        if len(self._parts) == 1 and self._parts[0].how in (RAW, ZSTD):
            part = self._taken(self._parts)
            return part.data if part.how == RAW else decompress(part.data, part.raw)
        whole = bytearray(self.size)
        self.read_into(memoryview(whole))
        return whole

    def read_stream(self) -> Bytes:
        """As `read`, of what is no column: one that claims to be a column was planted."""
        if any(part.how not in (RAW, ZSTD) for part in self._parts):
            raise UnreadableEntry("a stream is stored in a way that only columns are")
        return self.read()

    def read_into(self, target: memoryview) -> None:
        """Fill ``target``, which is as long as the buffer."""
        parts, self._parts = self._parts[::-1], []
        at = 0
        while parts:
            part = self._taken(parts)
            _unpack(part, target[at : at + part.raw])
            at += part.raw


def _unpack(part: Part, target: memoryview) -> None:
    if part.how == RAW:
        target[:] = part.data
    elif part.how == ZSTD:
        target[:] = decompress(part.data, part.raw)
    elif part.how == GRID and len(part.data) <= REGULAR and part.raw <= REMEMBERED:
        target[:] = _regular(bytes(part.data), part.raw)
    elif part.how == GRID:
        _planes().decode_grid(part.data, target)
    elif part.how == PCO:
        _planes().decode_pco(part.data, target)
    else:
        raise UnreadableEntry("a segment is stored in a way that this version does not know")
