{#- What a wrong pillar leaves: a state that says everything that is wrong, and one that undoes a run that was cut short. -#}
{%- from "smtpout/map.jinja" import by_ssh, other_code, settings with context %}

{%- if other_code %}
{%- set found = "other code of smtpout than is served (" ~ other_code[0] ~ "; " ~ other_code | length ~ " in all): " %}
{%- if by_ssh %}
{%- set said = "The master's own Salt has " ~ found ~ "have module_dirs and smtpout.pth name the formula that is served, "
    "and apply again (README.md)." %}
{%- else %}
{%- set said = "This host has " ~ found ~ "run salt-call saltutil.sync_all (on a master, salt MINION saltutil.sync_all) "
    "once, or have module_dirs name the formula that is served, and apply again." %}
{%- endif %}

The code is the one that is served:
  test.fail_without_changes:
    - name: {{ said | tojson }}    # in test mode the comment is another
    - comment: {{ said | tojson }}

{%- else %}
{%- if by_ssh %}

The host has the code that is served:
  smtpout_code.current:
    - formula: salt://smtpout
    - environment: {{ saltenv }}
    - require_in:
      - smtpout_site: No change of the mail system is half done
      - smtpout: The site's pillar is right
{%- endif %}

No change of the mail system is half done:
  smtpout_site.recovered

The site's pillar is right:
  smtpout.valid:
    - formula: salt://smtpout    # salt-ssh takes along what a state names, and schema.yaml is read on the host, too
    - environment: {{ saltenv }}
{%- endif %}
