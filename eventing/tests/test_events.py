"""The kernel: what events, commands and aggregates are, and how events are stored and read again."""

from __future__ import annotations

from uuid import uuid4

import msgspec
import pytest

from eventing.domain import Aggregate, Rejected
from eventing.money import Money
from eventing.records import Stored, Stream, UnknownEvent, decode, encode, event_class
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.commands import PayIn
from eventing.tests.bank.events import AccountOpened, MoneyPaidIn

ACCOUNT = uuid4()


def test_an_event_has_the_stored_name_and_version_of_its_class_line() -> None:
    assert AccountOpened.stored_name == "bank.account_opened"
    assert AccountOpened.schema_version == 3
    assert event_class("bank.account_opened") is AccountOpened


def test_events_and_commands_cant_be_changed_and_are_equal_by_contents() -> None:
    event = MoneyPaidIn(account_id=ACCOUNT, amount=1)
    assert event == MoneyPaidIn(account_id=ACCOUNT, amount=1)
    with pytest.raises(AttributeError, match="immutable"):
        event.amount = 2
    with pytest.raises(AttributeError, match="immutable"):
        PayIn(account_id=ACCOUNT, amount=1).amount = 2


def test_the_fields_of_an_event_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        MoneyPaidIn(ACCOUNT, 1)


def test_an_event_is_read_as_it_was_written() -> None:
    event = MoneyPaidIn(account_id=ACCOUNT, amount=1)
    assert decode(Stored("bank.money_paid_in", 1, msgspec.json.encode(event).decode())) == event
    assert msgspec.json.decode(encode([{"data": Money.parse("2.55", "GBP")}])) == [
        {"data": {"currency": "GBP", "minor": 255}}
    ]


def test_fields_that_a_class_no_longer_has_are_left_out() -> None:
    assert decode(
        Stored("bank.money_paid_in", 1, f'{{"account_id": "{ACCOUNT}", "amount": 1, "gone": 2}}')
    ) == MoneyPaidIn(account_id=ACCOUNT, amount=1)


def test_an_event_whose_fields_cant_be_read_is_an_error_that_names_the_field() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.amount"):
        decode(Stored("bank.money_paid_in", 1, f'{{"account_id": "{ACCOUNT}", "amount": "much"}}'))


def test_a_stored_name_that_no_class_has_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UnknownEvent, match=r'keep its old name: class …\(Event, name="bank\.account_blessed"\)'):
        decode(Stored("bank.account_blessed", 1, "{}"))


def test_an_aggregate_follows_what_it_records_and_counts_its_versions() -> None:
    account = Account(ACCOUNT)
    account.open("Ada")
    account.pay_in(3)
    assert (account.version, account.owner, account.balance) == (2, "Ada", 3)
    assert account.recorded == [
        AccountOpened(account_id=ACCOUNT, owner="Ada"),
        MoneyPaidIn(account_id=ACCOUNT, amount=3),
    ]


def test_a_rejected_request_records_nothing() -> None:
    account = Account(ACCOUNT)
    with pytest.raises(Rejected, match="isn't open"):
        account.pay_in(3)
    assert (account.version, account.recorded) == (0, [])


def test_a_stream_is_named_by_the_category_and_the_id_of_its_aggregate() -> None:
    assert Stream.of(Account, ACCOUNT) == Stream("account", str(ACCOUNT))
    assert str(Stream.of(Account, ACCOUNT)) == f"account-{ACCOUNT}"
    assert issubclass(Account, Aggregate)
