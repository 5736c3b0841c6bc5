"""What storing costs with a million entries there: ``python -m bench.million [--most 1000000]``.

A function with ``maxsize=`` is filled to 10,000 and more entries, each full of them; at each size entries are stored, each of
which evicts another. Not part of ``make bench``: it takes minutes, and a gigabyte of the server.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import redis_memo
from redis_memo import _ops as ops
from redis_memo._bounds import Bounds, Eviction
from redis_memo._commands import _command
from redis_memo._identity import key_prefix

from .servers import Place, server

FEWEST = 10_000
PIPED = 1000
BATCH, ROUNDS = 500, 15


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.million", description=__doc__)
    parser.add_argument("--most", type=int, default=1_000_000, help="entries (default: 1,000,000)")
    parser.add_argument("--evict", choices=["lru", "worth"], default="lru")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as started:
        place = started.place(0, Path(folder))
        cache = redis_memo.connect(place.url)
        fills = {}
        for size in (FEWEST, given.most):
            _full(place, size, given.evict)
            fills[size] = _filler(cache, size, given.evict)
        took: dict[int, list[float]] = {size: [] for size in fills}
        for _ in range(ROUNDS):  # in turns, so that a machine whose speed drifts slows both alike
            for size, fill in fills.items():
                began = time.perf_counter()
                for _ in range(BATCH):
                    fill()
                took[size].append((time.perf_counter() - began) / BATCH)
        ratios = [late / early for early, late in zip(*took.values(), strict=True)]
        for size, seconds in took.items():
            print(f"{size:>9,} entries: {median(seconds) * 1e6:.0f} us to store one and evict one")
        print(f"ratio {median(ratios):.2f}")
        cache.close()


def _filler(cache: redis_memo.Cache, size: int, evict: Eviction) -> Callable[[], int]:
    @redis_memo.redis_cached(namespace="million", name=f"of{size}", ttl=None, maxsize=size, evict=evict, cache=cache)
    def f(number: int) -> int:
        return number

    numbers = itertools.count()
    return lambda: f(next(numbers))


def _full(place: Place, size: int, evict: Eviction) -> None:
    """Store so many entries, each with an argument; many in one round trip, and by the script that a call uses."""
    prefix, bounds = key_prefix("million", f"of{size}"), Bounds(maxsize=size, evict=evict)
    with place.client() as client, client.pipeline(transaction=False) as pipeline:
        for number in range(size):
            entry = ops.Place(prefix, f"{number:040x}", b"arg!" + number.to_bytes(4, "big"), bounds)
            script, keys, args = _command(ops.Put(entry, b"x" * 100, 86400.0, entry.tokens))
            assert script is not None
            pipeline.execute_command("EVALSHA", script.sha, len(keys), *keys, *args)
            if number % PIPED == 0 or number == size - 1:
                client.script_load(script.text)
                pipeline.execute()


if __name__ == "__main__":
    main()
