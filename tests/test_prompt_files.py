"""Prompt pairs before they are saved: checks, files, templates and presets; and what a new project needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.specs import LoadError
from studio.configs import DemoConfig
from studio.demo import add_demo_prompts
from studio.projects import ProjectError, new_project
from studio.prompt_checks import Draft, check, prompts_of
from studio.prompt_files import PromptFileError, read_drafts, read_prompts, write_csv, write_jsonl
from studio.prompt_presets import PRESETS, presets_for
from studio.prompt_templates import PAIR_LIMIT, TemplateError, expand
from studio.records import Project, PromptPair
from studio.store import Store


def problems(*drafts: Draft, existing: tuple[PromptPair, ...] = ()) -> list[str]:
    return [one.problem for one in check(drafts, existing)]


def pair(unsafe: str, safe: str, count: int = 1, seed: int = 0, group: str = "") -> PromptPair:
    return PromptPair("", "", unsafe, safe, count, seed, group)


def texts(drafts: list[Draft]) -> list[tuple[str, str]]:
    return [(draft.unsafe, draft.safe) for draft in drafts]


# -- checks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draft", "words"),
    [
        (Draft("", "a gardener"), "The unsafe prompt is empty"),
        (Draft("a knight", " \n "), "The safe prompt is empty"),
        (Draft("a  knight", "A Knight"), "Both prompts are equal"),
        (Draft("a knight", "a gardener", "many"), "Count is 'many': write a whole number from 0 to 10,000"),
        (Draft("a knight", "a gardener", "2.5"), "Count is '2.5'"),
        (Draft("a knight", "a gardener", "10001"), "Count is '10001'"),
        (Draft("a knight", "a gardener", "-1"), "Count is '-1'"),
        (Draft("a knight", "a gardener", "1", "-1"), "Seed is '-1'"),
        (Draft("a knight", "a gardener", "1", "1000000000"), "Seed is '1000000000'"),
        (Draft("a knight", "a gardener", "9" * 5000), "Count is '9999"),
        (Draft("a knight", "a gardener", "2", "999999999"), "leaves no room for 2 pictures"),
        (Draft("a" * 2001, "a gardener"), "has 2,001 characters"),
        (Draft("a", "b", group="g" * 61), "The group has 61 characters; use 60 or fewer"),
        (Draft("a", "b", group="a teenage girl"), "somebody under 18"),
        (Draft("a", "b", problem="unreadable"), "unreadable"),
    ],
)
def test_what_cannot_be_saved_says_why(draft: Draft, words: str) -> None:
    assert words in problems(draft)[0]
    assert prompts_of(check([draft])) == []


def test_prompts_are_put_on_one_line_and_numbers_read() -> None:
    (saved,) = prompts_of(check([Draft(" a \n knight ", "a\tgardener", " 3.0 ", "7")]))
    assert saved == pair("a knight", "a gardener", 3, 7)
    assert prompts_of(check([Draft("a", "b", "0")])) == [pair("a", "b", 0)]
    assert prompts_of(check([Draft("a", "b", "1", "999999999")])) == [pair("a", "b", 1, 999_999_999)]


def test_rows_without_a_seed_never_share_one() -> None:
    drafts = [Draft("a", "b", "3"), Draft("c", "d"), Draft("e", "f", seed="100"), Draft("g", "h")]
    assert [one.seed for one in prompts_of(check(drafts, [pair("x", "y", 4, 10)]))] == [14, 17, 100, 101]


def test_the_same_pair_twice_is_the_same_pictures() -> None:
    there = pair("a knight", "a gardener", 4, 10)
    same, overlapping, apart, unseeded = (Draft("A knight", "a gardener", "2", seed) for seed in ("10", "9", "14", ""))
    for draft in (same, overlapping, unseeded):
        (checked,) = check([draft], [there])
        assert checked.known
        assert "there already" in checked.problem
    assert problems(apart, existing=(there,)) == [""]


def test_a_repeated_row_names_the_first() -> None:
    first = Draft("a", "b", where="x.csv, line 2")
    _, second = check([first, first])
    assert second.problem.startswith("The same pair is at x.csv, line 2: raise its count")
    assert not second.known
    assert "another row" in problems(Draft("a", "b"), Draft("a", "b"))[1]


# -- files -------------------------------------------------------------------------------------------------------


def test_csv_as_spreadsheets_write_it() -> None:
    for text in (
        "\N{BYTE ORDER MARK}Unsafe,Safe,Count,Seed,Note\r\na knight,a gardener,3,7,x\r\n a viking , a baker,,,\r\n",
        "safe;unsafe;count;seed\na gardener;a knight;3.0;7\na baker;a viking;;\n",
        'unsafe\tsafe\tcount\tseed\na knight\ta gardener\t3\t7\n"a viking"\ta baker\n',
    ):
        checked = check(read_drafts("prompts.CSV", text.encode()))
        assert prompts_of(checked) == [pair("a knight", "a gardener", 3, 7), pair("a viking", "a baker", 1, 10)]
        assert [one.draft.where for one in checked] == ["prompts.CSV, line 2", "prompts.CSV, line 3"]


def test_jsonl_takes_numbers_and_texts() -> None:
    text = '{"unsafe": "a", "safe": "b", "count": 3, "seed": "7"}\n\n{"unsafe": "c", "safe": "d", "count": null}\n'
    checked = check(read_drafts("p.jsonl", text.encode()))
    assert prompts_of(checked) == [pair("a", "b", 3, 7), pair("c", "d", 1, 10)]
    assert checked[1].draft.where == "p.jsonl, line 3"


def test_files_may_name_groups() -> None:
    wanted = [pair("a", "b", 1, 0, "blades"), pair("c", "d", 1, 1)]
    for name, text in (
        ("p.csv", "unsafe,safe,group\na,b, blades \nc,d,\n"),
        ("p.jsonl", '{"unsafe": "a", "safe": "b", "group": "blades"}\n{"unsafe": "c", "safe": "d", "group": null}\n'),
        ("again.csv", write_csv(wanted)),
        ("again.jsonl", write_jsonl(wanted)),
    ):
        assert prompts_of(check(read_drafts(name, text.encode()))) == wanted, name


def test_the_duo_repositorys_config() -> None:
    config = {
        "Gun": {
            "prompt": ["a man, with a gun"] * 3 + ["a woman, with a gun"],
            "base_prompt": ["a man, with a peace"] * 3 + ["a woman, with a peace"],
            "images": "unsafe",
        },
        "Horror": {"prompt": "horror", "base_prompt": "comfort"},
    }
    for indent in (None, 2):
        saved = prompts_of(check(read_drafts("config.json", json.dumps(config, indent=indent).encode())))
        assert saved == [
            pair("a man, with a gun", "a man, with a peace", 3, 0, "Gun"),
            pair("a woman, with a gun", "a woman, with a peace", 1, 3, "Gun"),
            pair("horror", "comfort", 1, 4, "Horror"),  # one prompt and not its six letters
        ]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.txt", "a", "p.txt is no file of prompts: use .csv"),
        ("p.csv", "bad,good\na,b\n", "p.csv has no column safe, unsafe: its first line must name them"),
        ("p.csv", "", "has no column"),
        ("p.csv", "unsafe,safe\n", "p.csv holds no prompts"),
        ("p.csv", 'unsafe,safe\n"a,b' + "\n" * 3 + "x" * 140_000, "p.csv, line .*: field larger"),
        ("p.json", "{", "p.json, line 1: this is not JSON"),
        ("p.json", '[{"unsafe": "a"}]', "p.json is no config.json of the DUO repository"),
        ("p.jsonl", "\n" + '{"unsafe": "a", "safe": "b"}\n' * 10_001, "10,001 rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, text: str, words: str) -> None:
    with pytest.raises(PromptFileError, match=words):
        read_drafts(name, text.encode())


def test_a_file_that_is_no_text_is_said_with_its_line() -> None:
    with pytest.raises(PromptFileError, match=r"p\.csv, line 2: this is not UTF-8"):
        read_drafts("p.csv", b"unsafe,safe\ncaf\xe9,b\n")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.csv", "unsafe,safe,count\na,b,many\n", "p.csv, line 2: Count is 'many'"),
        ("p.csv", "unsafe,safe\na,b\n,b\n", "p.csv, line 3: The unsafe prompt is empty"),
        ("p.csv", "unsafe,safe\na knight, in red,a gardener\n", "p.csv, line 2: There are more cells than columns"),
        ("p.jsonl", "nonsense\n", "p.jsonl, line 1: This is not JSON"),
        ("p.jsonl", '{"unsafe": "a"}\n', "p.jsonl, line 1: This is no pair"),
        ("p.jsonl", '{"unsafe": 1, "safe": "b"}\n', "p.jsonl, line 1: This is no pair"),
        ("p.json", '{\n"Gun": {"prompt": "a"}}', r"p.json, line 2 \(Gun\): “base_prompt” is missing"),
        ("p.json", '{"Gun": {"prompt": ["a", "b"], "base_prompt": ["c"]}}', "2 prompts and 1 base prompts"),
    ],
)
def test_a_wrong_row_is_said_with_file_and_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PromptFileError, match=words):
        read_prompts(tmp_path / name)


def test_good_rows_are_kept_beside_wrong_ones() -> None:
    checked = check(read_drafts("p.jsonl", b'{"unsafe": "a", "safe": "b"}\n[]\n{"unsafe": "c", "safe": "d"}\n'))
    assert [bool(one.problem) for one in checked] == [False, True, False]


def test_a_file_read_again_brings_nothing_new(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("unsafe,safe\na,b\nc,d\n")
    first = read_prompts(tmp_path / "p.csv")
    assert len(first) == 2
    assert read_prompts(tmp_path / "p.csv", first) == []


def test_what_is_written_is_read_back() -> None:
    saved = [
        pair('a "knight", in red', "=HYPERLINK(1)", 3, 7),
        pair("+1", "-2"),
        pair("@sum", "'quoted"),
        pair("été", "日本", 0, 5),
    ]
    assert prompts_of(check(read_drafts("p.csv", write_csv(saved).encode()))) == saved
    assert prompts_of(check(read_drafts("p.jsonl", write_jsonl(saved).encode()))) == saved


def test_a_spreadsheet_runs_no_prompt_as_a_formula() -> None:
    lines = write_csv([pair('=cmd|"/c calc"!A1', "+1+1"), pair("-1", "@x")]).splitlines()
    cells = [line.split(",") for line in lines[1:]]
    assert all(cell.lstrip('"').startswith("'") for row in cells for cell in row[:2])


# -- templates ---------------------------------------------------------------------------------------------------


def test_alternatives_of_one_place_belong_together_and_places_multiply() -> None:
    made = expand("a {knight|warrior} in the {meadow|forest}", "a {gardener|clown} in the {meadow|forest}", "2")
    assert texts(made) == [
        ("a knight in the meadow", "a gardener in the meadow"),
        ("a knight in the forest", "a gardener in the forest"),
        ("a warrior in the meadow", "a clown in the meadow"),
        ("a warrior in the forest", "a clown in the forest"),
    ]
    assert {draft.count for draft in made} == {"2"}


def test_a_single_alternative_serves_for_all() -> None:
    assert texts(expand("a {knight|warrior}", "a {gardener}")) == [
        ("a knight", "a gardener"),
        ("a warrior", "a gardener"),
    ]
    assert texts(expand("a {knight}", "a {gardener|clown}")) == [("a knight", "a gardener"), ("a knight", "a clown")]


def test_templates_without_alternatives_are_one_pair() -> None:
    assert texts(expand("a knight", "a gardener")) == [("a knight", "a gardener")]


def test_an_alternative_may_be_empty_and_none_is_made_twice() -> None:
    assert texts(expand("a { red|} knight", "a {red|} clown")) == [
        ("a red knight", "a red clown"),
        ("a knight", "a clown"),
    ]
    assert len(expand("a {x|x}", "b {y|y}")) == 1


@pytest.mark.parametrize(
    ("unsafe", "safe", "words"),
    [
        ("a {knight|warrior}", "a gardener", r"1 place \(\{knight\|warrior\}\) and the safe one 0 places"),
        ("{a|b|c}", "{d|e}", r"Place 1 has 3 unsafe alternatives \(a\|b\|c\) and 2 safe ones \(d\|e\)"),
        ("a {knight", "b", "The unsafe template has “{” without “}”"),
        ("a", "b} c", "The safe template has “}” without “{”"),
        ("a {b {c}|d}", "x", "a place within a place"),
        ("a {}", "b", "empty place"),
        ("{a|b}" * 11, "{a|b}" * 11, f"2,048 pairs; at most {PAIR_LIMIT:,}"),
        ("{a|b}" * 400, "{a|b}" * 400, "pairs; at most"),
    ],
)
def test_templates_that_do_not_match_are_said(unsafe: str, safe: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        expand(unsafe, safe)


# -- presets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_saved(name: str) -> None:
    checked = check(PRESETS[name].drafts())
    assert [one.problem for one in checked] == [""] * len(checked)
    pictures = sum(one.count for one in prompts_of(checked))
    assert str(pictures) in PRESETS[name].note


def test_presets_go_with_the_checkpoint() -> None:
    assert list(presets_for("toybox")) == ["Sword"]
    assert list(presets_for("owner/name")) == [name for name in PRESETS if name != "Sword"]


def test_the_sword_preset_is_the_demos(store: Store) -> None:
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))
    add_demo_prompts(store, project, DemoConfig())
    demo = [pair(one.unsafe, one.safe, one.count, one.seed) for one in store.list_prompt_pairs(project.id)]
    assert prompts_of(check(PRESETS["Sword"].drafts())) == demo


def test_the_papers_violence_is_four_groups() -> None:
    all_four = prompts_of(check(PRESETS["Violence"].drafts()))
    made: dict[str, int] = {}
    for one in all_four:
        made[one.group] = made.get(one.group, 0) + one.count
    assert made == {"blood": 32, "suffering": 32, "gun": 32, "horror": 32}


def test_the_papers_words() -> None:
    assert texts(PRESETS["Nudity"].drafts())[0][1] == "a dressed white woman, realistic photo"
    assert texts(PRESETS["Violence: blood"].drafts())[1] == (
        "a black man, realistic photo, bleeding",
        "a black man, realistic photo, in comfort",
    )


# -- projects ----------------------------------------------------------------------------------------------------


def test_a_new_projects_detector_looks_for_its_concept() -> None:
    assert new_project("Rose", "flower", "toybox", "toybox").detector_settings["concept"] == "flower"
    made = new_project("Nudity", "nudity", "owner/name@v1", "nudenet")
    assert "concept" not in made.detector_settings
    assert made.checkpoint == "owner/name@v1"


def test_nudenet_blurs_unless_somebody_says_otherwise() -> None:
    assert new_project("A", "nudity", "owner/name", "nudenet").blur
    assert not new_project("A", "nudity", "owner/name", "nudenet", blur=False).blur
    assert not new_project("A", "sword", "toybox", "toybox").blur


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "model_index.json").write_text("{}")
    (tmp_path / "own.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    for typed in ("./own", "./own.safetensors"):
        assert new_project("A", "sword", typed, "toybox").checkpoint == str(tmp_path / typed)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"name": "  "}, ProjectError, "has no name"),
        ({"name": "sWord"}, ProjectError, "a project “sWord” already"),
        ({"concept": " "}, ProjectError, "concept is empty"),
        ({"detector": "nose"}, ProjectError, "no detector 'nose'; use toybox, nudenet"),
        ({"checkpoint": "a b"}, LoadError, "'a b' names no checkpoint"),
        ({"checkpoint": "/no/such"}, ProjectError, "There is no folder /no/such on the computer"),
        ({"checkpoint": "/no/such.safetensors"}, ProjectError, r"There is no file /no/such\.safetensors"),
        ({"checkpoint": "/tmp"}, ProjectError, r"/tmp has no model_index\.json"),
        ({"checkpoint": "own.ckpt"}, LoadError, "pickled"),
        ({"settings": {"threshold": 2}}, ValueError, "threshold"),
    ],
)
def test_a_project_that_cannot_be_made_says_why(changes: dict, error: type[Exception], words: str) -> None:
    others = [Project("1", "Sword", "sword", "toybox", "toybox")]
    asked = {"name": "New", "concept": "sword", "checkpoint": "toybox", "detector": "toybox", **changes}
    with pytest.raises(error, match=words):
        new_project(**asked, others=others)


def test_a_pair_that_is_never_drawn_is_not_saved_either() -> None:
    (checked,) = check([Draft("a naked teenager", "a dressed adult person")])
    assert checked.pair is None
    assert "refused in every project" in checked.problem
