"""Orders whose events, answers, cancellations and deadlines come in any order that keeps each stream's.

Everything is the contexts' own code, handlers and effects included. Only what lies around it is in memory: streams
in place of the log, and a gateway and a carrier that fall silent as they please.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Self, TypeVar
from unittest.mock import patch
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

import payments.effects
import shipping.effects
from eventing import store
from eventing.contact import Contact
from eventing.domain import Aggregate, Command, CommandRejected, Event, Rejected, TimedOut
from eventing.effects import EffectSubscription
from eventing.handlers import handler_of
from eventing.money import Money
from eventing.records import Stream
from eventing.sagas import SagaSubscription
from eventing.subscriptions import subscriptions
from inventory.aggregates import Reservation, StockItem
from inventory.aggregates import Status as ReservationStatus
from inventory.commands import ListStockItem, ReceiveStock
from orders.aggregates import Order
from orders.aggregates import Status as OrderStatus
from orders.commands import CancelOrder, PlaceOrder
from orders.events import Line
from orders.sagas import OrderFulfilment
from payments.aggregates import Payment
from payments.aggregates import Status as PaymentStatus
from payments.commands import Charged, Declined
from payments.gateway import OutcomeUnknown
from shipping.aggregates import Shipment
from shipping.aggregates import Status as ShipmentStatus
from tests.builders import HEART, LANTERN, ORDER, pounds

A = TypeVar("A", bound=Aggregate[Any, Any])

MOST_SILENCES = 3
CANCEL = CancelOrder(order_id=ORDER, reason="Changed my mind")
REFUSAL = Declined(code="card_declined", message="Your card was declined.")
COVERED = settings(max_examples=1_000, deadline=None)


class Outside:
    """A gateway and a carrier: each key is acted upon once, and any request or answer may get lost."""

    def __init__(self, decide: Callable[[], bool], *, declines: bool) -> None:
        self.decide, self.declines = decide, declines
        self.silences = 0
        self.charged: dict[str, Money] = {}
        self.refunded: dict[str, str] = {}
        self.booked: dict[str, str] = {}
        self.voided: set[str] = set()

    def charge(self, amount: Money, method: str, *, idempotency_key: str) -> Charged | Declined:
        self._maybe_silent()
        if not self.declines:
            assert self.charged.setdefault(idempotency_key, amount) == amount
        self._maybe_silent()
        return REFUSAL if self.declines else Charged(reference=idempotency_key)

    def refund(self, charge: str, amount: Money, *, idempotency_key: str) -> str:
        self._maybe_silent()
        assert self.charged[charge] == amount
        self.refunded[idempotency_key] = charge
        self._maybe_silent()
        return idempotency_key

    def book(self, recipient: Contact | None, *, idempotency_key: str) -> str:
        self._maybe_silent()
        self.booked[idempotency_key] = f"WB{idempotency_key}"
        self._maybe_silent()
        return self.booked[idempotency_key]

    def void(self, tracking_number: str) -> None:
        self._maybe_silent()
        assert tracking_number in self.booked.values()
        self.voided.add(tracking_number)

    @property
    def money_kept(self) -> int:
        """In minor units."""
        returned = [self.charged[charge] for charge in self.refunded.values()]
        return sum(each.minor for each in self.charged.values()) - sum(each.minor for each in returned)

    @property
    def live_consignments(self) -> set[str]:
        """Booked and not voided."""
        return set(self.booked.values()) - self.voided

    def _maybe_silent(self) -> None:
        if self.silences < MOST_SILENCES and self.decide():
            self.silences += 1
            raise OutcomeUnknown


class World:
    """The streams, what of them the saga hasn't seen, the jobs that wait, and the saga."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside
        self.streams: dict[Stream, list[Event]] = defaultdict(list)
        self.unseen: dict[Stream, deque[Event]] = defaultdict(deque)
        self.jobs: list[Callable[[], Command | None]] = []
        self._memory: bytes | None = None
        self.has_reminder = False
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        for name in ("edit", "edit_all", "load"):
            self._patches.enter_context(patch.object(store, name, getattr(self, name)))
        self._patches.enter_context(patch.object(payments.effects, "gateway", lambda: self.outside))
        self._patches.enter_context(patch.object(shipping.effects, "carrier", lambda: self.outside))
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def load(self, kind: type[A], id: UUID | str) -> A:
        aggregate = kind(id)
        for event in self.streams[Stream.of(kind, id)]:
            aggregate.apply(event)
        return aggregate

    @contextmanager
    def edit(self, kind: type[A], id: UUID | str) -> Iterator[A]:
        with self.edit_all(kind, [id]) as aggregates:
            yield aggregates[id]

    @contextmanager
    def edit_all(self, kind: type[A], ids: Iterable[UUID | str]) -> Iterator[dict[Any, A]]:
        aggregates: dict[Any, A] = {id: self.load(kind, id) for id in ids}
        yield aggregates
        for id, aggregate in aggregates.items():
            for event in aggregate.recorded:
                self._append(Stream.of(kind, id), event)

    def send(self, command: Command) -> None:
        handler_of(type(command)).function(command)

    def moves(self) -> list[Callable[[], None]]:
        """What may happen next: the saga sees the next event of some stream, or some job is tried."""
        return [
            *(partial(self._see, stream) for stream, events in self.unseen.items() if events),
            *(partial(self._perform, job) for job in self.jobs),
        ]

    def remind(self) -> None:
        self.has_reminder = False
        self._react(TimedOut(about="deadline"))

    @property
    def saga(self) -> OrderFulfilment:
        """As it remembers itself."""
        if self._memory is None:
            return OrderFulfilment(id=ORDER)
        return msgspec.json.decode(self._memory, type=OrderFulfilment)

    def _append(self, stream: Stream, event: Event) -> None:
        self.streams[stream].append(event)
        for subscription in subscriptions():
            match subscription:
                case SagaSubscription(saga_class=saga) if (
                    saga is OrderFulfilment and type(event) in subscription.events
                ):
                    self.unseen[stream].append(event)
                case EffectSubscription() if type(event) in subscription.events:
                    self.jobs.append(partial(subscription.function, event))
                case _:
                    pass

    def _see(self, stream: Stream) -> None:
        self._react(self.unseen[stream].popleft())

    def _perform(self, job: Callable[[], Command | None]) -> None:
        with suppress(OutcomeUnknown):  # it stays, and is tried again
            outcome = job()
            self.jobs.remove(job)
            if outcome is not None:
                self.send(outcome)

    def _react(self, event: Any) -> None:
        """As the runtime does: all commands first, a refusal is answered at once, and only its memory is kept."""
        saga = self.saga
        for command in list(saga.react(event)):
            self._send(saga, command)
        self.has_reminder = (self.has_reminder or bool(saga.reminders)) and saga.state not in saga.final
        saga.reminders = {}
        self._memory = msgspec.json.encode(saga)
        if saga.state == "COMPENSATED":
            self._expect_nothing_kept(saga)

    def _send(self, saga: OrderFulfilment, command: Command) -> None:
        try:
            self.send(command)
        except Rejected as rejection:
            for answer in list(saga.react(CommandRejected(command=command, reason=str(rejection)))):
                self._send(saga, answer)

    def _expect_nothing_kept(self, saga: OrderFulfilment) -> None:
        assert self.outside.money_kept == 0
        assert self.load(Payment, saga.payment_id).status in (PaymentStatus.FAILED, PaymentStatus.REFUNDED)
        assert self.load(Reservation, ORDER).status is not ReservationStatus.RESERVED
        assert self.load(Shipment, saga.shipment_id).status in (ShipmentStatus.NEW, ShipmentStatus.CANCELLED)
        assert self.load(Order, ORDER).status is OrderStatus.CANCELLED


def customer_cancels(world: World) -> None:
    with suppress(Rejected):  # too late
        world.send(CANCEL)


def play(world: World, data: st.DataObject) -> None:
    """Let things happen until nothing has to any more; a cancellation and the deadline may come at any moment."""
    whims: list[Callable[[], None]] = [partial(customer_cancels, world)]
    while True:
        moves = world.moves()
        possible = [*moves, *whims, *([world.remind] if world.has_reminder else [])]
        if not moves and (not possible or data.draw(st.booleans(), label="rest in peace")):
            return
        move = possible[data.draw(st.integers(0, len(possible) - 1), label="move")]
        if move in whims:
            whims.remove(move)
        move()


@COVERED
@given(
    data=st.data(),
    price=st.sampled_from(["2.55", "0"]),
    hearts=st.sampled_from([0, 11, 12, 20]),
    declines=st.booleans(),
)
def test_an_order_ends_confirmed_with_everything_or_cancelled_with_nothing(
    data: st.DataObject, price: str, hearts: int, declines: bool
) -> None:
    lines = tuple(
        Line(sku=sku, description="", quantity=quantity, unit_price=pounds(price))
        for sku, quantity in ((HEART, 6), (LANTERN, 2), (HEART, 6))
    )
    outside = Outside(lambda: data.draw(st.booleans(), label="silent"), declines=declines)
    with World(outside) as world:
        for sku, quantity in ((HEART, hearts), (LANTERN, 5)):
            world.send(ListStockItem(sku=sku, description="", list_price=pounds("1")))
            if quantity:
                world.send(ReceiveStock(sku=sku, quantity=quantity))
        world.send(PlaceOrder(order_id=ORDER, customer_id=None, lines=lines))

        play(world, data)

        order = world.load(Order, ORDER)
        assert order.placed is not None
        reserved = [world.load(StockItem, sku).reserved for sku in (HEART, LANTERN)]
        shipment = world.load(Shipment, world.saga.shipment_id)
        match order.status:
            case OrderStatus.CONFIRMED:
                assert outside.money_kept == order.placed.total.minor
                assert outside.refunded == {}
                assert reserved == [12, 2]
                assert shipment.status is ShipmentStatus.CREATED
                assert outside.live_consignments == {shipment.tracking_number}
                assert world.saga.state == "COMPLETED"
            case OrderStatus.CANCELLED:
                assert len(outside.charged) == len(outside.refunded) == len(set(outside.refunded.values()))
                assert reserved == [0, 0]
                assert world.load(Reservation, ORDER).status is not ReservationStatus.RESERVED
                assert shipment.status in (ShipmentStatus.NEW, ShipmentStatus.CANCELLED)
                assert outside.live_consignments == set()
                assert world.saga.state == "COMPENSATED"
            case other:
                raise AssertionError(f"It ended {other.value}, with the saga {world.saga.state}.")


def test_undisturbed_an_order_is_confirmed() -> None:
    with World(Outside(lambda: False, declines=False)) as world:
        world.send(ListStockItem(sku=HEART, description="", list_price=pounds("1")))
        world.send(ReceiveStock(sku=HEART, quantity=1))
        line = Line(sku=HEART, description="", quantity=1, unit_price=pounds("1"))
        world.send(PlaceOrder(order_id=ORDER, customer_id=None, lines=(line,)))
        while moves := world.moves():
            moves[0]()
        assert world.load(Order, ORDER).status is OrderStatus.CONFIRMED
