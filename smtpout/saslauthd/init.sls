{#- saslauthd checks users' passwords in the directory; Postfix asks it over a socket. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.site

{%- if settings.valid %}

saslauthd checks passwords in the directory:
  smtpout_site.runs:
    - daemon: saslauthd
    - require:
      - smtpout_site: The site changes as one
{%- endif %}
