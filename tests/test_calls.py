"""P8: what a user sees of a decorated function is what they saw before it was decorated, and the cache's methods."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import copy
import dataclasses
import enum
import functools
import gc
import inspect
import io
import multiprocessing
import os
import pickle
import pydoc
import re
import signal
import subprocess
import sys
import textwrap
import threading
import types
import typing
import uuid
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pandas as pd
import pytest

import redis_memo
from redis_memo import (
    MISSING,
    _handle,
    _segments,
    cache_info,
    clear,
    configure,
    invalidate,
    jittered,
    market_aware,
    redis_cached,
)
from redis_memo._handle import Missing
from redis_memo.errors import ConfigurationError, KeyingError, StoreUnavailable, UnsupportedType

from . import decorated
from .conftest import SECRET, until
from .decorated import Account, Savings, asquare, plain, square


@pytest.fixture
def memo(cache, namespace):
    """``redis_cached`` with the options that every test would repeat."""
    return functools.partial(redis_cached, namespace=namespace, ttl=60, cache=cache)


@pytest.fixture
def default(valkey_server, monkeypatch):
    """A default cache, in this process and in those it starts."""
    monkeypatch.setenv("REDIS_MEMO_URL", valkey_server.url)
    monkeypatch.setenv("REDIS_MEMO_SECRET", SECRET)
    cache = configure()
    yield cache
    cache.clear(decorated.NAMESPACE)


# ------------------------------------------------------------------------------------------------------- appearance


def test_a_function_shows_what_it_showed_before():
    assert inspect.isfunction(square)
    assert not inspect.iscoroutinefunction(square)
    assert inspect.signature(square) == inspect.signature(plain)
    assert square.__doc__ == plain.__doc__
    assert square.__annotations__ == plain.__annotations__
    assert typing.get_type_hints(square) == typing.get_type_hints(plain)
    assert (square.__name__, square.__qualname__, square.__module__) == ("square", "square", "tests.decorated")
    assert square.__wrapped__(3, power=3)[0] == 27
    assert inspect.unwrap(square).__code__.co_filename == decorated.__file__
    assert inspect.getsource(square).startswith("@redis_cached")
    assert square.__globals__ is vars(decorated), "where frameworks look names in annotations up"
    assert callable(square)
    assert type(repr(square)) is str


def test_help_reads_as_undecorated():
    def shown(function):
        text = pydoc.render_doc(function, renderer=pydoc.plaintext)
        return text.partition("\n\n")[2].replace("square", "plain")

    assert shown(square) == shown(plain)
    page = pydoc.render_doc(Account, renderer=pydoc.plaintext)
    assert "holdings(self, symbol: 'str', day: 'int' = 1) -> 'str'\n |      What the account holds.\n" in page
    assert "norm(symbol: 'str') -> 'str'\n |      Spell a symbol.\n" in page
    assert "of(name: 'str') -> 'str'\n |      Make one.\n" in page


def test_a_method_shows_what_it_showed_before():
    bound, unbound = Account("a").holdings, Account.holdings
    assert str(inspect.signature(bound)) == "(symbol: 'str', day: 'int' = 1) -> 'str'"
    assert str(inspect.signature(unbound)) == "(self, symbol: 'str', day: 'int' = 1) -> 'str'"
    assert str(inspect.signature(Account.of)) == "(name: 'str') -> 'str'"
    assert str(inspect.signature(Account("a").norm)) == "(symbol: 'str') -> 'str'"
    for seen in (bound, unbound):
        assert seen.__doc__ == "What the account holds."
        assert (seen.__name__, seen.__qualname__) == ("holdings", "Account.holdings")
        assert seen.__module__ == "tests.decorated"
        assert seen.__annotations__ == {"symbol": "str", "day": "int", "return": "str"}
        assert inspect.isroutine(seen)
        assert callable(seen)
    assert bound.__self__ == Account("a")
    assert bound.__func__ is unbound
    assert not hasattr(unbound, "__self__")
    assert unbound.__code__ is unbound.__wrapped__.__code__
    assert bound.__wrapped__("x") == "a/x/1", "uncached, bound"
    assert unbound.__wrapped__(Account("a"), "x") == "a/x/1"
    with pytest.raises(AttributeError, match="peeek"):
        bound.peeek  # noqa: B018
    assert not hasattr(unbound, "__len__")


def test_async_is_seen_as_async():
    for seen in (asquare, Account.aholdings, Account("a").aholdings):
        assert inspect.iscoroutinefunction(seen)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert asyncio.iscoroutinefunction(seen)
    for seen in (square, Account.holdings, Account("a").holdings, Account.of, Account.norm):
        assert not inspect.iscoroutinefunction(seen)


def test_methods_compare_hash_and_die_as_methods_do():
    account, other = Account("a"), Account("a")
    assert account.holdings == account.holdings
    assert hash(account.holdings) == hash(account.holdings)
    assert account.holdings != other.holdings, "as bound methods: by identity of the object"
    assert account.holdings != account.aholdings
    assert Account.holdings == Account.holdings
    assert Account.holdings != account.holdings
    assert len({square, square, plain}) == 2
    callbacks = [account.holdings]
    callbacks.remove(account.holdings)
    assert weakref.ref(square)() is square
    kept = weakref.WeakMethod(account.holdings)
    assert kept() == account.holdings
    del account
    gc.collect()
    assert kept() is None


def test_copies_are_the_function_itself():
    for seen in (square, asquare, Account.holdings, Account.norm):
        assert copy.copy(seen) is seen
        assert copy.deepcopy(seen) is seen
    assert copy.copy(MISSING) is MISSING
    assert copy.deepcopy({"a": MISSING})["a"] is MISSING


def test_missing_is_one_false_object():
    assert not MISSING
    assert repr(MISSING) == str([MISSING])[1:-1] == "MISSING"
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING
    assert isinstance(MISSING, Missing)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_functions_and_methods_pickle_by_name(protocol):
    def again(value):
        return pickle.loads(pickle.dumps(value, protocol))

    for seen in (square, asquare, Account.holdings, Account.norm):
        assert again(seen) is seen
    assert again(Account("a").holdings)("x", 7) == "a/x/7"
    assert again(Savings.of).__self__ is Savings
    assert again(functools.partial(square, 2)).func is square


def test_a_spawned_pool_maps_a_decorated_function(default, monkeypatch):
    monkeypatch.setenv("DECORATED_RUN", "pool")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first = pool.map(square, [1, 2, 3])
        assert [value for value, _ in first] == [1, 4, 9]
        assert os.getpid() not in [pid for _, pid in first]
        assert pool.map(square, [1, 2, 3]) == first, "hits, whoever asked"
        assert pool.map(Account("a").holdings, ["x", "y"]) == ["a/x/1", "a/y/1"]
    default.clear("test-decorated-pool")


def test_attributes_of_the_function_stay(memo):
    def fetch(x):
        return x

    fetch.limit = 3
    assert memo()(fetch).limit == 3

    class Client:
        @memo()
        def fetch(self):
            return 1

        fetch.limit = 3

    assert Client.fetch.limit == Client().fetch.limit == 3


# ------------------------------------------------------------------------------------------------------------ calls


def counting(function):
    """Let a function note its calls in ``calls``."""

    @functools.wraps(function)
    def counted(*args, **kwargs):
        counted.calls.append((args, kwargs))
        return function(*args, **kwargs)

    counted.calls = []
    return counted


_DEFINITIONS = [
    "def f(): pass",
    "def f(a, b=1): pass",
    "def f(a, /, b, *, c): pass",
    "def f(*args, c=1): pass",
    "def f(a, **kwargs): pass",
    "def f(*, c): pass",
    "def f(self, cls): pass",
]
_WRONG = ["f()", "f(1, 2, 3)", "f(1, a=1)", "f(d=1)", "f(1, 2, c=1, c2=2)", "f(*[1] * 5, **{'x': 1})"]


@pytest.mark.parametrize("definition", _DEFINITIONS)
def test_a_wrong_call_gets_the_functions_own_words(memo, definition):
    scope = {}
    exec(definition, scope)
    own, decorated_one = scope["f"], memo(name="f")(scope["f"])
    adef = definition.replace("def", "async def", 1)
    exec(adef, scope)
    asynchronous = memo(name="f")(scope["f"])
    wrong = 0
    for call in _WRONG:
        try:
            eval(call, {"f": own})
        except TypeError as error:
            wrong += 1
            expected = str(error)
        else:
            continue
        for ask in (
            call,
            call.replace("f(", "f.peek("),
            call.replace("f(", "f.refresh("),
            call.replace("f(", "f.cache_key("),
        ):
            with pytest.raises(TypeError) as caught:
                eval(ask, {"f": decorated_one})
            assert str(caught.value) == expected, ask
        with pytest.raises(TypeError) as caught:
            asyncio.run(eval(call, {"f": asynchronous}))
        assert str(caught.value) == expected
    assert wrong


def test_a_wrong_method_call_gets_the_methods_own_words(memo):
    class Plain:
        def m(self, x):
            pass

    class Cached:
        @memo()
        def m(self, x):
            pass

    for call in ("C().m()", "C().m(1, 2)", "C.m()", "C().m(1, self=2)", "C().m(y=1)"):
        said = []
        for cls in (Plain, Cached):
            with pytest.raises(TypeError) as caught:
                eval(call, {"C": cls})
            said.append(str(caught.value).replace(cls.__name__, "C"))
        assert said[0] == said[1], call


@pytest.mark.parametrize("asynchronous", [False, True])
def test_any_parameter_name_is_the_functions_own(memo, asynchronous):
    """Peers swallow ``ttl``, ``key`` and ``result``, or crash on them; dogpile drops ``cls``."""
    names = (
        "ttl key namespace self cls fn value function args kwargs memo op call flow cache name version ignore result "
        "instance owner of bound wrapped default compute settings"
    ).split()
    for name in names:
        scope = {"calls": []}
        prefix = "async " if asynchronous else ""
        exec(f"{prefix}def f({name}, x=0):\n calls.append({name})\n return ({name}, x)", scope)
        f = memo(name=f"f-{name}")(scope["f"])

        def run(result):
            async def wait():
                return await result

            return asyncio.run(wait()) if asynchronous else result

        assert run(f(**{name: 1})) == (1, 0)
        assert run(f(1)) == (1, 0)
        assert run(f(2)) == (2, 0)
        assert scope["calls"] == [1, 2], name
        assert run(f.peek(**{name: 1})) == (1, 0)
        assert run(f.store("stored", **{name: 1})) is True
        assert run(f(1)) == "stored"
        assert run(f.refresh(**{name: 1})) == (1, 0)
        assert run(f.explain(**{name: 1})).state == "stored"
        assert f.cache_key(**{name: 1}) == f.cache_key(1)
        assert run(invalidate(f, **{name: 1})) == 1
        assert run(f.invalidate(**{name: 2})) == 1
        assert run(f.peek(1)) is MISSING


def test_keywords_of_a_kwargs_function_may_be_called_anything(memo):
    @memo()
    def f(**kwargs):
        return sorted(kwargs)

    given = {"self": 1, "value": 2, "function": 3, "args": 4, "kwargs": 5, "ttl": 6, "memo": 7}
    assert f(**given) == sorted(given)
    assert f.peek(**given) == sorted(given)
    assert f.store("x", **given)
    assert f(**given) == "x"
    assert f.invalidate(self=1, value=2, function=3) == 1
    assert f.peek(**given) is MISSING


def test_lambdas_partials_and_callable_objects(memo):
    double = memo()(lambda x: x * 2)
    assert (double(4), double.peek(4), double.cache_info().misses) == (8, 8, 1)

    def scaled(factor, x):
        return factor * x

    by_three, by_four = memo()(functools.partial(scaled, 3)), memo()(functools.partial(scaled, 4))
    assert (by_three(2), by_four(2), by_three(x=2)) == (6, 8, 6), "what a partial holds is part of what it is"
    assert by_three.__name__ == "scaled"

    class Model:
        """A model."""

        def __init__(self, weight):
            self.weight = weight

        def __call__(self, x: int) -> int:
            return self.weight * x

        def predict(self, x):
            return self.weight * x

    small, large = memo()(Model(2)), memo()(Model(3))
    assert (small(5), large(5), small(x=5)) == (10, 15, 10)
    assert small.__doc__ == "A model."
    assert small.__name__ == "Model"
    assert small.__module__ == __name__
    assert list(inspect.signature(small).parameters) == ["x"]

    one, two = memo()(Model(2).predict), memo()(Model(3).predict)
    assert (one(5), two(5)) == (10, 15)
    assert inspect.isfunction(one)

    class Remote:
        async def __call__(self, x):
            return x + 1

    remote = memo()(Remote())
    assert inspect.iscoroutinefunction(remote)
    assert asyncio.run(remote(1)) == 2

    async def coroutine(a, x):
        return a + x

    part = memo()(functools.partial(coroutine, 1))
    assert inspect.iscoroutinefunction(part)
    assert asyncio.run(part(2)) == 3
    assert memo()(max)(1, 5) == 5 if _has_signature(max) else True


def _has_signature(function):
    try:
        inspect.signature(function)
    except ValueError:
        return False
    return True


def test_nested_functions_with_different_closures_never_share(memo):
    """All seven peers that were measured mix these up."""

    def make(rate):
        @memo()
        def price(x):
            return rate * x

        return price

    low, high, low_again = make(2), make(3), make(2)
    assert (low(10), high(10)) == (20, 30)
    assert low.cache_key(10) != high.cache_key(10)
    assert low_again.peek(10) == 20, "equal closures are one function"

    def clients(lock):
        @memo()
        def fetch(x):
            with lock:
                return x

        return fetch

    first, second = clients(threading.Lock()), clients(threading.Lock())
    assert first(1) == 1
    assert second.peek(1) is MISSING, "what cannot be keyed is shared with nobody"


def test_two_classes_methods_of_one_name_never_share(memo):
    class A:
        @memo()
        def value(self):
            return "a"

        @memo()
        @staticmethod
        def static(x):
            return ("a", x)

    class B:
        @memo()
        def value(self):
            return "b"

        @memo()
        @staticmethod
        def static(x):
            return ("b", x)

    assert (A().value(), B().value(), A.static(1), B.static(1)) == ("a", "b", ("a", 1), ("b", 1))


def test_a_function_in_a_method_is_a_function(memo):
    class Service:
        def run(self, x):
            @memo()
            def inner(y):
                return y + 1

            assert inspect.isfunction(inner)
            return inner(x)

    assert Service().run(1) == 2


def test_a_default_that_is_a_sentinel(memo):
    unset = object()

    @memo()
    def f(x, limit=unset):
        return "all" if limit is unset else limit

    assert [f(1), f(1, unset), f(1, 5), f(1)] == ["all", "all", 5, "all"]
    assert f.cache_info().misses == 2
    assert f.invalidate(x=1) == 2


class Rows:
    """An argument that becomes part of a key when the test lets it."""

    begun, go_on = threading.Event(), threading.Event()

    def __init__(self, slow):
        self.slow = slow

    def __memo_key__(self):
        if self.slow:
            self.begun.set()
            assert self.go_on.wait(10)
        return self.slow


@pytest.mark.parametrize("ignore", [(), ("token",)])
def test_p1_p8_a_default_that_is_a_sentinel_in_first_calls_of_several_threads(memo, monkeypatch, ignore):
    """The first call to end finds that the default cannot be keyed, while another one is about to find it too."""
    monkeypatch.setattr(Rows, "begun", threading.Event())
    monkeypatch.setattr(Rows, "go_on", threading.Event())
    unset = object()

    @memo(ignore=ignore)
    def f(rows, limit=unset, **more):
        return "all" if limit is unset else limit

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(f, Rows(True))
        assert Rows.begun.wait(10)
        try:
            assert f(Rows(False)) == "all"
        finally:
            Rows.go_on.set()
        assert slow.result() == "all"
    assert f(Rows(True), unset) == f(Rows(False), limit=unset) == "all"
    assert f.cache_info()[:2] == (2, 2)


def test_exceptions_reach_the_caller_as_they_were_and_are_never_stored(memo):
    calls = []

    @memo()
    def fail(x):
        calls.append(x)
        raise LookupError(x)

    for _ in range(2):
        with pytest.raises(LookupError) as caught:
            fail(1)
        assert caught.value.args == (1,)
        assert any(frame.name == "fail" for frame in caught.traceback), "the traceback leads to the function"
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None
    assert calls == [1, 1]
    assert fail.cache_info().currsize == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_releases_the_lease(memo, error):
    """P4: whoever comes next does not wait for a lease to end."""
    interrupted = []

    @memo()
    def slow(x):
        if not interrupted:
            interrupted.append(x)
            raise error
        return "done"

    with pytest.raises(error):
        slow(1)
    assert slow.explain(1).state == "absent"
    assert slow(1) == "done"


# ---------------------------------------------------------------------------------------------------------- methods


def test_a_bound_method_knows_its_object(default):
    Account.calls.clear()
    one, two = Account("one"), Account("two")
    assert (one.holdings("INFY"), two.holdings("INFY")) == ("one/INFY/1", "two/INFY/1"), "two accounts never share"
    assert Account("one").holdings("INFY") == "one/INFY/1"
    assert Account.calls == [("one", "INFY", 1), ("two", "INFY", 1)], "an equal object is the same"
    assert one.holdings.peek("INFY") == "one/INFY/1"
    assert Account.holdings.peek(two, "INFY") == "two/INFY/1"
    assert one.holdings.peek("TCS") is MISSING
    assert one.holdings.store("given", symbol="TCS")
    assert one.holdings("TCS") == "given"
    assert two.holdings.peek("TCS") is MISSING
    assert one.holdings.refresh("TCS") == "one/TCS/1"
    assert one.holdings.cache_key("TCS") == Account.holdings.cache_key(Account("one"), "TCS", 1)
    assert one.holdings.explain("TCS").state == "stored"
    assert one.holdings.cache_info().currsize == 3, "of the function"

    assert one.holdings.invalidate(symbol="TCS") == 1
    assert one.holdings.invalidate() == 1, "only of that object"
    assert two.holdings.peek("INFY") == "two/INFY/1"
    one.holdings("INFY")
    assert invalidate(Account.holdings, symbol="INFY") == 2, "of every object"
    one.holdings("INFY")
    assert invalidate(Account.holdings, self=Account("two")) == 0
    assert invalidate(one.holdings, symbol="INFY", day=1) == 1
    one.holdings("INFY")
    assert clear(Account.holdings) == 1
    with pytest.raises(TypeError, match="self"):
        one.holdings.invalidate(self=two)
    with pytest.raises(TypeError, match="symbol"):
        one.holdings.invalidate(symbl="INFY")


def test_an_async_method_knows_its_object(default):
    async def main():
        one = Account("one")
        assert await one.aholdings("INFY") == "one/INFY"
        assert await one.aholdings.peek("INFY") == "one/INFY"
        assert await Account.aholdings.peek(one, "INFY") == "one/INFY"
        assert await Account("two").aholdings.peek("INFY") is MISSING
        assert await one.aholdings.invalidate() == 1
        assert await one.aholdings.store("given", "INFY")
        assert await one.aholdings.refresh("INFY") == "one/INFY"
        assert (await one.aholdings.cache_info()).currsize == 1
        assert await invalidate(Account.aholdings) == 1
        assert await clear(Account.aholdings) == 0

    asyncio.run(main())


@pytest.mark.parametrize("above", [True, False])
def test_class_and_static_methods_in_both_orders(memo, above, monkeypatch):
    def both(kind):
        return (lambda f: memo()(kind(f))) if above else (lambda f: kind(memo()(f)))

    class Base:
        @both(classmethod)
        def of(cls, name):
            """Make."""
            return (cls.__name__, name)

        @both(staticmethod)
        def norm(symbol, upper=True):
            """Spell."""
            return symbol.upper() if upper else symbol

        @both(classmethod)
        async def aof(cls, name):
            return (cls.__name__, name)

        @both(staticmethod)
        async def anorm(symbol):
            return symbol.upper()

    class Sub(Base):
        pass

    assert (Base.of("x"), Sub.of("x"), Base().of(name="x"), Sub().of("y")) == (
        ("Base", "x"), ("Sub", "x"), ("Base", "x"), ("Sub", "y"),
    )  # fmt: skip
    assert (Base.norm("x"), Base().norm(symbol="x"), Sub.norm("x", upper=False)) == ("X", "X", "x")
    assert Base.of.__doc__ == "Make."
    assert Base.norm.__doc__ == "Spell."
    assert list(inspect.signature(Base.of).parameters) == ["name"]
    assert list(inspect.signature(Base().norm).parameters) == ["symbol", "upper"]
    assert Base.norm.peek("x") == Base().norm.peek("x") == "X"
    assert Base().norm.store("given", "z")
    assert Base.norm("z") == "given"
    assert invalidate(Base.norm, symbol="x", upper=True) == 1
    assert asyncio.run(Base.aof("x")) == ("Base", "x")
    assert asyncio.run(Sub().aof("x")) == ("Sub", "x")
    assert asyncio.run(Sub().anorm("x")) == "X"
    assert inspect.iscoroutinefunction(Base.aof)
    assert inspect.iscoroutinefunction(Base().anorm)
    if above or sys.version_info < (3, 13):
        assert Base.of.peek("x") == ("Base", "x")
        assert Sub().of.peek("y") == ("Sub", "y")
        assert Sub.of.invalidate(name="x") == 1
        assert Base.of.invalidate() == 1, "only of that class"
        assert Sub.of.peek("y") == ("Sub", "y")
    assert invalidate(Sub.of, name="y") == 1


class Below:
    """As Python 3.13 leaves what stands below ``@classmethod``: called with the class, but not told of it."""

    @classmethod
    @redis_cached(namespace="test-below", ttl=60)
    def of(cls, name):
        return (cls.__name__, name)


def test_below_classmethod_the_cache_never_guesses_the_class(default, monkeypatch):
    handle = vars(Below)["of"].__func__
    monkeypatch.setattr(_handle, "_CLASSMETHOD_BINDS_BY_DESCRIPTOR", False)
    seen = types.MethodType(handle, Below)
    assert seen("x") == ("Below", "x")
    assert inspect.signature(seen) == inspect.signature(Below.of)
    for ask in (seen.peek, seen.refresh, seen.cache_key, seen.explain, functools.partial(seen.store, 1)):
        with pytest.raises(TypeError, match="above @classmethod"):
            ask("x")
    assert invalidate(seen, name="x") == 1
    assert default.clear("test-below") == 0


def test_self_is_never_guessed(memo):
    """P1: an object that cannot be keyed raises, and names both ways out."""

    class Client:
        def __init__(self):
            self.lock = threading.Lock()

        @memo()
        def fetch(self, symbol):
            return symbol

        @memo()
        async def afetch(self, symbol):
            return symbol

    with pytest.raises(KeyingError) as caught:
        Client().fetch("INFY")
    said = str(caught.value)
    assert "ignore=('self',)" in said
    assert "__memo_key__" in said
    assert "fetch" in said
    assert caught.value.parameter == "self"
    with pytest.raises(KeyingError):
        asyncio.run(Client().afetch("INFY"))
    with pytest.raises(KeyingError):
        Client().fetch.peek("INFY")
    with pytest.raises(KeyingError):
        Client().fetch.invalidate(symbol="INFY")


def test_ignoring_self_shares_between_objects(memo):
    class Client:
        def __init__(self):
            self.lock = threading.Lock()

        @memo(ignore=("self",))
        def fetch(self, symbol):
            return [symbol]

    assert Client().fetch("INFY") == ["INFY"]
    assert Client().fetch.peek("INFY") == ["INFY"]
    assert Client().fetch.cache_info().misses == 1
    assert Client().fetch.invalidate(symbol="INFY") == 1
    with pytest.raises(TypeError, match="ignored"):
        invalidate(Client.fetch, self=1)


def test_a_key_method_on_the_class_tells_accounts_apart(memo):
    class Client:
        def __init__(self, account):
            self.account = account
            self.lock = threading.Lock()

        def __memo_key__(self):
            return self.account

        @memo()
        def positions(self, day):
            return f"{self.account} on {day}"

    assert (Client("a").positions(1), Client("b").positions(1)) == ("a on 1", "b on 1")
    assert Client("a").positions.peek(1) == "a on 1"
    assert Client("a").positions.invalidate() == 1
    assert Client("b").positions.peek(1) == "b on 1"


def test_a_key_hook_of_a_method(memo):
    class Client:
        def __init__(self, account):
            self.account = account
            self.lock = threading.Lock()

        @memo(key=lambda self, symbol: (self.account, symbol))
        def fetch(self, symbol, verbose=False):
            return f"{self.account}/{symbol}"

    assert (Client("a").fetch("x"), Client("b").fetch("x")) == ("a/x", "b/x")
    assert Client("a").fetch.peek("x", verbose=True) == "a/x"
    assert Client("a").fetch.invalidate(symbol="x") == 1
    assert Client("b").fetch.peek("x") == "b/x"
    assert Client("a").fetch.invalidate(verbose=False) == 1, "no object in the entries: of every object"


def test_inheritance(memo):
    class Base:
        def __init__(self, name):
            self.name = name

        @memo()
        def kind(self):
            return f"{type(self).__name__}.{self.name}"

        @memo()
        def over(self, x):
            return f"base {x}"

    class Sub(Base):
        @memo()
        def over(self, x):
            return "sub, " + super().over(x)

    class Plain(Base):
        def over(self, x):
            return "plain, " + super().over(x)

    assert (Base("a").kind(), Sub("a").kind(), Sub("b").kind()) == ("Base.a", "Sub.a", "Sub.b")
    assert Sub("a").over(1) == "sub, base 1"
    assert Plain("a").over(1) == "plain, base 1"
    assert Sub("a").over.peek(1) == "sub, base 1"
    assert super(Sub, Sub("a")).over.peek(1) == "base 1"
    assert Base.over.peek(Plain("a"), 1) == "base 1"
    assert Sub("a").over.invalidate() == 1
    assert super(Sub, Sub("a")).over.peek(1) == "base 1", "the override's entries are its own"


@pytest.mark.parametrize("above", [True, False])
def test_abstract_methods(memo, above):
    order = (lambda f: memo()(abc.abstractmethod(f))) if above else (lambda f: abc.abstractmethod(memo()(f)))

    class Source(abc.ABC):
        @order
        def load(self, x): ...

    with pytest.raises(TypeError, match="abstract"):
        Source()

    class File(Source):
        @memo()
        def load(self, x):
            return x

    assert File().load(1) == 1
    assert File().load.peek(1) == 1


def test_property_over_the_decorator(memo):
    class Report:
        def __init__(self, year):
            self.year = year

        @property
        @memo()
        def total(self):
            """The total."""
            return self.year * 10

        @functools.cached_property
        @memo()
        def once(self):
            return self.year

    assert Report(3).total == Report(3).total == 30
    assert Report(4).total == 40
    assert Report(5).once == 5
    assert Report.total.__doc__ == "The total."
    assert Report.total.fget.peek(Report(3)) == 30
    assert Report.total.fget.cache_info()[:2] == (1, 2)
    assert invalidate(Report.total.fget) == 2


def test_classes_of_every_make(memo):
    class Slots:
        __slots__ = ("a",)

        def __init__(self, a):
            self.a = a

        @memo()
        def m(self, x):
            return ("slots", self.a, x)

    @dataclasses.dataclass
    class Data:
        a: int

        @memo()
        def m(self, x):
            return ("data", self.a, x)

    @dataclasses.dataclass(frozen=True, slots=True)
    class Frozen:
        a: int

        @memo()
        def m(self, x):
            return ("frozen", self.a, x)

    class Named(typing.NamedTuple):
        a: int

        @memo()
        def m(self, x):
            return ("named", self.a, x)

    class Kind(enum.Enum):
        ONE = 1
        TWO = 2

        @memo()
        def m(self, x):
            return ("enum", self.value, x)

    class Generic(typing.Generic[typing.TypeVar("T")]):
        def __init__(self, a):
            self.a = a

        @memo()
        def m(self, x):
            return ("generic", self.a, x)

    class Meta(type):
        @memo()
        def m(cls, x):
            return ("meta", cls.__name__[-1], x)

    class One(metaclass=Meta): ...

    assert set(Kind) == {Kind.ONE, Kind.TWO}
    assert [field.name for field in dataclasses.fields(Data)] == ["a"]
    for name, first, second in [
        ("slots", Slots(1), Slots(2)),
        ("data", Data(1), Data(2)),
        ("frozen", Frozen(1), Frozen(2)),
        ("named", Named(1), Named(2)),
        ("enum", Kind.ONE, Kind.TWO),
        ("generic", Generic[int](1), Generic(2)),
    ]:
        assert (first.m("x"), second.m("x"), first.m(x="x")) == ((name, 1, "x"), (name, 2, "x"), (name, 1, "x"))
        assert first.m.peek("x") == (name, 1, "x")
        assert first.m.cache_info().misses == 2
        assert first.m.invalidate() == 1
        assert second.m.peek("x") == (name, 2, "x")
    assert One.m("x") == ("meta", "e", "x")
    assert One.m.peek("x") == ("meta", "e", "x")


def test_methods_of_a_pydantic_model(memo):
    pydantic = pytest.importorskip("pydantic")

    class Portfolio(pydantic.BaseModel):
        owner: str
        shares: int = 1

        @memo()
        def value(self, price: float) -> float:
            """What it is worth."""
            return self.shares * price

        @memo()
        async def avalue(self, price: float) -> float:
            return self.shares * price

        @memo()
        @classmethod
        def empty(cls, owner: str) -> str:
            return f"{cls.__name__} of {owner}"

        @memo()
        @staticmethod
        def tax(amount: float) -> float:
            return amount / 5

        @classmethod
        @memo()
        def below(cls) -> str:
            return cls.__name__

        @pydantic.computed_field
        @property
        @memo()
        def label(self) -> str:
            return f"{self.owner}*"

    class Joint(Portfolio):
        other: str = "?"

    two = Portfolio(owner="a", shares=2)
    assert set(Portfolio.model_fields) == {"owner", "shares"}
    assert (two.value(5.0), Portfolio(owner="a", shares=3).value(5.0), Portfolio(owner="a", shares=2).value(5.0)) == (
        10,
        15,
        10,
    )
    assert two.value.cache_info().misses == 2
    assert two.value.peek(5.0) == 10
    assert Joint(owner="a", shares=2).value.peek(5.0) is MISSING
    assert two.value.invalidate() == 1
    assert asyncio.run(two.avalue(1.0)) == 2
    assert (Portfolio.empty("x"), Joint.empty("x")) == ("Portfolio of x", "Joint of x")
    assert two.tax(10) == 2
    assert two.below() == "Portfolio"
    assert two.model_dump() == {"owner": "a", "shares": 2, "label": "a*"}
    assert Portfolio.value.__doc__ == "What it is worth."
    assert type(Portfolio.value).__name__ == "Memoized"
    assert Portfolio.value.__class__ is type(Portfolio.value), "a function only as long as the class is being made"

    @pydantic.validate_call
    @memo()
    def checked(x: int) -> int:
        return x

    assert checked("3") == 3


def test_a_protocol_is_met_by_a_decorated_method(memo):
    @typing.runtime_checkable
    class Loads(typing.Protocol):
        def load(self, x: int) -> int: ...

    class File:
        @memo()
        def load(self, x: int) -> int:
            return x

    assert isinstance(File(), Loads)


def test_a_method_set_on_a_class_later(memo):
    class Client:
        def fetch(self, x):
            return x

    Client.fetch = memo()(Client.fetch)
    assert Client().fetch(1) == 1
    assert Client().fetch.peek(1) == 1

    client = Client()
    client.fetch = lambda x: "mine"
    assert client.fetch(1) == "mine", "an object's own attribute goes first, as with functions"


# ------------------------------------------------------------------------------------------------ other decorators


def test_under_other_decorators(memo):
    def loud(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    @loud
    @memo()
    def f(x, y=1):
        return x + y

    assert f(1) == 2
    assert f.peek(1) == 2
    assert str(inspect.signature(f)) == "(x, y=1)"
    assert invalidate(f, x=1) == 1
    assert cache_info(f).misses == 1
    assert clear(f) == 0

    class Client:
        def __init__(self, name):
            self.name = name

        @loud
        @memo()
        def fetch(self, x):
            return (self.name, x)

        @staticmethod
        @loud
        @memo()
        def norm(x):
            return x

    one, two = Client("one"), Client("two")
    assert (one.fetch(1), two.fetch(1), Client.norm(1)) == (("one", 1), ("two", 1), 1)
    assert cache_info(one.fetch).misses == 2
    assert invalidate(one.fetch, x=1) == 1, "through the other decorator, of that object"
    assert invalidate(Client.fetch) == 1
    assert invalidate(Client.norm) == 1
    with pytest.raises(TypeError, match="not decorated"):
        invalidate(loud(len))
    for wrong in (len, 3, None, "x", Client, mock.Mock()):
        with pytest.raises(TypeError, match="not decorated"):
            cache_info(wrong)
        if not isinstance(wrong, str):  # the name of a namespace
            with pytest.raises(TypeError, match="not decorated"):
                invalidate(wrong)


def test_above_other_decorators(memo):
    def doubling(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return 2 * function(*args, **kwargs)

        return wrapper

    @memo()
    @doubling
    def f(x, y=1):
        return x + y

    assert (f(1), f(x=1), f.peek(1)) == (4, 4, 4)
    assert str(inspect.signature(f)) == "(x, y=1)"
    assert f.cache_info().misses == 1

    @memo()
    @memo()
    def twice(x):
        return x

    assert (twice(1), twice(1), twice.peek(1)) == (1, 1, 1)


@pytest.mark.parametrize(
    "rows",
    [[], [1, 2], np.arange(5), np.zeros(0), pd.DataFrame({"a": [1, 2]}), pd.Series([0.5])],
    ids=lambda rows: f"{type(rows).__name__} of {len(rows)}",
)
def test_p8_above_other_decorators_an_argument_need_not_be_true_or_false(memo, rows):
    """Arrays and frames refuse to be either."""

    def loud(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    @memo()
    @loud
    def f(rows, scale=1, *, weights=None):
        return [len(rows) * scale]

    assert f.peek(rows) is MISSING
    assert f.explain(rows).state == "absent"
    assert (f(rows), f(rows), f.peek(rows)) == ([len(rows)],) * 3
    assert f(rows, weights=rows) == f(rows, 1, weights=rows) == [len(rows)]
    assert f.cache_info()[:2] == (1, 3)
    explained = f.explain(rows)
    assert explained.state == "stored"
    assert explained.parts[0].type_name.endswith(type(rows).__name__)
    assert f.invalidate(rows=rows) == 3


def test_above_lru_cache(memo):
    @memo()
    @functools.lru_cache
    def g(x, y=1):
        return x + y

    assert (g(1), g(x=1), g(1, 1)) == (2, 2, 2)
    assert g.cache_info().misses == 1, "ours, not the one below"


def test_mocks_with_a_specification():
    double = mock.create_autospec(square, return_value="x")
    assert double(3, power=1) == "x"
    with pytest.raises(TypeError):
        double(3, 4, 5)
    client = mock.create_autospec(Account, instance=True)
    client.holdings.return_value = "mocked"
    assert client.holdings("INFY") == "mocked"
    assert isinstance(mock.create_autospec(asquare), types.FunctionType)
    assert inspect.iscoroutinefunction(mock.create_autospec(Account).aholdings)
    with mock.patch.object(Account, "holdings", autospec=True, return_value="patched"):
        assert Account("a").holdings("x") == "patched"
    with mock.patch.object(decorated, "square", autospec=True) as patched:
        decorated.square(1)
        patched.assert_called_once_with(1)


def test_a_decorated_function_is_an_argument_as_any_function(memo):
    """P1: what its counters say is no part of what a function is."""

    @memo()
    def apply(function, x):
        return function(x)

    def make(rate):
        @memo()
        def scaled(x):
            return rate * x

        return scaled

    assert apply(square, 3)[0] == 9
    assert apply(square, 3)[0] == 9
    assert (apply(make(2), 3), apply(make(3), 3), apply(make(2), 3)) == (6, 9, 6)
    assert apply.cache_info().misses == 3
    account = Account("a")
    assert apply.cache_key(account.holdings, 1) == apply.cache_key(Account("a").holdings, 1)
    assert apply.cache_key(account.holdings, 1) != apply.cache_key(Account("b").holdings, 1)
    assert apply.cache_key(Account.holdings, 1) != apply.cache_key(Account.norm, 1)


# --------------------------------------------------------------------------------------------- mistakes at decoration


def test_what_cannot_be_decorated_is_refused_with_a_reason(memo):
    def generator(x):
        yield x

    async def agenerator(x):
        yield x

    class Items:
        def __call__(self):
            yield 1

    for refused in (
        generator,
        agenerator,
        functools.partial(generator, 1),
        Items(),
        staticmethod(generator),
        classmethod(agenerator),
    ):
        with pytest.raises(ConfigurationError, match=r"generator.*list"):
            memo()(refused)
    for refused in (property(lambda self: 1), functools.cached_property(lambda self: 1)):
        with pytest.raises(ConfigurationError, match="below @property"):
            memo()(refused)
    for refused in (Account, int, 3, None, "text", {}):
        with pytest.raises(ConfigurationError, match="functions and methods"):
            memo()(refused)


async def atop(x): ...


class Shop:
    def price(self, x): ...

    @classmethod
    def of(cls, x): ...

    @staticmethod
    def pure(x): ...

    @property
    def name(self): ...


@pytest.mark.parametrize(
    ("decorated", "name"),
    [
        (square.__wrapped__, "square"), (atop, "atop"), (Shop.price, r"Shop\.price"), (Shop.__dict__["of"], r"Shop\.of"),
        (Shop.__dict__["pure"], r"Shop\.pure"), (Shop.name, r"Shop\.name"), (functools.partial(atop, 1), "atop"),
        (lambda x: x, "<lambda>"),
    ],
)  # fmt: skip
def test_forgotten_parentheses_are_told_with_the_function_and_what_to_write(decorated, name):
    for mistake in (lambda: redis_cached(decorated), lambda: redis_cached(decorated, namespace="x", ttl=60)):
        with pytest.raises(
            ConfigurationError, match=rf"{name}: .*write @redis_cached\(namespace=.*, ttl=.*\)"
        ) as caught:
            mistake()
        assert isinstance(caught.value, TypeError)


def test_positional_options_and_a_namespace_left_out_are_told_with_what_to_write():
    for mistake in (
        lambda: redis_cached("TOPSECRET"),
        lambda: redis_cached("TOPSECRET", 60),
        lambda: redis_cached("TOPSECRET", ttl="5m"),
        lambda: redis_cached(None),
        lambda: redis_cached(),
        lambda: redis_cached(ttl=60),
    ):
        with pytest.raises(ConfigurationError, match=r"by name|namespace") as caught:
            mistake()
        assert isinstance(caught.value, TypeError)
        assert "write @redis_cached(namespace=" in str(caught.value)
        assert "TOPSECRET" not in str(caught.value)


def test_p8_the_decorator_shows_its_options():
    parameters = inspect.signature(redis_cached).parameters
    assert list(parameters)[:2] == ["namespace", "ttl"]
    assert {each.kind for each in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert parameters["namespace"].default is inspect.Parameter.empty


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"namespace": ""}, "namespace"),
        ({"namespace": 3}, "namespace"),
        ({"ttl": -1}, "parsecs|ttl|lifetime|second|duration|year"),
        ({"ttl": "5 parsecs"}, "parsecs|ttl|lifetime|second|duration|year"),
        ({"ttl": float("nan")}, "parsecs|ttl|lifetime|second|duration|year"),
        ({"ttl": True}, "parsecs|ttl|lifetime|second|duration|year"),
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"version": ""}, "version"),
        ({"version": 3}, "version"),
        ({"key": 3}, "key="),
        ({"key": "symbol"}, "key="),
        ({"ignore": "x"}, "ignore="),
        ({"ignore": ("z",)}, "'z'"),
        ({"ignore": (1,)}, "ignore="),
        ({"ignore": None}, "ignore="),
        ({"ignore": 3}, "ignore="),
        ({"ignore": (name for name in ("x",))}, "ignore="),
        ({"ttl": market_aware}, r"market_aware\(\)"),
        ({"ttl": jittered}, r"jittered\("),
        ({"cache_if": 3}, "cache_if="),
        ({"compress": "best"}, "compress"),
        ({"on_error": "ignore"}, "on_error"),
        ({"cache": "redis://localhost"}, "connect"),
    ],
)
def test_a_wrong_option_is_refused_at_decoration(options, said):
    with pytest.raises(ConfigurationError, match=said):
        redis_cached(**{"namespace": "x", "ttl": 60} | options)(lambda x: x)


def test_an_unknown_option_is_told_with_what_may_be_meant():
    for options, said in (
        ({"tll": 3}, "'tll'.*did you mean 'ttl'"),
        ({"zzz": "TOPSECRET"}, "'zzz'.*options are .*ttl"),
    ):
        with pytest.raises(ConfigurationError, match=said) as caught:
            redis_cached(namespace="x", **options)
        assert isinstance(caught.value, TypeError)
        assert "TOPSECRET" not in str(caught.value)


def test_without_any_expiry_a_call_is_refused_before_the_work(cache, namespace):
    """P7: every entry has an expiry."""
    calls = []

    @redis_cached(namespace=namespace, cache=cache)
    def f(x):
        calls.append(x)

    @redis_cached(namespace=namespace, cache=cache)
    async def af(x):
        calls.append(x)

    for call in (
        f,
        f.refresh,
        functools.partial(f.store, 1),
        lambda x: asyncio.run(af(x)),
        lambda x: asyncio.run(af.store(1, x)),
    ):
        with pytest.raises(ConfigurationError, match="ttl"):
            call(1)
    assert calls == []
    assert f.cache_parameters()["ttl"] is None
    assert f.peek(1) is MISSING
    assert f.invalidate() == 0


# ------------------------------------------------------------------------------------------------------------ options


def test_cache_parameters_tell_how_it_was_decorated(memo, namespace, cache):
    def identify(x):
        return x

    @memo(name="f", version="2", key=identify, ignore=("y",), compress=None, on_error="raise", cache_if=bool)
    def f(x, y):
        return x

    given = f.cache_parameters()
    assert given["namespace"] == namespace
    assert (given["name"], given["version"], given["key"], given["ignore"]) == ("f", "2", identify, ("y",))
    assert (given["compress"], given["on_error"], given["cache_if"], given["cache"]) == (None, "raise", bool, cache)
    assert (given["maxsize"], str(given["ttl"])) == (None, "1m")


def test_the_configured_cache_is_the_one_of_each_call(valkey_server, namespace):
    calls = []

    @redis_cached(namespace=namespace)
    def f(x):
        calls.append(x)
        return x

    configure(valkey_server.url, ttl="5m")
    assert (f(1), f(1)) == (1, 1)
    assert str(f.cache_parameters()["ttl"]) == "5m"
    configure("redis://127.0.0.1:1", ttl="7m")
    assert f(1) == 1, "computed: that server is not there"
    assert str(f.cache_parameters()["ttl"]) == "7m"
    configure(valkey_server.url, ttl=60)
    assert f(1) == 1
    assert calls == [1, 1]
    assert clear(namespace) == 1


def test_one_name_is_one_function(memo):
    @memo(name="prices")
    def old(symbol, days=1):
        return "old"

    @memo(name="prices")
    def moved(symbol, days=1):
        return "moved"

    assert (old("x"), moved("x")) == ("old", "old")
    assert old.cache_key("x") == moved.cache_key("x")
    assert moved.invalidate(symbol="x") == 1


def test_a_version_is_part_of_the_key(memo):
    @memo(name="f", version="1")
    def first(x):
        return 1

    @memo(name="f", version="2")
    def second(x):
        return 2

    assert (first(0), second(0), first(0)) == (1, 2, 1)
    assert first.cache_key(0) != second.cache_key(0)


def test_the_source_as_version_follows_code_and_not_comments(tmp_path):
    """An edit makes new entries, a comment does not."""

    def keys(body):
        module = f"edited_{uuid.uuid4().hex[:8]}"
        (tmp_path / f"{module}.py").write_text(
            "from redis_memo import redis_cached\n"
            '@redis_cached(namespace="test-source", ttl=60, name="f", version="source")\n' + textwrap.dedent(body)
        )
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {module}; print({module}.f.cache_key(1))"
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    original = keys("def f(x):\n    return x + 1\n")
    commented = keys('def f(x):\n    """Add."""\n    # adds\n    return (x +\n            1)\n')
    edited = keys("def f(x):\n    return x + 2\n")
    assert original == commented
    assert original != edited


def test_a_key_hook_decides_what_identifies_a_call(memo):
    calls = []

    @memo(key=lambda symbol, day: (symbol.upper(), day))
    def fetch(symbol, day=1, retries=3):
        calls.append(symbol)
        return symbol

    assert (fetch("a"), fetch("A", retries=9), fetch("A", 1)) == ("a", "a", "a")
    assert fetch("A", 2) == "A"
    assert fetch.peek("A") == "a"
    assert fetch.invalidate(symbol="A", day=1) == 1
    assert calls == ["a", "A"]


def test_on_error_raise_gives_the_store_error_to_the_caller(namespace):
    """P5: whoever wants failure asks for it."""
    gone = redis_memo.connect("redis://127.0.0.1:1")

    @redis_cached(namespace=namespace, ttl=60, cache=gone, on_error="raise")
    def loud(x):
        return x

    @redis_cached(namespace=namespace, ttl=60, cache=gone, on_error="raise")
    async def aloud(x):
        return x

    @redis_cached(namespace=namespace, ttl=60, cache=gone)
    def quiet(x):
        return x

    for call in (loud, loud.peek, loud.refresh, functools.partial(loud.store, 1), lambda x: asyncio.run(aloud(x))):
        with pytest.raises(StoreUnavailable):
            call(1)
    assert quiet(1) == quiet.refresh(1) == 1
    assert quiet.peek(1) is MISSING
    assert quiet.store(1, 1) is False
    assert quiet.cache_info().currsize is None
    for function in (loud, quiet):
        with pytest.raises(StoreUnavailable):
            function.invalidate()


def test_p5_a_library_that_cannot_compress_a_result_costs_no_result(cache, namespace, monkeypatch, caplog):
    def fail(*_):
        raise ValueError("secret-2400")

    monkeypatch.setattr(_segments, "compress", fail)
    quotes = ["NSE:INFY"] * 500 + [f"NSE:{number:06}" for number in range(500)]

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def quiet(x):
        return quotes

    @redis_cached(namespace=namespace, ttl=60, cache=cache, on_error="raise")
    async def loud(x):
        return quotes

    assert quiet(1) == quiet.refresh(1) == quotes
    assert quiet.peek(1) is MISSING
    assert quiet.cache_info().refused == 2
    assert "type builtins.list could not be compressed (ValueError). The result is returned, not stored" in caplog.text
    assert "secret" not in caplog.text
    with pytest.raises(UnsupportedType, match="could not be compressed"):
        asyncio.run(loud(1))
    monkeypatch.undo()
    assert quiet(1) == asyncio.run(loud(1)) == quiet.peek(1) == quotes, "P4: and left no lease"


# ------------------------------------------------------------------------------------ event loops, threads, processes


def test_many_event_loops_one_after_the_other(memo, cache, recwarn):
    """No connection outlives its loop (warnings are errors)."""

    @memo()
    async def f(x):
        return x

    for x in range(5):
        assert asyncio.run(f(x)) == x
        assert asyncio.run(f(x)) == x
    assert asyncio.run(_awaited(f.cache_info())).hits == 5
    gc.collect()
    assert [str(each.message) for each in recwarn if issubclass(each.category, ResourceWarning)] == []


async def _awaited(result):
    return await result


def test_one_async_function_in_the_loops_of_many_threads(memo):
    """P4, across loops."""
    calls = []
    barrier = threading.Barrier(6)

    @memo()
    async def slow(x):
        calls.append(x)
        await asyncio.sleep(0.05)
        return x

    async def main():
        barrier.wait(10)
        return await asyncio.gather(*[slow(1) for _ in range(10)])

    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(asyncio.run, main()) for _ in range(6)]
        assert [each.result() for each in done] == [[1] * 10] * 6
    assert calls == [1]


class Watched(asyncio.SelectorEventLoop):
    """A loop that has ended. Who asks it whether it is closed waits for another who asks, though not for long."""

    looking: threading.Barrier | None = None

    def is_closed(self):
        if self.looking is not None:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.looking.wait(0.5)
        return super().is_closed()


def test_p5_p8_event_loops_of_several_threads_come_when_another_has_gone(memo):
    """As in a web server with threads, each of whose requests runs a loop of its own."""

    @memo()
    async def f(x):
        return x

    gone = Watched()
    assert gone.run_until_complete(f(1)) == 1
    gone.run_until_complete(gone.shutdown_asyncgens())
    gone.close()
    together = threading.Barrier(2)

    def request(number):
        together.wait(10)
        return [asyncio.run(f(number)), asyncio.run(f(1))]

    gone.looking = threading.Barrier(2)
    try:
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(request, (1, 2))) == [[1, 1], [2, 1]]
    finally:
        gone.looking = None


def test_a_sync_function_in_threads(memo):
    calls = []
    barrier = threading.Barrier(20)

    @memo()
    def slow(x):
        calls.append(x)
        return [x]

    def call(number):
        barrier.wait(10)
        return [slow(number % 2), slow(number % 2)]

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(call, range(20)))
    assert results == [[[n % 2], [n % 2]] for n in range(20)]
    assert sorted(calls) == [0, 1]
    assert slow.cache_info()[:2] == (38, 2)


def test_a_cancelled_caller_releases_the_lease_and_leaves_the_others_alone(memo):
    """P4: with cashews, N waiters are cancelled with the first."""
    begun = []

    @memo()
    async def slow(x):
        begun.append(x)
        if len(begun) == 1:
            await asyncio.sleep(60)
        return "done"

    async def main():
        leader = asyncio.create_task(slow(1))
        while not begun:
            await asyncio.sleep(0)
        others = [asyncio.create_task(slow(1)) for _ in range(5)]
        await asyncio.sleep(0.05)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        async with asyncio.timeout(5):
            assert await asyncio.gather(*others) == ["done"] * 5
        assert len(begun) == 2

        waiting = asyncio.create_task(slow(2))
        await waiting
        begun.clear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(3), 0.05)
        assert (await slow.explain(3)).state == "absent"
        assert await slow(3) == "done"

    asyncio.run(main())


def test_a_cancelled_waiter_leaves_the_leader_alone(memo):
    go_on = asyncio.Event()
    begun = []

    @memo()
    async def slow(x):
        begun.append(x)
        await go_on.wait()
        return "done"

    async def main():
        leader = asyncio.create_task(slow(1))
        while not begun:
            await asyncio.sleep(0)
        waiter = asyncio.create_task(slow(1))
        other = asyncio.create_task(slow(1))
        await asyncio.sleep(0.05)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not other.done()
        go_on.set()
        assert await asyncio.gather(leader, other) == ["done", "done"]
        assert begun == [1]

    asyncio.run(main())


def _in_child(body):
    """Run ``body`` in a forked child; it must return true there within ten seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, which is what is tested
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(10)
            code = 0 if body() else 2
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def _ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def _ids(server):
    with server.client() as client:
        return {int(each["id"]) for each in client.client_list()}


@needs_fork
def test_a_fork_in_the_middle_of_things(memo, valkey_server):
    """Parent and child keep working, and share no connection."""

    @memo()
    def f(x):
        return (x, os.getpid())

    @memo()
    async def af(x):
        return x

    mine = f(1)
    asyncio.run(af(1))
    parent = os.getpid()
    pids = [
        _in_child(lambda n=n: f(1) == mine and f(100 + n)[1] != parent and asyncio.run(af(n)) == n) for n in range(3)
    ]
    for x in range(50):
        assert f(1) == mine, "no other's answer on this connection"
        assert f(x)[0] == x
    assert [_ended(pid) for pid in pids] == [0, 0, 0]
    assert f(1) == mine


@needs_fork
def test_a_fork_inside_a_computation(memo):
    """What is being computed in the parent is the parent's; the child's own calls work."""

    @memo()
    def inner(x):
        return x

    @memo()
    def outer(x):
        pid = _in_child(lambda: inner(x) == x and inner(x + 1) == x + 1)
        return _ended(pid)

    assert outer(1) == 0
    assert outer.peek(1) == 0


@needs_fork
def test_a_forked_child_renews_its_own_leases(valkey_server, namespace):
    """P4: the thread that did it stayed in the parent."""
    cache = redis_memo.connect(valkey_server.url, lease=0.5)

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def f(x):
        before = f.explain(x).lease_seconds

        def renewed():
            nonlocal before
            last, before = before, f.explain(x).lease_seconds
            assert before is not None, "the lease ended under the computation"
            return before > last

        until(renewed, 5)
        return True

    assert f(1)
    assert _ended(_in_child(lambda: f(2) and f.peek(2))) == 0
    cache.clear(namespace)
    cache.close()


@needs_fork
def test_a_preloaded_service_forks_its_workers(memo, valkey_server, tmp_path):
    """As gunicorn --preload: the cache is used, then four workers are forked, and all of them use it."""

    @memo()
    def f(x):
        (tmp_path / f"{x}-{os.getpid()}").touch()
        return x

    f(0)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(f, [0, 0]))
    before = _ids(valkey_server)

    def work():
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(f, list(range(8)) * 4)) == list(range(8)) * 4

    pids = [_in_child(work) for _ in range(4)]
    assert [_ended(pid) for pid in pids] == [0, 0, 0, 0]
    assert f(7) == 7
    assert len(list(tmp_path.iterdir())) == 8, "P4: each ran once among all processes"
    assert before & _ids(valkey_server), "the parent's own connections stand"


def test_output_of_a_function_is_not_disturbed(memo, capsys):
    """Nothing is printed, whatever happens."""

    @memo()
    def f(x):
        print("computed", file=sys.stdout)
        return io.StringIO

    f(1)
    f(1)
    out, err = capsys.readouterr()
    assert (out.count("computed"), err) == (1, "")


def test_a_function_of_a_script_goes_to_another_process_by_value(tmp_path, embedded_server):
    """As joblib and ray send it, with cloudpickle."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import subprocess, sys, cloudpickle
            from redis_memo import redis_cached, market_aware

            FACTOR = 3

            @redis_cached(namespace="by_value", ttl=market_aware())
            def scaled(x):
                return x * FACTOR

            @redis_cached(namespace="by_value", ttl=60)
            async def twin(x):
                return x * FACTOR

            if __name__ == "__main__":
                scaled(2)
                sent = cloudpickle.dumps((scaled, twin))
                code = (
                    "import sys, asyncio, cloudpickle; f, g = cloudpickle.load(sys.stdin.buffer);"
                    "print(f(2), asyncio.run(g(2)), f.cache_info().hits, f.peek(2))"
                )
                done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=False)
                print(done.stdout.decode(), done.stderr.decode())
            """
        )
    )
    environment = dict(os.environ, REDIS_MEMO_URL=embedded_server.url)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["6", "6", "1", "6"], done.stdout


def test_attributes_that_others_hung_on_the_function_do_not_stand_before_ours(cache, namespace: str) -> None:
    """P3, P8: dogpile hangs an ``invalidate`` of its own on every function it decorates."""

    def plain(x: int) -> int:
        return x

    def foreign(**_: object) -> str:
        return "foreign"

    plain.invalidate = plain.cache_info = foreign
    plain.author = "me"
    f = redis_cached(namespace=namespace, ttl=60, cache=cache)(plain)
    f(1)
    assert f.invalidate(x=1) == 1
    assert invalidate(f) == 0
    assert f.cache_info().misses == 1
    assert f.author == "me"


def test_a_misspelt_setting_is_told_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match="unknown setting 'ulr'; known: .*url, "):
        redis_memo.connect(ulr="redis://localhost")
    with pytest.raises(ConfigurationError, match="unknown setting 'kalendar'; known: .*, calendar, "):
        redis_memo.configure(kalendar="holidays.csv")
    with pytest.raises(ConfigurationError, match="calendar= is for the whole process"):
        redis_memo.connect(calendar="holidays.csv")


class LocksWithin:
    """Pickle takes its class, and not what it holds."""

    def __init__(self):
        self.lock = threading.Lock()


class Order:
    """No dataclass: its state is what pickle finds."""

    def __init__(self, account):
        self.account = account


def _result(name):
    class Local:
        pass

    return {
        "a generator": (n for n in ()),
        "a view": memoryview(b"abc"),
        "a lock": threading.Lock(),
        "an object with a lock": LocksWithin(),
        "an object of a class in a function": Local(),
    }[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a generator", "it is used up by reading it"),
        ("a view", "it shows the memory of another object"),
        ("a lock", r"lock cannot be stored: it cannot be pickled \(TypeError\); return plain data, or teach the type"),
        (
            "an object with a lock",
            r"what it holds of type _thread.lock cannot be pickled .* register_type\(LocksWithin",
        ),
        ("an object of a class in a function", "define it at the top level of a module"),
    ],
)
@pytest.mark.parametrize("secret", [None, SECRET], ids=["no secret", "a secret"])
def test_a_secret_is_advised_only_where_one_would_help(valkey_server, namespace, caplog, secret, name, said):
    wanted = _result(name)
    with contextlib.closing(redis_memo.connect(valkey_server.url, secret=secret)) as cache:
        function = redis_cached(namespace=namespace, ttl=60, cache=cache, name="result")(lambda: wanted)
        assert function() is wanted
    assert re.search(said, caplog.text)
    assert not re.search("a secret|REDIS_MEMO_SECRET", caplog.text)


def test_a_secret_is_advised_where_one_would_help(valkey_server, namespace, caplog):
    with contextlib.closing(redis_memo.connect(valkey_server.url)) as cache:
        redis_cached(namespace=namespace, ttl=60, cache=cache)(lambda: Order("AB1234"))()
    assert "pickle needs a secret to be signed with" in caplog.text
    assert "(REDIS_MEMO_SECRET or configure(secret=...) sets one)" in caplog.text
