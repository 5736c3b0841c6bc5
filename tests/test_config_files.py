"""``redis-memo config``: what is edited and what is not, that no secret is shown, and that all of it can be undone. P6."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from redis_memo import _cli, _rewrite
from redis_memo._dotenv import assignments, with_value
from redis_memo._edits import settings_by_name, with_cache_section, with_dependency, with_requirement
from redis_memo._masking import difference
from redis_memo.errors import ConfigurationError

from .conftest import Server

SETTINGS = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ENTRIES = {"backend": "redis_memo", "url_env": "REDIS_MEMO_URL"}


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = _cli.main(["config", *arguments])
    out, err = capsys.readouterr()
    return int(code), out, err


# ------------------------------------------------------------------------------------------------------------- .env


ENV = "\ufeff# settings\r\nexport KITE_API_SECRET = 'hunter2'  # not this\r\n\r\nREDIS_MEMO_URL=\"redis://old\"  # here\r\nX=1"


def test_a_value_is_replaced_in_its_place() -> None:
    """Comments, order, quotes, export, line ends, a mark of byte order, and no line end at the end."""
    assert with_value(ENV, "REDIS_MEMO_URL", "redis://new") == ENV.replace("redis://old", "redis://new")
    assert with_value(ENV, "X", "2") == ENV[:-1] + "2"
    assert with_value(ENV, "KITE_API_SECRET", "b c") == ENV.replace("hunter2", "b c")
    assert with_value(ENV, "NEW", "it's") == ENV + '\r\nNEW="it\'s"'
    assert with_value("", "A", "1") == "A=1\n"
    assert with_value("A=1\nA=2\n", "A", "3") == "A=1\nA=3\n"  # the last counts
    assert with_value("A=1 # c\n", "A", "x y") == "A='x y' # c\n"


def test_values_are_read_as_python_dotenv_reads_them() -> None:
    text = 'A=1\nexport B = "two # no comment" # comment\nC=\'x\'\nD="a\nb"\n# E=5\nF=\nG=a#b\nH="q\\"q"\nI=x  # y\nnonsense\nJ=ok\n'
    found = {each.name: each.value for each in assignments(text)}
    assert found == {
        "A": "1", "B": "two # no comment", "C": "x", "D": "a\nb", "F": "", "G": "a#b", "H": 'q"q', "I": "x", "J": "ok",
    }  # fmt: skip


NAMES = st.sampled_from(["A", "B", "REDIS_MEMO_URL", "REDIS_MEMO_SECRET", "KITE_API_KEY", "Z.z-z"])
VALUES = st.text(st.sampled_from("ab1 #='\"\\$é/:@%"), max_size=12)


@st.composite
def env_files(draw: st.DrawFn) -> str:
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    lines = []
    for _ in range(draw(st.integers(0, 7))):
        export, space = draw(st.sampled_from(["", "export ", "  "])), draw(st.sampled_from(["", " "]))
        quote, value = draw(st.sampled_from(["", "'", '"'])), draw(VALUES)
        comment = draw(st.sampled_from(["", " # note", "  #x=1"]))
        lines.append(
            draw(
                st.sampled_from(
                    [
                        f"{export}{draw(NAMES)}{space}={space}{quote}{value}{quote}{comment}",
                        f"# {value}",
                        "",
                        "no assignment",
                    ]
                )
            )
        )
    return draw(st.sampled_from(["", "\ufeff"])) + newline.join(lines) + draw(st.sampled_from(["", newline]))


@SETTINGS
@given(env_files(), NAMES, st.text(st.sampled_from("ab1 #='\"\\$é/:@%"), min_size=1, max_size=12))
@example("A='", "B", "1")
def test_any_env_file_keeps_what_is_not_meant(text: str, name: str, value: str) -> None:
    """Either just this value is another one, or the edit is refused; and a second time changes nothing."""
    try:
        changed = with_value(text, name, value)
    except ConfigurationError:
        return
    before = {each.name: each.value for each in assignments(text)}
    assert {each.name: each.value for each in assignments(changed)} == {**before, name: value}
    assert with_value(changed, name, value) == changed
    kept = [line for line in text.splitlines() if name not in line]
    assert [line for line in changed.splitlines() if line in kept][: len(kept)] == kept or "'" in text or '"' in text


# ----------------------------------------------------------------------------------------- requirements, pyproject


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("pandas>=2\n", "pandas>=2\nredis_memo>=1\n"),
        ("pandas>=2", "pandas>=2\nredis_memo>=1"),
        ("# c\r\npandas\r\n", "# c\r\npandas\r\nredis_memo>=1\r\n"),
        ("", "redis_memo>=1\n"),
        ("Redis.Memo[x] >= 0.5 ; python_version > '3'\n", None),
        ("redis-memo\n", None),
        ("# redis_memo\nredis-memo-x\n", "# redis_memo\nredis-memo-x\nredis_memo>=1\n"),
    ],
)
def test_a_requirement_is_added_once(before: str, after: str | None) -> None:
    assert with_requirement(before, "redis_memo>=1") == (before if after is None else after)
    with pytest.raises(ConfigurationError, match="by hash"):
        with_requirement("pandas==2 \\\n  --hash=sha256:00\n", "redis_memo>=1")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('[project]\ndependencies = ["a"]\n', '[project]\ndependencies = ["a", "redis_memo>=1"]\n'),
        ('[project]\ndependencies = ["a",]\n', '[project]\ndependencies = ["a", "redis_memo>=1",]\n'),
        ("[project]\ndependencies = []\n", '[project]\ndependencies = ["redis_memo>=1"]\n'),
        ("[project]\nname = 'x'\n", "[project]\ndependencies = [\"redis_memo>=1\"]\nname = 'x'\n"),
        (
            "[project]\r\ndependencies = [\r\n    'a[b]',  # c ]\r\n    # last\r\n]\r\n[tool.x]\r\ndependencies = ['y']",
            "[project]\r\ndependencies = [\r\n    'a[b]',  # c ]\r\n    # last\r\n    'redis_memo>=1',\r\n]\r\n[tool.x]\r\ndependencies = ['y']",
        ),
        (
            '[project]\ndependencies = [\n  "a"  # no comma\n]\n',
            '[project]\ndependencies = [\n  "a",  # no comma\n  "redis_memo>=1"\n]\n',
        ),
        (
            '[project.optional-dependencies]\nd = ["redis_memo"]\n[project]\n"dependencies" = ["a"]\n',
            '[project.optional-dependencies]\nd = ["redis_memo"]\n[project]\n"dependencies" = ["a", "redis_memo>=1"]\n',
        ),
        (
            '[tool.poetry.dependencies]\npython = "^3.11"\nx = {version = "1", extras = ["y"]}  # c\n\n[tool.z]\n',
            '[tool.poetry.dependencies]\npython = "^3.11"\nx = {version = "1", extras = ["y"]}  # c\nredis_memo = ">=1"\n\n[tool.z]\n',
        ),
        ('[project]\ndependencies = ["redis-memo"]\n', None),
    ],
)
def test_a_dependency_is_added_to_a_pyproject(before: str, after: str | None) -> None:
    changed = with_dependency(before, "redis_memo>=1")
    assert changed == (before if after is None else after)
    assert with_dependency(changed, "redis_memo>=1") == changed
    tomllib.loads(changed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[project\n", "not valid TOML"),
        ('[project]\ndynamic = ["dependencies"]\n', "dynamic"),
        ("[tool.x]\n", "no project's dependencies"),
        ('project = {dependencies = ["a"]}\n', "by hand"),
    ],
)
def test_a_pyproject_that_cannot_be_changed_safely_is_left(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        with_dependency(text, "redis_memo>=1")


TOML_ITEMS = st.lists(st.sampled_from(['"a"', "'b[c]>=1'", '"é#]"', '"x, y"', "'redis'"]), max_size=4)


@SETTINGS
@given(TOML_ITEMS, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", ","]), st.booleans(), st.sampled_from(["", '  # c ] "', "\t"]), st.sampled_from(["", "[a]\nb = '''\n]\n[project]\n'''\n"]))  # fmt: skip
def test_any_array_of_dependencies_gets_one_more(items, newline, comma, several, comment, ahead) -> None:
    if several:
        inner = "".join(
            f"{newline}    {each}{',' if n < len(items) - 1 or comma else ''}{comment}" for n, each in enumerate(items)
        )
        array = f"[{inner}{newline}]"
    else:
        array = f"[{', '.join(items)}{comma if items else ''}]"
    text = f"{ahead}[project]{newline}name = 'x'{newline}dependencies = {array}{newline}[tool.y]{newline}z = 1"
    before = tomllib.loads(text)
    changed = with_dependency(text, "redis_memo>=1")
    before["project"]["dependencies"].append("redis_memo>=1")
    assert tomllib.loads(changed) == before
    removed = changed.replace('"redis_memo>=1"', "").replace("'redis_memo>=1'", "")
    assert [c for c in removed if c not in ", \r\n"] == [c for c in text if c not in ", \r\n"]


# ----------------------------------------------------------------------------------------------------------- Python

MODULE = '''\
"""Settings.  é"""
import os

DEPLOYMENTS = {
    "development": {
        "cache": {"type": "memory", 'ttl': 300},   # small
        "kite": {"api_secret": "hunter2-dev"},
    },
    'production': {
        'cache': {
            'type': 'file',        # é the old one
            'folder': "/var/cache",
            **COMMON,
            'ttl': (300 +
                    60)   # no comma
        },
        "cache_dir": {"not": "this"},
    },
    "test": {"cache": {}, "more": {"cache": {
    }}},
}
_cache = {}
data_cache = {}
cache = {5: 6}
class Config:
    CACHE: dict = dict(backend="x")
    CACHE_CONFIG = {"ttl": 5}

    def __init__(self):
        self.cache = {"a": 1}
        local_cache = {"a": 1}
'''


def test_cache_sections_are_changed_and_nothing_else() -> None:
    changed, sections, left = with_cache_section(MODULE, ENTRIES)
    assert sections == [
        "DEPLOYMENTS.development.cache", "DEPLOYMENTS.production.cache", "DEPLOYMENTS.test.cache", "DEPLOYMENTS.test.more.cache",
        "Config.CACHE", "Config.CACHE_CONFIG",
    ]  # fmt: skip
    assert left == []
    expected = (
        MODULE.replace(
            '{"type": "memory", \'ttl\': 300}', '{"type": "redis_memo", \'ttl\': 300, "url_env": "REDIS_MEMO_URL"}'
        )
        .replace("'type': 'file'", "'type': 'redis_memo'")
        .replace("60)   # no comma\n", "60),   # no comma\n            'url_env': 'REDIS_MEMO_URL'\n")
        .replace('"cache": {}', '"cache": {"backend": "redis_memo", "url_env": "REDIS_MEMO_URL"}')
        .replace('"cache": {\n', '"cache": {\n        "backend": "redis_memo",\n        "url_env": "REDIS_MEMO_URL",\n')
        .replace('dict(backend="x")', 'dict(backend="redis_memo", url_env="REDIS_MEMO_URL")')
        .replace('{"ttl": 5}', '{"ttl": 5, "backend": "redis_memo", "url_env": "REDIS_MEMO_URL"}')
    )
    assert changed == expected
    assert with_cache_section(changed, ENTRIES)[0] == changed
    crlf = MODULE.replace("\n", "\r\n")
    assert with_cache_section(crlf, ENTRIES)[0] == expected.replace("\n", "\r\n")
    assert with_cache_section("\ufeff" + MODULE, ENTRIES)[0] == "\ufeff" + expected


FLAT = """\
import os
ENVIRONMENTS = dict(
    development=dict(cache=dict(
        type="memory",
        ttl=300,   # short
    ), debug=True),
    production=dict(debug=False, cache=dict()),
)
CONFIGS = {
    "development": {"cache_type": "memory", "cache_ttl": 300, "api_secret": "hunter2-dev"},
    'production': {
        'CACHE_TTL': 3600,   # long
        'CACHE_DIR': os.getenv("CACHE_DIR", "/var/cache")
    },
    "staging": dict(cache_backend=os.environ["B"], cache_ttl=5),
    "other": {"cached": 1, "cache_key": 2, "caches": {}},
    "both": {"cache": {"ttl": 5}, "cache_ttl": 5},
}
CACHE_TYPE = "SimpleCache"
class Config:
    CACHE_TYPE: str = "file"
    CACHE_TTL = 5
def f():
    return {"cache_ttl": 5}
"""


def test_flat_names_and_dict_calls_are_sections_too() -> None:
    """What stands among other settings keeps its prefix and its case; what another library may read is only said."""
    changed, sections, left = with_cache_section(FLAT, {**ENTRIES, "ttl": 60})
    assert sections == [
        "ENVIRONMENTS.development.cache", "ENVIRONMENTS.production.cache", "CONFIGS.development", "CONFIGS.production",
        "CONFIGS.staging", "CONFIGS.both.cache",
    ]  # fmt: skip
    assert left == ["CONFIGS.staging.cache_backend is computed: set it to 'redis_memo' by hand"]
    expected = (
        FLAT.replace('type="memory",', 'type="redis_memo",')
        .replace("ttl=300,   # short\n", 'ttl=60,   # short\n        url_env="REDIS_MEMO_URL",\n')
        .replace("cache=dict())", 'cache=dict(backend="redis_memo", url_env="REDIS_MEMO_URL", ttl=60))')
        .replace('"cache_type": "memory", "cache_ttl": 300', '"cache_type": "redis_memo", "cache_ttl": 60')
        .replace('"hunter2-dev"}', '"hunter2-dev", "cache_url_env": "REDIS_MEMO_URL"}')
        .replace("'CACHE_TTL': 3600", "'CACHE_TTL': 60")
        .replace(
            '"/var/cache")\n',
            "\"/var/cache\"),\n        'CACHE_BACKEND': 'redis_memo',\n        'CACHE_URL_ENV': 'REDIS_MEMO_URL'\n",
        )
        .replace('os.environ["B"], cache_ttl=5', 'os.environ["B"], cache_ttl=60, cache_url_env="REDIS_MEMO_URL"')
        .replace('{"ttl": 5}', '{"ttl": 60, "backend": "redis_memo", "url_env": "REDIS_MEMO_URL"}')
    )
    assert changed == expected
    assert with_cache_section(changed, {**ENTRIES, "ttl": 60})[0] == changed
    assert with_cache_section(FLAT.replace("\n", "\r\n"), {**ENTRIES, "ttl": 60})[0] == expected.replace("\n", "\r\n")
    assert with_cache_section(FLAT, ENTRIES, ["production"])[1] == [
        "ENVIRONMENTS.production.cache",
        "CONFIGS.production",
    ]
    assert settings_by_name(FLAT) == ["CACHE_TYPE", "Config.CACHE_TYPE"]
    assert "hunter2" not in "".join(difference("settings.py", FLAT, changed, "python"))


def test_one_environment_may_be_meant_alone() -> None:
    changed, sections, _ = with_cache_section(MODULE, {**ENTRIES, "ttl": 60}, ["development"])
    assert sections == ["DEPLOYMENTS.development.cache"]
    assert changed == MODULE.replace(
        '{"type": "memory", \'ttl\': 300}', '{"type": "redis_memo", \'ttl\': 60, "url_env": "REDIS_MEMO_URL"}'
    )


def test_what_is_computed_is_left_and_said() -> None:
    text = 'CACHE = {"backend": os.getenv("B", "x"), "ttl": 5}\n'
    changed, _, left = with_cache_section(text, ENTRIES)
    assert left == ["CACHE.backend is computed: set it to 'redis_memo' by hand"]
    assert changed == 'CACHE = {"backend": os.getenv("B", "x"), "ttl": 5, "url_env": "REDIS_MEMO_URL"}\n'
    with pytest.raises(ConfigurationError, match="not valid Python"):
        with_cache_section("CACHE = {", ENTRIES)


@st.composite
def modules(draw: st.DrawFn) -> str:
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    blocks = ["# é settings", "import os"]
    for number in range(draw(st.integers(1, 3))):
        keys = draw(
            st.lists(
                st.sampled_from(
                    ["'type'", '"backend"', "'ttl'", '"é"', "'url_env'", "5", "'cache_ttl'", "'CACHE_TYPE'"]
                ),
                max_size=4,
                unique=True,
            )
        )
        items = [
            f"{key}: {draw(st.sampled_from(['1', 'None', chr(39) + 'x' + chr(39), 'os.sep', '(1 +' + newline + ' 2)', '[1, {2: 3}]']))}"
            for key in keys
        ]
        if draw(st.booleans()):
            tail = draw(st.sampled_from(["", ","])) if items else ""
            comment = draw(st.sampled_from(["", "  # } c"]))
            inner = f",{comment}{newline}        ".join(items)
            section = f"{{{comment}{newline}        {inner}{tail}{comment}{newline}    }}"
        else:
            section = "{" + ", ".join(items) + "}"
        if draw(st.booleans()):
            named = [f"{key}={value}" for key, value in (("type", "'x'"), ("ttl", "(1 +\n 2)"), ("é", "1"))][
                : draw(st.integers(0, 3))
            ]
            section = (
                draw(st.sampled_from(["dict(", "dict (", f"dict({newline}        "]))
                + ", ".join(named)
                + draw(st.sampled_from(["", ","] if named else [""]))
                + ")"
            )
        name = draw(st.sampled_from(["cache", "CACHE_CONFIG", "other", "redis_cache"]))
        blocks.append(
            draw(
                st.sampled_from(
                    [
                        f"{name}_{number} = {section}",
                        f"{name} = {section}",
                        f'C{number} = {{"a": {{"{name}": {section}}}, "b": "é"}}',
                    ]
                )
            )
        )
    return draw(st.sampled_from(["", "\ufeff"])) + newline.join(blocks) + draw(st.sampled_from(["", newline]))


@SETTINGS
@given(modules())
def test_any_module_says_the_same_but_for_its_cache_sections(text: str) -> None:
    changed, sections, _ = with_cache_section(text, ENTRIES)
    assert with_cache_section(changed, ENTRIES)[0] == changed
    if not sections:
        assert changed == text
    ast.parse(changed.removeprefix("\ufeff"))
    removed = [c for c in text if c not in "\"', \r\n"]
    remaining = iter(c for c in changed if c not in "\"', \r\n")
    # All that stood there stands there still, in its order, but for the values that were replaced.
    missing = [c for c in removed if c not in {*"'x1None5"} and c not in remaining]
    assert missing == []


# ---------------------------------------------------------------------------------------------------------- secrets


def test_no_secret_is_in_a_difference() -> None:
    """P6: of .env only our own settings, elsewhere nothing that is named or looks like a secret."""
    secrets = ["hunter2", "Zx81Tokenb4YkQ7pLm2W", "pa55word", "multi-line-part"]
    env = f'A_SECRET={secrets[0]}\nDB=postgres://u:{secrets[2]}@h/x\nPLAIN={secrets[1]}\nLONG="{secrets[3]}\nmore {secrets[3]}"\nX=1'
    python = (
        f'CACHE = {{\n    "password": "{secrets[0]}",\n    "api_key": (\n        "{secrets[3]}"\n        "{secrets[3]}"\n    ),\n'
        f'    "url": "redis://:{secrets[2]}@h:6379/0",\n    "note": "{secrets[1]}",\n'
        f'    "login": os.getenv("DB_PASSWORD", "{secrets[0]}"),\n}}\nTOKEN: str = "{secrets[0]}"\n'
    )
    toml = f'[project]\n# token = "{secrets[0]}"\n[tool.x]\nurl = "https://me:{secrets[2]}@h/files"\n'
    for kind, text in (("env", env), ("python", python), ("toml", toml)):
        for before, after in (
            (text, f"{text}\nREDIS_MEMO_URL=1\n"),
            ("", text),
            (text, ""),
            (text, text.replace("\n", "\r\n")),
        ):
            said = "\n".join(difference("file", before, after, kind))
            assert [each for each in secrets if each in said] == [], said
    commented = f"X=1\n# OLD_PASSWORD={secrets[0]}"
    assert secrets[0] not in "\n".join(difference(".env", commented, with_value(commented, "NEW", "1"), "env"))
    said = "\n".join(difference(".env", "", "REDIS_MEMO_URL=redis://user:hunter2@host:6379/0\n", "env"))
    assert "REDIS_MEMO_URL=redis://****@host:6379/0" in said


# ------------------------------------------------------------------------------------------------ update and rollback


def tree(root: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def project(tmp_path: Path, valkey_server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    host, _, port = valkey_server.url.removeprefix("redis://").removesuffix("/0").partition(":")
    root = tmp_path / "project"
    root.mkdir()
    (root / ".env").write_bytes(
        b"# service\r\nexport KITE_API_SECRET='hunter2'\r\nREDIS_HOST=%b\r\nREDIS_PORT=%b\r\nREDIS_DB=0"
        % (host.encode(), port.encode())
    )
    (root / ".env").chmod(0o640)
    (root / "requirements.txt").write_text("pandas\n")
    (root / "pyproject.toml").write_text('[project]\nname = "s"\ndependencies = [\n  "pandas",\n]\n')
    (root / "deployment_config.py").write_text(MODULE)
    (root / "config").mkdir()
    (root / "config" / "deployment_config.py").write_text("CACHE = {'type': 'file'}\n")
    for path in (path for path in root.rglob("*") if path.is_file()):
        os.utime(path, ns=(1_600_000_000_123_456_789, 1_600_000_000_987_654_321))
    monkeypatch.chdir(root)
    return root


def test_update_then_rollback_is_byte_for_byte(project: Path, capsys, valkey_server: Server) -> None:
    """Modes and times too; and the update is verified against the server that it names."""
    before = tree(project)
    code, out, err = command(capsys, "update", "--dry-run")
    assert code == 0
    assert tree(project) == before
    assert "+REDIS_MEMO_URL=redis://127.0.0.1:" in out
    assert "hunter2" not in out + err
    code, out, err = command(capsys, "update", "--yes")
    assert code == 1, out  # verified: the tests' server has no maxmemory
    assert "WARNING maxmemory" in out
    assert err.splitlines()[-1].startswith(".env: the service does not read it by itself, and has to load it (python-")
    values = {each.name: each.value for each in assignments((project / ".env").read_text())}
    assert values["REDIS_MEMO_URL"] == valkey_server.url
    assert len(values["REDIS_MEMO_SECRET"]) == 43
    assert values["REDIS_MEMO_SECRET"] not in out
    assert "redis_memo" in (project / "requirements.txt").read_text()
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o640
    assert stat.S_IMODE((project / ".redis_memo").stat().st_mode) == 0o700
    after = tree(project)
    code, out, err = command(capsys, "update", "--yes", "--no-verify")
    assert (code, "nothing is to be changed" in out, "load it" in err) == (0, True, False)
    assert tree(project) == after
    code, _, err = command(capsys, "rollback")
    assert (code, "--yes" in err) == (3, True)
    assert tree(project) == after
    code, out, _ = command(capsys, "rollback", "--yes", "--json")
    assert json.loads(out)["files"] == dict.fromkeys([*before], "restored")
    assert tree(project) == before
    code, _, err = command(capsys, "rollback", "--yes")
    assert (code, "no backup" in err) == (3, True)


def test_rollback_refuses_where_somebody_worked_meanwhile(project: Path, capsys) -> None:
    before = tree(project)
    assert command(capsys, "update", "--yes", "--no-verify")[0] == 0
    with (project / "requirements.txt").open("a") as file:
        file.write("mine\n")
    changed = tree(project)
    code, _, err = command(capsys, "rollback", "--yes")
    assert code == 3
    assert "requirements.txt has changed since" in err
    assert tree(project) == changed
    assert command(capsys, "rollback", "--yes", "--force")[0] == 0
    assert tree(project) == before


def test_two_updates_are_undone_one_by_one(project: Path, capsys) -> None:
    states = [tree(project)]
    for words in (["--no-secret"], ["--set", "ttl=60"]):
        assert command(capsys, "update", "--yes", "--no-verify", *words)[0] == 0
        states.append({name: each for name, each in tree(project).items() if not name.startswith(".redis_memo")})
    for state in (states[1], states[0]):
        assert command(capsys, "rollback", "--yes")[0] == 0
        assert {name: each for name, each in tree(project).items() if not name.startswith(".redis_memo")} == state


@pytest.mark.parametrize("fails_at", [0, 1, 2, 3])
def test_whatever_interrupts_an_update_it_can_be_undone(project: Path, capsys, monkeypatch, fails_at: int) -> None:
    """As after kill -9: no file is half, and rollback finds its way."""
    before = tree(project)
    replace = Path.replace
    count = iter(range(10))

    def interrupted(self: Path, target: Path) -> Path:
        if next(count) == fails_at:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    assert command(capsys, "update", "--yes", "--no-verify")[0] == 130
    monkeypatch.setattr(Path, "replace", replace)
    assert [path for path in project.iterdir() if path.name.endswith(".new")] == []
    changed = [name for name, state in tree(project).items() if name in before and state != before[name]]
    assert len(changed) == fails_at
    assert command(capsys, "rollback", "--yes")[0] == 0
    assert tree(project) == before


def test_an_update_that_is_killed_leaves_nothing_that_rollback_does_not_mend(project: Path, capsys) -> None:
    """kill -9 between a draft and its rename."""
    before = tree(project)
    code = (
        "import os, pathlib, signal, sys\n"
        "from redis_memo import _cli\n"
        "replace, count = pathlib.Path.replace, iter(range(9))\n"
        "def killed(self, target):\n"
        "    if next(count) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replace(self, target)\n"
        "pathlib.Path.replace = killed\n"
        "_cli.main(['config', 'update', '--yes', '--no-verify'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    left = [name for name in tree(project) if name not in before and not name.startswith(".redis_memo")]
    assert len(left) == 1
    assert command(capsys, "rollback", "--yes")[0] == 0
    assert tree(project) == before


def test_links_are_followed_and_kept(project: Path, capsys, tmp_path: Path) -> None:
    common = tmp_path / "common.env"
    shutil.move(project / ".env", common)
    (project / ".env").symlink_to("../common.env")
    before, text = tree(project), common.read_bytes()
    assert command(capsys, "update", "--yes", "--no-verify")[0] == 0
    assert (project / ".env").is_symlink()
    assert b"REDIS_MEMO_URL" in common.read_bytes()
    assert command(capsys, "rollback", "--yes")[0] == 0
    assert (project / ".env").is_symlink()
    assert (tree(project), common.read_bytes()) == (before, text)


def test_a_file_that_was_made_is_removed(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command(capsys, "update", "--yes", "--no-verify")
    assert (code, list(tmp_path.iterdir())) == (0, [])
    assert "no server is named" in err
    assert command(capsys, "update", "--yes", "--no-verify", "--url", "redis://h:6379/0", "--never-embedded")[0] == 0
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    values = {each.name: each.value for each in assignments((tmp_path / ".env").read_text())}
    assert values["REDIS_MEMO_EMBEDDED"] == "never"
    assert command(capsys, "rollback", "--yes")[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_changed_is_said_and_the_rest_is_done(project: Path, capsys) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "s"\ndynamic = ["dependencies"]\n')
    (project / "requirements.txt").write_bytes(b"# \xff latin\n")
    code, out, err = command(capsys, "update", "--yes", "--no-verify")
    assert code == 0
    assert "pyproject.toml: its dependencies are dynamic" in err
    assert "requirements.txt: it is not UTF-8" in err
    assert "changed .env, deployment_config.py, config/deployment_config.py" in out
    assert command(capsys, "update", "--settings", "nowhere.py", "--yes")[0] == 3


def test_an_environment_that_nothing_is_named_is_said(project: Path, capsys) -> None:
    """Beside one that there is, too; and a file without that environment may well have cache sections."""
    before = (project / "deployment_config.py").read_bytes()
    words = ["update", "--settings", "deployment_config.py", "--no-verify", "--yes"]
    code, _, err = command(capsys, *words, "--environment", "prod")
    assert code == 0
    assert "deployment_config.py: no cache section is named 'prod', nor anything that one stands in" in err
    assert "it has no cache section" not in err
    assert (project / "deployment_config.py").read_bytes() == before
    _, _, err = command(capsys, *words, "--environment", "prod", "--environment", "production")
    assert ("'prod'" in err, "'production'" in err) == (True, False)
    assert (project / "deployment_config.py").read_bytes() != before


def test_a_file_that_changes_under_the_update_is_left(project: Path) -> None:
    path = project / "requirements.txt"
    change = _rewrite.Change(path, b"something else that was read", b"new")
    with pytest.raises(ConfigurationError, match="has changed meanwhile"):
        _rewrite.applied(project, [change])
    assert path.read_text() == "pandas\n"


def test_a_damaged_backup_is_not_put_back(project: Path, capsys) -> None:
    assert command(capsys, "update", "--yes", "--no-verify")[0] == 0
    after = {name: each for name, each in tree(project).items() if not name.startswith(".redis_memo")}
    (copy,) = (project / ".redis_memo" / "config").glob("*/1")
    copy.write_bytes(b"damaged")
    code, _, err = command(capsys, "rollback", "--yes")
    assert (code, "is damaged; nothing was done" in err) == (3, True)
    assert {name: each for name, each in tree(project).items() if not name.startswith(".redis_memo")} == after


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(env_files(), modules(), TOML_ITEMS, st.booleans())
def test_any_project_is_as_it_was_after_update_and_rollback(
    tmp_path_factory: pytest.TempPathFactory, env: str, module: str, items: list[str], made: bool
) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / ".env").write_bytes(env.encode())
    (root / "deployment_config.py").write_bytes(module.encode())
    (root / "pyproject.toml").write_bytes(f"[project]\r\ndependencies = [{', '.join(items)}]".encode())
    if made:
        (root / "requirements.txt").write_bytes(b"pandas")
    before = tree(root)
    words = ["config", "update", str(root), "--yes", "--no-verify", "--url", "redis://h:6379/0", "--json"]
    assert _cli.main(words) == 0
    after = tree(root)
    assert after != before
    assert _cli.main(words) == 0
    assert tree(root) == after
    assert _cli.main(["config", "rollback", str(root), "--yes", "--json"]) == 0
    assert tree(root) == before
    assert [path.name for path in root.iterdir() if path.is_dir()] == []
