"""Meta-training without gradients: evolution strategies on the meta-parameters.

X. Song, W. Gao, Y. Yang, K. Choromanski, A. Pacchiano and Y. Tang. ES-MAML: Simple
Hessian-free meta learning. ICLR 2020.

T. Salimans, J. Ho, X. Chen, S. Sidor and I. Sutskever. Evolution strategies as a
scalable alternative to reinforcement learning. arXiv:1703.03864, 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..estimators import FewShotEstimator
from ..tasks import OneOf, Positive, Whole
from ._shaping import centred_ranks
from .trainer import MetaTrainer


class ESMetaTrainer(MetaTrainer):
    """Learn an initialization from past tasks without differentiating adaptation.

    For methods that autograd cannot see through: an inner loop that searches,
    hard votes, rounded features, a criterion such as the error rate. Each step
    draws noise e_1, ..., e_n ~ N(0, I), adapts to the tasks of the step from
    theta + sigma e_i and from theta - sigma e_i, and hands the optimizer an
    estimate of the gradient of the smoothed loss E_e f(theta + sigma e), where
    f is the mean query loss after adaptation (Song et al. [1]_, eq. 3). With
    ``weighting="linear"`` this is the antithetic estimator [2]_

        g = 1 / (2 n sigma) sum_i [f(theta + sigma e_i) - f(theta - sigma e_i)] e_i,

    without bias. With ``weighting="softmax"`` perturbations are weighed by the
    softmax of their performance over the tasks: with z the losses of all 2n
    perturbations d, standardised (to mean 0 and standard deviation s = 1), and
    p = softmax(-z / temperature),

        g = -(s temperature / sigma) sum_d (p_d - 1 / 2n) e_d.

    The best perturbations then count for most, and one with an enormous loss
    counts no more than any bad one; as the temperature grows the estimate
    becomes the linear one. With ``weighting="ranks"`` the linear estimator has
    the centred ranks of the 2n losses, from -1/2 to 1/2, in their place [2]_, [3]_: only
    their order counts. All else is as in ``MetaTrainer``: episodes, validation,
    callbacks, checkpoints.

    Parameters
    ----------
    estimator : estimator
        What to meta-train, such as ``MAMLRegressor(encoder="mlp")``. It is not
        changed. If it has a meta-init, training goes on from there.
    n_perturbations : int, default=32
        Pairs of perturbations a step, n. A step adapts 2n + 1 times to each
        task, the last time for ``train_loss``. The estimate's variance is that
        of n random directions: many parameters ask for many.
    sigma : float, default=0.05
        Standard deviation of the perturbations of each parameter.
    weighting : {"softmax", "linear", "ranks"}, default="softmax"
        How the losses of perturbations weigh in the estimate.
    temperature : float, default=1.0
        Of the softmax, in standard deviations of the loss between perturbations.
    **kwargs
        Further parameters of ``MetaTrainer``, keyword-only, with its defaults:
        ``n_way``, ``n_shot``, ``lr``, ``max_epochs``, ``checkpoint``, ...

    Attributes
    ----------
    estimator_ : estimator
        A clone of `estimator` that carries the learned meta-init.
    meta_init_ : MetaInit
        What was learned.
    history : skorch.history.History
        Losses by epoch and batch, those of the unperturbed parameters.
    module_ : Learner
        The trained learner.

    See Also
    --------
    MetaTrainer : Differentiates; far quicker where it can.

    Notes
    -----
    Noise is drawn on the CPU from the trainer's seed, the epoch, the step and
    the number of the perturbation alone: it is the same on all devices, for all
    chunks of a step and in a resumed run. The perturbations of a step share the
    random numbers of dropout and the like. A loss that is not finite counts as
    the worst finite one. Parameters that do not require gradients stay as they
    are.

    Tens of thousands of parameters are learned slowly. What began to, for a conv4 of 28,193 and
    ``ProtoNetClassifier``, was ``weighting="ranks"``, some 8 pairs, ``lr=2e-2`` and the smallest
    episodes, ``n_way=5`` and ``batch_size=1``: many steps of few evaluations.
    ``training/RESULTS.md`` has what was tried. `MetaTrainer` learns far more in the same time
    where there are derivatives.

    Several processes (``distributed``) share the tasks of a step, and add up
    a share of the noise each. Song et al. adapt by evolution strategies too; here that is the
    estimator's business.

    References
    ----------
    .. [1] X. Song, W. Gao, Y. Yang, K. Choromanski, A. Pacchiano and Y. Tang,
       "ES-MAML: Simple Hessian-free meta learning", ICLR 2020.
    .. [2] T. Salimans, J. Ho, X. Chen, S. Sidor and I. Sutskever, "Evolution
       strategies as a scalable alternative to reinforcement learning",
       arXiv:1703.03864, 2017.
    .. [3] D. Wierstra, T. Schaul, T. Glasmachers, Y. Sun, J. Peters and
       J. Schmidhuber, "Natural evolution strategies", JMLR 15, 2014.

    Examples
    --------
    >>> from fewshot_sklearn import ESMetaTrainer, RidgeHeadRegressor
    >>> from fewshot_sklearn.datasets import make_sinusoid_tasks
    >>> past = make_sinusoid_tasks(200, random_state=0)
    >>> trainer = ESMetaTrainer(
    ...     RidgeHeadRegressor(encoder="mlp", encoder__hidden=(16,)),
    ...     n_perturbations=8, lr=1e-2, max_epochs=2, random_state=0, verbose=0,
    ... )
    >>> reg = trainer.fit(past.data, past.target, groups=past.groups).estimator_
    >>> bool(trainer.history[-1, "valid_loss"] < trainer.history[0, "valid_loss"])
    True
    """

    _constraints = {
        "n_perturbations": Whole(1),
        "sigma": Positive(),
        "weighting": OneOf("softmax", "linear", "ranks"),
        "temperature": Positive(),
    }

    def __init__(
        self,
        estimator: FewShotEstimator,
        *,
        n_perturbations: int = 32,
        sigma: float = 0.05,
        weighting: str = "softmax",
        temperature: float = 1.0,
        **kwargs: Any,
    ):
        self.n_perturbations = n_perturbations
        self.sigma = sigma
        self.weighting = weighting
        self.temperature = temperature
        super().__init__(estimator, **kwargs)

    @torch.no_grad()
    def _in_chunks(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Loss of one batch at the parameters, and the estimate of its gradient around them."""
        params: list[Tensor] = [p for p in self.module_.parameters() if p.requires_grad]
        # the epoch and the step in it: the same for every chunk, and when a step is done again
        step = (len(self.history), len(self.history[-1]["batches"]))
        losses = np.empty((self.n_perturbations, 2))
        for i in range(self.n_perturbations):
            noise = self._noise(params, step, i)
            for side, size in enumerate((self.sigma, -self.sigma)):
                with self._moved_by(params, noise, size):  # all draw the same
                    losses[i, side] = self._loss_of(batch, **fit_params)
        # of several processes each has the losses of its tasks, and adds up some of the noise
        losses = self._ranks.sum(torch.from_numpy(losses)).numpy()
        for i, c in enumerate(self._coefficients(losses)):
            if i % self._ranks.world != self._ranks.rank:
                continue
            for p, e in zip(params, self._noise(params, step, i), strict=True):
                p.grad = c * e if p.grad is None else p.grad + c * e
        return super()._in_chunks(batch, **fit_params)

    def _loss_of(self, batch: Any, **fit_params: Any) -> float:
        """Loss of one batch, which is not finite where there is none."""
        try:
            return float(super()._in_chunks(batch, **fit_params)["loss"])
        except torch.linalg.LinAlgError:
            return float("nan")

    def _backward(self, X: Any, y: Any, share: float, **fit_params: Any) -> tuple[Any, Any]:
        """Loss and outputs of some tasks, and no gradients."""
        loss, outputs = self._loss_and_outputs(X, y, **fit_params)
        return loss * share, outputs

    def _coefficients(self, losses: np.ndarray) -> np.ndarray:
        """What each e_i counts in the gradient estimate, given its losses at + and - sigma."""
        finite = np.isfinite(losses)
        if not finite.any():
            return np.zeros(len(losses))
        losses = np.where(finite, losses, losses[finite].max())
        if self.weighting == "ranks":
            losses = centred_ranks(losses)
        if self.weighting != "softmax":
            return (losses[:, 0] - losses[:, 1]) / (2 * len(losses) * self.sigma)
        spread = losses.std()
        if spread == 0:
            return np.zeros(len(losses))
        logits = -(losses - losses.min()) / (spread * self.temperature)
        p = np.exp(logits) / np.exp(logits).sum()
        # e_i comes with both signs: what all perturbations share, the mean weight, cancels
        return -spread * self.temperature / self.sigma * (p[:, 0] - p[:, 1])

    def _noise(self, params: list[Tensor], step: tuple[int, int], i: int) -> list[Tensor]:
        """The noise e_i of a step: drawn anew when needed, not kept, as it is large."""
        seeds = np.random.SeedSequence([self.seed_, *step, i])
        generator = torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
        return [
            torch.randn(p.shape, generator=generator, dtype=torch.float32).to(p) for p in params
        ]

    @contextmanager
    def _moved_by(self, params: list[Tensor], noise: list[Tensor], size: float) -> Iterator[None]:
        """Perturb the parameters; put them, and the buffers that training moves, back after."""
        changing = [*params, *self.module_.buffers()]
        before = [t.detach().clone() for t in changing]
        try:
            for p, e in zip(params, noise, strict=True):
                p.add_(e, alpha=size)
            yield
        finally:
            for t, old in zip(changing, before, strict=True):
                t.copy_(old)
