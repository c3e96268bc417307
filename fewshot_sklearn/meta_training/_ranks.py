"""Several processes that train together: which part is whose, and what they tell each other.

All that this package knows of ``torch.distributed``. Every process sees the same batches and takes
a part of their tasks; gradients and losses are added up, so that all take the same step.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain, count, groupby
from multiprocessing import parent_process
from threading import current_thread, main_thread
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


#: Seconds in which gloo's threads let go of the last message. Older torch ends a group with
#: Python's lock in its hands, which they need where they are the last to hold a tensor.
LETTING_GO = 0.1


def _told(message: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Send or receive, and say what it means where nobody answers.

    Raises
    ------
    RuntimeError
        When another process is gone.
    """
    try:
        message(*args, **options)
    except RuntimeError as error:
        raise RuntimeError(
            "Another of the processes that train together has ended, or cannot be reached: what "
            "it printed last says why. Training goes on from its checkpoint, in any number of "
            f"processes. ({error})"
        ) from error


class Agreed(KeyboardInterrupt):
    """Training is to end here in all processes, as it does in one."""


class Ranks:
    """This process among those that train together.

    Parameters
    ----------
    rank, world : int, default=0, 1
        Its number, and how many there are. Of one alone each method does the plain thing.
    host : object or None, default=None
        Group whose messages are sent from ordinary memory; None is the default one.
    """

    def __init__(self, rank: int = 0, world: int = 1, host: Any = None):
        self.rank, self.world, self._host = rank, world, host

    def __reduce__(self) -> Any:
        return Ranks, ()  # a copy elsewhere trains with nobody

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and prints."""
        return self.rank == 0

    def share(self, n: int, unit: int = 1) -> tuple[int, int]:
        """Which of n tasks in a row are its own, from the first up to the last.

        Parameters
        ----------
        n : int
            Tasks of a batch; there may be fewer than processes.
        unit : int, default=1
            Tasks that are not to be parted, if there are as many such chunks as processes.
        """
        parts = -(-n // unit)
        if parts < self.world:
            unit, parts = 1, n
        first, last = (parts * r // self.world for r in (self.rank, self.rank + 1))
        return min(n, first * unit), min(n, last * unit)

    # ------------------------------------------------------------------ objects
    def same(self, value: T) -> T:
        """The first process's value, in all."""
        if self.world == 1:
            return value
        box = [value if self.is_first else None]
        _told(dist.broadcast_object_list, box, 0, group=self._host)
        return box[0]  # type: ignore[return-value]

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, in their order."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        _told(dist.all_gather_object, found, value, group=self._host)
        return found

    def on_first(self, function: Callable[[], T]) -> T:
        """What a function gives in the first process, or raises there, in all."""
        if self.world == 1:
            return function()
        told: tuple[Any, Exception | None] = None, None
        if self.is_first:
            try:
                told = function(), None
            except Exception as error:
                told = None, error
        found, raised = self.same(told)
        if raised is not None:
            raise raised
        return found

    def check_same(self, value: Any, told: str, outline: str = "") -> None:
        """Refuse to go on where the processes have different values.

        Parameters
        ----------
        value : object
            What is to be the same.
        told : str
            What differs, and what to do.
        outline : str, default=""
            What this process has, in words.

        Raises
        ------
        ValueError
            In all of them.
        """
        found = self.gathered((value, outline))
        others = [i for i, other in enumerate(found) if other[0] != found[0][0]]
        if not others:
            return
        theirs = found[others[0]][1]
        if outline:
            both = f"process 0 has {found[0][1]}, process {others[0]} {theirs}"
            told += f" ({both if theirs != found[0][1] else f'Each has {theirs}, but not equal'}.)"
        raise ValueError(f"{told} (Process 0 differs from {others}.)")

    def any(self, flag: bool) -> bool:
        """Whether it is so in one of the processes."""
        if self.world == 1:
            return flag
        told = torch.tensor(int(flag), device="cpu")
        _told(dist.all_reduce, told, group=self._host)
        return bool(told)

    @contextmanager
    def together(self, kind: type[BaseException]) -> Iterator[None]:
        """Where one process raises this kind of exception, all do."""
        raised: BaseException | None = None
        try:
            yield
        except kind as error:
            raised = error
        if self.any(raised is not None):
            if self.world > 1 and kind is KeyboardInterrupt:
                raise Agreed from raised
            raise raised or kind()

    # ------------------------------------------------------------------ tensors
    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, in float64 where there are several."""
        if self.world == 1:
            return values
        total = values.detach().double()
        _told(dist.all_reduce, total, group=self._of(total))
        return total

    def sum_gradients(
        self, parameters: Iterable[Tensor], loss: Tensor | None
    ) -> tuple[Tensor | None, bool]:
        """Add up the gradients and the losses of all processes, in one message.

        A parameter that has no gradient anywhere still has none afterwards, as an optimizer
        leaves it.

        Parameters
        ----------
        parameters : iterable of Tensor
            The same ones in all processes.
        loss : Tensor of shape () or None
            None where this process failed, and has no gradients.

        Returns
        -------
        loss : Tensor of shape () or None
            Of all.
        failed : bool
            Whether one of the processes failed; the gradients are then none at all.
        """
        if self.world == 1:
            return loss, loss is None
        trained = [p for p in parameters if p.requires_grad]
        if any(p.grad is not None and p.grad.is_sparse for p in trained):
            raise ValueError(
                "The encoder has sparse gradients, which several processes do not add up. Build "
                "its nn.Embedding with sparse=False, or say distributed=False."
            )
        told = [loss is None, *(loss is not None and p.grad is not None for p in trained)]
        flags = torch.tensor(told, dtype=torch.float32, device="cpu")
        where = trained[0].device if trained else flags.device
        apart = where.type != "cpu"  # what a GPU sends is not looked at, which would mean waiting
        if apart:
            _told(dist.all_reduce, flags, group=self._host)
        parts = [
            (torch.zeros_like(p) if p.grad is None or loss is None else p.grad).reshape(-1)
            for p in trained
        ]
        own = torch.zeros((), device=where) if loss is None else loss.detach().to(where)
        sent = [*parts, own.reshape(1), *([] if apart else [flags])]
        bucket = torch.cat(sent)
        _told(dist.all_reduce, bucket, group=self._of(bucket))
        *sums, total = bucket.split([part.numel() for part in sent])[: len(parts) + 1]
        failures, *having = (flags if apart else bucket[-len(flags) :]).tolist()
        if failures:
            return None, True
        for p, has, g in zip(trained, having, sums, strict=True):
            if has:
                g = g.view(p.shape).to(p.dtype)
                p.grad = g.clone() if p.grad is None else p.grad.copy_(g)
        return total[0], False

    @torch.no_grad()
    def agree(self, state: dict[str, Tensor], near: float = math.inf) -> list[str]:
        """Take over the tensors of the first process.

        Parameters
        ----------
        state : dict of str to Tensor
            Written to in place.
        near : float, default=inf
            How far from them its own may be, relative to the largest.

        Returns
        -------
        list of str
            Names of those that are further away in one of the processes.
        """
        if self.world == 1:
            return []
        names = {id(t): name for name, t in state.items()}
        far: list[str] = []
        for some in _alike(list(state.values())):
            parts = [t.detach().contiguous().reshape(-1).view(torch.uint8) for t in some]
            sent = torch.cat(parts)
            _told(dist.broadcast, sent, 0, group=self._of(sent))
            for t, part in zip(some, sent.split([len(p) for p in parts]), strict=True):
                theirs = part.clone().view(t.dtype).view(t.shape)
                if near < math.inf and not _near(t, theirs, near):
                    far.append(names[id(t)])
                t.copy_(theirs)
        return sorted({*chain(*self.gathered(far))}) if near < math.inf else []

    def _of(self, tensor: Tensor) -> Any:
        return self._host if tensor.device.type == "cpu" else None

    def check_devices(self, device: torch.device) -> None:
        """Refuse that two processes of a machine compute on one GPU.

        Raises
        ------
        ValueError
            In all processes.
        """
        places = self.gathered((socket.gethostname(), str(device)))
        if device.type == "cuda" and len(set(places)) < len(places):
            raise ValueError(
                f"Several processes of one machine would train on one GPU: {places}. With "
                "device='auto' each takes its own; start no more of them than there are GPUs, "
                "such as torchrun --nproc-per-node gpu."
            )


#: A process that trains with nobody.
ALONE = Ranks()


@contextmanager
def joined(asked: bool | str) -> Iterator[Ranks]:
    """Within this context, the processes that this one is to train with.

    Where torchrun has started it and nobody has called ``init_process_group``, this does so, with
    gloo, and nccl for GPUs, and ends it afterwards.

    Parameters
    ----------
    asked : bool or "auto"
        ``"auto"`` looks whether there are others, False trains alone, True refuses to do so.

    Yields
    ------
    Ranks
        `ALONE` where there are no others. A thread other than the main one, and a process that
        was started by one of them, such as joblib's workers, also train alone.

    Raises
    ------
    ValueError
        When others are asked for and there is no process group.
    """
    may = asked is not False and dist.is_available() and current_thread() is main_thread()
    if may and dist.is_initialized():
        # of a group that sends from GPUs alone, another for what lies in ordinary memory
        host = dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else None
        try:
            yield _present(host)
        finally:
            if host is not None:
                dist.destroy_process_group(host)
    elif may and _started_by_torchrun():
        gpus = torch.cuda.is_available() and dist.is_nccl_available()
        store, rank, world = _rendezvous()
        # of its own: an earlier group's addresses are still written there
        store = dist.PrefixStore(f"fewshot_sklearn/{next(_TIMES)}", store)
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world)
        try:
            yield (ranks := _present())
            ranks.any(False)  # nobody leaves while another still listens
        finally:  # and where one leaves early, the others notice
            time.sleep(LETTING_GO)
            dist.destroy_process_group()
    elif asked is True:
        raise ValueError(
            "distributed=True needs several processes: start the script with torchrun "
            "--nproc-per-node 2 script.py, or call torch.distributed.init_process_group first."
        )
    else:
        yield ALONE


def _present(host: Any = None) -> Ranks:
    world = dist.get_world_size()
    return ALONE if world == 1 else Ranks(dist.get_rank(), world, host)


#: How often processes have joined.
_TIMES = count()


@cache
def _rendezvous() -> tuple[Any, int, int]:
    """Where the processes that torchrun has started find each other."""
    return next(dist.rendezvous("env://"))


def in_several_processes() -> bool:
    """Whether this process is one of several that could train together."""
    if not dist.is_available():
        return False
    return dist.get_world_size() > 1 if dist.is_initialized() else _started_by_torchrun()


def own_gpu(device: torch.device) -> str:
    """Name of the device, which of GPUs that nobody has chosen is one for each process."""
    place = os.environ.get("LOCAL_RANK", "")
    if device.type != "cuda" or device.index is not None or not place.isdigit():
        return str(device)
    return f"cuda:{int(place) % torch.cuda.device_count()}"


def _started_by_torchrun() -> bool:
    told = {"RANK", "WORLD_SIZE"} <= os.environ.keys() and os.environ["WORLD_SIZE"] != "1"
    return told and parent_process() is None  # workers inherit the variables


def _alike(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors by device and kind, in an order that all processes have."""

    def kind(t: Tensor) -> tuple[str, str]:
        return t.device.type, str(t.dtype)

    for _, some in groupby(sorted(tensors, key=kind), kind):
        yield list(some)


def _near(own: Tensor, theirs: Tensor, near: float) -> bool:
    if not own.is_floating_point():
        return torch.equal(own, theirs)
    own, theirs = own.double(), theirs.double()
    largest = float(theirs.nan_to_num(0.0, 0.0, 0.0).abs().amax()) if theirs.numel() else 0.0
    return torch.allclose(own, theirs, rtol=near, atol=near * largest, equal_nan=True)
