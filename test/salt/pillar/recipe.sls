# The recipe to the letter: every deliberate difference taken back (README lists each with its reason).
# Not advice. It shows that the formula can be everything that the recipe is; use pillar.example instead.
smtpout:
  organisation: MYCOMPANY
  hostname: vm-172-16-11-95.cloud0.hc.mycompany.dom
  domains: [domain01.dom, domain02.dom]
  networks: [172.16.10.0/24, 172.16.11.0/24]

  directory:
    servers: ['ldap://172.16.11.63:389/']
    base: dc=domain01,dc=dom
    bind_dn: cn=correoapp,ou=mailapps,dc=domain01,dc=dom
    bind_password: Pass2016Mail
    timeout: 60
    login: sAMAccountName=%U                # lets usuario01@any.domain in as usuario01
    recipients: (|(&(mail=%s)(mail=*@domain01.dom))(&(mail=%s)(mail=*@domain02.dom)))
    senders: any                            # any user sends as anyone, signed

  delivery:
    nexthop: smtp:[172.16.11.96]:25

  authentication:
    clear_text_on_25: true
    submission: false

  postfix:
    map_type: hash
    main:
      mynetworks: 127.0.0.0/8, 172.16.10.0/24, 172.16.11.0/24    # a program that comes from ::1 is refused
      relay_domains: domain01.dom           # unknown users of domain02.dom are not refused
      relay_recipient_maps: ldap:/etc/postfix/people-mycompany.ldap
      compatibility_level: null
      parent_domain_matches_subdomains: null
      smtpd_sender_restrictions: null       # strangers send as the site's own users
      smtpd_client_auth_rate_limit: null
      smtpd_etrn_restrictions: null
      smtpd_recipient_restrictions: null    # no account can be blocked at once
      smtpd_end_of_data_restrictions: null
      smtpd_restriction_classes: null
      blocked_accounts: null
      smtpd_hard_error_limit: 20            # a list server with twenty dead members reaches nobody
      smtpd_discard_ehlo_keyword_address_maps: null  # strangers have reports of success sent to whomever they name
      local_header_rewrite_clients: null    # mail without Date: or Message-ID: leaves without
      virtual_alias_maps: null              # postmaster of each domain is unknown
      local_recipient_maps: null            # strangers fill mailboxes of system accounts
      enable_long_queue_ids: null
      smtp_line_length_limit: null          # signatures of long lines and of 8-bit text break
      lmtp_line_length_limit: null
      disable_mime_output_conversion: null
      smtputf8_enable: null
      disable_vrfy_command: null
      smtpd_forbid_bare_newline: null
      smtpd_forbid_bare_newline_exclusions: null
      smtpd_forbid_unauth_pipelining: null
      smtpd_data_restrictions: null         # what stands there where Postfix is too old for these
      smtpd_discard_ehlo_keywords: null
      smtpd_tls_security_level: null
      smtpd_tls_chain_files: null
      smtpd_tls_auth_only: null
      smtpd_tls_exclude_ciphers: null
      smtpd_tls_loglevel: null
      smtp_tls_security_level: null
      smtp_tls_CAfile: null
      non_smtpd_milters: null               # bounces and local mail leave unsigned
      internal_mail_filter_classes: null
      milter_header_checks: null            # encrypted mail is called clean

  clamav:
    socket: inet:7357@127.0.0.1
    clamd_socket: tcp:127.0.0.1:3310
    on_fail: Accept                         # scanner down: mail passes unscanned
    clamd: {TemporaryDirectory: /var/tmp}   # AppArmor keeps Debian's clamd from using it
    milter: {TemporaryDirectory: /var/tmp}

  apparmor:
    checked: false

  privacy:
    hide_login: false                       # receivers learn what the account is called

  opendkim:
    bits: 4096
    restrict: true
    on_fail: accept
    socket: inet:8891@localhost
    trusted_hosts: [172.16.11.95]
    domains:
      domain01.dom: {key_file: /etc/opendkim/keys/domain01.dom.private}
      domain02.dom: {key_file: /etc/opendkim/keys/domain02.dom.private}
    options:
      PidFile: /var/run/opendkim/opendkim.pid
      Umask: '002'
      OversignHeaders: null

  promises:                                 # what it does not keep its word on
    strangers_reach_the_postmaster: false   # of each domain
    strangers_do_not_send_as_the_site: false
    programs_send: false                    # over ::1
    viruses_are_stopped: false              # by sendmail(1): such mail passes no filter
    mail_is_signed: false                   # likewise

  verify:
    user: usuario01
    password: P@ssw0rd
