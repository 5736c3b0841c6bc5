"""The embedded server under decorated functions: killed, shared, forked, and gone when nobody needs it (P5, P7)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_memo import _embedded, connect, redis_cached

from .conftest import until

SCRIPT = """
import sys, os, time
from redis_memo import configure, redis_cached
configure("embedded://" + sys.argv[1], lease=0.5)  # how long a killed computation keeps the next one waiting

@redis_cached(namespace="embedded", ttl=600, name="shared")
def shared(x):
    if len(sys.argv) > 2:
        print("computing", flush=True)
        time.sleep(600)
    return {"pid": os.getpid(), "x": x}

print(shared(1)["pid"], shared.cache_info().hits, flush=True)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rm"))
    yield path
    _embedded.stop(path)


def alive(pid: int | None) -> bool:
    if not pid:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def running(folder: Path, call=lambda: None) -> _embedded.EmbeddedStatus:
    """The status once both processes are known: a process id of 0 would be our own group."""
    found = []

    def known() -> bool:
        call()
        found.append(_embedded.status(folder))
        return bool(found[-1].keeper and found[-1].server)

    until(known)
    return found[-1]


def run(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_share_entries_also_over_a_restart_and_nothing_stays(folder: Path) -> None:
    first, _ = run(folder).communicate(timeout=60)
    pid, hits = first.split()
    assert hits == "0"
    until(lambda: not _embedded.status(folder).running)
    second, errors = run(folder).communicate(timeout=60)
    assert second.split() == [pid, "1"], errors
    status = _embedded.status(folder)
    until(lambda: not _embedded.status(folder).running)
    assert not alive(status.server)
    assert not alive(status.keeper)


@pytest.mark.parametrize("victims", [("server",), ("keeper",), ("server", "keeper")])
def test_the_next_call_works_after_a_kill(folder: Path, victims) -> None:
    cache = connect(f"embedded://{folder}")
    calls = []

    @redis_cached(namespace="embedded", ttl=600, cache=cache, name="f")
    def f(x):
        calls.append(x)
        return x

    @redis_cached(namespace="embedded", ttl=600, cache=cache, name="g")
    async def g(x):
        return x

    assert f(1) == 1
    for number in range(3):
        status = running(folder, lambda: f(1))
        for victim in victims:
            os.kill(getattr(status, victim), signal.SIGKILL)
        if number < 2:
            assert f(1) == 1
        else:
            assert asyncio.run(g(1)) == 1
        until(lambda: f(1) == f(1) and f.peek(1) == 1)
    cache.close()


def test_a_process_killed_in_a_call_leaves_the_next_one_its_answer(folder: Path) -> None:
    victim = run(folder, "slowly")
    assert victim.stdout is not None
    assert victim.stdout.readline() == "computing\n"
    victim.kill()
    victim.communicate()
    cache = connect(f"embedded://{folder}", max_wait=0.2)
    shared = redis_cached(namespace="embedded", ttl=600, cache=cache, name="shared")(lambda x: {"x": x})
    assert shared(1) == {"x": 1}
    cache.close()


def test_killing_user_and_server_together_leaves_nothing_running(folder: Path) -> None:
    victim = run(folder, "slowly")
    assert victim.stdout is not None
    victim.stdout.readline()
    status = running(folder)
    os.kill(status.server, signal.SIGKILL)
    victim.kill()
    victim.communicate()
    until(lambda: not alive(status.keeper) and not alive(status.server))
    out, errors = run(folder).communicate(timeout=60)
    assert out, errors


def test_a_preloaded_application_forks_workers(folder: Path) -> None:
    """As gunicorn does: used before the fork, and in every child after it."""
    cache = connect(f"embedded://{folder}")
    f = redis_cached(namespace="embedded", ttl=600, cache=cache, name="f")(lambda x: [x, os.getpid()])
    first = f(1)
    reader, writer = os.pipe()
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                answers = [f(1), f(number + 1000), f(number + 1000), asyncio.run(_twin(cache)(number))]
                os.write(writer, (json.dumps(answers) + "\n").encode())
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [f(x)[0] for x in range(50)] == list(range(50)), "the parent's connection is its own"
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    os.close(writer)
    with os.fdopen(reader) as lines:
        answers = [json.loads(line) for line in lines]
    assert [answer[0] for answer in answers] == [first] * 4
    assert sorted(answer[1][1] for answer in answers) == sorted(children)
    assert all(answer[1] == answer[2] for answer in answers)
    cache.close()


def _twin(cache):
    @redis_cached(namespace="embedded", ttl=600, cache=cache, name="twin")
    async def twin(x):
        return x

    return twin


def test_a_child_hashes_large_arguments_too(folder: Path) -> None:
    """A thread pool of the parent's is dead in a forked child; hashing must not wait for it."""
    import numpy as np

    cache = connect(f"embedded://{folder}")
    f = redis_cached(namespace="embedded", ttl=600, cache=cache, name="f")(lambda array: array * 2)
    large = np.arange(3_000_000, dtype=float)
    f(large)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        status = 1
        try:
            status = int(not (f(large)[-1] == large[-1] * 2 and f.cache_info().hits == 1))
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    cache.close()
