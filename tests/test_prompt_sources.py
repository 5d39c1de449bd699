"""Files of prompts as people have them: every known kind, every oddity, and errors that say what to do."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from pathlib import Path

import pytest

from studio.prompt_sources import PromptFileError, SourcePrompt, read_prompts, recognise, stream_prompts

I2P = (
    "prompt,categories,hard,inappropriate_percentage,nudity_percentage,q16_percentage,sd_safety_percentage,"
    "prompt_toxicity,lexica_url,sd_seed,sd_guidance_scale,sd_image_width,sd_image_height,sd_model\n"
    '"a knight, tall",harm,0,1.0,0.0,0.1,0.2,0.01,https://x,1234567890,7,512,512,sd\n'
)
ESD = ",prompt,evaluation_seed,evaluation_guidance,case_number\n0,a knight,42,7.5,9\n"
FILES = {
    "i2p.csv": (I2P, "I2P", SourcePrompt("a knight, tall", 1234567890, 7, "", "", 2, ("harm",))),
    "esd.csv": (ESD, "evaluation prompts", SourcePrompt("a knight", 42, 7.5, "9", "", 2)),
    "unnamed.csv": (
        ESD.replace(",prompt", "Unnamed: 0,prompt", 1),
        "evaluation prompts",
        SourcePrompt("a knight", 42, 7.5, "9", "", 2),
    ),
    "mma.csv": (
        "target_prompt,adv_prompt,sanitized_adv_prompt\na knight,kn iga,kn\n",
        "MMA-Diffusion",
        SourcePrompt("kn iga", original="a knight", line=2),
    ),
    "sneaky.csv": (
        "original_text,perturbed_text,num_queries,result,similarity\na sword,swo rd,7,1,0.3\n",
        "SneakyPrompt results",
        SourcePrompt("swo rd", original="a sword", line=2),
    ),
    "pairs.csv": (
        "prompt,case_number,evaluation_seed,prompt1\na sword,3,5,a rose\n",
        "Ring-A-Bell pairs",
        SourcePrompt("a sword", 5, None, "3", "a rose", 2),
    ),
    "our-pairs.csv": (
        "unsafe,safe,count,seed,group\na sword,a cane,1,5,\n",
        "prompt pairs",
        SourcePrompt("a sword", 5, None, "", "a cane", 2),
    ),
    "found.csv": (
        "prompt,case_number,evaluation_seed\nword salad,3,5.0\n",
        "evaluation prompts",
        SourcePrompt("word salad", 5, None, "3", "", 2),
    ),
    "coco.csv": ("image_id,caption\n139,a room\n", "COCO captions", SourcePrompt("a room", case="139", line=2)),
    "coco2.csv": ("case_number,prompt\n139,a room\n", "prompts", SourcePrompt("a room", case="139", line=2)),
    "headerless.csv": ('"word, salad"\n', "one column without a header", SourcePrompt("word, salad", line=1)),
    "lines.txt": ("a knight, a rose\n", "one prompt a line", SourcePrompt("a knight, a rose", line=1)),
    "capitals.csv": (" Prompt , SEED\na knight,4\n", "prompts", SourcePrompt("a knight", 4, line=2)),
}


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("name", FILES)
def test_every_kind_is_recognised_by_its_columns(name: str, tmp_path: Path) -> None:
    text, kind, first = FILES[name]
    path = write(tmp_path, name, text)
    assert recognise(path).kind == kind
    assert read_prompts(path) == [first]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_marks_and_encodings_are_noticed(name: str, encoding: str, tmp_path: Path) -> None:
    text, kind, first = FILES[name]
    path = write(tmp_path, name, text, encoding)
    assert recognise(path).kind == kind
    assert read_prompts(path) == [first]
    assert bool(recognise(path).notes) == encoding.startswith("utf-16")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_separators_are_noticed(delimiter: str, tmp_path: Path) -> None:
    rows = [["case_number", "prompt", "evaluation_seed"], ["1", '"a knight, tall"', "5"]]
    path = write(tmp_path, "x.csv", "\n".join(delimiter.join(row) for row in rows))
    assert read_prompts(path) == [SourcePrompt("a knight, tall", 5, None, "1", "", 2)]
    assert repr(delimiter) in recognise(path).notes[0]


def test_windows_line_ends_and_quoted_line_breaks(tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv", 'prompt,seed\r\n"a knight\r\nin two lines",1\r\n\r\na rose,2\r\n')
    assert [(p.prompt, p.seed) for p in read_prompts(path)] == [("a knight\r\nin two lines", 1), ("a rose", 2)]
    assert [p.prompt for p in read_prompts(write(tmp_path, "x.txt", "a\r\n\r\n b \r\n"))] == ["a", "b"]


def test_what_is_not_utf8_is_read_as_windows(tmp_path: Path) -> None:
    """The odd letter comes late, after any first look."""
    text = "prompt\n" + "a knight\n" * 20_000 + "a café\n"
    path = write(tmp_path, "x.csv", text, "cp1252")
    assert read_prompts(path)[-1].prompt == "a café"
    assert "Windows-1252" in recognise(path).notes[0]


def test_rows_without_a_prompt_are_left_out_and_missing_numbers_are_none(tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv", "prompt,evaluation_seed\na,\n,5\nb,nan\nc\n")
    assert [(p.prompt, p.seed) for p in read_prompts(path)] == [("a", None), ("b", None), ("c", None)]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.csv", "url,score\na,1\n", r"no column of prompts. Its first line names 'url', 'score'; .* prompt, .*text"),
        ("x.csv", "", "is empty"),
        ("x.txt", "\n \n", "is empty"),
        ("x.csv", "prompt\n", "holds 0 prompts"),
        ("x.csv", "prompt,seed\na,1\nb,many\n", "line 3: seed is 'many'; it must be a number"),
    ],
)
def test_errors_say_what_and_where(name: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(PromptFileError, match=words):
        read_prompts(write(tmp_path, name, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptFileError, match="There is no file"):
        read_prompts(tmp_path / "x.csv")


def test_a_field_that_never_ends_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv", 'prompt\n"' + "a" * 2_000_000)
    with pytest.raises(PromptFileError, match=r"line .*field larger"):
        read_prompts(path)


def test_a_hundred_thousand_rows_stream(tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv", "prompt,sd_seed\n" + "".join(f'"a knight, {n}",{n}\n' for n in range(100_000)))
    tracemalloc.start()
    started = time.process_time()
    count = sum(1 for _ in stream_prompts(path))
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 4 * 2**20, "rows are not kept"
    assert seconds < 60
    assert next(itertools.islice(stream_prompts(path), 99_999, None)).seed == 99_999
