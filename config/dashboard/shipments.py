"""A shipment's page: what we know of it, beside the carrier's own record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.shortcuts import get_object_or_404

from config.dashboard.payments import Comparison
from eventing.operations.page import Page
from shipping.models import Consignment, ShipmentSummary, Status


class ShipmentPage(Page):
    """One shipment."""

    permission_required = "shipping.view_shipmentsummary"
    template_name, fragment, refresh_seconds = "operations/shipment.html", "operations/_shipment.html", 5

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        shipment = get_object_or_404(ShipmentSummary, pk=kwargs["shipment_id"])
        consignment = Consignment.objects.filter(key=str(shipment.pk)).first()
        found = list(compare(shipment, consignment))
        return super().get_context_data(
            shipment=shipment,
            consignment=consignment,
            found=found,
            differing=[each.about for each in found if each.verdict == "differs"],
            **{**kwargs, "title": f"Shipment {shipment.tracking_number or shipment.pk}"},
        )


def compare(shipment: ShipmentSummary, consignment: Consignment | None) -> Iterator[Comparison]:
    """What we have written down about a shipment, beside the carrier's record of the same."""
    cancelled = shipment.status == Status.CANCELLED
    if cancelled and not consignment:
        return  # it was cancelled before it was booked
    awaited = shipment.status == Status.REQUESTED or (cancelled and not shipment.tracking_number)
    theirs = consignment.tracking_number if consignment else "nothing"
    yield Comparison("Tracking number", shipment.tracking_number or "nothing", theirs, awaited)
    if consignment:
        given_up = "given up" if consignment.voided_at else "booked"
        yield Comparison("Booking", "given up" if cancelled else "booked", given_up, awaited=cancelled or awaited)
