from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from config.stack import ROOT, Stack

SAMPLE = ROOT / "orders" / "management" / "sample" / "online_retail.csv.gz"
ADMINISTRATOR = "admin"


class Command(BaseCommand):
    help = "Runs all of Waybill on this machine until Ctrl-C: servers, web, workers, and the sample orders."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=8000, help="the web's port (default: %(default)s)")
        parser.add_argument("--no-import", action="store_true", help="start without importing the sample orders")

    def handle(self, *args: Any, **options: Any) -> None:
        stack = Stack(settings.STATE_DIR, host=options["host"], port=options["port"])
        stack.obey_signals()
        try:
            with stack:
                self.stdout.write(_welcome(stack))
                self.stdout.flush()  # seen at once through a pipe too
                if not options["no_import"]:
                    self._import_sample(stack)
                stack.watch()
        except (OSError, RuntimeError) as error:
            raise CommandError(str(error)) from error

    def _import_sample(self, stack: Stack) -> None:
        for command in (("import_orders", str(SAMPLE), "--wait"), ("import_returns", str(SAMPLE))):
            if stack.manage(*command).returncode:
                self.stderr.write(
                    f"The sample wasn't imported; everything else runs. Again: manage.py {' '.join(command)}"
                )
                return


def _welcome(stack: Stack) -> str:
    return f"\n  Waybill runs at {stack.address}\n  {_administrator(stack)}\n  Ctrl-C stops it.\n"


def _administrator(stack: Stack) -> str:
    """Create the administrator in a database that has none, and tell how to log in."""
    database = stack.environ["DATABASE_URL"]
    known = stack.state.read("admin_password") is not None
    password = stack.state.secret("admin_password")
    if stack.state.read("admin_database") != database:
        creation = stack.manage(
            *("createsuperuser", "--noinput", f"--username={ADMINISTRATOR}", f"--email={ADMINISTRATOR}@localhost"),
            environ={"DJANGO_SUPERUSER_PASSWORD": password},
            quiet=True,
        )
        # One that was there before has the remembered password, if there's one.
        if creation.returncode and not known:
            (stack.state.path / "admin_password").unlink()
            return f"No administrator was created. {creation.stderr.strip()}"
        stack.state.write("admin_database", database)
    return f"Log in at {stack.address}/admin/ as {ADMINISTRATOR}, with the password {password}"
