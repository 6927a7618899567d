"""Every migration can be taken back, and made again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

ROOT = Path(__file__).resolve().parent.parent
DATABASE = "migrated_back_and_forth"


@pytest.fixture
def database_url() -> Iterator[str]:
    server = urlsplit(os.environ["DATABASE_URL"])
    with psycopg.connect(server._replace(path="/postgres").geturl(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        connection.execute(f"CREATE DATABASE {DATABASE}")
        yield server._replace(path=f"/{DATABASE}").geturl()
        connection.execute(f"DROP DATABASE {DATABASE}")


def manage(database_url: str, *arguments: str) -> None:
    environ = {**os.environ, "DATABASE_URL": database_url, "DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_tables_of_every_app_can_be_taken_back_and_made_again(database_url: str) -> None:
    manage(database_url, "migrate")
    for app in ("orders", "payments", "inventory", "shipping", "eventing"):
        manage(database_url, "migrate", app, "zero")
    manage(database_url, "migrate")
    manage(database_url, "check", "--database", "default")
