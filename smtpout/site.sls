{#- All daemons of the site change as one, in this one state; each room has a state that says what became of its own. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.packages
  - smtpout.selinux
  - smtpout.haproxy
  - smtpout.saslauthd
  - smtpout.clamav
  - smtpout.opendkim
  - smtpout.limits
  - smtpout.postfix
  - smtpout.watch

{%- if settings.valid %}

The site changes as one:
  smtpout_site.changed:
    - require:
      - smtpout_site: No change of the mail system is half done
      - smtpout: The mail system's packages are installed and held back until configured
      - smtpout: Salt's Python has what the formula needs
{%- endif %}
