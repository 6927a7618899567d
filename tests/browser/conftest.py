"""A whole Waybill and a real browser, for tests that do what an operator does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import APIRequestContext, Browser, Page, Playwright, Request, sync_playwright

from config.stack import MEMBERS, Stack
from tests.conftest import stacks

PASSWORD = "parcels-and-pennies"
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
ACCOUNTS = f"""
from django.contrib.auth.models import Group, User
for name in ("viewer", "operator", "administrator"):
    user = User.objects.create_user(name, f"{{name}}@localhost", "{PASSWORD}", is_staff=True)
    user.groups.add(Group.objects.get(name=name))
"""
TOKEN = "from django.contrib.auth.models import User; User.objects.create_superuser('shop')"

PageOf = Callable[..., Page]
Placer = Callable[..., str]


def chromium() -> str | None:
    """Where Debian's Chromium is, or another one that was put on the path."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """All of Waybill, with accounts of every role; retries come within a moment."""
    if chromium() is None:
        pytest.skip("there's no Chromium: apt-get install chromium")
    with stacks() as start:
        stack = start(
            members=MEMBERS,
            DJANGO_SETTINGS_MODULE="tests.browser.settings",
            EVENTING_BACKOFF_SECONDS="0.02",
            EVENTING_BACKOFF_CAP_SECONDS="0.2",
            EVENTING_LEASE_SECONDS="5",
            EVENTING_ATTEMPTS="3",
        )
        assert stack.manage("shell", "-c", ACCOUNTS + TOKEN, quiet=True).returncode == 0
        yield stack


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    # Only for as long as a module runs: it keeps an event loop, beside which Django refuses to reach its database.
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=chromium(), args=["--disable-dev-shm-usage", "--disable-gpu"])
    yield browser
    browser.close()


@pytest.fixture
def page_as(stack: Stack, browser: Browser) -> Iterator[PageOf]:
    """Opens a page as somebody of a role, or as nobody; keywords are those of Playwright's `new_context`. No page may
    fail in its script, or ask for anything from elsewhere."""
    contexts = []
    wrong: list[str] = []

    def check(asked: Request) -> None:
        if not asked.url.startswith((stack.address, "data:")):
            wrong.append(f"asks for {asked.url}")

    def open_page(role: str = "", path: str = "/admin/", **options: Any) -> Page:
        context = browser.new_context(
            base_url=stack.address, viewport={"width": 1400, "height": 900}, reduced_motion="reduce", **options
        )
        contexts.append(context)
        context.on("weberror", lambda error: wrong.append(str(error.error)))
        context.on("request", check)
        page = context.new_page()
        if role:
            page.goto("/admin/login/")
            page.get_by_label("Username").fill(role)
            page.get_by_label("Password").fill(PASSWORD)
            page.keyboard.press("Enter")
            page.wait_for_url("**/admin/")
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def api(stack: Stack, playwright: Playwright) -> Iterator[APIRequestContext]:
    """The API, as a shop that may do everything."""
    answer = stack.manage("create_api_token", "shop", "--json", quiet=True)
    context = playwright.request.new_context(
        base_url=f"{stack.address}/api/v1/",
        extra_http_headers={"Authorization": f"Bearer {json.loads(answer.stdout)['token']}"},
    )
    yield context
    context.dispose()


@pytest.fixture
def place(api: APIRequestContext) -> Placer:
    """Places an order of an article of which there's plenty, and returns its id."""
    sku = f"SKU-{uuid4().hex[:8]}"
    price = {"amount": 1250, "currency": "GBP"}
    article = {"sku": sku, "description": "Teapot", "list_price": price}
    listed = api.post("inventory/items", data=article, headers={"Idempotency-Key": f"{sku}-listed"})
    assert listed.ok
    received = {"quantity": 1000}
    assert api.post(f"inventory/items/{sku}/receive", data=received, headers={"Idempotency-Key": sku}).ok
    seen = {"Consistency-Token": listed.headers["consistency-token"], "Prefer": "wait=10"}  # orders have their own copy

    def place_order(**changes: Any) -> str:
        line = {"sku": sku, "description": "Teapot", "quantity": 2, "unit_price": price}
        key = {"Idempotency-Key": uuid4().hex}
        answer = api.post("orders", data={"lines": [line], **changes}, headers={**key, **seen})
        assert answer.ok, answer.text()
        return str(answer.json()["order_id"])

    return place_order


def axe_clean(page: Page) -> None:
    """Assert that a page, as it is shown, breaks none of the rules of WCAG 2.2 AA that axe knows how to check."""
    found = Axe().run(page, options={"runOnly": WCAG})
    assert found.violations_count == 0, found.generate_report()
