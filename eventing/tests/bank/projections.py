from __future__ import annotations

from collections.abc import Iterator

from eventing.projections import Listing, Projection
from eventing.records import Record
from eventing.tests.bank.events import AccountClosed, AccountOpened, MoneyPaidIn
from eventing.tests.bank.models import Balance, Entry

POISON = 666
poisoned = True


def indigestion() -> Exception:
    """What goes wrong with poison."""
    return ValueError("I can't digest this.")


class Balances(Projection[Balance]):
    """A row an account."""

    key = "account_id"

    def apply(self, row: Balance, event: AccountOpened | MoneyPaidIn | AccountClosed, record: Record) -> None:
        row.version = record.version
        match event:
            case AccountOpened():
                row.owner = event.owner
            case MoneyPaidIn():
                if event.amount == POISON and poisoned:
                    raise indigestion()
                row.amount += event.amount
                row.payments += 1
            case AccountClosed():
                row.closed = True


class Entries(Listing[Entry]):
    """A row a payment."""

    key = "account_id"

    def rows(self, event: MoneyPaidIn) -> Iterator[Entry]:
        yield Entry(account_id=event.account_id, amount=event.amount)
