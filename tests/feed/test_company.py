"""Companies of any kind: after some weeks of daily runs, the tables are the company's own books."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from airflow_provider_amzbiz.demo.books import available_documents
from airflow_provider_amzbiz.feed.documents import Rules
from airflow_provider_amzbiz.feed.names import DOCUMENT_TYPES
from airflow_provider_amzbiz.feed.run import FeedSettings
from airflow_provider_amzbiz.sandbox import Company
from airflow_provider_amzbiz.sandbox.company_catalog import MARKETS
from tests.feed.world import DAY, KEY, START, CompanyApi, World, WorldClock

# It takes minutes, and what a company's seed shows is as good to debug.
NO_SHRINKING = [phase for phase in Phase if phase is not Phase.shrink]


def world_of(seed, orders, marketplaces, *, days=10, document_types=DOCUMENT_TYPES, signed_refunds=True):
    company = Company(
        seed=seed, orders=orders, days=days, start=START, marketplaces=marketplaces, signed_refunds=signed_refunds
    )
    clock = WorldClock(START)
    rules = FeedSettings(KEY, Rules(tuple(document_types)))
    return World(CompanyApi(company, clock), clock, rules, company)


def live_on(world, step=DAY):
    """Run every day, until nothing changes in the company any more."""
    while world.clock.now() < world.company.end + step:
        world.clock.advance(step)
        world.run()
        # What there is to know is stored by the first run that can know it.
        available = {world.company.pdf(each) for each in available_documents(world.company, world.clock.now())}
        assert available <= set(world.stored.values())


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=NO_SHRINKING)
@given(
    seed=st.integers(0, 10_000),
    orders=st.integers(0, 40),
    marketplaces=st.sets(st.sampled_from(sorted(MARKETS)), min_size=1, max_size=4),
    step=st.sampled_from([DAY / 2, DAY, 2 * DAY]),
    signed_refunds=st.sampled_from([True, False, "amount", "lines"]),
)
@example(seed=1, orders=50, marketplaces=set(MARKETS), step=DAY, signed_refunds=True)
@example(seed=2, orders=12, marketplaces={"ATVPDKIKX0DER"}, step=DAY, signed_refunds="amount")
@example(seed=3, orders=12, marketplaces={"A1VC38T7YXB528"}, step=DAY, signed_refunds="lines")
def test_any_companys_tables_are_its_books(seed, orders, marketplaces, step, signed_refunds):
    world = world_of(seed, orders, marketplaces, signed_refunds=signed_refunds)
    live_on(world, step)
    world.check_books()
