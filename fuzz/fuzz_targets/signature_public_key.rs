//! A signature algorithm's public key: both backends must say the same of it and, if they take it, refuse the same
//! signature with it and compute the same message representative.
#![no_main]

mod signature_edits;

use libfuzzer_sys::fuzz_target;
use qtls_crypto::{
    AwsLc, Backend, Error, MessageRepresentative, RustCrypto, SignatureAlgorithm, SignaturePublicKey,
};
use signature_edits::Prepared;

fuzz_target!(|data: &[u8]| {
    if let Some((prepared, key)) = signature_edits::edited(data, |prepared| &prepared.public_key) {
        let algorithm = prepared.algorithm;
        assert_eq!(
            answer::<AwsLc>(algorithm, prepared, &key),
            answer::<RustCrypto>(algorithm, prepared, &key)
        );
    }
});

fn answer<B: Backend>(
    algorithm: &'static SignatureAlgorithm,
    prepared: &Prepared,
    key: &[u8],
) -> Result<(MessageRepresentative, Result<(), Error>), Error> {
    let public = SignaturePublicKey::<B>::from_bytes(algorithm, key)?;
    assert_eq!(public.as_bytes(), key);
    let mut hash = public.message_hash(signature_edits::ENCODING)?;
    hash.update(signature_edits::MESSAGE)?;
    let representative = hash.finish()?;
    let verified = public.verify_representative(&representative, &prepared.signature);
    Ok((representative, verified))
}
