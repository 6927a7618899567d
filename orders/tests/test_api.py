from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from pytest_django import DjangoAssertNumQueries
from uuid_utils.compat import uuid7

from eventing import audit
from eventing.handlers import dispatch
from eventing.models import StoredEvent
from eventing.money import Money
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from orders.models import OrderLine, OrderSummary
from shipping.commands import DispatchShipment, shipment_of
from tests.articles import on_sale
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEART = {
    "sku": "85123A",
    "description": "White hanging heart T-light holder",
    "quantity": 6,
    "unit_price": {"amount": 255, "currency": "GBP"},
}
LANTERN = {"sku": "71053", "quantity": 2, "unit_price": {"amount": 339, "currency": "GBP"}}
ORDER = {"reference": "PO-17", "lines": [HEART, LANTERN]}


@pytest.fixture(autouse=True)
def articles() -> None:
    on_sale({"85123A": 255, "71053": 339})


def as_user(name: str, *permissions: str) -> ApiClient:
    user = User.objects.create_user(name)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = ApiClient()
    client.force_authenticate(User.objects.get(pk=user.pk))
    return client


@pytest.fixture
def ann() -> ApiClient:
    return as_user("ann")


@pytest.fixture
def ben() -> ApiClient:
    return as_user("ben")


@pytest.fixture
def service() -> ApiClient:
    return as_user("shop", "add_ordersummary", "view_ordersummary", "cancel_order")


def place(client: ApiClient, **changes: Any) -> Any:
    return client.post("/api/v1/orders", {**ORDER, **changes})


def test_a_placed_order_is_answered_with_all_that_is_known_of_it(ann: ApiClient) -> None:
    answer = place(ann)

    order = answer.json()
    assert answer.status_code == 201
    assert answer["Location"] == f"/api/v1/orders/{order['order_id']}"
    assert answer["ETag"] == '"1"'
    assert order["status"] == "placed"
    assert order["total"] == {"amount": 2208, "currency": "GBP"}
    assert (order["line_count"], order["units"], order["version"]) == (2, 8, 1)
    assert order["lines"] == [
        {"number": 1, **HEART, "returned": 0},
        {"number": 2, "description": "", **LANTERN, "returned": 0},
    ]


def test_who_placed_an_order_and_in_which_trace_is_recorded(ann: ApiClient) -> None:
    traceparent = f"00-{TRACE}-00f067aa0ba902b7-01"
    ann.post("/api/v1/orders", ORDER, headers={"traceparent": traceparent})

    event = StoredEvent.objects.get()
    assert (event.actor, event.traceparent) == ("ann", traceparent)


@pytest.mark.parametrize("traceparent", ["", "nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"ff-{TRACE}-1-01"])
def test_a_trace_that_is_none_is_left_out(ann: ApiClient, traceparent: str) -> None:
    assert ann.post("/api/v1/orders", ORDER, headers={"traceparent": traceparent}).status_code == 201
    assert StoredEvent.objects.get().traceparent == ""


def test_an_order_can_be_read_at_once_and_reads_the_same_when_the_read_models_have_it(ann: ApiClient) -> None:
    placed = place(ann)
    at_once = ann.get(placed["Location"])
    settle()

    assert OrderSummary.objects.exists()
    later = ann.get(placed["Location"])
    assert at_once.json() == placed.json()
    assert later.json()["lines"] == placed.json()["lines"]
    assert later.json()["placed_at"] == placed.json()["placed_at"]
    assert later["ETag"] == f'"{later.json()["version"]}"'


def test_an_order_whose_lines_are_not_in_the_read_model_yet_is_read_with_its_lines(ann: ApiClient) -> None:
    placed = place(ann)
    settle()
    OrderLine.objects.all().delete()

    assert ann.get(placed["Location"]).json()["lines"] == placed.json()["lines"]


def test_reading_an_order_takes_as_many_queries_for_many_lines_as_for_few(
    ann: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    locations = [place(ann, lines=[HEART] * count)["Location"] for count in (1, 50)]
    settle()
    for location in locations:
        ann.get(location)  # permissions are remembered from the first request on
        with django_assert_num_queries(2):
            ann.get(location)


def test_an_order_that_has_not_changed_is_not_sent_again(ann: ApiClient) -> None:
    location = place(ann)["Location"]

    for known in ('"1"', 'W/"1"', '"7", "1"', "*"):
        answer = ann.get(location, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer["ETag"] == '"1"'
    assert ann.get(location, headers={"If-None-Match": '"2"'}).status_code == 200


def test_an_order_with_its_own_id_is_placed_once_and_answered_the_same(ann: ApiClient) -> None:
    order_id = str(uuid4())
    first = place(ann, order_id=order_id)
    ann.post(f"/api/v1/orders/{order_id}/cancel", {"reason": "Changed my mind"})
    again = place(ann, order_id=order_id)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again["ETag"] == first["ETag"]
    assert StoredEvent.objects.count() == 2


def test_an_order_id_with_other_contents_is_rejected(ann: ApiClient, ben: ApiClient) -> None:
    order_id = str(uuid4())
    place(ann, order_id=order_id)

    for other in (place(ann, order_id=order_id, reference="PO-18"), place(ben, order_id=order_id)):
        assert (other.status_code, other.json()["code"]) == (409, "rejected")
        assert "already been placed with other contents" in other.json()["detail"]
    assert StoredEvent.objects.count() == 1


def test_an_order_that_is_placed_can_be_cancelled_and_says_why(ann: ApiClient) -> None:
    location = place(ann)["Location"]
    cancelled = ann.post(f"{location}/cancel", {"reason": "Changed my mind"})
    again = ann.post(f"{location}/cancel", {"reason": "Really"})

    assert cancelled.status_code == 200
    assert (cancelled.json()["status"], cancelled.json()["cancellation_reason"]) == ("cancelled", "Changed my mind")
    assert cancelled["ETag"] == '"2"'
    assert again.content == cancelled.content


def test_an_order_that_is_confirmed_can_not_be_cancelled(ann: ApiClient) -> None:
    as_user("clerk", "change_stocklevel").post(
        "/api/v1/inventory/items", {"sku": "85123A", "description": "Heart", "list_price": HEART["unit_price"]}
    )
    as_user("storeman", "change_stocklevel").post("/api/v1/inventory/items/85123A/receive", {"quantity": 10})
    location = place(ann, lines=[HEART])["Location"]
    settle()

    answer = ann.post(f"{location}/cancel", {"reason": "Too late"})
    assert (answer.status_code, answer.json()["code"]) == (409, "rejected")
    assert answer.json()["detail"].startswith("An order that is ")


def test_customers_see_and_cancel_only_their_own_orders(ann: ApiClient, ben: ApiClient) -> None:
    location = place(ann)["Location"]
    settle()

    assert ben.get(location).status_code == 404
    assert ben.post(f"{location}/cancel", {"reason": "Spite"}).status_code == 404
    assert ben.get("/api/v1/orders").json()["results"] == []
    assert len(ann.get("/api/v1/orders").json()["results"]) == 1
    assert ann.get(location).status_code == 200


def test_a_user_is_always_the_same_customer(ann: ApiClient, ben: ApiClient) -> None:
    mine, again, others = (place(client).json()["customer_id"] for client in (ann, ann, ben))

    assert mine == again != others
    assert place(ann, customer_id=mine).status_code == 201


def test_customers_place_no_orders_for_others(ann: ApiClient) -> None:
    for customer in (str(uuid4()), None):
        answer = place(ann, customer_id=customer)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission-denied")
        assert "orders.add_ordersummary" in answer.json()["detail"]
    assert not StoredEvent.objects.exists()


def test_a_service_places_orders_for_customers_and_guests(service: ApiClient) -> None:
    customer = str(uuid4())

    assert place(service, customer_id=customer).json()["customer_id"] == customer
    assert place(service, customer_id=None).json()["customer_id"] is None
    assert place(service).json()["customer_id"] is None


def test_who_may_see_all_orders_may_not_therefore_cancel_them(ann: ApiClient) -> None:
    location = place(ann)["Location"]
    viewer = as_user("viewer", "view_ordersummary")

    assert viewer.get(location).status_code == 200
    refused = viewer.post(f"{location}/cancel", {"reason": "Tidying up"})
    assert (refused.status_code, refused.json()["code"]) == (403, "permission-denied")


def test_orders_are_listed_newest_first_a_page_at_a_time_without_gap_or_repeat(service: ApiClient) -> None:
    placed = [place(service).json()["order_id"] for _ in range(5)]
    settle()

    page = service.get("/api/v1/orders", {"limit": 2}).json()
    place(service)
    settle()
    seen = [order["order_id"] for order in page["results"]]
    while page["next"]:
        page = service.get(page["next"]).json()
        seen += [order["order_id"] for order in page["results"]]
    assert seen == placed[::-1]
    back = service.get(page["previous"]).json()
    assert [order["order_id"] for order in back["results"]] == placed[::-1][2:4]


def test_orders_are_found_by_state_customer_and_reference(service: ApiClient) -> None:
    customer = str(uuid4())
    first = place(service, reference="PO-1", customer_id=customer).json()["order_id"]
    second = place(service, reference="PO-2").json()["order_id"]
    service.post(f"/api/v1/orders/{second}/cancel", {"reason": "Test"})
    settle()

    def found(**filters: str) -> list[str]:
        return [order["order_id"] for order in service.get("/api/v1/orders", filters).json()["results"]]

    assert found(reference="PO-1") == [first]
    assert found(customer=customer) == [first]
    assert found(status="cancelled", reference="PO-2") == [second]
    assert found(status="delivered") == []


def test_a_list_of_orders_takes_as_many_queries_for_many_as_for_few(
    service: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(5):
        place(service)
    settle()
    for limit in (1, 5, 5):
        service.get("/api/v1/orders")
        with django_assert_num_queries(1):
            service.get("/api/v1/orders", {"limit": limit})


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": "5.0"}, "limit"),
        ({"customer": " "}, "customer"),
        ({"reference": " "}, "reference"),
        ({"placed_after": "2026-01-01T00:00:00"}, "placed_after"),
        ({"cursor": "%%%"}, "cursor"),
        ({"cursor": "====="}, "cursor"),
        ({"limit": ["5", "6"]}, "limit"),
        ({"status": "lost"}, "status"),
        ({"status": ""}, "status"),
        ({"customer": "ann"}, "customer"),
        ({"reference": "\0"}, "reference"),
        ({"cursor": "here"}, "cursor"),
        ({"cursor": "cD1ub3doZXJl"}, "cursor"),
        ({"cursor": "cD0lMDA="}, "cursor"),
    ],
)
def test_query_parameters_that_can_not_be_accepted_are_named(
    ann: ApiClient, parameters: dict[str, str], named: str
) -> None:
    answer = ann.get("/api/v1/orders", parameters)

    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json()["errors"]] == [named]


def line(**changes: Any) -> dict[str, Any]:
    return {"lines": [{**HEART, **changes}]}


def price(amount: Any, currency: Any = "GBP") -> dict[str, Any]:
    return line(unit_price={"amount": amount, "currency": currency})


LARGEST = 2**53 - 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"lines": []}, "#/lines"),
        ({"lines": {}}, "#/lines"),
        ({"lines": None}, "#/lines"),
        ({"lines": [HEART] * 5001}, "#/lines"),
        ({"lines": [None]}, "#/lines/0"),
        ({"lines": [HEART, [[[]]]]}, "#/lines/1"),
        (line(sku=""), "#/lines/0/sku"),
        (line(sku=" "), "#/lines/0/sku"),
        (line(sku=" 85123A"), "#/lines/0/sku"),
        (line(sku="85123A\0"), "#/lines/0/sku"),
        (line(sku="85\u200b123A"), "#/lines/0/sku"),
        (line(sku="85\u3164123A"), "#/lines/0/sku"),
        (line(sku="85123A\ufe0f"), "#/lines/0/sku"),
        (line(sku="CAFE\u0301"), "#/lines/0/sku"),
        (line(sku="\ud800"), "#/lines/0/sku"),
        (line(sku="x" * 65), "#/lines/0/sku"),
        (line(sku=85123), "#/lines/0/sku"),
        (line(sku=None), "#/lines/0/sku"),
        (line(description="x" * 256), "#/lines/0/description"),
        (line(description="Heart\x1b[2J"), "#/lines/0/description"),
        (line(description="\u202etraeH"), "#/lines/0/description"),
        (line(description=["Heart"]), "#/lines/0/description"),
        (line(quantity=0), "#/lines/0/quantity"),
        (line(quantity=-6), "#/lines/0/quantity"),
        (line(quantity=1_000_001), "#/lines/0/quantity"),
        (line(quantity=10**400), "#/lines/0/quantity"),
        (line(quantity="6"), "#/lines/0/quantity"),
        (line(quantity=6.0), "#/lines/0/quantity"),
        (line(quantity=True), "#/lines/0/quantity"),
        (line(colour="white"), "#/lines/0/colour"),
        ({"lines": [{**HEART, "a/b~c.d": 1}]}, "#/lines/0/a~1b~0c.d"),
        (line(unit_price=255), "#/lines/0/unit_price"),
        (line(unit_price="2.55"), "#/lines/0/unit_price"),
        (price(-1), "#/lines/0/unit_price/amount"),
        (price(2.55), "#/lines/0/unit_price/amount"),
        (price("255"), "#/lines/0/unit_price/amount"),
        (price(False), "#/lines/0/unit_price/amount"),
        (price(LARGEST + 1), "#/lines/0/unit_price/amount"),
        (price(255, "gbp"), "#/lines/0/unit_price/currency"),
        (price(255, "QQQ"), "#/lines/0/unit_price/currency"),
        (price(255, "XAU"), "#/lines/0/unit_price/currency"),
        (price(255, 826), "#/lines/0/unit_price/currency"),
        (price(255, None), "#/lines/0/unit_price/currency"),
        ({"order_id": "17"}, "#/order_id"),
        ({"order_id": 17}, "#/order_id"),
        ({"order_id": "0197a0000000700080000000000000001"}, "#/order_id"),
        ({"order_id": None}, "#/order_id"),
        ({"customer_id": "ann"}, "#/customer_id"),
        ({"reference": "PO\n17"}, "#/reference"),
        ({"reference": "x" * 256}, "#/reference"),
        ({"reference": 17}, "#/reference"),
        ({"payment_method": ""}, "#/payment_method"),
        ({"payment_method": "tok visa\0"}, "#/payment_method"),
        ({"payment_method": None}, "#/payment_method"),
        ({"total": {"amount": 1, "currency": "GBP"}}, "#/total"),
        ({"\ud800": 1}, "#/%3F"),
    ],
)
def test_an_order_with_a_bad_field_is_refused_with_a_pointer_to_it_and_nothing_is_stored(
    ann: ApiClient, changes: dict[str, Any], pointer: str
) -> None:
    answer = ann.post("/api/v1/orders", json.dumps({**ORDER, **changes}), content_type="application/json")

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert not StoredEvent.objects.exists()


@pytest.mark.parametrize("body", ["null", "[]", "17", '"order"', "{}", ""])
def test_a_body_that_is_no_order_is_refused(ann: ApiClient, body: str) -> None:
    answer = ann.post("/api/v1/orders", body, content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not StoredEvent.objects.exists()


def test_every_bad_field_is_pointed_to(ann: ApiClient) -> None:
    answer = place(ann, reference=17, lines=[{**HEART, "quantity": 0}, {**HEART, "sku": ""}], colour="red")

    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert pointers == {"#/reference", "#/lines/0/quantity", "#/lines/1/sku", "#/colour"}


def test_the_version_of_an_order_whose_buyer_is_told_of_changes_is_the_one_that_it_has(ann: ApiClient) -> None:
    contact = {"name": "Ada Quill", "email": "ada@example.com"}
    order_id = str(uuid4())
    placed = place(ann, order_id=order_id, contact=contact)
    assert (placed["ETag"], placed.json()["version"]) == (ann.get(placed["Location"])["ETag"], 2)
    ann.post(f"{placed['Location']}/cancel", {"reason": "x"}, headers={"If-Match": placed["ETag"]})
    again = place(ann, order_id=order_id, contact=contact)
    assert again.content == placed.content


def test_of_very_many_bad_fields_the_first_are_listed(ann: ApiClient) -> None:
    answer = place(ann, lines=[{}] * 5000)

    assert len(answer.json()["errors"]) == 100
    assert answer.json()["detail"] == "More than 100 things have to be corrected; the first 100 are listed."


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001, "No\0", 17, None, ["No"]])
def test_an_order_is_not_cancelled_without_a_proper_reason(ann: ApiClient, reason: Any) -> None:
    location = place(ann)["Location"]
    answer = ann.post(f"{location}/cancel", {"reason": reason})

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/reason"]
    assert StoredEvent.objects.count() == 1


def test_what_is_no_order_is_not_found(ann: ApiClient) -> None:
    for order in (uuid7(), UUID(int=0), "17", "..", "%00"):
        assert ann.get(f"/api/v1/orders/{order}").status_code == 404
        assert ann.post(f"/api/v1/orders/{order}/cancel", {"reason": "Test"}).status_code == 404


def test_an_order_of_the_most_lines_is_placed(ann: ApiClient) -> None:
    answer = place(ann, lines=[HEART] * 5000)

    assert answer.json()["total"] == {"amount": 5000 * 6 * 255, "currency": "GBP"}


CONTACT = {
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "phone": "+44 20 7946 0000",
    "street": "12 St James's Square",
    "postcode": "SW1Y 4LB",
    "city": "London",
    "country": "GB",
}


def test_an_order_says_who_bought_it_and_where_it_goes(ann: ApiClient) -> None:
    placed = place(ann, contact=CONTACT)
    assert (placed.status_code, placed.json()["contact"]) == (201, CONTACT)
    settle()
    assert ann.get(placed["Location"]).json()["contact"] == CONTACT
    (listed,) = ann.get("/api/v1/orders").json()["results"]
    assert (listed["contact"], listed["buyer_forgotten_at"]) == (CONTACT, None)
    assert "Lovelace" not in str(StoredEvent.objects.get(type="orders.order_placed").data)


def test_nobody_else_sees_who_bought_it(ann: ApiClient, ben: ApiClient) -> None:
    placed = place(ann, contact=CONTACT)
    assert ben.get(placed["Location"]).status_code == 404
    assert ben.get(f"{placed['Location']}/history").status_code == 404


def test_who_looks_after_orders_sees_their_buyers_only_with_the_permission(ann: ApiClient) -> None:
    clerk = as_user("clerk", "view_ordersummary", "cancel_order")
    officer = as_user("officer", "view_ordersummary", "view_personal_data")
    order = place(ann, contact=CONTACT)["Location"]
    settle()
    for path in (order, f"{order}?version=1"):
        assert clerk.get(path).json()["contact"] is None
        assert officer.get(path).json()["contact"] == CONTACT
    (listed,) = clerk.get("/api/v1/orders").json()["results"]
    assert listed["contact"] is None
    assert clerk.get(f"{order}/history").json()["results"][0]["data"]["contact"] == "[hidden]"
    assert officer.get(f"{order}/history").json()["results"][0]["data"]["contact"] == CONTACT
    assert ann.get(f"{order}/history").json()["results"][0]["data"]["contact"] == CONTACT
    assert clerk.post(f"{place(ann, contact=CONTACT)['Location']}/cancel", {"reason": "x"}).json()["contact"] is None


def test_who_places_an_order_for_somebody_is_answered_with_the_contact_that_they_gave(service: ApiClient) -> None:
    placed = place(service, contact=CONTACT, customer_id=str(uuid4()))
    assert placed.json()["contact"] == CONTACT
    assert service.get(placed["Location"]).json()["contact"] is None


def test_cancelling_somebody_elses_order_is_written_down_once(ann: ApiClient) -> None:
    clerk = as_user("clerk", "view_ordersummary", "cancel_order")
    mine, others = place(ann)["Location"], place(ann)["Location"]
    ann.post(f"{mine}/cancel", {"reason": "Changed my mind"})
    for _ in range(2):
        assert clerk.post(f"{others}/cancel", {"reason": "She rang us up"}).status_code == 200
    entry = LogEntry.objects.get()
    assert entry.user.get_username() == "clerk"
    assert entry.object_id == others.rsplit("/", 1)[1]
    assert audit.told(entry) == {"act": "cancelled", "reason": "She rang us up"}


def test_a_contact_needs_no_more_than_a_name(ann: ApiClient) -> None:
    contact = place(ann, contact={"name": "Ada"}).json()["contact"]
    assert contact == {**dict.fromkeys(CONTACT, ""), "name": "Ada"}
    assert place(ann, contact=None).json()["contact"] is None


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "#/contact/name"),
        ({"name": "x" * 256}, "#/contact/name"),
        ({"name": "Ada\u0000"}, "#/contact/name"),
        ({"name": "\u202eadA"}, "#/contact/name"),
        ({"email": "ada"}, "#/contact/email"),
        ({"email": "ada@"}, "#/contact/email"),
        ({"email": "a d@b"}, "#/contact/email"),
        ({"email": f"{'x' * 250}@b.uk"}, "#/contact/email"),
        ({"phone": "1" * 33}, "#/contact/phone"),
        ({"postcode": "1" * 17}, "#/contact/postcode"),
        ({"street": 12}, "#/contact/street"),
        ({"city": "x" * 256}, "#/contact/city"),
        ({"country": "gb"}, "#/contact/country"),
        ({"country": "GBR"}, "#/contact/country"),
        ({"nickname": "Countess"}, "#/contact/nickname"),
    ],
)
def test_a_contact_that_cant_be_one_is_pointed_out_and_nothing_is_stored(
    ann: ApiClient, changes: dict[str, Any], pointer: str
) -> None:
    answer = place(ann, contact={**CONTACT, **changes})
    assert (answer.status_code, [each["pointer"] for each in answer.json()["errors"]]) == (400, [pointer])
    assert not StoredEvent.objects.exists()


@pytest.fixture
def clerk() -> ApiClient:
    return as_user("clerk", "view_ordersummary", "return_items")


def ship(client: ApiClient) -> str:
    """An order that has left the house. Returns where it is."""
    for item in (HEART, LANTERN):
        sku = str(item["sku"])
        price = Money(minor=item["unit_price"]["amount"], currency="GBP")  # type: ignore[index] # it's of many kinds
        dispatch(ListStockItem(sku=sku, description="", list_price=price))
        dispatch(ReceiveStock(sku=sku, quantity=10))
    location: str = place(client)["Location"]
    settle()
    dispatch(DispatchShipment(shipment_id=shipment_of(UUID(location.rpartition("/")[2]))))
    settle()
    return location


def take_back(client: ApiClient, location: str, *lines: tuple[int, int], **more: Any) -> Any:
    asked = [{"line": line, "quantity": quantity} for line, quantity in lines]
    return client.post(f"{location}/returns", {"lines": asked, "reason": "Too many", **more})


def test_goods_that_came_back_are_registered_and_shown_with_the_order(ann: ApiClient, clerk: ApiClient) -> None:
    location = ship(ann)
    version = ann.get(location).json()["version"]

    answer = take_back(clerk, location, (2, 2), (1, 1))

    assert answer.status_code == 201
    assert answer["ETag"] == f'"{version + 1}"'
    assert answer.json() == {
        "order_id": location.rpartition("/")[2],
        "return_id": answer.json()["return_id"],
        "lines": [
            {"line": 1, "sku": "85123A", "quantity": 1, "unit_price": HEART["unit_price"]},
            {"line": 2, "sku": "71053", "quantity": 2, "unit_price": LANTERN["unit_price"]},
        ],
        "refund": {"amount": 933, "currency": "GBP"},
        "reason": "Too many",
    }
    shown = []
    for _ in range(2):  # before the read models know, and after
        order = ann.get(location).json()
        returned = [line["returned"] for line in order["lines"]]
        shown.append((order["version"], order["returned_units"], order["refunded"]["amount"], returned))
        settle()
    assert shown == [(version, 0, 0, [0, 0]), (version + 1, 3, 933, [1, 2])]
    as_it_was = ann.get(location, {"version": version + 1}).json()
    assert [line["returned"] for line in as_it_was["lines"]] == [1, 2]
    assert "orders.items_returned" in {each["type"] for each in ann.get(f"{location}/history").json()["results"]}


def test_the_same_return_sent_again_is_answered_again(ann: ApiClient, clerk: ApiClient) -> None:
    location, name = ship(ann), str(uuid4())
    first = take_back(clerk, location, (1, 1), return_id=name)
    take_back(clerk, location, (1, 1))

    assert take_back(clerk, location, (1, 1), return_id=name).content == first.content
    refused = take_back(clerk, location, (1, 2), return_id=name)
    assert (refused.status_code, refused.json()["code"]) == (409, "rejected")


def test_more_than_was_shipped_does_not_come_back(ann: ApiClient, clerk: ApiClient) -> None:
    refused = take_back(clerk, ship(ann), (1, 7))
    assert refused.status_code == 409
    assert "of which 0 have come back: 7 more can't" in refused.json()["detail"]


def test_customers_do_not_register_that_their_goods_came_back(ann: ApiClient, ben: ApiClient) -> None:
    location = place(ann)["Location"]
    refused = take_back(ann, location, (1, 1))
    assert refused.status_code == 403
    assert "orders.return_items" in refused.json()["detail"]
    assert take_back(ben, location, (1, 1)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"lines": [], "reason": "x"},
        {"lines": [{"line": 1, "quantity": 1}]},
        {"lines": [{"line": 0, "quantity": 1}], "reason": "x"},
        {"lines": [{"line": 1, "quantity": 0}], "reason": "x"},
        {"lines": [{"line": 1, "quantity": 1, "sku": "85123A"}], "reason": "x"},
        {"lines": [{"line": 1, "quantity": 1}], "reason": "x", "return_id": 7},
    ],
)
def test_a_return_that_makes_no_sense_is_refused(ann: ApiClient, clerk: ApiClient, body: Any) -> None:
    answer = clerk.post(f"{place(ann)['Location']}/returns", body)
    assert answer.status_code == 400
