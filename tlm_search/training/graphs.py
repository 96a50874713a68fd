"""Run updates on a GPU as CUDA graphs: recorded once for each shape of a batch, then replayed by a single call.

An update of a tiny model is a few hundred kernels of a few microseconds. Python takes several times as long to start
them one by one. A graph starts them without Python, and Python lays out the next batch meanwhile.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tlm_search.training.batches import ScoredBatch
from tlm_search.training.shapes import Shape, Shapes

MOST_GRAPHS = 64  # of a training; batches of other shapes are computed kernel by kernel
_AHEAD = 4  # updates that the host may be ahead of the device, with their batches in pinned memory


@dataclass(frozen=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    memory: Tensor  # the graph reads the batch here
    losses: Tensor  # and writes the losses here


class Graphs:
    """Calls ``update`` on batches in host memory.

    Batches are padded to a few shapes, with at most ``most_rows`` rows if given. The first batch of a shape is computed
    kernel by kernel, and the second records the graph. Batches in several micro-batches, which are used if memory is
    short, are always computed kernel by kernel. If no graph can be recorded, all batches are, with a warning.
    ``update`` draws from ``generators``. The tensors that it changes must stay at their place on ``device``.
    """

    def __init__(
        self,
        update: Callable[[Sequence[ScoredBatch]], Tensor],
        generators: Sequence[torch.Generator],
        device: torch.device,
        *,
        most_rows: int | None = None,
    ) -> None:
        self.update, self.generators, self.device = update, generators, device
        self._pool = torch.cuda.graph_pool_handle()
        self._shapes = Shapes(MOST_GRAPHS, most_rows=most_rows)
        self._recorded: dict[Shape, _Recorded] = {}
        self._seen: set[Shape] = set()
        self._possible = True
        self._ends: deque[torch.cuda.Event] = deque()

    def __call__(self, micro_batches: Sequence[ScoredBatch]) -> Tensor:
        """Queue the update of a batch, and return each member's loss ``(K,)``."""
        if len(self._ends) == _AHEAD:
            self._ends.popleft().synchronize()
        recorded = None
        if len(micro_batches) == 1 and self._possible:
            micro_batches = [micro_batches[0].filled(self._shapes.choose(micro_batches[0].shape))]
            recorded = self._graph_of(micro_batches[0])
        if recorded is None:
            losses = self.update([self._moved(micro_batch)[0] for micro_batch in micro_batches])
        else:
            recorded.graph.replay()
            losses = recorded.losses.clone()
        self._ends.append(torch.cuda.current_stream().record_event())
        return losses

    def _graph_of(self, batch: ScoredBatch) -> _Recorded | None:
        """Return the graph that computes ``batch``, after copying the batch to its memory, or None without a graph."""
        shape = batch.shape
        recorded = self._recorded.get(shape)
        if recorded is not None:
            recorded.memory.copy_(_laid_out(batch), non_blocking=True)
            return recorded
        if shape not in self._seen or len(self._recorded) >= MOST_GRAPHS:
            self._seen.add(shape)
            return None
        stream, states = torch.cuda.current_stream(), [generator.clone_state() for generator in self.generators]
        try:
            self._recorded[shape] = self._record(batch)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._possible = False
            # After a failure torch still uses the stream of the recording, with the generators' states bound to it.
            torch.cuda.set_stream(stream)
            for generator, state in zip(self.generators, states, strict=True):
                generator.graphsafe_set_state(state)
            self._recorded.clear()  # older graphs draw from the abandoned states
            reason = (str(error).splitlines() or ["unknown"])[0]
            warnings.warn(f"no CUDA graph could be recorded, so updates are slower: {reason}", stacklevel=2)
            return None
        return self._recorded[shape]

    def _record(self, batch: ScoredBatch) -> _Recorded:
        graph, (batch, memory) = torch.cuda.CUDAGraph(), self._moved(batch)
        for generator in self.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, pool=self._pool):
            losses = self.update([batch])
        return _Recorded(graph, memory, losses)

    def _moved(self, batch: ScoredBatch) -> tuple[ScoredBatch, Tensor]:
        """Return the batch on the device, and the memory that holds it."""
        memory = _laid_out(batch).to(self.device, non_blocking=True)
        parts = iter(torch.split(memory, [len(_words(part)) for part in batch.tensors()]))
        return batch.each(lambda part: next(parts).view(part.dtype).view(part.shape)), memory


def _laid_out(batch: ScoredBatch) -> Tensor:
    """Return all tensors of ``batch`` one after another in pinned memory.

    A copy from pinned memory to the device is queued. For other memory the host would wait for all earlier work.
    """
    words = [_words(part) for part in batch.tensors()]
    return torch.cat(words, out=torch.empty(sum(map(len, words)), dtype=torch.int32, pin_memory=True))


def _words(part: Tensor) -> Tensor:
    return part.flatten().view(torch.int32)
