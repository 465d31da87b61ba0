"""Hostile settings on the command line: a sentence for each, no traceback, no code run."""

import builtins
import dataclasses
import os
import subprocess

import pytest
from seqzoo.zoo.recipes import RECIPES, find
from seqzoo.zoo.signature import accepted

from tests import fuzzing

pytestmark = pytest.mark.slow

NAMES = ["ppc/trbm", "ppc/rvae", "ppc/kf1", "jsb/vrae", "onetomany-class-t2/stptt", "balls/rvae"]
WORDS = [
    *("5", "-1", "0", "2.5", "1e999", "-1e-999", "nan", "inf", "1j", "0x10", "1_000", "9" * 5000),
    *("true", "False", "no", "off", "None", "null", "", " ", "''", '"x"', "text", "é²", "\0"),
    *("\udcff", "[]", "[1, 2]", "[1.5, 'a']", "(1,)", "{}", "{'': 0.1}", "{1: 2}", "{'a': {}}"),
    *("{1, 2}", "...", "Gaussian(15)", "Poisson(dim=true)", "MLP([2, 3])", "PPC(2, 10)", "EM()"),
    *("Gaussian(*[15])", "Gaussian(**{'dim': 15})", "Gaussian(15, dim=15)", "tensor([1.0])"),
    *("tensor([[1], [2, 3]])", "tensor('x')", "tensor([1], 'load')", "RVAE(1)", "LocalELBO(RVAE)"),
    *("__import__('os').system('x')", "os.system('x')", "eval('1')", "exec('x')", "a.b", "a[0]"),
    *("open('x', 'w')", "(lambda: 1)()", "lambda: 1", "[x for x in (1,)]", "f'{1}'", "x := 1"),
    *("(" * 500, "[" * 90 + "]" * 90, "-" * 5000 + "1", "f(" * 80 + ")" * 80, "b'x'", "#", "\\"),
]
TOPS = ["model", "rule", "data", "fit", "warmup", "validate", "title", "", "search", "task"]


@pytest.fixture
def harmless(monkeypatch, tmp_path):
    """Nothing is trained or scored, and nothing may run code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("seqzoo.zoo.runs.run.run", _trained)

    def forbidden(*_, **__):
        raise AssertionError("code was run")

    monkeypatch.setattr(os, "system", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, _own(getattr(builtins, name), forbidden))


def _own(real, forbidden):
    """``eval`` and ``exec`` of the standard library, which imports and reads types by them."""

    def call(source, *rest, **how):
        if isinstance(source, str) and source in ("1", "x"):
            forbidden()
        return real(source, *rest, **how)

    return call


def _trained(recipe, *_, **__):
    """A run: the whole of it is to be plain data, which a card holds."""
    import json

    json.dumps(recipe.configuration(), allow_nan=False)
    return {"metric": "m", "value": 1.0, "unit": "u"}


def one_sentence(code, out, error):
    """A command that succeeded, or said in one sentence what was wrong."""
    assert code in (0, 2)
    assert "Traceback" not in error
    if code == 2:
        assert error.startswith("seqzoo: ")
        assert error.rstrip("\n").count("\n") == 0
        assert len(error) < 2000


def word(draw):
    """A hostile value: from the list, damaged, or joined of several."""
    text = draw.choice(WORDS)
    kind = draw.randrange(4)
    if kind == 1:
        damaged = fuzzing.mutate(text.encode("utf-8", "surrogateescape"), draw)
        text = damaged.decode("utf-8", "surrogateescape")
    elif kind == 2:
        text = f"[{text}, {draw.choice(WORDS)}]"
    elif kind == 3:
        text = (
            f"{draw.choice(['Gaussian', 'MLP', 'PPC', 'nope'])}({draw.choice(['', 'dim='])}{text})"
        )
    return text


def field(recipe, draw):
    """A path to a field: one that exists in most cases, or a damaged one."""
    names = [draw.choice(TOPS)]
    part = getattr(recipe, names[0], None) if names[0] in ("model", "rule", "data") else None
    while part is not None and draw.random() < 0.9:
        names.append(draw.choice(accepted(part.cls) or ["x"]))
        inner = part.arguments.get(names[-1])
        part = inner if hasattr(inner, "arguments") and draw.random() < 0.5 else None
    if names[0] == "warmup":
        names += draw.choice([[], ["restarts"], ["rule", "minibatch"], ["fit", "epochs"], ["x"]])
    if names[0] == "fit":
        names.append(draw.choice(["epochs", "lr", "optimizer", "clip", "shards", "seed", "x", ""]))
    path = ".".join(names)
    if draw.random() < 0.1:
        path = fuzzing.mutate(path.encode(), draw).decode("utf-8", "replace")
    return path


def test_settings_are_taken_or_refused_in_a_sentence(harmless, seqzoo):
    for draw in fuzzing.rounds():
        name = draw.choice(NAMES)
        pairs = [f"{field(find(name), draw)}={word(draw)}" for _ in range(draw.choice((1, 1, 2)))]
        words = [each for pair in pairs for each in ("--set", pair)]
        one_sentence(*seqzoo("train", name, "--out", "run", *words))


def test_protocols_are_taken_or_refused_in_a_sentence(seqzoo, monkeypatch, tmp_path):
    """A film, a question, a tune: what a score takes is its signature's to say."""
    monkeypatch.chdir(tmp_path)
    names = [
        "model",
        "seed",
        "split",
        "sequences",
        "steps",
        "num_samples",
        "means",
        "start",
        "midi",
    ]
    names += ["method", "transpose", "film", "kind", "data", "figures", "past", "protocol", "self"]
    scored = ["ppc/kf-true", "onetomany-class-t2/stptt"]
    shown = {name: dataclasses.replace(find(name), rule=None) for name in scored}
    for name, recipe in shown.items():  # a row without a rule is scored untrained
        monkeypatch.setitem(RECIPES, name, recipe)
    for draw in fuzzing.rounds():
        key = draw.choice(names)
        if draw.random() < 0.2:
            key = fuzzing.mutate(key.encode(), draw).decode("utf-8", "replace")
        how = ["--how", f"{key}={word(draw)}", "--how", "sequences=2"][: draw.choice((2, 4))]
        one_sentence(*seqzoo("evaluate", draw.choice(scored), *how))
