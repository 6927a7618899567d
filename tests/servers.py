"""A pytest plugin: PostgreSQL and a broker for the tests, unless DATABASE_URL and REDIS_URL name some."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest


@pytest.hookimpl(wrapper=True)  # a wrapper comes before pytest-django, which reads the settings
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Start what the environment doesn't name; the workers of pytest-xdist find it there."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", early_config.getini("DJANGO_SETTINGS_MODULE"))
    # Only now: importing `config` settles which settings are used.
    from config.embedded.broker import EmbeddedBroker
    from config.embedded.postgres import EmbeddedPostgres
    from config.wrapping_keys import new_wrapping_key

    if not {"DATABASE_URL", "REDIS_URL"} <= os.environ.keys():
        state = Path(tempfile.mkdtemp(prefix="waybill-tests-"))
        state.chmod(0o711)  # PostgreSQL runs under another account when this one is root
        early_config.add_cleanup(lambda: shutil.rmtree(state))
    if "DATABASE_URL" not in os.environ:
        postgres = EmbeddedPostgres(state, durable=False)
        early_config.add_cleanup(postgres.stop)
        os.environ["DATABASE_URL"] = postgres.start().url()
    if "REDIS_URL" not in os.environ:
        broker = EmbeddedBroker(state, durable=False)
        early_config.add_cleanup(broker.stop)
        os.environ["REDIS_URL"] = broker.start().url()
    os.environ.setdefault("SECRET_KEY", "for tests")
    os.environ.setdefault("PERSONAL_DATA_KEYS", new_wrapping_key())
    return (yield)
