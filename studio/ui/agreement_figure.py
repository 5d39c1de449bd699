"""The Reviewers view's figures: how second reviews stand, how far people agree, and what each has done. Pure functions.

Drawn as HTML and CSS; every figure stands with its n, and its interval where it has one.
"""

from __future__ import annotations

from collections.abc import Sequence

from studio.agreement import Agreement, Figure, TwoReviewers
from studio.records import ReviewerWork, SecondReviews
from studio.reports.statistics import wilson
from studio.ui.viewer import Viewer
from studio.ui.words import escape

LOWEST = -0.2  # where the axis of the coefficients begins
ENOUGH = 10  # pairs, fewer than which no coefficient is drawn
HELP = {
    "percent": "How often two reviewers gave the same verdict. Agreement by chance is in it.",
    "kappa": "Cohen's kappa: how much more often two people agree than by chance; 1 always, 0 as by chance.",
    "alpha": "Krippendorff's alpha (nominal): the same for any number of people, each of whom saw some of the pairs.",
}


def second_reviews_figure(share: float, stand: SecondReviews) -> str:
    """One bar of the chosen pairs: decided, open, waiting, not yet reviewed."""
    if not stand.chosen:
        return (
            '<p class="rev-none">No pair needs a second review.'
            f"{' Too few pairs are made for this share.' if share else ''}</p>"
        )
    rest = stand.chosen - stand.decided - stand.open - stand.waiting
    parts = (
        ("decided", stand.decided, f"decided: two agree{_settled(stand)}"),
        ("open", stand.open, "two people disagree"),
        ("waiting", stand.waiting, "reviewed once"),
        ("rest", rest, "not reviewed by people yet"),
    )
    bar = "".join(f'<i class="is-{name}" style="flex-grow:{number}"></i>' for name, number, _ in parts if number)
    said = ", ".join(f"{number} {words}" for _, number, words in parts)
    legend = "".join(
        f'<li class="is-{name}"><i></i><b>{number:,}</b> {words}</li>' for name, number, words in parts if number
    )
    return (
        f'<div class="rev-bar" role="img" aria-label="Of {stand.chosen} pairs: {said}">{bar}</div>'
        f'<ul class="rev-legend">{legend}</ul>'
    )


def agreement_figure(found: Agreement) -> str:
    """Percent agreement, alpha over everybody, and kappa of each two; or what has to happen first."""
    if not found.n:
        return (
            '<p class="rev-none">Figures come when two people have reviewed the same pair, each without seeing the '
            "other's verdict.</p>"
        )
    rate = wilson(found.agreed, found.n)
    percent = _row(
        "All agree", Figure(rate.rate, rate.low, rate.high), f"{found.agreed:,} of {found.n:,} pairs", HELP["percent"],
        ENOUGH, percent=True,
    )  # fmt: skip
    alpha = _row("Alpha", found.alpha, f"n = {found.n:,} pairs", HELP["alpha"], found.n)
    two = "".join(_two(one) for one in found.two)
    scale = "".join(f'<span style="left:{_place(at):.2f}%">{at:g}</span>' for at in (LOWEST, 0, 0.2, 0.4, 0.6, 0.8, 1))
    return (
        f'<div class="rev-chart"><h4>Everybody</h4>{percent}{alpha}'
        f'<h4>Two by two <small title="{escape(HELP["kappa"])}">Cohen\'s kappa</small></h4>{two}'
        f'<div class="rev-row" aria-hidden="true"><span></span><div class="rev-scale">{scale}</div><span></span></div>'
        '<p class="rev-note">Whiskers are 95 % intervals (Wilson; bootstrap over pairs). Only verdicts on single pairs '
        "that were given blindly count, each person's latest.</p></div>"
    )


def work_table(work: Sequence[ReviewerWork], viewer: Viewer) -> str:
    """What people have done; a reviewer's own row, or everybody's for the owner."""
    if not work:
        nobody = "Nobody has decided on a pair yet." if viewer.is_owner else "You have not decided on a pair yet."
        return f'<p class="rev-none">{nobody}</p>'
    head = "".join(
        f'<th scope="col"{f" title={chr(34)}{escape(title)}{chr(34)}" if title else ""}>{name}</th>'
        for name, title in (
            ("Reviewer", ""),
            ("Accepted", ""),
            ("Rejected", ""),
            ("Skipped", ""),
            ("In bulk", "Of these, how many were part of an action on many pairs."),
            ("Settled", "Of these, words on a disagreement."),
            ("Median time", "Of a decision on a single pair, from seeing it to deciding."),
            ("Revealed", "Decisions before which blurred pictures were revealed."),
        )
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(one.reviewer)}</th><td>{one.accepted:,}</td><td>{one.rejected:,}</td>'
        f"<td>{one.skipped:,}</td><td>{one.in_bulk:,}</td><td>{one.settled:,}</td>"
        f"<td>{'not measured' if one.seconds is None else f'{one.seconds:.1f} s'}</td>"
        f"<td>{one.revealed:,} of {one.accepted + one.rejected + one.skipped:,}</td></tr>"
        for one in work
    )
    table = f'<table class="duo-table"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="duo-scroll" tabindex="0" role="region" aria-label="Work of the reviewers">{table}</div>'


def _two(two: TwoReviewers) -> str:
    (both, first_only), (second_only, neither) = two.table
    title = (
        f"Both accept {both}, both reject {neither}, only {two.first} accepts {first_only}, "
        f"only {two.second} accepts {second_only}."
    )
    share = f"{two.agreed:,} of {two.n:,} alike"
    return _row(f"{two.first} and {two.second}", two.kappa, f"{share}, n = {two.n:,}", title, two.n)


def _row(name: str, figure: Figure, words: str, title: str, n: int, *, percent: bool = False) -> str:
    """A name, its whisker on the axis, its value with n."""
    if n < ENOUGH:
        value, drawn = "too few", ""
        title = f"{title} A figure is drawn from {ENOUGH} pairs on."
    elif figure.value is None or figure.low is None or figure.high is None:
        value, drawn = "not defined", ""
        title = f"{title} Not defined: everybody always gave the same verdict, so chance alone agrees as often."
    else:
        low, high = figure.low, figure.high
        value = f"{100 * figure.value:.0f} %" if percent else f"{figure.value:.2f}"
        ends = f"{100 * low:.0f} to {100 * high:.0f} %" if percent else f"{low:.2f} to {high:.2f}"
        left, right = _place(low), _place(high)
        drawn = (
            f'<u style="left:{left:.2f}%;width:{right - left:.2f}%"></u>'
            f'<i style="left:{_place(figure.value):.2f}%"></i>'
        )
        title = f"{title} 95 % interval {ends}."
    return (
        f'<div class="rev-row" title="{escape(title)}"><span>{escape(name)}</span>'
        f'<div class="rev-axis" role="img" aria-label="{escape(f"{name}: {value}. {title}")}">{drawn}</div>'
        f'<span class="rev-value"><b>{value}</b> {escape(words)}</span></div>'
    )


def _place(value: float) -> float:
    """Where a coefficient lies on the axis, in percent; below its begin at its begin."""
    return 100 * (max(value, LOWEST) - LOWEST) / (1 - LOWEST)


def _settled(stand: SecondReviews) -> str:
    return f", or the owner settled it ({stand.settled:,})" if stand.settled else ""
