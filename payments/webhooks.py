"""What comes of what the gateway tells of its own accord."""

from __future__ import annotations

from collections.abc import Iterator

from eventing.domain import Command
from eventing.inbox import receives
from payments.gateway import gateway


@receives("payments")
def told_by_the_gateway(body: bytes) -> Iterator[Command]:
    """An outcome, which may have been known before, or be what everybody waits for."""
    if (command := gateway().read(body)) is not None:
        yield command
