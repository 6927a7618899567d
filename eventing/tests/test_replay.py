from __future__ import annotations

import json
import random
import signal
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from eventing import checkpoints, checks, deliveries, replay
from eventing.advance import advance
from eventing.comparison import Comparison
from eventing.handlers import dispatch
from eventing.models import Checkpoint, Delivery, Replay, SagaInstance, StoredEvent
from eventing.projections import ProjectionSubscription
from eventing.replay import (
    Busy,
    Failed,
    NoReplay,
    NotReplayable,
    cancel,
    comparison_of,
    pause,
    projection_named,
    rebuild,
    resume,
    roll_back,
    run,
    start,
)
from eventing.shadows import NotShadowable, exists, previous_of, shadow_of
from eventing.statements import run as execute
from eventing.subscriptions import UnknownSubscription
from eventing.testing import settle
from eventing.tests.bank import projections
from eventing.tests.bank.commands import PayIn
from eventing.tests.bank.customers import closes_account, everything_is_relayed, opens_account, pays_in
from eventing.tests.bank.models import Balance, Entry
from eventing.tests.bank.projections import POISON
from eventing.tests.conftest import Program
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def accounts() -> list[UUID]:
    """Five accounts with three payments each, and a bonus of five, all of it projected."""
    opened = [opens_account(str(number)) for number in range(5)]
    for account in opened:
        pays_in(account, 1, 2, 3)
    settle()
    return opened


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "BATCH", 3)


@pytest.fixture
def dead_are_missed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "LEASE", timedelta(seconds=0.5))


def amounts() -> list[int]:
    return list(Balance.objects.order_by("owner").values_list("amount", flat=True))


def compared(projection: ProjectionSubscription) -> Comparison:
    comparison = comparison_of(rebuild(projection))
    assert comparison is not None
    return comparison


def checkpoint(projection: ProjectionSubscription) -> Checkpoint:
    return Checkpoint.objects.get(subscription=projection.name)


def said(*arguments: str, errors: StringIO | None = None) -> str:
    output = StringIO()
    call_command("replay_projection", *arguments, stdout=output, stderr=errors or StringIO())
    return output.getvalue()


def told(*arguments: str) -> Any:
    return json.loads(said(*arguments, "--json"))


def test_a_read_model_is_built_anew_and_takes_the_place_of_the_live_one(
    balances: ProjectionSubscription, accounts: list[UUID]
) -> None:
    Balance.objects.filter(account_id=accounts[2]).update(amount=999)
    rebuild(balances)
    assert amounts() == [11] * 5
    assert checkpoint(balances).position == checkpoints.head()
    assert checkpoint(balances).state == "running"
    pays_in(accounts[0], 4)
    settle()
    assert amounts() == [15, 11, 11, 11, 11]


def test_what_differs_is_shown_by_key_and_column(balances: ProjectionSubscription, accounts: list[UUID]) -> None:
    Balance.objects.filter(account_id=accounts[2]).update(amount=999)
    Balance.objects.filter(account_id=accounts[3]).delete()
    Balance.objects.create(account_id=uuid4(), owner="Nobody")
    comparison = compared(balances)
    assert comparison.different == 3
    found = {each.key: (each.live, each.rebuilt) for each in comparison.differences}
    assert found[str(accounts[2])] == ({"amount": 999}, {"amount": 11})
    live, rebuilt = found[str(accounts[3])]
    assert live is None
    assert rebuilt is not None
    assert (rebuilt["owner"], rebuilt["amount"]) == ("3", 11)
    assert [live["owner"] for live, rebuilt in found.values() if live and rebuilt is None] == ["Nobody"]


def test_of_very_many_differences_the_first_twenty_are_shown(balances: ProjectionSubscription) -> None:
    for number in range(25):
        opens_account(str(number))
    settle()
    Balance.objects.update(amount=1)
    comparison = compared(balances)
    assert (comparison.different, len(comparison.differences)) == (25, 20)


def test_rows_that_their_table_numbers_are_compared_by_contents(accounts: list[UUID]) -> None:
    entries = projection_named("eventing.Entries")
    Entry.objects.filter(amount=2).first().delete()  # type: ignore[union-attr]
    Entry.objects.create(account_id=accounts[0], amount=77)
    comparison = compared(entries)
    assert comparison.different == 2
    assert {(each.live or each.rebuilt or {})["amount"] for each in comparison.differences} == {2, 77}
    assert compared(entries).same


def test_while_it_is_built_the_live_one_is_read_and_updated(
    balances: ProjectionSubscription, accounts: list[UUID]
) -> None:
    replaying = run(start(balances))
    for _ in range(20):
        next(replaying)
        pays_in(accounts[0], 1)
        everything_is_relayed()
        advance(balances, 0)
        assert Balance.objects.get(account_id=accounts[0]).amount == checkpoint_amount(accounts[0])
    for _ in replaying:
        pass
    settle()
    assert Balance.objects.get(account_id=accounts[0]).amount == 31
    assert amounts()[1:] == [11] * 4


def checkpoint_amount(account: UUID) -> int:
    return sum(StoredEvent.objects.filter(stream_id=str(account)).values_list("data__amount", flat=True)[1:])


def test_at_whatever_step_it_is_given_up_it_goes_on_from_there(
    balances: ProjectionSubscription, accounts: list[UUID]
) -> None:
    Balance.objects.update(amount=0)
    steps = 0
    while Replay.objects.filter(state="done").count() == 0:
        replaying = run(start(balances))
        before = shadow_of(balances).positions()[0]
        if next(replaying, None) is not None and steps < 30:
            replaying.close()
            assert amounts() == [0] * 5
            assert shadow_of(balances).positions()[0] >= before
        else:
            for _ in replaying:
                pass
        steps += 1
    assert amounts() == [11] * 5
    assert Replay.objects.count() == 1
    assert steps > 5


def test_killed_at_any_moment_it_leaves_the_live_one_alone_and_goes_on(
    balances: ProjectionSubscription, accounts: list[UUID], program: Program
) -> None:
    Balance.objects.update(amount=0)
    reached = 0
    for _ in range(3):
        replaying = program("eventing.tests.bank", "replay_slowly", balances.name)
        assert eventually(lambda: exists(shadow_of(balances)) and shadow_of(balances).positions()[0] > reached)  # noqa: B023
        eventually(lambda: False, seconds=random.random() * 0.4)  # noqa: S311 - any moment will do
        replaying.kill()
        replaying.wait()
        reached = shadow_of(balances).positions()[0]
        assert amounts() == [0] * 5
        assert checkpoint(balances).position == checkpoints.head()
    said(balances.name)
    assert amounts() == [11] * 5
    assert not exists(shadow_of(balances))


def test_it_can_be_paused_resumed_and_cancelled_from_elsewhere(
    balances: ProjectionSubscription, accounts: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PATIENCE", 0.001)
    Balance.objects.update(amount=0)
    replaying = run(start(balances))
    next(replaying)
    pause(balances)
    reached = {next(replaying).position for _ in range(3)}
    assert {next(replaying).position for _ in range(5)} <= reached
    assert Replay.objects.get().state == "paused"
    resume(balances)
    assert next(replaying).state == "building"
    cancel(balances)
    list(replaying)
    assert Replay.objects.get().state == "cancelled"
    assert not exists(shadow_of(balances))
    assert amounts() == [0] * 5


def test_what_is_paused_or_cancelled_has_to_be_there(balances: ProjectionSubscription) -> None:
    for act in (pause, resume, cancel, roll_back):
        with pytest.raises(NoReplay, match=r"eventing\.Balances"):
            act(balances)


def test_the_old_read_model_can_be_put_back_and_is_brought_up_to_date(
    balances: ProjectionSubscription, accounts: list[UUID]
) -> None:
    Balance.objects.filter(account_id=accounts[2]).update(amount=999)
    rebuild(balances)
    pays_in(accounts[2], 1)
    settle()
    assert amounts() == [11, 11, 12, 11, 11]
    roll_back(balances)
    assert amounts() == [11, 11, 1000, 11, 11]
    pays_in(accounts[2], 1)
    settle()
    assert amounts() == [11, 11, 1001, 11, 11]
    with pytest.raises(NoReplay, match="Nothing is kept"):
        roll_back(balances)
    rebuild(balances)
    assert amounts() == [11, 11, 13, 11, 11]


def test_a_table_from_before_a_migration_cant_be_put_back(
    balances: ProjectionSubscription, accounts: list[UUID]
) -> None:
    rebuild(balances)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE previous_bank_balance.bank_balance DROP COLUMN owner")
    with pytest.raises(NoReplay, match="its table or its split has changed"):
        roll_back(balances)
    assert amounts() == [11] * 5


def test_letters_go_and_come_with_their_read_model(balances: ProjectionSubscription) -> None:
    account = opens_account()
    pays_in(account, POISON, 1)
    settle()
    dead = deliveries.failed().get()
    assert (dead.state, deliveries.waiting_behind(dead)) == ("dead", 2)
    projections.poisoned = False
    rebuild(balances)
    assert not Delivery.objects.filter(subscription=balances.name).exists()
    assert Balance.objects.get().amount == POISON + 1 + 5
    roll_back(balances)
    dead = deliveries.failed().get()
    assert (dead.state, deliveries.waiting_behind(dead)) == ("dead", 2)
    assert Balance.objects.get().amount == 0
    deliveries.retry(deliveries.failed())
    settle()
    assert Balance.objects.get().amount == POISON + 1 + 5


def test_when_events_fail_the_live_one_stays_and_says_which(balances: ProjectionSubscription) -> None:
    projections.poisoned = False
    account = opens_account()
    pays_in(account, POISON, 1)
    settle()
    projections.poisoned = True
    with pytest.raises(Failed, match=r"3 events couldn't be projected.*position 2, of .*can't digest"):
        rebuild(balances)
    assert Replay.objects.get().state == "failed"
    assert Balance.objects.get().amount == POISON + 1 + 5
    assert not Delivery.objects.filter(subscription=balances.name).exists()
    assert not exists(shadow_of(balances))
    rebuild(balances, with_failures=True)
    assert deliveries.failed().get().position == 2
    assert deliveries.waiting_behind(deliveries.failed().get()) == 2


@pytest.mark.parametrize("in_place", [False, True])
def test_what_was_skipped_stays_skipped_for_the_same_reason(in_place: bool, balances: ProjectionSubscription) -> None:
    account = opens_account()
    pays_in(account, POISON, 1)
    settle()
    deliveries.skip(deliveries.failed(), reason="A test payment.")
    settle()
    assert Balance.objects.get().amount == 6
    rebuild(balances, in_place=in_place)
    assert Balance.objects.get().amount == 6
    assert Delivery.objects.get(state="skipped").reason == "A test payment."
    assert not deliveries.failed().exists()


def test_it_can_stop_at_a_position_and_a_paused_read_model_stays_there(
    balances: ProjectionSubscription, accounts: list[UUID]
) -> None:
    checkpoints.pause(balances)
    rebuild(balances, until=9)
    settle()
    assert checkpoint(balances).position == 9
    assert Balance.objects.count() < 5 or sum(amounts()) < 55
    assert checkpoint(balances).state == "paused"
    checkpoints.resume(balances)
    settle()
    assert amounts() == [11] * 5


@pytest.mark.parametrize("in_place", [False, True])
def test_a_subscription_that_was_paused_is_paused_afterwards(
    in_place: bool, balances: ProjectionSubscription, accounts: list[UUID]
) -> None:
    checkpoints.pause(balances)
    pays_in(accounts[0], 1)
    everything_is_relayed()
    rebuild(balances, in_place=in_place)
    assert checkpoint(balances).state == "paused"
    assert amounts() == [12, 11, 11, 11, 11]


def test_readers_in_the_way_are_waited_for_and_nobody_waits_behind_them(
    balances: ProjectionSubscription,
    accounts: list[UUID],
    other_session: psycopg.Connection[Any],
) -> None:
    replaying = run(start(balances))
    with other_session.transaction():
        other_session.execute("SELECT * FROM bank_balance")
        begun = Replay.objects.get()
        while begun.position < begun.target or not begun.target:
            begun = next(replaying)
        assert next(replaying).state == "building"
        pays_in(accounts[0], 1)
        everything_is_relayed()
        assert advance(balances, 0)
        assert amounts()[0] == 12
    list(replaying)
    assert Replay.objects.get().state == "done"
    assert amounts()[0] == 12


def test_only_one_process_is_at_it(
    balances: ProjectionSubscription, accounts: list[UUID], dead_are_missed_at_once: None
) -> None:
    replaying = run(start(balances))
    next(replaying)
    with pytest.raises(Busy, match="with other options"):
        start(balances, verify_only=True)
    with pytest.raises(Busy, match="beside the live one is open"):
        start(balances, in_place=True)
    another = run(start(balances))
    list(another)  # takes over, because nothing was heard of the first one
    with pytest.raises(Busy, match="has taken up the replay"):
        list(replaying)
    assert amounts() == [11] * 5


def test_a_replay_that_was_begun_by_other_code_begins_again(
    balances: ProjectionSubscription, accounts: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    replaying = run(start(balances))
    next(replaying)
    replaying.close()
    monkeypatch.setattr(balances, "version", 2)
    again = start(balances)
    assert shadow_of(balances).positions() == {0: 0}
    list(run(again))
    assert [each.state for each in Replay.objects.order_by("pk")] == ["cancelled", "done"]
    assert checkpoint(balances).version == 2


def test_a_replay_whose_table_was_migrated_meanwhile_begins_again(
    balances: ProjectionSubscription, accounts: list[UUID]
) -> None:
    replaying = run(start(balances))
    next(replaying)
    replaying.close()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE replay_bank_balance.bank_balance DROP COLUMN owner")
    rebuild(balances)
    assert amounts() == [11] * 5


def test_a_projection_of_another_version_needs_a_replay(
    balances: ProjectionSubscription, accounts: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replay.needing_replay() == []
    monkeypatch.setattr(balances, "version", 2)
    assert replay.needing_replay() == ["eventing.Balances"]
    (warning,) = checks.database(databases=["default"])
    assert (warning.id, "eventing.Balances" in warning.msg) == ("eventing.W004", True)
    assert "manage.py replay_projection eventing.Balances" in str(warning.hint)
    rebuild(balances)
    assert replay.needing_replay() == []
    roll_back(balances)
    assert replay.needing_replay() == ["eventing.Balances"]
    rebuild(balances, in_place=True)
    assert replay.needing_replay() == []


def test_a_replay_splits_a_read_model_as_it_is_declared(
    balances: ProjectionSubscription, accounts: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balances, "partitions", 3)
    rebuild(balances)
    assert Checkpoint.objects.filter(subscription=balances.name).count() == 3
    pays_in(accounts[0], 1)
    settle()
    assert amounts() == [12, 11, 11, 11, 11]
    with pytest.raises(NoReplay, match="its table or its split has changed"):
        roll_back(balances)


def test_sagas_and_effects_arent_reached_by_a_replay(balances: ProjectionSubscription, accounts: list[UUID]) -> None:
    closes_account(accounts[0])
    settle()
    events, jobs = StoredEvent.objects.count(), Delivery.objects.count()
    sagas = list(SagaInstance.objects.values_list("key", "updated_at"))
    others = {each.subscription: each.position for each in Checkpoint.objects.all()}
    rebuild(balances)
    rebuild(balances, in_place=True)
    settle()
    assert StoredEvent.objects.count() == events
    assert Delivery.objects.count() == jobs
    assert list(SagaInstance.objects.values_list("key", "updated_at")) == sagas
    assert {each.subscription: each.position for each in Checkpoint.objects.all()} == others


@pytest.mark.parametrize("in_place", [False, True])
def test_a_projection_that_acts_on_the_world_is_refused(
    in_place: bool, balances: ProjectionSubscription, accounts: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    def apply(self: object, row: Balance, event: object, record: object) -> None:
        dispatch(PayIn(account_id=row.account_id, amount=1))

    monkeypatch.setattr(projections.Balances, "apply", apply)
    events = StoredEvent.objects.count()
    if in_place:
        rebuild(balances, in_place=True)
        assert "may only write its read model, and tried to dispatch a command" in deliveries.failed()[0].error
    else:
        with pytest.raises(Failed, match="may only write its read model, and tried to dispatch a command"):
            rebuild(balances)
    assert StoredEvent.objects.count() == events


@pytest.mark.parametrize("name", ["eventing.Welcome", "eventing.farewell"])
def test_what_acts_on_the_world_cant_be_replayed(name: str) -> None:
    with pytest.raises(NotReplayable, match="it would do again what it did"):
        projection_named(name)
    with pytest.raises(UnknownSubscription):
        projection_named("eventing.Nothing")


MADE_OF = """
SELECT 'index', indexdef FROM pg_indexes WHERE tablename = %(table)s AND schemaname = 'public'
UNION ALL SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = to_regclass(%(table)s)
UNION ALL SELECT attname, concat(format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated)
    || coalesce(pg_get_expr(adbin, adrelid), '')
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = to_regclass(%(table)s) AND attnum > 0
UNION ALL SELECT 'options', reloptions::text FROM pg_class WHERE oid = to_regclass(%(table)s)
UNION ALL SELECT 'privileges', privilege_type || grantee::regrole FROM pg_class, aclexplode(relacl)
    WHERE pg_class.oid = to_regclass(%(table)s)
ORDER BY 1, 2
"""


@pytest.mark.parametrize("projection", replay.projections(), ids=lambda each: each.name)
def test_the_new_table_is_made_exactly_like_the_old_one(projection: ProjectionSubscription) -> None:
    table = projection.projection.model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"GRANT SELECT ON {table} TO pg_monitor")
        cursor.execute(f"ALTER TABLE {table} SET (fillfactor = 90)")
    before = execute(MADE_OF, {"table": table})
    rebuild(projection)
    assert execute(MADE_OF, {"table": table}) == before
    with connection.cursor() as cursor:
        cursor.execute(f"REVOKE SELECT ON {table} FROM pg_monitor")
        cursor.execute(f"ALTER TABLE {table} RESET (fillfactor)")
        cursor.execute(f"DROP SCHEMA previous_{table} CASCADE")


def test_a_table_that_something_else_hangs_on_is_only_rebuilt_in_place(
    balances: ProjectionSubscription, accounts: list[UUID]
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE VIEW bank_rich AS SELECT * FROM bank_balance WHERE amount > 10")
        try:
            with pytest.raises(NotShadowable, match=r"the view bank_rich after the exchange.*--in-place"):
                rebuild(balances)
            rebuild(balances, in_place=True)
            assert amounts() == [11] * 5
        finally:
            cursor.execute("DROP VIEW bank_rich")
    assert not exists(shadow_of(balances))


def test_in_place_it_goes_on_where_it_stopped_and_nobody_else_moves_it(
    balances: ProjectionSubscription, accounts: list[UUID]
) -> None:
    rebuild(balances)
    replaying = run(start(balances, in_place=True))
    done = [next(replaying).position, next(replaying).position]
    replaying.close()
    assert not exists(previous_of(balances))
    assert checkpoint(balances).state == "replaying"
    assert checkpoint(balances).position == done[-1]
    assert not advance(balances, 0)
    assert amounts() != [11] * 5
    with pytest.raises(NoReplay, match="in place: its old rows are gone"):
        cancel(balances)
    rebuild(balances, in_place=True)
    assert amounts() == [11] * 5
    assert checkpoint(balances).state == "running"


def test_the_command_tells_what_it_did(balances: ProjectionSubscription, accounts: list[UUID]) -> None:
    errors = StringIO()
    output = said("eventing.Balances", "eventing.Entries", errors=errors)
    assert "eventing.Balances: done, " in output
    assert "Compared: 5 rows, all the same; checksum " in output
    assert "eventing.Entries: done, " in output
    assert errors.getvalue() == ""
    assert said("--status").count(": done, ") == 2


def test_the_command_prints_one_json_document(balances: ProjectionSubscription, accounts: list[UUID]) -> None:
    Balance.objects.filter(account_id=accounts[2]).update(amount=999)
    (done,) = told("eventing.Balances")
    assert (done["projection"], done["state"], done["in_place"]) == ("eventing.Balances", "done", False)
    assert done["position"] == done["target"] == checkpoints.head()
    assert done["comparison"]["differences"][0]["live"] == {"amount": 999}
    assert told("--status") == [done]
    assert told("eventing.Balances", "--rollback")[0]["state"] == "rolled back"
    assert amounts()[2] == 999


def test_the_command_verifies_and_changes_nothing(balances: ProjectionSubscription, accounts: list[UUID]) -> None:
    assert "verified, " in said("eventing.Balances", "--verify-only")
    Balance.objects.filter(account_id=accounts[2]).update(amount=999)
    errors = StringIO()
    output = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("replay_projection", "eventing.Balances", "--verify-only", stdout=output, stderr=errors)
    assert ended.value.code == 4
    assert "1 row differs" in output.getvalue()
    assert "amount: 999" in output.getvalue()
    assert amounts()[2] == 999
    assert not exists(shadow_of(balances))
    assert not exists(previous_of(balances))


def test_the_command_says_what_it_would_do(balances: ProjectionSubscription, accounts: list[UUID]) -> None:
    assert f"would be rebuilt from {checkpoints.head()} positions" in said("eventing.Balances", "--dry-run")
    assert told("--all", "--dry-run")[0]["positions"] == checkpoints.head()
    assert not Replay.objects.exists()


def test_the_command_reports_failure_in_a_sentence(balances: ProjectionSubscription) -> None:
    projections.poisoned = False
    pays_in(opens_account(), POISON)
    settle()
    projections.poisoned = True
    with pytest.raises(CommandError, match="The live read model is as it was") as caught:
        said("eventing.Balances")
    assert caught.value.returncode == 1
    assert "failed, " in said("--status")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Name projections, or say --all"),
        (["eventing.Balances", "--all"], "Name projections, or say --all"),
        (["eventing.Nothing"], "There's no subscription named 'eventing.Nothing'"),
        (["eventing.Welcome"], "is a saga, which can't be replayed"),
        (["eventing.farewell"], "is an effect, which can't be replayed"),
        (["eventing.Balances", "--verify-only", "--in-place"], "--verify-only compares"),
        (["eventing.Balances", "--verify-only", "--until", "1"], "--verify-only compares"),
        (["eventing.Balances", "--until", "0"], "a position from 1 to the head"),
        (["eventing.Balances", "--until", "99999"], "a position from 1 to the head, 25"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(arguments: list[str], complaint: str, accounts: list[UUID]) -> None:
    with pytest.raises(CommandError, match=complaint) as caught:
        said(*arguments)
    assert caught.value.returncode == 2


@pytest.mark.parametrize("action", ["--pause", "--resume", "--cancel", "--rollback"])
def test_the_command_says_when_there_is_nothing_to_act_on(action: str) -> None:
    with pytest.raises(CommandError, match=r"eventing\.Balances") as caught:
        said("eventing.Balances", action)
    assert caught.value.returncode == 1


def test_the_command_can_be_paused_and_resumed_from_another_terminal(
    balances: ProjectionSubscription, accounts: list[UUID], program: Program
) -> None:
    replaying = program("eventing.tests.bank", "replay_slowly", balances.name)
    assert eventually(lambda: Replay.objects.filter(position__gt=0).exists())
    assert told(balances.name, "--pause")[0]["state"] == "paused"
    assert eventually(lambda: told(balances.name, "--status")[0]["tended"])
    assert told(balances.name, "--resume")[0]["state"] == "building"
    assert told(balances.name, "--cancel")[0]["state"] == "cancelled"
    _, errors = replaying.communicate(timeout=60)
    assert replaying.returncode == 1
    assert "was cancelled. The live read model is as it was" in errors


@pytest.mark.parametrize("option", ["--in-place", ""])
def test_the_command_can_be_interrupted_and_goes_on(
    option: str, balances: ProjectionSubscription, accounts: list[UUID], program: Program
) -> None:
    options = [option] if option else []
    replaying = program("eventing.tests.bank", "replay_slowly", balances.name, *options)
    assert eventually(lambda: Replay.objects.filter(position__gt=0).exists())
    replaying.send_signal(signal.SIGINT)
    output, errors = replaying.communicate(timeout=60)
    assert (replaying.returncode, output) == (130, ""), errors
    assert f"Go on with `{' '.join(['manage.py replay_projection eventing.Balances', *options])}`" in errors
    said(balances.name, *options)
    assert amounts() == [11] * 5
