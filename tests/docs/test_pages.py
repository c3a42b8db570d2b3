"""The generated pages hold what is registered."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from iif_d2.commands import COMMANDS
from iif_d2.config import KEYS, load_config
from iif_d2.methods import METHOD_REGISTRY, default_options

pytest.importorskip("mkdocs", reason="`make docs` installs it")
ROOT = Path(__file__).parents[2]
METHODS = [name for name, _ in METHOD_REGISTRY]


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_page_has_its_equation_and_a_config_that_loads(name, hooks):
    page, method = hooks.method_page(name), METHOD_REGISTRY.get(name)
    assert method.__doc__.split("\n")[0] in page
    assert f"[{name}]({name}.md)" in hooks.methods_page()
    for option in default_options(method):
        assert re.search(rf"^`{option.upper()}` = .*\n:   .{{10}}", page, re.MULTILINE), option
    if method.supports_background:
        node = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
        node = node["MODEL"]["LONG_TAIL"]
        pairs = ["MODEL.LONG_TAIL.METHOD", node.pop("METHOD")]
        for option, value in node.get(name, {}).items():
            pairs += [f"MODEL.LONG_TAIL.{name}.{option}", str(value)]
        assert load_config("", pairs).MODEL.LONG_TAIL == load_config("", pairs[:2]).MODEL.LONG_TAIL


def test_a_methods_page_says_when_to_use_it_as_choosing_does(hooks):
    choices = hooks.choices()
    assert {"IIF", "NorCal", "Seesaw"} < set(choices) <= set(METHODS)
    assert f"    {choices['NorCal']}." in hooks.method_page("NorCal")


def test_a_methods_results_are_those_of_the_benchmark(hooks, monkeypatch, tmp_path):
    (tmp_path / "rows.yaml").write_text(
        "config: Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_softmax.yaml\n"
        "rows: [{name: plain}, {name: ours, options: {MODEL.LONG_TAIL.METHOD: IIF}}]\n"
    )
    numbers = "AP,APr,APc,APf,box AP,box APr"
    (tmp_path / "results.csv").write_text(
        f"row,seed,{numbers}\nplain,0,1,1,1,1,1,1\nours,0,10,2,3,4,5,6\nours,1,20,2,3,4,5,6\n"
        "ours,2,not run,not run,not run,not run,not run,not run\n"
    )
    (tmp_path / "rows_sgd.yaml").write_text((tmp_path / "rows.yaml").read_text())
    (tmp_path / "sgd").mkdir()
    (tmp_path / "sgd" / "results.csv").write_text(f"row,seed,{numbers}\nours,0,7,2,3,4,5,6\n")
    monkeypatch.setattr(hooks, "BENCHMARK", tmp_path)
    assert hooks.benchmark_rows("IIF").splitlines()[2:] == [
        "| SGD | ours | 1 | 7.0 | 2.0 | 3.0 | 4.0 | 5.0 | 6.0 |",
        "| AdamW | ours | 2 | 15.0 ± 7.1 | 2.0 ± 0.0 | 3.0 ± 0.0 | 4.0 ± 0.0 | 5.0 ± 0.0 | 6.0 ± 0.0 |",
    ]
    assert "| AdamW | plain | 1 | 1.0 |" in hooks.benchmark_rows("Softmax")
    assert hooks.benchmark_rows("Seesaw") == ""


def test_the_keys_page_has_every_key(hooks):
    page = hooks.keys_page()
    for key in KEYS:
        section, _, name = key.name.rpartition(".")
        assert f"## {section}\n" in page and f"`{name}` = `{key.default!r}`" in page


def test_the_commands_page_has_every_help(hooks):
    page = hooks.commands_page()
    for name in COMMANDS:
        assert f"## {name}\n\n```text\nusage: iif-d2 {name} " in page
    assert max(map(len, page.splitlines())) < 300


def test_the_notebooks_page_has_its_text_code_and_outputs(hooks):
    png = {"data": {"image/png": "iVBORw==", "text/plain": "<Figure>"}}
    cells = [
        {"cell_type": "markdown", "source": ["# Why\n", "[more](../../docs/why.md)"]},
        {"cell_type": "code", "source": ["f()"], "outputs": [{"text": ["a\n", "b\n"]}, png]},
        {
            "cell_type": "code",
            "source": "g()",
            "outputs": [png, {"data": {"text/markdown": "|x|"}}],
        },
    ]
    page, pictures = hooks.notebook_page({"cells": cells})
    assert page.split("\n\n") == [
        "# Why\n[more](why.md)",
        "```python\nf()\n```",
        "```text\na\nb\n```",
        "![What the code above draws](images/notebook/1.png)",
        "```python\ng()\n```",
        "![What the code above draws](images/notebook/2.png)",
        "|x|",
    ]
    assert set(pictures.values()) == {b"\x89PNG"} and len(pictures) == 2


def test_plain_text_keeps_its_characters(hooks):
    import markdown

    text = "w_{y_i} * [a] `b_c` <data set> & *d* \\ |"
    assert markdown.markdown(hooks.escape(text)) == (
        "<p>w_{y_i} * [a] <code>b_c</code> &lt;data set&gt; &amp; *d* \\ |</p>"
    )


def test_a_table_of_another_file_is_named_by_its_header(hooks, tmp_path):
    path = tmp_path / "page.md"
    path.write_text("text\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n| a | c |\n|---|---|\n| 3 | 4 |\n")
    assert hooks.table_of(path, "| a | c |") == "| a | c |\n|---|---|\n| 3 | 4 |\n"
    with pytest.raises(ValueError, match="2 tables"):
        hooks.table_of(path, "| a |")
    with pytest.raises(ValueError, match="0 tables"):
        hooks.table_of(path, "| d |")


def test_a_page_that_would_load_from_the_network_is_found(hooks):
    found = hooks.LOADED.findall
    assert found('<script src="https://a.b/c.js">') == ["https://a.b/c.js"]
    assert found('<link rel="stylesheet" href="//a.b/c.css">') == ["//a.b/c.css"]
    assert not found(
        '<link rel="canonical" href="https://a.b"><script src="c.js"><a href="https://d">'
    )


PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_the_tables_of_a_page_are_those_of_their_files(hooks, page):
    """Else: python docs/hooks.py."""
    text = page.read_text(encoding="utf-8")
    assert hooks.with_tables(text) == text


def test_a_table_is_put_below_its_marker_once(hooks, monkeypatch, tmp_path):
    table = "| a   | b |\n|--|--|\n| 1   | 2 |"
    (tmp_path / "t.md").write_text(f"# T\n\n{table}")
    monkeypatch.setattr(hooks, "ROOT", tmp_path)
    marker = "<!-- table: t.md | a | -->"
    whole = f"Before\n\n{marker}\n\n{table}\n\nAfter\n"
    assert hooks.with_tables(f"Before\n\n{marker}\n\nAfter\n") == whole
    assert hooks.with_tables(whole) == whole


@pytest.mark.parametrize(
    "page",
    ["README.md", "MODEL_ZOO.md", "CONTRIBUTING.md"]
    + [f"docs/{page.name}" for page in PAGES]
    + [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("projects/*/README.md"))],
)
def test_links_lead_to_files_where_the_repository_is_read(page):
    path = ROOT / page
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    links = [link for link in links if not re.match(r"https?:|mailto:", link)]
    assert [link for link in links if not path.parent.joinpath(link).exists()] == []
