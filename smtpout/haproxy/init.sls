{#- HAProxy stands between the relay's daemons and the directory's servers, where there are several. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.site

{%- if settings.valid and settings.haproxy.enabled %}

The directory is reached by any server that answers:
  smtpout_site.runs:
    - daemon: haproxy
    - require:
      - smtpout_site: The site changes as one
{%- endif %}
