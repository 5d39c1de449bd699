"""Named settings that are known to work, each with where it comes from. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from studio.prompts import kept_names


@dataclass(frozen=True)
class Preset:
    """Values of a method's configuration; what is not named keeps its default."""

    method: str
    values: dict[str, Any] = field(default_factory=dict)
    note: str = ""


# What Selective Amnesia's official code has for every concept.
SELECTIVE_AMNESIA: dict[str, Any] = {
    "weight_decay": 1e-2, "max_grad_norm": 0.0, "picture_guidance": 7.5, "sampling_steps": 50,
}  # fmt: skip

PRESETS: dict[str, Preset] = {
    "toybox: duo": Preset(
        "duo",
        {
            "steps": 500,
            "learning_rate": 3e-4,
            "beta": 50.0,
            "prior_weight": 5000.0,
            "t_max": 1000,
            "layers": "attention",
        }
        | {"prompt": "pair"},
        "DUO on the embedded checkpoint, where the empty prompt alone does not reach prompted pictures: see "
        "benchmarks/README.md.",
    ),
    "toybox: duo, quick look": Preset(
        "duo",
        {"steps": 100, "learning_rate": 1e-3, "beta": 50.0, "prior_weight": 5000.0, "t_max": 1000}
        | {"layers": "attention", "prompt": "pair"},
        "A first look at DUO on the embedded checkpoint: 100 steps, 1 min 48 s on one thread of two busy cores. "
        "Swords stayed in 37 % of named and implied and 53 % of held-out prompts (30 pictures each, one seed; 100 % "
        "before), other things as they were. It shows that it works; “toybox: duo” is what forgets.",
    ),
    "toybox: esd": Preset(
        "esd",
        {"variant": "esd-x", "steps": 300, "learning_rate": 1e-3, "eta": 2.0, "trajectories": 84},
        "ESD on the embedded checkpoint: the best of 80 rows in benchmarks/toybox_sweep.jsonl, on the concept's names "
        "and the roles that the pairs show.",
    ),
    "toybox: uce": Preset(
        "uce",
        {"preserve": kept_names(), "ridge": 4.0},
        "UCE on the embedded checkpoint: the best of its rows in benchmarks/toybox_sweep.jsonl. It erases towards the "
        "empty prompt and preserves what the pairs' safe prompts name.",
    ),
    "toybox: rece": Preset(
        "rece",
        {"preserve": kept_names(), "preserve_scale": 1.0, "ridge": 4.0, "derive_ridge": 10.0, "rounds": 1},
        "RECE on the embedded checkpoint: the best of its rows in benchmarks/toybox_sweep.jsonl. It did not beat UCE.",
    ),
    "toybox: spm": Preset(
        "spm",
        {"steps": 300, "batch_size": 8, "learning_rate": 3e-2, "guidance": 3.0}
        | {"anchor_weight": 1.0, "anchors": 1, "trajectories": 84},
        "SPM on the embedded checkpoint: the best of its few rows in benchmarks/toybox_sweep.jsonl. It loses most "
        "swords, a third of them because the picture breaks; at a learning rate of 0.02 it keeps more than half.",
    ),
    "toybox: concept ablation": Preset(
        "concept-ablation",
        {"anchor_prompts": ["a person"], "layers": "attn2-kv", "steps": 100, "learning_rate": 1e-3, "pictures": 64},
        "Concept Ablation on the embedded checkpoint: the best of its rows in benchmarks/toybox_sweep.jsonl.",
    ),
    "toybox: forget-me-not": Preset(
        "forget-me-not",
        {"template": "a {}", "batch_size": 8, "steps": 150, "learning_rate": 1e-4, "layers": "attn2"}
        | {"end_tokens": True},
        "Forget-Me-Not on the embedded checkpoint: the best of its rows in benchmarks/toybox_sweep.jsonl, and it still "
        "draws most swords. A rate or number of steps that removes more breaks what is to be kept.",
    ),
    "toybox: selective amnesia": Preset(
        "selective-amnesia",
        {"layers": "attn2", "steps": 400, "batch_size": 8, "learning_rate": 3e-4, "fisher_weight": 1.0}
        | {"pictures": 64, "fisher_samples": 64},
        "Selective Amnesia on the embedded checkpoint: the best of its few rows in benchmarks/toybox_sweep.jsonl.",
    ),
    "toybox: advunlearn": Preset(
        "advunlearn",
        {"steps": 300, "batch_size": 4, "learning_rate": 5e-4, "guidance": 0.0, "plain_steps": 60}
        | {"attack_every": 5, "attack_steps": 10, "attack_rate": 1e-2, "retain_weight": 1.0, "retain_batch": 8}
        | {"trajectories": 84, "retain_trajectories": 64},
        "AdvUnlearn on the embedded checkpoint: the best of its few rows in benchmarks/toybox_sweep.jsonl. It leads "
        "the concept to the empty prompt and not beyond it, which would take the neighbour along.",
    ),
    "toybox: salun": Preset(
        "salun",
        {"layers": "all", "steps": 600, "batch_size": 8, "learning_rate": 1e-4, "remain_weight": 1.0},
        "SalUn on the embedded checkpoint: the best of its few rows in benchmarks/toybox_sweep.jsonl. After a third of "
        "these steps half of what the concept's prompts ask for is broken instead.",
    ),
    "paper: advunlearn, nudity": Preset(
        "advunlearn",
        {"steps": 1000, "batch_size": 1, "learning_rate": 1e-5, "guidance": 1.0, "plain_steps": 200}
        | {"attack_every": 1, "attack_steps": 30, "attack_rate": 1e-3, "attack_start": "random", "prefix_tokens": 1}
        | {"retain_weight": 0.3, "retain_batch": 5, "sampling_steps": 50, "trajectories": 200}
        | {"retain_trajectories": 200, "max_grad_norm": 0.0},
        "AdvUnlearn on Stable Diffusion as in its official code's example, which samples trajectories anew at every "
        "step; its prompts that are to stay are photos of COCO's things too.",
    ),
    "paper: salun, nudity": Preset(
        "salun",
        {"layers": "all", "mask_ratio": 0.5, "saliency_samples": 800, "saliency_guidance": 7.5, "steps": 100}
        | {"batch_size": 8, "learning_rate": 1e-5, "remain_weight": 0.1, "max_grad_norm": 0.0},
        "SalUn on Stable Diffusion as in its official code, which has 800 unsafe and 800 safe pictures under one "
        "prompt each and sees each once. To match it name the one anchor.",
    ),
    "paper: salun, object": Preset(
        "salun",
        {"layers": "all", "mask_ratio": 0.5, "saliency_samples": 800, "saliency_guidance": 7.5, "steps": 500}
        | {"batch_size": 8, "learning_rate": 1e-5, "remain_weight": 0.5, "max_grad_norm": 0.0},
        "The same with the weight and the five rounds of its example for a class of pictures.",
    ),
    "paper: nudity": Preset(
        "duo",
        {"steps": 1000, "batch_size": 4, "learning_rate": 6e-5, "beta": 500.0, "prior_weight": 5e6},
        "DUO on Stable Diffusion 1.4 as published: base rate 3e-4 x 100 / beta, base lambda 1e6 x beta / 100.",
    ),
    "paper: violence": Preset(
        "duo",
        {"steps": 500, "batch_size": 4, "learning_rate": 3e-5, "beta": 1000.0, "prior_weight": 1e7}
        | {"one_adapter_a_group": True},
        "DUO on Stable Diffusion 1.4 as published: an adapter of each sub-concept at beta 1000, and their sum. The "
        "groups are those of the prompts; “Violence” among the ready-made ones has four.",
    ),
    "paper: esd-x": Preset(
        "esd",
        {"steps": 200, "batch_size": 1, "learning_rate": 5e-5, "eta": 2.0, "sampling_steps": 50, "trajectories": 200}
        | {"max_grad_norm": 0.0},
        "ESD-x on Stable Diffusion as in its present code.",
    ),
    "paper: esd-u": Preset(
        "esd",
        {"variant": "esd-u", "steps": 200, "batch_size": 1, "learning_rate": 5e-5, "eta": 2.0}
        | {"sampling_steps": 50, "trajectories": 200, "max_grad_norm": 0.0},
        "ESD-u on Stable Diffusion as in its present code: for concepts that go by many names, such as nudity.",
    ),
    "paper: uce": Preset(
        "uce",
        {"erase_scale": 1.0, "preserve_scale": 1.0, "ridge": 0.5},
        "UCE on Stable Diffusion as in its official code, which erases towards the empty prompt.",
    ),
    "paper: uce, style": Preset(
        "uce",
        {"erase_scale": 1.0, "preserve_scale": 1.0, "ridge": 0.5, "guides": ["art"]},
        "UCE as its official code erases an artist's style: the name is to mean art.",
    ),
    "paper: rece": Preset(
        "rece",
        {"erase_scale": 1.0, "preserve_scale": 0.1, "ridge": 0.1, "derive_ridge": 0.1, "rounds": 3}
        | {"keep_erased": False},
        "RECE with its official code's values for nudity; for other unsafe concepts it has 2 rounds, for styles and "
        "objects 1, there with μ 0.001. That code begins with a UCE of λ 0.5, edits all tokens of a prompt and keeps "
        "the best round by its detector; here the last content token counts, and the last round.",
    ),
    "paper: spm": Preset(
        "spm",
        {"steps": 3000, "batch_size": 1, "learning_rate": 1e-4, "anchor_weight": 1000.0, "anchors": 4, "guidance": 1.0}
        | {"sampling_steps": 30, "trajectories": 200, "schedule": "cosine", "warmup_steps": 500, "max_grad_norm": 0.0},
        "SPM on Stable Diffusion as in its official code; trajectories are the frozen model's here, sampled once, and "
        "the learning rate's cosine has no restarts (two there).",
    ),
    "paper: concept ablation": Preset(
        "concept-ablation",
        {"layers": "attn2-kv", "steps": 100, "batch_size": 8, "learning_rate": 1.6e-5, "pictures": 200}
        | {"picture_guidance": 6.0, "sampling_steps": 50},
        "Concept Ablation of a style or an instance as in its official code: 2e-6 times a batch of 8. Name the anchor.",
    ),
    "paper: forget-me-not": Preset(
        "forget-me-not",
        {"layers": "all", "end_tokens": True, "steps": 35, "batch_size": 1, "learning_rate": 2e-6},
        "Forget-Me-Not as in its official code, without its textual inversion.",
    ),
    "paper: selective amnesia, nudity": Preset(
        "selective-amnesia",
        {"layers": "not-attn2", "batch_size": 4, "learning_rate": 1e-5, "fisher_weight": 50.0, "replay_weight": 1.0}
        | SELECTIVE_AMNESIA,
        "Selective Amnesia's published weights and rate; it trains for 500 epochs on four GPUs and replays 5,000 "
        "pictures, so choose the steps and the pictures. Its Fisher squares the sum of a picture's gradients over all "
        "1,000 timesteps, and is larger by about that or more: λ 50 holds less here, raise it where too much is lost.",
    ),
    "paper: selective amnesia, person": Preset(
        "selective-amnesia",
        {"layers": "all", "batch_size": 4, "learning_rate": 1e-5, "fisher_weight": 50.0, "replay_weight": 1.0}
        | SELECTIVE_AMNESIA,
        "The same on every weight and for 200 epochs, as in its official code for the names of persons.",
    ),
}

# The memory of usual GPUs in 10^9 bytes: switches that make a training fit are chosen by `studio.estimates.fitting`.
MEMORY_PRESETS: dict[str, float] = {f"{size} GB": float(size) for size in (8, 12, 16, 24, 48, 80)}

TOYBOX_PAIRS: dict[str, Any] = {"strength": 0.7}
TOYBOX_SAMPLING: dict[str, Any] = {"steps": 20, "guidance_scale": 4.0}


def presets_for(method: str) -> dict[str, Preset]:
    """The presets of one method, by name."""
    return {name: preset for name, preset in PRESETS.items() if preset.method == method}
