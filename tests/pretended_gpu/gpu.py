"""A GPU that is not there: tensors that say they lie on one, and compute on the CPU.

Within `pretended()` a CPU-only build of PyTorch has a device. Tensors there are `OnDevice`; each
operation on them is checked as a GPU would check it, noted in `log`, and computed on the CPU.
What raises on a GPU raises: two devices in one operation, a generator of the other device, a
tensor on the device read as an array or pinned; and float64 on a device of kind "mps", that has
none. Import this before torch.

It cannot see rounding, the kernels themselves, speed, memory, streams and races, compiled code
(dynamo leaves out frames under a dispatch mode), more than one device, other processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ContextDecorator, ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

from . import build
from .log import Log

_guard = build.load()

import torch  # noqa: E402
from torch.optim import optimizer  # noqa: E402
from torch.utils._python_dispatch import (  # noqa: E402
    TorchDispatchMode,
    return_and_correct_aliasing,
)
from torch.utils._pytree import tree_iter, tree_map_only  # noqa: E402

log = Log()
ops = torch.ops.aten

#: Operations that read from one device and write to another.
COPIES = {ops.copy_.default, ops._to_copy.default, ops._foreach_copy_.default}
#: Operations whose indices may lie on the CPU, and are then copied.
INDEXED = {
    *(ops.index.Tensor, ops._unsafe_index.Tensor, ops.index_put.default),
    *(ops.index_put_.default, ops._index_put_impl_.default),
}
#: Operations that take a single number from the CPU, beside all pointwise and foreach ones.
TAKE_A_NUMBER = {
    *(ops.fill.Tensor, ops.fill_.Tensor, ops.masked_fill.Tensor, ops.masked_fill_.Tensor)
}
#: Operations after which the host needs a number, or the size of what came out.
NEED_THE_RESULT = {
    *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "bincount"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "_linalg_check_errors"),
}
#: Operations that compute nothing.
NO_KERNEL = {
    *("detach", "alias", "lift_fresh"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
}

#: Kinds of device, and what PyTorch numbers them.
_NUMBERS = {"cuda": 1, "mps": 13, "xpu": 12}
_kind = "cuda"


def device() -> torch.device:
    """The device that is pretended."""
    return torch.device(_kind, 0)


class OnDevice(torch.Tensor):
    """A tensor that says it lies on the device. Its numbers are those of `held`, on the CPU."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnDevice:
        if _kind == "mps" and held.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64: MPS has no float64.")
        told = {"dtype": held.dtype, "layout": held.layout, "device": device()}
        place = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        self = torch.Tensor._make_wrapper_subclass(cls, held.size(), **place, **told)
        self.held = held
        return self

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Operation(func, args, kwargs or {}).done()

    # what optimisers and compilers take a subclass apart by
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(parts: Any, context: Any, size: Any, stride: Any) -> OnDevice:
        return OnDevice(parts["held"])

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A file of it is read as a tensor of the CPU."""
        return self.held.detach().requires_grad_(self.requires_grad).__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:
        return f"{self.held!r} on {device()}"

    @property
    def data(self) -> Any:
        return torch.Tensor.data.__get__(self)  # type: ignore[attr-defined]

    @data.setter
    def data(self, value: OnDevice) -> None:
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.held = value.held

    # what goes past the dispatcher
    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {device()} device type tensor to numpy. Use Tensor.cpu() to copy the "
            "tensor to host memory first."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        log.wait("tolist")
        return self.held.tolist()

    def pin_memory(self, *args: Any) -> Any:
        raise RuntimeError("cannot pin a tensor of the device: only dense CPU tensors can be.")


class Operation:
    """One call of an operation, of which something lies on the device or is to lie there."""

    def __init__(self, func: Any, args: Any, kwargs: dict[str, Any]):
        self.func, self.args, self.kwargs = func, args, kwargs
        self.name = func._schema.name.rpartition("::")[2]
        self.tensors = [t for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)]
        self.strangers = [t for t in self.tensors if not isinstance(t, OnDevice)]
        self.asked = kwargs.get("device")

    @property
    def concerns_the_device(self) -> bool:
        """Whether it has to do with the device at all."""
        return len(self.strangers) < len(self.tensors) or self._is_ours(self.asked)

    @staticmethod
    def _is_ours(place: Any) -> bool:
        return place is not None and torch.device(place).type == _kind

    @property
    def lands(self) -> bool:
        """Whether what it makes lies on the device."""
        if self.func is ops.copy_.default:
            return isinstance(self.args[0], OnDevice)
        if self.asked is not None:
            return self._is_ours(self.asked)
        return len(self.strangers) < len(self.tensors)

    def done(self) -> Any:
        """Check it, note it, and compute it on the CPU."""
        if not self.concerns_the_device:
            return self.func(*self.args, **self.kwargs)
        self._refuse()
        self._note()
        kwargs = dict(self.kwargs)
        if self.asked is not None:
            kwargs["device"] = torch.device("cpu")
        args, kwargs = tree_map_only(OnDevice, lambda t: t.held, (self.args, kwargs))
        out = self.func(*args, **kwargs)
        if not self.lands:
            return out
        out = tree_map_only(torch.Tensor, OnDevice, out)
        if any(told.alias_info is not None for told in self.func._schema.arguments):
            return return_and_correct_aliasing(self.func, self.args, self.kwargs, out)
        return out

    # ------------------------------------------------------------------ what a GPU refuses
    def _refuse(self) -> None:
        mixed = 0 < len(self.strangers) < len(self.tensors)
        if mixed and self.func not in COPIES and not self._may_mix():
            places = [(tuple(t.shape), str(t.device)) for t in self.tensors]
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{device()} and cpu! ({self.name}: {places})"
            )
        generator = self.kwargs.get("generator")
        if generator is not None and self.lands != (generator._cdata in _generators):
            here, other = (_kind, "cpu") if self.lands else ("cpu", _kind)
            raise RuntimeError(f"Expected a '{here}' device type for generator but found '{other}'")

    def _may_mix(self) -> bool:
        led_by_ours = isinstance(self.tensors[0], OnDevice)
        if self.func in INDEXED:
            return led_by_ours
        numbers = all(t.dim() == 0 for t in self.strangers)
        pointwise = torch.Tag.pointwise in self.func.tags or self.name.startswith("_foreach_")
        writes_ours = led_by_ours or not self.name.endswith("_")
        return numbers and writes_ours and (pointwise or self.func in TAKE_A_NUMBER)

    # ------------------------------------------------------------------ what it costs
    def _note(self) -> None:
        if self.func in (ops._to_copy.default, ops.copy_.default):
            return self._note_copy()
        if self.name in NEED_THE_RESULT:
            log.wait(self.name)
        if self.func in INDEXED:
            self._note_indices()
        if not self._is_view and self.name not in NO_KERNEL:
            log.kernel(self.name)

    @property
    def _is_view(self) -> bool:
        told = [a.alias_info for a in self.func._schema.arguments if a.alias_info is not None]
        return any(not alias.is_write for alias in told)

    def _note_copy(self) -> None:
        in_place = self.func is ops.copy_.default
        source = self.args[1] if in_place else self.args[0]
        comes = isinstance(source, OnDevice)
        if comes and self.lands:
            log.kernel(self.name)
        elif comes:
            log.wait("to the host")
        elif not (in_place and source.dim() == 0):  # which fills
            place = 2 if in_place else len(self.args)
            patient = self.kwargs.get("non_blocking", (*self.args, False)[place])
            if not patient:
                log.wait("to the device")
            elif not _is_pinned(source):
                log.wait("to the device, of memory that is not pinned")

    def _note_indices(self) -> None:
        indices = [i for i in self.args[1] if i is not None]
        if any(not isinstance(i, OnDevice) for i in indices):
            log.wait("an index, to the device")
        fills = len(self.args) > 2 and self.args[2].numel() == 1
        if any(i.dtype == torch.bool for i in indices) and not fills:
            log.wait("how many a mask chooses")


class _Seen(TorchDispatchMode):
    """Sees the operations of no tensor on the device: what makes one, and what brings one there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Operation(func, args, kwargs or {}).done()


# ---------------------------------------------------------------------- torch's own modules
_Generator = torch.Generator
#: Those of the device, by the address of what they wrap: operations get other wrappers of it.
_generators: dict[int, Generator] = {}


class Generator(_Generator):
    """Of the CPU or of the device; what it draws for the device, it draws on the CPU."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        self = super().__new__(cls)
        self._place = torch.device(device)
        if self._place.type == _kind:
            _generators[self._cdata] = self
        return self

    @property
    def device(self) -> Any:
        return device() if self._cdata in _generators else self._place


#: Memory of the CPU that is pinned, by its address.
_pinned: dict[int, torch.Tensor] = {}


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _pin(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
    if tensor.numel() == 0:
        return tensor
    copy = tensor.clone(memory_format=torch.preserve_format)
    return _pinned.setdefault(_address(copy), copy)


def _is_pinned(tensor: torch.Tensor, *_: Any) -> bool:
    return tensor.numel() == 0 or _address(tensor) in _pinned


class _Usual(nullcontext, ContextDecorator):
    """Neither a context nor a decorator that changes anything."""


def _inference_mode(mode: Any = True) -> Any:
    """In the real one operations come here in another form."""
    if callable(mode):
        return torch.no_grad()(mode)
    return torch.no_grad() if mode else _Usual()


def _backend() -> dict[str, Any]:
    """What of ``torch.cuda``, or of its like, the package and its libraries ask for."""
    state = torch.zeros(16, dtype=torch.uint8)
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "_is_in_bad_fork": lambda: False,
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda *_: None,
        "get_device_name": lambda *_: "pretended",
        "get_device_capability": lambda *_: (9, 0),
        "mem_get_info": lambda *_: (2**36, 2**37),
        "empty_cache": lambda: None,
        "synchronize": lambda *_: log.wait("synchronize"),
        "get_rng_state": lambda *_: state,
        "set_rng_state": log.seed,
        "manual_seed": log.seed,
        "manual_seed_all": log.seed,
    }


@contextmanager
def pretended(kind: str = "cuda") -> Iterator[Log]:
    """Within it there is a device of a kind, "cuda", "mps" or "xpu", for this thread."""
    global _kind
    module = getattr(torch, kind)
    stand_ins = {name: told for name, told in _backend().items() if hasattr(module, name)}
    lifts = torch._C._only_lift_cpu_tensors()
    before = _kind
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(mock.patch.multiple(module, **stand_ins))
        if kind == "mps":
            enter(mock.patch.object(torch.backends.mps, "is_available", lambda: True))
        enter(mock.patch.object(torch, "Generator", Generator))
        enter(mock.patch.object(torch, "inference_mode", _inference_mode))
        enter(mock.patch.object(torch.Tensor, "pin_memory", _pin))
        enter(mock.patch.object(torch.Tensor, "is_pinned", _is_pinned))
        kinds = [*optimizer._foreach_supported_types, OnDevice]
        enter(mock.patch.object(optimizer, "_foreach_supported_types", kinds))
        try:
            _kind = kind
            _guard.pretend(_NUMBERS[kind])
            torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor(...) is seen
            enter(torch.autograd.set_multithreading_enabled(False))
            enter(_Seen())
            yield log
        finally:
            torch._C._set_only_lift_cpu_tensors(lifts)
            _kind = before
            _pinned.clear()
            _generators.clear()
