from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False  # an index that is built beside writers

    dependencies = [("eventing", "0012_webhooks")]

    operations = [
        migrations.AlterModelOptions(
            name="inboxentry",
            options={"ordering": ["-id"], "verbose_name": "inbox entry", "verbose_name_plural": "inbox"},
        ),
        migrations.AlterField(
            model_name="inboxentry",
            name="state",
            field=models.TextField(choices=[("waiting", "Waiting"), ("done", "Done"), ("dead", "Dead"), ("skipped", "Skipped")]),
        ),
        migrations.AlterField(
            model_name="inboxentry",
            name="body",
            field=models.BinaryField(help_text="As it came; empty once it's understood or skipped."),
        ),
        migrations.AddField(
            model_name="inboxentry",
            name="alert_attempts",
            field=models.IntegerField(db_default=0, default=0, help_text="How often it was tried to tell somebody."),
        ),
        migrations.AddField(
            model_name="inboxentry",
            name="alert_begun_at",
            field=models.DateTimeField(help_text="When the last attempt to tell somebody was made.", null=True),
        ),
        migrations.AddField(
            model_name="inboxentry",
            name="alerted_at",
            field=models.DateTimeField(help_text="When somebody was told that it's dead.", null=True),
        ),
        AddIndexConcurrently(
            "inboxentry",
            models.Index(condition=models.Q(("state", "dead")), fields=["source", "provider"], name="eventing_inbox_dead"),
        ),
    ]
