"""What Gradio's page does otherwise here: skipped outputs cost nothing, and a visitor's session does not grow."""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr
import pytest
from gradio.blocks import BlockFunction
from gradio.state_holder import SessionState

from studio.ui.page import StudioPage, not_shown_yet


class Small:
    """A page with one event over three components and a state."""

    def __init__(self, page_class: type[gr.Blocks] = StudioPage) -> None:
        with page_class() as self.page:
            self.number, self.words, self.choice = gr.Number(), gr.Textbox(), gr.Dropdown(["a"])
            self.kept = gr.State(0)
            self.outputs = [self.number, self.words, self.choice, self.kept]
            gr.Button().click(lambda: None, None, self.outputs)
        self.event: BlockFunction = next(iter(self.page.fns.values()))
        self.session = SessionState(self.page)

    def answer(self, values: Any) -> list[Any]:
        return asyncio.run(self.page.postprocess_data(self.event, values, self.session))

    def held(self) -> tuple[int, int]:
        return len(self.session.blocks_config.blocks), len(self.session.config_values)


@pytest.mark.parametrize("how", ["list", "components", "one skip", "all", "nothing"])
def test_the_answer_is_that_of_gradio(how: str) -> None:
    ours, gradios = Small(), Small(gr.Blocks)

    def values(of: Small) -> Any:
        more = gr.update(choices=["a", "b"], value="b")
        return {
            "list": [gr.skip(), "<b>", more, gr.skip()],
            "components": {of.choice: more, of.kept: 7},
            "one skip": gr.skip(),
            "all": [1, "<b>", more, 3],
            "nothing": [gr.skip()] * 4,
        }[how]

    assert ours.answer(values(ours)) == gradios.answer(values(gradios))
    assert ours.session[ours.kept._id] == gradios.session[gradios.kept._id]
    assert ours.session[ours.choice._id].choices == gradios.session[gradios.choice._id].choices


def test_a_session_holds_each_component_once_whatever_comes_and_goes() -> None:
    small = Small()
    before = small.held()
    for turn in range(20):
        small.answer([gr.update(label=str(turn)), gr.update(visible=True), gr.skip(), turn])
        small.answer([turn, str(turn), "a", gr.skip()])
    assert small.held() == before
    assert small.session[small.number._id].label == "19"
    assert small.session.config_values[small.number._id]["props"]["value"] == 19


def test_a_skipped_component_is_not_made_anew() -> None:
    small = Small()
    small.answer([gr.skip(), "x", gr.skip(), 1])
    assert small.session[small.number._id] is small.number
    small.answer([5, "x", gr.update(choices=["b"]), 1])
    assert small.session[small.choice._id] is not small.choice


def test_a_page_that_opens_is_told_only_what_it_does_not_show_yet() -> None:
    skip, small = gr.skip(), Small()
    built = [None, gr.update(visible=True, value=None), gr.update(choices=[("a", "a")]), 0]
    assert not_shown_yet(small.outputs, built) == [skip, skip, skip, 0]  # a state is no part of the page
    other = [3, gr.update(visible=False, value=None), gr.update(choices=[("a", "a"), ("b", "b")]), 0]
    assert not_shown_yet(small.outputs, other) == other
    odd = [skip, "", gr.update(unheard_of=1), 0]
    assert not_shown_yet(small.outputs, odd) == odd


def test_an_output_that_is_not_the_events_is_refused() -> None:
    with pytest.raises(ValueError, match="not specified as output"):
        Small().answer({gr.Number(render=False): 1})


def test_too_few_values_are_refused() -> None:
    with pytest.raises(ValueError, match="enough output values"):
        Small().answer([1, 2])
