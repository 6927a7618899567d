"""What requests were answered with, kept for a while under their clients' keys."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from hashlib import sha256
from typing import cast

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from eventing import person_keys
from eventing.models import SavedAnswer
from eventing.statements import run

PURGED_AT_ONCE = 1_000

# Answers about a person's streams. That something was done under their keys is still known.
FORGET = """
UPDATE eventing_saved_answer SET body = NULL
WHERE body IS NOT NULL AND streams && ARRAY(
    SELECT DISTINCT category || '-' || stream_id FROM eventing_event
    WHERE metadata @> jsonb_build_object('persons', jsonb_build_array(%(person)s::text)) AND metadata <> '{}'
)
RETURNING id
"""


def kept(request: Request, key: str) -> SavedAnswer | None:
    """The answer that is kept under a key of who asks."""
    return SavedAnswer.objects.filter(account_id=request.user.pk, key=key, expires_at__gt=timezone.now()).first()


def keep(
    request: Request, key: str, fingerprint: bytes, response: HttpResponse, streams: Iterable[str] = ()
) -> SavedAnswer:
    """Keep an answer, in the transaction that did what it tells of; ``streams`` are those with new events."""
    answer = SavedAnswer(
        account=cast(User, request.user),
        key=key,
        fingerprint=fingerprint,
        status=response.status_code,
        headers=dict(response.headers),
        body=person_keys.sealed(response.content, about=key),
        streams=sorted(streams),
        expires_at=timezone.now() + timedelta(hours=settings.EVENTING["KEEP_ANSWERS_HOURS"]),
    )
    (saved,) = SavedAnswer.objects.bulk_create(  # one statement, instead of Django's six to save one or the other
        [answer],
        update_conflicts=True,
        unique_fields=["account", "key"],
        update_fields=["fingerprint", "status", "headers", "body", "streams", "expires_at"],
    )
    return saved


def body_of(saved: SavedAnswer) -> bytes | None:
    """What was answered; None once that was forgotten, or nobody has the key to it any more."""
    try:
        return None if saved.body is None else person_keys.opened(bytes(saved.body), about=saved.key)
    except person_keys.UnknownWrappingKey:
        return None


def fingerprint(request: Request) -> bytes:
    """What tells one request from another: of the body its bytes, for two that mean the same needn't be the same."""
    asked = f"{request.method} {request.get_full_path()}\n".encode()
    return sha256(asked + request.body).digest()


def forget(person: str) -> int:
    """Forget what was answered about a person. Returns how many answers that were."""
    return len(run(FORGET, {"person": person}))


def purge() -> None:
    """Delete answers that have been kept for long enough, some at a time."""
    expired = SavedAnswer.objects.filter(expires_at__lt=timezone.now()).order_by("expires_at")
    SavedAnswer.objects.filter(pk__in=list(expired.values_list("pk", flat=True)[:PURGED_AT_ONCE])).delete()
