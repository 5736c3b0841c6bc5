"""A decorated function against a dict with a fake clock, for any sequence of calls, stores, invalidations and time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from redis_memo import MISSING, Cache, redis_cached
from redis_memo._config import Settings

from .model import FakeClock, ModelStore

ARGUMENTS = {"symbol": st.sampled_from(["A", "B", "1", 1, 1.0, True, None]), "period": st.sampled_from([1, 2, 365])}
DAMAGED = object()
LIFETIME = {1: 10.0, 2: 100.0, 365: 0.0}


class Machine(RuleBasedStateMachine):
    """The dict: (type and value of the arguments) -> (value, when it expires)."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        store = ModelStore(self.clock)
        self.store = store
        self.number = 0
        self.known: dict[tuple[object, ...], tuple[object, float]] = {}
        self.functions = []
        for _ in range(2):  # two processes, as far as the store can tell
            cache = Cache(Settings(url="redis://model"), backend=store, clock=self.clock)
            self.functions.append(
                redis_cached(
                    namespace="machine", ttl=lambda call: LIFETIME[call.arguments["period"]], cache=cache, name="f"
                )(self.compute)
            )

    def compute(self, symbol, period=365):
        self.number += 1
        return [symbol, self.number]

    def key(self, symbol, period) -> tuple[object, ...]:
        return type(symbol), symbol, period

    def current(self, key):
        value, until = self.known.get(key, (MISSING, 0.0))
        return value if until > self.clock.now and value is not DAMAGED else MISSING

    def standing(self, key) -> bool:
        return key in self.known and self.known[key][1] > self.clock.now

    @rule(who=st.integers(0, 1), **ARGUMENTS)
    def call(self, who, symbol, period) -> None:
        key = self.key(symbol, period)
        expected = self.current(key)
        before = self.number
        got = self.functions[who](symbol, period=period) if self.number % 2 else self.functions[who](symbol, period)
        if expected is MISSING:
            assert self.number == before + 1, "a value came back that should not exist"
            expected = [symbol, self.number]
            if LIFETIME[period]:
                self.known[key] = expected, self.clock.now + LIFETIME[period]
        else:
            assert self.number == before, "a stored value was computed again"
        assert got == expected
        assert type(got[0]) is type(symbol)
        got.append("the caller's own")

    @rule(who=st.integers(0, 1), **ARGUMENTS)
    def refresh(self, who, symbol, period) -> None:
        value = self.functions[who].refresh(symbol, period)
        assert value == [symbol, self.number]
        if LIFETIME[period]:
            self.known[self.key(symbol, period)] = value, self.clock.now + LIFETIME[period]

    @rule(who=st.integers(0, 1), value=st.integers(), **ARGUMENTS)
    def store_value(self, who, value, symbol, period) -> None:
        stored = self.functions[who].store([symbol, value], symbol, period)
        assert stored is bool(LIFETIME[period])
        if stored:
            self.known[self.key(symbol, period)] = [symbol, value], self.clock.now + LIFETIME[period]

    @rule(who=st.integers(0, 1), **ARGUMENTS)
    def peek(self, who, symbol, period) -> None:
        before = self.number
        assert self.functions[who].peek(symbol, period) == self.current(self.key(symbol, period))
        assert self.number == before

    @rule(who=st.integers(0, 1), given_symbol=st.booleans(), given_period=st.booleans(), **ARGUMENTS)
    def invalidate(self, who, given_symbol, given_period, symbol, period) -> None:
        matching = [
            key
            for key in self.known
            if (not given_symbol or key[:2] == (type(symbol), symbol)) and (not given_period or key[2] == period)
        ]
        matching = [key for key in matching if not given_symbol or key[0] is type(symbol)]
        expected = sum(map(self.standing, matching))
        given = ({"symbol": symbol} if given_symbol else {}) | ({"period": period} if given_period else {})
        assert self.functions[who].invalidate(**given) == expected
        for key in matching:
            del self.known[key]

    @rule(seconds=st.sampled_from([0.5, 9.0, 50.0, 1000.0]))
    def time_passes(self, seconds) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.store.entries)
    @rule(data=st.data())
    def an_entry_is_damaged(self, data) -> None:
        """It stays where it is, counts as an entry, and is no answer to anybody; damage does not mend damage."""
        entry = data.draw(st.sampled_from(sorted(self.store.entries)))
        raw, until = self.store.entries[entry]
        place = data.draw(st.integers(0, len(raw) - 1))
        self.store.entries[entry] = raw[:place] + bytes([(raw[place] + 1) % 256]) + raw[place + 1 :], until
        for key in self.known:
            if self.functions[0].cache_key(key[1], key[2]) == entry:
                self.known[key] = DAMAGED, self.known[key][1]

    @invariant()
    def nothing_is_left_computing(self) -> None:
        assert self.store.leases == {}, "a lease was not given back"

    @invariant()
    def currsize_is_true(self) -> None:
        assert self.functions[0].cache_info().currsize == sum(map(self.standing, self.known))


Machine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMachine = Machine.TestCase
