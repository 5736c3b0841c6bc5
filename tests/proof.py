"""The long form of the search: ``python -m tests.proof [--schedules N] [--seconds S] [--seed S] [--write FILE]``.

Walks schedules of the core's own flows (all of small programs, random ones of generated programs), looks for each planted
mistake, and then records and checks what real processes do on real servers. Ends with 1 if a promise was broken or a mistake
was not found. ``--replay SEED:RUN:KIND`` tells one schedule as a story.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from . import histories
from .schedule_programs import KINDS, PLANTS, SMALL
from .schedule_search import Searched, explore, told, wander, wandering
from .schedule_search import run as run_schedule

SHOWN = ("steps", "computations", "invalidations")
MOST_OF_A_SMALL_ONE = 20_000
MOST_FOR_A_PLANT = 20_000
BATCH = 1000


def _batch(kind: str, start: int, seed: int) -> Searched:
    return wander(KINDS[kind], range(start, start + BATCH), seed, kind)


def _small(name: str) -> Searched:
    return explore(SMALL[name], MOST_OF_A_SMALL_ONE)


def _plant(name: str, seed: int) -> Searched:
    plant = PLANTS[name]
    return wander(plant.make or KINDS[plant.kind], range(MOST_FOR_A_PLANT), seed, plant.kind, plant)


def prove(schedules: int, seconds: float, seed: int) -> tuple[list[str], bool]:
    """The report as lines, and whether all is well."""
    lines, stories = [], []
    counts: Counter[str] = Counter()
    total = walked = complete = 0

    def show(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    began = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        for name, found in zip(SMALL, pool.map(_small, SMALL), strict=True):
            walked += found.schedules
            complete += found.complete
            counts.update(found.counts)
            if found.story:
                stories.append([name, *found.story])
        show(f"small programs           {len(SMALL):>9,} programs, {complete} of them completely: {walked:,} schedules")
        each = -(-schedules // (len(KINDS) * BATCH)) * BATCH
        for kind in KINDS:
            batches = range(0, each, BATCH)
            done = list(pool.map(_batch, [kind] * len(batches), batches, [seed] * len(batches)))
            number = sum(found.schedules for found in done)
            total += number
            for found in done:
                counts.update(found.counts)
                if found.story:
                    stories.append([kind, *found.story])
            show(f"random, {kind:16} {number:>9,} schedules")
        show(f"together                 {total + walked:>9,} schedules in {time.monotonic() - began:.0f} s")
        show("with                     " + ", ".join(f"{counts[each]:,} {each}" for each in sorted(counts)))
        lost = 0
        for name, found in zip(PLANTS, pool.map(_plant, PLANTS, [seed] * len(PLANTS)), strict=True):
            lost += found.story is None
            said = f"found after {found.schedules:,} schedules" if found.story else "NOT FOUND"
            show(f"planted: {name:45} {said}")
    broken = len(stories)
    if seconds:
        for server in ("valkey", "redis"):
            if server == "redis" and shutil.which("redis-server") is None:
                continue
            recorded = histories.run(seconds, seed, server)
            stories += [[server, *story.splitlines()] for story in recorded.stories]
            broken += len(recorded.stories)
            show(
                f"real processes, {server:8} {recorded.calls:>9,} calls of {recorded.processes} processes, "
                f"{recorded.computations:,} computations, {recorded.invalidations:,} invalidations, "
                f"{recorded.kills} killed, {recorded.pauses} stopped; {len(recorded.stories)} violations"
            )
    for story in stories:
        print("\n".join(["", *story]))
    show(f"violations               {broken:>9,}")
    return lines, not broken and not lost


def replay(name: str) -> None:
    """Tell one schedule."""
    seed, number, kind = name.split(":", 2)
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
