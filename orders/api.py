"""Orders over HTTP. Writes answer from the order's stream, which is never behind; reads from the read models."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, cast
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpResponseBase
from django.urls import reverse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.exceptions import PermissionDenied
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from uuid_utils.compat import uuid7

from eventing import audit, freshness, live, store
from eventing.api import ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION, Paging, carry_out, not_modified, query
from eventing.domain import Command
from eventing.freshness import FromReadModels
from eventing.headers import etag
from eventing.idempotency import idempotent
from eventing.live import Source
from eventing.live_api import LAST_EVENT_ID, STREAM, Live, Resumption
from eventing.models import StoredEvent
from eventing.records import Record, Stream
from orders.commands import CancelOrder, ReturnItems
from orders.events import ItemsReturned, OrderPlaced, OrderStatusChanged
from orders.filters import OrderFilters
from orders.models import OrderLine, OrderSummary, ReturnedLine
from orders.placing import place
from orders.projections import Articles, OrderLines, OrderSummaries, ReturnedLines
from orders.retelling import as_told_by, count_returned
from orders.serializers import (
    AsOf,
    CancelOrderSerializer,
    OrderEventSerializer,
    OrderLineSerializer,
    OrderSerializer,
    OrderSummarySerializer,
    PlaceOrderSerializer,
    ReturnItemsSerializer,
    ReturnSerializer,
    customer_of,
    sees_persons,
)

VIEW = "orders.view_ordersummary"
CANCEL = "orders.cancel_order"
RETURN = "orders.return_items"


class Orders(FromReadModels, ListAPIView[OrderSummary]):
    """All orders that the account may see. Ids that Waybill makes grow with time, so these come newest first."""

    serializer_class = OrderSummarySerializer
    filterset_class = OrderFilters
    read_models, consults = (OrderSummaries,), (Articles,)
    queryset = OrderSummary.objects.all()
    ordering = "-order_id"

    def get_queryset(self) -> QuerySet[OrderSummary]:
        orders = OrderSummary.objects.all()
        return orders if self.request.user.has_perm(VIEW) else orders.filter(customer_id=customer_of(self.request))

    @extend_schema(operation_id="list_orders")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="place_order",
        request=PlaceOrderSerializer,
        responses={201: OrderSerializer},
        parameters=[ETAG, LOCATION],
    )
    @idempotent()
    def post(self, request: Request) -> Response:
        """Place an order.

        **Amounts are whole numbers of the currency's minor unit**: 1999 in GBP is 19.99 pounds. Each line is sold at
        its list price; where the `unit_price` that the customer saw isn't that any more, nothing is done, and the
        answer is `price-changed`. An `order_id` that was placed before is answered as it was the first time when its
        contents are the same, and with `rejected` when they are others.
        """
        command = place(request, request.data)
        carry_out(command, request)
        location = reverse("order", args=[command.order_id])
        as_placed = as_told_by(_placing(command.order_id))
        return _answer(request, *as_placed, has_said_it=True, status=201, headers={"Location": location})


class Order(FromReadModels):
    """One order."""

    read_models = (OrderSummaries, OrderLines, ReturnedLines)
    keyed_by, category = "order_id", "order"

    def check_visible(self, request: Request, key: str) -> None:
        order, _ = _as_it_was(UUID(key), version=1)
        _check_visible(request, order)

    @extend_schema(
        operation_id="get_order",
        responses={200: OrderSerializer, 304: OpenApiResponse(description="It's still at the version you have.")},
        parameters=[AsOf, IF_NONE_MATCH, ETAG],
    )
    def get(self, request: Request, order_id: UUID) -> Response:
        """The order as it is now; or, with `version` or `at`, as it was, which before it was placed is `not-found`."""
        asked = query(request, AsOf)
        if asked.pop("source", None):
            order, lines = _from_stream(order_id)
        else:
            order, lines = _as_it_was(order_id, **asked) if asked else _as_it_is(order_id)
        _check_visible(request, order)
        return not_modified(request, order.version) or _answer(request, order, lines)


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
        context = {"sees_persons": sees_persons(request, order)}
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
            partial(live.read_stream, stream_of(order.order_id)), start=0, sees_persons=sees_persons(request, order)
        )


class OrderCancellation(APIView):
    """The end of an order that isn't confirmed yet."""

    @extend_schema(
        operation_id="cancel_order",
        request=CancelOrderSerializer,
        responses={200: OrderSerializer},
        parameters=[ETAG, IF_MATCH],
    )
    @idempotent(key_required=False)
    def post(self, request: Request, order_id: UUID) -> Response:
        """Cancel an order that is placed and not yet confirmed. Asked again, it answers the same."""
        order, _ = _from_stream(order_id)
        _check_visible(request, order)
        if not (order.customer_id == customer_of(request) or request.user.has_perm(CANCEL)):
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
        parameters=[ETAG, IF_MATCH],
    )
    @idempotent()
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


def stream_of(order_id: UUID) -> Stream:
    """The order's stream."""
    return Stream("order", str(order_id))


def _check_visible(request: Request, order: OrderSummary) -> None:
    """Raises Http404 for the orders of others, so that nobody learns which exist."""
    if not (order.customer_id == customer_of(request) or request.user.has_perm(VIEW)):
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


def _placing(order_id: UUID) -> list[Record]:
    """The events by which an order was placed, whatever has happened to it since: for buyers who want to be told of
    changes they are two."""
    return [
        record
        for record in islice(store.read(stream_of(order_id), chunk=2), 2)
        if isinstance(record.event, OrderPlaced)
        or (isinstance(record.event, OrderStatusChanged) and record.event.version == 1)
    ]


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


def _act(command: Command, request: Request, order: OrderSummary, act: str, **details: Any) -> None:
    """Carry out what is done to an order. Done to somebody else's it's an operator's act, and written down once."""
    with transaction.atomic():
        if carry_out(command, request, stream_of(order.order_id)) and order.customer_id != customer_of(request):
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
    freshness.tell_of(stream_of(order.order_id))
    summary = OrderSummarySerializer(order, context={"request": request, "has_said_it": has_said_it}).data
    shown = {**summary, "lines": OrderLineSerializer(lines, many=True).data}
    return Response(shown, headers=headers, status=status)
