//! The six groups that the product offers, and what each looks like on the wire.

use anyhow::{Context, Result};
use rustls::crypto::{SupportedKxGroup, aws_lc_rs::kx_group};

/// One TLS 1.3 group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// OpenSSL's name for it.
    pub name: &'static str,
    /// IANA's TLS Supported Groups code point.
    pub code_point: u16,
    /// The curve of its classical half, none for pure ML-KEM.
    pub classical: Option<Curve>,
    /// Bytes of the ML-KEM encapsulation key in the client's share.
    pub mlkem_key: usize,
}

/// The classical half of a hybrid group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// RFC 7748; 32 bytes.
    X25519,
    /// NIST P-256; an uncompressed point of 65 bytes.
    P256,
    /// NIST P-384; an uncompressed point of 97 bytes.
    P384,
}

/// Every group of the product.
pub const GROUPS: [Group; 6] = [
    Group { name: "X25519MLKEM768", code_point: 0x11ec, classical: Some(Curve::X25519), mlkem_key: 1184 },
    Group { name: "SecP256r1MLKEM768", code_point: 0x11eb, classical: Some(Curve::P256), mlkem_key: 1184 },
    Group { name: "SecP384r1MLKEM1024", code_point: 0x11ed, classical: Some(Curve::P384), mlkem_key: 1568 },
    Group { name: "MLKEM512", code_point: 0x0200, classical: None, mlkem_key: 800 },
    Group { name: "MLKEM768", code_point: 0x0201, classical: None, mlkem_key: 1184 },
    Group { name: "MLKEM1024", code_point: 0x0202, classical: None, mlkem_key: 1568 },
];

impl Curve {
    /// Bytes of this curve's public value in a share.
    pub fn share_length(self) -> usize {
        match self {
            Curve::X25519 => 32,
            Curve::P256 => 65,
            Curve::P384 => 97,
        }
    }
}

impl Group {
    /// The group of that name.
    ///
    /// # Panics
    /// When the product has no such group: the test itself is wrong then.
    pub fn named(name: &str) -> Group {
        *GROUPS.iter().find(|group| group.name == name).expect("a group of the product")
    }

    /// Bytes of a client's share.
    pub fn client_share_length(&self) -> usize {
        self.mlkem_key + self.classical.map_or(0, Curve::share_length)
    }

    /// Where the ML-KEM key begins in a client's share: X25519MLKEM768 has it first, the NIST hybrids last
    /// (draft-ietf-tls-ecdhe-mlkem, section 3.1).
    pub fn mlkem_offset(&self) -> usize {
        match self.classical {
            None | Some(Curve::X25519) => 0,
            Some(curve) => curve.share_length(),
        }
    }

    /// Where the classical public value begins in a client's share.
    pub fn classical_offset(&self) -> Option<usize> {
        self.classical.map(|curve| if curve == Curve::X25519 { self.mlkem_key } else { 0 })
    }

    /// rustls' implementation; it has four of the six.
    pub fn rustls(&self) -> Option<&'static dyn SupportedKxGroup> {
        rustls_group(self.name).ok()
    }
}

/// rustls' implementation of a group by OpenSSL's name, classical ones too.
pub fn rustls_group(name: &str) -> Result<&'static dyn SupportedKxGroup> {
    Ok(match name {
        "X25519MLKEM768" => kx_group::X25519MLKEM768,
        "SecP256r1MLKEM768" => kx_group::SECP256R1MLKEM768,
        "MLKEM768" => kx_group::MLKEM768,
        "MLKEM1024" => kx_group::MLKEM1024,
        "X25519" => kx_group::X25519,
        "P-256" => kx_group::SECP256R1,
        "P-384" => kx_group::SECP384R1,
        _ => {
            return Err(anyhow::anyhow!("no such key exchange"))
                .context(format!("rustls has no group {name}"));
        }
    })
}

/// OpenSSL's name for what a server reports: nginx prints provider groups as `0x11ec` before 1.27.5, OpenSSL
/// 3.5 and later print some names in lower case.
pub fn canonical_name(reported: &str) -> String {
    let classical = ["X25519", "P-256", "P-384"];
    if let Some(digits) = reported.strip_prefix("0x")
        && let Ok(code_point) = u16::from_str_radix(digits, 16)
        && let Some(group) = GROUPS.iter().find(|group| group.code_point == code_point)
    {
        return group.name.to_owned();
    }
    match reported {
        "prime256v1" | "secp256r1" => return "P-256".to_owned(),
        "secp384r1" => return "P-384".to_owned(),
        _ => {}
    }
    let ours = GROUPS.iter().map(|group| group.name).chain(classical);
    ours.into_iter()
        .find(|name| name.eq_ignore_ascii_case(reported))
        .map_or_else(|| reported.to_owned(), str::to_owned)
}

/// The name of a code point, in hexadecimal when it is none of ours.
pub fn name_of(code_point: u16) -> String {
    match code_point {
        0x001d => "X25519".to_owned(),
        0x0017 => "P-256".to_owned(),
        0x0018 => "P-384".to_owned(),
        _ => canonical_name(&format!("0x{code_point:04x}")),
    }
}
