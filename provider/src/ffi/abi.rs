//! OpenSSL's binary interface to providers: numbers, names and structures of `core.h`, `core_dispatch.h`,
//! `core_names.h` and `self_test.h`.
//!
//! Only what is used stands here. OpenSSL never renumbered one of these between 3.0 and 4.0; `tests/abi.rs` compares
//! every line with the headers of each version at hand.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// Declares constants and lists them, so that the ABI test cannot forget one.
macro_rules! numbers {
    ($($name:ident = $value:expr;)*) => {
        $(#[doc = concat!("`", stringify!($name), "` of OpenSSL's headers.")] pub const $name: c_int = $value;)*
        /// Every number used, by its name in the headers.
        pub const NUMBERS: &[(&str, c_int)] = &[$((stringify!($name), $value)),*];
    };
}

macro_rules! names {
    ($($name:ident = $value:expr;)*) => {
        $(#[doc = concat!("`", stringify!($name), "` of OpenSSL's headers.")] pub const $name: &std::ffi::CStr = $value;)*
        /// Every parameter name used, by its macro in the headers.
        pub const NAMES: &[(&str, &std::ffi::CStr)] = &[$((stringify!($name), $value)),*];
    };
}

numbers! {
    OSSL_FUNC_CORE_GET_PARAMS = 2;
    OSSL_FUNC_CORE_GET_LIBCTX = 4;
    OSSL_FUNC_CORE_NEW_ERROR = 5;
    OSSL_FUNC_CORE_SET_ERROR_DEBUG = 6;
    OSSL_FUNC_CORE_VSET_ERROR = 7;
    OSSL_FUNC_CORE_SET_ERROR_MARK = 8;
    OSSL_FUNC_CORE_POP_ERROR_TO_MARK = 10;
    OSSL_FUNC_CORE_OBJ_ADD_SIGID = 11;
    OSSL_FUNC_CORE_OBJ_CREATE = 12;
    OSSL_FUNC_BIO_READ_EX = 42;
    OSSL_FUNC_BIO_WRITE_EX = 43;
    OSSL_FUNC_BIO_GETS = 49;
    OSSL_FUNC_BIO_CTRL = 50;
    OSSL_FUNC_SELF_TEST_CB = 100;
    OSSL_FUNC_PROVIDER_REGISTER_CHILD_CB = 105;
    OSSL_FUNC_PROVIDER_DEREGISTER_CHILD_CB = 106;
    OSSL_FUNC_PROVIDER_NAME = 107;
    OSSL_FUNC_PROVIDER_GET0_PROVIDER_CTX = 108;
    OSSL_FUNC_PROVIDER_GET0_DISPATCH = 109;

    OSSL_FUNC_PROVIDER_TEARDOWN = 1024;
    OSSL_FUNC_PROVIDER_GETTABLE_PARAMS = 1025;
    OSSL_FUNC_PROVIDER_GET_PARAMS = 1026;
    OSSL_FUNC_PROVIDER_QUERY_OPERATION = 1027;
    OSSL_FUNC_PROVIDER_GET_REASON_STRINGS = 1029;
    OSSL_FUNC_PROVIDER_GET_CAPABILITIES = 1030;
    OSSL_FUNC_PROVIDER_SELF_TEST = 1031;

    OSSL_OP_KEYMGMT = 10;
    OSSL_OP_KEYEXCH = 11;
    OSSL_OP_SIGNATURE = 12;
    OSSL_OP_ASYM_CIPHER = 13;
    OSSL_OP_KEM = 14;
    OSSL_OP_ENCODER = 20;
    OSSL_OP_DECODER = 21;
    OSSL_OP_STORE = 22;

    OSSL_FUNC_KEYMGMT_NEW = 1;
    OSSL_FUNC_KEYMGMT_GEN_INIT = 2;
    OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS = 4;
    OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS = 5;
    OSSL_FUNC_KEYMGMT_GEN = 6;
    OSSL_FUNC_KEYMGMT_GEN_CLEANUP = 7;
    OSSL_FUNC_KEYMGMT_LOAD = 8;
    OSSL_FUNC_KEYMGMT_FREE = 10;
    OSSL_FUNC_KEYMGMT_GET_PARAMS = 11;
    OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS = 12;
    OSSL_FUNC_KEYMGMT_SET_PARAMS = 13;
    OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS = 14;
    OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME = 20;
    OSSL_FUNC_KEYMGMT_HAS = 21;
    OSSL_FUNC_KEYMGMT_VALIDATE = 22;
    OSSL_FUNC_KEYMGMT_MATCH = 23;
    OSSL_FUNC_KEYMGMT_IMPORT = 40;
    OSSL_FUNC_KEYMGMT_IMPORT_TYPES = 41;
    OSSL_FUNC_KEYMGMT_EXPORT = 42;
    OSSL_FUNC_KEYMGMT_EXPORT_TYPES = 43;
    OSSL_FUNC_KEYMGMT_DUP = 44;

    OSSL_FUNC_KEM_NEWCTX = 1;
    OSSL_FUNC_KEM_ENCAPSULATE_INIT = 2;
    OSSL_FUNC_KEM_ENCAPSULATE = 3;
    OSSL_FUNC_KEM_DECAPSULATE_INIT = 4;
    OSSL_FUNC_KEM_DECAPSULATE = 5;
    OSSL_FUNC_KEM_FREECTX = 6;
    OSSL_FUNC_KEM_DUPCTX = 7;

    OSSL_FUNC_SIGNATURE_NEWCTX = 1;
    OSSL_FUNC_SIGNATURE_SIGN_INIT = 2;
    OSSL_FUNC_SIGNATURE_SIGN = 3;
    OSSL_FUNC_SIGNATURE_VERIFY_INIT = 4;
    OSSL_FUNC_SIGNATURE_VERIFY = 5;
    OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT = 8;
    OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE = 9;
    OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL = 10;
    OSSL_FUNC_SIGNATURE_DIGEST_SIGN = 11;
    OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT = 12;
    OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE = 13;
    OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL = 14;
    OSSL_FUNC_SIGNATURE_DIGEST_VERIFY = 15;
    OSSL_FUNC_SIGNATURE_FREECTX = 16;
    OSSL_FUNC_SIGNATURE_DUPCTX = 17;
    OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS = 18;
    OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS = 19;
    OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS = 20;
    OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS = 21;
    OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT = 27;
    OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_UPDATE = 28;
    OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_FINAL = 29;
    OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT = 30;
    OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_UPDATE = 31;
    OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_FINAL = 32;

    OSSL_FUNC_ENCODER_NEWCTX = 1;
    OSSL_FUNC_ENCODER_FREECTX = 2;
    OSSL_FUNC_ENCODER_SET_CTX_PARAMS = 5;
    OSSL_FUNC_ENCODER_SETTABLE_CTX_PARAMS = 6;
    OSSL_FUNC_ENCODER_DOES_SELECTION = 10;
    OSSL_FUNC_ENCODER_ENCODE = 11;

    OSSL_FUNC_DECODER_NEWCTX = 1;
    OSSL_FUNC_DECODER_FREECTX = 2;
    OSSL_FUNC_DECODER_DOES_SELECTION = 10;
    OSSL_FUNC_DECODER_DECODE = 11;

    OSSL_FUNC_ASYM_CIPHER_NEWCTX = 1;
    OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT = 4;
    OSSL_FUNC_ASYM_CIPHER_DECRYPT = 5;
    OSSL_FUNC_ASYM_CIPHER_FREECTX = 6;

    OSSL_FUNC_STORE_OPEN = 1;
    OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS = 3;
    OSSL_FUNC_STORE_SET_CTX_PARAMS = 4;
    OSSL_FUNC_STORE_LOAD = 5;
    OSSL_FUNC_STORE_EOF = 6;
    OSSL_FUNC_STORE_CLOSE = 7;

    OSSL_STORE_INFO_PUBKEY = 3;
    OSSL_STORE_INFO_PKEY = 4;
    OSSL_STORE_INFO_CERT = 5;

    BIO_C_FILE_SEEK = 128;
    BIO_C_FILE_TELL = 133;

    OSSL_OBJECT_PKEY = 2;
    OSSL_OBJECT_CERT = 3;

    OSSL_KEYMGMT_SELECT_PRIVATE_KEY = 0x01;
    OSSL_KEYMGMT_SELECT_PUBLIC_KEY = 0x02;
    OSSL_KEYMGMT_SELECT_KEYPAIR = 0x03;
    OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS = 0x04;

    RSA_PKCS1_PADDING = 1;
    RSA_PKCS1_PSS_PADDING = 6;
    RSA_PSS_SALTLEN_DIGEST = -1;
    RSA_PSS_SALTLEN_AUTO = -2;
    RSA_PSS_SALTLEN_MAX = -3;
    RSA_PSS_SALTLEN_AUTO_DIGEST_MAX = -4;

    OSSL_PARAM_INTEGER = 1;
    OSSL_PARAM_UNSIGNED_INTEGER = 2;
    OSSL_PARAM_UTF8_STRING = 4;
    OSSL_PARAM_OCTET_STRING = 5;
    OSSL_PARAM_UTF8_PTR = 6;

    TLS1_3_VERSION = 0x0304;
}

names! {
    OSSL_PROV_PARAM_CORE_VERSION = c"openssl-version";
    OSSL_PROV_PARAM_CORE_PROV_NAME = c"provider-name";
    OSSL_PROV_PARAM_NAME = c"name";
    OSSL_PROV_PARAM_VERSION = c"version";
    OSSL_PROV_PARAM_BUILDINFO = c"buildinfo";
    OSSL_PROV_PARAM_STATUS = c"status";
    OSSL_PROV_PARAM_SELF_TEST_PHASE = c"st-phase";
    OSSL_PROV_PARAM_SELF_TEST_TYPE = c"st-type";
    OSSL_PROV_PARAM_SELF_TEST_DESC = c"st-desc";
    OSSL_SELF_TEST_PHASE_START = c"Start";
    OSSL_SELF_TEST_PHASE_CORRUPT = c"Corrupt";
    OSSL_SELF_TEST_PHASE_PASS = c"Pass";
    OSSL_SELF_TEST_PHASE_FAIL = c"Fail";
    OSSL_PKEY_PARAM_BITS = c"bits";
    OSSL_PKEY_PARAM_SECURITY_BITS = c"security-bits";
    OSSL_PKEY_PARAM_MAX_SIZE = c"max-size";
    OSSL_PKEY_PARAM_GROUP_NAME = c"group";
    OSSL_PKEY_PARAM_PROPERTIES = c"properties";
    OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY = c"encoded-pub-key";
    OSSL_PKEY_PARAM_PUB_KEY = c"pub";
    OSSL_PKEY_PARAM_PRIV_KEY = c"priv";
    OSSL_PKEY_PARAM_ML_KEM_SEED = c"seed";
    OSSL_PKEY_PARAM_MANDATORY_DIGEST = c"mandatory-digest";
    OSSL_PKEY_PARAM_DEFAULT_DIGEST = c"default-digest";
    OSSL_PKEY_PARAM_RSA_N = c"n";
    OSSL_PKEY_PARAM_RSA_E = c"e";
    OSSL_PKEY_PARAM_EC_PUB_X = c"qx";
    OSSL_PKEY_PARAM_EC_PUB_Y = c"qy";
    OSSL_PKEY_PARAM_EC_ENCODING = c"encoding";
    OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT = c"point-format";
    OSSL_PKEY_PARAM_EC_FIELD_TYPE = c"field-type";
    OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS = c"decoded-from-explicit";
    OSSL_SIGNATURE_PARAM_ALGORITHM_ID = c"algorithm-id";
    OSSL_SIGNATURE_PARAM_CONTEXT_STRING = c"context-string";
    OSSL_SIGNATURE_PARAM_DETERMINISTIC = c"deterministic";
    OSSL_SIGNATURE_PARAM_DIGEST = c"digest";
    OSSL_SIGNATURE_PARAM_PROPERTIES = c"properties";
    OSSL_SIGNATURE_PARAM_PAD_MODE = c"pad-mode";
    OSSL_SIGNATURE_PARAM_PSS_SALTLEN = c"saltlen";
    OSSL_SIGNATURE_PARAM_MGF1_DIGEST = c"mgf1-digest";
    OSSL_SIGNATURE_PARAM_MGF1_PROPERTIES = c"mgf1-properties";
    OSSL_SIGNATURE_PARAM_NONCE_TYPE = c"nonce-type";
    OSSL_SIGNATURE_PARAM_MESSAGE_ENCODING = c"message-encoding";
    OSSL_SIGNATURE_PARAM_MU = c"mu";
    OSSL_SIGNATURE_PARAM_SIGNATURE = c"signature";
    OSSL_SIGNATURE_PARAM_TEST_ENTROPY = c"test-entropy";
    OSSL_ENCODER_PARAM_CIPHER = c"cipher";
    OSSL_ENCODER_PARAM_PROPERTIES = c"properties";
    OSSL_OBJECT_PARAM_TYPE = c"type";
    OSSL_OBJECT_PARAM_DATA_TYPE = c"data-type";
    OSSL_OBJECT_PARAM_DATA_STRUCTURE = c"data-structure";
    OSSL_OBJECT_PARAM_DATA = c"data";
    OSSL_OBJECT_PARAM_REFERENCE = c"reference";
    OSSL_STORE_PARAM_EXPECT = c"expect";
    OSSL_STORE_PARAM_PROPERTIES = c"properties";
    OSSL_STORE_PARAM_SUBJECT = c"subject";
    OSSL_STORE_PARAM_ALIAS = c"alias";
    OSSL_PKEY_PARAM_SECURITY_CATEGORY = c"security-category";
    OSSL_CAPABILITY_TLS_SIGALG_IANA_NAME = c"tls-sigalg-iana-name";
    OSSL_CAPABILITY_TLS_SIGALG_CODE_POINT = c"tls-sigalg-code-point";
    OSSL_CAPABILITY_TLS_SIGALG_NAME = c"tls-sigalg-name";
    OSSL_CAPABILITY_TLS_SIGALG_OID = c"tls-sigalg-oid";
    OSSL_CAPABILITY_TLS_SIGALG_KEYTYPE = c"tls-sigalg-keytype";
    OSSL_CAPABILITY_TLS_SIGALG_SECURITY_BITS = c"tls-sigalg-sec-bits";
    OSSL_CAPABILITY_TLS_SIGALG_MIN_TLS = c"tls-min-tls";
    OSSL_CAPABILITY_TLS_SIGALG_MAX_TLS = c"tls-max-tls";
    OSSL_CAPABILITY_TLS_GROUP_NAME = c"tls-group-name";
    OSSL_CAPABILITY_TLS_GROUP_NAME_INTERNAL = c"tls-group-name-internal";
    OSSL_CAPABILITY_TLS_GROUP_ID = c"tls-group-id";
    OSSL_CAPABILITY_TLS_GROUP_ALG = c"tls-group-alg";
    OSSL_CAPABILITY_TLS_GROUP_SECURITY_BITS = c"tls-group-sec-bits";
    OSSL_CAPABILITY_TLS_GROUP_IS_KEM = c"tls-group-is-kem";
    OSSL_CAPABILITY_TLS_GROUP_MIN_TLS = c"tls-min-tls";
    OSSL_CAPABILITY_TLS_GROUP_MAX_TLS = c"tls-max-tls";
    OSSL_CAPABILITY_TLS_GROUP_MIN_DTLS = c"tls-min-dtls";
    OSSL_CAPABILITY_TLS_GROUP_MAX_DTLS = c"tls-max-dtls";
}

/// The type of an entry in a dispatch table: any function, cast to what its number says.
pub type Function = unsafe extern "C" fn();

/// `OSSL_DISPATCH`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Dispatch {
    /// `function_id`; 0 ends a table.
    pub function_id: c_int,
    /// `function`.
    pub function: Option<Function>,
}

impl Dispatch {
    /// The end of a table.
    pub const END: Self = Self { function_id: 0, function: None };
}

/// `OSSL_ALGORITHM`.
#[repr(C)]
pub struct Algorithm {
    /// `algorithm_names`, separated by colons; null ends an array.
    pub algorithm_names: *const c_char,
    /// `property_definition`.
    pub property_definition: *const c_char,
    /// `implementation`.
    pub implementation: *const Dispatch,
    /// `algorithm_description`.
    pub algorithm_description: *const c_char,
}

/// `OSSL_ITEM`.
#[repr(C)]
pub struct Item {
    /// `id`; 0 ends an array.
    pub id: c_uint,
    /// `ptr`.
    pub ptr: *const c_void,
}

// SAFETY: the pointers in the static tables of these types point to other statics and are only read.
unsafe impl Sync for Item {}

/// `OSSL_PARAM`.
#[repr(C)]
pub struct Param {
    /// `key`; null ends an array.
    pub key: *const c_char,
    /// `data_type`.
    pub data_type: c_uint,
    /// `data`.
    pub data: *mut c_void,
    /// `data_size`, bytes.
    pub data_size: usize,
    /// `return_size`, bytes.
    pub return_size: usize,
}

// SAFETY: static arrays of parameters (what is gettable, settable) carry no data, and their keys are static strings.
unsafe impl Sync for Param {}

/// `OSSL_CORE_HANDLE`.
#[repr(C)]
pub struct CoreHandle {
    _opaque: [u8; 0],
}

/// `OPENSSL_CORE_CTX`.
#[repr(C)]
pub struct CoreContext {
    _opaque: [u8; 0],
}

/// `OSSL_CORE_BIO`.
#[repr(C)]
pub struct CoreBio {
    _opaque: [u8; 0],
}

/// `OSSL_PASSPHRASE_CALLBACK`.
pub type PassphraseCallback =
    unsafe extern "C" fn(*mut c_char, usize, *mut usize, *const Param, *mut c_void) -> c_int;

/// `OSSL_CALLBACK`.
pub type Callback = unsafe extern "C" fn(*const Param, *mut c_void) -> c_int;
