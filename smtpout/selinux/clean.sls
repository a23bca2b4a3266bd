{#- Takes back what smtpout.selinux has told SELinux, once no daemon needs it. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.opendkim.clean
  - smtpout.clamav.clean

{%- if settings.valid and settings.selinux.active %}

SELinux's policy is as it was before:
  selinux_policy.forgotten:
    - require:
      - config_set: OpenDKIM has its original configuration again
      - config_set: clamd has its original configuration again
{%- endif %}
