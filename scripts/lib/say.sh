# How the scripts talk: plain lines, colours only for a person.
# shellcheck shell=bash

if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' dim='' red='' green='' plain=''
fi

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }
aside() { printf '  %s%s%s\n' "$dim" "$*" "$plain"; }
good() { printf '  %sok%s    %s\n' "$green" "$plain" "$*"; }
bad() { printf '  %sFAIL%s  %s\n' "$red" "$plain" "$*"; }
error() { printf 'error: %s\n' "$*" >&2; }
