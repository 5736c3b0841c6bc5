"""From a call to its key: binding (P1, P8), digests (P1, P6), what identifies a function, and how keys are spelt."""

from __future__ import annotations

import functools
import inspect
import os
import re
import subprocess
import sys
import textwrap
import threading
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_memo._call import ABSENT, CallKey, kind, make_binder
from redis_memo._identity import function_identity, key_prefix, namespace_prefix, version_part
from redis_memo.errors import ConfigurationError, KeyingError


def digest(callkey, *args, **kwargs):
    return callkey.digest(callkey.binder.bind(*args, **kwargs), args, kwargs)


def tokens(callkey, *args, **kwargs):
    return callkey.tokens(callkey.binder.bind(*args, **kwargs))


def matches(callkey, given_arguments, *args, **kwargs):
    """Whether an invalidation by these arguments is after this call."""
    match = callkey.match(given_arguments)
    if match.digest is not None:
        return match.digest == digest(callkey, *args, **kwargs)
    return set(match.tokens) <= set(tokens(callkey, *args, **kwargs))


def make(text, name="f", **namespace):
    exec(textwrap.dedent(text), namespace)
    return namespace[name]


# ------------------------------------------------------------------------------------------------------------ binding

_NAMES = [
    "self",
    "cls",
    "fn",
    "ttl",
    "key",
    "namespace",
    "args",
    "kwargs",
    "bind",
    "values",
    "ABSENT",
    "None_",
    "été",
    "x",
]


@st.composite
def _functions(draw):
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=7))
    kinds = sorted(draw(st.lists(st.integers(0, 4), min_size=len(names), max_size=len(names))))
    # At most one *args and one **kwargs.
    kinds = [k for i, k in enumerate(kinds) if k not in (2, 4) or k not in kinds[:i]]
    parameters, optional = [], False
    for name, number in zip(names, kinds, strict=False):
        which = list(inspect._ParameterKind)[number]
        default = inspect.Parameter.empty
        if number in (0, 1):
            optional = optional or draw(st.booleans())
            default = f"default of {name}" if optional else default
        elif number == 3 and draw(st.booleans()):
            default = f"default of {name}"
        parameters.append(inspect.Parameter(name, which, default=default))
    signature = inspect.Signature(parameters)
    function = make(f"def some_function{signature}: return locals()", "some_function")
    return function


@settings(max_examples=300, deadline=None)
@given(
    _functions(),
    st.lists(st.integers(), max_size=5),
    st.dictionaries(st.sampled_from([*_NAMES, "other"]), st.integers(), max_size=4),
)
def test_p8_binding_is_what_the_function_does(function, args, kwargs):
    """The same values, or the very words of the function's own TypeError."""
    function.__qualname__ = "Some.where"
    binder = make_binder(function)
    try:
        expected = function(*args, **kwargs)
    except TypeError as error:
        with pytest.raises(TypeError, match=f"^{re.escape(str(error))}$"):
            binder.bind(*args, **kwargs)
        return
    values = binder.bind(*args, **kwargs)
    assert binder.arguments(values) == expected
    signature = inspect.signature(function)
    if not any(p.kind is p.POSITIONAL_ONLY and name in kwargs for name, p in signature.parameters.items()):
        bound = signature.bind(*args, **kwargs)  # wrong under some versions where **kwargs holds such a name
        bound.apply_defaults()
        assert bound.arguments == expected


def test_the_shape_of_a_binder():
    def f(a, /, b, *rest, c=1, **more):
        pass

    binder = make_binder(f)
    assert binder.names == ("a", "b", "rest", "c", "more")
    assert (binder.var_positional, binder.var_keyword, dict(binder.defaults), binder.loose) == (
        "rest",
        "more",
        {"c": 1},
        False,
    )
    assert [k.name for k in binder.kinds] == [
        "POSITIONAL_ONLY",
        "POSITIONAL_OR_KEYWORD",
        "VAR_POSITIONAL",
        "KEYWORD_ONLY",
        "VAR_KEYWORD",
    ]
    assert binder.bind(1, 2, 3, a=4) == (1, 2, (3,), 1, {"a": 4})
    assert binder.bind.__qualname__ == f.__qualname__


def test_default_objects_are_the_functions_own():
    default = []

    def f(a=default, *, b=default):
        pass

    assert all(value is default for value in make_binder(f).bind())


def test_mangled_parameters_are_bound():
    class C:
        def f(self, __x, *, __y=1):
            pass

    assert make_binder(C.f).bind(0, 2) == (0, 2, 1)


def test_builtins_classes_partials_and_callable_objects():
    class Scale:
        def __init__(self, by):
            self.by = by

        def __call__(self, x, *, twice=False):
            pass

    assert make_binder(len).bind([1]) == ([1],)
    assert make_binder(Scale).bind(by=2) == (2,)
    assert make_binder(Scale(1)).bind(5) == (5, False)
    assert make_binder(Scale(1).__call__).bind(5, twice=True) == (5, True)
    assert make_binder(functools.partial(Scale(1), 5)).bind() == (False,)
    assert make_binder(functools.partial(Scale(1), twice=True)).bind(5) == (5, True)
    with pytest.raises(ConfigurationError, match="builtins.getattr|builtins.iter"):
        make_binder(iter)


def through(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


def test_p1_a_decorator_that_passes_everything_on_is_bound_by_what_it_shows():
    @through
    def f(symbol, exchange="NSE"):
        pass

    callkey = CallKey(f)
    assert callkey.binder.loose
    assert digest(callkey, "X") == digest(callkey, symbol="X")
    assert digest(callkey, "X", "BSE") == digest(callkey, exchange="BSE", symbol="X")
    assert digest(callkey, "X") != digest(callkey, "X", "BSE")
    assert callkey.binder.arguments(callkey.binder.bind("X")) == {"symbol": "X", "exchange": "NSE"}
    assert matches(callkey, {"symbol": "X"}, "X")
    assert matches(callkey, {"exchange": "NSE"}, "X")
    assert not matches(callkey, {"symbol": "Y"}, "X")


def test_a_default_below_a_decorator_is_not_taken_for_its_own():
    def elsewhere(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            kwargs.setdefault("exchange", "BSE")
            return function(*args, **kwargs)

        return inner

    @elsewhere
    def f(symbol, exchange="NSE"):
        return exchange

    callkey = CallKey(f)
    assert f("X") != f("X", exchange="NSE")
    assert digest(callkey, "X") != digest(callkey, "X", exchange="NSE")


def test_a_signature_that_is_only_shown_does_not_refuse_calls():
    def injected(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            return function("client", *args, **kwargs)

        return inner

    @injected
    def f(client, symbol):
        return symbol

    callkey = CallKey(f, ignore=("client",))
    assert f("X") == "X"
    assert digest(callkey, "X") == digest(callkey, "X") != digest(callkey, "Y")
    assert len({digest(callkey, "X", symbol="X"), digest(callkey, symbol="X"), digest(callkey, "X", "Y", "Z")}) == 3

    @functools.wraps(f)
    def takes_one(symbol):
        return symbol

    assert make_binder(takes_one).names == ("symbol",)
    takes_one.__signature__ = inspect.signature(lambda other, thing: None)
    assert make_binder(takes_one).names == ("symbol",)


def test_decorated_methods_are_bound_by_what_they_show():
    def method_decorator(function):
        @functools.wraps(function)
        def inner(self, *args, **kwargs):
            return function(self, *args, **kwargs)

        return inner

    @method_decorator
    def f(self, symbol, exchange="NSE"):
        pass

    callkey = CallKey(f, ignore=("self",))
    assert digest(callkey, object(), "X") == digest(callkey, object(), symbol="X")
    assert repr(ABSENT) == "ABSENT"


def test_kind_sees_through():
    async def coroutine():
        pass

    def generator():
        yield

    async def both():
        yield

    class Callable:
        async def __call__(self):
            pass

    assert kind(functools.partial(functools.partial(coroutine))) == "async"
    assert (
        kind(classmethod(coroutine))
        == kind(staticmethod(coroutine))
        == kind(Callable())
        == kind(Callable().__call__)
        == "async"
    )
    assert kind(generator) == "generator"
    assert kind(both) == "async generator"
    assert kind(len) == kind(Callable) == kind(lambda: 1) == "sync"


# ------------------------------------------------------------------------------------------------------------ digests


def test_p1_forms_of_one_call_coincide_and_values_do_not():
    def f(symbol, exchange="NSE", *more, day=1, **other):
        pass

    callkey = CallKey(f)
    same = [digest(callkey, "X"), digest(callkey, symbol="X"), digest(callkey, "X", "NSE"), digest(callkey, "X", day=1)]
    assert len(set(same)) == 1
    assert re.fullmatch("[0-9a-f]{40}", same[0])
    other = [
        digest(callkey, "X", day=True),
        digest(callkey, "X", day=1.0),
        digest(callkey, "X", day="1"),
        digest(callkey, "X", "NSE", 1),
        digest(callkey, "X", "NSE", (1,)),
        digest(callkey, "X", a=1),
        digest(callkey, "X", a=1, b=2),
        digest(callkey, "X", more=()),
        digest(callkey, "X", other={}),
        digest(callkey, "X y"),
        digest(callkey, ("X",)),
    ]
    assert len({*other, same[0]}) == len(other) + 1
    assert digest(callkey, "X", a=1, b=2) == digest(callkey, "X", b=2, a=1)


def test_diskcache_pair_positional_none_and_keyword():
    """PEERS: ``f(1, None, "a")`` and ``f(1, a=None)`` are one key in diskcache."""
    callkey = CallKey(lambda *args, **kwargs: None)
    assert digest(callkey, 1, None, "a") != digest(callkey, 1, a=None)


def test_parameter_names_are_part_of_the_key():
    assert digest(CallKey(lambda a, b: 0), 1, 2) != digest(CallKey(lambda b, a: 0), 1, 2)
    assert digest(CallKey(lambda ab, c: 0), 1, 2) != digest(CallKey(lambda a, bc: 0), 1, 2)
    assert digest(CallKey(lambda a: 0), ()) != digest(CallKey(lambda *a: 0))


def test_ignored_parameters_do_not_count():
    def f(self, symbol, *args, verbose=False, **kwargs):
        pass

    callkey = CallKey(f, ignore=("self", "verbose", "args", "token"))
    assert digest(callkey, object(), "X", 1, verbose=True, token=object()) == digest(callkey, threading.Lock(), "X")
    assert digest(callkey, 0, "X", other=1) != digest(callkey, 0, "X")
    assert digest(CallKey(f, ignore=("kwargs",)), 0, "X", a=1) == digest(CallKey(f, ignore=("kwargs",)), 0, "X")
    only = CallKey(lambda a: 0, ignore=["a"])
    assert digest(only, 1) == digest(only, 2)


def test_wrong_ignore_is_refused_at_decoration():
    def f(symbol, exchange):
        pass

    with pytest.raises(ConfigurationError, match=r"no parameter 'symbl'; did you mean 'symbol'\?"):
        CallKey(f, ignore=("symbl",))
    with pytest.raises(ConfigurationError, match="ignore="):
        CallKey(f, ignore="symbol")
    with pytest.raises(ConfigurationError, match="ignore="):
        CallKey(f, ignore=(1,))


def test_a_default_that_cannot_be_keyed_is_the_default():
    missing, other = object(), object()

    def f(a, b=missing, c=missing, **more):
        pass

    callkey = CallKey(f)
    seen = [
        digest(callkey, 1),
        digest(callkey, 1, 2),
        digest(callkey, 1, c=2),
        digest(callkey, 1, 2, 2),
        digest(callkey, 2),
    ]
    assert len(set(seen)) == 5
    assert digest(callkey, 1, missing) == digest(callkey, 1, c=missing) == seen[0] == digest(CallKey(f), 1)
    assert digest(CallKey(f), 1, 2) == seen[1]
    for call in ({"b": other}, {"a": missing}, {"more": missing}):
        with pytest.raises(KeyingError) as caught:
            digest(CallKey(f), **{"a": 1, **call})
        assert caught.value.parameter == next(iter(call))
    assert len(tokens(callkey, 1)) == 3
    assert matches(callkey, {"b": missing}, 1, c=2)
    assert not matches(callkey, {"b": missing}, 1, 2)


def test_an_argument_that_cannot_be_keyed_is_named_with_the_ways_out():
    def fetch(symbol, client):
        pass

    with pytest.raises(KeyingError) as caught:
        digest(CallKey(fetch), "hunter2", client=threading.Lock())
    message = str(caught.value)
    assert caught.value.parameter == "client"
    assert "fetch: parameter 'client'" in message
    assert "ignore=('client',)" in message
    assert "hunter2" not in message


# ---------------------------------------------------------------------------------------------------------- key hooks


def test_a_hook_gets_the_parameters_it_names():
    seen = []

    def f(symbol, exchange="NSE", *rest, day=1, **more):
        pass

    def spy(hook, *args, **kwargs):
        seen.clear()
        digest(CallKey(f, key=hook), *args, **kwargs)
        return seen[0]

    assert spy(lambda day, symbol: seen.append((day, symbol)), "X") == (1, "X")
    assert spy(lambda symbol, other=5: seen.append((symbol, other)), "X") == ("X", 5)
    assert spy(lambda rest, more: seen.append((rest, more)), "X", "NSE", 3, a=4) == ((3,), {"a": 4})
    assert spy(lambda symbol, **rest: seen.append(rest), "X", a=2) == {"exchange": "NSE", "rest": (), "day": 1, "a": 2}
    assert spy(lambda *a, **k: seen.append((a, k)), "X", day=3) == (("X",), {"day": 3})
    assert spy(lambda symbol, /: seen.append(symbol), "X") == "X"
    assert spy(lambda symbol, token: seen.append((symbol, token)), symbol="X", token=1) == ("X", 1)


def test_p1_a_hook_replaces_the_arguments_and_never_meets_them():
    def f(x):
        pass

    hooked = CallKey(f, key=lambda x: x.lower())
    assert digest(hooked, "A") == digest(hooked, x="a") != digest(hooked, "b")
    assert digest(CallKey(f, key=lambda x: x), 1) != digest(CallKey(f), 1)
    assert digest(CallKey(f, key=lambda x: (1, "1")), 1) != digest(CallKey(f, key=lambda x: ("1", 1)), 1)
    assert digest(CallKey(f, key=lambda x: 1), threading.Lock())
    with pytest.raises(KeyingError, match="what key= returned"):
        digest(CallKey(f, key=lambda x: x), threading.Lock())
    with pytest.raises(ZeroDivisionError) as caught:
        digest(CallKey(f, key=lambda x: 1 / x), 0)
    (note,) = caught.value.__notes__
    assert note.startswith("raised by key= of ")
    assert note.endswith(".f")


def test_positional_only_and_keyword_of_one_name_reach_the_hook_apart():
    def f(a, /, **kw):
        pass

    callkey = CallKey(f, key=lambda **everything: everything)
    assert digest(callkey, 1, a=2) != digest(callkey, 2, a=1)


def test_hooks_that_are_no_plain_functions_are_refused():
    async def hook(x):
        pass

    for wrong in (hook, 5, "symbol"):
        with pytest.raises(ConfigurationError, match="key="):
            CallKey(lambda x: 0, key=wrong)


def test_a_hook_with_a_misspelt_parameter_is_refused():
    def f(symbol, day=None):
        pass

    for hook in (lambda symbl, day: 0, lambda day, symbl, **rest: 0, lambda symbl, *, day: 0):
        with pytest.raises(ConfigurationError, match=r"key=: .*f has no parameter 'symbl'; did you mean 'symbol'\?"):
            CallKey(f, key=hook)
    # None of whose names is one of the function's, or one that says by its name that it is not looked at: by position.
    for hook in (lambda s: s, lambda s, d=None: s, lambda _, day=None: day):
        assert digest(CallKey(f, key=hook), "A") == digest(CallKey(f, key=hook), "A")
    assert digest(CallKey(f, key=lambda _, day: day), "A", "x") == digest(CallKey(f, key=lambda d: d), "x")


# ------------------------------------------------------------------------------------------------------- invalidation


def test_p3_invalidation_finds_the_calls_that_have_these_arguments():
    def f(symbol, exchange="NSE", *, day=1):
        pass

    callkey = CallKey(f)
    assert matches(callkey, {"symbol": "X"}, "X", day=2)
    assert matches(callkey, {"exchange": "NSE", "day": 2}, "X", day=2)
    assert not matches(callkey, {"symbol": "X", "day": 1}, "X", day=2)
    assert not matches(callkey, {"exchange": "X"}, "X", "Y")
    assert not matches(callkey, {"day": True}, "X")
    assert callkey.match({"symbol": "X"}).digest is None
    assert callkey.match({"symbol": "X", "day": 1, "exchange": "NSE"}).digest == digest(callkey, "X")
    assert callkey.match({}) == ((), None)
    assert all(len(token) == 8 for token in tokens(callkey, "X"))


def test_invalidation_with_items_of_kwargs():
    def f(a, /, *rest, **more):
        pass

    callkey = CallKey(f)
    assert matches(callkey, {"x": 1}, 0, x=1, y=2)
    assert not matches(callkey, {"x": 1}, 0, y=1)
    assert not matches(callkey, {"a": 1}, 0, a=1)
    assert matches(callkey, {"rest": (1, 2), "a": 0}, 0, 1, 2)
    assert callkey.match({"a": 0, "rest": ()}).digest is None
    assert matches(callkey, {"more": 3}, 0, more=3)


def test_invalidation_by_a_wrong_name_is_a_type_error():
    def f(self, symbol, token=None):
        pass

    callkey = CallKey(f, ignore=("self", "token"))
    with pytest.raises(TypeError, match=r"no parameter 'symbl'; did you mean 'symbol'\?") as caught:
        callkey.match({"symbl": "hunter2"})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(TypeError, match="'token' is ignored"):
        callkey.match({"token": 1})
    assert callkey.match({"symbol": "X"}).digest == digest(callkey, 0, "X")
    with pytest.raises(KeyingError, match="parameter 'symbol'"):
        callkey.match({"symbol": threading.Lock()})


def test_invalidation_under_a_hook():
    def f(client, symbol, day=1):
        pass

    callkey = CallKey(f, key=lambda symbol: symbol.upper())
    assert callkey.match({"symbol": "rel"}).digest == digest(callkey, threading.Lock(), "REL")
    assert matches(callkey, {"day": 1}, threading.Lock(), "REL")
    with pytest.raises(KeyingError):
        callkey.match({"client": threading.Lock()})


# ----------------------------------------------------------------------------------------------------------- identity


def test_identity_of_named_functions_is_their_name():
    assert function_identity(textwrap.dedent) == "textwrap.dedent"
    assert function_identity(len) == "builtins.len"
    assert function_identity(through) == f"{__name__}.through"
    assert function_identity(textwrap.TextWrapper) == "textwrap.TextWrapper"
    assert function_identity(through, "prices") == "prices"
    for wrong in ("", 5):
        with pytest.raises(ConfigurationError, match="name="):
            function_identity(through, wrong)


def closure(k, own=None):
    def f(x):
        return x + k

    return f


def test_closures_of_one_name_never_share():
    """PEERS: two closures of one name collide in all seven rivals."""
    assert function_identity(closure(1)) == function_identity(closure(1))
    assert re.fullmatch(rf"{__name__}.closure.<locals>.f~[0-9a-f]{{16}}", function_identity(closure(1)))
    held = [
        1,
        1.0,
        True,
        "1",
        [1],
        (1,),
        closure(1),
        closure(2),
        closure(closure(1)),
        textwrap.dedent,
        textwrap.indent,
        lambda: 1,
        lambda: 2,
    ]
    held += [
        functools.partial(closure(1), 1),
        functools.partial(closure(1), 2),
        functools.partial(closure(2), 1),
        types,
        functools,
    ]
    identities = [function_identity(closure(k)) for k in held]
    assert len(set(identities)) == len(identities)
    assert identities == [function_identity(closure(k)) for k in held]


def test_lambdas_and_defaults():
    one, two, three = (lambda x, k=1: x), (lambda x, k=2: x), (lambda x: x + 1)
    assert len({function_identity(f) for f in (one, two, three)}) == 3
    made = [lambda x, k=k: x for k in (1, 2, 1)]
    assert function_identity(made[0]) == function_identity(made[2]) != function_identity(made[1])
    assert function_identity(lambda x, missing=object(): x)


def test_recursive_closures_have_an_identity():
    def make_pair(step):
        def even(n):
            return n == 0 or odd(n - step)

        def odd(n):
            return n != 0 and even(n - step)

        return even, odd

    class Local:
        k = 1

        def f(self):
            return __class__

    assert function_identity(make_pair(1)[0]) == function_identity(make_pair(1)[0])
    assert len({function_identity(f) for f in (*make_pair(1), *make_pair(2))}) == 4
    assert function_identity(Local.f) == function_identity(Local.f)


def test_caches_below_are_seen_through():
    def make_cached(k):
        @functools.lru_cache
        def inner(x):
            return x + k

        def f(x):
            return inner(x)

        return f

    used = make_cached(1)
    used(1)
    assert function_identity(used) == function_identity(make_cached(1)) != function_identity(make_cached(2))


def test_a_free_variable_that_cannot_be_keyed_is_named():
    with pytest.raises(KeyingError, match="free variable 'k'.*name=") as caught:
        function_identity(closure(threading.Lock()))
    assert caught.value.parameter is None
    assert function_identity(closure(threading.Lock()), "mine") == "mine"


def test_defaults_that_cannot_be_keyed_tell_closures_apart_or_are_refused():
    """Two accounts must never share an entry, not even through a default."""

    def fetcher(client):
        def fetch(x, client=client, *, missing=object()):
            pass

        return fetch

    assert function_identity(fetcher("a")) != function_identity(fetcher("b"))
    with pytest.raises(KeyingError, match="the default of 'client'"):
        function_identity(fetcher(threading.Lock()))
    ignoring = function_identity(fetcher(threading.Lock()), ignore=("client",))
    assert ignoring == function_identity(fetcher("b"), ignore=("client",))


def test_bound_methods_are_never_identified_without_their_object():
    class Account:
        def __init__(self, user):
            self.user = user

        def holdings(self):
            pass

        def __call__(self):
            pass

    for get in (lambda account: account.holdings, lambda account: account):
        assert (
            function_identity(get(Account("a")))
            == function_identity(get(Account("a")))
            != function_identity(get(Account("b")))
        )
    with pytest.raises(KeyingError, match="bound to"):
        function_identity(Account(threading.Lock()).holdings)


def test_two_local_classes_of_one_name():
    def make_class(k):
        class C:
            def f(self):
                return k

        return C

    assert function_identity(make_class(1).f) != function_identity(make_class(2).f)
    assert function_identity(make_class(1)) != function_identity(make_class(2))


def test_exec_in_two_namespaces():
    text = "def f(x): return x + K"
    one, two, again = (make(text, K=k, __name__="textwrap") for k in (1, 2, 1))
    assert function_identity(one) == function_identity(again) != function_identity(two)
    assert function_identity(make(text, K=1)).startswith("<unknown>.f~")


def identities(*arguments, cwd=None, **environ):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


SCRIPT = """
import functools, math, sys, threading
from redis_memo._identity import function_identity, version_part

def f(x):
    return helper(x) + WINDOW

def helper(x):
    return Model().scale(x) + 1

class Model:
    FACTOR = 2
    def scale(self, x):
        return x * self.FACTOR + math.pi

WINDOW = 20
TICKERS = {"a", "b", "c"}
LOCK = threading.Lock()
UNUSED = 1

def g(x):
    with LOCK:
        return x in TICKERS

def child(queue):
    queue.put([function_identity(f), function_identity(g)])

if __name__ == "__main__":
    print(function_identity(f), function_identity(g), function_identity(lambda x: f(x)))
"""


def test_the_same_script_is_the_same_in_every_process(tmp_path):
    """P1: under any hash seed, from any folder, wherever it lies, whatever else it holds."""
    (tmp_path / "elsewhere").mkdir()
    one, two = tmp_path / "one.py", tmp_path / "elsewhere" / "two.py"
    one.write_text(SCRIPT)
    two.write_text("# moved\n\n" + SCRIPT.replace("UNUSED = 1", "UNUSED = 2"))
    first = identities(one, PYTHONHASHSEED="1")
    assert first[0].startswith("__main__.f~")
    assert len(set(first)) == 3
    assert first == identities("one.py", cwd=tmp_path, PYTHONHASHSEED="2")
    assert first == identities(two, cwd=tmp_path, PYTHONHASHSEED="3")


CHANGES = {
    "a helper": ("+ 1\n", "+ 2\n"),
    "a constant": ("WINDOW = 20", "WINDOW = 50"),
    "the type of a constant": ("WINDOW = 20", "WINDOW = 20.0"),
    "a method": ("x * self", "x / self"),
    "a class constant": ("FACTOR = 2", "FACTOR = 3"),
    "a module": ("import functools, math", "import functools, cmath as math"),
}


def test_two_scripts_with_one_function_never_share(tmp_path):
    """Joblib#1096: the text of ``f`` is the same in all of them."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    seen = [identities(path)]
    for old, new in CHANGES.values():
        path.write_text(SCRIPT.replace(old, new))
        assert SCRIPT.replace(old, new) != SCRIPT
        seen.append(identities(path))
    assert len({f for f, _, _ in seen}) == len(seen)
    assert len({g for _, g, _ in seen}) == 1
    for old, new in [
        ('"c"', '"d"'),
        ("threading.Lock()", "threading.RLock()"),
        ("LOCK = threading.Lock()", "LOCK = (1, threading.Lock())[1]"),
    ]:
        path.write_text(SCRIPT.replace(old, new))
        f, g, _ = identities(path)
        assert f == seen[0][0]
        assert g != seen[0][1]


def test_decorators_with_locks_work_in_scripts_but_not_under_another_name(tmp_path):
    path = tmp_path / "locked.py"
    path.write_text(
        textwrap.dedent(
            """
            import functools, threading
            from redis_memo._identity import function_identity
            from redis_memo.errors import KeyingError
            def locked(function):
                lock = threading.Lock()
                @functools.wraps(function)
                def inner(*args, **kwargs):
                    with lock:
                        return function(*args, **kwargs)
                return inner
            @locked
            def f(x): return x
            g = locked(f.__wrapped__)
            print(function_identity(f))
            try:
                print(function_identity(g))
            except KeyingError:
                print("refused")
            """
        )
    )
    first = identities(path)
    assert first[0].startswith("__main__.f~")
    assert first[1] == "refused"
    path.write_text(path.read_text().replace("return x\n", "return x + 1\n"))
    assert identities(path)[0] != first[0]


def test_a_script_agrees_with_the_children_it_spawns(tmp_path):
    path = tmp_path / "spawning.py"
    path.write_text(
        SCRIPT
        + """
    import multiprocessing
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    print(*queue.get(timeout=30))
    process.join()
"""
    )
    answers = identities(path)
    assert len(answers) == 5
    assert answers[:2] == answers[3:]


def test_a_module_agrees_with_itself_run_by_name(tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    text = SCRIPT + (
        "    import multiprocessing\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    queue = context.Queue()\n"
        "    process = context.Process(target=child, args=(queue,))\n"
        "    process.start()\n"
        "    print(*queue.get(timeout=30))\n"
        "    process.join()\n"
        "    def local(x): return f(x)\n"
    )
    (package / "mod.py").write_text(text)
    (package / "__main__.py").write_text(SCRIPT)
    run = identities("-m", "pkg.mod", cwd=tmp_path)
    assert run[:2] == ["pkg.mod.f", "pkg.mod.g"] == run[3:]
    imported = identities(
        "-c", "from pkg.mod import *; print(function_identity(f), function_identity(g))", cwd=tmp_path
    )
    assert imported == run[:2]
    assert identities("-m", "pkg", cwd=tmp_path)[0] == "pkg.__main__.f"


# ------------------------------------------------------------------------------------------------ version, key names


def test_versions():
    def one(x):
        """Doc."""
        return x

    assert version_part(None, one) == ""
    assert version_part("2", one) == "2"
    source = version_part("source", one)
    assert re.fullmatch("[0-9a-f]{16}", source)
    assert source == version_part("source", functools.partial(one, 1)) == version_part("source", staticmethod(one))
    assert version_part("source", through(one)) == version_part("source", through(one)) != source
    assert version_part("source", through(one)) != version_part("source", through(lambda x: x))
    for wrong in ("", 2):
        with pytest.raises(ConfigurationError, match="version="):
            version_part(wrong, one)
    with pytest.raises(ConfigurationError, match="source"):
        version_part("source", len)


def test_key_prefixes_read_well():
    assert key_prefix("stock_data", "app.f") == "memo:{stock_data:app.f:#0}:"
    assert key_prefix("a", "app.make.<locals>.<lambda>~00ff", "2", 3) == "memo:{a:app.make.<locals>.<lambda>~00ff:2#3}:"
    assert key_prefix("a", "f").startswith(namespace_prefix("a"))


def test_p6_names_are_never_interpreted():
    """PEERS: python-redis-cache's namespace ``p*`` wiped ``px``."""
    for bad in "{}:*?[]\\^#% \n\t\0é\ud800<>/'\"@":
        for prefix in (key_prefix(f"a{bad}b", "f"), key_prefix("a", f"f{bad}g"), key_prefix("a", "f", f"1{bad}2")):
            assert re.fullmatch(r"memo:\{[\w.~%-]+:[\w.~%-]+:[\w.~%-]*#0\}:", prefix, re.ASCII), prefix


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(*[st.text(alphabet="a%:#{}<>lcos25 é", min_size=1, max_size=8)] * 3, st.integers(0, 30)),
        max_size=20,
        unique=True,
    )
)
def test_key_prefixes_are_injective(parts):
    assert len({key_prefix(*part) for part in parts}) == len(parts)


def test_names_that_cannot_be_keys_are_refused():
    for wrong in ("", None, 5, b"x"):
        with pytest.raises(ConfigurationError, match="namespace="):
            key_prefix(wrong, "f")
    with pytest.raises(ConfigurationError, match="512"):
        key_prefix("é" * 100, "f")
    with pytest.raises(ConfigurationError, match="512"):
        key_prefix("a", "f" * 500)


def test_nothing_readable_of_an_argument_is_in_a_key():
    def f(password, **more):
        pass

    key = key_prefix("n", function_identity(closure("hunter2"))) + digest(CallKey(f), "hunter2", token="hunter2")
    assert "hunter2" not in key
    assert b"hunter2" not in b"".join(tokens(CallKey(f), "hunter2", token="hunter2"))
