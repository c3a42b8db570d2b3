"""`iif-d2 compare`: methods trained and tested alike, over seeds, in one table."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError, DataError, UnknownNameError
from ..files import write_atomically
from ..user_modules import import_modules
from .arguments import add_launcher_arguments, add_overrides, add_verbose
from .compared import write_comparison
from .own_data import OwnData, add_data_arguments

if TYPE_CHECKING:
    from ..engine.compare import Row
    from ..evaluation.comparison import SeedRun


EXAMPLE = """iif-d2 compare --methods Softmax IIF NorCal --seeds 0 1 --output output/compare \\
    --config-file Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_softmax.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", default="", help="a yaml config, for every method")
    parser.add_argument("--methods", nargs="+", default=[], help="such as Softmax IIF NorCal")
    parser.add_argument(
        "--rows-file", default="", metavar="YAML",
        help="instead of the two: rows of a name, config, options; see read_rows_file",
    )  # fmt: skip
    parser.add_argument(
        "--output", default="output/compare", metavar="DIR", help="folder of runs and tables"
    )
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows, by name")
    parser.add_argument("--seeds", type=int, nargs="+", help="default 0, or each row's own seeds")
    parser.add_argument(
        "--jobs", type=int, help="runs at once, one thread each; default 1, with --launcher all"
    )
    parser.add_argument(
        "--earlier", default="", metavar="CSV",
        help="results.csv of another machine: what it has is not run",
    )  # fmt: skip
    add_verbose(parser)
    parser.add_argument("--list", action="store_true", help="say what is done and stop")
    add_data_arguments(parser)
    add_launcher_arguments(parser, "each run")
    add_overrides(parser, "KEY VALUE overrides for every run; DATALOADER.NUM_WORKERS is 0")


def run(args: argparse.Namespace) -> str:
    return compare(
        args.config_file,
        args.methods,
        rows_file=args.rows_file,
        output=args.output,
        rows=args.rows or (),
        seeds=args.seeds or (),
        jobs=args.jobs,
        earlier=args.earlier,
        train=not args.list,
        data=OwnData.of(args),
        verbose=args.verbose,
        opts=args.opts,
        imports=args.imports,
        launcher=args.launcher,
        launcher_options=args.launcher_options,
    )


def compare(
    config_file: str = "",
    methods: Sequence[str] = (),
    *,
    rows_file: str = "",
    output: str = "output/compare",
    rows: Sequence[str] = (),
    seeds: Sequence[int] = (),
    jobs: int | None = None,
    earlier: str = "",
    train: bool = True,
    data: OwnData | None = None,
    verbose: bool = False,
    opts: Sequence[str] = (),
    imports: Sequence[str] = (),
    launcher: str = "",
    launcher_options: Sequence[str] = (),
) -> str:
    """Train and evaluate what is not done yet; write the table, results.csv and plots.

    Start it again to go on: a run that was stopped resumes from its last checkpoint. Runs made
    with other options are not mixed: `config_file` and `opts` must be those that `output` was
    begun with.

    Args:
        config_file: a yaml config; each of the `methods` takes the place of its METHOD.
        methods: names of the registry. Those that only change the test are evaluated on Softmax's
            model of the same seed, second stages train on it; it is trained where they need it.
        rows_file: a yaml of rows in place of the two; see `read_rows_file`.
        output: the folder of runs, results.csv, table.md and plots.
        rows: only these rows, by name, and those that they stand on.
        seeds: by default 0, or as many as each row of the file says.
        jobs: runs at once, each a process of one thread; by default one, with a launcher all.
        earlier: results.csv of another machine; what it has is not run, and is in the table.
        train: False runs nothing.
        data: annotations and folders of your own, in place of the config's data sets.
        verbose: print what the runs log, too.
        opts: KEY VALUE overrides of every run.
        imports: modules that every run imports first, such as one that registers your data.
        launcher, launcher_options: start each run as a job; see `engine.jobs.Jobs`.

    Returns:
        The table in Markdown, and where the files lie.

    Raises:
        IIFError: the arguments cannot work together, or a run failed.

    Examples:
        >>> print(compare("output/iif/config.yaml", ["Softmax", "IIF"], seeds=[0, 1], train=False))
        | method | AP | ...
    """
    from ..config import load_config
    from ..engine.compare import method_rows, train_rows
    from ..engine.jobs import Jobs
    from ..engine.rows_file import Figures, read_rows_file
    from ..evaluation.comparison import read_table

    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; at least one run at a time")
    if "TEST.EVAL_PERIOD" in opts:
        raise ConfigError("TEST.EVAL_PERIOD: a compared run is evaluated once, at its end")
    data, recipe = data or OwnData({}), []
    if not rows_file:
        config_file, recipe = data.recipe(config_file)
    if bool(rows_file) == bool(config_file and methods):
        raise ConfigError("give --config-file and --methods, or else --rows-file")
    import_modules(imports)
    begun_with = [*(["--config-file", config_file] if config_file else []), *data.words(), *opts]
    opts = [*data.overrides(), *recipe, *opts]
    if rows_file:
        every, figures = read_rows_file(rows_file)
    else:
        every, figures = method_rows(config_file, methods, opts), Figures()
    _check_options(output, begun_with, begin=train)
    todo = [(row, seed) for row in _chosen(every, rows) for seed in seeds or range(row.seeds)]
    known = read_table(earlier) if earlier else {}
    cfg = load_config(every[0].config, [*every[0].options, *opts])
    if not cfg.DATASETS.TEST:
        raise ConfigError(f"{every[0].config}: DATASETS.TEST is empty; name a set to compare on")
    if train:
        start = Jobs(launcher, os.path.join(output, "jobs"), launcher_options) if launcher else None
        todo = _not_in(known, todo)
        for row, seed in todo:
            data.keep(row.folder(output, seed))
        train_rows(output, every, todo, opts, jobs, imports, start, data.register, verbose)
    runs = _all_runs(output, every, known)
    return "\n".join(write_comparison(output, every, runs, figures, cfg))


def _chosen(rows: Sequence[Row], names: Iterable[str]) -> list[Row]:
    known = {row.name: row for row in rows}
    for name in names:
        if name not in known:
            raise UnknownNameError.of("row", name, known)
    wanted = set(names or known)
    wanted |= {known[name].base for name in wanted} - {""}
    return [row for row in rows if row.name in wanted]


def _not_in(earlier: Mapping, todo: list[tuple[Row, int]]) -> list[tuple[Row, int]]:
    """What is still to run; an earlier run whose model a new one stands on is run again."""
    new = {(row.name, seed) for row, seed in todo} - earlier.keys()
    new |= {(row.base, seed) for row, seed in todo if (row.name, seed) in new}
    return [(row, seed) for row, seed in todo if (row.name, seed) in new]


def _all_runs(
    output: str, rows: Sequence[Row], earlier: Mapping[tuple[str, int], SeedRun]
) -> list[SeedRun]:
    """Every row, with the seeds that are there; none is left out.

    An earlier run stays in the table where it was run again for its model: other rows of that table
    stand on it.
    """
    from ..evaluation.comparison import read_run

    bases = {row.base for row in rows}
    runs = []
    for row in rows:
        folder = os.path.dirname(row.folder(output, 0))
        names = os.listdir(folder) if os.path.isdir(folder) else []
        seeds = {int(n[4:]) for n in names if n.startswith("seed") and n[4:].isdigit()}
        seeds |= {seed for name, seed in earlier if name == row.name}
        for seed in sorted(seeds or {0}):
            here = read_run(row.name, seed, row.folder(output, seed))
            known = earlier.get((row.name, seed), here)
            runs.append(known if here.results is None or row.name in bases else here)
    return runs


def _check_options(output: str, options: list[str], begin: bool) -> None:
    """Refuse other options than those that the comparison was begun with; keep them at first."""
    from ..annotations.decoding import decode_json

    path = os.path.join(output, "options.json")
    if not os.path.exists(path):
        if begin:
            write_atomically(path, json.dumps(options) + "\n")
        return
    begun = decode_json(path, list[str], "a comparison's options")
    if begun != options:
        raise DataError(
            f"{path}: this comparison was begun with {' '.join(begun) or 'no options'}, not "
            f"{' '.join(options) or 'none'}; give another --output"
        )
