from __future__ import annotations

from collections.abc import Iterable

import pytest
from django.db import connection

from eventing import recent

WITHOUT_TRIGGERS = "SET session_replication_role = replica"
WITH_TRIGGERS = "SET session_replication_role = origin"
# Read models that a replay builds or keeps are no tables that Django knows.
DROP_COPIES = """
DO $$ DECLARE copy name; BEGIN
    FOR copy IN SELECT nspname FROM pg_namespace WHERE nspname ~ '^(replay|previous)_' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', copy);
    END LOOP;
END $$
"""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """Let the test database be emptied after a test, which its log refuses to everybody else."""
    flush = connection.ops.execute_sql_flush

    def flush_without_triggers(sql_list: Iterable[str]) -> None:
        flush([WITHOUT_TRIGGERS, *sql_list, WITH_TRIGGERS, DROP_COPIES])

    connection.ops.execute_sql_flush = flush_without_triggers  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    """Each test begins with processes that remember no aggregate."""
    recent.forget()
