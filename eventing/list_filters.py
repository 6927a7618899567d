"""Filters of the admin's lists, whose choices cost nothing however long the log is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, time
from typing import Any, cast

from django import forms
from django.contrib.admin import FieldListFilter, ModelAdmin, SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.timezone import make_aware
from unfold.widgets import INPUT_CLASSES


def known(column: str, values: Callable[[], Iterable[str]]) -> type[SimpleListFilter]:
    """Offers the values of a column that the program knows of: to look for them in a table takes as long as it is."""

    class Known(SimpleListFilter):
        title = parameter_name = column

        def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
            return [(value, value) for value in sorted(values())]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            return queryset.filter(**{column: self.value()}) if self.value() else queryset

    return Known


class Days(FieldListFilter):
    """From one day to another, both included. What is no day is shown with what is wrong with it, and filters nothing.

    The list has ``list_filter_submit``, which is the button.
    """

    template = "admin/days_filter.html"

    def expected_parameters(self) -> list[str | None]:
        return [f"{self.field_path}_from", f"{self.field_path}_to"]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """None: it has `form`."""
        yield from ()

    @cached_property
    def form(self) -> forms.Form:
        first, last = (f"{self.field_path}_{end}" for end in ("from", "to"))
        form = forms.Form({name: cast(list[str], given)[-1] for name, given in self.used_parameters.items()})
        form.fields = {first: _day("From"), last: _day("Up to and including")}
        return form

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        self.form.is_valid()
        first, last = (self.form.cleaned_data.get(name) for name in self.form.fields)
        if first:
            queryset = queryset.filter(**{f"{self.field_path}__gte": make_aware(datetime.combine(first, time.min))})
        if last:
            queryset = queryset.filter(**{f"{self.field_path}__lte": make_aware(datetime.combine(last, time.max))})
        return queryset


def _day(label: str) -> forms.DateField:
    # The browser's own calendar can be used by a keyboard and needs no script.
    widget = forms.DateInput(attrs={"type": "date", "class": " ".join(INPUT_CLASSES)}, format="%Y-%m-%d")
    return forms.DateField(label=label, required=False, widget=widget)
