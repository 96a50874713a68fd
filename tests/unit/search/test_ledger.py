import optuna

from tlm_search.search.ledger import Ledger
from tlm_search.space.schema import Space


def test_a_step_is_what_its_digits_say():
    space = Space.from_document(
        {
            "search": {
                "pretrain_dropout": {"low": 0, "high": 0.5, "step": 0.1},
                "depth": {"choices": [2, 3], "when": {"pretrain_dropout": [0.3]}},
            },
            "sampler": "random",
        }
    )
    ledger = Ledger(optuna.create_study(), space)
    asked = [ledger.ask(number) for number in range(40)]
    rates = {trial.params["pretrain_dropout"] for trial in asked}
    assert rates <= {0, 0.1, 0.2, 0.3, 0.4, 0.5}
    assert 0.3 in rates
    assert all(("depth" in trial.params) == (trial.params["pretrain_dropout"] == 0.3) for trial in asked)
    assert all(trial.settings["pretrain_dropout"] in rates for trial in asked)
