"""Attacks on a studio that strangers can reach; each test says which one it stands for."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.specs import LoadError, parse_reference
from studio.archive import ArchiveError, export_project, import_project, read_info
from studio.exchange.pictures import PictureError, read_picture
from studio.hosting.limits import Limits
from studio.images import put_image
from studio.projects import ProjectError, new_project
from studio.records import Attempt, ImagePair, Job, Project, PromptPair, PromptShelf, Verdict
from studio.settings import Settings
from studio.store import Store
from studio.ui.roles import needs_of_routes
from tests.hosted import Hosted, add_users, hosted
from tests.ui_data import add_checkpoint, add_evaluation

EVIL = '<img src=x onerror="alert(1)">'
MARK = b"this is in no answer"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """Two projects, one of them sensitive, in which every text that people write is an attack."""
    settings = Settings(tmp_path_factory.mktemp("data"), device="cpu", threads=1, limits=Limits(requests=0))
    settings.create_folders()
    store = Store(settings.database)
    one = store.create_project(Project("one", EVIL, EVIL[:60], "toybox", "toybox", notice=EVIL))
    other = store.create_project(Project("other", "Other", "sword", "toybox", "toybox", blur=True))
    for project in (one, other):
        (prompt,) = store.add_prompt_pairs([PromptPair("", project.id, EVIL, f"{EVIL} safe", count=1, group=EVIL)])
        shade = 10 if project is one else 200
        names = [put_image(settings, np.full((64, 64, 3), shade + i, np.uint8), {"prompt": EVIL}) for i in (0, 1)]
        store.add_image_pair(ImagePair(f"of-{project.id}", project.id, prompt.id, 0, 5, "ready", *names))
    store.add_verdict(Verdict("", "of-one", EVIL[:60], "reject", EVIL))
    store.add_attempts([Attempt("", "one", EVIL, 7, EVIL, EVIL, "", True, 0.9, "cd" * 32, 20, 4.0)])
    store.add_shelf(PromptShelf("", "one", EVIL, EVIL))
    add_checkpoint(store, one, EVIL, EVIL)
    failed = store.create_job(Job("", "one", "train", {"name": EVIL}))
    store.update_job(failed.id, state="failed", error=EVIL, message=EVIL)
    add_evaluation(store, settings, one)
    add_users(settings)
    (settings.data / "hidden.json").write_bytes(MARK)
    (settings.data / "hidden.png").write_bytes(MARK)
    with hosted(settings, store) as served:
        yield served
    store.close()


ESCAPES = ("../hidden.json", "..%2fhidden.json", "%2e%2e/%2e%2e/hidden.json", "....//hidden.png", "..%5chidden.png",
           "%00", "pictures/../../../hidden.json", "..%252fhidden.json")  # fmt: skip


def test_no_route_gives_out_a_file_outside_its_folder(page: Hosted) -> None:
    """Attack: path traversal, by dots, encoded dots and slashes, and absolute paths, on every route with a name."""
    owner, evaluation = page.signed_in("Ann"), page.store.evaluation_ids("one")[0]
    absolute = str(page.settings.data / "hidden.json").replace("/", "%2f")
    for (method, path), need in needs_of_routes().items():
        if method != "GET" or "{" not in path or need == "nobody" or "heartbeat" in path:
            continue
        for escape in (*ESCAPES, absolute):
            head, _, tail = path.rpartition("{")
            start = head.replace("{evaluation}", evaluation).replace("{project}", "one").replace("{job}", "x")
            answer = owner.get(start + escape + tail.partition("}")[2])
            assert answer.status_code != 500, (path, escape)
            assert MARK not in answer.content, (path, escape)
            assert b"SQLite format" not in answer.content
    for file in (page.settings.users, page.settings.secret, page.settings.database, Path("/etc/passwd")):
        assert owner.get(f"/gradio_api/file={file}").status_code in (403, 404)


def test_an_upload_is_only_ever_a_file_that_was_uploaded(page: Hosted) -> None:
    """Attack: name a file of the server where Gradio expects an upload, past the page."""
    told = {"path": str(page.settings.users), "meta": {"_type": "gradio.FileData"}, "orig_name": "x.csv"}
    owner = page.signed_in("Ann")
    for name in ("shelves.wire_shelves.bring_in", "prompt_sources.Sources.wire.take"):
        number = page.listener(name)
        kinds = [type(one).__name__ for one in page.page.fns[number].inputs]
        data = [told if "Upload" in kind or "File" in kind else None for kind in kinds]
        assert told in data
        answer = json.dumps(page.raw_call(owner, number, data))
        assert '"success": true' not in answer
        assert "argon2" not in answer


def test_the_server_fetches_no_address_for_a_visitor(page: Hosted) -> None:
    """Attack: SSRF and an open proxy: Gradio's route of files, and values that are files, take addresses too."""
    for name in ("Ann", "Cem"):
        assert page.signed_in(name).get("/gradio_api/file=https://huggingface.co/robots.txt").status_code == 404
    told = {"path": "http://127.0.0.1:9/x.csv", "meta": {"_type": "gradio.FileData"}}
    for user, handler in (("Ann", "shelves.wire_shelves.bring_in"), ("Cem", "compare_form.group_of")):
        number = page.listener(handler)
        data = [told for _ in page.page.fns[number].inputs]
        answer = page.raw_call(page.signed_in(user), number, data)
        assert "nothing is fetched from an address" in answer["output"]["error"], answer


def test_a_pair_of_another_project_is_not_shown_nor_decided(page: Hosted) -> None:
    """Attack: one project's address with another one's pair; a sensitive pair without having agreed to its notice."""
    ben = page.signed_in("Ben")
    assert ben.get("/studio/curation/one/pair/of-other").status_code == 404
    told = {"id": "b" * 12, "pair": "of-other", "version": "x", "verdict": "accept", "reviewer": "Ben"}
    assert ben.post("/studio/curation/one/decide", json=told).status_code == 404
    pair = page.store.list_image_pairs("other")[0]
    for address in (
        f"/studio/pictures/{pair.unsafe_image}.png", f"/studio/pictures/{pair.safe_image}.webp",
        "/studio/pairs/of-other/unsafe.webp", "/studio/curation/other/pair/of-other",
    ):  # fmt: skip
        assert ben.get(address).status_code in (403, 404), address
        assert ben.get(f"{address}?reviewer=Ann").status_code in (403, 404), "nor in the name of another"


def test_what_people_write_never_becomes_part_of_the_page(page: Hosted) -> None:
    """Attack: stored XSS by names, concepts, prompts, groups, reasons, error messages, labels and file names."""
    owner = page.signed_in("Ann")
    number = page.listener("build._keep_true.open_page")
    listener = page.page.fns[number]
    told = page.raw_call(owner, number, [])
    values = told["output"]["data"]
    parts = zip(listener.outputs, values, strict=True)
    plain = [value for kind, value in parts if getattr(kind, "html_template", "") == "${value}"]  # shown as HTML
    shown = [str(value) for value in plain]
    assert sum("&lt;img" in one for one in shown) >= 3, "the attack is on the page, as text"
    assert [one for one in shown if "<img src=x" in one] == []
    report = owner.get(f"/studio/reports/{page.store.evaluation_ids('one')[0]}/report.html")
    assert "<b>" not in report.text.partition("<body")[2].partition("a &lt;b&gt;")[0][-200:]
    assert "sandbox" in report.headers["content-security-policy"]
    assert "script-src" not in report.headers["content-security-policy"]
    assert report.headers["x-content-type-options"] == "nosniff"


def test_a_page_of_another_site_cannot_show_this_one_in_a_frame(page: Hosted) -> None:
    """Attack: clickjacking."""
    assert page.signed_in("Ann").get("/").headers["content-security-policy"] == "frame-ancestors 'self'"


# -- archives ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(page: Hosted, tmp_path: Path) -> Path:
    # The trained model's file is not there in this project: it has no part in these attacks.
    path = tmp_path / "other.zip"
    export_project(page.store, page.settings, "other", path)
    return path


def rewritten(archive: Path, rows: Any = None, **files: bytes) -> Path:
    """The archive with its rows put through a change, and with more files."""
    path = archive.with_name("evil.zip")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        told = json.loads(old.read("rows.json"))
        if rows is not None:
            rows(told)
        for name in old.namelist():
            if name not in files:
                new.writestr(name, json.dumps(told) if name == "rows.json" else old.read(name))
        for name, data in files.items():
            new.writestr(name, data)
    return path


def test_an_archive_starts_no_job(archive: Path, store: Store, settings: Settings) -> None:
    """Attack: a queued job in an archive, say one that pushes pictures to the attacker with the owner's token."""

    def queue(rows: Any) -> None:
        rows["jobs"] = [{"id": "j", "project_id": "other", "kind": "push", "config": "{}", "state": "queued"}]

    with pytest.raises(ArchiveError, match="would start here by itself"):
        import_project(store, settings, rewritten(archive, queue))
    assert store.list_jobs() == []


def test_an_archive_adds_no_row_to_another_project(
    archive: Path, store: Store, settings: Settings, project: Project
) -> None:
    """Attack: prompts or verdicts for a project that is here already, in the archive of a harmless one."""

    def smuggle(rows: Any) -> None:
        rows["prompt_pairs"].append({**rows["prompt_pairs"][0], "id": "smuggled", "project_id": project.id})

    with pytest.raises(ArchiveError, match="rows of prompt_pairs belong to another project"):
        import_project(store, settings, rewritten(archive, smuggle))
    assert store.list_prompt_pairs(project.id) == []
    assert [one.id for one in store.list_projects()] == [project.id]


def renamed(rows: Any, what: str) -> None:
    """The project's id, wherever it stands."""
    for listed in rows.values():
        for row in listed:
            row |= {column: what for column, value in row.items() if value == "other" and column != "name"}


def evaluated(rows: Any, folder: str) -> None:
    job = {
        "id": "j", "project_id": "other", "kind": "evaluate", "config": "{}", "state": "done", "step": 0, "total": 0,
        "message": "", "error": "", "result": "{}", "created": 0.0,
    }  # fmt: skip
    rows["jobs"] = [job]
    rows["evaluations"] = [
        {"id": "e", "project_id": "other", "job_id": "j", "folder": folder, "report": "{}", "created": 0.0}
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: renamed(rows, ".."), "has the id '..', which cannot be"),
        (lambda rows: renamed(rows, "/tmp/theirs"), "has the id '/tmp/theirs'"),
        (lambda rows: rows["prompt_pairs"][0].update(id='"><img src=x>'), "of prompt_pairs has the id"),
        (lambda rows: rows["projects"][0].update(detector_settings="[1]"), "has the detector_settings"),
        (lambda rows: rows["projects"][0].update(checkpoint="http://10.0.0.1/x"), "names no checkpoint"),
        (lambda rows: rows["projects"][0].update(detector="none"), "needs the detector 'none'"),
        (lambda rows: evaluated(rows, "images"), "images is no folder of an evaluation's own"),
        (lambda rows: evaluated(rows, "evaluations"), "evaluations is no folder of an evaluation's own"),
        (lambda rows: evaluated(rows, "evaluations/e"), "is no report"),
    ],
)
def test_an_archive_has_no_row_that_reaches_beyond_its_project(
    page: Hosted, archive: Path, store: Store, settings: Settings, change: Any, words: str
) -> None:
    """Attack: a project whose purge deletes another folder, whose report shows every project's pictures, or whose rows
    keep the page from being opened: ids become names of folders and parts of addresses.
    """
    info = {"format": 1, "id": "other", "name": "x", "notes": {}, "studio": "x"}
    rows = json.loads(zipfile.ZipFile(archive).read("rows.json"))
    change(rows)
    info["id"] = rows["projects"][0]["id"]
    told = {"rows.json": json.dumps(rows).encode(), "archive.json": json.dumps(info).encode()}
    with pytest.raises(ArchiveError, match=re.escape(words)):
        import_project(store, settings, rewritten(archive, **told))
    assert store.list_projects() == []
    assert [one for one in settings.images.rglob("*") if one.is_file()] == []


def test_an_evaluations_folder_is_not_shared(page: Hosted, archive: Path) -> None:
    """Attack: name the folder of another project's report, whose pictures then go with a purge."""
    theirs = page.store.get_evaluation(page.store.evaluation_ids("one")[0])
    rows = json.loads(zipfile.ZipFile(archive).read("rows.json"))
    renamed(rows, "another")
    evaluated(rows, Path(theirs.folder).relative_to(page.settings.data).as_posix())
    rows["jobs"][0]["project_id"] = rows["evaluations"][0]["project_id"] = "another"
    info = {"format": 1, "id": "another", "name": "x", "notes": {}, "studio": "x"}
    told = {"rows.json": json.dumps(rows).encode(), "archive.json": json.dumps(info).encode()}
    with pytest.raises(ArchiveError, match="is no folder of an evaluation's own"):
        import_project(page.store, page.settings, rewritten(archive, **told))


def test_an_archive_writes_over_no_file(archive: Path, store: Store, settings: Settings) -> None:
    """Attack: latents under the id of a pair that is here already, so that a training is fed the attacker's."""
    mine = settings.latents / "of-other.safetensors"
    mine.write_bytes(b"mine")
    with pytest.raises(ArchiveError, match="is here already and differs"):
        import_project(store, settings, rewritten(archive, **{"latents/of-other.safetensors": b"theirs"}))
    assert mine.read_bytes() == b"mine"


def test_an_archive_brings_no_page(page: Hosted, tmp_path: Path, store: Store, settings: Settings) -> None:
    """Attack: HTML or SVG with scripts among a report's files, shown from the studio's own address."""
    page.store.list_checkpoints("one")
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as packed:
        info = {"format": 1, "id": "e", "name": "e", "notes": {}, "studio": "x"}
        packed.writestr("archive.json", json.dumps(info))
        columns = {"id": "e", "name": "e", "concept": "e", "checkpoint": "toybox", "detector": "toybox"}
        rows = page.store.export_rows("other")["projects"][0] | columns
        report = json.dumps(page.store.get_evaluation(page.store.evaluation_ids("one")[0]).report)
        job = next(row for row in page.store.export_rows("one")["jobs"] if row["kind"] == "evaluate")
        evaluation = page.store.export_rows("one")["evaluations"][0]
        packed.writestr("rows.json", json.dumps({
            "projects": [rows], "jobs": [{**job, "project_id": "e"}],
            "evaluations": [{**evaluation, "project_id": "e", "folder": "evaluations/e"}],
        }))  # fmt: skip
        packed.writestr("evaluations/e/report.json", report)
        picture = page.settings.evaluations / "first" / "pictures" / "1.png"
        packed.writestr("evaluations/e/pictures/1.png", picture.read_bytes())
        for name in ("evil.html", "evil.svg", "report.html"):
            packed.writestr(f"evaluations/e/{name}", f"<script>{EVIL}</script>")
    import_project(store, settings, path)
    written = sorted(one.name for one in (settings.evaluations / "e").rglob("*") if one.is_file())
    assert written == ["1.png", "report.html", "report.json"]
    assert "onerror" not in (settings.evaluations / "e" / "report.html").read_text()


def png_of(width: int, height: int) -> bytes:
    """The head of a PNG that says to be so large, and little more."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data", [png_of(60_000, 60_000), b"<svg onload=alert(1)>", b"GIF89a..."], ids=["bomb", "svg", "gif"]
)
def test_a_picture_in_an_archive_is_a_png_of_sensible_size(
    archive: Path, store: Store, settings: Settings, data: bytes
) -> None:
    """Attack: a decompression bomb, or something else under a picture's name, with the hash that it has."""
    name = hashlib.sha256(data).hexdigest()

    def point(rows: Any) -> None:
        rows["image_pairs"][0]["unsafe_image"] = name

    with pytest.raises(ArchiveError, match=r"pixels, which no picture here is|is no PNG file"):
        import_project(store, settings, rewritten(archive, point, **{f"images/{name[:2]}/{name}.png": data}))


def test_bombs_are_refused_unread(archive: Path, tmp_path: Path, store: Store, settings: Settings) -> None:
    """Attack: zip bombs, whole and in the one file that is read first; PNG bombs as one's own pictures."""
    with pytest.raises(ArchiveError, match=r"archive.json in the archive has 2,097,152 bytes; 1,048,576 are the most"):
        read_info(rewritten(archive, **{"archive.json": b" " * 2**21}))
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name in old.namelist():
            packed.writestr(name, old.read(name))
        zeros = bytes(2**20)
        with packed.open("latents/zeros", "w", force_zip64=True) as entry:
            for _ in range(300):
                entry.write(zeros)
    with pytest.raises(ArchiveError, match="zip bomb"):
        import_project(store, settings, bomb)
    with pytest.raises(PictureError, match="megapixels"):
        read_picture(png_of(60_000, 60_000))


@pytest.mark.parametrize("data", [b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
                                  b"\xef\xbb\xbf <!DOCTYPE html><script>alert(1)</script>", b"%PDF-1.7"])  # fmt: skip
def test_a_document_is_no_picture(data: bytes) -> None:
    """Attack: SVG or HTML as a picture, which runs scripts where it is shown."""
    with pytest.raises(PictureError, match="no picture"):
        read_picture(data)


# -- what would reach out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["http://169.254.169.254/latest/meta-data", "https://evil.example/owner/model", "file:///etc/passwd",
     "owner/name/../../x", "owner/name@../../main", "evil.example:80/x", "\\\\evil\\share", "owner/name@{up}"],
)  # fmt: skip
def test_a_checkpoint_is_no_address(text: str) -> None:
    """Attack: SSRF: a hub id or checkpoint that is an address of the server's own network."""
    with pytest.raises((LoadError, ProjectError)):
        new_project("x", "sword", text, "toybox", others=[])


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin", "/data/model.pth"])
def test_a_pickle_is_never_a_checkpoint(name: str) -> None:
    """Attack: code in a pickled checkpoint."""
    with pytest.raises(LoadError, match="pickled checkpoint, which can run code"):
        parse_reference(name)


def test_no_answer_holds_a_secret(page: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack: read tokens from the page, its configuration or its health."""
    token = "hf_" + "a1B2" * 9
    monkeypatch.setenv("HF_TOKEN", token)
    owner, secret = page.signed_in("Ann"), page.settings.secret.read_text()
    for address in ("/", "/config", "/healthz", "/metrics", "/gradio_api/startup-events"):
        text = owner.get(address).text
        assert token not in text
        assert secret not in text
        assert "argon2id" not in text
