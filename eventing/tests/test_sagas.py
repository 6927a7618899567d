from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, connection
from django.utils import timezone

from eventing import store
from eventing.advance import advance, read, remind_due, retry_due
from eventing.checkpoints import pause, repartition, resume
from eventing.domain import Command, CommandRejected, Rejected, TimedOut
from eventing.models import Checkpoint, Delivery, SagaInstance, SagaStep, StoredEvent, Timer
from eventing.sagas import SagaSubscription, instance, saga_failed
from eventing.subscriptions import Reminder, subscription_named
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.commands import CloseAccount, PayIn
from eventing.tests.bank.customers import closes_account, everything_is_relayed, opens_account, pays_in, stream_of
from eventing.tests.bank.events import AccountOpened, MoneyPaidIn
from eventing.tests.bank.sagas import BONUS, Welcome

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def welcome() -> SagaSubscription:
    found = subscription_named("eventing.Welcome")
    assert isinstance(found, SagaSubscription)
    return found


def reacted(saga: SagaSubscription) -> None:
    """Let the saga see everything that happens, also by its own commands."""
    happened = True
    while happened:
        happened = bool(everything_is_relayed())
        for partition in range(saga.partitions):
            while advance(saga, partition):
                happened = True


def reminded(saga: SagaSubscription) -> int:
    times = 0
    for partition in range(saga.partitions):
        while remind_due(saga, partition):
            times += 1
    return times


def time_passes() -> None:
    Timer.objects.update(due_at=timezone.now() - timedelta(minutes=1))


def memory(account: UUID) -> dict[str, Any]:
    found = instance(Welcome, account)
    assert found is not None
    return {**found.memory, "state": found.state}


def partition_of(saga: SagaSubscription, account: UUID) -> int:
    return Timer.objects.get(key=account).partition


def test_a_saga_answers_its_first_event_with_commands_and_remembers(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    assert store.load(Account, account).balance == BONUS
    assert memory(account)["paid_in"] == BONUS
    assert memory(account)["state"] == "WAITING"
    assert Timer.objects.get().about == "deadline"


def test_a_saga_that_ended_drops_its_reminders_and_still_answers(welcome: SagaSubscription) -> None:
    account = opens_account()
    pays_in(account, 10)
    reacted(welcome)
    assert memory(account)["state"] == "COMPLETED"
    assert not Timer.objects.exists()
    closes_account(account)
    reacted(welcome)
    assert memory(account)["state"] == "FAILED"


def test_events_of_sagas_that_never_began_are_ignored(welcome: SagaSubscription) -> None:
    account = opens_account()
    everything_is_relayed()
    Checkpoint.objects.filter(subscription=welcome.name).update(position=1)
    pays_in(account, 1)
    reacted(welcome)
    assert not SagaInstance.objects.exists()
    assert store.load(Account, account).balance == 1


def test_a_saga_that_comes_twice_in_a_batch_sees_its_events_in_order(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = [opens_account() for _ in range(5)]
    for amount in (1, 2, 3):
        for account in accounts:
            pays_in(account, amount)
    seen: list[tuple[UUID, int]] = []
    react = Welcome.react

    def noting(self: Welcome, event: Any) -> Iterator[Command]:
        if isinstance(event, MoneyPaidIn):
            seen.append((self.id, event.amount))
        return react(self, event)

    monkeypatch.setattr(Welcome, "react", noting)
    reacted(welcome)
    for account in accounts:
        assert [amount for key, amount in seen if key == account] == [1, 2, 3, BONUS]
        assert memory(account)["paid_in"] == 6 + BONUS
    assert not Delivery.objects.filter(subscription=welcome.name).exists()


def test_events_behind_a_parked_one_wait_once_though_other_sagas_come_twice(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = [opens_account() for _ in range(8)]
    stuck = set(accounts[:4])
    react = Welcome.react

    def failing(self: Welcome, event: Any) -> Iterator[Command]:
        if self.id in stuck:
            raise ValueError("Not now.")
        return react(self, event)

    monkeypatch.setattr(Welcome, "react", failing)
    reacted(welcome)
    Checkpoint.objects.update(careful_until=0)
    for amount in (1, 2, 3):
        for account in reversed(accounts):
            pays_in(account, amount)
    reacted(welcome)
    assert Delivery.objects.filter(subscription=welcome.name).count() == 4 * 4
    stuck.clear()
    for partition in range(welcome.partitions):
        while retry_due(welcome, partition):
            pass
    reacted(welcome)
    assert {memory(account)["paid_in"] for account in accounts} == {6 + BONUS}


@pytest.mark.parametrize("at", ["INSERT INTO eventing_saga", "INSERT INTO eventing_timer", "SET position = "])
def test_a_session_that_ends_on_the_way_leaves_neither_memory_nor_commands_nor_reminders(
    at: str, welcome: SagaSubscription, other_session: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opens_account()
    everything_is_relayed()
    execute = psycopg.Cursor.execute
    session = connection.connection.info.backend_pid

    def ending(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        if at in str(query):
            other_session.execute("SELECT pg_terminate_backend(%s, 5000)", [session])
        return execute(self, query, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Cursor, "execute", ending)
        with pytest.raises(OperationalError):
            reacted(welcome)
    assert store.load(Account, account).balance == 0
    assert not SagaInstance.objects.exists()
    assert not Timer.objects.exists()
    Checkpoint.objects.update(begun_at=None)
    reacted(welcome)
    assert store.load(Account, account).balance == BONUS
    assert (SagaInstance.objects.count(), Timer.objects.count()) == (1, 1)


def test_a_reminder_fires_when_its_time_has_come(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    assert reminded(welcome) == 0
    time_passes()
    assert reminded(welcome) == 1
    assert store.load(Account, account).closed
    assert not Timer.objects.exists()


def test_what_happened_in_time_comes_before_a_reminder(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    pays_in(account, 10)
    everything_is_relayed()
    time_passes()
    assert reminded(welcome) == 0
    reacted(welcome)
    assert reminded(welcome) == 0
    assert not store.load(Account, account).closed


def test_what_is_parked_comes_before_a_reminder_of_its_saga_alone(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = opens_account("Ada"), opens_account("Bob")
    reacted(welcome)
    react = Welcome.react

    def failing(self: Welcome, event: Any) -> Iterator[Command]:
        if isinstance(event, MoneyPaidIn):
            raise ValueError("Not now.")
        return react(self, event)

    with monkeypatch.context() as patched:
        patched.setattr(Welcome, "react", failing)
        pays_in(ada, 10)
        reacted(welcome)
    time_passes()
    assert reminded(welcome) == 1
    assert store.load(Account, bob).closed
    assert not store.load(Account, ada).closed


def test_a_reminder_that_fails_keeps_no_other_waiting(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = [opens_account() for _ in range(6)]
    reacted(welcome)
    time_passes()
    first = Timer.objects.order_by("partition", "due_at", "id")[0].key
    Timer.objects.filter(key=first).update(due_at=timezone.now() - timedelta(days=1))
    react = Welcome.react

    def failing(self: Welcome, event: Any) -> Iterator[Command]:
        if isinstance(event, TimedOut) and self.id == first:
            raise ValueError("Not now.")
        return react(self, event)

    with monkeypatch.context() as patched:
        patched.setattr(Welcome, "react", failing)
        assert reminded(welcome) == 6
    assert {account for account in accounts if not store.load(Account, account).closed} == {first}
    time_passes()
    assert reminded(welcome) == 1
    assert store.load(Account, first).closed


def test_a_later_reminder_about_the_same_replaces_the_earlier(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opens_account()
    reacted(welcome)
    before = Timer.objects.get().due_at

    def react(self: Welcome, event: Any) -> Iterator[Command]:
        self.remind_me(after=timedelta(days=9))
        self.remind_me(after=timedelta(days=2), about="something else")
        yield from ()

    monkeypatch.setattr(Welcome, "react", react)
    pays_in(account, 1)
    reacted(welcome)
    assert Timer.objects.get(about="deadline").due_at > before + timedelta(days=7)
    assert Timer.objects.count() == 2


def test_a_reminder_that_is_replaced_while_it_is_about_to_fire_doesnt(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    time_passes()
    due = welcome.due(partition_of(welcome, account))
    assert due is not None
    Timer.objects.update(due_at=timezone.now() + timedelta(days=1))
    welcome.remind(due, 0)
    assert Timer.objects.count() == 1
    assert not store.load(Account, account).closed


def test_a_saga_hears_that_its_command_was_rejected(welcome: SagaSubscription) -> None:
    account = opens_account()
    closes_account(account)
    reacted(welcome)
    assert memory(account)["refused"] == "This account isn't open."
    assert not Delivery.objects.filter(subscription=welcome.name).exists()


def test_a_rejected_command_takes_no_other_commands_with_it(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    def react(self: Welcome, event: Any) -> Iterator[Command]:
        if isinstance(event, AccountOpened):
            yield PayIn(account_id=self.id, amount=1)
            yield PayIn(account_id=UUID(int=0), amount=2)
            yield PayIn(account_id=self.id, amount=3)
            yield PayIn(account_id=UUID(int=0), amount=4)
        if isinstance(event, CommandRejected):
            self.refused += event.reason
            assert isinstance(event.command, PayIn)
            if event.command.amount == 4:
                yield CloseAccount(account_id=self.id)

    monkeypatch.setattr(Welcome, "react", react)
    account = opens_account()
    reacted(welcome)
    assert [record.event for record in store.read(stream_of(account), start=2)][:2] == [
        MoneyPaidIn(account_id=account, amount=1),
        MoneyPaidIn(account_id=account, amount=3),
    ]
    assert store.load(Account, account).closed
    assert memory(account)["refused"] == "This account isn't open." * 2


def test_a_rejection_that_a_saga_doesnt_want_to_hear_parks_the_event(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(welcome, "hears_rejections", False)
    refused, fine = opens_account(), opens_account()
    closes_account(refused)
    reacted(welcome)
    letter = Delivery.objects.filter(subscription=welcome.name).earliest("position")
    assert (letter.sequence, letter.error) == (str(refused), "Rejected: This account isn't open.")
    assert store.load(Account, fine).balance == BONUS
    assert instance(Welcome, refused) is None


def test_a_saga_whose_reaction_fails_leaves_nothing_of_its_commands(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    def react(self: Welcome, event: Any) -> Iterator[Command]:
        yield PayIn(account_id=self.id, amount=1)
        raise Rejected("By the saga itself.")

    monkeypatch.setattr(Welcome, "react", react)
    account = opens_account()
    reacted(welcome)
    assert store.load(Account, account).balance == 0
    assert Delivery.objects.get(subscription=welcome.name).error == "Rejected: By the saga itself."


def test_who_writes_to_a_stream_meanwhile_delays_a_saga_and_parks_nothing(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, times = opens_account(), 0
    pay_in = Account.pay_in

    def pay_in_while_others_do(self: Account, amount: int) -> None:
        nonlocal times
        times += 1
        pay_in(self, amount)
        if times in (1, 2):
            raise store.ConflictError(stream_of(account), 1, 2)

    monkeypatch.setattr(Account, "pay_in", pay_in_while_others_do)
    reacted(welcome)
    assert (times, store.load(Account, account).balance) == (3, BONUS)
    assert not Delivery.objects.filter(subscription=welcome.name).exists()


def test_reminders_come_to_the_partition_of_their_events_after_a_split(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = [opens_account() for _ in range(12)]
    reacted(welcome)
    pause(welcome)
    monkeypatch.setattr(welcome, "partitions", 5)
    repartition(welcome)
    resume(welcome)
    happened = {
        UUID(record.key): partition
        for partition in range(5)
        for record in read(welcome, partition, after=0, until=100, limit=100)
    }
    assert {timer.key: timer.partition for timer in Timer.objects.all()} == {key: happened[key] for key in accounts}
    time_passes()
    assert reminded(welcome) == len(accounts)


def history(account: UUID) -> list[SagaStep]:
    found = instance(Welcome, account)
    assert found is not None
    return list(found.history.order_by("number"))


def test_a_saga_keeps_what_came_in_what_went_out_and_what_it_was_then(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    begun, paid = history(account)
    event = StoredEvent.objects.get(type="bank.account_opened")
    assert (begun.number, begun.event_id, begun.type, begun.position) == (1, event.pk, event.type, 1)
    assert begun.commands == [
        {"name": "eventing.PayIn", "data": {"account_id": str(account), "amount": BONUS}, "refused": ""}
    ]
    assert (begun.state, begun.memory["paid_in"]) == ("WAITING", 0)
    assert (paid.number, paid.type, paid.commands, paid.memory["paid_in"]) == (2, "bank.money_paid_in", [], BONUS)
    saga = instance(Welcome, account)
    assert saga is not None
    assert saga.correlation_id == event.correlation_id
    assert (saga.steps, saga.ended_at, saga.failed) == (2, None, False)


def test_a_reminder_stands_in_the_history(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    time_passes()
    reminded(welcome)
    *_, reminder = history(account)
    assert (reminder.event_id, reminder.type, reminder.about) == (None, "", "deadline")
    assert [each["name"] for each in reminder.commands] == ["eventing.CloseAccount"]


def test_a_command_that_was_refused_stands_in_the_history_with_the_reason(welcome: SagaSubscription) -> None:
    account = opens_account()
    closes_account(account)
    reacted(welcome)
    refused = history(account)[0].commands
    assert [(each["name"], each["refused"]) for each in refused] == [("eventing.PayIn", "This account isn't open.")]


def test_the_answer_to_a_refusal_stands_behind_it(welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch) -> None:
    react = Welcome.react

    def answering(self: Welcome, event: Any) -> Iterator[Command]:
        if isinstance(event, CommandRejected):
            yield CloseAccount(account_id=self.id)
        else:
            yield from react(self, event)

    monkeypatch.setattr(Welcome, "react", answering)
    account = opens_account()
    closes_account(account)
    reacted(welcome)
    commands = history(account)[0].commands
    assert [(each["name"], bool(each["refused"])) for each in commands][:2] == [
        ("eventing.PayIn", True),
        ("eventing.CloseAccount", False),
    ]


def test_what_comes_late_for_a_saga_that_ended_is_kept_as_a_step_that_did_nothing(welcome: SagaSubscription) -> None:
    account = opens_account()
    pays_in(account, 10)
    reacted(welcome)
    ended = instance(Welcome, account)
    assert ended is not None
    assert ended.ended_at is not None
    pays_in(account, 1)
    reacted(welcome)
    *_, last = history(account)
    assert [step.late for step in history(account)] == [False, False, True, True]
    assert (last.type, last.commands, last.state) == ("bank.money_paid_in", [], "COMPLETED")
    later = instance(Welcome, account)
    assert later is not None
    assert later.ended_at == ended.ended_at


def test_a_deadline_stays_known_when_it_has_passed(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    due = Timer.objects.get().due_at
    saga = instance(Welcome, account)
    assert saga is not None
    assert saga.deadline_at is not None
    assert abs(saga.deadline_at - due) < timedelta(seconds=5)
    time_passes()
    reminded(welcome)
    assert not Timer.objects.exists()
    again = instance(Welcome, account)
    assert again is not None
    assert again.deadline_at == saga.deadline_at


def test_sagas_and_their_history_can_not_be_removed(welcome: SagaSubscription) -> None:
    opens_account()
    reacted(welcome)
    for act in (
        lambda: SagaInstance.objects.all().delete(),
        lambda: SagaStep.objects.all().delete(),
        lambda: SagaStep.objects.update(state="COMPLETED"),
    ):
        with pytest.raises(IntegrityError, match="never removed"):
            act()
    assert (SagaInstance.objects.count(), SagaStep.objects.count()) == (1, 2)


def test_a_saga_that_fails_tells_so_once_and_only_if_it_is_committed(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, UUID, str]] = []

    def hear(saga: str, key: UUID, reason: str, **_: Any) -> None:
        heard.append((saga, key, reason))

    saga_failed.connect(hear)
    account = opens_account()
    reacted(welcome)
    closes_account(account)
    everything_is_relayed()
    with monkeypatch.context() as broken:
        broken.setattr("eventing.advance.MOVE", "SELECT 1 / 0")
        with pytest.raises(Exception, match="division by zero"):
            reacted(welcome)
    assert heard == []
    Checkpoint.objects.update(begun_at=None)
    reacted(welcome)
    time_passes()
    reminded(welcome)
    saga_failed.disconnect(hear)
    assert heard == [("eventing.Welcome", account, "The account was closed.")]
    assert [each.message for each in caplog.records if each.levelname == "ERROR"] == [
        f"eventing.Welcome {account} has failed, and waits for a person: The account was closed."
    ]
    saga = instance(Welcome, account)
    assert saga is not None
    assert saga.failed


def test_no_reminder_can_be_taken_for_a_persons_wish() -> None:
    with pytest.raises(ValueError, match="can't be about 'resumed'"):
        Welcome(id=UUID(int=1)).remind_me(after=timedelta(days=1), about="resumed")


def test_a_reminder_that_fails_is_counted_and_comes_again_ever_more_seldom(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opens_account()
    reacted(welcome)
    react = Welcome.react

    def fails(self: Welcome, event: Any) -> Iterator[Command]:
        if isinstance(event, TimedOut):
            raise ValueError("I don't know what time it is.")
        return react(self, event)

    monkeypatch.setattr(Welcome, "react", fails)
    for attempt in range(1, 4):
        time_passes()
        assert reminded(welcome) == 1
        timer = Timer.objects.get()
        assert (timer.attempts, timer.error) == (attempt, "ValueError")
        assert timer.due_at - timezone.now() > timedelta(seconds=10 * 2 ** (attempt - 1) - 5)
    Timer.objects.update(attempts=40)
    time_passes()
    assert reminded(welcome) == 1
    assert Timer.objects.get().due_at - timezone.now() < timedelta(hours=1, seconds=1)

    monkeypatch.undo()
    time_passes()
    assert reminded(welcome) == 1
    assert not Timer.objects.exists()
    assert store.load(Account, account).closed


def test_a_reminder_that_news_overtake_comes_again_in_a_moment_and_is_not_counted(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opens_account()
    reacted(welcome)
    due = SagaSubscription.due

    def overtaken(self: SagaSubscription, partition: int) -> Reminder | None:
        if reminder := due(self, partition):
            pays_in(account, 0)
            everything_is_relayed()
        return reminder

    monkeypatch.setattr(SagaSubscription, "due", overtaken)
    time_passes()
    assert reminded(welcome) == 1
    timer = Timer.objects.get()
    assert (timer.attempts, timer.error) == (0, "")
    assert timer.due_at - timezone.now() < timedelta(seconds=2)
    assert not store.load(Account, account).closed

    monkeypatch.undo()
    reacted(welcome)
    time_passes()
    assert reminded(welcome) == 1
    assert store.load(Account, account).closed


def test_a_reminder_that_kills_its_worker_is_counted_too(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens_account()
    reacted(welcome)

    def dies(self: Welcome, event: Any) -> Iterator[Command]:
        raise SystemExit

    monkeypatch.setattr(Welcome, "react", dies)
    time_passes()
    with pytest.raises(SystemExit):
        reminded(welcome)
    assert Timer.objects.get().attempts == 1


def test_a_reminder_that_somebody_overtakes_is_tried_again_at_once(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens_account()
    reacted(welcome)
    remind, conflicts = SagaSubscription.remind, iter([True, True, False])

    def overtaken(self: SagaSubscription, reminder: Reminder, partition: int) -> None:
        remind(self, reminder, partition)
        if next(conflicts):
            raise store.ConflictError(stream_of(uuid4()), 1, 2)

    monkeypatch.setattr(SagaSubscription, "remind", overtaken)
    time_passes()
    assert reminded(welcome) == 1
    assert not Timer.objects.exists()
