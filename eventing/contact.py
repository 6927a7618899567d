"""Who somebody is and how to reach them, as much as a parcel and a receipt need."""

from __future__ import annotations

import re

from eventing.domain import Rejected, Value
from eventing.text import check_text

LONGEST_NAME = 255
LONGEST_EMAIL = 254  # RFC 5321, 4.5.3.1.3, less the brackets
LONGEST_PHONE = 32
LONGEST_LINE = 255
LONGEST_POSTCODE = 16

EMAIL = r"[^@\s]+@[^@\s]+"
COUNTRY = r"[A-Z]{2}"


class Contact(Value):
    """A person and an address. ``country`` is ISO 3166's code of two letters; what isn't known is empty."""

    name: str
    email: str = ""
    phone: str = ""
    street: str = ""
    postcode: str = ""
    city: str = ""
    country: str = ""


def check_contact(contact: Contact) -> None:
    """Refuse what can't be kept, shown or reached. Raises Rejected."""
    check_text("The name", contact.name, LONGEST_NAME, blank=False)
    check_text("The e-mail address", contact.email, LONGEST_EMAIL)
    check_text("The phone number", contact.phone, LONGEST_PHONE)
    check_text("The street", contact.street, LONGEST_LINE)
    check_text("The postcode", contact.postcode, LONGEST_POSTCODE)
    check_text("The city", contact.city, LONGEST_LINE)
    if contact.email and not re.fullmatch(EMAIL, contact.email):
        raise Rejected(f"{contact.email!r} is not an e-mail address: it needs one @ with something on either side.")
    if contact.country and not re.fullmatch(COUNTRY, contact.country):
        raise Rejected(f"{contact.country!r} is not a country's code of two capital letters, such as GB.")
