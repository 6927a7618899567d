
import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("eventing", "0011_inbox"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='WebhookEndpoint',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, primary_key=True, serialize=False)),
                ('url', models.TextField()),
                ('description', models.TextField(blank=True, db_default='', default='')),
                ('event_types', django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), help_text='Stored names of events; null is all.', null=True, size=None)),
                ('after_position', models.BigIntegerField(help_text='It hears of the events behind this position of the log.')),
                ('enabled', models.BooleanField(db_default=True, default=True)),
                ('disabled_reason', models.TextField(db_default='', default='')),
                ('disabled_at', models.DateTimeField(null=True)),
                ('troubles', models.IntegerField(db_default=0, default=0, help_text='Attempts in a row that failed or took long.')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='webhook_endpoints', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'eventing_webhook_endpoint',
                'permissions': [('manage_webhooks', 'Can have webhooks, and see to their deliveries')],
            },
        ),
        migrations.CreateModel(
            name='WebhookSecret',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('wrapped', models.BinaryField()),
                ('wrapped_with', models.TextField(help_text='The name of the key from the environment that encrypted it.')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('expires_at', models.DateTimeField(help_text="When it's valid no more; null while it's the newest.", null=True)),
                ('endpoint', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='secrets', to='eventing.webhookendpoint')),
            ],
            options={
                'db_table': 'eventing_webhook_secret',
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='WebhookDelivery',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('position', models.BigIntegerField()),
                ('sequence', models.TextField(help_text='Events of one sequence are sent in order.')),
                ('state', models.TextField(choices=[('waiting', 'Waiting'), ('done', 'Done'), ('failed', 'Failed'), ('skipped', 'Skipped')], default='waiting')),
                ('attempts', models.IntegerField(default=0, help_text='Counted before each is made.')),
                ('due_at', models.DateTimeField(help_text='Null where it waits behind one that failed, or did itself.', null=True)),
                ('leased_until', models.DateTimeField(help_text="How long it's left to the worker that is at it.", null=True)),
                ('last_status', models.IntegerField(help_text='What the address answered last, as HTTP has it.', null=True)),
                ('last_error', models.TextField(db_default='', default='')),
                ('milliseconds', models.IntegerField(help_text='What the last attempt took.', null=True)),
                ('reason', models.TextField(db_default='', default='', help_text='Why it was skipped.')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('attempted_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('event', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='eventing.storedevent')),
                ('endpoint', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='eventing.webhookendpoint')),
            ],
            options={
                'verbose_name_plural': 'webhook deliveries',
                'db_table': 'eventing_webhook_delivery',
                'default_permissions': ('view',),
                'indexes': [models.Index(condition=models.Q(('state', 'waiting')), fields=['endpoint', 'due_at', 'position'], name='eventing_webhook_delivery_due'), models.Index(condition=models.Q(('state__in', ['waiting', 'failed'])), fields=['endpoint', 'sequence', 'position'], name='eventing_webhook_sequence'), models.Index(condition=models.Q(('leased_until__isnull', False)), fields=['endpoint'], name='eventing_webhook_leased'), models.Index(fields=['endpoint', 'id'], name='eventing_webhook_of_endpoint'), models.Index(condition=models.Q(('state', 'failed')), fields=['endpoint', 'id'], name='eventing_webhook_failed')],
                'constraints': [models.UniqueConstraint(fields=('endpoint', 'position'), name='eventing_webhook_delivery_once')],
            },
        ),
    ]
