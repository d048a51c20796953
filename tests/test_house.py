"""The house: small rooms, no circles, and who may enter where."""

import ast

import pytest

import utils

ROOMS = sorted(path.stem for path in utils.ROOT.glob("*.py"))


def tree(room):
    return ast.parse((utils.ROOT / f"{room}.py").read_text())


def neighbours(room):
    """Return the rooms that a room imports, wherever in it."""
    found = set()
    for node in ast.walk(tree(room)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found & set(ROOMS)


def reachable(room):
    """Return all rooms that a room leads to."""
    found, ahead = set(), neighbours(room)
    while ahead:
        found |= ahead
        ahead = {further for near in ahead for further in neighbours(near)} - found
    return found


def test_the_rooms_are_known():
    assert {"cores", "draw", "distort", "groups", "hands", "mine", "mnist", "model", "number", "picture", "pieces", "plots",
            "predict", "products", "recipe", "report", "restore", "sources", "train", "utils"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small(room):
    assert len((utils.ROOT / f"{room}.py").read_text().splitlines()) <= 450
    long = {node.name: node.end_lineno - node.lineno + 1 for node in ast.walk(tree(room))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno >= 60}
    assert long == {}


@pytest.mark.parametrize("room", ROOMS)
def test_no_way_leads_back(room):
    assert room not in reachable(room)


def test_who_stays_apart():
    assert "predict" not in reachable("train") and "train" not in reachable("predict")
    assert neighbours("plots") == neighbours("restore") == neighbours("cores") == neighbours("products") == set()  # one is asked last, the other first
    assert neighbours("picture") == {"restore"}
    assert neighbours("number") == {"groups", "picture", "pieces"}


def test_pictures_are_seen_without_a_network(run):
    code = "import number, picture, sys; print(*{'torch', 'matplotlib', 'torchvision'} & set(sys.modules))"
    process = run("-c", code)
    assert (process.returncode, process.stdout.split(), process.stderr) == (0, [], "")


def test_the_lectures_names_are_where_it_has_them():
    import predict
    import train

    for room, names in {train: "train validate training_process", utils: "get_accuracy plot_losses",
                        predict: "single_predict multi_predict predict_images"}.items():
        assert all(callable(getattr(room, name)) for name in names.split())
