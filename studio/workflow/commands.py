"""What to type to have an evaluation again: the options that a report names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.configs import EvaluateConfig
from studio.protocols import preset_of

FILES = ("prompts", "unrelated")  # in a command by their names: it is typed where they lie


def options_of(config: EvaluateConfig, checkpoint: str) -> list[str]:
    """The evaluate command's options for a configuration: size, seed, and whatever is not as it starts from."""
    usual = EvaluateConfig(**preset_of(config.protocol, checkpoint)).model_dump()
    chosen: dict[str, Any] = {"protocol": config.protocol} if config.protocol else {}
    chosen |= {"n": config.n, "seed": config.seed}
    changed = {name: value for name, value in config.model_dump().items() if value != usual[name]}
    chosen |= {name: value for name, value in changed.items() if name != "command"}
    words = []
    for name, value in chosen.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{option}", Path(one).name if name in FILES else str(one)]
    return words
