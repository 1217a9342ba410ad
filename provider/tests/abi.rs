//! Our own declarations of OpenSSL's binary interface, compared by a C compiler with the headers of every version at
//! hand.

#[path = "common/headers.rs"]
mod headers;

use headers::{compile, include_of, openssl_headers};
use qtls::ffi::abi::{self, Algorithm, Dispatch, Item, NAMES, NUMBERS, Param};
use qtls_tests::platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, OPENSSL_3_0_2, OPENSSL_3_4_1, OPENSSL_4_0};
use std::fmt::Write;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

/// The C names of a structure's size and fields, each with what Rust says of them.
fn layouts() -> Vec<(String, usize)> {
    let mut layouts = Vec::new();
    macro_rules! layout {
        ($c:ident = $rust:ident { $($field:ident),* }) => {
            layouts.push((concat!("sizeof(", stringify!($c), ")").to_owned(), size_of::<$rust>()));
            $(layouts.push((
                concat!("offsetof(", stringify!($c), ", ", stringify!($field), ")").to_owned(),
                offset_of!($rust, $field),
            ));)*
        };
    }
    layout!(OSSL_DISPATCH = Dispatch { function_id, function });
    layout!(
        OSSL_ALGORITHM =
            Algorithm { algorithm_names, property_definition, implementation, algorithm_description }
    );
    layout!(OSSL_ITEM = Item { id, ptr });
    layout!(OSSL_PARAM = Param { key, data_type, data, data_size, return_size });
    layouts.push(("sizeof(OSSL_CALLBACK *)".to_owned(), size_of::<abi::Callback>()));
    layouts
}

/// What a set of headers says otherwise, and what it does not have.
#[derive(Debug, Default, PartialEq, Eq)]
struct Comparison {
    different: Vec<String>,
    absent: Vec<String>,
}

fn compare(include: &Path, numbers: &[(&str, i32)], names: &[(&str, &str)]) -> Comparison {
    let mut program = String::from(
        "#include <openssl/bio.h>\n#include <openssl/core.h>\n#include <openssl/core_dispatch.h>\n#include <openssl/core_names.h>\n\
         #include <openssl/core_object.h>\n#include <openssl/err.h>\n#include <openssl/proverr.h>\n#include <openssl/rsa.h>\n\
         #include <openssl/self_test.h>\n#include <openssl/store.h>\n\
         #include <openssl/ssl.h>\n#include <stddef.h>\n#include <stdio.h>\n#include <string.h>\nint main(void)\n{\n",
    );
    for (name, value) in numbers {
        write!(
            program,
            "#ifdef {name}\nif (({name}) != {value}) printf(\"different {name}: %lld, not {value}\\n\", (long long)({name}));\n\
             #else\nputs(\"absent {name}\");\n#endif\n"
        )
        .unwrap();
    }
    for (name, value) in names {
        write!(
            program,
            "#ifdef {name}\nif (strcmp({name}, \"{value}\") != 0) printf(\"different {name}: %s, not {value}\\n\", {name});\n\
             #else\nputs(\"absent {name}\");\n#endif\n"
        )
        .unwrap();
    }
    for (expression, value) in layouts() {
        writeln!(
            program,
            "if ({expression} != {value}) printf(\"different {expression}: %zu, not {value}\\n\", {expression});"
        )
        .unwrap();
    }
    program.push_str("puts(\"done\");\nreturn 0;\n}\n");

    let folder = tempfile::tempdir().unwrap();
    let (source, binary) = (folder.path().join("abi.c"), folder.path().join("abi"));
    std::fs::write(&source, program).unwrap();
    let includes = openssl_headers(include, folder.path());
    assert!(!includes.is_empty(), "no OpenSSL headers in {}", include.display());
    compile(&source, &binary, &includes, &[]);
    let output = String::from_utf8(Command::new(binary).output().unwrap().stdout).unwrap();
    assert!(output.ends_with("done\n"), "the program ended early: {output}");
    let mut comparison = Comparison::default();
    for line in output.lines() {
        match line.split_once(' ') {
            Some(("different", what)) => comparison.different.push(what.to_owned()),
            Some(("absent", what)) => comparison.absent.push(what.to_owned()),
            _ => {}
        }
    }
    comparison
}

fn names() -> Vec<(&'static str, &'static str)> {
    NAMES.iter().map(|&(name, value)| (name, value.to_str().unwrap())).collect()
}

#[test]
fn every_number_name_and_structure_is_that_of_the_headers_from_3_0_to_4_0() {
    for platform in [&DEBIAN_12, &OPENSSL_3_0_2, &OPENSSL_3_4_1, &DEBIAN_13, &DEBIAN_SID, &OPENSSL_4_0] {
        let comparison = compare(&include_of(platform), NUMBERS, &names());
        assert_eq!(comparison.different, [""; 0], "{}", platform.name);
        println!("{}: lacks {:?}", platform.name, comparison.absent);
        // What an older version lacks came later; the newest has everything that we use.
        if platform.name == OPENSSL_4_0.name {
            assert_eq!(comparison.absent, [""; 0], "{}", platform.name);
        }
    }
}

#[test]
fn it_is_also_that_of_this_machine_s_own_headers() {
    let comparison = compare(Path::new("/usr/include"), NUMBERS, &names());
    assert_eq!(comparison.different, [""; 0]);
}

#[test]
fn a_line_that_differs_is_found_and_named() {
    let mut numbers = NUMBERS.to_vec();
    let changed = numbers.iter_mut().find(|(name, _)| *name == "OSSL_FUNC_KEYMGMT_DUP").unwrap();
    changed.1 += 1;
    numbers.push(("OSSL_FUNC_OF_NO_VERSION", 1));
    let mut names = names();
    names.iter_mut().find(|(name, _)| *name == "OSSL_PKEY_PARAM_BITS").unwrap().1 = "bites";
    let expected = Comparison {
        different: vec![
            "OSSL_FUNC_KEYMGMT_DUP: 44, not 45".to_owned(),
            "OSSL_PKEY_PARAM_BITS: bits, not bites".to_owned(),
        ],
        absent: vec!["OSSL_FUNC_OF_NO_VERSION".to_owned()],
    };
    assert_eq!(compare(&include_of(&OPENSSL_4_0), &numbers, &names), expected);
}
