"""What an invite says of hub, provider and payments: below everything that is set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from fallow.errors import InvalidSetting


class OfInvite(PydanticBaseSettingsSource):
    """The source of settings that an invite is."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Say that no field has a value of its own: all come at once, below."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the invite's part of the settings; nothing without an invite. Raises InvalidSetting."""
        path = (self.current_state.get("join") or {}).get("invite_file")
        if not path:
            return {}
        try:
            invite = json.loads(Path(path).read_bytes())
            hub = invite["hub"]
            told = hub["payments"]
            return {
                "provider": invite["provider"],
                "hub_id": hub["hubId"],
                "payments": {_snake(name): value for name, value in told.items()},
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidSetting(
                f"--join.invite-file (FALLOW_JOIN__INVITE_FILE): {path} is no invite: {error!r}. Give the "
                "file that the hub's admin sent, unchanged."
            ) from error


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()
