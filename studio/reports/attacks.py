"""Attacks in figures: success rates with intervals, and an attack against its control on the same prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from studio.records import REFERENCE, AttackRun
from studio.reports.schema import Rate
from studio.reports.statistics import rate_of, wilson_of

RESAMPLES = 2000
RESAMPLES_AT_ONCE = 200


@dataclass(frozen=True)
class Comparison:
    """Two ways of asking, on the same prompts with one picture each."""

    only_first: int  # prompts on which the first alone succeeded
    only_second: int
    n: int
    p: float  # exact McNemar, two-sided
    holm: float = 1.0  # after Holm's correction over the comparisons shown together


@dataclass(frozen=True)
class AttackSummary:
    """One job on one victim. Rates of the attack are of the prompts where the plain prompt failed."""

    job_id: str
    attack: str
    victim: str
    victim_name: str
    pre: Rate  # the plain prompt succeeds, of all prompts tried
    searched: Rate | None  # the attack succeeds on the seed that it searched on
    fresh: Rate | None  # pictures on fresh seeds; interval by prompt
    asr: float | None  # pre and searched together, over all prompts
    control: str
    control_searched: Rate | None
    control_fresh: Rate | None
    plain_fresh: Rate | None  # the plain prompt on the fresh seeds, of the attacked prompts
    against_control: Comparison | None
    against_plain: Comparison | None
    queries: float  # mean a prompt
    seconds: float  # mean a prompt
    refused: int


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> Comparison:
    """The exact two-sided McNemar test (McNemar 1947): a binomial test of the pairs that differ."""
    from scipy.stats import binomtest  # half a second to import

    if len(first) != len(second):
        raise ValueError(f"Pairs are needed: {len(first)} outcomes against {len(second)}.")
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    differ = only_first + only_second
    p = float(binomtest(only_first, differ, 0.5).pvalue) if differ else 1.0
    return Comparison(only_first, only_second, len(first), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's step-down (Holm 1979), in their own order: below 0.05 stays significant together."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def bootstrap_by_prompt(successes: Sequence[int], counts: Sequence[int], confidence: float = 0.95) -> Rate:
    """Successes over pictures, with a percentile bootstrap that draws prompts: pictures of one prompt are alike.

    Where all prompts have the same share, none or all of their pictures say, drawing them again tells nothing: the
    interval is Wilson's of that many prompts. It is never narrower than Wilson's of that many pictures, which it would
    be by chance where prompts are few. n is the number of prompts. The same numbers give the same interval.
    """
    if not counts or sum(counts) == 0:
        raise ValueError("A rate needs at least one prompt with a picture.")
    import numpy as np

    generator = np.random.default_rng(0)
    n = len(counts)
    both = np.array([successes, counts], dtype=float)
    rates: list[float] = []
    for first in range(0, RESAMPLES, RESAMPLES_AT_ONCE):
        times = generator.multinomial(n, np.full(n, 1 / n), size=min(RESAMPLES_AT_ONCE, RESAMPLES - first))
        found, drawn = both @ times.T  # how often each prompt was drawn
        rates += (found / np.maximum(drawn, 1)).tolist()
    rates.sort()
    tail = (1 - confidence) / 2
    low, high = rates[int(tail * RESAMPLES)], rates[min(int((1 - tail) * RESAMPLES), RESAMPLES - 1)]
    rate = sum(successes) / sum(counts)
    if rates[-1] - rates[0] < 1e-12:
        low, high = wilson_of(rate, n, confidence)
    else:
        least = wilson_of(rate, sum(counts), confidence)
        low, high = min(low, least[0]), max(high, least[1])
    return Rate(rate=rate, low=low, high=high, n=n)


def summarise(runs: Iterable[AttackRun]) -> list[AttackSummary]:
    """A summary for each job and victim, in order of appearance; Holm's correction is over all of them."""
    groups: dict[tuple[str, str], list[AttackRun]] = {}
    for run in runs:
        if run.attack == REFERENCE:
            continue
        groups.setdefault((run.job_id, run.victim), []).append(run)
    return _corrected([_summary(group) for group in groups.values()])


def _summary(runs: list[AttackRun]) -> AttackSummary:
    by_role: dict[str, dict[tuple[str, int], AttackRun]] = {"plain": {}, "attack": {}, "control": {}}
    for run in runs:
        by_role[run.role][run.prompt, run.seed] = run
    plain, attack, control = by_role["plain"], by_role["attack"], by_role["control"]
    attacked = list(attack.values())
    first = attacked[0] if attacked else runs[0]
    pre = rate_of([run.pre_success for run in plain.values()] or [False])
    searched = rate_of([run.success for run in attacked]) if attacked else None
    lifted = (1 - pre.rate) * searched.rate if searched else 0.0
    return AttackSummary(
        job_id=first.job_id,
        attack=first.attack,
        victim=first.victim,
        victim_name=first.victim_name,
        pre=pre,
        searched=searched,
        fresh=_fresh(attacked),
        # Where the search for failing prompts ended before all were tried, the attack's rate stands for the others.
        asr=pre.rate + lifted if searched else None,
        control=next(iter(control.values())).attack if control else "",
        control_searched=rate_of([run.success for run in control.values()]) if control else None,
        control_fresh=_fresh(list(control.values())),
        plain_fresh=_fresh([run for key, run in plain.items() if key in attack]),
        against_control=_paired(attack, control),
        against_plain=_paired(attack, plain),
        queries=_mean([run.queries for run in attacked]),
        seconds=_mean([run.seconds for run in attacked]),
        refused=sum(run.refused != "" for run in attacked),
    )


def _fresh(runs: list[AttackRun]) -> Rate | None:
    runs = [run for run in runs if run.fresh_count]
    if not runs:
        return None
    return bootstrap_by_prompt([run.fresh_successes for run in runs], [run.fresh_count for run in runs])


def _paired(first: dict[tuple[str, int], AttackRun], second: dict[tuple[str, int], AttackRun]) -> Comparison | None:
    """On the prompts that both have: one picture each, of the first fresh seed."""
    both = [key for key in first if key in second]
    if not both:
        return None
    return mcnemar([first[key].fresh_first for key in both], [second[key].fresh_first for key in both])


def _corrected(summaries: list[AttackSummary]) -> list[AttackSummary]:
    tests = [(row, s.against_control) for row, s in enumerate(summaries) if s.against_control]
    for (row, test), p in zip(tests, holm([test.p for _, test in tests]), strict=True):
        summaries[row] = replace(summaries[row], against_control=replace(test, holm=p))
    return summaries


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
