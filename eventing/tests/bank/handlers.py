from __future__ import annotations

from collections.abc import Iterator

from eventing import store
from eventing.handlers import Target, handles
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.commands import CloseAccount, OpenAccount, PayIn, Transfer


@handles
def open_account(command: OpenAccount) -> None:
    with store.edit(Account, command.account_id) as account:
        account.open(command.owner)


@handles
def pay_in(command: PayIn) -> None:
    with store.edit(Account, command.account_id) as account:
        account.pay_in(command.amount)


@handles
def close_account(command: CloseAccount) -> None:
    with store.edit(Account, command.account_id) as account:
        account.close()


def _accounts(command: Transfer) -> Iterator[Target]:
    return ((Account, account) for account in command.accounts)


@handles(locks=_accounts)
def transfer(command: Transfer) -> None:
    with store.edit_all(Account, command.accounts) as accounts:
        for account in command.accounts:
            accounts[account].pay_in(command.amount)
