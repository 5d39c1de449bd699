"""The colour of each model of a report, the same in every figure."""

from __future__ import annotations

from studio.reports.schema import StudyReport

# On light and on dark ground: the original's, ten for trained models, and the oracle's.
COLOURS = (
    ("#767b86", "#9aa0ac"),
    ("#1769aa", "#62b0ec"), ("#c2570c", "#f0935a"), ("#0b7a5c", "#4fc3a0"), ("#8a3ea8", "#c88be0"),
    ("#a3781a", "#dfb656"), ("#b8336a", "#f080ab"), ("#4b7f1f", "#9bcf6a"), ("#00808f", "#4fc7d6"),
    ("#5a5fc7", "#9a9ff0"), ("#8a4b2d", "#d9a384"),
    ("#2b2f38", "#eceae6"),
)  # fmt: skip
TRAINED = len(COLOURS) - 2


def number_of(report: StudyReport, key: str) -> int:
    """Which of COLOURS is the model's. From the eleventh trained model on they come again."""
    if key in ("original", "oracle"):
        return 0 if key == "original" else len(COLOURS) - 1
    trained = [name for name in report.models if name not in ("original", "oracle")]
    return 1 + trained.index(key) % TRAINED


def colour_of(report: StudyReport, key: str) -> str:
    """The model's colour, which can be read on white and on black."""
    return COLOURS[number_of(report, key)][0]
