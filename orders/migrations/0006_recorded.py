from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """An index over the orders of today and of the last hour, made while orders are written."""

    atomic = False
    dependencies = [("orders", "0005_returns")]

    operations = [
        AddIndexConcurrently(
            model_name="ordersummary",
            index=models.Index(fields=["placed_recorded_at"], name="orders_summary_recorded"),
        )
    ]
