#!/bin/bash
# Bakes the three service roles into one image: directory (Samba AD DC), delivery (Postfix) and outside (BIND, Postfix,
# OpenDKIM). Runs as root inside the image: this folder is /usr/local/lib/lab, its packages are installed, nothing runs.
set -euo pipefail
cd /usr/local/lib/lab

# A host starts only what its role serves: boot.sh.
systemctl --quiet disable named opendkim postfix samba-ad-dc smbd nmbd winbind

# --- directory ------------------------------------------------------------------------------------
# provision refuses an smb.conf of another role and drops options of the running server: ours comes after it.
rm /etc/samba/smb.conf
samba-tool domain provision --quiet --server-role=dc --realm=DOMAIN01.DOM --domain=DOMAIN01 \
    --host-name=directory --host-ip=172.16.11.63 --adminpass=Adm1n-of-the-lab
install -m 0644 directory/smb.conf /etc/samba/smb.conf

# An image may be older than any password's default life, and tests change passwords back and forth.
samba-tool domain passwordsettings set --quiet \
    --max-pwd-age=0 --min-pwd-age=0 --history-length=0 --account-lockout-threshold=0
samba-tool ou create OU=mailapps
samba-tool user create correoapp Pass2016Mail --userou=OU=mailapps
samba-tool user create usuario01 P@ssw0rd --mail-address=usuario01@domain01.dom
samba-tool user create usuario02 P@ssw0rd --mail-address=usuario02@domain02.dom
samba-tool user create usuario03 P@ssw0rd --mail-address=usuario03@domain01.dom
samba-tool user disable usuario03

# The mark that Exchange brings into a directory and puts on shared mailboxes.
python3 exchange

# Samba's self-made certificate has no subjectAltName, and nothing stable that clients could be given as its authority.
tls=/var/lib/samba/private/tls
install -d -m 0700 "$tls"
openssl req -x509 -newkey rsa:2048 -noenc -days 3650 -subj "/CN=domain01.dom authority" \
    -keyout ca.key -out directory-ca.pem
openssl req -x509 -newkey rsa:2048 -noenc -days 3650 -subj "/CN=directory.domain01.dom" \
    -CA directory-ca.pem -CAkey ca.key -addext basicConstraints=critical,CA:FALSE \
    -addext subjectAltName=DNS:directory.domain01.dom,DNS:dc1.domain01.dom,DNS:dc2.domain01.dom,IP:172.16.11.63 \
    -keyout "$tls/key.pem" -out "$tls/cert.pem"
rm ca.key

# --- delivery and outside: mailboxes --------------------------------------------------------------
# mail/common.cf has the number.
useradd --system --uid 5000 --home-dir /srv/mail --shell /usr/sbin/nologin vmail
install -d -o vmail -g vmail /srv/mail
install -m 0644 mail/mailboxes.cf /etc/postfix/mailboxes.cf
touch /etc/postfix/mailboxes.sqlite
postconf -F '*/*/chroot = n'

# --- outside --------------------------------------------------------------------------------------
openssl req -x509 -newkey rsa:2048 -noenc -days 3650 -subj "/CN=mx.outside.example" \
    -addext subjectAltName=DNS:mx.outside.example -keyout /etc/postfix/mx.key -out /etc/postfix/mx.pem
install -m 0644 mail/opendkim.conf /etc/opendkim.conf
adduser --quiet postfix opendkim

install -m 0644 dns/named.conf /etc/bind/named.conf
# BIND keeps the journal of published records next to the zone.
install -o bind -g bind -m 0644 -t /var/lib/bind dns/*.zone
chown bind:bind /var/lib/bind
named-checkconf -z /etc/bind/named.conf
