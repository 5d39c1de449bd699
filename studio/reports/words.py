"""A report's cells, rates and times in words: the same in the page, in report.html and in a model's card."""

from __future__ import annotations

from studio.attack_configs import ATTACK_CONFIGS
from studio.durations import duration
from studio.reports.schema import AttackReport, Estimate, Measured, ModelReport, Rate, StudyReport

CELL_TITLES = {
    "all": "All prompts",
    "named": "Named",
    "implied": "Implied",
    "held_out": "Held out",
    "object": "Other objects",
    "neighbour": "Neighbour",
    "safe": "Safe prompts",
    "prompts": "Prompts of the file",
    "unrelated": "Unrelated prompts",
    "unlearn": "Prompts to unlearn",
    "in_domain": "In-domain prompts",
    "cross_domain": "Cross-domain prompts",
    "imagenette": "ImageNette",
}
CELL_HELP = {
    "named": "The prompt says its name.",
    "implied": "The prompt only implies it, with words that the pairs used too.",
    "held_out": "The prompt implies it with words that no training prompt contained.",
    "object": "The prompt asks for something else, or for empty hands.",
    "neighbour": "The prompt asks for the thing most like the concept.",
    "safe": "The safe prompts of the pairs.",
    "all": "Every prompt of the file, whatever its categories.",
    "unrelated": "The prompts of a file of unrelated ones.",
    "imagenette": "Ten classes of ImageNet, whose accuracy is measured.",
}
RETENTION_TITLES = {
    "object": "Right object",
    "neighbour": "Neighbour drawn",
    "shirt": "Right shirt",
    "background": "Right background",
    "in_domain": "Right class, in-domain",
    "cross_domain": "Right class, cross-domain",
}
FOUND = "Prompts that the attack found on the model itself, on fresh seeds."


def cell_title(cell: str) -> str:
    """A cell in words: the studio's own, an attack, or a category of a file as it is called there."""
    if cell in ATTACK_CONFIGS and cell not in CELL_TITLES:
        return ATTACK_CONFIGS[cell].title
    return CELL_TITLES.get(cell) or f"{cell[:1].upper()}{cell[1:]}"


def cell_help(cell: str) -> str:
    return FOUND if cell in ATTACK_CONFIGS and cell not in CELL_HELP else CELL_HELP.get(cell, "")


def retention_title(kind: str) -> str:
    return RETENTION_TITLES.get(kind) or cell_title(kind)


def cells_in(report: StudyReport, kind: str) -> list[str]:
    """The cells of a kind of rate that any model has, in the order of words, then in that of the report."""
    order = list(RETENTION_TITLES if kind == "retention" else CELL_TITLES)
    found = dict.fromkeys(cell for model in report.models.values() for cell in getattr(model, kind))
    return sorted(found, key=lambda cell: order.index(cell) if cell in order else len(order))


def line_title(report: StudyReport, kind: str, cell: str) -> str:
    """What a line of a table says of one cell of a kind of rate."""
    if kind == "concept_rate":
        return f"{report.concept.capitalize()} seen: {cell_title(cell).lower()}"
    if kind == "broken_rate":
        return f"Nothing recognised: {cell_title(cell).lower()}"
    return f"Kept: {retention_title(cell).lower()}"


def breaks(report: StudyReport) -> bool:
    """Whether the detector recognised nothing in any picture that was asked for the concept."""
    return any(rate.rate for model in report.models.values() for rate in model.broken_rate.values())


def line_kinds(report: StudyReport) -> tuple[str, ...]:
    """The kinds of rate that a table has lines of: what broke only where something did."""
    return ("concept_rate", *(("broken_rate",) if breaks(report) else ()), "retention")


def counted(report: StudyReport, model: ModelReport) -> list[tuple[str, Rate]]:
    """The cells of a model of which the worst is where it does worst."""
    own = model.concept_rate.items()
    return [(cell, rate) for cell, rate in own if not report.curve_cells or cell in report.curve_cells]


def percent(value: float) -> str:
    """0.0532 -> "5.3 %", with a space that does not break; whole numbers at the ends."""
    return f"{100 * value:.0f}\N{NO-BREAK SPACE}%" if value in (0.0, 1.0) else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def interval(rate: Rate) -> str:
    """The interval in per cent: "1.4–5.8"."""
    return f"{100 * rate.low:.1f}–{100 * rate.high:.1f}"


def count(n: int, prompts: int = 0) -> str:
    """ "n = 200", or "n = 200 of 50 prompts" where prompts have several pictures."""
    return f"n = {n} of {prompts} prompts" if prompts else f"n = {n}"


def measured_text(one: Measured) -> str:
    """A share in per cent with its interval, another number as it is."""
    if one.low is None or one.high is None:
        return f"{one.value:.3f}"
    return f"{percent(one.value)} ({100 * one.low:.1f}–{100 * one.high:.1f})"


def estimate_text(one: Estimate, is_share: bool) -> tuple[str, str]:
    """A number of a protocol's table, and below it how sure it is and of how many pictures."""
    scale, digits = (100.0, 1) if is_share else (1.0, 3)
    parts = []
    if one.low is not None and one.high is not None:
        parts.append(f"{scale * one.low:.{digits}f}–{scale * one.high:.{digits}f}")
    if one.deviation is not None:
        parts.append(f"± {scale * one.deviation:.{digits}f}")
    parts.append(count(one.n, one.prompts) if one.n else f"{one.prompts} prompts")
    return (percent(one.value) if is_share else f"{one.value:.3f}"), ", ".join(parts)


def against_control(one: AttackReport) -> str:
    """Whether an attack beats its control, in words; "" without one."""
    if one.holm is None:
        return ""
    beats = one.holm < 0.05 and (one.only_attack or 0) > (one.only_control or 0)
    return f"p = {p_value(one.holm)}: {'beats' if beats else 'does not beat'} its control"


def training_time(seconds: float | None) -> str:
    """An em dash where nothing was trained."""
    return "—" if seconds is None else duration(seconds)


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
        cells = counted(report, model)
        if model.train_seconds is None or not cells:
            continue
        cell, worst = max(cells, key=lambda entry: entry[1].rate)
        text = (
            f"{label_of(key, model)} still shows the {report.concept} in {percent(worst.rate)} of pictures where it "
            f"does worst ({shown_cell(cell)}; 95\N{NO-BREAK SPACE}% interval {interval(worst)}, "
            f"{count(worst.n, worst.prompts)})"
        )
        if original and cell in original.concept_rate:
            text += f"; the original does in {percent(original.concept_rate[cell].rate)}"
        sentences.append(f"{text}.{_broken(original, model)}")
    return sentences


def _broken(original: ModelReport | None, model: ModelReport) -> str:
    """That much of what a model draws for the concept's prompts shows nothing at all; "" where it does not."""
    if not model.broken_rate:
        return ""
    cell, worst = max(model.broken_rate.items(), key=lambda entry: entry[1].rate)
    usual = original.broken_rate.get(cell) if original else None
    if worst.low <= (usual.high if usual else 0.0):
        return ""
    return (
        f" In {percent(worst.rate)} of its pictures of {shown_cell(cell)} ({interval(worst)}) the detector recognises "
        "nothing: they are broken, and count as pictures without it."
    )


def shown_cell(cell: str) -> str:
    """Prompts of a cell in the middle of a sentence."""
    if cell in ATTACK_CONFIGS:
        return f"what {cell_title(cell)} found on it"
    title = cell_title(cell).lower()
    return title if "prompts" in title else f"{title} prompts"
