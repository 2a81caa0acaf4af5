"""The command line as a user meets it: its output, its exit code, and what it writes."""

import contextlib
import json
import signal
import subprocess
import sys
import time

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import hemaest
from hemaest.cli import app
from hemaest.recipes import list_recipes

COMMANDS = sorted(typer.main.get_command(app).commands)
START = [sys.executable, "-c", "from hemaest.cli import main; main()"]


def hemaest_command(*arguments, cwd):
    """Run a command within this process, in a folder."""
    with contextlib.chdir(cwd):
        return CliRunner().invoke(app, [str(a) for a in arguments])


def hemaest_process(*arguments, cwd):
    """Run a command in a process of its own, as a shell does."""
    command = [*START, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def folder(cells, tmp_path):
    X, y, groups = cells
    for i, (image, label, group) in enumerate(zip(X, y, groups, strict=True)):
        path = tmp_path / "images" / label / f"patient{group}_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "images"


def test_version_and_help(tmp_path):
    assert hemaest_process("--version", cwd=tmp_path).stdout == f"hemaest {hemaest.__version__}\n"
    printed = hemaest_command("--help", cwd=tmp_path).stdout
    assert all(name in printed for name in COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_there_in_a_process_of_its_own(command, tmp_path):
    done = hemaest_process(command, "--no-such-option", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert "No such option: --no-such-option" in done.stderr and "Traceback" not in done.stderr
    assert hemaest_process(command, "--help", cwd=tmp_path).returncode == 0


def test_each_command_explains_itself_on_a_narrow_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def shown(command):
        return "".join(hemaest_command(command, "-h", cwd=tmp_path).stdout.split())

    assert "borderline-smote" in shown("train") and "rendered" in shown("train")
    assert "Default:color-logistic,handcrafted-xgboost,deep-small." in shown("compare")


def test_recipes_are_listed(tmp_path):
    rows = json.loads(hemaest_command("recipes", "--json", cwd=tmp_path).stdout)
    assert [row["recipe"] for row in rows] == list_recipes()
    assert all(row["what it is"] for row in rows)


@pytest.mark.slow
def test_a_folder_is_compared_and_broken_files_are_listed_once(folder, tmp_path):
    (folder / "blast" / "patient1_broken.png").write_bytes(b"\x89PNG broken")
    done = hemaest_process(
        "compare", folder, "-r", "color-knn,color-logistic", "--folds", 3, "-j", 1, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("patient1_broken.png") == 2  # in its column, and in the reason
    assert "1 of the files cannot be read" in done.stderr
    assert "split by patient" in done.stderr
    assert "color-knn" in done.stdout and "1.000" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if line.startswith("|"))
    report = tmp_path / "hemaest-report.html"
    assert str(report) in done.stderr
    assert report.read_text().startswith("<!doctype html>")


def test_json_holds_the_table_and_nothing_else(folder, tmp_path):
    done = hemaest_command(
        "compare", folder, "-r", "color-knn", "--folds", 3, "--json", "-j", 1, cwd=tmp_path
    )
    rows = json.loads(done.stdout)
    assert {row["recipe"] for row in rows} == {"color-knn", "color-logistic"}
    assert all(row["accuracy"] > 0.8 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["compare", "nowhere"], 2, "nowhere is no folder"),
        (["compare", "-r", "colr-knn"], 2, "Did you mean 'color-knn'"),
        (["compare", "--folds", "1"], 2, "--folds"),
        (["comparee"], 2, "No such command"),
    ],
)
def test_wrong_usage_ends_with_2(tmp_path, arguments, code, message):
    done = hemaest_command(*arguments, cwd=tmp_path)
    assert done.exit_code == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["compare", "--report", "here"],
            "--report: here cannot be written: it is a folder; name a file in it",
        ),
        (["audit", "here", "--report", "here"], "--report: here cannot be written: it is a folder"),
        (["compare", "--report", "file/r.html"], "--report: file/r.html cannot be written"),
        (["compare", "--cache", "file"], "--cache: file is a file; name a folder"),
        (["train", "-o", "file/new/m.hemaest"], "--output: file/new/m.hemaest cannot be"),
        (["predict", "m", "here", "--csv", "file/p.csv"], "--csv: file/p.csv cannot be written"),
        (
            ["predict", "m", "here", "--annotate", "file"],
            "--annotate: file is a file; name a folder",
        ),
        (["compare", "--groups", "(("], "--groups: '((' is neither 'infer', 'image' nor"),
    ],
)
def test_what_cannot_be_written_or_meant_is_refused_before_the_work(tmp_path, arguments, message):
    (tmp_path / "here").mkdir()
    (tmp_path / "file").write_text("kept")
    done = hemaest_command(*arguments, cwd=tmp_path)
    assert done.exit_code == 2
    assert done.stderr.startswith(message) and len(done.stderr.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "here"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_that_is_not_there_yet_is_made_only_when_it_is_needed(folder, tmp_path):
    report = tmp_path / "new" / "place" / "audit.html"
    done = hemaest_command("audit", "nowhere", "--report", report, cwd=tmp_path)
    assert done.exit_code == 2 and not (tmp_path / "new").exists()
    done = hemaest_command("audit", folder, "--report", report, "-j", 1, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert report.read_text().startswith("<!doctype html>")


def test_a_rule_that_fits_no_name_is_wrong_usage(folder, tmp_path):
    done = hemaest_command("compare", folder, "--groups", "donor(.)", cwd=tmp_path)
    assert done.exit_code == 2, done.stderr
    assert "rule='donor(.)' does not fit 24 of 24 file names" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_done_ends_with_1(tmp_path):
    broken = tmp_path / "images" / "blast"
    broken.mkdir(parents=True)
    (broken / "a.png").write_bytes(b"no image")
    done = hemaest_command("compare", tmp_path / "images", cwd=tmp_path)
    assert done.exit_code == 1
    assert "none of the images" in done.stderr and "a.png" in done.stderr


@pytest.mark.parametrize("cache", [None, "folds"])
def test_an_interrupted_comparison_says_how_to_continue(cache, folder, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(hemaest.evaluation, "compare", stopped)
    kept = [] if cache is None else ["--cache", cache]
    done = hemaest_command("compare", folder, *kept, cwd=tmp_path)
    assert done.exit_code == 130, done.stderr
    assert ("run the same command to continue" in done.stderr) == (cache is not None)
    assert "--cache DIR" in done.stderr or cache in done.stderr


def test_a_shell_completes_recipes():
    command = typer.main.get_command(app)
    names = next(p for p in command.commands["compare"].params if "--recipes" in p.opts)
    context = command.make_context("hemaest", ["compare"], resilient_parsing=True)

    def offered(text):
        return [item.value for item in names.shell_complete(context, text)]

    assert offered("color-k") == ["color-knn"]
    assert offered("vit,") == [f"vit,{name}" for name in list_recipes()]


@pytest.mark.slow
def test_an_interrupted_command_ends_with_130_and_saves_nothing(folder, tmp_path):
    arguments = ["train", folder, "-r", "deep-small", "--folds", 0, "--epochs", 5000, "-o", "m"]
    command = [*START, *map(str, arguments)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "Fitting" in line:
                break
        time.sleep(10)  # into the training
        process.send_signal(signal.SIGINT)
        printed = process.stderr.read()
        assert process.wait(60) == 130, printed
    assert "Interrupted" in printed and "Traceback" not in printed
    assert not (tmp_path / "m").exists()


def test_a_full_disk_is_said_before_the_work(folder, tmp_path):
    done = hemaest_command("audit", folder, "--report", "/dev/full/a.html", cwd=tmp_path)
    assert done.exit_code == 2 and "Traceback" not in done.stderr
    done = hemaest_command("train", folder, "-o", "m" * 300, cwd=tmp_path)
    assert done.exit_code == 2 and "name too long" in done.stderr


def test_a_class_of_one_image_is_refused_by_name(folder, tmp_path):
    for file in sorted((folder / "blast").iterdir())[1:]:
        file.unlink()
    for command in ("compare", "train"):
        done = hemaest_command(command, folder, cwd=tmp_path)
        assert done.exit_code == 2 and "'blast' has one image only" in done.stderr


def test_groups_by_a_rule_of_the_user_are_called_so(folder, tmp_path):
    arguments = ["-r", "color-knn", "--folds", 2, "--no-audit", "-j", 1]
    rule = r"(patient\d+)_"
    done = hemaest_command("compare", folder, "--groups", rule, *arguments, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "split by group (--groups" in done.stderr
    assert " 6 groups, " in done.stdout
    # the verdict; the table has a shorter name for it
    assert "balanced accuracy" in done.stdout
