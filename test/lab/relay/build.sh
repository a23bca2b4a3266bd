#!/bin/sh
# Runs in the chroot of a base system: a host on which nothing is installed yet, with all that the formula
# will ask for (packages, wheels) lying beside it, since a booted host reaches no network.
# Beside this file lie the locks: salt.txt of the host's own Salt, apply.txt of the one that bin/apply brings, and
# formula.txt, the packages that the formula asks for. A line "step: ..." is shown as progress.
set -eu
here=/usr/local/lib/lab

echo "step: packages for the host's own repository"
apt-get update
mkdir -p /srv/apt/partial
# A line of the list is one set: sets may conflict with each other, as two mail servers do. It may begin with options.
while read -r packages; do
    # shellcheck disable=SC2086 # a list of packages
    apt-get install --yes --download-only --install-recommends -o Dir::Cache::archives=/srv/apt \
        -o APT::Sandbox::User=root $packages
done <$here/repository
rm -rf /srv/apt/partial /srv/apt/lock
(cd /srv/apt && apt-ftparchive packages . >Packages && apt-ftparchive release . >Release.new && mv Release.new Release)

echo "step: Salt with this system's Python"
apt-get install --yes --no-install-recommends python3-venv
python3 -m venv /opt/salt
# The lock is whole but for timelib, as bin/apply says; what the formula has to bring itself goes again.
/opt/salt/bin/pip install --no-deps --require-hashes --requirement $here/salt.txt
/opt/salt/bin/pip uninstall --yes --requirement $here/formula.txt
ln -s /opt/salt/bin/salt-call /usr/local/bin/salt-call

echo "step: wheels for the formula"
/opt/salt/bin/pip wheel --use-pep517 --wheel-dir /srv/wheels --requirement $here/formula.txt
# A host that is made a master serves a git repository with it (gitfs).
/opt/salt/bin/pip wheel --use-pep517 --wheel-dir /srv/wheels gitpython==3.1.45

echo "step: what bin/apply brings to a host without Salt"
# Two of the locked packages are sources, and setuptools and the rest are what builds them.
/opt/salt/bin/pip download --no-deps --require-hashes --dest /srv/locked --requirement $here/apply.txt
/opt/salt/bin/pip download --dest /srv/locked setuptools wheel looseversion packaging importlib-metadata
printf '[global]\nno-index = true\nfind-links = /srv/wheels\n' >/etc/pip.conf

echo "step: configuration"
apt-get purge --yes --autoremove python3-venv
install -D -m 0644 $here/minion /etc/salt/minion
install -d -m 0700 /srv/pillar
install -d /srv/formula /srv/states
ln -s ../formula/smtpout /srv/states/smtpout
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list
rm -r $here
