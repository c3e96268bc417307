"""A program of torch as an ONNX file that onnxruntime computes.

Operations that ONNX lacks, or that onnxruntime has for single precision alone, are written out in
elementary ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch

#: The set of operations that files use: of 2022, so that runtimes need not be new.
OPSET = 18
#: What has to be installed, and how.
NEEDS = "pip install 'fewshot-sklearn[export]'"


def translations() -> dict[Any, Callable[..., Any]]:
    """Operations of torch, and functions that write them in those of ONNX."""
    import onnxscript
    from onnxscript import opset18 as op

    double, single, whole = (
        onnxscript.DOUBLE.dtype, onnxscript.FLOAT.dtype, onnxscript.INT64.dtype
    )  # fmt: skip

    def distances(A: Any, B: Any, p: float = 2.0, compute_mode: Any = None) -> Any:
        if p != 1.0:
            raise NotImplementedError(f"distances of the norm {p:g}")
        apart = op.Sub(op.Unsqueeze(A, [-2]), op.Unsqueeze(B, [-3]))
        return op.ReduceSum(op.Abs(apart), [-1], keepdims=0)

    def places(
        ordered: Any, values: Any, out_int32: bool = False, right: bool = False, **others: Any
    ) -> Any:
        before = op.LessOrEqual if right else op.Less
        found = before(op.Unsqueeze(ordered, [-2]), op.Unsqueeze(values, [-1]))
        return op.ReduceSum(op.Cast(found, to=whole), [-1], keepdims=0)

    def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
        if beta != 1.0:
            raise NotImplementedError(f"softplus of the steepness {beta:g}")
        if x.dtype != double:
            return op.Softplus(x)
        one, nothing = (op.Constant(value=_scalar(value)) for value in (1.0, 0.0))
        return op.Add(op.Max(x, nothing), op.Log(op.Add(one, op.Exp(op.Neg(op.Abs(x))))))

    def gelu(x: Any, approximate: str = "none") -> Any:
        if approximate != "none":
            raise NotImplementedError(f"gelu approximated by {approximate}")
        # the error function in single precision, of which seven digits are right
        part = op.Erf(op.Cast(op.Mul(x, _like(x, 0.5**0.5)), to=single))
        part = op.Add(op.CastLike(part, x), _like(x, 1.0))
        return op.Mul(op.Mul(x, _like(x, 0.5)), part)

    def _scalar(value: float) -> Any:
        import onnx

        return onnx.helper.make_tensor("", double, [], [value])

    def _like(x: Any, value: float) -> Any:
        return op.CastLike(op.Constant(value=_scalar(value)), x)

    aten = torch.ops.aten
    return {
        aten.cdist.default: distances,
        aten._cdist_forward.default: distances,
        aten.searchsorted.Tensor: places,
        aten.softplus.default: softplus,
        aten.gelu.default: gelu,
    }


def check_installed() -> None:
    """Refuse where what ONNX needs is not there.

    Raises
    ------
    ImportError
        When it is not; says how to install it.
    """
    try:
        for name in ("onnx", "onnxscript", "onnxruntime"):
            import_module(name)
    except ImportError as error:
        raise ImportError(
            f"An .onnx file takes onnx, onnxscript and onnxruntime: {NEEDS}. A .pt2 file takes "
            "torch alone."
        ) from error


def onnx_file(program: Any, told: Mapping[str, str]) -> bytes:
    """The bytes of an .onnx file.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        What `program_of` returned.
    told : mapping of str to str
        What the file says of itself.

    Raises
    ------
    NotImplementedError
        When ONNX has no such operation.
    """
    names = list(program.module_call_graph[0].signature.out_spec.context)  # of a dict
    try:
        made = torch.onnx.export(
            program, input_names=["X"], opset_version=OPSET, dynamo=True, verbose=False,
            external_data=False, custom_translation_table=translations(),
        )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        raise NotImplementedError(
            f"ONNX has no operation for what this estimator computes: {_reason(error)}. Export it "
            "to a .pt2 file."
        ) from error
    assert made is not None
    _call(made.model.graph, names)
    proto = made.model_proto
    for node in proto.graph.node:  # where in the source they stand
        del node.metadata_props[:]
        node.doc_string = ""
    for name, value in told.items():
        proto.metadata_props.add(key=name, value=value)
    return proto.SerializeToString()


def _reason(error: BaseException) -> str:
    """What went wrong in the first place."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0]


def _call(graph: Any, names: list[str]) -> None:
    """Give the outputs their names, which something within may have."""
    within = [value for node in graph for value in node.outputs]
    for value in [*within, *graph.initializers.values()]:
        if value.name in names:
            value.name = f"{value.name}_within"
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name


def onnx_answers(content: bytes) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What an .onnx file answers, as a function of rows.

    Raises
    ------
    NotImplementedError
        When onnxruntime cannot compute in the precision that it was fitted in.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented as error:
        raise NotImplementedError(
            f"onnxruntime cannot compute this in double precision: {str(error).splitlines()[0]} "
            "Fit the estimator with dtype='float32', or export it to a .pt2 file."
        ) from error
    names = [output.name for output in session.get_outputs()]
    return lambda rows: dict(zip(names, session.run(None, {"X": rows}), strict=True))
