{#- A host becomes the outgoing SMTP layer. Each daemon is a room of its own; they say themselves what they need. -#}
include:
  - smtpout.packages
  - smtpout.directory
  - smtpout.site
  - smtpout.selinux
  - smtpout.haproxy
  - smtpout.saslauthd
  - smtpout.clamav
  - smtpout.opendkim
  - smtpout.limits
  - smtpout.postfix
  - smtpout.firewall
  - smtpout.watch
  - smtpout.verify
