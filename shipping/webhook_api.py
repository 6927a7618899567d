"""Where the carrier tells of its own accord."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from drf_spectacular.utils import extend_schema, extend_schema_view

from eventing.inbox_api import WebhookFrom
from shipping.carrier import carrier


@extend_schema_view(post=extend_schema(operation_id="hear_from_carrier"))
class CarrierWebhook(WebhookFrom):
    """What the carrier tells."""

    source = "shipping"

    def provider(self) -> tuple[str, Callable[[bytes, Mapping[str, str]], str]]:
        used = carrier()
        return used.name, used.verify
