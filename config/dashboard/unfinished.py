"""Why an order isn't finished, in one sentence, and what helps: the nearest cause first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec
from django.db.models import Min
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.timezone import localtime

from config.dashboard.history import History
from config.dashboard.timeline import link_to
from eventing import checkpoints
from eventing.domain import Event
from eventing.event_map import sent_by
from eventing.models import Checkpoint, Delivery, OutboxEntry, SagaInstance
from eventing.sagas import SagaSubscription
from eventing.subscriptions import Subscription, subscriptions
from inventory.events import InventoryReservationFailed, InventoryReserved, ReservationReleased
from orders.events import OrderCancelled, OrderConfirmed, OrderDelivered, OrderPlaced, OrderShipped
from payments.events import PaymentCompleted, PaymentFailed, PaymentRefunded, PaymentRequested, RefundRequested
from shipping.events import BookingDiscarded, ShipmentCancelled, ShipmentCleared, ShipmentCreated, ShipmentRequested

E = TypeVar("E", bound=Event)

SLOW = timedelta(seconds=10)  # what takes longer isn't just on its way
WAITS_FOR = {
    "payments.charge": "the gateway to take the payment",
    "payments.refund": "the gateway to give the money back",
    "shipping.book": "the carrier to book the shipment",
    "shipping.void": "the carrier to give the shipment up",
}


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence about the order, what helps if anything does, and the page where that's done. ``look`` is good,
    waiting or bad; ``finished`` says that nothing more will happen by itself."""

    sentence: str
    look: str
    helps: str = ""
    link: str = ""
    finished: bool = False


def why_unfinished(history: History, *, with_personal_data: bool = False) -> Why:
    """Why the order isn't finished; or that it is."""
    moving = {each.name: each for each in subscriptions() if sent_by(each) or each.name in WAITS_FOR}
    open_jobs = [each for each in history.deliveries if each.state in Delivery.OPEN and each.subscription in moving]
    return (
        _of_letters(history, open_jobs, moving, with_personal_data)
        or _of_failed_sagas(history)
        or _of_halts(history, moving)
        or _of_relay(history)
        or _of_unreadable(history)
        or _of_given_up(history)
        or _of_jobs(open_jobs)
        or _of_deadline(history)
        or _of_events(history)
    )


def _of_letters(
    history: History, open_jobs: Iterable[Delivery], moving: dict[str, Subscription], with_personal_data: bool
) -> Why | None:
    failed = [each for each in open_jobs if each.error or each.state == Delivery.State.DEAD]
    if not failed:
        return None
    letter = min(failed, key=lambda each: (each.state != Delivery.State.DEAD, each.position))
    error = letter.error if with_personal_data else letter.error.partition(":")[0]  # the rest may tell of a person
    what = WAITS_FOR.get(letter.subscription, f"{letter.subscription}, which can't take in what happened")
    link = link_to("operations:letter", letter.pk)
    if letter.state == Delivery.State.DEAD:
        return Why(
            sentence=f"It waits for {what}: that failed {_times(letter.attempts)} and isn't tried any more. "
            f"Last error: {error}.",
            look="bad",
            helps="See to the cause, then retry the letter once, or skip it with a reason.",
            link=link,
        )
    if halt := _of_halts(history, {letter.subscription: moving[letter.subscription]}):
        return halt
    most, is_late = moving[letter.subscription].attempts, timezone.now() - letter.due_at > SLOW
    return Why(
        sentence=f"It waits for {what}: attempt {letter.attempts + 1} of {most} is next, at "
        f"{localtime(letter.due_at):%H:%M:%S %Z}. Last error: {error}.",
        look="bad" if is_late else "waiting",
        helps="See whether the workers run." if is_late else "It's tried again by itself.",
        link=link,
    )


def _of_failed_sagas(history: History) -> Why | None:
    for saga in _sagas(history):
        if saga.failed:
            reason = saga.memory.get("reason") or "it gives no reason"
            return _of_given_up(history) or Why(
                sentence=f"Its saga {saga.saga} failed: {reason}.",
                look="bad",
                helps="See to the cause, then resume the saga.",
                link=link_to("operations:saga", saga.saga, saga.key),
            )
    return None


def _of_halts(history: History, moving: dict[str, Subscription]) -> Why | None:
    """Somebody who hasn't heard of something that happened to the order, and stands still."""
    concerns = {
        name: [each for each in history.events if each.position and each.type in subscription.types]
        for name, subscription in moving.items()
    }
    names = [name for name, events in concerns.items() if events]
    for checkpoint in Checkpoint.objects.filter(subscription__in=names).order_by("subscription", "partition"):
        name = checkpoint.subscription
        if not _concerns(checkpoint, moving[name], history):
            continue
        unheard = [each.recorded_at for each in concerns[name] if each.position > checkpoint.position]
        paused = checkpoint.state != Checkpoint.State.RUNNING
        waits = any(
            each.subscription == name and each.state in Delivery.OPEN and each.partition == checkpoint.partition
            for each in history.deliveries
        )
        if not unheard and not (paused and waits):
            continue
        if paused:
            return Why(
                sentence=f"{name} is {checkpoint.state}, and hasn't done yet what it has to do for this order.",
                look="waiting",
                helps="Resume the subscription.",
                link=link_to("operations:subscription", name),
            )
        if all(timezone.now() - since > SLOW for since in (min(unheard), checkpoint.moved_at) if since):
            lag = checkpoints.head() - checkpoint.position
            return Why(
                sentence=f"{name} is {lag:,} {'event' if lag == 1 else 'events'} behind and doesn't move.",
                look="bad",
                helps="See whether the workers run.",
                link=link_to("operations:subscription", name),
            )
    return None


def _concerns(checkpoint: Checkpoint, subscription: Subscription, history: History) -> bool:
    """Whether it's this partition of a saga that sees to the order, and this saga at all; of others any may be."""
    if not isinstance(subscription, SagaSubscription):
        return True
    placed = _last(history, OrderPlaced)
    its_own = subscription.partition_of(str(history.order_id)) == checkpoint.partition
    return its_own and placed is not None and subscription.saga_class.is_begun_by(placed)


def _of_relay(history: History) -> Why | None:
    """Some event of the order has no position yet, and the oldest one that hasn't is no news any more."""
    if all(each.position for each in history.events):
        return None
    oldest: datetime | None = OutboxEntry.objects.aggregate(oldest=Min("created_at"))["oldest"]
    if oldest is None or timezone.now() - oldest <= SLOW:
        return None
    return Why(
        sentence=f"What happened last is still in the outbox: the relay has stood still for {_lasting(oldest)}.",
        look="bad",
        helps="See whether the workers and the beat run.",
        link=link_to("operations:outbox"),
    )


def _of_unreadable(history: History) -> Why | None:
    """Something happened that isn't understood, so that whatever else is said about the order may not be so."""
    for each in history.events:
        if each.event is None:
            return Why(
                sentence=f"How far it is can't be told: this program can't read {each.type}, which is version "
                f"{each.version} of its {each.category}.",
                look="bad",
                helps="Run the program that wrote it.",
            )
    return None


def _of_given_up(history: History) -> Why | None:
    """Something was to be asked of the outside world, somebody gave it up, and nothing else will tell its outcome."""
    asked = {each.position: each.event for each in history.events}
    for job in history.deliveries:
        if job.state == Delivery.State.SKIPPED and not _has_outcome(history, job.subscription, asked.get(job.position)):
            return Why(
                sentence=f"It waits for {WAITS_FOR[job.subscription]}, which was given up: {job.reason.rstrip('.')}. "
                "Nothing goes on by itself.",
                look="bad",
                helps="Retry the letter.",
                link=link_to("operations:letter", job.pk),
            )
    return None


def _has_outcome(history: History, effect: str, asked: Event | None) -> bool:
    """Whether what an effect was to find out is known, or isn't awaited: nobody waits for a booking to be void."""
    match effect, asked:
        case "payments.charge", PaymentRequested():
            return bool(_last(history, PaymentCompleted) or _last(history, PaymentFailed))
        case "payments.refund", RefundRequested(refund_id=refund_id):
            refunds = (each.event for each in history.events if isinstance(each.event, PaymentRefunded))
            return any(refund.refund_id == refund_id for refund in refunds)
        case "shipping.book", ShipmentRequested():
            known = (ShipmentCreated, ShipmentCancelled, BookingDiscarded)
            return any(isinstance(each.event, known) for each in history.events)
        case _:
            return True


def _of_jobs(open_jobs: Iterable[Delivery]) -> Why | None:
    for job in open_jobs:
        slow = timezone.now() - job.created_at > SLOW
        what = WAITS_FOR.get(job.subscription, job.subscription)
        return Why(
            sentence=f"It waits for {what}, which was asked {_lasting(job.created_at)} ago.",
            look="bad" if slow else "waiting",
            helps="See whether the workers run." if slow else "It goes on by itself.",
            link=link_to("operations:subscription", job.subscription) if slow else "",
        )
    return None


def _of_deadline(history: History) -> Why | None:
    if _last(history, OrderConfirmed):
        return None
    cancelled = _last(history, OrderCancelled)
    outcome = (
        "it is cancelled, and what was done for it isn't all undone yet."
        if cancelled
        else "it wasn't fulfilled in time, and is to be cancelled."
    )
    for saga in _sagas(history):
        if cancelled and timezone.now() - saga.updated_at <= SLOW:
            continue  # it was given up at its deadline, and what was done for it is just being undone
        if saga.ended_at is None and saga.deadline_at and saga.deadline_at <= timezone.now():
            return Why(
                sentence=f"It is past its deadline, which was {_lasting(saga.deadline_at)} ago: {outcome}",
                look="bad",
                helps="See what its saga waits for.",
                link=link_to("operations:saga", saga.saga, saga.key),
            )
    return None


def _of_events(history: History) -> Why:
    """Nothing is wrong that is known of: what the order waits for, or that it's finished."""
    if _last(history, OrderDelivered):
        return Why(sentence="It is delivered. Nothing is left to be done.", look="good", finished=True)
    if cancelled := _last(history, OrderCancelled):
        return _of_cancelled(history, cancelled)
    if _last(history, OrderShipped):
        return Why(
            sentence="It is shipped, and waits to be delivered.",
            look="waiting",
            helps="Mark its shipment as delivered when it has arrived.",
        )
    if _last(history, ShipmentCleared):
        return Why(
            sentence="It is confirmed, and waits to be dispatched.", look="waiting", helps="Dispatch its shipment."
        )
    if not _last(history, OrderPlaced):
        return Why(sentence="Nothing is known of such an order.", look="bad", finished=True)
    return _by_itself(_on_its_way(history))


def _of_cancelled(history: History, cancelled: OrderCancelled) -> Why:
    reason = f"It is cancelled: {cancelled.reason.rstrip('.')}."
    asked, paid = _last(history, PaymentRequested), _last(history, PaymentCompleted)
    refunded = _last(history, PaymentRefunded)
    if paid and not refunded:
        return _by_itself(f"{reason} {paid.amount} is still to be given back.")
    if asked and not (paid or _last(history, PaymentFailed)):
        return _by_itself(f"{reason} Whether its payment was taken isn't known yet.")
    if _last(history, InventoryReserved) and not _last(history, ReservationReleased):
        return _by_itself(f"{reason} Its stock is still to be released.")
    money = f" {refunded.amount} was given back." if refunded else ""
    return Why(sentence=f"{reason}{money} Nothing is left to be done.", look="good", finished=True)


def _on_its_way(history: History) -> str:
    if _last(history, OrderConfirmed):
        return "It is confirmed, and its shipment is being cleared."
    if failed := _last(history, PaymentFailed):
        return f"Its payment was declined ({failed.message.rstrip('.')}), and it is being cancelled."
    if short := _last(history, InventoryReservationFailed):
        return f"It is out of stock ({', '.join(each.sku for each in short.shortages)}), and is being cancelled."
    if _last(history, ShipmentCreated):
        return "Its shipment is booked, and it is being confirmed."
    if _last(history, ShipmentRequested):
        return "It waits for the carrier to book the shipment."
    if _last(history, InventoryReserved):
        return "It is paid and reserved, and its shipment is being asked for."
    if _last(history, PaymentCompleted):
        return "It is paid, and waits for its stock to be reserved."
    if _last(history, PaymentRequested):
        return "It waits for the gateway to take the payment."
    return "It is placed, and its payment is being asked for."


def _by_itself(sentence: str) -> Why:
    return Why(sentence=sentence, look="waiting", helps="It goes on by itself.")


def _last(history: History, kind: type[E]) -> E | None:
    return next((each.event for each in reversed(history.events) if isinstance(each.event, kind)), None)


def _sagas(history: History) -> Iterator[SagaInstance]:
    return (each.saga for each in history.sagas)


def _times(attempts: int) -> str:
    return "once" if attempts == 1 else f"{attempts} times"


def _lasting(since: datetime) -> str:
    """How long ago, in the two largest units."""
    seconds = max(int((timezone.now() - since).total_seconds()), 0)
    return f"{seconds} s" if seconds < 60 else timesince(since).replace("\xa0", " ")
