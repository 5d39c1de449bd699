"""Rates against hand computations, the stable keys of report.json, and report.html as one offline file."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from studio.reports.grid import compose_grid
from studio.reports.html import write_html
from studio.reports.schema import Distance, ModelReport, StudyReport
from studio.reports.statistics import rate_of, wilson
from studio.reports.words import percent, training_time


def model(label: str, gone: int, kept: int, seconds: float | None = None, **config: object) -> ModelReport:
    return ModelReport(
        concept_rate={"named": wilson(gone, 50), "implied": wilson(gone, 50), "held_out": wilson(gone, 50)},
        retention={name: wilson(kept, 50) for name in ("object", "neighbour")}
        | {name: wilson(2 * kept, 100) for name in ("shirt", "background")},
        distance=Distance(metric="rmse", mean=0.1),
        train_seconds=seconds,
        config=dict(config),
        label=label,
        sha256="ab" * 32 if seconds else "",
    )


@pytest.fixture
def report(tmp_path: Path) -> StudyReport:
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    models = {
        "original": model("Original", 47, 49),
        "duo": model("DUO", 1, 48, 92.4, beta=500.0),
        "esd": model("ESD <x>", 30, 40, 61.0, eta=2.0),
        "oracle": model("Oracle", 0, 49),
    }
    gallery = []
    for cell in ("named", "implied", "held_out", "object", "neighbour"):
        for seed in range(2):
            shots = {}
            for key in models:
                name = f"pictures/{cell}-{seed}-{key}.png"
                Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / name)
                shots[key] = {"picture": name, "found": key == "original", "score": 0.9, "object": "sword"}
            row = {"cell": cell, "prompt": "a knight in a red shirt on the beach", "seed": seed, "shots": shots}
            gallery.append(row)
    return StudyReport.model_validate(
        {
            "checkpoint": "toybox",
            "concept": "sword",
            "seed": 3,
            "models": models,
            "n": 50,
            "detector": {"name": "toybox", "version": "1", "settings": {"threshold": 0.5}},
            "sampling": {"steps": 20, "guidance_scale": 4.0},
            "gallery": gallery,
            "notes": ["Distance is RMSE: LPIPS is not available offline."],
            "command": "python -m studio demo --seed 3",
            "created": "2026-01-02T03:04:05+00:00",
            "studio_version": "0.1.0",
        }
    )


def test_wilson_against_the_formula() -> None:
    k, n, z = 9, 200, 1.959963984540054
    p = k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    rate = wilson(k, n)
    assert rate.rate == p
    assert rate.n == n
    assert rate.low == pytest.approx(middle - half)
    assert rate.high == pytest.approx(middle + half)


def test_wilson_keeps_a_width_at_the_ends() -> None:
    assert wilson(0, 200).low == 0
    assert 0.01 < wilson(0, 200).high < 0.02
    assert wilson(200, 200).high == pytest.approx(1)
    assert wilson(200, 200).low < 0.99


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got {successes} of {n}"):
        wilson(successes, n)


def test_rate_of_outcomes() -> None:
    assert rate_of([True, False, False, True]).rate == 0.5


def test_report_json_has_the_stable_keys(report: StudyReport, tmp_path: Path) -> None:
    report.write(tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text())
    assert {"checkpoint", "concept", "seed", "models"} <= set(data)
    for entry in data["models"].values():
        assert {"concept_rate", "retention", "distance", "train_seconds", "config"} <= set(entry)
        assert set(entry["concept_rate"]) == {"named", "implied", "held_out"}
        assert set(entry["retention"]) == {"object", "neighbour", "shirt", "background"}
        assert all(set(rate) == {"rate", "low", "high", "n"} for rate in entry["concept_rate"].values())
        assert set(entry["distance"]) == {"metric", "mean"}
    assert StudyReport.read(tmp_path / "report.json") == report


def test_a_report_without_the_original_is_refused(report: StudyReport) -> None:
    data = report.model_dump()
    del data["models"]["original"]
    with pytest.raises(ValidationError, match="original"):
        StudyReport.model_validate(data)


def test_report_html_is_one_offline_file(report: StudyReport, tmp_path: Path) -> None:
    html = write_html(report, tmp_path).read_text()
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'> ]*)""", html)
    assert links
    assert all(link.startswith(("data:image/png;base64,", "#pictures-of-")) for link in links)
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert html.count("data:image/png;base64,") == 5 * 2 * 4
    assert html.count("<svg") == 3 + 4 + 1, "a panel a cell and a kind of retention, and the curve"


def test_report_html_shows_every_figure_with_its_interval(report: StudyReport, tmp_path: Path) -> None:
    html = write_html(report, tmp_path).read_text()
    for entry in report.models.values():
        for rate in [*entry.concept_rate.values(), *entry.retention.values()]:
            assert f"{percent(rate.rate)}<small>{100 * rate.low:.1f}–{100 * rate.high:.1f}</small>" in html
    assert "n = 50" in html
    assert "n = 100" in html
    assert "1 min 32 s" in html
    assert "ab" * 32 in html
    assert report.command in html
    assert "LPIPS is not available offline" in html


def test_report_html_escapes_names(report: StudyReport, tmp_path: Path) -> None:
    html = write_html(report, tmp_path).read_text()
    assert "ESD <x>" not in html
    assert "ESD &lt;x&gt;" in html


def test_report_html_without_retention_and_gallery(report: StudyReport, tmp_path: Path) -> None:
    bare = {key: entry.model_copy(update={"retention": {}}) for key, entry in report.models.items()}
    html = write_html(report.model_copy(update={"models": bare, "gallery": []}), tmp_path).read_text()
    assert "Is everything else still there" not in html
    assert "See for yourself" not in html


@pytest.mark.parametrize(("value", "text"), [(0.0, "0 %"), (1.0, "100 %"), (0.0532, "5.3 %"), (0.999, "99.9 %")])
def test_percent(value: float, text: str) -> None:
    assert percent(value).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(("seconds", "text"), [(None, "—"), (42.4, "42 s"), (61.0, "1 min 1 s")])
def test_training_time(seconds: float | None, text: str) -> None:
    assert training_time(seconds) == text


def test_compose_grid_keeps_its_pictures_and_metadata() -> None:
    images = np.random.default_rng(0).integers(0, 255, (2, 3, 64, 64, 3), dtype=np.uint8)
    grid = compose_grid(images, ["seed 1", "seed 2"], ["Original", "DUO", "Oracle"], {"prompt": "a knight"})
    assert grid.text["prompt"] == "a knight"
    picture = np.asarray(grid.image)
    for row in range(2):
        for column in range(3):
            left, top = grid.positions[row][column]
            shown = picture[top : top + grid.tile, left : left + grid.tile]
            small = shown[:: grid.tile // 64, :: grid.tile // 64]
            assert np.array_equal(small, images[row, column])
