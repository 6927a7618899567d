"""Many orders at once, each placed or refused by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from django.db import transaction
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from eventing import requested
from eventing.api import carry_out, carry_out_all
from eventing.domain import Rejected
from eventing.freshness import FromReadModels
from eventing.idempotency import idempotent
from eventing.requested import Part
from orders.commands import PlaceOrder
from orders.placing import PricesRefused, priced, prices_for, read
from orders.projections import Articles
from orders.serializers import (
    MOST_AT_ONCE,
    MOST_LINES_AT_ONCE,
    BulkResultsSerializer,
    PlaceOrdersSerializer,
    UnreadOrdersSerializer,
)

Outcome = PlaceOrder | Exception
"""What becomes of one of many orders: it's placed, or it isn't."""


class OrdersInBulk(FromReadModels):
    """Many orders."""

    consults = (Articles,)

    @extend_schema(operation_id="place_orders", request=PlaceOrdersSerializer, responses={207: BulkResultsSerializer})
    @idempotent()
    def post(self, request: Request) -> Response:
        """Place many orders: up to 500 with 10,000 lines at once, and up to 10,000 orders as a command, so many at a
        time.

        What is wrong with one order is told in its own result, and keeps no other from being placed. All that are
        placed at once are placed in one transaction, so that a request that fails as a whole has placed none.
        """
        body = UnreadOrdersSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        orders = body.validated_data["orders"]
        if len(parts := list(_in_parts(orders))) > 1:
            return requested.accept(request, parts)
        outcomes = self._placed(request, _read(request, orders))
        return Response({"results": [self._told(index, outcome) for index, outcome in outcomes.items()]}, status=207)

    def _placed(self, request: Request, wanted: dict[int, Outcome]) -> dict[int, Outcome]:
        """Place all that can be, in the order of their ids: two who place the same ones don't wait in a circle."""
        commands = {index: each for index, each in wanted.items() if isinstance(each, PlaceOrder)}
        in_order = dict(sorted(commands.items(), key=lambda item: item[1].order_id))
        try:
            with transaction.atomic():
                carry_out_all(list(in_order.values()), request)
        except Rejected:
            return wanted | {index: _one_by_one(request, command) for index, command in in_order.items()}
        return wanted

    def _told(self, index: int, outcome: Outcome) -> dict[str, Any]:
        if isinstance(outcome, PlaceOrder):
            location = reverse("order", args=[outcome.order_id])
            return {"index": index, "status": 201, "order_id": str(outcome.order_id), "location": location}
        problem = self.handle_exception(outcome).data
        return {"index": index, "status": problem["status"], "problem": problem}


def _in_parts(orders: list[Any]) -> Iterator[Part]:
    """As many as are placed at once."""
    first, lines, taken = 0, 0, list[Any]()
    for order in orders:
        more = _count_lines(order)
        if taken and (len(taken) == MOST_AT_ONCE or lines + more > MOST_LINES_AT_ONCE):
            yield _part(first, taken)
            first, lines, taken = first + len(taken), 0, []
        taken.append(order)
        lines += more
    yield _part(first, taken)


def _part(first: int, orders: list[Any]) -> Part:
    return Part(b'{"orders":[' + b",".join(map(_written, orders)) + b"]}", first, len(orders))


def _written(order: Any) -> bytes:
    """An order as JSON again, no longer than its client wrote it, or a part could be larger than a body may be."""
    try:
        return json.dumps(order, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a character, which is refused in its own order
        return json.dumps(order).encode()


def _count_lines(order: Any) -> int:
    lines = order.get("lines") if isinstance(order, Mapping) else None
    return len(lines) if isinstance(lines, list) else 0


def _read(request: Request, orders: list[Any]) -> dict[int, Outcome]:
    """The commands that the orders ask for, or what is wrong with them."""
    asked: dict[int, dict[str, Any] | Exception] = {}
    for index, order in enumerate(orders, start=requested.first_item(request)):
        try:
            asked[index] = read(order)
        except ValidationError as invalid:
            asked[index] = _of_order(index, invalid)
    prices = prices_for([each for each in asked.values() if isinstance(each, dict)])
    wanted: dict[int, Outcome] = {}
    for index, each in asked.items():
        try:
            wanted[index] = priced(request, each, prices) if isinstance(each, dict) else each
        except (ValidationError, PricesRefused) as refused:
            wanted[index] = _of_order(index, refused)
        except APIException as refused:
            wanted[index] = refused
    return wanted


def _of_order(index: int, refused: ValidationError | PricesRefused) -> Exception:
    """What is wrong with one order, by pointers into the whole body."""
    if isinstance(refused, PricesRefused):
        return refused.within(f"#/orders/{index}")
    within: dict[Any, Any] = {index: refused.detail}
    return ValidationError({"orders": within})


def _one_by_one(request: Request, command: PlaceOrder) -> Outcome:
    try:
        with transaction.atomic():
            carry_out(command, request)
    except Rejected as refusal:
        return refusal
    return command
