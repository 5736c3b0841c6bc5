"""The wire format, version 2: what is stored for one value.

All numbers are little-endian::

    offset  size  field
    0       4     magic  b"RMEM"
    4       1     version  2
    5       1     flags  bit 0: signed, bit 1: some leaf is a pickle, bit 2: segments have digests of their own
    6       2     length of the argument tokens
    8       4     number of segments
    12      4     number of chunks: strings beside this one; 0 where all is in it
    16      8     created: seconds since 1970, by the writer's clock
    24      8     compute time in seconds
    32      8     fresh until: seconds since 1970 (the soft expiry)
    40      8     expires: seconds since 1970 (the hard expiry, which Redis enforces)
    48      16    tag
    64      ...   argument tokens, 8 bytes each (they let an entry be matched when the index is lost)
    ...     10 n  segment table: how it is stored, 1 if its buffer goes on in the next one, raw length, stored length;
                  and 16 bytes more, its digest, where segments have one
    ...     ...   segments (see `_segments`): the typed stream first, then the buffers it refers to

The tag is blake3 over the entry's own Redis key and everything but the tag; where segments have digests, they stand for
all but the first one. With a secret both are keyed, so that an entry can be neither forged nor moved to another key
(P6); without one they are checksums. Digests let a part of a large value be fetched and checked alone.

A value beyond CHUNK bytes lies in several strings: this one ends with the first segment, and the others follow in
chunks of at most CHUNK, cut between segments, at ``key:tag:number``. As the tag names them, chunks of two values never
mix, and what a reader finds is all of one value or nothing.

Every length is checked against what is there before anything is allocated by it, and no segment may claim more than
EXPANSION times its stored bytes, which stops decompression bombs.
"""

from __future__ import annotations

import functools
import hmac
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from blake3 import blake3

from ._large import Large
from ._segments import EXPANSION, SEGMENT, Packed, Part, Segment, pack, read_ahead
from ._threads import WORTH, hasher, share, threads
from .errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ._codecs_buffers import Scattered
    from ._config import Compression
    from ._zstd import Bytes

__all__ = [
    "CHUNKS", "HEAD", "LARGEST", "MAGIC", "SMALL", "TAG", "Entry", "Sealer", "Span", "Stamp", "Survey", "label",
]  # fmt: skip

MAGIC: Final = b"RMEM"
VERSION: Final = 2
SIGNED, PICKLED, DIGESTED = 1, 2, 4
HEAD: Final = struct.Struct("<4sBBHIIdddd16s")
TAG_AT: Final = 48
CHUNKS: Final = slice(12, 16)  # where the number of chunks stands, and where the tag that names them
TAG: Final = slice(TAG_AT, TAG_AT + 16)
_TIMES: Final = struct.Struct("<dddd")
ROW: Final = struct.Struct("<BBII")
DIGESTED_ROW: Final = struct.Struct("<BBII16s")
_LENGTH: Final = struct.Struct("<I")
_NO_SECRET: Final = ((None, None),)
_SMALL_HEAD: Final = struct.Struct("<6sH8s8xd16x16s")  # as HEAD, with magic, version and flags in one, and both numbers
_SMALL_ROW: Final = struct.Struct("<HII")
_ONE_SEGMENT: Final = struct.pack("<II", 1, 0)

SMALL: Final = 4096
JOINED: Final = 64 << 10  # below this, one string and one digest of it all cost less than pieces
CHUNK: Final = 32 << 20
LARGEST: Final = (4 << 30) - 1  # bytes of a value before compression; a planted entry must not fill the memory
MANY: Final = 4 * WORTH  # bytes of segments from which a second hashing thread pays

_CHECKSUM: Final = "redis_memo envelope v2 checksum"
_CHECKSUMS: Final = blake3(derive_key_context=_CHECKSUM)  # copied, which takes less than to begin

Row: TypeAlias = tuple[int, int, int, int, bytes]


class Stamp(NamedTuple):  # as the next one is made in each hit: a frozen dataclass takes four times as long
    """When an entry was made, what it cost, and until when it may be used; seconds since 1970."""

    created: float
    compute: float
    fresh_until: float
    expires: float


def _stamp(string: Bytes) -> Stamp:
    return Stamp._make(_TIMES.unpack_from(string, 16))


def label(string: Bytes) -> tuple[Stamp, bytes]:
    """The stamp of an envelope that was opened before, and its tokens."""
    return _stamp(string), bytes(string[HEAD.size : HEAD.size + HEAD.unpack_from(string)[3]])


class Entry(NamedTuple):
    """An opened envelope: its stamp and the still encoded value."""

    stamp: Stamp
    meta: Bytes
    buffers: Sequence[Bytes | Packed]
    trusted: bool
    stored: int


class Span(NamedTuple):
    """Where a segment lies: in a chunk, or in the string at the entry's key (None)."""

    chunk: int | None
    start: int
    stop: int


class Survey(NamedTuple):
    """A large envelope whose segments are still in the store.

    Attributes:
        stamp: As of an `Entry`; so ``meta`` and ``trusted``.
        rows: Its segments but the first.
        spans: Where they lie.
        check: The digest of a segment's bytes.
    """

    stamp: Stamp
    meta: Bytes
    rows: Sequence[Row]
    spans: Sequence[Span]
    trusted: bool
    check: Callable[[Bytes], bytes]

    def buffers(self) -> list[tuple[int, list[int]]]:
        """The buffers: bytes that each has when it is read, and the numbers of its segments."""
        found: list[tuple[int, list[int]]] = []
        size, numbers = 0, []
        for number, (_, more, raw, _, _) in enumerate(self.rows):
            size += raw
            numbers.append(number)
            if not more:
                found.append((size, numbers))
                size, numbers = 0, []
        return found

    def packed(self, numbers: Sequence[int], stored: Sequence[Bytes]) -> Packed:
        """A buffer, of its segments as they were fetched."""
        parts = []
        for number, data in zip(numbers, stored, strict=True):
            how, _, raw, _, digest = self.rows[number]
            parts.append(Part(how, raw, memoryview(data), digest))
        return Packed(parts, self.check)


class _Head(NamedTuple):
    stamp: Stamp
    rows: list[Row]
    end: int
    beside: int
    claimed: int
    digested: bool
    trusted: bool
    check: Callable[[Bytes], bytes]


def _tag(key: str, head: bytes, rest: Sequence[Bytes], secret: bytes | None) -> bytes:
    size = 0
    for part in rest:
        size += len(part)
    if size <= JOINED:
        return _tag_of_little(key, (head, *rest), secret)
    name = key.encode()
    begin = b"%b%b%b" % (_LENGTH.pack(len(name)), name, head)
    options: dict[str, Any] = {"derive_key_context": _CHECKSUM} if secret is None else {"key": secret}
    hash_of = hasher(begin, threads() if size >= WORTH else 1, **options)
    for part in rest:
        hash_of.update(part)
    return hash_of.digest(16)


def _tag_of_little(key: str, parts: Sequence[Bytes], secret: bytes | None) -> bytes:
    """`_tag`, at once: blake3 takes twice as long where parts end within its blocks, or where it is given threads."""
    name = key.encode()
    whole = b"".join((_LENGTH.pack(len(name)), name, *parts))
    if secret is not None:
        return blake3(whole, key=secret).digest(16)
    copy = _CHECKSUMS.copy()
    copy.update(whole)
    return copy.digest(16)


def _digest(secret: bytes | None, data: Bytes) -> bytes:
    """The digest of one segment. Its own context keeps it from being taken for the tag of anything."""
    if secret is None:
        return blake3(data, derive_key_context="redis_memo segment v2 checksum").digest(16)
    return blake3(data, key=secret).digest(16)


def _chunked(rows: Sequence[Row]) -> Iterator[tuple[int, int, int]]:
    """First row, the row after the last, and bytes of each chunk: the rows after the first, cut before CHUNK."""
    first, size = 1, 0
    for number, row in enumerate(rows[1:], 1):
        if size and size + row[3] > CHUNK:
            yield first, number, size
            first, size = number, 0
        size += row[3]
    if size:
        yield first, len(rows), size


class Sealer:
    """Seals values into envelopes and opens them again, with one set of secrets.

    Args:
        secrets: The first one signs, all of them verify; empty for checksums only.
        allow_unsigned_pickle: Open pickles without a secret: whoever can write to Redis can then run code here.
    """

    def __init__(self, secrets: Sequence[bytes], *, allow_unsigned_pickle: bool = False) -> None:
        self._secrets = tuple(
            (
                blake3(secret, derive_key_context="redis_memo envelope v2 signature").digest(),
                blake3(secret, derive_key_context="redis_memo segment v2 signature").digest(),
            )
            for secret in secrets
        )
        self._unsigned_pickle = allow_unsigned_pickle and not secrets
        # How small entries may begin, by magic, version and flags; and whether what does so may hold a pickle.
        signed, trusted = SIGNED if secrets else 0, bool(secrets) or self._unsigned_pickle
        flags = (signed, signed | PICKLED) if trusted else (signed,)
        self._starts = {MAGIC + bytes((VERSION, each)): trusted for each in flags}

    @property
    def may_pickle(self) -> bool:
        """Whether a pickle sealed here could be opened again."""
        return bool(self._secrets) or self._unsigned_pickle

    def seal(
        self,
        key: str,
        meta: bytes,
        buffers: Sequence[Bytes | Scattered],
        *,
        pickled: bool,
        stamp: Stamp,
        kinds: Sequence[str] = (),
        tokens: bytes = b"",
        compress: Compression = "auto",
    ) -> tuple[bytes | Large, int]:
        """Return the envelope for an encoded value, and how many bytes compression saved.

        A large one shares the memory of those buffers that are stored as they are.
        """
        segments = pack([(meta, "")], compress)
        if len(segments) > 1:  # it has to be in one; what the codecs write is never that long
            segments = [Segment(0, more=False, raw=len(meta), data=meta)]
        segments += pack(list(zip(buffers, kinds or [""] * len(buffers), strict=True)), compress)
        size = sum([len(segment.data) for segment in segments])
        tag_secret, digest_secret = self._secrets[0] if self._secrets else (None, None)
        digested = size > JOINED
        table = [ROW.pack(how, more, raw, len(data)) for how, more, raw, data in segments]
        if digested:

            def add_digest(number: int) -> None:
                table[number] += _digest(digest_secret, segments[number].data)

            share(add_digest, len(table), threads(len(table)) if size >= MANY else 1)
        chunks: list[tuple[Bytes, ...]] = []
        stored = [segment.data for segment in segments]
        if size > CHUNK:
            rows: list[Row] = [(0, 0, 0, len(data), b"") for data in stored]
            chunks = [tuple(stored[first:last]) for first, last, _ in _chunked(rows)]
            stored = stored[:1]
        flags = (SIGNED if tag_secret else 0) | (PICKLED if pickled else 0) | (DIGESTED if digested else 0)
        head = HEAD.pack(
            MAGIC, VERSION, flags, len(tokens), len(segments), len(chunks),
            stamp.created, stamp.compute, stamp.fresh_until, stamp.expires, bytes(16),
        )[:TAG_AT]  # fmt: skip
        rest: list[Bytes] = [tokens + b"".join(table), *(stored[:1] if digested else stored)]
        begin = [head, _tag(key, head, rest, tag_secret), *rest]
        saved = len(meta) + sum(map(len, buffers)) - size
        if not digested:
            return b"".join(begin), saved
        return Large((b"".join(begin), *stored[1:]), chunks), saved

    def open(self, key: str, envelope: Bytes | Large) -> Entry:
        """Check an envelope and return what it holds.

        Raises:
            UnreadableEntry: It is damaged, foreign, newer, or not signed by one of the secrets. Damage to a segment
                that has its own digest shows when it is read.
        """
        if type(envelope) is bytes and len(envelope) <= SMALL:
            small = self.small(key, envelope)
            if small is not None:
                return Entry(_stamp(envelope), small[1], (), small[2], len(envelope))
        raw = envelope.string if isinstance(envelope, Large) else envelope
        head = self._verified(key, raw)
        rows, view = head.rows, memoryview(raw)
        held = rows[:1] if head.beside else rows
        if head.end + sum([row[3] for row in held]) != len(raw):
            raise UnreadableEntry("truncated")
        lying = _lying(held, view, head.end)
        stored = len(raw)
        if head.beside:
            found = list(_chunked(rows))
            chunks = envelope.take_chunks() if isinstance(envelope, Large) else []
            if [size for _, _, size in found] != list(map(len, chunks)) or len(found) != head.beside:
                raise UnreadableEntry("a chunk is missing")
            for first, last, size in found:
                lying += _lying(rows[first:last], memoryview(chunks.pop(0)), 0)
                stored += size
        buffers = _buffers(rows, lying, head.check)
        if head.claimed >= WORTH:
            read_ahead(buffers[1:], head.check)
        return Entry(head.stamp, _meta(buffers[0]), buffers[1:], head.trusted, stored)

    def small(self, key: str, raw: bytes) -> tuple[float, bytes, bool] | None:
        """What nearly every small hit is, by a shorter way: one segment as it is. None sends it the long way.

        Returns:
            Of an `Entry` the compute time, the value, and whether it is trusted.
        """
        try:
            start, token_bytes, form, compute, tag = _SMALL_HEAD.unpack_from(raw)
            at = HEAD.size + token_bytes
            how, size, stored = _SMALL_ROW.unpack_from(raw, at)
        except struct.error:
            return None
        at += ROW.size
        trusted = self._starts.get(start)
        if trusted is None or form != _ONE_SEGMENT or how or not size == stored == len(raw) - at:
            return None
        parts = raw[:TAG_AT], raw[HEAD.size :]
        for secret, _ in self._secrets or _NO_SECRET:
            if hmac.compare_digest(tag, _tag_of_little(key, parts, secret)):
                return compute, raw[at:], trusted
        return None

    def survey(self, key: str, start: Bytes) -> Survey:
        """Check the first part of an envelope whose segments have digests, and say where they lie.

        Raises:
            UnreadableEntry: As `open`; or the part is too short to tell.
        """
        head = self._verified(key, start)
        if not head.digested:
            raise UnreadableEntry("it cannot be read in parts")
        where: list[Span] = []
        at = head.end
        if head.beside:
            where.append(Span(None, at, at + head.rows[0][3]))
            for number, (first, last, _) in enumerate(_chunked(head.rows)):
                at = 0
                for row in head.rows[first:last]:
                    where.append(Span(number, at, at + row[3]))
                    at += row[3]
        else:
            for row in head.rows:
                where.append(Span(None, at, at + row[3]))
                at += row[3]
        (meta,) = _buffers(head.rows[:1], [memoryview(start)[where[0].start : where[0].stop]], head.check)
        return Survey(head.stamp, _meta(meta), head.rows[1:], where[1:], head.trusted, head.check)

    def _verified(self, key: str, raw: Bytes) -> _Head:
        """What an envelope says of itself, once it is clear who says so."""
        if len(raw) < HEAD.size:
            raise UnreadableEntry("too short to be an entry")
        magic, version, flags, token_bytes, count, beside, *times, tag = HEAD.unpack_from(raw)
        if magic != MAGIC:
            raise UnreadableEntry("not an entry of redis_memo")
        if version != VERSION or flags & ~(SIGNED | PICKLED | DIGESTED):
            raise UnreadableEntry("written by another version of redis_memo")
        at = HEAD.size + token_bytes
        digested = bool(flags & DIGESTED)
        form = DIGESTED_ROW if digested else ROW
        end = at + form.size * count
        if count < 1 or end > len(raw) or (beside and not digested):
            raise UnreadableEntry("truncated")
        view = memoryview(raw)
        rows: list[Row] = list(form.iter_unpack(view[at:end])) if digested else [
            (*row, b"") for row in form.iter_unpack(view[at:end])
        ]  # fmt: skip
        claimed = 0
        for how, _, size, stored, _ in rows:
            claimed += size
            if size > EXPANSION * stored:
                raise UnreadableEntry("a segment claims to be larger than it can be")
            if size != stored and not how:
                raise UnreadableEntry("a segment's lengths disagree")
            if size > SEGMENT and how:
                # As when it is read; but its buffer's memory is made before that.
                raise UnreadableEntry("a segment is larger than one can be")
        if end + rows[0][3] > len(raw):
            raise UnreadableEntry("truncated")
        if claimed > LARGEST:
            raise UnreadableEntry("it claims to be larger than a value can be")
        signed = bool(flags & SIGNED)
        if signed != bool(self._secrets):
            raise UnreadableEntry("signed, but there is no secret here" if signed else "not signed")
        head = bytes(view[:TAG_AT])
        rest = (view[HEAD.size : end + rows[0][3]] if digested else view[HEAD.size :],)
        known = [
            digest_secret
            for tag_secret, digest_secret in self._secrets or _NO_SECRET
            if hmac.compare_digest(tag, _tag(key, head, rest, tag_secret))
        ]
        if not known:
            raise UnreadableEntry("wrongly signed" if signed else "damaged")
        trusted = signed or self._unsigned_pickle
        if flags & PICKLED and not trusted:
            raise UnreadableEntry("holds a pickle, and there is no secret to verify it with")
        return _Head(Stamp(*times), rows, end, beside, claimed, digested, trusted, functools.partial(_digest, known[0]))


def _meta(first: Bytes | Packed) -> Bytes:
    try:
        return first.read_stream() if isinstance(first, Packed) else first
    except MemoryError:
        raise UnreadableEntry("there is not enough memory to read it") from None


def _lying(rows: Sequence[Row], view: memoryview, at: int) -> list[memoryview]:
    """The stored segments, as they lie one after another."""
    found = []
    for row in rows:
        found.append(view[at : at + row[3]])
        at += row[3]
    return found


def _buffers(rows: Sequence[Row], lying: list[memoryview], check: Callable[[Bytes], bytes]) -> list[Bytes | Packed]:
    """The buffers that the segments make up."""
    found: list[Bytes | Packed] = []
    parts: list[Part] = []
    for (how, more, size, _, digest), data in zip(rows, lying, strict=True):
        if not (more or parts or how or digest):
            found.append(data)
            continue
        parts.append(Part(how, size, data, digest))
        if not more:
            found.append(Packed(parts, check))
            parts = []
    if parts:
        raise UnreadableEntry("truncated")
    return found
