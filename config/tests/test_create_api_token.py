from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone
from knox.models import AuthToken

from tests.clients import ApiClient

pytestmark = pytest.mark.django_db

ORDERS = "/api/v1/orders"


def create_api_token(*arguments: str) -> str:
    out = StringIO()
    call_command("create_api_token", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def answer_to(token: str) -> int:
    return ApiClient().get(ORDERS, headers={"Authorization": f"Bearer {token}"}).status_code


def test_a_token_opens_the_api_and_only_its_hash_is_kept() -> None:
    User.objects.create_user("ann")
    token = create_api_token("ann")

    assert token.startswith("wb_")
    assert answer_to(token) == 200
    assert answer_to(token[:-1] + ("0" if token[-1] != "0" else "1")) == 401
    assert token not in str(AuthToken.objects.values().get())


def test_a_token_expires() -> None:
    User.objects.create_user("ann")
    token = create_api_token("ann", "--expires", "3")
    stored = AuthToken.objects.get()
    assert timedelta(days=2.9) < stored.expiry - timezone.now() <= timedelta(days=3)

    stored.expiry = timezone.now() - timedelta(seconds=1)
    stored.save()
    assert answer_to(token) == 401


def test_a_token_ends_when_it_is_deleted_or_its_user_is_no_longer_active() -> None:
    user = User.objects.create_user("ann")
    first, second = create_api_token("ann"), create_api_token("ann")
    AuthToken.objects.order_by("created")[0].delete()
    assert (answer_to(first), answer_to(second)) == (401, 200)

    User.objects.filter(pk=user.pk).update(is_active=False)
    assert answer_to(second) == 401


def test_as_json_it_says_whose_token_it_is_and_until_when() -> None:
    User.objects.create_user("ann")
    made = json.loads(create_api_token("ann", "--json"))

    assert made["username"] == "ann"
    assert answer_to(made["token"]) == 200
    assert made["expires_at"] == AuthToken.objects.get().expiry.isoformat()


def test_there_is_no_token_for_a_user_who_does_not_exist_or_is_not_active() -> None:
    User.objects.create_user("gone", is_active=False)
    with pytest.raises(CommandError, match="no user 'nobody'"):
        create_api_token("nobody")
    with pytest.raises(CommandError, match="not active"):
        create_api_token("gone")
    assert not AuthToken.objects.exists()


@pytest.mark.parametrize("days", ["0", "-1", "soon", "1.5", "99999999999"])
def test_a_token_is_good_for_a_number_of_days(days: str) -> None:
    User.objects.create_user("ann")
    with pytest.raises(CommandError, match="days"):
        create_api_token("ann", "--expires", days)
