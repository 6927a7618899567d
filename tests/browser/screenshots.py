"""Takes the pictures of the operations pages that stand in `docs/screenshots/`: `make screenshots`.

It starts a Waybill of its own, imports the sample, has a day with a gateway that is out of order, and looks at the
pages as an operator does, in light and in dark. Times and ids differ from run to run; nothing else does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from playwright.sync_api import APIRequestContext, Page, Playwright, ViewportSize, sync_playwright

from config.management.commands.run import SAMPLE
from config.stack import MEMBERS, ROOT, Stack
from tests.browser.conftest import ACCOUNTS, PASSWORD, TOKEN, chromium
from tests.conftest import stacks
from tests.waiting import eventually

PICTURES = ROOT / "docs" / "screenshots"
VIEWPORT = ViewportSize(width=1280, height=800)
TALLEST = 1600  # pixels of a page that a picture shows
SOLD, FAILING = 20, 7  # orders before the gateway fails, and while it does
SKU = "85123A"
SETTINGS = {"EVENTING_BACKOFF_SECONDS": "0.05", "EVENTING_BACKOFF_CAP_SECONDS": "0.2", "EVENTING_ATTEMPTS": "3"}


def main() -> None:
    if chromium() is None:
        sys.exit("There's no Chromium: apt-get install chromium")
    missing: list[str] = []
    with stacks() as start, sync_playwright() as playwright:
        stack = start(members=MEMBERS, **SETTINGS)
        order = live_through_a_day(stack, playwright)
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--disable-gpu", "--disable-lcd-text", "--font-render-hinting=none"]
        )
        for theme in ("light", "dark"):
            context = browser.new_context(
                base_url=stack.address,
                viewport=VIEWPORT,
                color_scheme="dark" if theme == "dark" else "light",
                reduced_motion="reduce",
                locale="en-GB",
                timezone_id="UTC",
            )
            page = context.new_page()
            sign_in(page)
            for name, find in pages(order).items():
                find(page)
                if page.locator("main #content").count():
                    take(page, PICTURES / f"{name}-{theme}.png")
                else:
                    missing.append(f"{page.url} says: {page.title()}")
            context.close()
        browser.close()
    if missing:
        sys.exit("\n".join(missing))


def pages(order: str) -> dict[str, Callable[[Page], Any]]:
    """How to come to each page, from the order that waits for the gateway."""

    def first_group(page: Page) -> None:
        page.goto("/admin/operations/letters")
        if (group := page.locator("#live table a").first).is_visible():
            group.click()
            page.wait_for_load_state()

    return {
        "home": lambda page: page.goto("/admin/"),
        "order": lambda page: page.goto(f"/admin/operations/orders/{order}/"),
        "dead-letter-group": first_group,
        "saga": lambda page: page.goto(f"/admin/operations/sagas/orders.OrderFulfilment/{order}"),
        "subscription": lambda page: page.goto("/admin/operations/subscriptions/orders.OrderSummaries"),
    }


def live_through_a_day(stack: Stack, playwright: Playwright) -> str:
    """Orders that go well, a read model that is built anew, and orders that the gateway fails. Returns one of them."""
    _manage(stack, "shell", "-v0", "-c", ACCOUNTS + TOKEN)
    _manage(stack, "import_orders", str(SAMPLE), "--wait")
    _manage(stack, "replay_projection", "orders.OrderSummaries")
    token = json.loads(_manage(stack, "create_api_token", "shop", "--json"))["token"]
    api = playwright.request.new_context(
        base_url=f"{stack.address}/api/v1/", extra_http_headers={"Authorization": f"Bearer {token}"}
    )
    _place(api, SOLD)
    _expect(stack, "SELECT count(*) = 0 FROM orders_ordersummary WHERE status = 'placed'")
    _manage(stack, "simulated_gateway", "down")
    *_, order = _place(api, FAILING)
    _expect(stack, f"SELECT count(*) = {FAILING} FROM eventing_delivery WHERE state = 'dead'")
    api.dispose()
    return order


def sign_in(page: Page) -> None:
    page.goto("/admin/login/")
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/")


def take(page: Page, file: Path) -> None:
    """Photograph a page from its top, as far as it goes but no further than `TALLEST`."""
    page.set_viewport_size({**VIEWPORT, "height": TALLEST})
    height = page.evaluate("Math.ceil(document.querySelector('#content').getBoundingClientRect().bottom) + 24")
    page.set_viewport_size({**VIEWPORT, "height": max(VIEWPORT["height"], min(TALLEST, height))})
    page.evaluate("document.fonts.ready")
    page.mouse.move(0, 0)
    page.screenshot(path=file, animations="disabled", caret="hide")
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1000:.0f} kB")  # noqa: T201


def _place(api: APIRequestContext, count: int) -> list[str]:
    orders = [str(uuid4()) for _ in range(count)]
    received = {"quantity": count * 2, "reference": orders[0]}
    api.post(f"inventory/items/{SKU}/receive", data=received, headers={"Idempotency-Key": orders[0]})
    for order in orders:
        line = {"sku": SKU, "description": "White hanging heart T-light holder", "quantity": 2}
        answer = api.post("orders", data={"order_id": order, "lines": [line]}, headers={"Idempotency-Key": order})
        if not answer.ok:
            sys.exit(answer.text())
    return orders


def _manage(stack: Stack, *arguments: str) -> str:
    done = stack.manage(*arguments, quiet=True)
    if done.returncode:
        sys.exit(f"manage.py {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def _expect(stack: Stack, query: str) -> None:
    """Wait until a query answers yes."""

    def holds() -> bool:
        with psycopg.connect(stack.environ["DATABASE_URL"]) as connection:
            return bool(connection.execute(query.encode()).fetchall()[0][0])

    if not eventually(holds, seconds=120):
        sys.exit(f"In vain: {query}")


if __name__ == "__main__":
    main()
