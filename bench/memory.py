"""Memory: the peak of a process that stores, or hits, a frame of 500 MB, in multiples of the frame.

Each contestant does each in a process of its own. Its peak is the kernel's high-water mark of its memory (VmHWM), which
misses nothing that happens between two looks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pandas as pd

from . import data, functions
from .crew import beside
from .measure import Bench
from .peers import PEERS
from .results import Record
from .servers import Place
from .subjects import Ours, Pickle, Subject

PART = "memory"
CASE = "500 MB of random floats"
FRAMES: dict[str, Callable[[float], pd.DataFrame]] = {
    CASE: data.frame_of,
    "500 MB of prices that nobody rounded": data.walk_of,
    "such prices row by row": data.rows_of,
}
ABOVE, WHOLE = "peak above the interpreter", "peak of the process"
STATUS = Path("/proc/self/status")
PATIENCE = 60  # seconds for one step
KINDS: list[type[Subject]] = [Ours, *PEERS, Pickle]


def measure(bench: Bench) -> None:
    """Store and hit with each; what one stored is gone before the next begins. Only Linux tells a high-water mark."""
    if not STATUS.exists():
        return
    for case in FRAMES:
        for db, kind in enumerate(KINDS if case == CASE else (Ours, Pickle)):
            place = bench.place(db)
            for step in ("store", "hit"):
                peaks, note = _child(kind, step, place, case, bench.scale.frame)
                for nth, quantity in enumerate((ABOVE, WHOLE)):
                    figures = peaks[nth : nth + 1]
                    bench.add(Record(PART, case, f"{step}: {quantity}", kind.name, kind.kind, figures, note))
            with place.client() as client:
                client.flushdb()


def _child(kind: type[Subject], step: str, place: Place, case: str, size: float) -> tuple[list[float], str]:
    """Peaks of a step in frames, above the interpreter and on the whole; or none, and why."""
    process, pipe = beside(_step, kind, step, place, (case, size))
    try:
        answer: tuple[list[float], str] = pipe.recv() if pipe.poll(PATIENCE) else ([], "takes too long")
    except EOFError:
        answer = [], "its process dies"
    process.kill()
    process.join()
    return answer


def _figure(name: str) -> int:
    """Bytes, as the kernel counts them for this process."""
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) * 1024


def _step(pipe: Connection, kind: type[Subject], step: str, place: Place, frame: tuple[str, float]) -> None:
    case, size = frame
    subject = kind(place)
    memoized = subject.memoize("produce")
    functions.values["small"] = FRAMES[case](8_000)
    for _ in range(2):
        subject.call(memoized, "small")  # what is loaded at first use is there
    before = _figure("VmRSS")
    functions.values["large"] = FRAMES[case](size) if step == "store" else None
    try:
        returned = subject.call(memoized, "large")
    except Exception as error:
        pipe.send(([], f"raises {type(error).__name__}"))
        return
    peak = _figure("VmHWM")
    pipe.send(([], "is not stored") if returned is None else ([(peak - before) / size, peak / size], ""))
