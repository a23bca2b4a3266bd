{#- Asks the running relay whether it does what the site says. Changes nothing. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.directory
  - smtpout.postfix

{%- if settings.valid %}

{%- if settings.verify.user is defined %}

A user can log in, and a wrong password is refused:
  saslauthd.verified:
    - user: {{ settings.verify.user | json }}
    - socket: {{ settings.saslauthd.asked_at }}
    - require:
      - smtpout_site: saslauthd checks passwords in the directory
      - smtpout: Salt's Python has what the formula needs
{%- endif %}

The relay does what the site says:
  smtpout.verified:
    - require:
      - smtpout_site: Postfix runs the site's configuration
{%- endif %}
