from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError
from redis import Redis

from eventing import nudges, sweeping
from eventing.advance import advance
from eventing.models import Checkpoint, LogEntry, Timer
from eventing.nudges import Nudge
from eventing.subscriptions import subscriptions
from eventing.testing import settle
from eventing.tests.bank.customers import closes_account, everything_is_relayed, opens_account, pays_in
from eventing.tests.bank.models import Balance
from eventing.tests.bank.projections import POISON

pytestmark = pytest.mark.django_db(transaction=True)

Sent = list[tuple[Any, ...]]


@pytest.fixture
def sent(broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sent]:
    """The tasks that are sent to the broker: name, arguments and queue."""
    tasks: Sent = []
    redis = Redis.from_url(broker)
    monkeypatch.setattr(nudges, "redis", lambda: redis)
    monkeypatch.setattr(
        current_app,
        "send_task",
        lambda name, arguments=(), queue="", **options: tasks.append((name, *arguments, queue)),
    )
    forget()
    yield tasks
    redis.close()


def forget() -> None:
    """As if no nudge had been given for a while."""
    nudges._relay_nudged_at = -nudges.LINGER


def test_a_commit_nudges_the_relay_and_a_rollback_doesnt(sent: Sent) -> None:
    with transaction.atomic():
        opens_account()
        transaction.set_rollback(True)
    assert sent == []
    with transaction.atomic():
        opens_account()
        assert sent == []
    assert sent == [("eventing.relay", "eventing")]


def test_however_much_happens_one_nudge_waits(sent: Sent) -> None:
    account = opens_account()
    for _ in range(20):
        pays_in(account, 1)
        forget()
    assert sent == [("eventing.relay", "eventing")]


def test_a_task_that_begins_can_be_nudged_again(sent: Sent) -> None:
    balances, welcome = (Nudge(nudges.ADVANCE, (name, 0)) for name in ("eventing.Balances", "eventing.Welcome"))
    nudges.send([balances])
    nudges.send([balances, welcome])
    nudges.taken_up(balances)
    nudges.send([welcome, balances])
    assert sent == [
        ("eventing.advance", "eventing.Balances", 0, "eventing"),
        ("eventing.advance", "eventing.Welcome", 0, "eventing"),
        ("eventing.advance", "eventing.Balances", 0, "eventing"),
    ]


def test_a_nudge_that_is_lost_blocks_the_next_for_a_few_seconds_at_most(sent: Sent) -> None:
    nudges.send([Nudge(nudges.ADVANCE, ("eventing.Balances", 0))])
    redis = nudges.redis()
    (key,) = redis.keys("*nudge*")
    assert 0 < redis.ttl(key) <= nudges.FORGOTTEN_AFTER


def test_the_relay_nudges_whoever_consumes_what_it_moved(sent: Sent) -> None:
    opens_account()
    sent.clear()
    everything_is_relayed()
    assert set(sent) == {
        ("eventing.advance", "eventing.Balances", 0, "eventing"),
        ("eventing.advance", "eventing.Welcome", 0, "eventing"),
        ("eventing.advance", "eventing.Welcome", 1, "eventing"),
        ("eventing.advance", "eventing.Webhooks", 0, "eventing"),
    }


def test_new_jobs_nudge_the_workers_of_the_effects_queue(sent: Sent) -> None:
    closes_account(opens_account())
    settle()
    assert ("eventing.perform", "eventing.farewell", "eventing") in sent


def test_a_broker_that_is_down_breaks_no_commit_and_delays_it_little(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forget()
    nowhere = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=1)
    monkeypatch.setattr(nudges, "redis", lambda: nowhere)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING), transaction.atomic():
        account = opens_account()
    assert time.monotonic() - started < 2
    assert "wait for the sweep" in caplog.text
    nudges.taken_up(Nudge(nudges.RELAY))
    settle()
    assert Balance.objects.get(pk=account).amount == 5


def test_a_broker_that_refuses_messages_breaks_no_commit(
    broker: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OperationalError("No.")

    forget()
    redis = Redis.from_url(broker)
    monkeypatch.setattr(nudges, "redis", lambda: redis)
    monkeypatch.setattr(current_app, "send_task", refuse)
    with caplog.at_level(logging.WARNING):
        opens_account()
    redis.close()
    assert "1 nudges wait for the sweep: No." in caplog.text
    assert everything_is_relayed() == 1


def test_a_sweep_makes_good_for_every_nudge_that_was_lost(sent: Sent) -> None:
    opens_account()
    sent.clear()
    nudges.redis().flushdb()
    sweeping.sweep()
    assert LogEntry.objects.count() == 1
    nudged = {each[1:3] for each in sent if each[0] == "eventing.advance"}
    assert nudged == {(each.subscription, each.partition) for each in Checkpoint.objects.filter(position__lt=1)}


def test_a_sweep_finds_parked_events_reminders_and_jobs_that_are_due(sent: Sent) -> None:
    pays_in(opens_account(), POISON)
    closes_account(opens_account())
    opens_account()
    partitions = [(each, partition) for each in subscriptions() for partition in range(each.partitions)]
    while everything_is_relayed() or any(advance(*each) for each in partitions):
        pass
    nudges.redis().flushdb()
    sent.clear()
    sweeping.sweep()
    assert {each[:2] for each in sent} == {
        ("eventing.advance", "eventing.Balances"),
        ("eventing.advance", "eventing.farewell"),
        ("eventing.perform", "eventing.farewell"),
    }
    timer = Timer.objects.earliest("id")
    sent.clear()
    Timer.objects.filter(pk=timer.pk).update(due_at="2020-01-01T00:00Z")
    sweeping.sweep()
    assert ("eventing.advance", "eventing.Welcome", timer.partition, "eventing") in sent


def test_a_sweep_with_nothing_to_do_nudges_nobody(sent: Sent) -> None:
    closes_account(opens_account())
    settle()
    nudges.redis().flushdb()
    sent.clear()
    sweeping.sweep()
    assert sent == []
