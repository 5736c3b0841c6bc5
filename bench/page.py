"""``docs/benchmarks.md``, written from the results of one run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from . import hits, keys, link_hits, many, memory, near, processes, stampede, values
from .results import OURS, Results
from .tables import against, count, goals, grid, lost, plain, times

PLOTS = "benchmarks"
"""The folder of the plots, beside the page."""


def text(results: Results) -> str:
    """The page, or as much of it as the run has figures for."""
    return "\n\n".join(_sections(results)) + "\n"


def _sections(results: Results) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    yield _HEAD.format(**results.machine, versions=textwrap.fill(versions, 120))
    yield f"## What it aims at\n\n{goals(results)}\n\n{_AIMS}"
    yield f"## Where {OURS} loses\n\n{_LOST}\n\n{lost(results)}"
    if results.cases(values.PART, "hit"):
        yield f"## Values\n\n{_VALUES}"
        for plot, quantity in (("stored", "stored bytes"), ("store", "store"), ("hit", "hit")):
            yield f"### {quantity.capitalize()}\n\n{_shown(results, plot, values.PART, quantity)}"
    if results.cases(link_hits.PART, "hit"):
        yield f"## A link of 1 Gbit/s\n\n{_LINK}\n\n{_shown(results, 'link', link_hits.PART, 'hit')}"
    if results.cases(keys.PART, keys.QUANTITY):
        yield f"## Keys\n\n{_KEYS}\n\n{_shown(results, 'keys', keys.PART, keys.QUANTITY)}"
    if results.cases(hits.PART, hits.MEDIAN):
        yield f"## A small hit\n\n{_HITS}\n\n{_plot('small', 'Small hits')}\n\n{_small(results)}"
    if results.cases(many.PART, many.QUANTITY):
        yield f"## Many calls at once\n\n{_MANY}\n\n{against(results, many.PART, many.QUANTITY, OURS)}"
    if results.cases(many.PART, many.MOSTLY):
        yield f"{_MOSTLY}\n\n{against(results, many.PART, many.MOSTLY, OURS)}"
    if results.cases(near.PART, near.QUANTITY):
        yield f"## A near hit\n\n{_NEAR}\n\n{against(results, near.PART, near.QUANTITY, OURS)}"
    if results.cases(processes.PART, processes.QUANTITY):
        shown = _shown(results, "processes", processes.PART, processes.QUANTITY)
        yield f"## Several processes\n\n{_PROCESSES}\n\n{shown}"
    if results.cases(stampede.PART, stampede.RUNS):
        yield f"## Stampede\n\n{_STAMPEDE}\n\n{_rushes(results)}"
    if results.cases(memory.PART, f"hit: {memory.ABOVE}"):
        yield f"## Memory\n\n{_MEMORY}\n\n{_peaks(results)}"


def _shown(results: Results, plot: str, part: str, quantity: str) -> str:
    """A plot, and the table that it draws."""
    return f"{_plot(plot, quantity.capitalize())}\n\n{against(results, part, quantity, OURS)}"


def _plot(name: str, title: str) -> str:
    return f"![{title}]({PLOTS}/{name}.svg)"


def _small(results: Results) -> str:
    titles = {hits.MEDIAN: "median", hits.SLOW: "99 %"}
    columns = [
        times(results, hits.PART, hits.CASE, what, reference=hits.BareGet.name, title=title)
        for what, title in titles.items()
    ]
    return grid(results, columns)


def _rushes(results: Results) -> str:
    part, shown = stampede.PART, []
    for case in results.cases(part, stampede.RUNS):
        columns = [
            plain(part, case, stampede.RUNS, f"{case}: runs", count),
            times(results, part, case, stampede.LAST, reference=stampede.ALONE, title="the last has it"),
            plain(part, case, stampede.ERRORS, "errors", count),
        ]
        shown.append(grid(results, columns))
    return "\n\n".join(shown)


def _peaks(results: Results) -> str:
    what = [f"{step}: {peak}" for step in ("hit", "store") for peak in (memory.ABOVE, memory.WHOLE)]
    every = grid(results, [plain(memory.PART, memory.CASE, quantity, quantity) for quantity in what])
    steps = {step: f"{step}: {memory.ABOVE}" for step in ("hit", "store")}
    cases = [case for case in results.cases(memory.PART, steps["store"]) if case != memory.CASE]
    return f"{every}\n\n" + grid(
        results,
        [plain(memory.PART, case, quantity, f"{case}: {step}") for case in cases for step, quantity in steps.items()],
    )


_HEAD = """# Benchmarks

Is a hit worth it? Against computing again, that is for you to measure; against other memoizers, against the code that
one would write by hand, and against what the machine can do at best, it is measured here. This page is made by
`make bench` from one run, and nothing on it is written by hand but the sentences between the tables.

All figures are ratios within that run. The contestants take turns, a batch of each (50 ms, or one call where that takes
longer), in changing order, so that a machine whose speed drifts slows all of them alike. `2.31 (2.20-2.42)` is the median
of the ratios of all turns, with their quartiles; without quartiles it was measured once, because it takes so long or does
not vary. Calls within a batch find the processor's caches warm. One that comes alone, amid other work, takes several times
as long, whoever makes it.

Measured on a machine of {cores} cores, which the server, the callers and, where there is one, the link shared:
{versions}.
Everybody uses one Valkey on TCP over loopback, with the defaults of the library; where a library's user has to set
something, `bench/peers.py` says what and why. joblib and diskcache keep files on this machine and need no server.

Limits of all this: one machine, one operating system, few cores; values and functions of one trade; a server that does
nothing else. Rivals may be set up to do better than with their defaults. Run it where you mean to use it."""

_AIMS = """Encoding is what a store does to a value before it talks to the server. A store asks for the entry, asks for the lease, and
fills it: three exchanges, and a fourth for the first entry of a function. Where an exchange takes 100 µs, a thirtieth of
gzip's time for daily candles is gone before a byte of them is sent: for `pickle 5`, which only moves bytes, too."""

_LOST = """Every case in which another memoizer, or code by hand, took less than redis_memo. Memoizers for coroutine functions
meet redis_memo's own async side where that is measured. A `~` marks those whose upper quartile is not below 1."""

_VALUES = """A function returns one of these; a miss stores it, a hit brings it back. What each is, `bench/data.py` says:
real daily prices (2,148 rows), a year of minutes of one stock (93,750 rows), Kite's list of 100,000 instruments and its
candles as lists of dicts, 8 MB of random floats, an order book of strings, closing prices of 2,000 stocks side by side,
quotes of 200 symbols, and a small dict. Multiples of redis_memo's figure: more than 1 is slower, or larger; **bold** is
ahead of redis_memo.
† marks a value that comes back as something else.

`pickle 5` and the like are some ten lines around redis-py; `to_dict, gzip -6` is what services do to frames today. `bare GET
and SET` move as many bytes as redis_memo stores, and do nothing with them; `memory copied` and `blake3` copy and digest
the value's memory (of lists: its pickle), once."""

_LINK = """A proxy between caller and server lets 1 Gbit/s pass in each direction, and adds half a millisecond to a round trip: a
server in the next rack. Here fewer bytes are less time. Multiples of redis_memo's hit."""

_KEYS = """What it takes to name a call. `joblib.hash` is what joblib's memoizer uses; `pickle 5, blake3` is no key, since equal
values pickle differently, but the least that code by hand would do; `blake3 of the bytes` is a limit: the digest of bytes that
lie ready. Multiples of redis_memo's."""

_HITS = """`quote("INFY")` with four parameters returns a dict of four items. Multiples of a bare redis-py GET of redis_memo's own
entry, with the median of single calls and with the slow end, each in its turn."""

_MANY = """`quote.map(symbols)` for 500 symbols, all of them stored, and the same 500 calls one after the other; on loopback, and
over a link that takes a millisecond each way. Multiples of redis_memo's `map`."""

_MOSTLY = """The same where ten of the 500 are to be computed, by a function that takes no time, and stored: three round trips for
`map`, and beside it 500 single hits."""

_NEAR = """With `near=True` a hit is answered from the process's own memory. The others here keep everything there: they share
nothing with other processes, hear of no change, never look at a clock and give everybody the same object; so of `a small
dict`, which is the caller's own with redis_memo. Each access of a method makes an object that has its `peek` and
`invalidate`. By `lru_cache` the `async def` is one by hand around it."""

_PROCESSES = """Each process calls again and again; all hit one entry. Multiples of redis_memo's wall time a hit, over all processes
together: more than 1 is less throughput."""

_STAMPEDE = """A key that is missing, a function of 50 ms, and callers (threads, or tasks on a loop) in one moment: how often the function
runs, and when the last caller has its value, in multiples of the function's own time. Those with `lock=True` and the like have a guard that is not their
default."""

_MEMORY = """A frame of 500 MB of random floats is stored by one fresh process and hit by another: the highest its memory rises, in
multiples of the frame. Above the interpreter means less what the process had before, with everything imported; while it
stores, the frame itself is part of the peak. Below, the same above the interpreter of frames that compress a little, and that
do not lie by columns."""
