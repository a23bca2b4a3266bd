{#- A policy service counts what each login sends, where the site limits it. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.site

{%- if settings.valid and settings.limits.enabled %}

What logins send is counted:
  smtpout_site.runs:
    - daemon: limits
    - require:
      - smtpout_site: The site changes as one
{%- endif %}
