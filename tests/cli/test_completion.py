"""What the shell offers after a TAB."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest
from click.shell_completion import CompletionItem, ShellComplete
from click.testing import CliRunner

from celery_cascade.cli import cascade, completing
from celery_cascade.cli.group import VERBS
from cli.kit import Project


def items(*words: str) -> list[CompletionItem]:
    """For the last word, which is not complete."""
    return ShellComplete(cascade, {}, "cascade", "_CASCADE_COMPLETE").get_completions(list(words[:-1]), words[-1])


def offered(*words: str) -> list[str]:
    return [item.value for item in items(*words)]


def test_verbs_and_options_are_offered() -> None:
    assert set(offered("")) >= set(VERBS)
    assert offered("va") == ["validate"]
    assert "--strict" in offered("validate", "--")
    assert offered("-A", "proj", "ls", "--stat") == ["--status"]


def test_statuses_are_offered_after_a_comma_too(project: Project) -> None:
    assert offered("ls", "--status", "fa") == ["failed"]
    assert offered("ls", "--status", "failed,ex") == ["failed,expired"]


def test_the_newest_sessions_are_offered_with_their_status(project: Project) -> None:
    ids = [project.ended(), project.started()]
    assert set(offered("-A", project.name, "show", "")) == {*ids, "@last", "@last-failed"}
    for verb in ("resume", "rm", "keep", "definition", "cancel", "watch"):
        assert offered("-A", project.name, verb, ids[0][:8]) == [ids[0]]
    (found,) = items("-A", project.name, "show", ids[0])
    assert found.help == "order completed"
    assert offered("-A", project.name, "show", "@last-") == ["@last-failed"]


def test_the_app_may_come_from_the_environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = project.started()
    monkeypatch.setenv("CELERY_APP", project.name)
    assert session_id in offered("show", "")


def test_no_store_is_made_by_completing(make_project) -> None:
    """Nothing is offered, and nothing is there that was not there before."""
    project: Project = make_project(fresh=True)
    assert offered("-A", project.name, "show", "") == ["@last", "@last-failed"]
    assert not (project.folder / ".cascade").exists()


@pytest.mark.parametrize(
    "words",
    ["", "raise SystemExit(3)", "1 / 0", "print('a word')", "import sys; sys.stderr.write('a word')"],
)
def test_whatever_is_wrong_it_is_silent(
    project: Project, words: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = project.name + "_odd"
    (project.folder / f"{name}.py").write_text(words)
    monkeypatch.delitem(sys.modules, name, raising=False)
    assert offered("-A", name, "show", "") == ["@last", "@last-failed"]
    assert offered("show", "") == ["@last", "@last-failed"]
    assert capfd.readouterr() == ("", "")


def test_a_store_that_does_not_answer_does_not_hold_the_prompt(make_project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "PATIENCE", 0.3)
    project = make_project(cascade_database_url="postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    began = time.monotonic()
    assert offered("-A", project.name, "show", "") == ["@last", "@last-failed"]
    assert completing.in_time(lambda: time.sleep(5)) is None
    assert time.monotonic() - began < 4


def test_cascade_files_and_registered_names_are_offered(make_project) -> None:
    project = make_project(cascade_definitions=["*.yaml"])
    (project.folder / "settings.json").write_text('{"cascade": {"not": "one"}}')
    (project.folder / "other.yaml").write_text("a: 1\n")
    (project.folder / "deep").mkdir()
    (project.folder / "deep" / "one.json").write_text('{\n  "cascade": "one",\n  "steps": []\n}')
    (project.folder / ".hidden").mkdir()
    (project.folder / ".hidden" / "two.yaml").write_text("cascade: two\n")
    files = ["broken.yaml", "deep/one.json", "order.yaml", "sleepy.yaml"]
    assert offered("validate", "") == files
    assert offered("-A", project.name, "run", "") == [*files, "broken", "order", "sleepy"]
    assert offered("run", "de") == ["deep/one.json"]
    assert offered("validate", str(project.folder / "ord")) == [str(project.folder / "order.yaml")]


def test_where_there_is_none_the_shell_s_own_files_are_offered(project: Project) -> None:
    assert [(item.type, item.value) for item in items("run", "zzz")] == [("file", "zzz")]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", ["cascade", "celery"])
def test_each_shell_gets_its_script(shell: str, program: str) -> None:
    result = CliRunner().invoke(cascade, ["completion", shell, *(["--celery"] if program == "celery" else [])])
    assert result.exit_code == 0
    assert f"_{program.upper()}_COMPLETE={shell}_complete" in result.stdout


def test_the_shell_is_known_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert "zsh_complete" in CliRunner().invoke(cascade, ["completion"]).stdout
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    result = CliRunner().invoke(cascade, ["completion"])
    assert result.exit_code == 2
    assert "$SHELL is 'tcsh'" in result.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(("program", "words"), [("cascade", "cascade val"), ("celery", "celery -A {} cascade run ord")])
def test_it_works_in_a_real_bash(project: Project, program: str, words: str) -> None:
    """For `cascade` and, by Celery's own completion, for `celery -A proj cascade`."""
    main = "celery_cascade.cli" if program == "cascade" else "celery.__main__"
    script = project.folder / "bin" / program
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom {main} import main\nmain()\n")
    script.chmod(0o755)
    flag = "" if program == "cascade" else " --celery"
    line = words.format(project.name).split()
    code = f"""
        eval "$({sys.executable} -m celery_cascade.cli completion bash{flag})"
        COMP_WORDS=({" ".join(line)}); COMP_CWORD={len(line) - 1}
        _{program}_completion {program} && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = project.environment()
    env["PATH"] = f"{script.parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(["bash", "-c", code], cwd=project.folder, env=env, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["validate" if program == "cascade" else "order.yaml"], "")
