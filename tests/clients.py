"""Browsers of people who have logged in, and clients of the API."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from rest_framework.test import APIClient


class ApiClient(APIClient):
    """A client of the API, which gives each of its requests a key of its own, unless it's told one: "" is none."""

    def generic(  # type: ignore[override] # whatever it takes is passed on
        self, method: str, path: str, *args: Any, **extra: Any
    ) -> Any:
        if method == "POST":
            extra["headers"] = {"Idempotency-Key": str(uuid4()), **(extra.get("headers") or {})}
        return super().generic(method, path, *args, **extra)


def with_role(role: str = "") -> Client:
    """Somebody of the staff with this role, by whose name they go; without one, somebody who isn't of the staff."""
    user = User.objects.create_user(role or "nobody", is_staff=bool(role))
    if role:
        user.groups.add(Group.objects.get(name=role))
    return of(user)


def with_permissions(name: str, *codenames: str) -> Client:
    """Somebody of the staff who may do this, and nothing else."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return of(user)


def of(user: User) -> Client:
    """This user's."""
    client = Client()
    client.force_login(user)
    return client


def api_of(name: str, *codenames: str) -> ApiClient:
    """Of the account of this name, made if there is none, which may do this and nothing else. It's shown the server's
    errors instead of raising them."""
    user, _ = User.objects.get_or_create(username=name)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = ApiClient(raise_request_exception=False)
    client.force_authenticate(User.objects.get(pk=user.pk))
    return client
