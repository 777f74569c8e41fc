"""Fit both estimators of scikit-learn, and print a digest on rank 0. Started by tests/sklearn/test_estimators.py."""

import numpy as np

from dbp.checkpoint import digest_arrays
from dbp.parallel import ranks_of_job
from dbp.sklearn import Classifier, Regressor
from tests.small_data import X, Y

classifier = Classifier((8,), epochs=3, shards=4).fit(X, Y, sample_weight=1 + Y)
for _ in range(2):
    classifier.partial_fit(X[:40], Y[:40])
regressor = Regressor((8,), epochs=3, shards=4, validation=0.2).fit(X, X[:, :2])
found = {
    "classes": classifier.predict(X),
    "probabilities": classifier.predict_proba(X),
    "numbers": regressor.predict(X),
    "curve": np.array(regressor.loss_curve_),
}
if ranks_of_job().rank == 0:
    print("digest", digest_arrays(found))
