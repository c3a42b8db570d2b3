"""A checkpoint from the internet runs nothing, and the model zoo's own still load."""

import collections
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
import yaml

from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.config import load_config
from iif_d2.errors import CheckpointError, ConfigError
from iif_d2.files.untrusted import load_plain_pickle

ZOO = {
    "weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "swapped": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 4)),
    "number": np.float32(3),
    "ordered": collections.OrderedDict(a=[1, (2.5, None)], b=b"\xff", c=b""),
}


class Hostile:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return open, (self.trace, "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_load_in_every_protocol(tmp_path, protocol):
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(ZOO, protocol))
    loaded = load_plain_pickle(tmp_path / "zoo.pkl")
    assert loaded.keys() == ZOO.keys() and loaded["ordered"] == ZOO["ordered"]
    for name in ("weight", "columns", "swapped", "empty", "number"):
        np.testing.assert_array_equal(loaded[name], ZOO[name])
        assert (
            loaded[name].dtype == ZOO[name].dtype.newbyteorder("=")
            and loaded[name].shape == ZOO[name].shape
        )
    assert torch.from_numpy(loaded["columns"]).tolist() == ZOO["columns"].tolist()


def test_python_2s_latin_1_arrays_load(tmp_path):
    """As Caffe2's files have them: an array's bytes are a Python 2 str."""
    raw = np.array([1.5, -2.0], dtype="<f4").tobytes()
    content = (
        b"\x80\x02}U\x05blobs}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(raw)]) + raw + b"tbss."
    )
    assert pickle.loads(content, encoding="latin1")["blobs"]["w"].tolist() == [1.5, -2.0]
    (tmp_path / "c2.pkl").write_bytes(content)
    assert load_plain_pickle(tmp_path / "c2.pkl")["blobs"]["w"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("kind", ["pkl", "pkl0", "pth", "legacy pth", "pyth"])
@pytest.mark.parametrize("strict", [True, False], ids=["resume or evaluate", "MODEL.WEIGHTS"])
def test_a_hostile_pickle_runs_nothing(tmp_path, kind, strict):
    trace, path = tmp_path / "trace", tmp_path / f"hostile.{kind.rpartition(' ')[2].strip('0')}"
    content = {"model": {"weight": Hostile(trace)}, "__author__": "x"}
    if kind.startswith("pkl"):
        path.write_bytes(pickle.dumps(content, 0 if kind == "pkl0" else None))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind != "legacy pth")
    loader = LongTailCheckpointer(torch.nn.Linear(2, 2), str(tmp_path / "out"))
    loader.strict_shapes = strict
    with pytest.raises(CheckpointError, match=f"{path} cannot be read.*open"):
        loader.load(str(path))
    assert not trace.exists()
    pickle.loads(pickle.dumps(Hostile(trace)))
    assert trace.exists(), "the pickle is harmless, so this test shows nothing"


FORGED = {
    "objects from raw memory": np.array([None]),
    "structured": np.zeros(2, dtype=[("a", "f4")]),
    "text": np.array(["x"]),
    "a set": {1, 2},
    "a tensor": torch.ones(2),
    "a range": range(3),
}


@pytest.mark.parametrize("value", FORGED.values(), ids=FORGED.keys())
def test_everything_else_is_refused(tmp_path, value):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": value}))
    with pytest.raises(pickle.UnpicklingError, match="admitted"):
        load_plain_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x.",  # a bytearray of a terabyte
        b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",
        b"\x80\x02Nr\xff\xff\xff\xff.",  # the C unpickler takes 64 GB for this memo
        b"\x80\x02" + b"(" * 100_000 + b".",
        # An array of a terabyte with two bytes of content.
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt"
        b"S'b'\ntR(I1\n(L1099511627776L\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\ntRI00\nS'xx'\ntb.",
    ],
)
def test_bombs_take_no_memory(tmp_path, content):
    (tmp_path / "bomb.pkl").write_bytes(content)
    try:
        assert load_plain_pickle(tmp_path / "bomb.pkl") is None
    except pickle.UnpicklingError:
        pass


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    assert os.path.getsize(path) < 1_000_000
    with pytest.raises(CheckpointError, match="would grow to 50,000,000 bytes"):
        LongTailCheckpointer(torch.nn.Linear(2, 2)).load(str(path))


@pytest.mark.parametrize(
    "content", [[], {}, {"model": {}}, {"model": {"weight": "a"}}, {"model": 1}]
)
def test_what_is_no_checkpoint_says_so(tmp_path, content):
    for name in ("a.pth", "a.pkl"):
        path = tmp_path / name
        if name == "a.pth":
            torch.save(content, path)
        else:
            path.write_bytes(pickle.dumps({**content, "__author__": "x"} if content else content))
        with pytest.raises(CheckpointError, match=str(path)):
            LongTailCheckpointer(torch.nn.Linear(2, 2)).load(str(path))


def test_the_query_that_detectron2_knows_is_kept(tmp_path):
    model, path = torch.nn.Linear(2, 2), tmp_path / "a.pth"
    torch.save({"module.weight": torch.ones(2, 2), "module.bias": torch.ones(2)}, path)
    LongTailCheckpointer(model).load(f"{path}?matching_heuristics=True")
    assert model.weight.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(CheckpointError, match="asks for other"):
        LongTailCheckpointer(model).load(f"{path}?other=1")


class Zeros:
    def __reduce__(self):
        rebuild, arguments, state = np.zeros(3, np.uint8).__reduce__()
        return rebuild, arguments, (*state[:4], 1 << 30)


def test_an_array_of_zeros_by_number_is_refused(tmp_path):
    """Where bytes should be, a number: 80 bytes that would take as much memory as it says."""
    (tmp_path / "zeros.pkl").write_bytes(pickle.dumps({"w": Zeros()}))
    with pytest.raises(pickle.UnpicklingError, match="an array's content is a int"):
        load_plain_pickle(tmp_path / "zeros.pkl")


def test_an_address_cannot_say_where_its_copy_goes(tmp_path):
    loader = LongTailCheckpointer(torch.nn.Linear(2, 2), str(tmp_path))
    with pytest.raises(CheckpointError, match=r"has '\.\.' in its address"):
        loader.load("https://x.invalid/../../.ssh/rc")


def test_detectron2s_own_dump_names_equal_lists_by_aliases_and_loads(tmp_path):
    path, text = tmp_path / "config.yaml", load_config("").dump()
    assert "*id001" in text
    path.write_text(text)
    assert yaml.safe_load(load_config(str(path)).dump()) == yaml.safe_load(text)


@pytest.mark.parametrize("text", [
    "a: &a [1]\nb: &b [*a]\n",  # could go on, twice as many values each time
    "a: &a {b: *a}\n",
    "a: &a 1\nb: [" + "*a, " * 101 + "]\n",
])  # fmt: skip
def test_aliases_that_could_multiply_are_refused(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(
        ConfigError, match="own.yaml is not valid yaml: an alias .* write the value"
    ):
        load_config(str(path))
