# Sourced by run_all.sh and run_tests.sh: makes .venv with the exact pins of constraints.txt on first use, activates it.
# Made anew when pins or Python changed; a half-made one is never used, since the stamp is written last.
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "kdmri: '$python' isn't Python 3.11 or newer; set PYTHON to one that is" >&2
    exit 1
fi
wanted=$("$python" - <<'END'
import hashlib, pathlib, sys
pins = pathlib.Path("constraints.txt").read_bytes() + pathlib.Path("pyproject.toml").read_bytes()
print(hashlib.sha256(pins + sys.version.encode() + str(pathlib.Path.cwd()).encode()).hexdigest())
END
)
if [ "$(cat .venv/.made-from 2>/dev/null)" != "$wanted" ]; then
    echo "kdmri: making the environment in .venv (first use; some minutes, and 3 GB of disk)" >&2
    "$python" -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[deploy,dicom,scanner,slurm,test]'
    if git -C . rev-parse --git-dir > /dev/null 2>&1; then
        # Notebooks that were run don't count as changed (.gitattributes). Not `required`: without .venv they pass as they are.
        git config filter.nbstripout.clean "'$PWD/.venv/bin/python' -m nbstripout --keep-id --extra-keys metadata.language_info"
        git config filter.nbstripout.smudge cat
        git config diff.ipynb.textconv "'$PWD/.venv/bin/python' -m nbstripout -t"
    fi
    echo "$wanted" > .venv/.made-from
fi
. .venv/bin/activate
# glibc gives the memory of each large tensor back at once, and gets it anew page by page: of a knee training, a quarter of the time.
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-1073741824}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-1073741824}"
