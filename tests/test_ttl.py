"""Expiry policies. P7: every entry has an expiry, and a bounded one."""

import math
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_memo.errors import ConfigurationError
from redis_memo.ttl import LONGEST, Call, as_policy, format_duration, jittered, parse_duration, resolve

NOW = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
CALL = Call(function="shop.price", arguments={"symbol": "TOPSECRET"}, value="TOPSECRET", now=NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172800), ("1w", 604800), ("250ms", 0.25),
        ("1.5h", 5400), (".5s", 0.5), ("0.25", 0.25), (" 1h 30m ", 5400), ("1w2d3h4m5s6ms", 788645.006), ("5.m", 300),
        ("3650d", LONGEST),
    ],
)  # fmt: skip
def test_p7_a_duration_means_what_it_says(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "m", "-5m", "+5m", "5 parsecs", "5M", "1e3", "1_000", "nan", "inf", "1h1h", "30m1h", "1h30", "5m,", "5 5",
        "1h-5m", "٥m", "0", "0s", "0.0h", "11y", "3651d", "9" * 5000, "9" * 5000 + "w", "5m\x00", "1.2.3s", ".", "5mins",
        None, 5, b"5m",
    ],
)  # fmt: skip
def test_p7_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ConfigurationError, match="1h30m"):
        parse_duration(text)


@given(st.integers(min_value=1, max_value=int(LONGEST) * 1000))
def test_p7_every_lifetime_survives_being_written_and_read(milliseconds):
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


@given(st.text(alphabet="0123456789.wdhms -e", max_size=12))
def test_p7_a_duration_is_read_or_refused_never_anything_else(text):
    try:
        assert 0 < parse_duration(text) <= LONGEST
    except ConfigurationError:
        pass


@pytest.mark.parametrize(
    ("ttl", "seconds", "shown"),
    [
        (300, 300, "5m"), (0.25, 0.25, "250ms"), ("5m", 300, "5m"), (timedelta(hours=1, minutes=30), 5400, "1h30m"),
        (np.int64(60), 60, "1m"), (np.float32(0.5), 0.5, "500ms"), (Decimal("1.5"), 1.5, "1s500ms"), (Fraction(1, 2), 0.5, "500ms"),
    ],
)  # fmt: skip
def test_p7_every_way_to_write_a_lifetime_gives_one_policy(ttl, seconds, shown):
    policy = as_policy(ttl)
    assert resolve(policy, CALL) == seconds
    assert type(resolve(policy, CALL)) is float
    assert repr(policy) == shown
    assert as_policy(policy) is policy


@pytest.mark.parametrize(
    "ttl",
    [
        None, True, False, np.True_, 0, -1, 0.0, math.nan, math.inf, -math.inf, 10**400, -(10**400), LONGEST + 1, timedelta(0),
        timedelta(seconds=-1), timedelta.max, Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), "later", [], {}, object(), timedelta,
        int, lambda: 5, lambda call, other: 5, lambda *, call: 5,
    ],
)  # fmt: skip
def test_p7_a_wrong_ttl_is_said_at_decoration(ttl):
    with pytest.raises(ConfigurationError):
        as_policy(ttl)


def test_p7_a_coroutine_function_is_no_policy():
    async def later(call):
        return 5

    class Later:
        async def __call__(self, call):
            return 5

    for ttl in (later, Later()):
        with pytest.raises(ConfigurationError, match="async"):
            as_policy(ttl)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (60, 60), ("5m", 300), (timedelta(minutes=1), 60), (0, 0), (-5, 0), ("0", 0), ("0s", 0), (timedelta(days=-1), 0),
        (-(10**400), 0), (10**400, LONGEST), (1e300, LONGEST), (timedelta.max, LONGEST), (np.float64(2.5), 2.5),
    ],
)  # fmt: skip
def test_p7_what_a_callable_answers_becomes_bounded_seconds(answer, seconds):
    found = resolve(as_policy(lambda call: answer), CALL)
    assert found == seconds
    assert type(found) is float


@pytest.mark.parametrize(
    "answer", [None, True, math.nan, math.inf, -math.inf, "TOPSECRET", "9" * 5000, [], object(), Decimal("NaN")]
)
def test_p6_p7_a_nonsensical_answer_names_the_function_and_shows_no_value(answer):
    with pytest.raises(ConfigurationError, match=r"shop\.price") as caught:
        resolve(as_policy(lambda call: answer), CALL)
    assert "TOPSECRET" not in str(caught.value)


def test_p7_a_callable_sees_the_call():
    def by_interval(call):
        assert call.value == "TOPSECRET"
        assert call.now == NOW
        return "1d" if call.arguments["symbol"] == "TOPSECRET" else "1m"

    policy = as_policy(by_interval)
    assert resolve(policy, CALL) == 86400
    assert repr(policy) == f"{__name__}.{by_interval.__qualname__}"


def test_p1_a_policy_s_repr_holds_no_address():
    class Plain:
        def __call__(self, call):
            return 5

    class Said(Plain):
        def __repr__(self):
            return "until_noon"

    assert "0x" not in repr(as_policy(Plain()))
    assert repr(as_policy(Said())) == "until_noon"


@given(st.floats(min_value=0.001, max_value=LONGEST), st.floats(min_value=0, max_value=0.999), st.integers())
def test_p7_jitter_only_shortens_and_by_no_more_than_its_spread(seconds, spread, seed):
    found = resolve(jittered(seconds, spread=spread, random=random.Random(seed).random), CALL)
    assert seconds * (1 - spread) * (1 - 1e-12) <= found <= seconds


def test_p7_jitter_spreads_what_was_stored_together():
    policy = jittered("5m", random=random.Random(1).random)
    found = {resolve(policy, CALL) for _ in range(100)}
    assert len(found) == 100
    assert 269.9 < min(found) < 275
    assert 295 < max(found) <= 300
    assert repr(policy) == "jittered(5m, spread=0.1)"


def test_p7_jitter_takes_whatever_ttl_takes():
    assert resolve(jittered(lambda call: 0), CALL) == 0
    with pytest.raises(ConfigurationError, match=r"shop\.price"):
        resolve(jittered(lambda call: None), CALL)


@pytest.mark.parametrize("spread", [1, 1.5, -0.1, math.nan, math.inf, True, "0.1", None])
def test_p7_a_wrong_spread_is_refused(spread):
    with pytest.raises(ConfigurationError, match="spread"):
        jittered(60, spread=spread)


def test_p8_policies_compare_by_value():
    assert as_policy("5m") == as_policy(300)
    assert jittered("5m") == jittered(300)
    assert jittered("5m") != jittered("5m", spread=0.2)
