"""Five hundred symbols of which all are stored, or all but ten: ``map``, call by call, and code by hand; near and far."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from . import functions
from .measure import Bench, turns
from .results import OURS, Kind, Record
from .servers import Place, paced
from .subjects import Ours

PART = "many"
QUANTITY = "500 hits"
MOSTLY = "490 hits, 10 computed and stored"
NEAR, FAR = "loopback", "a link of 1 ms"
SINGLE = f"{OURS}, call by call"
BY_HAND = "MGET, pickle"
BARE = "redis-py: MGET"
DELAY = 1e-3  # seconds that the link takes, each way

SYMBOLS = [f"SYMBOL{number}" for number in range(500)]
MISSING = SYMBOLS[::50]


def measure(bench: Bench) -> None:
    """Time one pass over all symbols, by each."""
    for case, way in ((NEAR, _near), (FAR, _far)):
        with way(bench) as place:
            ours = Ours(place)
            quote = ours.memoize("quote")
            quote.map(SYMBOLS)
            client = place.client()
            names = [f"quote:{symbol}" for symbol in SYMBOLS]
            client.mset(
                {name: pickle.dumps(functions.quote(symbol)) for name, symbol in zip(names, SYMBOLS, strict=True)}
            )
            contest: dict[str, tuple[Kind, Callable[[], object]]] = {
                OURS: ("ours", lambda: quote.map(SYMBOLS)),
                SINGLE: ("ours", lambda: [quote(symbol) for symbol in SYMBOLS]),
                BY_HAND: ("code", lambda: _by_hand(client, names)),
                BARE: ("limit", lambda: client.mget(names)),
            }
            timed = {name: _timed(function) for name, (_, function) in contest.items()}
            for name, samples in turns(timed, bench.scale).items():
                bench.add(Record(PART, case, QUANTITY, name, contest[name][0], samples))
            forgotten = [quote.cache_key(symbol) for symbol in MISSING]
            mostly: dict[str, Callable[[], float]] = {
                OURS: _timed(lambda: quote.map(SYMBOLS), before=lambda: client.delete(*forgotten)),
                SINGLE: timed[SINGLE],
            }
            for name, samples in turns(mostly, bench.scale).items():
                bench.add(Record(PART, case, MOSTLY, name, "ours", samples))
            client.close()
            ours.close()


def _by_hand(client: redis.Redis, names: list[str]) -> list[object]:
    found: list[bytes] = client.mget(names)  # type: ignore[assignment]
    return [pickle.loads(each) for each in found]


def _timed(function: Callable[[], object], before: Callable[[], object] = lambda: None) -> Callable[[], float]:
    def measured() -> float:
        before()
        began = time.perf_counter()
        function()
        return time.perf_counter() - began

    return measured


@contextmanager
def _near(bench: Bench) -> Iterator[Place]:
    yield bench.place(0)


@contextmanager
def _far(bench: Bench) -> Iterator[Place]:
    with paced(bench.server.port, DELAY) as port:
        yield bench.place(1).by(port)
