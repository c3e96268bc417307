"""CPU time of importing the package beside that of torch and scikit-learn, in new processes."""

from __future__ import annotations

import resource
import subprocess
import sys

from timing import Contender, Row, compare, interleave

#: Large packages that importing ours should not bring in.
HEAVY = ("skorch", "matplotlib", "pandas")
#: What is imported.
LINES = {
    "torch and scikit-learn": "import torch, sklearn",
    "ours": "import fewshot_sklearn",
    "ours, with MetaTrainer": "from fewshot_sklearn import MetaTrainer",
}


def children() -> float:
    """CPU-seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def python(code: str) -> str:
    """Run code in a new process and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def run(rounds: int) -> list[Row | str]:
    """Time the imports."""
    contenders = {name: Contender(lambda code=code: python(code)) for name, code in LINES.items()}
    times = interleave(contenders, rounds, clock=children)
    report: list[Row | str] = []
    for name, code in LINES.items():
        if name.startswith("ours"):
            report += compare("import", times, name)
        found = python(f"{code}; import sys; print(*[m for m in {HEAVY} if m in sys.modules])")
        report.append(f"import: of {', '.join(HEAVY)}, `{code}` brings in: {found or 'none'}.")
    return report
