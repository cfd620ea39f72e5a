"""The frame of the command line: help, usage, exit codes, output, laziness."""

import re
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from audit_fixtures import FEW, arrays, call, failure, stored, strict

import biasaudio
from biasaudio import AuditResult
from biasaudio.cli.main import in_options, main
from biasaudio.errors import BiasAudioWarning

COMMANDS = ("demo", "audit", "reproduce", "probe", "correct", "store", "report")


def shell(*argv, **options):
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "biasaudio", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Give a store of two datasets."""
    path = tmp_path_factory.mktemp("store") / "s.h5"
    return stored(path, arrays("a"), arrays("b", shift=1.0))


def test_help_names_all_commands_and_exit_codes():
    found = shell("--help")
    assert found.returncode == 0
    assert found.stderr == ""
    for name in COMMANDS:
        assert f"\n    {name}" in found.stdout
    assert "0 ok, 1 failure, 2 usage, 3 threshold exceeded" in found.stdout


@pytest.mark.parametrize("name", [*COMMANDS, "store ls", "store import"])
def test_every_command_has_help_with_the_shared_options(capsys, name):
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*name.split(), "--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: biasaudio {name} ")
    for option in ("--json", "--seed", "--n-jobs", "--quiet", "--debug"):
        assert option in out


def test_version(capsys):
    code, out, err = call(capsys, "--version")
    assert (code, out, err) == (0, f"biasaudio {version('biasaudio')}\n", "")


def test_no_command_shows_the_help_and_is_wrong_usage(capsys):
    code, out, _ = call(capsys)
    assert code == 2
    assert out.startswith("usage: biasaudio ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["adit"],
            "unknown command 'adit'; choose one of demo, extract, audit, .*did you mean 'audit'",
        ),
        (
            ["audit", "--jsn"],
            "unknown option '--jsn'; did you mean '--json'.; see",
        ),
        (["audit", "s.h5", "--jso"], "unknown option '--jso'"),
        (["probe", "s.h5", "--fail-abov=1"], "unknown option '--fail-abov'; did you mean"),
        (["--quiet", "audit"], "unknown option '--quiet'; give options after the command"),
        (["audit"], "the following arguments are required: STORE, --out; see"),
        (["store"], "the following arguments are required: ACTION; see 'biasaudio store --help'"),
        (["store", "lss"], "invalid choice: 'lss' .choose from '?ls'?, '?import'?."),
        (["store", "import", "s.h5"], "required: FILE"),
        (["probe", "s.h5", "--mix", "x"], "--mix: invalid choice: 'x' .choose from '?equal'?"),
        (
            ["probe", "s.h5", "--seed", "x"],
            "--seed: 'x' is not allowed; give a whole number from 0",
        ),
        (["probe", "s.h5", "--seed", "-1"], "--seed: '-1' is not allowed"),
        (["probe", "s.h5", "--splits", "1"], "--splits: '1' is not allowed; .* from 2 upwards"),
        (["audit", "s.h5", "--out"], "argument --out: expected one argument"),
        (["demo", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(capsys, argv, message):
    code, line = failure(capsys, *argv)
    assert code == 2
    assert re.search(message, line), line


def test_wrong_usage_of_an_option_before_the_command_is_json_too(capsys):
    code, out, err = call(capsys, "--json", "audit")
    assert (code, err) == (2, "")
    assert "unknown option '--json'" in strict(out)["error"]["message"]


def test_errors_as_json_name_their_type(capsys):
    code, out, err = call(capsys, "store", "ls", "nowhere.h5", "--json")
    assert (code, err) == (1, "")
    error = strict(out)["error"]
    assert error["type"] == "StoreError"
    assert error["message"].startswith("nowhere.h5 is not there; check the path")


def test_debug_shows_the_traceback(capsys):
    code, out, err = call(capsys, "store", "ls", "nowhere.h5", "--debug")
    assert (code, out) == (1, "")
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("biasaudio: nowhere.h5 is not there")


def test_progress_is_on_stderr_and_output_on_stdout(capsys, store, monkeypatch):
    monkeypatch.setattr(AuditResult, "save", lambda _, folder: Path(folder))
    argv = ("audit", store, "--methods", "lda", *FEW, "--out", "out")
    code, out, err = call(capsys, *argv, "--json")
    assert code == 0
    assert "toy: probes" in err
    assert strict(out)["report"].endswith("report.html")
    assert "it/s" not in out


def test_quiet_prints_nothing_on_stderr_from_any_process(store):
    argv = ("audit", store, "--methods", "lda", *FEW, "--out", f"{store}.quiet")
    found = shell(*argv, "--quiet", "--n-jobs", "2")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.rstrip().endswith("report.html")


def test_options_before_an_action_are_kept(capsys, store):
    code, out, _ = call(capsys, "store", "--json", "ls", store)
    assert code == 0
    assert strict(out)["embeddings"][0]["dataset"] == "a"


def test_a_reader_that_has_enough_is_no_error(store):
    command = f'"{sys.executable}" -m biasaudio store ls "{store}" | true'
    found = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert found.stderr == ""


def test_errors_of_the_system_name_the_file(capsys, monkeypatch, store):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", "secret.h5")

    monkeypatch.setattr(biasaudio, "audit", fail)
    code, line = failure(capsys, "audit", store, "--out", "out")
    assert code == 1
    assert line.startswith("secret.h5: Permission denied; check the path, its permissions")


def test_an_interrupt_is_one_word(capsys, monkeypatch, store):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(biasaudio, "audit", fail)
    assert call(capsys, "audit", store, "--out", "out") == (130, "", "interrupted\n")


def test_many_warnings_are_cut_short_and_quiet_hides_them(capsys, monkeypatch):
    def rows(_):
        for i in [0, 0, 1, 2, 3, 4]:
            warnings.warn(f"number {i}", BiasAudioWarning, stacklevel=2)
        return [{"dataset": "a", "files": 1}]

    monkeypatch.setattr("biasaudio.cli.store._rows", rows)
    code, out, err = call(capsys, "store", "ls", "s.h5")
    assert (code, out) == (0, "dataset\na\n")
    assert err.splitlines() == [
        "warning: number 0",
        "warning: number 1",
        "warning: number 2",
        "warning: and 2 more of this kind",
    ]
    assert call(capsys, "store", "ls", "s.h5", "--quiet")[2] == ""


def test_the_package_and_the_help_import_nothing_heavy():
    heavy = ["numpy", "pandas", "sklearn", "h5py", "librosa", "matplotlib", "scipy", "seaborn"]
    script = (
        "import sys, biasaudio\n"
        f"heavy = {heavy}\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "from biasaudio.cli.main import main\n"
        "try:\n    main(['audit', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "biasaudio.audit\n"
        "print('numpy' in sys.modules)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    lines = found.stdout.splitlines()
    assert lines[0] == "[]"
    assert lines[-2:] == ["[]", "True"]


def test_all_public_names_can_be_had():
    for name in biasaudio.__all__:
        assert getattr(biasaudio, name) is not None


# ---- What becomes of work whose outcome nobody can see, and of values nobody can use.


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full and a POSIX shell")
@pytest.mark.parametrize(
    ("streams", "code", "err"),
    [
        ("| head -0", 0, ""),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        (">/dev/full", 1, "biasaudio: the outcome could not be printed (stdout: No space left on"),
        (">/dev/full 2>/dev/full", 1, ""),
    ],
)
def test_a_stream_that_is_closed_or_full_loses_no_work(tmp_path, streams, code, err):
    part = tmp_path / "part.npz"
    np.savez(part, **arrays("a"))
    command = (
        f'"{sys.executable}" -m biasaudio store import s.h5 part.npz --embedding toy {streams}'
    )
    found = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == code
    assert found.stderr.startswith(err)
    assert found.stderr.count("\n") == bool(err)
    assert biasaudio.EmbeddingStore(tmp_path / "s.h5").datasets() == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full and a POSIX shell")
def test_workers_do_not_need_the_streams_either(tmp_path, store):
    argv = ["audit", store, "--methods", "lda", *FEW[:-2], "--n-jobs", "2", "--out", tmp_path / "o"]
    command = [sys.executable, "-m", "biasaudio", *map(str, argv)]
    found = subprocess.run(["bash", "-c", '"$@" >&- 2>&-', "bash", *command], timeout=300)
    assert found.returncode == 0
    assert (tmp_path / "o" / "report.html").is_file()


def test_without_docstrings_all_works(tmp_path, store):
    for argv in (["--help"], ["correct", "fit", "--help"], ["store", "ls", store]):
        command = [sys.executable, "-OO", "-m", "biasaudio", *argv]
        found = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (found.returncode, found.stderr) == (0, "")
    argv = ["audit", store, "--methods", "leace", *FEW, "--quiet", "--out", tmp_path / "o"]
    command = [sys.executable, "-OO", "-m", "biasaudio", *map(str, argv)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (found.returncode, found.stderr) == (0, "")


def test_terminated_it_says_so_and_stops(tmp_path, store):
    script = (
        "import os, signal, biasaudio\n"
        "from biasaudio.cli.main import main\n"
        "biasaudio.audit = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)\n"
        f"raise SystemExit(main(['audit', {store!r}, '--out', {str(tmp_path / 'o')!r}]))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (143, "", "terminated\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["probe", "s.h5", "--fail-above", "1e999"], "--fail-above=inf is not a ROC-AUC; give 0"),
        (["probe", "s.h5", "--fail-above", "nan"], "--fail-above=nan is not a ROC-AUC; give 0 to"),
        (["probe", "s.h5", "--seed", "9" * 5000], "'99999999999999999999...' is not allowed; give"),
        (
            ["demo", "--songs", "1e300"],
            "'1e300' is not allowed; give a whole number from 1 upwards",
        ),
        (["audit", "s.h5", "--out", "o", "--resamples", "9" * 30], "from 1 to 4294967295"),
        (["\udcff"], r"unknown command '\\udcff'; choose one of demo"),
        (["probe", "\udcff.h5"], r"\\udcff.h5 is not there; check the path"),
        (["probe", "\ud800.h5"], r"\\ud800.h5 is not there; check the path"),
    ],
)
def test_values_that_nobody_can_use_are_one_line(capsys, argv, message):
    code, out, err = call(capsys, *argv)
    assert code in (1, 2)
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(message, err), err


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ('go on with missing="drop"', "go on with --allow-partial"),
        ("pass overwrite=True to replace it", "pass --overwrite to replace it"),
        ("say columns={'clip': ...}", "say --column clip=NAME"),
        ("another name with embedding=..., or", "another name with --embedding, or"),
        ("choose with datasets=[...]", "choose with --datasets"),
        ("n_jobs=0 is not allowed", "--n-jobs=0 is not allowed"),
        ("set unseen='identity' or unseen='global'", "set --unseen identity or --unseen global"),
        ("drawn with split='drawn'", "drawn with --split drawn"),
        ("probe with strata=None, or", "probe with --mix raw, or"),
        ("write one with import_arrays", "write one with 'biasaudio store import'"),
        (
            "/data/n_jobs=3/x.h5 and n_jobs=3/x.h5 stay",
            "/data/n_jobs=3/x.h5 and n_jobs=3/x.h5 stay",
        ),
        ("my_split='x' stays", "my_split='x' stays"),
    ],
)
def test_messages_name_options_in_place_of_parameters(python, shell):
    assert in_options(python) == shell
