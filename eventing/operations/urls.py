from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from eventing.operations import outbox, sagas, subscriptions

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
]
