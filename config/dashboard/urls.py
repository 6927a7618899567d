from __future__ import annotations

from django.urls import path

from config.dashboard.home import Home

app_name = "dashboard"
urlpatterns = [
    path("", Home.as_view(), name="home"),
]
