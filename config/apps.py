from __future__ import annotations

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class ConfigConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        """Give the roles what they may, after each `migrate`. Django tells only apps that have models: auth has."""
        from config import roles

        post_migrate.connect(roles.bring_up_to_date, sender=apps.get_app_config("auth"))
