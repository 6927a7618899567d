"""What the APIs of all contexts share: strict input, money, and commands on behalf of a request."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, cast
from uuid import UUID

import msgspec
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import context, freshness, handlers, personal
from eventing.domain import Command
from eventing.headers import etag, is_known, traceparent, wanted_versions
from eventing.money import Money, exponent
from eventing.records import Record, Stream
from eventing.store import Pending

ETAG = OpenApiParameter(
    "ETag", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[200, 201], description="The version, in quotes."
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Do it only at this version, an `ETag`; otherwise answer `precondition-failed`.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", OpenApiTypes.STR, OpenApiParameter.HEADER, description="Answer 304 if it's still this version."
)
LOCATION = OpenApiParameter("Location", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[201])

LARGEST_AMOUNT = 2**53 - 1  # the largest whole number that every reader of JSON keeps exact
MOST_UNKNOWN = 20  # fields of one object that are told to be unknown
MOST_BAD_ITEMS = 100  # of one list, after which nobody reads on

# Control characters and lines' ends, halves of a character, and marks that make text read in another order than it has.
_UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")

# What Python takes for printable though nothing is printed: letters and marks that are Default_Ignorable_Code_Point in
# https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt, and Braille's blank.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def carry_out(command: Command, request: Request, on: Stream | None = None) -> list[Pending]:
    """Dispatch a command on behalf of the request's user; ``on`` is the stream whose version the request may demand by
    `If-Match`. Raises what `handlers.dispatch` raises."""
    return carry_out_all([command], request, on)


def carry_out_all(commands: Sequence[Command], request: Request, on: Stream | None = None) -> list[Pending]:
    """Dispatch commands likewise: all of them, or none."""
    wanted = wanted_versions(request) if on else None
    with context.acting(actor=request.user.get_username(), traceparent=traceparent(request)):
        recorded = handlers.dispatch_all(commands, expected={on: wanted} if on and wanted is not None else {})
    freshness.note(recorded)
    return recorded


class Takes(BasePermission):
    """Asks for the permission that the view's ``takes`` names: to look, and to do something."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        look, act = cast(Any, view).takes
        needed = look if request.method in ("GET", "HEAD", "OPTIONS") else act
        self.message = f"This takes the permission {needed}."
        return not needed or request.user.has_perm(needed)  # where none is named, the method isn't offered


class Strict(serializers.Serializer[Any]):
    """Refuses what it doesn't know, so that a misspelt field is an error and not a field left out."""

    default_error_messages = {"invalid": "This has to be a JSON object."}

    def to_internal_value(self, data: Any) -> Any:
        others = (name for name in data if name not in self.fields) if isinstance(data, Mapping) else ()
        errors: dict[str, Any] = {
            _as_pointer(name): [unknown(self.fields)] for name in sorted(islice(others, MOST_UNKNOWN))
        }
        try:
            value = super().to_internal_value(data)
        except ValidationError as invalid:
            raise ValidationError({**cast(dict[str, Any], invalid.detail), **errors}) from None
        if errors:
            raise ValidationError(errors)
        return value


class Text(serializers.CharField):
    """One line of text, kept as it is."""

    default_error_messages = {"unreadable": "This has characters that can't be shown, such as control characters."}

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if not self.allow_blank and not data.strip():
            self.fail("blank")
        if _UNREADABLE.search(data):
            self.fail("unreadable")
        return data


class Code(Text):
    """Text that names something: what looks the same is the same, so nothing in it is invisible, and an accent isn't
    written in two ways."""

    default_error_messages = {
        "invisible": "This has invisible characters, or spaces before or after it.",
        "composition": "This isn't in Unicode's normalisation form C, in which an accented letter is one character.",
    }

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not text.isprintable() or _INVISIBLE.search(text) or text != text.strip():
            self.fail("invisible")
        if not unicodedata.is_normalized("NFC", text):
            self.fail("composition")
        return text


class WholeNumber(serializers.IntegerField):
    """A JSON number without a fraction: not a text, not 1.0, not true."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class Digits(serializers.IntegerField):
    """A whole number in an address: digits, and nothing else."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, str) or not re.fullmatch("[0-9]{1,18}", data):
            self.fail("invalid")
        return int(data)


class Choice(serializers.BooleanField):
    """True or false, as JSON has them: not 1, not a text."""

    def to_internal_value(self, data: Any) -> bool:
        if type(data) is not bool:
            self.fail("invalid", input=data)
        return data


class Items(serializers.ListField):
    """A list that is given up early: before anything in it is read when it's too long, and where too much of it is
    wrong."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        items: list[Any] = super().to_internal_value(data)
        return items

    def run_child_validation(self, data: Iterable[Any]) -> list[Any]:
        items, errors = [], dict[Any, Any]()
        for number, item in enumerate(data):
            try:
                items.append(self.child.run_validation(item))
            except ValidationError as invalid:
                errors[number] = invalid.detail
                if len(errors) == MOST_BAD_ITEMS:
                    break
        if errors:
            raise ValidationError(errors)
        return items


class Identifier(serializers.UUIDField):
    """A UUID as RFC 9562 writes it, with hyphens."""

    def to_internal_value(self, data: Any) -> UUID:
        if not isinstance(data, str) or not _UUID.fullmatch(data):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class Source(serializers.ChoiceField):
    """Asks for what a stream says now, which is never behind, instead of what the read model shows."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            ["stream"],
            required=False,
            help_text="As the events say now, instead of as the read model shows it.",
            **options,
        )


class ReadFrom(Strict):
    """Where something is read from."""

    source = Source()  # type: ignore[assignment] # fields aren't attributes


class MoneySerializer(Strict):
    """An amount in the currency's **minor unit**, always a whole number: `{"amount": 1999, "currency": "GBP"}` is
    19.99 pounds, and `{"amount": 1999, "currency": "JPY"}` is 1999 yen."""

    amount = WholeNumber(min_value=0, max_value=LARGEST_AMOUNT, help_text="Minor units: pence, cents, yen.")
    currency = Code(help_text="Three letters of ISO 4217.")

    def validate_currency(self, currency: str) -> str:
        try:
            exponent(currency)
        except ValueError:
            raise ValidationError("This is not a currency that ISO 4217 gives a minor unit.") from None
        return currency

    def to_internal_value(self, data: Any) -> Money:
        value = super().to_internal_value(data)
        return Money(minor=value["amount"], currency=value["currency"])

    def to_representation(self, instance: Money) -> dict[str, Any]:
        return {"amount": instance.minor, "currency": instance.currency}


class EventSerializer(serializers.Serializer[Any]):
    """Something that happened."""

    version = serializers.IntegerField(help_text="Its place among the events of its stream, from 1.")
    type = serializers.CharField(source="event.stored_name", help_text="Such as `orders.order_placed`.")
    occurred_at = serializers.DateTimeField(help_text="When it happened.")
    recorded_at = serializers.DateTimeField(help_text="When we learnt of it.")
    actor = serializers.CharField(help_text="The account or the program on whose behalf it was done.")
    position = serializers.SerializerMethodField(help_text="Its place in the log; null for a moment.")
    data = serializers.SerializerMethodField(  # type: ignore[assignment] # fields aren't attributes
        help_text="The event's fields. Money is `minor` units of a `currency`. What is personal is "
        f"`{personal.HIDDEN}` for those who may not see it."
    )

    def get_position(self, record: Record) -> int | None:
        return record.position or None

    def get_data(self, record: Record) -> dict[str, Any]:
        told = msgspec.to_builtins if self.context["sees_persons"] else personal.hidden
        fields: dict[str, Any] = told(record.event)
        return fields


class Paging(Strict):
    """What every list can be asked for."""

    limit = Digits(required=False, min_value=1, max_value=200, help_text="Entries a page.")
    cursor = Text(required=False, max_length=500, help_text="From the link to the `next` or `previous` page.")


def not_modified(request: Request, version: int) -> Response | None:
    """The answer to who has this version already; None for who hasn't."""
    return Response(status=304, headers={"ETag": etag(version)}) if is_known(request, version) else None


def query(request: Request, allowed: type[Strict]) -> dict[str, Any]:
    """The query parameters of a request. Raises ValidationError, which names the unknown and the repeated too."""
    repeated = {name: ["Give it once."] for name, values in request.query_params.lists() if len(values) > 1}
    if repeated:
        raise ValidationError(repeated)
    asked = allowed(data=request.query_params.dict())
    asked.is_valid(raise_exception=True)
    answer: dict[str, Any] = asked.validated_data
    return answer


def unknown(fields: Mapping[str, Any]) -> str:
    """What is said of a name that isn't among these."""
    return f"This isn't known here; known are: {', '.join(fields)}."


def _as_pointer(name: str) -> str:
    """A field's name as a step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")[:100]
