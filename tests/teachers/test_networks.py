import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from attar.data import TransferSet
from attar.errors import AttarError, DataError, ShapeError
from attar.teachers import ZERO_LOGIT, Ensemble, Teacher, as_teacher

from .batches import INPUTS, make_batch


def make_network(seed: int = 0, classes: int = 4) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))


class Constant(nn.Module):
    """Answers what it was made with."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, inputs):
        return self.answer


# Torch modules


def test_a_network_is_run_in_evaluation_mode_without_gradient_and_left_as_it_was():
    network = make_network()
    logits = as_teacher(network, classes=4).logits(make_batch())
    assert network.training
    assert not logits.requires_grad
    torch.testing.assert_close(logits, network.eval()(INPUTS).detach())
    network.eval()
    as_teacher(network, classes=4).logits(make_batch())
    assert not network.training


def test_the_mode_comes_back_even_if_the_network_fails():
    network = nn.Sequential(nn.Linear(5, 4))
    with pytest.raises(RuntimeError):
        as_teacher(network, classes=4).logits(make_batch())
    assert network.training


def test_a_batch_of_a_transfer_set_fits():
    transfer = TransferSet(INPUTS, classes=4)
    teacher = as_teacher(make_network(), class_names=transfer.class_names)
    assert isinstance(teacher, Teacher)
    assert teacher.members is None
    assert teacher.reads_inputs
    assert teacher.logits(transfer.batch(torch.tensor([2, 0]))).shape == (2, 4)


def test_float64_logits_stay_and_others_become_float32():
    inputs = INPUTS.double()
    double = as_teacher(make_network().double(), classes=4)
    assert double.logits(make_batch(inputs)).dtype == torch.float64
    half = as_teacher(Constant(torch.zeros(4, 2, dtype=torch.bfloat16) - 1), classes=2)
    assert half.logits(make_batch()).dtype == torch.float32


def test_bfloat16_products_answer_nearly_the_same():
    network = make_network()
    exact = as_teacher(network, classes=4).logits(make_batch())
    rough = as_teacher(network, classes=4, precision="bfloat16").logits(make_batch())
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0.05)


def test_an_answer_with_logits_inside_is_unpacked():
    scores = torch.tensor([[1.0, -2.0]] * 4)
    teacher = as_teacher(Constant(SimpleNamespace(logits=scores)), classes=2)
    assert torch.equal(teacher.logits(make_batch()), scores)


def test_logits_that_are_not_finite_pass():  # who stores them stops there
    scores = torch.tensor([[float("nan"), 0.0], [-float("inf"), 1.0]])
    logits = as_teacher(Constant(scores), classes=2).logits(make_batch(INPUTS[:2]))
    torch.testing.assert_close(logits, scores, equal_nan=True)


# Probabilities


def test_probabilities_become_their_logarithms_and_zero_a_finite_logit():
    network = Constant(torch.tensor([[0.25, 0.75], [0.0, 1.0]]))
    teacher = as_teacher(network, classes=2, answers="probabilities")
    logits = teacher.logits(make_batch(INPUTS[:2]))
    expected = torch.tensor([[0.25, 0.75], [1.0, 1.0]]).log()
    expected[1, 0] = ZERO_LOGIT
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("temperature", [1.0, 20.0, 96.0])
def test_a_zero_stays_zero_at_each_temperature_even_if_stored_in_float16(temperature):
    stored = torch.tensor([ZERO_LOGIT, 0.0]).half()
    assert stored.isfinite().all()
    assert torch.softmax(stored.float() / temperature, dim=0)[0] == 0


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([0.5, 0.7], r"got a sum of 1\.2 with a smallest of 0\.5"),
        ([-0.5, 1.5], r"got a sum of 1 with a smallest of -0\.5"),
        ([float("nan"), 1.0], "got a sum of nan with a smallest of nan"),
    ],
)
def test_what_is_no_probability_names_the_example(row, told):
    network = Constant(torch.tensor([[0.5, 0.5], row]))
    teacher = as_teacher(network, classes=2, answers="probabilities")
    with pytest.raises(
        DataError, match=rf'{told} for example 17; try as_teacher\(\.\.\., answers="logits"'
    ):
        teacher.logits(make_batch(INPUTS[:2], [3, 17]))


def test_probabilities_that_are_called_logits_are_an_error():
    network = nn.Sequential(make_network(), nn.Softmax(dim=1))
    with pytest.raises(
        DataError, match=r'sum to 1 .*; try as_teacher\(\.\.\., answers="probabilities"'
    ):
        as_teacher(network, classes=4).logits(make_batch())
    as_teacher(network, classes=4, answers="probabilities").logits(make_batch())


# Shapes


def test_another_number_of_classes_names_both_sides(shape_hints_off):
    teacher = as_teacher(make_network(), classes=10)
    told = "the transfer set's 10 classes, got 4 from the network Sequential; do both use one"
    with pytest.raises(ShapeError, match=told):
        teacher.logits(make_batch())


@pytest.mark.parametrize("shape", [(4,), (3, 4), (4, 4, 2), ()])
def test_answers_of_another_shape_are_an_error(shape):
    with pytest.raises(ShapeError, match=r"answer \[batch, classes\] of \[4, 4\], got \["):
        as_teacher(Constant(torch.zeros(shape)), classes=4).logits(make_batch())


def test_answers_that_are_no_tensor_are_an_error():
    with pytest.raises(DataError, match=r"from the network Constant, got dict; wrap it"):
        as_teacher(Constant({"logits": 1}), classes=4).logits(make_batch())


# Fingerprints of networks


def test_equal_networks_have_one_fingerprint():
    network = make_network()
    fingerprints = {
        as_teacher(each, classes=4, precision=precision).fingerprint()
        for each in (network, copy.deepcopy(network), make_network())
        for precision in ("float32", "bfloat16")
    }
    assert len(fingerprints) == 1


def test_any_difference_changes_the_fingerprint():
    def changed(change) -> nn.Module:
        network = make_network()
        with torch.no_grad():
            change(network)
        return network

    networks = [
        make_network(),
        make_network(seed=1),
        make_network().double(),
        nn.Sequential(*make_network(), nn.Identity()),
        changed(lambda network: network[3].bias[2].add_(1e-6)),
        changed(lambda network: network[1].running_mean[0].add_(1e-6)),
        changed(lambda network: setattr(network[1], "eps", 1e-3)),
        changed(lambda network: network.register_buffer("t", torch.ones(()), persistent=False)),
    ]
    fingerprints = [as_teacher(each, classes=4).fingerprint() for each in networks]
    assert len(set(fingerprints)) == len(networks)
    probabilities = as_teacher(make_network(), classes=4, answers="probabilities")
    assert probabilities.fingerprint() not in fingerprints


def test_the_fingerprint_of_a_network_never_changes():  # stored targets hang on it
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        network.bias.zero_()
    expected = "ce281eb82a84825cd60ef9b881c8aa22f3bce85629ea46ecce260431ebf66ec9"
    assert as_teacher(network, classes=2).fingerprint() == expected


def test_an_address_in_the_text_of_a_network_does_not_count():
    class Activated(nn.Module):
        def __init__(self):
            super().__init__()
            self.activation = object()

        def extra_repr(self):
            return repr(self.activation)

    one, other = Activated(), Activated()
    assert repr(one) != repr(other)
    fingerprints = {as_teacher(each, classes=2).fingerprint() for each in (one, other)}
    assert len(fingerprints) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantized:UserWarning")
def test_quantized_networks_have_fingerprints_too():
    one, other = (
        torch.ao.quantization.quantize_dynamic(make_network(seed).eval(), {nn.Linear})
        for seed in (0, 1)
    )
    first, second = (as_teacher(each, classes=4) for each in (one, other))
    assert first.fingerprint() == as_teacher(copy.deepcopy(one), classes=4).fingerprint()
    assert first.fingerprint() != second.fingerprint()
    assert first.logits(make_batch()).shape == (4, 4)


# Functions


def test_a_function_may_answer_a_tensor_or_an_array():
    for function in (lambda inputs: inputs * 2, lambda inputs: inputs.numpy() * 2):
        teacher = as_teacher(function, classes=3, version="double")
        assert torch.equal(teacher.logits(make_batch()), INPUTS * 2)


def test_the_version_is_the_fingerprint_of_a_function():
    one, other = (as_teacher(lambda x: x, classes=3, version=text) for text in ("a", "b"))
    assert one.fingerprint() == as_teacher(abs, classes=3, version="a").fingerprint()
    assert one.fingerprint() != other.fingerprint()


def test_a_function_without_a_version_asks_for_one():
    with pytest.raises(AttarError, match=r"expected version= with a function, .* got none with ab"):
        as_teacher(abs, classes=3)


def test_a_function_that_answers_something_else_is_an_error():
    teacher = as_teacher(lambda inputs: None, classes=3, version="1")
    with pytest.raises(DataError, match=r"from the function .*<lambda>, got NoneType; wrap it"):
        teacher.logits(make_batch())


# Ensembles


def test_members_are_kept_apart():
    networks = [make_network(seed) for seed in range(3)]
    ensemble = as_teacher(networks, classes=4)
    logits = ensemble.logits(make_batch())  # [members, batch, classes]
    assert (ensemble.members, ensemble.classes, ensemble.reads_inputs) == (3, 4, True)
    for network, member in zip(networks, logits, strict=True):
        assert torch.equal(as_teacher(network, classes=4).logits(make_batch()), member)


def test_members_may_be_of_different_kinds_and_types():
    members = [make_network(), np.full((4, 4), 2.0), lambda inputs: inputs.new_zeros(4, 4)]
    ensemble = as_teacher(members, classes=4, version="1")
    logits = ensemble.logits(make_batch())
    assert logits.dtype == torch.float64
    assert not ensemble.reads_inputs


def test_the_fingerprint_of_an_ensemble_is_of_its_members_in_order():
    one, other = make_network(0), make_network(1)
    teachers = [[one, other], [one, other], [other, one], [one], one]
    fingerprints = [as_teacher(each, classes=4).fingerprint() for each in teachers]
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 4


def test_ensembles_that_do_not_fit_are_errors():
    single = as_teacher(make_network(), classes=4)
    with pytest.raises(AttarError, match="got an empty ensemble"):
        as_teacher([], classes=4)
    with pytest.raises(AttarError, match="got an ensemble at 1; list all"):
        as_teacher([single, Ensemble([single])], classes=4)
    with pytest.raises(ShapeError, match=r"members of the same classes, got \[4, 2\]"):
        Ensemble([single, as_teacher(make_network(), classes=2)])
