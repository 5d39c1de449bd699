"""The import table of the project, read from the source: who may import whom, and which half stays free of torch.

The page (what a visitor's request runs in) must open in seconds, so neither it nor anything it imports loads torch.
The worker half meets it only in records, configs, the store and the jobs.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.settings import REPOSITORY, Settings

PAGE = (
    "app",
    "studio.ui",
    "studio.cli",
    "studio.__main__",
    "studio.jobs",
    "studio.store",
    "studio.reports",
    "studio.records",
    "studio.attack_configs",
    "studio.attack_costs",
    "studio.backbones",
    "studio.detector_configs",
    "studio.stress_configs",
    "studio.stress_costs",
    "studio.refusal",
    "studio.csv_files",
    "studio.zip_files",
    "studio.exchange",
    "studio.prompt_sources",
    "studio.protocols",
    "studio.evaluation_checks",
    "studio.configs",
    "studio.method_configs",
    "studio.training_configs",
    "studio.settings",
    "studio.processes",
    "studio.forks",
    "studio.prompts",
    "studio.presets",
    "studio.groups",
    "studio.devices",
    "studio.shapes",
    "studio.estimates",
    "studio.method_times",
    "studio.room",
    "studio.demo",
    "studio.archive",
    "studio.sample",
    "studio.images",
    "studio.progress",
    "studio.agreement",
    "studio.care",
    "studio.duplicates",
    "studio.cleaning",
    "studio.purging",
    "studio.stopping",
    "studio.projects",
    "studio.prompt_checks",
    "studio.prompt_files",
    "studio.prompt_presets",
    "studio.prompt_templates",
    "studio.inference.client",
    "studio.inference.zero",
    "studio.hosting",
    "studio.upkeep",
    "studio.backups",
    "studio.salvage",
    "studio.damaged",
    "studio.spaces",
    "studio.launchers",
    "studio.launch_options",
    "studio.durations",
    "studio.named_values",
    "studio.job_reports",
    "studio.job_requests",
)
HEAVY = {"torch", "diffusers", "transformers", "peft", "accelerate", "lpips", "nudenet", "onnxruntime", "cv2"}
WORKER = ("studio.workflow", "studio.methods", "studio.attacks", "studio.metrics", "studio.objectives")

# Package to what it may import of this project, at any depth of its code. What is not listed here is free.
SHARED = ("studio.records", "studio.attack_configs", "studio.stress_configs", "studio.care", "studio.config_base",
          "studio.configs", "studio.method_configs", "studio.training_configs",
          "studio.detector_configs", "studio.settings", "studio.hosting.limits", "studio.launch_options",
          "studio.progress", "studio.images", "studio.prompts", "studio.refusal", "studio.prompt_sources",
          "studio.csv_files")  # fmt: skip
TORCH_FREE_MODELS = (
    "models.specs",
    "models.export_files",
    "models.stored",
    "models.toybox.captions",
    "models.toybox.scenes",
)
ALLOWED: dict[str, tuple[str, ...]] = {
    "models": ("models",),
    "studio.objectives": ("studio.objectives",),
    "studio.methods": ("studio.methods", "studio.objectives", "models", "studio.method_configs", "studio.progress",
                       "studio.training_configs"),
    "studio.metrics": ("studio.metrics", "models", "studio.backbones", "studio.configs", "studio.detector_configs"),
    "studio.backbones": ("models.files",),
    "studio.detector_configs": ("studio.config_base",),
    "studio.attacks": ("studio.attacks", "studio.objectives", "studio.metrics.base", "models", "studio.attack_configs",
                       "studio.config_base", "studio.configs", "studio.progress"),
    "studio.attack_configs": ("studio.config_base", "studio.configs"),
    "studio.stress_configs": ("studio.config_base", "studio.configs"),
    "studio.stress_costs": ("studio.attack_configs", "studio.attack_costs", "studio.stress_configs"),
    "studio.trial_rows": ("studio.database", "studio.records"),
    "studio.attack_costs": ("studio.attack_configs", "studio.records"),
    "studio.refusal": (),
    "studio.csv_files": (),
    "studio.groups": (),
    "studio.devices": ("studio.settings",),
    "studio.shapes": ("models.specs", "models.stored"),
    "studio.estimates": ("studio.shapes", "studio.training_configs"),
    "studio.method_times": ("studio.estimates", "studio.method_configs", "studio.shapes", "studio.training_configs"),
    "studio.room": ("studio.devices", "studio.durations", "studio.estimates", "studio.groups", "studio.method_times",
                    "studio.shapes",
                    "studio.store", *SHARED),
    "studio.prompt_sources": ("studio.csv_files",),
    "studio.protocols": ("models.specs", *SHARED),
    "studio.evaluation_checks": ("models.specs", "studio.backbones", "studio.protocols", "studio.store", *SHARED),
    "studio.records": (),
    "studio.config_base": (),
    "studio.training_configs": ("studio.config_base",),
    "studio.method_configs": ("studio.config_base", "studio.training_configs"),
    "studio.configs": ("studio.config_base", "studio.method_configs"),
    "studio.durations": (),
    "studio.named_values": (),
    "studio.care": ("studio.named_values",),
    "studio.launch_options": ("studio.named_values",),
    "studio.settings": ("studio.care", "studio.hosting.limits", "studio.launch_options"),
    "studio.hosting": ("studio.hosting", "studio.named_values", "studio.settings", "models.files"),
    "studio.progress": (),
    "studio.prompts": TORCH_FREE_MODELS,
    "studio.everyday": (),
    "studio.projects": ("models.specs", "studio.configs", "studio.detector_configs", "studio.records"),
    "studio.prompt_checks": ("studio.prompts", "studio.records", "studio.refusal"),
    "studio.prompt_files": ("studio.csv_files", "studio.prompt_checks", "studio.prompt_sources", "studio.records"),
    "studio.prompt_templates": ("studio.prompt_checks",),
    "studio.prompt_presets": ("models.specs", "studio.prompt_checks", "studio.prompt_templates", "studio.prompts"),
    "studio.prompt_rows": ("studio.database", "studio.records"),
    "studio.picture_rows": ("studio.database", "studio.records"),
    "studio.images": ("models.files", "studio.settings"),
    "studio.database": ("studio.records",),
    "studio.migrations": (),
    "studio.project_rows": ("studio.database",),
    "studio.sqlite_pages": (),
    "studio.damaged": ("studio.database", "studio.sqlite_pages"),
    "studio.salvage": ("studio.damaged", "studio.sqlite_pages"),
    "studio.attack_rows": ("studio.database", "studio.records"),
    "studio.attempt_rows": ("studio.database", "studio.records"),
    "studio.pair_lists": ("studio.stop_rows", "studio.records"),
    "studio.stop_rows": ("studio.database", "studio.records"),
    "studio.verdict_rows": ("studio.database", "studio.stop_rows", "studio.records"),
    "studio.review_rows": ("studio.database", "studio.verdict_rows", "studio.records"),
    "studio.care_rows": ("studio.care", "studio.database", "studio.records"),
    "studio.quality_rows": ("studio.database", "studio.records"),
    "studio.agreement": (),
    "studio.duplicates": (),
    "studio.edit_rows": ("studio.database", "studio.verdict_rows", "studio.records"),
    "studio.bulk_rows": ("studio.database", "studio.pair_lists", "studio.verdict_rows", "studio.records"),
    "studio.making_rows": ("studio.verdict_rows", "studio.records"),
    "studio.training_rows": ("studio.database", "studio.records"),
    "studio.bring_rows": ("studio.verdict_rows", "studio.records"),
    "studio.purge_rows": ("studio.edit_rows", "studio.records"),
    "studio.store": ("studio.attack_rows", "studio.attempt_rows", "studio.bring_rows", "studio.bulk_rows",
                     "studio.care_rows", "studio.database", "studio.making_rows", "studio.migrations",
                     "studio.picture_rows", "studio.project_rows", "studio.prompt_rows", "studio.purge_rows",
                     "studio.quality_rows", "studio.review_rows", "studio.stop_rows", "studio.training_rows",
                     "studio.trial_rows",
                     "studio.verdict_rows", "studio.records"),
    "studio.zip_files": (),
    "studio.exchange": ("studio.exchange", "studio.zip_files", "studio.store", "models.files", *SHARED),
    "studio.archive": ("studio.zip_files", "studio.store", "studio.reports", "models.files", "models.specs", *SHARED),
    "studio.stopping": ("studio.jobs", "studio.store", *SHARED),
    "studio.purging": ("models.files", "studio.exchange", "studio.store", *SHARED),
    "studio.cleaning": ("models.files", "studio.jobs", "studio.store", *SHARED),
    "studio.sample": ("studio.archive", "studio.store", "studio.demo", *SHARED),
    "studio.forks": ("studio.processes",),
    "studio.fork_server": ("studio.forks", "studio.processes"),
    "studio.processes": ("studio.forks", "studio.settings"),
    "studio.job_requests": ("studio.evaluation_checks", "studio.groups", "studio.hosting.roles", "studio.launchers",
                            "studio.protocols", "studio.store", *SHARED),
    "studio.jobs": ("studio.forks", "studio.job_requests", "studio.launchers", "studio.processes", "studio.store",
                    *SHARED),
    "studio.job_reports": ("studio.progress", "studio.store"),
    "studio.launchers": ("studio.groups", "studio.launchers", "studio.processes", "studio.exchange.hub",
                         "studio.jobs", "studio.spaces", "studio.store", "studio.zip_files", "models.files",
                         "models.specs", *SHARED),
    "studio.launchers.base": ("studio.launch_options", "studio.records", "studio.settings"),
    "studio.launchers.accelerate": ("studio.groups", "studio.launchers.base", "studio.launchers.local",
                                    "studio.records", "studio.settings"),
    "studio.reports": ("studio.reports", "studio.durations", "models.files", *SHARED),
    "studio.inference.line": ("studio.durations", "studio.hosting.roles"),
    "studio.inference.zero": ("studio.inference", "studio.settings"),
    "studio.inference.client": ("studio.inference.line", "studio.inference.messages", "studio.processes",
                                "studio.settings"),
    "studio.ui": ("studio.ui", "studio.durations", "studio.jobs", "studio.store", "studio.reports", "studio.demo",
                  "studio.sample",
                  "studio.agreement", "studio.hosting", "studio.launchers", "studio.attack_costs",
                  "studio.stress_costs", "studio.backbones", "studio.devices", "studio.duplicates", "studio.estimates",
                  "studio.evaluation_checks", "studio.exchange",
                  "studio.groups", "studio.method_times", "studio.purging", "studio.presets", "studio.projects",
                  "studio.prompt_checks",
                  "studio.prompt_files", "studio.prompt_presets", "studio.prompt_templates", "studio.protocols",
                  "studio.room",
                  "studio.stopping", "studio.inference.client", "studio.inference.messages",
                  *SHARED, *TORCH_FREE_MODELS),
    "studio.spaces": ("studio.store", *SHARED),
    "studio.backups": ("studio.jobs", "studio.salvage", "studio.store", *SHARED),
    "studio.upkeep": ("studio.backups", "studio.cleaning", "studio.hosting", "studio.purging", "studio.store", *SHARED),
    "app": ("studio.hosting", "studio.sample", "studio.upkeep", "studio.ui", "studio.jobs", "studio.store",
            "studio.inference.zero", *SHARED),
}  # fmt: skip


def source_files() -> Iterator[Path]:
    yield from REPOSITORY.glob("app.py")
    for package in ("studio", "models"):
        yield from sorted((REPOSITORY / package).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for path in source_files()}


@functools.cache
def imports(module: str, *, at_import: bool) -> frozenset[str]:
    """What a module imports, as dotted names; with `at_import`, only what importing it runs."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    found: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = absolute(module, node)
            # A name of a package may be its module or its attribute; a name of a module is an attribute.
            found |= {f"{source}.{a.name}" if f"{source}.{a.name}" in FILES else source for a in node.names}
        elif at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)
    return frozenset(found)


def absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.split(".") if FILES[module].name == "__init__.py" else module.split(".")[:-1]
    parts = package[: len(package) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def within(name: str, prefixes: tuple[str, ...] | set[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def closure(module: str) -> dict[str, str]:
    """Everything that importing the module loads, each with the module that imports it first."""
    loaded_by: dict[str, str] = {}
    pending = [(module, "")]
    while pending:
        name, by = pending.pop()
        if name in loaded_by:
            continue
        loaded_by[name] = by
        parts = name.split(".")
        pending += [(".".join(parts[:n]), name) for n in range(1, len(parts))]  # a package's __init__ runs first
        if name in FILES:
            pending += [(imported, name) for imported in imports(name, at_import=True)]
    return loaded_by


def importers(*roots: str) -> set[str]:
    return {module for module in FILES for name in imports(module, at_import=False) if within(name, roots)}


PAGE_MODULES = sorted(module for module in FILES if within(module, PAGE))


def test_the_table_finds_its_modules() -> None:
    assert {"studio.store", "studio.jobs", "studio.inference.client", "models.bundle"} <= FILES.keys()
    assert imports("studio.store", at_import=True) >= {"time", "studio.records", "studio.database"}
    assert "torch" in closure("studio.methods.base")
    assert within("studio.ui.build", PAGE)
    assert not within("studio.uix", PAGE)


@pytest.mark.parametrize("module", PAGE_MODULES)
def test_the_page_loads_neither_torch_nor_the_worker_half(module: str) -> None:
    loaded_by = closure(module)
    wrong = [name for name in loaded_by if within(name, HEAVY) or within(name, WORKER)]
    assert not wrong, (
        f"{module} loads {wrong[0]} through {loaded_by[wrong[0]]}; import it inside the function that needs it"
    )


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_go_one_way(module: str) -> None:
    for package, allowed in ALLOWED.items():
        if within(module, (package,)):
            ours = {name for name in imports(module, at_import=False) if within(name, ("app", "studio", "models"))}
            wrong = sorted(name for name in ours - {"studio"} if not within(name, allowed))
            assert not wrong, (
                f"{module} may not import {wrong[0]}; {package} may import {', '.join(allowed) or 'nothing'}"
            )


def test_only_models_imports_diffusers_and_peft() -> None:
    outside = {module for module in importers("diffusers", "peft") if not within(module, ("models",))}
    assert outside == set()


def test_only_the_store_imports_sqlite() -> None:
    assert importers("sqlite3", "sqlite_utils") == {
        "studio.database",
        "studio.migrations",
        "studio.project_rows",
        "studio.salvage",
        "studio.damaged",
    }
    others = importers("studio.database", "studio.migrations") - {"studio.store", "studio.damaged"}
    assert {name for name in others if not name.endswith("_rows")} == set()  # parts of the store


def test_objectives_import_torch_alone() -> None:
    for module in FILES:
        if within(module, ("studio.objectives",)):
            foreign = {name.split(".")[0] for name in imports(module, at_import=False)} - sys.stdlib_module_names
            assert foreign <= {"torch", "studio"}, f"{module} imports {foreign}"


def test_only_the_page_and_the_shell_import_the_page() -> None:
    assert all(within(module, ("app", "studio.ui", "studio.cli")) for module in importers("studio.ui"))


def test_nothing_unpickles() -> None:
    """No import of pickle, and no torch.load without weights_only."""
    assert importers("pickle", "cloudpickle", "dill", "joblib") == set()
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(node), f"{module}:{node.lineno} unpickles"


def test_importing_the_page_loads_no_torch(settings: Settings) -> None:
    """The same in a real process, which also sees what other people's packages import."""
    modules = [module for module in PAGE_MODULES if module not in ("app", "studio.__main__")]  # these two start to run
    check = f"import sys, {', '.join(modules)}; print(sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
