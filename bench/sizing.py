"""What one entry takes and what one operation costs the server: the figures of ``docs/sizing.md``.

Memory is asked of the server (MEMORY USAGE with all samples; used_memory before and after); an operation's cost is the
processor time of the server (used_cpu_user and used_cpu_sys) over many of them, so that it does not depend on how fast
the clients are. One of the server's cores divided by that is a limit, not a measured rate.

    python -m bench.sizing [--quick]
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis

from redis_memo import connect, redis_cached

from .servers import server

SECRET = "a secret of the benchmark's own"  # noqa: S105
KINDS: dict[str, Callable[[int], object]] = {
    "a small dict": lambda n: {"symbol": f"S{n}", "last": n / 8, "volume": n},
    "1 KB": lambda n: random.Random(n).randbytes(1024),  # no compression helps
    "10 KB": lambda n: random.Random(n).randbytes(10_240),
}


@dataclass
class Figures:
    """Of one kind of result: bytes, and µs of the server's processor."""

    entry: float
    index: float
    whole: float
    hit: float
    fill: float
    drop: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing")
    parser.add_argument("--quick", action="store_true", help="few entries: that it runs, and nothing else")
    count = 200 if parser.parse_args().quick else 5_000
    with tempfile.TemporaryDirectory(prefix="redis_memo_bench") as folder, server(Path(folder)) as running:
        url = f"redis://127.0.0.1:{running.port}/0"
        with redis.Redis(port=running.port) as client:
            print(
                f"{'':16} entry B  index B  all B   hit µs  fill µs  drop µs   hits/s  fills/s  (one core; arithmetic)"
            )
            for name, make in KINDS.items():
                it = measure(url, client, make, count)
                print(
                    f"{name:16} {it.entry:7.0f}  {it.index:7.0f}  {it.whole:5.0f}  {it.hit:7.1f}  {it.fill:7.1f}  "
                    f"{it.drop:7.1f}  {1e6 / it.hit:7.0f}  {1e6 / it.fill:7.0f}"
                )


def measure(url: str, client: redis.Redis, make: Callable[[int], object], count: int) -> Figures:
    """Fill, hit and invalidate as many entries of a function of two arguments."""
    client.flushall()
    cache = connect(url, secret=SECRET)

    @redis_cached(namespace="sizing", ttl=3600, cache=cache, name="quote")
    def quote(number: int, kind: str = "last") -> object:  # noqa: ARG001 - a second argument, for the index
        return make(number)

    quote(-1)
    quote.invalidate()
    before = client.info("memory")["used_memory"]
    fill = _cost(client, quote, count)
    whole = (client.info("memory")["used_memory"] - before) / count
    hit = _cost(client, quote, count)
    prefix = quote.cache_key(0).rpartition(":")[0]
    index = sum(int(client.memory_usage(f"{prefix}:{name}", samples=0) or 0) for name in ("index", "args"))
    sampled = range(0, count, max(1, count // 100))
    entry = sum(int(client.memory_usage(quote.cache_key(at), samples=0) or 0) for at in sampled) / len(sampled)
    drop = _cost(client, lambda at: quote.invalidate(number=at, kind="last"), count)
    cache.close()
    return Figures(entry, index / count, whole, hit, fill, drop)


def _cost(client: redis.Redis, act: Callable[[int], object], count: int) -> float:
    """µs of the server's processor for each of so many acts, of four threads."""
    before = _spent(client)

    def work(first: int) -> None:
        for at in range(first, count, 4):
            act(at)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    idle = 5e-4 * (time.monotonic() - began)  # what the server does when nobody asks it anything
    return max(_spent(client) - before - idle, 1e-9) / count * 1e6


def _spent(client: redis.Redis) -> float:
    told = client.info("cpu")
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


if __name__ == "__main__":
    main()
