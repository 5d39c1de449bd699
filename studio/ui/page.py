"""Gradio's page, with what this one does otherwise at every event."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import gradio as gr
from gradio.blocks import Block, BlockFunction, convert_component_dict_to_list
from gradio.state_holder import SessionState

from studio.ui.news import News


class StudioPage(gr.Blocks):
    """The page, and what its scripts ask of it while it is open."""

    news: News

    async def process_api(self, block_fn: Any, inputs: list[Any], *rest: Any, **named: Any) -> dict[str, Any]:
        """Every event. Gradio fetches a file that a value names by its address, for whoever sends it, in any field, and
        before the handler could ask for a role: such a value is refused first.
        """
        if names_address(inputs):
            raise gr.Error("Choose a file of your own: nothing is fetched from an address here.", print_exception=False)
        return await super().process_api(block_fn, inputs, *rest, **named)

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: Any, state: SessionState | None
    ) -> list[Any]:
        """What an event answers, without Gradio's work on outputs that it leaves as they are.

        Gradio makes a new component of each skipped output, half a millisecond each, and drawing skips tens of them at
        every picture. The copies that updates make keep their component's number here: under a number of its own,
        Gradio would add a copy to the visitor's session once more whenever a value follows an update, without end.
        """
        outputs, state = list(block_fn.outputs), state or SessionState(self)
        values = predictions
        if isinstance(values, dict) and values and all(isinstance(key, Block) for key in values):
            values = convert_component_dict_to_list(outputs, values)
        if len(outputs) > 1 and isinstance(values, list | tuple) and len(values) == len(outputs):
            changed = [place for place, value in enumerate(values) if not _is_skip(value)]
            part = copy(block_fn)
            part.outputs = [outputs[place] for place in changed]
            given = [values[place] for place in changed]
            done = await super().postprocess_data(part, given[0] if len(given) == 1 else given, state)
            answer: list[Any] = [None if block.stateful else gr.skip() for block in outputs]
            for place, value in zip(changed, done, strict=True):
                answer[place] = value
        else:
            answer = await super().postprocess_data(block_fn, predictions, state)
        for block in outputs:
            state.blocks_config.blocks.get(block._id, block)._id = block._id
        return answer


def _is_skip(value: Any) -> bool:
    return isinstance(value, dict) and value == gr.skip()


def not_shown_yet(outputs: Sequence[Block], values: Sequence[Any]) -> list[Any]:
    """Values for a page that was just opened, without those that its components have from the start.

    The page looks for each component that it is told of in its whole tree, a few milliseconds each.
    """
    return [gr.skip() if _as_built(block, value) else value for block, value in zip(outputs, values, strict=True)]


def _as_built(block: Block, value: Any) -> bool:
    if block.stateful:
        return False
    update = isinstance(value, dict) and value.get("__type__") == "update"
    told = {name: one for name, one in value.items() if name != "__type__"} if update else {"value": value}
    return all(hasattr(block, name) and getattr(block, name) == one for name, one in told.items())


def names_address(value: Any) -> bool:
    """Whether a file that is an address stands anywhere in these values, as deep as JSON may be."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "://" in str(one.get("path", "")):
                return True
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return False
