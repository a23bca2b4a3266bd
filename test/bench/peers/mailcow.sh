#!/bin/bash
# mailcow's published Postfix settings (0642467: data/conf/postfix/main.cf, master.cf, anonymize_headers.pcre) on a
# relay of this formula, whose /etc/postfix they take the place of.
# Taken: milter protocol, default action, macros and TCP sockets, proxied lookups and how many there are for a message,
# postscreen on port 25, TLS and DNSSEC settings, restrictions, the second cleanup of submission, stock process limits.
# Not taken: MySQL (each lookup that says something about a relayed message asks the site's LDAP directory), Dovecot
# (logins go to saslauthd, mail for the site goes on to its delivery layer), rspamd (the filters are clamav-milter and
# OpenDKIM), postfix-tlspol, the block lists of postscreen, and the listeners for HAProxy, SOGo and the quarantine.
set -eu
cd /etc/postfix
bind=$(grep '^bind_pw' people-mycompany.ldap)
cat >main.cf <<END
biff = no
append_dot_mydomain = no
smtpd_tls_chain_files = /etc/postfix/tls/self-made.pem
smtpd_tls_received_header = yes
smtp_tls_session_cache_database = btree:\${data_directory}/smtp_scache
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination
smtpd_forbid_bare_newline = yes
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
relayhost =
myhostname = vm-172-16-11-95.cloud0.hc.mycompany.dom
mynetworks = 127.0.0.0/8, 172.16.10.0/24, 172.16.11.0/24
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = all
inet_protocols = all
bounce_queue_lifetime = 1d
broken_sasl_auth_clients = yes
disable_vrfy_command = yes
maximal_backoff_time = 1800s
maximal_queue_lifetime = 5d
delay_warning_time = 4h
message_size_limit = 104857600
milter_default_action = tempfail
milter_protocol = 6
minimal_backoff_time = 300s
plaintext_reject_code = 550
postscreen_access_list = permit_mynetworks
postscreen_bare_newline_enable = no
postscreen_denylist_action = drop
postscreen_cache_cleanup_interval = 24h
postscreen_cache_map = proxy:btree:\$data_directory/postscreen_cache
postscreen_greet_action = enforce
postscreen_greet_ttl = 2d
postscreen_greet_wait = 3s
queue_run_delay = 300s
relay_domains = domain01.dom, domain02.dom
relay_recipient_maps = proxy:ldap:/etc/postfix/relay_recipients.cf
smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt
smtp_tls_loglevel = 1
smtp_dns_support_level = dnssec
smtp_tls_security_level = dane
smtpd_data_restrictions = reject_unauth_pipelining, permit
smtpd_delay_reject = yes
smtpd_error_sleep_time = 10s
smtpd_hard_error_limit = \${stress?1}\${stress:5}
smtpd_helo_required = yes
smtpd_proxy_timeout = 600s
smtpd_recipient_restrictions = permit_sasl_authenticated, permit_mynetworks, reject_invalid_helo_hostname, reject_unauth_destination
smtpd_sasl_auth_enable = yes
smtpd_sasl_authenticated_header = yes
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = /etc/postfix/sasl
smtpd_sender_login_maps = proxy:ldap:/etc/postfix/sender_acl.cf
smtpd_sender_restrictions = reject_authenticated_sender_login_mismatch, permit_mynetworks, permit_sasl_authenticated, reject_unlisted_sender, reject_unknown_sender_domain
smtpd_soft_error_limit = 3
smtpd_tls_auth_only = yes
smtpd_tls_exclude_ciphers = ECDHE-RSA-RC4-SHA, RC4, aNULL, DES-CBC3-SHA, ECDHE-RSA-DES-CBC3-SHA, EDH-RSA-DES-CBC3-SHA
smtpd_tls_loglevel = 1
smtp_tls_mandatory_protocols = >=TLSv1.2
smtpd_tls_mandatory_protocols = >=TLSv1.2
smtpd_tls_mandatory_ciphers = high
smtp_tls_protocols = >=TLSv1.2
smtpd_tls_protocols = >=TLSv1.2
smtpd_tls_security_level = may
tls_preempt_cipherlist = yes
tls_ssl_options = NO_COMPRESSION, NO_RENEGOTIATION
virtual_alias_maps = proxy:ldap:/etc/postfix/aliases.cf
virtual_alias_domains =
recipient_canonical_maps = proxy:ldap:/etc/postfix/canonical.cf
recipient_canonical_classes = envelope_recipient
smtpd_milters = inet:127.0.0.1:7357, inet:127.0.0.1:8891
non_smtpd_milters = inet:127.0.0.1:7357, inet:127.0.0.1:8891
milter_mail_macros = i {mail_addr} {client_addr} {client_name} {auth_authen}
mydestination = localhost.localdomain, localhost
smtp_address_preference = any
smtp_header_checks = pcre:/etc/postfix/anonymize_headers.pcre
mail_name = Postcow
transport_maps = hash:/etc/postfix/transport_maps
postscreen_discard_ehlo_keywords = chunking, silent-discard, smtputf8, dsn
smtpd_discard_ehlo_keywords = chunking, silent-discard, smtputf8
compatibility_level = 3.7
parent_domain_matches_subdomains = debug_peer_list,fast_flush_domains,mynetworks,qmqpd_authorized_clients
END
postmap hash:transport_maps
table() { # FILE FILTER ATTRIBUTE
    cat >"$1" <<END
version = 3
server_host = ldap://172.16.11.63:389/
bind = yes
bind_dn = cn=correoapp,ou=mailapps,dc=domain01,dc=dom
$bind
search_base = dc=domain01,dc=dom
query_filter = $2
result_attribute = $3
END
    chgrp postfix "$1" && chmod 0640 "$1"
}
table relay_recipients.cf '(mail=%s)' mail
table sender_acl.cf '(mail=%s)' sAMAccountName
table aliases.cf '(&(mail=%s)(cn=an-alias))' mail
table canonical.cf '(&(mail=%s)(cn=a-canonical-name))' mail
cat >anonymize_headers.pcre <<'END'
if /^\s*Received:.*Authenticated sender.*\(Postcow\)/
/^Received: from .*? \([\w\-.]* \[.*?\]\)(.*|\n.*)\(Authenticated sender: (.+)\)\s+by.+\(Postcow\) with (.*)/
  REPLACE Received: from [127.0.0.1] (localhost [127.0.0.1]) by localhost (Mailerdaemon) with $3
endif
/^\s*X-Enigmail/        IGNORE
/^\s*X-Originating-IP/  IGNORE
/^\s*X-Forward/         IGNORE
END
postconf -MX 465/inet
postconf -M 'smtp/inet=smtp inet n - n - 1 postscreen' 'smtpd/pass=smtpd pass - - n - - smtpd' \
    'tlsproxy/unix=tlsproxy unix - - n - 0 tlsproxy' 'dnsblog/unix=dnsblog unix - - n - 0 dnsblog' \
    'smtp_sender_cleanup/unix=smtp_sender_cleanup unix n - n - 0 cleanup' \
    'submission/inet=submission inet n - n - - smtpd'
postconf -P 'smtp_sender_cleanup/unix/header_checks=$smtp_header_checks' smtpd/pass/smtpd_sasl_auth_enable=no \
    smtpd/pass/smtpd_sender_restrictions=permit_mynetworks,reject_unlisted_sender,reject_unknown_sender_domain \
    submission/inet/smtpd_client_restrictions=permit_mynetworks,permit_sasl_authenticated,reject \
    submission/inet/smtpd_tls_security_level=encrypt 'submission/inet/smtpd_tls_mandatory_protocols=>=TLSv1.2' \
    submission/inet/tls_preempt_cipherlist=yes submission/inet/cleanup_service_name=smtp_sender_cleanup \
    submission/inet/syslog_name=postfix/submission
