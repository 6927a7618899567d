"""Somebody is told of what needs a person: of letters once a group, of inbox entries once."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import pytest
from django.core import mail
from django.utils import timezone
from pytest_django import Settings

from eventing import alerts, inbox
from eventing.alerts import Alert, InboxAlert, inbox_needs_a_person, letters_need_a_person
from eventing.models import Delivery, InboxEntry, LetterGroup
from eventing.tests.conftest import InThreads

pytestmark = pytest.mark.django_db(transaction=True)


def letter(signature: str = "a", *, state: str = "dead", failing_for: timedelta = timedelta(0)) -> Delivery:
    LetterGroup.objects.get_or_create(
        signature=signature,
        defaults={
            "subscription": "bank.charge",
            "event_type": "bank.opened",
            "exception": "ValueError",
            "frame": "bank.gateway.charge",
            "message": "No.",
        },
    )
    return Delivery.objects.create(
        subscription="bank.charge",
        partition=0,
        sequence=str(uuid4()),
        event_id=uuid4(),
        position=Delivery.objects.count() + 1,
        state=state,
        attempts=3,
        error="ValueError: No.",
        signature=signature,
        failing_since=timezone.now() - failing_for,
    )


def entry(*, source: str = "payments", state: str = "dead", error: str = "Rejected: No.") -> InboxEntry:
    return InboxEntry.objects.create(
        source=source,
        provider="stripe",
        event_id=str(uuid4()),
        body=b"{}",
        state=state,
        attempts=8,
        error=error,
        received_at=timezone.now(),
        due_at=timezone.now(),
    )


@pytest.fixture
def heard() -> Iterator[list[Alert]]:
    """What a receiver of the signal has heard."""
    told: list[Alert] = []

    def hear(sender: Any, alert: Alert, **_: Any) -> None:
        told.append(alert)

    letters_need_a_person.connect(hear)
    yield told
    letters_need_a_person.disconnect(hear)


@pytest.fixture
def webhook(settings: Settings) -> Iterator[list[dict[str, Any]]]:
    """What an address was told that answers 500 as long as its list has an empty document at the end."""
    told: list[dict[str, Any]] = []

    class Address(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            is_down = bool(told) and not told[-1]
            if not is_down:
                told.append(said)
            self.send_response(500 if is_down else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Address)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.EVENTING = {**settings.EVENTING, "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{server.server_port}/"}
    yield told
    server.shutdown()
    server.server_close()


def test_of_many_letters_of_a_group_the_log_is_told_once(heard: list[Alert], caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        letter()
    letter("b")
    assert alerts.are_due()
    with caplog.at_level(logging.ERROR):
        assert alerts.tell() == 2
    assert not alerts.are_due()
    letter()
    assert alerts.tell() == 0
    assert sorted(alert.signature for alert in heard) == ["a", "b"]
    assert "bank.charge has 3 dead letters: ValueError in bank.gateway.charge at bank.opened. No." in caplog.text


def test_the_administrators_and_a_webhook_are_told_too(settings: Settings, webhook: list[dict[str, Any]]) -> None:
    settings.ADMINS = [("boss", "boss@example.com")]
    letter()
    assert alerts.tell() == 1
    (sent,) = mail.outbox
    assert sent.to == ["boss@example.com"]
    assert "bank.charge needs a person" in sent.subject
    (said,) = webhook
    assert (said["type"], said["group"]["signature"], said["group"]["dead"]) == ("letters_need_a_person", "a", 1)


def test_a_sequence_is_told_of_once_it_has_waited_too_long(heard: list[Alert]) -> None:
    waiting = letter(state="waiting", failing_for=timedelta(minutes=14))
    assert not alerts.are_due()
    Delivery.objects.filter(pk=waiting.pk).update(failing_since=timezone.now() - timedelta(minutes=16))
    assert alerts.are_due()
    alerts.tell()
    assert [alert.dead for alert in heard] == [0]


def test_a_group_that_was_settled_and_comes_back_is_told_of_again(heard: list[Alert]) -> None:
    first = letter()
    alerts.tell()
    Delivery.objects.filter(pk=first.pk).update(state="done")
    assert not alerts.are_due()
    letter()
    assert alerts.are_due()
    alerts.tell()
    assert len(heard) == 2


def test_who_cant_be_reached_is_tried_again_a_few_times_and_the_log_is_told_once(
    webhook: list[dict[str, Any]], heard: list[Alert], caplog: pytest.LogCaptureFixture
) -> None:
    webhook.append({})  # down
    letter()
    for _ in range(alerts.MOST_ATTEMPTS):
        assert alerts.are_due()
        assert alerts.tell() == 0
        assert not alerts.are_due()  # not at once
        LetterGroup.objects.update(alert_begun_at=timezone.now() - timedelta(hours=1))
    assert not alerts.are_due()
    assert len(heard) == 1
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


def test_several_workers_tell_of_a_group_once(in_threads: InThreads, heard: list[Alert]) -> None:
    for signature in "abcde":
        letter(signature)
    in_threads(alerts.tell, alerts.tell, alerts.tell)
    assert sorted(alert.signature for alert in heard) == list("abcde")


def test_a_receiver_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(sender: Any, **_: Any) -> None:
        raise ValueError("I'm not listening.")

    letters_need_a_person.connect(fail)
    letter()
    assert alerts.tell() == 1
    letters_need_a_person.disconnect(fail)
    assert "I'm not listening." in caplog.text


@pytest.fixture
def heard_of_inbox() -> Iterator[list[InboxAlert]]:
    """What a receiver of the inbox's signal has heard."""
    told: list[InboxAlert] = []

    def hear(sender: Any, alert: InboxAlert, **_: Any) -> None:
        told.append(alert)

    inbox_needs_a_person.connect(hear)
    yield told
    inbox_needs_a_person.disconnect(hear)


def test_somebody_is_told_of_dead_inbox_entries_once(
    settings: Settings,
    webhook: list[dict[str, Any]],
    heard_of_inbox: list[InboxAlert],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.ADMINS = [("boss", "boss@example.com")]
    entry(state="waiting")
    entry(state="done")
    entry(state="skipped")
    assert not alerts.are_due()
    first, second = entry(error="NeedsAPerson: A refund failed."), entry()
    entry(source="shipping")
    assert alerts.are_due()
    assert alerts.tell() == 2
    assert not alerts.are_due()
    assert heard_of_inbox[0].entries == (first.pk, second.pk)
    sentence = "The inbox of payments has 2 dead entries from stripe: NeedsAPerson: A refund failed."
    assert f"{sentence} See inbox list." in caplog.text
    assert [said["type"] for said in webhook] == ["inbox_needs_a_person"] * 2
    assert (webhook[0]["text"], webhook[0]["inbox"]["entries"]) == (sentence, [first.pk, second.pk])
    assert "the inbox of payments needs a person" in mail.outbox[0].subject


def test_an_inbox_entry_that_dies_again_is_told_of_again(heard_of_inbox: list[InboxAlert]) -> None:
    dead = entry()
    alerts.tell()
    inbox.retry([dead.pk])
    assert not alerts.are_due()
    InboxEntry.objects.update(state="dead")
    assert alerts.tell() == 1
    assert len(heard_of_inbox) == 2


def test_of_inbox_entries_too_who_cant_be_reached_is_told_later(
    webhook: list[dict[str, Any]], heard_of_inbox: list[InboxAlert]
) -> None:
    webhook.append({})  # down
    entry()
    assert alerts.tell() == 0
    assert not alerts.are_due()  # not at once
    InboxEntry.objects.update(alert_begun_at=timezone.now() - timedelta(hours=1))
    webhook.append({"type": "up again"})
    assert alerts.tell() == 1
    assert len(heard_of_inbox) == 1


def test_several_workers_tell_of_an_inbox_entry_once(in_threads: InThreads, heard_of_inbox: list[InboxAlert]) -> None:
    dead = [entry(source=source).pk for source in "abcde"]
    in_threads(alerts.tell, alerts.tell, alerts.tell)
    assert sorted(number for alert in heard_of_inbox for number in alert.entries) == dead
