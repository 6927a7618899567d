"""The simulated gateway's own clock."""

from __future__ import annotations

from celery import shared_task

from payments.gateway.simulated import send_webhooks


@shared_task(name="payments.simulated_webhooks")
def simulated_webhooks() -> None:
    """Tell of charges whose time has come."""
    send_webhooks()
