"""The carrier: what we ask of it, and a simulator that keeps its own books, so that it can bear witness."""

from __future__ import annotations

from hashlib import sha256
from itertools import cycle
from typing import Protocol

from eventing.contact import Contact
from eventing.statements import run


class CarrierRefused(Exception):
    """The request contradicts what the carrier knows. Asking again won't help; a person has to look."""


class Carrier(Protocol):
    """Asked the same again, it gives the same answer and does nothing more."""

    def book(self, recipient: Contact | None, *, idempotency_key: str) -> str:
        """Book a consignment to somebody, and return its tracking number."""

    def void(self, tracking_number: str) -> None:
        """Give a consignment up. Raises CarrierRefused for one that there isn't."""


def carrier() -> Carrier:
    """The carrier in use."""
    return SimulatedCarrier()


# Two at once wait for each other, and one of them books. No conflict is named, because there are two kinds: a statement
# that named the key's would fail when it meets the tracking number's first.
BOOK = """
INSERT INTO shipping_consignment (key, tracking_number, asks, booked_at)
VALUES (%(key)s, %(tracking_number)s, 0, statement_timestamp())
ON CONFLICT DO NOTHING
"""

ANSWER = "UPDATE shipping_consignment SET asks = asks + 1 WHERE key = %(key)s RETURNING tracking_number"

VOID = """
UPDATE shipping_consignment SET voided_at = coalesce(voided_at, statement_timestamp())
WHERE tracking_number = %(tracking_number)s
RETURNING key
"""


class SimulatedCarrier:
    """Books everything at once, and keeps the table of ``Consignment``, in autocommit."""

    def book(self, recipient: Contact | None, *, idempotency_key: str) -> str:
        """The same key has the same tracking number, always. The recipient is on the label alone, and not in the
        books."""
        asked = {"key": idempotency_key, "tracking_number": tracking_number_of(idempotency_key)}
        run(BOOK, asked)
        ((tracking_number,),) = run(ANSWER, asked)
        return str(tracking_number)

    def void(self, tracking_number: str) -> None:
        """Voids a consignment once; the time of the first request stays."""
        if not run(VOID, {"tracking_number": tracking_number}):
            raise CarrierRefused(f"There's no consignment {tracking_number}.")


def tracking_number_of(key: str) -> str:
    """``WB``, 17 digits that follow from the key, and the check digit that makes them a GS1 number of 18."""
    digits = f"{int.from_bytes(sha256(key.encode()).digest()) % 10**17:017}"
    return f"WB{digits}{check_digit(digits)}"


def check_digit(digits: str) -> int:
    """GS1's check digit: from the right every second digit counts three times, and all make a multiple of ten."""
    return -sum(int(digit) * weight for digit, weight in zip(reversed(digits), cycle([3, 1]), strict=False)) % 10
