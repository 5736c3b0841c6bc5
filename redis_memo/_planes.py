"""Columns of numbers, as the bytes that compress well.

Market data are numbers on a grid: prices in steps of a paisa, times in steps of a minute, volumes in lots. Floats that
are decimals become whole numbers, and back without a bit lost (verified when written). Whole numbers are divided by
what they have in common, replaced by their differences where those are smaller, and stored in planes: first the lowest
byte of every number, then the next one. What is left is noise in the first plane and almost nothing in the others,
which zstd takes at a gigabyte a second. (Planes of bytes are Blosc's shuffle.)

::

    grid     kind (1) exponent (1) order (1) width (1) base (8) step (8) bias (8) length of missing (4)
             zstd frame: which are NaN or NaT, a bit each;  zstd frame: the planes, a block each
    order    0, or 1 where differences are stored; plus 2 where what comes of the planes needs words of 64 bits
    number   (base + step * n) / 10 ** exponent       n: from the planes; of differences their running sum less bias

Floats on no grid go through pcodec (https://github.com/pcodec/pcodec) where a sample says that it pays.
"""

from __future__ import annotations

import math
import struct
from typing import Any, Final

import numpy as np

from ._zstd import Bytes, compress, compress_apart, decompress
from .errors import UnreadableEntry

__all__ = ["OFF_GRID", "as_array", "decode_grid", "decode_pco", "encode_grid", "encode_pco", "plan"]

DIFFERENCES, WIDE = 1, 2
HEAD: Final = struct.Struct("<BBBBqQqI")
DTYPES: Final = tuple(np.dtype(f"<{kind}") for kind in ("f8", "f4", "i8", "i4", "i2", "u8", "u4", "u2"))
CODES: Final = {dtype.str[1:]: code for code, dtype in enumerate(DTYPES)}
EXPONENTS: Final = (2, 4, 8)  # what is on a coarser grid is on one of these too, and divided by its step
NAT: Final = -(2**63)
WIDEST: Final = 2**61
LARGEST: Final = 2**52  # whole numbers up to here add and multiply as floats without rounding
OFF_GRID: Final = -1
WINDOW: Final = 64
SAMPLE: Final = 1024
SHORT: Final = 16 * SAMPLE  # numbers that are sooner encoded than asked whether that pays
GAIN: Final = 0.9
PAYS: Final = 0.75  # pcodec takes many times as long as a copy: for less gain it is not used
NAN_BITS: Final = {8: 0x7FF8000000000000, 4: 0x7FC00000}


def as_array(data: Bytes, kind: str) -> Any:
    """Bytes as numbers."""
    return np.frombuffer(data, DTYPES[CODES[kind]])


def plan(column: Any, level: int) -> int | None:
    """Look at a sample of a column: the exponent of its grid, `OFF_GRID` where pcodec pays, None where nothing does."""
    middle = max(0, (len(column) - SAMPLE) // 2)
    sample = column[middle : middle + SAMPLE]
    exponent = _exponent(column) if column.dtype.kind == "f" else 0
    if exponent is None:
        return OFF_GRID if len(encode_pco(sample, 2)) < PAYS * sample.nbytes else None
    if len(column) > SHORT:
        packed = encode_grid(sample, exponent, level)
        if packed is not None and len(packed) > GAIN * sample.nbytes:
            return None
    return exponent


def _exponent(column: Any) -> int | None:
    """Decimals of the grid on which a few of the floats are, in Python's own arithmetic; the rest is verified later."""
    few = [number for number in (*column[:4].tolist(), *column[-4:].tolist()) if number == number]  # noqa: PLR0124
    for exponent in EXPONENTS:
        scale = 10.0**exponent
        if all(abs(number) * scale < LARGEST for number in few):
            back = [round(number * scale) / scale for number in few]
            if (back if column.itemsize == 8 else np.array(back, column.dtype).tolist()) == few:
                return exponent
    return None


def encode_grid(column: Any, exponent: int, level: int) -> bytes | None:
    """Encode a column, or say that it is on no such grid."""
    found = _whole_floats(column, exponent) if column.dtype.kind == "f" else _whole(column)
    if found is None:
        return None
    numbers, low, span, missing = found
    numbers, step = _stepped(numbers) if span else (numbers, 1)
    # Half of what the word could hold: differences have a sign, and something is added to them.
    numbers = numbers.astype("<i4" if span // step < 1 << 30 else "<i8", copy=False)
    base, bias = low, 0
    order = WIDE if numbers.itemsize == 8 else 0
    differences = np.empty_like(numbers)
    differences[0] = 0
    np.subtract(numbers[1:], numbers[:-1], out=differences[1:])
    middle = slice(len(numbers) // 2, len(numbers) // 2 + SAMPLE // 4)
    apart = numbers[middle]
    if 2 * np.abs(differences[middle]).sum(dtype="<f8") < apart.sum(dtype="<f8") - len(apart) * float(apart.min()):
        base, order = low + step * int(numbers[0]), order | DIFFERENCES
        lowest = int(differences.min())
        if lowest < 0:
            # Small ones of either sign share their higher bytes when zero is in the middle of what a byte can say.
            bias = -lowest + (128 + lowest) % 256
            differences += bias
        numbers = differences
    width = (int(numbers.max()).bit_length() + 7) // 8
    # One by one: numpy takes several times as long to transpose them at once.
    planes = [(numbers >> 8 * plane if plane else numbers).astype(np.uint8) for plane in range(width)]
    code = CODES[column.dtype.str[1:]]
    head = HEAD.pack(code, exponent, order, width, _signed(base), step, bias, len(missing))
    return b"".join((head, missing, *compress_apart(planes, level)))


def _whole(column: Any) -> tuple[Any, int, int, bytes] | None:
    """Whole numbers above the lowest, that one, the highest, and which of them stand for NaT."""
    whole = column if column.itemsize == 8 else column.astype("<i8")
    low, missing = int(whole.min()), b""
    if low == NAT:
        gone = whole == NAT
        if gone.all():
            return None
        whole = np.where(gone, whole[np.argmin(gone)], whole)
        missing = compress(np.packbits(gone, bitorder="little").tobytes(), 1)
        low = int(whole.min())
    span = int(whole.max()) - low
    return (whole - whole.dtype.type(low), low, span, missing) if span < WIDEST else None


def _stepped(numbers: Any) -> tuple[Any, int]:
    """Whole numbers from 0 up, divided by what they have in common; and that."""
    step = np.gcd.reduce(numbers[:WINDOW])  # zero where all of these are
    if step > 1:
        divided = numbers // step
        if (divided * step == numbers).all():  # a tenth of the time that the common divisor of all takes
            return divided, int(step)
    if step != 1:
        step = np.gcd.reduce(numbers)
    return (numbers // step, int(step)) if step > 1 else (numbers, 1)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _whole_floats(column: Any, exponent: int) -> tuple[Any, int, int, bytes] | None:
    """A float column as whole numbers above the lowest, that one, the highest, and which of them stand for NaN.

    Verified with the reader's own arithmetic.
    """
    with np.errstate(over="ignore"):
        scaled = np.multiply(column, 10.0**exponent, dtype="<f8")
    np.rint(scaled, out=scaled)
    low = float(scaled.min())
    bits = column.view(f"<u{column.itemsize}")
    nan, missing = None, b""
    if math.isnan(low):
        nan = np.isnan(scaled)
        if not (bits[nan] == NAN_BITS[column.itemsize]).all() or nan.all():
            return None  # other NaNs carry a payload
        scaled[nan] = scaled[np.argmin(nan)]
        missing = compress(np.packbits(nan, bitorder="little").tobytes(), 1)
        low = float(scaled.min())
    high = float(scaled.max())
    if not -LARGEST < low <= high < LARGEST:
        return None
    scaled -= low
    numbers = scaled.astype("<i8" if high - low >= 1 << 31 else "<i4")
    back = np.empty_like(column)
    _scale_down(numbers, int(low), 1, exponent, back)
    if nan is not None:
        back[nan] = np.nan
    return (numbers, int(low), int(high - low), missing) if (back.view(bits.dtype) == bits).all() else None


def _scale_down(numbers: Any, base: int, step: int, exponent: int, target: Any) -> None:
    wide = target if target.itemsize == 8 else np.empty(len(target), "<f8")
    np.copyto(wide, numbers)
    if step != 1:
        wide *= step
    if base:
        wide += base
    if exponent:
        wide /= 10.0**exponent
    if wide is not target:
        with np.errstate(over="ignore"):
            np.copyto(target, wide, casting="same_kind")


def decode_grid(body: memoryview, target: memoryview) -> None:
    """Fill ``target`` with the numbers that :func:`encode_grid` encoded."""
    code, exponent, order, width, base, step, bias, missing = HEAD.unpack_from(body)
    if code >= len(DTYPES) or exponent not in (0, *EXPONENTS) or order > 3 or width > (8 if order & WIDE else 4):
        raise UnreadableEntry("a column is damaged")
    column = np.frombuffer(target, DTYPES[code])
    count = len(column)
    at = HEAD.size + missing
    if not width:
        numbers = np.zeros(count, "<i4")
    else:
        planes = np.frombuffer(decompress(body[at:], width * count), np.uint8).reshape(width, count)
        numbers = planes[width - 1].astype("<u4" if width <= 4 else "<u8")
        for plane in planes[width - 2 :: -1] if width > 1 else ():
            numbers <<= 8
            numbers |= plane
        # What is added up may be wider than its parts.
        numbers = numbers.astype("<i8", copy=False) if order & WIDE else numbers.view("<i4")
        if order & DIFFERENCES:
            numbers -= numbers.dtype.type(bias)
            np.add.accumulate(numbers, out=numbers)
    if column.dtype.kind == "f":
        _scale_down(numbers, base, step, exponent, column)
    else:
        # Modulo the size of an element, as when it was encoded.
        column = column.view(f"<i{column.itemsize}")
        whole = column if column.itemsize == 8 else np.empty(count, "<i8")
        np.multiply(numbers, step, out=whole, dtype="<i8", casting="same_kind")
        if base:
            whole += base
        if whole is not column:
            np.copyto(column, whole, casting="unsafe")
    if missing:
        bits = np.frombuffer(decompress(body[HEAD.size : at], (count + 7) // 8), np.uint8)
        gone = np.unpackbits(bits, count=count, bitorder="little").view(bool)
        column[gone] = np.nan if column.dtype.kind == "f" else NAT


def encode_pco(column: Any, level: int) -> bytes:
    """Encode a column with pcodec."""
    from pcodec import ChunkConfig, standalone  # noqa: PLC0415 - for few columns

    packed: bytes = standalone.simple_compress(column, ChunkConfig(compression_level=level))
    return bytes((CODES[column.dtype.str[1:]],)) + packed


def decode_pco(body: memoryview, target: memoryview) -> None:
    """Fill ``target`` with the numbers that :func:`encode_pco` encoded."""
    from pcodec import standalone  # noqa: PLC0415

    if body[0] >= len(DTYPES):
        raise UnreadableEntry("a column is damaged")
    column = np.frombuffer(target, DTYPES[body[0]])
    try:
        progress = standalone.simple_decompress_into(bytes(body[1:]), column)
    except (RuntimeError, TypeError) as error:
        raise UnreadableEntry("a column cannot be decompressed") from error
    if progress.n_processed != len(column):
        raise UnreadableEntry("a column is not as long as it should be")
