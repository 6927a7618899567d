"""All that is written anywhere about one order: its events, and what others keep about what came of them.

By the names of its streams and by positions, so that a log of millions of events costs no more than a short one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Q

from eventing import personal, resuming
from eventing.domain import Event
from eventing.models import Attempt, Delivery, JobLetter, LetterGroup, LetterJob, SagaInstance
from eventing.records import RECORD_COLUMNS, Stored, UnknownEvent, decode, decode_all
from eventing.saga_history import StepShown, history_of
from eventing.statements import run
from eventing.subscriptions import UnknownSubscription, subscriptions
from eventing.upcasting import UnknownVersion
from inventory.events import (
    InventoryReserved,
    ReservationCommitted,
    ReservationReleased,
    StockReceived,
    StockReleased,
    StockReserved,
    StockShipped,
)
from orders.events import ItemsReturned
from orders.models import OrderSummary
from payments.commands import payment_of
from payments.events import PaymentCompleted
from payments.models import GatewayEntry
from shipping.commands import shipment_of
from shipping.models import Consignment, ShipmentSummary

UNREADABLE = (UnknownEvent, UnknownVersion, msgspec.ValidationError)
MOST = 1_000  # events, and failed attempts, that are looked at
NEAR = 2_000  # positions around a reservation's or a return's event, between which is what stock made of it

# The events of an order's own streams, in the order in which they were recorded.
EVENTS = f"""
SELECT {RECORD_COLUMNS}, coalesce((SELECT position FROM eventing_log WHERE event_id = eventing_event.id), 0)
FROM eventing_event JOIN unnest(%(categories)s::text[], %(ids)s::text[]) AS wanted (category, stream_id)
    USING (category, stream_id)
ORDER BY recorded_at, id LIMIT %(limit)s
"""

# Stock's events of an order. Their streams are the articles', which have those of all orders; but they were appended
# together with the reservation's, or soon after a return, so their positions are close. OFFSET keeps the planner from
# looking for an order's events in the whole table, which has no index on what is in them, rather than at those few.
STOCK = f"""
SELECT {RECORD_COLUMNS}, position
FROM (
    SELECT DISTINCT position, event_id FROM unnest(%(positions)s::bigint[]) AS step
    JOIN eventing_log ON position BETWEEN step - %(near)s AND step + %(near)s AND type = ANY(%(types)s)
) AS beside
CROSS JOIN LATERAL (SELECT * FROM eventing_event WHERE id = beside.event_id OFFSET 0) AS event
WHERE data ->> 'order_id' = %(order_id)s OR causation_id = ANY(%(returns)s)
ORDER BY position LIMIT %(limit)s
"""

RESERVATIONS = (InventoryReserved, ReservationReleased, ReservationCommitted)
STOCK_TYPES = [each.stored_name for each in (StockReceived, StockReserved, StockReleased, StockShipped)]


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """An event. ``event`` is None for one that today's program can't read; ``data`` is its JSON as it may be shown."""

    id: UUID
    category: str
    version: int
    type: str
    event: Event | None
    data: Any
    occurred_at: Any
    recorded_at: Any
    correlation_id: UUID
    causation_id: UUID | None
    actor: str
    position: int


class SagaTold(msgspec.Struct, frozen=True, kw_only=True):
    """A saga of the order, and its steps."""

    saga: SagaInstance
    steps: list[StepShown]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an order. ``events`` are those of its own streams, ``stock`` those of articles; the rest is what
    sagas, effects, the gateway, the carrier and operators have written."""

    order_id: UUID
    events: list[Happened]
    stock: list[Happened]
    sagas: list[SagaTold]
    deliveries: list[Delivery]
    attempts: list[Attempt]
    gateway: list[GatewayEntry]
    consignments: list[Consignment]
    acts: list[LogEntry]

    @property
    def is_cut(self) -> bool:
        """Whether there's more than is looked at."""
        return len(self.events) == MOST

    def of(self, category: str) -> list[Happened]:
        """The events of one kind of stream."""
        return [each for each in self.events if each.category == category]


def history(order_id: UUID, *, with_personal_data: bool) -> History:
    """Everything about an order, by a number of queries that doesn't grow with it. Personal fields are hidden from
    those who may not see them."""
    streams = {
        "order": order_id,
        "payment": payment_of(order_id),
        "reservation": order_id,
        "shipment": shipment_of(order_id),
    }
    named = {"categories": list(streams), "ids": [str(each) for each in streams.values()], "limit": MOST}
    events = _happened(run(EVENTS, named), with_personal_data)
    deliveries = _deliveries(events)
    sagas = _sagas(order_id, with_personal_data)
    return History(
        order_id=order_id,
        events=events,
        stock=_stock(order_id, events, with_personal_data),
        sagas=sagas,
        deliveries=deliveries,
        attempts=list(Attempt.objects.filter(delivery__in=deliveries).order_by("pk")[:MOST]),
        gateway=_gateway(order_id, events),
        consignments=list(Consignment.objects.filter(key=str(shipment_of(order_id)))),
        acts=_acts(order_id, deliveries, sagas),
    )


def _stock(order_id: UUID, events: Sequence[Happened], with_personal_data: bool) -> list[Happened]:
    steps = [each for each in events if isinstance(each.event, (*RESERVATIONS, ItemsReturned)) and each.position]
    if not steps:
        return []
    near = {
        "positions": [each.position for each in steps],
        "near": NEAR,
        "types": STOCK_TYPES,
        "order_id": str(order_id),
        "returns": [each.id for each in steps if isinstance(each.event, ItemsReturned)],
        "limit": MOST,
    }
    return _happened(run(STOCK, near), with_personal_data)


def _happened(rows: Sequence[tuple[Any, ...]], with_personal_data: bool) -> list[Happened]:
    stored = [Stored(*row[4:7]) for row in rows]
    texts = personal.opened([each.data for each in stored]) if with_personal_data else [each.data for each in stored]
    return [
        Happened(
            id=row[0],
            category=row[1],
            version=row[3],
            type=row[4],
            event=event,
            data=personal.masked(msgspec.json.decode(text)),
            occurred_at=row[7],
            recorded_at=row[8],
            correlation_id=row[9],
            causation_id=row[10],
            actor=row[11],
            position=row[13],
        )
        for row, event, text in zip(rows, _readable(stored), texts, strict=True)
    ]


def _readable(stored: Sequence[Stored]) -> list[Event | None]:
    """The events that the program of today can read; a page about an order with one that it can't is still a page."""

    def one_by_one() -> Iterator[Event | None]:
        for each in stored:
            try:
                yield decode(each)
            except UNREADABLE:
                yield None

    try:
        return [*decode_all(stored)]
    except UNREADABLE:
        return list(one_by_one())


def _deliveries(events: Sequence[Happened]) -> list[Delivery]:
    """Jobs and letters of these events, by the index over subscription and position."""
    positions = [each.position for each in events if each.position]
    names = [each.name for each in subscriptions()]
    found = Delivery.objects.filter(subscription__in=names, position__in=positions)
    return list(found.defer("traceback").order_by("position", "id"))


def _sagas(order_id: UUID, with_personal_data: bool) -> list[SagaTold]:
    names = [each.name for each in resuming.sagas()]
    found = SagaInstance.objects.filter(saga__in=names, key=order_id).order_by("pk")
    return [
        SagaTold(saga=saga, steps=history_of(saga, with_personal_data=with_personal_data))
        for saga in found
        if _is_defined(saga)
    ]


def _is_defined(saga: SagaInstance) -> bool:
    try:
        return bool(resuming.saga_named(saga.saga))
    except UnknownSubscription:
        return False


def _gateway(order_id: UUID, events: Sequence[Happened]) -> list[GatewayEntry]:
    charges = [each.event.reference for each in events if isinstance(each.event, PaymentCompleted)]
    asked = Q(key=str(payment_of(order_id))) | Q(charge__in=[each for each in charges if each])
    return list(GatewayEntry.objects.filter(asked).order_by("created_at", "key")[:MOST])


def _acts(order_id: UUID, deliveries: Sequence[Delivery], sagas: Sequence[SagaTold]) -> list[LogEntry]:
    """What operators did about the order, its letters and its sagas, alone or together with those of other orders."""
    types = ContentType.objects.get_for_models(
        OrderSummary, Delivery, SagaInstance, ShipmentSummary, LetterGroup, LetterJob
    )
    about = (
        Q(content_type=types[OrderSummary], object_id=str(order_id))
        | Q(content_type=types[Delivery], object_id__in=[str(each.pk) for each in deliveries])
        | Q(content_type=types[SagaInstance], object_id__in=[str(each.saga.pk) for each in sagas])
        | Q(content_type=types[ShipmentSummary], object_id=str(shipment_of(order_id)))
    )
    if failed := [each for each in deliveries if each.signature]:
        jobs = JobLetter.objects.filter(delivery__in=failed).order_by().values_list("job_id", flat=True).distinct()
        about |= Q(content_type=types[LetterJob], object_id__in=[str(each) for each in jobs])
        about |= Q(
            # A note about many letters is at their group, or at the first, which may be another order's. It names them.
            content_type__in=(types[Delivery], types[LetterGroup]),
            action_time__gte=min(each.created_at for each in failed),
            change_message__regex=_naming(each.pk for each in failed),
        )
    return list(LogEntry.objects.filter(about).select_related("user").order_by("action_time", "pk")[:MOST])


def _naming(letters: Iterable[int]) -> str:
    """What a note's JSON looks like that names any of these letters. Nothing that somebody writes looks the same, for
    quotes within a text are escaped."""
    return rf'"letter_ids":\[([0-9]+,)*({"|".join(map(str, letters))})[],]'
