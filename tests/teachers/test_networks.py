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
    ("row", "told", "advice"),
    [
        ([0.5, 0.7], r"a sum of 1\.2, .* maximum 0\.7", "multi-label model .*TrainingRun"),
        ([40.0, 60.0], "a sum of 100", "counts or percentages, divide each row by its sum"),
        ([-0.5, 1.5], "minimum -0.5", r'these are logits, pass .* answers="logits"'),
        ([float("nan"), 1.0], "a sum of nan", "a missing value or a division by zero"),
        ([0.3, 0.5], r"a sum of 0\.8", r'rest="renormalize"\), .* or rest="class:<name>"'),
        ([0.0, 0.0], "a sum of 0,", 'all probabilities are 0; .* pass rest="class:<name>"'),
    ],
)
def test_what_is_no_probability_names_the_example_and_what_helps(row, told, advice):
    network = Constant(torch.tensor([[0.5, 0.5], row]))
    teacher = as_teacher(network, classes=2, answers="probabilities")
    with pytest.raises(DataError, match=rf"{told}.*for example 17; .*{advice}") as error:
        teacher.logits(make_batch(INPUTS[:2], [3, 17]))
    if 0 <= min(row) <= max(row) <= 1:
        assert 'answers="logits"' not in str(error.value)  # that made flat soft targets


def cut_off_probabilities(rows: int = 400) -> torch.Tensor:
    """The largest few of six probabilities, as a service returns them: some rows sum to 1."""
    p = torch.randn(rows, 6, generator=torch.Generator().manual_seed(0)).mul(3).softmax(dim=1)
    return p * (p >= 0.04)


def test_cut_off_probabilities_are_neither_taken_as_logits_nor_without_rest():
    p = cut_off_probabilities()
    batch = make_batch(torch.zeros(400, 1))
    with pytest.raises(DataError, match=r"sums from 0\.\d+ to 1; if these are probabilities"):
        as_teacher(p, classes=6).logits(batch)
    with pytest.raises(DataError, match=r'pass as_teacher\(\.\.\., rest="renormalize"\)'):
        as_teacher(p, classes=6, answers="probabilities").logits(batch)


def test_the_rest_of_probabilities_is_shared_out_or_goes_to_a_class():
    p, names = cut_off_probabilities(), ["a", "b", "c", "d", "e", "other"]
    ask = {"class_names": names, "answers": "probabilities"}
    batch = make_batch(torch.zeros(400, 1))
    shared = as_teacher(p, rest="renormalize", **ask).logits(batch).softmax(dim=1)
    torch.testing.assert_close(shared, p / p.sum(dim=1, keepdim=True))
    given = as_teacher(p, rest="class:other", **ask).logits(batch).softmax(dim=1)
    expected = p.clone()
    expected[:, 5] += 1 - p.sum(dim=1)
    torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)
    whole = p.sum(dim=1) > 1 - 1e-5  # where nothing is missing nothing is given, not even 1e-8
    assert (given[whole & (p[:, 5] == 0), 5] == 0).all()
    makers = [
        as_teacher(p, **ask, rest=rest).fingerprint()
        for rest in (None, "renormalize", "class:other", "class:a")
    ]
    assert len(set(makers)) == 4


@pytest.mark.parametrize(
    "make", [Constant, lambda p: lambda inputs: p, lambda p: p.numpy(), lambda p: make_frame(p)]
)
def test_each_kind_of_teacher_takes_rest(make):
    source = make(torch.tensor([[0.2, 0.4]]).repeat(4, 1))
    teacher = as_teacher(
        source, classes=2, answers="probabilities", rest="renormalize", version="1"
    )
    logits = teacher.logits(make_batch())
    torch.testing.assert_close(logits[0].exp(), torch.tensor([1 / 3, 2 / 3]))


def make_frame(scores: torch.Tensor):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    return pandas.DataFrame(scores.numpy(), columns=["0", "1"])


@pytest.mark.parametrize("rest", ["divide", "class:bird", "class"])
def test_a_rest_that_is_none_of_the_two_is_refused(rest):
    with pytest.raises(AttarError, match="expected rest="):
        as_teacher(torch.zeros(4, 2), class_names=["a", "b"], answers="probabilities", rest=rest)


def test_a_rest_of_logits_is_refused():
    for source in (torch.zeros(4, 2), [nn.Linear(3, 2)]):
        with pytest.raises(
            AttarError, match=r'rest=.* needs answers="probabilities", got logits from'
        ):
            as_teacher(source, classes=2, rest="renormalize")


def test_one_sigmoid_for_two_classes_says_how_it_becomes_two_probabilities(shape_hints_off):
    for shape in ((4, 1), (4,)):
        teacher = as_teacher(Constant(torch.full(shape, 0.5)), classes=2, answers="probabilities")
        with pytest.raises(ShapeError, match=r"probabilities of .* torch\.cat\(\[1 - p, p\], 1\)"):
            teacher.logits(make_batch())
        teacher = as_teacher(Constant(torch.zeros(shape)), classes=2)
        with pytest.raises(
            ShapeError, match=r"logits of .* torch\.cat\(\[torch\.zeros_like\(z\), z"
        ):
            teacher.logits(make_batch())


def test_probabilities_that_are_called_logits_are_an_error():
    network = nn.Sequential(make_network(), nn.Softmax(dim=1))
    with pytest.raises(
        DataError, match=r'sum to 1; pass as_teacher\(\.\.\., answers="probabilities"'
    ):
        as_teacher(network, classes=4).logits(make_batch())
    as_teacher(network, classes=4, answers="probabilities").logits(make_batch())


# Shapes


def test_another_number_of_classes_names_both_sides(shape_hints_off):
    teacher = as_teacher(make_network(), classes=10)
    told = "the transfer set's 10 classes, got 4 from the network Sequential; do both use the same"
    with pytest.raises(ShapeError, match=told):
        teacher.logits(make_batch())


@pytest.mark.parametrize("shape", [(4,), (3, 4), (4, 4, 2), ()])
def test_answers_of_another_shape_are_an_error(shape):
    with pytest.raises(ShapeError, match=r"output \[batch, classes\] of shape \[4, 4\], got \["):
        as_teacher(Constant(torch.zeros(shape)), classes=4).logits(make_batch())


def test_answers_without_a_tensor_are_an_error():
    with pytest.raises(DataError, match=r"in the output of the network Constant, got the keys"):
        as_teacher(Constant({"logits": 1}), classes=4).logits(make_batch())


@pytest.mark.parametrize("wrap", [lambda z: {"logits": z}, lambda z: (z, z[:, :1]), lambda z: [z]])
def test_logits_are_found_in_what_networks_and_functions_answer(wrap):
    scores = torch.tensor([[1.0, -2.0]] * 4)
    for source in (Constant(wrap(scores)), lambda inputs: wrap(scores)):
        version = None if isinstance(source, nn.Module) else "1"
        teacher = as_teacher(source, classes=2, version=version)
        assert torch.equal(teacher.logits(make_batch()), scores)


def test_two_heads_of_one_shape_are_not_chosen_between():
    scores = torch.zeros(4, 2)
    with pytest.raises(DataError, match=r"several of the same shape .* the mean of both heads"):
        as_teacher(Constant((scores, scores)), classes=2).logits(make_batch())


def test_a_class_for_each_token_is_refused(shape_hints_off):
    teacher = as_teacher(Constant(torch.zeros(4, 7, 3)), classes=3)
    with pytest.raises(ShapeError, match=r"got \[4, 7, 3\] .* each token or pixel instead of"):
        teacher.logits(make_batch())


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


def test_the_fingerprint_of_a_function_tells_probabilities_from_logits():
    kinds = [
        as_teacher(abs, classes=3, version="a", answers=answers).fingerprint()
        for answers in ("logits", "probabilities", None)
    ]
    assert kinds[0] == kinds[2] != kinds[1]


def test_a_table_that_a_function_answers_is_matched_by_name():
    pandas = pytest.importorskip("pandas")

    def answer(inputs):
        return pandas.DataFrame({"dog": [0.9] * 4, "cat": [0.1] * 4})

    teacher = as_teacher(answer, class_names=["cat", "dog"], answers="probabilities", version="1")
    torch.testing.assert_close(
        teacher.logits(make_batch())[0].exp(), torch.tensor([0.1, 0.9]).double()
    )


def test_a_function_without_a_version_asks_for_one():
    with pytest.raises(AttarError, match=r"a function needs version=, .* got none with ab"):
        as_teacher(abs, classes=3)


def test_a_function_that_answers_something_else_is_an_error():
    teacher = as_teacher(lambda inputs: None, classes=3, version="1")
    with pytest.raises(DataError, match=r"from the function .*<lambda>, got NoneType; return"):
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
    with pytest.raises(AttarError, match="got an ensemble at 1; list its"):
        as_teacher([single, Ensemble([single])], classes=4)
    with pytest.raises(ShapeError, match=r"members of the same classes, got \[4, 2\]"):
        Ensemble([single, as_teacher(make_network(), classes=2)])
