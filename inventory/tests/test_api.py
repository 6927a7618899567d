from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from eventing.handlers import dispatch
from eventing.models import StoredEvent
from eventing.testing import settle
from inventory.commands import ReserveInventory
from inventory.events import ReservationLine
from tests.builders import ORDER
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


def test_an_article_is_listed_anew_only_at_the_version_that_was_seen(clerk: ApiClient) -> None:
    seen = clerk.post(ITEMS, HEART)["ETag"]
    assert clerk.post(ITEMS, {**HEART, "description": "Another"}, headers={"If-Match": seen}).status_code == 200
    late = clerk.post(ITEMS, {**HEART, "description": "A third"}, headers={"If-Match": seen})
    assert (late.status_code, late.json()["current_version"]) == (412, 2)


@pytest.mark.parametrize(
    "parameters",
    [
        {"colour": "red"},
        {"limit": "0"},
        {"limit": "201"},
        {"cursor": "cD0lMDA="},
        {"available_at_least": "-1"},
        {"available_at_least": "1.5"},
        {"available_at_least": "-1e1000000"},  # which takes Python's arithmetic a quarter of a minute
        {"available_at_least": "9" * 5000},
    ],
)
def test_query_parameters_that_can_not_be_accepted_are_named(visitor: ApiClient, parameters: dict[str, str]) -> None:
    answer = visitor.get(ITEMS, parameters)

    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json()["errors"]] == list(parameters)


def test_the_books_are_corrected_by_what_somebody_counted(clerk: ApiClient) -> None:
    clerk.post(ITEMS, HEART)
    clerk.post(f"{ITEMS}/85123A/receive", {"quantity": 10})
    counted = {"change": -3, "reason": "Three were broken", "reference": "count 7"}
    first, again = (clerk.post(f"{ITEMS}/85123A/adjust", counted) for _ in range(2))

    assert (first.status_code, first.json()["change"], first["ETag"]) == (200, -3, '"3"')
    assert (again.json()["change"], again.json()["version"]) == (0, 3)
    assert clerk.post(f"{ITEMS}/85123A/adjust", {"change": 5, "reason": "Found"}).json()["version"] == 4
    settle()
    assert clerk.get(f"{ITEMS}/85123A").json()["on_hand"] == 12


def test_what_was_promised_can_not_be_taken_away(clerk: ApiClient) -> None:
    clerk.post(ITEMS, HEART)
    clerk.post(f"{ITEMS}/85123A/receive", {"quantity": 10})
    dispatch(ReserveInventory(order_id=ORDER, lines=(ReservationLine(sku="85123A", quantity=8),)))
    refused = clerk.post(f"{ITEMS}/85123A/adjust", {"change": -3, "reason": "Lost"})
    assert (refused.status_code, refused.json()["code"]) == (409, "rejected")
    assert "of which 8 are promised to orders" in refused.json()["detail"]
    assert clerk.post(f"{ITEMS}/85123A/adjust", {"change": -2, "reason": "Lost"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"change": 0, "reason": "x"}, "#/change"),
        ({"change": 1.0, "reason": "x"}, "#/change"),
        ({"change": "1", "reason": "x"}, "#/change"),
        ({"change": 10**10, "reason": "x"}, "#/change"),
        ({"change": 1}, "#/reason"),
        ({"change": 1, "reason": " "}, "#/reason"),
        ({"change": 1, "reason": "x", "reference": 7}, "#/reference"),
        ({"change": 1, "reason": "x", "sku": "71053"}, "#/sku"),
    ],
)
def test_an_adjustment_that_makes_no_sense_is_pointed_out(clerk: ApiClient, body: Any, pointer: str) -> None:
    clerk.post(ITEMS, HEART)
    answer = clerk.post(f"{ITEMS}/85123A/adjust", body)
    assert (answer.status_code, [error["pointer"] for error in answer.json()["errors"]]) == (400, [pointer])


def test_a_price_is_set_and_orders_are_sold_at_it(clerk: ApiClient) -> None:
    clerk.post(ITEMS, HEART)
    dearer = {"amount": 295, "currency": "GBP"}
    answer = clerk.post(f"{ITEMS}/85123A/price", {"list_price": dearer}, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.json()) == (200, {**HEART, "list_price": dearer, "version": 2})
    settle()
    order = clerk.post("/api/v1/orders", {"lines": [{"sku": "85123A", "quantity": 1}]}).json()
    assert order["total"] == dearer
    assert clerk.post(f"{ITEMS}/99999/price", {"list_price": dearer}).status_code == 404


def test_how_many_are_free_is_told_and_whether_they_are_enough(clerk: ApiClient, visitor: ApiClient) -> None:
    clerk.post(ITEMS, HEART)
    clerk.post(f"{ITEMS}/85123A/receive", {"quantity": 10})
    dispatch(ReserveInventory(order_id=ORDER, lines=(ReservationLine(sku="85123A", quantity=8),)))
    settle()
    path = f"{ITEMS}/85123A/availability"
    assert visitor.get(path).json() == {"sku": "85123A", "available": 2, "enough": True}
    assert visitor.get(path, {"quantity": 3}).json()["enough"] is False
    assert visitor.get(path, {"quantity": 0}).status_code == 400
    assert visitor.get(path, {"count": 1}).status_code == 400
    assert visitor.get(f"{ITEMS}/99999/availability").status_code == 404


def test_articles_are_found(clerk: ApiClient) -> None:
    clerk.post(ITEMS, HEART)
    clerk.post(ITEMS, {**HEART, "sku": "71053"})
    clerk.post(f"{ITEMS}/71053/receive", {"quantity": 10})
    settle()

    def found(**asked: Any) -> list[str]:
        return [item["sku"] for item in clerk.get(ITEMS, asked).json()["results"]]

    assert found(sku="85123A,nothing") == ["85123A"]
    assert found(available_at_least="1") == ["71053"]
    assert clerk.get(ITEMS, {"available_at_least": "many"}).json()["errors"][0]["parameter"] == "available_at_least"
    assert clerk.get(ITEMS, {"skus": "85123A"}).status_code == 400
