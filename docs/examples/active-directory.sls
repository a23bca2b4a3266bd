# A company with Active Directory: copy, put your own facts in, try with bin/apply site.sls --test, apply. What isn't
# said here is as docs/pillar.md has it. bin/test applies this file in the lab and tries each wish
# (test/lab/test_company.py).
smtpout:
  organisation: EXAMPLE COMPANY
  hostname: relay1.domain01.dom
  domains: [domain01.dom, domain02.dom, domain03.dom]

  # Who sends without a login: webmail and other servers, with any address, and printers, with one and to users only.
  networks: [172.16.11.48/28]
  clients:
    - networks: [172.16.11.192/27]
      senders: [scanner@domain01.dom]

  # Two domain controllers, of which either is enough, by LDAPS, whose certificates are of the company's own authority.
  directory:
    servers: ['ldaps://dc1.domain01.dom/', 'ldaps://dc2.domain01.dom/']
    ca_file: /usr/local/share/ca-certificates/company.crt
    base: dc=domain01,dc=dom
    bind_dn: cn=correoapp,ou=mailapps,dc=domain01,dc=dom
    bind_password: Pass2016Mail
    timeout: 5
    login: [account_name, upn, mail]              # jdoe, jdoe@domain01.dom or john.doe@domain02.dom, as they like
    members_of: cn=mail users,cn=users,dc=domain01,dc=dom
    recipients: proxy_addresses                   # every address of an account, in any of the three domains
    disabled_accounts: mailboxes                  # shared mailboxes get mail, those who left don't
    delegates: group_members                      # a team's members write as the team
    senders: own_header                           # what receivers see as the author is the address that was sent with

  # Programs that take no answers, and mailboxes that several look after.
  shared_addresses:
    no-reply@domain01.dom: [erp]
  aliases:
    sales@domain03.dom: [usuario01@domain01.dom, usuario02@domain02.dom]
  administrators: [usuario01@domain01.dom]

  # What a login sends in an hour and a day, so that a stolen password is no spammer's for long; the ERP has 20,000
  # invoices a night. Who is caught is blocked with smtpout_account.block, or here for good.
  limits:
    messages: {hour: 100, day: 500}
    recipients: {hour: 500, day: 2000}
    exceptions:
      erp: {messages: {day: 30000}}
  blocked:
    senders: ['@spammer.example']

  delivery:
    nexthop: smtp:[172.16.11.96]:25

  # A partner never without a certificate for its name; one office takes mail from its own smart host only.
  routes:
    partner.example:
      nexthop: smtp:[mx.partner.example]:587
      tls: verified
    office.example:
      nexthop: smtp:[smarthost.provider.example]:587
      user: mycompany
      password: the provider's word

  # What is infected, or can't be looked into, waits for somebody to look at (docs/operations.md).
  clamav:
    on_infected: Quarantine
    on_unscannable: Quarantine

  # 20,000 invoices a night may wait a while.
  warnings:
    queue: 25000
    held: 20

  verify:                                         # an account that may do nothing else
    user: usuario01
    password: P@ssw0rd
