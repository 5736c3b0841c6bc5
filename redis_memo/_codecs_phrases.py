"""Columns of names: words of which many occur in many names, and symbols that abbreviate the names beside them.

A name is some words and what is left after them; its words are numbers. A symbol is the first letters of some words of
a name, one word after the other, and what follows them: ADANIPORTS is all of the first and four of the second word of
ADANI PORT & SEZ, and an S.

::

    phrases    "w" words, separator (1), slots (1); for each slot: width (1), numbers, rare words
    number     0 the next of the rare words, 1 no word, from 2 on one of the words
    spelled    "/" place of the names, slots (1); for each slot: letters of its word, a byte for each row; what follows
    letters    255: all of them
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from operator import add, getitem
from os.path import commonprefix
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from redis_memo._codecs_items import get_items, put_items
from redis_memo._zstd import compress, compress_apart
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = [
    "LONGEST",
    "SPELLED",
    "WIDTHS",
    "Names",
    "Phrases",
    "Spelled",
    "distinct_of",
    "get_spelled",
    "get_texts",
    "lengths_of",
    "named",
    "put_texts",
]

Parts: TypeAlias = "list[tuple[list[str], Any]]"
Names: TypeAlias = "dict[int, tuple[Parts, Any]]"  # by the place of their column, and in which rows they are

_PHRASES: Final = ord("w")
SPELLED: Final = ord("/")
WIDTHS: Final = {1: "u1", 2: "<u2", 4: "<u4"}
LONGEST: Final = 256  # characters of a column's texts, on an average
_SEPARATORS: Final = " -_.:/|,"
_SEPARATOR: Final = re.compile(f"[{re.escape(_SEPARATORS)}]")
_SLOTS: Final = 4
_OFTEN: Final = 4  # names that make a word worth a number
_SAMPLE: Final = 256
_NO_TEXT: Final = (None, "", "")
_WORDS: Final = 128
_SEVERAL: Final = 4096
_PAIRED: Final = 6  # columns that are compared with each other
_SPELT: Final = 0.5  # of a column, that makes names worth a trial
_PAYS: Final = 0.6  # it takes more time than a text does: a hit of what gains less would be slower than pickle's
_TABLE: Final = 1 << 20  # numbers up to here are looked up, and not sorted
_LETTERS: Final = 32  # of a word that are looked at, and of a symbol
_WHOLE: Final = 255
_RARE, _NONE, _FIRST = range(3)


class Phrases(NamedTuple):
    """A column of names.

    Attributes:
        words: From number 2 on.
        separator: What is between two words.
        slots: For each word of a name: its number in each row, and the rare words.
    """

    words: list[str]
    separator: str
    slots: list[tuple[Any, list[str]]]

    def put(self, enc: Encoder) -> None:
        """Write them."""
        enc.out.append(_PHRASES)
        put_items(enc, self.words)
        enc.text(self.separator)
        enc.out.append(len(self.slots))
        for numbers, rare in self.slots:
            enc.out.append(numbers.itemsize)
            enc.blob(memoryview(numbers).cast("B"), "" if numbers.itemsize == 1 else numbers.dtype.str[1:])
            put_items(enc, rare)

    def parts(self) -> Parts:
        """For each word of a name: all of them, and which one each row has."""
        found = []
        for numbers, rare in self.slots:
            texts = ["", "", *self.words, *rare]
            which = numbers.astype(np.int64)
            which[numbers == _RARE] = np.arange(_FIRST + len(self.words), len(texts))
            found.append((texts, which))
        return found

    def cost(self) -> int:
        """Bytes that they take, about."""
        planes = [
            numbers.view("u1")[place :: numbers.itemsize].tobytes()
            for numbers, _ in self.slots
            for place in range(numbers.itemsize)
        ]
        texts = itertools.chain(self.words, *(rare for _, rare in self.slots))
        return _text_cost(texts) + sum(map(len, compress_apart(planes, 1)))


class Spelled(NamedTuple):
    """A column of symbols that abbreviate names.

    Attributes:
        place: Of the names.
        letters: How many of each word, for each word of a name.
        tails: What follows.
    """

    place: int
    letters: list[Any]
    tails: list[str]

    def put(self, enc: Encoder) -> None:
        """Write them."""
        enc.out.append(SPELLED)
        enc.size(self.place)
        enc.out.append(len(self.letters))
        for letters in self.letters:
            enc.blob(memoryview(letters).cast("B"))
        put_items(enc, self.tails)

    def cost(self) -> int:
        """Bytes that they take, about."""
        return len(compress(np.concatenate(self.letters).tobytes(), 1)) + _text_cost(self.tails)


def lengths_of(texts: Sequence[str]) -> Any:
    """How many characters each has."""
    return np.fromiter(map(len, texts), np.int64, len(texts))


def _taken(texts: Sequence[str], which: Any) -> list[str]:
    cells: list[str] = np.fromiter(texts, object, len(texts))[which].tolist()
    return cells


def _followed(cells: list[str], texts: Sequence[str], which: Any, there: Any) -> list[str]:
    """Texts and what follows them, where that is there."""
    rows = np.flatnonzero(there)
    if 2 * len(rows) > len(cells):
        return list(map(add, cells, _taken(texts, which)))
    for row, text in zip(rows.tolist(), _taken(texts, which[rows]), strict=True):
        cells[row] += text
    return cells


def _text_cost(texts: Iterable[str]) -> int:
    return len(compress("\0".join(texts).encode("utf-8", "surrogatepass"), 3))


def _phrases(texts: Sequence[str]) -> Phrases:
    """Names as words."""
    separator, columns = _parted(texts)
    often = Counter(itertools.chain.from_iterable(columns))
    del often[None]
    words = sorted((word for word, times in often.items() if word and times >= _OFTEN), key=often.__getitem__)[::-1]
    numbered: dict[Any, int] = {None: _NONE} | dict(zip(words, itertools.count(_FIRST)))
    most = _FIRST + len(words)
    kind = "u1" if most <= 1 << 8 else "<u2" if most <= 1 << 16 else "<u4"
    slots = []
    for column in columns:
        numbers = np.fromiter(map(numbered.get, column, itertools.repeat(_RARE)), kind, len(texts))
        slots.append((numbers, list(map(column.__getitem__, np.flatnonzero(numbers == _RARE).tolist()))))
    return Phrases(words, separator, slots)


def _parted(texts: Sequence[str]) -> tuple[str, list[list[Any]]]:
    """What is between two words, and the first word of each text, the second one ...; None where there is none."""
    few = "".join(texts[:: max(1, len(texts) // _SAMPLE)])
    separator = max(_SEPARATORS, key=few.count)
    columns: list[list[Any]] = []
    rest: list[Any] = list(texts)
    while len(columns) < _SLOTS - 1 and rest.count(None) < len(rest):
        column: list[Any] = []
        after: list[Any] = []
        for text in rest:  # with all texts split at once, the many lists of words would be collected over and over
            word, more, left = text.partition(separator) if text is not None else _NO_TEXT
            column.append(word)
            after.append(left if more else None)
        columns.append(column)
        rest = after
    if rest.count(None) < len(rest):
        columns.append(rest)
    return separator, columns


def _repeats(texts: Sequence[str]) -> bool:
    """Whether a good part of some texts is words that are in several."""
    few = texts[:: max(1, len(texts) // _SEVERAL)]
    _, columns = _parted(few)
    often = Counter(itertools.chain.from_iterable(columns))
    del often[None]
    return 4 * sum(len(word) * times for word, times in often.items() if times > 1) > sum(map(len, few))


def put_texts(enc: Encoder, names: dict[int, Phrases], place: int, texts: Sequence[Any]) -> None:
    """Write a column, or what is rare in it, that may be one of names."""
    if place in names:
        names[place].put(enc)
    else:
        put_items(enc, texts)


def get_texts(dec: Decoder, names: Names, place: int, rows: Any) -> list[Any]:
    """Read what :func:`put_texts` wrote.

    Args:
        dec: Where it is.
        names: Where names are kept, for what they spell.
        place: Of the column.
        rows: In which ones there are texts; or how many there are where that is all.
    """
    if dec.data[dec.pos] != _PHRASES:
        return get_items(dec)
    found = _get_phrases(dec)
    length = len(found.slots[0][0])
    if length != (rows if isinstance(rows, int) else len(rows)):
        raise UnreadableEntry("a column of names does not add up")
    parts = found.parts()
    names[place] = (parts, np.arange(length) if isinstance(rows, int) else rows)
    # How long it will be is known before any of it is made: few bytes can stand for much text.
    total = sum(int(lengths_of(texts)[which].sum()) for texts, which in parts)
    if max(total, *(sum(map(len, texts)) for texts, _ in parts)) > LONGEST * length:
        raise UnreadableEntry("a column of names is longer than it can be")
    (texts, which), *others = parts
    cells = _taken(texts, which)
    for texts, which in others:
        cells = _followed(cells, ["", "", *map(found.separator.__add__, texts[_FIRST:])], which, which != _NONE)
    return cells


def _get_phrases(dec: Decoder) -> Phrases:
    """Read what :meth:`Phrases.put` wrote."""
    dec.byte()
    words, separator, slots = get_items(dec), dec.text(), []
    for _ in range(dec.count()):
        numbers = np.frombuffer(dec.blob() if (width := dec.byte()) in WIDTHS else b"", WIDTHS.get(width, "u1"))
        slots.append((numbers, get_items(dec)))
    lengths = {len(numbers) for numbers, _ in slots}
    kinds = set(map(type, itertools.chain(words, *(rare for _, rare in slots))))
    if not 0 < len(slots) <= _SLOTS or len(lengths) != 1 or len(separator) != 1 or not kinds <= {str}:
        raise UnreadableEntry("a column of names does not add up")
    return Phrases(words, separator, slots)


def named(
    texts: dict[int, tuple[Any, list[str]]], symbols: Collection[int], names: Collection[int]
) -> tuple[dict[int, Phrases], dict[int, Spelled]]:
    """Find columns of names, and columns that are spelled by them.

    Args:
        texts: Columns by their places: in which rows there is a text, and these.
        symbols: The columns that may be spelled.
        names: The columns that may be names.
    """
    short = [place for place, (_, mine) in texts.items() if sum(map(len, mine)) <= LONGEST * len(mine)]
    shares = []
    longest = sorted(short, key=lambda place: sum(map(len, texts[place][1])))[-_PAIRED:]
    for symbol, name in itertools.permutations(longest, 2):
        if symbol in symbols and name in names and (part := _share(*texts[symbol], *texts[name])) > _SPELT:
            shares.append((part, symbol, name))
    found: dict[int, Phrases] = {}
    spelled: dict[int, Spelled] = {}
    for _, symbol, name in sorted(shares, reverse=True):
        if found.keys().isdisjoint((symbol, name)) and spelled.keys().isdisjoint((symbol, name)):
            words = _phrases(texts[name][1])
            letters = _spelled(name, texts[symbol][1], words, _beside(texts[symbol][0], texts[name][0]))
            before = _text_cost(texts[name][1]) + _text_cost(texts[symbol][1])
            if words.cost() + letters.cost() < _PAYS * before:
                found[name], spelled[symbol] = words, letters
    for name in short:
        if name in names and name not in spelled and name not in found and _repeats(texts[name][1]):
            words = _phrases(texts[name][1])
            if words.cost() < _PAYS * _text_cost(texts[name][1]):
                found[name] = words
    return found, spelled


def _share(rows: Any, symbols: Sequence[str], there: Any, names: Sequence[str]) -> float:
    """The part of a column's text that names seem to spell."""
    few = slice(None, None, max(1, len(symbols) // _WORDS))
    spelt = 0
    for symbol, at in zip(symbols[few], _beside(rows[few], there).tolist(), strict=True):
        done = 0
        for word in re.split(_SEPARATOR, names[at] if at >= 0 else "", maxsplit=_SLOTS - 1):
            done += len(commonprefix((word, symbol[done:])))  # noqa: RUF071 - which is what is wanted
        spelt += done
    return spelt / max(1, sum(map(len, symbols[few])))


def _spelled(place: int, symbols: Sequence[str], names: Phrases, rows: Any) -> Spelled:
    """Symbols as letters of names.

    Args:
        place: Of the names, among the columns.
        symbols: What may abbreviate them.
        names: The names.
        rows: Which name stands beside each symbol; -1 where none does.
    """
    count = len(symbols)
    written = _points(symbols)
    last = written.shape[1] - 1
    at = np.zeros(count, np.int64)
    letters = []
    every = np.arange(count)[:, None]
    for texts, every_name in names.parts():
        which = np.where(rows < 0, _NONE, every_name[rows])
        points = _points(texts)
        here = points[which]
        ahead = np.minimum(at[:, None] + np.arange(points.shape[1]), last)
        equal = np.logical_and.accumulate((written[every, ahead] == here) & (here != 0), axis=1)
        some = equal.sum(axis=1)
        whole = (some == lengths_of(texts)[which]) & (some > 0)
        letters.append(np.where(whole, _WHOLE, some).astype("u1"))
        at += some
    tails: list[Any] = list(map(getitem, symbols, map(slice, at.tolist(), itertools.repeat(None))))
    return Spelled(place, letters, tails)


def _points(texts: Sequence[str]) -> Any:
    """The first characters of texts as numbers, and at least one zero after them."""
    width = min(_LETTERS, max(map(len, texts)))
    points = np.array(texts, f"<U{width + 1}").view("<u4").reshape(len(texts), width + 1)
    points[:, width] = 0
    return points


def get_spelled(dec: Decoder, names: Names, rows: Any) -> Iterable[str]:
    """Read what :meth:`Spelled.put` wrote.

    Args:
        dec: Where it is.
        names: What has been read of names.
        rows: Those of the symbols.
    """
    dec.byte()
    parts, there = names[dec.size()]
    at = _beside(rows, there)
    cells = [""] * len(rows)
    letters = [np.frombuffer(dec.blob(), "u1") for _ in range(dec.count())]
    for some, (texts, which) in zip(letters, parts, strict=True):
        used = np.where(at < 0, 0, some)
        cells = _followed(cells, *_first(texts, which[at], used), used > 0)
    tails = get_items(dec)
    if set(map(type, tails)) - {str} or len(tails) != len(rows) or sum(map(len, tails)) > LONGEST * len(rows):
        raise UnreadableEntry("a column of symbols does not add up")
    return map(add, cells, tails)


def _beside(rows: Any, there: Any) -> Any:
    """At which place among some rows each of others is; -1 where it is not."""
    if not len(there):
        return np.full(len(rows), -1)
    at = np.minimum(np.searchsorted(there, rows), len(there) - 1)
    return np.where(there[at] == rows, at, -1)


def _first(texts: Sequence[str], which: Any, letters: Any) -> tuple[list[str], Any]:
    """The first letters of texts, and which of these each row has, by its text and how many they are."""
    base = int(letters[letters < _WHOLE].max(initial=0)) + 2
    keys = np.where(letters > 0, which * base + np.minimum(letters, base - 1), 0)
    distinct, places = distinct_of(keys, len(texts) * base)
    pairs = zip(*(part.tolist() for part in np.divmod(distinct, base)), strict=True)
    made = [texts[text] if some == base - 1 else texts[text][:some] for text, some in pairs]
    return made, places


def distinct_of(numbers: Any, size: int) -> tuple[Any, Any]:
    """The distinct ones among numbers below a size, and for each number its place among those."""
    if size > _TABLE:
        distinct, places = np.unique(numbers, return_inverse=True)
        return distinct, places
    there = np.zeros(size, bool)
    there[numbers] = True
    distinct = np.flatnonzero(there)
    places = np.zeros(size, np.int32)
    places[distinct] = np.arange(len(distinct))
    return distinct, places[numbers]
