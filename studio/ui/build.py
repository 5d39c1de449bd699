"""The page: header, tabs, jobs, and the timer that keeps them true to the store's rows."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio import jobs
from studio.inference.client import InferenceClient
from studio.jobs import LIVE, Runner
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from studio.ui.activity import jobs_list
from studio.ui.compare import CompareTab, compare_tab
from studio.ui.context import Studio, project_options
from studio.ui.pictures import routes
from studio.ui.report import ReportTab, report_tab
from studio.ui.theme import ASSETS, studio_theme, style_sheet

POLL_SECONDS = 1.5
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
_TOGGLE_DARK = """() => {
  const dark = document.body.classList.toggle('dark');
  localStorage.setItem('duo-studio-theme', dark ? 'dark' : 'light');
}"""
_ON_LOAD = """() => {
  const chosen = localStorage.getItem('duo-studio-theme');
  if (chosen) document.body.classList.toggle('dark', chosen === 'dark');
  document.documentElement.lang = 'en';
}"""


def build_ui(settings: Settings, store: Store, runner: Runner, client: InferenceClient) -> gr.Blocks:
    """The whole page. The caller starts the runner and launches with `launch_options`."""
    studio = Studio(settings, store, runner, client)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86_400), fill_width=True) as page:
        with gr.Row(elem_classes="duo-header"):
            gr.HTML(_HEADER)
            project = gr.Dropdown(label="Project", choices=[], scale=0, min_width=240, elem_id="duo-project")
            theme = gr.Button("Light / dark", size="md", scale=0, min_width=110, elem_id="duo-theme")
        with gr.Tabs():
            with gr.Tab("Compare", id="compare"):
                compare = compare_tab(studio, project)
            with gr.Tab("Report", id="report"):
                report = report_tab(studio, project)
        with gr.Accordion("Jobs", open=False, elem_id="duo-jobs"):
            listing = gr.HTML()
            stop = gr.Button("Stop the running job", size="md", visible=False, elem_id="duo-stop-job")
        seen = gr.State("")
        theme.click(None, js=_TOGGLE_DARK, api_visibility="private")
        _keep_true(studio, page, project, seen, compare, report, listing, stop)
    return page


def launch_options(settings: Settings, store: Store) -> dict[str, Any]:
    """What launch() must be given: look, routes, and nothing that records or sends what visitors do."""
    return {
        "server_name": settings.host,
        "server_port": settings.port,
        "theme": studio_theme(),
        "css": style_sheet(),
        "js": _ON_LOAD,
        "favicon_path": ASSETS / "icon.svg",
        "app_kwargs": {"routes": routes(settings, store)},
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "mcp_server": False,
        "share": False,
        "show_error": True,
        "max_file_size": "20mb",
    }


def _keep_true(
    studio: Studio,
    page: gr.Blocks,
    project: gr.Dropdown,
    seen: gr.State,
    compare: CompareTab,
    report: ReportTab,
    listing: gr.HTML,
    stop: gr.Button,
) -> None:
    """Fill everything from the store on opening and on another project, and again whenever its rows change."""
    store = studio.store
    outputs = [seen, project, *compare.outputs, *report.outputs, listing, stop]

    def rows_of(project_id: str) -> tuple[Any, ...]:
        return (
            store.list_projects(),
            store.list_jobs(project_id),
            store.list_evaluations(project_id),
            store.list_checkpoints(project_id),
        )

    def fill(project_id: str, models: list[str] | None, evaluation: str | None) -> list[Any]:
        rows = rows_of(project_id)
        _, all_jobs, evaluations, _ = rows
        return [
            rows,
            gr.update(choices=project_options(store), value=project_id),
            *compare.update(project_id, models),
            *report.update(all_jobs, evaluations, evaluation),
            jobs_list(all_jobs),
            gr.update(visible=any(job.state in LIVE for job in all_jobs)),
        ]

    def open_page() -> list[Any]:
        project = _latest_project(store)
        studio.client.prewarm(project.checkpoint)
        return fill(project.id, None, None)

    def open_project(project_id: str) -> list[Any]:
        return fill(project_id, None, None)

    def poll(project_id: str | None, before: Any, models: list[str], evaluation: str | None) -> list[Any]:
        if project_id is None or rows_of(project_id) == before:
            return [gr.skip()] * len(outputs)
        known = {checkpoint.id for checkpoint in before[3]} if before else set()
        new = [checkpoint.id for checkpoint in store.list_checkpoints(project_id) if checkpoint.id not in known]
        return fill(project_id, [*models, *new], evaluation)

    def stop_job(project_id: str, models: list[str], evaluation: str | None) -> list[Any]:
        for job in store.list_jobs(project_id, states=LIVE):
            jobs.stop(store, studio.settings, job.id)
        return fill(project_id, models, evaluation)

    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    chosen = [compare.models, report.choice]
    page.load(open_page, None, outputs, **quiet)
    project.input(open_project, project, outputs, **quiet)
    gr.Timer(POLL_SECONDS).tick(poll, [project, seen, *chosen], outputs, **quiet)
    stop.click(stop_job, [project, *chosen], outputs, **quiet)


def _latest_project(store: Store) -> Project:
    """The project with the newest report, or else the first one."""
    evaluations = store.list_evaluations()
    return store.get_project(evaluations[-1].project_id) if evaluations else store.list_projects()[0]
