"""What lists can be asked for, by query parameters."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError as InvalidValue
from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime
from django_filters import fields
from django_filters import rest_framework as filters
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from eventing.api import Paging, unknown


class Filters(filters.FilterSet):
    """The filters of a list. Its `limit` and `cursor` are the same for all."""


class OneOf(filters.BaseInFilter, filters.ChoiceFilter):
    """One of some choices, or several with commas between."""


class Named(filters.BaseInFilter, filters.CharFilter):
    """One name, or several with commas between."""


class Moment(filters.IsoDateTimeFilter):
    """A point in time, in whatever zone it's told."""

    class Field(fields.IsoDateTimeField):
        def to_python(self, value: Any) -> Any:
            moment = super().to_python(value)
            told = parse_datetime(value.strip()) if value else None
            if told is not None and told.tzinfo is None:
                raise InvalidValue(
                    "This time doesn't say in which zone: end it with Z, or with an offset such as -05:00.", "no_zone"
                )
            return moment

    field_class = Field


class Units(filters.NumberFilter):
    """How many, as a whole number. One of many digits never gets to the database, nor to Python's arithmetic."""

    field_class = forms.IntegerField  # type: ignore[assignment] # its types know the field that it has by itself

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, min_value=0, max_value=2**31 - 1, **options)


class ByFilters(filters.DjangoFilterBackend):
    """Filters a list by its view's ``filterset_class``, and refuses what it doesn't know or what is given twice: a
    misspelt filter would show everything."""

    def filter_queryset(  # type: ignore[override] # the types know Django's request alone
        self, request: Request, queryset: QuerySet[Any], view: APIView
    ) -> QuerySet[Any]:
        """The rows that are asked for. Raises ValidationError, which names the parameters."""
        filterset_class = getattr(view, "filterset_class", None)
        if filterset_class is None:
            return queryset
        known = {**filterset_class.base_filters, **Paging().fields}
        given = dict(request.query_params.lists())
        errors = {name: [unknown(known)] for name in sorted(given.keys() - known.keys())}
        errors |= {name: ["Give it once."] for name, values in given.items() if len(values) > 1}
        errors |= {name: ["Say for what."] for name, values in given.items() if not values[0].strip()}
        if errors:
            raise ValidationError(errors)
        paging = Paging(data={name: values[0] for name, values in given.items() if name in Paging().fields})
        paging.is_valid(raise_exception=True)
        filtered: QuerySet[Any] = super().filter_queryset(request, queryset, view)
        return filtered
