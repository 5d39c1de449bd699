"""`python -m models.unpickle FROM TO`: turn a pickled state dict into safetensors, in a process of its own.

Only for `models.foreign`. `weights_only` lets tensors and plain containers through and nothing that could run; should a
file get past that, it is in a process that holds nothing else and, where Linux allows it, has no network.
"""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_ASKED = re.compile(r"GLOBAL ([\w.]+)")
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # CLONE_NEWUSER and CLONE_NEWNET of <sched.h>


def leave_network() -> bool:
    """Give this process a network of its own, in which nothing is; False where the system does not allow it.

    Before any thread is started: a process with threads is refused.
    """
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK) == 0)


def state_dict_of(loaded: Any) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, or of one under "state_dict" or "unet", as training programs save them."""
    import torch

    for key in ("state_dict", "unet"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise TypeError(f"it holds a {type(loaded).__name__}, not a state dict")
    return {str(key): value for key, value in loaded.items() if isinstance(value, torch.Tensor)}


def _words(error: Exception) -> str:
    """What is wrong. PyTorch's own words for a pickle that it refuses advise to run it all the same."""
    if type(error).__name__ != "UnpicklingError":
        return str(error).split("\n")[0]
    asked = _ASKED.search(str(error))
    return f"it asks for {f'{asked[1]}, which' if asked else 'something that'} is no tensor and could run anything"


def main(source: Path, target: Path) -> int:
    import torch
    from safetensors.torch import save_file

    try:
        tensors = state_dict_of(torch.load(source, map_location="cpu", weights_only=True))
        save_file({key: value.clone().contiguous() for key, value in tensors.items()}, target)
    except Exception as error:  # whatever is wrong with the file: the parent says it in one line
        print(_words(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    leave_network()
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
