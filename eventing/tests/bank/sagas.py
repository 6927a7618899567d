from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from eventing.domain import FAILED, Command, CommandRejected, GivenUp, Resumed, Saga, TimedOut
from eventing.sagas import saga
from eventing.tests.bank.commands import CloseAccount, PayIn
from eventing.tests.bank.events import AccountClosed, AccountOpened, MoneyPaidIn

BONUS = 5


@saga(partitions=2)
class Welcome(Saga):
    """Pay a bonus into each new account, and close it when its owner pays in nothing within a day."""

    begins_with = AccountOpened
    correlation = "account_id"

    paid_in: int = 0
    refused: str = ""
    given_up: tuple[int, ...] = ()

    def react(
        self, event: AccountOpened | MoneyPaidIn | AccountClosed | TimedOut | Resumed | GivenUp | CommandRejected
    ) -> Iterator[Command]:
        match event:
            case AccountOpened():
                self.state = "WAITING"
                self.remind_me(after=timedelta(days=1))
                yield PayIn(account_id=self.id, amount=BONUS)
            case MoneyPaidIn():
                self.paid_in += event.amount
                if self.paid_in > BONUS:
                    self.state = "COMPLETED"
            case TimedOut():
                yield CloseAccount(account_id=self.id)
            case AccountClosed():
                self.state, self.reason = FAILED, "The account was closed."
            case Resumed():
                if self.state == FAILED:
                    yield PayIn(account_id=self.id, amount=BONUS)
            case GivenUp():
                self.given_up += (event.letter,)
            case CommandRejected():
                self.refused = event.reason
