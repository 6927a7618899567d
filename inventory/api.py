"""Stock over HTTP. Every account may look at it; changing it takes a permission."""

from __future__ import annotations

from typing import Any, cast

from django.http import Http404
from django.urls import reverse
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import store
from eventing.api import (
    ETAG,
    LOCATION,
    Code,
    MoneySerializer,
    Paging,
    Strict,
    Text,
    WholeNumber,
    carry_out,
    etag,
    query,
)
from eventing.records import Stream
from inventory.commands import ListStockItem, ReceiveStock
from inventory.events import StockEvent
from inventory.models import StockLevel
from inventory.projections import StockLevels

CHANGE = "inventory.change_stocklevel"


class MayChangeStock(BasePermission):
    """Everybody looks, few write."""

    message = f"Changing stock takes the permission {CHANGE}."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method in ("GET", "HEAD") or request.user.has_perm(CHANGE)


class StockItemSerializer(serializers.ModelSerializer[StockLevel]):
    """An article: units in the house, promised to orders, and free."""

    list_price = serializers.SerializerMethodField()
    available = serializers.SerializerMethodField()

    class Meta:
        model = StockLevel
        fields = ["sku", "description", "list_price", "on_hand", "reserved", "available", "version"]
        read_only_fields = fields

    @extend_schema_field(MoneySerializer)
    def get_list_price(self, item: StockLevel) -> dict[str, Any]:
        return {"amount": item.list_price_minor, "currency": item.currency}

    def get_available(self, item: StockLevel) -> int:
        return item.on_hand - item.reserved


class ListStockItemSerializer(Strict):
    """What an article is known under, and what one unit of it costs."""

    sku = Code(max_length=64, help_text="Without a slash, because it's part of addresses.")
    description = Text(max_length=255)
    list_price = MoneySerializer()

    def validate_sku(self, sku: str) -> str:
        if "/" in sku or sku in (".", ".."):
            raise ValidationError("An SKU is part of addresses, so it can't have a slash, nor be only dots.")
        return sku


class ListedSerializer(Strict):
    """What an article is known under from now on."""

    sku = serializers.CharField()
    description = serializers.CharField()
    list_price = MoneySerializer()
    version = serializers.IntegerField()


class ReceiveStockSerializer(Strict):
    """Units that came into the house."""

    quantity = WholeNumber(min_value=1, max_value=1_000_000_000)
    reference = Text(
        max_length=255,
        allow_blank=True,
        default="",
        help_text="The delivery's name: with one, it's received once, however often it's sent.",
    )


class ReceivedSerializer(Strict):
    """What came in with this request: 0 units when the delivery had been received before."""

    sku = serializers.CharField()
    received = serializers.IntegerField()
    reference = serializers.CharField()
    version = serializers.IntegerField()


class StockItems(ListAPIView[StockLevel]):
    """All articles, in the order of their SKUs."""

    permission_classes = [IsAuthenticated, MayChangeStock]
    queryset = StockLevel.objects.all()
    serializer_class = StockItemSerializer
    ordering = "sku"

    @extend_schema(operation_id="list_stock_items", parameters=[Paging])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        query(request, Paging)
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="list_stock_item",
        request=ListStockItemSerializer,
        responses={201: ListedSerializer, 200: ListedSerializer},
        parameters=[ETAG, LOCATION],
    )
    def post(self, request: Request) -> Response:
        """List an article (201), or change the description and price of one that is listed already (200)."""
        body = ListStockItemSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        command = ListStockItem(**body.validated_data)
        recorded = carry_out(command, request)
        version = recorded[-1].version if recorded else store.version(stream_of(command.sku))
        listed = {"sku": command.sku, "description": command.description, "list_price": command.list_price}
        return Response(
            ListedSerializer({**listed, "version": version}).data,
            status=201 if recorded and version == 1 else 200,
            headers={"ETag": etag(version), "Location": reverse("stock-item", args=[command.sku])},
        )


class StockItem(APIView):
    """One article."""

    @extend_schema(operation_id="get_stock_item", responses=StockItemSerializer, parameters=[ETAG])
    def get(self, request: Request, sku: str) -> Response:
        item = StockLevel.objects.filter(sku=_known(sku)).first() or _from_stream(sku)
        return Response(StockItemSerializer(item).data, headers={"ETag": etag(item.version)})


class Receipts(APIView):
    """Deliveries of one article."""

    permission_classes = [IsAuthenticated, MayChangeStock]

    @extend_schema(
        operation_id="receive_stock",
        request=ReceiveStockSerializer,
        responses=ReceivedSerializer,
        parameters=[ETAG],
    )
    def post(self, request: Request, sku: str) -> Response:
        """Receive units of an article."""
        stream = stream_of(_known(sku))
        body = ReceiveStockSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        if not store.version(stream):
            raise Http404
        asked = body.validated_data
        recorded = carry_out(ReceiveStock(sku=sku, **asked), request)
        received = {
            "sku": sku,
            "received": asked["quantity"] if recorded else 0,
            "reference": asked["reference"],
            "version": recorded[-1].version if recorded else store.version(stream),
        }
        return Response(received, headers={"ETag": etag(received["version"])})


def stream_of(sku: str) -> Stream:
    """The article's stream."""
    return Stream("stock", sku)


def _known(sku: str) -> str:
    """The SKU. Raises Http404 for what no article can be called."""
    try:
        Code(max_length=64).run_validation(sku)
    except ValidationError:
        raise Http404 from None
    return sku


def _from_stream(sku: str) -> StockLevel:
    """The article as it is now, for a moment in which its read model isn't there yet. Raises Http404."""
    item = StockLevel(sku=sku)
    for record in store.read(stream_of(sku)):
        StockLevels().apply(item, cast(StockEvent, record.event), record)
    if item.version is None:
        raise Http404
    return item
