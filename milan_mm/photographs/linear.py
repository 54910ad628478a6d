"""A linear probe that takes seconds: logistic regression with a short list of penalties.

`tools/evaluate.py --tasks logreg` tries 45 values of C up to 1e5, of which the large ones take
minutes each on 16,000 images and are never the best here.
"""

from milan_mm.evaluation.frozen.choosing import predict, refit, rows_of
from milan_mm.evaluation.frozen.feature_set import FeatureSet
from milan_mm.evaluation.frozen.logistic import Linear, LogisticRegression
from milan_mm.evaluation.frozen.measured import Measured, measured_hits
from milan_mm.evaluation.frozen.subsets import hold_out
from milan_mm.evaluation.voting import hits

POWERS = (-4.0, -3.5, -3.0, -2.5, -2.0, -1.5)  # of 10
HELD = 0.1  # of each class, to choose by


def linear_probe(train: FeatureSet, val: FeatureSet) -> Measured:
    """Top-1 in % of the classifier of all training images, with the C that is best on a tenth."""
    data, classes = (train.last, train.labels), len(train.classes)
    fit, held = hold_out(train.labels, HELD)
    regression = LogisticRegression(rows_of(*data, fit), classes)
    best: tuple[float, float, Linear] | None = None
    found: Linear | None = None
    for power in POWERS:
        found = regression.fit(10**power, found)
        right = predict(found, train.last[held], classes)[:, 0] == train.labels[held]
        if best is None or right.float().mean() > best[0]:
            best = float(right.float().mean()), 10**power, found
    assert best
    classifier = refit(*data, classes, *best[1:])
    right = hits(predict(classifier, val.last, classes), val.labels, 1)
    return measured_hits([right], dict(C=float(f"{best[1]:.3g}")))
