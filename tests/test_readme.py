"""The README is true: its code runs, its commands parse, its tables are current."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

import biasaudio
from biasaudio.cli.main import COMMANDS, build_parser
from biasaudio.datasets import load_manifest
from biasaudio.embed.models import MODELS
from biasaudio.store import import_file
from biasaudio.transfer.published import load_published_table
from biasaudio.transforms import METHODS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Two points of ROC-AUC: what another version of numpy or scikit-learn may move.
TOLERANCE = 0.02
# What another draw of the splits moves, as the README says.
SEED_NOISE = 0.05


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def table(name):
    """Return the cells of the rows between the comment that names the table and its end."""
    inside = re.search(rf"<!-- {name}:.*?-->\n(.*?)<!-- end of {name} -->", README, re.DOTALL)
    rows = [line.strip("|").split("|") for line in inside.group(1).splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_two_commands_are_as_promised():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert "python -m pip install . && biasaudio demo" in lines
    assert 'python -m pip install ".[test]" && python -m pytest -n 2' in lines


def test_python_blocks_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "my-report" / "report.html").is_file()
    promised = re.search(r"about (\.\d+) and (\.\d+)", README).groups()
    assert names["before"].auc == pytest.approx(float(promised[0]), abs=TOLERANCE)
    assert names["after"].auc == pytest.approx(float(promised[1]), abs=TOLERANCE)
    assert names["corrected"] == pytest.approx(names["affine"](names["X"]), abs=1e-4)
    assert names["result"].summary() in capsys.readouterr().out


def command_lines():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("biasaudio ")]


@pytest.mark.parametrize("line", command_lines())
def test_command_lines_parse(line):
    args = build_parser().parse_args(shlex.split(line)[1:])
    assert args.command in COMMANDS


def known_options(parser):
    found = set()
    for action in parser._actions:
        found.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= known_options(command)
    return found


def test_every_option_and_command_that_is_named_exists():
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert named <= known_options(build_parser())
    section = README.split("## Command line")[1].split("\n## ")[0]
    described = {
        name
        for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)", cell)
    }
    assert described == set(COMMANDS)


def test_model_table_is_current():
    assert table("models") == [[f"`{m.spec}`", m.what, m.needs] for m in MODELS.values()]


def test_method_table_is_current():
    expected = [
        [
            f"`{name}`",
            f"`{method.estimator.__name__}`",
            method.explanation.rstrip("."),
            str(method.card()["needs"]),
        ]
        for name, method in METHODS.items()
    ]
    assert table("methods") == expected


def test_published_figures_are_the_published_ones():
    original = load_published_table("global").query("method == 'original'")
    scores = original.set_index(["embedding", "train_set", "test_set"])["roc_auc"]
    pairs = (("irmas", "irmas"), ("openmic", "openmic"), ("openmic", "irmas"), ("irmas", "openmic"))
    for name in ("VGGish", "OpenL3", "YAMNet"):
        cells = " | ".join(f"{100 * scores[name.lower(), a, b]:.2f}" for a, b in pairs)
        assert f"| {name} | {cells} |" in README


def test_published_changes_are_as_small_as_said():
    tables = [
        load_published_table(mode).query("method != 'original'") for mode in ("global", "classwise")
    ]
    changes = [abs(x) for table in tables for x in table["delta"].dropna()]
    assert 0.016 < max(changes) < 0.017
    assert sorted(changes)[len(changes) // 2] < 0.003


def test_manifest_example_is_read(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text(blocks("csv")[0], encoding="utf-8")
    clips = load_manifest(path)
    assert clips.datasets == ["mine", "other"]
    assert clips.label_names == ["cello", "flute"]
    assert not clips.mask.loc["a-002", "flute"]
    assert clips.group.tolist() == ["song-1", "song-2", "song-1"]


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http|#)([^)]+)\)", README))
def test_linked_files_exist(path):
    assert (ROOT / path).exists()


def test_linked_headings_exist():
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= slugs


@pytest.mark.slow
@pytest.mark.parametrize("row", table("pairs"), ids=lambda row: row[0])
def test_real_pairs_are_as_reported(shared, tmp_path, row):
    *pair, count = re.fullmatch(r"(\w+), (\w+) \((\d+)\)", row[0]).groups()
    one, two = (name.lower().replace("2018", "18") for name in pair)
    store = tmp_path / "yamnet.h5"
    for name in (one, two):
        import_file(store, shared / "data" / f"yamnet_{name}.npz", dataset=name)
    result = biasaudio.audit(
        store,
        datasets=[one, two],
        methods=["lda", "leace", "rleace", "nap", "wccn"],
        n_permutations=0,
        n_resamples=20,
    )
    assert len(result.meta["labels"]) == int(count)
    numbers = [float(text) for cell in row[1:] for text in re.findall(r"[\d.]+", cell)]
    assert numbers == pytest.approx(reported(result, one, two), abs=SEED_NOISE)


def reported(result, one, two):
    """Return the numbers of one row of the README's table, as shares of one."""
    asked = "probe == 'domain' and design == 'three-way' and mix == 'equal' and kind == 'linear'"
    leakage = result.probes.query(asked).set_index("method")["auc"]
    transfer = result.comparisons.set_index(["method", "train_set", "test_set"])
    ways = ((one, two), (two, one))
    return [
        *(leakage[method] for method in ("original", "lda", "leace", "rleace")),
        *(transfer.loc[("leace", *way), "before"] for way in ways),
        *(
            transfer.loc[(method, *way), "after"]
            for method in ("leace", "rleace", "nap", "wccn")
            for way in ways
        ),
    ]
