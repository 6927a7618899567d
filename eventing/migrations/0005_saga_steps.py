from __future__ import annotations

from typing import Any

import django.contrib.postgres.operations
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

# Sagas are never deleted, and what they did is never changed: that is the database's business.
KEEP = """
CREATE FUNCTION eventing_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'Table % keeps what it has: sagas and their history are never removed.', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'A saga that has ended costs nothing.';
END
$$;
CREATE TRIGGER eventing_saga_kept BEFORE DELETE OR TRUNCATE ON eventing_saga
    FOR EACH STATEMENT EXECUTE FUNCTION eventing_keep();
CREATE TRIGGER eventing_saga_step_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON eventing_saga_step
    FOR EACH STATEMENT EXECUTE FUNCTION eventing_keep();
"""

LET_GO = """
DROP TRIGGER eventing_saga_step_append_only ON eventing_saga_step;
DROP TRIGGER eventing_saga_kept ON eventing_saga;
DROP FUNCTION eventing_keep();
"""

# What can be known of sagas that are there already, a few thousand at a time beside those who move them.
FILL = """
UPDATE eventing_saga saga SET
    ended_at = CASE WHEN state IN ('COMPLETED', 'COMPENSATED', 'FAILED') THEN updated_at END,
    failed = state = 'FAILED',
    deadline_at = timer.due_at,
    correlation_id = timer.correlation_id
FROM eventing_saga same
LEFT JOIN eventing_timer timer ON timer.saga = same.saga AND timer.key = same.key AND timer.about = 'deadline'
WHERE same.id = saga.id AND saga.id > %s AND saga.id <= %s AND saga.steps = 0
"""
MANY = 5000


def fill(apps: Any, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM eventing_saga")
        (last,) = cursor.fetchone()
        for first in range(0, last, MANY):
            cursor.execute(FILL, [first, first + MANY])


class Migration(migrations.Migration):

    atomic = False  # no lock on the sagas is held for longer than a moment

    dependencies = [("eventing", "0004_persons")]

    operations = [
        migrations.CreateModel(
            name="SagaStep",
            fields=[
                ("pk", models.CompositePrimaryKey("instance_id", "number", blank=True, editable=False, primary_key=True, serialize=False)),
                ("instance", models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name="history", to="eventing.sagainstance")),
                ("number", models.IntegerField(help_text="Its place in the saga's history, from 1.")),
                ("event_id", models.UUIDField(null=True)),
                ("type", models.TextField(help_text="The event's stored name; empty for a reminder.")),
                ("position", models.BigIntegerField(null=True)),
                ("about", models.TextField(help_text="The reminder's subject; empty for an event.")),
                ("commands", models.JSONField(help_text="What it asked for, in order, each with why it was refused, if it was.")),
                ("state", models.TextField()),
                ("memory", models.JSONField()),
                ("late", models.BooleanField(help_text="Whether the saga had ended before, and nothing came of it.")),
                ("taken_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={"db_table": "eventing_saga_step"},
        ),
        migrations.AddField("sagainstance", "correlation_id", models.UUIDField(help_text="The conversation that it began in.", null=True)),
        migrations.AddField("sagainstance", "steps", models.IntegerField(db_default=0, default=0, help_text="How many there are in its history.")),
        migrations.AddField("sagainstance", "deadline_at", models.DateTimeField(help_text="When its reminder about the deadline is due, or was.", null=True)),
        migrations.AddField("sagainstance", "ended_at", models.DateTimeField(help_text="When it came to a final state; null while it's in none.", null=True)),
        migrations.AddField("sagainstance", "failed", models.BooleanField(db_default=False, default=False, help_text="Whether it ended, and needs a person.")),
        migrations.RunPython(fill, migrations.RunPython.noop),
        django.contrib.postgres.operations.AddIndexConcurrently(
            "sagainstance", models.Index(condition=models.Q(("ended_at", None)), fields=["deadline_at"], name="eventing_saga_open")
        ),
        django.contrib.postgres.operations.AddIndexConcurrently(
            "sagainstance", models.Index(condition=models.Q(("failed", True)), fields=["ended_at"], name="eventing_saga_failed")
        ),
        migrations.RunSQL(KEEP, LET_GO),
        migrations.AddField("replay", "asks_first", models.BooleanField(db_default=False, default=False, help_text="Whether, once compared, it waits for somebody to exchange the two.")),
        migrations.AddField("replay", "by_workers", models.BooleanField(db_default=False, default=False, help_text="Whether the workers run it, a few seconds at a time.")),
        migrations.AlterField(
            "replay",
            "state",
            models.TextField(choices=[("building", "Building"), ("paused", "Paused"), ("compared", "Compared"), ("cancelled", "Cancelled"), ("failed", "Failed"), ("verified", "Verified"), ("done", "Done"), ("rolled back", "Rolled Back")], default="building"),
        ),
        migrations.RemoveConstraint("replay", "eventing_replay_one_open"),
        migrations.AddConstraint(
            "replay",
            models.UniqueConstraint(condition=models.Q(("state__in", ["building", "paused", "compared"])), fields=("projection",), name="eventing_replay_one_open"),
        ),
        migrations.AlterModelOptions("checkpoint", {"permissions": [("pause_checkpoint", "Can pause and resume subscriptions")]}),
        migrations.AlterModelOptions("replay", {"permissions": [("run_replay", "Can replay read models, and exchange them")]}),
        migrations.AlterModelOptions("sagainstance", {"permissions": [("resume_sagainstance", "Can resume sagas")], "verbose_name": "saga"}),
        migrations.AlterModelOptions("storedevent", {"permissions": [("view_personal_data", "Can see what events tell of persons")], "verbose_name": "event"}),
    ]
