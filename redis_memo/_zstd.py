"""zstd, with one context per thread and no trust in what a frame claims."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

from .errors import UnreadableEntry

if TYPE_CHECKING:
    import zstandard

__all__ = ["Bytes", "compress", "decompress"]

Bytes: TypeAlias = bytes | bytearray | memoryview

_local = threading.local()


def compress(data: Bytes, level: int) -> bytes:
    """One frame that holds ``data``, and says how long it is."""
    # A context must not be used by two threads at once, and making one costs more than a small value.
    found: dict[int, zstandard.ZstdCompressor] | None = getattr(_local, "compressors", None)
    if found is None:
        found = _local.compressors = {}
    if level not in found:
        import zstandard  # noqa: PLC0415 - loaded by the first value that is large enough

        found[level] = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)
    return found[level].compress(data)


def decompress(data: Bytes, size: int) -> bytes:
    """The ``size`` bytes in a frame; what follows it is overlooked.

    Raises:
        UnreadableEntry: There is no such frame. Nothing is allocated by what it says itself.
    """
    import zstandard  # noqa: PLC0415

    found: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if found is None:
        found = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        if zstandard.frame_content_size(data) != size:
            raise UnreadableEntry("a segment's lengths disagree")
        raw = found.decompress(data, max_output_size=size, allow_extra_data=True)
    except zstandard.ZstdError as error:
        raise UnreadableEntry("a segment cannot be decompressed") from error
    if len(raw) != size:
        raise UnreadableEntry("a segment's lengths disagree")
    return raw
