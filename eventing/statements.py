"""Runs the statements that matter as prepared statements, on Django's own connection and in its transaction.

Django binds parameters on the client, so the server would parse and plan each statement anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

import psycopg
from django.db import connection


def run(statement: LiteralString, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Execute a statement and return its rows. Raises Django's database errors."""
    connection.validate_no_broken_transaction()
    connection.close_if_health_check_failed()  # as Django's own cursors do: a worker's connection may be long dead
    connection.ensure_connection()
    with connection.wrap_database_errors:
        cursor = psycopg.Cursor(connection.connection)
        cursor.execute(statement, parameters, binary=True)
        return cursor.fetchall() if cursor.description else []


def give_back() -> None:
    """Leave the connection to others, where there is a pool of them, before waiting for something else."""
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()
