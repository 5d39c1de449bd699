"""A comparison's figures as a table that other programs read: one row a measure and model."""

from __future__ import annotations

from collections.abc import Iterator

from studio.csv_files import csv_text
from studio.reports.schema import AttackReport, Rate, StudyReport
from studio.reports.words import estimate_text, interval, label_of, measured_text, percent

COLUMNS = (
    "measure", "cell", "model", "label", "method", "adapter_sha256", "value", "low", "high", "n", "unit", "seed",
    "created",
)  # fmt: skip
MEASURES = {"concept_rate": "Concept", "broken_rate": "Nothing recognised", "retention": "Kept"}  # and a line's title


def table_csv(report: StudyReport) -> str:
    """All rates with their 95 % intervals, then distances and training times."""
    return csv_text(COLUMNS, _rows(report))


def rates_of(report: StudyReport) -> Iterator[tuple[str, str, str, Rate]]:
    """(measure, cell, key of the model, rate) of each, models of a cell together."""
    for measure in MEASURES:
        cells = dict.fromkeys(cell for model in report.models.values() for cell in getattr(model, measure))
        for cell in cells:
            for key, model in report.models.items():
                if cell in getattr(model, measure):
                    yield measure, cell, key, getattr(model, measure)[cell]


def _rows(report: StudyReport) -> Iterator[dict[str, object]]:
    about: dict[str, dict[str, object]] = {
        key: {
            "model": key, "label": label_of(key, model), "method": model.method, "adapter_sha256": model.sha256,
            "seed": report.seed, "created": report.created,
        }
        for key, model in report.models.items()
    }  # fmt: skip
    for measure, cell, key, rate in rates_of(report):
        yield {"measure": measure, "cell": cell, **about[key], **_share(rate)}
    for key, model in report.models.items():
        if model.distance.mean is not None:
            unit = model.distance.metric
            yield {"measure": "distance", **about[key], "value": model.distance.mean, "unit": unit}
        for name, measured in model.measures.items():
            found = {"value": measured.value, "low": measured.low, "high": measured.high, "n": measured.n}
            yield {"measure": name, **about[key], **found, "unit": measured.title}
        if model.train_seconds is not None:
            yield {"measure": "training_time", **about[key], "value": model.train_seconds, "unit": "s"}
    for figure in report.protocol.figures if report.protocol else ():
        for key, one in figure.values.items():
            found = {"value": one.value, "low": one.low, "high": one.high, "n": one.n or one.prompts}
            unit = "share" if figure.is_share else figure.title
            yield {"measure": f"{report.protocol.name if report.protocol else ''}: {figure.name}", **about[key],
                   **found, "unit": unit}  # fmt: skip
    for attack in report.attacks:
        yield from _attack_rows(attack, about)


def _share(rate: Rate) -> dict[str, object]:
    return {"value": rate.rate, "low": rate.low, "high": rate.high, "n": rate.n, "unit": "share"}


def _attack_rows(attack: AttackReport, about: dict[str, dict[str, object]]) -> Iterator[dict[str, object]]:
    """As it was searched, its control, and its line of the transfer matrix; `cell` is where it was found."""
    own = about.get(attack.victim, {"label": attack.victim_name, "adapter_sha256": attack.victim_sha256})
    cell = f"found on {attack.victim_name}"
    lines = (("pre_asr", attack.pre), ("asr", attack.asr), ("asr_plain_fresh", attack.plain))
    for name, rate in (*lines, ("asr_control_fresh", attack.control)):
        if rate is not None:
            yield {"measure": f"{attack.attack}: {name}", "cell": cell, **own, **_share(rate)}
    for key, rate in attack.fresh.items():
        yield {"measure": f"{attack.attack}: asr_fresh", "cell": cell, **about[key], **_share(rate)}


def table_latex(report: StudyReport) -> str:
    """The same figures as a LaTeX table (booktabs): a column a model, rates in per cent with their intervals."""
    labels = [_latex(label_of(key, model)) for key, model in report.models.items()]
    rows: dict[str, dict[str, str]] = {}
    for measure, cell, key, rate in rates_of(report):
        title = f"{MEASURES[measure]}: {_latex(cell.replace('_', ' '))}"
        text = f"{100 * rate.rate:.1f} {{\\scriptsize [{100 * rate.low:.1f}, {100 * rate.high:.1f}]}}"
        rows.setdefault(f"{title} (\\%, $n={rate.n}$)", {})[key] = text
    for key, model in report.models.items():
        if model.distance.mean is not None:
            rows.setdefault(_latex(f"Distance ({model.distance.metric})"), {})[key] = f"{model.distance.mean:.3f}"
        for measured in model.measures.values():
            rows.setdefault(_latex(measured.title), {})[key] = _latex(measured_text(measured))
    for figure in report.protocol.figures if report.protocol else ():
        for key, one in figure.values.items():
            rows.setdefault(_latex(figure.title), {})[key] = _latex(
                " [".join(estimate_text(one, figure.is_share)) + "]"
            )
    for attack in report.attacks:
        for key, rate in attack.fresh.items():
            title = _latex(f"{attack.title}, found on {attack.victim_name}, ASR on fresh seeds")
            rows.setdefault(title, {})[key] = _latex(f"{percent(rate.rate)} [{interval(rate)}]")
    about = (
        f"{report.concept}, {report.checkpoint}, seed {report.seed}, {report.created}; intervals: 95 %, Wilson's, or a "
        "bootstrap by prompt where prompts have several pictures"
    )
    lines = [" & ".join([title, *(found.get(key, "--") for key in report.models)]) for title, found in rows.items()]
    return (
        f"% {' '.join(about.split())}\n"
        f"\\begin{{tabular}}{{l{'r' * len(labels)}}}\n\\toprule\n & {' & '.join(labels)} \\\\\n\\midrule\n"
        + "".join(f"{line} \\\\\n" for line in lines)
        + "\\bottomrule\n\\end{tabular}\n"
    )


def _latex(text: str) -> str:
    """A name as LaTeX prints it: its special characters escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"}
    special |= {"\n": " ", "\r": " ", "\t": " ", "−": "$-$", "×": r"$\times$", "…": r"\dots{}", "—": "---"}
    special |= {"\N{NO-BREAK SPACE}": "~", "–": "--", "±": r"$\pm$"}
    return "".join(special.get(one, f"\\{one}" if one in "&%$#_{}" else one) for one in text)
