"""Long runs of traffic while slots move and masters die: the long form of what ``test_cluster`` and ``test_sentinel`` show.

python -m tests.changes --seconds 60 --seed 1
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import uuid
from collections import Counter

from redis_memo import connect
from redis_memo._cluster import slot_of

from .conftest import SECRET, until, valkey
from .sites import ClusterSite, SentinelSite, raw, start_cluster, start_sentinels
from .traffic import Traffic


def _change_cluster(site: ClusterSite, traffic: Traffic, chance: random.Random, done: Counter[str]) -> None:
    slot = slot_of(traffic.functions[0].cache_key(0, 0).encode())
    owner = site.owner(slot)
    what = chance.choice(["move", "move", "hand over", "kill"])
    done[what] += 1
    if what == "move":
        target = chance.choice([port for port in site.masters() if port != owner])
        site.begin_move(slot, target)
        for _ in range(chance.randrange(5)):
            some = chance.random()
            site.move_keys(slot, owner, target, lambda key: chance.random() < some)
            time.sleep(chance.uniform(0, 0.2))
        site.end_move(slot, owner, target)
        return
    (replica,) = site.replicas(owner)
    if what == "hand over":
        with site.node(replica) as node:
            raw(node, "CLUSTER", "FAILOVER")
    else:
        site.servers[owner].stop()
    until(lambda: site.owner(slot) != owner, 60)
    time.sleep(chance.uniform(0, 1))
    site.heal()


def _change_sentinels(site: SentinelSite, traffic: Traffic, chance: random.Random, done: Counter[str]) -> None:
    master = site.master()
    done["kill"] += 1
    site.servers[master].stop()
    until(lambda: site.master() != master and site.masters() == [site.master()], 60)
    time.sleep(chance.uniform(0, 1))
    site.heal()


def run(kind: str, seconds: float, seed: int) -> tuple[str, list[str]]:
    """Traffic on a ``cluster`` or ``sentinel`` set-up for so long; one line of what happened, and what was broken."""
    site = start_cluster(valkey()) if kind == "cluster" else start_sentinels(valkey())
    chance, done = random.Random(seed), Counter[str]()
    replicas = 1 if kind == "cluster" else 2
    caches = [connect(site.url, secret=SECRET, wait=replicas) for _ in range(2)]
    try:
        with Traffic(caches, f"changes-{uuid.uuid4().hex[:8]}", seed=seed) as traffic:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if isinstance(site, ClusterSite):
                    _change_cluster(site, traffic, chance, done)
                else:
                    assert isinstance(site, SentinelSite)
                    _change_sentinels(site, traffic, chance, done)
                hits = traffic.hits()
                until(lambda hits=hits: traffic.hits() > hits + 20, 60)
    finally:
        for cache in caches:
            cache.close()
        site.stop()
    changes = ", ".join(f"{count} x {what}" for what, count in sorted(done.items()))
    broken = [*traffic.stale, *(f"P5: a caller got {error}" for error in traffic.raised)]
    counts = traffic.counts
    said = (
        f"changing servers, {kind:8} {counts['calls']:>9,} calls of threads and tasks, {counts['computed']:,} computations, "
        f"{counts['invalidated']:,} invalidations and {counts['refused']:,} refused, slowest call {traffic.slowest:.1f} s; "
        f"{changes}; {len(broken)} violations"
    )
    return said, broken


def main() -> int:
    """Run both."""
    parser = argparse.ArgumentParser(prog="python -m tests.changes")
    parser.add_argument("--seconds", type=float, default=30, help="for each set-up")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    broken = []
    for kind in ("cluster", "sentinel"):
        said, stories = run(kind, asked.seconds, asked.seed)
        print(said, *stories[:5], sep="\n", flush=True)
        broken += stories
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
