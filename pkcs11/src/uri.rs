//! PKCS#11 URIs (RFC 7512).

use crate::pin::{Pin, PinSource};
use crate::{Error, ErrorKind};
use der::asn1::Utf8StringRef;
use der::{AnyRef, Decode, Encode, Reader, SliceReader, Tag, Tagged};
use std::fmt::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const SCHEME: &str = "pkcs11:";

/// What stands before the URI in a PEM block `PKCS#11 PROVIDER URI`: pkcs11-provider's form, which others write too.
const PEM_DESCRIPTION: &[u8] = b"PKCS#11 Provider URI v1.0";

/// Lengths of the fields that PKCS#11 gives the information about tokens and slots (`CK_TOKEN_INFO`, `CK_SLOT_INFO`,
/// `CK_INFO`), in bytes.
const LABEL_BYTES: usize = 32;
const MANUFACTURER_BYTES: usize = 32;
const MODEL_BYTES: usize = 16;
const SERIAL_BYTES: usize = 16;
const SLOT_DESCRIPTION_BYTES: usize = 64;

/// `CKA_CLASS` as the attribute `type` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectClass {
    /// `type=private`
    Private,
    /// `type=public`
    Public,
    /// `type=cert`
    Certificate,
}

impl ObjectClass {
    fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
            Self::Certificate => "cert",
        }
    }
}

/// A parsed URI. `Display` writes it in one canonical form **without** `pin-value` and `pin-source`; `Debug` shows no PIN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uri {
    /// `token`: the token's label.
    pub token: Option<String>,
    /// `manufacturer` of the token.
    pub manufacturer: Option<String>,
    /// `model` of the token.
    pub model: Option<String>,
    /// `serial` of the token.
    pub serial: Option<String>,
    /// `slot-id`.
    pub slot_id: Option<u64>,
    /// `slot-description`.
    pub slot_description: Option<String>,
    /// `slot-manufacturer`.
    pub slot_manufacturer: Option<String>,
    /// `object`: CKA_LABEL.
    pub object: Option<String>,
    /// `id`: CKA_ID.
    pub id: Option<Vec<u8>>,
    /// `type`.
    pub class: Option<ObjectClass>,
    /// `module-path`.
    pub module_path: Option<PathBuf>,
    /// `module-name`: of the module's file, without `lib` and what follows the first dot.
    pub module_name: Option<String>,
    /// `pin-source`.
    pub pin_source: Option<PinSource>,
    /// `pin-value`.
    pub pin_value: Option<Pin>,
}

impl Uri {
    /// Reads a URI. Attributes that begin with `x-` are somebody's own and passed over; any other that is not known is an
    /// error, since what it asks for would go unheard. So is a command as `pin-source` (`|prog` in RFC 7512, `cmd:` here):
    /// a key file, which may come from elsewhere, must not say what the server runs.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], which names the attribute and what is wrong with it, and never shows a PIN.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let Some(rest) = strip_scheme(text) else {
            return Err(wrong("it does not begin with 'pkcs11:'"));
        };
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let mut uri = Self::default();
        let mut seen = Vec::new();
        for part in parts(path, ';') {
            let (name, value) = attribute(part, Component::Path, &mut seen)?;
            uri.path_attribute(name, value)?;
        }
        seen.clear();
        for part in query.into_iter().flat_map(|query| parts(query, '&')) {
            let (name, value) = attribute(part, Component::Query, &mut seen)?;
            uri.query_attribute(name, value)?;
        }
        // RFC 7512 section 2.4: such a URI is to be refused.
        if uri.pin_source.is_some() && uri.pin_value.is_some() {
            return Err(wrong("it has both 'pin-source' and 'pin-value': take 'pin-value' out"));
        }
        Ok(uri)
    }

    /// Whether it is to be read by this crate: it has the scheme, in whatever case.
    pub fn is_one(text: &str) -> bool {
        strip_scheme(text).is_some()
    }

    /// Reads the PEM block `PKCS#11 PROVIDER URI`'s content: `SEQUENCE { VisibleString "PKCS#11 Provider URI v1.0", UTF8String uri }`
    /// in DER. `None`: it is something else.
    ///
    /// # Errors
    /// It is such a structure, damaged or with a wrong URI.
    pub fn from_pem_der(der: &[u8]) -> Result<Option<Self>, Error> {
        let Some(inside) = SliceReader::new(der).ok().and_then(|mut reader| {
            let outer = AnyRef::decode(&mut reader).ok().filter(|outer| outer.tag() == Tag::Sequence)?;
            let description = AnyRef::decode(&mut SliceReader::new(outer.value()).ok()?).ok()?;
            let is_ours = description.tag() == Tag::VisibleString && description.value() == PEM_DESCRIPTION;
            is_ours.then_some((outer.value(), reader.is_finished()))
        }) else {
            return Ok(None);
        };
        let damaged = |why: &str| {
            wrong(&format!("its 'PKCS#11 PROVIDER URI' block {why}; write the file again by qtls key-ref"))
        };
        let (inside, alone) = inside;
        if !alone {
            return Err(damaged("has something behind its end"));
        }
        let mut fields = SliceReader::new(inside).map_err(|_| damaged("is too long"))?;
        let uri = AnyRef::decode(&mut fields).and_then(|_| Utf8StringRef::decode(&mut fields));
        let uri = uri.map_err(|_| damaged("holds no UTF8String with a URI"))?;
        if !fields.is_finished() {
            return Err(damaged("has more than a URI in it"));
        }
        Self::parse(uri.as_str()).map(Some)
    }

    /// Writes that content. `text` is the URI as it is to stand there, with its `pin-source`.
    pub fn to_pem_der(text: &str) -> Vec<u8> {
        let parts = [(Tag::VisibleString, PEM_DESCRIPTION), (Tag::Utf8String, text.as_bytes())];
        let fields: Vec<u8> = parts.into_iter().flat_map(|(tag, bytes)| tlv(tag, bytes)).collect();
        tlv(Tag::Sequence, &fields)
    }

    /// As `Display`, with the `pin-source` where there is one: what belongs into a key file.
    pub fn with_pin_source(&self) -> String {
        self.written(true)
    }

    /// Whether it names a token or a slot, by whatever attribute.
    pub fn names_token(&self) -> bool {
        self.slot_id.is_some()
            || [
                &self.token,
                &self.manufacturer,
                &self.model,
                &self.serial,
                &self.slot_description,
                &self.slot_manufacturer,
            ]
            .iter()
            .any(|attribute| attribute.is_some())
    }

    /// Whether it names an object, by whatever attribute.
    pub fn names_object(&self) -> bool {
        self.object.is_some() || self.id.is_some() || self.class.is_some()
    }

    /// Whether its `module-path` and `module-name`, where it has them, are those of this module.
    pub fn fits_module(&self, module: &Path) -> bool {
        let name = module.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.strip_prefix("lib").unwrap_or(&name).split('.').next().unwrap_or_default();
        self.module_path.as_deref().is_none_or(|path| path == module)
            && self.module_name.as_deref().is_none_or(|wanted| wanted == name)
    }

    fn path_attribute(&mut self, name: &str, value: Value) -> Result<(), Error> {
        match name {
            "token" => self.token = Some(value.text(LABEL_BYTES)?),
            "manufacturer" => self.manufacturer = Some(value.text(MANUFACTURER_BYTES)?),
            "model" => self.model = Some(value.text(MODEL_BYTES)?),
            "serial" => self.serial = Some(value.text(SERIAL_BYTES)?),
            "slot-id" => self.slot_id = Some(value.number()?),
            "slot-description" => self.slot_description = Some(value.text(SLOT_DESCRIPTION_BYTES)?),
            "slot-manufacturer" => self.slot_manufacturer = Some(value.text(MANUFACTURER_BYTES)?),
            "object" => self.object = Some(value.text(usize::MAX)?),
            "id" => self.id = Some(value.bytes.to_vec()),
            "type" => self.class = Some(value.class()?),
            "library-manufacturer" | "library-description" | "library-version" => {
                return Err(wrong(&format!(
                    "'{name}' chooses among modules, which the options pkcs11-module of openssl.cnf do here: take it out"
                )));
            }
            "pin-source" | "pin-value" | "module-path" | "module-name" => {
                return Err(wrong(&format!(
                    "'{name}' belongs behind a '?', not among the attributes before it"
                )));
            }
            _ => {
                return unknown(
                    name,
                    "token, manufacturer, model, serial, slot-id, slot-description, slot-manufacturer, object, id, type",
                );
            }
        }
        Ok(())
    }

    fn query_attribute(&mut self, name: &str, value: Value) -> Result<(), Error> {
        match name {
            "pin-source" => self.pin_source = Some(value.pin_source()?),
            "pin-value" => {
                let pin = Pin::new(value.bytes);
                self.pin_value = Some(pin.map_err(|error| wrong(&format!("'pin-value': {error}")))?);
            }
            "module-path" => {
                let path = PathBuf::from(std::ffi::OsString::from_vec(value.bytes.to_vec()));
                if !path.is_absolute() {
                    return Err(wrong("'module-path' is no absolute path"));
                }
                self.module_path = Some(path);
            }
            "module-name" => self.module_name = Some(value.text(usize::MAX)?),
            "token" | "object" | "id" | "type" => {
                return Err(wrong(&format!("'{name}' belongs before the '?', not behind it")));
            }
            // A PIN with an '&' that was not encoded ends up here, as a name.
            _ if self.pin_value.is_some() && !is_somebodys_own(name) => {
                return Err(wrong(
                    "behind 'pin-value' stands no attribute; an '&' in a PIN is written '%26'",
                ));
            }
            _ => return unknown(name, "pin-source, pin-value, module-path, module-name"),
        }
        Ok(())
    }

    fn written(&self, with_pin_source: bool) -> String {
        let slot_id = self.slot_id.map(|id| id.to_string());
        let text = |value: &Option<String>| value.as_ref().map(|value| encoded(value.as_bytes(), ""));
        let path = [
            ("token", text(&self.token)),
            ("manufacturer", text(&self.manufacturer)),
            ("model", text(&self.model)),
            ("serial", text(&self.serial)),
            ("slot-id", slot_id),
            ("slot-description", text(&self.slot_description)),
            ("slot-manufacturer", text(&self.slot_manufacturer)),
            ("object", text(&self.object)),
            ("id", self.id.as_ref().map(|id| id.iter().map(|byte| format!("%{byte:02X}")).collect())),
            ("type", self.class.map(|class| class.name().to_owned())),
        ];
        // '/' may stand in a query (RFC 7512 section 2.3), and ':'.
        let module_path = self.module_path.as_ref().map(|path| encoded(path.as_os_str().as_bytes(), "/"));
        let pin_source = self.pin_source.as_ref().filter(|_| with_pin_source).map(|source| match source {
            PinSource::File(path) => format!("file:{}", encoded(path.as_os_str().as_bytes(), "/")),
            other => encoded(other.to_string().as_bytes(), ":/"),
        });
        let query = [
            ("module-path", module_path),
            ("module-name", text(&self.module_name)),
            ("pin-source", pin_source),
        ];
        let joined = |pairs: &[(&str, Option<String>)], between: &str| -> String {
            let pairs = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
            pairs.collect::<Vec<_>>().join(between)
        };
        let (path, query) = (joined(&path, ";"), joined(&query, "&"));
        let question_mark = if query.is_empty() { "" } else { "?" };
        [SCHEME, &path, question_mark, &query].concat()
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(false))
    }
}

/// A URI's scheme has no case (RFC 3986 section 3.1).
fn strip_scheme(text: &str) -> Option<&str> {
    let scheme = text.get(..SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| &text[SCHEME.len()..])
}

/// The parts of a path or query, of which an empty one has none.
fn parts(component: &str, between: char) -> impl Iterator<Item = &str> {
    component.split(between).filter(move |_| !component.is_empty())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Component {
    Path,
    Query,
}

/// The value of an attribute, percent-decoded.
struct Value<'a> {
    name: &'a str,
    bytes: Zeroizing<Vec<u8>>,
}

/// Takes an attribute apart. Neither the part nor its value gets into an error: it may be a PIN.
fn attribute<'a>(
    part: &'a str,
    component: Component,
    seen: &mut Vec<&'a str>,
) -> Result<(&'a str, Value<'a>), Error> {
    let Some((name, value)) = part.split_once('=') else {
        return Err(wrong("between its separators stands something without a '=', or nothing"));
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err(wrong(
            "the name of an attribute has characters other than letters, digits, '-' and '_', or none",
        ));
    }
    // Section 2.3: only vendors' attributes of the query may come several times.
    if seen.contains(&name) && !(component == Component::Query && is_somebodys_own(name)) {
        return Err(wrong(&format!("'{name}' comes twice")));
    }
    seen.push(name);
    let bytes = decoded(value, component).map_err(|why| wrong(&format!("'{name}' {why}")))?;
    if bytes.is_empty() {
        return Err(wrong(&format!("'{name}' has no value: take it out")));
    }
    Ok((name, Value { name, bytes }))
}

fn is_somebodys_own(name: &str) -> bool {
    name.starts_with("x-")
}

fn unknown(name: &str, known: &str) -> Result<(), Error> {
    if is_somebodys_own(name) {
        return Ok(());
    }
    Err(wrong(&format!("'{name}' is no attribute that can stand there; there are {known}")))
}

impl Value<'_> {
    fn text(&self, longest: usize) -> Result<String, Error> {
        let name = self.name;
        let text = std::str::from_utf8(&self.bytes).map_err(|_| wrong(&format!("'{name}' is not UTF-8")))?;
        if text.contains('\0') {
            return Err(wrong(&format!("'{name}' has a zero byte in it")));
        }
        if text.len() > longest {
            let why = format!(
                "'{name}' has more than the {longest} bytes that PKCS#11 gives it, so nothing fits it"
            );
            return Err(wrong(&why));
        }
        Ok(text.to_owned())
    }

    fn number(&self) -> Result<u64, Error> {
        let text = std::str::from_utf8(&self.bytes).ok();
        let number = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let refused = || wrong(&format!("'{}' is no number in decimal digits", self.name));
        number.and_then(|text| text.parse().ok()).ok_or_else(refused)
    }

    fn class(&self) -> Result<ObjectClass, Error> {
        let classes = [ObjectClass::Private, ObjectClass::Public, ObjectClass::Certificate];
        let found = classes.into_iter().find(|class| class.name().as_bytes() == &self.bytes[..]);
        found.ok_or_else(|| wrong("'type' is none of private, public, cert"))
    }

    fn pin_source(&self) -> Result<PinSource, Error> {
        let source = match self.bytes.first() {
            Some(b'|') => None,
            _ => Some(
                PinSource::parse(&self.text(usize::MAX)?)
                    .map_err(|error| wrong(&format!("'pin-source': {error}")))?,
            ),
        };
        match source {
            None | Some(PinSource::Command(_)) => Err(wrong(
                "'pin-source' is a command, which only openssl.cnf may name: take it out here and set \
                 'pkcs11-pin-source = cmd:COMMAND' in the provider's section",
            )),
            Some(PinSource::Value(_)) => {
                Err(wrong("'pin-source' is a PIN itself: that is what 'pin-value' is for"))
            }
            Some(source) => Ok(source),
        }
    }
}

/// Decodes what stands behind the '='.
fn decoded(value: &str, component: Component) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(value.len()));
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = (bytes.next().and_then(hex_digit), bytes.next().and_then(hex_digit));
            let (Some(high), Some(low)) = digits else {
                return Err(
                    "has a '%' without two hexadecimal digits behind it; a '%' itself is written '%25'",
                );
            };
            decoded.push(high << 4 | low);
        } else if may_stand(byte, component) {
            decoded.push(byte);
        } else if byte == b' ' {
            return Err("has a space in it, which is written '%20'");
        } else {
            return Err("has a character in it that has to be written as '%' and two hexadecimal digits");
        }
    }
    Ok(decoded)
}

/// `pk11-pchar` and `pk11-qchar` of RFC 7512 section 2.3.
fn may_stand(byte: u8, component: Component) -> bool {
    is_unreserved(byte)
        || b":[]@!$'()*+,=".contains(&byte)
        || match component {
            Component::Path => byte == b'&',
            Component::Query => b"/?|".contains(&byte),
        }
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Everything but unreserved characters and those given as '%' and two digits.
fn encoded(bytes: &[u8], plain: &str) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if is_unreserved(byte) || plain.as_bytes().contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// A tag, the length, the value. A URI of four gigabytes, the only thing that DER has no length for here, becomes nothing.
fn tlv(tag: Tag, value: &[u8]) -> Vec<u8> {
    AnyRef::new(tag, value).and_then(|any| any.to_der()).unwrap_or_default()
}

fn wrong(why: &str) -> Error {
    Error::new(ErrorKind::Configuration, format!("wrong PKCS#11 URI: {why} (RFC 7512)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(text: &str) -> Uri {
        Uri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        let error = Uri::parse(text).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Configuration);
        error.to_string()
    }

    #[test]
    fn every_attribute_finds_its_field_decoded() {
        let uri = parse(
            "pkcs11:token=My%20token%25%20%C3%A9;manufacturer=A&B;model=m;serial=s:1;slot-id=42;slot-description=d;\
             slot-manufacturer=sm;object=key=1;id=%00%fFa;type=private?pin-source=file:/etc/pin&module-path=/usr/lib/x.so&\
             module-name=x",
        );
        assert_eq!(uri.token.as_deref(), Some("My token% é"));
        assert_eq!(uri.manufacturer.as_deref(), Some("A&B"));
        assert_eq!((uri.model.as_deref(), uri.serial.as_deref()), (Some("m"), Some("s:1")));
        assert_eq!((uri.slot_id, uri.slot_description.as_deref()), (Some(42), Some("d")));
        assert_eq!(uri.slot_manufacturer.as_deref(), Some("sm"));
        assert_eq!((uri.object.as_deref(), uri.id.as_deref()), (Some("key=1"), Some(&b"\0\xFFa"[..])));
        assert_eq!(uri.class, Some(ObjectClass::Private));
        assert_eq!(uri.pin_source, Some(PinSource::File("/etc/pin".into())));
        assert_eq!(uri.module_path.as_deref(), Some(Path::new("/usr/lib/x.so")));
        assert_eq!(uri.module_name.as_deref(), Some("x"));
    }

    #[test]
    fn the_examples_of_the_rfc_are_read_or_refused_with_their_reason() {
        // Section 3, in its order.
        assert_eq!(parse("pkcs11:"), Uri::default());
        parse("pkcs11:object=my-pubkey;type=public");
        parse("pkcs11:object=my-key;type=private?pin-source=file:/etc/token");
        // There with an empty serial.
        parse(
            "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;\
             object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91?pin-source=file:/etc/token_pin",
        );
        parse("pkcs11:object=my-sign-key;type=private?module-name=mypkcs11");
        parse("pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1");
        parse(
            "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?pin-value=the-pin",
        );
        parse("pkcs11:slot-description=Sun%20Metaslot");
        let library = "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;library-version=1.23";
        assert!(refused(library).contains("chooses among modules"));
        parse("pkcs11:token=My%20token%25%20created%20by%20Joe;id=%01%02%03%Ba%dd%Ca%fe%04%05%06");
        parse("pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate;type=cert");
        // There with a longer name than PKCS#11 has room for.
        parse("pkcs11:token=small%20A%20with%20acute:%20%C3%A1;object=my-certificate;type=cert");
        let vendor = "pkcs11:token=my-token;object=my-certificate;type=cert;vendor-aaa=value-a?pin-source=file:/etc/token_pin&vendor-bbb=value-b";
        assert!(refused(vendor).contains("'vendor-aaa' is no attribute"));
        assert!(refused("pkcs11:object=my-sign-key?pin-source=|/usr/lib/pinomatic").contains("cmd:COMMAND"));
    }

    #[test]
    fn what_begins_with_x_is_passed_over_and_only_in_a_query_may_come_twice() {
        assert_eq!(parse("pkcs11:object=k;x-aaa=1?x-bbb=2&x-bbb=3"), parse("pkcs11:object=k"));
        assert!(refused("pkcs11:x-aaa=1;x-aaa=2").contains("twice"));
    }

    #[test]
    fn a_wrong_uri_is_refused_with_the_attribute_and_the_reason() {
        for (text, why) in [
            ("pkcs12:object=k", "does not begin with 'pkcs11:'"),
            ("", "does not begin"),
            ("pkcs11", "does not begin"),
            ("pkcs11:object", "without a '='"),
            ("pkcs11:object=k;", "or nothing"),
            ("pkcs11:;object=k", "or nothing"),
            ("pkcs11:=k", "name of an attribute"),
            ("pkcs11:obj%65ct=k", "name of an attribute"),
            ("pkcs11:object=a;object=b", "'object' comes twice"),
            ("pkcs11:object=a;id=%01;object=a", "'object' comes twice"),
            ("pkcs11:object=", "'object' has no value"),
            ("pkcs11:object=my key", "'object' has a space in it, which is written '%20'"),
            ("pkcs11:object=a/b", "'object' has a character"),
            ("pkcs11:object=é", "'object' has a character"),
            ("pkcs11:object=%zz", "'object' has a '%'"),
            ("pkcs11:object=%4", "'object' has a '%'"),
            ("pkcs11:object=%", "'object' has a '%'"),
            ("pkcs11:object=%FF", "'object' is not UTF-8"),
            ("pkcs11:object=a%00b", "'object' has a zero byte"),
            ("pkcs11:type=secret-key", "private, public, cert"),
            ("pkcs11:slot-id=+1", "'slot-id' is no number"),
            ("pkcs11:slot-id=0x1", "'slot-id' is no number"),
            ("pkcs11:slot-id=99999999999999999999", "'slot-id' is no number"),
            ("pkcs11:token=123456789012345678901234567890123", "more than the 32 bytes"),
            ("pkcs11:serial=12345678901234567", "more than the 16 bytes"),
            ("pkcs11:Object=k", "'Object' is no attribute"),
            ("pkcs11:objcet=k", "'objcet' is no attribute that can stand there; there are token"),
            ("pkcs11:pin-value=1", "'pin-value' belongs behind a '?'"),
            ("pkcs11:object=k?type=private", "'type' belongs before the '?'"),
            ("pkcs11:object=k?pin-sauce=file:/x", "'pin-sauce' is no attribute"),
            ("pkcs11:object=k?pin-source=file:x", "absolute path"),
            ("pkcs11:object=k?module-path=x.so", "'module-path' is no absolute path"),
            ("pkcs11:object=k?pin-value=1&pin-source=file:/x", "both 'pin-source' and 'pin-value'"),
            ("pkcs11:object=k?pin-source=cmd:x", "only openssl.cnf"),
            ("pkcs11:object=k?pin-source=value:x", "'pin-value' is for"),
            ("pkcs11:object=k?&", "or nothing"),
        ] {
            let said = refused(text);
            assert!(said.contains(why), "{text}: {said} lacks {why}");
        }
    }

    #[test]
    fn no_error_display_or_debug_shows_a_pin() {
        for text in [
            "pkcs11:object=k?pin-value=4711 ",
            "pkcs11:object=k?pin-value=4711;x",
            "pkcs11:object=k?pin-value=4711&pin-value=4711",
            "pkcs11:object=k?pin-value=4711&pin-source=file:/x",
            "pkcs11:object=k?pin-source=4711",
            "pkcs11:object=k?pin-source=value:4711",
            "pkcs11:object=k?4711",
            "pkcs11:object=k?pin-value:4711",
            "pkcs11:object=k?pin-value=4711%00",
            "pkcs11:object=k?pin-value=1&4711=2",
            "pkcs11:pin-value=4711",
        ] {
            assert!(!refused(text).contains("4711"), "{text}");
        }
        let uri = parse("pkcs11:object=k?pin-value=4711");
        assert_eq!(uri.pin_value.as_ref().map(Pin::expose), Some(&b"4711"[..]));
        assert!(!format!("{uri:?} {uri} {}", uri.with_pin_source()).contains("4711"));
    }

    #[test]
    fn there_is_one_canonical_form_without_pins_that_reads_back_the_same() {
        for (text, canonical) in [
            ("PKCS11:id=a%01;object=x%2dy", "pkcs11:object=x-y;id=%61%01"),
            (
                "pkcs11:type=cert;token=a:b%20c?pin-source=file:/p&module-path=/m%20n",
                "pkcs11:token=a%3Ab%20c;type=cert?module-path=/m%20n",
            ),
            ("pkcs11:slot-id=007", "pkcs11:slot-id=7"),
            ("pkcs11:", "pkcs11:"),
        ] {
            let uri = parse(text);
            assert_eq!(uri.to_string(), canonical);
            let again = parse(&uri.with_pin_source());
            assert_eq!(again, uri);
        }
        let uri = parse("pkcs11:object=k?pin-source=cred:hsm%20pin");
        assert_eq!(uri.with_pin_source(), "pkcs11:object=k?pin-source=cred:hsm%20pin");
        let uri = parse("pkcs11:object=k?pin-source=/etc/pin");
        assert_eq!(uri.with_pin_source(), "pkcs11:object=k?pin-source=file:/etc/pin");
    }

    #[test]
    fn a_module_fits_by_its_path_and_by_its_name() {
        let module = Path::new("/usr/lib/softhsm/libsofthsm2.so");
        for (query, fits) in [
            ("", true),
            ("?module-name=softhsm2", true),
            ("?module-name=softhsm", false),
            ("?module-path=/usr/lib/softhsm/libsofthsm2.so", true),
            ("?module-path=/tmp/libsofthsm2.so", false),
            ("?module-path=/usr/lib/softhsm/libsofthsm2.so&module-name=other", false),
        ] {
            assert_eq!(parse(&format!("pkcs11:{query}")).fits_module(module), fits, "{query}");
        }
    }

    #[test]
    fn tokens_and_objects_are_named_by_any_of_their_attributes() {
        assert!(parse("pkcs11:slot-id=1").names_token() && parse("pkcs11:serial=1").names_token());
        assert!(!parse("pkcs11:object=k?pin-source=/p").names_token());
        assert!(parse("pkcs11:id=1").names_object() && !parse("pkcs11:token=t").names_object());
    }

    #[test]
    fn the_pem_block_reads_back_and_is_the_one_that_others_write() {
        let text = "pkcs11:token=t;object=k?pin-source=file:/etc/pin";
        let der = Uri::to_pem_der(text);
        // SEQUENCE, VisibleString of 25 bytes, UTF8String.
        let head = [&[0x30, 25 + 2 + 48 + 2, 0x1A, 25][..], PEM_DESCRIPTION, &[0x0C, 48]].concat();
        assert_eq!(der, [&head, text.as_bytes()].concat());
        assert_eq!(Uri::from_pem_der(&der).unwrap(), Some(parse(text)));
        let long = format!("pkcs11:object={}", "k".repeat(300));
        assert_eq!(Uri::from_pem_der(&Uri::to_pem_der(&long)).unwrap(), Some(parse(&long)));
    }

    #[test]
    fn what_is_no_such_block_is_something_else_and_a_damaged_one_an_error() {
        let der = Uri::to_pem_der("pkcs11:object=k");
        for other in
            [&b""[..], b"0", b"\x30\x00", &der[1..], &der[..der.len() - 1], &[0x30, 3, 0x1A, 1, b'x']]
        {
            assert_eq!(Uri::from_pem_der(other).unwrap(), None, "{other:02x?}");
        }
        let behind = [&der[..], &[0]].concat();
        let no_uri = tlv(Tag::Sequence, &tlv(Tag::VisibleString, PEM_DESCRIPTION));
        let three =
            [tlv(Tag::VisibleString, PEM_DESCRIPTION), tlv(Tag::Utf8String, b"pkcs11:"), tlv(Tag::Null, b"")];
        for damaged in [behind, no_uri, tlv(Tag::Sequence, &three.concat()), Uri::to_pem_der("nothing")] {
            assert_eq!(Uri::from_pem_der(&damaged).unwrap_err().kind(), ErrorKind::Configuration);
        }
    }
}
