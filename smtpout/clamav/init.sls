{#- The virus scanner: freshclam brings signatures, clamd scans, clamav-milter stands between Postfix and clamd. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.site

{%- if settings.valid and settings.clamav.enabled %}

freshclam keeps the signatures current:
  smtpout_site.runs:
    - daemon: freshclam
    - require:
      - smtpout_site: The site changes as one

clamd scans for viruses:
  smtpout_site.runs:
    - daemon: clamd
    - require:
      - smtpout_site: The site changes as one

clamav-milter hands mail to clamd:
  smtpout_site.runs:
    - daemon: clamav-milter
    - require:
      - smtpout_site: The site changes as one
{%- endif %}
