"""The token bucket, on a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.client import limit_state
from airflow_provider_amzbiz.client.token_bucket import TokenBucket
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit
from tests.fuzzing import bounded


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def bucket(clock):
    return TokenBucket(Limit(0.1, 15), clock=clock)


def take(bucket):
    """Return 0.0 where a permit is there at once, else the seconds until it is expected."""
    ticket = bucket.join()
    try:
        return bucket.claim(ticket)
    finally:
        bucket.leave(ticket)


def drain(bucket):
    bucket.take_up_to(bucket.burst)
    bucket.emptied()


def test_the_burst_is_given_at_once_and_then_the_rate(bucket, clock):
    assert bucket.take_up_to(15) == 14
    assert take(bucket) == pytest.approx(5.0)
    clock.now += 5.1
    assert take(bucket) == 0
    assert take(bucket) == pytest.approx(9.9)


def test_it_never_holds_more_than_the_burst(bucket, clock):
    clock.now += 1e6
    assert bucket.take_up_to(100) == 14


def test_who_comes_first_is_served_first(bucket, clock):
    drain(bucket)
    first, second, third = bucket.join(), bucket.join(), bucket.join()
    clock.now += 16
    assert bucket.claim(third) > 0
    assert bucket.claim(second) > 0
    assert bucket.claim(first) == 0
    assert bucket.claim(second) == pytest.approx(9.0)
    assert bucket.claim(third) == pytest.approx(19.0)


def test_who_leaves_lets_the_others_move_on(bucket, clock):
    drain(bucket)
    first, second = bucket.join(), bucket.join()
    clock.now += 16
    bucket.leave(first)
    assert bucket.claim(second) == 0


def test_several_permits_are_given_together(bucket, clock):
    drain(bucket)
    ticket = bucket.join(10)
    clock.now += 100
    assert bucket.claim(ticket) == pytest.approx(5.0)
    clock.now += 5.1
    assert bucket.claim(ticket) == 0
    assert bucket.take_up_to(5) == 0


@pytest.mark.parametrize("count", [0, 16])
def test_more_than_the_burst_is_rejected(bucket, count):
    with pytest.raises(ValueError, match="from 1 to the burst, 15"):
        bucket.join(count)


def test_nobody_overtakes_the_queue(bucket):
    bucket.join(15)
    assert bucket.take_up_to(3) == 0


def test_it_learns_the_rate_of_responses(bucket, clock):
    drain(bucket)
    bucket.learn(2.0)
    ticket = bucket.join()
    assert bucket.claim(ticket) == pytest.approx(0.75)


def test_the_rate_that_the_user_set_stays(clock):
    bucket = TokenBucket(Limit(0.5, 3), fixed=True, clock=clock)
    bucket.learn(2.0)
    assert bucket.rate == 0.5


def test_the_first_429_only_shows_that_others_used_the_burst(bucket):
    bucket.throttled()
    assert bucket.rate == 0.1
    assert take(bucket) == pytest.approx(15.0)


def test_a_later_429_slows_down_and_it_recovers(bucket, clock):
    bucket.throttled()
    clock.now += 20
    bucket.throttled()
    assert bucket.rate == pytest.approx(0.075)
    clock.now += 1
    bucket.throttled()
    assert bucket.rate == pytest.approx(0.075, rel=0.01), "one cause counts once"
    clock.now += 600
    assert bucket.rate == pytest.approx(0.1)


def test_it_does_not_sink_to_nothing(bucket, clock):
    for _ in range(100):
        bucket.throttled()
        clock.now += 1 / bucket.rate
    assert bucket.rate >= 0.01


def test_retry_after_is_waited_for(bucket):
    bucket.throttled(retry_after=60)
    assert take(bucket) == pytest.approx(65.0)


def test_what_another_process_found_out_counts_from_then(bucket):
    bucket.emptied(seconds_ago=26)
    assert bucket.take_up_to(15) == 2


@bounded()
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("wait"), st.floats(0, 200)),
            st.tuples(st.just("take"), st.integers(1, 15)),
            st.tuples(st.just("leave"), st.integers(0, 5)),
            st.tuples(st.just("emptied"), st.floats(0, 100)),
            st.tuples(st.just("throttled"), st.none() | st.floats(0.1, 60)),
        ),
        max_size=60,
    )
)
def test_in_any_time_no_more_than_the_burst_and_the_rate(steps):
    clock = Clock()
    bucket = TokenBucket(Limit(0.1, 15), clock=clock)
    waiting: dict[int, int] = {}
    given_out: list[tuple[float, int]] = []
    for what, value in steps:
        if what == "wait":
            clock.now += value
        elif what == "take":
            waiting[bucket.join(value)] = value
        elif what == "leave" and waiting:
            ticket = list(waiting)[value % len(waiting)]
            del waiting[ticket]
            bucket.leave(ticket)
        elif what == "emptied":
            bucket.emptied(value)
        elif what == "throttled":
            bucket.throttled(value)
        for ticket in list(waiting):
            if bucket.claim(ticket):
                break
            given_out.append((clock.now, waiting.pop(ticket)))
    for index, (start, _) in enumerate(given_out):
        total = 0
        for moment, count in given_out[index:]:
            total += count
            assert total <= 15 + 0.1 * (moment - start) + 1e-6
    assert bucket.waiting == len(waiting)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_rate_that_is_none_is_not_learned(bucket, rate):
    before = bucket.limit
    bucket.learn(rate)
    assert bucket.limit == before


@pytest.mark.parametrize("rate", [1e-9, 0.001, 1e308, 1001.0])
def test_a_rate_that_cannot_be_meant_is_not_learned(bucket, rate):
    bucket.learn(rate)
    assert bucket.limit == Limit(0.1, 15)


@pytest.mark.parametrize("rate", [0.005, 0.0056, 1000.0])
def test_every_rate_that_may_be_meant_is_learned_and_stops_nothing_for_longer_than_the_bound(bucket, rate):
    drain(bucket)
    bucket.learn(rate)
    assert bucket.rate == rate
    assert take(bucket) <= limit_state.MAX_PAUSE


@pytest.mark.parametrize("limit", [*USAGE_PLAN.values(), Limit(500.0, 500)])
@pytest.mark.parametrize("retry_after", [31536000.0, 1e308, float("inf")])
def test_no_retry_after_stops_for_longer_than_the_bound(clock, limit, retry_after):
    bucket = TokenBucket(limit, clock=clock)
    bucket.throttled(retry_after)
    bound = min(max(limit.burst / limit.rate, 10.0), limit_state.MAX_PAUSE)
    assert bound <= take(bucket) <= bound + 1 / limit.rate
    assert bucket.take_up_to(limit.burst) == 0
    clock.now += bound + 1 / limit.rate
    assert take(bucket) == 0


@pytest.mark.parametrize("retry_after", [float("nan"), -5.0, 0.0, None])
def test_an_empty_retry_after_stops_nothing(bucket, retry_after):
    bucket.throttled(retry_after)
    assert take(bucket) == pytest.approx(15.0)


def test_throttling_after_a_slow_rate_does_not_stop_for_longer_than_the_bound(bucket, clock):
    bucket.learn(0.0056)
    for _ in range(50):
        bucket.throttled()
        clock.now += 1 / bucket.rate + 1
    bucket.throttled()
    assert take(bucket) <= limit_state.MAX_PAUSE


def test_a_limit_that_the_user_removes_no_longer_applies(bucket):
    bucket.fix(Limit(0.5, 3), "c")
    assert bucket.limit == Limit(0.5, 3)
    bucket.fix(None, "c")
    assert bucket.limit == Limit(0.1, 15)
    assert bucket.rate == 0.1


def test_the_rate_that_was_learned_meanwhile_counts_again(bucket):
    bucket.fix(Limit(0.5, 3), "c")
    bucket.learn(2.0)
    assert bucket.limit == Limit(0.5, 3)
    bucket.fix(None, "c")
    assert bucket.limit == Limit(2.0, 15)


def test_of_two_words_the_slowest_counts_and_each_ends_with_its_source(bucket):
    bucket.fix(Limit(0.5, 3), "fast")
    bucket.fix(Limit(0.2, 5), "slow")
    bucket.fix(None, "other")
    assert bucket.limit == Limit(0.2, 5)
    bucket.fix(None, "slow")
    assert bucket.limit == Limit(0.5, 3)


def test_who_was_throttled_goes_before_all_that_joined_later(bucket, clock):
    drain(bucket)
    waiting = bucket.join()
    throttled, throttled_later = bucket.join(first=True), bucket.join(first=True)
    clock.now += 16
    assert bucket.claim(waiting) > 0
    assert bucket.claim(throttled_later) > 0
    assert bucket.waiting == 3
    assert bucket.claim(throttled) == 0
    bucket.leave(throttled_later)
    clock.now += 10
    assert bucket.claim(waiting) == 0


def test_an_older_word_does_not_replace_a_newer_one(bucket):
    bucket.fix(Limit(0.5, 3), "c", order=1)
    bucket.fix(None, "c", order=2)
    bucket.fix(Limit(0.5, 3), "c", order=1)
    assert bucket.limit == Limit(0.1, 15)
