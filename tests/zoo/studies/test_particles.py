"""A bound against the number of its particles or samples: the command ``study particles``."""

import pytest
import torch
from seqzoo.data import PianoRolls
from seqzoo.zoo import VOSP, VRAE, likelihoods
from seqzoo.zoo.recipes import music_task
from seqzoo.zoo.studies import particles

SILENT = 0.2  # probability of a key in the model; in the data it is 0.05


@pytest.mark.parametrize(("kind", "figure"), [(VRAE, "SMC-{}"), (VOSP, "IW-{} a frame")])
def test_the_bound_falls_to_the_exact_figure(monkeypatch, kind, figure):
    """Of frames that do not depend on the path, of which the untrained guide knows nothing."""
    torch.manual_seed(0)
    frames = [(torch.rand(8, 88) < 0.05).float() for _ in range(2)]
    net = kind(88, 2, likelihoods.Bernoulli(88), hidden=8, obs_mean=SILENT).eval()
    *_, last = [layer for layer in net.decoder.modules() if isinstance(layer, torch.nn.Linear)]
    torch.nn.init.zeros_(last.weight)
    monkeypatch.setattr(music_task, "Polyphonic", lambda *_: PianoRolls(frames))
    monkeypatch.setattr(particles.store, "load", lambda *_: net)
    data = {"part": "Polyphonic", "name": "jsb"}
    also = dict.fromkeys(("IW-50", figure.format(7)), 0.0)
    card = {"also": also, "configuration": {"data": data}}
    monkeypatch.setattr(particles.store, "card_of", lambda net: card)

    sounding = torch.cat(frames).mean(0).sum()
    exact = -(sounding * torch.tensor(SILENT).log() + (88 - sounding) * torch.tensor(0.8).log())
    (one, loose), (many, tight) = particles.curve("model", [1, 300])
    assert (one, many) == (figure.format(1), figure.format(300))
    assert loose > exact + 0.06
    assert tight == pytest.approx(exact.item(), abs=0.03)


def test_the_command_prints_every_number(monkeypatch, seqzoo, refused):
    points = [("SMC-3", 7.25), ("SMC-9", 6.5)]
    asked = []
    monkeypatch.setattr(particles, "curve", lambda *how: asked.append(how) or iter(points))
    words = ["study", "particles", "jsb/vrae", "--number", 3, "--number", 9, "--device", "cpu"]
    code, out, _ = seqzoo(*words)
    assert code == 0
    assert asked == [("jsb/vrae", [3, 9], 0, "cpu")]
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["SMC-3", "7.250"],
        ["SMC-9", "6.500"],
    ]


@pytest.mark.parametrize("name", ["jsb/rnn-nade", "ppc/rvae"])
def test_it_names_a_model_without_such_a_bound(name, refused):
    assert f"{name} has no bound of particles or samples" in refused("study", "particles", name)


def test_a_number_below_one_is_refused():
    with pytest.raises(ValueError, match="numbers must be"):
        particles.curve("jsb/vrae", [100, 0])
