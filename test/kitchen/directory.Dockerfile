# The lab's directory, for kitchen, up to its packages; test/kitchen/directory runs the rest.
FROM debian:12
COPY test/lab/services /usr/local/lib/lab
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive xargs apt-get install --yes --no-install-recommends \
    dbus iproute2 procps python3 systemd systemd-sysv </usr/local/lib/lab/packages
