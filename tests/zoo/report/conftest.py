"""Tiny models to diagnose, and reports on them."""

import pytest
from seqzoo.zoo import report, store
from seqzoo.zoo.parts.likelihoods import Categorical, Poisson
from seqzoo.zoo.recipes import part
from seqzoo.zoo.studies.chains import Chains

from seqzoo import data, inference, zoo

POISSON, TEN = part(Poisson, dim=15), part(Categorical, classes=10)
SPIKES = part(data.PPC, sequences=2, steps=10)
LOCAL, ELBO = part(inference.LocalELBO), part(inference.SequenceELBO)
SIZES = report.Sizes(
    steps=8, lengths=(3,), predictions=19, simulated=50, simulated_steps=3, updates=40
)


def spiking(cls, **how):
    return part(cls, obs_dim=15, likelihood=POISSON, **how)


def question(kind):
    return part(data.OneToMany, kind=kind, sequences=20, steps=4)


KINDS = {  # network, rule, data
    "rvae": (spiking(zoo.RVAE, latent_dim=2, hidden=6), LOCAL, SPIKES),
    "vrae": (spiking(zoo.VRAE, latent_dim=2, hidden=6), ELBO, SPIKES),
    "vosp": (spiking(zoo.VOSP, latent_dim=2, hidden=6, width=4), ELBO, SPIKES),
    "rnn": (spiking(zoo.RNN, hidden=6), ELBO, SPIKES),
    "refh": (
        spiking(zoo.REFH, hidden_dim=9),
        part(inference.ContrastiveDivergence),
        SPIKES,
    ),
    "stptt": (
        part(zoo.SRN, inputs=1, output=TEN, hidden=6, stochastic=0.5),
        part(inference.TargetPropagation, num_samples=3),
        question("class"),
    ),
    "bptt": (
        part(zoo.MDRNN, inputs=1, hidden=6),
        part(inference.OutputBPTT),
        question("regression"),
    ),
}


@pytest.fixture
def sizes():
    """Sizes of a report that takes no time."""
    return SIZES


@pytest.fixture
def kinds():
    """Network, rule and data of every kind; a test may add one."""
    return dict(KINDS)


@pytest.fixture
def saved(kinds):
    """Saves an untrained model in a folder, as ``seqzoo train`` leaves one."""

    def save(folder, kind, name=None):
        net, rule, source = kinds[kind]
        parts = {"model": net, "rule": rule, "data": source}
        configuration = {key: value.to_json() for key, value in parts.items()}
        card = {"name": name or f"toy/{kind}", "title": kind, "configuration": configuration}
        store.save_model(folder, net.build(), card)
        return folder

    return save


@pytest.fixture
def diagnosed(saved, tmp_path):
    """Writes the report on an untrained model of some kind."""

    def diagnose(kind, sequences=4, num_samples=30, folder=tmp_path, name=None, **how):
        if not (folder / "net").exists():
            saved(folder / "net", kind, name)
        chains = Chains(frames=3, num_chains=3, num_warmup=2, num_samples=8)
        how = {"chains": chains, "sizes": SIZES, "training": False, **how}
        return report.report(folder / "net", folder / "out", sequences, num_samples, **how)

    return diagnose


@pytest.fixture
def blank(monkeypatch):
    """Figures are files without content: to draw them takes half of a report's time."""
    monkeypatch.setattr(report.figures, "save_figure", lambda figure, path: path.touch())
