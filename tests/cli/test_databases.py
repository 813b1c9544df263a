"""The same commands on every database that we speak to."""

from __future__ import annotations

import re

from cli.kit import Project


def test_a_session_is_run_shown_listed_and_resumed_on_every_database(make_project, database_url: str) -> None:
    """R16, R51, D2: migrate, doctor, run, show, ls, resume, prune."""
    project: Project = make_project(cascade_database_url=database_url)
    assert project.run("ls").exit_code == 7
    assert project.run("migrate", "up").stdout == "Executed 4 migrations: 0001, 0002, 0003, 0004; 0 pending.\n"
    assert "DB OK" in project.run("doctor").stdout
    done, failed, waits = project.ended(), project.ended("broken.yaml"), project.started()
    assert project.json("show", done[:8])["session"]["output"] == {"sum": 12, "word": "none"}
    assert "failed in attempt 2" in project.run("show", "@last-failed").stdout
    text = project.run("ls").stdout
    assert [line.split()[0] for line in text.splitlines()[1:]] == [waits, failed, done]
    assert re.search(r"active, no living worker for \d+ s", text)
    (project.folder / "go").touch()
    resumed = project.run("resume", failed, "--local")
    assert resumed.exit_code == 0
    assert "boom succeeded (attempt 3, " in resumed.stderr
    assert "before" not in resumed.stderr
    assert project.run("watch", waits, "--timeout", "100ms").exit_code == 124
    assert project.run("cancel", waits).exit_code == 0
    assert project.json("prune", "--dry-run")["deleted"] == 0
    assert project.json("keep", done)["sessions"] == [{"session_id": done, "kept": True}]
    assert project.json("rm", waits)["session_ids"] == [waits]
    assert project.run("prune", "--vacuum").exit_code == (0 if database_url.startswith("sqlite") else 2)
    assert project.json("migrate", "down", "base", "--yes")["revision"] is None
