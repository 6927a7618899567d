from __future__ import annotations

import django.contrib.postgres.operations
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False  # the indexes are made beside those who write

    dependencies = [("eventing", "0008_alerts")]

    operations = [
        migrations.AddField("timer", "attempts", models.IntegerField(db_default=0, default=0, help_text="How often it was begun, and not ended.")),
        migrations.AddField("timer", "error", models.TextField(db_default="", default="", help_text="The kind of the last error.")),
        django.contrib.postgres.operations.AddIndexConcurrently(
            "timer", models.Index(condition=models.Q(("attempts__gte", 3)), fields=["key"], name="eventing_timer_failing")
        ),
        django.contrib.postgres.operations.AddIndexConcurrently(
            "delivery", models.Index(condition=models.Q(("state", "skipped")), fields=["subscription"], name="eventing_delivery_skipped")
        ),
    ]
