#!/bin/bash
# The formula's own filters, a second time, behind TCP sockets on loopback as peers publish them: the same scanner, the
# same keys. Both stop with their units.
set -eu
sed 's/^MilterSocket .*/MilterSocket inet:7357@127.0.0.1/; /^MilterSocket[GM]/d; s|^PidFile .*|PidFile /run/clamav/bench.pid|' \
    /etc/clamav/clamav-milter.conf >/etc/clamav/bench-milter.conf
systemd-run --quiet --unit=bench-clamav-milter /usr/sbin/clamav-milter --config-file=/etc/clamav/bench-milter.conf
systemd-run --quiet --unit=bench-opendkim /usr/sbin/opendkim -f -x /etc/opendkim.conf -p inet:8891@localhost \
    -P /run/opendkim/bench.pid
for port in 7357 8891; do
    until ss --listening --tcp --numeric "sport = $port" | grep -q LISTEN; do sleep 0.1; done
done
