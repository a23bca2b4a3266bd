{#- The host's firewall, where one is active, lets in what Postfix serves. None is switched on. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.postfix

{%- if settings.valid and settings.firewall.managed %}

The firewall lets the relay's clients in:
  host_firewall.opened:
    - services: {{ settings.firewall.services | json }}
    - zones: {{ settings.firewall.zones | json }}
    - require:
      - config_set: Postfix runs the site's configuration
{%- endif %}
