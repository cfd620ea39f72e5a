"""``biasaudio extract``: from audio to a store, at the shell, on small and on real audio."""

import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import soundfile

from biasaudio.cli.main import main
from biasaudio.datasets import load_openmic
from biasaudio.errors import BiasAudioWarning
from biasaudio.store import EmbeddingStore

RATE = 22050


def tone(path, hz, seconds=0.6):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)
    soundfile.write(path, wave, RATE)


@pytest.fixture
def audio(tmp_path):
    """Give a folder with audio of two datasets, and a manifest of it."""
    folder = tmp_path / "audio"
    rows = []
    for dataset in ("mine", "theirs"):
        for i in range(3):
            tone(folder / dataset / f"{i}.wav", 200 + 100 * i)
            label = ["cello", "flute", "cello"][i]
            rows.append({"path": f"{dataset}/{i}.wav", "dataset": dataset, "instrument": label})
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)
    return folder


def call(capsys, *argv, code=0):
    """Run a command and return its JSON document."""
    assert main([*map(str, argv), "--json", "--quiet", "--n-jobs", "1"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_folder_becomes_a_store(audio, tmp_path, capsys):
    out = tmp_path / "store"
    found = call(capsys, "extract", audio, "--model", "melstats", "--out", out)
    assert (found["embedded"], found["present"], found["failed"]) == (6, 0, [])
    assert found["datasets"] == ["mine", "theirs"]
    store = EmbeddingStore(out)
    assert len(store.files) == 2
    table = store.table("melstats")
    assert table.clips.clip_id.tolist() == ["0.wav", "1.wav", "2.wav"] * 2
    origin = store.origin("mine", "melstats")
    assert origin.model["kind"] == "melstats"
    assert origin.sources["path"].tolist() == ["mine/0.wav", "mine/1.wav", "mine/2.wav"]
    again = call(capsys, "extract", audio, "--model", "melstats", "--out", out, "--resume")
    assert (again["embedded"], again["present"]) == (0, 6)


def test_a_manifest_gives_labels_and_a_bad_file_is_listed(audio, tmp_path, capsys):
    (audio / "mine" / "1.wav").write_bytes(b"RIFF not audio")
    (audio / "theirs" / "2.wav").unlink()
    out = tmp_path / "store"
    argv = ["extract", str(audio), "--clips", str(audio / "clips.csv"), "--model", "melstats"]
    argv += ["--out", str(out), "--column", "label=instrument", "--n-jobs", "1", "--quiet"]
    assert main(argv) == 1
    text, errors = capsys.readouterr()
    assert "4 clips embedded" in text
    assert "2 failed" in text
    for name, reason in (("1.wav", "cannot be decoded"), ("2.wav", "is not there")):
        line = next(line for line in text.splitlines() if reason in line)
        assert name in line
    assert errors == ""
    clips = EmbeddingStore(out).clips("mine")
    assert clips.labels["cello"].tolist() == [True, True]
    assert clips.label_names == ["cello", "flute"]


def test_what_cannot_go_on_says_how(audio, tmp_path, capsys):
    def refused(*argv, code=2):
        assert main(["extract", str(audio), "--quiet", "--n-jobs", "1", *map(str, argv)]) == code
        text, error = capsys.readouterr()
        assert text == ""
        assert error.count("\n") == 1
        return error

    out = tmp_path / "store"
    assert "did you mean 'melstats'" in refused("--model", "melstat", "--out", out)
    assert "'biasaudio store export'" in refused("--model", "melstats", "--out", f"{out}.h5")
    assert "is not there" in refused("--model", "melstats", "--out", out, "--resume", code=1)
    assert "NAME=VALUE" in refused("--model", "melstats", "--out", out, "--set", "x")
    assert not out.exists()
    call(capsys, "extract", audio, "--model", "melstats", "--out", out)
    error = refused("--model", "melstats", "--set", "frame_seconds=0.3", "--out", out)
    assert "hop=11264 (now 6656)" in error
    assert "--embedding, or pass --overwrite to replace it" in error
    error = refused("--model", "melstats", "--embedding", "other", "--out", out, "--resume")
    assert "no embedding 'other', only melstats" in error
    argv = ("--model", "melstats", "--set", "frame_seconds=0.3", "--out", out, "--overwrite")
    assert call(capsys, "extract", audio, *argv)["embedded"] == 6
    assert EmbeddingStore(out).origin("mine", "melstats").model["hop"] == 6656


def test_models_are_listed_without_any_other_option(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["extract", "--models"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "model"
    assert {line.split(":")[0].split()[0] for line in lines[1:]} >= {"melstats", "yamnet", "hear"}


def test_the_published_folder_trees_are_recognised(shared, tmp_path, capsys):
    out = tmp_path / "store"
    irmas = shared / "layouts" / "irmas"
    found = call(capsys, "extract", irmas, "--model", "melstats", "--out", out)
    assert (found["embedded"], found["datasets"]) == (2, ["irmas"])
    openmic = shared / "layouts" / "openmic2018"
    found = call(capsys, "extract", openmic, "--model", "melstats", "--out", out)
    assert (found["embedded"], found["datasets"]) == (1, ["openmic"])
    store = EmbeddingStore(out)
    clips = store.clips("irmas")
    row = clips.select(clips.clip_id == "[cla][cla]0189__2")
    assert row.labels.idxmax(axis=1).tolist() == ["clarinet"]
    assert row.genre.tolist() == ["classical"]
    # The vectors are found by the readers of the datasets too.
    with pytest.warns(BiasAudioWarning, match=r"19 clip\(s\) have no vector"):
        table = store.table("melstats", load_openmic(openmic), missing="drop")
    assert table.clips.clip_id.tolist() == ["000046_3840"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["melstats", "yamnet"])
def test_from_real_audio_to_a_report_in_two_commands(shared, tmp_path, capsys, model):
    spec = model
    if model == "yamnet":
        pytest.importorskip("ai_edge_litert", reason="needs the extra embed")
        spec = f"yamnet:{shared / 'models' / 'yamnet.tflite'}"
    audio, out = shared / "audio", tmp_path / "store"
    manifest = ("--clips", audio / "clips.csv", "--column", "label=instrument")
    found = call(capsys, "extract", audio, *manifest, "--model", spec, "--out", out)
    assert (found["embedded"], found["failed"]) == (157, [])
    report = tmp_path / "report"
    argv = ("audit", out, "--split", "drawn", "--methods", "leace", "nap", "--out", report)
    result = call(capsys, *argv, "--resamples", 200)
    assert (report / "report.html").is_file()
    assert set(result["meta"]["datasets"]) == {"fsdkaggle18", "medley_solos"}
    rows = pd.DataFrame(result["probes"])
    raw = rows[(rows["method"] == "original") & (rows["probe"] == "domain")]
    assert raw["auc"].max() > 0.8


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_was_killed_before_its_first_commit_is_gone_on_with(
    audio, tmp_path, capsys, monkeypatch, overwrite
):
    out = tmp_path / "store"
    argv = ["extract", str(audio), "--model", "melstats", "--out", str(out)]
    if overwrite:
        call(capsys, *argv)
        argv += ["--overwrite", "--set", "frame_seconds=0.3"]

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(import_module("biasaudio.embed.extraction"), "run_all", interrupted)
        assert main([*argv, "--quiet", "--n-jobs", "1"]) == 130
    capsys.readouterr()
    assert call(capsys, *argv, "--resume")["embedded"] == 6
    hop = EmbeddingStore(out).origin("mine", "melstats").model["hop"]
    assert hop == (6656 if overwrite else 11264)


def test_labels_that_contradict_name_the_way_out(audio, tmp_path, capsys):
    out, clips = tmp_path / "store", audio / "clips.csv"
    argv = ["extract", audio, "--model", "melstats", "--out", out, "--clips", clips]
    argv += ["--column", "label=instrument"]
    call(capsys, *argv)
    clips.write_text(clips.read_text().replace("mine/1.wav,mine,flute", "mine/1.wav,mine,cello"))
    assert main([*map(str, argv), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "or pass --overwrite, so that what is given now wins" in error
    assert error.count("\n") == 1
    assert call(capsys, *argv, "--overwrite")["present"] == 6
    assert EmbeddingStore(out).clips("mine").labels["cello"].tolist() == [True, True, True]
