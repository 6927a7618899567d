from __future__ import annotations

from collections.abc import Iterator

from eventing.domain import Command, Saga
from eventing.people import PersonForgotten
from eventing.sagas import saga
from shipping.commands import ForgetRecipient


@saga(partitions=1)
class RecipientForgetting(Saga):
    """Forget the recipient, in every shipment to a person who is to be forgotten."""

    begins_with = PersonForgotten
    correlation = "person_id"

    def react(self, event: PersonForgotten) -> Iterator[Command]:
        self.state = "COMPLETED"
        yield ForgetRecipient(person_id=event.person_id)
