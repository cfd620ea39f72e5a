"""The tables of an audit, and the same numbers for any number of jobs."""

import numpy as np
import pandas as pd
import pytest
from audit_fixtures import QUICK, arrays, joined, planted, without_time

import biasaudio
from biasaudio.results import TABLES
from biasaudio.transforms.methods import DEFAULT

DTYPES = {str: "object", float: "float64", int: "int64", bool: "bool"}


@pytest.fixture(scope="module")
def result():
    """Give the audit of two datasets with labels, genres and a split."""
    return biasaudio.audit(planted(240, shift=1.5), **QUICK)


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_the_declared_columns_and_types(result, name):
    table = getattr(result, name)
    assert list(table.columns) == list(TABLES[name])
    assert {c: str(t) for c, t in table.dtypes.items()} == {
        c: DTYPES[kind] for c, kind in TABLES[name].items()
    }
    assert name == "dropped" or len(table)


def test_probes_hold_one_row_a_design_mix_method_and_kind(result):
    keys = ["probe", "datasets", "design", "mix", "method", "kind"]
    assert not result.probes.duplicated(keys).any()
    domain = result.probes[result.probes["probe"] == "domain"]
    after = domain[(domain["design"] == "three-way") & (domain["mix"] == "equal")]
    assert set(after["method"]) == {"original", *DEFAULT}
    assert set(after["kind"]) == {"linear", "scaled"}
    crossed = domain[domain["design"] == "cross-fit"]
    assert set(crossed["mix"]) == {"raw", "equal"}
    assert set(crossed["method"]) == {"original"}


def test_numbers_of_probes_are_in_range_and_ordered(result):
    probes = result.probes
    shares = ["auc", "low", "high", "balanced_accuracy", "p_value"]
    assert probes[shares].stack().between(0, 1).all()
    assert (probes["low"] <= probes["high"]).all()
    assert np.allclose(probes["chance_accuracy"], 1 / probes["n_classes"])
    assert (probes["n_groups"] < probes["n"]).all()


def test_probe_values_belong_to_a_probe_and_name_its_values(result):
    keys = ["embedding", "probe", "datasets", "design", "mix", "method", "kind"]
    counts = result.probe_values.groupby(keys).size()
    expected = result.probes.set_index(keys)["n_classes"]
    assert counts.sort_index().equals(expected.sort_index())
    domain = result.probe_values[result.probe_values["probe"] == "domain"]
    assert set(domain["value"]) == {"a", "b"}


def test_planted_offset_is_found_and_removed(result):
    domain = result.probes.query("probe == 'domain' and design == 'three-way' and mix == 'equal'")
    auc = domain[domain["kind"] == "linear"].set_index("method")["auc"]
    assert auc["original"] > 0.9
    assert auc["leace"] < 0.7


def test_transfer_has_every_pair_of_every_label_and_method(result):
    transfer = result.transfer
    assert len(transfer) == 2 * 4 * (1 + len(DEFAULT))
    assert not transfer.duplicated(["instrument", "train_set", "test_set", "method", "mode"]).any()
    assert transfer[["roc_auc", "ap", "accuracy", "prevalence"]].stack().between(0, 1).all()
    assert not transfer["constant"].any()


def test_comparisons_are_differences_of_the_transfer_table(result):
    keys = ["method", "mode", "train_set", "test_set"]
    mean = result.transfer.groupby(keys)["roc_auc"].mean()
    for row in result.comparisons.itertuples():
        before = mean["original", row.mode, row.train_set, row.test_set]
        after = mean[row.method, row.mode, row.train_set, row.test_set]
        assert row.before == pytest.approx(before, abs=1e-12)
        assert row.after == pytest.approx(after, abs=1e-12)
        assert row.delta == pytest.approx(after - before, abs=1e-12)
        assert row.low <= row.high
        assert row.p_value <= row.p_holm <= 1


def test_drops_compare_the_same_test_set(result):
    mean = result.transfer.groupby(["method", "train_set", "test_set"])["roc_auc"].mean()
    assert len(result.drops) == 2 * (1 + len(DEFAULT))
    for row in result.drops.itertuples():
        within = mean[row.method, row.test_set, row.test_set]
        across = mean[row.method, row.train_set, row.test_set]
        assert row.drop == pytest.approx(within - across, abs=1e-12)


def test_distribution_counts_the_clips(result):
    counts = result.distribution.groupby("dataset")["n_positive"].sum()
    assert counts.to_dict() == {"a": 120, "b": 120}


def test_method_cards_are_those_of_the_methods_used(result):
    assert list(result.methods["method"]) == DEFAULT
    cards = result.methods.set_index("method")
    assert set(cards.index[cards["sees_target_labels"]]) == {"nap", "wccn"}
    aware = cards["domain_at_transform"]
    assert aware["center"]
    assert not aware["leace"]


def test_meta_says_what_was_done(result):
    meta = result.meta
    assert meta["datasets"] == ["a", "b"]
    assert meta["labels"] == ["cello", "clarinet"]
    assert meta["embeddings"] == ["synthetic"]
    assert meta["title"] == "Bias audit of synthetic on a and b"
    assert (meta["protocol"], meta["seed"], meta["files"]) == ("default", 0, [])
    assert meta["config"]["n_permutations"] == QUICK["n_permutations"]
    assert meta["config"]["pool"] == "mean"
    assert {"biasaudio", "python", "numpy", "scikit-learn"} <= set(meta["versions"])
    # No class shifts by itself in these clips, and the correction that looks for that says so.
    assert all("on held-out groups no strength of" in text for text in meta["warnings"])
    assert meta["excluded"] == []


def test_same_seed_gives_the_same_bytes_for_any_number_of_jobs():
    table = joined(arrays("a"), arrays("b", shift=1.0))
    options = {"methods": ["lda", "mlda", "center"], "modes": ["global", "classwise"], **QUICK}
    one, two = (biasaudio.audit(table, n_jobs=n, **options) for n in (1, 2))
    assert without_time(one.to_json()) == without_time(two.to_json())


def test_another_seed_gives_other_numbers():
    table = joined(arrays("a"), arrays("b", shift=0.5))
    one, two = (biasaudio.audit(table, methods=[], random_state=s, **QUICK) for s in (0, 1))
    assert not one.probes["auc"].equals(two.probes["auc"])
    assert two.meta["seed"] == 1


def test_the_table_that_is_audited_is_not_changed():
    table = joined(arrays("a"), arrays("b", shift=0.5))
    X, frame = table.X.copy(), table.clips.frame.copy()
    biasaudio.audit(table, methods=["center"], **QUICK)
    assert np.array_equal(table.X, X)
    pd.testing.assert_frame_equal(table.clips.frame, frame)


def test_both_modes_are_in_the_tables():
    table = joined(arrays("a"), arrays("b", shift=0.5))
    result = biasaudio.audit(table, methods="lda", modes=("global", "classwise"), **QUICK)
    assert set(result.transfer["mode"]) == {"global", "classwise"}
    assert set(result.comparisons["mode"]) == {"global", "classwise"}
    assert result.meta["config"]["modes"] == ["global", "classwise"]
