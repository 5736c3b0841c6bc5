"""One of several processes that use one `CacheDict` together: ``python -m tests.mappers URL NAMESPACE``.

Waits for the starter's word, races for the items of each kind, and prints what it got, as one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys

import redis

from redis_memo import CacheDict, connect

RACES = 60


def main(url: str, namespace: str) -> None:
    cache = connect(url, secret="a secret that only the tests know")
    mine, runs = os.getpid(), []

    def compute(number: int) -> int:
        runs.append(number)
        return mine

    shared = {
        name: CacheDict(namespace, ttl=60, name=name, cache=cache) for name in ("default", "compute", "pop", "end")
    }
    len(shared["default"])
    with redis.Redis.from_url(url) as client:
        client.incr(f"{namespace}-ready")
        assert client.blpop([f"{namespace}-go"], timeout=60)
    default = [shared["default"].setdefault(number, mine) for number in range(RACES)]
    computed = [shared["compute"].get_or_compute(number, compute, number) for number in range(RACES)]
    popped = [number for number in range(RACES) if shared["pop"].pop(number, None) is not None]
    ended = []
    while True:
        try:
            ended.append(shared["end"].popitem(last=False)[0])
        except KeyError:
            break
    print(json.dumps({"default": default, "computed": computed, "runs": runs, "popped": popped, "ended": ended}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
