"""One of several processes that call one cold key together: ``python -m tests.crowds URL NAMESPACE MODE CALLERS``.

Waits for the starter's word, calls from threads or tasks, and prints what each caller got, how often the function ran here,
and when: as one line of JSON, with times of the system-wide monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time

import redis

from redis_memo import connect, redis_cached

WORK = 0.3


class Upstream(Exception):
    """What the failing function raises."""


class Locked(Exception):
    """As `Upstream`, but it cannot be sent to another process."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def main(url: str, namespace: str, mode: str, callers: int) -> None:
    secret = None if "unsigned" in mode else "a secret that only the tests know"
    cache = connect(url, secret=secret)
    runs: list[tuple[float, float]] = []

    def work(x: int) -> dict[str, float]:
        began = time.monotonic()
        time.sleep(WORK)
        runs.append((began, time.monotonic()))
        if "fails" in mode:
            raise (Locked if "locked" in mode else Upstream)("no data today")
        return {"x": x, "computed": time.monotonic()}

    async def awork(x: int) -> dict[str, float]:
        began = time.monotonic()
        await asyncio.sleep(WORK)
        runs.append((began, time.monotonic()))
        if "fails" in mode:
            raise (Locked if "locked" in mode else Upstream)("no data today")
        return {"x": x, "computed": time.monotonic()}

    options = {"namespace": namespace, "ttl": 60, "name": "crowd", "cache": cache}
    call, acall = redis_cached(**options)(work), redis_cached(**options)(awork)
    results: list[tuple[object, float]] = []

    def one() -> None:
        try:
            value: object = call(7)
        except (Upstream, Locked) as error:
            value = type(error).__name__
        results.append((value, time.monotonic()))

    async def aone() -> None:
        try:
            value: object = await acall(7)
        except (Upstream, Locked) as error:
            value = type(error).__name__
        results.append((value, time.monotonic()))

    async def tasks() -> None:
        await asyncio.gather(*[aone() for _ in range(callers)])

    call.peek(0)
    with redis.Redis.from_url(url) as client:
        client.incr(f"{namespace}-ready")
        assert client.blpop([f"{namespace}-go"], timeout=60)
    began = time.monotonic()
    if "tasks" in mode:
        asyncio.run(tasks())
    else:
        threads = [threading.Thread(target=one) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(json.dumps({"began": began, "results": results, "runs": runs}))


if __name__ == "__main__":
    # Under the name by which another process can find its exceptions again.
    from tests import crowds

    crowds.main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
