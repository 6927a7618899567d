"""A carrier that moves nothing, and keeps its own books, so that it can bear witness.

`SIMULATED_LATENCY` is how many seconds each answer takes. Of as many bookings as `SIMULATED_CARRIER_TIMEOUTS` says,
from 0 for none to 1 for all, the first answer never arrives, though the booking is made: the key decides which.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from itertools import cycle

from django.conf import settings
from standardwebhooks import Webhook

from eventing import inbox
from eventing.contact import Contact
from eventing.statements import run
from shipping.carrier import CarrierRefused, OutcomeUnknown, Scan, Sighting
from shipping.models import Consignment

# Two at once wait for each other, and one of them books. No conflict is named, because there are two kinds: a statement
# that named the key's would fail when it meets the tracking number's first.
BOOK = """
INSERT INTO shipping_consignment (key, tracking_number, asks, booked_at)
VALUES (%(key)s, %(tracking_number)s, 0, statement_timestamp())
ON CONFLICT DO NOTHING
"""

ANSWER = "UPDATE shipping_consignment SET asks = asks + 1 WHERE key = %(key)s RETURNING tracking_number, asks"

VOID = """
UPDATE shipping_consignment SET voided_at = coalesce(voided_at, statement_timestamp())
WHERE tracking_number = %(tracking_number)s
RETURNING key
"""


class SimulatedCarrier:
    """Books everything at once, and keeps the table of ``Consignment``, in autocommit."""

    name = "simulated"

    def book(self, recipient: Contact | None, *, idempotency_key: str) -> str:
        """The same key has the same tracking number, always. The recipient is on the label alone, and not in the
        books."""
        asked = {"key": idempotency_key, "tracking_number": tracking_number_of(idempotency_key)}
        time.sleep(settings.SIMULATED_LATENCY)
        run(BOOK, asked)
        ((tracking_number, asks),) = run(ANSWER, asked)
        if asks == 1 and _lot(idempotency_key) < settings.SIMULATED_CARRIER_TIMEOUTS:
            raise OutcomeUnknown(f"The carrier didn't answer to the booking {idempotency_key} in time.")
        return str(tracking_number)

    def void(self, tracking_number: str) -> None:
        """Voids a consignment once; the time of the first request stays."""
        time.sleep(settings.SIMULATED_LATENCY)
        if not run(VOID, {"tracking_number": tracking_number}):
            raise CarrierRefused(f"There's no consignment {tracking_number}.")

    def verify(self, body: bytes, headers: Mapping[str, str]) -> str:
        """By Standard Webhooks."""
        return inbox.verified(body, headers, settings.SIMULATED_WEBHOOK_SECRET)

    def read(self, body: bytes) -> Sighting | None:
        """Where a parcel was seen, if that changes anything."""
        told = json.loads(body)
        try:
            return Sighting(told["tracking_number"], Scan(told["scan"]))
        except ValueError:
            return None  # on its way, say


def tell(tracking_number: str, scan: Scan) -> bool:
    """Tell of a parcel, in the same way as over HTTP. Returns whether it's news. Raises CarrierRefused for one that
    isn't booked."""
    if not Consignment.objects.filter(tracking_number=tracking_number, voided_at=None).exists():
        raise CarrierRefused(f"There's no consignment {tracking_number}, or it was given up.")
    body = json.dumps({"tracking_number": tracking_number, "scan": scan.value}).encode()
    event_id, now = f"{tracking_number}-{scan.value}", datetime.now(UTC)
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(settings.SIMULATED_WEBHOOK_SECRET).sign(event_id, now, body.decode()),
    }
    return inbox.keep("shipping", SimulatedCarrier.name, SimulatedCarrier().verify(body, headers), body)


def _lot(key: str) -> float:
    """From 0 to below 1, and the same each time."""
    return int.from_bytes(sha256(f"lot {key}".encode()).digest()[:6]) / 2**48


def tracking_number_of(key: str) -> str:
    """``WB``, 17 digits that follow from the key, and the check digit that makes them a GS1 number of 18."""
    digits = f"{int.from_bytes(sha256(key.encode()).digest()) % 10**17:017}"
    return f"WB{digits}{check_digit(digits)}"


def check_digit(digits: str) -> int:
    """GS1's check digit: from the right every second digit counts three times, and all make a multiple of ten."""
    return -sum(int(digit) * weight for digit, weight in zip(reversed(digits), cycle([3, 1]), strict=False)) % 10
