"""Sagas over HTTP: which there are, what each did, why one isn't finished, and letting it go on."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import msgspec
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import resuming, stuck
from eventing.api import Code, Identifier, Paging, Takes, query
from eventing.idempotency import idempotent
from eventing.models import SagaInstance
from eventing.saga_history import history_of, memory_of, reminders_of

VIEW, RESUME, PERSONAL = "eventing.view_sagainstance", "eventing.resume_sagainstance", "eventing.view_personal_data"


class SagaFilters(Paging):
    """Which sagas are wanted."""

    saga = Code(required=False, max_length=200, help_text="Its name, such as `orders.OrderFulfilment`.")
    state = Code(required=False, max_length=200, help_text="Such as `COMPENSATING`.")
    key = Identifier(required=False, help_text="Such as an order's id.")
    stuck = serializers.BooleanField(
        required=False, help_text="Only those that failed, missed their deadline, or have a dead letter."
    )


class SagaSerializer(serializers.ModelSerializer[SagaInstance]):
    """A saga at a glance. `failed` ones wait for a person."""

    class Meta:
        model = SagaInstance
        fields = ["saga", "key", "state", "failed", "started_at", "updated_at", "deadline_at", "ended_at"]
        read_only_fields = fields


class SagaCommandSerializer(serializers.Serializer[Any]):
    """A command that it sent; `refused` is the reason, if it was."""

    name = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment] # fields aren't attributes
    refused = serializers.CharField(allow_blank=True)


class SagaStepSerializer(serializers.Serializer[Any]):
    """What came in, an `event` or a `reminder`, and what the saga was after it. A `late` one did nothing."""

    number = serializers.IntegerField(help_text="From 1.")
    taken_at = serializers.DateTimeField()
    event = serializers.CharField(allow_blank=True, help_text="Its stored name; empty for a reminder.")
    event_id = serializers.UUIDField(allow_null=True)
    position = serializers.IntegerField(allow_null=True)
    reminder = serializers.CharField(
        allow_blank=True,
        help_text="Its subject; `resumed` when a person resumed it, `given up: letter N` when an effect gave up.",
    )
    commands = SagaCommandSerializer(many=True)
    state = serializers.CharField()
    memory = serializers.DictField()
    changed = serializers.ListField(child=serializers.CharField(), help_text="Fields of the memory that it changed.")
    late = serializers.BooleanField()


class SagaReminderSerializer(serializers.Serializer[Any]):
    """A reminder that is set."""

    about = serializers.CharField()
    due_at = serializers.DateTimeField()


class WhySerializer(serializers.Serializer[Any]):
    """Why it isn't finished, in a sentence, and what helps; `letter` is the number of the one to do it to."""

    sentence = serializers.CharField()
    act = serializers.CharField()
    letter = serializers.IntegerField(allow_null=True)
    subscription = serializers.CharField(allow_blank=True)


class SagaDetailSerializer(SagaSerializer):
    """A saga with all that it did. What tells of a person is `[hidden]` without the permission to see it."""

    why = serializers.SerializerMethodField()
    memory = serializers.SerializerMethodField()
    reminders = serializers.SerializerMethodField()
    history = serializers.SerializerMethodField()

    class Meta(SagaSerializer.Meta):
        fields = [*SagaSerializer.Meta.fields, "why", "memory", "reminders", "history"]
        read_only_fields = fields

    @extend_schema_field(WhySerializer)
    def get_why(self, saga: SagaInstance) -> dict[str, Any]:
        why: dict[str, Any] = msgspec.to_builtins(stuck.why_unfinished(saga))
        return why

    @extend_schema_field(serializers.DictField())
    def get_memory(self, saga: SagaInstance) -> dict[str, Any]:
        return memory_of(saga, with_personal_data=self._may_see_persons)

    @extend_schema_field(SagaReminderSerializer(many=True))
    def get_reminders(self, saga: SagaInstance) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(each) for each in reminders_of(saga)]

    @extend_schema_field(SagaStepSerializer(many=True))
    def get_history(self, saga: SagaInstance) -> list[dict[str, Any]]:
        steps = history_of(saga, with_personal_data=self._may_see_persons)
        return [msgspec.to_builtins(step) for step in steps]

    @property
    def _may_see_persons(self) -> bool:
        return bool(self.context["request"].user.has_perm(PERSONAL))


class ResumptionSerializer(serializers.Serializer[Any]):
    """What resuming did: so many of its letters are tried again, and whether it hears of it."""

    letters = serializers.IntegerField()
    hears = serializers.BooleanField()


class Sagas(ListAPIView[SagaInstance]):
    """All sagas, newest first."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")
    serializer_class = SagaSerializer
    ordering = "-id"

    def get_queryset(self) -> QuerySet[SagaInstance]:
        asked = query(self.request, SagaFilters)
        sagas = stuck.stuck() if asked.get("stuck") else SagaInstance.objects.all()
        wanted = {name: value for name, value in asked.items() if name in ("saga", "state", "key")}
        if "key" in wanted and "saga" not in wanted:  # both columns make the index
            wanted["saga__in"] = [each.name for each in resuming.sagas()]
        return sagas.filter(**wanted)

    @extend_schema(operation_id="list_sagas", parameters=[SagaFilters])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class Saga(APIView):
    """One saga."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")

    @extend_schema(operation_id="get_saga", responses=SagaDetailSerializer)
    def get(self, request: Request, name: str, key: UUID) -> Response:
        """What it did, step by step, and why it isn't finished."""
        return Response(SagaDetailSerializer(_find(name, key), context={"request": request}).data)


class Resumption(APIView):
    """A saga that is to go on."""

    permission_classes = [IsAuthenticated, Takes]
    takes = ("", RESUME)

    @extend_schema(operation_id="resume_saga", request=None, responses=ResumptionSerializer)
    @idempotent(key_required=False)
    def post(self, request: Request, name: str, key: UUID) -> Response:
        """Try the saga's letters again, and let it ask again for what it awaits. Safe to repeat; `rejected` when that
        would change nothing."""
        done = resuming.resume(_find(name, key), who=cast(User, request.user))
        return Response({"letters": done.letters, "hears": done.hears})


def _find(name: str, key: UUID) -> SagaInstance:
    try:
        resuming.saga_named(name)  # first, because a name can be what PostgreSQL can't even be asked for
        return resuming.find(key, name)
    except LookupError as error:
        raise Http404 from error
