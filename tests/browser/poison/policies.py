from __future__ import annotations

import os
import signal
from collections.abc import Iterator

from eventing.domain import Command
from eventing.policies import policy
from orders.events import OrderPlaced

POISON = "poison"


@policy
def weigh_parcel(event: OrderPlaced) -> Iterator[Command]:
    """Dies of orders of this reference, and takes its worker with it."""
    if event.reference == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    yield from ()
