"""The sweep: finds work in the database that no nudge is on its way for, because it failed earlier, waited for its
time, or was lost with the broker."""

from __future__ import annotations

from eventing import alerts, answers, inbox, letter_jobs, nudges, replay, requested
from eventing.effects import EffectSubscription
from eventing.nudges import Nudge
from eventing.projections import ProjectionSubscription
from eventing.relay import relay_all
from eventing.statements import run
from eventing.subscriptions import subscriptions
from eventing.webhooks import deliveries

# Partitions that are behind the log, or have a parked event or a reminder that is due.
WAITING = """
SELECT subscription, partition FROM eventing_checkpoint
WHERE state = 'running' AND position < (SELECT coalesce(max(position), 0) FROM eventing_log)
UNION
SELECT delivery.subscription, delivery.partition
FROM eventing_delivery delivery JOIN eventing_checkpoint USING (subscription, partition)
WHERE delivery.state = 'waiting' AND due_at <= statement_timestamp() AND eventing_checkpoint.state = 'running'
UNION
SELECT saga, partition FROM eventing_timer WHERE due_at <= statement_timestamp()
"""


def sweep() -> None:
    """Relay what is in the outbox, take jobs a step further, and nudge whoever has something to do."""
    for _ in relay_all():
        pass
    letter_jobs.tend()
    requested.purge()
    answers.purge()
    inbox.purge()
    wanted: list[Nudge] = [Nudge(nudges.ALERT)] if alerts.are_due() else []
    wanted += [Nudge(nudges.REQUESTED)] if requested.is_waiting() else []
    wanted += [Nudge(nudges.INBOX)] if inbox.is_waiting() else []
    waiting = run(WAITING)
    known = {subscription.name: subscription for subscription in subscriptions()}
    for name, partition in waiting:
        subscription = known.get(name)
        if subscription is None:
            continue  # a subscription of another version of the program
        wanted.append(subscription.nudge_for(partition))
        if isinstance(subscription, EffectSubscription):
            wanted.append(subscription.nudge_to_perform)
    unfinished = [known.get(name) for name in replay.unfinished()]
    wanted += [replay.nudge_for(each) for each in unfinished if isinstance(each, ProjectionSubscription)]
    wanted += [deliveries.nudge_for(endpoint_id) for endpoint_id in deliveries.due()]
    nudges.send(wanted)
