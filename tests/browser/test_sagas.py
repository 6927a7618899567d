"""Sagas, subscriptions and replays in a browser: what an operator looks at and does, against real workers."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from config.stack import Stack
from tests.browser.conftest import PageOf, Placer, axe_clean

SAGAS, SUBSCRIPTIONS = "/admin/operations/sagas", "/admin/operations/subscriptions"
ARTICLES = f"{SUBSCRIPTIONS}/inventory.StockLevels"
PAGES = [SAGAS, SUBSCRIPTIONS, ARTICLES, "/admin/operations/outbox"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible(page_as: PageOf, place: Placer, theme: str) -> None:
    order = place()
    page = page_as("operator", color_scheme=theme)
    for path in [*PAGES, f"{SAGAS}/orders.OrderFulfilment/{order}"]:
        page.goto(path)
        expect(page.locator("#operations")).to_be_visible()
        axe_clean(page)


def test_a_saga_is_followed_to_its_end(page_as: PageOf, place: Placer) -> None:
    order = place()
    page = page_as("operator", f"{SAGAS}?key={order}")
    page.get_by_role("link", name=order).first.click()
    expect(page.get_by_text("It ended COMPLETED")).to_be_visible(timeout=30_000)
    for asked in ("payments.ProcessPayment", "inventory.ReserveInventory", "shipping.CreateShipment"):
        expect(page.get_by_text(asked, exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Resume")).to_be_disabled()


def test_a_read_model_is_replayed_from_its_page_and_swapped(stack: Stack, page_as: PageOf, place: Placer) -> None:
    place()
    wrong = "from inventory.models import StockLevel; StockLevel.objects.update(description='Wrong')"
    assert stack.manage("shell", "-c", wrong, quiet=True).returncode == 0
    page = page_as("operator", ARTICLES)
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("Compared:")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("compared", exact=True)).to_be_visible()
    expect(page.get_by_text("Wrong").first).to_be_visible()
    page.get_by_role("button", name="Exchange").click()
    expect(page.get_by_text("done", exact=True)).to_be_visible(timeout=60_000)
    asked = "from inventory.models import StockLevel; print(StockLevel.objects.filter(description='Wrong').count())"
    assert stack.manage("shell", "-c", asked, quiet=True).stdout.strip().endswith("0")


def test_who_may_only_look_sees_why_the_buttons_are_disabled(page_as: PageOf) -> None:
    page = page_as("viewer", ARTICLES)
    expect(page.get_by_role("button", name="Replay")).to_be_disabled()
    expect(page.get_by_text("Takes the permission eventing.run_replay.").first).to_be_visible()
    expect(page.get_by_role("button", name="Pause", exact=True).first).to_be_disabled()


def test_a_page_can_be_read_without_a_script(page_as: PageOf) -> None:
    page = page_as("viewer", java_script_enabled=False)
    for path in PAGES:
        page.goto(path)
        assert page.locator("#operations table, #operations .empty").first.is_visible()
