from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction

from eventing import store
from eventing.domain import Event, Rejected
from eventing.handlers import UnknownCommand, dispatch, dispatch_all
from eventing.models import OutboxEntry, StoredEvent
from eventing.store import Append, ConflictError
from eventing.tests.bank import handlers
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.commands import CloseAccount, OpenAccount, PayIn, Transfer
from eventing.tests.bank.customers import everything_is_relayed, opens_account, pays_in, stream_of
from eventing.tests.bank.events import AccountOpened, MoneyPaidIn

pytestmark = pytest.mark.django_db


def payments(account: UUID, *amounts: int) -> Sequence[Event]:
    return [MoneyPaidIn(account_id=account, amount=amount) for amount in amounts]


def amounts(account: UUID) -> list[int]:
    return [each.event.amount for each in store.read(stream_of(account)) if isinstance(each.event, MoneyPaidIn)]


def test_events_are_read_in_the_order_in_which_they_were_appended() -> None:
    account = uuid4()
    before = datetime.now(UTC)
    store.append(stream_of(account), payments(account, 1, 2), expected=0)
    store.append(stream_of(account), payments(account, 3), expected=2)
    records = list(store.read(stream_of(account)))
    assert [(each.version, each.event) for each in records] == list(enumerate(payments(account, 1, 2, 3), 1))
    assert all(before <= each.occurred_at for each in records)
    assert [each.position for each in records] == [0, 0, 0]
    assert [each.id.version for each in records] == [7, 7, 7]


def test_a_record_has_its_position_once_it_was_relayed() -> None:
    account = opens_account()
    everything_is_relayed()
    (opened,) = store.read(stream_of(account))
    assert opened.position > 0


def test_a_stream_is_read_from_a_version_forwards_and_backwards_and_in_chunks() -> None:
    account = uuid4()
    stream = stream_of(account)
    store.append(stream, payments(account, *range(1, 8)), expected=0)
    assert [each.version for each in store.read(stream, start=3)] == [3, 4, 5, 6, 7]
    assert [each.version for each in store.read(stream, backwards=True)] == [7, 6, 5, 4, 3, 2, 1]
    assert [each.version for each in store.read(stream, start=3, backwards=True)] == [3, 2, 1]
    for chunk in (1, 2, 3, 7, 8):
        assert [each.version for each in store.read(stream, chunk=chunk)] == [1, 2, 3, 4, 5, 6, 7]
        assert [each.version for each in store.read(stream, chunk=chunk, backwards=True)] == [7, 6, 5, 4, 3, 2, 1]
    assert list(store.read(stream, start=8)) == []


def test_a_stream_is_read_a_chunk_at_a_time(statements: list[str]) -> None:
    account = uuid4()
    store.append(stream_of(account), payments(account, *range(10)), expected=0)
    statements.clear()
    reading = store.read(stream_of(account), chunk=5)
    assert next(reading).version == 1
    assert len(statements) == 1


@pytest.mark.parametrize("expected", [0, 1, 3, 100])
def test_appending_to_a_stream_at_another_version_says_which_was_expected_and_which_it_is_at(expected: int) -> None:
    account = uuid4()
    store.append(stream_of(account), payments(account, 1, 2), expected=0)
    with pytest.raises(ConflictError, match=f"expected version {expected}, but it is at 2") as caught:
        store.append(stream_of(account), payments(account, 3), expected=expected)
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == (stream_of(account), expected, 2)
    assert amounts(account) == [1, 2]
    assert OutboxEntry.objects.count() == 2


def test_a_conflict_leaves_the_transaction_usable() -> None:
    account = opens_account()
    with transaction.atomic():
        with pytest.raises(ConflictError):
            store.append(stream_of(account), payments(account, 1), expected=0)
        store.append(stream_of(account), payments(account, 2), expected=1)
    assert amounts(account) == [2]


def test_several_streams_are_appended_to_together_or_not_at_all() -> None:
    ada, bob = uuid4(), opens_account("Bob")
    store.append_all([Append(stream_of(ada), 0, payments(ada, 1)), Append(stream_of(bob), 1, payments(bob, 2, 3))])
    assert (amounts(ada), amounts(bob)) == ([1], [2, 3])
    with pytest.raises(ConflictError) as caught:
        store.append_all([Append(stream_of(ada), 1, payments(ada, 4)), Append(stream_of(bob), 1, payments(bob, 5))])
    assert (caught.value.stream, caught.value.actual) == (stream_of(bob), 3)
    assert (amounts(ada), amounts(bob)) == ([1], [2, 3])


def test_two_appends_to_one_stream_have_to_follow_each_other() -> None:
    ada = uuid4()
    store.append_all([Append(stream_of(ada), 0, payments(ada, 1, 2)), Append(stream_of(ada), 2, payments(ada, 3))])
    assert amounts(ada) == [1, 2, 3]
    with pytest.raises(ValueError, match="have a gap: 4 is followed by 5"):
        store.append_all([Append(stream_of(ada), 3, payments(ada, 4)), Append(stream_of(ada), 5, payments(ada, 5))])


def test_any_number_of_events_with_their_outbox_rows_is_one_statement(statements: list[str]) -> None:
    ada, bob = uuid4(), uuid4()
    connection.ensure_connection()
    with transaction.atomic():
        statements.clear()
        store.append_all(
            [Append(stream_of(ada), 0, payments(ada, *range(50))), Append(stream_of(bob), 0, payments(bob, *range(50)))]
        )
        sent = [each for each in statements if "SAVEPOINT" not in each]
    assert len(sent) == 1
    assert OutboxEntry.objects.count() == 100


def test_the_outbox_keeps_the_order_of_recording() -> None:
    ids = [uuid4() for _ in range(20)]
    dispatch_all([OpenAccount(account_id=each, owner="Ada") for each in ids])
    queued = OutboxEntry.objects.order_by("id").values_list("event_id", flat=True)
    streams = {event.pk: event.stream_id for event in StoredEvent.objects.all()}
    assert [streams[event] for event in queued] == [str(each) for each in ids]


def test_the_version_of_a_stream_is_the_number_of_its_events() -> None:
    account = opens_account()
    pays_in(account, 1, 2)
    assert store.version(stream_of(account)) == 3
    assert store.version(stream_of(uuid4())) == 0


@pytest.mark.parametrize("table", ["eventing_event", "eventing_log"])
@pytest.mark.parametrize("change", ["UPDATE {} SET type = 'x'", "DELETE FROM {}", "TRUNCATE {}", "TRUNCATE {} CASCADE"])
def test_what_was_recorded_cant_be_changed_or_removed(table: str, change: str) -> None:
    account = opens_account()
    everything_is_relayed()
    with pytest.raises(IntegrityError, match=f"{table} is append-only") as caught, transaction.atomic():
        connection.cursor().execute(change.format(table))
    assert isinstance(caught.value.__cause__, psycopg.errors.RestrictViolation)
    assert store.version(stream_of(account)) == 1


def test_a_command_leads_to_events() -> None:
    account = uuid4()
    (recorded,) = dispatch(OpenAccount(account_id=account, owner="Ada"))
    assert (recorded.stream, recorded.version, recorded.event) == (
        stream_of(account),
        1,
        AccountOpened(account_id=account, owner="Ada"),
    )
    assert store.load(Account, account).owner == "Ada"


def test_a_command_that_nobody_handles_is_an_error_that_says_what_to_do() -> None:
    from eventing.domain import Command

    with pytest.raises(UnknownCommand, match="write a function with @handles"):
        dispatch(Command())


def test_a_command_that_conflicts_is_carried_out_on_fresh_state(monkeypatch: pytest.MonkeyPatch) -> None:
    account = opens_account()
    seen: list[int] = []
    pay_in = Account.pay_in

    def pay_in_while_others_do(self: Account, amount: int) -> None:
        seen.append(self.balance)
        if len(seen) < 4:
            store.append(stream_of(account), payments(account, 10), expected=self.version)
        pay_in(self, amount)

    monkeypatch.setattr(Account, "pay_in", pay_in_while_others_do)
    pays_in(account, 1)
    assert seen == [0, 10, 20, 30]
    assert amounts(account) == [10, 10, 10, 1]


def test_a_command_that_conflicts_each_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    account = opens_account()

    def lose(self: Account, amount: int) -> None:
        store.append(stream_of(account), payments(account, 10), expected=self.version)
        self.record(MoneyPaidIn(account_id=account, amount=amount))

    monkeypatch.setattr(Account, "pay_in", lose)
    with pytest.raises(ConflictError):
        pays_in(account, 1)
    assert amounts(account) == [10] * 8


def test_a_rejected_command_leaves_nothing() -> None:
    ada, nobody = opens_account(), uuid4()
    with pytest.raises(Rejected):
        dispatch(Transfer(accounts=(ada, nobody), amount=5))
    assert (amounts(ada), amounts(nobody)) == ([], [])
    with pytest.raises(Rejected):
        dispatch_all([PayIn(account_id=ada, amount=1), PayIn(account_id=nobody, amount=1)])
    assert (amounts(ada), OutboxEntry.objects.count()) == ([], 1)


def test_two_edits_of_one_stream_are_one_append() -> None:
    account = opens_account()
    with store.unit_of_work():
        with store.edit(Account, account) as first:
            first.pay_in(1)
        with store.edit(Account, account) as second:
            assert second.balance == 1
            second.pay_in(2)
        assert amounts(account) == []
    assert amounts(account) == [1, 2]


def test_an_edit_inside_of_another_is_appended_with_it() -> None:
    ada, bob = opens_account("Ada"), opens_account("Bob")
    with store.edit(Account, ada) as outer:
        outer.pay_in(1)
        with store.edit(Account, bob) as inner:
            inner.pay_in(2)
        with store.edit(Account, ada) as again:
            again.pay_in(3)
        assert (amounts(ada), amounts(bob)) == ([], [])
    assert (amounts(ada), amounts(bob)) == ([1, 3], [2])


def test_a_part_that_is_rejected_leaves_the_rest() -> None:
    ada, bob, nobody = opens_account("Ada"), opens_account("Bob"), uuid4()
    with store.unit_of_work() as work:
        handlers.pay_in(PayIn(account_id=ada, amount=1))
        with suppress(Rejected), work.attempt():
            handlers.pay_in(PayIn(account_id=bob, amount=2))
            handlers.pay_in(PayIn(account_id=nobody, amount=3))
        handlers.pay_in(PayIn(account_id=ada, amount=4))
    assert (amounts(ada), amounts(bob)) == ([1, 4], [])


def test_a_rejected_part_at_the_end_leaves_the_rest() -> None:
    ada, nobody = opens_account("Ada"), uuid4()
    with store.unit_of_work() as work:
        handlers.pay_in(PayIn(account_id=ada, amount=1))
        with pytest.raises(Rejected), work.attempt():
            handlers.pay_in(PayIn(account_id=nobody, amount=3))
    assert amounts(ada) == [1]


def test_what_an_edit_recorded_before_it_was_rejected_is_forgotten() -> None:
    account = opens_account()
    with store.unit_of_work():
        with suppress(Rejected), store.edit(Account, account) as refused:
            refused.pay_in(1)
            raise Rejected("Not today.")
        with store.edit(Account, account) as accepted:
            accepted.pay_in(2)
    assert amounts(account) == [2]


def test_a_handler_that_dispatches_is_told_that_it_cant() -> None:
    account = opens_account()
    with pytest.raises(RuntimeError, match="can't dispatch"), store.edit(Account, account):
        pays_in(account, 1)


def test_a_stream_can_be_closed_and_tells_so() -> None:
    account = opens_account()
    dispatch(CloseAccount(account_id=account))
    assert store.load(Account, account).closed
