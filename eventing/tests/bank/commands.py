"""What can be asked of an account."""

from __future__ import annotations

from uuid import UUID

from eventing.domain import Command


class OpenAccount(Command):
    account_id: UUID
    owner: str


class PayIn(Command):
    account_id: UUID
    amount: int


class CloseAccount(Command):
    account_id: UUID


class Transfer(Command):
    """Pay the same amount into several accounts, all or none."""

    accounts: tuple[UUID, ...]
    amount: int
