"""The frozen network in parts, one a process: where all of it does not fit on each device (FSDP2).

Every process holds its part of each block's weights, and a block's are gathered for as long as it computes. What is
trained stays whole everywhere, so its gradients, its saved state and its file are what they are without.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from models.bundle import ModelBundle
from models.fingerprint import fingerprint_of

# Lists of what is gathered at once. The rest of a network is small and stays gathered from forward to backward pass.
LISTS = ("resnets", "transformer_blocks", "single_transformer_blocks")


def shard(bundle: ModelBundle, trained: Sequence[nn.Parameter]) -> None:
    """Deal the network's frozen weights out to all processes of the default group, on the bundle's device.

    For good: from now on a forward pass is one of all processes together, and one that is made alone waits for ever. A
    bundle that `waits` has its network in the machine's memory until now; then no process ever has all of it on its
    device.

    Args:
        trained: parameters of an adapter that is attached; every process keeps them whole.
    """
    if is_sharded(bundle):
        return  # an adapter that came later was never dealt out
    fingerprint_of(bundle)  # while the weights are together
    mesh = init_device_mesh(bundle.device.type, (dist.get_world_size(),))
    for unit in (*units(bundle.denoiser), bundle.denoiser):
        fully_shard(unit, mesh=mesh, ignored_params=set(trained))


def is_sharded(bundle: ModelBundle) -> bool:
    """Whether the network was dealt out."""
    return isinstance(bundle.denoiser, FSDPModule)


def units(network: nn.Module) -> list[nn.Module]:
    """What is gathered at once: a UNet's or a transformer's repeated blocks."""
    return [
        block
        for name, child in network.named_modules()
        if isinstance(child, nn.ModuleList) and name.rpartition(".")[2] in LISTS
        for block in child
    ]
