#!/bin/sh
# Runs in the chroot of a base system: what the unit and rendering tests need, with this release's Python and daemons.
set -eu

echo "step: the locked packages with this system's Python"
python3 -m venv /opt/tests
# The lock is whole but for timelib, as bin/test says.
/opt/tests/bin/pip install --no-deps --require-hashes --requirement /usr/local/lib/lab/requirements.txt
