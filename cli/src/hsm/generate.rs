//! `qtls hsm generate`: a key pair made in the token.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use qtls_crypto::signature_by_name;
use qtls_pkcs11::{EcCurve, GenerateType, Uri};

use super::options::TokenOptions;
use super::quoted;

/// Command line of `qtls hsm generate`.
#[derive(clap::Args)]
#[command(
    after_help = "The private key never leaves the token: it is made there, sensitive and not extractable. The URI goes to standard \
                  output, what to do with it to standard error.\n\nExamples:\n  \
                  qtls hsm generate --type ec-p256 'pkcs11:token=gateway;object=shop'\n  \
                  qtls hsm generate --type ml-dsa-65 --label shop-pq\n  \
                  qtls hsm generate --type rsa-3072 --label shop --id 0a01 \\\n      \
                  --module /usr/lib/softhsm/libsofthsm2.so --token gateway --pin-source file:/root/hsm.pin"
)]
pub(super) struct Arguments {
    /// Name the token and the new key, in quotes: 'pkcs11:token=gateway;object=shop'
    uri: Option<String>,

    /// What kind of key
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    kind: Kind,

    /// The key's label, instead of object= in a URI
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,

    /// The key's identifier in hexadecimal digits, instead of id= in a URI; a random one without
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    id: Option<Id>,

    #[command(flatten)]
    token: TokenOptions,
}

/// Types by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[value(name = "ml-dsa-44")]
    MlDsa44,
    #[value(name = "ml-dsa-65")]
    MlDsa65,
    #[value(name = "ml-dsa-87")]
    MlDsa87,
    EcP256,
    EcP384,
    #[value(name = "rsa-2048")]
    Rsa2048,
    #[value(name = "rsa-3072")]
    Rsa3072,
    #[value(name = "rsa-4096")]
    Rsa4096,
}

impl Kind {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn generate_type(self) -> anyhow::Result<GenerateType> {
        let ml_dsa = |name| {
            let algorithm = signature_by_name(name).with_context(|| format!("{name} is not in the table"))?;
            Ok(GenerateType::MlDsa(algorithm))
        };
        match self {
            Self::MlDsa44 => ml_dsa("ML-DSA-44"),
            Self::MlDsa65 => ml_dsa("ML-DSA-65"),
            Self::MlDsa87 => ml_dsa("ML-DSA-87"),
            Self::EcP256 => Ok(GenerateType::Ec(EcCurve::P256)),
            Self::EcP384 => Ok(GenerateType::Ec(EcCurve::P384)),
            Self::Rsa2048 => Ok(GenerateType::Rsa(2048)),
            Self::Rsa3072 => Ok(GenerateType::Rsa(3072)),
            Self::Rsa4096 => Ok(GenerateType::Rsa(4096)),
        }
    }
}

/// Bytes; of clap's view one value, where a vector would be several.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Id(Vec<u8>);

fn parse_hex(text: &str) -> Result<Id, String> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    match digits {
        Some(digits) if !digits.is_empty() && digits.len().is_multiple_of(2) => {
            Ok(Id(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
        }
        _ => Err("an even number of hexadecimal digits has to stand there, as 0a01".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// The request is incomplete, such a key is there already, or the token cannot make it.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut uri = match &arguments.uri {
        Some(text) => Uri::parse(text)?,
        None => Uri::default(),
    };
    if uri.class.is_some() {
        bail!("the URI has a type, but a key pair is both: take type out");
    }
    if let Some(label) = &arguments.label {
        if uri.object.as_ref().is_some_and(|object| object != label) {
            bail!("--label and object in the URI differ: give one of them");
        }
        uri.object = Some(label.clone());
    }
    if let Some(Id(id)) = &arguments.id {
        if uri.id.as_ref().is_some_and(|known| known != id) {
            bail!("--id and id in the URI differ: give one of them");
        }
        uri.id = Some(id.clone());
    }
    if uri.object.is_none() {
        bail!("the new key has no name: give --label LABEL, or object=LABEL in the URI");
    }
    let hsm = arguments.token.hsm()?;
    let kind = arguments.kind.generate_type()?;
    let key =
        hsm.generate(&uri, kind).with_context(|| format!("no {} key was made", arguments.kind.name()))?;
    let name = key.uri();
    writeln!(anstream::stdout(), "{name}")?;
    let (openssl, again, shown) =
        (arguments.token.environment_for_openssl(), arguments.token.again(), quoted(name));
    eprintln!(
        "\nThe key is in the token. Next:\n  its certificate request:  {openssl}openssl req -new -key {shown} -subj /CN=shop.example \
         -addext subjectAltName=DNS:shop.example -out shop.csr\n  its key file for nginx:   qtls key-ref {shown}{again} --out shop.key\n  \
         is all well:              qtls doctor --hsm"
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_whole_bytes() {
        assert_eq!(parse_hex("0a01Ff"), Ok(Id(vec![0x0A, 1, 0xFF])));
        for wrong in ["", "1", "0x01", "g0", "é0"] {
            assert!(parse_hex(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_type_is_one_that_a_token_can_be_asked_for() {
        for kind in Kind::value_variants() {
            kind.generate_type().unwrap();
        }
        let names: Vec<String> = Kind::value_variants().iter().map(|kind| kind.name()).collect();
        assert_eq!(
            names,
            ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"]
        );
    }
}
