"""Cards and weights on disk: checksums, kills at every step, hostile files, strict JSON."""

import codecs
import copy
import importlib
import json
import math
import os
import random
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save
from seqzoo.zoo import catalogue, model_files, plain_json, store
from seqzoo.zoo.parts import likelihoods
from seqzoo.zoo.recipes import find, ppc
from seqzoo.zoo.runs.run import run
from torch import nn

from seqzoo import zoo
from tests import fuzzing

SMALL = [
    name
    for name in zoo.shipped()
    if (catalogue.SHIPPED / f"{name}.safetensors").stat().st_size < 3e5
]


def vrae(hidden=4):
    return zoo.VRAE(6, 2, likelihoods.Bernoulli(6), hidden=hidden)


def copy_of(name, folder):
    """A folder with a shipped model, which may be damaged."""
    folder.mkdir(exist_ok=True)
    for ending, there in ((".json", store.CARD), (".safetensors", store.WEIGHTS)):
        (folder / there).write_bytes((catalogue.SHIPPED / f"{name}{ending}").read_bytes())
    return folder


def rewrite(folder, tensors=None, card=None):
    """Other weights, or another card, with the right checksum."""
    card = store.load_card(folder / store.CARD) if card is None else card
    content = save(tensors) if tensors is not None else (folder / store.WEIGHTS).read_bytes()
    model_files.save_pair(folder / store.WEIGHTS, folder / store.CARD, content, card)


# The checksum ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ppc/kf2", "ppc/order0", "ppc/refh"])
def test_a_flipped_bit_is_refused_wherever_it_is(name, tmp_path):
    folder = copy_of(name, tmp_path)
    whole = (folder / store.WEIGHTS).read_bytes()
    draw = random.Random(0)
    for at in {0, 8, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(20))}:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << draw.randrange(8)
        (folder / store.WEIGHTS).write_bytes(damaged)
        with pytest.raises(zoo.ModelError, match="checksum"):
            zoo.load(folder)


@pytest.mark.parametrize("checksum", [None, 3, ""])
def test_a_card_without_a_checksum_is_refused(checksum, tmp_path):
    folder = copy_of("ppc/kf2", tmp_path)
    card = json.loads((folder / store.CARD).read_text())
    card[model_files.CHECKSUM] = checksum
    (folder / store.CARD).write_text(json.dumps(card))
    with pytest.raises(zoo.ModelError, match="checksum"):
        zoo.load(folder)


def test_a_card_over_the_weights_of_another_run_is_refused(tmp_path):
    for name, bias in (("a", 0.0), ("b", 1.0)):
        net = vrae()
        nn.init.constant_(next(net.parameters()), bias)
        zoo.save(tmp_path / name, net)
    weights = (tmp_path / "b" / store.WEIGHTS).read_bytes()
    (tmp_path / "a" / store.WEIGHTS).write_bytes(weights)
    with pytest.raises(zoo.ModelError, match="those of another card"):
        zoo.load(tmp_path / "a")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_card_may_begin_with_a_byte_order_mark(encoding, tmp_path):
    folder = copy_of("ppc/kf2", tmp_path)
    path = folder / store.CARD
    card = store.load_card(path)
    path.write_bytes(json.dumps(card, ensure_ascii=False).encode(encoding))
    assert zoo.load(folder).card == card


# Kills -------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for kill -9: nothing is done after it, not even in ``finally``."""


@pytest.fixture
def kill(monkeypatch):
    """``kill(n)``: the n-th change of the disk from now on, and all later ones, do not happen."""
    left = [math.inf]

    def counted(function):
        def wrapped(*args, **rest):
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return function(*args, **rest)

        return wrapped

    for owner, name in (
        *((os, name) for name in ("replace", "unlink", "mkdir", "rmdir", "link", "fsync")),
        *((Path, name) for name in ("write_bytes", "unlink", "touch", "mkdir", "rmdir")),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))

    def start(number):
        left[0] = number

    return start


def state_of(folder):
    """The title of a whole model, with the weights that belong to it; None if it is refused."""
    try:
        net = zoo.load(folder)
    except zoo.ModelError:
        return None
    return net.card["title"], float(next(net.parameters()).detach().flatten()[0])


def marked(value):
    net = zoo.REFH(2, 2, likelihoods.Bernoulli(2))
    nn.init.constant_(next(net.parameters()), value)
    return net


def test_a_save_killed_at_any_step_leaves_one_whole_model(kill, tmp_path):
    """Nothing is lost, and a later save works; the first model of a folder included."""
    steps = 0
    while True:
        folder = tmp_path / str(steps)
        for title, value, before in (("A", 1.0, None), ("B", 2.0, ("A", 1.0))):
            kill(steps)
            try:
                zoo.save(folder, marked(value), title=title)
                done = True
            except Killed:
                done = False
            kill(math.inf)
            assert state_of(folder) in ((title, value), before)
            assert not done or state_of(folder) == (title, value)
            zoo.save(folder, marked(value), title=title)
            assert state_of(folder) == (title, value)
        for crash in range(steps):  # one killed save after another
            kill(crash)
            with pytest.raises(Killed):
                zoo.save(folder, marked(3.0), title="C")
            kill(math.inf)
            assert state_of(folder) in (("B", 2.0), ("C", 3.0))
        if done:
            break
        steps += 1
    assert steps > 3


def test_a_run_killed_at_any_step_leaves_one_whole_run(kill, tmp_path, monkeypatch):
    monkeypatch.setattr(ppc, "STEPS", 30)
    changes = {"data.sequences": 2, "data.steps": 8, "fit.epochs": 1, "model.hidden": 4}
    tvae = find("ppc/tvae").override(changes)
    for recipe, seed, name in ((tvae, 0, "A"), (tvae.override({"fit.lr": 0.01}), 1, "B")):
        run(recipe, seed, tmp_path / name, device="cpu", progress=False)
    whole = {name: load_file(tmp_path / name / store.WEIGHTS) for name in "AB"}
    step = 0
    while True:
        folder = tmp_path / f"step{step}"
        folder.mkdir()
        for file in (store.WEIGHTS, store.CARD):
            (folder / file).write_bytes((tmp_path / "A" / file).read_bytes())
        kill(step)
        try:
            run(recipe, seed, folder, device="cpu", progress=False, overwrite=True)
            done = True
        except Killed:
            done = False
        kill(math.inf)
        net = zoo.load(folder)
        tensors = net.state_dict()
        same = whole["AB"[net.card["seed"]]]
        assert all(torch.equal(tensors[key], same[key]) for key in same)
        if done:
            break
        run(recipe, seed, folder, device="cpu", progress=False, overwrite=True)
        assert sorted(os.listdir(folder)) == [store.CARD, store.WEIGHTS]
        assert zoo.load(folder).card["seed"] == 1
        step += 1
    assert step > 5


# Weights that do not fit -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.fill_(math.nan),
        lambda value: value.index_fill_(0, torch.tensor([0]), math.inf),
        *(
            lambda value, kind=kind: value.to(kind)
            for kind in (torch.int8, torch.int64, torch.bool)
        ),
        *(lambda value, kind=kind: value.to(kind) for kind in (torch.half, torch.bfloat16)),
        lambda value: value.to(torch.complex64),
        lambda value: value.to(torch.float8_e4m3fn),
    ],
    ids=["nan", "inf", "int8", "int64", "bool", "half", "bfloat16", "complex", "float8"],
)
@pytest.mark.parametrize("name", ["ppc/kf2", "ppc/refh", "ppc/rvae"])
def test_weights_of_another_kind_are_refused(name, change, tmp_path):
    folder = copy_of(name, tmp_path)
    tensors = load_file(folder / store.WEIGHTS)
    key = max(tensors)
    tensors[key] = change(tensors[key])
    rewrite(folder, tensors)
    with pytest.raises(zoo.ModelError, match=key):
        zoo.load(folder)


@pytest.mark.parametrize("name", ["ppc/order0", "ppc/kf2", "ppc/refh"])
def test_weights_of_another_model_are_refused(name, tmp_path):
    folder = copy_of(name, tmp_path)
    rewrite(folder, load((catalogue.SHIPPED / "ppc/trbm.safetensors").read_bytes()))
    with pytest.raises(zoo.ModelError, match="does not fit"):
        zoo.load(folder)


@pytest.mark.parametrize("kind", [torch.half, torch.bfloat16, torch.double])
def test_a_network_keeps_its_precision(kind, tmp_path):
    zoo.save(tmp_path, vrae().to(kind))
    assert {value.dtype for value in zoo.load(tmp_path).parameters()} == {kind}


class Masked(zoo.Described, nn.Module):
    """A user's, with minus infinity in a buffer, as masks of attention have it."""

    def __init__(self, size):
        super().__init__()
        self.register_buffer("mask", torch.full((size,), -math.inf))
        self.weight = nn.Parameter(torch.ones(size))


def test_infinity_that_a_network_is_built_with_is_kept(tmp_path):
    zoo.save(tmp_path, Masked(3))
    assert zoo.load(tmp_path, classes=[Masked]).mask.isinf().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_could_not_be_loaded_is_not_saved(value, tmp_path):
    for net in (marked(value), Masked(3)):
        nn.init.constant_(next(net.parameters()), value)
        with pytest.raises(zoo.ModelError, match="NaN or infinity"):
            zoo.save(tmp_path / "model", net)
    assert not (tmp_path / "model").exists()


# Names, devices, sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [None, 3, 2.5, True, ["ppc/refh"], b"ppc/refh", {}, "", "a\0b", "x" * 5000, "../ppc"],
    ids=range(11),
)
@pytest.mark.parametrize("use", [zoo.load, zoo.card, lambda name: zoo.save(name, vrae())])
def test_what_is_no_name_is_a_model_error(use, name, tmp_path, monkeypatch):
    (tmp_path / "ppc").mkdir()
    (tmp_path / "ppc" / "mine.txt").touch()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(zoo.ModelError):
        use(name)
    assert os.listdir(tmp_path / "ppc") == ["mine.txt"]


@pytest.mark.parametrize(
    "device", ["cuda:99", "meta", "hpu:0", "warp", "", None, 2.5, [], b"cpu"], ids=str
)
def test_a_device_that_is_not_here_is_a_model_error(device):
    with pytest.raises(zoo.ModelError, match="device"):
        zoo.load("ppc/kf2", device)


def sizes(part, path=()):
    """The places of all whole numbers among the arguments of a part."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        if isinstance(value, (dict, list)):
            yield from sizes(value, (*path, key))
        elif type(value) is int:
            yield (*path, key)


def put(content, path, value):
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


@pytest.mark.parametrize("name", ["ppc/refh", "ppc/tvae", "ppc/kf1", "balls/mean", "jsb/vosp-nade"])
def test_an_absurd_size_is_refused_before_the_memory_is_taken(name, tmp_path):
    card = zoo.card(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in list(sizes(card["configuration"]["model"])):
        for size in (10**9, 10**13, 10**40):
            folder = copy_of(name, tmp_path)
            changed = zoo.card(name)
            put(changed["configuration"]["model"], path, size)
            rewrite(folder, card=changed)
            with pytest.raises(zoo.ModelError):
                zoo.load(folder)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kB
    assert grown < 400_000


# JSON --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        {"value": math.nan, "also": {"IW-50": math.inf, "a/b~c": [-math.inf, 1.0]}},
        {"value": 1.5, "sd": None, "also": {}, "n": [1, True, "inf"]},
    ],
)
def test_json_has_no_nan_and_gives_it_back(content):
    text = plain_json.dumps(content)
    strict = json.loads(text, parse_constant=pytest.fail)
    assert ("not_finite" in strict) == math.isnan(content["value"])
    assert repr(plain_json.loads(text)) == repr(content)


def test_json_takes_numbers_of_torch_and_numpy():
    found = plain_json.dumps({"a": torch.tensor([1.0, math.inf]), "b": np.float32("nan")})
    assert json.loads(found) == {
        **{"a": [1.0, None], "b": None},
        "not_finite": {"/a/1": "inf", "/b": "nan"},
    }


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 100_000, '{"a": NaN}', '{"a": -Infinity}', '{"a": ' + "9" * 5000 + "}"),
        *('{"not_finite": {"/a/b": "inf"}}', '{"a": [], "not_finite": {"/a/x": "inf"}}'),
    ],
    ids=range(6),
)
def test_text_that_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):  # noqa: PT011 (the reason is another each time)
        plain_json.loads(text)


def test_a_figure_that_is_not_finite_is_written_and_read(tmp_path):
    zoo.save(tmp_path, vrae(), metric="NLL", unit="nats", value=math.inf)
    assert json.loads((tmp_path / store.CARD).read_text())["value"] is None
    assert zoo.load(tmp_path).card["value"] == math.inf


# Long and random ---------------------------------------------------------------------------------

VALUES = (
    *(None, True, False, 0, -1, 1, 2, 10**9, 10**13, 2**63, 10**40, 0.5, -1e308, 1e308, math.nan),
    *("", "x", "REFH", "tanh", [], [[]], {}, {"part": "REFH"}, {"part": "tensor", "data": [1]}),
    *({"part": "os.system"}, {"part": 3}, [10**9, 10**9], [1] * 50),
)


def places(value):
    """The places of everything in nested lists and dicts, however deep."""
    left = [((), value)]
    while left:
        path, inside = left.pop()
        for key, each in inside.items() if isinstance(inside, dict) else enumerate(inside):
            yield (*path, key)
            if isinstance(each, (dict, list)):
                left.append(((*path, key), each))


def damage(card, draw):
    """A field of a card changed, removed, nested deeply, or exchanged for another."""
    configuration = card.get("configuration")
    model = configuration.get("model") if isinstance(configuration, dict) else None
    found = list(places(model)) if isinstance(model, dict) else []
    path, kind = draw.choice(found or [()]), draw.randrange(5) if found else 4
    if kind == 0:
        put(model, path, copy.deepcopy(draw.choice(VALUES)))
    elif kind == 1:
        value = copy.deepcopy(draw.choice(VALUES))
        for _ in range(draw.choice((3, 100, 900))):
            value = [value] if draw.random() < 0.5 else {"part": "REFH", "likelihood": value}
        put(model, path, value)
    elif kind == 2:
        parent = model
        for key in path[:-1]:
            parent = parent[key]
        del parent[path[-1]]
    elif kind == 3:
        put(model, path, zoo.card(draw.choice(SMALL))["configuration"]["model"])
    else:
        put(card, draw.choice(list(places(card))), copy.deepcopy(draw.choice(VALUES)))


@pytest.mark.slow
def test_hostile_cards_load_or_are_refused(tmp_path):
    """They run no code, and take no memory: an audit hook and a limit see to both."""
    armed = [False]

    def audit(event, _):
        if armed[0] and (
            event in ("exec", "os.system", "subprocess.Popen", "socket.connect", "compile")
            or event.startswith("os.exec")
        ):
            raise AssertionError(f"a card made the program do {event}")

    for name in SMALL:  # whatever is imported late
        zoo.load(copy_of(name, tmp_path))
    for module in ("torch._dynamo", "torch._subclasses.schema_check_mode"):
        importlib.import_module(module)  # torch itself does so, for some operations
    for encoding in ("utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        codecs.lookup(encoding)  # in which JSON may be written
    sys.addaudithook(audit)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for draw in fuzzing.rounds():
        folder = copy_of(draw.choice(SMALL), tmp_path)
        card = store.load_card(folder / store.CARD)
        for _ in range(draw.choice((0, 1, 1, 2, 3))):
            damage(card, draw)
        try:
            rewrite(folder, card=card)
        except zoo.ModelError:  # it cannot be written
            continue
        if draw.random() < 0.4:
            path = folder / store.CARD
            path.write_bytes(fuzzing.mutate(path.read_bytes(), draw))
        if draw.random() < 0.1:
            path = folder / store.WEIGHTS
            path.write_bytes(fuzzing.mutate(path.read_bytes(), draw))
        armed[0] = True
        try:
            with suppress(zoo.ModelError):
                zoo.load(folder)
        finally:
            armed[0] = False  # or pytest could not show a failure: the hook lasts
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB


SAVES = """
import sys
from tests.zoo.test_cards import marked
from seqzoo import zoo
while True:
    for title, value in (("A", 1.0), ("B", 2.0)):
        zoo.save(sys.argv[1], marked(value), title=title)
"""


@pytest.mark.slow
def test_saves_killed_at_random_moments_leave_one_whole_model(tmp_path):
    root = str(Path(__file__).parents[2])
    script = f"import sys; sys.path.insert(0, {root!r}){SAVES}"
    zoo.save(tmp_path / "model", marked(1.0), title="A")
    for number in range(fuzzing.KILLS):
        seconds = random.Random(number).uniform(4, 8)
        command = [sys.executable, "-c", script, str(tmp_path / "model")]
        assert fuzzing.run_and_stop(command, seconds, signal.SIGKILL) == -signal.SIGKILL
        assert state_of(tmp_path / "model") in (("A", 1.0), ("B", 2.0))
    zoo.save(tmp_path / "model", marked(3.0), title="C")
    assert state_of(tmp_path / "model") == ("C", 3.0)


@pytest.mark.slow
def test_trainings_killed_at_random_moments_end_with_the_same_bytes(tmp_path):
    words = ["train", "ppc/rvae", "--quick", "--set", "data.sequences=4", "--set", "data.steps=50"]
    words += ["--set", "fit.epochs=40", "--overwrite"]

    def command(out):
        main = "from seqzoo.zoo.cli import main; main()"
        return [sys.executable, "-c", main, *words, "--out", str(tmp_path / out)]

    assert fuzzing.run_and_stop(command("whole"), 600, signal.SIGKILL) is None
    whole = (tmp_path / "whole" / store.WEIGHTS).read_bytes()
    draw, kills, trained = random.Random(fuzzing.SEED), 0, 0
    while kills < fuzzing.KILLS:
        number = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        ended = fuzzing.run_and_stop(command(f"run{trained}"), draw.uniform(3, 15), number)
        folder = tmp_path / f"run{trained}"
        if ended is not None:
            kills += 1
            if not (folder / store.CARD).is_file():
                continue
        assert (folder / store.WEIGHTS).read_bytes() == whole
        zoo.load(folder)
        trained += 1


@pytest.mark.parametrize("value", [1.5, 1e9])
def test_a_number_that_no_weight_depends_on_is_refused_where_it_was_changed(tmp_path, value):
    folder = copy_of("ppc/rvae", tmp_path)
    card = json.loads((folder / store.CARD).read_text())
    card["configuration"]["model"]["past_scale"][0] = value
    (folder / store.CARD).write_text(json.dumps(card))
    with pytest.raises(store.ModelError, match="configuration"):
        zoo.load(folder)
    card.pop(model_files.SETTINGS)
    (folder / store.CARD).write_text(json.dumps(card))
    with pytest.raises(store.ModelError, match="configuration"):
        zoo.load(folder)
