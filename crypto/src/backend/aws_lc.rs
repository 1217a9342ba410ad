//! AWS-LC through `aws-lc-sys`: the fast side, and the only file of this crate with `unsafe`.
//!
//! The C interface and not `aws-lc-rs`, because only it makes an ML-KEM key from a seed, gives the expanded key back,
//! encapsulates with given randomness and takes a given scalar; and because it costs fewer allocations and copies.
//! `OPENSSL_free` of AWS-LC wipes every block it frees, so its objects need no wiping of ours.
#![allow(unsafe_code)]

use super::Backend;
use crate::{Curve, Error, MlKem};
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

impl Backend for AwsLc {
    const NAME: &'static str = "aws-lc";

    type EncapsulationKey = MlKemKey;
    type DecapsulationKey = MlKemKey;
    type Point = Point;
    type Scalar = Scalar;

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
        let context = key.context()?;
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
        let context = key.context()?;
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
        let Some(group) = nist_group(curve) else {
            return Ok(Some(Scalar::X25519(Zeroizing::new(encoded.into()))));
        };
        // SAFETY: the pointer and the length are those of one slice, which the call copies; NULL asks for a new number.
        let number = unsafe { ffi::BN_bin2bn(encoded.as_ptr(), encoded.len(), ptr::null_mut()) };
        let number = Handle::new(number, "BN_bin2bn")?;
        // SAFETY: no pointer goes in.
        let key = Handle::new(unsafe { ffi::EC_KEY_new() }, "EC_KEY_new")?;
        // SAFETY: the key is live and ours, the group a static of the library.
        check(unsafe { ffi::EC_KEY_set_group(key.as_ptr(), group) } == 1, "EC_KEY_set_group")?;
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
}

impl MlKemKey {
    fn context(&self) -> Result<Handle<ffi::EVP_PKEY_CTX>, Error> {
        // SAFETY: the key is live; the context takes a reference of its own (an atomic count), and the engine may be
        // NULL.
        let context = unsafe { ffi::EVP_PKEY_CTX_new(self.0.as_ptr(), ptr::null_mut()) };
        Handle::new(context, "EVP_PKEY_CTX_new")
    }
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
// SAFETY: after they are made, keys and points are only read, and a key's reference count is atomic. A context is not,
// but none outlives the call that made it, so none is ever shared.
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
    EC_POINT: EC_POINT_free,
    EC_KEY: EC_KEY_free,
    BIGNUM: BN_clear_free,
}
