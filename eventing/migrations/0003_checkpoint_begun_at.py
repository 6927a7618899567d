from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("eventing", "0002_the_log")]

    operations = [
        migrations.AddField(
            model_name="checkpoint",
            name="begun_at",
            field=models.DateTimeField(help_text="When the batch that is under way was begun.", null=True),
        ),
    ]
