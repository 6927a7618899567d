"""What JSON is read as."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isinf
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser


class JSONParser(BaseParser):
    """Reads JSON as RFC 8259 has it: UTF-8, no NaN, and no name twice in an object."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """What the body says. Raises ParseError, which says where reading stopped."""
        try:
            return json.loads(
                stream.read().decode(), object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite
            )
        except UnicodeDecodeError as error:
            raise ParseError(f"The body is not UTF-8: byte {error.start + 1} can't be read.") from error
        except json.JSONDecodeError as error:
            raise ParseError(
                f"The body is not JSON: {error.msg} in line {error.lineno}, column {error.colno}."
            ) from error
        except ValueError as error:
            raise ParseError("The body has a number with too many digits.") from error
        except RecursionError as error:
            raise ParseError("The body is nested too deeply.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ParseError("The body has an object with the same name twice.")
    return names


def _finite(text: str) -> float:
    if isinf(number := float(text)):
        raise ParseError("The body has a number that is too large.")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ParseError(f"The body is not JSON: it has {name}.")
