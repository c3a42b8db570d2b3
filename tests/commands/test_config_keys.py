"""`python -m iif_d2 config`: every key is there, with its default and a meaning."""

import pytest
from detectron2.config import get_cfg

from iif_d2.commands import main
from iif_d2.config import KEYS, load_config
from iif_d2.methods import METHOD_REGISTRY, default_options


def flat(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_it_prints_every_key_that_the_package_adds(capsys):
    assert main(["config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    plain = dict(flat(get_cfg()))
    ours = {key: value for key, value in flat(load_config("")) if key not in plain}
    assert len(ours) > len(KEYS)
    for key, default in ours.items():
        line = lines.index(f"{key} = {default!r}")
        assert lines[line + 1].startswith("    ") and len(lines[line + 1].split()) > 3


@pytest.mark.parametrize("name", [name for name, _ in METHOD_REGISTRY])
def test_of_one_method_it_prints_the_options(name, capsys):
    assert main(["config", name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{name}: ")
    options = default_options(METHOD_REGISTRY.get(name))
    root = "MODEL.LONG_TAIL" if METHOD_REGISTRY.get(name).supports_background else "METHOD"
    assert out.count(" = ") >= len(options)
    for option, default in options.items():
        assert f"\n{root}.{name}.{option.upper()} = {default!r}\n    " in out
    assert options or "no options" in out


def test_an_unknown_method_is_named(capsys):
    assert main(["config", "Softmx"]) == 2
    assert "unknown method 'Softmx'; known: " in capsys.readouterr().err
