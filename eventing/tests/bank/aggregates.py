from __future__ import annotations

from eventing.domain import Aggregate, Rejected
from eventing.tests.bank.events import AccountClosed, AccountEvent, AccountOpened, MoneyPaidIn, OwnerMoved


class Account(Aggregate[AccountEvent], category="account"):
    """Somebody's money."""

    owner = ""
    balance = 0
    closed = False
    address = ""

    def open(self, owner: str) -> None:
        if self.owner:
            raise Rejected("This account is open already.")
        self.record(AccountOpened(account_id=self.id, owner=owner))

    def pay_in(self, amount: int) -> None:
        if not self.owner or self.closed:
            raise Rejected("This account isn't open.")
        self.record(MoneyPaidIn(account_id=self.id, amount=amount))

    def close(self) -> None:
        self.record(AccountClosed(account_id=self.id))

    def apply(self, event: AccountEvent) -> None:
        match event:
            case AccountOpened():
                self.owner = event.owner
            case MoneyPaidIn():
                self.balance += event.amount
            case AccountClosed():
                self.closed = True
            case OwnerMoved():
                self.address = event.address
