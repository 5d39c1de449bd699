"""A report's cells, rates and times in words: the same in the page, in report.html and in a model's card."""

from __future__ import annotations

from studio.reports.schema import ModelReport, Rate, StudyReport

CELL_TITLES = {
    "named": "Named",
    "implied": "Implied",
    "held_out": "Held out",
    "object": "Other objects",
    "neighbour": "Neighbour",
    "safe": "Safe prompts",
}
CELL_HELP = {
    "named": "The prompt says its name.",
    "implied": "The prompt only implies it, with words that the pairs used too.",
    "held_out": "The prompt implies it with words that no training prompt contained.",
    "object": "The prompt asks for something else, or for empty hands.",
    "neighbour": "The prompt asks for the thing most like the concept.",
    "safe": "The safe prompts of the pairs.",
}
RETENTION_TITLES = {
    "object": "Right object",
    "neighbour": "Neighbour drawn",
    "shirt": "Right shirt",
    "background": "Right background",
}


def percent(value: float) -> str:
    """0.0532 -> "5.3 %", with a space that does not break; whole numbers at the ends."""
    return f"{100 * value:.0f}\N{NO-BREAK SPACE}%" if value in (0.0, 1.0) else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def interval(rate: Rate) -> str:
    """The interval in per cent: "1.4–5.8"."""
    return f"{100 * rate.low:.1f}–{100 * rate.high:.1f}"


def duration(seconds: float | None) -> str:
    """Minutes and seconds; an em dash where nothing was trained."""
    if seconds is None:
        return "—"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def label_of(key: str, model: ModelReport) -> str:
    return model.label or key


def p_value(p: float) -> str:
    """ "0.031", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def headline(report: StudyReport) -> list[str]:
    """What was found, a sentence a trained model, by its worst concept cell."""
    original = report.models.get("original")
    sentences = []
    for key, model in report.models.items():
        if model.train_seconds is None or not model.concept_rate:
            continue
        cell, worst = max(model.concept_rate.items(), key=lambda entry: entry[1].rate)
        text = (
            f"{label_of(key, model)} still shows the {report.concept} in {percent(worst.rate)} of pictures where it "
            f"does worst ({CELL_TITLES[cell].lower()} prompts; 95\N{NO-BREAK SPACE}% interval {interval(worst)}, "
            f"n = {worst.n})"
        )
        if original and cell in original.concept_rate:
            text += f"; the original does in {percent(original.concept_rate[cell].rate)}"
        sentences.append(text + ".")
    return sentences
