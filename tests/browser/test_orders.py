"""An operator looks after one order: live, back through its versions, and beside what gateway and carrier say."""

from __future__ import annotations

import os
import re

import pytest
from playwright.sync_api import APIRequestContext, Page, expect

from tests.browser.conftest import PageOf, Placer, axe_clean

PATIENCE = 60_000  # milliseconds, with workers that share two cores


@pytest.fixture(autouse=True)
def _patience() -> None:
    expect.set_options(timeout=PATIENCE)


def address_of(order: str) -> str:
    return f"/admin/operations/orders/{order}/"


def take_picture(page: Page, name: str) -> None:
    """Where somebody wants to see what the pages look like: PICTURES is a folder."""
    if folder := os.environ.get("PICTURES"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_an_order_is_followed_live_on_its_page_to_its_end(page_as: PageOf, place: Placer) -> None:
    order = place()
    page = page_as("operator", address_of(order))
    page.evaluate("window.same = true")
    expect(page.get_by_text("It is confirmed, and waits to be dispatched.")).to_be_visible()
    assert page.evaluate("window.same"), "the page was left meanwhile"

    page.get_by_role("button", name="Dispatch shipment").click()
    expect(page.get_by_text("It is shipped, and waits to be delivered.")).to_be_visible()
    page.get_by_role("button", name="Mark as delivered").click()
    expect(page.get_by_text("It is delivered. Nothing is left to be done.")).to_be_visible()

    page.get_by_label("Units of line 1 that came back").fill("1")
    page.get_by_label("Reason of the return").fill("Broken")
    page.get_by_role("button", name="Register a return").click()
    expect(page.get_by_text("1 unit came back.")).to_be_visible()


def test_an_order_as_of_a_version(page_as: PageOf, place: Placer) -> None:
    order = place()
    page = page_as("viewer", address_of(order))
    expect(page.get_by_text("It is confirmed, and waits to be dispatched.")).to_be_visible()
    page.reload()
    page.get_by_role("combobox", name="Version").select_option(label="2: order confirmed")
    page.locator("form:has(select[name=version])").get_by_role("button", name="Show").click()
    row = page.get_by_role("table", name="The order as of version 2").get_by_role("row").filter(has_text="Status")
    expect(row).to_contain_text("confirmed")
    expect(row).to_contain_text("from placed")


def test_what_is_being_taken_back_stays_written_over_a_refresh(page_as: PageOf, place: Placer) -> None:
    page = page_as("operator", address_of(place()))
    page.get_by_role("button", name="Dispatch shipment").click()
    expect(page.get_by_text("It is shipped, and waits to be delivered.")).to_be_visible()
    units = page.get_by_label("Units of line 1 that came back")
    units.fill("2")
    page.get_by_role("combobox", name="Version").select_option(label="1: order placed")
    page.get_by_role("heading", name="Lines").click()  # nothing is being written any more
    for _ in range(2):
        with page.expect_response(lambda answer: "/operations/orders/" in answer.url):
            pass  # it refreshes by itself
    expect(page.locator("[data-updated]")).not_to_have_text("just now")
    expect(units).to_have_value("2")
    expect(page.get_by_role("combobox", name="Version")).to_have_value("1")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_are_accessible(page_as: PageOf, place: Placer, api: APIRequestContext, theme: str) -> None:
    declined = place(payment_method="tok_chargeDeclined")
    contact = {"name": "Ann Archer", "email": "ann@example.org", "city": "Ambridge"}
    order = place(payment_method="tok_timeout", contact=contact, reference="536365")
    page = page_as("operator", address_of(declined), color_scheme=theme)
    expect(page.get_by_text("It is cancelled: Payment failed")).to_be_visible()
    axe_clean(page)
    take_picture(page, f"declined-{theme}")
    page.goto(address_of(order))
    expect(page.get_by_text("It is confirmed, and waits to be dispatched.")).to_be_visible()
    page.goto(address_of(order) + "?version=2")
    axe_clean(page)
    take_picture(page, f"order-{theme}")
    sku = str(page.locator("a[href*='/operations/inventory/']").first.text_content())
    for name, link in (("payment", "/operations/payments/"), ("shipment", "/operations/shipments/")):
        page.goto(address_of(order))
        page.locator(f"a[href*='{link}']").first.click()
        expect(page.get_by_text(re.compile("Our record and .+ say the same"))).to_be_visible()
        axe_clean(page)
        take_picture(page, f"{name}-{theme}")
    page.goto(f"/admin/operations/inventory/{sku}/")
    axe_clean(page)
    take_picture(page, f"stock-{theme}")
    for name in ("orders/ordersummary", "payments/paymentsummary", "shipping/shipmentsummary", "inventory/stocklevel"):
        page.goto(f"/admin/{name}/")
        axe_clean(page)
        take_picture(page, f"list-{name.partition('/')[0]}-{theme}")


def test_pages_are_read_without_a_script(page_as: PageOf, place: Placer) -> None:
    order = place()
    page = page_as("viewer", address_of(order), java_script_enabled=False)
    expect(page.get_by_text("Order placed: 1 line")).to_be_visible()
    page.get_by_role("combobox", name="Version").select_option(value="1")
    page.locator("form:has(select[name=version])").get_by_role("button", name="Show").click()
    expect(page.get_by_role("table", name="The order as of version 1")).to_be_visible()
    expect(page.get_by_text("Takes the permission orders.cancel_order.")).to_be_visible()
