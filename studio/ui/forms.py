"""Forms made from a job's or a method's Config: one component a field, with its letter, unit, bounds and help.

Numbers without a slider are typed as text, so that 3e-4 stays 3e-4, and what is wrong with them is said beside the
form in the same words for each field.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from studio.config_base import Config

WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
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

    def read(self, values: Sequence[Any], /, **others: Any) -> Config:
        """The Config of the components' values; `others` are fields that the form leaves out. Raises FormError."""
        shown = dict(zip(self.fields, values, strict=True))
        given = {name: _typed(self.config, name, value) for name, value in shown.items()}
        try:
            return self.config.model_validate({**given, **others})
        except ValidationError as error:
            problems = dict.fromkeys(_problem(self.config, shown, details) for details in error.errors())
            raise FormError(" ".join(problems)) from error

    def show(self, values: dict[str, Any]) -> list[Any]:
        """Updates of `components` that show these values; a field without one shows its default."""
        return [gr.update(value=_shown(self.config, name, _value(self.config, name, values))) for name in self.fields]


def config_form(config: type[Config], names: Iterable[str] = (), values: dict[str, Any] | None = None) -> Form:
    """Build the components, in the current Gradio container, of the named fields (of all, where none is named)."""
    fields = {name: _component(config, name, _value(config, name, values or {})) for name in names or fields_of(config)}
    return Form(config, fields)


def fields_of(config: type[Config]) -> list[str]:
    return list(config.model_fields)


def label_of(config: type[Config], name: str) -> str:
    """ "Prior weight (λ)"."""
    symbol = _extra(config.model_fields[name])["symbol"]
    words = name.replace("_", " ").capitalize()
    return f"{words} ({symbol})" if symbol else words


def bounds_of(config: type[Config], name: str) -> str:
    """What a number may be, in words: "above 0, at most 1", "" where it may be anything."""
    schema = _schema(config)[name]
    words = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
    return ", ".join(f"{word} {number_text(schema[key])}" for key, word in words.items() if key in schema)


def number_text(value: float) -> str:
    """A number as people write it: 0.01, 3e-4, 500, 5e6; a whole number, such as a seed, with all of its digits."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-2 <= abs(value) < 1e6:
        return f"{value:.12g}"
    digits, _, power = f"{value:.12e}".partition("e")
    return f"{digits.rstrip('0').removesuffix('.')}e{int(power)}"


@functools.cache
def _schema(config: type[Config]) -> dict[str, Any]:
    """The bounds and defaults of a Config's fields; pydantic builds them anew each time it is asked."""
    return config.model_json_schema()["properties"]


def _component(config: type[Config], name: str, value: Any) -> Any:
    field = config.model_fields[name]
    unit, label = _extra(field)["unit"], label_of(config, name)
    common: dict[str, Any] = {
        "label": f"{label}, in {unit}" if unit and unit not in label.lower() else label,
        "info": field.description,
        "value": _shown(config, name, value),
        "elem_id": f"duo-{config.__name__.removesuffix('Config').lower()}-{name.replace('_', '-')}",
    }
    if get_origin(field.annotation) is Literal:
        return gr.Dropdown(choices=list(get_args(field.annotation)), **common)
    if field.annotation is bool:
        return gr.Checkbox(**common)
    if field.annotation in (int, float):
        return _number(config, name, common)
    if choices := _choices(field.annotation):
        return gr.CheckboxGroup(choices=choices, elem_classes="duo-list", **common)
    if get_origin(field.annotation) is list:
        return gr.Textbox(lines=3, max_lines=8, placeholder="One a line", **common)
    return gr.Textbox(**common)


def _choices(annotation: Any) -> list[str]:
    """What a list of named things may hold, [] where it is no such list."""
    inner = get_args(annotation)[:1] if get_origin(annotation) is list else ()
    return list(get_args(inner[0])) if inner and get_origin(inner[0]) is Literal else []


def _number(config: type[Config], name: str, common: dict[str, Any]) -> Any:
    span = _slider_span(config, name)
    if span is not None:
        return gr.Slider(*span, step=1 if config.model_fields[name].annotation is int else 0.01, **common)
    bounds = bounds_of(config, name)
    common["info"] = f"{common['info']} {bounds.capitalize()}." if bounds else common["info"]
    default = config.model_fields[name].default
    plain = gr.InputHTMLAttributes(autocomplete="off", spellcheck=False)
    return gr.Textbox(
        placeholder=number_text(default), max_lines=1, html_attributes=plain, elem_classes="duo-number", **common
    )


def _slider_span(config: type[Config], name: str) -> tuple[float, float] | None:
    """The ends of the slider that a number gets: a share in hundredths, or a whole number of few values; else None.

    A learning rate is a share too, but no hundredth.
    """
    whole = config.model_fields[name].annotation is int
    schema = _schema(config)[name]
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    if low is None or high is None or not (high == 1 or whole) or high - low > SLIDER_RANGE:
        return None
    hundredths = schema.get("default", 0) * 100
    return (low, high) if abs(hundredths - round(hundredths)) < 1e-9 else None


def _value(config: type[Config], name: str, values: dict[str, Any]) -> Any:
    return values.get(name, config.model_fields[name].get_default(call_default_factory=True))


def _typed(config: type[Config], name: str, value: Any) -> Any:
    """What a component gives, as the Config wants it: a text of lines is a list, a typed number a number.

    A text that is no number is left to the Config to refuse.
    """
    annotation = config.model_fields[name].annotation
    if _choices(annotation):
        return list(value or [])
    if get_origin(annotation) is list:
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]
    if annotation in (int, float) and isinstance(value, str):
        text = value.strip().replace(" ", "")
        if annotation is int and WHOLE.fullmatch(text):
            return int(text)  # a float has no more than 16 digits of a seed
        try:
            number = float(text)
        except ValueError:
            return value.strip()
        return int(number) if annotation is int and math.isfinite(number) and number.is_integer() else number
    return value


def _shown(config: type[Config], name: str, value: Any) -> Any:
    """A value as its component shows it."""
    annotation = config.model_fields[name].annotation
    if isinstance(value, list) and not _choices(annotation):
        return "\n".join(map(str, value))
    if annotation in (int, float) and isinstance(value, int | float) and _slider_span(config, name) is None:
        return number_text(value)
    return value


def _problem(config: type[Config], shown: dict[str, Any], details: Mapping[str, Any]) -> str:
    """One error of the Config in words: "Learning rate is 2; it must be above 0, at most 1."."""
    name = str(details["loc"][0]) if details["loc"] else ""
    if name not in config.model_fields:
        return f"{details['msg']}."
    label = label_of(config, name)
    value = shown.get(name, details["input"])
    is_empty = value is None or (isinstance(value, str) and not value.strip())
    given = f"{label} is empty" if is_empty else f"{label} is {value}"
    if config.model_fields[name].annotation in (int, float) and details["type"] != "value_error":
        kind = "a whole number" if config.model_fields[name].annotation is int else "a number"
        bounds = bounds_of(config, name)
        return f"{given}; it must be {kind}{f' {bounds}' if bounds else ''}."
    why = details["msg"].removeprefix("Value error, ")
    return f"{given}; {why[0].lower()}{why[1:]}."


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return {"symbol": "", "unit": "", **(extra if isinstance(extra, dict) else {})}
