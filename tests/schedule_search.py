"""Schedules chosen: all of a small program, or random ones; a failing one is told as a story and replayed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .schedule_checks import Violation
from .schedule_spec import Program
from .schedules import MOST_STEPS, World

WRONG = 0.12  # of the steps of a random schedule are faults, while there are any left
FALL = 0.1  # of the steps of a ranked schedule let somebody else go first from now on


@dataclass
class Searched:
    """What a search found."""

    schedules: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    story: list[str] | None = None
    complete: bool = False
    states: int = 0
    covered: int = 0  # schedules of the program, those included that join a state which was reached before


def run(program: Program, plant: Any, choose: Callable[[World], tuple[Any, ...] | None], *, tell: bool = False,
        hashing: bool = False) -> World:  # fmt: skip
    """Run a program to its end; ``choose`` says what happens next, None that this need not be followed further."""
    world = World(program, plant, tell=tell, hashing=hashing)
    try:
        while world.counts["steps"] < MOST_STEPS:
            option = choose(world)
            if option is None:
                return world
            if option[0] == "idle":
                if not world.idle():
                    break
                continue
            world.do(option)
        world.judge.end()
    except Violation as violation:
        world.judge.broken = str(violation)
    return world


IDLE = ("idle", None)


def wandering(seed: str) -> Callable[[World], tuple[Any, ...]]:
    """Choices at random; the seed repeats them.

    Every other schedule ranks the actors at random: the first that can goes on, and now and then falls to the end of
    the ranks. So some are overtaken for long, which even chances hardly ever do. (Burckhardt et al., "A Randomized
    Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS '10.)
    """
    chance = random.Random(seed)
    draw, pick = chance.random, chance.choice
    ranks: dict[str, float] | None = {} if draw() < 0.5 else None

    def rank(option: tuple[Any, ...]) -> float:
        assert ranks is not None
        kind, subject = option[0], option[1]
        name = subject.name if kind == "go" else subject.actor.name if kind == "hear" else kind
        if name not in ranks:
            ranks[name] = draw()
        return ranks[name]

    def choose(world: World) -> tuple[Any, ...]:
        if draw() < WRONG:
            kinds = [kind for kind, left in world.faults.items() if left]
            if kinds and (wrong := world.wrong(pick(kinds))):
                return pick(wrong)
        normal = world.normal()
        if not normal:
            return IDLE
        if ranks is None:
            return pick(normal)
        first = max(normal, key=rank)
        if first[0] == "go" and draw() < FALL:
            ranks[first[1].name] = min(ranks.values()) - draw()
        return first

    return choose


def wander(make: Callable[[random.Random], Program], runs: range, seed: int, kind: str, plant: Any = None) -> Searched:
    """Random schedules of generated programs."""
    found = Searched()
    for number in runs:
        name = f"{seed}:{number}:{kind}"
        program = make(random.Random(f"program {name}"))
        world = run(program, plant, wandering(name))
        found.schedules += 1
        found.counts.update(world.counts)
        if world.judge.broken is not None:
            found.story = told(program, plant, name)
            break
    return found


def told(program: Program, plant: Any, name: str) -> list[str]:
    """The story of a failing schedule, of a smaller program if that fails alike."""
    world = run(program, plant, wandering(name), tell=True)
    assert world.story is not None
    assert world.judge.broken is not None, "a schedule must repeat itself"
    promise, story = world.judge.broken[:2], [*world.story, world.judge.broken]
    smaller, again = True, ""
    while smaller:
        smaller = False
        for fewer in program.without():
            for number in range(60):
                other = run(fewer, plant, wandering(f"{name}/{number}"), tell=True)
                if (other.judge.broken or "").startswith(promise) and len(other.story or ()) < len(story):
                    assert other.story is not None
                    assert other.judge.broken is not None
                    program, story, smaller = fewer, [*other.story, other.judge.broken], True
                    again = " (told of a smaller program that breaks the same promise)"
                    break
            if smaller:
                break
    return [*program.told(), *story, f"replay: python -m tests.proof --replay {name}{again}"]


def explore(program: Program, most: int, plant: Any = None) -> Searched:
    """Every schedule of a program, depth first, or the first ``most``.

    A schedule that comes to a state which was reached before goes on as that one did, and is not followed. States are
    compared by 64-bit hashes.
    """
    found = Searched()
    trail: list[list[int]] = []  # [chosen, of how many]
    after: dict[int, list[int]] = {}  # states, and those that follow
    while found.schedules < most:
        depth, last = 0, 0

        def choose(world: World, first: int = len(trail)) -> tuple[Any, ...] | None:
            nonlocal depth, last
            if depth >= first:  # behind what was walked before
                here = world.state()
                known = here in after
                if depth or last:
                    after.setdefault(last, []).append(here)
                last = here
                if known:
                    return None
                after[here] = []
            elif depth == first - 1:
                last = world.state()
            options = world.normal()
            if not options:
                options = (
                    [IDLE]
                    if any(a.state == 2 and a.until is not None and not a.process.dead for a in world.actors)
                    else []
                )
            options += [wrong for kind, left in world.faults.items() if left for wrong in world.wrong(kind)]
            if not options:
                return IDLE
            if depth == len(trail):
                trail.append([0, len(options)])
            chosen = trail[depth][0]
            depth += 1
            return options[chosen]

        world = run(program, plant, choose, hashing=True)
        found.schedules += 1
        found.counts.update(world.counts)
        if world.judge.broken is not None:
            steps = [chosen for chosen, _ in trail[:depth]]
            found.story = retold(program, plant, steps)
            break
        del trail[depth:]
        while trail and trail[-1][0] + 1 == trail[-1][1]:
            trail.pop()
        if not trail:
            found.complete = True
            break
        trail[-1][0] += 1
    found.states = len(after)
    if found.complete:
        found.covered = _paths(after)
    return found


def retold(program: Program, plant: Any, steps: list[int]) -> list[str]:
    """The story of one schedule of a small program."""
    left = list(steps)

    def choose(world: World) -> tuple[Any, ...]:
        options = world.normal()
        if not options and any(a.state == 2 and a.until is not None and not a.process.dead for a in world.actors):
            options = [IDLE]
        options += [wrong for kind, more in world.faults.items() if more for wrong in world.wrong(kind)]
        return options[left.pop(0)] if left and options else IDLE

    world = run(program, plant, choose, tell=True)
    assert world.story is not None
    name = program.kind or "small"
    told_of = f"replay: python -m tests.proof --replay 'small:{name}:{','.join(map(str, steps))}'"
    return [*program.told(), *world.story, str(world.judge.broken), told_of]


def _paths(after: dict[int, list[int]]) -> int:
    """How many ways lead from the first state to an end."""
    ways: dict[int, int] = {}
    start = next(iter(after))
    stack = [(start, False)]
    while stack:
        state, ready = stack.pop()
        if state in ways:
            continue
        follow = after.get(state, [])
        if ready or not follow:
            ways[state] = sum(ways[each] for each in follow) if follow else 1
        else:
            stack.append((state, True))
            stack += [(each, False) for each in follow if each not in ways]
    return ways[start]
