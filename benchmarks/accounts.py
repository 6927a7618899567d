"""The aggregate that both sides of the benchmark write: an account with an owner and a balance."""

from __future__ import annotations

from uuid import UUID

from eventing.domain import Aggregate, Event


class Opened(Event, name="benchmarks.opened"):
    account_id: UUID
    owner: str


class PaidIn(Event, name="benchmarks.paid_in"):
    account_id: UUID
    amount: int


class Account(Aggregate[Opened | PaidIn], category="benchmark"):
    """Somebody's money."""

    balance = 0

    def pay_in(self, amount: int) -> None:
        self.record(PaidIn(account_id=self.id, amount=amount))

    def apply(self, event: Opened | PaidIn) -> None:
        match event:
            case Opened():
                self.balance = 0
            case PaidIn():
                self.balance += event.amount
