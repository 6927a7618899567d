from __future__ import annotations

from collections.abc import Iterator

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from unfold.decorators import display

from eventing.admin import ReadOnlyAdmin
from eventing.contact import Contact
from eventing.list_filters import Days
from eventing.money import Money
from orders.models import CustomerOrder, OrderLine, OrderSummary, Return, Status

PERSONAL = "eventing.view_personal_data"
LOOKS = {Status.PLACED: "warning", Status.CANCELLED: "danger"} | dict.fromkeys(
    (Status.CONFIRMED, Status.SHIPPED, Status.DELIVERED), "success"
)


@admin.register(OrderSummary)
class OrderSummaryAdmin(ReadOnlyAdmin):
    list_display = ("name", "shown_status", "total", "line_count", "units", "returned_units", "placed_at")
    list_filter = ("status", ("placed_at", Days))
    list_filter_submit = True
    list_per_page = 50
    ordering = ("-placed_at", "order_id")
    search_fields = ("=order_id", "=customer_id", "=reference")
    search_help_text = "Id, reference, customer, e-mail or SKU, each in full"
    exclude = [f"contact_{name}" for name in Contact.__struct_fields__]  # the order's own page knows to whom to show it
    page = "dashboard:order"

    def searches(self, request: HttpRequest, term: str) -> Iterator[Q]:
        yield from super().searches(request, term)
        yield Q(pk__in=OrderLine.objects.filter(sku=term).values("order_id"))
        if "@" in term and _sees_persons(request):
            yield Q(contact_email__iexact=term) & ~Q(contact_email="")

    @display(description="Order", ordering="reference")
    def name(self, order: OrderSummary) -> str:
        return order.reference or str(order.order_id)

    @display(description="Status", ordering="status", label=LOOKS)
    def shown_status(self, order: OrderSummary) -> str:
        return order.status

    @display(description="Total")
    def total(self, order: OrderSummary) -> str:
        return str(Money(minor=order.total_minor, currency=order.currency))


@admin.register(CustomerOrder)
class CustomerOrderAdmin(ReadOnlyAdmin):
    list_display = ("customer_id", "reference", "status", "total_minor", "currency", "placed_at")
    list_filter = ("status",)
    search_fields = ("=customer_id", "=order_id")
    page = "dashboard:order"


@admin.register(Return)
class ReturnAdmin(ReadOnlyAdmin):
    list_display = ("order_id", "return_id", "reason", "line_count", "units", "refund_minor", "currency", "returned_at")
    search_fields = ("=order_id", "=return_id", "reason")


def _sees_persons(request: HttpRequest) -> bool:
    return bool(request.user.has_perm(PERSONAL))
