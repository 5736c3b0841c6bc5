"""The long form of the search: ``python -m tests.proof [--schedules N] [--seconds S] [--seed S] [--write FILE]``.

Walks schedules of the core's own flows (all of small programs, random ones of generated programs), looks for each planted
mistake, serves a hot key for a simulated day, and then records and checks what real processes do on real servers. Ends with
1 if a promise was broken or a mistake was not found. ``--replay SEED:RUN:KIND`` tells one schedule as a story; so does
``--replay small:NAME:STEPS`` one of a small program.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from . import bounds_load, changes, histories
from .conftest import start_server, valkey
from .schedule_programs import KINDS, PLANTS, SMALL
from .schedule_search import Searched, explore, retold, told, wander, wandering
from .schedule_search import run as run_schedule
from .simulated_day import RATES, TTLS, Outcome, simulate

SHOWN = (
    "steps",
    "computations",
    "invalidations",
    "crashes",
    "pauses",
    "cancellations",
    "failures",
    "failed operations",
    "lost pushes",
)
MOST_OF_A_SMALL_ONE = 30_000
LONGEST_WAIT = 0.01  # of a hot key's calls wait
MOST_COMPUTED = 2.0  # times what is needed
MOST_FOR_A_PLANT = 20_000
LEAST_OF_LRU = 0.98  # of the hits that a perfect LRU has
BATCH = 1000


def _batch(kind: str, start: int, seed: int) -> Searched:
    return wander(KINDS[kind], range(start, start + BATCH), seed, kind)


def _small(name: str) -> Searched:
    return explore(SMALL[name], MOST_OF_A_SMALL_ONE)


def _plant(name: str, seed: int) -> Searched:
    plant = PLANTS[name]
    return wander(KINDS[plant.kind], range(MOST_FOR_A_PLANT), seed, plant.kind, plant)


def _day(rate: float, ttl: float) -> Outcome:
    return simulate(rate, ttl)


def prove(schedules: int, seconds: float, seed: int) -> tuple[list[str], bool]:
    """The report as lines, and whether all is well."""
    lines, stories = [], []
    counts: Counter[str] = Counter()
    total = walked = complete = 0

    def show(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    def row(name: str, number: int, counted: Counter[str]) -> None:
        show(f"{name:42} {number:>9,} " + " ".join(f"{counted[each]:>{max(9, len(each))},}" for each in SHOWN))

    began = time.monotonic()
    show(f"{'':42} {'schedules':>9} " + " ".join(f"{each:>9}" for each in SHOWN))
    with ProcessPoolExecutor(2) as pool:
        ways: dict[str, str] = {}
        for name, found in zip(SMALL, pool.map(_small, SMALL), strict=True):
            walked += found.schedules
            complete += found.complete
            counts.update(found.counts)
            row(name, found.schedules, found.counts)
            ways[name] = f"{found.covered:,}" if found.complete else f"not all, {found.states:,} states"
            if found.story:
                stories.append([name, *found.story])
        each = -(-schedules // (len(KINDS) * BATCH)) * BATCH
        for kind in KINDS:
            batches = range(0, each, BATCH)
            done = list(pool.map(_batch, [kind] * len(batches), batches, [seed] * len(batches)))
            number = sum(found.schedules for found in done)
            total += number
            counted: Counter[str] = Counter()
            for found in done:
                counted.update(found.counts)
                if found.story:
                    stories.append([kind, *found.story])
            counts.update(counted)
            row(f"random: {kind}", number, counted)
        row("together", total + walked, counts)
        show(f"in {time.monotonic() - began:.0f} s, on 2 processes")
        show("")
        show(
            f"Of {complete} of the {len(SMALL)} small programs every schedule is covered: one that comes to a state which was"
        )
        show("reached before is not followed further. Schedules covered:")
        for name, text in ways.items():
            show(f"  {name:42} {text}")
        show("")
        lost = 0
        for name, found in zip(PLANTS, pool.map(_plant, PLANTS, [seed] * len(PLANTS)), strict=True):
            lost += found.story is None
            said = f"found after {found.schedules:,} schedules" if found.story else "NOT FOUND"
            show(f"planted: {name:45} {said}")
        show("")
        for day in pool.map(_day, *zip(*((rate, ttl) for rate in RATES for ttl in TTLS), strict=True)):
            show(f"a day of {day.rate:2} calls/s, 1 s to compute, ttl {day.ttl:3} s: {day.share:.3%} of the calls wait, "
                 f"{day.ratio:.2f} times the fewest computations")  # fmt: skip
            lost += day.share >= LONGEST_WAIT or day.ratio > MOST_COMPUTED
        show("")
    broken = len(stories)
    if seconds:
        for server in ("valkey", "redis", "cluster"):
            if server == "redis" and shutil.which("redis-server") is None:
                continue
            recorded = histories.run(seconds, seed, server)
            stories += [[server, *story.splitlines()] for story in recorded.stories]
            broken += len(recorded.stories)
            moved = (
                f", {recorded.moves} slots moved, {recorded.failovers} masters killed" if server == "cluster" else ""
            )
            show(
                f"real processes, {server:8} {recorded.calls:>9,} calls of {recorded.processes} processes, "
                f"{recorded.computations:,} computations, {recorded.invalidations:,} invalidations, "
                f"{recorded.kills} killed, {recorded.pauses} stopped{moved}; {len(recorded.stories)} violations"
            )
        for kind in ("cluster", "sentinel"):
            said, found_there = changes.run(kind, seconds, seed)
            stories += [[kind, story] for story in found_there]
            broken += len(found_there)
            show(said)
        lost += not _bounded(show, int(seconds))
    for story in stories:
        print("\n".join(["", *story]))
    show(f"violations               {broken:>9,}")
    return lines, not broken and not lost


def _bounded(show: Callable[[str], None], seconds: int) -> bool:
    """Eight processes on one function with bounds; about 100,000 keys where there is a minute."""
    server = start_server(valkey())
    try:
        keys = seconds * 1700
        once = bounds_load.run(server.url, 8, list(range(keys)), 1000)
        show(
            f"bounds: {keys:,} keys by 8 processes, maxsize 1,000: {once.most:,} entries at most, {once.entries:,} at the end"
        )
        traffic = bounds_load.run(server.url, 8, bounds_load.zipf(seconds * 800, 20_000, 0.9, 1), 2000)
        share = traffic.hits / max(traffic.perfect, 1)
        show(f"bounds: Zipf traffic of 8 processes, maxsize 2,000: {share:.1%} of the hits of a perfect LRU")
    finally:
        server.stop()
    return once.most <= 1000 and traffic.most <= 2000 and share >= LEAST_OF_LRU


def replay(name: str) -> None:
    """Tell one schedule."""
    first, second, kind = name.split(":", 2)
    if first == "small":
        print("\n".join(retold(SMALL[second], None, [int(step) for step in kind.split(",")])))
        return
    program = KINDS[kind](random.Random(f"program {name}"))
    world = run_schedule(program, None, wandering(name), tell=True)
    print("\n".join(told(program, None, name) if world.judge.broken else [*program.told(), *(world.story or [])]))


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description="Search for a broken promise.")
    parser.add_argument("--schedules", type=int, default=150_000, help="random schedules (default: 150,000)")
    parser.add_argument("--seconds", type=float, default=60, help="of real processes on each server (default: 60)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help="file for the report")
    parser.add_argument("--replay", metavar="SEED:RUN:KIND")
    asked = parser.parse_args()
    if asked.replay:
        replay(asked.replay)
        return 0
    lines, well = prove(asked.schedules, asked.seconds, asked.seed)
    if asked.write:
        asked.write.write_text("\n".join(lines) + "\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
