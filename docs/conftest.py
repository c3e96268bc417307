"""Doctests of these pages write their files to a temporary folder and use one thread."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Each page starts in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
