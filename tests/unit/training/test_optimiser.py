"""Muon: its step for a matrix equals torch's own for one member, and in a stack each member gets its own."""

import pytest
import torch

from tlm_search.model.weights import initial_weights
from tlm_search.training.optimiser import Muon, optimiser_of, orthogonalised

SHAPES = {
    "layers.0.attention.qkv.weight": (3 * 6, 6),
    "layers.0.inner.weight": (20, 6),
    "layers.0.out.weight": (6, 20),
    "layers.0.norm.weight": (6,),
    "embeddings.words": (30, 6),
    "mlm.transform.weight": (6, 6),
}
RATE, DECAY = 0.02, 0.1


def drawn(members: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(members, *shape, generator=generator) for name, shape in SHAPES.items()}


def trained(members: slice) -> dict[str, torch.Tensor]:
    """Three updates of the chosen members of a stack of four."""
    weights = {name: value[members].clone() for name, value in drawn(4, 0).items()}
    optimiser = optimiser_of(weights, name="muon", learning_rate=RATE, weight_decay=DECAY)
    for update in range(3):
        for name, gradient in drawn(4, update + 1).items():
            weights[name].grad = gradient[members].clone()
        optimiser.step()
    return weights


@pytest.mark.parametrize("shape", [(4, 8, 8), (3, 5, 12), (3, 12, 5)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    first, third, fifth = 3.4445, -4.7750, 2.0315
    values = values / values.norm(dim=1, keepdim=True)
    for _ in range(5):
        values = first * values + third * values**3 + fifth * values**5
    torch.testing.assert_close(orthogonalised(matrices), left @ torch.diag_embed(values) @ right)
    assert values.median().item() == pytest.approx(1, abs=0.3)


def test_matrices_of_layers_move_as_torchs_muon_moves_them_and_the_rest_as_adamw_does() -> None:
    ours = trained(slice(1, 2))
    for name, start in drawn(4, 0).items():
        parts = start[1].chunk(3) if name.endswith("qkv.weight") else (start[1],)
        moved = [torch.nn.Parameter(part.clone()) for part in parts]
        of_muon = name.startswith("layers.") and start.dim() == 3
        twin: torch.optim.Optimizer = (
            torch.optim.Muon(moved, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
            if of_muon
            else torch.optim.AdamW(moved, lr=RATE, weight_decay=DECAY)
        )
        for update in range(3):
            for part, gradient in zip(moved, drawn(4, update + 1)[name][1].chunk(len(moved)), strict=True):
                part.grad = gradient.clone()
            twin.step()
        # torch's own rounds to bf16 on the way.
        tolerance = 3e-3 if of_muon else 1e-6
        torch.testing.assert_close(ours[name][0], torch.cat(moved).detach(), atol=tolerance, rtol=tolerance, msg=name)


def test_a_member_moves_as_it_would_alone_whatever_its_companions_do() -> None:
    stacked, alone = trained(slice(0, 4)), trained(slice(2, 3))
    for name, value in alone.items():
        torch.testing.assert_close(stacked[name][2:3], value, atol=1e-5, rtol=1e-5, msg=name)
    broken = {"layers.0.out.weight": torch.ones(2, 3, 4)}
    optimiser = optimiser_of(broken, name="muon", learning_rate=RATE, weight_decay=DECAY)
    broken["layers.0.out.weight"].grad = torch.stack([torch.ones(3, 4), torch.full((3, 4), float("nan"))])
    optimiser.step()
    assert broken["layers.0.out.weight"][0].isfinite().all()
    assert broken["layers.0.out.weight"][1].isnan().all()


def test_it_moves_the_four_matrices_of_a_layer_and_nothing_else_of_a_real_member() -> None:
    from small_texts import CONVOLVED

    weights = initial_weights(CONVOLVED, (0, 1))
    optimiser = optimiser_of(weights, name="muon", learning_rate=RATE, weight_decay=DECAY)
    assert isinstance(optimiser, Muon)
    for value in weights.values():
        value.grad = torch.ones_like(value)
    optimiser.step()
    moved = {name for name, value in weights.items() if "momentum_buffer" in optimiser.state[value]}
    assert moved == {f"layers.0.{part}.weight" for part in ("attention.qkv", "attention.out", "inner", "out")}
