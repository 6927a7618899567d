"""Endpoints hear of events as they happen: signed, in the order of each stream, never lost, whatever they answer."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from pytest_django import Settings
from standardwebhooks import WebhookVerificationError

from eventing import checkpoints, nudges, person_keys, records, store, sweeping
from eventing.advance import advance, retry_due
from eventing.domain import Rejected
from eventing.kinds import aggregates, emitted_by
from eventing.models import Checkpoint, Delivery, StoredEvent, WebhookDelivery, WebhookEndpoint, WebhookSecret
from eventing.nudges import Nudge
from eventing.records import UnknownEvent, event_class
from eventing.statements import run
from eventing.status import status
from eventing.subscriptions import Subscription, subscription_named
from eventing.tests.bank.customers import closes_account, everything_is_relayed, opens_account, pays_in, stream_of
from eventing.tests.bank.events import OwnerMoved
from eventing.tests.bank.sagas import BONUS
from eventing.tests.conftest import InThreads, Program
from eventing.tests.receiver import Message, Receiver, Reply, receiving
from eventing.tests.test_workers import WORKER
from eventing.webhooks import announcing, deliveries, endpoints, messages, secrets
from eventing.webhooks.deliveries import Claim
from eventing.webhooks.endpoints import SUBSCRIPTION
from eventing.webhooks.sending import Answer
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

PAID_IN = "bank.money_paid_in"
SCHEDULE = [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
LOCALLY = {"WEBHOOK_INSECURE": True, "WEBHOOK_ALLOWED_NETWORKS": [ip_network("127.0.0.0/8")]}


@pytest.fixture(autouse=True)
def three_attempts_at_once(settings: Settings) -> None:
    settings.EVENTING = {**settings.EVENTING, **LOCALLY, "WEBHOOK_SCHEDULE": [0, 0, 0], "WEBHOOK_SECONDS": 5}


@pytest.fixture
def webhooks() -> Subscription:
    return subscription_named(SUBSCRIPTION)


@pytest.fixture
def shop() -> User:
    """An account that may have webhooks, and may not see what is personal."""
    user = User.objects.create_user("shop")
    user.user_permissions.set(Permission.objects.filter(codename="manage_webhooks"))
    return user


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def registered(owner: User, receiver: Receiver, *event_types: str) -> tuple[WebhookEndpoint, str]:
    """An endpoint of somebody's, with its secret."""
    return endpoints.register(owner, url=receiver.url, description="", event_types=list(event_types) or None)


@pytest.fixture
def endpoint(shop: User, receiver: Receiver) -> WebhookEndpoint:
    """One that hears of everything."""
    return registered(shop, receiver)[0]


@pytest.fixture
def payments(shop: User, receiver: Receiver) -> WebhookEndpoint:
    """One that hears of payments alone."""
    return registered(shop, receiver, PAID_IN)[0]


def everything_is_walked() -> None:
    everything_is_relayed()
    while advance(subscription_named(SUBSCRIPTION), 0):
        pass


def everything_is_sent() -> None:
    """All that is due by now, to everybody."""
    everything_is_walked()
    while due := deliveries.due():
        for endpoint_id in due:
            announcing.send_due(subscription_named(SUBSCRIPTION), endpoint_id, budget=60)


def what_became() -> list[tuple[str, int]]:
    return [(each.state, each.attempts) for each in WebhookDelivery.objects.order_by("endpoint", "position")]


def fails_at(receiver: Receiver, *amounts: int, status: int = 500) -> None:
    def answer(message: Message) -> Reply:
        return Reply(status if message.event.get("amount") in amounts else 204)

    receiver.answer = answer


def always(status: int, *headers: tuple[str, str]) -> Any:
    return lambda message: Reply(status, headers)


def due_in(delivery: WebhookDelivery) -> float:
    """Seconds."""
    delivery.refresh_from_db()
    assert delivery.due_at is not None
    return (delivery.due_at - timezone.now()).total_seconds()


def time_passes() -> None:
    """Until all that was put off is due, and whoever was at something is given up."""
    WebhookDelivery.objects.exclude(due_at=None).update(due_at=timezone.now())
    WebhookDelivery.objects.exclude(leased_until=None).update(leased_until=timezone.now())


def test_an_event_is_sent_with_a_signature_that_those_who_receive_can_verify(shop: User, receiver: Receiver) -> None:
    _, secret = registered(shop, receiver)
    account = opens_account("Ada")
    everything_is_sent()
    (message,) = receiver.heard
    stored = StoredEvent.objects.get()
    assert message.verified(secret) == {
        "type": "bank.account_opened",
        "timestamp": stored.occurred_at.isoformat().replace("+00:00", "Z"),
        "data": {
            "id": str(stored.id),
            "stream": f"account-{account}",
            "version": 1,
            "position": 1,
            "event": {"account_id": str(account), "owner": "Ada"},
        },
    }
    assert message.id == str(stored.id)
    assert message.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        message.verified("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def test_an_endpoint_hears_of_the_types_that_it_asked_for(payments: WebhookEndpoint, receiver: Receiver) -> None:
    account = opens_account()
    pays_in(account, 1, 2)
    closes_account(account)
    everything_is_sent()
    assert [message.said["type"] for message in receiver.heard] == [PAID_IN, PAID_IN]


def test_every_event_that_the_program_knows_can_be_heard_of(webhooks: Subscription) -> None:
    kinds = {"orders", "payments", "inventory", "shipping", "bank"}
    assert {name.partition(".")[0] for name in webhooks.types} >= kinds
    assert set(webhooks.types) >= {event.stored_name for kind in aggregates() for event in emitted_by(kind)}


def test_an_endpoint_hears_of_nothing_that_was_before_it_even_while_the_walk_is_behind(
    shop: User, receiver: Receiver
) -> None:
    account = opens_account()
    pays_in(account, 1)
    everything_is_relayed()  # and not walked yet
    registered(shop, receiver, PAID_IN)
    pays_in(account, 2)
    everything_is_sent()
    assert receiver.amounts == [2]


def test_each_event_is_walked_past_once_and_made_one_delivery_an_endpoint(
    shop: User, receiver: Receiver, endpoint: WebhookEndpoint, webhooks: Subscription
) -> None:
    registered(shop, receiver, PAID_IN)
    pays_in(opens_account(), 1, 2)
    everything_is_walked()
    Checkpoint.objects.filter(subscription=webhooks.name).update(begun_at=None)
    everything_is_walked()
    assert WebhookDelivery.objects.count() == 5
    (found,) = [each for each in status().subscriptions if each.name == SUBSCRIPTION]
    assert (found.kind, found.lag, found.handled) == ("webhook", 0, 3)


def test_a_walk_that_breaks_off_leaves_nothing_and_comes_again(
    endpoint: WebhookEndpoint, webhooks: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens_account()
    everything_is_relayed()
    handle = webhooks.handle

    def break_off(records: Sequence[Any], partition: int) -> int:
        handle(records, partition)
        assert WebhookDelivery.objects.count() == 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(webhooks, "handle", break_off)
        with pytest.raises(KeyboardInterrupt):
            advance(webhooks, 0)
    assert WebhookDelivery.objects.count() == 0
    Checkpoint.objects.filter(subscription=webhooks.name).update(begun_at=None)
    everything_is_walked()
    assert WebhookDelivery.objects.count() == 1


def test_an_event_of_a_type_that_only_a_newer_program_knows_waits_for_a_worker_of_that_program(
    endpoint: WebhookEndpoint, receiver: Receiver, webhooks: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opens_account("Ada")
    everything_is_walked()
    pays_in(account, 1)
    opens_account("Ben")
    closes_account(account)

    def of_the_older_program(name: str) -> Any:
        if name == PAID_IN:
            raise UnknownEvent(name)
        return event_class(name)

    with monkeypatch.context() as older:
        older.setattr(records, "event_class", of_the_older_program)
        older.setattr(records, "_decoders", {})
        older.setattr(webhooks, "types", [name for name in webhooks.types if name != PAID_IN])
        everything_is_sent()
    assert [message.event.get("owner") for message in receiver.heard] == ["Ada", "Ben"]
    assert Delivery.objects.filter(subscription=SUBSCRIPTION).count() == 2  # it, and what is behind it in its stream
    Delivery.objects.update(due_at=timezone.now())
    while retry_due(webhooks, 0):
        pass
    everything_is_sent()
    assert [message.said["type"] for message in receiver.heard[2:]] == [PAID_IN, "bank.account_closed"]


def test_a_failure_blocks_its_own_stream_and_no_other(payments: WebhookEndpoint, receiver: Receiver) -> None:
    first, second = opens_account(), opens_account()
    pays_in(first, 1, 13, 3)
    pays_in(second, 4, 5)
    fails_at(receiver, 13)
    everything_is_sent()
    assert receiver.amounts.count(13) == 3  # attempts
    assert [amount for amount in receiver.amounts if amount != 13] == [1, 4, 5]
    assert what_became() == [("done", 1), ("failed", 3), ("waiting", 0), ("done", 1), ("done", 1)]
    pays_in(first, 6)  # and what comes later waits too
    everything_is_sent()
    assert 6 not in receiver.amounts
    assert "Answered 500." in WebhookDelivery.objects.get(state="failed").last_error


def test_a_failed_delivery_that_is_retried_lets_those_behind_it_follow_in_order(
    payments: WebhookEndpoint, receiver: Receiver, shop: User
) -> None:
    pays_in(opens_account(), 13, 2, 3)
    fails_at(receiver, 13)
    everything_is_sent()
    receiver.heard.clear()
    fails_at(receiver)
    endpoints.retry(WebhookDelivery.objects.get(state="failed"), who=shop)
    everything_is_sent()
    assert receiver.amounts == [13, 2, 3]
    with pytest.raises(Rejected, match="is done"):
        endpoints.retry(WebhookDelivery.objects.earliest("position"), who=shop)


@pytest.mark.parametrize("again", ["retried", "replayed"])
def test_what_waits_behind_a_failed_delivery_isnt_due_though_it_is_asked_for(
    payments: WebhookEndpoint, receiver: Receiver, shop: User, again: str
) -> None:
    pays_in(opens_account(), 1, 13, 3)
    fails_at(receiver)
    everything_is_sent()
    WebhookDelivery.objects.filter(position=3).update(state="failed", due_at=None)  # as if it had failed meanwhile
    last = WebhookDelivery.objects.latest("position")
    if again == "retried":
        WebhookDelivery.objects.filter(pk=last.pk).update(state="waiting", due_at=None)
        endpoints.retry(last, who=shop)
    else:
        assert replayed(payments, shop, since=3, done_too=True) == 1
    last.refresh_from_db()
    assert (last.state, last.due_at) == ("waiting", None)


def test_the_sweep_looks_for_what_can_be_sent_and_not_for_what_waits_behind_it(
    payments: WebhookEndpoint, shop: User
) -> None:
    pays_in(opens_account(), 1, 2)
    everything_is_walked()
    assert deliveries.due() == [payments.pk]
    assert deliveries.claim(payments.pk) is not None
    assert deliveries.due() == []
    pays_in(opens_account(), 3)
    everything_is_walked()
    assert deliveries.due() == [payments.pk]


def test_a_failed_delivery_that_is_skipped_lets_those_behind_it_go_on(
    payments: WebhookEndpoint, receiver: Receiver, shop: User
) -> None:
    pays_in(opens_account(), 13, 2, 3)
    fails_at(receiver, 13)
    everything_is_sent()
    receiver.heard.clear()
    failed = WebhookDelivery.objects.get(state="failed")
    endpoints.skip(failed, reason="They know already.", who=shop)
    everything_is_sent()
    assert receiver.amounts == [2, 3]
    failed.refresh_from_db()
    assert (failed.state, failed.reason) == ("skipped", "They know already.")


def test_attempts_come_by_the_schedule_and_what_is_behind_isnt_due_before(
    payments: WebhookEndpoint, receiver: Receiver, settings: Settings
) -> None:
    settings.EVENTING = {**settings.EVENTING, "WEBHOOK_SCHEDULE": SCHEDULE}
    receiver.answer = always(500)
    pays_in(opens_account(), 1, 2)
    everything_is_walked()
    first, behind = WebhookDelivery.objects.order_by("position")
    for number, seconds in enumerate(SCHEDULE[1:], start=1):
        everything_is_sent()
        assert len(receiver.heard) == number
        assert seconds - 5 <= due_in(first) <= seconds * 1.1
        assert seconds - 5 <= due_in(behind) <= seconds * 1.1
        time_passes()
    everything_is_sent()
    assert what_became() == [("failed", 10), ("waiting", 0)]
    assert {message.id for message in receiver.heard} == {str(first.event_id)}  # the same each time
    assert deliveries.due() == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_that_asks_for_time_is_given_it(endpoint: WebhookEndpoint, receiver: Receiver, status: int) -> None:
    receiver.answer = always(status, ("Retry-After", "120"))
    opens_account()
    everything_is_sent()
    delivery = WebhookDelivery.objects.get()
    assert 115 <= due_in(delivery) <= 132
    assert delivery.last_status == status


def test_a_receiver_that_is_gone_is_sent_nothing_any_more_until_somebody_switches_it_on(
    endpoint: WebhookEndpoint, receiver: Receiver, shop: User, settings: Settings
) -> None:
    settings.EVENTING = {**settings.EVENTING, "WEBHOOK_SCHEDULE": SCHEDULE}
    account = opens_account()
    receiver.answer = always(410)
    everything_is_sent()
    endpoint.refresh_from_db()
    assert (endpoint.enabled, "410" in endpoint.disabled_reason) == (False, True)
    assert endpoint.disabled_at is not None
    pays_in(account, 1)
    receiver.answer = always(204)
    time_passes()
    everything_is_sent()
    assert len(receiver.heard) == 1
    endpoints.change(endpoint, who=shop, enabled=True)
    everything_is_sent()
    assert [message.said["type"] for message in receiver.heard] == ["bank.account_opened"] * 2
    assert WebhookEndpoint.objects.filter(disabled_reason="", disabled_at=None).exists()


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 500])
def test_only_2xx_is_success(endpoint: WebhookEndpoint, receiver: Receiver, status: int) -> None:
    receiver.answer = always(status, ("Location", receiver.url))
    opens_account()
    everything_is_sent()
    assert what_became() == [("failed", 3)]
    assert len(receiver.heard) == 3
    assert WebhookDelivery.objects.get().last_status == status


def test_a_slow_endpoint_holds_up_no_other_and_has_only_a_few_under_way(
    shop: User, receiver: Receiver, endpoint: WebhookEndpoint, webhooks: Subscription
) -> None:
    answering = threading.Event()

    def answer_late(message: Message) -> Reply:
        answering.wait(20)
        return Reply()

    with receiving() as slow:
        slow.answer = answer_late
        other, _ = registered(shop, slow)
        for _ in range(8):
            opens_account()
        everything_is_walked()
        workers = [
            threading.Thread(target=send_with_a_connection_of_its_own, args=(webhooks, other.pk)) for _ in range(6)
        ]
        for worker in workers:
            worker.start()
        assert eventually(lambda: len(slow.heard) == deliveries.AT_ONCE)
        announcing.send_due(webhooks, endpoint.pk, budget=60)
        assert len(receiver.heard) == 8
        assert len(slow.heard) == deliveries.AT_ONCE
        answering.set()
        for worker in workers:
            worker.join()
        everything_is_sent()
        assert len({message.id for message in slow.heard}) == len(slow.heard) == 8


@pytest.mark.parametrize("trouble", [Answer(None, "No answer within 15 seconds.", 15_000), Answer(204, "", 14_000)])
def test_an_endpoint_in_trouble_has_one_message_under_way_until_one_goes_well(
    endpoint: WebhookEndpoint, trouble: Answer
) -> None:
    for _ in range(20):
        opens_account()
    everything_is_walked()

    def under_way() -> list[Claim]:
        return list(iter(lambda: deliveries.claim(endpoint.pk), None))

    claims = under_way()
    assert len(claims) == deliveries.AT_ONCE
    for claim in claims:
        deliveries.settle(claim, trouble)
    (alone,) = under_way()
    deliveries.settle(alone, trouble)
    (alone,) = under_way()
    deliveries.settle(alone, Answer(204, "", 20))
    assert len(under_way()) == deliveries.AT_ONCE


def send_with_a_connection_of_its_own(webhooks: Subscription, endpoint_id: UUID) -> None:
    try:
        announcing.send_due(webhooks, endpoint_id, budget=60)
    finally:
        connection.close()


def test_several_workers_send_each_event_once_and_each_stream_in_order(
    payments: WebhookEndpoint, receiver: Receiver, webhooks: Subscription, in_threads: InThreads
) -> None:
    accounts = [opens_account() for _ in range(5)]
    for amount in range(6):
        for account in accounts:
            pays_in(account, amount)
    everything_is_walked()
    in_threads(*[lambda: announcing.send_due(webhooks, payments.pk, budget=60)] * 4)
    everything_is_sent()
    for account in accounts:
        heard = [each.event["amount"] for each in receiver.heard if each.event["account_id"] == str(account)]
        assert heard == list(range(6))


MUCH_IS_DUE = """
INSERT INTO eventing_webhook_delivery (endpoint_id, event_id, position, sequence, state, attempts, due_at)
SELECT %s, gen_random_uuid(), position, 'order-' || position %% %s, 'waiting', 0, statement_timestamp()
FROM generate_series(1, 3000) position
"""


@pytest.mark.parametrize("streams", [1, 3_000])
def test_a_claim_looks_at_little_however_much_is_due(endpoint: WebhookEndpoint, streams: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(MUCH_IS_DUE, [endpoint.pk, streams])
        cursor.execute("ANALYZE eventing_webhook_delivery")
    wanted = {"endpoint": endpoint.pk, "at_once": deliveries.AT_ONCE, "lease": timedelta(minutes=1)}
    for _ in range(2):  # the second one finds the first under way
        (((explained,),),) = run(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {deliveries.CLAIM}", wanted)
        plan = explained["Plan"]
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 300
    claimed = WebhookDelivery.objects.filter(attempts=1).order_by("position")
    assert [delivery.position for delivery in claimed] == [1, 2][:streams]


def test_what_was_sent_by_a_worker_that_was_killed_before_it_wrote_that_down_is_sent_again_with_the_same_id(
    endpoint: WebhookEndpoint, receiver: Receiver, program: Program
) -> None:
    opens_account()
    everything_is_walked()
    locally = {"WEBHOOK_INSECURE": "true", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    worker = program("eventing.tests.bank", "send_and_be_killed", str(endpoint.pk), **locally)
    assert worker.wait(60) == -signal.SIGKILL, worker.communicate()
    assert what_became() == [("waiting", 1)]
    assert deliveries.due() == []  # as long as the lease lasts
    time_passes()
    everything_is_sent()
    assert what_became() == [("done", 2)]
    first, second = receiver.heard
    assert first.id == second.id
    assert first.said == second.said


def test_attempts_that_never_end_are_counted_too(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    opens_account()
    everything_is_walked()
    for _ in range(3):
        assert deliveries.claim(endpoint.pk) is not None
        time_passes()
    everything_is_sent()
    assert receiver.heard == []
    (delivery,) = WebhookDelivery.objects.all()
    assert (delivery.state, "never ended" in delivery.last_error) == ("failed", True)


@pytest.mark.parametrize("between", ["nothing", "a retry, from which on attempts are counted anew"])
def test_only_the_last_attempt_says_what_became_of_a_delivery(
    endpoint: WebhookEndpoint, shop: User, between: str
) -> None:
    opens_account()
    everything_is_walked()
    late = deliveries.claim(endpoint.pk)
    time_passes()
    if between != "nothing":
        endpoints.retry(WebhookDelivery.objects.get(), who=shop)
    last = deliveries.claim(endpoint.pk)
    assert late is not None
    assert last is not None
    deliveries.settle(late, Answer(500, "Answered 500.", 1))
    assert what_became() == [("waiting", last.attempt)]
    assert deliveries.claim(endpoint.pk) is None  # for it's under way
    deliveries.settle(last, Answer(204, "", 1))
    assert what_became() == [("done", last.attempt)]


def test_a_paused_subscription_makes_and_sends_nothing(
    endpoint: WebhookEndpoint, receiver: Receiver, webhooks: Subscription
) -> None:
    opens_account("Ada")
    everything_is_walked()
    checkpoints.pause(webhooks)
    opens_account("Ben")
    everything_is_walked()
    announcing.send_due(webhooks, endpoint.pk, budget=60)
    assert (what_became(), receiver.heard) == ([("waiting", 0)], [])
    checkpoints.resume(webhooks)
    everything_is_sent()
    assert [message.event["owner"] for message in receiver.heard] == ["Ada", "Ben"]


def test_an_endpoint_that_was_switched_off_meanwhile_is_sent_nothing(
    endpoint: WebhookEndpoint, receiver: Receiver, shop: User
) -> None:
    opens_account()
    everything_is_walked()
    endpoints.change(endpoint, who=shop, enabled=False)
    opens_account()
    everything_is_sent()
    assert (receiver.heard, what_became()) == ([], [("waiting", 0)])


def test_an_endpoint_that_is_deleted_while_it_is_sent_something_is_gone(
    endpoint: WebhookEndpoint, receiver: Receiver, shop: User, in_threads: InThreads
) -> None:
    def answer(message: Message) -> Reply:
        in_threads(lambda: endpoints.delete(WebhookEndpoint.objects.get(), who=shop))
        return Reply()

    receiver.answer = answer
    opens_account()
    opens_account()
    everything_is_sent()
    assert len(receiver.heard) == 1
    assert not WebhookEndpoint.objects.exists()
    assert not WebhookDelivery.objects.exists()
    assert not WebhookSecret.objects.exists()


def test_what_is_personal_is_hidden_unless_the_owner_may_see_it_when_it_is_sent(shop: User, receiver: Receiver) -> None:
    registered(shop, receiver, "bank.owner_moved")
    account = opens_account()

    def moves(home: str) -> None:
        moved = OwnerMoved(account_id=account, address=home)
        store.append(stream_of(account), [moved], expected=store.version(stream_of(account)))

    moves("1 Ink Lane")
    everything_is_sent()
    personal = Permission.objects.get(codename="view_personal_data")
    shop.user_permissions.add(personal)
    moves("2 Ink Lane")
    everything_is_sent()
    moves("3 Ink Lane")
    everything_is_walked()
    shop.user_permissions.remove(personal)
    everything_is_sent()
    assert [message.event["address"] for message in receiver.heard] == ["[hidden]", "2 Ink Lane", "[hidden]"]


def test_what_a_receiver_says_of_persons_is_not_kept(shop: User, receiver: Receiver) -> None:
    def echo(message: Message) -> Reply:
        return Reply(500, (), message.body[-80:])

    receiver.answer = echo
    registered(shop, receiver)
    opens_account("Ada")
    everything_is_sent()
    assert "Ada" in WebhookDelivery.objects.get().last_error
    shop.user_permissions.add(Permission.objects.get(codename="view_personal_data"))
    WebhookDelivery.objects.update(state="waiting", attempts=0, due_at=timezone.now())
    everything_is_sent()
    assert WebhookDelivery.objects.get().last_error == "Answered 500."


@pytest.mark.parametrize("loses", ["its permission", "its account"])
def test_an_endpoint_whose_account_may_not_have_it_any_more_is_switched_off(
    endpoint: WebhookEndpoint, receiver: Receiver, shop: User, loses: str
) -> None:
    if loses == "its permission":
        shop.user_permissions.clear()
    else:
        User.objects.filter(pk=shop.pk).update(is_active=False)
    opens_account()
    everything_is_sent()
    endpoint.refresh_from_db()
    assert (receiver.heard, endpoint.enabled) == ([], False)
    assert "may not have webhooks" in endpoint.disabled_reason


def test_while_two_secrets_are_valid_there_are_two_signatures_and_then_one(shop: User, receiver: Receiver) -> None:
    endpoint, old = registered(shop, receiver)
    new, until = endpoints.rotate_secret(endpoint, who=shop, valid_for=timedelta(hours=24))
    assert timedelta(hours=23) < until - timezone.now() <= timedelta(hours=24)
    opens_account()
    everything_is_sent()
    (during,) = receiver.heard
    assert len(during.headers["webhook-signature"].split()) == 2
    assert during.verified(old) == during.verified(new)
    WebhookSecret.objects.exclude(expires_at=None).update(expires_at=timezone.now())
    opens_account()
    everything_is_sent()
    after = receiver.heard[-1]
    assert len(after.headers["webhook-signature"].split()) == 1
    assert after.verified(new)
    with pytest.raises(WebhookVerificationError):
        after.verified(old)


def test_a_secret_that_somebody_else_knows_can_expire_at_once(shop: User, receiver: Receiver) -> None:
    endpoint, _ = registered(shop, receiver)
    for _ in range(secrets.MOST_VALID - 1):
        endpoints.rotate_secret(endpoint, who=shop, valid_for=timedelta(hours=1))
    with pytest.raises(Rejected, match="5 secrets are valid already"):
        endpoints.rotate_secret(endpoint, who=shop, valid_for=timedelta(hours=1))
    new, _ = endpoints.rotate_secret(endpoint, who=shop, valid_for=timedelta(0))
    assert secrets.valid(endpoint.pk) == [new]


def test_secrets_are_stored_encrypted_and_rotated_with_the_keys_of_persons(
    shop: User, receiver: Receiver, settings: Settings
) -> None:
    endpoint, secret = registered(shop, receiver)
    stored = WebhookSecret.objects.get()
    assert secret.encode() not in bytes(stored.wrapped)
    (old,) = person_keys.wrapping_names()
    new = {"new": bytes(32)}
    settings.EVENTING = {**settings.EVENTING, "PERSON_KEYS": {**new, **settings.EVENTING["PERSON_KEYS"]}}
    call_command("rotate_person_keys")
    stored.refresh_from_db()
    assert (stored.wrapped_with, old in secrets.wrapped_by()) == ("new", False)
    settings.EVENTING = {**settings.EVENTING, "PERSON_KEYS": new}
    assert secrets.valid(endpoint.pk) == [secret]


def replayed(endpoint: WebhookEndpoint, shop: User, *, since: int = 0, done_too: bool = False) -> int:
    types = endpoint.event_types or subscription_named(SUBSCRIPTION).types
    return endpoints.replay(endpoint, types=types, since=since, done_too=done_too, who=shop).deliveries


def test_what_an_endpoint_missed_is_sent_in_order_when_it_asks(
    payments: WebhookEndpoint, receiver: Receiver, shop: User
) -> None:
    account = opens_account()
    fails_at(receiver, 2)
    pays_in(account, 1, 2)
    everything_is_sent()
    endpoints.change(payments, who=shop, enabled=False)
    pays_in(account, 3, 4)
    everything_is_walked()
    endpoints.change(payments, who=shop, enabled=True)
    receiver.heard.clear()
    fails_at(receiver)
    pays_in(account, 5)
    everything_is_walked()
    assert replayed(payments, shop) == 3
    everything_is_sent()
    assert receiver.amounts == [2, 3, 4, 5]
    assert replayed(payments, shop) == 0


def test_what_was_delivered_can_be_sent_again_with_the_ids_it_had(
    payments: WebhookEndpoint, receiver: Receiver, shop: User
) -> None:
    pays_in(opens_account(), 1, 2, 3)
    everything_is_sent()
    assert replayed(payments, shop, since=2, done_too=True) == 2
    everything_is_sent()
    assert receiver.amounts == [1, 2, 3, 2, 3]
    assert len({message.id for message in receiver.heard}) == 3


def test_a_replay_looks_at_a_bounded_number_of_events_and_says_how_far_it_came(
    payments: WebhookEndpoint, shop: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "MOST_REPLAYED", 2)
    pays_in(opens_account(), 1, 2, 3)
    everything_is_sent()
    first = endpoints.replay(payments, types=[PAID_IN], since=0, done_too=True, who=shop)
    assert first == (2, 3, 4)
    assert endpoints.replay(payments, types=[PAID_IN], since=3, done_too=True, who=shop) == (1, 4, 4)


def test_a_replay_begins_at_a_time(webhooks: Subscription) -> None:
    before = timezone.now()
    opens_account()
    everything_is_relayed()
    between = timezone.now()
    opens_account()
    everything_is_relayed()
    assert [deliveries.position_at(moment) for moment in (before, between, timezone.now())] == [0, 1, 2]


def test_of_an_event_that_is_too_large_the_largest_fields_are_left_out_and_named(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    account = opens_account("x" * 30_000)
    everything_is_sent()
    (message,) = receiver.heard
    assert message.said["data"]["event"] == {"account_id": str(account)}
    assert message.said["data"]["left_out"] == ["owner"]
    assert len(message.body) <= messages.LARGEST


def test_the_sweep_finds_what_no_nudge_is_on_its_way_for(
    endpoint: WebhookEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[Nudge] = []
    opens_account()
    everything_is_walked()
    monkeypatch.setattr(nudges, "send", wanted.extend)
    sweeping.sweep()
    assert Nudge(nudges.WEBHOOKS, (str(endpoint.pk),), "webhooks") in wanted
    time_passes()


def test_workers_send_what_happens(
    endpoint: WebhookEndpoint, receiver: Receiver, program: Program, tmp_path: Path
) -> None:
    settings = {"WEBHOOK_INSECURE": "true", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    pays_in(opens_account(), *range(20))  # before there is anybody who'd pay the bonus in between
    program(*WORKER, **settings)
    program(*[part.replace("eventing", "webhooks") for part in WORKER], "--pool=threads", **settings)
    program("celery", "--app=config", "beat", "--schedule", str(tmp_path / "beat"))
    assert eventually(lambda: len(receiver.heard) == 22, seconds=120)
    assert receiver.amounts == [*range(20), BONUS]
    assert json.loads(receiver.heard[0].body)["type"] == "bank.account_opened"
    assert eventually(lambda: set(what_became()) == {("done", 1)})
