#!/bin/bash
# boot.sh directory|delivery|outside: starts what the role serves; returns once it serves, or fails with a sentence.
set -euo pipefail
cd /usr/local/lib/lab
limit=30

fail() {
    echo "boot.sh $role: $1" >&2
    exit 1
}

start() { # UNIT...
    # A host that is rebooted from within serves again without being asked to.
    systemctl --quiet --no-reload add-wants multi-user.target "$@"
    timeout "$limit" systemctl start "$@" || fail "$* did not start; systemctl status $* says why"
}

until_true() { # WHAT COMMAND...
    local what=$1
    shift
    until "$@" &>/dev/null; do
        ((SECONDS < limit)) || fail "$what does not answer after $limit s"
        sleep 0.05
    done
}

start_postfix() { # ROLE
    # After a reboot it runs with what was made of the file meanwhile.
    if ! systemctl --quiet is-active postfix@-; then
        cat mail/common.cf "mail/$1.cf" >/etc/postfix/main.cf
        # Postfix waits until a file just written has been left alone for a second or two.
        touch --date="1 minute ago" /etc/postfix/main.cf
    fi
    start postfix@-
}

search() { # URI
    LDAPTLS_CACERT=directory-ca.pem ldapsearch -LLL -x -o nettimeout=2 -H "$1" -b dc=domain01,dc=dom \
        -D cn=correoapp,ou=mailapps,dc=domain01,dc=dom -y <(printf %s Pass2016Mail) sAMAccountName=usuario01 mail |
        grep "^mail: usuario01@"
}

role=${1-}
case $role in
directory)
    start samba-ad-dc
    until_true "LDAP on 172.16.11.63:389" search ldap://172.16.11.63
    until_true "LDAPS on 172.16.11.63:636" search ldaps://172.16.11.63
    ;;
delivery)
    start_postfix delivery
    until_true "SMTP on 172.16.11.96:25" ./accepts 172.16.11.96 boot@domain02.dom
    ;;
outside)
    start named opendkim
    until_true "DNS on 198.51.100.53:53" dig +time=1 +tries=1 @198.51.100.53 outside.example MX
    start_postfix outside
    until_true "SMTP on 198.51.100.10:25" ./accepts 198.51.100.10 boot@outside.example
    ;;
*)
    fail "unknown role; known are directory, delivery and outside"
    ;;
esac
