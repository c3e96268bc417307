"""What a meta-training needs to go on where it was killed, in one file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

#: Types that `torch.load(weights_only=True)` reads back without running any code.
_PLAIN = (bool, int, float, str, type(None), dict, list, tuple, torch.Tensor)


def _callback_state(callback: Any) -> dict[str, Any]:
    """Plain fitted attributes of a callback, and the state of a scheduler it drives."""
    state = {}
    for name, value in vars(callback).items():
        if not name.endswith("_") or name.startswith("_"):
            continue
        if hasattr(value, "item") and not isinstance(value, torch.Tensor):
            value = value.item()  # a numpy scalar
        if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
            state[name] = {"state_dict": dict(value.state_dict())}
        elif isinstance(value, _PLAIN):
            state[name] = {"value": value}
    return state


def _restore_callback(callback: Any, state: dict[str, Any]) -> None:
    for name, saved in state.items():
        if "state_dict" in saved:
            getattr(callback, name).load_state_dict(saved["state_dict"])
        else:
            setattr(callback, name, saved["value"])


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
    history = io.StringIO()
    trainer.history.to_file(history)
    state = {
        "fingerprint": fingerprint,
        "module": dict(trainer.module_.state_dict()),
        "optimizer": trainer.optimizer_.state_dict(),
        "history": history.getvalue(),
        "callbacks": {name: _callback_state(cb) for name, cb in trainer.callbacks_},
    }
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_epoch(trainer: Any, path: str | os.PathLike[str], fingerprint: str) -> str | None:
    """Bring an initialized trainer to the state of the last completed epoch.

    Parameters
    ----------
    trainer : MetaTrainer
        Initialized, with its callbacks told that training begins.
    path : path-like
        The checkpoint; it need not exist.
    fingerprint : str
        Must equal the one that was saved.

    Returns
    -------
    str or None
        The history, as JSON; None where there is no checkpoint.

    Raises
    ------
    ValueError
        When the checkpoint is damaged or belongs to other settings or data.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"The checkpoint {path} cannot be read; delete it to start from the beginning."
        ) from error
    if state["fingerprint"] != fingerprint:
        raise ValueError(
            f"The checkpoint {path} was written with other settings or data "
            f"({state['fingerprint']}, now {fingerprint}). Delete it or name another file."
        )
    trainer.module_.load_state_dict(state["module"])
    trainer.optimizer_.load_state_dict(state["optimizer"])
    for name, callback in trainer.callbacks_:
        _restore_callback(callback, state["callbacks"].get(name, {}))
    return state["history"]
