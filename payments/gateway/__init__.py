"""The payment gateway: what we ask of it, and what it tells us of its own accord. Which one, `PAYMENT_GATEWAY` says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Protocol

from django.conf import settings

from eventing.money import Money
from payments.commands import Charged, Declined, RecordPayment, RecordRefund


class OutcomeUnknown(Exception):
    """The gateway gave no answer, and may have done what it was asked to. Ask again with the same key."""


class GatewayDown(Exception):
    """The gateway is out of order, and has done nothing. Ask again later."""


class GatewayRefused(Exception):
    """The request contradicts what the gateway knows. Asking again won't help; a person has to look."""


class Gateway(Protocol):
    """Asked again with the same key, it gives the same answer and does nothing more. ``requested_at`` is when that was
    first wanted: who forgets keys some day looks for what they did for an old request. What it tells of its own accord
    may come late, twice, and in any order."""

    name: str

    def charge(self, amount: Money, method: str, *, idempotency_key: str, requested_at: datetime) -> Charged | Declined:
        """Take the money; what the gateway won't take is declined. Raises OutcomeUnknown, GatewayDown, or
        GatewayRefused for a key that was used for something else."""

    def refund(self, charge: str, amount: Money, *, idempotency_key: str, requested_at: datetime) -> str:
        """Give a charge back, all of it or a part, and return the refund's reference. Raises OutcomeUnknown,
        GatewayDown, or GatewayRefused for a charge that there isn't, or of which less is left, or a key that was used
        for something else."""

    def verify(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The id of what it tells, the same each time it tells it. Raises `inbox.InvalidSignature` for what isn't its
        own, or is older than five minutes."""

    def read(self, body: bytes) -> RecordPayment | RecordRefund | None:
        """What it tells, once that was verified; None for what is of no interest here. Raises `inbox.NeedsAPerson` for
        a refund that fails after all."""


@cache
def gateway() -> Gateway:
    """The gateway in use."""
    if settings.PAYMENT_GATEWAY == "stripe":
        from payments.gateway.stripe import StripeGateway

        return StripeGateway()
    from payments.gateway.simulated import SimulatedGateway

    return SimulatedGateway()
