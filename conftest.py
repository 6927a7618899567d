from __future__ import annotations

from collections.abc import Iterable

import pytest
from django.db import connection

from eventing import recent


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """Let the test database be emptied after a test, which its log refuses to everybody else."""
    flush = connection.ops.execute_sql_flush

    def flush_without_triggers(sql_list: Iterable[str]) -> None:
        flush(["SET session_replication_role = replica", *sql_list, "SET session_replication_role = origin"])

    connection.ops.execute_sql_flush = flush_without_triggers  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    """Each test begins with processes that remember no aggregate."""
    recent.forget()
