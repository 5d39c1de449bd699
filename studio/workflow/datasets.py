"""Push: the curated set as a dataset on the Hugging Face Hub, packed into a folder of the job's own first."""

from __future__ import annotations

import shutil
from typing import Any

from studio.configs import PushConfig
from studio.exchange.taking import folder_sink, select, take
from studio.workflow.context import JobContext
from studio.workflow.pushing import check_token, push_folder

OURS = ("data/*", "unsafe/*", "safe/*", "metadata.jsonl", "verdicts.jsonl")  # of an earlier push: replaced as a whole


def push(context: JobContext) -> dict[str, Any]:
    """Returns the dataset's address and how many pairs it has.

    Raises:
        TakeError: there is nothing to push.
        WorkflowError: nobody is logged in, or the Hub refuses; see `push_folder`.
    """
    config = PushConfig.model_validate(context.config)
    check_token()  # before the work, not after it
    folder = context.settings.outgoing / context.job.id / "pairs"
    shutil.rmtree(folder.parent, ignore_errors=True)  # of a try before
    selection = select(context.store, context.project.id, config.which, names=config.names)
    total = len(selection.pairs) + 1

    def tell(done: int, _: int) -> None:
        context.report(done, total, f"{done} of {total - 1} pairs packed")

    with folder_sink(folder) as sink:
        count = take(selection, context.settings, sink, "parquet", names=config.names, report=tell)
    context.report(total - 1, total, f"Sending {count} pairs to {config.repository}")
    url = push_folder(folder, config.repository.strip(), private=not config.public, kind="dataset", replaces=OURS)
    shutil.rmtree(folder.parent, ignore_errors=True)
    context.report(total, total, f"{count} pairs are at {url}")
    return {"url": url, "pairs": count}
