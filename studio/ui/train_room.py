"""Beside the form of the Train tab: what the training will need, what the device has, and how to make it fit.

All of that is known of DUO; of other methods the time alone, or nothing, which is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from studio.devices import Devices
from studio.durations import roughly
from studio.estimates import SWITCHES, gigabytes, memory
from studio.method_times import COUNTED_FIELDS
from studio.presets import MEMORY_PRESETS
from studio.room import (
    Plan,
    fit_into,
    method_words,
    never_fits,
    on_words,
    plan_of,
    refusal,
    switch_words,
    time_of,
    time_words,
)
from studio.training_configs import DuoConfig, MethodConfig
from studio.ui.context import QUIET, Studio
from studio.ui.forms import Form, FormError
from studio.ui.words import escape

METHOD = "duo"  # the one whose memory is estimated
AS_SET = "as set"
RELEVANT = dict.fromkeys((
    *SWITCHES, "steps", "batch_size", "rank", "layers", "shard_base", "one_adapter_a_group", "early_stop_pictures",
    *COUNTED_FIELDS,
))  # fmt: skip
UNKNOWN = (
    "No estimate: the checkpoint is not on this machine yet, or its shape is not known. Nothing is checked before "
    "the start."
)


@dataclass(frozen=True)
class RoomPanel:
    """The components, and what they are computed from."""

    studio: Studio
    devices: Devices
    box: gr.Column
    preset: gr.Dropdown
    preset_note: gr.HTML
    processes: gr.Number
    estimate: gr.HTML
    use: gr.Button
    anyway: gr.Checkbox
    brief: gr.HTML  # rendered where the training is started from, as is
    error: gr.HTML  # why it was not started; the two never say the same

    @property
    def shown(self) -> list[Any]:
        return [self.estimate, self.use, self.anyway, self.brief, self.error]

    def plan(self, project_id: str, config: DuoConfig, processes: Any) -> Plan | None:
        studio = self.studio
        project = studio.store.get_project(project_id)
        return plan_of(studio.store, studio.settings, self.devices, project, config, count_of(processes))

    def of(self, method: str, project_id: str | None, processes: Any, form: Form, values: Sequence[Any]) -> list[Any]:
        """Updates of `shown` for whichever method."""
        if method == METHOD:
            return self.show(project_id, processes, form, values)
        return self.show_time(project_id, method, form, values)

    def show(self, project_id: str | None, processes: Any, form: Form, values: Sequence[Any]) -> list[Any]:
        """Updates of `shown` for DUO; of a value that the form refuses, what is wrong with it instead of an
        estimate. What a start was refused for is no longer said: something has changed."""
        if project_id is None:
            return [gr.skip()] * 5
        try:
            config = _read(form, values)
        except FormError as error:
            unknown = _quiet("No estimate before every value can be used.")
            return [unknown, gr.update(visible=False), gr.skip(), _wrong(error), ""]
        plan = self.plan(project_id, config, processes)
        if plan is None:
            return [_quiet(UNKNOWN), gr.update(visible=False), gr.update(visible=False, value=False), "", ""]
        offer = f"Use {switch_words(plan.switches)}" if plan.way is not None else ""
        anyway = gr.update(visible=True) if not plan.fits else gr.update(visible=False, value=False)
        return [estimate_html(plan), gr.update(visible=bool(offer), value=offer), anyway, brief_html(plan), ""]

    def show_time(self, project_id: str | None, method: str, form: Form, values: Sequence[Any]) -> list[Any]:
        """The same for another method, of which at most the time is known."""
        if project_id is None:
            return [gr.skip()] * 5
        try:
            config = form.read(values)
        except FormError as error:
            return [*[gr.skip()] * 3, _wrong(error), ""]
        assert isinstance(config, MethodConfig)
        project = self.studio.store.get_project(project_id)
        time = time_of(self.studio.store, self.studio.settings, self.devices, project, config, method)
        return [*[gr.skip()] * 3, f'<p class="duo-brief">{escape(method_words(method, time))}</p>', ""]

    def refused(self, project_id: str, config: DuoConfig, processes: Any) -> str:
        """Why this training does not start, "" where it can."""
        plan = self.plan(project_id, config, processes)
        return "" if plan is None else refusal(plan)

    def fit(self, project_id: str, preset: str, processes: Any, form: Form, values: Sequence[Any]) -> list[Any]:
        """Updates of the form's components and the note, that fit the training into a memory preset, or into what is
        free (preset "")."""
        try:
            config = _read(form, values)
        except FormError as error:
            return [*[gr.skip()] * len(form.fields), _quiet(str(error))]
        plan = self.plan(project_id, config, processes)
        if plan is None:
            return [*[gr.skip()] * len(form.fields), _quiet(UNKNOWN)]
        room = MEMORY_PRESETS[preset] * 1e9 if preset else plan.device.free
        switches = None if room is None else fit_into(plan, room)
        if switches is None:
            into = preset or "the memory that is free"
            return [*[gr.skip()] * len(form.fields), _quiet(never_fits(plan, into))]
        way = config.model_copy(update=switches)
        needs = gigabytes(memory(way, plan.situation).peak)
        said = f"Fits into {preset or 'what is free'} with {on_words(way, config)}: needs about {needs}."
        updates = dict(zip(form.fields, form.show(way.model_dump()), strict=True))
        return [*[updates[name] if name in switches else gr.skip() for name in form.fields], _quiet(said)]


def room_panel(studio: Studio) -> RoomPanel:
    """Build the components."""
    devices = Devices(studio.settings)
    count = max(devices.now().count, studio.settings.processes)
    with gr.Column(elem_classes="duo-room", elem_id="duo-room") as box:
        preset = gr.Dropdown(
            [AS_SET, *MEMORY_PRESETS],
            value=AS_SET,
            label="Memory",
            info="Sets micro-batch, checkpointing, parking and noise bank so that the training fits.",
            filterable=False,
            elem_id="duo-memory",
        )
        preset_note = gr.HTML(elem_classes="duo-about")
        processes = gr.Number(
            studio.settings.processes,
            label="Processes",
            info=f"That train together, one a GPU; this machine has {count}. The batch must be a multiple.",
            precision=0,
            minimum=1,
            maximum=1024,
            visible=count > 1,
            elem_id="duo-processes",
        )
        estimate = gr.HTML(elem_id="duo-estimate")
        use = gr.Button("Use", size="md", visible=False, elem_id="duo-room-use")
        anyway = gr.Checkbox(
            False,
            label="Start although it may not fit",
            info="It then may run out of memory and fail.",
            visible=False,
            elem_id="duo-room-anyway",
        )
    brief = gr.HTML(render=False, elem_id="duo-brief")
    error = gr.HTML(render=False, elem_id="duo-train-error")
    return RoomPanel(studio, devices, box, preset, preset_note, processes, estimate, use, anyway, brief, error)


def wire_room(
    panel: RoomPanel,
    project: gr.Dropdown,
    method: gr.Dropdown,
    forms: Mapping[str, Form],
    values_of: Callable[[str, Sequence[Any]], list[Any]],
) -> None:
    """Show the estimate on opening and whenever something that it depends on changes.

    `values_of` finds a method's values among those of all forms.
    """
    form = forms[METHOD]

    def show(key: str, project_id: str | None, chosen: str, processes: Any, *values: Any) -> list[Any]:
        """Presets change the forms of methods that are not in front, too."""
        return panel.of(key, project_id, processes, forms[key], values) if key == chosen else [gr.skip()] * 5

    def turn(project_id: str | None, chosen: str, processes: Any, *values: Any) -> list[Any]:
        return panel.of(chosen, project_id, processes, forms[chosen], values_of(chosen, values))

    def fit(project_id: str, preset: str, processes: Any, *values: Any) -> list[Any]:
        if preset == AS_SET:
            return [*[gr.skip()] * len(values), ""]
        return panel.fit(project_id, preset, processes, form, values)

    def use(project_id: str, processes: Any, *values: Any) -> list[Any]:
        return panel.fit(project_id, "", processes, form, values)

    given = [project, method, panel.processes]
    for key, one in forms.items():
        watched: list[Callable[..., Any]] = [one.fields[name].change for name in RELEVANT if name in one.fields]
        watched += [panel.processes.change, panel.anyway.input] if key == METHOD else []
        inputs = [*given, *one.components]
        if watched:  # a closed form has nothing that its time depends on
            gr.on(watched, partial(show, key), inputs, panel.shown, queue=False, trigger_mode="always_last", **QUIET)
    every = [*given, *(component for one in forms.values() for component in one.components)]
    turns: list[Callable[..., Any]] = [project.change, method.change]
    gr.on(turns, turn, every, panel.shown, queue=False, trigger_mode="always_last", **QUIET)
    inputs = [panel.processes, *form.components]
    filled = [*form.components, panel.preset_note]
    panel.preset.input(fit, [project, panel.preset, *inputs], filled, queue=False, **QUIET)
    panel.use.click(use, [project, *inputs], filled, queue=False, **QUIET)


def estimate_html(plan: Plan) -> str:
    """Memory against what the device has, time, and how sure both are."""
    needed, free = plan.memory.peak, plan.device.free
    kind = "error" if not plan.fits else "warn" if plan.is_tight else "info"
    during = "" if plan.memory.phase == "training" else f" while {plan.memory.phase}"
    has = "free memory is not known" if free is None else f"{gigabytes(free)} free"
    line = f"<b>Needs about {gigabytes(needed)}</b>{during}; {escape(plan.device.name)}: {has}"
    if plan.is_tight:
        line += ", so it may just not fit"
    why = refusal(plan)
    first = f"<b>{escape(why)}</b>" if why else f"<span>{line}.</span>"
    said = [first, _meter(needed, free), f"<span>{escape(time_words(plan.time))}</span>"]
    if not why:
        said.append(f'<span class="duo-quiet">Memory is estimated: {escape(plan.memory.basis)}.</span>')
    role = "alert" if kind == "error" else "status"
    return f'<div class="duo-note duo-note-{kind} duo-estimate" role="{role}">{"".join(said)}</div>'


def brief_html(plan: Plan) -> str:
    """The same in one line, beside the button that starts it: the estimate itself may be out of sight."""
    needed, free = gigabytes(plan.memory.peak), plan.device.free
    if not plan.fits and free is not None:
        return f'<p class="duo-brief is-not">Does not fit: needs about {needed}, {gigabytes(free)} free</p>'
    seconds = plan.time.seconds
    time = f" · about {roughly(seconds)}" if seconds is not None else ""
    has = f" of {gigabytes(free)} free" if free is not None else ""
    return f'<p class="duo-brief">About {needed}{has}{time}</p>'


def _meter(needed: float, free: float | None) -> str:
    if not free:
        return ""
    share = min(needed / free, 1)
    return f'<span class="duo-room-meter" aria-hidden="true"><i style="width:{share:.0%}"></i></span>'


def count_of(processes: Any) -> int:
    """The processes as typed; an empty field is one."""
    return max(1, int(processes or 1))


def _read(form: Form, values: Sequence[Any]) -> DuoConfig:
    config = form.read(values)
    assert isinstance(config, DuoConfig)
    return config


def _wrong(error: FormError) -> str:
    return f'<p class="duo-brief is-not">{escape(error)}</p>'


def _quiet(text: str) -> str:
    return f'<p class="duo-quiet">{escape(text)}</p>'
