"""Files are written whole, and none is trusted."""

import io
import pickle
import random
import resource
import shutil
import tarfile
import zipfile

import pytest
import torch

from training import checkpoints
import utils
from model import LeNet5
from utils import LeNetError


def test_a_full_disk_leaves_the_old_checkpoint(checkpoint, tmp_path):
    shutil.copy(checkpoint, tmp_path / "net.pth")
    before = (tmp_path / "net.pth").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(LeNetError) as error:
            checkpoints.save_checkpoint(tmp_path / "net.pth", LeNet5().state_dict(), recipe="x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "could not be written" in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "net.pth").read_bytes() == before and not list(tmp_path.glob(".*.tmp"))


def test_a_file_is_replaced_and_not_overwritten(tmp_path):
    """Who is reading the old one, or is left with it after a kill, has it whole."""
    checkpoints.save_file(tmp_path / "file", "old")
    with open(tmp_path / "file", "rb") as old:
        checkpoints.save_file(tmp_path / "file", "new")
        assert (
            torch.load(old, weights_only=True) == "old"
            and checkpoints.read_file(tmp_path / "file") == "new"
        )


class Trap:
    """Unpickling this would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def variations(path):
    """Yield (name, content to save, part of the message) of checkpoints that must be refused."""
    good = torch.load(path, weights_only=True)

    def weights(**changes):
        return dict(good, weights=good["weights"] | changes)

    first = "feature_extractor.0.weight"
    bias = good["weights"]["classifier.2.bias"]
    yield "module", LeNet5(), "torch.save"
    yield "list", [1, 2], "does not hold the weights of model.py's network"
    yield "wrong keys", {"layer": torch.zeros(1)}, "does not hold the weights of model.py's network"
    yield (
        "one key more",
        weights(extra=torch.zeros(1)),
        "does not hold the weights of model.py's network",
    )
    yield (
        "wrong shape",
        weights(**{first: torch.zeros(6, 1, 3, 3)}),
        f"{first} has shape (6, 1, 3, 3)",
    )
    yield "12 classes", LeNet5(12).state_dict(), "classifier.2.weight has shape (12, 84)"
    yield "float64", weights(**{first: good["weights"][first].double()}), "torch.float64"
    yield "half", weights(**{first: good["weights"][first].half()}), "torch.float16"
    yield "nan", weights(**{"classifier.2.bias": bias * float("nan")}), "not finite"
    yield "infinite", weights(**{"classifier.2.bias": bias / 0}), "not finite"
    yield "a string for a tensor", weights(**{first: "zeros"}), "has shape str"
    yield (
        "no mean",
        {key: value for key, value in good.items() if key != "mean"},
        "'mean' is missing",
    )
    yield "epoch of wrong type", dict(good, epoch="last"), "'epoch' is missing or not of type int"
    yield "settings of wrong type", dict(good, settings=["classic"]), "'settings' is not of type dict"
    yield "no settings", dict(good, settings=None), "'settings' is not of type dict"
    yield "loss of wrong type", dict(good, valid_loss="low"), "'valid_loss' is not of type float"
    yield "other std", dict(good, std=0.5), "std 0.5"
    yield "newer", dict(good, format_version=99), "format version 99"
    yield "version of wrong type", dict(good, format_version="1"), "format_version is str"


NAMES = [
    "module",
    "list",
    "wrong keys",
    "one key more",
    "wrong shape",
    "12 classes",
    "float64",
    "half",
    "nan",
    "infinite",
    "a string for a tensor",
    "no mean",
    "epoch of wrong type",
    "settings of wrong type",
    "no settings",
    "loss of wrong type",
    "other std",
    "newer",
    "version of wrong type",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_refused_with_the_reason(checkpoint, tmp_path, name):
    content, message = {n: (c, m) for n, c, m in variations(checkpoint)}[name]
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(LeNetError) as error:
        checkpoints.load_checkpoint(tmp_path / "bad.pth")
    assert (
        message in str(error.value)
        and str(tmp_path / "bad.pth") in str(error.value)
        and "\n" not in str(error.value)
    )


def as_torchscript(path, trap):
    """A TorchScript archive of a module, as torch.jit.save writes it."""
    script = torch.jit.script(torch.nn.Linear(1, 1))
    torch.jit.save(script, path)


def as_saved(path, trap):
    torch.save({"weights": trap}, path)


def as_pickle(path, trap):
    path.write_bytes(pickle.dumps({"weights": trap}))


def as_legacy(path, trap):
    torch.save({"weights": trap}, path, _use_new_zipfile_serialization=False)


def as_tar(path, trap):
    """What torch.load takes for its format of 2016, and unpickles as it is (CVE-2025-32434)."""
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(trap, protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def as_zip(*names):
    """An archive of torch.save's with further members: torch.load gives it to torch.jit.load."""
    def write(path, trap):
        torch.save({"weights": torch.zeros(1)}, path)
        with zipfile.ZipFile(path, "a") as archive:
            for name in names:
                archive.writestr(f"archive/{name}", pickle.dumps(trap, protocol=2))

    return write


def as_tar_and_zip(path, trap):
    """A tar archive with a zip archive behind it: whoever looks for one from the end finds that."""
    as_tar(path, trap)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data.pkl", b"")


CRAFTED = [as_torchscript, as_saved, as_pickle, as_legacy, as_tar, as_tar_and_zip,
           as_zip("constants.pkl"), as_zip("constants.pkl", "code/__torch__.py"),
           as_zip("code/__torch__.py")]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("craft", CRAFTED)
def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, craft):
    """Nor is it given to what could run it, whatever this version of torch would do there."""
    def never(*args, **kwargs):
        raise AssertionError("TorchScript was asked")

    path = tmp_path / "trap.pth"
    craft(path, Trap(str(tmp_path / "run")))
    monkeypatch.setattr(torch.jit, "load", never)
    monkeypatch.setattr(torch.serialization, "_legacy_load", never)
    with pytest.raises(LeNetError, match="trap.pth (is not a checkpoint|holds a whole)") as error:
        checkpoints.load_checkpoint(path)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_what_a_setting_is_called_makes_no_file_suspect(tmp_path):
    settings = dict(data="/home/me/code/constants.pkl/set")
    checkpoints.save_checkpoint(tmp_path / "net.pth", LeNet5().state_dict(), settings=settings,
                                recipe="classic", seed=0, epoch=1)
    assert checkpoints.load_checkpoint(tmp_path / "net.pth")[1]["settings"] == settings


def test_a_truncated_checkpoint_is_refused_wherever_it_was_cut(checkpoint, tmp_path):
    whole = checkpoint.read_bytes()
    rng = random.Random(0)
    for offset in [0, 1, len(whole) - 1] + [rng.randrange(len(whole)) for _ in range(50)]:
        (tmp_path / "cut.pth").write_bytes(whole[:offset])
        with pytest.raises(LeNetError, match="cut.pth is not a checkpoint"):
            checkpoints.load_checkpoint(tmp_path / "cut.pth")


def test_a_flipped_byte_is_found_wherever_it_is(checkpoint, tmp_path):
    """But for those that only fill up: such a file is loaded as it was."""
    whole, good = checkpoint.read_bytes(), checkpoints.load_checkpoint(checkpoint)[0].state_dict()
    rng, refused = random.Random(0), 0
    for offset in [rng.randrange(len(whole)) for _ in range(100)]:
        flipped = bytearray(whole)
        flipped[offset] ^= 1 << rng.randrange(8)
        (tmp_path / "flipped.pth").write_bytes(flipped)
        try:
            model, _ = checkpoints.load_checkpoint(tmp_path / "flipped.pth")
            assert all(torch.equal(good[key], each) for key, each in model.state_dict().items())
        except LeNetError as error:
            refused += 1
            assert "flipped.pth is not a checkpoint that can be loaded safely: it is damaged" in str(
                error)
    assert refused > 90


def test_the_shipped_checkpoint_can_be_brought_back(tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "SHIPPED", tmp_path / "shipped.pth")
    for _ in "missing", "damaged":
        with pytest.raises(LeNetError, match="git checkout brings it back"):
            checkpoints.load_checkpoint(utils.SHIPPED)
        utils.SHIPPED.touch()


def test_random_bytes_and_missing_files_are_refused(tmp_path):
    (tmp_path / "random.pth").write_bytes(random.Random(0).randbytes(10_000))
    with pytest.raises(LeNetError, match="is not a checkpoint"):
        checkpoints.load_checkpoint(tmp_path / "random.pth")
    with pytest.raises(LeNetError, match="no such checkpoint"):
        checkpoints.load_checkpoint(tmp_path / "missing.pth")
    with pytest.raises(LeNetError, match="can't be read: "):  # a folder
        checkpoints.load_checkpoint(tmp_path)


def test_a_bare_state_dict_is_accepted(tmp_path):
    model = LeNet5()
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    loaded, metadata = checkpoints.load_checkpoint(tmp_path / "bare.pth")
    assert metadata == {} and all(
        torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters())
    )


def broken(*args, **kwargs):
    raise RuntimeError(
        "CUDA error: no kernel image is available for execution on the device\nCompile with ..."
    )


def test_a_gpu_that_cannot_be_used_is_told_of_and_left(monkeypatch, capsys):
    """Too old, say: it is found and keeps numbers, but computes nothing."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert utils.pick_device().type == "cpu" and capsys.readouterr() == ("", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(utils.torch, "ones", broken)
    assert utils.pick_device("auto").type == "cpu"
    out, err = capsys.readouterr()
    assert out == "" and err == (
        "cuda is there but can't be used (CUDA error: no kernel image is available for execution "
        "on the "
        "device); the CPU does the work\n"
    )
    with pytest.raises(ValueError, match="device 'cuda' is not available here"):
        utils.pick_device("cuda")
    assert capsys.readouterr() == ("", "")


def test_the_plain_state_dict_is_one_call_away():
    weights = torch.load(utils.SHIPPED)["weights"]
    assert LeNet5().load_state_dict(weights) and sum(map(torch.numel, weights.values())) == 61_706


def test_with_another_network_in_model_py_one_line_says_which_file_does_not_fit(
    checkpoint, monkeypatch
):
    """Neither the last run's network nor the shipped one: nothing is said to be read with."""
    monkeypatch.delenv("LENET5_CHECKPOINT")
    monkeypatch.setattr(utils, "CHECKPOINT", checkpoint)
    monkeypatch.setattr(checkpoints, "name_layers", lambda model: "another network")
    assert checkpoints.choose_checkpoint() == (utils.SHIPPED, None)


def test_inputs_are_made_of_arrays_as_of_tensors():
    views = torch.randint(256, (3, 28, 28), dtype=torch.uint8)
    assert torch.equal(utils.to_inputs(views), utils.to_inputs(views.numpy()))
