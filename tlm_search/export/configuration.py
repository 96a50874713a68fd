"""``config.json`` of an exported committee, as ``transformers`` reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto.configuration_auto import AutoConfig

from tlm_search.export.folder import MODEL_TYPE


class CommitteeConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """The members' ``architecture``, their ``pooling`` and digests, and the ``length`` in tokens that texts are cut to.

    ``markers`` are the ids of ``[E1]``, ``[/E1]``, ``[E2]`` and ``[/E2]`` if texts have marked entities. ``linear`` has
    the shapes of the linear model's tensors if one votes too. ``columns`` names the columns ``text`` and ``label`` of
    the study's task. ``pairs`` says that texts are read in pairs, whose segments are in ``token_type_ids``. ``context``
    says that texts are lines of a log, read with the lines before them. ``calibration`` has the ``temperature`` and the
    ``bias`` of each label; the bias is an empty list if none is added.

    A mixed committee has ``stacks`` instead of architecture, pooling and members. Each stack has these three and
    ``member_weights``, which are relative to those of all stacks. ``linear_models`` has the shapes of the tensors of
    each linear model. All arguments have defaults, because ``transformers`` makes empty configurations to compare with.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        architecture: Mapping[str, Any] | None = None,
        pooling: str = "cls",
        length: int = 0,
        members: Sequence[str] = (),
        pad_token_id: int = 0,
        markers: Sequence[int] | None = None,
        linear: Mapping[str, Sequence[int]] | None = None,
        columns: Mapping[str, Any] | None = None,
        pairs: bool = False,
        context: Mapping[str, Any] | None = None,
        calibration: Mapping[str, Any] | None = None,
        stacks: Sequence[Mapping[str, Any]] | None = None,
        linear_models: Sequence[Mapping[str, Sequence[int]]] | None = None,
        **others: Any,
    ) -> None:
        self.architecture = dict(architecture or {})
        self.pooling = pooling
        self.length = length
        self.members = list(members)
        self.pad_token_id = pad_token_id
        self.markers = None if markers is None else list(markers)
        self.linear = None if linear is None else {name: list(shape) for name, shape in linear.items()}
        self.columns = None if columns is None else dict(columns)
        self.pairs = pairs
        self.context = None if context is None else dict(context)
        self.calibration = None if calibration is None else dict(calibration)
        self.stacks = None if stacks is None else [dict(stack) for stack in stacks]
        self.linear_models = None if linear_models is None else [dict(model) for model in linear_models]
        super().__init__(**others)

    def labels(self) -> list[str]:
        """Return the labels in the order of the logits."""
        names: Any = self.id2label
        return [str(names[index]) for index in range(len(names))]


AutoConfig.register(MODEL_TYPE, CommitteeConfig, exist_ok=True)
