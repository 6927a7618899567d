from __future__ import annotations

from django.urls import path

from eventing import replay_api, saga_api

urlpatterns = [
    path("sagas", saga_api.Sagas.as_view(), name="api-sagas"),
    path("sagas/<str:name>/<uuid:key>", saga_api.Saga.as_view(), name="api-saga"),
    path("sagas/<str:name>/<uuid:key>/resume", saga_api.Resumption.as_view(), name="api-saga-resume"),
    path("replays", replay_api.Replays.as_view(), name="api-replays"),
    path("replays/<int:replay_id>", replay_api.Replay.as_view(), name="api-replay"),
    path("replays/<int:replay_id>/<str:act>", replay_api.ReplayAct.as_view(), name="api-replay-act"),
]
