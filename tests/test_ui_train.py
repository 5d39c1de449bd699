"""The Train tab and the jobs panel without a browser: what the form starts, what is shown of which rows."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from models.stored import Stored
from studio.launchers.hf_jobs import Machine
from studio.method_configs import METHOD_CONFIGS, method_title
from studio.methods import METHODS
from studio.presets import PRESETS
from studio.records import Checkpoint, ImagePair, Job, PairCounts, Project, Sample, Verdict
from studio.settings import Settings
from studio.store import Store
from studio.training_configs import DuoConfig
from studio.ui.activity import job_options, jobs_list, jobs_panel, resume_job, stop_job, waiting
from studio.ui.adapters import adapter_routes, adapter_url
from studio.ui.charts import MAX_POINTS, Chart, Series, chart, pieces, running_mean, short, thin, ticks
from studio.ui.context import Studio
from studio.ui.roles import handler_name
from studio.ui.train import TrainTab, train_tab
from studio.ui.train_form import DEFAULTS, OWN, first_preset, free_name, ground
from studio.ui.train_start import start_training, suggested
from studio.ui.train_where import where_panel
from studio.ui.training_view import charts, head, sample_rows
from studio.ui.trainings import Curves, Training, trainings_of
from tests.ui_data import add_accepted_pairs

NAMES = ("ground", "chosen", "seen", "head", "actions", "stop", "resume", "charts", "samples", "log_box", "log", "said")


@pytest.fixture
def tab(studio: Studio) -> TrainTab:
    with gr.Blocks():
        return train_tab(studio, gr.Dropdown())


def add_training(store: Store, project: Project, name: str = "DUO", **changes: Any) -> Job:
    config = {"method": "duo", "name": name, "config": DuoConfig(steps=40).model_dump(), "pairs": ["a", "b"]}
    job = store.create_job(Job("", project.id, "train", config))
    return store.update_job(job.id, **changes) if changes else job


def filled(tab: TrainTab, method: str, **typed: Any) -> tuple[Any, ...]:
    """The form's values after its name, as the page sends them."""
    values = []
    for part in tab.form.parts.values():
        for name, component in part.form.fields.items():
            values.append(typed.get(name, component.value) if part.method == method else component.value)
    return tuple(values)


def refreshed(tab: TrainTab, project: Project, chosen: Any = None, seen: Any = None) -> dict[str, Any]:
    view = tab.studio.view(project.id)
    return dict(zip(NAMES, tab.refresh(view, chosen, "duo", seen), strict=True))


def is_skipped(update: Any) -> bool:
    return isinstance(update, dict) and "value" not in update and set(update) == {"__type__"}


# -- the form ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_has_a_form_with_every_setting(tab: TrainTab, method: Any) -> None:
    part = tab.form.parts[method.name]
    assert set(part.form.fields) == set(method.Config.model_fields)
    assert method.uses_pairs == METHOD_CONFIGS[method.name].uses_pairs
    assert method_title(method.name) == method.title


def test_what_is_typed_is_what_is_trained(tab: TrainTab, studio: Studio, store: Store, project: Project) -> None:
    add_accepted_pairs(store, studio.settings, project, 2)
    values = filled(tab, "duo", steps="7", learning_rate="2e-5", beta="25", layers="all")
    said, key = start_training(studio, studio.view(project.id), tab.form, "duo", " mine ", values)
    (job,) = store.list_jobs(project.id)
    assert (said, key) == ("", job.id)
    assert job.config["name"] == "mine"
    typed = {"steps": 7, "learning_rate": 2e-5, "beta": 25, "layers": "all"}  # over the preset that was shown first
    assert job.config["config"] == DuoConfig(**{**PRESETS["toybox: duo"].values, **typed}).model_dump()


def test_a_wrong_value_is_said_and_nothing_starts(
    tab: TrainTab, studio: Studio, store: Store, project: Project
) -> None:
    add_accepted_pairs(store, studio.settings, project, 2)
    values = filled(tab, "duo", learning_rate="3")
    said, key = start_training(studio, studio.view(project.id), tab.form, "duo", "", values)
    assert key is None
    assert "Learning rate is 3; it must be a number above 0, at most 1." in said
    assert 'role="alert"' in said
    assert store.list_jobs() == []


def test_without_pairs_the_way_to_some_is_shown(tab: TrainTab, studio: Studio, store: Store, project: Project) -> None:
    said, key = start_training(studio, studio.view(project.id), tab.form, "duo", "", filled(tab, "duo"))
    assert key is None
    assert "0 accepted pairs" in said
    assert 'data-open-tab="Curate"' in said
    assert store.list_jobs() == []
    said, key = start_training(studio, studio.view(project.id), tab.form, "esd", "", filled(tab, "esd"))
    assert said == ""
    assert store.get_job(str(key)).config["method"] == "esd"


def test_a_method_that_is_not_defined_for_the_family_is_refused_with_the_reason(
    tab: TrainTab, studio: Studio, store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pipeline, method, words in (
        ("FluxPipeline", "esd", "ESD is not defined for FLUX.1, because its target is made of a pass under the empty"),
        ("StableDiffusion3Pipeline", "uce", "Use DUO, ESD, SPM, Concept Ablation, Selective Amnesia, SalUn."),
        ("StableDiffusion3Pipeline", "esd", ""),
        ("StableDiffusionXLPipeline", "uce", ""),
    ):
        stored = Stored(1, frozenset(), pipeline)
        monkeypatch.setattr("studio.ui.train_form.stored_weights", lambda *_, stored=stored: stored)
        said, key = start_training(studio, studio.view(project.id), tab.form, method, "", filled(tab, method))
        assert words in said
        assert (key is None) == bool(words)


def test_pairs_without_prompts_are_told_to_methods_that_need_them(
    studio: Studio, store: Store, settings: Settings, project: Project, tab: TrainTab
) -> None:
    job = store.create_job(Job("", project.id, "bring", {}))
    pair = ImagePair("a1", project.id, "", 0, 0, "ready", origin="brought")
    store.settle_brought(job.id, 0, "taken", pair=pair, verdict=Verdict("", "", "Ann", "accept"))
    for method, typed in (("duo", {"prompt": "pair"}), ("selective-amnesia", {})):
        said, key = start_training(studio, studio.view(project.id), tab.form, method, "", filled(tab, method, **typed))
        assert key is None
        assert "1 accepted pair was brought without a prompt" in said
        assert ("set Prompt to “empty”" in said) == (method == "duo")
    said, key = start_training(studio, studio.view(project.id), tab.form, "duo", "", filled(tab, "duo", prompt="empty"))
    assert (said, key is None) == ("", False)


@pytest.mark.parametrize(
    ("accepted", "kind", "words"),
    [
        (0, "error", ["0 accepted pairs"]),
        (12, "warn", ["Only 12 accepted pairs", "32", "64", 'data-open-tab="Curate"']),
        (40, "warn", ["40 accepted pairs", "64"]),
        (64, "info", ["64 accepted pairs"]),
    ],
)
def test_too_few_pairs_are_a_warning_with_both_numbers(accepted: int, kind: str, words: list[str]) -> None:
    text = ground(PairCounts(wanted=96, ready=90, accepted=accepted), "duo")
    assert f"duo-note-{kind}" in text
    assert all(word in text for word in words)


def test_a_method_that_needs_no_pairs_says_so() -> None:
    text = ground(PairCounts(), "esd")
    assert "prompts alone" in text
    assert "duo-note-error" not in text


def test_a_preset_fills_the_form_and_own_leaves_it(tab: TrainTab) -> None:
    part = tab.form.parts["duo"]
    name, note, *fields = part.fill_preset("toybox: duo")
    values = {key: update["value"] for key, update in zip(part.form.fields, fields, strict=True)}
    assert (name["value"], values["learning_rate"], values["beta"]) == ("toybox: duo", "3e-4", "50")
    assert "embedded checkpoint" in note
    assert part.fill_preset(DEFAULTS)[2]["value"] == str(DuoConfig().steps)
    assert all(is_skipped(update) for update in part.fill_preset(OWN)[2:])


def test_the_first_preset_is_the_checkpoints(project: Project) -> None:
    assert first_preset(project, "duo") == "toybox: duo"
    own = replace(project, checkpoint="/models/own")
    assert first_preset(own, "duo") == "paper: nudity"
    assert first_preset(own, "esd") == "paper: esd-x"


def test_names_are_numbered(studio: Studio, store: Store, project: Project) -> None:
    assert free_name("duo", []) == "DUO"
    add_training(store, project)
    add_training(store, project, "DUO 2")
    view = studio.view(project.id)
    assert suggested(view, "duo") == "DUO 3"
    assert suggested(view, "duo", "mine") == "mine"


# -- memory and time before the start ----------------------------------------------------------------------------


def roomy(studio: Studio, gigabytes: float) -> TrainTab:
    """The tab of a studio whose device has so much memory."""
    with gr.Blocks():
        return train_tab(replace(studio, settings=replace(studio.settings, memory=gigabytes)), gr.Dropdown())


def test_the_estimate_stands_before_the_start(studio: Studio, store: Store, project: Project) -> None:
    tab = roomy(studio, 1000.0)
    form = tab.form.parts["duo"].form
    text, use, anyway, brief, _ = tab.form.room.show(project.id, 1, form, filled(tab, "duo")[: len(form.fields)])
    assert "Needs about" in text
    assert " of 1000 GB free · about " in brief
    assert "1000 GB free" in text
    assert "Takes about" in text
    assert "%" in text
    assert (use["visible"], anyway["visible"]) == (False, False)
    wrong = filled(tab, "duo", steps="many")[: len(form.fields)]
    text, _, _, brief, _ = tab.form.room.show(project.id, 1, form, wrong)
    assert "No estimate" in text
    assert "Steps is many; it must be a whole number" in brief
    far = store.create_project(replace(project, id="", name="Far", checkpoint="somebody/something"))
    assert "No estimate" in tab.form.room.show(far.id, 1, form, filled(tab, "duo")[: len(form.fields)])[0]


@pytest.mark.parametrize("method", ["duo", "esd"])
def test_what_is_wrong_is_said_once(studio: Studio, store: Store, project: Project, method: str) -> None:
    """Beside the button while somebody types, in the error's box once a start was refused."""
    add_accepted_pairs(store, studio.settings, project, 2)
    with gr.Blocks() as page:
        tab = train_tab(studio, gr.Dropdown())
    handlers = {handler_name(one.fn): one.fn for one in page.fns.values() if one.fn is not None}

    def typed(**values: str) -> list[str]:
        given = (project.id, method, 1, *filled(tab, method, **values))
        return handlers["train_room.wire_room.turn"](*given)[3:]

    def pressed(**values: str) -> list[str]:
        given = (project.id, 1, False, "local", None, None, method, "", *filled(tab, method, **values))
        return handlers["train._wire_form.start"](*given)[:2]

    words = "Steps is many; it must be a whole number"
    brief, error = typed(steps="many")
    assert (words in brief, error) == (True, "")
    error, brief = pressed(steps="many")
    assert (words in error, brief) == (True, "")
    error, brief = pressed(steps="7")
    assert (error, "About" in brief) == ("", True)
    assert typed(steps="7") == [brief, ""]


def test_other_methods_say_their_time_or_that_none_is_known(studio: Studio, store: Store, project: Project) -> None:
    tab = roomy(studio, 1000.0)

    def said(method: str, where: Project = project, **typed: str) -> str:
        form = tab.form.parts[method].form
        values = tab.form.values_of(method, filled(tab, method, **typed))
        return re.sub("<.*?>", "", tab.form.room.of(method, where.id, 1, form, values)[3])

    for method in METHOD_CONFIGS.keys() - {"duo"}:
        known = method in ("esd", "spm", "concept-ablation")
        none = f"No estimate of time or memory is known for this training by {method_title(method)}."
        assert (said(method) == none) is not known, method
    assert "No estimate of time or memory" in said("esd", variant="esd-u")
    assert said("esd").endswith("No estimate of memory is known for ESD.")
    seconds = [plain_seconds(said("esd", steps=steps)) for steps in ("200", "2000")]
    assert 2 < seconds[1] / seconds[0] < 10, "the sampling before the steps stays the same"
    far = store.create_project(replace(project, id="", name="Far", checkpoint="somebody/something"))
    assert "not known before the first training by ESD" in said("esd", far)


def plain_seconds(words: str) -> float:
    number, unit = re.match(r"About ([\d.]+) (s|min|h)", words).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def test_what_cannot_fit_is_refused_with_a_button_that_makes_it_fit(studio: Studio, store: Store) -> None:
    name = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    project = store.create_project(Project("", "Own", "sword", name, "toybox"))
    add_accepted_pairs(store, studio.settings, project, 2)
    tab = roomy(studio, 11.6)
    form, room = tab.form.parts["duo"].form, tab.form.room
    values = filled(tab, "duo", batch_size="8", sample_every="0")
    view = studio.view(project.id)
    said, key = start_training(studio, view, tab.form, "duo", "", values)
    assert key is None
    assert "11.6 GB free" in said
    assert "gradient checkpointing" in said.lower() or "micro-batch" in said.lower()
    assert store.list_jobs() == []
    own = values[: len(form.fields)]
    text, use, anyway, brief, _ = room.show(project.id, 1, form, own)
    assert "Does not fit: needs about" in brief
    assert "duo-note-error" in text
    assert use["value"].startswith("Use ")
    assert anyway["visible"]
    updates = dict(zip(form.fields, room.fit(project.id, "", 1, form, own)[:-1], strict=True))
    assert is_skipped(updates["beta"])
    fitted = tuple(updates[name].get("value", value) for name, value in zip(form.fields, own, strict=True))
    assert "duo-note-error" not in room.show(project.id, 1, form, fitted)[0]
    rest = values[len(form.fields) :]
    assert start_training(studio, view, tab.form, "duo", "", (*fitted, *rest))[1] is not None
    assert start_training(studio, view, tab.form, "duo", "", values, anyway=True)[1] is not None


def test_a_memory_preset_goes_with_a_methods_preset(studio: Studio, store: Store) -> None:
    name = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    project = store.create_project(Project("", "Own", "sword", name, "toybox"))
    tab = roomy(studio, 1000.0)
    part, room = tab.form.parts["duo"], tab.form.room
    paper = {**PRESETS["paper: nudity"].values, "sample_every": 0}
    values = [update["value"] for update in part.form.show(paper)]
    *updates, said = room.fit(project.id, "12 GB", 1, part.form, values)
    shown = dict(zip(part.form.fields, updates, strict=True))
    assert "Fits into 12 GB with" in said
    assert is_skipped(shown["beta"])
    assert is_skipped(shown["steps"])
    assert int(shown["micro_batch_size"]["value"]) >= 1
    *updates, said = room.fit(project.id, "80 GB", 1, part.form, values)
    assert dict(zip(part.form.fields, updates, strict=True))["gradient_checkpointing"]["value"] is False
    assert "no memory switch on" in said
    flux = store.create_project(replace(project, id="", name="F", checkpoint="black-forest-labs/FLUX.1-dev"))
    *updates, said = room.fit(flux.id, "8 GB", 1, part.form, values)
    assert "No switches make this training fit into 8 GB: it needs at least" in said
    assert all(is_skipped(update) for update in updates)


def test_processes_are_a_field_where_there_are_several_devices(studio: Studio, project: Project, store: Store) -> None:
    assert not roomy(studio, 0).form.room.processes.visible
    several = replace(studio, settings=replace(studio.settings, processes=2, memory=1000.0))
    with gr.Blocks():
        tab = train_tab(several, gr.Dropdown())
    assert tab.form.room.processes.visible
    add_accepted_pairs(store, studio.settings, project, 2)
    view = studio.view(project.id)
    said, key = start_training(several, view, tab.form, "duo", "", filled(tab, "duo"), processes=4)
    assert (said, store.get_job(str(key)).config["processes"]) == ("", 4)
    said, key = start_training(several, view, tab.form, "duo", "", filled(tab, "duo"), processes=3)
    assert key is None
    assert "cannot be dealt out to 3 processes" in said


# -- the training in front ---------------------------------------------------------------------------------------


def test_a_page_without_trainings_says_what_fills_it(tab: TrainTab, project: Project) -> None:
    shown = refreshed(tab, project)
    assert "No training yet" in shown["head"]
    assert not shown["stop"]["visible"]
    assert shown["charts"] == shown["samples"] == ""


def test_a_tick_without_news_sends_nothing(tab: TrainTab, store: Store, project: Project) -> None:
    job = add_training(store, project, state="running", step=3, total=40)
    first = refreshed(tab, project)
    assert "step 3 of 40" in first["head"]
    again = refreshed(tab, project, job.id, first["seen"])
    assert all(is_skipped(update) for name, update in again.items() if name not in ("seen",))
    store.add_job_metrics(job.id, 4, {"loss": 0.5})
    store.update_job(job.id, step=4)
    third = refreshed(tab, project, job.id, again["seen"])
    assert "step 4 of 40" in third["head"]
    assert "<svg" in third["charts"]
    assert is_skipped(third["samples"])
    assert is_skipped(third["ground"])


def test_the_newest_is_followed_until_another_is_chosen(tab: TrainTab, store: Store, project: Project) -> None:
    old, middle = add_training(store, project, "old"), add_training(store, project, "middle")
    first = refreshed(tab, project)
    assert first["chosen"]["value"] == middle.id
    new = add_training(store, project, "new")
    assert refreshed(tab, project, middle.id, first["seen"])["chosen"]["value"] == new.id
    kept = refreshed(tab, project, old.id, first["seen"])
    assert "value" not in kept["chosen"]  # the visitor's choice is left alone
    assert "<h3>old " in kept["head"]


def test_states_offer_what_can_be_done(tab: TrainTab, store: Store, project: Project) -> None:
    job = add_training(store, project)
    offered = {}
    for state in ("queued", "running", "stopping", "stopped", "failed", "done"):
        store.update_job(job.id, state=state, step=5, total=40, error="The worker was killed.\nlast <line>")
        shown = refreshed(tab, project)
        offered[state] = (shown["stop"]["visible"], shown["resume"]["visible"])
        assert f">{'waiting' if state == 'queued' else state}</span>" in shown["head"]
    assert offered == {
        "queued": (True, False),
        "running": (True, False),
        "stopping": (False, False),
        "stopped": (False, True),
        "failed": (False, True),
        "done": (False, False),
    }
    store.update_job(job.id, state="failed")
    text = refreshed(tab, project)["head"]
    assert "The worker was killed." in text
    assert "last &lt;line&gt;" in text


def test_a_finished_training_leads_to_its_model(studio: Studio, store: Store, project: Project) -> None:
    job = add_training(store, project)
    made = store.add_checkpoint(
        Checkpoint("", project.id, job.id, "duo", "My <DUO>", "/data/a.safetensors", "ab" * 32, "lora", {}, 90.0)
    )
    job = store.update_job(job.id, state="done", result={"checkpoint_id": made.id})
    (training,) = trainings_of([job])
    text = head(training, "", training.checkpoint(studio.view(project.id).checkpoints))
    assert "40 steps in 1 min 30 s" in text
    assert "abababab" in text
    assert "/data/a.safetensors" in text
    assert 'data-open-tab="Compare"' in text
    assert f'href="{adapter_url(made.id)}" download="my--duo-abababab.safetensors"' in text


def test_the_trainings_of_a_demo_are_trainings_too(store: Store, project: Project) -> None:
    stages = {name: {"method": name, "name": name.upper(), "config": {"steps": 10}} for name in ("duo", "esd")}
    job = store.create_job(Job("", project.id, "demo", {"stages": {"pairs": {"strength": 0.7}, **stages}}))
    job = store.update_job(job.id, state="running", result={"duo": {"checkpoint_id": "c1"}})
    duo, esd = trainings_of([job])
    assert (duo.title, duo.state, duo.checkpoint_id, duo.total) == ("Demo: DUO", "done", "c1", 10)
    assert (esd.title, esd.state, esd.key) == ("Demo: ESD", "running", f"{job.id}:esd")
    for whole, step in ((330, 1), (400, 2), (470, 3)):
        store.add_job_metrics(job.id, whole, {"duo.loss": step / 10, "duo.step": step})
    store.add_job_metrics(job.id, 4000, {"esd.loss": 0.5})  # by a studio that kept no step
    store.add_job_metrics(job.id, 4100, {"esd.loss": 0.4})
    curves = Curves(store)
    assert curves.of(duo) == {"loss": [(1, 0.1), (2, 0.2), (3, 0.3)]}
    assert curves.of(esd) == {"loss": [(1, 0.5), (2, 0.4)]}


def test_numbers_are_read_on_and_anew_after_a_resume(
    store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add_training(store, project, state="running", started=1.0)
    asked: list[int] = []
    read = store.job_metrics
    monkeypatch.setattr(store, "job_metrics", lambda job_id, after=-1: asked.append(after) or read(job_id, after))
    curves = Curves(store)

    def losses(job: Job) -> list[float]:
        (training,) = trainings_of([job])
        return [value for _, value in curves.of(training).get("loss", [])]

    assert losses(job) == []
    for step in range(1, 6):
        store.add_job_metrics(job.id, step, {"loss": float(step)})
    assert losses(job) == [1, 2, 3, 4, 5]
    store.add_job_metrics(job.id, 6, {"loss": 6.0})
    assert losses(job) == [1, 2, 3, 4, 5, 6]
    assert asked == [-1, -1, 4]
    store.add_job_metrics(job.id, 2, {"loss": 20.0})
    assert losses(store.update_job(job.id, started=2.0)) == [1, 20, 3, 4, 5, 6]


# -- charts ------------------------------------------------------------------------------------------------------


def test_a_long_line_keeps_its_peaks_and_its_ends() -> None:
    points = [(float(step), math.sin(step / 50)) for step in range(1, 10_001)]
    points[3210] = (3211.0, 9.0)
    points[7777] = (7778.0, -9.0)
    kept = thin(points)
    assert len(kept) <= MAX_POINTS + 2
    assert {(3211.0, 9.0), (7778.0, -9.0), points[0], points[-1]} <= set(kept)
    assert kept == sorted(kept)
    assert thin(points[:50]) == points[:50]


def test_what_is_no_number_is_a_gap() -> None:
    points = [(1.0, 0.5), (2.0, math.nan), (3.0, 0.4), (4.0, math.inf), (5.0, 0.3), (6.0, 0.2)]
    assert [[step for step, _ in piece] for piece in pieces(points)] == [[1], [3], [5, 6]]
    text = chart(Chart("Loss", "", [Series("loss", points)]))
    assert text.count("M") >= 3
    assert "nan" not in text
    assert "inf" not in text
    long = [(float(step), math.nan if 400 <= step <= 600 else 1.0 + step) for step in range(1000)]
    assert len(list(pieces(thin(long)))) == 2
    assert running_mean(points, 2)[0] == (1.0, 0.5)
    assert [round(value, 3) for _, value in running_mean(points, 2)[4:]] == [0.35, 0.25]
    assert chart(Chart("Loss", "", [Series("loss", [(1.0, math.nan)])])) == ""


def test_a_last_value_that_is_no_number_is_said() -> None:
    assert "not a number" in chart(Chart("Loss", "", [Series("loss", [(1.0, 0.5), (2.0, math.nan)])]))


def test_a_wide_range_gets_a_logarithmic_axis() -> None:
    wide = [(float(step), 10.0 ** (-step / 10)) for step in range(1, 51)]
    text = chart(Chart("L", "", [Series("l", wide)], may_be_log=True))
    assert re.findall(r'text-anchor="end">([^<]+)</text>', text)[:3] == ["1e-5", "1e-4", "0.001"]
    assert ">0</text>" in chart(Chart("L", "", [Series("l", wide)]))
    assert ">0</text>" in chart(Chart("L", "", [Series("l", [*wide, (51.0, 0.0)])], may_be_log=True))


def test_every_point_lies_inside_the_picture() -> None:
    for values in ([0.5], [0.5, 0.5], [-3.0, 4.0, 1e-9], [1e-6, 5e6]):
        points = [(float(step), value) for step, value in enumerate(values, 1)]
        text = chart(Chart("L", "", [Series("l", points)], may_be_log=True))
        drawn = re.search(r'class="is-main" d="([^"]+)"', text)
        assert drawn
        spots = [tuple(map(float, spot.split())) for spot in re.findall(r"[\d.]+ [\d.]+", drawn[1])]
        assert len(spots) == len(values)
        assert all(40 <= x <= 340 and 0 <= y <= 160 for x, y in spots)


def test_ticks_are_round() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-0.31, 0.27) == [-0.2, 0, 0.2]
    assert ticks(3, 3) == [3]
    assert [short(value) for value in (0.6931, 120, 3.14e-5, 2.5e6, 0, -0.04)] == [
        "0.693", "120", "3.1e-5", "2.5e6", "0", "-0.04"
    ]  # fmt: skip


def test_the_figures_say_what_they_mean_and_how_they_went(store: Store, project: Project) -> None:
    job = add_training(store, project, state="running")
    (training,) = trainings_of([job])
    assert "begin with the first step" in charts({}, training)
    names = ("loss", "dpo", "prior", "d_safe", "d_unsafe", "implicit_accuracy", "grad_norm", "new_one")
    text = charts({name: [(1, 0.1), (2, 0.25)] for name in names}, training)
    titles = re.findall("<h4>([^<]+)</h4>", text)
    assert titles == ["Loss", "Reconstruction, against the original", "Implicit accuracy", "Preference term",
                      "Prior term", "New one", "Gradient norm"]  # fmt: skip
    assert "already prefers the safe twin" in text
    assert "<b>25 %</b>" in text
    assert 'aria-label="Loss, 2 steps: loss from 0.1 to 0.25, between 0.1 and 0.25"' in text
    assert "safe picture, d(x+) <b>" in text


# -- sample pictures ---------------------------------------------------------------------------------------------


def make_samples(*found: bool | None) -> list[Sample]:
    return [
        Sample("", "j", "", step, at, f"prompt {at}", 1, at == 0, f"{step}{at}" * 32, one, None if one is None else 0.9)
        for step, one in zip((0, 50), found, strict=True)
        for at in (0, 1)
    ]


def test_samples_are_a_row_a_prompt_and_a_column_a_step() -> None:
    text = sample_rows(make_samples(True, False), "sword", False, 50)
    assert re.findall(r'<th scope="col">([^<]+)<', text) == ["original", "step 50, the end"]
    assert text.count("<img") == text.count("duo-pill") == 4
    assert "should lose its sword" in text
    assert "should stay as it is" in text
    assert "blur" not in text
    assert sample_rows([], "sword", False, 50) == ""


def test_where_pictures_are_blurred_only_what_is_surely_clean_is_shown() -> None:
    for found, blurred in ((True, 4), (None, 4), (False, 0)):
        assert sample_rows(make_samples(found, found), "nudity", True, 50).count(".webp?blur") == blurred


# -- adapters ----------------------------------------------------------------------------------------------------


def test_only_files_of_trained_models_are_given_out(
    settings: Settings, store: Store, project: Project, tmp_path: Path
) -> None:
    job = add_training(store, project)
    inside = settings.checkpoints / job.id / "adapter.safetensors"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(b"weights")
    (tmp_path / "secret.safetensors").write_bytes(b"secret")
    paths = [inside, tmp_path / "secret.safetensors", settings.checkpoints / ".." / "studio.db", inside.with_name("no")]
    made = [
        store.add_checkpoint(Checkpoint("", project.id, job.id, "duo", "DUO", str(path), "ab" * 32, "lora"))
        for path in paths
    ]
    web = TestClient(Starlette(routes=adapter_routes(settings, store)))
    answers = [web.get("/" + adapter_url(checkpoint.id)) for checkpoint in made]
    assert [answer.status_code for answer in answers] == [200, 404, 404, 404]
    assert answers[0].content == b"weights"
    assert web.get("/" + adapter_url("unknown")).status_code == 404
    inside.unlink()
    assert "missing" in web.get("/" + adapter_url(made[0].id)).text


# -- jobs --------------------------------------------------------------------------------------------------------


def test_a_waiting_job_says_what_it_waits_for(studio: Studio, store: Store, project: Project) -> None:
    other = store.create_project(replace(project, id="", name="Cane <b>"))
    mine = add_training(store, project)
    assert waiting(store, studio.view(project.id)) == {mine.id: "Starts in a moment."}
    theirs = store.create_job(Job("", other.id, "evaluate", {}))
    assert store.claim_job(theirs.id, 1, 1.0)
    second = add_training(store, project, "second")
    words = waiting(store, studio.view(project.id))
    assert words == {
        mine.id: "Number 1 in the queue: waits for Evaluate of project Cane <b>.",
        second.id: "Number 2 in the queue: waits for Evaluate of project Cane <b> and 1 more before it.",
    }
    assert "of project Cane &lt;b&gt;." in jobs_list(studio.view(project.id).jobs, words)
    assert waiting(store, studio.view(other.id)) == {}


def test_a_job_is_stopped_and_resumed_by_name(studio: Studio, store: Store, project: Project) -> None:
    done = add_training(store, project, "done", state="done")
    failed = add_training(store, project, "failed", state="failed")
    waits = add_training(store, project, "waits")
    options = job_options(store.list_jobs())
    assert [key for _, key in options] == [waits.id, failed.id]
    assert options[0][0].startswith("Train · waits (waiting, ")
    assert stop_job(studio, waits.id) == ""
    assert store.get_job(waits.id).state == "stopped"
    assert resume_job(studio, failed.id) == ""
    assert store.get_job(failed.id).state == "queued"
    assert "only a failed or stopped job" in resume_job(studio, done.id)
    assert "has ended already: done" in stop_job(studio, done.id)


def test_the_panel_leaves_the_choice_alone(studio: Studio, store: Store, project: Project) -> None:
    with gr.Blocks():
        panel = jobs_panel(studio, gr.Dropdown())
    one, two = add_training(store, project, "one"), add_training(store, project, "two")
    view = studio.view(project.id)
    before = panel.shows(view)
    listing, actions, chosen, _ = panel.refresh(view, None)
    assert "Train · one" in listing
    assert actions["visible"]
    assert chosen["value"] == two.id
    assert "value" not in panel.refresh(view, one.id)[2]
    stop_job(studio, one.id)
    assert panel.shows(studio.view(project.id)) != before


def test_a_stage_of_a_demo_is_stopped_as_the_demo(tab: TrainTab, store: Store, project: Project) -> None:
    job = store.create_job(
        Job("", project.id, "demo", {"stages": {"duo": {"method": "duo", "name": "DUO", "config": {}}}})
    )
    store.update_job(job.id, state="running", step=3000, total=10_000, message="2/4 Training DUO: loss 0.4")
    shown = refreshed(tab, project)
    assert shown["stop"]["visible"]
    assert "Demo: DUO" in shown["head"]
    assert "bar is that of the whole demo" in shown["head"]
    assert isinstance(trainings_of(store.list_jobs())[0], Training)


# -- where it runs -----------------------------------------------------------------------------------------------


def test_without_a_token_only_this_machine_can_be_chosen(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with gr.Blocks():
        panel = where_panel(replace(studio, settings=replace(studio.settings, launcher="hf_jobs")))
    assert (panel.choice.value, panel.choice.interactive, panel.details.visible) == ("local", False, False)
    assert "hf auth login" in str(panel.choice.info)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    with gr.Blocks():
        assert where_panel(studio).choice.interactive


def test_what_is_chosen_there_is_told_its_cost_and_submitted(
    tab: TrainTab, studio: Studio, store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.ui.train_where.machines", lambda: [Machine("t4-small", "T4", "4 vCPU", 0.4)])
    where = tab.form.where
    shown, cost = where.show("hf_jobs", "t4-small", 30)
    assert shown["visible"]
    assert "so it costs $0.20 at most" in cost
    assert "must lie between" in where.show("hf_jobs", "t4-small", 0)[1]
    assert where.show("local", "t4-small", 0) == [gr.update(visible=False), ""]
    add_accepted_pairs(store, studio.settings, project, 2)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    values, view = filled(tab, "duo", steps="7"), studio.view(project.id)
    monkeypatch.setattr(type(tab.form.room), "refused", lambda *_: "It does not fit here.")
    said, _ = start_training(studio, view, tab.form, "duo", "Here", values, where=where.asked("local", "", 0))
    assert "does not fit here" in said
    asked = where.asked("hf_jobs", "t4-small", 30)
    said, key = start_training(studio, view, tab.form, "duo", "There", values, where=asked)
    job = store.get_job(key or said)
    assert (job.launcher, job.place["flavor"], job.place["timeout_minutes"]) == ("hf_jobs", "t4-small", 30)
    here = add_training(store, project, "Here")
    assert waiting(store, studio.view(project.id)) == {here.id: "Starts in a moment."}, "it waits for nothing elsewhere"
    training = trainings_of([job])[0]
    assert "Hugging Face Jobs, machine t4-small, 30 minutes at most" in head(training, "", None)
