"""What the bank's customers do, for tests to say in a word."""

from __future__ import annotations

from uuid import UUID, uuid4

from eventing.handlers import dispatch
from eventing.records import Stream
from eventing.relay import relay_all
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.commands import CloseAccount, OpenAccount, PayIn


def opens_account(owner: str = "Ada", *, account_id: UUID | None = None) -> UUID:
    """A new account's id."""
    account_id = account_id or uuid4()
    dispatch(OpenAccount(account_id=account_id, owner=owner))
    return account_id


def pays_in(account_id: UUID, *amounts: int) -> None:
    """One event an amount."""
    for amount in amounts:
        dispatch(PayIn(account_id=account_id, amount=amount))


def closes_account(account_id: UUID) -> None:
    dispatch(CloseAccount(account_id=account_id))


def stream_of(account_id: UUID) -> Stream:
    return Stream.of(Account, account_id)


def everything_is_relayed() -> int:
    """How many events that were."""
    return sum(relay_all())
