"""Published ways to measure, as presets of an evaluation: what each draws, what it needs, how it differs. Torch-free.

A protocol is a set of values of `EvaluateConfig` that may be changed one by one, cells of prompts, and a table of its
own figures. What it lacks here (a file, a detector, an attack, a network) is said before the first picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from models.specs import parse_reference
from studio.attack_configs import ATTACK_CONFIGS
from studio.configs import EvaluateConfig
from studio.prompt_sources import PromptFileError, recognise, stream_prompts
from studio.prompts import CONCEPT
from studio.records import Checkpoint, Job, Project
from studio.refusal import refuse

NAMING = ("toybox", "imagenet", "clip", "external")  # detectors that say what they see, not only whether
PAPER_SAMPLING = {"steps": 50, "guidance_scale": 7.5}
DOMAINS = {
    "unlearn": "unlearn", "target": "unlearn",
    "in-domain": "in_domain", "in_domain": "in_domain", "in": "in_domain",
    "cross-domain": "cross_domain", "cross_domain": "cross_domain", "cross": "cross_domain",
}  # fmt: skip
COCO_FILE = (
    "COCO's captions: captions_val2014.json of https://cocodataset.org, or a CSV with the columns image_id and prompt, "
    "such as coco_30k.csv of the ESD repository"
)


@dataclass(frozen=True)
class Protocol:
    """One published way to measure."""

    name: str
    title: str
    paper: str
    about: str
    values: dict[str, Any] = field(default_factory=dict)  # of EvaluateConfig
    embedded: dict[str, Any] = field(default_factory=dict)  # the same on the embedded checkpoint
    prompts: str = ""  # which file of prompts that ask for the concept, and where it is; "" takes none
    columns: tuple[str, ...] = ()  # that such a file must have: one name of each, see ALTERNATIVES
    unrelated: str = ""  # which file of prompts without the concept; "" takes none
    attacks: tuple[str, ...] = ()  # whose finds it counts
    prompts_replace: str = ""  # … the attack that a file of prompts stands for
    measures: tuple[str, ...] = ()
    distance: str = ""  # that it must have
    names_needed: bool = False  # a detector that names what it sees
    differs: tuple[str, ...] = ()  # from the publication, in words

    def preset(self, checkpoint: str) -> dict[str, Any]:
        """Its values for a checkpoint."""
        return self.embedded if parse_reference(checkpoint).kind == "toybox" else self.values


_FID = "FID is the distance to the original model's pictures of the same prompts and seeds, not to COCO's photographs."
_DETECTOR = "Pictures are judged by the project's detector at its threshold, whatever the authors used."
_COCO: dict[str, Any] = {
    "paper": "Lin 2014, Microsoft COCO, https://arxiv.org/abs/1405.0312",
    "unrelated": COCO_FILE,
    "measures": ("fid", "clip-score"),
    "differs": (_FID, "CLIP score is 100 x cosine by ViT-L/14; some papers print ViT-B/32 or 2.5 x cosine."),
}

PROTOCOLS: dict[str, Protocol] = {
    one.name: one
    for one in (
        Protocol(
            "duo",
            "DUO: defence and preservation",
            "Park 2024, Direct Unlearning Optimization for Robust and Safe Text-to-Image Models, "
            "https://arxiv.org/abs/2407.21035",
            "Defence success rate against Ring-A-Bell and Concept Inversion, and LPIPS on unrelated prompts.",
            values={**PAPER_SAMPLING, "n": 100},
            prompts="Ring-A-Bell's found prompts, where they are to stand for a run of the attack here: a CSV with a "
            "prompt column, or one prompt a line (https://github.com/chiayi-hsu/Ring-A-Bell)",
            unrelated=f"{COCO_FILE}; without a file, the project's own safe prompts",
            attacks=("ring_a_bell", "concept_inversion"),
            prompts_replace="ring_a_bell",
            distance="lpips-alex",
            differs=(
                "Finds of an attack are judged on seeds that were not searched on, and prompts where the plain prompt "
                "works count as they are.",
                _DETECTOR,
            ),
        ),
        Protocol(
            "unlearn-diff-atk",
            "UnlearnDiffAtk: pre-ASR and ASR",
            "Zhang 2023, To Generate or Not? Safety-Driven Unlearned Diffusion Models Are Still Easy To Generate "
            "Unsafe Images, https://arxiv.org/abs/2310.11868",
            "Share of prompts that show the concept as they are (pre-ASR), and with the attack on the others (ASR).",
            values={**PAPER_SAMPLING, "n": 142},
            prompts="the attack's prompts, to have their pre-ASR by every model too: prompts/*.csv of "
            "https://github.com/OPTML-Group/Diffusion-MU-Attack",
            unrelated=COCO_FILE,
            attacks=("unlearn_diff_atk",),
            differs=(
                "ASR is counted on the seed that the attack searched on, as published, and again on fresh seeds.",
                _DETECTOR,
            ),
        ),
        Protocol(
            "i2p",
            "I2P: rate by category",
            "Schramowski 2023, Safe Latent Diffusion, https://arxiv.org/abs/2211.05105",
            "Share of pictures with the concept in each category of the prompt file, and the expected maximum over 25 "
            "prompts.",
            values={**PAPER_SAMPLING, "n": 100_000, "repeats": 10},
            embedded={"n": 25, "repeats": 4},
            prompts="I2P's prompts with their categories: i2p_benchmark.csv of "
            "https://huggingface.co/datasets/AIML-TUDA/i2p",
            columns=("categories",),
            unrelated=COCO_FILE,
            differs=(
                _DETECTOR + " The authors join Q16 and NudeNet.",
                "The file's own guidance is not used: all models get one guidance scale.",
            ),
        ),
        Protocol(
            "coco-3k",
            "COCO-3k: what is kept",
            about="FID and CLIP score on 3,000 captions without the concept.",
            values={**PAPER_SAMPLING, "n": 3000},
            embedded={"n": 1500},
            **_COCO,
        ),
        Protocol(
            "coco-30k",
            "COCO-30k: what is kept",
            about="FID and CLIP score on 30,000 captions without the concept.",
            values={**PAPER_SAMPLING, "n": 30_000},
            embedded={"n": 15_000},
            **_COCO,
        ),
        Protocol(
            "unlearncanvas",
            "UnlearnCanvas's accuracies",
            "after Zhang 2024, UnlearnCanvas, https://arxiv.org/abs/2402.11846",
            "Unlearning accuracy (UA), in-domain and cross-domain retain accuracy (IRA, CRA).",
            values={"steps": 100, "guidance_scale": 9.0, "n": 1000, "repeats": 5},
            embedded={"n": 100},
            prompts="a CSV with the columns prompt, label (the class to be seen, as the detector calls it) and domain "
            "(unlearn, in-domain or cross-domain)",
            columns=("label", "domain"),
            names_needed=True,
            differs=("Classes are those that the project's detector names; the authors trained classifiers.",),
        ),
    )
}  # fmt: skip
ALTERNATIVES = {"categories": ("categories", "category"), "label": ("label", "class", "object"), "domain": ("domain",)}


def is_embedded(project: Project) -> bool:
    """Whether the project forgets the embedded checkpoint's concept, whose prompts are known."""
    return parse_reference(project.checkpoint).kind == "toybox" and project.concept == CONCEPT


def preset_of(name: str, checkpoint: str) -> dict[str, Any]:
    """The values that a protocol starts from; {} without one."""
    return PROTOCOLS[name].preset(checkpoint) if name in PROTOCOLS else {}


def attacks_of(
    protocol: Protocol, config: EvaluateConfig, jobs: Iterable[Job], models: Sequence[Checkpoint]
) -> list[str]:
    """The jobs whose finds are drawn: those that were named, else the newest finished one of each attack and model."""
    if config.attacks:
        return list(dict.fromkeys(config.attacks))
    newest: dict[tuple[str, str], str] = {}
    for job in jobs:
        if job.kind == "attack" and job.state == "done":
            newest.update({(str(job.config["attack"]), victim): job.id for victim in job.config.get("victims", [])})
    wanted = [newest[name, one.id] for name in _counted(protocol, config) for one in models if (name, one.id) in newest]
    return list(dict.fromkeys(wanted))


def lacks(
    protocol: Protocol, config: EvaluateConfig, project: Project, jobs: Sequence[Job], models: Sequence[Checkpoint]
) -> list[str]:
    """What the protocol needs and does not have, each with what to do; networks apart."""
    embedded = is_embedded(project)
    missing = [*_files(protocol, config, embedded)]
    if protocol.names_needed and project.detector not in NAMING:
        missing.append(
            f"The detector {project.detector} does not name what it sees, so accuracies cannot be counted. Use a "
            f"project with one of {', '.join(NAMING)}."
        )
    chosen = [job for job in jobs if job.id in attacks_of(protocol, config, jobs, models)]
    for name in _counted(protocol, config):
        attacked = {victim for job in chosen if job.config["attack"] == name for victim in job.config["victims"]}
        if left := [one for one in models if one.id not in attacked]:
            victims = " ".join(f"--victim {one.id}" for one in left)
            missing.append(
                f"{ATTACK_CONFIGS[name].title} was not run on {', '.join(one.name for one in left)}. Run it in "
                f"Compare, or: python -m studio attack --project {project.id} --attack {name} {victims}"
            )
        elif not models:
            missing.append(f"There is no trained model to attack with {ATTACK_CONFIGS[name].title}; train one first.")
    return missing


def _counted(protocol: Protocol, config: EvaluateConfig) -> list[str]:
    """The attacks whose finds it needs: a file of prompts may stand for one."""
    return [name for name in protocol.attacks if not (config.prompts and name == protocol.prompts_replace)]


def problem_of(path: str, protocol: Protocol, use: str) -> str:
    """Why a file cannot serve as the protocol's "prompts" or "unrelated" ones, "" where it can."""
    wanted = protocol.prompts if use == "prompts" else protocol.unrelated
    if not wanted:
        return f"{protocol.title} takes no file of {use}; leave {path} out."
    try:
        file = recognise(Path(path))
    except PromptFileError as error:
        return str(error)
    columns = protocol.columns if use == "prompts" else ()
    if absent := [one for one in columns if not set(ALTERNATIVES[one]) & set(file.columns)]:
        return f"{path} has no column {' and none '.join(absent)}. {protocol.title} needs {wanted}."
    return _problem_of_rows(path, Path(path).stat().st_mtime_ns, "domain" in columns)


@lru_cache(maxsize=32)
def _problem_of_rows(path: str, changed: int, with_domains: bool) -> str:
    """Why a file's rows cannot serve: all of them are read, once a state of the file."""
    usable = 0
    try:
        for row in stream_prompts(Path(path)):
            usable += refuse(row.prompt) is None
            if with_domains and row.domain not in DOMAINS:
                return (
                    f"{path}, line {row.line}: the domain is {row.domain!r}; it must be unlearn, in-domain or "
                    "cross-domain."
                )
    except PromptFileError as error:
        return str(error)
    return "" if usable else f"{path} holds no prompt that may be drawn. Add prompts below its head, one a row."


def _files(protocol: Protocol, config: EvaluateConfig, embedded: bool) -> Iterable[str]:
    for paths, use in ((config.prompts, "prompts"), (config.unrelated, "unrelated")):
        yield from filter(None, (problem_of(path, protocol, use) for path in paths))
    if not embedded and protocol.columns and not config.prompts:
        yield f"No file of prompts was given (--prompts). {protocol.title} needs {protocol.prompts}."
    if not embedded and protocol.measures and not config.unrelated:
        yield f"No file of captions was given (--unrelated). {protocol.title} needs {protocol.unrelated}."
