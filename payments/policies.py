"""What becomes of the money for goods that come back."""

from __future__ import annotations

from collections.abc import Iterator

from eventing.domain import Command
from eventing.policies import policy
from orders.events import ItemsReturned
from payments.commands import RefundPart, payment_of


@policy
def give_money_back(event: ItemsReturned) -> Iterator[Command]:
    """What was paid for the units that came back; nothing for what cost nothing."""
    if event.refund.minor:
        yield RefundPart(payment_id=payment_of(event.order_id), refund_id=event.return_id, amount=event.refund)
