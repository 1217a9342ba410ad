//! `qtls key-ref`: a key file that names a key in a token.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use qtls_crypto::to_pem;
use qtls_pkcs11::{ObjectClass, PublicKey, Uri};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::options::TokenOptions;

/// Label of the block that names the key, pkcs11-provider's.
pub(crate) const URI_LABEL: &str = "PKCS#11 PROVIDER URI";
const PUBLIC_KEY_LABEL: &str = "PUBLIC KEY";
const CERTIFICATE_LABEL: &str = "CERTIFICATE";

/// Command line of `qtls key-ref`.
#[derive(clap::Args)]
#[command(
    after_help = "The file goes where a private key's file goes: nginx's ssl_certificate_key, HAProxy's crt, APISIX's key. It holds \
                  no secret: the key stays in the token, and its PIN comes from pin-source in the URI or pkcs11-pin-source in \
                  openssl.cnf. With the public key in the file a server starts and reloads while the token is away.\n\n\
                  Examples:\n  qtls key-ref 'pkcs11:token=gateway;object=shop' --out /etc/nginx/shop.key\n  \
                  qtls key-ref 'pkcs11:token=gateway;object=shop?pin-source=file:/etc/nginx/hsm.pin' --out shop.key\n  \
                  qtls key-ref 'pkcs11:object=shop' --public shop.crt --out shop.key      (the token is not asked)"
)]
pub(crate) struct Arguments {
    /// The key's PKCS#11 URI (RFC 7512), in quotes because of its semicolons
    uri: String,

    /// Write to a new file, which only you can read; without it to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Take the public key from this PEM file, a public key or the certificate, and leave the token alone
    #[arg(long, value_name = "FILE")]
    public: Option<PathBuf>,

    #[command(flatten)]
    token: TokenOptions,
}

/// Runs the command.
///
/// # Errors
/// The URI is wrong or holds a PIN, the key is not found, or the file cannot be written.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let uri = Uri::parse(&arguments.uri)?;
    if uri.pin_value.is_some() {
        bail!(
            "the URI holds a PIN (pin-value), which would stand in the key file for everybody who reads it: put the PIN into a \
             file with mode 0600 and write pin-source=file:PATH, or set pkcs11-pin-source in openssl.cnf"
        );
    }
    if let Some(ObjectClass::Public | ObjectClass::Certificate) = uri.class {
        bail!("the URI names a public key or a certificate: write type=private, or leave type out");
    }
    if uri.object.is_none() && uri.id.is_none() {
        bail!("the URI names no key: add object=LABEL or id=%01%02…, as `qtls hsm list` shows them");
    }
    let public = match &arguments.public {
        Some(file) => public_key_in(file)?,
        None => arguments.token.hsm()?.key(&uri, None)?.public().clone(),
    };
    let reference = to_pem(URI_LABEL, &Uri::to_pem_der(&uri.with_pin_source()));
    let public = to_pem(PUBLIC_KEY_LABEL, &public.to_spki_der());
    let text = format!("{}{}", *reference, *public);
    match &arguments.out {
        None => anstream::stdout().write_all(text.as_bytes())?,
        Some(file) => {
            let shown = file.display();
            let created = std::fs::File::options().write(true).create_new(true).mode(0o600).open(file);
            let mut created = created
                .with_context(|| format!("can't make {shown}; a file that is there is not written over"))?;
            created.write_all(text.as_bytes()).with_context(|| format!("can't write {shown}"))?;
            eprintln!("{shown} names the key; in nginx: ssl_certificate_key {shown};");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The public key in a PEM file: its own, or that of the first certificate.
fn public_key_in(file: &Path) -> anyhow::Result<PublicKey> {
    let shown = file.display();
    let text = std::fs::read(file).with_context(|| format!("can't read {shown}"))?;
    let blocks = pem::parse_many(&text).with_context(|| format!("{shown} is no PEM file"))?;
    for block in blocks {
        let key = match block.tag() {
            PUBLIC_KEY_LABEL => PublicKey::from_spki_der(block.contents()),
            CERTIFICATE_LABEL => {
                let (_, certificate) = X509Certificate::from_der(block.contents())
                    .with_context(|| format!("{shown}: the certificate cannot be parsed"))?;
                PublicKey::from_spki_der(certificate.public_key().raw)
            }
            _ => continue,
        };
        return key.with_context(|| format!("{shown}: the key is of no type that a token can have here"));
    }
    bail!("{shown} has neither a {PUBLIC_KEY_LABEL} block nor a {CERTIFICATE_LABEL}")
}
