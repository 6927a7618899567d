"""Shipments over HTTP. An order's customer sees what became of the order; these are for those who look after them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from eventing import store
from eventing.api import ETAG, IF_NONE_MATCH, ReadFrom, Takes, not_modified, query
from eventing.freshness import FromReadModels
from eventing.headers import etag
from eventing.records import Stream
from shipping.filters import ShipmentFilters
from shipping.models import ShipmentSummary
from shipping.projections import ShipmentSummaries
from shipping.serializers import ShipmentSerializer

VIEW = "shipping.view_shipmentsummary"


class Shipments(FromReadModels, ListAPIView[ShipmentSummary]):
    """All shipments, newest first: an order has one, and ids of orders grow with time."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, VIEW)
    queryset = ShipmentSummary.objects.all()
    serializer_class = ShipmentSerializer
    filterset_class = ShipmentFilters
    read_models = (ShipmentSummaries,)
    ordering = "-order_id"

    @extend_schema(operation_id="list_shipments")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class Shipment(FromReadModels):
    """One shipment."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, VIEW)
    read_models = (ShipmentSummaries,)
    keyed_by, category = "shipment_id", "shipment"

    @extend_schema(
        operation_id="get_shipment",
        responses={200: ShipmentSerializer, 304: OpenApiResponse(description="It's still at the version you have.")},
        parameters=[ReadFrom, IF_NONE_MATCH, ETAG],
    )
    def get(self, request: Request, shipment_id: UUID) -> Response:
        shown = None if query(request, ReadFrom) else ShipmentSummary.objects.filter(pk=shipment_id).first()
        shipment = shown or _as_told(shipment_id)
        headers = {"ETag": etag(shipment.version)}
        return not_modified(request, shipment.version) or Response(ShipmentSerializer(shipment).data, headers=headers)


def _as_told(shipment_id: UUID) -> ShipmentSummary:
    """The shipment as its events tell it. Raises Http404 when there are none."""
    stream = Stream("shipment", str(shipment_id))
    shipment = ShipmentSummaries().as_told_by(shipment_id, store.read(stream))
    if shipment is None:
        raise Http404
    return shipment
