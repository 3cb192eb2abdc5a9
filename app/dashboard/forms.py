"""Forms: what was typed is checked by the API's own schemas, and each fault is shown at its field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.api.validation import field_errors
from app.core.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

ModelT = TypeVar("ModelT", bound=BaseModel)


def validated(schema: type[ModelT], given: Mapping[str, Any]) -> ModelT:
    """Return what was given as the API would take it.

    Raises:
        Invalid: a value cannot be used; `errors` says which.

    """
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        raise Invalid(
            "A field cannot be used as it is.", errors=field_errors(error.errors(), body=dict(given))
        ) from None


def faults_of(error: Invalid, *, otherwise: str) -> dict[str, str]:
    """Return what is wrong, by field; what belongs to none stands at the field `otherwise`."""
    return {fault.pointer.strip("/"): fault.detail for fault in error.errors} or {otherwise: error.detail}
