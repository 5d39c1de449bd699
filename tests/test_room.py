"""Whether a training fits, in the words of page and shell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from studio.devices import Devices
from studio.estimates import memory
from studio.records import Checkpoint, Job, Project
from studio.room import Plan, fit_into, plan_of, plan_words, refusal, switch_words, time_words
from studio.settings import Settings
from studio.store import Store
from studio.training_configs import DuoConfig
from tests.ui_data import add_accepted_pairs

BIG = DuoConfig(batch_size=16, sample_every=0)


@pytest.fixture
def sd1(store: Store) -> Project:
    """A project on a checkpoint whose shape is known by its name."""
    name = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    return store.create_project(Project("", "Own", "sword", name, "toybox"))


def planned(store: Store, settings: Settings, project: Project, config: DuoConfig = BIG, gigabytes: float = 0) -> Plan:
    devices = Devices(replace(settings, memory=gigabytes), list)
    plan = plan_of(store, settings, devices, project, config)
    assert plan is not None
    return plan


def test_what_fits_is_not_refused(store: Store, settings: Settings, sd1: Project) -> None:
    plan = planned(store, settings, sd1, gigabytes=1000)
    assert (plan.fits, plan.is_tight, refusal(plan), plan.switches) == (True, False, "", {})
    needs = plan.memory.peak / 1e9
    assert planned(store, settings, sd1, gigabytes=needs * 1.001).is_tight


def test_what_does_not_fit_is_refused_with_the_switch_that_would(
    store: Store, settings: Settings, sd1: Project
) -> None:
    plan = planned(store, settings, sd1, gigabytes=11.6)
    assert not plan.fits
    said = refusal(plan)
    assert f"needs about {plan.memory.peak / 1e9:.0f} GB" in said
    assert "has 11.6 GB free" in said
    assert plan.way is not None
    assert memory(plan.way, plan.situation).peak <= 11.6e9
    assert switch_words(plan.switches).capitalize() in said
    assert planned(store, settings, sd1, plan.way, 11.6).fits


def test_what_never_fits_says_how_little_would_do(store: Store, settings: Settings, sd1: Project) -> None:
    plan = planned(store, settings, sd1, gigabytes=2)
    assert plan.way is None
    assert "With every memory switch on it would still need about" in refusal(plan)
    assert "DUO_STUDIO_DTYPE=bfloat16" in refusal(plan)
    assert fit_into(plan, 2e9) is None


def test_a_memory_preset_turns_on_no_more_than_it_must(store: Store, settings: Settings, sd1: Project) -> None:
    plan = planned(store, settings, sd1, BIG.model_copy(update={"micro_batch_size": 1, "batch_size": 4}), 1000)
    roomy, tight = fit_into(plan, 80e9), fit_into(plan, 8.5e9)
    assert roomy is not None
    assert tight is not None
    assert (roomy["micro_batch_size"], roomy["gradient_checkpointing"], roomy["park_in_a_file"]) == (0, False, False)
    assert tight["micro_batch_size"] == 1
    assert memory(plan.config.model_copy(update=tight), plan.situation).peak <= 8.5e9


def test_a_checkpoint_of_unknown_shape_has_no_plan(store: Store, settings: Settings) -> None:
    project = store.create_project(Project("", "Far", "sword", "somebody/something", "toybox"))
    assert plan_of(store, settings, Devices(settings), project, BIG) is None


def test_the_newest_earlier_training_here_sets_the_pace(store: Store, settings: Settings, project: Project) -> None:
    add_accepted_pairs(store, settings, project, 2)
    config = DuoConfig(steps=100, sample_every=0)
    before = planned(store, settings, project, config)
    assert before.time.source == "flops"
    assert "± " in time_words(before.time)

    def trained(device: str, seconds: float) -> None:
        job = store.create_job(Job("", project.id, "train", {"device": device, "pairs": ["a", "b"]}))
        made = Checkpoint("", project.id, job.id, "duo", "DUO", "x", "0", "lora", config.model_dump(), seconds)
        store.add_checkpoint(made)

    trained("some GPU", 1.0)
    assert planned(store, settings, project, config).time.source == "flops", "another device tells nothing"
    trained(before.device.name, 40.0)
    plan = planned(store, settings, project, config.model_copy(update={"steps": 200}))
    assert (plan.time.source, plan.time.seconds) == ("earlier", pytest.approx(80.0))
    assert "by the newest earlier training" in plan_words(plan)


def test_the_worker_names_its_device_as_the_page_does(settings: Settings) -> None:
    import torch

    from studio.workflow.train import device_name

    assert device_name(torch.device("cpu")) == Devices(settings, list).now().name


def test_a_shape_is_read_once(store: Store, settings: Settings, project: Project, tmp_path: Path) -> None:
    assert planned(store, settings, project).situation.shape is planned(store, settings, project).situation.shape
