"""What the description of the API says of every operation, so that no view has to."""

from __future__ import annotations

from typing import Any

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


def describe(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Adds the answer 202 to whatever can be carried out later."""
    accepted = {
        "description": "It will be carried out: `Location` says where to see what becomes of it.",
        "headers": {"Location": {"schema": {"type": "string"}, "required": True}},
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Command"}}},
    }
    for path in result["paths"].values():
        for operation in path.values():
            if any(parameter.get("description") == LATER.description for parameter in operation.get("parameters", ())):
                operation["responses"].setdefault("202", accepted)
    return result


def _key(required: bool) -> OpenApiParameter:
    return OpenApiParameter(
        idempotency.HEADER,
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
        OpenApiParameter.HEADER,
        required=required,
        description=KEY,
    )
