"""A checkpoint or a config from the internet runs nothing and takes no memory that it has not."""

import pickle
import zipfile

import pytest
import torch
from iif_classification.config import load_config
from iif_classification.engine.checkpoint import load_model

from iif_d2.errors import CheckpointError, ConfigError

# Two to the forty values, all of them mappings.
BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}\n" for i in range(1, 41)
)
GOOD = {
    "model": {},
    "class_names": ["a", "b"],
    "image_count": torch.tensor([3, 1]),
    "num_images": 4,
}


class Hostile:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return open, (self.trace, "w")


def test_a_hostile_pickle_runs_nothing(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "hostile.pth"
    for zipped in (True, False):
        content = {**GOOD, "config": Hostile(trace)}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match=f"{path} cannot be read"):
            load_model(str(path))
        assert not trace.exists()
    pickle.loads(pickle.dumps(Hostile(trace)))
    assert trace.exists(), "the pickle is harmless, so this test shows nothing"


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    with pytest.raises(CheckpointError, match="would grow to 50,000,000 bytes"):
        load_model(str(path))


@pytest.mark.parametrize("config, message", [
    (BOMB, "an alias in what has an anchor"),
    ("!!python/object/apply:os.system ['true']", "cannot be read"),
    ("MODEL: [", "cannot be read"),
    ("- 1", "no KEY: VALUE"),
    ("MODEL: 1", "has no MODEL"),
    (3, "lacks 'config'"),
])  # fmt: skip
def test_the_config_in_a_checkpoint_is_as_dangerous_as_a_file(tmp_path, config, message):
    torch.save({**GOOD, "config": config}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message):
        load_model(str(tmp_path / "a.pth"))


@pytest.mark.parametrize("value", [[], 1, {}, {"model": 1}, {**GOOD, "image_count": "x"}])
def test_what_is_no_model_says_so(tmp_path, value):
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="a.pth lacks"):
        load_model(str(tmp_path / "a.pth"))


@pytest.mark.parametrize("text, message", [
    (BOMB, "an alias in what has an anchor"),
    ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ("_BASE_: own.yaml", "its own _BASE_"),
    ("MODEL: 3", "other keys belong under it"),
])  # fmt: skip
def test_a_hostile_config_is_refused(tmp_path, text, message):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(str(tmp_path / "own.yaml"))
