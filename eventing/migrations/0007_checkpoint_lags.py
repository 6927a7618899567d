from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("eventing", "0006_letters")]

    operations = [
        migrations.AddField(
            model_name="checkpoint",
            name="lags",
            field=ArrayField(
                base_field=models.IntegerField(),
                db_default=[],
                default=list,
                help_text="Milliseconds from being recorded to being handled, of events that it handled last, newest first.",
                size=None,
            ),
        ),
    ]
