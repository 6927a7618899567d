"""A gateway that fails, and an event that kills its worker: what an operator finds, and does."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import APIRequestContext, Page, expect

from config.stack import Stack
from tests.browser.conftest import PageOf, Placer, axe_clean
from tests.waiting import eventually

ORDERS = 9


def status(api: APIRequestContext, order: str) -> str:
    return str(api.get(f"orders/{order}").json()["status"])


def dead(page: Page) -> int:
    """How many letters the groups' page says are dead."""
    page.goto("/admin/operations/letters")
    found = page.get_by_role("row").filter(has_text="GatewayDown").get_by_text(re.compile(r"\d+ dead"))
    return int(found.inner_text().split()[0]) if found.count() else 0


def switch(stack: Stack, state: str) -> None:
    assert stack.manage("simulated_gateway", state, quiet=True).returncode == 0


@pytest.fixture
def outage(stack: Stack, page_as: PageOf) -> Iterator[None]:
    """A gateway that is out of order; afterwards it's mended, and nothing that failed is left."""
    switch(stack, "down")
    yield
    switch(stack, "up")
    stack.manage("dead_letters", "retry", "--all", quiet=True)
    page = page_as("viewer")
    assert eventually(lambda: dead(page) == 0, seconds=60)


@pytest.mark.timeout(300)
def test_a_gateway_fails_and_what_was_not_charged_is_retried_once_and_then_gradually(
    stack: Stack, outage: None, page_as: PageOf, api: APIRequestContext, place: Placer
) -> None:
    orders = [place(reference=f"outage {number}") for number in range(ORDERS)]
    page = page_as("operator")
    assert eventually(lambda: dead(page) == ORDERS, seconds=90)

    page.get_by_role("link", name="payments.gateway.GatewayDown").click()
    expect(page.get_by_text("The gateway answers <number> Service Unavailable.").first).to_be_visible()
    expect(page.get_by_text("payments.gateway.simulated._check_order", exact=True)).to_be_visible()
    axe_clean(page)

    page.get_by_role("link", name=re.compile(r"^\d+$")).first.click()
    expect(page.get_by_text("It failed 8 times, and waits for a person.")).to_be_visible()
    expect(page.get_by_text("payments/gateway/simulated.py").first).to_be_visible()
    axe_clean(page)
    page.get_by_role("link", name="This group").click()

    # Before the cause is mended one letter shows that it isn't, and the others aren't touched.
    page.get_by_role("button", name=f"Retry all {ORDERS} gradually").click()
    expect(page.get_by_text("1 of the 1 in wave 1 failed again")).to_be_visible(timeout=60_000)

    assert eventually(lambda: dead(page) == ORDERS, seconds=60)  # it goes on failing by itself for a while
    switch(stack, "up")
    page.get_by_role("link", name="payments.gateway.GatewayDown").click()
    page.get_by_role("button", name="Retry one first").click()
    expect(page.get_by_text(re.compile(r"Letter \d+ is tried again now"))).to_be_visible()
    assert eventually(lambda: [status(api, order) for order in orders].count("confirmed") == 1, seconds=60)

    page.get_by_role("button", name=f"Retry all {ORDERS - 1} gradually").click()
    expect(page.get_by_text(f"{ORDERS - 1} of {ORDERS - 1} letters, wave 3")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("No open letters fit.")).to_be_visible()
    assert eventually(lambda: {status(api, order) for order in orders} == {"confirmed"}, seconds=60)


@pytest.mark.timeout(300)
def test_an_event_that_kills_its_worker_is_parked_while_other_orders_flow(
    stack: Stack, page_as: PageOf, api: APIRequestContext, place: Placer
) -> None:
    poisoned = place(reference="poison")
    others = [place() for _ in range(3)]
    assert eventually(lambda: {status(api, order) for order in [poisoned, *others]} == {"confirmed"}, seconds=90)

    page = page_as("operator")

    def shows_the_poison() -> bool:
        page.goto("/admin/operations/letters")
        return page.get_by_role("row").filter(has_text="tests.weigh_parcel").filter(has_text="1 dead").count() == 1

    assert eventually(shows_the_poison, seconds=120)
    page.get_by_role("row").filter(has_text="tests.weigh_parcel").get_by_role("link").click()
    page.get_by_role("link", name=re.compile(r"^\d+$")).click()
    expect(page.get_by_text("never ended").first).to_be_visible()

    page.get_by_label("Reason").fill("It's a poison that a test brewed.")
    page.get_by_role("button", name="Skip it").click()
    expect(page.get_by_text("is skipped")).to_be_visible()
    expect(page.get_by_text("Given up")).to_be_visible()


def test_a_viewer_reads_letters_and_sees_why_nothing_can_be_done(outage: None, page_as: PageOf, place: Placer) -> None:
    place()
    page = page_as("viewer")
    assert eventually(lambda: dead(page) == 1, seconds=60)
    page.get_by_role("link", name="payments.gateway.GatewayDown").click()
    for button in ("Retry one first", "Retry all 1 gradually", "Skip all 1"):
        expect(page.get_by_role("button", name=button)).to_be_disabled()
    expect(page.get_by_text("Takes the permission eventing.retry_delivery.").first).to_be_visible()


def test_a_refresh_takes_neither_what_was_written_nor_where_the_keyboard_is(
    outage: None, page_as: PageOf, place: Placer
) -> None:
    place()
    page = page_as("operator")
    assert eventually(lambda: dead(page) == 1, seconds=60)
    page.get_by_role("link", name="payments.gateway.GatewayDown").click()
    page.get_by_label("Reason").fill("It was a drill.")
    page.keyboard.press("Tab")
    skip = page.get_by_role("button", name="Skip all 1")
    expect(skip).to_be_focused()
    for _ in range(2):
        with page.expect_response(lambda answer: "signature=" in answer.url):
            pass  # it refreshes by itself
    expect(page.locator("[data-updated]")).not_to_have_text("just now")
    expect(page.get_by_label("Reason")).to_have_value("It was a drill.")
    expect(skip).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 skipped; the next of their sequences go on.")).to_be_visible()
