"""The three roles, as groups: who looks, who acts, and who also sees personal data and looks after accounts.

What a role may is said here and nowhere else: each `migrate` gives the three groups exactly this, so that permissions
which came with a release are theirs at once. Whoever needs another mixture makes a group of another name.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission
from django.db import connections, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import F, Q, Value
from django.db.models.functions import Concat

VIEWER, OPERATOR, ADMINISTRATOR = ROLES = ("viewer", "operator", "administrator")

OPERATED = ("eventing", "orders", "payments", "inventory", "shipping")
PERSONAL = Q(codename="view_personal_data")
# What Django makes for each model: to view, add, change and delete it. All others are acts, declared with their model.
DEFAULT = Q(
    codename__in=[Concat(Value(f"{act}_"), F("content_type__model")) for act in ("view", "add", "change", "delete")]
)
VIEW = Q(codename=Concat(Value("view_"), F("content_type__model")))

LOOKS = Q(VIEW, content_type__app_label__in=OPERATED) | Q(VIEW, content_type__app_label="admin")  # and who did what
ACTS = Q(~DEFAULT & ~PERSONAL, content_type__app_label__in=OPERATED)
# What the API takes to place orders for others, and to list and receive stock.
BY_API = Q(codename__in=["add_ordersummary", "change_stocklevel"])
ACCOUNTS = Q(content_type__app_label="auth", content_type__model="user") | Q(VIEW, content_type__app_label="auth")
TOKENS = Q(content_type__app_label="knox")

MAY = {
    VIEWER: LOOKS,
    OPERATOR: LOOKS | ACTS | BY_API,
    ADMINISTRATOR: LOOKS | ACTS | BY_API | PERSONAL | ACCOUNTS | TOKENS,
}


def bring_up_to_date(*, using: str = "default", **_: Any) -> None:
    """Give each role what it may. Runs after each `migrate`, unless roles were migrated back."""
    if ("config", "0001_roles") not in MigrationRecorder(connections[using]).applied_migrations():
        return
    for label in (*OPERATED, "admin", "auth", "knox"):
        create_permissions(apps.get_app_config(label), verbosity=0, using=using)
    with transaction.atomic(using=using):
        for role in ROLES:
            group, _created = Group.objects.using(using).get_or_create(name=role)
            group.permissions.set(Permission.objects.using(using).filter(MAY[role]))
