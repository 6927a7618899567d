"""Shipments over HTTP. An order's customer sees what became of the order; these are for those who look after them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from eventing import store
from eventing.api import ETAG, IF_NONE_MATCH, Takes, query
from eventing.freshness import FromReadModels
from eventing.headers import etag, is_known
from eventing.records import Record, Stream
from shipping.events import ShipmentEvent
from shipping.filters import ShipmentFilters
from shipping.models import ShipmentSummary
from shipping.projections import ShipmentSummaries
from shipping.serializers import ShipmentQuery, ShipmentSerializer

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
        parameters=[ShipmentQuery, IF_NONE_MATCH, ETAG],
    )
    def get(self, request: Request, shipment_id: UUID) -> Response:
        asked = query(request, ShipmentQuery)
        shown = None if asked else ShipmentSummary.objects.filter(pk=shipment_id).first()
        shipment = shown or _from(store.read(Stream("shipment", str(shipment_id))))
        if is_known(request, shipment.version):
            return Response(status=304, headers={"ETag": etag(shipment.version)})
        return Response(ShipmentSerializer(shipment).data, headers={"ETag": etag(shipment.version)})


def _from(records: Iterable[Record]) -> ShipmentSummary:
    """The shipment as its events tell it. Raises Http404 when there are none."""
    shipment = ShipmentSummary()
    for record in records:
        event = cast(ShipmentEvent, record.event)
        shipment.shipment_id = event.shipment_id
        ShipmentSummaries().apply(shipment, event, record)
    if shipment.version is None:
        raise Http404
    return shipment
