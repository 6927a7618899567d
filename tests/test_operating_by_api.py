"""Sagas and replays over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User

from eventing import audit, replay
from eventing.advance import advance
from eventing.contact import Contact
from eventing.handlers import dispatch
from eventing.models import Delivery, SagaInstance
from eventing.projections import ProjectionSubscription
from eventing.relay import relay_all
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from orders.commands import PlaceOrder
from orders.models import OrderSummary
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, ORDER, pounds
from tests.clients import ApiClient, api_of

pytestmark = pytest.mark.django_db(transaction=True)

CONTACT = Contact(name="Ada Quillfeather", email="ada@quill.example", street="1 Ink Lane", city="Ely", country="GB")
SAGA = f"/api/v1/sagas/orders.OrderFulfilment/{ORDER}"
REPLAYS = "/api/v1/replays"


@pytest.fixture
def operator() -> ApiClient:
    return api_of("clerk", "view_sagainstance", "resume_sagainstance", "view_replay", "run_replay")


@pytest.fixture
def administrator() -> ApiClient:
    return api_of("boss", "view_sagainstance", "view_replay", "view_personal_data")


@pytest.fixture
def summaries() -> ProjectionSubscription:
    return replay.projection_named("orders.OrderSummaries")


@pytest.fixture
def order() -> None:
    for sku, price in ((HEART, "2.55"), (LANTERN, "3.39")):
        dispatch(ListStockItem(sku=sku, description="", list_price=pounds(price)))
        dispatch(ReceiveStock(sku=sku, quantity=20))
    dispatch(PlaceOrder(order_id=ORDER, customer_id=CUSTOMER, lines=LINES, contact=CONTACT))
    settle()


def worked(projection: Any) -> None:
    while replay.work_on(projection, budget=60):
        pass


@pytest.mark.usefixtures("order")
def test_sagas_are_listed_and_filtered(operator: ApiClient) -> None:
    def listed(**asked: Any) -> list[str]:
        return [each["saga"] for each in operator.get("/api/v1/sagas", asked).json()["results"]]

    assert "orders.OrderFulfilment" in listed()
    assert listed(saga="orders.OrderFulfilment", state="COMPLETED") == ["orders.OrderFulfilment"]
    assert listed(key=str(ORDER)) == ["orders.OrderFulfilment"]
    assert listed(stuck="true") == listed(key=str(uuid4())) == []
    SagaInstance.objects.update(failed=True)
    assert listed(stuck="true") == ["orders.OrderFulfilment"]
    refusal = operator.get("/api/v1/sagas", {"sage": "x"})
    assert (refusal.status_code, refusal.json()["errors"][0]["parameter"]) == (400, "sage")


@pytest.mark.usefixtures("order")
def test_a_saga_tells_what_it_did(operator: ApiClient) -> None:
    saga = operator.get(SAGA).json()
    assert (saga["state"], saga["failed"], saga["reminders"]) == ("COMPLETED", False, [])
    assert saga["why"]["sentence"].startswith("It ended COMPLETED ")
    assert [step["event"] for step in saga["history"]] == [
        "orders.order_placed",
        "payments.payment_completed",
        "inventory.inventory_reserved",
        "shipping.shipment_created",
    ]
    assert [[command["name"] for command in step["commands"]] for step in saga["history"]] == [
        ["payments.ProcessPayment"],
        ["inventory.ReserveInventory"],
        ["shipping.CreateShipment"],
        ["orders.ConfirmOrder"],
    ]
    assert operator.get(SAGA.replace(str(ORDER), str(uuid4()))).status_code == 404
    for name in ("orders.Nothing", "%00", "orders.OrderFulfilment%00", "orders.OrderSummaries"):
        address = SAGA.replace("orders.OrderFulfilment", name)
        for answer in (operator.get(address), operator.post(f"{address}/resume")):
            assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_a_method_that_is_not_offered_is_said_to_be_that(operator: ApiClient) -> None:
    for method, path in (("GET", "letters/1/retry"), ("POST", "letters/1"), ("POST", "sagas"), ("GET", "letters/skip")):
        answer = operator.generic(method, f"/api/v1/{path}")
        assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed"), path


@pytest.mark.parametrize("name", ["%00", "9" * 5000, "x"])
def test_what_nothing_can_be_called_is_not_found(name: str) -> None:
    root = ApiClient()
    root.force_authenticate(User.objects.create_superuser("root"))
    for kind in ("subscriptions", "letter-groups", "letters", "letter-jobs", "replays", "inventory/items", "orders"):
        answer = root.get(f"/api/v1/{kind}/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found"), kind


@pytest.mark.usefixtures("order")
def test_what_tells_of_a_person_is_only_for_those_who_may_see_it(operator: ApiClient, administrator: ApiClient) -> None:
    hidden, shown = operator.get(SAGA), administrator.get(SAGA)
    assert "quill" not in hidden.content.decode()
    assert hidden.json()["history"][2]["commands"][0]["data"]["recipient"] == "[hidden]"
    assert shown.json()["history"][2]["commands"][0]["data"]["recipient"]["email"] == "ada@quill.example"


@pytest.mark.usefixtures("order")
def test_a_saga_is_resumed(operator: ApiClient) -> None:
    SagaInstance.objects.update(state="SHIPPING_PENDING", ended_at=None)
    answer = operator.post(f"{SAGA}/resume")
    assert (answer.status_code, answer.json()) == (200, {"letters": 0, "hears": True})
    entry = LogEntry.objects.get()
    assert entry.user.get_username() == "clerk"
    assert audit.told(entry) == {"act": "resumed", "state": "SHIPPING_PENDING", "letters": 0}
    settle()
    assert operator.get(SAGA).json()["history"][-1]["reminder"] == "resumed"


@pytest.mark.usefixtures("order")
def test_a_saga_that_has_ended_well_has_nothing_to_resume(operator: ApiClient) -> None:
    answer = operator.post(f"{SAGA}/resume")
    assert (answer.status_code, answer.json()["code"]) == (409, "rejected")
    assert not LogEntry.objects.exists()


def test_a_saga_that_waits_says_for_what(operator: ApiClient) -> None:
    dispatch(ListStockItem(sku=HEART, description="", list_price=pounds("1")))
    dispatch(PlaceOrder(order_id=ORDER, customer_id=None, lines=LINES))
    sum(relay_all())
    fulfilment = subscription_named("orders.OrderFulfilment")
    for partition in range(fulfilment.partitions):
        while advance(fulfilment, partition):
            pass
    sum(relay_all())
    advance(subscription_named("payments.charge"), 0)
    Delivery.objects.filter(subscription="payments.charge").update(
        state="dead", attempts=8, error="OutcomeUnknown: silence"
    )
    why = operator.get(SAGA).json()["why"]
    assert why["act"] == "retry the letter, or skip it"
    assert why["letter"] == Delivery.objects.get(subscription="payments.charge").pk
    assert why["sentence"].startswith(
        "payments.charge, which it waits for, fails: payments.payment_requested at position "
    )


@pytest.mark.usefixtures("order")
def test_a_read_model_is_replayed_compared_and_exchanged(
    operator: ApiClient, administrator: ApiClient, summaries: Any
) -> None:
    OrderSummary.objects.update(contact_name="Ada Wrong")
    begun = operator.post(REPLAYS, {"projection": summaries.name})
    assert (begun.status_code, begun.json()["state"]) == (201, "building")
    one = begun["Location"]
    early = operator.post(f"{one}/exchange")
    assert (early.status_code, early.json()["code"]) == (409, "rejected")

    worked(summaries)
    found = operator.get(one).json()
    assert (found["state"], found["comparison"]["different"], found["comparison"]["differences"]) == ("compared", 1, [])
    (difference,) = administrator.get(one).json()["comparison"]["differences"]
    assert difference["live"] == {"contact_name": "Ada Wrong"}

    assert operator.post(f"{one}/exchange").json()["state"] == "building"
    worked(summaries)
    assert operator.get(one).json()["state"] == "done"
    assert OrderSummary.objects.get().contact_name == CONTACT.name
    assert operator.post(f"{one}/rollback").json()["state"] == "rolled back"
    assert OrderSummary.objects.get().contact_name == "Ada Wrong"
    acts = [audit.told(entry)["act"] for entry in LogEntry.objects.order_by("pk")]
    assert acts == ["started a replay", "exchanged", "rolled back a replay"]


def test_a_replay_is_paused_resumed_and_given_up(operator: ApiClient, summaries: Any) -> None:
    one = operator.post(REPLAYS, {"projection": summaries.name, "verify_only": True})["Location"]
    states = [operator.post(f"{one}/{act}").json()["state"] for act in ("pause", "resume", "cancel")]
    assert states == ["paused", "building", "cancelled"]
    assert operator.post(f"{one}/nonsense").status_code == 404
    newer = operator.post(REPLAYS, {"projection": summaries.name}).json()["id"]
    assert operator.post(f"{one}/cancel").json()["detail"] == f"There is a newer replay of {summaries.name}."
    newest, older = operator.get(REPLAYS).json()["results"]
    assert (newest["id"], older["state"]) == (newer, "cancelled")


@pytest.mark.parametrize(
    ("projection", "complaint"),
    [("orders.Nothing", "There's no subscription"), ("orders.OrderFulfilment", "is a saga, which can't be replayed")],
)
def test_only_read_models_are_replayed(projection: str, complaint: str, operator: ApiClient) -> None:
    answer = operator.post(REPLAYS, {"projection": projection})
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "#/projection"
    assert complaint in error["detail"]
