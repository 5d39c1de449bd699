"""The prompt table's rows: JSON over HTTP between the store and the script in assets/prompts.js, and downloads.

    POST /studio/prompts/<project>/check   rows as they are typed; answers what is wrong with which
    POST /studio/prompts/<project>/save    saves the rows that can be saved, and removes some; answers all rows as saved
    GET  /studio/prompts/<project>.csv     all saved pairs; .jsonl too

A row is sent with a key of the browser's, under which it is answered, and with its id once it has one. A refused
request answers {"error": why}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from studio.prompt_checks import Checked, Draft, check
from studio.prompt_files import COLUMNS, write_csv, write_jsonl
from studio.records import PromptPair
from studio.store import NotFoundError, Store, StoreError
from studio.ui.json_routes import json_post

LARGEST_BODY = 16 << 20
MOST_ROWS = 10_000
_DOWNLOADS: dict[str, tuple[Callable[[list[PromptPair]], str], str]] = {
    "csv": (write_csv, "text/csv"),
    "jsonl": (write_jsonl, "application/x-ndjson"),
}


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SentRow(_Sent):
    """A row as it stands in the browser: new, or changed."""

    key: str = Field(max_length=60)
    id: str = Field("", max_length=60)
    unsafe: str = ""
    safe: str = ""
    count: str = ""
    seed: str = ""
    group: str = ""

    @property
    def draft(self) -> Draft:
        return Draft(self.unsafe, self.safe, self.count, self.seed, self.group)


class SentRows(_Sent):
    """Every row that is not as it was saved, and the ids of those to remove."""

    rows: list[SentRow] = Field([], max_length=MOST_ROWS)
    removed: list[str] = Field([], max_length=MOST_ROWS)


def prompt_routes(store: Store) -> list[Route]:
    """What launch() adds to Gradio's application."""

    def answer_check(project_id: str, sent: SentRows) -> dict[str, Any]:
        problems = check_rows(store.list_prompt_pairs(project_id), sent)
        return {"problems": {row.key: one.problem for row, one in problems if one.problem}}

    def answer_save(project_id: str, sent: SentRows) -> dict[str, Any]:
        return save_rows(store, project_id, sent) | table_rows(store, project_id)

    def download(request: Request) -> Response:
        name, _, kind = request.path_params["name"].rpartition(".")
        try:
            project = store.get_project(name)
            write, media_type = _DOWNLOADS[kind]
        except (NotFoundError, KeyError):
            return PlainTextResponse("There is no such file of prompts.", status_code=404)
        file = f"{re.sub(r'[^A-Za-z0-9]+', '-', project.name).strip('-').lower() or 'prompts'}-prompts.{kind}"
        headers = {
            "Content-Disposition": f'attachment; filename="{file}"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(write(store.list_prompt_pairs(project.id)), media_type=media_type, headers=headers)

    def asked(request: Request, body: bytes) -> tuple[str, SentRows]:
        sent = SentRows.model_validate_json(body)
        return store.get_project(request.path_params["project"]).id, sent

    base = "/studio/prompts/{project}"
    return [
        json_post(f"{base}/check", lambda request, body: answer_check(*asked(request, body)), LARGEST_BODY),
        json_post(f"{base}/save", lambda request, body: answer_save(*asked(request, body)), LARGEST_BODY),
        Route("/studio/prompts/{name}", download, methods=["GET"]),
    ]


def check_rows(existing: Sequence[PromptPair], sent: SentRows) -> list[tuple[SentRow, Checked]]:
    """Each row with what is wrong with it, among those that stay as they are."""
    changed = {row.id for row in sent.rows} | set(sent.removed)
    checked = check([row.draft for row in sent.rows], [pair for pair in existing if pair.id not in changed])
    return list(zip(sent.rows, checked, strict=True))


def save_rows(store: Store, project_id: str, sent: SentRows) -> dict[str, Any]:
    """Save what can be saved, in one transaction: the ids by key, and the problems by key (of a removal by id).

    A row whose id is gone, removed by somebody else meanwhile, is saved as a new one: what was typed is not lost.
    """
    ids: dict[str, str] = {}
    problems: dict[str, str] = {}
    with store.transaction():
        there = {pair.id for pair in store.list_prompt_pairs(project_id)}
        for pair_id in there.intersection(sent.removed):
            try:
                store.remove_prompt_pair(pair_id)
            except StoreError as error:
                problems[pair_id] = str(error)
        for row, one in check_rows(store.list_prompt_pairs(project_id), sent):
            if one.pair is None:
                problems[row.key] = one.problem
                continue
            try:
                ids[row.key] = _save(store, replace(one.pair, id=row.id, project_id=project_id), row.id in there)
            except StoreError as error:
                problems[row.key] = str(error)
    return {"ids": ids, "problems": problems}


def table_rows(store: Store, project_id: str) -> dict[str, Any]:
    """All saved rows, with how many pairs of pictures were made of each, and the sentence under them."""
    pairs, made = store.list_prompt_pairs(project_id), store.made_of_prompts(project_id)
    rows = [
        {
            "id": pair.id,
            "unsafe": pair.unsafe,
            "safe": pair.safe,
            "count": str(pair.count),
            "seed": str(pair.seed),
            "group": pair.group,
            "made": made.get(pair.id, 0),
        }
        for pair in pairs
    ]
    return {"project": project_id, "rows": rows, "summary": summary(pairs, made)}


def summary(pairs: Sequence[PromptPair], made: dict[str, int]) -> str:
    """ "2 prompt pairs ask for 40 pairs of pictures; 38 of them are made."; failed ones count as made."""
    wanted = sum(pair.count for pair in pairs)
    there = sum(min(made.get(pair.id, 0), pair.count) for pair in pairs)
    verb = "asks" if len(pairs) == 1 else "ask"
    done = "all of them are made" if 0 < wanted == there else f"{there:,} of them {_be(there)} made"
    done = done if there else "none of them is made yet"
    return f"{_of(len(pairs), 'prompt pair')} {verb} for {_of(wanted, 'pair')} of pictures; {done}."


def _save(store: Store, pair: PromptPair, is_there: bool) -> str:
    if is_there:
        changes = {name: getattr(pair, name) for name in COLUMNS}
        store.update_prompt_pair(pair.id, **changes)
        return pair.id
    return store.add_prompt_pairs([replace(pair, id="")])[0].id


def _be(number: int) -> str:
    return "is" if number == 1 else "are"


def _of(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
