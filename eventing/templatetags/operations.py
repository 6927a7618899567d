"""What templates of operations pages ask for."""

from __future__ import annotations

from typing import Any

from django import template
from django.conf import settings
from django.template import Context
from django.urls import NoReverseMatch, reverse

from eventing import letters

register = template.Library()


@register.simple_tag(takes_context=True)
def allowed(context: Context, permission: str) -> bool:
    """Whether who looks at the page has a permission; an empty one everybody has."""
    user: Any = context["request"].user
    return not permission or bool(user.has_perm(permission))


@register.simple_tag(takes_context=True)
def error(context: Context, told: str) -> str:
    """An error as who looks at the page may read it."""
    user: Any = context["request"].user
    return letters.readable(told, with_personal_data=user.has_perm("eventing.view_personal_data"))


@register.filter
def badge(state: str) -> str:
    """The class of a state's badge: good, bad, waiting or plain. The badge says the state in words too."""
    return BADGES.get(state.lower(), "plain")


BADGES = {
    **dict.fromkeys(("completed", "confirmed", "delivered", "done", "running", "succeeded", "shipped"), "good"),
    **dict.fromkeys(("dead", "failed", "declined", "stopped", "missing"), "bad"),
    **dict.fromkeys(
        ("waiting", "paused", "compensating", "replaying", "building", "compared", "placed", "lost"), "waiting"
    ),
}


@register.simple_tag
def subject_url(key: Any) -> str:
    """The page of what an event is about, such as an order; empty where there's none."""
    try:
        return reverse(settings.EVENTING["SUBJECT"]["page"], args=[key]) if key else ""
    except NoReverseMatch:
        return ""


@register.filter
def subject(data: dict[str, Any]) -> Any:
    """The key of what an event is about, if its fields name it."""
    return data.get(settings.EVENTING["SUBJECT"]["field"], "")


@register.filter
def share(part: int, whole: int) -> int:
    """So many per cent."""
    return round(100 * part / whole) if whole else 0
