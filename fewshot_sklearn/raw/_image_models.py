"""Networks that turn pictures into features: timm's by name, or a user's own, loaded once.

R. Wightman. PyTorch image models. https://github.com/huggingface/pytorch-image-models, 2019.
"""

from __future__ import annotations

import copy
import os
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import LoadedModels, as_written
from ..learners import OwnRandomNumbers
from ..tasks import did_you_mean
from ._states import state_of

#: Files that weights come in on the hub.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_loaded = LoadedModels()
_copies: WeakKeyDictionary[nn.Module, tuple[Any, SharedImageModel]] = WeakKeyDictionary()
_lock = threading.Lock()


@dataclass(eq=False)
class SharedImageModel:
    """A network in evaluation mode that several callers, and threads, use as it is.

    Attributes
    ----------
    module : nn.Module
        Maps (n, C, H, W) to features.
    channels : int or None
        C that it takes; None where that is not known.
    size : tuple of int or None
        (height, width) that it was trained on; None takes pictures of any.
    mean, std : tuple of float or None
        Of the pixels, from 0 to 1, that it was trained on; None leaves them.
    pooling : str
        What becomes of features that are maps.
    """

    module: nn.Module
    channels: int | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pooling: str = "avg"

    def features(self, pictures: Tensor) -> np.ndarray:
        """Features (n, n_features), float32, of pictures (n, C, H, W) from 0 to 1.

        Raises
        ------
        ValueError
            When the network does not take them, or gives no features.
        """
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        dtype = next((p.dtype for p in self.module.parameters()), torch.float32)
        x = pictures.to(device)
        if self.mean is not None and self.std is not None:
            per_channel = (1, -1, 1, 1)
            x = x - torch.tensor(self.mean, device=device).reshape(per_channel)
            x = x / torch.tensor(self.std, device=device).reshape(per_channel)
        try:
            with torch.no_grad():
                out = self.module(x.to(dtype))
        except Exception as error:  # of any kind: the code may be anybody's
            raise ValueError(
                f"The network {type(self.module).__name__} does not take pictures of shape "
                f"{tuple(x.shape[1:])} (channels, height, width): {error}"
            ) from error
        return self._pooled(out).float().cpu().numpy()

    def _pooled(self, out: Any) -> Tensor:
        name = type(self.module).__name__
        if not isinstance(out, Tensor):
            raise ValueError(
                f"The network {name} must return one tensor, got {type(out).__name__}: wrap it in "
                "an nn.Module whose forward returns the features."
            )
        if out.ndim == 4:
            return (out.amax((2, 3)) if self.pooling == "max" else out.mean((2, 3))).contiguous()
        if out.ndim != 2:
            raise ValueError(
                f"The network {name} must return features (n, n_features) or maps (n, C, H, W), "
                f"got {tuple(out.shape)}."
            )
        return out


def shared_image_model(
    model: str,
    pretrained: bool | str | os.PathLike[str],
    pooling: str | None,
    device: str,
    download: bool,
    random_state: int,
) -> SharedImageModel:
    """The one loaded network of timm of that name, those weights and that device.

    Raises
    ------
    ImportError
        When timm is not installed, or does not work.
    ValueError
        For a name that timm does not have, or a file that is not of that network.
    FileNotFoundError
        When the weights are not on this machine.
    """
    timm = _timm()
    if not timm.is_model(model):
        raise ValueError(
            f"model={model!r} is no network of timm{did_you_mean([model], timm.list_models())}. "
            "timm.list_models() names them; an nn.Module of your own will do, too."
        )
    written = None
    if not isinstance(pretrained, bool):
        if not Path(pretrained).is_file():
            raise FileNotFoundError(f"pretrained={os.fspath(pretrained)!r}: there is no such file.")
        written = (str(Path(pretrained).resolve()), as_written(pretrained))
    seed = random_state if pretrained is False else None
    key = (model, written or bool(pretrained), pooling, device, seed)
    return _loaded.get(
        key,
        lambda: _of_timm(timm, model, pretrained, pooling, device, download, random_state),
    )


def own_image_model(module: nn.Module, pooling: str | None, device: str) -> SharedImageModel:
    """A copy of a user's network, in evaluation mode; the same one until the network changes."""
    state = (state_of(module), pooling, device)
    with _lock:
        known = _copies.get(module)
        if known is None or known[0] != state:
            own = copy.deepcopy(module).eval().requires_grad_(False).to(device)
            known = state, _described(own, pooling or "avg")
            _copies[module] = known
        return known[1]


def _of_timm(
    timm: Any,
    model: str,
    pretrained: Any,
    pooling: str | None,
    device: str,
    download: bool,
    random_state: int,
) -> SharedImageModel:
    asked: dict[str, Any] = {"num_classes": 0}
    if pooling is not None:
        asked["global_pool"] = pooling
    with OwnRandomNumbers(random_state):
        if pretrained is True:
            asked |= _weights_here(timm, model, download)
        try:
            module = timm.create_model(model, pretrained=pretrained is True, **asked)
        except (TypeError, AssertionError) as error:
            raise ValueError(f"The network {model} does not take pooling={pooling!r}.") from error
    if not isinstance(pretrained, bool):
        load_weights(module, pretrained)
    return _described(module.eval().requires_grad_(False).to(device), pooling or "avg")


def _described(module: nn.Module, pooling: str) -> SharedImageModel:
    """What timm says that a network was trained on; of other networks only what layers tell."""
    told = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None) or {}
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    size = tuple(told["input_size"][-2:]) if told.get("input_size") else None
    return SharedImageModel(
        module,
        channels=None if first is None else first.in_channels,
        size=size,
        mean=tuple(told["mean"]) if told.get("mean") else None,
        std=tuple(told["std"]) if told.get("std") else None,
        pooling=pooling,
    )


def load_weights(module: nn.Module, place: str | os.PathLike[str]) -> None:
    """Load a file of weights; those of a head that the network does not have are left.

    Parameters
    ----------
    module : nn.Module
        The network.
    place : path-like
        A file of safetensors, or of ``torch.save(module.state_dict())``.

    Raises
    ------
    ValueError
        When the file is no such thing, or of another network; no code in it is run.
    """
    try:
        if Path(place).suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(place)
        else:
            state = torch.load(place, map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind: the file may hold anything
        raise ValueError(
            f"pretrained={os.fspath(place)!r} is no file of weights, as torch.save(net.state_dict()"
            f", ...) writes: {error}"
        ) from error
    for name in ("state_dict", "model"):  # as training scripts save them, among other things
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not (isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())):
        raise ValueError(f"pretrained={os.fspath(place)!r} holds no tensors by name.")
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    other = [n for n in own if n in state and state[n].shape != own[n].shape]
    if missing or other:
        raise ValueError(
            f"pretrained={os.fspath(place)!r} is not of this network: "
            + (f"it lacks {missing[:3]}" if missing else f"other shapes of {other[:3]}")
            + f", and {len(missing) + len(other)} of {len(own)} tensors do not fit."
        )
    module.load_state_dict({name: state[name] for name in own})


def _weights_here(timm: Any, model: str, download: bool) -> dict[str, Any]:
    """Where timm finds its own weights: in the cache of the hub; nothing, if it may fetch them."""
    told = timm.get_pretrained_cfg(model)
    if told is None or not (told.hf_hub_id or told.url or told.file):
        raise ValueError(f"timm has no weights of {model}: say pretrained=False, or give a file.")
    from huggingface_hub import try_to_load_from_cache

    for name in WEIGHTS if told.hf_hub_id else ():
        found = try_to_load_from_cache(told.hf_hub_id, name)
        if isinstance(found, str):
            return {"pretrained_cfg_overlay": {"file": found}}
    if download:
        return {}
    raise FileNotFoundError(
        f"The weights of {model} are not on this machine. download=True fetches them from the "
        "Hugging Face hub; pretrained=PATH takes a file of them; pretrained=False takes random "
        "ones, to see whether pretraining helps."
    )


def _timm() -> Any:
    if find_spec("timm") is None:
        raise ImportError(
            "Networks by name need timm: pip install timm, or pip install "
            "'fewshot-sklearn[images]'. An nn.Module of your own needs neither."
        )
    try:
        import timm
    except Exception as error:  # torchvision raises RuntimeError where it is of another torch
        raise ImportError(
            f"timm is installed, but does not work: {error}. torchvision must be the build that "
            "belongs to your torch."
        ) from error
    return timm


def brought_to(pictures: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Pictures (n, C, H, W) scaled to cover a size, and cut about the centre."""
    if size is None or tuple(pictures.shape[-2:]) == size:
        return pictures
    height, width = pictures.shape[-2:]
    scale = max(size[0] / height, size[1] / width)
    scaled = max(size[0], round(height * scale)), max(size[1], round(width * scale))
    pictures = F.interpolate(pictures, scaled, mode="bilinear", align_corners=False, antialias=True)
    top, left = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
    return pictures[..., top : top + size[0], left : left + size[1]]
