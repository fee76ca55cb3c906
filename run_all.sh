#!/usr/bin/env bash
# Every table and figure: ./run_all.sh [--profile NAME|FILE.yaml] [--jobs N] [--folder DIR] [Snakemake's options]
set -euo pipefail
unset CDPATH PYTHONPATH PYTHONHOME # which a cluster's modules may set, to packages that aren't the environment's
project=$(cd "$(dirname "$0")" && pwd)
profile=quick
jobs=2
folder=$project
rest=()
names=()
help=
while [ $# -gt 0 ]; do
    case "$1" in
        --profile) profile=${2:?"--profile needs a name"}; shift 2 ;;
        --profile=*) profile=${1#*=}; shift ;;
        --jobs | -j) jobs=${2:?"--jobs needs a number"}; shift 2 ;;
        --jobs=*) jobs=${1#*=}; shift ;;
        --folder) folder=$(realpath -m "${2:?"--folder needs a path"}"); shift 2 ;;
        --folder=*) folder=$(realpath -m "${1#*=}"); shift ;;
        --help | -h) help=yes; shift ;;
        *)
            # What has the form of a name, and isn't the value of one of Snakemake's options, is what is to be made.
            case "$1 ${rest[*]: -1}" in *[!a-zA-Z0-9_]*\ * | *\ -*) ;; *) names+=("$1") ;; esac
            rest+=("$1")
            shift
            ;;
    esac
done
case "$profile" in *.yaml | *.yml) profile=$(realpath "$profile") ;; esac
cd "$project"
if [ -n "$help" ]; then # before the environment is made, which takes minutes
    cat <<'END'
./run_all.sh [--profile NAME|FILE.yaml] [--jobs N] [--folder DIR] [JOB...] [anything else goes to Snakemake]

Makes every table and figure of a profile, in results/NAME/, or only the jobs that are named: a setting or an experiment
with a seed, such as brain_4x_seed0. What is up to date isn't made again; what was killed goes on from its last
checkpoint. --jobs: cores, on which trainings and notebooks run side by side (default 2). --folder: where
data/prepared and results are (default: here). On a cluster: see cluster/README.md.

Profiles:
END
    for file in profiles/*.yaml; do
        name=$(basename "$file" .yaml)
        printf '  %s: %s; %s\n' "$name" "$(sed -n 's/^description: //p' "$file")" "$(sed -n 's/^cost: //p' "$file")"
    done
    exit
fi
mkdir -p "$folder/results"
# Held until this shell and its Snakemake end, however they end; a second start says so in place of waiting.
exec 9> "$folder/results/.lock"
locked=0
if command -v flock > /dev/null; then flock --nonblock --conflict-exit-code 75 9 2> /dev/null || locked=$?; fi
case $locked in
    0) ;;
    75)
        echo "kdmri: another ./run_all.sh is at work in $folder; wait for it or stop it first" >&2
        exit 1
        ;;
    *) echo "kdmri: the file system of $folder has no locks; start no second ./run_all.sh there" >&2 ;;
esac
. ./environment.sh
# Downloads, and what is asked for by name, are looked at first; values are checked when they are prepared.
file=$profile
if [ ! -f "$file" ]; then file=profiles/$profile.yaml; fi
if [ ! -f "$file" ] || [ "${#names[@]}" -gt 0 ] || grep -q '^ *folder:\|[{,] *folder:' "$file"; then
    python -m kdmri_study check --headers --profile "$profile" --folder "$folder" --names "${names[@]}"
fi
slurm=()
. ./cluster/slurm/functions.sh
if uses_slurm "${rest[@]}"; then slurm_options; fi
# In a terminal bars; elsewhere a line a job. What a job prints is in results/NAME/logs.
shown=(--quiet host reason progress)
if [ -t 1 ]; then shown=(--logger rich --quiet host reason); fi
# In a process group of its own, to which a signal to this shell is passed on: trainings save and end within seconds.
# Greedy: which job is first hardly matters, and the default solves an integer programme whenever one ends.
set -m
export KDMRI_PROFILE=$profile KDMRI_FOLDER=$folder # since Snakemake reads values of --config as YAML
snakemake --scheduler greedy "${slurm[@]}" "${rest[@]}" "${shown[@]}" --nolock --keep-going --rerun-incomplete \
    --cores "$jobs" &
study=$!
set +m
stop() {
    kill -TERM -- "-$study" 2> /dev/null || return 0
    if [ "${#slurm[@]}" -gt 0 ]; then
        # At SIGTERM Snakemake submits no more, but leaves what runs running, and wakes only to ask how it is.
        slurm_cancel 20
        kill -KILL -- "-$study" 2> /dev/null || true
        wait "$study" 2> /dev/null || true
        slurm_cancel 1 2> /dev/null # submitted while it was asked to stop
        return 0
    fi
    for _ in $(seq 60); do
        sleep 0.5
        kill -0 "$study" 2> /dev/null || return 0
    done
    # A Snakemake that waits for ever, as one whose output nobody reads any more, isn't waited for.
    kill -KILL -- "-$study" 2> /dev/null || return 0
}
trap stop TERM INT HUP
status=0
wait "$study" || status=$?
while kill -0 "$study" 2> /dev/null; do # a signal ends the wait early
    wait "$study" || status=$?
done
trap - TERM INT HUP
if [ "$status" -ne 0 ]; then
    echo "kdmri: not finished; the same command goes on from here" >&2
    exit "$status"
fi
case " ${rest[*]} " in *" --dry-run "* | *" -n "*) exit ;; esac
results=$folder/results/$(basename "${profile%.y*ml}")
if [ -s "$results/failed.txt" ]; then
    echo "kdmri: trainings failed, whose numbers are holes in the tables:"
    cat "$results/failed.txt"
fi
echo "kdmri: all is up to date. Start with $results/report/index.html"
