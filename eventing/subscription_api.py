"""Subscriptions over HTTP: how far each has come, pausing one, and letting it go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django.contrib.auth.models import User
from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import pausing
from eventing.api import Strict, Takes, query
from eventing.idempotency import idempotent
from eventing.status import SubscriptionStatus, status
from eventing.subscriptions import subscription_named

VIEW, PAUSE = "eventing.view_checkpoint", "eventing.pause_checkpoint"

ACTS: dict[str, Callable[..., int]] = {"pause": pausing.pause, "resume": pausing.resume}


class SubscriptionSerializer(serializers.Serializer[Any]):
    """A subscription: its lag in positions of the log, and in seconds, which is the age of the first event that it
    hasn't seen; events a second in its last batch; and letters that wait apart."""

    name = serializers.CharField()
    kind = serializers.CharField(help_text="Such as `projection`, `saga` or `effect`.")
    state = serializers.CharField(help_text="Such as `running` or `paused`; partitions that differ have both.")
    partitions = serializers.IntegerField()
    position = serializers.IntegerField()
    lag = serializers.IntegerField()
    lag_seconds = serializers.FloatField()
    rate = serializers.FloatField()
    handled = serializers.IntegerField()
    waiting = serializers.IntegerField()
    dead = serializers.IntegerField()
    moved_at = serializers.DateTimeField(allow_null=True)


class SubscriptionListSerializer(serializers.Serializer[Any]):
    """All of them, and the position of the last event in the log."""

    head = serializers.IntegerField()
    results = SubscriptionSerializer(many=True)


class Subscriptions(APIView):
    """All subscriptions."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")

    @extend_schema(operation_id="list_subscriptions", responses=SubscriptionListSerializer)
    def get(self, request: Request) -> Response:
        """How far each has come, by name. There are as many as the program defines, so the list has one page."""
        query(request, Strict)
        found = status()
        return Response(SubscriptionListSerializer({"head": found.head, "results": found.subscriptions}).data)


class Subscription(APIView):
    """One subscription."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")

    @extend_schema(operation_id="get_subscription", responses=SubscriptionSerializer)
    def get(self, request: Request, name: str) -> Response:
        """How far it has come."""
        return Response(SubscriptionSerializer(_find(name)).data)


class SubscriptionAct(APIView):
    """Something to do with a subscription."""

    permission_classes = [IsAuthenticated, Takes]
    takes = ("", PAUSE)

    @extend_schema(
        operation_id="act_on_subscription",
        request=None,
        responses=SubscriptionSerializer,
        parameters=[OpenApiParameter("act", str, OpenApiParameter.PATH, enum=list(ACTS))],
    )
    @idempotent(key_required=False)
    def post(self, request: Request, name: str, act: str) -> Response:
        """`pause` it after the batch that is under way, or let it `resume`. Safe to repeat."""
        if act not in ACTS:
            raise Http404
        _find(name)
        ACTS[act](subscription_named(name), who=cast(User, request.user))
        return Response(SubscriptionSerializer(_find(name)).data)


def _find(name: str) -> SubscriptionStatus:
    for found in status().subscriptions:
        if found.name == name:
            return found
    raise Http404
