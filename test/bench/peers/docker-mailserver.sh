#!/bin/bash
# docker-mailserver's published Postfix settings (c9b015d: target/postfix/main.cf, master.cf, setup.d/ldap.sh,
# setup.d/dmarc_dkim_spf.sh) on a relay of this formula, whose /etc/postfix they take the place of.
# Taken: milter protocol, default action and TCP sockets, unproxied ldap: lookups, texthash aliases, postscreen on port
# 25, TLS settings, restrictions, header checks and the second cleanup of submission, stock process limits.
# Not taken: Dovecot (logins go to saslauthd, mail for the site goes on to its delivery layer, not into mailboxes),
# amavis and rspamd (the filters are clamav-milter and OpenDKIM), Fail2ban, the DNS block lists of postscreen.
set -eu
cd /etc/postfix
bind=$(grep '^bind_pw' people-mycompany.ldap)
cat >main.cf <<END
compatibility_level = 3.6
smtpd_banner = \$myhostname ESMTP
biff = no
append_dot_mydomain = no
readme_directory = no
smtputf8_enable = no
myhostname = vm-172-16-11-95.cloud0.hc.mycompany.dom
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
mydestination = localhost.\$mydomain, localhost
relayhost =
mynetworks = 127.0.0.0/8, 172.16.10.0/24, 172.16.11.0/24
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = all
inet_protocols = all
smtpd_tls_chain_files = /etc/postfix/tls/self-made.pem
smtpd_tls_security_level = may
smtpd_tls_loglevel = 1
smtp_tls_security_level = may
smtp_tls_loglevel = 1
tls_ssl_options = NO_COMPRESSION, NO_RENEGOTIATION
tls_high_cipherlist = ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384
tls_preempt_cipherlist = yes
smtpd_tls_protocols = !SSLv2,!SSLv3,!TLSv1,!TLSv1.1
smtp_tls_protocols = !SSLv2,!SSLv3,!TLSv1,!TLSv1.1
smtpd_tls_mandatory_ciphers = high
smtpd_tls_mandatory_protocols = !SSLv2,!SSLv3,!TLSv1,!TLSv1.1
smtpd_tls_exclude_ciphers = aNULL, SEED, CAMELLIA, RSA+AES, SHA1
smtpd_tls_CApath = /etc/ssl/certs
smtp_tls_CApath = /etc/ssl/certs
smtpd_helo_required = yes
smtpd_delay_reject = yes
smtpd_helo_restrictions = permit_mynetworks, reject_invalid_helo_hostname, permit
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
smtpd_recipient_restrictions = permit_sasl_authenticated, permit_mynetworks, reject_unauth_destination, reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname, reject_unknown_recipient_domain
smtpd_client_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
smtpd_sender_restrictions = \$dms_smtpd_sender_restrictions
dms_smtpd_sender_restrictions = permit_sasl_authenticated, permit_mynetworks, reject_unknown_sender_domain
smtpd_discard_ehlo_keywords = silent-discard, dsn
smtpd_data_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_pipelining
disable_vrfy_command = yes
smtpd_forbid_bare_newline = yes
mua_sender_restrictions = \$dms_smtpd_sender_restrictions
postscreen_greet_action = enforce
postscreen_bare_newline_action = enforce
smtpd_sasl_auth_enable = no
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = /etc/postfix/sasl
smtpd_sasl_security_options = noanonymous
smtpd_sasl_local_domain =
broken_sasl_auth_clients = yes
relay_domains = domain01.dom, domain02.dom
relay_recipient_maps = ldap:/etc/postfix/ldap-users.cf
virtual_alias_maps = texthash:/etc/postfix/virtual
transport_maps = texthash:/etc/postfix/transport_maps
milter_protocol = 6
milter_default_action = accept
smtpd_milters = inet:localhost:7357, inet:localhost:8891
non_smtpd_milters = inet:localhost:7357, inet:localhost:8891
header_checks = pcre:/etc/postfix/header_checks.pcre
smtp_header_checks = pcre:/etc/postfix/sender_header_filter.pcre
END
cat >ldap-users.cf <<END
bind = yes
bind_dn = cn=correoapp,ou=mailapps,dc=domain01,dc=dom
$bind
query_filter = (&(mail=%s)(objectClass=*))
result_attribute = mail
search_base = dc=domain01,dc=dom
server_host = ldap://172.16.11.63:389/
start_tls = no
version = 3
END
chgrp postfix ldap-users.cf && chmod 0640 ldap-users.cf
: >virtual
echo '/^Received:.*amavisd-new/ IGNORE' >header_checks.pcre
cat >sender_header_filter.pcre <<'END'
/^\s*Received:.*with ESMTPSA/       IGNORE
/^\s*X-Originating-IP:/             IGNORE
/^\s*X-Mailer:/                     IGNORE
/^\s*Mime-Version: 1.0.*/           REPLACE MIME-Version: 1.0
/^\s*User-Agent/                    IGNORE
END
postconf -MX 465/inet
postconf -M 'smtp/inet=smtp inet n - n - 1 postscreen' 'smtpd/pass=smtpd pass - - n - - smtpd' \
    'tlsproxy/unix=tlsproxy unix - - n - 0 tlsproxy' 'dnsblog/unix=dnsblog unix - - n - 0 dnsblog' \
    'sender-cleanup/unix=sender-cleanup unix n - n - 0 cleanup' 'submission/inet=submission inet n - n - - smtpd'
postconf -P sender-cleanup/unix/header_checks=pcre:/etc/postfix/sender_header_filter.pcre
postconf -P submission/inet/syslog_name=postfix/submission submission/inet/smtpd_tls_security_level=encrypt \
    submission/inet/smtpd_sasl_auth_enable=yes submission/inet/smtpd_reject_unlisted_recipient=no \
    submission/inet/smtpd_sasl_authenticated_header=yes \
    submission/inet/smtpd_client_restrictions=permit_sasl_authenticated,reject \
    submission/inet/smtpd_relay_restrictions=permit_sasl_authenticated,reject \
    'submission/inet/smtpd_sender_restrictions=$mua_sender_restrictions' \
    submission/inet/smtpd_discard_ehlo_keywords= submission/inet/milter_macro_daemon_name=ORIGINATING \
    submission/inet/cleanup_service_name=sender-cleanup
