"""What must hold for every method in the registry; a new one is tested here without a new line."""

import copy
import inspect
import subprocess
import sys

import pytest
import torch

from iif_d2 import ClassFrequency
from iif_d2.errors import ConfigError, DataError, UnknownNameError
from iif_d2.methods import (
    METHOD_REGISTRY,
    DeferredFrequency,
    LongTailMethod,
    Reads,
    build_method,
    option_meanings,
)

from .helpers import random_batch, random_frequency

NUM_CLASSES = 5
C_LOGITS = {"Sigmoid", "EQL", "DropLoss", "FedLoss", "GOL", "APA", "FRACALSigmoid"}
DRAWN_PER_ROW = {"DropLoss", "GOL", "APA"}
HELD_CONSTANT = {"Seesaw"}  # a factor without gradient, which differences would see
SUPPORTED = [
    (name, background)
    for name, method in sorted(METHOD_REGISTRY)
    for background in (True, False)
    if (method.supports_background if background else method.supports_no_background)
]
every_method = pytest.mark.parametrize(("name", "background"), SUPPORTED)


def build(name, background, num_classes=NUM_CLASSES, frequency=None):
    frequency = frequency or random_frequency(num_classes)
    method = build_method(name, frequency, background)
    if hasattr(method, "observe"):
        method.observe(random_batch(method, rows=20, seed=99)[0])
    return method


def seeded_loss(method, logits, labels):
    torch.manual_seed(0)
    return method.loss(logits, labels)


def train(method, steps, first=0):
    """Losses of some steps, which also gather what state there is."""
    losses = []
    for step in range(first, first + steps):
        torch.manual_seed(step)
        logits, labels = random_batch(method, rows=12, seed=step)
        losses.append(method.loss(logits, labels).item())
        if hasattr(method, "observe"):
            method.observe(logits)
    return losses


def same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_promised_names_are_registered():
    assert {name for name, _ in METHOD_REGISTRY} >= {
        "Softmax", "Sigmoid", "IIF", "EQL", "DropLoss", "EQLv2", "Seesaw", "FedLoss",
        "BalancedSoftmax", "LogitAdjustment", "LADE", "ECM", "DisAlign", "GOL", "NorCal", "LogN",
        "FRACAL", "FRACALSigmoid", "FCBL", "EBL", "APA", "PCB", "LOS", "Calibrated",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", [name for name, method in METHOD_REGISTRY if not method.supports_background]
)
def test_a_method_for_classification_refuses_a_background(name):
    with pytest.raises(ConfigError, match=f"{name} is for classification"):
        build_method(name, random_frequency(3), background=True)


@every_method
def test_number_of_logits(name, background):
    extra = {"Seesaw": 2}.get(name, 0 if name in C_LOGITS else 1) if background else 0
    assert build(name, background).num_logits == NUM_CLASSES + extra


@every_method
def test_it_is_built_without_numbers(name, background):
    """As the model of a checkpoint's own config is, to see that it is no larger than those."""
    with torch.device("meta"):
        method = build_method(name, random_frequency(NUM_CLASSES), background)
        method.init_classifier(torch.nn.Linear(3, method.num_logits))


@every_method
@pytest.mark.parametrize("num_classes", [2, NUM_CLASSES])
def test_loss_is_a_finite_scalar_with_a_gradient(name, background, num_classes):
    method = build(name, background, num_classes)
    logits, labels = random_batch(method)
    logits.requires_grad_()
    loss = method.loss(logits, labels)
    loss.backward()
    assert loss.shape == () and loss.dtype == torch.float64
    assert loss.item() > 0 and loss.isfinite()
    assert logits.grad.isfinite().all() and (logits.grad != 0).any()


@every_method
def test_gradcheck(name, background):
    if name in HELD_CONSTANT:
        pytest.skip("checked with its factors held constant, in its own tests")
    method = build(name, background).eval()  # state at rest
    if method.has_state:
        method.train()
        train(method, 2)
        method.eval()
    logits, labels = random_batch(method, spread=1.0)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: seeded_loss(method, z, labels), logits)


@every_method
def test_no_rows_give_0_with_a_gradient(name, background):
    method = build(name, background)
    logits = torch.zeros(0, method.num_logits, requires_grad=True)
    loss = method.loss(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and loss.shape == ()
    assert logits.grad.shape == logits.shape
    assert method.probabilities(logits).shape == (0, NUM_CLASSES + background)


@pytest.mark.parametrize("name", [name for name, background in SUPPORTED if background])
def test_no_foreground_rows_give_a_finite_loss(name):
    method = build(name, True)
    logits = torch.randn(6, method.num_logits, requires_grad=True)
    loss = method.loss(logits, torch.full((6,), NUM_CLASSES))
    loss.backward()
    assert loss.isfinite() and loss.item() > 0 and logits.grad.isfinite().all()


@every_method
def test_only_background_or_one_class_is_seen(name, background):
    """One row, of each label in turn."""
    method = build(name, background)
    for label in range(NUM_CLASSES + background):
        logits = torch.randn(1, method.num_logits, requires_grad=True)
        loss = method.loss(logits, torch.tensor([label]))
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()


@every_method
def test_loss_is_divided_by_the_number_of_rows(name, background):
    if name in DRAWN_PER_ROW and background:
        pytest.skip("background rows draw their own classes")
    method = build(name, background).eval()
    logits, labels = random_batch(method)
    once = seeded_loss(method, logits, labels)
    thrice = seeded_loss(method, logits.repeat(3, 1), labels.repeat(3))
    torch.testing.assert_close(thrice, once, rtol=1e-12, atol=1e-12)


@every_method
def test_raising_the_right_logit_lowers_the_loss(name, background):
    method = build(name, background).eval()
    logits = torch.zeros(1, method.num_logits, dtype=torch.float64, requires_grad=True)
    for label in range(NUM_CLASSES):
        (gradient,) = torch.autograd.grad(
            seeded_loss(method, logits, torch.tensor([label])), logits
        )
        assert gradient[0, label] < 0 and gradient[0].argmin() == label


@every_method
def test_probabilities(name, background):
    method = build(name, background)
    logits, _ = random_batch(method, rows=50, spread=1.5)
    probabilities = method.probabilities(logits)
    assert probabilities.shape == (50, NUM_CLASSES + background)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    # a class's score rises with its logit, whatever the method
    logits[:, 0] += 1
    assert (method.probabilities(logits)[:, 0] > probabilities[:, 0]).all()


@pytest.mark.parametrize("name", [name for name, background in SUPPORTED if background])
def test_the_backgrounds_logit_is_never_adjusted(name):
    method = build(name, True)
    logits, _ = random_batch(method)
    adjusted = method.adjust(logits)
    assert adjusted.shape == logits.shape
    assert torch.equal(adjusted[:, NUM_CLASSES:], logits[:, NUM_CLASSES:])


@every_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name, background, dtype):
    method = build(name, background).eval()
    logits, labels = random_batch(method)
    logits = logits.to(dtype)
    loss = seeded_loss(method, logits, labels)
    probabilities = method.probabilities(logits)
    assert loss.dtype == probabilities.dtype == torch.float32
    assert torch.equal(loss, seeded_loss(method, logits.float(), labels))
    assert torch.equal(probabilities, method.probabilities(logits.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(seeded_loss(method, logits, labels), loss)
        assert torch.equal(method.probabilities(logits), probabilities)


@every_method
def test_float32_agrees_with_float64(name, background):
    method = build(name, background).eval()
    logits, labels = random_batch(method)
    logits = logits.float()
    exact = seeded_loss(method, logits.double(), labels)
    torch.testing.assert_close(
        seeded_loss(method, logits, labels).double(), exact, rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        method.probabilities(logits).double(),
        method.probabilities(logits.double()),
        rtol=1e-5,
        atol=1e-7,
    )


@every_method
def test_casting_the_model_rounds_no_constant_and_no_state(name, background):
    method = build(name, background)
    train(method, 2)
    cast = copy.deepcopy(method).half()
    for (key, before), (_, after) in zip(method.named_buffers(), cast.named_buffers()):
        assert torch.equal(before, after) and before.dtype == after.dtype, key
    logits, labels = random_batch(method)
    expected = seeded_loss(method.eval(), logits, labels)
    assert torch.equal(seeded_loss(cast.eval(), logits, labels), expected)


@every_method
def test_a_resumed_training_goes_on_bit_for_bit(name, background):
    method = build(name, background)
    train(method, 3)
    saved = copy.deepcopy(method.state_dict())
    resumed = build_method(name, random_frequency(NUM_CLASSES, seed=1), background)
    resumed.load_state_dict(saved)
    assert same_state(resumed, method)
    assert train(resumed, 3, first=3) == train(method, 3, first=3)
    logits, _ = random_batch(method)
    assert torch.equal(resumed.probabilities(logits), method.probabilities(logits))


@every_method
def test_what_was_gathered_is_in_the_state_and_eval_leaves_it(name, background):
    method = build(name, background)
    before = copy.deepcopy(method)
    train(method, 2)
    assert same_state(method, before) != method.has_state
    if not hasattr(method, "observe"):  # else gathering is asked for by name
        before = copy.deepcopy(method)
        train(method.eval(), 2)
        assert same_state(method, before)


@every_method
def test_a_plain_checkpoint_loads_without_complaint(name, background):
    method = build(name, background)
    before = copy.deepcopy(method)
    method.load_state_dict({}, strict=True)
    assert same_state(method, before)


@every_method
def test_frequencies_are_in_the_state_where_they_are_used(name, background):
    method = build(name, background)
    assert ("image_count" in method.state_dict()) == method.uses_frequency


@every_method
def test_deferred_frequencies_are_counted_at_first_use(name, background):
    frequency, counted = random_frequency(NUM_CLASSES), []

    def resolve() -> ClassFrequency:
        counted.append(True)
        return frequency

    deferred = DeferredFrequency(NUM_CLASSES, resolve, "some data")
    method = build_method(name, deferred, background)
    method.init_classifier(torch.nn.Linear(3, NUM_CLASSES + 1))
    assert not counted
    logits, labels = random_batch(method)
    expected = seeded_loss(build_method(name, frequency, background), logits, labels)
    for _ in range(2):
        loss = seeded_loss(copy.deepcopy(method), logits, labels)
        assert torch.equal(loss, expected)
    parts = [part for part in method.modules() if isinstance(part, LongTailMethod)]  # and itself
    assert bool(counted) == any(part.uses_frequency for part in parts)


@every_method
def test_wrong_shapes_are_named(name, background):
    method = build(name, background)
    message = rf"takes logits of shape \(R, {method.num_logits}\)"
    wrong = torch.zeros(2, method.num_logits + 1)
    with pytest.raises(ConfigError, match=message):
        method.loss(wrong, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ConfigError, match=message):
        method.adjust(wrong)
    with pytest.raises(ConfigError, match=message):
        method.probabilities(wrong[0])


@every_method
def test_an_unknown_option_is_an_error_that_lists_the_known(name, background):
    known = set(inspect.signature(METHOD_REGISTRY.get(name)).parameters)
    known -= {"frequency", "background"}
    with pytest.raises(ConfigError, match=f"{name} has no option 'flavour'") as error:
        build_method(name, random_frequency(3), background, flavour=1)
    assert all(option in str(error.value) for option in known)


@pytest.mark.parametrize(("name", "method"), sorted(METHOD_REGISTRY))
def test_every_option_says_what_it_means(name, method):
    assert all(len(meaning) > 20 for meaning in option_meanings(method).values())


@every_method
def test_scale_and_shift_are_the_test_unless_a_reason_is_given(name, background):
    method = build(name, background)
    logits, _ = random_batch(method)
    if method.not_affine is not None:
        with pytest.raises(ConfigError, match=f"{name} cannot be folded: "):
            method.affine()
        return
    scale, shift = (torch.tensor(values[: method.num_logits]) for values in method.affine())
    adjusted = logits * scale + shift
    scores = adjusted.sigmoid() if method.sigmoid_scores else adjusted.softmax(dim=1)
    found = method.probabilities(logits)[:, : method.num_logits]
    torch.testing.assert_close(found, scores, rtol=1e-12, atol=1e-12)


@every_method
def test_what_it_reads_survives_its_text(name, background):
    reads = build(name, background).reads
    assert Reads.parse(str(reads)) == reads


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("Softmax", {}, "softmax"),
        ("DisAlign", {}, "softmax"),
        ("NorCal", {}, "softmax"),
        ("IIF", {}, "softmax by IIF raw, image, sum, 1"),
        ("IIF", {"variant": "base10", "strength": 0.5}, "softmax by IIF base10, image, sum, 0.5"),
        ("IIF", {"post_hoc": True}, "softmax"),
        ("Sigmoid", {}, "sigmoid"),
        ("EQLv2", {}, "sigmoid with a background"),
        ("GOL", {}, "Gumbel"),
        ("APA", {}, "APA, learnt"),
        ("APA", {"lam": 0.5, "kap": 2.0, "learnt": False}, "APA 0.5 2"),
        ("PCB", {"base": "IIF"}, "softmax by IIF raw, image, sum, 1"),
        ("Calibrated", {}, "softmax by IIF raw, image, sum, 1"),
        ("Seesaw", {}, "softmax and objectness"),
    ],
)
def test_what_it_reads_is_called_as_checkpoints_of_0_1_0_do(name, options, text):
    assert str(build_method(name, random_frequency(3), **options).reads) == text


def test_an_unknown_method_is_an_error_that_lists_the_known():
    with pytest.raises(UnknownNameError, match="unknown method 'Softmx'; known: .*Softmax"):
        build_method("Softmx", random_frequency(3))


def test_methods_import_without_detectron2():
    code = (
        "import sys; sys.modules['detectron2'] = None; import iif_d2.methods;"
        "assert 'detectron2.config' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [name for name, background in SUPPORTED if not background])
def test_a_label_beyond_the_classes_is_refused(name):
    method = build(name, False)
    logits = torch.zeros(2, method.num_logits)
    with pytest.raises(DataError, match=f"a label is {NUM_CLASSES}, and {name} has {NUM_CLASSES}"):
        method.loss(logits, torch.tensor([0, NUM_CLASSES]))
