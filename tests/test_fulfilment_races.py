"""Orders whose events, answers, cancellations, parcels and deadlines come in any order that can be.

Everything is the contexts' own code: handlers, sagas, policies and effects, in both manners of fulfilment. Only what
lies around it is in memory: streams in place of the log, and a gateway and a carrier that fall silent as they please.
The conducted order is also played with streams that are seen in any order between them, which no log ever shows.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar
from unittest.mock import patch
from uuid import UUID, uuid4, uuid5

import msgspec
import pytest
from hypothesis import event as tally
from hypothesis import given, settings
from hypothesis import strategies as st

import payments.effects
import shipping.effects
from eventing import store
from eventing.contact import Contact
from eventing.domain import Aggregate, Command, CommandRejected, Event, GivenUp, Rejected, Resumed, Saga, TimedOut
from eventing.effects import Delivery, EffectSubscription
from eventing.handlers import handler_of
from eventing.money import Money
from eventing.policies import PolicySubscription
from eventing.records import Record, Stream
from eventing.sagas import SagaSubscription
from eventing.subscriptions import accepts, subscriptions
from inventory.aggregates import Reservation, StockItem
from inventory.aggregates import Status as ReservationStatus
from inventory.commands import ListStockItem, ReceiveStock
from inventory.events import StockReleased, StockReserved, StockShipped
from orders.aggregates import Order
from orders.aggregates import Status as OrderStatus
from orders.commands import CancelOrder, PlaceOrder, ReturnItems, ReturnLine
from orders.events import Fulfilment, Line
from orders.sagas import OrderFulfilment
from payments.aggregates import Payment
from payments.aggregates import Status as PaymentStatus
from payments.commands import Charged, Declined
from payments.events import RefundRequested
from payments.gateway import OutcomeUnknown
from shipping.aggregates import Shipment
from shipping.aggregates import Status as ShipmentStatus
from shipping.commands import DeliverShipment, DispatchShipment
from tests.builders import HEART, LANTERN, ORDER, PAYMENT, SHIPMENT_ID, pounds

A = TypeVar("A", bound=Aggregate[Any, Any])
Move = Callable[[], None]

MOST_SILENCES = 3
NOW = datetime.now(UTC)
CANCEL = CancelOrder(order_id=ORDER, reason="Changed my mind")
DISPATCH = DispatchShipment(shipment_id=SHIPMENT_ID)
DELIVER = DeliverShipment(shipment_id=SHIPMENT_ID)
REFUSAL = Declined(code="card_declined", message="Your card was declined.")
COVERED = settings(max_examples=1_000, deadline=None)


class Refund(NamedTuple):
    """Money that the gateway gave back of a charge, in minor units."""

    charge: str
    minor: int


class Outside:
    """A gateway and a carrier: each key is acted upon once, and any request or answer may get lost."""

    def __init__(self, decide: Callable[[], bool], *, declines: bool) -> None:
        self.decide, self.declines = decide, declines
        self.silences = 0
        self.charged: dict[str, Money] = {}
        self.refunded: dict[str, Refund] = {}
        self.booked: dict[str, str] = {}
        self.voided: set[str] = set()

    def charge(self, amount: Money, method: str, *, idempotency_key: str, requested_at: datetime) -> Charged | Declined:
        self._maybe_silent()
        if not self.declines:
            assert self.charged.setdefault(idempotency_key, amount) == amount
        self._maybe_silent()
        return REFUSAL if self.declines else Charged(reference=idempotency_key)

    def refund(self, charge: str, amount: Money, *, idempotency_key: str, requested_at: datetime) -> str:
        self._maybe_silent()
        refund = Refund(charge, amount.minor)
        assert self.refunded.setdefault(idempotency_key, refund) == refund
        assert sum(each.minor for each in self.refunded.values() if each.charge == charge) <= self.charged[charge].minor
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
        return sum(each.minor for each in self.charged.values()) - sum(each.minor for each in self.refunded.values())

    @property
    def live_consignments(self) -> set[str]:
        """Booked and not voided."""
        return set(self.booked.values()) - self.voided

    def _maybe_silent(self) -> None:
        if self.silences < MOST_SILENCES and self.decide():
            self.silences += 1
            raise OutcomeUnknown


class Job:
    """What an effect has to do about an event. Given up, it waits for a person to have it tried again."""

    def __init__(self, effect: EffectSubscription, event: Event) -> None:
        self.effect, self.event = effect, event
        self.is_given_up = False

    def perform(self) -> Command | None:
        record = Record(uuid4(), Stream("", ""), 1, self.event, NOW, NOW, ORDER, None, "", "")
        more = {"delivery": Delivery(1, "", record)} if accepts(self.effect.function, "delivery") else {}
        outcome: Command | None = self.effect.function(self.event, **more)
        return outcome

    def retry(self) -> None:
        self.is_given_up = False


class Reader:
    """A saga or a policy, and what of the log it hasn't seen: in order, or in order of each stream only."""

    def __init__(self, subscription: SagaSubscription | PolicySubscription, *, by_stream: bool) -> None:
        self.subscription = subscription
        self.by_stream = by_stream
        self.unseen: dict[str, deque[Event]] = defaultdict(deque)
        self.given_up: list[Job] = []
        self.has_reminder = False
        self._memory: bytes | None = None

    def hear(self, stream: Stream, event: Event) -> None:
        if type(event) in self.subscription.events:
            self.unseen[str(stream) if self.by_stream else "log"].append(event)

    def hear_given_up(self, job: Job) -> None:
        if isinstance(self.subscription, SagaSubscription) and self.subscription.hears_given_up:
            self.given_up.append(job)

    @property
    def saga(self) -> Saga | None:
        """As it remembers itself, once it has begun."""
        if self._memory is None or not isinstance(self.subscription, SagaSubscription):
            return None
        return msgspec.json.decode(self._memory, type=self.subscription.saga_class)

    def remember(self, saga: Saga) -> None:
        self.has_reminder = (self.has_reminder or bool(saga.reminders)) and saga.state not in saga.final
        saga.reminders = {}
        self._memory = msgspec.json.encode(saga)


class World:
    """The streams, those who read them, and the jobs that wait."""

    def __init__(self, outside: Outside, *, by_stream: bool = False) -> None:
        self.outside = outside
        self.streams: dict[Stream, list[Event]] = defaultdict(list)
        self.readers = [
            Reader(each, by_stream=by_stream)
            for each in subscriptions()
            if isinstance(each, SagaSubscription | PolicySubscription)
        ]
        self.jobs: list[Job] = []
        self.failures = 0
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

    def moves(self) -> list[Move]:
        """What has to happen some time: a reader sees its next event, or hears that a job was given up; some job is
        tried, or tried again."""
        return [
            *(
                partial(self._see, reader, events)
                for reader in self.readers
                for events in reader.unseen.values()
                if events
            ),
            *(partial(self._tell_given_up, reader) for reader in self.readers if reader.given_up),
            *(job.retry if job.is_given_up else partial(self._perform, job) for job in self.jobs),
        ]

    def reminders(self) -> list[Move]:
        """The deadlines, which may come at any moment."""
        return [partial(self._remind, reader) for reader in self.readers if reader.has_reminder]

    @property
    def sagas(self) -> list[Saga]:
        """Those that began."""
        return [reader.saga for reader in self.readers if reader.saga is not None]

    def happened(self, *kinds: type[Event]) -> int:
        """How often events of these kinds were recorded."""
        return sum(isinstance(event, kinds) for events in self.streams.values() for event in events)

    def _append(self, stream: Stream, event: Event) -> None:
        self.streams[stream].append(event)
        for reader in self.readers:
            reader.hear(stream, event)
        for subscription in subscriptions():
            if isinstance(subscription, EffectSubscription) and type(event) in subscription.events:
                self.jobs.append(Job(subscription, event))

    def _see(self, reader: Reader, events: deque[Event]) -> None:
        event = events.popleft()
        match reader.subscription:
            case SagaSubscription(saga_class=kind):
                if saga := reader.saga or (kind(id=ORDER) if kind.is_begun_by(event) else None):
                    self._react(reader, saga, event)
            case PolicySubscription(function=function):
                for command in function(event):
                    self.send(command)

    def _remind(self, reader: Reader) -> None:
        reader.has_reminder = False
        if saga := reader.saga:
            self._react(reader, saga, TimedOut(about="deadline"))

    def resume(self, reader: Reader) -> None:
        """Workers let a saga see everything before; here it comes at any moment."""
        if saga := reader.saga:
            self._react(reader, saga, Resumed())

    def _perform(self, job: Job) -> None:
        try:
            outcome = job.perform()
        except OutcomeUnknown:  # it stays, and is tried again, unless that was the last attempt
            job.is_given_up = self.outside.decide()
            if job.is_given_up and job.effect.has_outcome:
                for reader in self.readers:
                    reader.hear_given_up(job)
        else:
            self.jobs.remove(job)
            if outcome is not None:
                self.send(outcome)

    def _tell_given_up(self, reader: Reader) -> None:
        job, saga = reader.given_up.pop(), reader.saga
        if saga and job.is_given_up:
            failing = saga.state == "COMPENSATING" and isinstance(job.event, RefundRequested)
            self._react(reader, saga, GivenUp(event=job.event, letter=1))
            if failing:
                assert saga.state == "FAILED"
                self.failures += 1

    def _react(self, reader: Reader, saga: Saga, event: Any) -> None:
        """As the runtime does: all commands first, a refusal is answered at once, and only its memory is kept."""
        for command in list(saga.react(event)):
            self._send(saga, command)
        reader.remember(saga)
        if isinstance(saga, OrderFulfilment) and saga.state == "COMPENSATED":
            self._expect_nothing_kept()

    def _send(self, saga: Saga, command: Command) -> None:
        try:
            self.send(command)
        except Rejected as rejection:
            for answer in list(saga.react(CommandRejected(command=command, reason=str(rejection)))):
                self._send(saga, answer)

    def _expect_nothing_kept(self) -> None:
        assert self.outside.money_kept == 0
        assert self.load(Payment, PAYMENT).status in (PaymentStatus.FAILED, PaymentStatus.REFUNDED)
        assert self.load(Reservation, ORDER).status is not ReservationStatus.RESERVED
        assert self.load(Shipment, SHIPMENT_ID).status in (ShipmentStatus.NEW, ShipmentStatus.CANCELLED)
        assert self.load(Order, ORDER).status is OrderStatus.CANCELLED


def somebody_resumes(world: World) -> None:
    for reader in world.readers:
        if isinstance(reader.subscription, SagaSubscription) and reader.subscription.can_resume:
            world.resume(reader)


def time_is_up(world: World) -> None:
    for remind in world.reminders():
        remind()


def somebody_asks(world: World, command: Command) -> None:
    with suppress(Rejected):  # too early, or too late
        world.send(command)


MOMENTS = st.none() | st.integers(0, 40)
"""A number of moves after which something comes, if it comes at all."""


Asked = tuple[Command, st.SearchStrategy[int] | st.SearchStrategy[int | None]]
"""A command, and when somebody asks for it."""

AT_ANY_MOMENT: list[Asked] = [(command, MOMENTS) for command in (CANCEL, DISPATCH, DISPATCH, DELIVER)]


def play(world: World, data: st.DataObject, *, asked: Iterable[Asked] = AT_ANY_MOMENT) -> None:
    """Let things happen until nothing has to any more. A cancellation, an impatient warehouse, what else is asked and
    the deadline come at a moment that nothing else depends on."""
    coming: list[tuple[int, Move]] = []
    for command, moments in asked:
        moment = data.draw(moments, label=type(command).__name__)
        if moment is not None:
            coming.append((moment, partial(somebody_asks, world, command)))
    for what, label in ((time_is_up, "deadline"), (somebody_resumes, "resumed"), (somebody_resumes, "resumed again")):
        moment = data.draw(MOMENTS, label=label)
        if moment is not None:
            coming.append((moment, partial(what, world)))
    coming.sort(key=lambda each: each[0], reverse=True)
    made = 0
    while True:
        moves = world.moves()
        if coming and (not moves or coming[-1][0] <= made):
            coming.pop()[1]()
        elif moves:
            moves[data.draw(st.integers(0, len(moves) - 1), label="move")]()
            made += 1
        else:
            return


def lines_at(price: str) -> tuple[Line, ...]:
    return tuple(
        Line(sku=sku, description="", quantity=quantity, unit_price=pounds(price))
        for sku, quantity in ((HEART, 6), (LANTERN, 2), (HEART, 6))
    )


def stocked(world: World, *, hearts: int) -> None:
    for sku, quantity in ((HEART, hearts), (LANTERN, 5)):
        world.send(ListStockItem(sku=sku, description="", list_price=pounds("1")))
        if quantity:
            world.send(ReceiveStock(sku=sku, quantity=quantity))


def expect_all_or_nothing(world: World, hearts: int) -> None:
    """Money that was taken is kept for goods that are there or gone, or was given back, once. Stock that was reserved
    is still held, has left with the parcel, or was released, once."""
    outside, order, shipment = world.outside, world.load(Order, ORDER), world.load(Shipment, SHIPMENT_ID)
    assert order.placed is not None
    stock = [world.load(StockItem, sku) for sku in (HEART, LANTERN)]
    reserved, on_hand = [item.reserved for item in stock], [item.on_hand for item in stock]
    times = [world.happened(kind) for kind in (StockReserved, StockReleased, StockShipped)]
    match order.status:
        case OrderStatus.CANCELLED:
            assert len(outside.charged) == len(outside.refunded) == len(set(outside.refunded.values()))
            assert (reserved, on_hand) == ([0, 0], [hearts, 5])
            assert times in ([0, 0, 0], [2, 2, 0])
            assert shipment.status in (ShipmentStatus.NEW, ShipmentStatus.CANCELLED)
            assert outside.live_consignments == set()
        case OrderStatus.CONFIRMED | OrderStatus.SHIPPED | OrderStatus.DELIVERED:
            assert outside.money_kept == order.placed.total.minor
            assert outside.refunded == {}
            assert outside.live_consignments == {shipment.tracking_number}
            if order.status is OrderStatus.CONFIRMED:
                assert shipment.status is ShipmentStatus.CREATED
                assert shipment.cleared
                assert (reserved, on_hand, times) == ([12, 2], [hearts, 5], [2, 0, 0])
            else:
                assert shipment.status.value == {"shipped": "dispatched"}.get(order.status.value, "delivered")
                assert (reserved, on_hand, times) == ([0, 0], [hearts - 12, 3], [2, 0, 2])
        case other:
            raise AssertionError(f"It ended {other.value}, with {world.sagas}.")


MANNERS = [
    pytest.param(Fulfilment.ORCHESTRATED, False, id="orchestrated"),
    pytest.param(Fulfilment.ORCHESTRATED, True, id="orchestrated, streams in any order"),
    pytest.param(Fulfilment.CHOREOGRAPHED, False, id="choreographed"),
]


@pytest.mark.parametrize(("fulfilment", "by_stream"), MANNERS)
@COVERED
@given(
    data=st.data(),
    price=st.sampled_from(["2.55", "0"]),
    hearts=st.sampled_from([20, 12, 11, 0]),
    declines=st.sampled_from([False, False, False, True]),
)
def test_an_order_ends_with_everything_or_with_nothing(
    fulfilment: Fulfilment, by_stream: bool, data: st.DataObject, price: str, hearts: int, declines: bool
) -> None:
    outside = Outside(lambda: data.draw(st.booleans(), label="silent"), declines=declines)
    with World(outside, by_stream=by_stream) as world:
        stocked(world, hearts=hearts)
        world.send(PlaceOrder(order_id=ORDER, customer_id=None, lines=lines_at(price), fulfilment=fulfilment))

        play(world, data)

        expect_all_or_nothing(world, hearts)
        order = world.load(Order, ORDER)
        states = [saga.state for saga in world.sagas]
        if fulfilment is Fulfilment.ORCHESTRATED:
            assert states == ["COMPENSATED" if order.status is OrderStatus.CANCELLED else "COMPLETED"]
        else:
            assert len(states) == 4
            assert set(states) == ({"COMPENSATED"} if order.status is OrderStatus.CANCELLED else {"COMPLETED"})
        tally(f"{order.status.value}, {'money given back' if outside.refunded else 'no money given back'}")
        tally(f"compensations that failed on the way: {world.failures}")


@pytest.mark.parametrize("fulfilment", Fulfilment)
def test_undisturbed_an_order_is_delivered(fulfilment: Fulfilment) -> None:
    with World(Outside(lambda: False, declines=False)) as world:
        stocked(world, hearts=12)
        world.send(PlaceOrder(order_id=ORDER, customer_id=None, lines=lines_at("1"), fulfilment=fulfilment))
        for command in (None, DISPATCH, DELIVER):
            if command:
                world.send(command)
            while moves := world.moves():
                moves[0]()
            expect_all_or_nothing(world, 12)
        assert world.load(Order, ORDER).status is OrderStatus.DELIVERED


@pytest.mark.parametrize("fulfilment", Fulfilment)
def test_a_parcel_stays_in_the_house_until_its_order_can_not_be_cancelled_any_more(fulfilment: Fulfilment) -> None:
    with World(Outside(lambda: False, declines=False)) as world:
        stocked(world, hearts=12)
        world.send(PlaceOrder(order_id=ORDER, customer_id=None, lines=lines_at("1"), fulfilment=fulfilment))
        while world.load(Shipment, SHIPMENT_ID).status is not ShipmentStatus.CREATED:
            world.moves()[0]()
        with pytest.raises(Rejected, match="isn't cleared yet"):
            world.send(DISPATCH)
        somebody_asks(world, CANCEL)
        while moves := world.moves():
            moves[0]()
        expect_all_or_nothing(world, 12)


def what_comes_back(data: st.DataObject) -> list[Command]:
    """Returns of one order: some of them twice, some of more than there is, some under a name that is taken."""
    names = st.sampled_from([uuid5(ORDER, name) for name in ("first", "second", "third")])
    lines = st.lists(
        st.builds(ReturnLine, number=st.integers(1, 3), quantity=st.integers(1, 4)), min_size=1, max_size=2
    ).map(tuple)
    asked = st.builds(ReturnItems, order_id=st.just(ORDER), return_id=names, lines=lines, reason=st.just("Too many"))
    returns = data.draw(st.lists(asked, min_size=1, max_size=4), label="returns")
    return [*returns, *data.draw(st.lists(st.sampled_from(returns), max_size=2), label="again")]


@pytest.mark.parametrize(("fulfilment", "by_stream"), MANNERS)
@COVERED
@given(data=st.data(), prices=st.tuples(*[st.sampled_from(["2.55", "0"])] * 3))
def test_whatever_comes_back_is_paid_back_and_in_the_house_again_once(
    fulfilment: Fulfilment, by_stream: bool, data: st.DataObject, prices: tuple[str, ...]
) -> None:
    outside = Outside(lambda: data.draw(st.booleans(), label="silent"), declines=False)
    with World(outside, by_stream=by_stream) as world:
        stocked(world, hearts=20)
        lines = tuple(
            msgspec.structs.replace(line, unit_price=pounds(price))
            for line, price in zip(lines_at("1"), prices, strict=True)
        )
        world.send(PlaceOrder(order_id=ORDER, customer_id=None, lines=lines, fulfilment=fulfilment))

        once_confirmed = [DISPATCH, DELIVER, DELIVER, *what_comes_back(data)]
        play(world, data, asked=[(command, st.integers(25, 60)) for command in once_confirmed])

        order, payment = world.load(Order, ORDER), world.load(Payment, PAYMENT)
        refunds = [each.refund.minor for each in order.returns.values()]
        if refunds:
            assert order.placed is not None
            assert order.status in (OrderStatus.SHIPPED, OrderStatus.DELIVERED)
            assert outside.money_kept == order.placed.total.minor - sum(refunds) == payment.remaining.minor
            assert sorted(each.minor for each in outside.refunded.values()) == sorted(filter(None, refunds))
            assert all(order.returned[number] <= line.quantity for number, line in enumerate(lines, 1))
            hearts = order.returned[1] + order.returned[3]
            assert [world.load(StockItem, sku).on_hand for sku in (HEART, LANTERN)] == [
                8 + hearts,
                3 + order.returned[2],
            ]
            assert {saga.state for saga in world.sagas} == {"COMPLETED"}
        else:
            expect_all_or_nothing(world, 20)
        tally(f"{len(refunds)} returns, {payment.status.value}")
