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
from redis_memo._bounds import Eviction
from redis_memo._identity import key_prefix

from .servers import Place, server

FEWEST = 10_000
AT_ONCE = 5000
BATCH, ROUNDS = 500, 15


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.million", description=__doc__)
    parser.add_argument("--most", type=int, default=1_000_000, help="entries (default: 1,000,000)")
    parser.add_argument("--evict", choices=["lru", "worth"], default="lru")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as started:
        place = started.place(0, Path(folder))
        cache = redis_memo.connect(place.url, timeout=30)
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


FILL = """
local prefix, at, number, kind = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local now = redis.call('TIME')
now = now[1] * 1000
for n = at, at + number - 1 do
  local digest = string.format('%040x', n)
  local token = 'arg!' .. string.sub(digest, 33)
  redis.call('SET', prefix .. digest, string.rep('x', 100), 'PX', 86400000)
  redis.call('ZADD', prefix .. 'index', now + 86400000, digest)
  redis.call('ZADD', prefix .. 'args', 0, 'd' .. digest .. token, 0, 't' .. token .. digest)
  redis.call('ZADD', prefix .. 'uses', kind == 'lru' and now * 1000 + n or n % 1000, digest)
  redis.call('HSET', prefix .. 'sizes', digest, kind == 'lru' and 100 or '100 0.1 1 ' .. string.format('%.0f', now * 1000))
end
redis.call('HSET', prefix .. 'sizes', '#bytes', 100 * (at + number), '#clock', string.format('%.0f', now * 1000 + at + number),
  '#floor', 0, '#mend', 0, '#kind', kind, '#since', now, '#evicted', 0)
"""
"""What stores of so many entries leave behind, many at a time: one by one they would take an hour."""


def _full(place: Place, size: int, evict: Eviction) -> None:
    """Be there already: so many entries, each with one argument."""
    with place.client() as client:
        for at in range(0, size, AT_ONCE):
            client.eval(FILL, 1, key_prefix("million", f"of{size}"), at, AT_ONCE, evict)


if __name__ == "__main__":
    main()
