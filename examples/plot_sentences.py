"""
Tell sentences apart from eight of each kind, and refuse those of no kind
=========================================================================

Whether a film review is positive, and which of ten things a customer wants: from eight sentences
each, by `TextClassifier`, beside logistic regression on the same encoder's embeddings and on the
words. An eleventh intent is added later, in milliseconds. And sentences that ask for none of the
intents are refused: how far is too far was learned from intents of other domains.

Intents are told apart nearly without error by whatever sees embeddings; reviews are hard, and all
three are close. Of the sentences that ask for nothing known, about nineteen in twenty are refused.

CLINC150 (CC BY 3.0) and the reviews (MIT) do not come with the package: ``python plot_sentences.py
FOLDER`` reads ``FOLDER/clinc150`` (see `fewshot_sklearn.datasets.load_clinc150`) and what ``pip
download --no-deps --no-binary :all: -d FOLDER vaderSentiment==3.3.2`` writes. Either will do. Needs
``pip install "fewshot-sklearn[text]"``, whose encoder nothing fetches, and takes a minute or two.
"""

# %%
# Sentences
# ---------

import io
import sys
import tarfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import t
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from fewshot_sklearn import ProtoNetClassifier, SentenceEncoder, TextClassifier, TrustLearner
from fewshot_sklearn.datasets import load_clinc150

MODEL = "all-MiniLM-L6-v2"
N_DRAWS = 10
N_SHOT = 8
N_INTENTS = 10
N_PAST = 20  # sentences of each past intent
N_ASKED = 200
N_EPISODES = 200  # of past intents

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
reviews, clinc = folder / "vaderSentiment-3.3.2.tar.gz", folder / "clinc150"
if not reviews.exists() and not clinc.exists():
    print(f"{folder} has neither clinc150 nor {reviews.name}: the script's first lines say how")
    sys.exit(0)


def films():
    """Snippets of reviews, and which are positive: by a mean rating clearly above or below zero."""
    with tarfile.open(reviews) as outer:
        name = next(n for n in outer.getnames() if n.endswith("hutto_ICWSM_2014.tar.gz"))
        inner = io.BytesIO(outer.extractfile(name).read())
    with tarfile.open(fileobj=inner) as files:
        name = next(
            n for n in files.getnames() if n.endswith("movieReviewSnippets_GroundTruth.txt")
        )
        lines = files.extractfile(name).read().decode("utf-8", "replace").splitlines()
    rated = [line.split("\t", 2)[1:] for line in lines]
    told = {text.strip(): float(r) for r, text in rated if len(text.split()) > 3}
    clear = {text: r for text, r in told.items() if abs(r) >= 1}
    return np.array(list(clear), object), np.where(np.array([*clear.values()]) > 0, "good", "bad")


def draw(sentences, y, rng, n_way, of=None):
    """Eight sentences of each of some classes, and others of the same; `of` may be asked about."""
    classes = rng.choice(np.unique(y), n_way, replace=False)
    order = rng.permutation(len(y))
    few = np.concatenate([order[(y[order] == c) & (of[order] != "test")][:N_SHOT] for c in classes])
    rest = order[np.isin(y[order], classes) & ~np.isin(order, few) & (of[order] != "train")]
    return sentences[few], y[few], sentences[rest[:N_ASKED]], y[rest[:N_ASKED]]


def told(values):
    """Mean over draws, with a 95% interval."""
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{100 * np.mean(values):.1f} ± {100 * half:.1f}"


# %%
# From eight sentences of each
# ----------------------------
# In half of the domains of CLINC150 the intents are new; the others will be the past. Words alone
# say little: what a customer wants was rarely said before in the same ones. The encoder stays as it
# is; without ``adapt=False`` it is trained on the sentences where that helps, as it does for
# reviews, which takes some ten seconds a fit instead of one.

encoder = SentenceEncoder()  # keeps what it has embedded
METHODS = {
    "TextClassifier": lambda seed: TextClassifier(MODEL, adapt=False, random_state=seed),
    "embeddings, logistic": lambda seed: make_pipeline(encoder, LogisticRegression(C=20)),
    "words, logistic": lambda seed: make_pipeline(TfidfVectorizer(), LogisticRegression(C=20)),
}
DATA = {}
if reviews.exists():
    text, y = films()
    DATA["film reviews"] = text, y, np.full(len(y), "either"), 2
if clinc.exists():
    corpus = load_clinc150(clinc)
    new = np.isin(corpus.domain, np.unique(corpus.domain)[::2])
    parts = np.where(corpus.split == "test", "test", "train")
    DATA["intents"] = corpus.sentences[new], corpus.target[new].astype(str), parts[new], N_INTENTS

accuracy = {}
for what, (text, y, of, n_way) in DATA.items():
    print(f"{what}, {n_way} classes, {N_SHOT} sentences each: accuracy, % (over {N_DRAWS} draws)")
    for name, method in METHODS.items():
        found, took = [], 0.0
        for seed in range(N_DRAWS):
            X, labels, asked, right = draw(text, y, np.random.default_rng(seed), n_way, of)
            began = time.process_time()
            model = method(seed).fit(X, labels)
            took += time.process_time() - began
            found.append(np.mean(model.predict(asked) == right))
        accuracy[what, name] = found
        print(f"  {name:22s} {told(found)}; {took / N_DRAWS:.1f} CPU-seconds to fit")

figure, (bars, scores) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for i, name in enumerate(METHODS):
    values = np.array([accuracy[what, name] for what in DATA])
    half = t.ppf(0.975, N_DRAWS - 1) * values.std(1, ddof=1) / N_DRAWS**0.5
    bars.bar(np.arange(len(DATA)) + 0.25 * i, values.mean(1), 0.25, yerr=half, label=name)
bars.set_xticks(np.arange(len(DATA)) + 0.25, [f"{what}, {DATA[what][3]}" for what in DATA])
bars.set(ylabel="accuracy", ylim=(0, 1), title=f"{N_SHOT} sentences of each")
bars.legend(loc="lower right")

if not clinc.exists():
    plt.show()
    sys.exit(0)

# %%
# One more intent
# ---------------
# A head on embeddings takes it in; nothing is trained again. It then is what it would be, had all
# been there from the start.

text, y, of, _ = DATA["intents"]
X, labels, asked, right = draw(text, y, np.random.default_rng(0), N_INTENTS + 1, of)
late = labels[-1]
Z, Z_asked = encoder.fit_transform(X), encoder.transform(asked)
head = ProtoNetClassifier().fit(Z[labels != late], labels[labels != late])
before = np.mean(head.predict(Z_asked) == right)
began = time.process_time()
head.partial_fit(Z[labels == late], labels[labels == late])
took = 1000 * (time.process_time() - began)
after = head.predict(Z_asked)
same = np.array_equal(after, ProtoNetClassifier().fit(Z, labels).predict(Z_asked))
share = f"{100 * before:.0f} % right; {took:.0f} ms later {100 * np.mean(after == right):.0f} %"
print(f"without {late}: {share}")
print(f"as if fitted to all at once: {same}")

# %%
# Sentences of no intent
# ----------------------
# `TrustLearner` asks the same head about past intents, of other domains: rows farther from all
# class means than all but 5% of theirs are refused. Beside it the usual way: refuse what logistic
# regression is not sure of, with a threshold from the same past.

past = ~new & (corpus.split == "train")
order = np.random.default_rng(1).permutation(np.flatnonzero(past))
kept = np.concatenate(
    [order[corpus.target[order] == c][:N_PAST] for c in np.unique(corpus.target[past])]
)
X_past, y_past = corpus.sentences[kept], corpus.target[kept].astype(str)
Z_past = encoder.transform(X_past)
began = time.process_time()
learner = TrustLearner(
    ProtoNetClassifier(),
    n_way=N_INTENTS,
    n_shots=(N_SHOT,),
    n_episodes=N_EPISODES,
    random_state=0,
)
trusted = learner.fit(Z_past, y_past).estimator_
print(f"{len(X_past)} past sentences, embedded: {time.process_time() - began:.0f} CPU-seconds")


def sureness(X, labels, asked):
    model = make_pipeline(encoder, LogisticRegression(C=20)).fit(X, labels)
    return model.predict_proba(asked).max(1)


either = np.full(len(y_past), "either")
usual = [
    sureness(*draw(X_past, y_past, np.random.default_rng([2, seed]), N_INTENTS, either)[:3])
    for seed in range(N_DRAWS)
]
threshold = np.quantile(np.concatenate(usual), 0.05)

beyond = corpus.out_of_scope.sentences[corpus.out_of_scope.split == "test"][:500]
refused = {"distance": [], "sureness": []}
for seed in range(N_DRAWS):
    X, labels, asked, right = draw(text, y, np.random.default_rng(seed), N_INTENTS, of)
    trusted.fit(encoder.transform(X), labels)
    both = np.concatenate([asked, beyond])
    is_beyond = np.arange(len(both)) >= len(asked)
    Z = encoder.transform(both)
    near, sure = trusted.score_samples(Z), sureness(X, labels, both)
    for name, score, no in (
        ("distance", near, trusted.is_novel(Z, level=0.05)),
        ("sureness", sure, sure < threshold),
    ):
        row = no[~is_beyond].mean(), no[is_beyond].mean(), roc_auc_score(is_beyond, -score)
        refused[name].append(row)
for name, rows in refused.items():
    own, others, auc = np.array(rows).T
    print(f"refused by {name}: own {told(own)} %, of no intent {told(others)} %; AUC {told(auc)} %")

for name, values in (("of the ten intents", near[~is_beyond]), ("of no intent", near[is_beyond])):
    scores.hist(values, 40, density=True, alpha=0.6, label=name)
scores.axvline(near[~trusted.is_novel(Z)].min(), color="k", ls=":", label="refused below")
scores.set(xlabel="nearness to the nearest class mean", yticks=[], title="sentences of no intent")
scores.legend()
plt.show()
