"""Articles as clients write and read them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from eventing.api import Code, Digits, MoneySerializer, ReadFrom, Strict, Text, WholeNumber
from inventory.models import StockLevel

MOST_AT_ONCE = 1_000_000_000  # units


class StockItemSerializer(serializers.ModelSerializer[StockLevel]):
    """An article: units in the house, promised to orders, and free."""

    list_price = serializers.SerializerMethodField()
    available = serializers.SerializerMethodField()

    class Meta:
        model = StockLevel
        fields = ["sku", "description", "list_price", "on_hand", "reserved", "available", "version"]
        read_only_fields = fields

    @extend_schema_field(MoneySerializer)
    def get_list_price(self, item: StockLevel) -> dict[str, Any]:
        return {"amount": item.list_price_minor, "currency": item.currency}

    def get_available(self, item: StockLevel) -> int:
        return item.on_hand - item.reserved


class ListStockItemSerializer(Strict):
    """What an article is known under, and what one unit of it costs."""

    sku = Code(max_length=64, help_text="Without a slash, because it's part of addresses.")
    description = Text(max_length=255)
    list_price = MoneySerializer()

    def validate_sku(self, sku: str) -> str:
        if "/" in sku or sku in (".", ".."):
            raise ValidationError("An SKU is part of addresses, so it can't have a slash, nor be only dots.")
        return sku


class ListedSerializer(Strict):
    """What an article is known under from now on."""

    sku = serializers.CharField()
    description = serializers.CharField()
    list_price = MoneySerializer()
    version = serializers.IntegerField()


class ReceiveStockSerializer(Strict):
    """Units that came into the house."""

    quantity = WholeNumber(min_value=1, max_value=MOST_AT_ONCE)
    reference = Text(
        max_length=255,
        allow_blank=True,
        default="",
        help_text="The delivery's name: with one, it's received once, however often it's sent.",
    )


class SetPriceSerializer(Strict):
    """What one unit costs from now on. Orders that were placed keep the price that they were placed at."""

    list_price = MoneySerializer()


class AdjustStockSerializer(Strict):
    """Units that were found, or are missing."""

    change = WholeNumber(min_value=-MOST_AT_ONCE, max_value=MOST_AT_ONCE, help_text="Signed, and not 0.")
    reason = Text(max_length=1_000)
    reference = Text(
        max_length=255,
        allow_blank=True,
        default="",
        help_text="The count's name: with one, it changes the books once, however often it's sent.",
    )

    def validate_change(self, change: int) -> int:
        if change == 0:
            raise ValidationError("An adjustment adds units or takes some away: it isn't 0.")
        return change


class AdjustedSerializer(Strict):
    """What the adjustment changed: 0 when it was made before."""

    sku = serializers.CharField()
    change = serializers.IntegerField()
    reference = serializers.CharField()
    version = serializers.IntegerField()


class AvailabilitySerializer(Strict):
    """How many units nobody was promised yet. It may be others' in the next moment: only an order reserves them."""

    sku = serializers.CharField()
    available = serializers.IntegerField()
    enough = serializers.BooleanField(help_text="For the `quantity` that was asked for, 1 without.")


class AvailabilityQuery(ReadFrom):
    """Enough for how many."""

    quantity = Digits(required=False, min_value=1, max_value=MOST_AT_ONCE, default=1)


class ReceivedSerializer(Strict):
    """What came in with this request: 0 units when the delivery had been received before."""

    sku = serializers.CharField()
    received = serializers.IntegerField()
    reference = serializers.CharField()
    version = serializers.IntegerField()
