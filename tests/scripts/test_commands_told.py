"""Each command that the repository tells is one that its script understands."""

from __future__ import annotations

import argparse
import re
import shlex

import pytest
from conftest import ROOT
from loading import FOLDERS, loaded, scripts

from fewshot_sklearn import list_meta_inits, load_meta_init

if not all((ROOT / folder).exists() for folder in FOLDERS):
    pytest.skip("the scripts are not here", allow_module_level=True)

SCRIPT = r"(?:benchmarks|training|examples)/\w+\.py"
#: On a line of its own, with a comment or without; or in the middle of a sentence.
ON_A_LINE = re.compile(rf"^\s*[^\s`]*python ({SCRIPT}[^`\n]*?)(?:\s+#.*)?$", re.MULTILINE)
IN_PROSE = re.compile(rf"`python\s+({SCRIPT}[^`]*)`")


def commands():
    """Command lines without ``python``, wherever one is told: pages, scripts, cards."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.rst")]
    pages += [page for folder in FOLDERS for page in (ROOT / folder).glob("*.md")]
    texts = [page.read_text("utf-8") for page in pages if "_build" not in page.parts]
    texts += [(ROOT / script).read_text("utf-8") for script in scripts()]
    texts += [load_meta_init(name).card()["training command"] for name in list_meta_inits()]
    found = {line for text in texts for line in ON_A_LINE.findall(text) + IN_PROSE.findall(text)}
    return sorted({" ".join(line.split()) for line in found if not set("[{") & set(line)})


class Understood(Exception):
    """The command line was read; nothing more is run."""


@pytest.mark.parametrize("command", commands())
def test_a_command_is_understood(command, monkeypatch):
    script, *words = shlex.split(command)
    if script.startswith("examples/"):
        reads = "sys.argv[1]" in (ROOT / script).read_text("utf-8")  # a folder of data
        assert len(words) <= reads
        return
    whole = argparse.ArgumentParser.parse_args

    def parse(parser, argv):
        named = [a for a in parser._actions if a.choices and not a.option_strings]
        # NAME stands for any of the names, K for a number
        names = {w: next(iter(named[0].choices)) for w in argv if w in ("NAME", "CORPUS")}
        whole(parser, [{"K": "1", **names}.get(word, word) for word in argv])
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    try:
        module = loaded(script, monkeypatch)
    except ModuleNotFoundError as error:
        pytest.skip(f"no {error.name} here")
    with pytest.raises(Understood):
        module.main(words)


def test_commands_are_found():
    assert len(commands()) > 40
    assert "training/molecules.py --data FOLDER --name tox21" in commands()
    assert "benchmarks/speed.py --check" in commands()


@pytest.mark.parametrize(
    "script", sorted(s for s in scripts() if "main(" in (ROOT / s).read_text())
)
def test_main_is_called_when_the_script_is(script):
    if script != "benchmarks/workloads/memory.py":
        end = (ROOT / script).read_text().partition('if __name__ == "__main__":')[2]
        assert end.strip() in ("main()", "sys.exit(main())", "sys.exit(bool(main()))")
