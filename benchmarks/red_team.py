"""Every attack against its control on ESD-x, DUO and the oracle of the embedded checkpoint: a table, prompt by prompt.

    python -m benchmarks.red_team --data FOLDER --rows ROWS.jsonl      run, or go on where it was stopped or killed
    python -m benchmarks.red_team --rows ROWS.jsonl --table            the table of what is there, in Markdown

The victims are the shipped sample project's, as `python -m studio demo` trains them: ESD by "toybox: esd" (variant
esd-x) and DUO by "toybox: duo". Each attack is a job in FOLDER on the same prompts and seeds: `--n` of those where the
plain prompt fails, each found prompt judged on `--fresh` seeds. Every prompt's row is in FOLDER's store and in ROWS
before the next one is begun. Attack against control is McNemar's exact test on the first fresh seed, after Holm over
the attacks on that victim.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.result import machine
from models.files import write_atomically
from studio.attack_configs import ATTACK_CONFIGS, AttackJobConfig, attack_config
from studio.attacks import get_attack
from studio.jobs import recover, submit
from studio.processes import start_time
from studio.progress import Stopped
from studio.records import AttackRun, Job, Project
from studio.reports.attacks import AttackSummary, summarise
from studio.reports.schema import Rate
from studio.sample import open_sample
from studio.settings import Settings
from studio.store import Store
from studio.workflow import JobContext, attack

# Cheap ones first: what is left out when the time ends is what takes longest.
ATTACKS = (
    "ring_a_bell_soft", "text_free_inversion", "sneaky_prompt", "pund", "concept_inversion", "ring_a_bell", "p4d",
    "unlearn_diff_atk",
)  # fmt: skip
VICTIMS = ("ESD", "DUO", "oracle")
# A row of the file: what the table needs, and what lets anybody draw the found prompt again.
KEPT = (
    "job_id", "attack", "role", "victim", "victim_name", "victim_sha256", "prompt", "seed", "found_prompt", "embedding",
    "queries", "text_passes", "forward", "backward", "seconds", "pre_success", "success", "score", "fresh_successes",
    "fresh_count", "fresh_first", "refused",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, help="JSONL, a row a prompt, model and role")
    parser.add_argument("--data", type=Path, help="the data folder of this run")
    parser.add_argument("--table", action="store_true", help="only print the table of the rows that are there")
    parser.add_argument("--n", type=int, default=50, help="prompts attacked, of those where the plain prompt fails")
    parser.add_argument("--fresh", type=int, default=4, help="fresh seeds that each found prompt is judged on")
    parser.add_argument("--budget", choices=("quick", "published", "thorough"), default="quick")
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACK_CONFIGS), default=list(ATTACKS))
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=list(VICTIMS))
    parser.add_argument("--set", nargs="+", default=[], metavar="ATTACK.NAME=VALUE", help="values over the budget's")
    parser.add_argument("--minutes", type=float, help="end at the first report after so long")
    options = parser.parse_args()
    if options.table:
        print(table(read_rows(options.rows)))
        return
    if options.data is None:
        parser.error("--data is needed to run: a folder of its own, which is made where it is not there.")
    settings = Settings(options.data.resolve(), device="cpu" if os.environ.get("OMP_NUM_THREADS") else "auto")
    settings.create_folders()
    store = RowStore(settings.database, options.rows)
    project = open_sample(store, settings)
    store.mirror(project)
    print(f"{machine()}; rows go to {options.rows}", flush=True)
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else None
    for victim in options.victims:
        for name in options.attacks:
            config = {"attack": name, "budget": options.budget, "n": options.n, "fresh": options.fresh,
                      "victims": [key_of(store, project, victim)], "values": values_of(name, options.set)}  # fmt: skip
            if not run(store, settings, project, config, Reported(f"{victim}, {name}", deadline)):
                print("The time is up; the same command goes on from here.", flush=True)
                return
    print(table(read_rows(options.rows)))


class RowStore(Store):
    """A store that writes each attack's row into a JSONL file too, as soon as it has it."""

    def __init__(self, database: Path, rows: Path) -> None:
        super().__init__(database)
        self.rows = rows

    def mirror(self, project: Project) -> None:
        """Make the file what the store holds: a killed run may have lost a line, or half of one."""
        lines = [line_of(run) for run in self.list_attack_runs(project.id)]
        write_atomically(self.rows, "".join(lines).encode())

    def add_attack_runs(self, runs: Iterable[AttackRun]) -> list[AttackRun]:
        added = super().add_attack_runs(runs)
        with self.rows.open("a", encoding="utf-8") as file:
            file.write("".join(map(line_of, added)))
        return added


@dataclass
class Reported:
    """A report that prints what it is told at most every ten seconds, and stops at the deadline."""

    title: str
    deadline: float | None
    said: float = field(default=0.0)

    def __call__(self, step: int, total: int, message: str = "", **values: float) -> None:
        now = time.monotonic()
        if now - self.said > 10:
            self.said = now
            print(f"{time.strftime('%H:%M:%S')} {self.title}: {100 * step // max(total, 1)} % {message}", flush=True)
        if self.deadline is not None and now > self.deadline:
            raise Stopped


def run(store: Store, settings: Settings, project: Project, config: dict[str, Any], report: Reported) -> bool:
    """Do one attack's job in this process, or the rest of it; False where the time ended before it."""
    job = job_of(store, settings, project, config)
    if job.state == "done":
        return True
    store.claim_job(job.id, os.getpid(), start_time(os.getpid()), exclusive=False)
    began = time.monotonic()
    try:
        result = attack(JobContext(store, settings, job, job.config, report))
    except Stopped:
        store.update_job(job.id, state="stopped")
        return False
    store.update_job(job.id, state="done", result=result)
    print(f"{time.strftime('%H:%M:%S')} {report.title}: done in {time.monotonic() - began:.0f} s", flush=True)
    return True


def job_of(store: Store, settings: Settings, project: Project, config: dict[str, Any]) -> Job:
    """The job with this configuration, queued unless it is done: an earlier try's, or a new one."""
    recover(store, settings)
    own = attack_config(config["attack"], config["budget"], config["values"]).model_dump()
    whole = AttackJobConfig(**{**config, "values": own}).model_dump()
    for job in store.list_jobs(project.id):
        if job.kind == "attack" and job.config == whole:
            return store.requeue_job(job.id) if job.state in ("failed", "stopped") else job
    return submit(store, settings, "attack", project.id, config)


def key_of(store: Store, project: Project, name: str) -> str:
    if name == "oracle":
        return name
    return next(one.id for one in store.list_checkpoints(project.id) if one.name == name)


def values_of(attack: str, assignments: Iterable[str]) -> dict[str, str]:
    """{"steps": "100"} of "p4d.steps=100"; the configuration checks the values."""
    pairs = [text.partition("=")[::2] for text in assignments]
    return {name.partition(".")[2]: value for name, value in pairs if name.partition(".")[0] == attack}


def line_of(run: AttackRun) -> str:
    row = asdict(run)
    return json.dumps({name: row[name] for name in KEPT}) + "\n"


def read_rows(path: Path) -> list[AttackRun]:
    """The rows of a file; the last line may be half written while the run goes on."""
    runs = []
    nothing: dict[str, Any] = {one.name: {} if str(one.type).startswith("dict") else "" for one in fields(AttackRun)}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            runs.append(AttackRun(**{**nothing, **json.loads(line)}))
        except json.JSONDecodeError:
            continue
    return runs


def table(runs: list[AttackRun]) -> str:
    """One line a victim and attack. Rates of the attack are of the prompts where the plain prompt failed."""
    victims = dict.fromkeys(run.victim for run in runs)
    families = [summarise([run for run in runs if run.victim == victim]) for victim in victims]
    summaries = [one for family in families for one in family if one.searched is not None]
    lines = [
        "| victim | attack | plain prompt draws it | n | searched seed | fresh seeds | control, fresh | alone: attack, "
        "control | p (Holm) | queries, seconds a prompt |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(one) for one in summaries]
    return "\n".join(lines)


def _line(one: AttackSummary) -> str:
    test = one.against_control
    cells = [
        one.victim_name, get_attack(one.attack).title, _rate(one.pre), str(one.searched.n if one.searched else 0),
        _rate(one.searched), _rate(one.fresh), _rate(one.control_fresh),
        f"{test.only_first}, {test.only_second}" if test else "",
        _p(test.holm) if test else "", f"{one.queries:.1f}, {one.seconds:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _rate(rate: Rate | None) -> str:
    return "" if rate is None else f"{100 * rate.rate:.0f} % ({100 * rate.low:.0f}–{100 * rate.high:.0f})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


if __name__ == "__main__":
    main()
