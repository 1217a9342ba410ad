//! The options of tokens: lines `name=value`, names also by their number in a table. No panic, no PIN in an error.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use qtls_pkcs11::Config;

const NAMES: [&str; 13] = [
    "pkcs11-module",
    "pkcs11-module-2",
    "pkcs11-token",
    "pkcs11-token-2",
    "pkcs11-token-3",
    "pkcs11-pin-source",
    "pkcs11-pin-source-2",
    "pkcs11-sessions",
    "pkcs11-wait-ms",
    "pkcs11-timeout-ms",
    "pkcs11-software-key",
    "pkcs11-software-key-2",
    "pkcs11-status-dir",
];
/// Nothing else in an option or an error has it.
const PIN: &str = "Zq7-marker";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut options: HashMap<&str, String> = HashMap::new();
    for line in text.lines() {
        match line.split_once('=') {
            Some((name, value)) => options.insert(name, value.to_owned()),
            None => line.split_at_checked(1).and_then(|(name, value)| {
                options.insert(NAMES[usize::from(name.as_bytes()[0]) % NAMES.len()], value.to_owned())
            }),
        };
    }
    let get = |name: &str| options.get(name).map(String::as_str);
    if let Ok(Some(config)) = Config::parse(get) {
        assert!(
            !config.tokens.is_empty()
                && config.sessions > 0
                && config.timeout.is_none_or(|time| !time.is_zero())
        );
        assert!(config.tokens.iter().all(|token| token.module.is_absolute()));
    }
    // A PIN where its source has to stand, with or without its prefix.
    for prefix in ["", "value:", "file:", "PIN:"] {
        options.insert("pkcs11-pin-source", format!("{prefix}{PIN}"));
        let get = |name: &str| options.get(name).map(String::as_str);
        let said = match Config::parse(get) {
            Ok(config) => format!("{config:?}"),
            Err(error) => error.to_string(),
        };
        assert!(!said.contains(PIN), "{said}");
    }
});
