"""The house: small rooms, no circles, and who may enter where."""

import ast

import pytest

import utils

FOLDERS = ("training", "reading", "figures")
ROOMS = sorted(".".join(path.relative_to(utils.ROOT).with_suffix("").parts)
               for folder in (".", *FOLDERS) for path in (utils.ROOT / folder).glob("*.py"))


def source(room):
    return utils.ROOT.joinpath(*room.split(".")).with_suffix(".py").read_text()


def tree(room):
    return ast.parse(source(room))


def neighbours(room):
    """Return the rooms that a room imports, wherever in it."""
    found = set()
    for node in ast.walk(tree(room)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(ROOMS)


def reachable(room):
    """Return all rooms that a room leads to."""
    found, ahead = set(), neighbours(room)
    while ahead:
        found |= ahead
        ahead = {further for near in ahead for further in neighbours(near)} - found
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small(room):
    lines = source(room).splitlines()
    assert len(lines) <= 300
    assert [line for line in lines if len(line) > 100] == []
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in ast.walk(tree(room))
               if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    assert {name: length for name, length in lengths.items() if length > 50} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_no_way_leads_back(room):
    assert room not in reachable(room)


@pytest.mark.parametrize("folder", ["training", "reading"])
def test_a_constant_s_name_means_one_thing_in_its_folder(folder):
    names = [node.id for room in ROOMS if room.startswith(folder)
             for node in ast.walk(tree(room))
             if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.isupper()]
    assert sorted(names) == sorted(set(names))


def test_who_stays_apart():
    """The scripts don't know each other, no folder knows a script, and pictures no network."""
    for room in ROOMS:
        ahead = reachable(room)
        if "." in room:
            assert not ahead & {"train", "predict"}, room
        if room.startswith("reading."):
            assert not [each for each in ahead if not each.startswith("reading")], room
    assert "predict" not in reachable("train") and "train" not in reachable("predict")
    assert neighbours("figures.plots") == set()


def test_pictures_are_seen_without_a_network(run):
    code = "from reading import reader; import sys; print(*{'torch', 'matplotlib', 'torchvision'} & set(sys.modules))"
    process = run("-c", code)
    assert (process.returncode, process.stdout.split(), process.stderr) == (0, [], "")


def test_the_lectures_names_are_where_it_has_them():
    import predict
    import train

    for room, names in {train: "train validate training_process", utils: "get_accuracy plot_losses",
                        predict: "single_predict multi_predict predict_images"}.items():
        assert all(callable(getattr(room, name)) for name in names.split())
