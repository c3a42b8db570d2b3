"""The experiments of the results table, on rendered images."""

import json
from pathlib import Path

import pytest


def test_experiments_run_once_and_leave_what_the_table_needs(rendered, tmp_path, capsys):
    import results_table
    import run_experiments

    words = ["--data", rendered, "--output", str(tmp_path / "runs"), "--epochs", "1"]
    words += ["--results", str(tmp_path / "results.jsonl"), "--only", "ce", "post_norcal", "--"]
    words += ["DATA.CHECK", "", "DATA.AUTOAUGMENT", "", "SOLVER.BATCH_SIZE", "96"]
    words += ["SOLVER.WARMUP_EPOCHS", "0.5"]
    run_experiments.main(words)
    text = (tmp_path / "results.jsonl").read_text()
    assert str(tmp_path) not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["run"] for line in lines] == ["ce_1ep_seed0", "post_norcal_1ep_seed0"]
    results = {line["name"]: line for line in lines}
    assert all("over 54 images" in "".join(line["log"]) for line in lines)
    assert results["ce"]["schedule"]["batch_size"] == 96
    assert results["post_norcal"]["trained_with"] == "Softmax"
    assert "AUTOAUGMENT: ''" in results["post_norcal"]["config"]
    assert results["post_norcal"]["command"].startswith("./train_net.py --config-file ./configs/")
    capsys.readouterr()
    run_experiments.main(words)
    assert capsys.readouterr().out == ""
    table = results_table.table(str(tmp_path / "results.jsonl"))
    assert f"| 1 | ce | {results['ce']['test']['top1']:.1f} |" in table


def test_a_failed_experiment_is_named(rendered, tmp_path):
    import run_experiments

    words = ["--data", rendered, "--output", str(tmp_path), "--results", str(tmp_path / "r.jsonl")]
    with pytest.raises(SystemExit, match="failed: post_norcal_60ep_seed0"):
        run_experiments.main([*words, "--only", "post_norcal", "--", "DATA.CHECK", ""])


def test_the_kept_results_give_the_pages_table():
    import results_table

    page = Path(results_table.__file__).with_name("README.md").read_text()
    assert results_table.table(str(Path(results_table.__file__).with_name("results.jsonl"))) in page
