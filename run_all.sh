#!/usr/bin/env bash
# Every table and figure: ./run_all.sh [--profile smoke|quick|evening|full|paper|FILE.yaml] [--jobs N] [Snakemake's options]
set -euo pipefail
cd "$(dirname "$0")"
profile=quick
jobs=2
rest=()
help=
while [ $# -gt 0 ]; do
    case "$1" in
        --profile) profile=${2:?"--profile needs a name"}; shift 2 ;;
        --profile=*) profile=${1#*=}; shift ;;
        --jobs | -j) jobs=${2:?"--jobs needs a number"}; shift 2 ;;
        --jobs=*) jobs=${1#*=}; shift ;;
        --help | -h) help=yes; shift ;;
        *) rest+=("$1"); shift ;;
    esac
done
. ./environment.sh
if [ -n "$help" ]; then
    cat <<'END'
./run_all.sh [--profile NAME|FILE.yaml] [--jobs N] [anything else goes to Snakemake]

Makes every table and figure of a profile, in results/NAME/. What is up to date isn't made again; what was killed goes on
from its last checkpoint. --jobs: trainings and notebooks side by side (default 2), each with the profile's threads.

Profiles:
END
    exec python -m kdmri_lib profiles
fi
python -m kdmri_lib check --profile "$profile"
mkdir -p results
# Held until this shell ends, however it ends; a second start in this folder says so in place of waiting.
exec 9> results/.lock
if command -v flock > /dev/null && ! flock --nonblock 9; then
    echo "kdmri: another ./run_all.sh is at work in this folder; wait for it or stop it first" >&2
    exit 1
fi
snakemake --quiet host --nolock --keep-going --rerun-incomplete --cores "$jobs" --config profile="$profile" "${rest[@]}" 9>&-
echo "kdmri: all is up to date. Start with results/$(basename "${profile%.yaml}")/report/index.html"
