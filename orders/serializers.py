"""Orders as clients write and read them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from eventing.api import (
    Code,
    Digits,
    EventSerializer,
    Identifier,
    Items,
    MoneySerializer,
    Source,
    Strict,
    Text,
    WholeNumber,
)
from eventing.contact import COUNTRY, EMAIL, Contact
from orders.commands import ReturnLine
from orders.models import OrderLine, OrderSummary

CUSTOMERS = UUID("6f1b0c2e-5d0c-4c0e-9b1e-7a3d1c8f2a94")
"""The namespace of the customers that are users of ours: a user's customer id is the UUID of its key in it."""

PLACE = "orders.add_ordersummary"
PERSONAL = "eventing.view_personal_data"

MOST_AT_ONCE, MOST_LINES_AT_ONCE = 500, 10_000
MOST_IN_BULK = 10_000


class LineSerializer(Strict):
    """So many units of one article, at its list price. With a `unit_price`, the one that the customer saw, the order is
    only placed if that's still the price."""

    sku = Code(max_length=64)
    description = Text(max_length=255, allow_blank=True, default="")
    quantity = WholeNumber(min_value=1, max_value=1_000_000)
    unit_price = MoneySerializer(required=False, help_text="What the customer saw.")


class ContactSerializer(Strict):
    """Who bought it, and where it goes. What isn't known is left out or empty."""

    name = Text(max_length=255)
    email = Code(max_length=254, required=False, allow_blank=True)
    phone = Code(max_length=32, required=False, allow_blank=True)
    street = Text(max_length=255, required=False, allow_blank=True)
    postcode = Code(max_length=16, required=False, allow_blank=True)
    city = Text(max_length=255, required=False, allow_blank=True)
    country = Code(max_length=2, required=False, allow_blank=True, help_text="Two letters of ISO 3166, such as `GB`.")

    def validate_email(self, email: str) -> str:
        if email and not re.fullmatch(EMAIL, email):
            raise ValidationError("This is not an e-mail address.")
        return email

    def validate_country(self, country: str) -> str:
        if country and not re.fullmatch(COUNTRY, country):
            raise ValidationError("A country is two capital letters, such as GB.")
        return country

    def to_internal_value(self, data: Any) -> Contact:
        return Contact(**super().to_internal_value(data))


class PlaceOrderSerializer(Strict):
    """With an `order_id` of its own a client can safely send the order again: it's placed once."""

    order_id = Identifier(required=False, help_text="Yours, or a new one of ours.")
    customer_id = Identifier(
        required=False,
        allow_null=True,
        help_text=f"Only for accounts with the permission {PLACE}, which place orders for others; null is a guest.",
    )
    reference = Text(max_length=255, allow_blank=True, default="", help_text="The order's name in your system.")
    payment_method = Code(max_length=255, default="tok_visa", help_text="The payment gateway's token.")
    contact = ContactSerializer(required=False, allow_null=True)
    lines = Items(child=LineSerializer(), min_length=1, max_length=5_000)


class PlaceOrdersSerializer(Strict):
    """Many orders. Each is placed or refused by itself."""

    orders = Items(child=PlaceOrderSerializer(), min_length=1, max_length=MOST_IN_BULK)


class Unread(serializers.Field[Any, Any, Any, Any]):
    """Whatever it is: an order that is read by itself, so that what is wrong with it is its own affair."""

    def to_internal_value(self, data: Any) -> Any:
        return data


class UnreadOrdersSerializer(Strict):
    """Many orders, none of them read yet."""

    orders = Items(child=Unread(), min_length=1, max_length=MOST_IN_BULK)


class BulkResultSerializer(serializers.Serializer[Any]):
    """What became of one order: 201 and where it is, or a problem whose pointers begin at the whole body."""

    index = serializers.IntegerField(help_text="Its place in `orders`, from 0.")
    status = serializers.IntegerField()
    order_id = serializers.UUIDField(required=False)
    location = serializers.CharField(required=False)
    problem = serializers.DictField(required=False)


class BulkResultsSerializer(serializers.Serializer[Any]):
    """What became of each order, in their order."""

    results = BulkResultSerializer(many=True)


class CancelOrderSerializer(Strict):
    """Why, for whoever looks at the order later."""

    reason = Text(max_length=1_000)


class ReturnLineSerializer(Strict):
    """So many units of one line of the order."""

    line = WholeNumber(min_value=1, max_value=5_000, help_text="The line's `number` in the order.")
    quantity = WholeNumber(min_value=1, max_value=1_000_000)

    def to_internal_value(self, data: Any) -> ReturnLine:
        asked = super().to_internal_value(data)
        return ReturnLine(number=asked["line"], quantity=asked["quantity"])


class ReturnItemsSerializer(Strict):
    """With a `return_id` of its own a client can safely send the return again: it's registered once."""

    return_id = Identifier(required=False, help_text="Yours, or a new one of ours.")
    lines = Items(child=ReturnLineSerializer(), min_length=1, max_length=5_000)
    reason = Text(max_length=1_000)


class ReturnedLineSerializer(serializers.Serializer[Any]):
    """Units of one line that came back."""

    line = serializers.IntegerField(source="number")
    sku = serializers.CharField()
    quantity = serializers.IntegerField()
    unit_price = MoneySerializer()


class ReturnSerializer(serializers.Serializer[Any]):
    """Goods of an order that came back together, and what is refunded for them."""

    order_id = serializers.UUIDField()
    return_id = serializers.UUIDField()
    lines = ReturnedLineSerializer(many=True)
    refund = MoneySerializer()
    reason = serializers.CharField()


class Moment(serializers.DateTimeField):
    """A point in time, whatever the zone it is told in."""

    default_error_messages = {
        "invalid": "This is not a time such as 2026-11-23T04:30:00Z. In an address a + is written as %2B.",
        "no_zone": "This time doesn't say in which zone: end it with Z, or with an offset such as -05:00.",
    }

    def enforce_timezone(self, value: datetime) -> datetime:
        if value.tzinfo is None:
            self.fail("no_zone")
        return super().enforce_timezone(value)


class AsOf(Strict):
    """The order as it was, or as its stream has it, instead of as the read model shows it."""

    version = Digits(
        required=False, min_value=1, max_value=2**31 - 1, help_text="As its first events made it, this many."
    )
    at = Moment(
        required=False,
        help_text="As it was known at this time. What was recorded later doesn't count, whenever it happened.",
    )

    source = Source()  # type: ignore[assignment] # fields aren't attributes

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        if len(asked) > 1:
            raise ValidationError({min(asked): ["Ask for a version, for a time or for the stream, for one of them."]})
        return asked


class OrderSummarySerializer(serializers.ModelSerializer[OrderSummary]):
    """An order without its lines."""

    total = serializers.SerializerMethodField()
    refunded = serializers.SerializerMethodField(help_text="What was paid for the units that came back.")
    contact = serializers.SerializerMethodField(
        help_text=f"Null where nobody is known, or for orders of others without the permission {PERSONAL}."
    )

    class Meta:
        model = OrderSummary
        fields = [
            "order_id",
            "reference",
            "customer_id",
            "contact",
            "buyer_forgotten_at",
            "status",
            "total",
            "line_count",
            "units",
            "returned_units",
            "refunded",
            "placed_at",
            "confirmed_at",
            "shipped_at",
            "delivered_at",
            "cancelled_at",
            "cancellation_reason",
            "version",
        ]
        read_only_fields = fields

    @extend_schema_field(MoneySerializer)
    def get_total(self, order: OrderSummary) -> dict[str, Any]:
        return {"amount": order.total_minor, "currency": order.currency}

    @extend_schema_field(MoneySerializer)
    def get_refunded(self, order: OrderSummary) -> dict[str, Any]:
        return {"amount": order.refunded_minor, "currency": order.currency}

    @extend_schema_field(ContactSerializer(allow_null=True))
    def get_contact(self, order: OrderSummary) -> dict[str, str] | None:
        contact = {name: getattr(order, f"contact_{name}") for name in Contact.__struct_fields__}
        sees = self.context.get("has_said_it") or sees_persons(self.context["request"], order)
        return contact if contact["name"] and sees else None


class OrderLineSerializer(serializers.ModelSerializer[OrderLine]):
    """A line as it was placed, numbered from 1, and how many of its units came back."""

    unit_price = serializers.SerializerMethodField()
    returned = serializers.IntegerField(read_only=True)

    class Meta:
        model = OrderLine
        fields = ["number", "sku", "description", "quantity", "unit_price", "returned"]
        read_only_fields = fields

    @extend_schema_field(MoneySerializer)
    def get_unit_price(self, line: OrderLine) -> dict[str, Any]:
        return {"amount": line.unit_price_minor, "currency": line.currency}


class OrderSerializer(OrderSummarySerializer):
    """An order with its lines."""

    lines = OrderLineSerializer(many=True, read_only=True)

    class Meta(OrderSummarySerializer.Meta):
        fields = [*OrderSummarySerializer.Meta.fields, "lines"]
        read_only_fields = fields


class OrderEventSerializer(EventSerializer):
    """Something that happened to an order. In orders of others what is personal takes the permission to see it."""


def customer_of(request: Request) -> UUID:
    """The customer that the request's user is, always the same."""
    return uuid5(CUSTOMERS, str(request.user.pk))


def sees_persons(request: Request, order: OrderSummary) -> bool:
    """Whether who asks may see what is personal in an order, such as in their own."""
    return order.customer_id == customer_of(request) or request.user.has_perm(PERSONAL)
