"""Migrations killed with ``kill -9`` at random points and gone on with: ``python -m tests.migrations [--kills N] [--files N]``.

A point is a number of bytes of the manifest, which is written throughout: the process is killed when the file has grown to
it, so that points are spread over the work and not over the start of the interpreter. Ends with 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import redis

from redis_memo._migrate_journal import Past

ROOT = Path(__file__).parent.parent
SERVICE = """
from redis_memo import connect, redis_cached
cache = connect({url!r}, secret="a secret that only the tests know", lease=1)
runs = []
@redis_cached(namespace={namespace!r}, ttl="30d", cache=cache, name="fetch")
def fetch(number: int):
    runs.append(number)
"""
SLOW = 60.0
EACH = 4


class Killed:
    """A folder of an old cache, a service, and a command that is killed now and then."""

    def __init__(self, folder: Path, url: str, files: int, seed: int) -> None:
        self.folder, self.url, self.files = folder, url, files
        self.random = random.Random(seed)
        self.namespace = f"test-{uuid.uuid4().hex[:12]}"
        self.old = folder / "old"
        self.old.mkdir()
        self.values = {number: {"number": number, "rows": [number / 7] * 20} for number in range(files)}
        for number, value in self.values.items():
            (self.old / f"{number}.json").write_text(json.dumps(value))
            os.utime(self.old / f"{number}.json", (time.time() + 86400,) * 2)  # newer than what Redis has already
        (folder / "killed_service.py").write_text(SERVICE.format(url=url, namespace=self.namespace))
        self.manifest = folder / "m.jsonl"
        self.kills = 0

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("REDIS")}
        environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{self.folder}"
        return subprocess.Popen(
            [sys.executable, "-m", "redis_memo._cli", "migrate", *args, "--manifest", str(self.manifest)],
            cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def size(self) -> int:
        return self.manifest.stat().st_size if self.manifest.exists() else 0

    def run(self, *args: str) -> None:
        process = self.start(*args)
        said, _ = process.communicate()
        assert process.returncode == 0, said.decode()

    def killed(self, *args: str, grows: int) -> bool:
        """Whether it was killed, at a random point of what it still has to write."""
        point = self.size() + self.random.randrange(1, max(grows, 2))
        process = self.start(*args)
        end = time.monotonic() + SLOW * 5
        while process.poll() is None and self.size() < point and time.monotonic() < end:
            time.sleep(0.0002)
        process.kill()
        process.communicate()
        died = process.returncode == -9
        self.kills += died
        return died

    def python(self, code: str) -> str:
        """What a process with the service prints."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}"}
        code = f"import json, killed_service as s\n{code}"
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
        ).stdout

    def store_before(self) -> None:
        """Let each fourth call have an entry already."""
        self.python(f"for n in range(0, {self.files}, {EACH}): s.fetch.store({{'before': n}}, n)")

    def check_entries(self, *, before: bool = False) -> list[str]:
        """What the function is not served, read by a process of its own; ``before`` or after the migration."""
        code = f"found = [s.fetch.peek(n) for n in range({self.files})]\n"
        said = self.python(code + "print(json.dumps([v if isinstance(v, dict) else None for v in found]))")
        old = {number: {"before": number} for number in range(0, self.files, EACH)}
        wanted = [old.get(number) for number in range(self.files)] if before else list(self.values.values())
        return [
            f"{number} is not served as it should be"
            for number, value in enumerate(json.loads(said))
            if value != wanted[number]
        ]

    def check_files(self, *folders: Path) -> list[str]:
        """Each file is in one of the folders, once and whole."""
        wrong = []
        for number, value in self.values.items():
            found = [folder / f"{number}.json" for folder in folders if (folder / f"{number}.json").exists()]
            if len(found) != 1 or json.loads(found[0].read_text()) != value:
                wrong.append(f"{number}.json is in {len(found)} places, or changed")
        extra = [
            p.name for folder in folders if folder.exists() for p in folder.iterdir() if not p.name.endswith(".json")
        ]
        return wrong + extra

    def verified_twice(self) -> list[str]:
        seen: set[Any] = set()
        twice = []
        for line in self.manifest.read_bytes().splitlines():
            record = json.loads(line)
            if record["what"] == "verified":
                twice += [record["item"]] if record["item"] in seen else []
                seen.add(record["item"])
            if record["what"] == "rolled back":
                seen.clear()
        return twice


def story(folder: Path, url: str, *, kills: int, files: int, seed: int) -> tuple[list[str], int]:
    """What was lost or done twice, and how many kills there were: while migrating, while cleaning up, while rolling back."""
    it = Killed(folder, url, files, seed)
    apply = ("old", "killed_service:fetch", "--pattern", "{number:int}.json", "--apply")
    clean = ("old", "killed_service:fetch", "--cleanup", "--archive", str(folder / "archive"))
    back = ("rollback", "old", "killed_service:fetch")
    archive = folder / "archive"
    wrong: list[str] = []
    it.store_before()
    with redis.Redis.from_url(url) as client:
        before = sorted(client.scan_iter(f"*{it.namespace}*"))
        for arguments, each, folders in (
            (apply, 640, (it.old,)),
            (clean, 150, (it.old, archive)),
            (back, 60, (it.old, archive)),
        ):
            for _ in range(kills):
                past = Past()
                if it.manifest.exists():
                    data = it.manifest.read_bytes()
                    for line in data[: data.rfind(b"\n") + 1].splitlines():
                        past.take(json.loads(line))
                if arguments is apply:
                    left = files - len(past.verified)
                else:
                    left = files - len(past.moves) if arguments is clean else len(past.moves)
                it.killed(*arguments, grows=left * each // 2)
                wrong += it.check_files(*folders)
            if arguments is not back or it.manifest.exists():  # it is gone after a rollback that came to its end
                it.run(*arguments)
            if arguments is back:
                break
            wrong += (
                it.check_files(it.old if arguments is apply else archive) + it.check_entries() + it.verified_twice()
            )
        wrong += it.check_files(it.old) + it.check_entries(before=True)
        after = sorted(client.scan_iter(f"*{it.namespace}*"))
        wrong += [f"{key!r} is left behind, or is missing" for key in {*before} ^ {*after} if b":lease" not in key]
    return wrong, it.kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of each of the three: migration, clean-up, rollback")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    from .conftest import start_server, valkey

    server = start_server(valkey())
    folder = Path(tempfile.mkdtemp(prefix="rm"))
    try:
        began = time.monotonic()
        wrong, kills = story(folder, server.url, kills=args.kills, files=args.files, seed=args.seed)
    finally:
        server.stop()
        shutil.rmtree(folder)
    print(
        f"{args.files:,} files, {kills} kills, {time.monotonic() - began:.0f} s: {len(wrong)} lost, doubled or left behind"
    )
    for each in wrong[:20]:
        print(f"  {each}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
