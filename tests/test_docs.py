"""The README and the furniture around the code say what is true: checked against the files and registries they name."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from studio.attacks import ATTACKS
from studio.methods import METHODS
from studio.metrics import DETECTORS, DISTANCES, MEASURES
from studio.settings import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
# Import name to package name, where they differ.
PACKAGES = {"PIL": "pillow", "sqlite_utils": "sqlite-utils", "torch_fidelity": "torch-fidelity",
            "argon2": "argon2-cffi", "prometheus_client": "prometheus-client", "yaml": "pyyaml"}  # fmt: skip


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table_rows(text: str) -> list[list[str]]:
    """The cells of every table row that starts with code: | `name` | … |."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]


def pins(name: str) -> dict[str, str]:
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def front_matter() -> dict[str, object]:
    return yaml.safe_load(README.split("---")[1])


def test_a_space_gets_what_is_pinned() -> None:
    space = front_matter()
    assert space["sdk"] == "gradio"
    assert space["sdk_version"] == pins("requirements.txt")["gradio"]
    assert space["python_version"] == "3.12"
    assert (REPOSITORY / str(space["app_file"])).is_file()
    assert len(str(space["short_description"])) <= 60
    assert space["license"] == "apache-2.0"
    assert "Apache License" in (REPOSITORY / "LICENSE").read_text(encoding="utf-8")


def test_the_layout_names_what_exists() -> None:
    lines = section("Layout").split("```")[1].strip().splitlines()
    paths = [line.split()[0] for line in lines]
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    folders = {path.parent.name for path in (REPOSITORY / "studio").glob("*/__init__.py")}
    assert {f"studio/{folder}/" for folder in folders} <= set(paths), "a package of the studio is not in the layout"


def test_every_make_target_is_described() -> None:
    described = {row[0].strip("`").removeprefix("make ") for row in table_rows(section("Two commands"))}
    phony = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())  # type: ignore[index]
    assert described == phony - {"help"}
    assert phony == {line.split(":")[0] for line in MAKEFILE.splitlines() if re.match(r"[a-z]+:.*##", line)}


def test_every_environment_variable_is_described() -> None:
    read = set(re.findall(r'"((?:DUO_STUDIO|GRADIO_SERVER)_\w+)"', (REPOSITORY / "studio/settings.py").read_text()))
    assert {row[0].strip("`") for row in table_rows(section("Settings"))} == read


def test_the_tables_are_the_registries() -> None:
    rows = table_rows(section("Methods and metrics"))
    methods, metrics = [row for row in rows if len(row) == 4], [row for row in rows if len(row) == 2]
    short = {"sd1": "1", "sd2": "2", "sdxl": "XL", "sd3": "3"}
    families = [", ".join(short[one] for one in m.families) if "flux" not in m.families else "all" for m in METHODS]
    assert methods == [
        [f"`{method.name}`", method.title, method.paper, family]
        for method, family in zip(METHODS, families, strict=True)
    ]
    kinds = {
        **dict.fromkeys(DETECTORS, "detector"),
        **dict.fromkeys(DISTANCES, "distance"),
        **dict.fromkeys(MEASURES, "measure"),
    }
    assert {row[0].strip("`"): row[1].split(":")[0] for row in metrics} == kinds


def test_the_table_of_attacks_is_the_registry() -> None:
    rows = table_rows(section("Attacks"))
    assert rows == [[f"`{one.name}`", one.title, one.access, one.paper] for one in ATTACKS]


def test_every_verb_is_named() -> None:
    from studio.cli import app

    verbs = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    verbs |= {group.name for group in app.registered_groups if group.name}
    assert all(f"`{verb}`" in README for verb in verbs)


@pytest.mark.parametrize("page", ["README.md", "models/toybox/README.md", "models/configs/README.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if not target.startswith("http")]
    assert [target for target in targets if not (REPOSITORY / page).parent.joinpath(target).exists()] == []


def test_what_is_imported_is_pinned() -> None:
    wanted = set(pins("requirements.txt"))
    missing = {name for path in sources() for name in third_party(path)} - wanted
    assert missing == set(), "imported, but not in requirements.txt"


def test_docker_installs_the_same() -> None:
    docker = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    assert "requirements.txt" in docker
    assert "--uid 1000" in docker
    assert "EXPOSE 7860" in docker
    assert f"FROM python:{front_matter()['python_version']}-slim" in docker
    assert docker.index("USER studio") > docker.index("RUN pip"), "the user's own code installs nothing"
    assert "/healthz" in docker
    assert "XDG_DATA_HOME=/home/studio/data" in docker
    assert "DUO_STUDIO_DATA=" not in docker, "it would hide a Space's persistent disk"
    compose = yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["user"] == "1000:1000"
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), "it is open to whoever reaches it"
        assert service["environment"]["DUO_STUDIO_OPEN"] == "owner"
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".git", "data", "tests", "**/.env"} <= set(ignored)


def sources() -> Iterator[Path]:
    yield REPOSITORY / "app.py"
    for package in ("studio", "models"):
        yield from (REPOSITORY / package).rglob("*.py")


def third_party(path: Path) -> Iterator[str]:
    """Names of the packages that a file imports, as pip knows them. ZeroGPU brings its package `spaces` itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        for name in (
            {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"studio", "models", "app", "spaces"}
        ):
            yield PACKAGES.get(name, name)
