"""Shared fixtures: settings in a temporary folder, a random tiny Stable Diffusion, and the embedded checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.bundle import ModelBundle
from models.loading import load_bundle
from models.specs import ModelSpec
from studio.forks import ForkServer
from studio.inference.client import InferenceClient
from studio.jobs import Runner
from studio.processes import start_fork_server
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from tests.tiny_toybox import save_tiny_toybox

if TYPE_CHECKING:
    from studio.ui.context import Studio

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Bitwise comparisons need a fixed order of additions, and tests should leave other cores alone."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer | None]:
    """The workers of all slow tests are copies of it: each would load PyTorch for seconds."""
    server = start_fork_server(Settings(data=tmp_path_factory.mktemp("forks"), device="cpu", threads=1))
    yield server
    if server is not None:
        server.close()


@pytest.fixture(autouse=True)
def ready_workers(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("slow"):
        request.getfixturevalue("fork_server")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose data folder is empty and the test's own."""
    made = Settings(data=tmp_path / "data", device="cpu", threads=1)
    made.create_folders()
    return made


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """An empty store in a real file."""
    made = Store(settings.database)
    yield made
    made.close()


def make_tiny_bundle(
    prediction_type: str = "epsilon", seed: int = 0, dtype: torch.dtype = torch.float32
) -> ModelBundle:
    """Random weights in the embedded checkpoint's shape: 64 px pictures, 8 x 8 latents of 8 channels, text width 96."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=8,
            norm_num_groups=4,
            sample_size=64,
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=8,
            out_channels=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            attention_head_dim=8,
            cross_attention_dim=96,
            norm_num_groups=8,
        )
        tokenizer = make_tokenizer()
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=96,
                intermediate_size=192,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=16,
                projection_dim=96,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    spec = ModelSpec("Tiny", "tiny", None, "sd1", 64)
    scheduler = {**SCHEDULER, "prediction_type": prediction_type}
    return ModelBundle(vae, (text_encoder,), (tokenizer,), unet, scheduler, spec, torch.device("cpu"), dtype)


def make_tokenizer() -> CLIPTokenizer:
    """One token a byte: any text can be encoded, no word is one."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=16)


@pytest.fixture
def tiny_bundle() -> ModelBundle:
    """A fresh random model; the same weights in every test."""
    return make_tiny_bundle()


@pytest.fixture
def make_bundle() -> Callable[..., ModelBundle]:
    """Makes random models of another prediction type, seed or dtype."""
    return make_tiny_bundle


@pytest.fixture(scope="session")
def toybox_bundle() -> ModelBundle:
    """The embedded checkpoint. Skipped only while its weights are not there."""
    if not (Settings.toybox / "model_index.json").is_file():
        pytest.skip("models/toybox/weights holds no model_index.json: the embedded checkpoint is not trained yet")
    return load_bundle("toybox", device="cpu")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the embedded checkpoint's, with random weights: quick, and its pictures are noise."""
    folder = tmp_path_factory.mktemp("toybox")
    save_tiny_toybox(make_tiny_bundle(), folder)
    return folder


@pytest.fixture
def project(store: Store) -> Project:
    """A project on the embedded checkpoint, still empty."""
    return store.create_project(Project(id="", name="Sword", concept="sword", checkpoint="toybox", detector="toybox"))


@pytest.fixture
def studio(settings: Settings, store: Store) -> Iterator[Studio]:
    """The page's parts; its jobs end at once without having done anything."""
    from studio.ui.context import Studio  # loads gradio, which most tests do without

    client = InferenceClient(settings)
    yield Studio(settings, store, Runner(store, settings, worker=("-c", "pass")), client)
    client.close()
