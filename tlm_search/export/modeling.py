"""The committee as a model of ``transformers``: its Auto classes and pipelines load an export, without remote code.

Importing this module registers it. ``import tlm_search`` does that once ``transformers`` is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from tlm_search.data.pairs import TextOrPair
from tlm_search.data.vocabulary.tokenizer import open_tokenizer
from tlm_search.errors import ExportError
from tlm_search.export.committee import Answers, Committee, calibration_of, markers_of
from tlm_search.export.configuration import CommitteeConfig
from tlm_search.export.fit import form_of, require_fit, shapes_in
from tlm_search.export.folder import CHECK, CONFIG, MANIFEST, MODEL, as_damage, read_json, verified
from tlm_search.model.convolution import STATISTICS
from tlm_search.model.inference import calibrated, member_logits, vote
from tlm_search.model.linear import empty, linear_logits, mixture, share_of
from tlm_search.model.weights import Weights, classifier_weights, initial_weights


@dataclass
class SoftCommitteeOutput(SequenceClassifierOutput):
    """``logits`` ``(texts, labels)`` are the logarithms of the committee's calibrated probabilities.

    Their softmax is the committee's answer. ``member_logits`` has the shape ``(texts, members, labels)``.
    """

    member_logits: Tensor | None = None


class SoftCommittee(PreTrainedModel):  # type: ignore[no-untyped-call]
    """K stacked BERTs that vote by the mean of their softmax outputs, and linear models with a share of the votes.

    Parameters of members have a leading member dimension, and the names of ``tlm_search.model.bert``. Those of the
    linear model begin with ``linear.`` and are described in ``tlm_search.model.linear``. In a mixed committee names
    begin with ``stacks.0.``, one stack for each architecture, and ``linear_models.0.``.
    """

    config: CommitteeConfig
    config_class = CommitteeConfig
    main_input_name = "input_ids"
    tokenizer: Tokenizer | None = None
    # The loss is the mean of a batch. Without this line a Trainer takes the `**_` of forward for a promise to divide
    # the loss by the texts of all accumulated batches, and gradients would add up.
    accepts_loss_kwargs = False

    def __init__(self, config: CommitteeConfig) -> None:
        super().__init__(config)
        self._form = form_of(config.to_dict())
        self._positions = min(stack.architecture.positions for stack in self._form.stacks)
        self._markers = markers_of(config.to_dict())
        self._calibration = calibration_of(config.to_dict(), labels=len(config.labels()))
        self._places: list[tuple[str, nn.Module, str]] = []
        for name, value in _fresh(config).items():
            self._place(name, value)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *arguments: Any, **options: Any) -> SoftCommittee:
        """Load an export from its folder or from a hub, after a check of every file.

        The output of ``save_pretrained`` loads too; it has no manifest to check.

        Raises:
            ExportError: the export was changed after it was written.
        """
        folder = _local(pretrained_model_name_or_path, options)
        if (folder / MANIFEST).exists() or (folder / CHECK).exists():
            verified(folder)
        if (folder / MODEL).is_file():  # otherwise save_pretrained wrote several files
            _require_fit(folder)
        model = super().from_pretrained(folder, *arguments, **{**options, "trust_remote_code": False})
        if (folder / "tokenizer.json").is_file():
            model.tokenizer = open_tokenizer(folder)
        return model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> SoftCommitteeOutput | tuple[Tensor, ...]:
        """Vote on texts of ``(texts, length)`` ids; ``token_type_ids`` tell the two texts of a pair apart.

        A committee of single texts ignores ``token_type_ids``, because some tokenizers return them always.

        Raises:
            ValueError: the texts are longer than the members have positions.
        """
        longest = self._positions
        if input_ids.shape[1] > longest:
            raise ValueError(
                f"a text of {input_ids.shape[1]} tokens, but the committee reads {longest}: tokenise with "
                f"truncation=True, max_length={longest}"
            )
        mask = None if attention_mask is None else attention_mask.bool()
        types = token_type_ids if self.config.pairs else None
        options: dict[str, Any] = {"pad": self.config.pad_token_id, "markers": self._markers, "types": types}
        weights = self.weights()
        stacks = zip(self._form.of_stacks(weights), self._form.stacks, strict=True)
        members = torch.cat(
            [
                member_logits(own, stack.architecture, input_ids, mask, pooling=stack.pooling, **options)
                for own, stack in stacks
            ]
        )
        logits = vote(members, self._form.member_weights)
        if linear := self._form.of_linear(weights):
            of_linear = [linear_logits(model, input_ids, mask, types) for model in linear]
            logits = mixture(logits, of_linear, [share_of(model).to(logits) for model in linear])
        logits = calibrated(logits, self._calibration.temperature, self._calibration.bias)
        loss = None if labels is None else F.nll_loss(logits, labels.view(-1))
        output = SoftCommitteeOutput(loss=loss, logits=logits, member_logits=members.transpose(0, 1))
        return output.to_tuple() if return_dict is False else output

    def weights(self) -> Weights:
        """Return the parameters by the names that ``tlm_search.model`` uses."""
        return {name: getattr(module, leaf) for name, module, leaf in self._places}

    def probabilities(self, texts: Sequence[TextOrPair]) -> Any:
        """Return the probabilities ``(texts, labels)``, float32. Long texts are cut, and empty ones are answered too.

        If the committee reads pairs, each of ``texts`` is a tuple of two texts.
        """
        return self.answers(texts).probabilities

    def answers(self, texts: Sequence[TextOrPair]) -> Answers:
        """Return probabilities and the members' disagreement in the order of ``texts``, computed on the CPU.

        Raises:
            ExportError: the model was not loaded from a folder with a tokenizer.
            TypeError: ``texts`` is a single text, or an item is not a text (a pair, if the committee reads pairs).
        """
        if self.tokenizer is None:
            raise ExportError(
                "this committee has no tokenizer", hint="load it from a folder that tlm-search export wrote"
            )
        weights = {
            name: value.detach().to(torch.float32 if value.is_floating_point() else value.dtype).cpu()
            for name, value in self.weights().items()
        }
        committee = Committee.of(
            self.config.to_dict(), weights, self.tokenizer, labels=self.config.labels(), expected={}
        )
        return committee.answers(texts)

    def _init_weights(self, module: nn.Module) -> None:
        """Do nothing, because ``_fresh`` draws the weights."""

    def _place(self, name: str, value: Tensor) -> None:
        *path, leaf = name.split(".")
        module: nn.Module = self
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        if name.endswith(STATISTICS) or not value.is_floating_point():
            module.register_buffer(leaf, value)
        else:
            module.register_parameter(leaf, nn.Parameter(value))
        self._places.append((name, module, leaf))


def _fresh(config: CommitteeConfig) -> Weights:
    form, labels = form_of(config.to_dict()), len(config.labels())
    fresh: Weights = {}
    for stack in form.stacks:
        seeds = range(stack.size)
        encoder = initial_weights(stack.architecture, seeds)
        classifier = classifier_weights(stack.architecture, labels, seeds, pooling=stack.pooling)
        members = {name: value for name, value in {**encoder, **classifier}.items() if not name.startswith("mlm.")}
        fresh |= {f"{stack.prefix}{name}": value for name, value in members.items()}
    for prefix, shapes in form.linear.items():
        fresh |= {f"{prefix}{name}": value for name, value in empty(shapes).items()}
    return fresh


def _require_fit(folder: Path) -> None:
    """Raise ExportError if the configuration does not fit the tensors, before memory is allocated by it."""
    config = read_json(folder, CONFIG)
    with as_damage(folder, f"{CONFIG} and {MODEL} do not fit"):
        named = config.get("id2label") or {"0": "", "1": ""}  # transformers does not write its default
        labels = [named[str(index)] for index in range(len(named))]
        require_fit(config, shapes_in(folder / MODEL), labels=len(labels))
        markers_of(config)
        calibration_of(config, labels=len(labels))


def _local(name: Any, options: Mapping[str, Any]) -> Path:
    folder = Path(name)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    passed = ("revision", "cache_dir", "token", "local_files_only", "force_download")
    return Path(snapshot_download(str(name), **{key: options[key] for key in passed if key in options}))


AutoModelForSequenceClassification.register(CommitteeConfig, SoftCommittee, exist_ok=True)
AutoModel.register(CommitteeConfig, SoftCommittee, exist_ok=True)
