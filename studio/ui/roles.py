"""Who may do what: the one table of every handler and route, the studio's own and Gradio's.

What stands in no table is refused to everybody; a test walks over all that are registered. A handler is named by its
module and function: a raw call of Gradio's queue meets the same check as a press of the button, see `guard_handlers`.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from starlette.routing import compile_path

from studio.hosting.roles import Need, Viewer, asker, refusal
from studio.ui.viewer import viewer_of
from studio.ui.words import UPLOAD_MB

HANDLERS: dict[Need, str] = {
    # What only shows, fills in a form, or draws in Compare.
    "viewer": """
        attack._wire_form.<lambda> attack._wire_form.cost attack._wire_form.turn attack._wire_jobs.<lambda>
        attack._wire_jobs.look attack_found.wire_found.<lambda> break_it.wire_breaks.again build._keep_true.open_page
        build._keep_true.open_project build._keep_true.poll build._keep_true.take_turn build._sign.account
        compare.CompareTab.restore compare._wire_drawing.draw compare._wire_drawing.looked
        compare._wire_drawing.stopped compare._wire_form.<lambda> compare._wire_form.switch compare_form.group_of
        compare_form.pick exports.export_panel.describe importing.import_panel.<lambda> projects._wire.<lambda>
        projects._wire.detect projects._wire.follow projects._wire.look_for projects._wire.pressed
        prompt_sources.Sources.wire.look prompt_sources.Sources.wire.turn purge.purge_panel.<lambda>
        purge.purge_panel.show protocol_form.ProtocolForm.wire.choose protocol_form.ProtocolForm.wire.look
        report._beside report._show report._wire_jobs.refresh shelves.wire_shelves.load stress._wire.<lambda>
        stress._wire.cost stress._wire.look summing.sum_panel.add sweep._wire.choose sweep._wire.estimate
        take.take_panel.choose train._wire_form.choose_method train._wire_form.choose_where train._wire_form.fill
        train._wire_training.choose train._wire_training.copy
        train_form.MethodForm.fill_preset train_room.wire_room.fit train_room.wire_room.show
        train_room.wire_room.turn train_room.wire_room.use
    """,
    # What keeps something that others see, beside judging, and brings a file for it.
    "reviewer": """
        attack_found.wire_found.replay attack_found.wire_found.save break_it.wire_breaks.save
        shelves.wire_shelves.bring_in shelves.wire_shelves.remove shelves.wire_shelves.rename
        shelves.wire_shelves.save
    """,
    # What starts work, changes a project, deletes, or hands out.
    "owner": """
        activity.jobs_panel.act attack._wire_form.take attack._wire_jobs.start attack_found.wire_found.carry
        backbones.start_fetch bring._wire.act bring._wire.begin exports.export_panel.begin_sending
        importing.import_panel.start exports.export_panel.start generate._wire.act generate._wire.begin
        projects._wire.save protocol_form.ProtocolForm.wire.<lambda> prompt_sources.Sources.wire.add
        prompt_sources.Sources.wire.take purge.purge_panel.delete purge.purge_panel.keep report._begin_demo
        report._wire_jobs.evaluate report._wire_jobs.resume report._wire_jobs.stop sample_offer.sample_offer.open_it
        stress._wire.start summing.sum_panel.start sweep._wire.act sweep._wire.start take.take_panel.send
        train._wire_form.start train._wire_training.act train_where.wire_where.show
    """,
}

ROUTES: dict[Need, str] = {
    "anybody": """
        GET /healthz GET /studio/sign-in POST /studio/sign-in POST /studio/sign-out GET /studio/oauth/start
        GET /studio/oauth/callback GET /favicon.ico GET /robots.txt GET /manifest.json GET /gradio_api/startup-events
    """,
    "viewer": """
        GET / GET /config GET /config/ GET /static/{path:path} GET /assets/{path:path} GET /svelte/{path:path}
        GET /theme.css GET /gradio_api/theme.css GET /gradio_api/app_id GET /gradio_api/app_id/ GET /pwa_icon
        GET /pwa_icon/{size} GET /gradio_api/heartbeat/{session_hash}
        POST /gradio_api/queue/join GET /gradio_api/queue/data GET /gradio_api/queue/status POST /gradio_api/cancel
        POST /gradio_api/reset POST /gradio_api/reset/ POST /gradio_api/run/{api_name}
        POST /gradio_api/run/{api_name}/ GET /studio/pictures/{name} GET /studio/reports/{evaluation}/{file:path}
        GET /studio/differences/{name} POST /studio/comparison.zip GET /studio/shelves/{name}
        GET /studio/attempts/{name} GET /studio/attacks/{name} GET /studio/trials/{name} GET /studio/tables/{name}
        GET /studio/news/{project}
        GET /studio/curation/{project}/counts GET /studio/curation/{project}/pairs GET /studio/curation/{project}/next
        GET /studio/curation/{project}/pair/{pair} GET /studio/curation/{project}/forget
        GET /studio/pairs/{pair}/{side}.webp GET /studio/care/{project} GET /studio/bulk/{project}/pairs
        GET /studio/bulk/{project}/numbers GET /studio/quality/{project}/coverage
        GET /studio/quality/{project}/duplicates GET /studio/strengths/{project}/{pair} GET /studio/edits/{edit}.webp
        GET /studio/prompts/{name}
    """,
    "reviewer": """
        POST /gradio_api/upload GET /gradio_api/upload_progress POST /studio/curation/{project}/decide
        POST /studio/curation/{project}/undo POST /studio/curation/{project}/redo POST /studio/curation/{project}/stop
        GET /studio/curation/{project}/stops POST /studio/care/{project}/agree POST /studio/care/{project}/settings
        POST /studio/care/{project}/sign POST /studio/care/{project}/break GET /studio/bulk/{project}/actions
        POST /studio/bulk/{project}/preview POST /studio/bulk/{project}/apply POST /studio/bulk/{project}/undo
        GET /studio/reviewers/{project} POST /studio/strengths/{project}/{pair}/start
        POST /studio/strengths/{project}/{pair}/pick
    """,
    "owner": """
        GET /metrics GET /studio/adapters/{checkpoint}.safetensors GET /studio/attacks/{job}/{sha256}.safetensors
        POST /studio/curation/{project}/lift POST /studio/care/{project}/rules POST /studio/care/{project}/more
        GET /studio/reviewers/{project}/conflicts POST /studio/reviewers/{project}/share
        POST /studio/reviewers/{project}/settle POST /studio/prompts/{project}/check
        POST /studio/prompts/{project}/save
        GET /studio/exports/{job}/{file:path} POST /studio/bring/{project}/begin
        PUT /studio/bring/{project}/{upload}/file POST /studio/bring/{project}/{upload}/look
        POST /studio/bring/{project}/{upload}/drop GET /studio/bring/{project}/{name}
        GET /studio/take/{project}/{form}
    """,
    # Gradio's own sign-in, API pages, recorders, proxies and editors: none of them is used here. Its files are none's
    # either: they may be any address of the internet, which the server would fetch.
    "nobody": """
        GET /gradio_api/file={path_or_url:path}
        POST /login POST /login/ GET /gradio_api/user GET /gradio_api/user/ GET /gradio_api/login_check
        GET /gradio_api/login_check/ GET /gradio_api/token GET /gradio_api/token/ GET /gradio_api/dev/reload
        GET /gradio_api/runs GET /gradio_api/runs/ GET /gradio_api/deep_link GET /gradio_api/info
        GET /gradio_api/info/ GET /gradio_api/openapi.json
        GET /gradio_api/custom_component/{id}/{environment}/{type}/{file_name} GET /gradio_api/proxy={url_path:path}
        POST /gradio_api/stream/{event_id} POST /gradio_api/stream/{event_id}/close
        GET /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8
        GET /gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}
        GET /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file GET /gradio_api/file/{path:path}
        POST /gradio_api/api/{api_name} POST /gradio_api/api/{api_name}/ POST /gradio_api/call/v2/{api_name}
        POST /gradio_api/call/v2/{api_name}/ POST /gradio_api/call/{api_name} POST /gradio_api/call/{api_name}/
        GET /gradio_api/call/v2/{api_name}/{event_id} GET /gradio_api/call/{api_name}/{event_id}
        POST /gradio_api/component_server POST /gradio_api/component_server/ GET /monitoring GET /monitoring/summary
        GET /monitoring/{key} POST /gradio_api/process_recording POST /gradio_api/vibe-edit/
        POST /gradio_api/vibe-edit POST /gradio_api/undo-vibe-edit/ POST /gradio_api/undo-vibe-edit
        GET /gradio_api/vibe-code/ GET /gradio_api/vibe-code POST /gradio_api/vibe-code/ POST /gradio_api/vibe-code
        POST /gradio_api/vibe-starter-queries/ POST /gradio_api/vibe-starter-queries GET /logout GET /openapi.json
    """,
}

# The same of buttons that the studio's own scripts draw and hear, and of panels that serve nothing else.
SCRIPTED: dict[Need, tuple[str, ...]] = {
    "reviewer": (
        *(f'[data-do="{name}"]' for name in ("accept", "reject", "skip", "redo", "stop", "strengths", "triage",
                                             "apply", "undo", "care", "all-again", "thin", "untake", "undo-action")),
        "[data-reason]", "[data-strengths]", "[data-again]", ".cur-reasons",
    ),
    "owner": (
        ".br-choose", "[data-lift]", "[data-more]", '[data-do="settle"]', ".pr-foot button",
        ".pr-remove button", ".pr-ways button",
        "#duo-new-project", "#duo-project-settings",
        *(f"#duo-{panel}" for panel in ("bring", "evaluate", "export", "import", "purge", "sum", "take")),
    ),
}  # fmt: skip
MIB = 2**20
BODIES = ((re.compile(r"/studio/bring/[^/]+/[^/]+/file"), 4 * 2**30),
          (re.compile(r"/gradio_api/upload"), (UPLOAD_MB + 1) * MIB),
          (re.compile(r"/studio/(bulk|prompts)/.+"), 9 * MIB), (re.compile(r"/gradio_api/.*"), 4 * MIB))  # fmt: skip
LARGEST = MIB


def needs_of_handlers() -> dict[str, Need]:
    return {name: need for need, names in HANDLERS.items() for name in names.split()}


def needs_of_routes() -> dict[tuple[str, str], Need]:
    return {(method, path): need for need, text in ROUTES.items() for method, path in _pairs(text)}


def handler_name(function: Callable[..., Any]) -> str:
    """As the table has it: "train._wire_form.start" for a function within one of `studio.ui.train`."""
    while inner := getattr(function, "__wrapped__", None) or getattr(function, "func", None):
        function = inner  # what `guarded` and partial() were given
    return f"{function.__module__.removeprefix('studio.ui.')}.{function.__qualname__.replace('.<locals>', '')}"


class Needs:
    """What a request takes, by method and path."""

    def __init__(self) -> None:
        by_method: dict[str, list[tuple[re.Pattern[str], Need]]] = {}
        for (method, path), need in needs_of_routes().items():
            by_method.setdefault(method, []).append((compile_path(path)[0], need))
        self._by_method = by_method

    def __call__(self, method: str, path: str) -> Need:
        found = [need for pattern, need in self._by_method.get(method, ()) if pattern.match(path)]
        return found[0] if found else "nobody"


def largest_body(path: str) -> int:
    """Bytes that may be sent to a path; its route may take fewer."""
    return next((size for pattern, size in BODIES if pattern.fullmatch(path)), LARGEST)


def guard_handlers(page: gr.Blocks) -> None:
    """Put the check of its role before every handler of the page."""
    needs = needs_of_handlers()
    for listener in page.fns.values():
        if listener.fn is not None:
            listener.fn = guarded(listener.fn, needs.get(handler_name(listener.fn), "nobody"))


def guarded(function: Callable[..., Any], need: Need) -> Callable[..., Any]:
    """The function, for whoever has the role, in that visitor's name."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def steps(*values: Any) -> Iterator[Any]:
            viewer = _let_in(need)
            running = function(*values)
            try:
                while True:
                    token = asker.set(viewer)  # each step may run in another thread
                    try:
                        value = next(running)
                    except StopIteration:
                        return
                    finally:
                        asker.reset(token)
                    yield value
            finally:
                running.close()

        steps.need = need  # type: ignore[attr-defined]
        return steps

    @functools.wraps(function)
    def call(*values: Any) -> Any:
        token = asker.set(_let_in(need))
        try:
            return function(*values)
        finally:
            asker.reset(token)

    call.need = need  # type: ignore[attr-defined]
    return call


def hidden_from(page: gr.Blocks, viewer: Viewer) -> str:
    """Style that leaves out the buttons whose press this visitor's role is not enough for; "" for an owner.

    It only spares a visitor the refusal: what is behind a button checks the role itself.
    """
    needs: dict[int, Need] = {}
    for listener in page.fns.values():
        need: Need = getattr(listener.fn, "need", "anybody")
        for block, event in listener.targets:
            if block is not None and event in ("click", "upload") and not viewer.may(need):
                needs[block] = need
    pressed = (page.blocks[block] for block in needs)
    buttons = [one for one in pressed if isinstance(one, (gr.Button, gr.UploadButton))]
    selectors = [f"#{one.elem_id or f'component-{one._id}'}" for one in buttons]
    selectors += [one for need, listed in SCRIPTED.items() if not viewer.may(need) for one in listed]
    return f"<style>{', '.join(selectors)} {{ display: none !important; }}</style>" if selectors else ""


def _let_in(need: Need) -> Viewer:
    """Who asks. Raises gr.Error, which the page shows, where the role is not enough."""
    request = LocalContext.request.get(None)
    viewer = viewer_of(request.request if request is not None else None)
    if not viewer.may(need):
        raise gr.Error(refusal(viewer, need), print_exception=False)
    return viewer


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    words = text.split()
    return iter(list(zip(words[::2], words[1::2], strict=True)))
