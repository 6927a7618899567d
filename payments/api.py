"""Payments over HTTP. An order's customer sees what became of the order; these are for those who look after them."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib.auth.models import User
from django.http import Http404
from django.urls import reverse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from uuid_utils.compat import uuid7

from eventing import audit, store
from eventing.api import ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION, ReadFrom, Takes, carry_out, not_modified, query
from eventing.freshness import FromReadModels
from eventing.headers import etag
from eventing.idempotency import idempotent
from eventing.money import Money
from eventing.records import Stream
from payments.commands import RefundPart
from payments.events import PaymentRefunded, RefundRequested
from payments.filters import PaymentFilters
from payments.models import PaymentSummary
from payments.projections import PaymentSummaries
from payments.serializers import PaymentSerializer, RefundSerializer, RequestRefundSerializer

VIEW, REFUND = "payments.view_paymentsummary", "payments.refund_payment"


class Payments(FromReadModels, ListAPIView[PaymentSummary]):
    """All payments, newest first: an order has one, and ids of orders grow with time."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, REFUND)
    queryset = PaymentSummary.objects.all()
    serializer_class = PaymentSerializer
    filterset_class = PaymentFilters
    read_models = (PaymentSummaries,)
    ordering = "-order_id"

    @extend_schema(operation_id="list_payments")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class Payment(FromReadModels):
    """One payment."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, REFUND)
    read_models = (PaymentSummaries,)
    keyed_by, category = "payment_id", "payment"

    @extend_schema(
        operation_id="get_payment",
        responses={200: PaymentSerializer, 304: OpenApiResponse(description="It's still at the version you have.")},
        parameters=[ReadFrom, IF_NONE_MATCH, ETAG],
    )
    def get(self, request: Request, payment_id: UUID) -> Response:
        shown = None if query(request, ReadFrom) else PaymentSummary.objects.filter(pk=payment_id).first()
        payment = shown or _as_told(payment_id)
        headers = {"ETag": etag(payment.version)}
        return not_modified(request, payment.version) or Response(PaymentSerializer(payment).data, headers=headers)


class Refunds(APIView):
    """Money of a payment that is given back."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, REFUND)

    @extend_schema(
        operation_id="refund_payment",
        request=RequestRefundSerializer,
        responses={201: RefundSerializer},
        parameters=[ETAG, LOCATION, IF_MATCH],
    )
    @idempotent()
    def post(self, request: Request, payment_id: UUID) -> Response:
        """Give money back, all that is left or a part. The gateway is asked in a moment; `status` says when it's done.

        For goods that came back register a return of the order instead: it gives back what was paid for them.
        """
        stream = stream_of(payment_id)
        payment = _as_told(payment_id)
        body = RequestRefundSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        command = RefundPart(
            payment_id=payment_id,
            refund_id=asked.get("refund_id") or uuid7(),
            amount=asked.get("amount") or _left(payment),
            reason=asked["reason"],
        )
        if carry_out(command, request, stream):
            audit.note(cast(User, request.user), "refunded", payment, amount=str(command.amount), reason=command.reason)
        location = reverse("payment-refund", args=[payment_id, command.refund_id])
        headers = {"ETag": etag(store.version(stream)), "Location": location}
        return Response(_refund(payment_id, command.refund_id), status=201, headers=headers)


class Refund(APIView):
    """One of them."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, REFUND)

    @extend_schema(operation_id="get_refund", responses=RefundSerializer)
    def get(self, request: Request, payment_id: UUID, refund_id: UUID) -> Response:
        return Response(_refund(payment_id, refund_id))


def stream_of(payment_id: UUID) -> Stream:
    """The payment's stream."""
    return Stream("payment", str(payment_id))


def _as_told(payment_id: UUID) -> PaymentSummary:
    """The payment as its events tell it. Raises Http404 when there are none."""
    payment = PaymentSummaries().as_told_by(payment_id, store.read(stream_of(payment_id)))
    if payment is None:
        raise Http404
    return payment


def _left(payment: PaymentSummary) -> Money:
    minor = payment.amount_minor - payment.refunding_minor - payment.refunded_minor
    return Money(minor=minor, currency=payment.currency)


def _refund(payment_id: UUID, refund_id: UUID) -> dict[str, Any]:
    """A refund as the payment's events tell it. Raises Http404 when there is none."""
    told: dict[str, Any] = {}
    for record in store.read(stream_of(payment_id)):
        match record.event:
            case RefundRequested() as event if event.refund_id == refund_id:
                told = {"amount": event.amount, "reason": event.reason, "status": "requested", "reference": ""}
            case PaymentRefunded() as event if event.refund_id == refund_id:
                told |= {"status": "refunded", "reference": event.reference}
    if not told:
        raise Http404
    return dict(RefundSerializer({"payment_id": payment_id, "refund_id": refund_id, **told}).data)
