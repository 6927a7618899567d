"""The bank as a program: ``python -m eventing.tests.bank FUNCTION …`` calls a function of `programs`."""

from __future__ import annotations

import sys
from importlib import import_module

import django
from django.db import connection

if __name__ == "__main__":
    django.setup()
    function, *arguments = sys.argv[1:]
    getattr(import_module("eventing.tests.bank.programs"), function)(*arguments)
    connection.close()
