# make demo and make test do all the set-up by themselves; see README.md.

# Debian keeps the KDC and its tools where a user's PATH doesn't look.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: setup demo test reliability bench install uninstall dist lint format clean

setup:
	@scripts/setup

demo:
	@scripts/packages $$(scripts/setup --packages) krb5-kdc krb5-admin-server krb5-user
	@scripts/setup
	@scripts/demo

# PYTEST_ARGS selects: make test PYTEST_ARGS="-k watch -x"
test:
	@scripts/test-packages
	@scripts/setup test
	@scripts/build
	@.venv/bin/python -m pytest $(PYTEST_ARGS)

# About 80 minutes; docs/developer/reliability.md says what each of them does.
reliability:
	@scripts/setup test
	.venv/bin/python -m reliability.damage --count 1000
	.venv/bin/python -m reliability.kills --count 1000
	.venv/bin/python -m reliability.loops --count 20
	.venv/bin/python -m reliability.histories --count 1000
	.venv/bin/python -m reliability.takeover --kills 2000
	.venv/bin/python -m reliability.takeover --kills 100 --dying --parts writers,pauses
	.venv/bin/python -m reliability.takeover --kills 100 --ccfsd --rest 0.05
	.venv/bin/python -m reliability.takeover --kills 100 --user
	.venv/bin/python -m reliability.takeover --kills 100 --old-way --mount-option=--mount-anew
	.venv/bin/python -m reliability.large
	.venv/bin/python -m reliability.load
	.venv/bin/python -m reliability.fuzz_codec --count 1000000
	.venv/bin/python -m reliability.fuzz_ops --count 100000
	.venv/bin/python -m reliability.fuzz_ops --mount --count 20000
	.venv/bin/python -m reliability.fuzz_kcm --count 1000000
	.venv/bin/python -m reliability.fuzz_kcm --sockets --count 100000
	.venv/bin/python -m reliability.files --seconds 5

# DESTDIR=X: as if X were /; PREFIX=/usr/local, PAMDIR, MOUNTDIR, PYTHON: see scripts/install.
install:
	@scripts/build
	@scripts/install

uninstall:
	@scripts/install --remove

# About ten minutes, as root, on a machine that does nothing else; bench/README.md says more.
# BENCH_ARGS selects: make bench BENCH_ARGS="--only operations --peers file,ccfs"
bench:
	@scripts/packages krb5-kdc krb5-admin-server krb5-user libkrb5-dev gcc python3-dev
	@scripts/setup bench
	@bench/unpack
	.venv/bin/python -m bench --output bench/results $(BENCH_ARGS)

# The sdist and the wheel, in dist/, built and checked.
dist:
	@scripts/setup dist
	@scripts/dist

lint:
	@scripts/test-packages
	@scripts/setup test lint
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

format:
	@scripts/setup lint
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
