"""Small values that are alike are read by the form of those before them (`redis_memo._codecs_forms`)."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_memo import _codecs_forms
from redis_memo._codecs import dumps, loads
from redis_memo.errors import UnreadableEntry

from .strategies import same
from .test_records import quote
from .test_values import _spoil, quick


@pytest.fixture(autouse=True)
def learns_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_codecs_forms, "_OFTEN", 1)
    forget()
    yield
    forget()


def forget() -> None:
    _codecs_forms._FORMS.clear()
    _codecs_forms._seen.clear()


def by_the_reader(meta: bytes) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_codecs_forms, "read", lambda _: None)
        patch.setattr(_codecs_forms, "learn", lambda _: None)
        return loads(meta, (), trusted=False)


def forms() -> int:
    return sum(map(len, _codecs_forms._FORMS.values()))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=2)
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.just(dt.UTC))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 2), inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | inner.map(lambda part: [part, part])
    ),
    max_leaves=8,
)


def like(value: Any) -> st.SearchStrategy[Any]:
    """Values with the same containers and kinds of leaves."""
    if isinstance(value, dict):
        return st.fixed_dictionaries({key: like(inner) for key, inner in value.items()})
    if isinstance(value, (list, tuple)):
        return st.tuples(*map(like, value)).map(type(value))
    for kind, leaves in (
        (bool, st.booleans()),
        (int, st.integers(-(2**63), 2**63 - 1)),
        (float, st.floats()),
        (str, st.text(min_size=len(str(value)), max_size=len(str(value)))),
        (dt.datetime, st.datetimes()),
        (dt.date, st.dates()),
    ):
        if type(value) is kind:
            return leaves
    return st.just(value)


@quick(250)
@given(st.lists(VALUES, min_size=1, max_size=3), st.data())
def test_p2_what_is_read_by_the_form_of_another_is_what_the_reader_finds(values: list[Any], data: Any) -> None:
    """Values of the same form, of others, and bytes that are damaged where a form knows them."""
    for _ in range(6):
        value = data.draw(like(data.draw(st.sampled_from(values))))
        meta = dumps(value, allow_pickle=False).meta
        if data.draw(st.integers(0, 2)) == 0:
            at = data.draw(st.integers(0, len(meta) - 1))
            meta = meta[:at] + data.draw(st.binary(min_size=1, max_size=1)) + meta[at + 1 :]
        try:
            expected = by_the_reader(meta)
        except UnreadableEntry:
            with pytest.raises(UnreadableEntry):
                loads(meta, (), trusted=False)
            continue
        assert same(loads(meta, (), trusted=False), expected) is True


def test_p2_what_is_read_by_a_form_is_the_callers_own() -> None:
    value = {"NSE:INFY": quote(1)}
    for number in range(1, 9):
        value["NSE:INFY"] = quote(number)
        meta = dumps(value, allow_pickle=False).meta
        found = loads(meta, (), trusted=False)
        assert same(found, value) is True
        _spoil(found)
    assert forms() == 2  # a change of nothing is a whole number


def test_one_symbol_or_another_of_its_length_is_one_form() -> None:
    for symbol in ("NSE:INFY", "NSE:IDEA", "BSE:INFY", "NSE:ü12"):
        value = {symbol: {"last_price": 1.5, "date": dt.date(2026, 2, 2), "none": None, "day": [True, False]}}
        assert same(loads(dumps(value, allow_pickle=False).meta, (), trusted=False), value) is True
    assert forms() == 1


def test_what_has_no_form_is_read_as_ever() -> None:
    """Sharing, other zones, long texts, tables: by the reader."""
    shared = [1.5]
    for value in (
        {"a": shared, "b": shared},
        [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)],
        {"a": "x" * 300},
        [(1, 2)],
        [1j],
    ):
        for _ in range(3):
            back = loads(dumps(value, allow_pickle=False).meta, (), trusted=False)
            assert same(back, value) is True
    assert forms() == 0


def test_p5_a_key_that_is_there_twice_is_damage() -> None:
    for value in ({"a": 1.5, "b": 2.5}, {"a": 3.5, "b": 4.5}):
        meta = dumps(value, allow_pickle=False).meta
        assert loads(meta, (), trusted=False) == value
    with pytest.raises(UnreadableEntry):
        loads(meta.replace(b"s\x01b", b"s\x01a"), (), trusted=False)


def test_p5_what_is_nested_deep_is_read_as_often_as_it_is_asked_for() -> None:
    """Python's parser gives up at 200 brackets, and the stack may be nearly full already: then no form is made."""
    for depth in (30, 40, 150, 200):
        value: Any = [dt.datetime(2026, 2, 2)] if depth == 200 else 1.5
        for _ in range(depth - 1):
            value = [value]
        meta = dumps(value, allow_pickle=False).meta
        for _ in range(3):
            assert loads(meta, (), trusted=False) == value


def test_p5_a_form_is_not_made_where_the_stack_has_no_room_for_it() -> None:
    """What the reader has room enough for is read, whether or not its form can be learned there."""
    value: Any = 1.5
    for _ in range(25):
        value = {"a": [value]}
    meta = dumps(value, allow_pickle=False).meta

    def at(depth: int, read: Any) -> Any:
        return at(depth - 1, read) if depth else read(meta)

    def has_room(depth: int) -> bool:
        with suppress(RecursionError, UnreadableEntry):
            return same(at(depth, by_the_reader), value) is True
        return False

    deepest = next(depth for depth in range(sys.getrecursionlimit(), 0, -1) if has_room(depth))
    for depth in range(deepest - 90, deepest + 1, 3):
        forget()
        assert same(at(depth, lambda meta: loads(meta, (), trusted=False)), value) is True


def test_a_full_memory_keeps_what_it_knows() -> None:
    """P7: what is seen again takes no more room, and nothing is forgotten for it; it may have no form."""
    metas = [dumps(value, allow_pickle=False).meta for value in ([None], [1.5], [(1.5,)])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_codecs_forms, "_MOST", len(metas))
        for meta in [*metas, metas[-1]]:
            loads(meta, (), trusted=False)
    assert forms() == 2


def test_p7_all_forms_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A form of 256 fields is some 80 KB, and there may be two thousand."""
    monkeypatch.setattr(_codecs_forms, "_ALL_FIELDS", 1000)
    most = 0
    for size in range(30):
        value = {"x": "x" * size, **{str(number): [1.5] * 15 for number in range(7)}}
        assert loads(dumps(value, allow_pickle=False).meta, (), trusted=False) == value
        fields = [len(form.fixed) for known in _codecs_forms._FORMS.values() for form in known]
        most = max(most, sum(fields))
    assert 500 < most <= 1000


def test_p7_what_is_remembered_is_bounded() -> None:
    for size in range(2000):
        for value in ({"a" * (size % 200): size}, [size] * (size % 12), {f"{size}": "x" * (size % 200)}):
            assert loads(dumps(value, allow_pickle=False).meta, (), trusted=False) == value
    assert len(_codecs_forms._FORMS) <= _codecs_forms._MOST
    assert len(_codecs_forms._seen) <= _codecs_forms._MOST
    assert max(map(len, _codecs_forms._FORMS.values())) <= _codecs_forms._OF_A_LENGTH
