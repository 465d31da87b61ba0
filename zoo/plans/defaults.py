"""Settings for data of any size, one function a family of models.

They were chosen on 40 simulated neurons that follow an oscillator: 42 trials of 80 to 120 bins, 5 %
of the bins missing. Test trials of that set were seen. On validation trials of another set, some
settings of the GRU, the VOSP, the rEFH and the rVAE were compared with other values. The warm-up of
models of single frames was chosen on ``data.ChaoticRNN``, and budgets of more data on
``data.Lorenz``. See ``docs/it_does_not_learn.md`` for the figures, and for the effect of each
setting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...inference import BPTT, EM, ContrastiveDivergence, LocalELBO, SequenceELBO
from ...inference.checks import check_number
from ..models import LGDS, REFH, RNN, RTRBM, RVAE, TRBM, TVAE, VOSP, VRAE, PoissonLGDS
from ..names import instead
from ..part import Part, part
from ..parts.decoders import CausalDecoder
from ..parts.likelihoods import Bernoulli, LearnedGaussian, Poisson
from ..parts.memory import Reader
from ..parts.path_guides import MarkovChain
from ..parts.priors import AR1
from .facts import Facts
from .plan import Plan

LATENTS = 8  # size of the latent state, if unset
WIDTH = 64  # units of a hidden layer
HIDDEN = 0.25  # values hidden from a guide in training: it then copies no noise, and co-smooths
SMALL = 20_000  # frames: of more, the loss falls for longer


class Sizes(NamedTuple):
    """What a user chooses for all models at once.

    Arguments:
        latent_dim: size of the latent state; of harmoniums and the GRU, which have none, no use.
        updates: steps of the optimizer; None is the default of each model.
    """

    latent_dim: int
    updates: int | None


def plan_for(name: str, facts: Facts, sizes: Sizes) -> Plan:
    """The plan of a model by name, for data with these facts.

    Raises:
        ValueError: for an unknown name, or a model that cannot be trained on such data.
    """
    check_name(name)
    plan = NAMES[name](facts, sizes.latent_dim)
    if sizes.updates is None or not plan.by_gradient:
        return plan
    return plan.changed({"updates": sizes.updates})


def check_sizes(latent_dim: int, updates: int | None) -> Sizes:
    """The sizes, checked.

    Raises:
        ValueError: for a number that is not whole, or below 1.
    """
    check_number("latent_dim", latent_dim)
    if updates is not None:
        check_number("updates", updates)
    return Sizes(latent_dim, updates)


def check_name(name: str) -> None:
    """Raises a ValueError for a name that is not in ``NAMES``."""
    if name not in NAMES:
        known = instead(str(name), NAMES, f"known are {', '.join(NAMES)}")
        raise ValueError(f"no model called {name!r}: {known}")


# Linear systems ----------------------------------------------------------------------------------


def _lgds(facts: Facts, latent_dim: int) -> Plan:
    model = part(LGDS, state_dim=latent_dim, obs_dim=facts.channels, input_dim=facts.inputs)
    return Plan(model, part(EM, restarts=1, iterations=50, tolerance=1e-4))


def _poisson_lgds(facts: Facts, latent_dim: int) -> Plan:
    if facts.kind == "traces":
        raise ValueError("a Poisson LGDS takes counts, and these values are none: take 'lgds'")
    model = part(PoissonLGDS, state_dim=latent_dim, obs_dim=facts.channels, input_dim=facts.inputs)
    return Plan(model, part(EM, restarts=1, iterations=30, tolerance=1e-3))


# Models of single frames -------------------------------------------------------------------------

#: The KL term of x is nearly off at first and rises until the end. Where it rises sooner, frames
#: that say little are not read at all. The slow rise needs many updates.
WARM = {"x": [0.05, 1.0, 1.0]}


def _recurrent(cls: type, facts: Facts, latent_dim: int, **own: Any) -> Part:
    return part(
        cls,
        obs_dim=facts.channels,
        latent_dim=latent_dim,
        likelihood=likelihood(facts),
        hidden=WIDTH,
        sees_missing=True,
        input_dim=facts.inputs,
        input_dropout=HIDDEN,
        **own,
    )


def _rvae_part(facts: Facts, latent_dim: int) -> Part:
    # With sigma_u of 0.15 the past outweighs the frames, with 1 no past is kept.
    return _recurrent(RVAE, facts, latent_dim, past_scale=0.5, predictor_hidden=WIDTH)


def _local(facts: Facts) -> dict[str, Any]:
    return {
        "rule": part(LocalELBO, minibatch=minibatch(facts), weights=WARM),
        "updates": 10_000,
        "fit": {"lr": rate(facts, 2e-3), "schedule": "late", "clip": 10.0, "batch_size": 8},
    }


def _rvae(facts: Facts, latent_dim: int) -> Plan:
    return Plan(_rvae_part(facts, latent_dim), **_local(facts))


def _tvae(facts: Facts, latent_dim: int) -> Plan:
    return Plan(_recurrent(TVAE, facts, latent_dim), **_local(facts))


def _rvae_bptt(facts: Facts, latent_dim: int) -> Plan:
    return Plan(
        _rvae_part(facts, latent_dim),
        part(BPTT, window=50, weights=WARM),
        updates=3000,
        fit={"lr": rate(facts, 2e-3), "schedule": "late", "clip": 10.0, "batch_size": 8},
    )


def rate(facts: Facts, lr: float) -> float | dict[str, float]:
    """The learning rate; standard deviations of traces have far to go, and need a higher one."""
    return {"": lr, "likelihood": 10 * lr} if facts.kind == "traces" else lr


def minibatch(facts: Facts) -> int:
    """Frames an update: some hundred updates see all of a small recording many times."""
    return 100 if facts.frames < SMALL else 200


# Harmoniums --------------------------------------------------------------------------------------


def _harmonium(cls: type, facts: Facts, latent_dim: int, rule: Part, lr: float) -> Plan:
    if facts.kind == "traces":
        raise ValueError(
            "the Gaussian units of a harmonium have one fixed standard deviation, which has no "
            "default for traces: take 'rvae', or give likelihoods.Gaussian to the model's own class"
        )
    model = part(
        cls,
        obs_dim=facts.channels,
        hidden_dim=WIDTH,
        likelihood=likelihood(facts),
        obs_mean=facts.mean,
    )
    updates = 3000 if facts.frames < SMALL else 10_000
    fit = {"lr": lr, "schedule": "late", "clip": 10.0, "batch_size": 8}
    return Plan(model, rule, updates, fit)


def _refh(facts: Facts, latent_dim: int) -> Plan:
    rule = part(ContrastiveDivergence, minibatch=minibatch(facts))
    return _harmonium(REFH, facts, latent_dim, rule, lr=5e-3)


def _trbm(facts: Facts, latent_dim: int) -> Plan:
    rule = part(ContrastiveDivergence, minibatch=minibatch(facts))
    return _harmonium(TRBM, facts, latent_dim, rule, lr=5e-3)


def _rtrbm(facts: Facts, latent_dim: int) -> Plan:
    rule = part(ContrastiveDivergence, window=25)
    return _harmonium(RTRBM, facts, latent_dim, rule, lr=5e-3)


# Models of whole sequences -----------------------------------------------------------------------


def _sequence(facts: Facts, model: Part, few: int = 400, many: int = 3000, **rule: Any) -> Plan:
    """``few`` updates of a small recording, and ``many`` of a larger one."""
    return Plan(
        model,
        part(SequenceELBO, **rule),
        updates=few if facts.frames < SMALL else many,
        fit={"lr": rate(facts, 3e-3), "schedule": "late", "clip": 10.0, "batch_size": 16},
    )


def _reads(facts: Facts) -> dict[str, Any]:
    return {
        "obs_dim": facts.channels,
        "likelihood": likelihood(facts),
        "hidden": WIDTH,
        "sees_missing": True,
        "input_dim": facts.inputs,
        "obs_mean": None if facts.kind == "traces" else facts.mean,
    }


MANY_COUNTS = 1000  # updates: a memory that reads the past without noise then begins to overfit


def _gru(facts: Facts, latent_dim: int) -> Plan:
    if facts.kind == "traces":  # a bin says more than one of spikes, and costs less to hide
        model = part(RNN, input_dropout=HIDDEN, dropout=0.2, **_reads(facts))
        return _sequence(facts, model, few=600).changed({"fit.lr": rate(facts, 6e-3)})
    model = part(RNN, input_dropout=0.4, dropout=0.2, **_reads(facts))
    return _sequence(facts, model, many=MANY_COUNTS)


def _vosp(facts: Facts, latent_dim: int) -> Plan:
    model = part(VOSP, latent_dim=latent_dim, width=WIDTH, input_dropout=0.4, **_reads(facts))
    return _sequence(facts, model, many=3000 if facts.kind == "traces" else MANY_COUNTS)


def _vrae(facts: Facts, latent_dim: int) -> Plan:
    read = 2 * facts.channels + facts.inputs
    model = part(
        VRAE,
        latent_dim=latent_dim,
        prior=part(AR1, dim=latent_dim, coefficient=0.95),
        encoder=part(Reader, inputs=read, hidden=WIDTH, direction="both"),
        guide=part(MarkovChain, features_dim=2 * WIDTH, dim=latent_dim),
        decoder=part(
            CausalDecoder,
            dim=latent_dim,
            natural_dim=facts.channels,
            hidden=WIDTH,
            width=WIDTH,
            drift=False,
            input_dim=facts.inputs,
        ),
        decoder_input="path",
        input_dropout=HIDDEN,
        **_reads(facts),
    )
    return _sequence(facts, model, kl_weight=[0.1, 1.0, 0.5])


def likelihood(facts: Facts) -> Part:
    """The distribution of a bin's values; of traces it keeps the unit of the data."""
    if facts.kind == "traces":
        unit = {"location": list(facts.location), "scale": list(facts.scale)}
        return part(LearnedGaussian, dim=facts.channels, **unit)
    return part(Poisson if facts.kind == "counts" else Bernoulli, dim=facts.channels)


#: The models that ``fit_model`` and ``compare`` know.
NAMES: dict[str, Callable[[Facts, int], Plan]] = {
    "lgds": _lgds,
    "poisson-lgds": _poisson_lgds,
    "rvae": _rvae,
    "rvae-bptt": _rvae_bptt,
    "tvae": _tvae,
    "refh": _refh,
    "trbm": _trbm,
    "rtrbm": _rtrbm,
    "vrae": _vrae,
    "vosp": _vosp,
    "gru": _gru,
}
