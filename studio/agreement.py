"""How far reviewers agree: percent agreement, Cohen's kappa, Krippendorff's alpha, each with n. Torch-free.

Percent agreement says how often; the other two how much more often than by chance, 1 being always and 0 as by chance.
All are of opinions that were given blindly: whoever knows another's verdict does not add a second one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

CATEGORIES = ("accept", "reject")
RESAMPLED = 2000

Opinions = Mapping[str, Mapping[str, str]]  # by pair, then by reviewer


@dataclass(frozen=True)
class Figure:
    """A coefficient with its 95 % interval; None where it is not defined, since nobody ever differed in a category."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TwoReviewers:
    """Two reviewers on the pairs that both judged."""

    first: str
    second: str
    table: tuple[tuple[int, int], tuple[int, int]]  # [first's accept, reject][second's accept, reject]
    kappa: Figure

    @property
    def n(self) -> int:
        return sum(map(sum, self.table))

    @property
    def agreed(self) -> int:
        return self.table[0][0] + self.table[1][1]


@dataclass(frozen=True)
class Agreement:
    """All reviewers of a project."""

    n: int  # pairs with at least two opinions
    agreed: int  # of these, those on which all agree
    alpha: Figure
    two: tuple[TwoReviewers, ...]  # by name


def agreement(opinions: Opinions) -> Agreement:
    judged = [said for said in opinions.values() if len(said) > 1]
    tallies = Counter(tuple(list(said.values()).count(category) for category in CATEGORIES) for said in judged)
    kinds = np.array(list(tallies), dtype=float).reshape(-1, len(CATEGORIES))
    alpha = _figure(np.array(list(tallies.values()), dtype=float), lambda times: _alpha(kinds, times))
    agreed = sum(number for kind, number in tallies.items() if max(kind) == sum(kind))
    return Agreement(len(judged), agreed, alpha, tuple(_two_by_two(judged)))


def cohens_kappa(table: np.ndarray) -> np.ndarray:
    """(p_o - p_e) / (1 - p_e) of tables [..., C, C], Cohen 1960; NaN where chance alone agrees always."""
    n = table.sum((-2, -1))
    observed = np.einsum("...ii->...", table) / n
    expected = np.einsum("...i,...i->...", table.sum(-1), table.sum(-2)) / n**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)


def krippendorff_alpha(units: Iterable[Iterable[str]]) -> float | None:
    """1 - D_o / D_e for nominal data, Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C.

    Each unit holds the values that it was given; those with fewer than two, i.e. missing ones, are left out.
    """
    values = [list(unit) for unit in units]
    names = sorted({value for unit in values for value in unit})
    if not names:
        return None
    kinds = np.array([[unit.count(name) for name in names] for unit in values], dtype=float)
    found = float(_alpha(kinds, np.ones(len(kinds))))
    return None if np.isnan(found) else found


def _alpha(kinds: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Alpha of units that come in kinds.

    Args:
        kinds: how many values of each category a unit of this kind has, [K, C].
        times: how many units are of each kind, [..., K].
    """
    size = kinds.sum(1)
    counts = (size > 1) * times  # a single value can be paired with nothing
    n_c = counts @ kinds
    n = n_c.sum(-1)
    differing = size**2 - (kinds**2).sum(1)  # ordered pairs of unequal values within a unit
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = (counts * np.where(size > 1, differing / (size - 1), 0)).sum(-1) / n
        expected = (n**2 - (n_c**2).sum(-1)) / (n * (n - 1))
        return np.where(expected > 0, 1 - observed / expected, np.nan)


def _two_by_two(judged: list[Mapping[str, str]]) -> Iterable[TwoReviewers]:
    tables: Counter[tuple[str, str, str, str]] = Counter()
    for said in judged:
        tables.update((a, b, said[a], said[b]) for a, b in combinations(sorted(said), 2))
    for first, second in sorted({key[:2] for key in tables}):
        rows = [[tables[first, second, one, other] for other in CATEGORIES] for one in CATEGORIES]
        table = np.array(rows, dtype=float)
        kappa = _figure(table.ravel(), lambda times: cohens_kappa(times.reshape(*times.shape[:-1], 2, 2)))
        yield TwoReviewers(first, second, ((rows[0][0], rows[0][1]), (rows[1][0], rows[1][1])), kappa)


def _figure(times: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Figure:
    """The statistic of how often each kind of unit came, and the 95 % interval of its bootstrap over units."""
    n = int(times.sum())
    value = float(statistic(times)) if n else float("nan")
    if np.isnan(value):
        return Figure(None, None, None)
    drawn = statistic(np.random.default_rng(0).multinomial(n, times / n, RESAMPLED).astype(float))
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return Figure(value, float(low), float(high))
