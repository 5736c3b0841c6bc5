"""zstd, with one context per thread and no trust in what a frame claims."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    import zstandard

__all__ = ["Bytes", "compress", "compress_apart", "decompress"]

Bytes: TypeAlias = bytes | bytearray | memoryview

_local = threading.local()


def _compressor(level: int, **options: int) -> zstandard.ZstdCompressor:
    # A context must not be used by two threads at once, and making one costs more than a small value.
    found: dict[tuple[int, bool], zstandard.ZstdCompressor] | None = getattr(_local, "compressors", None)
    if found is None:
        found = _local.compressors = {}
    known = found.get((level, bool(options)))
    if known is None:
        import zstandard  # noqa: PLC0415 - loaded by the first value that is large enough

        how = zstandard.ZstdCompressionParameters.from_level(
            level, write_checksum=False, write_content_size=True, **options
        )
        known = found[level, bool(options)] = zstandard.ZstdCompressor(compression_params=how)
    return known


def compress(data: Bytes, level: int) -> bytes:
    """One frame that holds ``data``, and says how long it is."""
    return _compressor(level).compress(data)


def compress_apart(parts: Sequence[Any], level: int) -> list[bytes]:
    """One frame that holds all the parts, in pieces to be joined; noise in one does not spoil the others.

    Args:
        parts: Buffers of bytes, in which little repeats.
        level: zstd's.
    """
    # So little that a small table finds it, which is cleared sooner and leaves the processor's cache to others.
    compressor = _compressor(level, hash_log=8)
    if len(parts) == 1:
        return [compressor.compress(parts[0])]
    import zstandard  # noqa: PLC0415

    stream = compressor.compressobj(size=sum(map(len, parts)))
    pieces: list[bytes] = []
    for part in parts:
        # A block has codes of its own; or none where they would not pay, and then it is copied when read.
        pieces += stream.compress(part), stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    pieces.append(stream.flush())
    return pieces


def decompress(data: Bytes, size: int) -> bytes:
    """The ``size`` bytes in a frame; what follows it is overlooked.

    Raises:
        UnreadableEntry: There is no such frame. Nothing is allocated by what it says itself.
    """
    found: tuple[Any, Any, type[Exception]] | None = getattr(_local, "decompressor", None)
    if found is None:
        import zstandard  # noqa: PLC0415

        made = zstandard.ZstdDecompressor().decompress
        found = _local.decompressor = made, zstandard.frame_content_size, zstandard.ZstdError
    decompress, content_size, failure = found
    try:
        if content_size(data) != size:
            raise UnreadableEntry("a segment's lengths disagree")
        raw: bytes = decompress(data, max_output_size=size, allow_extra_data=True)
    except failure as error:
        raise UnreadableEntry("a segment cannot be decompressed") from error
    if len(raw) != size:
        raise UnreadableEntry("a segment's lengths disagree")
    return raw
