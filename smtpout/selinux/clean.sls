{#- Takes back what smtpout.selinux has told SELinux, once no daemon needs it. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.gone

{%- if settings.valid and settings.selinux.active %}

SELinux's policy is as it was before:
  selinux_policy.forgotten:
    - require:
      - smtpout_site: The mail system is as it was before smtpout
{%- endif %}
