"""Two values have one encoding exactly when they are equal arguments: promise P1, case by case and by hypothesis."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import io
import itertools
import json
import logging
import operator
import os
import pathlib
import pickle
import queue
import random
import re
import socket
import subprocess
import sys
import threading
import time
import types
import typing
import uuid
import weakref
import zoneinfo

import dateutil.tz
import numpy as np
import pandas as pd
import pytest
import pytz
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_memo import _keys
from redis_memo._keys import digest, encode, encode_many, register_key
from redis_memo.errors import ConfigurationError, KeyingError
from tests import key_samples
from tests.faults import interrupted_at

GOLDEN = pathlib.Path(__file__).parent / "golden" / "keys.json"
ROOT = pathlib.Path(__file__).parent.parent


def same(*values):
    encodings = {encode(value) for value in values}
    assert len(encodings) == 1


def different(*values):
    encodings = [encode(value) for value in values]
    assert len(set(encodings)) == len(encodings), [encodings.index(e) for e in encodings]
    for one, other in itertools.permutations(encodings, 2):
        assert not other.startswith(one), "an encoding must not be the beginning of another"


# ---------------------------------------------------------------------------------------------------------- distinct


ALL_DIFFERENT = [
    *(
        1,
        1.0,
        True,
        "1",
        b"1",
        bytearray(b"1"),
        0,
        0.0,
        -0.0,
        False,
        None,
        "",
        b"",
        "None",
        1j,
        0j,
        2,
        -1,
        2**64,
        2**64 + 1,
    ),
    *(
        [],
        (),
        set(),
        frozenset(),
        {},
        [1],
        (1,),
        {1},
        frozenset({1}),
        {1: 1},
        [[1]],
        [1, 1],
        [None],
        ["1"],
        [1.0],
        [True],
    ),
    *(
        ["a b", "c"],
        ["a", "b c"],
        ["a", "b", "c"],
        "1:2",
        [1, 2],
        ["1:2"],
        "[1, 2]",
        {"a": None},
        {"a": "None"},
        {"a": [1]},
    ),
    *([0] * 7, [0] * 8, [0] * 9, [0.0] * 8, [-0.0] * 8, [False] * 8, ["0"] * 8, (0,) * 8, [2**70] * 8, [*[0] * 8, 0.0]),
    *(
        ["ab", "", *"x" * 8],
        ["a", "b", *"x" * 8],
        ["\ud800\udc00"] * 8,
        ["\U00010000"] * 8,
        "\ud800\udc00",
        "\U00010000",
    ),
    *("x" * 64, "x" * 65, "x" * 66, b"x" * 64, b"x" * 65, bytearray(b"x" * 65), float("nan"), float("inf"), "nan"),
    *(range(1), range(2), range(0), slice(1), slice(0, 1), ..., NotImplemented, int, float, "int", len, print),
    *(
        decimal.Decimal("1.0"),
        decimal.Decimal("1.00"),
        decimal.Decimal("NaN"),
        decimal.Decimal("sNaN"),
        uuid.UUID(int=1),
    ),
    *(collections.OrderedDict({1: 1}), collections.Counter({1: 1}), collections.defaultdict(int, {1: 1})),
    *(
        collections.defaultdict(None, {1: 1}),
        collections.deque([1]),
        collections.deque([1], 3),
        types.MappingProxyType({1: 1}),
    ),
    *(
        types.SimpleNamespace(a=1),
        {"a": 1},
        pathlib.Path("1"),
        pathlib.PurePosixPath("1"),
        pathlib.PureWindowsPath("1"),
    ),
    *(dt.date(2026, 2, 1), dt.datetime(2026, 2, 1), dt.datetime(2026, 2, 1, fold=1), dt.time(1), dt.time(1, fold=1)),
    *(dt.timedelta(1), dt.UTC, zoneinfo.ZoneInfo("UTC"), pytz.UTC, dateutil.tz.UTC, re.compile("a"), re.compile(b"a")),
    *(re.compile("a", re.I), list[int], typing.List[int], dict[str, int], int | None, typing.Any, memoryview(b"1")),
    *(
        operator.itemgetter(1),
        operator.itemgetter(2),
        operator.attrgetter("a"),
        functools.partial(int),
        ValueError("a"),
    ),
    *(ValueError("b"), TypeError("a"), {1: 2}.keys(), {1: 2}.items(), {1: 2}.values(), json, pathlib),
    *(np.float64(1), np.float32(1), np.int64(1), np.int32(1), np.bool_(True), np.str_("1"), np.array(1), np.array([1])),
    *(
        np.array([1.0]),
        np.array([1], ">i8"),
        np.array([1], "i4"),
        np.array([[1]]),
        np.array(["1"]),
        np.array([1], object),
    ),
    *(np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(0), np.zeros(0, "i8"), np.dtype("f8"), np.dtype("f4"), np.float64),
    *(np.datetime64("2026-02-01"), np.datetime64("NaT"), np.timedelta64(1, "s"), np.sin, np.cos, np.mean, np.matmul),
    *(pd.NaT, pd.NA, pd.Timestamp("2026-02-01"), pd.Timestamp("2026-02-01", tz="Asia/Kolkata"), pd.Timedelta(1, "s")),
    *(pd.Period("2026-02"), pd.Period("2026-02-01"), pd.Interval(0, 1), pd.Interval(0, 1, "left"), pd.offsets.BDay(2)),
]


def test_p1_what_is_not_equal_has_its_own_key():
    different(*ALL_DIFFERENT)


@pytest.mark.parametrize("value", ALL_DIFFERENT, ids=lambda value: type(value).__name__)
def test_p1_encodings_are_bounded_and_repeatable(value):
    assert encode(value) == encode(value)
    assert len(encode([value] * 3)) <= 64
    assert len(encode(value)) <= 64 + 16


# ------------------------------------------------------------------------------------------------------------- equal


def test_p1_order_of_dicts_and_sets_and_sharing_do_not_count():
    same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    same(set(range(100)), set(reversed(range(100))))
    same(types.SimpleNamespace(a=1, b=2), types.SimpleNamespace(b=2, a=1))
    shared = [1, "x"]
    same([shared, shared], [[1, "x"], [1, "x"]])
    large = list(range(1000))
    same([large, large, (large,)], [list(range(1000)), list(range(1000)), (list(range(1000)),)])
    name = "RELIANCE"
    same([name, name], [name, "RELI" + name[4:]])
    different(collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1))


@pytest.mark.parametrize("cls", [collections.OrderedDict, collections.Counter])
def test_p1_attributes_of_a_dict_count(cls):
    def made(**attributes):
        value = cls(a=1)
        vars(value).update(attributes)
        return value

    same(made(unit="INR", of=[1]), made(of=[1], unit="INR"))
    different(made(), made(unit="INR"), made(unit="USD"), made(currency="INR"), {"unit": "INR"}, cls(a=1, unit="INR"))


def test_p1_every_nan_is_equal():
    odd = np.array([0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000001], "u8").view("f8")
    same(float("nan"), -float("nan"), odd.tolist()[1])
    same([float("nan")] * 9, odd.tolist() * 3)
    same({float("nan"): 1, -float("nan"): 2}, {float("nan"): 2, -float("nan"): 1})
    same(complex(float("nan"), 1), complex(-float("nan"), 1))
    same(decimal.Decimal("NaN"), decimal.Decimal("-NaN"), decimal.Decimal("NaN123"))
    same(odd, np.full(3, np.nan))
    same(odd[::-1], np.full(3, np.nan))
    same(pd.Series(odd), pd.Series([np.nan] * 3))
    same(np.float64(odd[1]), np.float64("nan"))
    for kind in ("<f2", ">f4", "<f8", ">f8", "<c8", ">c16"):
        mine, theirs = np.array([1, np.nan, 2], kind), np.array([1, np.nan, 2], kind)
        theirs.view(f"{kind[0]}f{mine.real.itemsize}")[-mine.itemsize // mine.real.itemsize * 2] *= -1
        same(mine, theirs)
    same(np.array([(1, odd[0])], "i4,f8"), np.array([(1, odd[1])], "i4,f8"))


def test_p1_ranges_are_equal_as_sequences():
    same(range(0, 3, 2), range(0, 4, 2))
    same(range(0), range(5, 5), range(3, 1))
    same(range(10**30, 10**30 + 1), range(10**30, 10**30 + 2, 5))
    different(range(3), range(0, 3, 2), range(4))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.decimals(),
    lambda inner: (
        st.lists(inner, max_size=10)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers() | st.booleans(), inner, max_size=6)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=10)
    ),
    max_leaves=30,
)


def told_apart(value):
    """The value in a form whose equality is what P1 asks for, made without any of our code."""
    if isinstance(value, float):
        return ("float", "nan" if value != value else value.hex())
    if isinstance(value, decimal.Decimal):
        return ("decimal", "nan" if value.is_qnan() else str(value.as_tuple()))
    if isinstance(value, dict):
        return ("dict", frozenset((told_apart(k), told_apart(v)) for k, v in value.items()))
    if isinstance(value, frozenset):
        return ("frozenset", frozenset(map(told_apart, value)))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(map(told_apart, value)))
    return (type(value).__name__, value)


def rebuilt(value, rng):
    """An equal value that shares nothing, in another order where order does not count."""
    if isinstance(value, dict):
        items = [(k, rebuilt(v, rng)) for k, v in value.items()]
        rng.shuffle(items)
        return dict(items)
    if isinstance(value, frozenset):
        items = list(value)
        rng.shuffle(items)
        return frozenset(items)
    if isinstance(value, list | tuple):
        return type(value)([rebuilt(item, rng) for item in value])
    return pickle.loads(pickle.dumps(value))


@settings(max_examples=100, deadline=None)
@given(json_like, st.randoms(use_true_random=False))
def test_p1_a_rebuilt_value_has_the_same_key(value, rng):
    same(value, rebuilt(value, rng))


@settings(max_examples=200, deadline=None)
@given(json_like, json_like)
def test_p1_keys_are_equal_exactly_when_values_are(one, other):
    assert (encode(one) == encode(other)) == (told_apart(one) == told_apart(other))


@settings(max_examples=100, deadline=None)
@given(st.lists(json_like, max_size=4), st.lists(json_like, max_size=4))
def test_p1_joined_encodings_are_unambiguous(one, other):
    equal = list(map(told_apart, one)) == list(map(told_apart, other))
    assert (b"".join(map(encode, one)) == b"".join(map(encode, other))) == equal


# ------------------------------------------------------------------------------------------------------------ golden


def test_p1_golden_digests():
    golden = json.loads(GOLDEN.read_text())
    assert {name: digest(encode(value)).hex() for name, value in key_samples.samples().items()} == golden


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_p1_every_process_has_the_golden_digests_under_any_hash_seed(seed):
    result = subprocess.run(
        [sys.executable, "-m", "tests.key_samples"],
        env={**os.environ, "PYTHONHASHSEED": seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout) == json.loads(GOLDEN.read_text())


def test_importing_the_rules_loads_neither_pandas_nor_numpy():
    code = "import sys, redis_memo._keys; sys.exit(any(name in sys.modules for name in ('numpy', 'pandas', 'pytz')))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# ----------------------------------------------------------------------------------------------- subclasses, classes


class Names(list):
    pass


class OtherNames(list):
    pass


class Tagged(str):
    __slots__ = ("tag",)


class Plain:
    def __init__(self, a):
        self.a = a

    def method(self):
        return self.a

    @functools.cached_property
    def expensive(self):
        return self.a


class Slotted:
    __slots__ = ("__b", "a")

    def __init__(self, a, b):
        self.a = a
        self.__b = b


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Data:
    a: int
    note: str = dataclasses.field(default="", compare=False)


class MoreData(Data):
    def __init__(self, a, extra):
        super().__init__(a)
        self.extra = extra


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: int


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    ONE = 1


class Mode(enum.Flag):
    R = 1
    W = 2


def test_p1_subclasses_of_builtins_are_class_content_and_state():
    same(Names([1]), Names([1]))
    different([1], Names([1]), OtherNames([1]), Names([2]))
    more = Names([1])
    more.account = "a"
    different(Names([1]), more)
    one, two = Tagged("x"), Tagged("x")
    one.tag, two.tag = 1, 2
    different("x", Tagged("x"), one, two)
    different((1, 2), Point(1, 2), Point(2, 1))
    same(Point(1, 2), Point(1, 2))


def test_p1_objects_are_keyed_by_class_and_state_never_by_address():
    same(Plain(1), Plain(1))
    different(Plain(1), Plain(2), Plain(1.0), {"a": 1}, Plain)
    same(Slotted(1, 2), Slotted(1, 2))
    different(Slotted(1, 2), Slotted(1, 3))
    encodings = {encode(Plain(n)) for n in range(200)}  # address reuse gave 199 of them another's value elsewhere
    assert len(encodings) == 200
    read = Plain(1)
    assert read.expensive == 1
    same(read, Plain(1))
    same(random.Random(3), random.Random(3))
    same(logging.getLogger("a.b"), logging.getLogger("a.b"))


def test_p1_dataclasses_count_the_fields_they_compare():
    same(Data(1, "x"), Data(1, "y"))
    different(Data(1), Data(2), MoreData(1, 1), MoreData(1, 2), Frozen(1), Frozen(2))
    same(MoreData(1, 2), MoreData(1, 2))


def test_p1_enumerations_by_name_and_flags_by_value():
    different(Color.RED, Color.BLUE, Number.ONE, 1, Mode.R, Mode.R | Mode.W)
    same(Mode.R | Mode.W, Mode.W | Mode.R, Mode(3))


def test_p1_pydantic_and_attrs_models():
    pydantic, attrs = pytest.importorskip("pydantic"), pytest.importorskip("attrs")

    class Model(pydantic.BaseModel):
        a: int
        b: list[int] = []
        _cache: int = pydantic.PrivateAttr(1)

    other = Model(a=1)
    other._cache = 2
    same(Model(a=1), Model(a=1, b=[]))
    different(Model(a=1), Model(a=2), other)

    @attrs.define
    class Attrs:
        a: int
        b: int = attrs.field(default=0, eq=False)

    same(Attrs(1, 1), Attrs(1, 2))
    different(Attrs(1), Attrs(2))


class Keyed:
    def __init__(self, user):
        self.user = user
        self.lock = threading.Lock()

    def __memo_key__(self):
        return self.user


class KeyedToo(Keyed):
    pass


class KeyedDict(dict):
    def __memo_key__(self):
        return self["id"]


class Failing:
    def __memo_key__(self):
        raise ValueError("secret")


def test_p1_the_class_says_what_identifies_its_objects():
    same(Keyed("a"), Keyed("a"))
    different(Keyed("a"), Keyed("b"), KeyedToo("a"), "a")
    same(KeyedDict(id=1, x=1), KeyedDict(id=1, x=2))
    same(Keyed("a").__init__, Keyed("a").__init__)
    with pytest.raises(KeyingError, match="__memo_key__ raised ValueError") as caught:
        encode(Failing())
    assert "secret" not in str(caught.value)


def test_p1_registered_rules():
    class Session(threading.Thread):
        pass

    class Broker(Session):
        pass

    with pytest.raises(KeyingError):
        encode(Session())
    register_key(Session, operator.attrgetter("name"))
    same(Session(name="a"), Session(name="a"))
    different(Session(name="a"), Session(name="b"))
    with pytest.raises(KeyingError):
        encode(Broker())
    register_key(Session, operator.attrgetter("name"), subclasses=True)
    different(Session(name="a"), Broker(name="a"))
    for fixed in (int, dict, object, dt.datetime):
        with pytest.raises(ConfigurationError):
            register_key(fixed, str)
    with pytest.raises(ConfigurationError):
        register_key("int", str)


def made_class(n):
    class Made:
        def value(self):
            return n

        def itself(self):
            return __class__

    return Made


def test_p1_local_classes_are_told_apart_by_code_and_closure():
    same(made_class(1), made_class(1))
    different(made_class(1), made_class(2), made_class)
    different(made_class(1)(), made_class(2)())


# -------------------------------------------------------------------------------------------------------- callables


def adder(n):
    def add(x, y=0):
        return x + n + y

    return add


def recursive(n):
    def down(x):
        return down(x - n) if x else 0

    return down


def tangled(n):
    def a():
        return b, c, d, e, f

    def b():
        return a, c, d, e, f

    def c():
        return a, b, d, e, f

    def d():
        return a, b, c, e, f

    def e():
        return a, b, c, d, f

    def f():
        return a, b, c, d, e, n

    return a


def test_p1_functions_by_name_code_closure_and_defaults():
    same(adder(1), adder(1))
    different(adder(1), adder(2), adder, recursive(1), recursive(2), tangled(1), tangled(2))
    same(recursive(1), recursive(1))
    same(tangled(1), tangled(1))
    inner = recursive(1)
    same([inner, inner], [recursive(1), recursive(1)])
    same((adder(inner), inner), (adder(recursive(1)), recursive(1)))
    changed = adder(1)
    changed.__defaults__ = (5,)
    different(adder(1), changed)
    different(lambda x: x + 1, lambda x: x + 2)
    different(functools.partial(int, base=2), functools.partial(int, base=8), functools.partial(int, 2))
    different(Plain(1).method, Plain(2).method, Plain.method)
    same(Plain(1).method, Plain(1).method)
    different("a".join, "b".join, str.join, [1].append, [2].append, int.__add__, (1).__add__)


def test_p1_an_empty_cell_is_no_error():
    def outer():
        def inner():
            return later

        encoded = encode(inner)
        later = 1
        return encoded, encode(inner), later

    empty, full, _ = outer()
    assert empty != full


def test_p1_annotations():
    same(typing.Optional[int], int | None, None | int)
    same(int | str, str | int)
    same(typing.Literal["a", "b"], typing.Literal["b", "a"])
    different(list[int], list[str], tuple[int, ...], tuple[int], typing.Callable[[int], str], typing.Callable[..., str])


# ------------------------------------------------------------------------------------------------------------- dates


def test_p1_time_zones_by_kind_and_name():
    moment = dt.datetime(2026, 2, 1, 9, 15)
    kolkata = pytz.timezone("Asia/Kolkata")
    zones = [
        *(zoneinfo.ZoneInfo("Asia/Kolkata"), zoneinfo.ZoneInfo("Asia/Colombo"), dateutil.tz.gettz("Asia/Kolkata")),
        *(dt.timezone(dt.timedelta(hours=5.5)), dt.timezone(dt.timedelta(hours=5.5), "IST"), pytz.FixedOffset(330)),
        *(dateutil.tz.tzoffset(None, 19800), dateutil.tz.tzoffset("IST", 19800), dateutil.tz.tzlocal(), kolkata, None),
    ]
    different(*(moment.replace(tzinfo=zone) for zone in zones), kolkata.localize(moment))
    different(*zones)
    for zone in zones:
        same(moment.replace(tzinfo=zone), pickle.loads(pickle.dumps(moment.replace(tzinfo=zone))))
    eastern = pytz.timezone("US/Eastern")
    different(eastern.localize(dt.datetime(2026, 1, 1)).tzinfo, eastern.localize(dt.datetime(2026, 7, 1)).tzinfo)


# ----------------------------------------------------------------------------------------------------------- refusal


def generator():
    yield 1


async def coroutine():
    pass


async def async_generator():
    yield 1


REFUSED = {
    "generator": generator,
    "iterator": lambda: iter([1]),
    "map": lambda: map(int, "1"),
    "zip": lambda: zip([1]),
    "enumerate": lambda: enumerate([1]),
    "file": lambda: open(os.devnull),
    "bytes file": lambda: io.BytesIO(b"x"),
    "socket": socket.socket,
    "lock": threading.Lock,
    "rlock": threading.RLock,
    "event": threading.Event,
    "thread": threading.Thread,
    "local": threading.local,
    "queue": queue.Queue,
    "asyncio lock": asyncio.Lock,
    "asyncio queue": asyncio.Queue,
    "loop": asyncio.new_event_loop,
    "async generator": async_generator,
    "weakref": lambda: weakref.ref(Plain),
    "weak set": weakref.WeakSet,
    "frame": sys._getframe,
    "code": lambda: generator.__code__,
    "context": lambda: contextvars.ContextVar("x"),
    "context copy": contextvars.copy_context,
    "object": object,
    "match": lambda: re.match("a", "a"),
    "lock in an attribute": lambda: Plain(threading.Lock()),
    "generator in a list": lambda: [1, {"a": generator()}],
    "group by": lambda: pd.DataFrame({"a": [1]}).groupby("a"),
    "rolling": lambda: pd.Series([1]).rolling(2),
}


@pytest.mark.parametrize("name", REFUSED)
def test_p1_what_cannot_be_told_by_value_is_refused_by_type_not_by_value(name):
    value = REFUSED[name]()
    with pytest.raises(KeyingError) as caught:
        encode_many(("x", value), ("a", "b"))
    assert caught.value.parameter == "b"
    assert caught.value.type_name
    assert isinstance(caught.value, TypeError)
    assert "0x" not in str(caught.value)
    if hasattr(value, "close") and not asyncio.iscoroutine(value) and name != "async generator":
        value.close()


def test_p1_a_coroutine_is_refused():
    pending = coroutine()
    with pytest.raises(KeyingError, match="coroutine"):
        encode(pending)
    pending.close()


def test_p1_nothing_is_used_up_or_changed_by_encoding():
    frame = key_samples.samples()["frame"]
    before = pickle.dumps(frame)
    read = Plain({"a": [1, 2], "b": {1, 2}})
    state = copy.deepcopy(read.__dict__)
    iterator = iter([1, 2])
    with pytest.raises(KeyingError):
        encode([frame, iterator])
    encode([frame, read])
    assert list(iterator) == [1, 2]
    assert pickle.dumps(frame) == before
    assert read.__dict__ == state


def test_p1_a_value_that_changes_while_it_is_read_is_refused():
    class Growing:
        def __memo_key__(self):
            victim.append(1)
            return 1

    victim = [Growing(), "x"]
    with pytest.raises(KeyingError, match="changed"):
        encode(victim)


# --------------------------------------------------------------------------------------------------- depth and size


def nested(levels):
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def test_p1_depth_and_cycles_are_refused_and_never_crash():
    encode(nested(190))
    cyclic: list = [1]
    cyclic += [cyclic, cyclic]
    knot: dict = {}
    knot["self"] = {"a": knot}
    parent = Plain(None)
    parent.a = [parent]
    array = np.empty(1, object)
    array[0] = array
    for value in (nested(250), nested(100_000), cyclic, knot, parent, array):
        with pytest.raises(KeyingError, match="nested deeper than"):
            encode(value)


def test_p1_near_the_recursion_limit_too():
    def at(frames):
        return at(frames - 1) if frames else encode_many((nested(100), 1), ("a", "b"))

    refused = 0
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    for frames in range(0, sys.getrecursionlimit() - depth - 10, 5):
        try:
            assert len(at(frames)) == 2
        except KeyingError as error:
            assert error.parameter == "a"  # noqa: PT017
            refused += 1
    assert refused


class TimeLimit(Exception):
    pass


@pytest.mark.parametrize("arguments", [("INFY", 5), ("INFY", [5]), ([5], "INFY")])
def test_a_time_limit_ends_the_making_of_a_key_at_any_moment(arguments):
    """It is the caller's, unless it may have come from reading an argument; then the argument is named."""
    ends = []
    for place in itertools.count():
        try:
            interrupted_at(place, lambda: encode_many(arguments, ("symbol", "days")), _keys.__file__, TimeLimit())
        except TimeLimit:
            ends.append(None)
        except KeyingError as error:
            ends.append(error.parameter)
        else:
            break
    assert place > 10
    assert None in ends
    named = {end for end in ends if end is not None}
    assert named <= {name for name, value in zip(("symbol", "days"), arguments, strict=True) if type(value) is list}


@pytest.mark.parametrize("combine", [lambda x: [x, x], lambda x: (x, {"a": x}), lambda x: Plain((x, x))])
def test_p1_a_value_reached_along_many_paths_takes_linear_time(combine):
    def build(levels):
        value = [1, 2]
        for _ in range(levels):
            value = combine(value)
        return value

    start = time.perf_counter()
    same(build(60), build(60))
    assert time.perf_counter() - start < 5
    # The memo that makes it so must not show: the same without any sharing.
    small = build(10)
    same(small, pickle.loads(pickle.dumps(small)), copy.deepcopy(small))


class Fresh:
    def __init__(self, n):
        self.n = n

    def __memo_key__(self):
        return {key: self.n for key in range(100)}  # freed when it is encoded, and its address used again


def test_p1_what_is_remembered_during_a_walk_belongs_to_living_objects():
    different(*([Fresh(1), Fresh(n), Fresh(n)] for n in range(1, 9)))


def test_p1_what_is_remembered_inside_a_cycle_is_not_taken_for_the_whole():
    def knot():
        def member():
            return box

        box = [member, *([1, "x"] * 100)]
        return member, box

    same(knot(), (knot()[0], knot()[1]))
    same(knot()[::-1], (knot()[1], knot()[0]))


def test_p1_ten_million_elements():
    start = time.perf_counter()
    numbers = list(range(10_000_000))
    one = encode(numbers)
    numbers[7_000_000] += 1
    assert encode(numbers) != one
    encode([float(n) for n in range(1_000_000)])
    encode([None, 1, "x"] * 300_000)
    assert time.perf_counter() - start < 30


def test_p1_long_and_streamed_sequences_agree_with_short_ones_in_rule():
    mixed = [1, "a"] * 2048
    same(mixed, list(mixed))
    different(mixed, [*mixed, 1], [*mixed[:-1], "b"], tuple(mixed), [*mixed, 1, "a"])


# ------------------------------------------------------------------------------------------------------------- fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_p1_large_data_is_hashed_after_fork_as_before():
    value = (np.arange(2_000_000.0), b"x" * 20_000_000, pd.DataFrame(np.random.rand(300_000, 10)))
    expected = digest(encode(value))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, digest(encode(value)))
        os._exit(0)
    os.close(writer)
    answer: list[bytes] = []
    thread = threading.Thread(target=lambda: answer.append(os.read(reader, 32)))
    thread.start()
    thread.join(20)
    if not answer:
        os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(reader)
    assert answer == [expected]


def test_p1_hashing_in_many_threads_at_once():
    value = np.random.rand(500_000)
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(encode([value, "x"]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert len(set(results)) == 1


# ------------------------------------------------------------------------------------------------------------- speed


def test_small_arguments_are_cheap():
    """A bound with room for a busy machine: the aim is 2.5 µs, joblib takes 15."""
    values, names = ("RELIANCE", "NSE", "day", 365), ("symbol", "exchange", "interval", "period")
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(1000):
            encode_many(values, names)
        best = min(best, time.perf_counter() - start)
    assert best / 1000 < 7e-6
