"""Forms made from configurations: a component a field, read back with the Config's own bounds."""

from __future__ import annotations

import gradio as gr
import pytest

from studio.configs import METHOD_CONFIGS, DuoConfig, EsdConfig, PairsConfig
from studio.ui.forms import Form, FormError, config_form, label_of


def build(config: type, *names: str, **values: object) -> Form:
    with gr.Blocks():
        return config_form(config, names, values)


@pytest.mark.parametrize("config", [*METHOD_CONFIGS.values(), PairsConfig])
def test_a_form_gives_back_what_it_shows(config: type) -> None:
    form = build(config)
    assert list(form.fields) == list(config.model_fields)
    assert form.read([component.value for component in form.components]) == config()
    assert all(component.info for component in form.components)


def test_a_label_has_the_papers_letter_and_the_unit() -> None:
    assert label_of(DuoConfig, "prior_weight") == "Prior weight (λ)"
    assert build(DuoConfig, "steps").fields["steps"].label == "Steps, in steps"


def test_a_value_that_is_not_allowed_is_named() -> None:
    form = build(DuoConfig, "learning_rate", "beta")
    with pytest.raises(FormError, match=r"Learning rate is 0: .*greater than 0.*Beta \(β\) is None"):
        form.read([0, None])
    assert form.read([1e-4, 20], steps=7) == DuoConfig(learning_rate=1e-4, beta=20, steps=7)


def test_lines_of_text_are_a_list() -> None:
    form = build(EsdConfig, "prompts", prompts=["a sword", "a blade"])
    assert form.fields["prompts"].value == "a sword\na blade"
    assert form.read(["a sword\n\n a katana "]) == EsdConfig(prompts=["a sword", "a katana"])


def test_a_form_shows_other_values() -> None:
    shown = build(DuoConfig, "steps", "beta").show({"beta": 25.0})
    assert [update["value"] for update in shown] == [DuoConfig().steps, 25.0]
