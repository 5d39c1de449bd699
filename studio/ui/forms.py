"""Forms made from a job's or a method's Config: one component a field, with its letter, unit, bounds and help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from studio.configs import Config

SLIDER_RANGE = 100  # a whole number with at most this many values, or a share, gets a slider


class FormError(ValueError):
    """A value that the Config refuses; worded for the page: field, value, what is allowed."""


@dataclass(frozen=True)
class Form:
    """The components of a Config's fields, in their order."""

    config: type[Config]
    fields: dict[str, Any]

    @property
    def components(self) -> list[Any]:
        return list(self.fields.values())

    def read(self, values: Sequence[Any], **others: Any) -> Config:
        """The Config of the components' values; `others` are fields that the form leaves out. Raises FormError."""
        given = {name: _typed(self.config, name, value) for name, value in zip(self.fields, values, strict=True)}
        try:
            return self.config.model_validate({**given, **others})
        except ValidationError as error:
            problems = [
                f"{label_of(self.config, str(e['loc'][0]))} is {e['input']!r}: {e['msg']}" for e in error.errors()
            ]
            raise FormError("; ".join(problems) + ".") from error

    def show(self, values: dict[str, Any]) -> list[Any]:
        """Updates of `components` that show these values; a field without one shows its default."""
        return [
            gr.update(value=_shown(values.get(name, self.config.model_fields[name].default))) for name in self.fields
        ]


def config_form(config: type[Config], names: Iterable[str] = (), values: dict[str, Any] | None = None) -> Form:
    """Build the components, in the current Gradio container, of the named fields (of all, where none is named)."""
    values = values or {}
    fields = {
        name: _component(config, name, values.get(name, config.model_fields[name].default))
        for name in (names or config.model_fields)
    }
    return Form(config, fields)


def label_of(config: type[Config], name: str) -> str:
    """ "Prior weight (λ)"."""
    symbol = _extra(config.model_fields[name])["symbol"]
    words = name.replace("_", " ").capitalize()
    return f"{words} ({symbol})" if symbol else words


def _component(config: type[Config], name: str, value: Any) -> Any:
    field = config.model_fields[name]
    unit = _extra(field)["unit"]
    common: dict[str, Any] = {
        "label": label_of(config, name) + (f", in {unit}" if unit else ""),
        "info": field.description,
        "value": _shown(value),
        "elem_id": f"duo-{config.__name__.removesuffix('Config').lower()}-{name.replace('_', '-')}",
    }
    if get_origin(field.annotation) is Literal:
        return gr.Dropdown(choices=list(get_args(field.annotation)), **common)
    if field.annotation is bool:
        return gr.Checkbox(**common)
    if field.annotation in (int, float):
        return _number(config, name, common)
    if get_origin(field.annotation) is list:
        return gr.Textbox(lines=3, **common)
    return gr.Textbox(**common)


def _number(config: type[Config], name: str, common: dict[str, Any]) -> Any:
    whole = config.model_fields[name].annotation is int
    schema = config.model_json_schema()["properties"][name]
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None and high is not None and (high == 1 or whole) and high - low <= SLIDER_RANGE:
        return gr.Slider(low, high, step=1 if whole else 0.01, **common)
    if whole:
        return gr.Number(precision=0, minimum=low, maximum=high, **common)
    return gr.Number(**common)  # a bound that may not be touched, as of a rate above 0, is checked on reading


def _typed(config: type[Config], name: str, value: Any) -> Any:
    """What a component gives, as the Config wants it: a text of lines is a list."""
    if get_origin(config.model_fields[name].annotation) is list:
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]
    return value


def _shown(value: Any) -> Any:
    return "\n".join(map(str, value)) if isinstance(value, list) else value


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return {"symbol": "", "unit": "", **(extra if isinstance(extra, dict) else {})}
