"""Work that threads share: all of it once, no helper that is left behind, and none where no core is idle (P2, P7)."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from blake3 import blake3

from redis_memo import _envelope, _keys_walk, _segments, _threads, _zstd
from redis_memo._codecs import dumps, loads
from redis_memo._envelope import Sealer, Stamp
from redis_memo._large import Large
from redis_memo._threads import share, threads
from redis_memo.errors import UnreadableEntry

STAMP = Stamp(0.0, 0.0, 0.0, 0.0)


def helpers() -> int:
    return sum(thread.name == "redis_memo helper" for thread in threading.enumerate())


# Sharing


@pytest.mark.parametrize("count", [0, 1, 2, 500])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_all_is_done_once_and_no_helper_is_left(count: int, number: int) -> None:
    done: list[int] = []
    share(done.append, count, number)
    assert sorted(done) == list(range(count))
    assert helpers() == 0


def test_helpers_work_while_the_caller_does() -> None:
    """Two meet: neither could go on alone."""
    both = threading.Barrier(2, timeout=10)
    share(lambda _: both.wait(), 2, 2)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, IndexError])
def test_what_is_raised_reaches_the_caller_when_no_helper_works_any_more(error: type[BaseException]) -> None:
    begun = threading.Barrier(2, timeout=10)
    done: list[int] = []

    def work(number: int) -> None:
        begun.wait()
        if number == 0:
            raise error("first")
        done.append(number)

    with pytest.raises(error, match="first"):
        share(work, 2, 2)
    assert done == [1]
    assert helpers() == 0


def test_what_interrupts_the_caller_goes_before_what_a_helper_met() -> None:
    """P8: Ctrl-C, or a time limit by a signal, is not swallowed because an entry is damaged."""
    begun, failed = threading.Barrier(2, timeout=10), threading.Event()
    caller = threading.current_thread()

    def work(_: int) -> None:
        begun.wait()
        if threading.current_thread() is caller:
            assert failed.wait(10)
            raise KeyboardInterrupt
        failed.set()
        raise UnreadableEntry("damaged")

    with pytest.raises(KeyboardInterrupt):
        share(work, 2, 2)
    assert helpers() == 0


class PanicException(BaseException):  # noqa: N818 - as a Rust library calls it
    """What blake3 raises where it can start no thread."""


def test_where_blake3_can_start_no_thread_it_works_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: a container's limit on threads costs a call some time, and no more."""

    def refuse(data: bytes, *, max_threads: int = 1, **options: Any) -> Any:
        if max_threads > 1:
            raise PanicException("ThreadPoolBuildError")
        return blake3(data, **options)

    long = b"x" * _threads.WORTH
    by_several = blake3(long, max_threads=2).digest()
    monkeypatch.setattr(_threads, "blake3", refuse)
    monkeypatch.setattr(_keys_walk, "threads", lambda most=4: 2)
    monkeypatch.setattr(_envelope, "threads", lambda most=4: 2)
    assert _keys_walk.digest(long) == by_several
    for secrets in ([], [b"k" * 32]):
        sealer = Sealer(secrets)
        envelope, _ = sealer.seal("key", long, [], pickled=False, stamp=STAMP, compress=None)
        assert sealer.open("key", envelope).meta == long


def test_of_contexts_that_many_threads_were_lent_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: at level 12 each holds 12 MB."""
    at_once = threading.Barrier(9, timeout=10)

    class Context:
        def compress(self, data: bytes) -> bytes:
            at_once.wait()
            return data

        decompress = staticmethod(lambda data, **_: (at_once.wait(), data)[1])

    monkeypatch.setattr(_zstd, "_compressors", {})
    monkeypatch.setattr(_zstd, "_decompressors", [])
    monkeypatch.setattr(_zstd, "_new_compressor", lambda level, **_: Context())
    monkeypatch.setattr(_zstd, "_decompressor", lambda: _zstd._Decompress(Context.decompress, len, ValueError))
    for work in (
        lambda: _zstd.compress(b"x", 12),
        lambda: _zstd.compress_apart([b"x"], 12),
        lambda: _zstd.decompress(b"x", 1),
    ):
        borrowers = [threading.Thread(target=work) for _ in range(9)]
        for each in borrowers:
            each.start()
        for each in borrowers:
            each.join()
    kept = [*_zstd._compressors.values(), _zstd._decompressors]
    assert len(kept) == 3
    assert all(1 <= len(idle) < 9 for idle in kept)


def test_where_no_thread_can_be_started_the_caller_works_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[int] = []
    share(done.append, 3, 4)
    assert done == [0, 1, 2]


# How many


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A machine of eight cores, of which some are busy, and a container's limits."""

    def make(running: int, *, may_use: int = 8, **limits: str) -> int:
        (tmp_path / "loadavg").write_text(f"0.50 0.40 0.30 {running}/900 12345\n")
        for name, text in limits.items():
            path = tmp_path / name.replace("__", "/").replace("_max", ".max").replace("cpu_", "cpu.")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(_threads, "_RUNNING", tmp_path / "loadavg")
        monkeypatch.setattr(_threads, "_GROUP", tmp_path)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(may_use)), raising=False)
        _threads._quota.cache_clear()
        return threads(100)

    yield make
    _threads._quota.cache_clear()


def test_no_more_threads_than_idle_cores(machine: Any) -> None:
    assert [machine(running) for running in (0, 1, 5, 6, 7, 8, 9, 50)] == [4, 4, 4, 3, 2, 1, 1, 1]


def test_no_more_threads_than_cores_that_the_process_may_use(machine: Any) -> None:
    assert [machine(1, may_use=cores) for cores in (1, 2, 3, 8)] == [1, 2, 3, 4]
    assert threads(1) == 1


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"cpu_max": "max 100000\n"}, 4),
        ({"cpu_max": "200000 100000\n"}, 2),
        ({"cpu_max": "150000 100000\n"}, 1),
        ({"cpu_max": "50000 100000\n"}, 1),
        ({"cpu_max": "nonsense\n"}, 4),
        ({"cpu__cpu_cfs_quota_us": "-1\n", "cpu__cpu_cfs_period_us": "100000\n"}, 4),
        ({"cpu__cpu_cfs_quota_us": "300000\n", "cpu__cpu_cfs_period_us": "100000\n"}, 3),
    ],
)
def test_no_more_threads_than_a_container_may_use(machine: Any, limits: dict[str, str], expected: int) -> None:
    assert machine(1, **limits) == expected


def test_where_nobody_says_how_busy_it_is_the_caller_works_alone(
    machine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(1)
    monkeypatch.setattr(_threads, "_RUNNING", tmp_path / "none")
    monkeypatch.setattr(os, "getloadavg", lambda: (5.2, 0.0, 0.0), raising=False)
    assert threads() == 3
    monkeypatch.delattr(os, "getloadavg")
    assert threads() == 1


# Values


def _frames() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    words = np.array(["INFY", "TCS", "SBIN", None], object)
    return {
        "off the grid": pd.DataFrame(np.exp(rng.normal(0, 0.01, (60_000, 5)).cumsum(0))),
        "wide": pd.DataFrame(rng.integers(0, 3_000, (450, 2_000)) / 3),
        "noise": rng.random(700_000),
        "thirds": pd.Series(rng.integers(0, 3_000, 400_000) / 3),
        "strings": pd.DataFrame({"a": words[rng.integers(0, 4, 60_000)], "b": rng.integers(0, 99, 60_000).astype(str)}),
        "bytes": [rng.bytes(3_000) * 300 for _ in range(4)],
        "all kinds": [
            rng.random(200_000),
            "x" * 2_000_000,
            pd.Series(rng.integers(0, 9, 300_000) / 100),
            b"y" * 900_000,
        ],
    }


FRAMES = _frames()


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Three threads work on all that is long, however little it is; how many tasks they shared."""
    shared: list[int] = []

    def note(work: Any, count: int, number: int) -> None:
        if number > 1:
            shared.append(count)
        share(work, count, number)

    for module in (_segments, _envelope):
        monkeypatch.setattr(module, "threads", lambda most=4: min(most, 3))
        monkeypatch.setattr(module, "share", note)
        monkeypatch.setattr(module, "WORTH", 1)
    monkeypatch.setattr(_segments, "LONG", 1)
    monkeypatch.setattr(_envelope, "MANY", 1)
    return shared


def sealed(value: Any, compress: Any = "auto") -> tuple[Any, Any]:
    payload = dumps(value, allow_pickle=False)
    envelope, _ = Sealer([b"k" * 32]).seal(
        "key", payload.meta, payload.buffers, kinds=payload.kinds, pickled=False, stamp=STAMP, compress=compress
    )
    return payload, envelope


def joined(envelope: Any) -> bytes:
    return b"".join(envelope.pieces) if isinstance(envelope, Large) else bytes(envelope)


def read(envelope: Any) -> Any:
    entry = Sealer([b"k" * 32]).open("key", envelope)
    return loads(entry.meta, entry.buffers, trusted=False)


def same(one: Any, other: Any) -> bool:
    again = dumps(one, allow_pickle=False), dumps(other, allow_pickle=False)
    return again[0].meta == again[1].meta and list(map(bytes, again[0].buffers)) == list(map(bytes, again[1].buffers))


@pytest.mark.parametrize("compress", ["auto", "fast", "small", None])
@pytest.mark.parametrize("name", FRAMES)
def test_several_threads_store_and_read_what_one_does(name: str, compress: Any, several: list[int]) -> None:
    """P2. Same bytes, same value; `several` says that more than one was at work."""
    _, by_several = sealed(FRAMES[name], compress)
    assert several
    several.clear()
    assert same(read(by_several), FRAMES[name])
    assert several
    assert helpers() == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_segments, "threads", lambda most=4: 1)
        patch.setattr(_envelope, "threads", lambda most=4: 1)
        _, by_one = sealed(FRAMES[name], compress)
        assert same(read(by_several), FRAMES[name])
    assert joined(by_several) == joined(by_one)


@pytest.mark.parametrize("name", ["noise", "strings", "wide"])
def test_damage_that_a_helper_finds_makes_the_entry_unreadable(name: str, several: list[int]) -> None:
    """P5: as if the caller had found it; and nothing hangs."""
    whole = bytearray(joined(sealed(FRAMES[name])[1]))
    for at in range(len(whole) // 2, len(whole), len(whole) // 16):
        damaged = whole[:]
        damaged[at] ^= 1
        with pytest.raises(UnreadableEntry):
            read(bytes(damaged))
    assert several
    assert helpers() == 0


def test_buffers_are_read_in_any_order(several: list[int]) -> None:
    """Whoever reads a part only, or the last one first, is only served later."""
    payload, envelope = sealed(FRAMES["all kinds"])
    for order in ([3, 1, 0, 2], [2, 3], [0, 3, 1]):
        buffers = Sealer([b"k" * 32]).open("key", envelope).buffers
        for number in order:
            buffer: Any = buffers[number]
            found = buffer.read() if hasattr(buffer, "read") else buffer
            assert bytes(found) == bytes(payload.buffers[number])
    assert several


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_reads_and_stores_after_its_parent_did(several: list[int]) -> None:
    """P4: nothing that helpers need is lost in a fork, even while other threads are at work."""
    _, envelope = sealed(FRAMES["wide"])
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            read(envelope)

    worker = threading.Thread(target=go_on)
    worker.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    code = 0 if same(read(sealed(FRAMES["wide"])[1]), FRAMES["wide"]) else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        worker.join()
    assert several
