"""A buffer as segments: pieces of at most a megabyte, each stored as it is smallest or as it is.

A segment is what is compressed, checked, sent and fetched as one: small enough that no call holds a lock or a core for
long, and that a part of a large value can be read alone. How one is stored is chosen by a sample of its buffer, because
what gains nothing must not pay: random floats go through at the speed of memory.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from ._codecs_buffers import Scattered
from ._threads import WORTH, share, threads
from ._zstd import Bytes, compress, decompress
from .errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._config import Compression

__all__ = ["EXPANSION", "SEGMENT", "Packed", "Part", "Segment", "is_worth", "pack", "read_ahead"]

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
MOST_APART: Final = 16  # columns in one buffer; what is said of each apart takes some 40 bytes
HALF: Final = 0.5  # what more than this is left of, zstd may make smaller; and a large value is no place for it
LARGE: Final = 64 << 20  # bytes of a value beside which what comes of it is to lie
TRIES, TRIED = 4, 1 << 13  # pieces of it that are tried, and bytes of each
LONG: Final = 64 * 1024  # bytes of a piece: of shorter ones threads would wait for each other between them
AT_ONCE: Final = 8 * SEGMENT  # what is read ahead, for as long as it takes memory of its own


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


Store: TypeAlias = "Callable[[Bytes], tuple[int, Bytes]]"


def pack(buffers: Sequence[tuple[Bytes | Scattered, str]], compression: Compression) -> list[Segment]:
    """Cut buffers into segments, compressed where that pays: of a large value, where it halves what is stored.

    Args:
        buffers: Contiguous bytes, or such as are gathered here; what stays as it is shares their memory. And of each
            what the elements are, such as ``"f8"`` (see `_planes`), or ``"4f8"`` where these are four columns, one
            after another; empty where they are no numbers.
        compression: See `redis_cached`.
    """
    large = compression != "small" and sum([len(data) for data, _ in buffers]) >= LARGE
    return _pack(buffers, compression, HALF if large else 1.0)


def _pack(buffers: Sequence[tuple[Bytes | Scattered, str]], compression: Compression, most: float) -> list[Segment]:
    """`pack`; what takes more than ``most`` of its size is stored as it is."""
    found: list[Segment] = []
    long: list[tuple[int, Bytes | Scattered, Store]] = []
    much = 0
    for data, kind in buffers:
        if isinstance(data, Scattered):
            looked_at = data.some()
        elif kind == MOMENTS and compression is not None and MIN_COMPRESSED <= len(data) <= REMEMBERED:
            found += _moments(data, compression)
            continue
        elif compression is not None and len(several := _apart(data, kind)) > 1:
            packed = [_pack([one], compression, most) for one in several]
            found += [each._replace(more=True) for one in packed[:-1] for each in one] + packed[-1]
            continue
        else:
            looked_at = data
        store, takes_long = _choice(looked_at, kind, compression)
        if most < 1.0 and len(data) > SEGMENT and not _halves(looked_at, store):
            store, takes_long = _raw, False
        if len(data) <= SEGMENT and not (takes_long and len(data) >= LONG):
            found.append(_stored(data, store, most))
            continue
        for piece, more in _cut(data):
            if takes_long:
                long.append((len(found), piece, store))
                much += len(piece)
                found.append(Segment(RAW, more, len(piece), b""))
            else:
                found.append(_stored(piece, store, most, more=more))
    if long:

        def work(number: int) -> None:
            at, piece, store = long[number]
            found[at] = _stored(piece, store, most, more=found[at].more)

        share(work, len(long), threads(len(long)) if much >= WORTH else 1)
    return found


def _apart(data: Bytes, kind: str) -> Sequence[tuple[Bytes, str]]:
    """Columns in one buffer, if they are few, cut where they are of another magnitude: volumes behind prices."""
    rows = int(kind[:-2] or 1) if kind else 1
    if not 1 < rows <= MOST_APART or not MIN_COMPRESSED <= len(data) <= SEGMENT:
        return [(data, kind)]
    planes = _planes()
    counts = planes.magnitudes(planes.as_array(data, kind[-2:]).reshape(rows, -1))
    found: list[tuple[Bytes, str]] = []
    at = 0
    for count in counts:
        end = at + len(data) // rows * count
        found.append((memoryview(data)[at:end], f"{count}{kind[-2:]}"))
        at = end
    return found


def _halves(data: Bytes, store: Store) -> bool:
    """Whether a few pieces of it are half of themselves when they are stored so."""
    size = len(data)
    places = [at // 16 * 16 for at in range(size // (2 * TRIES), size, max(1, size // TRIES))][:TRIES]
    pieces = [memoryview(data)[at : at + TRIED] for at in places]
    return sum([len(store(piece)[1]) for piece in pieces]) <= HALF * sum(map(len, pieces))


def is_worth(column: Scattered, kind: str) -> bool:
    """Whether a column is stored otherwise than as it is, if it is one of a large value."""
    data = column.some()
    return _halves(data, _choice(data, kind, "auto")[0])


def _cut(data: Bytes | Scattered) -> list[tuple[Bytes | Scattered, bool]]:
    """The pieces of a buffer, and whether it goes on behind each."""
    size = len(data)
    part = data.part if isinstance(data, Scattered) else lambda start, stop: memoryview(data)[start:stop]
    return [(part(at, at + SEGMENT), at + SEGMENT < size) for at in range(0, size, SEGMENT)]


def _stored(piece: Bytes | Scattered, store: Store, most: float, *, more: bool = False) -> Segment:
    if isinstance(piece, Scattered):
        piece = piece.read()
    how, data = store(piece)
    if len(data) > most * len(piece):
        how, data = RAW, piece
    raw = len(piece)
    least = -(-raw // EXPANSION)
    return Segment(how, more, raw, data if len(data) >= least else bytes(data).ljust(least, b"\0"))


def _choice(data: Bytes, kind: str, compression: Compression) -> tuple[Store, bool]:
    """How the segments of a buffer are stored, and whether that is one long call for each."""
    if compression is None or len(data) < MIN_COMPRESSED:
        return _raw, False
    if kind:
        return _for_numbers(data, "i8" if kind == MOMENTS else kind, compression)
    return _for_bytes(data, compression)


# The dates of many results are the same ones: a stock's days are those of all stocks.

_recent: dict[tuple[object, ...], tuple[bytes, list[Segment]]] = {}


def _moments(data: Bytes, compression: Compression) -> list[Segment]:
    whole = bytes(data)
    mark = compression, len(whole), whole[:16], whole[-16:]
    known = _recent.get(mark)
    if known is not None and known[0] == whole:
        return known[1]
    packed = pack([(whole, "i8")], compression)
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


def _raw(data: Bytes) -> tuple[int, Bytes]:
    return RAW, data


def _for_bytes(data: Bytes, compression: Compression) -> tuple[Store, bool]:
    if len(data) > 4 * SAMPLE:
        middle = len(data) // 2
        sample = compress(memoryview(data)[middle : middle + SAMPLE], 1)
        if len(sample) > GAIN * SAMPLE:
            return _raw, False
    level = ZSTD_LEVELS[compression]

    def store(piece: Bytes) -> tuple[int, Bytes]:
        packed = compress(piece, level)
        return (ZSTD, packed) if len(packed) < GAIN * len(piece) else (RAW, piece)

    return store, True


def _for_numbers(data: Bytes, kind: str, compression: Compression) -> tuple[Store, bool]:
    planes = _planes()
    level = PLANE_LEVELS[compression]
    rows, kind = int(kind[:-2] or 1) if len(data) <= SEGMENT else 1, kind[-2:]
    slow = compression != "fast"

    def planned(column: Any) -> int | None:
        found: int | None = planes.plan(column, level)
        return found if slow or found != planes.OFF_GRID else None

    column = planes.as_array(data, kind)
    exponent = planned(column)
    single = None  # the same, of the doubles as floats of 32 bits, if they may be that
    if kind == "f8" and exponent in (None, planes.OFF_GRID, planes.EXPONENTS[-1]):
        some = planes.narrowed(planes.some(column))
        if some is not None:
            single = planned(some[1])
            single = planes.OFF_GRID if single is None and slow else single
    if exponent is None and single is None:
        return _for_bytes(data, compression)
    takes_long = compression == "small" or (exponent if single is None else single) == planes.OFF_GRID

    def store(piece: Bytes) -> tuple[int, Bytes]:
        column, grid = planes.as_array(piece, kind), exponent
        narrow = planes.narrowed(column) if single is not None else None
        if narrow is not None:
            (way, column), grid = narrow, single
        off_grid = grid == planes.OFF_GRID
        tried: list[tuple[int, Bytes]] = []
        on_grid = None
        for each in planes.GRIDS[grid]:
            on_grid = planes.encode_grid(column, each, level, rows)
            if on_grid is not None:
                tried.append((GRID, on_grid))
                break
        if off_grid or compression == "small" or (on_grid is None and slow and planes.pays(column)):
            tried.append((PCO, planes.encode_pco(column, PCO_LEVELS[compression])))
        if narrow is not None:
            tried = [(how, planes.widened(way, data)) for how, data in tried]
        best = min(tried, key=lambda one: len(one[1]), default=None)
        # Of few numbers that come again and again pcodec may keep nothing of what its sample promised.
        if best is None or len(best[1]) >= (HALF if best[0] == PCO else GAIN) * len(piece):
            other = _for_bytes(piece, compression)[0](piece)
            if best is None or len(best[1]) >= min(len(other[1]), GAIN * len(piece)):
                return other
        return best

    return store, takes_long


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


def _checked(part: Part, check: Callable[[memoryview], bytes]) -> Part:
    if part.how != RAW and part.raw > SEGMENT:
        # Decompressing takes several times a segment's size beside it, which is to be next to nothing.
        raise UnreadableEntry("a segment is larger than one can be")
    if part.digest and check(part.data) != part.digest:
        raise UnreadableEntry("damaged")
    return part


def _work(part: Part) -> int:
    """How long it takes to read a part in one long call: as long as to decompress so many bytes."""
    if part.raw < LONG:
        return 0
    if part.how in (ZSTD, PCO):
        return part.raw
    return part.raw // 4 if part.how == RAW and part.digest else 0


class Ahead:
    """Reads the parts of an entry by several threads, a few before each is wanted.

    Args:
        lists: Those of each buffer, in the order in which they will be wanted; their own parts are the last one first.
        check: See `Packed`.
    """

    __slots__ = ("_check", "_lists", "_pause")

    def __init__(self, lists: list[list[Part]], check: Callable[[memoryview], bytes]) -> None:
        self._lists = lists
        self._check = check
        self._pause = 0  # how many parts are wanted before it is worth to look again

    def see_to(self, number: int) -> None:
        """The next part of a buffer is wanted now: read it and some that follow, if several threads may."""
        if self._pause:
            self._pause -= 1
            return
        if not _work(self._lists[number][-1]):
            return
        places, much = self._next(number)
        count = threads(len(places)) if much >= WORTH else 1
        if count < 2:
            self._pause = len(places)
            return

        def work(number: int) -> None:
            lying, at = places[number]
            part = _checked(lying[at], self._check)
            data = part.data if part.how == RAW else memoryview(_unpacked(part))
            lying[at] = Part(RAW, part.raw, data, b"")

        share(work, len(places), count)

    def _next(self, number: int) -> tuple[list[tuple[list[Part], int]], int]:
        """Where the parts are from here on that take long, and how long altogether."""
        places, much = [], 0
        for lying in self._lists[number:]:
            for at in range(len(lying) - 1, -1, -1):
                if work := _work(lying[at]):
                    places.append((lying, at))
                    much += work
                if much >= AT_ONCE:
                    return places, much
        return places, much


class Packed:
    """A stored buffer, decompressed when it is read; once.

    Args:
        parts: Its segments.
        check: The digest of a segment's bytes.

    Attributes:
        parts: Those that were not read yet, the last one first.
        ahead: Reads ahead, if not None; ``number`` is this buffer's place in its list.
        size: Bytes when it is read.
    """

    __slots__ = ("_check", "ahead", "number", "parts", "size")

    def __init__(self, parts: list[Part], check: Callable[[memoryview], bytes]) -> None:
        self.parts = parts[::-1]
        self._check = check
        self.ahead: Ahead | None = None
        self.number = 0
        self.size = sum([part.raw for part in parts])

    def __len__(self) -> int:
        return self.size

    def _taken(self) -> Part:
        """The next part; it is let go of when it was read, and with the last one the memory of its chunk."""
        if self.ahead is not None:
            self.ahead.see_to(self.number)
        return _checked(self.parts.pop(), self._check)

    def read(self) -> Bytes:
        """The buffer's bytes; not to be written to.

        Raises:
            UnreadableEntry: They are damaged; so :meth:`read_into`.
        """
        if len(self.parts) == 1 and self.parts[0].how in (RAW, ZSTD):
            part = self._taken()
            return part.data if part.how == RAW else decompress(part.data, part.raw)
        whole = bytearray(self.size)
        self.read_into(memoryview(whole))
        return whole

    def read_stream(self) -> Bytes:
        """As `read`, of what is no column: one that claims to be a column was planted."""
        if any(part.how not in (RAW, ZSTD) for part in self.parts):
            raise UnreadableEntry("a stream is stored in a way that only columns are")
        return self.read()

    def read_into(self, target: memoryview) -> None:
        """Fill ``target``, which is as long as the buffer."""
        at = 0
        while self.parts:
            part = self._taken()
            _unpack(part, target[at : at + part.raw])
            at += part.raw


def read_ahead(buffers: Sequence[object], check: Callable[[memoryview], bytes]) -> None:
    """Let several threads read buffers that are wanted in this order, where there is so much that this pays."""
    packed = [each for each in buffers if isinstance(each, Packed)]
    if sum([_work(part) for each in packed for part in each.parts]) >= WORTH:
        ahead = Ahead([each.parts for each in packed], check)
        for number, each in enumerate(packed):
            each.ahead, each.number = ahead, number


def _unpacked(part: Part) -> Bytes:
    if part.how == ZSTD:
        return decompress(part.data, part.raw)
    memory = bytearray(part.raw)
    _unpack(part, memoryview(memory))
    return memory


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
