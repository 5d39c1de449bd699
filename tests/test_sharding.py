"""A frozen base dealt out to two processes: it trains what a whole one trains."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.tensor import DTensor

from models.adapters import attach_lora
from models.bundle import ModelBundle
from models.fingerprint import fingerprint_of
from models.sharding import shard, units
from studio.jobs import JobError, submit
from studio.methods.base import TrainingPairs, silent
from studio.methods.duo import Duo, DuoStep
from studio.methods.parallel import Group, current_group
from studio.methods.training import Loop, TrainingError
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from studio.training_configs import DuoConfig
from studio.workflow.joining import leave
from tests.tiny_families import make_family_bundle

SMALL: dict[str, Any] = {"batch_size": 2, "rank": 2, "alpha": 2.0, "layers": "all", "sample_every": 0}
FAMILIES = ("sd1", "sd3")  # a UNet and a transformer


def pairs_of(bundle: ModelBundle) -> TrainingPairs:
    latents = torch.randn(2, 2, *bundle.latent_shape, generator=torch.Generator().manual_seed(1))
    return TrainingPairs(latents[0], latents[1])


def trained(bundle: ModelBundle) -> list[nn.Parameter]:
    """A LoRA that says something already, as exact as a network in double precision."""
    targets = bundle.family.lora_targets["all"]
    parameters = attach_lora(bundle, rank=2, alpha=2.0, targets=targets, seed=0)
    generator = torch.Generator().manual_seed(2)
    for parameter in parameters:
        start = parameter.data + 0.1 * torch.randn(parameter.shape, generator=generator)
        parameter.data = start.double() if bundle.dtype == torch.float64 else start
    return parameters


def gradients(name: Any, dtype: torch.dtype, group: Group, checkpointing: bool) -> torch.Tensor:
    """Of one step on two pairs, with the base dealt out to the group."""
    bundle = make_family_bundle(name, dtype=dtype)
    parameters = trained(bundle)
    config = DuoConfig(**SMALL, gradient_checkpointing=checkpointing)
    step = DuoStep(bundle, pairs_of(bundle), config)
    if group.size > 1:
        before = fingerprint_of(bundle)
        shard(bundle, parameters)
        held = [p for p in bundle.denoiser.parameters() if isinstance(p, DTensor)]
        whole, own = sum(p.numel() for p in held), sum(p.to_local().numel() for p in held)
        assert 0.4 < own / whole < 0.6
        assert not any(isinstance(p, DTensor) for p in parameters)
        assert len(held) + len(parameters) == len(list(bundle.denoiser.parameters()))
        assert fingerprint_of(bundle) == before
    if checkpointing:
        bundle.denoiser.enable_gradient_checkpointing()
    loop = Loop(parameters, step, config, group)
    loop.gradients()
    group.average_gradients(parameters)
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


def adapters(**changes: Any) -> list[torch.Tensor]:
    """Of two trainings, one after the other, on the same bundle."""
    bundle = make_family_bundle("sd1", dtype=torch.float64)
    config = DuoConfig(**SMALL, steps=2, **changes)
    one, two = (Duo().fit(bundle, pairs_of(bundle), config, silent).tensors for _ in range(2))
    assert all(torch.allclose(two[name], value, atol=1e-6) for name, value in one.items())
    assert max(float(value.abs().max()) for name, value in one.items() if "lora_B" in name) > 1e-3
    return list(one.values())


def work(rank: int, folder: str) -> None:
    """What each of two processes does; the first one writes what it found."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", meeting, timeout=timedelta(seconds=60), rank=rank, world_size=2)
    group = current_group()
    found: dict[str, Any] = {"adapters": [adapters(shard_base=on, noise_bank=2) for on in (False, True)]}
    for name in FAMILIES:
        found[name] = [gradients(name, torch.float64, group, on) for on in (False, True)]
    found["bfloat16"] = gradients("sd1", torch.bfloat16, group, False)
    if group.is_main:
        torch.save(found, Path(folder) / "found.pt")
    dist.barrier()  # whoever leaves first takes its connections along
    leave(0)


@pytest.mark.slow
def test_a_shared_base_trains_what_a_whole_one_trains(tmp_path: Path) -> None:
    mp.start_processes(work, args=(str(tmp_path),), nprocs=2, start_method="spawn")
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for name in FAMILIES:
        alone = gradients(name, torch.float64, Group(), False)
        assert alone.abs().max() > 1e-3
        for together in found[name]:
            assert torch.allclose(together, alone, rtol=1e-9, atol=1e-9 * float(alone.abs().max()))
    half = gradients("sd1", torch.bfloat16, Group(), False)
    assert half.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found["bfloat16"], half, dim=0) > 0.999
    whole, shared = found["adapters"]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, shared, strict=True))


@pytest.mark.parametrize("name", ["sd1", "sdxl", "sd3", "flux"])
def test_most_of_a_network_is_in_what_is_gathered_at_once(name: Any) -> None:
    network = make_family_bundle(name).denoiser
    parts = [sum(p.numel() for p in unit.parameters()) for unit in units(network)]
    assert sum(parts) > 0.5 * sum(p.numel() for p in network.parameters())


def test_a_base_is_not_shared_where_it_cannot_be(store: Store, settings: Settings, project: Project) -> None:
    def asked(processes: int, **changes: Any) -> None:
        config = {"method": "duo", "processes": processes, "config": {**SMALL, "shard_base": True, **changes}}
        submit(store, settings, "train", project.id, config)

    with pytest.raises(JobError, match=r"but this training has one\. Use 2 processes or more"):
        asked(1)
    with pytest.raises(JobError, match="sample_every is 5, but no sample pictures are drawn with a shared base"):
        asked(2, sample_every=5)
    asked(2)
    bundle = make_family_bundle("sd1")
    with pytest.raises(TrainingError, match="this training has one"):
        Duo().fit(bundle, pairs_of(bundle), DuoConfig(**SMALL, shard_base=True), silent)


def test_out_of_memory_is_not_tried_again_by_one_process_of_a_shared_base() -> None:
    class Full:
        def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
            return (torch.zeros(2),)

        def loss(self, drawn: tuple[torch.Tensor, ...]) -> Any:
            raise torch.OutOfMemoryError("full")

    loop = Loop([nn.Parameter(torch.zeros(1))], Full(), DuoConfig(**SMALL, shard_base=True), Group())
    with pytest.raises(TrainingError, match=r"with 2 pairs at once\. With a shared base"):
        loop.gradients()


def test_a_lost_process_is_told_from_other_errors() -> None:
    with pytest.raises(TrainingError, match="Another of the 2 processes"), Group(0, 2).together():
        raise RuntimeError("gloo: Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="shapes"), Group(0, 2).together():
        raise RuntimeError("shapes do not fit")
