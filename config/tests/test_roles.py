from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client

from config import roles

pytestmark = pytest.mark.django_db

ACTS = {
    "eventing.resume_sagainstance",
    "inventory.change_stocklevel",
    "orders.add_ordersummary",
    "orders.cancel_order",
    "orders.return_items",
    "shipping.dispatch_shipment",
}
LOOKS = {
    "eventing.view_storedevent",
    "eventing.view_delivery",
    "orders.view_ordersummary",
    "payments.view_gatewayentry",
}


def may(role: str) -> set[str]:
    user = User.objects.create_user(f"a {role}", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user.get_all_permissions()


def may_names(role: str) -> set[str]:
    return set(Group.objects.get(name=role).permissions.values_list("codename", flat=True))


def test_a_viewer_sees_everything_but_personal_data_and_does_nothing() -> None:
    assert may("viewer") > LOOKS
    assert {name for name in may_names("viewer") if not name.startswith("view_")} == set()
    assert "view_personal_data" not in may_names("viewer")


def test_an_operator_does_what_there_is_to_do_and_changes_no_row() -> None:
    assert may("operator") > LOOKS | ACTS
    written = {"add", "change", "delete"}
    rows = {name for name in may_names("operator") if name.partition("_")[0] in written}
    assert rows == {"add_ordersummary", "change_stocklevel"}, "the API's, for orders and stock"
    assert "view_personal_data" not in may_names("operator")


def test_an_administrator_looks_after_accounts_too() -> None:
    extra = may("administrator") - may("operator")
    assert {"auth.add_user", "auth.change_user", "auth.view_group", "knox.delete_authtoken"} <= extra
    assert {name for name in extra if not name.startswith(("auth.", "knox."))} <= {"eventing.view_personal_data"}


def test_every_migrate_gives_the_roles_exactly_what_they_may() -> None:
    operator, before = Group.objects.get(name="operator"), may_names("operator")
    operator.permissions.set(Permission.objects.filter(codename="delete_storedevent"))
    Group.objects.get(name="viewer").delete()

    roles.bring_up_to_date()
    assert may_names("operator") == before
    assert "view_storedevent" in may_names("viewer")


def test_a_permission_that_a_release_brings_is_the_roles_at_once() -> None:
    Permission.objects.filter(codename="resume_sagainstance").delete()

    roles.bring_up_to_date()
    assert "resume_sagainstance" in may_names("operator")


def test_roles_that_are_migrated_back_stay_away() -> None:
    call_command("migrate", "config", "zero", verbosity=0)
    assert not Group.objects.filter(name__in=roles.ROLES).exists()


def test_an_administrator_can_not_become_a_superuser_or_touch_one() -> None:
    boss = User.objects.create_superuser("boss")
    administrator = User.objects.create_user("adam", is_staff=True)
    administrator.groups.add(Group.objects.get(name="administrator"))
    client = Client()
    client.force_login(administrator)
    page = f"/admin/auth/user/{administrator.pk}/change/"

    assert 'name="is_superuser"' not in client.get(page).content.decode()
    client.post(page, {"username": "adam", "is_active": "on", "is_staff": "on", "is_superuser": "on"})
    administrator.refresh_from_db()
    assert not administrator.is_superuser
    assert client.post(f"/admin/auth/user/{boss.pk}/change/", {"username": "mine"}).status_code == 403
    assert client.post(f"/admin/auth/user/{boss.pk}/password/", {}).status_code == 403
    assert client.post(f"/admin/auth/user/{boss.pk}/delete/", {"post": "yes"}).status_code == 403
