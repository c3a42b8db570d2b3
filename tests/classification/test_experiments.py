"""The experiments of the results table, on rendered images."""

import json

import pytest


def test_experiments_run_once_and_leave_what_the_table_needs(rendered, tmp_path, capsys):
    import results_table
    import run_experiments

    words = ["--data", rendered, "--output", str(tmp_path / "runs"), "--epochs", "1"]
    words += ["--results", str(tmp_path / "results"), "--only", "ce", "post_norcal", "--"]
    words += ["DATA.CHECK", "", "DATA.AUTOAUGMENT", "", "SOLVER.BATCH_SIZE", "96"]
    words += ["SOLVER.WARMUP_EPOCHS", "0.5"]
    run_experiments.main(words)
    results = {}
    for name in ("ce", "post_norcal"):
        path = tmp_path / "results" / f"{name}_1ep_seed0.json"
        results[name] = json.loads(path.read_text())
        assert str(tmp_path) not in path.read_text() + path.with_suffix(".log").read_text()
        assert "over 54 images" in path.with_suffix(".log").read_text()
    assert results["ce"]["schedule"]["batch_size"] == 96
    assert results["post_norcal"]["trained_with"] == "Softmax"
    assert "AUTOAUGMENT: ''" in results["post_norcal"]["config"]
    assert results["post_norcal"]["command"].startswith("./train_net.py --config-file ./configs/")
    capsys.readouterr()
    run_experiments.main(words)
    assert capsys.readouterr().out == ""
    table = results_table.table(str(tmp_path / "results"))
    assert f"| 1 | ce | {results['ce']['test']['top1']:.1f} |" in table


def test_a_failed_experiment_is_named(rendered, tmp_path):
    import run_experiments

    words = ["--data", rendered, "--output", str(tmp_path), "--results", str(tmp_path)]
    with pytest.raises(SystemExit, match="failed: post_norcal_60ep_seed0"):
        run_experiments.main([*words, "--only", "post_norcal", "--", "DATA.CHECK", ""])
