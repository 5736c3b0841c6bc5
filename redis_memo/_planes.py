"""Columns of numbers, as the bytes that compress well.

Market data are numbers on a grid: prices in steps of a paisa, times in steps of a minute, volumes in lots. Floats that
are decimals become whole numbers, and back without a bit lost (verified when written). Whole numbers are divided by
what they have in common, replaced by their differences where those are smaller, and stored in planes: first the lowest
byte of every number, then the next one. What is left is noise in the first plane, which is stored as it is, and almost
nothing in the others, which zstd takes at a gigabyte a second. (Planes of bytes are Blosc's shuffle.)

::

    grid     kind (1) exponent (1) order (1) width (1) base (8) step (8) bias (8) length of missing (4)
             rows (2), if there are several;  zstd frame: which are NaN or NaT, a bit each
             the lowest planes, if they are noise;  zstd frame: the other planes, a block each
    order    1 where differences are stored, 2 where what comes of the planes needs words of 64 bits, 4 where there are
             several rows, 8 times how many planes are noise, and 128 where a last plane has what is off a coarser grid
    number   (base + step * n) / 10 ** exponent       n: from the planes; of differences their running sum less bias,
             of several rows in the first one; in the others by how much they are more than the first
             ((base + step * n) * 100 + off) / 10 ** exponent, where few prices have more than two decimals

Floats on no grid go through pcodec (https://github.com/pcodec/pcodec) where a sample says that it pays. Floats of 64
bits that are all some of 32, as what Yahoo sends is, are encoded as those, with a kind of their own; and so are those
which are some of 32 written with six decimals, as they are in its files.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._zstd import Bytes, compress, compress_apart, decompress
from .errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "GRIDS", "OFF_GRID", "as_array", "decode_grid", "decode_pco", "encode_grid", "encode_pco", "magnitudes", "narrowed",
    "pays", "plan", "some", "widened",
]  # fmt: skip

DIFFERENCES, WIDE, SEVERAL, NOISE, OFF = 1, 2, 4, 8, 128
HEAD: Final = struct.Struct("<BBBBqQqI")
ROWS: Final = struct.Struct("<H")
BYTE, INT, LONG, SINGLE, DOUBLE = map(np.dtype, ("u1", "<i4", "<i8", "<f4", "<f8"))
UNSIGNED: Final = {size: np.dtype(f"<u{size}") for size in (2, 4, 8)}
DTYPES: Final = tuple(np.dtype(f"<{kind}") for kind in ("f8", "f4", "i8", "i4", "i2", "u8", "u4", "u2"))
CODES: Final = {dtype: code for code, dtype in enumerate(DTYPES)}
WIDENED: Final = len(DTYPES)  # doubles, each of which is one of 32 bits
ROUNDED: Final = WIDENED + 1  # to six decimals
MILLIONTHS: Final = 1e6
EXPONENTS: Final = (2, 4, 8)  # what is on a coarser grid is on one of these too, and divided by its step
FINE: Final = 4  # of the exponents
COARSER: Final = 100
RARE: Final = 6  # one of so many may be off the coarser grid
NAT: Final = -(2**63)
WIDEST: Final = 2**61
LOW: Final = 2**30  # half of what a word of 32 bits could hold: differences have a sign, and something is added to them
LARGEST: Final = 2**52  # whole numbers up to here add and multiply as floats without rounding
OFF_GRID: Final = -1
# By what `plan` says: its exponent, and the finer ones where not all numbers are on the grid that a few are on.
GRIDS: Final[dict[int | None, tuple[int, ...]]] = {
    None: (), OFF_GRID: (), 0: (0,), **{each: EXPONENTS[at:] for at, each in enumerate(EXPONENTS)}
}  # fmt: skip
FEW: Final = 32  # numbers that Python looks at sooner than numpy begins
PIECES, PIECE = 7, 18  # how many pieces of a plane are looked at, and their bytes: columns are seldom seven
MANY: Final = 88  # that differ among them: of noise these are 100, give or take 4
EVERY: Final = bytes(range(256))
LOOKS: Final = 5  # how many numbers of each row are looked at, or one more
FAR: Final = 4  # times as large: volumes beside prices
ENDS: Final = 4  # numbers at either end
SAMPLE: Final = 1024
SHORT: Final = 16 * SAMPLE  # numbers that are sooner encoded than asked whether that pays
LEAST: Final = 4096  # bytes of numbers on no grid: of fewer pcodec takes longer than all the rest
GAIN: Final = 0.9
PAYS: Final = 0.75  # pcodec takes many times as long as a copy: for less gain it is not used
NAN_BITS: Final = {8: 0x7FF8000000000000, 4: 0x7FC00000}


def as_array(data: Bytes, kind: str) -> Any:
    """Bytes as numbers."""
    return np.frombuffer(data, f"<{kind}")


def plan(column: Any, level: int) -> int | None:
    """Look at a sample of a column: the exponent of its grid, `OFF_GRID` where pcodec pays, None where nothing does."""
    exponent = _exponent(column) if column.dtype.kind == "f" else 0
    if exponent is None:
        return OFF_GRID if pays(column) else None
    if len(column) > SHORT:
        sample = _middle(column)
        packed = encode_grid(sample, exponent, level)
        if packed is not None and len(packed) > GAIN * sample.nbytes:
            return None
    return exponent


def pays(column: Any) -> bool:
    """Whether pcodec does, by a sample."""
    sample = _middle(column)
    return bool(column.nbytes >= LEAST and len(encode_pco(sample, 2)) < PAYS * sample.nbytes)


def some(column: Any) -> Any:
    """The first numbers of a column, some from the middle, and the last ones."""
    return np.concatenate((column[:ENDS], _middle(column), column[-ENDS:]))


def _middle(column: Any) -> Any:
    at = max(0, (len(column) - SAMPLE) // 2)
    return column[at : at + SAMPLE]


def _exponent(column: Any) -> int | None:
    """Decimals of the grid on which a few of the floats are, in Python's own arithmetic; the rest is verified later."""
    few = [number for number in (*column[:ENDS].tolist(), *column[-ENDS:].tolist()) if number == number]  # noqa: PLR0124
    # Any float of 32 bits is on the finest grid.
    for exponent in EXPONENTS if column.itemsize == 8 else EXPONENTS[:-1]:
        scale = 10.0**exponent
        if max(map(abs, few), default=0.0) * scale < LARGEST:
            back = [round(number * scale) / scale for number in few]
            if (back if column.itemsize == 8 else np.array(back, column.dtype).tolist()) == few:
                return exponent
    return None


def narrowed(column: Any) -> tuple[int, Any] | None:
    """Doubles as floats of 32 bits, and how to come back; None where something would be lost."""
    with np.errstate(all="ignore"):
        narrow = column.astype(SINGLE)
        wide = narrow.astype(DOUBLE)
        for kind in (WIDENED, ROUNDED):
            if kind == ROUNDED:
                _round(wide)
            if _same(wide.view(LONG), column.view(LONG)):
                return kind, narrow
    return None


def _round(wide: Any) -> None:
    wide *= MILLIONTHS
    np.rint(wide, out=wide)
    wide /= MILLIONTHS


def widened(kind: int, packed: bytes) -> bytes:
    """What was encoded as floats of 32 bits, to be read as doubles."""
    return bytes((kind,)) + packed[1:]


def magnitudes(matrix: Any) -> list[int]:
    """How many rows in turn are of about one magnitude: prices are, and volumes beside them are another one."""
    few = list(map(abs, matrix[:, matrix.shape[1] // 2].tolist()))
    if few[0] / FAR <= min(few) <= max(few) <= few[0] * FAR:
        return [len(few)]
    found: list[int] = []
    first = 0.0
    for row in matrix[:, :: max(1, matrix.shape[1] // LOOKS)].tolist():
        few = sorted([abs(number) for number in row if number == number])  # noqa: PLR0124
        middle = few[len(few) // 2] if few else first
        if found and first / FAR <= middle <= first * FAR:
            found[-1] += 1
        else:
            found.append(1)
            first = middle
    return found


def encode_grid(column: Any, exponent: int, level: int, rows: int = 1) -> bytes | None:
    """Encode a column, or several of one length, one after another; None where they are on no such grid."""
    found = _whole_floats(column, exponent) if column.dtype.kind == "f" else _whole(column)
    if found is None:
        return None
    numbers, low, span, missing = found
    off = b""
    if exponent == FINE and span:
        numbers, low, span, off = _coarser(numbers, low, span)
    far = -(-len(numbers) // FEW) | 1  # an odd stride: hardly the period of a column that repeats
    order, differences, few = _differences(numbers, rows, far)
    lowest = int(_lowest(differences))
    if lowest >= 0 or _move_little(numbers[::far].tolist(), few):
        base, numbers = int(numbers[0]), differences
    else:
        base, numbers, order = low, numbers - low, 0
        lowest, few = 0, numbers[::far].tolist()
    if span < LOW:
        numbers = numbers.astype(INT, copy=False)
    numbers, step = _stepped(numbers, math.gcd(*set(few))) if span else (numbers, 1)
    if span // step < LOW:
        numbers = numbers.astype(INT, copy=False)
    else:
        numbers, order = numbers.astype(LONG, copy=False), order | WIDE
    bias = 0
    if lowest < 0:
        # Small ones of either sign share their higher bytes when zero is in the middle of what a byte can say.
        lowest //= step
        bias = -lowest + (128 + lowest) % 256
        numbers += bias
    width = (int(_highest(numbers)).bit_length() + 7) // 8
    # One by one: numpy takes several times as long to transpose them at once.
    planes = [(numbers >> 8 * plane if plane else numbers).astype(BYTE).tobytes() for plane in range(width)]
    noise = 0
    while noise < width and _is_noise(planes[noise]) and not _repeats(planes[noise], rows):
        noise += 1
    order |= NOISE * noise
    packed = planes[noise:]
    if off:
        packed.append(off)
        order |= OFF
    head = HEAD.pack(CODES[column.dtype], exponent, order, width, base, step, bias, len(missing))
    if order & SEVERAL:
        head += ROWS.pack(rows)
    return b"".join((head, missing, *planes[:noise], *(compress_apart(packed, level) if packed else ())))


def _coarser(numbers: Any, low: int, span: int) -> tuple[Any, int, int, bytes]:
    """Numbers on a coarser grid, the lowest, how far above it the highest is, and by how much each is off; if few are.

    One price in thirty has half a cent, and the others have none.
    """
    coarse = (numbers + COARSER // 2) // COARSER
    off = numbers - coarse * COARSER
    if RARE * np.count_nonzero(off) > len(off):
        return numbers, low, span, b""
    low = int(_lowest(coarse))
    return coarse, low, int(_highest(coarse)) - low, off.astype(np.int8).tobytes()


def _differences(numbers: Any, rows: int, far: int) -> tuple[int, Any, list[int]]:
    """By how much each number is more than the one before, or than the one above it in the first of several rows.

    Returns:
        In which order they are, all of them, and a few that are ``far`` from each other.
    """
    differences = np.empty_like(numbers)
    differences[0] = 0
    if 1 < rows <= FEW // 2:  # of more, hardly one of the few is of the first row
        matrix, into = numbers.reshape(rows, -1), differences.reshape(rows, -1)
        np.subtract(matrix[0, 1:], matrix[0, :-1], out=into[0, 1:])
        np.subtract(matrix[1:], matrix[0], out=into[1:])
        few: list[int] = differences[::far].tolist()
        at = max(1, len(few) // rows)  # from where on they are of the other rows
        moves = (numbers[at * far :: far] - numbers[at * far - 1 : -1 : far]).tolist()
        # Open, high, low and close differ by about as much as each does from the day before. Where they mostly stay as
        # they were, the difference to that day is mostly nothing.
        if 2 * few[:at].count(0) <= at and sum(map(abs, few[at:])) <= 1.5 * sum(map(abs, moves)):
            return DIFFERENCES | SEVERAL, differences, few
    np.subtract(numbers[1:], numbers[:-1], out=differences[1:])
    return DIFFERENCES, differences, differences[::far].tolist()


def _distinct(data: bytes) -> int:
    """How many bytes differ; a set of them takes ten times as long."""
    return len(EVERY) - len(EVERY.translate(None, data))


def _is_noise(plane: bytes) -> bool:
    """Whether zstd would hardly make this smaller if nothing repeats: about as many of a few bytes differ as can."""
    far = len(plane) // PIECES
    if far < 2 * PIECE or 2 * _distinct(plane[far : far + PIECE]) < PIECE:
        return False
    # Side by side, as what changes every fifth time is all changes to whoever looks at every fifth.
    return _distinct(b"".join([plane[at : at + PIECE] for at in range(far // 3, PIECES * far, far)])) >= MANY


def _repeats(plane: bytes, rows: int) -> bool:
    """Whether one of several rows is another one, is the same throughout, or is the past of another one."""
    far = len(plane) // rows
    if 1 < rows <= 2 * FEW and far >= 2 * PIECE:  # of more, one is little, and to look at each takes long
        few = {plane[at : at + PIECE] for at in range(far // 2, len(plane), far)}
        if len(few) < rows or (rows <= FEW // 2 and any(2 * _distinct(piece) < PIECE for piece in few)):
            return True
    # Of columns that are each other's past, the first one comes again behind it, and the last one was there before.
    at, last = len(plane) // PIECES, len(plane) - len(plane) // (2 * PIECES)
    return plane.find(plane[last : last + 2 * PIECE]) < last or plane.count(plane[at : at + 2 * PIECE]) > 1


def _move_little(few: list[int], moves: list[int]) -> bool:
    """Whether the steps from one to the next are smaller than numbers are without what they have in common."""
    return 3 * sum(map(abs, moves)) < sum(few) - len(few) * min(few)  # they have a sign, which takes a bit


# A reduction of a few thousand numbers is most of its time beginning; `argmin` begins in a third of the time of `min`.


def _lowest(numbers: Any) -> Any:
    return numbers[numbers.argmin()]


def _highest(numbers: Any) -> Any:
    return numbers[numbers.argmax()]


def _same(one: Any, other: Any) -> bool:
    return not np.count_nonzero(one != other)


def _packed(gone: Any) -> bytes:
    return compress(np.packbits(gone, bitorder="little").tobytes(), 1)


def _whole(column: Any) -> tuple[Any, int, int, bytes] | None:
    """Whole numbers modulo 2**64, the lowest, how far above it the highest is, and which of them stand for NaT."""
    whole = column if column.itemsize == 8 else column.astype(LONG)
    low, missing = int(_lowest(whole)), b""
    if low == NAT:
        gone = whole == NAT
        if gone.all():
            return None
        whole = np.where(gone, whole[gone.argmin()], whole)
        missing = _packed(gone)
        low = int(_lowest(whole))
    span = int(_highest(whole)) - low
    return (whole.view(LONG), _signed(low), span, missing) if span < WIDEST else None


def _stepped(numbers: Any, step: int) -> tuple[Any, int]:
    """Numbers divided by what they have in common, and that; a few have ``step`` in common, or 0 where they are 0."""
    if step > 1:
        divided = numbers // step
        if _same(divided * step, numbers):  # a tenth of the time that the common divisor of all takes
            return divided, step
    if step != 1:
        step = int(np.gcd.reduce(numbers))
    return (numbers // step, step) if step > 1 else (numbers, 1)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _whole_floats(column: Any, exponent: int) -> tuple[Any, int, int, bytes] | None:
    """A float column as whole numbers, the lowest, how far above it the highest is, and which of them stand for NaN.

    Verified with the reader's own arithmetic.
    """
    bits, scale = column.view(UNSIGNED[column.itemsize]), 10.0**exponent
    if column.itemsize == 8:
        wide = column
    else:
        with np.errstate(invalid="ignore"):  # of a signalling NaN
            wide = column.astype(DOUBLE)
    least = float(_lowest(wide))
    nan, missing = None, b""
    if math.isnan(least):
        nan = np.isnan(wide)
        if not (bits[nan] == NAN_BITS[column.itemsize]).all() or nan.all():
            return None  # other NaNs carry a payload
        wide = np.where(nan, wide[nan.argmin()], wide)
        missing = _packed(nan)
        least = float(_lowest(wide))
    most = float(_highest(wide))
    if not -LARGEST < least * scale <= most * scale < LARGEST:
        return None
    low, high = round(least * scale), round(most * scale)
    whole = wide * scale
    np.rint(whole, out=whole)
    if low <= 0:
        whole += 0.0  # of a zero with a sign this makes the other one, as the reader does
    numbers = whole.astype(INT if low > -LOW and high < LOW else LONG)
    whole /= scale
    back = whole.astype(column.dtype, copy=False)
    if nan is not None:
        back[nan] = np.nan
    return (numbers, low, high - low, missing) if _same(back.view(bits.dtype), bits) else None


def decode_grid(body: memoryview, target: memoryview) -> None:
    """Fill ``target`` with the numbers that :func:`encode_grid` encoded."""
    code, exponent, order, width, base, step, bias, missing = HEAD.unpack_from(body)
    if code in (WIDENED, ROUNDED):
        _widen(decode_grid, body, target)
        return
    if code >= len(DTYPES) or exponent not in (0, *EXPONENTS) or width > (8 if order & WIDE else 4):
        raise UnreadableEntry("a column is damaged")
    column = np.frombuffer(target, DTYPES[code])
    count, rows, start = len(column), 1, HEAD.size
    if order & SEVERAL:
        (rows,) = ROWS.unpack_from(body, start)
        start += ROWS.size
        if not rows or count % rows or not order & DIFFERENCES:
            raise UnreadableEntry("a column is damaged")
    at = start + missing
    planes = _stored_planes(body[at:], count, width, order)
    off = planes.pop().view(np.int8) if order & OFF else None
    if column.dtype.kind == "f":
        word = DOUBLE
    else:
        # Modulo the size of an element, as when it was encoded.
        column, word = column.view(f"<i{column.itemsize}"), LONG
    wide = column if column.itemsize == 8 else np.empty(count, word)
    if not width:
        wide[:] = 0
    else:
        # In the memory where they are wanted: more can take as long as all the rest. Sums may be wider than parts.
        numbers = wide.view(LONG) if order & WIDE else wide.view(INT)[count:]
        _of_planes(planes, numbers.view(UNSIGNED[numbers.itemsize]))
        if order & DIFFERENCES:
            first = numbers[: count // rows]
            if bias:
                first -= bias
            if step and not base % step and -LOW < base // step < LOW:
                first[0], base = base // step, 0  # with which every sum begins
            np.add.accumulate(first, out=first)
            if rows > 1:
                others = numbers[len(first) :].reshape(rows - 1, -1)
                others += first - bias if bias else first
        _spread(numbers, wide)
    scale = 10**exponent
    if not base and off is None and step and not scale % step:
        scale, step = scale // step, 1  # the same quotient, and rounded once
    if step != 1:
        wide *= step
    if base:
        wide += base
    if off is not None:
        wide *= COARSER
        wide += off
    if scale != 1:
        wide /= scale
    if wide is not column:
        with np.errstate(over="ignore"):
            np.copyto(column, wide, casting="unsafe")
    if missing:
        bits = np.frombuffer(decompress(body[start:at], (count + 7) // 8), np.uint8)
        gone = np.unpackbits(bits, count=count, bitorder="little").view(bool)
        column[gone] = np.nan if column.dtype.kind == "f" else NAT


def _stored_planes(body: memoryview, count: int, width: int, order: int) -> list[Any]:
    """The lowest planes as they are, the others in a frame; the last one may be what is off the grid."""
    noise, packed = (order & ~OFF) // NOISE, width + bool(order & OFF)
    if noise > width:
        raise UnreadableEntry("a column is damaged")
    planes = [np.frombuffer(body, BYTE, count, plane * count) for plane in range(noise)]
    if noise < packed:
        data = decompress(body[noise * count :], (packed - noise) * count)
        planes += [np.frombuffer(data, BYTE, count, plane * count) for plane in range(packed - noise)]
    return planes


def _of_planes(planes: list[Any], numbers: Any) -> None:
    """Fill ``numbers``, without a sign, of their planes."""
    np.copyto(numbers, planes.pop())
    for plane in reversed(planes):
        numbers <<= 8
        numbers |= plane.astype(numbers.dtype) if len(plane) < SHORT else plane


def _spread(numbers: Any, wide: Any) -> None:
    """Bring numbers to their words of 64 bits, in whose memory they lie: those of 32 bits in its second half."""
    begin, count = 0, len(wide)
    while numbers.itemsize < wide.itemsize and count - begin > SHORT:
        end = (begin + count) // 2  # whose words end where what is left of the numbers begins
        np.copyto(wide[begin:end], numbers[begin:end])
        begin = end
    np.copyto(wide[begin:], numbers[begin:])  # source and target overlap here, which numpy handles


def _widen(decode: Callable[[memoryview, memoryview], None], body: memoryview, target: memoryview) -> None:
    """Fill ``target`` with doubles, which were encoded as floats of 32 bits."""
    wide = np.frombuffer(target, DOUBLE)
    narrow = np.empty(len(wide), SINGLE)
    decode(memoryview(bytes((CODES[SINGLE],)) + body[1:]), narrow.view(BYTE).data)
    with np.errstate(all="ignore"):
        np.copyto(wide, narrow)
        if body[0] == ROUNDED:
            _round(wide)


def encode_pco(column: Any, level: int) -> bytes:
    """Encode a column with pcodec."""
    from pcodec import ChunkConfig, standalone  # noqa: PLC0415 - for few columns

    if not column.flags.aligned:  # np.frombuffer from the middle of a message
        column = column.copy()
    packed: bytes = standalone.simple_compress(column, ChunkConfig(compression_level=level))
    return bytes((CODES[column.dtype],)) + packed


def decode_pco(body: memoryview, target: memoryview) -> None:
    """Fill ``target`` with the numbers that :func:`encode_pco` encoded."""
    from pcodec import standalone  # noqa: PLC0415

    if body[0] in (WIDENED, ROUNDED):
        _widen(decode_pco, body, target)
        return
    if body[0] >= len(DTYPES):
        raise UnreadableEntry("a column is damaged")
    column = np.frombuffer(target, DTYPES[body[0]])
    try:
        progress = standalone.simple_decompress_into(bytes(body[1:]), column)
    except (RuntimeError, TypeError) as error:
        raise UnreadableEntry("a column cannot be decompressed") from error
    if progress.n_processed != len(column):
        raise UnreadableEntry("a column is not as long as it should be")
