//! The `openssl` command does its everyday work with ML-DSA and composite keys on every version.
//!
//! [`ROWS`] is the table in `docs/openssl.md`. What a version cannot do stands there with the reason, and is tried too: it
//! must fail, and in the way that is told, so that neither a "yes" nor a "no" of the page can go stale.

use std::{
    collections::HashMap,
    fs,
    sync::{LazyLock, Mutex},
};

use anyhow::{Result, anyhow, bail, ensure};
use qtls_tests::{
    Native, OpensslConf, OpensslShell, Platform, WorkDir, full,
    platform::{
        DEBIAN_12, DEBIAN_13, DEBIAN_SID, OPENSSL_3_0_2, OPENSSL_3_4_1, OPENSSL_4_0, module, workspace,
    },
    report::Report,
};

/// What a signature's key is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    MlDsa,
    Composite,
}

const BOTH: &[Kind] = &[Kind::MlDsa, Kind::Composite];

/// The algorithms of both kinds; the first of each is always tried, all with `QTLS_TESTS=full`.
const ALGORITHMS: [(Kind, &[&str]); 2] = [
    (Kind::MlDsa, &["ML-DSA-65", "ML-DSA-44", "ML-DSA-87"]),
    (
        Kind::Composite,
        &[
            "id-MLDSA65-ECDSA-P256-SHA512",
            "id-MLDSA44-ECDSA-P256-SHA256",
            "id-MLDSA65-ECDSA-P384-SHA512",
            "id-MLDSA65-Ed25519-SHA512",
            "id-MLDSA87-ECDSA-P384-SHA512",
        ],
    ),
];

/// The page's columns.
const VERSIONS: [(u32, u32); 5] = [(3, 0), (3, 4), (3, 5), (3, 6), (4, 0)];

/// A line of the page's table.
struct Row {
    /// What the page calls it.
    command: &'static str,
    /// Runs in a directory with what [`PREPARATION`] made, after the scripts of the rows before.
    script: &'static str,
    exceptions: &'static [Exception],
}

/// Where a row fails.
struct Exception {
    versions: &'static [(u32, u32)],
    kinds: &'static [Kind],
    /// One of these stands in what it writes; an empty one is for a command that fails without a word.
    says: &'static [&'static str],
    /// The page's reason.
    why: &'static str,
}

/// `$ALG`'s authority, and an ECDSA key with its request.
const PREPARATION: &str = r#"
openssl genpkey -algorithm "$ALG" -out ca.key
openssl req -x509 -new -key ca.key -subj /CN=authority -days 60 -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature -out ca.crt
openssl pkey -in ca.key -pubout -out ca.pub
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.key
openssl req -new -key ec.key -subj /CN=leaf -out ec.csr
cat >extensions.cnf <<END
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
END
cat >ca.cnf <<END
[ca]
default_ca = authority
[authority]
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = ca.crt
private_key = ca.key
default_md = default
default_days = 30
default_crl_days = 7
policy = policy
[policy]
commonName = supplied
END
: >index.txt
echo 01 >serial
echo 01 >crlnumber
echo 'a message' >message
"#;

/// `refused` is for a command that must fail; `spoil FROM TO` changes a bit of the signature at the end of a DER file.
const HELPERS: &str = r#"
refused() { if "$@"; then echo "was not refused: $*" >&2; exit 1; fi; }
spoil() {
    at=$(($(wc -c <"$1") - 200))
    byte=$(dd if="$1" bs=1 skip=$at count=1 2>/dev/null | od -An -tu1)
    cp "$1" "$2"
    printf "\\$(printf %o $((byte ^ 1)))" | dd of="$2" bs=1 seek=$at conv=notrunc 2>/dev/null
}
"#;

const UNNAMED_SECTION: &str = "Version 4.0 takes the extensions from the section that `extensions` in openssl.cnf names, and \
     from the unnamed one when there is no such line. Give `-extfile`, or use a file that has the line: OpenSSL's own and \
     Debian's do, and `with-system.cnf` with it";
const CMS_OF_3_0: &str = "OpenSSL 3.0 puts no signature algorithm into a message when the key is a provider's: Debian 12's \
     fails, 3.0.2 writes a file that nobody can read. Sign with a newer version";
const MD_NEEDED: &str = "OpenSSL presets no digest for the content with these keys: give `-md sha512`";
const NO_ATTRIBUTES: &str = "Without signed attributes OpenSSL before 4.0 hands over a hash in place of the message, which \
     neither RFC 9882 nor any other implementation expects: leave `-noattr` out";
const NO_PKCS7: &str = "PKCS#7 knows RSA, DSA and ECDSA keys only: use `cms`";
const HASHED: &str = "These keys sign the message itself, not a hash of it: leave the digest out";

const ROWS: &[Row] = &[
    Row {
        command: "`genpkey`",
        script: r#"
            openssl genpkey -algorithm "$ALG" -out new.key
            openssl pkey -in new.key -check -noout
            openssl pkey -in ca.pub -pubin -pubcheck -noout
            openssl pkey -in new.key -pubout -out new.pub
            refused cmp new.pub ca.pub"#,
        exceptions: &[],
    },
    Row {
        command: "`genpkey -pkeyopt hexseed:…`",
        script: r#"
            seed=$(openssl pkey -in ca.key -noout -text | sed -n '/^seed:\|^priv:/,/^p.*:/p' | grep '^ ' | tr -d ' :\n')
            openssl genpkey -algorithm "$ALG" -pkeyopt "hexseed:$seed" -out seeded.key
            openssl pkey -in seeded.key -pubout | cmp - ca.pub
            refused openssl genpkey -algorithm "$ALG" -pkeyopt "hexseed:00$seed" -out long.key"#,
        exceptions: &[],
    },
    Row {
        command: "`pkey`: `-text`, `-pubout`, PEM and DER",
        script: r#"
            openssl pkey -in ca.key -noout -text | grep -qx "$ALG Private-Key:"
            openssl pkey -pubin -in ca.pub -noout -text | grep -qx "$ALG Public-Key:"
            openssl pkey -in ca.key -outform DER -out ca.der
            openssl pkey -inform DER -in ca.der | cmp - ca.key
            openssl pkey -pubin -in ca.pub -outform DER -out pub.der
            openssl pkey -pubin -inform DER -in pub.der | cmp - ca.pub
            openssl storeutl -noout -keys ca.key | grep -qx 'Total found: 1'"#,
        exceptions: &[],
    },
    Row {
        command: "`pkey -aes256`, `pkcs8 -topk8`",
        script: r#"
            openssl pkey -in ca.key -aes256 -passout pass:secret -out encrypted.key
            grep -q 'BEGIN ENCRYPTED PRIVATE KEY' encrypted.key
            openssl pkey -in encrypted.key -passin pass:secret | cmp - ca.key
            refused openssl pkey -in encrypted.key -passin pass:other -noout
            openssl pkcs8 -topk8 -in ca.key -passout pass:secret -out pkcs8.key
            openssl pkcs8 -in pkcs8.key -passin pass:secret | cmp - ca.key
            openssl pkcs8 -topk8 -scrypt -in ca.key -outform DER -passout pass:secret -out pkcs8.der
            openssl pkcs8 -in pkcs8.der -inform DER -passin pass:secret | cmp - ca.key"#,
        exceptions: &[],
    },
    Row {
        command: "`req -x509`, `-newkey`",
        script: r#"
            openssl req -x509 -newkey "$ALG" -nodes -keyout self.key -subj /CN=self -out self.crt
            openssl verify -check_ss_sig -CAfile self.crt self.crt
            openssl verify -check_ss_sig -auth_level 2 -CAfile ca.crt ca.crt"#,
        exceptions: &[],
    },
    Row {
        command: "`req -new`, `-verify`",
        script: r#"
            openssl req -new -key ca.key -subj /CN=request -outform DER -out ca.csr
            openssl req -inform DER -in ca.csr -verify -noout
            openssl req -inform DER -in ca.csr -noout -text >csr.txt
            grep -q "Public Key Algorithm: $ALG" csr.txt
            grep -q "Signature Algorithm: $ALG" csr.txt
            spoil ca.csr spoiled.csr
            openssl req -inform DER -in spoiled.csr -verify -noout >verify.txt 2>&1 || :
            refused grep OK verify.txt"#,
        exceptions: &[],
    },
    Row {
        command: "`x509 -req`: ECDSA leaf, and leaf under ECDSA",
        script: r#"
            openssl x509 -req -in ec.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
                -extfile extensions.cnf -extensions leaf -out ec.crt
            openssl verify -auth_level 2 -CAfile ca.crt ec.crt
            openssl x509 -in ec.crt -noout -text | grep -q "Signature Algorithm: $ALG"
            openssl req -x509 -new -key ec.key -subj /CN=classical -addext basicConstraints=critical,CA:TRUE -out ecca.crt
            openssl x509 -req -inform DER -in ca.csr -CA ecca.crt -CAkey ec.key -CAcreateserial -days 30 \
                -extfile extensions.cnf -extensions leaf -out under.crt
            openssl verify -CAfile ecca.crt under.crt
            openssl x509 -in under.crt -noout -text | grep -q "Public Key Algorithm: $ALG""#,
        exceptions: &[],
    },
    Row {
        command: "`x509 -req` without `-extfile`, and an openssl.cnf without `extensions`",
        script: "openssl x509 -req -in ec.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out plain.crt",
        exceptions: &[Exception {
            versions: &[(4, 0)],
            kinds: BOTH,
            says: &["Error checking extension section"],
            why: UNNAMED_SECTION,
        }],
    },
    Row {
        command: "`verify`: chain of three, `-auth_level 2`",
        script: r#"
            openssl genpkey -algorithm "$ALG" -out middle.key
            openssl req -new -key middle.key -subj /CN=middle -out middle.csr
            openssl x509 -req -in middle.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
                -extfile extensions.cnf -extensions authority -out middle.crt
            openssl x509 -req -in ec.csr -CA middle.crt -CAkey middle.key -CAcreateserial -days 30 \
                -extfile extensions.cnf -extensions leaf -out end.crt
            openssl verify -auth_level 2 -CAfile ca.crt -untrusted middle.crt end.crt
            openssl x509 -in end.crt -outform DER -out end.der
            spoil end.der spoiled.der
            openssl x509 -inform DER -in spoiled.der -out spoiled.crt
            refused openssl verify -CAfile ca.crt -untrusted middle.crt spoiled.crt >verify.txt 2>&1
            grep -q 'error 7 at 0 depth lookup: certificate signature failure' verify.txt"#,
        exceptions: &[],
    },
    Row {
        command: "`ca`: issue, `-revoke`, `-gencrl` (`default_md = default`)",
        script: r#"
            for name in revoked good; do
                openssl ca -batch -notext -config ca.cnf -in ec.csr -subj "/CN=$name" -extfile extensions.cnf \
                    -extensions leaf -out $name.crt
                openssl verify -CAfile ca.crt $name.crt
            done
            openssl ca -config ca.cnf -revoke revoked.crt
            openssl ca -config ca.cnf -gencrl -out crl.pem
            openssl crl -in crl.pem -noout -text | grep -q "Signature Algorithm: $ALG""#,
        exceptions: &[],
    },
    Row {
        command: "`crl -CAfile`, `verify -crl_check`",
        script: r#"
            openssl crl -in crl.pem -CAfile ca.crt -noout 2>&1 | grep 'verify OK'
            openssl crl -in crl.pem -CAfile self.crt -noout >verify.txt 2>&1 || :
            refused grep 'verify OK' verify.txt
            openssl verify -crl_check -CRLfile crl.pem -CAfile ca.crt good.crt
            refused openssl verify -crl_check -CRLfile crl.pem -CAfile ca.crt revoked.crt"#,
        exceptions: &[],
    },
    Row {
        command: "`ocsp`: signed request, responder, client",
        script: r#"
            openssl ocsp -issuer ca.crt -cert revoked.crt -cert good.crt -signer ca.crt -signkey ca.key -no_nonce \
                -reqout ocsp.request
            openssl ocsp -index index.txt -CA ca.crt -rsigner ca.crt -rkey ca.key -ndays 1 -reqin ocsp.request \
                -respout ocsp.response
            openssl ocsp -respin ocsp.response -no_nonce -issuer ca.crt -cert revoked.crt -cert good.crt -CAfile ca.crt \
                >ocsp.txt 2>&1
            grep 'Response verify OK' ocsp.txt
            grep 'revoked.crt: revoked' ocsp.txt
            grep 'good.crt: good' ocsp.txt
            openssl ocsp -respin ocsp.response -text -noverify -no_nonce | grep -q "Signature Algorithm: $ALG"
            openssl ocsp -index index.txt -CA ca.crt -rsigner ca.crt -rkey ca.key -ndays 1 -reqin ocsp.request -resp_no_certs \
                -respout bare.response
            spoil bare.response spoiled.response
            for response in bare spoiled; do
                openssl ocsp -respin $response.response -no_nonce -issuer ca.crt -cert good.crt -verify_other ca.crt \
                    -CAfile ca.crt >$response.txt 2>&1 || :
            done
            grep 'Response verify OK' bare.txt
            grep -i 'Response verify failure' spoiled.txt"#,
        exceptions: &[],
    },
    Row {
        command: "`pkcs12`: export and import",
        script: r#"
            openssl pkcs12 -export -in ca.crt -inkey ca.key -name authority -passout pass:secret -out ca.p12
            openssl pkcs12 -in ca.p12 -passin pass:secret -nodes -out p12.pem
            openssl pkey -in p12.pem | cmp - ca.key
            openssl x509 -in p12.pem | cmp - ca.crt
            refused openssl pkcs12 -in ca.p12 -passin pass:other -noout"#,
        exceptions: &[],
    },
    Row {
        command: "`cms -verify`",
        script: r#"
            openssl cms -verify -binary -in sent.cms -inform PEM -CAfile sender.crt -purpose any -out received
            cmp received message
            refused openssl cms -verify -binary -in sent.cms -inform PEM -CAfile ca.crt -purpose any -out received"#,
        exceptions: &[],
    },
    Row {
        command: "`cms -sign -md sha512`",
        script: r#"
            openssl cms -sign -binary -nodetach -md sha512 -in message -signer ca.crt -inkey ca.key -outform DER -out own.cms
            openssl cms -verify -binary -in own.cms -inform DER -CAfile ca.crt -purpose any -out received
            cmp received message
            openssl cms -cmsout -print -in own.cms -inform DER | grep -A1 'signatureAlgorithm' | grep "$ALG"
            spoil own.cms spoiled.cms
            refused openssl cms -verify -binary -in spoiled.cms -inform DER -CAfile ca.crt -purpose any -out received"#,
        exceptions: &[Exception {
            versions: &[(3, 0)],
            kinds: BOTH,
            says: &["illegal zero content", "Error reading SMIME Content Info"],
            why: CMS_OF_3_0,
        }],
    },
    Row {
        command: "`cms -sign` without `-md`",
        script: r#"
            openssl cms -sign -binary -nodetach -in message -signer ca.crt -inkey ca.key -outform DER -out default.cms
            openssl cms -verify -binary -in default.cms -inform DER -CAfile ca.crt -purpose any -out received
            cmp received message"#,
        exceptions: &[
            // 3.0.2 fails without a word.
            Exception { versions: &[(3, 0)], kinds: BOTH, says: &["no default digest", ""], why: CMS_OF_3_0 },
            Exception {
                versions: &[(3, 4), (3, 5), (3, 6)],
                kinds: BOTH,
                says: &["no default digest"],
                why: MD_NEEDED,
            },
            Exception {
                versions: &[(4, 0)],
                kinds: &[Kind::Composite],
                says: &["no default digest"],
                why: MD_NEEDED,
            },
        ],
    },
    Row {
        command: "`cms -sign -noattr`, detached",
        script: r#"
            openssl cms -sign -noattr -binary -md sha512 -in message -signer ca.crt -inkey ca.key -outform DER -out bare.cms
            openssl cms -verify -binary -in bare.cms -inform DER -content message -CAfile ca.crt -purpose any -out received"#,
        exceptions: &[Exception {
            versions: &[(3, 0), (3, 4), (3, 5), (3, 6)],
            kinds: BOTH,
            says: &[
                "the SHA2-512 hash of a message was to be signed or verified",
                "provider signature not supported",
                // 3.0.2, as with attributes.
                "Error reading SMIME Content Info",
            ],
            why: NO_ATTRIBUTES,
        }],
    },
    Row {
        command: "`smime -sign`",
        script: "openssl smime -sign -in message -signer ca.crt -inkey ca.key -out message.p7",
        exceptions: &[Exception {
            versions: &VERSIONS,
            kinds: BOTH,
            says: &["pkcs7 add signature error"],
            why: NO_PKCS7,
        }],
    },
    Row {
        command: "`dgst -sign`, `-verify`",
        script: r#"
            openssl dgst -sign ca.key -out dgst.sig message
            openssl dgst -verify ca.pub -signature dgst.sig message
            refused openssl dgst -verify ca.pub -signature dgst.sig ca.pub"#,
        exceptions: &[],
    },
    Row {
        command: "`dgst -sha256 -sign`",
        script: "openssl dgst -sha256 -sign ca.key -out dgst.sig message",
        exceptions: &[Exception {
            versions: &VERSIONS,
            kinds: BOTH,
            says: &[
                "the digest sha256 was asked for",
                "the digest SHA2-256 was asked for",
                "Explicit digest not supported for ML-DSA operations",
            ],
            why: HASHED,
        }],
    },
    Row {
        command: "`pkeyutl -rawin`, with `context-string` too",
        script: r#"
            openssl pkeyutl -sign -rawin -inkey ca.key -in message -out raw.sig
            openssl pkeyutl -verify -rawin -pubin -inkey ca.pub -in message -sigfile raw.sig
            openssl dgst -verify ca.pub -signature raw.sig message
            refused openssl pkeyutl -verify -rawin -pubin -inkey ca.pub -in ca.pub -sigfile raw.sig
            openssl pkeyutl -sign -rawin -inkey ca.key -in message -out context.sig -pkeyopt context-string:abc
            openssl pkeyutl -verify -rawin -pubin -inkey ca.pub -in message -sigfile context.sig \
                -pkeyopt hexcontext-string:616263
            refused openssl pkeyutl -verify -rawin -pubin -inkey ca.pub -in message -sigfile context.sig"#,
        exceptions: &[],
    },
];

macro_rules! versions {
    ($($test:ident: $($platform:expr),+;)*) => {
        $(#[test]
        fn $test() {
            every_row_is_as_the_page_says(&[$(&$platform),+]);
        })*
    };
}

versions! {
    on_openssl_3_0_every_command_does_what_the_page_says: DEBIAN_12, OPENSSL_3_0_2;
    on_openssl_3_4_every_command_does_what_the_page_says: OPENSSL_3_4_1;
    on_openssl_3_5_every_command_does_what_the_page_says: DEBIAN_13;
    on_openssl_3_6_every_command_does_what_the_page_says: DEBIAN_SID;
    on_openssl_4_0_every_command_does_what_the_page_says: OPENSSL_4_0;
}

fn every_row_is_as_the_page_says(platforms: &[&'static Platform]) {
    let mut report = Report::new();
    for platform in platforms {
        for native in platform.native_modes() {
            for (kind, algorithms) in ALGORITHMS {
                for algorithm in if full() { algorithms } else { &algorithms[..1] } {
                    let place = format!("{}, native = {native:?}, {algorithm}", platform.name);
                    match prepare(platform, *native, algorithm) {
                        Ok(shell) => {
                            for row in ROWS {
                                report
                                    .check(&format!("{place}: {}", row.command), try_row(row, kind, &shell));
                            }
                        }
                        error => report.check(&place, error.map(drop)),
                    }
                }
            }
        }
    }
    report.finish();
}

fn prepare(platform: &'static Platform, native: Native, algorithm: &str) -> Result<OpensslShell> {
    let shell = OpensslShell::new(platform, &OpensslConf::new().native(native))?.variable("ALG", algorithm);
    shell.succeed(PREPARATION)?;
    let message = signed_message(algorithm)?;
    shell.write("sent.cms", &message.cms)?;
    shell.write("sender.crt", &message.sender)?;
    Ok(shell)
}

fn try_row(row: &Row, kind: Kind, shell: &OpensslShell) -> Result<()> {
    let run = shell.run(&format!("{HELPERS}{}", row.script))?;
    let version = shell.platform.version;
    match row.exception(version, kind) {
        None => ensure!(run.status.success(), "{}\n{}", run.status, run.text()),
        Some(exception) => {
            ensure!(!run.status.success(), "it works now: the table has to follow\n{}", run.text());
            ensure!(
                exception.says.iter().any(|says| match *says {
                    "" => run.text().trim().is_empty(),
                    says => run.text().contains(says),
                }),
                "it fails otherwise than by one of {:?}:\n{}",
                exception.says,
                run.text()
            );
        }
    }
    Ok(())
}

impl Row {
    fn exception(&self, version: (u32, u32), kind: Kind) -> Option<&'static Exception> {
        self.exceptions
            .iter()
            .find(|exception| exception.versions.contains(&version) && exception.kinds.contains(&kind))
    }
}

/// A CMS message, and the certificate of who signed it.
#[derive(Clone)]
struct SignedMessage {
    cms: Vec<u8>,
    sender: Vec<u8>,
}

/// What an OpenSSL 3.5 signed: with its own ML-DSA, with our composites.
fn signed_message(algorithm: &str) -> Result<SignedMessage> {
    static MADE: LazyLock<Mutex<HashMap<String, SignedMessage>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().map_err(|_| anyhow!("a test panicked while it signed a message"))?;
    if let Some(message) = made.get(algorithm) {
        return Ok(message.clone());
    }
    let conf = OpensslConf { provider: !algorithm.starts_with("ML-DSA"), ..OpensslConf::new() };
    let shell = OpensslShell::new(&DEBIAN_13, &conf)?.variable("ALG", algorithm);
    shell.succeed(
        r#"openssl req -x509 -newkey "$ALG" -nodes -keyout sender.key -subj /CN=sender -out sender.crt
        echo 'a message' | openssl cms -sign -binary -nodetach -md sha512 -signer sender.crt -inkey sender.key \
            -outform PEM -out sent.cms"#,
    )?;
    let message = SignedMessage { cms: shell.read("sent.cms")?, sender: shell.read("sender.crt")? };
    made.insert(algorithm.to_owned(), message.clone());
    Ok(message)
}

#[test]
fn cms_below_openssl_3_5_takes_digests_that_are_as_strong_as_the_key() {
    const SIGN: &str = r#"
        openssl req -x509 -newkey "$ALG" -nodes -keyout sender.key -subj /CN=sender -out sender.crt
        for digest in sha256 sha384 sha512 sha3-256 sha3-384 sha3-512; do
            echo 'a message' | openssl cms -sign -binary -nodetach -md $digest -signer sender.crt -inkey sender.key \
                -outform PEM -out $digest.cms
        done"#;
    const DIGESTS: [(&str, u32); 6] = [
        ("sha256", 256),
        ("sha384", 384),
        ("sha512", 512),
        ("sha3-256", 256),
        ("sha3-384", 384),
        ("sha3-512", 512),
    ];
    let mut report = Report::new();
    for (algorithm, needed) in [("ML-DSA-44", 256), ("ML-DSA-65", 384), ("ML-DSA-87", 512)] {
        let sender = OpensslShell::new(&DEBIAN_13, &OpensslConf::without_provider())
            .map(|shell| shell.variable("ALG", algorithm))
            .and_then(|shell| shell.succeed(SIGN).map(|_| shell))
            .expect("OpenSSL 3.5 signs with its own ML-DSA");
        for platform in [&OPENSSL_3_0_2, &DEBIAN_12, &OPENSSL_3_4_1] {
            for (digest, bits) in DIGESTS {
                let outcome = OpensslShell::new(platform, &OpensslConf::new()).and_then(|shell| {
                    shell.write("message.cms", &sender.read(&format!("{digest}.cms"))?)?;
                    shell.write("sender.crt", &sender.read("sender.crt")?)?;
                    let run = shell.run(
                        "openssl cms -verify -binary -in message.cms -inform PEM -CAfile sender.crt -purpose any -out received",
                    )?;
                    ensure!(run.status.success() == (bits >= needed), "{}\n{}", run.status, run.text());
                    ensure!(run.status.success() || run.text().contains("was asked for"), "{}", run.text());
                    Ok(())
                });
                report.check(&format!("{}: {algorithm} with {digest}", platform.name), outcome);
            }
        }
    }
    report.finish();
}

#[test]
fn the_page_has_the_table_as_it_is() {
    let page = include_str!("../../docs/openssl.md");
    let table = as_markdown();
    assert!(page.contains(&table), "docs/openssl.md is behind; its table is:\n{table}");
}

/// The page's table and the reasons below it, as Markdown.
fn as_markdown() -> String {
    let columns: Vec<_> = VERSIONS.iter().map(|(major, minor)| format!(" {major}.{minor} |")).collect();
    let mut text = format!("| command |{}\n|---|{}\n", columns.concat(), "---|".repeat(VERSIONS.len()));
    let mut reasons: Vec<&str> = Vec::new();
    for row in ROWS {
        text += &format!("| {} |", row.command);
        for version in VERSIONS {
            let fails = [Kind::MlDsa, Kind::Composite].map(|kind| row.exception(version, kind));
            let mut note = || {
                let why = fails.into_iter().flatten().next().map_or("", |exception| exception.why);
                let known = reasons.iter().position(|reason| *reason == why);
                known.unwrap_or_else(|| {
                    reasons.push(why);
                    reasons.len() - 1
                }) + 1
            };
            text += &match fails {
                [None, None] => " yes |".to_owned(),
                [Some(_), Some(_)] => format!(" no ({}) |", note()),
                [None, Some(_)] => format!(" ML-DSA, not composite ({}) |", note()),
                [Some(_), None] => format!(" composite, not ML-DSA ({}) |", note()),
            };
        }
        text += "\n";
    }
    text += "\n";
    for (number, reason) in (1..).zip(reasons) {
        text += &format!("{number}. {reason}.\n");
    }
    text
}

#[test]
fn the_page_s_recipes_work_as_they_stand_there() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &DEBIAN_13] {
        report.check(platform.name, run_recipes(platform));
    }
    report.finish();
}

fn run_recipes(platform: &'static Platform) -> Result<()> {
    let script = recipes(include_str!("../../docs/openssl.md"));
    ensure!(script.contains("openssl genpkey"), "the page has no block that begins with ```sh");
    // What docs/install.md installs.
    let files = tempfile::tempdir()?;
    fs::copy(module()?, files.path().join("qtls.so"))?;
    fs::copy(workspace().join("openssl-cnf/with-system.cnf"), files.path().join("with-system.cnf"))?;
    let directory = WorkDir::new(platform)?;
    let mut command = platform.shell_with_installed(files.path(), &directory.inside(""), &script)?;
    let run = command.output()?;
    let text = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    if !run.status.success() {
        bail!("{}\n{text}", run.status);
    }
    Ok(())
}

/// The page's blocks of shell, one after the other.
fn recipes(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.collect()
}
