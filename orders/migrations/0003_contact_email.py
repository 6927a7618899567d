import django.db.models.functions.text
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False  # an index that is built beside writers

    dependencies = [
        ('orders', '0002_contact'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='ordersummary',
            index=models.Index(django.db.models.functions.text.Upper('contact_email'), condition=models.Q(('contact_email', ''), _negated=True), name='orders_summary_email'),
        ),
    ]
