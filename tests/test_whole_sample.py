"""The development sample of real orders, imported by command, fulfilled by real workers, exact to the penny."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import Any

import psycopg
import pytest

from config.stack import ROOT, Stack
from eventing.tests.conftest import hear_interrupts
from tests.conftest import StackStarter
from tests.waiting import eventually

DATA = ROOT.parent / "shared" / "data"
SAMPLE = DATA / "retail_sample_dev.csv.gz"
CLASSES = {
    "adjustment": None,
    "cancellation": "2_cancellation",
    "write_off": "3_stock_writeoff(neg qty, not C)",
    "zero_price": "4_zero_price",
    "special_code": "5_special_code",
}

pytestmark = [
    pytest.mark.skipif(not SAMPLE.exists(), reason=f"{SAMPLE.name} isn't beside the project, in shared/data"),
    pytest.mark.timeout(600),
]


def ask(stack: Stack, *command: str) -> Any:
    done = stack.manage(*command, "--json", quiet=True)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_the_development_sample_is_fulfilled_and_its_totals_are_the_published_ones(start_stack: StackStarter) -> None:
    stack = start_stack()
    facts = json.loads((DATA / "facts_dev.json").read_text())
    sold = facts["classes"]["6_product_sale"]

    imported = ask(stack, "import_orders", str(SAMPLE), "--wait")

    assert imported["states"] == {"confirmed": facts["N_invoices_with_a_product_sale_line"]}
    assert imported["placed"] == imported["orders"] == sold["invoices_touched"]
    assert (imported["lines"], imported["units"], imported["pence"]) == (sold["lines"], sold["units"], sold["pence"])
    for name, published in CLASSES.items():
        expected = facts["classes"][published] if published else dict.fromkeys(sold, 0)
        found = imported["set_aside"][name]
        assert {
            "lines": found["lines"],
            "units": found["units"],
            "pence": found["pence"],
            "invoices_touched": found["invoices"],
        } == expected

    would = ask(stack, "import_returns", str(SAMPLE), "--dry-run")
    before = interrupt_import_returns(stack)
    returned = ask(stack, "import_returns", str(SAMPLE))
    expect_the_published_credits(returned, facts)
    plan = ("credits", "asked", "found", "returned", "returns", "orders", "unmatched", "unmatched_lines")
    assert [would[name] for name in plan] == [returned[name] for name in plan]
    assert returned["rejected"] == {}
    assert returned["already_there"] == before
    assert returned["registered"] > 0

    findings = ask(stack, "reconcile", "--wait", "60", "--replay")
    assert [finding for finding in findings if finding["wrong"]] == []

    head = ask(stack, "eventing_status")["head"]
    again = ask(stack, "import_orders", str(SAMPLE), "--wait")
    assert (again["placed"], again["already_there"]) == (0, imported["orders"])
    assert again["states"]["delivered"] == returned["orders"]
    returned_again = ask(stack, "import_returns", str(SAMPLE))
    assert (returned_again["registered"], returned_again["delivered"]) == (0, 0)
    assert returned_again["already_there"] == returned["already_there"] + returned["registered"]
    assert [returned_again[name] for name in plan] == [returned[name] for name in plan]
    assert ask(stack, "eventing_status")["head"] == head


def interrupt_import_returns(stack: Stack) -> int:
    """Begin it, and press Ctrl-C in the middle. Returns how many returns there were by then."""
    with (
        psycopg.connect(stack.environ["DATABASE_URL"], autocommit=True) as connection,
        subprocess.Popen(
            [sys.executable, "manage.py", "import_returns", str(SAMPLE)],
            cwd=ROOT,
            env=stack.environ,
            preexec_fn=hear_interrupts,
        ) as command,
    ):

        def returns() -> int:
            query = (
                "SELECT count(DISTINCT data ->> 'return_id') FROM eventing_event WHERE type = 'orders.items_returned'"
            )
            row = connection.execute(query).fetchone()  # not of the read model, which may be behind
            return row[0] if row else 0

        assert eventually(lambda: returns() >= 20, seconds=120)
        command.send_signal(signal.SIGINT)
        assert command.wait(timeout=60) == 130
        return returns()


def expect_the_published_credits(returned: Any, facts: Any) -> None:
    credited, matching = facts["classes"]["2_cancellation"], facts["cancellation_matching"]
    assert returned["credits"] == credited["invoices_touched"]
    assert returned["asked"] == {
        "lines": credited["lines"],
        "units": -credited["units"],
        "pence": -credited["pence"],
    }
    assert returned["found"] == {
        "full": matching["full"],
        "partly": matching["partial"],
        "none": matching["none"],
        "units": matching["units_matched"],
        "pence": matching["pence_matched"],
        "credits_full": matching["C_invoices_fully_matched"],
        "credits_none": matching["C_invoices_nothing_matched"],
    }
    assert returned["unmatched"]["no_customer"]["lines"] == matching["no_customer_lines"]
    listed = returned["unmatched_lines"]
    assert returned["returned"]["units"] + sum(line["units"] for line in listed) == returned["asked"]["units"]
    special = [line for line in listed if not re.fullmatch("[0-9]{5}[A-Za-z]{0,2}", line["sku"])]
    assert len(special) == matching["special_code_lines"]
