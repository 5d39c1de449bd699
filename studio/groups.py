"""One adapter a group of prompts, summed: what that asks of a project. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

OPTION = "one_adapter_a_group"  # of a method's configuration


def too_few_groups(accepted: Mapping[str, int]) -> str:
    """Why these groups, with their accepted pairs, cannot have an adapter each; "" where they can."""
    if len(accepted) > 1:
        return ""
    pairs = sum(accepted.values())
    which = "without a group" if "" in accepted else f"of the group {next(iter(accepted), '')!r}"
    found = f"all {pairs} accepted pairs are {which}" if pairs else "there are 0 accepted pairs"
    return (
        f"An adapter of each group is asked for, but {found}. Give the prompts at least two groups in Prompts, or "
        "train one adapter."
    )
