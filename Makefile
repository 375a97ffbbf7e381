# The README's two commands are `make demo` and `make test`; both work on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Source only; the option makes it compile on Python >= 3.11. Its other requirements (gsutil, and qpth,
# which wants numpy < 2) are imported by none of what is compared with.
LEARN2LEARN := learn2learn==0.2.0 --config-settings="--build-option=build_ext"
# Tests side by side, one op thread each: the networks are tiny, and more threads only wait.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadgroup
PART ?= 0/1
DEMO_FLAGS ?=
EVAL_FLAGS ?=

.PHONY: demo test test-all test-slow test-long docs lint install lock bench fuzz clean

demo: install
	$(BIN)/binomctl train --estimator binom --L 2 $(DEMO_FLAGS)
	$(BIN)/binomctl eval "$$(ls -td runs/glyphs-binom-L2-seed0* | head -n 1)" $(EVAL_FLAGS)

test: install
	$(PYTEST)

# With the slow ones and the long ones.
test-all: install
	$(PYTEST) -m ""

# Large networks, and most of many like cases; a part of them: make test-slow PART=3/8
test-slow: install
	$(PYTEST) -m slow --part $(PART)

# Jobs, installed wheels and whole pages of commands, half a minute each.
test-long: install
	$(PYTEST) -m "long and not slow"

# The documentation as a site: open site/index.html.
docs: install
	$(BIN)/mkdocs build --strict --quiet

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml requirements.lock
	@echo "installing into $(VENV), some minutes in which pip says nothing ..."
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(if $(HASHED),$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.hashed.lock)
	$(BIN)/pip install -q --disable-pip-version-check -c requirements.lock -e '.[test,lint,peers,zoo,tensorboard,wandb,onnx,digits,docs]'
	$(BIN)/pip install -q --disable-pip-version-check --no-deps $(LEARN2LEARN)
	touch $@

# The same pins with the SHA-256 of every file, which HASHED=1 installs from (Linux).
lock:
	uv pip compile requirements.lock -q --generate-hashes --no-deps --no-annotate --no-header \
	  --python-version 3.11 -o requirements.hashed.lock

fuzz: install
	$(BIN)/python benchmarks/fuzz.py

bench: install
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf $(VENV) build dist site
