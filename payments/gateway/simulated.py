"""A gateway that takes no money, and keeps its own books, so that it can bear witness.

Its test tokens are named as Stripe's are (https://docs.stripe.com/testing):

| token | what happens |
|---|---|
| ``tok_visa``, ``tok_mastercard`` | charged |
| ``tok_chargeDeclined``, ``…InsufficientFunds``, ``…ExpiredCard``, ``…IncorrectCvc``, ``…Fraudulent`` … | declined |
| ``tok_delay`` | charged, after a while |
| ``tok_timeout`` | charged, but the first answer never arrives |
| ``tok_timeout_lost`` | the first request never arrives; nothing is charged until it's sent again |
| ``tok_webhook`` | charged, and told of by a webhook too, late |
| ``tok_webhook_twice`` | the same, and the webhook comes twice |
| ``tok_webhook_only`` | charged, but no answer arrives before the webhook does |
| ``tok_refund_timeout`` | charged; refunds of it are given, but the first answer never arrives |
| ``tok_refund_webhook`` | charged; refunds of it are told of by a webhook too, late |
| ``tok_refund_webhook_twice`` | the same, and the webhook comes twice |
| ``tok_refund_webhook_only`` | charged; refunds of it are given, but no answer arrives before the webhook does |
| anything else | declined as invalid |

`manage.py simulated_gateway down` makes it fail for everybody, until it's `up` again. `SIMULATED_LATENCY` is how many
seconds each answer takes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from standardwebhooks import Webhook

from eventing import inbox
from eventing.money import Money
from eventing.statements import run
from payments.commands import Charged, Declined, RecordPayment, RecordRefund, payment_and_refund
from payments.gateway import GatewayDown, GatewayRefused, OutcomeUnknown
from payments.models import GatewayNotice

DELAY_SECONDS = 0.5

DECLINES = {
    f"tok_chargeDeclined{name}": Declined(code=code, message=message)
    for name, code, message in (
        ("", "card_declined", "Your card was declined."),
        ("InsufficientFunds", "insufficient_funds", "Your card has insufficient funds."),
        ("ExpiredCard", "expired_card", "Your card has expired."),
        ("IncorrectCvc", "incorrect_cvc", "Your card's security code is incorrect."),
        ("ProcessingError", "processing_error", "An error occurred while processing your card. Try again later."),
        ("Fraudulent", "fraudulent", "Your card was declined."),
    )
}
INVALID = Declined(code="invalid_payment_method", message="This payment method isn't valid.")
TOLD = {"tok_webhook": 1, "tok_webhook_twice": 2, "tok_webhook_only": 1}  # how often by a webhook
REFUNDS_TOLD = {f"tok_refund_{name.removeprefix('tok_')}": times for name, times in TOLD.items()}
CHARGES = {
    "tok_visa",
    "tok_mastercard",
    "tok_delay",
    "tok_timeout",
    "tok_timeout_lost",
    "tok_refund_timeout",
    *TOLD,
    *REFUNDS_TOLD,
}
WEBHOOK_AFTER = timedelta(seconds=1)

# One statement finds the answer that was given to this key, or gives and keeps one; two at once wait for each other.
# A lost request is answered when it comes again. Another request with the same key gets no row, nor does any while the
# gateway is out of order.
CHARGE = """
INSERT INTO payments_gatewayentry AS entry
    (key, kind, amount_minor, currency, method, charge, outcome, reference, code, asks, created_at)
SELECT %(key)s, 'charge', %(minor)s, %(currency)s, %(method)s, '', %(first)s, %(reference)s, %(code)s, 1,
    statement_timestamp()
WHERE NOT EXISTS (SELECT FROM payments_gatewayoutage)
ON CONFLICT (key) DO UPDATE SET asks = entry.asks + 1,
    outcome = CASE WHEN entry.outcome = 'lost' THEN %(then)s ELSE entry.outcome END
WHERE (entry.kind, entry.amount_minor, entry.currency, entry.method)
    = ('charge', %(minor)s, %(currency)s, %(method)s)
RETURNING outcome, asks
"""

# Whoever gives back of one charge waits here for the others, and sees in the next statement what they have given.
QUEUE_FOR_CHARGE = """
SELECT FROM payments_gatewayentry WHERE kind = 'charge' AND reference = %(charge)s FOR UPDATE
"""

# The same as for a charge; and no row either for a charge that there isn't, or of which less is left.
REFUND = """
INSERT INTO payments_gatewayentry AS entry
    (key, kind, amount_minor, currency, method, charge, outcome, reference, code, asks, created_at)
SELECT %(key)s, 'refund', %(minor)s, currency, method, reference, 'succeeded', %(reference)s, '', 1,
    statement_timestamp()
FROM payments_gatewayentry charged
WHERE kind = 'charge' AND outcome = 'succeeded' AND reference = %(charge)s
    AND currency = %(currency)s AND %(minor)s > 0 AND amount_minor >= %(minor)s + (
        SELECT coalesce(sum(amount_minor), 0)
        FROM payments_gatewayentry given WHERE given.charge = charged.reference AND given.key <> %(key)s
    )
ON CONFLICT (key) DO UPDATE SET asks = entry.asks + 1
WHERE (entry.charge, entry.amount_minor) = (%(charge)s, %(minor)s)
RETURNING reference, method, asks
"""


# Those that are due, each as often as it's to be told. Told twice at the same time by nobody.
DUE = """
UPDATE payments_gatewaynotice SET sent = sent + 1, due_at = statement_timestamp() + %(pause)s
WHERE id IN (
    SELECT id FROM payments_gatewaynotice WHERE sent < times AND due_at <= statement_timestamp()
    ORDER BY due_at LIMIT 100 FOR UPDATE SKIP LOCKED
)
RETURNING id, body
"""


class SimulatedGateway:
    """Answers by token, and writes each answer into its ledger, the table of ``GatewayEntry``, at once."""

    name = "simulated"

    def charge(self, amount: Money, method: str, *, idempotency_key: str, requested_at: datetime) -> Charged | Declined:
        """As the token says: see the table above. It never forgets a key, however old a request is."""
        declined = None if method in CHARGES else DECLINES.get(method, INVALID)
        charged = Charged(reference=f"ch_{idempotency_key}")
        then = "declined" if declined else "succeeded"
        time.sleep(settings.SIMULATED_LATENCY)
        with transaction.atomic() if method in TOLD else nullcontext():
            rows = run(
                CHARGE,
                {
                    "key": idempotency_key,
                    "minor": amount.minor,
                    "currency": amount.currency,
                    "method": method,
                    "first": "lost" if method == "tok_timeout_lost" else then,
                    "then": then,
                    "reference": "" if declined else charged.reference,
                    "code": declined.code if declined else "",
                },
            )
            if rows and rows[0][1] == 1 and method in TOLD:
                _tell_later("charge.succeeded", idempotency_key, charged.reference, times=TOLD[method])
        if not rows:
            _check_order()
            raise GatewayRefused(f"The key {idempotency_key} was used for another request: each needs its own.")
        ((outcome, asks),) = rows
        if (
            outcome == "lost"
            or (method == "tok_timeout" and asks == 1)
            or (method == "tok_webhook_only" and _is_untold(idempotency_key))
        ):
            raise OutcomeUnknown(f"The gateway didn't answer to the charge {idempotency_key} in time.")
        if method == "tok_delay":
            time.sleep(DELAY_SECONDS)
        return declined or charged

    def refund(self, charge: str, amount: Money, *, idempotency_key: str, requested_at: datetime) -> str:
        """Always succeeds for a charge of which that much is left. Of the answer, the charge's token decides."""
        asked = {
            "key": idempotency_key,
            "minor": amount.minor,
            "currency": amount.currency,
            "charge": charge,
            "reference": f"re_{idempotency_key}",
        }
        _check_order()
        time.sleep(settings.SIMULATED_LATENCY)
        with transaction.atomic():
            run(QUEUE_FOR_CHARGE, {"charge": charge})
            rows = run(REFUND, asked)
            for reference, method, asks in rows:
                if asks == 1 and method in REFUNDS_TOLD:
                    _tell_later("refund.succeeded", idempotency_key, reference, times=REFUNDS_TOLD[method])
        if not rows:
            raise GatewayRefused(
                f"There's no charge {charge!r} of which {amount} is left that the key {idempotency_key} can give back."
            )
        ((reference, method, asks),) = rows
        if (method == "tok_refund_timeout" and asks == 1) or (
            method == "tok_refund_webhook_only" and _is_untold(idempotency_key)
        ):
            raise OutcomeUnknown(f"The gateway didn't answer to the refund {idempotency_key} in time.")
        return str(reference)

    def verify(self, body: bytes, headers: Mapping[str, str]) -> str:
        """By Standard Webhooks."""
        return inbox.verified(body, headers, settings.SIMULATED_WEBHOOK_SECRET)

    def read(self, body: bytes) -> RecordPayment | RecordRefund | None:
        """Charges and refunds are told of, and nothing else."""
        told = json.loads(body)
        payment_id, refund_id = payment_and_refund(told["key"])
        match told["type"]:
            case "charge.succeeded":
                return RecordPayment(payment_id=payment_id, outcome=Charged(reference=told["reference"]))
            case "refund.succeeded":
                return RecordRefund(payment_id=payment_id, refund_id=refund_id, reference=told["reference"])
            case _:
                return None


def send_webhooks() -> int:
    """Tell of what is due, in the same way as over HTTP. Returns how often something was told."""
    rows = run(DUE, {"pause": WEBHOOK_AFTER})
    for id, body in rows:
        event_id, now = f"evt_{id}", datetime.now(UTC)
        signature = Webhook(settings.SIMULATED_WEBHOOK_SECRET).sign(event_id, now, bytes(body).decode())
        headers = {
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        inbox.keep("payments", SimulatedGateway.name, SimulatedGateway().verify(bytes(body), headers), bytes(body))
    return len(rows)


def _tell_later(kind: str, key: str, reference: str, *, times: int) -> None:
    body = json.dumps({"type": kind, "key": key, "reference": reference}).encode()
    GatewayNotice.objects.create(key=key, body=body, times=times, due_at=timezone.now() + WEBHOOK_AFTER)


def _is_untold(key: str) -> bool:
    return GatewayNotice.objects.filter(key=key, sent=0).exists()


def _check_order() -> None:
    """Raises GatewayDown during an outage."""
    for (message,) in run("SELECT message FROM payments_gatewayoutage"):
        raise GatewayDown(message)
