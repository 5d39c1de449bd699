"""Compare's pictures: what the renderer draws, and the worker process behind the client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.adapters import (
    WeightDelta,
    applied,
    attach_lora,
    detach,
    file_sha256,
    load_delta,
    lora_delta,
    save_delta,
)
from models.bundle import ModelBundle
from models.fingerprint import FINGERPRINT
from studio import __version__
from studio.attacks.base import AttackInput, draw
from studio.attacks.embeddings import load_embedding, save_embedding
from studio.configs import SamplingConfig
from studio.images import read_image, read_metadata
from studio.inference.client import InferenceClient, InferenceError
from studio.inference.messages import (
    Cell,
    CutOff,
    CutOffRequest,
    Found,
    ModelChoice,
    Progress,
    RenderRequest,
    RenderResult,
    decode,
    encode,
)
from studio.inference.renderer import Recent, Renderer
from studio.processes import Child, is_alive, start_time
from studio.refusal import RefusedError
from studio.settings import REPOSITORY, Settings
from tests.tiny_toybox import save_tiny_toybox

PROMPTS, SEEDS = ["a knight", "a gardener on the beach"], [3, 4, 5]


def random_delta(bundle: ModelBundle, seed: int) -> WeightDelta:
    generator = torch.Generator().manual_seed(seed)
    for parameter in attach_lora(bundle, rank=4, alpha=4, targets=bundle.family.lora_targets["attention"], seed=seed):
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    delta = lora_delta(bundle)
    detach(bundle)
    return delta


@pytest.fixture
def studio(settings: Settings, tiny_bundle: ModelBundle, tmp_path: Path) -> Settings:
    """Settings, also for child processes, whose embedded checkpoint and detector are random and tiny."""
    save_tiny_toybox(tiny_bundle, tmp_path / "toybox")
    return replace(settings, toybox=tmp_path / "toybox")


@pytest.fixture
def adapters(tiny_bundle: ModelBundle, tmp_path: Path) -> list[ModelChoice]:
    """Two trained models, A and B."""
    choices = []
    for seed, label in enumerate("AB"):
        path = tmp_path / f"{label}.safetensors"
        sha256 = save_delta(random_delta(tiny_bundle, seed), path)
        choices.append(ModelChoice(label, "toybox", str(path), sha256))
    return choices


ORIGINAL = ModelChoice("Original", "toybox")


def ask(*models: ModelChoice, **changes: Any) -> RenderRequest:
    return RenderRequest(
        **{"models": list(models), "prompts": PROMPTS, "seeds": SEEDS, "steps": 4, "detector": "toybox"} | changes
    )


def render(settings: Settings, request: RenderRequest) -> tuple[RenderResult, list[Progress]]:
    told: list[Progress] = []
    return Renderer(settings).render(request, told.append), told


def pictures(settings: Settings, result: RenderResult, model: int) -> np.ndarray:
    return np.stack([read_image(settings, cell.sha256) for cell in result.cells if cell.model == model])


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_a_grid_of_two_models(studio: Settings, adapters: list[ModelChoice], tiny_bundle: ModelBundle) -> None:
    result, told = render(studio, ask(ORIGINAL, adapters[0]))
    places = [(cell.prompt, cell.seed, cell.model) for cell in result.cells]
    assert places == [(prompt, seed, model) for prompt in PROMPTS for seed in SEEDS for model in (0, 1)]
    assert not np.array_equal(pictures(studio, result, 0), pictures(studio, result, 1))
    prompts = [prompt for prompt in PROMPTS for _ in SEEDS]
    direct = tiny_bundle.generate(prompts, SEEDS * 2, steps=4, guidance_scale=4.0).images
    assert np.abs(direct.astype(int) - pictures(studio, result, 0)).max() <= 1
    assert {cell.adapter_sha256 for cell in result.cells if cell.model == 0} == {None}
    assert {cell.adapter_sha256 for cell in result.cells if cell.model == 1} == {adapters[0].adapter_sha256}
    assert all(isinstance(cell.found, bool) and 0 <= cell.score <= 1 and cell.facts for cell in result.cells)
    assert all(cell.seconds > 0 and not cell.error for cell in result.cells)
    assert result.detector.startswith("toybox ")
    assert result.cell(1, PROMPTS[1], 4) == result.cells[9]
    assert [p.message for p in told] == [
        "Original: loading the checkpoint toybox",
        *(f"Original: sampling {n} of 6" for n in (0, 4, 6)),
        "Original: asking the detector",
        "Original: done",
        "A: loading the adapter",
        *(f"A: sampling {n} of 6" for n in (0, 4, 6)),
        "A: asking the detector",
        "A: done",
    ]
    assert [p.done for p in told] == [0, 0, 4, 6, 6, 6, 6, 6, 10, 12, 12, 12]
    assert {p.total for p in told} == {12}
    assert sorted((c for p in told for c in p.cells), key=result.cells.index) == result.cells


def test_two_columns_with_one_adapter_are_pixel_identical(studio: Settings, adapters: list[ModelChoice]) -> None:
    a, b = adapters
    result, _ = render(studio, ask(a, b, replace(a, label="A again"), ORIGINAL))
    columns = [pictures(studio, result, model) for model in range(4)]
    assert np.array_equal(columns[0], columns[2])
    assert not np.array_equal(columns[0], columns[1])
    assert not np.array_equal(columns[0], columns[3])


def test_adapters_leave_the_original_untouched_and_scale_zero_is_the_original(
    studio: Settings, adapters: list[ModelChoice]
) -> None:
    result, _ = render(studio, ask(ORIGINAL, *adapters, replace(adapters[0], scale=0.0), ORIGINAL))
    assert np.array_equal(pictures(studio, result, 0), pictures(studio, result, 4))
    assert np.array_equal(pictures(studio, result, 0), pictures(studio, result, 3))


def test_a_changed_text_encoder_reads_the_prompts_of_its_column_alone(
    studio: Settings, tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    """Embeddings that are kept of one model's prompts are no other's, at another strength of the same one neither."""
    (name,) = (name for name, _ in tiny_bundle.text_encoder.named_parameters() if "final_layer_norm.bias" in name)
    change = torch.randn(96, generator=torch.Generator().manual_seed(0))
    delta = WeightDelta("weights", {name: change}, {"part": "text_encoder"})
    model = ModelChoice("T", "toybox", str(tmp_path / "t"), save_delta(delta, tmp_path / "t"))
    result, _ = render(studio, ask(ORIGINAL, model, replace(model, scale=0.5), ORIGINAL, model, detector=""))
    drawn = [pictures(studio, result, index) for index in range(5)]
    assert np.array_equal(drawn[0], drawn[3])
    assert np.array_equal(drawn[1], drawn[4])
    assert len({drawn[index].tobytes() for index in (0, 1, 2)}) == 3
    with applied(tiny_bundle, delta):
        prompts = [prompt for prompt in PROMPTS for _ in SEEDS]
        direct = tiny_bundle.generate(prompts, SEEDS * 2, steps=4, guidance_scale=4.0).images
    assert np.abs(direct.astype(int) - drawn[1]).max() <= 1
    token = save_embedding(studio.embeddings, AttackInput("", token_embeds=torch.randn(1, 96)), "x")
    learned = RenderRequest([model], ["t"], [3], steps=4, found={"t": Found("a knight", token)})
    with applied(tiny_bundle, delta):
        one = load_embedding(studio.embeddings, token, "a knight", tiny_bundle)
        direct = draw(tiny_bundle, [one], [3], SamplingConfig(steps=4))
    assert np.abs(direct.astype(int) - pictures(studio, render(studio, learned)[0], 0)).max() <= 1


def test_the_picture_says_what_made_it(studio: Settings, adapters: list[ModelChoice]) -> None:
    result, _ = render(studio, ask(adapters[0], prompts=["a café"], seeds=[9], guidance_scale=2.5))
    [cell] = result.cells
    text = read_metadata(studio, cell.sha256)
    word = "found" if cell.found else "not found"
    assert text == {
        "prompt": "a café",
        "seed": "9",
        "steps": "4",
        "guidance_scale": "2.5",
        "checkpoint": "toybox",
        "model": "A",
        "adapter": "A.safetensors",
        "adapter_sha256": adapters[0].adapter_sha256,
        "adapter_scale": "1.0",
        "Software": f"DUO Studio {__version__}",
        "detector": result.detector,
        "detector_verdict": f"{word} ({cell.score:.3f})",
    }
    assert Path(cell.image).is_file()
    assert file_sha256(Path(cell.image)) == cell.sha256


def test_a_replaced_adapter_file_makes_no_picture(studio: Settings, adapters: list[ModelChoice]) -> None:
    a, b = adapters
    renderer = Renderer(studio)
    assert not any(cell.error for cell in renderer.render(ask(a), lambda _: None).cells)
    Path(a.adapter_path).write_bytes(Path(b.adapter_path).read_bytes())
    result = renderer.render(ask(ORIGINAL, a), lambda _: None)
    for cell in result.cells:
        if cell.model == 0:
            assert cell.image
        else:
            assert not cell.image
            assert cell.adapter_sha256 is None
            assert a.adapter_sha256 in cell.error
            assert b.adapter_sha256 in cell.error


def test_an_adapter_that_cannot_be_read_is_an_error_of_its_column(
    studio: Settings, adapters: list[ModelChoice], tmp_path: Path
) -> None:
    pickled = tmp_path / "pickled.safetensors"
    torch.save({"weight": torch.zeros(2)}, pickled)
    gone = replace(adapters[0], adapter_path=str(tmp_path / "gone.safetensors"))
    other = tmp_path / "other.safetensors"
    made = load_delta(Path(adapters[0].adapter_path))
    save_delta(replace(made, metadata={**made.metadata, FINGERPRINT: "ab" * 32}), other)
    wrong = [ModelChoice("P", "toybox", str(pickled)), gone, ModelChoice("X", "/no/such/folder")]
    result, told = render(studio, ask(*wrong, ORIGINAL, ModelChoice("O", "toybox", str(other)), seeds=[1]))
    errors = [cell.error for cell in result.cells[:5]]
    assert "pickled" in errors[0]
    assert "does not exist" in errors[1]
    assert "/no/such/folder is not a folder" in errors[2]
    assert errors[3] == ""
    assert "with the SHA-256 abababababab, but the weights of Toybox have" in errors[4]
    assert told[-1].done == told[-1].total == 10


def test_a_missing_detector_still_gives_pictures(studio: Settings) -> None:
    (studio.toybox / "detector.safetensors").unlink()
    result, _ = render(studio, ask(ORIGINAL, seeds=[1]))
    assert "detector's weights are missing" in result.detector_error
    assert all(cell.image and cell.found is None for cell in result.cells)


def test_no_detector_asked_for(studio: Settings) -> None:
    result, _ = render(studio, ask(ORIGINAL, seeds=[1], detector=""))
    assert (result.detector, result.detector_error) == ("", "")
    assert result.cells[0].found is None
    assert "detector" not in read_metadata(studio, result.cells[0].sha256)


def test_a_checkpoint_saved_anew_is_loaded_anew(
    studio: Settings, make_bundle: Callable[..., ModelBundle], tmp_path: Path
) -> None:
    renderer, folder = Renderer(studio), tmp_path / "checkpoint"
    drawn = []
    for seed in (0, 1):
        save_tiny_toybox(make_bundle(seed=seed), folder)
        os.utime(folder / "unet" / "diffusion_pytorch_model.safetensors", (seed, time.time() + seed))
        drawn.append(pictures(studio, renderer.render(ask(ModelChoice("M", str(folder))), lambda _: None), 0))
    assert not np.array_equal(*drawn)


def test_a_picture_does_not_depend_on_its_company(studio: Settings) -> None:
    renderer = Renderer(studio)
    alone = renderer.render(ask(ORIGINAL, prompts=PROMPTS[:1], seeds=[3]), lambda _: None)
    among = renderer.render(ask(ORIGINAL), lambda _: None)
    difference = pictures(studio, alone, 0)[0].astype(int) - pictures(studio, among, 0)[0]
    assert np.abs(difference).max() <= 1


def test_recent_forgets_the_oldest() -> None:
    recent: Recent[int] = Recent(2)
    for key in ("a", "b", "a", "c"):
        recent.get(key, lambda: 0)
    assert ["a" in recent, "b" in recent, "c" in recent] == [True, False, True]


# -- messages ----------------------------------------------------------------------------------------------------------


def test_messages_survive_the_pipe() -> None:
    cell = Cell(0, "a", 1, found=True, score=0.5, labels={"sword": 0.5}, facts={"shirt": "red"})
    for kind, body in [
        ("render", ask(ORIGINAL, ModelChoice("A", "toybox", "é.safetensors", "ab", 0.5))),
        ("progress", Progress("a\nb", 1, 2, [cell])),
        ("result", RenderResult([cell], "toybox", "")),
        ("error", "text"),
        ("cancel", None),
        ("cut_off", CutOffRequest("toybox", ["a", "é"])),
        ("words", CutOff(["", "é"])),
    ]:
        line = encode(kind, "id", body)
        assert line.count(b"\n") == 1
        assert decode(line) == (kind, "id", body)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": []}, "no prompts"),
        ({"models": []}, "no models"),
        ({"seeds": [-1]}, "Seed -1"),
        ({"steps": 0}, "steps is 0"),
        ({"guidance_scale": 0.5}, "guidance_scale is 0.5"),
    ],
)
def test_a_request_for_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(ORIGINAL, **changes)


# -- the worker process ------------------------------------------------------------------------------------------------


@pytest.fixture
def client(studio: Settings) -> Iterator[InferenceClient]:
    made = InferenceClient(studio)
    yield made
    made.close()


def worker_of(client: InferenceClient) -> Child:
    while client._worker.process is None:  # a thread starts it
        time.sleep(0.01)
    return client._worker.process


@pytest.mark.slow
def test_the_client_serves_threads_survives_a_crash_and_cancels(
    client: InferenceClient, studio: Settings, adapters: list[ModelChoice]
) -> None:
    """One test, since each start of a worker takes seconds."""
    told: list[Progress] = []
    first = client.render_all(ask(ORIGINAL, adapters[0]), told.append)
    assert told[0].message == "starting the inference worker: loading PyTorch"
    assert "Original: loading the checkpoint toybox" in [p.message for p in told]
    assert np.array_equal(pictures(studio, first, 1), pictures(studio, render(studio, ask(adapters[0]))[0], 0))

    words = "word " * 16
    assert client.cut_off("toybox", ["a knight", words]) == ["", "word " * 13]  # of the tiny encoder's 14 letters
    with pytest.raises(InferenceError, match="'a b' names no checkpoint"):
        client.cut_off("a b", ["a knight"])

    with ThreadPoolExecutor(3) as pool:  # each thread gets its own answer, from the same worker
        process = worker_of(client)
        results = list(pool.map(client.render_all, [ask(ORIGINAL, seeds=[seed]) for seed in (1, 2, 3)]))
    assert [result.cells[0].seed for result in results] == [1, 2, 3]
    assert worker_of(client) is process

    abandoned = client.render(ask(ORIGINAL, seeds=list(range(200)), steps=50))
    next(abandoned)
    abandoned.close()
    assert len(client.render_all(ask(ORIGINAL, seeds=[1])).cells) == 2  # waits for one batch, not for 400 pictures

    with pytest.raises(InferenceError, match="no detector 'magic'; use one of toybox"):
        client.render_all(ask(ORIGINAL, detector="magic"))
    assert worker_of(client) is process

    with pytest.raises(InferenceError, match=r"was killed by SIGKILL.*the next request starts it again"):
        client.render_all(ask(ORIGINAL, seeds=list(range(200)), steps=50), lambda _: process.kill())
    again: list[Progress] = []
    second = client.render_all(ask(ORIGINAL, adapters[0]), again.append)
    assert again[0].message.startswith("starting the inference worker again")
    assert [cell.sha256 for cell in second.cells] == [cell.sha256 for cell in first.cells]

    pid = worker_of(client).pid
    started = start_time(pid)
    client.close()
    assert not is_alive(pid, started)


def test_a_worker_that_dies_at_once_shows_its_last_lines(settings: Settings) -> None:
    client = InferenceClient(settings, worker=("-c", "raise SystemExit('no space left for torch')"))
    for _ in range(2):
        with pytest.raises(InferenceError, match=r"(?s)ended with exit code 1.*no space left for torch"):
            client.render_all(ask(ORIGINAL))
    with pytest.raises(InferenceError, match="no space left for torch"):
        client.cut_off("toybox", ["a knight"])
    client.close()
    client.close()


PARENT = """
import os, sys, time
from studio.inference.client import InferenceClient
from studio.settings import Settings
client = InferenceClient(Settings.from_environment())
client.prewarm("toybox")
while client._worker.process is None:
    time.sleep(0.01)
print(client._worker.process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_the_worker_dies_with_its_parent(studio: Settings) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=REPOSITORY,
        env=os.environ | studio.environment(),
        stdout=subprocess.PIPE,
    )
    with parent:
        pid = int(parent.stdout.readline())
        started = start_time(pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60  # it may still be importing torch, and listens only then
    while is_alive(pid, started):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_an_attack_found_is_drawn_in_a_prompt_s_place(settings: Settings, tiny_folder: Path) -> None:
    """A start latent replaces the seed's noise, a learned token joins the prompt; the picture names the file."""
    settings = replace(settings, toybox=tiny_folder)
    renderer = Renderer(settings)
    bundle = renderer.load("toybox").bundle
    start = save_embedding(settings.embeddings, AttackInput("", start_latents=bundle.noise([9])[0]), "x")
    token = save_embedding(settings.embeddings, AttackInput("", token_embeds=torch.randn(1, 96)), "x")
    found = {"s": Found("a knight", start), "t": Found("a knight", token)}
    request = RenderRequest([ModelChoice("O", "toybox")], ["a knight", "s", "t"], [3, 9], steps=2, found=found)
    assert decode(encode("render", "1", request))[2] == request
    result = renderer.render(request, lambda progress: None)
    pictures = {(cell.prompt, cell.seed): read_image(settings, cell.sha256) for cell in result.cells}
    assert (pictures["s", 3] == pictures["a knight", 9]).all()
    assert (pictures["s", 9] == pictures["s", 3]).all()
    assert (pictures["t", 3] != pictures["a knight", 3]).any()
    assert read_metadata(settings, result.cell(0, "t", 3).sha256)["embedding"] == token
    gone = RenderRequest([ModelChoice("O", "toybox")], ["s"], [3], steps=2, found={"s": Found("", "ab" * 32)})
    assert "missing or was changed" in renderer.render(gone, lambda progress: None).cells[0].error
    young = RenderRequest([ModelChoice("O", "toybox")], ["s"], [3], found={"s": Found("a teenage girl", start)})
    with pytest.raises(RefusedError):
        renderer.render(young, lambda progress: None)
