"""zstd, with contexts that are lent to whoever needs one, and no trust in what a frame claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from .errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import zstandard

__all__ = ["Bytes", "compress", "compress_apart", "decompress"]

Bytes: TypeAlias = bytes | bytearray | memoryview

# Contexts with nothing to do. None must be used by two threads at once; making one costs more than a small value.
_compressors: dict[tuple[int, bool], list[zstandard.ZstdCompressor]] = {}
_decompressors: list[_Decompress] = []
KEPT: Final = 4  # of a kind: one at level 12 holds 12 MB, and no more than that work at a time on a few cores


def _compressor(level: int, *, apart: bool) -> zstandard.ZstdCompressor:
    """One that is the caller's until it is given back; one that failed is not, as its state is unknown."""
    try:
        return _compressors[level, apart].pop()
    except (KeyError, IndexError):
        return _new_compressor(level, apart=apart)


def _new_compressor(level: int, *, apart: bool) -> zstandard.ZstdCompressor:
    import zstandard  # noqa: PLC0415 - loaded by the first value that is large enough

    # Where little repeats a small table finds it, which is cleared sooner and leaves the processor's cache to others.
    options = {"hash_log": 8} if apart else {}
    how = zstandard.ZstdCompressionParameters.from_level(
        level, write_checksum=False, write_content_size=True, **options
    )
    return zstandard.ZstdCompressor(compression_params=how)


def _give_back(compressor: zstandard.ZstdCompressor, level: int, *, apart: bool) -> None:
    idle = _compressors.setdefault((level, apart), [])
    if len(idle) < KEPT:
        idle.append(compressor)


def compress(data: Bytes, level: int) -> bytes:
    """One frame that holds ``data``, and says how long it is."""
    compressor = _compressor(level, apart=False)
    packed = compressor.compress(data)
    _give_back(compressor, level, apart=False)
    return packed


def compress_apart(parts: Sequence[Any], level: int) -> list[bytes]:
    """One frame that holds all the parts, in pieces to be joined; noise in one does not spoil the others.

    Args:
        parts: Buffers of bytes, in which little repeats.
        level: zstd's.
    """
    compressor = _compressor(level, apart=True)
    if len(parts) == 1:
        pieces = [compressor.compress(parts[0])]
    else:
        import zstandard  # noqa: PLC0415

        stream = compressor.compressobj(size=sum(map(len, parts)))
        pieces = []
        for part in parts:
            # A block has codes of its own; or none where they would not pay, and then it is copied when read.
            pieces += stream.compress(part), stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        pieces.append(stream.flush())
    _give_back(compressor, level, apart=True)
    return pieces


class _Decompress(NamedTuple):
    """What it takes to decompress, found once."""

    decompress: Callable[..., bytes]
    content_size: Callable[[Bytes], int]
    failure: type[Exception]


def _decompressor() -> _Decompress:
    import zstandard  # noqa: PLC0415

    return _Decompress(zstandard.ZstdDecompressor().decompress, zstandard.frame_content_size, zstandard.ZstdError)


def decompress(data: Bytes, size: int) -> bytes:
    """The ``size`` bytes in a frame; what follows it is overlooked.

    Raises:
        UnreadableEntry: There is no such frame. Nothing is allocated by what it says itself.
    """
    try:
        found = _decompressors.pop()
    except IndexError:
        found = _decompressor()
    try:
        if found.content_size(data) != size:
            raise UnreadableEntry("a segment's lengths disagree")
        raw = found.decompress(data, max_output_size=size, allow_extra_data=True)
    except found.failure as error:
        raise UnreadableEntry("a segment cannot be decompressed") from error
    if len(_decompressors) < KEPT:
        _decompressors.append(found)
    if len(raw) != size:
        raise UnreadableEntry("a segment's lengths disagree")
    return raw
