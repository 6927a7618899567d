"""An order's page: what it is, why it isn't finished, what happened to it, and what it was at any version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Model
from django.http import Http404, HttpResponse
from uuid_utils.compat import uuid7

from config.dashboard.history import MOST, UNREADABLE, History, history
from config.dashboard.timeline import KINDS, timeline
from config.dashboard.unfinished import why_unfinished
from eventing import audit, context, letters, store
from eventing.domain import Command, Rejected
from eventing.handlers import dispatch
from eventing.models import Delivery
from eventing.money import Money
from eventing.operations.page import Act, Page
from eventing.personal import HIDDEN
from eventing.records import Record, Stream
from orders.commands import CancelOrder, ReturnItems, ReturnLine
from orders.models import OrderLine, OrderSummary, Return, Status
from orders.retelling import as_told_by
from payments.models import PaymentSummary
from shipping.commands import DeliverShipment, DispatchShipment, shipment_of
from shipping.models import ShipmentSummary
from shipping.models import Status as ShipmentStatus

PERSONAL = "eventing.view_personal_data"
LONGEST_NUMBER = 9  # digits of a version
STOP_POLLING = 286  # what htmx takes for: this will not change any more


class Field(NamedTuple):
    """A field of the order as it was, before and after the version that is looked at."""

    label: str
    value: str
    before: str

    @property
    def is_changed(self) -> bool:
        """Whether this version changed it."""
        return self.value != self.before


class LinePriced(NamedTuple):
    """A line, its amounts as people read them, and how many units can still come back."""

    line: OrderLine
    unit_price: Money
    total: Money
    left: int


class Told(NamedTuple):
    """The order's records up to the first that this program can't read, and its version, 0 where it can read all."""

    records: list[Record]
    unreadable_from: int


class OrderPage(Page):
    """One order. It refreshes by itself until it's finished."""

    permission_required = "orders.view_ordersummary"
    template_name, fragment, refresh_seconds = "operations/order.html", "operations/_order.html", 3

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        order_id: UUID = kwargs["order_id"]
        personal = self.user.has_perm(PERSONAL)
        told, unreadable_from = _told(order_id)
        version = _version(self.request.GET.get("version", ""), len(told))
        (now, _), (order, lines) = as_told_by(told), as_told_by(told[: version or len(told)])
        known = history(order_id, with_personal_data=personal)
        why = why_unfinished(known, with_personal_data=personal)
        kind = self.request.GET.get("kind", "")
        entries = timeline(known, with_personal_data=personal)
        shipment = ShipmentSummary.objects.filter(pk=shipment_of(order_id)).first()
        shown = {
            "order": now,
            "order_id": order_id,
            "total": Money(minor=now.total_minor, currency=now.currency) if told else "",
            "refunded": Money(minor=now.refunded_minor, currency=now.currency) if told else "",
            "contact": _contact(now, personal),
            "hides": not personal,
            "row": OrderSummary.objects.filter(pk=order_id).only("version", "updated_at").first(),
            "lines": [_priced(line) for line in lines],
            "why": why,
            "entries": [each for each in entries if kind in ("", each.kind)],
            "kinds": KINDS,
            "kind": kind,
            "is_cut": known.is_cut,
            "unreadable_from": unreadable_from,
            "correlation_id": known.events[0].correlation_id,
            "version": version,
            "versions": [(each.version, each.title) for each in _versions(known) if each.version <= len(told)],
            "fields": list(_fields(order, told, version, personal)) if version else [],
            "payments": [_Paid.of(each) for each in PaymentSummary.objects.filter(order_id=order_id)],
            "shipment": shipment,
            "returns": [
                (each, Money(minor=each.refund_minor, currency=each.currency))
                for each in Return.objects.filter(order_id=order_id).order_by("returned_at", "id")
            ],
            "failed": len(_failed(known)),
            "sagas": [each.saga for each in known.sagas],
            "return_id": uuid7(),
            "why_not": _why_not(now, shipment),
        }
        if why.finished:
            shown["refresh_seconds"] = 0
        return super().get_context_data(**{**shown, **kwargs, "title": f"Order {now.reference or order_id}"})

    def render_to_response(self, context: dict[str, Any], **options: Any) -> HttpResponse:
        response = super().render_to_response(context, **options)
        if self._only_the_fragment and context["why"].finished:
            response.status_code = STOP_POLLING
        return response


class CancelAnOrder(Act):
    """Cancel it, for a written reason."""

    permission_required = "orders.cancel_order"

    def act(self, user: User, *, order_id: UUID) -> str:
        reason = self.request.POST.get("reason", "").strip()
        carry_out(CancelOrder(order_id=order_id, reason=reason), user, "cancelled", _order(order_id), reason=reason)
        return "The order is cancelled. What was done for it is undone in a moment."


class ReturnSomeItems(Act):
    """Register that goods came back: fields ``quantity-1`` and so on, one a line, and a ``reason``."""

    permission_required = "orders.return_items"

    def act(self, user: User, *, order_id: UUID) -> str:
        lines = tuple(_lines_back(self.request.POST))
        if not lines:
            raise Rejected("Nothing was said to have come back: write how many units of which line.")
        reason = self.request.POST.get("reason", "").strip()
        command = ReturnItems(order_id=order_id, return_id=_return_id(self.request.POST), lines=lines, reason=reason)
        units = sum(line.quantity for line in lines)
        carry_out(command, user, "returned items", _order(order_id), reason=reason, units=units)
        return f"{units:,} {'unit' if units == 1 else 'units'} came back. The refund and the stock follow in a moment."


class DispatchIt(Act):
    """The parcel has left the house."""

    permission_required = "shipping.dispatch_shipment"

    def act(self, user: User, *, order_id: UUID) -> str:
        carry_out(DispatchShipment(shipment_id=shipment_of(order_id)), user, "dispatched", _order(order_id))
        return "The shipment is dispatched."


class DeliverIt(Act):
    """The parcel has arrived."""

    permission_required = "shipping.dispatch_shipment"

    def act(self, user: User, *, order_id: UUID) -> str:
        carry_out(DeliverShipment(shipment_id=shipment_of(order_id)), user, "delivered", _order(order_id))
        return "The shipment is delivered."


class RetryItsLetters(Act):
    """Try everything of the order again that failed, at once."""

    permission_required = "eventing.retry_delivery"

    def act(self, user: User, *, order_id: UUID) -> str:
        failed = _failed(history(order_id, with_personal_data=False))
        if not failed:
            raise Rejected("Nothing of this order waits to be tried again.")
        tried = letters.retry(letters.Filter(ids=tuple(each.pk for each in failed)), who=user, order=str(order_id))
        return f"{tried} {'letter is' if tried == 1 else 'letters are'} tried again."


def carry_out(command: Command, user: User, act: str, on: Model, **details: Any) -> None:
    """Dispatch a command on behalf of a user, and write down that it was they, once: a command that changes nothing
    any more is no act. Raises Rejected."""
    try:
        with transaction.atomic(), context.acting(actor=user.get_username()):
            if dispatch(command):
                audit.note(user, act, on, **details)
    except UNREADABLE as error:
        raise Rejected(f"The program can't read all that happened, so it can't decide: {error}") from error


def _told(order_id: UUID) -> Told:
    stream = Stream("order", str(order_id))
    try:
        told = Told(list(islice(store.read(stream), MOST)), 0)
    except UNREADABLE:
        records = list(_until_unreadable(stream))
        told = Told(records, len(records) + 1)
    if not told.records and not told.unreadable_from:
        raise Http404(f"There is no order {order_id}.")
    return told


def _until_unreadable(stream: Stream) -> Iterator[Record]:
    """One by one, because those that are read together can't be read when one of them can't."""
    with suppress(*UNREADABLE):
        yield from islice(store.read(stream, chunk=1), MOST)


def _order(order_id: UUID) -> OrderSummary:
    order = as_told_by(_told(order_id).records)[0]
    order.order_id = order_id
    return order


def _version(asked: str, newest: int) -> int:
    """The version that is asked for, 0 when none is. Raises Http404 for one that there isn't."""
    if not asked:
        return 0
    if not asked.isdecimal() or len(asked) > LONGEST_NUMBER or not 1 <= int(asked) <= newest:
        raise Http404(f"The order has the versions 1 to {newest}, and not {asked[:20]}.")
    return int(asked)


class _Version(NamedTuple):
    version: int
    title: str


def _versions(known: History) -> Iterator[_Version]:
    for each in known.of("order"):
        yield _Version(each.version, each.type.rpartition(".")[2].replace("_", " "))


def _fields(order: OrderSummary, told: list[Record], version: int, personal: bool) -> Iterator[Field]:
    """The order's fields at a version, beside what they were one version before."""
    before = _readable(as_told_by(told[: version - 1])[0], personal) if version > 1 else {}
    for label, value in _readable(order, personal).items():
        yield Field(label, value, before.get(label, ""))


def _readable(order: OrderSummary, personal: bool) -> dict[str, str]:
    times = ("placed_at", "confirmed_at", "shipped_at", "delivered_at", "cancelled_at", "buyer_forgotten_at")
    contact = list(_contact(order, personal).values())
    money = {"Total": order.total_minor, "Refunded for returns": order.refunded_minor}
    return {
        "Status": order.status,
        **{label: str(Money(minor=minor, currency=order.currency)) for label, minor in money.items()},
        "Units": f"{order.units:,}",
        "Units that came back": f"{order.returned_units:,}",
        "Reference": order.reference,
        "Customer": str(order.customer_id or "a guest"),
        "Contact": ", ".join(contact) if personal else HIDDEN if contact else "",
        "Reason of the cancellation": order.cancellation_reason,
        **{
            name.removesuffix("_at").replace("_", " ").capitalize() + " at": f"{at:%Y-%m-%d %H:%M:%S %Z}"
            for name in times
            if (at := getattr(order, name))
        },
    }


def _contact(order: OrderSummary, personal: bool) -> dict[str, str]:
    """What is known of who bought it, hidden from those who may not see it."""
    names = ("name", "email", "phone", "street", "postcode", "city", "country")
    known = {name: getattr(order, f"contact_{name}") for name in names}
    return {name: value if personal else HIDDEN for name, value in known.items() if value}


def _priced(line: OrderLine) -> LinePriced:
    price = Money(minor=line.unit_price_minor, currency=line.currency)
    return LinePriced(line, price, price * line.quantity, line.quantity - line.returned)


class _Paid(NamedTuple):
    payment: PaymentSummary
    amount: Money
    refunded: Money

    @classmethod
    def of(cls, payment: PaymentSummary) -> _Paid:
        amounts = (
            Money(minor=each, currency=payment.currency) for each in (payment.amount_minor, payment.refunded_minor)
        )
        return cls(payment, *amounts)


def _failed(known: History) -> list[Delivery]:
    return [each for each in known.deliveries if each.state in Delivery.OPEN and each.error]


def _why_not(order: OrderSummary, shipment: ShipmentSummary | None) -> dict[str, str]:
    """Why an act can't be done now, by its name; what isn't here can."""
    its = order.status or "not known"
    status = shipment.status if shipment else "not requested yet"
    is_free = shipment is not None and shipment.cleared_at is not None
    why = {}
    if order.status != Status.PLACED:
        why["cancel"] = f"It is {its}: only an order that is placed and not yet confirmed can be cancelled."
    if status != ShipmentStatus.CREATED or not is_free:
        why["dispatch"] = f"Its shipment is {status}{'' if is_free or not shipment else ', and not cleared yet'}."
    if status != ShipmentStatus.DISPATCHED:
        why["deliver"] = f"Its shipment is {status}."
    if order.status not in (Status.SHIPPED, Status.DELIVERED):
        why["return"] = f"It is {its}: goods come back of orders that are shipped."
    elif order.returned_units >= order.units:
        why["return"] = "All of it has come back."
    return why


def _lines_back(posted: Mapping[str, Any]) -> Iterator[ReturnLine]:
    for name in posted:
        number, quantity = name.removeprefix("quantity-"), str(posted[name]).strip()
        if name.startswith("quantity-") and number.isdecimal() and quantity not in ("", "0"):
            if not quantity.isdecimal() or len(quantity) > 9:
                raise Rejected(f"{quantity[:20]!r} of line {number} is no number of units.")
            yield ReturnLine(number=int(number[:9]), quantity=int(quantity))


def _return_id(posted: Mapping[str, Any]) -> UUID:
    try:
        return UUID(str(posted.get("return_id", "")))
    except ValueError:
        raise Rejected("The form has no name for the return: open the order's page anew.") from None
