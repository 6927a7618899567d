"""What became of requests that were accepted to be carried out later."""

from __future__ import annotations

import time
from typing import Any

from django.db.models import Prefetch, QuerySet
from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import freshness, requested
from eventing.api import Paging, Strict, query
from eventing.headers import preferences
from eventing.models import RequestedCommand, RequestedPart

VIEW, PERSONAL = "eventing.view_requestedcommand", "eventing.view_personal_data"

PREFER = OpenApiParameter(
    "Prefer", str, OpenApiParameter.HEADER, description="`wait=N`: wait for its end, for N seconds at most, up to 10."
)


WRITTEN = OpenApiParameter(
    freshness.HEADER,
    str,
    OpenApiParameter.HEADER,
    response=[200],
    description="Once it has ended: a read that brings it along sees what was written.",
)


class ProgressOfPartsSerializer(serializers.Serializer[Any]):
    """How many parts are done."""

    done = serializers.IntegerField()
    total = serializers.IntegerField()


class CommandSummarySerializer(serializers.Serializer[Any]):
    """A request that is carried out later. Of many items some may have failed: it's `partially_succeeded` then."""

    id = serializers.UUIDField()
    path = serializers.CharField(help_text="What it was asked of.")
    state = serializers.ChoiceField(RequestedCommand.State.choices)
    created_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)
    progress = ProgressOfPartsSerializer()


@extend_schema_field({"type": ["object", "null"]})
class Told(serializers.JSONField):
    """What a request was answered."""


class CommandSerializer(CommandSummarySerializer):
    """A request that is carried out later. Once it has ended, `result` is what it would have been answered at once, or
    `problem` says what was wrong; for who may not see what is personal those of others' commands are left out. Of many
    items some may have failed: it's `partially_succeeded` then, and each has its own problem."""

    result = Told()
    problem = Told()


class Commands(ListAPIView[RequestedCommand]):
    """Requests that were accepted to be carried out later."""

    serializer_class = CommandSummarySerializer
    queryset = RequestedCommand.objects.all()
    ordering = "-id"

    def get_queryset(self) -> QuerySet[RequestedCommand]:
        parts = Prefetch("parts", RequestedPart.objects.only("command_id", "status"))
        return visible_to(self.request).prefetch_related(parts)

    @extend_schema(operation_id="list_commands", parameters=[Paging])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Your own; for accounts that may see those of others, all. They are kept for a day after their end."""
        query(request, Paging)
        return super().get(request, *args, **kwargs)


class Command(APIView):
    """One of them."""

    @extend_schema(operation_id="get_command", responses=CommandSerializer, parameters=[PREFER, WRITTEN])
    def get(self, request: Request, command_id: Any) -> Response:
        """What has become of it by now, or, with `Prefer: wait=N`, by its end."""
        query(request, Strict)
        patience = preferences(request).wait or 0.0
        until = time.monotonic() + patience
        while True:
            command = visible_to(request).filter(pk=command_id).first()
            if command is None:
                raise Http404
            if command.state not in RequestedCommand.OPEN or time.monotonic() + freshness.LONGEST_PAUSE > until:
                break
            freshness.rest(freshness.LONGEST_PAUSE)
        headers = {"Preference-Applied": f"wait={patience:.0f}"} if patience else {}
        if command.state in RequestedCommand.OPEN:
            headers["Retry-After"] = "1"
        elif written := requested.token(command):
            headers[freshness.HEADER] = written
        may_see = command.account_id == request.user.pk or request.user.has_perm(PERSONAL)
        told = requested.described(command, with_answer=may_see)
        return Response(CommandSerializer(told).data, headers=headers)


def visible_to(request: Request) -> QuerySet[RequestedCommand]:
    """Those that who asks may see."""
    commands = RequestedCommand.objects.all()
    return commands if request.user.has_perm(VIEW) else commands.filter(account_id=request.user.pk)
