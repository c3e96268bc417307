"""What a meta-training needs to go on where it was killed, in one file."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..meta_init import read_sealed, write_sealed


def _is_plain(value: Any) -> bool:
    """Whether `torch.load(weights_only=True)` reads it back without running any code."""
    if type(value) in (dict, OrderedDict):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    if type(value) in (list, tuple):
        return all(_is_plain(part) for part in value)
    return type(value) in (bool, int, float, str, type(None), torch.Tensor)


def _callback_state(callback: Any) -> dict[str, Any]:
    """Plain fitted attributes of a callback, and the state of a scheduler it drives."""
    state: dict[str, dict[str, Any]] = {}
    for name, value in vars(callback).items():
        if not name.endswith("_") or name.startswith("_") or isinstance(value, type):
            continue
        if isinstance(value, np.generic):
            value = value.item()
        if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
            inner = {k: v for k, v in value.state_dict().items() if _is_plain(v)}
            state[name] = {"state_dict": inner}
        elif _is_plain(value):
            state[name] = {"value": value}
    return state


def _restore_callback(callback: Any, state: dict[str, Any]) -> None:
    for name, saved in state.items():
        if "state_dict" in saved:
            getattr(callback, name).load_state_dict(saved["state_dict"])
        else:
            setattr(callback, name, saved["value"])


def check_place(path: str | os.PathLike[str]) -> None:
    """Refuse a checkpoint that could not be written, before there is anything to lose.

    Parameters
    ----------
    path : path-like
        The checkpoint.

    Raises
    ------
    OSError
        When its folder does not exist or may not be written to, or it is a folder itself.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"checkpoint must be a file, got the folder {str(path)!r}.")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(
            f"checkpoint={str(path)!r} is in a folder that does not exist: make {str(folder)!r} "
            "first."
        )
    if not os.access(folder, os.W_OK):
        raise PermissionError(
            f"checkpoint={str(path)!r} cannot be written: no permission for {str(folder)!r}."
        )


def save_epoch(trainer: Any, path: str | os.PathLike[str], fingerprint: str) -> None:
    """Write the trainer's state after an epoch; a kill leaves the old file or the new one.

    Parameters
    ----------
    trainer : MetaTrainer
        In the middle of `fit`, after an epoch's callbacks have run.
    path : path-like
        The checkpoint.
    fingerprint : str
        Says which settings and data the state belongs to.
    """
    stopping = trainer._stopping
    state = {
        "fingerprint": fingerprint,
        "best": (stopping.best, stopping.weights),
        "module": trainer.module_.changing_state(),
        "optimizer": trainer.optimizer_.state_dict(),
        "history": json.dumps(trainer.history.to_list()),
        "callbacks": {name: _callback_state(cb) for name, cb in trainer.callbacks_},
    }
    content = BytesIO()
    torch.save(state, content)
    write_sealed(path, content.getvalue())


def load_epoch(trainer: Any, path: str | os.PathLike[str], fingerprint: str) -> None:
    """Bring an initialized trainer to the state of the last completed epoch.

    Parameters
    ----------
    trainer : MetaTrainer
        Initialized, without a history, its callbacks told that training begins.
    path : path-like
        The checkpoint; it need not exist.
    fingerprint : str
        Must equal the one that was saved.

    Raises
    ------
    ValueError
        When the checkpoint is damaged or belongs to other settings or data.
    """
    path = Path(path)
    try:
        written = trainer._ranks.on_first(lambda: read_sealed(path) if path.exists() else None)
        if written is None:
            return
        state = torch.load(BytesIO(written), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"The checkpoint {path} cannot be read; delete it to start from the beginning."
        ) from error
    if not isinstance(state, dict) or "fingerprint" not in state:
        raise ValueError(f"{path} is not a checkpoint of a meta-training.")
    if state["fingerprint"] != fingerprint:
        raise ValueError(
            f"The checkpoint {path} was written with other settings or data "
            f"({state['fingerprint']}, now {fingerprint}). Delete it or name another file."
        )
    trainer.module_.load_changing(state["module"])
    trainer.optimizer_.load_state_dict(state["optimizer"])
    for name, callback in trainer.callbacks_:
        _restore_callback(callback, state["callbacks"].get(name, {}))
    trainer.history.extend(json.loads(state["history"]))
    trainer._stopping.best, trainer._stopping.weights = state.get("best", (None, None))
