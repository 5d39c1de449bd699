"""Forms made from configurations: a component a field, read back with the Config's own bounds."""

from __future__ import annotations

import gradio as gr
import pytest

from studio.configs import PairsConfig
from studio.method_configs import METHOD_CONFIGS, EsdConfig
from studio.training_configs import DuoConfig
from studio.ui.forms import Form, FormError, config_form, label_of, number_text


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
    assert build(DuoConfig, "steps").fields["steps"].label == "Steps"
    assert build(DuoConfig, "batch_size").fields["batch_size"].label == "Batch size, in pairs"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("learning_rate", "0", "Learning rate is 0; it must be a number above 0, at most 1."),
        ("learning_rate", "fast", "Learning rate is fast; it must be a number above 0, at most 1."),
        ("beta", " ", "Beta (β) is empty; it must be a number above 0."),
        ("beta", "nan", "Beta (β) is nan; it must be a number above 0."),
        ("steps", "2.5", "Steps is 2.5; it must be a whole number at least 1, at most 100000."),
        ("steps", None, "Steps is empty; it must be a whole number at least 1, at most 100000."),
        ("layers", "none", "Layers is none; input should be 'self-attention', 'attention', 'attention+ff' or 'all'."),
    ],
)
def test_a_value_that_is_not_allowed_is_named(name: str, value: object, words: str) -> None:
    with pytest.raises(FormError) as error:
        build(DuoConfig, name).read([value])
    assert str(error.value) == words


def test_every_wrong_value_is_told_at_once() -> None:
    with pytest.raises(FormError, match=r"Learning rate is 2; .* Beta \(β\) is -1; "):
        build(DuoConfig, "learning_rate", "beta").read(["2", "-1"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(3e-4, "3e-4"), (5e6, "5e6"), (1.25e-5, "1.25e-5"), (0.01, "0.01"), (500.0, "500"), (120, "120"), (0, "0")],
)
def test_a_number_is_shown_as_people_write_it_and_read_back(value: float, text: str) -> None:
    assert number_text(value) == text
    assert float(text) == value
    form = build(DuoConfig, "prior_weight", prior_weight=value)
    assert form.fields["prior_weight"].value == text
    assert form.read([text]) == DuoConfig(prior_weight=value)


def test_typed_numbers_may_have_spaces_and_powers() -> None:
    form = build(DuoConfig, "steps", "prior_weight")
    assert form.read([" 1 000 ", "1E6"], beta=20) == DuoConfig(steps=1000, prior_weight=1e6, beta=20)


def test_a_seed_keeps_all_of_its_digits() -> None:
    form = build(DuoConfig, "seed", seed=2**63 - 1)
    assert form.fields["seed"].value == "9223372036854775807"
    assert form.read(["9223372036854775806"]) == DuoConfig(seed=2**63 - 2)
    with pytest.raises(FormError, match=r"Seed is 9223372036854775808; .* at least 0, at most 9223372036854775807\."):
        form.read(["9223372036854775808"])


def test_what_is_allowed_stands_in_the_help() -> None:
    assert build(DuoConfig, "learning_rate").fields["learning_rate"].info.endswith(" Above 0, at most 1.")
    assert build(PairsConfig, "strength").fields["strength"].maximum == 1  # a slider shows it


def test_lines_of_text_are_a_list() -> None:
    form = build(EsdConfig, "prompts", prompts=["a sword", "a blade"])
    assert form.fields["prompts"].value == "a sword\na blade"
    assert form.read(["a sword\n\n a katana "]) == EsdConfig(prompts=["a sword", "a katana"])


def test_a_form_shows_other_values() -> None:
    shown = build(DuoConfig, "steps", "beta").show({"beta": 25.0})
    assert [update["value"] for update in shown] == [str(DuoConfig().steps), "25"]
