"""The script that reserves permits, against a model of it, on a clock of its own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.client.limit_store import GRACE, check_after
from tests.client.limit_stores import PLAN, timed_store
from tests.fuzzing import bounded

FIRST = -1
DRAINED = 14


@pytest.fixture
def store():
    return timed_store()


def drain(store):
    """Use all permits that are given at once."""
    assert store.act("take", count=15).taken == DRAINED
    store.act("throttled")


def test_the_burst_is_given_at_once_and_then_each_caller_learns_its_time(store):
    assert store.act("take", count=15).taken == DRAINED
    assert [store.act("join", f"t{n}").left for n in range(3)] == pytest.approx([5.0, 15.0, 25.0])


def test_permits_are_given_in_the_order_of_asking(store):
    drain(store)
    for name in ("a", "b", "c"):
        store.act("join", name)
    store.now += 26
    assert store.act("claim", "c").left == pytest.approx(9.0)
    assert store.act("claim", "a", place=1).left == 0
    assert store.act("join", "newcomer").left > 18
    assert store.act("claim", "b").left == 0


def test_a_call_that_was_throttled_goes_before_all_that_came_later(store):
    drain(store)
    store.act("join", "waiting")
    assert store.act("join", "throttled", place=FIRST).left == pytest.approx(15.0)
    assert store.act("join", "throttled later", place=FIRST).left == pytest.approx(25.0)
    assert store.act("claim", "waiting").left == pytest.approx(35.0)


def test_a_429_moves_everybody_who_waits(store):
    drain(store)
    before = [store.act("join", name) for name in ("a", "b")]
    store.now += 14
    store.act("throttled", value=60.0)
    after = [
        store.act("claim", name, place=reply.place).left for name, reply in zip(("a", "b"), before, strict=True)
    ]
    assert after[0] > 60
    assert after[1] > after[0] + 9


def test_several_permits_are_given_together(store):
    drain(store)
    assert store.act("join", "ten", count=10).left == pytest.approx(105.0)
    assert store.act("join", "one").left == pytest.approx(115.0)
    store.now += 105.001
    assert store.act("claim", "ten", count=10).left == 0


def test_who_leaves_lets_the_others_move_up(store):
    drain(store)
    for name in ("a", "b"):
        store.act("join", name)
    store.act("leave", "a")
    assert store.act("claim", "b").left == pytest.approx(15.0)


def test_a_dead_caller_costs_one_permit_and_no_time_of_those_behind_it(store):
    drain(store)
    store.act("join", "dead")
    told = store.act("join", "next")
    store.now += told.left + 0.001
    assert store.act("claim", "next").left == 0
    # Its own permit is given to the next one when it counts as dead.
    store.now += GRACE
    later = store.act("join", "later")
    assert (later.left, later.waiting) == (0, 0)


def test_a_caller_that_counted_as_dead_gets_its_place_back(store):
    drain(store)
    late = store.act("join", "late")
    others = [store.act("join", f"other{n}") for n in range(20)]
    store.now += late.left + GRACE + 1
    assert store.act("claim", "other5", place=others[5].place).left > 0
    assert store.act("claim", "late", place=late.place).left == 0


@pytest.mark.parametrize("back", [0.5, 3600, 10 * 86400])
def test_a_pause_takes_no_longer_when_the_clock_is_put_back(store, back):
    store.act("take", count=15)
    store.act("throttled", value=60)
    before = store.act("join", "a").left
    store.now -= back
    assert store.act("claim", "a", place=1).left == pytest.approx(before, abs=0.01)
    store.now += before
    assert store.act("claim", "a", place=1).left == 0


def test_dead_callers_cost_no_more_when_the_clock_is_put_back(store):
    def seconds_behind_dead_callers(back):
        store.client.flushall()
        drain(store)
        for number in range(20):
            store.act("join", f"dead {number}")
        store.now -= back
        alive = store.act("join", "alive")
        for seconds in range(1000):
            if store.act("claim", "alive", place=alive.place).left == 0:
                return seconds
            store.now += 1
        return None

    assert seconds_behind_dead_callers(86400) == seconds_behind_dead_callers(0)


def test_a_limit_that_a_user_has_set_ends_though_the_clock_is_put_back(store):
    store.act("show", own=(0.01, 2))
    store.now -= 10 * 86400
    assert store.act("show").rate == 0.01
    store.now += 3601
    assert store.act("show").rate == PLAN[0]


def test_the_queue_survives_the_loss_of_the_state(store):
    drain(store)
    places = {name: store.act("join", name).place for name in ("a", "b")}
    store.client.flushall()
    store.now += 1
    # In the worst order.
    newcomer = store.act("join", "newcomer", idle=1.0)
    assert newcomer.left > 5
    store.act("claim", "b", place=places["b"])
    lefts = [
        store.act("claim", name, place=place).left
        for name, place in (*places.items(), ("newcomer", newcomer.place))
    ]
    assert lefts == sorted(lefts)


def test_the_first_call_after_the_loss_of_the_state_does_not_believe_in_a_burst(store):
    assert store.act("claim", "a", place=5).left == pytest.approx(15.0)


def test_a_request_that_is_repeated_because_its_reply_was_lost_has_one_place(store):
    drain(store)
    first = store.act("join", "a")
    assert store.act("join", "a") == first
    assert first.waiting == 1


def test_the_learned_rate_counts_for_all(store):
    drain(store)
    store.act("learn", value=2.0)
    reply = store.act("join", "a")
    assert (reply.full, reply.burst) == (2.0, 15)
    assert reply.left < 10


def test_the_slowest_limit_that_a_user_has_set_counts_and_ends(store):
    store.act("learn", value=2.0)
    assert store.act("show", own=(0.5, 3)).full == 0.5
    assert store.act("show", own=(0.2, 5)).full == 0.2
    assert store.act("show").burst == 5
    assert store.act("show", own=(0.5, 3)).full == 0.2
    store.now += 301
    assert store.act("show", own=(0.5, 3)).full == 0.5
    store.now += 301
    assert store.act("show").full == 2.0


def test_what_a_process_has_used_while_it_was_alone_is_used(store):
    assert store.act("take", count=15, used=4).taken == DRAINED - 4
    store.act("show", used=100)
    assert store.act("join", "a").left == pytest.approx(15.0)


def test_a_dead_triggerer_does_not_keep_its_places(store):
    drain(store)
    for number in range(50):
        store.act("join", f"dead {number}")
    store.now += 1
    live = store.act("join", "live")
    assert live.left > 500
    for _ in range(2):
        store.now += check_after(live.left)
        live = store.act("claim", "live", place=live.place)
    assert live.left == 0 or live.waiting == 1


def test_a_wait_that_another_process_takes_over_has_one_place(store):
    drain(store)
    before = store.act("join", "wait")
    store.act("join", "later")
    store.now += 3
    after = store.act("join", "wait")
    assert after.place == before.place
    assert after.left == pytest.approx(before.left - 3)
    assert after.waiting == 2


def test_the_keys_expire(store):
    drain(store)
    store.act("join", "a")
    ttls = [store.client.ttl(key) for key in store.client.keys("amazon_business:*")]
    assert len(ttls) == 3
    assert all(0 < each <= 2 * 86400 for each in ttls)


class Model:
    """What the script should do, in plain Python: no closed formulas, no sorted sets, no strings."""

    def __init__(self, now, rate, burst):
        self.now = self.filled = now
        self.full = self.rate = rate
        self.burst = burst
        self.tokens, self.is_guess = float(burst), True
        self.paused_until = self.stepped = 0.0
        self.queue = []
        self.last = 0

    def refill(self):
        elapsed = max(self.now - self.filled, 0.0)
        self.tokens, self.rate = self.after(elapsed)
        self.filled = self.now
        self.queue = [each for each in self.queue if each["lease"] > self.now]

    def after(self, seconds):
        """Return permits and rate after so many seconds without any call."""
        paused = min(max(self.paused_until - self.filled, 0.0), seconds)
        tokens = min(self.tokens + paused * self.rate, max(self.tokens, 1.0)) if paused else self.tokens
        growth = self.full**2 / 60
        rate = min(self.rate + growth * paused, self.full)
        until_full = min(max((self.full - rate) / growth, 0.0), seconds - paused)
        mean = rate + growth * until_full / 2
        tokens += mean * until_full + self.full * (seconds - paused - until_full)
        return min(tokens, self.burst), min(self.rate + growth * seconds, self.full)

    def join(self, name, count, *, first):
        self.last = max(int(self.now * 1e6), self.last + 1)
        place = self.last - 2**52 if first else self.last
        self.queue.append({"name": name, "place": place, "count": count, "lease": math.inf})
        return place

    def claim(self, name, place, count):
        mine = next((each for each in self.queue if each["name"] == name), None)
        if mine is None:
            mine = {"name": name, "place": place, "count": count, "lease": math.inf}
            self.queue.append(mine)
        ahead = sum(each["count"] for each in self.queue if each["place"] < mine["place"])
        needed = ahead + min(mine["count"] + 0.5, self.burst)
        if self.tokens >= needed and self.paused_until <= self.now:
            self.tokens -= mine["count"]
            self.queue.remove(mine)
            return 0.0
        left = self.time_of(needed)
        mine["lease"] = self.now + check_after(left) + GRACE
        return left

    def time_of(self, needed):
        """Return the seconds until there are so many permits, as if a bucket could hold them all."""
        real, self.burst = self.burst, math.inf
        low, high = max(self.paused_until - self.now, 0.0), 1e6
        while high - low > 1e-7 * max(low, 1.0):
            middle = (low + high) / 2
            low, high = (low, middle) if self.after(middle)[0] >= needed else (middle, high)
        self.burst = real
        return high

    def take(self, count):
        if self.queue or self.paused_until > self.now:
            return 0
        taken = max(min(count, math.floor(self.tokens - 0.5)), 0)
        self.tokens -= taken
        return taken

    def throttled(self, retry_after):
        if not self.is_guess and self.now - self.stepped >= 1 / self.rate:
            self.rate = max(self.rate * 0.75, self.full * 0.1, min(self.full, 0.005))
            self.stepped = self.now
        self.is_guess = False
        self.tokens = min(self.tokens, 0.0)
        if retry_after:
            self.paused_until = max(self.paused_until, self.now + min(retry_after, 150.0))


class Callers:
    """Callers of the script, each of which may be prompt, late or dead, and all that the model knows of them."""

    def __init__(self):
        self.store = timed_store()
        self.model = Model(self.store.now, *PLAN)
        self.names = []
        self.waiting = {}
        self.asleep = set()
        self.given = []

    def act(self, what, value):
        getattr(self, f"_{what}")(value)

    def _wait(self, seconds):
        self.store.now += seconds
        self.model.now = self.store.now

    def _join(self, count, place=0):
        name = f"t{len(self.names)}"
        self.names.append(name)
        reply = self.store.act("join", name, place=place, count=count)
        self.model.refill()
        expected_place = self.model.join(name, count, first=place == FIRST)
        assert reply.place == expected_place
        self._compare(name, expected_place, count, reply, self.model.claim(name, expected_place, count))

    def _first(self, count):
        self._join(count, FIRST)

    def _late_claim(self, number):
        if self.waiting:
            self.asleep.discard(list(self.waiting)[number % len(self.waiting)])

    def _sleep(self, number):
        """A caller dies, or sleeps for longer than it should."""
        if self.waiting:
            self.asleep.add(list(self.waiting)[number % len(self.waiting)])

    def _leave(self, number):
        if self.waiting:
            name = list(self.waiting)[number % len(self.waiting)]
            del self.waiting[name]
            self.store.act("leave", name)
            self.model.refill()
            self.model.queue = [each for each in self.model.queue if each["name"] != name]

    def _take(self, count):
        reply = self.store.act("take", count=count)
        self.model.refill()
        assert reply.taken == self.model.take(count)
        if reply.taken:
            self.given.append((self.store.now, reply.taken))

    def _throttled(self, retry_after):
        self.store.act("throttled", value=retry_after)
        self.model.refill()
        self.model.throttled(retry_after)

    def claim_all(self):
        for name, (place, count) in list(self.waiting.items()):
            if name not in self.asleep:
                reply = self.store.act("claim", name, place=place, count=count)
                self.model.refill()
                self._compare(name, place, count, reply, self.model.claim(name, place, count))

    def _compare(self, name, place, count, reply, expected):
        assert reply.left == pytest.approx(expected, abs=2e-3, rel=1e-3)
        assert reply.waiting == len(self.model.queue)
        assert reply.rate == pytest.approx(self.model.rate, rel=1e-5)
        if reply.left:
            self.waiting[name] = place, count
        else:
            self.waiting.pop(name, None)
            self.given.append((self.store.now, count))


STEPS = st.lists(
    st.one_of(
        # Never a moment at which a permit becomes due to the microsecond: the script has six digits.
        st.tuples(st.just("wait"), st.integers(0, 12000).map(lambda n: n / 100 + 0.00317)),
        st.tuples(st.just("join"), st.integers(1, 15)),
        st.tuples(st.just("join"), st.just(1)),
        st.tuples(st.just("first"), st.integers(1, 3)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
        st.tuples(st.just("sleep"), st.integers(0, 9)),
        st.tuples(st.just("late_claim"), st.integers(0, 9)),
        st.tuples(st.just("take"), st.integers(1, 15)),
        st.tuples(st.just("throttled"), st.none() | st.integers(1, 60).map(float)),
    ),
    max_size=40,
)


@bounded()
@given(STEPS)
def test_any_interleaving_of_callers_is_as_in_the_model(steps):
    callers = Callers()
    for what, value in steps:
        callers.act(what, value)
        callers.claim_all()
    for index, (start, _) in enumerate(callers.given):
        total = 0
        for moment, count in callers.given[index:]:
            total += count
            assert total <= 15 + 0.1 * (moment - start) + 1e-3


@bounded(50)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.floats(0, 20)), min_size=1, max_size=12))
def test_a_caller_is_served_when_it_was_told_whoever_dies(callers):
    """Without a 429, nobody waits longer than it was told at first, and the order of asking is kept."""
    store = timed_store()
    drain(store)
    told, given = {}, []

    def pass_time(until):
        while told and min(told.values())[0] <= until:
            name = min(told, key=told.get)
            due, place, count = told.pop(name)
            store.now = due
            assert store.act("claim", name, place=place, count=count).left == 0, "it came when it was told to come"
            given.append(place)
        store.now = until

    for number, (count, is_dead, pause) in enumerate(callers):
        reply = store.act("join", f"t{number}", count=count)
        if reply.left and not is_dead:
            told[f"t{number}"] = store.now + reply.left + 0.001, reply.place, count
        elif not reply.left:
            given.append(reply.place)
        pass_time(store.now + pause)
    pass_time(store.now + 1000)
    assert given == sorted(given)


@bounded(50)
@given(st.lists(st.tuples(st.floats(0, 1e9), st.integers(0, 15)), min_size=1, max_size=30))
def test_no_clock_of_a_caller_gives_it_more_than_its_permits(calls):
    """What a caller says of its own time counts only where the state is lost, and then only as a bound."""
    store = timed_store()
    given = 0
    for number, (idle, used) in enumerate(calls):
        given += store.act("join", f"t{number}", idle=idle, used=used).left == 0
    assert given <= 15
