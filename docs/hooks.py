"""The pages that mkdocs generates from the package, and the tables that pages include.

A page of a method, of the config keys or of the commands is made from what is registered, so that
it is never out of date. Markers in a page's Markdown, each on a line of its own:

    <!-- table: FILE | FIRST HEAD | ... -->   the table of FILE whose header starts like this

`python docs/hooks.py` writes these tables below their markers, for who reads the pages in the
repository.

The notebook is a page, too, with the outputs that are kept in it.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import inspect
import io
import json
import logging
import os
import re
from collections import defaultdict
from pathlib import Path
from unittest import mock

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from iif_d2.commands import COMMANDS, main
from iif_d2.config import KEYS
from iif_d2.files.tables import spread
from iif_d2.methods import METHOD_REGISTRY, LongTailMethod, default_options, option_meanings

logger = logging.getLogger("mkdocs.hooks")
ROOT = Path(__file__).resolve().parents[1]
BENCHMARK = ROOT / "projects" / "benchmark"
NOTEBOOK = ROOT / "projects" / "notebooks" / "mini_lvis.ipynb"
REGIMES = (("SGD", "rows_sgd.yaml", "sgd/results.csv"), ("AdamW", "rows.yaml", "results.csv"))
# A marker, and the table below it as the page in the repository has it.
TABLE = re.compile(
    r"^(?P<marker><!-- table: (?P<file>[^|]+?) (?P<header>\|.*?) *-->)\n(?:\n(?:\|.*\n)+)?",
    re.MULTILINE,
)
# Links that work where the repository is read, and where they lead on the site.
LINKS = (
    (re.compile(r"\[(\w+)\]\(\.\./iif_d2/methods/\w+\.py\)"), r"[\1](methods/\1.md)"),
    (re.compile(r"\]\(\.\./projects/benchmark/([\w/]+\.png)\)"), r"](images/benchmark/\1)"),
    (re.compile(r"\]\(\.\./projects/notebooks/\w+\.ipynb\)"), "](notebook.md)"),
    (re.compile(r"\]\(\.\./CONTRIBUTING\.md(#[\w-]+)?\)"), r"](contributing.md\1)"),
)
CODE_OF = """::: {}.{}
    options:
      members: false
      show_bases: false
      show_root_heading: false
      show_docstring_description: false
      show_docstring_examples: false
      show_docstring_parameters: false"""
LOADED = re.compile(
    r"<(?:script|img|iframe|link(?=[^>]*stylesheet|[^>]*preconnect))[^>]*"
    r"""(?:src|href)=["']?((?:https?:)?//[^"' >]+)"""
)
COLUMNS = ("AP", "APr", "APc", "APf", "box AP", "box APr")


# -- what mkdocs calls -----------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> None:
    """Put each method's page below the page of all methods."""
    for section in config.nav:
        for entry in section.get("Use", ()):
            entry.get("Methods", []).extend({name: f"methods/{name}.md"} for name in method_names())


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the generated pages, the benchmark's figures and the notebook's."""
    story, pictures = notebook_page(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    pages = {
        "notebook.md": story,
        "methods/index.md": methods_page(),
        "keys.md": keys_page(),
        "commands.md": commands_page(),
    }
    pages |= {f"methods/{name}.md": method_page(name) for name in method_names()}
    for uri, content in (pages | pictures).items():
        files.append(File.generated(config, uri, content=content))
    for path in sorted(BENCHMARK.rglob("*.png")):
        uri = f"images/benchmark/{path.relative_to(BENCHMARK).as_posix()}"
        files.append(File.generated(config, uri, abs_src_path=str(path)))


def on_page_markdown(markdown: str, **_) -> str:
    """Take the tables as they are now, and links into the site; break no line before a ±."""
    whole = with_tables(markdown)
    for link, on_site in LINKS:
        whole = link.sub(on_site, whole)
    return whole.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def on_post_page(output: str, page: Page, **_) -> None:
    """Warn, which fails a strict build, where a page would load something from the network."""
    for what in LOADED.findall(output):
        logger.warning("%s loads %s; put it into docs/", page.file.src_uri, what)


# -- methods ---------------------------------------------------------------------------------------


def method_names() -> list[str]:
    """The registered methods in the order of the alphabet, the small letters as the capitals."""
    return sorted((name for name, _ in METHOD_REGISTRY), key=str.lower)


def methods_page() -> str:
    """All methods in a table: the equation of each, and a link to its page."""
    rows = []
    for name in method_names():
        equation, _, _ = docstring(METHOD_REGISTRY.get(name))
        rows.append(f"| [{name}]({name}.md) | {code(equation)} |")
    return "\n".join(
        [
            "# Methods",
            "",
            "`MODEL.LONG_TAIL.METHOD` takes any of these names; the node of the same name holds "
            "the options. [Choosing a method](../choosing.md) says where to start.",
            "",
            "In the equations z are the logits, y the label, R the number of regions, C the number "
            "of classes, n_c the training images with class c, pi_c its share n_c / sum n, sigma "
            "the sigmoid, and CE and BCE the softmax and binary cross-entropy.",
            "",
            "| method | what it computes |",
            "|---|---|",
            *rows,
        ]
    )


def method_page(name: str) -> str:
    """The page of a method: equation, when to use it, options, results."""
    method = METHOD_REGISTRY.get(name)
    equation, paragraphs, example = docstring(method)
    parts = [f"# {name}", f"```{{.text .equation}}\n{equation}\n```", *map(escape, paragraphs)]
    if when := choices().get(name):
        parts.append(f'!!! note "Use it when"\n    {when}.')
    parts += ["## At a glance", facts(method), "## Options", options(name, method)]
    if example:
        parts += ["## Example", f"```pycon\n{example}\n```"]
    if results := benchmark_rows(name):
        parts += [
            "## Results on mini_lvis",
            results,
            "Percent, mean ± standard deviation over seeds. "
            "[Results](../results.md) says how they were made and how far to trust them.",
        ]
    parts += ["## Code", CODE_OF.format(inspect.getmodule(method).__name__, name)]
    return "\n\n".join(parts)


def docstring(method: type[LongTailMethod]) -> tuple[str, list[str], str]:
    """A method's equation, the paragraphs after it up to `Args`, and its example."""
    text = inspect.cleandoc(method.__doc__ or "")
    body = re.split(r"\n(?=(?:Args|Attributes|Examples):\n)", text)[0]
    equation, *paragraphs = re.split(r"\n\s*\n", body.strip())
    example = re.search(r"^Examples:\n((?: {4}.*\n?|\n)+)", text, re.MULTILINE)
    return " ".join(equation.split()), paragraphs, inspect.cleandoc(example[1]) if example else ""


def facts(method: type[LongTailMethod]) -> str:
    """What a method serves and needs, as its class states it."""
    tasks = {
        "detection": method.supports_background,
        "classification": method.supports_no_background,
    }
    lines = [f"Serves {' and '.join(task for task, serves in tasks.items() if serves)}."]
    if method._loss is LongTailMethod._loss:
        lines.append("Trains with softmax cross-entropy: only the test is changed.")
    else:
        lines.append("Has a loss of its own.")
    if method.second_stage:
        lines.append("Is a second stage over a trained model, which stays frozen.")
    if method.has_state:
        lines.append("Gathers state while it trains, which is saved with the model.")
    return "\n".join(f"- {line}" for line in lines)


def options(name: str, method: type[LongTailMethod]) -> str:
    """The config node of a method, and what its keys mean."""
    given = default_options(method)
    detection = method.supports_background
    node = {name: {key.upper(): value for key, value in given.items()}} if given else {}
    if detection:
        node = {"MODEL": {"LONG_TAIL": {"METHOD": name, **node}}}
    else:
        node = {"METHOD": {"NAME": name, **node}}
    parts = [f"```yaml\n{yaml.safe_dump(node, sort_keys=False).rstrip()}\n```"]
    if not given:
        return "It has none.\n\n" + parts[0]
    meanings = option_meanings(method)
    for option, default in given.items():
        parts.append(f"`{option.upper()}` = `{default!r}`\n:   {escape(meanings[option])}")
    return "\n\n".join(parts)


def choices() -> dict[str, str]:
    """When to use which method: the rows `| [Name](its file) | when |` of choosing.md."""
    text = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\w+)\]\(\S+\) \| (.+?) \|$", text, re.MULTILINE)
    return {name: re.sub(r"\]\((?=\w)", "](../", when) for name, when in rows}


def benchmark_rows(name: str) -> str:
    """The rows of projects/benchmark whose method this is, as a table; "" where none was run."""
    lines = []
    for regime, rows_file, results in REGIMES:
        rows = yaml.safe_load((BENCHMARK / rows_file).read_text(encoding="utf-8"))
        runs = defaultdict(list)
        with open(BENCHMARK / results, encoding="utf-8", newline="") as file:
            for run in csv.DictReader(file):
                if "not run" not in run.values():
                    runs[run["row"]].append(run)
        for row in rows["rows"]:
            if row_method(row, rows["config"]) == name and (of_row := runs[row["name"]]):
                cells = [spread([float(run[key]) for run in of_row]) for key in COLUMNS]
                lines.append(
                    f"| {regime} | {' | '.join([row['name'], str(len(of_row)), *cells])} |"
                )
    if not lines:
        return ""
    head = ["trained by", "run", "seeds", "mask AP", *COLUMNS[1:]]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines])


def row_method(row: dict, config: str) -> str:
    """The method that a row of rows.yaml trains or evaluates."""
    if method := row.get("options", {}).get("MODEL.LONG_TAIL.METHOD"):
        return method
    from iif_d2.config import load_config

    return load_config(row.get("config", config)).MODEL.LONG_TAIL.METHOD


# -- config keys and commands ----------------------------------------------------------------------


def keys_page() -> str:
    """Every config key of the package, with its default and meaning; a method's on its page."""
    parts = [
        "# Config keys",
        "These are the keys that `add_iif_config` adds to Detectron2's. `iif-d2 config` prints the "
        "same list, and `iif-d2 config IIF` a method's. All of Detectron2's own keys work, too.",
    ]
    section = ""
    for key in KEYS:
        if (of := key.name.rpartition(".")[0]) != section:
            section = of
            parts.append(f"## {section}")
        parts.append(
            f"`{key.name.rpartition('.')[2]}` = `{key.default!r}`\n:   {escape(key.meaning)}"
        )
    parts.append("## The methods' options")
    for name in method_names():
        method = METHOD_REGISTRY.get(name)
        node = f"MODEL.LONG_TAIL.{name}" if method.supports_background else f"METHOD.{name}"
        if names := [f"`{option.upper()}`" for option in default_options(method)]:
            parts.append(f"[{node}](methods/{name}.md#options)\n:   {', '.join(names)}")
    return "\n\n".join(parts)


def commands_page() -> str:
    """What every command's --help says."""
    parts = [
        "# Commands",
        "`iif-d2 COMMAND` and `python -m iif_d2 COMMAND` are the same. Options and `KEY VALUE` "
        "pairs may stand in any order. A command ends with code 0, with 2 after one sentence on "
        "what was wrong with its input, with 130 after Ctrl-C.",
    ]
    for name in sorted(COMMANDS):
        parts += [f"## {name}", f"```text\n{help_of(name)}\n```"]
    return "\n\n".join(parts)


def help_of(name: str) -> str:
    """The text of `iif-d2 NAME --help`, in lines that fit the page."""
    said = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS="82", NO_COLOR="1"),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        main([name, "--help"])
    return said.getvalue().strip()


# -- the notebook ----------------------------------------------------------------------------------


def notebook_page(notebook: dict) -> tuple[str, dict[str, bytes]]:
    """A notebook's json as Markdown, and its pictures by their place among the pages."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source.replace("](../../docs/", "]("))
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            shown = output.get("data", {})
            if "image/png" in shown:
                place = f"images/notebook/{len(pictures) + 1}.png"
                pictures[place] = base64.b64decode(shown["image/png"])
                parts.append(f"![What the code above draws]({place})")
            elif "text/markdown" in shown:
                parts.append("".join(shown["text/markdown"]))
            else:
                said = "".join(output.get("text", shown.get("text/plain", ""))).rstrip()
                parts.append(f"```text\n{said}\n```")
    return "\n\n".join(parts), pictures


# -- text ------------------------------------------------------------------------------------------


def with_tables(markdown: str) -> str:
    """A page with the tables that its markers name, each below its marker."""
    return TABLE.sub(
        lambda found: f"{found['marker']}\n\n{table_of(ROOT / found['file'], found['header'])}",
        markdown,
    )


def table_of(path: Path, header: str) -> str:
    """The Markdown table of a file whose header line starts so.

    Raises:
        ValueError: there is none, or more than one.
    """
    text = path.read_text(encoding="utf-8")
    start = " +".join(map(re.escape, header.split()))  # cells may be padded
    found = re.findall(rf"^{start}.*\n(?:\|.*\n?)+", text, re.MULTILINE)
    if len(found) != 1:
        raise ValueError(f"{path}: {len(found)} tables start with {header!r}; docs/ names one")
    return found[0].rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Plain text as Markdown that shows it as it is; what stands in backticks stays code."""
    parts = re.split(r"(`+[^`]+`+)", text)
    for at in range(0, len(parts), 2):
        parts[at] = re.sub(r"([\\*_\[\]])", r"\\\1", parts[at].replace("&", "&amp;"))
        parts[at] = parts[at].replace("<", "&lt;")
    return "".join(parts)


def code(text: str) -> str:
    """Inline code, in a table's cell."""
    return f"`{text}`".replace("|", "\\|")


if __name__ == "__main__":
    for path in sorted((ROOT / "docs").glob("*.md")):
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
