"""What every configuration is made of: names that are known, numbers that are finite, fields with unit and help.

Torch-free. `symbol` in a field's extras is the paper's letter, `unit` its unit.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MAX_SEED = 2**63 - 1  # PyTorch's generators take no larger one


def _field(default: Any, help: str, *, symbol: str = "", unit: str = "", **bounds: Any) -> Any:
    return Field(default, description=help, json_schema_extra={"symbol": symbol, "unit": unit}, **bounds)


class Config(BaseModel):
    """Base of all configurations: unknown names are an error, numbers are finite, values never change once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
