"""A committee as one ONNX graph with its members stacked, and the same graph with weights of 8 bits.

The inputs are ``input_ids`` and ``attention_mask``, int64 ``(batch, length)``, and ``token_type_ids`` of the same shape
if the committee reads pairs. The outputs are ``logits`` ``(batch, labels)``, the logarithms of the committee's
calibrated probabilities, and ``member_logits`` ``(batch, members, labels)``, with the bias of the calibration if it has
one. Batch and length are free, up to the members' positions.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tlm_search.data.tokens import TokenArray
from tlm_search.errors import ExportError
from tlm_search.export.committee import Answers, Committee
from tlm_search.model.batching import batches, rows
from tlm_search.model.inference import calibrated, member_logits, vote
from tlm_search.model.linear import linear_logits, mixture, share_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TOLERANCE = 1e-4  # between the probabilities of the fp32 graph and those of torch
_INPUTS, _TYPES, _OUTPUTS = ("input_ids", "attention_mask"), "token_type_ids", ("logits", "member_logits")


def require_onnx() -> None:
    """Raise an ExportError that says what to install, if a package is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"the ONNX form needs a package that is not installed: {error.name}",
            hint="install it with pip install 'tlm-search[onnx]'",
        ) from error


def write_onnx(committee: Committee, file: Path) -> None:
    """Write the committee as an ONNX graph."""
    graph = _Graph(committee).eval()
    # Use two texts of several tokens, because the exporter treats sizes of 0 and 1 as constants.
    positions = min(stack.architecture.positions for stack in committee.stacks)
    ids = torch.ones(2, min(7, positions), dtype=torch.long)
    free = {0: "batch", 1: "length"}
    inputs = (*_INPUTS, _TYPES) if committee.pairs else _INPUTS
    with _quiet():
        torch.onnx.export(
            graph,
            tuple(torch.ones_like(ids) for _ in inputs),  # the same tensor twice would become one input
            file,
            input_names=inputs,
            output_names=_OUTPUTS,
            dynamic_shapes=(free,) * len(inputs),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    _remove_traces(file)


def _remove_traces(file: Path) -> None:
    """Remove the stack traces of the nodes, which name folders of this machine."""
    import onnx

    model = onnx.load(file)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")
    onnx.save(model, file)


def write_int8(source: Path, file: Path) -> None:
    """Write the graph ``source`` with the weights of its products in 8 bits; activations are rounded at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        # Leave out the convolutions, which were five times slower in 8 bits.
        quantize_dynamic(source, file, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gather"])


def open_session(file: Path, *, threads: int | None = None) -> InferenceSession:
    """Open a graph with ONNX Runtime on the CPU, with this number of ``threads`` (None: one for each core).

    Raises:
        ExportError: onnxruntime is not installed, or cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(
            "ONNX Runtime is not installed", hint="install it with pip install 'tlm-search[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ExportError(
            f"{file}: ONNX Runtime cannot read it: {str(error).splitlines()[0]}",
            hint="export the committee again with --onnx, or update onnxruntime",
        ) from error


def onnx_answers(session: InferenceSession, texts: TokenArray, *, labels: int, pad: int) -> Answers:
    """Return a graph's answers to tokenised texts, in the same batches as the committee's own."""
    probabilities = np.empty((len(texts), labels), np.float32)
    disagreement = np.empty(len(texts), np.float32)
    for chosen in batches(texts.lengths()):
        logits, members = run(session, *rows(texts, chosen, pad=pad))
        probabilities[chosen] = np.exp(logits)
        disagreement[chosen] = (members.argmax(-1) != logits.argmax(-1)[:, None]).mean(1)
    return Answers(probabilities, disagreement)


def run(
    session: InferenceSession,
    ids: NDArray[np.int64],
    mask: NDArray[np.bool_],
    segments: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return ``logits`` and ``member_logits`` of one batch. ``segments`` are those of pairs, by default all 0.

    Raises:
        ExportError: ONNX Runtime cannot run the graph.
    """
    given = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if any(item.name == _TYPES for item in session.get_inputs()):
        given[_TYPES] = np.zeros_like(ids) if segments is None else segments
    try:
        logits, members = session.run(list(_OUTPUTS), given)
    except Exception as error:  # ONNX Runtime's errors have no common class
        reason = str(error).partition("\n")[0]
        raise ExportError(
            f"ONNX Runtime cannot run the graph: {reason}",
            hint="graphs need torch 2.7 or newer; compare the versions of torch, onnxscript and onnxruntime",
        ) from error
    return np.asarray(logits), np.asarray(members)


class _Graph(nn.Module):
    def __init__(self, committee: Committee) -> None:
        super().__init__()
        self._options: dict[str, Any] = {"pad": committee.pad, "markers": committee.markers}
        self._stacks = [(stack.architecture, stack.pooling) for stack in committee.stacks]
        self._member_weights, self._calibration = committee.member_weights, committee.calibration
        self._parts: list[dict[str, str]] = []  # of each stack, then of each linear model
        for part in (*(stack.weights for stack in committee.stacks), *committee.linear):
            names = {name: f"part{len(self._parts)}_{name.replace('.', '_')}" for name in part}
            for name, place in names.items():
                self.register_buffer(place, part[name])
            self._parts.append(names)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        parts = [{name: getattr(self, place) for name, place in names.items()} for names in self._parts]
        linear, mask = parts[len(self._stacks) :], attention_mask.bool()
        options = {**self._options, "types": token_type_ids}
        logits = torch.cat(
            [
                member_logits(weights, architecture, input_ids, mask, pooling=pooling, **options)
                for weights, (architecture, pooling) in zip(parts, self._stacks, strict=False)
            ]
        )
        votes = vote(logits, self._member_weights)
        if linear:
            of_linear = [linear_logits(model, input_ids, mask, token_type_ids) for model in linear]
            votes = mixture(votes, of_linear, [share_of(model) for model in linear])
        if bias := self._calibration.bias:
            logits = logits + logits.new_tensor(bias)
        return calibrated(votes, self._calibration.temperature, bias), logits.transpose(0, 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporters' warnings, which the user cannot act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
