"""What the gateway tells of its own accord: once, late, twice, or instead of an answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.utils import timezone
from standardwebhooks import Webhook

from eventing import audit, inbox
from eventing.handlers import dispatch
from eventing.models import Delivery, InboxEntry, StoredEvent
from eventing.status import InboxStatus, status
from eventing.testing import settle
from payments.commands import ProcessPayment, RefundPayment
from payments.gateway import OutcomeUnknown
from payments.gateway.simulated import send_webhooks
from payments.models import GatewayEntry, GatewayNotice, PaymentSummary
from tests.builders import ORDER, PAYMENT, pounds
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db

PATH = "/api/v1/payments/webhooks/simulated"
TOLD = {"type": "charge.succeeded", "key": str(PAYMENT), "reference": f"ch_{PAYMENT}"}


def pay(method: str) -> None:
    dispatch(ProcessPayment(payment_id=PAYMENT, order_id=ORDER, amount=pounds("10"), method=method))
    settle()


def told_by_now() -> int:
    GatewayNotice.objects.update(due_at=timezone.now())
    return send_webhooks()


def signed(body: bytes, *, event_id: str = "evt_1", age: int = 0, secret: str = "") -> dict[str, str]:
    at = datetime.now(UTC) - timedelta(seconds=age)
    signature = Webhook(secret or settings.SIMULATED_WEBHOOK_SECRET).sign(event_id, at, body.decode())
    return {"webhook-id": event_id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def post(told: Any = TOLD, path: str = PATH, **signing: Any) -> Any:
    body = json.dumps(told).encode()
    return ApiClient().post(path, body, content_type="application/json", headers=signed(body, **signing))


def completed() -> int:
    return StoredEvent.objects.filter(type="payments.payment_completed").count()


def test_a_webhook_that_comes_late_tells_nothing_new() -> None:
    pay("tok_webhook")
    assert completed() == 1
    assert told_by_now() == 1
    settle()
    assert (completed(), InboxEntry.objects.get().state) == (1, "done")


def test_a_webhook_that_comes_twice_is_heard_once() -> None:
    pay("tok_webhook_twice")
    assert (told_by_now(), told_by_now(), told_by_now()) == (1, 1, 0)
    settle()
    assert (completed(), InboxEntry.objects.count()) == (1, 1)


def test_where_no_answer_arrives_the_webhook_tells_the_outcome_and_the_effect_learns_it_too() -> None:
    dispatch(ProcessPayment(payment_id=PAYMENT, order_id=ORDER, amount=pounds("10"), method="tok_webhook_only"))
    settle_until_the_gateway_was_asked()
    assert completed() == 0
    told_by_now()
    settle()
    assert completed() == 1
    assert PaymentSummary.objects.get().status == "completed"


def test_an_effect_asks_no_more_once_a_webhook_has_told(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch(ProcessPayment(payment_id=PAYMENT, order_id=ORDER, amount=pounds("10"), method="tok_webhook_only"))
    settle_until_the_gateway_was_asked()
    told_by_now()

    def silence(*_: Any, **__: Any) -> None:
        raise OutcomeUnknown("No answer.")

    monkeypatch.setattr("payments.gateway.simulated.SimulatedGateway.charge", silence)
    settle()
    assert completed() == 1
    assert not Delivery.objects.filter(state__in=Delivery.OPEN).exists()


def give_back(method: str) -> None:
    pay(method)
    dispatch(RefundPayment(payment_id=PAYMENT))


def refunded() -> int:
    return StoredEvent.objects.filter(type="payments.payment_refunded").count()


@pytest.mark.parametrize(("method", "times"), [("tok_refund_webhook", 1), ("tok_refund_webhook_twice", 2)])
def test_a_refund_too_is_told_of_late_and_twice_and_made_once(method: str, times: int) -> None:
    give_back(method)
    settle()
    assert [told_by_now() for _ in range(times + 1)] == [1] * times + [0]
    settle()
    assert (refunded(), InboxEntry.objects.get().state) == (1, "done")
    assert GatewayEntry.objects.filter(kind="refund").count() == 1


def test_a_refund_without_an_answer_is_asked_for_again() -> None:
    give_back("tok_refund_timeout")
    settle()
    assert (refunded(), GatewayEntry.objects.get(kind="refund").asks) == (1, 2)


def test_where_no_answer_to_a_refund_arrives_the_webhook_tells_of_it() -> None:
    give_back("tok_refund_webhook_only")
    settle_until_the_gateway_was_asked("payments.refund")
    assert (refunded(), GatewayEntry.objects.get(kind="refund").asks) == (0, 1)
    told_by_now()
    settle()
    assert (refunded(), GatewayEntry.objects.get(kind="refund").asks) == (1, 1)


def settle_until_the_gateway_was_asked(effect: str = "payments.charge") -> None:
    from eventing.advance import advance
    from eventing.effects import EffectSubscription, perform_due
    from eventing.relay import relay_all
    from eventing.subscriptions import subscription_named

    asking = subscription_named(effect)
    assert isinstance(asking, EffectSubscription)
    sum(relay_all())
    advance(asking, 0)
    perform_due(asking, budget=0)


def test_a_webhook_is_kept_and_answered_before_it_is_understood() -> None:
    first, again = post(), post()
    assert [(each.status_code, each.json()) for each in (first, again)] == [(200, {"new": True}), (200, {"new": False})]
    entry = InboxEntry.objects.get()
    assert (entry.state, entry.attempts, bytes(entry.body)) == ("waiting", 0, json.dumps(TOLD).encode())


@pytest.mark.parametrize("signing", [{"age": 301}, {"age": -301}, {"secret": "whsec_c2VjcmV0"}])
def test_what_is_not_signed_by_the_gateway_is_refused(signing: dict[str, Any]) -> None:
    answer = post(**signing)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-signature")
    assert not InboxEntry.objects.exists()


def test_one_byte_more_is_another_body() -> None:
    body = json.dumps(TOLD).encode()
    answer = ApiClient().post(PATH, body + b" ", content_type="application/json", headers=signed(body))
    assert answer.json()["code"] == "invalid-signature"
    for headers in ({}, {"webhook-id": "x", "webhook-timestamp": "now", "webhook-signature": "v1"}):
        answer = ApiClient().post(PATH, body, content_type="application/json", headers=headers)
        assert answer.json()["code"] == "invalid-signature"


def test_a_provider_that_is_not_in_use_has_no_address() -> None:
    assert post(path=PATH.replace("simulated", "stripe")).status_code == 404


def test_what_comes_too_early_is_tried_again_until_it_fits() -> None:
    post()
    assert inbox.work()  # there is no such payment yet
    assert InboxEntry.objects.get().state == "waiting"
    pay("tok_visa")
    InboxEntry.objects.update(due_at=timezone.now())
    settle()
    assert (InboxEntry.objects.get().state, completed()) == ("done", 1)


def test_what_contradicts_what_is_known_waits_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    pay("tok_visa")
    post({**TOLD, "reference": "ch_else"})
    for _ in range(settings.EVENTING["ATTEMPTS"]):
        InboxEntry.objects.update(due_at=timezone.now())
        inbox.work()
    entry = InboxEntry.objects.get()
    assert (entry.state, completed()) == ("dead", 1)
    assert entry.error.startswith("Rejected: ")
    call_command("inbox", "list")
    assert "Rejected" in capsys.readouterr().out
    call_command("inbox", "retry", str(entry.pk))
    assert InboxEntry.objects.get().state == "waiting"
    with pytest.raises(CommandError, match="None of these"):
        call_command("inbox", "retry", str(entry.pk))


def test_what_a_person_has_seen_to_is_skipped_for_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    pay("tok_visa")
    post({**TOLD, "reference": "ch_else"})
    InboxEntry.objects.update(attempts=settings.EVENTING["ATTEMPTS"] - 1)
    assert inbox.work()
    entry = InboxEntry.objects.get()
    assert status().inbox == InboxStatus(waiting=0, dead=1)
    with pytest.raises(CommandError, match="Say why"):
        call_command("inbox", "skip", str(entry.pk), reason=" ")
    call_command("inbox", "skip", str(entry.pk), reason="Paid back by hand.")
    entry.refresh_from_db()
    assert (entry.state, bytes(entry.body)) == ("skipped", b"")
    assert status().inbox == InboxStatus(waiting=0, dead=0)
    noted = audit.told(LogEntry.objects.get(object_id=str(entry.pk)))
    assert (noted["act"], noted["reason"]) == ("skipped", "Paid back by hand.")
    capsys.readouterr()
    call_command("inbox", "list")
    assert capsys.readouterr().out == ""
    with pytest.raises(CommandError, match="None of these"):
        call_command("inbox", "skip", str(entry.pk), reason="Again.")
    assert post({**TOLD, "reference": "ch_else"}).json() == {"new": False}


def test_one_that_kills_its_worker_each_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    post()

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inbox, "_carry_out", die)
    for _ in range(settings.EVENTING["ATTEMPTS"]):
        with pytest.raises(KeyboardInterrupt):
            inbox.work()
        InboxEntry.objects.update(due_at=timezone.now())
    assert inbox.work()
    assert InboxEntry.objects.get().state == "dead"


def test_what_was_understood_long_ago_is_deleted() -> None:
    pay("tok_webhook")
    told_by_now()
    settle()
    inbox.purge()
    assert InboxEntry.objects.exists()
    InboxEntry.objects.update(received_at=timezone.now() - timedelta(days=31))
    inbox.purge()
    assert not InboxEntry.objects.exists()
