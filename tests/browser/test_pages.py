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


@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_read_without_a_script(stack: Stack, page_as: PageOf, path: str) -> None:
    page = page_as("viewer", path, java_script_enabled=False)
    assert page.locator("#content").is_visible()


def test_nothing_is_fetched_from_elsewhere(stack: Stack, page_as: PageOf) -> None:
    page = page_as("viewer")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/admin/")
    page.wait_for_load_state("networkidle")
    assert asked
    assert all(url.startswith((stack.address, "data:")) for url in asked), asked
