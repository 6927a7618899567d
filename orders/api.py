"""Orders over HTTP. Writes answer from the order's stream, which is never behind; reads from the read models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, cast
from uuid import UUID, uuid5

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpResponseBase
from django.urls import reverse
from django.utils.http import parse_etags
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from uuid_utils.compat import uuid7

from eventing import audit, live, store
from eventing.api import (
    ETAG,
    LARGEST_AMOUNT,
    LOCATION,
    Code,
    EventSerializer,
    Identifier,
    MoneySerializer,
    Paging,
    Strict,
    Text,
    WholeNumber,
    carry_out,
    etag,
    query,
)
from eventing.contact import COUNTRY, EMAIL, Contact
from eventing.domain import Command
from eventing.live import Source
from eventing.live_api import LAST_EVENT_ID, STREAM, Live, Resumption
from eventing.models import StoredEvent
from eventing.money import Money
from eventing.records import Record, Stream
from orders.commands import CancelOrder, PlaceOrder, ReturnItems, ReturnLine
from orders.events import ItemsReturned, Line
from orders.models import OrderLine, OrderSummary, ReturnedLine, Status
from orders.pricing import NoPrice, list_prices
from orders.retelling import as_told_by, count_returned

CUSTOMERS = UUID("6f1b0c2e-5d0c-4c0e-9b1e-7a3d1c8f2a94")
"""The namespace of the customers that are users of ours: a user's customer id is the UUID of its key in it."""

VIEW = "orders.view_ordersummary"
PLACE = "orders.add_ordersummary"
CANCEL = "orders.cancel_order"
RETURN = "orders.return_items"
PERSONAL = "eventing.view_personal_data"

IF_NONE_MATCH = OpenApiParameter("If-None-Match", OpenApiTypes.STR, OpenApiParameter.HEADER)


class LineSerializer(Strict):
    """So many units of one article. Without a `unit_price` it's the list price; without a `description`, none."""

    sku = Code(max_length=64)
    description = Text(max_length=255, allow_blank=True, default="")
    quantity = WholeNumber(min_value=1, max_value=1_000_000)
    unit_price = MoneySerializer(required=False)


class ContactSerializer(Strict):
    """Who bought it, and where it goes. What isn't known is left out or empty."""

    name = Text(max_length=255)
    email = Code(max_length=254, required=False, allow_blank=True)
    phone = Code(max_length=32, required=False, allow_blank=True)
    street = Text(max_length=255, required=False, allow_blank=True)
    postcode = Code(max_length=16, required=False, allow_blank=True)
    city = Text(max_length=255, required=False, allow_blank=True)
    country = Code(max_length=2, required=False, allow_blank=True, help_text="Two letters of ISO 3166, such as `GB`.")

    def validate_email(self, email: str) -> str:
        if email and not re.fullmatch(EMAIL, email):
            raise ValidationError("This is not an e-mail address.")
        return email

    def validate_country(self, country: str) -> str:
        if country and not re.fullmatch(COUNTRY, country):
            raise ValidationError("A country is two capital letters, such as GB.")
        return country

    def to_internal_value(self, data: Any) -> Contact:
        return Contact(**super().to_internal_value(data))


class PlaceOrderSerializer(Strict):
    """With an `order_id` of its own a client can safely send the order again: it's placed once."""

    order_id = Identifier(required=False, help_text="Yours, or a new one of ours.")
    customer_id = Identifier(
        required=False,
        allow_null=True,
        help_text=f"Only for accounts with the permission {PLACE}, which place orders for others; null is a guest.",
    )
    reference = Text(max_length=255, allow_blank=True, default="", help_text="The order's name in your system.")
    payment_method = Code(max_length=255, default="tok_visa", help_text="The payment gateway's token.")
    contact = ContactSerializer(required=False, allow_null=True)
    lines = serializers.ListField(child=LineSerializer(), min_length=1, max_length=5_000)

    def to_internal_value(self, data: Any) -> Any:
        """As asked for, with every line priced."""
        asked = super().to_internal_value(data)
        asked["lines"] = _in_one_currency(_priced(asked["lines"], asked.get("order_id")))
        return asked


def _priced(asked: Sequence[dict[str, Any]], order_id: UUID | None) -> list[Line]:
    """Lines at their list prices where they come without; sent again, at the prices that the order was placed with.
    Raises ValidationError for articles that have none."""
    unpriced = {number: line["sku"] for number, line in enumerate(asked, start=1) if "unit_price" not in line}
    placed = OrderLine.objects.filter(order_id=order_id, number__in=unpriced) if order_id else ()
    agreed = {
        line.number: Money(minor=line.unit_price_minor, currency=line.currency)
        for line in placed
        if line.sku == unpriced[line.number]
    }
    try:
        prices = list_prices(sku for number, sku in unpriced.items() if number not in agreed)
    except NoPrice as missing:
        unknown: dict[Any, Any] = {
            number: {"sku": ["This article has no list price. List it in inventory, or send a unit_price."]}
            for number, line in enumerate(asked)
            if line["sku"] in missing.skus and "unit_price" not in line
        }
        raise ValidationError({"lines": unknown}) from missing
    return [
        Line(**{"unit_price": agreed.get(number) or prices.get(line["sku"]), **line})
        for number, line in enumerate(asked, start=1)
    ]


def _in_one_currency(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Raises ValidationError where they aren't, or where their total can't be told exactly."""
    currency = lines[0].unit_price.currency
    others: dict[Any, Any] = {
        number: {"unit_price": {"currency": [f"An order is in one currency, and its first line is in {currency}."]}}
        for number, line in enumerate(lines)
        if line.unit_price.currency != currency
    }
    if others:
        raise ValidationError({"lines": others})
    total = Money.sum(line.unit_price * line.quantity for line in lines)
    if total.minor > LARGEST_AMOUNT:
        raise ValidationError({"lines": [f"They come to {total}; {LARGEST_AMOUNT} minor units is the most."]})
    return tuple(lines)


class CancelOrderSerializer(Strict):
    """Why, for whoever looks at the order later."""

    reason = Text(max_length=1_000)


class ReturnLineSerializer(Strict):
    """So many units of one line of the order."""

    line = WholeNumber(min_value=1, max_value=5_000, help_text="The line's `number` in the order.")
    quantity = WholeNumber(min_value=1, max_value=1_000_000)

    def to_internal_value(self, data: Any) -> ReturnLine:
        asked = super().to_internal_value(data)
        return ReturnLine(number=asked["line"], quantity=asked["quantity"])


class ReturnItemsSerializer(Strict):
    """With a `return_id` of its own a client can safely send the return again: it's registered once."""

    return_id = Identifier(required=False, help_text="Yours, or a new one of ours.")
    lines = serializers.ListField(child=ReturnLineSerializer(), min_length=1, max_length=5_000)
    reason = Text(max_length=1_000)


class ReturnedLineSerializer(serializers.Serializer[Any]):
    """Units of one line that came back."""

    line = serializers.IntegerField(source="number")
    sku = serializers.CharField()
    quantity = serializers.IntegerField()
    unit_price = MoneySerializer()


class ReturnSerializer(serializers.Serializer[Any]):
    """Goods of an order that came back together, and what is refunded for them."""

    order_id = serializers.UUIDField()
    return_id = serializers.UUIDField()
    lines = ReturnedLineSerializer(many=True)
    refund = MoneySerializer()
    reason = serializers.CharField()


class OrderFilters(Paging):
    """Which orders are asked for."""

    status = serializers.ChoiceField(Status.choices, required=False)
    customer = Identifier(required=False, help_text="Orders of this customer.")
    reference = Text(required=False, max_length=255, help_text="Orders with exactly this reference.")


class Moment(serializers.DateTimeField):
    """A point in time, whatever the zone it is told in."""

    default_error_messages = {
        "invalid": "This is not a time such as 2026-11-23T04:30:00Z. In an address a + is written as %2B.",
        "no_zone": "This time doesn't say in which zone: end it with Z, or with an offset such as -05:00.",
    }

    def enforce_timezone(self, value: datetime) -> datetime:
        if value.tzinfo is None:
            self.fail("no_zone")
        return super().enforce_timezone(value)


class AsOf(Strict):
    """The order as it was, instead of as it is."""

    version = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="As its first events made it, this many."
    )
    at = Moment(
        required=False,
        help_text="As it was known at this time. What was recorded later doesn't count, whenever it happened.",
    )

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        if len(asked) > 1:
            raise ValidationError({"at": ["Ask for a version or for a time, not for both."]})
        return asked


class OrderSummarySerializer(serializers.ModelSerializer[OrderSummary]):
    """An order without its lines."""

    total = serializers.SerializerMethodField()
    refunded = serializers.SerializerMethodField(help_text="What was paid for the units that came back.")
    contact = serializers.SerializerMethodField(
        help_text=f"Null where nobody is known, or for orders of others without the permission {PERSONAL}."
    )

    class Meta:
        model = OrderSummary
        fields = [
            "order_id",
            "reference",
            "customer_id",
            "contact",
            "buyer_forgotten_at",
            "status",
            "total",
            "line_count",
            "units",
            "returned_units",
            "refunded",
            "placed_at",
            "confirmed_at",
            "shipped_at",
            "delivered_at",
            "cancelled_at",
            "cancellation_reason",
            "version",
        ]
        read_only_fields = fields

    @extend_schema_field(MoneySerializer)
    def get_total(self, order: OrderSummary) -> dict[str, Any]:
        return {"amount": order.total_minor, "currency": order.currency}

    @extend_schema_field(MoneySerializer)
    def get_refunded(self, order: OrderSummary) -> dict[str, Any]:
        return {"amount": order.refunded_minor, "currency": order.currency}

    @extend_schema_field(ContactSerializer(allow_null=True))
    def get_contact(self, order: OrderSummary) -> dict[str, str] | None:
        contact = {name: getattr(order, f"contact_{name}") for name in Contact.__struct_fields__}
        sees = self.context.get("has_said_it") or _sees_persons(self.context["request"], order)
        return contact if contact["name"] and sees else None


class OrderLineSerializer(serializers.ModelSerializer[OrderLine]):
    """A line as it was placed, numbered from 1, and how many of its units came back."""

    unit_price = serializers.SerializerMethodField()
    returned = serializers.IntegerField(read_only=True)

    class Meta:
        model = OrderLine
        fields = ["number", "sku", "description", "quantity", "unit_price", "returned"]
        read_only_fields = fields

    @extend_schema_field(MoneySerializer)
    def get_unit_price(self, line: OrderLine) -> dict[str, Any]:
        return {"amount": line.unit_price_minor, "currency": line.currency}


class OrderSerializer(OrderSummarySerializer):
    """An order with its lines."""

    lines = OrderLineSerializer(many=True, read_only=True)

    class Meta(OrderSummarySerializer.Meta):
        fields = [*OrderSummarySerializer.Meta.fields, "lines"]
        read_only_fields = fields


class OrderEventSerializer(EventSerializer):
    """Something that happened to an order. In orders of others what is personal takes the permission to see it."""


class Orders(ListAPIView[OrderSummary]):
    """All orders that the account may see. Ids that Waybill makes grow with time, so these come newest first."""

    serializer_class = OrderSummarySerializer
    ordering = "-order_id"

    def get_queryset(self) -> QuerySet[OrderSummary]:
        asked, orders = query(self.request, OrderFilters), OrderSummary.objects.all()
        if not self.request.user.has_perm(VIEW):
            orders = orders.filter(customer_id=customer_of(self.request))
        columns = {"status": "status", "customer": "customer_id", "reference": "reference"}
        return orders.filter(**{columns[name]: value for name, value in asked.items() if name in columns})

    @extend_schema(operation_id="list_orders", parameters=[OrderFilters])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="place_order",
        request=PlaceOrderSerializer,
        responses={201: OrderSerializer},
        parameters=[ETAG, LOCATION],
    )
    def post(self, request: Request) -> Response:
        """Place an order.

        **Amounts are whole numbers of the currency's minor unit**: 1999 in GBP is 19.99 pounds. A line without a
        `unit_price` is sold at its list price. An `order_id` that was placed before is answered as it was the first
        time when its contents are the same, and with `rejected` when they are others.
        """
        body = PlaceOrderSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        command = PlaceOrder(
            order_id=asked.get("order_id") or uuid7(),
            customer_id=_customer_of_new_order(request, asked),
            lines=asked["lines"],
            reference=asked["reference"],
            payment_method=asked["payment_method"],
            contact=asked.get("contact"),
        )
        carry_out(command, request)
        (placed,) = islice(store.read(stream_of(command.order_id), chunk=1), 1)
        location = reverse("order", args=[command.order_id])
        return _answer(request, *as_told_by([placed]), has_said_it=True, status=201, headers={"Location": location})


class Order(APIView):
    """One order."""

    @extend_schema(
        operation_id="get_order",
        responses={200: OrderSerializer, 304: OpenApiResponse(description="It's still at the version you have.")},
        parameters=[AsOf, IF_NONE_MATCH, ETAG],
    )
    def get(self, request: Request, order_id: UUID) -> Response:
        """The order as it is now; or, with `version` or `at`, as it was, which before it was placed is `not-found`."""
        asked = query(request, AsOf)
        order, lines = _as_it_was(order_id, **asked) if asked else _as_it_is(order_id)
        _check_visible(request, order)
        known = {tag.removeprefix("W/") for tag in parse_etags(request.headers.get("If-None-Match", ""))}
        if known & {etag(order.version), "*"}:
            return Response(status=304, headers={"ETag": etag(order.version)})
        return _answer(request, order, lines)


class OrderHistory(ListAPIView[StoredEvent]):
    """Everything that happened to an order."""

    serializer_class = OrderEventSerializer
    queryset = StoredEvent.objects.all()
    ordering = "version"

    @extend_schema(operation_id="get_order_history", parameters=[Paging])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The order's events, oldest first. Each made the version of the order that has its number."""
        query(request, Paging)
        stream = stream_of(kwargs["order_id"])
        order, _ = _as_it_was(kwargs["order_id"], version=1)
        _check_visible(request, order)
        events = self.queryset.filter(category=stream.category, stream_id=stream.id)
        versions = [event.version for event in self.paginate_queryset(events.only("version")) or ()]
        records = islice(store.read(stream, start=versions[0], chunk=len(versions)), len(versions)) if versions else ()
        context = {"sees_persons": _sees_persons(request, order)}
        return self.get_paginated_response(OrderEventSerializer(records, many=True, context=context).data)


class OrderStream(Live):
    """Everything that happens to an order, as it happens."""

    @extend_schema(operation_id="follow_order", parameters=[Resumption, LAST_EVENT_ID], responses=STREAM)
    def get(self, request: Request, **kwargs: Any) -> HttpResponseBase:
        """The order's events as Server-Sent Events, from its first one on, or from the one after `Last-Event-ID`."""
        return self.answer(request, query(request, Resumption))

    def source(self, request: Request, asked: dict[str, Any]) -> Source:
        order, _ = _as_it_was(self.kwargs["order_id"], version=1)
        _check_visible(request, order)
        return Source(
            partial(live.read_stream, stream_of(order.order_id)), start=0, sees_persons=_sees_persons(request, order)
        )


class OrderCancellation(APIView):
    """The end of an order that isn't confirmed yet."""

    @extend_schema(
        operation_id="cancel_order",
        request=CancelOrderSerializer,
        responses={200: OrderSerializer},
        parameters=[ETAG],
    )
    def post(self, request: Request, order_id: UUID) -> Response:
        """Cancel an order that is placed and not yet confirmed. Asked again, it answers the same."""
        order, _ = _from_stream(order_id)
        _check_visible(request, order)
        if not (request.user.has_perm(CANCEL) or order.customer_id == customer_of(request)):
            raise PermissionDenied(f"Cancelling the orders of others takes the permission {CANCEL}.")
        body = CancelOrderSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        reason = body.validated_data["reason"]
        _act(CancelOrder(order_id=order_id, reason=reason), request, order, "cancelled", reason=reason)
        return _answer(request, *_from_stream(order_id))


class OrderReturns(APIView):
    """Goods of an order that came back."""

    @extend_schema(
        operation_id="return_items",
        request=ReturnItemsSerializer,
        responses={201: ReturnSerializer},
        parameters=[ETAG],
    )
    def post(self, request: Request, order_id: UUID) -> Response:
        """Register that goods of a shipped order came back, all or a part.

        Stock is received again, and what was paid for these units is refunded; both follow in a moment. A `return_id`
        that was registered before is answered as it was the first time when its contents are the same, and with
        `rejected` when they are others.
        """
        order, _ = _from_stream(order_id)
        _check_visible(request, order)
        if not request.user.has_perm(RETURN):
            raise PermissionDenied(f"Registering that goods came back takes the permission {RETURN}.")
        body = ReturnItemsSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        command = ReturnItems(
            order_id=order_id,
            return_id=asked.get("return_id") or uuid7(),
            lines=tuple(asked["lines"]),
            reason=asked["reason"],
        )
        units = sum(line.quantity for line in command.lines)
        _act(command, request, order, "returned items", reason=command.reason, units=units)
        (returned,) = (record for record in store.read(stream_of(order_id)) if _is_return(record, command.return_id))
        return Response(ReturnSerializer(returned.event).data, status=201, headers={"ETag": etag(returned.version)})


def customer_of(request: Request) -> UUID:
    """The customer that the request's user is, always the same."""
    return uuid5(CUSTOMERS, str(request.user.pk))


def stream_of(order_id: UUID) -> Stream:
    """The order's stream."""
    return Stream("order", str(order_id))


def _customer_of_new_order(request: Request, asked: dict[str, Any]) -> UUID | None:
    own = customer_of(request)
    if request.user.has_perm(PLACE):
        customer: UUID | None = asked.get("customer_id")
        return customer
    if asked.get("customer_id", own) != own:
        raise PermissionDenied(f"Placing orders for others takes the permission {PLACE}.")
    return own


def _check_visible(request: Request, order: OrderSummary) -> None:
    """Raises Http404 for the orders of others, so that nobody learns which exist."""
    if not (request.user.has_perm(VIEW) or order.customer_id == customer_of(request)):
        raise Http404


def _from_stream(order_id: UUID) -> tuple[OrderSummary, list[OrderLine]]:
    """The order as it is now. Raises Http404 when there is none."""
    records = list(store.read(stream_of(order_id)))
    if not records:
        raise Http404
    return as_told_by(records)


def _as_it_is(order_id: UUID) -> tuple[OrderSummary, list[OrderLine]]:
    """The order of the read models, or of its stream while they aren't there. Raises Http404 when there is none."""
    order = OrderSummary.objects.filter(pk=order_id).first()
    lines = list(OrderLine.objects.filter(order_id=order_id))
    if order is None or len(lines) < order.line_count:
        return _from_stream(order_id)
    if order.returned_units:
        count_returned(lines, ReturnedLine.objects.filter(order_id=order_id))
        if sum(line.returned for line in lines) != order.returned_units:
            return _from_stream(order_id)
    return order, lines


def _is_return(record: Record, return_id: UUID) -> bool:
    return isinstance(record.event, ItemsReturned) and record.event.return_id == return_id


def _as_it_was(
    order_id: UUID, *, version: int | None = None, at: datetime | None = None
) -> tuple[OrderSummary, list[OrderLine]]:
    """The order as its stream had it at a version or a time. Raises Http404 when it wasn't there, or not yet at it."""
    stream = stream_of(order_id)
    wanted = store.version(stream, at=at) if version is None else version
    records = list(islice(store.read(stream, chunk=min(wanted, store.READ_CHUNK)), wanted)) if wanted else []
    if len(records) < max(wanted, 1):
        raise Http404
    return as_told_by(records)


def _sees_persons(request: Request, order: OrderSummary) -> bool:
    """Whether who asks may see what is personal in an order, such as in their own."""
    return request.user.has_perm(PERSONAL) or order.customer_id == customer_of(request)


def _act(command: Command, request: Request, order: OrderSummary, act: str, **details: Any) -> None:
    """Carry out what is done to an order. Done to somebody else's it's an operator's act, and written down once."""
    with transaction.atomic():
        if carry_out(command, request) and order.customer_id != customer_of(request):
            audit.note(cast(User, request.user), act, order, **details)


def _answer(
    request: Request,
    order: OrderSummary,
    lines: Sequence[OrderLine],
    *,
    has_said_it: bool = False,
    headers: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    """An order with its lines; with its contact too for who ``has_said_it``."""
    headers = {"ETag": etag(order.version), **(headers or {})}
    summary = OrderSummarySerializer(order, context={"request": request, "has_said_it": has_said_it}).data
    shown = {**summary, "lines": OrderLineSerializer(lines, many=True).data}
    return Response(shown, headers=headers, status=status)
