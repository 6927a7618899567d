"""The payment gateway: what we ask of it, and a simulator that keeps its own books, so that it can bear witness.

The simulator's test tokens are named as Stripe's are:

| token | what happens |
|---|---|
| ``tok_visa`` | charged |
| ``tok_chargeDeclined``, ``tok_chargeDeclinedInsufficientFunds`` | declined |
| ``tok_delay`` | charged, after a while |
| ``tok_timeout`` | charged, but the first answer never arrives |
| ``tok_timeout_lost`` | the first request never arrives; nothing is charged until it's sent again |
| anything else | declined as invalid |

`manage.py simulated_gateway down` makes it fail for everybody, until it's `up` again.
"""

from __future__ import annotations

import time
from typing import Protocol

from django.db import transaction

from eventing.money import Money
from eventing.statements import run
from payments.commands import Charged, Declined


class OutcomeUnknown(Exception):
    """The gateway gave no answer, and may have done what it was asked to. Ask again with the same key."""


class GatewayDown(Exception):
    """The gateway is out of order, and has done nothing. Ask again later."""


class GatewayRefused(Exception):
    """The request contradicts what the gateway knows. Asking again won't help; a person has to look."""


class Gateway(Protocol):
    """Asked again with the same key, it gives the same answer and does nothing more."""

    def charge(self, amount: Money, method: str, *, idempotency_key: str) -> Charged | Declined:
        """Take the money. Raises OutcomeUnknown, GatewayDown, or GatewayRefused for a key that was used for something
        else."""

    def refund(self, charge: str, amount: Money, *, idempotency_key: str) -> str:
        """Give a charge back, all of it or a part, and return the refund's reference. Raises OutcomeUnknown,
        GatewayDown, or GatewayRefused for a charge that there isn't, or of which less is left, or a key that was used
        for something else."""


def gateway() -> Gateway:
    """The gateway in use."""
    return SimulatedGateway()


DELAY_SECONDS = 0.5

DECLINES = {
    "tok_chargeDeclined": Declined(code="card_declined", message="Your card was declined."),
    "tok_chargeDeclinedInsufficientFunds": Declined(
        code="insufficient_funds", message="Your card has insufficient funds."
    ),
}
INVALID = Declined(code="invalid_payment_method", message="This payment method isn't valid.")
CHARGES = {"tok_visa", "tok_delay", "tok_timeout", "tok_timeout_lost"}

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
RETURNING reference
"""


class SimulatedGateway:
    """Answers by token, and writes each answer into its ledger, the table of ``GatewayEntry``, at once."""

    def charge(self, amount: Money, method: str, *, idempotency_key: str) -> Charged | Declined:
        """As the token says: see the table above."""
        declined = None if method in CHARGES else DECLINES.get(method, INVALID)
        charged = Charged(reference=f"ch_{idempotency_key}")
        then = "declined" if declined else "succeeded"
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
        if not rows:
            _check_order()
            raise GatewayRefused(f"The key {idempotency_key} was used for another request: each needs its own.")
        ((outcome, asks),) = rows
        if outcome == "lost" or (method == "tok_timeout" and asks == 1):
            raise OutcomeUnknown(f"The gateway didn't answer to the charge {idempotency_key} in time.")
        if method == "tok_delay":
            time.sleep(DELAY_SECONDS)
        return declined or charged

    def refund(self, charge: str, amount: Money, *, idempotency_key: str) -> str:
        """Always succeeds for a charge of which that much is left."""
        asked = {
            "key": idempotency_key,
            "minor": amount.minor,
            "currency": amount.currency,
            "charge": charge,
            "reference": f"re_{idempotency_key}",
        }
        _check_order()
        with transaction.atomic():
            run(QUEUE_FOR_CHARGE, {"charge": charge})
            rows = run(REFUND, asked)
        if not rows:
            raise GatewayRefused(
                f"There's no charge {charge!r} of which {amount} is left that the key {idempotency_key} can give back."
            )
        reference: str = rows[0][0]
        return reference


def _check_order() -> None:
    """Raises GatewayDown during an outage."""
    for (message,) in run("SELECT message FROM payments_gatewayoutage"):
        raise GatewayDown(message)
