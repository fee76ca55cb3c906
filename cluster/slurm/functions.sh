# Sourced by run_all.sh: what Snakemake's SLURM executor leaves undone.

# Whether these options of Snakemake's have SLURM start the jobs: an executor, or a profile that names it.
uses_slurm() {
    case " $* " in
        *" --executor slurm "* | *" --executor=slurm "* | *" -e slurm "*) return 0 ;;
    esac
    local before='' option
    for option in "$@"; do
        case "$option" in --workflow-profile=*) before=--workflow-profile option=${option#*=} ;; esac
        if [ "$before" = --workflow-profile ] && grep -qs '^executor: *slurm' "$option/config.yaml"; then return 0; fi
        before=$option
    done
    return 1
}

# Fills `slurm` with options for this start: how its jobs are called, and what to ask how they are.
slurm_options() {
    local host=${HOSTNAME//[^A-Za-z0-9]/-}
    slurm_jobs=kdmri-${host:0:30}-$$
    slurm=(--slurm-jobname-prefix "$slurm_jobs")
    # A cluster needn't have an accounting database, and without one Snakemake would wait for ever for what sacct says.
    if sacct --allocations --noheader > /dev/null 2>&1; then return 0; fi
    slurm+=(--slurm-status-command squeue)
    # squeue forgets a job MinJobAge after its end, and Snakemake asks every three minutes when nothing ends meanwhile.
    local age
    age=$(scontrol show config | sed -n 's/^MinJobAge *= *\([0-9]*\).*/\1/p')
    if [ "${age:-0}" -lt 200 ]; then
        echo "kdmri: this cluster has no accounting (sacct), and squeue forgets jobs ${age:-0} s after their end (MinJobAge):" >&2
        echo "kdmri: how they ended can't be known; ask for a MinJobAge of 300, SLURM's default" >&2
        return 1
    fi
}

# This start's jobs that aren't over, one a line: state (CG: it is ending) and number.
slurm_living() {
    squeue --noheader --user "$(id -un)" --format '%t %i %j' |
        awk -v prefix="$slurm_jobs" 'index($3, prefix) == 1 { print $1, $2 }'
}

# Ends them, and waits for so many half seconds: trainings get SIGTERM and save. What is still ending then, SLURM sees to.
slurm_cancel() {
    local jobs
    for _ in $(seq "$1"); do
        jobs=$(slurm_living) || return 0
        [ -n "$jobs" ] || return 0
        # Each once: a second SIGTERM can find Snakemake within what it does at the first, and hold it up.
        awk '$1 != "CG" { print $2 }' <<< "$jobs" | xargs --no-run-if-empty scancel || true
        sleep 0.5
    done
    echo "kdmri: some jobs are still ending; SLURM kills what is left of them after its KillWait" >&2
}
