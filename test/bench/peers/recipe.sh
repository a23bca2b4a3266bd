#!/bin/bash
# The how-to of 2016 ("SMTP-OUTGOING LAYER") as a shell script without checks: what its reader would have typed, on a
# fresh Debian 12 instead of CentOS 7. Each file holds the how-to's lines in its order; what had to be mended to make it
# run at all is marked "Mended:". Traps that only make it slow, unsafe or wrong stay in.
# The site is the how-to's own; the environment may say otherwise, and the password never is an argument.
set -eu
: "${RELAY_ADDRESS:=172.16.11.95}" "${RELAY_HOSTNAME:=vm-172-16-11-95.cloud0.hc.mycompany.dom}"
: "${NETWORKS:=172.16.10.0/24, 172.16.11.0/24}" "${NEXTHOP:=smtp:[172.16.11.96]:25}"
: "${DIRECTORY:=172.16.11.63}" "${BASE:=dc=domain01,dc=dom}"
: "${BIND_DN:=cn=correoapp,ou=mailapps,dc=domain01,dc=dom}" "${BIND_PASSWORD:=Pass2016Mail}"
: "${TRUSTED:=$RELAY_ADDRESS}"          # whose mail is signed without a login: addresses, separated by blanks
: "${SIGNATURES:?a folder of signatures for ClamAV}"
export DEBIAN_FRONTEND=noninteractive

# --- Postfix ---
# Mended: Debian's names. LDAP tables are a package of their own; there is no sendmail to remove; telnet was for looking.
apt-get --yes --quiet update
apt-get --yes --quiet install postfix postfix-ldap
cd /etc/postfix
systemctl stop postfix
cp main.cf main.cf.ORG
# Mended: Debian runs the services in a chroot, where neither saslauthd's socket nor the directory's name is found.
postconf -F '*/*/chroot = n'
cat >main.cf <<END
smtpd_banner = \$myhostname ESMTP \$mail_name (MYCOMPANY Mail System)
biff = no
append_dot_mydomain = no
readme_directory = no
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated reject_unauth_destination
myhostname = $RELAY_HOSTNAME
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
mydomain = domain01.dom
myorigin = \$myhostname
mydestination = \$myhostname, localhost.\$mydomain, localhost
unknown_local_recipient_reject_code = 550
relayhost =
mynetworks = 127.0.0.0/8, $NETWORKS
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = all
relay_domains = domain01.dom
relay_recipient_maps = ldap:/etc/postfix/people-mycompany.ldap
inet_protocols = all
queue_directory = /var/spool/postfix
transport_maps = hash:/etc/postfix/transport_maps
smtpd_recipient_limit = 200
message_size_limit = 26214400
smtpd_error_sleep_time = 1s
smtpd_soft_error_limit = 10
smtpd_hard_error_limit = 20
smtpd_client_connection_count_limit = 10
smtpd_client_connection_rate_limit = 60
default_process_limit = 200
bounce_queue_lifetime = 1d
maximal_queue_lifetime = 1d
soft_bounce = no
sendmail_path = /usr/sbin/sendmail.postfix
newaliases_path = /usr/bin/newaliases.postfix
mailq_path = /usr/bin/mailq.postfix
setgid_group = postdrop
smtpd_sasl_auth_enable = yes
smtpd_sasl_security_options = noanonymous
smtpd_sasl_tls_security_options = noanonymous
smtpd_sasl_path= smtpd
smtpd_sasl_local_domain =
smtpd_sasl_authenticated_header = yes
END
cat >people-mycompany.ldap <<END
version = 3
server_port = 389
timeout = 60
search_base = $BASE
query_filter = (|(&(mail=%s)(mail=*@domain01.dom))(&(mail=%s)(mail=*@domain02.dom)))
result_attribute = cn
bind = yes
bind_dn = $BIND_DN
bind_pw = $BIND_PASSWORD
server_host = ldap://$DIRECTORY:389/
END
echo "domain01.dom $NEXTHOP" >/etc/postfix/transport_maps
echo "domain02.dom $NEXTHOP" >>/etc/postfix/transport_maps
postmap -c /etc/postfix/ hash:/etc/postfix/transport_maps
systemctl enable postfix
systemctl start postfix

# --- Logins ---
apt-get --yes --quiet install sasl2-bin libsasl2-modules
# Mended: Debian's file and variables, of which OPTIONS would switch a cache on that CentOS doesn't; its socket is for a
# group; and /etc/sasl2/smtpd.conf, which CentOS's package brings, has another place.
sed --in-place 's/^START=.*/START=yes/; s/^MECHANISMS=.*/MECHANISMS="ldap"/; s|^OPTIONS=.*|OPTIONS="-m /var/run/saslauthd"|' \
    /etc/default/saslauthd
grep -q '^START=' /etc/default/saslauthd || echo 'START=yes' >>/etc/default/saslauthd
adduser --quiet postfix sasl
printf 'pwcheck_method: saslauthd\nmech_list: plain login\n' >/etc/postfix/sasl/smtpd.conf
cat >/etc/saslauthd.conf <<END
ldap_servers: ldap://$DIRECTORY:389/
ldap_version: 3
ldap_auth_method: bind
ldap_bind_dn: $BIND_DN
ldap_bind_pw: $BIND_PASSWORD
ldap_search_base: $BASE
ldap_filter: sAMAccountName=%U
ldap_scope: sub
END
systemctl enable saslauthd
systemctl restart saslauthd

# --- ClamAV ---
apt-get --yes --quiet install clamav-daemon clamav-milter clamav-freshclam clamav
# Mended: freshclam reaches nobody from here; its signatures lie in a folder already.
systemctl disable --now clamav-freshclam
install -o clamav -g clamav -m 0644 -t /var/lib/clamav "$SIGNATURES"/*
# Mended: Debian's file and account. Its systemd opens clamd's sockets, so the TCP port is said there, too; and it starts
# clamd only when the official databases are there.
cat >/etc/clamav/clamd.conf <<END
User clamav
LogSyslog yes
PidFile /var/run/clamd.scan/clamd.pid
TemporaryDirectory /var/tmp
DatabaseDirectory /var/lib/clamav
LocalSocket /var/run/clamd.scan/clamd.sock
FixStaleSocket yes
TCPSocket 3310
TCPAddr 127.0.0.1
END
install -d -o clamav -g clamav /var/run/clamd.scan /var/run/clamav-milter
for unit in clamav-daemon.socket clamav-daemon.service; do
    install -d "/etc/systemd/system/$unit.d"
    printf '[Unit]\nConditionPathExistsGlob=\n' >"/etc/systemd/system/$unit.d/recipe.conf"
done
printf '[Socket]\nListenStream=127.0.0.1:3310\n' >>/etc/systemd/system/clamav-daemon.socket.d/recipe.conf
systemctl daemon-reload
systemctl enable clamav-daemon
systemctl restart clamav-daemon.socket clamav-daemon
# Mended: Debian's file and account.
cat >/etc/clamav/clamav-milter.conf <<END
User clamav
LogSyslog yes
MilterSocket inet:7357@127.0.0.1
PidFile /var/run/clamav-milter/clamav-milter.pid
TemporaryDirectory /var/tmp
ClamdSocket tcp:127.0.0.1:3310
OnClean Accept
OnInfected Reject
OnFail Accept
RejectMsg %v virus detected
AddHeader Replace
SupportMultipleRecipients yes
END
systemctl enable clamav-milter
systemctl restart clamav-milter

# --- OpenDKIM ---
apt-get --yes --quiet install opendkim opendkim-tools
# Mended: CentOS's package brings the folder and a TrustedHosts with the loopback's addresses.
mkdir -p /etc/opendkim/keys
printf '127.0.0.1\n::1\n' >/etc/opendkim/TrustedHosts
cd /etc/opendkim/keys
opendkim-genkey --bits=4096 --domain=domain01.dom --selector=domain01.dom --restrict
opendkim-genkey --bits=4096 --domain=domain02.dom --selector=domain02.dom --restrict
chown opendkim:opendkim /etc/opendkim/keys/*.private
cp /etc/opendkim.conf /etc/opendkim.conf.ORG
cat >/etc/opendkim.conf <<END
PidFile    /var/run/opendkim/opendkim.pid
Mode    sv
Syslog    yes
SyslogSuccess    yes
LogWhy    yes
UserID    opendkim:opendkim
Socket    inet:8891@localhost
Umask    002
Canonicalization    relaxed/relaxed
Selector    default
MinimumKeyBits 1024
KeyTable    refile:/etc/opendkim/KeyTable
SigningTable    refile:/etc/opendkim/SigningTable
ExternalIgnoreList    refile:/etc/opendkim/TrustedHosts
InternalHosts    refile:/etc/opendkim/TrustedHosts
END
for address in $TRUSTED; do echo "$address" >>/etc/opendkim/TrustedHosts; done
for domain in domain01.dom domain02.dom; do
    echo "default._domainkey.$domain $domain:default:/etc/opendkim/keys/$domain.private" >>/etc/opendkim/KeyTable
    echo "*@$domain default._domainkey.$domain" >>/etc/opendkim/SigningTable
done
systemctl enable opendkim
systemctl restart opendkim

cat >>/etc/postfix/main.cf <<END
milter_default_action = accept
smtpd_milters = inet:127.0.0.1:7357, inet:127.0.0.1:8891
END
systemctl restart postfix
