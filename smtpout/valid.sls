{#- The one state that a wrong pillar leaves: it says everything that is wrong, and nothing else of smtpout runs. -#}
{%- from "smtpout/map.jinja" import settings with context %}

The site's pillar is right:
  smtpout.valid
