#!/bin/sh
# Makes the certificates of the tests anew, beside this script. They protect nothing: the keys are here.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ec() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }
# sign EXTENSIONS: `openssl ca`, with a database of its own; the rest of its arguments are given.
sign() {
    : > "$work/index"
    printf '%b' "$1" > "$work/ext"
    shift
    printf '[ca]\ndefault_ca=x\n[x]\ndatabase=%s\nnew_certs_dir=%s\ndefault_md=sha256\npolicy=p\nrand_serial=yes\n[p]\ncommonName=supplied\n' \
        "$work/index" "$work" > "$work/cnf"
    openssl ca -batch -notext -config "$work/cnf" -extfile "$work/ext" "$@"
}
# authority NAME. Simulated clocks begin at 2026-01-01.
authority() {
    ec "$work/$1.key"
    openssl req -new -key "$work/$1.key" -subj "/CN=$1" -out "$work/$1.csr"
    sign 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n' -selfsign \
        -keyfile "$work/$1.key" -startdate 250101000000Z -enddate 21250101000000Z \
        -in "$work/$1.csr" -out "$1.pem"
}
# node FILE AUTHORITY START END SAN USAGE
node() {
    ec "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$work/$1.csr"
    sign "subjectAltName=$5\nextendedKeyUsage=$6\nkeyUsage=critical,digitalSignature\n" \
        -cert "$2.pem" -keyfile "$work/$2.key" -startdate "$3" -enddate "$4" \
        -in "$work/$1.csr" -out "$1.pem"
}
all="DNS:localhost,DNS:n1,IP:127.0.0.1,IP:10.0.0.1,IP:10.0.0.2,IP:10.0.0.3,IP:10.0.0.11,IP:10.0.0.12"
both=serverAuth,clientAuth
authority ca
authority other-ca
node node ca 250101000000Z 21250101000000Z "$all" $both
node rotated ca 250101000000Z 21250101000000Z "$all" $both
node brief ca 250101000000Z 20260101010000Z "$all" $both
node expired ca 250101000000Z 251231000000Z "$all" $both
node elsewhere ca 250101000000Z 21250101000000Z "IP:10.9.9.9" $both
node client ca 250101000000Z 21250101000000Z "$all" clientAuth
node stranger other-ca 250101000000Z 21250101000000Z "$all" $both
