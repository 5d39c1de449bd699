"""Agreement of reviewers, against the krippendorff package, scikit-learn, a published example and by hand."""

from __future__ import annotations

import random

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from studio.agreement import agreement, cohens_kappa, krippendorff_alpha

NAMES = ("ann", "bob", "cem", "dan")
# Krippendorff 2011, section C: four observers, twelve units, five categories, missing data; nominal alpha .743.
PUBLISHED = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def opinions_at_random(seed: int, pairs: int = 200) -> dict[str, dict[str, str]]:
    """Of four reviewers with habits of their own, each of whom saw some of the pairs."""
    chance = random.Random(seed)
    return {
        f"pair{n}": {
            name: "accept" if chance.random() < (0.9 if n % 3 else 0.3) else "reject"
            for name in NAMES
            if chance.random() < 0.5
        }
        for n in range(pairs)
    }


def test_alpha_of_the_published_example() -> None:
    units = [[row.split()[n] for row in PUBLISHED if row.split()[n] != "."] for n in range(12)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


@pytest.mark.parametrize("seed", range(4))
def test_alpha_is_that_of_the_reference_package(seed: int) -> None:
    opinions = opinions_at_random(seed)
    code = {"accept": 1.0, "reject": 0.0}
    data = [[code.get(said.get(name, ""), np.nan) for said in opinions.values()] for name in NAMES]
    reference = krippendorff.alpha(reliability_data=data, level_of_measurement="nominal")
    assert krippendorff_alpha(said.values() for said in opinions.values()) == pytest.approx(reference, abs=1e-12)
    found = agreement(opinions).alpha
    assert found.value == pytest.approx(reference, abs=1e-12)
    assert found.low is not None
    assert found.high is not None
    assert found.low < reference < found.high


@pytest.mark.parametrize("seed", range(4))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    opinions = opinions_at_random(seed)
    found = agreement(opinions).two
    assert [(two.first, two.second) for two in found] == [(a, b) for a in NAMES for b in NAMES if a < b]
    for two in found:
        both = [said for said in opinions.values() if two.first in said and two.second in said]
        first, second = [said[two.first] for said in both], [said[two.second] for said in both]
        assert two.kappa.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
        assert two.n == len(both) > 20
        assert two.agreed == sum(a == b for a, b in zip(first, second, strict=True))


def test_kappa_by_hand() -> None:
    """20 and 15 of 50 agreed, 25 : 25 and 30 : 20 in the margins: p_o .7, p_e .5 (a textbook's grant readers)."""
    assert cohens_kappa(np.array([[20.0, 5.0], [10.0, 15.0]])) == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert cohens_kappa(np.array([[0.0, 5.0], [5.0, 0.0]])) == pytest.approx(-1)
    assert cohens_kappa(np.array([[7.0, 0.0], [0.0, 3.0]])) == pytest.approx(1)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Two reviewers with kappa .5: 90 of 100 and 70 of 100 accepted alike, by the table that they are drawn from."""
    truth = np.array([0.55, 0.1, 0.1, 0.25])
    kappa = float(cohens_kappa(truth.reshape(2, 2)))
    draw = np.random.default_rng(3)
    covered = 0
    for _ in range(60):
        cells = draw.multinomial(150, truth)
        said = [("accept", "accept"), ("accept", "reject"), ("reject", "accept"), ("reject", "reject")]
        rows = [pair for pair, number in zip(said, cells, strict=True) for _ in range(number)]
        figure = agreement({str(n): dict(zip(("a", "b"), pair, strict=True)) for n, pair in enumerate(rows)})
        (two,) = figure.two
        assert two.kappa.low is not None
        assert two.kappa.high is not None
        covered += two.kappa.low <= kappa <= two.kappa.high
    assert covered >= 51  # of 60; 57 are expected


def test_what_is_not_defined_is_none() -> None:
    nobody = agreement({})
    assert (nobody.n, nobody.agreed, nobody.alpha.value, nobody.two) == (0, 0, None, ())
    assert agreement({"1": {"ann": "accept"}}).n == 0
    same = agreement({str(n): {"ann": "accept", "bob": "accept"} for n in range(5)})
    assert (same.n, same.agreed, same.alpha.value, same.two[0].kappa.value) == (5, 5, None, None)
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha([["accept"], ["reject"]]) is None
