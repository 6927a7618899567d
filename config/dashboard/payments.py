"""A payment's page: what we know of it, beside what the gateway's own ledger says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.db.models import Q
from django.shortcuts import get_object_or_404

from eventing.money import Money
from eventing.operations.page import Page
from payments.models import GatewayEntry, PaymentSummary, Refund, Status


class Comparison(NamedTuple):
    """What both sides say about one thing. Until an outcome is known they may differ for a moment: ``awaited``."""

    about: str
    ours: str
    theirs: str
    awaited: bool = False

    @property
    def verdict(self) -> str:
        """In a word, which is also what it looks like: agrees, differs, or awaited."""
        if self.ours == self.theirs:
            return "agrees"
        return "awaited" if self.awaited else "differs"

    @property
    def look(self) -> str:
        """The badge's."""
        return {"agrees": "good", "differs": "bad", "awaited": "waiting"}[self.verdict]


class PaymentPage(Page):
    """One payment."""

    permission_required = "payments.view_paymentsummary"
    template_name, fragment, refresh_seconds = "operations/payment.html", "operations/_payment.html", 5

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        payment = get_object_or_404(PaymentSummary, pk=kwargs["payment_id"])
        refunds = list(Refund.objects.filter(payment_id=payment.pk).order_by("refunded_at", "id"))
        keyed = Q(key=str(payment.pk)) | Q(key=f"{payment.pk}-refund")
        named = Q(charge=payment.charge_reference) if payment.charge_reference else Q()
        entries = list(GatewayEntry.objects.filter(keyed | named).order_by("created_at", "key"))
        found = list(compare(payment, refunds, entries))
        return super().get_context_data(
            payment=payment,
            amount=Money(minor=payment.amount_minor, currency=payment.currency),
            refunded=Money(minor=payment.refunded_minor, currency=payment.currency),
            refunds=[(each, Money(minor=each.amount_minor, currency=each.currency)) for each in refunds],
            entries=[(each, Money(minor=each.amount_minor, currency=each.currency)) for each in entries],
            found=found,
            differing=[each.about for each in found if each.verdict == "differs"],
            **{**kwargs, "title": f"Payment {payment.pk}"},
        )


def compare(
    payment: PaymentSummary, refunds: Iterable[Refund], entries: Iterable[GatewayEntry]
) -> Iterator[Comparison]:
    """What we have written down about a payment, beside the gateway's record of the same."""
    currency = payment.currency
    charges = {each.kind: each for each in entries if each.kind == GatewayEntry.Kind.CHARGE}
    charge = charges.get(GatewayEntry.Kind.CHARGE)
    if not payment.amount_minor and charge is None:
        return  # nothing to pay: the gateway isn't asked
    asked = payment.status == Status.REQUESTED
    given = {each.reference: each for each in entries if each.kind == GatewayEntry.Kind.REFUND}
    yield Comparison("Charge", _charged(payment), charge.outcome if charge else "nothing", asked)
    if charge is not None:
        amount, theirs = Money(minor=payment.amount_minor, currency=currency), charge.amount_minor
        yield Comparison("Amount", str(amount), str(Money(minor=theirs, currency=charge.currency)))
        if payment.charge_reference or charge.reference:
            yield Comparison("Reference", payment.charge_reference, charge.reference, asked)
        if payment.decline_code or charge.code:
            yield Comparison("Decline", payment.decline_code, charge.code, asked)
    known = {each.reference: each for each in refunds if each.reference}
    for reference in sorted(known.keys() | given.keys()):
        ours, theirs_too = known.get(reference), given.get(reference)
        yield Comparison(
            f"Refund {reference}",
            str(Money(minor=ours.amount_minor, currency=ours.currency)) if ours else "nothing",
            str(Money(minor=theirs_too.amount_minor, currency=theirs_too.currency)) if theirs_too else "nothing",
            awaited=ours is None and payment.refunding_minor > 0,
        )


def _charged(payment: PaymentSummary) -> str:
    """Our state of the charge in the gateway's words."""
    match payment.status:
        case Status.REQUESTED:
            return "nothing"
        case Status.FAILED:
            return str(GatewayEntry.Outcome.DECLINED)
        case _:
            return str(GatewayEntry.Outcome.SUCCEEDED)
