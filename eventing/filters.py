"""What lists can be asked for, by query parameters."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
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
        errors |= {name: ["Say for what."] for name, values in given.items() if values == [""]}
        if errors:
            raise ValidationError(errors)
        paging = Paging(data={name: values[0] for name, values in given.items() if name in Paging().fields})
        paging.is_valid(raise_exception=True)
        filtered: QuerySet[Any] = super().filter_queryset(request, queryset, view)
        return filtered
