import itertools

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from attar.speech.gmm import Mixtures, single_gaussians, update_mixtures


def random_mixtures(states, components, dims, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Mixtures(
        torch.randn(states, components, dims, generator=generator),
        torch.rand(states, components, dims, generator=generator) + 0.3,
        torch.randn(states, components, generator=generator).log_softmax(dim=1),
    )


@pytest.mark.parametrize("components", [1, 3])
def test_densities_are_those_of_torch_distributions(components):
    mixtures = random_mixtures(5, components, 4)
    frames = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    reference = MixtureSameFamily(
        Categorical(logits=mixtures.log_weights),
        Independent(Normal(mixtures.means, mixtures.variances.sqrt()), 1),
    )
    expected = reference.log_prob(frames[:, None].expand(-1, 5, -1))
    torch.testing.assert_close(mixtures.log_likelihoods(frames), expected, rtol=1e-4, atol=1e-4)


def test_a_single_gaussian_has_mean_and_variance_of_its_frames():
    frames = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    states = torch.arange(60) % 2
    fitted = single_gaussians(frames, states, count=3, floor=1e-3)
    for state in range(2):
        own = frames[states == state]
        torch.testing.assert_close(fitted.means[state, 0], own.mean(0))
        torch.testing.assert_close(fitted.variances[state, 0], own.var(0, unbiased=False))
    torch.testing.assert_close(fitted.means[2, 0], frames.mean(0))  # nobody is there: that of all


def test_each_update_makes_frames_more_probable():
    generator = torch.Generator().manual_seed(0)
    states = torch.randint(2, (600,), generator=generator)
    side = torch.randint(2, (600, 1), generator=generator) * 6.0 - 3.0
    frames = torch.randn(600, 4, generator=generator) + side * (states[:, None] + 1)
    mixtures = single_gaussians(frames, states, count=2, floor=1e-3).split()

    def likelihood():
        own = mixtures.log_likelihoods(frames).gather(1, states[:, None])
        return own.mean().item()

    history = [likelihood()]
    for _ in range(8):
        mixtures = update_mixtures(mixtures, frames, states, floor=1e-3)
        history.append(likelihood())
    assert all(later >= earlier - 1e-5 for earlier, later in itertools.pairwise(history))
    assert history[-1] > history[0] + 1  # the two sides were found
    torch.testing.assert_close(mixtures.log_weights.exp().sum(1), torch.ones(2))


def test_a_component_with_few_frames_is_given_up_and_a_state_without_stays():
    frames = torch.zeros(20, 2)
    mixtures = Mixtures(
        torch.tensor([[[0.0, 0.0], [50.0, 50.0]]]).repeat(2, 1, 1),
        torch.ones(2, 2, 2),
        torch.full((2, 2), 0.5).log(),
    )
    updated = update_mixtures(mixtures, frames, torch.zeros(20, dtype=torch.int64), floor=0.01)
    assert updated.log_weights[0].tolist() == [0.0, -float("inf")]
    assert updated.log_likelihoods(frames).isfinite().all()
    torch.testing.assert_close(updated.log_weights[1], mixtures.log_weights[1])
    torch.testing.assert_close(updated.variances[0, 0], torch.full((2,), 0.01))  # the floor
