# SPDX-License-Identifier: GPL-3.0-or-later
# What a domain that nobody ordered does: it says on its console what of other guests it reaches, again and again.
# shellcheck shell=sh disable=SC2154  # b, host and address are of molecule/shared/plain_guest.sh

try() { # NAME SOURCE TARGET PORT
    address "$2"
    if $b nc -w 3 "$3" "$4" < /dev/null > /dev/null 2>&1; then answer=open; else answer=shut; fi
    echo "intruder: $1 $answer"
}

while :; do
    try job @OWN@ @NODE@ 3632
    try job-as-another @OTHER@ @NODE@ 3632
    try authority @OWN@ @NODE@ 4460
    try host @OWN@ "$host%eth0" 4461
    echo "intruder: round over"
done
