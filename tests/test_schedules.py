"""P3 and P4 by search: the core's flows under schedules of calls, invalidations and faults. `tests.proof` is the long form."""

from __future__ import annotations

import pytest

from .schedule_programs import KINDS, PLANTS, SMALL
from .schedule_search import explore, wander


@pytest.mark.parametrize("name", SMALL)
def test_schedules_of_a_small_program(name: str) -> None:
    found = explore(SMALL[name], 300)
    assert found.story is None, "\n".join(found.story)
    assert found.schedules > 5


@pytest.mark.parametrize("kind", KINDS)
def test_random_schedules(kind: str) -> None:
    found = wander(KINDS[kind], range(150), 1, kind)
    assert found.story is None, "\n".join(found.story)


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_mistake_is_found(name: str) -> None:
    """Else the search would prove nothing."""
    plant = PLANTS[name]
    found = wander(plant.make or KINDS[plant.kind], range(5000), 1, plant.kind, plant)
    assert found.story is not None
    assert found.story[-1].startswith("replay: ")


def test_a_failing_schedule_replays() -> None:
    plant = PLANTS["a fill without its token"]
    stories = [wander(KINDS[plant.kind], range(5000), 3, plant.kind, plant).story for _ in range(2)]
    assert stories[0] == stories[1]
