"""What happens to an account."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from eventing.domain import Event, Personal


class AccountOpened(Event, name="bank.account_opened", version=3):
    account_id: UUID
    owner: str


class MoneyPaidIn(Event, name="bank.money_paid_in"):
    account_id: UUID
    amount: int


class AccountClosed(Event, name="bank.account_closed", version=2):
    account_id: UUID
    reason: str = "The owner asked for it."


class OwnerMoved(Event, name="bank.owner_moved"):
    account_id: UUID
    address: Annotated[str, Personal("account_id")]


AccountEvent = AccountOpened | MoneyPaidIn | AccountClosed | OwnerMoved
