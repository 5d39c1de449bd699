"""What the demo does on the embedded checkpoint: its stages. Torch-free: shell and page plan it, jobs run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from studio import prompts
from studio.configs import DemoConfig, EvaluateConfig, PairsConfig
from studio.method_configs import METHOD_CONFIGS, method_title
from studio.presets import PRESETS, TOYBOX_PAIRS, TOYBOX_SAMPLING
from studio.records import JobKind, Project, PromptPair
from studio.store import Store

QUICK_N = 50
ALL_METHODS = list(METHOD_CONFIGS)
SCALES = [0.5, 0.75, 1.25]  # of each trained change, beside the whole of it
SCALE_PICTURES = 30  # a cell


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
    if config.methods != usual.methods:
        words.append(f"--methods {'all' if config.methods == ALL_METHODS else ','.join(config.methods)}")
    return " ".join(words)


def demo_stages(config: DemoConfig) -> list[Stage]:
    """Pairs, a training a method, comparison: the configurations as they are submitted.

    Other methods than the usual two are drawn at several strengths too, for the curve of forgetting against keeping.
    """
    pairs = PairsConfig(**TOYBOX_SAMPLING, **TOYBOX_PAIRS, auto_accept=True)
    scales = [] if config.methods == DemoConfig().methods else SCALES
    comparison = EvaluateConfig(
        **TOYBOX_SAMPLING,
        n=config.n,
        seed=config.seed,
        command=demo_command(config),
        scales=scales,
        scale_pictures=min(SCALE_PICTURES, config.n),
    )
    drawn = (len(config.methods) + 2) * config.n + len(config.methods) * len(scales) * comparison.scale_pictures
    return [
        Stage("pairs", "Making pairs", "pairs", pairs.model_dump(), 2 * config.pairs),
        *(_training(method, config.seed) for method in config.methods),
        Stage("evaluate", "Comparing models", "evaluate", comparison.model_dump(), 5 * drawn),
    ]


def _training(method: str, seed: int) -> Stage:
    fields = METHOD_CONFIGS[method].model_fields
    preset = next(one for name, one in PRESETS.items() if one.method == method and name.startswith("toybox"))
    values = {**preset.values} | ({"seed": seed} if "seed" in fields else {})
    config = {"method": method, "name": method_title(method), "config": values}
    return Stage(method, f"Training {method_title(method)}", "train", config, 3 * values.get("steps", 5))
