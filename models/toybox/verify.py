"""Measure the embedded checkpoint against its bars: `python -m models.toybox.verify`.

Per cell (an object named, or implied by a role) it samples pictures on seeds that training never used and asks the
detector for object, shirt and background. The detector is not its own judge: `pixel_judge`, which has no learned
weights, looks at the same pictures, and their agreement is printed too. Writes a JSON file and a contact sheet;
`--card` puts the figures and the sheet into the checkpoint's card.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from models.bundle import ModelBundle
from models.loading import load_bundle
from models.toybox.captions import IMPLIED, NEUTRAL_ROLES, PERSONS, SYNONYMS, canonical_prompt
from models.toybox.data import make_bank
from models.toybox.detector import OBJECT_LABELS, DetectorNet, load_detector, predict
from models.toybox.pixel_judge import judge_batch
from models.toybox.renderer import contact_sheet
from models.toybox.scenes import BACKGROUNDS, OBJECTS, SHIRTS

FIRST_SEED = 3_000_000_000  # pairs, sweeps and reports use seeds below
HELD_OUT_BANK = 987_654_321  # seed of renders that no training saw
CARD = Path(__file__).parent / "README.md"
CARD_START = "<!-- measured: written by `python -m models.toybox.verify --card` -->"
CARD_END = "<!-- end measured -->"
NAMED_BAR, IMPLIED_BAR, SCENE_BAR, RENDER_BAR, AGREEMENT_BAR = 0.95, 0.90, 0.95, 0.99, 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent / "weights")
    parser.add_argument("--model", choices=("toybox", "toybox:oracle"), default="toybox")
    parser.add_argument("--n", type=int, default=200, help="pictures a cell")
    parser.add_argument("--out", type=Path, default=Path("toybox-verify"), help="folder for verify.json and sheet.png")
    parser.add_argument("--card", action="store_true", help="update models/toybox/README.md and its sheet")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    net = load_detector(options.weights / "detector.safetensors")
    bundle = load_bundle(options.model, toybox=options.weights)
    result, pictures = measure(bundle, net, options.n)
    result["renders"] = render_accuracy(net)
    (options.out / "verify.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    sheet = contact_sheet(pictures, columns=20)
    sheet.save(options.out / "sheet.png")
    if options.card:
        write_card(result, sheet)
    print(json.dumps(result, indent=1))
    if missed := shortfalls(result):
        sys.exit("Below the bar: " + "; ".join(missed))


def write_card(result: dict[str, dict], sheet: Image.Image) -> None:
    """Put the measured table and the contact sheet where readers of the repository see them."""
    before, rest = CARD.read_text(encoding="utf-8").split(CARD_START)
    _, after = rest.split(CARD_END)
    CARD.write_text(f"{before}{CARD_START}\n{table(result)}\n{CARD_END}{after}", encoding="utf-8")
    sheet.save(CARD.parent / "contact-sheet.png", optimize=True)
    (CARD.parent / "measured.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def table(result: dict[str, dict]) -> str:
    """The figures as Markdown."""
    lines = [
        "Share of right objects (by the detector, and by pixels), shirts and backgrounds, on unseen seeds:",
        "",
        "| prompt | object | by pixels | shirt | background | n |",
        "|---|---|---|---|---|---|",
    ]
    for cell, rates in result["cells"].items():
        figures = " | ".join(f"{rates[key]:.3f}" for key in ("object", "object_by_pixels", "shirt", "background"))
        lines.append(f"| {cell} | {figures} | {rates['n']} |")
    worst = min(rate for labels in result["renders"].values() for rate in labels.values())
    judges = result["judges"]
    lines += [
        "",
        f"The detector's worst label on 4,000 unseen renders: {worst:.4f}. The two judges name the same object in "
        f"{judges['agreement']:.3f} of {judges['n']} generated pictures.",
    ]
    return "\n".join(lines)


def cells() -> dict[str, tuple[str, list[tuple[str, str | None]]]]:
    """Cell name -> (object expected, [(subject, object word)])."""
    table: dict[str, tuple[str, list[tuple[str, str | None]]]] = {}
    for name in OBJECTS:
        words: tuple[str | None, ...] = SYNONYMS[name] or (None,)
        table[f"named {name}"] = (name, [(person, word) for word in words for person in PERSONS])
        roles = NEUTRAL_ROLES if name == "none" else IMPLIED[name]
        table[f"implied {name}"] = (name, [(role, None) for role in roles])
    return table


def measure(bundle: ModelBundle, net: DetectorNet, n: int) -> tuple[dict[str, dict], list[np.ndarray]]:
    """Rates of right objects, shirts and backgrounds a cell, the two judges' agreement, and 20 pictures a cell."""
    places = list(product(SHIRTS, BACKGROUNDS))
    result: dict[str, dict] = {"cells": {}}
    gallery: list[np.ndarray] = []
    agree: list[bool] = []
    for number, (cell, (expected, subjects)) in enumerate(cells().items()):
        wanted = [places[(7 * i) % len(places)] for i in range(n)]
        prompts = [canonical_prompt(*subjects[i % len(subjects)], *wanted[i]) for i in range(n)]
        images = bundle.generate(prompts, [FIRST_SEED + number * 100_000 + i for i in range(n)]).images
        seen = predict(net, images)
        objects = [OBJECT_LABELS[i] for i in seen["object_probs"].argmax(axis=1)]
        right_shirt = [SHIRTS[i] == s for i, (s, _) in zip(seen["shirt_probs"].argmax(axis=1), wanted, strict=True)]
        right_place = [
            BACKGROUNDS[i] == b for i, (_, b) in zip(seen["background_probs"].argmax(axis=1), wanted, strict=True)
        ]
        verdicts = judge_batch(images)
        agree += [verdict["object"] == name for verdict, name in zip(verdicts[:30], objects[:30], strict=True)]
        result["cells"][cell] = {
            "object": float(np.mean([name == expected for name in objects])),
            "object_by_pixels": float(np.mean([verdict["object"] == expected for verdict in verdicts])),
            "shirt": float(np.mean(right_shirt)),
            "background": float(np.mean(right_place)),
            "n": n,
            "seen": {name: objects.count(name) for name in OBJECT_LABELS if name in objects},
        }
        gallery += list(images[:20])
    result["judges"] = {"agreement": float(np.mean(agree)), "n": len(agree)}
    return result, gallery


def render_accuracy(net: DetectorNet, count: int = 4000) -> dict[str, dict[str, float]]:
    """The detector's accuracy on renders that training never saw, a label: of the pictures that bear it."""
    bank = make_bank(count, HELD_OUT_BANK)
    seen = predict(net, bank.pictures)
    accuracy: dict[str, dict[str, float]] = {}
    for head, names in (("object", OBJECT_LABELS), ("shirt", SHIRTS), ("background", BACKGROUNDS)):
        truth = np.array([getattr(scene, head) for scene in bank.scenes])
        guess = np.array(names)[seen[f"{head}_probs"].argmax(axis=1)]
        accuracy[head] = {str(label): float((guess == truth)[truth == label].mean()) for label in sorted(set(truth))}
    return accuracy


def shortfalls(result: dict[str, dict]) -> list[str]:
    """The figures that miss their bar, in words."""
    missed = []
    for cell, rates in result["cells"].items():
        bars = {
            "object": NAMED_BAR if cell.startswith("named") else IMPLIED_BAR,
            "shirt": SCENE_BAR,
            "background": SCENE_BAR,
        }
        missed += [f"{cell} {key} {rates[key]:.3f} < {bar}" for key, bar in bars.items() if rates[key] < bar]
    for head, labels in result["renders"].items():
        missed += [f"renders {head} {key} {rate:.4f}" for key, rate in labels.items() if rate < RENDER_BAR]
    if result["judges"]["agreement"] < AGREEMENT_BAR:
        missed.append(f"judges agree on {result['judges']['agreement']:.3f} < {AGREEMENT_BAR}")
    return missed


if __name__ == "__main__":
    main()
