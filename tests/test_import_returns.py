"""Credit invoices as returns, by command; `test_whole_sample` does it with workers and thousands of real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from eventing.handlers import dispatch
from eventing.models import StoredEvent
from eventing.testing import settle
from inventory.models import StockLevel
from orders.management.commands import import_returns
from orders.management.naming import order_of, return_of
from orders.management.online_retail import COLUMNS
from orders.models import OrderSummary, Return
from payments.models import GatewayEntry
from shipping.commands import DeliverShipment, DispatchShipment, shipment_of

pytestmark = pytest.mark.django_db

LINES = (
    "536365,85123A,HEART,6,2010-12-01 08:26:00,2.55,17850,United Kingdom",
    "536365,71053,LANTERN,2,2010-12-01 08:26:00,3.39,17850,United Kingdom",
    "536366,85123A,HEART,6,2010-12-01 08:28:00,2.55,17850,United Kingdom",
    "C536367,85123A,HEART,-8,2010-12-02 08:28:00,2.55,17850,United Kingdom",
    "C536367,D,Discount,-1,2010-12-02 08:28:00,27.50,17850,United Kingdom",
)
EARLIER, LATER = order_of("536365"), order_of("536366")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "retail.csv"
    path.write_text("".join(f"{line}\n" for line in (",".join(COLUMNS), *LINES)))
    return path


@pytest.fixture
def imported(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("import_orders", str(file))
    settle()
    capsys.readouterr()


@pytest.fixture
def delivered(imported: None) -> None:
    for order_id in (EARLIER, LATER):
        dispatch(DispatchShipment(shipment_id=shipment_of(order_id)))
        dispatch(DeliverShipment(shipment_id=shipment_of(order_id)))
    settle()


def take_back(file: Path, capsys: pytest.CaptureFixture[str], *options: str) -> Any:
    call_command("import_returns", str(file), "--json", *options)
    settle()
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("delivered")
def test_a_credit_invoice_is_a_return_in_each_order_that_it_is_about(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = take_back(file, capsys)

    assert (result["credits"], result["returns"], result["orders"], result["registered"]) == (1, 2, 2, 1)
    assert result["returned"] == {"lines": 1, "units": 8, "pence": 2040}
    assert result["unmatched_lines"] == [
        {"credit": "C536367", "sku": "D", "units": 1, "unit_price": "27.50", "reason": "no_goods"}
    ]
    returned = Return.objects.filter(return_id=return_of("C536367"))
    assert dict(returned.values_list("order_id", "units")) == {LATER: 6, EARLIER: 2}
    assert {each.reason for each in returned} == {"Credit invoice C536367"}
    assert {f"{each.returned_at:%Y-%m-%d %H:%M}" for each in returned} == {"2010-12-02 08:28"}
    assert StockLevel.objects.get(sku="85123A").on_hand == 8
    assert sorted(GatewayEntry.objects.filter(kind="refund").values_list("amount_minor", flat=True)) == [510, 1530]

    before = StoredEvent.objects.count()
    again = take_back(file, capsys)
    assert (again["registered"], again["already_there"], again["returned"]) == (0, 1, result["returned"])
    assert StoredEvent.objects.count() == before


@pytest.mark.usefixtures("imported")
def test_a_dry_run_tells_what_would_come_back_and_does_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = StoredEvent.objects.count()
    assert take_back(file, capsys, "--dry-run")["returns"] == 2
    call_command("import_returns", str(file), "--dry-run")
    assert "1 lines, 8 units, 20.40 GBP would come back in 2 returns of 2 orders" in capsys.readouterr().out
    assert StoredEvent.objects.count() == before


@pytest.mark.usefixtures("imported")
def test_a_return_that_is_refused_is_named_with_the_reason(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_returns, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(SystemExit, match="1"):
        call_command("import_returns", str(file), "--json")
    result = json.loads(capsys.readouterr().out)
    assert result["rejected"] == {
        "C536367": "Nothing can come back of an order that is confirmed, only of one that is shipped or delivered."
    }
    assert (result["returns"], result["registered"]) == (0, 0)
    assert result["unmatched"]["refused"] == {"lines": 1, "units": 8, "pence": 2040}
    assert not Return.objects.exists()


def test_without_the_orders_nothing_comes_back(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = take_back(file, capsys)
    assert result["returns"] == 0
    assert result["unmatched"]["not_imported"]["units"] == 8
    assert not OrderSummary.objects.exists()


def test_a_malformed_file_is_refused_before_anything_is_done(file: Path) -> None:
    file.write_text(file.read_text() + "C536368,85123A,HEART,none,2010-12-02 08:28:00,2.55,17850,United Kingdom\n")
    with pytest.raises(CommandError, match=r"line 7, column Quantity: 'none' is not valid.*Nothing was returned"):
        call_command("import_returns", str(file))
