"""Webhooks over HTTP: endpoints, their secrets, and what each of them was sent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, OpenApiWebhook, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied, Throttled, ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import letters, seats
from eventing.api import LOCATION, Choice, Code, Items, Paging, Strict, Text, WholeNumber, query
from eventing.idempotency import idempotent
from eventing.seats import Room
from eventing.subscriptions import subscription_named
from eventing.webhooks import addresses, announcing, deliveries, endpoints
from eventing.webhooks.addresses import Refused
from eventing.webhooks.announcing import MANAGE
from eventing.webhooks.endpoints import SUBSCRIPTION
from eventing.webhooks.models import WebhookDelivery, WebhookEndpoint

VIEW = "eventing.view_webhookendpoint"
MOST_HOURS = 7 * 24
LARGEST_POSITION = 2**63 - 1
TRIALS = 3  # that an account may have under way: each waits for a stranger
RETRY_SECONDS = 5  # after which somebody who has too many may try again


class Address(Text):
    """Where an endpoint is, as far as that's seen without asking anybody: what a name resolves to is checked before
    each message, when nothing is locked and no connection kept."""

    def to_internal_value(self, data: Any) -> str:
        url = super().to_internal_value(data)
        try:
            addresses.check_written(addresses.parsed(url))
        except Refused as refused:
            raise ValidationError(str(refused)) from None
        return url


class EventType(Code):
    """The stored name of an event that the program knows."""

    default_error_messages = {"unknown": "No event is called {name}. The event map lists all there are."}

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data)
        if name not in known_types():
            self.fail("unknown", name=repr(name[:100]))
        return name


class EndpointFields(Strict):
    """What is said of an endpoint."""

    url = Address(
        max_length=addresses.LONGEST_URL,
        help_text="https, on the public internet, without a user name; redirects aren't followed.",
    )
    description = Text(required=False, allow_blank=True, max_length=500)
    event_types = Items(
        child=EventType(max_length=200),
        required=False,
        allow_null=True,
        allow_empty=False,
        max_length=200,
        help_text="Such as `orders.order_placed`; null, or left out, is all there are and will be.",
    )

    def validate_event_types(self, names: list[str] | None) -> list[str] | None:
        if twice := sorted({name for name in names or () if (names or []).count(name) > 1}):
            raise ValidationError(f"{', '.join(twice)}: once is enough.")
        return names


class RegisterEndpoint(EndpointFields):
    """An endpoint to be registered."""


class ChangeEndpoint(EndpointFields):
    """What is to be changed of an endpoint; the rest stays."""

    enabled = Choice(required=False, help_text="False sends it nothing until it's true again.")


class RotateSecret(Strict):
    """How long receivers have for learning the new secret."""

    old_valid_hours = WholeNumber(
        default=24, min_value=0, max_value=MOST_HOURS, help_text="0 if somebody else knows the old ones."
    )


class ReplayAsked(Strict):
    """From where on events are sent again: behind a position, or from a time on."""

    since_position = WholeNumber(required=False, min_value=0, max_value=LARGEST_POSITION)
    since_time = serializers.DateTimeField(required=False)
    done_too = Choice(
        default=False, help_text="Also what was delivered: receivers that know its `webhook-id` will leave it out."
    )

    def validate(self, said: dict[str, Any]) -> dict[str, Any]:
        if ("since_position" in said) == ("since_time" in said):
            raise ValidationError("Say `since_position` or `since_time`, and not both.")
        return said


class WebhookReason(Strict):
    """Why an endpoint can do without an event, for those who ask later."""

    reason = Text(max_length=letters.LONGEST_REASON)


class DeliveryFilters(Paging):
    """Which deliveries are wanted."""

    state = serializers.ChoiceField(required=False, choices=WebhookDelivery.State.choices)


class EndpointSerializer(serializers.ModelSerializer[WebhookEndpoint]):
    """An endpoint. One that isn't `enabled` says why and since when; it hears of nothing that happens meanwhile, until
    it's asked to `replay`."""

    owner = serializers.CharField(source="owner.username")
    event_types = serializers.ListField(child=serializers.CharField(), allow_null=True)

    class Meta:
        model = WebhookEndpoint
        fields = [
            "id",
            "owner",
            "url",
            "description",
            "event_types",
            "after_position",
            "enabled",
            "disabled_reason",
            "disabled_at",
            "created_at",
        ]
        read_only_fields = fields


class RegisteredSerializer(EndpointSerializer):
    """A new endpoint with its secret, which is never shown again."""

    secret = serializers.SerializerMethodField()

    class Meta(EndpointSerializer.Meta):
        fields = [*EndpointSerializer.Meta.fields, "secret"]
        read_only_fields = fields

    def get_secret(self, endpoint: WebhookEndpoint) -> str:
        return str(self.context["secret"])


class SecretSerializer(serializers.Serializer[Any]):
    """A new secret, which is never shown again, and until when messages are signed with the old ones too."""

    secret = serializers.CharField()
    old_valid_until = serializers.DateTimeField()


class AnswerSerializer(serializers.Serializer[Any]):
    """What came back: a status, or an error; of a failure, how the body begins."""

    status = serializers.IntegerField(allow_null=True)
    error = serializers.CharField(allow_blank=True)
    excerpt = serializers.CharField(allow_blank=True)
    milliseconds = serializers.IntegerField()


class ReplayedSerializer(serializers.Serializer[Any]):
    """How many deliveries wait again, and the position that was looked up to: before `walked`, ask again from there."""

    deliveries = serializers.IntegerField()
    position = serializers.IntegerField()
    walked = serializers.IntegerField()


class WebhookDeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    """An event that an endpoint is sent. A `failed` one keeps the later ones of its sequence waiting until it's retried
    or skipped."""

    event_type = serializers.CharField(source="event.type")
    next_attempt_at = serializers.SerializerMethodField()

    class Meta:
        model = WebhookDelivery
        fields = [
            "id",
            "event_id",
            "event_type",
            "position",
            "sequence",
            "state",
            "attempts",
            "next_attempt_at",
            "last_status",
            "last_error",
            "milliseconds",
            "reason",
            "created_at",
            "attempted_at",
            "finished_at",
        ]
        read_only_fields = fields

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_next_attempt_at(self, delivery: WebhookDelivery) -> str | None:
        waits = delivery.state == WebhookDelivery.State.WAITING and delivery.due_at is not None
        return cast(Any, delivery.due_at).isoformat() if waits else None


class ForOwners(BasePermission):
    """Whoever may have webhooks sees to their own; those who may view all look at all."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        looks = request.method in ("GET", "HEAD", "OPTIONS")
        self.message = f"This takes the permission {MANAGE}{f', or {VIEW}' if looks else ''}."
        return request.user.has_perm(MANAGE) or (looks and request.user.has_perm(VIEW))


class Endpoints(ListAPIView[WebhookEndpoint]):
    """All endpoints that somebody may see, newest first."""

    permission_classes = [IsAuthenticated, ForOwners]
    serializer_class = EndpointSerializer
    queryset: QuerySet[WebhookEndpoint] = WebhookEndpoint.objects.none()  # tells the schema the model
    ordering = "-id"

    def get_queryset(self) -> QuerySet[WebhookEndpoint]:
        return _seen_by(self.request)

    @extend_schema(operation_id="list_webhook_endpoints", parameters=[Paging])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """People see their own; whoever may view all of them sees all."""
        query(request, Paging)
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="register_webhook_endpoint",
        request=RegisterEndpoint,
        responses={201: RegisteredSerializer},
        parameters=[LOCATION],
    )
    @idempotent(can_be_later=False)
    def post(self, request: Request) -> Response:
        """Have an address sent what happens from now on. The answer has the secret to verify signatures with, this
        once. `rejected` when the account has too many."""
        said = _said(RegisterEndpoint, request)
        endpoint, secret = endpoints.register(
            _who(request),
            url=said["url"],
            description=said.get("description", ""),
            event_types=said.get("event_types"),
        )
        shown = RegisteredSerializer(_get(request, endpoint.pk), context={"secret": secret}).data
        location = reverse("api-webhook-endpoint", args=[endpoint.pk])
        return Response(shown, status=201, headers={"Location": location, "Cache-Control": "no-store"})


class Endpoint(APIView):
    """One endpoint."""

    permission_classes = [IsAuthenticated, ForOwners]

    @extend_schema(operation_id="get_webhook_endpoint", responses=EndpointSerializer)
    def get(self, request: Request, endpoint_id: UUID) -> Response:
        """Where it is, and what it hears of. Its secrets are never shown."""
        return _told(request, endpoint_id)

    @extend_schema(operation_id="change_webhook_endpoint", request=ChangeEndpoint, responses=EndpointSerializer)
    def patch(self, request: Request, endpoint_id: UUID) -> Response:
        """Change some of it. What waits goes to the new address, and once it's enabled again, at once. Of the endpoints
        of others only `enabled` can be changed: they speak with their owner's permissions."""
        endpoint = _get(request, endpoint_id)
        body = ChangeEndpoint(data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        if body.validated_data.keys() - {"enabled"}:
            _is_owner(request, endpoint)
        if body.validated_data:
            endpoints.change(endpoint, who=_who(request), **body.validated_data)
        return _told(request, endpoint_id)

    @extend_schema(operation_id="delete_webhook_endpoint", request=None, responses={204: None})
    def delete(self, request: Request, endpoint_id: UUID) -> Response:
        """Forget it, its secrets, and what it wasn't sent yet."""
        endpoints.delete(_get(request, endpoint_id), who=_who(request))
        return Response(status=204)


class SecretRotation(APIView):
    """A new secret for an endpoint."""

    permission_classes = [IsAuthenticated, ForOwners]

    @extend_schema(operation_id="rotate_webhook_secret", request=RotateSecret, responses=SecretSerializer)
    @idempotent(can_be_later=False)
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Make a new secret, shown this once. Until the old ones expire, each message has a signature by each of them.
        Its owner alone can. `rejected` when too many are valid."""
        endpoint = _get(request, endpoint_id)
        _is_owner(request, endpoint)
        hours = _said(RotateSecret, request)["old_valid_hours"]
        secret, until = endpoints.rotate_secret(endpoint, who=_who(request), valid_for=timedelta(hours=hours))
        shown = SecretSerializer({"secret": secret, "old_valid_until": until}).data
        return Response(shown, headers={"Cache-Control": "no-store"})


class Trial(APIView):
    """An endpoint to be tried out."""

    permission_classes = [IsAuthenticated, ForOwners]

    @extend_schema(operation_id="test_webhook_endpoint", request=None, responses=AnswerSerializer)
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Send it a `webhook.test` now, once, even if it's disabled; the answer says what came back. `throttled` when
        several are under way."""
        endpoint = _get(request, endpoint_id)
        if (seat := seats.take(trials(), str(_who(request).pk))) is None:
            raise Throttled(RETRY_SECONDS, f"This account has {TRIALS} trials under way.")
        try:
            answer = announcing.try_out(endpoint)
        finally:
            seats.leave(seat)
        return Response(AnswerSerializer(answer).data)


class Replay(APIView):
    """What an endpoint missed."""

    permission_classes = [IsAuthenticated, ForOwners]

    @extend_schema(operation_id="replay_webhooks", request=ReplayAsked, responses=ReplayedSerializer)
    @idempotent(key_required=False)
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Send it what it missed since a position or a time, in order: what failed or was skipped, and what it never
        heard of, because it was disabled, asked for other types, or wasn't there yet. A message has the `webhook-id`
        that it always had. One call looks at 10,000 of its events."""
        endpoint = _get(request, endpoint_id)
        said = _said(ReplayAsked, request)
        since = said["since_position"] if "since_position" in said else deliveries.position_at(said["since_time"])
        replayed = endpoints.replay(
            endpoint,
            types=endpoint.event_types or known_types(),
            since=since,
            done_too=said["done_too"],
            who=_who(request),
        )
        return Response(ReplayedSerializer(replayed).data)


class WebhookDeliveries(ListAPIView[WebhookDelivery]):
    """What an endpoint is sent."""

    permission_classes = [IsAuthenticated, ForOwners]
    serializer_class = WebhookDeliverySerializer
    queryset: QuerySet[WebhookDelivery] = WebhookDelivery.objects.none()  # tells the schema the model
    ordering = "-id"

    def get_queryset(self) -> QuerySet[WebhookDelivery]:
        asked = query(self.request, DeliveryFilters)
        wanted = {"state": asked["state"]} if "state" in asked else {}
        endpoint = _get(self.request, self.kwargs["endpoint_id"])
        return WebhookDelivery.objects.filter(endpoint=endpoint, **wanted).select_related("event")

    @extend_schema(operation_id="list_webhook_deliveries", parameters=[DeliveryFilters])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """All of them, newest first; those in the state `failed` wait for somebody."""
        return super().get(request, *args, **kwargs)


class DeliveryRetry(APIView):
    """A delivery to be made now."""

    permission_classes = [IsAuthenticated, ForOwners]

    @extend_schema(operation_id="retry_webhook_delivery", request=None, responses=WebhookDeliverySerializer)
    @idempotent(key_required=False)
    def post(self, request: Request, endpoint_id: UUID, delivery_id: int) -> Response:
        """Make it now, with all its attempts; what waits behind it follows. `rejected` when it's done or under way."""
        endpoints.retry(_delivery(request, endpoint_id, delivery_id), who=_who(request))
        return _delivery_told(request, endpoint_id, delivery_id)


class DeliverySkip(APIView):
    """A delivery to be given up."""

    permission_classes = [IsAuthenticated, ForOwners]

    @extend_schema(operation_id="skip_webhook_delivery", request=WebhookReason, responses=WebhookDeliverySerializer)
    @idempotent(key_required=False)
    def post(self, request: Request, endpoint_id: UUID, delivery_id: int) -> Response:
        """Give it up for a written reason; the next of its sequence go on. `rejected` when it isn't open, or is under
        way."""
        delivery = _delivery(request, endpoint_id, delivery_id)
        endpoints.skip(delivery, reason=_said(WebhookReason, request)["reason"], who=_who(request))
        return _delivery_told(request, endpoint_id, delivery_id)


class EventDataSerializer(serializers.Serializer[Any]):
    """An event and where it stands: the `version`-th of its `stream`, at a `position` of the whole log."""

    id = serializers.UUIDField()
    stream = serializers.CharField()
    version = serializers.IntegerField()
    position = serializers.IntegerField()
    event = serializers.DictField(help_text="The event's own fields; the AsyncAPI document has their schemas.")
    left_out = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Fields without which it was too large to be sent."
    )


class EventMessageSerializer(serializers.Serializer[Any]):
    """What an endpoint is sent."""

    type = serializers.CharField(help_text="The event's stored name, or `webhook.test`.")
    timestamp = serializers.DateTimeField(help_text="When it happened.")
    data = EventDataSerializer()  # type: ignore[assignment] # a serializer's own attribute has the name too


SIGNED = [
    OpenApiParameter(
        "webhook-id", str, OpenApiParameter.HEADER, required=True, description="The same at each attempt."
    ),
    OpenApiParameter("webhook-timestamp", str, OpenApiParameter.HEADER, required=True, description="In Unix seconds."),
    OpenApiParameter(
        "webhook-signature", str, OpenApiParameter.HEADER, required=True, description="v1,… for each secret."
    ),
]

event_happened = OpenApiWebhook(
    name="event",
    decorator=extend_schema(
        operation_id="event_happened",
        summary="An event happened",
        description="Signed as Standard Webhooks has it. Answer 2xx within 15 seconds; all else comes again later.",
        parameters=SIGNED,
        request=EventMessageSerializer,
        responses={204: None},
    ),
)


def known_types() -> list[str]:
    """The stored names of all events."""
    return subscription_named(SUBSCRIPTION).types


def trials() -> Room:
    """Where those sit who try an endpoint out."""
    return Room("trials", TRIALS, settings.EVENTING["WEBHOOK_SECONDS"] + RETRY_SECONDS)


def _who(request: Request) -> User:
    return cast(User, request.user)


def _said(kind: type[Strict], request: Request) -> dict[str, Any]:
    body = kind(data=request.data)
    body.is_valid(raise_exception=True)
    said: dict[str, Any] = body.validated_data
    return said


def _seen_by(request: Request) -> QuerySet[WebhookEndpoint]:
    found = WebhookEndpoint.objects.select_related("owner")
    return found if request.user.has_perm(VIEW) else found.filter(owner=_who(request))


def _get(request: Request, endpoint_id: UUID) -> WebhookEndpoint:
    return get_object_or_404(_seen_by(request), pk=endpoint_id)


def _is_owner(request: Request, endpoint: WebhookEndpoint) -> None:
    if endpoint.owner_id != _who(request).pk:
        raise PermissionDenied("It speaks with its owner's permissions, so its owner alone can do this.")


def _told(request: Request, endpoint_id: UUID) -> Response:
    return Response(EndpointSerializer(_get(request, endpoint_id)).data)


def _delivery(request: Request, endpoint_id: UUID, delivery_id: int) -> WebhookDelivery:
    if delivery_id > LARGEST_POSITION:
        raise Http404
    found = WebhookDelivery.objects.select_related("event", "endpoint")
    return get_object_or_404(found, pk=delivery_id, endpoint=_get(request, endpoint_id))


def _delivery_told(request: Request, endpoint_id: UUID, delivery_id: int) -> Response:
    return Response(WebhookDeliverySerializer(_delivery(request, endpoint_id, delivery_id)).data)
