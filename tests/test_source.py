"""What would let a file or a name run code, or reach the network, is nowhere in the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    ROOT / "train_net.py",
    *sorted((ROOT / "iif_d2").rglob("*.py")),
    *sorted((ROOT / "projects").rglob("*.py")),
]
OWN_PICKLES = {
    "iif_d2/data/sharing.py": "what a rank of this run wrote, into a file that no other user may open",
}
# Names that are not called or inherited from, with the files where that is right, and why.
FORBIDDEN = {
    "eval": {}, "exec": {}, "compile": {}, "__import__": {},
    "os.system": {}, "os.popen": {}, "subprocess.getoutput": {}, "commands.getoutput": {},
    "pickle.load": {}, "marshal.loads": {}, "shelve.open": {}, "dill.load": {}, "joblib.load": {},
    "pickle.loads": OWN_PICKLES, "pickle.Unpickler": OWN_PICKLES,
    "pickle._Unpickler": {"iif_d2/files/safe_pickle.py": "it admits arrays and containers only"},
    "yaml.load": {}, "yaml.unsafe_load": {}, "yaml.full_load": {}, "yaml.load_all": {},
    "torch.hub.load": {}, "urllib.request.urlopen": {}, "urllib.request.urlretrieve": {},
    "requests.get": {}, "socket.create_connection": {},
    "zipfile.ZipFile.extractall": {}, "shutil.unpack_archive": {}, "tarfile.open": {},
}  # fmt: skip


def name_of(node):
    """a.b.c of an attribute or a name; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls_of(path):
    tree = ast.parse(path.read_text())
    whole = {}  # what a name of this file means
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            whole.update({alias.asname or alias.name: alias.name for alias in node.names})
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = name_of(node.func).partition(".")
            yield whole.get(first, first) + dot + rest, node
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            first, dot, rest = name_of(base).partition(".")
            yield whole.get(first, first) + dot + rest, node


def keyword(call, name):
    return next((k.value for k in call.keywords if k.arg == name), None)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_here_runs_what_a_file_says(path):
    where = str(path.relative_to(ROOT))
    for name, call in calls_of(path):
        line = f"{where}:{call.lineno}: {name}"
        assert where in FORBIDDEN.get(name, {where: ""}), line
        shell = keyword(call, "shell")
        assert shell is None or ast.literal_eval(shell) is False, f"{line} with a shell"
        pickles = keyword(call, "allow_pickle")
        assert pickles is None or ast.literal_eval(pickles) is False, f"{line} of pickles"
        if name == "torch.load" and where not in OWN_PICKLES:
            safe = keyword(call, "weights_only")
            assert safe is not None and ast.literal_eval(safe) is True, f"{line} not weights_only"
        if name.endswith(".merge_from_file"):
            unsafe = keyword(call, "allow_unsafe")
            assert (
                where.startswith("projects/classification") or ast.literal_eval(unsafe) is False
            ), line


def test_the_search_finds_what_it_is_for(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "from yaml import unsafe_load as l\nimport os as o\nl('')\no.system('')\neval('1')\n"
    )
    assert [name for name, _ in calls_of(path)] == ["yaml.unsafe_load", "os.system", "eval"]
