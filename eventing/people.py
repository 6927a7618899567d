"""The people that events tell of: when one is forgotten, that is an event like any other, and all that stays."""

from __future__ import annotations

from uuid import UUID

from eventing.domain import Aggregate, Event
from eventing.text import check_text

LONGEST_REASON = 1_000


class PersonForgotten(Event, name="eventing.person_forgotten"):
    """Nobody can read any more what earlier events tell of the person. Who asked for it is the event's actor."""

    person_id: UUID
    reason: str


class Person(Aggregate[PersonForgotten], category="person"):
    """Somebody by an id that means nothing outside."""

    forgotten = False

    def forget(self, reason: str) -> None:
        """Asked twice, it happens once."""
        check_text("The reason", reason, LONGEST_REASON, blank=False)
        if not self.forgotten:
            self.record(PersonForgotten(person_id=self.id, reason=reason))

    def apply(self, event: PersonForgotten) -> None:
        self.forgotten = True
