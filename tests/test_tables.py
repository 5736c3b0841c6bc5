"""Promise P2 for large lists of dicts whose columns have something in common, and what they take."""

from __future__ import annotations

import datetime as dt
import pickle
import random
import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from redis_memo import _codecs_items, _codecs_phrases, _codecs_records, _codecs_tables
from redis_memo._codecs import Payload, dumps, loads
from redis_memo._codecs_stream import Decoder, Encoder
from redis_memo._segments import pack
from redis_memo.errors import UnreadableEntry

from .strategies import same
from .test_values import quick, sealed_and_back, there_and_back

MONTHS = ["26JUL", "26AUG", "26S03", "26SEP"]


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a table of a few rows has in common with one of many, when the limits are low."""
    monkeypatch.setattr(_codecs_records, "MANY", 8)
    monkeypatch.setattr(_codecs_records, "_FEW_ROWS", 8)
    monkeypatch.setattr(_codecs_items, "MANY", 8)
    for name, limit in {"_FEW": 2, "_LOW": 4, "_OFTEN": 2, "_SHORTEST": 1, "_BYTE": 0.01}.items():
        monkeypatch.setattr(_codecs_tables, name, limit)
    for name, limit in {"_OFTEN": 2, "_PAYS": 10, "_SPELT": 0.1}.items():
        monkeypatch.setattr(_codecs_phrases, name, limit)


def in_common(payload: Payload) -> bool:
    return payload.meta[:2] == b"LQ"


TEXTS = [
    "",
    "0",
    "00",
    "007",
    "7",
    "A",
    "AB",
    "ABA",
    "\0",
    "\ud800",
    "٣",
    "²",
    "\ue000",
    "\ue001A",
    "\udeadnowhere",
    "ß" * 9,
]
NUMBERS = [
    0.0,
    -0.0,
    float("nan"),
    struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000007))[0],
    float("inf"),
    1e15,
    1e300,
]
CELLS = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from([*NUMBERS, 2.5, 100.0, 0.05]),
    st.sampled_from([0, 1, 7, -7, 10**15, 2**63, 10**400]),
    st.booleans(),
    st.none(),
    st.sampled_from([dt.date(2026, 7, 9), dt.date(1, 1, 1)]),
    st.text(max_size=3),
)
KINDS = [str, float, int, bool, type(None), dt.date]
NAMES = st.sampled_from(TEXTS) | st.text("AB07-", max_size=4)
STRIKES = st.sampled_from([*NUMBERS, 2.5, 5.0, 50.0, 100.0, 150.0, 0.05, -1.0])


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Columns of few values of one kind or several, and words that are composed of them, with exceptions."""
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    count = draw(st.integers(8, 120))
    names, strikes = draw(st.lists(NAMES, min_size=6, max_size=12)), draw(st.lists(STRIKES, min_size=6, max_size=12))
    columns: dict[str, list[Any]] = {
        "name": [chance.choice(names) for _ in range(count)],
        "strike": [chance.choice(strikes) for _ in range(count)],
    }
    if draw(st.booleans()):
        columns["seldom"] = [chance.choice(["often", "", f"{row}", f"{row}"]) for row in range(count)]
    for number in range(draw(st.integers(0, 3))):
        kinds = draw(st.sets(st.sampled_from(KINDS), min_size=1, max_size=2))
        values = draw(st.lists(CELLS.filter(lambda value: type(value) in kinds), min_size=1, max_size=5))  # noqa: B023
        columns[f"few {number}"] = [chance.choice(values) for _ in range(count)]
    month, literal = draw(st.sampled_from(MONTHS)), draw(st.sampled_from(TEXTS))
    ways = draw(st.lists(st.permutations(["name", "strike", month, literal]), min_size=1, max_size=2))
    unlike = draw(st.dictionaries(st.integers(0, 119), st.sampled_from(TEXTS), max_size=4))
    columns["words"] = []
    for row in range(count):
        parts = [columns[part][row] if part in columns else part for part in chance.choice(ways)]
        columns["words"].append(unlike.get(row, "".join(str(part).removesuffix(".0") for part in parts)))
    columns["id"] = list(range(count)) if draw(st.booleans()) else [chance.getrandbits(66) for _ in range(count)]
    keys = draw(st.permutations(list(columns)))
    return [dict(zip(keys, row, strict=True)) for row in zip(*(columns[key] for key in keys), strict=True)]


@pytest.mark.usefixtures("small_is_large")
@quick(200)
@given(tables(), st.sampled_from(["auto", "small", None]))
def test_every_cell_comes_back(rows: list[dict[str, Any]], compress: Any) -> None:
    """P2: types, zeros and NaNs of every kind, digits of any script, the order of the keys."""
    assert same(rows, sealed_and_back(rows, compress)) is True


PARTS = st.sampled_from([*TEXTS, "LTD", "(I)", "&", "OF", "INDIA", "X" * 40]) | st.text("AB- \0ß", max_size=5)


@st.composite
def companies(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Names of words with runs of blanks and empty ones, and symbols of letters of those."""
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    count = draw(st.integers(8, 120))
    parts = draw(st.lists(PARTS, min_size=2, max_size=10))
    separator, most = draw(st.sampled_from([" ", "-", "  "])), draw(st.integers(1, 6))
    tails = draw(st.lists(st.sampled_from(["", "-BE", "\0", *TEXTS]), min_size=1, max_size=3))
    rows = []
    for number in range(count):
        words = [chance.choice([*parts, str(number)]) for _ in range(chance.randint(0, most))]
        letters = "".join(word[: chance.choice([0, 1, 3, 99])] for word in words)
        symbol = letters + chance.choice(tails) if chance.random() < 0.9 else str(number)
        rows.append({"symbol": symbol, "name": separator.join(words), "listed": chance.choice(["", "NSE"])})
    if draw(st.booleans()):
        for row in chance.sample(rows, count // 2):
            row |= {"name": "often", "symbol": f"often{chance.randrange(5)}"}
    return [dict(sorted(row.items(), reverse=True)) for row in rows] if draw(st.booleans()) else rows


@pytest.mark.usefixtures("small_is_large")
@quick(300)
@given(companies(), st.sampled_from(["auto", None]))
def test_every_name_comes_back(rows: list[dict[str, Any]], compress: Any) -> None:
    """P2: blanks in a row, at the end and alone, NULs, lone surrogates, words longer than what is looked at."""
    assert same(rows, sealed_and_back(rows, compress)) is True


def equities(count: int = 6_000) -> list[dict[str, Any]]:
    """Each has a name of its own of two words, which are those of many, and a symbol of their first letters."""
    chance = random.Random(5)
    words = ["".join(chance.choices("ABCDEFGHIJ", k=6)) for _ in range(300)]
    rows = []
    for _ in range(count):
        first, second = chance.choice(words), chance.choice(words)
        symbol = f"{first[:4]}{second}{chance.choice(['', '-BE'])}"
        rows.append({"tradingsymbol": symbol, "name": f"{first} {second}", "segment": "NSE"})
    return rows


def test_names_are_stored_as_words_and_symbols_as_letters_of_them() -> None:
    """Size of today; a change that makes it larger has to say why."""
    rows = equities(20_000)
    names = [{"name": row["name"], "segment": row["segment"]} for row in rows]
    text = len(zstandard.compress("\0".join(row["name"] for row in rows).encode()))
    assert stored(names) < 0.65 * text
    assert stored(rows) < 0.9 * text, "with the symbols, which are another such text"
    back = there_and_back(rows)
    assert same(rows, back) is True


def test_names_that_are_unlike_are_stored_as_text() -> None:
    """A word for each of them would take more time and no fewer bytes."""
    chance = random.Random(6)
    rows = [{"name": f"{chance.getrandbits(40):x} {chance.getrandbits(40):x}", "n": n} for n in range(5_000)]
    assert not in_common(dumps(rows, allow_pickle=False))


def options(count: int = 6_000) -> list[dict[str, Any]]:
    """Options in no order, and a fifth of stocks with names of their own."""
    chance = random.Random(7)
    found: list[dict[str, Any]] = []
    for number in range(count):
        lone = number % 5 == 0
        name = f"{chance.getrandbits(40):X} LTD" if lone else f"STOCK{chance.randrange(60)}"
        month, strike, kind = chance.choice(MONTHS), 50.0 * chance.randrange(2, 90), chance.choice(["CE", "PE"])
        found.append(
            {
                "tradingsymbol": f"{name[:6]}-BE" if lone else f"{name}{month}{strike:.0f}{kind}",
                "name": name,
                "last_price": 0.0,
                "expiry": "" if lone else dt.date(2026, 7 + MONTHS.index(month), 9),
                "strike": 0.0 if lone else strike,
                "lot_size": 1 if lone else len(name) * 25,
                "instrument_type": "EQ" if lone else kind,
                "segment": "NSE" if lone else "NFO-OPT",
                "exchange": "NSE" if lone else "NFO",
            }
        )
    return found


def test_instruments_come_back_and_are_stored_as_what_they_have_in_common() -> None:
    rows = options()
    payload = dumps(rows, allow_pickle=False)
    assert in_common(payload)
    back = there_and_back(rows)
    assert same(rows, back) is True
    back[0]["name"] = "changed"
    assert same(rows[1:], back[1:]) is True, "each row is its own"


def stored(rows: list[dict[str, Any]]) -> int:
    payload = dumps(rows, allow_pickle=False)
    segments = [
        segment
        for data, kind in zip((payload.meta, *payload.buffers), ("", *payload.kinds), strict=True)
        for segment in pack([(data, kind)], "auto")
    ]
    return sum(len(segment.data) for segment in segments)


def test_a_word_that_other_columns_spell_takes_next_to_nothing() -> None:
    """A trading symbol beside its name, expiry, strike and type."""
    rows = [row for row in options() if row["exchange"] == "NFO"]
    assert stored(rows) < 1.02 * stored([{key: row[key] for key in row if key != "tradingsymbol"} for row in rows])


def test_what_columns_say_twice_is_stored_once() -> None:
    """Size of today; a change that makes it larger has to say why."""
    rows = options(20_000)
    assert stored(rows) < 0.37 * len(zstandard.compress(pickle.dumps(rows)))


@pytest.mark.parametrize("wide", [3, 40, 90])
def test_tables_of_any_width(wide: int) -> None:
    """Rows are made in another way from some number of columns on."""
    rows = [
        {f"column {number}": f"{number} {(row * number) % 7}" for number in range(wide)} | {"row": row}
        for row in range(4_100)
    ]
    assert in_common(dumps(rows, allow_pickle=False))
    assert same(rows, there_and_back(rows)) is True


def test_what_is_rare_in_a_column_comes_back_in_a_narrow_table_too() -> None:
    """P2: a third of the names are those of one row, and a table of three columns is made in another way."""
    chance = random.Random(3)
    rows = []
    for number in range(6_000):
        name = f"U{number}X" if number % 3 == 0 else f"S{chance.randrange(300)}"
        strike = 50.0 * chance.randrange(1, 400)
        symbol = f"{name}-{strike:.0f}CE" if number % 3 else f"{number}"
        rows.append({"tradingsymbol": symbol, "name": name, "strike": strike})
    assert in_common(dumps(rows, allow_pickle=False))
    assert same(rows, there_and_back(rows)) is True


def test_columns_with_nothing_in_common_are_written_as_before() -> None:
    rows = [{"time": number * 60, "close": number / 7, "id": f"{number * 7919 % 100_003:x}"} for number in range(5_000)]
    assert not in_common(dumps(rows, allow_pickle=False))


def test_a_list_that_holds_a_row_twice_or_itself_is_still_kept() -> None:
    rows = options(5_000)
    rows[7] = rows[8]
    back = there_and_back(rows)
    assert same(rows, back) is True
    assert back[7] is back[8]


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("rows", [options(40), equities(40)], ids=["options", "equities"])
@quick(150)
@given(st.data())
def test_a_damaged_table_is_unreadable_or_a_value_and_nothing_else(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    """P5, P6: whoever has no secret can plant any bytes behind a right checksum."""
    payload = dumps(rows, allow_pickle=False)
    assert in_common(payload)
    meta = bytearray(payload.meta)
    for at in data.draw(st.lists(st.integers(0, len(meta) - 1), min_size=1, max_size=4)):
        meta[at] = data.draw(st.integers(0, 255))
    with suppress(UnreadableEntry):
        loads(bytes(meta), payload.buffers, trusted=False)


def planted(*columns: tuple[list[Any], list[Any]], raw: int = 0) -> Payload:
    """A table of 100,000 rows, one column composed of all others, each of which has few values."""
    rows = 100_000
    found = _codecs_tables
    np = found.np
    zeros = np.zeros(rows, "u1")
    groups = [found.Group(zeros, {place: values}) for place, (values, _) in enumerate(columns, 1)]
    groups.append(found.Group(zeros, {len(columns) + 1: [1]}))
    template = found.Template((*(before for _, before in columns), ""), (True,) * len(columns))
    words = found.Composed(list(range(1, len(columns) + 1)), [template], zeros, [""] * raw)

    class Planted:
        @staticmethod
        def plan(_: object) -> Any:
            return found.Plan(groups, {0: words}, {}, {})

        put_texts = staticmethod(found.put_texts)
        put_plan = staticmethod(found.put_plan)
        put_composed = staticmethod(found.put_composed)

    kept, _codecs_records._tables = _codecs_records._tables, lambda: Planted
    try:
        keys = ["words", *map(str, range(len(columns)))]
        return dumps([dict.fromkeys(keys, "") for _ in range(rows)], allow_pickle=False)
    finally:
        _codecs_records._tables = kept


def test_what_is_planted_is_what_would_be_read() -> None:
    """The tests below refuse what they do for its size."""
    payload = planted((["text"], "a"), (["more"], "b"))
    assert loads(payload.meta, payload.buffers, trusted=False)[5] == {"words": "atextbmore", "0": "text", "1": "more"}


@pytest.mark.parametrize(
    "columns",
    [
        [(["x" * 100_000], "")],
        [(["x"], "y" * 100_000)],
        [(["x" * 200], ""), (["x" * 200], "")],
        [(["x"], "")] * 4,
    ],
    ids=["a long text", "a long literal", "much together", "many columns"],
)
def test_few_bytes_do_not_become_much_text(columns: list[Any]) -> None:
    """P6: 100 KB of text in each of 100,000 rows would be 10 GB, of an entry of a few hundred bytes."""
    payload = planted(*columns)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableEntry):
            loads(payload.meta, payload.buffers, trusted=False)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_rows_that_are_told_apart_have_to_be_there() -> None:
    payload = planted((["text"], ""), raw=1)
    with pytest.raises(UnreadableEntry, match="does not add up"):
        loads(payload.meta, payload.buffers, trusted=False)


def test_one_number_stands_for_few_columns_alone() -> None:
    """P6: otherwise a byte for each row would become as many cells as there are keys."""
    found = _codecs_tables
    values = {place: [1] for place in range(found._MEMBERS + 1)}
    numbers = found.np.zeros(5_000, "u1")
    enc = Encoder(allow_pickle=False)
    found.put_plan(enc, found.Plan([found.Group(numbers, values)], {}, {}, {}))
    dec = Decoder(bytes(enc.out), enc.buffers, trusted=False)
    with pytest.raises(UnreadableEntry, match="does not add up"):
        found.get_plan(dec, 5_000, len(values), {})


def planted_names(phrases: Any, spelled: Any = None) -> Payload:
    """A table of 100,000 rows with a column of names, and one of symbols."""
    rows = 100_000
    found = _codecs_tables

    class Planted:
        @staticmethod
        def plan(_: object) -> Any:
            if spelled is None:
                return found.Plan([], {}, {1: phrases}, {})
            zeros = found.np.zeros(rows, "u1")
            words = found.Composed([], [], zeros, [])
            return found.Plan([found.Group(zeros, {2: [0]})], {0: words}, {1: phrases}, {0: spelled})

        put_texts = staticmethod(found.put_texts)
        put_plan = staticmethod(found.put_plan)
        put_composed = staticmethod(found.put_composed)

    kept, _codecs_records._tables = _codecs_records._tables, lambda: Planted
    try:
        return dumps([{"symbol": "", "name": ""} for _ in range(rows)], allow_pickle=False)
    finally:
        _codecs_records._tables = kept


@pytest.mark.parametrize(
    ("words", "tail", "right"),
    [
        (["A", "B"], "-BE", True),
        (["x" * 100_000, "B"], "", False),
        (["A", "B", *["x" * 100_000] * 1_000], "", False),
        (["A", "B"], "x" * 100_000, False),
    ],
    ids=["what would be read", "a long word", "long words that nothing has", "a long tail"],
)
def test_few_bytes_do_not_become_long_names(words: list[str], tail: str, right: bool) -> None:  # noqa: FBT001
    """P6: as with composed text."""
    found = _codecs_phrases
    numbers = found.np.full(100_000, 2, "u1")
    phrases = found.Phrases(words, " ", [(numbers, []), (numbers + 1, [])])
    spelled = found.Spelled(1, [numbers * 0 + 255, numbers * 0], [tail] * 100_000)
    payload = planted_names(phrases, spelled)
    if right:
        rows = loads(payload.meta, payload.buffers, trusted=False)
        assert rows[5] == {"symbol": "A-BE", "name": "A B"}
        return
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableEntry):
            loads(payload.meta, payload.buffers, trusted=False)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()
