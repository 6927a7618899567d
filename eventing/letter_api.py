"""Dead letters over HTTP: what failed and why, trying again, and giving up; the same acts as the pages have."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import deliveries, letter_jobs, letters, models, personal
from eventing.api import LOCATION, Code, Items, Paging, Strict, Takes, Text, WholeNumber, query
from eventing.domain import Rejected
from eventing.idempotency import idempotent
from eventing.letters import Filter
from eventing.models import Delivery, JobLetter

VIEW, RETRY, SKIP = "eventing.view_delivery", "eventing.retry_delivery", "eventing.skip_delivery"
PERSONAL = "eventing.view_personal_data"

MOST_IDS = 1_000
LARGEST_ID = 2**63 - 1


class Which(Strict):
    """Which open letters are meant: those that fit all that is said."""

    subscription = Code(required=False, max_length=200, help_text="Such as `payments.charge`.")
    event_type = Code(required=False, max_length=200, help_text="Such as `orders.order_placed`.")
    signature = Code(required=False, max_length=200, help_text="Of their group.")
    sequence = Code(required=False, max_length=500, help_text="Such as an order's id.")
    state = serializers.ChoiceField(required=False, choices=Delivery.OPEN)


class LetterFilters(Which, Paging):
    """Which letters are wanted."""


class SaidWhich(Which):
    """Which letters something is done to. It takes at least one of these, so that nobody means all by leaving out."""

    ids = Items(
        child=WholeNumber(min_value=1, max_value=LARGEST_ID), required=False, allow_empty=False, max_length=MOST_IDS
    )

    def validate(self, said: dict[str, Any]) -> dict[str, Any]:
        if not said.keys() & Filter.__struct_fields__:
            raise ValidationError(f"Say which letters, by at least one of: {', '.join(Filter.__struct_fields__)}.")
        return said


class StartJobSerializer(SaidWhich):
    """Letters to be tried again, gradually."""

    tolerance = serializers.FloatField(
        default=letter_jobs.TOLERANCE,
        min_value=0,
        max_value=1,
        help_text="The share of a wave that may fail again; above it the job stops.",
    )


class ReasonSerializer(Strict):
    """Why an event may be left out, for those who ask later."""

    reason = Text(max_length=letters.LONGEST_REASON)


class SkipSerializer(SaidWhich, ReasonSerializer):
    """Letters to be given up, and why."""


class CountSerializer(serializers.Serializer[Any]):
    """How many letters it was done to."""

    letters = serializers.IntegerField()


class LetterGroupSerializer(serializers.Serializer[Any]):
    """Open letters that failed in the same place for the same reason. `affected` counts what they're about, such as
    orders; `behind` the later events that wait for them; `failures` all failed attempts there ever were."""

    signature = serializers.CharField()
    subscription = serializers.CharField()
    event_type = serializers.CharField()
    exception = serializers.CharField()
    frame = serializers.CharField(allow_blank=True, help_text="The innermost function of our own that took part.")
    message = serializers.CharField(allow_blank=True, help_text="Without what differs from letter to letter.")
    first_seen = serializers.DateTimeField()
    last_seen = serializers.DateTimeField()
    failures = serializers.IntegerField()
    dead = serializers.IntegerField(help_text="These wait for a person.")
    retrying = serializers.IntegerField(help_text="These are tried again by themselves.")
    affected = serializers.IntegerField()
    behind = serializers.IntegerField()


class LetterSerializer(serializers.ModelSerializer[Delivery]):
    """An event that a subscription failed at. A `dead` one waits for a person."""

    event_type = serializers.CharField(source="event.type")
    error = serializers.SerializerMethodField(help_text="Numbers, names and the like are taken out without permission.")
    next_attempt_at = serializers.SerializerMethodField()

    class Meta:
        model = Delivery
        fields = [
            "id",
            "subscription",
            "sequence",
            "event_id",
            "event_type",
            "position",
            "state",
            "attempts",
            "error",
            "signature",
            "failing_since",
            "next_attempt_at",
            "finished_at",
            "reason",
        ]
        read_only_fields = fields

    def get_error(self, letter: Delivery) -> str:
        return letters.readable(letter.error, with_personal_data=self.may_see)

    @property
    def may_see(self) -> bool:
        """Whether who asks may see what is personal."""
        return bool(self.context["request"].user.has_perm(PERSONAL))

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_next_attempt_at(self, letter: Delivery) -> str | None:
        return letter.due_at.isoformat() if letter.state == Delivery.State.WAITING else None


class FailureSerializer(serializers.Serializer[Any]):
    """An attempt that failed; one that never ended, because its worker died, has no times and no error."""

    number = serializers.IntegerField()
    began_at = serializers.DateTimeField(allow_null=True)
    failed_at = serializers.DateTimeField(allow_null=True)
    worker = serializers.CharField(allow_blank=True)
    error = serializers.CharField(allow_blank=True)
    traceback = serializers.CharField(allow_blank=True)


class LetterDetailSerializer(LetterSerializer):
    """A letter with all that is known of it. In `payload`, what the event says, what tells of a person is `[hidden]`
    without the permission to see it; errors and tracebacks come without numbers, addresses and what is quoted. `behind`
    later events of its sequence wait for it."""

    payload = serializers.SerializerMethodField()
    correlation_id = serializers.UUIDField(source="event.correlation_id")
    behind = serializers.SerializerMethodField()
    failures = serializers.SerializerMethodField()

    class Meta(LetterSerializer.Meta):
        fields = [*LetterSerializer.Meta.fields, "correlation_id", "payload", "behind", "failures"]
        read_only_fields = fields

    @extend_schema_field(serializers.DictField())
    def get_payload(self, letter: Delivery) -> dict[str, Any]:
        (payload,) = personal.readable([letter.event.data], with_personal_data=self.may_see)
        return cast(dict[str, Any], payload)

    def get_behind(self, letter: Delivery) -> int:
        return deliveries.waiting_behind(letter)

    @extend_schema_field(FailureSerializer(many=True))
    def get_failures(self, letter: Delivery) -> list[dict[str, Any]]:
        failures = letters.failures_of(letter, with_personal_data=self.may_see)
        return [msgspec.to_builtins(failure) for failure in failures]


class JobSerializer(serializers.ModelSerializer[models.LetterJob]):
    """Letters that are tried again in waves of 1, 2, 5, 20, 100. One that `stopped` did so by itself: `said` is why."""

    class Meta:
        model = models.LetterJob
        fields = ["id", "state", "filter", "tolerance", "wave", "said", "started_by", "started_at", "finished_at"]
        read_only_fields = fields


class ProgressSerializer(serializers.Serializer[Any]):
    """How far a job has come, in letters: `waiting` for their wave, `released` and being tried, and what became of
    the others; those that somebody else saw to are `settled`."""

    total = serializers.IntegerField()
    waiting = serializers.IntegerField()
    released = serializers.IntegerField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    settled = serializers.IntegerField()


class JobDetailSerializer(JobSerializer):
    """A job and how far it has come."""

    progress = serializers.SerializerMethodField()

    class Meta(JobSerializer.Meta):
        fields = [*JobSerializer.Meta.fields, "progress"]
        read_only_fields = fields

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, job: models.LetterJob) -> dict[str, Any]:
        progress: dict[str, Any] = msgspec.to_builtins(letter_jobs.progress(job))
        return progress


class OutcomeFilters(Paging):
    """Which letters of a job are wanted."""

    state = serializers.ChoiceField(required=False, choices=JobLetter.State.choices)


class OutcomeSerializer(serializers.ModelSerializer[JobLetter]):
    """What has become of a letter of a job."""

    letter = serializers.IntegerField(source="delivery_id")

    class Meta:
        model = JobLetter
        fields = ["letter", "state", "wave", "released_at"]
        read_only_fields = fields


class LetterGroups(ListAPIView[models.LetterGroup]):
    """All groups that have open letters."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")
    serializer_class = LetterGroupSerializer
    queryset: QuerySet[models.LetterGroup] = models.LetterGroup.objects.filter(
        Exists(deliveries.failed().filter(signature=OuterRef("signature")))
    )
    ordering = "signature"

    @extend_schema(operation_id="list_letter_groups", parameters=[Paging])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        query(request, Paging)
        page = self.paginate_queryset(self.get_queryset())
        found = _groups([group.signature for group in page or []])
        found.sort(key=lambda group: group.signature)
        return self.get_paginated_response(LetterGroupSerializer(found, many=True).data)


class LetterGroup(APIView):
    """One group, as long as any of its letters is open."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")

    @extend_schema(operation_id="get_letter_group", responses=LetterGroupSerializer)
    def get(self, request: Request, signature: str) -> Response:
        """What its letters have in common, and how many there are."""
        for group in _groups([signature]):
            return Response(LetterGroupSerializer(group).data)
        raise Http404


class Letters(ListAPIView[Delivery]):
    """All open letters, oldest first."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")
    serializer_class = LetterSerializer
    ordering = "id"

    def get_queryset(self) -> QuerySet[Delivery]:
        return _filter(query(self.request, LetterFilters)).letters().select_related("event")

    @extend_schema(operation_id="list_letters", parameters=[LetterFilters])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class Letter(APIView):
    """One letter."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")

    @extend_schema(operation_id="get_letter", responses=LetterDetailSerializer)
    def get(self, request: Request, letter_id: int) -> Response:
        """Where it stands, its event, and each attempt with its traceback. Settled letters can be read too."""
        return _told(letter_id, request)


class LetterRetry(APIView):
    """A letter to be tried again."""

    permission_classes = [IsAuthenticated, Takes]
    takes = ("", RETRY)

    @extend_schema(operation_id="retry_letter", request=None, responses=LetterDetailSerializer)
    @idempotent(key_required=False)
    def post(self, request: Request, letter_id: int) -> Response:
        """Try it again at once, with all its attempts. `rejected` when it's settled, or never failed. An effect's job
        that was skipped is taken up again."""
        _get(letter_id)
        if not letters.retry(Filter(ids=(letter_id,)), who=_who(request)):
            raise _not_open(letter_id)
        return _told(letter_id, request)


class SequenceRetry(APIView):
    """A letter's sequence to be tried again."""

    permission_classes = [IsAuthenticated, Takes]
    takes = ("", RETRY)

    @extend_schema(operation_id="retry_sequence", request=None, responses=CountSerializer)
    @idempotent(key_required=False)
    def post(self, request: Request, letter_id: int) -> Response:
        """Try all failed letters of its sequence again at once; what waits behind them follows in order."""
        letter = _get(letter_id)
        again = letters.retry(Filter(subscription=letter.subscription, sequence=letter.sequence), who=_who(request))
        if not again:
            raise _not_open(letter_id)
        return Response({"letters": again})


class LetterSkip(APIView):
    """A letter to be given up."""

    permission_classes = [IsAuthenticated, Takes]
    takes = ("", SKIP)

    @extend_schema(operation_id="skip_letter", request=ReasonSerializer, responses=LetterDetailSerializer)
    @idempotent(key_required=False)
    def post(self, request: Request, letter_id: int) -> Response:
        """Give it up for a written reason; the next of its sequence go on. `rejected` when it's settled, or never
        failed."""
        reason = _said(ReasonSerializer, request)["reason"]
        _get(letter_id)
        if not letters.skip(Filter(ids=(letter_id,)), reason=reason, who=_who(request)):
            raise _not_open(letter_id)
        return _told(letter_id, request)


class LettersSkip(APIView):
    """Letters to be given up."""

    permission_classes = [IsAuthenticated, Takes]
    takes = ("", SKIP)

    @extend_schema(operation_id="skip_letters", request=SkipSerializer, responses=CountSerializer)
    @idempotent(key_required=False)
    def post(self, request: Request) -> Response:
        """Give up all letters that fit, for a written reason; the next of their sequences go on. `rejected` when none
        fits."""
        said = _said(SkipSerializer, request)
        skipped = letters.skip(_filter(said), reason=said["reason"], who=_who(request))
        if not skipped:
            raise Rejected("No open letters fit.")
        return Response({"letters": skipped})


class Jobs(ListAPIView[models.LetterJob]):
    """All jobs, newest first."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, RETRY)
    serializer_class = JobSerializer
    queryset: QuerySet[models.LetterJob] = models.LetterJob.objects.all()
    ordering = "-id"

    @extend_schema(operation_id="list_letter_jobs", parameters=[Paging])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        query(request, Paging)
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="start_letter_job",
        request=StartJobSerializer,
        responses={201: JobDetailSerializer},
        parameters=[LOCATION],
    )
    @idempotent()
    def post(self, request: Request) -> Response:
        """Try the letters again that fit now, gradually; those that come later aren't swept in. `rejected` when none
        fits, or another job is at some of them."""
        said = _said(StartJobSerializer, request)
        job = letter_jobs.start(_filter(said), who=_who(request), tolerance=said["tolerance"])
        location = reverse("api-letter-job", args=[job.pk])
        return Response(_job_told(job.pk), status=201, headers={"Location": location})


class Job(APIView):
    """One job."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")

    @extend_schema(operation_id="get_letter_job", responses=JobDetailSerializer)
    def get(self, request: Request, job_id: int) -> Response:
        """How far it has come."""
        return Response(_job_told(job_id))


class JobCancel(APIView):
    """A job that is to let no more letters go."""

    permission_classes = [IsAuthenticated, Takes]
    takes = ("", RETRY)

    @extend_schema(operation_id="cancel_letter_job", request=None, responses=JobDetailSerializer)
    @idempotent(key_required=False)
    def post(self, request: Request, job_id: int) -> Response:
        """Let no more letters go; those that were let go are still tried. `rejected` when it has ended."""
        letter_jobs.cancel(get_object_or_404(models.LetterJob, pk=job_id), who=_who(request))
        return Response(_job_told(job_id))


class Outcomes(ListAPIView[JobLetter]):
    """All letters of a job, in the order in which they are let go."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")
    serializer_class = OutcomeSerializer
    queryset: QuerySet[JobLetter] = JobLetter.objects.none()  # tells the schema the model
    ordering = "id"

    def get_queryset(self) -> QuerySet[JobLetter]:
        asked = query(self.request, OutcomeFilters)
        wanted = {"state": asked["state"]} if "state" in asked else {}
        return get_object_or_404(models.LetterJob, pk=self.kwargs["job_id"]).letters.filter(**wanted)

    @extend_schema(operation_id="list_letter_outcomes", parameters=[OutcomeFilters])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


def _who(request: Request) -> User:
    return cast(User, request.user)


def _said(kind: type[Strict], request: Request) -> dict[str, Any]:
    body = kind(data=request.data)
    body.is_valid(raise_exception=True)
    said: dict[str, Any] = body.validated_data
    return said


def _filter(said: dict[str, Any]) -> Filter:
    return msgspec.convert({name: said[name] for name in Filter.__struct_fields__ if name in said}, Filter)


def _groups(signatures: list[str]) -> list[letters.Group]:
    return letters.groups(settings.EVENTING["SUBJECT"]["field"], signatures)


def _get(letter_id: int) -> Delivery:
    return get_object_or_404(Delivery.objects.select_related("event"), pk=letter_id)


def _told(letter_id: int, request: Request) -> Response:
    return Response(LetterDetailSerializer(_get(letter_id), context={"request": request}).data)


def _job_told(job_id: int) -> dict[str, Any]:
    told: dict[str, Any] = JobDetailSerializer(get_object_or_404(models.LetterJob, pk=job_id)).data
    return told


def _not_open(letter_id: int) -> Rejected:
    return Rejected(f"Letter {letter_id} is settled, or hasn't failed: it waits behind another.")
