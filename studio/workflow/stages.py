"""Jobs of several stages: how far each is, as a part of the whole."""

from __future__ import annotations

from studio.progress import Report

TOTAL = 10_000  # steps of the whole, shared out by the stages' weights


def part_of(report: Report, stage: str, title: str, before: float, share: float) -> Report:
    """A stage's report as a part of the whole's, of which `before` lies behind it; its values get the stage's name."""

    def reported(step: int, total: int, message: str = "", **values: float) -> None:
        done = round(TOTAL * (before + share * step / max(total, 1)))
        named = {f"{stage}.{name}": value for name, value in values.items()}
        if named:
            named[f"{stage}.step"] = step  # that of the whole is too coarse to tell it
        report(done, TOTAL, f"{title}: {message}" if message else title, **named)

    return reported
