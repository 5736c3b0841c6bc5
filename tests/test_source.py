"""What a function's code digest and name depend on: P1 (same code, same key), and that two functions never share."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import linecache
import os
import subprocess
import sys
import textwrap
import types
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_memo import _source
from redis_memo._source import code_digest, name_identifies, qualified_name

_numbers = iter(range(10**9))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Import source text as a fresh module; ``name=`` imports a changed text under a known name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(text, name=None, encoding="utf-8"):
        name = name or f"written_{os.getpid()}_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_bytes(textwrap.dedent(text).encode(encoding))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


BASE = '''
def f(x, y=1):
    """Doc."""
    if x > y:
        return [x, "a", 1.0]
    return f"{x:>{y}} of {y!r}"
'''

SAME = {
    "another docstring": BASE.replace("Doc.", "Quite another text."),
    "no docstring": BASE.replace('    """Doc."""\n', ""),
    "comments and blanks": BASE.replace("if x > y:", "# why\n\n    if (x>y) :  # because\n"),
    "further down": "import os\n\n\n" + BASE,
    "decorated": "def d(g): return g\n@d\n@(lambda g: g)\n" + BASE.strip("\n"),
    "quotes": BASE.replace('"a"', "'a'"),
    "another line break": BASE.replace('[x, "a", 1.0]', '[\n        x,\n        "a",\n        1.0,\n    ]'),
    "within a condition": "if True:\n" + textwrap.indent(BASE, "    "),
}
DIFFERENT = {
    "int for float": BASE.replace("1.0", "1"),
    "True for int": BASE.replace("1.0", "True"),
    "text for int": BASE.replace("1.0", "'1.0'"),
    "bytes for text": BASE.replace('"a"', 'b"a"'),
    "operator": BASE.replace("x > y", "x >= y"),
    "default": BASE.replace("y=1", "y=2"),
    "parameter kind": BASE.replace("(x, y=1)", "(x, *, y=1)"),
    "order": BASE.replace("x > y", "y > x"),
    "conversion": BASE.replace("!r", "!s"),
    "statement": BASE.replace("    if x", "    x = y\n    if x"),
    "async": BASE.replace("def f", "async def f"),
    "name": BASE.replace("def f", "def g"),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_p1_what_does_not_run_does_not_count(module, text):
    assert code_digest(module(text).f) == code_digest(module(BASE).f)


@pytest.mark.parametrize("text", DIFFERENT.values(), ids=DIFFERENT)
def test_every_change_of_code_counts(module, text):
    changed = module(text)
    assert code_digest(getattr(changed, "f", None) or changed.g) != code_digest(module(BASE).f)


def test_the_digest_is_32_bytes_and_golden(module):
    """A change of this digest makes every ``version="source"`` cache in the world start again."""
    digest = code_digest(module(BASE).f)
    assert len(digest) == 32
    assert digest.hex() == "6d1376eb1ba90c3e4f5105432c5691525d5005d93294a20c5e62aedb0d66322f"


_names = st.sampled_from(["a", "b", "alpha", "x1"])
_expressions = st.recursive(
    st.one_of(
        _names,
        st.integers(-(2**70), 2**70).map(repr),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.text(max_size=4).map(repr),
        st.binary(max_size=3).map(repr),
        st.sampled_from(["None", "True", "False", "...", "1j", "()", "[]", "{}"]),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/%|&"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.tuples(_names, inner).map(lambda p: f"f({p[0]}={p[1]})"),
        inner.map(lambda i: f"(lambda a: {i})"),
        inner.map(lambda i: f"[a for b in {i} if b]"),
        inner.map(lambda i: f"{{**{i}, 1: {i}}}"),
    ),
    max_leaves=8,
)


def _canonical(source):
    return _source._canonical(ast.parse(source).body[0])


@settings(max_examples=150, deadline=None)
@given(_expressions, _expressions)
def test_p1_canonical_form_is_injective_and_ignores_layout(one, other):
    """Two texts agree exactly when their syntax trees do; ``ast.unparse`` reformats."""
    texts = [f"def f(a, b):\n    return {e}" for e in (one, other)]
    trees = [ast.dump(ast.parse(t)) for t in texts]
    assert (_canonical(texts[0]) == _canonical(texts[1])) == (trees[0] == trees[1])
    assert _canonical(ast.unparse(ast.parse(texts[0]))) == _canonical(texts[0])


def test_none_in_lists_and_constants_is_seen():
    texts = [
        "{**a}",
        "{None: a}",
        "None",
        "...",
        "'None'",
        "(lambda *, a=1, b: a)",
        "(lambda *, a, b=1: a)",
        "f'{a}'",
        "f'a'",
    ]
    assert len({_canonical(f"def f():\n    return {t}") for t in texts}) == len(texts)


def test_deep_expressions_do_not_exhaust_the_stack(module):
    text = "def f(x):\n    return " + " + ".join(["x"] * 900)
    assert code_digest(module(text).f) != code_digest(module(text + " + x").f)


def test_lambdas_on_one_line_are_told_apart(module):
    m = module("fs = [lambda x: x + 1, lambda x: x + 2, lambda x: x + 1, lambda: lambda: 1, lambda x=(lambda: 2): x]\n")
    digests = [code_digest(f) for f in (*m.fs, m.fs[3](), m.fs[4]())]
    assert digests[0] == digests[2]
    assert len(set(digests)) == 6
    assert digests[1] == code_digest(module("g = lambda x: x+2").g)


def test_lambdas_after_wide_characters_are_told_apart(module):
    m = module('t, a, b = "ü€𝄞", lambda: 1, lambda: 2\n')
    assert code_digest(m.a) == code_digest(module("a = lambda: 1").a)
    assert code_digest(m.b) == code_digest(module("a = lambda: 2").a)


def test_methods_accessors_and_closures_are_found(module):
    m = module(
        """
        def keep(f): return f
        class A:
            @property
            @keep
            def p(self): return self.__x
            @staticmethod
            def s(__y): return __y
            @classmethod
            def c(cls, /, a, *b, k, **d): return __class__
            def g(self):
                def h(): return self.__x
                return h
        """
    )
    for function in (m.A.p.fget, m.A.s, m.A.c.__func__, m.A.g, m.A().g()):
        assert _source.has_source(function), function


def test_a_file_edited_after_import_does_not_lend_its_digest(module, tmp_path):
    """Redeployed under a running process: the old code must not store under the new code's digest."""
    old = module(BASE)
    path = tmp_path / f"{old.__name__}.py"
    path.write_text(BASE.replace("x > y", "x < y"))
    linecache.checkcache(str(path))
    digest = code_digest(old.f)
    assert digest != code_digest(module(BASE.replace("x > y", "x < y")).f)
    new = module(BASE.replace("x > y", "x < y"), name=old.__name__)
    assert code_digest(new.f) == code_digest(module(BASE.replace("x > y", "x < y")).f)


def test_without_source_the_bytecode_counts_and_positions_do_not():
    def make(text):
        namespace = {}
        exec(text, namespace)
        return namespace["f"]

    digest = code_digest(make(BASE))
    assert digest == code_digest(make("\n\n" + BASE))
    assert digest == code_digest(make(SAME["another docstring"])) == code_digest(make(SAME["no docstring"]))
    for name, text in DIFFERENT.items():
        if name not in ("default", "name"):  # a default is an argument; it is no part of the code
            assert digest != code_digest(make(text)), name


def test_frozenset_constants_do_not_follow_the_hash_seed():
    script = textwrap.dedent(
        """
        from redis_memo._source import code_digest
        namespace = {}
        exec("def f(x): return x in {'a', 'b', 'c', 'd', 'e', 'f'} and [y for y in {'p', 'q', 'r'}]", namespace)
        print(code_digest(namespace["f"]).hex())
        """
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(answers) == 1


def test_source_in_archives_with_marks_and_other_encodings(module, tmp_path, monkeypatch):
    plain = code_digest(module("def f(): return 'café'").f)
    assert code_digest(module("def f(): return 'café'", encoding="utf-8-sig").f) == plain
    assert code_digest(module("# coding: latin-1\ndef f(): return 'café'", encoding="latin-1").f) == plain
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("zipped_mod.py", "import os\ndef f(): return 'café'")
    monkeypatch.syspath_prepend(str(tmp_path / "archive.zip"))
    zipped = importlib.import_module("zipped_mod")
    assert code_digest(zipped.f) == plain
    assert name_identifies(zipped.f)


def test_notebook_cells_have_source():
    """IPython and doctest put their cells into linecache."""
    text, namespace = "def f(x):\n    # note\n    return x + 1\n", {"__name__": "__main__"}
    linecache.cache["<cell 1>"] = (len(text), None, text.splitlines(True), "<cell 1>")
    try:
        exec(compile(text, "<cell 1>", "exec"), namespace)
        assert _source.has_source(namespace["f"])
    finally:
        del linecache.cache["<cell 1>"]

    seen = {}
    examples = ">>> def f(x):\n...     return x + 1\n>>> seen['f'] = code_digest(f)\n"
    test = doctest.DocTestParser().get_doctest(examples, {"seen": seen, "code_digest": code_digest}, "t", "t", 0)
    doctest.DocTestRunner().run(test)
    assert seen["f"] == code_digest(namespace["f"]) or seen["f"]
    assert seen["f"] == _source.blake3(b"source 1 " + _canonical("def f(x):\n    return x + 1")).digest()


def test_the_digest_is_kept_by_code_object_and_forgotten_with_it():
    namespace = {}
    exec("def f(): return 1", namespace)
    function = namespace.pop("f")
    code_digest(function)
    key = id(function.__code__)
    assert key in _source._digests
    del function
    assert key not in _source._digests


# ------------------------------------------------------------------------------------------------------------- names


def test_qualified_names():
    class Local:
        pass

    assert qualified_name(textwrap.dedent) == "textwrap.dedent"
    assert qualified_name(Local) == f"{__name__}.test_qualified_names.<locals>.Local"
    script = types.FunctionType((lambda: 1).__code__, {"__name__": "__main__", "__spec__": None}, "f")
    child = types.FunctionType((lambda: 1).__code__, {"__name__": "__mp_main__", "__spec__": None}, "f")
    spec = importlib.util.spec_from_loader("pkg.mod", None)
    run = types.FunctionType((lambda: 1).__code__, {"__name__": "__main__", "__spec__": spec}, "f")
    assert qualified_name(script).startswith("__main__.")
    assert qualified_name(script) == qualified_name(child)
    assert qualified_name(run).startswith("pkg.mod.")


def test_a_name_identifies_a_function_that_it_leads_to(module):
    m = module(
        """
        import functools, typing
        @typing.overload
        def o(x: int): ...
        @typing.overload
        def o(x: str): ...
        def o(x): return x
        if typing.TYPE_CHECKING:
            def t(): ...
        else:
            def t(): return 1
        def logged(f):
            @functools.wraps(f)
            def inner(*args, **kwargs): return f(*args, **kwargs)
            return inner
        def retried(f):
            @functools.wraps(f)
            def inner(*args, **kwargs): return f(*args, **kwargs) or f(*args, **kwargs)
            return inner
        @logged
        def w(x): return x
        class A:
            def m(self): return 1
            @classmethod
            @logged
            def c(cls): return 2
            @property
            def p(self): return 1
            @p.setter
            def p(self, value): pass
        w2 = retried(w.__wrapped__)
        l = lambda: 1
        def factory():
            def f(): return 1
            return f
        """
    )
    for function in (m.o, m.t, m.w, m.A.m, m.A.c.__func__, m.A.p.fget, m.logged):
        assert name_identifies(function), function
    for function in (m.w2, m.l, m.factory()):
        assert not name_identifies(function), function


def test_two_definitions_of_one_name_never_share_it(module):
    """The first in the file has the plain name, whichever is used or asked first."""
    text = """
        import functools
        def logged(f):
            @functools.wraps(f)
            def inner(*args): return f(*args)
            return inner
        def f(x): return 1
        first = f
        def f(x): return 2
        @logged
        def g(x): return 1
        first_g = g
        @logged
        def g(x): return 2
        {condition}
        class A:
            def m(self): return 1
        B = A
        class A:
            def m(self): return 2
        """
    one = module(
        text.format(condition="if True:\n            def h(): return 1\n        else:\n            def h(): return 2")
    )
    two = module(
        text.format(condition="if False:\n            def h(): return 1\n        else:\n            def h(): return 2")
    )
    assert not name_identifies(one.f)
    assert name_identifies(one.first)
    assert name_identifies(two.first)
    assert not name_identifies(two.f)
    assert not name_identifies(one.g)
    assert name_identifies(one.B.m)
    assert not name_identifies(one.A.m)
    assert name_identifies(one.h)
    assert not name_identifies(two.h)


def test_a_reload_keeps_the_name(module):
    first = module("def f(x): return 1")
    assert name_identifies(first.f)
    second = module("import os\n\ndef f(x): return 2", name=first.__name__)
    assert name_identifies(second.f)


def test_functions_made_by_exec_take_a_name_once(module):
    m = module("")
    exec("def f(): return 1", m.__dict__)
    one = m.f
    assert name_identifies(one)
    exec("def f(): return 2", m.__dict__)
    assert not name_identifies(m.f)
    copied = dict(m.__dict__)
    exec("def g(): return 1", copied)
    assert not name_identifies(copied["g"])
    assert not name_identifies(types.FunctionType(one.__code__, {}))


def test_calls_on_imported_modules_are_recognized(module):
    """Python 3.11.4 and later compile a call differently where the file imports the name as a module."""
    m = module("import re\ndef f(x):\n    if x:\n        x = re.sub('a', 'b', x)\n    return x\n")
    assert _source.has_source(m.f)


def test_two_files_under_one_module_name(tmp_path, module):
    """Loaders of plugins and scripts may give every file the same module name."""
    loaded = []
    for number in (1, 2):
        path = tmp_path / f"plugin{number}.py"
        path.write_text(f"def f(x): return {number}")
        spec = importlib.util.spec_from_file_location("some_plugin", path)
        loaded.append(importlib.util.module_from_spec(spec))
        spec.loader.exec_module(loaded[-1])
    assert not name_identifies(loaded[0].f)
    assert not name_identifies(loaded[1].f)
    try:
        for m, expected in zip(loaded, (True, False), strict=True):
            sys.modules["some_plugin"] = m
            assert name_identifies(m.f) is expected
    finally:
        del sys.modules["some_plugin"]
        _source._taken.pop("some_plugin.f", None)
