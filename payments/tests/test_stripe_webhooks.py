"""What Stripe tells, from the signed request over the inbox to the payment."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import Any

import pytest
from django.conf import settings as configured
from django.utils import timezone
from pytest_django import Settings

from eventing import inbox
from eventing.handlers import dispatch
from eventing.models import InboxEntry, StoredEvent
from eventing.testing import settle
from payments.commands import ProcessPayment, RefundPayment, key_of_refund
from payments.gateway import gateway
from payments.gateway import stripe as adapter
from payments.models import PaymentSummary
from payments.tests.stripe_api import CONTRACT, StripeApi, stripe_api
from tests.builders import ORDER, PAYMENT, pounds
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db

SECRET = "whsec_made_up"
OURS = {"waybill_key": str(PAYMENT)}


@pytest.fixture
def api(settings: Settings) -> Iterator[StripeApi]:
    """Stripe, which is the gateway in use."""
    with stripe_api() as running:
        settings.PAYMENT_GATEWAY = "stripe"
        settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_made_up", running.address
        settings.STRIPE_WEBHOOK_SECRET = [SECRET]
        gateway.cache_clear()
        yield running
        gateway.cache_clear()


def post(kind: str, *, event_id: str = "evt_1", **about: Any) -> Any:
    """As Stripe does."""
    body = json.dumps({**CONTRACT["webhook"], "id": event_id, "type": kind, "data": {"object": about}}).encode()
    at = int(time.time())
    signature = hmac.new(SECRET.encode(), f"{at}.".encode() + body, sha256).hexdigest()
    return ApiClient().post(
        "/api/v1/payments/webhooks/stripe",
        body,
        content_type="application/json",
        headers={"Stripe-Signature": f"t={at},v1={signature}"},
    )


def tell(kind: str, **event: Any) -> Any:
    """What Stripe is answered."""
    answer = post(kind, **event)
    assert answer.status_code == 200, answer.content
    return answer.json()


def pay(method: str = "pm_card_visa") -> None:
    dispatch(ProcessPayment(payment_id=PAYMENT, order_id=ORDER, amount=pounds("10"), method=method))
    settle()


def understood() -> list[str]:
    """The states of what was told, once each was tried as often as it's going to be."""
    for _ in range(configured.EVENTING["ATTEMPTS"]):
        InboxEntry.objects.update(due_at=timezone.now())
        while inbox.work():
            pass
    return list(InboxEntry.objects.order_by("pk").values_list("state", flat=True))


def events() -> list[str]:
    return list(StoredEvent.objects.order_by("pk").values_list("type", flat=True))


def test_what_stripe_tells_first_settles_the_payment(api: StripeApi) -> None:
    dispatch(ProcessPayment(payment_id=PAYMENT, order_id=ORDER, amount=pounds("10"), method="pm_card_visa"))
    assert tell("payment_intent.succeeded", id="pi_1", status="succeeded", metadata=OURS) == {"new": True}
    assert tell("payment_intent.succeeded", id="pi_1", status="succeeded", metadata=OURS) == {"new": False}
    settle()
    payment = PaymentSummary.objects.get()
    assert (payment.status, payment.charge_reference) == ("completed", "pi_1")
    assert not api.requests


def test_a_decline_that_stripe_words_otherwise_is_the_same_decline(api: StripeApi) -> None:
    pay("pm_card_chargeDeclined")
    tell("payment_intent.payment_failed", id="pi_1", metadata=OURS, last_payment_error={"message": "No."})
    tell("payment_intent.canceled", event_id="evt_2", id="pi_1", metadata=OURS, last_payment_error=None)
    assert understood() == ["done", "done"]
    assert PaymentSummary.objects.get().decline_code == "generic_decline"
    assert events().count("payments.payment_failed") == 1


def test_stripe_is_told_since_when_something_is_wanted(api: StripeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []

    def is_old(requested_at: datetime) -> bool:
        heard.append(requested_at)
        return False

    monkeypatch.setattr(adapter, "_is_old", is_old)
    pay()
    dispatch(RefundPayment(payment_id=PAYMENT))
    settle()
    wanted = StoredEvent.objects.filter(type__in=["payments.payment_requested", "payments.refund_requested"])
    assert heard == list(wanted.order_by("recorded_at").values_list("recorded_at", flat=True))


@pytest.mark.parametrize("begun_as", ["pending", "succeeded"])
def test_a_refund_that_fails_later_waits_for_a_person_at_once(api: StripeApi, begun_as: str) -> None:
    pay()
    api.refunded_as = begun_as
    dispatch(RefundPayment(payment_id=PAYMENT))
    settle()
    assert PaymentSummary.objects.get().status == "refunded"
    key = {"waybill_key": key_of_refund(PAYMENT, None)}
    tell("refund.failed", id="re_1", status="failed", failure_reason="lost_or_stolen_card", metadata=key)
    inbox.work()
    entry = InboxEntry.objects.get()
    assert (entry.state, entry.attempts) == ("dead", 1)
    assert f"Stripe's refund re_1 of payment {PAYMENT} is failed (lost_or_stolen_card)" in entry.error


def test_of_what_others_do_with_the_same_account_nothing_comes(api: StripeApi) -> None:
    tell("customer.created", id="cus_1", metadata=None)
    tell("payment_intent.succeeded", event_id="evt_2", id="pi_9", metadata={"waybill_key": "order 17"})
    assert understood() == ["done", "done"]


@pytest.mark.parametrize("event_id", ["", "a\x00b", "a\nb", "\ud800", "e" * 256])
def test_an_id_that_can_not_be_kept_is_refused(api: StripeApi, event_id: str) -> None:
    answer = post("payment_intent.succeeded", event_id=event_id, id="pi_1", metadata=OURS)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not InboxEntry.objects.exists()
