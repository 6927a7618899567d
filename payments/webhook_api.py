"""Where the payment gateway tells of its own accord."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view

from eventing.inbox_api import WebhookFrom
from payments.gateway import gateway


@extend_schema_view(post=extend_schema(operation_id="hear_from_gateway"))
class GatewayWebhook(WebhookFrom):
    """What the gateway tells."""

    source = "payments"

    def provider(self) -> tuple[str, Callable[[bytes, Mapping[str, str]], Any]]:
        used = gateway()
        return used.name, used.verify
