"""Both sides of a comparison, on one server: Waybill's database, and one for eventsourcing beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from config.wrapping_keys import new_wrapping_key

RIVAL = "eventsourcing"


@contextmanager
def servers() -> Iterator[None]:
    """PostgreSQL and a broker: those of DATABASE_URL and REDIS_URL, or fresh embedded ones, with the disk's
    guarantees on as in production. Both databases are there afterwards."""
    if "DATABASE_URL" not in os.environ:
        from config.embedded.broker import EmbeddedBroker
        from config.embedded.postgres import EmbeddedPostgres

        with (
            tempfile.TemporaryDirectory() as state,
            EmbeddedPostgres(Path(state, "postgres")) as postgres,
            EmbeddedBroker(Path(state, "broker")) as broker,
        ):
            os.environ |= {"DATABASE_URL": postgres.url(), "REDIS_URL": broker.url(), "SECRET_KEY": "benchmark"}
            os.environ["PERSONAL_DATA_KEYS"] = new_wrapping_key()
            _make_databases()
            yield
    else:
        os.environ.setdefault("SECRET_KEY", "benchmark")
        os.environ.setdefault("PERSONAL_DATA_KEYS", new_wrapping_key())
        _make_databases()
        yield


def prepare_waybill() -> None:
    """Let this process work with Waybill."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()


def prepare_eventsourcing() -> None:
    """Let this process work with eventsourcing on the same server, in its safe default mode."""
    url = urlsplit(os.environ["DATABASE_URL"])
    os.environ |= {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": RIVAL,
        "POSTGRES_HOST": url.hostname or "localhost",
        "POSTGRES_PORT": str(url.port or 5432),
        "POSTGRES_USER": url.username or "",
        "POSTGRES_PASSWORD": url.password or "",
    }


def _make_databases() -> None:
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], check=True)
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {RIVAL}")
        connection.execute(f"CREATE DATABASE {RIVAL}")
