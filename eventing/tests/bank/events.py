"""What happens to an account."""

from __future__ import annotations

from uuid import UUID

from eventing.domain import Event


class AccountOpened(Event, name="bank.account_opened"):
    account_id: UUID
    owner: str


class MoneyPaidIn(Event, name="bank.money_paid_in"):
    account_id: UUID
    amount: int


class AccountClosed(Event, name="bank.account_closed"):
    account_id: UUID


AccountEvent = AccountOpened | MoneyPaidIn | AccountClosed
