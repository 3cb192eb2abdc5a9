"""The settings of this process as people may see them: value, where it comes from, what it does. Secrets never."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from pydantic import SecretStr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

    from app.core.settings import Settings

PREFIX = "BELLWIRE_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `source`: environment, default, or data folder (what `bellwire dev` keeps there)."""

    name: str
    value: str
    source: str
    meaning: str


def settings_shown(settings: Settings, environment: Mapping[str, str] = os.environ) -> list[Setting]:
    """Return all settings in the order in which they are documented."""
    return [
        Setting(
            name=PREFIX + name.upper(),
            value=_shown(getattr(settings, name), secret=is_secret(field)),
            source=_source(name, field, settings, environment),
            meaning=(field.description or "").replace("`", ""),
        )
        for name, field in type(settings).model_fields.items()
    ]


def is_secret(field: FieldInfo) -> bool:
    """Tell whether a setting holds a secret, alone or among others: its type says so."""
    return _holds_secrets(field.annotation)


def _holds_secrets(annotation: Any) -> bool:
    return annotation is SecretStr or any(_holds_secrets(part) for part in get_args(annotation))


def _shown(value: object, *, secret: bool) -> str:
    if secret:
        given = value.get_secret_value() if isinstance(value, SecretStr) else value
        return "set" if given else "not set"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value) or "none"
    return "none" if value in {None, ""} else str(value)


def _source(name: str, field: FieldInfo, settings: Settings, environment: Mapping[str, str]) -> str:
    if environment.get(PREFIX + name.upper()):
        return "environment"
    if getattr(settings, name) == field.get_default(call_default_factory=True, validated_data={}):
        return "default"
    # What stands in neither place is what the embedded services were made with.
    return "data folder"
