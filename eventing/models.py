"""The tables of the log and of those who read it. Nothing but `eventing` writes them."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models.functions import Now

from eventing.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookSecret

__all__ = ["WebhookDelivery", "WebhookEndpoint", "WebhookSecret"]


class StoredEvent(models.Model):
    """One event. Append-only: a trigger refuses every other change, and `store.append` is the only writer.

    The row alone is what Debezium's outbox event router asks for: id, aggregate type (`category`),
    aggregate id (`stream_id`), type and payload (`data`).
    """

    id = models.UUIDField(primary_key=True)
    category = models.TextField()
    stream_id = models.TextField()
    version = models.IntegerField()
    type = models.TextField()
    schema_version = models.SmallIntegerField()
    data = models.JSONField()
    metadata = models.JSONField()
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    correlation_id = models.UUIDField()
    causation_id = models.UUIDField(null=True)
    actor = models.TextField()
    traceparent = models.TextField()

    class Meta:
        db_table = "eventing_event"
        verbose_name = "event"
        permissions = [("view_personal_data", "Can see what events tell of persons")]
        constraints = [
            models.UniqueConstraint(fields=["category", "stream_id", "version"], name="eventing_event_stream_version"),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="eventing_event_version_from_1"),
        ]
        indexes = [
            GinIndex(  # of the few events that tell of persons, whom `metadata` names
                fields=["metadata"],
                opclasses=["jsonb_path_ops"],
                condition=~models.Q(metadata={}),
                name="eventing_event_persons",
            )
        ]

    def __str__(self) -> str:
        return f"{self.category}-{self.stream_id} {self.version} {self.type}"


class OutboxEntry(models.Model):
    """A committed event that has no position yet. The relay moves it to the log."""

    id = models.BigAutoField(primary_key=True)
    event_id = models.UUIDField()
    type = models.TextField()
    created_at = models.DateTimeField(db_default=Now())
    digest = models.BinaryField(null=True, help_text="SHA-256 over the event; null where the relay computes it.")

    class Meta:
        db_table = "eventing_outbox"
        verbose_name = "outbox entry"
        verbose_name_plural = "outbox entries"

    def __str__(self) -> str:
        return f"{self.id} {self.type}"


class LogEntry(models.Model):
    """An event's position: dense from 1, in an order that never changes. Written by the relay alone."""

    position = models.BigIntegerField(primary_key=True)
    # No constraint: neither side can be changed or deleted, and checking it would cost each relayed row a look-up.
    event = models.OneToOneField(StoredEvent, on_delete=models.DO_NOTHING, db_constraint=False, related_name="log")
    type = models.TextField()
    published_at = models.DateTimeField(db_default=Now())
    link = models.BinaryField(
        null=True, help_text="SHA-256 over this entry, its event and the link before; null where there's no chain."
    )

    class Meta:
        db_table = "eventing_log"
        verbose_name = "log entry"
        verbose_name_plural = "log"

    def __str__(self) -> str:
        return f"{self.position} {self.type}"


class RelayFailure(models.Model):
    """What went wrong since the relay last succeeded: one row at most, none while all is well."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    retries = models.IntegerField()
    error = models.TextField()
    failed_at = models.DateTimeField()

    class Meta:
        db_table = "eventing_relay_failure"

    def __str__(self) -> str:
        return f"{self.retries} times: {self.error}"


class Checkpoint(models.Model):
    """How far one partition of a subscription has come: everything up to `position` is done or parked."""

    class State(models.TextChoices):
        RUNNING = "running"
        PAUSED = "paused"
        REPLAYING = "replaying"

    subscription = models.TextField()
    partition = models.SmallIntegerField()
    position = models.BigIntegerField(default=0)
    state = models.TextField(choices=State, default=State.RUNNING)
    attempts = models.IntegerField(
        default=0, help_text="Times a batch was begun since one ended: counted before it is handled."
    )
    begun_at = models.DateTimeField(null=True, help_text="When the batch that is under way was begun.")
    careful_until = models.BigIntegerField(
        default=0, help_text="Up to this position events are taken one at a time, because a batch failed."
    )
    handled = models.BigIntegerField(default=0)
    rate = models.FloatField(default=0, help_text="Events a second in the last batch.")
    moved_at = models.DateTimeField(null=True)
    lags = ArrayField(
        models.IntegerField(),
        default=list,
        db_default=[],
        help_text="Milliseconds from being recorded to being handled, of events that it handled last, newest first.",
    )
    version = models.IntegerField(
        default=1, db_default=1, help_text="The version of the projection that its read model was built with."
    )

    class Meta:
        db_table = "eventing_checkpoint"
        permissions = [("pause_checkpoint", "Can pause and resume subscriptions")]
        constraints = [
            models.UniqueConstraint(fields=["subscription", "partition"], name="eventing_checkpoint_once"),
        ]

    def __str__(self) -> str:
        return f"{self.subscription}/{self.partition} at {self.position}"


class Delivery(models.Model):
    """An event that a subscription handles apart from its checkpoint: an effect's job, or an event that failed
    together with those of the same sequence that wait behind it. It points to its event; it is no copy."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DEAD = "dead"
        DONE = "done"
        SKIPPED = "skipped"

    OPEN = (State.WAITING, State.DEAD)

    id = models.BigAutoField(primary_key=True)
    subscription = models.TextField()
    partition = models.SmallIntegerField()
    sequence = models.TextField(help_text="Events of one sequence are handled in order, or wait for each other.")
    event = models.ForeignKey(StoredEvent, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False)
    position = models.BigIntegerField()
    state = models.TextField(choices=State, default=State.WAITING)
    attempts = models.IntegerField(default=0)
    due_at = models.DateTimeField(db_default=Now())
    error = models.TextField(default="", db_default="")
    traceback = models.TextField(default="", db_default="")
    signature = models.TextField(default="", db_default="", help_text="Of the last failure: its letter group.")
    failing_since = models.DateTimeField(null=True, help_text="When it first failed.")
    reason = models.TextField(default="", db_default="", help_text="Why it was skipped, and by whom.")
    created_at = models.DateTimeField(db_default=Now())
    attempted_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "eventing_delivery"
        verbose_name_plural = "deliveries"
        permissions = [
            ("retry_delivery", "Can have letters tried again"),
            ("skip_delivery", "Can give letters up"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["subscription", "position"], name="eventing_delivery_once"),
        ]
        indexes = [
            models.Index(
                "subscription",
                models.ExpressionWrapper(models.Q(attempts__gt=0), output_field=models.BooleanField()),
                "due_at",
                condition=models.Q(state="waiting"),
                name="eventing_delivery_due",
            ),
            models.Index(
                fields=["subscription", "sequence", "position"],
                condition=models.Q(state__in=["waiting", "dead"]),
                name="eventing_delivery_sequence",
            ),
            models.Index(
                fields=["subscription"], condition=models.Q(state="skipped"), name="eventing_delivery_skipped"
            ),
            models.Index(
                fields=["signature"],
                condition=models.Q(state__in=["waiting", "dead"]) & ~models.Q(signature=""),
                name="eventing_delivery_signature",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subscription} {self.sequence} at {self.position}: {self.state}"


class Attempt(models.Model):
    """One attempt at a delivery that failed. One that never ended, because its worker died, leaves none: the numbers
    show where it was."""

    delivery = models.ForeignKey(Delivery, on_delete=models.DO_NOTHING, db_constraint=False, related_name="failures")
    number = models.IntegerField()
    began_at = models.DateTimeField()
    failed_at = models.DateTimeField(db_default=Now())
    worker = models.TextField(help_text="Host and number of the process that made it.")
    error = models.TextField()
    traceback = models.TextField()

    class Meta:
        db_table = "eventing_attempt"

    def __str__(self) -> str:
        return f"{self.number}: {self.error}"


class LetterGroup(models.Model):
    """Letters that failed in the same place for the same reason, ever. Which of them are open, their rows say."""

    signature = models.TextField(primary_key=True)
    subscription = models.TextField()
    event_type = models.TextField()
    exception = models.TextField()
    frame = models.TextField(help_text="The innermost function of our own code that took part.")
    message = models.TextField(help_text="Without what differs from letter to letter.")
    first_seen = models.DateTimeField(db_default=Now())
    last_seen = models.DateTimeField(db_default=Now())
    failures = models.BigIntegerField(default=1)
    alerted_at = models.DateTimeField(null=True, help_text="When somebody was told, since it was last all settled.")
    alert_attempts = models.IntegerField(default=0, db_default=0)
    alert_begun_at = models.DateTimeField(null=True, help_text="When the last attempt to tell somebody was made.")

    class Meta:
        db_table = "eventing_letter_group"

    def __str__(self) -> str:
        return f"{self.subscription}: {self.exception} in {self.frame or 'no code of ours'}"


class LetterJob(models.Model):
    """Many letters being tried again, in waves that grow as long as few fail again."""

    class State(models.TextChoices):
        RUNNING = "running"
        DONE = "done"
        STOPPED = "stopped"
        CANCELLED = "cancelled"

    state = models.TextField(choices=State, default=State.RUNNING)
    filter = models.JSONField(help_text="Which letters were asked for.")
    tolerance = models.FloatField(help_text="The share of a wave that may fail again; above it the job stops.")
    wave = models.IntegerField(default=0, help_text="Waves that were let go.")
    said = models.TextField(default="", help_text="Why it ended, unless all is done.")
    started_by = models.TextField()
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "eventing_letter_job"
        indexes = [
            models.Index(fields=["id"], condition=models.Q(state="running"), name="eventing_letter_job_running"),
        ]

    def __str__(self) -> str:
        return f"Job {self.pk}: {self.state}"


class JobLetter(models.Model):
    """A letter that a job is to try again: one of those that there were when it began."""

    class State(models.TextChoices):
        WAITING = "waiting", "waits for its wave"
        RELEASED = "released", "being tried"
        SUCCEEDED = "succeeded"
        FAILED = "failed", "failed again"
        SETTLED = "settled", "settled by somebody else"

    job = models.ForeignKey(LetterJob, on_delete=models.CASCADE, related_name="letters")
    delivery = models.ForeignKey(Delivery, on_delete=models.DO_NOTHING, db_constraint=False)
    state = models.TextField(choices=State, default=State.WAITING)
    wave = models.IntegerField(null=True)
    released_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "eventing_job_letter"
        constraints = [models.UniqueConstraint(fields=["job", "delivery"], name="eventing_job_letter_once")]

    def __str__(self) -> str:
        return f"{self.delivery_id} of job {self.job_id}: {self.state}"


class SagaInstance(models.Model):
    """One running or ended saga, and what it remembers. Never deleted: a trigger refuses it."""

    saga = models.TextField()
    key = models.UUIDField()
    state = models.TextField()
    memory = models.JSONField()
    correlation_id = models.UUIDField(null=True, help_text="The conversation that it began in.")
    steps = models.IntegerField(default=0, db_default=0, help_text="How many there are in its history.")
    started_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    deadline_at = models.DateTimeField(null=True, help_text="When its reminder about the deadline is due, or was.")
    ended_at = models.DateTimeField(null=True, help_text="When it came to a final state; null while it's in none.")
    failed = models.BooleanField(default=False, db_default=False, help_text="Whether it ended, and needs a person.")

    class Meta:
        db_table = "eventing_saga"
        verbose_name = "saga"
        permissions = [("resume_sagainstance", "Can resume sagas")]
        constraints = [models.UniqueConstraint(fields=["saga", "key"], name="eventing_saga_once")]
        indexes = [  # of the few that somebody may have to see to; none of their columns changes at every step
            models.Index(fields=["deadline_at"], condition=models.Q(ended_at=None), name="eventing_saga_open"),
            models.Index(fields=["ended_at"], condition=models.Q(failed=True), name="eventing_saga_failed"),
        ]

    def __str__(self) -> str:
        return f"{self.saga} {self.key}: {self.state}"


class SagaStep(models.Model):
    """One thing that a saga reacted to: what came in, which commands went out, and what it was afterwards.

    Either ``event_id`` says what came in, or ``about``: a reminder's subject. Append-only, like events.
    """

    pk = models.CompositePrimaryKey("instance_id", "number")
    # No constraint: neither side can be deleted, and checking it would cost each step a look-up.
    instance = models.ForeignKey(
        SagaInstance, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="history"
    )
    number = models.IntegerField(help_text="Its place in the saga's history, from 1.")
    event_id = models.UUIDField(null=True)
    type = models.TextField(help_text="The event's stored name; empty for a reminder.")
    position = models.BigIntegerField(null=True)
    about = models.TextField(help_text="The reminder's subject; empty for an event.")
    commands = models.JSONField(help_text="What it asked for, in order, each with why it was refused, if it was.")
    state = models.TextField()
    memory = models.JSONField()
    late = models.BooleanField(help_text="Whether the saga had ended before, and nothing came of it.")
    taken_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "eventing_saga_step"

    def __str__(self) -> str:
        return f"{self.number}: {self.type or self.about}"


class Timer(models.Model):
    """A saga's reminder to itself."""

    saga = models.TextField()
    key = models.UUIDField()
    about = models.TextField()
    partition = models.SmallIntegerField()
    due_at = models.DateTimeField()
    correlation_id = models.UUIDField()
    attempts = models.IntegerField(default=0, db_default=0, help_text="How often it was begun, and not ended.")
    error = models.TextField(default="", db_default="", help_text="The kind of the last error.")

    FAILING = 3  # attempts: so many that somebody should know

    class Meta:
        db_table = "eventing_timer"
        constraints = [models.UniqueConstraint(fields=["saga", "key", "about"], name="eventing_timer_once")]
        indexes = [
            models.Index(fields=["saga", "partition", "due_at"], name="eventing_timer_due"),
            models.Index(fields=["key"], condition=models.Q(attempts__gte=3), name="eventing_timer_failing"),
        ]

    def __str__(self) -> str:
        return f"{self.saga} {self.key}: {self.about} at {self.due_at:%Y-%m-%d %H:%M}"


class Snapshot(models.Model):
    """An aggregate's state after one of its events, so that loading it needs only those that came later. It can be
    deleted at any time, and is ignored once the aggregate's class has another ``fingerprint``."""

    category = models.TextField()
    stream_id = models.TextField()
    version = models.IntegerField()
    last_event_id = models.UUIDField()
    fingerprint = models.TextField()
    state = models.JSONField()
    taken_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "eventing_snapshot"
        constraints = [models.UniqueConstraint(fields=["category", "stream_id"], name="eventing_snapshot_once")]

    def __str__(self) -> str:
        return f"{self.category}-{self.stream_id} at {self.version}"


class EventSchema(models.Model):
    """One Avro schema of an event, by the number that messages carry. Never changed, never deleted."""

    id = models.AutoField(primary_key=True)
    subject = models.TextField(help_text="The event's stored name.")
    version = models.SmallIntegerField()
    fingerprint = models.TextField(help_text="SHA-256 of the schema's canonical form, in hexadecimal digits.")
    schema = models.JSONField()
    registered_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "eventing_schema"
        constraints = [
            models.UniqueConstraint(fields=["subject", "version", "fingerprint"], name="eventing_schema_once")
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.subject} {self.version}"


class PersonKey(models.Model):
    """The key that a person's data in events is sealed with. Without it nobody can read them, and that's for ever."""

    person = models.TextField(primary_key=True)
    wrapped = models.BinaryField(null=True, help_text="Encrypted itself; null once the person is forgotten.")
    wrapped_with = models.TextField(help_text="The name of the key from the environment that encrypted it.")
    created_at = models.DateTimeField(db_default=Now())
    forgotten_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "eventing_person_key"

    def __str__(self) -> str:
        return f"{self.person}: {'forgotten' if self.forgotten_at else 'known'}"


class Replay(models.Model):
    """A read model being built anew. Whoever pauses or cancels it does so by this row."""

    class State(models.TextChoices):
        BUILDING = "building"
        PAUSED = "paused"
        COMPARED = "compared"
        CANCELLED = "cancelled"
        FAILED = "failed"
        VERIFIED = "verified"
        DONE = "done"
        ROLLED_BACK = "rolled back"

    OPEN = (State.BUILDING, State.PAUSED, State.COMPARED)

    projection = models.TextField()
    version = models.IntegerField(help_text="Of the projection, when the replay began.")
    state = models.TextField(choices=State, default=State.BUILDING)
    in_place = models.BooleanField()
    verify_only = models.BooleanField()
    with_failures = models.BooleanField(help_text="Whether it may end with events that couldn't be projected.")
    asks_first = models.BooleanField(
        default=False, db_default=False, help_text="Whether, once compared, it waits for somebody to exchange the two."
    )
    by_workers = models.BooleanField(
        default=False, db_default=False, help_text="Whether the workers run it, a few seconds at a time."
    )
    until = models.BigIntegerField(null=True, help_text="The position to stop at; null is the head.")
    was_paused = models.BooleanField(default=False, help_text="Whether live updates were paused when it began.")
    skipped = models.JSONField(default=dict, help_text="Why events were skipped before it began, by position.")
    position = models.BigIntegerField(default=0, help_text="Summed up over all partitions, as is the target.")
    target = models.BigIntegerField(default=0)
    rate = models.FloatField(default=0, help_text="Log positions a second since it was last taken up.")
    runner = models.UUIDField(null=True, help_text="The process that is at it.")
    seen_at = models.DateTimeField(null=True, help_text="When that process last said so.")
    comparison = models.JSONField(null=True, help_text="What was found different; null when nothing was compared.")
    error = models.TextField(default="", db_default="")
    started_by = models.TextField(default="", db_default="")
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "eventing_replay"
        permissions = [("run_replay", "Can replay read models, and exchange them")]
        constraints = [
            models.UniqueConstraint(
                fields=["projection"],
                condition=models.Q(state__in=["building", "paused", "compared"]),
                name="eventing_replay_one_open",
            )
        ]

    def __str__(self) -> str:
        return f"{self.projection}: {self.state} at {self.position} of {self.target}"


class SavedAnswer(models.Model):
    """What a request was answered with, under the key that its client chose. Written in the transaction that did what
    was asked for, so that there is neither without the other."""

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    key = models.TextField()
    fingerprint = models.BinaryField(help_text="SHA-256 of the method, the address and the body.")
    status = models.SmallIntegerField()
    headers = models.JSONField()
    body = models.BinaryField(null=True, help_text="Encrypted; null once somebody whom it told of was forgotten.")
    streams = ArrayField(models.TextField(), help_text="Those that it tells of.")
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "eventing_saved_answer"
        constraints = [models.UniqueConstraint(fields=["account", "key"], name="eventing_saved_answer_once")]

    def __str__(self) -> str:
        return f"{self.key}: {self.status}"


class RequestedCommand(models.Model):
    """A request that was accepted to be carried out later, by a worker, on behalf of who asked."""

    class State(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        PARTIALLY_SUCCEEDED = "partially_succeeded"

    OPEN = (State.PENDING, State.RUNNING)

    id = models.UUIDField(primary_key=True)
    account = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    path = models.TextField(help_text="What it was asked of.")
    headers = models.JSONField(help_text="Those that say how: a precondition, a trace.")
    state = models.TextField(choices=State, default=State.PENDING)
    created_at = models.DateTimeField(db_default=Now())
    due_at = models.DateTimeField(db_default=Now(), help_text="When a worker may take it, or take it over.")
    ended_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "eventing_requested_command"
        verbose_name = "requested command"
        indexes = [
            models.Index(
                fields=["due_at"],
                condition=models.Q(state__in=["pending", "running"]),
                name="eventing_requested_due",
            ),
            models.Index(fields=["account", "-id"], name="eventing_requested_newest"),
            models.Index(fields=["ended_at"], name="eventing_requested_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.path}: {self.state}"

    @property
    def progress(self) -> dict[str, int]:
        """How many of its parts are done."""
        parts = self.parts.all()
        return {"done": sum(part.status is not None for part in parts), "total": len(parts)}


class RequestedPart(models.Model):
    """A part of a requested command, done in one transaction: all of it, or so many of its items."""

    command = models.ForeignKey(RequestedCommand, on_delete=models.CASCADE, related_name="parts")
    number = models.IntegerField(help_text="From 0.")
    first_item = models.IntegerField(default=0, help_text="The place of its first item among all items.")
    items = models.IntegerField(null=True, help_text="How many items it has; null where it's one thing.")
    attempts = models.IntegerField(default=0)
    body = models.BinaryField(null=True, help_text="Encrypted, for it may tell of persons; null once it's done.")
    answer = models.ForeignKey(SavedAnswer, null=True, on_delete=models.SET_NULL)
    status = models.SmallIntegerField(null=True, help_text="Of the answer; null while it isn't done.")

    class Meta:
        db_table = "eventing_requested_part"
        constraints = [models.UniqueConstraint(fields=["command", "number"], name="eventing_requested_part_once")]

    def __str__(self) -> str:
        return f"part {self.number} of {self.command_id}"


class InboxEntry(models.Model):
    """What somebody told us of their own accord, by a webhook: once, however often it was told."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        DEAD = "dead"
        SKIPPED = "skipped"

    source = models.TextField(help_text="The context that hears of it.")
    provider = models.TextField()
    event_id = models.TextField(help_text="The provider's own.")
    body = models.BinaryField(help_text="As it came; empty once it's understood or skipped.")
    state = models.TextField(choices=State)
    attempts = models.IntegerField()
    error = models.TextField(blank=True)
    received_at = models.DateTimeField()
    due_at = models.DateTimeField()
    alert_attempts = models.IntegerField(default=0, db_default=0, help_text="How often it was tried to tell somebody.")
    alert_begun_at = models.DateTimeField(null=True, help_text="When the last attempt to tell somebody was made.")
    alerted_at = models.DateTimeField(null=True, help_text="When somebody was told that it's dead.")

    class Meta:
        db_table = "eventing_inbox"
        verbose_name = "inbox entry"
        verbose_name_plural = "inbox"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["source", "provider", "event_id"], name="eventing_inbox_once"),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=models.Q(state="waiting"), name="eventing_inbox_due"),
            models.Index(fields=["received_at"], condition=models.Q(state="done"), name="eventing_inbox_old"),
            models.Index(fields=["source", "provider"], condition=models.Q(state="dead"), name="eventing_inbox_dead"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.event_id}: {self.state}"
