"""Colours of patches are principal components, the same for all images."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from sklearn.decomposition import PCA

from milan_mm.errors import UserError
from milan_mm.look.pca import colours_of, find_foreground, principal_components
from milan_mm.visualization.style import NO_VALUE


def test_components_are_those_of_scikit_learn():
    features = np.random.default_rng(0).normal(size=(60, 8)) @ np.diag(range(1, 9))
    judge = PCA(3).fit(features)
    ours, shares = principal_components(features, 3)
    theirs = judge.transform(features)
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours * signs, theirs, atol=1e-8)
    np.testing.assert_allclose(shares, judge.explained_variance_ratio_, atol=1e-10)


def test_the_sign_of_a_component_does_not_depend_on_the_order_of_patches():
    features = np.random.default_rng(0).normal(size=(60, 8))
    ours, _ = principal_components(features, 3)
    turned, _ = principal_components(features[::-1], 3)
    np.testing.assert_allclose(turned[::-1], ours, atol=1e-8)


def test_equal_features_have_equal_colours_in_all_images():
    features = np.random.default_rng(0).normal(size=(3, 4, 4, 8))
    features[2] = features[0]
    colours, share = colours_of(features, foreground=False)
    assert colours.shape == (3, 4, 4, 3) and 0 < share < 1
    assert (colours[2] == colours[0]).all() and (colours[1] != colours[0]).any()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_foreground_is_what_is_rare_at_the_edge(sign: int):
    inside = np.zeros((2, 6, 6), bool)
    inside[0, 2:5, 2:5] = inside[1, 1:4, 1:3] = True
    first = np.where(inside, 3.0, -1.0) * sign
    assert (find_foreground(first) == inside).all()


def test_a_background_that_is_cut_off_is_grey_as_all_that_has_no_value():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1, 8, 8, 6))
    features[:, 2:6, 2:6, 0] += 50
    colours, _ = colours_of(features, foreground=True)
    edge = np.ones((8, 8), bool)
    edge[2:6, 2:6] = False
    grey = 255 * np.array(to_rgb(NO_VALUE))
    assert (colours[0, edge] == grey).all() and (colours[0, ~edge] != grey).any(axis=1).all()


def test_too_few_patches_are_refused():
    with pytest.raises(UserError, match="3 patches are left for 3 components"):
        colours_of(np.eye(3).reshape(1, 1, 3, 3), foreground=False)
