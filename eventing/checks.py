"""System checks: a message for each way to hold it wrong, with what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.db import OperationalError, ProgrammingError, connection

from eventing import person_keys, personal, states
from eventing.domain import Command, Event
from eventing.effects import EffectSubscription
from eventing.event_map import sent_by
from eventing.evolution import Rule, findings
from eventing.handlers import handlers
from eventing.kinds import aggregates, emitted_by
from eventing.models import Checkpoint
from eventing.projections import ProjectionSubscription
from eventing.records import event_classes
from eventing.replay import needing_replay
from eventing.sagas import SagaSubscription
from eventing.subscriptions import MOST_PARTITIONS, Subscription, name_of, subscriptions

OLDEST_POSTGRESQL = 15
SCHEMA_CHECKS = {
    Rule.UNDESCRIBABLE: "E017",
    Rule.CODE_LOST: "E019",
    Rule.CONTRACT_LOST: "E020",
    Rule.UNREADABLE: "E020",
    Rule.UNORDERED: "E020",
    Rule.UPCASTER_MISSING: "E021",
    Rule.UPCASTER_TWICE: "E021",
    Rule.UPCASTER_TOO_MUCH: "E021",
    Rule.UPCASTER_OF_NO_EVENT: "E022",
    Rule.NOT_COMMITTED: "W002",
    Rule.NOT_ACCEPTED: "W003",
}
"""The ids of the messages; what breaks one of Avro's rules is E018."""


def register() -> None:
    """Let `manage.py check`, and everything that runs it, ask these questions."""
    for check in (commands, events, persons, schemas, snapshots, consumers, celery):
        checks.register(check, "eventing")
    checks.register(database, checks.Tags.database)


def commands(**_: Any) -> Iterator[CheckMessage]:
    """Each command that is sent has a handler, and none has two."""
    for command, found in handlers().items():
        if not (isinstance(command, type) and issubclass(command, Command)):
            yield Error(
                f"{name_of(found[0].function)} handles {command!r}, which is no command.",
                hint="Annotate its parameter with a subclass of eventing.domain.Command.",
                id="eventing.E001",
            )
        elif len(found) > 1:
            yield Error(
                f"{name_of(command)} has {len(found)} handlers: "
                f"{', '.join(name_of(handler.function) for handler in found)}.",
                hint="A command has exactly one handler. React to its event instead.",
                id="eventing.E002",
            )
    for subscription in subscriptions():
        for command in sent_by(subscription):
            if command not in handlers():
                yield Error(
                    f"{subscription.name} sends {name_of(command)}, which nobody handles.",
                    hint="Write a function with @handles in the `handlers` module of the command's context.",
                    id="eventing.E003",
                )


def events(**_: Any) -> Iterator[CheckMessage]:
    """Each event has a stored name of its own."""
    names = Counter(event.stored_name for event in event_classes())
    for event in event_classes():
        if not event.stored_name:
            yield Error(
                f"{name_of(event)} has no stored name.",
                hint=f'Give it one that will never change: class {event.__name__}(Event, name="…").',
                id="eventing.E004",
            )
        elif names[event.stored_name] > 1:
            yield Error(
                f"{name_of(event)} has the stored name {event.stored_name!r}, and so has another event.",
                hint="Stored events are told apart by their name: give the newer class another one.",
                id="eventing.E005",
            )
    categories = Counter(kind.category for kind in aggregates())
    for kind in aggregates():
        if not kind.category or categories[kind.category] > 1:
            yield Error(
                f"{name_of(kind)} has no stream category of its own: {kind.category!r}.",
                hint=f'Give it one that will never change: class {kind.__name__}(Aggregate[…], category="…").',
                id="eventing.E006",
            )


def snapshots(**_: Any) -> Iterator[CheckMessage]:
    """Aggregates of which snapshots are taken have a state that can be written and read back."""
    for kind in aggregates():
        for complaint in states.complaints(kind) if kind.snapshot_every else ():
            yield Error(
                f"No snapshots can be taken of {name_of(kind)}: {complaint}.",
                hint="Give each attribute of its state a value in the class, and an annotation where that doesn't say "
                "all, such as `lines: tuple[Line, ...] = ()`.",
                id="eventing.E023",
            )


def persons(**_: Any) -> Iterator[CheckMessage]:
    """What is personal has a person, and something to read as once that person is forgotten."""
    sagas = [each.saga_class for each in subscriptions() if isinstance(each, SagaSubscription)]
    for struct in [*event_classes(), *sagas]:
        for complaint in personal.complaints(struct):
            yield Error(
                f"{name_of(struct)}: {complaint}.",
                hint='Declare it like this: contact: Annotated[Contact | None, Personal("customer_id")].',
                id="eventing.E024",
            )


def schemas(**_: Any) -> Iterator[CheckMessage]:
    """Today's code can read every event ever stored, and the schemas that are committed say what it writes."""
    try:
        found = findings()
    except ValueError as error:
        yield Error(f"{error}.", hint="Restore the file from version control.", id="eventing.E020")
        return
    for finding in found:
        kind = Error if (id := SCHEMA_CHECKS.get(finding.rule, "E018")).startswith("E") else checks.Warning
        yield kind(finding.problem, hint=finding.remedy, id=f"eventing.{id}")


def consumers(**_: Any) -> Iterator[CheckMessage]:
    """Each subscription consumes events that somebody emits, and can put them in order."""
    emitted = {event for kind in aggregates() for event in emitted_by(kind)}
    for subscription in subscriptions():
        for event in subscription.events:
            yield from _consumed(subscription, event, emitted)
        if not 1 <= subscription.partitions <= MOST_PARTITIONS:
            yield Error(
                f"{subscription.name} has {subscription.partitions} partitions.",
                hint=f"Choose from 1 to {MOST_PARTITIONS}.",
                id="eventing.E009",
            )
    models = Counter(each.projection.model for each in subscriptions() if isinstance(each, ProjectionSubscription))
    for model, count in models.items():
        if count > 1:
            yield Error(
                f"{model._meta.label} is written by {count} projections.",
                hint="A read model has one projection, which can then be replayed: merge them.",
                id="eventing.E010",
            )


def _consumed(subscription: Subscription, event: type[Any], emitted: set[type[Event]]) -> Iterator[CheckMessage]:
    if not (isinstance(event, type) and issubclass(event, Event)):
        yield Error(
            f"{subscription.name} consumes {event!r}, which is no event.",
            hint="Annotate the `event` parameter with events, and nothing else.",
            id="eventing.E007",
        )
    elif event not in emitted:
        yield Error(
            f"{subscription.name} consumes {name_of(event)}, which nobody emits.",
            hint="Name it in the class line of the aggregate that records it, or consume another event.",
            id="eventing.E007",
        )
    elif subscription.key and subscription.key not in event.__struct_fields__:
        yield Error(
            f"{subscription.name} is ordered by {subscription.key!r}, which {name_of(event)} doesn't have.",
            hint="Give the event that field, or choose another key.",
            id="eventing.E008",
        )


def celery(**_: Any) -> Iterator[CheckMessage]:
    """Celery is set so that it neither loses work nor keeps workers from noticing a broken connection."""
    wanted = {
        "CELERY_TASK_ACKS_LATE": (True, "a task whose worker is killed would be lost"),
        "CELERY_TASK_REJECT_ON_WORKER_LOST": (True, "a task whose process is killed would be lost"),
        "CELERY_TASK_ALWAYS_EAGER": (False, "tasks would run inside of the transaction that nudges them"),
        "CELERY_WORKER_PREFETCH_MULTIPLIER": (
            1,
            "tasks would wait behind a slow one while other workers are free",
        ),
    }
    for name, (value, reason) in wanted.items():
        if getattr(settings, name, False) != value:
            yield Error(f"{name} isn't {value}: {reason}.", hint=f"Set {name} = {value}.", id="eventing.E011")
    options = getattr(settings, "CELERY_BROKER_TRANSPORT_OPTIONS", {})
    limit = getattr(settings, "CELERY_TASK_TIME_LIMIT", None)
    if settings.CELERY_BROKER_URL.startswith("redis") and (
        limit is None or options.get("visibility_timeout", 3600) <= limit
    ):
        yield Error(
            "Redis would hand out a task again while it still runs.",
            hint="Set CELERY_TASK_TIME_LIMIT, and a longer visibility_timeout in CELERY_BROKER_TRANSPORT_OPTIONS.",
            id="eventing.E012",
        )
    database = settings.DATABASES["default"]
    if getattr(settings, "CELERY_DB_REUSE_MAX", None) and not database.get("CONN_HEALTH_CHECKS"):
        yield Error(
            "Workers reuse their database connection without checking it: one that the server ended fails every task.",
            hint='Set DATABASES["default"]["CONN_HEALTH_CHECKS"] = True.',
            id="eventing.E013",
        )
    yield from _queues()


def _queues() -> Iterator[CheckMessage]:
    served = set(settings.EVENTING["QUEUES"])
    for subscription in subscriptions():
        if isinstance(subscription, EffectSubscription) and subscription.queue not in served:
            yield Error(
                f"{subscription.name} wants workers of the queue {subscription.queue!r}, which nobody serves.",
                hint='Add it to EVENTING["QUEUES"] and to a worker\'s -Q, or choose one of '
                f"{', '.join(sorted(served))}.",
                id="eventing.E014",
            )


def database(*, databases: Sequence[str] | None = None, **_: Any) -> Iterator[CheckMessage]:
    """The server is new enough, and the checkpoints fit the subscriptions."""
    if not databases or connection.alias not in databases:
        return
    try:
        with connection.temporary_connection():
            version: int = connection.pg_version  # type: ignore[attr-defined]
            stored = Counter(Checkpoint.objects.values_list("subscription", flat=True))
            outdated = needing_replay()
            unknown_keys = person_keys.wrapped_by().keys() - settings.EVENTING["PERSON_KEYS"]
    except (OperationalError, ProgrammingError):
        return  # no server, or not migrated yet: Django says so itself
    if version // 10_000 < OLDEST_POSTGRESQL:
        yield Error(
            f"PostgreSQL {version // 10_000} is too old.",
            hint=f"Waybill needs PostgreSQL {OLDEST_POSTGRESQL} or newer.",
            id="eventing.E015",
        )
    known = {subscription.name: subscription for subscription in subscriptions()}
    for name, subscription in known.items():
        if name in stored and stored[name] != subscription.partitions:
            yield Error(
                f"{name} is declared with {subscription.partitions} partitions, but has {stored[name]} checkpoints.",
                hint=f"Let it catch up, then run `manage.py subscriptions repartition {name}`.",
                id="eventing.E016",
            )
    for name in sorted(unknown_keys):
        yield Error(
            f"Keys of persons are encrypted with {name!r}, which PERSONAL_DATA_KEYS doesn't have.",
            hint="Put it back there. `manage.py rotate_person_keys` says when it can go.",
            id="eventing.E025",
        )
    for name in outdated:
        yield checks.Warning(
            f"The read model of {name} was built by another version of it.",
            hint=f"Run `manage.py replay_projection {name}`: it's rebuilt beside the live one, which serves meanwhile.",
            id="eventing.W004",
        )
    for name in sorted(set(stored) - set(known)):
        yield checks.Warning(
            f"There are checkpoints of {name}, which isn't a subscription any more.",
            hint="If it was renamed, give it its old name; if it's gone, delete its checkpoints.",
            id="eventing.W001",
        )
