{#- A timer asks the relay between applies what smtpout.verify asks, without Salt. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.site

{%- if settings.valid and settings.watch.enabled %}

The relay is looked at between applies:
  smtpout_site.runs:
    - daemon: watch
    - require:
      - smtpout_site: The site changes as one
{%- endif %}
