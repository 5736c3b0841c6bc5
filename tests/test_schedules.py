"""P3 and P4 by search: the core's flows under schedules of calls, invalidations, crashes and lost leases."""

from __future__ import annotations

import pytest

from redis_memo import _core as core
from redis_memo import _ops as ops

from .schedules import PLACE, Simulation, explore, wander

PROGRAMS = {
    "two callers in two processes": {"processes": 2, "callers": 1, "invalidations": 0},
    "two callers in one process": {"processes": 1, "callers": 2, "invalidations": 0},
    "two callers and an invalidation": {"processes": 2, "callers": 1, "invalidations": 1},
    "one process and an invalidation": {"processes": 1, "callers": 2, "invalidations": 1},
    "a crash": {"processes": 2, "callers": 1, "invalidations": 1, "crashes": 1},
    "a lease that ends": {"processes": 2, "callers": 1, "invalidations": 1, "lease_ends": 1},
    "a refresh": {"processes": 2, "callers": 1, "invalidations": 1, "superseders": 1},
}
CROWDS = {
    "six callers": {"processes": 2, "callers": 3, "invalidations": 0},
    "six callers, two invalidations": {"processes": 3, "callers": 2, "invalidations": 2},
    "everything": {"processes": 3, "callers": 2, "invalidations": 2, "crashes": 1, "lease_ends": 1, "superseders": 1},
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_schedule_of_a_small_program(program: str) -> None:
    count, story = explore(lambda: Simulation(**PROGRAMS[program]), 1500)
    assert story is None, "\n".join(story)
    assert count > 10


@pytest.mark.parametrize("program", CROWDS)
def test_random_schedules_of_larger_programs(program: str) -> None:
    _, story = wander(lambda: Simulation(**CROWDS[program]), 1500, seed=1)
    assert story is None, "\n".join(story)


def unfenced(*arguments):
    """The mistake of every rival: what was computed is stored, whatever happened meanwhile."""
    flow = core.read_through(*arguments)
    answer = flow.send(None)
    while True:
        try:
            if isinstance(answer, ops.Fill):
                yield ops.Put(answer.place, answer.envelope, answer.ttl)
                answer = flow.send(True)
            else:
                answer = flow.send((yield answer))
        except StopIteration as stop:
            return stop.value


def keeps_lease():
    """An invalidation that deletes the entry and lets the computation go on."""
    held = yield ops.Inspect(PLACE)
    yield ops.Read(PLACE.entry)
    return held and 0


def test_a_fill_without_its_token_is_found() -> None:
    count, story = wander(lambda: Simulation(invalidations=1, flow=unfenced), 5000, seed=1)
    assert story is not None
    assert "P3" in story[-2]
    assert count < 5000


def test_an_invalidation_that_leaves_the_lease_is_found() -> None:
    _, story = wander(lambda: Simulation(invalidations=1, drop=keeps_lease), 5000, seed=1)
    assert story is not None
    assert "P3" in story[-2]


def test_a_failing_schedule_replays() -> None:
    stories = [wander(lambda: Simulation(invalidations=1, flow=unfenced), 5000, seed=3)[1] for _ in range(2)]
    assert stories[0] == stories[1]
    assert stories[0][-1].startswith("replay: seed 3")
