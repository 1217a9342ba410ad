//! AWS-LC through `aws-lc-sys`: the fast side, and the only file of this crate with `unsafe`.
//!
//! The C interface and not `aws-lc-rs`, because only it makes an ML-KEM key from a seed, gives the expanded key back,
//! encapsulates with given randomness and takes a given scalar; and because it costs fewer allocations and copies.
//! Signing with ML-DSA goes one step further down, to the function behind `EVP_PKEY_sign`: only there can the randomness
//! be given, as deterministic signatures, NIST's vectors and the self-test need it. AWS-LC exports it
//! (`crypto/fipsmodule/ml_dsa/ml_dsa.h`) and `aws-lc-sys` does not declare it; its linker name carries the version of
//! `aws-lc-sys`, which `Cargo.toml` therefore fixes. With another version the build fails at the link.
//!
//! `OPENSSL_free` of AWS-LC wipes every block it frees, so its objects need no wiping of ours.
#![allow(unsafe_code)]

use super::Backend;
use crate::{Classical, Curve, Error, HashFunction, MlDsa, MlKem, RsaPadding};
use aws_lc_sys as ffi;
use std::ptr::{self, NonNull};
use zeroize::Zeroizing;

/// The AWS-LC library, `aws-lc` in reports.
#[derive(Clone, Copy, Debug)]
pub struct AwsLc;

/// An ML-KEM key, public or private.
pub struct MlKemKey(Handle<ffi::EVP_PKEY>);

/// A peer's public value.
pub enum Point {
    /// The u coordinate.
    X25519([u8; 32]),
    /// A point on a NIST curve.
    Nist(Handle<ffi::EC_POINT>),
}

/// A private scalar.
pub enum Scalar {
    /// As it was given; the operation clamps it. On the heap, so that moving it leaves no copy behind.
    X25519(Zeroizing<Box<[u8]>>),
    /// A key without its public half.
    Nist(Handle<ffi::EC_KEY>),
}

/// An ML-DSA public key.
pub struct VerifyingKey(Handle<ffi::EVP_PKEY>);

/// An ML-DSA private key: its expanded form. On the heap, so that moving it leaves no copy behind.
pub struct SigningKey {
    parameters: MlDsa,
    expanded: Zeroizing<Box<[u8]>>,
}

/// A public key of a composite's classical half.
pub enum ClassicalVerifyingKey {
    /// A key on a NIST curve with the hash that its signatures use.
    Ecdsa(Handle<ffi::EC_KEY>, Digest),
    /// As it was given; each verification decodes it.
    Ed25519([u8; 32]),
}

/// A private key of a composite's classical half.
pub enum ClassicalSigningKey {
    /// A key on a NIST curve with the hash that its signatures use.
    Ecdsa(Handle<ffi::EC_KEY>, Digest),
    /// RFC 8032's seed and the public key, one after the other. On the heap as above.
    Ed25519(Zeroizing<Box<[u8]>>),
}

/// The hash of an ECDSA signature.
#[derive(Clone, Copy)]
pub enum Digest {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
}

impl Backend for AwsLc {
    const NAME: &'static str = "aws-lc";

    type EncapsulationKey = MlKemKey;
    type DecapsulationKey = MlKemKey;
    type Point = Point;
    type Scalar = Scalar;
    type VerifyingKey = VerifyingKey;
    type SigningKey = SigningKey;
    type ClassicalVerifyingKey = ClassicalVerifyingKey;
    type ClassicalSigningKey = ClassicalSigningKey;
    type Hash = Handle<ffi::EVP_MD_CTX>;

    fn random(out: &mut [u8]) -> Result<(), Error> {
        // SAFETY: the pointer and the length are those of one exclusive slice.
        match unsafe { ffi::RAND_bytes(out.as_mut_ptr(), out.len()) } {
            1 => Ok(()),
            _ => Err(Error::Randomness),
        }
    }

    fn encapsulation_key(parameters: MlKem, encoded: &[u8]) -> Result<MlKemKey, Error> {
        // SAFETY: the pointer and the length are those of one slice, which the call copies; a wrong length gives NULL.
        let key =
            unsafe { ffi::EVP_PKEY_kem_new_raw_public_key(nid(parameters), encoded.as_ptr(), encoded.len()) };
        Handle::new(key, "EVP_PKEY_kem_new_raw_public_key").map(MlKemKey)
    }

    fn encapsulate(
        key: &MlKemKey,
        randomness: Option<&[u8; MlKem::RANDOMNESS_BYTES]>,
        ciphertext: &mut [u8],
        shared_secret: &mut [u8],
    ) -> Result<(), Error> {
        let context = context(&key.0)?;
        let mut ciphertext_bytes = ciphertext.len();
        let mut secret_bytes = shared_secret.len();
        let done = match randomness {
            // SAFETY: the context is live and ours; each pointer and length pair is that of one exclusive slice, and the
            // call fails when one is too short.
            None => unsafe {
                ffi::EVP_PKEY_encapsulate(
                    context.as_ptr(),
                    ciphertext.as_mut_ptr(),
                    &mut ciphertext_bytes,
                    shared_secret.as_mut_ptr(),
                    &mut secret_bytes,
                )
            },
            Some(m) => {
                let mut m_bytes = m.len();
                // SAFETY: as above; `m` is an array of the length given, which the call compares with the expected one.
                unsafe {
                    ffi::EVP_PKEY_encapsulate_deterministic(
                        context.as_ptr(),
                        ciphertext.as_mut_ptr(),
                        &mut ciphertext_bytes,
                        shared_secret.as_mut_ptr(),
                        &mut secret_bytes,
                        m.as_ptr(),
                        &mut m_bytes,
                    )
                }
            }
        };
        check(
            done == 1 && ciphertext_bytes == ciphertext.len() && secret_bytes == shared_secret.len(),
            "EVP_PKEY_encapsulate",
        )
    }

    fn decapsulation_key_from_seed(
        parameters: MlKem,
        seed: &[u8; MlKem::SEED_BYTES],
        encapsulation_key: &mut [u8],
    ) -> Result<MlKemKey, Error> {
        // SAFETY: no pointer goes in but the optional engine, which may be NULL.
        let context = unsafe { ffi::EVP_PKEY_CTX_new_id(ffi::EVP_PKEY_KEM, ptr::null_mut()) };
        let context = Handle::new(context, "EVP_PKEY_CTX_new_id")?;
        let mut key = ptr::null_mut();
        let mut seed_bytes = seed.len();
        // SAFETY: the context is live and ours; `key` is NULL, so the call makes a key and hands it over; the seed is an
        // array of the length given.
        let done = unsafe {
            ffi::EVP_PKEY_CTX_kem_set_params(context.as_ptr(), nid(parameters)) == 1
                && ffi::EVP_PKEY_keygen_init(context.as_ptr()) == 1
                && ffi::EVP_PKEY_keygen_deterministic(
                    context.as_ptr(),
                    &mut key,
                    seed.as_ptr(),
                    &mut seed_bytes,
                ) == 1
        };
        check(done, "EVP_PKEY_keygen_deterministic")?;
        let key = Handle::new(key, "EVP_PKEY_keygen_deterministic")?;
        let mut bytes = encapsulation_key.len();
        // SAFETY: the key is live; the pointer and the length are those of one exclusive slice, and the call fails when
        // it is too short.
        let done = unsafe {
            ffi::EVP_PKEY_get_raw_public_key(key.as_ptr(), encapsulation_key.as_mut_ptr(), &mut bytes)
        };
        check(done == 1 && bytes == encapsulation_key.len(), "EVP_PKEY_get_raw_public_key")?;
        Ok(MlKemKey(key))
    }

    fn decapsulation_key_from_bytes(parameters: MlKem, expanded: &[u8]) -> Result<Option<MlKemKey>, Error> {
        let (ek, hash) = expanded[parameters.vector_bytes()..].split_at(parameters.encapsulation_key_bytes());
        if sha3_256(ek)? != hash[..32] {
            return Ok(None);
        }
        // SAFETY: the pointer and the length are those of one slice, which the call copies; a wrong length gives NULL.
        let key = unsafe {
            ffi::EVP_PKEY_kem_new_raw_secret_key(nid(parameters), expanded.as_ptr(), expanded.len())
        };
        Handle::new(key, "EVP_PKEY_kem_new_raw_secret_key").map(|key| Some(MlKemKey(key)))
    }

    fn decapsulation_key_to_bytes(key: &MlKemKey, expanded: &mut [u8]) -> Result<(), Error> {
        let mut bytes = expanded.len();
        // SAFETY: the key is live; the pointer and the length are those of one exclusive slice, and the call fails when
        // it is too short.
        let done =
            unsafe { ffi::EVP_PKEY_get_raw_private_key(key.0.as_ptr(), expanded.as_mut_ptr(), &mut bytes) };
        check(done == 1 && bytes == expanded.len(), "EVP_PKEY_get_raw_private_key")
    }

    fn decapsulate(key: &MlKemKey, ciphertext: &[u8], shared_secret: &mut [u8]) -> Result<(), Error> {
        let context = context(&key.0)?;
        let mut secret_bytes = shared_secret.len();
        // SAFETY: the context is live and ours; each pointer and length pair is that of one slice, and the call fails
        // when one has the wrong length.
        let done = unsafe {
            ffi::EVP_PKEY_decapsulate(
                context.as_ptr(),
                shared_secret.as_mut_ptr(),
                &mut secret_bytes,
                ciphertext.as_ptr(),
                ciphertext.len(),
            )
        };
        check(done == 1 && secret_bytes == shared_secret.len(), "EVP_PKEY_decapsulate")
    }

    fn point(curve: Curve, encoded: &[u8]) -> Result<Option<Point>, Error> {
        let Some(group) = nist_group(curve) else {
            return array(encoded).map(|value| Some(Point::X25519(*value)));
        };
        // SAFETY: the group is a static of the library.
        let point = Handle::new(unsafe { ffi::EC_POINT_new(group) }, "EC_POINT_new")?;
        // SAFETY: group and point are live and belong together; the pointer and the length are those of one slice; the
        // optional scratch context may be NULL.
        let done = unsafe {
            ffi::EC_POINT_oct2point(group, point.as_ptr(), encoded.as_ptr(), encoded.len(), ptr::null_mut())
        };
        if done != 1 {
            forget_errors();
            return Ok(None);
        }
        Ok(Some(Point::Nist(point)))
    }

    fn scalar(curve: Curve, encoded: &[u8]) -> Result<Option<Scalar>, Error> {
        if curve == Curve::X25519 {
            return Ok(Some(Scalar::X25519(Zeroizing::new(encoded.into()))));
        }
        // SAFETY: the pointer and the length are those of one slice, which the call copies; NULL asks for a new number.
        let number = unsafe { ffi::BN_bin2bn(encoded.as_ptr(), encoded.len(), ptr::null_mut()) };
        let number = Handle::new(number, "BN_bin2bn")?;
        let key = ec_key(curve)?;
        // SAFETY: key and number are live; the call copies the number, and fails when it is zero or not below the
        // group's order.
        if unsafe { ffi::EC_KEY_set_private_key(key.as_ptr(), number.as_ptr()) } != 1 {
            forget_errors();
            return Ok(None);
        }
        Ok(Some(Scalar::Nist(key)))
    }

    fn public_value(scalar: &Scalar, encoded: &mut [u8]) -> Result<(), Error> {
        match scalar {
            Scalar::X25519(scalar) => {
                let out: &mut [u8; 32] =
                    encoded.try_into().map_err(|_| Error::Backend("X25519_public_from_private"))?;
                let scalar = array(scalar)?;
                // SAFETY: both point to 32 bytes.
                unsafe { ffi::X25519_public_from_private(out.as_mut_ptr(), scalar.as_ptr()) };
                Ok(())
            }
            Scalar::Nist(key) => {
                // SAFETY: the key is live and has a group and a private number (see `scalar`); the call borrows them.
                let (group, number) = unsafe {
                    (ffi::EC_KEY_get0_group(key.as_ptr()), ffi::EC_KEY_get0_private_key(key.as_ptr()))
                };
                // SAFETY: the group is a static of the library.
                let point = Handle::new(unsafe { ffi::EC_POINT_new(group) }, "EC_POINT_new")?;
                // SAFETY: group, point and number are live and belong together; NULL leaves out the second product and
                // the scratch context.
                let done = unsafe {
                    ffi::EC_POINT_mul(
                        group,
                        point.as_ptr(),
                        number,
                        ptr::null(),
                        ptr::null(),
                        ptr::null_mut(),
                    )
                };
                check(done == 1, "EC_POINT_mul")?;
                // SAFETY: group and point are live and belong together; the pointer and the length are those of one
                // exclusive slice, and the call fails when it is too short.
                let written = unsafe {
                    ffi::EC_POINT_point2oct(
                        group,
                        point.as_ptr(),
                        ffi::point_conversion_form_t::POINT_CONVERSION_UNCOMPRESSED,
                        encoded.as_mut_ptr(),
                        encoded.len(),
                        ptr::null_mut(),
                    )
                };
                check(written == encoded.len(), "EC_POINT_point2oct")
            }
        }
    }

    fn diffie_hellman(scalar: &Scalar, point: &Point, secret: &mut [u8]) -> Result<bool, Error> {
        match (scalar, point) {
            (Scalar::X25519(scalar), Point::X25519(point)) => {
                let out: &mut [u8; 32] = secret.try_into().map_err(|_| Error::Backend("X25519"))?;
                let scalar = array(scalar)?;
                // SAFETY: all three point to 32 bytes.
                Ok(unsafe { ffi::X25519(out.as_mut_ptr(), scalar.as_ptr(), point.as_ptr()) } == 1)
            }
            (Scalar::Nist(key), Point::Nist(point)) => {
                // SAFETY: point and key are live and of one group, which the call compares; the pointer and the length
                // are those of one exclusive slice; no derivation function asks for the plain x coordinate.
                let written = unsafe {
                    ffi::ECDH_compute_key(
                        secret.as_mut_ptr().cast(),
                        secret.len(),
                        point.as_ptr(),
                        key.as_ptr(),
                        None,
                    )
                };
                check(usize::try_from(written) == Ok(secret.len()), "ECDH_compute_key")?;
                Ok(true)
            }
            _ => Err(Error::Backend("ECDH_compute_key")),
        }
    }

    fn hash(function: HashFunction) -> Result<Self::Hash, Error> {
        // SAFETY: takes nothing and makes a new object.
        let hash = Handle::new(unsafe { ffi::EVP_MD_CTX_new() }, "EVP_MD_CTX_new")?;
        // SAFETY: the hash is live and ours, the functions are statics of the library; the engine may be NULL.
        let done = unsafe {
            let function = match function {
                HashFunction::Sha224 => ffi::EVP_sha224(),
                HashFunction::Sha256 => ffi::EVP_sha256(),
                HashFunction::Sha384 => ffi::EVP_sha384(),
                HashFunction::Sha512 => ffi::EVP_sha512(),
                HashFunction::Shake256 => ffi::EVP_shake256(),
            };
            ffi::EVP_DigestInit_ex(hash.as_ptr(), function, ptr::null_mut())
        };
        check(done == 1, "EVP_DigestInit_ex")?;
        Ok(hash)
    }

    fn hash_update(hash: &mut Self::Hash, message: &[u8]) -> Result<(), Error> {
        // SAFETY: the hash is live and exclusively borrowed; the pointer and the length are those of one slice.
        let done = unsafe { ffi::EVP_DigestUpdate(hash.as_ptr(), message.as_ptr().cast(), message.len()) };
        check(done == 1, "EVP_DigestUpdate")
    }

    fn hash_clone(hash: &Self::Hash) -> Result<Self::Hash, Error> {
        // SAFETY: takes nothing and makes a new object.
        let copy = Handle::new(unsafe { ffi::EVP_MD_CTX_new() }, "EVP_MD_CTX_new")?;
        // SAFETY: both are live, and the one copied from is only read.
        check(unsafe { ffi::EVP_MD_CTX_copy_ex(copy.as_ptr(), hash.as_ptr()) } == 1, "EVP_MD_CTX_copy_ex")?;
        Ok(copy)
    }

    fn hash_finish(hash: Self::Hash, out: &mut [u8]) -> Result<(), Error> {
        // SAFETY: the hash is live and ours.
        let function = unsafe { ffi::EVP_MD_CTX_md(hash.as_ptr()) };
        // SAFETY: the function is a static of the library.
        let (flags, size) = unsafe { (ffi::EVP_MD_flags(function), ffi::EVP_MD_size(function)) };
        let done = if flags & ffi::EVP_MD_FLAG_XOF as u32 != 0 {
            // SAFETY: the hash is live and ours; the pointer and the length are those of one exclusive slice.
            unsafe { ffi::EVP_DigestFinalXOF(hash.as_ptr(), out.as_mut_ptr(), out.len()) }
        } else {
            check(size == out.len(), "EVP_DigestFinal_ex")?;
            // SAFETY: as above; the slice has the bytes that this function writes; the length may be NULL.
            unsafe { ffi::EVP_DigestFinal_ex(hash.as_ptr(), out.as_mut_ptr(), ptr::null_mut()) }
        };
        check(done == 1, "EVP_DigestFinal_ex")
    }

    fn verifying_key(parameters: MlDsa, encoded: &[u8]) -> Result<VerifyingKey, Error> {
        // SAFETY: the pointer and the length are those of one slice, which the call copies; a wrong length gives NULL.
        let key = unsafe {
            ffi::EVP_PKEY_pqdsa_new_raw_public_key(ml_dsa_nid(parameters), encoded.as_ptr(), encoded.len())
        };
        Handle::new(key, "EVP_PKEY_pqdsa_new_raw_public_key").map(VerifyingKey)
    }

    fn verify_mu(key: &VerifyingKey, mu: &[u8; MlDsa::MU_BYTES], signature: &[u8]) -> Result<bool, Error> {
        let context = context(&key.0)?;
        // SAFETY: the context is live and ours.
        check(unsafe { ffi::EVP_PKEY_verify_init(context.as_ptr()) } == 1, "EVP_PKEY_verify_init")?;
        // SAFETY: the context is live and ours; each pointer and length pair is that of one slice. For this kind of key
        // the digest is µ.
        let done = unsafe {
            ffi::EVP_PKEY_verify(context.as_ptr(), signature.as_ptr(), signature.len(), mu.as_ptr(), mu.len())
        };
        Ok(holds(done))
    }

    fn signing_key_from_seed(
        parameters: MlDsa,
        seed: &[u8; MlDsa::SEED_BYTES],
        public: &mut [u8],
    ) -> Result<SigningKey, Error> {
        ml_dsa_key(parameters, seed, public)?.ok_or(Error::Backend("EVP_PKEY_pqdsa_new_raw_private_key"))
    }

    fn signing_key_from_bytes(
        parameters: MlDsa,
        expanded: &[u8],
        public: &mut [u8],
    ) -> Result<Option<SigningKey>, Error> {
        ml_dsa_key(parameters, expanded, public)
    }

    fn signing_key_to_bytes(key: &SigningKey, expanded: &mut [u8]) -> Result<(), Error> {
        check(expanded.len() == key.expanded.len(), "expanded key")?;
        expanded.copy_from_slice(&key.expanded);
        Ok(())
    }

    fn sign_mu(
        key: &SigningKey,
        mu: &[u8; MlDsa::MU_BYTES],
        randomness: &[u8; MlDsa::RANDOMNESS_BYTES],
        signature: &mut [u8],
    ) -> Result<(), Error> {
        let function: MlDsaSign = match key.parameters {
            MlDsa::MlDsa44 => ml_dsa_extmu_44_sign_internal,
            MlDsa::MlDsa65 => ml_dsa_extmu_65_sign_internal,
            MlDsa::MlDsa87 => ml_dsa_extmu_87_sign_internal,
        };
        check(
            key.expanded.len() == key.parameters.private_key_bytes()
                && signature.len() == key.parameters.signature_bytes(),
            "ml_dsa_extmu_sign_internal",
        )?;
        let mut signature_bytes = signature.len();
        // SAFETY: key and signature have the lengths of the parameter set, just checked, µ and randomness are arrays of the
        // lengths that the function reads; with µ given there is no prefix.
        let done = unsafe {
            function(
                key.expanded.as_ptr(),
                signature.as_mut_ptr(),
                &mut signature_bytes,
                mu.as_ptr(),
                mu.len(),
                ptr::null(),
                0,
                randomness.as_ptr(),
            )
        };
        check(done == 1 && signature_bytes == signature.len(), "ml_dsa_extmu_sign_internal")
    }

    fn classical_verifying_key(
        classical: Classical,
        encoded: &[u8],
    ) -> Result<Option<ClassicalVerifyingKey>, Error> {
        let Some((curve, digest)) = ecdsa(classical) else {
            // Each verification decodes the key and says no when that fails.
            return Ok(Some(ClassicalVerifyingKey::Ed25519(*array(encoded)?)));
        };
        let Some(Point::Nist(point)) = Self::point(curve, encoded)? else { return Ok(None) };
        let key = ec_key(curve)?;
        // SAFETY: key and point are live and of one group; the call copies the point.
        let done = unsafe { ffi::EC_KEY_set_public_key(key.as_ptr(), point.as_ptr()) };
        check(done == 1, "EC_KEY_set_public_key")?;
        Ok(Some(ClassicalVerifyingKey::Ecdsa(key, digest)))
    }

    fn classical_verify(
        key: &ClassicalVerifyingKey,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, Error> {
        let done = match key {
            ClassicalVerifyingKey::Ecdsa(key, function) => {
                let digest = digest(*function, message)?;
                // SAFETY: the key is live and has a public point; each pointer and length pair is that of one slice; the
                // type is not used.
                unsafe {
                    ffi::ECDSA_verify(
                        0,
                        digest.as_ptr(),
                        digest.len(),
                        signature.as_ptr(),
                        signature.len(),
                        key.as_ptr(),
                    )
                }
            }
            ClassicalVerifyingKey::Ed25519(_) if signature.len() != 64 => 0,
            // SAFETY: the message's pointer and length are those of one slice; the signature has the 64 bytes, just
            // checked, and the key the 32 that the call reads.
            ClassicalVerifyingKey::Ed25519(key) => unsafe {
                ffi::ED25519_verify(message.as_ptr(), message.len(), signature.as_ptr(), key.as_ptr())
            },
        };
        Ok(holds(done))
    }

    fn classical_signing_key(
        classical: Classical,
        scalar: &[u8],
        public: &mut [u8],
    ) -> Result<Option<ClassicalSigningKey>, Error> {
        let Some((curve, digest)) = ecdsa(classical) else {
            let mut both = Zeroizing::new(vec![0; 64].into_boxed_slice());
            let public: &mut [u8; 32] = public.try_into().map_err(|_| Error::Backend("ED25519_keypair"))?;
            let seed = array(scalar)?;
            // SAFETY: the call reads 32 bytes and writes 32 and 64, which the three buffers have.
            unsafe { ffi::ED25519_keypair_from_seed(public.as_mut_ptr(), both.as_mut_ptr(), seed.as_ptr()) };
            return Ok(Some(ClassicalSigningKey::Ed25519(both)));
        };
        match Self::scalar(curve, scalar)? {
            Some(scalar) => {
                Self::public_value(&scalar, public)?;
                match scalar {
                    Scalar::Nist(key) => Ok(Some(ClassicalSigningKey::Ecdsa(key, digest))),
                    Scalar::X25519(_) => Err(Error::Backend("EC_KEY_set_private_key")),
                }
            }
            None => Ok(None),
        }
    }

    fn classical_sign(key: &ClassicalSigningKey, message: &[u8]) -> Result<Vec<u8>, Error> {
        match key {
            ClassicalSigningKey::Ecdsa(key, function) => {
                let digest = digest(*function, message)?;
                // SAFETY: the key is live.
                let mut signature = vec![0; unsafe { ffi::ECDSA_size(key.as_ptr()) }];
                let mut bytes = 0;
                // SAFETY: the key is live and has a private number; the digest's pointer and length are those of one
                // slice; the signature has the bytes that ECDSA_size asks for; the type is not used.
                let done = unsafe {
                    ffi::ECDSA_sign(
                        0,
                        digest.as_ptr(),
                        digest.len(),
                        signature.as_mut_ptr(),
                        &mut bytes,
                        key.as_ptr(),
                    )
                };
                check(done == 1 && bytes as usize <= signature.len(), "ECDSA_sign")?;
                signature.truncate(bytes as usize);
                Ok(signature)
            }
            ClassicalSigningKey::Ed25519(both) => {
                let mut signature = vec![0; 64];
                check(both.len() == 64, "ED25519_sign")?;
                // SAFETY: the message's pointer and length are those of one slice; signature and key have the 64 bytes
                // that the call writes and reads.
                let done = unsafe {
                    ffi::ED25519_sign(signature.as_mut_ptr(), message.as_ptr(), message.len(), both.as_ptr())
                };
                check(done == 1, "ED25519_sign")?;
                Ok(signature)
            }
        }
    }
}

/// An RSA or EC key from a file, private or public, for signatures of digests. It stands in for a token's key, which no row of the
/// tables has.
pub(crate) struct ClassicalKey {
    key: Handle<ffi::EVP_PKEY>,
    is_rsa: bool,
}

impl ClassicalKey {
    /// Reads PKCS#8 in DER; `None` where it is not an RSA key of 2,048 to 16,384 bits or one on P-256 or P-384.
    pub(crate) fn from_pkcs8_der(der: &[u8]) -> Result<Option<Self>, Error> {
        Self::parse(der, |input| {
            // SAFETY: `parse` hands over an input that is that of one slice, which the call copies from.
            Handle::new(unsafe { ffi::EVP_parse_private_key(input) }, "EVP_parse_private_key")
        })
    }

    /// Reads a SubjectPublicKeyInfo in DER, likewise.
    pub(crate) fn from_spki_der(der: &[u8]) -> Result<Option<Self>, Error> {
        Self::parse(der, |input| {
            // SAFETY: as above.
            Handle::new(unsafe { ffi::EVP_parse_public_key(input) }, "EVP_parse_public_key")
        })
    }

    fn parse(
        der: &[u8],
        parse: impl FnOnce(&mut ffi::CBS) -> Result<Handle<ffi::EVP_PKEY>, Error>,
    ) -> Result<Option<Self>, Error> {
        let mut input = ffi::CBS { data: der.as_ptr(), len: der.len() };
        let Ok(key) = parse(&mut input) else { return Ok(None) };
        // SAFETY: the key is live.
        let (kind, bits) = unsafe { (ffi::EVP_PKEY_id(key.as_ptr()), ffi::EVP_PKEY_bits(key.as_ptr())) };
        let is_rsa = kind == ffi::EVP_PKEY_RSA;
        let usable = input.len == 0
            && if is_rsa {
                (2048..=16384).contains(&bits)
            } else if kind == ffi::EVP_PKEY_EC {
                // SAFETY: an EC key that was parsed has a group; both stay the key's.
                let curve = unsafe {
                    ffi::EC_GROUP_get_curve_name(ffi::EC_KEY_get0_group(ffi::EVP_PKEY_get0_EC_KEY(
                        key.as_ptr(),
                    )))
                };
                [ffi::NID_X9_62_prime256v1, ffi::NID_secp384r1].contains(&curve)
            } else {
                false
            };
        Ok(usable.then_some(Self { key, is_rsa }))
    }

    /// The public half: SubjectPublicKeyInfo in DER.
    pub(crate) fn to_spki_der(&self) -> Result<Vec<u8>, Error> {
        let mut der = ptr::null_mut();
        // SAFETY: the key is live; the place is written with a buffer that becomes ours.
        let bytes = unsafe { ffi::i2d_PUBKEY(self.key.as_ptr(), &mut der) };
        check(bytes > 0 && !der.is_null(), "i2d_PUBKEY")?;
        // SAFETY: the call made a buffer of that many bytes, which is freed once, after it was copied.
        unsafe {
            let copy = std::slice::from_raw_parts(der, bytes as usize).to_vec();
            ffi::OPENSSL_free(der.cast());
            Ok(copy)
        }
    }

    /// Signs a digest: RSA with this padding, ECDSA (a DER signature) without one. `None`: the key has another type.
    pub(crate) fn sign(&self, padding: Option<RsaPadding>, digest: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if self.is_rsa != padding.is_some() {
            return Ok(None);
        }
        let context = context(&self.key)?;
        // SAFETY: the context is live and ours.
        check(unsafe { ffi::EVP_PKEY_sign_init(context.as_ptr()) } == 1, "EVP_PKEY_sign_init")?;
        if let Some(padding) = padding {
            set_padding(&context, padding)?;
        }
        let mut bytes = 0;
        // SAFETY: the digest's pointer and length are those of one slice; NULL asks for the size.
        let done = unsafe {
            ffi::EVP_PKEY_sign(context.as_ptr(), ptr::null_mut(), &mut bytes, digest.as_ptr(), digest.len())
        };
        check(done == 1, "EVP_PKEY_sign")?;
        let mut signature = vec![0; bytes];
        // SAFETY: as above; the signature has the bytes that were asked for.
        let done = unsafe {
            ffi::EVP_PKEY_sign(
                context.as_ptr(),
                signature.as_mut_ptr(),
                &mut bytes,
                digest.as_ptr(),
                digest.len(),
            )
        };
        check(done == 1 && bytes <= signature.len(), "EVP_PKEY_sign")?;
        signature.truncate(bytes);
        Ok(Some(signature))
    }

    /// Whether a signature is one of a digest, as [`Self::sign`] makes them. `None`: the key has another type.
    pub(crate) fn verify(
        &self,
        padding: Option<RsaPadding>,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<Option<bool>, Error> {
        if self.is_rsa != padding.is_some() {
            return Ok(None);
        }
        let context = context(&self.key)?;
        // SAFETY: the context is live and ours.
        check(unsafe { ffi::EVP_PKEY_verify_init(context.as_ptr()) } == 1, "EVP_PKEY_verify_init")?;
        if let Some(padding) = padding {
            set_padding(&context, padding)?;
        }
        // SAFETY: each pointer and length pair is that of one slice.
        let done = unsafe {
            ffi::EVP_PKEY_verify(
                context.as_ptr(),
                signature.as_ptr(),
                signature.len(),
                digest.as_ptr(),
                digest.len(),
            )
        };
        Ok(Some(holds(done)))
    }
}

fn set_padding(context: &Handle<ffi::EVP_PKEY_CTX>, padding: RsaPadding) -> Result<(), Error> {
    let context = context.as_ptr();
    match padding {
        RsaPadding::Pkcs1 { hash } => {
            let function = sha2(hash)?;
            // SAFETY: the context is live and ours, the function a static of the library.
            let done = unsafe {
                ffi::EVP_PKEY_CTX_set_rsa_padding(context, ffi::RSA_PKCS1_PADDING) == 1
                    && ffi::EVP_PKEY_CTX_set_signature_md(context, function) == 1
            };
            check(done, "EVP_PKEY_CTX_set_rsa_padding")
        }
        RsaPadding::Pss { hash, mgf1, salt_bytes } => {
            let (function, mask) = (sha2(hash)?, sha2(mgf1)?);
            let salt = match salt_bytes {
                RsaPadding::ANY_SALT => ffi::RSA_PSS_SALTLEN_AUTO,
                bytes => i32::try_from(bytes).map_err(|_| Error::Backend("set_rsa_pss_saltlen"))?,
            };
            // SAFETY: as above.
            let done = unsafe {
                ffi::EVP_PKEY_CTX_set_rsa_padding(context, ffi::RSA_PKCS1_PSS_PADDING) == 1
                    && ffi::EVP_PKEY_CTX_set_signature_md(context, function) == 1
                    && ffi::EVP_PKEY_CTX_set_rsa_mgf1_md(context, mask) == 1
                    && ffi::EVP_PKEY_CTX_set_rsa_pss_saltlen(context, salt) == 1
            };
            check(done, "EVP_PKEY_CTX_set_rsa_padding")
        }
    }
}

fn sha2(function: HashFunction) -> Result<*const ffi::EVP_MD, Error> {
    // SAFETY: the functions are statics of the library.
    unsafe {
        Ok(match function {
            HashFunction::Sha224 => ffi::EVP_sha224(),
            HashFunction::Sha256 => ffi::EVP_sha256(),
            HashFunction::Sha384 => ffi::EVP_sha384(),
            HashFunction::Sha512 => ffi::EVP_sha512(),
            HashFunction::Shake256 => return Err(Error::Backend("EVP_PKEY_CTX_set_signature_md")),
        })
    }
}

/// The functions behind `EVP_PKEY_sign` for ML-DSA: returns 1 or 0, `pre` is unused.
type MlDsaSign = unsafe extern "C" fn(
    private_key: *const u8,
    signature: *mut u8,
    signature_bytes: *mut usize,
    mu: *const u8,
    mu_bytes: usize,
    pre: *const u8,
    pre_bytes: usize,
    randomness: *const u8,
) -> std::ffi::c_int;

macro_rules! ml_dsa_sign {
    ($($name:ident = $link_name:literal,)*) => {
        // SAFETY: the declarations are those of `crypto/fipsmodule/ml_dsa/ml_dsa.h` of the version in the names.
        unsafe extern "C" {
            $(
                #[link_name = $link_name]
                fn $name(
                    private_key: *const u8,
                    signature: *mut u8,
                    signature_bytes: *mut usize,
                    mu: *const u8,
                    mu_bytes: usize,
                    pre: *const u8,
                    pre_bytes: usize,
                    randomness: *const u8,
                ) -> std::ffi::c_int;
            )*
        }
    };
}

ml_dsa_sign! {
    ml_dsa_extmu_44_sign_internal = "aws_lc_0_47_0_ml_dsa_extmu_44_sign_internal",
    ml_dsa_extmu_65_sign_internal = "aws_lc_0_47_0_ml_dsa_extmu_65_sign_internal",
    ml_dsa_extmu_87_sign_internal = "aws_lc_0_47_0_ml_dsa_extmu_87_sign_internal",
}

/// Makes a private key from a seed or from its expanded form, which the library tells apart by the length, and computes
/// the public key; `None` when an expanded key's parts do not fit each other.
fn ml_dsa_key(parameters: MlDsa, encoded: &[u8], public: &mut [u8]) -> Result<Option<SigningKey>, Error> {
    // SAFETY: the pointer and the length are those of one slice, which the call copies; a wrong length gives NULL.
    let key = unsafe {
        ffi::EVP_PKEY_pqdsa_new_raw_private_key(ml_dsa_nid(parameters), encoded.as_ptr(), encoded.len())
    };
    let Ok(key) = Handle::new(key, "EVP_PKEY_pqdsa_new_raw_private_key") else { return Ok(None) };
    let mut expanded = Zeroizing::new(vec![0; parameters.private_key_bytes()].into_boxed_slice());
    let (mut public_bytes, mut expanded_bytes) = (public.len(), expanded.len());
    // SAFETY: the key is live; each pointer and length pair is that of one exclusive slice, and the calls fail when one is
    // too short.
    let done = unsafe {
        ffi::EVP_PKEY_get_raw_public_key(key.as_ptr(), public.as_mut_ptr(), &mut public_bytes) == 1
            && ffi::EVP_PKEY_get_raw_private_key(key.as_ptr(), expanded.as_mut_ptr(), &mut expanded_bytes)
                == 1
    };
    check(
        done && public_bytes == public.len() && expanded_bytes == expanded.len(),
        "EVP_PKEY_get_raw_private_key",
    )?;
    Ok(Some(SigningKey { parameters, expanded }))
}

const fn ml_dsa_nid(parameters: MlDsa) -> i32 {
    match parameters {
        MlDsa::MlDsa44 => ffi::NID_MLDSA44,
        MlDsa::MlDsa65 => ffi::NID_MLDSA65,
        MlDsa::MlDsa87 => ffi::NID_MLDSA87,
    }
}

/// The curve and the hash of ECDSA; `None` for Ed25519.
const fn ecdsa(classical: Classical) -> Option<(Curve, Digest)> {
    match classical {
        Classical::EcdsaP256 => Some((Curve::P256, Digest::Sha256)),
        Classical::EcdsaP384 => Some((Curve::P384, Digest::Sha384)),
        Classical::Ed25519 => None,
    }
}

fn digest(function: Digest, message: &[u8]) -> Result<Vec<u8>, Error> {
    // SAFETY: the functions are statics of the library.
    let (function, size) = unsafe {
        match function {
            Digest::Sha256 => (ffi::EVP_sha256(), 32),
            Digest::Sha384 => (ffi::EVP_sha384(), 48),
        }
    };
    let mut digest = vec![0; size];
    let mut digest_bytes = 0;
    // SAFETY: the input's pointer and length are those of one slice; the digest has the bytes that the function writes;
    // the engine may be NULL.
    let done = unsafe {
        ffi::EVP_Digest(
            message.as_ptr().cast(),
            message.len(),
            digest.as_mut_ptr(),
            &mut digest_bytes,
            function,
            ptr::null_mut(),
        )
    };
    check(done == 1 && digest_bytes as usize == size, "EVP_Digest")?;
    Ok(digest)
}

/// A key of a NIST curve with neither half set.
fn ec_key(curve: Curve) -> Result<Handle<ffi::EC_KEY>, Error> {
    let group = nist_group(curve).ok_or(Error::Backend("EC_KEY_set_group"))?;
    // SAFETY: no pointer goes in.
    let key = Handle::new(unsafe { ffi::EC_KEY_new() }, "EC_KEY_new")?;
    // SAFETY: the key is live and ours, the group a static of the library.
    check(unsafe { ffi::EC_KEY_set_group(key.as_ptr(), group) } == 1, "EC_KEY_set_group")?;
    Ok(key)
}

/// What a verification returned: a signature that does not hold is an answer and no failure.
fn holds(done: std::ffi::c_int) -> bool {
    if done != 1 {
        forget_errors();
    }
    done == 1
}

fn context(key: &Handle<ffi::EVP_PKEY>) -> Result<Handle<ffi::EVP_PKEY_CTX>, Error> {
    // SAFETY: the key is live; the context takes a reference of its own (an atomic count), and the engine may be NULL.
    let context = unsafe { ffi::EVP_PKEY_CTX_new(key.as_ptr(), ptr::null_mut()) };
    Handle::new(context, "EVP_PKEY_CTX_new")
}

const fn nid(parameters: MlKem) -> i32 {
    match parameters {
        MlKem::MlKem512 => ffi::NID_MLKEM512,
        MlKem::MlKem768 => ffi::NID_MLKEM768,
        MlKem::MlKem1024 => ffi::NID_MLKEM1024,
    }
}

fn nist_group(curve: Curve) -> Option<*const ffi::EC_GROUP> {
    match curve {
        Curve::X25519 => None,
        // SAFETY: no pointer goes in, and the groups are statics of the library.
        Curve::P256 => Some(unsafe { ffi::EC_group_p256() }),
        // SAFETY: as above.
        Curve::P384 => Some(unsafe { ffi::EC_group_p384() }),
    }
}

fn sha3_256(bytes: &[u8]) -> Result<[u8; 32], Error> {
    let mut digest = [0; 32];
    let mut digest_bytes = 0;
    // SAFETY: the input's pointer and length are those of one slice; the digest has the 32 bytes that SHA3-256 writes;
    // the engine may be NULL.
    let done = unsafe {
        ffi::EVP_Digest(
            bytes.as_ptr().cast(),
            bytes.len(),
            digest.as_mut_ptr(),
            &mut digest_bytes,
            ffi::EVP_sha3_256(),
            ptr::null_mut(),
        )
    };
    check(done == 1 && digest_bytes == 32, "EVP_Digest")?;
    Ok(digest)
}

fn array(bytes: &[u8]) -> Result<&[u8; 32], Error> {
    bytes.try_into().map_err(|_| Error::Backend("X25519"))
}

fn check(done: bool, call: &'static str) -> Result<(), Error> {
    if done {
        Ok(())
    } else {
        forget_errors();
        Err(Error::Backend(call))
    }
}

/// Empties AWS-LC's error queue of this thread: nobody reads it, and each entry keeps memory.
fn forget_errors() {
    // SAFETY: takes nothing and touches only the calling thread's queue.
    unsafe { ffi::ERR_clear_error() }
}

/// An object of the library that is ours to free.
pub struct Handle<T: Free>(NonNull<T>);

impl<T: Free> Handle<T> {
    /// Takes over what `call` returned.
    fn new(object: *mut T, call: &'static str) -> Result<Self, Error> {
        match NonNull::new(object) {
            Some(object) => Ok(Self(object)),
            None => {
                forget_errors();
                Err(Error::Backend(call))
            }
        }
    }

    fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T: Free> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: the object is live, ours, and not used after this.
        unsafe { T::free(self.0.as_ptr()) }
    }
}

// SAFETY: none of these objects is tied to a thread.
unsafe impl<T: Free> Send for Handle<T> {}
// SAFETY: after they are made, keys and points are only read, and a key's reference count is atomic. A hash is written to
// through an exclusive reference alone. A context is not, but none outlives the call that made it, so none is ever shared.
unsafe impl<T: Free> Sync for Handle<T> {}

/// How an object of the library is freed.
pub trait Free {
    /// Frees the object.
    ///
    /// # Safety
    /// `object` is live, owned by the caller, and not used afterwards.
    unsafe fn free(object: *mut Self);
}

macro_rules! free_with {
    ($($object:ident: $function:ident,)*) => {$(
        impl Free for ffi::$object {
            unsafe fn free(object: *mut Self) {
                // SAFETY: the caller's promise is the one this function asks for.
                unsafe { ffi::$function(object) }
            }
        }
    )*};
}

free_with! {
    EVP_PKEY: EVP_PKEY_free,
    EVP_PKEY_CTX: EVP_PKEY_CTX_free,
    EVP_MD_CTX: EVP_MD_CTX_free,
    EC_POINT: EC_POINT_free,
    EC_KEY: EC_KEY_free,
    BIGNUM: BN_clear_free,
}
