"""Somebody gets past the triggers, and `verify_events` finds what he did and where."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from eventing import chain, snapshots, store, verification
from eventing.models import Checkpoint, LogEntry, OutboxEntry, Snapshot, StoredEvent
from eventing.records import Stream
from eventing.relay import relay_once
from eventing.tests.bank.customers import closes_account, everything_is_relayed, opens_account, pays_in, stream_of
from eventing.tests.bank.events import MoneyPaidIn
from eventing.tests.conftest import Program
from eventing.verification import Check, Finding, Link, Verification

pytestmark = pytest.mark.django_db(transaction=True)


def tampers(statement: str, *parameters: Any) -> None:
    """Do what nobody may, as somebody who administers the server can."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            cursor.execute(statement, parameters)
            assert cursor.rowcount > 0
        finally:
            cursor.execute("SET session_replication_role = origin")


def verified(start: int = 1, *, expected: Link | None = None) -> Verification:
    walk = Verification(start, expected=expected)
    assert list(walk.steps())[-1:] == ([walk.head - start + 1] if walk.head >= start else [])
    return walk


def found(start: int = 1, *, expected: Link | None = None) -> dict[Check, list[Finding]]:
    """What is wrong."""
    answers = verified(start, expected=expected).findings()
    assert all(each.count == len(each.first) and each.remedy and each.question for each in answers)
    return {each.check: each.first for each in answers if each.count}


def places(findings: list[Finding]) -> list[tuple[int | None, str | None]]:
    return [(each.position, each.stream) for each in findings]


@pytest.fixture
def account() -> UUID:
    """Positions 1 to 6 are an account's; another one's are 7 and 8."""
    account = opens_account()
    pays_in(account, 1, 2, 3, 4)
    closes_account(account)
    pays_in(opens_account("Bob"), 5)
    everything_is_relayed()
    return account


def test_a_log_that_nobody_touched_is_sound(account: UUID) -> None:
    walk = verified()
    assert [each for each in walk.findings() if each.count] == []
    assert walk.unchained == 0
    assert walk.end().position == 8
    assert walk.end().link == bytes(LogEntry.objects.get(position=8).link or b"")


def test_an_empty_log_is_sound() -> None:
    assert found() == {}
    assert verified().end() == Link(0, None)


@pytest.mark.parametrize(
    "change",
    [
        """data = data || '{"amount": 1000000}'""",
        "actor = 'somebody else'",
        "occurred_at = occurred_at - interval '1 day'",
        "recorded_at = recorded_at - interval '1 day'",
        "correlation_id = gen_random_uuid()",
        "causation_id = gen_random_uuid()",
        "traceparent = 'elsewhere'",
    ],
)
def test_whatever_was_changed_of_an_event_is_found_where_it_is(account: UUID, change: str) -> None:
    tampers(f"UPDATE eventing_event SET {change} WHERE stream_id = %s AND version = 3", str(account))
    (check, findings), *others = found().items()
    assert (check, places(findings), others) == (Check.CHAIN, [(3, f"account-{account}")], [])


def test_a_changed_type_is_found(account: UUID) -> None:
    tampers("UPDATE eventing_event SET type = 'bank.account_closed' WHERE stream_id = %s AND version = 3", str(account))
    findings = found()
    assert set(findings) == {Check.TYPES, Check.CHAIN}
    assert places(findings[Check.TYPES]) == places(findings[Check.CHAIN]) == [(3, f"account-{account}")]


def test_an_event_moved_to_another_stream_is_found_there_and_where_it_was(account: UUID) -> None:
    tampers("UPDATE eventing_event SET stream_id = 'nobody' WHERE stream_id = %s AND version = 3", str(account))
    findings = found()
    assert places(findings[Check.CHAIN]) == [(3, "account-nobody")]
    assert places(findings[Check.VERSIONS]) == [(3, "account-nobody"), (4, f"account-{account}")]


def test_a_removed_event_is_found(account: UUID) -> None:
    tampers("DELETE FROM eventing_event WHERE stream_id = %s AND version = 3", str(account))
    findings = found()
    assert set(findings) == {Check.EVENTS, Check.VERSIONS}
    assert places(findings[Check.EVENTS]) == [(3, None)]
    assert places(findings[Check.VERSIONS]) == [(4, f"account-{account}")]


def test_a_removed_row_of_the_log_is_found(account: UUID) -> None:
    tampers("DELETE FROM eventing_log WHERE position = 3")
    findings = found()
    assert set(findings) == {Check.POSITIONS, Check.EVENTS}
    assert places(findings[Check.POSITIONS]) == [(3, None)]
    assert places(findings[Check.EVENTS]) == [(None, f"account-{account}")]
    assert "version 3" in findings[Check.EVENTS][0].problem


def test_an_event_that_was_removed_with_its_position_is_found_even_if_the_others_close_ranks(account: UUID) -> None:
    tampers("DELETE FROM eventing_event WHERE stream_id = %s AND version = 6", str(account))
    tampers("DELETE FROM eventing_log WHERE position = 6")
    tampers("UPDATE eventing_log SET position = 6 WHERE position = 7")
    tampers("UPDATE eventing_log SET position = 7 WHERE position = 8")
    findings = found()
    assert set(findings) == {Check.CHAIN}
    assert [position for position, _ in places(findings[Check.CHAIN])] == [6, 7]


def test_the_end_cut_off_is_found_by_what_was_written_down(account: UUID) -> None:
    before = verified().end()
    assert found(expected=before) == {}
    tampers("DELETE FROM eventing_event WHERE id = (SELECT event_id FROM eventing_log WHERE position = 8)")
    tampers("DELETE FROM eventing_log WHERE position = 8")
    assert found() == {}
    findings = found(expected=before)
    assert {check: places(each) for check, each in findings.items()} == {Check.EXPECTED: [(8, None)]}


def test_a_chain_that_was_computed_anew_is_found_by_what_was_written_down(account: UUID) -> None:
    before = verified().end()
    tampers("UPDATE eventing_event SET actor = 'another' WHERE stream_id = %s AND version = 6", str(account))
    link = bytes(LogEntry.objects.get(position=5).link or b"")
    for row in _contents(after=5):
        link = chain.link(link, *row)
        tampers("UPDATE eventing_log SET link = %s WHERE position = %s", link, row[0])
    assert found() == {}
    assert places(found(expected=before)[Check.EXPECTED]) == [(8, None)]


def _contents(*, after: int) -> Iterator[tuple[int, bytes]]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT position, {chain.content_of("event")}
            FROM eventing_log JOIN eventing_event event ON id = event_id WHERE position > %s ORDER BY position""",
            [after],
        )
        yield from [(position, bytes(content)) for position, content in cursor.fetchall()]


def test_swapped_positions_are_found(account: UUID) -> None:
    third, fourth = (LogEntry.objects.get(position=position).event_id for position in (3, 4))
    for position, event in ((3, uuid4()), (4, third), (3, fourth)):
        tampers("UPDATE eventing_log SET event_id = %s WHERE position = %s", event, position)
    findings = found()
    assert set(findings) == {Check.CHAIN, Check.VERSIONS}
    assert places(findings[Check.CHAIN]) == [(3, f"account-{account}"), (4, f"account-{account}")]
    assert places(findings[Check.VERSIONS]) == [(3, f"account-{account}")]


def test_a_changed_link_is_found(account: UUID) -> None:
    tampers("UPDATE eventing_log SET link = sha256('') WHERE position = 3")
    findings = found()
    assert {check: [each.position for each in there] for check, there in findings.items()} == {Check.CHAIN: [3, 4]}


def test_a_payload_that_nobody_can_read_is_x(account: UUID) -> None:
    tampers("""UPDATE eventing_event SET data = data || '{"amount": "lots"}' WHERE version = 3""")
    (finding,) = found()[Check.PAYLOADS]
    assert (finding.position, finding.stream) == (3, f"account-{account}")
    assert "Expected `int`, got `str` - at `$.amount`" in finding.problem


def test_an_event_that_no_code_knows_is_found(account: UUID) -> None:
    tampers("UPDATE eventing_event SET schema_version = 7 WHERE stream_id = %s AND version = 6", str(account))
    (finding,) = found()[Check.PAYLOADS]
    assert (finding.position, finding.stream) == (6, f"account-{account}")
    assert "it was written by newer code" in finding.problem


def test_what_nobody_relays_is_found(account: UUID) -> None:
    pays_in(opens_account("Carol"), 1)
    assert found() == {}
    oldest = OutboxEntry.objects.earliest("id")
    OutboxEntry.objects.filter(pk=oldest.pk).update(created_at=timezone.now() - timedelta(seconds=61))
    (finding,) = found()[Check.OUTBOX]
    assert finding.stream == str(Stream("account", StoredEvent.objects.get(pk=oldest.event_id).stream_id))
    assert "has waited for 61 s" in finding.problem


def test_rows_of_the_outbox_that_no_relay_should_see_are_found(account: UUID) -> None:
    OutboxEntry.objects.create(event_id=uuid4(), type="bank.account_opened")
    OutboxEntry.objects.create(event_id=LogEntry.objects.get(position=3).event_id, type="bank.money_paid_in")
    gone, double = found()[Check.OUTBOX]
    assert (gone.position, "doesn't exist" in gone.problem) == (None, True)
    assert (double.position, "has its position already" in double.problem) == (3, True)


def test_an_event_that_no_relay_will_ever_see_is_found(account: UUID) -> None:
    unseen = opens_account("Carol")
    OutboxEntry.objects.all().delete()
    assert places(found()[Check.EVENTS]) == [(None, f"account-{unseen}")]


def test_an_event_that_was_slipped_in_before_the_first_position_is_found(account: UUID) -> None:
    unseen = opens_account("Carol")
    event = OutboxEntry.objects.get().event_id
    OutboxEntry.objects.all().delete()
    LogEntry.objects.create(position=0, event_id=event, type="bank.account_opened")
    assert places(found()[Check.EVENTS]) == [(None, f"account-{unseen}")]


def test_a_subscription_that_is_ahead_of_the_log_is_found(account: UUID) -> None:
    Checkpoint.objects.filter(subscription="eventing.Balances").update(position=8)
    assert found() == {}
    Checkpoint.objects.filter(subscription="eventing.Balances", partition=0).update(position=9)
    (finding,) = found()[Check.CHECKPOINTS]
    assert finding.position == 9
    assert "partition 0 of eventing.Balances" in finding.problem


def test_events_from_before_the_chain_are_no_fault(settings: Settings) -> None:
    settings.EVENTING = {**settings.EVENTING, "HASH_CHAIN": False}
    opens_account()
    everything_is_relayed()
    appended_before = opens_account()
    settings.EVENTING = {**settings.EVENTING, "HASH_CHAIN": True}
    pays_in(appended_before, 1)
    everything_is_relayed()
    walk = verified()
    assert [each for each in walk.findings() if each.count] == []
    assert walk.unchained == 1
    assert list(LogEntry.objects.filter(link=None).values_list("position", flat=True)) == [1]


def test_writers_compute_digests_only_for_a_chain(settings: Settings) -> None:
    opens_account()
    settings.EVENTING = {**settings.EVENTING, "HASH_CHAIN": False}
    opens_account()
    assert [len(entry.digest or b"") for entry in OutboxEntry.objects.order_by("id")] == [32, 0]


def test_where_the_chain_was_off_for_a_while_it_begins_again(account: UUID, settings: Settings) -> None:
    settings.EVENTING = {**settings.EVENTING, "HASH_CHAIN": False}
    pays_in(opens_account("Carol"), 1)
    everything_is_relayed()
    assert (found(), verified().unchained) == ({}, 2)
    settings.EVENTING = {**settings.EVENTING, "HASH_CHAIN": True}
    pays_in(opens_account("Dave"), 1)
    everything_is_relayed()
    findings = found()
    assert {check: [each.position for each in there] for check, there in findings.items()} == {Check.CHAIN: [9, 10]}
    assert found(11) == {}


def test_the_chain_goes_on_from_pass_to_pass_and_from_chunk_to_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    account = opens_account()
    store.append(stream_of(account), [MoneyPaidIn(account_id=account, amount=1)] * 24, expected=1)
    while (moved := relay_once(limit=4)) and moved.events:
        pass
    monkeypatch.setattr(verification, "CHUNK", 7)
    monkeypatch.setattr(verification, "READ", verification.READ.replace("LIMIT 1000", "LIMIT 7"))
    assert list(Verification().steps()) == [7, 14, 21, 25]
    assert found() == {}
    for position in (7, 8, 22, 25):
        tampers("UPDATE eventing_log SET published_at = now(), link = sha256(link) WHERE position = %s", position)
    assert [each.position for each in found()[Check.CHAIN]] == [7, 8, 9, 22, 23, 25]


def test_a_walk_from_the_middle_knows_the_link_before(account: UUID) -> None:
    assert found(4) == {}
    tampers("UPDATE eventing_event SET actor = 'another' WHERE stream_id = %s AND version IN (3, 4)", str(account))
    assert [each.position for each in found(4)[Check.CHAIN]] == [4]
    assert verified(9).end().position == 8


def test_holes_are_named_from_their_first_position_to_their_last(account: UUID) -> None:
    tampers("DELETE FROM eventing_log WHERE position IN (3, 4, 5)")
    tampers("UPDATE eventing_log SET position = 10 WHERE position = 8")
    (positions,) = [each for each in verified().findings() if each.check is Check.POSITIONS]
    assert positions.count == 5
    assert [(each.position, each.problem) for each in positions.first] == [
        (3, "missing, as are all up to 5."),
        (8, "missing, as are all up to 9."),
    ]


def test_of_many_findings_the_first_twenty_are_shown_and_all_are_counted() -> None:
    account = opens_account()
    store.append(stream_of(account), [MoneyPaidIn(account_id=account, amount=1)] * 30, expected=1)
    everything_is_relayed()
    tampers("UPDATE eventing_event SET actor = 'another'")
    (answer,) = [each for each in verified().findings() if each.count]
    assert (answer.check, answer.count, [each.position for each in answer.first]) == (
        Check.CHAIN,
        31,
        list(range(1, 21)),
    )
    OutboxEntry.objects.bulk_create(OutboxEntry(event_id=uuid4(), type="lost") for _ in range(25))
    (_, outbox) = sorted((each for each in verified().findings() if each.count), key=lambda each: each.check)
    assert (outbox.check, outbox.count, len(outbox.first)) == (Check.OUTBOX, 25, 20)


def test_the_command_says_what_is_wrong_where_and_what_to_do(account: UUID) -> None:
    output = StringIO()
    call_command("verify_events", stdout=output)
    link = verified().end()
    assert output.getvalue().splitlines() == [
        "8 positions verified, up to 8.",
        f"Write this down, and compare with it later: --expect {link}",
    ]
    call_command("verify_events", expect=link, stdout=output)
    tampers("UPDATE eventing_event SET actor = 'another' WHERE stream_id = %s AND version = 3", str(account))
    output = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify_events", stdout=output)
    assert ended.value.code == 1
    assert output.getvalue().splitlines()[:3] == [
        "NO   the hash chain is intact: 1",
        f"       position 3, account-{account}: the link doesn't fit bank.money_paid_in, version 3.",
        f"     {verification.REMEDIES[Check.CHAIN]}",
    ]


def test_the_commands_json_holds_all_of_it(account: UUID) -> None:
    tampers("DELETE FROM eventing_log WHERE position = 8")
    output = StringIO()
    with pytest.raises(SystemExit):
        call_command("verify_events", "--from", "2", "--json", stdout=output)
    report = json.loads(output.getvalue())
    findings = report.pop("findings")
    assert report == {
        "start": 2,
        "position": 7,
        "link": (LogEntry.objects.get(position=7).link or b"").hex(),
        "interrupted": False,
        "unchained": 0,
        "snapshots": None,
    }
    assert [(each["check"], each["count"]) for each in findings] == [("events", 1)]


@pytest.mark.parametrize(
    "wrong", [["--from", "0"], ["--from", "10"], ["--from", "soon"], ["--expect", "7"], ["--expect", "7:abc0"]]
)
def test_the_command_refuses_what_makes_no_sense(account: UUID, wrong: list[str]) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("verify_events", *wrong)
    assert refused.value.returncode == 2 or "Error: argument" in str(refused.value)


def test_the_command_computes_snapshots_again_when_asked(account: UUID) -> None:
    snapshots.take(stream_of(account))
    output = StringIO()
    call_command("verify_events", "--snapshots", stdout=output)
    assert "Snapshots: 1 right." in output.getvalue()
    kept = Snapshot.objects.get()
    Snapshot.objects.update(state={**kept.state, "balance": 1_000_000})
    call_command("verify_events", stdout=output)
    with pytest.raises(SystemExit):
        call_command("verify_events", "--snapshots", stdout=output)
    assert f"account-{account}: version 6: The stream's events make another state, in balance." in output.getvalue()


def test_an_interrupted_command_says_where_to_go_on(program: Program) -> None:
    account = opens_account()
    for _ in range(40):
        version = store.version(stream_of(account))
        store.append(stream_of(account), [MoneyPaidIn(account_id=account, amount=1)] * 500, expected=version)
    everything_is_relayed()
    process = program("eventing.tests.bank", "verify_slowly")
    assert process.stderr
    assert process.stderr.readline() == "1000\n"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(output)["interrupted"]
    assert f"Go on with `manage.py verify_events --from {json.loads(output)['position'] + 1}`." in errors
    assert found(json.loads(output)["position"] + 1) == {}


def test_a_server_that_goes_away_in_the_middle_costs_no_more_than_a_chunk(
    program: Program, other_session: psycopg.Connection[Any]
) -> None:
    account = opens_account()
    store.append(stream_of(account), [MoneyPaidIn(account_id=account, amount=1)] * 3000, expected=1)
    everything_is_relayed()
    connection.close()
    process = program("eventing.tests.bank", "verify_slowly")
    assert process.stderr
    assert process.stderr.readline() == "1000\n"
    other_session.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert "CommandError: The database can't be asked: " in errors
    assert "Go on with --from 1001." in errors


def test_a_server_that_is_down_is_an_error_in_a_sentence(program: Program) -> None:
    process = program("django", "verify_events", DATABASE_URL="postgresql://nobody:x@127.0.0.1:1/none")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert "The database can't be asked: " in errors
    assert "Traceback" not in errors
