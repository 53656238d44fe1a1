"""The contract that training and sampling share: every prediction becomes x0, evaluations are
counted.
"""

import pytest
import torch
from hotstart.policy.denoisers.base import Network
from hotstart.policy.diffusion.contract import PREDICTIONS, Denoiser, Preconditioner
from hotstart.policy.diffusion.schedule import VPCosine, add_noise, alpha_sigma
from hotstart.spec import ConfigError


class Fixed(Network):
    """Always gives the same answer."""

    def __init__(self, answer: torch.Tensor):
        super().__init__()
        self.answer = answer

    def encode_context(self, tokens):
        return tokens

    def modulation(self, level):
        return level

    def forward(self, x, level, context, prepared=None):
        return self.answer


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    x0, noise = torch.randn(
        2, 16, 24, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).unbind(0)
    return x0, noise


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_contract_turns_every_prediction_into_x0(prediction):
    """A network that answers by the paper's definition gives the true x0 back."""
    x0, noise = batch()
    level = VPCosine().level(
        torch.rand(16, 24, generator=torch.Generator().manual_seed(2)).double().clamp(0.01, 0.99)
    )
    x = add_noise(x0, noise, level)
    alpha, sigma = alpha_sigma(level.unsqueeze(-1))
    data = 0.5
    answers = {
        "v": alpha * noise - sigma * x0,
        "eps": noise,
        "x0": x0,
        # 2206.00364, table 1, with its noise level s = sigma / alpha and its variable y = x / alpha
        "edm": (x0 - data**2 / (data**2 + (sigma / alpha) ** 2) * x / alpha)
        * torch.sqrt(data**2 + (sigma / alpha) ** 2)
        / (sigma / alpha * data),
    }

    denoiser = Denoiser(Fixed(answers[prediction]), Preconditioner(prediction))
    torch.testing.assert_close(denoiser(x, level, None), x0, atol=1e-8, rtol=0)


def test_edm_gives_its_network_inputs_of_variance_one():
    """2206.00364, section 5: c_in makes the input's variance one for data of the assumed
    standard deviation.
    """
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 20_000, 5, 1, generator=generator).unbind(0)
    level = torch.tensor([0.02, 0.2, 0.5, 0.8, 0.99]).expand(20_000, 5)
    c_in = Preconditioner("edm", 0.5).coefficients(level)[0]
    variance = (c_in * add_noise(0.5 * x0, noise, level)).var(0)
    torch.testing.assert_close(variance, torch.ones(5, 1), atol=0.04, rtol=0)


def test_an_unknown_prediction_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match="'velocity'; choose one of v, eps, x0, edm"):
        Preconditioner("velocity")


def test_evaluations_are_counted_per_row_and_clean_rows_are_free():
    x0, _ = batch()
    bound = Denoiser(Fixed(x0), Preconditioner("x0")).bind(None, clip=0.5)
    level = torch.zeros(16, 24).double()
    level[0] = 1.0
    level[1, 5] = 0.2  # one noisy step is an evaluation too
    assert torch.equal(bound(x0, level), x0.clamp(-0.5, 0.5))
    level[1] = 0.0
    bound(x0, level)
    assert bound.nfe.tolist() == [2, 1] + [0] * 14


@pytest.mark.parametrize("prediction", ["v", "eps", "x0", "edm"])
def test_the_loss_weighs_the_networks_own_output(prediction):
    """The error that is trained is that of F itself, so no prediction is blown up at either end
    of the levels.
    """
    preconditioner = Preconditioner(prediction)
    generator = torch.Generator().manual_seed(0)
    level = torch.tensor([[0.002, 0.1, 0.5, 0.9, 1.0]])
    x0, x, wrong = (
        torch.randn(1, 5, 3, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    c_in, c_skip, c_out = preconditioner.coefficients(level.double())
    right = (x0 - c_skip * x) / c_out  # the F that gives x0
    error = preconditioner.error(c_skip * x + c_out * (right + wrong), x0, level.double())
    torch.testing.assert_close(error, wrong)
    assert c_in.isfinite().all()
