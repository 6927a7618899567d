"""Waybill's settings, with the small context that the tests of `eventing` use."""

from __future__ import annotations

from config.settings import *  # noqa: F403
from config.settings import EVENTING, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "eventing.tests.bank"]
EVENTING = {**EVENTING, "BACKOFF_SECONDS": 0.0}
