"""The wire format, version 1: what one Redis string holds.

All numbers are little-endian::

    offset  size  field
    0       4     magic  b"RMEM"
    4       1     version  1
    5       1     flags  bit 0: signed, bit 1: some leaf is a pickle
    6       2     length of the argument tokens
    8       4     number of segments
    12      8     created: seconds since 1970, by the writer's clock
    20      8     compute time in seconds
    28      8     fresh until: seconds since 1970 (the soft expiry)
    36      8     expires: seconds since 1970 (the hard expiry, which Redis enforces)
    44      16    tag
    60      ...   argument tokens, 8 bytes each (they let an entry be matched when the index is lost)
    ...     17 n  segment table: compression (0 none, 1 zstd), raw length, stored length
    ...     ...   segments: the typed stream first, then the buffers it refers to

The tag is blake3 over the entry's own Redis key and everything but the tag. With a secret it is keyed, so
that an entry can be neither forged nor moved to another key (P6); without one it is a checksum. Every
length is checked against what is there before anything is allocated by it, and no segment may claim more
than EXPANSION times its stored bytes, which stops decompression bombs.
"""

from __future__ import annotations

import hmac
import os
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from blake3 import blake3

from .errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    import zstandard

    from ._config import Compression

__all__ = ["Entry", "Sealer", "Stamp"]

Bytes: TypeAlias = bytes | bytearray | memoryview

MAGIC = b"RMEM"
VERSION = 1
SIGNED = 1
PICKLED = 2
HEAD = struct.Struct("<4sBBHIdddd16s")
ROW = struct.Struct("<BQQ")
TAG_AT = 44
_LENGTH = struct.Struct("<I")
RAW, ZSTD = 0, 1
_NO_SECRET = (None,)

MIN_COMPRESSED = 512  # below this, the bytes saved are not worth the call
LEVELS = {"fast": 1, "auto": 3, "small": 12}
SAMPLE = 32 * 1024
LARGEST = 4 << 30  # bytes of a value before compression; a planted entry must not fill the memory
EXPANSION = 1024  # the most that a segment may grow: zeros beyond it are padded when written
MANY = 1 << 20  # from here a second hashing thread pays

_THREADS = min(4, os.cpu_count() or 1)
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Stamp:
    """When an entry was made, what it cost, and until when it may be used; seconds since 1970."""

    created: float
    compute: float
    fresh_until: float
    expires: float


@dataclass(frozen=True, slots=True)
class Entry:
    """An opened envelope: its stamp and the still encoded value."""

    stamp: Stamp
    meta: Bytes
    buffers: Sequence[Bytes]
    trusted: bool
    stored: int


def _tag(key: str, head: bytes, rest: Sequence[Bytes], secret: bytes | None) -> bytes:
    size = 0
    for part in rest:
        size += len(part)
    # Never blake3's AUTO: its global thread pool does not survive a fork, and a forked child would hang.
    threads = _THREADS if size >= MANY else 1
    name = key.encode()
    begin = b"%b%b%b" % (_LENGTH.pack(len(name)), name, head)
    if secret is None:
        hasher = blake3(begin, derive_key_context="redis_memo envelope v1 checksum", max_threads=threads)
    else:
        hasher = blake3(begin, key=secret, max_threads=threads)
    for part in rest:
        hasher.update(part)
    return hasher.digest(16)


def _compressor(level: int) -> zstandard.ZstdCompressor:
    # A zstd context must not be used by two threads at once, and making one costs more than a small value.
    found: dict[int, zstandard.ZstdCompressor] | None = getattr(_local, "compressors", None)
    if found is None:
        found = _local.compressors = {}
    if level not in found:
        import zstandard  # noqa: PLC0415 - loaded by the first value that is large enough

        found[level] = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)
    return found[level]


def _pack(data: Bytes, level: int | None) -> tuple[int, Bytes]:
    """Compress ``data`` where that makes it smaller, and say how it is stored."""
    size = len(data)
    if level is None or size < MIN_COMPRESSED:
        return RAW, data
    if size > 4 * SAMPLE:
        # Random floats gain nothing and must not pay: ask a sample from the middle first.
        middle = size // 2
        sample = _compressor(1).compress(memoryview(data)[middle : middle + SAMPLE])
        if len(sample) > 0.92 * SAMPLE:
            return RAW, data
    packed = _compressor(level).compress(data)
    if len(packed) > 0.95 * size:
        return RAW, data
    return ZSTD, packed.ljust(-(-size // EXPANSION), b"\0")


def _unpack(how: int, data: memoryview, size: int) -> Bytes:
    if how == RAW:
        if size != len(data):
            raise UnreadableEntry("a segment's lengths disagree")
        return data
    if how != ZSTD:
        raise UnreadableEntry("a segment is compressed in a way this version does not know")
    if size > EXPANSION * len(data):
        raise UnreadableEntry("a segment claims to be larger than it can be")
    import zstandard  # noqa: PLC0415

    try:
        if zstandard.frame_content_size(data) != size:
            raise UnreadableEntry("a segment's lengths disagree")
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=size, allow_extra_data=True)
    except zstandard.ZstdError as error:
        raise UnreadableEntry("a segment cannot be decompressed") from error
    if len(raw) != size:
        raise UnreadableEntry("a segment's lengths disagree")
    return raw


class Sealer:
    """Seals values into envelopes and opens them again, with one set of secrets.

    Args:
        secrets: The first one signs, all of them verify; empty for checksums only.
        allow_unsigned_pickle: Open pickles without a secret: whoever can write to Redis can then run code here.
    """

    def __init__(self, secrets: Sequence[bytes], *, allow_unsigned_pickle: bool = False) -> None:
        self._secrets = tuple(
            blake3(secret, derive_key_context="redis_memo envelope v1 signature").digest() for secret in secrets
        )
        self._unsigned_pickle = allow_unsigned_pickle and not secrets

    @property
    def may_pickle(self) -> bool:
        """Whether a pickle sealed here could be opened again."""
        return bool(self._secrets) or self._unsigned_pickle

    def seal(
        self,
        key: str,
        meta: bytes,
        buffers: Sequence[Bytes],
        *,
        pickled: bool,
        stamp: Stamp,
        tokens: bytes = b"",
        compress: Compression = "auto",
    ) -> tuple[bytes, int]:
        """Return the envelope for an encoded value, and how many bytes compression saved."""
        level = None if compress is None else LEVELS[compress]
        segments = [_pack(data, level) for data in (meta, *buffers)]
        raw = [len(meta), *map(len, buffers)]
        table = b"".join(
            ROW.pack(how, size, len(data)) for (how, data), size in zip(segments, raw, strict=True)
        )
        secret = self._secrets[0] if self._secrets else None
        flags = (SIGNED if secret else 0) | (PICKLED if pickled else 0)
        head = HEAD.pack(
            MAGIC, VERSION, flags, len(tokens), len(segments),
            stamp.created, stamp.compute, stamp.fresh_until, stamp.expires, bytes(16),
        )[:TAG_AT]  # fmt: skip
        rest: list[Bytes] = [tokens + table, *(data for _, data in segments)]
        saved = sum(raw) - sum(len(data) for _, data in segments)
        return b"".join([head, _tag(key, head, rest, secret), *rest]), saved

    def open(self, key: str, raw: bytes) -> Entry:
        """Check an envelope and return what it holds.

        Raises:
            UnreadableEntry: It is damaged, foreign, newer, or not signed by one of the secrets.
        """
        if len(raw) < HEAD.size:
            raise UnreadableEntry("too short to be an entry")
        magic, version, flags, token_bytes, count, created, compute, fresh_until, expires, tag = HEAD.unpack_from(raw)
        if magic != MAGIC:
            raise UnreadableEntry("not an entry of redis_memo")
        if version != VERSION or flags & ~(SIGNED | PICKLED):
            raise UnreadableEntry("written by a newer version of redis_memo")
        at = HEAD.size + token_bytes
        end = at + ROW.size * count
        if count < 1 or end > len(raw):
            raise UnreadableEntry("truncated")
        rows = list(ROW.iter_unpack(raw[at:end]))
        size, claimed = end, 0
        for _, raw_size, stored in rows:
            size += stored
            claimed += raw_size
        if size != len(raw):
            raise UnreadableEntry("truncated")
        if claimed > LARGEST:
            raise UnreadableEntry("it claims to be larger than a value can be")
        signed = bool(flags & SIGNED)
        if signed != bool(self._secrets):
            raise UnreadableEntry("signed, but there is no secret here" if signed else "not signed")
        view = memoryview(raw)
        rest = (view[HEAD.size :],)
        head = raw[:TAG_AT]
        for secret in self._secrets or _NO_SECRET:
            if hmac.compare_digest(tag, _tag(key, head, rest, secret)):
                break
        else:
            raise UnreadableEntry("wrongly signed" if signed else "damaged")
        segments: list[Bytes] = []
        try:
            for how, size, stored in rows:
                segments.append(_unpack(how, view[end : end + stored], size))
                end += stored
        except MemoryError:
            raise UnreadableEntry("there is not enough memory to read it") from None
        trusted = signed or self._unsigned_pickle
        if flags & PICKLED and not trusted:
            raise UnreadableEntry("holds a pickle, and there is no secret to verify it with")
        return Entry(Stamp(created, compute, fresh_until, expires), segments[0], segments[1:], trusted, len(raw))
