from __future__ import annotations

import argparse
import json
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from knox.models import AuthToken
from knox.settings import knox_settings


class Command(BaseCommand):
    help = "Make a token with which a user's programs may use the API. It's shown once, and only its hash is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--expires",
            type=_days,
            metavar="DAYS",
            default=knox_settings.TOKEN_TTL,
            help=f"how long it is good for (default: {knox_settings.TOKEN_TTL.days})",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, username: str, expires: timedelta, **options: Any) -> None:
        user = get_user_model().objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username!r}. Make one under /admin/auth/user/, or check the name.")
        if not user.is_active:
            raise CommandError(f"User {username!r} is not active, so a token would not work. Activate the user first.")
        AuthToken.objects.filter(user=user, expiry__lt=timezone.now()).delete()
        stored, token = AuthToken.objects.create(user=user, expiry=expires)
        if options["json"]:
            made = {"username": username, "token": token, "expires_at": stored.expiry.isoformat()}
            self.stdout.write(json.dumps(made))
            return
        self.stdout.write(token)
        self.stderr.write(f"Good until {stored.expiry:%Y-%m-%d %H:%M} UTC. Keep it now: it can't be shown again.")


def _days(text: str) -> timedelta:
    if not text.isdecimal() or not 1 <= int(text) <= 3650:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 1 to 3650")
    return timedelta(days=int(text))
