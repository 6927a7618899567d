"""What the carrier tells of its own accord."""

from __future__ import annotations

import time

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from eventing.handlers import dispatch
from eventing.models import InboxEntry
from eventing.testing import settle
from shipping.carrier import Scan
from shipping.carrier.simulated import tell, tracking_number_of
from shipping.commands import ClearShipment, CreateShipment
from shipping.models import Consignment, ShipmentSummary
from tests.builders import ORDER, SHIPMENT_ID
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db


@pytest.fixture
def number() -> str:
    """The tracking number of a parcel that is booked and may leave."""
    dispatch(CreateShipment(shipment_id=SHIPMENT_ID, order_id=ORDER))
    settle()
    dispatch(ClearShipment(shipment_id=SHIPMENT_ID))
    settle()
    return ShipmentSummary.objects.get().tracking_number


def status() -> str:
    return ShipmentSummary.objects.get().status


def test_a_parcel_is_followed_by_what_the_carrier_tells(number: str) -> None:
    seen = []
    for scan in ("picked_up", "delivered"):
        call_command("simulated_carrier", scan, number, verbosity=0)
        settle()
        seen.append(status())
    assert seen == ["dispatched", "delivered"]


def test_a_parcel_that_was_delivered_has_been_picked_up_whichever_is_told_first(number: str) -> None:
    assert tell(number, Scan.DELIVERED)
    assert tell(number, Scan.PICKED_UP)
    assert not tell(number, Scan.DELIVERED)
    settle()
    assert status() == "delivered"
    assert InboxEntry.objects.filter(state="done").count() == 2


def test_a_parcel_that_may_not_leave_yet_is_heard_of_again_later() -> None:
    dispatch(CreateShipment(shipment_id=SHIPMENT_ID, order_id=ORDER))
    settle()
    tell(ShipmentSummary.objects.get().tracking_number, Scan.PICKED_UP)
    from eventing import inbox

    assert inbox.work()
    assert (status(), InboxEntry.objects.get().state) == ("created", "waiting")
    dispatch(ClearShipment(shipment_id=SHIPMENT_ID))
    InboxEntry.objects.update(due_at=timezone.now())
    settle()
    assert status() == "dispatched"


def test_the_carrier_tells_late_and_twice_and_is_heard_once(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.monotonic()
    call_command("simulated_carrier", "delivered", number, after=0.2, times=2)
    assert time.monotonic() - begun >= 0.2
    assert capsys.readouterr().out.splitlines() == [
        "It has told; the workers hear of it in a moment.",
        "It had told that before.",
    ]
    settle()
    assert (status(), InboxEntry.objects.count()) == ("delivered", 1)
    with pytest.raises(CommandError, match="once or more"):
        call_command("simulated_carrier", "delivered", number, times=0)


def test_a_booking_without_an_answer_is_asked_for_again(settings: Settings) -> None:
    settings.SIMULATED_CARRIER_TIMEOUTS = 1
    dispatch(CreateShipment(shipment_id=SHIPMENT_ID, order_id=ORDER))
    settle()
    assert ShipmentSummary.objects.get().tracking_number == tracking_number_of(str(SHIPMENT_ID))
    assert Consignment.objects.get().asks == 2


def test_the_carrier_tells_only_of_parcels_that_it_has() -> None:
    with pytest.raises(CommandError, match="no consignment"):
        call_command("simulated_carrier", "delivered", "WB1")


def test_what_the_carrier_did_not_sign_is_refused(number: str) -> None:
    answer = ApiClient().post("/api/v1/shipments/webhooks/simulated", {"tracking_number": number, "scan": "delivered"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-signature")
