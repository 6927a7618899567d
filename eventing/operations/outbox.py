"""The outbox and the newest part of the log: to look at, for nothing here changes anything."""

from __future__ import annotations

from typing import Any

from eventing.models import LogEntry, OutboxEntry, RelayFailure
from eventing.operations.page import Page
from eventing.status import status

SHOWN = 50


class Outbox(Page):
    """What has no position yet, what the relay ran into, and what was relayed last."""

    title = "Outbox"
    permission_required = "eventing.view_outboxentry"
    template_name, fragment, refresh_seconds = "operations/outbox.html", "operations/_outbox.html", 2

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        now = status()
        return super().get_context_data(
            head=now.head,
            outbox=now.outbox,
            failure=RelayFailure.objects.first(),
            waiting=OutboxEntry.objects.order_by("id")[:SHOWN],
            log=LogEntry.objects.select_related("event").order_by("-position")[:SHOWN],
            **kwargs,
        )
