"""Where the page's log goes: plain lines, or one JSON object a line (DUO_STUDIO_LOG=json). Both mask secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import TextIO

SECRET = re.compile(
    r"(hf_[A-Za-z0-9]{8})[A-Za-z0-9]+|(?i:(bearer |token=|password=|secret=|code=))[^\s&\"']+|(\$argon2id\$)[^\s\"']+"
)
# A path or a name may hold what ends a line, so that the rest looks like the log's own, or what a terminal obeys.
_UNSEEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def masked(text: str) -> str:
    """The text without what looks like a token, a password or a hash of one."""
    return SECRET.sub(lambda found: f"{next(filter(None, found.groups()))}…", text)


class JsonLines(logging.Formatter):
    """One record, one line."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        facts = getattr(record, "facts", None)
        if isinstance(facts, dict):
            told |= {key: masked(value) if isinstance(value, str) else value for key, value in facts.items()}
        if record.exc_info:
            told["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False, default=str)


class PlainLines(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        record.message = _UNSEEN.sub(lambda found: repr(found[0])[1:-1], record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def set_up_logs(*, as_json: bool, stream: TextIO | None = None) -> None:
    """Replace what the root logger writes to. With JSON every request is a record, else only the refused ones."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if as_json else PlainLines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("studio").setLevel(logging.DEBUG if as_json else logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = [], True
