"""Stripe, by its PaymentIntents: authorised and captured at once, refunded in whole or in parts.

Each request carries an idempotency key, and in its metadata the key that we know it by, so that what Stripe tells of
its own accord leads back to our payment. Needs requirements-stripe.txt, STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import stripe
from django.conf import settings

from eventing.inbox import InvalidSignature, NeedsAPerson
from eventing.money import Money, exponent
from payments.commands import Charged, Declined, RecordPayment, RecordRefund, payment_and_refund
from payments.gateway import GatewayDown, GatewayRefused, OutcomeUnknown

TIMEOUT = 20  # seconds
METADATA = "waybill_key"  # what we know a PaymentIntent or a refund of ours by
RETRIES = 1  # the package's own, with the same key; after that the effect asks again, later

# Where Stripe's minor units aren't those of ISO 4217 (https://docs.stripe.com/currencies, "special cases"), and where
# the last digit has to be 0.
EXPONENTS = {"ISK": 2, "UGX": 2, "MGA": 0}
IN_TENS = {"BHD", "JOD", "KWD", "OMR", "TND"}

KEYS_KEPT = timedelta(hours=23)  # Stripe forgets a key after a day at the earliest

INVALID = Declined(code="invalid_payment_method", message="This payment method isn't valid.")
METHODS = ("payment_method", "payment_method_data[card][token]")  # what Stripe complains of then
BUYERS = ("amount", "currency", *METHODS)  # and of what else may be the buyer's affair
REFUSALS = (
    stripe.InvalidRequestError,
    stripe.IdempotencyError,
    stripe.AuthenticationError,
    stripe.PermissionError,
)
HOLDING = ("succeeded", "requires_capture", "processing")  # a PaymentIntent has the money, or may have it soon


class StripeGateway:
    """Asks Stripe. What was asked for so long ago that Stripe may have forgotten the key is looked for first."""

    name = "stripe"

    def __init__(self) -> None:
        self._client = stripe.StripeClient(
            settings.STRIPE_API_KEY,
            base_addresses={"api": settings.STRIPE_API_BASE},
            max_network_retries=RETRIES,
            http_client=stripe.RequestsClient(timeout=TIMEOUT),
        )

    def charge(self, amount: Money, method: str, *, idempotency_key: str, requested_at: datetime) -> Charged | Declined:
        """Authorise and capture. The buyer isn't there to be asked by the bank, so a card that needs it is declined."""
        with _translated():
            known = self._made(idempotency_key) if _is_old(requested_at) else None
            try:
                intent = known or self._create(amount, method, idempotency_key)
                return intent if isinstance(intent, Declined) else self._settle(intent, idempotency_key)
            except stripe.CardError as declined:
                return _declined(declined.error.to_dict() if declined.error else {})

    def refund(self, charge: str, amount: Money, *, idempotency_key: str, requested_at: datetime) -> str:
        """Of a PaymentIntent."""
        with _translated():
            refund = self._given(charge, idempotency_key) if _is_old(requested_at) else None
            refund = refund or self._client.v1.refunds.create(
                {"payment_intent": charge, "amount": _theirs(amount), "metadata": {METADATA: idempotency_key}},
                {"idempotency_key": idempotency_key},
            )
        if refund.status not in ("succeeded", "pending"):
            raise GatewayRefused(f"Stripe's refund {refund.id} is {refund.status}.")
        return str(refund.id)

    def _create(self, amount: Money, method: str, key: str) -> stripe.PaymentIntent | Declined:
        """What Stripe won't begin with because of the amount or the method takes no money, now or later, unless it's a
        token that we used before. What it refuses for another reason is ours to mend, and no buyer's fault."""
        try:
            asked: Any = {
                "amount": _theirs(amount),
                "currency": amount.currency.lower(),
                **_how(method),
                "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                "capture_method": "manual",
                "confirm": True,
                "error_on_requires_action": True,
                "metadata": {METADATA: key},
            }
            return self._client.v1.payment_intents.create(asked, {"idempotency_key": key})
        except GatewayRefused as refused:
            return Declined(code="invalid_amount", message=str(refused))
        except stripe.InvalidRequestError as error:
            if error.code == "token_already_used" and (intent := self._made(key)):
                return intent
            if error.code in ("resource_missing", "token_already_used") and error.param in METHODS:
                return INVALID
            if error.param in BUYERS or str(error.code).startswith(("amount_", "payment_method_")):
                return Declined(code=error.code or "invalid_request", message=_told(error))
            raise

    def _settle(self, intent: stripe.PaymentIntent, key: str) -> Charged | Declined:
        if intent.status == "requires_capture":
            options: Any = {"idempotency_key": f"{key}-capture"}
            intent = self._client.v1.payment_intents.capture(intent.id, {}, options)
        match intent.status:
            case "succeeded":
                return Charged(reference=intent.id)
            case "canceled" | "requires_payment_method":
                return _declined(intent.last_payment_error.to_dict() if intent.last_payment_error else {})
            case _:
                raise OutcomeUnknown(f"Stripe's {intent.id} is {intent.status}.")

    def _made(self, key: str) -> stripe.PaymentIntent | None:
        """What was made with this key; of several what has the money. The search may miss what is younger than a
        minute, or an hour when Stripe isn't well: for as long the key is good."""
        found = self._client.v1.payment_intents.search({"query": f"metadata['{METADATA}']:'{key}'", "limit": 100})
        return min(found.data, key=lambda each: each.status not in HOLDING, default=None)

    def _given(self, charge: str, key: str) -> stripe.Refund | None:
        """The refund that was made with this key."""
        refunds = self._client.v1.refunds.list({"payment_intent": charge, "limit": 100})
        ours = (
            each
            for each in refunds.auto_paging_iter()
            if each.metadata and each.metadata.to_dict().get(METADATA) == key
        )
        return next(ours, None)

    def verify(self, body: bytes, headers: Mapping[str, str]) -> str:
        """By Stripe's own signature, with any of the secrets that are valid."""
        for secret in settings.STRIPE_WEBHOOK_SECRET:
            try:
                stripe.WebhookSignature.verify_header(body.decode(), headers.get("Stripe-Signature", ""), secret, 300)
                told = json.loads(body)
            except (stripe.SignatureVerificationError, ValueError):
                continue
            if isinstance(told, dict) and isinstance(event_id := told.get("id"), str):
                return event_id
        raise InvalidSignature("This isn't signed as Stripe signs, or is older than five minutes.")

    def read(self, body: bytes) -> RecordPayment | RecordRefund | None:
        """Payments that succeeded or failed, and refunds, if they're ours. A refund that fails after all has been taken
        for done, and the money is back at Stripe: a person finds another way to its owner."""
        match json.loads(body):
            case {"type": kind, "data": {"object": {"id": str(id), "metadata": {"waybill_key": str(key)}} as about}}:
                pass
            case _:
                return None
        try:
            payment_id, refund_id = payment_and_refund(key)
        except ValueError:
            return None
        match kind:
            case "payment_intent.succeeded":
                return RecordPayment(payment_id=payment_id, outcome=Charged(reference=id))
            case "payment_intent.payment_failed" | "payment_intent.canceled":
                return RecordPayment(payment_id=payment_id, outcome=_declined(about.get("last_payment_error") or {}))
            case "refund.created" | "refund.updated" if about.get("status") in ("succeeded", "pending"):
                return RecordRefund(payment_id=payment_id, refund_id=refund_id, reference=id)
            case "refund.updated" | "refund.failed" if about.get("status") in ("failed", "canceled"):
                why = about.get("failure_reason") or "for no reason that it tells"
                raise NeedsAPerson(
                    f"Stripe's refund {id} of payment {payment_id} is {about['status']} ({why}): the buyer hasn't got "
                    "the money. Give it back in another way, then skip this entry."
                )
            case _:
                return None


@contextmanager
def _translated() -> Iterator[None]:
    """Stripe's errors as ours. Of what isn't known here, it may have been done."""
    try:
        yield
    except REFUSALS as error:
        raise GatewayRefused(_told(error)) from error
    except stripe.RateLimitError as error:
        raise GatewayDown(_told(error)) from error
    except stripe.StripeError as error:
        raise OutcomeUnknown(_told(error)) from error


def _is_old(requested_at: datetime) -> bool:
    return datetime.now(UTC) - requested_at > KEYS_KEPT


def _told(error: stripe.StripeError) -> str:
    """The first line, and by which name Stripe finds the request."""
    first = str(error.user_message or error).partition("\n")[0]
    return f"{first} ({error.request_id})" if error.request_id else first


def _how(method: str) -> dict[str, Any]:
    """A token, such as the page of a shop gets from Stripe, or a payment method that Stripe keeps."""
    if method.startswith("tok_"):
        return {"payment_method_data": {"type": "card", "card": {"token": method}}}
    return {"payment_method": method}


def _declined(told: Mapping[str, Any]) -> Declined:
    """The bank's own reason where there is one."""
    code = told.get("decline_code") or told.get("code") or "declined"
    return Declined(code=str(code), message=str(told.get("message") or "The payment was declined."))


def _theirs(amount: Money) -> int:
    """The amount in Stripe's minor units. Raises GatewayRefused for one that can't be told in them."""
    ours = exponent(amount.currency)
    shift = EXPONENTS.get(amount.currency, ours) - ours
    minor = int(amount.minor * 10**shift) if shift >= 0 else amount.minor // int(10**-shift)
    exact = shift >= 0 or amount.minor % 10**-shift == 0
    if not exact or (amount.currency in IN_TENS and minor % 10):
        raise GatewayRefused(f"Stripe can't take {amount}: it has too many digits.")
    return minor
