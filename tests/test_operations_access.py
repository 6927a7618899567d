"""Who may look at operations pages, and who may act there: every address, by each role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from eventing.operations.page import Act, ForStaff, Page

pytestmark = pytest.mark.django_db

SAMPLES = {"uuid": str(UUID(int=7)), "int": "7"}


def addresses(kind: type[ForStaff]) -> dict[str, type[ForStaff]]:
    """The addresses of all pages, or of all acts, each with its view."""
    return {path: view for path, view in _views(get_resolver().url_patterns) if issubclass(view, kind)}


def _views(patterns: Any, prefix: str = "/") -> Iterator[tuple[str, type[ForStaff]]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _views(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and issubclass(getattr(pattern.callback, "view_class", object), ForStaff):
            for name, converter in pattern.pattern.converters.items():
                spelling = type(converter).__name__.removesuffix("Converter").lower()
                for written in (f"<{spelling}:{name}>", f"<str:{name}>"):
                    route = route.replace(written, SAMPLES.get(spelling, "something"))
            yield route, pattern.callback.view_class  # type: ignore[attr-defined] # as_view sets it


@pytest.fixture
def somebody(request: pytest.FixtureRequest) -> Client:
    client = Client(enforce_csrf_checks=True)
    if role := getattr(request, "param", ""):
        user = User.objects.create_user(role, is_staff=True)
        user.groups.add(Group.objects.get(name=role))
        client.force_login(user)
    return client


def test_there_are_pages_and_acts() -> None:
    assert {"/admin/", "/admin/operations/letters", "/admin/operations/sagas"} <= set(addresses(Page))
    assert addresses(Act)


def test_nobody_is_asked_who_it_is(somebody: Client) -> None:
    for path in [*addresses(Page), *addresses(Act)]:
        assert somebody.get(path)["Location"].startswith("/admin/login/"), path
        assert somebody.post(path).status_code in (302, 403), path


@pytest.mark.parametrize("somebody", ["viewer"], indirect=True)
def test_a_viewer_may_look_at_every_page(somebody: Client) -> None:
    for path in addresses(Page):
        assert somebody.get(path).status_code in (200, 404), path


@pytest.mark.parametrize("somebody", ["administrator"], indirect=True)
def test_nothing_is_done_by_a_get_or_for_another_site(somebody: Client) -> None:
    for path in addresses(Act):
        assert somebody.get(path).status_code == 405, path
        assert somebody.post(path).status_code == 403, f"{path} takes no token against forgery"


def test_each_act_is_a_permission_of_its_own_that_operators_have_and_viewers_have_not() -> None:
    operator, viewer = (_may(role) for role in ("operator", "viewer"))
    for path, view in addresses(Act).items():
        needed = _needed(view)
        assert needed, path
        assert needed <= operator, path
        assert not needed <= viewer, path


def test_a_viewer_who_posts_is_refused() -> None:
    client = Client()
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.groups.add(Group.objects.get(name="viewer"))
    client.force_login(viewer)
    for path in addresses(Act):
        assert client.post(path, {"reason": "because"}).status_code == 403, path


def test_no_list_has_actions_that_a_link_runs() -> None:
    # The frame's own kind of action is run by a GET; Django's, by a form.
    for pages in admin.site._registry.values():
        for kind in ("actions_list", "actions_row", "actions_detail", "actions_submit_line"):
            assert not getattr(pages, kind, ()), f"{pages}.{kind}"


def _needed(view: type[ForStaff]) -> set[str]:
    needed: Any = view.permission_required
    return {needed} if isinstance(needed, str) else set(needed)


def _may(role: str) -> set[str]:
    found = Permission.objects.filter(group__name=role).select_related("content_type")
    return {f"{permission.content_type.app_label}.{permission.codename}" for permission in found}
