//! The arrays of algorithms that `query_operation` answers with.

use super::abi::{
    Algorithm, Dispatch, OSSL_OP_ASYM_CIPHER, OSSL_OP_DECODER, OSSL_OP_ENCODER, OSSL_OP_KEM, OSSL_OP_KEYMGMT,
    OSSL_OP_SIGNATURE, OSSL_OP_STORE,
};
use super::{
    decoder, encoder, kem, keymgmt, signature, store, token_cipher, token_decoder, token_encoder,
    token_keymgmt, token_signature,
};
use crate::key_file::{Form, Output, Structure};
use crate::provider::{PROPERTY, TOKEN_PROPERTY};
use crate::token_file;
use crate::token_key::ClassicalType;
use qtls_crypto::KeyAlgorithm;
use std::ffi::{CStr, CString, c_int};
use std::ptr::null;
use std::sync::LazyLock;

/// One array an operation, each with its end.
pub(crate) struct AlgorithmArrays {
    key_management: Vec<Algorithm>,
    kem: Vec<Algorithm>,
    signature: Vec<Algorithm>,
    asymmetric_cipher: Vec<Algorithm>,
    encoder: Vec<Algorithm>,
    decoder: Vec<Algorithm>,
    store: Vec<Algorithm>,
}

/// Under which property an algorithm is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    /// [`PROPERTY`].
    Ours,
    /// [`TOKEN_PROPERTY`]: it is for keys in tokens alone.
    Token,
}

// SAFETY: the pointers lead to strings and tables that live as long as the process, and are only read.
unsafe impl Send for AlgorithmArrays {}
// SAFETY: as above.
unsafe impl Sync for AlgorithmArrays {}

impl AlgorithmArrays {
    /// The arrays for these algorithms and, if `tokens`, for keys in tokens.
    pub(crate) fn new(algorithms: impl Iterator<Item = (KeyAlgorithm, Property)>, tokens: bool) -> Self {
        let mut arrays = Self {
            key_management: Vec::new(),
            kem: Vec::new(),
            signature: Vec::new(),
            asymmetric_cipher: Vec::new(),
            encoder: Vec::new(),
            decoder: Vec::new(),
            store: Vec::new(),
        };
        for (algorithm, property) in algorithms {
            arrays.add(algorithm, property, tokens);
        }
        if tokens {
            arrays.add_tokens();
        }
        for array in arrays.all() {
            // Operations that there is nothing for are answered with null: see `of_operation`.
            if !array.is_empty() {
                array.push(END);
            }
        }
        arrays
    }

    fn add(&mut self, algorithm: KeyAlgorithm, property: Property, tokens: bool) {
        let names = &NAMES.algorithms[algorithm.index()];
        let properties = NAMES.properties(property);
        let entry = |property: &'static CString, implementation: &'static [Dispatch]| Algorithm {
            algorithm_names: names.registered.as_ptr(),
            property_definition: property.as_ptr(),
            implementation: implementation.as_ptr(),
            algorithm_description: names.description.as_ptr(),
        };
        self.key_management.push(entry(&properties.plain, &keymgmt::TABLES[algorithm.index()]));
        match algorithm {
            KeyAlgorithm::Kem(_) => self.kem.push(entry(&properties.plain, &kem::TABLE)),
            KeyAlgorithm::Signature(_) => self.signature.push(entry(&properties.plain, &signature::TABLE)),
        }
        // Those of hybrids say why there is no file: without them OpenSSL would ask whether a provider is missing.
        for (property, (_, table)) in properties.encoders.iter().zip(&encoder::TABLES) {
            self.encoder.push(entry(property, table));
        }
        if algorithm.oid().is_some() && property == Property::Ours {
            for (property, tables) in properties.decoders.iter().zip([&decoder::PUBLIC, &decoder::PRIVATE]) {
                self.decoder.push(entry(property, &tables[algorithm.index()]));
            }
        }
        if let KeyAlgorithm::Signature(row) = algorithm
            && row.composite.is_none()
            && tokens
        {
            self.decoder.push(entry(&NAMES.token_decoder, &token_decoder::ML_DSA[algorithm.index()]));
        }
    }

    fn add_tokens(&mut self) {
        let entry = |names: &'static CStr,
                     property: &'static CString,
                     implementation: &'static [Dispatch]| Algorithm {
            algorithm_names: names.as_ptr(),
            property_definition: property.as_ptr(),
            implementation: implementation.as_ptr(),
            algorithm_description: c"Q-TLS keys in tokens".as_ptr(),
        };
        let properties = &NAMES.token;
        for kind in ClassicalType::ALL {
            let names = kind.openssl_names();
            self.key_management.push(entry(names, &properties.plain, &token_keymgmt::TABLES[kind as usize]));
            for (property, (_, table)) in NAMES.token_encoders.iter().zip(&token_encoder::TABLES) {
                self.encoder.push(entry(names, property, table));
            }
            self.decoder.push(entry(names, &NAMES.token_decoder, &token_decoder::CLASSICAL[kind as usize]));
            self.signature.push(entry(kind.signature_name(), &properties.plain, &token_signature::TABLE));
        }
        let rsa = ClassicalType::Rsa.openssl_names();
        self.asymmetric_cipher.push(entry(rsa, &properties.plain, &token_cipher::TABLE));
        self.decoder.push(entry(c"DER", &NAMES.token_pem_decoder, &token_decoder::PEM));
        self.store.push(entry(c"pkcs11", &properties.plain, &store::TABLE));
    }

    fn all(&mut self) -> [&mut Vec<Algorithm>; 7] {
        [
            &mut self.key_management,
            &mut self.kem,
            &mut self.signature,
            &mut self.asymmetric_cipher,
            &mut self.encoder,
            &mut self.decoder,
            &mut self.store,
        ]
    }

    /// The array of an operation; null where there is none.
    pub(super) fn of_operation(&self, operation: c_int) -> *const Algorithm {
        let array = match operation {
            OSSL_OP_KEYMGMT => &self.key_management,
            OSSL_OP_KEM => &self.kem,
            OSSL_OP_SIGNATURE => &self.signature,
            OSSL_OP_ASYM_CIPHER => &self.asymmetric_cipher,
            OSSL_OP_ENCODER => &self.encoder,
            OSSL_OP_DECODER => &self.decoder,
            OSSL_OP_STORE => &self.store,
            _ => return null(),
        };
        if array.is_empty() { null() } else { array.as_ptr() }
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
    ours: Properties,
    token: Properties,
    /// In the order of [`token_encoder::TABLES`].
    token_encoders: Vec<CString>,
    token_decoder: CString,
    token_pem_decoder: CString,
    /// By [`KeyAlgorithm::index`].
    algorithms: Vec<AlgorithmNames>,
}

/// What stands beside an algorithm's name.
struct Properties {
    plain: CString,
    /// In the order of [`encoder::TABLES`].
    encoders: Vec<CString>,
    /// Of public keys, and of private ones.
    decoders: [CString; 2],
}

struct AlgorithmNames {
    registered: CString,
    description: CString,
}

impl Names {
    fn properties(&self, property: Property) -> &Properties {
        match property {
            Property::Ours => &self.ours,
            Property::Token => &self.token,
        }
    }
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let properties = |property: &str| Properties {
        plain: c_string(property),
        encoders: encoder::TABLES.iter().map(|(output, _)| encoder_property(property, *output)).collect(),
        decoders: [Structure::Public, Structure::Private]
            .map(|structure| c_string(&format!("{property},input=der,structure={}", name_of(structure)))),
    };
    Names {
        ours: properties(PROPERTY),
        token: properties(TOKEN_PROPERTY),
        token_encoders: token_encoder::TABLES
            .iter()
            .map(|(output, _)| encoder_property(TOKEN_PROPERTY, *output))
            .collect(),
        token_decoder: c_string(&format!(
            "{TOKEN_PROPERTY},input=der,structure={}",
            token_file::STRUCTURE.to_str().unwrap_or_default()
        )),
        token_pem_decoder: c_string(&format!("{TOKEN_PROPERTY},input=pem")),
        algorithms: KeyAlgorithm::all()
            .map(|algorithm| AlgorithmNames {
                registered: c_string(algorithm.openssl_names()),
                description: c_string(&format!("Q-TLS {}", algorithm.name())),
            })
            .collect(),
    }
});

fn encoder_property(property: &str, output: Output) -> CString {
    c_string(&match output {
        Output::Text => format!("{property},output=text"),
        Output::File(structure, form) => {
            let form = match form {
                Form::Der => "der",
                Form::Pem => "pem",
            };
            format!("{property},output={form},structure={}", name_of(structure))
        }
    })
}

fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// By what OpenSSL calls it.
fn name_of(structure: Structure) -> &'static str {
    match structure {
        Structure::Public => "SubjectPublicKeyInfo",
        Structure::Private => "PrivateKeyInfo",
        Structure::EncryptedPrivate => "EncryptedPrivateKeyInfo",
        Structure::TypeSpecific => "type-specific",
    }
}
