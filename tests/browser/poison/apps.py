from __future__ import annotations

from django.apps import AppConfig


class PoisonConfig(AppConfig):
    name = "tests.browser.poison"
