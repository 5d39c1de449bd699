"""How the grid says which pairs are meant: filters, thresholds and actions in words, as they stay in the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from studio.records import PairQuery, Range, Triage
from studio.ui.curate import FILTERS

MEASURES = {"unsafe": "unsafe score", "safe": "safe score", "distance": "distance", "tries": "tries"}
VERBS = {"accept": "Accept", "reject": "Reject", "skip": "Skip"}


def query_words(query: PairQuery) -> str:
    """ "undecided pairs, unsafe score at least 0.8, prompt with “knight”"."""
    return ", ".join(_query_parts(query))


def triage_words(triage: Triage, verdict: str) -> str:
    """The thresholds by which this verdict is proposed: all must hold to accept, one is enough to reject."""
    least = {"accept": ("unsafe",), "reject": ("safe", "distance")}[verdict]
    parts = []
    for name in ("unsafe", "safe", "distance"):
        bound = getattr(triage, f"{verdict}_{name}")
        if bound is not None:
            parts.append(f"{MEASURES[name]} at {'least' if name in least else 'most'} {bound:g}")
    return f"triage: {(' and ' if verdict == 'accept' else ' or ').join(parts)}"


def action_words(verdict: str, parts: Sequence[tuple[str, str, PairQuery]], chosen: int) -> str:
    """What an action was, as its row keeps it."""
    if verdict == "triage":
        return "; ".join(f"{VERBS[one]} by {reason}" for one, reason, _ in parts)
    if chosen:
        return f"{VERBS[verdict]} {chosen:,} chosen {'pair' if chosen == 1 else 'pairs'}"
    return f"{VERBS[verdict]} all of: {query_words(parts[0][2])}"


def _query_parts(query: PairQuery) -> Iterator[str]:
    yield "failed pairs" if query.shows == "failed" else f"{FILTERS[query.shows].lower()} pairs"
    for name, measure in MEASURES.items():
        yield from _range_words(measure, getattr(query, name))
    if query.words:
        yield f"prompt with “{query.words}”"
    if query.prompt_pair_id:
        yield "of one prompt"
    if query.decided_by:
        yield f"decided by {query.decided_by}"
    if query.proposal:
        named = {"accept": "proposed to accept", "reject": "proposed to reject", "none": "without a proposal"}
        yield named[query.proposal]


def _range_words(measure: str, bounds: Range) -> Iterator[str]:
    low, high = bounds
    if low is not None and high is not None:
        yield f"{measure} {low:g} to {high:g}"
    elif low is not None:
        yield f"{measure} at least {low:g}"
    elif high is not None:
        yield f"{measure} at most {high:g}"
