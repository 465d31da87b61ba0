"""The mixture-density recurrent network: an ``SRN`` whose output is a mixture of k Gaussians.

    p(y | x_{1:T}) = sum_i pi_i N(y; mu_i, sigma_i^2),
    pi = softmax(W_pi h_T + b_pi),  mu = W_mu h_T + b_mu,  sigma = exp(W_sigma h_T + b_sigma)

Sources: Bishop, "Mixture density networks" (1994); Manchev & Spratling, "Learning multi-modal
recurrent neural networks with target propagation" (2024), section 4, equations 8 to 13.
"""

from __future__ import annotations

from ...inference.checks import check_sizes
from ..parts.initialisers import Initialiser
from ..parts.likelihoods import GaussianMixture
from .srn import SRN


class MDRNN(SRN):
    """p(y | x_{1:T}), a mixture; by default with deterministic tanh units, as in the source.

    Arguments:
        inputs: values of an input frame, ``I``.
        outputs: values of an output, ``D``.
        components: number of components, ``k``.
        hidden: units, ``H``.
        stochastic: fraction of the units that are binary and stochastic.
        nonlinearity: f of the other units, a name in ``nets.ACTIVATIONS``.
        inverse: activation of G, a name in ``nets.ACTIVATIONS``; None is f.
        every_step: answer at every step instead of the last one.
        initialiser: of W_xh, W_hh and G; None is ``initialisers.Orthogonal()``.
        spread: the components initially tile the range between these two numbers. Components that
            begin equal may never separate.
        sees_missing: see ``SRN``.

    Raises:
        ValueError: for a number out of range, or an unknown activation.

    Example:
        >>> batch = Batch(torch.zeros(2, 5, 1), target=torch.zeros(2, 1))
        >>> MDRNN(1, components=3).log_prob(batch).shape
        torch.Size([2])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int = 1,
        components: int = 3,
        hidden: int = 50,
        stochastic: float = 0.0,
        nonlinearity: str = "tanh",
        inverse: str | None = None,
        every_step: bool = False,
        initialiser: Initialiser | None = None,
        spread: tuple[float, float] = (0.0, 1.0),
        sees_missing: bool = False,
    ) -> None:
        check_sizes(inputs=inputs, outputs=outputs, components=components)
        output = GaussianMixture(outputs, components)
        super().__init__(
            *(inputs, output, hidden, stochastic, nonlinearity, inverse, every_step, initialiser),
            sees_missing=sees_missing,
        )
        output.initialise(self.readout, *spread)
