"""The carrier: what we ask of it, and what it tells us of its own accord. Which one, `CARRIER` says."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import NamedTuple, Protocol

from eventing.contact import Contact


class OutcomeUnknown(Exception):
    """The carrier gave no answer, and may have done what it was asked to. Ask again with the same key."""


class CarrierRefused(Exception):
    """The request contradicts what the carrier knows. Asking again won't help; a person has to look."""


class Scan(Enum):
    """Where a parcel is seen."""

    PICKED_UP = "picked_up"
    DELIVERED = "delivered"


class Sighting(NamedTuple):
    """A parcel that was seen."""

    tracking_number: str
    scan: Scan


class Carrier(Protocol):
    """Asked the same again, it gives the same answer and does nothing more. What it tells of its own accord may come
    late, twice, and in any order."""

    name: str

    def book(self, recipient: Contact | None, *, idempotency_key: str) -> str:
        """Book a consignment to somebody, and return its tracking number. Raises OutcomeUnknown."""

    def void(self, tracking_number: str) -> None:
        """Give a consignment up. Raises OutcomeUnknown, or CarrierRefused for one that there isn't."""

    def verify(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The id of what it tells, the same each time it tells it. Raises `inbox.InvalidSignature` for what isn't its
        own, or is older than five minutes."""

    def read(self, body: bytes) -> Sighting | None:
        """What it tells, once that was verified; None for what is of no interest here."""


@cache
def carrier() -> Carrier:
    """The carrier in use."""
    from shipping.carrier.simulated import SimulatedCarrier

    return SimulatedCarrier()
