from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import DjangoAssertNumQueries
from uuid_utils.compat import uuid7

from eventing.checkpoints import pause
from eventing.handlers import dispatch
from eventing.models import StoredEvent
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from inventory.commands import ListStockItem
from orders.models import Article
from orders.pricing import NoPrice, list_prices
from tests.articles import on_sale
from tests.builders import HEART, LANTERN, pounds
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db


def listed(sku: str, price: str) -> None:
    dispatch(ListStockItem(sku=sku, description=f"Article {sku}", list_price=pounds(price)))


@pytest.fixture
def ann() -> ApiClient:
    client = ApiClient()
    client.force_authenticate(User.objects.create_user("ann"))
    return client


def place(client: ApiClient, *lines: dict[str, Any], **changes: Any) -> Any:
    return client.post("/api/v1/orders", {"lines": list(lines), **changes})


def test_orders_keeps_a_copy_of_what_inventory_lists() -> None:
    listed(HEART, "2.55")
    listed(HEART, "2.95")
    settle()
    article = Article.objects.get()
    assert (article.sku, article.description) == (HEART, f"Article {HEART}")
    assert (article.currency, article.price_minor) == ("GBP", 295)


def test_prices_take_one_query_and_name_all_that_have_none(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    listed(HEART, "2.55")
    settle()
    with django_assert_num_queries(1):
        assert list_prices([HEART, HEART]) == {HEART: pounds("2.55")}
    with pytest.raises(NoPrice, match="There's no price for 71053, 99999: list it in inventory"):
        list_prices([HEART, "99999", LANTERN])


def test_a_line_without_a_price_is_sold_at_its_list_price(ann: ApiClient) -> None:
    listed(HEART, "2.55")
    settle()
    answer = place(ann, {"sku": HEART, "quantity": 2})
    assert answer.status_code == 201
    assert answer.json()["total"] == {"amount": 510, "currency": "GBP"}


def test_orders_are_priced_without_asking_inventory(ann: ApiClient) -> None:
    listed(HEART, "2.55")
    settle()
    pause(subscription_named("inventory.StockLevels"))
    assert place(ann, {"sku": HEART, "quantity": 1}).status_code == 201


def test_an_article_without_a_price_is_named_by_its_line(ann: ApiClient) -> None:
    on_sale({LANTERN: 339})
    seen = {"amount": 1, "currency": "GBP"}
    answer = place(ann, {"sku": LANTERN, "quantity": 1}, {"sku": HEART, "quantity": 1, "unit_price": seen})
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/lines/1/sku"]
    assert "isn't listed" in answer.json()["errors"][0]["detail"]


def test_a_price_that_is_not_what_the_customer_saw_is_told_with_both_and_nothing_is_placed(ann: ApiClient) -> None:
    on_sale({HEART: 295, LANTERN: 339})
    seen = {"amount": 255, "currency": "GBP"}
    answer = place(
        ann,
        {"sku": LANTERN, "quantity": 1, "unit_price": {"amount": 339, "currency": "GBP"}},
        {"sku": HEART, "quantity": 1, "unit_price": seen},
    )

    assert (answer.status_code, answer.json()["code"]) == (409, "price-changed")
    assert answer.json()["prices"] == [
        {"pointer": "#/lines/1/unit_price", "sku": HEART, "seen": seen, "current": {"amount": 295, "currency": "GBP"}}
    ]
    assert not StoredEvent.objects.exists()


def test_the_same_amount_of_another_currency_is_another_price(ann: ApiClient) -> None:
    on_sale({HEART: 255})
    answer = place(ann, {"sku": HEART, "quantity": 1, "unit_price": {"amount": 255, "currency": "EUR"}})
    assert answer.json()["code"] == "price-changed"


def test_nobody_names_a_price_not_even_who_places_orders_for_others() -> None:
    on_sale({HEART: 255})
    boss = ApiClient()
    boss.force_authenticate(User.objects.create_superuser("boss"))
    answer = place(boss, {"sku": HEART, "quantity": 1, "unit_price": {"amount": 1, "currency": "GBP"}})
    assert answer.json()["code"] == "price-changed"


def test_an_order_is_in_one_currency(ann: ApiClient) -> None:
    on_sale({HEART: 255})
    on_sale({LANTERN: 339}, currency="EUR")
    answer = place(ann, {"sku": HEART, "quantity": 1}, {"sku": LANTERN, "quantity": 1})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/lines/1/sku"]


def test_a_total_that_no_reader_would_keep_exact_is_refused(ann: ApiClient) -> None:
    on_sale({HEART: 2**53 - 1})
    answer = place(ann, {"sku": HEART, "quantity": 2})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/lines"]


def test_sent_again_an_order_keeps_the_prices_that_it_was_placed_with(ann: ApiClient) -> None:
    order = str(uuid7())
    listed(HEART, "2.55")
    settle()
    pause(subscription_named("orders.OrderLines"))  # it's the order's events that count
    first = place(ann, {"sku": HEART, "quantity": 1}, order_id=order)
    listed(HEART, "9.99")
    settle()
    assert place(ann, {"sku": HEART, "quantity": 1}, order_id=order).content == first.content
    seen = {"amount": 255, "currency": "GBP"}
    assert place(ann, {"sku": HEART, "quantity": 1, "unit_price": seen}, order_id=order).content == first.content
