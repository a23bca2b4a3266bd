{#- Removes what was counted, once nothing counts. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.gone

{%- if settings.valid %}

What logins have sent is forgotten:
  file.absent:
    - names: [/var/lib/private/smtpout-policy, /var/lib/smtpout-policy]
    - require:
      - smtpout_site: The mail system is as it was before smtpout
{%- endif %}
