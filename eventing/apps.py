from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules


class EventingConfig(AppConfig):
    name = "eventing"

    def ready(self) -> None:
        """Find who handles and consumes what: being annotated is all it takes."""
        autodiscover_modules("upcasters", "handlers", "projections", "sagas", "policies", "effects", "webhooks")
        from eventing import carrying, checkpoints, checks, registry, subscriptions
        from eventing.webhooks.announcing import WebhookSubscription

        subscriptions.subscribe(WebhookSubscription())

        carrying.connect()
        checks.register()
        post_migrate.connect(checkpoints.make_missing, sender=self)
        post_migrate.connect(registry.make_missing, sender=self)
