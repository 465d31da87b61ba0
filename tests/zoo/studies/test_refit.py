"""Another guide for the decoder of a trained VRAE: the command ``study refit``."""

import pytest
import torch
from seqzoo.data import PianoRolls
from seqzoo.zoo import VRAE, decoders, likelihoods, path_guides
from seqzoo.zoo.parts.memory import Reader
from seqzoo.zoo.recipes import music_task
from seqzoo.zoo.studies import refit

SILENT = 0.2  # probability of a key in the model; in the data it is 0.05


def test_the_decoder_is_kept_and_only_a_chain_comes_to_the_prior(monkeypatch, seqzoo):
    """Of frames that do not depend on the path the best guide is the prior, with a KL of 0."""
    torch.manual_seed(0)
    frames = [(torch.rand(8, 88) < 0.05).float() for _ in range(2)]
    guide, decoder = path_guides.Diagonal(8, 2), decoders.BidirectionalDecoder(2, 88, 8)
    keys = likelihoods.Bernoulli(88)
    net = VRAE(
        *(88, 2, keys),
        encoder=Reader(88, 8),
        guide=guide,
        decoder=decoder,
        decoder_input="path",
        obs_mean=SILENT,
    )
    *_, last = [layer for layer in decoder.modules() if isinstance(layer, torch.nn.Linear)]
    torch.nn.init.zeros_(last.weight)
    for module in (refit, music_task):
        monkeypatch.setattr(
            module, "Polyphonic", lambda *_, chunk=None, **__: PianoRolls(frames, chunk)
        )
    monkeypatch.setattr(refit, "HIDDEN", 8)
    monkeypatch.setattr(refit.store, "load", lambda name: net)
    card = {"configuration": {"data": {"name": "jsb"}}}
    monkeypatch.setattr(refit.store, "card_of", lambda net: card)

    before, diagonal, chain = refit.refit_guide("model", updates=40)
    sounding = torch.cat(frames).mean(0).sum()
    exact = -(sounding * torch.tensor(SILENT).log() + (88 - sounding) * torch.tensor(0.8).log())
    assert before.updates == 0
    assert chain.updates == diagonal.updates == 40
    assert chain.bound == pytest.approx(exact.item(), abs=0.1)
    assert before.bound > diagonal.bound > exact + 2 * 0.3  # its floor is 0.347 a dimension


def test_refit_names_the_mistake(refused):
    assert "jsb/vosp is not a VRAE" in refused("study", "refit", "jsb/vosp")
