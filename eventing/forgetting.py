"""Forgets a person, for ever and everywhere at once: the key that all of it is sealed with is destroyed.

What was read from it before, the contexts' read models, is rewritten by the events that follow `PersonForgotten`.
What nobody will rewrite, such as the error texts of dead letters, is cleared right afterwards, in a transaction of its
own: a worker may hold such a letter while it waits for the key.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from eventing import answers, context, replay, store
from eventing.models import PersonKey
from eventing.people import Person
from eventing.replay import Removed
from eventing.statements import run

# An error may quote what the handler was at. Only its kind is kept, of all that went wrong in the conversations that
# the streams which tell of the person had a part in.
BLANK_LETTERS = """
WITH streams AS (
    SELECT DISTINCT category, stream_id FROM eventing_event
    WHERE metadata @> jsonb_build_object('persons', jsonb_build_array(%(person)s::text)) AND metadata <> '{}'
)
UPDATE eventing_delivery letter SET error = split_part(letter.error, ':', 1) || ': (forgotten)', traceback = ''
FROM eventing_event event
WHERE letter.error <> '' AND letter.error NOT LIKE '%%: (forgotten)' AND event.id = letter.event_id
    AND event.correlation_id IN (SELECT correlation_id FROM eventing_event JOIN streams USING (category, stream_id))
RETURNING letter.id
"""

# The same of each attempt at such a letter, and of the groups that they belong to.
BLANK_ATTEMPTS = """
WITH letters AS (
    SELECT id, signature FROM eventing_delivery WHERE error LIKE '%%: (forgotten)'
), attempts AS (
    UPDATE eventing_attempt attempt SET error = split_part(attempt.error, ':', 1) || ': (forgotten)', traceback = ''
    FROM letters WHERE attempt.delivery_id = letters.id AND attempt.error NOT LIKE '%%: (forgotten)'
)
UPDATE eventing_letter_group letter_group SET message = '(forgotten)'
FROM letters WHERE letter_group.signature = letters.signature AND letter_group.message <> '(forgotten)'
"""

TRACES = """
SELECT category, count(DISTINCT stream_id) FROM eventing_event
WHERE metadata @> jsonb_build_object('persons', jsonb_build_array(%(person)s::text)) AND metadata <> '{}'
GROUP BY category ORDER BY category
"""


class UnknownPerson(LookupError):
    """Nothing is known of such a person."""


class Forgetting(NamedTuple):
    """What it took: letters whose error was blanked, and copies of read models that were removed. ``since`` is when the
    person was forgotten, long ago perhaps."""

    since: datetime
    already: bool
    letters: int
    removed: Removed


def traces_of(person_id: UUID) -> dict[str, int]:
    """How many streams tell of a person, by their category."""
    return dict(run(TRACES, {"person": str(person_id)}))


def forgotten_since(person_id: UUID) -> datetime | None:
    """When a person was forgotten, if that was so."""
    return PersonKey.objects.filter(person=str(person_id)).values_list("forgotten_at", flat=True).first()


def forget(person_id: UUID, *, reason: str, by: str) -> Forgetting:
    """Destroy a person's key, and clear what was read with it. Asked twice, it happens once; what an interrupted first
    time left is cleared then. Raises UnknownPerson, and Rejected for a reason that isn't one."""
    with transaction.atomic():
        key = PersonKey.objects.select_for_update().filter(person=str(person_id)).first()
        if key is None:
            raise UnknownPerson(f"Nothing personal is known of {person_id}: no event tells of such a person.")
        since, already = key.forgotten_at or timezone.now(), key.forgotten_at is not None
        if not already:
            with context.acting(actor=by), store.edit(Person, person_id) as person:
                person.forget(reason)
            PersonKey.objects.filter(pk=key.pk).update(wrapped=None, forgotten_at=since)
    with transaction.atomic():
        letters = len(run(BLANK_LETTERS, {"person": str(person_id)}))
        run(BLANK_ATTEMPTS)
        answers.forget(str(person_id))
        removed = replay.remove_copies()
    return Forgetting(since, already=already, letters=letters, removed=removed)
