//! Objects in a token: finding keys, reading public keys, making key pairs.

use crate::hsm::{Certificate, GenerateType};
use crate::key::{EcCurve, PublicKey};
use crate::raw::{self, Template, ulong};
use crate::token::{Session, Trouble};
use crate::{Error, ErrorKind, ObjectClass, Uri, encoding};
use cryptoki_sys::*;
use encoding::{Fields, tag};
use qtls_crypto::{SIGNATURE_ALGORITHMS, SignatureAlgorithm};

/// What objects are looked for by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) label: Option<String>,
    pub(crate) id: Option<Vec<u8>>,
}

impl Wanted {
    pub(crate) fn of(uri: &Uri) -> Self {
        Self { label: uri.object.clone(), id: uri.id.clone() }
    }

    fn template(&self, class: CK_OBJECT_CLASS) -> Template {
        let mut template = vec![(CKA_CLASS, ulong(class))];
        template.extend(self.id.iter().map(|id| (CKA_ID, id.clone())));
        template.extend(self.label.iter().map(|label| (CKA_LABEL, label.clone().into_bytes())));
        template
    }
}

/// A private key that may sign.
pub(crate) struct PrivateKeyObject {
    pub(crate) handle: CK_OBJECT_HANDLE,
    kind: CK_KEY_TYPE,
    id: Vec<u8>,
    label: String,
}

/// An object, for people.
pub(crate) struct Listed {
    pub(crate) class: ObjectClass,
    pub(crate) label: String,
    pub(crate) id: Vec<u8>,
    pub(crate) description: String,
}

/// So many objects does an error list.
const MOST_LISTED: usize = 20;

/// The private key that is wanted. Where there is none, or several, the error says so; with `listing`, it lists what there is.
///
/// # Errors
/// [`ErrorKind::Object`]; [`ErrorKind::Unsupported`] for a key that must not or cannot sign for a server.
pub(crate) fn one_private_key(
    session: &mut Session<'_>,
    wanted: &Wanted,
    listing: bool,
) -> Result<PrivateKeyObject, Trouble> {
    let found = session.find(wanted.template(CKO_PRIVATE_KEY))?;
    match found[..] {
        [handle] => read_private_key(session, handle),
        [] => {
            let token = session.token().name();
            let pin = if session.token().has_pin() {
                ""
            } else {
                "; no PIN is configured (pkcs11-pin-source), without which most tokens show no private key"
            };
            let there = list_for_error(session, listing)?;
            Err(Trouble::last(
                ErrorKind::Object,
                format!("there is no such private key in {token}{pin}{there}"),
            ))
        }
        _ => {
            let token = session.token().name();
            let there = list_for_error(session, listing)?;
            let count = found.len();
            let text = format!(
                "{count} private keys in {token} match: name one alone, by its 'id' and 'object'{there}"
            );
            Err(Trouble::last(ErrorKind::Object, text))
        }
    }
}

/// The public half: from the private object itself, a public key object or a certificate that belongs to it.
pub(crate) fn public_key_of(
    session: &mut Session<'_>,
    private: &PrivateKeyObject,
) -> Result<Option<PublicKey>, Trouble> {
    if let Some(own) = own_public_key(session, private)? {
        return Ok(Some(own));
    }
    // The same CKA_ID is what binds the halves together (PKCS#11 3.2 section 4.9); a label is second best.
    let by_id = (!private.id.is_empty()).then(|| Wanted { id: Some(private.id.clone()), label: None });
    let by_label =
        (!private.label.is_empty()).then(|| Wanted { id: None, label: Some(private.label.clone()) });
    for class in [CKO_PUBLIC_KEY, CKO_CERTIFICATE] {
        for wanted in [&by_id, &by_label].into_iter().flatten() {
            let mut keys: Vec<PublicKey> = Vec::new();
            for handle in session.find(wanted.template(class))? {
                let key = if class == CKO_PUBLIC_KEY {
                    read_public_key(session, handle)?
                } else {
                    certificate_key(session, handle)?
                };
                keys.extend(key.filter(|key| key_kind(key) == private.kind));
            }
            keys.dedup();
            match keys.len() {
                0 => {}
                1 => return Ok(keys.pop()),
                count => {
                    let token = session.token().name();
                    let text = format!(
                        "{count} different public keys in {token} may belong to the private key '{}' (id {}): give each pair a \
                         CKA_ID of its own",
                        private.label,
                        hexadecimal(&private.id)
                    );
                    return Err(Trouble::last(ErrorKind::Object, text));
                }
            }
        }
    }
    Ok(None)
}

/// Public keys by public objects; those of other types are left out.
pub(crate) fn public_keys(session: &mut Session<'_>, wanted: &Wanted) -> Result<Vec<PublicKey>, Trouble> {
    let mut keys = Vec::new();
    for handle in session.find(wanted.template(CKO_PUBLIC_KEY))? {
        keys.extend(read_public_key(session, handle)?);
    }
    Ok(keys)
}

pub(crate) fn certificates(session: &mut Session<'_>, wanted: &Wanted) -> Result<Vec<Certificate>, Trouble> {
    let mut template = wanted.template(CKO_CERTIFICATE);
    template.push((CKA_CERTIFICATE_TYPE, ulong(CKC_X_509)));
    let mut certificates = Vec::new();
    for handle in session.find(template)? {
        let [label, value] = attributes(session, handle, &[CKA_LABEL, CKA_VALUE])?;
        if let Some(der) = value.filter(|der| !der.is_empty()) {
            certificates.push(Certificate { label: text(label), der });
        }
    }
    Ok(certificates)
}

/// Keys and certificates in the token.
pub(crate) fn list(
    session: &mut Session<'_>,
    wanted: &Wanted,
    class: Option<ObjectClass>,
) -> Result<Vec<Listed>, Trouble> {
    let mut listed = Vec::new();
    let classes = [
        (ObjectClass::Private, CKO_PRIVATE_KEY),
        (ObjectClass::Public, CKO_PUBLIC_KEY),
        (ObjectClass::Certificate, CKO_CERTIFICATE),
    ];
    for (class, number) in classes.into_iter().filter(|(this, _)| class.is_none_or(|class| class == *this)) {
        for handle in session.find(wanted.template(number))? {
            let [label, id] = attributes(session, handle, &[CKA_LABEL, CKA_ID])?;
            let description = match class {
                ObjectClass::Certificate => match certificate_key(session, handle)? {
                    Some(key) => format!("certificate of {}", key.key_type()),
                    None => "certificate".to_owned(),
                },
                _ => describe_key(session, handle)?,
            };
            listed.push(Listed { class, label: text(label), id: id.unwrap_or_default(), description });
        }
    }
    Ok(listed)
}

/// Makes a key pair, unless something with the same label or id is there.
pub(crate) fn generate(
    session: &mut Session<'_>,
    kind: GenerateType,
    label: Option<&str>,
    id: &[u8],
) -> Result<(), Trouble> {
    let by_label = label.map(|label| Wanted { id: None, label: Some(label.to_owned()) });
    let by_id = Wanted { id: Some(id.to_vec()), label: None };
    for wanted in by_label.iter().chain([&by_id]) {
        for class in [CKO_PRIVATE_KEY, CKO_PUBLIC_KEY] {
            if !session.find(wanted.template(class))?.is_empty() {
                let token = session.token().name();
                let text = format!(
                    "{token} holds a key with this 'object' or 'id' already: take others, or delete it by the token's own tool"
                );
                return Err(Trouble::last(ErrorKind::Object, text));
            }
        }
    }
    let (mechanism, key_type, parameters) = match kind {
        GenerateType::Rsa(bits) => {
            let exponent = (CKA_PUBLIC_EXPONENT, vec![1, 0, 1]);
            (CKM_RSA_PKCS_KEY_PAIR_GEN, CKK_RSA, vec![(CKA_MODULUS_BITS, ulong(bits.into())), exponent])
        }
        GenerateType::Ec(curve) => {
            (CKM_EC_KEY_PAIR_GEN, CKK_EC, vec![(CKA_EC_PARAMS, curve.oid_der().to_vec())])
        }
        GenerateType::MlDsa(algorithm) => {
            let set = parameter_set(algorithm).ok_or_else(|| {
                Trouble::last(
                    ErrorKind::Unsupported,
                    format!("tokens have no keys of type {}", algorithm.name),
                )
            })?;
            (CKM_ML_DSA_KEY_PAIR_GEN, CKK_ML_DSA, vec![(CKA_PARAMETER_SET, ulong(set))])
        }
    };
    let yes = || vec![CK_TRUE];
    let mut both = vec![(CKA_TOKEN, yes()), (CKA_KEY_TYPE, ulong(key_type)), (CKA_ID, id.to_vec())];
    both.extend(label.map(|label| (CKA_LABEL, label.as_bytes().to_vec())));
    let mut public = both.clone();
    public.extend([(CKA_CLASS, ulong(CKO_PUBLIC_KEY)), (CKA_VERIFY, yes()), (CKA_PRIVATE, vec![CK_FALSE])]);
    public.extend(parameters);
    let mut private = both;
    private.extend([
        (CKA_CLASS, ulong(CKO_PRIVATE_KEY)),
        (CKA_PRIVATE, yes()),
        (CKA_SENSITIVE, yes()),
        (CKA_EXTRACTABLE, vec![CK_FALSE]),
        (CKA_SIGN, yes()),
    ]);
    session.generate_key_pair(mechanism, public, private).map(drop)
}

/// A CKA_ID that no other key has.
pub(crate) fn random_id() -> Result<Vec<u8>, Error> {
    let mut id = vec![0; 16];
    raw::random_bytes(&mut id).map_err(|error| {
        Error::new(ErrorKind::Configuration, format!("the system gives no random bytes: {error}"))
    })?;
    Ok(id)
}

fn read_private_key(
    session: &mut Session<'_>,
    handle: CK_OBJECT_HANDLE,
) -> Result<PrivateKeyObject, Trouble> {
    let types =
        &[CKA_KEY_TYPE, CKA_ID, CKA_LABEL, CKA_SIGN, CKA_ALWAYS_AUTHENTICATE, CKA_EC_PARAMS, CKA_MODULUS];
    let [kind, id, label, signs, always, curve, modulus] = attributes(session, handle, types)?;
    let kind = number(kind.as_deref()).unwrap_or(CK_UNAVAILABLE_INFORMATION);
    let refuse = |why: &str| {
        let text = format!("the private key '{}' in {} {why}", text(label.clone()), session.token().name());
        Err(Trouble::last(ErrorKind::Unsupported, text))
    };
    if always.as_deref().is_some_and(is_true) {
        return refuse(
            "asks for its PIN before each signature (CKA_ALWAYS_AUTHENTICATE), which a server cannot give: make a key without it",
        );
    }
    if signs.as_deref().is_some_and(|value| !is_true(value)) {
        return refuse("must not sign (CKA_SIGN is false): make a key that may");
    }
    match kind {
        CKK_RSA if modulus.as_deref().is_some_and(|modulus| !PublicKey::takes_modulus(modulus)) => {
            return refuse("has another length than RSA may have here: 2,048 to 16,384 bits");
        }
        CKK_RSA | CKK_ML_DSA => {}
        CKK_EC if curve.as_deref().is_none_or(|parameters| curve_of(parameters).is_some()) => {}
        CKK_EC => return refuse("is on another curve than P-256 and P-384"),
        _ => return refuse("is none of RSA, EC and ML-DSA"),
    }
    Ok(PrivateKeyObject { handle, kind, id: id.unwrap_or_default(), label: text(label) })
}

/// The public half that a private object shows itself.
fn own_public_key(
    session: &mut Session<'_>,
    private: &PrivateKeyObject,
) -> Result<Option<PublicKey>, Trouble> {
    let [info] = attributes(session, private.handle, &[CKA_PUBLIC_KEY_INFO])?;
    if let Some(key) = info.and_then(|info| PublicKey::from_spki_der(&info).ok()) {
        return Ok(Some(key));
    }
    match private.kind {
        CKK_RSA | CKK_EC => read_public_key(session, private.handle),
        // CKA_VALUE would be the private key.
        _ => Ok(None),
    }
}

/// A public key's attributes; none where it is of another type, or does not show them.
fn read_public_key(
    session: &mut Session<'_>,
    handle: CK_OBJECT_HANDLE,
) -> Result<Option<PublicKey>, Trouble> {
    let [kind] = attributes(session, handle, &[CKA_KEY_TYPE])?;
    match number(kind.as_deref()) {
        Some(CKK_RSA) => {
            let [modulus, exponent] = attributes(session, handle, &[CKA_MODULUS, CKA_PUBLIC_EXPONENT])?;
            Ok(modulus.zip(exponent).and_then(|(modulus, exponent)| PublicKey::rsa(&modulus, &exponent)))
        }
        Some(CKK_EC) => {
            let [parameters, point] = attributes(session, handle, &[CKA_EC_PARAMS, CKA_EC_POINT])?;
            Ok(parameters.zip(point).and_then(|(parameters, point)| {
                let curve = curve_of(&parameters)?;
                // An OCTET STRING by the standard, and the bare point by older modules.
                let inside = Fields::new(&point).value(tag::OCTET_STRING);
                inside.and_then(|point| PublicKey::ec(curve, point)).or_else(|| PublicKey::ec(curve, &point))
            }))
        }
        Some(CKK_ML_DSA) => {
            let [set, value] = attributes(session, handle, &[CKA_PARAMETER_SET, CKA_VALUE])?;
            Ok(number(set.as_deref())
                .zip(value)
                .and_then(|(set, value)| PublicKey::ml_dsa(algorithm_of(set)?, &value)))
        }
        _ => Ok(None),
    }
}

fn certificate_key(
    session: &mut Session<'_>,
    handle: CK_OBJECT_HANDLE,
) -> Result<Option<PublicKey>, Trouble> {
    let [value] = attributes(session, handle, &[CKA_VALUE])?;
    let value = value.unwrap_or_default();
    Ok(encoding::certificate_public_key(&value).and_then(|info| PublicKey::from_spki_der(info).ok()))
}

fn describe_key(session: &mut Session<'_>, handle: CK_OBJECT_HANDLE) -> Result<String, Trouble> {
    let types = &[CKA_KEY_TYPE, CKA_MODULUS, CKA_EC_PARAMS, CKA_PARAMETER_SET];
    let [kind, modulus, curve, set] = attributes(session, handle, types)?;
    Ok(match number(kind.as_deref()) {
        Some(CKK_RSA) => match modulus {
            Some(modulus) => format!("RSA {}", 8 * encoding::without_leading_zeros(&modulus).len()),
            None => "RSA".to_owned(),
        },
        Some(CKK_EC) => match curve.as_deref().and_then(curve_of) {
            Some(curve) => format!("EC {curve}"),
            None => "EC on another curve".to_owned(),
        },
        Some(CKK_ML_DSA) => match number(set.as_deref()).and_then(algorithm_of) {
            Some(algorithm) => algorithm.name.to_owned(),
            None => "ML-DSA".to_owned(),
        },
        Some(other) => format!("key of PKCS#11 type {other:#x}"),
        None => "key".to_owned(),
    })
}

fn list_for_error(session: &mut Session<'_>, listing: bool) -> Result<String, Trouble> {
    if !listing {
        return Ok(String::new());
    }
    let all = list(session, &Wanted::default(), None)?;
    let shown: Vec<String> = all
        .iter()
        .take(MOST_LISTED)
        .map(|object| {
            let class = match object.class {
                ObjectClass::Private => "private key",
                ObjectClass::Public => "public key",
                ObjectClass::Certificate => "certificate",
            };
            format!("{class} '{}' (id {}, {})", object.label, hexadecimal(&object.id), object.description)
        })
        .collect();
    Ok(match all.len() {
        0 => "; it shows no keys and certificates".to_owned(),
        count if count > MOST_LISTED => {
            format!("; it shows {}, and {} more", shown.join(", "), count - MOST_LISTED)
        }
        _ => format!("; it shows {}", shown.join(", ")),
    })
}

fn attributes<const N: usize>(
    session: &mut Session<'_>,
    handle: CK_OBJECT_HANDLE,
    types: &'static [CK_ATTRIBUTE_TYPE; N],
) -> Result<[Option<Vec<u8>>; N], Trouble> {
    let values = session.attributes(handle, types)?;
    Ok(values.try_into().unwrap_or([const { None }; N]))
}

fn key_kind(key: &PublicKey) -> CK_KEY_TYPE {
    match key {
        PublicKey::Rsa { .. } => CKK_RSA,
        PublicKey::Ec { .. } => CKK_EC,
        PublicKey::MlDsa { .. } => CKK_ML_DSA,
    }
}

/// CKA_EC_PARAMS: an object identifier, or a name (PKCS#11 3.2 section 6.3.3).
fn curve_of(parameters: &[u8]) -> Option<EcCurve> {
    let name = Fields::new(parameters).value(tag::PRINTABLE_STRING);
    match name {
        Some(b"secp256r1" | b"prime256v1" | b"P-256") => Some(EcCurve::P256),
        Some(b"secp384r1" | b"P-384") => Some(EcCurve::P384),
        _ => EcCurve::ALL.into_iter().find(|curve| curve.oid_der() == parameters),
    }
}

/// CK_ML_DSA_PARAMETER_SET_TYPE of a row without a composite.
fn parameter_set(algorithm: &SignatureAlgorithm) -> Option<CK_ULONG> {
    let number = match algorithm.name {
        "ML-DSA-44" => CKP_ML_DSA_44,
        "ML-DSA-65" => CKP_ML_DSA_65,
        "ML-DSA-87" => CKP_ML_DSA_87,
        _ => return None,
    };
    Some(number)
}

fn algorithm_of(set: CK_ULONG) -> Option<&'static SignatureAlgorithm> {
    SIGNATURE_ALGORITHMS.iter().find(|algorithm| parameter_set(algorithm) == Some(set))
}

fn number(value: Option<&[u8]>) -> Option<CK_ULONG> {
    Some(CK_ULONG::from_ne_bytes(value?.try_into().ok()?))
}

fn is_true(value: &[u8]) -> bool {
    value.first().is_some_and(|byte| *byte != CK_FALSE)
}

fn text(value: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_known_by_object_identifier_and_by_name() {
        for curve in EcCurve::ALL {
            assert_eq!(curve_of(curve.oid_der()), Some(curve));
        }
        assert_eq!(curve_of(&encoding::tlv(tag::PRINTABLE_STRING, &[b"secp384r1"])), Some(EcCurve::P384));
        assert_eq!(curve_of(&[6, 5, 0x2B, 0x81, 4, 0, 0x23]), None, "P-521");
    }

    #[test]
    fn parameter_sets_name_rows_without_composites() {
        for (set, name) in [(1, "ML-DSA-44"), (2, "ML-DSA-65"), (3, "ML-DSA-87")] {
            assert_eq!(algorithm_of(set).map(|row| row.name), Some(name));
        }
        assert!(algorithm_of(4).is_none());
    }
}
