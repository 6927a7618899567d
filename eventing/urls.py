from __future__ import annotations

from django.urls import path

from eventing import command_api, letter_api, live_api, replay_api, saga_api, subscription_api
from eventing.webhooks import api as webhook_api

ENDPOINT = "webhook-endpoints/<uuid:endpoint_id>"

urlpatterns = [
    path("commands", command_api.Commands.as_view(), name="api-commands"),
    path("commands/<uuid:command_id>", command_api.Command.as_view(), name="api-command"),
    path("sagas", saga_api.Sagas.as_view(), name="api-sagas"),
    path("sagas/<str:name>/<uuid:key>", saga_api.Saga.as_view(), name="api-saga"),
    path("sagas/<str:name>/<uuid:key>/resume", saga_api.Resumption.as_view(), name="api-saga-resume"),
    path("replays", replay_api.Replays.as_view(), name="api-replays"),
    path("replays/<int:replay_id>", replay_api.Replay.as_view(), name="api-replay"),
    path("replays/<int:replay_id>/<str:act>", replay_api.ReplayAct.as_view(), name="api-replay-act"),
    path("letter-groups", letter_api.LetterGroups.as_view(), name="api-letter-groups"),
    path("letter-groups/<slug:signature>", letter_api.LetterGroup.as_view(), name="api-letter-group"),
    path("letters", letter_api.Letters.as_view(), name="api-letters"),
    path("letters/skip", letter_api.LettersSkip.as_view(), name="api-letters-skip"),
    path("letters/<int:letter_id>", letter_api.Letter.as_view(), name="api-letter"),
    path("letters/<int:letter_id>/retry", letter_api.LetterRetry.as_view(), name="api-letter-retry"),
    path("letters/<int:letter_id>/retry-sequence", letter_api.SequenceRetry.as_view(), name="api-sequence-retry"),
    path("letters/<int:letter_id>/skip", letter_api.LetterSkip.as_view(), name="api-letter-skip"),
    path("letter-jobs", letter_api.Jobs.as_view(), name="api-letter-jobs"),
    path("letter-jobs/<int:job_id>", letter_api.Job.as_view(), name="api-letter-job"),
    path("letter-jobs/<int:job_id>/cancel", letter_api.JobCancel.as_view(), name="api-letter-job-cancel"),
    path("letter-jobs/<int:job_id>/letters", letter_api.Outcomes.as_view(), name="api-letter-outcomes"),
    path("stream", live_api.LogStream.as_view(), name="api-stream"),
    path("subscriptions", subscription_api.Subscriptions.as_view(), name="api-subscriptions"),
    path("subscriptions/<str:name>", subscription_api.Subscription.as_view(), name="api-subscription"),
    path("subscriptions/<str:name>/<str:act>", subscription_api.SubscriptionAct.as_view(), name="api-subscription-act"),
    path("webhook-endpoints", webhook_api.Endpoints.as_view(), name="api-webhook-endpoints"),
    path(ENDPOINT, webhook_api.Endpoint.as_view(), name="api-webhook-endpoint"),
    path(f"{ENDPOINT}/rotate-secret", webhook_api.SecretRotation.as_view(), name="api-webhook-secret"),
    path(f"{ENDPOINT}/test", webhook_api.Trial.as_view(), name="api-webhook-test"),
    path(f"{ENDPOINT}/replay", webhook_api.Replay.as_view(), name="api-webhook-replay"),
    path(f"{ENDPOINT}/deliveries", webhook_api.WebhookDeliveries.as_view(), name="api-webhook-deliveries"),
    path(
        f"{ENDPOINT}/deliveries/<int:delivery_id>/retry",
        webhook_api.DeliveryRetry.as_view(),
        name="api-webhook-delivery-retry",
    ),
    path(
        f"{ENDPOINT}/deliveries/<int:delivery_id>/skip",
        webhook_api.DeliverySkip.as_view(),
        name="api-webhook-delivery-skip",
    ),
]
