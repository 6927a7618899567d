"""The bank as a program, for tests of processes that can be killed: ``python -m eventing.tests.bank WHAT …``."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from uuid import UUID, uuid5

import django

django.setup()

from django.db import connection, transaction

from eventing import checkpoints, store
from eventing.advance import advance
from eventing.models import OutboxEntry
from eventing.relay import relay_all
from eventing.store import Append
from eventing.subscriptions import subscription_named
from eventing.tests.bank import projections
from eventing.tests.bank.customers import stream_of
from eventing.tests.bank.events import MoneyPaidIn

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
    """Advance a subscription until told to end, and then until it has seen everything."""
    subscription, until_told = subscription_named(name), _until_told()
    while True:
        told = until_told()
        if not any([advance(subscription, partition) for partition in range(subscription.partitions)]):
            if told and subscription_is_at_head(name):
                return
            time.sleep(0.002)


def subscription_is_at_head(name: str) -> bool:
    from eventing.models import Checkpoint

    return not Checkpoint.objects.filter(subscription=name, position__lt=checkpoints.head()).exists()


def pay_until_killed(account: str) -> None:
    """Append one event after another."""
    stream = stream_of(UUID(account))
    version = store.version(stream)
    print("ready", flush=True)  # noqa: T201 - a program's output
    while True:
        store.append(stream, [MoneyPaidIn(account_id=UUID(account), amount=1)], expected=version)
        version += 1


def project_to_death(name: str) -> None:
    """Advance a subscription with a handler that kills its process at a poisonous event."""

    def apply(self: object, row: object, event: object, record: object) -> None:
        if getattr(event, "amount", 0) == projections.POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        digest(self, row, event, record)  # type: ignore[arg-type]

    projections.poisoned = False
    digest, projections.Balances.apply = projections.Balances.apply, apply  # type: ignore[method-assign, assignment]
    subscription = subscription_named(name)
    while any([advance(subscription, partition) for partition in range(subscription.partitions)]):
        pass


def _until_told():  # type: ignore[no-untyped-def]
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    return lambda: bool(told)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    globals()[what](*arguments)
    connection.close()
