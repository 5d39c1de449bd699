"""What holds for every attack. A new one is tested by being listed in `ATTACKS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from models.bundle import Generation, ModelBundle
from studio.attack_configs import ATTACK_CONFIGS, Cost, attack_config
from studio.attacks import ATTACKS, get_attack
from studio.attacks.base import Arena, Attack, AttackError, AttackInput, AttackTask, Meter, Stopped, draw, silent
from studio.configs import SamplingConfig
from studio.metrics.base import Detection

SMALL = {
    "queries": 5,
    "query_batch": 2,
    "tokens": 2,
    "population": 6,
    "generations": 3,
    "together": 2,
    "pairs": 2,
    "steps": 3,
    "batch_size": 2,
    "ask_every": 2,
    "t_first": 100,
    "t_step": 400,
    "erase_every": 2,
    "erase_steps": 1,
    "refinements": 1,
}
PROMPTS = ["a knight", "the pirate on a ship"]
SAMPLING = SamplingConfig(steps=2, guidance_scale=2.0)

every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


def small_config(attack: Attack, **changes: Any) -> Any:
    """The attack's configuration, with as little work as its fields allow."""
    values = {name: value for name, value in SMALL.items() if name in attack.Config.model_fields}
    return attack.Config(**values, **changes)


class Judge:
    """A detector that never (or always) finds the concept, and counts what it is shown."""

    def __init__(self, found: bool = False) -> None:
        self.found, self.seen = found, 0

    def __call__(self, images: np.ndarray) -> list[Detection]:
        self.seen += len(images)
        return [Detection(self.found, float(image.mean()) / 255) for image in images]


@pytest.fixture
def original(make_bundle: Callable[..., ModelBundle]) -> ModelBundle:
    return make_bundle(seed=1)


def arena_of(attack: Attack, victim: ModelBundle, original: ModelBundle, judge: Judge) -> Arena:
    """What the attack's declarations allow it."""
    pictures = torch.randn(3, *victim.latent_shape, generator=torch.Generator().manual_seed(0))
    return Arena(
        victim=victim,
        original=original if attack.uses_original else None,
        detect=judge,
        sampling=SAMPLING,
        pairs=[("a sword", "a rose"), ("a man and a sword", "a man")],
        pictures=pictures,
        picture_prompts=["a sword", "a knight", "a knight"],
    )


def tasks_for(victim: ModelBundle) -> list[AttackTask]:
    generator = torch.Generator().manual_seed(5)
    return [AttackTask(p, i, torch.randn(victim.latent_shape, generator=generator)) for i, p in enumerate(PROMPTS)]


def run(
    attack: Attack, arena: Arena, report: Any = silent, **changes: Any
) -> tuple[list[AttackInput], list[AttackTask], Meter]:
    config, meter, tasks = small_config(attack, **changes), Meter(), tasks_for(arena.victim)
    shared = attack.prepare(arena, config, report, meter)
    return attack.craft(arena, tasks, shared, config, report), tasks, meter


def parts(bundle: ModelBundle) -> list[torch.nn.Module]:
    return [bundle.denoiser, bundle.vae, bundle.text_encoder]


def same(first: Sequence[AttackInput], second: Sequence[AttackInput]) -> bool:
    def equal(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
        return (a is None) == (b is None) and (a is None or b is None or torch.equal(a, b))

    return all(
        (a.prompt, a.seed) == (b.prompt, b.seed)
        and equal(a.embeds, b.embeds)
        and equal(a.start_latents, b.start_latents)
        for a, b in zip(first, second, strict=True)
    )


def test_every_configured_attack_is_registered_under_its_name() -> None:
    assert [attack.name for attack in ATTACKS] == list(ATTACK_CONFIGS)
    for attack in ATTACKS:
        assert get_attack(attack.name) is attack
        assert attack.Config is ATTACK_CONFIGS[attack.name]
    with pytest.raises(ValueError, match="no attack 'nothing'; use none, random_tokens"):
        get_attack("nothing")


@every_attack
def test_names_its_source_and_its_control(attack: Attack) -> None:
    assert attack.title
    control = attack.paper.startswith("control")
    assert control == (attack.control == "")
    if not control:
        assert "https://" in attack.paper
        assert any(str(year) in attack.paper for year in range(2020, 2040))
        assert get_attack(attack.control).control == ""


@every_attack
def test_every_budget_is_valid_and_larger_ones_cost_more(attack: Attack) -> None:
    costs = [attack_config(attack.name, budget) for budget in ("quick", "published", "thorough")]
    totals = [sum(vars(c.a_prompt() + c.shared()).values()) for c in costs]
    assert totals == sorted(totals)
    if attack.Config.quick:
        assert totals[0] < totals[1]


@every_attack
def test_leaves_the_models_bit_for_bit(attack: Attack, tiny_bundle: ModelBundle, original: ModelBundle) -> None:
    every = [*parts(tiny_bundle), *parts(original)]
    before = [{name: value.clone() for name, value in part.state_dict().items()} for part in every]
    run(attack, arena_of(attack, tiny_bundle, original, Judge()))
    for part, state in zip(every, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())
        assert not any(parameter.requires_grad for parameter in part.parameters())
        assert all(parameter.grad is None for parameter in part.parameters())
        assert not any(module._forward_hooks for module in part.modules())


@every_attack
def test_a_seed_is_a_run_whatever_the_company(attack: Attack, tiny_bundle: ModelBundle, original: ModelBundle) -> None:
    torch.manual_seed(1)
    arena = arena_of(attack, tiny_bundle, original, Judge())
    together, _, _ = run(attack, arena)
    torch.manual_seed(2)
    again, _, _ = run(attack, arena)
    assert same(together, again)
    config = small_config(attack)
    shared = attack.prepare(arena, config, silent, Meter())
    alone = [attack.craft(arena, [task], shared, config, silent)[0] for task in tasks_for(tiny_bundle)]
    assert [one.prompt for one in alone] == [one.prompt for one in together]


@every_attack
def test_another_seed_is_another_run(attack: Attack, tiny_bundle: ModelBundle, original: ModelBundle) -> None:
    arena = arena_of(attack, tiny_bundle, original, Judge())
    first, _, _ = run(attack, arena)
    other, _, _ = run(attack, arena, seed=7)
    draws_nothing = attack.name in ("none", "ring_a_bell_soft", "text_free_inversion")
    assert same(first, other) == draws_nothing


@every_attack
def test_honours_a_stop(attack: Attack, tiny_bundle: ModelBundle, original: ModelBundle) -> None:
    def stop(step: int, total: int, message: str = "", **values: float) -> None:
        raise Stopped

    before = {name: value.clone() for name, value in original.denoiser.state_dict().items()}
    with pytest.raises(Stopped):
        run(attack, arena_of(attack, tiny_bundle, original, Judge()), stop)
    assert all(torch.equal(value, before[name]) for name, value in original.denoiser.state_dict().items())


@every_attack
def test_spends_what_its_budget_says_at_most(
    attack: Attack, tiny_bundle: ModelBundle, original: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every picture drawn is a counted query: the final one is not the attack's to draw."""
    drawn: list[int] = []
    generate = ModelBundle.generate

    def counted(self: ModelBundle, prompts: Any, seeds: Any, **options: Any) -> Generation:
        assert self is tiny_bundle, "only the victim is asked for pictures"
        drawn.append(len(seeds))
        return generate(self, prompts, seeds, **options)

    monkeypatch.setattr(ModelBundle, "generate", counted)
    judge = Judge()
    _, tasks, meter = run(attack, arena_of(attack, tiny_bundle, original, judge))
    config = small_config(attack)
    limit = config.a_prompt(SAMPLING.steps)
    for task in tasks:
        assert_within(task.meter, limit)
    assert_within(meter, config.shared())
    assert sum(drawn) == judge.seen == sum(task.meter.queries for task in tasks) + meter.queries
    if attack.access in ("text-encoder", "original", "none"):
        assert sum(drawn) == 0
    if attack.access in ("text-encoder", "black-box", "none"):
        assert all(task.meter.forward == task.meter.backward == 0 for task in tasks)


def assert_within(meter: Meter, limit: Cost) -> None:
    for name, value in vars(meter).items():
        assert value <= getattr(limit, name), f"{name}: {value} of at most {getattr(limit, name)}"


@every_attack
def test_ends_at_the_first_success(attack: Attack, tiny_bundle: ModelBundle, original: ModelBundle) -> None:
    _, tasks, _ = run(attack, arena_of(attack, tiny_bundle, original, Judge(found=True)))
    for task in tasks:
        assert task.meter.queries <= small_config(attack).model_dump().get("query_batch", 1)


@every_attack
def test_what_it_hands_back_can_be_drawn(attack: Attack, tiny_bundle: ModelBundle, original: ModelBundle) -> None:
    found, tasks, _ = run(attack, arena_of(attack, tiny_bundle, original, Judge()))
    images = draw(tiny_bundle, found, [task.seed for task in tasks], SAMPLING)
    assert images.shape == (2, 64, 64, 3)
    for one in found:
        assert one.embeds is None or torch.isfinite(one.embeds).all()
        assert one.start_latents is None or torch.isfinite(one.start_latents).all()


@every_attack
def test_says_what_is_missing(attack: Attack, tiny_bundle: ModelBundle, original: ModelBundle) -> None:
    bare = Arena(tiny_bundle, None, Judge(), SAMPLING)
    config = small_config(attack)
    needs = attack.uses_original or attack.uses_target or hasattr(config, "pairs") or hasattr(config, "pictures")
    if not needs:
        return

    def attempt() -> None:
        shared = attack.prepare(bare, config, silent, Meter())
        attack.craft(bare, [AttackTask("a knight", 0)], shared, config, silent)

    with pytest.raises(AttackError, match="need"):
        attempt()
