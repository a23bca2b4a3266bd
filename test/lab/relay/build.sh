#!/bin/sh
# Runs in the chroot of a base system: a host on which nothing is installed yet, with all that the formula
# will ask for (packages, wheels) lying beside it, since a booted host reaches no network.
# SALT_VERSION comes from the environment, requirements.txt from bin/. A line "step: ..." is shown as progress.
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

echo "step: Salt $SALT_VERSION with this system's Python"
# The compiler is for timelib, which has no wheels; it goes again below. Optimised, timelib alone takes most of a minute.
export CFLAGS=-O0
tools="python3-venv python3-dev gcc libc6-dev"
# shellcheck disable=SC2086 # a list of packages
apt-get install --yes --no-install-recommends $tools
python3 -m venv /opt/salt
/opt/salt/bin/pip install "salt==$SALT_VERSION"
ln -s /opt/salt/bin/salt-call /usr/local/bin/salt-call

echo "step: wheels for the formula"
/opt/salt/bin/pip wheel --use-pep517 --wheel-dir /srv/wheels ldap3==2.9.1 dkimpy==1.1.8 dnspython==2.9.2

echo "step: what bin/apply brings to a host without Salt"
# Two of the locked packages are sources, and setuptools and the rest are what builds them.
/opt/salt/bin/pip download --no-deps --require-hashes --dest /srv/locked --requirement $here/requirements.txt
/opt/salt/bin/pip download --dest /srv/locked setuptools wheel looseversion packaging importlib-metadata
printf '[global]\nno-index = true\nfind-links = /srv/wheels\n' >/etc/pip.conf

echo "step: configuration"
# shellcheck disable=SC2086
apt-get purge --yes --autoremove $tools
install -D -m 0644 $here/minion /etc/salt/minion
install -d -m 0700 /srv/pillar
install -d /srv/formula
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list
rm -r $here
