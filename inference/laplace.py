"""The predictive posterior of a model that explains its past: p(x_t | u_{t-1}).

Such a model has no transition. Its prediction of x_t, before frame t is seen, follows from Bayes'
rule: p(x_t | u_{t-1}) ∝ p(x_t) p(u_{t-1} | x_t). The prior is standard normal, and the likelihood
is Gaussian with a mean computed by a network.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal


def explaining_posterior(
    mean: Callable[..., Tensor],
    value: Tensor,
    scale: Tensor,
    latent_dim: int,
    steps: int = 5,
    given: tuple[Tensor, ...] = (),
) -> MultivariateNormal:
    """p(x | u) ∝ N(x; 0, I) N(u; mean(x), scale²) as a Gaussian, by Gauss-Newton steps.

    The result is exact after one step where ``mean`` is linear. Otherwise it is the Laplace
    approximation at the mode, which can serve ``resample`` as its proposal.

    Arguments:
        mean: maps x ``[..., K]``, and what is ``given``, to the mean of u, ``[..., U]``.
        value: u, ``[N, U]``.
        scale: standard deviation of u given x, one number or ``[U]``.
        latent_dim: size of x, ``K``.
        steps: Gauss-Newton steps from the mode of the prior.
        given: further arguments of ``mean``, ``[N, ...]`` each.

    Returns:
        Batch shape ``[N]``, event shape ``[K]``.
    """
    jacobian = torch.func.vmap(torch.func.jacrev(mean))
    scale = scale.expand(value.shape[-1])
    eye = torch.eye(latent_dim, dtype=value.dtype, device=value.device)
    x = value.new_zeros(len(value), latent_dim)
    for _ in range(steps):
        slope = jacobian(x, *given) / scale[:, None]  # [N, U, K]
        residual = (value - mean(x, *given)) / scale + (slope @ x[..., None])[..., 0]
        precision = eye + slope.mT @ slope
        factor = torch.linalg.cholesky(precision)
        before, x = x, torch.cholesky_solve(slope.mT @ residual[..., None], factor)[..., 0]
        if torch.allclose(before, x, atol=1e-5):
            break
    return MultivariateNormal(x, precision_matrix=precision, validate_args=False)


def resample(
    log_target: Callable[[Tensor], Tensor],
    proposal: Distribution,
    num_samples: int,
    num_particles: int,
) -> tuple[Tensor, Tensor]:
    """Samples from a density known up to a constant, by importance resampling.

    Arguments:
        log_target: log-density up to a constant, ``[S, N, K] -> [S, N]``.
        proposal: batch shape ``[N]``, event shape ``[K]``; its tails must cover the target's.
        num_samples: samples ``D`` from the target, for each of the ``N``.
        num_particles: samples ``S`` from the proposal.

    Returns:
        Samples ``[D, N, K]``, and the effective sample size of the particles, ``[N]``, 1 to ``S``.
    """
    x = proposal.sample((num_particles,))
    weights = (log_target(x) - proposal.log_prob(x)).softmax(0)
    chosen = torch.multinomial(weights.T, num_samples, replacement=True).T  # [D, N]
    samples = x.gather(0, chosen[..., None].expand(-1, -1, x.shape[-1]))
    return samples, 1 / weights.square().sum(0)
