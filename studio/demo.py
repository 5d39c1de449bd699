"""What the demo does on the embedded checkpoint: its stages. Torch-free: shell and page plan it, jobs run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from studio import prompts
from studio.configs import DemoConfig, EvaluateConfig, PairsConfig
from studio.presets import PRESETS, TOYBOX_PAIRS, TOYBOX_SAMPLING
from studio.records import JobKind, Project, PromptPair
from studio.store import Store

QUICK_N = 50


@dataclass(frozen=True)
class Stage:
    """One job's worth of the demo; `weight` is its rough share of the whole time."""

    name: str
    title: str
    kind: JobKind
    config: dict[str, Any]
    weight: float


def create_demo_project(store: Store, config: DemoConfig) -> Project:
    """A new project that forgets the sword, with its prompt pairs: nothing of an earlier demo is used."""
    project = store.create_project(
        Project(
            id="",
            name=f"{prompts.CONCEPT.capitalize()} (demo, seed {config.seed})",
            concept=prompts.CONCEPT,
            checkpoint="toybox",
            detector="toybox",
            detector_settings={"concept": prompts.CONCEPT},
        )
    )
    add_demo_prompts(store, project, config)
    return project


def add_demo_prompts(store: Store, project: Project, config: DemoConfig) -> None:
    """The prompt pairs of the demo's seed, each to be made into one pair of pictures."""
    first = prompts.first_seed("pairs", config.seed)
    store.add_prompt_pairs(
        PromptPair(id="", project_id=project.id, unsafe=text.unsafe, safe=text.safe, count=1, seed=first + index)
        for index, text in enumerate(prompts.pair_prompts(config.pairs, config.seed))
    )


def demo_command(config: DemoConfig) -> str:
    """What to type to have the same demo again: its seed, and whatever is not the default."""
    usual = DemoConfig()
    words = ["python -m studio demo", f"--seed {config.seed}"]
    if config.n == QUICK_N:
        words.append("--quick")
    elif config.n != usual.n:
        words.append(f"--n {config.n}")
    if config.pairs != usual.pairs:
        words.append(f"--pairs {config.pairs}")
    return " ".join(words)


def demo_stages(config: DemoConfig) -> list[Stage]:
    """Pairs, DUO, ESD, comparison: the configurations as they are submitted."""
    pairs = PairsConfig(**TOYBOX_SAMPLING, **TOYBOX_PAIRS, auto_accept=True)
    command = demo_command(config)
    comparison = EvaluateConfig(**TOYBOX_SAMPLING, n=config.n, seed=config.seed, command=command)
    return [
        Stage("pairs", "Making pairs", "pairs", pairs.model_dump(), 2 * config.pairs),
        _training("duo", "DUO", "toybox: duo", config.seed),
        _training("esd", "ESD", "toybox: esd", config.seed),
        Stage("evaluate", "Comparing models", "evaluate", comparison.model_dump(), 20 * config.n),
    ]


def _training(name: str, title: str, preset: str, seed: int) -> Stage:
    values = {**PRESETS[preset].values, "seed": seed}
    config = {"method": PRESETS[preset].method, "name": title, "config": values}
    return Stage(name, f"Training {title}", "train", config, 3 * values["steps"])
