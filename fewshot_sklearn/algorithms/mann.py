"""Memory-augmented neural networks: rows and labels are written to a memory and found again.

A. Santoro, S. Bartunov, M. Botvinick, D. Wierstra and T. Lillicrap. One-shot
learning with memory-augmented neural networks. ICML 2016 (arXiv:1605.06065).

A. Graves, G. Wayne and I. Danihelka. Neural Turing machines. arXiv:1410.5401,
2014 (the strength of a key).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import FeatureLearner, LSTMCell, State, in_order, present_classes
from ..tasks import Number, Whole
from ._class_codes import class_codes

#: Logit of the gate, untrained, which is nearly shut: what was just read is hardly written to.
SHUT = -5.0
#: Rows after which the part of the memory that may be in use is made larger.
ROWS_A_BLOCK = 256


class Memory(NamedTuple):
    """What the network knows after some rows; R read heads, S slots of size D.

    Attributes
    ----------
    h, c : Tensor of shape (..., controller_size)
        State of the controller.
    r : Tensor of shape (..., R, D)
        What was read last.
    w_r : Tensor of shape (..., R, S)
        Where from.
    w_u : Tensor of shape (..., S)
        Usage of the slots.
    M : Tensor of shape (..., S, D)
        The slots.
    written : Tensor of shape (..., S)
        Whether anything was ever written to a slot.
    """

    h: Tensor
    c: Tensor
    r: Tensor
    w_r: Tensor
    w_u: Tensor
    M: Tensor
    written: Tensor


class MANN(FeatureLearner):
    """adapt: writes rows to a memory (eq. 5-8). predict: reads it by likeness (eq. 2-4)."""

    scales_inputs_without_past = True  # cosines need rows about the origin
    wants_encoder = False
    learned_only = ("controller", "key", "gate", "output")
    controller: LSTMCell | None
    key: nn.Linear | None
    gate: nn.Linear | None
    output: nn.Linear | None

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_slots: int | None = None,
        n_reads: int = 4,
        controller_size: int = 200,
        code_size: int = 32,
        gamma: float = 0.95,
        past: bool = True,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        sizes = {"n_reads": n_reads, "controller_size": controller_size, "code_size": code_size}
        for name, size in sizes.items():
            if not (isinstance(size, int | np.integer) and size >= 1):
                raise ValueError(f"{name} must be an int, at least 1, got {size!r}.")
        if n_slots is not None and not (
            isinstance(n_slots, int | np.integer) and n_slots >= n_reads
        ):
            raise ValueError(
                f"n_slots must be None or an int, at least n_reads={n_reads}, got {n_slots!r}."
            )
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma must be between 0 and 1, got {gamma!r}.")
        self.n_slots, self.n_reads, self.gamma = n_slots, n_reads, gamma
        self.code_size, self.slot_size = code_size, self.n_features + code_size
        n_read = n_reads * self.slot_size
        # strengths of their own tell the heads apart, so that they can learn different keys
        self.log_strength = nn.Parameter(torch.linspace(math.log(80.0), math.log(10.0), n_reads))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        if not past:
            self.controller = self.key = self.gate = self.output = None
            return
        self.controller = LSTMCell(self.slot_size + n_read, controller_size)
        self.key = nn.Linear(controller_size, n_read)
        self.gate = nn.Linear(controller_size, n_reads)
        self.output = nn.Linear(controller_size + n_read, code_size)
        with torch.no_grad():
            for layer in (self.key, self.gate, self.output):
                layer.weight.zero_()
                layer.bias.zero_()
            self.gate.bias.fill_(SHUT)
            labels = self.output.weight[:, controller_size:].unflatten(1, (n_reads, -1))
            labels[:, :, self.n_features :] = torch.eye(code_size)[:, None] / n_reads

    # ------------------------------------------------------------------ the memory
    def _keys(self, x: Tensor, h: Tensor) -> Tensor:
        """k_t of each head (..., R, D): the row and its label, and what the controller adds."""
        if self.key is None:
            return x[..., None, :].expand(*x.shape[:-1], self.n_reads, -1)
        return x[..., None, :] + self.key(h).unflatten(-1, (self.n_reads, self.slot_size))

    def _controlled(self, told: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """State of the controller after a row and what was read before it."""
        return (h, c) if self.controller is None else self.controller(told, (h, c))

    def _gates(self, h: Tensor) -> Tensor:
        """How much goes to the slots just read, rather than to the least used (..., R, 1)."""
        if self.gate is None:
            return h.new_full((*h.shape[:-1], self.n_reads, 1), SHUT).sigmoid()
        return self.gate(h).sigmoid()[..., None]

    def _code(self, h: Tensor, r: Tensor) -> Tensor:
        """The code that is put out, given the controller and what the heads read (..., R, D)."""
        if self.output is None:
            return r[..., self.n_features :].mean(-2)
        return self.output(torch.cat([h, r.flatten(-2)], -1))

    def _read(self, k: Tensor, M: Tensor, written: Tensor) -> tuple[Tensor, Tensor]:
        """Read weights (..., m, S) and vectors (..., m, D) of m keys, heads in turn (eq. 2-4)."""
        tiny = torch.finfo(k.dtype).eps
        size = torch.linalg.vector_norm(M, dim=-1).clamp_min(tiny)
        cosines = (F.normalize(k, dim=-1, eps=tiny) @ M.mT) / size[..., None, :]
        strength = self.log_strength.exp().repeat(k.shape[-2] // self.n_reads)
        K = strength[:, None] * cosines
        # not minus infinity, which has no softmax while nothing at all is written
        K = K.masked_fill(~written[..., None, :], torch.finfo(K.dtype).min)
        w_r = F.softmax(K, -1) * written[..., None, :]
        return w_r, w_r @ M

    def _least_used(self, before: Memory) -> Tensor:
        """One-hot w^lu of each head (..., R, S): the R least used slots, one each (eq. 6)."""
        usage = before.w_u.detach().masked_fill(~before.written, -1.0)
        order = torch.sort(usage, stable=True)[1][..., : self.n_reads]
        slots = torch.arange(usage.shape[-1], device=usage.device)
        return (order[..., None] == slots).to(usage.dtype)

    def _step(self, x: Tensor, weight: Tensor, before: Memory) -> Memory:
        """The memory after one more row x_t = [features, label code]."""
        told = torch.cat([x, before.r.flatten(-2)], -1)
        h, c = self._controlled(told, before.h, before.c)
        k, gate = self._keys(x, h), self._gates(h)
        w_lu = self._least_used(before)
        w_w = gate * before.w_r + (1 - gate) * w_lu  # eq. 7
        freed = w_lu.sum(-2)
        kept = (1 - freed)[..., None] * before.M
        M = kept + (weight[..., None, None] * w_w).mT @ k  # eq. 8
        written = before.written | (freed > 0)
        w_r, r = self._read(k, M, written)
        w_u = self.gamma * before.w_u + w_r.sum(-2) + w_w.sum(-2)  # eq. 5
        return Memory(h, c, r, w_r, w_u, M, written)

    def _blank(self, x: Tensor, n_slots: int) -> Memory:
        """The memory before the first row, with the leading axes of x."""
        lead, reads = x.shape[:-1], self.n_reads
        none = x.new_zeros(*lead, 0)
        h, c = (none, none) if self.controller is None else self.controller.start(x)
        return Memory(
            h,
            c,
            x.new_zeros(*lead, reads, self.slot_size),
            x.new_zeros(*lead, reads, n_slots),
            x.new_zeros(*lead, n_slots),
            x.new_zeros(*lead, n_slots, self.slot_size),
            torch.zeros(*lead, n_slots, dtype=torch.bool, device=x.device),
        )

    def _written(self, x: Tensor, weight: Tensor, real: Tensor) -> Memory:
        """The memory after all rows x (..., n, D) that are real.

        Slots are taken in order while any is blank, so that those further on need not be there yet.
        """
        n = x.shape[-2]
        n_slots = self.n_reads * n if self.n_slots is None else self.n_slots
        memory = self._blank(x[..., 0, :], 0)
        # at values, which under vmap nobody can, and for which a GPU would have to be waited for
        looks = self.takes_batches and not self.training and x.device.type == "cpu"
        every = real.reshape(-1, n).all(0).tolist() if looks else [False] * n
        for t in range(n):
            if t % ROWS_A_BLOCK == 0:
                memory = _grown(memory, min(n_slots, self.n_reads * (t + ROWS_A_BLOCK)))
            after = self._step(x[..., t, :], weight[..., t], memory)
            if every[t]:
                memory = after
                continue
            now = real[..., t]
            memory = Memory(*(torch.where(_spread(now, a), a, b)
                              for a, b in zip(after, memory, strict=True)))  # fmt: skip
        return _grown(memory, n_slots)

    # ------------------------------------------------------------------ the two functions
    def numbers_a_row(self, state: State) -> int:
        slots, classes = state["written"].numel(), state["present"].numel()
        return self.n_reads * slots + classes + self._width()

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        codes, present = class_codes(Z, y, w, self.code_size), present_classes(y, w)
        Z, y, w = in_order(Z, y, w)
        x = torch.cat([F.normalize(Z, dim=-1), y @ codes], -1)
        real = w > 0
        weight = w * real.sum(-1, keepdim=True) / w.sum(-1, keepdim=True)
        memory = self._written(x, weight, real)
        kept = ("h", "c", "r", "M", "written")
        state = {name: getattr(memory, name) for name in kept}
        return state | {"codes": codes, "present": present}

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        Z = F.normalize(Z, dim=-1)
        n, lead = Z.shape[-2], Z.shape[:-1]
        x = torch.cat([Z, Z.new_zeros(*lead, self.code_size)], -1)  # no label is told
        h, c, r = (t[..., None, :].expand(*lead, -1)
                   for t in (state["h"], state["c"], state["r"].flatten(-2)))  # fmt: skip
        h, _ = self._controlled(torch.cat([x, r], -1), h, c)
        k = self._keys(x, h).flatten(-3, -2)
        r = self._read(k, state["M"], state["written"])[1].unflatten(-2, (n, self.n_reads))
        code = self._code(h, r)
        logits = self.log_scale.exp() * (code @ state["codes"].mT)
        return logits.masked_fill(~state["present"][..., None, :], -torch.inf)


def _grown(memory: Memory, n_slots: int) -> Memory:
    """The same memory with blank slots up to a number of them."""
    more = n_slots - memory.w_u.shape[-1]
    if not more:
        return memory
    w_r, w_u, written = (F.pad(t, (0, more)) for t in (memory.w_r, memory.w_u, memory.written))
    return memory._replace(w_r=w_r, w_u=w_u, written=written, M=F.pad(memory.M, (0, 0, 0, more)))


def _spread(flag: Tensor, like: Tensor) -> Tensor:
    """Give a value a task the trailing axes of a tensor a task."""
    return flag.reshape(flag.shape + (1,) * (like.ndim - flag.ndim))


@with_shared_texts()
class MANNClassifier(FewShotClassifier):
    """Memory-augmented neural network: an LSTM that writes rows and labels to an outer memory.

    `fit` reads the support rows one after another. For each, a controller, an
    LSTM, makes the keys k_t of some heads, which are written to the slots that
    were used least, and to those just read (least recently used access, eq.
    5-8 of [1]_). A row to predict makes keys of its own; what the memory holds
    under those most alike by the cosine (eq. 2-4), and the controller, say
    which label it had.

    Labels are told as fixed vectors, codes, and a code is put out, compared
    with that of each class: so any number of classes will do. The classes get
    their codes by where their mean rows lie, so names do not matter, and rows
    are read in an order that they themselves determine.

    Without a meta-init, the key of a row is the row, scaled to length one,
    beside its code, and the controller adds nothing: this is classification by
    the nearest neighbours under the cosine of standardised features.

    Departures from [1]_: a row's label comes with the row instead of one step
    later, since rows to predict, which are told none, are apart from labelled
    ones here; they are also not written, since each is predicted by itself.
    Keys have a learned strength, as in [2]_: cosines alone are no sharp
    addresses. Slots are as large as keys, features and code, instead of 40, so
    that a key can hold both from the start; slots never written to are not
    read; and unless `n_slots` says so nothing is overwritten, since rows come
    in no order that would make old ones useless. A row's weight, relative to
    the mean, multiplies what it writes.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    n_slots : int or None, default=None
        Slots of the memory, at least `n_reads`, of which the least used are
        overwritten once all are in use; 128 in [1]_. None takes the
        meta-init's; without one, there are as many as are written to.
    n_reads : int or None, default=None
        Heads, each of which writes to a slot and reads with a key of its own.
        None takes the meta-init's, or 4.
    controller_size : int or None, default=None
        Hidden units of the controller. None takes the meta-init's, or 200.
    code_size : int or None, default=None
        Length of the codes; that many classes have codes at right angles.
        None takes the meta-init's, or 32.
    gamma : float or None, default=None
        Share of its usage that a slot keeps from row to row. None takes the
        meta-init's, or 0.95.
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    memory_ : ndarray of shape (n_written, n_features_out + code_size)
        The slots that were written to.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    ProtoNetClassifier : Remembers the mean of each class.

    References
    ----------
    .. [1] A. Santoro, S. Bartunov, M. Botvinick, D. Wierstra and T. Lillicrap,
       "One-shot learning with memory-augmented neural networks", ICML 2016.
    .. [2] A. Graves, G. Wayne and I. Danihelka, "Neural Turing machines",
       arXiv:1410.5401, 2014.

    Examples
    --------
    >>> from fewshot_sklearn import MANNClassifier
    >>> clf = MANNClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')

    Three rows, each written by four heads:

    >>> clf.memory_.shape
    (12, 34)
    """

    _learner_class = MANN
    _defaults = {
        "n_slots": None,
        "n_reads": 4,
        "controller_size": 200,
        "code_size": 32,
        "gamma": 0.95,
    }
    _constraints = {
        "n_slots": Whole(1) | None,
        "n_reads": Whole(1) | None,
        "controller_size": Whole(1) | None,
        "code_size": Whole(1) | None,
        "gamma": Number(0, 1) | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        n_slots: int | None = None,
        n_reads: int | None = None,
        controller_size: int | None = None,
        code_size: int | None = None,
        gamma: float | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: Any = None,
        **encoder__params: Any,
    ):
        self.meta_init = meta_init
        self.encoder = encoder
        self.freeze_encoder = freeze_encoder
        self.scale_inputs = scale_inputs
        self.layout = layout
        self.n_slots = n_slots
        self.n_reads = n_reads
        self.controller_size = controller_size
        self.code_size = code_size
        self.gamma = gamma
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        return super()._learner_params(trained) | {"past": trained is not None}

    @property
    def memory_(self) -> np.ndarray:
        check_is_fitted(self)
        return self.state_["M"][self.state_["written"]]
