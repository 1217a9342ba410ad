//! `qtls hsm list`: tokens, and what a token holds.

use std::io::Write;
use std::process::ExitCode;

use anstyle::Style;
use qtls_pkcs11::{Hsm, ObjectClass, ObjectInfo, TokenInfo, Uri};
use serde::Serialize;

use super::options::TokenOptions;
use super::quoted;

/// Version of the JSON's shape; fields are only ever added within one.
const FORMAT: u32 = 1;

/// Columns for the class of an object and for what it is.
const CLASS_WIDTH: usize = 11;
const DESCRIPTION_WIDTH: usize = 10;

/// Command line of `qtls hsm list`.
#[derive(clap::Args)]
#[command(
    after_help = "Logs in to the one token that is meant, and to no other: a PIN sent to the wrong token counts as a wrong one there. \
                  Without a PIN what everybody may see is shown.\n\nExamples:\n  qtls hsm list\n  \
                  qtls hsm list 'pkcs11:token=gateway'\n  qtls hsm list 'pkcs11:token=gateway;type=private'\n  \
                  qtls hsm list --module /usr/lib/softhsm/libsofthsm2.so"
)]
pub(super) struct Arguments {
    /// Which token and which of its objects, in quotes: 'pkcs11:token=gateway;type=private'
    uri: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    token: TokenOptions,
}

#[derive(Serialize)]
struct Report {
    format: u32,
    tokens: Vec<Token>,
}

#[derive(Serialize)]
struct Token {
    module: String,
    slot: u64,
    label: String,
    manufacturer: String,
    model: String,
    serial: String,
    initialized: bool,
    pin_locked: bool,
    pin_final_try: bool,
    uri: String,
    /// None where the token is not the one that was meant.
    objects: Option<Vec<Object>>,
}

#[derive(Serialize)]
struct Object {
    class: &'static str,
    description: String,
    label: String,
    id: String,
    uri: String,
}

/// Runs the command.
///
/// # Errors
/// A URI or option is wrong, or a module or token does not answer.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let uri = match &arguments.uri {
        Some(text) => Uri::parse(text)?,
        None => Uri::default(),
    };
    let hsm = arguments.token.hsm()?;
    let tokens = tokens(&hsm, &uri)?;
    let mut out = anstream::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&Report { format: FORMAT, tokens })?)?;
    } else {
        print(&mut out, &tokens)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The tokens of every module, each once, with the objects of those that are meant.
fn tokens(hsm: &Hsm, uri: &Uri) -> anyhow::Result<Vec<Token>> {
    let mut tokens: Vec<Token> = Vec::new();
    let configured = &hsm.config().tokens;
    for (index, of_index) in configured.iter().enumerate() {
        let found = hsm.tokens(index)?;
        let module = of_index.module.display().to_string();
        for info in &found {
            let known =
                tokens.iter().position(|known| (&known.module, known.slot) == (&module, info.slot_id));
            let known = known.unwrap_or_else(|| {
                tokens.push(Token::of(&module, info));
                tokens.len() - 1
            });
            let is_meant = if uri.names_token() {
                let mut named = configured
                    .iter()
                    .map(|token| token.token.as_ref().is_some_and(|token| fits(token, info)));
                fits(uri, info) && named.position(|named| named).unwrap_or(0) == index
            } else {
                match &of_index.token {
                    Some(token) => fits(token, info),
                    None => info.initialized && found.iter().filter(|other| other.initialized).count() == 1,
                }
            };
            if is_meant {
                let of_token =
                    Uri { token: Some(info.label.clone()), serial: Some(info.serial.clone()), ..uri.clone() };
                let objects = hsm.objects(index, &of_token)?;
                tokens[known].objects = Some(objects.iter().map(Object::of).collect());
            }
        }
    }
    Ok(tokens)
}

/// Whether a token has all the attributes that a URI gives it.
pub(crate) fn fits(uri: &Uri, info: &TokenInfo) -> bool {
    let same = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|wanted| wanted == has);
    same(&uri.token, &info.label)
        && same(&uri.manufacturer, &info.manufacturer)
        && same(&uri.model, &info.model)
        && same(&uri.serial, &info.serial)
        && uri.slot_id.is_none_or(|wanted| wanted == info.slot_id)
}

impl Token {
    fn of(module: &str, info: &TokenInfo) -> Self {
        // The serial number as well: labels need not be unique.
        let uri =
            Uri { token: Some(info.label.clone()), serial: Some(info.serial.clone()), ..Uri::default() };
        Self {
            module: module.to_owned(),
            slot: info.slot_id,
            label: info.label.clone(),
            manufacturer: info.manufacturer.clone(),
            model: info.model.clone(),
            serial: info.serial.clone(),
            initialized: info.initialized,
            pin_locked: info.pin_locked,
            pin_final_try: info.pin_final_try,
            uri: uri.to_string(),
            objects: None,
        }
    }
}

impl Object {
    fn of(info: &ObjectInfo) -> Self {
        Self {
            class: match info.class {
                ObjectClass::Private => "private key",
                ObjectClass::Public => "public key",
                ObjectClass::Certificate => "certificate",
            },
            description: info.description.clone(),
            label: info.label.clone(),
            id: info.id.iter().map(|byte| format!("{byte:02x}")).collect(),
            uri: info.uri.clone(),
        }
    }
}

fn print(out: &mut impl Write, tokens: &[Token]) -> std::io::Result<()> {
    let (bold, dim) = (Style::new().bold(), Style::new().dimmed());
    if tokens.is_empty() {
        writeln!(
            out,
            "the module shows no token: is the HSM connected, and the module's own configuration found?"
        )?;
    }
    for (index, token) in tokens.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let Token { slot, label, model, manufacturer, serial, module, .. } = token;
        if !token.initialized {
            writeln!(out, "{dim}not initialised: {model} of {manufacturer}, slot {slot} of {module}{dim:#}")?;
            continue;
        }
        writeln!(
            out,
            "{bold}{label}{bold:#}  {model} of {manufacturer}, serial {serial}, slot {slot} of {module}"
        )?;
        let state = [
            (token.pin_locked, "the PIN is locked: the security officer has to set a new one"),
            (token.pin_final_try, "one more wrong PIN locks it"),
        ];
        for (_, said) in state.iter().filter(|(is, _)| *is) {
            writeln!(out, "  {said}")?;
        }
        match &token.objects {
            Some(objects) if objects.is_empty() => writeln!(out, "  {dim}nothing that can be seen{dim:#}")?,
            Some(objects) => {
                for Object { class, description, uri, .. } in objects {
                    writeln!(out, "  {class:CLASS_WIDTH$} {description:DESCRIPTION_WIDTH$} {uri}")?;
                }
            }
            None => {
                let uri = quoted(&token.uri);
                writeln!(out, "  {dim}not logged in; its objects: qtls hsm list {uri}{dim:#}")?;
            }
        }
    }
    Ok(())
}
