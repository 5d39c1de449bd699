"""The page: header, guided path, tabs, jobs, and the timer that keeps them true to the store's rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from studio.hosting.door import Door
from studio.hosting.exposure import check_exposure
from studio.hosting.guard import Guard
from studio.hosting.metrics import Metrics
from studio.inference.client import InferenceClient
from studio.jobs import Runner
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from studio.ui.activity import jobs_panel
from studio.ui.attack import attack_panel
from studio.ui.attack_found import attack_routes
from studio.ui.bring import bring_panel
from studio.ui.bring_routes import bring_routes
from studio.ui.bulk import bulk_routes
from studio.ui.care_gate import Gate
from studio.ui.compare import compare_routes, compare_tab
from studio.ui.context import QUIET, Linked, Studio, Tab, View
from studio.ui.curate import curate_tab
from studio.ui.curate_views import more_views, views_bar
from studio.ui.curation import curation_routes
from studio.ui.export_view import export_routes
from studio.ui.exports import export_panel
from studio.ui.generate import generate_section
from studio.ui.health import health_routes, states
from studio.ui.importing import import_panel
from studio.ui.news import News
from studio.ui.page import StudioPage, not_shown_yet
from studio.ui.path import guided_path
from studio.ui.pictures import routes
from studio.ui.projects import project_bar, project_buttons
from studio.ui.prompt_table import prompt_routes
from studio.ui.prompts import prompts_tab
from studio.ui.purge import purge_panel
from studio.ui.quality_routes import quality_routes
from studio.ui.report import report_routes, report_tab
from studio.ui.reviewing import reviewer_routes
from studio.ui.roles import Needs, guard_handlers, hidden_from, largest_body
from studio.ui.sample_offer import sample_offer
from studio.ui.sign_in import account_html, sign_in_routes
from studio.ui.strengths import strength_routes
from studio.ui.stress import stress_panel, trial_routes
from studio.ui.summing import sum_panel
from studio.ui.sweep import sweep_panel
from studio.ui.take import take_panel, take_routes
from studio.ui.theme import ASSETS, scripts, studio_theme, style_sheet
from studio.ui.train import train_tab
from studio.ui.viewer import viewer_of
from studio.ui.words import UPLOAD_MB

LONGEST_QUEUE = 64  # events that Gradio lets wait; those of Compare are counted in `studio.inference.client` too
SESSIONS = 300  # open pages that Gradio remembers, at 2 MB and more each; one that it forgot is filled anew
TITLE = "DUO Studio"
_HEADER = f"""
<div class="duo-brand">
  <svg viewBox="0 0 44 32" aria-hidden="true">
    <circle cx="29" cy="16" r="13" fill="var(--duo-pine)"/>
    <circle cx="15" cy="16" r="13" fill="none" stroke="var(--duo-clay)" stroke-width="2.5" stroke-dasharray="4 3.2"/>
  </svg>
  <div><h1>{TITLE}</h1><p>Make an image model forget one thing, and see what it still draws.</p></div>
</div>
"""


def build_ui(settings: Settings, store: Store, runner: Runner, client: InferenceClient) -> StudioPage:
    """The whole page. The caller starts the runner and launches with `launch_options`."""
    studio = Studio(settings, store, runner, client)
    with StudioPage(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86_400), fill_width=True) as page:
        with gr.Row(elem_classes="duo-header"):
            gr.HTML(_HEADER)
            project = gr.Dropdown(label="Project", choices=[], scale=0, min_width=240, elem_id="duo-project")
            buttons = project_buttons()
            account = gr.HTML(elem_id="duo-account", padding=False)
            theme = gr.Button("Light / dark", size="md", scale=0, min_width=110, elem_id="duo-theme")
        parts: list[Tab] = [project_bar(studio, project, buttons), sample_offer(studio, project), guided_path()]
        with gr.Tabs(selected="compare"):
            for name, builders in TABS.items():
                with gr.Tab(name, id=name.lower()):
                    parts += [build(studio, project) for build in builders]
        parts.append(jobs_panel(studio, project))
        theme.click(None, js="() => window.duoStudio.toggleTheme()", api_visibility="private")
        _sign(Door(settings), page, account)
        page.news = _keep_true(studio, page, project, parts)
        _mark_no_progress(page, gr.State())
    guard_handlers(page)
    page.queue(max_size=LONGEST_QUEUE)
    return page


TABS: dict[str, tuple[Callable[[Studio, gr.Dropdown], Tab], ...]] = {
    "Prompts": (prompts_tab, generate_section),
    "Curate": (views_bar, curate_tab, more_views, bring_panel, take_panel, purge_panel),
    "Train": (train_tab, import_panel, sweep_panel, sum_panel, export_panel),
    "Compare": (compare_tab, attack_panel, stress_panel),
    "Report": (report_tab,),
}


def launch_options(settings: Settings, store: Store, news: News | None = None) -> dict[str, Any]:
    """What launch() must be given: look, routes, the guard before them, and nothing that records or sends what visitors
    do. `news` is the page's. Raises SettingsError where the page would be open to strangers.
    """
    gate, door = Gate(store, settings.care), Door(settings)
    check_exposure(settings, door.users)
    metrics = Metrics(lambda: states(settings, store)) if settings.metrics else None
    guard = Middleware(Guard, door=door, need=Needs(), largest=largest_body, metrics=metrics)
    return {
        "server_name": settings.host,
        "server_port": settings.port,
        "theme": studio_theme(),
        "css": style_sheet(),
        "head": scripts(),
        "js": "() => window.duoStudio.showTheme()",
        "favicon_path": ASSETS / "icon.svg",
        "app_kwargs": {
            "middleware": [guard],
            "routes": [
                *sign_in_routes(door),
                *health_routes(settings, store, metrics),
                *(news.routes() if news else []),
                *routes(settings, store),
                *compare_routes(settings, store),
                *attack_routes(settings, store),
                *trial_routes(store),
                *report_routes(store),
                *curation_routes(settings, store, gate),
                *bulk_routes(store, gate),
                *quality_routes(settings, store, gate),
                *reviewer_routes(store, gate),
                *strength_routes(settings, store, gate),
                *prompt_routes(store),
                *export_routes(settings, store),
                *bring_routes(settings, store),
                *take_routes(settings, store),
            ],
        },
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "mcp_server": False,
        "share": False,
        "show_error": True,
        "max_file_size": f"{UPLOAD_MB}mb",
        "state_session_capacity": SESSIONS,
    }


def _sign(door: Door, page: gr.Blocks, shown: gr.HTML) -> None:
    def account(request: gr.Request) -> str:
        viewer = viewer_of(request.request)
        return account_html(door, viewer) + hidden_from(page, viewer)

    page.load(account, None, shown, queue=False, **QUIET)


def _keep_true(studio: Studio, page: gr.Blocks, project: gr.Dropdown, parts: list[Tab]) -> News:
    """Fill every part from the store on opening and on another project, and again whenever the rows it shows change.

    Where the page's script learns of news, it presses the hidden button, which only compares: it sends nothing of the
    page and answers with the turn of each part whose rows have changed, whose change then fetches that part.
    """
    seen, turns = gr.State([]), [gr.Number(visible=False) for _ in parts]
    outputs = [seen, *(output for part in parts for output in part.outputs)]

    def shown(view: View) -> list[Any]:
        return [view.project.id, *(part.shows(view) for part in parts)]

    def fill(project_id: str) -> list[Any]:
        """`outputs` for a project that is opened: nothing is chosen in it yet."""
        view = studio.view(project_id)
        filled = (value for part in parts for value in part.refresh(view, *[None] * len(part.choices)))
        return [shown(view), *filled]

    def open_page(request: gr.Request) -> list[Any]:
        asked = request.query_params.get("project")
        known = {one.id: one for one in studio.store.list_projects()}
        opened = known.get(asked or "") or _latest_project(studio.store)
        if studio.settings.prewarm:
            studio.client.prewarm(opened.checkpoint)
        return not_shown_yet(outputs, fill(opened.id))

    def open_project(project_id: str | None, before: list[Any]) -> list[Any]:
        if project_id is None or (before and before[0] == project_id):  # the one that open_page chose
            return [gr.skip()] * len(outputs)
        return fill(project_id)

    def poll(project_id: str | None, before: list[Any]) -> list[Any]:
        """Whose turn it is; everyone's where the server was started anew and knows nothing of this page."""
        if project_id is None or (before and before[0] != project_id):  # not opened yet, or another is being opened
            return [gr.skip()] * (1 + len(turns))
        now = shown(studio.view(project_id))
        if now == before:
            return [gr.skip()] * (1 + len(turns))
        turn = time.monotonic_ns()
        changed = (not before or before[place] != now[place] for place in range(1, len(now)))
        return [now, *(turn if its else gr.skip() for its in changed)]

    def take_turn(part: Tab, project_id: str | None, before: list[Any], *choices: Any) -> Any:
        if project_id is None or not before or before[0] != project_id:
            return gr.skip() if len(part.outputs) == 1 else [gr.skip()] * len(part.outputs)
        filled = part.refresh(studio.view(project_id), *choices)
        return filled[0] if len(filled) == 1 else filled  # Gradio takes a list for the value of a single output

    opening = page.load(open_page, None, outputs, queue=False, **QUIET)
    for part in parts:
        if isinstance(part, Linked):
            opening = opening.then(part.restore, project, part.restored, queue=False, **QUIET)
    opening.then(None, js="() => window.duoStudio.ready()", api_visibility="private")
    changing = project.change(open_project, [project, seen], outputs, queue=False, **QUIET)
    looks = gr.Button("Look for news", elem_id="duo-look", elem_classes="duo-unseen")
    compared = looks.click(poll, [project, seen], [seen, *turns], queue=False, preprocess=False, **QUIET)
    compared.success(None, js="() => window.duoStudio.looked()", api_visibility="private")
    for filled in (opening, changing):
        filled.then(None, project, js="(project) => window.duoStudio.follow(project)", api_visibility="private")
    # Unchecked by Gradio: a turn may come with a choice of the project that was open a moment ago.
    for part, turn in zip(parts, turns, strict=True):
        if not part.outputs:
            continue
        inputs = [project, seen, *part.choices]
        turn.change(partial(take_turn, part), inputs, part.outputs, queue=False, preprocess=False, **QUIET)
    return News(lambda project_id: shown(studio.view(project_id)))


def _mark_no_progress(page: gr.Blocks, unseen: gr.State) -> None:
    """No event shows Gradio's marks, so none is to carry them to its outputs.

    The page would look for every component that was ever an output, in its whole tree, at every step of every event:
    a third of a core for a page at rest.
    """
    for event in page.fns.values():
        event.show_progress_on = [unseen]


def _latest_project(store: Store) -> Project:
    """The project with the newest report, or else the first one."""
    project_id = store.last_evaluated_project_id()
    return store.get_project(project_id) if project_id else store.list_projects()[0]
