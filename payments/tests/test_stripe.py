"""The adapter against a server that speaks Stripe's API; and both gateways against the same promises."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest
from pytest_django import Settings

from eventing.inbox import InvalidSignature, NeedsAPerson
from eventing.money import Money
from payments.commands import Charged, Declined, RecordPayment, RecordRefund, key_of_refund
from payments.gateway import Gateway, GatewayDown, GatewayRefused, OutcomeUnknown
from payments.gateway import stripe as adapter
from payments.gateway.simulated import SimulatedGateway
from payments.gateway.stripe import StripeGateway
from payments.tests.stripe_api import CONTRACT, SILENCE, StripeApi, stripe_api
from tests.builders import pounds

pytestmark = pytest.mark.django_db

SECRETS = ["whsec_new", "whsec_old"]
PAYMENT = UUID(int=7)
OURS = {"waybill_key": str(PAYMENT)}
NOW = datetime.now(UTC)
YESTERDAY = NOW - timedelta(days=1)


@pytest.fixture
def api() -> Iterator[StripeApi]:
    with stripe_api() as running:
        yield running


@pytest.fixture
def stripe(api: StripeApi, settings: Settings) -> StripeGateway:
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_made_up", api.address
    settings.STRIPE_WEBHOOK_SECRET = SECRETS
    return StripeGateway()


@pytest.fixture(params=["simulated", "stripe"])
def either(request: pytest.FixtureRequest) -> tuple[Gateway, dict[str, str]]:
    """A gateway, and what it calls methods of payment."""
    if request.param == "simulated":
        return SimulatedGateway(), {"good": "tok_visa", "bad": "tok_chargeDeclinedInsufficientFunds"}
    names = {"good": "pm_card_visa", "bad": "pm_card_chargeDeclinedInsufficientFunds"}
    return request.getfixturevalue("stripe"), names


def charged(gateway: Gateway, amount: Money, method: str, key: str) -> str:
    outcome = gateway.charge(amount, method, idempotency_key=key, requested_at=NOW)
    assert isinstance(outcome, Charged)
    return outcome.reference


def test_asked_again_a_gateway_answers_the_same_and_takes_nothing_more(either: tuple[Gateway, dict[str, str]]) -> None:
    gateway, names = either
    key = str(uuid4())
    first, again = (charged(gateway, pounds("10"), names["good"], key) for _ in range(2))
    assert first == again
    assert charged(gateway, pounds("10"), names["good"], str(uuid4())) != first


def test_a_gateway_declines_and_says_why(either: tuple[Gateway, dict[str, str]]) -> None:
    gateway, names = either
    key = str(uuid4())
    outcomes = [gateway.charge(pounds("10"), names["bad"], idempotency_key=key, requested_at=NOW) for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    assert isinstance(outcomes[0], Declined)
    assert outcomes[0].code == "insufficient_funds"


def test_a_key_is_for_one_request(either: tuple[Gateway, dict[str, str]]) -> None:
    gateway, names = either
    key = str(uuid4())
    charged(gateway, pounds("10"), names["good"], key)
    with pytest.raises(GatewayRefused):
        gateway.charge(pounds("11"), names["good"], idempotency_key=key, requested_at=NOW)


def test_a_gateway_gives_back_what_it_took_and_no_more(either: tuple[Gateway, dict[str, str]]) -> None:
    gateway, names = either
    reference = charged(gateway, pounds("10"), names["good"], str(uuid4()))
    part = gateway.refund(reference, pounds("4"), idempotency_key="a", requested_at=NOW)
    assert gateway.refund(reference, pounds("4"), idempotency_key="a", requested_at=NOW) == part
    with pytest.raises(GatewayRefused):
        gateway.refund(reference, pounds("6.01"), idempotency_key="b", requested_at=NOW)
    assert gateway.refund(reference, pounds("6"), idempotency_key="c", requested_at=NOW) != part


def test_what_stripe_is_asked_is_authorised_and_then_captured(api: StripeApi, stripe: StripeGateway) -> None:
    assert charged(stripe, pounds("12.34"), "pm_card_visa", str(PAYMENT)) == "pi_1"
    (create, form, key), (capture, _, capture_key) = api.requests
    assert (create, key) == ("/v1/payment_intents", str(PAYMENT))
    assert form == {
        "amount": "1234",
        "currency": "gbp",
        "payment_method": "pm_card_visa",
        "automatic_payment_methods[enabled]": "true",
        "automatic_payment_methods[allow_redirects]": "never",
        "capture_method": "manual",
        "confirm": "true",
        "error_on_requires_action": "true",
        "metadata[waybill_key]": str(PAYMENT),
    }
    assert (capture, capture_key) == ("/v1/payment_intents/pi_1/capture", f"{PAYMENT}-capture")
    assert api.taken == {"pi_1": 1234}


def test_a_failure_is_asked_about_again_with_the_same_key(api: StripeApi, stripe: StripeGateway) -> None:
    api.failures = ["503"]
    assert charged(stripe, pounds("10"), "pm_card_visa", "k") == "pi_1"
    assert [key for _, _, key in api.requests] == ["k", "k", "k-capture"]


@pytest.mark.parametrize("failures", [["hang up"] * 2, ["503"] * 2, ["", "hang up", "hang up"]])
def test_money_that_was_taken_without_an_answer_is_found_by_asking_again(
    api: StripeApi, stripe: StripeGateway, failures: list[str]
) -> None:
    api.failures = failures
    with pytest.raises(OutcomeUnknown):
        stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=NOW)
    assert charged(stripe, pounds("10"), "pm_card_visa", "k") == "pi_1"
    assert api.taken == {"pi_1": 1000}


@pytest.mark.parametrize(
    ("failure", "error"),
    [("401", GatewayRefused), ("403", GatewayRefused), ("unknown", GatewayRefused), ("429", GatewayDown)],
)
def test_what_is_wrong_with_us_is_told_from_what_is_wrong_with_them(
    api: StripeApi, stripe: StripeGateway, failure: str, error: type[Exception]
) -> None:
    api.failures = [failure] * 3
    with pytest.raises(error):
        stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=NOW)
    assert not api.taken


def test_nobody_there_is_an_outcome_that_is_not_known(stripe: StripeGateway, settings: Settings) -> None:
    settings.STRIPE_API_BASE = "http://127.0.0.1:1"
    with pytest.raises(OutcomeUnknown):
        StripeGateway().charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=NOW)


def test_a_token_of_a_shops_page_is_charged_as_a_card(api: StripeApi, stripe: StripeGateway) -> None:
    charged(stripe, pounds("10"), "tok_visa", "k")
    form = api.requests[0][1]
    assert form["payment_method_data[type]"] == "card"
    assert form["payment_method_data[card][token]"] == "tok_visa"
    assert "payment_method" not in form


@pytest.mark.parametrize("method", ["tok_unknown", "pm_unknown"])
def test_a_method_that_there_is_not_is_declined_and_nobodys_letter(stripe: StripeGateway, method: str) -> None:
    outcome = stripe.charge(pounds("10"), method, idempotency_key="k", requested_at=NOW)
    assert outcome == Declined(code="invalid_payment_method", message="This payment method isn't valid.")


@pytest.mark.parametrize(
    ("minor", "currency", "theirs"),
    [
        (1999, "GBP", 1999),
        (500, "JPY", 500),
        (500, "ISK", 50000),
        (500, "UGX", 50000),
        (70000, "MGA", 700),
        (1230, "BHD", 1230),
    ],
)
def test_amounts_are_told_in_stripes_own_minor_units(
    api: StripeApi, stripe: StripeGateway, minor: int, currency: str, theirs: int
) -> None:
    charged(stripe, Money(minor=minor, currency=currency), "pm_card_visa", "k")
    assert list(api.taken.values()) == [theirs]


@pytest.mark.parametrize(("minor", "currency"), [(1235, "BHD"), (70001, "MGA")])
def test_an_amount_that_stripe_can_not_take_is_declined_before_it_is_asked(
    api: StripeApi, stripe: StripeGateway, minor: int, currency: str
) -> None:
    outcome = stripe.charge(
        Money(minor=minor, currency=currency), "pm_card_visa", idempotency_key="k", requested_at=NOW
    )
    assert isinstance(outcome, Declined)
    assert outcome.code == "invalid_amount"
    assert "too many digits" in outcome.message
    assert not api.requests


@pytest.mark.parametrize(
    ("amount", "method", "code"),
    [("0.10", "pm_card_visa", "amount_too_small"), ("10", "pm_unusable", "invalid_request")],
)
def test_what_stripe_will_not_begin_with_is_declined_and_nobodys_letter(
    api: StripeApi, stripe: StripeGateway, amount: str, method: str, code: str
) -> None:
    outcome = stripe.charge(pounds(amount), method, idempotency_key="k", requested_at=NOW)
    assert isinstance(outcome, Declined)
    assert outcome.code == code
    assert not api.taken


def test_what_stripe_will_not_capture_a_person_has_to_look_at(api: StripeApi, stripe: StripeGateway) -> None:
    api.failures = ["", "503", "503"]
    with pytest.raises(OutcomeUnknown):
        stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=NOW)
    api.intents["pi_1"]["status"] = "canceled"  # by somebody at Stripe's dashboard
    with pytest.raises(GatewayRefused, match="could not be captured"):
        stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=NOW)


def test_a_charge_without_an_answer_is_found_though_stripe_has_forgotten_its_key(
    api: StripeApi, stripe: StripeGateway
) -> None:
    api.failures = ["", "hang up", "hang up"]
    with pytest.raises(OutcomeUnknown):
        stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=YESTERDAY)
    api.forget_keys()
    for _ in range(2):
        outcome = stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=YESTERDAY)
        assert outcome == Charged(reference="pi_1")
    assert api.taken == {"pi_1": 1000}


def test_what_was_only_authorised_when_stripe_forgot_its_key_is_captured(api: StripeApi, stripe: StripeGateway) -> None:
    api.failures = ["hang up", "hang up"]
    with pytest.raises(OutcomeUnknown):
        stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=NOW)
    api.forget_keys()
    assert stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=YESTERDAY) == Charged(
        reference="pi_1"
    )
    assert api.taken == {"pi_1": 1000}


def test_an_error_that_stripe_keeps_for_a_key_is_unknown_until_the_charge_is_found(
    api: StripeApi, stripe: StripeGateway
) -> None:
    api.failures = ["", "500"]
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=NOW)
    assert stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=YESTERDAY) == Charged(
        reference="pi_1"
    )
    assert api.taken == {"pi_1": 1000}


def test_what_was_declined_a_day_ago_stays_declined(api: StripeApi, stripe: StripeGateway) -> None:
    names = ("pm_card_chargeDeclinedInsufficientFunds", "pm_card_visa")  # by now the card is good
    outcomes = [
        stripe.charge(pounds("10"), name, idempotency_key="k", requested_at=at)
        for name, at in zip(names, (NOW, YESTERDAY), strict=True)
    ]
    assert outcomes == [Declined(code="insufficient_funds", message="Your card was declined.")] * 2


def test_of_several_that_were_made_with_one_key_the_one_that_has_the_money_counts(
    api: StripeApi, stripe: StripeGateway
) -> None:
    stripe.charge(pounds("10"), "pm_card_chargeDeclined", idempotency_key="k", requested_at=NOW)
    api.forget_keys()
    assert charged(stripe, pounds("10"), "pm_card_visa", "k") == "pi_2"
    outcome = stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=YESTERDAY)
    assert outcome == Charged(reference="pi_2")


def test_an_old_request_that_stripe_has_never_seen_is_made(api: StripeApi, stripe: StripeGateway) -> None:
    outcome = stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=YESTERDAY)
    assert outcome == Charged(reference="pi_1")
    reference = stripe.refund("pi_1", pounds("4"), idempotency_key="r", requested_at=YESTERDAY)
    assert (reference, api.given) == ("re_1", {"pi_1": 400})


def test_a_token_that_we_used_ourselves_is_charged_and_another_is_declined(
    api: StripeApi, stripe: StripeGateway
) -> None:
    api.failures = ["", "hang up", "hang up"]
    with pytest.raises(OutcomeUnknown):
        stripe.charge(pounds("10"), "tok_1", idempotency_key="k", requested_at=NOW)
    api.forget_keys()
    assert charged(stripe, pounds("10"), "tok_1", "k") == "pi_1"
    outcome = stripe.charge(pounds("10"), "tok_1", idempotency_key="of another order", requested_at=NOW)
    assert isinstance(outcome, Declined)
    assert api.taken == {"pi_1": 1000}


def test_a_charge_that_is_still_processing_is_neither_yes_nor_no(api: StripeApi, stripe: StripeGateway) -> None:
    api.captured_as = "processing"
    with pytest.raises(OutcomeUnknown, match="pi_1 is processing"):
        stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=NOW)
    with pytest.raises(OutcomeUnknown, match="pi_1 is processing"):
        stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=YESTERDAY)


def test_a_charge_that_was_cancelled_at_stripe_took_nothing(api: StripeApi, stripe: StripeGateway) -> None:
    api.captured_as = "canceled"
    outcome = stripe.charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=NOW)
    assert isinstance(outcome, Declined)


@pytest.mark.parametrize("status", ["failed", "canceled", "requires_action"])
def test_a_refund_that_fails_at_once_is_not_taken_for_done(api: StripeApi, stripe: StripeGateway, status: str) -> None:
    reference = charged(stripe, pounds("10"), "pm_card_visa", "k")
    api.refunded_as = status
    for at in (NOW, YESTERDAY):
        with pytest.raises(GatewayRefused, match=f"re_1 is {status}"):
            stripe.refund(reference, pounds("4"), idempotency_key="r", requested_at=at)


def test_a_refund_says_whose_it_is(api: StripeApi, stripe: StripeGateway) -> None:
    reference = charged(stripe, pounds("10"), "pm_card_visa", "k")
    stripe.refund(reference, pounds("4"), idempotency_key="r", requested_at=NOW)
    assert api.requests[-1] == (
        "/v1/refunds",
        {"payment_intent": reference, "amount": "400", "metadata[waybill_key]": "r"},
        "r",
    )


def test_a_refund_is_found_among_many_though_stripe_has_forgotten_its_key(
    api: StripeApi, stripe: StripeGateway
) -> None:
    reference = charged(stripe, pounds("10"), "pm_card_visa", "k")
    api.failures = ["hang up", "hang up"]
    with pytest.raises(OutcomeUnknown):
        stripe.refund(reference, pounds("4"), idempotency_key="r", requested_at=NOW)
    for number in range(100):
        stripe.refund(reference, pounds("0.01"), idempotency_key=f"r{number}", requested_at=NOW)
    api.forget_keys()
    assert stripe.refund(reference, pounds("4"), idempotency_key="r", requested_at=YESTERDAY) == "re_1"
    assert api.given == {reference: 500}


def signed(told: dict[str, Any], *, secret: str = SECRETS[0], age: int = 0) -> tuple[bytes, dict[str, str]]:
    body, at = json.dumps(told).encode(), int(time.time()) - age
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, sha256).hexdigest()
    return body, {"Stripe-Signature": f"t={at},v1={signature}"}


def test_who_is_silent_is_not_waited_for(
    api: StripeApi, stripe: StripeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "TIMEOUT", 0.2)
    monkeypatch.setattr(adapter, "RETRIES", 0)
    api.failures = ["silence"]
    asked = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        StripeGateway().charge(pounds("10"), "pm_card_visa", idempotency_key="k", requested_at=NOW)
    assert time.monotonic() - asked < SILENCE / 2


@pytest.mark.parametrize("secret", SECRETS)
def test_a_webhook_is_known_by_either_secret_while_one_replaces_the_other(stripe: StripeGateway, secret: str) -> None:
    assert stripe.verify(*signed(CONTRACT["webhook"], secret=secret)) == "evt_1"


def test_a_webhook_may_take_almost_five_minutes(stripe: StripeGateway) -> None:
    assert stripe.verify(*signed(CONTRACT["webhook"], age=295)) == "evt_1"


def test_a_webhook_that_is_not_stripes_is_refused(stripe: StripeGateway) -> None:
    body, headers = signed(CONTRACT["webhook"])
    for wrong in (
        (body + b" ", headers),
        (body, {}),
        (body, {"Stripe-Signature": "nonsense"}),
        signed(CONTRACT["webhook"], secret="whsec_else"),
        signed(CONTRACT["webhook"], age=301),
        (b"\xff", headers),
    ):
        with pytest.raises(InvalidSignature):
            stripe.verify(*wrong)


def told(kind: str, **about: Any) -> bytes:
    return json.dumps({**CONTRACT["webhook"], "type": kind, "data": {"object": about}}).encode()


def test_what_stripe_tells_becomes_what_is_recorded(stripe: StripeGateway) -> None:
    refund = uuid4()
    assert stripe.read(told("payment_intent.succeeded", id="pi_1", metadata=OURS)) == RecordPayment(
        payment_id=PAYMENT, outcome=Charged(reference="pi_1")
    )
    error = CONTRACT["errors"]["402"]["error"]
    failed = told("payment_intent.payment_failed", id="pi_1", metadata=OURS, last_payment_error=error)
    assert stripe.read(failed) == RecordPayment(
        payment_id=PAYMENT, outcome=Declined(code="generic_decline", message="Your card was declined.")
    )
    key = {"waybill_key": key_of_refund(PAYMENT, refund)}
    assert stripe.read(told("refund.updated", id="re_1", status="succeeded", metadata=key)) == RecordRefund(
        payment_id=PAYMENT, refund_id=refund, reference="re_1"
    )
    assert stripe.read(told("refund.updated", id="re_1", status="requires_action", metadata=key)) is None


@pytest.mark.parametrize(
    ("kind", "status"), [("refund.updated", "failed"), ("refund.updated", "canceled"), ("refund.failed", "failed")]
)
def test_a_refund_that_fails_after_all_needs_a_person(stripe: StripeGateway, kind: str, status: str) -> None:
    failed = {"id": "re_1", "status": status, "failure_reason": "expired_or_canceled_card"}
    with pytest.raises(NeedsAPerson, match=rf"re_1 of payment {PAYMENT} is {status} \(expired_or_canceled_card\)"):
        stripe.read(told(kind, **failed, metadata={"waybill_key": key_of_refund(PAYMENT, None)}))


def test_a_payment_that_is_cancelled_at_stripe_is_declined(stripe: StripeGateway) -> None:
    cancelled = told("payment_intent.canceled", id="pi_1", last_payment_error=None, metadata=OURS)
    assert stripe.read(cancelled) == RecordPayment(
        payment_id=PAYMENT, outcome=Declined(code="declined", message="The payment was declined.")
    )


@pytest.mark.parametrize(
    "metadata", [None, {}, {"waybill_key": "order 17"}, {"waybill_key": None}, {"key": str(PAYMENT)}]
)
@pytest.mark.parametrize("kind", ["customer.created", "payment_intent.succeeded", "refund.updated"])
def test_what_stripe_tells_of_others_is_of_no_interest(
    stripe: StripeGateway, kind: str, metadata: dict[str, Any] | None
) -> None:
    assert stripe.read(told(kind, id="x", status="succeeded", metadata=metadata)) is None
    assert stripe.read(told(kind)) is None
    assert stripe.read(b'{"id": "evt_1", "type": "v2.core.event", "related_object": {}}') is None
