"""The web application, for servers that speak ASGI."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

_django = get_asgi_application()

from config.bodies import UnreadBodies  # noqa: E402 # it takes settings that are read

application = UnreadBodies(_django)
