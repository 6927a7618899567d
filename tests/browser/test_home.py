"""An operator looks at the first page all day."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from config.stack import Stack
from tests.browser.conftest import PageOf, Placer, axe_clean

PATIENCE = 60_000  # milliseconds, with workers that share two cores


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    expect.set_options(timeout=PATIENCE)
    yield
    expect.set_options(timeout=5_000)


def figure(page: Page, title: str) -> Locator:
    return page.get_by_role("listitem").filter(has_text=title).locator(".figure")


def confirmed(page: Page) -> Locator:
    """As the chart's table has it, which is there whether it's open or not."""
    return page.locator("#states-table tr").filter(has_text="confirmed").locator("[data-value]")


def number(shown: Locator) -> int:
    return int((shown.text_content() or "").replace(",", ""))


def test_an_order_is_followed_live_from_placed_to_confirmed(page_as: PageOf, place: Placer) -> None:
    page = page_as("operator")
    today, done = number(figure(page, "Orders today")), number(confirmed(page))
    page.evaluate("window.same = true")

    order = place()
    expect(figure(page, "Orders today")).to_have_text(f"{today + 1:,}")
    expect(confirmed(page)).to_have_text(f"{done + 1:,}")
    assert page.evaluate("window.same"), "the page was left meanwhile"

    page.get_by_role("link", name="Orders today").click()
    expect(page.get_by_text(order).first).to_be_visible()


def test_pausing_keeps_the_page_as_it_is(page_as: PageOf, place: Placer) -> None:
    page = page_as("viewer")
    page.get_by_role("button", name="Pause refreshing").click()
    today = number(figure(page, "Orders today"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    place()
    page.wait_for_timeout(6_500)  # longer than a refresh takes to come
    assert not asked
    assert number(figure(page, "Orders today")) == today

    page.get_by_role("button", name="Refresh again").click()
    expect(figure(page, "Orders today")).to_have_text(f"{today + 1:,}")


def test_the_charts_have_tables_that_say_the_same_and_stay_open(page_as: PageOf, place: Placer) -> None:
    place()
    page = page_as("viewer")
    expect(page.locator("canvas")).to_have_count(2)
    summary = page.get_by_text("The same as a table").first
    summary.focus()
    page.keyboard.press("Enter")
    table = page.get_by_role("table", name="Orders a minute")
    expect(table).to_be_visible()

    with page.expect_response(lambda response: "hx-request" in response.request.headers):
        pass
    expect(table).to_be_visible()
    axe_clean(page)


def test_a_keyboard_is_enough(page_as: PageOf) -> None:
    page = page_as("viewer")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Pause refreshing")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Orders today")).to_be_focused()

    account = page.get_by_role("button", name="viewer")
    account.focus()
    page.keyboard.press("Enter")
    dark = page.get_by_role("button", name="Dark")
    expect(dark).to_be_visible()
    dark.focus()
    page.keyboard.press("Space")
    expect(page.locator("html")).to_have_class("dark")
    page.keyboard.press("Escape")
    expect(dark).to_be_hidden()


def test_the_figures_can_be_read_without_a_script(page_as: PageOf, place: Placer, stack: Stack) -> None:
    place()
    page = page_as("viewer", java_script_enabled=False)
    expect(page.get_by_text("Orders today")).to_be_visible()
    page.get_by_text("The same as a table").first.click()
    expect(page.get_by_role("table", name="Orders a minute")).to_be_visible()


def test_the_theme_follows_the_system(page_as: PageOf) -> None:
    for theme in ("light", "dark"):
        page = page_as("viewer", color_scheme=theme)
        expect(page.locator("html")).to_have_class(theme if theme == "dark" else "")
