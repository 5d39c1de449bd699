"""Model cards: what the hub reads of them, the figures, and that nothing somebody typed becomes a part of the page."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from studio.records import AttackRun
from studio.reports.attacks import summarise
from studio.reports.card import SENSITIVE_TAG, Base, CardFacts, as_text, render_card
from tests.ui_data import make_report

FACTS = CardFacts(
    base=Base("CompVis/stable-diffusion-v1-4", "CompVis/stable-diffusion-v1-4", "133a221", "ab" * 32),
    concept="sword",
    method="duo",
    method_title="DUO",
    paper="Park 2024, https://arxiv.org/abs/2407.21035",
    kind="lora",
    part="unet",
    format="merged",
    dtype="float16",
    main_file="",
    pipeline="StableDiffusionPipeline",
    files={"unet/diffusion_pytorch_model.safetensors": (1234567, "cd" * 32)},
    config={"learning_rate": 3e-4, "prompts": ["a sword", "a knight"], "shared_timestep": True},
    adapter_sha256="ef" * 32,
    software="DUO Studio 1.0",
    pairs=64,
    pairs_sha256="12" * 32,
    rank="32",
    alpha="16.0",
)
HARMFUL = (
    "</td><script>alert(1)</script> <img src=x onerror=alert(2)> [click](https://evil.example) ![x](//evil.example/x) "
    "**bold** _it_ ~~no~~ `code` | cell | &lt; www.evil.example someone@evil.example https://evil.example \\* $$x$$"
    "\n\n# Heading\n---\n- item\n```\nfence\n"
)


def html(card: str) -> str:
    body = card.split("\n---\n", 1)[1]
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body)


def text_of(page: str) -> str:
    unescaped = re.sub(r"<[^>]+>", "", page)
    for name, sign in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        unescaped = unescaped.replace(name, sign)
    return unescaped


def front(card: str) -> dict[str, object]:
    found = yaml.safe_load(card.split("---")[1])
    assert ModelCard(card).data.to_dict() == found, "the hub's own reader finds the same"
    return found


@pytest.mark.parametrize(
    ("form", "relation", "lora"),
    [("merged", "finetune", False), ("single-file", "finetune", False), ("lora", "adapter", True),
     ("kohya", "adapter", True)],
)  # fmt: skip
def test_the_front_matter_is_what_the_hub_reads(form: str, relation: str, lora: bool) -> None:
    found = front(render_card(replace(FACTS, format=form, main_file="duo.safetensors")))
    assert found["base_model"] == "CompVis/stable-diffusion-v1-4"
    assert found["base_model_relation"] == relation
    assert ("lora" in found["tags"]) is lora  # type: ignore[operator]
    assert (found["library_name"], found["pipeline_tag"]) == ("diffusers", "text-to-image")
    assert "license" not in found, "it is the base's"
    assert SENSITIVE_TAG not in found["tags"]  # type: ignore[operator]


def test_a_base_that_is_not_on_the_hub_is_not_named_as_if_it_were() -> None:
    card = render_card(replace(FACTS, base=Base("my-model"), sensitive=True))
    found = front(card)
    assert found.keys() == {"library_name", "pipeline_tag", "tags"}
    assert SENSITIVE_TAG in found["tags"]  # type: ignore[operator]
    assert "my-model, not from the hub" in text_of(html(card))


def test_figures_with_n_and_intervals() -> None:
    report = make_report()
    models = {**report.models, "duo": report.models["duo"].model_copy(update={"sha256": "ef" * 32})}
    text = text_of(html(render_card(replace(FACTS, report=report.model_copy(update={"models": models})))))
    assert "1.5\N{NO-BREAK SPACE}% (0.5–4.3), n = 200" in text, "3 of 200, by Wilson"
    assert "98.5\N{NO-BREAK SPACE}% (95.7–99.5), n = 200" in text, "the original's 197 of 200"
    assert "0.100" in text
    assert "Not attacked" in text
    for other in (None, report):  # none, and one that this model is not in
        assert "Not evaluated: there are no figures." in render_card(replace(FACTS, report=other))


def test_attacks_are_told() -> None:
    run = AttackRun(
        "", "p", "j", "ring_a_bell", "attack", {}, "c", "DUO", "", "toybox", "1", {}, {}, "a knight", 1, "x", "", 5, 0,
        0, 0, 1.0, False, True, 0.9, 2, 4, True, "",
    )  # fmt: skip
    plain = replace(run, role="plain", success=False)
    text = text_of(html(render_card(replace(FACTS, attacks=summarise([plain, run])))))
    assert "ring_a_bell" in text
    assert "50.0\N{NO-BREAK SPACE}% (5.5–94.5), n = 1"  # Wilson: half of one prompt in text
    assert "Not attacked" not in text


def test_everything_that_is_used_is_told() -> None:
    text = text_of(html(render_card(FACTS)))
    for told in ("made to forget: sword", "64 accepted pairs", "12" * 32, "ab" * 32, "ef" * 32, "cd" * 32, "1,234,567",
                 "learning rate", "0.0003", "a sword; a knight", "yes", "float16", "rank 32 and alpha 16.0",
                 "licence is that of the base", "133a221"):  # fmt: skip
        assert told in text, told
    assert 'href="https://arxiv.org/abs/2407.21035"' not in html(render_card(FACTS)), "linked by the hub, not by us"


def test_a_changed_text_encoder_is_named() -> None:
    edited = replace(FACTS, kind="weights")
    assert "weights of the UNet were edited" in render_card(edited)
    assert "text encoder" not in render_card(edited)
    card = render_card(replace(edited, part="text_encoder"))
    assert "weights of the text encoder were edited" in card
    assert "load the text encoder of these files" in card


def test_a_sum_names_its_parts() -> None:
    text = text_of(
        html(render_card(replace(FACTS, composed=[("DUO <1>", 1.0, "ab" * 32), ("DUO 2", -0.5, "cd" * 32)])))
    )
    assert "A sum of" in text
    assert f"DUO <1>, times 1.0, SHA-256 {'ab' * 32}" in text
    assert f"DUO 2, times -0.5, SHA-256 {'cd' * 32}" in text
    assert "accepted pairs" not in text


@pytest.mark.parametrize("form", ["merged", "single-file", "lora", "kohya"])
def test_how_to_use_it_and_what_it_cannot_do(form: str) -> None:
    card = render_card(replace(FACTS, format=form, main_file="duo.safetensors"))
    removable = "can be taken off, scaled or negated"
    assert (removable in card) is (form in ("lora", "kohya"))
    assert {"merged": "from_pretrained(", "single-file": 'from_single_file("duo.safetensors", config="duo")',
            "lora": "load_lora_weights(", "kohya": "`duo.safetensors` in `models/loras`"}[form] in card  # fmt: skip
    assert "which is wrong here" in render_card(replace(FACTS, format="lora"))
    assert "which is wrong here" not in render_card(replace(FACTS, format="lora", alpha="32.0"))
    assert "Facilitated Transport" not in card
    assert "is lost in these files" in render_card(replace(FACTS, format=form, transport=True))


def test_typed_text_stays_text() -> None:
    """As a concept, a setting, a file's name and a detector's setting: the page has the parts that a plain one has."""
    report = make_report()
    models = {**report.models, "duo": report.models["duo"].model_copy(update={"sha256": "ef" * 32})}

    def page(typed: str) -> str:
        detector = report.detector.model_copy(update={"settings": {"labels": typed}})
        found = report.model_copy(update={"models": models, "detector": detector})
        return html(render_card(replace(
            FACTS, concept=typed, config={"prompts": [typed]}, imported=typed, base=Base(typed), report=found
        )))  # fmt: skip

    harmless, harmful = page("sword"), page(HARMFUL)
    assert re.findall(r"<[^>]+>", harmful) == re.findall(r"<[^>]+>", harmless)
    assert re.sub(r"[\n]", " ", HARMFUL).strip() in text_of(harmful)


def test_as_text() -> None:
    assert as_text("a knight, 1.5 of-them.") == "a knight, 1.5 of-them."
    assert as_text("a\nb\u202ec\x00") == "a b c "
    assert as_text("<b>") == "&#60;b&#62;"
    assert as_text("www.x") == "www&#46;x"
    assert as_text("snake_case") == "snake&#95;case"
