"""Who takes the money and who carries the parcels is chosen by settings, and a wrong choice is told at the start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from config.stack import ROOT

WHICH = "from payments.gateway import gateway; print(gateway().name)"


def shell(which: str = WHICH, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", which],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_gateway_is_chosen_by_a_setting() -> None:
    stripe = {
        "PAYMENT_GATEWAY": "stripe",
        "STRIPE_API_KEY": "sk_test_made_up",
        "STRIPE_WEBHOOK_SECRET": "whsec_a,whsec_b",
    }
    assert shell().stdout == "simulated\n"
    assert shell(**stripe).stdout == "stripe\n"


def test_secrets_may_have_blanks_around_them() -> None:
    which = "from django.conf import settings; print(settings.STRIPE_WEBHOOK_SECRET)"
    assert shell(which, STRIPE_WEBHOOK_SECRET=" whsec_a , whsec_b,").stdout == "['whsec_a', 'whsec_b']\n"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"PAYMENT_GATEWAY": "paypal"}, "PAYMENT_GATEWAY is 'paypal'; it has to be simulated or stripe."),
        ({"PAYMENT_GATEWAY": "stripe"}, "which takes STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET"),
        ({"CARRIER": "pigeon"}, "CARRIER is 'pigeon'"),
    ],
)
def test_a_wrong_choice_is_told_at_the_start(settings: dict[str, str], complaint: str) -> None:
    told = shell(**settings)
    assert told.returncode != 0
    assert complaint in told.stderr
