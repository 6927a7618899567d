from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient
from uuid_utils.compat import uuid7

from eventing.checkpoints import pause
from eventing.handlers import dispatch
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from inventory.commands import ListStockItem
from orders.models import Article
from orders.pricing import NoPrice, list_prices
from tests.builders import HEART, LANTERN, pounds

pytestmark = pytest.mark.django_db


def listed(sku: str, price: str) -> None:
    dispatch(ListStockItem(sku=sku, description=f"Article {sku}", list_price=pounds(price)))


@pytest.fixture
def ann() -> APIClient:
    client = APIClient()
    client.force_authenticate(User.objects.create_user("ann"))
    return client


def place(client: APIClient, *lines: dict[str, Any], **changes: Any) -> Any:
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


def test_a_line_without_a_price_is_sold_at_its_list_price(ann: APIClient) -> None:
    listed(HEART, "2.55")
    settle()
    answer = place(ann, {"sku": HEART, "quantity": 2})
    assert answer.status_code == 201
    assert answer.json()["total"] == {"amount": 510, "currency": "GBP"}


def test_orders_are_priced_without_asking_inventory(ann: APIClient) -> None:
    listed(HEART, "2.55")
    settle()
    pause(subscription_named("inventory.StockLevels"))
    assert place(ann, {"sku": HEART, "quantity": 1}).status_code == 201


def test_an_article_without_a_price_is_named_by_its_line(ann: APIClient) -> None:
    priced = {"sku": LANTERN, "quantity": 1, "unit_price": {"amount": 1, "currency": "GBP"}}
    answer = place(ann, priced, {"sku": HEART, "quantity": 1})
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/lines/1/sku"]
    assert "no list price" in answer.json()["errors"][0]["detail"]


def test_sent_again_lines_of_one_article_at_two_prices_keep_theirs(ann: APIClient) -> None:
    listed(HEART, "2.55")
    settle()
    heart = {"sku": HEART, "quantity": 1}
    lines, order = (heart, {**heart, "unit_price": {"amount": 1, "currency": "GBP"}}), str(uuid7())
    first = place(ann, *lines, order_id=order)
    settle()
    assert [line["unit_price"]["amount"] for line in first.json()["lines"]] == [255, 1]
    assert place(ann, *lines, order_id=order).content == first.content


def test_sent_again_an_order_keeps_the_prices_that_it_was_placed_with(ann: APIClient) -> None:
    order = str(uuid7())
    listed(HEART, "2.55")
    settle()
    first = place(ann, {"sku": HEART, "quantity": 1}, order_id=order)
    settle()
    listed(HEART, "9.99")
    settle()
    assert place(ann, {"sku": HEART, "quantity": 1}, order_id=order).content == first.content
