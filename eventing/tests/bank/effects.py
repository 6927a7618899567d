from __future__ import annotations

from collections.abc import Callable

from eventing.effects import Delivery, effect
from eventing.tests.bank.commands import PayIn
from eventing.tests.bank.events import AccountClosed


def _answer(event: AccountClosed, delivery: Delivery) -> None:
    return None


post: Callable[[AccountClosed, Delivery], PayIn | None] = _answer


@effect(queue="eventing", attempts=3)
def farewell(event: AccountClosed, delivery: Delivery) -> PayIn | None:
    """Send a letter by whatever post the test has put in place."""
    return post(event, delivery)
