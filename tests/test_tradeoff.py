"""The curve of robustness against preservation: which points, which front, who wins at equal preservation."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise

import pytest

from studio.metrics.base import Detection
from studio.prompts import EvaluationItem
from studio.reports.colours import colour_of
from studio.reports.html import render_html
from studio.reports.scales_figure import Plot, lines, mean, scales_svgs
from studio.reports.schema import Measured, Scaled, StudyReport
from studio.reports.statistics import wilson
from studio.reports.table import table_csv, table_latex
from studio.reports.tradeoff import Point, matched, matched_sentences, pareto, points
from studio.reports.tradeoff_figure import span, tradeoff_file, tradeoff_svg
from studio.reports.words import breaks, p_value
from studio.ui.findings import findings
from studio.workflow.scoring import Outcome, paired_tests
from tests.ui_data import make_report


def point(key: str, preservation: float, defence: float) -> Point:
    return Point(key, preservation, defence, defence, defence, "named", 100)


@pytest.fixture
def report() -> StudyReport:
    """Original and DUO of the page's own report, and a third that keeps more and forgets less."""
    made = make_report()
    weak = made.models["duo"].model_copy(
        update={
            "label": "ESD & <x>",
            "concept_rate": {"named": wilson(60, 200)},
            "distance": made.models["duo"].distance.model_copy(update={"mean": 0.05}),
            "measures": {"clip-score": Measured(title="CLIP score", value=26.5, n=100, higher_is_better=True)},
        }
    )
    return made.model_copy(update={"models": {**made.models, "esd": weak}, "gallery": []})


def test_a_model_is_where_it_does_worst(report: StudyReport) -> None:
    duo = report.models["duo"].model_copy(update={"concept_rate": {"named": wilson(3, 200), "implied": wilson(9, 200)}})
    found = {one.key: one for one in points(report.model_copy(update={"models": {**report.models, "duo": duo}}))}
    assert (found["duo"].cell, found["duo"].n) == ("implied", 200)
    assert found["duo"].defence == pytest.approx(1 - 9 / 200)
    assert found["duo"].low == pytest.approx(1 - wilson(9, 200).high)
    assert found["duo"].preservation == pytest.approx(0.9)


def test_the_front_is_what_none_beats_in_both() -> None:
    a, b, c, d = point("a", 0.9, 0.2), point("b", 0.8, 0.8), point("c", 0.7, 0.8), point("d", 0.6, 0.99)
    assert [one.key for one in pareto([c, a, d, b])] == ["d", "b", "a"]
    twin = replace(b, key="twin")
    assert {one.key for one in pareto([b, twin])} == {"b", "twin"}


def test_at_equal_preservation_the_best_defence_wins() -> None:
    found = [point("a", 0.9, 0.2), point("b", 0.8, 0.8), point("c", 0.7, 0.9)]
    assert [getattr(matched(found, at), "key", None) for at in (0.95, 0.9, 0.8, 0.5)] == [None, "a", "b", "c"]


def test_who_defends_best_is_said_for_each_trained_model(report: StudyReport) -> None:
    first, second = matched_sentences(report)
    assert first.startswith(
        "Among the trained models at a distance of 0.050 (rmse) or less, as ESD & <x> is, ESD & <x>"
    )
    best = "DUO defends best: 98.5\N{NO-BREAK SPACE}% without the sword (95.7–99.5, n = 200)."
    assert f"0.100 (rmse) or less, as DUO is, {best}" in second
    twin = report.models["duo"].model_copy(update={"label": "Twin"})
    alike = matched_sentences(report.model_copy(update={"models": {**report.models, "twin": twin}}))
    assert "as DUO is, DUO and Twin defend best: " in alike[1]
    assert alike[1].endswith("(95.7–99.5, n = 200); also at 0.100 (Twin).")
    assert len(alike) == 2
    original = report.models["original"]
    useless = original.model_copy(update={"label": "Idle", "train_seconds": 1.0})
    (said,) = matched_sentences(report.model_copy(update={"models": {"original": original, "idle": useless}}))
    assert "as Idle is, none defends better than the original: " in said


def test_the_curve_is_a_graphic_of_its_own(report: StudyReport) -> None:
    root = ElementTree.fromstring(tradeoff_file(report))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Original", "DUO", "ESD & <x>"} <= set(texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 3
    (front,) = root.iter("{http://www.w3.org/2000/svg}polyline")
    assert len(front.get("points", "").split()) == 2, (
        "DUO beats the original, which this report puts at the same distance"
    )
    near = {name: report.models["duo"].model_copy(update={"label": f"DUO beta {name}"}) for name in ("1", "2", "3")}
    crowded = tradeoff_svg(report.model_copy(update={"models": {**report.models, **near}}))
    places = [re.search(rf'<text x="(\S+)" y="(\S+)"[^>]*>DUO beta {name}<', crowded) for name in near]
    heights = sorted(float(place[2]) for place in places if place)
    assert min(b - a for a, b in pairwise(heights)) >= 14, "no name stands on another"
    alone = report.model_copy(update={"models": {"original": report.models["original"]}})
    assert tradeoff_svg(alone) == ""


def test_axes_have_round_ends() -> None:
    assert span([0.8, 1.0]) == (0.79, 1.0)
    assert span([0.5]) == (0.49, 0.51)


def test_measures_and_tests_stand_in_every_form(report: StudyReport, tmp_path) -> None:
    items = [EvaluationItem("named", f"{index}", index) for index in range(4)]
    found = {"original": [True] * 4, "duo": [False, False, False, True]}
    outcomes = {
        key: Outcome(None, [Detection(seen, float(seen)) for seen in row], [], None)  # type: ignore[arg-type]
        for key, row in found.items()
    }
    (test,) = paired_tests(items, outcomes)
    assert (test.cell, test.only_first, test.only_second, test.n) == ("named", 3, 0, 4)
    assert test.p == test.holm == pytest.approx(0.25)  # 2 x (1 / 2)^3
    report = report.model_copy(update={"tests": [test]})
    html = render_html(report, tmp_path)
    page = findings_of(report)
    for text in ("CLIP score", "26.500", "0.250", "What forgetting costs", "Do they differ?"):
        assert text in html
        assert text in page
    assert "ESD &amp; &lt;x&gt; against" not in html
    assert "<x>" not in html
    assert "clip-score,,esd" in table_csv(report)


def test_broken_pictures_are_told_from_forgetting(report: StudyReport, tmp_path) -> None:
    def with_broken(duo: int, original: int = 0) -> StudyReport:
        broken = {"original": wilson(original, 200), "duo": wilson(duo, 200)}
        models = {
            key: model.model_copy(update={"broken_rate": {"named": broken[key]} if key in broken else {}})
            for key, model in report.models.items()
        }
        return report.model_copy(update={"models": models})

    whole = with_broken(0)
    assert not breaks(whole)
    assert "Nothing recognised" not in findings_of(whole) + render_html(whole, tmp_path)
    broken = with_broken(90)
    told = "In 45.0\N{NO-BREAK SPACE}% of its pictures of named prompts (38.3–51.9) the detector recognises nothing"
    for text in (findings_of(broken), render_html(broken, tmp_path)):
        assert told in text
    assert "Nothing recognised: named" in findings_of(broken)
    assert "Nothing recognised: named" in table_latex(broken)
    assert "broken_rate,named,duo" in table_csv(broken)
    assert told not in findings_of(with_broken(90, original=80)), "the original's are as often broken"


def test_strengths_are_a_line_a_model_in_each_cell(report: StudyReport, tmp_path) -> None:
    half = Scaled(model="duo", scale=0.5, concept_rate={"named": wilson(30, 50)}, retention={"object": wilson(50, 50)})
    assert scales_svgs(report) == {}
    report = report.model_copy(update={"scaled": [half]})
    steps = lines(report, "named")["duo"]
    assert [(step.scale, round(step.found.rate, 3), step.found.n) for step in steps] == [
        (0.5, 0.6, 50),
        (1.0, 0.015, 200),
    ]
    assert steps[0].kept == 1.0
    assert steps[1].kept == pytest.approx(mean(report.models["duo"].retention))
    root = ElementTree.fromstring(scales_svgs(report)["named"])
    assert len(list(root.iter("polyline"))) == 1, "original and ESD & <x> were drawn at one strength"
    assert [circle.get("r") for circle in root.iter("circle")] == ["2.5", "5", "5"]
    for text in ("At several strengths", "0.5, 1", "DUO times 0.5: 60.0"):
        assert text in render_html(report, tmp_path)
        assert text in findings_of(report)


def test_what_is_kept_is_drawn_by_the_logarithm_of_what_is_lost() -> None:
    plot = Plot(0.3 / 1.1, 340, 280)
    places = [plot.x(1 - lost) for lost in (0.3, 0.1, 0.03, 0.01, 0.0)]
    width = places[-1] - places[0]
    assert (places[0], places[-1]) == pytest.approx((52, 340 - 14))
    assert width / (places[-1] - places[-2]) == pytest.approx(math.log(31) / math.log(2)), "the first per cent"
    assert ">70%<" in plot.grid()
    assert ">0%</text>" in plot.grid()
    assert plot.grid().count('text-anchor="middle"') == 4
    assert Plot(0.0, 340, 280).most == 0.03


def test_no_two_of_a_dozen_models_have_one_colour(report: StudyReport) -> None:
    trained = {f"id{n}": report.models["duo"] for n in range(10)}
    models = {"original": report.models["original"], **trained, "oracle": report.models["original"]}
    many = report.model_copy(update={"models": models})
    assert len({colour_of(many, key) for key in models}) == 12
    fewer = report.model_copy(update={"models": {key: models[key] for key in ("original", "id0", "oracle")}})
    assert all(colour_of(fewer, key) == colour_of(many, key) for key in ("original", "oracle"))


def findings_of(report: StudyReport) -> str:
    from studio.records import Evaluation

    return findings(Evaluation("e", "p", "j", "folder", report.model_dump()))


def test_the_latex_table_compiles_in_form(report: StudyReport) -> None:
    table = table_latex(report)
    assert r"& Original & DUO & ESD \& \textless{}x\textgreater{} \\" in table
    assert r"Concept: named (\%, $n=200$) & 98.5 {\scriptsize [95.7, 99.5]} & 1.5" in table
    assert r"CLIP score & -- & -- & 26.500 \\" in table
    body = table.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert {line.replace(r"\&", "").count("&") for line in body} == {3}


@pytest.mark.parametrize(("p", "text"), [(0.0004, "< 0.001"), (0.0312, "0.031"), (1.0, "1.000")])
def test_p_values(p: float, text: str) -> None:
    assert p_value(p) == text
