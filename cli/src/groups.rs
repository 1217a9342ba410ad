//! The key-exchange groups this tool knows: the post-quantum ones from `qtls-crypto`'s table, the classical ones of
//! TLS, and which of them it can do a handshake with.

use std::sync::LazyLock;

use anyhow::{Context, bail};
use qtls_crypto::{KEM_ALGORITHMS, KemAlgorithm, OBSOLETE_GROUPS, kem_by_name};
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::ALL_KX_GROUPS;
use serde::Serialize;

use crate::kem_group::KemGroup;

/// What a group protects against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A classical curve and ML-KEM together.
    Hybrid,
    /// ML-KEM alone.
    PureMlKem,
    /// A hybrid from before the standard; recognised, never offered in a handshake.
    Obsolete,
    /// A hybrid outside of the standards this project follows; recognised, never offered in a handshake.
    OtherHybrid,
    /// Elliptic curve or finite field, broken by a quantum computer.
    Classical,
}

impl Kind {
    /// Whether today's recordings stay secret from a quantum computer.
    pub fn is_post_quantum(self) -> bool {
        matches!(self, Self::Hybrid | Self::PureMlKem | Self::OtherHybrid)
    }

    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Hybrid | Self::OtherHybrid => "hybrid",
            Self::PureMlKem => "pure ML-KEM",
            Self::Obsolete => "obsolete draft",
            Self::Classical => "classical",
        }
    }
}

/// One group as TLS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name as libssl and the IANA registry write it.
    pub name: &'static str,
    /// `NamedGroup` code point.
    pub code_point: u16,
    /// What it protects against.
    pub kind: Kind,
}

/// Groups without a row in `qtls-crypto`'s table (IANA registry "TLS Supported Groups").
const FURTHER_GROUPS: [Group; 8] = [
    Group { name: "curveSM2MLKEM768", code_point: 0x11EE, kind: Kind::OtherHybrid },
    Group { name: "X25519", code_point: 0x001D, kind: Kind::Classical },
    Group { name: "secp256r1", code_point: 0x0017, kind: Kind::Classical },
    Group { name: "secp384r1", code_point: 0x0018, kind: Kind::Classical },
    Group { name: "secp521r1", code_point: 0x0019, kind: Kind::Classical },
    Group { name: "X448", code_point: 0x001E, kind: Kind::Classical },
    Group { name: "ffdhe2048", code_point: 0x0100, kind: Kind::Classical },
    Group { name: "ffdhe3072", code_point: 0x0101, kind: Kind::Classical },
];

/// Further spellings of the classical groups, as OpenSSL and its users write them.
const CLASSICAL_ALIASES: [(&str, u16); 4] =
    [("P-256", 0x0017), ("prime256v1", 0x0017), ("P-384", 0x0018), ("P-521", 0x0019)];

/// Every group known, post-quantum first, in the order of preference.
pub fn known_groups() -> Vec<Group> {
    let table = KEM_ALGORITHMS.iter().map(from_table);
    let obsolete = OBSOLETE_GROUPS.map(|(name, code_point)| Group { name, code_point, kind: Kind::Obsolete });
    let (other_hybrids, classical): (Vec<_>, Vec<_>) =
        FURTHER_GROUPS.into_iter().partition(|group| group.kind == Kind::OtherHybrid);
    table.chain(other_hybrids).chain(obsolete).chain(classical).collect()
}

fn from_table(algorithm: &KemAlgorithm) -> Group {
    let kind = if algorithm.curve.is_some() { Kind::Hybrid } else { Kind::PureMlKem };
    Group { name: algorithm.group_name, code_point: algorithm.group_id, kind }
}

/// The group with this code point, if known.
pub fn by_code_point(code_point: u16) -> Option<Group> {
    known_groups().into_iter().find(|group| group.code_point == code_point)
}

/// A name for any code point: `X25519MLKEM768`, or `0xABCD` when unknown.
pub fn name_of(code_point: u16) -> String {
    by_code_point(code_point).map_or_else(|| format!("0x{code_point:04X}"), |group| group.name.to_owned())
}

/// The group of this name, alias or hexadecimal code point; case does not matter.
fn by_name(name: &str) -> Option<Group> {
    if let Some(algorithm) = kem_by_name(name) {
        return Some(from_table(algorithm));
    }
    let by_alias =
        CLASSICAL_ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name)).map(|(_, id)| *id);
    let by_number = name.strip_prefix("0x").and_then(|digits| u16::from_str_radix(digits, 16).ok());
    match by_alias.or(by_number) {
        Some(code_point) => by_code_point(code_point),
        None => known_groups().into_iter().find(|group| group.name.eq_ignore_ascii_case(name)),
    }
}

/// What this tool offers when not told otherwise: strongest first, the classical ones that rustls has at the end.
pub fn default_offer() -> Vec<Group> {
    known_groups().into_iter().filter(|group| key_exchange(group.code_point).is_some()).collect()
}

/// Reads a list of group names separated by commas or colons, such as `X25519MLKEM768:X25519`.
///
/// # Errors
/// Names the entry that is not a group, or that this tool cannot do a handshake with, and lists those it can.
pub fn parse_list(list: &str) -> anyhow::Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for name in list.split([',', ':']).map(str::trim).filter(|name| !name.is_empty()) {
        let group = by_name(name).with_context(|| {
            format!("no group is called \"{name}\"; known here: {}", names(&default_offer()))
        })?;
        if key_exchange(group.code_point).is_none() {
            bail!(
                "no handshake can be made here with {}, it can only be asked about (qtls probe lists it); choose \
                 from {}",
                group.name,
                names(&default_offer())
            );
        }
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        bail!("the list of groups is empty; choose from {}", names(&default_offer()));
    }
    Ok(groups)
}

fn names(groups: &[Group]) -> String {
    groups.iter().map(|group| group.name).collect::<Vec<_>>().join(", ")
}

/// The key exchange behind a group: rustls' own where it has one, else `qtls-crypto`'s second backend, which is
/// independent of the library that `qtls.so` uses.
pub fn key_exchange(code_point: u16) -> Option<&'static dyn SupportedKxGroup> {
    static OWN: LazyLock<Vec<KemGroup>> =
        LazyLock::new(|| KEM_ALGORITHMS.iter().map(KemGroup::new).collect());

    let own = OWN.iter().map(|group| group as &dyn SupportedKxGroup);
    ALL_KX_GROUPS.iter().copied().chain(own).find(|group| u16::from(group.name()) == code_point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_of_the_table_can_be_negotiated() {
        for algorithm in &KEM_ALGORITHMS {
            let group = key_exchange(algorithm.group_id).expect(algorithm.group_name);
            assert_eq!(u16::from(group.name()), algorithm.group_id);
        }
    }

    #[test]
    fn code_points_and_names_are_unique() {
        let groups = known_groups();
        for (index, group) in groups.iter().enumerate() {
            for other in &groups[index + 1..] {
                assert_ne!(group.code_point, other.code_point, "{} {}", group.name, other.name);
                assert!(!group.name.eq_ignore_ascii_case(other.name));
            }
        }
    }

    #[test]
    fn lists_take_aliases_any_case_and_both_separators() {
        let groups = parse_list("x25519mlkem768:p256_kyber768, P-256:prime256v1,0x0202").unwrap();
        let names: Vec<_> = groups.iter().map(|group| group.name).collect();
        assert_eq!(names, ["X25519MLKEM768", "SecP256r1MLKEM768", "secp256r1", "MLKEM1024"]);
    }

    #[test]
    fn a_wrong_list_is_refused_with_the_name_that_is_wrong() {
        assert!(parse_list("X25519MLKEM786").unwrap_err().to_string().contains("\"X25519MLKEM786\""));
        assert!(
            parse_list("X448").unwrap_err().to_string().contains("no handshake can be made here with X448")
        );
        assert!(parse_list("X25519Kyber768Draft00").is_err());
        assert!(parse_list(" , ").unwrap_err().to_string().contains("empty"));
    }

    #[test]
    fn an_unknown_code_point_is_shown_as_a_number() {
        assert_eq!(name_of(0xFAFA), "0xFAFA");
        assert_eq!(name_of(0x11EC), "X25519MLKEM768");
    }
}
