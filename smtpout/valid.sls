{#- The one state that a wrong pillar leaves: it says everything that is wrong, and nothing else of smtpout runs. -#}
{%- from "smtpout/map.jinja" import settings with context %}

The site's pillar is right:
  smtpout.valid:
    - formula: salt://smtpout    # salt-ssh takes along what a state names, and schema.yaml is read on the host, too
