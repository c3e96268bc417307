"""scikit-learn's own checks, over every public estimator.

None may fail but one, and that of those whose names say so."""

from __future__ import annotations

import os
import subprocess
import sys
from inspect import signature

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import check_array_api_input, parametrize_with_checks

import fewshot_sklearn
from fewshot_sklearn import (
    ImageEncoder,
    ImageReader,
    PooledClassifier,
    PooledRegressor,
    SentenceEncoder,
    StrategyClassifier,
    StrategyRegressor,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TextClassifier,
    TransductiveAssignmentClassifier,
    TrustedClassifier,
    TrustedRegressor,
)
from fewshot_sklearn.estimators import FewShotEstimator

ESTIMATORS = (
    FewShotEstimator,
    PooledClassifier,
    PooledRegressor,
    StrategyClassifier,
    StrategyRegressor,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TextClassifier,
    TransductiveAssignmentClassifier,
    TrustedClassifier,
    TrustedRegressor,
)


def public_estimators():
    """Every public class that fits and predicts, default constructed."""
    public = [getattr(fewshot_sklearn, name) for name in fewshot_sklearn.__all__]
    return [c() for c in public if isinstance(c, type) and issubclass(c, ESTIMATORS)]


def variant(name, **params):
    """An estimator that is public by that name."""
    return getattr(fewshot_sklearn, name)(**params)


MLP = {"encoder": "mlp", "random_state": 0}
VARIANTS = [
    variant("ProtoNetClassifier", metric="cosine"),
    variant("ProtoNetClassifier", **MLP),
    variant("ProtoNetClassifier", unlabelled=-99, refinement="masked"),
    variant("RidgeHeadClassifier", **MLP),
    variant("RidgeHeadRegressor", **MLP),
    variant("MAMLClassifier", **MLP, n_steps=20),
    variant("MAMLRegressor", **MLP, n_steps=100),
    variant("MAMLClassifier", head_only=True),
    variant("GaussianProtoNetClassifier", precision="diagonal"),
    variant("MatchingNetClassifier", full_context=True),
    variant("NearestClassMeanClassifier", normalization="un"),
    variant("BaselinePlusPlusClassifier", cosine=False, inner_lr=1.0),
    variant("DeepKernelClassifier", kernel="rbf"),
    variant("DeepKernelRegressor", kernel="matern52"),
    variant("DeepKernelRegressor", kernel="linear"),
    variant("NeuralProcessRegressor", attentive=False),
    variant("ReptileClassifier", inner_optimizer="adam", inner_lr=0.1),
    variant("TransductiveLaplacianShotClassifier", rectify=False),
    variant("TransductivePTMAPClassifier", balanced=False),
    variant("TransductiveTIMClassifier", solver="adm"),
    variant("TransductiveTIMClassifier", alpha=2.0, n_steps=100),
]
#: Of sentences and pictures, which scikit-learn's checks have none of.
OF_RAW_THINGS = [ImageEncoder(), ImageReader(), SentenceEncoder()]
TRANSFORMERS = [e for e in public_estimators() if hasattr(e, "transform")]


def test_every_public_estimator_is_checked():
    # take a required estimator, rows of many tasks, sentences of words, or functions
    exempt = {"ESMetaTrainer", "MetaTrainer", "StrategySelector", "TokenClassifier", "TrustLearner"}
    exempt |= {"ESPolicyTrainer", "MAMLPolicyTrainer"}
    exempt |= {type(e).__name__ for e in OF_RAW_THINGS}
    named = {type(e).__name__ for e in public_estimators()} | exempt
    for name in fewshot_sklearn.__all__:
        public = getattr(fewshot_sklearn, name)
        if isinstance(public, type) and issubclass(public, BaseEstimator):
            assert name in named


def depends_on_the_call(estimator):
    """The check that transductive estimators fail, and by their names must."""
    if not type(estimator).__name__.startswith("Transductive"):
        return {}
    return {"check_methods_subset_invariance": "it answers all rows of a call together"}


@parametrize_with_checks(
    [*public_estimators(), *VARIANTS], expected_failed_checks=depends_on_the_call
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_mixin_order,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_set_params,
        estimator_checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("estimator", OF_RAW_THINGS, ids=lambda e: type(e).__name__)
def test_check_that_needs_no_data(estimator, check):
    check(type(estimator).__name__, estimator)


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_global_output_transform_pandas,
        estimator_checks.check_set_output_transform_pandas,
        estimator_checks.check_transformer_get_feature_names_out,
        estimator_checks.check_transformer_get_feature_names_out_pandas,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=lambda e: type(e).__name__)
def test_set_output_check(estimator, check):
    check(type(estimator).__name__, estimator)


@pytest.mark.parametrize("estimator", public_estimators(), ids=lambda e: type(e).__name__)
def test_column_names_check(estimator):
    estimator_checks.check_dataframe_column_names_consistency(type(estimator).__name__, estimator)


def of_arrays():
    """The public estimators but those that take sentences."""
    return [one for one in public_estimators() if get_tags(one).input_tags.two_d_array]


def test_array_api_check():
    """It only runs where SCIPY_ARRAY_API was set before the first import of scipy."""
    if "expect_only_array_outputs" not in signature(check_array_api_input).parameters:
        pytest.skip("this version's check wants outputs of the arrays' own kind")
    script = (
        "import torch; torch.set_num_threads(1)\n"
        "from sklearn.utils.estimator_checks import check_array_api_input\n"
        "from test_common import of_arrays\n"
        "for estimator in of_arrays():\n"
        "    name = type(estimator).__name__\n"
        "    check_array_api_input(name, estimator, 'numpy', expect_only_array_outputs=False)\n"
        "    print('passed', name)\n"
    )
    here = os.path.dirname(__file__)
    env = os.environ | {
        "SCIPY_ARRAY_API": "1",
        "PYTHONPATH": os.pathsep.join([here, os.path.dirname(here), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("passed") == len(of_arrays())
