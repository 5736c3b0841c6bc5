"""Work that several threads share, where cores have nothing else to do.

Helpers live as long as one piece of work. A pool would be lost in a fork, and would have to be looked after at exit; to
start a thread takes a tenth of a millisecond, and is only done for work of several. What is shared are long calls that
let go of the interpreter's lock: hashing, zstd, pcodec. Many short ones are slower on two threads than on one.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WORTH", "hasher", "share", "threads"]

WORTH: Final = 1 << 20  # bytes to compress; to hash or copy, several times as many are needed
_MOST: Final = 4
_RUNNING: Final = Path("/proc/loadavg")
_GROUP: Final = Path("/sys/fs/cgroup")
_QUOTAS: Final = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))  # of cgroups 2 and 1


def threads(most: int = _MOST) -> int:
    """How many threads may work now, the caller's included: no more than cores are idle that this process may use.

    A web server runs a worker for each core. While all of them are busy, each is on its own.
    """
    if most < 2:
        return 1
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        cores = os.cpu_count() or 1
    if cores > 1:
        idle = (os.cpu_count() or 1) - _running() + 1
        cores = min(cores, _quota(), idle)
    return max(1, min(cores, most, _MOST))


def _running() -> int:
    """Threads of this machine that run or wait for a core, this one included."""
    try:
        return int(_RUNNING.read_bytes().split()[3].partition(b"/")[0])
    except (OSError, ValueError, IndexError):  # not Linux
        pass
    try:
        return 1 + round(os.getloadavg()[0])
    except (OSError, AttributeError):
        return os.cpu_count() or 1  # nobody says: as if all were busy


@functools.cache
def _quota() -> int:
    """Cores that a container may use at a time: with fewer than it sees, helpers would only be throttled sooner."""
    for files in _QUOTAS:
        try:
            quota, period = map(int, " ".join([(_GROUP / name).read_text() for name in files]).split())
        except (OSError, ValueError):  # no such file; or "max"
            continue
        if quota > 0 and period > 0:
            return max(1, quota // period)
    return _MOST


def share(work: Callable[[int], object], count: int, threads: int) -> None:
    """Do ``work(0)`` to ``work(count - 1)``, each once, begun in this order.

    Args:
        work: Is called by several threads at once.
        count: How often.
        threads: How many, the caller's included; see `threads`.

    Raises:
        BaseException: What was raised in the caller, a signal's handler perhaps, or else what was raised first; work
            that was not begun is left undone. No helper is at work any more.
    """
    if threads < 2:
        for number in range(count):
            work(number)
        return
    left = deque(range(count))
    errors: list[BaseException] = []

    def run() -> None:
        while not errors:
            try:
                number = left.popleft()
            except IndexError:
                return
            work(number)

    def help_out() -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - the caller's to raise
            errors.append(error)

    started: list[threading.Thread] = []
    try:
        for _ in range(min(threads, count) - 1):
            helper = threading.Thread(target=help_out, name="redis_memo helper", daemon=True)
            try:
                helper.start()
            except RuntimeError:  # no more threads, or the interpreter is shutting down
                break
            started.append(helper)
        run()
    finally:
        left.clear()
        for helper in started:
            helper.join()
    if errors:
        raise errors[0]


def hasher(data: bytes | bytearray | memoryview, threads: int, **options: Any) -> blake3:
    """blake3, begun with ``data``.

    Args:
        data: Its first bytes.
        threads: How many may work on these and on what follows. Only ever an explicit number: ``blake3.AUTO`` uses a
            pool of the whole process, and waits for ever for its threads in a forked child, which has none of them.
        **options: As blake3's.
    """
    if threads > 1:
        try:
            return blake3(data, max_threads=threads, **options)
        except BaseException as error:
            # Where no thread can be started, its library panics; as that is no Exception, so would the caller.
            if type(error).__name__ != "PanicException":
                raise
    return blake3(data, **options)
