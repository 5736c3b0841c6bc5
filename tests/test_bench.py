"""The benchmark runs from end to end, and its page says what the results say; how fast anything is, no test asks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("bench.peers", reason="THE PEERS OF THE BENCHMARK ARE NOT INSTALLED", exc_type=ImportError)

from bench import link_hits, memory, page, peers, tables, values
from bench.__main__ import PARTS
from bench.measure import QUICK, turns
from bench.results import OURS, Record, Results
from bench.servers import paced

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a quick run of everything writes."""
    folder = tmp_path_factory.mktemp("bench")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--output", str(folder)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("REDIS")},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.server
@pytest.mark.xdist_group("bench")
def test_a_run_measures_everybody_in_every_part(quick: Path) -> None:
    """Each part has figures of ours and of each peer, or says why not; every value is stored by everybody."""
    results = Results.load(quick / "results.json")
    measured = set(PARTS) - (set() if memory.STATUS.exists() else {memory.PART})
    assert {record.part for record in results.records} == measured
    for part in measured:
        assert any(r.samples for r in results.records if r.part == part and r.subject == OURS), part
    for record in results.records:
        assert record.samples or record.note, record
    for kind in peers.PEERS:
        parts = {record.part for record in results.records if record.subject == kind.name and record.samples}
        assert parts >= measured - {"keys", "link", "many", "near"}, kind.name
        assert ("link" in parts) == kind.on_server
    for case in results.cases(values.PART, "hit"):
        lacking = [r.subject for r in results.contest(values.PART, case, "hit").values() if not r.samples or r.note]
        assert lacking == [], case
    peaks = [record.samples[0] for record in results.records if memory.ABOVE in record.quantity and record.samples]
    assert all(0.9 < peak < 20 for peak in peaks)


@pytest.mark.server
@pytest.mark.xdist_group("bench")
def test_a_run_writes_its_page_and_plots(quick: Path) -> None:
    written = (quick / "benchmarks.md").read_text()
    assert written == page.text(Results.load(quick / "results.json"))
    plots = {path.name for path in (quick / page.PLOTS).iterdir()}
    assert plots == {name.rpartition("/")[2].rstrip(")") for name in written.split() if name.endswith(".svg)")}


def test_the_page_of_the_documentation_is_that_of_its_results() -> None:
    """Nothing on it is written by hand, and nothing on it is older than its results."""
    assert (ROOT / "docs" / "benchmarks.md").read_text() == page.text(Results.load(ROOT / "bench" / "results.json"))


def contest(**samples: list[float]) -> Results:
    kinds = {OURS: "ours", "limit": "limit"}
    records = [
        Record(values.PART, "GOOG daily", "hit", name, kinds.get(name, "peer"), figures)
        for name, figures in samples.items()
    ]
    return Results({"cores": 2}, {}, records)


def test_where_we_lose_is_told() -> None:
    """Whoever takes less than ours is named, and nobody else is; a limit is no rival."""
    results = contest(redis_memo=[2, 4, 2], faster=[1, 3, 1], slower=[3, 5, 3], limit=[1, 1, 1])
    assert [loss.subject for loss in tables.losses(results)] == ["faster"]
    assert "faster 0.50 (0.50-0.62)" in tables.lost(results)
    assert "**0.50 (0.50-0.62)**" in page.text(results)
    assert "Nowhere" in tables.lost(contest(redis_memo=[1, 1], slower=[2, 2]))


def test_ratios_are_of_turns_and_not_of_medians() -> None:
    """A machine that is slow in some turns is slow for both."""
    ratio = contest(redis_memo=[1, 10, 100], peer=[2, 20, 200]).ratio(values.PART, "GOOG daily", "hit", "peer", OURS)
    assert ratio == (2, 2, 2)


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    results = contest(redis_memo=[1.5, 2.5], peer=[])
    results.records.append(Record(link_hits.PART, "a", "hit", "b", "peer", [], "raises TypeError"))
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results


def test_turns_begin_with_another_one_each_time() -> None:
    order: list[str] = []
    scale = QUICK.__class__(seconds=0, least=3, most=3)
    turns({name: lambda name=name: order.append(name) for name in "abc"}, scale)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"


@pytest.mark.server
def test_the_paced_link_moves_what_it_is_given(valkey_server) -> None:
    """Bytes arrive as they were sent, several chunks of them, and the end of a connection is passed on."""
    sent = os.urandom(300_000)
    port = int(valkey_server.url.rpartition(":")[2].partition("/")[0])
    with paced(port) as near, socket.create_connection(("127.0.0.1", near)) as client:
        client.settimeout(20)
        client.sendall(b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n*1\r\n$4\r\nQUIT\r\n" % (len(sent), sent))
        received = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert received == b"$%d\r\n%s\r\n+OK\r\n" % (len(sent), sent)


@pytest.mark.xdist_group("bench")
def test_the_figures_of_the_sizing_page_can_be_measured() -> None:
    """Bytes and processor time of each kind of result; how many they are, no test asks."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.sizing", "--quick"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("REDIS")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _, *rows = done.stdout.splitlines()
    assert [len(row.rsplit(maxsplit=8)) for row in rows] == [9, 9, 9]
    entries = [int(row.rsplit(maxsplit=8)[1]) for row in rows]
    assert entries[0] < 1024 < entries[1] < 10_240 < entries[2]
