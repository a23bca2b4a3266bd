{#- Everything that is installed, in one transaction; nothing of it starts before its configuration is in place. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.valid

{%- if settings.valid %}

No mail waits where Postfix won't find it:
  smtpout.nothing_left_behind:
    - require:
      - smtpout: The site's pillar is right

The mail system's packages are installed and held back until configured:
  smtpout.packages_installed:
    - packages: {{ settings.packages | json }}
    - hold: {{ settings.hold }}
    - repositories: {{ settings.repositories | json }}
    - require:
      - smtpout: No mail waits where Postfix won't find it

Salt's Python has what the formula needs:
  smtpout.python_packages_present:
    - requirements: salt://smtpout/requirements.txt
    - require:
      - smtpout: No mail waits where Postfix won't find it
{%- endif %}
