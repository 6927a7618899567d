"""What the bank does as a process of its own, for tests that kill it: ``python -m eventing.tests.bank FUNCTION …``."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from uuid import UUID, uuid5

from django.core.management import call_command
from django.db import transaction

from eventing import checkpoints, replay, store
from eventing.advance import advance
from eventing.effects import Delivery, EffectSubscription, perform_due
from eventing.models import Checkpoint, OutboxEntry
from eventing.relay import relay_all
from eventing.store import Append
from eventing.subscriptions import subscription_named
from eventing.tests.bank import effects, projections
from eventing.tests.bank.customers import stream_of
from eventing.tests.bank.events import AccountClosed, MoneyPaidIn
from eventing.verification import Verification
from eventing.webhooks import announcing, deliveries
from eventing.webhooks.endpoints import SUBSCRIPTION

BRANCH = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
STREAMS = 20


class ChangedItsMind(Exception):
    pass


def write(seed: str, count: str) -> None:
    """Append about ``count`` events to streams of one's own, in transactions of several statements, with pauses in
    them; every fifth is rolled back. Prints how many events each stream has in the end."""
    choice, left = random.Random(seed), int(count)  # noqa: S311 - no secret
    versions = dict.fromkeys((uuid5(BRANCH, f"{seed}/{number}") for number in range(STREAMS)), 0)
    while left > 0:
        after = dict(versions)
        try:
            with transaction.atomic():
                for _ in range(choice.randint(1, 3)):
                    written = choice.sample(list(versions), choice.randint(1, 3))
                    appends = [
                        Append(
                            stream_of(account),
                            after[account],
                            [MoneyPaidIn(account_id=account, amount=1)] * choice.randint(1, 4),
                        )
                        for account in written
                    ]
                    store.append_all(appends)
                    for account, append in zip(written, appends, strict=True):
                        after[account] += len(append.events)
                    if choice.random() < 0.1:
                        time.sleep(choice.random() * 0.02)
                if choice.random() < 0.2:
                    raise ChangedItsMind
        except ChangedItsMind:
            continue
        left -= sum(after.values()) - sum(versions.values())
        versions = after
    print(*(f"{account}={version}" for account, version in versions.items()))  # noqa: T201 - a program's output


def relay() -> None:
    """Relay until told to end, and then until nothing is left."""
    until_told = _until_told()
    while not until_told() or OutboxEntry.objects.exists():
        if not sum(relay_all()):
            time.sleep(0.002)


def follow(name: str) -> None:
    """Advance a subscription until told to end, and then until it has seen everything that was ever written."""
    subscription, until_told = subscription_named(name), _until_told()
    while True:
        told = until_told()
        if not any(advance(subscription, partition) for partition in range(subscription.partitions)):
            if told and not OutboxEntry.objects.exists() and not is_behind(name):
                return
            time.sleep(0.002)


def is_behind(name: str) -> bool:
    """Whether a partition of the subscription has events of the log before it."""
    return Checkpoint.objects.filter(subscription=name, position__lt=checkpoints.head()).exists()


def pay_until_killed(account: str) -> None:
    """Append one event after another."""
    stream = stream_of(UUID(account))
    version = store.version(stream)
    print("ready", flush=True)  # noqa: T201 - a program's output
    while True:
        store.append(stream, [MoneyPaidIn(account_id=UUID(account), amount=1)], expected=version)
        version += 1


def project_to_death(name: str) -> None:
    """Advance a subscription in workers that a poisonous event kills, until one lives. Prints how many didn't."""

    def apply(self: object, row: object, event: object, record: object) -> None:
        if getattr(event, "amount", 0) == projections.POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        digest(self, row, event, record)  # type: ignore[arg-type]

    projections.poisoned = False
    digest, projections.Balances.apply = projections.Balances.apply, apply  # type: ignore[method-assign]
    deaths = 0
    while worker := os.fork():
        _, status = os.waitpid(worker, 0)
        if os.WIFEXITED(status):
            print(deaths)  # noqa: T201 - a program's output
            return
        deaths += 1
    Checkpoint.objects.filter(subscription=name).update(begun_at=None)  # as after the second that a sweep takes
    while advance(subscription_named(name), 0):
        pass
    os._exit(0)


def post_slowly() -> None:
    """Begin to perform an effect, and never end."""

    def post(event: AccountClosed, delivery: Delivery) -> None:
        print("posting", flush=True)  # noqa: T201 - a program's output
        time.sleep(60)

    effects.post = post
    farewell = subscription_named("eventing.farewell")
    assert isinstance(farewell, EffectSubscription)
    perform_due(farewell, budget=0)


def send_and_be_killed(endpoint: str) -> None:
    """Send a webhook, and die before what came back is written down."""
    deliveries.settle = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    announcing.send_due(subscription_named(SUBSCRIPTION), UUID(endpoint), budget=0)


def replay_slowly(name: str, *options: str) -> None:
    """Rebuild a projection in small steps."""
    _project_slowly()
    call_command("replay_projection", name, *options)


def work_slowly_on_the_replay_of(name: str) -> None:
    """Be a worker that goes on with a replay, in small steps."""
    _project_slowly()
    replay.work_on(replay.projection_named(name), budget=60)


def _project_slowly() -> None:
    def slowly(self: object, row: object, event: object, record: object) -> None:
        time.sleep(0.2)
        digest(self, row, event, record)  # type: ignore[arg-type]

    digest, projections.Balances.apply = projections.Balances.apply, slowly  # type: ignore[method-assign]
    replay.BATCH = 2


def verify_slowly() -> None:
    """Verify the log with a pause after each chunk, which is told on standard error."""

    def slowly(self: Verification) -> Iterator[int]:
        for done in steps(self):
            print(done, file=sys.stderr, flush=True)  # noqa: T201 - a program's output
            time.sleep(0.2)
            yield done

    steps, Verification.steps = Verification.steps, slowly  # type: ignore[method-assign]
    call_command("verify_events", "--json")


def _until_told() -> Callable[[], bool]:
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    return lambda: bool(told)
