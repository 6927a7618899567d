"""Every page, in both themes: readable by all, with and without a script, and by nobody who may not."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from config.stack import Stack
from tests.browser.conftest import PageOf, Placer, axe_clean

PAGES = ["/admin/", "/admin/orders/ordersummary/", "/admin/inventory/stocklevel/"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_accessible(page_as: PageOf, place: Placer, path: str, theme: str) -> None:
    place()
    page = page_as("operator", path, color_scheme=theme)
    expect(page.get_by_role("navigation").first).to_be_visible()
    axe_clean(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_orders_of_some_days_are_picked_by_name(page_as: PageOf, place: Placer, theme: str) -> None:
    order = place(reference=f"REF-{theme}")
    page = page_as("viewer", "/admin/orders/ordersummary/", color_scheme=theme)
    page.get_by_role("button", name="Filters").click()
    days = page.get_by_role("group", name="By placed at")
    days.get_by_label("From").fill("2010-12-01")
    days.get_by_label("Up to and including").fill("2010-12-09")
    axe_clean(page)
    page.get_by_role("button", name="Apply Filters").click()
    expect(page.get_by_text(f"REF-{theme}")).to_have_count(0)

    page.goto("/admin/orders/ordersummary/?placed_at_from=2010-12-01&placed_at_to=yesterday")
    page.get_by_role("button", name="Filters").click()
    expect(page.get_by_text("Enter a valid date.")).to_be_visible()
    expect(page.get_by_label("From")).to_have_value("2010-12-01")
    expect(page.locator(f"a[href*='{order}']").first).to_be_attached()
    axe_clean(page)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_read_without_a_script(stack: Stack, page_as: PageOf, path: str) -> None:
    page = page_as("viewer", path, java_script_enabled=False)
    assert page.locator("#content").is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_way_in_is_accessible(page_as: PageOf, theme: str) -> None:
    page = page_as("", "/admin/login/", color_scheme=theme)
    axe_clean(page)
    page.get_by_role("button", name="Theme").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="System")).to_be_visible()
    axe_clean(page)


LISTS = [
    "eventing/storedevent",
    "eventing/logentry",
    "eventing/delivery",
    "eventing/sagainstance",
    "payments/gatewayentry",
    "payments/paymentsummary",
    "shipping/shipmentsummary",
    "admin/logentry",
]


@pytest.mark.parametrize("name", [*LISTS, "auth/user", "auth/user/add", "auth/group", "knox/authtoken"])
def test_what_administrators_see_is_accessible(page_as: PageOf, place: Placer, name: str) -> None:
    place()
    axe_clean(page_as("administrator", f"/admin/{name}/"))
    axe_clean(page_as("administrator", f"/admin/{name}/", color_scheme="dark"))
