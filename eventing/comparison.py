"""Compares a live read model with its shadow: how many rows each has, what they add up to, and which differ how."""

from __future__ import annotations

from typing import Any

import msgspec
from django.db import connection, models
from psycopg.sql import SQL, Composed, Identifier, Literal

from eventing.shadows import Shadow, table_of

SHOWN = 20


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A row that isn't the same: its key, and the columns that differ, live and rebuilt. ``live`` or ``rebuilt`` is
    None where the row is missing on that side."""

    key: str
    live: dict[str, Any] | None
    rebuilt: dict[str, Any] | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Rows and checksums of both tables at the same positions of the log; the number of rows that differ, and the
    first of them."""

    live_rows: int
    live_checksum: str
    rebuilt_rows: int
    rebuilt_checksum: str
    different: int
    differences: list[Difference]

    @property
    def same(self) -> bool:
        """Whether readers won't notice an exchange."""
        return not self.different


# The order of rows doesn't matter to a sum, and 64 bits a row are enough to find mistakes.
SUM_UP = SQL("SELECT count(*), coalesce(sum(hashtextextended(ROW({columns})::text, 0)), 0) FROM {table}")

# Rows of the same key that aren't the same, or are on one side only.
BY_KEY = SQL("""
SELECT count(*) OVER (), to_jsonb(live), to_jsonb(rebuilt)
FROM (SELECT {columns} FROM {live}) live FULL JOIN (SELECT {columns} FROM {rebuilt}) rebuilt USING ({key})
WHERE to_jsonb(live) IS DISTINCT FROM to_jsonb(rebuilt)
ORDER BY {key} LIMIT {shown}
""")

# A key that the table itself numbers says when a row was written, not what is in it: rows are counted by contents.
BY_CONTENTS = SQL("""
SELECT count(*) OVER (), live, rebuilt FROM (
    SELECT to_jsonb(missing) AS live, NULL::jsonb AS rebuilt
    FROM (SELECT {columns} FROM {live} EXCEPT ALL SELECT {columns} FROM {rebuilt}) missing
    UNION ALL
    SELECT NULL, to_jsonb(added)
    FROM (SELECT {columns} FROM {rebuilt} EXCEPT ALL SELECT {columns} FROM {live}) added
) differences
ORDER BY coalesce(live, rebuilt)::text LIMIT {shown}
""")


def compare(shadow: Shadow) -> Comparison:
    """Compare in the running transaction, which has to see both sides at the same positions."""
    model = shadow.projection.model
    live, rebuilt = Identifier(table_of(shadow)), Identifier(shadow.schema, table_of(shadow))
    columns = SQL(", ").join([Identifier(name) for name in columns_of(model)])
    sums = [_rows(SUM_UP.format(columns=columns, table=table))[0] for table in (live, rebuilt)]
    differences: list[tuple[Any, ...]] = []
    if sums[0] != sums[1]:
        statement = BY_CONTENTS if numbers_itself(model) else BY_KEY
        key = SQL(", ").join([Identifier(name) for name in keys_of(model)])
        differences = _rows(
            statement.format(columns=columns, live=live, rebuilt=rebuilt, key=key, shown=Literal(SHOWN))
        )
    return Comparison(
        live_rows=sums[0][0],
        live_checksum=_digits(sums[0][1]),
        rebuilt_rows=sums[1][0],
        rebuilt_checksum=_digits(sums[1][1]),
        different=differences[0][0] if differences else 0,
        differences=[_difference(model, *row[1:]) for row in differences],
    )


def columns_of(model: type[models.Model]) -> list[str]:
    """The columns that are compared."""
    own_key = model._meta.pk if numbers_itself(model) else None
    return [str(field.column) for field in model._meta.concrete_fields if field is not own_key]


def keys_of(model: type[models.Model]) -> list[str]:
    """The columns of the primary key."""
    return [str(field.column) for field in model._meta.pk_fields]


def numbers_itself(model: type[models.Model]) -> bool:
    """Whether the table gives its rows their keys."""
    return isinstance(model._meta.pk, models.AutoField)


def _difference(model: type[models.Model], live: dict[str, Any] | None, rebuilt: dict[str, Any] | None) -> Difference:
    """Only the columns that differ, where both sides have the row."""
    row = live or rebuilt or {}
    key = "" if numbers_itself(model) else ", ".join(str(row[name]) for name in keys_of(model))
    if live and rebuilt:
        changed = [name for name in row if live[name] != rebuilt[name]]
        live, rebuilt = {name: live[name] for name in changed}, {name: rebuilt[name] for name in changed}
    return Difference(key=key, live=live, rebuilt=rebuilt)


def _digits(checksum: Any) -> str:
    return f"{int(checksum) % 2**64:016x}"


def _rows(statement: Composed) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement.as_string(connection.connection))
        return [
            tuple(msgspec.json.decode(value) if isinstance(value, str) else value for value in row)
            for row in cursor.fetchall()
        ]
