"""
Serve a model where this package is not
=======================================

A classifier of letters that has seen two drawings of each is written to one file. Another
process answers from that file with onnxruntime and numpy alone: no torch, no scikit-learn, no
part of this package. Its answers are those of `predict_proba`. Takes a few seconds, and the extra
``fewshot-sklearn[export]``.
"""

# %%
# A classifier that was meta-trained, and fitted
# ----------------------------------------------
# The network ships with the package and was trained on other alphabets. `fit` needs no more than
# two drawings of each of five Greek letters.

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from fewshot_sklearn import ProtoNetClassifier, export
from fewshot_sklearn.datasets import load_omniglot

N_LETTERS, N_ASKED = 5, 8
images, letters, alphabets = load_omniglot(return_X_y_groups=True)
images = images[alphabets == "Greek"].astype(np.float32)
letters = letters[alphabets == "Greek"]
names = np.array(["alpha", "beta", "gamma", "delta", "epsilon"])[:N_LETTERS]
place = np.unique(letters, return_inverse=True)[1]
support = np.concatenate([np.flatnonzero(place == k)[:2] for k in range(N_LETTERS)])
asked = np.concatenate([np.flatnonzero(place == k)[2:] for k in range(N_LETTERS)])
asked = np.random.default_rng(0).permutation(asked)[:N_ASKED]

clf = ProtoNetClassifier("omniglot-conv4", device="cpu")
clf.fit(images[support], names[place[support]])

# %%
# To one file
# -----------
# The ending says for whom: ``.onnx`` is for onnxruntime. Its answers have been compared with the
# classifier's before it is there.

folder = Path(tempfile.mkdtemp())
export(clf, folder / "greek.onnx")
print(f"{(folder / 'greek.onnx').stat().st_size / 1e6:.1f} MB")

# %%
# In another process
# ------------------
# This program is all that a server needs. It could be on another machine, and it imports
# nothing but numpy and onnxruntime.

PROGRAM = """
import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
label, probabilities = session.run(["label", "probabilities"], {"X": np.load(sys.argv[2])})

assert not {"fewshot_sklearn", "torch", "sklearn"} & set(sys.modules)
print(json.dumps([[classes[place] for place in label], probabilities.tolist()]))
"""

np.save(folder / "rows.npy", images[asked])
command = [sys.executable, "-c", PROGRAM, folder / "greek.onnx", folder / "rows.npy"]
done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
told, probabilities = json.loads(done.stdout)
off = np.abs(np.array(probabilities) - clf.predict_proba(images[asked])).max()
print(f"served without this package: {', '.join(told)}; off by {off:.0e} at most")

# %%
# What was answered
# -----------------

figure, axes = plt.subplots(1, N_ASKED, figsize=(1.2 * N_ASKED, 1.8))
for axis, image, name, row in zip(axes, images[asked], told, probabilities, strict=True):
    axis.imshow(image, cmap="gray")
    axis.set_title(f"{name}\n{max(row):.0%}", fontsize=8)
    axis.axis("off")
figure.tight_layout()
