import threading
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from attar.modes import evaluation_mode


def make_network():
    """A network in training mode, one of whose layers is frozen."""
    network = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.BatchNorm1d(3))
    network[2].eval()
    return network


def modes(network):
    return [module.training for module in network.modules()]


def test_every_layer_gets_its_own_mode_back():
    network = make_network()
    with evaluation_mode(network):
        assert modes(network) == [False] * 4
    assert modes(network) == [True, True, True, False]


def test_modes_are_given_back_after_an_error():
    network = make_network()
    with pytest.raises(KeyError), evaluation_mode(network):
        raise KeyError
    assert modes(network) == [True, True, True, False]


def test_modes_are_given_back_where_the_network_refuses_evaluation():
    class Stubborn(nn.Linear):
        def train(self, mode=True):
            super().train(mode)
            if not mode:
                raise RuntimeError("no")
            return self

    network = Stubborn(2, 2)
    for _ in range(2):  # the second time, nobody holds it either
        with pytest.raises(RuntimeError, match="no"), evaluation_mode(network):
            pass
        assert network.training


def test_the_last_holder_gives_the_modes_back():
    network = make_network()
    with evaluation_mode(network):
        with evaluation_mode(network):
            pass
        assert modes(network) == [False] * 4
    assert modes(network) == [True, True, True, False]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_networks_that_share_a_trunk_do_not_wake_it_for_each_other(order):
    trunk = nn.Dropout()
    networks = [nn.Sequential(trunk, nn.Linear(2, 2)) for _ in range(2)]
    holds = [ExitStack(), ExitStack()]
    for network, hold in zip(networks, holds, strict=True):
        hold.enter_context(evaluation_mode(network))
    holds[order[0]].close()
    assert not trunk.training
    holds[order[1]].close()
    assert [modes(network) for network in networks] == [[True] * 3] * 2


def test_threads_that_come_and_go_never_see_training_mode():
    network = make_network()
    seen, barrier = set(), threading.Barrier(4)

    def work():
        barrier.wait()
        for _ in range(100):
            with evaluation_mode(network):
                seen.update(modes(network))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {False}
    assert modes(network) == [True, True, True, False]


def test_evaluation_mode_leaves_gradients_alone():
    network = make_network()
    with evaluation_mode(network):
        assert network(torch.ones(2, 3)).requires_grad
