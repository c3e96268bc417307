"""Compile and load guard.cpp, which must happen before torch is imported."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")


def compiler() -> str:
    """The C++ compiler to use."""
    return os.environ.get("CXX", "c++")


def library() -> Path:
    """The compiled guard, of this source and this torch; compiled if it is not there yet."""
    found = importlib.util.find_spec("torch")
    assert found is not None and found.origin is not None
    torch = Path(found.origin).parent
    name = sha256(SOURCE.read_bytes() + str(torch).encode()).hexdigest()[:16]
    made = Path(tempfile.gettempdir(), f"pretended_gpu_{os.getuid()}_{name}.so")
    if made.exists():
        return made
    partial = made.with_suffix(f".{os.getpid()}")
    command = [compiler(), "-std=c++20", "-shared", "-fPIC", "-O0", SOURCE, "-o", partial]
    command += [f"-I{torch}/include", f"-L{torch}/lib", f"-Wl,-rpath,{torch}/lib"]
    subprocess.run([*map(str, command), "-lc10", "-ltorch_cpu"], check=True)
    partial.replace(made)  # whole or not at all: several processes may want it at once
    return made


def load() -> ctypes.CDLL:
    """Load it into this process; its function ``pretend`` says which kind of device there is."""
    if "torch" in sys.modules:
        raise RuntimeError("torch is there already: import pretended_gpu before it.")
    return ctypes.CDLL(str(library()))
