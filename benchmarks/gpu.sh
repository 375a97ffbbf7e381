#!/usr/bin/env bash
# On a fresh machine with an NVIDIA GPU, Python >= 3.11, make and a C compiler: installs, then measures
# what only a GPU can tell (gpu.py) into gpu-results/. About 10 minutes after the installation.
#   bash benchmarks/gpu.sh [OUT]
#   DEVICE=cpu FLAGS=--quick INSTALL=no bash benchmarks/gpu.sh OUT     the same run without a GPU
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
python=${PYTHON:-.venv/bin/python}
if [ "${INSTALL:-yes}" = yes ]; then
  make install
  .venv/bin/pip install -q 'jax[cuda12]' || echo "no JAX for this GPU: it is left out" >&2
  nvidia-smi
fi
# JAX would take most of the GPU's memory at its first step.
XLA_PYTHON_CLIENT_PREALLOCATE=false "$python" benchmarks/gpu.py "$out" \
  --device "${DEVICE:-cuda}" ${FLAGS:-}
