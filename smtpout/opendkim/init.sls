{#- The signer: keys, how far each is, and the tables that say which key signs what. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.packages
  - smtpout.site

{%- if settings.valid and settings.opendkim.enabled %}
{%- set opendkim = settings.opendkim %}

Every domain has its signing key:
  opendkim.keys_present:
    - bits: {{ opendkim.bits }}
    - user: {{ opendkim.user }}
    - group: {{ opendkim.group }}
    - require:
      - smtpout: The mail system's packages are installed and held back until configured
    - require_in:
      - smtpout_site: The site changes as one

Which keys receivers find is known:
  opendkim.stages_planned:
    - require:
      - opendkim: Every domain has its signing key
      - smtpout: Salt's Python has what the formula needs
    - require_in:
      - smtpout_site: The site changes as one

OpenDKIM signs what the site sends:
  smtpout_site.runs:
    - daemon: opendkim
    - require:
      - smtpout_site: The site changes as one

Each domain signs with a key that receivers find:
  opendkim.stages_moved:
    - require:
      - opendkim: Which keys receivers find is known
      - smtpout_site: The site changes as one
{%- endif %}
