//! What an `openssl.cnf` says, section by section, the way OpenSSL would walk through it.

use serde::{Deserialize, Serialize};

use crate::libssl::Sections;

/// A parsed configuration file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Configuration {
    /// Keys and values of each section that can be reached from the top.
    pub(super) sections: Sections,
}

/// One line of the section that lists providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProviderEntry {
    /// The name it is registered by: the key, or `identity`.
    pub(super) name: String,
    /// The section with its settings.
    pub(super) section: String,
    /// The settings; none when that section does not exist.
    pub(super) settings: Option<Vec<(String, String)>>,
}

impl ProviderEntry {
    /// The last value of a setting.
    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        let settings = self.settings.as_ref()?;
        settings.iter().rev().find(|(name, _)| skip_dot(name) == key).map(|(_, value)| value.as_str())
    }

    /// The settings, by their plain keys.
    pub(super) fn plain_settings(&self) -> Vec<(String, String)> {
        let plain = |(key, value): &(String, String)| (skip_dot(key).to_owned(), value.clone());
        self.settings.iter().flatten().map(plain).collect()
    }
}

/// OpenSSL's words for yes (`provider_conf_parse_bool_setting`).
pub(super) fn is_yes(value: &str) -> bool {
    matches!(value, "1" | "yes" | "YES" | "true" | "TRUE" | "on" | "ON")
}

/// OpenSSL ignores everything up to the last dot of a key, so that a key can come twice.
fn skip_dot(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

impl Configuration {
    fn section(&self, name: &str) -> Option<&Vec<(String, String)>> {
        self.sections.get(name)
    }

    /// A value in a section, by its plain key.
    pub(super) fn get(&self, section: &str, key: &str) -> Option<&str> {
        let pairs = self.section(section)?;
        pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The key at the top that counts for a program, and the section it names: the program's own, else
    /// `openssl_conf` (`CONF_modules_load`).
    pub(super) fn start(&self, application: Option<&str>) -> Option<(String, String)> {
        let keys = application.into_iter().chain(["openssl_conf"]);
        keys.filter_map(|key| Some((key.to_owned(), self.get("default", key)?.to_owned()))).next()
    }

    /// A value of the section a program starts from.
    fn at_start(&self, application: Option<&str>, key: &str) -> Option<&str> {
        let (_, section) = self.start(application)?;
        let pairs = self.section(&section)?;
        pairs.iter().rev().find(|(name, _)| skip_dot(name) == key).map(|(_, value)| value.as_str())
    }

    /// The providers a program is told to load, in order.
    pub(super) fn providers(&self, application: Option<&str>) -> Vec<ProviderEntry> {
        let section = self.at_start(application, "providers").and_then(|name| self.section(name));
        let entry = |(key, section): &(String, String)| {
            let mut entry = ProviderEntry {
                name: skip_dot(key).to_owned(),
                section: section.clone(),
                settings: self.section(section).cloned(),
            };
            if let Some(identity) = entry.setting("identity") {
                entry.name = identity.to_owned();
            }
            entry
        };
        section.into_iter().flatten().map(entry).collect()
    }

    /// Whether the `providers` key names a section that exists.
    pub(super) fn names_missing_provider_section(&self, application: Option<&str>) -> Option<&str> {
        self.at_start(application, "providers").filter(|name| self.section(name).is_none())
    }

    /// `default_properties` of the algorithm section.
    pub(super) fn default_properties(&self, application: Option<&str>) -> Option<&str> {
        let section = self.at_start(application, "alg_section")?;
        self.get(section, "default_properties")
    }

    /// The list of groups every new context gets: where it stands, and the list.
    pub(super) fn groups(&self, application: Option<&str>) -> Option<(String, String)> {
        let names = self.at_start(application, "ssl_conf")?;
        let section = self.get(names, "system_default")?;
        let is_groups = |key: &str| super::inner::is_groups_command(skip_dot(key));
        let (key, value) = self.section(section)?.iter().rev().find(|(key, _)| is_groups(key))?;
        Some((format!("{key} in [{section}]"), value.clone()))
    }

    /// Whether loading errors are fatal.
    pub(super) fn diagnostics(&self) -> bool {
        let value = self.get("default", "config_diagnostics").and_then(|value| value.parse::<i64>().ok());
        value.is_some_and(|value| value > 0)
    }
}

/// A name in a list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListEntry {
    /// Without the marks.
    pub(super) name: String,
    /// `?name`: ignored where unknown (3.3).
    pub(super) optional: bool,
    /// `-name`: taken out (3.5).
    pub(super) removed: bool,
}

/// The names in a list of groups, with OpenSSL 3.5's marks and tuples; `DEFAULT` stands for names, so is left out.
pub(super) fn names_in_list(list: &str) -> Vec<ListEntry> {
    let names = list.split([':', '/']).map(str::trim).filter(|text| !text.is_empty());
    let entries = names.map(|text| {
        let name = text.trim_start_matches(['?', '*', '-']);
        let marks = &text[..text.len() - name.len()];
        ListEntry { name: name.to_owned(), optional: marks.contains('?'), removed: marks.contains('-') }
    });
    entries.filter(|entry| !entry.name.is_empty() && !entry.name.eq_ignore_ascii_case("DEFAULT")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(text: &[(&str, &[(&str, &str)])]) -> Configuration {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let sections =
            text.iter().map(|(name, pairs)| ((*name).to_owned(), pairs.iter().map(pair).collect()));
        Configuration { sections: sections.collect() }
    }

    #[test]
    fn the_programs_own_section_wins() {
        let file = configuration(&[("default", &[("openssl_conf", "all"), ("nginx", "mine")])]);
        assert_eq!(file.start(Some("nginx")), Some(("nginx".into(), "mine".into())));
        assert_eq!(file.start(None), Some(("openssl_conf".into(), "all".into())));
        assert_eq!(file.start(Some("haproxy")), Some(("openssl_conf".into(), "all".into())));
    }

    #[test]
    fn providers_keep_their_order_and_their_identity() {
        let file = configuration(&[
            ("default", &[("openssl_conf", "init")]),
            ("init", &[("providers", "list")]),
            ("list", &[("default", "d"), ("1.x", "q")]),
            ("d", &[("activate", "1")]),
            ("q", &[("identity", "qtls"), ("module", "/m.so")]),
        ]);
        let providers = file.providers(None);
        assert_eq!(
            providers.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(),
            ["default", "qtls"]
        );
        assert_eq!((providers[0].setting("activate"), providers[1].setting("activate")), (Some("1"), None));
    }

    #[test]
    fn marks_and_tuples_of_a_list_are_taken_off() {
        let entries = names_in_list("?*X25519MLKEM768 / P-256:-X448:DEFAULT");
        assert_eq!(entries.len(), 3);
        assert!(entries[0].optional && entries[0].name == "X25519MLKEM768");
        assert!(entries[2].removed && entries[2].name == "X448");
    }
}
