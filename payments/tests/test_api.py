from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User

from eventing import audit
from eventing.handlers import dispatch
from eventing.models import StoredEvent
from eventing.testing import settle
from payments.commands import ProcessPayment, RefundPayment
from payments.models import GatewayEntry, PaymentSummary
from tests.builders import ORDER, PAYMENT, pounds
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db

PAYMENTS = "/api/v1/payments"
ONE = f"{PAYMENTS}/{PAYMENT}"


@pytest.fixture
def clerk() -> ApiClient:
    """Somebody who looks after payments."""
    user = User.objects.create_user("clerk")
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_paymentsummary", "refund_payment"]))
    client = ApiClient()
    client.force_authenticate(User.objects.get(pk=user.pk))
    return client


@pytest.fixture
def paid() -> None:
    """A payment of ten pounds that the gateway has taken."""
    dispatch(ProcessPayment(payment_id=PAYMENT, order_id=ORDER, amount=pounds("10"), method="tok_visa"))
    settle()


def refund(client: ApiClient, pence: int | None = None, **more: Any) -> Any:
    amount = {} if pence is None else {"amount": {"amount": pence, "currency": "GBP"}}
    return client.post(f"{ONE}/refunds", {"reason": "It came late", **amount, **more})


@pytest.mark.usefixtures("paid")
def test_a_payment_is_shown_and_found(clerk: ApiClient) -> None:
    shown = clerk.get(ONE)
    assert (shown.json()["status"], shown.json()["amount"]) == ("completed", {"amount": 1000, "currency": "GBP"})
    assert shown["ETag"] == '"2"'
    assert clerk.get(ONE, headers={"If-None-Match": shown["ETag"]}).status_code == 304
    assert clerk.get(f"{ONE}?source=stream").json() == shown.json()
    assert clerk.get(f"{PAYMENTS}/{uuid4()}").status_code == 404

    def found(**asked: str) -> int:
        return len(clerk.get(PAYMENTS, asked).json()["results"])

    assert found() == found(order=str(ORDER)) == found(status="completed,refunded") == 1
    assert found(status="failed") == found(order=str(uuid4())) == found(requested_before="2020-01-01T00:00:00Z") == 0
    refused = clerk.get(PAYMENTS, {"state": "completed", "status": "lost"})
    assert {error["parameter"] for error in refused.json()["errors"]} == {"state"}


@pytest.mark.usefixtures("paid")
def test_a_part_is_given_back_and_then_the_rest(clerk: ApiClient) -> None:
    part = refund(clerk, 300)
    assert (part.status_code, part.json()["status"], part["ETag"]) == (201, "requested", '"3"')
    rest = refund(clerk)
    assert rest.json()["amount"] == {"amount": 700, "currency": "GBP"}
    assert clerk.get(f"{ONE}?source=stream").json()["refunding"]["amount"] == 1000
    settle()

    assert clerk.get(ONE).json()["status"] == "refunded"
    assert clerk.get(part["Location"]).json()["status"] == "refunded"
    assert clerk.get(part["Location"]).json()["reference"].startswith("re_")
    given = GatewayEntry.objects.filter(kind="refund").values_list("amount_minor", flat=True)
    assert sorted(given) == [300, 700]
    acts = [audit.told(entry) for entry in LogEntry.objects.order_by("pk")]
    assert [(act["act"], act["amount"]) for act in acts] == [("refunded", "3.00 GBP"), ("refunded", "7.00 GBP")]


@pytest.mark.usefixtures("paid")
def test_a_refund_with_its_own_id_is_made_once(clerk: ApiClient) -> None:
    name = str(uuid4())
    first, again = (refund(clerk, 300, refund_id=name) for _ in range(2))
    assert again.json() == first.json()
    assert StoredEvent.objects.filter(type="payments.refund_requested").count() == 1
    assert LogEntry.objects.count() == 1
    other = refund(clerk, 301, refund_id=name)
    assert (other.status_code, other.json()["code"]) == (409, "rejected")


@pytest.mark.usefixtures("paid")
def test_more_than_was_paid_is_not_given_back(clerk: ApiClient) -> None:
    refund(clerk, 800)
    for pence in (201, 1000, None):
        refused = refund(clerk, pence) if pence else refund(clerk, 200)
        assert refused.status_code == (409 if pence else 201)
    refused = refund(clerk)
    assert (refused.status_code, refused.json()["code"]) == (409, "rejected")


@pytest.mark.usefixtures("paid")
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/reason"),
        ({"reason": ""}, "#/reason"),
        ({"reason": "x" * 501}, "#/reason"),
        ({"reason": "x\u0000"}, "#/reason"),
        ({"reason": "x", "amount": 5}, "#/amount"),
        ({"reason": "x", "amount": {"amount": -5, "currency": "GBP"}}, "#/amount/amount"),
        ({"reason": "x", "amount": {"amount": 5, "currency": "XXX"}}, "#/amount/currency"),
        ({"reason": "x", "refund_id": "mine"}, "#/refund_id"),
        ({"reason": "x", "all": True}, "#/all"),
    ],
)
def test_a_refund_that_makes_no_sense_is_pointed_out(clerk: ApiClient, body: Any, pointer: str) -> None:
    answer = clerk.post(f"{ONE}/refunds", body)
    assert (answer.status_code, [error["pointer"] for error in answer.json()["errors"]]) == (400, [pointer])


@pytest.mark.usefixtures("paid")
def test_another_currency_and_nothing_at_all_are_no_refund(clerk: ApiClient) -> None:
    euros = clerk.post(f"{ONE}/refunds", {"reason": "x", "amount": {"amount": 5, "currency": "EUR"}})
    assert (euros.status_code, euros.json()["code"]) == (409, "rejected")
    assert refund(clerk, 0).status_code == 409


def test_a_payment_that_was_declined_has_nothing_to_give_back(clerk: ApiClient) -> None:
    dispatch(ProcessPayment(payment_id=PAYMENT, order_id=ORDER, amount=pounds("10"), method="tok_chargeDeclined"))
    settle()
    assert refund(clerk, 1).status_code == 409


@pytest.mark.usefixtures("paid")
def test_who_asks_for_the_rest_is_answered_although_parts_have_left_nothing(clerk: ApiClient) -> None:
    refund(clerk)
    for _ in range(2):
        dispatch(RefundPayment(payment_id=PAYMENT))  # as fulfilment does when it gives an order up
    settle()
    assert StoredEvent.objects.filter(type="payments.payment_refunded", data__amount__minor=0).count() == 1
    assert PaymentSummary.objects.get().status == "refunded"


@pytest.mark.usefixtures("paid")
def test_looking_takes_a_permission_and_giving_back_another() -> None:
    user = User.objects.create_user("ann")
    ann = ApiClient()
    ann.force_authenticate(user)
    assert {ann.get(path).status_code for path in (PAYMENTS, ONE)} == {403}
    user.user_permissions.add(Permission.objects.get(codename="view_paymentsummary"))
    ann.force_authenticate(User.objects.get(pk=user.pk))
    assert {ann.get(path).status_code for path in (PAYMENTS, ONE)} == {200}
    assert refund(ann, 1).status_code == 403
