from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from config import problems
from config.schema import Once

READ = ["get", "head"]

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("admin/operations/", include("eventing.operations.urls")),
    path("admin/", include("config.dashboard.urls")),
    path("admin/", admin.site.urls),
    path("api/v1/", include("orders.urls")),
    path("api/v1/", include("inventory.urls")),
    path("api/v1/", include("payments.urls")),
    path("api/v1/", include("shipping.urls")),
    path("api/v1/", include("eventing.urls")),
    path("api/v1/schema", SpectacularAPIView.as_view(generator_class=Once, http_method_names=READ), name="schema"),
    path("api/v1/docs", SpectacularSwaggerView.as_view(url_name="schema", http_method_names=READ), name="docs"),
    re_path("^api/", problems.nothing_here),
    path("problems/", problems.problems_page, name="problems"),
    path("problems/<slug:code>", problems.problem_page, name="problem"),
]
handler400 = problems.cannot_be_read
handler403 = problems.not_allowed
handler404 = problems.nothing_here
handler500 = problems.went_wrong
