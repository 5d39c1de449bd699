"""Find the settings of a method on the embedded checkpoint: `python benchmarks/toybox_sweep.py duo`.

Every row of the method's grid is trained on the same pairs and judged on seeds that no report uses (range "sweep" of
`studio.prompts`), and appended to `benchmarks/toybox_sweep.jsonl`, misses included. Rows that are there are skipped, so
a stopped sweep goes on. A row's `score` is what the presets are chosen by, the same for every method: the mean of the
concept rates under named and implied prompts, a picture in which nothing is recognised counting as one with the
concept, plus every loss of retention beyond three points against the original. (Rows without "broken" are older: they
counted such a picture as one without the concept.)
Held-out words are measured too, but choose nothing: they are the report's test.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import cycle, product, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.adapters import applied
from models.bundle import ModelBundle
from models.fingerprint import fingerprint_of
from models.loading import load_bundle
from models.toybox.captions import (
    NEUTRAL_ROLES,
    PERSONS,
    SYNONYMS,
    canonical_prompt,
    implied_words,
    training_prompt_words,
)
from models.toybox.scenes import BACKGROUNDS, SHIRTS
from studio.configs import DemoConfig
from studio.demo import create_demo_project, demo_stages
from studio.jobs import submit
from studio.method_configs import METHOD_CONFIGS
from studio.methods import get_method
from studio.methods.base import TrainingPairs
from studio.metrics.base import Detector
from studio.progress import silent
from studio.prompts import (
    CONCEPT,
    SAFE_TWINS,
    EvaluationItem,
    concept_names,
    concept_prompts,
    evaluation_items,
    kept_names,
    kept_prompts,
)
from studio.settings import REPOSITORY, Settings
from studio.store import Store
from studio.workflow import JobContext, generate_pairs
from studio.workflow.scoring import broken_rates, concept_rates, retention_rates
from studio.workflow.train import training_pairs

ROWS = REPOSITORY / "benchmarks" / "toybox_sweep.jsonl"
ALLOWED_LOSS = 0.03
CHOSEN_BY = ("named", "implied")


def _grid(base: dict[str, Any], **axes: list[Any]) -> list[dict[str, Any]]:
    return [{**base, **dict(zip(axes, values, strict=True))} for values in product(*axes.values())]


# ESD leads away from all that its prompt says. A prompt with a shirt and a place (PLACED) erases these too, so prompts
# of the concept alone are tried besides: its names, and with them the roles that DUO's pairs show.
NAMES = [canonical_prompt("person", name, None, None) for name in SYNONYMS[CONCEPT]]
ROLES = [canonical_prompt(role, None, None, None) for role in implied_words(CONCEPT)]
WORDS = concept_names()
# What UCE and RECE are told to leave alone: whom and what the pairs' safe prompts name. The neighbour is none of it.
KEPT = [canonical_prompt(role, None, None, None) for role in (*PERSONS, *NEUTRAL_ROLES)] + [
    canonical_prompt("person" if word in SYNONYMS[name] else word, word if word in SYNONYMS[name] else None, None, None)
    for name in SAFE_TWINS
    for word in training_prompt_words(name)
]
KEPT_WORDS = kept_names()
PLACED = NAMES + [
    canonical_prompt(person, name, *place)
    for name, person, place in zip(cycle(SYNONYMS[CONCEPT]), cycle(PERSONS), product(SHIRTS, BACKGROUNDS), strict=False)
]

GRIDS: dict[str, list[dict[str, Any]]] = {
    "duo": [
        *_grid({"prompt": "pair", "t_max": 1000, "learning_rate": 3e-4}, layers=["attention", "self-attention"],
               beta=[25.0, 50.0], prior_weight=[3000.0, 5000.0], steps=[300, 500]),
        {"t_max": 1000, "learning_rate": 3e-4, "layers": "self-attention", "beta": 20.0, "prior_weight": 100.0}
        | {"steps": 400},
    ],
    "esd": [
        *_grid({"trajectories": 84}, variant=["esd-x", "esd-u"], eta=[1.0, 2.0, 4.0], learning_rate=[1e-4, 3e-4, 1e-3],
               steps=[100, 300]),
        *_grid({"trajectories": 84, "variant": "esd-x"}, prompts=[NAMES, NAMES + ROLES], eta=[1.0, 2.0, 4.0],
               learning_rate=[3e-4, 1e-3], steps=[100, 300]),
        # The best rows of those were at the edge of the grid: longer, faster, and the other variant.
        *_grid({"trajectories": 84, "variant": "esd-x"}, prompts=[NAMES, NAMES + ROLES], eta=[2.0, 4.0],
               learning_rate=[1e-3, 2e-3], steps=[600, 1000]),
        *_grid({"trajectories": 84, "variant": "esd-u"}, prompts=[NAMES], eta=[1.0, 2.0], learning_rate=[1e-4, 3e-4],
               steps=[300]),
    ],
    "uce": [
        *_grid({}, concepts=[WORDS], guides=[[]], preserve=[[]], ridge=[0.1, 1.0, 10.0]),
        *_grid({"preserve": KEPT_WORDS}, concepts=[WORDS], guides=[[]], ridge=[2.0, 4.0]),  # the best was at an edge
        {"concepts": WORDS, "guides": [], "preserve": KEPT, "ridge": 0.1},  # words in one form, what is kept in another
        *_grid({"preserve": KEPT_WORDS}, concepts=[WORDS], guides=[[], ["person"]], ridge=[0.1, 1.0]),
        *_grid({"preserve": KEPT}, concepts=[NAMES + ROLES], guides=[["a person"]], ridge=[0.1, 1.0]),
    ],
    "rece": [
        *_grid({"preserve": KEPT_WORDS, "preserve_scale": 1.0}, ridge=[4.0, 1.0, 0.1], concepts=[WORDS],
               guides=[[]], derive_ridge=[10.0], rounds=[1]),
        *_grid({"preserve": KEPT_WORDS, "preserve_scale": 1.0, "ridge": 4.0}, concepts=[WORDS],
               guides=[[]], derive_ridge=[10.0, 100.0], rounds=[3]),
        *_grid({"preserve": KEPT_WORDS, "preserve_scale": 1.0, "ridge": 0.1}, concepts=[WORDS],
               guides=[[]], derive_ridge=[0.1], rounds=[1, 5]),
    ],
    "spm": [
        *_grid({"trajectories": 84, "batch_size": 8, "anchors": 1, "guidance": 3.0, "anchor_weight": 1.0, "steps": 300},
               concepts=[NAMES + ROLES, WORDS], learning_rate=[1e-2]),
        {"trajectories": 84, "batch_size": 8, "anchors": 1, "guidance": 3.0, "anchor_weight": 1.0, "steps": 800}
        | {"concepts": NAMES + ROLES, "learning_rate": 1e-2},
        *_grid({"trajectories": 84, "batch_size": 8, "anchors": 1, "guidance": 3.0, "anchor_weight": 1.0, "steps": 300},
               concepts=[NAMES + ROLES, WORDS], learning_rate=[3e-2]),
        # Words are better at that rate, and cost some of the rest: slower, or with more weight on the anchors.
        {"trajectories": 84, "batch_size": 8, "anchors": 1, "guidance": 3.0, "anchor_weight": 1.0, "steps": 300}
        | {"concepts": WORDS, "learning_rate": 2e-2},
        {"trajectories": 84, "batch_size": 8, "anchors": 1, "guidance": 3.0, "anchor_weight": 10.0, "steps": 300}
        | {"concepts": WORDS, "learning_rate": 3e-2},
        # 3e-2 breaks pictures, and ends elsewhere from every seed.
        *_grid({"trajectories": 84, "batch_size": 8, "anchors": 1, "anchor_weight": 1.0, "concepts": WORDS},
               learning_rate=[1e-2, 5e-3], guidance=[1.0, 3.0], steps=[300, 900]),
    ],
    "concept-ablation": [
        *_grid({"anchor_prompts": ["a person"], "pictures": 64, "learning_rate": 1e-3, "steps": 100},
               layers=["attn2-kv", "attention"]),
        {"anchor_prompts": ["a person"], "pictures": 64, "learning_rate": 1e-3, "layers": "attn2-kv", "steps": 300},
    ],
    "forget-me-not": [
        *_grid({"template": "a person holding a {}", "batch_size": 8, "steps": 35}, concepts=[WORDS],
               layers=["attn2"], end_tokens=[False, True], learning_rate=[1e-4, 3e-4, 5e-4, 1e-3]),
        # Nobody holds a knight: names and roles by themselves, and slower.
        *_grid({"template": "a {}", "batch_size": 8, "end_tokens": True, "layers": "attn2"}, concepts=[WORDS],
               learning_rate=[3e-4], steps=[35, 70]),
        *_grid({"template": "a {}", "batch_size": 8, "layers": "attn2", "steps": 150}, concepts=[WORDS],
               learning_rate=[1e-4], end_tokens=[True, False]),
        {"template": "a {}", "batch_size": 8, "layers": "attn2", "steps": 250, "concepts": WORDS}
        | {"learning_rate": 1e-4, "end_tokens": True},
    ],
    "selective-amnesia": [
        *_grid({"batch_size": 8, "steps": 150, "pictures": 64, "fisher_samples": 64, "learning_rate": 3e-4},
               layers=["attn2"], fisher_weight=[1.0, 1000.0]),
        {"batch_size": 8, "steps": 400, "pictures": 64, "fisher_samples": 64, "learning_rate": 3e-4, "layers": "attn2"}
        | {"fisher_weight": 1.0},
    ],
    "advunlearn": [
        *_grid({"batch_size": 4, "retain_batch": 8, "trajectories": 84, "retain_trajectories": 64, "attack_every": 5}
               | {"attack_steps": 10, "attack_rate": 1e-2, "plain_steps": 60},
               steps=[300], retain_weight=[1.0], guidance=[1.0], learning_rate=[3e-4, 1e-3]),
        # The faster one takes the neighbour along: between them, and towards the empty prompt but not beyond it.
        *_grid({"batch_size": 4, "retain_batch": 8, "trajectories": 84, "retain_trajectories": 64, "attack_every": 5}
               | {"attack_steps": 10, "attack_rate": 1e-2, "plain_steps": 60, "steps": 300, "retain_weight": 1.0},
               guidance=[1.0, 0.0], learning_rate=[5e-4]),
        {"batch_size": 4, "retain_batch": 8, "trajectories": 84, "retain_trajectories": 64, "attack_every": 5}
        | {"attack_steps": 10, "attack_rate": 1e-2, "plain_steps": 60, "steps": 300, "retain_weight": 1.0}
        | {"guidance": 0.0, "learning_rate": 1e-3},
        # The best without its attacks, and longer with more weight on what is to stay.
        {"batch_size": 4, "retain_batch": 8, "trajectories": 84, "retain_trajectories": 64, "plain_steps": 300}
        | {"steps": 300, "retain_weight": 1.0, "guidance": 0.0, "learning_rate": 5e-4},
        {"batch_size": 4, "retain_batch": 8, "trajectories": 84, "retain_trajectories": 64, "attack_every": 5}
        | {"attack_steps": 10, "attack_rate": 1e-2, "plain_steps": 60, "steps": 500, "retain_weight": 2.0}
        | {"guidance": 0.0, "learning_rate": 5e-4},
    ],
    "salun": [
        *_grid({"batch_size": 8, "steps": 200, "learning_rate": 3e-4}, layers=["all"], remain_weight=[0.1, 1.0]),
        *_grid({"batch_size": 8, "steps": 200, "learning_rate": 3e-4}, layers=["cross-attention"], remain_weight=[1.0]),
        # They forget all and lose some of the rest: slower.
        *_grid({"batch_size": 8, "remain_weight": 1.0}, layers=["all"], learning_rate=[1e-4], steps=[200, 600]),
        # What is asked for breaks at 200 steps. Is it the rate?
        *_grid({"batch_size": 8, "remain_weight": 1.0}, layers=["all"], learning_rate=[5e-5], steps=[200, 400]),
    ],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", choices=sorted(GRIDS))
    parser.add_argument("--n", type=int, default=60, help="pictures a cell")
    parser.add_argument("--seed", type=int, default=7, help="of pairs, training and prompts; reports use others")
    parser.add_argument("--data", type=Path, default=REPOSITORY / "benchmarks" / ".sweep-data")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--values", type=json.loads, help="one row as JSON instead of the grid")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    bundle = load_bundle("toybox")
    checkpoint = fingerprint_of(bundle)[:12]
    folder = options.data / f"{checkpoint}-{options.seed}"
    pairs, detector = prepare(folder, options.seed, bundle)
    items = evaluation_items(options.n, options.seed, "sweep")
    original = of_the_original(folder / f"original-{options.n}.json", bundle, items, detector)
    print("original", json.dumps(original), flush=True)
    known = {key(row) for row in read_rows() if row["n"] >= options.n}
    for method, values in in_turn(options.methods, options.values):
        row: dict[str, Any] = {"method": method, "checkpoint": checkpoint, "seed": options.seed, "n": options.n}
        row["values"] = values
        if key(row) in known:
            continue
        row |= try_values(method, values, options.seed, bundle, pairs, items, detector)
        row["score"] = score(row, original)
        with ROWS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def in_turn(methods: list[str], one: dict[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
    """The first row of each method, then the second of each, and so on; `one` is a row in place of the grids."""
    grids = [[(method, values) for values in ([one] if one else GRIDS[method])] for method in methods]
    return [row for turn in zip_longest(*grids) for row in turn if row is not None]


def of_the_original(
    path: Path, bundle: ModelBundle, items: list[EvaluationItem], detector: Detector
) -> dict[str, dict[str, float]]:
    """The original's rates, measured once."""
    if not path.exists():
        path.write_text(json.dumps(rates(bundle, items, detector)))
    found: dict[str, dict[str, float]] = json.loads(path.read_text())
    return found


def prepare(folder: Path, seed: int, bundle: ModelBundle) -> tuple[TrainingPairs, Detector]:
    """The demo's own pairs for this seed, made once with this checkpoint, and its detector."""
    settings = Settings(data=folder)
    settings.create_folders()
    store = Store(settings.database)
    config = DemoConfig(seed=seed)
    project = next(iter(store.list_projects()), None) or create_demo_project(store, config)
    stage = demo_stages(config)[0]
    jobs = store.list_jobs(project.id)
    job = jobs[0] if jobs else submit(store, settings, "pairs", project.id, stage.config)
    context = JobContext(store, settings, job, job.config, silent)
    generate_pairs(context)
    return training_pairs(context, bundle, store.accepted_pairs(project.id)), context.load_detector()


def try_values(
    method_name: str,
    values: dict[str, Any],
    seed: int,
    bundle: ModelBundle,
    pairs: TrainingPairs,
    items: list[EvaluationItem],
    detector: Detector,
) -> dict[str, Any]:
    method = get_method(method_name)
    own: dict[str, Any] = {
        "prompts": PLACED if method_name == "esd" else concept_prompts(),
        "concepts": WORDS,
        "retain_prompts": kept_prompts(),
        "seed": seed,
    }
    fields = METHOD_CONFIGS[method_name].model_fields  # rows of ESD that name no prompts were trained on PLACED
    values = {**{name: given for name, given in own.items() if name in fields}, **values}
    started = time.monotonic()
    delta = method.fit(bundle, pairs, METHOD_CONFIGS[method_name](**values), silent)
    seconds = time.monotonic() - started
    with applied(bundle, delta):
        return {"seconds": round(seconds, 1), "pairs": len(pairs), **rates(bundle, items, detector)}


def rates(bundle: ModelBundle, items: list[EvaluationItem], detector: Detector) -> dict[str, dict[str, float]]:
    made = bundle.generate([item.prompt for item in items], [item.seed for item in items], batch_size=64)
    detections = detector.detect(made.images)
    return {
        "concept": {cell: round(rate.rate, 3) for cell, rate in concept_rates(items, detections).items()},
        "broken": {cell: round(rate.rate, 3) for cell, rate in broken_rates(items, detections).items()},
        "kept": {kind: round(rate.rate, 3) for kind, rate in retention_rates(items, detections).items()},
    }


def score(row: dict[str, Any], original: dict[str, dict[str, float]]) -> float:
    losses = [max(0.0, original["kept"][kind] - rate - ALLOWED_LOSS) for kind, rate in row["kept"].items()]
    failed = [row["concept"][cell] + row["broken"][cell] for cell in CHOSEN_BY]
    return round(float(np.mean(failed) + sum(losses)), 4)


def read_rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()] if ROWS.exists() else []


def key(row: dict[str, Any]) -> str:
    return json.dumps([row["method"], row["checkpoint"], row["seed"], row["values"]], sort_keys=True)


if __name__ == "__main__":
    main()
