"""What happened to an order, in one list: who did it, when, and because of what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec
from django.urls import NoReverseMatch, reverse
from django.utils.timezone import localtime

from config.dashboard.history import Happened, History
from config.dashboard.sentences import articles, sentence, words
from eventing import audit
from eventing.domain import RESUMED, Event
from eventing.models import Attempt, Delivery
from eventing.money import Money
from eventing.saga_history import CommandShown, StepShown
from eventing.subscriptions import Subscription, UnknownSubscription, subscription_named
from inventory.events import (
    InventoryReservationFailed,
    InventoryReserved,
    StockReceived,
    StockReleased,
    StockReserved,
    StockShipped,
)
from orders.events import (
    OrderCancelled,
    OrderConfirmed,
    OrderDelivered,
)
from payments.events import PaymentCompleted, PaymentFailed, PaymentRequested, RefundRequested
from payments.models import GatewayEntry
from shipping.events import (
    BookingDiscarded,
    ShipmentCreated,
)

StockMoved = StockReceived | StockReserved | StockReleased | StockShipped

KINDS = {
    "event": "Events",
    "saga": "Saga steps",
    "job": "Jobs and retries",
    "outside": "Gateway and carrier",
    "act": "Operators",
}
DEEPEST = 6  # steps to the right; what is deeper stays there
LONGEST = 20_000  # characters of one entry's JSON


class Entry(msgspec.Struct, kw_only=True):
    """One thing that happened. ``name`` is its own on the page, ``because`` that of what led to it; ``look`` is good,
    bad, waiting or nothing; ``more`` is its JSON."""

    name: str
    kind: str
    at: datetime
    title: str
    who: str = ""
    look: str = ""
    says: str = ""
    amount: str = ""
    link: str = ""
    because: str = ""
    more: str = ""
    occurred_at: datetime | None = None
    position: int = 0
    cause: Entry | None = None
    number: int = 0
    depth: int = 0


def timeline(history: History, *, with_personal_data: bool) -> list[Entry]:
    """Everything in the order in which it happened, causes before what they caused."""
    entries = [
        *map(_of_event, history.events),
        *_of_stock(history.stock),
        *(_of_step(each.saga.saga, each.saga.key, step) for each in history.sagas for step in each.steps),
        *map(_of_job, history.deliveries),
        *(_of_attempt(each, with_personal_data) for each in history.attempts),
        *_of_gateway(history),
        *_of_carrier(history),
        *(
            Entry(
                name=f"act-{act.pk}",
                kind="act",
                at=act.action_time,
                title=_told_act(told := audit.told(act)),
                who=act.user.get_username(),
                more=_json(told),
            )
            for act in history.acts
        ),
    ]
    return _numbered(_caused(entries, history))


def link_to(name: str, *args: Any) -> str:
    """The address of a page, or nothing where there's none."""
    try:
        return reverse(name, args=args)
    except NoReverseMatch:
        return ""


def _of_event(each: Happened) -> Entry:
    money = getattr(each.event, "refund", None) or getattr(each.event, "total", None)
    amount = money or getattr(each.event, "amount", None)
    return Entry(
        name=f"event-{each.id}",
        kind="event",
        at=each.recorded_at,
        title=sentence(each.event) if each.event else f"{words(each.type)}, which this program can't read",
        who=each.actor,
        look=_look(each.event),
        says=f"{each.category} at version {each.version}",
        amount=str(amount) if isinstance(amount, Money) else "",
        link=link_to("admin:eventing_storedevent_change", each.id),
        more=_json({"type": each.type, **each.data}),
        occurred_at=each.occurred_at if abs((each.recorded_at - each.occurred_at).total_seconds()) >= 1 else None,
        position=each.position,
    )


def _of_stock(events: Sequence[Happened]) -> Iterator[Entry]:
    """What was received, reserved, released or shipped at one time, as one entry."""
    for (at, type_), group in groupby(sorted(events, key=_together), key=_together):
        each = list(group)
        moved = [found.event for found in each if isinstance(found.event, StockMoved)]
        units = ", ".join(f"{found.quantity:,} of {found.sku}" for found in moved[:3])
        more = f" and {len(moved) - 3:,} more articles" if len(moved) > 3 else ""
        yield Entry(
            name=f"event-{each[0].id}",
            kind="event",
            at=at,
            title=f"{words(type_)}: {units}{more}",
            who=each[0].actor,
            says=articles(len(each)),
            more=_json([found.data for found in each]),
            position=each[0].position,
        )


def _together(each: Happened) -> tuple[datetime, str]:
    return each.recorded_at, each.type


def _of_step(saga: str, key: UUID, step: StepShown) -> Entry:
    came_in = words(step.event) if step.event else _reminder(step)
    refused = [command for command in step.commands if command.refused]
    return Entry(
        name=f"step-{saga}-{step.number}",
        kind="saga",
        at=step.taken_at,
        title=f"{came_in} → {step.state}",
        who=saga,
        look="bad" if refused or step.state == "FAILED" else "",
        says="It had ended before: nothing was done." if step.late else _asked(step.commands),
        link=link_to("operations:saga", saga, key),
        more=_json({"commands": [msgspec.to_builtins(each) for each in step.commands], "memory": step.memory}),
    )


def _reminder(step: StepShown) -> str:
    if step.letter:
        return f"Letter {step.letter} was given up"
    return "A person resumed it" if step.reminder == RESUMED else f"Its reminder about “{step.reminder}”"


def _asked(commands: Iterable[CommandShown]) -> str:
    asked = "; ".join(f"{each.name}, refused: {each.refused}" if each.refused else each.name for each in commands)
    return f"Asked for: {asked}" if asked else "Asked for nothing"


def _of_job(job: Delivery) -> Entry:
    kind = "letter" if job.state in Delivery.OPEN and job.error else "job"
    tried = f"{job.attempts} {'attempt' if job.attempts == 1 else 'attempts'} of {_attempts_of(job.subscription)}"
    ended = {"done": "done", "skipped": f"skipped: {job.reason}", "dead": "not tried any more"}
    due = f"next at {localtime(job.due_at):%H:%M:%S %Z}"
    return Entry(
        name=f"job-{job.pk}",
        kind="job",
        at=job.created_at,
        title=f"{'Letter' if kind == 'letter' else 'Job'} of {job.subscription}: {ended.get(job.state, job.state)}",
        who=job.subscription,
        look={"done": "good", "dead": "bad", "skipped": ""}.get(job.state, "waiting"),
        says=f"{tried}, {due}" if job.state == Delivery.State.WAITING else tried,
        link=link_to("operations:letter", job.pk) if job.error or job.attempts > 1 else "",
    )


def _attempts_of(name: str) -> int:
    subscription: Subscription | None = None
    try:
        subscription = subscription_named(name)
    except UnknownSubscription:
        return 0
    return subscription.attempts


def _of_attempt(attempt: Attempt, with_personal_data: bool) -> Entry:
    error = attempt.error if with_personal_data else attempt.error.partition(":")[0]  # the rest may tell of a person
    return Entry(
        name=f"attempt-{attempt.pk}",
        kind="job",
        at=attempt.failed_at,
        title=f"Attempt {attempt.number} failed: {error}",
        who=attempt.worker,
        look="bad",
        because=f"job-{attempt.delivery_id}",
    )


def _of_gateway(history: History) -> Iterator[Entry]:
    jobs = {key: job for job in history.deliveries if (key := _gateway_key(history, job))}
    for each in history.gateway:
        yield Entry(
            name=f"gateway-{each.key}",
            kind="outside",
            at=each.created_at,
            title=f"Gateway: {each.kind} {each.get_outcome_display().lower()}",
            who="the gateway's own record",
            look="good" if each.outcome == GatewayEntry.Outcome.SUCCEEDED else "bad",
            says=f"{each.reference or each.code}, asked {'once' if each.asks == 1 else f'{each.asks} times'}",
            amount=str(Money(minor=each.amount_minor, currency=each.currency)),
            because=f"job-{jobs[each.key].pk}" if each.key in jobs else "",
        )


def _gateway_key(history: History, job: Delivery) -> str:
    """The key that a job asks the gateway with."""
    event = next((each.event for each in history.events if each.position == job.position), None)
    match job.subscription, event:
        case "payments.charge", PaymentRequested():
            return str(event.payment_id)
        case "payments.refund", RefundRequested(refund_id=None):
            return f"{event.payment_id}-refund"
        case "payments.refund", RefundRequested():
            return f"{event.payment_id}-refund-{event.refund_id}"
        case _:
            return ""


def _of_carrier(history: History) -> Iterator[Entry]:
    jobs = {job.subscription: f"job-{job.pk}" for job in history.deliveries}
    for each in history.consignments:
        asked = f"asked {'once' if each.asks == 1 else f'{each.asks} times'}"
        yield Entry(
            name=f"carrier-{each.key}",
            kind="outside",
            at=each.booked_at,
            title=f"Carrier: booked as {each.tracking_number}",
            who="the carrier's own record",
            look="good",
            says=asked,
            because=jobs.get("shipping.book", ""),
        )
        if each.voided_at:
            yield Entry(
                name=f"carrier-{each.key}-void",
                kind="outside",
                at=each.voided_at,
                title=f"Carrier: {each.tracking_number} void",
                who="the carrier's own record",
                because=jobs.get("shipping.void", ""),
            )


def _caused(entries: list[Entry], history: History) -> list[Entry]:
    """The entries, each with what led to it."""
    named = {each.name: each for each in entries}
    by_actor = {
        (each.saga.saga, step.event_id): f"step-{each.saga.saga}-{step.number}"
        for each in history.sagas
        for step in each.steps
        if step.event_id
    } | {(job.subscription, job.event_id): f"job-{job.pk}" for job in history.deliveries}
    for each in [*history.events, *history.stock]:
        if (entry := named.get(f"event-{each.id}")) and each.causation_id:
            entry.because = by_actor.get((each.actor, each.causation_id), f"event-{each.causation_id}")
    for told in history.sagas:
        for step in told.steps:
            led_to_it = f"job-{step.letter}" if step.letter else f"event-{step.event_id}"
            named[f"step-{told.saga.saga}-{step.number}"].because = led_to_it
    for job in history.deliveries:
        named[f"job-{job.pk}"].because = f"event-{job.event_id}"
    for entry in entries:
        entry.cause = named.get(entry.because)
        if entry.cause and entry.cause.kind == "saga":
            entry.cause.at = min(entry.cause.at, entry.at)  # a step is written after what it asked for, at one time
    return entries


ORDER = ("act", "saga", "job", "outside", "event")  # of what is written at the same time


def _numbered(entries: list[Entry]) -> list[Entry]:
    entries.sort(key=lambda entry: (entry.at, ORDER.index(entry.kind), entry.position or 2**63, entry.name))
    for number, entry in enumerate(entries, 1):
        entry.number = number
        entry.depth = min(entry.cause.depth + 1, DEEPEST) if entry.cause and entry.cause.number else 0
    return entries


def _look(event: Event | None) -> str:
    match event:
        case OrderConfirmed() | OrderDelivered() | PaymentCompleted() | InventoryReserved() | ShipmentCreated():
            return "good"
        case OrderCancelled() | PaymentFailed() | InventoryReservationFailed() | BookingDiscarded():
            return "bad"
        case _:
            return ""


def _told_act(told: dict[str, Any]) -> str:
    reason = told.get("reason")
    return f"{str(told['act']).capitalize()}{f': {reason}' if reason else ''}"


def _json(value: Any) -> str:
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
