"""The wire format: golden bytes, and every way an entry can be wrong (P5: a miss; P6: nobody gets in)."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_memo import _envelope
from redis_memo._config import Settings
from redis_memo._envelope import HEAD, PICKLED, ROW, TAG_AT, Sealer, Stamp
from redis_memo._large import Large
from redis_memo._segments import EXPANSION, Packed
from redis_memo.errors import ConfigurationError, UnreadableEntry

GOLDEN = Path(__file__).parent / "golden" / "envelopes.json"
KEY = "memo:{stock_data:prices.history:#0}:" + "ab" * 20
STAMP = Stamp(created=1_700_000_000.25, compute=0.125, fresh_until=1_700_000_060.25, expires=1_700_000_060.25)
SECRET, OTHER = b"first secret of the tests", b"second secret of the tests"
TOKENS = bytes(range(16))

CASES = {
    "plain": ((), b"meta", [], False, None),
    "plain with buffers": ((), b"meta", [b"one", b"", bytes(1000)], False, None),
    "signed": ((SECRET,), b"meta", [b"buffer"], False, None),
    "signed pickle": ((SECRET, OTHER), b"meta", [b"buffer"], True, None),
}


def sealed(secrets=(), meta=b"meta", buffers=(), pickled=False, compress="auto", key=KEY, kinds=()) -> bytes | Large:
    return Sealer(secrets).seal(
        key, meta, list(buffers), kinds=kinds, pickled=pickled, stamp=STAMP, tokens=TOKENS, compress=compress
    )[0]


def fetched(envelope: bytes | Large) -> bytes | Large:
    """An envelope as it comes back from the store."""
    if isinstance(envelope, bytes):
        return envelope
    chunks = [(b"".join(chunk),) for chunk in envelope.chunks]
    return Large((envelope.string,), chunks) if chunks else b"".join(envelope.pieces)


def contents(entry: _envelope.Entry) -> list[bytes]:
    return [bytes(buffer.read() if isinstance(buffer, Packed) else buffer) for buffer in entry.buffers]


def test_golden_bytes_are_still_written_and_read() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert set(golden) == set(CASES)
    for name, (secrets, meta, buffers, pickled, compress) in CASES.items():
        raw = bytes.fromhex(golden[name])
        assert sealed(secrets, meta, buffers, pickled, compress) == raw, f"{name}: the wire format has changed"
        entry = Sealer(secrets).open(KEY, raw)
        assert (bytes(entry.meta), contents(entry), entry.stamp) == (meta, buffers, STAMP)
        assert entry.trusted is bool(secrets)


@given(
    meta=st.binary(max_size=3000),
    buffers=st.lists(st.one_of(st.binary(max_size=100), st.integers(0, 300_000).map(bytes)), max_size=4),
    compress=st.sampled_from(["auto", "fast", "small", None]),
    signed=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_what_is_sealed_opens_again(meta, buffers, compress, signed) -> None:
    secrets = (SECRET,) if signed else ()
    raw = fetched(sealed(secrets, meta, buffers, compress=compress))
    entry = Sealer(secrets).open(KEY, raw)
    assert bytes(entry.meta) == meta
    assert entry.stored == len(raw)
    assert contents(entry) == buffers


def test_compression_is_kept_only_where_it_helps() -> None:
    noise, text = os.urandom(200_000), b"RELIANCE,NSE,day," * 5000
    sealer = Sealer(())
    raw, saved = sealer.seal(KEY, b"m", [noise], pickled=False, stamp=STAMP)
    assert saved == 0
    assert len(raw) <= len(noise) + 200
    raw, saved = sealer.seal(KEY, b"m", [text], pickled=False, stamp=STAMP)
    assert len(raw) < len(text) / 10
    assert saved > len(text) * 0.9
    assert len(sealer.seal(KEY, b"m", [text], pickled=False, stamp=STAMP, compress=None)[0]) > len(text)
    short = b"a" * 100
    assert sealer.seal(KEY, b"m", [short], pickled=False, stamp=STAMP)[1] == 0


@pytest.mark.parametrize("secrets", [(), (SECRET,)])
def test_every_single_changed_byte_is_noticed(secrets) -> None:
    raw = sealed(secrets, b"some meta data", [b"a buffer", bytes(5000)])
    sealer = Sealer(secrets)
    for place in range(len(raw)):
        with pytest.raises(UnreadableEntry):
            sealer.open(KEY, raw[:place] + bytes([raw[place] ^ 0x41]) + raw[place + 1 :])


@pytest.mark.parametrize("secrets", [(), (SECRET,)])
def test_every_truncation_and_every_addition_is_noticed(secrets) -> None:
    raw = sealed(secrets, b"some meta data", [b"a buffer"])
    sealer = Sealer(secrets)
    for end in range(len(raw)):
        with pytest.raises(UnreadableEntry):
            sealer.open(KEY, raw[:end])
    with pytest.raises(UnreadableEntry):
        sealer.open(KEY, raw + b"\0")


@given(st.binary(max_size=400))
def test_foreign_bytes_are_unreadable_and_nothing_else(raw: bytes) -> None:
    for sealer in (Sealer(()), Sealer((SECRET,))):
        for prefix in (b"", b"RMEM", b"RMEM\x02", b"RMEM\x02\x01", b"RMEM\x02\x04"):
            with pytest.raises(UnreadableEntry):
                sealer.open(KEY, prefix + raw)


def test_an_entry_copied_to_another_key_does_not_verify() -> None:
    for secrets in ((), (SECRET,)):
        raw = sealed(secrets)
        with pytest.raises(UnreadableEntry):
            Sealer(secrets).open(KEY.replace("history", "portfolio"), raw)


def test_forging_takes_the_secret() -> None:
    """cashews with a secret still accepts forged integers."""
    unsigned, signed = sealed(), sealed((SECRET,))
    with pytest.raises(UnreadableEntry, match="not signed"):
        Sealer((SECRET,)).open(KEY, unsigned)
    with pytest.raises(UnreadableEntry, match="wrongly signed"):
        Sealer((OTHER,)).open(KEY, signed)
    with pytest.raises(UnreadableEntry, match="no secret"):
        Sealer(()).open(KEY, signed)


def test_secrets_rotate() -> None:
    old, both, new = Sealer((SECRET,)), Sealer((OTHER, SECRET)), Sealer((OTHER,))
    before, after = sealed((SECRET,)), sealed((OTHER, SECRET))
    assert both.open(KEY, before)
    assert both.open(KEY, after)
    assert new.open(KEY, after)
    with pytest.raises(UnreadableEntry):
        old.open(KEY, after)
    with pytest.raises(UnreadableEntry):
        new.open(KEY, before)


def test_a_pickle_is_opened_only_when_signed_or_allowed() -> None:
    data = pickle.dumps(1)
    unsigned = sealed((), data, pickled=True)
    with pytest.raises(UnreadableEntry, match="pickle"):
        Sealer(()).open(KEY, unsigned)
    assert Sealer((), allow_unsigned_pickle=True).open(KEY, unsigned).trusted
    assert not Sealer(()).may_pickle
    assert Sealer((SECRET,)).may_pickle
    with pytest.raises(UnreadableEntry):
        # Allowing unsigned pickles does not outvote a secret.
        Sealer((SECRET,), allow_unsigned_pickle=True).open(KEY, unsigned)


MORE = 0x100  # as part of how a segment is stored: the next one goes on with its buffer


def forged(segments: list[tuple[int, int, bytes]], count: int | None = None, flags: int = 0) -> bytes:
    """An envelope with a right checksum and whatever lengths one likes: what an attacker without the secret can make."""
    head = HEAD.pack(b"RMEM", 2, flags, 0, len(segments) if count is None else count, 0, 0, 0, 0, 0, bytes(16))
    head = head[:TAG_AT]
    rest = b"".join(ROW.pack(how & 0xFF, how >> 8, size, len(data)) for how, size, data in segments)
    rest += b"".join(data for _, _, data in segments)
    hasher = blake3(derive_key_context="redis_memo envelope v2 checksum")
    hasher.update(struct.pack("<I", len(KEY)) + KEY.encode() + head)
    return head + hasher.update(rest).digest(16) + rest


def test_forging_a_checksum_works_as_this_test_believes() -> None:
    assert bytes(Sealer(()).open(KEY, forged([(0, 4, b"meta")])).meta) == b"meta"


def test_claimed_lengths_are_not_believed() -> None:
    """No allocation bomb: what is claimed is held against what is there first."""
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(100_000_000))
    assert len(bomb) < 100_000_000 / EXPANSION
    huge = 2**32 - 1
    for segments, count in (
        ([(1, 100_000_000, bomb)], None),
        ([(1, huge, b"x" * 100)], None),
        ([(0, huge, b"x" * 100)], None),
        ([(0, 4, b"meta")], 2**32 - 1),
        ([], 0),
        ([(7, 4, b"meta")], None),
        ([(1, 4, b"meta")], None),
        ([(1, 1000, zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000)))], None),
        ([(1, 999, zstandard.ZstdCompressor().compress(bytes(1000)))], None),
        ([(1, 4, zlib.compress(b"meta"))], None),
        ([(2, 4, b"meta")], None),  # a column of prices where there is none
        ([(3, 4, b"meta")], None),
        ([(0, 4, b"meta"), (2, 4, b"meta")][::-1], None),
    ):
        with pytest.raises(UnreadableEntry):
            Sealer(()).open(KEY, forged(segments, count))
    with pytest.raises(UnreadableEntry, match="another version"):
        Sealer(()).open(KEY, forged([(0, 4, b"meta")], flags=0x80))
    with pytest.raises(UnreadableEntry, match="pickle"):
        Sealer(()).open(KEY, forged([(0, 4, b"meta")], flags=PICKLED))


def test_what_is_stored_as_it_is_has_the_length_it_claims() -> None:
    """P5: also where it is a part of a buffer, which one of another length does not fit into."""
    assert bytes(Sealer(()).open(KEY, forged([(MORE, 2, b"me"), (0, 2, b"ta")])).meta) == b"meta"
    for sizes in ((1, 3), (3, 1), (3, 2), (0, 2)):
        envelope = forged([(MORE, sizes[0], b"me"), (0, sizes[1], b"ta")])
        with pytest.raises(UnreadableEntry, match="lengths disagree"):
            Sealer(()).open(KEY, envelope)


@pytest.mark.parametrize("how", [0, 1, 2, 3])
def test_nothing_is_allocated_for_a_segment_that_is_larger_than_one_can_be(how: int) -> None:
    """P6: the memory of a buffer is made by what all its segments claim, before the first of them is looked at."""
    envelope = forged([(0, 4, b"meta"), (how + MORE, 300 << 20, bytes(300 << 10)), (0, 1, b"x")])
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableEntry):
            contents(Sealer(()).open(KEY, envelope))
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()


def test_a_very_compressible_value_still_comes_back() -> None:
    """The bound on expansion is the writer's business too."""
    for kinds in ((), ("f8",)):
        raw = sealed((), b"m", [bytes(50_000_000)], kinds=kinds)
        assert 50_000_000 / EXPANSION <= len(raw) < 60_000
        assert contents(Sealer(()).open(KEY, raw)) == [bytes(50_000_000)]


# What is large: segments with digests of their own, and chunks.


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_envelope, "CHUNK", 3 << 20)


NOISE = os.urandom(8_000_000)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("secrets", [(), (SECRET,)])
def test_a_large_value_lies_in_chunks_and_comes_back(secrets) -> None:
    large = sealed(secrets, b"meta", [NOISE, b"short", NOISE[:100_000]])
    assert isinstance(large, Large)
    assert [sum(map(len, chunk)) for chunk in large.chunks] == [3 << 20, 3 << 20, len(NOISE) + 5 + 100_000 - (6 << 20)]
    read = fetched(large)
    entry = Sealer(secrets).open(KEY, read)
    assert read.chunks == [], "the reader lets go of the chunks, so that they go as they are read"
    assert contents(entry) == [NOISE, b"short", NOISE[:100_000]]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("secrets", [(), (SECRET,)])
def test_chunks_that_are_missing_moved_or_another_values_are_noticed(secrets) -> None:
    def chunks(noise: bytes) -> list[tuple[bytes]]:
        return fetched(sealed(secrets, b"meta", [noise])).chunks

    head = fetched(sealed(secrets, b"meta", [NOISE])).pieces
    mine, others = chunks(NOISE), chunks(NOISE[::-1])
    for wrong in ([], mine[:2], [mine[1], mine[0], mine[2]], [mine[0], others[1], mine[2]], [*mine, mine[0]]):
        with pytest.raises(UnreadableEntry):
            contents(Sealer(secrets).open(KEY, Large(head, wrong)))
    assert contents(Sealer(secrets).open(KEY, Large(head, mine))) == [NOISE]


@pytest.mark.parametrize("secrets", [(), (SECRET,)])
def test_every_changed_byte_of_a_large_value_is_noticed(secrets) -> None:
    raw = bytearray(fetched(sealed(secrets, b"some meta data", [os.urandom(70_000), bytes(5000)])))
    sealer = Sealer(secrets)
    for place in [*range(260), *range(260, len(raw), 997), len(raw) - 1]:
        raw[place] ^= 0x41
        with pytest.raises(UnreadableEntry):
            contents(sealer.open(KEY, bytes(raw)))
        raw[place] ^= 0x41
    assert contents(sealer.open(KEY, bytes(raw)))


def test_what_is_stored_as_it_is_is_not_copied() -> None:
    """500 MB of random floats are sent from where they lie; and a copy is made for who would see them change."""
    floats = bytearray(os.urandom(300_000))
    large = sealed((), b"m", [floats])
    settled = large.settle()
    floats[0] ^= 1
    assert contents(Sealer(()).open(KEY, settled)) != [bytes(floats)]
    with pytest.raises(UnreadableEntry):
        contents(Sealer(()).open(KEY, large))


def test_bad_secrets_are_refused_without_showing_them() -> None:
    for secret in ("hunter2", b"short", ["long enough, this one is", "hunter2"]):
        with pytest.raises(ConfigurationError) as caught:
            Settings.build("redis://localhost", secret=secret)
        assert "hunter2" not in str(caught.value)
    assert "a secret that nobody may see" not in repr(
        Settings.build("redis://h", secret="a secret that nobody may see")
    )


def test_damaged_envelopes_with_a_right_checksum_are_read_or_refused() -> None:
    """P5, P6: one batch of the long search (`make fuzz`); it may not raise, hang, fill the memory or end the process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seed", "7"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
