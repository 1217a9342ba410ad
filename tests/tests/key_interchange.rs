//! What other implementations write, ours reads, and the other way round: keys in every form, certificates, requests,
//! signatures, ciphertexts.
//!
//! A party makes a set of files, [`ITEMS`]; another reads each of them. OpenSSL 3.5, 3.6 and 4.0 are parties with their own
//! ML-DSA and ML-KEM and without the provider; so is PyPI's `cryptography`, with an OpenSSL inside.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Command,
    sync::{LazyLock, Mutex},
};

use anyhow::{Context, Result, anyhow, ensure};
use qtls_tests::{
    Native, OpensslConf, OpensslShell, Platform, full,
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, OPENSSL_3_0_2, OPENSSL_3_4_1, OPENSSL_4_0, setup},
    report::Report,
};

/// Who writes and reads.
#[derive(Clone, Copy)]
enum Party {
    /// The provider, in the `openssl` command of a platform.
    Ours(&'static Platform, Native),
    /// OpenSSL's own implementation.
    OpenSsl(&'static Platform),
    /// PyPI `cryptography`.
    Python,
}

/// Who writes forms that ours cannot write.
const FIRST_OF_THEIRS: Party = Party::OpenSsl(&DEBIAN_13);

fn theirs() -> Vec<Party> {
    let mut parties = vec![FIRST_OF_THEIRS, Party::OpenSsl(&OPENSSL_4_0), Party::Python];
    if full() {
        parties.push(Party::OpenSsl(&DEBIAN_SID));
    }
    parties
}

/// The provider where libcrypto has none of the algorithms; with `QTLS_TESTS=full` also where it has them and ours are taken.
fn ours() -> Vec<Party> {
    let mut parties =
        vec![Party::Ours(&DEBIAN_12, Native::Yield), Party::Ours(&OPENSSL_3_4_1, Native::Yield)];
    if full() {
        parties.push(Party::Ours(&OPENSSL_3_0_2, Native::Yield));
        for platform in [&DEBIAN_13, &DEBIAN_SID, &OPENSSL_4_0] {
            parties.push(Party::Ours(platform, Native::Prefer));
        }
    }
    parties
}

const ML_DSA: [&str; 3] = ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"];
const ML_KEM: [&str; 3] = ["ML-KEM-512", "ML-KEM-768", "ML-KEM-1024"];
const COMPOSITE: [&str; 5] = [
    "id-MLDSA44-ECDSA-P256-SHA256",
    "id-MLDSA65-ECDSA-P256-SHA512",
    "id-MLDSA65-ECDSA-P384-SHA512",
    "id-MLDSA65-Ed25519-SHA512",
    "id-MLDSA87-ECDSA-P384-SHA512",
];

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Private,
    Public,
    Signature,
    Certificate,
    Request,
    Ciphertext,
    /// A private key in a form that is in no standard.
    NonStandard,
}

/// The files, each with what it is and the public key that it belongs to. Not every party makes all of them.
const ITEMS: [(&str, Kind, &str); 18] = [
    ("private-seed.pem", Kind::Private, "public.pem"),
    ("private-seed.der", Kind::Private, "public.pem"),
    ("private-both.pem", Kind::Private, "public.pem"),
    ("private-both.der", Kind::Private, "public.pem"),
    ("private-expanded.pem", Kind::Private, "expanded-public.pem"),
    ("private-expanded.der", Kind::Private, "expanded-public.pem"),
    ("encrypted.pem", Kind::Private, "public.pem"),
    ("encrypted.der", Kind::Private, "public.pem"),
    ("encrypted-scrypt.pem", Kind::Private, "public.pem"),
    ("public.pem", Kind::Public, "public.pem"),
    ("public.der", Kind::Public, "public.pem"),
    ("message.sig", Kind::Signature, "public.pem"),
    ("certificate.pem", Kind::Certificate, "public.pem"),
    ("request.pem", Kind::Request, "public.pem"),
    ("ciphertext", Kind::Ciphertext, "public.pem"),
    ("oqskeypair.pem", Kind::NonStandard, "public.pem"),
    ("bare-seed.pem", Kind::NonStandard, "public.pem"),
    ("bare-priv.pem", Kind::NonStandard, "public.pem"),
];

/// The files that items need.
const BESIDE: [&str; 3] = ["expanded-public.pem", "message", "shared"];

type Files = BTreeMap<String, Vec<u8>>;

#[test]
fn what_others_write_ours_reads_and_signs_with() {
    let mut report = Report::new();
    for algorithm in ML_DSA.iter().chain(&ML_KEM) {
        for writer in theirs() {
            if writer.has(algorithm) {
                exchange(&mut report, algorithm, writer, &ours());
            }
        }
    }
    report.finish();
}

#[test]
fn what_ours_writes_others_read_and_verify() {
    let mut report = Report::new();
    for algorithm in ML_DSA.iter().chain(&ML_KEM) {
        let readers: Vec<_> = theirs().into_iter().filter(|reader| reader.has(algorithm)).collect();
        for writer in ours() {
            exchange(&mut report, algorithm, writer, &readers);
        }
    }
    report.finish();
}

#[test]
fn what_ours_writes_of_a_composite_key_ours_reads_on_another_version() {
    let mut report = Report::new();
    let mut parties = vec![Party::Ours(&DEBIAN_12, Native::Yield), Party::Ours(&DEBIAN_13, Native::Yield)];
    if full() {
        parties.push(Party::Ours(&OPENSSL_3_4_1, Native::Yield));
    }
    for algorithm in COMPOSITE {
        for (index, writer) in parties.iter().copied().enumerate() {
            let mut readers = parties.clone();
            readers.remove(index);
            exchange(&mut report, algorithm, writer, &readers);
        }
    }
    report.finish();
}

/// Every file of a writer, read by every reader.
fn exchange(report: &mut Report, algorithm: &str, writer: Party, readers: &[Party]) {
    let what = format!("{algorithm} of {}", writer.name());
    let files = match make(writer, algorithm) {
        Ok(files) => files,
        Err(error) => return report.check(&what, Err(error)),
    };
    for reader in readers {
        let place = match Place::new(*reader, algorithm, &files) {
            Ok(place) => place,
            Err(error) => {
                report.check(&format!("{what}, to {}", reader.name()), Err(error));
                continue;
            }
        };
        for (file, kind, public) in ITEMS {
            if files.contains_key(file) && reader.reads(kind, file) {
                let outcome = place.check(file, kind, public);
                report.check(&format!("{what}, {file} to {}", reader.name()), outcome);
            }
        }
    }
}

/// The writer's files, made once for every reader.
fn make(writer: Party, algorithm: &str) -> Result<Files> {
    static MADE: LazyLock<Mutex<BTreeMap<(String, String), Files>>> = LazyLock::new(Mutex::default);
    let key = (writer.name(), algorithm.to_owned());
    // Not held while files are made: a writer of ours needs those of another.
    let known = || MADE.lock().map_err(|_| anyhow!("a test panicked while it took files"));
    if let Some(files) = known()?.get(&key) {
        return Ok(files.clone());
    }
    let mut given = Files::new();
    if matches!(writer, Party::Ours(..)) && !algorithm.starts_with("id-") {
        // A key whose seed ours does not know, so that it has to write the expanded form.
        let others = make(FIRST_OF_THEIRS, algorithm)?;
        given.insert("given-expanded.pem".to_owned(), others["private-expanded.pem"].clone());
    }
    let files = Place::new(writer, algorithm, &given)?.make()?;
    known()?.insert(key, files.clone());
    Ok(files)
}

impl Party {
    fn name(self) -> String {
        match self {
            Self::Ours(platform, native) => format!("ours on {}, native = {native:?}", platform.name),
            Self::OpenSsl(platform) => format!("OpenSSL's own on {}", platform.name),
            Self::Python => "PyPI cryptography".to_owned(),
        }
    }

    fn has(self, algorithm: &str) -> bool {
        !matches!(self, Self::Python) || algorithm != "ML-KEM-512"
    }

    fn reads(self, kind: Kind, file: &str) -> bool {
        match self {
            // Only ours is expected to refuse.
            Self::OpenSsl(_) => kind != Kind::NonStandard,
            // It knows keys by their seeds alone.
            Self::Python => kind != Kind::NonStandard && !file.starts_with("private-expanded"),
            // 3.0 has no command that decapsulates.
            Self::Ours(platform, _) => kind != Kind::Ciphertext || platform.version >= (3, 4),
        }
    }
}

/// Where a party works.
struct Place {
    party: Party,
    algorithm: String,
    work: Work,
}

enum Work {
    Shell(OpensslShell),
    Python(tempfile::TempDir),
}

/// What the `openssl` command makes; `$FORMATS` is set where it is OpenSSL's own implementation.
const MAKE: &str = r#"
printf 'a message\n' >message
openssl genpkey -algorithm "$ALG" -out key.pem
openssl pkey -in key.pem -pubout -out public.pem
openssl pkey -in key.pem -pubout -outform DER -out public.der
if [ -n "$FORMATS" ]; then
    write() { openssl pkey -in key.pem -provparam "$FORMATS=$1" -out "$2.pem"; }
    write seed-only private-seed
    write seed-priv private-both
    write priv-only private-expanded
    write oqskeypair oqskeypair
    write bare-seed bare-seed
    write bare-priv bare-priv
    openssl pkey -in key.pem -provparam "$FORMATS=seed-only" -outform DER -out private-seed.der
    openssl pkey -in key.pem -provparam "$FORMATS=seed-priv" -outform DER -out private-both.der
    openssl pkey -in key.pem -provparam "$FORMATS=priv-only" -outform DER -out private-expanded.der
    cp public.pem expanded-public.pem
else
    cp key.pem private-seed.pem
    openssl pkey -in key.pem -outform DER -out private-seed.der
    if [ -e given-expanded.pem ]; then
        openssl pkey -in given-expanded.pem -out private-expanded.pem
        openssl pkey -in given-expanded.pem -outform DER -out private-expanded.der
        openssl pkey -in given-expanded.pem -pubout -out expanded-public.pem
    fi
fi
openssl pkey -in key.pem -aes256 -passout pass:secret -out encrypted.pem
openssl pkcs8 -topk8 -in key.pem -outform DER -passout pass:secret -out encrypted.der
openssl pkcs8 -topk8 -in key.pem -scrypt -passout pass:secret -out encrypted-scrypt.pem
case $ALG in
    ML-KEM*)
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ca.key
        openssl req -x509 -new -key ca.key -subj /CN=authority -out ca.pem
        openssl req -new -key ca.key -subj /CN=kem -out kem.csr
        echo 'keyUsage = critical, keyEncipherment' >extensions.cnf
        openssl x509 -req -in kem.csr -force_pubkey public.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
            -extfile extensions.cnf -out certificate.pem
        case $(openssl version) in
            'OpenSSL 3.0'*) ;; # no command
            *) openssl pkeyutl -encap -pubin -inkey public.pem -out ciphertext -secret shared ;;
        esac
        ;;
    *)
        openssl dgst -sign key.pem -out message.sig message
        openssl req -x509 -new -key key.pem -subj /CN=self -days 30 -out certificate.pem
        openssl req -new -key key.pem -subj /CN=request -out request.pem
        ;;
esac
"#;

impl Place {
    fn new(party: Party, algorithm: &str, files: &Files) -> Result<Place> {
        let formats = match (party, algorithm.starts_with("ML-KEM")) {
            (Party::OpenSsl(_), true) => "ml-kem.output_formats",
            (Party::OpenSsl(_), false) => "ml-dsa.output_formats",
            _ => "",
        };
        let shell = |platform, conf: &OpensslConf| -> Result<Work> {
            let shell = OpensslShell::new(platform, conf)?;
            Ok(Work::Shell(shell.variable("ALG", algorithm).variable("FORMATS", formats)))
        };
        let work = match party {
            Party::Ours(platform, native) => shell(platform, &OpensslConf::new().native(native))?,
            Party::OpenSsl(platform) => shell(platform, &OpensslConf::without_provider())?,
            Party::Python => Work::Python(tempfile::tempdir()?),
        };
        let place = Place { party, algorithm: algorithm.to_owned(), work };
        for (file, content) in files {
            fs::write(place.path(file), content).with_context(|| format!("writing {file}"))?;
        }
        Ok(place)
    }

    fn path(&self, file: &str) -> PathBuf {
        match &self.work {
            Work::Shell(shell) => shell.directory.outside(file),
            Work::Python(directory) => directory.path().join(file),
        }
    }

    fn make(&self) -> Result<Files> {
        match &self.work {
            Work::Shell(shell) => shell.succeed(MAKE).map(drop)?,
            Work::Python(_) => self.python(&["make", &self.algorithm])?,
        }
        let names = ITEMS.iter().map(|(file, ..)| *file).chain(BESIDE);
        let present = names.filter(|file| self.path(file).exists());
        present.map(|file| Ok((file.to_owned(), fs::read(self.path(file))?))).collect()
    }

    fn check(&self, file: &str, kind: Kind, public: &str) -> Result<()> {
        match &self.work {
            Work::Python(_) => {
                let kind = match kind {
                    Kind::Private => "private",
                    Kind::Public => "public",
                    Kind::Signature => "signature",
                    Kind::Certificate => "certificate",
                    Kind::Request => "request",
                    Kind::Ciphertext => "ciphertext",
                    Kind::NonStandard => unreachable!("not read"),
                };
                self.python(&["check", &self.algorithm, kind, file, public])
            }
            Work::Shell(shell) if kind == Kind::NonStandard => {
                let run = shell.run(&format!("openssl pkey -in {file} -noout"))?;
                ensure!(run.status.code() == Some(1), "{}\n{}", run.status, run.text());
                // Mostly it is neither of the three forms; random bytes may begin as one of them.
                ensure!(run.errors.contains("the PKCS#8 private key"), "{}", run.text());
                ensure!(!matches!(self.party, Party::OpenSsl(_)), "only ours refuses");
                Ok(())
            }
            Work::Shell(shell) => shell.succeed(&self.script(file, kind, public)).map(drop),
        }
    }

    fn script(&self, file: &str, kind: Kind, public: &str) -> String {
        let signs = !self.algorithm.starts_with("ML-KEM");
        let form = if file.ends_with(".der") { "-inform DER" } else { "" };
        match kind {
            Kind::Private => {
                let use_it = if signs {
                    format!(
                        "openssl dgst -sign read.pem -out read.sig message
                         openssl dgst -verify {public} -signature read.sig message"
                    )
                } else {
                    // The ciphertext is for the key that everything else is made from.
                    format!(
                        "if [ -e ciphertext ] && cmp public.pem {public}; then
                             case $(openssl version) in
                                 'OpenSSL 3.0'*) ;;
                                 *) openssl pkeyutl -decap -inkey read.pem -in ciphertext -out read.secret
                                    cmp read.secret shared ;;
                             esac
                         fi"
                    )
                };
                format!(
                    "openssl pkey -in {file} {form} -passin pass:secret -out read.pem
                     openssl pkey -in read.pem -check -noout
                     openssl pkey -in read.pem -pubout | cmp - {public}
                     {use_it}"
                )
            }
            Kind::Public => format!(
                "openssl pkey -pubin -in {file} {form} -pubcheck -noout
                 openssl pkey -pubin -in {file} {form} | cmp - {public}"
            ),
            Kind::Signature => format!("openssl dgst -verify {public} -signature {file} message"),
            Kind::Certificate => format!(
                "openssl x509 -in {file} -noout -pubkey | cmp - {public}
                 {}",
                if signs {
                    "openssl verify -check_ss_sig -CAfile certificate.pem certificate.pem"
                } else {
                    ""
                }
            ),
            Kind::Request => format!(
                "openssl req -in {file} -noout -verify 2>&1 | grep 'verify OK'
                 openssl req -in {file} -noout -pubkey | cmp - {public}"
            ),
            Kind::Ciphertext => {
                "openssl pkeyutl -decap -inkey private-seed.pem -in ciphertext -out read.secret
                 cmp read.secret shared"
                    .to_owned()
            }
            Kind::NonStandard => unreachable!("refused"),
        }
    }

    fn python(&self, arguments: &[&str]) -> Result<()> {
        static ENVIRONMENT: LazyLock<Result<PathBuf, String>> =
            LazyLock::new(|| setup("python.sh", "50.0.2").map_err(|error| format!("{error:#}")));
        let Work::Python(directory) = &self.work else { unreachable!("a Python place") };
        let environment = ENVIRONMENT.as_ref().map_err(|error| anyhow!("{error}"))?;
        let mut command = Command::new(environment.join("bin/python"));
        command.arg("-c").arg(include_str!("key_interchange.py")).args(arguments).current_dir(directory);
        let run = command.output().context("starting Python")?;
        ensure!(run.status.success(), "{}\n{}", run.status, String::from_utf8_lossy(&run.stderr));
        Ok(())
    }
}

/// The tags of X.690 that keys need.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const SEED: u8 = 0x80;
const PUBLIC_KEY: u8 = 0x81;

#[test]
fn a_malformed_key_file_ends_the_command_with_one_error_that_says_what_is_wrong() {
    let mut report = Report::new();
    for algorithm in ["ML-DSA-65", "ML-KEM-768"] {
        let files = make(FIRST_OF_THEIRS, algorithm).expect("OpenSSL 3.5 writes its own keys");
        let shell = OpensslShell::new(&DEBIAN_12, &OpensslConf::new()).expect("a directory");
        for (what, says, der) in malformed_private_keys(&files) {
            let outcome = told_of(&shell, "PRIVATE KEY", "", &der, says);
            report.check(&format!("{algorithm}, private key: {what}"), outcome);
        }
        for (what, says, der) in malformed_public_keys(&files) {
            let outcome = told_of(&shell, "PUBLIC KEY", "-pubin", &der, says);
            report.check(&format!("{algorithm}, public key: {what}"), outcome);
        }
    }
    for algorithm in COMPOSITE {
        let files = make(Party::Ours(&DEBIAN_13, Native::Yield), algorithm).expect("a composite key");
        let shell = OpensslShell::new(&DEBIAN_12, &OpensslConf::new()).expect("a directory");
        for (what, says, der) in malformed_composite_keys(&files) {
            let outcome = told_of(&shell, "PRIVATE KEY", "", &der, says);
            report.check(&format!("{algorithm}, private key: {what}"), outcome);
        }
    }
    report.finish();
}

/// That the `openssl` command refuses a key, in DER and in PEM, with one line of ours.
fn told_of(shell: &OpensslShell, label: &str, option: &str, der: &[u8], says: &str) -> Result<()> {
    shell.write("bad.der", der)?;
    shell.succeed(&format!(
        "{{ echo '-----BEGIN {label}-----'; openssl base64 -in bad.der; echo '-----END {label}-----'; }} >bad.pem"
    ))?;
    let is_cut = Some(der.len()) < announced(der);
    for form in ["DER -in bad.der", "PEM -in bad.pem"] {
        let run = shell.run(&format!("openssl pkey {option} -noout -inform {form}"))?;
        ensure!(run.status.code() == Some(1), "{form}: {}\n{}", run.status, run.text());
        if is_cut && form.starts_with("DER") {
            // OpenSSL's reader of files finds the end before it asks any decoder.
            continue;
        }
        let lines: Vec<_> = run.errors.lines().filter(|line| line.contains("qtls")).collect();
        ensure!(lines.len() == 1, "{form}: {} lines of ours\n{}", lines.len(), run.text());
        ensure!(lines[0].contains(says), "{form}: it does not say '{says}'\n{}", run.text());
    }
    Ok(())
}

#[test]
fn a_malformed_key_in_a_certificate_is_told_of_but_not_where_it_may_be_a_peer_s() {
    let files = make(FIRST_OF_THEIRS, "ML-DSA-65").expect("OpenSSL 3.5 writes its own keys");
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &OPENSSL_3_4_1] {
        report.check(platform.name, told_of_outside_tls(platform, &files));
    }
    report.finish();
}

fn told_of_outside_tls(platform: &'static Platform, files: &Files) -> Result<()> {
    let shell = OpensslShell::new(platform, &OpensslConf::new())?;
    shell.write("certificate.pem", &files["certificate.pem"])?;
    shell.succeed("openssl x509 -in certificate.pem -outform DER -out certificate.der")?;
    let mut certificate = shell.read("certificate.der")?;
    let bits = &parts(&parts(&files["public.der"])[0].1)[1].1;
    let at = certificate.windows(bits.len()).position(|window| window == bits).context("no key in it")?;
    // The number of unused bits.
    certificate[at] = 1;
    shell.write("bad.der", &certificate)?;
    shell.succeed(
        "{ echo '-----BEGIN CERTIFICATE-----'; openssl base64 -in bad.der; echo '-----END CERTIFICATE-----'; } >bad.pem",
    )?;
    let outside = shell.run("openssl x509 -in bad.pem -noout -text")?;
    let lines = outside.errors.lines().filter(|line| line.starts_with("qtls[")).count();
    ensure!(lines == 1, "{lines} lines of ours outside of TLS\n{}", outside.errors);
    // It makes its TLS context first, reads the authorities, and connects to a port where nobody listens.
    let within = shell.run("openssl s_client -CAfile bad.pem -connect 127.0.0.1:1")?;
    ensure!(!within.errors.contains("qtls["), "told of within TLS\n{}", within.errors);
    ensure!(within.text().to_lowercase().contains("refused"), "it ended before\n{}", within.text());
    Ok(())
}

type Malformed = (&'static str, &'static str, Vec<u8>);

fn malformed_private_keys(files: &Files) -> Vec<Malformed> {
    let [seed_file, both_file, expanded_file] =
        ["private-seed.der", "private-both.der", "private-expanded.der"].map(|name| &files[name]);
    let identifier = parts(&parts(seed_file)[0].1)[1].clone();
    let content = |der: &[u8]| parts(&parts(der)[0].1)[2].1.clone();
    let seed = parts(&content(seed_file))[0].1.clone();
    let expanded = parts(&content(expanded_file))[0].1.clone();
    let both = parts(&content(both_file))[0].1.clone();
    let public = parts(&parts(&files["public.der"])[0].1)[1].1[1..].to_vec();

    let with = |version: u8, identifier: Vec<u8>, content: Vec<u8>, more: Vec<u8>| {
        let fields = [tlv(INTEGER, &[version]), identifier, tlv(OCTET_STRING, &content), more];
        tlv(SEQUENCE, &fields.concat())
    };
    let plain = || tlv(SEQUENCE, &identifier.1);
    let key = |content: Vec<u8>| with(0, plain(), content, Vec::new());
    let changed = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let longer = |bytes: &[u8]| [bytes, &[0]].concat();
    let pair = |seed: &[u8], expanded: &[u8]| {
        tlv(SEQUENCE, &[tlv(OCTET_STRING, seed), tlv(OCTET_STRING, expanded)].concat())
    };
    let other_public = tlv(PUBLIC_KEY, &[&[0], &changed(&public, 40)[..]].concat());

    vec![
        ("truncated", "PKCS#8", seed_file[..seed_file.len() - 1].to_vec()),
        ("truncated by much", "PKCS#8", expanded_file[..expanded_file.len() / 2].to_vec()),
        ("a byte too many at the end", "PKCS#8", with(0, plain(), content(seed_file), vec![0])),
        (
            "NULL parameters",
            "NULL parameters",
            with(0, tlv(SEQUENCE, &[&identifier.1[..], &[NULL, 0]].concat()), content(seed_file), Vec::new()),
        ),
        (
            "other parameters",
            "has parameters",
            with(0, tlv(SEQUENCE, &identifier.1.repeat(2)), content(seed_file), Vec::new()),
        ),
        ("version 2", "version", with(2, plain(), content(seed_file), Vec::new())),
        (
            "a public key in version 0",
            "version 0",
            with(0, plain(), content(seed_file), other_public.clone()),
        ),
        (
            "another's public key",
            "not that of the private key",
            with(1, plain(), content(seed_file), other_public),
        ),
        ("tag [1]", "is neither a [0] seed", key(tlv(SEED | 1, &seed))),
        ("tag [0] constructed", "is neither a [0] seed", key(tlv(SEED | 0x20, &tlv(OCTET_STRING, &seed)))),
        ("SET of both", "is neither a [0] seed", key(tlv(SET, &both))),
        ("no content", "is neither a [0] seed", key(Vec::new())),
        ("a seed that is short", "seed has", key(tlv(SEED, &seed[1..]))),
        ("a seed that is long", "seed has", key(tlv(SEED, &longer(&seed)))),
        ("something behind the seed", "content of privateKey", key(longer(&content(seed_file)))),
        ("a seed as the expanded key", "expanded private key has", key(tlv(OCTET_STRING, &seed))),
        ("an expanded key that is short", "expanded private key has", key(tlv(OCTET_STRING, &expanded[1..]))),
        (
            "an expanded key that is long",
            "expanded private key has",
            key(tlv(OCTET_STRING, &longer(&expanded))),
        ),
        ("a damaged expanded key", "", key(tlv(OCTET_STRING, &changed(&expanded, expanded.len() - 40)))),
        (
            "both, of two seeds",
            "not the one that the seed beside it gives",
            key(pair(&changed(&seed, 0), &expanded)),
        ),
        ("both, expanded key damaged", "not the one that the seed beside it gives", {
            key(pair(&seed, &changed(&expanded, expanded.len() - 1)))
        }),
        ("both, expanded key short", "expanded private key has", key(pair(&seed, &expanded[1..]))),
        ("both, in the other order", "", key(pair(&expanded, &seed))),
        ("both, and a third", "expandedKey is followed by", {
            key(tlv(SEQUENCE, &[&both[..], &tlv(OCTET_STRING, &seed)].concat()))
        }),
    ]
}

fn malformed_public_keys(files: &Files) -> Vec<Malformed> {
    let file = &files["public.der"];
    let fields = parts(&parts(file)[0].1);
    let (identifier, bits) = (&fields[0].1, &fields[1].1);
    let key = |identifier: &[u8], tag: u8, content: &[u8]| {
        tlv(SEQUENCE, &[tlv(SEQUENCE, identifier), tlv(tag, content)].concat())
    };
    vec![
        ("truncated", "SubjectPublicKeyInfo", file[..file.len() - 1].to_vec()),
        ("a byte too many at the end", "SubjectPublicKeyInfo", {
            tlv(SEQUENCE, &[&parts(file)[0].1[..], &[0]].concat())
        }),
        ("NULL parameters", "NULL parameters", {
            key(&[&identifier[..], &[NULL, 0]].concat(), BIT_STRING, bits)
        }),
        ("a SEQUENCE for the key", "subjectPublicKey", key(identifier, SEQUENCE, bits)),
        ("a bit too few", "subjectPublicKey", key(identifier, BIT_STRING, &[&[1], &bits[1..]].concat())),
        ("a key that is short", "public key", key(identifier, BIT_STRING, &bits[..bits.len() - 1])),
        ("a key that is long", "public key", key(identifier, BIT_STRING, &[&bits[..], &[0]].concat())),
        ("an empty key", "public key", key(identifier, BIT_STRING, &[0])),
    ]
}

fn malformed_composite_keys(files: &Files) -> Vec<Malformed> {
    let fields = parts(&parts(&files["private-seed.der"])[0].1);
    let content = &fields[2].1;
    let key = |content: &[u8]| {
        tlv(SEQUENCE, &[tlv(INTEGER, &[0]), tlv(SEQUENCE, &fields[1].1), tlv(OCTET_STRING, content)].concat())
    };
    vec![
        ("without its classical half", "", key(&content[..32])),
        ("a byte short", "", key(&content[..content.len() - 1])),
        ("a byte long", "", key(&[&content[..], &[0]].concat())),
        ("as ML-DSA has it", "", key(&tlv(SEED, content))),
    ]
}

/// The objects that stand in `der`, each with its tag.
fn parts(der: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut parts = Vec::new();
    let mut rest = der;
    while let [tag, first, after @ ..] = rest {
        let length_bytes = if *first < 0x80 { 0 } else { usize::from(first & 0x7F) };
        let length = if *first < 0x80 {
            usize::from(*first)
        } else {
            after[..length_bytes].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
        };
        let content = &after[length_bytes..length_bytes + length];
        parts.push((*tag, content.to_vec()));
        rest = &after[length_bytes + length..];
    }
    parts
}

/// How long an object of a key's size is to be, as its beginning says.
fn announced(der: &[u8]) -> Option<usize> {
    match der {
        [_, 0x82, high, low, ..] => Some(4 + (usize::from(*high) << 8 | usize::from(*low))),
        [_, length @ 0..0x80, ..] => Some(2 + usize::from(*length)),
        _ => None,
    }
}

/// An object with this tag.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        length @ 0..0x80 => vec![length as u8],
        length @ 0x80..0x100 => vec![0x81, length as u8],
        length => vec![0x82, (length >> 8) as u8, length as u8],
    };
    [&[tag], &length[..], content].concat()
}
