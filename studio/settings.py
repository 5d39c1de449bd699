"""Every path and default of the studio, read once from the environment and passed in from there.

Nothing else in the project reads ``os.environ``; tests build a `Settings` by hand.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from studio.care import Care, CareError, read_care, write_care
from studio.hosting.limits import Limits, LimitsError, read_limits, write_limits
from studio.launch_options import HfJobsOptions, OptionsError, read_options, write_options

REPOSITORY = Path(__file__).resolve().parent.parent
TRACKERS = ("tensorboard", "trackio", "wandb")
SPACE_DISK = Path("/data")  # where a Space's persistent storage is mounted


class SettingsError(ValueError):
    """A setting from the environment that cannot be used; says which, its value and the remedy."""


@dataclass(frozen=True)
class OAuth:
    """The application that a Space with `hf_oauth: true` is at Hugging Face, or one that was registered there."""

    client_id: str
    client_secret: str = field(repr=False)
    provider: str = "https://huggingface.co"


@dataclass(frozen=True)
class Settings:
    """Where things lie and how the studio runs."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 7860
    device: str = "auto"  # "auto" | "cpu" | "cuda" | "mps"
    dtype: str = "auto"  # of checkpoints: "auto" | "float32" | "bfloat16" | "float16"; see models.loading
    processes: int = 1  # that train one model together: as many as there are GPUs for it
    threads: int = 0  # torch threads of a worker; 0 = all cores
    public_demo: bool = False  # anybody may look: what makes or hands out attacks is off
    prewarm: bool = True  # load the project's model as soon as somebody opens the page
    fork: bool = True  # keep a process with PyTorch loaded, of which workers are copies, where that is possible
    memory: float = 0.0  # 10^9 bytes that a training may take on the device; 0 = what is free there
    trackers: tuple[str, ...] = ()  # of TRACKERS, that get a training's numbers too
    care: Care = field(default_factory=Care)  # what a reviewer who has chosen nothing has
    limits: Limits = field(default_factory=Limits)
    open_to: str = ""  # the role of whoever reaches the port without signing in: "viewer" | "reviewer" | "owner"
    hosts: tuple[str, ...] = ()  # names by which it is reached so, beside addresses and names of no public domain
    users_file: Path | None = None  # None: users.json in the data folder
    oauth: OAuth | None = None
    space: str = ""  # owner/name of the Hugging Face Space that this runs in
    space_owner: str = ""  # who signs in there as owner
    json_logs: bool = False  # one JSON object a line
    metrics: bool = False  # /metrics, for Prometheus
    launcher: str = "local"  # where a training runs unless asked otherwise: "local" | "hf_jobs"
    hf_jobs: HfJobsOptions = field(default_factory=HfJobsOptions)
    accelerate_config: Path | None = None  # of `accelerate launch`, for trainings of several processes
    toybox: Path = REPOSITORY / "models" / "toybox" / "weights"

    @property
    def database(self) -> Path:
        return self.data / "studio.db"

    @property
    def images(self) -> Path:
        """Content-addressed pictures: images/ab/abcdef….png."""
        return self.data / "images"

    @property
    def latents(self) -> Path:
        """One safetensors file a pair and try, with 'unsafe' and 'safe': see `studio.workflow.latents`."""
        return self.data / "latents"

    @property
    def checkpoints(self) -> Path:
        """Trained adapters: checkpoints/<job id>/adapter.safetensors and resume state."""
        return self.data / "checkpoints"

    @property
    def evaluations(self) -> Path:
        return self.data / "evaluations"

    @property
    def drawn(self) -> Path:
        """What evaluations drew, by what made it, for the next one: drawn/<project id>/<hash>.png. `clean` thins it."""
        return self.data / "drawn"

    @property
    def exports(self) -> Path:
        """Models as they leave the studio: exports/<job id>/<name>/…"""
        return self.data / "exports"

    @property
    def embeddings(self) -> Path:
        """What attacks found in the place of prompts, by the SHA-256 of the file: embeddings/<sha256>.safetensors."""
        return self.data / "embeddings"

    @property
    def attacks(self) -> Path:
        """What an attack's prompts share, learned once: attacks/<job id>/…; a resumed job finds it again."""
        return self.data / "attacks"

    @property
    def prompt_files(self) -> Path:
        """Files of prompts that were uploaded for an evaluation, by what is in them: prompt-files/<hash>/<name>."""
        return self.data / "prompt-files"

    @property
    def incoming(self) -> Path:
        """What is uploaded to be brought in, until its job is done: incoming/<id>/…"""
        return self.data / "incoming"

    @property
    def outgoing(self) -> Path:
        """What is packed to be taken out, while it is sent: outgoing/…"""
        return self.data / "outgoing"

    @property
    def tracked(self) -> Path:
        """What trackers keep on this machine: trackers/tensorboard/<run>/…"""
        return self.data / "trackers"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def users(self) -> Path:
        """Who may sign in; see `studio.hosting.users`."""
        return self.users_file or self.data / "users.json"

    @property
    def secret(self) -> Path:
        """What sessions are signed with."""
        return self.data / "secret.key"

    @property
    def backups(self) -> Path:
        """Copies of the database and archives of projects: see `studio.backups`."""
        return self.data / "backups"

    def create_folders(self) -> None:
        for folder in (self.data, self.images, self.latents, self.checkpoints, self.evaluations, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    def environment(self) -> dict[str, str]:
        """The variables that make a child process read these same settings."""
        return {
            "DUO_STUDIO_DATA": str(self.data),
            "DUO_STUDIO_ACCELERATE": str(self.accelerate_config or ""),
            "DUO_STUDIO_DEVICE": self.device,
            "DUO_STUDIO_DTYPE": self.dtype,
            "DUO_STUDIO_FORK": str(int(self.fork)),
            "DUO_STUDIO_HOSTS": ",".join(self.hosts),
            "DUO_STUDIO_HF_JOBS": write_options(self.hf_jobs),
            "DUO_STUDIO_LAUNCHER": self.launcher,
            "DUO_STUDIO_LIMITS": write_limits(self.limits),
            "DUO_STUDIO_LOG": "json" if self.json_logs else "text",
            "DUO_STUDIO_MEMORY": str(self.memory),
            "DUO_STUDIO_METRICS": str(int(self.metrics)),
            "DUO_STUDIO_OPEN": self.open_to,
            "DUO_STUDIO_PREWARM": str(int(self.prewarm)),
            "DUO_STUDIO_PROCESSES": str(self.processes),
            "DUO_STUDIO_PUBLIC_DEMO": str(int(self.public_demo)),
            "DUO_STUDIO_THREADS": str(self.threads),
            "DUO_STUDIO_TOYBOX": str(self.toybox),
            "DUO_STUDIO_TRACKERS": ",".join(self.trackers),
            "DUO_STUDIO_USERS": str(self.users_file or ""),
            "DUO_STUDIO_CARE": write_care(self.care),
        }

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the variables that the README lists. An empty one counts as not set."""
        environ = os.environ if environ is None else environ
        space = environ.get("SPACE_ID") or ""
        data = environ.get("DUO_STUDIO_DATA") or _data_folder(space)
        device = environ.get("DUO_STUDIO_DEVICE") or "auto"
        if device not in ("auto", "cpu", "cuda", "mps"):
            raise SettingsError(f"DUO_STUDIO_DEVICE is {device!r}; use auto, cpu, cuda or mps.")
        dtype = environ.get("DUO_STUDIO_DTYPE") or "auto"
        if dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise SettingsError(f"DUO_STUDIO_DTYPE is {dtype!r}; use auto, float32, bfloat16 or float16.")
        return cls(
            data=Path(data).expanduser().resolve(),
            host=environ.get("GRADIO_SERVER_NAME") or "127.0.0.1",
            port=_integer(environ, "GRADIO_SERVER_PORT", 7860, 1, 65535),
            device=device,
            dtype=dtype,
            fork=bool(_integer(environ, "DUO_STUDIO_FORK", 1, 0, 1)),
            memory=_gigabytes(environ, "DUO_STUDIO_MEMORY"),
            prewarm=bool(_integer(environ, "DUO_STUDIO_PREWARM", 1, 0, 1)),
            processes=_integer(environ, "DUO_STUDIO_PROCESSES", 1, 1, 1024),
            public_demo=bool(_integer(environ, "DUO_STUDIO_PUBLIC_DEMO", int(bool(space)), 0, 1)),
            threads=_integer(environ, "DUO_STUDIO_THREADS", 0, 0, 1024),
            toybox=Path(environ.get("DUO_STUDIO_TOYBOX") or cls.toybox).expanduser().resolve(),
            trackers=_trackers(environ.get("DUO_STUDIO_TRACKERS") or ""),
            care=_care(environ.get("DUO_STUDIO_CARE") or ""),
            limits=_limits(environ.get("DUO_STUDIO_LIMITS") or ""),
            open_to=_one_of(environ, "DUO_STUDIO_OPEN", "", ("viewer", "reviewer", "owner")),
            hosts=_names(environ.get("DUO_STUDIO_HOSTS") or ""),
            users_file=_path(environ.get("DUO_STUDIO_USERS")),
            oauth=_oauth(environ),
            space=space,
            space_owner=environ.get("SPACE_AUTHOR_NAME") or space.partition("/")[0],
            json_logs=_one_of(environ, "DUO_STUDIO_LOG", "text", ("text", "json")) == "json",
            metrics=bool(_integer(environ, "DUO_STUDIO_METRICS", 0, 0, 1)),
            launcher=_one_of(environ, "DUO_STUDIO_LAUNCHER", "local", ("local", "hf_jobs")),
            hf_jobs=_hf_jobs(environ.get("DUO_STUDIO_HF_JOBS") or ""),
            accelerate_config=_path(environ.get("DUO_STUDIO_ACCELERATE")),
        )


def _data_folder(space: str) -> str:
    """A Space's own disk is lost at each restart; its persistent storage is not."""
    if space and SPACE_DISK.is_dir() and os.access(SPACE_DISK, os.W_OK):
        return str(SPACE_DISK / "duo-studio")
    return platformdirs.user_data_dir("duo-studio", appauthor=False)


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser().resolve() if text else None


def _one_of(environ: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = environ.get(name) or default
    if value != default and value not in allowed:
        raise SettingsError(f"{name} is {value!r}; use {', '.join(allowed)}.")
    return value


def _oauth(environ: Mapping[str, str]) -> OAuth | None:
    client_id, secret = environ.get("OAUTH_CLIENT_ID"), environ.get("OAUTH_CLIENT_SECRET")
    if not client_id or not secret:
        return None
    provider = environ.get("OPENID_PROVIDER_URL") or OAuth.provider
    local = provider.startswith(("http://127.0.0.1:", "http://localhost:"))
    if not provider.startswith("https://") and not local:
        raise SettingsError(f"OPENID_PROVIDER_URL is {provider!r}; it must begin with https://.")
    return OAuth(client_id, secret, provider.rstrip("/"))


def _limits(text: str) -> Limits:
    try:
        return read_limits(text)
    except LimitsError as error:
        raise SettingsError(f"DUO_STUDIO_LIMITS: {error}") from error


def _hf_jobs(text: str) -> HfJobsOptions:
    try:
        return read_options(text)
    except OptionsError as error:
        raise SettingsError(f"DUO_STUDIO_HF_JOBS: {error}") from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))


def _trackers(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if unknown := [name for name in names if name not in TRACKERS]:
        raise SettingsError(f"DUO_STUDIO_TRACKERS has {unknown[0]!r}; use any of {', '.join(TRACKERS)}, with commas.")
    return names


def _care(text: str) -> Care:
    try:
        return read_care(text)
    except CareError as error:
        raise SettingsError(f"DUO_STUDIO_CARE: {error}") from error


def _gigabytes(environ: Mapping[str, str], name: str) -> float:
    text = environ.get(name) or "0"
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}; it must be a number of gigabytes, such as 11.5, or 0.") from None
    if not 0 <= value < 1e6:
        raise SettingsError(f"{name} is {text}; it must be a number of gigabytes from 0, which is what is free.")
    return value


def _integer(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name) or str(default)
    try:
        value = int(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}; it must be a whole number from {low} to {high}.") from None
    if not low <= value <= high:
        raise SettingsError(f"{name} is {value}; it must lie between {low} and {high}.")
    return value
