# A relay to be, for kitchen: a bare server with systemd and Salt. kitchen-docker fills in the platform's image.
FROM <%= @image %>

# Docker's Debian forbids packages to start services, which a server's does not.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    ca-certificates dbus iproute2 openssh-server procps python3-venv systemd systemd-sysv \
 && rm -f /usr/sbin/policy-rc.d

# As bin/apply brings it to a server without one.
COPY bin/requirements.txt /srv/formula/bin/
RUN python3 -m venv /opt/salt \
 && /opt/salt/bin/pip install --no-deps --require-hashes --requirement /srv/formula/bin/requirements.txt \
 && ln -s /opt/salt/bin/salt-call /usr/local/bin/salt-call

# kitchen-salt keeps its configuration below root_path: a plain salt-call finds it there.
RUN ln -s /srv/kitchen/etc/salt /etc/salt

# What test/salt/pillar/lab.sls names.
COPY test/lab/signatures /srv/formula/test/lab/signatures

# kitchen-docker has made the key; kitchen logs in with it.
RUN mkdir -m 0700 /root/.ssh && echo "<%= File.read(@public_key).strip %>" >/root/.ssh/authorized_keys
