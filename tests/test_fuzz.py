"""Files from anybody, made up and mangled by Hypothesis: what is wrong is said, and nothing else is raised."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.stored import delta_weights, stored_weights
from studio.archive import ArchiveError, export_project, import_project, read_info
from studio.csv_files import csv_text, quoted, unquoted
from studio.hosting.sessions import Session, Signer
from studio.prompt_checks import check
from studio.prompt_files import PromptFileError, read_drafts
from studio.records import Project, PromptPair
from studio.reports.html import write_html
from studio.reports.schema import StudyReport
from studio.settings import Settings, SettingsError
from studio.store import Store
from tests.ui_data import make_report

FUZZ = settings(
    max_examples=25, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
TEXT = st.text(max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12,
)  # fmt: skip
CELLS = st.sampled_from(
    ["unsafe", "safe", "count", "seed", "group", '"', "=1+1", "\0", "é", "9" * 400, "-1", "a,b", ""]
)


@FUZZ
@given(
    kind=st.sampled_from([".csv", ".jsonl", ".json", ".ndjson"]),
    data=st.binary(max_size=200)
    | st.lists(st.lists(CELLS, max_size=6).map(",".join), max_size=6).map(lambda rows: "\n".join(rows).encode())
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({"unsafe": JSON, "safe": JSON, "count": JSON, "seed": JSON, "group": JSON}).map(
        lambda row: json.dumps(row).encode()
    )
    | st.dictionaries(TEXT, st.fixed_dictionaries({"prompt": JSON, "base_prompt": JSON}), max_size=3).map(
        lambda config: json.dumps(config).encode()
    ),
)
def test_files_of_prompts(kind: str, data: bytes) -> None:
    """Also the DUO repository's config.json, which is the one with the ending .json."""
    with contextlib.suppress(PromptFileError):
        check(read_drafts(f"prompts{kind}", data), [])


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".json"])
def test_files_of_prompts_that_are_deep_or_long(kind: str) -> None:
    for data in (b"[" * 200_000, b'{"a":' * 100_000, b"unsafe,safe\n" + b"a" * 3_000_000 + b",b", b"\xff" * 100):
        with contextlib.suppress(PromptFileError):
            check(read_drafts(f"prompts{kind}", data), [])


@FUZZ
@given(st.text(max_size=60))
def test_a_cell_comes_back_and_never_begins_a_formula(text: str) -> None:
    assert unquoted(quoted(text)) == text
    assert not quoted(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert csv_text(["a"], [[text]]).startswith("a\r\n")


@FUZZ
@given(
    values=st.dictionaries(
        st.sampled_from(
            [
                "DUO_STUDIO_DEVICE",
                "DUO_STUDIO_DTYPE",
                "DUO_STUDIO_MEMORY",
                "DUO_STUDIO_PROCESSES",
                "DUO_STUDIO_PUBLIC_DEMO",
                "DUO_STUDIO_THREADS",
                "DUO_STUDIO_TRACKERS",
                "DUO_STUDIO_CARE",
                "DUO_STUDIO_LIMITS",
                "DUO_STUDIO_OPEN",
                "DUO_STUDIO_HOSTS",
                "DUO_STUDIO_LOG",
                "GRADIO_SERVER_PORT",
                "GRADIO_SERVER_NAME",
                "OAUTH_CLIENT_ID",
                "OAUTH_CLIENT_SECRET",
                "OPENID_PROVIDER_URL",
                "SPACE_ID",
            ]
        ),
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
        | st.sampled_from(
            ["nan", "inf", "-1", "1e9", "requests=nan", "blur=strong, grey=on", "http://x", "0x10", "１"]
        ),
    )
)
def test_settings(values: dict[str, str]) -> None:
    with contextlib.suppress(SettingsError):
        read = Settings.from_environment({"DUO_STUDIO_DATA": "/tmp/x", **values})
        again = Settings.from_environment(read.environment())
        assert (again.limits, again.care, again.open_to) == (read.limits, read.care, read.open_to)


TENSOR = st.fixed_dictionaries({
    "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "?"]) | JSON,
    "shape": st.lists(st.integers(-3, 2**70), max_size=3) | JSON,
    "data_offsets": st.lists(st.integers(-5, 2**70), max_size=3) | JSON,
})  # fmt: skip


@FUZZ
@given(
    header=(st.dictionaries(TEXT, TENSOR | JSON, max_size=4) | JSON).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60),
    length=st.none() | st.integers(0, 2**64 - 1),
    tail=st.binary(max_size=40),
)
def test_headers_of_safetensors(tmp_path: Path, header: bytes, length: int | None, tail: bytes) -> None:
    """What the page reads of them itself; the tensors are read by safetensors alone, in a worker."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + tail)
    found = delta_weights(path)
    assert found is None or isinstance(found[0], int)
    stored_weights(str(path), tmp_path)


def replaced(value: Any, path: list[int], with_what: Any) -> Any:
    """The JSON value with one place, found by the numbers, changed."""
    if not path or not isinstance(value, dict | list) or not value:
        return with_what
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[path[0] % len(keys)]
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[key] = replaced(value[key], path[1:], with_what)
    return changed


@FUZZ
@given(path=st.lists(st.integers(0, 9), max_size=6), what=JSON)
def test_reports(tmp_path: Path, path: list[int], what: Any) -> None:
    whole = json.loads(make_report().model_dump_json())
    text = json.dumps(replaced(whole, path, what))
    (tmp_path / "pictures").mkdir(exist_ok=True)
    (tmp_path / "pictures" / "1.png").write_bytes(b"x")
    try:
        report = StudyReport.model_validate_json(text)
    except ValueError:
        return
    write_html(report, tmp_path)


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    settings = Settings(tmp_path_factory.mktemp("made"))
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("p", "Sword", "sword", "toybox", "toybox"))
    store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", 2, 5)])
    path = settings.data / "x.zip"
    export_project(store, settings, project.id, path)
    store.close()
    return path.read_bytes()


@pytest.mark.slow
@FUZZ
@given(
    place=st.integers(0, 10_000), bytes_=st.binary(min_size=1, max_size=8), cut=st.integers(0, 200),
    rows=st.none() | st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=5), JSON),
)  # fmt: skip
def test_archives(
    archived: bytes, tmp_path_factory: pytest.TempPathFactory, place: int, bytes_: bytes, cut: int, rows: Any
) -> None:
    """Bytes changed and cut off anywhere, and rows changed anywhere within a zip that is whole."""
    folder = tmp_path_factory.mktemp("fuzz")
    if rows is None:
        at = place % len(archived)
        data = (archived[:at] + bytes_ + archived[at + len(bytes_) :])[: len(archived) - cut]
    else:
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(archived)) as old, zipfile.ZipFile(packed, "w") as new:
            for name in old.namelist():
                told = old.read(name)
                new.writestr(name, json.dumps(replaced(json.loads(told), *rows)) if name == "rows.json" else told)
        data = packed.getvalue()
    (folder / "x.zip").write_bytes(data)
    there = Settings(folder / "there")
    there.create_folders()
    store = Store(there.database)
    try:
        read_info(folder / "x.zip")
        import_project(store, there, folder / "x.zip")
        assert [one.id for one in store.list_projects()] == ["p"]
    except ArchiveError:
        assert store.list_projects() == []
    finally:
        store.close()


@FUZZ
@given(st.text(max_size=80))
def test_no_cookie_but_ones_own_is_a_session(text: str) -> None:
    signer = Signer("secret")
    assert signer.read_session(text) is None
    assert signer.read_state(text) == {}
    mine = signer.session(Session("Ann", "x"))
    assert signer.read_session(mine) == Session("Ann", "x")
