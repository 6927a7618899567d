"""Stock over HTTP. Every account may look at it; changing it takes a permission."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import Http404
from django.urls import reverse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import store
from eventing.api import (
    ETAG,
    IF_MATCH,
    IF_NONE_MATCH,
    LOCATION,
    Code,
    MoneySerializer,
    ReadFrom,
    Strict,
    carry_out,
    not_modified,
    query,
)
from eventing.freshness import FromReadModels
from eventing.headers import etag
from eventing.idempotency import idempotent
from eventing.records import Stream
from eventing.store import Pending
from inventory.commands import AdjustStock, ListStockItem, ReceiveStock, SetListPrice
from inventory.filters import StockItemFilters
from inventory.models import StockLevel
from inventory.projections import StockLevels
from inventory.serializers import (
    AdjustedSerializer,
    AdjustStockSerializer,
    AvailabilityQuery,
    AvailabilitySerializer,
    ListedSerializer,
    ListStockItemSerializer,
    ReceivedSerializer,
    ReceiveStockSerializer,
    SetPriceSerializer,
    StockItemSerializer,
)

CHANGE = "inventory.change_stocklevel"


class MayChangeStock(BasePermission):
    """Everybody looks, few write."""

    message = f"Changing stock takes the permission {CHANGE}."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method in ("GET", "HEAD") or request.user.has_perm(CHANGE)


class StockItems(FromReadModels, ListAPIView[StockLevel]):
    """All articles, in the order of their SKUs."""

    permission_classes = [IsAuthenticated, MayChangeStock]
    queryset = StockLevel.objects.all()
    serializer_class = StockItemSerializer
    filterset_class = StockItemFilters
    read_models = (StockLevels,)
    ordering = "sku"

    @extend_schema(operation_id="list_stock_items")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="list_stock_item",
        request=ListStockItemSerializer,
        responses={201: ListedSerializer, 200: ListedSerializer},
        parameters=[ETAG, LOCATION, IF_MATCH],
    )
    @idempotent()
    def post(self, request: Request) -> Response:
        """List an article (201), or change the description and price of one that is listed already (200)."""
        body = ListStockItemSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        command = ListStockItem(**body.validated_data)
        recorded = carry_out(command, request, stream_of(command.sku))
        version = recorded[-1].version if recorded else store.version(stream_of(command.sku))
        listed = {"sku": command.sku, "description": command.description, "list_price": command.list_price}
        return Response(
            ListedSerializer({**listed, "version": version}).data,
            status=201 if recorded and version == 1 else 200,
            headers={"ETag": etag(version), "Location": reverse("stock-item", args=[command.sku])},
        )


class StockItem(FromReadModels):
    """One article."""

    read_models = (StockLevels,)
    keyed_by, category = "sku", "stock"

    @extend_schema(
        operation_id="get_stock_item",
        responses={200: StockItemSerializer, 304: OpenApiResponse(description="It's still at the version you have.")},
        parameters=[ReadFrom, IF_NONE_MATCH, ETAG],
    )
    def get(self, request: Request, sku: str) -> Response:
        item = _item(sku, query(request, ReadFrom))
        headers = {"ETag": etag(item.version)}
        return not_modified(request, item.version) or Response(StockItemSerializer(item).data, headers=headers)


class Availability(FromReadModels):
    """How many units of an article are free."""

    read_models = (StockLevels,)
    keyed_by, category = "sku", "stock"

    @extend_schema(
        operation_id="get_availability", responses=AvailabilitySerializer, parameters=[AvailabilityQuery, ETAG]
    )
    def get(self, request: Request, sku: str) -> Response:
        asked = query(request, AvailabilityQuery)
        item = _item(sku, asked)
        free = item.on_hand - item.reserved
        told = {"sku": sku, "available": free, "enough": free >= asked["quantity"]}
        return Response(told, headers={"ETag": etag(item.version)})


class Receipts(APIView):
    """Deliveries of one article."""

    permission_classes = [IsAuthenticated, MayChangeStock]

    @extend_schema(
        operation_id="receive_stock",
        request=ReceiveStockSerializer,
        responses=ReceivedSerializer,
        parameters=[ETAG, IF_MATCH],
    )
    @idempotent()
    def post(self, request: Request, sku: str) -> Response:
        """Receive units of an article."""
        asked = _asked(request, sku, ReceiveStockSerializer)
        recorded = carry_out(ReceiveStock(sku=sku, **asked), request, stream_of(sku))
        received = {"sku": sku, "received": asked["quantity"] if recorded else 0, "reference": asked["reference"]}
        return _answer(sku, recorded, received)


class Adjustments(APIView):
    """Corrections of how many units there are of one article."""

    permission_classes = [IsAuthenticated, MayChangeStock]

    @extend_schema(
        operation_id="adjust_stock",
        request=AdjustStockSerializer,
        responses=AdjustedSerializer,
        parameters=[ETAG, IF_MATCH],
    )
    @idempotent()
    def post(self, request: Request, sku: str) -> Response:
        """Say that there are more or fewer units than the books say. What is promised to orders can't be taken away."""
        asked = _asked(request, sku, AdjustStockSerializer)
        recorded = carry_out(AdjustStock(sku=sku, **asked), request, stream_of(sku))
        adjusted = {"sku": sku, "change": asked["change"] if recorded else 0, "reference": asked["reference"]}
        return _answer(sku, recorded, adjusted)


class ListPrice(APIView):
    """The list price of one article."""

    permission_classes = [IsAuthenticated, MayChangeStock]

    @extend_schema(
        operation_id="set_list_price",
        request=SetPriceSerializer,
        responses=ListedSerializer,
        parameters=[ETAG, IF_MATCH],
    )
    @idempotent(key_required=False)
    def post(self, request: Request, sku: str) -> Response:
        """Set what one unit costs from now on."""
        asked = _asked(request, sku, SetPriceSerializer)
        recorded = carry_out(SetListPrice(sku=sku, list_price=asked["list_price"]), request, stream_of(sku))
        listed = {"sku": sku, "description": _as_told(sku).description}
        return _answer(sku, recorded, {**listed, "list_price": MoneySerializer(asked["list_price"]).data})


def stream_of(sku: str) -> Stream:
    """The article's stream."""
    return Stream("stock", sku)


def _item(sku: str, asked: dict[str, Any]) -> StockLevel:
    """The article as the read model has it, or its stream. Raises Http404."""
    shown = None if asked.get("source") else StockLevel.objects.filter(sku=_known(sku)).first()
    return shown or _as_told(_known(sku))


def _asked(request: Request, sku: str, kind: type[Strict]) -> dict[str, Any]:
    """What is asked of an article that is listed. Raises ValidationError, and Http404."""
    stream = stream_of(_known(sku))
    body = kind(data=request.data)
    body.is_valid(raise_exception=True)
    if not store.version(stream):
        raise Http404
    asked: dict[str, Any] = body.validated_data
    return asked


def _answer(sku: str, recorded: Sequence[Pending], told: dict[str, Any]) -> Response:
    version = recorded[-1].version if recorded else store.version(stream_of(sku))
    return Response({**told, "version": version}, headers={"ETag": etag(version)})


def _known(sku: str) -> str:
    """The SKU. Raises Http404 for what no article can be called."""
    try:
        Code(max_length=64).run_validation(sku)
    except ValidationError:
        raise Http404 from None
    return sku


def _as_told(sku: str) -> StockLevel:
    """The article as its events tell it. Raises Http404 when there are none."""
    item = StockLevels().as_told_by(sku, store.read(stream_of(sku)))
    if item is None:
        raise Http404
    return item
