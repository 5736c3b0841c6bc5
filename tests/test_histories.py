"""P3 and P4 on real servers with real processes; the checker's own tests; and planted bugs, which it must find.

The long form is ``python -m tests.histories``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .histories import BUGS, MS, Counts, History, Recorder, S, Span, check, read, run

KEY = ("volume", "a", 0)


def span(
    mark: str, begin: float, end: float | None, outcome: str | None = "returned", *, scope=KEY, process="0.0", **more
) -> Span:
    """A span in ms; its kind is the first letters of its name."""
    kind = mark.rstrip("0123456789")
    value = more.pop("value", None)
    if kind == "compute":
        value = [list(scope), more.pop("version", 0), mark]
    return Span(
        mark,
        kind,
        process,
        "t",
        tuple(scope),
        int(begin * MS),
        None if end is None else int(end * MS),
        outcome,
        value,
        **more,
    )


def got(origin: Span) -> list[object]:
    return list(origin.value)


def judged(*spans: Span) -> list[str]:
    history = History(sorted(spans, key=lambda each: each.begin))
    return [story.split("\n")[0].split(":")[0] for story in check(history)]


COMPUTE = span("compute1", 1, 10, op="call1")
LEADER = span("call1", 0, 12, value=got(COMPUTE))
INVALIDATE = span("invalidate1", 5, 6, floor={KEY: 1})


def test_a_history_without_fault() -> None:
    fresh = span("compute2", 7, 15, version=1, op="call2")
    assert judged(COMPUTE, LEADER, INVALIDATE, fresh, span("call2", 6.5, 16, value=got(fresh))) == []
    # A call that began before the invalidation returned may have the value that was computed before it.
    assert judged(COMPUTE, LEADER, INVALIDATE, span("call2", 5.9, 16, value=got(COMPUTE))) == []


@pytest.mark.parametrize("kind", ["call", "peek"])
@pytest.mark.parametrize(
    "scope", [KEY, ("volume", "a", None), ("volume", None, 0), ("volume", None, None), (None, None, None)]
)
def test_p3_an_old_value_after_an_invalidation_that_covers_its_key(kind: str, scope) -> None:
    late = span(f"{kind}2", 6.1, 8, value=got(COMPUTE))
    erase = span("invalidate1", 5, 6, scope=scope)
    assert judged(COMPUTE, LEADER, erase, late) == ["P3"]


@pytest.mark.parametrize("scope", [("volume", "b", None), ("price", None, None), ("volume", None, 1)])
def test_p3_other_keys_are_not_covered(scope) -> None:
    assert (
        judged(COMPUTE, LEADER, span("invalidate1", 5, 6, scope=scope), span("call2", 6.1, 8, value=got(COMPUTE))) == []
    )


@pytest.mark.parametrize("outcome", ["failed", None])
def test_p3_an_invalidation_that_failed_promises_nothing(outcome) -> None:
    erase = span("invalidate1", 5, 6 if outcome else None, outcome)
    found = judged(
        COMPUTE, LEADER, erase, span("call2", 6.1, 8, value=got(COMPUTE)), span("kill1", 7, 7.5, None, scope=())
    )
    assert found == []


def test_p3_an_old_version_from_a_computation_that_began_late() -> None:
    """The second way in which a value can be old: what computed it had read the source before."""
    stale = span("compute2", 7, 8, version=0, op="call2")
    assert judged(INVALIDATE, stale, span("call2", 6.5, 9, value=got(stale))) == ["P3"]


def test_p3_an_old_exception() -> None:
    failed = span("compute1", 1, 10, "boom", op="call1")
    leader = span("call1", 0, 12, "boom", value=got(failed))
    assert judged(failed, leader, INVALIDATE, span("call2", 6.1, 12, "boom", value=got(failed))) == ["P3"]
    # Without an invalidation who joins may share it, and who begins later may not.
    assert judged(failed, leader, span("call2", 6.1, 12, "boom", value=got(failed))) == []
    assert judged(failed, leader, span("call2", 10.1, 12, "boom", value=got(failed))) == ["P4"]


def stored(mark: str, begin: float, end: float, done: bool = True) -> Span:
    return span(mark, begin, end, value=[list(KEY), 0, mark, done])


def test_a_store_supersedes_what_was_made_before_it() -> None:
    late = span("call2", 13, 14, value=got(COMPUTE))
    assert judged(COMPUTE, LEADER, stored("store1", 3, 4), late) == ["P3"]
    assert judged(COMPUTE, LEADER, stored("store1", 3, 4, done=False), late) == []
    kept = stored("store1", 3, 4)
    # Stored after the invalidation began: the user's own doing. Before: it should have gone.
    assert judged(kept, span("invalidate1", 3.5, 5), span("call2", 6, 7, value=got(kept)[:3])) == []
    assert judged(kept, INVALIDATE, span("call2", 6.1, 7, value=got(kept)[:3])) == ["P3"]
    unsure = stored("store1", 3, 4, done=False)
    assert judged(unsure, INVALIDATE, span("call2", 6.1, 7, value=got(unsure)[:3])) == []


SECOND = span("compute2", 5, 15, op="call2", process="1.0")
FOLLOWER = span("call2", 4, 16, value=got(SECOND), process="1.0")


def test_p4_two_computations_at_once() -> None:
    assert judged(COMPUTE, LEADER, SECOND, FOLLOWER) == ["P4"]


@pytest.mark.parametrize(
    ("disturbance", "excused"),
    [
        (span("invalidate1", 2, 3), True),
        (span("refresh1", 2, 3, value=got(span("compute1", 1, 10))), True),
        (span("pause1", 2, 3, None, scope=(), process="0.0"), True),
        (span("cut1", 2, 3, None, scope=()), True),
        (span("invalidate1", 2, 3, scope=("volume", "b", None)), False),
        (span("invalidate1", 6, 7), False),  # only after the second had begun
        (span("kill1", 2, 3, None, scope=(), process="7.0"), False),
        (span("flush1", 2, 3, None, scope=()), False),  # lost scripts are no excuse
        (span("call3", 2, 3, "cancelled"), False),  # nor is a waiter that gave up
    ],
    ids=lambda given: given.id if isinstance(given, Span) else "",
)
def test_p4_what_excuses_two_computations_at_once(disturbance: Span, excused: bool) -> None:
    found = judged(COMPUTE, LEADER, SECOND, FOLLOWER, disturbance)
    assert ("P4" in found) is not excused


def test_p4_the_killed_compute_no_longer() -> None:
    died = span("compute1", 1, None, None, op="call1")
    lead = span("call1", 0, None, None)
    assert judged(died, lead, span("kill1", 3, 4, None, scope=()), SECOND, FOLLOWER) == []
    assert judged(died, lead, span("kill1", 6, 7, None, scope=()), SECOND, FOLLOWER) == ["P4"]


def test_p4_a_second_computation_while_the_first_value_stands() -> None:
    again = span("compute2", 20, 25, op="call2")
    call = span("call2", 19, 26, value=got(again))
    assert judged(COMPUTE, LEADER, again, call) == ["P4"]
    assert judged(COMPUTE, LEADER, span("invalidate1", 11, 12), again, call) == []
    assert judged(COMPUTE, LEADER, span("kill1", 9, 12, None, scope=(), process="0.0"), again, call) == []
    much_later = span("compute2", 61_000, 61_001, op="call2")
    assert judged(COMPUTE, LEADER, much_later, span("call2", 61_000, 61_002, value=got(much_later))) == []
    failed = span("compute1", 1, 10, "boom", op="call1")
    assert judged(failed, span("call1", 0, 12, "boom", value=got(failed)), again, call) == []


def test_p4_the_killed_leader_is_replaced() -> None:
    died, lead = span("compute1", 1, None, None, op="call1"), span("call1", 0, None, None)
    kill = span("kill1", 3, 4, None, scope=())
    late = span("compute2", 2000, 2010, op="call2", process="1.0")
    waited = span("call2", 2, 2011, value=got(late), process="1.0")
    assert judged(died, lead, kill, late, waited) == ["P4"]
    assert judged(died, lead, kill, late, waited, span("freeze1", 500, 1900, None, scope=())) == []
    soon = span("compute2", 1300, 1310, op="call2", process="1.0")
    assert judged(died, lead, kill, soon, span("call2", 2, 1311, value=got(soon), process="1.0")) == []


def test_p4_a_cancellation_stays_with_who_was_cancelled() -> None:
    assert judged(span("call1", 0, 12, "CancelledError: ")) == ["P5"]
    assert judged(span("call1", 0, 12, "cancelled")) == []


def test_what_never_ends_and_what_takes_too_long() -> None:
    assert judged(span("call1", 0, None, None)) == ["P4"]
    assert judged(span("call1", 0, None, None), span("kill1", 3, 4, None, scope=())) == []
    slow = span("call1", 0, 9000, value=got(COMPUTE))
    assert judged(COMPUTE, slow) == ["P4"]
    assert judged(COMPUTE, slow, span("pause1", 100, 8000, None, scope=())) == []


def test_answers_that_are_nobodys() -> None:
    other = span("compute1", 1, 10, scope=("volume", "b", 0), op="call1")
    assert judged(other, span("call2", 2, 12, value=got(other))) == ["P1"]
    assert judged(span("call2", 2, 12, value=[list(KEY), 0, "compute9"])) == ["P2"]
    assert judged(COMPUTE, span("call2", 2, 12, value=[list(KEY), 7, "compute1"])) == ["P2"]
    assert judged(span("call2", 2, 12, "StoreUnavailable: gone")) == ["P5"]
    assert judged(span("invalidate1", 2, 12, "failed")) == []
    assert judged(COMPUTE, LEADER, span("refresh1", 12, 13, value=got(COMPUTE))) == ["P3"]


def test_a_story_tells_what_happened() -> None:
    late = span("call2", 6.1, 8, value=got(COMPUTE))
    (story,) = check(History([LEADER, COMPUTE, INVALIDATE, late]))
    assert "call call2 began after invalidate invalidate1 had returned" in story
    assert [line.split()[7] for line in story.split("\n") if line.startswith("> ")] == [
        "call",
        "compute",
        "invalidate",
        "call",
    ]


def test_a_history_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """The last line of a killed process may be half written."""
    log = Recorder(tmp_path / "events-3.1", "3.1")
    log.begin("invalidate-1", "invalidate", "thread0", ("volume", "a", None), [(KEY, 4)])
    log.end("invalidate-1", "returned")
    log.begin("call-2", "call", "thread0", KEY)
    with (tmp_path / "events-3.1").open("ab") as file:
        file.write(b'["end", 17, "call-')
    first, second = read(tmp_path, 0.8).spans
    assert (first.process, first.scope, first.floor, first.outcome) == (
        "3.1",
        ("volume", "a", None),
        {KEY: 4},
        "returned",
    )
    assert first.begin <= first.until <= second.begin
    assert (second.scope, second.end) == (KEY, None)


@pytest.mark.parametrize("server", ["valkey", "redis"])
def test_p3_p4_on_a_real_server(server: str) -> None:
    """Processes are killed and stopped past their leases, scripts and connections go; nothing is wrong, nothing locked."""
    if server == "redis" and shutil.which("redis-server") is None:
        pytest.skip("NO redis-server ON THIS MACHINE: these histories were not recorded")
    counts = run(
        2.6,
        3,
        server,
        processes=4,
        threads=2,
        tasks=3,
        lease=0.5,
        storm=1.7,
        calm=0.9,
        faults=("kill", "pause", "flush", "cut"),
    )
    assert counts.stories == []
    assert counts.calls > 100
    assert counts.invalidations > 10
    assert counts.judged_p3 > 50
    assert counts.judged_p4 > 5, "the calm was not calm"
    assert json.loads(counts.line())["violations"] == 0


@pytest.mark.parametrize(
    "faults", [("move", "kill", "move", "pause", "flush"), ("fail",)], ids=["slots move", "a master dies"]
)
def test_p3_p4_on_a_cluster(faults: tuple[str, ...]) -> None:
    """Functions in shards, whose slots go from master to master key by key; masters that are killed and come back."""
    counts = run(3.6, 3, "cluster", processes=3, threads=2, tasks=3, lease=0.5, storm=2.4, calm=1.2, faults=faults)
    assert counts.stories == []
    assert counts.moves + counts.failovers > 0
    assert counts.invalidations > 10
    assert counts.judged_p3 > 50


@pytest.mark.parametrize("process", ["0.0", "1.0"])
def test_p4_an_exception_from_before_a_call_is_found(process: str) -> None:
    """That of its own process, too."""
    failed = span("compute1", 1, 10, "boom", op="call1")
    leader = span("call1", 0, 12, "boom", value=got(failed))
    late = span("call2", 10.1, 12, "boom", value=got(failed), process=process)
    assert "from before it began" in check(History([leader, failed, late]))[0]


@pytest.mark.parametrize(
    ("bug", "promise"), [("fill without token", "P3"), ("invalidate keeps lease", "P3"), ("lease for everybody", "P4")]
)
def test_planted_bugs_are_found(bug: str, promise: str) -> None:
    assert bug in BUGS
    found: set[str] = set()
    for seed in range(5, 15):  # whether the threads of a busy machine meet in so short a time is its own affair
        counts = run(0.9, seed, processes=3, threads=2, tasks=3, lease=0.5, storm=0.7, calm=0.2, faults=(), bug=bug)
        found |= {story.split(":")[0] for story in counts.stories}
        if promise in found:
            break
    assert promise in found


def test_counts_add_up() -> None:
    total = Counts("all")
    total.add(Counts("valkey", 1, calls=3, slowest_ms=7, stories=["P3"], violations=1))
    total.add(Counts("redis", 2, calls=4, slowest_ms=5))
    assert (total.calls, total.slowest_ms, total.violations, total.stories, total.server) == (7, 7, 1, ["P3"], "all")
    assert S == 1000 * MS
