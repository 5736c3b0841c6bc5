"""P3 and P4 by search: the core's flows under schedules of calls, invalidations and faults. `tests.proof` is the long form."""

from __future__ import annotations

import pytest

from .schedule_programs import KINDS, PLANTS, SMALL
from .schedule_search import explore, wander
from .simulated_day import RATES, TTLS, simulate


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
    found = wander(KINDS[plant.kind], range(5000), 1, plant.kind, plant)
    assert found.story is not None
    assert found.story[-1].startswith("replay: ")


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("ttl", TTLS)
def test_hardly_anybody_waits_for_a_hot_key(rate: int, ttl: int) -> None:
    """Freshness: with ``early=`` fewer than 1 % of the calls wait, for hardly more computations than it takes.

    Some 15,000 calls; `tests.proof` simulates the whole day.
    """
    outcome = simulate(rate, ttl, 15_000 / rate)
    assert outcome.calls > 10_000
    assert outcome.share < 0.01
    assert outcome.ratio < 2


def test_a_failing_schedule_replays() -> None:
    plant = PLANTS["a fill without its token"]
    stories = [wander(KINDS[plant.kind], range(5000), 3, plant.kind, plant).story for _ in range(2)]
    assert stories[0] == stories[1]
