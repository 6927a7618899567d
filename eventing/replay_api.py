"""Replays over HTTP: read models built anew by the workers, compared, and exchanged when somebody says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import models, replay, replaying
from eventing.api import LOCATION, Choice, Code, Paging, Strict, Takes, query
from eventing.domain import Rejected
from eventing.idempotency import idempotent
from eventing.projections import ProjectionSubscription
from eventing.subscriptions import UnknownSubscription

VIEW, RUN, PERSONAL = "eventing.view_replay", "eventing.run_replay", "eventing.view_personal_data"

ACTS: dict[str, Callable[..., models.Replay]] = {
    "pause": replaying.pause,
    "resume": replaying.resume,
    "exchange": replaying.exchange,
    "cancel": replaying.cancel,
    "rollback": replaying.roll_back,
}


class StartReplaySerializer(Strict):
    """With `verify_only` nothing is exchanged; with `with_failures` it may have events that couldn't be projected."""

    projection = Code(max_length=200, help_text="Such as `orders.OrderSummaries`.")
    verify_only = Choice(default=False)
    with_failures = Choice(default=False)

    def validate_projection(self, name: str) -> ProjectionSubscription:
        try:
            return replay.projection_named(name)
        except (UnknownSubscription, replay.NotReplayable) as error:
            raise ValidationError(str(error)) from error


class DifferenceSerializer(serializers.Serializer[Any]):
    """A row that isn't the same: the columns that differ, on both sides; null on a side that hasn't the row."""

    key = serializers.CharField(allow_blank=True)
    live = serializers.DictField(allow_null=True)
    rebuilt = serializers.DictField(allow_null=True)


class ComparisonSerializer(serializers.Serializer[Any]):
    """Both tables at the same positions of the log, and the first rows that differ."""

    live_rows = serializers.IntegerField()
    live_checksum = serializers.CharField()
    rebuilt_rows = serializers.IntegerField()
    rebuilt_checksum = serializers.CharField()
    different = serializers.IntegerField()
    differences = DifferenceSerializer(many=True)


class ReplaySerializer(serializers.ModelSerializer[models.Replay]):
    """A replay. One that is `compared` waits for `exchange`. Positions are summed up over all partitions. Without
    the permission to see personal data, rows that may tell of persons are left out, and errors are cut short."""

    comparison = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()

    class Meta:
        model = models.Replay
        fields = [
            "id",
            "projection",
            "state",
            "verify_only",
            "with_failures",
            "position",
            "target",
            "rate",
            "comparison",
            "error",
            "started_by",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    @extend_schema_field(ComparisonSerializer(allow_null=True))
    def get_comparison(self, shown: models.Replay) -> dict[str, Any] | None:
        found = replay.comparison_of(shown)
        if found is not None and self._hides(shown):
            found = msgspec.structs.replace(found, differences=[])
        told: dict[str, Any] | None = msgspec.to_builtins(found)
        return told

    def get_error(self, shown: models.Replay) -> str:
        return shown.error.partition(":")[0] if self._hides(shown) else shown.error

    def _hides(self, shown: models.Replay) -> bool:
        try:
            tells = replay.projection_named(shown.projection).tells_of_persons
        except UnknownSubscription:
            tells = True
        return tells and not self.context["request"].user.has_perm(PERSONAL)


class Replays(ListAPIView[models.Replay]):
    """All replays, newest first."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, RUN)
    serializer_class = ReplaySerializer
    queryset: QuerySet[models.Replay] = models.Replay.objects.all()
    ordering = "-id"

    @extend_schema(operation_id="list_replays", parameters=[Paging])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        query(request, Paging)
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="start_replay",
        request=StartReplaySerializer,
        responses={201: ReplaySerializer},
        parameters=[LOCATION],
    )
    @idempotent()
    def post(self, request: Request) -> Response:
        """Let the workers build a read model beside the live one and compare the two, or go on with what is open.
        Nothing is exchanged before somebody says `exchange`."""
        body = StartReplaySerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = dict(body.validated_data)
        begun = replaying.start(asked.pop("projection"), who=cast(User, request.user), **asked)
        location = reverse("api-replay", args=[begun.pk])
        shown = ReplaySerializer(begun, context={"request": request}).data
        return Response(shown, status=201, headers={"Location": location})


class Replay(APIView):
    """One replay."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")

    @extend_schema(operation_id="get_replay", responses=ReplaySerializer)
    def get(self, request: Request, replay_id: int) -> Response:
        """How far it is, and what was found different."""
        return Response(ReplaySerializer(_find(replay_id), context={"request": request}).data)


class ReplayAct(APIView):
    """Something to do with a replay."""

    permission_classes = [IsAuthenticated, Takes]
    takes = ("", RUN)

    @extend_schema(
        operation_id="act_on_replay",
        request=None,
        responses=ReplaySerializer,
        parameters=[OpenApiParameter("act", str, OpenApiParameter.PATH, enum=list(ACTS))],
    )
    @idempotent(key_required=False)
    def post(self, request: Request, replay_id: int, act: str) -> Response:
        """`pause`, `resume` or `cancel` it; `exchange` what was built, once it's `compared`; or go back with
        `rollback`. It's `rejected` with the reason when that can't be done to it now."""
        if act not in ACTS:
            raise Http404
        found = _find(replay_id)
        if models.Replay.objects.filter(projection=found.projection, pk__gt=found.pk).exists():
            raise Rejected(f"There is a newer replay of {found.projection}.")
        done = ACTS[act](replay.projection_named(found.projection), who=cast(User, request.user))
        return Response(ReplaySerializer(done, context={"request": request}).data)


def _find(replay_id: int) -> models.Replay:
    return get_object_or_404(models.Replay, pk=replay_id)
