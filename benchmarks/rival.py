"""eventsourcing's side of the rebuild: an order, its application, and a projection into a table of its own."""

from __future__ import annotations

import os
import time
from typing import Any
from uuid import UUID

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import get_topic
from psycopg.sql import SQL


class Order(Aggregate):
    """Placed, then confirmed."""

    @event("Placed")
    def __init__(self, customer: str, total: int) -> None:
        self.customer, self.total, self.status = customer, total, "placed"

    @event("Confirmed")
    def confirm(self) -> None:
        self.status = "confirmed"


class Orders(Application[UUID]):
    """Keeps orders."""


class Summaries(PostgresTrackingRecorder):
    """The table of order summaries; each row is written together with the position of its event."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sql_create_statements.append(
            SQL(
                "CREATE TABLE IF NOT EXISTS order_summary "
                "(order_id uuid PRIMARY KEY, customer text, total bigint, status text)"
            ).format()
        )

    def write(self, statement: str, values: dict[str, Any], tracking: Tracking) -> None:
        """One event: the row and the position."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking=tracking)
            cursor.execute(SQL(statement), values, prepare=True)


class SummariesProjection(Projection[Summaries]):
    """A row an order."""

    name = "summaries"
    topics = (get_topic(Order.Placed), get_topic(Order.Confirmed))  # type: ignore[attr-defined] # made by @event

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Write the row as the event says."""
        if isinstance(domain_event, Order.Placed):  # type: ignore[attr-defined]
            self.view.write(
                "INSERT INTO order_summary VALUES (%(id)s, %(customer)s, %(total)s, 'placed')",
                {"id": domain_event.originator_id, "customer": domain_event.customer, "total": domain_event.total},
                tracking,
            )
        else:
            self.view.write(
                "UPDATE order_summary SET status = 'confirmed' WHERE order_id = %(id)s",
                {"id": domain_event.originator_id},
                tracking,
            )


def rebuild(events: int) -> float:
    """Events a second of the projection runner, into an empty table, from the first event to the last."""
    connection = psycopg.connect(os.environ["DATABASE_URL"], dbname=os.environ["POSTGRES_DBNAME"], autocommit=True)
    connection.execute("DROP TABLE IF EXISTS order_summary")
    for (table,) in connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE '%tracking%'").fetchall():
        connection.execute(f"DROP TABLE {table}")
    started = time.monotonic()
    with ProjectionRunner(
        application_class=Orders, projection_class=SummariesProjection, view_class=Summaries
    ) as runner:
        runner.wait(events, timeout=600)
    return events / (time.monotonic() - started)
