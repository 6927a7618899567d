from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from eventing.models import StoredEvent
from eventing.testing import settle
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db

ITEMS = "/api/v1/inventory/items"
HEART = {
    "sku": "85123A",
    "description": "White hanging heart T-light holder",
    "list_price": {"amount": 255, "currency": "GBP"},
}


@pytest.fixture
def clerk() -> ApiClient:
    """Somebody who may change stock."""
    user = User.objects.create_user("clerk")
    user.user_permissions.add(Permission.objects.get(codename="change_stocklevel"))
    return signed_in(user)


@pytest.fixture
def visitor() -> ApiClient:
    """Somebody who may not."""
    return signed_in(User.objects.create_user("visitor"))


def signed_in(user: User) -> ApiClient:
    client = ApiClient()
    client.force_authenticate(user)
    return client


def test_an_article_is_listed_and_units_of_it_are_received(clerk: ApiClient, visitor: ApiClient) -> None:
    listed = clerk.post(ITEMS, HEART)
    received = clerk.post(f"{ITEMS}/85123A/receive", {"quantity": 12, "reference": "D-1"})
    at_once = visitor.get(listed["Location"])
    settle()
    later = visitor.get(listed["Location"])

    assert (listed.status_code, listed["ETag"]) == (201, '"1"')
    assert listed.json() == {**HEART, "version": 1}
    assert (received.status_code, received["ETag"]) == (200, '"2"')
    assert received.json() == {"sku": "85123A", "received": 12, "reference": "D-1", "version": 2}
    assert later.json() == {**HEART, "on_hand": 12, "reserved": 0, "available": 12, "version": 2}
    assert at_once.json() == later.json()
    assert StoredEvent.objects.filter(actor="clerk").count() == 2


def test_listing_an_article_again_changes_its_description_and_price(clerk: ApiClient) -> None:
    clerk.post(ITEMS, HEART)
    dearer = {**HEART, "list_price": {"amount": 295, "currency": "GBP"}}
    changed, unchanged = clerk.post(ITEMS, dearer), clerk.post(ITEMS, dearer)

    assert (changed.status_code, changed.json()) == (200, {**dearer, "version": 2})
    assert (unchanged.status_code, unchanged.json()) == (200, {**dearer, "version": 2})


def test_a_delivery_that_is_reported_twice_is_received_once_and_says_so(clerk: ApiClient) -> None:
    clerk.post(ITEMS, HEART)
    answers = [clerk.post(f"{ITEMS}/85123A/receive", {"quantity": 12, "reference": "D-1"}).json() for _ in range(2)]

    assert [answer["received"] for answer in answers] == [12, 0]
    assert [answer["version"] for answer in answers] == [2, 2]


def test_stock_of_an_article_that_is_not_listed_is_not_received(clerk: ApiClient) -> None:
    answer = clerk.post(f"{ITEMS}/85123A/receive", {"quantity": 12})

    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert not StoredEvent.objects.exists()


def test_changing_stock_takes_a_permission(visitor: ApiClient) -> None:
    for answer in (visitor.post(ITEMS, HEART), visitor.post(f"{ITEMS}/85123A/receive", {"quantity": 12})):
        assert (answer.status_code, answer.json()["code"]) == (403, "permission-denied")
        assert "inventory.change_stocklevel" in answer.json()["detail"]
    assert not StoredEvent.objects.exists()


def test_articles_are_listed_by_sku_a_page_at_a_time(clerk: ApiClient) -> None:
    skus = ["10002", "85123A", "C2 & co?", "Ü-1"]
    for sku in reversed(skus):
        location = clerk.post(ITEMS, {**HEART, "sku": sku})["Location"]
        assert clerk.get(location).json()["sku"] == sku
    settle()

    page = clerk.get(ITEMS, {"limit": 3}).json()
    rest = clerk.get(page["next"]).json()
    assert sorted(item["sku"] for item in page["results"] + rest["results"]) == sorted(skus)
    assert rest["next"] is None
    assert clerk.get(rest["previous"]).json()["results"] == page["results"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"sku": ""}, "#/sku"),
        ({"sku": "a/b"}, "#/sku"),
        ({"sku": ".."}, "#/sku"),
        ({"sku": "85123A\0"}, "#/sku"),
        ({"sku": "x" * 65}, "#/sku"),
        ({"sku": 85123}, "#/sku"),
        ({"description": ""}, "#/description"),
        ({"description": "x" * 256}, "#/description"),
        ({"description": None}, "#/description"),
        ({"list_price": 2.55}, "#/list_price"),
        ({"list_price": {"amount": 2.55, "currency": "GBP"}}, "#/list_price/amount"),
        ({"list_price": {"amount": -1, "currency": "GBP"}}, "#/list_price/amount"),
        ({"list_price": {"amount": 255, "currency": "pounds"}}, "#/list_price/currency"),
        ({"list_price": {"amount": 255}}, "#/list_price/currency"),
        ({"colour": "white"}, "#/colour"),
    ],
)
def test_an_article_with_a_bad_field_is_refused_with_a_pointer_to_it(
    clerk: ApiClient, changes: dict[str, Any], pointer: str
) -> None:
    answer = clerk.post(ITEMS, {**HEART, **changes})

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert not StoredEvent.objects.exists()


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"quantity": 0}, "#/quantity"),
        ({"quantity": -1}, "#/quantity"),
        ({"quantity": 10**9 + 1}, "#/quantity"),
        ({"quantity": "12"}, "#/quantity"),
        ({"quantity": 1.5}, "#/quantity"),
        ({"quantity": True}, "#/quantity"),
        ({"quantity": None}, "#/quantity"),
        ({"reference": "D\0"}, "#/reference"),
        ({"reference": "x" * 256}, "#/reference"),
        ({"refrence": "D-1"}, "#/refrence"),
    ],
)
def test_a_delivery_with_a_bad_field_is_refused_with_a_pointer_to_it(
    clerk: ApiClient, changes: dict[str, Any], pointer: str
) -> None:
    clerk.post(ITEMS, HEART)
    answer = clerk.post(f"{ITEMS}/85123A/receive", {"quantity": 12, **changes})

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert StoredEvent.objects.count() == 1


@pytest.mark.parametrize("sku", ["unknown", "%00", "%20", "x" * 65, "%E2%80%AE", "a%2Fb"])
def test_what_is_no_article_is_not_found(visitor: ApiClient, sku: str) -> None:
    answer = visitor.get(f"{ITEMS}/{sku}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize("parameters", [{"colour": "red"}, {"limit": "0"}, {"limit": "201"}, {"cursor": "cD0lMDA="}])
def test_query_parameters_that_can_not_be_accepted_are_named(visitor: ApiClient, parameters: dict[str, str]) -> None:
    answer = visitor.get(ITEMS, parameters)

    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json()["errors"]] == list(parameters)
