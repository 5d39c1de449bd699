"""The database's tables, one migration after the other. A migration that has shipped is never edited: add a new one."""

from __future__ import annotations

from pathlib import Path

from sqlite_utils import Database, Migrations

migrations = Migrations("studio")

FIRST_TABLES = """
CREATE TABLE projects (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, concept TEXT NOT NULL, checkpoint TEXT NOT NULL, detector TEXT NOT NULL,
    detector_settings TEXT NOT NULL, created REAL NOT NULL
) STRICT;
CREATE TABLE prompt_pairs (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), unsafe TEXT NOT NULL, safe TEXT NOT NULL,
    count INTEGER NOT NULL CHECK (count >= 0), seed INTEGER NOT NULL
) STRICT;
CREATE INDEX prompt_pairs_project ON prompt_pairs(project_id);
CREATE TABLE image_pairs (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id),
    prompt_pair_id TEXT NOT NULL REFERENCES prompt_pairs(id), "index" INTEGER NOT NULL, seed INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ready', 'failed')), unsafe_image TEXT NOT NULL, safe_image TEXT NOT NULL,
    strength REAL NOT NULL, tries INTEGER NOT NULL, unsafe_score REAL NOT NULL, safe_score REAL NOT NULL,
    distance REAL, reason TEXT NOT NULL, created REAL NOT NULL,
    UNIQUE (prompt_pair_id, "index")
) STRICT;
CREATE INDEX image_pairs_project ON image_pairs(project_id, state);
CREATE TABLE verdicts (
    id TEXT PRIMARY KEY, pair_id TEXT NOT NULL REFERENCES image_pairs(id), reviewer TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('accept', 'reject', 'skip', 'undo')), reason TEXT NOT NULL,
    revealed INTEGER NOT NULL, milliseconds INTEGER NOT NULL, created REAL NOT NULL,
    supersedes TEXT REFERENCES verdicts(id)
) STRICT;
CREATE INDEX verdicts_pair ON verdicts(pair_id);
CREATE TRIGGER verdicts_are_append_only BEFORE UPDATE ON verdicts
BEGIN SELECT RAISE(ABORT, 'verdicts are append-only: add an undo row instead'); END;
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), kind TEXT NOT NULL, config TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'stopping', 'stopped', 'done', 'failed')),
    step INTEGER NOT NULL, total INTEGER NOT NULL, eta_seconds REAL, pid INTEGER, pid_started REAL, heartbeat REAL,
    message TEXT NOT NULL, error TEXT NOT NULL, result TEXT NOT NULL, created REAL NOT NULL, started REAL,
    stop_asked REAL, finished REAL
) STRICT;
CREATE INDEX jobs_state ON jobs(state);
CREATE TABLE job_metrics (
    job_id TEXT NOT NULL REFERENCES jobs(id), step INTEGER NOT NULL, name TEXT NOT NULL, value REAL,
    PRIMARY KEY (job_id, step, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), job_id TEXT NOT NULL REFERENCES jobs(id),
    method TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('lora', 'weights')), config TEXT NOT NULL, train_seconds REAL NOT NULL,
    created REAL NOT NULL
) STRICT;
CREATE INDEX checkpoints_project ON checkpoints(project_id);
CREATE TABLE evaluations (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), job_id TEXT NOT NULL REFERENCES jobs(id),
    folder TEXT NOT NULL, report TEXT NOT NULL, created REAL NOT NULL
) STRICT;
CREATE INDEX evaluations_project ON evaluations(project_id);
"""


@migrations()
def first_tables(db: Database) -> None:
    """Projects, prompt pairs, image pairs, verdicts, jobs with their metrics, checkpoints, evaluations."""
    db.executescript(FIRST_TABLES)


@migrations()
def blurred_projects(db: Database) -> None:
    """Whether a project's flagged pictures are blurred; those that look for nudity begin so."""
    db.execute("ALTER TABLE projects ADD COLUMN blur INTEGER NOT NULL DEFAULT 0 CHECK (blur IN (0, 1))")
    db.execute("UPDATE projects SET blur = 1 WHERE detector = 'nudenet'")


SHELVES_AND_ATTEMPTS = """
CREATE TABLE prompt_shelves (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), name TEXT NOT NULL CHECK (name != ''),
    prompts TEXT NOT NULL CHECK (prompts != ''), seed INTEGER NOT NULL, count INTEGER NOT NULL CHECK (count > 0),
    created REAL NOT NULL, UNIQUE (project_id, name)
) STRICT;
CREATE TABLE attempts (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), prompt TEXT NOT NULL, seed INTEGER NOT NULL,
    model TEXT NOT NULL, checkpoint TEXT NOT NULL, adapter_sha256 TEXT NOT NULL,
    found INTEGER NOT NULL CHECK (found IN (0, 1)), score REAL NOT NULL, image TEXT NOT NULL, steps INTEGER NOT NULL,
    guidance_scale REAL NOT NULL, created REAL NOT NULL,
    UNIQUE (project_id, prompt, seed, checkpoint, adapter_sha256)
) STRICT;
"""


@migrations()
def shelves_and_attempts(db: Database) -> None:
    """Prompts put aside under a name, and attempts to make a model draw the concept."""
    db.executescript(SHELVES_AND_ATTEMPTS)


SAMPLES = """
CREATE TABLE samples (
    id TEXT PRIMARY KEY, job_id TEXT NOT NULL REFERENCES jobs(id), stage TEXT NOT NULL,
    step INTEGER NOT NULL CHECK (step >= 0), position INTEGER NOT NULL, prompt TEXT NOT NULL, seed INTEGER NOT NULL,
    unwanted INTEGER NOT NULL CHECK (unwanted IN (0, 1)), image TEXT NOT NULL, found INTEGER CHECK (found IN (0, 1)),
    score REAL, seen TEXT NOT NULL,
    UNIQUE (job_id, stage, step, position)
) STRICT;
"""


@migrations()
def samples(db: Database) -> None:
    """Pictures drawn in the middle of a training."""
    db.executescript(SAMPLES)


# Of one reviewer the latest verdict that was not undone counts; between reviewers a person outranks the detector, a
# decision a skip, and among equals the latest counts.
DECIDE = """
UPDATE image_pairs SET decision_id = (
    SELECT one.id FROM standing_verdicts AS one
    WHERE one.pair_id = image_pairs.id AND NOT EXISTS (
        SELECT 1 FROM standing_verdicts AS later
        WHERE later.pair_id = one.pair_id AND later.reviewer = one.reviewer AND later.row > one.row)
    ORDER BY one.verdict != 'skip' DESC, one.reviewer != 'detector' DESC, one.row DESC LIMIT 1
) WHERE {which};
UPDATE image_pairs SET
    decision = coalesce((SELECT verdict FROM verdicts WHERE id = decision_id), ''),
    by_detector = coalesce((SELECT reviewer = 'detector' FROM verdicts WHERE id = decision_id), 0)
WHERE {which};
"""
DECISIONS = f"""
ALTER TABLE image_pairs ADD COLUMN decision TEXT NOT NULL DEFAULT ''
    CHECK (decision IN ('', 'accept', 'reject', 'skip'));
ALTER TABLE image_pairs ADD COLUMN decision_id TEXT;
ALTER TABLE image_pairs ADD COLUMN by_detector INTEGER NOT NULL DEFAULT 0 CHECK (by_detector IN (0, 1));
CREATE INDEX verdicts_supersedes ON verdicts(supersedes);
CREATE VIEW standing_verdicts AS
    SELECT rowid AS row, id, pair_id, reviewer, verdict FROM verdicts
    WHERE verdict != 'undo'
    AND NOT EXISTS (SELECT 1 FROM verdicts AS undo WHERE undo.supersedes = verdicts.id AND undo.verdict = 'undo');
CREATE TRIGGER verdicts_decide AFTER INSERT ON verdicts BEGIN {DECIDE.format(which="id = NEW.pair_id")} END;
CREATE INDEX image_pairs_made ON image_pairs(project_id, state, decision, by_detector);
CREATE INDEX image_pairs_unsafe ON image_pairs(project_id, state, decision, by_detector, unsafe_score);
CREATE INDEX image_pairs_safe ON image_pairs(project_id, state, decision, by_detector, safe_score);
CREATE INDEX image_pairs_distance ON image_pairs(project_id, state, decision, by_detector, coalesce(distance, -1));
{DECIDE.format(which="id IN (SELECT pair_id FROM verdicts)")}
"""


@migrations()
def decisions(db: Database) -> None:
    """The verdict that counts, beside its pair, kept true by a trigger; and an index for each order of pairs."""
    db.executescript(DECISIONS)


@migrations()
def paths_in_the_data_folder(db: Database) -> None:
    """Adapters and evaluations are named relative to the folder of this file, which can so be moved with all in it.

    A row may still name where the folder was before an earlier move. The studio has written `<data>/checkpoints/…` and
    `<data>/evaluations/…` alone, so the end of such a path says where to look for it here.
    """
    folder = Path(next(row["file"] for row in db.query("PRAGMA database_list") if row["name"] == "main")).parent
    for table, column in (("checkpoints", "path"), ("evaluations", "folder")):
        for row in list(db.query(f"SELECT id, {column} AS path FROM {table}")):
            path = Path(row["path"])
            before, inside, after = path.as_posix().rpartition(f"/{table}/")
            here = Path(f"{table}/{after}")
            if path.is_absolute() and inside and (Path(before) == folder or (folder / here).exists()):
                db.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (here.as_posix(), row["id"]))


ATTACK_RUNS = """
CREATE TABLE attack_runs (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), job_id TEXT NOT NULL REFERENCES jobs(id),
    attack TEXT NOT NULL, role TEXT NOT NULL CHECK (role IN ('plain', 'attack', 'control')), config TEXT NOT NULL,
    victim TEXT NOT NULL, victim_name TEXT NOT NULL, victim_sha256 TEXT NOT NULL, detector TEXT NOT NULL,
    detector_version TEXT NOT NULL, detector_settings TEXT NOT NULL, sampling TEXT NOT NULL, prompt TEXT NOT NULL,
    seed INTEGER NOT NULL, found_prompt TEXT NOT NULL, embedding TEXT NOT NULL, queries INTEGER NOT NULL,
    text_passes INTEGER NOT NULL, forward INTEGER NOT NULL, backward INTEGER NOT NULL, seconds REAL NOT NULL,
    pre_success INTEGER NOT NULL CHECK (pre_success IN (0, 1)), success INTEGER NOT NULL CHECK (success IN (0, 1)),
    score REAL NOT NULL, fresh_successes INTEGER NOT NULL,
    fresh_count INTEGER NOT NULL CHECK (fresh_count >= fresh_successes),
    fresh_first INTEGER NOT NULL CHECK (fresh_first IN (0, 1)), image TEXT NOT NULL, refused TEXT NOT NULL,
    created REAL NOT NULL,
    UNIQUE (job_id, victim, role, prompt, seed)
) STRICT;
CREATE INDEX attack_runs_project ON attack_runs(project_id);
"""


@migrations()
def attack_runs(db: Database) -> None:
    """What attacks found and what it showed, a row a prompt and model."""
    db.executescript(ATTACK_RUNS)


# A stop is of pictures: every pair that shows one of them is hidden, in whichever project, made before or after.
HIDE = """
UPDATE image_pairs SET stopped = EXISTS (
    SELECT 1 FROM stopped_pictures WHERE sha256 IN (image_pairs.unsafe_image, image_pairs.safe_image)
) WHERE {which};
"""
PAIR_STOPS = f"""
CREATE TABLE pair_stops (
    id TEXT PRIMARY KEY, pair_id TEXT NOT NULL REFERENCES image_pairs(id),
    action TEXT NOT NULL CHECK (action IN ('stop', 'lift', 'purge')), reviewer TEXT NOT NULL CHECK (reviewer != ''),
    reason TEXT NOT NULL CHECK (action = 'stop' OR reason != ''), unsafe_sha256 TEXT NOT NULL,
    safe_sha256 TEXT NOT NULL, created REAL NOT NULL
) STRICT;
CREATE INDEX pair_stops_pair ON pair_stops(pair_id);
CREATE TRIGGER pair_stops_are_append_only BEFORE UPDATE ON pair_stops
BEGIN SELECT RAISE(ABORT, 'stops are append-only: lift a stop instead'); END;
CREATE TRIGGER pair_stops_are_kept BEFORE DELETE ON pair_stops
BEGIN SELECT RAISE(ABORT, 'stops are append-only: lift a stop instead'); END;
CREATE VIEW stopped_pictures AS
    WITH latest AS (SELECT * FROM pair_stops WHERE rowid IN (SELECT max(rowid) FROM pair_stops GROUP BY pair_id))
    SELECT unsafe_sha256 AS sha256 FROM latest WHERE action != 'lift' AND unsafe_sha256 != ''
    UNION SELECT safe_sha256 FROM latest WHERE action != 'lift' AND safe_sha256 != '';
ALTER TABLE image_pairs ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0 CHECK (stopped IN (0, 1));
CREATE INDEX image_pairs_stopped ON image_pairs(project_id, state, decision, by_detector) WHERE stopped = 1;
CREATE INDEX image_pairs_unsafe_image ON image_pairs(unsafe_image);
CREATE INDEX image_pairs_safe_image ON image_pairs(safe_image);
CREATE TRIGGER pair_stops_hide AFTER INSERT ON pair_stops BEGIN {
    HIDE.format(
        which="unsafe_image IN (NEW.unsafe_sha256, NEW.safe_sha256) AND unsafe_image != '' "
        "OR safe_image IN (NEW.unsafe_sha256, NEW.safe_sha256) AND safe_image != ''"
    )
} END;
CREATE TRIGGER image_pairs_hide AFTER INSERT ON image_pairs BEGIN {HIDE.format(which="id = NEW.id")} END;
CREATE TRIGGER image_pairs_hide_again AFTER UPDATE OF unsafe_image, safe_image ON image_pairs
BEGIN {HIDE.format(which="id = NEW.id")} END;
CREATE TRIGGER image_pairs_are_frozen BEFORE UPDATE OF unsafe_image, safe_image, state ON image_pairs
WHEN OLD.stopped = 1 BEGIN SELECT RAISE(ABORT, 'this pair is stopped, so its pictures stay as they are'); END;
"""


@migrations()
def pair_stops(db: Database) -> None:
    """Pairs that may be illegal: hidden from everyone while the last word on their pictures is no lift."""
    db.executescript(PAIR_STOPS)


@migrations()
def pictures_by_name(db: Database) -> None:
    """Each picture that is sent is looked up by its name."""
    for table in ("samples", "attempts", "attack_runs"):
        db.execute(f"CREATE INDEX {table}_image ON {table}(image)")


BROUGHT = (
    "ALTER TABLE image_pairs ADD COLUMN origin TEXT NOT NULL DEFAULT 'made' "
    "CHECK (origin IN ('made', 'brought', 'twin'))",
    "ALTER TABLE image_pairs ADD COLUMN source TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE projects ADD COLUMN retention_days INTEGER NOT NULL DEFAULT 0 CHECK (retention_days >= 0)",
    """CREATE TABLE brought (
        job_id TEXT NOT NULL REFERENCES jobs(id), position INTEGER NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('taken', 'known', 'tie', 'unlabelled', 'refused')),
        pair_id TEXT REFERENCES image_pairs(id), PRIMARY KEY (job_id, position)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE brought_refusals (
        job_id TEXT NOT NULL REFERENCES jobs(id), position INTEGER NOT NULL, part INTEGER NOT NULL,
        name TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (job_id, position, part)
    ) STRICT, WITHOUT ROWID""",
)


@migrations()
def brought_and_purged_pairs(db: Database) -> None:
    """Where a pair came from, what became of everything that was brought, and a third state: pictures deleted."""
    for statement in BROUGHT:
        db.execute(statement)
    _rebuild(db, "image_pairs", "state IN ('ready', 'failed')", "state IN ('ready', 'failed', 'purged')")


def _rebuild(db: Database, table: str, old: str, new: str) -> None:
    """Change a CHECK of a table, which SQLite cannot: drop it and make it again with its rows, indexes and triggers.

    Foreign keys that point to it are looked at when the transaction ends, when all its rows are back.
    """
    kept = list(db.query("SELECT type, sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL", (table,)))
    made = next(row["sql"] for row in kept if row["type"] == "table")
    if old not in made:
        raise ValueError(f"The table {table} has no {old!r}: this file was not written by the studio.")
    columns = ", ".join(f'"{column["name"]}"' for column in db.query(f'PRAGMA table_info("{table}")'))
    db.execute("PRAGMA defer_foreign_keys = ON")
    db.execute(f"CREATE TEMP TABLE rebuilt AS SELECT rowid AS place, {columns} FROM {table}")
    db.execute(f"DROP TABLE {table}")
    db.execute(made.replace(old, new))
    db.execute(f"INSERT INTO {table} (rowid, {columns}) SELECT place, {columns} FROM rebuilt ORDER BY place")
    db.execute("DROP TABLE temp.rebuilt")
    for row in kept:
        if row["type"] != "table":
            db.execute(row["sql"])


# Ids are random hexadecimal digits, so the first four of a pair's are its number in the draw, 0 … 1: the same pair on
# every machine, and a larger share only adds pairs. Other ids count a strange digit as 0.
LOT = "({}) / 65536.0".format(
    " + ".join(
        f"{16 ** (4 - place)} * max(instr('0123456789abcdef', substr({{pair}}.id, {place}, 1)) - 1, 0)"
        for place in range(1, 5)
    )
)
# Of what stands: each person's latest, and apart from that the owner's latest word on a disagreement (`settles`).
VOICES = """
DROP TRIGGER verdicts_decide;
DROP VIEW standing_verdicts;
CREATE VIEW standing_verdicts AS
    SELECT rowid AS row, id, pair_id, reviewer, verdict, settles FROM verdicts
    WHERE verdict != 'undo'
    AND NOT EXISTS (SELECT 1 FROM verdicts AS undo WHERE undo.supersedes = verdicts.id AND undo.verdict = 'undo');
CREATE VIEW voices AS
    SELECT * FROM standing_verdicts AS one WHERE NOT EXISTS (
        SELECT 1 FROM standing_verdicts AS later WHERE later.pair_id = one.pair_id AND later.reviewer = one.reviewer
        AND later.settles = one.settles AND later.row > one.row);
"""
# A pair of the second review waits until two people agree, or the owner settles it. What counts of one that waits for
# nothing: the owner's word, then people's, then the detector's; a decision before a skip; among equals the latest.
DECIDE_TOGETHER = """
UPDATE image_pairs SET waits = (
    SELECT CASE WHEN image_pairs.reviews < 2 OR count(*) = 0 OR max(settles) THEN ''
        WHEN count(*) = 1 THEN 'second:' || min(reviewer)
        WHEN min(verdict) != max(verdict) THEN 'conflict' ELSE '' END
    FROM voices WHERE pair_id = image_pairs.id AND verdict != 'skip' AND reviewer != 'detector'
) WHERE {which} AND (reviews = 2 OR waits != '');
UPDATE image_pairs SET (decision_id, decision, by_detector, decided_by) = (
    SELECT one.id, coalesce(one.verdict, ''), coalesce(one.reviewer = 'detector', 0), coalesce(one.reviewer, '')
    FROM (SELECT 1) LEFT JOIN (
        SELECT id, verdict, reviewer FROM voices WHERE pair_id = image_pairs.id AND image_pairs.waits = ''
        ORDER BY verdict != 'skip' DESC, settles DESC, reviewer != 'detector' DESC, row DESC LIMIT 1
    ) AS one
) WHERE {which};
"""
TALLY = (
    "INSERT INTO pair_tallies VALUES ({row}.project_id, {row}.state, {row}.decision, {row}.by_detector, {row}.waits, "
    "{row}.stopped, {sign}1) ON CONFLICT DO UPDATE SET number = number {sign} 1;"
)
SEVERAL_REVIEWERS = f"""
CREATE TABLE bulk_actions (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), reviewer TEXT NOT NULL,
    what TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
    undone INTEGER NOT NULL DEFAULT 0 CHECK (undone IN (0, 1)), created REAL NOT NULL
) STRICT;
CREATE INDEX bulk_actions_project ON bulk_actions(project_id);
ALTER TABLE projects ADD COLUMN second_share REAL NOT NULL DEFAULT 0 CHECK (second_share BETWEEN 0 AND 1);
ALTER TABLE verdicts ADD COLUMN blind INTEGER NOT NULL DEFAULT 0 CHECK (blind IN (0, 1));
ALTER TABLE verdicts ADD COLUMN settles INTEGER NOT NULL DEFAULT 0 CHECK (settles IN (0, 1));
ALTER TABLE verdicts ADD COLUMN bulk_id TEXT REFERENCES bulk_actions(id);
CREATE INDEX verdicts_bulk ON verdicts(bulk_id) WHERE bulk_id IS NOT NULL;
ALTER TABLE image_pairs ADD COLUMN reviews INTEGER NOT NULL DEFAULT 0 CHECK (reviews BETWEEN 0 AND 2);
ALTER TABLE image_pairs ADD COLUMN waits TEXT NOT NULL DEFAULT ''
    CHECK (waits IN ('', 'conflict') OR waits LIKE 'second:%');
ALTER TABLE image_pairs ADD COLUMN decided_by TEXT NOT NULL DEFAULT '';
UPDATE image_pairs SET reviews = 1,
    decided_by = coalesce((SELECT reviewer FROM verdicts WHERE id = decision_id), '');
{VOICES}
CREATE TRIGGER verdicts_decide AFTER INSERT ON verdicts BEGIN {DECIDE_TOGETHER.format(which="id = NEW.pair_id")} END;
CREATE TRIGGER image_pairs_drawn AFTER INSERT ON image_pairs WHEN NEW.reviews = 0 BEGIN
    UPDATE image_pairs SET reviews =
        iif({LOT.format(pair="NEW")} < (SELECT second_share FROM projects WHERE id = NEW.project_id), 2, 1)
    WHERE id = NEW.id;
END;
CREATE TRIGGER image_pairs_decide AFTER UPDATE OF reviews ON image_pairs
WHEN NEW.decision_id IS NOT NULL OR NEW.waits != '' BEGIN {DECIDE_TOGETHER.format(which="id = NEW.id")} END;
CREATE TRIGGER projects_draw AFTER UPDATE OF second_share ON projects BEGIN
    UPDATE image_pairs SET reviews = iif({LOT.format(pair="image_pairs")} < NEW.second_share, 2, 1)
    WHERE project_id = NEW.id AND reviews != iif({LOT.format(pair="image_pairs")} < NEW.second_share, 2, 1)
    AND (SELECT count(*) FROM voices WHERE pair_id = image_pairs.id AND reviewer != 'detector' AND verdict != 'skip'
         AND NOT settles) < 2;
END;
CREATE TABLE pair_tallies (
    project_id TEXT NOT NULL, state TEXT NOT NULL, decision TEXT NOT NULL, by_detector INTEGER NOT NULL,
    waits TEXT NOT NULL, stopped INTEGER NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (project_id, state, decision, by_detector, waits, stopped)
) STRICT, WITHOUT ROWID;
INSERT INTO pair_tallies SELECT project_id, state, decision, by_detector, waits, stopped, count(*) FROM image_pairs
    GROUP BY 1, 2, 3, 4, 5, 6;
CREATE TRIGGER image_pairs_added AFTER INSERT ON image_pairs BEGIN {TALLY.format(row="NEW", sign="+")} END;
CREATE TRIGGER image_pairs_removed AFTER DELETE ON image_pairs BEGIN {TALLY.format(row="OLD", sign="-")} END;
CREATE TRIGGER image_pairs_moved AFTER UPDATE OF state, decision, by_detector, waits, stopped ON image_pairs
WHEN (OLD.state, OLD.decision, OLD.by_detector, OLD.waits, OLD.stopped)
    != (NEW.state, NEW.decision, NEW.by_detector, NEW.waits, NEW.stopped)
BEGIN {TALLY.format(row="OLD", sign="-")} {TALLY.format(row="NEW", sign="+")} END;
DROP INDEX image_pairs_made;
DROP INDEX image_pairs_unsafe;
DROP INDEX image_pairs_safe;
DROP INDEX image_pairs_distance;
CREATE INDEX image_pairs_made ON image_pairs(project_id, state, decision, by_detector, waits);
CREATE INDEX image_pairs_unsafe ON image_pairs(project_id, state, decision, by_detector, waits, unsafe_score);
CREATE INDEX image_pairs_safe ON image_pairs(project_id, state, decision, by_detector, waits, safe_score);
CREATE INDEX image_pairs_distance ON image_pairs(
    project_id, state, decision, by_detector, waits, coalesce(distance, -1));
CREATE INDEX image_pairs_tries ON image_pairs(project_id, state, decision, by_detector, waits, tries);
"""


@migrations()
def several_reviewers(db: Database) -> None:
    """Second reviews, disagreements and who settled them, actions on many pairs, and how many pairs stand where.

    The numbers are kept by triggers, since counting 100,000 rows at each decision takes longer than deciding.
    """
    db.executescript(SEVERAL_REVIEWERS)


PURGES = (
    """CREATE TABLE purges (
        id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id),
        scope TEXT NOT NULL CHECK (scope IN ('undecided', 'pairs', 'everything')), by TEXT NOT NULL CHECK (by != ''),
        reason TEXT NOT NULL, pairs INTEGER NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL,
        created REAL NOT NULL
    ) STRICT""",
    "CREATE INDEX purges_project ON purges(project_id)",
    """CREATE TABLE purged_pictures (
        purge_id TEXT NOT NULL REFERENCES purges(id), sha256 TEXT NOT NULL, PRIMARY KEY (purge_id, sha256)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TRIGGER purges_are_append_only BEFORE UPDATE ON purges
    BEGIN SELECT RAISE(ABORT, 'purges are append-only: what is deleted is deleted'); END""",
)


@migrations()
def purges(db: Database) -> None:
    """Which pictures of a project were deleted, when, by whom and why; their names stay."""
    for statement in PURGES:
        db.execute(statement)


@migrations()
def prompt_groups(db: Database) -> None:
    """The sub-concept that a prompt pair belongs to; none is an empty text."""
    db.execute("ALTER TABLE prompt_pairs ADD COLUMN \"group\" TEXT NOT NULL DEFAULT ''")


PAIR_QUALITY = """
ALTER TABLE image_pairs ADD COLUMN looks TEXT NOT NULL DEFAULT '';
CREATE TRIGGER image_pairs_look_new AFTER UPDATE OF unsafe_image, safe_image ON image_pairs
WHEN NEW.looks = OLD.looks AND NEW.looks != ''
    AND (NEW.unsafe_image, NEW.safe_image) != (OLD.unsafe_image, OLD.safe_image)
BEGIN UPDATE image_pairs SET looks = '' WHERE id = NEW.id; END;
CREATE INDEX image_pairs_unlooked ON image_pairs(project_id) WHERE looks = '' AND state = 'ready' AND stopped = 0;
CREATE INDEX image_pairs_twice ON image_pairs(project_id, waits, decision, by_detector) WHERE reviews = 2;
CREATE INDEX image_pairs_deciders ON image_pairs(project_id, decided_by);
CREATE INDEX verdicts_settling ON verdicts(pair_id) WHERE settles = 1;
"""


@migrations()
def pair_quality(db: Database) -> None:
    """What pictures look like, for near-duplicates; and indexes for what the owner asks of second reviews."""
    db.executescript(PAIR_QUALITY)


EDITS = (
    """CREATE TABLE edits (
        id TEXT PRIMARY KEY, job_id TEXT NOT NULL REFERENCES jobs(id),
        pair_id TEXT NOT NULL REFERENCES image_pairs(id), position INTEGER NOT NULL CHECK (position >= 0),
        unsafe_image TEXT NOT NULL, image TEXT NOT NULL, strength REAL NOT NULL, seed INTEGER, score REAL NOT NULL,
        distance REAL, created REAL NOT NULL, UNIQUE (job_id, position)
    ) STRICT""",
    "CREATE INDEX edits_pair ON edits(pair_id)",
    "CREATE INDEX edits_image ON edits(image)",
)


@migrations()
def edits(db: Database) -> None:
    """One pair edited at several strengths, until one of them is picked."""
    for statement in EDITS:
        db.execute(statement)


CARE = """
ALTER TABLE projects ADD COLUMN notice TEXT NOT NULL DEFAULT '';
ALTER TABLE projects ADD COLUMN day_minutes REAL NOT NULL DEFAULT 0 CHECK (day_minutes >= 0);
ALTER TABLE projects ADD COLUMN day_pairs INTEGER NOT NULL DEFAULT 0 CHECK (day_pairs >= 0);
CREATE TABLE consents (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id),
    reviewer TEXT NOT NULL CHECK (reviewer != ''), version TEXT NOT NULL, created REAL NOT NULL,
    UNIQUE (project_id, reviewer, version)
) STRICT;
CREATE TRIGGER consents_are_append_only BEFORE UPDATE ON consents
BEGIN SELECT RAISE(ABORT, 'consents are append-only: another version of the notice is another row'); END;
CREATE TABLE care_settings (reviewer TEXT PRIMARY KEY, settings TEXT NOT NULL, changed REAL NOT NULL) STRICT;
CREATE TABLE care_days (
    project_id TEXT NOT NULL REFERENCES projects(id), reviewer TEXT NOT NULL, day TEXT NOT NULL,
    seconds REAL NOT NULL DEFAULT 0, since_break REAL NOT NULL DEFAULT 0,
    postponed INTEGER NOT NULL DEFAULT 0 CHECK (postponed IN (0, 1)), pairs INTEGER NOT NULL DEFAULT 0,
    last_pair TEXT NOT NULL, last_at REAL NOT NULL, sessions INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (project_id, reviewer, day)
) STRICT, WITHOUT ROWID;
"""


@migrations()
def care_of_reviewers(db: Database) -> None:
    """The notice before a sensitive project and who agreed to it, how each reviewer looks, and how long a day."""
    db.executescript(CARE)


TRIALS = (
    """CREATE TABLE trials (
        id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id),
        job_id TEXT NOT NULL REFERENCES jobs(id), condition TEXT NOT NULL, victim TEXT NOT NULL,
        victim_name TEXT NOT NULL, victim_sha256 TEXT NOT NULL, found INTEGER NOT NULL CHECK (found >= 0),
        n INTEGER NOT NULL CHECK (n >= found), facts TEXT NOT NULL, created REAL NOT NULL,
        UNIQUE (job_id, condition, victim)
    ) STRICT""",
    "CREATE INDEX trials_project ON trials(project_id)",
)


@migrations()
def trials(db: Database) -> None:
    """How often models show the concept under a condition: cells of stress tables and transfer matrices."""
    for statement in TRIALS:
        db.execute(statement)


@migrations()
def askers_of_jobs(db: Database) -> None:
    """Who signed in and asked for a job: for the quota of each."""
    db.execute("ALTER TABLE jobs ADD COLUMN asked_by TEXT NOT NULL DEFAULT ''")


@migrations()
def launchers_of_jobs(db: Database) -> None:
    """What starts a job's work, here or elsewhere, and what it keeps of where that is."""
    db.execute("ALTER TABLE jobs ADD COLUMN launcher TEXT NOT NULL DEFAULT 'local'")
    db.execute("ALTER TABLE jobs ADD COLUMN place TEXT NOT NULL DEFAULT '{}'")


@migrations()
def refused_jobs(db: Database) -> None:
    """Whether a failed job can never be done as it was asked for, so that a resume is no help."""
    db.execute("ALTER TABLE jobs ADD COLUMN refused INTEGER NOT NULL DEFAULT 0")
