"""An order as it was, and how it came to be what it is."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from eventing import store
from eventing.advance import advance
from eventing.context import acting
from eventing.domain import Command, Rejected
from eventing.handlers import dispatch
from eventing.money import Money
from eventing.records import Stream
from eventing.relay import relay_all
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from orders.aggregates import Order
from orders.commands import CancelOrder, ConfirmOrder, MarkOrderDelivered, MarkOrderShipped, PlaceOrder
from orders.events import Line
from orders.models import OrderLine, OrderSummary
from orders.tests.test_api import ORDER, as_user, place
from tests.articles import on_sale
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db

ORDERS = [UUID(int=number) for number in range(1, 4)]


@pytest.fixture
def ann() -> ApiClient:
    on_sale({"85123A": 255, "71053": 339})
    return as_user("ann")


@pytest.fixture
def cancelled(ann: ApiClient) -> str:
    """The address of an order of Ann's that was placed and cancelled."""
    location: str = place(ann)["Location"]
    ann.post(f"{location}/cancel", {"reason": "Changed my mind"})
    return location


def recorded_at(location: str, version: int) -> datetime:
    return next(store.read(Stream("order", location.rpartition("/")[2]), start=version)).recorded_at


def test_an_order_at_a_version(ann: ApiClient, cancelled: str) -> None:
    now, then = ann.get(cancelled), ann.get(cancelled, {"version": 1})
    assert (now.json()["status"], now["ETag"]) == ("cancelled", '"2"')
    assert (then.json()["status"], then["ETag"]) == ("placed", '"1"')
    assert then.json()["cancellation_reason"] == ""
    assert then.json()["lines"] == now.json()["lines"]
    assert ann.get(cancelled, {"version": 2}).json() == now.json()


def test_an_order_at_a_time(ann: ApiClient, cancelled: str) -> None:
    second = recorded_at(cancelled, 2)
    assert ann.get(cancelled, {"at": second.isoformat()}).json()["status"] == "cancelled"
    just_before = second - timedelta(microseconds=1)
    assert ann.get(cancelled, {"at": just_before.isoformat()}).json()["status"] == "placed"
    assert ann.get(cancelled, {"at": "2999-01-01T00:00:00Z"}).json()["status"] == "cancelled"


def test_the_past_has_entity_tags_too(ann: ApiClient, cancelled: str) -> None:
    assert ann.get(cancelled, {"version": 1}, headers={"If-None-Match": '"1"'}).status_code == 304
    assert ann.get(cancelled, {"version": 1}, headers={"If-None-Match": '"2"'}).status_code == 200


@pytest.mark.parametrize("then", [{"version": 3}, {"at": "2011-12-09T12:50:00Z"}, {"at": "0001-01-01T00:00:00Z"}])
def test_before_it_was_placed_and_at_versions_to_come_there_is_no_order(
    ann: ApiClient, cancelled: str, then: dict[str, Any]
) -> None:
    answer = ann.get(cancelled, then)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ({"version": 0}, "version"),
        ({"version": "one"}, "version"),
        ({"version": 2**31}, "version"),
        ({"at": "yesterday"}, "at"),
        ({"at": "2026-11-23T04:30:00"}, "at"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "at"),
        ({"at": "2026-11-23T04:30:00Z", "version": 1}, "at"),
        ({"as_of": "2026-11-23T04:30:00Z"}, "as_of"),
    ],
)
def test_what_isnt_a_version_or_a_time_is_refused(
    ann: ApiClient, cancelled: str, asked: dict[str, Any], parameter: str
) -> None:
    answer = ann.get(cancelled, asked)
    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


def test_the_past_of_an_order_is_as_private_as_its_present(cancelled: str) -> None:
    ben = as_user("ben")
    assert ben.get(cancelled, {"version": 1}).status_code == 404
    assert ben.get(f"{cancelled}/history").status_code == 404
    assert as_user("clerk", "view_ordersummary").get(f"{cancelled}/history").status_code == 200


def test_the_history_tells_what_happened_when_and_by_whom(ann: ApiClient, cancelled: str) -> None:
    settle()
    placed, was_cancelled = ann.get(f"{cancelled}/history").json()["results"]
    assert (placed["version"], placed["type"], placed["actor"]) == (1, "orders.order_placed", "ann")
    assert placed["data"]["reference"] == ORDER["reference"]
    assert placed["data"]["total"] == {"currency": "GBP", "minor": 2208}
    assert (was_cancelled["version"], was_cancelled["data"]["reason"]) == (2, "Changed my mind")
    assert placed["position"] < was_cancelled["position"]


def test_the_history_knows_the_difference_between_happening_and_being_recorded(ann: ApiClient) -> None:
    happened = datetime(2011, 12, 9, 12, 50, tzinfo=UTC)
    with acting(actor="import", occurred_at=happened):
        dispatch(PlaceOrder(order_id=ORDERS[0], customer_id=None, lines=LINES, reference="", payment_method="tok_visa"))
    clerk = as_user("clerk", "view_ordersummary")
    (placed,) = clerk.get(f"/api/v1/orders/{ORDERS[0]}/history").json()["results"]
    assert placed["occurred_at"] == "2011-12-09T12:50:00Z"
    assert placed["recorded_at"] > "2026"
    assert placed["position"] is None  # not relayed yet


def test_the_history_comes_in_pages(ann: ApiClient, cancelled: str) -> None:
    first = ann.get(f"{cancelled}/history", {"limit": 1}).json()
    second = ann.get(first["next"]).json()
    assert [each["version"] for each in first["results"] + second["results"]] == [1, 2]
    assert second["next"] is None
    assert ann.get(second["previous"]).json()["results"] == first["results"]
    assert ann.get(f"{cancelled}/history", {"page": 2}).status_code == 400


LINES = (Line(sku="85123A", description="Heart", quantity=6, unit_price=Money(minor=255, currency="GBP")),)
COMMANDS = (ConfirmOrder, MarkOrderShipped, MarkOrderDelivered)

lines = st.lists(
    st.builds(
        Line,
        sku=st.sampled_from(["85123A", "71053"]),
        description=st.just("Heart"),
        quantity=st.integers(1, 1000),
        unit_price=st.builds(Money, minor=st.integers(0, 10_000), currency=st.just("GBP")),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
order_ids = st.sampled_from(ORDERS)
commands = st.one_of(
    st.builds(
        PlaceOrder,
        order_id=order_ids,
        customer_id=st.uuids(),
        lines=lines,
        reference=st.just(""),
        payment_method=st.just("tok_visa"),
    ),
    *(st.builds(command, order_id=order_ids) for command in COMMANDS),
    st.builds(CancelOrder, order_id=order_ids, reason=st.sampled_from(["Changed my mind", "Too late"])),
)


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(commands, min_size=1, max_size=25))
def test_an_order_at_a_version_is_what_projections_that_stopped_there_showed(asked: list[Command]) -> None:
    with transaction.atomic():
        clerk = as_user("clerk", "view_ordersummary")
        for command in asked:
            with suppress(Rejected):  # many an order of commands makes no sense
                dispatch(command)
        for position in range(1, sum(relay_all()) + 1):
            for name in ("orders.OrderSummaries", "orders.OrderLines"):
                while advance(subscription_named(name), 0, until=position):
                    pass
            for summary in OrderSummary.objects.all():
                order = store.load(Order, summary.order_id, version=summary.version)
                assert as_decided(order) == as_projected(summary)
                shown = clerk.get(f"/api/v1/orders/{order.id}", {"version": summary.version}).json()
                assert shown == as_listed(clerk, summary)
        transaction.set_rollback(True)


def as_decided(order: Order) -> dict[str, Any]:
    assert order.placed is not None
    return {
        "status": order.status.value,
        "customer": order.placed.customer_id,
        "total": order.placed.total,
        "lines": list(order.placed.lines),
        "version": order.version,
    }


def as_projected(summary: OrderSummary) -> dict[str, Any]:
    return {
        "status": summary.status,
        "customer": summary.customer_id,
        "total": Money(minor=summary.total_minor, currency=summary.currency),
        "lines": [
            Line(
                sku=line.sku,
                description=line.description,
                quantity=line.quantity,
                unit_price=Money(minor=line.unit_price_minor, currency=line.currency),
            )
            for line in OrderLine.objects.filter(order_id=summary.order_id)
        ],
        "version": summary.version,
    }


def as_listed(clerk: ApiClient, summary: OrderSummary) -> Any:
    """The order as the API reads it from the read models, as far as they have come."""
    return clerk.get(f"/api/v1/orders/{summary.order_id}").json()
