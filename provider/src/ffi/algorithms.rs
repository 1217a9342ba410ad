//! The arrays of algorithms that `query_operation` answers with.

use super::abi::{Algorithm, OSSL_OP_KEM, OSSL_OP_KEYMGMT};
use super::{kem, keymgmt};
use crate::provider::PROPERTY;
use qtls_crypto::KEM_ALGORITHMS;
use std::ffi::{CString, c_int};
use std::ptr::null;
use std::sync::LazyLock;

/// One array an operation, each with its end.
pub(crate) struct AlgorithmArrays {
    key_management: Vec<Algorithm>,
    kem: Vec<Algorithm>,
}

// SAFETY: the pointers lead to strings and tables that live as long as the process, and are only read.
unsafe impl Send for AlgorithmArrays {}
// SAFETY: as above.
unsafe impl Sync for AlgorithmArrays {}

impl AlgorithmArrays {
    /// The arrays for these rows of [`KEM_ALGORITHMS`].
    pub(crate) fn new(rows: impl Iterator<Item = usize> + Clone) -> Self {
        let row_of = |row: usize, implementation| Algorithm {
            algorithm_names: NAMES.rows[row].registered.as_ptr(),
            property_definition: NAMES.property.as_ptr(),
            implementation,
            algorithm_description: NAMES.rows[row].description.as_ptr(),
        };
        Self {
            key_management: rows
                .clone()
                .map(|row| row_of(row, keymgmt::TABLES[row].as_ptr()))
                .chain([END])
                .collect(),
            kem: rows.map(|row| row_of(row, kem::TABLE.as_ptr())).chain([END]).collect(),
        }
    }

    /// The array of an operation; null where there is none.
    pub(super) fn of_operation(&self, operation: c_int) -> *const Algorithm {
        match operation {
            OSSL_OP_KEYMGMT => self.key_management.as_ptr(),
            OSSL_OP_KEM => self.kem.as_ptr(),
            _ => null(),
        }
    }
}

const END: Algorithm = Algorithm {
    algorithm_names: null(),
    property_definition: null(),
    implementation: null(),
    algorithm_description: null(),
};

/// The table's names as C strings. They live as long as the process, because libcrypto keeps pointers to them.
struct Names {
    property: CString,
    rows: Vec<RowNames>,
}

struct RowNames {
    registered: CString,
    description: CString,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let c_string = |text: &str| CString::new(text).unwrap_or_default();
    Names {
        property: c_string(PROPERTY),
        rows: KEM_ALGORITHMS
            .iter()
            .map(|algorithm| RowNames {
                registered: c_string(algorithm.openssl_names),
                description: c_string(&format!("Q-TLS {}", algorithm.name)),
            })
            .collect(),
    }
});
