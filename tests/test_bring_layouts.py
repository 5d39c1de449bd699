"""Which files are a pair: folders, zips and parquet files as people have them, and as attackers make them."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from studio.exchange.layouts import Wanted, entries, side_of
from studio.exchange.parquet import count_rows
from studio.exchange.records import Entry
from studio.exchange.sources import SourceError, is_junk, open_source

TWINS = Wanted(make_twins=True, unsafe_prompt="a knight", safe_prompt="a gardener")


def folder_of(path: Path, *names: str, **files: str) -> Path:
    """A folder with these files; what is in them does not matter here."""
    for name in names:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return path


def zip_of(path: Path, *names: str, **how: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def found(path: Path, wanted: Wanted | None = None) -> list[Entry]:
    with open_source(path) as source:
        return list(entries(source, wanted or Wanted()))


def pairs(some: list[Entry]) -> list[tuple[str, str]]:
    return [
        (entry.unsafe.name, entry.safe.name if entry.safe else "")
        for entry in some
        if not entry.problem and entry.unsafe is not None and entry.outcome == "take"
    ]


def problems(some: list[Entry]) -> dict[str, str]:
    return {entry.name: entry.problem for entry in some if entry.problem}


# -- by name -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("unsafe/a.png", "safe/a.jpg"),
        ("set/Unsafe/deep/a.png", "set/SAFE/deep/A.webp"),
        ("a_unsafe.png", "a_safe.png"),
        ("a-unsafe.png", "a.safe.png"),
        ("unsafe_a.png", "safe_a.png"),
        ("7/unsafe.png", "7/safe.png"),
        ("rejected/a.png", "chosen/a.png"),
        ("before/caf\u00e9.png", "after/cafe\u0301.png"),
    ],
)
def test_two_names_are_a_pair(tmp_path: Path, names: tuple[str, str]) -> None:
    assert pairs(found(folder_of(tmp_path, *names))) == [names]


def test_no_other_names_are_a_pair() -> None:
    assert side_of("unsafely.png") == (None, "unsafely")
    assert side_of("good_dog.png") == (None, "good_dog")
    assert side_of("unsafe/a/b.png") != side_of("unsafe/b.png")


def test_what_has_no_twin_is_listed_and_the_rest_go_on(tmp_path: Path) -> None:
    some = found(folder_of(tmp_path, "unsafe/a.png", "safe/a.png", "unsafe/b.png", "safe/c.png", "d.png"))
    assert pairs(some) == [("unsafe/a.png", "safe/a.png")]
    wrong = problems(some)
    assert "no safe twin" in wrong["unsafe/b.png"]
    assert "no unsafe picture of this name" in wrong["safe/c.png"]
    assert "Nothing says which side" in wrong["d.png"]


def test_unsafe_pictures_alone_get_a_twin_where_both_prompts_are_known(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "unsafe/b.png", "d.png", "safe/c.png")
    some = found(folder, TWINS)
    assert sorted(pairs(some)) == [("d.png", ""), ("unsafe/b.png", "")]
    assert {(e.unsafe_prompt, e.safe_prompt) for e in some if not e.problem} == {("a knight", "a gardener")}
    assert "has not both" in problems(found(folder, Wanted(make_twins=True, unsafe_prompt="a knight")))["d.png"]


def test_names_that_differ_in_case_alone_are_refused_one_by_one(tmp_path: Path) -> None:
    some = found(folder_of(tmp_path, "unsafe/a.PNG", "unsafe/a.png", "safe/a.png", "unsafe/b.png", "safe/b.png"))
    assert pairs(some) == [("unsafe/b.png", "safe/b.png")]
    wrong = problems(some)
    assert wrong.keys() == {"unsafe/a.PNG", "unsafe/a.png", "safe/a.png"}
    assert "unsafe/a.png differs from it in upper and lower case alone" in wrong["unsafe/a.PNG"]
    assert "Which one is its twin" in wrong["safe/a.png"]


def test_two_formats_of_one_name_are_refused(tmp_path: Path) -> None:
    wrong = problems(found(folder_of(tmp_path, "unsafe/a.jpg", "unsafe/a.png", "safe/a.png")))
    assert "would be the same unsafe picture" in wrong["unsafe/a.jpg"]


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store", "unsafe/.DS_Store", "__MACOSX/unsafe/._a.png", "Thumbs.db", "x/desktop.ini", "unsafe/._a.png",
        ".git/config", ".gitattributes", "Icon\r",
    ],
)  # fmt: skip
def test_junk_is_passed_over(tmp_path: Path, name: str) -> None:
    assert is_junk(name)
    assert found(folder_of(tmp_path, name)) == []


def test_what_lies_beside_pictures_of_a_dataset_is_no_news(tmp_path: Path) -> None:
    assert found(folder_of(tmp_path, "README.md", "verdicts.jsonl", "LICENSE")) == []


# -- by a metadata file ------------------------------------------------------------------------------------------------

ROWS = [
    {"unsafe_file_name": "x/1.png", "safe_file_name": "x/2.png", "unsafe_prompt": "a knight", "safe_prompt": "a clown"},
    {"unsafe_file_name": "x/3.png", "safe_file_name": "X/4.PNG", "prompt": "a  king ", "decision": "reject"},
    {"unsafe_file_name": "x/5.png", "safe_file_name": "x/6.png"},
    {"unsafe_file_name": "../secret.png", "safe_file_name": "x/2.png"},
]


def test_a_metadata_file_names_pairs_and_prompts(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "s/x/1.png", "s/x/2.png", "s/x/3.png", "s/x/4.png", "s/x/7.png")
    folder_of(tmp_path / "s", metadata__jsonl="\n".join([*map(json.dumps, ROWS), "", "no json", "[1]", "{}"]))
    some = found(folder)
    assert pairs(some) == [("s/x/1.png", "s/x/2.png"), ("s/x/3.png", "s/x/4.png")]
    assert [(e.unsafe_prompt, e.safe_prompt, e.decision) for e in some if not e.problem] == [
        ("a knight", "a clown", ""),
        ("a king", "a king", "reject"),
    ]
    wrong = problems(some)
    assert wrong["s/metadata.jsonl, line 3"] == "It names 'x/5.png', which is not there."
    assert wrong["s/metadata.jsonl, line 4"] == "It names '../secret.png', which is not there."
    assert "not JSON" in wrong["s/metadata.jsonl, line 6"]
    assert "no row" in wrong["s/metadata.jsonl, line 7"]
    assert "names no picture" in wrong["s/metadata.jsonl, line 8"]
    assert "Nothing says which side" in wrong["s/x/7.png"]


def test_metadata_as_csv_and_a_quoted_formula(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "1.png", "2.png")
    folder_of(folder, metadata__csv="unsafe,safe,prompt\r\n1.png,2.png,'=a knight\r\n")
    assert [(e.unsafe_prompt, e.safe_prompt) for e in found(folder)] == [("=a knight", "=a knight")]


def test_metadata_of_single_pictures_adds_their_prompts(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "unsafe/a.png", "safe/a.png", "unsafe/b.png", "unsafe/c.png")
    rows = [
        {"file_name": "unsafe/a.png", "text": "a knight"},
        {"file_name": "safe/a.png", "text": "a gardener"},
        {"file_name": "unsafe/b.png", "unsafe_prompt": "a king", "safe_prompt": "a clown"},
        {"file_name": "unsafe/c.png", "text": "a king"},
    ]
    folder_of(folder, metadata__jsonl="\n".join(map(json.dumps, rows)))
    some = found(folder, Wanted(make_twins=True))
    assert [(e.name, e.unsafe_prompt, e.safe_prompt) for e in some if not e.problem] == [
        ("unsafe/a.png + safe/a.png", "a knight", "a gardener"),
        ("unsafe/b.png", "a king", "a clown"),
    ]
    assert "has not both" in problems(some)["unsafe/c.png"]


def test_metadata_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes(b"unsafe,safe\n\xff\xfe,x\n")
    assert "not UTF-8" in problems(found(tmp_path))["metadata.csv, line 2"]


# -- zips and folders that are not what they seem ----------------------------------------------------------------------


def test_a_zip_is_read_like_a_folder(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", "set/unsafe/a.png", "set\\safe\\a.png", "__MACOSX/set/unsafe/._a.png")
    assert pairs(found(path)) == [("set/unsafe/a.png", "set/safe/a.png")]
    with open_source(path) as source:
        assert source.read(source.members[1], 99) == b"set\\safe\\a.png"
    renamed = path.rename(tmp_path / "x.dat")  # known by its content
    assert len(pairs(found(renamed))) == 1


@pytest.mark.parametrize("name", ["../a.png", "unsafe/../../a.png", "/etc/a.png", "..\\a.png", "C:\\a.png"])
def test_zip_slip_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="zip slip"):
        found(zip_of(tmp_path / "x.zip", "unsafe/a.png", name))


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("unsafe/a.png", "w") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    with pytest.raises(SourceError, match=r"times its own size; more than 200 times is taken for a zip bomb"):
        found(path)
    claims = bytearray(zip_of(path, "unsafe/a.png").read_bytes())
    at = claims.rindex(b"PK\x01\x02") + 24  # the uncompressed size in the central directory
    claims[at : at + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(bytes(claims) + b"")
    with pytest.raises(SourceError, match="zip bomb"):
        found(path)


def test_single_members_of_a_zip_are_refused_and_the_rest_go_on(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zip_of(tmp_path / "x.zip", "unsafe/a.png", "safe/a.png", "unsafe/a.png")
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("unsafe/l.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("unsafe/b.png", "b")
        archive.writestr("safe/b.png", "b")
    data = bytearray(path.read_bytes())
    local = data.index(b"unsafe/b.png") - 30
    central = data.rindex(b"PK\x01\x02", 0, data.rindex(b"unsafe/b.png"))
    data[local + 6] |= 1  # as if encrypted
    data[central + 8] |= 1
    path.write_bytes(data)
    wrong = problems(found(path))
    assert "holds 2 files of this name" in wrong["unsafe/a.png"]
    assert "link" in wrong["unsafe/l.png"]
    assert "encrypted" in wrong["unsafe/b.png"]


def test_a_damaged_member_says_so_when_it_is_read(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", "unsafe/a.png")
    data = bytearray(path.read_bytes())
    at = data.index(b"unsafe/a.png") + len("unsafe/a.png")
    data[at + 2 : at + 6] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with open_source(path) as source, pytest.raises(SourceError, match="It cannot be read"):
        source.read(source.members[0], 99)


def test_what_is_no_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK, but no zip")
    with pytest.raises(SourceError, match=r"x.zip is no zip that can be opened"):
        found(tmp_path / "x.zip")
    with pytest.raises(SourceError, match="does not exist"):
        found(tmp_path / "nowhere")


def test_links_and_pipes_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", "unsafe/a.png", "safe/a.png")
    folder_of(tmp_path / "outside", "b.png")
    (folder / "unsafe" / "b.png").symlink_to(tmp_path / "outside" / "b.png")
    (folder / "linked").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "safe" / "pipe.png")
    some = found(folder)
    assert pairs(some) == [("unsafe/a.png", "safe/a.png")]
    assert {name: text.split(",")[0] for name, text in problems(some).items()} == {
        "linked": "It is a link", "unsafe/b.png": "It is a link", "safe/pipe.png": "It is no plain file.",
    }  # fmt: skip


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"unsafe_\xff.png")).write_bytes(b"x")
    assert problems(found(tmp_path)) == {"unsafe_\\udcff.png": "Its name is not UTF-8: rename it."}


def test_a_folder_that_holds_one_zip_is_that_zip(tmp_path: Path) -> None:
    zip_of(tmp_path / "x.zip", "unsafe/a.png", "safe/a.png")
    assert pairs(found(tmp_path)) == [("unsafe/a.png", "safe/a.png")]


# -- parquet -----------------------------------------------------------------------------------------------------------


def parquet_of(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_pick_a_pic_the_preferred_picture_is_safe_and_ties_are_counted(tmp_path: Path) -> None:
    path = parquet_of(
        tmp_path / "picks.parquet",
        jpg_0=[b"0a", b"0b", b"0c", b"0d", None, b"0f"],
        jpg_1=[b"1a", b"1b", b"1c", b"1d", b"1e", b"1f"],
        label_0=[1.0, 0.0, 0.5, 1.0, 1.0, float("nan")],
        label_1=[0.0, 1.0, 0.5, 0.0, 0.0, float("nan")],
        has_label=[True, True, True, False, True, True],
        caption=["a knight", "a king", "c", "d", "e", "f"],
    )
    some = found(path)
    assert [entry.outcome for entry in some] == ["take", "take", "tie", "unlabelled", "take", "unlabelled"]
    first, second = some[:2]
    assert first.unsafe is not None
    assert first.safe is not None
    assert (first.unsafe.data, first.safe.data) == (b"1a", b"0a")
    assert second.unsafe is not None
    assert second.safe is not None
    assert (second.unsafe.data, second.safe.data) == (b"0b", b"1b")
    assert (first.unsafe_prompt, first.safe_prompt, first.name) == ("a knight", "a knight", "picks.parquet, row 1")
    assert problems(some) == {"picks.parquet, row 5": "A picture is missing."}
    assert count_rows(path) == 6


def test_a_label_alone_tells_too(tmp_path: Path) -> None:
    path = parquet_of(tmp_path / "x.parquet", JPG_0=[b"0"], jpg_1=[b"1"], Label_0=[0])
    (entry,) = found(path)
    assert entry.unsafe is not None
    assert entry.unsafe.data == b"0"


def test_pairs_as_the_datasets_library_writes_them(tmp_path: Path) -> None:
    image = {"bytes": b"u", "path": "u.png"}
    path = parquet_of(
        tmp_path / "x.parquet",
        unsafe=[image, image, {"bytes": None, "path": "/etc/passwd"}],
        safe=[{"bytes": b"s", "path": None}, {"bytes": None, "path": None}, image],
        unsafe_prompt=["a knight", "", ""],
        safe_prompt=["a clown", "", ""],
        decision=["accept", "", ""],
    )
    first, *_ = some = found(path)
    assert (first.unsafe_prompt, first.safe_prompt, first.decision) == ("a knight", "a clown", "accept")
    assert list(problems(some).values()) == [
        "A picture is missing.",
        "Its picture lies outside of the file (/etc/passwd): put the bytes inside.",
    ]


def test_pictures_alone_in_parquet_get_twins(tmp_path: Path) -> None:
    path = parquet_of(tmp_path / "x.parquet", image=[b"u", b"v"], unsafe_prompt=["a king", ""], safe_prompt=["x", ""])
    assert [(e.unsafe_prompt, e.safe is None) for e in found(path, TWINS)] == [("a king", True), ("a knight", True)]
    assert all("no safe twin" in text for text in problems(found(path)).values())


def test_wrong_parquet_files_are_named_and_the_rest_go_on(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "unsafe/a.png", "safe/a.png", "broken.parquet")
    parquet_of(folder / "other.parquet", url=["x"], width=[1])
    parquet_of(folder / "unlabelled.parquet", jpg_0=[b"x"], jpg_1=[b"x"])
    whole = parquet_of(folder / "cut.parquet", unsafe=[os.urandom(999)] * 40, safe=[os.urandom(999)] * 40)
    data = bytearray(whole.read_bytes())
    data[4:60] = b"\xff" * 56  # the head of the first page
    whole.write_bytes(data)
    some = found(folder)
    assert ("unsafe/a.png", "safe/a.png") in pairs(some)
    wrong = problems(some)
    assert "no parquet file" in wrong["broken.parquet"]
    assert "its columns are url, width" in wrong["other.parquet"]
    assert "no column label_0" in wrong["unlabelled.parquet"]
    assert any(name.startswith("cut.parquet") for name in wrong)


def test_a_column_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"unsafe": pa.array([bytes(130 << 20)], pa.binary()), "safe": pa.array([b"x"])})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 1 << 20
    assert "130 MiB a row; 128 MiB are the most" in problems(found(path))["x.parquet"]


def test_parquet_inside_a_zip(tmp_path: Path) -> None:
    parquet_of(tmp_path / "x.parquet", unsafe=[b"u"], safe=[b"s"])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(tmp_path / "x.parquet", "data/x.parquet")
    assert [entry.name for entry in found(tmp_path / "x.zip")] == ["data/x.parquet, row 1"]
