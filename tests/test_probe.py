"""The probe is scikit-learn's logistic regression, many at a time."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mechinterp import LinearProbe, MechinterpError, fit_probes

LAYERS = 3


def sample(seed: int, n: int, d: int, shift: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations (n, LAYERS, d), off centre and of another scale in every layer, and labels (n,) of both classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n,), generator=generator)
    labels[:2] = torch.tensor([0, 1])
    x = torch.randn(n, LAYERS, d, generator=generator)
    x[:, :, 0] += shift * labels[:, None]
    scale = torch.tensor([1.0, 30.0, 0.01])[:, None]
    return (x + 2 * torch.randn(LAYERS, d, generator=generator)) * scale, labels


def reference(x: torch.Tensor, labels, weights=None, penalty: float = 1.0) -> np.ndarray:
    """Decision values (n,) of scikit-learn, on one layer centred and scaled by its root mean square norm."""
    centred = x.double().numpy() - x.double().numpy().mean(0)
    scaled = centred / np.sqrt((centred**2).sum(1).mean())
    model = LogisticRegression(C=1 / penalty, solver="newton-cg", tol=1e-12, max_iter=10_000)
    return model.fit(scaled, labels, sample_weight=weights).decision_function(scaled)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 99),
    n=st.integers(4, 60),
    d=st.integers(1, 40),
    penalty=st.sampled_from([0.05, 1.0, 10.0]),
    weighted=st.booleans(),
)
def test_scikit_learn(seed, n, d, penalty, weighted):
    """Layer by layer, whatever its mean and scale, with and without weights, for more dimensions than samples too."""
    x, labels = sample(seed, n, d)
    weights = torch.rand(n, generator=torch.Generator().manual_seed(seed)) * 3 + 0.1 if weighted else None
    scores = fit_probes(x, labels, weights=weights, penalty=penalty).scores(x)
    assert scores.shape == (n, LAYERS)
    for layer in range(LAYERS):
        wanted = reference(x[:, layer], labels.numpy(), None if weights is None else weights.numpy(), penalty)
        np.testing.assert_allclose(scores[:, layer], wanted, rtol=0, atol=1e-5)


def test_labellings():
    """Several labellings at once, each with its own weights, are as many fits of one."""
    x, labels = sample(0, 30, 5)
    many = torch.stack([labels, 1 - labels, labels.roll(1)])
    weights = torch.rand(3, 30, generator=torch.Generator().manual_seed(1)) + 0.5
    for given_weights, each in ((None, [None] * 3), (weights[0], [weights[0]] * 3), (weights, weights)):
        probes = fit_probes(x, many, weights=given_weights)
        assert probes.directions.shape == (3, LAYERS, 5)
        assert probes.biases.shape == (3, LAYERS)
        for index, one in enumerate(many):
            alone = fit_probes(x, one, weights=each[index])
            torch.testing.assert_close(probes[index].directions, alone.directions)
            torch.testing.assert_close(probes[index].biases, alone.biases)
            torch.testing.assert_close(probes.scores(x)[index], alone.scores(x))
    opposite = fit_probes(x, many)
    torch.testing.assert_close(opposite[0].scores(x), -opposite[1].scores(x))


def test_direction():
    """The score is the residual along the direction, plus the bias, in the residual stream's own units."""
    x, labels = sample(2, 40, 6, shift=3)
    probe = fit_probes(x, labels)
    by_hand = (x.double() * probe.directions).sum(-1) + probe.biases
    torch.testing.assert_close(probe.scores(x), by_hand)
    gain = probe.scores(x + probe.directions) - probe.scores(x)
    torch.testing.assert_close(gain, (probe.directions**2).sum(-1).expand(40, -1))


@settings(max_examples=10)
@given(seed=st.integers(0, 99), factor=st.floats(0.01, 100))
def test_rotation(seed, factor):
    """Rotating, moving and scaling the residual stream moves the directions along and leaves the scores."""
    x, labels = sample(seed, 25, 8)
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    moved = factor * (x.double() @ turn) + torch.randn(8, generator=generator)
    first, second = fit_probes(x, labels), fit_probes(moved, labels)
    torch.testing.assert_close(second.scores(moved), first.scores(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(factor * second.directions, first.directions @ turn, rtol=1e-4, atol=1e-6)


def test_weights_are_repetitions():
    """A sample of weight 2 counts as two, and one of weight 0 as none."""
    x, labels = sample(3, 20, 4)
    twice = torch.cat([x, x])  # so that the mean and the scale stay what they are
    weights = torch.cat([torch.full((20,), 2.0), torch.zeros(20)])
    weighted = fit_probes(twice, torch.cat([labels, 1 - labels]), weights=weights)
    repeated = fit_probes(twice, torch.cat([labels, labels]))
    torch.testing.assert_close(weighted.directions, repeated.directions)
    torch.testing.assert_close(weighted.biases, repeated.biases)


def test_correct():
    """Correct is 1 where the sign of the score is the label's, for one labelling and for many, square or not."""
    for n in (LAYERS, 12):
        x, labels = sample(5, n, 6)
        many = torch.stack([labels, 1 - labels])
        probes = fit_probes(x, many)
        for probe, given_labels in ((probes[0], labels), (probes, many), (probes[1], many[1].bool())):
            right = probe.correct(x, given_labels)
            assert right.shape == probe.scores(x).shape
            assert torch.equal(right, ((probe.scores(x) > 0) == (given_labels[..., None] > 0)).double())
    mixed = LinearProbe(torch.ones(1, 1), torch.zeros(1))
    assert mixed.correct(torch.tensor([[[2.0]], [[-2.0]]]), torch.tensor([1, 1])).flatten().tolist() == [1, 0]


def test_extremes():
    """A fit is at the minimum, or an error: an unfinished one is never passed off as a probe."""
    x, labels = sample(0, 40, 64, shift=3)
    found = []
    for penalty in (1e-7, 1e-5, 1e-3, 1e3, 1e6):
        for weight in (0.01, 1.0, 300.0):
            weights = torch.full((40,), weight)
            try:
                probe = fit_probes(x, labels, weights=weights, penalty=penalty)
            except MechinterpError:
                continue
            found.append((penalty, weight))
            excess = weights[:, None] * (labels[:, None] - torch.sigmoid(probe.scores(x)))
            assert float(excess.sum(0).abs().max()) < 1e-6 * weight * 40  # the bias is not penalised
    assert {(1e-3, 1.0), (1e3, 1.0), (1e6, 300.0), (1e3, 0.01)} <= set(found)
    with pytest.raises(MechinterpError, match="no minimum was found in 1 steps"):
        fit_probes(x, labels, steps=1)


def test_nothing_to_learn():
    """Activations that are all the same give a direction of 0 and the log-odds of the classes."""
    labels = torch.tensor([1, 1, 1, 0])
    probe = fit_probes(torch.full((4, 2, 3), 0.1), labels)
    assert (probe.directions == 0).all()
    torch.testing.assert_close(probe.biases, torch.full((2,), math.log(3), dtype=torch.float64))


X, Y = sample(0, 8, 4)
HOLE = X.clone()
HOLE[0, 1, 2] = math.nan


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((X, torch.ones(8)), "both classes"),
        ((X, torch.zeros(8)), "both classes"),
        ((X, torch.stack([Y, torch.ones(8)])), "both classes"),
        ((X, Y, Y.float()), "both classes"),
        ((X, Y, 1.0 - Y), "both classes"),
        ((HOLE, Y), "finite"),
        ((X, torch.where(Y > 0, 1.0, math.nan)), "finite"),
        ((X, Y, torch.full((8,), math.inf)), "finite"),
        ((X, Y, -torch.ones(8)), "negative"),
        ((X[0], Y), r"\(n, layers, d_model\).*\(3, 4\)"),
        ((X, Y[:7]), r"\(8, 3, 4\) and \(7,\)"),
        ((X, Y[None, None]), r"labellings, n.*\(1, 1, 8\)"),
        ((X, Y, torch.ones(7)), r"weights.*\(7,\)"),
        ((X, torch.stack([Y, Y]), torch.ones(3, 8)), r"weights.*\(3, 8\)"),
    ],
)
def test_refused(arguments, names):
    """One class, numbers that are none, and shapes that do not fit are refused."""
    residual, labels, *weights = arguments
    with pytest.raises(MechinterpError, match=names):
        fit_probes(residual, labels, weights=weights[0] if weights else None)
