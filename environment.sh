# Sourced in the project's folder, by run_all.sh, run_tests.sh and people: makes an environment with the exact pins of
# constraints.txt on first use, activates it. Each Python has one of its own, since another's may be in use: `.venv`, or
# such as `.venv-3.12.1` where that is of another Python. A step that fails returns, and the next start tries again.
_kdmri_environment() {
    local python=${PYTHON:-python3} version wanted venv=.venv
    if [ ! -f constraints.txt ]; then
        echo "kdmri: no constraints.txt in $PWD; environment.sh is sourced in the project's folder" >&2
        return 1
    fi
    version=$("$python" -c 'import sys; assert sys.version_info >= (3, 11); print(sys.version.split()[0])' 2>/dev/null) || {
        echo "kdmri: '$python' isn't Python 3.11 or newer; set PYTHON to one that is" >&2
        return 1
    }
    if [ -f .venv/pyvenv.cfg ] && ! grep -qx "version = $version" .venv/pyvenv.cfg; then venv=.venv-$version; fi
    wanted="$(cat constraints.txt pyproject.toml | cksum) $PWD"
    if [ "$(cat "$venv/.made-from" 2>/dev/null)" != "$wanted" ]; then
        _kdmri_make_environment "$python" "$venv" "$wanted" 8> .venv.lock || return
    fi
    . "$venv/bin/activate"
    # glibc gives the memory of each large tensor back at once, and gets it anew page by page: of a knee training, a quarter
    # of the time.
    export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-1073741824}"
    export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-1073741824}"
}

_kdmri_make_environment() {
    local python=$1 venv=$2 wanted=$3 found
    if command -v flock > /dev/null; then flock 8 2>/dev/null; fi # another start may be making it
    found=$(cat "$venv/.made-from" 2>/dev/null)
    if [ "$found" = "$wanted" ]; then return; fi
    echo "kdmri: making the environment in $venv (first use; some minutes, and 3 GB of disk)" >&2
    # Where only pins changed it is brought up to date in place; one made elsewhere, or half, is begun anew.
    case "$found" in
        *" $PWD") "$python" -m venv "$venv" || return ;;
        *) "$python" -m venv --clear "$venv" || return ;;
    esac
    "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt \
        -e '.[deploy,dicom,scanner,slurm,study,test,viewer]' || {
        echo "kdmri: the environment in $venv couldn't be made; the next start tries again" >&2
        return 1
    }
    if git rev-parse --git-dir > /dev/null 2>&1; then
        # Notebooks that were run don't count as changed (.gitattributes). Not `required`: without it they pass as they are.
        git config filter.nbstripout.clean "'$PWD/$venv/bin/python' -m nbstripout --keep-id --extra-keys metadata.language_info"
        git config filter.nbstripout.smudge cat
        git config diff.ipynb.textconv "'$PWD/$venv/bin/python' -m nbstripout -t"
    fi
    echo "$wanted" > "$venv/.made-from"
}

_kdmri_environment
