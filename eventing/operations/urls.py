from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from eventing.operations import letters, outbox, sagas, subscriptions

app_name = "operations"
urlpatterns: list[URLPattern | URLResolver] = [
    path("sagas", sagas.Sagas.as_view(), name="sagas"),
    path("sagas/<str:name>/<uuid:key>", sagas.Saga.as_view(), name="saga"),
    path("sagas/<str:name>/<uuid:key>/resume", sagas.ResumeSaga.as_view(), name="saga-resume"),
    path("subscriptions", subscriptions.Subscriptions.as_view(), name="subscriptions"),
    path("subscriptions/<str:name>", subscriptions.SubscriptionPage.as_view(), name="subscription"),
    path("subscriptions/<str:name>/pause", subscriptions.Pause.as_view(), name="subscription-pause"),
    path("subscriptions/<str:name>/resume", subscriptions.Resume.as_view(), name="subscription-resume"),
    path("subscriptions/<str:name>/replay/<str:what>", subscriptions.ActOnReplay.as_view(), name="replay"),
    path("outbox", outbox.Outbox.as_view(), name="outbox"),
    path("letters", letters.LetterGroups.as_view(), name="letters"),
    path("letters/all", letters.LetterList.as_view(), name="letter-list"),
    path("letters/retry", letters.RetryAll.as_view(), name="retry-all"),
    path("letters/skip", letters.SkipAll.as_view(), name="skip-all"),
    path("letters/<int:pk>", letters.Letter.as_view(), name="letter"),
    path("letters/<int:pk>/retry", letters.RetryLetter.as_view(), name="retry-letter"),
    path("letters/<int:pk>/retry-sequence", letters.RetrySequence.as_view(), name="retry-sequence"),
    path("letters/<int:pk>/skip", letters.SkipLetter.as_view(), name="skip-letter"),
    path("letter-jobs/<int:pk>/cancel", letters.CancelJob.as_view(), name="cancel-job"),
]
