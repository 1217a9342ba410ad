//! PKCS#11 URIs (RFC 7512).

use crate::Error;
use crate::pin::{Pin, PinSource};

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
    pub module_path: Option<std::path::PathBuf>,
    /// `pin-source`.
    pub pin_source: Option<PinSource>,
    /// `pin-value`.
    pub pin_value: Option<Pin>,
}

impl Uri {
    /// Reads a URI.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Configuration`], which names the attribute and what is wrong with it, and never shows a PIN.
    pub fn parse(_text: &str) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Reads the PEM block `PKCS#11 PROVIDER URI`'s content: `SEQUENCE { VisibleString "PKCS#11 Provider URI v1.0", UTF8String uri }`
    /// in DER. `None`: it is something else.
    ///
    /// # Errors
    /// It is such a structure, with a wrong URI.
    pub fn from_pem_der(_der: &[u8]) -> Result<Option<Self>, Error> {
        unimplemented!()
    }

    /// Writes that content. `text` is the URI as it is to stand there, with its `pin-source`.
    pub fn to_pem_der(_text: &str) -> Vec<u8> {
        unimplemented!()
    }
}

impl std::fmt::Display for Uri {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        unimplemented!()
    }
}
