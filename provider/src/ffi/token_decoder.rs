//! Reading files that name keys in tokens (`provider-decoder(7)`), in OpenSSL's two stages: PEM to DER, and DER to a key.
//!
//! The first stage stands beside OpenSSL's own and is asked before it: other blocks it reads over and leaves to it. It asks no
//! token: what is read may not be what the program is after, as where it looks for the certificate behind the key.

use super::abi::*;
use super::core::Core;
use super::decoder::read_object;
use super::guard::{guard, null};
use super::params::Built;
use super::{algorithm_at, borrow, lend, reclaim, share_provider};
use crate::key::Key;
use crate::problem::Problem;
use crate::provider::Provider;
use crate::token_file::{Block, Line, NamedKey, PUBLIC_KEY_LABEL, STRUCTURE, URI_LABEL};
use crate::token_key::{ClassicalType, TokenKeyObject};
use qtls_crypto::{KeyAlgorithm, SignatureAlgorithm};
use qtls_pkcs11::{KeyType, PublicKey};
use std::cell::RefCell;
use std::ffi::{CString, c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use zeroize::Zeroizing;

/// From PEM to DER.
pub(super) static PEM: [Dispatch; 4] = [
    dispatch!(OSSL_FUNC_DECODER_NEWCTX, new_pem as fn(*mut c_void) -> *mut c_void),
    dispatch!(OSSL_FUNC_DECODER_FREECTX, free_pem as fn(*mut c_void)),
    dispatch!(
        OSSL_FUNC_DECODER_DECODE,
        decode_pem
            as fn(
                *mut c_void,
                *mut CoreBio,
                c_int,
                Option<Callback>,
                *mut c_void,
                Option<PassphraseCallback>,
                *mut c_void,
            ) -> c_int
    ),
    Dispatch::END,
];

/// From DER to RSA and EC keys, by the number of a [`ClassicalType`].
pub(super) static CLASSICAL: [[Dispatch; 5]; 2] = [
    table::<{ KeyAlgorithm::COUNT + ClassicalType::Rsa as usize }>(),
    table::<{ KeyAlgorithm::COUNT + ClassicalType::Ec as usize }>(),
];

/// From DER to ML-DSA keys, by [`KeyAlgorithm::index`]; tokens have no others.
pub(super) static ML_DSA: [[Dispatch; 5]; KeyAlgorithm::COUNT] = each_algorithm!(table);

const fn table<const WANTED: usize>() -> [Dispatch; 5] {
    [
        dispatch!(OSSL_FUNC_DECODER_NEWCTX, new::<WANTED> as fn(*mut c_void) -> *mut c_void),
        dispatch!(OSSL_FUNC_DECODER_FREECTX, free as fn(*mut c_void)),
        dispatch!(OSSL_FUNC_DECODER_DOES_SELECTION, does_selection as fn(*mut c_void, c_int) -> c_int),
        dispatch!(
            OSSL_FUNC_DECODER_DECODE,
            decode
                as fn(
                    *mut c_void,
                    *mut CoreBio,
                    c_int,
                    Option<Callback>,
                    *mut c_void,
                    Option<PassphraseCallback>,
                    *mut c_void,
                ) -> c_int
        ),
        Dispatch::END,
    ]
}

/// The first stage.
struct PemDecoder(Arc<Provider>);

/// The second.
struct KeyDecoder {
    provider: Arc<Provider>,
    wanted: Wanted,
}

/// The type of keys that a decoder is for.
#[derive(Clone, Copy)]
enum Wanted {
    Classical(ClassicalType),
    MlDsa(KeyAlgorithm),
}

thread_local! {
    /// Why the second stage failed, for the first: OpenSSL's store, where it calls one within the other, throws away what the
    /// second put into the error queue.
    static FAILURE: RefCell<Option<Problem>> = const { RefCell::new(None) };
}

/// 1 without a call of the callback lets the next decoder try.
const NOT_OURS: c_int = 1;

unsafe extern "C" fn new_pem(context: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's promise on `provctx`.
    let Some(provider) = (unsafe { share_provider(context) }) else { return null_mut() };
    let core = provider.clone();
    guard(Some(&core.core), "token_decoder_pem_newctx", null_mut(), || Ok(lend(PemDecoder(provider))))
}

unsafe extern "C" fn free_pem(decoder: *mut c_void) {
    // SAFETY: libcrypto frees what `new_pem` lent, once.
    unsafe { reclaim::<PemDecoder>("token_decoder_pem_freectx", decoder) }
}

unsafe extern "C" fn decode_pem(
    decoder: *mut c_void,
    bio: *mut CoreBio,
    selection: c_int,
    callback: Option<Callback>,
    argument: *mut c_void,
    _passphrase: Option<PassphraseCallback>,
    _passphrase_argument: *mut c_void,
) -> c_int {
    // SAFETY: what `new_pem` lent.
    let Some(PemDecoder(provider)) = (unsafe { borrow::<PemDecoder>(decoder) }) else { return 0 };
    let core = &provider.core;
    guard(Some(core), "token_decoder_pem_decode", 0, || {
        let callback = callback.ok_or_else(|| null("callback"))?;
        // SAFETY: the BIO of this call.
        let Some(block) = (unsafe { read_block(core, bio, URI_LABEL) })? else { return Ok(NOT_OURS) };
        if !selects_private(selection) || qtls_pkcs11::inside_token() {
            return Ok(NOT_OURS);
        }
        // What stands behind the block is looked at, and left to whoever reads on.
        // SAFETY: as above.
        let public = unsafe {
            match core.position(bio) {
                Some(position) => {
                    let next = read_block(core, bio, PUBLIC_KEY_LABEL);
                    core.go_back(bio, position);
                    next?
                }
                None => None,
            }
        };
        let der = NamedKey::hand_over(&block, public.as_ref().map(|key| key.as_slice()));
        FAILURE.set(None);
        // SAFETY: the callback and its argument belong together.
        let answer = unsafe {
            Built::<4>::new()
                .signed(OSSL_OBJECT_PARAM_TYPE, &OSSL_OBJECT_PKEY)
                .text(OSSL_OBJECT_PARAM_DATA_STRUCTURE, STRUCTURE)
                .octets(OSSL_OBJECT_PARAM_DATA, &der)
                .call(callback, argument)
        };
        match FAILURE.take() {
            // Where something is selected it is no store that calls, and the queue has it already.
            Some(problem) if answer != 1 && selection == 0 => Err(problem),
            _ => Ok(answer),
        }
    })
}

/// Reads the next block, to its end, and answers with its content if it has this label.
///
/// # Safety
/// `bio` is what libcrypto handed to a decoder that is running.
unsafe fn read_block(
    core: &Core,
    bio: *mut CoreBio,
    label: &'static str,
) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
    // As long as PEM_read_bio's (LINESIZE in its pem_lib.c): a longer line comes in parts, as it does there.
    let mut room = Zeroizing::new([0; 255]);
    let mut block: Option<Block> = None;
    let mut begun = false;
    loop {
        // SAFETY: the caller's promise.
        let line = unsafe { core.read_line(bio, &mut *room) }?;
        if line.is_empty() {
            return block.map(|block| block.finish(None)).transpose();
        }
        match Line::read(line) {
            Line::Begin(found) if !begun => {
                begun = true;
                block = (found == label).then(|| Block::new(label));
            }
            Line::End(ended_as) if begun => {
                return block.map(|block| block.finish(Some(ended_as))).transpose();
            }
            _ => {
                if let Some(block) = &mut block {
                    block.add(line)?;
                }
            }
        }
    }
}

unsafe extern "C" fn new<const WANTED: usize>(context: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's promise on `provctx`.
    let Some(provider) = (unsafe { share_provider(context) }) else { return null_mut() };
    let core = provider.clone();
    guard(Some(&core.core), "token_decoder_newctx", null_mut(), || {
        Ok(lend(KeyDecoder { provider, wanted: wanted::<WANTED>() }))
    })
}

fn wanted<const WANTED: usize>() -> Wanted {
    if WANTED < KeyAlgorithm::COUNT {
        Wanted::MlDsa(KeyAlgorithm::all().nth(WANTED).unwrap_or_else(algorithm_at::<0>))
    } else {
        Wanted::Classical(ClassicalType::ALL[WANTED - KeyAlgorithm::COUNT])
    }
}

unsafe extern "C" fn free(decoder: *mut c_void) {
    // SAFETY: libcrypto frees what `new` lent, once.
    unsafe { reclaim::<KeyDecoder>("token_decoder_freectx", decoder) }
}

unsafe extern "C" fn does_selection(_context: *mut c_void, selection: c_int) -> c_int {
    selects_private(selection).into()
}

/// A public key is left to whatever else the file has: `PUBLIC KEY`, which is OpenSSL's own. 0 leaves it open.
fn selects_private(selection: c_int) -> bool {
    selection == 0 || selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY != 0
}

unsafe extern "C" fn decode(
    decoder: *mut c_void,
    bio: *mut CoreBio,
    selection: c_int,
    callback: Option<Callback>,
    argument: *mut c_void,
    _passphrase: Option<PassphraseCallback>,
    _passphrase_argument: *mut c_void,
) -> c_int {
    // SAFETY: what `new` lent.
    let Some(decoder) = (unsafe { borrow::<KeyDecoder>(decoder) }) else { return 0 };
    let core = &decoder.provider.core;
    guard(Some(core), "token_decoder_decode", 0, || {
        let callback = callback.ok_or_else(|| null("callback"))?;
        if !selects_private(selection) || qtls_pkcs11::inside_token() {
            return Ok(NOT_OURS);
        }
        // SAFETY: the BIO of this call.
        let Some(der) = (unsafe { read_object(core, bio) })? else { return Ok(NOT_OURS) };
        let found = decoder.decode(&der).inspect_err(|problem| FAILURE.set(Some(problem.clone())))?;
        let Some((data_type, found)) = found else { return Ok(NOT_OURS) };
        let mut place = match found {
            Found::Classical(key) => lend(key),
            Found::MlDsa(key) => lend(key),
        };
        // SAFETY: the callback and its argument belong together. It hands the reference to `keymgmt_load`, which empties the
        // place; else the key is still ours.
        unsafe {
            let answer = Built::<4>::new()
                .signed(OSSL_OBJECT_PARAM_TYPE, &OSSL_OBJECT_PKEY)
                .text(OSSL_OBJECT_PARAM_DATA_TYPE, &data_type)
                .reference(OSSL_OBJECT_PARAM_REFERENCE, &mut place)
                .call(callback, argument);
            match decoder.wanted {
                Wanted::Classical(_) => reclaim::<TokenKeyObject>("token_decoder_decode", place),
                Wanted::MlDsa(_) => reclaim::<Key>("token_decoder_decode", place),
            }
            Ok(answer)
        }
    })
}

enum Found {
    Classical(TokenKeyObject),
    MlDsa(Key),
}

impl KeyDecoder {
    /// The key that `der` names, and its type; none if it is another's.
    fn decode(&self, der: &[u8]) -> Result<Option<(CString, Found)>, Problem> {
        let Some(named) = NamedKey::read(der)? else { return Ok(None) };
        // A file that has its public key says its type, and no token is asked for one that is another decoder's.
        if named.public.as_ref().is_some_and(|key| !self.wants(key.key_type())) {
            return Ok(None);
        }
        let key = self.provider.with_tokens(|hsm| hsm.key(&named.uri, named.public))?;
        let provider = self.provider.clone();
        Ok(match (self.wanted, key.public()) {
            (_, public) if !self.wants(public.key_type()) => None,
            (Wanted::Classical(kind), _) => {
                let object = TokenKeyObject::of_token(provider, kind, key)?;
                Some((kind.name().to_owned(), Found::Classical(object)))
            }
            (Wanted::MlDsa(KeyAlgorithm::Signature(row)), PublicKey::MlDsa { key: public, .. }) => {
                let object = Key::of_token(provider, row, key.clone(), public)?;
                Some((CString::new(row.name).unwrap_or_default(), Found::MlDsa(object)))
            }
            _ => None,
        })
    }

    fn wants(&self, key: KeyType) -> bool {
        let is = |row: &SignatureAlgorithm, algorithm: KeyAlgorithm| matches!(algorithm, KeyAlgorithm::Signature(wanted) if std::ptr::eq(wanted, row));
        match (self.wanted, key) {
            (Wanted::Classical(ClassicalType::Rsa), KeyType::Rsa { .. })
            | (Wanted::Classical(ClassicalType::Ec), KeyType::Ec(_)) => true,
            (Wanted::MlDsa(algorithm), KeyType::MlDsa(row)) => is(row, algorithm),
            _ => false,
        }
    }
}
