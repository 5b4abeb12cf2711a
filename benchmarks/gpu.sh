#!/usr/bin/env bash
# Test and measure on a GPU: benchmarks/gpu.sh [--smoke]
#
# The package must be installed for the interpreter, python3 or the one in PYTHON.
# --smoke runs the benchmarks on the CPU with tiny sizes: it shows that they work, and
# measures nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
python=${PYTHON:-python3}
parts=(leave-one-out side-by-side objectives)

if [[ ${1:-} == --smoke ]]; then
    "$python" benchmarks/bench_pretraining.py --smoke --parts "${parts[@]}" --jobs 2
    exit
fi
failed=0
"$python" -P -m pytest -q -p no:cacheprovider --continue-on-collection-errors -m gpu tests ||
    failed=1
"$python" benchmarks/bench_features.py --parts gpu
"$python" benchmarks/bench_pretraining.py --device cuda --parts "${parts[@]}" --jobs 5
exit "$failed"
