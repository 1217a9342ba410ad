//! The arrays of algorithms that `query_operation` answers with.

use super::abi::{
    Algorithm, Dispatch, OSSL_OP_DECODER, OSSL_OP_ENCODER, OSSL_OP_KEM, OSSL_OP_KEYMGMT, OSSL_OP_SIGNATURE,
};
use super::{decoder, encoder, kem, keymgmt, signature};
use crate::key_file::{Form, Output, Structure};
use crate::provider::PROPERTY;
use qtls_crypto::KeyAlgorithm;
use std::ffi::{CString, c_int};
use std::ptr::null;
use std::sync::LazyLock;

/// One array an operation, each with its end.
pub(crate) struct AlgorithmArrays {
    key_management: Vec<Algorithm>,
    kem: Vec<Algorithm>,
    signature: Vec<Algorithm>,
    encoder: Vec<Algorithm>,
    decoder: Vec<Algorithm>,
}

// SAFETY: the pointers lead to strings and tables that live as long as the process, and are only read.
unsafe impl Send for AlgorithmArrays {}
// SAFETY: as above.
unsafe impl Sync for AlgorithmArrays {}

impl AlgorithmArrays {
    /// The arrays for these algorithms.
    pub(crate) fn new(algorithms: impl Iterator<Item = KeyAlgorithm>) -> Self {
        let mut arrays = Self {
            key_management: Vec::new(),
            kem: Vec::new(),
            signature: Vec::new(),
            encoder: Vec::new(),
            decoder: Vec::new(),
        };
        for algorithm in algorithms {
            let names = &NAMES.algorithms[algorithm.index()];
            let entry = |property: &'static CString, implementation: &'static [Dispatch]| Algorithm {
                algorithm_names: names.registered.as_ptr(),
                property_definition: property.as_ptr(),
                implementation: implementation.as_ptr(),
                algorithm_description: names.description.as_ptr(),
            };
            arrays.key_management.push(entry(&NAMES.property, &keymgmt::TABLES[algorithm.index()]));
            match algorithm {
                KeyAlgorithm::Kem(_) => arrays.kem.push(entry(&NAMES.property, &kem::TABLE)),
                KeyAlgorithm::Signature(_) => {
                    arrays.signature.push(entry(&NAMES.property, &signature::TABLE));
                }
            }
            // Those of hybrids say why there is no file: without them OpenSSL would ask whether a provider is missing.
            for (property, (_, table)) in NAMES.encoder_properties.iter().zip(&encoder::TABLES) {
                arrays.encoder.push(entry(property, table));
            }
            if algorithm.oid().is_some() {
                for (property, tables) in
                    NAMES.decoder_properties.iter().zip([&decoder::PUBLIC, &decoder::PRIVATE])
                {
                    arrays.decoder.push(entry(property, &tables[algorithm.index()]));
                }
            }
        }
        for array in [
            &mut arrays.key_management,
            &mut arrays.kem,
            &mut arrays.signature,
            &mut arrays.encoder,
            &mut arrays.decoder,
        ] {
            array.push(END);
        }
        arrays
    }

    /// The array of an operation; null where there is none.
    pub(super) fn of_operation(&self, operation: c_int) -> *const Algorithm {
        match operation {
            OSSL_OP_KEYMGMT => self.key_management.as_ptr(),
            OSSL_OP_KEM => self.kem.as_ptr(),
            OSSL_OP_SIGNATURE => self.signature.as_ptr(),
            OSSL_OP_ENCODER => self.encoder.as_ptr(),
            OSSL_OP_DECODER => self.decoder.as_ptr(),
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

/// The tables' names as C strings. They live as long as the process, because libcrypto keeps pointers to them.
struct Names {
    property: CString,
    /// In the order of [`encoder::TABLES`].
    encoder_properties: Vec<CString>,
    /// Of public keys, and of private ones.
    decoder_properties: [CString; 2],
    /// By [`KeyAlgorithm::index`].
    algorithms: Vec<AlgorithmNames>,
}

struct AlgorithmNames {
    registered: CString,
    description: CString,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let c_string = |text: &str| CString::new(text).unwrap_or_default();
    let decoder = |structure| c_string(&format!("{PROPERTY},input=der,structure={}", name_of(structure)));
    Names {
        property: c_string(PROPERTY),
        encoder_properties: encoder::TABLES
            .iter()
            .map(|(output, _)| {
                c_string(&match output {
                    Output::Text => format!("{PROPERTY},output=text"),
                    Output::File(structure, form) => {
                        let form = match form {
                            Form::Der => "der",
                            Form::Pem => "pem",
                        };
                        format!("{PROPERTY},output={form},structure={}", name_of(*structure))
                    }
                })
            })
            .collect(),
        decoder_properties: [Structure::Public, Structure::Private].map(decoder),
        algorithms: KeyAlgorithm::all()
            .map(|algorithm| AlgorithmNames {
                registered: c_string(algorithm.openssl_names()),
                description: c_string(&format!("Q-TLS {}", algorithm.name())),
            })
            .collect(),
    }
});

/// By what OpenSSL calls it.
fn name_of(structure: Structure) -> &'static str {
    match structure {
        Structure::Public => "SubjectPublicKeyInfo",
        Structure::Private => "PrivateKeyInfo",
        Structure::EncryptedPrivate => "EncryptedPrivateKeyInfo",
    }
}
