"""A file of rows: what a comparison trains where a list of methods does not say it all."""

from __future__ import annotations

import msgspec
import yaml

from ..errors import DataError
from ..files.untrusted import parse_yaml
from .compare import Row


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    config: str = ""
    options: dict[str, bool | int | float | str] = {}
    seeds: int = 1
    base: str = ""
    trains: bool = True


class Figures(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Figures beside the table and the plot of rows, by the names of rows.

    A row that was not run is left out of a figure, and a line says so.

    Attributes:
        models: label, softmax's row and IIF's row of each model whose APs stand side by side.
        norms: rows whose classifier norms are drawn, plain and times the method's factors.
        false_positives: rows whose false positives are counted at equal recall.
        differences: row and base of each difference that is told, paired by seed; by default each
            row over the first.
    """

    models: list[tuple[str, str, str]] = []
    norms: list[str] = []
    false_positives: list[str] = []
    differences: list[tuple[str, str]] = []


class _RowsFile(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[_Line]
    config: str = ""
    figures: Figures = Figures()


def read_rows_file(path: str) -> tuple[list[Row], Figures]:
    """The rows of a yaml file, in the order in which they run, and the figures it asks for.

    The fields of a row are those of `Row`, its options a mapping of config keys. `config` at the
    top is the config of the rows that name none.

        config: my.yaml
        rows:
          - {name: Softmax, seeds: 3}
          - {name: NorCal 0.3, options: {MODEL.LONG_TAIL.METHOD: NorCal,
             MODEL.LONG_TAIL.NorCal.GAMMA: 0.3}, base: Softmax, trains: false, seeds: 3}

    Raises:
        DataError: the file cannot be read, or a row cannot stand as it is.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = parse_yaml(file.read(), path)
        found = msgspec.convert(content, _RowsFile)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; check the path") from None
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise DataError(f"{path} is no file of rows: {error}; correct it there") from None
    rows: dict[str, Row] = {}
    for line in found.rows:
        config = line.config or found.config
        options = tuple(str(word) for pair in line.options.items() for word in pair)
        if line.name in rows:
            raise DataError(f"{path}: row {line.name!r} is there twice; names must be unique")
        if not config:
            raise DataError(f"{path}: row {line.name!r} has no config, and neither has the file")
        if line.base and line.base not in rows or not (line.base or line.trains):
            raise DataError(
                f"{path}: row {line.name!r} stands on {line.base!r}; name a row that is before it"
            )
        row = Row(line.name, config, options, line.seeds, line.base, line.trains)
        rows[line.name] = row
    if not rows:
        raise DataError(f"{path} has no rows; write at least one")
    return list(rows.values()), found.figures
