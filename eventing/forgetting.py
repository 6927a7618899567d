"""Forgets a person, for ever and everywhere at once: the key that all of it is sealed with is destroyed.

What was read from it before, the contexts' read models, is rewritten by the events that follow `PersonForgotten`.
What nobody will rewrite, such as the error texts of dead letters, goes in the same transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from eventing import context, replay, store
from eventing.models import PersonKey
from eventing.people import Person
from eventing.statements import run

# An error may quote what the handler was at. Only its kind is kept, of all that went wrong in the conversations that
# the person's events belong to.
BLANK_LETTERS = """
UPDATE eventing_delivery letter SET error = split_part(letter.error, ':', 1) || ': (forgotten)', traceback = ''
FROM eventing_event event
WHERE letter.error <> '' AND event.id = letter.event_id AND event.correlation_id IN (
    SELECT correlation_id FROM eventing_event
    WHERE metadata @> jsonb_build_object('persons', jsonb_build_array(%(person)s::text)) AND metadata <> '{}'
)
RETURNING letter.id
"""


TRACES = """
SELECT category, count(DISTINCT stream_id) FROM eventing_event
WHERE metadata @> jsonb_build_object('persons', jsonb_build_array(%(person)s::text)) AND metadata <> '{}'
GROUP BY category ORDER BY category
"""


class UnknownPerson(LookupError):
    """Nothing is known of such a person."""


class Forgetting(NamedTuple):
    """What it took: letters whose error was blanked, and projections that can't be rolled back any more. ``since`` is
    when the person was forgotten, long ago perhaps."""

    since: datetime
    already: bool
    letters: int
    projections: list[str]


def traces_of(person_id: UUID) -> dict[str, int]:
    """How many streams tell of a person, by their category."""
    return dict(run(TRACES, {"person": str(person_id)}))


def forget(person_id: UUID, *, reason: str, by: str) -> Forgetting:
    """Destroy a person's key. Asked twice, it happens once. Raises UnknownPerson, and Rejected for a reason that isn't
    one."""
    with transaction.atomic():
        key = PersonKey.objects.select_for_update().filter(person=str(person_id)).first()
        if key is None:
            raise UnknownPerson(f"Nothing personal is known of {person_id}: no event tells of such a person.")
        if key.forgotten_at is not None:
            return Forgetting(key.forgotten_at, already=True, letters=0, projections=[])
        with context.acting(actor=by), store.edit(Person, person_id) as person:
            person.forget(reason)
        letters = len(run(BLANK_LETTERS, {"person": str(person_id)}))
        kept = replay.forget_kept()
        PersonKey.objects.filter(pk=key.pk).update(wrapped=None, forgotten_at=Now())
    return Forgetting(timezone.now(), already=False, letters=letters, projections=kept)
