"""What every configuration is made of: names that are known, numbers that are finite, fields with unit and help.

Torch-free. `symbol` in a field's extras is the paper's letter, `unit` its unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_SEED = 2**63 - 1  # PyTorch's generators take no larger one


def _field(default: Any, help: str, *, symbol: str = "", unit: str = "", **bounds: Any) -> Any:
    return Field(default, description=help, json_schema_extra={"symbol": symbol, "unit": unit}, **bounds)


class Config(BaseModel):
    """Base of all configurations: unknown names are an error, numbers are finite, values never change once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def refusal(error: ValidationError, known: Iterable[str] = ()) -> str:
    """What a Config refuses: each value with its cause and what is allowed; `known` are the fields that it has."""
    problems = []
    for details in error.errors():
        name, why = ".".join(map(str, details["loc"])), _why(details, known)
        problems.append(f"{name} = {details['input']!r}: {why}" if name else why)
    return f"{'; '.join(problems).removesuffix('.')}."


def _why(details: Mapping[str, Any], known: Iterable[str]) -> str:
    """pydantic's words about one value in the studio's own."""
    kind, bound = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        names = ", ".join(known)
        return f"there is no such value; use one of {names}" if names else "there is no such value; leave it out"
    for name, words in {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}.items():
        if name in bound:
            return f"it must be {words} {bound[name]}"
    kinds = {"int": "a whole number", "float": "a number", "finite": "a number", "bool": "true or false"}
    if (begin := kind.partition("_")[0]) in kinds:
        return f"it must be {kinds[begin]}"
    message = details["msg"].removeprefix("Value error, ")
    return f"it must be {message.removeprefix('Input should be ')}" if message.startswith("Input should") else message
