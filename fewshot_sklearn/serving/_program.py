"""A module as a program of torch for any number of rows: drawn by torch.export, and its file."""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from ..learners import undivided

#: Rows that a program is drawn from: more than one, which torch would take for a constant.
N_DRAWN = 3
#: What draws patches what all threads see, so one program is drawn at a time.
_ONE_AT_A_TIME = threading.Lock()
#: What torch notes of each operation: in which line of which file it was met.
_WHERE = ("stack_trace", "source_fn_stack", "nn_module_stack", "from_node")


@contextmanager
def drawing() -> Iterator[None]:
    """Draw alone, and without what torch has to say of itself and of what is not installed."""
    log = logging.getLogger("torch.onnx")
    with _ONE_AT_A_TIME, warnings.catch_warnings(), torch.no_grad(), undivided():
        warnings.simplefilter("ignore")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)


def program_of(module: nn.Module, rows: np.ndarray) -> Any:
    """Draw a module.

    Parameters
    ----------
    module : nn.Module
        Maps rows to a dict of str to Tensor.
    rows : ndarray of shape (n_rows, \\*input_shape)
        Any rows, at least one, of the type that the program is to take.

    Returns
    -------
    torch.export.ExportedProgram
        The program.

    Raises
    ------
    NotImplementedError
        When torch cannot draw it, as of an encoder that asks for values or for the number of rows.
    """
    some = torch.tensor(np.ascontiguousarray(rows[np.arange(N_DRAWN) % len(rows)]))
    module.eval().requires_grad_(False)
    try:
        n_rows = torch.export.Dim("n_rows")
        return torch.export.export(module, (some,), dynamic_shapes=({0: n_rows},), strict=False)
    except Exception as error:  # of whatever kind: a user's encoder may do anything
        raise NotImplementedError(
            "torch.export cannot draw this estimator as a graph of any number of rows. Usually an "
            "encoder of your own branches on values or on the number of rows: "
            f"{type(error).__name__}: {error}"
        ) from error


def slim(program: Any) -> Any:
    """Take out of a program what no answer needs: the weights of adaptation, and places in sources.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        What `program_of` returned; it is changed.
    """
    signature, graph = program.graph_signature, program.graph
    unused = {node.name for node in graph.nodes if node.op == "placeholder" and not node.users}
    for spec in list(signature.input_specs):
        if spec.target is not None and spec.arg.name in unused:
            signature.input_specs.remove(spec)
            program.state_dict.pop(spec.target, None)
            program.constants.pop(spec.target, None)
    named = {spec.arg.name for spec in signature.input_specs}
    for node in list(graph.nodes):
        if node.op == "placeholder" and node.name not in named:
            graph.erase_node(node)
    program.graph_module.recompile()
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            for name in _WHERE:
                node.meta.pop(name, None)
    return program


def torch_file(program: Any, told: Mapping[str, str]) -> bytes:
    """The bytes of a .pt2 file.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        What `program_of` returned.
    told : mapping of str to str
        What the file says of itself.
    """
    file = io.BytesIO()
    torch.export.save(slim(program), file, extra_files=dict(told))
    return file.getvalue()


def torch_answers(content: bytes) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What a .pt2 file answers, as a function of rows."""
    module = torch.export.load(io.BytesIO(content)).module()

    def answers(rows: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            found = module(torch.tensor(np.ascontiguousarray(rows)))
        return {name: t.numpy() for name, t in found.items()}

    return answers
