//! Version numbers in the texts programs print.

/// The first `major.minor.patch` in a text; zeros where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32, pub(super) u32);

impl Version {
    /// Finds `1.25.2` in `nginx version: nginx/1.25.2`, and `1.21.4` in `openresty/1.21.4.1`.
    pub(super) fn parse(text: &str) -> Self {
        let candidates = text.split(|character: char| !character.is_ascii_digit() && character != '.');
        candidates.filter_map(Self::exactly).next().unwrap_or(Self(0, 0, 0))
    }

    fn exactly(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|part| part.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??, numbers.next()??))
    }
}

impl PartialEq<(u32, u32, u32)> for Version {
    fn eq(&self, other: &(u32, u32, u32)) -> bool {
        (self.0, self.1, self.2) == *other
    }
}

impl PartialOrd<(u32, u32, u32)> for Version {
    fn partial_cmp(&self, other: &(u32, u32, u32)) -> Option<std::cmp::Ordering> {
        (self.0, self.1, self.2).partial_cmp(other)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_full_version_is_found() {
        assert_eq!(Version::parse("OpenSSL 3.0.19 27 Jan 2026"), (3, 0, 19));
        assert_eq!(Version::parse("nginx version: openresty/1.21.4.1"), (1, 21, 4));
        assert_eq!(Version::parse("BoringSSL"), (0, 0, 0));
        assert!(Version::parse("OpenSSL 3.10.0") > (3, 5, 0));
    }
}
