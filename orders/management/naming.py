"""What imported things are called: the same invoice is the same order or return, whichever file it comes from."""

from __future__ import annotations

from uuid import UUID, uuid5

NAMESPACE = UUID("8d6f3c0e-6f0b-5b43-9e2c-0d1f5a4b7c21")


def order_of(invoice: str) -> UUID:
    """The order that an invoice becomes."""
    return uuid5(NAMESPACE, f"invoice {invoice}")


def return_of(credit: str) -> UUID:
    """The return that a credit invoice becomes, in each order that it's about."""
    return uuid5(NAMESPACE, f"credit {credit}")


def customer_of(number: str) -> UUID:
    """The customer of a number."""
    return uuid5(NAMESPACE, f"customer {number}")
