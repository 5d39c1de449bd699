"""The baselines as jobs: the project's concept filled in, and a checkpoint at the end, with or without steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.adapters import load_delta
from models.transport import METADATA as TRANSPORT
from studio import prompts
from studio.configs import DemoConfig
from studio.demo import demo_stages
from studio.method_configs import METHOD_CONFIGS, AdvUnlearnConfig
from studio.presets import PRESETS
from studio.settings import Settings
from studio.store import Store
from studio.workflow.train import effective_config, train
from tests.conftest import make_tiny_bundle
from tests.tiny_toybox import save_tiny_toybox
from tests.workflow_data import context_of, make_project

SMALL: dict[str, dict[str, Any]] = {
    "uce": {},
    "rece": {"rounds": 1},
    "spm": {"steps": 2, "trajectories": 1, "sampling_steps": 2, "sample_every": 0},
    "concept-ablation": {"steps": 2, "batch_size": 1, "pictures": 2, "sampling_steps": 2, "sample_every": 0},
    "advunlearn": {"steps": 2, "trajectories": 1, "retain_trajectories": 1, "sampling_steps": 2, "plain_steps": 1}
    | {"attack_steps": 1, "sample_every": 0},
}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    save_tiny_toybox(make_tiny_bundle(), tmp_path / "toybox")
    return replace(settings, toybox=tmp_path / "toybox")


@pytest.mark.parametrize("method", SMALL)
def test_a_method_without_prompts_gets_the_projects_concept(store: Store, settings: Settings, method: str) -> None:
    project = make_project(store)
    context = context_of(store, settings, project, "train", {"method": method, "name": method, "config": SMALL[method]})
    result = train(context)
    saved = store.get_checkpoint(result["checkpoint_id"])
    if method in ("concept-ablation", "advunlearn"):
        assert saved.config["prompts"] == prompts.concept_prompts()
        assert saved.config.get("retain_prompts", prompts.kept_prompts()) == prompts.kept_prompts()
    else:
        assert saved.config["concepts"] == prompts.concept_names()
    assert store.get_job(context.job.id).config["config"] == saved.config
    delta = load_delta(Path(saved.path))
    assert (TRANSPORT in delta.metadata) == (method == "spm")
    assert [path.name for path in Path(saved.path).parent.iterdir()] == ["adapter.safetensors"]


def test_elsewhere_the_concept_is_the_projects_own_words(store: Store, settings: Settings) -> None:
    project = store.create_project(replace(make_project(store), id="", name="Hats", concept="a red hat"))
    context = context_of(store, settings, project, "train", {"method": "uce", "name": "UCE", "config": {}})
    assert store.get_checkpoint(train(context)["checkpoint_id"]).config["concepts"] == ["a red hat"]
    filled = effective_config(context, AdvUnlearnConfig())
    assert isinstance(filled, AdvUnlearnConfig)
    assert (filled.prompts, filled.retain_prompts[1]) == (["a red hat"], "a photo of bicycle")


def test_the_demo_has_settings_of_every_method_for_the_embedded_checkpoint() -> None:
    stages = demo_stages(DemoConfig(methods=list(METHOD_CONFIGS), seed=3))
    trainings = {stage.config["method"]: stage.config["config"] for stage in stages if stage.kind == "train"}
    assert list(trainings) == list(METHOD_CONFIGS)
    for method, values in trainings.items():
        assert METHOD_CONFIGS[method].model_validate(values) != METHOD_CONFIGS[method]()
        assert values.get("seed", 3) == 3


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_configuration(name: str) -> None:
    preset = PRESETS[name]
    config = METHOD_CONFIGS[preset.method].model_validate(preset.values)
    assert preset.note
    assert preset.values.items() <= config.model_dump().items()


def test_every_method_of_a_paper_has_its_published_values() -> None:
    assert {preset.method for name, preset in PRESETS.items() if name.startswith("paper: ")} == set(METHOD_CONFIGS)
