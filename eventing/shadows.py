"""Shadows: a read model's table built anew in a schema of its own, with a checkpoint and letters of its own.

A shadow is entered by the search path of one transaction, in which the table's plain name means the shadow's table, and
so do those of the checkpoints and of the deliveries. So the projection's code, and all that moves it along the log, is
the same as in live updates. Once the shadow is exchanged for the live table, the old one stands in such a schema too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

from django.db import connection, transaction
from psycopg.sql import SQL, Composed, Identifier, Literal

from eventing.advance import advance
from eventing.domain import Rejected
from eventing.models import Checkpoint, Delivery
from eventing.projections import ProjectionSubscription
from eventing.statements import run

LONGEST_NAME = 63  # PostgreSQL's bound for identifiers


class NotShadowable(Rejected):
    """Something else hangs on the read model's table, and would go on hanging on the old one."""


class Gone(LookupError):
    """Somebody has removed the shadow."""


class Shadow(ProjectionSubscription):
    """A projection whose every name means a table of ``schema``, where there is one."""

    def __init__(self, live: ProjectionSubscription, schema: str) -> None:
        vars(self).update(vars(live))
        self.schema = schema

    @contextmanager
    def transaction(self, *, needed: bool = True) -> Iterator[None]:
        """A transaction inside of the shadow. Without it, names would mean what they always mean."""
        with transaction.atomic():
            ((path, _, there),) = run(ENTER, {"schema": self.schema})
            if not there:
                raise Gone(f"The schema {self.schema} isn't there any more.")
            yield
            run(LEAVE, {"path": path})

    def positions(self) -> dict[int, int]:
        """How far each partition of it has come."""
        with self.transaction():
            return positions(self)

    def follow(self, targets: dict[int, int], *, batch: int = 0) -> None:
        """Go on to these positions, in the running transaction."""
        for partition, target in targets.items():
            while advance(self, partition, until=target, batch=batch):
                pass


ENTER = """
WITH before AS MATERIALIZED (SELECT current_setting('search_path') AS path)
SELECT path, set_config('search_path', format('%%I, %%s', %(schema)s::text, path), true),
    to_regnamespace(quote_ident(%(schema)s)) IS NOT NULL
FROM before
"""
LEAVE = "SELECT set_config('search_path', %(path)s, true)"

# What would still mean the old table once another one has its name.
OBSTACLES = """
WITH live AS (SELECT * FROM pg_class WHERE oid = to_regclass(%(table)s))
SELECT 'the view ' || ev_class::regclass FROM live
    JOIN pg_depend ON refobjid = live.oid AND refclassid = 'pg_class'::regclass AND classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite ON pg_rewrite.oid = objid AND ev_class <> live.oid
UNION SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass FROM live
    JOIN pg_constraint ON confrelid = live.oid AND conrelid <> live.oid
UNION SELECT 'the trigger ' || tgname FROM live JOIN pg_trigger ON tgrelid = live.oid AND NOT tgisinternal
UNION SELECT 'the publication ' || pubname FROM live
    JOIN pg_publication_rel ON prrelid = live.oid JOIN pg_publication ON pg_publication.oid = prpubid
UNION SELECT 'the row-level security' FROM live WHERE relrowsecurity
UNION SELECT 'the privileges of single columns' FROM live
    JOIN pg_attribute ON attrelid = live.oid AND attacl IS NOT NULL
UNION SELECT 'a partition or a child of it' FROM live JOIN pg_inherits ON live.oid IN (inhparent, inhrelid)
ORDER BY 1
"""

# The statements that make an empty table like the live one: columns, storage options, constraints, privileges. What an
# upsert needs comes now, and the other indexes once the table is full.
COPY = """
WITH live AS (SELECT * FROM pg_class WHERE oid = to_regclass(%(table)s))
SELECT statement FROM (
    SELECT 1, format('CREATE TABLE %%I.%%I (LIKE %%s INCLUDING ALL EXCLUDING INDEXES)',
        %(schema)s::text, relname, oid::regclass) FROM live
    UNION ALL SELECT 2, format('ALTER TABLE %%I.%%I SET (%%s)',
        %(schema)s::text, relname, array_to_string(reloptions, ', ')) FROM live WHERE reloptions IS NOT NULL
    UNION ALL SELECT 3, format('ALTER TABLE %%I.%%I ADD CONSTRAINT %%I %%s',
        %(schema)s::text, relname, conname, pg_get_constraintdef(pg_constraint.oid))
        FROM live JOIN pg_constraint ON conrelid = live.oid AND contype IN ('p', 'u', 'x', 'f')
    UNION ALL SELECT 4, format('GRANT %%s ON %%I.%%I TO %%s', privilege_type, %(schema)s::text, relname,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
        FROM live, aclexplode(relacl) WHERE grantee <> relowner
) statements (place, statement) ORDER BY place, statement
"""

# The statements that make the live table's other indexes, under the same names, where they aren't there yet.
INDEX = """
SELECT regexp_replace(pg_get_indexdef(indexrelid), ' ON .*? USING ',
    format(' ON %%I.%%I USING ', %(schema)s::text, live.relname))
FROM pg_index JOIN pg_class live ON live.oid = indrelid JOIN pg_class index ON index.oid = indexrelid
WHERE indrelid = to_regclass(%(table)s)
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid)
    AND to_regclass(format('%%I.%%I', %(schema)s::text, index.relname)) IS NULL
"""

# What a table is made of, to tell whether two are made alike: columns and constraints by name, type and order.
STRUCTURE = """
SELECT string_agg(part, ', ' ORDER BY part) FROM (
    SELECT format('%%s %%s %%s %%s', attname, format_type(atttypid, atttypmod), attnotnull, attgenerated)
    FROM pg_attribute WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(%(table)s) AND contype <> 'n'
) structure (part)
"""

SIZE = "SELECT pg_total_relation_size(to_regclass(%(table)s))"
EXISTS = "SELECT to_regclass(%(table)s) IS NOT NULL"

SCHEMA = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass(%(table)s)"

HOLD_CHECKPOINTS = "SELECT id FROM eventing_checkpoint WHERE subscription = %(subscription)s FOR UPDATE"

COPIED: dict[str, LiteralString] = {
    "eventing_checkpoint": "subscription, partition, position, state, attempts, careful_until, handled, rate, moved_at,"
    " version",
    "eventing_delivery": "subscription, partition, sequence, event_id, position, state, attempts, due_at, error,"
    " traceback, reason, created_at, attempted_at, finished_at, signature, failing_since",
}


def shadow_of(projection: ProjectionSubscription) -> Shadow:
    """Where a projection's replay builds."""
    return Shadow(projection, f"replay_{table_of(projection)}"[:LONGEST_NAME])


def previous_of(projection: ProjectionSubscription) -> Shadow:
    """Where a projection's table from before the last replay is kept."""
    return Shadow(projection, f"previous_{table_of(projection)}"[:LONGEST_NAME])


def table_of(projection: ProjectionSubscription) -> str:
    """The name of a read model's table."""
    return projection.projection.model._meta.db_table


def positions(projection: ProjectionSubscription) -> dict[int, int]:
    """How far each partition has come."""
    return dict(Checkpoint.objects.filter(subscription=projection.name).values_list("partition", "position"))


def exists(shadow: Shadow) -> bool:
    """Whether the shadow's table is there."""
    there: bool = run(EXISTS, {"table": _qualified(shadow)})[0][0]
    return there


def fits(shadow: Shadow) -> bool:
    """Whether the shadow's table is made like the live one. A migration may have come since it was made."""
    return run(STRUCTURE, {"table": _qualified(shadow)}) == run(STRUCTURE, {"table": table_of(shadow)})


def size(projection: ProjectionSubscription) -> int:
    """Bytes that a read model takes on disk, its indexes included."""
    taken: int = run(SIZE, {"table": table_of(projection)})[0][0]
    return taken


def make(shadow: Shadow) -> None:
    """Make an empty table, and checkpoints at the beginning. Raises NotShadowable."""
    obstacles = [found for (found,) in run(OBSTACLES, {"table": table_of(shadow)})]
    if obstacles:
        raise NotShadowable(
            f"{shadow.name} can't be rebuilt beside the live table, because the old table would keep "
            f"{', '.join(obstacles)} after the exchange. Rebuild it with --in-place, or remove that first."
        )
    drop(shadow)
    _make_schema(shadow)
    for (statement,) in run(COPY, {"table": table_of(shadow), "schema": shadow.schema}):
        _execute(statement)
    with shadow.transaction():
        Checkpoint.objects.bulk_create(
            Checkpoint(subscription=shadow.name, partition=partition, version=shadow.version)
            for partition in range(shadow.partitions)
        )


def complete(shadow: Shadow) -> None:
    """Make the indexes that the building went faster without, and let the planner know the table."""
    with transaction.atomic():
        for (statement,) in run(INDEX, {"table": table_of(shadow), "schema": shadow.schema}):
            _execute(statement)
        _execute(SQL("ANALYZE {}").format(Identifier(shadow.schema, table_of(shadow))))


def drop(shadow: Shadow) -> None:
    """Remove the shadow and all that's in it."""
    _execute(SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(Identifier(shadow.schema)))


def hold_live(projection: ProjectionSubscription) -> dict[int, int]:
    """Stop live updates until the end of the transaction. Returns how far they have come."""
    run(HOLD_CHECKPOINTS, {"subscription": projection.name})
    return positions(projection)


def exchange(shadow: Shadow, *, keep_in: Shadow | None) -> None:
    """Let the shadow's table, checkpoints and letters be the live ones, in the running transaction, while live updates
    are held. The live ones are kept in another shadow, or removed. Raises OperationalError while readers are in the
    way for longer than a moment."""
    live = connection.ops.quote_name(table_of(shadow))
    _execute("SET LOCAL lock_timeout = '1s'")
    ((schema,),) = run(SCHEMA, {"table": live})
    if keep_in is None:
        _execute(f"DROP TABLE {live}")
    else:
        drop(keep_in)
        _make_schema(keep_in)
        _execute(SQL("ALTER TABLE {} SET SCHEMA {}").format(Identifier(table_of(shadow)), Identifier(keep_in.schema)))
        for table in COPIED:
            _copy_rows(table, to=Identifier(keep_in.schema, table), source=Identifier(table), of=shadow)
    _execute(f"ALTER TABLE {_qualified(shadow)} SET SCHEMA {schema}")
    Checkpoint.objects.filter(subscription=shadow.name).delete()
    Delivery.objects.filter(subscription=shadow.name).delete()
    for table in COPIED:
        _copy_rows(table, to=Identifier(table), source=Identifier(shadow.schema, table), of=shadow)
    drop(shadow)


def _make_schema(shadow: Shadow) -> None:
    _execute(SQL("CREATE SCHEMA {}").format(Identifier(shadow.schema)))
    for table in COPIED:
        copy = SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)")
        _execute(copy.format(Identifier(shadow.schema, table), Identifier(table)))


def _copy_rows(table: str, *, to: Identifier, source: Identifier, of: Shadow) -> None:
    columns = SQL(COPIED[table])
    copy = SQL("INSERT INTO {} ({}) SELECT {} FROM {} WHERE subscription = {} ORDER BY id")
    _execute(copy.format(to, columns, columns, source, Literal(of.name)))


def _qualified(shadow: Shadow) -> str:
    return f"{connection.ops.quote_name(shadow.schema)}.{connection.ops.quote_name(table_of(shadow))}"


def _execute(statement: str | Composed) -> None:
    """Statements that define things take no parameters."""
    with connection.cursor() as cursor:
        cursor.execute(statement if isinstance(statement, str) else statement.as_string(connection.connection))
