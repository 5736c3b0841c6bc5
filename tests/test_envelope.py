"""The wire format: golden bytes, and every way an entry can be wrong (P5: a miss; P6: nobody gets in)."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zlib
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_memo._config import Settings
from redis_memo._envelope import EXPANSION, HEAD, PICKLED, ROW, Sealer, Stamp
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


def sealed(secrets=(), meta=b"meta", buffers=(), pickled=False, compress="auto", key=KEY) -> bytes:
    return Sealer(secrets).seal(
        key, meta, list(buffers), pickled=pickled, stamp=STAMP, tokens=TOKENS, compress=compress
    )[0]


def test_golden_bytes_are_still_written_and_read() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert set(golden) == set(CASES)
    for name, (secrets, meta, buffers, pickled, compress) in CASES.items():
        raw = bytes.fromhex(golden[name])
        assert sealed(secrets, meta, buffers, pickled, compress) == raw, f"{name}: the wire format has changed"
        entry = Sealer(secrets).open(KEY, raw)
        assert (bytes(entry.meta), [bytes(b) for b in entry.buffers], entry.stamp) == (meta, buffers, STAMP)
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
    raw = sealed(secrets, meta, buffers, compress=compress)
    entry = Sealer(secrets).open(KEY, raw)
    assert bytes(entry.meta) == meta
    assert [bytes(buffer) for buffer in entry.buffers] == buffers
    assert entry.stored == len(raw)


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
        for prefix in (b"", b"RMEM", b"RMEM\x01", b"RMEM\x01\x01"):
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


def forged(segments: list[tuple[int, int, bytes]], count: int | None = None, flags: int = 0) -> bytes:
    """An envelope with a right checksum and whatever lengths one likes: what an attacker without the secret can make."""
    head = HEAD.pack(b"RMEM", 1, flags, 0, len(segments) if count is None else count, 0, 0, 0, 0, bytes(16))[:44]
    rest = b"".join(ROW.pack(how, size, len(data)) for how, size, data in segments)
    rest += b"".join(data for _, _, data in segments)
    hasher = blake3(derive_key_context="redis_memo envelope v1 checksum")
    hasher.update(struct.pack("<I", len(KEY)) + KEY.encode() + head)
    return head + hasher.update(rest).digest(16) + rest


def test_forging_a_checksum_works_as_this_test_believes() -> None:
    assert bytes(Sealer(()).open(KEY, forged([(0, 4, b"meta")])).meta) == b"meta"


def test_claimed_lengths_are_not_believed() -> None:
    """No allocation bomb: what is claimed is held against what is there first."""
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(100_000_000))
    assert len(bomb) < 100_000_000 / EXPANSION
    huge = 2**62
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
    ):
        with pytest.raises(UnreadableEntry):
            Sealer(()).open(KEY, forged(segments, count))
    with pytest.raises(UnreadableEntry, match="newer"):
        Sealer(()).open(KEY, forged([(0, 4, b"meta")], flags=0x80))
    with pytest.raises(UnreadableEntry, match="pickle"):
        Sealer(()).open(KEY, forged([(0, 4, b"meta")], flags=PICKLED))


def test_a_very_compressible_value_still_comes_back() -> None:
    """The bound on expansion is the writer's business too."""
    raw = sealed((), b"m", [bytes(50_000_000)])
    assert 50_000_000 / EXPANSION <= len(raw) < 60_000
    assert bytes(Sealer(()).open(KEY, raw).buffers[0]) == bytes(50_000_000)


def test_bad_secrets_are_refused_without_showing_them() -> None:
    for secret in ("hunter2", b"short", ["long enough, this one is", "hunter2"]):
        with pytest.raises(ConfigurationError) as caught:
            Settings.build("redis://localhost", secret=secret)
        assert "hunter2" not in str(caught.value)
    assert "a secret that nobody may see" not in repr(Settings.build("redis://h", secret="a secret that nobody may see"))
