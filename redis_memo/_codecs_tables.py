"""Large lists of dicts whose columns say the same thing more than once, as lists of instruments do.

A column of few values is a number for each row. Columns of few values share one number where that takes fewer bytes: an
exchange follows from the segment, a lot almost from the name. A trading symbol is a name, an expiry, a strike and a
type in one word: a column of words that contain the text of other columns is what stands around that text, which is
one of a few templates, and so one of the columns that share a number. For names and what abbreviates them see
`_codecs_phrases`.

::

    table     "Q" rows, keys, composed columns' places, groups, plain columns in the order of the keys, compositions
    group     width (1), numbers, how many members, rare (1); where that is 1, what the rows with the number 0 hold
    member    its place, its values; places from the number of keys on are templates of the composed columns
    composed  for each column whose text is in it: its place, a byte for each template whether it is there, the
              literals before it; the literals at the end; the rows of template 0 as they are, or spelled by names
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from datetime import date
from operator import add
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from redis_memo._codecs_items import get_items, put_items
from redis_memo._codecs_phrases import (
    LONGEST,
    SPELLED,
    WIDTHS,
    distinct_of,
    get_spelled,
    get_texts,
    lengths_of,
    named,
    put_texts,
)
from redis_memo._zstd import compress
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis_memo._codecs_phrases import Names, Phrases, Spelled
    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = ["Composed", "Group", "Plan", "get_composed", "get_plan", "get_texts", "plan", "put_composed", "put_plan"]

_EXACT: Final = frozenset((type(None), int, str, date))  # equal ones are of one type and look the same
_VALUES: Final = _EXACT | {bool, float}  # nobody can change them: rows may share them
_SAMPLE: Final = 1024
_WORDS: Final = 128
_FEW: Final = 16
_LOW: Final = 256  # values of a column that may share its number with others
_OFTEN: Final = 4  # rows that make a value worth a number
_GROUPS: Final = 4  # that a column is tried with
_BYTE: Final = 100  # rows for which one column less is worth a byte
_PAIRS: Final = 1 << 18
_SHARED: Final = 4096  # what a shared number can stand for
_MEMBERS: Final = 16  # columns that one number can stand for: so few bytes do not become many objects
_TEMPLATES: Final = 1024
_REFERENCES: Final = 3
_SHORTEST: Final = 2  # characters; a shorter text is found anywhere
_DIGITS: Final = 1e15  # what float and int write alike
_MARKS: Final = "\ue000\ue001\ue002"  # of a text in a template, while it is sought
_NOWHERE: Final = "\udeadnowhere"


class Group(NamedTuple):
    """Columns that share a number.

    Attributes:
        numbers: One for each row.
        members: For each column (by its place) what the numbers stand for.
        rare: What the rows with the number 0 hold instead; None where there is no such thing.
        cost: Bytes that it takes, about.
    """

    numbers: Any
    members: dict[int, list[Any]]
    rare: list[Any] | None = None
    cost: float = 0

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return len(next(iter(self.members.values())))


class Template(NamedTuple):
    """What stands around the text of other columns: before, between and after; and which of them are there."""

    literals: tuple[str, ...]
    there: tuple[bool, ...]


class Composed(NamedTuple):
    """A column of words that contain the text of other columns.

    Attributes:
        references: The other columns' places.
        templates: From number 1 on.
        numbers: Each row's template; 0 where it has none.
        raw: The rows that have none.
    """

    references: list[int]
    templates: list[Template]
    numbers: Any
    raw: list[str]


class Plan(NamedTuple):
    """What the columns of a table have in common; those that it does not name are written as they are.

    Attributes:
        groups: Columns of few values.
        composed: Columns of words.
        names: Columns of names, or what is rare in them.
        spelled: What is raw in columns of words.
    """

    groups: list[Group]
    composed: dict[int, Composed]
    names: dict[int, Phrases]
    spelled: dict[int, Spelled]


def plan(columns: Sequence[list[Any]]) -> Plan | None:
    """Find out what columns have in common; None where that is nothing."""
    count = len(columns)
    coded = {place: found for place, column in enumerate(columns) if (found := _coded(place, column)) is not None}
    texts = {place: list(map(_text, group.members[place])) for place, group in coded.items() if group.size > _FEW}
    composed: dict[int, Composed] = {}
    for place, column in enumerate(columns):
        if texts and place not in coded and type(column[0]) is str and set(map(type, column)) == {str}:
            words = _composed(column, coded, texts)
            if words is not None:
                composed[place] = words
    referred = set(itertools.chain.from_iterable(words.references for words in composed.values()))
    for place, group in list(coded.items()):
        if group.size > _LOW and place not in referred and type(group.members[place][0]) is float:
            del coded[place]  # numbers on a grid are smaller by themselves
    apart = _texts(columns, coded, composed)
    names, spelled = named(apart, apart.keys() - coded.keys(), apart.keys() - composed.keys())
    for place in spelled.keys() - composed.keys():
        composed[place] = Composed([], [], np.zeros(len(columns[place]), "u1"), columns[place])
    templates = []
    for place, words in enumerate(composed.values(), count):
        numbers = list(range(len(words.templates) + 1))
        templates.append(Group(_narrow(words.numbers, len(numbers)), {place: numbers}))
    groups = _grouped([*templates, *coded.values()], count)  # much follows from a template
    shares = any(len(group.members) > 1 for group in groups)
    return Plan(groups, composed, names, spelled) if composed or shares or names else None


def _texts(
    columns: Sequence[list[Any]], coded: dict[int, Group], composed: dict[int, Composed]
) -> dict[int, tuple[Any, list[str]]]:
    """Columns of text that are not coded, or the part of them that is not; and in which rows."""
    found: dict[int, tuple[Any, list[str]]] = {}
    for place, column in enumerate(columns):
        if place in composed:
            found[place] = (np.flatnonzero(composed[place].numbers == 0), composed[place].raw)
        elif place in coded:
            found[place] = (np.flatnonzero(coded[place].numbers == 0), coded[place].rare or [])
        elif set(map(type, column)) == {str} and not all(map(str.isdecimal, column[:_FEW])):
            found[place] = (np.arange(len(column)), column)
    return {place: (rows, texts) for place, (rows, texts) in found.items() if _FEW * len(texts) > len(columns[place])}


def _coded(place: int, column: list[Any]) -> Group | None:
    """A column as numbers of its values, if those are few; or if all but a part of them are, with that part apart."""
    count = len(column)
    few = column[:: max(1, count // _SAMPLE)]
    kinds = set(map(type, few))
    if not (kinds <= _EXACT or kinds in ({bool}, {float})) or 8 * len(set(few)) > 7 * len(few):
        return None
    if kinds == {int} and len(set(few)) > _FEW:
        return None
    kinds = set(map(type, column))
    if kinds == {float}:
        bits, numbers = np.unique(np.array(column).view("<i8"), return_inverse=True)  # zeros and NaNs of every kind
        found = Group(_narrow(numbers, len(bits)), {place: bits.view("<f8").tolist()})
        return found if _FEW * len(bits) <= count else None
    if not (kinds <= _EXACT or kinds == {bool}):
        return None
    often = Counter(column)
    values = list(often)
    numbered = dict(zip(values, itertools.count()))
    rare: list[Any] | None = None
    if len(often) > _LOW:
        if kinds == {str}:
            seldom = {value: 0 for value, times in often.items() if times < _OFTEN}
            rare = [value for value in column if value in seldom]
            if 8 * len(rare) > 7 * count:
                return None
            if _FEW * len(rare) < count:
                rare = None
            else:
                values = ["", *(value for value, times in often.items() if times >= _OFTEN)]
                numbered = seldom | dict(zip(values[1:], itertools.count(1)))
        if rare is None and 2 * len(often) > count:
            return None
    numbers = np.fromiter(map(numbered.__getitem__, column), "<u4", count)
    return Group(_narrow(numbers, len(values)), {place: values}, rare)


def _narrow(numbers: Any, size: int) -> Any:
    return numbers.astype("<u1" if size <= 1 << 8 else "<u2" if size <= 1 << 16 else "<u4", copy=False)


def _text(value: Any) -> str:
    """What a value looks like as a part of a word; empty where that is nothing."""
    kind = type(value)
    if kind is float:
        return str(value).removesuffix(".0") if abs(value) < _DIGITS else ""
    if kind is int:
        return str(value) if abs(value) < _DIGITS else ""
    return value if kind is str else ""


def _composed(column: list[str], coded: dict[int, Group], texts: dict[int, list[str]]) -> Composed | None:
    """A column of words, if most of them contain the text of other columns in a few ways."""
    count = len(column)
    sought = {place: [text if len(text) >= _SHORTEST else _NOWHERE for text in mine] for place, mine in texts.items()}
    rows = slice(None, None, max(1, count // _WORDS))
    few = column[rows]
    found = {place: _marked(few, coded[place].numbers[rows], mine, "") for place, mine in sought.items()}
    chosen: list[int] = []
    # First those that make up most of the words: a short text may be there by chance.
    for place in sorted(found, key=lambda place: sum(map(len, found[place])))[:_REFERENCES]:
        mark = _MARKS[len(chosen)]
        marked = _marked(few, coded[place].numbers[rows], sought[place], mark)
        if 4 * sum(mark in word for word in marked) > len(marked):
            few = marked
            chosen.append(place)
    written = "".join(column) if chosen else ""
    if not chosen or any(mark in written for mark in (*_MARKS, _NOWHERE)):
        return None
    words: list[str] = column
    for place, mark in zip(chosen, _MARKS, strict=False):
        words = _marked(words, coded[place].numbers, sought[place], mark)
    ways = [way for way, times in Counter(words).most_common(_TEMPLATES) if times >= _OFTEN]
    ways = [way for way in ways if any(mark in way for mark in _MARKS)]
    if not ways:
        return None
    marks = "".join(re.findall(f"[{_MARKS}]", max(ways, key=lambda way: sum(mark in way for mark in _MARKS))))
    marks += "".join(mark for mark in _MARKS[: len(chosen)] if mark not in marks)
    numbered: dict[str, int] = {}
    templates = []
    for way in ways:
        template = _template(way, marks)
        if template is not None:
            templates.append(template)
            numbered[way] = len(templates)
    numbers = np.fromiter(map(numbered.get, words, itertools.repeat(0)), "<u4", count)
    raw = list(map(column.__getitem__, np.flatnonzero(numbers == 0).tolist()))
    if 8 * len(raw) > 7 * count:
        return None
    references = [chosen[_MARKS.index(mark)] for mark in marks]
    composed = Composed(references, templates, numbers, raw)
    try:
        same = list(compose(composed, [(texts[place], coded[place].numbers) for place in references])) == column
    except UnreadableEntry:
        return None
    return composed if same else None


def _marked(words: Iterable[str], numbers: Any, texts: list[str], mark: str) -> list[str]:
    """The words with a mark for the text of another column, where that is first in them."""
    sought = map(texts.__getitem__, numbers.tolist())
    return list(map(str.replace, words, sought, itertools.repeat(mark), itertools.repeat(1)))


def _template(way: str, marks: str) -> Template | None:
    """A word with marks as a template, if it has them in this order."""
    literals, there = [], []
    for mark in marks:
        literal, found, after = way.partition(mark)
        there.append(bool(found))
        literals.append(literal if found else "")
        way = after if found else way
    literals.append(way)
    if any(mark in literal for mark in _MARKS for literal in literals):
        return None
    return Template(tuple(literals), tuple(there))


def compose(found: Composed, used: list[tuple[list[str], Any]]) -> Iterable[str]:
    """The words of a composed column, of the texts that it refers to and which of them each row has."""
    templates = [Template(("",) * (len(used) + 1), (False,) * len(used)), *found.templates]
    # How long it will be is known before any of it is made: few bytes can stand for much text.
    length = 0
    parts = []
    for number, (texts, which) in enumerate(used):
        # A word is made of few distinct parts, each of the text of one column and what follows it.
        ways: dict[tuple[str, bool, str], int] = {}
        for literals, there in templates:
            ways.setdefault(_way(number, literals, there), len(ways))
        mine = np.array([ways[_way(number, *template)] for template in templates])[found.numbers]
        present = np.array([way[1] for way in ways])[mine]
        ahead, behind = [way[0] for way in ways], [way[2] for way in ways]
        length += sum(int(lengths_of(part)[mine].sum()) for part in (ahead, behind))
        length += int((lengths_of(texts)[which] * present).sum())
        parts.append((list(ways), texts, mine * len(texts) + np.where(present, which, 0)))
    if length > LONGEST * len(found.numbers):
        raise UnreadableEntry("a composed column is longer than it can be")
    columns = [_parts(*part) for part in parts]
    fill(columns[-1], found.numbers, found.raw)
    return functools.reduce(lambda before, after: map(add, before, after), columns)


def _way(number: int, literals: tuple[str, ...], there: tuple[bool, ...]) -> tuple[str, bool, str]:
    return "" if number else literals[0], there[number], literals[number + 1]


def _parts(ways: list[tuple[str, bool, str]], texts: list[str], numbers: Any) -> list[str]:
    distinct, places = distinct_of(numbers, len(ways) * len(texts))
    pairs = zip(*(each.tolist() for each in np.divmod(distinct, len(texts))), strict=True)
    made = [f"{ways[way][0]}{texts[text] if ways[way][1] else ''}{ways[way][2]}" for way, text in pairs]
    cells: list[str] = np.array(made, object)[places].tolist()
    return cells


def fill(cells: list[Any], numbers: Any, rare: Sequence[Any]) -> None:
    """Put what is rare where the number is 0."""
    rows = np.flatnonzero(numbers == 0).tolist()
    if len(rows) != len(rare):
        raise UnreadableEntry("what is rare in a column does not add up")
    for row, cell in zip(rows, rare, strict=True):
        cells[row] = cell


def _grouped(singles: list[Group], count: int) -> list[Group]:
    """Which columns share a number: those that take fewer bytes together."""
    shared: list[Group] = []
    apart: list[Group] = []
    for single in singles:
        if single.rare is not None or (single.size > _LOW and min(single.members) < count):
            apart.append(single)
            continue
        group = single._replace(cost=_cost(single))
        best, saved = None, -len(single.numbers) / _BYTE  # rows are made in less time of fewer columns
        for other in shared[-_GROUPS:]:
            both = _together(other, group)
            if both is not None and other.cost + group.cost - both.cost > saved:
                best, saved = (other, both), other.cost + group.cost - both.cost
        if best is None:
            shared.append(group)
        else:
            shared = [best[1] if other is best[0] else other for other in shared]
    return apart + shared


def _together(one: Group, two: Group) -> Group | None:
    """Two groups as one; None where too many different rows would come of it."""
    size = one.size * two.size
    if size > _PAIRS or len(one.members) + len(two.members) > _MEMBERS:
        return None
    pair = one.numbers.astype(np.int64) * two.size + two.numbers
    times = np.bincount(pair, minlength=size)
    there = np.flatnonzero(times)
    if len(there) > _SHARED or _FEW * len(there) > len(pair):
        return None
    there = there[np.argsort(-times[there], kind="stable")]  # so that most numbers differ in the lowest byte alone
    places = np.zeros(size, "<u4")
    places[there] = np.arange(len(there))
    members: dict[int, list[Any]] = {}
    for group, mine in zip((one, two), np.divmod(there, two.size), strict=True):
        members |= {place: list(map(values.__getitem__, mine.tolist())) for place, values in group.members.items()}
    both = Group(_narrow(places[pair], len(there)), members)
    return both._replace(cost=_cost(both))


def _cost(group: Group) -> float:
    planes = group.numbers.view("u1").reshape(-1, group.numbers.itemsize).T
    return len(compress(planes.tobytes(), 1)) + group.size * len(group.members) / 2


def put_plan(enc: Encoder, found: Plan) -> set[int]:
    """Write what precedes the plain columns; returns the places of those that are no plain ones."""
    enc.size(len(found.composed))
    for place in found.composed:
        enc.size(place)
    enc.size(len(found.groups))
    for numbers, members, rare, _ in found.groups:
        kind = numbers.dtype.str[1:]
        enc.out.append(numbers.itemsize)
        enc.blob(memoryview(numbers).cast("B"), "" if kind == "u1" else kind)
        enc.size(len(members))
        enc.out.append(rare is not None)
        for place, values in members.items():
            enc.size(place)
            put_items(enc, values)
        if rare is not None:
            put_texts(enc, found.names, next(iter(members)), rare)
    return set(found.composed).union(*(group.members for group in found.groups))


def put_composed(enc: Encoder, found: Plan) -> None:
    """Write what follows the plain columns."""
    for at, (references, templates, _, raw) in found.composed.items():
        enc.size(len(references))
        for number, place in enumerate(references):
            enc.size(place)
            enc.blob(bytes(template.there[number] for template in templates))
            put_items(enc, [template.literals[number] for template in templates])
        put_items(enc, [template.literals[-1] for template in templates])
        if at in found.spelled:
            found.spelled[at].put(enc)
        else:
            put_items(enc, raw)


def get_plan(dec: Decoder, rows: int, count: int, names: Names) -> tuple[list[int], list[Group]]:
    """Read what :func:`put_plan` wrote: the composed columns' places, and the groups; and names in these."""
    composed = [dec.size() for _ in range(dec.count())]
    groups = []
    for _ in range(dec.count()):
        dtype = WIDTHS.get(dec.byte())
        if dtype is None:
            raise UnreadableEntry("a table's numbers are damaged")
        numbers = np.frombuffer(dec.blob(), dtype)
        members = {}
        size, apart = dec.count(), dec.byte()
        for _ in range(size):
            place = dec.size()
            members[place] = get_items(dec)
        rare = get_texts(dec, names, place, np.flatnonzero(numbers == 0)) if apart else None
        values = list(members.values())
        kinds = set(map(type, itertools.chain(*values, rare or ())))
        if (
            not 0 < len(members) == size <= _MEMBERS
            or len(set(map(len, values))) != 1
            or len(numbers) != rows
            or not kinds <= _VALUES
            or (rare is not None and size != 1)
        ):
            raise UnreadableEntry("a table of records does not add up")
        groups.append(Group(numbers, members, rare))
    places = list(itertools.chain(composed, *(group.members for group in groups)))
    most = max(places, default=0)
    if len(set(places)) != len(places) or max(composed, default=-1) >= count or most >= count + len(composed):
        raise UnreadableEntry("a table of records does not add up")
    return composed, groups


def cells(group: Group, places: Sequence[int]) -> list[Any]:
    """What the rows of some of a group's columns hold: of one its values, of several tuples of them."""
    columns = [group.members[place] for place in places]
    values = np.fromiter(columns[0] if len(columns) == 1 else zip(*columns, strict=True), object, group.size)
    found: list[Any] = values[group.numbers].tolist()
    if group.rare is not None:
        fill(found, group.numbers, group.rare)
    return found


def drafts(group: Group, places: Sequence[int], keys: Sequence[str]) -> list[Any]:
    """What makes each row with its cells of a group's columns, and None for the others."""
    names = [keys[place] for place in places]
    rows = zip(*(group.members[place] for place in places), strict=True)
    made = [(dict.fromkeys(keys) | dict(zip(names, row, strict=True))).copy for row in rows]
    found: list[Any] = np.fromiter(made, object, group.size)[group.numbers].tolist()
    return found


def get_composed(dec: Decoder, groups: Sequence[Group], place: int, names: Names) -> Iterable[str]:
    """Read a composed column, whose templates have this place among the members of groups."""
    columns = {each: group for group in groups for each in group.members}
    mine = columns[place]
    numbers = np.array(mine.members[place], "<u4")[mine.numbers]
    used, there, literals = [], [], []
    count = dec.count()
    if count > _REFERENCES:
        raise UnreadableEntry("a composed column does not add up")
    for _ in range(count):
        other = columns[at := dec.size()]
        used.append((list(map(_text, other.members[at])), other.numbers))
        there.append(map(bool, dec.blob()))
        literals.append(get_items(dec))
    literals.append(get_items(dec))
    rows = np.flatnonzero(numbers == 0)
    if dec.data[dec.pos] == SPELLED:
        symbols = get_spelled(dec, names, rows)
        if len(rows) == len(numbers):
            return symbols
        raw: list[Any] = list(symbols)
    else:
        raw = get_items(dec)
    if not count or not set(map(type, itertools.chain(raw, *literals))) <= {str}:
        raise UnreadableEntry("a composed column does not add up")
    ways = zip(zip(*literals, strict=True), zip(*there, strict=True), strict=True)
    return compose(Composed([], [Template(*way) for way in ways], numbers, raw), used)
