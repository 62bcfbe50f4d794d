# One word a job, the same at home and in CI. `make demo` and `make test` do everything from a bare clone.
VENV    := .venv
PY      := $(VENV)/bin/python
RUN     := $(VENV)/.run
DEV     := $(VENV)/.dev
TYPES   := .build/types/esb_plugins
PYTEST  := $(PY) -m pytest

.PHONY: demo demo-rabbit test check fix bench docs soak wheel wheelhouse lock clean

demo: $(RUN)
	$(PY) examples/demo/demo.py $(if $(KEEP),--keep)

demo-rabbit: $(RUN)
	.ci/packages rabbitmq-server
	$(PY) examples/demo/demo.py --rabbit $(if $(KEEP),--keep)

test: $(DEV)
	.ci/packages chromium curl strace openssl rabbitmq-server
	$(PYTEST) -q

check: $(DEV) $(TYPES)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	MYPYPATH=.build/types $(VENV)/bin/mypy
	$(PYTEST) -q --durations=0 -p no:cacheprovider tests/house/test_floors.py

fix: $(DEV)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(DEV)
	.ci/packages nginx-light
	$(PY) benchmarks/expressions.py
	$(PY) benchmarks/onebox.py

docs: $(DEV)
	$(PY) -m esb.table.reference docs/table.md
	$(PY) -m esb.cli.reference docs/commands.md

soak: $(DEV)
	.ci/packages strace openssl rabbitmq-server
	$(PYTEST) -q -m soak --timeout=0 -o addopts=

wheel: $(DEV)
	$(PY) -m build --no-isolation --wheel --outdir dist .

# Everything that an installation without a network needs: docs/install-offline.md.
wheelhouse: $(RUN)
	rm -rf dist/wheelhouse
	$(PY) -m pip download --disable-pip-version-check --only-binary :all: --require-hashes -r .ci/requirements.lock -d dist/wheelhouse
	$(PY) -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation -w dist/wheelhouse .
	cp .ci/requirements.lock dist/wheelhouse/

lock: $(DEV)
	.ci/lock

$(RUN): pyproject.toml .ci/requirements.lock
	.ci/venv $(VENV) .ci/requirements.lock
	@touch $@

$(DEV): pyproject.toml .ci/requirements-dev.lock
	.ci/venv $(VENV) .ci/requirements-dev.lock
	@touch $(RUN) $@

# mypy sees the folder `plugins` under the name it is installed by.
$(TYPES):
	mkdir -p $(dir $@)
	ln -sfn ../../plugins $@

clean:
	rm -rf .venv .build build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
