"""What the operations pages have in common: the admin's frame, permissions, and refreshing by themselves.

A page is a `Page` with a template that extends ``operations/base.html``. Where a part of it is to refresh, that part is
a template of its own, ``fragment``: the page includes it, and htmx asks for it alone. An act is an `Act`: it's only
ever posted, notes itself by `eventing.audit`, and says in one sentence what it did.

    class Letters(Page):
        title = "Dead letters"
        permission_required = "eventing.view_delivery"
        template_name, fragment, refresh_seconds = "operations/letters.html", "operations/_letters.html", 5

    class RetryLetter(Act):
        permission_required = "eventing.retry_delivery"

        def act(self, user: User, pk: int) -> str: ...

In a template, ``{% include "operations/act.html" with url=… label=… permission="eventing.retry_delivery" %}`` is the
button: who may not press it sees it disabled, and reads why.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, cast

from django.contrib import admin, messages
from django.contrib.auth.mixins import PermissionRequiredMixin
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.generic import TemplateView, View

from eventing.domain import Rejected


class ForStaff(PermissionRequiredMixin, View):
    """Asks who it is, as the admin does; who may not look is told so."""

    raise_exception = True

    def dispatch(self, request: HttpRequest, *args: Any, **named: Any) -> HttpResponseBase:
        """PostgreSQL has no NUL, so nothing is found under a name that has one."""
        asked = [value for values in request.GET.lists() for value in values[1]]
        if any("\0" in str(each) for each in (*named.values(), *asked)):
            raise Http404
        return super().dispatch(request, *args, **named)

    @classmethod
    def as_view(cls, **options: Any) -> Callable[..., HttpResponseBase]:
        view = super().as_view(**options)
        return cast(Callable[..., HttpResponseBase], admin.site.admin_view(cast(Any, view)))


class Page(ForStaff, TemplateView):
    """A page to read. Nothing changes by looking at it."""

    title: ClassVar[str] = ""
    fragment: ClassVar[str] = ""
    refresh_seconds: ClassVar[int] = 0

    def get_template_names(self) -> list[str]:
        return [self.fragment] if self._only_the_fragment else super().get_template_names()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        frame = {} if self._only_the_fragment else admin.site.each_context(self.request)
        shown = {"title": self.title, "fragment": self.fragment, "refresh_seconds": self.refresh_seconds}
        return super().get_context_data(**{**frame, **shown, **kwargs})

    @property
    def user(self) -> User:
        """Who looks: somebody who is logged in."""
        return cast(User, self.request.user)

    @property
    def _only_the_fragment(self) -> bool:
        return bool(self.fragment) and "HX-Request" in self.request.headers


class Act(ForStaff, View):
    """Something to do, by POST alone. What the domain refuses is shown with its reason."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, **named: Any) -> HttpResponse:
        try:
            messages.success(request, self.act(cast(User, request.user), **named))
        except Rejected as refusal:
            messages.error(request, str(refusal))
        return HttpResponseRedirect(self._back(request))

    @abstractmethod
    def act(self, user: User, *args: Any, **named: Any) -> str:
        """Do it, and say what was done. Raises Rejected with the reason when that can't be."""

    def _back(self, request: HttpRequest) -> str:
        """Where the form was, if it's a page of ours."""
        wanted = request.POST.get("next", "")
        if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure()):
            return wanted
        return reverse("admin:index")
