"""What the description of the API says of every operation, so that no view has to."""

from __future__ import annotations

from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from eventing import freshness, idempotency

KEY = "Names this request, such as by a UUID: sent again with it, it's answered the same, and done once."
LATER = OpenApiParameter(
    "Prefer",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="`respond-async`: have it carried out later, and answer 202 with the `Location` of a command.",
)
WRITTEN = OpenApiParameter(
    freshness.HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    response=[200, 201, 207],
    description="A read that brings it along sees what was written here.",
)
TOKEN = OpenApiParameter(
    freshness.HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="From a write: wait until the read model has seen it, for two seconds, and fail with "
    "`projection-behind` after that.",
)
VERSION = OpenApiParameter(
    freshness.MIN_VERSION,
    OpenApiTypes.INT,
    OpenApiParameter.HEADER,
    description="Wait likewise, until this version is shown.",
)
PATIENCE = OpenApiParameter(
    "Prefer",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="`wait=N`: wait N seconds instead of two, up to 10.",
)
SEEN = [
    OpenApiParameter(
        freshness.POSITION,
        OpenApiTypes.INT,
        OpenApiParameter.HEADER,
        response=[200],
        description="How far in the log the read model is.",
    ),
    OpenApiParameter(
        freshness.LAG,
        OpenApiTypes.INT,
        OpenApiParameter.HEADER,
        response=[200],
        description="For how many milliseconds it hasn't seen what comes next.",
    ),
]


HEADERS = {
    "RateLimit-Policy": "How many requests, `q`, the account may make in so many seconds, `w`.",
    "RateLimit": "How many are left, `r`, and in how many seconds, `t`, counting begins anew.",
    "Retry-After": "After how many seconds it's worth asking again.",
    "Idempotent-Replayed": "`true` where the request was answered before, and this is that answer.",
    "Preference-Applied": "What was heeded of `Prefer`.",
}
EVERYWHERE = ("RateLimit-Policy", "RateLimit")


class Described(AutoSchema):
    """Adds the headers that writes and reads have in common."""

    def get_override_parameters(self) -> list[Any]:
        """The headers of this operation."""
        method: Any = getattr(self.view, self.method.lower(), None)
        parameters = list(super().get_override_parameters())
        if (required := getattr(method, "key_required", None)) is not None:
            parameters += [_key(required), WRITTEN, *([LATER] if method.can_be_later else [])]
        if self.method == "GET" and isinstance(self.view, freshness.FromReadModels):
            parameters += [TOKEN, PATIENCE, *SEEN, *([VERSION] if self.view.category else [])]
        return parameters


class Once(SchemaGenerator):
    """Describes everything once a process: it takes a good part of a second, and who asks needn't say who they are."""

    def get_schema(self, request: Any = None, public: bool = False) -> Any:
        return _described()


@cache
def _described() -> Any:
    generator: Any = SchemaGenerator
    return generator().get_schema(request=None, public=True)


def describe(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Adds the answer 202 to whatever can be carried out later, and the headers that answers have in common."""
    components = result["components"]
    components["headers"] = {
        name: {"schema": {"type": "string"}, "description": description} for name, description in HEADERS.items()
    }
    components["responses"]["Problem"]["headers"] = _headers(*EVERYWHERE, "Retry-After")
    for path in result["paths"].values():
        for operation in path.values():
            takes = {parameter["name"]: parameter.get("description") for parameter in operation.get("parameters", ())}
            if takes.get("Prefer") == LATER.description:
                operation["responses"].setdefault("202", _accepted())
            again = ("Idempotent-Replayed",) if idempotency.HEADER in takes else ()
            for answer in operation["responses"].values():
                if "$ref" not in answer:
                    answer["headers"] = {**_headers(*EVERYWHERE, *again), **answer.get("headers", {})}
    return result


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _accepted() -> dict[str, Any]:
    return {
        "description": "It will be carried out: `Location` says where to see what becomes of it.",
        "headers": {
            "Location": {"schema": {"type": "string"}, "required": True},
            **_headers("Retry-After", "Preference-Applied"),
        },
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Command"}}},
    }


def _key(required: bool) -> OpenApiParameter:
    return OpenApiParameter(
        idempotency.HEADER,
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
        OpenApiParameter.HEADER,
        required=required,
        description=KEY,
    )
