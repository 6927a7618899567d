from __future__ import annotations

from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User

from eventing.handlers import dispatch
from eventing.testing import settle
from shipping.commands import CreateShipment
from shipping.models import ShipmentSummary
from tests.builders import ORDER, SHIPMENT_ID
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db

SHIPMENTS = "/api/v1/shipments"
ONE = f"{SHIPMENTS}/{SHIPMENT_ID}"


@pytest.fixture
def clerk() -> ApiClient:
    """Somebody who looks after shipments."""
    user = User.objects.create_user("clerk")
    user.user_permissions.add(Permission.objects.get(codename="view_shipmentsummary"))
    client = ApiClient()
    client.force_authenticate(User.objects.get(pk=user.pk))
    return client


def test_a_shipment_is_shown_and_found(clerk: ApiClient) -> None:
    dispatch(CreateShipment(shipment_id=SHIPMENT_ID, order_id=ORDER))
    at_once = clerk.get(ONE).json()
    settle()

    shown = clerk.get(ONE)
    assert (at_once["status"], shown.json()["status"]) == ("requested", "created")
    assert clerk.get(ONE, headers={"If-None-Match": shown["ETag"]}).status_code == 304
    assert clerk.get(f"{ONE}?source=stream").json() == shown.json()
    assert clerk.get(f"{SHIPMENTS}/{uuid4()}").status_code == 404
    number = ShipmentSummary.objects.get().tracking_number
    for asked, count in (
        ({}, 1),
        ({"tracking_number": number}, 1),
        ({"order": str(ORDER), "status": "created,delivered"}, 1),
        ({"status": "delivered"}, 0),
        ({"requested_after": "2999-01-01T00:00:00Z"}, 0),
    ):
        assert len(clerk.get(SHIPMENTS, asked).json()["results"]) == count
    assert clerk.get(SHIPMENTS, {"carrier": "x"}).status_code == 400


def test_looking_takes_a_permission() -> None:
    ann = ApiClient()
    ann.force_authenticate(User.objects.create_user("ann"))
    assert {ann.get(path).status_code for path in (SHIPMENTS, ONE)} == {403}
