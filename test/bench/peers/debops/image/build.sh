#!/bin/sh
# Runs in the chroot of a base system: lays Debian's Ansible and the DebOps roles into /srv/ansible, to be copied into
# a relay, which reaches no network.
set -eu
here=/usr/local/lib/lab
mkdir -p /srv/ansible/debs/partial /srv/ansible/collections/ansible_collections /tmp/ansible /tmp/debops

echo "step: Ansible"
apt-get update
download() {
    apt-get install --yes --download-only --no-install-recommends -o APT::Sandbox::User=root "$@"
}
# Beside Ansible itself, what the roles' own plugins and modules import.
download -o Dir::Cache::archives=/srv/ansible/debs ansible-core \
    python3-apt python3-dnspython python3-netaddr python3-passlib python3-toml
rm -r /srv/ansible/debs/partial /srv/ansible/debs/lock

echo "step: the collections that the roles use"
# Debian's package has a hundred; a host would compile them for a minute.
download ansible
dpkg-deb --extract /var/cache/apt/archives/ansible_*.deb /tmp/ansible
cd /tmp/ansible/usr/lib/python3/dist-packages/ansible_collections
cp --recursive --parents ansible/posix ansible/utils community/crypto community/general \
    /srv/ansible/collections/ansible_collections

echo "step: the DebOps roles"
apt-get install --yes --no-install-recommends python3-pip
python3 -m pip download --no-deps --require-hashes --dest /tmp/debops --requirement $here/requirements.txt
python3 -m zipfile --extract /tmp/debops/debops-*.whl /tmp/debops
cp --recursive /tmp/debops/debops/_data/ansible/collections/. /srv/ansible/collections
