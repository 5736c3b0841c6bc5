"""Run the benchmark: see ``python -m bench --help``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import redis

import bench

from . import hits, keys, link_hits, many, memory, near, page, plots, processes, stampede, values
from .crew import silence
from .measure import QUICK, Bench, Scale
from .peers import PEERS
from .results import Results
from .servers import Server, server

PARTS = {
    "values": values.measure,
    "keys": keys.measure,
    "hits": hits.measure,
    "near": near.measure,
    "link": link_hits.measure,
    "many": many.measure,
    "processes": processes.measure,
    "stampede": stampede.measure,
    "memory": memory.measure,
}
HERE = Path(__file__).parent
RESULTS = "results.json"


def main() -> None:
    """Measure, print, and write down."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench", description=bench.__doc__, formatter_class=as_written)
    only = f"measure these only, and just print: {', '.join(PARTS)}"
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []], help=only)
    parser.add_argument("--quick", action="store_true", help="tiny values, one turn: that it runs, and nothing else")
    parser.add_argument("--page", action="store_true", help="measure nothing, make the page of the last results")
    parser.add_argument("--output", type=Path, help="folder for results and page, instead of this checkout's")
    given = parser.parse_args()
    if given.page:
        write(Results.load(HERE / RESULTS), given.output)
        return
    results = measure(given.parts or list(PARTS), QUICK if given.quick else Scale())
    print(page.text(results))
    if given.output is not None or not (given.parts or given.quick):
        write(results, given.output)


def measure(parts: list[str], scale: Scale) -> Results:
    """Run parts against one server."""
    for name in [name for name in os.environ if name.startswith("REDIS")]:
        del os.environ[name]  # nobody's settings but the defaults
    silence()
    with tempfile.TemporaryDirectory(prefix="redis_memo_bench") as folder, server(Path(folder)) as running:
        run = Bench(running, Path(folder), scale, Results({"cores": os.cpu_count()}, versions(running)))
        for part in parts:
            began = time.monotonic()
            PARTS[part](run)
            print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return run.results


def versions(running: Server) -> dict[str, str]:
    """What was compared."""
    with redis.Redis(port=running.port) as client:
        found = {"Python": platform.python_version(), "Valkey": client.info("server")["valkey_version"]}
    peers = [kind.distribution for kind in PEERS if kind.distribution]
    return found | {name: version(name) for name in ("redis_memo", "redis", "hiredis", "pandas", "numpy", *peers)}


def write(results: Results, folder: Path | None) -> None:
    """Write results, page and plots, into the checkout or into a folder."""
    docs, kept = folder or HERE.parent / "docs", (folder or HERE) / RESULTS
    results.save(kept)
    results = Results.load(kept)  # with as many digits as are kept, so that the page can be made again
    (docs / "benchmarks.md").write_text(page.text(results))
    plots.draw(results, docs / page.PLOTS)


if __name__ == "__main__":
    main()
