{#- Postfix: takes mail from users and the site's servers, routes it. It comes last, when what it refers to answers. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.packages
  - smtpout.site

{%- if settings.valid %}
{%- set postfix = settings.postfix %}

No other mail server stands in the way:
  smtpout.packages_removed:
    - packages: {{ postfix.conflicting | json }}
    - require:
      - smtpout: The mail system's packages are installed and held back until configured
    - require_in:
      - smtpout_site: The site changes as one

Local aliases are a map that Postfix can read:
  smtpout_site.runs:
    - daemon: aliases
    - require:
      - smtpout_site: The site changes as one

Postfix runs the site's configuration:
  smtpout_site.runs:
    - daemon: postfix
    - require:
      - smtpout_site: The site changes as one
{%- endif %}
